//! Audit records: what happened and who did it, never what was said.

use super::keys::Digest;
use crate::error::{Code, Exceeded, Refusal};
use crate::id::{ExchangeId, SessionId};
use crate::invocation::Usage;
use crate::text::{escape_into, hex, split_once};
use crate::time::{Instant, WallClock};
use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::net::IpAddr;
use core::time::Duration;

/// Facts about a request that are known before it is decided.
#[derive(Clone, Debug)]
pub struct RequestInfo {
    /// Its id.
    pub exchange: ExchangeId,
    /// Time at which its head had been read.
    pub started: Instant,
    /// Name of the key; none where none was given, or none that is known.
    pub key: Option<Arc<str>>,
    /// Client address.
    pub address: IpAddr,
    /// As the client named itself, cut at 200 bytes.
    pub user_agent: Option<Box<str>>,
    /// Method and route.
    pub endpoint: &'static str,
    /// Bytes of the body.
    pub bytes_in: u64,
    /// SHA-256 of the prompt.
    pub prompt: Option<Digest>,
    /// The model as the client named it, once the request is read; the one that answered where that was left to the provider.
    pub model: Option<Box<str>>,
    /// True for an answer that is to be streamed, once the request is read.
    pub stream: Option<bool>,
    /// Tokens that were reserved: the prompt's estimate and `max_tokens`.
    pub estimated_tokens: Option<u64>,
    /// The limit that it met, and the seconds after which it may be repeated.
    pub exceeded: Option<Box<(Exceeded, Option<u64>)>>,
    /// The security check that it did not pass.
    pub check: Option<&'static str>,
}

impl RequestInfo {
    /// Makes the facts that are known from the start: no key, no client, no body.
    #[must_use]
    pub const fn new(
        exchange: ExchangeId,
        started: Instant,
        address: IpAddr,
        endpoint: &'static str,
    ) -> Self {
        Self {
            exchange,
            started,
            key: None,
            address,
            user_agent: None,
            endpoint,
            bytes_in: 0,
            prompt: None,
            model: None,
            stream: None,
            estimated_tokens: None,
            exceeded: None,
            check: None,
        }
    }

    /// Adds why the request is refused.
    pub fn refused(&mut self, refusal: &Refusal) {
        let retry_after = refusal.retry_after_seconds();
        self.exceeded = refusal
            .exceeded()
            .map(|limit| Box::new((limit, retry_after)));
        self.check = refusal.check();
    }

    /// Appends who asked for what.
    fn write_asker(&self, out: &mut Vec<u8>) {
        if let Some(key) = &self.key {
            string(out, "key", key);
        }
        address(out, self.address);
        if let Some(agent) = &self.user_agent {
            string(out, "user_agent", agent);
        }
        let (method, endpoint) = self.method_and_endpoint();
        if let Some(method) = method {
            string(out, "method", method);
        }
        string(out, "endpoint", endpoint);
    }

    /// Some routes answer to several methods, and what is no route has none.
    fn method_and_endpoint(&self) -> (Option<&'static str>, &'static str) {
        match split_once(self.endpoint, b' ') {
            Some((method, path)) if path.starts_with('/') => (Some(method), path),
            _ => (None, self.endpoint),
        }
    }
}

/// One thing that happened.
#[derive(Clone, Debug)]
pub struct AuditRecord {
    /// Time of the event.
    pub at: Instant,
    /// The event.
    pub event: AuditEvent,
}

/// Events of the audit.
#[derive(Clone, Debug)]
pub enum AuditEvent {
    /// A request was answered or refused.
    Request {
        /// The request.
        info: Box<RequestInfo>,
        /// Class of its end.
        kind: RequestKind,
        /// The session that answered.
        session: Option<SessionId>,
        /// Its agent.
        agent_id: Option<Arc<str>>,
        /// HTTP status.
        status: u16,
        /// `ok`, or the code of the error that ended it.
        outcome: &'static str,
        /// From the request's head to the end of its answer.
        duration: Duration,
        /// Bytes of the answer's body.
        bytes_out: u64,
        /// Tokens.
        usage: Option<Usage>,
    },
    /// A session came, changed or went.
    Session {
        /// Its name.
        session: SessionId,
        /// Its agent.
        agent_id: Arc<str>,
        /// `registered`, or what was done to it.
        what: &'static str,
        /// The state that it is in now.
        status: &'static str,
        /// Name of the key that did it; none where the program or an agent with a session token did.
        key: Option<Arc<str>>,
    },
    /// A link came or went. One that was refused is a request.
    Link {
        /// Counted from 1.
        link: u64,
        /// `up` or `down`.
        what: &'static str,
        /// Name of the key that it showed; none for a session's token, and where we dialled.
        key: Option<Arc<str>>,
        /// True when we dialled.
        dialled: bool,
        /// Name of the bridge, or of the program's own agent, that we dialled.
        bridge: Option<Arc<str>>,
    },
}

