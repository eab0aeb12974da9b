//! Request bodies, collected whole, and response bodies, whole or as they come.

use crate::timer::{Sleep, Timers};
use futures_lite::future::or;
use hyper::body::{Body, Buf, Frame, Incoming, SizeHint};
use mcp_local_provider_core::config::HubConfig;
use mcp_local_provider_core::wire::http1::RequestError;
use mcp_local_provider_host::provider::limits::{DISCARD, FIRST_ROOM};
use mcp_local_provider_host::provider::{Clock, Progress, Running};
use std::convert::Infallible;
use std::error::Error;
use std::fmt;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

/// Why a body could not be collected.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Unread {
    /// It is over `limits.body_bytes`.
    TooLarge,
    /// It took longer than `timeouts.body` in total.
    TooSlow,
    /// Its framing is wrong.
    Misframed(RequestError),
    /// The connection broke.
    Broken,
}

/// Reads a request body into one buffer of its own.
///
/// hyper's `collect` keeps every received segment alive with the whole read buffer that it arrived in; here a body of
/// one-byte segments takes as many bytes as it has.
pub(crate) async fn collect(
    body: &mut Incoming,
    config: &HubConfig,
    timers: &Timers,
) -> Result<Vec<u8>, Unread> {
    let limit = config.limits.body_bytes;
    let announced = usize::try_from(body.size_hint().lower()).unwrap_or(usize::MAX);
    if announced > limit {
        return Err(Unread::TooLarge);
    }
    let read = async {
        let mut bytes = Vec::with_capacity(announced.min(FIRST_ROOM));
        while let Some(frame) = poll_fn(|cx| Pin::new(&mut *body).poll_frame(cx)).await {
            let Ok(mut data) = frame.map_err(|error| broken(&error))?.into_data() else {
                continue;
            };
            if bytes.len() + data.remaining() > limit {
                return Err(Unread::TooLarge);
            }
            while data.has_remaining() {
                let chunk = data.chunk();
                bytes.extend_from_slice(chunk);
                data.advance(chunk.len());
            }
        }
        Ok(bytes)
    };
    let deadline = async {
        timers.after(config.timeouts.body).await;
        Err(Unread::TooSlow)
    };
    or(read, deadline).await
}

/// Why hyper cannot read a body to its end.
fn broken(error: &hyper::Error) -> Unread {
    let cause = error.source().and_then(|cause| cause.downcast_ref());
    let cause = cause.and_then(|cause: &io::Error| cause.get_ref()?.downcast_ref());
    match cause {
        Some(RequestError { status: 413, .. }) => Unread::TooLarge,
        Some(error) => Unread::Misframed(*error),
        None => Unread::Broken,
    }
}

/// Reads on for a second at most, and forgets it.
pub(crate) async fn discard(body: &mut Incoming, timers: &Timers) {
    let read = async {
        while let Some(Ok(_)) = poll_fn(|cx| Pin::new(&mut *body).poll_frame(cx)).await {}
    };
    or(read, timers.after(DISCARD)).await;
}

/// Ready when there is something to write, or the exchange has ended.
pub(crate) fn poll_running(
    running: &mut Running,
    sleep: &mut Sleep,
    clock: Clock,
    cx: &mut Context<'_>,
) -> Poll<()> {
    loop {
        match running.poll(cx.waker()) {
            Progress::Ready => return Poll::Ready(()),
            Progress::Until(Some(at)) => sleep.reset(clock.system(at)),
            Progress::Until(None) => return Poll::Pending,
        }
        ready!(Pin::new(&mut *sleep).poll(cx));
    }
}

/// Bytes of a response body, written to the socket as they are.
#[derive(Default)]
pub(crate) struct Bytes {
    bytes: Vec<u8>,
    written: usize,
}

impl fmt::Debug for Bytes {
    /// Without what they say.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Bytes({})", self.bytes.len())
    }
}

impl Bytes {
    fn len(&self) -> u64 {
        u64::try_from(self.remaining()).unwrap_or(u64::MAX)
    }
}

impl From<Vec<u8>> for Bytes {
    fn from(bytes: Vec<u8>) -> Self {
        Self { bytes, written: 0 }
    }
}

impl Buf for Bytes {
    fn remaining(&self) -> usize {
        self.bytes.len().saturating_sub(self.written)
    }

    fn chunk(&self) -> &[u8] {
        self.bytes.get(self.written..).unwrap_or_default()
    }

    fn advance(&mut self, count: usize) {
        self.written = self.written.saturating_add(count).min(self.bytes.len());
    }
}

/// A response body.
#[derive(Debug)]
pub(crate) enum ResponseBody {
    /// All of it.
    Whole(Option<Bytes>),
    /// As it comes.
    Stream(Box<Running>, Sleep, Clock),
}

impl From<Vec<u8>> for ResponseBody {
    fn from(bytes: Vec<u8>) -> Self {
        Self::Whole((!bytes.is_empty()).then(|| bytes.into()))
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let bytes = match &mut *self {
            Self::Whole(bytes) => bytes.take(),
            Self::Stream(running, sleep, clock) => {
                if !running.has_body() {
                    ready!(poll_running(running, sleep, *clock, cx));
                }
                let bytes = std::mem::take(running.body());
                (!bytes.is_empty()).then(|| bytes.into())
            }
        };
        Poll::Ready(bytes.map(|bytes| Ok(Frame::data(bytes))))
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Whole(bytes) => bytes.is_none(),
            Self::Stream(running, ..) => running.has_ended() && !running.has_body(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, Bytes::len)),
            Self::Stream(..) => SizeHint::default(),
        }
    }
}
