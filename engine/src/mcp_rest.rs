//! Requests to MCP servers by REST: from the head to what is asked of a server, or to the answer.

use super::Engine;
use super::answer::Answer;
use super::gateway::{Address, Gateway, Initialize, SessionCell, Standing};
use super::inbound::Inbound;
use super::mcp_request::{Asked, address_of, admit, client, enter, uphold};
use super::mcp_rest_answering::{Asking, Opening};
use super::request::Step;
use super::running::{Respond, Running};
use mcp_local_provider_core::api::{Accepted, CALL_TOOL, Listed, Rest};
use mcp_local_provider_core::config::{REGISTRY_SERVER, Role};
use mcp_local_provider_core::dialect::Dialect;
use mcp_local_provider_core::error::{Code, Refusal as CoreRefusal};
use mcp_local_provider_core::exchange::{JSON, Reply, ReplyHead};
use mcp_local_provider_core::hub::Verdict;
use mcp_local_provider_core::hub::keys::Caller;
use mcp_local_provider_core::id::ExchangeId;
use mcp_local_provider_mcp::config::{Transport, Wire};
use mcp_local_provider_mcp::refusal::{Reason, Refusal};
use mcp_local_provider_mcp::rest::{Body, Done, Failure, Target, Work, restarting, servers};
use mcp_local_provider_mcp::session::Attachment;
use std::fmt;
use std::sync::Arc;

/// A request whose body is still to come.
pub(super) struct Post {
    caller: Caller,
    task: Rest,
    /// Server and tool of the path, where it names them.
    server: String,
    tool: String,
}

impl fmt::Debug for Post {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Post({:?})", self.task)
    }
}

/// Calls a tool of a server on behalf of a caller: `body` is that of `POST /tools/call`.
pub(super) fn call_for(engine: &Arc<Engine>, caller: &Caller, body: &[u8]) -> Step {
    let mut inbound = Inbound::new(engine, engine.config(), caller.address);
    inbound.dialect = Dialect::Rest;
    inbound.account.describe(|info| {
        info.endpoint = CALL_TOOL;
        info.key = Some(caller.name.clone());
    });
    let post = Post {
        caller: caller.clone(),
        task: Rest::CallTool,
        server: String::new(),
        tool: String::new(),
    };
    post.complete(inbound, body)
}

/// Subscribes a session of a caller to a resource of the registry, or ends that.
pub(super) fn subscribe_for(
    inbound: Inbound,
    caller: &Caller,
    (session, uri): (&str, &str),
    subscribes: bool,
) -> Step {
    let engine = inbound.account.engine().clone();
    let Some(gateway) = engine.gateway() else {
        return refuse(inbound, &unknown_session()).into();
    };
    let request = Request {
        engine: &engine,
        gateway,
        caller,
    };
    let work = request.own(session).and_then(|cell| {
        let own = cell.servers().iter().zip(0..);
        let mut own = own.filter(|(server, _)| *server.name == *REGISTRY_SERVER);
        let Some((_, at)) = own.next() else {
            let message = "the session has no server `registry`; open one at /servers/registry/mcp, or at /mcp with a key that may use it";
            return Err(Failure::wrong(message, Some("session_id")));
        };
        let shown = cell.call(|session, _| session.shown_uri(Attachment(at), uri));
        Ok(Work::subscription(session, uri, &shown, subscribes))
    });
    match work {
        Ok(work) => running(request.work(&inbound, work), inbound),
        Err(failure) => refuse(inbound, &failure).into(),
    }
}

/// Next step after the head of a request.
pub(super) enum Begun {
    /// An answer.
    Step(Step),
    /// The body is to be read.
    Body(Inbound, Post),
}

/// Begins a request by its head.
pub(super) fn begin(
    inbound: Inbound,
    accepted: &Accepted<'_>,
    task: Rest,
    asked: &Asked<'_>,
) -> Begun {
    let engine = inbound.account.engine().clone();
    let (gateway, caller) = match enter(&engine, accepted, Transport::Rest) {
        Ok(entered) => entered,
        Err(refusal) => return Begun::Step(inbound.refuse(&refusal).into()),
    };
    // Browsers say the type of what a page sends; others may leave it out.
    let checked = match (task, asked.content_type) {
        (Rest::Page, _) => Ok(()),
        (_, Some(_)) if accepted.route.body => {
            asked.accepts_all(&[JSON]).and_then(|()| asked.has_json())
        }
        (_, Some(_) | None) => asked.accepts_all(&[JSON]),
    };
    if let Err(refusal) = checked {
        return Begun::Step(refuse(inbound, &refusal.into()).into());
    }
    let named = |parameter| accepted.parameters.get(parameter).unwrap_or_default();
    if accepted.route.body {
        let post = Post {
            caller,
            task,
            server: named("server").into_owned(),
            tool: named("tool").into_owned(),
        };
        return Begun::Body(inbound, post);
    }
    let request = Request {
        engine: &engine,
        gateway,
        caller: &caller,
    };
    let most = gateway.config().message_bytes;
    let work = match task {
        Rest::Description => Work::description(&named("server"), most),
        Rest::Page => Work::page(&named("server"), most),
        Rest::OpenSession
        | Rest::ListSessions
        | Rest::ShowSession
        | Rest::EndSession
        | Rest::Discover(_)
        | Rest::CallTool
        | Rest::ReadResource
        | Rest::Subscribe
        | Rest::Unsubscribe
        | Rest::GetPrompt
        | Rest::Tool
        | Rest::Servers
        | Rest::Restart => {
            let (of, status) = if task == Rest::Restart {
                ("server", 202)
            } else {
                ("id", 200)
            };
            return Begun::Step(match request.answer(task, &named(of)) {
                Ok(body) => whole(inbound, status, body.into_bytes()).into(),
                Err(failure) => refuse(inbound, &failure).into(),
            });
        }
    };
    Begun::Step(running(request.work(&inbound, work), inbound))
}

