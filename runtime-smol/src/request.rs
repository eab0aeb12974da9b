//! One request, from its head to its response.

use crate::body;
use crate::exchange::{ResponseBody, Running};
use crate::link;
use crate::shared::Shared;
use crate::status;
use crate::websocket;
use hyper::body::Incoming;
use hyper::header::{
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_REQUEST_HEADERS,
    AUTHORIZATION, CONNECTION, EXPECT, HOST, HeaderName, HeaderValue, ORIGIN, USER_AGENT, VARY,
};
use hyper::http::request::Parts;
use hyper::{Request, StatusCode};
use mcp_local_provider_core::agents;
use mcp_local_provider_core::api::{self, Denied, Endpoint, Head};
use mcp_local_provider_core::dialect::Dialect;
use mcp_local_provider_core::error::{Code, Refusal};
use mcp_local_provider_core::exchange::{Exchange, Reply, ReplyHead};
use mcp_local_provider_core::hub::audit::RequestInfo;
use mcp_local_provider_core::hub::keys::Caller;
use mcp_local_provider_core::hub::{Admission, Ask, Claim, Hello, Ticket};
use mcp_local_provider_core::id::{ExchangeId, WaitId};
use mcp_local_provider_core::time::Instant;
use mcp_local_provider_core::wire::http1::{self, RequestError, Version};
use std::convert::Infallible;
use std::future::Future;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

/// What hyper writes.
pub(crate) type Response = hyper::Response<ResponseBody>;

/// The scope that a session needs to answer.
const SCOPE: &str = "inference";

/// Headers that pages may read besides the usual ones.
const EXPOSED: &str = "x-request-id, x-session-id, retry-after, x-ratelimit-limit-requests, x-ratelimit-remaining-requests, x-ratelimit-limit-tokens, x-ratelimit-remaining-tokens, x-ratelimit-reset-requests, x-ratelimit-reset-tokens";

/// What is answered where a request came in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Door {
    /// Every route.
    All,
    /// Health and metrics.
    Reports,
}

/// Answers one request. What a request needs while it is read and admitted is gone when the wait for the agent begins.
pub(crate) struct Answering {
    shared: Arc<Shared>,
    origin: Option<Box<HeaderValue>>,
    step: Step,
}

enum Step {
    Preparing(Pin<Box<dyn Future<Output = Prepared> + Send>>),
    Waiting(Box<Running>),
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
    pub fn new(
        shared: Arc<Shared>,
        address: IpAddr,
        door: Door,
        request: Request<Incoming>,
    ) -> Self {
        let (parts, incoming) = request.into_parts();
        // A copy, because hyper's value would keep all of the head's buffer.
        let origin = parts.headers.get(ORIGIN);
        let origin = origin.and_then(|origin| HeaderValue::from_bytes(origin.as_bytes()).ok());
        let inbound = Inbound {
            id: shared.ids.next(),
            started: shared.timers.now(),
            shared: shared.clone(),
            address,
            door,
        };
        Self {
            shared,
            origin: origin.map(Box::new),
            step: Step::Preparing(Box::pin(inbound.prepare(parts, incoming))),
        }
    }

    /// Lets a page of an allowed origin read the response.
    fn allow(&mut self, mut response: Response) -> Response {
        if let Some(origin) = self.origin.take()
            && api::check_origin(&self.shared.config, Some(origin_text(&origin))).is_ok()
        {
            let headers = response.headers_mut();
            headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, *origin);
            headers.insert(VARY, HeaderValue::from_static("Origin"));
            let exposed = HeaderValue::from_static(EXPOSED);
            headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, exposed);
        }
        response
    }
}

impl Future for Answering {
    type Output = Result<Response, Infallible>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let answered = loop {
            match &mut self.step {
                Step::Preparing(preparing) => match ready!(preparing.as_mut().poll(cx)) {
                    Prepared::Answered(response) => break response,
                    Prepared::Running(running) => self.step = Step::Waiting(running),
                },
                Step::Waiting(running) => {
                    ready!(running.poll(cx));
                    let Step::Waiting(running) = std::mem::replace(&mut self.step, Step::Done)
                    else {
                        continue;
                    };
                    break begun(running);
                }
                Step::Done => return Poll::Pending,
            }
        };
        self.step = Step::Done;
        Poll::Ready(Ok(self.allow(answered)))
    }
}

