//! Messages of a link to its agent, whatever that speaks.

use super::from_agent::Id;
use super::permit::Permit;
use crate::id::{ExchangeId, SessionId};
use crate::invocation::{CancelReason, InvokeForm};
use crate::request::{PromptIndex, Request};
use crate::time::Instant;
use alloc::boxed::Box;
use alloc::string::String;
use alloc::sync::Arc;
use core::fmt;

/// Each message that waits for an agent costs at least this much of `limits.link_queue_bytes`.
pub const MESSAGE_CHARGE: usize = 64;

/// Longest foreign id that is sent back, in bytes.
const FOREIGN_ID_LEN: usize = 128;

/// One message to the agent. The names are those of the agent protocol.
#[derive(Clone)]
pub enum ToAgent {
    /// `model_invoke`.
    Invoke {
        /// The invocation.
        invoke: Box<Invoke>,
        /// The time at which it was opened.
        at: Instant,
    },
    /// `model_cancel`.
    Cancel(ExchangeId, CancelReason),
    /// `registered`: answers a registration.
    Registered(Registered),
    /// `session_status`: a session changed its state.
    SessionStatus(SessionStatus),
    /// `error`: something that the agent said was wrong, or is refused.
    Error {
        /// The `id` of the agent's message, where it had one that is short.
        id: Option<Echo>,
        /// For programs.
        code: &'static str,
        /// For people.
        message: Box<str>,
    },
    /// `pong` of the application level.
    Pong {
        /// A JSON value, as the agent sent it; `None` for the time of the answer.
        timestamp: Option<Box<str>>,
        /// The time of the answer.
        at: Instant,
    },
    /// The link asks for any sign of life.
    Ping,
}

/// An invocation on its way to an agent, which answers it once.
#[derive(Clone, Debug)]
pub struct Invoke {
    /// The exchange. Every message about it carries this id.
    pub id: ExchangeId,
    /// The permission to ask: of which session, and for which caller. An agent of this program keeps the conversations of
    /// callers apart by that.
    pub permit: Permit,
    /// The session's label.
    pub label: Arc<str>,
    /// The agent's own name for the model, which may differ from what the client asked.
    pub model: Arc<str>,
    /// The form that the agent reads.
    pub form: InvokeForm,
    /// The request.
    pub request: Arc<Request>,
    /// The prompt of the request that is to be answered.
    pub prompt: PromptIndex,
}

/// A session that was given, or another state of it.
#[derive(Clone, PartialEq, Eq)]
pub struct Registered {
    /// The new session.
    pub session: SessionId,
    /// Its token, when it was made here; this is the only time it is told.
    pub token: Option<String>,
    /// `pending` or `active`.
    pub status: &'static str,
    /// RFC 3339.
    pub expires_at: String,
}

impl fmt::Debug for Registered {
    /// A token is never shown.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Registered({}, {})", self.session, self.status)
    }
}

/// Another state of a session.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SessionStatus {
    /// The session.
    pub session: SessionId,
    /// The new state.
    pub status: &'static str,
    /// `approved`, `denied`, `revoked`, …
    pub reason: &'static str,
}

/// An id of the agent that is sent back, as the inside of a JSON string.
#[derive(Clone, PartialEq, Eq)]
pub struct Echo(Box<str>);

impl fmt::Debug for Echo {
    /// Without the agent's text.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Echo({} bytes)", self.0.len())
    }
}

impl Echo {
    /// `None` for a foreign id that is long.
    #[must_use]
    pub fn of(id: Id<'_>) -> Option<Self> {
        match id {
            Id::Ours(id) => Some(Self(alloc::format!("{id}").into())),
            Id::Foreign(id) => {
                (id.len() <= FOREIGN_ID_LEN).then(|| Self(Box::from(id.as_escaped())))
            }
        }
    }

    /// The inside of a JSON string.
    #[must_use]
    pub fn as_escaped(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for ToAgent {
    /// Without text that the agent wrote or that quotes it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Invoke { invoke, .. } => invoke.fmt(f),
            Self::Cancel(id, why) => write!(f, "Cancel({id}, {})", why.as_str()),
            Self::Registered(it) => it.fmt(f),
            Self::SessionStatus(it) => it.fmt(f),
            Self::Error { code, .. } => write!(f, "Error({code})"),
            Self::Pong { .. } => f.write_str("Pong"),
            Self::Ping => f.write_str("Ping"),
        }
    }
}

impl ToAgent {
    /// An error about no message.
    #[must_use]
    pub fn error(code: &'static str, message: impl Into<Box<str>>) -> Self {
        Self::Error {
            id: None,
            code,
            message: message.into(),
        }
    }

    /// Returns its cost in bytes of the queue's budget. An invocation costs as much as its request's text.
    #[must_use]
    pub fn charge(&self) -> usize {
        let text = match self {
            Self::Invoke { invoke, .. } => invoke.request.len(),
            Self::Error { message, .. } => message.len(),
            Self::Pong { timestamp, .. } => timestamp.as_ref().map_or(0, |text| text.len()),
            Self::Cancel(..) | Self::Registered(_) | Self::SessionStatus(_) | Self::Ping => 0,
        };
        text.max(MESSAGE_CHARGE)
    }
}
