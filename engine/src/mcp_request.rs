//! Requests to MCP servers by Streamable HTTP (Model Context Protocol, revisions 2025-03-26 to 2025-11-25): POST, GET and DELETE. A POST of
//! revision 2026-07-28 goes on in `mcp_stateless`.

use super::Engine;
use super::answer::Answer;
use super::gateway::{Asker, Client, Gateway, Initialize, SessionCell, SessionName};
use super::inbound::Inbound;
use super::mcp_answering::Responding;
use super::mcp_body::{Read, read};
use super::mcp_stateless;
use super::request::Step;
use super::running::Running;
use mcp_local_provider_core::api::{Accepted, Answered};
use mcp_local_provider_core::error::{Code, Refusal as CoreRefusal};
use mcp_local_provider_core::exchange::{JSON, Reply, ReplyHead};
use mcp_local_provider_core::hub::Verdict;
use mcp_local_provider_core::hub::keys::Caller;
use mcp_local_provider_core::rpc::{Call, Message};
use mcp_local_provider_core::text::JsonValue;
use mcp_local_provider_mcp::config::{Server, Transport};
use mcp_local_provider_mcp::refusal::{Reason, Refusal};
use mcp_local_provider_mcp::revision::Revision;
use mcp_local_provider_mcp::session::{Attachment, Forward, RequestKey, State};
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
}

/// A POST whose body is still to come.
pub(crate) struct Post {
    caller: Caller,
    server: Arc<str>,
    session: Option<String>,
    version: Option<String>,
    called: Option<String>,
    name: Option<String>,
}

