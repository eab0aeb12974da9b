//! Errors of the gateway itself, by their reasons. A server's own error passes untouched.

use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::time::Duration;
use mcp_local_provider_core::error::Code;
use mcp_local_provider_core::rpc::{
    INVALID_PARAMS, INVALID_REQUEST, METHOD_NOT_FOUND, PARSE_ERROR,
};
use mcp_local_provider_core::text::escape_into;

/// `Resource not found`, as the revisions with sessions have it.
const RESOURCE_NOT_FOUND: i64 = -32002;

/// The reasons for which the gateway refuses or fails a request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reason {
    /// The body is not JSON.
    NotJson,
    /// It is no message, or one that may not come here.
    BadRequest,
    /// A parameter is missing or wrong.
    BadParams,
    /// A header of revision 2026-07-28 is missing, or says something else than the body.
    HeaderMismatch,
    /// A client of revision 2026-07-28 has not declared what the request needs of it.
    MissingCapability,
    /// The request is of a revision that is not spoken here.
    UnsupportedVersion,
    /// Revision 2026-07-28 has POST alone.
    MethodNotAllowed,
    /// The socket has no session yet.
    NoSession,
    /// The session is unknown, has ended, or is another key's.
    SessionNotFound,
    /// The key lacks the area of the server.
    ScopeDenied,
    /// No server has this name.
    ServerNotFound,
    /// No server has a tool of this name.
    ToolNotFound,
    /// No server has a prompt of this name.
    PromptNotFound,
    /// No server has a resource with this URI.
    ResourceNotFound,
    /// Nothing of this name can be asked in revision 2026-07-28, or of several servers together.
    MethodNotFound,
    /// Two servers have a tool or prompt of the same name.
    NameClash,
    /// The event to resume from is not kept any more.
    EventGone,
    /// The request does not accept the forms that an answer may have.
    NotAcceptable,
    /// The body is not JSON by its `Content-Type`.
    UnsupportedMediaType,
    /// The client asks too often.
    RateLimited,
    /// The client has as many sessions as it may have, and all are in use.
    SessionsFull,
    /// As many requests are open in the session as may be.
    InFlightFull,
    /// There are as many sessions as there may be.
    GatewayFull,
    /// There are as many processes as there may be, and all are in use.
    ProcessesFull,
    /// The server cannot be started.
    ServerUnavailable,
    /// The server's process ended during the request.
    ServerExited,
    /// The server wrote something that is no message, or too long.
    BadAnswer,
    /// The server did not answer in time.
    Timeout,
}