/// The response of an exchange whose head is there.
fn begun(mut running: Box<Running>) -> Response {
    let head = running.reply.head.take();
    if head.as_ref().is_some_and(|head| head.streamed) {
        response(head, ResponseBody::Stream(running))
    } else {
        response(head, std::mem::take(&mut running.reply.body).into())
    }
}

/// A request that is being answered.
struct Inbound {
    shared: Arc<Shared>,
    id: ExchangeId,
    started: Instant,
    address: IpAddr,
    door: Door,
}

impl Inbound {
    async fn prepare(self, parts: Parts, incoming: Incoming) -> Prepared {
        let answered = Prepared::Answered;
        if let Err(error) = check_framing(&parts) {
            return answered(self.misframed(error));
        }
        let head = self.head(&parts);
        let accepted = match api::accept(&self.shared.config, &self.shared.keys, &head) {
            Ok(accepted) => accepted,
            Err(denied) => return answered(self.refuse(&denied)),
        };
        let endpoint = accepted.route.endpoint;
        if self.door == Door::Reports && !endpoint.is_report() && endpoint != Endpoint::Health {
            let why = "this address answers with /health and /metrics alone (listen.metrics)";
            return answered(self.refused(endpoint, &Refusal::new(Code::NotFound, why)));
        }
        let expects = parts.headers.contains_key(EXPECT);
        if endpoint == Endpoint::Agent {
            let token = head.bearer().map(str::to_owned);
            return answered(self.upgrade(parts, token));
        }
        if endpoint.is_report() {
            let accept = text(&parts, "accept").map(str::to_owned);
            return answered(self.report(endpoint, accept).await);
        }
        if endpoint.is_inference()
            && let Some(caller) = accepted.caller
        {
            let asker = Asker {
                caller,
                user_agent: head.short_user_agent(),
                session: text(&parts, "x-mcp-session").map(str::to_owned),
            };
            // What hyper read it into is free from here on, however long the answer takes.
            drop(parts);
            let body = match self.collect(incoming, expects).await {
                Ok(body) => body,
                Err(refusal) => return answered(self.refused(endpoint, &refusal)),
            };
            return match self.begin(endpoint, asker, body).await {
                Ok(running) => Prepared::Running(running),
                Err(reply) => answered(respond(reply)),
            };
        }
        let mut body = Vec::new();
        if endpoint.takes_body() {
            match self.collect(incoming, expects).await {
                Ok(collected) => body = collected,
                Err(refusal) => return answered(self.refused(endpoint, &refusal)),
            }
        }
        let mut reply = Reply::default();
        self.shared.hub(|hub, now, out| {
            api::answer(hub, now, self.id, &accepted, &body, out, &mut reply);
        });
        let mut response = respond(reply);
        if endpoint == Endpoint::Preflight
            && let Some(origin) = head.origin
        {
            let asked = text(&parts, ACCESS_CONTROL_REQUEST_HEADERS.as_str());
            api::preflight_headers(origin, asked, |name, value| {
                if let Ok(value) = HeaderValue::from_str(value) {
                    let name = HeaderName::from_static(name);
                    response.headers_mut().insert(name, value);
                }
            });
        }
        answered(response)
    }

