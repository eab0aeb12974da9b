//! Requests to MCP servers by Streamable HTTP (Model Context Protocol, revisions 2025-03-26 to 2025-11-25): POST, GET and DELETE. A POST of
//! revision 2026-07-28 goes on in `mcp_stateless`.

use super::Engine;
use super::answer::Answer;
use super::gateway::{Address, Client, Gateway, SessionCell, unknown_server};
use super::inbound::Inbound;
use super::mcp_answering::Responding;
use super::mcp_body::read;
use super::mcp_posted::Posted;
use super::mcp_stateless;
use super::request::{Fields, Step};
use super::running::Running;
use mcp_local_provider_core::api::{Accepted, Answered};
use mcp_local_provider_core::config::{Area, REGISTRY_SERVER};
use mcp_local_provider_core::error::{Code, Refusal as CoreRefusal};
use mcp_local_provider_core::exchange::{JSON, Reply, ReplyHead};
use mcp_local_provider_core::hub::Verdict;
use mcp_local_provider_core::hub::keys::Caller;
use mcp_local_provider_core::rpc::Message;
use mcp_local_provider_mcp::config::{Server, Transport};
use mcp_local_provider_mcp::mirrored::Given;
use mcp_local_provider_mcp::refusal::{Reason, Refusal};
use mcp_local_provider_mcp::revision::Revision;
use mcp_local_provider_mcp::stateless;
use mcp_local_provider_mcp::streams::{Position, StreamId};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// The headers of a request that matter here.
#[derive(Clone, Copy, Default)]
pub(crate) struct Asked<'h> {
    pub(crate) method: &'h str,
    /// Path and query.
    pub(crate) target: &'h str,
    /// `Mcp-Session-Id`.
    pub(crate) session: Option<&'h str>,
    /// `MCP-Protocol-Version`.
    pub(crate) version: Option<&'h str>,
    /// `Last-Event-ID`.
    pub(crate) last_event: Option<&'h str>,
    /// `Content-Type`.
    pub(crate) content_type: Option<&'h str>,
    /// `Accept`.
    pub(crate) accept: Option<&'h str>,
    /// `Mcp-Method`.
    pub(crate) called: Option<&'h str>,
    /// `Mcp-Name`.
    pub(crate) name: Option<&'h str>,
    /// All headers.
    pub(crate) fields: Option<&'h dyn Fields>,
}

impl Asked<'_> {
    /// The headers that repeat arguments of a tool, in the revision that has them.
    fn given(&self) -> Given {
        let is_new = self.version == Some(stateless::REVISION);
        let fields = self.fields.filter(|_| is_new);
        fields.map_or_else(Given::default, |fields| Given::pick(fields.all()))
    }

    /// Refuses a request that does not accept each of these media types.
    pub(super) fn accepts_all(&self, forms: &[&str]) -> Result<(), Refusal> {
        let accepts = |form: &str| {
            self.accept.is_none_or(|accept| {
                let mut ranges = accept
                    .as_bytes()
                    .split(|byte| *byte == b',')
                    .map(media_type);
                ranges.any(|range| {
                    range == b"*/*"
                        || range.eq_ignore_ascii_case(form.as_bytes())
                        || is_kind_of(range, form)
                })
            })
        };
        match forms.iter().find(|form| !accepts(form)) {
            Some(missing) => {
                let message = format!("the header Accept must name {missing}");
                Err(Refusal::new(Reason::NotAcceptable, message))
            }
            None => Ok(()),
        }
    }

    /// True when the `Content-Type` is one of these.
    pub(super) fn has_type(&self, types: &[&str]) -> bool {
        let given = media_type(self.content_type.unwrap_or_default().as_bytes());
        let mut types = types.iter();
        types.any(|known| given.eq_ignore_ascii_case(known.as_bytes()))
    }

    /// Refuses a body that is not JSON by its `Content-Type`.
    pub(super) fn has_json(&self) -> Result<(), Refusal> {
        if self.has_type(&["application/json"]) {
            return Ok(());
        }
        Err(Refusal::new(
            Reason::UnsupportedMediaType,
            "the body must be JSON: Content-Type application/json",
        ))
    }
}

