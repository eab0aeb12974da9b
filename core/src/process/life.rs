//! The life of one child process: when it is started, how it is ended, and when it is started anew.

#[cfg(test)]
mod tests;

use crate::machine::{Move, OUTSIDE, Table};
use crate::time::{Instant, Latest, Timeout};
use alloc::vec::Vec;
use core::time::Duration;

/// The grace of a child that is told to end: first its standard input is closed, then it gets SIGTERM, then SIGKILL.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Grace {
    /// From the end of its input to SIGTERM.
    pub before_terminate: Duration,
    /// From SIGTERM to SIGKILL.
    pub before_kill: Duration,
}

impl Default for Grace {
    /// Two seconds in all, of which SIGTERM comes late: programs that end by themselves write their files meanwhile.
    fn default() -> Self {
        Self {
            before_terminate: Duration::from_millis(1500),
            before_kill: Duration::from_millis(500),
        }
    }
}

/// Times and bounds of one child's life.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Rules {
    /// From the start of the process until it is ready. One that takes longer is killed.
    pub start_timeout: Duration,
    /// Failures in a row that are followed by a start at once.
    pub unpunished: u32,
    /// Wait before the start that follows the next failure. It doubles with each further failure.
    pub first_wait: Duration,
    /// Longest wait before a start.
    pub longest_wait: Duration,
    /// Soonest start after an end when somebody waits for the child.
    pub soonest: Duration,
    /// A child that was ready for this long has shown that it works: its failures are forgotten.
    pub proven: Duration,
    /// Failures in a row after which the child is *failing*: it is started on demand only. `None`: never.
    pub attempts: Option<u32>,
    /// From the end of a child that is failing to the next start on demand.
    pub retry: Duration,
    /// Grace of a child that is told to end.
    pub grace: Grace,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            start_timeout: Duration::from_secs(30),
            unpunished: 0,
            first_wait: Duration::from_secs(1),
            longest_wait: Duration::from_secs(60),
            soonest: Duration::from_secs(1),
            proven: Duration::from_secs(60),
            attempts: Some(3),
            retry: Duration::from_secs(60),
            grace: Grace::default(),
        }
    }
}

/// The states of a child.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum State {
    /// Not running: never started, or told to stop. Started on demand.
    Stopped,
    /// Started, or about to be, and not ready yet.
    Starting,
    /// Ready.
    Running {
        /// Moment at which it became ready.
        since: Instant,
    },
    /// Its input is closed, or it is being killed.
    Stopping {
        /// Step that follows its end.
        then: Then,
    },
    /// Not running: it failed, and is started again by itself.
    Waiting {
        /// Moment of its end.
        since: Instant,
    },
    /// Not running: it failed too often, and is started on demand only.
    Failing {
        /// Moment of its end.
        since: Instant,
    },
}

/// The step that follows the end of a child.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Then {
    /// Nothing was wrong: it is started at once.
    Start,
    /// It failed: it is started after a wait.
    Wait,
    /// Nothing.
    Stop,
}

impl State {
    /// Returns the name of the state in [`STATES`].
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Stopped => "Stopped",
            Self::Starting => "Starting",
            Self::Running { .. } => "Running",
            Self::Stopping { .. } => "Stopping",
            Self::Waiting { .. } => "Waiting",
            Self::Failing { .. } => "Failing",
        }
    }
}

/// The moves of a child.
pub static STATES: Table = Table::new(&[
    Move::new(OUTSIDE, "Stopped", "made"),
    Move::new("Stopped", "Starting", "start, demand"),
    Move::new("Starting", "Running", "ready"),
    Move::new(
        "Starting",
        "Stopping",
        "stop, restart, misbehaved, not ready in time",
    ),
    Move::new("Starting", "Waiting", "could not be started, exited"),
    Move::new("Starting", "Failing", "the same, once too often"),
    Move::new("Running", "Stopping", "stop, restart, misbehaved"),
    Move::new("Running", "Waiting", "exited"),
    Move::new("Running", "Failing", "exited, once too often"),
    Move::new("Stopping", "Stopped", "exited after a stop"),
    Move::new(
        "Stopping",
        "Starting",
        "exited, and is to be started at once",
    ),
    Move::new("Stopping", "Waiting", "exited after a failure"),
    Move::new(
        "Stopping",
        "Failing",
        "exited after a failure, once too often",
    ),
    Move::new(
        "Waiting",
        "Starting",
        "after the wait, start, sooner on demand",
    ),
    Move::new("Waiting", "Stopped", "stop"),
    Move::new("Failing", "Starting", "start, on demand after a pause"),
    Move::new("Failing", "Stopped", "stop"),
]);

