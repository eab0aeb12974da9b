//! Links: the machine of each agent connection behind its lock, and what a driver does between a WebSocket and it.
//!
//! The order of locks is hub, link, mailbox; nothing waits and nothing is written under any of them. Frames are decoded
//! before the link is locked. Exchanges are woken once for each turn of reading, so that a burst of chunks becomes one
//! write to its client.

use super::Engine;
use super::converse::{Converse, Frame, ToWrite, Turn};
use crate::ranked::{INBOX, LINK, Ranked};
use crate::run_queue;
use mcp_local_provider_core::agents::websocket;
use mcp_local_provider_core::api::status::LinkTotals;
use mcp_local_provider_core::api::too_many_agents;
use mcp_local_provider_core::budget::STEP;
use mcp_local_provider_core::error::{AgentFault, Refusal};
use mcp_local_provider_core::hub::Hello;
use mcp_local_provider_core::id::{ExchangeId, LinkId};
use mcp_local_provider_core::invocation::{CancelReason, Delivery};
use mcp_local_provider_core::link::{
    Command, Deliver, FromAgent, Invoke, Link, LinkConfig, LinkOut, ToAgent, Unopened,
};
use mcp_local_provider_core::mailbox::{Batch, Mailbox, Push};
use mcp_local_provider_core::time::Instant;
use std::cmp::Reverse;
use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Once};
use std::task::Waker;

/// The mailbox of one exchange, behind its lock, with the waker of who waits for it.
#[derive(Debug)]
pub struct Inbox(pub(super) Ranked<(Mailbox, Option<Waker>), INBOX>);

impl Inbox {
    /// An inbox for the answers that `mailbox` bounds.
    #[must_use]
    pub fn new(mailbox: Mailbox) -> Self {
        Self(Ranked::new((mailbox, None)))
    }

    /// Puts something in that does not come from the link, before anyone waits.
    pub fn deliver(&self, delivery: &Delivery<'_>) {
        // Nobody waits yet, and a terminal delivery is always taken.
        let _ = self.0.lock().0.push(delivery);
    }

    /// Notes what the owner holds, in bytes, of what came before.
    pub fn keep(&self, bytes: usize) {
        self.0.lock().0.keep(bytes);
    }

    /// Moves what came into `batch`. False when nothing came: `waker` is woken when something does. `kept` is what its owner holds
    /// in bytes of what came before.
    pub fn drain(&self, batch: &mut Batch, kept: usize, waker: &Waker) -> bool {
        let mut inbox = self.0.lock();
        inbox.0.keep(kept);
        let any = inbox.0.drain(batch);
        if !any {
            remember(&mut inbox.1, waker);
        }
        any
    }
}

/// An answer that holds memory.
struct Holder {
    unread: usize,
    exchange: ExchangeId,
    link: Arc<LinkCell>,
    inbox: Arc<Inbox>,
}

/// Closes idle pipes, and then cuts the answers with the most unread bytes, until the rest fits into `limits.memory`, if it does
/// not.
pub(super) fn relieve(engine: &Engine) {
    let budget = engine.budget();
    if !budget.is_used_up() {
        return;
    }
    engine.pool().clear();
    // Who comes second would cut for the same bytes again.
    let Ok(_alone) = engine.relieving.try_lock() else {
        return;
    };
    let mut holders = Vec::new();
    for link in engine.links() {
        let state = link.state.lock();
        holders.extend(state.link.recipients().map(|(exchange, inbox)| Holder {
            unread: inbox.0.lock().0.unread(),
            exchange,
            link: link.clone(),
            inbox: inbox.clone(),
        }));
    }
    holders.sort_unstable_by_key(|holder| Reverse(holder.unread));
    let mut excess = budget.excess();
    let now = engine.now();
    for holder in holders {
        if excess == 0 || holder.unread <= STEP {
            break;
        }
        let (cut, waker) = {
            let mut inbox = holder.inbox.0.lock();
            (inbox.0.cut(), inbox.1.take())
        };
        if cut {
            tracing::warn!(
                request_id = %holder.exchange,
                unread = holder.unread,
                "an answer is cut: limits.memory is used up, and most of it by what this client has not read"
            );
            holder
                .link
                .call(|link, out, _| link.cut(now, holder.exchange, out));
            excess = excess.saturating_sub(holder.unread);
        }
        waker.into_iter().for_each(Waker::wake);
    }
}

/// Keeps a waker, without a clone when it is the one that is kept already.
fn remember(slot: &mut Option<Waker>, waker: &Waker) {
    match slot {
        Some(kept) => kept.clone_from(waker),
        none => *none = Some(waker.clone()),
    }
}

