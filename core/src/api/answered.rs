//! Answers of routes that ask no agent, as data: they become bytes while no lock is held.

use super::Parameters;
use super::status::LinkTotals;
use crate::error::Refusal;
use crate::exchange::{NDJSON, Reply, ReplyHead, TEXT};
use crate::hub::keys::Caller;
use crate::id::ExchangeId;
use crate::time::Instant;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use serde::Deserialize;
use serde_json::Value;

/// Inputs of a handler.
#[derive(Clone, Copy, Debug)]
pub struct Input<'r> {
    /// Time at which the request is answered.
    pub now: Instant,
    /// Caller of the request; `None` when no key is needed.
    pub caller: Option<&'r Caller>,
    /// True for a program on this machine.
    pub local: bool,
    /// `Host` of a browser that prefers a page to text.
    pub page_at: Option<&'r str>,
    /// The links of agents; gathered for routes that tell how the program does.
    pub links: LinkTotals,
    /// Parameters of the path.
    pub parameters: &'r Parameters<'r>,
    /// The body; empty where the route reads none.
    pub body: &'r [u8],
}

/// A whole answer.
#[derive(Clone, Debug)]
pub enum Answered {
    /// JSON, with a status.
    Json(u16, Value),
    /// A stream of one record.
    Line(Value),
    /// Text for people.
    Text(&'static str),
    /// A whole body of a `Content-Type`.
    Bytes(&'static str, Vec<u8>),
    /// 202, without a body.
    Accepted,
    /// 204.
    Nothing,
}

impl Answered {
    /// JSON, with status 200.
    #[must_use]
    pub(super) const fn ok(value: Value) -> Self {
        Self::Json(200, value)
    }

    /// Writes it as the answer to request `id`.
    pub fn write(self, id: ExchangeId, reply: &mut Reply) {
        // Writing to memory cannot fail, and every key is a string.
        let json = |value: &Value| serde_json::to_vec(value).unwrap_or_default();
        let (status, content_type, body) = match self {
            Self::Json(status, value) => {
                return reply.json(id, status, |out| *out = json(&value));
            }
            Self::Line(value) => {
                let mut line = json(&value);
                line.push(b'\n');
                (200, NDJSON, line)
            }
            Self::Text(text) => (200, TEXT, text.into()),
            Self::Bytes(content_type, bytes) => (200, content_type, bytes),
            Self::Accepted => (202, TEXT, Vec::new()),
            Self::Nothing => (204, TEXT, Vec::new()),
        };
        reply.head = Some(ReplyHead::new(status, content_type, id));
        reply.body = body;
    }
}

/// The field that an error is about: the path to a wrong value, and for one that is missing its name behind that.
fn field_of(error: &serde_path_to_error::Error<serde_json::Error>) -> Option<String> {
    // That a field is missing is noticed at the end of its object; only the words of `serde` name it.
    let message = error.inner().to_string();
    let missing = message
        .strip_prefix("missing field `")
        .and_then(|rest| rest.split_once('`'))
        .map(|(name, _)| name);
    let path = error.path();
    match (path.iter().len(), missing) {
        (0, None) => None,
        (0, Some(name)) => Some(name.into()),
        (_, None) => Some(path.to_string()),
        (_, Some(name)) => Some(format!("{path}.{name}")),
    }
}

/// Reads a small JSON body; the error names the field.
pub(super) fn parse<'b, T: Deserialize<'b>>(body: &'b [u8]) -> Result<T, Refusal> {
    let text = core::str::from_utf8(body).map_err(|_| Refusal::invalid("the body is not UTF-8"))?;
    let mut reader = serde_json::Deserializer::from_str(text);
    let value = serde_path_to_error::deserialize(&mut reader).map_err(|error| {
        let field = field_of(&error);
        let message = match &field {
            Some(field) => format!("{field}: {}", error.inner()),
            None => format!(
                "the body is not the JSON object that is wanted: {}",
                error.inner()
            ),
        };
        let refusal = Refusal::invalid(message);
        match field {
            Some(field) => refusal.at(field),
            None => refusal,
        }
    })?;
    reader
        .end()
        .map_err(|_| Refusal::invalid("there is something behind the JSON object"))?;
    Ok(value)
}
