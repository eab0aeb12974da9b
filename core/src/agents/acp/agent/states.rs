//! The states of a session of an agent, and every move between them.

use crate::agents::acp::digest::Digest;
use crate::machine::{Move, OUTSIDE, Table};

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