/// Orders to the owner of the process, who carries them out in their order.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Order {
    /// Start the process, and report [`Life::handle_started`], or [`Life::handle_exited`] when it cannot be started.
    Spawn,
    /// Close its standard input once all that waits is written: it is to end by itself.
    CloseInput,
    /// Send SIGTERM to it and its group.
    Terminate,
    /// Kill it and all that it started.
    Kill,
}

/// The reasons for which the machine waits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Timer {
    /// The child is to be ready.
    Ready,
    /// The child has not ended since its input was closed, and gets SIGTERM.
    Terminate,
    /// The child has not ended since SIGTERM, and is killed.
    Kill,
    /// The child is started again.
    Start,
}

/// The life of one child process. Every call is legal at any time; one that comes too late changes nothing.
#[derive(Debug)]
pub struct Life {
    rules: Rules,
    latest: Latest,
    state: State,
    timeout: Option<Timeout<Timer>>,
    /// Failures since the child has last shown that it works.
    failures: u32,
    starts: u64,
    /// Somebody waits for the child, which is to end first.
    is_wanted: bool,
}

impl Life {
    /// Makes a child that is stopped.
    #[must_use]
    pub fn new(rules: Rules) -> Self {
        STATES.step(OUTSIDE, State::Stopped.name());
        Self {
            rules,
            latest: Latest::default(),
            state: State::Stopped,
            timeout: None,
            failures: 0,
            starts: 0,
            is_wanted: false,
        }
    }

    /// Returns the state.
    #[must_use]
    pub const fn state(&self) -> State {
        self.state
    }

    /// Returns the number of processes that were started.
    #[must_use]
    pub const fn starts(&self) -> u64 {
        self.starts
    }

    /// Returns the number of failures in a row.
    #[must_use]
    pub const fn failures(&self) -> u32 {
        self.failures
    }

    /// Returns the latest moment of the next start, while the child waits for one.
    #[must_use]
    pub fn next_start(&self) -> Option<Instant> {
        let timeout = self.timeout.filter(|timeout| timeout.why == Timer::Start);
        timeout.map(|timeout| timeout.at)
    }

    /// Returns the moment at which [`Life::handle_timeout`] is to be called.
    #[must_use]
    pub const fn poll_timeout(&self) -> Option<Timeout<Timer>> {
        self.timeout
    }

    /// Starts the child at once, and forgets its failures. Nothing changes when it runs already.
    pub fn start(&mut self, now: Instant, orders: &mut Vec<Order>) {
        let _ = self.latest.clamp(now);
        match &mut self.state {
            State::Stopped | State::Waiting { .. } | State::Failing { .. } => {
                self.failures = 0;
                self.spawn(orders);
            }
            State::Stopping { then } => *then = Then::Start,
            State::Starting | State::Running { .. } => {}
        }
    }

    /// Starts the child for somebody who waits for it: at once where it is stopped, soon where it failed. Where it is failing
    /// nothing changes before [`Rules::retry`] is over.
    pub fn demand(&mut self, now: Instant, orders: &mut Vec<Order>) {
        let now = self.latest.clamp(now);
        match &mut self.state {
            State::Stopped => self.spawn(orders),
            State::Waiting { since } => {
                let soonest = *since + self.rules.soonest;
                self.start_at(self.next_start().map_or(soonest, |at| at.min(soonest)));
                self.serve(now, orders);
            }
            State::Failing { since } => {
                if *since + self.rules.retry <= now {
                    self.spawn(orders);
                }
            }
            State::Stopping { then } => match then {
                Then::Stop => *then = Then::Start,
                Then::Wait => self.is_wanted = true,
                Then::Start => {}
            },
            State::Starting | State::Running { .. } => {}
        }
    }

    /// Ends the child within its grace and starts it again, although nothing is wrong with it. One that does not run is started.
    pub fn restart(&mut self, now: Instant, orders: &mut Vec<Order>) {
        match self.state {
            State::Starting | State::Running { .. } => self.leave(now, Then::Start, orders),
            State::Stopped
            | State::Stopping { .. }
            | State::Waiting { .. }
            | State::Failing { .. } => self.start(now, orders),
        }
    }

    /// Ends the child within its grace.
    pub fn stop(&mut self, now: Instant, orders: &mut Vec<Order>) {
        match &mut self.state {
            State::Waiting { .. } | State::Failing { .. } => {
                self.timeout = None;
                self.enter(State::Stopped);
            }
            State::Stopping { then } => *then = Then::Stop,
            State::Starting | State::Running { .. } => self.leave(now, Then::Stop, orders),
            State::Stopped => {}
        }
    }

