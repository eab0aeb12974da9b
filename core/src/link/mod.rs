//! One agent connection: correlates answers with exchanges, puts chunks in order, keeps the connection alive.
//!
//! What becomes of each exchange of a link is the table [`SLOT`].
//!
//! The connection:
//!
//! ```mermaid
//! stateDiagram-v2
//!     [*] --> Alive
//!     Alive --> Asked: every 30 s / ping
//!     Asked --> Alive: any sign of life
//!     Asked --> Closed: 10 s / 4003
//!     Alive --> Closed: 16 faults in a minute / 4002
//!     Alive --> Closed: frame too large / 1009
//!     Alive --> Closed: outgoing queue over its budget / 4004
//!     Alive --> Closed: the hub asks, the connection is lost
//!     Closed --> [*]: every open exchange has Failed, once
//! ```
//!
//! A closed link takes nothing, says nothing and waits for nothing.

mod answers;
mod from_agent;
mod permit;
mod ports;
mod reassembly;
mod table;
mod to_agent;

pub use from_agent::{Answer, Chunk, Ending, FromAgent, Id, MAX_MODELS, Registration};
pub use permit::{Permit, Permits};
pub use ports::{
    CloseCode, Command, Deliver, LinkConfig, LinkCounters, LinkOut, Notice, USED_UP, Unopened,
};
pub use table::SLOT;
pub use to_agent::{Echo, Invoke, MESSAGE_CHARGE, Registered, SessionStatus, ToAgent};

use crate::error::{AgentFault, Code};
use crate::id::{ExchangeId, LinkId, SessionId};
use crate::invocation::{CancelReason, Delivery, Failure};
use crate::time::{Instant, Latest, Reason, Timeout, Timers};
use alloc::borrow::Cow;
use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::format;
use answers::agent_fault;
use core::time::Duration;
use table::Table;

/// So many protocol faults within [`FAULT_WINDOW`] close the link.
const FAULTS: usize = 16;

/// See [`FAULTS`].
const FAULT_WINDOW: Duration = Duration::from_secs(60);

/// Longest timestamp that is sent back, in bytes.
const ECHO_LEN: usize = 64;

/// The reasons for which a link waits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Timer {
    /// The peer is owed a ping.
    Ping,
    /// A ping waits for any sign of life.
    Pong,
    /// A chunk ahead of a gap waits for the missing one.
    Gap,
    /// The oldest tombstone may go.
    Tombstone,
}

impl Reason<4> for Timer {
    const ALL: [Self; 4] = [Self::Ping, Self::Pong, Self::Gap, Self::Tombstone];

    fn place(self) -> usize {
        self as usize
    }
}

/// One agent connection.
///
/// `T` is the driver's own handle for an exchange, an `Arc` of a mailbox cell say; it is handed back to [`Deliver`]
/// untouched. Calls are legal in any order. Threads may deliver `now` out of order; time here only moves forward.
#[derive(Debug)]
pub struct Link<T> {
    id: LinkId,
    config: LinkConfig,
    latest: Latest,
    timers: Timers<Timer, 4>,
    table: Table<T>,
    counters: LinkCounters,
    pinged: Option<Instant>,
    /// Times of the last faults, at most [`FAULTS`] of them.
    faults: VecDeque<Instant>,
    closed: bool,
}

impl<T> Link<T> {
    /// A link that has just been connected.
    #[must_use]
    pub fn new(id: LinkId, config: &LinkConfig, now: Instant) -> Self {
        let mut latest = Latest::default();
        let now = latest.clamp(now);
        let mut timers = Timers::new();
        timers.set(Timer::Ping, Some(now + config.ping_interval));
        Self {
            id,
            config: config.clone(),
            latest,
            timers,
            table: Table::new(config.tombstones, config.tombstone_ttl),
            counters: LinkCounters::default(),
            pinged: None,
            faults: VecDeque::new(),
            closed: false,
        }
    }

    /// Its name.
    #[must_use]
    pub const fn id(&self) -> LinkId {
        self.id
    }

    /// Returns the configuration that the link was made with.
    #[must_use]
    pub const fn config(&self) -> &LinkConfig {
        &self.config
    }

    /// Exchanges that wait for this agent.
    #[must_use]
    pub fn open_exchanges(&self) -> usize {
        self.table.len()
    }

    /// True once nothing is taken or said any more.
    #[must_use]
    pub const fn is_closed(&self) -> bool {
        self.closed
    }

    /// True while an exchange waits for this agent.
    #[must_use]
    pub fn is_open(&self, exchange: ExchangeId) -> bool {
        self.table.contains(exchange)
    }

    /// Returns the open exchanges with the recipients of their answers, in no particular order.
    pub fn recipients(&self) -> impl Iterator<Item = (ExchangeId, &T)> {
        self.table.recipients()
    }

    /// Ids that are done and remembered.
    #[must_use]
    pub fn tombstones(&self) -> usize {
        self.table.tombstones()
    }

