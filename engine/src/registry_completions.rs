//! Requests for completions: whole, as events, and in the background.

use super::Engine;
use super::account::Account;
use super::inbound::Inbound;
use super::registry_handle::RegistryHandle;
use super::registry_request::{ended, is_off, whole};
use super::registry_rounds::{Origin, Rounding, Step as Looked, Told};
use super::request::Step;
use super::running::{Polled, Respond, Running};
use super::upstreams::Carried;
use crate::background::Background;
use mcp_local_provider_core::api::{Accepted, CompletionTask};
use mcp_local_provider_core::budget::STEP;
use mcp_local_provider_core::config::{Area, Role};
use mcp_local_provider_core::error::{Code, Refusal};
use mcp_local_provider_core::exchange::{EVENT_STREAM, Reply, ReplyHead};
use mcp_local_provider_core::hub::keys::{Caller, digest};
use mcp_local_provider_core::hub::{CLIENT_GONE, Outcome, Verdict};
use mcp_local_provider_core::id::ExchangeId;
use mcp_local_provider_core::time::Instant;
use mcp_local_provider_registry::rest::Answer;
use mcp_local_provider_registry::{
    Answering, AskedWith, CompletionEvent, CompletionRequest, Failure, IntegrationSet,
    NewCompletion, OwnerId,
};
use std::fmt;
use std::sync::Arc;
use std::task::{Poll, Waker};

/// A completion that is asked for, once its body is there.
#[derive(Debug)]
pub(super) struct Post {
    pub(super) caller: Caller,
    pub(super) task: CompletionTask,
    /// The id of the path.
    pub(super) id: String,
    pub(super) carried: Option<Box<Carried>>,
}

/// Begins a request by its head.
pub(super) fn begin(
    inbound: Inbound,
    accepted: &Accepted<'_>,
    task: CompletionTask,
    carried: Option<Box<Carried>>,
) -> Result<(Inbound, Post), Box<Step>> {
    let Some(caller) = accepted.caller.clone() else {
        let why = "a route of the registry must ask for a key";
        let refusal = Refusal::new(Code::Internal, why);
        return Err(Box::new(inbound.refuse(&refusal).into()));
    };
    let id = accepted.parameters.get("completion_id");
    let post = Post {
        caller,
        task,
        id: id.unwrap_or_default().into_owned(),
        carried,
    };
    Ok((inbound, post))
}

/// The key that asks, as completions are found by it.
fn owner_of(caller: &Caller) -> OwnerId {
    let key = caller.authority.key();
    OwnerId(key.map_or(0, |key| u64::from(key.0.get())))
}

impl Post {
    /// Goes on with the whole body.
    pub(super) fn complete(self, inbound: Inbound, body: &[u8]) -> Step {
        let engine = inbound.account.engine().clone();
        let Some(cell) = engine.registry() else {
            return inbound.refuse(&is_off()).into();
        };
        let permitted = engine.policy().keys.confirm(&self.caller);
        let permitted = permitted.and_then(|()| self.caller.require_area(Area::Registry));
        if let Err(refusal) = permitted {
            return inbound.refuse(&refusal).into();
        }
        let is_operators = matches!(self.caller.role, Role::Operator | Role::Admin);
        let owner = (!is_operators).then(|| owner_of(&self.caller));
        let completions = &cell.completions;
        let (now, wall) = (engine.now(), engine.wall());
        let answered = match self.task {
            CompletionTask::Create | CompletionTask::Stream => {
                return self.start(inbound, cell, body);
            }
            CompletionTask::Show => completions.show(now, &self.id, owner, &wall),
            CompletionTask::Delete => completions.remove(now, &self.id, owner),
        };
        whole(inbound, answer(200, answered)).into()
    }

    /// Begins the completion that a body asks for. Nothing is asked before it is looked at.
    pub(super) fn begin(
        self,
        engine: &Arc<Engine>,
        request_id: ExchangeId,
        cell: &RegistryHandle,
        body: &[u8],
    ) -> Result<Completing, Failure> {
        let permitted = engine.policy().keys.confirm(&self.caller);
        permitted.map_err(|refusal| Failure::of(&refusal))?;
        let request = cell.completion_request(body)?;
        let completing = self.completing(engine, request_id, cell, request);
        completing.map_err(|refusal| Failure::of(&refusal))
    }

    fn start(self, inbound: Inbound, cell: &RegistryHandle, body: &[u8]) -> Step {
        let engine = inbound.account.engine().clone();
        let task = self.task;
        let completing = match self.begin(&engine, inbound.account.id(), cell, body) {
            Ok(completing) => completing,
            Err(failure) => return whole(inbound, Answer::of(&failure)).into(),
        };
        match task {
            CompletionTask::Stream => {
                let stream = Stream {
                    sent: 0,
                    keep_alive: None,
                    completing,
                };
                Step::Running(Running::new(Box::new(stream), inbound))
            }
            CompletionTask::Create | CompletionTask::Show | CompletionTask::Delete => {
                if completing.is_in_background {
                    let shown = completing.show();
                    engine.spawn(Box::new(completing));
                    return whole(inbound, answer(202, shown)).into();
                }
                let waiting = Waiting(completing);
                Step::Running(Running::new(Box::new(waiting), inbound))
            }
        }
    }

