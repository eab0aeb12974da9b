//! Requests to `/mcp/agent`, by which clients of the Model Context Protocol become agents: Streamable HTTP, in sessions and, in
//! revision 2026-07-28, without.

use super::Engine;
use super::answer::Answer;
use super::gateway::Client;
use super::inbound::Inbound;
use super::mcp_agents::{About, AgentCell};
use super::mcp_answering::Responding;
use super::mcp_body::{Read, read};
use super::mcp_request::{
    Asked, admit, check, client, no_session, refuse, spoken, unknown_session,
};
use super::mcp_stateless::id_of;
use super::request::Step;
use super::running::Running;
use mcp_local_provider_core::agents::sampling::Declared;
use mcp_local_provider_core::api::{Accepted, Answered};
use mcp_local_provider_core::error::{Code, Refusal as CoreRefusal};
use mcp_local_provider_core::exchange::{JSON, Reply, ReplyHead};
use mcp_local_provider_core::hub::Verdict;
use mcp_local_provider_core::hub::keys::Caller;
use mcp_local_provider_core::rpc::{Call, Message};
use mcp_local_provider_core::text::JsonValue;
use mcp_local_provider_mcp::config::Timeouts;
use mcp_local_provider_mcp::refusal::{Reason, Refusal};
use mcp_local_provider_mcp::serving::{self, Hello, Spoken};
use mcp_local_provider_mcp::stateless::{self, Headers, Wanted};
use mcp_local_provider_mcp::streams::{Position, StreamId};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// A POST whose body is still to come.
pub(crate) struct Post {
    caller: Caller,
    token: Option<String>,
    session: Option<String>,
    version: Option<String>,
    called: Option<String>,
    name: Option<String>,
}

impl fmt::Debug for Post {
    /// Without the token and the id of the session.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Post({})", self.caller.name)
    }
}

/// Next step after the head of a request.
pub(crate) enum Begun {
    /// An answer.
    Step(Step),
    /// The body is to be read.
    Body(Inbound, Post),
}

/// The reason for which a request has no answer of its own.
enum Refused {
    /// The hub does not take the agent.
    Agent(CoreRefusal),
    /// It is none that can be answered.
    Request(Refusal),
}

impl From<CoreRefusal> for Refused {
    fn from(refusal: CoreRefusal) -> Self {
        Self::Agent(refusal)
    }
}

impl From<Refusal> for Refused {
    fn from(refusal: Refusal) -> Self {
        Self::Request(refusal)
    }
}

impl Refused {
    fn answer(self, inbound: Inbound, id: &str) -> Answer {
        match self {
            Self::Agent(refusal) => inbound.refuse(&refusal),
            Self::Request(refusal) => refuse(inbound, &refusal, id),
        }
    }
}

/// What becomes of a message.
enum Handled {
    /// There is no answer.
    Nothing,
    /// This is the answer.
    Answer(String),
    /// The answer comes on this stream.
    Stream(Arc<AgentCell>, StreamId),
}

/// Begins a request by its head.
pub(crate) fn begin(inbound: Inbound, accepted: &Accepted<'_>, asked: &Asked<'_>) -> Begun {
    let Some(caller) = accepted.caller.clone() else {
        let why = "a route for agents must ask for a key";
        let refusal = CoreRefusal::new(Code::Internal, why);
        return Begun::Step(inbound.refuse(&refusal).into());
    };
    if let Err(refusal) = check(asked) {
        return Begun::Step(refuse(inbound, &refusal, "null").into());
    }
    if asked.method == "POST" {
        let post = Post {
            caller,
            token: accepted.token.as_deref().map(str::to_owned),
            session: asked.session.map(str::to_owned),
            version: asked.version.map(str::to_owned),
            called: asked.called.map(str::to_owned),
            name: asked.name.map(str::to_owned),
        };
        return Begun::Body(inbound, post);
    }
    let engine = inbound.account.engine().clone();
    let cell = find(&engine, asked.session, &client(&caller));
    Begun::Step(match cell {
        Err(refusal) => refuse(inbound, &refusal, "null").into(),
        Ok(cell) if asked.method == "DELETE" => {
            cell.end(&engine);
            inbound.answered(Ok(Answered::Nothing)).into()
        }
        Ok(cell) => match listen(&engine, &inbound, &cell, asked.last_event) {
            Ok(responding) => Step::Running(Running::new(responding, inbound)),
            Err(refused) => refused.answer(inbound, "null").into(),
        },
    })
}

/// The session of a request.
fn find(
    engine: &Engine,
    session: Option<&str>,
    client: &Client,
) -> Result<Arc<AgentCell>, Refusal> {
    let id = session.ok_or_else(no_session)?;
    let found = engine.mcp_agents.find(id, client);
    let found = found.filter(|cell| cell.about.spoken != Spoken::Stateless);
    found.ok_or_else(unknown_session)
}

