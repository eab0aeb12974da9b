//! The way of a request to a model from its body on: it is read and admitted, and its answer begins.

use super::answer::Answer;
use super::asking::{self, Asked};
use super::counting::{self, Count};
use super::engine::Engine;
use super::inbound::Inbound;
use super::registry_model;
use super::request::Step;
use super::upstreams::Carried;
use mcp_local_provider_core::agents::upstream::counts_tokens;
use mcp_local_provider_core::api::{self, Route};
use mcp_local_provider_core::budget::Share;
use mcp_local_provider_core::config::Area;
use mcp_local_provider_core::dialect::Form;
use mcp_local_provider_core::error::{Code, Refusal};
use mcp_local_provider_core::exchange::{Exchange, Intent, Reply};
use mcp_local_provider_core::hub::keys::{Caller, digest};
use mcp_local_provider_core::hub::limiter::Payer;
use mcp_local_provider_core::hub::{Admission, Ask, Found, Verdict};
use mcp_local_provider_core::request::BodyForm;
use mcp_local_provider_core::scope::Scope;
use mcp_local_provider_registry::is_registrys;
use std::sync::Arc;

/// Caller of a request, with the route and the session that it asks for.
#[derive(Debug)]
pub(super) struct Asker {
    pub(super) route: &'static Route,
    pub(super) form: Form,
    pub(super) caller: Caller,
    pub(super) session: Option<String>,
    /// Headers for an upstream, where there may be one.
    pub(super) carried: Option<Box<Carried>>,
    /// Runs of the registry's tools that it is within.
    pub(super) depth: u8,
}

impl Asker {
    /// True for a body of `POST /completions` that is the registry's, where there is one.
    pub(super) fn is_for_registry(&self, inbound: &Inbound, body: &[u8]) -> bool {
        self.form.body == Some(BodyForm::OpenAiCompletion)
            && inbound.account.engine().registry().is_some()
            && is_registrys(body)
    }
}

/// Place of a request that the program makes for a caller.
#[derive(Debug, Default)]
pub(super) struct Within {
    /// Runs of the registry's tools that it is within.
    pub(super) depth: u8,
    /// Headers of the caller's own request.
    pub(super) carried: Option<Box<Carried>>,
}

/// Asks a model on behalf of a caller, as a chat completion of the caller's would be asked.
pub(super) fn ask_for(
    engine: &Arc<Engine>,
    caller: &Caller,
    body: Vec<u8>,
    within: Within,
) -> Step {
    let mut inbound = Inbound::new(engine, engine.config(), caller.address);
    let is_chat = |form: &Form| form.body == Some(BodyForm::OpenAiChat);
    let mut routes = api::ROUTES.iter();
    let route = routes.find(|route| route.form().is_some_and(is_chat));
    let Some((route, form)) = route.and_then(|route| Some((route, *route.form()?))) else {
        let why = "there is no route for chat completions";
        return Step::Answer(inbound.refuse(&Refusal::new(Code::Internal, why)));
    };
    inbound.account.describe(|info| {
        info.endpoint = route.name;
        info.key = Some(caller.name.clone());
    });
    if let Err(denied) = caller.require_area(Area::Models) {
        return Step::Answer(inbound.refuse(&denied));
    }
    let payer = Payer::new(caller.authority, caller.address);
    inbound.account.draws_on(payer);
    let mut share = engine.budget().share();
    if !share.hold(body.capacity()) {
        let refusal = api::out_of_memory(&inbound.config.limits);
        return Step::Answer(inbound.refuse(&refusal));
    }
    let mut asker = Asker {
        route,
        form,
        caller: caller.clone(),
        session: None,
        carried: within.carried,
        depth: within.depth,
    };
    ask(inbound, &mut asker, body, share)
}

/// Reads the request and has it admitted; or gives what is to be answered instead.
// The memory of a thread's stack stays as large as it once was. Parsing takes the most, so nothing of the admission is below it.
#[inline(never)]
pub(super) fn ask(inbound: Inbound, asker: &mut Asker, body: Vec<u8>, share: Share) -> Step {
    let parsed = parse(&inbound, asker, body);
    admit(inbound, asker, parsed, share)
}

#[inline(never)]
fn parse(inbound: &Inbound, asker: &Asker, body: Vec<u8>) -> Result<(Exchange, Intent), Refusal> {
    let engine = inbound.account.engine();
    let history = engine.history(&asker.form, &asker.caller, &body)?;
    Exchange::parse_continued(
        &inbound.config,
        engine.wall(),
        inbound.account.id(),
        &asker.form,
        inbound.account.started(),
        body,
        history.as_deref(),
    )
}