    /// Makes a completion.
    fn completing(
        self,
        engine: &Arc<Engine>,
        request_id: ExchangeId,
        cell: &RegistryHandle,
        request: CompletionRequest,
    ) -> Result<Completing, Refusal> {
        let integration = request.integration.as_ref().map(|it| &it.integration);
        if let Some(integration) = integration {
            let model = integration.model_id();
            engine.hub(|hub, _, _| hub.permit_model(&self.caller, &model))?;
        }
        let integration = integration.map(|it| it.id.clone());
        let set = request.integration;
        let set = set.unwrap_or_else(|| IntegrationSet::of_model(&request.model));
        let asked = AskedWith {
            messages: &request.messages,
            tools: None,
            parameters: request.parameters.as_deref(),
            model: None,
            cuts: false,
        };
        let owner = owner_of(&self.caller);
        let origin = Origin {
            engine: engine.clone(),
            cell: cell.clone(),
            caller: self.caller,
            carried: self.carried,
            depth: 0,
        };
        let rounding = Rounding::new(origin, set, asked)?;
        let id = new_id(engine, request_id);
        let now = engine.now();
        let new = NewCompletion {
            id: id.clone(),
            owner,
            integration,
            model: request.model.into(),
        };
        let begun = cell.completions.begin(now, new);
        begun.map_err(super::registry_rounds::refusal_of)?;
        let config = engine.config();
        Ok(Completing {
            engine: engine.clone(),
            cell: cell.clone(),
            id,
            owner,
            rounding,
            answering: Answering::new(config.limits.answer_bytes),
            until: now + config.timeouts.total,
            is_in_background: request.background,
            is_started: false,
            is_over: false,
        })
    }
}

/// An id that cannot be guessed.
fn new_id(engine: &Engine, request: ExchangeId) -> Arc<str> {
    let mut secret = engine.seed.to_vec();
    secret.extend_from_slice(b"completion");
    secret.extend_from_slice(&request.text());
    let name = digest(&secret);
    let hex = name.iter().take(16);
    let id = hex.fold("cmpl_".to_owned(), |text, byte| {
        text + &format!("{byte:02x}")
    });
    id.into()
}

fn answer(status: u16, body: Result<String, Failure>) -> Answer {
    match body {
        Ok(body) => Answer::json(status, body),
        Err(failure) => Answer::of(&failure),
    }
}

/// A completion that is open. Dropping it ends what it has begun.
pub(super) struct Completing {
    engine: Arc<Engine>,
    cell: RegistryHandle,
    id: Arc<str>,
    owner: OwnerId,
    rounding: Rounding,
    answering: Answering,
    /// Time by which it must have ended.
    until: Instant,
    is_in_background: bool,
    is_started: bool,
    is_over: bool,
}

impl fmt::Debug for Completing {
    /// Without what is asked and said.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Completing({})", self.id)
    }
}

/// Result of a look at a completion.
pub(super) enum Seen {
    Pending,
    Again,
    /// It is over, and was told.
    Over(Result<String, Failure>),
}

impl Completing {
    /// Its id.
    pub(super) const fn id(&self) -> &Arc<str> {
        &self.id
    }

    fn show(&self) -> Result<String, Failure> {
        let (now, wall) = (self.engine.now(), self.engine.wall());
        self.cell
            .completions
            .show(now, &self.id, Some(self.owner), &wall)
    }

