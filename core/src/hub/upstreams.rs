//! Upstreams: servers of models that are asked in their own APIs. Each has one session, which nothing carries but its name.
//!
//! Its models are `NAME/MODEL`. A bare `MODEL` stands for that where nobody else has the name.

use super::circuit::Circuit;
use super::keys::Authority;
use super::links::Registrar;
use super::routing::Slot;
use super::sessions::{Registration, Session, Status};
use super::{Hub, HubOut, Ticket};
use crate::config::CircuitLimits;
use crate::error::{Code, Refusal};
use crate::id::{LinkId, SessionId};
use crate::link::MAX_MODELS;
use crate::supports::Supports;
use crate::time::Instant;
use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::time::Duration;
use hashbrown::HashMap;

/// An upstream as the configuration names it.
#[derive(Clone, Debug, PartialEq)]
pub struct UpstreamTerms {
    /// Its name.
    pub name: String,
    /// The requests that its API has a form for.
    pub supports: Supports,
    /// Its models by its own names; its own list when empty, which [`Hub::upstream_models`] tells.
    pub models: Vec<String>,
    /// Exchanges at once.
    pub concurrency: Option<usize>,
    /// Requests in a minute.
    pub requests_per_minute: Option<u32>,
    /// Tokens in a minute.
    pub tokens_per_minute: Option<u32>,
    /// Failures after which it is left alone.
    pub circuit: CircuitLimits,
    /// Time that requests wait for its first list.
    pub patience: Duration,
}

/// State of an upstream, for health and metrics.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct UpstreamStatus {
    /// Its name.
    pub name: Arc<str>,
    /// State of its circuit: `closed`, `open` or `probing`.
    pub circuit: &'static str,
    /// The end of the circuit's pause.
    pub open_until: Option<Instant>,
    /// Failures in a row.
    pub failures: u32,
    /// Attempts that failed by its fault.
    pub failed: u64,
    /// Number of its models.
    pub models: usize,
    /// Exchanges that are open.
    pub in_flight: usize,
    /// Requests that it was given.
    pub requests: u64,
    /// Reason for which its list could not be read the last time.
    pub unlisted: Option<Arc<str>>,
}

#[derive(Debug)]
pub(super) struct Upstream {
    name: Arc<str>,
    slot: Slot,
    /// Its session: once that has ended and is forgotten, the slot is another's.
    session: SessionId,
    failed: u64,
    /// True once its models are known.
    is_listed: bool,
    unlisted: Option<Arc<str>>,
}

/// The upstreams and the bare names of their models.
#[derive(Debug, Default)]
pub(super) struct Upstreams {
    by_link: BTreeMap<LinkId, Upstream>,
    /// The models of a bare name, one of each upstream that has it.
    bare: HashMap<String, Vec<Arc<str>>>,
}

impl Upstreams {
    /// The only model of a bare name.
    pub(super) fn only(&self, bare: &str) -> Option<&str> {
        match self.bare.get(bare).map(Vec::as_slice) {
            Some([only]) => Some(only),
            Some(_) | None => None,
        }
    }

    /// The models of a bare name, where there are several.
    pub(super) fn several(&self, bare: &str) -> &[Arc<str>] {
        let models = self.bare.get(bare).map_or(&[][..], Vec::as_slice);
        match models {
            [_] => &[],
            models => models,
        }
    }

    /// The bare names that stand for one model, each with that.
    pub(super) fn bare_names(&self) -> impl Iterator<Item = (&str, &Arc<str>)> {
        self.bare
            .iter()
            .filter_map(|(bare, models)| match &**models {
                [only] => Some((bare.as_str(), only)),
                _ => None,
            })
    }

    pub(super) fn contains(&self, link: LinkId) -> bool {
        self.by_link.contains_key(&link)
    }

    pub(super) fn has_name(&self, name: &str) -> bool {
        self.by_link
            .values()
            .any(|upstream| *upstream.name == *name)
    }

    /// The upstream that has the model `NAME/MODEL`, if one is of that name.
    pub(super) fn of_model(&self, model: &str) -> Option<&Upstream> {
        let (name, _) = model.split_once('/')?;
        self.by_link
            .values()
            .find(|upstream| *upstream.name == *name)
    }
}

