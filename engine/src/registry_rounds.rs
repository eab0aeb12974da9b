//! The rounds of an integration, driven: its model is asked, its tools run, until there is an answer for the caller.

use super::Engine;
use super::registry_cell::RegistryCell;
use super::registry_executions::Place;
use super::registry_handle::RegistryHandle;
use super::registry_needs::Needs;
use super::registry_question::{Asking, Looked, Question};
use super::upstreams::{Carried, Upstream};
use mcp_local_provider_core::agents::upstream::Api;
use mcp_local_provider_core::budget::Share;
use mcp_local_provider_core::error::{Code, Refusal};
use mcp_local_provider_core::hub::keys::Caller;
use mcp_local_provider_core::invocation::{Delta, Finish, Usage};
use mcp_local_provider_core::time::Instant;
use mcp_local_provider_registry::{
    AskedWith, Failure, Heard, Hearing, Integration, IntegrationSet, Provider, Rounds, RoundsOut,
    Said, ToolEvent, ToolStatus, Turn,
};
use std::sync::Arc;
use std::task::{Poll, Waker};

/// Something that the caller may hear before the end.
pub(super) enum Told<'t> {
    /// A piece of text.
    Delta(&'t Delta<'t>),
    /// A tool began or ended.
    Tool(&'t ToolEvent),
}

/// The end of all rounds.
pub(super) struct Delivered {
    /// The last answer, with the calls of the caller's tools.
    pub(super) said: Said,
    pub(super) finish: Finish,
    /// Of all rounds.
    pub(super) usage: Usage,
}

/// Result of a look at the rounds.
pub(super) enum Step {
    /// There is nothing more.
    Pending,
    /// Something was done.
    Again,
    /// There is an answer.
    Ended(Delivered),
    /// There is none.
    Failed(Refusal),
}

/// The place of a request: who asks, and what it is within.
pub(super) struct Origin {
    pub(super) engine: Arc<Engine>,
    pub(super) cell: RegistryHandle,
    pub(super) caller: Caller,
    pub(super) carried: Option<Box<Carried>>,
    pub(super) depth: u8,
}

/// Rounds on their way. Dropping them ends all that was begun for them.
pub(super) struct Rounding {
    cell: RegistryHandle,
    /// For the tools.
    caller: Caller,
    asking: Asking,
    rounds: Rounds,
    out: RoundsOut,
    is_started: bool,
    question: Option<Question>,
    hearing: Hearing,
    needs: Needs,
    /// Place of the tools of this round among the runs at once, or their wait for one.
    place: Option<Place>,
    share: Share,
}

/// The refusal that a failure of the registry is to a client of a model.
pub(super) fn refusal_of(failure: Failure) -> Refusal {
    let mut refusal = Refusal::new(failure.code, failure.message);
    if let Some(param) = failure.param {
        refusal = refusal.at(param);
    }
    match failure.retry_after {
        Some(after) => refusal.retry_after(std::time::Duration::from_secs(after)),
        None => refusal,
    }
}

impl Rounding {
    /// Makes the rounds of a request to an integration, or to a model alone.
    pub(super) fn new(
        origin: Origin,
        set: IntegrationSet,
        asked: AskedWith<'_>,
    ) -> Result<Self, Refusal> {
        let Origin {
            engine,
            cell,
            caller,
            carried,
            depth,
        } = origin;
        let integration = set.integration.clone();
        let own = own_server(&cell, &integration)?;
        let here = match own {
            Some(_) => None,
            None => name_here(&engine, &integration)?,
        };
        let asked = AskedWith {
            model: here.as_deref(),
            ..asked
        };
        let rounds = Rounds::new(set, asked, depth).map_err(refusal_of)?;
        // The integration was let pass, and names its model itself.
        let asks = match integration.id.is_empty() {
            true => caller.clone(),
            false => caller.asking_every_model(),
        };
        Ok(Self {
            share: engine.budget().share(),
            asking: Asking {
                engine,
                caller: asks,
                carried,
                depth,
                own,
                model: integration.model.clone(),
            },
            cell,
            caller,
            rounds,
            out: RoundsOut::default(),
            is_started: false,
            question: None,
            hearing: Hearing::default(),
            needs: Needs::default(),
            place: None,
        })
    }

