//! Sessions: the permission of one agent to answer. How they move is in `hub::lifecycle`.

use super::circuit::Circuit;
use super::keys::{Authority, Digest};
use super::lifecycle::Since;
pub use super::lifecycle::{Action, STATES, Status};
use super::lists::Activity;
use super::owners::Owners;
use super::routing::Slot;
use crate::config::SessionPolicy;
use crate::error::{Code, Refusal};
use crate::id::{LinkId, SessionId};
use crate::invocation::InvokeForm;
use crate::link::{MAX_MODELS, Permits};
use crate::supports::Supports;
use crate::time::Instant;
use alloc::collections::{BTreeSet, VecDeque};
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::time::Duration;
use hashbrown::HashMap;

/// Longest name of an agent, a label or a model in bytes.
const MAX_NAME: usize = 256;
/// Exchanges at once of a session that names no `max_concurrency`.
const UNBOUNDED: usize = usize::MAX;

/// A request for a session, from `POST /control/register` or from `register` on a link.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Registration {
    /// Wanted name; made here where absent.
    pub session_id: Option<SessionId>,
    /// Digest of a token that the bridge made.
    pub session_token: Option<Digest>,
    /// Name of the agent.
    pub agent_id: String,
    /// For people.
    pub label: Option<String>,
    /// 1 to 86 400.
    pub ttl_seconds: Option<u32>,
    /// Names that it answers to; its `agent_id` when empty.
    pub models: Vec<String>,
    /// Requests that it may answer in its life.
    pub max_requests: Option<u64>,
    /// Requests that it may answer in a minute.
    pub requests_per_minute: Option<u32>,
    /// Exchanges at once.
    pub max_concurrency: Option<usize>,
    /// The form in which its agent is asked; its link's where absent.
    pub form: Option<InvokeForm>,
    /// The requests that it may be given.
    pub supports: Supports,
}

impl Registration {
    /// Checks the values of a registration.
    ///
    /// # Errors
    /// 400 that names the field.
    pub fn check(&self) -> Result<(), Refusal> {
        let wrong = |field: &'static str, what: &str| {
            Err(Refusal::invalid(alloc::format!("{field}: {what}")).at(field))
        };
        let label = |text: &str| {
            (1..=MAX_NAME).contains(&text.len()) && !text.chars().any(char::is_control)
        };
        if !label(&self.agent_id) {
            return wrong(
                "agent_id",
                "expected 1 to 256 bytes without control characters",
            );
        }
        if self.label.as_deref().is_some_and(|text| !label(text)) {
            return wrong(
                "label",
                "expected 1 to 256 bytes without control characters",
            );
        }
        if self.models.len() > MAX_MODELS {
            return wrong("models", "at most 256 names");
        }
        if self
            .models
            .iter()
            .any(|model| !label(model) || model.contains(char::is_whitespace))
        {
            return wrong(
                "models",
                "expected names of 1 to 256 bytes without white space",
            );
        }
        let scopes = self.supports.scopes.names();
        if scopes.len() > 16 || scopes.iter().any(|scope| !label(scope)) {
            return wrong("allowed_scopes", "at most 16 names of 1 to 256 bytes");
        }
        if self
            .ttl_seconds
            .is_some_and(|ttl| !(1..=86_400).contains(&ttl))
        {
            return wrong("ttl_seconds", "expected 1 to 86400");
        }
        if self.requests_per_minute == Some(0) {
            return wrong("requests_per_minute", "expected at least 1");
        }
        if self.max_concurrency == Some(0) {
            return wrong("max_concurrency", "expected at least 1");
        }
        Ok(())
    }
}

impl From<crate::link::Registration> for Registration {
    fn from(told: crate::link::Registration) -> Self {
        Self {
            session_id: None,
            session_token: None,
            agent_id: told.agent_id,
            label: told.label,
            // What does not fit is out of range too, and `check` says so.
            ttl_seconds: told
                .ttl_seconds
                .map(|ttl| u32::try_from(ttl).unwrap_or(u32::MAX)),
            models: told.models,
            max_requests: told.max_requests,
            requests_per_minute: None,
            max_concurrency: told
                .max_concurrency
                .map(|most| usize::try_from(most).unwrap_or(usize::MAX)),
            form: told.form,
            supports: told.supports,
        }
    }
}

