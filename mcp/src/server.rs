//! One process of a server: its life, its handshake, and the requests that wait for its answers.

mod incoming;
#[cfg(test)]
mod tests;

use crate::config::Gateway;
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
use incoming::Lesson;
use mcp_local_provider_core::process::{Grace, Life, Order, Rules, State};
use mcp_local_provider_core::rpc::{Call, Json, Outbox, Peer, replace};
use mcp_local_provider_core::text::JsonValue;
use mcp_local_provider_core::time::{Instant, Timeout};

/// Grace of a process that is told to end.
pub const GRACE: Grace = Grace {
    before_terminate: Duration::from_millis(500),
    before_kill: Duration::from_millis(1000),
};

/// From the end of a process that failed too often to the next start on demand.
const RETRY: Duration = Duration::from_secs(60);

/// Number of a request at a process. It is never used twice.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct CallId(u64);

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
    },
    /// The process is gone: what it had asked needs no answer.
    Gone,
}

/// A request that waits for its answer.
enum Open<T> {
    /// `initialize`.
    Handshake,
    /// One that tells a new process what the one before knew.
    Own,
    /// A client's.
    Call(Waiting<T>),
}

struct Waiting<T> {
    to: T,
    since: Instant,
    /// The line, until the process can take it.
    line: Option<String>,
    /// What a new process is to be told if this succeeds.
    teaches: Option<Lesson>,
}

/// Times and bounds of a server.
#[derive(Clone, Copy, Debug)]
struct Times {
    request: Duration,
    request_max: Duration,
    idle: Duration,
}

