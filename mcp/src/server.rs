//! One process of a server: its life, its handshake, and the requests that wait for its answers.

mod era;
mod health;
mod incoming;
mod listening;
mod lists;
mod mirroring;
mod outgoing;
mod raising;
mod rounds;
#[cfg(test)]
mod tests;
mod told;
mod unanswered;
mod withdrawal;

pub use era::Known;
pub use health::state_name;

use crate::config::Gateway;
use crate::mirrored::Given;
use crate::refusal::{Exit, Reason, Refusal};
use crate::revision::Era;
use alloc::boxed::Box;
use alloc::collections::{BTreeMap, VecDeque};
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
use core::time::Duration;
use era::Handshake;
use health::Health;
use incoming::Lesson;
use lists::{Lists, Wish};
use mcp_local_provider_core::process::{Grace, Life, Order, Rules, State, Then};
use mcp_local_provider_core::rpc::{Outbox, Peer};
use mcp_local_provider_core::text::JsonValue;
use mcp_local_provider_core::time::{Instant, Timeout};
use mirroring::Mirroring;
use raising::{Raising, Settled};
use rounds::Rounds;

/// Grace of a process that is told to end.
pub const GRACE: Grace = Grace {
    before_terminate: Duration::from_millis(500),
    before_kill: Duration::from_millis(1000),
};

/// From the end of a process that failed too often to the next start on demand.
const RETRY: Duration = Duration::from_secs(60);

/// The reason of the end of a process that the gateway has ended.
const TOLD_TO_END: &str = "it was told to end";

/// Number of a request at a process. It is never used twice.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct CallId(pub(crate) u64);

/// Output of a call for the process.
#[derive(Debug, Default)]
pub struct Out {
    /// Orders for the process, to be carried out in their order.
    pub orders: Vec<Order>,
    /// Lines for the process.
    pub lines: Outbox,
}

/// Something that the process said, or that became of it, for those whom it concerns.
#[derive(Debug)]
pub enum Delivery<'m, T> {
    /// The handshake is done.
    Ready {
        /// `result` of `initialize`.
        result: &'m str,
        /// A process before this one had done it too.
        again: bool,
    },
    /// A start has failed before any process was ready, or so many have failed that none follows.
    NotReady(Refusal),
    /// The answer to a request, with the id that the process knows.
    Answer {
        /// Who asked.
        to: T,
        /// The whole message.
        text: &'m str,
        /// The id in it.
        id: JsonValue<'m>,
        /// It was kept: the process was not asked.
        is_kept: bool,
    },
    /// A request fails without an answer.
    Failed {
        /// Who asked.
        to: T,
        /// The error for it.
        refusal: Refusal,
    },
    /// A notification of progress.
    Progress {
        /// Who asked.
        to: &'m T,
        /// The whole message.
        text: &'m str,
        /// The token in it.
        token: JsonValue<'m>,
    },
    /// A request of the process itself.
    Asked {
        /// The asker of the request that it belongs to, where that is known.
        of: Option<&'m T>,
        /// The whole message.
        text: &'m str,
        /// The id in it.
        id: JsonValue<'m>,
        /// The name of the method.
        method: &'m str,
    },
    /// The process takes a request of its own back.
    Withdrawn {
        /// The whole message.
        text: &'m str,
        /// The request's id in it.
        id: JsonValue<'m>,
    },
    /// Another notification.
    Notified {
        /// The whole message.
        text: &'m str,
        /// The name of the method.
        method: &'m str,
        /// For whom the process can be at work: those who wait for answers, and those who took a request back to which it has
        /// given none.
        callers: Vec<&'m T>,
    },
    /// The process is gone: what it had asked needs no answer. Comes before the requests that fail by it.
    Gone {
        /// Why, as a sentence that begins with "it"; `None` where it was told to end.
        failure: Option<&'m str>,
    },
}

/// A request that waits for its answer.
enum Open<T> {
    /// `initialize`, or `server/discover` in its place.
    Handshake,
    /// `subscriptions/listen`.
    Listen,
    /// The client's request of this number, sent again with the client's answers.
    Round(u64),
    /// One of the program itself: it tells a new process what the one before knew, or asks for its tools.
    Own,
    /// `ping`, or `server/discover` in its place, for a sign of life.
    Life,
    /// A client's.
    Call(Waiting<T>),
    /// One that was taken back: the process may go on with it all the same.
    Withdrawn(T),
}

/// A request that the process has not got.
struct Early {
    number: u64,
    /// Headers that are to say what the arguments of a call say.
    given: Option<Given>,
}

struct Waiting<T> {
    to: T,
    since: Instant,
    /// The line, until the process can take it.
    line: Option<String>,
    /// The form of the request, and that of its answer.
    form: Era,
    /// What a new process is to be told if this succeeds.
    teaches: Option<Lesson>,
    /// The page of a list that the answer is.
    page: Option<Box<Wish>>,
    /// The means to send it again, where the process may want that.
    rounds: Option<Box<Rounds>>,
}

