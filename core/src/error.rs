//! Errors, split by whose fault they are, with what goes on the wire.

use crate::id::ExchangeId;
use alloc::borrow::Cow;
use alloc::boxed::Box;
use core::fmt;
use core::time::Duration;

/// Kinds of errors, as the tables of the agent protocol and of the client APIs name them.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum Code {
    /// The request is malformed or a field is wrong.
    InvalidRequest,
    /// The prompt is longer than the model's context.
    ContextLength,
    /// A body or a part of it is over a limit.
    TooLarge,
    /// The client took too long to send its request.
    RequestTimeout,
    /// No key, or none that is known.
    InvalidKey,
    /// The key's role does not allow this.
    RoleDenied,
    /// The session's scopes do not allow this.
    ScopeDenied,
    /// A browser page from elsewhere, or a host name that is not ours.
    OriginDenied,
    /// A session that is revoked, suspended or expired.
    SessionDenied,
    /// No such model.
    ModelNotFound,
    /// No such session, or none that can be used.
    SessionNotFound,
    /// No such response to continue from, or none that is kept.
    ResponseNotFound,
    /// No such route or object.
    NotFound,
    /// The route exists, the method does not.
    MethodNotAllowed,
    /// The object's state forbids this.
    Conflict,
    /// It is switched off.
    Disabled,
    /// A limit of requests or tokens.
    RateLimited,
    /// No agent is connected that could answer.
    NoAgent,
    /// All capacity is in use.
    Overloaded,
    /// The program is shutting down.
    Draining,
    /// The agent's connection was lost.
    AgentLost,
    /// The agent broke the protocol.
    AgentFault,
    /// The agent reported an error.
    AgentError,
    /// The agent did not answer in time.
    AgentTimeout,
    /// The agent refused to answer; clients see an answer that ends with `content_filter`.
    AgentRefused,
    /// The client did not read fast enough and its budget is used up.
    SlowClient,
    /// The answer is over `limits.answer_bytes`.
    AnswerTooLarge,
    /// The session ended while it was answering.
    SessionEnded,
    /// The request has been here before: upstreams lead back to this program.
    LoopDetected,
    /// A feature that this program does not have.
    NotImplemented,
    /// A fault of this program.
    Internal,
}

impl Code {
    /// The kind of an error that this program has answered itself, by the status and `error.code`.
    #[must_use]
    pub fn of_answer(status: u16, name: Option<&str>) -> Self {
        /// Those whose names and statuses a request to a model may meet.
        const MET: [Code; 22] = [
            Code::ContextLength,
            Code::TooLarge,
            Code::InvalidKey,
            Code::RoleDenied,
            Code::ScopeDenied,
            Code::ModelNotFound,
            Code::SessionNotFound,
            Code::Disabled,
            Code::RateLimited,
            Code::NoAgent,
            Code::Overloaded,
            Code::Draining,
            Code::AgentLost,
            Code::AgentFault,
            Code::AgentError,
            Code::AgentTimeout,
            Code::SlowClient,
            Code::AnswerTooLarge,
            Code::SessionEnded,
            Code::LoopDetected,
            Code::NotImplemented,
            Code::Internal,
        ];
        let named = name.and_then(|name| MET.into_iter().find(|it| it.name() == Some(name)));
        named.unwrap_or(match status {
            400..500 => Self::InvalidRequest,
            _ => Self::AgentError,
        })
    }

    /// HTTP status (RFC 9110).
    #[must_use]
    pub const fn status(self) -> u16 {
        match self {
            Self::InvalidRequest | Self::ContextLength => 400,
            Self::InvalidKey => 401,
            Self::RoleDenied | Self::ScopeDenied | Self::OriginDenied | Self::SessionDenied => 403,
            Self::ModelNotFound
            | Self::SessionNotFound
            | Self::ResponseNotFound
            | Self::NotFound => 404,
            Self::MethodNotAllowed => 405,
            Self::RequestTimeout => 408,
            Self::Conflict | Self::Disabled => 409,
            Self::TooLarge => 413,
            Self::RateLimited => 429,
            Self::Internal => 500,
            Self::NotImplemented => 501,
            Self::LoopDetected => 508,
            Self::AgentLost
            | Self::AgentFault
            | Self::AgentError
            | Self::AnswerTooLarge
            | Self::SessionEnded => 502,
            Self::NoAgent | Self::Overloaded | Self::Draining | Self::SlowClient => 503,
            Self::AgentTimeout => 504,
            Self::AgentRefused => 200,
        }
    }

