//! Requests to the registry: from the head to an answer, to a change that is stored first, or to a run.

use super::Engine;
use super::account::Account;
use super::answer::Answer as Whole;
use super::inbound::Inbound;
use super::mcp_request;
use super::registry_cell::{Execution, RegistryCell, Setup, Told};
use super::registry_needs::Served;
use super::registry_permits as permits;
use super::request::Step;
use super::running::{Polled, Respond, Running};
use mcp_local_provider_core::api::{Accepted, Registered, RegistryTask};
use mcp_local_provider_core::error::{Code, Refusal};
use mcp_local_provider_core::exchange::{JSON, Reply, ReplyHead};
use mcp_local_provider_core::hub::keys::Caller;
use mcp_local_provider_core::hub::{CLIENT_GONE, Outcome, Verdict};
use mcp_local_provider_core::id::ExchangeId;
use mcp_local_provider_core::time::Instant;
use mcp_local_provider_registry::rest::{Answer, Request, Route, Run, Step as Begun};
use mcp_local_provider_registry::{Failure, Kind, Limits, NeedId, Out};
use std::collections::BTreeMap;
use std::fmt;
use std::mem;
use std::sync::Arc;
use std::task::Waker;

impl Engine {
    /// Gives the engine its registry. A second one changes nothing.
    pub fn open_registry(self: &Arc<Self>, setup: Setup) {
        let cell = self.registry.get_or_init(|| RegistryCell::new(setup));
        let engine = Arc::downgrade(self);
        cell.tell_models(Box::new(move |models| {
            if let Some(engine) = engine.upgrade() {
                engine.hub(|hub, now, _| hub.set_integrations(now, models));
            }
        }));
    }

    /// Takes another configuration of the registry over, if there is one.
    pub fn reload_registry(&self, limits: &Limits, hosts: permits::Permits) {
        if let Some(cell) = self.registry.get() {
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
    if inbound.account.engine().registry.get().is_none() {
        return Err(refuse(inbound, is_off()));
    }
    let Some(caller) = accepted.caller.clone() else {
        let why = "a route of the registry must ask for a key";
        return Err(refuse(inbound, Refusal::new(Code::Internal, why)));
    };
    // Browsers say the type of what a page sends; others may leave it out.
    if accepted.route.body
        && asked.content_type.is_some()
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
    }
}

impl Post {
    /// Goes on with the whole body.
    pub(super) fn complete(self, inbound: Inbound, body: &[u8]) -> Step {
        let engine = inbound.account.engine().clone();
        let Some(cell) = engine.registry.get() else {
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
                let told = cell.keep(changed.id, changed.records);
                let id = inbound.account.id();
                let change = Change { told, answer, id };
                Step::Running(Running::new(Box::new(change), inbound))
            }
            Ok(Begun::Run(run)) => {
                let execution = run.is_execution().then(|| cell.execute());
                let Some(execution) = execution.map_or(Some(None), |begun| begun.map(Some)) else {
                    let why =
                        "as many tools run as may at once (registry.executions); ask again later";
                    return whole(inbound, Answer::of(&Failure::overloaded(why))).into();
                };
                let running = RunAnswer {
                    engine: engine.clone(),
                    cell: cell.clone(),
                    caller: self.caller,
                    run,
                    is_started: false,
                    open: BTreeMap::new(),
                    out: Out::default(),
                    id: inbound.account.id(),
                    _execution: execution,
                };
                Step::Running(Running::new(Box::new(running), inbound))
            }
        }
    }
}

/// Writes an answer of the registry; returns how it ends.
fn write(reply: &mut Reply, id: ExchangeId, answer: Answer) -> Verdict {
    let mut head = ReplyHead::new(answer.status, JSON, id);
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

/// A change, until the store has it.
struct Change {
    told: Told,
    answer: Answer,
    id: ExchangeId,
}

impl Respond for Change {
    fn poll(
        &mut self,
        _now: Instant,
        waker: &Waker,
        _account: &mut Account,
        reply: &mut Reply,
    ) -> Polled {
        let kept = {
            let mut told = self.told.lock();
            let kept = told.0.take();
            if kept.is_none() {
                told.1 = Some(waker.clone());
            }
            kept
        };
        match kept {
            None => Polled::Until(None),
            Some(Ok(())) => ended(reply, self.id, self.answer.clone()),
            Some(Err(error)) => {
                let failure = Failure::not_stored(error.message);
                ended(reply, self.id, Answer::of(&failure))
            }
        }
    }

    fn client_gone(&mut self, _now: Instant, _account: &mut Account) -> Outcome {
        Outcome::new(Verdict::ClientGone, CLIENT_GONE, 0)
    }
}

/// A run, until it has ended.
struct RunAnswer {
    engine: Arc<Engine>,
    cell: Arc<RegistryCell>,
    caller: Caller,
    run: Run,
    is_started: bool,
    open: BTreeMap<NeedId, Served>,
    out: Out,
    id: ExchangeId,
    _execution: Option<Execution>,
}

impl RunAnswer {
    /// Ends and begins what the run says.
    fn carry_out(&mut self) {
        for id in self.out.end.drain(..) {
            self.open.remove(&id);
        }
        for (id, need) in mem::take(&mut self.out.start) {
            let served = Served::begin(&self.engine, &self.cell, Some(&self.caller), need);
            self.open.insert(id, served);
        }
    }

    /// Looks at all that is open once.
    fn look(&mut self, now: Instant, waker: &Waker) -> (bool, Option<Answer>) {
        let mut moves = false;
        let ids: Vec<NeedId> = self.open.keys().copied().collect();
        for id in ids {
            let served = self.open.get_mut(&id);
            let Some(outcome) = served.and_then(|served| served.poll(now, waker)) else {
                continue;
            };
            moves = true;
            self.open.remove(&id);
            let answer = self.run.handle_outcome(now, id, outcome, &mut self.out);
            if answer.is_some() {
                return (true, answer);
            }
            for id in &self.out.end {
                self.open.remove(id);
            }
        }
        (moves, None)
    }
}

impl Respond for RunAnswer {
    fn poll(
        &mut self,
        now: Instant,
        waker: &Waker,
        _account: &mut Account,
        reply: &mut Reply,
    ) -> Polled {
        let mut answer = None;
        if !mem::replace(&mut self.is_started, true) {
            answer = self.run.start(now, &mut self.out);
        }
        loop {
            self.carry_out();
            if answer.is_none() && self.run.poll_timeout().is_some_and(|at| at <= now) {
                answer = self.run.handle_timeout(now, &mut self.out);
                self.carry_out();
            }
            if let Some(answer) = answer {
                self.open.clear();
                return ended(reply, self.id, answer);
            }
            let (moves, told) = self.look(now, waker);
            answer = told;
            if !moves {
                let own = self.open.values().filter_map(|it| it.poll_timeout(now));
                return Polled::Until(own.chain(self.run.poll_timeout()).min());
            }
        }
    }

    fn client_gone(&mut self, _now: Instant, _account: &mut Account) -> Outcome {
        self.run.cancel(&mut self.out);
        self.open.clear();
        Outcome::new(Verdict::ClientGone, CLIENT_GONE, 0)
    }
}
