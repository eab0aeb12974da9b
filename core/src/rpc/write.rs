//! Writes messages, each as one line.

use crate::text::{JsonValue, escape_into};
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

/// JSON in the making, whose shape the caller keeps.
#[derive(Default)]
pub struct Json(Vec<u8>);

impl fmt::Debug for Json {
    /// Text is never shown: it may be a prompt.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Json({} bytes)", self.0.len())
    }
}

impl Json {
    /// Nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self(Vec::with_capacity(256))
    }

    /// Makes room for so many bytes more.
    pub fn reserve(&mut self, bytes: usize) {
        self.0.reserve(bytes);
    }

    /// Opens a request; the members of `params` follow, then [`Json::end_params`].
    #[must_use]
    pub fn request(id: u64, method: &str) -> Self {
        let mut json = Self::new();
        json.raw("{\"jsonrpc\":\"2.0\",\"id\":");
        json.raw(itoa::Buffer::new().format(id));
        json.raw(",\"method\":\"");
        json.raw(method);
        json.raw("\",\"params\":{");
        json
    }

    /// Opens a notification; the members of `params` follow, then [`Json::end_params`].
    #[must_use]
    pub fn notification(method: &str) -> Self {
        let mut json = Self::new();
        json.raw("{\"jsonrpc\":\"2.0\",\"method\":\"");
        json.raw(method);
        json.raw("\",\"params\":{");
        json
    }

    /// Closes a request or notification: the line, with its end.
    #[must_use]
    pub fn end_params(mut self) -> String {
        self.raw("}}\n");
        self.finish()
    }

    /// The line that answers a request.
    #[must_use]
    pub fn result(id: JsonValue<'_>, result: &str) -> String {
        let mut json = Self::new();
        json.raw("{\"jsonrpc\":\"2.0\",\"id\":");
        json.raw(id.get());
        json.raw(",\"result\":");
        json.raw(result);
        json.raw("}\n");
        json.finish()
    }

    /// The line that refuses a request.
    #[must_use]
    pub fn error(id: JsonValue<'_>, code: i64, message: &str) -> String {
        let mut json = Self::new();
        json.raw("{\"jsonrpc\":\"2.0\",\"id\":");
        json.raw(id.get());
        json.raw(",\"error\":{\"code\":");
        json.raw(itoa::Buffer::new().format(code));
        json.raw(",\"message\":");
        json.string(message);
        json.raw("}}\n");
        json.finish()
    }

    /// Text that is JSON, or a part of it.
    pub fn raw(&mut self, json: &str) {
        self.0.extend_from_slice(json.as_bytes());
    }

    /// A string that is not yet escaped.
    pub fn string(&mut self, text: &str) {
        self.0.push(b'"');
        escape_into(&mut self.0, text);
        self.0.push(b'"');
    }

    /// The inside of a string, escaped already.
    pub fn escaped(&mut self, text: &str) {
        self.0.push(b'"');
        self.raw(text);
        self.0.push(b'"');
    }

    /// A member of an object. The first follows its brace.
    pub fn member(&mut self, name: &str) -> &mut Self {
        if !self.is_at_brace() {
            self.0.push(b',');
        }
        self.0.push(b'"');
        self.raw(name);
        self.raw("\":");
        self
    }

    /// True behind the opening brace of an object, where no comma stands before a member.
    #[must_use]
    pub fn is_at_brace(&self) -> bool {
        self.0.ends_with(b"{")
    }

    /// Members of an object that are written already, at least one.
    pub fn more(&mut self, members: &str) {
        if !self.is_at_brace() {
            self.0.push(b',');
        }
        self.raw(members);
    }

    /// The text.
    #[must_use]
    pub fn finish(self) -> String {
        // Everything that was written is UTF-8.
        String::from_utf8(self.0).unwrap_or_default()
    }
}

/// JSON that a person wrote, without its line ends: within a string they would be escaped.
#[must_use]
pub fn one_line(json: &str) -> String {
    json.chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect()
}
