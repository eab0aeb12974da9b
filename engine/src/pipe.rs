//! A connection that the program opens: to an upstream, a bridge, a remote server. Bytes only; TLS, HTTP and WebSocket sit
//! above it, once for every driver.

use std::io;
use std::task::{Poll, Waker};

/// One connection that the program opened. A driver gives TCP, TLS wraps another pipe, a simulation gives memory.
///
/// Both calls return at once. A call that is `Pending` wakes the waker of its last call when it is worth repeating; the reading
/// and the writing side keep one waker each. A pipe that is dropped is closed.
pub trait Pipe: Send {
    /// Appends at most `most` bytes to `into`, and returns their number. Zero is the end: the other side writes no more.
    ///
    /// # Errors
    /// When the connection is broken. Every later call fails too.
    fn poll_read(
        &mut self,
        waker: &Waker,
        into: &mut Vec<u8>,
        most: usize,
    ) -> Poll<io::Result<usize>>;

    /// Writes a part of `bytes`, and returns its length, which is not zero unless `bytes` is empty.
    ///
    /// # Errors
    /// When the connection is broken, or made no progress for the time that its driver allows ([`io::ErrorKind::TimedOut`]).
    fn poll_write(&mut self, waker: &Waker, bytes: &[u8]) -> Poll<io::Result<usize>>;
}

impl<P: Pipe + ?Sized> Pipe for Box<P> {
    fn poll_read(
        &mut self,
        waker: &Waker,
        into: &mut Vec<u8>,
        most: usize,
    ) -> Poll<io::Result<usize>> {
        (**self).poll_read(waker, into, most)
    }

    fn poll_write(&mut self, waker: &Waker, bytes: &[u8]) -> Poll<io::Result<usize>> {
        (**self).poll_write(waker, bytes)
    }
}
