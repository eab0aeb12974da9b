//! Bytes that wait between a pipe and its user.

use super::Pipe;
use mcp_local_provider_core::budget::{Budget, STEP, Share};
use std::fmt;
use std::io::{self, ErrorKind};
use std::task::{Poll, Waker};

/// Most bytes that one read makes room for.
const MOST: usize = 16 << 10;

/// Bytes that were read from a pipe and not taken yet, or that wait to be written to it. All the memory that it holds counts
/// against the budget; an empty one gives back what is more than 4 KiB.
///
/// It takes no more than the budget has left, but always up to 4 KiB, which are free. So it slows down where memory is used up,
/// and stands still only with that much in it.
pub struct Buffer {
    bytes: Vec<u8>,
    /// Bytes at the beginning that were taken.
    taken: usize,
    /// Room for the next read, in bytes. It grows while reads fill it.
    room: usize,
    share: Share,
}

impl fmt::Debug for Buffer {
    /// Bytes are never shown: they hold prompts and keys.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Buffer({} bytes)", self.unread().len())
    }
}

impl Buffer {
    /// An empty buffer.
    #[must_use]
    pub fn new(budget: &Budget) -> Self {
        Self {
            bytes: Vec::new(),
            taken: 0,
            room: STEP,
            share: budget.share(),
        }
    }

    /// The bytes that were not taken yet.
    #[must_use]
    pub fn unread(&self) -> &[u8] {
        self.bytes.get(self.taken..).unwrap_or_default()
    }

    /// The memory that it holds, in bytes.
    #[must_use]
    pub const fn capacity(&self) -> usize {
        self.bytes.capacity()
    }

    /// Takes bytes from the beginning; all of them if there are fewer than `count`.
    pub fn take(&mut self, count: usize) {
        self.taken = self.taken.saturating_add(count).min(self.bytes.len());
        self.settle();
    }

    /// Appends a part of `bytes`, as much as there is memory for, and returns its length.
    pub fn push(&mut self, bytes: &[u8]) -> usize {
        let room = self.make_room(bytes.len());
        self.bytes
            .extend_from_slice(bytes.get(..room).unwrap_or(bytes));
        self.settle();
        room
    }

    /// Appends what a pipe brings, at most 16 KiB, and returns the number of bytes. Zero is the end.
    ///
    /// # Errors
    /// Those of the pipe; [`ErrorKind::OutOfMemory`] when there is no memory for a single byte more.
    pub fn poll_fill<P: Pipe + ?Sized>(
        &mut self,
        pipe: &mut P,
        waker: &Waker,
    ) -> Poll<io::Result<usize>> {
        let room = self.make_room(self.room);
        if room == 0 {
            let error = io::Error::new(ErrorKind::OutOfMemory, MemoryUsedUp);
            return Poll::Ready(Err(error));
        }
        let read = pipe.poll_read(waker, &mut self.bytes, room);
        self.room = match &read {
            Poll::Ready(Ok(count)) if *count >= room => room.saturating_mul(2).clamp(STEP, MOST),
            Poll::Ready(_) | Poll::Pending => STEP,
        };
        self.settle();
        read
    }

    /// Makes room for `more` bytes, or for as many as there is memory for.
    fn make_room(&mut self, more: usize) -> usize {
        self.bytes.drain(..self.taken);
        self.taken = 0;
        // Memory is counted in steps, so that much is made of it.
        let length = self.bytes.len();
        let whole = length.saturating_add(more).next_multiple_of(STEP);
        let room = self.share.reserve(length, whole.saturating_sub(length));
        self.bytes.reserve_exact(room);
        room.min(more)
    }

    fn settle(&mut self) {
        if self.taken == self.bytes.len() {
            self.taken = 0;
            self.bytes.clear();
            if self.bytes.capacity() > self.room {
                self.bytes = Vec::new();
            }
        }
        // It was reserved before.
        let _ = self.share.hold(self.bytes.capacity());
    }
}

/// Cause of an [`ErrorKind::OutOfMemory`] of a [`Buffer`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("limits.memory is used up")]
pub struct MemoryUsedUp;
