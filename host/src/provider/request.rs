//! One request, from its head to what becomes of it, in steps without input or output.
//!
//! ```text
//! begin(head) ─┬─▶ Upgrade ── handshake ─▶ a link, or Answer
//!              └─▶ Step ─┬─▶ Answer                     all is said
//!                        ├─▶ Body(Expecting) ── body ─┬─▶ Answer
//!                        │                            ├─▶ Queued ── woken ─▶ Running or Answer
//!                        │                            └─▶ Running    poll it: head and bytes come
//!                        └─▶ Report ── usage of the process ─▶ Answer
//! ```
//!
//! A driver reads and writes, keeps the time for the body, and parks; all that is decided is decided here.

use super::answer::{Answer, Page};
use super::caller_tools::Asking;
use super::inbound::Inbound;
use super::link::Connected;
use super::listen::Door;
use super::running::Running;
use super::shared::{Policy, Shared};
use super::{status, websocket};
use crate::process::Usage;
use event_listener::EventListener;
use mcp_local_provider_core::agents;
use mcp_local_provider_core::api::{self, Accepted, Denied, Endpoint};
use mcp_local_provider_core::dialect::Dialect;
use mcp_local_provider_core::error::{Code, Refusal};
use mcp_local_provider_core::exchange::{Exchange, Intent, Reply};
use mcp_local_provider_core::hub::keys::{Caller, Digest};
use mcp_local_provider_core::hub::{Admission, Ask, Claim, Hello, Ticket};
use mcp_local_provider_core::id::WaitId;
use mcp_local_provider_core::wire::http1::RequestError;
use std::borrow::Cow;
use std::fmt;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use tungstenite::http;

/// The scope that a session needs to answer.
const SCOPE: &str = "inference";

/// What of a request's head decides what happens.
#[derive(Clone, Copy)]
pub struct Request<'h> {
    head: api::Head<'h>,
    accept: Option<&'h str>,
    session: Option<&'h str>,
    asked_headers: Option<&'h str>,
}

impl<'h> Request<'h> {
    /// `target` is path and query; `value` gives the first header of a name, which is in lower case.
    pub fn new(
        method: &'h str,
        target: &'h str,
        address: IpAddr,
        value: impl Fn(&str) -> Option<&'h [u8]>,
    ) -> Self {
        let text = |name| std::str::from_utf8(value(name)?).ok();
        Self {
            head: api::Head {
                method,
                target,
                host: text("host"),
                // An origin that is not text is nobody's.
                origin: value("origin").map(|_| text("origin").unwrap_or("unreadable")),
                authorization: text("authorization"),
                api_key: text("x-api-key").or_else(|| text("api-key")),
                user_agent: text("user-agent"),
                agent: text(api::AGENT_HEADER),
                address,
            },
            accept: text("accept"),
            session: text("x-mcp-session"),
            asked_headers: text("access-control-request-headers"),
        }
    }
}

/// What a request has come to.
#[derive(Debug)]
#[must_use]
pub enum Step {
    /// All is said. What of the request is unread does not matter.
    Answer(Answer),
    /// Read the body.
    Body(Box<Expecting>),
    /// Tell about the program, with what the process uses.
    Report(Report),
    /// Wait for capacity.
    Queued(Box<Queued>),
    /// The agent has it.
    Running(Box<Running>),
}

/// What a request's head asks for.
#[derive(Debug)]
#[must_use]
pub enum Begun {
    /// Change to a WebSocket, and make that a link.
    Upgrade(Upgrade),
    /// An answer; nothing of the head is needed any more.
    Step(Step),
}

/// Begins a request by its head.
pub fn begin(shared: &Arc<Shared>, door: Door, request: &Request<'_>) -> Begun {
    let head = &request.head;
    let Policy { config, keys } = shared.policy();
    let user_agent = head.short_user_agent();
    let mut inbound = Inbound::new(shared, config.clone(), head.address, user_agent);
    if let Some(origin) = head.origin
        && api::check_origin(&config, head.origin).is_ok()
    {
        let preflight = None;
        let origin = origin.into();
        inbound.page = Some(Page { origin, preflight });
    }
    let accepted = match api::accept(&config, &keys, head) {
        Ok(accepted) => accepted,
        Err(denied) => {
            let Denied {
                dialect,
                endpoint,
                key,
                refusal,
            } = *denied;
            inbound.key = key;
            return Begun::Step(Step::Answer(inbound.refuse(dialect, endpoint, &refusal)));
        }
    };
    let endpoint = accepted.route.endpoint;
    inbound.key = accepted.caller.as_ref().map(|caller| caller.name.clone());
    tracing::trace!(
        request_id = %inbound.id,
        endpoint = endpoint.name(),
        address = %inbound.address,
        "begun"
    );
    if door == Door::Reports && !endpoint.is_report() && endpoint != Endpoint::Health {
        let why = "this address answers with /health and /metrics alone (listen.metrics)";
        let refusal = Refusal::new(Code::NotFound, why);
        return Begun::Step(Step::Answer(inbound.refused(endpoint, &refusal)));
    }
    if endpoint == Endpoint::Agent {
        let token = head.bearer().map(str::to_owned);
        return Begun::Upgrade(Upgrade { inbound, token });
    }
    Begun::Step(first_step(inbound, request, accepted))
}

