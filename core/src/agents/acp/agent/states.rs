//! The states of an agent's process and of its sessions, and every move between them.

use crate::agents::acp::digest::Digest;
use crate::machine::{Move, OUTSIDE, Table};
use crate::time::Instant;

/// The states of the agent's process.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Phase {
    /// Not running since then. Started after a wait, or earlier when somebody asks.
    Down { since: Instant },
    /// `Order::Start` was given.
    Starting,
    /// `initialize` was sent.
    Initializing,
    /// The first session is being made.
    Trying,
    /// It refused to make a session; for want of a login, perhaps.
    Unable { login: bool },
    /// It answers.
    Ready,
    /// Its input is closed or it is being killed.
    Leaving { then: Then },
    /// It was never started, or was told to stop and did.
    Ended,
}

/// The step that follows the end of the process.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Then {
    /// Nothing was wrong: start it at once.
    Start,
    /// It misbehaved: start it after a wait.
    Retry,
    /// Nothing.
    End,
}

impl Phase {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Down { .. } => "Down",
            Self::Starting => "Starting",
            Self::Initializing => "Initializing",
            Self::Trying => "Trying",
            Self::Unable { .. } => "Unable",
            Self::Ready => "Ready",
            Self::Leaving { .. } => "Leaving",
            Self::Ended => "Ended",
        }
    }

    /// True while lines of the process mean something.
    pub(super) const fn is_running(self) -> bool {
        match self {
            Self::Initializing | Self::Trying | Self::Unable { .. } | Self::Ready => true,
            Self::Down { .. } | Self::Starting | Self::Leaving { .. } | Self::Ended => false,
        }
    }
}

/// The moves of an agent's process.
pub static PROCESS: Table = Table::new(&[
    Move::new(OUTSIDE, "Ended", "made"),
    Move::new("Ended", "Starting", "start"),
    Move::new("Starting", "Initializing", "started, initialize"),
    Move::new("Starting", "Leaving", "stop"),
    Move::new("Starting", "Down", "could not be started"),
    Move::new("Initializing", "Trying", "answered, session/new"),
    Move::new("Initializing", "Leaving", "stop, misbehaved, no answer"),
    Move::new("Initializing", "Down", "exited"),
    Move::new("Trying", "Ready", "a session, register"),
    Move::new("Trying", "Unable", "refused, login needed, register"),
    Move::new("Trying", "Leaving", "stop, misbehaved, no answer"),
    Move::new("Trying", "Down", "exited"),
    Move::new("Unable", "Trying", "invocation, authenticated, session/new"),
    Move::new(
        "Unable",
        "Leaving",
        "a login is needed, for the next process to find it<br/>stop, misbehaved",
    ),
    Move::new("Unable", "Down", "exited"),
    Move::new(
        "Ready",
        "Leaving",
        "stop, misbehaved, too many sessions that it cannot close, too much memory",
    ),
    Move::new("Ready", "Down", "exited, every turn has failed"),
    Move::new("Leaving", "Down", "exited, and is to be started again"),
    Move::new("Leaving", "Ended", "exited after a stop"),
    Move::new("Down", "Starting", "after a wait, or on demand"),
    Move::new("Down", "Ended", "stop"),
]);

/// The states of a session of the agent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum State {
    /// `session/new` is under way.
    Creating,
    /// Its settings are under way.
    Configuring,
    /// Made, set, and nobody's.
    Empty,
    /// `session/prompt` is under way.
    Prompting,
    /// The turn waits for the caller's tools.
    Parked,
    /// Waits for the next request of its conversation.
    Kept { conversation: Digest },
    /// Its turn was cancelled and has not ended.
    Stopping,
}

impl State {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Creating => "Creating",
            Self::Configuring => "Configuring",
            Self::Empty => "Empty",
            Self::Prompting => "Prompting",
            Self::Parked => "Parked",
            Self::Kept { .. } => "Kept",
            Self::Stopping => "Stopping",
        }
    }
}

/// The moves of a session of an agent. Each session ends with its process at the latest.
pub static SESSION: Table = Table::new(&[
    Move::new(
        OUTSIDE,
        "Creating",
        "session/new, for a request or to have one ready",
    ),
    Move::new("Creating", "Configuring", "made"),
    Move::new(
        "Configuring",
        "Configuring",
        "leased to a request while it is set",
    ),
    Move::new(
        "Configuring",
        "Empty",
        "mode, model and effort are set, nobody waits",
    ),
    Move::new(
        "Empty",
        "Configuring",
        "leased to a request that begins a conversation",
    ),
    Move::new("Configuring", "Prompting", "session/prompt"),
    Move::new("Prompting", "Kept", "end_turn"),
    Move::new(
        "Kept",
        "Configuring",
        "leased to the next request of the conversation",
    ),
    Move::new(
        "Prompting",
        "Parked",
        "a tool of the caller is called, the answer ends with tool_calls",
    ),
    Move::new("Parked", "Prompting", "the next request brings the results"),
    Move::new(
        "Prompting",
        "Stopping",
        "cancel, stop sequence, max_tokens, lost lines, silent but for complaints, session/cancel",
    ),
    Move::new(
        "Parked",
        "Stopping",
        "nobody comes back, another transcript, or the permission is withdrawn, session/cancel",
    ),
    Move::new("Creating", OUTSIDE, "refused or not answered"),
    Move::new("Configuring", OUTSIDE, "a setting is refused, cancel"),
    Move::new(
        "Empty",
        OUTSIDE,
        "made for what is not wanted any more, too many, too much memory",
    ),
    Move::new(
        "Prompting",
        OUTSIDE,
        "error, refusal, length, no room to keep it",
    ),
    Move::new("Parked", OUTSIDE, "the prompt is answered all the same"),
    Move::new("Kept", OUTSIDE, "time to live, too many, too much memory"),
    Move::new(
        "Stopping",
        OUTSIDE,
        "the prompt is answered, or is not for 10 s",
    ),
]);