    /// Exchanges whose answer has begun.
    #[must_use]
    pub fn streams(&self) -> usize {
        self.table.begun()
    }

    /// Returns the time of the last ping that was sent.
    #[must_use]
    pub const fn last_ping(&self) -> Option<Instant> {
        self.pinged
    }

    /// Returns the counts of events since the link was opened.
    #[must_use]
    pub const fn counters(&self) -> &LinkCounters {
        &self.counters
    }

    /// Sends an invocation. What the agent answers goes to `to`.
    ///
    /// # Errors
    /// The reason, with `to` handed back, when the permit holds no more, when the link is closed or closes now because the
    /// agent does not read, or when its exchange was opened on it before.
    pub fn open(
        &mut self,
        now: Instant,
        invoke: Invoke,
        to: T,
        out: &mut LinkOut,
    ) -> Result<(), (Unopened, T)> {
        let at = self.latest.clamp(now);
        if self.closed || self.over_budget(out) {
            return Err((Unopened::Closed, to));
        }
        if !invoke.permit.holds() {
            return Err((Unopened::SessionEnded, to));
        }
        self.table
            .insert(invoke.id, invoke.permit.session().clone(), to)
            .map_err(|to| (Unopened::Closed, to))?;
        self.counters.opened += 1;
        let invoke = Box::new(invoke);
        self.send(ToAgent::Invoke { invoke, at }, out);
        Ok(())
    }

    /// Ends an exchange that nobody waits for any more. Sends `model_cancel` when the agent had not ended it.
    pub fn cancel(&mut self, now: Instant, id: ExchangeId, why: CancelReason, out: &mut LinkOut) {
        let now = self.latest.clamp(now);
        if self.closed {
            self.table.retire(now, id);
        } else {
            self.cancel_open(now, id, why, out);
        }
    }

    /// The memory that all answers share is used up, and the answer of `id` was cut: the agent is told. Its recipient has its
    /// failure already.
    pub fn cut(&mut self, now: Instant, id: ExchangeId, out: &mut LinkOut) {
        if self.table.contains(id) {
            self.counters.overruns += 1;
            self.cancel(now, id, CancelReason::BudgetOverrun, out);
        }
    }

    /// Takes one message of the agent.
    pub fn handle_message(
        &mut self,
        now: Instant,
        message: FromAgent<'_>,
        out: &mut LinkOut,
        deliver: &mut impl Deliver<T>,
    ) {
        let now = self.latest.clamp(now);
        if self.closed {
            return;
        }
        self.counters.received += 1;
        self.timers.set(Timer::Pong, None);
        match message {
            FromAgent::Chunk(chunk) => self.chunk(now, chunk, out, deliver),
            FromAgent::Result(answer) => self.result(now, answer, out, deliver),
            FromAgent::Error { id, failure } => {
                self.counters.agent_errors += 1;
                if let Some(id) = id {
                    self.whole(now, id, &[], &Ending::Failed(failure), out, deliver);
                }
            }
            FromAgent::Register(registration) => out.notices.push(Notice::Register(registration)),
            FromAgent::Unregister { session } => match SessionId::new(&session) {
                Some(session) => out.notices.push(Notice::Unregister(session)),
                None => self.reply(
                    ToAgent::error("session_not_found", "session_id: no such session"),
                    out,
                    deliver,
                ),
            },
            FromAgent::Ping { timestamp } => {
                let timestamp = timestamp
                    .map(serde_json::value::RawValue::get)
                    .filter(|raw| raw.len() <= ECHO_LEN)
                    .map(Box::from);
                let at = now;
                self.reply(ToAgent::Pong { timestamp, at }, out, deliver);
            }
            FromAgent::Pong => {}
            FromAgent::Unknown { id, .. } => {
                self.counters.unknown_types += 1;
                self.reply(
                    ToAgent::Error {
                        id: id.and_then(Echo::of),
                        code: "unknown_type",
                        message: "type: not known in version 1 of the agent protocol".into(),
                    },
                    out,
                    deliver,
                );
            }
        }
    }

    /// Takes a frame that [`decode`](crate::agents::websocket::decode) refused, or one that is not text.
    pub fn handle_fault(
        &mut self,
        now: Instant,
        fault: AgentFault,
        out: &mut LinkOut,
        deliver: &mut impl Deliver<T>,
    ) {
        let now = self.latest.clamp(now);
        if self.closed {
            return;
        }
        self.counters.received += 1;
        self.timers.set(Timer::Pong, None);
        let id = match &fault {
            AgentFault::TooLarge => {
                self.counters.faults += 1;
                self.shut(CloseCode::TooLarge, out, deliver);
                return;
            }
            AgentFault::Answer { id, .. } => Some(*id),
            AgentFault::Malformed(_) | AgentFault::Binary => None,
        };
        if let Some(id) = id {
            if self.table.is_done(now, id) {
                self.counters.late += 1;
                return;
            }
            self.fail(
                now,
                id,
                &agent_fault(format!("the agent broke the protocol: {fault}")),
                CancelReason::Protocol,
                out,
                deliver,
            );
        }
        let answer = ToAgent::Error {
            id: id.map(Id::Ours).and_then(Echo::of),
            code: "protocol",
            message: format!("{fault}").into(),
        };
        self.fault(now, answer, out, deliver);
    }

