//! Errors of the registry, as its REST answers show them.

use crate::json::quoted;
use mcp_local_provider_core::error::{Code, Refusal};
use std::fmt;

/// One value that a JSON Schema refuses.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Mismatch {
    /// The place of the value, as a JSON pointer (RFC 6901); empty for the whole.
    pub path: String,
    /// A sentence for people.
    pub message: String,
}

/// A request that is refused, or a run that failed without a result.
#[derive(Clone, PartialEq, Eq)]
pub struct Failure {
    /// HTTP status.
    pub status: u16,
    /// The code under which the request is counted and audited.
    pub code: Code,
    /// `error.code`; `None` for what is wrong in a body and has no name of its own.
    pub reason: Option<&'static str>,
    /// A sentence for people: what was wrong, and what to do.
    pub message: String,
    /// The field that is wrong, such as `steps[1].tool`.
    pub param: Option<String>,
    /// The values that a schema refuses.
    pub errors: Vec<Mismatch>,
    /// `Retry-After` in seconds.
    pub retry_after: Option<u64>,
}

impl fmt::Debug for Failure {
    /// Without the message, which may quote what a client wrote.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Failure")
            .field("status", &self.status)
            .field("reason", &self.reason)
            .field("param", &self.param)
            .finish_non_exhaustive()
    }
}

impl Failure {
    fn new(status: u16, code: Code, reason: Option<&'static str>, message: String) -> Self {
        Self {
            status,
            code,
            reason,
            message,
            param: None,
            errors: Vec::new(),
            retry_after: None,
        }
    }

    /// Something in the request that is wrong: 400.
    #[must_use]
    pub fn wrong(message: impl Into<String>) -> Self {
        Self::new(400, Code::InvalidRequest, None, message.into())
    }

    /// A field that is wrong: 400.
    #[must_use]
    pub fn wrong_at(param: impl Into<String>, message: impl Into<String>) -> Self {
        Self::wrong(message).at(param)
    }

    /// Names the field.
    #[must_use]
    pub fn at(mut self, param: impl Into<String>) -> Self {
        self.param = Some(param.into());
        self
    }

    /// Puts a place before the field, such as `[1]` for the second of several.
    #[must_use]
    pub(crate) fn within(mut self, place: &str) -> Self {
        self.param = Some(match self.param.take() {
            Some(param) => format!("{place}.{param}"),
            None => place.to_owned(),
        });
        self
    }

    /// Nothing has this name: 404.
    #[must_use]
    pub fn not_found(reason: &'static str, message: impl Into<String>) -> Self {
        Self::new(404, Code::NotFound, Some(reason), message.into())
    }

    /// It exists, or is in use: 409.
    #[must_use]
    pub fn conflict(message: impl Into<String>) -> Self {
        Self::new(409, Code::Conflict, Some("conflict"), message.into())
    }

    /// It is switched off: 409.
    #[must_use]
    pub fn disabled(message: impl Into<String>) -> Self {
        Self::new(409, Code::Disabled, Some("disabled"), message.into())
    }

    /// It is larger than may be: 413.
    #[must_use]
    pub fn too_large(message: impl Into<String>) -> Self {
        Self::new(413, Code::TooLarge, Code::TooLarge.name(), message.into())
    }

    /// There are as many as there may be: 503.
    #[must_use]
    pub fn full(message: impl Into<String>) -> Self {
        Self::new(503, Code::Overloaded, Some("registry_full"), message.into())
    }

    /// As many runs are open as may be: 503.
    #[must_use]
    pub fn overloaded(message: impl Into<String>) -> Self {
        let mut failure = Self::new(503, Code::Overloaded, Some("overloaded"), message.into());
        failure.retry_after = Some(1);
        failure
    }

    /// The store did not keep the change: 503.
    #[must_use]
    pub fn not_stored(message: impl Into<String>) -> Self {
        Self::new(503, Code::Overloaded, Some("store_failed"), message.into())
    }

    /// Arguments that the schema refuses: 400.
    #[must_use]
    pub fn arguments(errors: Vec<Mismatch>) -> Self {
        let message = match errors.as_slice() {
            [only] => format!("the arguments are wrong: {}", only.message),
            several => format!("the arguments are wrong in {} places", several.len()),
        };
        let mut failure = Self::new(
            400,
            Code::InvalidRequest,
            Some("invalid_arguments"),
            message,
        );
        failure.param = Some("arguments".to_owned());
        failure.errors = errors;
        failure
    }

    /// A template used up its fuel or its output: 400.
    #[must_use]
    pub fn template_limit(message: impl Into<String>) -> Self {
        Self::new(
            400,
            Code::InvalidRequest,
            Some("template_limit"),
            message.into(),
        )
    }

    /// It took too long: 504.
    #[must_use]
    pub fn timeout(message: impl Into<String>) -> Self {
        Self::new(504, Code::AgentTimeout, Some("timeout"), message.into())
    }

    /// An answer that is too large, or is none: 502.
    #[must_use]
    pub fn bad_answer(message: impl Into<String>) -> Self {
        Self::new(502, Code::AgentFault, Some("bad_answer"), message.into())
    }

    /// The caller cancelled it, or left.
    #[must_use]
    pub fn cancelled() -> Self {
        let message = "the run was cancelled".to_owned();
        Self::new(409, Code::Conflict, Some("cancelled"), message)
    }

    /// A part that this build does not have: 501.
    #[must_use]
    pub fn not_in_build(message: impl Into<String>) -> Self {
        Self::new(
            400,
            Code::NotImplemented,
            Some("not_implemented"),
            message.into(),
        )
    }

    /// What a refusal of a model's request is here.
    #[must_use]
    pub fn of(refusal: &Refusal) -> Self {
        let code = refusal.code();
        let mut failure = Self::new(code.status(), code, code.name(), refusal.message().into());
        failure.param = refusal.param().map(str::to_owned);
        failure.retry_after = refusal.retry_after_seconds();
        failure
    }

    /// True when nothing of that name was found.
    #[must_use]
    pub const fn is_not_found(&self) -> bool {
        self.status == 404
    }

    /// Appends `{"error":{"message","type","param","code","errors"?}}`.
    pub fn write(&self, out: &mut String) {
        out.push_str("{\"error\":{\"message\":");
        out.push_str(&quoted(&self.message));
        out.push_str(",\"type\":");
        out.push_str(&quoted(self.code.kind()));
        out.push_str(",\"param\":");
        let or_null = |text: Option<&str>| text.map_or_else(|| "null".to_owned(), quoted);
        out.push_str(&or_null(self.param.as_deref()));
        out.push_str(",\"code\":");
        out.push_str(&or_null(self.reason));
        if !self.errors.is_empty() {
            out.push_str(",\"errors\":[");
            for (at, error) in self.errors.iter().enumerate() {
                if at > 0 {
                    out.push(',');
                }
                out.push_str("{\"path\":");
                out.push_str(&quoted(&error.path));
                out.push_str(",\"message\":");
                out.push_str(&quoted(&error.message));
                out.push('}');
            }
            out.push(']');
        }
        out.push_str("}}");
    }
}
