//! One request, from its head to what becomes of it, in steps without input or output.
//!
//! ```text
//! begin(head) ─┬─▶ Upgrade ── handshake ─▶ 101 and a Converse, or Answer
//!              └─▶ Step ─┬─▶ Answer                     all is said
//!                        ├─▶ Body(Expecting) ── body ─┬─▶ Answer
//!                        │                            └─▶ Running    poll it: head and bytes come
//!                        └─▶ Report ── usage of the process ─▶ Answer
//! ```
//!
//! A driver reads and writes, keeps the time for the body, and parks; all that is decided is decided here.

use super::answer::Answer;
use super::ask::{Asker, ask};
use super::caller_tools::ToolHead;
use super::engine::{Engine, Policy};
use super::inbound::Inbound;
use super::running::Running;
use super::upgrade::Peer;
use super::upstreams::{CarriedHeaders, VIA};
use super::{
    log_request, mcp_agent_request, mcp_events, mcp_request, mcp_rest, mcp_socket, mcp_sse,
    registry_completions, registry_request, status, test_page,
};
use crate::outside::Usage;
use mcp_local_provider_core::agents::upstream::ClientHeaders;
use mcp_local_provider_core::api::{
    self, Accepted, Answered, CompletionTask, Denied, Handler, Listener, Page, Prepare, Read,
    Responder, Socket,
};
use mcp_local_provider_core::budget::Share;
use mcp_local_provider_core::dialect::Dialect;
use mcp_local_provider_core::error::{Code, Refusal};
use mcp_local_provider_core::hub::limiter::Payer;
use mcp_local_provider_core::wire::http1::{RequestError, RequestHead};
use std::net::IpAddr;
use std::sync::Arc;
use tungstenite::http;

pub use super::upgrade::{Upgrade, Upgraded};

/// The header fields of a request.
pub trait Fields: Sync {
    /// Returns all names, in any case, and values.
    fn all(&self) -> Box<dyn Iterator<Item = (&str, &[u8])> + '_>;

    /// Gives each name, in any case, and value.
    fn each<'f>(&'f self, take: &mut dyn FnMut(&'f str, &'f [u8])) {
        self.all().for_each(|(name, value)| take(name, value));
    }
}

impl Fields for http::HeaderMap {
    fn all(&self) -> Box<dyn Iterator<Item = (&str, &[u8])> + '_> {
        Box::new(
            self.iter()
                .map(|(name, value)| (name.as_str(), value.as_bytes())),
        )
    }
}

impl Fields for RequestHead<'_> {
    fn all(&self) -> Box<dyn Iterator<Item = (&str, &[u8])> + '_> {
        Box::new(self.headers())
    }

    fn each<'f>(&'f self, take: &mut dyn FnMut(&'f str, &'f [u8])) {
        self.headers().for_each(|(name, value)| take(name, value));
    }
}

/// Makes a structure with the values of these names, which are in lower case.
macro_rules! named {
    ($($field:ident: $name:expr),* $(,)?) => {
        /// The values of the fields that decide something. Of several with one name it is the last, which the nearest proxy wrote.
        #[derive(Default)]
        struct Named<'h> {
            $($field: Option<&'h [u8]>,)*
        }

        impl<'h> Named<'h> {
            fn take(&mut self, name: &str, value: &'h [u8]) {
                // Lengths tell most names apart without a comparison.
                $(if name.len() == $name.len() && name.eq_ignore_ascii_case($name) {
                    self.$field = Some(value);
                    return;
                })*
            }
        }
    };
}

named! {
    host: "host",
    authorization: "authorization",
    content_type: "content-type",
    accept: "accept",
    user_agent: "user-agent",
    mcp_session_id: "mcp-session-id",
    mcp_protocol_version: "mcp-protocol-version",
    origin: "origin",
    x_api_key: "x-api-key",
    api_key: "api-key",
    fetch_site: "sec-fetch-site",
    agent: api::AGENT_HEADER,
    x_forwarded_for: "x-forwarded-for",
    forwarded: "forwarded",
    x_real_ip: "x-real-ip",
    session: "x-mcp-session",
    last_event_id: "last-event-id",
    mcp_method: "mcp-method",
    mcp_name: "mcp-name",
    asked_headers: "access-control-request-headers",
    if_none_match: "if-none-match",
    anthropic_version: "anthropic-version",
    anthropic_beta: "anthropic-beta",
    openai_beta: "openai-beta",
    via: VIA,
}

