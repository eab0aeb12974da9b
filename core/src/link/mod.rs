//! One agent connection: correlates answers with exchanges, puts chunks in order, keeps the connection alive.

mod envelope;
mod ports;
mod reassembly;
mod table;

pub use envelope::{Answer, Capabilities, Chunk, Ending, Envelope, Id, Registration};
pub use ports::{
    CloseCode, Closed, Command, Deliver, FRAME_CHARGE, Frame, LinkConfig, LinkCounters, LinkOut,
    Notice,
};

use crate::agents::websocket;
use crate::error::{AgentFault, Code};
use crate::id::{ExchangeId, LinkId, SessionId};
use crate::invocation::{CancelReason, Delivery, Delta, Failure};
use crate::mailbox::Push;
use crate::text::JsonStr;
use crate::time::{Instant, Latest, Timeout, Timer, Timers, WallClock};
use alloc::borrow::Cow;
use alloc::collections::VecDeque;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::time::Duration;
use reassembly::Place;
use table::{Open, Table};

/// So many protocol faults within [`FAULT_WINDOW`] close the link.
const FAULTS: usize = 16;

/// See [`FAULTS`].
const FAULT_WINDOW: Duration = Duration::from_secs(60);

/// Longest foreign id and longest timestamp that are sent back, in bytes.
const ECHO_LEN: usize = 64;

/// One agent connection.
///
/// `T` is the driver's own handle for an exchange, an `Arc` of a mailbox cell say; it is handed back to [`Deliver`]
/// untouched. Calls are legal in any order. Threads may deliver `now` out of order; time here only moves forward.
#[derive(Debug)]
pub struct Link<T> {
    id: LinkId,
    config: LinkConfig,
    wall: WallClock,
    latest: Latest,
    timers: Timers<4>,
    table: Table<T>,
    counters: LinkCounters,
    /// When the last faults were, at most [`FAULTS`] of them.
    faults: VecDeque<Instant>,
    closed: bool,
}

/// How far an answer has come.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Progress {
    More,
    Ended,
    Overrun,
}

impl<T> Link<T> {
    /// A link that has just been connected.
    #[must_use]
    pub fn new(id: LinkId, config: &LinkConfig, wall: WallClock, now: Instant) -> Self {
        let mut latest = Latest::default();
        let now = latest.clamp(now);
        let mut timers = Timers::new([Timer::Pong, Timer::Gap, Timer::Ping, Timer::Tombstone]);
        timers.set(Timer::Ping, Some(now + config.ping_interval));
        Self {
            id,
            config: config.clone(),
            wall,
            latest,
            timers,
            table: Table::new(config.tombstones, config.tombstone_ttl),
            counters: LinkCounters::default(),
            faults: VecDeque::new(),
            closed: false,
        }
    }

    /// Its name.
    #[must_use]
    pub const fn id(&self) -> LinkId {
        self.id
    }

    /// What it was made with.
    #[must_use]
    pub const fn config(&self) -> &LinkConfig {
        &self.config
    }

    /// Exchanges that wait for this agent.
    #[must_use]
    pub fn open_exchanges(&self) -> usize {
        self.table.len()
    }

    /// Ids that are done and remembered.
    #[must_use]
    pub fn tombstones(&self) -> usize {
        self.table.tombstones()
    }

    /// What happened so far.
    #[must_use]
    pub const fn counters(&self) -> &LinkCounters {
        &self.counters
    }