/// Goes on with an answer that takes its time.
fn running(respond: Result<Box<dyn Respond>, Failure>, inbound: Inbound) -> Step {
    match respond {
        Ok(respond) => Step::Running(Running::new(respond, inbound)),
        Err(failure) => refuse(inbound, &failure).into(),
    }
}

fn whole(inbound: Inbound, status: u16, body: Vec<u8>) -> Answer {
    let head = ReplyHead::new(status, JSON, inbound.account.id());
    let reply = Reply {
        head: Some(head),
        body,
    };
    inbound.complete(reply, Verdict::Completed)
}

/// Refuses in the form of the route.
fn refuse(inbound: Inbound, failure: &Failure) -> Answer {
    let mut reply = Reply::default();
    fail(&mut reply, inbound.dialect, inbound.account.id(), failure);
    inbound.complete(reply, Verdict::Failed(failure.code))
}

/// Writes an error in the form of a route.
pub(super) fn fail(reply: &mut Reply, dialect: Dialect, id: ExchangeId, failure: &Failure) {
    reply.body.clear();
    match dialect {
        Dialect::Tool => failure.write_detail(&mut reply.body),
        Dialect::Rest | Dialect::OpenAi | Dialect::Ollama | Dialect::Anthropic | Dialect::Mcp => {
            failure.write(&mut reply.body);
        }
    }
    let mut head = ReplyHead::new(failure.status, JSON, id);
    head.retry_after = failure.retry_after;
    reply.head = Some(head);
}

/// Writes an answer with status 200.
pub(super) fn answer(reply: &mut Reply, id: ExchangeId, done: Done) {
    reply.head = Some(ReplyHead::new(200, done.content_type, id));
    reply.body = done.body;
}

/// The error of a session that is not there.
pub(super) fn unknown_session() -> Failure {
    Failure::from(Refusal::new(
        Reason::SessionNotFound,
        "Session not found: it has ended, or was opened with another key; open another one with POST /sessions",
    ))
}

impl Post {
    /// Goes on with the whole body.
    pub(super) fn complete(self, inbound: Inbound, body: &[u8]) -> Step {
        let engine = inbound.account.engine().clone();
        let Some(gateway) = engine.gateway() else {
            let refusal = CoreRefusal::new(Code::NotFound, "no MCP servers");
            return inbound.refuse(&refusal).into();
        };
        // The key may have gone since the head came.
        if let Err(refusal) = engine.policy().keys.confirm(&self.caller) {
            return inbound.refuse(&refusal).into();
        }
        let request = Request {
            engine: &engine,
            gateway,
            caller: &self.caller,
        };
        running(request.ask(&inbound, &self, body), inbound)
    }
}

/// A request with what answers it.
struct Request<'r> {
    engine: &'r Arc<Engine>,
    gateway: &'r Gateway,
    caller: &'r Caller,
}

