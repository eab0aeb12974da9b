//! Answer to the client: a head, once, and bytes.

use super::header;
use crate::dialect::{self, Dialect};
use crate::error::{Code, Refusal, Standing};
use crate::id::{ExchangeId, SessionId};
use crate::invocation::ParameterSet;
use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use core::time::Duration;

/// Output of a call for the client. The driver takes the head and the bytes, and clears them.
#[derive(Default)]
pub struct Reply {
    /// Set once, before or together with the first bytes.
    pub head: Option<ReplyHead>,
    /// Appended to.
    pub body: Vec<u8>,
}

impl fmt::Debug for Reply {
    /// Without the answer.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reply")
            .field("head", &self.head)
            .field("body", &self.body.len())
            .finish()
    }
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
    /// `Mcp-Session-Id`, with the answer that opens a session of MCP.
    pub mcp_session: Option<Box<str>>,
    /// `Location`, with the answer that opens a session by REST.
    pub location: Option<Box<str>>,
    /// `Retry-After` in seconds.
    pub retry_after: Option<u64>,
    /// `x-should-retry`, which OpenAI's clients obey.
    pub should_retry: Option<bool>,
    /// `x-ratelimit-*`.
    pub standing: Option<Standing>,
    /// `x-ignored-parameters`: what the agent that answers does not take.
    pub ignored: ParameterSet,
    /// `ETag`, of a resource.
    pub etag: Option<Box<str>>,
    /// `Allow`, for 405.
    pub allow: Option<Box<str>>,
    /// `Content-Security-Policy`, of a page.
    pub policy: Option<&'static str>,
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
            mcp_session: None,
            location: None,
            retry_after: None,
            should_retry: None,
            standing: None,
            ignored: ParameterSet::EMPTY,
            etag: None,
            allow: None,
            policy: None,
            streamed: false,
        }
    }

    /// Calls `each` with every header.
    pub fn headers(&self, mut each: impl FnMut(&'static str, &[u8])) {
        let mut number = itoa::Buffer::new();
        each(header::CONTENT_TYPE, self.content_type.as_bytes());
        each(header::REQUEST_ID, &self.request.text());
        // The name that Anthropic's clients read.
        each(header::ANTHROPIC_REQUEST_ID, &self.request.text());
        if let Some(session) = &self.session {
            each(header::SESSION_ID, session.as_str().as_bytes());
        }
        if let Some(session) = &self.mcp_session {
            each(header::MCP_SESSION_ID, session.as_bytes());
        }
        if let Some(location) = &self.location {
            each(header::LOCATION, location.as_bytes());
        }
        if let Some(etag) = &self.etag {
            each(header::ETAG, etag.as_bytes());
        }
        if let Some(seconds) = self.retry_after {
            each(header::RETRY_AFTER, number.format(seconds).as_bytes());
        }
        if let Some(retry) = self.should_retry {
            let text: &[u8] = if retry { b"true" } else { b"false" };
            each(header::SHOULD_RETRY, text);
        }
        if let Some(standing) = &self.standing {
            for (name, value) in [
                (header::LIMIT_REQUESTS, standing.limit_requests),
                (header::REMAINING_REQUESTS, standing.remaining_requests),
                (header::LIMIT_TOKENS, standing.limit_tokens),
                (header::REMAINING_TOKENS, standing.remaining_tokens),
            ] {
                each(name, number.format(value).as_bytes());
            }
            let mut text = String::with_capacity(16);
            for (name, after) in [
                (header::RESET_REQUESTS, standing.reset_requests),
                (header::RESET_TOKENS, standing.reset_tokens),
            ] {
                text.clear();
                write_reset(&mut text, after);
                each(name, text.as_bytes());
            }
        }
        if !self.ignored.is_empty() {
            let names: Vec<_> = self.ignored.names().collect();
            each(header::IGNORED_PARAMETERS, names.join(", ").as_bytes());
        }
        if let Some(methods) = &self.allow {
            each(header::ALLOW, methods.as_bytes());
        }
        if let Some(policy) = self.policy {
            each(header::CONTENT_SECURITY_POLICY, policy.as_bytes());
        }
        if self.status == 401 {
            each(header::WWW_AUTHENTICATE, b"Bearer");
        }
        if self.streamed {
            each(header::CACHE_CONTROL, b"no-cache");
            each(header::ACCEL_BUFFERING, b"no");
        }
    }
}

impl Reply {
    /// A refusal in the client's dialect.
    pub fn refuse(&mut self, request: ExchangeId, dialect: Dialect, refusal: &Refusal) {
        self.body.clear();
        dialect::error_body(dialect, request, refusal, &mut self.body);
        let mut head = ReplyHead::new(dialect.status(refusal.code()), JSON, request);
        let soon = (refusal.code() == Code::NoAgent).then_some(5);
        head.retry_after = refusal.retry_after_seconds().or(soon);
        head.should_retry = refusal.should_retry();
        head.standing = refusal.left();
        head.allow = refusal.allowed().map(Box::from);
        self.head = Some(head);
    }

