//! One request: hyper's parts go into the steps of the host, and what they come to goes back to hyper.

use crate::body::{self, ResponseBody, Unread};
use crate::io::{Patience, Traffic};
use crate::link;
use crate::tasks::Tasks;
use crate::timer::Sleep;
use crate::websocket;
use hyper::body::Incoming;
use hyper::ext::ReasonPhrase;
use hyper::header::{CONNECTION, DATE, EXPECT, HeaderValue};
use hyper::http::request::Parts;
use hyper::{Request, StatusCode};
use mcp_local_provider_core::api::Listener;
use mcp_local_provider_core::wire::http1::{Disposition, Ending, RequestError, Rest, reason};
use mcp_local_provider_engine::Running;
use mcp_local_provider_engine::answer::{Answer, Head};
use mcp_local_provider_engine::request::{self, Begun, Expecting, Step, Upgrade};
use std::convert::Infallible;
use std::future::Future;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

/// Response that hyper writes.
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

/// Result of preparing a request.
enum Prepared {
    /// All is said.
    Answered(Response),
    /// The answer is on its way.
    Running(Box<Running>),
}

impl Answering {
    pub fn new(
        tasks: Tasks,
        address: IpAddr,
        on: Listener,
        traffic: Arc<Traffic>,
        request: Request<Incoming>,
    ) -> Self {
        let preparing = prepare(tasks.clone(), address, on, traffic, request);
        Self {
            tasks,
            state: State::Preparing(Box::pin(preparing)),
        }
    }

    /// Answers a request whose head is refused for its framing.
    pub fn misframed(tasks: Tasks, address: IpAddr, error: RequestError) -> Self {
        let engine = tasks.engine.clone();
        Self {
            tasks,
            state: State::Preparing(Box::pin(async move {
                Prepared::Answered(whole(request::misframed(&engine, address, error), false))
            })),
        }
    }

    /// Tells the time where the calendar has been set back, because hyper would go on with what it remembers until that has
    /// come again. Else hyper tells it for less.
    fn dated(&self, mut response: Response) -> Response {
        let engine = &self.tasks.engine;
        if engine.wall().went_back()
            && let Some(Ok(date)) = engine.date().map(HeaderValue::try_from)
        {
            response.headers_mut().insert(DATE, date);
        }
        response
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
                        return Poll::Ready(Ok(self.dated(response)));
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
                        return Poll::Ready(Ok(self.dated(response(head.as_ref(), body))));
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
    on: Listener,
    traffic: Arc<Traffic>,
    request: Request<Incoming>,
) -> Prepared {
    let awaits_continue = request.headers().contains_key(EXPECT);
    let head = request::Request::of(&request, address);
    let begun = request::begin(&tasks.engine, on, &head);
    let (parts, incoming) = request.into_parts();
    let mut received = Received {
        incoming,
        awaits_continue,
        rest: None,
        traffic,
    };
    let mut step = match begun {
        Begun::Step(step) => step,
        Begun::Upgrade(upgrade) => return Prepared::Answered(upgraded(&tasks, upgrade, parts)),
    };
    // What hyper read it into is free from here on, however long the answer takes.
    drop(parts);
    loop {
        step = match step {
            Step::Body(expecting) => received.collect(&tasks, *expecting).await,
            Step::Report(report) => {
                // The listing of open files is as long as there are connections, so nobody else waits for it.
                let engine = tasks.engine.clone();
                Step::Answer(report.answer(smol::unblock(move || engine.usage()).await))
            }
            Step::Answer(answer) => {
                let keeps = received.leave(&tasks, &answer);
                return Prepared::Answered(whole(answer, keeps));
            }
            Step::Running(running) => return Prepared::Running(running),
        };
    }
}

/// The body of a request.
struct Received {
    incoming: Incoming,
    /// The client waits for `100 Continue`, which hyper writes when the body is read.
    awaits_continue: bool,
    /// Rest of the body that is unread, once somebody wanted the body.
    rest: Option<Rest>,
    traffic: Arc<Traffic>,
}

impl Received {
    async fn collect(&mut self, tasks: &Tasks, mut expecting: Expecting) -> Step {
        let config = tasks.engine.config();
        let hold = |bytes| expecting.hold(bytes);
        let deadline = tasks.timers.after(config.timeouts.body);
        let patience = Patience::new(self.traffic.clone(), deadline);
        let unread = match body::collect(&mut self.incoming, &config, patience, hold).await {
            Ok(body) => {
                self.rest = Some(Rest::Nothing);
                return expecting.complete(body);
            }
            Err(unread) => unread,
        };
        self.rest = Some(Rest::Lost);
        self.awaits_continue &= unread == Unread::Announced;
        Step::Answer(match unread {
            Unread::Announced | Unread::TooLarge => expecting.too_large(),
            Unread::Overloaded => expecting.overloaded(),
            Unread::TooSlow => expecting.too_slow(),
            Unread::Misframed(error) => expecting.misframed(error),
            Unread::Broken => expecting.broken(),
        })
    }

    /// Sees to what is unread once the answer is there. True when another request may follow.
    fn leave(self, tasks: &Tasks, answer: &Answer) -> bool {
        let ending = Ending {
            // hyper knows better, and closes where the client wants it.
            keep_alive: true,
            rest: self.rest.unwrap_or_else(|| body::rest(&self.incoming)),
            awaits_continue: self.awaits_continue,
            draining: tasks.engine.is_draining(),
            closes: answer.head.closes(),
        };
        let disposition = ending.disposition();
        match disposition {
            Disposition::Keep | Disposition::Close => {}
            // To read it would invite the client to send it.
            Disposition::Skip | Disposition::Discard if self.awaits_continue => {}
            // hyper reads on for as long as somebody takes what it reads, while it writes the answer.
            Disposition::Skip | Disposition::Discard => {
                tasks.spawn(body::discard(self.incoming, tasks.timers.clone()));
            }
        }
        disposition.keeps()
    }
}

/// Makes an agent's connection a link.
fn upgraded(tasks: &Tasks, upgrade: Upgrade, parts: Parts) -> Response {
    let mut request = Request::from_parts(parts, ());
    match upgrade.accept(&request) {
        Ok((response, link)) => {
            let taken = hyper::upgrade::on(&mut request);
            let (own, timers) = (tasks.clone(), tasks.timers.clone());
            let frame_bytes = link.frame_bytes();
            tasks.spawn(async move {
                match websocket::upgraded(taken, frame_bytes, timers).await {
                    Ok(socket) => link::run(&own, link, socket).await,
                    Err(error) => tracing::debug!("an agent did not stay: {error}"),
                }
            });
            response.map(|()| ResponseBody::Whole(None))
        }
        Err(answer) => whole(*answer, true),
    }
}

/// `keeps` is false when nothing may follow on the connection.
fn whole(answer: Answer, keeps: bool) -> Response {
    let mut response = response(Some(&answer.head), answer.body.into());
    if !keeps {
        let headers = response.headers_mut();
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

fn response(head: Option<&Head>, body: ResponseBody) -> Response {
    let Some(head) = head else {
        // A running answer without a head would be a fault of ours.
        let mut response = Response::new(body);
        *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
        return response;
    };
    let mut response = head.response(body);
    if response.status().canonical_reason().is_none() {
        let reason = ReasonPhrase::from_static(reason(head.status()).as_bytes());
        response.extensions_mut().insert(reason);
    }
    response
}
