//! One TCP connection, as tasks and WebSockets want it.
//!
//! - A read that did not fill its buffer has emptied the socket, so the next one waits for the reactor at once instead
//!   of asking the kernel in vain.
//! - A write that makes no progress for `timeouts.write` ends the connection.

use crate::reactor::Registered;
use crate::timer::{Sleep, Timers};
use mcp_local_provider_engine::listen::{prepare, receive, reset_on_close, room, wants_more};
use mcp_local_provider_engine::websocket::Stream;
use std::fmt;
use std::future::{Future, poll_fn};
use std::io::{self, ErrorKind, IoSlice, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

/// A connected TCP socket without delay (`TCP_NODELAY`), read without waste and written with a deadline.
///
/// `std::io::{Read, Write}` on it never block: they answer [`ErrorKind::WouldBlock`]; [`Io::poll_readable`] and
/// [`Io::poll_writable`] tell when to try again.
pub struct Io {
    socket: Registered<TcpStream>,
    /// Nothing can be read before the reactor says so.
    drained: bool,
    /// Nothing can be written before the reactor says so.
    full: bool,
    received: u64,
    write_timeout: Duration,
    timers: Timers,
    /// Runs while a write makes no progress.
    stalled: Option<Sleep>,
}

impl fmt::Debug for Io {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Io({:?})", self.socket.get_ref())
    }
}

impl Io {
    /// Takes a connected socket. A write that makes no progress for `write_timeout` fails with
    /// [`ErrorKind::TimedOut`].
    #[must_use]
    pub fn new(socket: Registered<TcpStream>, timers: Timers, write_timeout: Duration) -> Self {
        prepare(socket.get_ref(), write_timeout);
        Self {
            socket,
            drained: false,
            full: false,
            received: 0,
            write_timeout,
            timers,
            stalled: None,
        }
    }

    /// Has the next read ask the kernel: the reactor may not have heard of what came while the program was stopped.
    pub const fn look(&mut self) {
        self.drained = false;
    }

    /// Ready when a read may succeed.
    pub fn poll_readable(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.drained {
            ready!(self.socket.poll_readable(cx));
            self.drained = false;
        }
        Poll::Ready(())
    }

    /// Ready when a write may succeed.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::TimedOut`] after `timeouts.write` without progress.
    pub fn poll_writable(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.full {
            if self.socket.poll_writable(cx).is_pending() {
                let stalled = self
                    .stalled
                    .get_or_insert_with(|| self.timers.after(self.write_timeout));
                ready!(Pin::new(stalled).poll(cx));
                // The reactor may not have heard of it that the peer has read while the program was stopped.
                if wants_more(self.socket.get_ref()) {
                    self.full = false;
                    return Poll::Ready(Ok(()));
                }
                // The kernel would keep for minutes what the peer does not read.
                reset_on_close(self.socket.get_ref());
                return Poll::Ready(Err(ErrorKind::TimedOut.into()));
            }
            self.full = false;
        }
        Poll::Ready(Ok(()))
    }

    /// Says that nothing more will be written; the peer reads an end.
    ///
    /// # Errors
    ///
    /// Those of the kernel, for instance that the connection is gone.
    pub fn shutdown(&self) -> io::Result<()> {
        self.socket.get_ref().shutdown(Shutdown::Write)
    }

    /// Reads to the end and forgets it. To close a socket while something is unread resets the connection, and the peer
    /// loses what was written last.
    pub async fn discard(&mut self) {
        let mut waste = [0; 1024];
        loop {
            let read = poll_fn(|cx| Self::poll_read(self, cx, &mut waste)).await;
            if matches!(read, Ok(0) | Err(_)) {
                return;
            }
        }
    }

