//! Requests to the registry: from the head to an answer, to a change that is stored first, or to a run.

use super::Engine;
use super::account::Account;
use super::answer::Answer as Whole;
use super::inbound::Inbound;
use super::mcp_request;
use super::mcp_rest;
use super::registry_cell::Setup;
use super::registry_handle::RegistryHandle;
use super::registry_permits as permits;
use super::registry_subscribing::Subscribed;
use super::registry_work::RunningWork;
use super::request::Step;
use super::running::{Polled, Respond, Running};
use crate::promise::Promised;
use mcp_local_provider_core::api::{Accepted, Registered, RegistryTask};
use mcp_local_provider_core::error::{Code, Refusal};
use mcp_local_provider_core::exchange::{JSON, NDJSON, Reply, ReplyHead};
use mcp_local_provider_core::hub::keys::Caller;
use mcp_local_provider_core::hub::{CLIENT_GONE, Outcome, Verdict};
use mcp_local_provider_core::id::ExchangeId;
use mcp_local_provider_core::time::Instant;
use mcp_local_provider_registry::rest::{Answer, Request, Route, Shown, Step as Begun};
use mcp_local_provider_registry::{Failure, Kind, Limits, StoreError};
use std::fmt;
use std::sync::Arc;
use std::task::{Poll, Waker};

impl Engine {
    /// Gives the engine its registry. A second one changes nothing.
    pub fn open_registry(self: &Arc<Self>, setup: Setup) {
        let cell = self.registry.get_or_init(|| RegistryHandle::new(setup));
        let engine = Arc::downgrade(self);
        cell.tell_models(Box::new(move |models| {
            if let Some(engine) = engine.upgrade() {
                engine.hub(|hub, now, _| hub.set_integrations(now, models));
            }
        }));
    }

    /// The registry, if there is one.
    pub(super) fn registry(&self) -> Option<&RegistryHandle> {
        // The compiler leaves out what would be done with one in a build without it.
        self.registry.get().filter(|_| cfg!(feature = "registry"))
    }

    /// True when the engine has a registry.
    pub fn has_registry(&self) -> bool {
        self.registry().is_some()
    }

    /// Takes another configuration of the registry over, if there is one.
    pub fn reload_registry(&self, limits: &Limits, hosts: permits::Permits) {
        if let Some(cell) = self.registry() {
            cell.reload(limits, hosts);
        }
    }
}

/// A request whose body is still to come, or that has none.
pub(super) struct Post {
    caller: Caller,
    route: Route,
    /// The name or URI of the path.
    name: String,
    query: String,
    if_none_match: Option<String>,
}

impl fmt::Debug for Post {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Post({:?})", self.route)
    }
}

/// Begins a request by its head: its answer, or the body is to be read.
pub(super) fn begin(
    inbound: Inbound,
    accepted: &Accepted<'_>,
    task: RegistryTask,
    asked: &mcp_request::Asked<'_>,
    if_none_match: Option<&str>,
) -> Result<(Inbound, Post), Box<Step>> {
    let refuse = |inbound: Inbound, refusal: Refusal| Box::new(inbound.refuse(&refusal).into());
    if inbound.account.engine().registry().is_none() {
        return Err(refuse(inbound, is_off()));
    }
    let Some(caller) = accepted.caller.clone() else {
        let why = "a route of the registry must ask for a key";
        return Err(refuse(inbound, Refusal::new(Code::Internal, why)));
    };
    // Browsers say the type of what a page sends; others may leave it out.
    if accepted.route.body
        && asked.content_type.is_some()
        && !(task == RegistryTask::Import && asked.has_type(&[NDJSON, "application/jsonl"]))
        && let Err(wrong) = asked.has_json()
    {
        return Err(refuse(inbound, Refusal::invalid(wrong.message)));
    }
    let name = accepted.parameters.get(task.parameter());
    let query = asked.target.split_once('?').map_or("", |(_, query)| query);
    let post = Post {
        caller,
        route: route_of(task),
        name: name.unwrap_or_default().into_owned(),
        query: query.to_owned(),
        if_none_match: if_none_match.map(str::to_owned),
    };
    Ok((inbound, post))
}

pub(super) fn is_off() -> Refusal {
    Refusal::new(
        Code::NotFound,
        "the registry is off; `registry: { enabled: true }` in the configuration turns it on at the next start",
    )
}

const fn kind_of(registered: Registered) -> Kind {
    match registered {
        Registered::Tool => Kind::Tool,
        Registered::Resource => Kind::Resource,
        Registered::ResourceTemplate => Kind::ResourceTemplate,
        Registered::Prompt => Kind::Prompt,
        Registered::Integration => Kind::Integration,
    }
}

const fn route_of(task: RegistryTask) -> Route {
    match task {
        RegistryTask::List(kind) => Route::List(kind_of(kind)),
        RegistryTask::Create(kind) => Route::Create(kind_of(kind)),
        RegistryTask::Show(kind) => Route::Show(kind_of(kind)),
        RegistryTask::Replace(kind) => Route::Replace(kind_of(kind)),
        RegistryTask::Delete(kind) => Route::Delete(kind_of(kind)),
        RegistryTask::Execute => Route::Execute,
        RegistryTask::Generate => Route::Generate,
        RegistryTask::Complete => Route::Complete,
        RegistryTask::Export => Route::Export,
        RegistryTask::Import => Route::Import,
        RegistryTask::Rekey => Route::Rekey,
        RegistryTask::Subscribe => Route::Subscribe,
        RegistryTask::Unsubscribe => Route::Unsubscribe,
    }
}