    fn head<'p>(&self, parts: &'p Parts) -> Head<'p> {
        Head {
            method: parts.method.as_str(),
            target: parts
                .uri
                .path_and_query()
                .map_or("/", |target| target.as_str()),
            host: text(parts, HOST.as_str()),
            origin: parts.headers.get(ORIGIN).map(origin_text),
            authorization: text(parts, AUTHORIZATION.as_str()),
            api_key: text(parts, "x-api-key").or_else(|| text(parts, "api-key")),
            user_agent: text(parts, USER_AGENT.as_str()),
            address: self.address,
        }
    }

    /// Reads the body. When it is too large, the rest is thrown away for a moment, because a client that is cut while it
    /// sends does not read why.
    async fn collect(&self, mut incoming: Incoming, expects: bool) -> Result<Vec<u8>, Refusal> {
        let config = &self.shared.config;
        let timers = &self.shared.timers;
        let collected =
            body::collect(&mut incoming, &config.limits, &config.timeouts, timers).await;
        if let Err(refusal) = &collected
            && refusal.code() == Code::TooLarge
            && !expects
        {
            body::discard(&mut incoming, timers).await;
        }
        collected
    }

    /// Reads the request, has it admitted and sends it to the agent; or gives what is to be answered instead.
    async fn begin(
        &self,
        endpoint: Endpoint,
        asker: Asker,
        body: Vec<u8>,
    ) -> Result<Box<Running>, Reply> {
        let shared = &self.shared;
        let mut reply = Reply::default();
        let history = shared.history(endpoint, &asker.caller, &body);
        let parsed = history.as_ref().map_err(Clone::clone).and_then(|history| {
            Exchange::parse_continued(
                &shared.config,
                shared.wall,
                self.id,
                endpoint,
                self.started,
                &body,
                history.as_deref(),
            )
        });
        let (mut exchange, intent) = match parsed {
            Ok(parsed) => parsed,
            Err(refusal) => {
                self.note(endpoint.name(), &refusal);
                reply.refuse(self.id, endpoint.dialect(), &refusal);
                return Err(reply);
            }
        };
        if intent.load_only {
            exchange.load(shared.timers.now(), &mut reply);
            shared.hub(|hub, _, _| hub.count_answer(endpoint.name(), 200));
            return Err(reply);
        }
        let info = RequestInfo {
            exchange: self.id,
            started: self.started,
            key: asker.caller.name.clone(),
            address: self.address,
            user_agent: asker.user_agent,
            endpoint: endpoint.name(),
            bytes_in: u64::try_from(body.len()).unwrap_or(u64::MAX),
            prompt: Some(intent.prompt),
        };
        let ask = Ask {
            model: &intent.invocation.model,
            session: asker.session.as_deref(),
            tokens: intent.tokens,
            scope: SCOPE,
            embeddings: intent.embeddings,
        };
        let admission = shared.hub(|hub, now, _| hub.admit(now, &asker.caller, info, &ask));
        let admitted = match admission {
            Ok(Admission::Granted(ticket)) => Ok(ticket),
            Ok(Admission::Queued(wait)) => self.wait(wait).await,
            Err(refusal) => Err(refusal),
        };
        match admitted {
            Ok(ticket) => {
                let frame = agents::websocket::invoke(
                    self.id,
                    &ticket.session,
                    &ticket.label,
                    &ticket.model,
                    &intent.invocation,
                    shared.timers.now(),
                    shared.wall,
                );
                let owner = asker.caller.credential;
                Ok(Running::start(shared, exchange, ticket, frame, owner))
            }
            Err(refusal) => {
                exchange.refuse(&refusal, &mut reply);
                Err(reply)
            }
        }
    }

    /// Waits for capacity.
    async fn wait(&self, wait: WaitId) -> Result<Ticket, Refusal> {
        let waiting = Waiting {
            shared: &self.shared,
            wait,
        };
        loop {
            let woken = self.shared.admissions.listen();
            match self.shared.hub(|hub, now, _| hub.claim(now, waiting.wait)) {
                Claim::Granted(ticket) => return Ok(ticket),
                Claim::Refused(refusal) => return Err(refusal),
                Claim::Waiting => woken.await,
            }
        }
    }

    /// Tells about the program itself.
    async fn report(&self, endpoint: Endpoint, accept: Option<String>) -> Response {
        let (snapshot, status) = status::gather(&self.shared).await;
        let mut reply = Reply::default();
        api::report(
            endpoint,
            accept.as_deref(),
            self.id,
            &snapshot,
            &status,
            &mut reply,
        );
        if let Some(head) = &reply.head {
            self.shared
                .hub(|hub, _, _| hub.count_answer(endpoint.name(), head.status));
        }
        respond(reply)
    }

    /// Makes an agent's connection a link.
    fn upgrade(&self, parts: Parts, token: Option<String>) -> Response {
        let shared = &self.shared;
        let mut request = Request::from_parts(parts, ());
        let upgrade = websocket::accept(&mut request).and_then(|(response, upgrade)| {
            let hello = Hello {
                token: token.as_deref(),
                dialled: false,
            };
            Ok((response, upgrade, link::Connected::new(shared, hello)?))
        });
        match upgrade {
            Ok((response, upgrade, link)) => {
                let frame_bytes = shared.link_config.frame_bytes;
                let timers = shared.timers.clone();
                shared.spawn(async move {
                    match websocket::upgraded(upgrade, frame_bytes, timers).await {
                        Ok(socket) => link.run(socket).await,
                        Err(error) => tracing::debug!("an agent did not stay: {error}"),
                    }
                });
                response.map(|()| ResponseBody::Whole(None))
            }
            Err(refusal) => self.refused(Endpoint::Agent, &refusal),
        }
    }

    fn note(&self, endpoint: &'static str, refusal: &Refusal) {
        self.shared
            .hub(|hub, now, _| hub.note_refusal(now, self.address, endpoint, refusal));
    }

    /// Where a request ends is not clear, so nothing may follow it.
    fn misframed(&self, error: RequestError) -> Response {
        let mut response = self.refuse(&Denied {
            dialect: Dialect::OpenAi,
            endpoint: "malformed request",
            refusal: Refusal::invalid(error.message),
        });
        if let Ok(status) = StatusCode::from_u16(error.status) {
            *response.status_mut() = status;
        }
        let close = HeaderValue::from_static("close");
        response.headers_mut().insert(CONNECTION, close);
        response
    }

    fn refused(&self, endpoint: Endpoint, refusal: &Refusal) -> Response {
        self.refuse(&Denied {
            dialect: endpoint.dialect(),
            endpoint: endpoint.name(),
            refusal: refusal.clone(),
        })
    }

    fn refuse(&self, denied: &Denied) -> Response {
        self.note(denied.endpoint, &denied.refusal);
        let mut reply = Reply::default();
        reply.refuse(self.id, denied.dialect, &denied.refusal);
        respond(reply)
    }
}