    /// OpenAI's `error.type`.
    #[must_use]
    pub const fn kind(self) -> &'static str {
        match self {
            Self::InvalidKey => "authentication_error",
            Self::RoleDenied | Self::ScopeDenied | Self::OriginDenied | Self::SessionDenied => {
                "permission_error"
            }
            Self::RateLimited => "rate_limit_error",
            Self::InvalidRequest
            | Self::ContextLength
            | Self::TooLarge
            | Self::RequestTimeout
            | Self::ModelNotFound
            | Self::SessionNotFound
            | Self::ResponseNotFound
            | Self::NotFound
            | Self::MethodNotAllowed
            | Self::Conflict
            | Self::Disabled
            | Self::LoopDetected => "invalid_request_error",
            Self::NoAgent
            | Self::Overloaded
            | Self::Draining
            | Self::AgentLost
            | Self::AgentFault
            | Self::AgentError
            | Self::AgentTimeout
            | Self::AgentRefused
            | Self::SlowClient
            | Self::AnswerTooLarge
            | Self::SessionEnded
            | Self::NotImplemented
            | Self::Internal => "server_error",
        }
    }

    /// OpenAI's `error.code`.
    #[must_use]
    pub const fn name(self) -> Option<&'static str> {
        Some(match self {
            Self::InvalidRequest => return None,
            Self::ContextLength => "context_length_exceeded",
            Self::TooLarge => "request_too_large",
            Self::RequestTimeout => "request_timeout",
            Self::InvalidKey => "invalid_api_key",
            Self::RoleDenied => "role_denied",
            Self::ScopeDenied => "scope_denied",
            Self::OriginDenied => "origin_denied",
            Self::SessionDenied => "session_denied",
            Self::ModelNotFound => "model_not_found",
            Self::SessionNotFound => "session_not_found",
            Self::ResponseNotFound => "previous_response_not_found",
            Self::NotFound => "not_found",
            Self::MethodNotAllowed => "method_not_allowed",
            Self::Conflict => "conflict",
            Self::Disabled => "disabled",
            Self::RateLimited => "rate_limit_exceeded",
            Self::NoAgent => "no_agent",
            Self::Overloaded => "overloaded",
            Self::Draining => "draining",
            Self::AgentLost => "agent_lost",
            Self::AgentFault => "agent_fault",
            Self::AgentError => "agent_error",
            Self::AgentTimeout => "agent_timeout",
            Self::AgentRefused => "content_filter",
            Self::SlowClient => "slow_client",
            Self::AnswerTooLarge => "answer_too_large",
            Self::SessionEnded => "session_ended",
            Self::LoopDetected => "loop_detected",
            Self::NotImplemented => "not_implemented",
            Self::Internal => "internal",
        })
    }

    /// The reason of an error of the MCP gateway, `error.data.reason`.
    #[must_use]
    pub fn gateway_reason(self) -> &'static str {
        match (self.status(), self.name()) {
            (401, _) => "unauthorized",
            (403, Some("origin_denied")) => "forbidden",
            (403, _) => "scope_denied",
            (413, _) => "too_large",
            (429, _) => "rate_limited",
            (_, Some(name)) => name,
            (_, None) => "bad_request",
        }
    }

    /// Anthropic's `error.type`.
    #[must_use]
    pub const fn anthropic_kind(self) -> &'static str {
        match self {
            Self::InvalidKey => "authentication_error",
            Self::RoleDenied
            | Self::ScopeDenied
            | Self::OriginDenied
            | Self::SessionDenied
            | Self::AgentRefused => "permission_error",
            Self::RateLimited => "rate_limit_error",
            Self::TooLarge => "request_too_large",
            Self::Overloaded | Self::Draining => "overloaded_error",
            Self::AgentTimeout => "timeout_error",
            Self::ModelNotFound
            | Self::SessionNotFound
            | Self::ResponseNotFound
            | Self::NotFound => "not_found_error",
            Self::InvalidRequest
            | Self::ContextLength
            | Self::RequestTimeout
            | Self::MethodNotAllowed
            | Self::Conflict
            | Self::Disabled
            | Self::LoopDetected => "invalid_request_error",
            Self::NoAgent
            | Self::AgentLost
            | Self::AgentFault
            | Self::AgentError
            | Self::SlowClient
            | Self::AnswerTooLarge
            | Self::SessionEnded
            | Self::NotImplemented
            | Self::Internal => "api_error",
        }
    }
}

