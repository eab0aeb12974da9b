//! An agent on threads: one for the connection, and one for each answer.

use crate::agent::Agent;
use crate::answer::Answer;
use crate::connection::{Address, Connection, not_reached};
use crate::running::{Order, Running, Writer};
use crate::stream::Stream;
use crate::{Error, Failed, Request, Token};
use mcp_local_provider_core::agent::{Lost, Stopped};
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Registry};
use std::io::{self, ErrorKind};
use std::net::{self, ToSocketAddrs};
use std::sync::Arc;
use std::task::{Wake, Waker};
use std::thread::Builder;
use std::time::Duration;

const SOCKET: mio::Token = mio::Token(0);
const WAKER: mio::Token = mio::Token(1);

/// Wakes the thread that waits for the socket.
struct SocketWaker(mio::Waker);

impl Wake for SocketWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        // It fails only where the system has no memory; the next timer wakes the thread then.
        let _ = self.0.wake();
    }
}

impl Agent {
    /// Serves the agent at `url`, `ws://HOST:PORT/agent` or `wss:` for TLS, until it is stopped. Each question is answered by a call
    /// of `handler` on a thread of its own.
    ///
    /// # Errors
    /// When the URL cannot be used, the provider wants nothing of this agent, or the system gives no means to wait for a socket.
    pub fn serve<H>(self, url: &str, token: &Token, handler: H) -> Result<(), Error>
    where
        H: Fn(&Request, &mut Answer) -> Result<(), Failed> + Send + Sync + 'static,
    {
        let address = Address::parse(url)?;
        let running = Arc::new(Running::new(self.registration, self.times));
        let handler = Arc::new(handler);
        let mut poll = Poll::new()?;
        let mut events = Events::with_capacity(8);
        let waker = SocketWaker(mio::Waker::new(poll.registry(), WAKER)?);
        let waker = Waker::from(Arc::new(waker));
        running.wake_for_frames(&waker);
        let mut connection: Option<Connection<Stream<TcpStream>>> = None;
        loop {
            if self.stopper.poll_asked(&waker) {
                running.stop();
            }
            let mut timeout = running.serve_timers();
            if let Some(open) = &mut connection
                && let Err(lost) = open.turn(&running)
            {
                connection = None;
                running.lost(lost);
            }
            while let Some(order) = running.next_order() {
                // It may have set another timer.
                timeout = Some(Duration::ZERO);
                match order {
                    Order::Dial => {
                        let session = running.session_token();
                        let token = session.as_deref().or(token.text());
                        let times = &self.times;
                        match dial(&address, token, times.connect, poll.registry()) {
                            Ok(dialled) => connection = Some(dialled),
                            Err(lost) => running.lost(lost),
                        }
                    }
                    Order::Invoke(request) => answer(request, &running, &handler),
                    // The thread of the answer knows.
                    Order::Cancel(_) => {}
                    Order::Tell(event) => (self.observer)(&event),
                    Order::Stop(Stopped::Asked) => return Ok(()),
                    Order::Stop(stopped) => return Err(Error::Stopped(stopped)),
                }
            }
            match poll.poll(&mut events, timeout) {
                Err(error) if error.kind() != ErrorKind::Interrupted => return Err(error.into()),
                Ok(()) | Err(_) => {}
            }
        }
    }
}

/// Answers one question on a thread of its own. Dropping the writer tells the provider of an answer that was not ended, by a
/// panic or because there was no thread.
fn answer<H>(request: Request, running: &Arc<Running>, handler: &Arc<H>)
where
    H: Fn(&Request, &mut Answer) -> Result<(), Failed> + Send + Sync + 'static,
{
    let handler = handler.clone();
    let mut answer = Answer(Writer::new(running.clone(), request.id().clone()));
    let thread = Builder::new().name("answer".to_owned());
    let _ = thread.spawn(move || {
        let result = handler(&request, &mut answer);
        answer.0.end(result);
    });
}

fn dial(
    address: &Address,
    token: Option<&str>,
    patience: Duration,
    registry: &Registry,
) -> Result<Connection<Stream<TcpStream>>, Lost> {
    let connect = || -> io::Result<TcpStream> {
        let mut last = io::Error::new(ErrorKind::NotFound, "the name has no address");
        for address in (&*address.host, address.port).to_socket_addrs()? {
            match net::TcpStream::connect_timeout(&address, patience) {
                Ok(socket) => {
                    socket.set_nonblocking(true)?;
                    socket.set_nodelay(true)?;
                    let mut socket = TcpStream::from_std(socket);
                    let both = Interest::READABLE | Interest::WRITABLE;
                    registry.register(&mut socket, SOCKET, both)?;
                    return Ok(socket);
                }
                Err(error) => last = error,
            }
        }
        Err(last)
    };
    let socket = connect().map_err(|error| not_reached(&error))?;
    Connection::begin(Stream::over(socket, address)?, address, token)
}
