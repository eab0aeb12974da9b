//! One request: hyper's parts go into the steps of the host, and what they come to goes back to hyper.

use crate::body::{self, ResponseBody, Unread};
use crate::link;
use crate::tasks::Tasks;
use crate::timer::Sleep;
use crate::websocket;
use hyper::body::Incoming;
use hyper::ext::ReasonPhrase;
use hyper::header::{CONNECTION, EXPECT, HeaderName, HeaderValue};
use hyper::http::request::Parts;
use hyper::{Request, StatusCode};
use mcp_local_provider_core::wire::http1::{RequestError, reason};
use mcp_local_provider_host::process;
use mcp_local_provider_host::provider::Running;
use mcp_local_provider_host::provider::answer::{Answer, Head};
use mcp_local_provider_host::provider::listen::Door;
use mcp_local_provider_host::provider::request::{self, Begun, Expecting, Step, Upgrade};
use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::net::IpAddr;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

/// What hyper writes.
pub(crate) type Response = hyper::Response<ResponseBody>;

/// Answers one request. What a request needs while it is read and admitted is gone when the wait for the agent begins.
pub(crate) struct Answering {
    tasks: Tasks,
    state: State,
}

enum State {
    Preparing(Pin<Box<dyn Future<Output = Prepared> + Send>>),
    Waiting(Box<Running>, Sleep),
    Done,
}

/// What a request has come to.
enum Prepared {
    /// All is said.
    Answered(Response),
    /// The agent has it.
    Running(Box<Running>),
}

impl Answering {
    pub fn new(tasks: Tasks, address: IpAddr, door: Door, request: Request<Incoming>) -> Self {
        let preparing = prepare(tasks.clone(), address, door, request);
        Self {
            tasks,
            state: State::Preparing(Box::pin(preparing)),
        }
    }

    /// Answers a request whose head is refused for its framing.
    pub fn misframed(tasks: Tasks, address: IpAddr, error: RequestError) -> Self {
        let shared = tasks.shared.clone();
        Self {
            tasks,
            state: State::Preparing(Box::pin(async move {
                Prepared::Answered(whole(request::misframed(&shared, address, error)))
            })),
        }
    }
}

impl Future for Answering {
    type Output = Result<Response, Infallible>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let clock = self.tasks.timers.clock();
        loop {
            match &mut self.state {
                State::Preparing(preparing) => match ready!(preparing.as_mut().poll(cx)) {
                    Prepared::Answered(response) => {
                        self.state = State::Done;
                        return Poll::Ready(Ok(response));
                    }
                    Prepared::Running(running) => {
                        let sleep = self.tasks.timers.after(Duration::MAX);
                        self.state = State::Waiting(running, sleep);
                    }
                },
                State::Waiting(running, sleep) => {
                    ready!(body::poll_running(running, sleep, clock, cx));
                    let state = std::mem::replace(&mut self.state, State::Done);
                    if let State::Waiting(mut running, sleep) = state {
                        let head = running.take_head();
                        let body = match &head {
                            Some(head) if !head.is_streamed() => {
                                std::mem::take(running.body()).into()
                            }
                            _ => ResponseBody::Stream(running, sleep, clock),
                        };
                        return Poll::Ready(Ok(response(head.as_ref(), body)));
                    }
                }
                State::Done => return Poll::Pending,
            }
        }
    }
}

async fn prepare(
    tasks: Tasks,
    address: IpAddr,
    door: Door,
    request: Request<Incoming>,
) -> Prepared {
    let (parts, mut incoming) = request.into_parts();
    let expects = parts.headers.contains_key(EXPECT);
    let target = parts.uri.path_and_query();
    let target = target.map_or("/", |target| target.as_str());
    let head = request::Request::new(parts.method.as_str(), target, address, |name| {
        parts.headers.get(name).map(HeaderValue::as_bytes)
    });
    let mut step = match request::begin(&tasks.shared, door, &head) {
        Begun::Step(step) => step,
        Begun::Upgrade(upgrade) => return Prepared::Answered(upgraded(&tasks, upgrade, parts)),
    };
    // What hyper read it into is free from here on, however long the answer takes.
    drop(parts);
    loop {
        step = match step {
            Step::Body(expecting) => collect(&tasks, *expecting, &mut incoming, expects).await,
            Step::Queued(mut queued) => poll_fn(|cx| queued.poll(cx.waker())).await,
            Step::Report(report) => {
                // The listing of open files is as long as there are connections, so nobody else waits for it.
                Step::Answer(report.answer(smol::unblock(process::usage).await))
            }
            Step::Answer(answer) => return Prepared::Answered(whole(answer)),
            Step::Running(running) => return Prepared::Running(running),
        };
    }
}

/// Reads the body. When it is too large, the rest is thrown away for a moment, because a client that is cut while it
/// sends does not read why.
async fn collect(
    tasks: &Tasks,
    expecting: Expecting,
    incoming: &mut Incoming,
    expects: bool,
) -> Step {
    match body::collect(incoming, &tasks.shared.config(), &tasks.timers).await {
        Ok(body) => expecting.complete(body),
        Err(Unread::TooLarge) => {
            if !expects {
                body::discard(incoming, &tasks.timers).await;
            }
            Step::Answer(expecting.too_large())
        }
        Err(Unread::TooSlow) => Step::Answer(expecting.too_slow()),
        Err(Unread::Misframed(error)) => Step::Answer(expecting.misframed(error)),
        Err(Unread::Broken) => Step::Answer(expecting.broken()),
    }
}

/// Makes an agent's connection a link.
fn upgraded(tasks: &Tasks, upgrade: Upgrade, parts: Parts) -> Response {
    let mut request = Request::from_parts(parts, ());
    match upgrade.accept(&request) {
        Ok((response, link)) => {
            let taken = hyper::upgrade::on(&mut request);
            let (own, timers) = (tasks.clone(), tasks.timers.clone());
            let frame_bytes = tasks.shared.link_config().frame_bytes;
            tasks.spawn(async move {
                match websocket::upgraded(taken, frame_bytes, timers).await {
                    Ok(socket) => link::run(&own, link, socket).await,
                    Err(error) => tracing::debug!("an agent did not stay: {error}"),
                }
            });
            response.map(|()| ResponseBody::Whole(None))
        }
        Err(answer) => whole(*answer),
    }
}

fn whole(answer: Answer) -> Response {
    response(Some(&answer.head), answer.body.into())
}

fn response(head: Option<&Head>, body: ResponseBody) -> Response {
    let mut response = Response::new(body);
    let status = head.and_then(|head| StatusCode::from_u16(head.status()).ok());
    let status = status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    *response.status_mut() = status;
    if status.canonical_reason().is_none() {
        let reason = ReasonPhrase::from_static(reason(status.as_u16()).as_bytes());
        response.extensions_mut().insert(reason);
    }
    let headers = response.headers_mut();
    if let Some(head) = head {
        head.headers(|name, value| {
            if let Ok(value) = HeaderValue::from_bytes(value) {
                headers.insert(HeaderName::from_static(name), value);
            }
        });
        if head.closes() {
            headers.insert(CONNECTION, HeaderValue::from_static("close"));
        }
    }
    response
}