    /// The process was started.
    pub fn handle_started(&mut self, now: Instant) {
        let now = self.latest.clamp(now);
        if self.state == State::Starting && self.timeout.is_none() {
            self.starts = self.starts.saturating_add(1);
            self.timeout = Some(Timeout {
                at: now + self.rules.start_timeout,
                why: Timer::Ready,
            });
        }
    }

    /// The child can be used.
    pub fn handle_ready(&mut self, now: Instant) {
        let now = self.latest.clamp(now);
        if self.state == State::Starting {
            self.timeout = None;
            self.enter(State::Running { since: now });
        }
    }

    /// The child does not do what it must: it is killed. One that is being ended loses the rest of its grace.
    pub fn handle_failed(&mut self, now: Instant, orders: &mut Vec<Order>) {
        let now = self.latest.clamp(now);
        match self.state {
            State::Starting | State::Running { .. } => {
                self.forgive(now);
                self.enter(State::Stopping { then: Then::Wait });
                self.kill(orders);
            }
            // Without a deadline it is being killed already.
            State::Stopping { .. } if self.timeout.is_some() => self.kill(orders),
            State::Stopping { .. }
            | State::Stopped
            | State::Waiting { .. }
            | State::Failing { .. } => {}
        }
    }

    /// The process has ended, or could not be started.
    pub fn handle_exited(&mut self, now: Instant, orders: &mut Vec<Order>) {
        let now = self.latest.clamp(now);
        self.forgive(now);
        let then = match self.state {
            State::Stopping { then } => then,
            State::Starting | State::Running { .. } => Then::Wait,
            State::Stopped | State::Waiting { .. } | State::Failing { .. } => return,
        };
        self.timeout = None;
        match then {
            Then::Stop => self.enter(State::Stopped),
            Then::Start => self.spawn(orders),
            Then::Wait => {
                self.failures = self.failures.saturating_add(1);
                if (self.rules.attempts).is_some_and(|attempts| self.failures >= attempts) {
                    self.enter(State::Failing { since: now });
                } else {
                    self.enter(State::Waiting { since: now });
                    self.start_at(now + self.wait());
                    if self.is_wanted {
                        self.demand(now, orders);
                    }
                    self.serve(now, orders);
                }
            }
        }
        self.is_wanted = false;
    }

    /// Serves the deadline when it is due.
    pub fn handle_timeout(&mut self, now: Instant, orders: &mut Vec<Order>) {
        let now = self.latest.clamp(now);
        self.serve(now, orders);
    }

    fn serve(&mut self, now: Instant, orders: &mut Vec<Order>) {
        while let Some(timeout) = self.timeout.take_if(|timeout| timeout.at <= now) {
            match timeout.why {
                Timer::Ready => self.handle_failed(now, orders),
                Timer::Terminate => {
                    orders.push(Order::Terminate);
                    self.timeout = Some(Timeout {
                        at: now + self.rules.grace.before_kill,
                        why: Timer::Kill,
                    });
                }
                Timer::Kill => self.kill(orders),
                Timer::Start => self.spawn(orders),
            }
        }
    }

    fn enter(&mut self, state: State) {
        STATES.step(self.state.name(), state.name());
        self.state = state;
    }

    fn spawn(&mut self, orders: &mut Vec<Order>) {
        self.timeout = None;
        self.enter(State::Starting);
        orders.push(Order::Spawn);
    }

    fn start_at(&mut self, at: Instant) {
        self.timeout = Some(Timeout {
            at,
            why: Timer::Start,
        });
    }

    fn kill(&mut self, orders: &mut Vec<Order>) {
        self.timeout = None;
        orders.push(Order::Kill);
    }

    /// Ends a child that runs within its grace.
    fn leave(&mut self, now: Instant, then: Then, orders: &mut Vec<Order>) {
        let now = self.latest.clamp(now);
        self.forgive(now);
        orders.push(Order::CloseInput);
        self.timeout = Some(Timeout {
            at: now + self.rules.grace.before_terminate,
            why: Timer::Terminate,
        });
        self.enter(State::Stopping { then });
    }

    /// Forgets the failures of a child that runs for long enough.
    fn forgive(&mut self, now: Instant) {
        if let State::Running { since } = self.state
            && now.since(since) >= self.rules.proven
        {
            self.failures = 0;
        }
    }

    /// Returns the wait that the latest failure brings.
    fn wait(&self) -> Duration {
        match self.failures.saturating_sub(self.rules.unpunished) {
            0 => Duration::ZERO,
            more => doubled(self.rules.first_wait, more - 1, self.rules.longest_wait),
        }
    }
}

/// Returns a wait that was doubled so many times, `longest` at most.
pub(crate) fn doubled(first: Duration, times: u32, longest: Duration) -> Duration {
    first.saturating_mul(1 << times.min(16)).min(longest)
}