/// True for a range such as `text/*` and a form such as `text/plain`.
fn is_kind_of(range: &[u8], form: &str) -> bool {
    range
        .strip_suffix(b"*")
        .is_some_and(|kind| kind.ends_with(b"/") && form.as_bytes().starts_with(kind))
}

/// A media type without its parameters.
fn media_type(text: &[u8]) -> &[u8] {
    let end = text.iter().position(|byte| *byte == b';');
    text.get(..end.unwrap_or(text.len()))
        .unwrap_or_default()
        .trim_ascii()
}

/// A POST whose body is still to come.
pub(crate) struct Post {
    caller: Caller,
    address: Address,
    session: Option<String>,
    version: Option<String>,
    called: Option<String>,
    name: Option<String>,
    given: Given,
}

impl fmt::Debug for Post {
    /// Without the id of the session.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Post({:?})", self.address)
    }
}

/// Next step after the head of a request.
pub(crate) enum Begun {
    /// An answer.
    Step(Step),
    /// The body is to be read.
    Body(Inbound, Post),
}

/// Lets a request in, if there is a gateway that serves its transport.
pub(super) fn enter<'e>(
    engine: &'e Engine,
    accepted: &Accepted<'_>,
    transport: Transport,
) -> Result<(&'e Gateway, Caller), CoreRefusal> {
    let gateway = engine.gateway().ok_or_else(no_servers)?;
    if !gateway.config().transports.contains(&transport) {
        return Err(CoreRefusal::new(
            Code::NotFound,
            "this transport is not among those that are served (gateway.transports)",
        ));
    }
    let caller = accepted.caller.clone().ok_or_else(|| {
        CoreRefusal::new(Code::Internal, "a route of MCP servers must ask for a key")
    })?;
    Ok((gateway, caller))
}

/// Refuses what only a program with MCP servers has.
pub(super) fn no_servers() -> CoreRefusal {
    CoreRefusal::new(
        Code::NotFound,
        "this program has no MCP servers; add some to `mcpServers` of its configuration",
    )
}

/// Begins a request by its head.
pub(crate) fn begin(inbound: Inbound, accepted: &Accepted<'_>, asked: &Asked<'_>) -> Begun {
    let engine = inbound.account.engine().clone();
    let (gateway, caller) = match enter(&engine, accepted, Transport::Http) {
        Ok(entered) => entered,
        Err(refusal) => return Begun::Step(inbound.refuse(&refusal).into()),
    };
    let named = accepted.parameters.get("server");
    let begun = address_of(gateway, &caller, named.as_deref())
        .and_then(|address| check(asked).map(|()| address));
    let address = match begun {
        Ok(address) => address,
        Err(refusal) => return Begun::Step(refuse(inbound, &refusal, "null").into()),
    };
    if asked.method == "POST" {
        let mut post = Post::new(caller, address);
        post.session = asked.session.map(str::to_owned);
        post.version = asked.version.map(str::to_owned);
        post.called = asked.called.map(str::to_owned);
        post.name = asked.name.map(str::to_owned);
        post.given = asked.given();
        return Begun::Body(inbound, post);
    }
    let client = client(&caller);
    let cell = asked.session.ok_or_else(no_session).and_then(|id| {
        let found = gateway.find(id, &client, &address);
        found.ok_or_else(unknown_session)
    });
    Begun::Step(match cell {
        Err(refusal) => refuse(inbound, &refusal, "null").into(),
        Ok(cell) if asked.method == "DELETE" => {
            gateway.end(&engine, &cell);
            inbound.answered(Ok(Answered::Nothing)).into()
        }
        Ok(cell) => listen(gateway, &engine, inbound, &cell, asked.last_event),
    })
}

/// Checks what the headers say about the form of the request.
pub(super) fn check(asked: &Asked<'_>) -> Result<(), Refusal> {
    let wanted: &[&str] = match asked.method {
        "POST" => &["application/json", "text/event-stream"],
        "GET" => &["text/event-stream"],
        _ => &[],
    };
    asked.accepts_all(wanted)?;
    if asked.method == "POST" {
        asked.has_json()?;
    }
    match asked.method {
        // The body of a POST says of which era it is.
        "POST" => Ok(()),
        _ if asked.version == Some(stateless::REVISION) => Err(Refusal::new(
            Reason::MethodNotAllowed,
            "revision 2026-07-28 has POST alone",
        )),
        _ => spoken(asked.version),
    }
}

