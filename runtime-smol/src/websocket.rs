//! One WebSocket (RFC 6455), owned by one task that both reads and writes it.
//!
//! tungstenite answers pings while it reads, as many as come, into memory of its own; so a machine of its own writes.
//! Reading never waits for writing: a peer that does not read only lets its own queue grow. `permessage-deflate` is
//! never offered nor accepted.

use crate::io::Io;
use crate::timer::Timers;
use futures_lite::future::or;
use mcp_local_provider_engine::websocket::{CLOSING, config};
use std::fmt;
use std::future::{Future, poll_fn};
use std::io::{self, ErrorKind, Read, Write};
use std::task::{Context, Poll, ready};
use tungstenite::protocol::frame::Utf8Bytes;
use tungstenite::protocol::{CloseFrame, Role, WebSocketContext};
use tungstenite::{Bytes, Error, Message, WebSocket};

pub use mcp_local_provider_engine::websocket::Ended;

/// A message of the peer.
#[derive(Debug)]
pub enum Received {
    /// A text message; its bytes are those of the read buffer.
    Text(Utf8Bytes),
    /// A binary message, which the agent protocol does not know.
    Binary,
    /// A ping or a pong; pings are answered here.
    Alive,
}

/// The connection as the reading half of a WebSocket has it: once the handshake is made, what that half would answer by
/// itself, a pong say, goes nowhere. The writing half answers.
#[derive(Debug)]
pub(crate) struct Incoming {
    io: Io,
    is_open: bool,
}

impl Incoming {
    /// For a handshake as the client.
    pub const fn dialling(io: Io) -> Self {
        Self { io, is_open: false }
    }

    /// The connection.
    pub const fn io(&mut self) -> &mut Io {
        &mut self.io
    }
}

impl Read for Incoming {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.io.read(buf)
    }
}

impl Write for Incoming {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        if self.is_open {
            Ok(buf.len())
        } else {
            self.io.write(buf)
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// An open WebSocket.
pub struct Socket {
    incoming: WebSocket<Incoming>,
    outgoing: WebSocketContext,
    timers: Timers,
    /// Only the latest ping is answered, as RFC 6455 allows, so that pings without end take no room.
    pong: Option<Bytes>,
    /// The peer's close frame.
    closed_by_peer: Option<Option<CloseFrame>>,
}

impl fmt::Debug for Socket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Socket({:?})", self.incoming.get_ref())
    }
}

impl Socket {
    /// Of a connection whose handshake was answered; `rest` was received behind it.
    pub(crate) fn accepted(io: Io, rest: Vec<u8>, frame_bytes: usize, timers: Timers) -> Self {
        let config = Some(config(frame_bytes));
        let incoming = Incoming { io, is_open: true };
        let incoming = WebSocket::from_partially_read(incoming, rest, Role::Server, config);
        Self::new(incoming, Role::Server, timers)
    }

    /// A WebSocket whose handshake is made, in our role.
    pub(crate) fn new(mut incoming: WebSocket<Incoming>, role: Role, timers: Timers) -> Self {
        incoming.get_mut().is_open = true;
        // Nothing is read with it.
        let outgoing = config(1).read_buffer_size(1);
        Self {
            incoming,
            outgoing: WebSocketContext::new(role, Some(outgoing)),
            timers,
            pong: None,
            closed_by_peer: None,
        }
    }

    /// The next message of the peer. Nothing is lost when the caller stops polling.
    ///
    /// # Errors
    ///
    /// When there will be none.
    pub fn poll_receive(&mut self, cx: &mut Context<'_>) -> Poll<Result<Received, Ended>> {
        loop {
            match self.incoming.read() {
                Ok(Message::Text(text)) => return Poll::Ready(Ok(Received::Text(text))),
                Ok(Message::Binary(_)) => return Poll::Ready(Ok(Received::Binary)),
                Ok(Message::Ping(payload)) => {
                    self.pong = Some(payload);
                    return Poll::Ready(Ok(Received::Alive));
                }
                Ok(Message::Pong(_)) => return Poll::Ready(Ok(Received::Alive)),
                Ok(Message::Close(frame)) => self.closed_by_peer = Some(frame),
                Ok(Message::Frame(_)) => {}
                Err(Error::Io(error)) if error.kind() == ErrorKind::WouldBlock => {
                    if let Err(error) = ready!(self.incoming.get_mut().io.poll_readable(cx)) {
                        return Poll::Ready(Err(self.ended(error.into())));
                    }
                }
                Err(error) => return Poll::Ready(Err(self.ended(error))),
            }
        }
    }

