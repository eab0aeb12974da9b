//! A connection that the program opens: to an upstream, a bridge, a remote server. Bytes only; TLS, HTTP and WebSocket sit
//! above it, once for every driver.

mod buffer;
mod fence;
mod public;
#[cfg(test)]
mod tests;

pub use buffer::{Buffer, MemoryUsedUp};
pub use fence::{AddressRefused, Fence};
pub use public::is_public;

use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::task::{Poll, Waker};
use std::time::Duration;

/// Server to which a pipe is opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// Its name or address; an IPv6 address without brackets.
    pub host: String,
    /// Its TCP port.
    pub port: u16,
    /// Longest time from the look-up of the name to the open connection.
    pub connect_timeout: Duration,
    /// Longest time in which a write makes no progress.
    pub write_timeout: Duration,
    /// Addresses that the connection may go to; any without one.
    pub fence: Option<Fence>,
}

impl Endpoint {
    /// Looks its name up, once, and returns the addresses to connect to, in order. It waits for the system's resolver. A driver
    /// connects to these addresses and looks nothing up again, so that what the fence has let through is what is reached.
    ///
    /// # Errors
    /// When the name has no address, or one that is not permitted; see [`Fence::check`].
    pub fn look_up(&self) -> io::Result<Vec<SocketAddr>> {
        self.look_up_by(|host, port| Ok((host, port).to_socket_addrs()?.collect()))
    }

    /// Looks its name up by another resolver, which is called once.
    ///
    /// # Errors
    /// See [`Endpoint::look_up`].
    pub fn look_up_by(
        &self,
        resolve: impl FnOnce(&str, u16) -> io::Result<Vec<SocketAddr>>,
    ) -> io::Result<Vec<SocketAddr>> {
        let addresses = resolve(&self.host, self.port)?;
        if let Some(fence) = &self.fence {
            fence.check(&addresses)?;
        }
        Ok(addresses)
    }
}

/// One connection that the program opened. A driver gives TCP, TLS wraps another pipe, a simulation gives memory.
///
/// Both calls return at once. One task or thread owns a pipe and gives both the same waker: either side wakes it when one of
/// the calls is worth repeating. What a write has taken may wait in a pipe that wraps another one, such as TLS, until a later
/// call of either goes on with it. A pipe that is dropped is closed.
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

    /// Says that all of a request was written and no deadline of its answer has passed. The answer takes its time, so that the next
    /// read may only wait for it, and ask the system for nothing.
    fn expect_answer(&mut self) {}
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

    fn expect_answer(&mut self) {
        (**self).expect_answer();
    }
}

/// Most bytes that one read makes room for.
const ROOM: usize = 16 << 10;

/// Makes room behind the bytes of `into`, at most `most` bytes and 16 KiB, and keeps what `read` fills of it: as many bytes as it
/// returns. [`Pipe::poll_read`] over a call that fills a slice.
///
/// # Errors
/// Those of `read`. One of a call that would block ([`io::ErrorKind::WouldBlock`]) is pending instead.
pub fn read_behind(
    into: &mut Vec<u8>,
    most: usize,
    read: impl FnOnce(&mut [u8]) -> Poll<io::Result<usize>>,
) -> Poll<io::Result<usize>> {
    let begin = into.len();
    into.resize(begin.saturating_add(most.min(ROOM)), 0);
    let read = read(into.get_mut(begin..).unwrap_or_default());
    let count = match &read {
        Poll::Ready(Ok(count)) => *count,
        Poll::Ready(Err(_)) | Poll::Pending => 0,
    };
    into.truncate(begin.saturating_add(count));
    pending_if_blocked(read)
}

/// [`Pipe::poll_read`] over a call that fills the room that a vector has, none of which is written before: as [`read_behind`].
///
/// # Errors
/// Those of `receive`. One of a call that would block ([`io::ErrorKind::WouldBlock`]) is pending instead.
pub fn receive_behind(
    into: &mut Vec<u8>,
    most: usize,
    receive: impl FnOnce(&mut Vec<u8>) -> Poll<io::Result<usize>>,
) -> Poll<io::Result<usize>> {
    let room = most.min(ROOM);
    into.reserve_exact(room);
    let received = if into.capacity() - into.len() <= most {
        receive(into)
    } else {
        // There is room for more than is wanted.
        let mut piece = Vec::with_capacity(room);
        let received = receive(&mut piece);
        into.append(&mut piece);
        received
    };
    pending_if_blocked(received)
}

fn pending_if_blocked(read: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
    if let Poll::Ready(Err(error)) = &read
        && error.kind() == io::ErrorKind::WouldBlock
    {
        return Poll::Pending;
    }
    read
}

/// A pipe that was never open: every call fails with the same error.
#[derive(Debug)]
pub struct NeverOpen(io::ErrorKind);

impl NeverOpen {
    /// A pipe whose calls fail with an error of this kind.
    #[must_use]
    pub const fn new(kind: io::ErrorKind) -> Self {
        Self(kind)
    }
}

impl Pipe for NeverOpen {
    fn poll_read(
        &mut self,
        _waker: &Waker,
        _into: &mut Vec<u8>,
        _most: usize,
    ) -> Poll<io::Result<usize>> {
        Poll::Ready(Err(self.0.into()))
    }

    fn poll_write(&mut self, _waker: &Waker, _bytes: &[u8]) -> Poll<io::Result<usize>> {
        Poll::Ready(Err(self.0.into()))
    }
}
