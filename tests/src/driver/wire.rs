//! One link with what lies between it and its agent.

use mcp_local_provider_core::link::{CloseCode, Frame, Link, LinkOut};
use std::collections::VecDeque;

/// A link, what it wants to send, and what the agent has been sent.
#[derive(Debug)]
pub struct Wire {
    /// The machine; `usize` is the index of a call.
    pub link: Link<usize>,
    /// What it wants to send.
    pub out: LinkOut,
    /// What the agent has been sent and has not looked at.
    pub inbox: VecDeque<Frame>,
    /// False: the agent does not read, so frames stay in `out`.
    pub reads: bool,
    /// False once the connection is gone.
    pub alive: bool,
    /// The code it was closed with.
    pub closed: Option<CloseCode>,
    /// How many of `out.frames` have been looked at.
    scanned: usize,
}

impl Wire {
    pub(super) const fn new(link: Link<usize>) -> Self {
        Self {
            link,
            out: LinkOut::new(),
            inbox: VecDeque::new(),
            reads: true,
            alive: true,
            closed: None,
            scanned: 0,
        }
    }

    /// The frames since the last call.
    pub(super) fn new_frames(&mut self) -> Vec<Frame> {
        let scanned = std::mem::replace(&mut self.scanned, self.out.frames.len());
        self.out.frames.iter().skip(scanned).cloned().collect()
    }

    /// True when the writer's turn would change something.
    pub(super) fn has_output(&self) -> bool {
        let out = &self.out;
        let writes = self.reads && !out.frames.is_empty();
        self.alive && (writes || !out.notices.is_empty() || out.close.is_some())
    }

    /// The writer's turn. True when the connection is to be closed after it.
    pub(super) fn write(&mut self) -> bool {
        if !self.alive {
            self.out = LinkOut::new();
            self.scanned = 0;
            return false;
        }
        if self.reads || self.out.close.is_some() {
            self.out.take_frames(&mut self.inbox);
            self.scanned = 0;
        }
        self.closed = self.out.close.take();
        self.closed.is_some()
    }
}
