//! One client connection on a thread of its own: bytes and waits, as `ClientConnection` of the engine asks for them.

use crate::link;
use crate::parker::Woken;
use crate::peer::Peer;
use crate::served::{Answered, Hold, Served, Wait};
use crate::threads::{Open, Threads};
use crate::websocket::Reader;
use mcp_local_provider_core::api::Listener;
use mcp_local_provider_core::time;
use mcp_local_provider_core::wire::http1::IDLE;
use mcp_local_provider_engine::client_connection::{ClientConnection, Next, Wakers};
use mcp_local_provider_engine::listen::receive;
use mcp_local_provider_engine::{Client, Converse, Engine, run_queue};
use rustix::event::PollFlags;
use std::io::{self, ErrorKind, IoSlice};
use std::mem;
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::Waker;
use std::time::Duration;

/// Bytes of a request that are received while no room is held for it.
const FIRST: usize = 2 << 10;

/// Serves a connection to its end.
pub(crate) fn serve(threads: &Threads, client: Client, open: Open, from: SocketAddr, on: Listener) {
    // From here on it counts as a link.
    if let Some((link, rest)) = serve_http(threads, client, &open, from, on) {
        serve_link(threads, link, rest, &open);
    }
}

/// Serves its requests; gives the WebSocket that it becomes, and the first bytes of the agent.
// Apart from the link, whose reader takes more of the stack than an HTTP request that waits.
#[inline(never)]
fn serve_http(
    threads: &Threads,
    client: Client,
    open: &Open,
    from: SocketAddr,
    on: Listener,
) -> Option<(Box<dyn Converse>, Vec<u8>)> {
    let connection = ClientConnection::new(client, from.ip(), on);
    let served = Served::new(threads, open.peer(), connection);
    let mut thread = Thread {
        threads,
        engine: threads.engine(),
        peer: open.peer(),
        served: &served,
        idle: Waker::from(open.peer().clone()),
        answer: None,
        patience: None,
        watches_input: true,
        is_readable: false,
    };
    let run = thread.run();
    // Nobody works for it in this thread's place any more.
    let connection = served.take();
    match run {
        Ok(()) => connection?.into_conversation(),
        Err(error) => {
            tracing::debug!(peer = %from, %error, "a connection ended early");
            None
        }
    }
}

#[inline(never)]
fn serve_link(threads: &Threads, link: Box<dyn Converse>, rest: Vec<u8>, open: &Open) {
    let reader = Reader::accepted(open.peer().clone(), rest, link.frame_bytes());
    link::run(threads, link, open.peer(), reader);
}

/// The thread of a connection: its socket, and the places where it waits.
struct Thread<'c> {
    threads: &'c Threads,
    engine: &'c Arc<Engine>,
    peer: &'c Arc<Peer>,
    served: &'c Arc<Served>,
    idle: Waker,
    /// From the first answer that is waited for until a wait for a request that holds nothing.
    answer: Option<(Arc<Answered>, Waker)>,
    /// The socket's own timeout, once it is set.
    patience: Option<Duration>,
    /// A wait for an answer watches for requests too, as long as none has come before its time.
    watches_input: bool,
    /// Something was there to receive when the last wait ended.
    is_readable: bool,
}

impl Wakers for Thread<'_> {
    fn idle(&mut self) -> &Waker {
        &self.idle
    }

    fn answer(&mut self) -> &Waker {
        let (threads, served) = (self.threads, self.served);
        let answer = self.answer.get_or_insert_with(|| {
            let answered = Answered::new(served, threads.parker());
            let waker = Waker::from(answered.clone());
            (answered, waker)
        });
        &answer.1
    }
}

