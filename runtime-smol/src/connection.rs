//! One client connection as a task: bytes and waits, as `ClientConnection` of the engine asks for them.

use crate::io::Io;
use crate::reactor::Registered;
use crate::tasks::{self, Tasks};
use crate::timer::{Sleep, Timers};
use blocking::{Task, unblock};
use futures_lite::future::or;
use mcp_local_provider_core::api::{Listener, over_connection_limit};
use mcp_local_provider_core::time;
use mcp_local_provider_core::wire::http1::LINGER;
use mcp_local_provider_engine::client_connection::{ClientConnection, Next, Wakers};
use mcp_local_provider_engine::websocket::{Conversation, Socket};
use mcp_local_provider_engine::{Client, Usage};
use std::future::{Future, poll_fn};
use std::io::{self, ErrorKind, IoSlice, Write};
use std::net::{SocketAddr, TcpStream};
use std::pin::Pin;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

/// Times that a client is read from before others have their turn.
const TURN: u32 = 16;

/// Serves a connection to its end.
pub(crate) async fn serve(
    tasks: Tasks,
    client: Client,
    socket: Registered<TcpStream>,
    from: SocketAddr,
    on: Listener,
) {
    let write_timeout = tasks.engine.config().timeouts.write;
    let mut drain = tasks.engine.listen_for_drain();
    let mut serving = Serving {
        io: Io::new(socket, tasks.timers.clone(), write_timeout),
        connection: ClientConnection::new(client, from.ip(), on),
        sleep: tasks.timers.after(Duration::MAX),
        measuring: None,
        has_given_way: false,
    };
    let mut drains = false;
    let ended = poll_fn(|cx| {
        // From the first poll on it is woken when a shutdown begins.
        drains = drains || Pin::new(&mut drain).poll(cx).is_ready();
        serving.poll(&tasks, cx)
    })
    .await;
    drop(drain);
    if let Err(error) = ended {
        tracing::debug!(peer = %from, %error, "a connection ended early");
        return;
    }
    let Serving { io, connection, .. } = serving;
    // From here on it counts as a link, and its frames take a task of another size.
    if let Some((link, rest)) = connection.into_conversation() {
        let socket = Socket::accepted(io, rest, link.frame_bytes());
        let conversation = Conversation::new(tasks.engine.clone(), link, socket);
        tasks.spawn(tasks::run(conversation, tasks.timers.clone()));
    }
}

/// Tells a client that there are too many connections, and closes.
pub(crate) async fn refuse(timers: Timers, socket: Registered<TcpStream>) {
    let mut io = Io::new(socket, timers.clone(), LINGER);
    // It fits into the socket's empty buffer; a client that is gone needs none.
    if io.write(&over_connection_limit()).is_ok() && io.shutdown().is_ok() {
        or(io.discard(), timers.after(LINGER)).await;
    }
}

/// A connection, its socket, and what it waits for.
struct Serving {
    io: Io,
    connection: ClientConnection,
    sleep: Sleep,
    /// The listing of open files is as long as there are connections, so nobody else waits for it.
    measuring: Option<Task<Usage>>,
    /// The other tasks had their turn since the answer was whole.
    has_given_way: bool,
}

/// The one waker of a task.
struct Same<'w>(&'w Waker);

impl Wakers for Same<'_> {
    fn idle(&mut self) -> &Waker {
        self.0
    }

    fn answer(&mut self) -> &Waker {
        self.0
    }
}

impl Serving {
    /// Ready when the connection is over, or has become a WebSocket.
    fn poll(&mut self, tasks: &Tasks, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut reads = 0;
        let mut looked = false;
        loop {
            match self.connection.poll(&mut Same(cx.waker())) {
                Next::Write => {
                    // Answers of one turn go out in a row then, and a process that waits for several is woken once. A piece of
                    // a stream is too small to be worth another poll.
                    if !self.has_given_way && self.connection.running().is_none() {
                        self.has_given_way = true;
                        cx.waker().wake_by_ref();
                        return Poll::Pending;
                    }
                    let parts = self.connection.unwritten().map(IoSlice::new);
                    let count = ready!(self.io.poll_write_vectored(cx, &parts))?;
                    self.connection.wrote(count);
                    self.has_given_way = false;
                }
                Next::Receive(until) => {
                    if reads == TURN {
                        cx.waker().wake_by_ref();
                        return Poll::Pending;
                    }
                    reads += 1;
                    if self.receive(cx)? {
                        looked = false;
                        continue;
                    }
                    ready!(self.poll_until(tasks, until, cx));
                    if looked {
                        self.connection.late();
                    } else {
                        // The reactor may not have heard of what came while the program was stopped.
                        self.io.look();
                        looked = true;
                    }
                }
                Next::Wait(until) => {
                    if self.connection.has_early_room() && self.receive(cx)? {
                        continue;
                    }
                    ready!(self.poll_until(tasks, until, cx));
                }
                Next::Measure => {
                    let measuring = self.measuring.get_or_insert_with(|| {
                        let engine = tasks.engine.clone();
                        unblock(move || engine.usage())
                    });
                    let usage = ready!(Pin::new(measuring).poll(cx));
                    self.measuring = None;
                    self.connection.measured(usage);
                }
                // A client that is gone needs to be told nothing.
                Next::Finish => drop(self.io.shutdown()),
                Next::Upgraded | Next::Close => return Poll::Ready(Ok(())),
            }
        }
    }

    /// False when nothing can be received now.
    fn receive(&mut self, cx: &mut Context<'_>) -> io::Result<bool> {
        if self.io.poll_readable(cx).is_pending() {
            return Ok(false);
        }
        let io = &mut self.io;
        match self.connection.receive(|into| io.receive(into)) {
            // The reactor is asked in the same turn.
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                Ok(io.poll_readable(cx).is_ready())
            }
            received => received.map(|()| true),
        }
    }

    fn poll_until(
        &mut self,
        tasks: &Tasks,
        until: Option<time::Instant>,
        cx: &mut Context<'_>,
    ) -> Poll<()> {
        let Some(until) = until else {
            return Poll::Pending;
        };
        self.sleep.reset(tasks.timers.clock().system(until));
        Pin::new(&mut self.sleep).poll(cx)
    }
}