    /// Goes on once, and tells what the caller may hear.
    pub(super) fn look(
        &mut self,
        now: Instant,
        waker: &Waker,
        tell: &mut dyn FnMut(Told<'_>),
    ) -> Step {
        if !std::mem::replace(&mut self.is_started, true) {
            let turn = self.rounds.start(&mut self.out);
            return self.follow(turn, tell);
        }
        if self.rounds.poll_timeout().is_some_and(|at| at <= now) {
            let turn = self.rounds.handle_timeout(now, &mut self.out);
            return self.follow(turn, tell);
        }
        if let Some(question) = &mut self.question {
            let hearing = &mut self.hearing;
            let looked = question.look(now, waker, &mut |delivery| {
                hearing.take(delivery, &mut |delta| tell(Told::Delta(delta)));
            });
            return match looked {
                Looked::Pending => Step::Pending,
                Looked::Again if !self.share.hold(self.hearing.held()) => {
                    let why = "there is no memory left for the answer (limits.memory)";
                    self.fail(Refusal::new(Code::Overloaded, why))
                }
                Looked::Again => Step::Again,
                Looked::Failed(refusal) => self.fail(refusal),
                Looked::Over => self.heard(now, tell),
            };
        }
        if let Some(place) = &mut self.place {
            match place.poll(now, waker) {
                Poll::Pending => return Step::Pending,
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(failure)) => return self.fail(refusal_of(failure)),
            }
        }
        let engine = &self.asking.engine;
        self.needs.carry_out(engine, &self.cell, &self.caller);
        let Some((id, outcome)) = self.needs.poll(now, waker) else {
            return Step::Pending;
        };
        let turn = self.rounds.handle_outcome(now, id, outcome, &mut self.out);
        self.follow(turn, tell)
    }

