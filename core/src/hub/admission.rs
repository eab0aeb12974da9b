//! Admission: a ticket for each exchange that may go ahead, a short queue for those that must wait.

use super::fallback::{Fallbacks, Way};
use super::keys::{self, Keys};
use super::limiter::{Limited, Payer};
use super::models::leaves_choice;
use super::queue::LineId;
use super::routing::{Busy, Slot, Unrouted};
use super::sessions::Session;
use super::{Hub, HubOut, SWEEP};
use crate::error::{Code, Exceeded, Refusal, Standing};
use crate::id::{ExchangeId, LinkId, SessionId, WaitId};
use crate::invocation::{InvokeForm, Needs, ParameterSet};
use crate::link::{Invoke, Permit};
use crate::request::{PromptIndex, Request};
use crate::scope::Scope;
use crate::time::Instant;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::net::IpAddr;
use core::sync::atomic::{AtomicU64, Ordering};

/// The request of an exchange for admission by the hub.
#[derive(Clone, Copy, Debug)]
pub struct Ask<'a> {
    /// The model as the client named it.
    pub model: &'a str,
    /// The session that the client picked with `X-MCP-Session`.
    pub session: Option<&'a str>,
    /// Prompts, each of which counts as a request and is an invocation of its own.
    pub prompts: u32,
    /// Tokens of the prompts (estimated) and `max_tokens` together.
    pub tokens: u64,
    /// The scope that the session must have.
    pub scope: Scope,
    /// Abilities that are asked of the agent.
    pub needs: Needs,
}

/// Costs of an exchange to the limits of its payer and of its session.
#[derive(Clone, Copy, Debug)]
pub(super) struct Costs {
    pub(super) prompts: u32,
    pub(super) tokens: u64,
}

impl Costs {
    pub(super) const fn of(ask: &Ask<'_>) -> Self {
        Self {
            prompts: ask.prompts,
            tokens: ask.tokens,
        }
    }
}

/// Model that [`Hub::find`] has found.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Found {
    /// Its full name.
    pub model: Arc<str>,
    /// The connection or the upstream that would answer now; `None` when nobody has room, or a circuit is open.
    pub link: Option<LinkId>,
}

/// The permission to run one exchange. It goes back with [`Hub::conclude`]; one that is dropped instead is counted as a
/// fault.
#[must_use]
#[derive(Debug)]
pub struct Ticket {
    /// The link that answers.
    pub link: LinkId,
    /// The permission to ask its agent, for the link.
    pub permit: Permit,
    /// The session's label.
    pub label: Arc<str>,
    /// The model as the agent names it.
    pub model: Arc<str>,
    /// Another name for it, by which it was asked for.
    pub(super) asked: Option<Arc<str>>,
    /// The form in which its agent is asked.
    pub form: InvokeForm,
    /// The caller's remaining limits.
    pub standing: Standing,
    /// The parameters that the agent takes.
    pub parameters: ParameterSet,
    /// Models that may be asked in the place of this one.
    pub(super) fallbacks: Fallbacks,
    pub(super) slot: Slot,
    pub(super) payer: Payer,
    pub(super) reserved: u64,
    pub(super) admitted: Instant,
    /// It went back to the hub.
    pub(super) settled: bool,
    unsettled: Arc<AtomicU64>,
}

impl Ticket {
    /// The session that answers.
    #[must_use]
    pub const fn session(&self) -> &SessionId {
        self.permit.session()
    }

    /// The model as its caller knows it who has left the choice to the provider: by an alias where the key may ask for that alone.
    #[must_use]
    pub fn model_named(&self) -> &str {
        self.asked.as_ref().unwrap_or(&self.model)
    }

    /// True when another model may be asked where this one fails before the first byte of its answer, see [`Hub::fall_back`].
    #[must_use]
    pub fn has_fallback(&self) -> bool {
        !self.fallbacks.is_empty()
    }

    /// The invocation that it permits, for one prompt of a request. `id` is the request's for the first prompt, and of its own
    /// for each further one.
    #[must_use]
    pub fn invoke(&self, id: ExchangeId, request: Arc<Request>, prompt: PromptIndex) -> Invoke {
        Invoke {
            id,
            permit: self.permit.clone(),
            label: self.label.clone(),
            model: self.model.clone(),
            form: self.form,
            request,
            prompt,
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if !self.settled {
            self.unsettled.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// The answer to [`Hub::admit`].
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "nearly all are granted")]
pub enum Admission {
    /// Go ahead.
    Granted(Ticket),
    /// Wait until [`HubOut::woken`] names it, then [`Hub::claim`].
    Queued(WaitId),
}

/// The answer to [`Hub::claim`].
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "nearly all are granted")]
pub enum Claim {
    /// Go ahead.
    Granted(Ticket),
    /// Wait on.
    Waiting,
    /// Capacity did not come in time, or the session went.
    Refused(Refusal),
}

