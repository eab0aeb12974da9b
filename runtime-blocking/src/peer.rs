//! One TCP connection: reads and writes with total deadlines.

use crate::parker::wait_for;
use mcp_local_provider_engine::later;
use mcp_local_provider_engine::listen::{prepare, reset_on_close};
use rustix::event::{PollFd, PollFlags};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendAncillaryBuffer, SendFlags, recv, sendmsg};
use std::io::{self, ErrorKind, IoSlice};
use std::net::{Shutdown, TcpStream};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering, fence};
use std::task::Wake;
use std::time::{Duration, Instant};

/// A connected socket without delay (`TCP_NODELAY`), shared by the threads that serve it and by who shuts down.
#[derive(Debug)]
pub(crate) struct Peer {
    socket: TcpStream,
    write_timeout: Duration,
    /// It waits for a request, so that a shutdown may end it.
    idle: AtomicBool,
}

/// Ends the wait of the connection for a request: it is given up.
impl Wake for Peer {
    fn wake(self: Arc<Self>) {
        let _ = self.socket.shutdown(Shutdown::Read);
    }
}

impl Peer {
    /// A write that makes no progress for `write_timeout` fails with [`ErrorKind::TimedOut`].
    pub fn new(socket: TcpStream, write_timeout: Duration) -> Self {
        prepare(&socket, write_timeout);
        Self {
            socket,
            write_timeout,
            idle: AtomicBool::new(false),
        }
    }

    pub const fn socket(&self) -> &TcpStream {
        &self.socket
    }

    pub const fn write_timeout(&self) -> Duration {
        self.write_timeout
    }

    /// Marks the connection as idle or busy. Its thread marks it idle and then looks whether a shutdown has begun; the
    /// thread that begins a shutdown sets its mark and then looks which connections are idle. So at least one of them
    /// sees the other.
    pub fn set_idle(&self, idle: bool) {
        self.idle.store(idle, Ordering::SeqCst);
        fence(Ordering::SeqCst);
    }

    /// Ends the connection if it waits for a request. One that has come already is still answered.
    pub fn end_if_idle(&self) {
        fence(Ordering::SeqCst);
        if self.idle.load(Ordering::SeqCst) {
            let _ = self.socket.shutdown(Shutdown::Read);
        }
    }

    /// Says that nothing more will be written.
    pub fn finish(&self) {
        let _ = self.socket.shutdown(Shutdown::Write);
    }

    /// Ends the connection, whatever its threads do.
    pub fn end(&self) {
        let _ = self.socket.shutdown(Shutdown::Both);
    }

    /// Waits until something can be read, the end included.
    ///
    /// # Errors
    /// [`ErrorKind::TimedOut`] when it is `until`.
    pub fn wait_readable(&self, until: Option<Instant>) -> io::Result<()> {
        if self.shows(PollFlags::IN, until) {
            Ok(())
        } else {
            Err(ErrorKind::TimedOut.into())
        }
    }

    /// True when something can be read, the end included.
    pub fn is_readable(&self) -> bool {
        self.shows(PollFlags::IN, Some(Instant::now()))
    }

    /// True when the other side sends nothing more, or is gone.
    pub fn has_left(&self) -> bool {
        self.shows(PollFlags::RDHUP, Some(Instant::now()))
    }

    /// Waits for the socket to show one of `flags`. False when it is `until`.
    fn shows(&self, flags: PollFlags, until: Option<Instant>) -> bool {
        let watched = PollFd::from_borrowed_fd(self.socket.as_fd(), flags);
        wait_for(&mut [watched], until).is_some()
    }

    /// Sets the time of [`Peer::read_patiently`].
    ///
    /// # Errors
    /// Those of the kernel.
    pub fn set_patience(&self, time: Duration) -> io::Result<()> {
        let shortest = Duration::from_millis(1);
        self.socket.set_read_timeout(Some(time.max(shortest)))
    }

    /// Reads what is there, or waits for it.
    ///
    /// # Errors
    /// [`ErrorKind::WouldBlock`] when the time is over, and those of the kernel.
    pub fn read_patiently(&self, into: &mut [u8]) -> io::Result<usize> {
        loop {
            match recv(&self.socket, &mut *into, RecvFlags::empty()) {
                Ok((read, _)) => return Ok(read),
                Err(error) if error == Errno::INTR => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Reads what is there.
    ///
    /// # Errors
    /// [`ErrorKind::WouldBlock`] when there is nothing, and those of the kernel.
    pub fn read_now(&self, into: &mut [u8]) -> io::Result<usize> {
        loop {
            match recv(&self.socket, &mut *into, RecvFlags::DONTWAIT) {
                Ok((read, _)) => return Ok(read),
                Err(error) if error == Errno::INTR => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Reads to the end and forgets it, for `time` at most. To close a socket while something is unread resets the
    /// connection, and the peer loses what was written last.
    pub fn discard(&self, time: Duration) {
        let until = Instant::now() + time;
        while self.wait_readable(Some(until)).is_ok()
            && matches!(self.read_now(&mut [0; 1024]), Ok(1..))
            && Instant::now() < until
        {}
    }

    /// Writes all of it, in as few packets as possible. A peer that takes nothing for the time of writes is reset when the
    /// socket is closed.
    ///
    /// # Errors
    /// [`ErrorKind::TimedOut`] then, and those of the kernel.
    pub fn write_all(&self, mut parts: &mut [IoSlice<'_>]) -> io::Result<()> {
        IoSlice::advance_slices(&mut parts, 0);
        while !parts.is_empty() {
            match self.write_parts_now(parts) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(written) => IoSlice::advance_slices(&mut parts, written),
                Err(error) if error.kind() == ErrorKind::WouldBlock => self.wait_writable()?,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn wait_writable(&self) -> io::Result<()> {
        let until = later(Instant::now(), self.write_timeout);
        if self.shows(PollFlags::OUT, Some(until)) {
            return Ok(());
        }
        self.reset_on_close();
        Err(ErrorKind::TimedOut.into())
    }

    /// The peer does not read: what it has not taken is forgotten when the socket is closed.
    pub fn reset_on_close(&self) {
        reset_on_close(&self.socket);
    }

    /// Writes what there is room for, in as few packets as possible.
    ///
    /// # Errors
    /// [`ErrorKind::WouldBlock`] when there is none, and those of the kernel.
    pub fn write_parts_now(&self, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
        loop {
            match sendmsg(
                &self.socket,
                parts,
                &mut SendAncillaryBuffer::default(),
                flags,
            ) {
                Err(error) if error == Errno::INTR => {}
                done => return Ok(done?),
            }
        }
    }

    /// The same for one part.
    ///
    /// # Errors
    /// As there.
    pub fn write_now(&self, bytes: &[u8]) -> io::Result<usize> {
        self.write_parts_now(&[IoSlice::new(bytes)])
    }
}
