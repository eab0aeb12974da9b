//! Inputs and outputs of a link, as plain data.

use super::envelope::Registration;
use crate::budget::Share;
use crate::config::Limits;
use crate::error::Code;
use crate::id::{Authority, SessionId};
use crate::invocation::{CancelReason, Delivery};
use crate::mailbox::Push;
use alloc::collections::VecDeque;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use core::time::Duration;

/// Each frame that waits for an agent costs at least this much of `limits.link_queue_bytes`.
pub const FRAME_CHARGE: usize = 64;

/// Reason of a [`Command::SessionStatus`]: the session has answered as often as it may, and its agent may register another.
pub const USED_UP: &str = "requests_used_up";

/// Hands deliveries to the exchanges that wait for them.
///
/// The driver implements it: lock the mailbox, push, wake the exchange when [`Push::wakes`]. It is called while the link is
/// locked, so that a reader and a timer cannot swap two deliveries; it must not call back into the link.
pub trait Deliver<T> {
    /// Copies `delivery` into the mailbox that `to` names and returns what the mailbox said.
    fn deliver(&mut self, to: &T, delivery: &Delivery<'_>) -> Push;
}

/// One frame to the agent.
#[derive(Clone, PartialEq, Eq)]
pub enum Frame {
    /// A text frame: one JSON object.
    Text(String),
    /// A text frame with an invocation.
    Invoke {
        /// One JSON object.
        text: String,
        /// The permission of the caller. It is not part of what is written: an agent of this program keeps the conversations
        /// of callers apart by it.
        caller: Authority,
    },
    /// A WebSocket ping (RFC 6455, section 5.5.2) with an empty payload.
    Ping,
}

impl Frame {
    /// Returns its cost in bytes of the queue's budget.
    #[must_use]
    pub fn charge(&self) -> usize {
        match self {
            Self::Text(text) | Self::Invoke { text, .. } => text.len().max(FRAME_CHARGE),
            Self::Ping => FRAME_CHARGE,
        }
    }
}

impl fmt::Debug for Frame {
    /// Text is never shown: it may be a prompt.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) | Self::Invoke { text, .. } => {
                write!(f, "Text({} bytes)", text.len())
            }
            Self::Ping => f.write_str("Ping"),
        }
    }
}

/// Outputs of a link that the driver has not yet taken. One for each link, under the link's lock.
#[derive(Debug, Default)]
pub struct LinkOut {
    /// To be written to the agent in this order.
    pub frames: VecDeque<Frame>,
    /// Cost of `frames` in bytes of `limits.link_queue_bytes`.
    pub queued_bytes: usize,
    /// For the hub; the driver hands them over after it has released the link.
    pub notices: Vec<Notice>,
    /// The connection is to be closed with this code after `frames`. The first reason stays.
    pub close: Option<CloseCode>,
    /// Cost of the frames that were taken and are being written.
    writing: usize,
    share: Option<Share>,
}

impl LinkOut {
    /// Nothing.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            frames: VecDeque::new(),
            queued_bytes: 0,
            notices: Vec::new(),
            close: None,
            writing: 0,
            share: None,
        }
    }

    /// Nothing, with a share of the memory that all queues have together.
    #[must_use]
    pub fn sharing(share: Share) -> Self {
        let mut out = Self::new();
        out.share = Some(share);
        out
    }

    fn hold(&mut self) {
        if let Some(share) = &mut self.share {
            // New work is refused where it comes in.
            let _ = share.hold(self.queued_bytes.saturating_add(self.writing));
        }
    }

    /// True when the writer has something to do.
    #[must_use]
    pub fn wants_write(&self) -> bool {
        !self.frames.is_empty() || self.close.is_some()
    }

    /// Moves all frames to the end of `into`; they no longer count against the budget of the queue. Against the memory that is
    /// shared they count until they are [written](Self::written).
    pub fn take_frames(&mut self, into: &mut VecDeque<Frame>) {
        if into.is_empty() {
            core::mem::swap(&mut self.frames, into);
        } else {
            into.append(&mut self.frames);
        }
        self.writing = self.writing.saturating_add(self.queued_bytes);
        self.queued_bytes = 0;
        self.hold();
    }

    /// All frames that were taken are written.
    pub fn written(&mut self) {
        if self.writing > 0 {
            self.writing = 0;
            self.hold();
        }
    }

    /// Nobody will read any of it: all memory is given back.
    pub(super) fn clear(&mut self) {
        self.frames.clear();
        self.queued_bytes = 0;
        self.writing = 0;
        self.hold();
    }

    /// Takes the first frame; it no longer counts against the budget.
    pub fn pop_frame(&mut self) -> Option<Frame> {
        let frame = self.frames.pop_front()?;
        self.queued_bytes = self.queued_bytes.saturating_sub(frame.charge());
        self.hold();
        Some(frame)
    }

    pub(super) fn push(&mut self, frame: Frame) {
        self.queued_bytes = self.queued_bytes.saturating_add(frame.charge());
        self.frames.push_back(frame);
        self.hold();
    }
}