    /// The agent has shown a sign of life: any bytes, any frame.
    pub fn handle_alive(&mut self, now: Instant) {
        self.latest.clamp(now);
        self.timers.set(Timer::Pong, None);
    }

    /// Does what the hub asks.
    pub fn handle_command(
        &mut self,
        now: Instant,
        command: Command,
        out: &mut LinkOut,
        deliver: &mut impl Deliver<T>,
    ) {
        let now = self.latest.clamp(now);
        if self.closed {
            return;
        }
        match command {
            Command::Registered(it) => self.reply(ToAgent::Registered(it), out, deliver),
            Command::SessionStatus(it) => self.reply(ToAgent::SessionStatus(it), out, deliver),
            Command::EndSession { session, reason } => {
                for id in self.table.of_session(&session) {
                    let failure = Failure {
                        code: Code::SessionEnded,
                        message: Cow::Borrowed("the agent's session ended while it was answering"),
                        retry_after: None,
                    };
                    self.fail(now, id, &failure, reason, out, deliver);
                }
            }
            Command::Error { code, message } => {
                self.reply(ToAgent::error(code, message), out, deliver);
            }
            Command::Close(code) => self.shut(code, out, deliver),
        }
    }

    /// The connection is gone. Every open exchange fails, once.
    pub fn handle_disconnect(
        &mut self,
        now: Instant,
        out: &mut LinkOut,
        deliver: &mut impl Deliver<T>,
    ) {
        self.latest.clamp(now);
        self.end(deliver);
        out.clear();
    }

    /// Does what is due at `now`.
    pub fn handle_timeout(
        &mut self,
        now: Instant,
        out: &mut LinkOut,
        deliver: &mut impl Deliver<T>,
    ) {
        let now = self.latest.clamp(now);
        // Each timer is due once: what it sets is later than `now`.
        for _ in Timer::ALL {
            let Some(why) = self.timers.take_due(now) else {
                return;
            };
            match why {
                Timer::Pong => self.shut(CloseCode::NoSignOfLife, out, deliver),
                Timer::Ping => {
                    out.push(ToAgent::Ping);
                    self.pinged = Some(now);
                    // One that waits already is not put off by a later ping.
                    if self.timers.get(Timer::Pong).is_none() {
                        self.timers
                            .set(Timer::Pong, Some(now + self.config.pong_timeout));
                    }
                    self.timers
                        .set(Timer::Ping, Some(now + self.config.ping_interval));
                }
                Timer::Gap => {
                    while let Some(id) = self.table.take_expired_gap(now) {
                        self.gap(now, id, out, deliver);
                    }
                }
                Timer::Tombstone => {
                    self.table.drop_tombstones(now);
                    self.rearm();
                }
            }
        }
    }

    /// Returns the time at which [`Link::handle_timeout`] is to be called next, and the reason.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Timeout<Timer>> {
        self.timers.next()
    }

    /// Sends a message that the agent caused, unless it does not read.
    fn reply(&mut self, message: ToAgent, out: &mut LinkOut, deliver: &mut impl Deliver<T>) {
        if self.over_budget(out) {
            self.end(deliver);
        } else {
            self.send(message, out);
        }
    }

    fn send(&mut self, message: ToAgent, out: &mut LinkOut) {
        self.counters.sent += 1;
        out.push(message);
    }

    /// True when the agent does not read; the link is then closed.
    fn over_budget(&mut self, out: &mut LinkOut) -> bool {
        let over = out.queued_bytes >= self.config.queue_bytes;
        if over {
            self.close(CloseCode::NotReading, out);
        }
        over
    }

    fn close(&mut self, code: CloseCode, out: &mut LinkOut) {
        out.close.get_or_insert(code);
        self.closed = true;
        self.timers.clear();
    }

    fn shut(&mut self, code: CloseCode, out: &mut LinkOut, deliver: &mut impl Deliver<T>) {
        self.close(code, out);
        self.end(deliver);
    }

    /// Fails what is open; nothing is opened any more.
    fn end(&mut self, deliver: &mut impl Deliver<T>) {
        self.closed = true;
        self.timers.clear();
        for open in self.table.drain_open() {
            let _ = deliver.deliver(
                &open.to,
                &Delivery::Failed(Failure {
                    code: Code::AgentLost,
                    message: Cow::Borrowed("the connection to the agent was lost"),
                    retry_after: None,
                }),
            );
        }
    }

    fn rearm(&mut self) {
        self.timers.set(Timer::Gap, self.table.next_gap());
        self.timers
            .set(Timer::Tombstone, self.table.next_tombstone());
    }
}

#[cfg(test)]
mod tests;