/// One session.
#[derive(Clone, Debug)]
pub struct Session {
    /// Its name.
    pub id: SessionId,
    /// Name of the agent.
    pub agent_id: Arc<str>,
    /// For people.
    pub label: Arc<str>,
    /// Names that it answers to.
    pub models: Arc<[Arc<str>]>,
    /// Its state.
    pub status: Status,
    /// Time of its registration.
    pub created_at: Instant,
    /// Time at which it expires; `None` while its link holds it.
    pub expires_at: Option<Instant>,
    /// Time at which it ended.
    pub ended_at: Option<Instant>,
    /// From when on its time to live counts.
    pub(super) since: Since,
    /// Its time to live.
    pub ttl: Duration,
    /// Its activity.
    pub activity: Arc<Activity>,
    /// Requests that it may be given; 0 is no limit.
    pub max_requests: u64,
    /// Requests that it may be given in a minute.
    pub requests_per_minute: Option<u32>,
    /// Tokens that it may be given in a minute.
    pub tokens_per_minute: Option<u32>,
    /// Exchanges that may be open.
    pub max_concurrency: usize,
    /// The form in which its agent is asked; its link's where absent.
    pub form: Option<InvokeForm>,
    /// The requests that it may be given.
    pub supports: Supports,
    /// The connection that it answers on.
    pub link: Option<LinkId>,
    /// Name of the agent, the bridge or the upstream of the configuration that carries it, or did last.
    pub(super) carrier: Option<Arc<str>>,
    /// An upstream's.
    pub(super) circuit: Option<Circuit>,
    /// The permits of its tickets.
    pub(super) permits: Permits,
    /// Digest of its token.
    pub(super) token: Digest,
    /// Digest of the credential that registered it.
    pub(super) owner: Option<Digest>,
    /// The permission with which it was registered.
    pub(super) authority: Authority,
    /// True once an operator has ended it.
    pub(super) barred: bool,
    /// True when its agent registered it on a link; false when a bridge did so over HTTP.
    pub(super) by_agent: bool,
    /// Its load in the pools of its models; `None` when it is in none.
    load: Option<usize>,
}

impl Session {
    /// True when a new exchange may go to it.
    #[must_use]
    pub fn can_answer(&self) -> bool {
        self.is_there() && self.at_once() > 0
    }

    /// True when its models are there for clients, though it may be left alone for a while.
    #[must_use]
    pub fn is_there(&self) -> bool {
        self.status == Status::Active && self.link.is_some() && !self.is_spent()
    }

    /// True when it has answered as often as it may.
    #[must_use]
    pub fn is_spent(&self) -> bool {
        self.requests_left() == Some(0)
    }

    /// Returns how many requests it may be given still; `None` without a limit.
    pub(super) fn requests_left(&self) -> Option<u64> {
        let left = self.max_requests.saturating_sub(self.activity.requests());
        (self.max_requests > 0).then_some(left)
    }

    /// True for the session that the owner's configuration gives to a bridge.
    pub(super) fn is_configured(&self) -> bool {
        self.authority == Authority::Configuration && !self.by_agent
    }

    /// Its load in the pools of its models; `None` when it is in none.
    pub(super) const fn load(&self) -> Option<usize> {
        self.load
    }

    /// True when it takes no more exchanges at once.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.activity.in_flight() >= self.at_once()
    }

    /// Exchanges that may be open now.
    fn at_once(&self) -> usize {
        let most = self.max_concurrency;
        self.circuit.map_or(most, |circuit| circuit.at_once(most))
    }
}