/// Times and bounds of a server.
#[derive(Clone, Copy, Debug)]
struct Times {
    request: Duration,
    request_max: Duration,
    idle: Duration,
    probe: Duration,
}

/// One process of a server. `T` says who waits for an answer. Every call is legal at any time.
pub struct Server<T> {
    name: Arc<str>,
    times: Times,
    life: Life,
    peer: Peer<Open<T>>,
    /// Requests in `peer` that were taken back.
    withdrawn: usize,
    /// Requests that wait until the process is ready, in their order.
    early: VecDeque<Early>,
    handshake: Handshake,
    raising: Raising,
    health: Health,
    lists: Lists,
    mirroring: Mirroring,
    /// Deliveries that the process has not said.
    settled: VecDeque<Settled<T>>,
    /// A process was ready once.
    was_ready: bool,
    /// The reason of the latest failure, as a sentence that begins with "it".
    trouble: Option<String>,
    level: Option<Box<str>>,
    subscriptions: BTreeMap<Box<str>, Box<str>>,
    /// Somebody listens to a session of this process.
    is_attended: bool,
    /// It was told to end for good.
    is_over: bool,
    /// Since when nobody needs the process.
    idle_since: Option<Instant>,
    garbage: u64,
}

impl<T> fmt::Debug for Server<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server")
            .field("name", &self.name)
            .field("state", &self.life.state())
            .field("open", &self.peer.len())
            .finish_non_exhaustive()
    }
}

impl<T: Clone> Server<T> {
    /// Makes a server whose processes are greeted with `hello`, the parameters of `initialize`. None is started yet.
    #[must_use]
    pub fn new(name: Arc<str>, hello: &str, config: &Gateway) -> Self {
        let restart = &config.restart;
        Self {
            name,
            times: Times {
                request: config.timeouts.request,
                request_max: config.timeouts.request_max,
                idle: config.processes.idle,
                probe: config.processes.probe,
            },
            life: Life::new(Rules {
                start_timeout: config.processes.start,
                unpunished: 0,
                first_wait: restart.delay,
                soonest: restart.delay,
                proven: restart.reset,
                attempts: Some(if restart.enabled { restart.attempts } else { 1 }),
                retry: RETRY,
                grace: GRACE,
                ..Rules::default()
            }),
            peer: Peer::new(),
            withdrawn: 0,
            early: VecDeque::new(),
            handshake: Handshake::new(),
            raising: Raising::new(&one_line(hello)),
            health: Health::new(config.health),
            lists: Lists::new(config.cache_ttl),
            mirroring: Mirroring::default(),
            settled: VecDeque::new(),
            was_ready: false,
            trouble: None,
            level: None,
            subscriptions: BTreeMap::new(),
            is_attended: true,
            is_over: false,
            idle_since: None,
            garbage: 0,
        }
    }

    /// Returns the state of the process.
    #[must_use]
    pub const fn state(&self) -> State {
        self.life.state()
    }

    /// Returns the number of requests that wait for answers.
    #[must_use]
    pub fn open_calls(&self) -> usize {
        let is_call = |open: &Open<T>| match open {
            Open::Call(_) => true,
            Open::Handshake
            | Open::Listen
            | Open::Round(_)
            | Open::Own
            | Open::Withdrawn(_)
            | Open::Life => false,
        };
        self.peer.iter().filter(|(_, open)| is_call(open)).count()
    }

    /// Returns the moment since which nobody needs the process; `None` while somebody does, and where there is none.
    #[must_use]
    pub const fn idle_since(&self) -> Option<Instant> {
        self.idle_since
    }

    /// Returns the error for those who want a process that cannot be had now; `None` where it is there, or comes.
    #[must_use]
    pub fn refusal(&self, now: Instant) -> Option<Refusal> {
        match self.life.state() {
            State::Stopped | State::Stopping { .. } if self.is_over => Some(self.unavailable(now)),
            State::Failing { .. } => Some(self.unavailable(now)),
            State::Stopped
            | State::Starting
            | State::Running { .. }
            | State::Stopping { .. }
            | State::Waiting { .. } => None,
        }
    }

    /// Returns who waits for the answer to the request of this number; `None` where it was taken back, or is no client's.
    #[must_use]
    pub fn asker(&self, number: u64) -> Option<&T> {
        match self.peer.get(number)? {
            Open::Call(waiting) => Some(&waiting.to),
            Open::Handshake
            | Open::Listen
            | Open::Round(_)
            | Open::Own
            | Open::Withdrawn(_)
            | Open::Life => None,
        }
    }