/// Answers a GET: the session's own stream, or the rest of one that was cut. Who reads it can be asked.
fn listen(
    engine: &Arc<Engine>,
    inbound: &Inbound,
    cell: &Arc<AgentCell>,
    last_event: Option<&str>,
) -> Result<Box<Responding<AgentCell>>, Refused> {
    let stream = match last_event {
        None => Some(StreamId::SESSION),
        Some(text) => Position::parse(text).and_then(|to| {
            let is_kept = cell.call(|machine, _| machine.streams_mut().rewind(to));
            is_kept.then_some(to.stream)
        }),
    };
    let gone = || {
        let message = "the event in Last-Event-ID is not kept any more; go on without the header";
        Refusal::new(Reason::EventGone, message)
    };
    let stream = stream.ok_or_else(gone)?;
    cell.register(engine)?;
    let id = inbound.account.id();
    let responding = Responding::events(engine, cell, stream, id, times(engine));
    Ok(responding.ok_or_else(gone)?)
}

impl Post {
    /// Goes on with the whole body.
    pub(crate) fn complete(self, inbound: Inbound, body: &[u8]) -> Step {
        let engine = inbound.account.engine().clone();
        // The key may have gone since the head came.
        if let Err(refusal) = engine.policy().keys.confirm(&self.caller) {
            return inbound.refuse(&refusal).into();
        }
        let (messages, is_batch) = match read(body) {
            Ok(read) => read,
            Err(refusal) => return refuse(inbound, &refusal, "null").into(),
        };
        let (id, handled) = match messages.as_slice() {
            [(_, message)] if stateless::is_meant(self.version.as_deref(), message) => {
                (id_of(message), self.without_session(&engine, message))
            }
            [(_, Message::Request { id, call })] if self.session.is_none() && !is_batch => {
                return match self.initialize(&engine, *id, call) {
                    Ok((cell, text)) => answer(inbound, text, Some(&cell.id)).into(),
                    Err(refused) => refused.answer(inbound, id.get()).into(),
                };
            }
            messages => {
                let id = match messages {
                    [(_, message)] => id_of(message),
                    _ => "null",
                };
                (id, self.in_session(&engine, messages, is_batch))
            }
        };
        match handled {
            Ok(Handled::Nothing) => inbound.answered(Ok(Answered::Accepted)).into(),
            Ok(Handled::Answer(text)) => answer(inbound, text, None).into(),
            Ok(Handled::Stream(cell, stream)) => {
                let (id, times) = (inbound.account.id(), times(&engine));
                match Responding::answer(&engine, &cell, stream, id, times, false) {
                    Some(responding) => Step::Running(Running::new(responding, inbound)),
                    None => refuse(inbound, &unknown_session(), "null").into(),
                }
            }
            Err(refused) => refused.answer(inbound, id).into(),
        }
    }

    fn about(&self, hello: &Hello<'_>) -> About {
        About {
            client: client(&self.caller),
            name: hello.name(),
            spoken: hello.spoken,
            // That it can be asked was looked at.
            declared: Declared::read(hello.capabilities, hello.spoken.has_lists())
                .unwrap_or_default(),
        }
    }

    /// Opens a session.
    fn initialize(
        &self,
        engine: &Arc<Engine>,
        id: JsonValue<'_>,
        call: &Call<'_>,
    ) -> Result<(Arc<AgentCell>, String), Refused> {
        if call.method != "initialize" {
            return Err(no_session().into());
        }
        let hello = Hello::initialize(call)?;
        admit(engine)?;
        let agents = &engine.mcp_agents;
        let (cell, ()) = agents.open(engine, self.about(&hello), self.token.clone(), |_| ())?;
        Ok((cell, hello.greeting(id)))
    }

