//! JSON-RPC 2.0, one message in one line, read as tolerantly as agents write it.

use crate::text::{JsonStr, escape_into};
use alloc::borrow::Cow;
use alloc::string::String;
use alloc::vec::Vec;
use serde::Deserialize;
use serde_json::value::RawValue;

/// `Method not found`.
pub(super) const METHOD_NOT_FOUND: i64 = -32601;

/// One message of an agent, borrowed from its line.
pub(super) enum Message<'l> {
    /// It wants an answer.
    Request {
        /// A number, a string, or what else it sees fit; sent back as it came.
        id: &'l RawValue,
        method: Cow<'l, str>,
        params: Option<&'l RawValue>,
    },
    /// It wants none.
    Notification {
        method: Cow<'l, str>,
        params: Option<&'l RawValue>,
    },
    /// The answer to a request of ours; `None` when the id is none of ours.
    Response {
        id: Option<u64>,
        /// `None` is `null`.
        outcome: Result<Option<&'l RawValue>, RpcError<'l>>,
    },
}

/// The `error` of a response.
#[derive(Clone, Copy, Default)]
pub(super) struct RpcError<'l> {
    pub(super) code: i64,
    pub(super) message: JsonStr<'l>,
    pub(super) data: Option<&'l RawValue>,
}

/// Kinds of lines that are no JSON-RPC message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum NotAMessage {
    /// Something that a program prints; nothing is lost.
    Noise,
    /// A message that was cut or mixed with another: something is lost.
    Damaged,
}

#[derive(Deserialize)]
struct Members<'l> {
    #[serde(borrow)]
    id: Option<&'l RawValue>,
    #[serde(borrow)]
    method: Option<&'l RawValue>,
    #[serde(borrow)]
    params: Option<&'l RawValue>,
    #[serde(borrow)]
    result: Option<&'l RawValue>,
    #[serde(borrow)]
    error: Option<&'l RawValue>,
}

#[derive(Deserialize)]
struct ErrorMembers<'l> {
    #[serde(borrow)]
    code: Option<&'l RawValue>,
    #[serde(borrow)]
    message: Option<&'l RawValue>,
    #[serde(borrow)]
    data: Option<&'l RawValue>,
}

/// Reads one line.
pub(super) fn read(line: &[u8]) -> Result<Message<'_>, NotAMessage> {
    let lost = || {
        if memchr::memmem::find(line, b"\"jsonrpc\"").is_some() {
            NotAMessage::Damaged
        } else {
            NotAMessage::Noise
        }
    };
    if !line.trim_ascii_start().starts_with(b"{") {
        return Err(lost());
    }
    let text = core::str::from_utf8(line).map_err(|_| lost())?;
    let members: Members<'_> = serde_json::from_str(text).map_err(|_| lost())?;
    let method = members.method.and_then(JsonStr::from_raw);
    Ok(match (method, members.id) {
        (Some(method), Some(id)) => Message::Request {
            id,
            method: method.decode(),
            params: members.params,
        },
        (Some(method), None) => Message::Notification {
            method: method.decode(),
            params: members.params,
        },
        (None, Some(id)) => Message::Response {
            id: own_id(id),
            outcome: match members.error {
                Some(error) => Err(RpcError::read(error)),
                None => Ok(members.result),
            },
        },
        // An error about a message that the agent could not read has a null id.
        (None, None) => return Err(lost()),
    })
}

/// The number of a request of ours, also when the agent made a string of it.
fn own_id(id: &RawValue) -> Option<u64> {
    id.get().trim_matches('"').parse().ok()
}

impl<'l> RpcError<'l> {
    fn read(raw: &'l RawValue) -> Self {
        let members = serde_json::from_str::<ErrorMembers<'_>>(raw.get()).ok();
        members.map_or_else(Self::default, |members| Self {
            code: members.code.map_or(0, whole),
            message: members
                .message
                .and_then(JsonStr::from_raw)
                .unwrap_or_default(),
            data: members.data,
        })
    }
}

fn whole(raw: &RawValue) -> i64 {
    raw.get().trim_matches('"').parse().unwrap_or(0)
}

/// Writes JSON whose shape the caller keeps.
pub(super) struct Json(Vec<u8>);

impl Json {
    pub(super) fn new() -> Self {
        Self(Vec::with_capacity(256))
    }

    /// Opens a request; the members of `params` follow, then [`Json::end_params`].
    pub(super) fn request(id: u64, method: &str) -> Self {
        let mut json = Self::new();
        json.raw("{\"jsonrpc\":\"2.0\",\"id\":");
        json.raw(itoa::Buffer::new().format(id));
        json.raw(",\"method\":\"");
        json.raw(method);
        json.raw("\",\"params\":{");
        json
    }

    /// Opens a notification; the members of `params` follow, then [`Json::end_params`].
    pub(super) fn notification(method: &str) -> Self {
        let mut json = Self::new();
        json.raw("{\"jsonrpc\":\"2.0\",\"method\":\"");
        json.raw(method);
        json.raw("\",\"params\":{");
        json
    }

    pub(super) fn end_params(mut self) -> String {
        self.raw("}}\n");
        self.finish()
    }

    /// Answers a request.
    pub(super) fn result(id: &RawValue, result: &str) -> String {
        let mut json = Self::new();
        json.raw("{\"jsonrpc\":\"2.0\",\"id\":");
        json.raw(id.get());
        json.raw(",\"result\":");
        json.raw(result);
        json.raw("}\n");
        json.finish()
    }

    /// Refuses a request.
    pub(super) fn error(id: &RawValue, code: i64, message: &str) -> String {
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

    pub(super) fn raw(&mut self, json: &str) {
        self.0.extend_from_slice(json.as_bytes());
    }

    /// A string that is not yet escaped.
    pub(super) fn string(&mut self, text: &str) {
        self.0.push(b'"');
        escape_into(&mut self.0, text);
        self.0.push(b'"');
    }

    /// A member of an object. The first follows its brace.
    pub(super) fn member(&mut self, name: &str) -> &mut Self {
        if !self.0.ends_with(b"{") {
            self.0.push(b',');
        }
        self.0.push(b'"');
        self.raw(name);
        self.raw("\":");
        self
    }

    pub(super) fn finish(self) -> String {
        // Everything that was written is UTF-8.
        String::from_utf8(self.0).unwrap_or_default()
    }
}

/// JSON that a person wrote, without its line ends: within a string they would be escaped.
pub(super) fn one_line(json: &str) -> String {
    json.chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect()
}

/// A string member of a raw object.
pub(super) fn text(raw: Option<&RawValue>) -> Option<Cow<'_, str>> {
    raw.and_then(JsonStr::from_raw).map(JsonStr::decode)
}
