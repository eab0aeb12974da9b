//! Errors of REST: of the gateway by its reasons, of a server by its number.

use crate::refusal::{Reason, Refusal};
use alloc::borrow::ToOwned;
use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use mcp_local_provider_core::error::Code;
use mcp_local_provider_core::rpc::{
    INVALID_PARAMS, INVALID_REQUEST, METHOD_NOT_FOUND, Message, PARSE_ERROR, RpcError,
};
use mcp_local_provider_core::text::{JsonValue, escape_into};

/// `Resource not found`, of revisions until 2025-11-25.
const RESOURCE_NOT_FOUND: i64 = -32002;

/// `error.code` of a server's own error.
const SERVERS: &str = "server_error";

/// Reasons of errors that the gateway gives in the place of a server's answer.
const IN_ANSWERS: [Reason; 11] = [
    Reason::SessionNotFound,
    Reason::ToolNotFound,
    Reason::PromptNotFound,
    Reason::ResourceNotFound,
    Reason::NameClash,
    Reason::GatewayFull,
    Reason::ProcessesFull,
    Reason::ServerUnavailable,
    Reason::ServerExited,
    Reason::BadAnswer,
    Reason::Timeout,
];

/// One error, before it is written.
#[derive(Clone, PartialEq, Eq)]
pub struct Failure {
    /// HTTP status.
    pub status: u16,
    /// The code under which the request is counted and audited.
    pub code: Code,
    /// `Retry-After` in seconds.
    pub retry_after: Option<u64>,
    /// `error.code`.
    reason: &'static str,
    message: String,
    /// The field that is wrong.
    param: Option<&'static str>,
    /// `error.data`, as JSON.
    data: Option<Box<str>>,
}

impl fmt::Debug for Failure {
    /// Without what a server wrote.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Failure")
            .field("status", &self.status)
            .field("reason", &self.reason)
            .field("param", &self.param)
            .finish_non_exhaustive()
    }
}

impl From<Refusal> for Failure {
    /// The same, with the members that a JSON-RPC error has in `data`, where it says more than its reason.
    fn from(refusal: Refusal) -> Self {
        let answer = refusal.answer("null");
        let data = JsonValue::read(&answer).and_then(|answer| answer.path(&["error", "data"]));
        let says_more = refusal.server.is_some() || refusal.exit.is_some();
        Self {
            status: refusal.reason.status(),
            code: refusal.reason.audited(),
            retry_after: refusal.retry_after_seconds(),
            reason: refusal.reason.as_str(),
            param: None,
            data: data.filter(|_| says_more).map(|data| data.get().into()),
            message: refusal.message,
        }
    }
}

impl Failure {
    /// A request whose body is wrong, and the field that is.
    #[must_use]
    pub fn wrong(message: impl Into<String>, param: Option<&'static str>) -> Self {
        Self {
            param,
            ..Self::from(Refusal::new(Reason::BadParams, message))
        }
    }

    /// A request without a field that it needs.
    #[must_use]
    pub fn missing(field: &'static str) -> Self {
        Self::wrong(format!("the field `{field}` is missing"), Some(field))
    }

    /// A server's answer that is no result of what it was asked.
    #[must_use]
    pub fn bad_answer(why: &str) -> Self {
        Self::from(Refusal::new(Reason::BadAnswer, why))
    }

    /// An error in an answer: the gateway's own, or the server's, which keeps message and data.
    #[must_use]
    pub fn told(error: &RpcError<'_>) -> Self {
        let data = error.data;
        let named = data.and_then(|data| data.member("reason")?.text());
        let own = IN_ANSWERS.into_iter().find(|reason| {
            reason.code() == error.code && named.as_deref() == Some(reason.as_str())
        });
        let (status, code, reason) = match own {
            Some(own) => (own.status(), own.audited(), own.as_str()),
            None => {
                let (status, code) = match error.code {
                    PARSE_ERROR | INVALID_REQUEST => (400, Code::InvalidRequest),
                    METHOD_NOT_FOUND | RESOURCE_NOT_FOUND => (404, Code::NotFound),
                    INVALID_PARAMS => (422, Code::InvalidRequest),
                    _ => (500, Code::AgentError),
                };
                (status, code, SERVERS)
            }
        };
        let retry_after = data.filter(|_| own.is_some());
        Self {
            status,
            code,
            retry_after: retry_after.and_then(|data| data.member("retry_after")?.whole()),
            reason,
            message: error.message.decode().into_owned(),
            param: None,
            data: data.map(|data| data.get().into()),
        }
    }

    /// True for a server's own error that finds something wrong with the parameters: a name that it does not have, or another one.
    pub(super) fn is_of_parameters(&self) -> bool {
        self.status == 422 && self.reason == SERVERS
    }

    /// A tool's result that says by `isError` that it failed, for those who want the result alone.
    #[must_use]
    pub fn of_tool(message: String) -> Self {
        Self {
            status: 500,
            code: Code::AgentError,
            retry_after: None,
            reason: SERVERS,
            message,
            param: None,
            data: None,
        }
    }

    /// Appends `{"error":{"message","type","param","code","data"?}}`.
    pub fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"{\"error\":{\"message\":\"");
        escape_into(out, &self.message);
        out.extend_from_slice(b"\",\"type\":\"");
        out.extend_from_slice(self.code.kind().as_bytes());
        out.extend_from_slice(b"\",\"param\":");
        match self.param {
            Some(param) => {
                out.push(b'"');
                escape_into(out, param);
                out.push(b'"');
            }
            None => out.extend_from_slice(b"null"),
        }
        out.extend_from_slice(b",\"code\":\"");
        out.extend_from_slice(self.reason.as_bytes());
        out.push(b'"');
        self.write_data(out);
        out.extend_from_slice(b"}}");
    }

    /// Appends `{"detail":{"message","data"?}}`, as mcpo has it.
    pub fn write_detail(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"{\"detail\":{\"message\":\"");
        escape_into(out, &self.message);
        out.push(b'"');
        self.write_data(out);
        out.extend_from_slice(b"}}");
    }

    fn write_data(&self, out: &mut Vec<u8>) {
        if let Some(data) = &self.data {
            out.extend_from_slice(b",\"data\":");
            out.extend_from_slice(data.as_bytes());
        }
    }
}

/// Reads the result of an answer.
///
/// # Errors
/// The answer is an error, or none at all.
pub(super) fn result(answer: &str) -> Result<JsonValue<'_>, Failure> {
    match Message::read(answer) {
        Ok(Message::Response {
            outcome: Ok(Some(result)),
            ..
        }) => Ok(result),
        Ok(Message::Response {
            outcome: Err(error),
            ..
        }) => Err(Failure::told(&error)),
        Ok(
            Message::Response {
                outcome: Ok(None), ..
            }
            | Message::Request { .. }
            | Message::Notification(_),
        )
        | Err(_) => Err(Failure::bad_answer("the server's answer has no result")),
    }
}

/// Text as a JSON string.
pub(super) fn quoted(text: &str) -> String {
    let mut out = Vec::with_capacity(text.len() + 2);
    out.push(b'"');
    escape_into(&mut out, text);
    out.push(b'"');
    // What was written is UTF-8.
    String::from_utf8(out).unwrap_or_else(|_| "\"\"".to_owned())
}

/// Reads the answer to the `initialize` that opens a session.
///
/// # Errors
/// The server is not ready.
pub fn opened(answer: &str) -> Result<(), Failure> {
    result(answer).map(|_| ())
}