    /// Takes the messages of a session.
    fn in_session(
        &self,
        engine: &Arc<Engine>,
        messages: &[Read<'_>],
        is_batch: bool,
    ) -> Result<Handled, Refused> {
        spoken(self.version.as_deref())?;
        let cell = find(engine, self.session.as_deref(), &client(&self.caller))?;
        let has_batches = match cell.about.spoken {
            Spoken::Sessions(revision) => revision.has_batches(),
            Spoken::Stateless => false,
        };
        if is_batch && !has_batches {
            let message = "batches are of revision 2025-03-26 alone; send each message by itself";
            return Err(Refusal::new(Reason::BadRequest, message).into());
        }
        let mut answers = Vec::new();
        for (_, message) in messages {
            match take(engine, &cell, message, is_batch)? {
                Handled::Nothing => {}
                Handled::Answer(text) => answers.push(text),
                stream @ Handled::Stream(..) => return Ok(stream),
            }
        }
        Ok(match answers.as_slice() {
            [] => Handled::Nothing,
            [one] if !is_batch => Handled::Answer(one.clone()),
            all => Handled::Answer(format!("[{}]", all.join(","))),
        })
    }

    /// Takes a message of revision 2026-07-28.
    fn without_session(
        &self,
        engine: &Arc<Engine>,
        message: &Message<'_>,
    ) -> Result<Handled, Refused> {
        let (id, call) = match message {
            Message::Request { id, call } => (*id, call),
            Message::Notification(_) => return Ok(Handled::Nothing),
            Message::Response { .. } => {
                let message = "nothing is asked of a client but by the answer to its own request";
                return Err(Refusal::new(Reason::BadRequest, message).into());
            }
        };
        let headers = Headers {
            version: self.version.as_deref(),
            method: self.called.as_deref(),
            name: self.name.as_deref(),
            given: None,
        };
        let wanted = Wanted::read(&headers, id, call)?;
        let time = match serving::without_session(&wanted)? {
            serving::Asked::Answer(text) => return Ok(Handled::Answer(text)),
            serving::Asked::Serve(time) => time,
        };
        let about = self.about(&Hello::stateless(&wanted)?);
        let (cell, stream) = match wanted.param("requestState") {
            Some(state) => go_on(engine, &about.client, state, &wanted)?,
            None => self.serve(engine, about, id, time)?,
        };
        Ok(Handled::Stream(cell, stream))
    }

    /// Begins a call of revision 2026-07-28: by the client that has called before and has ended that call, or by another one.
    fn serve(
        &self,
        engine: &Arc<Engine>,
        about: About,
        id: JsonValue<'_>,
        time: Duration,
    ) -> Result<(Arc<AgentCell>, StreamId), Refused> {
        admit(engine)?;
        let now = engine.clock();
        for cell in engine.mcp_agents.alike(&about) {
            let stream = cell.call(|machine, wake| {
                let is_idle = machine.is_idle();
                is_idle.then(|| machine.serve(now, id.get(), time, wake))
            });
            if let Some(stream) = stream {
                return Ok((cell, stream?));
            }
        }
        let agents = &engine.mcp_agents;
        let (cell, stream) = agents.open(engine, about, self.token.clone(), |machine| {
            // Nobody waits for it yet.
            machine.serve(now, id.get(), time, &mut Vec::new())
        })?;
        let stream = stream?;
        cell.register(engine)?;
        Ok((cell, stream))
    }
}

/// Goes on with a call of revision 2026-07-28.
fn go_on(
    engine: &Arc<Engine>,
    client: &Client,
    state: JsonValue<'_>,
    wanted: &Wanted<'_>,
) -> Result<(Arc<AgentCell>, StreamId), Refusal> {
    let state = state.text().unwrap_or_default();
    let found = serving::name_of(&state);
    let found = found.and_then(|(name, _)| engine.mcp_agents.find(name, client));
    let cell = found.ok_or_else(|| {
        let message = "`requestState` is of no call that is open, or of another key's";
        Refusal::new(Reason::BadParams, message)
    })?;
    let now = engine.clock();
    let mut answers = Vec::new();
    let stream = cell.call(|machine, wake| {
        machine.go_on(now, wanted, wake, &mut |of, result| {
            answers.push((of, result));
        })
    })?;
    cell.answered_all(&answers);
    Ok((cell, stream))
}

/// Times of streams.
fn times(engine: &Engine) -> Timeouts {
    let gateway = engine.gateway();
    gateway.map_or_else(Timeouts::default, |gateway| gateway.config().timeouts)
}

/// Takes one message of a session.
fn take(
    engine: &Arc<Engine>,
    cell: &Arc<AgentCell>,
    message: &Message<'_>,
    is_batch: bool,
) -> Result<Handled, Refused> {
    let now = engine.clock();
    match message {
        Message::Request { id, call } => match serving::in_session(*id, call) {
            serving::Asked::Answer(text) => Ok(Handled::Answer(text)),
            serving::Asked::Serve(_) if is_batch => {
                let message = "`serve` takes its time: call it by itself, not in a batch";
                let refusal = Refusal::new(Reason::BadRequest, message);
                Ok(Handled::Answer(refusal.answer(id.get())))
            }
            serving::Asked::Serve(time) => {
                admit(engine)?;
                cell.register(engine)?;
                let stream = cell.call(|machine, wake| machine.serve(now, id.get(), time, wake))?;
                Ok(Handled::Stream(cell.clone(), stream))
            }
        },
        Message::Notification(call) => {
            let request = call.params.and_then(|params| params.member("requestId"));
            if let Some(request) = request.filter(|_| call.method == "notifications/cancelled") {
                cell.call(|machine, wake| machine.cancelled(now, request, wake));
            }
            Ok(Handled::Nothing)
        }
        Message::Response { id, outcome } => {
            cell.answered(now, *id, outcome);
            Ok(Handled::Nothing)
        }
    }
}

/// Answers with a whole message, and with the session that it has opened.
fn answer(inbound: Inbound, text: String, session: Option<&str>) -> Answer {
    let mut head = ReplyHead::new(200, JSON, inbound.account.id());
    head.mcp_session = session.map(Box::from);
    let reply = Reply {
        head: Some(head),
        body: text.into_bytes(),
    };
    inbound.complete(reply, Verdict::Completed)
}
