//! A client's connection as hyper gets it: only requests that are framed beyond doubt come through.
//!
//! hyper mends some of what is unclear, and forgets that it did: of a request with both a length and a coding it shows the
//! coding alone. So the bytes are screened before it sees them. In the place of a head that is refused hyper gets a
//! harmless one, and [`Faults`] tells who answers requests that this one is to be refused.

use crate::io::Io;
use crate::timer::Sleep;
use hyper::rt::{Read, ReadBufCursor, Write};
use mcp_local_provider_core::wire::http1::{HeadLimits, LINGER, Refused, RequestError, Screen};
use std::fmt;
use std::future::Future;
use std::io::{self, ErrorKind, IoSlice};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker, ready};

/// Stands for a head that was refused.
const STAND_IN: &[u8] = b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n";

/// Number of the connection's request that is refused for its framing, and the fault.
#[derive(Clone, Debug, Default)]
pub(crate) struct Faults(Arc<Mutex<Option<(u64, RequestError)>>>);

impl Faults {
    fn lock(&self) -> MutexGuard<'_, Option<(u64, RequestError)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the fault for which the request of that number, counted from 1, is refused.
    pub fn of(&self, request: u64) -> Option<RequestError> {
        let fault = *self.lock();
        fault.and_then(|(number, error)| (number == request).then_some(error))
    }
}

/// See the module's documentation.
pub(crate) struct Screened {
    io: Io,
    screen: Screen,
    /// Read, but not yet allowed to pass.
    held: Vec<u8>,
    /// Allowed to pass, and the first that hyper had no room for.
    passed: (Vec<u8>, usize),
    faults: Faults,
    /// The stand-in was put into the place of a refused head.
    stood_in: bool,
    /// Woken when the answer to a wish for another protocol is written.
    reader: Option<Waker>,
    /// Runs while the rest of a refused connection is thrown away.
    linger: Option<Sleep>,
}

impl fmt::Debug for Screened {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Screened({:?})", self.io)
    }
}

impl Screened {
    /// See [`Screen::new`].
    pub fn new(io: Io, limits: HeadLimits, chunks: u64) -> Self {
        Self {
            io,
            screen: Screen::new(limits, chunks),
            held: Vec::new(),
            passed: (Vec::new(), 0),
            faults: Faults::default(),
            stood_in: false,
            reader: None,
            linger: None,
        }
    }

    pub fn faults(&self) -> Faults {
        self.faults.clone()
    }

    /// The connection, and what was read of it but never reached hyper.
    pub fn into_parts(self) -> (Io, Vec<u8>) {
        let (mut rest, from) = self.passed;
        rest.drain(..from.min(rest.len()));
        rest.extend(self.held);
        (self.io, rest)
    }

    /// Gives hyper what has passed; false when there is nothing.
    fn give(&mut self, into: &mut ReadBufCursor<'_>) -> bool {
        let (bytes, from) = &mut self.passed;
        let rest = bytes.get(*from..).unwrap_or_default();
        if rest.is_empty() {
            return false;
        }
        let (piece, more) = rest
            .split_at_checked(into.remaining())
            .unwrap_or((rest, &[]));
        into.put_slice(piece);
        if more.is_empty() {
            self.passed = (Vec::new(), 0);
        } else {
            *from += piece.len();
        }
        true
    }

    /// Screens what is held.
    fn sift(&mut self) -> io::Result<()> {
        let count = self.screen.pass(&self.held);
        if count > 0 {
            let rest = self.held.split_off(count.min(self.held.len()));
            self.passed
                .0
                .append(&mut std::mem::replace(&mut self.held, rest));
        }
        match self.screen.refused() {
            Some(Refused::Head(error)) if !self.stood_in => {
                self.stood_in = true;
                *self.faults.lock() = Some((self.screen.requests(), error));
                self.passed.0.extend_from_slice(STAND_IN);
                Ok(())
            }
            Some(Refused::Body(error)) if self.passed.0.is_empty() => {
                Err(io::Error::new(ErrorKind::InvalidData, error))
            }
            _ => Ok(()),
        }
    }

    /// The answer to a wish for another protocol is being written.
    fn answering(&mut self, start: &[u8]) {
        if !self.screen.awaits_answer() {
            return;
        }
        let status = start
            .strip_prefix(b"HTTP/1.1 ")
            .and_then(|rest| std::str::from_utf8(rest.get(..3)?).ok()?.parse().ok());
        self.screen.answered(status.unwrap_or(500));
        if let Some(reader) = self.reader.take() {
            reader.wake();
        }
    }
}

impl Read for Screened {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        mut into: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            if self.give(&mut into) {
                return Poll::Ready(Ok(()));
            }
            if self.screen.awaits_answer() {
                self.reader = Some(cx.waker().clone());
                return Poll::Pending;
            }
            self.sift()?;
            if self.give(&mut into) {
                return Poll::Ready(Ok(()));
            }
            let most = into.remaining();
            let this = &mut *self;
            let next = ready!(this.io.poll_read_with(cx, most, |bytes| {
                if bytes.is_empty() {
                    return Next::Done;
                }
                if this.stood_in {
                    // What follows a refused head is nobody's.
                    return Next::Later;
                }
                // What is held is the start of a head, and these bytes are more of it.
                let count = if this.held.is_empty() {
                    this.screen.pass(bytes)
                } else {
                    0
                };
                let (clear, unclear) = bytes.split_at_checked(count).unwrap_or((bytes, &[]));
                into.put_slice(clear);
                this.held.extend_from_slice(unclear);
                if count > 0 { Next::Done } else { Next::Again }
            }))?;
            match next {
                Next::Done => return Poll::Ready(Ok(())),
                Next::Again => {}
                Next::Later => {
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
            }
        }
    }
}

/// Next step after a read.
enum Next {
    /// hyper has something, or the end.
    Done,
    /// Nothing has passed yet.
    Again,
    /// Nothing will; others go first.
    Later,
}

impl Write for Screened {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.answering(buf);
        Pin::new(&mut self.io).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    /// Says that nothing follows. A client that is still sending when its socket is closed would not read why it was
    /// refused, so the rest is thrown away for a moment.
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.screen.refused().is_none() {
            return Poll::Ready(this.io.shutdown());
        }
        let linger = match &mut this.linger {
            Some(linger) => linger,
            None => {
                this.io.shutdown()?;
                this.linger.insert(this.io.after(LINGER))
            }
        };
        if Pin::new(linger).poll(cx).is_ready() {
            return Poll::Ready(Ok(()));
        }
        match this.io.poll_read_with(cx, usize::MAX, <[u8]>::is_empty) {
            Poll::Ready(Ok(false)) => {
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            Poll::Ready(_) => Poll::Ready(Ok(())),
            Poll::Pending => Poll::Pending,
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if let Some(first) = bufs.iter().find(|buf| !buf.is_empty()) {
            self.answering(first);
        }
        Pin::new(&mut self.io).poll_write_vectored(cx, bufs)
    }
}