    /// Sends an invocation, `frame` as [`websocket::invoke`] wrote it. What the agent answers goes to `to`.
    ///
    /// # Errors
    /// [`Closed`], with `to` handed back, when the link is closed or closes now because the agent does not read, or
    /// when `exchange` was opened on it before.
    pub fn open(
        &mut self,
        now: Instant,
        exchange: ExchangeId,
        session: SessionId,
        frame: String,
        to: T,
        out: &mut LinkOut,
    ) -> Result<(), (Closed, T)> {
        self.latest.clamp(now);
        if self.closed || self.over_budget(out) {
            return Err((Closed, to));
        }
        self.table
            .insert(exchange, session, to)
            .map_err(|to| (Closed, to))?;
        self.counters.opened += 1;
        out.push(Frame::Text(frame));
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

    /// Takes one message of the agent.
    pub fn handle_envelope(
        &mut self,
        now: Instant,
        envelope: Envelope<'_>,
        out: &mut LinkOut,
        deliver: &mut impl Deliver<T>,
    ) {
        let now = self.latest.clamp(now);
        if self.closed {
            return;
        }
        self.timers.set(Timer::Pong, None);
        match envelope {
            Envelope::Chunk(chunk) => self.chunk(now, chunk, out, deliver),
            Envelope::Result(answer) => self.result(now, answer, out, deliver),
            Envelope::Error { id, failure } => {
                self.counters.agent_errors += 1;
                if let Some(id) = id {
                    self.whole(now, id, &[], &Ending::Failed(failure), out, deliver);
                }
            }
            Envelope::Register(registration) => out.notices.push(Notice::Register(registration)),
            Envelope::Unregister { session } => match SessionId::new(&session) {
                Some(session) => out.notices.push(Notice::Unregister(session)),
                None => self.reply(
                    websocket::error(None, "session_not_found", "session_id: no such session"),
                    out,
                    deliver,
                ),
            },
            Envelope::Ping { timestamp } => {
                let timestamp = timestamp
                    .map(serde_json::value::RawValue::get)
                    .filter(|raw| raw.len() <= ECHO_LEN);
                let pong = match timestamp {
                    Some(raw) => websocket::pong(raw),
                    None => websocket::pong(&format!("\"{}\"", self.wall.rfc3339(now))),
                };
                self.reply(pong, out, deliver);
            }
            Envelope::Pong => {}
            Envelope::Unknown { id, .. } => {
                self.counters.unknown_types += 1;
                self.reply(
                    websocket::error(
                        id.and_then(echo),
                        "unknown_type",
                        "type: not known in version 1 of the agent protocol",
                    ),
                    out,
                    deliver,
                );
            }
        }
    }

    /// Takes a frame that [`Envelope::decode`] refused, or one that is not text.
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
        let text = id.map(ExchangeId::text);
        let message = format!("{fault}");
        self.fault(
            now,
            websocket::error(
                text.as_ref()
                    .and_then(|id| core::str::from_utf8(id).ok())
                    .map(JsonStr::from_escaped),
                "protocol",
                &message,
            ),
            out,
            deliver,
        );
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
            Command::Registered {
                session,
                token,
                status,
                expires_at,
            } => self.reply(
                websocket::registered(&session, token.as_deref(), status, &expires_at),
                out,
                deliver,
            ),
            Command::SessionStatus {
                session,
                status,
                reason,
            } => self.reply(
                websocket::session_status(&session, status, reason),
                out,
                deliver,
            ),
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
                self.reply(websocket::error(None, code, &message), out, deliver);
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
        out.frames.clear();
        out.queued_bytes = 0;
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
        for _ in 0..4 {
            match self.timers.take_due(now) {
                Some(Timer::Pong) => self.shut(CloseCode::NoSignOfLife, out, deliver),
                Some(Timer::Ping) => {
                    out.push(Frame::Ping);
                    self.timers
                        .set(Timer::Pong, Some(now + self.config.pong_timeout));
                    self.timers
                        .set(Timer::Ping, Some(now + self.config.ping_interval));
                }
                Some(Timer::Gap) => {
                    while let Some(id) = self.table.expired_gap(now) {
                        self.gap(now, id, out, deliver);
                    }
                }
                Some(_) => {
                    self.table.drop_tombstones(now);
                    self.rearm();
                }
                None => return,
            }
        }
    }