/// Remaining limits of a key, for `x-ratelimit-*`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// Requests that a full bucket holds.
    pub limit_requests: u64,
    /// Requests left now.
    pub remaining_requests: u64,
    /// Tokens that a full bucket holds.
    pub limit_tokens: u64,
    /// Tokens left now.
    pub remaining_tokens: u64,
    /// Until all requests are there again.
    pub reset_requests: Duration,
    /// Until all tokens are there again.
    pub reset_tokens: Duration,
}

/// A request that is refused before or instead of an answer.
///
/// Small: its parts live in one box, which only a refused request allocates.
#[derive(Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", self.message())]
pub struct Refusal(Box<Parts>);

#[derive(Clone, PartialEq, Eq)]
struct Parts {
    code: Code,
    message: Cow<'static, str>,
    param: Option<Cow<'static, str>>,
    retry_after: Option<Duration>,
    standing: Option<Standing>,
    exceeded: Option<Exceeded>,
    allow: Option<Box<str>>,
    /// The check that it did not pass, where the code stands for several.
    check: Option<&'static str>,
    /// The list of models helps.
    lists_models: bool,
}

/// The limit that a request met.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exceeded {
    /// Its name: `requests_per_minute`, say.
    pub limit: &'static str,
    /// Its value.
    pub value: u64,
    /// Units of it that are in use.
    pub current: u64,
}

impl Refusal {
    /// `message` tells the person what was wrong and what to do; it never quotes a prompt or a key.
    #[must_use]
    pub fn new(code: Code, message: impl Into<Cow<'static, str>>) -> Self {
        Self(Box::new(Parts {
            code,
            message: message.into(),
            param: None,
            retry_after: None,
            standing: None,
            exceeded: None,
            allow: None,
            check: None,
            lists_models: false,
        }))
    }

