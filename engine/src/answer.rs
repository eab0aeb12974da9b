//! Answers to clients: status, headers and bytes, as plain data that every HTTP engine can write.

use mcp_local_provider_core::api::Page;
use mcp_local_provider_core::exchange::{JSON, Reply, ReplyHead};
use mcp_local_provider_core::id::ExchangeId;
use mcp_local_provider_core::wire::http1::{Connection, HeadWriter, ResponseLength};
use std::fmt;
use tungstenite::http::{self, HeaderName, HeaderValue, StatusCode, header};

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

    /// The answer for an HTTP engine that uses the types of the crate `http`, with `body` or a part of it.
    #[must_use]
    pub fn response<B>(&self, body: B) -> http::Response<B> {
        let mut response = http::Response::new(body);
        let status = StatusCode::from_u16(self.status());
        *response.status_mut() = status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let headers = response.headers_mut();
        self.headers(|name, value| {
            if let Ok(value) = HeaderValue::from_bytes(value) {
                headers.insert(HeaderName::from_static(name), value);
            }
        });
        if self.closes {
            headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }

    /// Adds the head to `out` as HTTP/1.1 has it, with the headers that frame it. `date` is the time in seconds since 1970.
    pub fn write(
        &self,
        out: &mut Vec<u8>,
        length: ResponseLength,
        connection: Connection,
        date: Option<i64>,
    ) {
        let mut writer = HeadWriter::new(out, self.status(), length, connection, date);
        self.headers(|name, value| writer.header(name, value));
        if let Err(invalid) = writer.finish() {
            // Headers are ours, or were checked when they came in.
            tracing::error!(%invalid, "an answer goes without its headers");
            // A head of nothing but its frame cannot be invalid.
            let _ = HeadWriter::new(out, 500, length, connection, date).finish();
        }
    }

    /// Calls `each` with every header, names in lower case, no name twice.
    pub fn headers(&self, mut each: impl FnMut(&'static str, &[u8])) {
        self.reply.headers(&mut each);
        if let Some(page) = &self.page {
            page.headers(&mut each);
        }
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
    /// Makes an answer from a machine's reply to request `id`. A reply without a head would be a fault of ours.
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
