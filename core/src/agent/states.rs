//! States of an agent and the moves between them, its timers and times.

use crate::machine::{Move, OUTSIDE, Table};
use crate::time::Reason;
use core::time::Duration;

/// Reasons for which an agent waits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Timer {
    /// The pause before the next dial.
    Dial,
    /// A dial has its time.
    Connect,
    /// The provider has been silent, and is asked for a sign of life.
    Ping,
    /// It has its time to give one.
    Silence,
}

impl Reason<4> for Timer {
    const ALL: [Self; 4] = [Self::Dial, Self::Connect, Self::Ping, Self::Silence];

    fn place(self) -> usize {
        self as usize
    }
}

/// Times of an agent. The defaults are those of the agent protocol.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Times {
    /// Longest time from the look-up of the name to the open WebSocket: 30 s.
    pub connect: Duration,
    /// Silence after which the provider is asked for a sign of life: 30 s.
    pub heartbeat: Duration,
    /// Time that it has to give one: 10 s.
    pub heartbeat_timeout: Duration,
    /// Bound of the first pause before another dial, which doubles: 1 s.
    pub reconnect_delay: Duration,
    /// Bound of all pauses: 60 s.
    pub reconnect_max_delay: Duration,
}

impl Default for Times {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(30),
            heartbeat: Duration::from_secs(30),
            heartbeat_timeout: Duration::from_secs(10),
            reconnect_delay: Duration::from_secs(1),
            reconnect_max_delay: Duration::from_secs(60),
        }
    }
}

/// A state of an agent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum State {
    /// It pauses before the next dial.
    Pausing,
    /// It dials.
    Dialling,
    /// It is connected, and waits for the answer to its registration.
    Registering,
    /// It has a session.
    Serving,
    /// It never dials again.
    Stopped,
}

impl State {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Pausing => "Pausing",
            Self::Dialling => "Dialling",
            Self::Registering => "Registering",
            Self::Serving => "Serving",
            Self::Stopped => "Stopped",
        }
    }
}

/// The moves of an agent.
pub static STATES: Table = Table::new(&[
    Move::new(OUTSIDE, "Pausing", "made"),
    Move::new("Pausing", "Dialling", "after the pause"),
    Move::new(
        "Dialling",
        "Dialling",
        "the session's token is refused, the own one is shown",
    ),
    Move::new("Dialling", "Registering", "open, no session"),
    Move::new("Dialling", "Serving", "open, with a session's token"),
    Move::new("Dialling", "Pausing", "not reached, busy, not open in time"),
    Move::new("Dialling", "Stopped", "refused, stop"),
    Move::new("Registering", "Serving", "registered"),
    Move::new("Registering", "Pausing", "lost, silent, closed"),
    Move::new(
        "Registering",
        "Stopped",
        "registration refused, closed for good, stop",
    ),
    Move::new("Serving", "Registering", "session expired"),
    Move::new("Serving", "Pausing", "lost, silent, closed"),
    Move::new("Serving", "Stopped", "revoked, closed for good, stop"),
    Move::new("Pausing", "Stopped", "stop"),
]);
