//! Links: the machine of each agent connection behind its lock, and what a driver does between a WebSocket and it.
//!
//! The order of locks is hub, link, mailbox; nothing waits and nothing is written under any of them. Frames are decoded
//! before the link is locked. Exchanges are woken once for each turn of reading, so that a burst of chunks becomes one
//! write to its client.

use super::{Shared, lock};
use mcp_local_provider_core::api::status::LinkTotals;
use mcp_local_provider_core::error::{AgentFault, Code, Refusal};
use mcp_local_provider_core::hub::Hello;
use mcp_local_provider_core::id::{ExchangeId, LinkId, SessionId};
use mcp_local_provider_core::invocation::{CancelReason, Delivery};
use mcp_local_provider_core::link::{
    CloseCode, Closed, Command, Deliver, Envelope, Frame, Link, LinkOut,
};
use mcp_local_provider_core::mailbox::{Batch, Mailbox, Push};
use mcp_local_provider_core::time::Instant;
use std::collections::VecDeque;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::task::Waker;

/// The mailbox of one exchange, behind its lock, with the waker of who waits for it.
#[derive(Debug)]
pub struct Letterbox(Mutex<(Mailbox, Option<Waker>)>);

impl Letterbox {
    /// `budget` is `limits.mailbox_bytes`.
    #[must_use]
    pub fn new(budget: usize) -> Self {
        Self(Mutex::new((Mailbox::new(budget), None)))
    }

    /// Puts something in that does not come from the link, before anyone waits.
    pub fn deliver(&self, delivery: &Delivery<'_>) {
        // Nobody waits yet, and a terminal delivery is always taken.
        let _ = lock(&self.0).0.push(delivery);
    }

    /// Moves what came into `batch`. False when nothing came: `waker` is woken when something does.
    pub fn drain(&self, batch: &mut Batch, waker: &Waker) -> bool {
        let mut letters = lock(&self.0);
        let any = letters.0.drain(batch);
        if !any {
            remember(&mut letters.1, waker);
        }
        any
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

impl Deliver<Arc<Letterbox>> for Delivering<'_> {
    #[inline]
    fn deliver(&mut self, to: &Arc<Letterbox>, delivery: &Delivery<'_>) -> Push {
        let mut letters = lock(&to.0);
        let push = letters.0.push(delivery);
        if push == Push::Wake
            && let Some(waker) = letters.1.take()
        {
            self.wake.push(waker);
        }
        push
    }
}

/// One link behind its lock.
pub struct LinkCell {
    id: LinkId,
    state: Mutex<State>,
}

struct State {
    link: Link<Arc<Letterbox>>,
    out: LinkOut,
    /// Who writes, while there is nothing to write.
    writer: Option<Waker>,
    /// The deadline that who writes knows of.
    armed: Option<Instant>,
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
        call: impl FnOnce(&mut Link<Arc<Letterbox>>, &mut LinkOut, &mut Delivering<'_>) -> R,
    ) -> R {
        let mut wake = Vec::new();
        let result = {
            let mut state = lock(&self.state);
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
    /// When the link is closed; nothing was sent.
    pub fn open(
        &self,
        now: Instant,
        exchange: ExchangeId,
        session: SessionId,
        frame: String,
        to: Arc<Letterbox>,
    ) -> Result<(), Closed> {
        self.call(|link, out, _| link.open(now, exchange, session, frame, to, out))
            .map_err(|(closed, _)| closed)
    }

    /// Nobody waits for `exchange` any more.
    pub fn cancel(&self, now: Instant, exchange: ExchangeId, why: CancelReason) {
        self.call(|link, out, _| link.cancel(now, exchange, why, out));
    }

    /// Adds what happened here, and what waits.
    pub fn add_to(&self, totals: &mut LinkTotals) {
        let state = lock(&self.state);
        totals.counters += *state.link.counters();
        totals.queued_frames += state.out.frames.len();
        totals.queued_bytes += state.out.queued_bytes;
        totals.mailboxes += state.link.open_exchanges();
        for letters in state.link.recipients() {
            totals.mailbox_bytes += lock(&letters.0).0.charged();
        }
    }

    /// Does what the hub asks.
    pub fn command(&self, now: Instant, command: Command) {
        self.call(|link, out, deliver| link.handle_command(now, command, out, deliver));
    }
}

/// Who is to be woken at the end of a turn of reading, and the time that is the same for all of it. Each thread or task
/// that works for a link keeps one.
#[derive(Debug, Default)]
pub struct Turn {
    now: Instant,
    wake: Vec<Waker>,
}

/// A link that the hub knows. When it is dropped, or disconnected before, the hub hears that the connection is gone, and
/// what is open on it fails.
///
/// One task may read and write for it, or one thread read while another one writes:
///
/// - who reads calls [`Connected::begin`], then [`Connected::receive`] for each frame, at most [`TURN`] of them, and then
///   [`Connected::finish`];
/// - who writes calls [`Connected::serve_timers`] when the link's next time has come, and [`Connected::take_frames`] and
///   [`Connected::wait_to_write`] when it was woken or has written all that it had.
#[derive(Debug)]
pub struct Connected {
    shared: Arc<Shared>,
    cell: Arc<LinkCell>,
    gone: AtomicBool,
}

/// What is to be written to an agent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ToWrite {
    /// There are frames to take.
    pub frames: bool,
    /// The connection is to be closed with this code, at once if the agent does not read, behind the frames otherwise.
    pub close: Option<CloseCode>,
}

/// Frames that are read in one turn, before those who got something are woken and others get theirs.
pub const TURN: usize = 64;

impl Connected {
    /// Introduces a connection to the hub, before its WebSocket is open.
    ///
    /// # Errors
    /// 401 and 403 for a wrong token, 503 when there are as many links as `limits.connections` allows.
    pub fn new(shared: &Arc<Shared>, hello: Hello<'_>) -> Result<Self, Refusal> {
        if shared.link_count() >= shared.config().limits.connections {
            return Err(Refusal::new(
                Code::Overloaded,
                "there are as many agents as limits.connections allows",
            ));
        }
        let cell = shared.hub(|hub, now, out| {
            let id = hub.connect(now, hello, out)?;
            let cell = Arc::new(LinkCell {
                id,
                state: Mutex::new(State {
                    link: Link::new(id, shared.link_config(), shared.wall(), now),
                    out: LinkOut::new(),
                    writer: None,
                    armed: None,
                }),
            });
            shared.add_link(cell.clone());
            Ok::<_, Refusal>(cell)
        })?;
        Ok(Self {
            shared: shared.clone(),
            cell,
            gone: AtomicBool::new(false),
        })
    }

