//! One WebSocket (RFC 6455), owned by one task or thread that both reads and writes it.
//!
//! tungstenite answers pings while it reads, as many as come, into memory of its own; so a machine of its own writes.
//! Reading never waits for writing: a peer that does not read only lets its own queue grow.

use super::{Ended, config};
use std::fmt;
use std::io::{self, ErrorKind, Read, Write};
use std::task::{Context, Poll, ready};
use tungstenite::protocol::frame::Utf8Bytes;
use tungstenite::protocol::{CloseFrame, Role, WebSocketContext};
use tungstenite::{Bytes, Error, Message, WebSocket};

/// A connection below a WebSocket. `Read` and `Write` never block: they answer [`ErrorKind::WouldBlock`], and the calls here
/// tell when to try again.
pub trait Stream: Read + Write + fmt::Debug {
    /// Ready when a read may succeed.
    ///
    /// # Errors
    /// When the connection is broken.
    fn poll_readable(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;

    /// Ready when a write or a flush may succeed.
    ///
    /// # Errors
    /// When the connection is broken, or its peer has taken nothing for the time that a write has.
    fn poll_writable(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;

    /// Has the next read look for bytes, though nothing has told of any.
    fn look(&mut self);

    /// Bytes read so far.
    fn received_bytes(&self) -> u64;

    /// Says to the peer that nothing more is written, where the connection has a way to.
    fn finish(&mut self);
}

/// A message of the peer.
#[derive(Debug)]
pub(crate) enum Received {
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
pub(crate) struct Incoming<S> {
    stream: S,
    is_open: bool,
}

impl<S> Incoming<S> {
    /// For a handshake as the client.
    pub(crate) const fn dialling(stream: S) -> Self {
        Self {
            stream,
            is_open: false,
        }
    }

    /// The connection.
    pub(crate) const fn stream(&mut self) -> &mut S {
        &mut self.stream
    }
}

impl<S: Read> Read for Incoming<S> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.stream.read(buf)
    }
}

impl<S: Write> Write for Incoming<S> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        if self.is_open {
            Ok(buf.len())
        } else {
            self.stream.write(buf)
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.is_open {
            Ok(())
        } else {
            self.stream.flush()
        }
    }
}

/// An open WebSocket.
pub struct Socket<S> {
    incoming: WebSocket<Incoming<S>>,
    outgoing: WebSocketContext,
    /// Only the latest ping is answered, as RFC 6455 allows, so that pings without end take no room.
    pong: Option<Bytes>,
    /// The peer's close frame.
    closed_by_peer: Option<Option<CloseFrame>>,
    /// Our close frame is written.
    is_finished: bool,
}

impl<S: fmt::Debug> fmt::Debug for Socket<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Socket({:?})", self.incoming.get_ref().stream)
    }
}

impl<S: Stream> Socket<S> {
    /// Of a connection whose handshake was answered; `rest` was received behind it. Messages have at most `frame_bytes`.
    #[must_use]
    pub fn accepted(stream: S, rest: Vec<u8>, frame_bytes: usize) -> Self {
        let config = Some(config(frame_bytes));
        let incoming = Incoming {
            stream,
            is_open: true,
        };
        let incoming = WebSocket::from_partially_read(incoming, rest, Role::Server, config);
        Self::new(incoming, Role::Server)
    }

    /// A WebSocket whose handshake is made, in our role.
    pub(crate) fn new(mut incoming: WebSocket<Incoming<S>>, role: Role) -> Self {
        incoming.get_mut().is_open = true;
        // Nothing is read with it.
        let outgoing = config(1).read_buffer_size(1);
        Self {
            incoming,
            outgoing: WebSocketContext::new(role, Some(outgoing)),
            pong: None,
            closed_by_peer: None,
            is_finished: false,
        }
    }

