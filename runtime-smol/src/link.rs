//! Links: the machine of each agent connection behind its lock, and the one task that reads and writes its WebSocket.
//!
//! The order of locks is hub, link, mailbox; nothing waits and nothing is written under any of them. Frames are decoded
//! before the link is locked. Exchanges are woken once for each turn of reading, so that a burst of chunks becomes one
//! write to its client.

use crate::shared::{Shared, lock};
use crate::timer::{Sleep, Timers};
use crate::websocket::{Ended, Received, Socket};
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
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

/// Frames that are read before other tasks get their turn.
const TURN: usize = 64;

/// The mailbox of one exchange, behind its lock, with the waker of the exchange's task.
#[derive(Debug)]
pub(crate) struct Letterbox(Mutex<(Mailbox, Option<Waker>)>);

impl Letterbox {
    /// `budget` is `limits.mailbox_bytes`.
    pub fn new(budget: usize) -> Self {
        Self(Mutex::new((Mailbox::new(budget), None)))
    }

    /// Puts something in that does not come from the link, before the task waits.
    pub fn deliver(&self, delivery: &Delivery<'_>) {
        // Nobody waits yet, and a terminal delivery is always taken.
        let _ = lock(&self.0).0.push(delivery);
    }

    /// Moves what came into `batch`. False when nothing came: the task is woken when something does.
    pub fn drain(&self, batch: &mut Batch, cx: &Context<'_>) -> bool {
        let mut letters = lock(&self.0);
        let any = letters.0.drain(batch);
        if !any {
            match &mut letters.1 {
                Some(waker) => waker.clone_from(cx.waker()),
                none => *none = Some(cx.waker().clone()),
            }
        }
        any
    }
}

/// Pushes deliveries and remembers whom to wake once the link's lock is released.
struct Delivering<'w> {
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
pub(crate) struct LinkCell {
    id: LinkId,
    state: Mutex<State>,
}

struct State {
    link: Link<Arc<Letterbox>>,
    out: LinkOut,
    /// The link's task, while it waits.
    task: Option<Waker>,
}

impl fmt::Debug for LinkCell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LinkCell({})", self.id.0)
    }
}

impl LinkCell {
    pub const fn id(&self) -> LinkId {
        self.id
    }

    /// Calls the machine under its lock, then wakes the link's task if there is something to write, and the exchanges.
    fn call<R>(
        &self,
        call: impl FnOnce(&mut Link<Arc<Letterbox>>, &mut LinkOut, &mut Delivering<'_>) -> R,
    ) -> R {
        let mut wake = Vec::new();
        let result = {
            let mut state = lock(&self.state);
            let State { link, out, task } = &mut *state;
            let result = call(link, out, &mut Delivering { wake: &mut wake });
            if out.wants_write() {
                wake.extend(task.take());
            }
            result
        };
        wake.into_iter().for_each(Waker::wake);
        result
    }

    /// Sends an invocation; what the agent answers goes to `to`.
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

/// A link that the hub knows. Dropping it tells the hub that the connection is gone, and fails what is open on it.
#[derive(Debug)]
pub(crate) struct Connected {
    shared: Arc<Shared>,
    cell: Arc<LinkCell>,
}

impl Connected {
    /// Introduces a connection to the hub, before its WebSocket is open.
    pub fn new(shared: &Arc<Shared>, hello: Hello<'_>) -> Result<Self, Refusal> {
        if shared.link_count() >= shared.config.limits.connections {
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
                    link: Link::new(id, &shared.link_config, shared.wall, now),
                    out: LinkOut::new(),
                    task: None,
                }),
            });
            shared.add_link(cell.clone());
            Ok::<_, Refusal>(cell)
        })?;
        Ok(Self {
            shared: shared.clone(),
            cell,
        })
    }

    /// Serves the connection to its end.
    pub async fn run(self, socket: Socket) {
        let _counted = Counted::new(self.shared.clone());
        let mut task = Task {
            sleep: self.shared.timers.after(Duration::MAX),
            timers: self.shared.timers.clone(),
            now: self.shared.timers.now(),
            connected: &self,
            socket,
            writing: VecDeque::new(),
            wake: Vec::new(),
            received_bytes: 0,
        };
        let end = poll_fn(|cx| task.poll(cx)).await;
        let Task {
            mut socket,
            mut writing,
            ..
        } = task;
        let id = self.cell.id.0;
        lock(&self.cell.state).out.take_frames(&mut writing);
        drop(self);
        match end {
            End::Close(code) => {
                tracing::info!(
                    link = id,
                    code = code.code(),
                    "closing a link: {}",
                    code.reason()
                );
                for frame in writing {
                    if !matches!(queue(&mut socket, frame), Ok(true)) {
                        break;
                    }
                }
                socket.close(code.code(), code.reason()).await;
            }
            End::Ended(Ended::Fault(code, what)) => {
                tracing::warn!(link = id, code, "closing a link: {what}");
                socket.close(code, "").await;
            }
            End::Ended(ended) => tracing::info!(link = id, "a link ended: {ended}"),
        }
    }
}

impl Drop for Connected {
    fn drop(&mut self) {
        let now = self.shared.timers.now();
        self.cell
            .call(|link, out, deliver| link.handle_disconnect(now, out, deliver));
        let id = self.cell.id;
        self.shared.remove_link(&self.cell);
        self.shared
            .hub(|hub, now, out| hub.disconnected(now, id, out));
    }
}

