//! One client connection: HTTP/1.1 by hyper, within the owner's limits of time and memory.
//!
//! A client that closes its sending side is taken for gone, whatever it may still read: that is how a client that went
//! away in the middle of a silent answer is noticed at once. A client must not half-close before it has its answer.

use crate::io::{Io, Patience, Traffic};
use crate::request::{Answering, Response};
use crate::screened::{Faults, Screened};
use crate::tasks::Tasks;
use crate::timer::Timers;
use futures_lite::future::or;
use hyper::body::Incoming;
use hyper::rt;
use hyper::server::conn::http1::Builder;
use hyper::service::Service;
use mcp_local_provider_core::api::{Listener, over_connection_limit};
use mcp_local_provider_core::wire::http1::{HEAD, HeadLimits, IDLE, LINGER};
use mcp_local_provider_engine::Client;
use smol::Async;
use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::io::Write;
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

/// Serves a connection to its end.
pub(crate) async fn serve(
    tasks: Tasks,
    mut client: Client,
    socket: Async<TcpStream>,
    peer: SocketAddr,
    on: Listener,
) {
    let engine = tasks.engine.clone();
    let timers = tasks.timers.clone();
    let config = engine.config();
    let timeouts = &config.timeouts;
    let io = Io::new(socket, timers.clone(), timeouts.write);
    let traffic = io.traffic();
    let heads = Arc::new(AtomicU64::new(0));
    let head = HeadLimits {
        head: HEAD,
        ..HeadLimits::default()
    };
    let body = u64::try_from(config.limits.body_bytes).unwrap_or(u64::MAX);
    let io = Screened::new(io, head, body);
    let service = Requests {
        tasks,
        address: peer.ip(),
        on,
        faults: io.faults(),
        traffic: traffic.clone(),
        count: AtomicU64::new(0),
    };
    let mut drain = engine.listen_for_drain();
    let mut drains = engine.is_draining();
    let mut connection = Builder::new()
        // One that comes after all is told why it is refused.
        .keep_alive(!drains)
        .timer(HeadTimer {
            timers,
            traffic: traffic.clone(),
            heads: heads.clone(),
        })
        .header_read_timeout(timeouts.head)
        .max_buf_size(HEAD)
        .serve_connection(io, service)
        .with_upgrades();
    let mut before = 0;
    let ended = poll_fn(|cx| {
        if !client.stays() {
            return Poll::Ready(Ok(()));
        }
        if !drains && Pin::new(&mut drain).poll(cx).is_ready() {
            drains = true;
            Pin::new(&mut connection).graceful_shutdown();
        }
        let polled = Pin::new(&mut connection).poll(cx);
        let heads = heads.load(Ordering::Relaxed);
        if heads != before {
            before = heads;
            client.begins();
        }
        if polled.is_pending() && waits(heads) && !traffic.is_full() {
            client.waits(cx.waker());
        }
        polled
    })
    .await;
    if let Err(error) = ended {
        tracing::debug!(%peer, %error, "a connection ended early");
    }
    drop(client);
}

/// Tells a client that there are too many connections, and closes.
pub(crate) async fn refuse(timers: Timers, socket: Async<TcpStream>) {
    let mut io = Io::new(socket, timers.clone(), LINGER);
    // It fits into the socket's empty buffer; a client that is gone needs none.
    if io.write(&over_connection_limit()).is_ok() && io.shutdown().is_ok() {
        or(io.discard(), timers.after(LINGER)).await;
    }
}

/// hyper's way to hand requests over.
struct Requests {
    tasks: Tasks,
    address: IpAddr,
    on: Listener,
    faults: Faults,
    traffic: Arc<Traffic>,
    /// Requests so far.
    count: AtomicU64,
}

impl Service<hyper::Request<Incoming>> for Requests {
    type Response = Response;
    type Error = Infallible;
    type Future = Answering;

    fn call(&self, request: hyper::Request<Incoming>) -> Self::Future {
        let number = self.count.fetch_add(1, Ordering::Relaxed) + 1;
        let tasks = self.tasks.clone();
        match self.faults.of(number) {
            None => Answering::new(tasks, self.address, self.on, self.traffic.clone(), request),
            Some(error) => Answering::misframed(tasks, self.address, error),
        }
    }
}

/// hyper's timer for the head of a request, which starts when the connection begins to wait for one: the time for the
/// head counts from there for the first request, and from the first byte for all others.
struct HeadTimer {
    timers: Timers,
    traffic: Arc<Traffic>,
    /// Beginnings and ends of waits for a head.
    heads: Arc<AtomicU64>,
}

/// True when that many beginnings and ends of waits for a head mean that one goes on.
const fn waits(heads: u64) -> bool {
    heads % 2 == 1
}

struct HeadSleep {
    sleep: Patience,
    heads: Arc<AtomicU64>,
    /// Bytes that had come before the head, and the time that the head may take; `None` once that time counts.
    waits: Option<(u64, Duration)>,
}

impl rt::Timer for HeadTimer {
    fn sleep(&self, duration: Duration) -> Pin<Box<dyn rt::Sleep>> {
        self.sleep_until(Instant::now() + duration)
    }

    fn sleep_until(&self, deadline: Instant) -> Pin<Box<dyn rt::Sleep>> {
        let received = self.traffic.received_bytes();
        let head = deadline.saturating_duration_since(Instant::now());
        let is_first = received == 0;
        self.heads.fetch_add(1, Ordering::Relaxed);
        Box::pin(HeadSleep {
            sleep: Patience::new(
                self.traffic.clone(),
                self.timers.after(if is_first { head } else { IDLE }),
            ),
            heads: self.heads.clone(),
            waits: (!is_first).then_some((received, head)),
        })
    }
}

impl Future for HeadSleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if let Some((before, head)) = self.waits
            && self.sleep.received_bytes() != before
        {
            self.waits = None;
            self.sleep.reset_after(head);
        }
        Pin::new(&mut self.sleep).poll(cx)
    }
}

impl Drop for HeadSleep {
    fn drop(&mut self) {
        self.heads.fetch_add(1, Ordering::Relaxed);
    }
}

impl rt::Sleep for HeadSleep {}