/// Pushes deliveries and remembers whom to wake once the link's lock is released.
#[derive(Debug)]
pub struct Delivering<'w> {
    wake: &'w mut Vec<Waker>,
}

impl Deliver<Arc<Inbox>> for Delivering<'_> {
    #[inline]
    fn deliver(&mut self, to: &Arc<Inbox>, delivery: &Delivery<'_>) -> Push {
        let mut inbox = to.0.lock();
        let push = inbox.0.push(delivery);
        if push.wakes()
            && let Some(waker) = inbox.1.take()
        {
            self.wake.push(waker);
        }
        push
    }
}

/// One link behind its lock.
pub struct LinkCell {
    id: LinkId,
    pub(super) state: Ranked<State, LINK>,
}

pub(super) struct State {
    pub(super) link: Link<Arc<Inbox>>,
    pub(super) out: LinkOut,
    /// Waker of the task or thread that writes, while there is nothing to write.
    writer: Option<Waker>,
    /// The deadline that the writer knows of.
    armed: Option<Instant>,
    reading: Reading,
}

impl State {
    /// True when there is a deadline earlier than the one that the writer knows of.
    fn has_sooner(&self) -> bool {
        let next = self.link.poll_timeout().map(|timeout| timeout.at);
        next.is_some_and(|next| self.armed.is_none_or(|armed| next < armed))
    }
}

/// Most bytes that can have waited in a socket, so that who has read them has read all that had come.
const WAITING: usize = 64 << 20;

/// Time up to which the peer was heard. A program that was stopped for a while finds deadlines behind it, and in its sockets what came
/// before them: nobody is called silent before that is read.
#[derive(Default)]
struct Reading {
    /// All that had come by then was received.
    until: Instant,
    /// The time since which who reads was to look, while nothing is received.
    looks: Option<Instant>,
    /// Bytes received since somebody is late.
    received: usize,
    /// The latest time up to which somebody wants it read.
    wanted: Instant,
    waiting: Vec<Waker>,
}

impl Reading {
    /// Something was received.
    const fn receive(&mut self, bytes: usize) {
        self.looks = None;
        self.received = self.received.saturating_add(bytes);
    }

    /// Who serves the deadlines comes by, and who reads has looked since the last time. True while the peer is not heard up to
    /// `deadline` and to what others want: who reads is to look, and to come again.
    fn is_behind(&mut self, now: Instant, deadline: Option<Instant>) -> bool {
        // A clock reading may be older than that of who wanted it read.
        let now = now.max(self.wanted);
        if let Some(looked) = self.looks {
            self.until = self.until.max(looked);
        } else if self.received > WAITING {
            self.until = self.until.max(now);
        }
        let deadline = deadline.filter(|deadline| *deadline <= now);
        let behind = self.until < self.wanted.max(deadline.unwrap_or_default());
        self.looks = behind.then_some(now);
        if !behind {
            self.received = 0;
        }
        behind
    }
}

impl fmt::Debug for LinkCell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LinkCell({})", self.id.0)
    }
}

impl LinkCell {
    /// Its name.
    #[must_use]
    pub const fn id(&self) -> LinkId {
        self.id
    }