/// Who asks, and for which session.
struct Asker {
    caller: Caller,
    user_agent: Option<Box<str>>,
    session: Option<String>,
}

/// A place in the queue, given up when the client goes.
struct Waiting<'s> {
    shared: &'s Shared,
    wait: WaitId,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.shared
            .hub(|hub, now, out| hub.leave(now, self.wait, out));
    }
}

/// Refuses what hyper lets pass and another program on the way may understand otherwise.
fn check_framing(parts: &Parts) -> Result<(), RequestError> {
    let version = if parts.version == hyper::Version::HTTP_10 {
        Version::Http10
    } else {
        Version::Http11
    };
    let headers = parts.headers.iter();
    let headers = headers.map(|(name, value)| (name.as_str(), value.as_bytes()));
    let framing = http1::check_framing(headers, version)?;
    if parts.uri.authority().is_some() {
        let target = parts.uri.to_string();
        http1::check_target(parts.method.as_str(), &target, framing.host)?;
    } else {
        let target = parts.uri.path_and_query().map_or("/", |path| path.as_str());
        http1::check_target(parts.method.as_str(), target, framing.host)?;
    }
    Ok(())
}

/// A header's value, when it is text.
fn text<'p>(parts: &'p Parts, name: &str) -> Option<&'p str> {
    parts.headers.get(name)?.to_str().ok()
}

/// An origin; one that is not text is nobody's.
fn origin_text(origin: &HeaderValue) -> &str {
    origin.to_str().unwrap_or("unreadable")
}

fn respond(reply: Reply) -> Response {
    response(reply.head, reply.body.into())
}

fn response(head: Option<ReplyHead>, body: ResponseBody) -> Response {
    let mut response = Response::new(body);
    let Some(head) = head else {
        *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
        return response;
    };
    *response.status_mut() =
        StatusCode::from_u16(head.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let headers = response.headers_mut();
    head.headers(|name, value| {
        if let Ok(value) = HeaderValue::from_bytes(value) {
            headers.insert(HeaderName::from_static(name), value);
        }
    });
    response
}
