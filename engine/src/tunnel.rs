//! Tunnel through an HTTP proxy (`CONNECT`), as a pipe above the pipe to the proxy.

use crate::pipe::{Buffer, Pipe};
use crate::proxy::{Origin, Proxy};
use mcp_local_provider_core::budget::Budget;
use mcp_local_provider_core::wire::http1::{
    Asked, Connection, HeadWriter, InvalidHeader, ResponseError, ResponsePart, ResponseReader,
};
use std::fmt;
use std::io::{self, ErrorKind};
use std::task::{Poll, Waker, ready};

/// Longest head of a proxy's answer, in bytes.
const HEAD: usize = 16 << 10;

/// Reason for which a proxy opened no tunnel. It is inside of the [`io::Error`] of the pipe's calls.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TunnelError {
    /// The proxy wants credentials, or others: 407.
    #[error("the proxy answered 407: check the name and the password in its URL")]
    Credentials,
    /// The proxy refused with this status.
    #[error("the proxy answered {0} instead of opening a tunnel")]
    Refused(u16),
    /// The proxy's answer cannot be read.
    #[error("the proxy cannot be used: {0}")]
    Answer(#[from] ResponseError),
    /// The server's name cannot be asked for.
    #[error(transparent)]
    Request(#[from] InvalidHeader),
}

impl From<TunnelError> for io::Error {
    fn from(error: TunnelError) -> Self {
        let kind = match error {
            TunnelError::Credentials => ErrorKind::PermissionDenied,
            TunnelError::Refused(_) => ErrorKind::ConnectionRefused,
            TunnelError::Answer(ResponseError::Cut) => ErrorKind::UnexpectedEof,
            TunnelError::Answer(_) => ErrorKind::InvalidData,
            TunnelError::Request(_) => ErrorKind::InvalidInput,
        };
        Self::new(kind, error)
    }
}

enum State {
    Asking {
        request: Vec<u8>,
        written: usize,
    },
    Answering {
        reader: ResponseReader,
        received: Buffer,
    },
    /// The tunnel is open; these bytes of the server came with the proxy's answer.
    Open(Buffer),
    Failed(TunnelError),
}

/// A pipe to a server through a proxy. Its calls are pending until the proxy has opened the tunnel; then they are those of the
/// pipe below.
pub struct Tunnel {
    pipe: Box<dyn Pipe>,
    state: State,
    budget: Budget,
}

impl fmt::Debug for Tunnel {
    /// Without the request, which holds the credentials.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match self.state {
            State::Asking { .. } => "asking",
            State::Answering { .. } => "answering",
            State::Open(_) => "open",
            State::Failed(_) => "failed",
        };
        write!(f, "Tunnel({state})")
    }
}

impl Tunnel {
    /// A tunnel to a server, on a pipe to the proxy. What it holds counts against the budget.
    #[must_use]
    pub fn new(pipe: Box<dyn Pipe>, origin: &Origin, proxy: &Proxy, budget: &Budget) -> Self {
        let place = origin.authority();
        let mut request = Vec::new();
        let mut head = HeadWriter::request(
            &mut request,
            "CONNECT",
            &place,
            &place,
            None,
            Connection::Implied,
        );
        if let Some(authorization) = proxy.authorization() {
            head.header("proxy-authorization", authorization.as_bytes());
        }
        let state = match head.finish() {
            Ok(()) => State::Asking {
                request,
                written: 0,
            },
            Err(error) => State::Failed(error.into()),
        };
        Self {
            pipe,
            state,
            budget: budget.clone(),
        }
    }

    /// Goes on with the handshake; ready when the tunnel is open.
    ///
    /// # Errors
    /// [`TunnelError`], and those of the pipe below.
    pub fn poll_open(&mut self, waker: &Waker) -> Poll<io::Result<()>> {
        loop {
            match &mut self.state {
                State::Open(_) => return Poll::Ready(Ok(())),
                State::Failed(error) => return Poll::Ready(Err(error.clone().into())),
                State::Asking { request, written } => {
                    let rest = request.get(*written..).unwrap_or_default();
                    if rest.is_empty() {
                        self.state = State::Answering {
                            reader: ResponseReader::new(Asked::Connect, HEAD),
                            received: Buffer::new(&self.budget),
                        };
                    } else {
                        *written += ready!(self.pipe.poll_write(waker, rest))?;
                    }
                }
                State::Answering { reader, received } => {
                    let mut input = received.unread();
                    let status = match reader.read(&mut input) {
                        Ok(ResponsePart::Head(head)) => Ok(Some(head.status())),
                        Ok(ResponsePart::More | ResponsePart::Body(_) | ResponsePart::End) => {
                            Ok(None)
                        }
                        Err(error) => Err(error),
                    };
                    let used = received.unread().len() - input.len();
                    received.take(used);
                    let next = match status {
                        Ok(Some(200..=299)) => {
                            let early = Buffer::new(&self.budget);
                            State::Open(std::mem::replace(received, early))
                        }
                        Ok(Some(407)) => State::Failed(TunnelError::Credentials),
                        Ok(Some(status)) => State::Failed(TunnelError::Refused(status)),
                        Err(error) => State::Failed(error.into()),
                        Ok(None) => {
                            if ready!(received.poll_fill(&mut *self.pipe, waker))? > 0 {
                                continue;
                            }
                            State::Failed(ResponseError::Cut.into())
                        }
                    };
                    self.state = next;
                }
            }
        }
    }
}

impl Pipe for Tunnel {
    fn poll_read(
        &mut self,
        waker: &Waker,
        into: &mut Vec<u8>,
        most: usize,
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_open(waker))?;
        match &mut self.state {
            State::Open(early) if !early.unread().is_empty() => {
                let part = early.unread();
                let part = part.get(..most).unwrap_or(part);
                into.extend_from_slice(part);
                let count = part.len();
                early.take(count);
                Poll::Ready(Ok(count))
            }
            State::Open(_) | State::Asking { .. } | State::Answering { .. } | State::Failed(_) => {
                self.pipe.poll_read(waker, into, most)
            }
        }
    }

    fn poll_write(&mut self, waker: &Waker, bytes: &[u8]) -> Poll<io::Result<usize>> {
        ready!(self.poll_open(waker))?;
        self.pipe.poll_write(waker, bytes)
    }

    fn expect_answer(&mut self) {
        self.pipe.expect_answer();
    }
}
