//! What failed before the first step of a server's answer: for the decision to ask again or elsewhere, and for the client.

use crate::error::{Code, Refusal};
use crate::invocation::Failure;
use crate::text::JsonValue;
use alloc::borrow::Cow;
use alloc::format;
use alloc::string::String;
use core::time::Duration;

/// Whose fault it is, and whether another attempt may go better.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Fault {
    /// The connection was refused, reset or closed, or its name or certificate was wrong.
    Connection,
    /// The server did not answer in time, or 504: whom it asked itself did not.
    Timeout,
    /// 408, 5xx but 503, 504 and 529, and an error that the server reports in an answer that began with 200.
    Server,
    /// 503, 529.
    Overloaded,
    /// 429.
    Limited,
    /// This program has no memory left for the call (`limits.memory`).
    Memory,
    /// 401, 402, 403: the server refuses the key of this program, not the client's.
    Key,
    /// 404: the server does not know the model, or the address is wrong.
    Model,
    /// 508: the server leads back to where the request came from.
    Loop,
    /// 413.
    TooLarge,
    /// 400 of a prompt that the model's context does not hold.
    ContextLength,
    /// 400, 422 and every other 4xx: the server does not take the request.
    Request,
    /// The server said something that is no answer of its API: a redirect, an HTML page, an encoding, damaged JSON, an answer
    /// that ends too early.
    Protocol,
}

/// A call of a server that failed before the first step of its answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Trouble {
    /// Kind of the failure.
    pub fault: Fault,
    /// Status of the response; `None` when there was none.
    pub status: Option<u16>,
    /// Time after which the server wants to be asked again.
    pub retry_after: Option<Duration>,
    /// For the person, cut to [`Trouble::MESSAGE`] bytes. It may quote the server, so the caller takes the key out of it.
    pub message: String,
    /// Field of the request that the server names.
    pub param: Option<String>,
}

impl Trouble {
    /// Longest message, in bytes.
    pub const MESSAGE: usize = 2048;

    /// A failure without a response.
    #[must_use]
    pub fn new(fault: Fault, message: impl Into<String>) -> Self {
        let mut message = message.into();
        if message.len() > Self::MESSAGE {
            let mut end = Self::MESSAGE;
            while !message.is_char_boundary(end) {
                end -= 1;
            }
            message.truncate(end);
        }
        Self {
            fault,
            status: None,
            retry_after: None,
            message,
            param: None,
        }
    }

    /// True when the same server may be asked again (connection errors, time-outs, 429, 5xx, 529).
    #[must_use]
    pub const fn is_transient(&self) -> bool {
        match self.fault {
            Fault::Connection
            | Fault::Timeout
            | Fault::Server
            | Fault::Overloaded
            | Fault::Limited
            | Fault::Memory => true,
            Fault::Key
            | Fault::Model
            | Fault::Loop
            | Fault::TooLarge
            | Fault::ContextLength
            | Fault::Request
            | Fault::Protocol => false,
        }
    }

    /// True when the server is to blame for not working, which opens its circuit (connection errors, time-outs, 5xx, 529).
    #[must_use]
    pub const fn is_outage(&self) -> bool {
        self.is_transient() && !matches!(self.fault, Fault::Limited | Fault::Memory)
    }

    /// True when the client's request is at fault: no other server is asked.
    #[must_use]
    pub const fn is_of_client(&self) -> bool {
        matches!(
            self.fault,
            Fault::Request | Fault::TooLarge | Fault::ContextLength
        )
    }

    /// The error's kind for the client.
    #[must_use]
    pub const fn code(&self) -> Code {
        match self.fault {
            Fault::Connection => Code::AgentLost,
            Fault::Timeout => Code::AgentTimeout,
            Fault::Server | Fault::Key => Code::AgentError,
            Fault::Overloaded | Fault::Memory => Code::Overloaded,
            Fault::Limited => Code::RateLimited,
            Fault::Model => Code::ModelNotFound,
            Fault::Loop => Code::LoopDetected,
            Fault::TooLarge => Code::TooLarge,
            Fault::ContextLength => Code::ContextLength,
            Fault::Request => Code::InvalidRequest,
            Fault::Protocol => Code::AgentFault,
        }
    }

    /// What the client is told. `upstream` is the server's name in the configuration.
    #[must_use]
    pub fn refusal(&self, upstream: &str) -> Refusal {
        let mut refusal = Refusal::new(self.code(), self.told(upstream));
        if let Some(after) = self.retry_after {
            refusal = refusal.retry_after(after);
        }
        if let Some(param) = self.param.as_ref().filter(|_| self.is_of_client()) {
            refusal = refusal.at(param.clone());
        }
        refusal
    }

