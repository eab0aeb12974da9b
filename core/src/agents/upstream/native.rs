//! A client's own body for a server of the same API: as it came, but for the model's name and what the answer is read by.

use super::Api;
use crate::request::{BodyForm, Request};
use crate::text::{Cursor, JsonValue, escape_into};
use alloc::string::String;
use alloc::vec::Vec;

/// The path and the body of a request that a server of the API takes as its client wrote it; `None` where it has to be written
/// anew. Fields that nobody here knows go through.
pub(super) fn body(api: Api, request: &Request, model: &str) -> Option<(&'static str, Vec<u8>)> {
    let (form, body) = request.as_sent()?;
    let mut edits = Edits::new(body);
    edits.set("model", quoted(model));
    let path = match (api, form) {
        (Api::OpenAi | Api::Custom, BodyForm::OpenAiChat) => {
            edits.count_tokens(request);
            "/chat/completions"
        }
        (Api::OpenAi | Api::Custom, BodyForm::OpenAiCompletion) => {
            edits.count_tokens(request);
            // The prompt is given back by this program.
            edits.replace("echo", "false");
            "/completions"
        }
        (Api::OpenAi | Api::Custom, BodyForm::OpenAiEmbedding) => {
            // The client's format is written by this program.
            edits.replace("encoding_format", "\"float\"");
            "/embeddings"
        }
        (Api::Anthropic, BodyForm::AnthropicMessages) => "/v1/messages",
        (Api::Ollama, BodyForm::OllamaChat) => "/api/chat",
        (Api::Ollama, BodyForm::OllamaGenerate) => "/api/generate",
        (Api::Ollama, BodyForm::OllamaEmbed) => "/api/embed",
        (Api::Ollama, BodyForm::OllamaEmbeddings) => "/api/embeddings",
        (
            Api::OpenAi | Api::Custom | Api::Anthropic | Api::Ollama,
            BodyForm::OpenAiChat
            | BodyForm::OpenAiCompletion
            | BodyForm::OpenAiEmbedding
            | BodyForm::AnthropicMessages
            | BodyForm::AnthropicCount
            | BodyForm::OllamaChat
            | BodyForm::OllamaGenerate
            | BodyForm::OllamaEmbed
            | BodyForm::OllamaEmbeddings,
        ) => return None,
    };
    Some((path, edits.write()?))
}

/// The body of `count_tokens` with another model; `None` where the client has asked something else.
pub(super) fn count(request: &Request, model: &str) -> Option<Vec<u8>> {
    let (form, body) = request.as_sent()?;
    let mut edits = Edits::new(body);
    edits.set("model", quoted(model));
    (form == BodyForm::AnthropicCount)
        .then(|| edits.write())
        .flatten()
}

/// A JSON string.
fn quoted(plain: &str) -> String {
    let mut out = Vec::with_capacity(plain.len() + 2);
    out.push(b'"');
    escape_into(&mut out, plain);
    out.push(b'"');
    String::from_utf8(out).unwrap_or_default()
}

/// Members of an object that get other values.
struct Edits<'b> {
    object: &'b str,
    values: Vec<(&'static str, String)>,
}

impl<'b> Edits<'b> {
    const fn new(object: &'b str) -> Self {
        Self {
            object,
            values: Vec::new(),
        }
    }

    /// Gives a member a value, present or not.
    fn set(&mut self, key: &'static str, value: String) {
        self.values.push((key, value));
    }

    /// The value of a member that is there and not null.
    fn find(&self, key: &str) -> Option<JsonValue<'b>> {
        let member = JsonValue::read(self.object)?.member(key);
        member.filter(|value| !value.is_null())
    }

    /// Gives a member another value, if it is there.
    fn replace(&mut self, key: &'static str, value: &str) {
        if self.find(key).is_some() {
            self.set(key, String::from(value));
        }
    }

    /// Asks for the count of tokens at the end of a stream. Whether the client is told it was decided when its request was read.
    fn count_tokens(&mut self, request: &Request) {
        if !request.is_streamed() {
            return;
        }
        let options = self.find("stream_options");
        let mut edits = Edits::new(options.map_or("{}", JsonValue::get));
        edits.set("include_usage", String::from("true"));
        let options = edits.write().and_then(|json| String::from_utf8(json).ok());
        if let Some(options) = options {
            self.set("stream_options", options);
        }
    }

    /// The object with these values; `None` when it is no object.
    fn write(self) -> Option<Vec<u8>> {
        let added: usize = self.values.iter().map(|(_, value)| value.len() + 32).sum();
        let mut out = Vec::with_capacity(self.object.len() + added);
        let mut written = alloc::vec![false; self.values.len()];
        let mut write = |key: &str, value: &str| {
            out.extend_from_slice(if out.is_empty() { b"{\"" } else { b",\"" });
            out.extend_from_slice(key.as_bytes());
            out.extend_from_slice(b"\":");
            out.extend_from_slice(value.as_bytes());
        };
        Cursor::new(self.object).object(|cursor, key| {
            let value = cursor.value()?;
            let edit = self.values.iter().zip(&mut written);
            let mut edit = edit.filter(|((name, _), _)| key.is(name));
            match edit.next() {
                Some(((name, value), written)) => {
                    // Of equal keys one is left, as not all readers take the same.
                    if !core::mem::replace(written, true) {
                        write(name, value);
                    }
                }
                None => write(key.as_escaped(), value),
            }
            Some(())
        })?;
        for ((name, value), written) in self.values.iter().zip(&written) {
            if !written {
                write(name, value);
            }
        }
        out.extend_from_slice(if out.is_empty() { b"{}" } else { b"}" });
        Some(out)
    }
}
