//! HTTP/1.1 client on any pipe: one request, and its answer as it comes.

use crate::engine::Engine;
use crate::pipe::MemoryUsedUp;
use crate::pool::Pool;
use crate::proxy::{Open, Origin, PipeTimes, Route};
use bytes::Bytes;
use mcp_local_provider_core::budget::{Budget, Share};
use mcp_local_provider_core::time::Instant;
use mcp_local_provider_core::wire::http1::{
    Asked, Connection, HeadWriter, InvalidHeader, ResponseError,
};
use std::borrow::Cow;
use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

mod call;

pub use call::{Call, Part, STATES};

/// Room for the head of a request, so that it is not moved while it grows, in bytes.
const HEAD_ROOM: usize = 512;

/// Longest body that is sent together with its head, in bytes.
const SMALL: usize = 16 << 10;

/// Longest waits of a call. A wait begins when there is nothing to do, so a user who takes an answer slowly is not late.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CallTimes {
    /// Until a fresh pipe takes the first byte of the request: look-up of the name, TCP, proxy and TLS.
    pub connect: Duration,
    /// From the end of the request to the whole head of the answer.
    pub answer: Duration,
    /// Without progress of the request or of the answer's body.
    pub progress: Duration,
}

impl CallTimes {
    /// Those of the connection itself.
    const fn pipe(&self) -> PipeTimes {
        PipeTimes {
            connect: self.connect,
            write: self.progress,
        }
    }
}

/// Wait that took too long.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Wait {
    /// See [`CallTimes::connect`].
    Connect,
    /// The request made no progress.
    Send,
    /// See [`CallTimes::answer`].
    Answer,
    /// The answer's body made no progress.
    Body,
}

impl fmt::Display for Wait {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Connect => "it cannot be connected to in time",
            Self::Send => "it takes no more of the request",
            Self::Answer => "it does not answer",
            Self::Body => "its answer does not go on",
        })
    }
}

