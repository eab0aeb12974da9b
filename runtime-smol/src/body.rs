//! Request bodies, collected whole, and response bodies, whole or as they come.

use crate::io::Patience;
use crate::timer::{Sleep, Timers};
use futures_lite::future::or;
use hyper::body::{Body, Buf, Frame, Incoming, SizeHint};
use mcp_local_provider_core::config::HubConfig;
use mcp_local_provider_core::wire::http1::{DISCARD, FIRST_ROOM, RequestError, Rest};
use mcp_local_provider_engine::{Clock, Progress, Running};
use std::convert::Infallible;
use std::error::Error;
use std::fmt;
use std::future::{Future, poll_fn};
use std::io::{self, Cursor};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

/// Reason why a body could not be collected.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Unread {
    /// Its announced length is over `limits.body_bytes`, and none of it was read.
    Announced,
    /// It is over `limits.body_bytes`.
    TooLarge,
    /// There is no memory left for it.
    Overloaded,
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
    patience: Patience,
    mut hold: impl FnMut(usize) -> bool,
) -> Result<Vec<u8>, Unread> {
    let limit = config.limits.body_bytes;
    let announced = usize::try_from(body.size_hint().lower()).unwrap_or(usize::MAX);
    if announced > limit {
        return Err(Unread::Announced);
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
            if !hold(bytes.capacity()) {
                return Err(Unread::Overloaded);
            }
        }
        Ok(bytes)
    };
    let deadline = async {
        patience.await;
        Err(Unread::TooSlow)
    };
    or(read, deadline).await
}

/// Finds the reason why hyper cannot read a body to its end.
fn broken(error: &hyper::Error) -> Unread {
    let cause = error.source().and_then(|cause| cause.downcast_ref());
    let cause = cause.and_then(|cause: &io::Error| cause.get_ref()?.downcast_ref());
    match cause {
        Some(RequestError { status: 413, .. }) => Unread::TooLarge,
        Some(error) => Unread::Misframed(*error),
        None => Unread::Broken,
    }
}

/// Returns the unread rest of a body that nobody has read from.
pub(crate) fn rest(body: &Incoming) -> Rest {
    match body.size_hint().exact() {
        _ if body.is_end_stream() => Rest::Nothing,
        Some(bytes) => Rest::Announced(bytes),
        None => Rest::Chunks,
    }
}

/// Reads on for a while, and forgets it.
pub(crate) async fn discard(mut body: Incoming, timers: Timers) {
    let read =
        async { while let Some(Ok(_)) = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {} };
    or(read, timers.after(DISCARD)).await;
}

/// Ready when there is something to write, or the answer has ended.
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

/// A response body.
pub(crate) enum ResponseBody {
    /// All of it.
    Whole(Option<Written>),
    /// As it comes.
    Stream(Box<Running>, Sleep, Clock),
}

/// Bytes of a response body, and how many of them the socket has. Not `bytes::Bytes`, which costs an allocation for each.
pub(crate) type Written = Cursor<Vec<u8>>;

impl fmt::Debug for ResponseBody {
    /// Without what it says.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Whole(bytes) => {
                let bytes = bytes.as_ref().map_or(0, Buf::remaining);
                write!(f, "Whole({bytes} bytes)")
            }
            Self::Stream(running, ..) => write!(f, "Stream({running:?})"),
        }
    }
}

impl From<Vec<u8>> for ResponseBody {
    fn from(bytes: Vec<u8>) -> Self {
        Self::Whole((!bytes.is_empty()).then(|| Cursor::new(bytes)))
    }
}

impl Body for ResponseBody {
    type Data = Written;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Written>, Infallible>>> {
        let bytes = match &mut *self {
            Self::Whole(bytes) => bytes.take(),
            Self::Stream(running, sleep, clock) => {
                if !running.has_body() {
                    ready!(poll_running(running, sleep, *clock, cx));
                }
                let bytes = std::mem::take(running.body());
                (!bytes.is_empty()).then(|| Cursor::new(bytes))
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
            Self::Whole(bytes) => {
                let bytes = bytes.as_ref().map_or(0, Buf::remaining);
                SizeHint::with_exact(u64::try_from(bytes).unwrap_or(u64::MAX))
            }
            Self::Stream(..) => SizeHint::default(),
        }
    }
}
