//! A `model_invoke` as an agent has it: texts that are read where they stand.

use crate::invocation::Kind;
use crate::text::{JsonStr, JsonValue};
use alloc::borrow::{Cow, ToOwned};
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;

/// Name of an invocation, as the provider gave it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InvocationId(Arc<str>);

impl InvocationId {
    pub(super) fn of(id: JsonStr<'_>) -> Self {
        Self(id.as_escaped().into())
    }

    /// As the inside of a JSON string.
    pub(super) fn as_json(&self) -> JsonStr<'_> {
        JsonStr::from_escaped(&self.0)
    }
}

impl fmt::Display for InvocationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.as_json().decode())
    }
}

impl fmt::Debug for InvocationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// One question to the agent (`model_invoke`), in either form of the protocol. Each call looks its member up in the JSON.
#[derive(Clone, PartialEq, Eq)]
pub struct Request {
    id: InvocationId,
    /// The payload, or in the flat form the whole message.
    payload: String,
}

impl Request {
    pub(super) fn of(id: InvocationId, message: JsonValue<'_>) -> Self {
        let payload = message.member("payload").unwrap_or(message);
        Self {
            id,
            payload: payload.get().to_owned(),
        }
    }

    /// Its name: the `x-request-id` of the client's answer.
    #[must_use]
    pub const fn id(&self) -> &InvocationId {
        &self.id
    }

    /// The payload as JSON: `messages`, `prompt` or `input`, and `parameters`.
    #[must_use]
    pub fn payload(&self) -> &str {
        &self.payload
    }

    /// The model that is asked, by the agent's own name for it.
    #[must_use]
    pub fn model(&self) -> Cow<'_, str> {
        self.text_of("model").unwrap_or_default()
    }

    /// The kind of answer that is wanted.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match (self.member("input"), self.member("suffix")) {
            (Some(_), _) => Kind::Embedding,
            (None, Some(_)) => Kind::Insertion,
            (None, None) => Kind::Text,
        }
    }

    /// The conversation; empty where a text is to be continued.
    #[must_use]
    pub fn messages(&self) -> Vec<Message<'_>> {
        let messages = self.member("messages").map(JsonValue::elements);
        let messages = messages.unwrap_or_default().into_iter();
        messages.map(Message).collect()
    }

    /// The text to answer: that of the last message, or the text to continue.
    #[must_use]
    pub fn prompt(&self) -> Cow<'_, str> {
        let last = self.messages().pop();
        last.map(|message| message.text())
            .or_else(|| self.text_of("prompt"))
            .unwrap_or_default()
    }

    /// The text behind the gap, where the middle is to be filled in.
    #[must_use]
    pub fn suffix(&self) -> Option<Cow<'_, str>> {
        self.text_of("suffix")
    }

    /// The texts to turn into vectors.
    #[must_use]
    pub fn input(&self) -> Vec<Cow<'_, str>> {
        let input = self.member("input").map(JsonValue::elements);
        let input = input.unwrap_or_default().into_iter();
        input.filter_map(JsonValue::text).collect()
    }

    /// A parameter by its name in OpenAI's API, such as `max_tokens`; `None` where the caller did not give it.
    #[must_use]
    pub fn parameter(&self, name: &str) -> Option<JsonValue<'_>> {
        let payload = JsonValue::read(&self.payload)?;
        payload
            .member("parameters")
            .unwrap_or(payload)
            .member(name)
            .filter(|value| !value.is_null())
    }

    /// The caller's tools, each as OpenAI's JSON.
    #[must_use]
    pub fn tools(&self) -> Vec<JsonValue<'_>> {
        let tools = self.parameter("tools").map(JsonValue::elements);
        tools.unwrap_or_default()
    }

    /// True when the caller wants the answer as it comes. Either answer is right for either wish.
    #[must_use]
    pub fn is_streamed(&self) -> bool {
        self.parameter("stream")
            .is_some_and(|stream| stream.get() == "true")
    }

    fn member(&self, name: &str) -> Option<JsonValue<'_>> {
        let member = JsonValue::read(&self.payload)?.member(name);
        member.filter(|value| !value.is_null())
    }

    fn text_of(&self, name: &str) -> Option<Cow<'_, str>> {
        self.member(name)?.text()
    }
}

impl fmt::Debug for Request {
    /// Without the prompt.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Request({}, {} bytes)", self.id, self.payload.len())
    }
}

/// One message of a conversation.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Message<'r>(JsonValue<'r>);

impl<'r> Message<'r> {
    /// The speaker: `system`, `developer`, `user`, `assistant`, `tool` or `function`.
    #[must_use]
    pub fn role(&self) -> Cow<'r, str> {
        let role = self.0.member("role").and_then(JsonValue::text);
        role.unwrap_or_default()
    }

    /// Its text. That of several parts is joined by line ends; images and files are left out.
    #[must_use]
    pub fn text(&self) -> Cow<'r, str> {
        let Some(content) = self.0.member("content") else {
            return Cow::Borrowed("");
        };
        content.text().unwrap_or_else(|| {
            let parts = content.elements().into_iter();
            let texts = parts.filter_map(|part| part.member("text")?.text());
            let texts: Vec<Cow<'_, str>> = texts.collect();
            Cow::Owned(texts.join("\n"))
        })
    }

    /// All of it as OpenAI's JSON: parts, names, tool calls.
    #[must_use]
    pub const fn json(&self) -> JsonValue<'r> {
        self.0
    }
}

impl fmt::Debug for Message<'_> {
    /// Without the text.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Message({})", self.role())
    }
}