/// Requests of an agent to the hub.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Notice {
    /// It wants a session. Types are checked, values are not.
    Register(Registration),
    /// It ends a session.
    Unregister(SessionId),
}

/// Commands of the hub to a link.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Command {
    /// Answers a registration.
    Registered {
        /// The new session.
        session: SessionId,
        /// Its token, when it was made here; this is the only time it is told.
        token: Option<String>,
        /// `pending` or `active`.
        status: &'static str,
        /// RFC 3339.
        expires_at: String,
    },
    /// A session changed its state.
    SessionStatus {
        /// The session.
        session: SessionId,
        /// The new state.
        status: &'static str,
        /// `approved`, `denied`, `revoked`, …
        reason: &'static str,
    },
    /// Fails the open exchanges of a session and cancels each at the agent.
    EndSession {
        /// The session.
        session: SessionId,
        /// Told to the agent.
        reason: CancelReason,
    },
    /// Tells the agent that something it asked for was refused.
    Error {
        /// For programs.
        code: &'static str,
        /// For the person.
        message: String,
    },
    /// Closes the connection; open exchanges fail.
    Close(CloseCode),
}

impl fmt::Debug for Command {
    /// A token is never shown.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Registered {
                session, status, ..
            } => write!(f, "Registered({session}, {status})"),
            Self::SessionStatus {
                session,
                status,
                reason,
            } => write!(f, "SessionStatus({session}, {status}, {reason})"),
            Self::EndSession { session, reason } => {
                write!(f, "EndSession({session}, {})", reason.as_str())
            }
            Self::Error { code, .. } => write!(f, "Error({code})"),
            Self::Close(code) => write!(f, "Close({code:?})"),
        }
    }
}

/// WebSocket close codes (RFC 6455, section 7.4) with the meaning that the agent protocol gives them.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(u16)]
pub enum CloseCode {
    /// Done.
    Normal = 1000,
    /// The program is shutting down, after it drained.
    GoingAway = 1001,
    /// The token is no longer valid: the session is revoked or expired.
    Policy = 1008,
    /// A frame over `limits.agent_frame_bytes`.
    TooLarge = 1009,
    /// Replaced by a newer link of the same session.
    Replaced = 4001,
    /// Too many protocol faults.
    Protocol = 4002,
    /// No sign of life after a ping.
    NoSignOfLife = 4003,
    /// The agent does not read: its outgoing queue is over `limits.link_queue_bytes`.
    NotReading = 4004,
}

impl CloseCode {
    /// The number on the wire.
    #[must_use]
    pub const fn code(self) -> u16 {
        self as u16
    }

    /// For the close frame and for logs.
    #[must_use]
    pub const fn reason(self) -> &'static str {
        match self {
            Self::Normal => "normal",
            Self::GoingAway => "shutting down",
            Self::Policy => "token no longer valid",
            Self::TooLarge => "frame too large",
            Self::Replaced => "replaced by a newer link of the same session",
            Self::Protocol => "protocol faults",
            Self::NoSignOfLife => "no sign of life",
            Self::NotReading => "the agent does not read",
        }
    }
}

