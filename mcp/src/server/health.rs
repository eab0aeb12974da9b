//! Health of a process: whether it still answers when nothing else is heard of it.

use super::{Open, Out, Server};
use crate::config;
use crate::revision::Era;
use mcp_local_provider_core::process::State;
use mcp_local_provider_core::rpc::Json;
use mcp_local_provider_core::time::{Instant, Timeout};

/// Signs of life of a process. Whatever it writes is one, so that one that is busy with its output is asked nothing.
pub(super) struct Health {
    rules: config::Health,
    /// The moment of its latest output, or of the latest question after that.
    since: Instant,
    /// The number of the question that waits for an answer.
    open: Option<u64>,
    /// Questions in a row that were not answered.
    missed: u32,
}

impl Health {
    pub(super) const fn new(rules: config::Health) -> Self {
        Self {
            rules,
            since: Instant::ZERO,
            open: None,
            missed: 0,
        }
    }

    /// The number of questions that wait for an answer.
    pub(super) fn asks(&self) -> usize {
        usize::from(self.open.is_some())
    }

    /// The moment of the next question, if the process is ready.
    pub(super) fn next(&self) -> Option<Instant> {
        let is_due = self.open.is_none() && !self.rules.interval.is_zero();
        is_due.then(|| self.since + self.rules.interval)
    }

    /// Begins anew: the process is ready, or gone.
    pub(super) const fn begin(&mut self, now: Instant) {
        self.since = now;
        self.open = None;
        self.missed = 0;
    }
}

/// Returns the name of the state of a server's process.
#[must_use]
pub const fn state_name(state: State) -> &'static str {
    match state {
        State::Stopped => "stopped",
        State::Starting => "starting",
        State::Running { .. } => "ready",
        State::Stopping { .. } => "stopping",
        State::Waiting { .. } => "backoff",
        State::Failing { .. } => "failed",
    }
}

impl<T: Clone> Server<T> {
    /// Returns the name of the state of the process: that of its life, or `unresponsive`.
    #[must_use]
    pub const fn state_name(&self) -> &'static str {
        if self.is_unresponsive() {
            "unresponsive"
        } else {
            state_name(self.life.state())
        }
    }

    /// Returns true when a process that is ready has left so many questions for a sign of life without one as
    /// `gateway.health.misses` says. It is sent requests still.
    #[must_use]
    pub const fn is_unresponsive(&self) -> bool {
        self.is_ready() && self.health.missed > 0 && self.health.missed >= self.health.rules.misses
    }

    /// The moment at which the process is to be asked for a sign of life.
    pub(super) fn next_question(&self) -> Option<Timeout<super::Timer>> {
        let at = self.health.next().filter(|_| self.is_ready())?;
        let why = super::Timer::Health;
        Some(Timeout { at, why })
    }

    /// Asks the process for a sign of life: `ping`, or, where the revision has none, `server/discover`.
    pub(super) fn ask_for_life(&mut self, now: Instant, out: &mut Out) {
        let until = now + self.health.rules.timeout;
        let number = self.peer.expect(Open::Life, Some(until));
        let line = match self.era() {
            Era::Sessions => Json::request(number, "ping").end_params(),
            Era::Stateless => self.discover(number),
        };
        out.lines.push(line);
        self.health.open = Some(number);
        self.health.since = now;
    }

    /// The process has written something.
    pub(super) fn note_life(&mut self, now: Instant) {
        if let Some(number) = self.health.open {
            self.peer.cancel(number);
        }
        self.health.begin(now);
    }

    /// The process has given no sign of life in time. One that misses once more than it may is killed.
    pub(super) fn handle_missed(&mut self, now: Instant, out: &mut Out) {
        self.health.open = None;
        self.health.missed = self.health.missed.saturating_add(1);
        if self.is_ready() && self.health.missed > self.health.rules.misses {
            self.trouble = Some("it gave no sign of life (gateway.health)".into());
            out.lines.clear();
            self.life.handle_failed(now, &mut out.orders);
        }
    }
}