    /// Returns the number of lines that were no messages.
    #[must_use]
    pub const fn garbage(&self) -> u64 {
        self.garbage
    }

    /// Starts a process, if none runs.
    pub fn start(&mut self, now: Instant, out: &mut Out) {
        self.demand(now, out);
        self.weigh(now);
    }

    fn demand(&mut self, now: Instant, out: &mut Out) {
        if !self.is_over {
            self.life.demand(now, &mut out.orders);
        }
    }

    /// Ends the process within its grace and for good, as [`Server::stop`] does, and fails what waits for it.
    pub fn end(&mut self, now: Instant, out: &mut Out, deliver: &mut dyn FnMut(Delivery<'_, T>)) {
        let refusal = |server: &Self| server.exited(TOLD_TO_END, None);
        self.fail(|_| true, deliver, &refusal);
        deliver(Delivery::NotReady(refusal(self)));
        self.stop(now, out);
    }

    /// Ends the process within its grace, and for good: none is started any more. What waits for answers gets none.
    pub fn stop(&mut self, now: Instant, out: &mut Out) {
        self.is_over = true;
        self.trouble = Some(TOLD_TO_END.into());
        self.peer.clear();
        self.withdrawn = 0;
        self.early.clear();
        self.settled.clear();
        self.handshake.finish();
        self.raising.forget();
        self.lists.clear();
        self.mirroring.forget();
        self.health.begin(now);
        self.life.stop(now, &mut out.orders);
        self.weigh(now);
    }

    /// Ends the process within its grace if nobody needs it. The next request starts another one.
    pub fn rest(&mut self, now: Instant, out: &mut Out) {
        if self.idle_since.take().is_some() {
            self.life.stop(now, &mut out.orders);
        }
    }

    /// Tells whether anybody listens to a session of this process. It is stopped when nobody does for long and no request is open.
    pub fn attend(&mut self, now: Instant, is_attended: bool) {
        self.is_attended = is_attended;
        self.weigh(now);
    }

    /// The process was started.
    pub fn handle_started(&mut self, now: Instant, out: &mut Out) {
        self.life.handle_started(now);
        self.greet(now, out);
        self.weigh(now);
    }

    /// The process has ended, or could not be started; `why` is a sentence that begins with "it".
    pub fn handle_exited(
        &mut self,
        now: Instant,
        exit: Exit,
        why: &str,
        out: &mut Out,
        deliver: &mut dyn FnMut(Delivery<'_, T>),
    ) {
        if exit != Exit::NotStarted && self.handle_ended_probe(now, out) {
            return;
        }
        let refused = match self.life.state() {
            State::Starting => self.doubt(),
            State::Stopped
            | State::Running { .. }
            | State::Stopping { .. }
            | State::Waiting { .. }
            | State::Failing { .. } => None,
        };
        let by_itself = !matches!(self.life.state(), State::Stopping { .. });
        let is_replaced = self.life.state() == State::Stopping { then: Then::Start };
        if by_itself || self.trouble.is_none() {
            let method = self.handshake.method();
            let asked = |refused: String| format!("{refused}; asked by `{method}`, {why}");
            self.trouble = Some(refused.map_or_else(|| why.into(), asked));
        }
        out.lines.clear();
        self.handshake.finish();
        self.raising.forget();
        self.lists.clear();
        self.early.append(&mut self.mirroring.forget());
        self.health.begin(now);
        self.life.handle_exited(now, &mut out.orders);
        let has_failed = matches!(
            self.life.state(),
            State::Waiting { .. } | State::Failing { .. }
        );
        deliver(Delivery::Gone {
            failure: self.trouble.as_deref().filter(|_| has_failed),
        });
        self.fail(
            |waiting| waiting.line.is_none(),
            deliver,
            &|server: &Self| server.exited(why, Some(exit)),
        );
        let is_failing = matches!(self.life.state(), State::Failing { .. });
        if is_failing || (!self.was_ready && !is_replaced) {
            deliver(Delivery::NotReady(self.unavailable(now)));
        }
        if is_failing {
            self.fail(|_| true, deliver, &|server: &Self| server.unavailable(now));
        }
        self.weigh(now);
    }

    /// Fails the requests that are chosen, and forgets what the program itself has asked and what was taken back.
    fn fail(
        &mut self,
        choose: impl Fn(&Waiting<T>) -> bool,
        deliver: &mut dyn FnMut(Delivery<'_, T>),
        refusal: &dyn Fn(&Self) -> Refusal,
    ) {
        let chosen = self.peer.iter().filter(|(_, open)| match open {
            Open::Handshake
            | Open::Listen
            | Open::Round(_)
            | Open::Own
            | Open::Withdrawn(_)
            | Open::Life => true,
            Open::Call(waiting) => choose(waiting),
        });
        let chosen: Vec<u64> = chosen.map(|(number, _)| number).collect();
        self.withdrawn = 0;
        for number in chosen {
            if let Some(Open::Call(waiting)) = self.peer.cancel(number) {
                self.early.retain(|early| early.number != number);
                let refusal = refusal(self);
                deliver(Delivery::Failed {
                    to: waiting.to,
                    refusal,
                });
            }
        }
    }

    /// Returns the next moment at which [`Server::handle_timeout`] is to be called.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Timeout<Timer>> {
        let life = self.life.poll_timeout().map(|timeout| Timeout {
            at: timeout.at,
            why: Timer::Life,
        });
        let answer = self.peer.poll_timeout().map(|(at, _)| Timeout {
            at,
            why: Timer::Answer,
        });
        let idle = self.idle_since.map(|since| Timeout {
            at: since + self.times.idle,
            why: Timer::Idle,
        });
        let is_starting = self.life.state() == State::Starting;
        let probe = self.handshake.probe().filter(|_| is_starting);
        let probe = probe.map(|at| Timeout {
            at,
            why: Timer::Probe,
        });
        let health = self.next_question();
        let lists = self.lists.next_end().map(|at| Timeout {
            at,
            why: Timer::Lists,
        });
        let all = [life, answer, idle, probe, health, lists];
        all.into_iter().flatten().min()
    }

    /// Serves the deadlines that are due.
    pub fn handle_timeout(
        &mut self,
        now: Instant,
        out: &mut Out,
        deliver: &mut dyn FnMut(Delivery<'_, T>),
    ) {
        while let Some(timeout) = self.poll_timeout().filter(|timeout| timeout.at <= now) {
            match timeout.why {
                Timer::Life => {
                    if self.life.state() == State::Starting {
                        let method = self.handshake.method();
                        self.trouble = Some(format!("it did not answer `{method}` in time"));
                        self.doubt();
                    }
                    self.life.handle_timeout(now, &mut out.orders);
                }
                Timer::Answer => self.handle_late(now, out, deliver),
                Timer::Health => self.ask_for_life(now, out),
                Timer::Probe => self.throw_away(now, out),
                Timer::Lists => self.lists.expire(now),
                Timer::Idle => {
                    self.idle_since = None;
                    self.life.stop(now, &mut out.orders);
                }
            }
        }
        self.check_lines(now, out);
        self.weigh(now);
    }

    const fn is_ready(&self) -> bool {
        matches!(self.life.state(), State::Running { .. })
    }

    /// A process that does not read its input is of no use.
    fn check_lines(&mut self, now: Instant, out: &mut Out) {
        if out.lines.is_over() {
            self.trouble = Some("it did not read its standard input".into());
            out.lines.clear();
            self.life.handle_failed(now, &mut out.orders);
        }
    }

    /// Notes since when nobody needs the process.
    fn weigh(&mut self, now: Instant) {
        let own = self.withdrawn + self.raising.listens() + self.health.asks();
        let is_idle = self.is_ready() && !self.is_attended && self.peer.len() <= own;
        self.idle_since = match self.idle_since {
            _ if !is_idle => None,
            None => Some(now),
            since @ Some(_) => since,
        };
    }

    /// The error for those who wait for a process that has ended; `why` is a sentence that begins with "it".
    fn exited(&self, why: &str, exit: Option<Exit>) -> Refusal {
        let message = format!(
            "the MCP server `{}` ended while it worked for this request: {why}",
            self.name
        );
        Refusal {
            exit,
            ..Refusal::new(Reason::ServerExited, message).about(&self.name)
        }
    }

    /// The error for those who want a process that cannot be had.
    fn unavailable(&self, now: Instant) -> Refusal {
        let trouble = self.trouble.as_deref().unwrap_or("it cannot be started");
        let message = format!("the MCP server `{}` is not available: {trouble}", self.name);
        let refusal = Refusal::new(Reason::ServerUnavailable, message).about(&self.name);
        // One that failed too often is started by a request alone, and not before.
        let next = match self.life.state() {
            State::Failing { since } => Some(since + RETRY),
            State::Stopped
            | State::Starting
            | State::Running { .. }
            | State::Stopping { .. }
            | State::Waiting { .. } => self.life.next_start(),
        };
        match next {
            Some(next) => refusal.retry_after(next.since(now)),
            None => refusal,
        }
    }
}

/// The reasons for which a server waits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Timer {
    /// Its process is to be ready, to end, or to be started again.
    Life,
    /// The answer to a request, or a sign of life, is due.
    Answer,
    /// Nothing was heard of the process for a while.
    Health,
    /// Nobody needs the process.
    Idle,
    /// The answer to `server/discover` is due of a process that may not know it.
    Probe,
    /// A list that is kept is too old.
    Lists,
}

/// JSON without line ends.
fn one_line(json: &str) -> String {
    json.replace(['\n', '\r'], " ")
}