impl Reason {
    /// Returns the name in `error.data.reason`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NotJson | Self::BadRequest | Self::BadParams => "bad_request",
            Self::HeaderMismatch => "header_mismatch",
            Self::MissingCapability => "missing_capability",
            Self::UnsupportedVersion => "unsupported_version",
            Self::MethodNotAllowed => "method_not_allowed",
            Self::NoSession => "no_session",
            Self::SessionNotFound => "session_not_found",
            Self::ScopeDenied => "scope_denied",
            Self::ServerNotFound => "server_not_found",
            Self::ToolNotFound => "tool_not_found",
            Self::PromptNotFound => "prompt_not_found",
            Self::ResourceNotFound => "resource_not_found",
            Self::MethodNotFound => "method_not_found",
            Self::NameClash => "name_clash",
            Self::EventGone => "event_gone",
            Self::NotAcceptable => "not_acceptable",
            Self::UnsupportedMediaType => "unsupported_media_type",
            Self::RateLimited => "rate_limited",
            Self::SessionsFull => "sessions_full",
            Self::InFlightFull => "in_flight_full",
            Self::GatewayFull => "gateway_full",
            Self::ProcessesFull => "processes_full",
            Self::ServerUnavailable => "server_unavailable",
            Self::ServerExited => "server_exited",
            Self::BadAnswer => "bad_answer",
            Self::Timeout => "timeout",
        }
    }

    /// Returns the HTTP status of a request that is refused for it.
    #[must_use]
    pub const fn status(self) -> u16 {
        match self {
            Self::NotJson
            | Self::BadRequest
            | Self::BadParams
            | Self::NoSession
            | Self::HeaderMismatch
            | Self::MissingCapability
            | Self::UnsupportedVersion
            | Self::EventGone => 400,
            Self::ScopeDenied => 403,
            Self::SessionNotFound
            | Self::ServerNotFound
            | Self::ToolNotFound
            | Self::PromptNotFound
            | Self::ResourceNotFound
            | Self::MethodNotFound => 404,
            Self::MethodNotAllowed => 405,
            Self::NotAcceptable => 406,
            Self::UnsupportedMediaType => 415,
            Self::RateLimited | Self::SessionsFull | Self::InFlightFull => 429,
            Self::ServerExited | Self::BadAnswer | Self::NameClash => 502,
            Self::GatewayFull | Self::ProcessesFull | Self::ServerUnavailable => 503,
            Self::Timeout => 504,
        }
    }

    /// Returns the number of the error. Those of our own lie outside of the range that JSON-RPC reserves.
    #[must_use]
    pub const fn code(self) -> i64 {
        match self {
            Self::NotJson => PARSE_ERROR,
            Self::BadRequest | Self::NoSession | Self::EventGone | Self::MethodNotAllowed => {
                INVALID_REQUEST
            }
            Self::HeaderMismatch => -32020,
            Self::MissingCapability => -32021,
            Self::UnsupportedVersion => -32022,
            Self::MethodNotFound => METHOD_NOT_FOUND,
            Self::BadParams | Self::ServerNotFound | Self::ToolNotFound | Self::PromptNotFound => {
                INVALID_PARAMS
            }
            Self::ResourceNotFound => RESOURCE_NOT_FOUND,
            Self::SessionNotFound
            | Self::ScopeDenied
            | Self::NotAcceptable
            | Self::UnsupportedMediaType
            | Self::RateLimited
            | Self::SessionsFull
            | Self::InFlightFull
            | Self::GatewayFull
            | Self::ProcessesFull
            | Self::ServerUnavailable
            | Self::ServerExited
            | Self::BadAnswer
            | Self::NameClash
            | Self::Timeout => -31000 - (self.status() as i64),
        }
    }

    /// Returns the code under which the request is counted and audited.
    #[must_use]
    pub const fn audited(self) -> Code {
        match self {
            Self::NotJson
            | Self::BadRequest
            | Self::BadParams
            | Self::HeaderMismatch
            | Self::MissingCapability
            | Self::UnsupportedVersion
            | Self::MethodNotAllowed
            | Self::NoSession
            | Self::EventGone
            | Self::NotAcceptable
            | Self::UnsupportedMediaType => Code::InvalidRequest,
            Self::ScopeDenied => Code::ScopeDenied,
            Self::SessionNotFound
            | Self::ServerNotFound
            | Self::ToolNotFound
            | Self::PromptNotFound
            | Self::ResourceNotFound
            | Self::MethodNotFound => Code::NotFound,
            Self::RateLimited | Self::SessionsFull | Self::InFlightFull => Code::RateLimited,
            Self::GatewayFull | Self::ProcessesFull => Code::Overloaded,
            Self::ServerUnavailable => Code::NoAgent,
            Self::ServerExited => Code::AgentLost,
            Self::BadAnswer | Self::NameClash => Code::AgentFault,
            Self::Timeout => Code::AgentTimeout,
        }
    }
}

/// The end of a server's process, for those whose request was open.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Exit {
    /// It could not be started.
    NotStarted,
    /// It exited with this code.
    Code(u8),
    /// This signal ended it.
    Signal(i32),
    /// It closed its standard output, and was killed.
    OutputClosed,
    /// It is a remote server, and the connection to it has ended.
    Disconnected,
}

/// One error of the gateway, with what a caller needs to know.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Refusal {
    /// Its reason.
    pub reason: Reason,
    /// A sentence for people: what was wrong, and what to do.
    pub message: String,
    /// Name of the server that it is about.
    pub server: Option<Arc<str>>,
    /// Time after which another try may succeed.
    pub retry_after: Option<Duration>,
    /// The end of the process, for [`Reason::ServerExited`].
    pub exit: Option<Exit>,
    /// Further members of `error.data`, as JSON without braces.
    pub details: Option<String>,
}