/// Checks the revision of a request in a session.
pub(super) fn spoken(version: Option<&str>) -> Result<(), Refusal> {
    match version {
        Some(version) if Revision::named(version).is_none() => {
            let known = Revision::ALL.map(Revision::as_str).join(", ");
            let message = format!(
                "the revision in MCP-Protocol-Version is not spoken here; those are {known}"
            );
            Err(Refusal::new(Reason::BadRequest, message))
        }
        Some(_) | None => Ok(()),
    }
}

/// Refuses new requests of a program that ends, or has no memory for them.
pub(super) fn admit(engine: &Engine) -> Result<(), Refusal> {
    if engine.is_draining() {
        return Err(Refusal::new(
            Reason::GatewayFull,
            "the program is about to end and takes no new requests",
        )
        .retry_after(Duration::from_secs(5)));
    }
    if engine.budget().is_used_up() {
        return Err(Refusal::new(
            Reason::GatewayFull,
            "the program has no memory left for another request (limits.memory)",
        )
        .retry_after(Duration::from_secs(1)));
    }
    Ok(())
}

pub(super) fn no_session() -> Refusal {
    Refusal::new(
        Reason::BadRequest,
        "the header Mcp-Session-Id is missing; send `initialize` first, whose answer has it",
    )
}

pub(super) fn unknown_session() -> Refusal {
    Refusal::new(
        Reason::SessionNotFound,
        "Session not found: it has ended, or was opened with another key or for another server; send `initialize` again",
    )
}

pub(super) fn client(caller: &Caller) -> Client {
    Client {
        key: caller.credential,
        address: caller.credential.is_none().then_some(caller.address),
        name: Box::default(),
    }
}

/// Refuses what was not accepted: a status, and the error as JSON-RPC has it.
pub(super) fn refuse(inbound: Inbound, refusal: &Refusal, id: &str) -> Answer {
    let mut reply = Reply::default();
    refusal.write(id, &mut reply.body);
    let mut head = ReplyHead::new(refusal.reason.status(), JSON, inbound.account.id());
    head.retry_after = refusal.retry_after_seconds();
    head.allow = (refusal.reason == Reason::MethodNotAllowed).then(|| "POST".into());
    reply.head = Some(head);
    inbound.complete(reply, Verdict::Failed(refusal.reason.audited()))
}

/// Answers a GET: the messages of the session's own stream, or the rest of one that was cut.
fn listen(
    gateway: &Gateway,
    engine: &Arc<Engine>,
    inbound: Inbound,
    cell: &Arc<SessionCell>,
    last_event: Option<&str>,
) -> Step {
    let stream = match last_event {
        None => Some(StreamId::SESSION),
        Some(text) => Position::parse(text).and_then(|to| {
            let mut session = cell.machine.lock();
            session.streams_mut().rewind(to).then_some(to.stream)
        }),
    };
    let responding = stream.and_then(|stream| {
        let times = gateway.config().timeouts;
        Responding::events(engine, cell, stream, inbound.account.id(), times)
    });
    match responding {
        Some(responding) => Step::Running(Running::new(responding, inbound)),
        None => {
            let refusal = Refusal::new(
                Reason::EventGone,
                "the event in Last-Event-ID is not kept any more; go on without the header",
            );
            refuse(inbound, &refusal, "null").into()
        }
    }
}

/// What a path leads to: the server that is named, or all. Servers that the caller may not use do not exist for it.
pub(super) fn address_of(
    gateway: &Gateway,
    caller: &Caller,
    named: Option<&str>,
) -> Result<Address, Refusal> {
    let config = gateway.config();
    let servers = config.servers.iter();
    let servers = servers.filter(|server| caller.may_use_server(&server.name));
    let servers: Vec<&Server> = servers.collect();
    let Some(name) = named else {
        return Address::of_all(&config, &servers).ok_or_else(|| {
            let message = if config.servers.is_empty() {
                "no MCP server is configured"
            } else {
                "there is no MCP server that this key may use"
            };
            Refusal::new(Reason::ServerNotFound, message)
        });
    };
    let found = servers.iter().find(|server| *server.name == *name);
    found.map(|server| Address::of_one(server)).ok_or_else(|| {
        let is_registry = name == REGISTRY_SERVER && config.server(name).is_some();
        match caller.require_area(Area::Registry) {
            Err(denied) if is_registry => Refusal::new(Reason::ScopeDenied, denied.message()),
            Err(_) | Ok(()) => unknown_server(),
        }
    })
}