    /// When [`Link::handle_timeout`] wants to be called.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Timeout> {
        self.timers.next()
    }

    fn chunk(
        &mut self,
        now: Instant,
        chunk: Chunk<'_>,
        out: &mut LinkOut,
        deliver: &mut impl Deliver<T>,
    ) {
        let Some((id, open)) = known(chunk.id, &mut self.table) else {
            return self.stray(now, chunk.id, out, deliver);
        };
        self.counters.chunks += 1;
        match open.stream.place(chunk.index) {
            Place::Next => {
                let progress = hand_over(&open.to, chunk.delta, chunk.ending, deliver);
                if progress == Progress::More && open.stream.waiting() == 0 {
                    return;
                }
                self.follow(now, id, progress, out, deliver);
            }
            Place::Repeat => self.counters.repeats += 1,
            Place::Ahead(index) => {
                let limits = (self.config.gap_chunks, self.config.gap_bytes);
                let gap_ends = now + self.config.gap_timeout;
                if open.stream.hold(index, &chunk, limits, gap_ends) {
                    self.counters.reordered += 1;
                    self.table.note_gap(id);
                    self.rearm();
                } else {
                    self.gap(now, id, out, deliver);
                }
            }
        }
    }

    /// Delivers what waited for the chunk that was just delivered, and draws the line when the answer is over.
    fn follow(
        &mut self,
        now: Instant,
        id: ExchangeId,
        mut progress: Progress,
        out: &mut LinkOut,
        deliver: &mut impl Deliver<T>,
    ) {
        let Some(open) = self.table.get_mut(id) else {
            return;
        };
        let gap_ends = now + self.config.gap_timeout;
        while progress == Progress::More {
            let Some(held) = open.stream.take_next(gap_ends) else {
                break;
            };
            let (delta, ending) = held.parts();
            progress = hand_over(&open.to, delta, ending, deliver);
        }
        let left = u64::try_from(open.stream.waiting()).unwrap_or(u64::MAX);
        match progress {
            Progress::More => self.table.note_gap(id),
            Progress::Ended => {
                self.counters.late += left;
                self.table.retire(now, id);
            }
            Progress::Overrun => {
                self.counters.overruns += 1;
                self.cancel_open(now, id, CancelReason::BudgetOverrun, out);
            }
        }
        self.rearm();
    }

    fn result(
        &mut self,
        now: Instant,
        answer: Answer<'_>,
        out: &mut LinkOut,
        deliver: &mut impl Deliver<T>,
    ) {
        let Some((id, open)) = known(answer.id, &mut self.table) else {
            return self.stray(now, answer.id, out, deliver);
        };
        self.counters.results += 1;
        let mut deliveries = Vec::new();
        if open.stream.next() > 0 {
            // The answer was streamed: the result only ends it, after the chunks that are still missing.
            if open.stream.waiting() > 0 && matches!(answer.ending, Ending::End(_)) {
                open.stream.hold_end(&answer.ending);
                return;
            }
        } else {
            if !answer.delta.is_empty() {
                deliveries.push(Delivery::Delta(answer.delta));
            }
            deliveries.extend(
                answer
                    .vectors
                    .iter()
                    .map(|vector| Delivery::Embedding(vector)),
            );
        }
        self.whole(now, Id::Ours(id), &deliveries, &answer.ending, out, deliver);
    }

    /// Delivers an answer that came in one message, and its end.
    fn whole(
        &mut self,
        now: Instant,
        id: Id<'_>,
        deliveries: &[Delivery<'_>],
        ending: &Ending<'_>,
        out: &mut LinkOut,
        deliver: &mut impl Deliver<T>,
    ) {
        let Some((id, open)) = known(id, &mut self.table) else {
            return self.stray(now, id, out, deliver);
        };
        let overrun = deliveries
            .iter()
            .any(|delivery| deliver.deliver(&open.to, delivery) == Push::Overrun);
        if overrun {
            self.counters.overruns += 1;
        } else {
            let _ = match ending {
                Ending::End(end) => deliver.deliver(&open.to, &Delivery::End(*end)),
                Ending::Failed(failure) => {
                    deliver.deliver(&open.to, &Delivery::Failed(failure.clone()))
                }
            };
        }
        self.table.retire(now, id);
        self.rearm();
    }

    /// A message about an exchange that is not open here.
    fn stray(
        &mut self,
        now: Instant,
        id: Id<'_>,
        out: &mut LinkOut,
        deliver: &mut impl Deliver<T>,
    ) {
        if let Id::Ours(id) = id
            && self.table.is_done(now, id)
        {
            self.counters.late += 1;
            return;
        }
        self.counters.unknown_ids += 1;
        let text = match id {
            Id::Ours(id) => id.text(),
            Id::Foreign(_) => [0; ExchangeId::TEXT_LEN],
        };
        let echoed = match id {
            Id::Ours(_) => core::str::from_utf8(&text).ok().map(JsonStr::from_escaped),
            Id::Foreign(_) => echo(id),
        };
        let frame = websocket::error(echoed, "protocol", "id: never issued on this link");
        self.fault(now, frame, out, deliver);
    }

    /// Counts a protocol fault, answers it, and closes the link when there are too many.
    fn fault(
        &mut self,
        now: Instant,
        answer: String,
        out: &mut LinkOut,
        deliver: &mut impl Deliver<T>,
    ) {
        self.counters.faults += 1;
        if self.faults.len() >= FAULTS {
            self.faults.pop_front();
        }
        self.faults.push_back(now);
        self.reply(answer, out, deliver);
        let first = self.faults.front().copied().unwrap_or(now);
        if self.faults.len() >= FAULTS && now.since(first) <= FAULT_WINDOW {
            self.shut(CloseCode::Protocol, out, deliver);
        }
    }

    fn gap(
        &mut self,
        now: Instant,
        id: ExchangeId,
        out: &mut LinkOut,
        deliver: &mut impl Deliver<T>,
    ) {
        self.counters.gaps += 1;
        let missing = self.table.get_mut(id).map_or(0, |open| open.stream.next());
        let failure = agent_fault(format!(
            "the agent's answer has a gap: chunk {missing} is missing"
        ));
        self.fail(now, id, &failure, CancelReason::StreamGap, out, deliver);
    }

    /// Fails an open exchange and cancels it at the agent.
    fn fail(
        &mut self,
        now: Instant,
        id: ExchangeId,
        failure: &Failure<'_>,
        why: CancelReason,
        out: &mut LinkOut,
        deliver: &mut impl Deliver<T>,
    ) {
        if let Some(open) = self.table.get_mut(id) {
            let _ = deliver.deliver(&open.to, &Delivery::Failed(failure.clone()));
            self.cancel_open(now, id, why, out);
        }
    }

    fn cancel_open(&mut self, now: Instant, id: ExchangeId, why: CancelReason, out: &mut LinkOut) {
        if self.table.retire(now, id).is_some() {
            self.counters.cancels += 1;
            out.push(Frame::Text(websocket::cancel(id, why)));
            self.rearm();
        }
    }

    /// Sends a frame that the agent caused, unless it does not read.
    fn reply(&mut self, frame: String, out: &mut LinkOut, deliver: &mut impl Deliver<T>) {
        if self.over_budget(out) {
            self.end(deliver);
        } else {
            out.push(Frame::Text(frame));
        }
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

/// The open exchange that a message is about.
#[inline]
fn known<'t, T>(id: Id<'_>, table: &'t mut Table<T>) -> Option<(ExchangeId, &'t mut Open<T>)> {
    match id {
        Id::Ours(id) => table.get_mut(id).map(|open| (id, open)),
        Id::Foreign(_) => None,
    }
}

/// Delivers one chunk.
#[inline]
fn hand_over<T>(
    to: &T,
    delta: Delta<'_>,
    ending: Option<Ending<'_>>,
    deliver: &mut impl Deliver<T>,
) -> Progress {
    // An empty delta still says that the agent is at work; beside an ending it says nothing.
    if ending.is_none() || !delta.is_empty() {
        let pushed = deliver.deliver(to, &Delivery::Delta(delta));
        if pushed == Push::Overrun {
            return match ending {
                Some(_) => Progress::Ended,
                None => Progress::Overrun,
            };
        }
    }
    let last = match ending {
        None => return Progress::More,
        Some(Ending::End(end)) => Delivery::End(end),
        Some(Ending::Failed(failure)) => Delivery::Failed(failure),
    };
    let _ = deliver.deliver(to, &last);
    Progress::Ended
}

/// An id that may be sent back: one that is short.
fn echo(id: Id<'_>) -> Option<JsonStr<'_>> {
    match id {
        Id::Foreign(text) => Some(text).filter(|text| text.len() <= ECHO_LEN),
        Id::Ours(_) => None,
    }
}

const fn agent_fault(message: String) -> Failure<'static> {
    Failure {
        code: Code::AgentFault,
        message: Cow::Owned(message),
        retry_after: None,
    }
}