/// Refuses a session that may answer fewer prompts than these are, with 503 that names how many.
pub(super) fn enough_left(session: &Session, costs: Costs) -> Result<(), Refusal> {
    match session.requests_left() {
        Some(left) if left < u64::from(costs.prompts) => Err(Refusal::new(
            Code::NoAgent,
            alloc::format!(
                "the session `{}` may answer {left} requests more, and these are {} prompts; send fewer at once",
                session.id,
                costs.prompts
            ),
        )),
        Some(_) | None => Ok(()),
    }
}

impl Hub {
    /// Asks for permission to run an exchange.
    ///
    /// # Errors
    /// 401 where the caller's key is gone, 503 when no agent can answer or everything is full, 404 for an unknown model or session, 403 where a scope is
    /// missing, 429 where a limit is reached.
    pub fn admit(
        &mut self,
        now: Instant,
        caller: &super::keys::Caller,
        ask: &Ask<'_>,
    ) -> Result<Admission, Refusal> {
        let now = self.latest.clamp(now);
        self.keys.confirm(caller)?;
        let payer = Payer::new(caller.authority, caller.address);
        let permitted = self.permitted(caller, ask)?;
        let ask = &permitted
            .as_deref()
            .map_or(*ask, |model| Ask { model, ..*ask });
        let way = self.try_admit(now, caller, ask)?;
        let ask = &match way.model.as_deref() {
            Some(model) => Ask { model, ..*ask },
            None => *ask,
        };
        self.metrics.fallbacks += u64::from(way.model.is_some());
        match way.routed {
            Ok(slot) => {
                let granted = self.grant(now, slot, ask.model, payer, Costs::of(ask), way.rest);
                granted.map(Admission::Granted).inspect_err(|_| {
                    // The payer has used nothing.
                    self.limiter.correct(now, payer, ask.tokens, 0);
                })
            }
            Err(busy) => Ok(self.wait_for(now, busy, payer, ask, way.rest)),
        }
    }

    /// Has a request wait for what is busy.
    pub(super) fn wait_for(
        &mut self,
        now: Instant,
        busy: Busy,
        payer: Payer,
        ask: &Ask<'_>,
        fallbacks: Fallbacks,
    ) -> Admission {
        let deadline = self.patience(now, busy, ask);
        let open = busy == Busy::Exchanges;
        Admission::Queued(self.enqueue(deadline, payer, ask, open, fallbacks))
    }

    /// True for a session of an agent that the program starts.
    fn is_started(&self, slot: Slot) -> bool {
        let session = self.sessions.get(slot);
        session.is_some_and(|session| {
            session.circuit.is_none() && self.expected.contains(&session.agent_id)
        })
    }

    /// Returns the time until which a request waits for what is busy.
    fn patience(&self, now: Instant, busy: Busy, ask: &Ask<'_>) -> Instant {
        match busy {
            Busy::Session(slot) if self.is_started(slot) => now + self.config.timeouts.first_chunk,
            Busy::Exchanges | Busy::Session(_) => now + self.config.limits.queue_wait,
            // The wait for a start ends by itself; then it may be busy.
            Busy::Starting => {
                let model = self.resolve(ask.model);
                let until = self.expected.awaited(model).unwrap_or(now);
                until + self.config.timeouts.first_chunk
            }
        }
    }

    /// The session to use, or what is busy when the queue has room to wait in.
    fn try_admit(
        &mut self,
        now: Instant,
        caller: &super::keys::Caller,
        ask: &Ask<'_>,
    ) -> Result<Way, Refusal> {
        if self.draining {
            return Err(Refusal::draining());
        }
        let way = self.way(now, ask).inspect_err(|refusal| {
            // Of the session's own rates; those of the payer come later.
            if refusal.code() == Code::RateLimited {
                self.metrics.limited_requests += 1;
            }
        });
        let way = way?;
        if way.routed.is_err() && self.queue.len() >= self.config.limits.queue_length {
            self.metrics.overloaded += 1;
            return Err(Refusal::new(
                Code::Overloaded,
                alloc::format!(
                    "{} exchanges are open and {} wait, as many as limits.queue.length allows; try again in a moment{}",
                    self.metrics.open,
                    self.queue.len(),
                    asked_by(&caller.name)
                ),
            )
            .retry_after(self.config.limits.queue_wait));
        }
        let payer = Payer::new(caller.authority, caller.address);
        self.charge(now, payer, Costs::of(ask))?;
        Ok(way)
    }