impl Thread<'_> {
    /// Serves until the connection is over, or has become a WebSocket.
    fn run(&mut self) -> io::Result<()> {
        let served = self.served;
        let mut held = served.hold();
        loop {
            // It is this thread that takes it.
            let Some(connection) = held.connection() else {
                return Ok(());
            };
            match run_queue::enter(|| connection.poll(self)) {
                Next::Write => {
                    let parts = connection.unwritten();
                    let count = parts.iter().map(|part| part.len()).sum();
                    self.peer.write_all(&mut parts.map(IoSlice::new))?;
                    connection.wrote(count);
                }
                Next::Receive(until) if connection.is_idle() => {
                    self.receive_request(connection, until)?;
                }
                Next::Receive(until) => self.receive(connection, until)?,
                Next::Wait(until) => {
                    let wait = Wait::new(self.engine.clock(), until, self.watches_input);
                    held.set_wait(Some(wait));
                    drop(held);
                    let woken = self.wait(wait);
                    held = served.hold();
                    self.go_on(&mut held, woken);
                }
                Next::Measure => connection.measured(self.engine.usage()),
                Next::Finish => self.peer.finish(),
                Next::Upgraded | Next::Close => return Ok(()),
            }
        }
    }

    /// Waits for an answer. Meanwhile whoever has it may write it in this thread's place, and leave this thread to wait for the
    /// next request.
    fn wait(&self, wait: Wait) -> Woken {
        let Some((answered, _)) = &self.answer else {
            return Woken::Unparked;
        };
        let mut flags = PollFlags::RDHUP;
        flags.set(PollFlags::IN, wait.watches_input());
        let until = self.threads.clock().system(wait.until());
        let watched = Some((self.peer.socket(), flags));
        answered.parker().wait(watched, Some(until))
    }

    fn go_on(&mut self, held: &mut Hold<'_>, woken: Woken) {
        held.set_wait(None);
        self.peer.set_idle(false);
        let Some(connection) = held.connection() else {
            return;
        };
        if woken != Woken::Socket {
            return;
        }
        if connection.running().is_none() {
            self.is_readable = true;
        } else if self.peer.has_left() {
            connection.end();
        } else {
            // A request that came before its time stays where it is.
            self.watches_input = false;
        }
    }

    /// Receives the first bytes of a request. A shutdown or a new connection may end the wait.
    #[inline(never)]
    fn receive_request(
        &mut self,
        connection: &mut ClientConnection,
        until: Option<time::Instant>,
    ) -> io::Result<()> {
        let mut first = [0; FIRST];
        self.watches_input = true;
        if mem::take(&mut self.is_readable) {
            match self.peer.read_now(&mut first) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                received => return take(connection, received, &first),
            }
        }
        // A connection that waits for long holds no descriptor but its own.
        self.answer = None;
        // One call waits and receives. Its timeout is set twice at most: for the first request, and for all others.
        let patience = match (self.patience, until) {
            (Some(_), _) | (None, None) => IDLE,
            (None, Some(until)) => self.threads.clock().until(until),
        };
        if self.patience != Some(patience) {
            self.peer.set_patience(patience)?;
            self.patience = Some(patience);
        }
        self.peer.set_idle(true);
        // In this order: who begins a shutdown sets its mark before it looks for idle connections.
        let received = if connection.misses_shutdown() {
            None
        } else {
            match self.peer.read_patiently(&mut first) {
                // The kernel counts in ticks, so it may be early.
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    match self.wait_readable(until) {
                        Ok(true) => Some(self.peer.read_now(&mut first)),
                        Ok(false) => None,
                        Err(error) => Some(Err(error)),
                    }
                }
                received => Some(received),
            }
        };
        self.peer.set_idle(false);
        let Some(received) = received else {
            connection.late();
            return Ok(());
        };
        match take(connection, received, &first) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(()),
            received => received,
        }
    }

    /// Receives what is there, or waits for it; at `until` the client is late.
    fn receive(
        &self,
        connection: &mut ClientConnection,
        until: Option<time::Instant>,
    ) -> io::Result<()> {
        match connection.receive(|into| receive(self.peer.socket(), into)) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                if !self.wait_readable(until)? {
                    connection.late();
                }
                Ok(())
            }
            received => received,
        }
    }

    /// False when it is `until`, and nothing can be received.
    fn wait_readable(&self, until: Option<time::Instant>) -> io::Result<bool> {
        let until = until.map(|until| self.threads.clock().system(until));
        match self.peer.wait_readable(until) {
            Err(error) if error.kind() == ErrorKind::TimedOut => Ok(false),
            waited => waited.map(|()| true),
        }
    }
}

/// Gives the connection what was received into `first`.
fn take(
    connection: &mut ClientConnection,
    received: io::Result<usize>,
    first: &[u8; FIRST],
) -> io::Result<()> {
    connection.receive(|into| {
        let count = received?;
        // So much that the allocator takes it back: it keeps smaller pieces for the thread, which may wait for long.
        into.reserve(FIRST);
        into.extend_from_slice(first.get(..count).unwrap_or_default());
        Ok(count)
    })
}
