//! Work that goes on beside the requests: what a driver gives a task or thread of its own.

use mcp_local_provider_core::time::Instant;
use std::fmt::Debug;
use std::task::{Poll, Waker};

/// Work that one task or thread polls until it has ended.
pub trait Background: Debug + Send {
    /// Does what can be done now. While it is pending, `waker` is woken when there is more to do.
    fn poll(&mut self, waker: &Waker) -> Poll<()>;

    /// The time at which it is to be polled again though nobody woke it.
    fn poll_timeout(&self) -> Option<Instant>;
}

impl<B: Background + ?Sized> Background for Box<B> {
    fn poll(&mut self, waker: &Waker) -> Poll<()> {
        (**self).poll(waker)
    }

    fn poll_timeout(&self) -> Option<Instant> {
        (**self).poll_timeout()
    }
}