impl Refusal {
    /// Makes an error that is about no server.
    #[must_use]
    pub fn new(reason: Reason, message: impl Into<String>) -> Self {
        Self {
            reason,
            message: message.into(),
            server: None,
            retry_after: None,
            exit: None,
            details: None,
        }
    }

    /// Adds members to `error.data`; `details` is JSON without braces.
    #[must_use]
    pub fn detailed(mut self, details: String) -> Self {
        self.details = Some(details);
        self
    }

    /// Names the server that it is about.
    #[must_use]
    pub fn about(mut self, server: &Arc<str>) -> Self {
        self.server = Some(server.clone());
        self
    }

    /// Tells when another try may succeed.
    #[must_use]
    pub const fn retry_after(mut self, after: Duration) -> Self {
        self.retry_after = Some(after);
        self
    }

    /// Returns the whole seconds of [`Refusal::retry_after`], rounded up.
    #[must_use]
    pub fn retry_after_seconds(&self) -> Option<u64> {
        self.retry_after
            .map(|after| after.as_secs() + u64::from(after.subsec_nanos() > 0))
    }

    /// Appends it as the JSON-RPC answer to the request with this `id`, which is JSON: `null` where no request could be read.
    pub fn write(&self, id: &str, out: &mut Vec<u8>) {
        let mut number = itoa::Buffer::new();
        out.extend_from_slice(b"{\"jsonrpc\":\"2.0\",\"id\":");
        out.extend_from_slice(id.as_bytes());
        out.extend_from_slice(b",\"error\":{\"code\":");
        out.extend_from_slice(number.format(self.reason.code()).as_bytes());
        out.extend_from_slice(b",\"message\":\"");
        escape_into(out, &self.message);
        out.extend_from_slice(b"\",\"data\":{\"reason\":\"");
        out.extend_from_slice(self.reason.as_str().as_bytes());
        out.push(b'"');
        if let Some(server) = &self.server {
            out.extend_from_slice(b",\"server\":\"");
            escape_into(out, server);
            out.push(b'"');
        }
        if let Some(seconds) = self.retry_after_seconds() {
            out.extend_from_slice(b",\"retry_after\":");
            out.extend_from_slice(number.format(seconds).as_bytes());
        }
        if let Some(details) = &self.details {
            out.push(b',');
            out.extend_from_slice(details.as_bytes());
        }
        let exit = match self.exit {
            None | Some(Exit::NotStarted | Exit::OutputClosed | Exit::Disconnected) => None,
            Some(Exit::Code(code)) => Some(("code", i32::from(code))),
            Some(Exit::Signal(signal)) => Some(("signal", signal)),
        };
        if let Some((name, value)) = exit {
            out.extend_from_slice(b",\"exit\":{\"");
            out.extend_from_slice(name.as_bytes());
            out.extend_from_slice(b"\":");
            out.extend_from_slice(number.format(value).as_bytes());
            out.push(b'}');
        }
        out.extend_from_slice(b"}}}");
    }

    /// Returns it as the JSON-RPC answer to the request with this `id`.
    #[must_use]
    pub fn answer(&self, id: &str) -> String {
        let mut out = Vec::new();
        self.write(id, &mut out);
        // What was written is UTF-8.
        String::from_utf8(out).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_says_its_reason_its_server_and_when_to_come_back() {
        let mut refusal = Refusal::new(Reason::ServerExited, "it \"ended\"")
            .about(&"files".into())
            .retry_after(Duration::from_millis(1500));
        refusal.exit = Some(Exit::Signal(9));
        assert_eq!(
            refusal.answer("\"a\""),
            r#"{"jsonrpc":"2.0","id":"a","error":{"code":-31502,"message":"it \"ended\"","data":{"reason":"server_exited","server":"files","retry_after":2,"exit":{"signal":9}}}}"#
        );
        assert_eq!(
            Refusal::new(Reason::NotJson, "x").answer("null"),
            r#"{"jsonrpc":"2.0","id":null,"error":{"code":-32700,"message":"x","data":{"reason":"bad_request"}}}"#
        );
    }
}
