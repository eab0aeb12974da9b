//! Inputs and outputs of a link, as plain data.

use super::from_agent::Registration;
use super::to_agent::{Registered, SessionStatus, ToAgent};
use crate::budget::Share;
use crate::config::Limits;
use crate::error::Code;
use crate::id::SessionId;
use crate::invocation::{CancelReason, Delivery};
use crate::mailbox::Push;
use alloc::collections::VecDeque;
use alloc::string::String;
use alloc::vec::Vec;
use core::mem;
use core::time::Duration;

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

/// Outputs of a link that the driver has not yet taken. One for each link, under the link's lock.
#[derive(Debug, Default)]
pub struct LinkOut {
    /// For the agent, in this order.
    pub messages: VecDeque<ToAgent>,
    /// Cost of `messages` in bytes of `limits.link_queue_bytes`.
    pub queued_bytes: usize,
    /// For the hub; the driver hands them over after it has released the link.
    pub notices: Vec<Notice>,
    /// The connection is to be closed with this code after `messages`. The first reason stays.
    pub close: Option<CloseCode>,
    /// Cost of the messages that were taken and are being written.
    writing: usize,
    share: Option<Share>,
}

impl LinkOut {
    /// Nothing.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            messages: VecDeque::new(),
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

    /// Bytes that count against the memory that is shared: of what is queued, and of what was taken and is being written.
    #[must_use]
    pub const fn held_bytes(&self) -> usize {
        self.queued_bytes.saturating_add(self.writing)
    }

    fn hold(&mut self) {
        let held = self.held_bytes();
        if let Some(share) = &mut self.share {
            // New work is refused where it comes in.
            let _ = share.hold(held);
        }
    }

    /// True when the writer has something to do.
    #[must_use]
    pub fn wants_write(&self) -> bool {
        !self.messages.is_empty() || self.close.is_some()
    }

    /// Moves all messages to the end of `into`; they no longer count against the budget of the queue. Against the memory that is
    /// shared they count until they are [written](Self::written), or others are taken: who takes messages has written those
    /// that it took before.
    pub fn take_messages(&mut self, into: &mut VecDeque<ToAgent>) {
        if into.is_empty() {
            mem::swap(&mut self.messages, into);
        } else {
            into.append(&mut self.messages);
        }
        self.writing = mem::take(&mut self.queued_bytes);
        self.hold();
    }

    /// All messages that were taken are written.
    pub fn written(&mut self) {
        if self.writing > 0 {
            self.writing = 0;
            self.hold();
        }
    }

    /// Nobody will read any of it: all memory is given back.
    pub(super) fn clear(&mut self) {
        self.messages.clear();
        self.queued_bytes = 0;
        self.writing = 0;
        self.hold();
    }

    /// Takes the first message; it no longer counts against the budget.
    pub fn pop_message(&mut self) -> Option<ToAgent> {
        let message = self.messages.pop_front()?;
        self.queued_bytes = self.queued_bytes.saturating_sub(message.charge());
        self.hold();
        Some(message)
    }

    pub(super) fn push(&mut self, message: ToAgent) {
        self.queued_bytes = self.queued_bytes.saturating_add(message.charge());
        self.messages.push_back(message);
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
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Command {
    /// Answers a registration.
    Registered(Registered),
    /// A session changed its state.
    SessionStatus(SessionStatus),
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
    /// The session of an MCP client has ended.
    SessionEnded = 4404,
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
            Self::Replaced => "replaced by a newer connection of the same session",
            Self::Protocol => "protocol faults",
            Self::NoSignOfLife => "no sign of life",
            Self::NotReading => "the peer does not read",
            Self::SessionEnded => "the session has ended",
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
    /// `limits.agent_frame_bytes`, for [`decode`](crate::agents::websocket::decode).
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
