//! A server that is reached by a WebSocket: one connection to it, which takes lines and says them as a process does. Each message is a
//! text frame, as the WebSocket transport of the official SDKs has it.

use crate::Engine;
use crate::background::Background;
use crate::dial::{Dial, Target};
use crate::gateway::{Child, Exit, Work};
use crate::websocket::{CLOSING, Ended, Piped, Received, Socket};
use event_listener::EventListener;
use mcp_local_provider_core::budget::Share;
use mcp_local_provider_core::process::Order;
use mcp_local_provider_core::rpc::{Line, one_line};
use mcp_local_provider_core::time::Instant;
use std::fmt;
use std::mem;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use tungstenite::Message;

/// Subprotocol of MCP over WebSockets.
const SUBPROTOCOL: &str = "mcp";

/// Messages that are read before others get their turn.
const TURN: usize = 64;

/// Close code for a message that cannot be used (RFC 6455, 7.4.1: unsupported data).
const UNSUPPORTED: u16 = 1003;

enum State {
    /// There is no connection.
    Closed,
    Dialling(Box<Dial>),
    Open(Box<Socket<Piped>>),
    /// Our close frame goes out. The server has until then to close its side.
    Closing(Box<Socket<Piped>>, Instant),
}

/// One connection to a server, with all that follow on it. It ends with its [`Child`].
pub struct SocketServer {
    child: Child,
    engine: Arc<Engine>,
    target: Target,
    state: State,
    work: Work,
    /// Memory of the lines that wait.
    share: Share,
    stop: EventListener,
}

impl fmt::Debug for SocketServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SocketServer({:?})", self.target)
    }
}

impl Background for SocketServer {
    fn poll(&mut self, waker: &Waker) -> Poll<()> {
        let cx = &mut Context::from_waker(waker);
        if self.engine.is_stopped() || Pin::new(&mut self.stop).poll(cx).is_ready() {
            return Poll::Ready(());
        }
        loop {
            let mut moves = self.take(waker);
            moves |= self.advance(cx);
            if self.work.ended {
                return Poll::Ready(());
            }
            let lines = self.work.lines.iter().map(String::len).sum::<usize>();
            // What is beyond the budget is for those who hold most of it to give back.
            let _within = self.share.hold(lines);
            if !moves {
                return Poll::Pending;
            }
        }
    }

    fn poll_timeout(&self) -> Option<Instant> {
        let own = match &self.state {
            State::Closed | State::Open(_) => None,
            State::Dialling(dial) => Some(dial.until()),
            State::Closing(_, until) => Some(*until),
        };
        own.into_iter().chain(self.work.until).min()
    }
}

impl SocketServer {
    /// The connection of `child` to the server at `target`, which is dialled when the gateway orders a start.
    #[must_use]
    pub fn new(child: Child, engine: Arc<Engine>, target: Target) -> Self {
        Self {
            target: target.speaking(SUBPROTOCOL),
            share: engine.budget().share(),
            stop: engine.listen_for_stop(),
            state: State::Closed,
            work: Work::default(),
            child,
            engine,
        }
    }

    /// Takes orders, and lines. True when there were orders.
    fn take(&mut self, waker: &Waker) -> bool {
        self.child.take(waker, &mut self.work);
        let orders = mem::take(&mut self.work.orders);
        let has_any = !orders.is_empty();
        for order in orders {
            self.obey(order);
        }
        has_any
    }

    fn obey(&mut self, order: Order) {
        match (order, mem::replace(&mut self.state, State::Closed)) {
            (Order::Spawn, _) => {
                tracing::debug!(server = &**self.child.server(), "connects to a server");
                let until = self.engine.now() + self.target.connect_timeout;
                self.state = State::Dialling(Box::new(Dial::new(self.target.clone(), until)));
            }
            (Order::CloseInput, State::Open(socket)) => self.close(socket, 1000),
            // It is on its way.
            (Order::CloseInput | Order::Terminate, state @ State::Closing(..))
            | (Order::Terminate, state @ State::Open(_)) => self.state = state,
            (_, State::Closed) => {}
            (Order::CloseInput | Order::Terminate | Order::Kill, State::Dialling(_)) => {
                self.exited(Exit::NotStarted, "it was told to end");
            }
            (Order::Kill, State::Open(_) | State::Closing(..)) => {
                self.exited(Exit::Disconnected, "it was told to end");
            }
        }
    }

