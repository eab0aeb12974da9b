//! A pipe as a WebSocket wants its connection: `Read` and `Write` over buffers, which polls fill and empty.

use super::socket::Stream;
use crate::pipe::{Buffer, Pipe};
use mcp_local_provider_core::budget::Budget;
use std::fmt;
use std::io::{self, ErrorKind, Read, Write};
use std::task::{Context, Poll, ready};

/// Bytes behind which no more is taken to write before some are written.
const UNWRITTEN: usize = 64 << 10;

/// A pipe with what was read and not yet taken, and what was taken and not yet written, both within `limits.memory`.
pub(crate) struct Piped {
    pipe: Box<dyn Pipe>,
    read: Buffer,
    unwritten: Buffer,
    received: u64,
    is_ended: bool,
}

impl fmt::Debug for Piped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Piped({} bytes)", self.received)
    }
}

impl Piped {
    pub(crate) fn new(pipe: Box<dyn Pipe>, budget: &Budget) -> Self {
        Self {
            pipe,
            read: Buffer::new(budget),
            unwritten: Buffer::new(budget),
            received: 0,
            is_ended: false,
        }
    }
}

impl Read for Piped {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let mut left = self.read.unread();
        if left.is_empty() && !self.is_ended {
            return Err(ErrorKind::WouldBlock.into());
        }
        let count = left.read(buf)?;
        self.read.take(count);
        Ok(count)
    }
}

impl Write for Piped {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        let room = UNWRITTEN.saturating_sub(self.unwritten.unread().len());
        match self.unwritten.push(buf.get(..room).unwrap_or(buf)) {
            0 if !buf.is_empty() => Err(ErrorKind::WouldBlock.into()),
            count => Ok(count),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.unwritten.unread().is_empty() {
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
        if self.read.unread().is_empty() && !self.is_ended {
            let Poll::Ready(count) = self.read.poll_fill(&mut *self.pipe, cx.waker()) else {
                // The read may have opened what the write has waited for: a connection, a proxy's tunnel, TLS. Nothing would wake it.
                return match self.poll_writable(cx) {
                    Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
                    Poll::Ready(Ok(())) | Poll::Pending => Poll::Pending,
                };
            };
            let count = count?;
            self.is_ended = count == 0;
            self.received += u64::try_from(count).unwrap_or(0);
        }
        Poll::Ready(Ok(()))
    }

    fn poll_writable(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.unwritten.unread().is_empty() {
            let unwritten = self.unwritten.unread();
            let written = ready!(self.pipe.poll_write(cx.waker(), unwritten))?;
            self.unwritten.take(written);
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::sync::{Arc, Mutex};
    use std::task::Waker;

    /// A connection that is up from its first read on, as when it came up between a write and that read.
    #[derive(Debug, Default)]
    struct Opening {
        is_open: bool,
        written: Arc<Mutex<Vec<u8>>>,
    }

    impl Pipe for Opening {
        fn poll_read(&mut self, _: &Waker, _: &mut Vec<u8>, _: usize) -> Poll<io::Result<usize>> {
            self.is_open = true;
            Poll::Pending
        }

        fn poll_write(&mut self, _: &Waker, bytes: &[u8]) -> Poll<io::Result<usize>> {
            if !self.is_open {
                return Poll::Pending;
            }
            self.written.lock().unwrap().extend_from_slice(bytes);
            Poll::Ready(Ok(bytes.len()))
        }
    }

    #[test]
    fn what_waited_for_a_connection_is_written_when_a_read_has_found_it_up() {
        let opening = Opening::default();
        let written = opening.written.clone();
        let mut piped = Piped::new(Box::new(opening), &Budget::new(1 << 20));
        piped.write_all(b"GET / HTTP/1.1").unwrap();
        let cx = &mut Context::from_waker(Waker::noop());
        assert!(piped.poll_readable(cx).is_pending());
        assert_eq!(*written.lock().unwrap(), b"GET / HTTP/1.1");
    }
}