/// Reasons for which an exchange was not opened: nothing was sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Unopened {
    /// The link is closed, or the exchange has been opened on it before.
    #[error("the agent's connection was lost; try again")]
    Closed,
    /// The permit was withdrawn: the session may not answer any more, or not on this link.
    #[error("the agent's session ended before it was asked; try again")]
    SessionEnded,
}

impl Unopened {
    /// The code for the client.
    #[must_use]
    pub const fn code(self) -> Code {
        match self {
            Self::Closed => Code::AgentLost,
            Self::SessionEnded => Code::SessionEnded,
        }
    }
}

/// Limits and times of one link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkConfig {
    /// `limits.agent_frame_bytes`, for [`super::Envelope::decode`].
    pub frame_bytes: usize,
    /// `limits.link_queue_bytes`.
    pub queue_bytes: usize,
    /// Between pings.
    pub ping_interval: Duration,
    /// For a sign of life after a ping.
    pub pong_timeout: Duration,
    /// Longest time that a gap in a stream may stand.
    pub gap_timeout: Duration,
    /// Chunks that may wait behind a gap, for each exchange.
    pub gap_chunks: usize,
    /// Bytes of text that may wait behind a gap, for each exchange.
    pub gap_bytes: usize,
    /// Time that an id that is done is remembered after the agent last used it.
    pub tombstone_ttl: Duration,
    /// Number of ids that are done and remembered, at most.
    pub tombstones: usize,
}

impl LinkConfig {
    /// Makes the configuration from the agent protocol's fixed values and the owner's limits.
    #[must_use]
    pub const fn new(limits: &Limits) -> Self {
        Self {
            frame_bytes: limits.agent_frame_bytes,
            queue_bytes: limits.link_queue_bytes,
            ping_interval: Duration::from_secs(30),
            pong_timeout: Duration::from_secs(10),
            gap_timeout: Duration::from_secs(5),
            gap_chunks: 64,
            gap_bytes: 256 << 10,
            tombstone_ttl: Duration::from_secs(30),
            tombstones: 8192,
        }
    }
}

impl Default for LinkConfig {
    fn default() -> Self {
        Self::new(&Limits::default())
    }
}

/// Counts of events on a link since it was opened.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct LinkCounters {
    /// Messages for the agent.
    pub sent: u64,
    /// Messages of the agent, wrong ones included.
    pub received: u64,
    /// Exchanges opened.
    pub opened: u64,
    /// `model_stream_chunk` messages of open exchanges.
    pub chunks: u64,
    /// `model_result` messages of open exchanges.
    pub results: u64,
    /// Errors that the agent reported.
    pub agent_errors: u64,
    /// Chunks that came twice and were dropped.
    pub repeats: u64,
    /// Chunks that came ahead of their turn and waited.
    pub reordered: u64,
    /// Messages about exchanges that were done; dropped.
    pub late: u64,
    /// Exchanges that failed because a chunk was missing.
    pub gaps: u64,
    /// Exchanges whose client did not read fast enough.
    pub overruns: u64,
    /// `model_cancel` messages sent.
    pub cancels: u64,
    /// Protocol faults of the agent: undecodable frames, wrong fields, unknown ids.
    pub faults: u64,
    /// Those of the faults that were ids never issued on this link.
    pub unknown_ids: u64,
    /// Messages of an unknown type.
    pub unknown_types: u64,
}

impl core::ops::AddAssign for LinkCounters {
    fn add_assign(&mut self, more: Self) {
        self.sent += more.sent;
        self.received += more.received;
        self.opened += more.opened;
        self.chunks += more.chunks;
        self.results += more.results;
        self.agent_errors += more.agent_errors;
        self.repeats += more.repeats;
        self.reordered += more.reordered;
        self.late += more.late;
        self.gaps += more.gaps;
        self.overruns += more.overruns;
        self.cancels += more.cancels;
        self.faults += more.faults;
        self.unknown_ids += more.unknown_ids;
        self.unknown_types += more.unknown_types;
    }
}
