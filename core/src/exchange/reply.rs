//! What goes back to the client: a head, once, and bytes.

use crate::dialect::{self, Dialect};
use crate::error::{Code, Refusal};
use crate::hub::limiter::Standing;
use crate::id::{ExchangeId, SessionId};
use alloc::vec::Vec;

/// What a call has produced for the client. The driver takes the head and the bytes, and clears them.
#[derive(Debug, Default)]
pub struct Reply {
    /// Set once, before or together with the first bytes.
    pub head: Option<ReplyHead>,
    /// Appended to.
    pub body: Vec<u8>,
}

/// Status and headers of an answer. Content length, transfer coding, date and connection headers are the driver's.
#[derive(Clone, Debug)]
pub struct ReplyHead {
    /// HTTP status.
    pub status: u16,
    /// `Content-Type`.
    pub content_type: &'static str,
    /// `x-request-id`.
    pub request: ExchangeId,
    /// `X-Session-ID`.
    pub session: Option<SessionId>,
    /// `Retry-After` in seconds.
    pub retry_after: Option<u64>,
    /// `x-ratelimit-*`.
    pub standing: Option<Standing>,
    /// `Allow`, for 405.
    pub allow: Option<&'static str>,
    /// True when the body comes in pieces whose number is not known: neither buffer nor cache it.
    pub streamed: bool,
}

/// JSON.
pub const JSON: &str = "application/json";
/// Server-sent events.
pub const EVENT_STREAM: &str = "text/event-stream";
/// One JSON text a line.
pub const NDJSON: &str = "application/x-ndjson";
/// Text for people.
pub const TEXT: &str = "text/plain; charset=utf-8";

impl ReplyHead {
    /// A whole answer.
    #[must_use]
    pub const fn new(status: u16, content_type: &'static str, request: ExchangeId) -> Self {
        Self {
            status,
            content_type,
            request,
            session: None,
            retry_after: None,
            standing: None,
            allow: None,
            streamed: false,
        }
    }

    /// Calls `each` with every header.
    pub fn headers(&self, mut each: impl FnMut(&'static str, &[u8])) {
        let mut number = itoa::Buffer::new();
        each("content-type", self.content_type.as_bytes());
        each("x-request-id", &self.request.text());
        // The name that Anthropic's clients read.
        each("request-id", &self.request.text());
        if let Some(session) = &self.session {
            each("x-session-id", session.as_str().as_bytes());
        }
        if let Some(seconds) = self.retry_after {
            each("retry-after", number.format(seconds).as_bytes());
        }
        if let Some(standing) = &self.standing {
            each(
                "x-ratelimit-limit-requests",
                number.format(standing.limit_requests).as_bytes(),
            );
            each(
                "x-ratelimit-remaining-requests",
                number.format(standing.remaining_requests).as_bytes(),
            );
            each(
                "x-ratelimit-limit-tokens",
                number.format(standing.limit_tokens).as_bytes(),
            );
            each(
                "x-ratelimit-remaining-tokens",
                number.format(standing.remaining_tokens).as_bytes(),
            );
        }
        if let Some(methods) = self.allow {
            each("allow", methods.as_bytes());
        }
        if self.status == 401 {
            each("www-authenticate", b"Bearer");
        }
        if self.streamed {
            each("cache-control", b"no-cache");
            each("x-accel-buffering", b"no");
        }
    }
}

impl Reply {
    /// A refusal in the client's dialect.
    pub fn refuse(&mut self, request: ExchangeId, dialect: Dialect, refusal: &Refusal) {
        self.body.clear();
        dialect::error_body(dialect, request, refusal, &mut self.body);
        let mut head = ReplyHead::new(dialect.status(refusal.code()), JSON, request);
        head.retry_after = refusal.retry_after_seconds().or(match refusal.code() {
            Code::NoAgent => Some(5),
            _ => None,
        });
        self.head = Some(head);
    }

    /// A JSON answer.
    pub fn json(&mut self, request: ExchangeId, status: u16, write: impl FnOnce(&mut Vec<u8>)) {
        self.body.clear();
        write(&mut self.body);
        self.head = Some(ReplyHead::new(status, JSON, request));
    }
}