fn first_step(mut inbound: Inbound, request: &Request<'_>, accepted: Accepted<'_>) -> Step {
    let endpoint = accepted.route.endpoint;
    if endpoint.is_report() {
        return Step::Report(Report {
            inbound,
            endpoint,
            accept: request.accept.map(str::to_owned),
        });
    }
    if endpoint.is_inference()
        && let Some(caller) = accepted.caller
    {
        let asker = Asker {
            caller,
            session: request.session.map(str::to_owned),
        };
        return Step::Body(Box::new(Expecting {
            inbound,
            endpoint,
            to: Recipient::Exchange(asker),
        }));
    }
    if endpoint == Endpoint::CallerTools {
        let head = &request.head;
        let place = accepted.route.id.as_deref().unwrap_or_default();
        let Some(asking) = Asking::find(&inbound.shared, place, head.method, head.authorization)
        else {
            let refusal = Refusal::new(Code::NotFound, "there are no tools here");
            return Step::Answer(inbound.refused(endpoint, &refusal));
        };
        let to = Recipient::Agent(asking);
        return Step::Body(Box::new(Expecting {
            inbound,
            endpoint,
            to,
        }));
    }
    if endpoint.takes_body() {
        return Step::Body(Box::new(Expecting {
            inbound,
            endpoint,
            to: Recipient::Program(owned(accepted)),
        }));
    }
    if endpoint == Endpoint::Preflight
        && let Some(page) = &mut inbound.page
    {
        page.preflight = Some(request.asked_headers.map(Box::from));
    }
    Step::Answer(inbound.answer(&accepted, &[]))
}

/// Refuses a request whose framing is wrong or can be read in two ways. Nothing may follow it on its connection.
pub fn misframed(shared: &Arc<Shared>, address: IpAddr, error: RequestError) -> Answer {
    Inbound::new(shared, shared.config(), address, None).misframed(
        Dialect::OpenAi,
        "malformed request",
        error,
    )
}

/// Who asks, and for which session.
#[derive(Debug)]
struct Asker {
    caller: Caller,
    session: Option<String>,
}

#[derive(Debug)]
enum Recipient {
    /// An agent answers.
    Exchange(Asker),
    /// The program itself does.
    Program(Accepted<'static>),
    /// The thread of an agent does.
    Agent(Asking),
}

/// A request whose body is to be read whole: at most `limits.body_bytes`, within `timeouts.body`.
#[derive(Debug)]
pub struct Expecting {
    inbound: Inbound,
    endpoint: Endpoint,
    to: Recipient,
}

impl Expecting {
    /// The body is over `limits.body_bytes`.
    #[must_use]
    pub fn too_large(self) -> Answer {
        let limit = self.inbound.config.limits.body_bytes;
        let refusal = Refusal::new(
            Code::TooLarge,
            format!(
                "the request body is over limits.body_bytes ({limit} bytes); send less or raise it"
            ),
        );
        self.inbound.refused(self.endpoint, &refusal)
    }

    /// The body was not there within `timeouts.body`.
    #[must_use]
    pub fn too_slow(self) -> Answer {
        let limit = self.inbound.config.timeouts.body;
        let refusal = Refusal::new(
            Code::RequestTimeout,
            format!(
                "the request body took longer than timeouts.body ({} ms); send it faster",
                limit.as_millis()
            ),
        );
        self.inbound.refused(self.endpoint, &refusal)
    }

    /// The body's framing is wrong; nothing may follow on its connection.
    #[must_use]
    pub fn misframed(self, error: RequestError) -> Answer {
        let endpoint = self.endpoint;
        self.inbound
            .misframed(endpoint.dialect(), endpoint.name(), error)
    }

    /// The body broke off; nothing may follow on its connection.
    #[must_use]
    pub fn broken(self) -> Answer {
        let refusal =
            Refusal::invalid("the request body could not be read to its end: it broke off");
        let answer = self.inbound.refused(self.endpoint, &refusal);
        let status = answer.head.status();
        answer.closing(status)
    }

