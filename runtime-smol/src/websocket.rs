//! One WebSocket (RFC 6455), owned by one task that both reads and writes it.
//!
//! Reading never waits for writing: a peer that does not read only lets its own queue grow. `permessage-deflate` is
//! never offered nor accepted.

use crate::io::Io;
use crate::screened::Screened;
use crate::timer::Timers;
use futures_lite::future::or;
use hyper::upgrade::OnUpgrade;
use mcp_local_provider_engine::websocket::{CLOSING, config};
use std::fmt;
use std::future::{Future, poll_fn};
use std::io::ErrorKind;
use std::task::{Context, Poll, ready};
use tungstenite::protocol::frame::Utf8Bytes;
use tungstenite::protocol::{CloseFrame, Role};
use tungstenite::{Error, Message, WebSocket};

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

/// An open WebSocket.
pub struct Socket {
    websocket: WebSocket<Io>,
    timers: Timers,
    closed_by_peer: Option<Option<u16>>,
}

impl fmt::Debug for Socket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Socket({:?})", self.websocket.get_ref())
    }
}

/// Takes the connection over from hyper once the handshake's answer is written.
///
/// # Errors
///
/// When the connection broke before that.
pub async fn upgraded(
    upgrade: OnUpgrade,
    frame_bytes: usize,
    timers: Timers,
) -> Result<Socket, Ended> {
    let upgraded = upgrade
        .await
        .map_err(|error| Ended::Lost(error.to_string()))?;
    let parts = upgraded
        .downcast::<Screened>()
        .map_err(|_| Ended::Lost("the connection is not one of ours".into()))?;
    let (io, rest) = parts.io.into_parts();
    let read = [&parts.read_buf[..], &rest].concat();
    let config = Some(config(frame_bytes));
    let websocket = WebSocket::from_partially_read(io, read, Role::Server, config);
    Ok(Socket::new(websocket, timers))
}

impl Socket {
    pub(crate) const fn new(websocket: WebSocket<Io>, timers: Timers) -> Self {
        Self {
            websocket,
            timers,
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
            match self.websocket.read() {
                Ok(Message::Text(text)) => return Poll::Ready(Ok(Received::Text(text))),
                Ok(Message::Binary(_)) => return Poll::Ready(Ok(Received::Binary)),
                Ok(Message::Ping(_) | Message::Pong(_)) => {
                    return Poll::Ready(Ok(Received::Alive));
                }
                Ok(Message::Close(frame)) => {
                    self.closed_by_peer = Some(frame.map(|frame| frame.code.into()));
                }
                Ok(Message::Frame(_)) => {}
                Err(Error::Io(error)) if error.kind() == ErrorKind::WouldBlock => {
                    if let Err(error) = ready!(self.websocket.get_mut().poll_readable(cx)) {
                        return Poll::Ready(Err(self.ended(error.into())));
                    }
                }
                Err(error) => return Poll::Ready(Err(self.ended(error))),
            }
        }
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
        match self.websocket.write(message) {
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
            match self.websocket.flush() {
                Ok(()) => return Poll::Ready(Ok(())),
                Err(Error::Io(error)) if error.kind() == ErrorKind::WouldBlock => {
                    if let Err(error) = ready!(self.websocket.get_mut().poll_writable(cx)) {
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
    pub async fn close(mut self, code: u16, reason: &'static str) {
        let frame = CloseFrame {
            code: code.into(),
            reason: Utf8Bytes::from_static(reason),
        };
        // It fails only by being full, which the flush below settles, or where the peer is gone.
        let _ = self.websocket.close(Some(frame));
        let patience = self.timers.after(CLOSING);
        or(patience, async {
            if poll_fn(|cx| self.poll_flush(cx)).await.is_ok() {
                // To close while something is unread would reset the connection, and the peer would lose the code.
                let _ = self.websocket.get_ref().shutdown();
                self.websocket.get_mut().discard().await;
            }
        })
        .await;
    }

    /// Bytes read so far: when they grow, the peer is alive, whether a message is complete or not.
    #[must_use]
    pub fn received_bytes(&self) -> u64 {
        self.websocket.get_ref().received_bytes()
    }

    fn ended(&mut self, error: Error) -> Ended {
        match self.closed_by_peer.take() {
            Some(code) => Ended::Closed(code),
            None => error.into(),
        }
    }
}