    /// An answer of the model has come to its end.
    fn heard(&mut self, now: Instant, tell: &mut dyn FnMut(Told<'_>)) -> Step {
        self.question = None;
        self.share.hold(0);
        match std::mem::take(&mut self.hearing).end() {
            Some(Heard::Said(said)) => {
                let turn = self.rounds.handle_said(now, said, &mut self.out);
                self.follow(turn, tell)
            }
            Some(Heard::Failed(failure)) => {
                let mut refusal = Refusal::new(failure.code, failure.message);
                if let Some(after) = failure.retry_after {
                    refusal = refusal.retry_after(after);
                }
                self.fail(refusal)
            }
            None => self.fail(Refusal::new(Code::AgentFault, "the answer has no end")),
        }
    }

    /// Does what the machine says.
    fn follow(&mut self, turn: Turn, tell: &mut dyn FnMut(Told<'_>)) -> Step {
        for event in std::mem::take(&mut self.out.tools) {
            match event.status {
                ToolStatus::Running if self.place.is_none() => {
                    match self.cell.enter(self.asking.engine.now()) {
                        Ok(place) => self.place = Some(place),
                        Err(failure) => return self.fail(refusal_of(failure)),
                    }
                }
                ToolStatus::Running => {}
                ToolStatus::Ok => self.cell.ran(true),
                ToolStatus::Error => self.cell.ran(false),
            }
            tell(Told::Tool(&event));
        }
        let needs = &mut self.needs.out;
        needs.end.append(&mut self.out.needs.end);
        needs.start.append(&mut self.out.needs.start);
        match turn {
            Turn::Working => Step::Again,
            Turn::Ask(body) => {
                self.place = None;
                match Question::begin(&self.asking, body) {
                    Ok(question) => {
                        self.question = Some(question);
                        Step::Again
                    }
                    Err(refusal) => self.fail(refusal),
                }
            }
            Turn::Deliver { said, finish } => Step::Ended(Delivered {
                said,
                finish,
                usage: self.rounds.usage(),
            }),
            Turn::Failed(failure) => self.fail(refusal_of(failure)),
        }
    }

    fn fail(&mut self, refusal: Refusal) -> Step {
        self.cancel();
        Step::Failed(refusal)
    }

    /// Ends all that is open: the caller left, or has enough.
    pub(super) fn cancel(&mut self) {
        self.question = None;
        self.rounds.cancel(&mut self.out);
        self.needs = Needs::default();
        self.place = None;
    }

    /// When to look again though nobody woke the task.
    pub(super) fn poll_timeout(&self, now: Instant) -> Option<Instant> {
        let needs = self.needs.poll_timeout(now);
        let question = self.question.as_ref().and_then(Question::poll_timeout);
        let place = self.place.as_ref().and_then(Place::poll_timeout);
        let all = [needs, question, place, self.rounds.poll_timeout()];
        all.into_iter().flatten().min()
    }

    /// Bytes that wait for the end of an answer.
    pub(super) fn held(&self) -> usize {
        self.hearing.held()
    }
}

/// The API of a provider; `None` for models of this program.
const fn api_of(provider: Provider) -> Option<Api> {
    match provider {
        Provider::Agent => None,
        Provider::OpenAi => Some(Api::OpenAi),
        Provider::Anthropic => Some(Api::Anthropic),
        Provider::Ollama => Some(Api::Ollama),
        Provider::Custom => Some(Api::Custom),
    }
}

/// The address that a provider has where an integration names none.
const fn usual_address(api: Api) -> &'static str {
    match api {
        Api::OpenAi | Api::Custom => "https://api.openai.com/v1",
        Api::Anthropic => "https://api.anthropic.com",
        Api::Ollama => "http://127.0.0.1:11434",
    }
}

/// The server of an integration that has an address or a key of its own. Its host must be one of `registry.http`.
fn own_server(
    cell: &RegistryCell,
    integration: &Integration,
) -> Result<Option<Arc<Upstream>>, Refusal> {
    let key = cell.api_key(&integration.id);
    let Some(api) = api_of(integration.provider) else {
        return Ok(None);
    };
    if key.is_none() && integration.base_url.is_none() {
        return Ok(None);
    }
    let address = integration.base_url.as_deref();
    let address = address.unwrap_or(usual_address(api));
    let found = cell.hosts().url(address).map_err(|refused| {
        let id = &integration.id;
        let message = format!("the integration `{id}` cannot ask its model: {refused}");
        Refusal::new(Code::NoAgent, message)
    });
    let (target, base) = found?;
    let name = integration.model_id();
    let key = key.map(|key| key.reveal().to_owned());
    let upstream = Upstream::at(name, api, target.route(), &base, key);
    Ok(Some(Arc::new(upstream)))
}

/// The name by which this program knows the model of an integration: that of a configured upstream of its provider; `None` for its own.
fn name_here(engine: &Engine, integration: &Integration) -> Result<Option<String>, Refusal> {
    let Some(api) = api_of(integration.provider) else {
        return Ok(None);
    };
    let upstreams = engine.upstreams().by_link.values();
    let mut names: Vec<String> = upstreams
        .filter(|it| it.api == api)
        .map(|it| format!("{}/{}", it.name, integration.model))
        .collect();
    names.sort_unstable();
    let known = engine.hub(|hub, _, _| names.iter().position(|name| hub.has_model(name)));
    if let Some(name) = names.get(known.unwrap_or(0)) {
        return Ok(Some(name.clone()));
    }
    let (id, kind) = (&integration.id, api.as_str());
    let message = format!(
        "the integration `{id}` asks {kind}, and no upstream of that kind is configured; give it a `base_url` or an `api_key`, or add one to `upstreams`"
    );
    Err(Refusal::new(Code::NoAgent, message))
}