/// Classes of a request's end, for those who watch over the program.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RequestKind {
    /// It was answered, or refused for what it asked.
    Answered,
    /// It came with no key or none that is known.
    AuthenticationFailed,
    /// A limit of requests or tokens was reached.
    RateLimited,
    /// It came from a foreign page or to a foreign host, its key has no right to it, or it could be read in two ways.
    Violation,
}

impl RequestKind {
    /// Returns the class of a refusal with this code.
    #[must_use]
    pub const fn of(code: Code) -> Self {
        match code {
            Code::InvalidKey => Self::AuthenticationFailed,
            Code::RateLimited => Self::RateLimited,
            Code::OriginDenied | Code::RoleDenied | Code::ScopeDenied | Code::SessionDenied => {
                Self::Violation
            }
            Code::InvalidRequest
            | Code::ContextLength
            | Code::TooLarge
            | Code::RequestTimeout
            | Code::ModelNotFound
            | Code::SessionNotFound
            | Code::ResponseNotFound
            | Code::NotFound
            | Code::MethodNotAllowed
            | Code::Conflict
            | Code::Disabled
            | Code::NoAgent
            | Code::Overloaded
            | Code::Draining
            | Code::AgentLost
            | Code::AgentFault
            | Code::AgentError
            | Code::AgentTimeout
            | Code::AgentRefused
            | Code::SlowClient
            | Code::AnswerTooLarge
            | Code::SessionEnded
            | Code::LoopDetected
            | Code::NotImplemented
            | Code::Internal => Self::Answered,
        }
    }

    /// `event` of the record.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Answered => "request",
            Self::AuthenticationFailed => "authentication_failed",
            Self::RateLimited => "rate_limit",
            Self::Violation => "violation",
        }
    }

    /// The same for a person who reads the log.
    #[must_use]
    pub const fn title(self) -> &'static str {
        match self {
            Self::Answered => "answered",
            Self::AuthenticationFailed => "refused for its key",
            Self::RateLimited => "refused by a limit",
            Self::Violation => "refused by a security check",
        }
    }
}

impl AuditRecord {
    /// Appends the record as one line of JSON, without a line end, with the number of such records that it stands for.
    pub fn write_counted(&self, count: u64, wall: &WallClock, out: &mut Vec<u8>) {
        self.write(wall, out);
        if out.pop_if(|last| *last == b'}').is_some() {
            number(out, "count", count);
            out.push(b'}');
        }
    }

    /// Appends a line that says that a request has shown a key that is known, without a line end. False when it has not, or the
    /// record is of something else.
    pub fn write_authentication(&self, wall: &WallClock, out: &mut Vec<u8>) -> bool {
        let AuditEvent::Request { info, .. } = &self.event else {
            return false;
        };
        if info.key.is_none() {
            return false;
        }
        out.extend_from_slice(b"{\"timestamp\":\"");
        wall.write_rfc3339(info.started, out);
        out.extend_from_slice(
            b"\",\"event\":\"authentication\",\"source\":\"http\",\"request_id\":\"",
        );
        info.exchange.write(out);
        out.push(b'"');
        info.write_asker(out);
        string(out, "outcome", "ok");
        out.push(b'}');
        true
    }