    /// Has the next read ask the kernel, whatever the reactor knows of.
    pub fn look(&mut self) {
        self.incoming.get_mut().io.look();
    }

    /// The next message of the peer, see [`Socket::poll_receive`].
    ///
    /// # Errors
    ///
    /// When there will be none.
    pub fn receive(&mut self) -> impl Future<Output = Result<Received, Ended>> {
        poll_fn(|cx| self.poll_receive(cx))
    }

    /// Takes a text message to send. False when the socket is full: flush before giving it more.
    ///
    /// # Errors
    ///
    /// When the connection is lost.
    pub fn queue(&mut self, text: String) -> Result<bool, Ended> {
        self.write(Message::Text(text.into()))
    }

    /// Takes a ping to send, see [`Socket::queue`].
    ///
    /// # Errors
    ///
    /// When the connection is lost.
    pub fn queue_ping(&mut self) -> Result<bool, Ended> {
        self.write(Message::Ping(Vec::new().into()))
    }

    fn write(&mut self, message: Message) -> Result<bool, Ended> {
        match self.outgoing.write(self.incoming.get_mut().io(), message) {
            Ok(()) => Ok(true),
            // The message is in the buffer all the same.
            Err(Error::Io(error)) if error.kind() == ErrorKind::WouldBlock => Ok(false),
            Err(error) => Err(self.ended(error)),
        }
    }

    /// Writes out what was taken, in as few packets as possible.
    ///
    /// # Errors
    ///
    /// When the connection is lost or the peer read nothing for `timeouts.write`.
    pub fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Ended>> {
        loop {
            match self.outgoing.flush(self.incoming.get_mut().io()) {
                Ok(()) => match self.pong.take() {
                    Some(payload) => {
                        self.write(Message::Pong(payload))?;
                    }
                    None => return Poll::Ready(Ok(())),
                },
                Err(Error::Io(error)) if error.kind() == ErrorKind::WouldBlock => {
                    if let Err(error) = ready!(self.incoming.get_mut().io.poll_writable(cx)) {
                        return Poll::Ready(Err(self.ended(error.into())));
                    }
                }
                Err(error) => return Poll::Ready(Err(self.ended(error))),
            }
        }
    }

    /// Sends one text message and waits until it is written.
    ///
    /// # Errors
    ///
    /// When the connection is lost or the peer read nothing for `timeouts.write`.
    pub async fn send(&mut self, text: String) -> Result<(), Ended> {
        self.queue(text)?;
        poll_fn(|cx| self.poll_flush(cx)).await
    }

    /// Closes with `code`, and gives the peer two seconds to read that and to close its side.
    pub async fn close(self, code: u16, reason: &'static str) {
        let code = code.into();
        let reason = Utf8Bytes::from_static(reason);
        self.close_with(Some(CloseFrame { code, reason })).await;
    }

    /// Answers the peer's close frame, if it sent one.
    pub async fn answer_close(mut self) {
        if let Some(frame) = self.closed_by_peer.take() {
            self.close_with(frame).await;
        }
    }

    async fn close_with(mut self, frame: Option<CloseFrame>) {
        // It fails only by being full, which the flush below settles, or where the peer is gone.
        let _ = self.outgoing.close(self.incoming.get_mut().io(), frame);
        let patience = self.timers.after(CLOSING);
        or(patience, async {
            if poll_fn(|cx| self.poll_flush(cx)).await.is_ok() {
                // To close while something is unread would reset the connection, and the peer would lose the code.
                let io = self.incoming.get_mut().io();
                let _ = io.shutdown();
                io.discard().await;
            }
        })
        .await;
    }

    /// Bytes read so far: when they grow, the peer is alive, whether a message is complete or not.
    #[must_use]
    pub fn received_bytes(&self) -> u64 {
        self.incoming.get_ref().io.received_bytes()
    }

    fn ended(&self, error: Error) -> Ended {
        match &self.closed_by_peer {
            Some(frame) => Ended::Closed(frame.as_ref().map(|frame| frame.code.into())),
            None => error.into(),
        }
    }
}