impl Upstream {
    /// Tells why none of its models can be asked; `None` when they are known.
    pub(super) fn why_unlisted(&self) -> Option<String> {
        if self.is_listed {
            return None;
        }
        let name = &self.name;
        Some(match self.unlisted.as_deref() {
            Some(why) => alloc::format!(
                "the list of models of the upstream `{name}` cannot be read ({why}); name them in `upstreams[].models`"
            ),
            None => alloc::format!(
                "the list of models of the upstream `{name}` has not come within its connect_timeout; name them in `upstreams[].models`"
            ),
        })
    }
}

impl Hub {
    /// Adds an upstream. Where its models are not configured, requests for them wait for its first list. The name that is
    /// returned stands in its tickets.
    ///
    /// # Errors
    /// 400 for a name or a model that is none, 503 beyond `sessions.max`.
    pub fn add_upstream(
        &mut self,
        now: Instant,
        terms: &UpstreamTerms,
        out: &mut HubOut,
    ) -> Result<LinkId, Refusal> {
        let now = self.latest.clamp(now);
        let name: Arc<str> = terms.name.as_str().into();
        let registration = Registration {
            agent_id: terms.name.clone(),
            label: Some(terms.name.clone()),
            models: full_names(&name, &terms.models),
            max_requests: Some(0),
            requests_per_minute: terms.requests_per_minute,
            max_concurrency: terms.concurrency,
            supports: terms.supports.clone(),
            ..Registration::default()
        };
        let registrar = Registrar {
            credential: Some(self.stands_for("upstream", &name)),
            key: None,
            authority: Authority::Configuration,
            is_agent: false,
        };
        let (slot, _) = self.register(now, registration, registrar, Status::Active, out)?;
        self.last_link += 1;
        let link = LinkId(self.last_link);
        let Some(session) = self.sessions.get_mut(slot) else {
            return Err(Refusal::new(Code::Internal, "the upstream has no session"));
        };
        session.carrier = Some(name.clone());
        session.circuit = Some(Circuit::new(terms.circuit));
        session.tokens_per_minute = terms.tokens_per_minute;
        let session = session.id.clone();
        self.upstreams.by_link.insert(
            link,
            Upstream {
                name: name.clone(),
                slot,
                session,
                failed: 0,
                is_listed: !terms.models.is_empty(),
                unlisted: None,
            },
        );
        if terms.models.is_empty() {
            // An empty list of models stands for the name itself, which is no model of an upstream.
            self.set_models(slot, Arc::new([]));
            self.expect_agent(now, &name, terms.patience, out);
        }
        self.sessions.set_link(now, slot, Some(link));
        self.upstreams_changed(slot);
        self.pump(now, out);
        Ok(link)
    }

    /// The list of an upstream was read: these are its models, by its own names. Those beyond [`MAX_MODELS`] are left out.
    pub fn upstream_models(
        &mut self,
        now: Instant,
        link: LinkId,
        models: &[String],
        out: &mut HubOut,
    ) {
        let now = self.latest.clamp(now);
        let Some(upstream) = self.upstreams.by_link.get_mut(&link) else {
            return;
        };
        upstream.is_listed = true;
        upstream.unlisted = None;
        let (name, slot) = (upstream.name.clone(), upstream.slot);
        let models = models.get(..MAX_MODELS).unwrap_or(models);
        let models: Arc<[Arc<str>]> = full_names(&name, models)
            .into_iter()
            .map(Arc::from)
            .collect();
        let has_others = |session: &Session| session.models != models;
        if self.session_of(link).is_some_and(has_others) {
            self.unroute(slot);
            self.session_changed(slot);
            self.set_models(slot, models);
            self.upstreams_changed(slot);
        }
        self.agent_registered(now, &name, out);
        self.pump(now, out);
    }

    /// The list of an upstream could not be read, for this reason. The models that it had before stay.
    pub fn upstream_unlisted(&mut self, now: Instant, link: LinkId, why: &str, out: &mut HubOut) {
        let now = self.latest.clamp(now);
        let Some(upstream) = self.upstreams.by_link.get_mut(&link) else {
            return;
        };
        upstream.unlisted = Some(why.into());
        let name = upstream.name.clone();
        self.agent_registered(now, &name, out);
    }

    /// An attempt of an exchange failed by the fault of its upstream. True when that is left alone from now on.
    pub fn upstream_failed(&mut self, now: Instant, ticket: &Ticket, out: &mut HubOut) -> bool {
        let now = self.latest.clamp(now);
        if let Some(upstream) = self.upstreams.by_link.get_mut(&ticket.link) {
            upstream.failed += 1;
        }
        let is_open = self.change_circuit(ticket.slot, |circuit| {
            circuit.failed(now);
            circuit.open_until().is_some()
        });
        self.pump(now, out);
        is_open
    }

