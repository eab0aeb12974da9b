//! Connection of a thread that has nothing else to do, and the answer that is read from it.

use mcp_local_provider_core::wire::http1::ResponseError;
use mcp_local_provider_engine::Clock;
use mcp_local_provider_engine::http_client::{Call, CallError, Part};
use mcp_local_provider_engine::pipe::Pipe;
use std::io::{self, BufRead, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::task::{Poll, Waker};
use std::time::Duration;

/// A pipe over a socket of the standard library. Its calls wait, each for at most the socket's time-out, and are never pending:
/// the thread that makes them has nothing else to do.
pub(super) struct WaitingPipe(TcpStream);

impl WaitingPipe {
    /// A pipe whose writes wait for at most `write`, and whose reads for at most `read`; without one for as long as it takes.
    ///
    /// # Errors
    /// When the system refuses.
    pub(super) fn new(
        stream: TcpStream,
        write: Duration,
        read: Option<Duration>,
    ) -> io::Result<Self> {
        stream.set_write_timeout(Some(write))?;
        stream.set_read_timeout(read)?;
        Ok(Self(stream))
    }
}

/// Makes a call again that a signal interrupted. A time-out, which the system tells as a call that would block, gets its name.
fn waited(mut call: impl FnMut() -> io::Result<usize>) -> Poll<io::Result<usize>> {
    loop {
        match call() {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                let late = io::Error::new(ErrorKind::TimedOut, "it does not answer");
                return Poll::Ready(Err(late));
            }
            done => return Poll::Ready(done),
        }
    }
}

impl Pipe for WaitingPipe {
    fn poll_read(
        &mut self,
        _waker: &Waker,
        into: &mut Vec<u8>,
        most: usize,
    ) -> Poll<io::Result<usize>> {
        let start = into.len();
        into.resize(start.saturating_add(most), 0);
        let room = into.get_mut(start..).unwrap_or_default();
        let read = waited(|| self.0.read(room));
        let count = match &read {
            Poll::Ready(Ok(count)) => *count,
            Poll::Ready(Err(_)) | Poll::Pending => 0,
        };
        into.truncate(start.saturating_add(count));
        read
    }

    fn poll_write(&mut self, _waker: &Waker, bytes: &[u8]) -> Poll<io::Result<usize>> {
        waited(|| self.0.write(bytes))
    }
}

/// An answer whose head was read. Reading it gives its body: an end that comes too early is an error of the kind
/// [`ErrorKind::UnexpectedEof`], and bytes that are not HTTP one of [`ErrorKind::InvalidData`].
pub(super) struct Answer {
    pub(super) status: u16,
    call: Call,
    clock: Clock,
    body: Vec<u8>,
    /// Bytes of `body` that were taken.
    taken: usize,
}

impl Answer {
    /// Sends the request of a call on a [`WaitingPipe`], and reads the head of its answer.
    ///
    /// # Errors
    /// When the connection breaks, and as reading the body.
    pub(super) fn read(call: Call) -> io::Result<Self> {
        let mut answer = Self {
            status: 0,
            call,
            clock: Clock::start(),
            body: Vec::new(),
            taken: 0,
        };
        while answer.status == 0 {
            match answer.part()? {
                Part::Head(head) => answer.status = head.status(),
                Part::Body | Part::End => return Err(ErrorKind::InvalidData.into()),
            }
        }
        Ok(answer)
    }

    fn part(&mut self) -> io::Result<Part> {
        let now = self.clock.now();
        match self.call.poll(now, Waker::noop(), &mut self.body) {
            Poll::Ready(part) => part.map_err(into_io),
            // Not on a pipe that waits.
            Poll::Pending => Err(ErrorKind::WouldBlock.into()),
        }
    }
}

fn into_io(error: CallError) -> io::Error {
    match error {
        CallError::Unreachable(error) | CallError::Broken(error) => error,
        CallError::Answer(ResponseError::Cut) => ErrorKind::UnexpectedEof.into(),
        CallError::Answer(error @ (ResponseError::NotHttp | ResponseError::Malformed(_))) => {
            io::Error::new(ErrorKind::InvalidData, error)
        }
        error @ (CallError::Request(_) | CallError::Timeout(_) | CallError::Failed) => {
            io::Error::other(error)
        }
    }
}

impl BufRead for Answer {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        while self.taken >= self.body.len() {
            self.body.clear();
            self.taken = 0;
            match self.part()? {
                Part::Head(_) | Part::Body => {}
                Part::End => break,
            }
        }
        Ok(self.body.get(self.taken..).unwrap_or_default())
    }

    fn consume(&mut self, count: usize) {
        self.taken = self.taken.saturating_add(count);
    }
}

impl Read for Answer {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.fill_buf()?.read(buffer)?;
        self.consume(count);
        Ok(count)
    }
}