    /// Appends the record as one line of JSON, without a line end.
    pub fn write(&self, wall: &WallClock, out: &mut Vec<u8>) {
        out.extend_from_slice(b"{\"timestamp\":\"");
        wall.write_rfc3339(self.at, out);
        out.extend_from_slice(b"\",\"event\":\"");
        match &self.event {
            AuditEvent::Request {
                info,
                kind,
                session,
                agent_id,
                status,
                outcome,
                duration,
                bytes_out,
                usage,
            } => {
                out.extend_from_slice(kind.as_str().as_bytes());
                out.extend_from_slice(b"\",\"source\":\"http\",\"request_id\":\"");
                info.exchange.write(out);
                out.push(b'"');
                if let Some(session) = session {
                    string(out, "session_id", session.as_str());
                }
                if let Some(agent) = agent_id {
                    string(out, "agent_id", agent);
                }
                info.write_asker(out);
                if let Some(model) = &info.model {
                    string(out, "model", model);
                }
                if let Some(stream) = info.stream {
                    value(out, "stream", if stream { "true" } else { "false" });
                }
                number(out, "status", u64::from(*status));
                string(out, "outcome", outcome);
                number(
                    out,
                    "duration_ms",
                    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX),
                );
                number(out, "bytes_in", info.bytes_in);
                number(out, "bytes_out", *bytes_out);
                if let Some(tokens) = info.estimated_tokens {
                    number(out, "estimated_tokens", tokens);
                }
                if let Some(usage) = usage {
                    number(out, "prompt_tokens", usage.prompt_tokens);
                    number(out, "completion_tokens", usage.completion_tokens);
                }
                if let Some(prompt) = &info.prompt {
                    out.extend_from_slice(b",\"prompt_sha256\":\"");
                    hex(out, prompt);
                    out.push(b'"');
                }
                if let Some((exceeded, retry_after)) = info.exceeded.as_deref() {
                    string(out, "limit", exceeded.limit);
                    number(out, "limit_value", exceeded.value);
                    number(out, "current", exceeded.current);
                    if let Some(seconds) = retry_after {
                        number(out, "retry_after", *seconds);
                    }
                }
                if let Some(check) = info.check {
                    value(out, "flags", &alloc::format!("[\"{check}\"]"));
                }
            }
            AuditEvent::Session {
                session,
                agent_id,
                what,
                status,
                key,
            } => {
                out.extend_from_slice(b"session\",\"source\":\"sessions\"");
                string(out, "session_id", session.as_str());
                string(out, "agent_id", agent_id);
                string(out, "what", what);
                string(out, "status", status);
                if let Some(key) = key {
                    string(out, "key", key);
                }
            }
            AuditEvent::Link {
                link,
                what,
                key,
                dialled,
                bridge,
            } => {
                out.extend_from_slice(b"link\",\"source\":\"agents\"");
                number(out, "link", *link);
                string(out, "what", what);
                if let Some(key) = key {
                    string(out, "key", key);
                }
                string(out, "from", if *dialled { "here" } else { "agent" });
                if let Some(bridge) = bridge {
                    string(out, "bridge", bridge);
                }
            }
        }
        out.push(b'}');
    }
}

/// A value that is JSON already.
fn value(out: &mut Vec<u8>, name: &str, json: &str) {
    out.extend_from_slice(b",\"");
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b"\":");
    out.extend_from_slice(json.as_bytes());
}

/// Each request has one, so that the usual kind does not go through the formatter.
fn address(out: &mut Vec<u8>, address: IpAddr) {
    out.extend_from_slice(b",\"address\":\"");
    match address {
        IpAddr::V4(address) => {
            for (at, octet) in address.octets().into_iter().enumerate() {
                if at > 0 {
                    out.push(b'.');
                }
                out.extend_from_slice(itoa::Buffer::new().format(octet).as_bytes());
            }
        }
        IpAddr::V6(address) => out.extend_from_slice(alloc::format!("{address}").as_bytes()),
    }
    out.push(b'"');
}

fn string(out: &mut Vec<u8>, name: &str, value: &str) {
    out.extend_from_slice(b",\"");
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b"\":\"");
    escape_into(out, value);
    out.push(b'"');
}