/// All sessions, found by name and by token, with an ordered index of their ends.
#[derive(Debug, Default)]
pub struct Sessions {
    slots: Vec<Option<Session>>,
    free: Vec<usize>,
    by_id: HashMap<SessionId, Slot>,
    by_token: HashMap<Digest, Slot>,
    expiry: BTreeSet<(Instant, usize)>,
    ended: VecDeque<Slot>,
    owners: Owners,
    live: usize,
    /// True when a link holds the sessions that it carries: they do not expire (`sessions.renew: connected`).
    pub(super) links_hold: bool,
    /// Number of sessions in each state, in the order of [`Status::ALL`].
    counts: [usize; Status::ALL.len()],
    /// Sessions that can answer.
    answering: usize,
    /// True when something has changed since [`Sessions::take_changed`].
    changed: bool,
    /// Number of times that all of them were looked at.
    #[cfg(test)]
    walks: core::cell::Cell<usize>,
}

impl Sessions {
    /// None yet.
    pub(super) fn new(policy: &SessionPolicy) -> Self {
        Self {
            links_hold: policy.renew_while_connected,
            ..Self::default()
        }
    }

    /// Returns the number of sessions in each state, in the order of [`Status::ALL`].
    #[must_use]
    pub const fn counts(&self) -> [usize; Status::ALL.len()] {
        self.counts
    }

    /// Returns the number of sessions in one state.
    #[must_use]
    pub fn count(&self, status: Status) -> usize {
        self.counts.get(status.place()).copied().unwrap_or(0)
    }

    /// Sessions that can answer.
    #[must_use]
    pub const fn answering(&self) -> usize {
        self.answering
    }

    /// True when anything but [`Session::activity`] has changed since the last call.
    pub(super) const fn take_changed(&mut self) -> bool {
        core::mem::replace(&mut self.changed, false)
    }

    /// Notes the load of a session in the pools of its models, and counts it among those that can answer, or not.
    pub(super) fn set_load(&mut self, slot: Slot, load: Option<usize>) {
        let Some(session) = self.slots.get_mut(slot.0).and_then(Option::as_mut) else {
            return;
        };
        match (session.load, load) {
            (None, Some(_)) => self.answering += 1,
            (Some(_), None) => self.answering = self.answering.saturating_sub(1),
            (None, None) | (Some(_), Some(_)) => {}
        }
        self.changed |= session.load.is_some() != load.is_some();
        session.load = load;
    }

    /// Counts a session in its new state, and no longer in the one before.
    pub(super) fn recount(&mut self, before: Option<Status>, after: Option<Status>) {
        self.changed = true;
        if let Some(count) = before.and_then(|status| self.counts.get_mut(status.place())) {
            *count = count.saturating_sub(1);
        }
        if let Some(count) = after.and_then(|status| self.counts.get_mut(status.place())) {
            *count += 1;
        }
    }

    /// Sessions that have not ended.
    #[must_use]
    pub const fn live(&self) -> usize {
        self.live
    }