impl Post {
    /// Goes on with the whole body.
    pub(super) fn complete(self, inbound: Inbound, body: &[u8]) -> Step {
        let engine = inbound.account.engine().clone();
        let Some(cell) = engine.registry() else {
            return inbound.refuse(&is_off()).into();
        };
        // The key may have gone since the head came.
        if let Err(refusal) = engine.policy().keys.confirm(&self.caller) {
            return inbound.refuse(&refusal).into();
        }
        let request = Request {
            route: self.route,
            name: &self.name,
            query: &self.query,
            body,
            if_none_match: self.if_none_match.as_deref(),
        };
        match cell.handle(&request) {
            Err(failure) => whole(inbound, Answer::of(&failure)).into(),
            Ok(Begun::Answer(answer)) => whole(inbound, answer).into(),
            Ok(Begun::Change(changed, answer)) => {
                let answer = cell.keep(changed.id, changed.records, answer);
                let id = inbound.account.id();
                Step::Running(Running::new(Box::new(Stored { answer, id }), inbound))
            }
            Ok(Begun::Rekey(to)) => {
                let answer = cell.rekey(to.as_deref());
                let id = inbound.account.id();
                Step::Running(Running::new(Box::new(Stored { answer, id }), inbound))
            }
            Ok(Begun::Subscribe(None)) => {
                match Subscribed::new(cell, &self.caller, &self.name, &inbound) {
                    Ok(events) => Step::Running(Running::new(Box::new(events), inbound)),
                    Err(failure) => whole(inbound, Answer::of(&failure)).into(),
                }
            }
            Ok(Begun::Subscribe(Some(session))) => {
                mcp_rest::subscribe_for(inbound, &self.caller, (&session, &self.name), true)
            }
            Ok(Begun::Unsubscribe(session)) => {
                mcp_rest::subscribe_for(inbound, &self.caller, (&session, &self.name), false)
            }
            Ok(Begun::Run(work, shown)) => {
                let running = match RunningWork::begin(&engine, cell, work) {
                    Ok(running) => running,
                    Err(failure) => return whole(inbound, Answer::of(&failure)).into(),
                };
                let id = inbound.account.id();
                let caller = self.caller;
                let answer = RunAnswer {
                    running,
                    caller,
                    shown,
                    id,
                };
                Step::Running(Running::new(Box::new(answer), inbound))
            }
        }
    }
}

/// Writes an answer of the registry; returns how it ends.
fn write(reply: &mut Reply, id: ExchangeId, answer: Answer) -> Verdict {
    let mut head = ReplyHead::new(
        answer.status,
        if answer.is_lines { NDJSON } else { JSON },
        id,
    );
    head.location = answer.location.map(Into::into);
    head.etag = answer.etag.map(Into::into);
    head.retry_after = answer.retry_after;
    reply.head = Some(head);
    reply.body = answer.body.into_bytes();
    answer.code.map_or(Verdict::Completed, Verdict::Failed)
}

pub(super) fn whole(inbound: Inbound, answer: Answer) -> Whole {
    let mut reply = Reply::default();
    let verdict = write(&mut reply, inbound.account.id(), answer);
    inbound.complete(reply, verdict)
}

pub(super) fn ended(reply: &mut Reply, id: ExchangeId, answer: Answer) -> Polled {
    let status = answer.status;
    let verdict = write(reply, id, answer);
    let bytes = u64::try_from(reply.body.len()).unwrap_or(u64::MAX);
    Polled::Ended(Outcome::new(verdict, status, bytes))
}

/// An answer that waits for the store.
struct Stored {
    answer: Promised<Result<Answer, StoreError>>,
    id: ExchangeId,
}

impl Respond for Stored {
    fn poll(
        &mut self,
        _now: Instant,
        waker: &Waker,
        _account: &mut Account,
        reply: &mut Reply,
    ) -> Polled {
        let answer = match self.answer.poll(waker) {
            Poll::Pending => return Polled::Until(None),
            Poll::Ready(Some(Ok(answer))) => answer,
            Poll::Ready(Some(Err(error))) => Answer::of(&Failure::not_stored(error.message)),
            Poll::Ready(None) => {
                let why = "the registry's file was closed before it took the change";
                Answer::of(&Failure::not_stored(why))
            }
        };
        ended(reply, self.id, answer)
    }

    fn client_gone(&mut self, _now: Instant, _account: &mut Account) -> Outcome {
        Outcome::new(Verdict::ClientGone, CLIENT_GONE, 0)
    }
}

/// A run, until it has ended.
struct RunAnswer {
    running: RunningWork,
    /// On whose behalf models and servers are asked.
    caller: Caller,
    shown: Shown,
    id: ExchangeId,
}

impl Respond for RunAnswer {
    fn poll(
        &mut self,
        now: Instant,
        waker: &Waker,
        _account: &mut Account,
        reply: &mut Reply,
    ) -> Polled {
        match self.running.poll(&self.caller, now, waker) {
            Poll::Ready(end) => ended(reply, self.id, self.shown.answer(end)),
            Poll::Pending => Polled::Until(self.running.poll_timeout(now)),
        }
    }

    fn client_gone(&mut self, _now: Instant, _account: &mut Account) -> Outcome {
        self.running.end();
        Outcome::new(Verdict::ClientGone, CLIENT_GONE, 0)
    }
}
