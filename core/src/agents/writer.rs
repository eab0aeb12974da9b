//! JSON for agents and servers: texts that stay escaped, and OpenAI's form of messages, which most of them share.

use crate::invocation::{Arguments, Content, Message, Part, ToolCall};
use crate::text::{Joiner, JsonStr, RawJson, escape_into};
use alloc::string::String;
use alloc::vec::Vec;

/// Writes JSON whose shape the caller keeps.
pub(crate) struct Writer {
    pub(crate) out: Vec<u8>,
    scratch: Vec<u8>,
}

impl Writer {
    pub(crate) fn with_capacity(bytes: usize) -> Self {
        Self {
            out: Vec::with_capacity(bytes),
            scratch: Vec::new(),
        }
    }

    pub(crate) fn finish(self) -> String {
        // Everything that was written is UTF-8.
        String::from_utf8(self.out).unwrap_or_default()
    }

    pub(crate) fn raw(&mut self, json: &str) {
        self.out.extend_from_slice(json.as_bytes());
    }

    /// A string that is not yet escaped.
    pub(crate) fn plain(&mut self, text: &str) {
        self.raw("\"");
        escape_into(&mut self.out, text);
        self.raw("\"");
    }

    /// A string that is escaped. Lone surrogate halves, which many JSON readers refuse, become U+FFFD.
    pub(crate) fn text(&mut self, text: JsonStr<'_>) {
        self.out.push(b'"');
        self.inside(text);
        self.out.push(b'"');
    }

    /// As [`Writer::text`], without its quotes.
    pub(crate) fn inside(&mut self, text: JsonStr<'_>) {
        let mut joiner = Joiner::default();
        self.out
            .extend_from_slice(joiner.mend(text, &mut self.scratch));
        self.out.extend_from_slice(joiner.finish());
    }

    /// A string that is escaped, as it is: half a surrogate pair goes on in the next piece of its text.
    pub(crate) fn verbatim(&mut self, text: JsonStr<'_>) {
        self.raw("\"");
        self.raw(text.as_escaped());
        self.raw("\"");
    }

    /// A value that a client or an agent wrote, mended as text is.
    pub(crate) fn json(&mut self, json: &str) {
        // Escapes and line separators are in its strings only, so that all of it can be taken for the inside of one.
        let inside = JsonStr::from_escaped(json);
        self.out
            .extend_from_slice(Joiner::default().mend(inside, &mut self.scratch));
    }

    pub(crate) fn flag(&mut self, flag: bool) {
        self.raw(if flag { "true" } else { "false" });
    }

    pub(crate) fn list<E>(&mut self, elements: &[E], mut write: impl FnMut(&mut Self, &E)) {
        self.raw("[");
        for (position, element) in elements.iter().enumerate() {
            if position > 0 {
                self.raw(",");
            }
            write(self, element);
        }
        self.raw("]");
    }

    pub(crate) fn message(&mut self, message: &Message<'_>) {
        self.raw("{\"role\":");
        self.plain(message.role.as_str());
        self.raw(",\"content\":");
        match &message.content {
            Content::None => self.raw("null"),
            Content::Text(text) => self.text(*text),
            Content::Parts(parts) => self.list(parts, Self::part),
        }
        if let Some(name) = message.name {
            self.raw(",\"name\":");
            self.text(name);
        }
        if !message.tool_calls.is_empty() {
            self.raw(",\"tool_calls\":");
            self.list(&message.tool_calls, Self::tool_call);
        }
        if let Some(id) = &message.tool_call_id {
            self.raw(",\"tool_call_id\":");
            self.plain(id);
        }
        self.raw("}");
    }

    pub(crate) fn part(&mut self, part: &Part<'_>) {
        match part {
            Part::Text(text) => {
                self.raw("{\"type\":\"text\",\"text\":");
                self.text(*text);
                self.raw("}");
            }
            Part::Image { media_type, base64 } => {
                self.raw("{\"type\":\"image_url\",\"image_url\":{\"url\":\"data:");
                self.raw(media_type);
                self.raw(";base64,");
                self.json(base64.as_escaped());
                self.raw("\"}}");
            }
            Part::Other(raw) => self.json(raw.get()),
        }
    }

    pub(crate) fn tool_call(&mut self, call: &ToolCall<'_>) {
        self.raw("{\"id\":");
        self.plain(&call.id);
        self.raw(",\"type\":\"function\",\"function\":{\"name\":");
        self.text(call.name);
        self.raw(",\"arguments\":");
        match &call.arguments {
            Arguments::Text(text) => self.text(*text),
            Arguments::Object(raw) => {
                let (mut joiner, mut scratch) = (Joiner::default(), Vec::new());
                let json = joiner.mend(JsonStr::from_escaped(raw.get()), &mut scratch);
                self.plain(core::str::from_utf8(json).unwrap_or_default());
            }
        }
        self.raw("}}");
    }

    /// The name of a parameter; the first follows its brace.
    pub(crate) fn key(&mut self, name: &str) {
        self.raw(if self.out.ends_with(b"{") {
            "\""
        } else {
            ",\""
        });
        self.raw(name);
        self.raw("\":");
    }

    pub(crate) fn value(&mut self, name: &str, json: Option<&RawJson<'_>>) {
        if let Some(json) = json {
            self.key(name);
            self.json(json.get());
        }
    }

    pub(crate) fn whole(&mut self, name: &str, number: Option<impl itoa::Integer>) {
        if let Some(number) = number {
            self.key(name);
            self.raw(itoa::Buffer::new().format(number));
        }
    }

    /// JSON has no form for what is not finite: such a number is left out.
    pub(crate) fn number(&mut self, name: &str, number: Option<f64>) {
        if let Some(number) = number.and_then(serde_json::Number::from_f64) {
            self.key(name);
            self.raw(&alloc::string::ToString::to_string(&number));
        }
    }

    pub(crate) fn switch(&mut self, name: &str, flag: Option<bool>) {
        if let Some(flag) = flag {
            self.key(name);
            self.flag(flag);
        }
    }
}
