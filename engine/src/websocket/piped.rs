//! A pipe as a WebSocket wants its connection: `Read` and `Write` over buffers, which polls fill and empty.

use super::socket::Stream;
use crate::pipe::Pipe;
use std::fmt;
use std::io::{self, ErrorKind, Read, Write};
use std::task::{Context, Poll, ready};

/// Most that is read from the pipe at once, in bytes.
const READ: usize = 16 << 10;
/// Bytes behind which no more is taken to write before some are written.
const UNWRITTEN: usize = 64 << 10;

/// A pipe with what was read and not yet taken, and what was taken and not yet written.
pub(crate) struct Piped {
    pipe: Box<dyn Pipe>,
    read: Vec<u8>,
    /// Bytes of `read` that were taken.
    taken: usize,
    unwritten: Vec<u8>,
    received: u64,
    is_ended: bool,
}

impl fmt::Debug for Piped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Piped({} bytes)", self.received)
    }
}

impl Piped {
    pub(crate) const fn new(pipe: Box<dyn Pipe>) -> Self {
        Self {
            pipe,
            read: Vec::new(),
            taken: 0,
            unwritten: Vec::new(),
            received: 0,
            is_ended: false,
        }
    }
}

impl Read for Piped {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let mut left = self.read.get(self.taken..).unwrap_or_default();
        if left.is_empty() && !self.is_ended {
            return Err(ErrorKind::WouldBlock.into());
        }
        let count = left.read(buf)?;
        self.taken += count;
        Ok(count)
    }
}

impl Write for Piped {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        let room = UNWRITTEN.saturating_sub(self.unwritten.len());
        if room == 0 {
            return Err(ErrorKind::WouldBlock.into());
        }
        let part = buf.get(..room).unwrap_or(buf);
        self.unwritten.extend_from_slice(part);
        Ok(part.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.unwritten.is_empty() {
            Ok(())
        } else {
            Err(ErrorKind::WouldBlock.into())
        }
    }
}

impl Stream for Piped {
    /// Writes too: the peer may wait for it before it sends more.
    fn poll_readable(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if let Poll::Ready(Err(error)) = self.poll_writable(cx) {
            return Poll::Ready(Err(error));
        }
        if self.taken == self.read.len() && !self.is_ended {
            self.read.clear();
            self.taken = 0;
            let count = ready!(self.pipe.poll_read(cx.waker(), &mut self.read, READ))?;
            self.is_ended = count == 0;
            self.received += u64::try_from(count).unwrap_or(0);
        }
        Poll::Ready(Ok(()))
    }

    fn poll_writable(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.unwritten.is_empty() {
            let written = ready!(self.pipe.poll_write(cx.waker(), &self.unwritten))?;
            self.unwritten.drain(..written);
        }
        Poll::Ready(Ok(()))
    }

    /// Every read that found nothing has polled the pipe.
    fn look(&mut self) {}

    fn received_bytes(&self) -> u64 {
        self.received
    }

    /// A pipe has no half that ends alone: the peer has the close frame, and closes.
    fn finish(&mut self) {}
}