    /// The same as the end of an exchange.
    #[must_use]
    pub fn failure(&self, upstream: &str) -> Failure<'static> {
        Failure {
            code: self.code(),
            message: self.told(upstream).into(),
            retry_after: self.retry_after,
        }
    }

    /// The same as the end of an answer that has begun, in the server's own words.
    pub(super) fn into_failure(self) -> Failure<'static> {
        Failure {
            code: self.code(),
            message: self.message.into(),
            retry_after: self.retry_after,
        }
    }

    /// The failure that a server reports: the body of a response with an error status. `body` may be cut.
    pub(super) fn of_response(status: u16, retry_after: Option<Duration>, body: &[u8]) -> Self {
        let text = core::str::from_utf8(body).unwrap_or_default().trim();
        let report = JsonValue::read(text).map(Report::of).unwrap_or_default();
        let said = match report.message.is_empty() {
            // A page is of no help; a line of text may be.
            true if text.starts_with(['<', '{', '[']) => "",
            true => text,
            false => &report.message,
        };
        let message = match said {
            "" => format!("status {status}"),
            said => format!("status {status}: {said}"),
        };
        let fault = match status {
            401..=403 => Fault::Key,
            404 => Fault::Model,
            408 => Fault::Server,
            413 => Fault::TooLarge,
            508 => Fault::Loop,
            429 => Fault::Limited,
            503 | 529 => Fault::Overloaded,
            504 => Fault::Timeout,
            400..500 if report.is_too_long() => Fault::ContextLength,
            400..500 => Fault::Request,
            500..600 => Fault::Server,
            _ => Fault::Protocol,
        };
        let mut trouble = Self::new(fault, message);
        trouble.status = Some(status);
        trouble.retry_after = retry_after;
        trouble.param = report.param.filter(|param| param.len() <= 256);
        trouble
    }

    /// The failure that a server reports within an answer that began well: the value of `error`.
    pub(super) fn reported(error: JsonValue<'_>) -> Self {
        let report = Report::of(error);
        let fault = match &*report.kind {
            _ if report.is_too_long() => Fault::ContextLength,
            "overloaded_error" => Fault::Overloaded,
            "rate_limit_error" | "rate_limit_exceeded" | "insufficient_quota" => Fault::Limited,
            "authentication_error" | "permission_error" | "billing_error" => Fault::Key,
            "not_found_error" => Fault::Model,
            "request_too_large" => Fault::TooLarge,
            "timeout_error" => Fault::Timeout,
            "invalid_request_error" => Fault::Request,
            _ => match report.code.parse() {
                Ok(429_u16) => Fault::Limited,
                Ok(503 | 529) => Fault::Overloaded,
                Ok(401..=403) => Fault::Key,
                Ok(400..500) => Fault::Request,
                _ => Fault::Server,
            },
        };
        Self::new(
            fault,
            match &*report.message {
                "" => "the server reports an error",
                message => message,
            },
        )
    }

    pub(super) fn not_json() -> Self {
        Self::new(Fault::Protocol, "the answer is not the JSON of its API")
    }

    pub(super) fn no_vector() -> Self {
        Self::new(
            Fault::Protocol,
            "the answer has a vector that is no list of numbers",
        )
    }

    pub(super) fn no_models() -> Self {
        Self::new(Fault::Protocol, "the answer is no list of models")
    }

    pub(super) fn too_early() -> Self {
        Self::new(Fault::Protocol, "the answer ended before it was complete")
    }

    fn told(&self, upstream: &str) -> String {
        let message = &self.message;
        match self.fault {
            Fault::Key => format!("upstream {upstream} refuses its key: {message}"),
            Fault::Memory => format!("upstream {upstream} was not asked: {message}"),
            Fault::Connection
            | Fault::Timeout
            | Fault::Server
            | Fault::Overloaded
            | Fault::Limited
            | Fault::Model
            | Fault::Loop
            | Fault::TooLarge
            | Fault::ContextLength
            | Fault::Request
            | Fault::Protocol => format!("upstream {upstream}: {message}"),
        }
    }
}

/// An error as servers write it.
#[derive(Default)]
struct Report {
    message: String,
    /// OpenAI's and Anthropic's `type`.
    kind: String,
    /// A name or a status.
    code: String,
    param: Option<String>,
}

impl Report {
    /// Reads a body, or the value of its `error`: OpenAI's and Anthropic's object, Ollama's text, and what servers of OpenAI's API write.
    fn of(value: JsonValue<'_>) -> Self {
        if let Some(error) = value.member("error").filter(|error| !error.is_null()) {
            return Self::of(error);
        }
        if let Some(text) = value.text() {
            return Self {
                message: text.into_owned(),
                ..Self::default()
            };
        }
        let text = |name| {
            let text = value.member(name).and_then(JsonValue::text);
            text.map(Cow::into_owned)
        };
        let code = value.member("code").filter(|code| !code.is_null());
        Self {
            message: text("message")
                .or_else(|| text("detail"))
                .unwrap_or_default(),
            kind: text("type").unwrap_or_default(),
            code: text("code")
                .or_else(|| code.map(|code| code.get().into()))
                .unwrap_or_default(),
            param: text("param"),
        }
    }

    /// True when the prompt does not fit into the model's context, for which each server has words of its own.
    fn is_too_long(&self) -> bool {
        const WORDS: [&str; 4] = [
            "prompt is too long",
            "maximum context length",
            "context length exceeded",
            "exceeds the available context size",
        ];
        self.code == "context_length_exceeded"
            || WORDS.iter().any(|words| self.message.contains(words))
    }
}