    /// Returns what is left of a payer's limits: zeros for one whose key is gone.
    pub fn standing(&mut self, now: Instant, payer: Payer) -> Standing {
        let now = self.latest.clamp(now);
        self.limiter.standing(now, payer)
    }

    /// A request from `address` is refused for its key. It counts to the limit of the address all the same, so that nobody
    /// tries keys faster than that.
    ///
    /// # Errors
    /// 429 where the limit is reached, to answer with instead.
    pub fn refused_for_its_key(&mut self, now: Instant, address: IpAddr) -> Result<(), Refusal> {
        let now = self.latest.clamp(now);
        let (prompts, tokens) = (1, 0);
        self.charge(now, Payer::Address(address), Costs { prompts, tokens })
    }

    /// Takes the costs of a request from the buckets of its payer.
    fn charge(&mut self, now: Instant, payer: Payer, costs: Costs) -> Result<(), Refusal> {
        let taken = self
            .limiter
            .take(now, payer, costs.prompts.into(), costs.tokens);
        if self.sweep_at.is_none() && !self.limiter.is_idle() {
            self.sweep_at = Some(now + SWEEP);
        }
        taken.map_err(|limited| self.limited(now, payer, limited))
    }

    /// Takes the costs of one request.
    pub(super) fn charge_one(
        &mut self,
        now: Instant,
        payer: Payer,
        tokens: u64,
    ) -> Result<(), Refusal> {
        self.charge(now, payer, Costs { prompts: 1, tokens })
    }

    /// The refusal of a request by one of its payer's buckets.
    fn limited(&mut self, now: Instant, payer: Payer, limited: Limited) -> Refusal {
        let standing = self.limiter.standing(now, payer);
        let limits = &self.config.limits;
        let key = payer.authority().key().and_then(|key| self.keys.get(key));
        let (what, limit, own, general, current, wait) = match limited {
            Limited::Requests(wait) => {
                self.metrics.limited_requests += 1;
                (
                    "requests",
                    "requests_per_minute",
                    key.and_then(|key| key.requests_per_minute),
                    limits.requests_per_minute,
                    standing
                        .limit_requests
                        .saturating_sub(standing.remaining_requests),
                    wait,
                )
            }
            Limited::Tokens(wait) => {
                self.metrics.limited_tokens += 1;
                (
                    "tokens",
                    "tokens_per_minute",
                    key.and_then(|key| key.tokens_per_minute),
                    limits.tokens_per_minute,
                    standing
                        .limit_tokens
                        .saturating_sub(standing.remaining_tokens),
                    wait,
                )
            }
        };
        let who = match payer {
            Payer::Key(_) => alloc::format!("the key `{}`", self.keys.name_of(payer.authority())),
            Payer::Address(address) | Payer::Local(address) => {
                alloc::format!("the address {address}, without a key,")
            }
        };
        let exceeded = Exceeded {
            limit,
            value: own.unwrap_or(general).into(),
            current,
        };
        let message = match own {
            Some(own) => {
                alloc::format!("{who} has used its {own} {what} a minute (its own {limit})")
            }
            None => alloc::format!("{who} has used its {general} {what} a minute (limits.{limit})"),
        };
        Refusal::new(Code::RateLimited, message)
            .retry_after(wait)
            .standing(standing)
            .exceeding(exceeded)
    }