    /// The body is there. The asker's own allocation is kept only while the request waits for capacity.
    pub fn complete(self, body: Vec<u8>) -> Step {
        let Self {
            mut inbound,
            endpoint,
            to,
        } = self;
        inbound.bytes_in = u64::try_from(body.len()).unwrap_or(u64::MAX);
        match to {
            Recipient::Program(accepted) => Step::Answer(inbound.answer(&accepted, &body)),
            Recipient::Exchange(asker) => ask(inbound, endpoint, asker, body),
            Recipient::Agent(asking) => Step::Running(asking.complete(body, inbound.id)),
        }
    }
}

/// Reads the request and has it admitted; or gives what is to be answered instead.
fn ask(inbound: Inbound, endpoint: Endpoint, asker: Asker, body: Vec<u8>) -> Step {
    let shared = inbound.shared.clone();
    let history = match shared.history(endpoint, &asker.caller, &body) {
        Ok(history) => history,
        Err(refusal) => return Step::Answer(inbound.refused(endpoint, &refusal)),
    };
    let asked = Asked {
        endpoint,
        body,
        history,
        owner: asker.caller.credential,
    };
    let (mut exchange, intent) = match asked.parse(&inbound) {
        Ok(parsed) => parsed,
        Err(refusal) => return Step::Answer(inbound.refused(endpoint, &refusal)),
    };
    let mut reply = Reply::default();
    if intent.load_only {
        exchange.load(shared.clock().now(), &mut reply);
        let mut info = inbound.info(endpoint.name());
        info.prompt = Some(intent.prompt);
        let bytes_out = u64::try_from(reply.body.len()).unwrap_or(u64::MAX);
        shared.hub(|hub, now, _| hub.note(now, info, Ok(200), bytes_out));
        tracing::debug!(request_id = %inbound.id, endpoint = endpoint.name(), status = 200, "answered");
        return Step::Answer(inbound.complete(reply));
    }
    let mut info = inbound.info(endpoint.name());
    info.prompt = Some(intent.prompt);
    let ask = Ask {
        model: &intent.invocation.model,
        session: asker.session.as_deref(),
        tokens: intent.tokens,
        scope: SCOPE,
        embeddings: intent.embeddings,
    };
    let admission = shared.hub(|hub, now, _| hub.admit(now, &asker.caller, info, &ask));
    match admission {
        Ok(Admission::Granted(ticket)) => {
            Step::Running(start(inbound, exchange, &intent, ticket, asked.owner))
        }
        Ok(Admission::Queued(wait)) => {
            drop(intent);
            tracing::debug!(request_id = %inbound.id, "waits for capacity");
            Step::Queued(Box::new(Queued {
                place: Place { shared, wait },
                woken: None,
                waiting: Some((inbound, exchange, asked)),
            }))
        }
        Err(refusal) => {
            inbound.log_refusal(endpoint.name(), refusal.status(), refusal.code().name());
            exchange.refuse(&refusal, &mut reply);
            Step::Answer(inbound.complete(reply))
        }
    }
}

/// What an exchange is made from.
struct Asked {
    endpoint: Endpoint,
    body: Vec<u8>,
    history: Option<Arc<str>>,
    owner: Option<Digest>,
}

impl fmt::Debug for Asked {
    /// Without the prompt.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Asked({}, {} bytes)",
            self.endpoint.name(),
            self.body.len()
        )
    }
}

impl Asked {
    fn parse(&self, inbound: &Inbound) -> Result<(Exchange, Intent<'_>), Refusal> {
        Exchange::parse_continued(
            &inbound.config,
            inbound.shared.wall(),
            inbound.id,
            self.endpoint,
            inbound.started,
            &self.body,
            self.history.as_deref(),
        )
    }
}

fn start(
    inbound: Inbound,
    exchange: Exchange,
    intent: &Intent<'_>,
    ticket: Ticket,
    owner: Option<Digest>,
) -> Box<Running> {
    let shared = inbound.shared;
    tracing::debug!(
        request_id = %inbound.id,
        session = ticket.session.as_str(),
        link = ticket.link.0,
        "admitted"
    );
    let frame = agents::websocket::invoke(
        inbound.id,
        &ticket.session,
        &ticket.label,
        &ticket.model,
        &intent.invocation,
        shared.clock().now(),
        shared.wall(),
    );
    Running::start(shared, exchange, ticket, frame, owner, inbound.page)
}

/// A request that waits for capacity. Dropping it gives its place up.
#[derive(Debug)]
pub struct Queued {
    place: Place,
    woken: Option<EventListener>,
    /// Until it is admitted or refused. The invocation borrows the body, so it is read again then.
    waiting: Option<(Inbound, Exchange, Asked)>,
}