/// The parts of a request's head that decide what happens.
#[derive(Clone, Copy)]
pub struct Request<'h> {
    head: api::Head<'h>,
    session: Option<&'h str>,
    asked_headers: Option<&'h str>,
    if_none_match: Option<&'h str>,
    carried: CarriedHeaders<'h>,
    mcp: mcp_request::Asked<'h>,
}

impl<'h> Request<'h> {
    /// The request of an HTTP engine that uses the types of the crate `http`.
    pub fn of<B>(request: &'h http::Request<B>, address: IpAddr) -> Self {
        let target = request.uri().path_and_query();
        let target = target.map_or("/", |target| target.as_str());
        let method = request.method().as_str();
        Self::new(method, target, address, request.headers())
    }

    /// `address` is the peer's. `target` is path and query.
    pub fn new(method: &'h str, target: &'h str, address: IpAddr, fields: &'h impl Fields) -> Self {
        let mut named = Named::default();
        fields.each(&mut |name, value| named.take(name, value));
        let text = |value: Option<&'h [u8]>| std::str::from_utf8(value?).ok();
        let proxies = [named.x_forwarded_for, named.forwarded, named.x_real_ip];
        let accept = text(named.accept);
        Self {
            head: api::Head {
                method,
                target,
                host: text(named.host),
                // An origin that is not text is nobody's.
                origin: named
                    .origin
                    .map(|origin| text(Some(origin)).unwrap_or("unreadable")),
                authorization: text(named.authorization),
                api_key: text(named.x_api_key).or_else(|| text(named.api_key)),
                user_agent: text(named.user_agent),
                fetch_site: text(named.fetch_site),
                accept,
                agent: text(named.agent),
                address,
                forwarding: api::Forwarding {
                    x_forwarded_for: text(named.x_forwarded_for),
                    forwarded: text(named.forwarded),
                    is_there: proxies.iter().any(Option::is_some),
                },
            },
            session: text(named.session),
            mcp: mcp_request::Asked {
                method,
                target,
                session: text(named.mcp_session_id),
                version: text(named.mcp_protocol_version),
                last_event: text(named.last_event_id),
                content_type: text(named.content_type),
                accept,
                called: text(named.mcp_method),
                name: text(named.mcp_name),
                fields: Some(fields),
            },
            asked_headers: text(named.asked_headers),
            if_none_match: text(named.if_none_match),
            carried: CarriedHeaders {
                own: ClientHeaders {
                    anthropic_version: text(named.anthropic_version),
                    anthropic_beta: text(named.anthropic_beta),
                    openai_beta: text(named.openai_beta),
                },
                via: text(named.via),
            },
        }
    }
}

/// Next step of a request.
#[derive(Debug)]
#[must_use]
pub enum Step {
    /// All is said. What of the request is unread does not matter.
    Answer(Answer),
    /// Read the body.
    Body(Box<Expecting>),
    /// Tell about the program, with what the process uses.
    Report(Report),
    /// The answer is on its way, or waits for its agent.
    Running(Box<Running>),
}

impl From<Answer> for Step {
    fn from(answer: Answer) -> Self {
        Self::Answer(answer)
    }
}

/// First step of a request, after its head.
#[derive(Debug)]
#[must_use]
pub enum Begun {
    /// Change to a WebSocket.
    Upgrade(Upgrade),
    /// An answer; nothing of the head is needed any more.
    Step(Step),
}