    pub(super) fn grant(
        &mut self,
        now: Instant,
        slot: Slot,
        asked: &str,
        payer: Payer,
        costs: Costs,
        fallbacks: Fallbacks,
    ) -> Result<Ticket, Refusal> {
        let model = self.model_of(slot, asked);
        let standing = self.limiter.standing(now, payer);
        let Some((session, link)) = self
            .sessions
            .get(slot)
            .and_then(|session| session.link.map(|link| (session, link)))
        else {
            return Err(Refusal::new(
                Code::AgentLost,
                "the agent's connection was lost",
            ));
        };
        enough_left(session, costs)?;
        if let Err(refusal) = self.take_of_session(now, slot, costs) {
            self.metrics.limited_requests += 1;
            return Err(refusal);
        }
        let of_link = self.links.get(&link).map(|state| state.form);
        let form = session.form.or(of_link).unwrap_or_default();
        session.activity.begin(now, costs.prompts);
        let spent = session.is_spent();
        let is_other = !leaves_choice(asked) && asked != &*model;
        let ticket = Ticket {
            asked: is_other.then(|| asked.into()),
            link,
            permit: session.permits.issue(session.id.clone(), payer.authority()),
            label: session.label.clone(),
            model,
            form,
            standing,
            parameters: session.supports.parameters,
            fallbacks,
            slot,
            payer,
            reserved: costs.tokens,
            admitted: now,
            settled: false,
            unsettled: self.unsettled.clone(),
        };
        self.metrics.admitted += 1;
        self.metrics.open += 1;
        if !self.upstreams.contains(link) {
            *self.at_work.entry(link).or_default() += 1;
        }
        self.reroute(slot);
        if spent {
            // Nobody else can wait for it.
            self.session_changed(slot);
        }
        Ok(ticket)
    }

    /// Returns the model that would answer, and who has it. Whether it has room for a request now does not matter.
    ///
    /// # Errors
    /// As [`Hub::admit`], but for limits and capacity.
    pub fn find(&self, caller: &super::keys::Caller, ask: &Ask<'_>) -> Result<Found, Refusal> {
        self.keys.confirm(caller)?;
        let permitted = self.permitted(caller, ask)?;
        let ask = &permitted
            .as_deref()
            .map_or(*ask, |model| Ask { model, ..*ask });
        if let Some(integration) = self.integration(caller, ask) {
            return integration.map(|model| Found { model, link: None });
        }
        match self.route(ask) {
            Ok(slot) => Ok(Found {
                model: self.model_of(slot, ask.model),
                link: self.sessions.get(slot).and_then(|session| session.link),
            }),
            Err(Unrouted::Busy(_)) => Ok(Found {
                model: self.resolve(ask.model).into(),
                link: None,
            }),
            Err(Unrouted::Refused(refusal)) => Err(refusal),
        }
    }

    /// Asks what became of a waiting admission.
    pub fn claim(&mut self, now: Instant, wait: WaitId) -> Claim {
        let now = self.latest.clamp(now);
        let Some(waiter) = self.queue.take_answered(wait) else {
            if self.queue.holds(wait) {
                return Claim::Waiting;
            }
            let gone = "this request does not wait any more";
            return Claim::Refused(Refusal::new(Code::Internal, gone));
        };
        match waiter.answer {
            Some(Ok(ticket)) => Claim::Granted(ticket),
            Some(Err(refusal)) => {
                // It was let pass by the limiter and has used nothing.
                self.limiter
                    .correct(now, waiter.payer, waiter.costs.tokens, 0);
                Claim::Refused(refusal)
            }
            None => Claim::Waiting,
        }
    }

    /// The client of a waiting admission went away. The ticket that it was granted and has not claimed goes back with
    /// [`Hub::conclude`]. Idempotent.
    pub fn leave(&mut self, now: Instant, wait: WaitId) -> Option<Ticket> {
        let now = self.latest.clamp(now);
        let waiter = self.queue.remove(wait)?;
        if let Some(Ok(ticket)) = waiter.answer {
            return Some(ticket);
        }
        self.limiter
            .correct(now, waiter.payer, waiter.costs.tokens, 0);
        None
    }

    /// Tells the queue that a session has more capacity, or less, or another state; [`Hub::pump`] follows.
    pub(super) fn session_changed(&mut self, slot: Slot) {
        if let Some(session) = self.sessions.get(slot) {
            self.queue.session_changed(session);
        }
    }

    /// Gives freed capacity to those that wait, in order, past those that want what is still busy.
    pub(super) fn pump(&mut self, now: Instant, out: &mut HubOut) {
        while self.queue.len() > 0 {
            if let Some(line) = self.queue.take_changed() {
                self.look(line, out);
                continue;
            }
            if self.metrics.open >= self.config.limits.exchanges {
                return;
            }
            let Some(line) = self.queue.first_open() else {
                return;
            };
            if let Some(slot) = self.look(line, out) {
                self.grant_first(now, line, slot, out);
            }
        }
    }