/// One process of a server. `T` says who waits for an answer. Every call is legal at any time.
pub struct Server<T> {
    name: Arc<str>,
    times: Times,
    life: Life,
    peer: Peer<Open<T>>,
    /// Requests that wait until the process is ready, in their order.
    early: VecDeque<CallId>,
    /// Parameters of `initialize`.
    hello: Box<str>,
    /// A process was ready once.
    was_ready: bool,
    /// The reason of the latest failure, as a sentence that begins with "it".
    trouble: Option<String>,
    level: Option<Box<str>>,
    subscriptions: BTreeMap<Box<str>, Box<str>>,
    /// Somebody listens to a session of this process.
    is_attended: bool,
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

impl<T> Server<T> {
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
            early: VecDeque::new(),
            hello: one_line(hello).into(),
            was_ready: false,
            trouble: None,
            level: None,
            subscriptions: BTreeMap::new(),
            is_attended: true,
            idle_since: None,
            garbage: 0,
        }
    }

    /// Returns the state of the process.
    #[must_use]
    pub const fn state(&self) -> State {
        self.life.state()
    }

    /// Returns the form of the protocol that the process speaks.
    #[must_use]
    pub const fn era(&self) -> Era {
        Era::Sessions
    }

    /// Returns the number of requests that wait for answers.
    #[must_use]
    pub fn open_calls(&self) -> usize {
        let is_call = |open: &Open<T>| match open {
            Open::Call(_) => true,
            Open::Handshake | Open::Own => false,
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
            State::Failing { .. } => Some(self.unavailable(now)),
            State::Stopped
            | State::Starting
            | State::Running { .. }
            | State::Stopping { .. }
            | State::Waiting { .. } => None,
        }
    }

    /// Returns the number of lines that were no messages.
    #[must_use]
    pub const fn garbage(&self) -> u64 {
        self.garbage
    }

    /// Starts a process, if none runs.
    pub fn start(&mut self, now: Instant, out: &mut Out) {
        self.life.demand(now, &mut out.orders);
        self.weigh(now);
    }

    /// Ends the process within its grace. What waits for answers gets none.
    pub fn stop(&mut self, now: Instant, out: &mut Out) {
        self.peer.clear();
        self.early.clear();
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

    /// Sends a client's request, or keeps it until the process can take it. `text` is the whole message, `id` and `call` what was
    /// read from it.
    ///
    /// # Errors
    /// The process cannot be started.
    pub fn request(
        &mut self,
        now: Instant,
        text: &str,
        id: JsonValue<'_>,
        call: &Call<'_>,
        to: T,
        out: &mut Out,
    ) -> Result<CallId, (Refusal, T)> {
        self.life.demand(now, &mut out.orders);
        if let Some(refusal) = self.refusal(now) {
            return Err((refusal, to));
        }
        let teaches = Lesson::of(call);
        let number = self.peer.expect(
            Open::Call(Waiting {
                to,
                since: now,
                line: None,
                teaches,
            }),
            Some(now + self.times.request.min(self.times.request_max)),
        );
        let line = rewritten(text, id, call.progress_token, number);
        if self.is_ready() {
            out.lines.push(line);
        } else if let Some(Open::Call(waiting)) = self.peer.get_mut(number) {
            waiting.line = Some(line);
            self.early.push_back(CallId(number));
        }
        self.check_lines(now, out);
        self.weigh(now);
        Ok(CallId(number))
    }

    /// Sends a client's notification, or its answer to a request of the process with the `id` that the process gave in the
    /// place of the one in it. A process that is not ready has asked nothing, and hears all that counts when it is.
    pub fn send(
        &mut self,
        now: Instant,
        text: &str,
        id: Option<(JsonValue<'_>, &str)>,
        out: &mut Out,
    ) {
        if self.is_ready() {
            let mut line = Vec::with_capacity(text.len() + 24);
            replace(&mut line, text, id.as_slice());
            out.lines.push(finished(line));
            self.check_lines(now, out);
        }
    }

    /// Takes a client's request back; `reason` is JSON.
    pub fn cancel(
        &mut self,
        now: Instant,
        call: CallId,
        reason: Option<JsonValue<'_>>,
        out: &mut Out,
    ) -> Option<T> {
        match self.peer.cancel(call.0)? {
            Open::Call(waiting) => {
                self.withdraw(
                    call.0,
                    waiting.line.is_some(),
                    reason.map(JsonValue::get),
                    out,
                );
                self.weigh(now);
                Some(waiting.to)
            }
            Open::Handshake | Open::Own => None,
        }
    }

    fn withdraw(&mut self, number: u64, is_early: bool, reason: Option<&str>, out: &mut Out) {
        if is_early {
            self.early.retain(|early| early.0 != number);
            return;
        }
        let mut json = Json::notification("notifications/cancelled");
        json.member("requestId")
            .raw(itoa::Buffer::new().format(number));
        if let Some(reason) = reason {
            json.member("reason").raw(&one_line(reason));
        }
        out.lines.push(json.end_params());
    }

    /// The process was started.
    pub fn handle_started(&mut self, now: Instant, out: &mut Out) {
        self.life.handle_started(now);
        // The deadline of the start is the life's.
        let number = self.peer.expect(Open::Handshake, None);
        out.lines.push(format!(
            "{{\"jsonrpc\":\"2.0\",\"id\":{number},\"method\":\"initialize\",\"params\":{}}}\n",
            self.hello
        ));
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
        let by_itself = !matches!(self.life.state(), State::Stopping { .. });
        if by_itself || self.trouble.is_none() {
            self.trouble = Some(why.into());
        }
        out.lines.clear();
        self.life.handle_exited(now, &mut out.orders);
        deliver(Delivery::Gone);
        let message = format!(
            "the MCP server `{}` ended while it worked for this request: {why}",
            self.name
        );
        self.fail(
            |waiting| waiting.line.is_none(),
            deliver,
            &|server: &Self| Refusal {
                exit: Some(exit),
                ..Refusal::new(Reason::ServerExited, message.clone()).about(&server.name)
            },
        );
        let is_failing = matches!(self.life.state(), State::Failing { .. });
        if is_failing || !self.was_ready {
            deliver(Delivery::NotReady(self.unavailable(now)));
        }
        if is_failing {
            self.fail(|_| true, deliver, &|server: &Self| server.unavailable(now));
        }
        self.weigh(now);
    }

    /// Fails the requests that are chosen, and forgets what the program itself has asked.
    fn fail(
        &mut self,
        choose: impl Fn(&Waiting<T>) -> bool,
        deliver: &mut dyn FnMut(Delivery<'_, T>),
        refusal: &dyn Fn(&Self) -> Refusal,
    ) {
        let chosen = self.peer.iter().filter(|(_, open)| match open {
            Open::Handshake | Open::Own => true,
            Open::Call(waiting) => choose(waiting),
        });
        let chosen: Vec<u64> = chosen.map(|(number, _)| number).collect();
        for number in chosen {
            if let Some(Open::Call(waiting)) = self.peer.cancel(number) {
                self.early.retain(|early| early.0 != number);
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
        [life, answer, idle].into_iter().flatten().min()
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
                        self.trouble = Some("it did not answer `initialize` in time".into());
                    }
                    self.life.handle_timeout(now, &mut out.orders);
                }
                Timer::Answer => self.handle_late(now, out, deliver),
                Timer::Idle => {
                    self.idle_since = None;
                    self.life.stop(now, &mut out.orders);
                }
            }
        }
        self.check_lines(now, out);
        self.weigh(now);
    }

    /// A request has waited for too long.
    fn handle_late(
        &mut self,
        now: Instant,
        out: &mut Out,
        deliver: &mut dyn FnMut(Delivery<'_, T>),
    ) {
        if let Some((number, Open::Call(waiting))) = self.peer.take_due(now) {
            let reason = "\"the request has waited for too long\"";
            self.withdraw(number, waiting.line.is_some(), Some(reason), out);
            let message = format!(
                "the MCP server `{}` did not answer in time (gateway.timeouts.request)",
                self.name
            );
            deliver(Delivery::Failed {
                to: waiting.to,
                refusal: Refusal::new(Reason::Timeout, message).about(&self.name),
            });
        }
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
        let is_idle = self.is_ready() && !self.is_attended && self.peer.is_empty();
        self.idle_since = match self.idle_since {
            _ if !is_idle => None,
            None => Some(now),
            since @ Some(_) => since,
        };
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
    /// The answer to a request is due.
    Answer,
    /// Nobody needs the process.
    Idle,
}

/// A line with a client's request under another id, and with that for its progress token too.
fn rewritten(text: &str, id: JsonValue<'_>, token: Option<JsonValue<'_>>, number: u64) -> String {
    let mut buffer = itoa::Buffer::new();
    let number = buffer.format(number);
    let mut line = Vec::with_capacity(text.len() + 24);
    match token {
        None => replace(&mut line, text, &[(id, number)]),
        // In their order in the text.
        Some(token) if token.get().as_ptr() < id.get().as_ptr() => {
            replace(&mut line, text, &[(token, number), (id, number)]);
        }
        Some(token) => replace(&mut line, text, &[(id, number), (token, number)]),
    }
    finished(line)
}

/// A message as one line, with its end.
fn finished(mut line: Vec<u8>) -> String {
    // Within a string they would be escaped.
    for byte in &mut line {
        if matches!(byte, b'\n' | b'\r') {
            *byte = b' ';
        }
    }
    line.push(b'\n');
    // Pieces of texts were put together.
    String::from_utf8(line).unwrap_or_default()
}

/// JSON without line ends.
fn one_line(json: &str) -> String {
    json.replace(['\n', '\r'], " ")
}