impl fmt::Debug for Post {
    /// Without the id of the session.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Post({})", self.server)
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
    let gateway = engine.gateway().ok_or_else(|| {
        CoreRefusal::new(
            Code::NotFound,
            "this program has no MCP servers; add some to `mcpServers` of its configuration",
        )
    })?;
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

/// Begins a request by its head.
pub(crate) fn begin(inbound: Inbound, accepted: &Accepted<'_>, asked: &Asked<'_>) -> Begun {
    let engine = inbound.account.engine().clone();
    let (gateway, caller) = match enter(&engine, accepted, Transport::Http) {
        Ok(entered) => entered,
        Err(refusal) => return Begun::Step(inbound.refuse(&refusal).into()),
    };
    let named = accepted.parameters.get("server");
    let begun = server_of(gateway, &caller, named.as_deref())
        .and_then(|server| check(asked).map(|()| server));
    let server = match begun {
        Ok(server) => server,
        Err(refusal) => return Begun::Step(refuse(inbound, &refusal, "null").into()),
    };
    if asked.method == "POST" {
        let mut post = Post::new(caller, server);
        post.session = asked.session.map(str::to_owned);
        post.version = asked.version.map(str::to_owned);
        post.called = asked.called.map(str::to_owned);
        post.name = asked.name.map(str::to_owned);
        return Begun::Body(inbound, post);
    }
    let client = client(&caller);
    let cell = asked.session.ok_or_else(no_session).and_then(|id| {
        let found = gateway.find(id, &client, &server);
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
    let accepts = |form: &str| {
        let (kind, _) = form.split_once('/').unwrap_or_default();
        asked.accept.is_none_or(|accept| {
            accept.split(',').any(|range| {
                let range = range.split(';').next().unwrap_or_default().trim();
                range == "*/*"
                    || range.eq_ignore_ascii_case(form)
                    || range.strip_suffix("/*") == Some(kind)
            })
        })
    };
    let wanted: &[&str] = match asked.method {
        "POST" => &["application/json", "text/event-stream"],
        "GET" => &["text/event-stream"],
        _ => &[],
    };
    if let Some(missing) = wanted.iter().find(|form| !accepts(form)) {
        let message = format!("the header Accept must name {missing}");
        return Err(Refusal::new(Reason::NotAcceptable, message));
    }
    let is_json = asked.content_type.is_some_and(|given| {
        let given = given.split(';').next().unwrap_or_default();
        given.trim().eq_ignore_ascii_case("application/json")
    });
    if asked.method == "POST" && !is_json {
        return Err(Refusal::new(
            Reason::UnsupportedMediaType,
            "the body must be JSON: Content-Type application/json",
        ));
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
fn spoken(version: Option<&str>) -> Result<(), Refusal> {
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
fn admit(engine: &Engine) -> Result<(), Refusal> {
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

fn no_session() -> Refusal {
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

fn unknown_server() -> Refusal {
    Refusal::new(
        Reason::ServerNotFound,
        "there is no MCP server of this name",
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

/// The server of a path: the one that is named, or the only one. Servers that the caller may not use do not exist for it.
pub(super) fn server_of(
    gateway: &Gateway,
    caller: &Caller,
    named: Option<&str>,
) -> Result<Arc<str>, Refusal> {
    let config = gateway.config();
    let servers = config.servers.iter();
    let servers = servers.filter(|server| caller.may_use_server(&server.name));
    let servers: Vec<&Server> = servers.collect();
    let unknown = |message: String| Err(Refusal::new(Reason::ServerNotFound, message));
    match (named, &*servers) {
        (Some(name), _) => match servers.iter().find(|server| *server.name == *name) {
            Some(server) => Ok(server.name.clone()),
            None => Err(unknown_server()),
        },
        (None, [only]) => Ok(only.name.clone()),
        (None, []) if !config.servers.is_empty() => {
            unknown("there is no MCP server that this key may use".to_owned())
        }
        (None, []) => unknown("no MCP server is configured".to_owned()),
        (None, several) => {
            let names: Vec<&str> = several.iter().map(|server| &*server.name).collect();
            unknown(format!(
                "there are several MCP servers, so ask one of them at /servers/NAME/mcp: {}",
                names.join(", ")
            ))
        }
    }
}

impl Post {
    /// A request of that caller to a server, without a session.
    pub(super) const fn new(caller: Caller, server: Arc<str>) -> Self {
        Self {
            caller,
            server,
            session: None,
            version: None,
            called: None,
            name: None,
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
        // The key may have gone since the head came, or may not use the server any more.
        let keys = engine.policy().keys;
        if let Err(refusal) = keys.confirm(&self.caller) {
            return inbound.refuse(&refusal).into();
        }
        if !keys.uphold_server(self.caller.authority, &self.server) {
            return refuse(inbound, &unknown_server(), "null").into();
        }
        let (messages, is_batch) = match read(body) {
            Ok(read) => read,
            Err(refusal) => return refuse(inbound, &refusal, "null").into(),
        };
        if let [(_, message)] = messages.as_slice()
            && stateless::is_meant(self.version.as_deref(), message)
        {
            let id = mcp_stateless::id_of(message);
            return match self.without_session(&engine, gateway, &inbound, message) {
                Ok(Some(responding)) => Step::Running(Running::new(responding, inbound)),
                Ok(None) => inbound.answered(Ok(Answered::Accepted)).into(),
                Err(refusal) => refuse(inbound, &refusal, id).into(),
            };
        }
        if let Err(refusal) = spoken(self.version.as_deref()) {
            return refuse(inbound, &refusal, "null").into();
        }
        let posted = Posted::new(gateway, &engine, &self);
        let id = match messages.as_slice() {
            [(_, Message::Request { id, .. })] => id.get(),
            _ => "null",
        };
        match posted.take(&inbound, &messages, is_batch) {
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
        message: &Message<'_>,
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
            authority: self.caller.authority,
            server: &self.server,
            id: inbound.account.id(),
        };
        let headers = stateless::Headers {
            version: self.version.as_deref(),
            method: self.called.as_deref(),
            name: self.name.as_deref(),
        };
        asking.take(&headers, message)
    }
}

/// Refuses everything but `initialize`, by which a session is opened.
pub(super) fn check_opening(messages: &[Read<'_>]) -> Result<(), Refusal> {
    match messages {
        [(_, Message::Request { call, .. })] if call.method == "initialize" => Ok(()),
        _ => Err(Refusal::new(
            Reason::BadRequest,
            "this session is not open; send `initialize` first",
        )),
    }
}

/// Refuses a batch in a session whose revision has none.
pub(super) fn check_batch(cell: &SessionCell, is_batch: bool) -> Result<(), Refusal> {
    if is_batch && !cell.machine.lock().revision().has_batches() {
        return Err(Refusal::new(
            Reason::BadRequest,
            "batches are of revision 2025-03-26 alone; send each message by itself",
        ));
    }
    Ok(())
}

/// A whole POST.
pub(super) struct Posted<'p> {
    gateway: &'p Gateway,
    engine: &'p Arc<Engine>,
    post: &'p Post,
}

impl<'p> Posted<'p> {
    pub(super) const fn new(gateway: &'p Gateway, engine: &'p Arc<Engine>, post: &'p Post) -> Self {
        Self {
            gateway,
            engine,
            post,
        }
    }

    /// Counts messages to the limits of their client. Gives the number of requests among them.
    pub(super) fn admit(&self, messages: &[Read<'_>]) -> Result<usize, Refusal> {
        let asks = |message: &Message<'_>| match message {
            Message::Request { call, .. } => call.method != "ping",
            Message::Notification(_) | Message::Response { .. } => false,
        };
        let is_request = |message: &Message<'_>| matches!(message, Message::Request { .. });
        let requests = messages
            .iter()
            .filter(|(_, message)| is_request(message))
            .count();
        if requests > 0 {
            admit(self.engine)?;
        }
        for _ in messages.iter().filter(|(_, message)| asks(message)) {
            self.gateway
                .count(self.engine.clock(), &client(&self.post.caller))?;
        }
        Ok(requests)
    }

    /// Passes the messages on. There is an answer if one of them is a request.
    fn take(
        &self,
        inbound: &Inbound,
        messages: &[Read<'_>],
        is_batch: bool,
    ) -> Result<Option<Box<Responding>>, Refusal> {
        let requests = self.admit(messages)?;
        let (id, times) = (inbound.account.id(), self.gateway.config().timeouts);
        let Some(session) = &self.post.session else {
            let name = self.gateway.mint();
            let (cell, stream) = self.open(messages, is_batch, name)?;
            let answer = Responding::answer(self.engine, &cell, stream, id, times, true);
            return answer.map(Some).ok_or_else(unknown_session);
        };
        let found = self
            .gateway
            .find(session, &client(&self.post.caller), &self.post.server);
        let cell = found.ok_or_else(unknown_session)?;
        check_batch(&cell, is_batch)?;
        if requests == 0 {
            for (text, message) in messages {
                self.forward(&cell, text, message, StreamId::SESSION)?;
            }
            return Ok(None);
        }
        let stream = cell.call(|session, _| session.open_stream(requests));
        // Before anything can be on it: what nobody reads is bounded more narrowly.
        let answer = Responding::answer(self.engine, &cell, stream, id, times, false);
        let answer = answer.ok_or_else(unknown_session)?;
        for (text, message) in messages {
            if let Err(refusal) = self.forward(&cell, text, message, stream) {
                match message {
                    Message::Request { id, .. } if is_batch => cell.call(|session, wake| {
                        session.refuse(self.engine.clock(), stream, *id, &refusal, wake);
                    }),
                    Message::Request { .. }
                    | Message::Notification(_)
                    | Message::Response { .. } => {
                        return Err(refusal);
                    }
                }
            }
        }
        Ok(Some(answer))
    }

    /// Opens a session with this id, if that is what is asked for.
    pub(super) fn open(
        &self,
        messages: &[Read<'_>],
        is_batch: bool,
        session: SessionName,
    ) -> Result<(Arc<SessionCell>, StreamId), Refusal> {
        let hello = match messages {
            [(_, Message::Request { id, call })] if call.method == "initialize" && !is_batch => {
                call.params.map(|params| (id, params))
            }
            _ => return Err(no_session()),
        };
        let Some((id, params)) = hello.filter(|(_, params)| params.get().starts_with('{')) else {
            let message = "`initialize` needs an object as `params`";
            return Err(Refusal::new(Reason::BadParams, message));
        };
        let name = params.path(&["clientInfo", "name"]);
        let name = name.and_then(JsonValue::text).unwrap_or_default();
        let mut client = client(&self.post.caller);
        client.name = name.chars().take(128).collect::<String>().into();
        self.gateway.open(
            self.engine,
            client,
            self.post.caller.authority,
            &self.post.server,
            session,
            &Initialize {
                id: id.get(),
                params: params.get(),
            },
        )
    }

    /// Passes one message on.
    pub(super) fn forward(
        &self,
        cell: &Arc<SessionCell>,
        text: &str,
        message: &Message<'_>,
        stream: StreamId,
    ) -> Result<(), Refusal> {
        let now = self.engine.clock();
        let forward = cell.call(|session, wake| match session.state() {
            State::Ended => Err(unknown_session()),
            State::Opening | State::Open => session.from_client(now, message, stream, wake),
        })?;
        match forward {
            Forward::Nothing => {}
            Forward::Tell => {
                // What one client tells is nothing to the others of a shared process.
                for server in cell.servers().iter().filter(|server| !server.is_shared()) {
                    server.call(self.engine, |server, now, out, _| {
                        server.send(now, text, None, out);
                    });
                }
            }
            Forward::Answer { to, id, own } => {
                if let Some(server) = cell.server(to) {
                    server.call(self.engine, |server, now, out, _| {
                        server.send(now, text, Some((id, &own)), out);
                    });
                }
            }
            Forward::Cancel(at, call, reason) => {
                if let Some(server) = cell.server(at) {
                    server.call(self.engine, |server, now, out, _| {
                        server.cancel(now, call, reason, out);
                    });
                }
            }
            Forward::Request(key) => {
                if let Message::Request { id, call } = message {
                    self.request(cell, key, text, *id, call)?;
                }
            }
        }
        Ok(())
    }

    fn request(
        &self,
        cell: &Arc<SessionCell>,
        key: RequestKey,
        text: &str,
        id: JsonValue<'_>,
        call: &Call<'_>,
    ) -> Result<(), Refusal> {
        // A session has one server as yet.
        let at = Attachment(0);
        let Some(server) = cell.server(at) else {
            return Err(unknown_session());
        };
        if server.is_shared() && server.note(self.engine, cell, call) {
            let done = r#"{"jsonrpc":"2.0","id":0,"result":{}}"#;
            let zero = JsonValue::read(done).and_then(|all| all.member("id"));
            cell.call(|session, wake| {
                if let Some(zero) = zero {
                    session.handle_answer(self.engine.clock(), key, done, zero, wake);
                }
            });
            return Ok(());
        }
        let asker = Asker::Session(Arc::downgrade(cell), key);
        let sent = server.call(self.engine, |server, now, out, _| {
            server.request(now, text, id, call, asker, out)
        });
        let take_back = |number| {
            server.call(self.engine, |server, now, out, _| {
                server.cancel(now, number, None, out);
            });
        };
        let number = match sent {
            Ok(number) => number,
            Err((refusal, _)) => {
                // It was accepted: the answer says why it fails.
                cell.call(|session, wake| {
                    session.handle_failed(self.engine.clock(), key, &refusal, wake);
                });
                return Ok(());
            }
        };
        if let Err(refusal) = self.gateway.run(self.engine, server) {
            cell.call(|session, _| session.unsend(key));
            take_back(number);
            return Err(refusal);
        }
        let is_open = cell.call(|session, _| session.sent(key, at, number));
        if !is_open {
            // It was answered meanwhile, which leaves nothing to take back, or the client has cancelled it.
            take_back(number);
        }
        Ok(())
    }
}