/// Begins a request by its head.
pub fn begin(engine: &Arc<Engine>, listener: Listener, request: &Request<'_>) -> Begun {
    let head = &request.head;
    let Policy { config, mut keys } = engine.policy();
    let address = head.client(&config).address;
    let mut inbound = Inbound::new(engine, config.clone(), address);
    inbound.is_head = head.method == "HEAD";
    let user_agent = head.short_user_agent();
    inbound
        .account
        .describe(|info| info.user_agent = user_agent);
    inbound.page = Page::asking(&config, head.origin);
    let mut accepted = api::accept(&config, &keys, listener, head);
    if let Err(denied) = &accepted
        && engine.has_new_keys(&denied.refusal)
    {
        keys = engine.policy().keys;
        accepted = api::accept(&config, &keys, listener, head);
    }
    let accepted = match accepted {
        Ok(accepted) => accepted,
        Err(denied) => {
            let Denied {
                dialect,
                endpoint,
                key,
                refusal,
            } = *denied;
            inbound.dialect = dialect;
            inbound.account.describe(|info| {
                info.endpoint = endpoint;
                info.key = key;
            });
            return Begun::Step(Step::Answer(inbound.refuse(&refusal)));
        }
    };
    let route = accepted.route;
    inbound.dialect = route.dialect;
    inbound.account.describe(|info| {
        info.endpoint = route.name;
        info.key = accepted.caller.as_ref().map(|caller| caller.name.clone());
    });
    if let (Handler::Ask(_), Some(caller)) = (route.handler, &accepted.caller) {
        let payer = Payer::new(caller.authority, caller.address);
        inbound.account.draws_on(payer);
    }
    if engine.is_draining() && !route.drains {
        return Begun::Step(Step::Answer(inbound.refuse(&Refusal::draining())));
    }
    tracing::trace!(
        request_id = %inbound.account.id(),
        endpoint = route.name,
        %address,
        "begun"
    );
    Begun::Step(match route.handler {
        Handler::Upgrade(Socket::Agent) => {
            let peer = Peer::Agent(accepted.token.as_deref().map(str::to_owned));
            return Begun::Upgrade(Upgrade::new(inbound, peer));
        }
        Handler::Upgrade(Socket::Completion) => {
            let carried = Some(Box::new(request.carried.to_owned()));
            let stream = CompletionTask::Stream;
            match registry_completions::begin(inbound, &accepted, stream, carried) {
                Ok((inbound, post)) => {
                    let peer = Peer::Completion(Box::new(post));
                    return Begun::Upgrade(Upgrade::new(inbound, peer));
                }
                Err(step) => *step,
            }
        }
        Handler::Upgrade(Socket::Mcp) => {
            match mcp_socket::Upgrading::read(engine, &accepted, head.target) {
                Ok(upgrading) => {
                    return Begun::Upgrade(Upgrade::new(inbound, Peer::Mcp(upgrading)));
                }
                Err(refusal) => Step::Answer(inbound.refuse(&refusal)),
            }
        }
        Handler::Ask(_) if engine.budget().is_used_up() => {
            Step::Answer(inbound.refuse(&api::out_of_memory(&config.limits)))
        }
        Handler::Ask(_)
            if request
                .carried
                .via
                .is_some_and(|via| engine.upstreams().is_loop(via)) =>
        {
            Step::Answer(inbound.refuse(&looped()))
        }
        Handler::Ask(form) => match accepted.caller {
            Some(caller) => {
                let asks_others = !engine.upstreams().is_empty() || engine.registry().is_some();
                let carried = asks_others.then(|| Box::new(request.carried.to_owned()));
                let session = request.session.map(str::to_owned);
                let asker = Asker {
                    route,
                    form,
                    caller,
                    session,
                    carried,
                    depth: 0,
                };
                expect(inbound, Recipient::Exchange(asker))
            }
            None => {
                let why = "a route that an agent answers must ask for a key";
                Step::Answer(inbound.refuse(&Refusal::new(Code::Internal, why)))
            }
        },
        Handler::Read(read) if route.body => {
            expect(inbound, Recipient::Read(read, accepted.into_owned()))
        }
        Handler::Read(read) => Step::Answer(inbound.read(read, &accepted, &[])),
        Handler::Change(change) => {
            expect(inbound, Recipient::Change(change, accepted.into_owned()))
        }
        Handler::Order(order) => Step::Answer(inbound.order(order)),
        Handler::Report(report) => Step::Report(Report {
            inbound,
            report,
            accept: head.accept.map(str::to_owned),
        }),
        Handler::Respond(responder) => respond(inbound, &accepted, request, responder),
        Handler::Preflight => {
            if let Some(page) = &mut inbound.page {
                page.preflight(request.asked_headers);
            }
            Step::Answer(inbound.answered(Ok(Answered::Nothing)))
        }
    })
}

/// The body of a request is to be read for this recipient.
fn expect(inbound: Inbound, to: Recipient) -> Step {
    let share = inbound.account.engine().budget().share();
    Step::Body(Box::new(Expecting { inbound, to, share }))
}