    /// Adds a session.
    ///
    /// # Errors
    /// 409 when the name is known, or the token is that of a session that has not ended.
    pub fn insert(&mut self, session: Session) -> Result<Slot, Refusal> {
        if self.by_id.contains_key(&session.id) {
            return Err(Refusal::new(
                Code::Conflict,
                alloc::format!("session_id: a session `{}` exists already", session.id),
            )
            .at("session_id"));
        }
        if self.token_is_taken(&session.token, None) {
            return Err(token_taken());
        }
        let at = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            self.slots.len() - 1
        });
        let slot = Slot(at);
        self.by_id.insert(session.id.clone(), slot);
        self.by_token.insert(session.token, slot);
        if let Some(expires) = session.expires_at {
            self.expiry.insert((expires, at));
        }
        self.recount(None, Some(session.status));
        self.owners.add(slot, &session);
        if let Some(place) = self.slots.get_mut(at) {
            *place = Some(session);
        }
        self.live += 1;
        Ok(slot)
    }

    /// Gives a session that goes on the terms of another registration; its name, state, link and activity stay.
    pub(super) fn rewrite(&mut self, slot: Slot, terms: Session) {
        let Some(mut session) = self.slots.get_mut(slot.0).and_then(Option::take) else {
            return;
        };
        self.changed = true;
        self.owners.remove(slot, &session);
        self.forget_token(slot, &session.token);
        session.agent_id = terms.agent_id;
        session.label = terms.label;
        session.models = terms.models;
        session.ttl = terms.ttl;
        session.max_requests = terms.max_requests;
        session.requests_per_minute = terms.requests_per_minute;
        session.max_concurrency = terms.max_concurrency;
        session.supports = terms.supports;
        session.form = terms.form;
        session.token = terms.token;
        session.authority = terms.authority;
        self.by_token.insert(session.token, slot);
        self.owners.add(slot, &session);
        if let Some(place) = self.slots.get_mut(slot.0) {
            *place = Some(session);
        }
    }

    /// Gives a session that is in no pool other models.
    pub(super) fn set_models(&mut self, slot: Slot, models: Arc<[Arc<str>]>) {
        let Some(mut session) = self.slots.get_mut(slot.0).and_then(Option::take) else {
            return;
        };
        self.changed = true;
        self.owners.remove(slot, &session);
        session.models = models;
        self.owners.add(slot, &session);
        if let Some(place) = self.slots.get_mut(slot.0) {
            *place = Some(session);
        }
    }

    /// Forgets a session that has ended, so that its name may be used again. False while exchanges of it are open.
    pub(super) fn forget_ended(&mut self, slot: Slot) -> bool {
        let idle = |session: &Session| session.activity.in_flight() == 0;
        if !self.get(slot).is_some_and(idle) {
            return false;
        }
        if let Some(position) = self.ended.iter().position(|ended| *ended == slot) {
            self.forget_at(position);
        }
        self.get(slot).is_none()
    }

    fn forget_token(&mut self, slot: Slot, token: &Digest) {
        // A bridge may have given the token of a session that had ended to a newer one.
        if self.by_token.get(token) == Some(&slot) {
            self.by_token.remove(token);
        }
    }

    /// True when the token is that of a session that has not ended, `but` one.
    pub(super) fn token_is_taken(&self, token: &Digest, but: Option<Slot>) -> bool {
        self.by_token(token)
            .filter(|slot| Some(*slot) != but)
            .and_then(|slot| self.get(slot))
            .is_some_and(|session| !session.status.is_final())
    }

    /// Indexes by model and by who registered them.
    pub(super) const fn owners(&self) -> &Owners {
        &self.owners
    }

    /// Finds a session anew by its state and its link, which have changed.
    pub(super) fn refile(&mut self, slot: Slot) {
        if let Some(session) = self.slots.get(slot.0).and_then(Option::as_ref) {
            self.owners.refile(slot, session);
        }
    }

    /// The session at `slot`.
    #[must_use]
    pub fn get(&self, slot: Slot) -> Option<&Session> {
        self.slots.get(slot.0)?.as_ref()
    }

    /// The session at `slot`. Its name, token, state and expiry are changed by the methods of this type only.
    pub(super) fn get_mut(&mut self, slot: Slot) -> Option<&mut Session> {
        self.changed = true;
        self.slots.get_mut(slot.0)?.as_mut()
    }

    /// The session of that name.
    #[must_use]
    pub fn find(&self, id: &str) -> Option<Slot> {
        self.by_id.get(&SessionId::new(id)?).copied()
    }

    /// The session of that token; one that has ended is found as long as it is remembered.
    #[must_use]
    pub fn by_token(&self, token: &Digest) -> Option<Slot> {
        self.by_token.get(token).copied()
    }

    /// Sets or lifts the end.
    pub(super) fn set_expiry(&mut self, slot: Slot, at: Option<Instant>) {
        let Some(session) = self.slots.get_mut(slot.0).and_then(Option::as_mut) else {
            return;
        };
        self.changed = true;
        if let Some(before) = session.expires_at {
            self.expiry.remove(&(before, slot.0));
        }
        session.expires_at = at;
        if let Some(at) = at {
            self.expiry.insert((at, slot.0));
        }
    }

    /// Counts a session among those that have ended. The oldest of more than `remembered` is forgotten.
    pub(super) fn over(&mut self, slot: Slot, remembered: usize) {
        self.live = self.live.saturating_sub(1);
        if let Some(session) = self.slots.get(slot.0).and_then(Option::as_ref) {
            self.owners.remove(slot, session);
            self.owners.remember(session);
        }
        self.ended.push_back(slot);
        if self.ended.len() > remembered {
            self.forget_oldest();
        }
    }

    /// The next end.
    #[must_use]
    pub fn next_expiry(&self) -> Option<Instant> {
        self.expiry.first().map(|(at, _)| *at)
    }

    /// Takes a session whose end has come.
    pub(super) fn take_due(&mut self, now: Instant) -> Option<Slot> {
        let (_, at) = *self.expiry.first().filter(|(at, _)| *at <= now)?;
        self.set_expiry(Slot(at), None);
        Some(Slot(at))
    }

    /// The places of all of them.
    pub(super) fn all(&self) -> Vec<Slot> {
        #[cfg(test)]
        self.walks.set(self.walks.get() + 1);
        let taken = self.slots.iter().enumerate();
        taken
            .filter(|(_, session)| session.is_some())
            .map(|(at, _)| Slot(at))
            .collect()
    }

    /// All of them, ended ones too, in no particular order.
    pub fn iter(&self) -> impl Iterator<Item = &Session> {
        #[cfg(test)]
        self.walks.set(self.walks.get() + 1);
        self.slots.iter().flatten()
    }

    #[cfg(test)]
    pub(super) const fn walks(&self) -> usize {
        self.walks.get()
    }

    fn forget_oldest(&mut self) {
        // One that still has exchanges open is kept until they are settled: their tickets name its slot.
        let Some(position) = self.ended.iter().position(|slot| {
            self.get(*slot)
                .is_none_or(|session| session.activity.in_flight() == 0)
        }) else {
            return;
        };
        self.forget_at(position);
    }

    fn forget_at(&mut self, position: usize) {
        if let Some(slot) = self.ended.remove(position)
            && let Some(session) = self.slots.get_mut(slot.0).and_then(Option::take)
        {
            self.by_id.remove(&session.id);
            self.forget_token(slot, &session.token);
            self.owners.forget(&session);
            self.free.push(slot.0);
            self.recount(Some(session.status), None);
        }
    }
}

