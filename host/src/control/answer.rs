//! Answer of the running program, which the thread that reads it waits for.

use mcp_local_provider_core::wire::http1::{ResponseError, ResponseHead};
use mcp_local_provider_engine::Clock;
use mcp_local_provider_engine::http_client::{Call, CallError, Part};
use std::io::{self, BufRead, ErrorKind, Read};
use std::task::{Poll, Waker};

/// An answer whose head was read. Reading it gives its body: an end that comes too early is an error of the kind
/// [`ErrorKind::UnexpectedEof`], and bytes that are not HTTP one of [`ErrorKind::InvalidData`].
pub(crate) struct Answer {
    pub(crate) status: u16,
    head: Option<ResponseHead>,
    call: Call,
    clock: Clock,
    body: Vec<u8>,
    /// Bytes of `body` that were taken.
    taken: usize,
}

impl Answer {
    /// Sends the request of a call on a [`WaitingPipe`](crate::waiting_pipe::WaitingPipe), and reads the head of its answer.
    ///
    /// # Errors
    /// When the connection breaks, and as reading the body.
    pub(crate) fn read(call: Call) -> io::Result<Self> {
        let mut answer = Self {
            status: 0,
            head: None,
            call,
            clock: Clock::start(),
            body: Vec::new(),
            taken: 0,
        };
        while answer.status == 0 {
            match answer.part()? {
                Part::Head(head) => {
                    answer.status = head.status();
                    answer.head = Some(head);
                }
                Part::Body | Part::End => return Err(ErrorKind::InvalidData.into()),
            }
        }
        Ok(answer)
    }

    /// Returns a header of the answer that is text.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let value = self.head.as_ref()?.header(name)?;
        std::str::from_utf8(value).ok()
    }

    /// Returns the values of a header that are text, in their order.
    pub(crate) fn headers(&self, name: &str) -> impl Iterator<Item = &str> {
        let headers = self.head.iter().flat_map(ResponseHead::headers);
        let named = headers.filter(move |(own, _)| own.eq_ignore_ascii_case(name));
        named.filter_map(|(_, value)| std::str::from_utf8(value).ok())
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
        CallError::Memory(error) => io::Error::new(ErrorKind::OutOfMemory, error),
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