/// Begins a request that a part of the engine answers.
// The memory of a thread's stack stays as large as it once was: what these take is not for requests to models.
#[inline(never)]
fn respond(
    mut inbound: Inbound,
    accepted: &Accepted<'_>,
    request: &Request<'_>,
    responder: Responder,
) -> Step {
    let (head, route) = (&request.head, accepted.route);
    match responder {
        Responder::CallerTools => {
            let agent = accepted.parameters.get("agent").unwrap_or_default();
            let server = accepted.parameters.get("server").unwrap_or_default();
            match ToolHead::find(
                inbound.account.engine(),
                &agent,
                &server,
                head.method,
                head.authorization,
            ) {
                Some(tools) => {
                    let key = format!("agent:{agent}").into();
                    inbound.account.describe(|info| info.key = Some(key));
                    expect(inbound, Recipient::Agent(tools))
                }
                None => {
                    let refusal = Refusal::new(Code::NotFound, "there are no tools here");
                    Step::Answer(inbound.refuse(&refusal))
                }
            }
        }
        Responder::Mcp => match mcp_request::begin(inbound, accepted, &request.mcp) {
            mcp_request::Begun::Step(step) => step,
            mcp_request::Begun::Body(inbound, post) => expect(inbound, Recipient::Mcp(post)),
        },
        Responder::McpAgent => match mcp_agent_request::begin(inbound, accepted, &request.mcp) {
            mcp_agent_request::Begun::Step(step) => step,
            mcp_agent_request::Begun::Body(inbound, post) => {
                expect(inbound, Recipient::McpAgent(post))
            }
        },
        Responder::McpEvents => mcp_events::begin(inbound, accepted, &request.mcp),
        Responder::McpSse => mcp_sse::begin(inbound, accepted, &request.mcp),
        Responder::McpMessages => match mcp_sse::message(inbound, accepted, &request.mcp) {
            Ok((inbound, message)) => expect(inbound, Recipient::McpMessage(message)),
            Err(answer) => Step::Answer(*answer),
        },
        Responder::Rest(task) => match mcp_rest::begin(inbound, accepted, task, &request.mcp) {
            mcp_rest::Begun::Step(step) => step,
            mcp_rest::Begun::Body(inbound, post) => expect(inbound, Recipient::Rest(post)),
        },
        Responder::Registry(task) => {
            let match_ = request.if_none_match;
            match registry_request::begin(inbound, accepted, task, &request.mcp, match_) {
                Err(step) => *step,
                Ok((inbound, post)) if route.body => expect(inbound, Recipient::Registry(post)),
                Ok((inbound, post)) => post.complete(inbound, &[]),
            }
        }
        Responder::Logs => log_request::begin(inbound, accepted, &request.mcp),
        Responder::Completion(task) => {
            let carried = Some(Box::new(request.carried.to_owned()));
            match registry_completions::begin(inbound, accepted, task, carried) {
                Err(step) => *step,
                Ok((inbound, post)) if route.body => expect(inbound, Recipient::Completion(post)),
                Ok((inbound, post)) => post.complete(inbound, &[]),
            }
        }
        Responder::TestPage => Step::Answer(test_page::answer(inbound, accepted.local)),
    }
}

/// The refusal of a request that this instance has sent to an upstream itself.
fn looped() -> Refusal {
    Refusal::new(
        Code::LoopDetected,
        "this request has been here before: an upstream leads back to this program; take it out of `upstreams`",
    )
}

/// Refuses a request whose framing is wrong or can be read in two ways. Nothing may follow it on its connection.
pub fn misframed(engine: &Arc<Engine>, address: IpAddr, error: RequestError) -> Answer {
    let mut inbound = Inbound::new(engine, engine.config(), address);
    inbound
        .account
        .describe(|info| info.endpoint = "malformed request");
    inbound.misframed(error)
}

