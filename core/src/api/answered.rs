//! Answers of routes that ask no agent, as data: they become bytes while no lock is held.

use super::Parameters;
use super::status::LinkTotals;
use crate::config::Limits;
use crate::dialect::body::{self, Take};
use crate::error::Refusal;
use crate::exchange::{NDJSON, Reply, ReplyHead, TEXT};
use crate::hub::keys::Caller;
use crate::id::ExchangeId;
use crate::time::Instant;
use alloc::vec::Vec;
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
    /// Bounds on what is read.
    pub limits: &'r Limits,
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

/// Reads a small body: one JSON object, whose fields the handler takes one by one.
///
/// # Errors
/// A body that is not one JSON object, or nested deeper than `limits.json_depth`.
pub(super) fn read<'b, T: Take<'b>>(input: &Input<'b>) -> Result<T, Refusal> {
    let text =
        core::str::from_utf8(input.body).map_err(|_| Refusal::invalid("the body is not UTF-8"))?;
    body::read(text, input.limits)
}
