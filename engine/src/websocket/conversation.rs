//! Both halves of a WebSocket with what is behind it, as one piece of background work: reading, writing, deadlines, and the end.

use super::socket::{Received, Socket, Stream};
use super::{CLOSING, Ended, message};
use crate::background::Background;
use crate::converse::{Converse, Frame, Turn};
use crate::engine::{Engine, OpenSocket};
use mcp_local_provider_core::link::CloseCode;
use mcp_local_provider_core::time::Instant;
use std::collections::VecDeque;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};

/// An open WebSocket and our side of it, until both are closed.
#[derive(Debug)]
pub struct Conversation<S> {
    engine: Arc<Engine>,
    _open: OpenSocket,
    state: State,
    socket: Socket<S>,
    turn: Turn,
    /// Taken from the link and not yet given to the socket.
    writing: VecDeque<Frame>,
    received_bytes: u64,
    /// Deadline of our side, or of the end.
    next: Option<Instant>,
}

#[derive(Debug)]
enum State {
    Open(Box<dyn Converse>),
    /// Our side is gone; the peer has until [`Conversation::next`] to read the close frame and to close its side.
    Closing,
    Closed,
}

/// Reason for the end of a conversation.
enum End {
    /// We close it.
    Close(CloseCode),
    /// The peer closed it, broke the protocol or is lost.
    Ended(Ended),
}

impl<S: Stream + Send> Background for Conversation<S> {
    fn poll(&mut self, waker: &Waker) -> Poll<()> {
        let cx = &mut Context::from_waker(waker);
        if let State::Open(link) = &self.state {
            let mut open = Open {
                link: &**link,
                turn: &mut self.turn,
                socket: &mut self.socket,
                writing: &mut self.writing,
                received_bytes: &mut self.received_bytes,
                next: &mut self.next,
            };
            let end = ready!(open.poll(cx));
            self.end(end);
        }
        match self.state {
            State::Open(_) | State::Closed => {}
            State::Closing => {
                let late = self.next.is_some_and(|next| self.engine.now() >= next);
                if !late {
                    ready!(self.socket.poll_closed(cx));
                }
                self.state = State::Closed;
            }
        }
        self.next = None;
        Poll::Ready(())
    }

    fn poll_timeout(&self) -> Option<Instant> {
        self.next
    }
}

impl<S: Stream> Conversation<S> {
    /// The conversation of `link` over a socket.
    #[must_use]
    pub fn new(engine: Arc<Engine>, link: Box<dyn Converse>, socket: Socket<S>) -> Self {
        Self {
            _open: engine.open_socket(),
            engine,
            state: State::Open(link),
            socket,
            turn: Turn::default(),
            writing: VecDeque::new(),
            received_bytes: 0,
            next: None,
        }
    }

    /// Ends our side and begins to close the socket.
    fn end(&mut self, end: End) {
        let State::Open(link) = std::mem::replace(&mut self.state, State::Closing) else {
            return;
        };
        let id = link.number();
        // What was not taken until now is for whoever comes back.
        link.disconnect();
        link.take_frames(&mut self.writing);
        drop(link);
        match end {
            End::Close(code) => {
                let (number, reason) = (code.code(), code.reason());
                tracing::info!(link = id, code = number, "closing a link: {reason}");
                while let Some(frame) = self.writing.pop_front() {
                    if !matches!(self.socket.queue(message(frame)), Ok(true)) {
                        break;
                    }
                }
                self.socket.close(number, reason);
            }
            End::Ended(Ended::Fault(code, what)) => {
                tracing::warn!(link = id, code, "closing a link: {what}");
                self.socket.close(code, "");
            }
            End::Ended(ended) => {
                tracing::info!(link = id, "a link ended: {ended}");
                if !self.socket.answer_close() {
                    self.state = State::Closed;
                }
            }
        }
        self.next = Some(self.engine.now() + CLOSING);
    }
}

/// The parts that move while our side is there.
struct Open<'c, S> {
    link: &'c dyn Converse,
    turn: &'c mut Turn,
    socket: &'c mut Socket<S>,
    writing: &'c mut VecDeque<Frame>,
    received_bytes: &'c mut u64,
    next: &'c mut Option<Instant>,
}

impl<S: Stream> Open<'_, S> {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<End> {
        self.link.begin(self.turn);
        self.serve_timers();
        let mut waits = true;
        let read = self.read(cx, &mut waits);
        if self.link.finish(self.turn) {
            // The agent may have left a gap, whose deadline comes before the one that is slept for.
            self.link.begin(self.turn);
            self.serve_timers();
            self.link.finish(self.turn);
        }
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
        }
        Poll::Pending
    }

    fn serve_timers(&mut self) {
        let received_bytes = self.socket.received_bytes();
        let alive = received_bytes != *self.received_bytes;
        *self.received_bytes = received_bytes;
        *self.next = self.link.serve_timers(self.turn, alive);
        if self.next.is_some_and(|next| next <= self.turn.now) {
            self.socket.stream().look();
        }
    }

    /// Takes messages until the turn is full. `waits` is false when there may be more.
    fn read(&mut self, cx: &mut Context<'_>, waits: &mut bool) -> Result<(), Ended> {
        while !self.turn.is_full() {
            let Poll::Ready(received) = self.socket.poll_receive(cx) else {
                return Ok(());
            };
            match received? {
                Received::Text(text) => self.link.receive(self.turn, &text),
                Received::Binary => self.link.receive_binary(self.turn),
                Received::Alive => self.link.alive(self.turn),
            }
        }
        *waits = false;
        Ok(())
    }

    /// Writes what there is, a batch with one flush. The code to close with, once all before it is written.
    fn write(&mut self, cx: &mut Context<'_>) -> Result<Option<CloseCode>, Ended> {
        loop {
            // In this order: nothing is taken before all that was taken is written.
            let flushed = match self.socket.poll_flush(cx) {
                Poll::Ready(flushed) => {
                    flushed?;
                    true
                }
                Poll::Pending => false,
            };
            if flushed && self.writing.is_empty() {
                self.link.take_frames(self.writing);
            }
            if flushed && !self.writing.is_empty() {
                while let Some(frame) = self.writing.pop_front()
                    && self.socket.queue(message(frame))?
                {}
                continue;
            }
            let more = self.link.wait_to_write(cx.waker(), flushed);
            if flushed && more.frames {
                continue;
            }
            return Ok(more.close);
        }
    }
}