    /// A JSON answer.
    pub fn json(&mut self, request: ExchangeId, status: u16, write: impl FnOnce(&mut Vec<u8>)) {
        self.body.clear();
        write(&mut self.body);
        self.head = Some(ReplyHead::new(status, JSON, request));
    }
}

/// Writes a duration as OpenAI does: `20ms`, `1s`, `1.5s`, `6m0s`, `1h0m0s`; rounded up to milliseconds.
fn write_reset(text: &mut String, after: Duration) {
    let (seconds, rest) = match after.subsec_nanos().div_ceil(1_000_000) {
        1000 => (after.as_secs().saturating_add(1), 0),
        begun => (after.as_secs(), begun),
    };
    let mut part = |number: u64, unit: &str| {
        text.push_str(itoa::Buffer::new().format(number));
        text.push_str(unit);
    };
    if seconds == 0 && rest > 0 {
        return part(rest.into(), "ms");
    }
    let (hours, minutes) = (seconds / 3600, seconds / 60 % 60);
    if hours > 0 {
        part(hours, "h");
    }
    if hours > 0 || minutes > 0 {
        part(minutes, "m");
    }
    part(seconds % 60, "");
    if rest > 0 {
        let fraction = alloc::format!(".{rest:03}");
        text.push_str(fraction.trim_end_matches('0'));
    }
    text.push('s');
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::id::Ids;
    use crate::invocation::Parameters;

    #[test]
    fn resets_are_written_as_openai_does() {
        for (micros, text) in [
            (0, "0s"),
            (1, "1ms"),
            (20_000, "20ms"),
            (999_001, "1s"),
            (999_000, "999ms"),
            (1_999_001, "2s"),
            (1_500_000, "1.5s"),
            (59_050_000, "59.05s"),
            (360_000_000, "6m0s"),
            (86_400_000, "1m26.4s"),
            (3_600_000_000, "1h0m0s"),
        ] {
            let mut written = String::new();
            write_reset(&mut written, Duration::from_micros(micros));
            assert_eq!(written, text);
        }
    }

    fn headers(refusal: &Refusal) -> Vec<(&'static str, String)> {
        let mut reply = Reply::default();
        reply.refuse(Ids::new(1).next(), Dialect::OpenAi, refusal);
        let mut all = Vec::new();
        reply.head.unwrap().headers(|name, value| {
            all.push((name, String::from_utf8(value.to_vec()).unwrap()));
        });
        all.retain(|(name, _)| name.contains("retry") || name.contains("ratelimit"));
        all
    }

    #[test]
    fn every_header_that_is_sent_may_be_read_by_pages() {
        let exposed: Vec<&str> = header::EXPOSED.split(", ").collect();
        // What the Fetch standard lets pages read anyway.
        let always = [header::CONTENT_TYPE, header::CACHE_CONTROL];
        for status in [200, 401] {
            let mut head = ReplyHead::new(status, JSON, Ids::new(1).next());
            head.session = SessionId::new("s-1");
            head.mcp_session = Some("m-1".into());
            head.location = Some("/sessions/m-1".into());
            head.etag = Some("\"1\"".into());
            head.retry_after = Some(1);
            head.should_retry = Some(false);
            head.standing = Some(Standing::default());
            head.ignored = Parameters {
                seed: Some(1),
                ..Parameters::default()
            }
            .given();
            head.allow = Some("GET".into());
            head.streamed = true;
            let mut sent = 0;
            head.headers(|name, _| {
                assert!(exposed.contains(&name) || always.contains(&name), "{name}");
                sent += 1;
            });
            assert_eq!(
                sent,
                exposed.len() + always.len() - usize::from(status == 200)
            );
        }
    }

    #[test]
    fn a_limit_tells_what_is_left_and_when_to_come_back() {
        let standing = Standing {
            limit_requests: 60,
            remaining_requests: 0,
            limit_tokens: 1000,
            remaining_tokens: 990,
            reset_requests: Duration::from_secs(60),
            reset_tokens: Duration::from_millis(600),
        };
        let limited = |after| {
            Refusal::new(Code::RateLimited, "")
                .retry_after(Duration::from_secs(after))
                .standing(standing)
        };
        let text = |all: &[(&str, String)]| {
            let lines = all
                .iter()
                .map(|(name, value)| alloc::format!("{name}: {value}"));
            lines.collect::<Vec<_>>().join("\n")
        };
        assert_eq!(
            text(&headers(&limited(1))),
            "retry-after: 1\nx-ratelimit-limit-requests: 60\nx-ratelimit-remaining-requests: 0\n\
             x-ratelimit-limit-tokens: 1000\nx-ratelimit-remaining-tokens: 990\n\
             x-ratelimit-reset-requests: 1m0s\nx-ratelimit-reset-tokens: 600ms"
        );
        assert!(
            text(&headers(&limited(61))).starts_with("retry-after: 61\nx-should-retry: false\n")
        );
        let timeout = Refusal::new(Code::AgentTimeout, "");
        assert_eq!(text(&headers(&timeout)), "x-should-retry: false");
        assert_eq!(text(&headers(&Refusal::new(Code::AgentLost, ""))), "");
    }
}