    /// A malformed or unacceptable request.
    #[must_use]
    pub fn invalid(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Code::InvalidRequest, message)
    }

    /// The provider drains: it answers what it has begun, and nothing new.
    #[must_use]
    pub fn draining() -> Self {
        Self::new(
            Code::Draining,
            "the provider is shutting down; try again when it is back",
        )
        .retry_after(Duration::from_secs(5))
    }

    /// Adds a sentence to the message.
    #[must_use]
    pub fn noting(mut self, note: &str) -> Self {
        self.0.message = alloc::format!("{}; {note}", self.0.message).into();
        self
    }

    /// Names the field, for instance `messages[2].content`.
    #[must_use]
    pub fn at(mut self, param: impl Into<Cow<'static, str>>) -> Self {
        self.0.param = Some(param.into());
        self
    }

    /// Says when a repetition may succeed.
    #[must_use]
    pub fn retry_after(mut self, after: Duration) -> Self {
        self.0.retry_after = Some(after);
        self
    }

    /// Says what is left of the caller's limits.
    #[must_use]
    pub fn standing(mut self, standing: Standing) -> Self {
        self.0.standing = Some(standing);
        self
    }

    /// Says which limit was met.
    #[must_use]
    pub fn exceeding(mut self, limit: Exceeded) -> Self {
        self.0.exceeded = Some(limit);
        self
    }

    /// Says which check refused, for the audit.
    #[must_use]
    pub fn by_check(mut self, check: &'static str) -> Self {
        self.0.check = Some(check);
        self
    }

    /// Says which methods the path takes, as `Allow` lists them (RFC 9110, 10.2.1).
    #[must_use]
    pub fn allow(mut self, methods: impl Into<Box<str>>) -> Self {
        self.0.allow = Some(methods.into());
        self
    }

    /// Sends the person to the list of models, of which each dialect has its own.
    #[must_use]
    pub fn listing_models(mut self) -> Self {
        self.0.lists_models = true;
        self
    }

    /// True when the list of models helps.
    #[must_use]
    pub fn lists_models(&self) -> bool {
        self.0.lists_models
    }

    /// Returns the kind of the error.
    #[must_use]
    pub fn code(&self) -> Code {
        self.0.code
    }

    /// HTTP status.
    #[must_use]
    pub fn status(&self) -> u16 {
        self.0.code.status()
    }

    /// The limit that was met.
    #[must_use]
    pub fn exceeded(&self) -> Option<Exceeded> {
        self.0.exceeded
    }

    /// The security check that refused; none for what is wrong otherwise.
    #[must_use]
    pub fn check(&self) -> Option<&'static str> {
        let of_codes = [
            (Code::OriginDenied, "origin"),
            (Code::RoleDenied, "role"),
            (Code::ScopeDenied, "scope"),
            (Code::SessionDenied, "session"),
        ];
        let of_code = of_codes.iter().find(|(code, _)| *code == self.0.code);
        self.0.check.or(of_code.map(|(_, check)| *check))
    }

    /// For the person.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// The field that is wrong.
    #[must_use]
    pub fn param(&self) -> Option<&str> {
        self.0.param.as_deref()
    }

    /// Returns the caller's remaining limits, if one of them refused.
    #[must_use]
    pub fn left(&self) -> Option<Standing> {
        self.0.standing
    }

    /// `Allow`, which every 405 has.
    #[must_use]
    pub fn allowed(&self) -> Option<&str> {
        self.0.allow.as_deref()
    }

    /// `x-should-retry` of OpenAI's clients, where their own rule (408, 409, 429 and from 500 on, twice) is wrong: `false` where
    /// a repetition soon cannot succeed, or would have the person wait as long again.
    #[must_use]
    pub fn should_retry(&self) -> Option<bool> {
        /// The longest `Retry-After` that the clients obey; they take a longer one for none.
        const OBEYED: Duration = Duration::from_secs(60);
        let hopeless = match self.0.code {
            // Claude Code asks ten times more with a key that is not known.
            Code::InvalidKey
            | Code::NotImplemented
            | Code::LoopDetected
            | Code::Conflict
            | Code::Disabled
            | Code::AgentTimeout
            | Code::SlowClient
            | Code::AnswerTooLarge => true,
            Code::InvalidRequest
            | Code::ContextLength
            | Code::TooLarge
            | Code::RequestTimeout
            | Code::RoleDenied
            | Code::ScopeDenied
            | Code::OriginDenied
            | Code::SessionDenied
            | Code::ModelNotFound
            | Code::SessionNotFound
            | Code::ResponseNotFound
            | Code::NotFound
            | Code::MethodNotAllowed
            | Code::RateLimited
            | Code::NoAgent
            | Code::Overloaded
            | Code::Draining
            | Code::AgentLost
            | Code::AgentFault
            | Code::AgentError
            | Code::AgentRefused
            | Code::SessionEnded
            | Code::Internal => self.0.retry_after.is_some_and(|after| after > OBEYED),
        };
        hopeless.then_some(false)
    }

    /// Whole seconds for `Retry-After`, rounded up, at least 1.
    #[must_use]
    pub fn retry_after_seconds(&self) -> Option<u64> {
        self.0.retry_after.map(|after| {
            let rounded = after.as_secs() + u64::from(after.subsec_nanos() > 0);
            rounded.max(1)
        })
    }
}

impl fmt::Debug for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:?} ({}): {}",
            self.0.code,
            self.status(),
            self.0.message
        )?;
        match &self.0.param {
            Some(param) => write!(f, " at {param}"),
            None => Ok(()),
        }
    }
}

/// An agent broke the protocol. `close` says whether the link must end.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AgentFault {
    /// The frame is not a JSON object in text, or a known message has a field of a wrong type.
    #[error("malformed message: {0}")]
    Malformed(Cow<'static, str>),
    /// The same in a message about one exchange: only that exchange fails.
    #[error("malformed message: {what}")]
    Answer {
        /// The message's `id`.
        id: ExchangeId,
        /// The field and what is wrong with it.
        what: Cow<'static, str>,
    },
    /// The frame is larger than `limits.agent_frame_bytes`.
    #[error("frame over limits.agent_frame_bytes")]
    TooLarge,
    /// A binary frame.
    #[error("binary frame; messages are JSON objects in text frames")]
    Binary,
}