    /// Reads what is there.
    pub(crate) fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        buf: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_read_by(cx, |io| io.read(buf))
    }

    fn poll_read_by(
        &mut self,
        cx: &mut Context<'_>,
        mut read: impl FnMut(&mut Self) -> io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.poll_readable(cx));
            match read(self) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                done => return Poll::Ready(done),
            }
        }
    }

    /// Receives into `into`, as [`receive`] of the engine does. 0 is the end.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::WouldBlock`] when there is nothing, and those of the kernel.
    pub(crate) fn receive(&mut self, into: &mut Vec<u8>) -> io::Result<usize> {
        let room = room(into);
        let read = receive(self.socket.get_ref(), into);
        self.has_read(read, room)
    }

    /// The same, once there is something.
    pub(crate) fn poll_receive(
        &mut self,
        cx: &mut Context<'_>,
        into: &mut Vec<u8>,
    ) -> Poll<io::Result<usize>> {
        self.poll_read_by(cx, |io| io.receive(into))
    }

    /// Writes as much as the socket takes of all parts.
    pub(crate) fn poll_write_vectored(
        &mut self,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.poll_write(cx, |io| io.write_vectored(parts))
    }

    fn has_read(&mut self, read: io::Result<usize>, room: usize) -> io::Result<usize> {
        self.drained = match &read {
            Ok(count) => *count < room && *count > 0,
            Err(error) => error.kind() == ErrorKind::WouldBlock,
        };
        let count = *read.as_ref().unwrap_or(&0);
        self.received += u64::try_from(count).unwrap_or(0);
        read
    }

    /// Writes as much as the socket takes.
    pub(crate) fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        mut write: impl FnMut(&mut Self) -> io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.poll_writable(cx))?;
            match write(self) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                done => return Poll::Ready(done),
            }
        }
    }

    fn written(&mut self, written: io::Result<usize>) -> io::Result<usize> {
        match &written {
            Ok(_) => self.stalled = None,
            Err(error) if error.kind() == ErrorKind::WouldBlock => self.full = true,
            Err(_) => {}
        }
        written
    }
}

impl Read for Io {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if self.drained {
            return Err(ErrorKind::WouldBlock.into());
        }
        loop {
            match self.socket.get_ref().read(buf) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                read => return self.has_read(read, buf.len()),
            }
        }
    }
}

impl Write for Io {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        if self.full {
            return Err(ErrorKind::WouldBlock.into());
        }
        let written = self.socket.get_ref().write(buf);
        self.written(written)
    }

    fn write_vectored(&mut self, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
        if self.full {
            return Err(ErrorKind::WouldBlock.into());
        }
        let written = self.socket.get_ref().write_vectored(bufs);
        self.written(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Stream for Io {
    fn poll_readable(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Self::poll_readable(self, cx).map(Ok)
    }

    fn poll_writable(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Self::poll_writable(self, cx)
    }

    fn look(&mut self) {
        Self::look(self);
    }

    fn received_bytes(&self) -> u64 {
        self.received
    }

    fn finish(&mut self) {
        // It fails where the connection is gone.
        let _ = self.shutdown();
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use super::*;
    use crate::reactor::Reactor;
    use futures_lite::future::poll_once;
    use mcp_local_provider_engine::Clock;
    use std::net::TcpListener;

    fn pair(reactor: &Reactor, write_timeout: Duration) -> (Io, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let peer = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let socket = listener.accept().unwrap().0;
        socket.set_nonblocking(true).unwrap();
        let socket = reactor.register(socket).unwrap();
        let timers = reactor.timers().clone();
        (Io::new(socket, timers, write_timeout), peer)
    }

    #[test]
    fn a_short_read_waits_for_the_reactor_and_misses_nothing() {
        let reactor = Reactor::new(Timers::new(Clock::start())).unwrap();
        let (mut io, mut peer) = pair(&reactor, Duration::from_secs(5));
        reactor.block_on(async {
            let mut buf = [0; 8];
            for text in [&b"abc"[..], b"defghijk", b"l"] {
                peer.write_all(text).unwrap();
                let mut got = Vec::new();
                while got.len() < text.len() {
                    let len = poll_fn(|cx| Io::poll_read(&mut io, cx, &mut buf))
                        .await
                        .unwrap();
                    got.extend_from_slice(&buf[..len]);
                }
                assert_eq!(got, text);
            }
            assert!(io.drained);
            let read = poll_once(poll_fn(|cx| Io::poll_read(&mut io, cx, &mut buf))).await;
            assert!(read.is_none());
            drop(peer);
            let end = poll_fn(|cx| Io::poll_read(&mut io, cx, &mut buf)).await;
            assert_eq!(end.unwrap(), 0);
        });
    }

    #[test]
    fn a_peer_that_does_not_read_ends_the_connection() {
        let reactor = Reactor::new(Timers::new(Clock::start())).unwrap();
        let (mut io, peer) = pair(&reactor, Duration::from_millis(50));
        let error = reactor.block_on(async {
            let block = vec![0; 1 << 20];
            loop {
                let write = poll_fn(|cx| Io::poll_write(&mut io, cx, |io| io.write(&block)));
                if let Err(error) = write.await {
                    break error;
                }
            }
        });
        assert_eq!(error.kind(), ErrorKind::TimedOut);
        drop(peer);
    }
}