/// A link whose socket is open.
struct Counted(Arc<Shared>);

impl Counted {
    fn new(shared: Arc<Shared>) -> Self {
        shared.link_tasks.fetch_add(1, Ordering::AcqRel);
        Self(shared)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.link_tasks.fetch_sub(1, Ordering::AcqRel);
    }
}

/// Why a link's task is done.
enum End {
    /// We close it.
    Close(CloseCode),
    /// The peer closed it, broke the protocol or is lost.
    Ended(Ended),
}

struct Task<'c> {
    connected: &'c Connected,
    timers: Timers,
    /// Read once a turn, which is short.
    now: Instant,
    socket: Socket,
    /// Taken from the link and not yet given to the socket.
    writing: VecDeque<Frame>,
    sleep: Sleep,
    wake: Vec<Waker>,
    received_bytes: u64,
}

impl Task<'_> {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<End> {
        loop {
            self.now = self.timers.now();
            self.serve_timers();
            let mut waits = true;
            let read = self.read(cx, &mut waits);
            self.wake.drain(..).for_each(Waker::wake);
            self.hand_notices_over();
            if let Err(ended) = read {
                return Poll::Ready(End::Ended(ended));
            }
            match self.write(cx) {
                Err(ended) => return Poll::Ready(End::Ended(ended)),
                Ok(Some(code)) => return Poll::Ready(End::Close(code)),
                Ok(None) => {}
            }
            if !waits {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            if Pin::new(&mut self.sleep).poll(cx).is_pending() {
                return Poll::Pending;
            }
        }
    }

    /// Calls the machine; who is to be woken waits for the end of the turn.
    fn call<R>(
        &mut self,
        call: impl FnOnce(&mut Link<Arc<Letterbox>>, Instant, &mut LinkOut, &mut Delivering<'_>) -> R,
    ) -> R {
        let now = self.now;
        let mut state = lock(&self.connected.cell.state);
        let State { link, out, .. } = &mut *state;
        call(
            link,
            now,
            out,
            &mut Delivering {
                wake: &mut self.wake,
            },
        )
    }

    fn serve_timers(&mut self) {
        let alive = self.socket.received_bytes() != self.received_bytes;
        self.received_bytes = self.socket.received_bytes();
        let next = self.call(|link, now, out, deliver| {
            if alive {
                link.handle_alive(now);
            }
            if link.poll_timeout().is_some_and(|timeout| timeout.at <= now) {
                link.handle_timeout(now, out, deliver);
            }
            link.poll_timeout()
        });
        match next {
            Some(next) => self.sleep.reset_at(next.at),
            None => self.sleep.reset_after(Duration::MAX),
        }
    }

    /// Takes at most [`TURN`] messages. `waits` is false when there may be more.
    fn read(&mut self, cx: &mut Context<'_>, waits: &mut bool) -> Result<(), Ended> {
        for _ in 0..TURN {
            let Poll::Ready(received) = self.socket.poll_receive(cx) else {
                return Ok(());
            };
            match received? {
                Received::Text(text) => {
                    let limit = self.connected.shared.link_config.frame_bytes;
                    let decoded = Envelope::decode(&text, limit);
                    self.call(|link, now, out, deliver| match decoded {
                        Ok(envelope) => link.handle_envelope(now, envelope, out, deliver),
                        Err(fault) => link.handle_fault(now, fault, out, deliver),
                    });
                }
                Received::Binary => self.call(|link, now, out, deliver| {
                    link.handle_fault(now, AgentFault::Binary, out, deliver);
                }),
                Received::Alive => self.call(|link, now, _, _| link.handle_alive(now)),
            }
        }
        *waits = false;
        Ok(())
    }

    fn hand_notices_over(&mut self) {
        let notices = self.call(|_, _, out, _| std::mem::take(&mut out.notices));
        let id = self.connected.cell.id;
        for notice in notices {
            self.connected
                .shared
                .hub(|hub, now, out| hub.handle_notice(now, id, notice, out));
        }
    }

    /// Writes what there is, a batch with one flush. The code to close with, once all before it is written.
    fn write(&mut self, cx: &mut Context<'_>) -> Result<Option<CloseCode>, Ended> {
        loop {
            if self.writing.is_empty() {
                let mut state = lock(&self.connected.cell.state);
                state.out.take_frames(&mut self.writing);
            }
            let mut fed = false;
            while let Some(frame) = self.writing.pop_front() {
                fed = true;
                if !queue(&mut self.socket, frame)? {
                    break;
                }
            }
            let flushed = match self.socket.poll_flush(cx) {
                Poll::Ready(flushed) => {
                    flushed?;
                    true
                }
                Poll::Pending => false,
            };
            if flushed && fed {
                continue;
            }
            let mut state = lock(&self.connected.cell.state);
            if flushed && !state.out.frames.is_empty() {
                continue;
            }
            match &mut state.task {
                Some(waker) => waker.clone_from(cx.waker()),
                none => *none = Some(cx.waker().clone()),
            }
            return Ok(state.out.close);
        }
    }
}

/// False when the socket is full.
fn queue(socket: &mut Socket, frame: Frame) -> Result<bool, Ended> {
    match frame {
        Frame::Text(text) => socket.queue(text),
        Frame::Ping => socket.queue_ping(),
    }
}
