//! An HTTP request to a remote server, and what has come of its answer.

use super::posted::{Asked, Told};
use crate::authorization::Challenge;
use alloc::string::String;
use alloc::vec::Vec;
use core::time::Duration;
use mcp_local_provider_core::rpc::{Message, read_each};
use mcp_local_provider_core::text::JsonValue;
use mcp_local_provider_core::time::Instant;
use mcp_local_provider_core::wire::sse::Reader;

/// Bytes of an answer that refuses a request. The rest of a longer one is not read.
const REFUSAL_BYTES: usize = 64 << 10;

/// Shortest and longest time that a server can have waited before its stream is asked for again.
const PAUSES: (Duration, Duration) = (Duration::from_millis(10), Duration::from_secs(60));

/// The things that HTTP requests are made for.
#[derive(Debug)]
pub(super) enum Purpose {
    /// To ask, or to read on in the answer.
    Ask {
        asked: Asked,
        /// The message.
        line: String,
        /// Its answer was read, or comes elsewhere.
        is_answered: bool,
    },
    /// To tell something.
    Tell {
        told: Told,
        line: String,
        /// It is sent for the second time.
        again: bool,
    },
    /// To hear what belongs to no request.
    Listen,
    /// To end the session.
    End,
}

/// An answer, as far as it has come.
#[derive(Debug)]
pub(super) enum Answer {
    /// Its head has not come.
    Awaited,
    /// It is one JSON text.
    Json(Vec<u8>),
    /// It is a stream of events.
    Events(Reader),
    /// It refuses the request with a status, and may say what it wants.
    Refused(u16, Option<Challenge>, Vec<u8>),
    /// Nothing in it counts.
    Ignored,
}

/// One HTTP request on its way.
#[derive(Debug)]
pub(super) struct Exchange {
    pub(super) purpose: Purpose,
    /// The server has the whole request.
    pub(super) is_sent: bool,
    pub(super) answer: Answer,
    /// Id of the latest event of the stream, of those before it too; empty when it has none.
    pub(super) last_id: String,
    /// Time that the server asks for before its stream is asked for again.
    pub(super) retry: Duration,
    /// Moment at which it is given up, though the server has not ended it.
    pub(super) until: Option<Instant>,
}

impl Exchange {
    pub(super) const fn new(purpose: Purpose, last_id: String, retry: Duration) -> Self {
        Self {
            purpose,
            is_sent: false,
            answer: Answer::Awaited,
            last_id,
            retry,
            until: None,
        }
    }

    /// The request that waits for its answer here.
    pub(super) const fn asked(&self) -> Option<&Asked> {
        match &self.purpose {
            Purpose::Ask { asked, .. } => Some(asked),
            Purpose::Tell { .. } | Purpose::Listen | Purpose::End => None,
        }
    }

    /// True once nothing is awaited any more that belongs to a request.
    pub(super) const fn is_answered(&self) -> bool {
        match &self.purpose {
            Purpose::Ask { is_answered, .. } => *is_answered,
            Purpose::Tell { .. } | Purpose::Listen | Purpose::End => true,
        }
    }

    /// True while an answer to its request is on its way, and is no stream.
    pub(super) const fn may_be_answered(&self) -> bool {
        let is_short = match &self.answer {
            Answer::Awaited | Answer::Json(_) | Answer::Refused(..) => true,
            Answer::Events(_) | Answer::Ignored => false,
        };
        is_short && !self.is_answered()
    }

    /// True while the server has not said that it takes what it is told.
    pub(super) const fn is_telling(&self) -> bool {
        match (&self.purpose, &self.answer) {
            (Purpose::Tell { .. }, Answer::Awaited) => true,
            (
                Purpose::Tell { .. },
                Answer::Json(_) | Answer::Events(_) | Answer::Refused(..) | Answer::Ignored,
            )
            | (Purpose::Ask { .. } | Purpose::Listen | Purpose::End, _) => false,
        }
    }

    /// Notes that its request has an answer.
    pub(super) const fn answered(&mut self) {
        if let Purpose::Ask { is_answered, .. } = &mut self.purpose {
            *is_answered = true;
        }
    }

    /// Notes the time that the server asks for.
    pub(super) fn set_retry(&mut self, retry: Duration) {
        let (least, most) = PAUSES;
        self.retry = retry.clamp(least, most);
    }

    /// Appends to a body that is kept. False when it is longer than `limit` bytes.
    pub(super) fn keep(&mut self, bytes: &[u8], limit: usize) -> bool {
        match &mut self.answer {
            Answer::Json(body) => {
                let fits = body.len().saturating_add(bytes.len()) <= limit;
                if fits {
                    body.extend_from_slice(bytes);
                }
                fits
            }
            Answer::Refused(_, _, body) => {
                let room = REFUSAL_BYTES.saturating_sub(body.len());
                body.extend_from_slice(bytes.get(..room).unwrap_or(bytes));
                true
            }
            Answer::Awaited | Answer::Events(_) | Answer::Ignored => true,
        }
    }

    /// Bytes of memory that it and its answer take.
    pub(super) const fn memory(&self) -> usize {
        let line = match &self.purpose {
            Purpose::Ask { line, .. } | Purpose::Tell { line, .. } => line.capacity(),
            Purpose::Listen | Purpose::End => 0,
        };
        let answer = match &self.answer {
            Answer::Json(body) | Answer::Refused(_, _, body) => body.capacity(),
            Answer::Events(reader) => reader.held(),
            Answer::Awaited | Answer::Ignored => 0,
        };
        line.saturating_add(answer)
    }
}

/// True when a text is the answer to the request of this number, or a batch with that in it.
pub(super) fn answers(text: &str, number: u64) -> bool {
    let mut found = false;
    read_each(text, |_, message| {
        if let Ok(Message::Response { id, .. }) = message {
            // Some programs make a string of a number.
            found |= id.get().trim_matches('"').parse() == Ok(number);
        }
    });
    found
}

/// `error` of an answer that refuses a request, where it is one of JSON-RPC.
pub(super) fn error_in(body: &[u8]) -> Option<&str> {
    let body = core::str::from_utf8(body).ok()?;
    let error = JsonValue::read(body)?.member("error")?;
    error.member("code")?;
    error.member("message")?;
    Some(error.get())
}