#[derive(Debug)]
enum Recipient {
    /// An agent answers.
    Exchange(Asker),
    /// The program itself does, from what the hub told last.
    Read(Read, Accepted<'static>),
    /// The program itself does, and the hub changes.
    Change(Prepare, Accepted<'static>),
    /// The thread of an agent does.
    Agent(ToolHead),
    /// The server does that asks clients of the Model Context Protocol.
    McpAgent(mcp_agent_request::Post),
    /// An MCP server does.
    Mcp(mcp_request::Post),
    /// The same, on the stream of its session.
    McpMessage(mcp_sse::Message),
    /// The same, by REST.
    Rest(mcp_rest::Post),
    /// The registry does.
    Registry(registry_request::Post),
    /// The registry's completions do.
    Completion(registry_completions::Post),
}

/// A request whose body is to be read whole: at most `limits.body_bytes`, within `timeouts.body`.
#[derive(Debug)]
pub struct Expecting {
    inbound: Inbound,
    to: Recipient,
    share: Share,
}

impl Expecting {
    /// So many bytes are buffered of the body, to be told as it comes. False when the program has no memory left for it
    /// (`limits.memory`): the rest is not to be read.
    #[must_use]
    pub fn hold(&mut self, bytes: usize) -> bool {
        self.share.hold(bytes)
    }

    /// There is no memory left for the body.
    #[must_use]
    pub fn overloaded(self: Box<Self>) -> Answer {
        let refusal = api::out_of_memory(&self.inbound.config.limits);
        self.inbound.refuse(&refusal)
    }

    /// The body is over `limits.body_bytes`.
    #[must_use]
    pub fn too_large(self: Box<Self>) -> Answer {
        let refusal = api::body_too_large(&self.inbound.config.limits);
        self.inbound.refuse(&refusal)
    }

    /// The body was not there within `timeouts.body`.
    #[must_use]
    pub fn too_slow(self: Box<Self>) -> Answer {
        let refusal = api::body_too_slow(&self.inbound.config.timeouts);
        self.inbound.refuse(&refusal)
    }

    /// The body's framing is wrong; nothing may follow on its connection.
    #[must_use]
    pub fn misframed(self: Box<Self>, error: RequestError) -> Answer {
        self.inbound.misframed(error)
    }

    /// The body broke off; nothing may follow on its connection.
    #[must_use]
    pub fn broken(self: Box<Self>) -> Answer {
        self.inbound.refuse_and_close(&api::body_broken())
    }

    /// The body is there. The asker's own allocation is kept only while the request waits for capacity.
    #[inline(never)]
    pub fn complete(self: Box<Self>, body: Vec<u8>) -> Step {
        let Self {
            mut inbound,
            mut to,
            mut share,
        } = *self;
        // A driver may have read it in one piece.
        if !share.hold(body.capacity()) {
            let refusal = api::out_of_memory(&inbound.config.limits);
            return Step::Answer(inbound.refuse(&refusal));
        }
        let bytes_in = u64::try_from(body.len()).unwrap_or(u64::MAX);
        inbound.account.describe(|info| info.bytes_in = bytes_in);
        if let Recipient::Exchange(asker) = &mut to
            && !asker.is_for_registry(&inbound, &body)
        {
            return ask(inbound, asker, body, share);
        }
        to.complete(inbound, body)
    }
}

impl Recipient {
    /// Goes on with the whole body, where no model is asked by it.
    #[inline(never)]
    fn complete(self, mut inbound: Inbound, body: Vec<u8>) -> Step {
        match self {
            Self::Read(read, accepted) => Step::Answer(inbound.read(read, &accepted, &body)),
            Self::Change(change, accepted) => {
                Step::Answer(inbound.change(change, &accepted, &body))
            }
            Self::Exchange(asker) => {
                inbound.dialect = Dialect::Rest;
                let post = registry_completions::Post {
                    caller: asker.caller,
                    task: CompletionTask::Create,
                    id: String::new(),
                    carried: asker.carried,
                };
                post.complete(inbound, &body)
            }
            Self::Agent(tools) => Step::Running(tools.complete(body, inbound)),
            Self::McpAgent(post) => post.complete(inbound, &body),
            Self::Mcp(post) => post.complete(inbound, &body),
            Self::McpMessage(message) => message.complete(inbound, &body).into(),
            Self::Rest(post) => post.complete(inbound, &body),
            Self::Registry(post) => post.complete(inbound, &body),
            Self::Completion(post) => post.complete(inbound, &body),
        }
    }
}

/// A question about the program itself.
#[derive(Debug)]
pub struct Report {
    inbound: Inbound,
    report: api::Report,
    accept: Option<String>,
}

impl Report {
    /// `usage` is what [`Engine::usage`] gives, which takes the longer the more files are open.
    #[must_use]
    pub fn answer(self, usage: Usage) -> Answer {
        let (snapshot, status) = status::gather(self.inbound.account.engine(), usage);
        let answered = (self.report)(&snapshot, &status, self.accept.as_deref());
        self.inbound.answered(Ok(answered))
    }
}