    fn close(&mut self, mut socket: Box<Socket<Piped>>, code: u16) {
        socket.close(code, "");
        self.work.lines.clear();
        self.state = State::Closing(socket, self.engine.now() + CLOSING);
    }

    fn exited(&mut self, exit: Exit, why: &str) {
        self.work.lines.clear();
        self.child.handle_exited(exit, why);
    }

    /// Dials, reads and writes. True when something moved.
    fn advance(&mut self, cx: &mut Context<'_>) -> bool {
        match mem::replace(&mut self.state, State::Closed) {
            State::Closed => false,
            State::Dialling(mut dial) => match dial.poll(&self.engine, cx.waker()) {
                Poll::Pending => {
                    self.state = State::Dialling(dial);
                    false
                }
                Poll::Ready(Ok(socket)) => {
                    self.state = State::Open(Box::new(socket));
                    self.child.handle_started(None);
                    true
                }
                Poll::Ready(Err(error)) => {
                    let server = &**self.child.server();
                    tracing::warn!(server, "cannot be connected to: {error}");
                    self.exited(Exit::NotStarted, &error.to_string());
                    true
                }
            },
            State::Open(mut socket) => match self.exchange(&mut socket, cx) {
                Ok(moves) => {
                    self.state = State::Open(socket);
                    moves
                }
                Err(ended) => {
                    self.ended(socket, &ended);
                    true
                }
            },
            State::Closing(mut socket, until) => {
                let is_over = self.engine.now() >= until || socket.poll_closed(cx).is_ready();
                if is_over {
                    self.exited(Exit::Disconnected, "it was told to end");
                } else {
                    self.state = State::Closing(socket, until);
                }
                is_over
            }
        }
    }

    fn ended(&mut self, mut socket: Box<Socket<Piped>>, ended: &Ended) {
        let server = &**self.child.server();
        tracing::warn!(server, "the connection has ended: {ended}");
        let why = format!("it is not connected any more: {ended}");
        // Written as far as the connection takes it at once; nobody waits for the rest.
        if let Ended::Fault(code, _) = ended {
            socket.close(*code, "");
        } else {
            socket.answer_close();
        }
        self.exited(Exit::Disconnected, &why);
    }

    /// Reads what has come, and writes what waits. True when there may be more to read.
    fn exchange(
        &mut self,
        socket: &mut Socket<Piped>,
        cx: &mut Context<'_>,
    ) -> Result<bool, Ended> {
        let mut left = TURN;
        while left > 0 {
            let Poll::Ready(received) = socket.poll_receive(cx) else {
                break;
            };
            left -= 1;
            match received? {
                Received::Text(text) if text.len() > self.target.frame_bytes => {
                    self.child.handle_line(Line::TooLong);
                }
                Received::Text(text) if text.contains(['\n', '\r']) => {
                    self.child
                        .handle_line(Line::Whole(one_line(&text).as_bytes()));
                }
                Received::Text(text) => self.child.handle_line(Line::Whole(text.as_bytes())),
                Received::Binary => {
                    return Err(Ended::Fault(UNSUPPORTED, "a binary message".to_owned()));
                }
                Received::Alive => {}
            }
        }
        while let Some(line) = self.work.lines.pop_front() {
            let text = line.trim_end_matches('\n').to_owned();
            if !socket.queue(Message::Text(text.into()))? {
                break;
            }
        }
        let is_flushed = match socket.poll_flush(cx) {
            Poll::Ready(flushed) => flushed.map(|()| true)?,
            Poll::Pending => false,
        };
        let has_lines = !self.work.lines.is_empty() || self.work.has_more;
        Ok(left == 0 || (is_flushed && has_lines))
    }
}
