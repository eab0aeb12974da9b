//! WebSockets that the program speaks on: one type for whatever is behind them, so that a driver moves frames and knows
//! nothing of what they say.

use mcp_local_provider_core::link::CloseCode;
use mcp_local_provider_core::time::Instant;
use std::collections::VecDeque;
use std::fmt;
use std::task::Waker;

/// Bytes that are read in one turn, before those who got something are woken and others get theirs. With many answers at once
/// a turn has to hold something for each of them, or each is woken and written for every chunk.
const TURN: usize = 256 << 10;

/// A frame counts at least this much of a turn, in bytes.
const FRAME: usize = 128;

/// One turn of reading: the time, which is the same for all of it, how much was read, and who is to be woken at its end. Each
/// thread or task that works for a connection keeps one.
#[derive(Debug, Default)]
pub struct Turn {
    pub(crate) now: Instant,
    pub(crate) wake: Vec<Waker>,
    read: usize,
    /// Length of the frame that was read last.
    pub(crate) last: usize,
}

impl Turn {
    /// True when enough was read: the turn is to be finished, and another one begun, though there may be more.
    #[must_use]
    pub const fn is_full(&self) -> bool {
        self.read >= TURN
    }

    /// The turn begins.
    pub(crate) const fn start(&mut self, now: Instant) {
        self.now = now;
        self.read = 0;
    }

    /// A frame of `bytes` was read.
    pub(crate) fn count(&mut self, bytes: usize) {
        self.last = bytes;
        self.read = self.read.saturating_add(bytes.max(FRAME));
    }
}

/// Work for the task or thread that writes to a peer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ToWrite {
    /// There are frames to take.
    pub frames: bool,
    /// The connection is to be closed with this code, at once if the peer does not read, behind the frames otherwise.
    pub close: Option<CloseCode>,
    /// There may be a deadline earlier than the one that [`Converse::serve_timers`] gave last.
    pub sooner: bool,
}

/// One frame to the peer of a WebSocket.
#[derive(Clone, PartialEq, Eq)]
pub enum Frame {
    /// A text frame.
    Text(String),
    /// A ping (RFC 6455, section 5.5.2) with an empty payload.
    Ping,
}

impl fmt::Debug for Frame {
    /// Text is never shown: it may be a prompt.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => write!(f, "Text({} bytes)", text.len()),
            Self::Ping => f.write_str("Ping"),
        }
    }
}

/// Our side of a conversation with the peer of a WebSocket. When it is dropped, or disconnected before, the connection is
/// gone, and what is open on it fails.
///
/// One task may read and write for it, or one thread read while another one writes:
///
/// - who reads calls [`Converse::begin`], then [`Converse::receive`] for each frame until the turn is full, and then
///   [`Converse::finish`];
/// - who writes calls [`Converse::serve_timers`] when the next time has come, and [`Converse::take_frames`] and
///   [`Converse::wait_to_write`] when it was woken or has written all that it had.
pub trait Converse: Send + Sync {
    /// Number of the connection, for the log.
    fn number(&self) -> u64;

    /// Longest message that the peer may send, in bytes.
    fn frame_bytes(&self) -> usize;

    /// Begins a turn: the time of all that follows is now.
    fn begin(&self, turn: &mut Turn);

    /// Takes one text message of the peer.
    fn receive(&self, turn: &mut Turn, text: &str);

    /// Takes one binary message.
    fn receive_binary(&self, turn: &mut Turn);

    /// Something came that shows that the peer lives.
    fn alive(&self, turn: &mut Turn);

    /// Ends a turn: wakes those who got something, and does what the peer asked for. True when there is something to do for
    /// who writes: frames, or a deadline earlier than the one that it knows.
    fn finish(&self, turn: &mut Turn) -> bool;

    /// Serves the deadlines and gives the next one. `alive` when something was received since the last call, be it part of a
    /// frame. A time that is not later than the turn means that what the peer has sent before may be unread: the next call comes
    /// as soon as who reads has looked into the socket, and taken what is there or found nothing.
    fn serve_timers(&self, turn: &mut Turn, alive: bool) -> Option<Instant>;

    /// Moves what is to be written behind what `into` has. Who writes takes more only when all is written that it took before:
    /// what was taken holds memory until then.
    fn take_frames(&self, into: &mut VecDeque<Frame>);

    /// Tells who writes what there is to do beside what it has taken. `waker` is woken when that changes. `written` is true when
    /// all that was taken is written, so that its memory is free.
    fn wait_to_write(&self, waker: &Waker, written: bool) -> ToWrite;

    /// The connection is gone: what is open on it fails. What is still to be written stays. Idempotent.
    fn disconnect(&self);
}

impl fmt::Debug for dyn Converse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Converse({})", self.number())
    }
}