impl Queued {
    /// Asks for a ticket. While there is none, `waker` is woken when it is worth to ask again; the hub ends the wait in time.
    pub fn poll(&mut self, waker: &Waker) -> Poll<Step> {
        let shared = self.place.shared.clone();
        let claimed = loop {
            let mut woken = self
                .woken
                .take()
                .unwrap_or_else(|| shared.listen_for_admissions());
            match shared.hub(|hub, now, _| hub.claim(now, self.place.wait)) {
                Claim::Granted(ticket) => break Ok(ticket),
                Claim::Refused(refusal) => break Err(refusal),
                Claim::Waiting => {}
            }
            let mut context = Context::from_waker(waker);
            if Pin::new(&mut woken).poll(&mut context).is_pending() {
                self.woken = Some(woken);
                return Poll::Pending;
            }
        };
        let Some((inbound, mut exchange, asked)) = self.waiting.take() else {
            // It was ready before; the hub knows nothing of it any more.
            return Poll::Pending;
        };
        Poll::Ready(match claimed {
            Ok(ticket) => match asked.parse(&inbound) {
                Ok((_, intent)) => {
                    Step::Running(start(inbound, exchange, &intent, ticket, asked.owner))
                }
                Err(refusal) => Step::Answer(inbound.refused(asked.endpoint, &refusal)),
            },
            Err(refusal) => {
                let endpoint = asked.endpoint.name();
                inbound.log_refusal(endpoint, refusal.status(), refusal.code().name());
                let mut reply = Reply::default();
                exchange.refuse(&refusal, &mut reply);
                Step::Answer(inbound.complete(reply))
            }
        })
    }
}

/// A place in the queue.
#[derive(Debug)]
struct Place {
    shared: Arc<Shared>,
    wait: WaitId,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.shared
            .hub(|hub, now, out| hub.leave(now, self.wait, out));
    }
}

/// A question about the program itself.
#[derive(Debug)]
pub struct Report {
    inbound: Inbound,
    endpoint: Endpoint,
    accept: Option<String>,
}

impl Report {
    /// `usage` is what [`crate::process::usage`] gives; that takes the longer the more files are open.
    #[must_use]
    pub fn answer(self, usage: Usage) -> Answer {
        let shared = &self.inbound.shared;
        let (snapshot, status) = status::gather(shared, usage);
        let mut reply = Reply::default();
        api::report(
            self.endpoint,
            self.accept.as_deref(),
            self.inbound.id,
            &snapshot,
            &status,
            &mut reply,
        );
        if let Some(head) = &reply.head {
            shared.hub(|hub, _, _| hub.count_answer(self.endpoint.name(), head.status));
        }
        self.inbound.complete(reply)
    }
}

/// An agent that wants to open a WebSocket.
pub struct Upgrade {
    inbound: Inbound,
    token: Option<String>,
}

impl fmt::Debug for Upgrade {
    /// Without the token.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Upgrade({})", self.inbound.address)
    }
}

impl Upgrade {
    /// Agents cannot connect here, and `why` says where they can.
    #[must_use]
    pub fn refuse(self, why: &'static str) -> Answer {
        let refusal = Refusal::new(Code::NotImplemented, why);
        self.inbound.refused(Endpoint::Agent, &refusal)
    }

    /// Checks the handshake and the token. The link begins as soon as the response, which has status 101, is written.
    ///
    /// # Errors
    /// What is to be answered instead.
    pub fn accept<B>(
        self,
        request: &http::Request<B>,
    ) -> Result<(http::Response<()>, Connected), Box<Answer>> {
        let accepted = websocket::accept(request).and_then(|mut response| {
            if let Some(page) = &self.inbound.page {
                page.headers(|name, value| {
                    if let Ok(value) = http::HeaderValue::from_bytes(value) {
                        let headers = response.headers_mut();
                        headers.insert(http::HeaderName::from_static(name), value);
                    }
                });
            }
            let hello = Hello {
                token: self.token.as_deref(),
                dialled: false,
            };
            Ok((response, Connected::new(&self.inbound.shared, hello)?))
        });
        accepted.map_err(|refusal| Box::new(self.inbound.refused(Endpoint::Agent, &refusal)))
    }
}

/// The same without the key in the path, which is of no use any more.
fn owned(accepted: Accepted<'_>) -> Accepted<'static> {
    Accepted {
        route: api::Route {
            endpoint: accepted.route.endpoint,
            path_key: None,
            id: accepted.route.id.map(|id| Cow::Owned(id.into_owned())),
        },
        caller: accepted.caller,
    }
}
