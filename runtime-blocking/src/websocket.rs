//! One WebSocket (RFC 6455) in two halves, because tungstenite's own may not be read while it is written: one that only
//! reads, and one that only writes. What the reading half would answer, a pong say, is told to the writing half.

use crate::peer::Peer;
use mcp_local_provider_engine::websocket::{Ended, config};
use std::io::{self, ErrorKind, Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;
use tungstenite::protocol::{CloseFrame, Role};
use tungstenite::{Error, Message, WebSocket};

/// The socket as the reading half has it.
#[derive(Debug)]
pub(crate) struct Incoming {
    peer: Arc<Peer>,
    /// A read did not fill its buffer, so that there is nothing more at once.
    drained: bool,
    received: Arc<AtomicU64>,
}

impl Read for Incoming {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if self.drained {
            return Err(ErrorKind::WouldBlock.into());
        }
        let read = self.peer.read_now(into)?;
        self.drained = read > 0 && read < into.len();
        let count = u64::try_from(read).unwrap_or(0);
        self.received.fetch_add(count, Ordering::Relaxed);
        Ok(read)
    }
}

impl Write for Incoming {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The half that reads.
#[derive(Debug)]
pub(crate) struct Reader {
    websocket: WebSocket<Incoming>,
}

impl Reader {
    /// Of a connection whose handshake was answered; `rest` was read behind it.
    pub fn accepted(peer: Arc<Peer>, rest: Vec<u8>, frame_bytes: usize) -> Self {
        let incoming = Incoming {
            peer,
            drained: false,
            received: Arc::default(),
        };
        let config = Some(config(frame_bytes));
        Self {
            websocket: WebSocket::from_partially_read(incoming, rest, Role::Server, config),
        }
    }

    /// Counts the bytes received so far: when they grow, the peer is alive, whether a message is complete or not.
    pub fn received(&self) -> Arc<AtomicU64> {
        self.websocket.get_ref().received.clone()
    }

    /// Waits until there is something to read.
    ///
    /// # Errors
    /// [`ErrorKind::TimedOut`] when it is `until`.
    pub fn wait(&mut self, until: Option<Instant>) -> io::Result<()> {
        let incoming = self.websocket.get_mut();
        incoming.drained = false;
        incoming.peer.wait_readable(until)
    }

    /// The next message that is there; `None` when there is none yet. The last one is a close message, if the peer sent one.
    ///
    /// # Errors
    /// When there will be none.
    pub fn receive(&mut self) -> Result<Option<Message>, Ended> {
        match self.websocket.read() {
            Ok(message) => Ok(Some(message)),
            Err(Error::Io(error)) if error.kind() == ErrorKind::WouldBlock => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}

/// The socket as the writing half has it.
#[derive(Debug)]
struct Outgoing {
    peer: Arc<Peer>,
    /// Time since which the socket takes nothing.
    stalled: Option<Instant>,
}

impl Read for Outgoing {
    fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
        Err(ErrorKind::Unsupported.into())
    }
}

impl Write for Outgoing {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.peer.write_now(bytes);
        match &written {
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                self.stalled.get_or_insert_with(Instant::now);
            }
            Ok(_) | Err(_) => self.stalled = None,
        }
        written
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The half that writes. It never waits.
#[derive(Debug)]
pub(crate) struct Writer {
    websocket: WebSocket<Outgoing>,
}

impl Writer {
    pub fn new(peer: Arc<Peer>) -> Self {
        let outgoing = Outgoing {
            peer,
            stalled: None,
        };
        // Nothing is read with it.
        let config = config(1).read_buffer_size(1);
        Self {
            websocket: WebSocket::from_raw_socket(outgoing, Role::Server, Some(config)),
        }
    }

    /// Takes a message to send. False when the socket is full: flush before giving it more.
    ///
    /// # Errors
    /// When the connection is lost.
    pub fn queue(&mut self, message: Message) -> Result<bool, Ended> {
        Self::done(self.websocket.write(message))
    }

    /// Writes out what was taken, in as few packets as possible. False when the socket is full.
    ///
    /// # Errors
    /// When the connection is lost.
    pub fn flush(&mut self) -> Result<bool, Ended> {
        Self::done(self.websocket.flush())
    }

    /// Takes the close frame behind all that was taken before.
    ///
    /// # Errors
    /// When the connection is lost.
    pub fn close(&mut self, frame: Option<CloseFrame>) -> Result<bool, Ended> {
        Self::done(self.websocket.close(frame))
    }

    /// Time since which the socket takes nothing of what there is to write.
    pub fn stalled(&self) -> Option<Instant> {
        self.websocket.get_ref().stalled
    }

    fn done(done: tungstenite::Result<()>) -> Result<bool, Ended> {
        match done {
            Ok(()) => Ok(true),
            // The message is in the buffer all the same.
            Err(Error::Io(error)) if error.kind() == ErrorKind::WouldBlock => Ok(false),
            Err(error) => Err(error.into()),
        }
    }
}
