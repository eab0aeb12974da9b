//! A provider on tokio and hyper: the engine, without a driver of this project.
//! Agents connect to `ws://ADDRESS/agent`, clients to `http://ADDRESS/v1`, without keys.
#![allow(clippy::print_stdout)]
use futures_util::{SinkExt, StreamExt, stream};
use http_body_util::{BodyExt, Full, LengthLimitError as TooLong, Limited, StreamBody};
use hyper::body::{Bytes, Frame, Incoming};
use hyper::upgrade::{self, Upgraded};
use hyper::{Request, Response, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use mcp_local_provider_core::{Instant, Listener, config::HubConfig};
use mcp_local_provider_engine::{Audit, Clock, Engine, Housekeeper, random_seed};
use mcp_local_provider_engine::{Begun, Progress, Running, Step, request};
use mcp_local_provider_engine::{Converse, Turn, websocket};
use std::sync::{Arc, LazyLock};
use std::task::{Context, Poll, ready};
use std::{convert::Infallible, future, io, mem, net::IpAddr, pin::Pin};
use tokio::time::{Duration, Sleep, sleep, timeout};
use tokio::{net::TcpListener, spawn};
use tokio_tungstenite::{WebSocketStream, tungstenite::protocol::Role::Server};

static CLOCK: LazyLock<Clock> = LazyLock::new(Clock::start);

#[tokio::main]
async fn main() -> io::Result<()> {
    let config = HubConfig::default(); // without keys
    let engine = Engine::new(config, random_seed()?, Arc::new(*CLOCK), Audit::off());
    let (mut housekeeper, mut due) = (Housekeeper::new(engine.clone()), Due::new());
    spawn(future::poll_fn(move |cx| -> Poll<()> {
        while due.poll(housekeeper.poll(cx.waker()), cx).is_ready() {}
        Poll::Pending
    }));
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("ready http://{}", listener.local_addr()?);
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new());
    loop {
        let (socket, peer) = listener.accept().await?;
        if let Some(client) = engine.connect() {
            // else it is beyond limits.connections
            let service = service_fn(move |head| answer(client.engine().clone(), peer.ip(), head));
            let connection = http.serve_connection(TokioIo::new(socket), service);
            spawn(connection.with_upgrades());
        }
    }
}

/// The next deadline of a task.
struct Due(Pin<Box<Sleep>>);

impl Due {
    fn new() -> Self {
        Self(Box::pin(sleep(Duration::ZERO)))
    }
    fn poll(&mut self, at: Option<Instant>, cx: &mut Context<'_>) -> Poll<()> {
        let Some(at) = at else { return Poll::Pending };
        self.0.as_mut().reset(CLOCK.system(at).into());
        Future::poll(self.0.as_mut(), cx)
    }
}

type Body = http_body_util::combinators::UnsyncBoxBody<Bytes, Infallible>;

type Answered = Result<Response<Body>, Infallible>;

async fn answer(engine: Arc<Engine>, from: IpAddr, mut request: Request<Incoming>) -> Answered {
    let head = request::Request::of(&request, from);
    let mut step = match request::begin(&engine, Listener::All, &head) {
        Begun::Step(step) => step,
        Begun::Upgrade(upgrade) => match upgrade.accept(&request) {
            Ok((response, link)) => {
                spawn(async { agent(link, upgrade::on(request).await.ok()?).await });
                return Ok(response.map(|()| Body::default()));
            }
            Err(refused) => Step::Answer(*refused),
        },
    };
    let config = engine.config();
    loop {
        step = match step {
            Step::Body(expecting) => {
                let body = Limited::new(request.body_mut(), config.limits.body_bytes).collect();
                match timeout(config.timeouts.body, body).await {
                    Ok(Ok(body)) => expecting.complete(body.to_bytes().into()),
                    Ok(Err(error)) if error.is::<TooLong>() => expecting.too_large().into(),
                    Ok(Err(_)) => expecting.broken().into(),
                    Err(_) => expecting.too_slow().into(),
                }
            }
            Step::Report(report) => report.answer(engine.usage()).into(),
            Step::Answer(it) => return Ok(it.head.response(Full::from(it.body).boxed_unsync())),
            Step::Running(it) => return Ok(run(engine, it).await.unwrap_or_default()),
        };
    }
}

async fn run(engine: Arc<Engine>, mut running: Box<Running>) -> Option<Response<Body>> {
    let mut due = Due::new();
    let mut next = move |cx: &mut Context<'_>| loop {
        let (head, bytes) = (running.take_head(), mem::take(running.body()));
        if head.is_some() || !bytes.is_empty() || running.has_ended() {
            return Poll::Ready((head, Bytes::from(bytes)));
        }
        if let Progress::Until(at) = running.poll(engine.clock(), cx.waker()) {
            ready!(due.poll(at, cx));
        }
    };
    let (head, first) = future::poll_fn(&mut next).await;
    let head = head?;
    if !head.is_streamed() {
        return Some(head.response(Full::from(first).boxed_unsync()));
    }
    // hyper drops this when the client leaves, and so the agent hears of it.
    let rest = stream::poll_fn(move |cx| {
        let (_, bytes) = ready!(next(cx));
        Poll::Ready((!bytes.is_empty()).then(|| Ok(Frame::data(bytes))))
    });
    let body = stream::iter([Ok(Frame::data(first))]).chain(rest);
    Some(head.response(StreamBody::new(body).boxed_unsync()))
}

async fn agent(link: Box<dyn Converse>, io: Upgraded) -> Option<()> {
    let config = websocket::config(link.frame_bytes());
    let mut socket = WebSocketStream::from_raw_socket(TokioIo::new(io), Server, Some(config)).await;
    let (mut turn, mut due, mut frames) = (Turn::default(), Due::new(), Default::default());
    loop {
        link.begin(&mut turn);
        let next = link.serve_timers(&mut turn, false);
        link.finish(&mut turn);
        link.take_frames(&mut frames);
        for frame in frames.drain(..) {
            socket.feed(websocket::message(frame)).await.ok()?;
        }
        socket.flush().await.ok()?;
        let message = future::poll_fn(|cx| {
            let to_write = link.wait_to_write(cx.waker(), true);
            let due = due.poll(next, cx).is_ready();
            match socket.poll_next_unpin(cx) {
                Poll::Pending if to_write.close.is_some() => Poll::Ready(None),
                Poll::Pending if to_write.frames || due => Poll::Ready(Some(None)),
                message => message.map(|message| Some(Some(message?.ok()?))),
            }
        });
        if let Some(message) = message.await? {
            websocket::receive(&*link, &mut turn, message);
        }
    }
}