    /// Calls the machine under its lock, then wakes the writer if there is something to write, and the exchanges.
    fn call<R>(
        &self,
        call: impl FnOnce(&mut Link<Arc<Inbox>>, &mut LinkOut, &mut Delivering<'_>) -> R,
    ) -> R {
        let mut wake = Vec::new();
        let result = {
            let mut state = self.state.lock();
            let State {
                link, out, writer, ..
            } = &mut *state;
            let result = call(link, out, &mut Delivering { wake: &mut wake });
            if out.wants_write() {
                wake.extend(writer.take());
            }
            result
        };
        wake.into_iter().for_each(Waker::wake);
        result
    }

    /// Sends an invocation; what the agent answers goes to `to`.
    ///
    /// # Errors
    /// When the link is closed or the permit was withdrawn; nothing was sent.
    pub fn open(&self, now: Instant, invoke: Invoke, to: Arc<Inbox>) -> Result<(), Unopened> {
        self.call(|link, out, _| link.open(now, invoke, to, out))
            .map_err(|(unopened, _)| unopened)
    }

    /// Nobody waits for `exchange` any more.
    pub fn cancel(&self, now: Instant, exchange: ExchangeId, why: CancelReason) {
        self.call(|link, out, _| link.cancel(now, exchange, why, out));
    }

    /// Exchanges that its agent has not ended.
    pub(super) fn open_exchanges(&self) -> usize {
        self.state.lock().link.open_exchanges()
    }

    /// Adds what happened here, and what waits.
    pub fn add_to(&self, totals: &mut LinkTotals) {
        let state = self.state.lock();
        totals.counters += *state.link.counters();
        totals.up += 1;
        totals.last_ping = totals.last_ping.max(state.link.last_ping());
        totals.streams += state.link.streams();
        totals.queued_frames += state.out.messages.len();
        totals.queued_bytes += state.out.queued_bytes;
        totals.mailboxes += state.link.open_exchanges();
        for (_, inbox) in state.link.recipients() {
            totals.mailbox_bytes += inbox.0.lock().0.charged();
        }
    }

    /// True when all that the peer had sent by `at` was received, or nothing will be any more. Else `waker` is woken when that
    /// is so.
    pub(super) fn was_read_until(&self, at: Instant, waker: &Waker) -> bool {
        let writer = {
            let mut state = self.state.lock();
            if state.reading.until >= at || state.link.is_closed() {
                return true;
            }
            state.reading.wanted = state.reading.wanted.max(at);
            state.reading.waiting.push(waker.clone());
            state.writer.take()
        };
        writer.into_iter().for_each(Waker::wake);
        false
    }

    /// Does what the hub asks.
    pub fn command(&self, now: Instant, command: Command) {
        self.call(|link, out, deliver| link.handle_command(now, command, out, deliver));
    }
}

/// A link that the hub knows. When it is dropped, or disconnected before, the hub hears that the connection is gone, and
/// what is open on it fails.
#[derive(Debug)]
pub struct Connected {
    engine: Arc<Engine>,
    cell: Arc<LinkCell>,
    gone: Once,
}

impl Connected {
    /// Introduces a connection to the hub, before its WebSocket is open.
    ///
    /// # Errors
    /// 401 and 403 for a wrong token, 503 when there are as many links as `limits.connections` allows.
    pub fn new(engine: &Arc<Engine>, hello: Hello<'_>) -> Result<Self, Refusal> {
        Self::with(engine, hello, engine.link_config())
    }

    /// The same with limits and times of its own.
    pub(super) fn with(
        engine: &Arc<Engine>,
        hello: Hello<'_>,
        config: &LinkConfig,
    ) -> Result<Self, Refusal> {
        if engine.link_count() >= engine.config().limits.connections {
            return Err(too_many_agents());
        }
        let cell = engine.hub(|hub, now, out| {
            let id = hub.connect(now, hello, out)?;
            let cell = Arc::new(LinkCell {
                id,
                state: Ranked::new(State {
                    link: Link::new(id, config, now),
                    out: LinkOut::sharing(engine.budget().share()),
                    writer: None,
                    armed: None,
                    reading: Reading {
                        until: now,
                        ..Reading::default()
                    },
                }),
            });
            engine.add_link(cell.clone());
            Ok::<_, Refusal>(cell)
        })?;
        Ok(Self {
            engine: engine.clone(),
            cell,
            gone: Once::new(),
        })
    }

    /// Takes one message of an agent that does not speak over a WebSocket.
    pub fn receive_message(&self, turn: &mut Turn, message: FromAgent<'_>) {
        self.call(turn, |link, now, out, deliver| {
            link.handle_message(now, message, out, deliver);
        });
    }

    /// Moves the messages for such an agent behind what `into` has.
    pub fn take_messages(&self, into: &mut VecDeque<ToAgent>) {
        self.cell.state.lock().out.take_messages(into);
    }

    /// Has the hub send nobody here any more. Before clients hear that their agent is lost: one that asks again at once would be
    /// sent to it a second time.
    fn leave_hub(&self) {
        self.gone.call_once_force(|_| {
            self.engine
                .hub(|hub, now, out| hub.disconnected(now, self.cell.id, out));
            self.engine.remove_link(&self.cell);
        });
    }

    /// Calls the machine; who is to be woken waits for the end of the turn.
    fn call<R>(
        &self,
        turn: &mut Turn,
        call: impl FnOnce(&mut Link<Arc<Inbox>>, Instant, &mut LinkOut, &mut Delivering<'_>) -> R,
    ) -> R {
        let mut state = self.cell.state.lock();
        let State {
            link, out, reading, ..
        } = &mut *state;
        reading.receive(turn.last);
        let wake = &mut turn.wake;
        call(link, turn.now, out, &mut Delivering { wake })
    }
}

impl Converse for Connected {
    fn number(&self) -> u64 {
        self.cell.id.0
    }

    fn frame_bytes(&self) -> usize {
        self.engine.link_config().frame_bytes
    }

    fn begin(&self, turn: &mut Turn) {
        turn.start(self.engine.now());
    }

