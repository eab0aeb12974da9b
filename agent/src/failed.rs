//! Answers that failed.

use mcp_local_provider_core::{Code, Failure};
use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

/// An answer that failed: the kind decides the HTTP status that the client gets, and the message is shown to the person.
///
/// Any error becomes one of the kind `internal` by `?`.
#[derive(Clone, PartialEq, Eq)]
pub struct Failed {
    code: Code,
    message: String,
    retry_after: Option<Duration>,
}

impl Failed {
    const fn of(code: Code, message: String) -> Self {
        Self {
            code,
            message,
            retry_after: None,
        }
    }

    /// A limit is used up; it may work again after `wait` (429).
    pub fn rate_limited(message: impl Into<String>, wait: Option<Duration>) -> Self {
        Self {
            retry_after: wait,
            ..Self::of(Code::RateLimited, message.into())
        }
    }

    /// The agent is busy (503).
    pub fn overloaded(message: impl Into<String>) -> Self {
        Self::of(Code::Overloaded, message.into())
    }

    /// The prompt is longer than the model's context (400).
    pub fn context_length(message: impl Into<String>) -> Self {
        Self::of(Code::ContextLength, message.into())
    }

    /// The request is one that the agent does not take (400).
    pub fn invalid_request(message: impl Into<String>) -> Self {
        Self::of(Code::InvalidRequest, message.into())
    }

    /// The model refuses to answer: the client gets an answer that ends with `content_filter`.
    pub fn refused(message: impl Into<String>) -> Self {
        Self::of(Code::AgentRefused, message.into())
    }

    /// The agent ran out of time (504).
    pub fn timeout(message: impl Into<String>) -> Self {
        Self::of(Code::AgentTimeout, message.into())
    }

    /// Anything else (502).
    pub fn internal(message: impl Into<String>) -> Self {
        Self::of(Code::AgentError, message.into())
    }

    pub(crate) fn failure(&self) -> Failure<'_> {
        Failure {
            code: self.code,
            message: Cow::Borrowed(&self.message),
            retry_after: self.retry_after,
        }
    }
}

impl fmt::Debug for Failed {
    /// Without the message, which may quote the prompt.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Failed({:?})", self.code)
    }
}

impl<E: std::error::Error> From<E> for Failed {
    fn from(error: E) -> Self {
        Self::internal(error.to_string())
    }
}