    /// Finds the session for a line. Where there can be none any more, all of the line are refused.
    fn look(&mut self, line: LineId, out: &mut HubOut) -> Option<Slot> {
        match self.route(&self.queue.ask(line)?) {
            Ok(slot) => {
                self.queue.set_open(line, true);
                Some(slot)
            }
            Err(Unrouted::Busy(Busy::Exchanges)) => {
                self.queue.set_open(line, true);
                None
            }
            Err(Unrouted::Busy(Busy::Session(_) | Busy::Starting)) => {
                self.queue.set_open(line, false);
                None
            }
            Err(Unrouted::Refused(refusal)) => {
                while let Some((wait, _)) = self.queue.first(line) {
                    self.answer(wait, Err(refusal.clone()), out);
                }
                None
            }
        }
    }

    /// Gives a session to the first of a line.
    fn grant_first(&mut self, now: Instant, line: LineId, slot: Slot, out: &mut HubOut) {
        let asked = self.queue.ask(line).map(|ask| String::from(ask.model));
        if let Some((wait, waiter)) = self.queue.first(line)
            && let Some(asked) = asked
        {
            let (payer, costs) = (waiter.payer, waiter.costs);
            let fallbacks = core::mem::take(&mut waiter.fallbacks);
            let granted = self.grant(now, slot, &asked, payer, costs, fallbacks);
            self.answer(wait, granted, out);
        }
    }

    /// Answers a waiter and has it woken.
    fn answer(&mut self, wait: WaitId, answer: Result<Ticket, Refusal>, out: &mut HubOut) {
        self.queue.answer(wait, answer);
        out.woken.push(wait);
    }

    /// Refuses those that wait with a key that is gone, or without one where one is required now.
    pub(super) fn refuse_withdrawn(&mut self, before: &Keys, out: &mut HubOut) {
        let gone: Vec<_> = self
            .queue
            .unanswered()
            .filter(|(_, waiter)| !self.keys.uphold(waiter.payer.authority()))
            .map(|(wait, waiter)| (wait, waiter.payer.authority()))
            .collect();
        for (wait, authority) in gone {
            let refusal = keys::withdrawn(authority, before.name_of(authority));
            self.answer(wait, Err(refusal), out);
        }
    }

    /// Refuses all that wait: nothing new is admitted any more.
    pub(super) fn refuse_waiting(&mut self, out: &mut HubOut) {
        while let Some(wait) = self.queue.any() {
            let refusal = Refusal::draining();
            self.answer(wait, Err(refusal), out);
        }
    }

    pub(super) fn expire_queue(&mut self, now: Instant, out: &mut HubOut) {
        while let Some(wait) = self.queue.first_due(now) {
            self.metrics.overloaded += 1;
            let refusal = self.too_busy(wait);
            self.answer(wait, Err(refusal), out);
        }
    }

    /// The refusal of a wait that was in vain: what is busy, and which limit says so.
    fn too_busy(&self, wait: WaitId) -> Refusal {
        let limits = &self.config.limits;
        let waiter = self.queue.waiter(wait);
        let busy = waiter.and_then(|(_, ask)| self.route(&ask).err()).map_or(
            Busy::Exchanges,
            |unrouted| match unrouted {
                Unrouted::Busy(busy) => busy,
                Unrouted::Refused(_) => Busy::Exchanges,
            },
        );
        let who = waiter.map(|(waiter, _)| self.keys.name_of(waiter.payer.authority()));
        let who = who.map_or_else(String::new, asked_by);
        let what = match busy {
            Busy::Exchanges => alloc::format!(
                "limits.exchanges allows {} at once, and none ended within limits.queue.wait",
                limits.exchanges
            ),
            Busy::Session(slot)
                if let Some(session) = self.sessions.get(slot)
                    && session.circuit.is_some() =>
            {
                alloc::format!(
                    "the upstream `{}` has as many requests as it may be given at once, and none ended within limits.queue.wait",
                    session.agent_id
                )
            }
            Busy::Session(slot) if !self.is_started(slot) => {
                "every agent that could answer has as many requests as its max_concurrency allows, and none ended within limits.queue.wait".into()
            }
            Busy::Session(_) | Busy::Starting => {
                "the agent has as many requests as its agents[].concurrency allows, and none ended within timeouts.first_chunk".into()
            }
        };
        Refusal::new(
            Code::Overloaded,
            alloc::format!("no capacity came free in time: {what}; try again in a moment{who}"),
        )
        .retry_after(limits.queue_wait)
    }
}

/// Names the key that has asked, in a message; nothing for a caller without one.
fn asked_by(name: &str) -> String {
    match name {
        keys::ANONYMOUS => String::new(),
        name => alloc::format!(" (asked with the key `{name}`)"),
    }
}