#[inline(never)]
fn admit(
    mut inbound: Inbound,
    asker: &mut Asker,
    parsed: Result<(Exchange, Intent), Refusal>,
    share: Share,
) -> Step {
    let (exchange, intent) = match parsed {
        Ok(parsed) => parsed,
        Err(refusal) => return Step::Answer(inbound.refuse(&refusal)),
    };
    let engine = inbound.account.engine().clone();
    let (tokens, needs, prompts) = (intent.tokens, intent.needs, intent.prompts());
    let scope = asker.route.scope.unwrap_or(Scope::Inference);
    let asked = Asked {
        request: Arc::new(intent.request.sharing(share)),
        owner: asker.caller.credential,
        prompts,
        tokens,
        scope,
        needs,
        carried: asker.carried.take(),
        depth: asker.depth,
    };
    let request = &asked.request;
    inbound.account.describe(|info| {
        info.model = Some(Box::from(request.model()));
        info.stream = Some(request.is_streamed());
        info.estimated_tokens = Some(tokens);
    });
    // The hash of a large prompt is a quarter of its request's cost, and only the audit file holds it.
    if engine.audit().file.is_some() {
        let prompt = digest(request.prompt().as_bytes());
        inbound.account.describe(|info| info.prompt = Some(prompt));
    }
    let ask = Ask {
        model: request.model(),
        session: asker.session.as_deref(),
        prompts,
        tokens,
        scope,
        needs,
    };
    if intent.load_only {
        return load(inbound, exchange, &asker.caller, &ask, &asked);
    }
    let admitted = engine.hub(|hub, now, _| match hub.integration(&asker.caller, &ask) {
        Some(integration) => integration.map(Err),
        None => hub.admit(now, &asker.caller, &ask).map(Ok),
    });
    let admission = match admitted {
        Ok(Ok(admission)) => Ok(admission),
        Ok(Err(model)) => {
            return registry_model::start(inbound, exchange, asked, &asker.caller, &model);
        }
        Err(refusal) => Err(refusal),
    };
    match admission {
        Ok(Admission::Granted(ticket)) => {
            Step::Running(asking::start(inbound, exchange, asked, ticket))
        }
        Ok(Admission::Queued(wait)) => {
            tracing::debug!(request_id = %inbound.account.id(), "waits for capacity");
            Step::Running(asking::wait(inbound, exchange, wait, asked))
        }
        Err(refusal) => Step::Answer(refuse(inbound, exchange, &refusal)),
    }
}

/// Answers a request that only has its model loaded.
#[inline(never)]
fn load(
    mut inbound: Inbound,
    mut exchange: Exchange,
    caller: &Caller,
    ask: &Ask<'_>,
    asked: &Asked,
) -> Step {
    let engine = inbound.account.engine().clone();
    let Found { model, link } = match engine.hub(|hub, _, _| hub.find(caller, ask)) {
        Ok(found) => found,
        Err(refusal) => return Step::Answer(refuse(inbound, exchange, &refusal)),
    };
    let upstream = link.and_then(|link| engine.upstreams().get(link));
    if let Some(upstream) = upstream.filter(|it| counts_tokens(it.api, &asked.request)) {
        let count = Count {
            upstream: upstream.clone(),
            model: model.clone(),
            request: &asked.request,
            carried: asked.carried.as_deref(),
        };
        let failed = match counting::start(count, inbound, exchange) {
            Ok(running) => return Step::Running(running),
            Err(failed) => failed,
        };
        (inbound, exchange) = (failed.inbound, failed.exchange);
        if let Some(refusal) = failed.refusal {
            return Step::Answer(refuse(inbound, exchange, &refusal));
        }
    }
    let mut reply = Reply::default();
    exchange.load(engine.now(), &model, &mut reply);
    Step::Answer(inbound.complete(reply, Verdict::Completed))
}

/// Refuses what was read and is not admitted.
pub(super) fn refuse(mut inbound: Inbound, mut exchange: Exchange, refusal: &Refusal) -> Answer {
    inbound.account.describe(|info| info.refused(refusal));
    let mut reply = Reply::default();
    let now = inbound.account.engine().now();
    let outcome = exchange.refuse(now, refusal, &mut reply);
    inbound.complete(reply, outcome.verdict)
}