impl Request<'_> {
    /// Answers a request that asks no server. `id` is what the path names.
    fn answer(&self, task: Rest, id: &str) -> Result<String, Failure> {
        let describe = |cell: &Arc<SessionCell>| cell.describe(self.engine, self.gateway, true);
        let sees_all = match self.caller.role {
            Role::Operator | Role::Admin => true,
            Role::Client | Role::Bridge => false,
        };
        match task {
            Rest::ListSessions => {
                let mut cells = self.gateway.all_sessions();
                cells.retain(|cell| sees_all || cell.client.key == self.caller.credential);
                let sessions: Vec<String> = cells.iter().map(describe).collect();
                let count = sessions.len();
                let sessions = sessions.join(",");
                Ok(format!(
                    "{{\"sessions\":[{sessions}],\"total_count\":{count}}}"
                ))
            }
            Rest::ShowSession => {
                let all = || self.gateway.all_sessions().into_iter();
                let found = self.own(id).or_else(|missing| {
                    let any = all().find(|cell| sees_all && *cell.id == *id);
                    any.ok_or(missing)
                });
                found.map(|cell| describe(&cell))
            }
            Rest::EndSession => {
                let cell = self.own(id)?;
                self.gateway.end(self.engine, &cell);
                Ok(format!(
                    "{{\"session_id\":\"{}\",\"status\":\"deleted\"}}",
                    cell.id
                ))
            }
            Rest::Servers => {
                let may_use = |name: &str| self.caller.may_use_server(name);
                let mut listed = self.gateway.list(may_use, sees_all);
                let own = listed.iter_mut().find(|it| it.wire == Wire::Internal);
                if let (Some(own), Some(registry)) = (own, self.engine.registry()) {
                    own.tools = Some(registry.tools());
                }
                Ok(servers(&listed))
            }
            Rest::Restart => {
                let address = address_of(self.gateway, self.caller, Some(id))?;
                for server in address.servers() {
                    self.gateway.restart(self.engine, &server.name);
                }
                Ok(restarting(id))
            }
            Rest::OpenSession
            | Rest::Discover(_)
            | Rest::CallTool
            | Rest::ReadResource
            | Rest::Subscribe
            | Rest::Unsubscribe
            | Rest::GetPrompt
            | Rest::Tool
            | Rest::Description
            | Rest::Page => Err(Failure::wrong("this route asks a server", None)),
        }
    }

    /// The caller's session of that id.
    fn own(&self, id: &str) -> Result<Arc<SessionCell>, Failure> {
        let own = self.gateway.session(id, &client(self.caller));
        own.ok_or_else(unknown_session)
    }

    /// Begins a request that asks a server.
    fn ask(
        &self,
        inbound: &Inbound,
        post: &Post,
        body: &[u8],
    ) -> Result<Box<dyn Respond>, Failure> {
        let most = self.gateway.config().message_bytes;
        if post.task == Rest::Tool {
            return self.work(inbound, Work::tool(&post.server, &post.tool, body, most)?);
        }
        let body = Body::read(body)?;
        let work = match post.task {
            Rest::OpenSession => return self.open(inbound, body),
            Rest::Discover(Listed::Tools) => Work::tools(body, most),
            Rest::Discover(Listed::Resources) => Work::resources(body, most),
            Rest::Discover(Listed::Prompts) => Work::prompts(body, most),
            Rest::CallTool => Work::call_tool(body, most),
            Rest::ReadResource => Work::read_resource(body),
            Rest::Subscribe => Work::subscribe(body, true),
            Rest::Unsubscribe => Work::subscribe(body, false),
            Rest::GetPrompt => Work::get_prompt(body, most),
            Rest::ListSessions
            | Rest::ShowSession
            | Rest::EndSession
            | Rest::Tool
            | Rest::Description
            | Rest::Page
            | Rest::Servers
            | Rest::Restart => Err(Failure::wrong("this route takes no body", None)),
        }?;
        self.work(inbound, work)
    }

    fn open(&self, inbound: &Inbound, body: Body<'_>) -> Result<Box<dyn Respond>, Failure> {
        let opening = body.opening()?;
        let address = self.address(opening.server.as_deref())?;
        let mut client = client(self.caller);
        self.takes(&client)?;
        client.name = (*opening.client_id).into();
        let initialize = Initialize {
            id: "0",
            params: &opening.hello,
            transport: Transport::Rest,
        };
        let name = self.gateway.mint();
        let (cell, stream) = self.gateway.open(
            self.engine,
            client,
            self.caller,
            &address,
            name,
            &initialize,
        )?;
        if let Some(metadata) = opening.metadata {
            cell.call(|session, _| session.note(metadata));
        }
        let id = inbound.account.id();
        let opening = Opening::new(self.engine, &cell, stream, inbound.dialect, id);
        Ok(Box::new(opening.ok_or_else(unknown_session)?))
    }

    fn work(&self, inbound: &Inbound, work: Work) -> Result<Box<dyn Respond>, Failure> {
        let client = client(self.caller);
        let (cell, opening) = match work.target() {
            Target::Session(id) => {
                let cell = self.own(id)?;
                self.takes(&client)?;
                (cell, None)
            }
            Target::Server(name) => {
                let address = self.address(Some(name))?;
                self.takes(&client)?;
                let standing = self
                    .gateway
                    .standing(self.engine, &client, self.caller, &address);
                match standing? {
                    Standing::Known(cell) => (cell, None),
                    Standing::Opening(cell, stream) => (cell, Some(stream)),
                }
            }
        };
        let asking = Asking::new(self.engine, cell, work, inbound);
        Ok(Box::new(asking.begin(opening)?))
    }

    /// The server of that name, or all, if the caller may use them.
    fn address(&self, named: Option<&str>) -> Result<Address, Refusal> {
        let address = address_of(self.gateway, self.caller, named)?;
        uphold(self.engine, self.caller, &address).map(|()| address)
    }

    /// Counts a request that asks a server.
    fn takes(&self, client: &super::gateway::Client) -> Result<(), Failure> {
        admit(self.engine)?;
        self.gateway.count(self.engine.clock(), client)?;
        Ok(())
    }
}