/// Reason for which a call failed. Its text has no header and no body in it.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// The request cannot be sent. Nothing was.
    #[error(transparent)]
    Request(#[from] InvalidHeader),
    /// No byte of the request was taken: the name is unknown, nobody listens, the proxy or TLS refused.
    #[error("it cannot be reached: {0}")]
    Unreachable(io::Error),
    /// The connection broke.
    #[error("the connection broke: {0}")]
    Broken(io::Error),
    /// The answer was cut off or cannot be read.
    #[error(transparent)]
    Answer(#[from] ResponseError),
    /// A wait took too long.
    #[error("{0}")]
    Timeout(Wait),
    /// There is no memory for the request, or for the head of the answer.
    #[error(transparent)]
    Memory(#[from] MemoryUsedUp),
    /// The call has failed before.
    #[error("the call has failed before")]
    Failed,
}

/// Request to a server. A copy shares the body.
#[derive(Clone)]
pub struct HttpRequest {
    /// Method, such as `POST`.
    pub method: &'static str,
    /// Path and query, percent-encoded. It begins with `/`.
    pub path: String,
    /// Headers without `Host` and those that frame the message.
    pub headers: Vec<(Cow<'static, str>, String)>,
    /// Body; its length is sent with it. A `POST` without one has an empty one.
    pub body: Option<Bytes>,
}

impl fmt::Debug for HttpRequest {
    /// Without path, headers and body, which may hold secrets and prompts.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let body = self.body.as_ref().map(Bytes::len);
        write!(f, "{} with a body of {body:?} bytes", self.method)
    }
}

/// Bytes of a request on its way, and what of it decides about the answer.
struct Outgoing {
    /// The head, and a small body.
    start: Vec<u8>,
    /// The rest of the body.
    rest: Bytes,
    asked: Asked,
    /// True for a method that may be sent twice (RFC 9110, 9.2.2).
    repeatable: bool,
    /// Memory of `start` and `rest`.
    share: Share,
}

impl Outgoing {
    fn new(
        request: &HttpRequest,
        target: &str,
        origin: &Origin,
        authorization: Option<&str>,
        connection: Connection,
        budget: &Budget,
    ) -> Result<Self, CallError> {
        // Behind the name of a server, in a URL for a proxy, another path would be a part of that name.
        if !request.path.starts_with('/') {
            let name = "request line".to_owned();
            return Err(InvalidHeader { name }.into());
        }
        let length = request.body.as_ref().map(|body| body.len() as u64);
        let body = request.body.clone().unwrap_or_default();
        let (small, rest) = if body.len() <= SMALL {
            (body, Bytes::new())
        } else {
            (Bytes::new(), body)
        };
        let mut start = Vec::with_capacity(HEAD_ROOM + small.len());
        let host = origin.host_header();
        let method = request.method;
        let mut head = HeadWriter::request(&mut start, method, target, &host, length, connection);
        for (name, value) in &request.headers {
            head.header(name, value.as_bytes());
        }
        if let Some(authorization) = authorization {
            head.header("proxy-authorization", authorization.as_bytes());
        }
        head.finish()?;
        start.extend_from_slice(&small);
        let bytes = start.capacity().saturating_add(rest.len());
        let mut share = budget.share();
        if share.reserve(0, bytes) < bytes {
            return Err(MemoryUsedUp.into());
        }
        Ok(Self {
            share,
            start,
            rest,
            asked: Asked::of(method),
            repeatable: matches!(
                method,
                "GET" | "HEAD" | "PUT" | "DELETE" | "OPTIONS" | "TRACE"
            ),
        })
    }

    /// Lets the bytes go, which were sent and are not sent again.
    fn release(&mut self) {
        (self.start, self.rest) = (Vec::new(), Bytes::new());
        self.share.hold(0);
    }

    /// The bytes from a place on, those that lie together.
    fn from(&self, place: usize) -> &[u8] {
        match self.start.get(place..) {
            Some(start) if !start.is_empty() => start,
            Some(_) | None => {
                let place = place.saturating_sub(self.start.len());
                self.rest.get(place..).unwrap_or_default()
            }
        }
    }
}

/// Makes calls whose pipes come from a pool and go back to it. A cheap handle.
#[derive(Clone)]
pub struct HttpClient {
    open: Arc<dyn Open>,
    pool: Arc<Pool>,
}

impl fmt::Debug for HttpClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "HttpClient({:?})", self.pool)
    }
}

impl HttpClient {
    /// A client whose fresh pipes `open` opens.
    #[must_use]
    pub fn new(open: Arc<dyn Open>, pool: Arc<Pool>) -> Self {
        Self { open, pool }
    }

    /// Begins a call at `now`: on an idle pipe of the route where there is one, else on a fresh one.
    ///
    /// # Errors
    /// [`CallError::Request`] when the request cannot be sent, [`CallError::Unreachable`] when there is no TLS to be had,
    /// [`CallError::Memory`] when there is no memory for it even without the idle pipes.
    pub fn call(
        &self,
        now: Instant,
        route: Route,
        request: HttpRequest,
        times: CallTimes,
    ) -> Result<Call, CallError> {
        let body = request.body.as_ref().map_or(0, Bytes::len);
        if self.open.budget().left() < body.saturating_add(SMALL) {
            self.pool.clear();
        }
        let asks_proxy = route.asks_proxy();
        let target = if asks_proxy {
            let host = route.origin.host_header();
            Cow::Owned(format!("http://{host}{}", request.path))
        } else {
            Cow::Borrowed(&*request.path)
        };
        // By a tunnel the proxy was asked already.
        let proxy = route.proxy.as_ref().filter(|_| asks_proxy);
        let authorization = proxy.and_then(|proxy| proxy.authorization());
        let outgoing = Outgoing::new(
            &request,
            &target,
            &route.origin,
            authorization,
            Connection::Implied,
            self.open.budget(),
        )?;
        Call::pooled(now, self.clone(), route, outgoing, times)
    }
}

impl Engine {
    /// A client with the engine's pool and TLS. The route of a call is that of [`Engine::proxies`].
    #[must_use]
    pub fn http_client(self: &Arc<Self>) -> HttpClient {
        HttpClient::new(self.clone(), self.pool().clone())
    }
}
