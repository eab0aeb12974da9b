//! The deadlines of an agent's machine, by time: only what is due is looked at, never what is idle.

use super::tools::CallId;
use crate::process;
use crate::time::{Instant, Timeout};
use alloc::collections::{BTreeMap, BTreeSet};

/// Names a session of an agent here; the agent's own id for it is text.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct SessionKey(pub(super) u64);

/// The reasons for which the machine waits, in the order in which those of one instant are served.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Timer {
    /// The life of the process waits for something, see [`process::Life`].
    Process(process::Timer),
    /// A request to the process, by its JSON-RPC id, is owed an answer.
    Request(u64),
    /// The state of a session ends: kept or parked for too long, or its cancelled turn does not end.
    Session(SessionKey),
    /// The turn of a session is silent, and the agent has complained.
    Complaint(SessionKey),
    /// The calls that a session makes together are told to the client.
    Gather(SessionKey),
    /// A parked call is owed a sign of life.
    ToolCall(CallId),
    /// The use of memory and processes is measured.
    Measure,
    /// It registers again, as its registration was refused.
    Register,
    /// A process that wants a login is replaced, as most agents read their login when they start.
    LogIn,
    /// The process has not answered `initialize` for some seconds, which a person hears of.
    Silence,
}

/// At most one deadline for each [`Timer`].
#[derive(Debug, Default)]
pub(super) struct Deadlines {
    at: BTreeMap<Timer, Instant>,
    by_time: BTreeSet<(Instant, Timer)>,
}

impl Deadlines {
    pub(super) fn set(&mut self, why: Timer, at: Instant) {
        self.clear(why);
        self.at.insert(why, at);
        self.by_time.insert((at, why));
    }

    /// Lifts a deadline. True when there was one.
    pub(super) fn clear(&mut self, why: Timer) -> bool {
        match self.at.remove(&why) {
            Some(at) => self.by_time.remove(&(at, why)),
            None => false,
        }
    }

    pub(super) fn clear_all(&mut self) {
        self.at.clear();
        self.by_time.clear();
    }

    pub(super) fn get(&self, why: Timer) -> Option<Instant> {
        self.at.get(&why).copied()
    }

    pub(super) fn len(&self) -> usize {
        self.at.len()
    }

    pub(super) fn next(&self) -> Option<Timeout<Timer>> {
        let (at, why) = *self.by_time.first()?;
        Some(Timeout { at, why })
    }
}
