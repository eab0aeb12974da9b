//! Pipes over TCP: a name is resolved by a thread of the reactor's, the rest is done by the task that polls the pipe.

use crate::io::Io;
use crate::reactor::{Reactor, Registered};
use blocking::unblock;
use futures_lite::future::or;
use mcp_local_provider_engine::pipe::{Endpoint, Pipe, receive_behind};
use rustix::io::Errno;
use socket2::{Domain, Protocol, Socket, Type};
use std::fmt;
use std::future::{Future, poll_fn};
use std::io::{self, ErrorKind, Write};
use std::mem;
use std::net::{SocketAddr, TcpStream};
use std::pin::Pin;
use std::task::{Context, Poll, Waker, ready};

/// A TCP connection that the program opened, or opens while it is polled.
pub(crate) struct TcpPipe {
    state: State,
    /// The reactor tells of an answer.
    expects_answer: bool,
}

enum State {
    Connecting(Pin<Box<dyn Future<Output = io::Result<Io>> + Send>>),
    Open(Io),
    /// It could not be opened.
    Failed(ErrorKind),
}

impl fmt::Debug for TcpPipe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.state {
            State::Connecting(_) => f.write_str("TcpPipe(connecting)"),
            State::Open(io) => write!(f, "TcpPipe({io:?})"),
            State::Failed(kind) => write!(f, "TcpPipe({kind})"),
        }
    }
}

impl TcpPipe {
    /// A pipe to a server. Nothing happens before it is polled.
    pub(crate) fn new(endpoint: &Endpoint, reactor: &Reactor) -> Self {
        let (endpoint, reactor) = (endpoint.clone(), reactor.clone());
        let connecting = Box::pin(async move {
            let patience = async {
                reactor.timers().after(endpoint.connect_timeout).await;
                Err(ErrorKind::TimedOut.into())
            };
            let socket = or(connect(&endpoint, &reactor), patience).await?;
            let timers = reactor.timers().clone();
            Ok(Io::new(socket, timers, endpoint.write_timeout))
        });
        Self {
            state: State::Connecting(connecting),
            expects_answer: false,
        }
    }

    fn poll_open(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<&mut Io>> {
        if let State::Connecting(connecting) = &mut self.state {
            match ready!(connecting.as_mut().poll(cx)) {
                Ok(io) => self.state = State::Open(io),
                Err(error) => {
                    self.state = State::Failed(error.kind());
                    return Poll::Ready(Err(error));
                }
            }
        }
        match &mut self.state {
            State::Open(io) => Poll::Ready(Ok(io)),
            State::Failed(kind) => Poll::Ready(Err((*kind).into())),
            State::Connecting(_) => Poll::Pending,
        }
    }
}

impl Pipe for TcpPipe {
    fn poll_read(
        &mut self,
        waker: &Waker,
        into: &mut Vec<u8>,
        most: usize,
    ) -> Poll<io::Result<usize>> {
        let cx = &mut Context::from_waker(waker);
        let expects_answer = mem::take(&mut self.expects_answer);
        let io = ready!(self.poll_open(cx))?;
        if io.poll_readable(cx).is_pending() && !expects_answer {
            // The reactor may not have heard of what came while the program was stopped.
            io.look();
        }
        receive_behind(into, most, |into| io.poll_receive(cx, into))
    }

    fn poll_write(&mut self, waker: &Waker, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let cx = &mut Context::from_waker(waker);
        let io = ready!(self.poll_open(cx))?;
        io.poll_write(cx, |io| io.write(bytes))
    }

    fn expect_answer(&mut self) {
        self.expects_answer = true;
    }
}

async fn connect(endpoint: &Endpoint, reactor: &Reactor) -> io::Result<Registered<TcpStream>> {
    let endpoint = endpoint.clone();
    let addresses = unblock(move || endpoint.look_up()).await?;
    let mut last = io::Error::new(ErrorKind::NotFound, "its name has no address");
    for address in addresses {
        match connect_to(address, reactor).await {
            Ok(socket) => return Ok(socket),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// Begins to connect, without a wait.
fn begin_connect(address: SocketAddr) -> io::Result<TcpStream> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    socket.set_nonblocking(true)?;
    match socket.connect(&address.into()) {
        Err(error) if Errno::from_io_error(&error) == Some(Errno::INPROGRESS) => Ok(socket.into()),
        connected => connected.map(|()| socket.into()),
    }
}

async fn connect_to(address: SocketAddr, reactor: &Reactor) -> io::Result<Registered<TcpStream>> {
    // It is connected once it can be written to; what goes wrong is told then.
    let socket = reactor.register(begin_connect(address)?)?;
    poll_fn(|cx| socket.poll_writable(cx)).await;
    match socket.get_ref().take_error()? {
        Some(error) => Err(error),
        None => Ok(socket),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::timer::Timers;
    use mcp_local_provider_engine::Clock;
    use std::io::Read;
    use std::net::TcpListener;
    use std::time::Duration;

    #[test]
    fn a_write_that_is_tried_once_behind_an_answer_is_made() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let reactor = Reactor::new(Timers::new(Clock::start())).unwrap();
        let endpoint = Endpoint {
            host: "127.0.0.1".into(),
            port: listener.local_addr().unwrap().port(),
            connect_timeout: Duration::from_secs(5),
            write_timeout: Duration::from_secs(5),
            fence: None,
        };
        let mut pipe = TcpPipe::new(&endpoint, &reactor);
        let mut server = reactor.block_on(async {
            let asked = poll_fn(|cx| pipe.poll_write(cx.waker(), b"ask")).await;
            assert_eq!(asked.unwrap(), 3);
            pipe.expect_answer();
            let mut server = listener.accept().unwrap().0;
            server.write_all(b"answer").unwrap();
            let mut answer = Vec::new();
            let read = poll_fn(|cx| pipe.poll_read(cx.waker(), &mut answer, 64)).await;
            assert_eq!((read.unwrap(), &*answer), (6, &b"answer"[..]));
            server
        });
        // As TLS says at its end that nothing follows.
        assert!(pipe.poll_write(Waker::noop(), b"last").is_ready());
        drop(pipe);
        let mut heard = String::new();
        server.read_to_string(&mut heard).unwrap();
        assert_eq!(heard, "asklast");
    }
}