    /// True when the upstream of an exchange is asked nothing now: a further attempt would be in vain.
    #[must_use]
    pub fn is_upstream_left_alone(&self, ticket: &Ticket) -> bool {
        let session = self.sessions.get(ticket.slot);
        let circuit = session.and_then(|session| session.circuit);
        circuit.is_some_and(|circuit| circuit.open_until().is_some())
    }

    /// The first byte of an answer of an upstream came.
    pub(super) fn upstream_succeeded(&mut self, slot: Slot) {
        let session = self.sessions.get(slot);
        let circuit = session.and_then(|session| session.circuit);
        if circuit.is_some_and(|circuit| circuit.failures() > 0) {
            self.change_circuit(slot, |circuit| {
                circuit.succeeded();
                false
            });
        }
    }

    /// The session of an upstream that has not ended.
    fn session_of(&self, link: LinkId) -> Option<&Session> {
        self.session_in(self.upstreams.by_link.get(&link)?)
    }

    fn session_in(&self, upstream: &Upstream) -> Option<&Session> {
        let session = self.sessions.get(upstream.slot)?;
        (session.id == upstream.session && !session.status.is_final()).then_some(session)
    }

    fn change_circuit(&mut self, slot: Slot, change: impl FnOnce(&mut Circuit) -> bool) -> bool {
        let session = self.sessions.get_mut(slot);
        let changed = session
            .and_then(|session| session.circuit.as_mut())
            .is_some_and(change);
        self.reroute(slot);
        self.session_changed(slot);
        changed
    }

    /// The end of the next pause.
    pub(super) fn next_probe(&self) -> Option<Instant> {
        let upstreams = self.upstreams.by_link.values();
        let sessions = upstreams.filter_map(|upstream| self.session_in(upstream));
        sessions
            .filter_map(|session| session.circuit?.open_until())
            .min()
    }

    /// Pauses have come to their end.
    pub(super) fn probe_upstreams(&mut self, now: Instant, out: &mut HubOut) {
        let upstreams = self.upstreams.by_link.values();
        let there = upstreams.filter(|upstream| self.session_in(upstream).is_some());
        let slots: Vec<Slot> = there.map(|upstream| upstream.slot).collect();
        for slot in slots {
            self.change_circuit(slot, |circuit| circuit.handle_timeout(now));
        }
        self.pump(now, out);
    }

    fn set_models(&mut self, slot: Slot, models: Arc<[Arc<str>]>) {
        self.sessions.set_models(slot, models);
    }

    /// Models have come or gone: bare names and the lines of those that wait mean others.
    fn upstreams_changed(&mut self, slot: Slot) {
        let mut names = core::mem::take(&mut self.upstreams.bare);
        names.clear();
        for upstream in self.upstreams.by_link.values() {
            let Some(session) = self.session_in(upstream) else {
                continue;
            };
            for model in session.models.iter() {
                let Some(bare) = model.get(upstream.name.len() + 1..) else {
                    continue;
                };
                names.entry_ref(bare).or_default().push(model.clone());
            }
        }
        self.upstreams.bare = names;
        self.lists = None;
        self.reroute(slot);
        self.requeue();
    }

    /// All of them, in the order of the configuration.
    #[must_use]
    pub fn upstreams(&self) -> Vec<UpstreamStatus> {
        let upstreams = self.upstreams.by_link.values();
        upstreams
            .filter_map(|upstream| {
                let session = self.session_in(upstream)?;
                let circuit = session.circuit?;
                Some(UpstreamStatus {
                    name: upstream.name.clone(),
                    circuit: circuit.as_str(),
                    open_until: circuit.open_until(),
                    failures: circuit.failures(),
                    failed: upstream.failed,
                    models: session.models.len(),
                    in_flight: session.activity.in_flight(),
                    requests: session.activity.requests(),
                    unlisted: upstream.unlisted.clone(),
                })
            })
            .collect()
    }
}

/// The name that an upstream itself has for its model `NAME/MODEL`.
#[must_use]
pub fn own_name<'m>(upstream: &str, model: &'m str) -> Option<&'m str> {
    model.strip_prefix(upstream)?.strip_prefix('/')
}

fn full_names(upstream: &str, models: &[String]) -> Vec<String> {
    let full = |model: &String| alloc::format!("{upstream}/{model}");
    models.iter().map(full).collect()
}
