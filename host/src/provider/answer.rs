//! What goes back to a client: status, headers and bytes, as plain data that every HTTP engine can write.

use mcp_local_provider_core::api;
use mcp_local_provider_core::exchange::{JSON, Reply, ReplyHead};
use mcp_local_provider_core::id::ExchangeId;
use std::fmt;

/// Headers that pages may read besides the usual ones.
const EXPOSED: &[u8] = b"x-request-id, x-session-id, retry-after, x-ratelimit-limit-requests, x-ratelimit-remaining-requests, x-ratelimit-limit-tokens, x-ratelimit-remaining-tokens, x-ratelimit-reset-requests, x-ratelimit-reset-tokens";

/// A page in a browser that asks, of an origin that may.
#[derive(Clone, Debug)]
pub struct Page {
    pub(super) origin: Box<str>,
    /// `Access-Control-Request-Headers` of a preflight; the inner one is missing where the header is.
    pub(super) preflight: Option<Option<Box<str>>>,
}

/// Status and headers of an answer, but those that frame it.
#[derive(Clone, Debug)]
pub struct Head {
    reply: ReplyHead,
    page: Option<Page>,
    closes: bool,
}

impl Head {
    pub(super) const fn new(reply: ReplyHead, page: Option<Page>) -> Self {
        Self {
            reply,
            page,
            closes: false,
        }
    }

    /// The HTTP status.
    #[must_use]
    pub const fn status(&self) -> u16 {
        self.reply.status
    }

    /// True when the body comes in pieces whose number is not known.
    #[must_use]
    pub const fn is_streamed(&self) -> bool {
        self.reply.streamed
    }

    /// True when the connection must not be used on.
    #[must_use]
    pub const fn closes(&self) -> bool {
        self.closes
    }

    /// Calls `each` with every header, names in lower case, no name twice.
    pub fn headers(&self, mut each: impl FnMut(&'static str, &[u8])) {
        self.reply.headers(&mut each);
        if let Some(page) = &self.page {
            page.headers(&mut each);
        }
    }
}

impl Page {
    /// Lets the page read the answer.
    pub(super) fn headers(&self, mut each: impl FnMut(&'static str, &[u8])) {
        if let Some(asked) = &self.preflight {
            api::preflight_headers(&self.origin, asked.as_deref(), |name, value| {
                each(name, value.as_bytes());
            });
        } else {
            each("access-control-allow-origin", self.origin.as_bytes());
            each("vary", b"Origin");
        }
        each("access-control-expose-headers", EXPOSED);
    }
}

/// A whole answer.
#[derive(Clone)]
pub struct Answer {
    /// Status and headers.
    pub head: Head,
    /// All of the body.
    pub body: Vec<u8>,
}

impl fmt::Debug for Answer {
    /// Without the body.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Answer({:?}, {} bytes)", self.head, self.body.len())
    }
}

impl Answer {
    /// What a machine replied to request `id`. A reply without a head would be a fault of ours.
    pub(super) fn new(mut reply: Reply, id: ExchangeId, page: Option<Page>) -> Self {
        let head = reply.head.take();
        let head = head.unwrap_or_else(|| ReplyHead::new(500, JSON, id));
        Self {
            head: Head::new(head, page),
            body: reply.body,
        }
    }

    /// The same, with another status and an end of the connection, because where the request ends is not clear.
    pub(super) const fn closing(mut self, status: u16) -> Self {
        self.head.reply.status = status;
        self.head.closes = true;
        self
    }
}
