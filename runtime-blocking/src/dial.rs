//! Pipes over TCP: a short-lived thread resolves the name and connects, the thread that polls the pipe reads and writes.

use crate::parker::{Interest, watch};
use crate::peer::Peer;
use crate::threads::{Open, Threads};
use mcp_local_provider_engine::later;
use mcp_local_provider_engine::listen::receive;
use mcp_local_provider_engine::pipe::{Endpoint, Pipe, receive_behind};
use std::io::{self, ErrorKind};
use std::mem;
use std::net::TcpStream;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Poll, Waker, ready};
use std::time::{Duration, Instant};

/// A TCP connection that the program opened, or opens.
pub(crate) struct TcpPipe {
    threads: Threads,
    write_timeout: Duration,
    state: State,
    /// Time since which the socket takes nothing.
    stalled: Option<Instant>,
    /// A server takes longer to answer than the thread takes to wait.
    expects_answer: bool,
}

enum State {
    Connecting(Arc<Connecting>, Instant),
    Open(Open),
    /// It could not be opened.
    Failed(ErrorKind),
}

/// Place where the thread that connects leaves what came of it.
#[derive(Default)]
struct Connecting(Mutex<(Option<io::Result<TcpStream>>, Option<Waker>)>);

impl Connecting {
    fn call<R>(
        &self,
        call: impl FnOnce(&mut (Option<io::Result<TcpStream>>, Option<Waker>)) -> R,
    ) -> R {
        call(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl TcpPipe {
    /// A pipe to a server.
    pub fn new(threads: &Threads, endpoint: &Endpoint) -> Self {
        let until = later(Instant::now(), endpoint.connect_timeout);
        let connecting = Arc::new(Connecting::default());
        let (to, place) = (endpoint.clone(), connecting.clone());
        let spawned = threads.spawn("dial", move || {
            let connected = connect(&to, until);
            let waker = place.call(|(result, waker)| {
                *result = Some(connected);
                waker.take()
            });
            waker.into_iter().for_each(Waker::wake);
        });
        Self {
            threads: threads.clone(),
            write_timeout: endpoint.write_timeout,
            state: match spawned {
                Ok(()) => State::Connecting(connecting, until),
                Err(error) => State::Failed(error.kind()),
            },
            stalled: None,
            expects_answer: false,
        }
    }

    fn poll_open(&mut self, waker: &Waker) -> Poll<io::Result<&Arc<Peer>>> {
        if let State::Connecting(connecting, until) = &self.state {
            let connected = connecting.call(|(result, waiting)| {
                if result.is_none() {
                    *waiting = Some(waker.clone());
                }
                result.take()
            });
            match connected {
                Some(Ok(socket)) => {
                    let peer = Arc::new(Peer::new(socket, self.write_timeout));
                    self.state = State::Open(self.threads.open(peer));
                }
                Some(Err(error)) => return Poll::Ready(Err(self.fail(error))),
                None if Instant::now() >= *until => {
                    return Poll::Ready(Err(self.fail(ErrorKind::TimedOut.into())));
                }
                None => return Poll::Pending,
            }
        }
        match &self.state {
            State::Open(open) => Poll::Ready(Ok(open.peer())),
            State::Failed(kind) => Poll::Ready(Err((*kind).into())),
            State::Connecting(..) => Poll::Pending,
        }
    }

    fn fail(&mut self, error: io::Error) -> io::Error {
        self.state = State::Failed(error.kind());
        error
    }
}

impl Pipe for TcpPipe {
    fn poll_read(
        &mut self,
        waker: &Waker,
        into: &mut Vec<u8>,
        most: usize,
    ) -> Poll<io::Result<usize>> {
        let expects_answer = mem::take(&mut self.expects_answer);
        let peer = ready!(self.poll_open(waker))?;
        let read = if expects_answer {
            Poll::Pending
        } else {
            receive_behind(into, most, |into| Poll::Ready(receive(peer.socket(), into)))
        };
        if read.is_pending() {
            watch(peer, Interest::Read, None, waker);
        }
        read
    }

    fn poll_write(&mut self, waker: &Waker, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let peer = ready!(self.poll_open(waker))?.clone();
        match peer.write_now(bytes) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                let stalled = *self.stalled.get_or_insert_with(Instant::now);
                let until = later(stalled, self.write_timeout);
                if Instant::now() >= until {
                    peer.reset_on_close();
                    return Poll::Ready(Err(ErrorKind::TimedOut.into()));
                }
                watch(&peer, Interest::Write, Some(until), waker);
                Poll::Pending
            }
            written => {
                self.stalled = None;
                Poll::Ready(written)
            }
        }
    }

    fn expect_answer(&mut self) {
        self.expects_answer = true;
    }
}

fn connect(endpoint: &Endpoint, until: Instant) -> io::Result<TcpStream> {
    let mut last = io::Error::new(ErrorKind::NotFound, "its name has no address");
    for address in endpoint.look_up()? {
        let left = until.saturating_duration_since(Instant::now());
        match TcpStream::connect_timeout(&address, left.max(Duration::from_millis(1))) {
            Ok(socket) => return Ok(socket),
            Err(error) => last = error,
        }
    }
    Err(last)
}