fn number(out: &mut Vec<u8>, name: &str, value: u64) {
    out.extend_from_slice(b",\"");
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b"\":");
    out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::id::Ids;
    use alloc::string::String;

    #[test]
    fn a_record_is_one_line_of_json_that_says_who_and_what() {
        let record = AuditRecord {
            at: Instant::from_micros(1_500_000),
            event: AuditEvent::Request {
                info: Box::new(RequestInfo {
                    key: Some("editor".into()),
                    user_agent: Some("Void \"1.4\"".into()),
                    bytes_in: 10,
                    prompt: Some([0xab; 32]),
                    model: Some("m".into()),
                    stream: Some(true),
                    estimated_tokens: Some(30),
                    ..RequestInfo::new(
                        Ids::new(1).next(),
                        Instant::ZERO,
                        [127, 0, 0, 1].into(),
                        "POST /v1/chat/completions",
                    )
                }),
                kind: RequestKind::Answered,
                session: SessionId::new("s-1"),
                agent_id: Some("cursor".into()),
                status: 200,
                outcome: "ok",
                duration: Duration::from_millis(12),
                bytes_out: 99,
                usage: Some(Usage {
                    prompt_tokens: 3,
                    completion_tokens: 4,
                    estimated: false,
                }),
            },
        };
        let mut out = Vec::new();
        record.write(&WallClock::new(Instant::ZERO, Duration::ZERO), &mut out);
        let line = String::from_utf8(out).unwrap();
        assert_eq!(
            line,
            concat!(
                r#"{"timestamp":"1970-01-01T00:00:01.500000Z","event":"request","source":"http","request_id":"00000001000000000001","session_id":"s-1","agent_id":"cursor","#,
                r#""key":"editor","address":"127.0.0.1","user_agent":"Void \"1.4\"","method":"POST","endpoint":"/v1/chat/completions","#,
                r#""model":"m","stream":true,"status":200,"outcome":"ok","duration_ms":12,"bytes_in":10,"bytes_out":99,"estimated_tokens":30,"prompt_tokens":3,"completion_tokens":4,"#,
                r#""prompt_sha256":"abababababababababababababababababababababababababababababababab"}"#,
            )
        );
        serde_json::from_str::<serde::de::IgnoredAny>(&line).unwrap();
        let text = |write: &dyn Fn(&WallClock, &mut Vec<u8>) -> bool| {
            let mut out = Vec::new();
            let is_written = write(&WallClock::new(Instant::ZERO, Duration::ZERO), &mut out);
            is_written.then(|| String::from_utf8(out).unwrap())
        };
        let counted = text(&|wall, out| {
            record.write_counted(7, wall, out);
            true
        });
        let expected = alloc::format!("{},\"count\":7}}", line.strip_suffix('}').unwrap());
        assert_eq!(counted.unwrap(), expected);
        let shown = text(&|wall, out| record.write_authentication(wall, out));
        assert_eq!(
            shown.unwrap(),
            concat!(
                r#"{"timestamp":"1970-01-01T00:00:00.000000Z","event":"authentication","source":"http","request_id":"00000001000000000001","#,
                r#""key":"editor","address":"127.0.0.1","user_agent":"Void \"1.4\"","method":"POST","endpoint":"/v1/chat/completions","outcome":"ok"}"#,
            )
        );
        let AuditEvent::Request { mut info, .. } = record.event else {
            return;
        };
        info.key = None;
        info.endpoint = "not found";
        assert_eq!(info.method_and_endpoint(), (None, "not found"));
        let record = AuditRecord {
            at: record.at,
            event: AuditEvent::Request {
                info,
                kind: RequestKind::Answered,
                session: None,
                agent_id: None,
                status: 404,
                outcome: "not_found",
                duration: Duration::ZERO,
                bytes_out: 0,
                usage: None,
            },
        };
        assert_eq!(
            text(&|wall, out| record.write_authentication(wall, out)),
            None
        );
    }

    #[test]
    fn a_class_has_a_name_for_programs_and_one_for_people() {
        let all = [
            RequestKind::Answered,
            RequestKind::AuthenticationFailed,
            RequestKind::RateLimited,
            RequestKind::Violation,
        ];
        let names: Vec<&str> = all.iter().map(|kind| kind.as_str()).collect();
        assert_eq!(
            names,
            [
                "request",
                "authentication_failed",
                "rate_limit",
                "violation"
            ]
        );
        let titles: Vec<&str> = all.iter().map(|kind| kind.title()).collect();
        assert_eq!(
            titles,
            [
                "answered",
                "refused for its key",
                "refused by a limit",
                "refused by a security check"
            ]
        );
    }
}
