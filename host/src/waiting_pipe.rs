//! Connection of a thread that has nothing else to do than to wait for it.

use mcp_local_provider_engine::pipe::{Pipe, read_behind};
use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::task::{Poll, Waker};
use std::time::Duration;

/// A pipe over a socket of the standard library. Its calls wait, each for at most the socket's time-out, and are never pending:
/// the thread that makes them has nothing else to do.
pub(crate) struct WaitingPipe(TcpStream);

impl WaitingPipe {
    /// A pipe whose writes wait for at most `write`, and whose reads for at most `read`; without one for as long as it takes.
    ///
    /// # Errors
    /// When the system refuses.
    pub(crate) fn new(
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
        read_behind(into, most, |room| waited(|| self.0.read(room)))
    }

    fn poll_write(&mut self, _waker: &Waker, bytes: &[u8]) -> Poll<io::Result<usize>> {
        waited(|| self.0.write(bytes))
    }
}