    /// Its name.
    #[must_use]
    pub fn id(&self) -> LinkId {
        self.cell.id
    }

    /// Begins a turn: the time of all that follows is now.
    pub fn begin(&self, turn: &mut Turn) {
        turn.now = self.shared.clock().now();
    }

    /// Takes one text frame of the agent.
    pub fn receive(&self, turn: &mut Turn, text: &str) {
        let decoded = Envelope::decode(text, self.shared.link_config().frame_bytes);
        self.call(turn, |link, now, out, deliver| match decoded {
            Ok(envelope) => link.handle_envelope(now, envelope, out, deliver),
            Err(fault) => link.handle_fault(now, fault, out, deliver),
        });
    }

    /// Takes what one frame would have said, of an agent that speaks another protocol.
    pub fn receive_envelope(&self, turn: &mut Turn, envelope: Envelope<'_>) {
        self.call(turn, |link, now, out, deliver| {
            link.handle_envelope(now, envelope, out, deliver);
        });
    }

    /// Takes one binary frame, which the agent protocol does not know.
    pub fn receive_binary(&self, turn: &mut Turn) {
        self.call(turn, |link, now, out, deliver| {
            link.handle_fault(now, AgentFault::Binary, out, deliver);
        });
    }

    /// Something came that shows that the agent lives.
    pub fn alive(&self, turn: &mut Turn) {
        self.call(turn, |link, now, _, _| link.handle_alive(now));
    }

    /// Ends a turn: wakes those who got something, and tells the hub what the agent asked of it. True when there is
    /// something to do for who writes: frames, or a deadline earlier than the one that it knows.
    pub fn finish(&self, turn: &mut Turn) -> bool {
        turn.wake.drain(..).for_each(Waker::wake);
        let (notices, writes) = {
            let mut state = lock(&self.cell.state);
            let next = state.link.poll_timeout().map(|timeout| timeout.at);
            let sooner = next.is_some_and(|next| state.armed.is_none_or(|armed| next < armed));
            let notices = std::mem::take(&mut state.out.notices);
            (notices, sooner || state.out.wants_write())
        };
        for notice in notices {
            self.shared
                .hub(|hub, now, out| hub.handle_notice(now, self.cell.id, notice, out));
        }
        writes
    }

    /// Serves the link's deadlines and gives the next one. `alive` when something was received since the last call, be
    /// it part of a frame.
    pub fn serve_timers(&self, turn: &mut Turn, alive: bool) -> Option<Instant> {
        let mut state = lock(&self.cell.state);
        let State {
            link, out, armed, ..
        } = &mut *state;
        if alive {
            link.handle_alive(turn.now);
        }
        if link
            .poll_timeout()
            .is_some_and(|timeout| timeout.at <= turn.now)
        {
            let wake = &mut turn.wake;
            link.handle_timeout(turn.now, out, &mut Delivering { wake });
        }
        *armed = link.poll_timeout().map(|timeout| timeout.at);
        *armed
    }

    /// Moves what is to be written behind what `into` has.
    pub fn take_frames(&self, into: &mut VecDeque<Frame>) {
        lock(&self.cell.state).out.take_frames(into);
    }

    /// Tells who writes what there is to do beside what it has taken. `waker` is woken when that changes.
    pub fn wait_to_write(&self, waker: &Waker) -> ToWrite {
        let mut state = lock(&self.cell.state);
        remember(&mut state.writer, waker);
        ToWrite {
            frames: !state.out.frames.is_empty(),
            close: state.out.close,
        }
    }

    /// Wakes who writes, because the connection ends.
    pub fn wake_writer(&self) {
        let writer = lock(&self.cell.state).writer.take();
        writer.into_iter().for_each(Waker::wake);
    }

    /// Tells the hub that the connection is gone, and fails what is open on it. What is still to be written stays.
    pub fn disconnect(&self) {
        if self.gone.swap(true, Ordering::AcqRel) {
            return;
        }
        let now = self.shared.clock().now();
        self.cell
            .call(|link, out, deliver| link.handle_disconnect(now, out, deliver));
        self.shared.remove_link(&self.cell);
        self.shared
            .hub(|hub, now, out| hub.disconnected(now, self.cell.id, out));
    }

    /// Calls the machine; who is to be woken waits for the end of the turn.
    fn call<R>(
        &self,
        turn: &mut Turn,
        call: impl FnOnce(&mut Link<Arc<Letterbox>>, Instant, &mut LinkOut, &mut Delivering<'_>) -> R,
    ) -> R {
        let mut state = lock(&self.cell.state);
        let State { link, out, .. } = &mut *state;
        let wake = &mut turn.wake;
        call(link, turn.now, out, &mut Delivering { wake })
    }
}

impl Drop for Connected {
    fn drop(&mut self) {
        self.disconnect();
    }
}
