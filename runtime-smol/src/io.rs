//! One TCP connection, as hyper and tungstenite want it.
//!
//! - A read that did not fill its buffer has emptied the socket, so the next one waits for the reactor at once instead
//!   of asking the kernel in vain.
//! - A write that makes no progress for `timeouts.write` ends the connection.
//! - Reads for hyper go through one buffer per thread, because hyper's own may not be written to without `unsafe`.

use crate::timer::{Sleep, Timers};
use mcp_local_provider_engine::listen::{prepare, reset_on_close, wants_more};
use smol::Async;
use std::cell::RefCell;
use std::fmt;
use std::future::{Future, poll_fn};
use std::io::{self, ErrorKind, IoSlice, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

const SCRATCH: usize = 16 << 10;

thread_local! {
    static BUFFER: RefCell<Vec<u8>> = RefCell::new(vec![0; SCRATCH]);
}

/// A connected TCP socket without delay (`TCP_NODELAY`), read without waste and written with a deadline.
///
/// `std::io::{Read, Write}` on it never block: they answer [`ErrorKind::WouldBlock`]; [`Io::poll_readable`] and
/// [`Io::poll_writable`] tell when to try again.
pub struct Io {
    socket: Async<TcpStream>,
    /// Nothing can be read before the reactor says so.
    drained: bool,
    /// Nothing can be written before the reactor says so.
    full: bool,
    traffic: Arc<Traffic>,
    write_timeout: Duration,
    timers: Timers,
    /// Runs while a write makes no progress.
    stalled: Option<Sleep>,
}

/// Figures of a connection that others than its owner look at.
#[derive(Debug, Default)]
pub(crate) struct Traffic {
    received: AtomicU64,
    full: AtomicBool,
    /// The next read is to ask the kernel.
    look: AtomicBool,
}

/// Turns of a connection's task in which what waits in its socket is read, once a deadline has passed.
const LOOKS: u8 = 4;

/// A deadline for a client to send something, which may pass while the program is stopped: then the socket is looked into
/// before the client is called late.
#[derive(Debug)]
pub(crate) struct Patience {
    traffic: Arc<Traffic>,
    sleep: Sleep,
    /// Bytes received before the last look.
    received: u64,
    looks: u8,
}

impl Patience {
    /// For what is to come over the connection of `traffic`.
    pub const fn new(traffic: Arc<Traffic>, sleep: Sleep) -> Self {
        Self {
            traffic,
            sleep,
            received: 0,
            looks: 0,
        }
    }

    /// Bytes received so far.
    pub fn received_bytes(&self) -> u64 {
        self.traffic.received_bytes()
    }

    /// Lasts that long from now on.
    pub fn reset_after(&mut self, duration: Duration) {
        self.sleep.reset_after(duration);
        self.looks = 0;
    }
}

impl Future for Patience {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        ready!(Pin::new(&mut self.sleep).poll(cx));
        let received = self.received_bytes();
        if received != self.received {
            self.received = received;
            self.looks = 0;
        }
        if self.looks == LOOKS {
            return Poll::Ready(());
        }
        self.looks += 1;
        self.traffic.look.store(true, Ordering::Relaxed);
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

impl Traffic {
    /// Bytes received so far.
    pub fn received_bytes(&self) -> u64 {
        self.received.load(Ordering::Relaxed)
    }

    /// True when something is to be written that the socket had no room for.
    pub fn is_full(&self) -> bool {
        self.full.load(Ordering::Relaxed)
    }
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
    pub fn new(socket: Async<TcpStream>, timers: Timers, write_timeout: Duration) -> Self {
        prepare(socket.get_ref(), write_timeout);
        Self {
            socket,
            drained: false,
            full: false,
            traffic: Arc::default(),
            write_timeout,
            timers,
            stalled: None,
        }
    }

    /// Bytes read so far.
    #[must_use]
    pub fn received_bytes(&self) -> u64 {
        self.traffic.received.load(Ordering::Relaxed)
    }

    /// Figures of the connection, for tasks that do not own it.
    #[must_use]
    pub(crate) fn traffic(&self) -> Arc<Traffic> {
        self.traffic.clone()
    }

    /// Has the next read ask the kernel: the reactor may not have heard of what came while the program was stopped.
    pub const fn look(&mut self) {
        self.drained = false;
    }

    /// Ready when a read may succeed.
    ///
    /// # Errors
    ///
    /// Those of the reactor.
    pub fn poll_readable(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.traffic.look.load(Ordering::Relaxed) {
            self.traffic.look.store(false, Ordering::Relaxed);
            self.look();
        }
        if self.drained {
            ready!(self.socket.poll_readable(cx))?;
            self.drained = false;
        }
        Poll::Ready(Ok(()))
    }

    /// Ready when a write may succeed.
    ///
    /// # Errors
    ///
    /// Those of the reactor, and [`ErrorKind::TimedOut`] after `timeouts.write` without progress.
    pub fn poll_writable(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.full {
            if self.socket.poll_writable(cx)?.is_pending() {
                let stalled = self
                    .stalled
                    .get_or_insert_with(|| self.timers.after(self.write_timeout));
                ready!(Pin::new(stalled).poll(cx));
                // The reactor may not have heard of it that the peer has read while the program was stopped.
                if wants_more(self.socket.get_ref()) {
                    self.set_full(false);
                    return Poll::Ready(Ok(()));
                }
                // The kernel would keep for minutes what the peer does not read.
                reset_on_close(self.socket.get_ref());
                return Poll::Ready(Err(ErrorKind::TimedOut.into()));
            }
            self.set_full(false);
        }
        Poll::Ready(Ok(()))
    }

    fn set_full(&mut self, full: bool) {
        self.full = full;
        self.traffic.full.store(full, Ordering::Relaxed);
    }

    /// Ready when the operation that would have blocked may succeed.
    ///
    /// # Errors
    ///
    /// As [`Io::poll_readable`] and [`Io::poll_writable`].
    pub fn poll_progress(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.full {
            self.poll_writable(cx)
        } else {
            self.poll_readable(cx)
        }
    }

    /// Says that nothing more will be written; the peer reads an end.
    ///
    /// # Errors
    ///
    /// Those of the kernel, for instance that the connection is gone.
    pub fn shutdown(&self) -> io::Result<()> {
        self.socket.get_ref().shutdown(Shutdown::Write)
    }

    /// Sleeps on the clock of this connection.
    pub(crate) fn after(&self, time: Duration) -> Sleep {
        self.timers.after(time)
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

    fn poll_read(&mut self, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.poll_readable(cx))?;
            match self.read(buf) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                done => return Poll::Ready(done),
            }
        }
    }

    /// Reads at most `most` bytes, 16 KiB at once, and lends them to `take`; none are the end.
    ///
    /// # Errors
    ///
    /// Those of the kernel and the reactor.
    pub(crate) fn poll_read_with<R>(
        &mut self,
        cx: &mut Context<'_>,
        most: usize,
        take: impl FnOnce(&[u8]) -> R,
    ) -> Poll<io::Result<R>> {
        if self.drained {
            ready!(self.poll_readable(cx))?;
        }
        BUFFER.with_borrow_mut(|buffer| {
            let space = buffer.get_mut(..most.min(SCRATCH)).unwrap_or_default();
            let read = ready!(self.poll_read(cx, space))?;
            Poll::Ready(Ok(take(space.get(..read).unwrap_or_default())))
        })
    }

    fn poll_write(
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
            Err(error) if error.kind() == ErrorKind::WouldBlock => self.set_full(true),
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
                read => {
                    self.drained = match &read {
                        Ok(len) => *len < buf.len() && *len > 0,
                        Err(error) => error.kind() == ErrorKind::WouldBlock,
                    };
                    let len = *read.as_ref().unwrap_or(&0);
                    let len = u64::try_from(len).unwrap_or(0);
                    self.traffic.received.fetch_add(len, Ordering::Relaxed);
                    return read;
                }
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

impl hyper::rt::Write for Io {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Io::poll_write(&mut self, cx, |io| io.write(buf))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.shutdown())
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Io::poll_write(&mut self, cx, |io| io.write_vectored(bufs))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use super::*;
    use futures_lite::future::{or, poll_once};
    use mcp_local_provider_engine::Clock;
    use std::net::TcpListener;

    fn pair(timers: &Timers, write_timeout: Duration) -> (Io, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let peer = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let socket = Async::new(listener.accept().unwrap().0).unwrap();
        (Io::new(socket, timers.clone(), write_timeout), peer)
    }

    #[test]
    fn a_short_read_waits_for_the_reactor_and_misses_nothing() {
        let timers = Timers::new(Clock::start());
        let (mut io, mut peer) = pair(&timers, Duration::from_secs(5));
        smol::block_on(async {
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
        let timers = Timers::new(Clock::start());
        let (mut io, peer) = pair(&timers, Duration::from_millis(50));
        let error = smol::block_on(or(
            async {
                let block = vec![0; 1 << 20];
                loop {
                    let write = poll_fn(|cx| Io::poll_write(&mut io, cx, |io| io.write(&block)));
                    if let Err(error) = write.await {
                        break error;
                    }
                }
            },
            async {
                timers.run().await;
                std::future::pending().await
            },
        ));
        assert_eq!(error.kind(), ErrorKind::TimedOut);
        drop(peer);
    }
}