/// The refusal of a token that is another session's.
pub(super) fn token_taken() -> Refusal {
    let message = "session_token: another session has this token; each needs its own";
    Refusal::new(Code::Conflict, message).at("session_token")
}

/// Terms that the hub adds to a registration.
pub(super) struct Terms {
    pub(super) id: SessionId,
    pub(super) token: Digest,
    pub(super) owner: Option<Digest>,
    pub(super) authority: Authority,
    pub(super) by_agent: bool,
    pub(super) status: Status,
}

/// Turns an accepted registration into a session.
pub(super) fn admit(
    registration: Registration,
    terms: Terms,
    policy: &SessionPolicy,
    now: Instant,
) -> Session {
    let Terms {
        id,
        token,
        owner,
        authority,
        by_agent,
        status,
    } = terms;
    let ttl = registration.ttl_seconds.unwrap_or(policy.ttl_seconds);
    let ttl = Duration::from_secs(u64::from(ttl));
    let agent_id: Arc<str> = registration.agent_id.into();
    let models: Arc<[Arc<str>]> = if registration.models.is_empty() {
        Arc::from([agent_id.clone()])
    } else {
        registration
            .models
            .iter()
            .map(|model| Arc::from(model.as_str()))
            .collect()
    };
    let activity = Activity::default();
    activity.touch(now);
    Session {
        id,
        label: registration
            .label
            .map_or_else(|| agent_id.clone(), Arc::from),
        agent_id,
        models,
        status,
        created_at: now,
        expires_at: Some(now + ttl),
        ended_at: None,
        since: Since::registration(now, status),
        ttl,
        activity: Arc::new(activity),
        max_requests: registration.max_requests.unwrap_or(policy.max_requests),
        form: registration.form,
        requests_per_minute: registration.requests_per_minute,
        tokens_per_minute: None,
        max_concurrency: registration.max_concurrency.unwrap_or(UNBOUNDED).max(1),
        supports: registration.supports,
        link: None,
        carrier: None,
        circuit: None,
        permits: Permits::default(),
        token,
        owner,
        authority,
        barred: false,
        by_agent,
        load: None,
    }
}