    /// Goes on once, and tells what happens.
    pub(super) fn look(
        &mut self,
        waker: &Waker,
        tell: &mut dyn FnMut(&CompletionEvent<'_>),
    ) -> Seen {
        let now = self.engine.clock();
        if !self.cell.completions.is_wanted(&self.id, waker) {
            return self.over(now, Err(Failure::cancelled()));
        }
        if self.until <= now {
            let why = "the completion took too long (timeouts.total)";
            return self.over(now, Err(Failure::timeout(why)));
        }
        if !std::mem::replace(&mut self.is_started, true) {
            self.cell.completions.started(&self.id);
            tell(&CompletionEvent::Started(&self.id));
            return Seen::Again;
        }
        let answering = &mut self.answering;
        let looked = self.rounding.look(now, waker, &mut |told| match told {
            Told::Delta(delta) => answering.take(delta, tell),
            Told::Tool(event) => tell(&CompletionEvent::Tool(event)),
        });
        match looked {
            Looked::Pending => Seen::Pending,
            Looked::Again => match self.answering.check() {
                Ok(()) => Seen::Again,
                Err(failure) => self.over(now, Err(failure)),
            },
            Looked::Failed(refusal) => self.over(now, Err(Failure::of(&refusal))),
            Looked::Ended(delivered) => {
                let (message, usage) = self.answering.finish(delivered.usage);
                self.over(now, Ok((message, usage)))
            }
        }
    }

    fn over(&mut self, now: Instant, end: Result<(String, String), Failure>) -> Seen {
        self.rounding.cancel();
        self.is_over = true;
        let failure = end.as_ref().err().cloned();
        let end = end.as_ref().map(|(message, usage)| (&**message, &**usage));
        let end = end.map_err(Clone::clone);
        self.cell.completions.ended(now, &self.id, end);
        Seen::Over(match failure {
            Some(failure) => Err(failure),
            None => self.show(),
        })
    }

    /// When to look again though nobody woke the task.
    pub(super) fn poll_timeout(&self) -> Instant {
        let own = self.rounding.poll_timeout(self.engine.clock());
        own.map_or(self.until, |at| at.min(self.until))
    }
}

impl Drop for Completing {
    /// Its caller left.
    fn drop(&mut self) {
        if !self.is_over {
            let now = self.engine.clock();
            self.cell.completions.abandon(now, &self.id);
        }
    }
}

impl Background for Completing {
    fn poll(&mut self, waker: &Waker) -> Poll<()> {
        loop {
            match self.look(waker, &mut |_| {}) {
                Seen::Again => {}
                Seen::Pending => return Poll::Pending,
                Seen::Over(_) => return Poll::Ready(()),
            }
        }
    }

    fn poll_timeout(&self) -> Option<Instant> {
        Some(self.poll_timeout())
    }
}

/// A completion whose caller waits for the whole of it.
struct Waiting(Completing);

impl Respond for Waiting {
    fn poll(
        &mut self,
        _now: Instant,
        waker: &Waker,
        account: &mut Account,
        reply: &mut Reply,
    ) -> Polled {
        loop {
            match self.0.look(waker, &mut |_| {}) {
                Seen::Again => {}
                Seen::Pending => return Polled::Until(Some(self.0.poll_timeout())),
                Seen::Over(end) => return ended(reply, account.id(), answer(200, end)),
            }
        }
    }

    fn client_gone(&mut self, _now: Instant, _account: &mut Account) -> Outcome {
        self.0.rounding.cancel();
        Outcome::new(Verdict::ClientGone, CLIENT_GONE, 0)
    }
}

/// A completion that is told as events.
struct Stream {
    sent: u64,
    /// The next sign of life.
    keep_alive: Option<Instant>,
    completing: Completing,
}

impl Stream {
    fn open(&mut self, now: Instant, id: ExchangeId, reply: &mut Reply) {
        if self.keep_alive.is_none() {
            let mut head = ReplyHead::new(200, EVENT_STREAM, id);
            head.streamed = true;
            reply.head = Some(head);
        }
        let every = self.completing.engine.config().timeouts.keep_alive;
        self.keep_alive = Some(now + every);
    }
}

impl Respond for Stream {
    fn poll(
        &mut self,
        now: Instant,
        waker: &Waker,
        account: &mut Account,
        reply: &mut Reply,
    ) -> Polled {
        if self.keep_alive.is_none() {
            self.open(now, account.id(), reply);
        }
        let before = reply.body.len();
        loop {
            let body = &mut reply.body;
            let seen = self
                .completing
                .look(waker, &mut |event| event.write_sse(body));
            if let Seen::Over(end) = &seen {
                let verdict = match end {
                    Ok(shown) => {
                        CompletionEvent::Completed(shown).write_sse(body);
                        Verdict::Completed
                    }
                    Err(failure) => {
                        CompletionEvent::Error(failure).write_sse(body);
                        Verdict::Failed(failure.code)
                    }
                };
                let bytes = reply.body.len().saturating_sub(before);
                let bytes = self.sent + u64::try_from(bytes).unwrap_or(0);
                return Polled::Ended(Outcome::new(verdict, 200, bytes));
            }
            let pending = matches!(seen, Seen::Pending);
            if pending && reply.body.len() == before && self.keep_alive.is_some_and(|at| at <= now)
            {
                reply.body.extend_from_slice(b": keep-alive\n\n");
            }
            let written = reply.body.len().saturating_sub(before);
            if written > 0 && (pending || written > STEP) {
                self.sent += u64::try_from(written).unwrap_or(0);
                self.open(now, account.id(), reply);
                return Polled::Ready;
            }
            if pending {
                if reply.head.is_some() {
                    return Polled::Ready;
                }
                let own = self.completing.poll_timeout();
                return Polled::Until(self.keep_alive.map(|at| at.min(own)));
            }
        }
    }

    fn client_gone(&mut self, _now: Instant, _account: &mut Account) -> Outcome {
        self.completing.rounding.cancel();
        Outcome::new(Verdict::ClientGone, 200, self.sent)
    }
}
