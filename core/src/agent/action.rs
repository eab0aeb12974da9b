//! Outputs of an agent, and what is told to it, as plain data.

use super::request::{InvocationId, Request};
use crate::link::CloseCode;
use alloc::string::String;
use core::fmt;
use core::time::Duration;

/// One thing to do, in its order.
#[derive(Clone, PartialEq, Eq)]
pub enum Action {
    /// Opens a WebSocket, with [`Agent::session_token`](super::Agent::session_token) as the bearer token, else the agent's own.
    Dial,
    /// Sends a text frame.
    Send(String),
    /// Sends a ping (RFC 6455, section 5.5.2).
    Ping,
    /// Closes the connection, or gives the dial up. The agent takes it for gone already.
    Close(CloseCode),
    /// Answers a question: by [`Agent::write`](super::Agent::write) and what is beside it.
    Invoke(Request),
    /// Stops an answer: nobody waits for it any more.
    Cancel(InvocationId),
    /// Tells the person.
    Tell(Event),
    /// Ends: the agent never dials again. The last action.
    Stop(Stopped),
}

impl fmt::Debug for Action {
    /// Without frames, which hold answers and tokens.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dial => f.write_str("Dial"),
            Self::Send(frame) => write!(f, "Send({} bytes)", frame.len()),
            Self::Ping => f.write_str("Ping"),
            Self::Close(code) => write!(f, "Close({})", code.code()),
            Self::Invoke(request) => request.fmt(f),
            Self::Cancel(id) => write!(f, "Cancel({id})"),
            Self::Tell(event) => event.fmt(f),
            Self::Stop(stopped) => stopped.fmt(f),
        }
    }
}

/// News about the connection and the session.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Event {
    /// The session goes on over a new connection.
    #[error("connected again; the session goes on")]
    Resumed,
    /// A session was given.
    #[error("session {session} is {status}{}", advice(status))]
    Registered {
        /// Its name.
        session: String,
        /// `active`, or `pending` until a person approves it.
        status: String,
    },
    /// The session has another state.
    #[error("session {session} is {status}: {reason}")]
    SessionStatus {
        /// Its name.
        session: String,
        /// `active`, `suspended`, `revoked` or `expired`.
        status: String,
        /// `approved`, `requests_used_up`, …
        reason: String,
    },
    /// The connection is lost, or was not opened; the agent dials again.
    #[error("{why}; trying again in {:.1} s", .pause.as_secs_f64())]
    Lost {
        /// Reason.
        why: Lost,
        /// Time until the next dial.
        pause: Duration,
    },
    /// The provider reported an error about something that the agent said, or sent a frame that is none.
    #[error("{0}")]
    Complaint(String),
}

/// What a person is to do about a session that waits.
fn advice(status: &str) -> &'static str {
    match status {
        "pending" => "; approve it on the provider's side: mcp-local-provider sessions",
        _ => "",
    }
}

/// Reason why a connection is gone.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Lost {
    /// The handshake was refused with this HTTP status.
    #[error("the provider refused the connection with status {0}")]
    Refused(u16),
    /// The provider closed it, with a code if it sent one.
    #[error("the provider closed the connection{}", with_code(*.0))]
    Closed(Option<u16>),
    /// The connection broke or was never opened; told in words.
    #[error("{0}")]
    Broken(String),
    /// The provider shows no sign of life.
    #[error("the provider shows no sign of life")]
    Silent,
}

/// The code of a close frame, for a sentence.
fn with_code(code: Option<u16>) -> String {
    code.map_or_else(String::new, |code| alloc::format!(" with code {code}"))
}

/// Reason why an agent ends for good.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Stopped {
    /// [`Agent::stop`](super::Agent::stop) was called.
    #[error("the agent was stopped")]
    Asked,
    /// The token was refused, or the address is no agent's, with this HTTP status.
    #[error("the provider refused the connection with status {status}: {}", remedy(*.status))]
    Refused {
        /// The status.
        status: u16,
    },
    /// The registration was refused.
    #[error("the provider refused the registration: {0}")]
    NotRegistered(String),
    /// A person has denied or revoked the session.
    #[error("the session was revoked on the provider's side")]
    Revoked,
    /// Another connection has taken the session over (close code 4001).
    #[error("another connection has taken the session over")]
    Replaced,
    /// The provider takes this agent for broken: 1009, a frame was too large; 4002, protocol faults.
    #[error("the provider closed the connection with code {0}: the agent broke the protocol")]
    Faulty(u16),
}

/// The remedy for a refusal.
fn remedy(status: u16) -> &'static str {
    match status {
        401 | 403 => {
            "check the token; `mcp-local-provider keys add NAME --role bridge` makes a key for agents"
        }
        _ => "check the URL; it usually ends in /agent",
    }
}