/// Confirms that the caller may use these servers still.
pub(super) fn uphold(engine: &Engine, caller: &Caller, address: &Address) -> Result<(), Refusal> {
    let keys = engine.policy().keys;
    let mut servers = address.servers().iter();
    if servers.all(|server| keys.uphold_server(caller.authority, &server.name)) {
        return Ok(());
    }
    Err(unknown_server())
}

/// True when the path that has led the caller to these servers leads there now, and nowhere else.
pub(super) fn is_current(engine: &Engine, caller: &Caller, address: &Address) -> bool {
    let caller = engine.policy().keys.renewed(caller);
    let now = caller.zip(engine.gateway()).and_then(|(caller, gateway)| {
        uphold(engine, &caller, address).ok()?;
        address_of(gateway, &caller, address.named()).ok()
    });
    now.is_some_and(|now| now == *address)
}

impl Post {
    /// A request of that caller to an address, without a session.
    pub(super) fn new(caller: Caller, address: Address) -> Self {
        Self {
            caller,
            address,
            session: None,
            version: None,
            called: None,
            name: None,
            given: Given::default(),
        }
    }

    /// Goes on with the whole body.
    pub(crate) fn complete(self, inbound: Inbound, body: &[u8]) -> Step {
        let engine = inbound.account.engine().clone();
        let Some(gateway) = engine.gateway() else {
            return inbound
                .refuse(&CoreRefusal::new(Code::NotFound, "no MCP servers"))
                .into();
        };
        // The key may have gone since the head came, or may not use a server any more.
        let keys = engine.policy().keys;
        if let Err(refusal) = keys.confirm(&self.caller) {
            return inbound.refuse(&refusal).into();
        }
        if let Err(refusal) = uphold(&engine, &self.caller, &self.address) {
            return refuse(inbound, &refusal, "null").into();
        }
        let (messages, is_batch) = match read(body) {
            Ok(read) => read,
            Err(refusal) => return refuse(inbound, &refusal, "null").into(),
        };
        if let [(text, message)] = messages.as_slice()
            && stateless::is_meant(self.version.as_deref(), message)
        {
            let id = mcp_stateless::id_of(message);
            return match self.without_session(&engine, gateway, &inbound, (text, message)) {
                Ok(Some(responding)) => Step::Running(Running::new(responding, inbound)),
                Ok(None) => inbound.answered(Ok(Answered::Accepted)).into(),
                Err(refusal) => refuse(inbound, &refusal, id).into(),
            };
        }
        if let Err(refusal) = spoken(self.version.as_deref()) {
            return refuse(inbound, &refusal, "null").into();
        }
        let posted = Posted::new(gateway, &engine, &self.caller, Transport::Http);
        let id = match messages.as_slice() {
            [(_, Message::Request { id, .. })] => id.get(),
            _ => "null",
        };
        let at = (self.session.as_deref(), &self.address);
        match posted.take(at, &inbound, &messages, is_batch) {
            Ok(Some(responding)) => Step::Running(Running::new(responding, inbound)),
            Ok(None) => inbound.answered(Ok(Answered::Accepted)).into(),
            Err(refusal) => refuse(inbound, &refusal, id).into(),
        }
    }

    /// Takes a message of revision 2026-07-28. There is an answer if it is a request.
    fn without_session(
        &self,
        engine: &Arc<Engine>,
        gateway: &Gateway,
        inbound: &Inbound,
        (text, message): (&str, &Message<'_>),
    ) -> Result<Option<Box<mcp_stateless::Responding>>, Refusal> {
        let client = client(&self.caller);
        if let Message::Request { .. } = message {
            admit(engine)?;
            gateway.count(engine.clock(), &client)?;
        }
        let asking = mcp_stateless::Asking {
            engine,
            gateway,
            client,
            caller: &self.caller,
            address: &self.address,
            id: inbound.account.id(),
        };
        let headers = stateless::Headers {
            version: self.version.as_deref(),
            method: self.called.as_deref(),
            name: self.name.as_deref(),
            given: Some(&self.given),
        };
        asking.take(&headers, (text, message))
    }
}