    fn receive(&self, turn: &mut Turn, text: &str) {
        turn.count(text.len());
        let decoded = websocket::decode(text, self.engine.link_config().frame_bytes);
        self.call(turn, |link, now, out, deliver| match decoded {
            Ok(message) => link.handle_message(now, message, out, deliver),
            Err(fault) => link.handle_fault(now, fault, out, deliver),
        });
    }

    fn receive_binary(&self, turn: &mut Turn) {
        turn.count(0);
        self.call(turn, |link, now, out, deliver| {
            link.handle_fault(now, AgentFault::Binary, out, deliver);
        });
    }

    fn alive(&self, turn: &mut Turn) {
        turn.count(0);
        self.call(turn, |link, now, _, _| link.handle_alive(now));
    }

    fn finish(&self, turn: &mut Turn) -> bool {
        let (notices, writes, closed) = {
            let mut state = self.cell.state.lock();
            let notices = std::mem::take(&mut state.out.notices);
            let writes = state.has_sooner() || state.out.wants_write();
            (notices, writes, state.link.is_closed())
        };
        for notice in notices {
            self.engine
                .hub(|hub, now, out| hub.handle_notice(now, self.cell.id, notice, out));
        }
        if closed {
            self.leave_hub();
        }
        turn.wake.drain(..).for_each(Waker::wake);
        relieve(&self.engine);
        writes
    }

    fn serve_timers(&self, turn: &mut Turn, alive: bool) -> Option<Instant> {
        let mut state = self.cell.state.lock();
        let State {
            link,
            out,
            armed,
            reading,
            ..
        } = &mut *state;
        let (now, wake) = (turn.now, &mut turn.wake);
        if alive {
            link.handle_alive(now);
            reading.receive(0);
        }
        let deadline = link.poll_timeout().map(|timeout| timeout.at);
        if reading.is_behind(now, deadline) {
            *armed = Some(now);
            return *armed;
        }
        wake.append(&mut reading.waiting);
        if deadline.is_some_and(|deadline| deadline <= now) {
            link.handle_timeout(now, out, &mut Delivering { wake });
        }
        *armed = link.poll_timeout().map(|timeout| timeout.at);
        *armed
    }

    fn take_frames(&self, into: &mut VecDeque<Frame>) {
        let mut messages = VecDeque::new();
        self.take_messages(&mut messages);
        let wall = self.engine.wall();
        into.extend(messages.iter().map(|message| {
            let text = websocket::encode(message, &wall);
            text.map_or(Frame::Ping, Frame::Text)
        }));
    }

    fn wait_to_write(&self, waker: &Waker, written: bool) -> ToWrite {
        let mut state = self.cell.state.lock();
        if written {
            state.out.written();
        }
        let reading = &state.reading;
        if reading.wanted > reading.until && reading.looks.is_none() && !state.link.is_closed() {
            // Who serves the deadlines was not told yet.
            run_queue::unpark(waker);
        }
        remember(&mut state.writer, waker);
        ToWrite {
            frames: !state.out.messages.is_empty(),
            close: state.out.close,
            sooner: state.has_sooner(),
        }
    }

    fn disconnect(&self) {
        self.leave_hub();
        let now = self.engine.now();
        self.cell
            .call(|link, out, deliver| link.handle_disconnect(now, out, deliver));
        let waiting = std::mem::take(&mut self.cell.state.lock().reading.waiting);
        waiting.into_iter().for_each(Waker::wake);
    }
}

impl Drop for Connected {
    fn drop(&mut self) {
        self.disconnect();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(second: u64) -> Instant {
        Instant::from_micros(second * 1_000_000)
    }

    #[test]
    fn a_deadline_waits_until_all_that_came_before_it_is_read() {
        let mut reading = Reading::default();
        assert!(!reading.is_behind(at(5), Some(at(6))), "nobody is late");
        assert!(reading.is_behind(at(9), Some(at(6))), "nobody has looked");
        reading.receive(10);
        assert!(reading.is_behind(at(9), Some(at(6))), "there was something");
        assert!(!reading.is_behind(at(10), Some(at(6))), "there was nothing");
        // Somebody else wants to know.
        reading.wanted = at(12);
        assert!(reading.is_behind(at(13), None));
        assert!(!reading.is_behind(at(13), None));
        // The clock reading of who serves the deadlines is older than that.
        reading.wanted = at(20);
        assert!(reading.is_behind(at(19), None));
        assert!(!reading.is_behind(at(19), None), "it has looked since");
    }

    #[test]
    fn a_peer_that_never_pauses_holds_up_no_deadline_for_ever() {
        let mut reading = Reading::default();
        let frame = 1 << 20;
        let frames = (1..=1000).find(|_| {
            reading.receive(frame);
            !reading.is_behind(at(9), Some(at(6)))
        });
        assert_eq!(frames, Some(WAITING / frame + 1));
    }
}