    /// The next message of the peer. Nothing is lost when the caller stops polling.
    ///
    /// # Errors
    /// When there will be none.
    pub(crate) fn poll_receive(&mut self, cx: &mut Context<'_>) -> Poll<Result<Received, Ended>> {
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
                    if let Err(error) = ready!(self.stream().poll_readable(cx)) {
                        return Poll::Ready(Err(self.ended(error.into())));
                    }
                }
                Err(error) => return Poll::Ready(Err(self.ended(error))),
            }
        }
    }

    /// The connection.
    pub(super) fn stream(&mut self) -> &mut S {
        &mut self.incoming.get_mut().stream
    }

    /// Bytes read so far: when they grow, the peer is alive, whether a message is complete or not.
    pub(super) fn received_bytes(&self) -> u64 {
        self.incoming.get_ref().stream.received_bytes()
    }

    /// Takes a message to send. False when the socket is full: flush before giving it more.
    ///
    /// # Errors
    /// When the connection is lost.
    pub(crate) fn queue(&mut self, message: Message) -> Result<bool, Ended> {
        match self
            .outgoing
            .write(&mut self.incoming.get_mut().stream, message)
        {
            Ok(()) => Ok(true),
            // The message is in the buffer all the same.
            Err(Error::Io(error)) if error.kind() == ErrorKind::WouldBlock => Ok(false),
            Err(error) => Err(self.ended(error)),
        }
    }

    /// Writes out what was taken, in as few packets as possible.
    ///
    /// # Errors
    /// When the connection is lost or the peer read nothing for `timeouts.write`.
    pub(crate) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Ended>> {
        loop {
            match self.outgoing.flush(&mut self.incoming.get_mut().stream) {
                Ok(()) => match self.pong.take() {
                    Some(payload) => {
                        self.queue(Message::Pong(payload))?;
                    }
                    None => return Poll::Ready(Ok(())),
                },
                Err(Error::Io(error)) if error.kind() == ErrorKind::WouldBlock => {
                    if let Err(error) = ready!(self.stream().poll_writable(cx)) {
                        return Poll::Ready(Err(self.ended(error.into())));
                    }
                }
                Err(error) => return Poll::Ready(Err(self.ended(error))),
            }
        }
    }

    /// Takes a close frame with `code` behind all that was taken before. [`Socket::poll_closed`] writes it.
    pub(crate) fn close(&mut self, code: u16, reason: &'static str) {
        let code = code.into();
        let reason = Utf8Bytes::from_static(reason);
        self.close_with(Some(CloseFrame { code, reason }));
    }

    /// Takes the answer to the peer's close frame. False when it sent none.
    pub(crate) fn answer_close(&mut self) -> bool {
        let frame = self.closed_by_peer.take();
        let is_closing = frame.is_some();
        frame.into_iter().for_each(|frame| self.close_with(frame));
        is_closing
    }

    fn close_with(&mut self, frame: Option<CloseFrame>) {
        // It fails only by being full, which the flush settles, or where the peer is gone.
        let _ = self
            .outgoing
            .close(&mut self.incoming.get_mut().stream, frame);
    }

    /// Ready once the close frame is written and the peer has closed its side, or is lost. To close while something is unread
    /// would reset the connection, and the peer would lose the code.
    pub(crate) fn poll_closed(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if !self.is_finished {
            if ready!(self.poll_flush(cx)).is_err() {
                return Poll::Ready(());
            }
            self.stream().finish();
            self.is_finished = true;
        }
        let mut waste = [0; 1024];
        loop {
            match self.stream().read(&mut waste) {
                Ok(1..) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    if ready!(self.stream().poll_readable(cx)).is_err() {
                        return Poll::Ready(());
                    }
                }
                Ok(0) | Err(_) => return Poll::Ready(()),
            }
        }
    }

    fn ended(&self, error: Error) -> Ended {
        match &self.closed_by_peer {
            Some(frame) => Ended::Closed(frame.as_ref().map(|frame| frame.code.into())),
            None => error.into(),
        }
    }
}
