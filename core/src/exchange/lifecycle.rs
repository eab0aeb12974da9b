//! The states of an exchange, every move between them, and the reasons for which it waits.

use crate::machine::{Move, OUTSIDE, Table};
use crate::time::Reason;

/// The reasons for which an exchange waits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Timer {
    /// The response head is held back so that an early error is a status.
    Head,
    /// The agent owes its first chunk.
    FirstChunk,
    /// A started stream is silent.
    Idle,
    /// The exchange has its longest allowed duration.
    Total,
    /// A silent response is owed a sign of life.
    KeepAlive,
}

impl Reason<5> for Timer {
    const ALL: [Self; 5] = [
        Self::Head,
        Self::FirstChunk,
        Self::Idle,
        Self::Total,
        Self::KeepAlive,
    ];

    fn place(self) -> usize {
        self as usize
    }
}

/// The moves of an exchange. Before it is parsed there is none; while it is admitted it waits.
pub static STATES: Table = Table::new(&[
    Move::new(OUTSIDE, "Waiting", "parse"),
    Move::new(
        "Waiting",
        "Streaming",
        "first text, or 4 s without any, in the queue too: the head goes out",
    ),
    Move::new(
        "Waiting",
        "Ended",
        "end of a whole answer, 200<br/>\
         refused, failed or late, with its status<br/>\
         client gone, Cancel",
    ),
    Move::new(
        "Streaming",
        "Ended",
        "end, finish, usage and last record<br/>\
         stop sequence, an ordinary end, Cancel<br/>\
         failure or deadline, error record and end of body<br/>\
         client gone, Cancel",
    ),
]);

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum State {
    /// No byte has been sent.
    Waiting,
    /// The head of a stream has been sent.
    Streaming,
    /// The outcome has been told.
    Ended,
}

impl State {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Waiting => "Waiting",
            Self::Streaming => "Streaming",
            Self::Ended => "Ended",
        }
    }
}
