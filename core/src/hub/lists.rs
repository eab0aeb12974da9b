//! Lists of the hub's sessions and models: plain data that is made anew after a change of them, and read without the
//! hub's lock.

use super::expected::Expected;
use super::integrations::Integrations;
use super::limiter::Bucket;
use super::models::EVERY;
use super::sessions::{Session, Sessions, Status};
use super::upstreams::Upstreams;
use crate::config::HubConfig;
use crate::id::{LinkId, SessionId};
use crate::scope::Scopes;
use crate::supports::Capabilities;
use crate::time::{Instant, WallClock};
use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use core::time::Duration;

/// Owner of the models that are integrations.
const INTEGRATION: &str = "integration";

/// Sessions and models as they were after the last change of them. What every request changes is in [`Activity`], which the
/// hub shares, so that a request does not make this stale.
#[derive(Clone, Debug)]
pub struct Lists {
    /// Tells the calendar's time.
    pub wall: WallClock,
    /// True once nothing new is admitted.
    pub draining: bool,
    /// Sessions that are active.
    pub active: usize,
    /// All sessions, those included that have ended and are still remembered, in no particular order.
    pub sessions: Vec<ListedSession>,
    /// The models that clients may ask for, by name: those of every session that can answer, the
    /// names of agents that are being started, and the aliases.
    pub models: Vec<Model>,
    /// The model that stands for every other name, by its own name; none without the alias `*`.
    pub every: Option<Model>,
}

/// One session.
#[derive(Clone, Debug)]
pub struct ListedSession {
    /// Its name.
    pub id: SessionId,
    /// Name of the agent.
    pub agent_id: Arc<str>,
    /// For people.
    pub label: Arc<str>,
    /// Scopes that it may be used for.
    pub scopes: Scopes,
    /// Names that it answers to.
    pub models: Arc<[Arc<str>]>,
    /// Its state.
    pub status: Status,
    /// Time of its registration.
    pub created_at: Instant,
    /// Time at which it expires, or has ended; `None` while its link keeps it alive.
    pub expires_at: Option<Instant>,
    /// Its time to live.
    pub ttl: Duration,
    /// Requests that it may be given; 0 is no limit.
    pub max_requests: u64,
    /// The connection that it answers on.
    pub link: Option<LinkId>,
    /// Its activity, as of the moment of reading.
    pub activity: Arc<Activity>,
}

/// A model that clients may ask for.
#[derive(Clone, Debug, PartialEq)]
pub struct Model {
    /// Its name.
    pub name: Arc<str>,
    /// The model behind an alias, else its own name.
    pub root: Arc<str>,
    /// Abilities of the model: the most that any of its sessions has.
    pub capabilities: Capabilities,
    /// Time at which the first of its sessions was registered.
    pub created_at: Instant,
    /// The agent that answers, `integration` for one of the registry; `None` for an alias of a model that is not here.
    pub agent: Option<Arc<str>>,
}

/// Activity of a session: counted by the hub under its lock, read by everyone.
#[derive(Default)]
pub struct Activity {
    in_flight: AtomicUsize,
    requests: AtomicU64,
    tokens: AtomicU64,
    last: AtomicU64,
    /// The nanosecond at which the bucket of its own rate is full again.
    full_at: AtomicU64,
    /// The same of its own rate of tokens.
    tokens_full_at: AtomicU64,
}

impl fmt::Debug for Activity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Activity")
            .field("in_flight", &self.in_flight())
            .field("requests", &self.requests())
            .field("tokens", &self.tokens())
            .field("last", &self.last())
            .finish()
    }
}

impl Activity {
    /// Exchanges that are open.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// Requests that the session was given.
    #[must_use]
    pub fn requests(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }

    /// Tokens that the session has read and written.
    #[must_use]
    pub fn tokens(&self) -> u64 {
        self.tokens.load(Ordering::Relaxed)
    }

    /// Returns the time at which the session last answered or changed.
    #[must_use]
    pub fn last(&self) -> Instant {
        Instant::from_micros(self.last.load(Ordering::Relaxed))
    }

    /// The session changes.
    pub(super) fn touch(&self, now: Instant) {
        self.last.store(now.as_micros(), Ordering::Relaxed);
    }

    /// The bucket of the session's own rate.
    pub(super) fn bucket(&self) -> Bucket {
        Bucket::full_at(self.full_at.load(Ordering::Relaxed))
    }

    /// Keeps the bucket as it is now. Only the hub sets it, under its lock.
    pub(super) fn set_bucket(&self, bucket: Bucket) {
        self.full_at.store(bucket.nanosecond(), Ordering::Relaxed);
    }

    /// The bucket of the session's own rate of tokens.
    pub(super) fn token_bucket(&self) -> Bucket {
        Bucket::full_at(self.tokens_full_at.load(Ordering::Relaxed))
    }

    /// Keeps that as it is now. Only the hub sets it, under its lock.
    pub(super) fn set_token_bucket(&self, bucket: Bucket) {
        self.tokens_full_at
            .store(bucket.nanosecond(), Ordering::Relaxed);
    }

    /// The session is given a request. Only the hub counts, under its lock, so nobody counts between a load and its store.
    pub(super) fn begin(&self, now: Instant, prompts: u32) {
        self.in_flight
            .store(self.in_flight() + 1, Ordering::Relaxed);
        let requests = self.requests().saturating_add(prompts.into());
        self.requests.store(requests, Ordering::Relaxed);
        self.touch(now);
    }

    /// An exchange of the session has ended, which used so many tokens.
    pub(super) fn end(&self, now: Instant, tokens: u64) {
        let left = self.in_flight().saturating_sub(1);
        self.in_flight.store(left, Ordering::Relaxed);
        let tokens = self.tokens().saturating_add(tokens);
        self.tokens.store(tokens, Ordering::Relaxed);
        self.touch(now);
    }
}

/// Those whose names clients may ask for.
pub(super) struct Named<'h> {
    pub(super) sessions: &'h Sessions,
    pub(super) expected: &'h Expected,
    pub(super) upstreams: &'h Upstreams,
    pub(super) integrations: &'h Integrations,
}

impl Lists {
    pub(super) fn new(
        named: &Named<'_>,
        config: &HubConfig,
        wall: WallClock,
        draining: bool,
    ) -> Self {
        let (models, every) = models(named, config);
        let sessions = named.sessions;
        Self {
            wall,
            draining,
            active: sessions.count(Status::Active),
            models,
            every,
            sessions: sessions.iter().map(ListedSession::new).collect(),
        }
    }

    /// The session of that name.
    #[must_use]
    pub fn session(&self, id: &str) -> Option<&ListedSession> {
        self.sessions
            .iter()
            .find(|session| session.id.as_str() == id)
    }

    /// The model of that name.
    #[must_use]
    pub fn model(&self, name: &str) -> Option<&Model> {
        let at = self
            .models
            .binary_search_by(|model| (*model.name).cmp(name));
        self.models.get(at.ok()?)
    }
}

impl ListedSession {
    fn new(session: &Session) -> Self {
        Self {
            id: session.id.clone(),
            agent_id: session.agent_id.clone(),
            label: session.label.clone(),
            scopes: session.supports.scopes.clone(),
            models: session.models.clone(),
            status: session.status,
            created_at: session.created_at,
            expires_at: session.ended_at.or(session.expires_at),
            ttl: session.ttl,
            max_requests: session.max_requests,
            link: session.link,
            activity: session.activity.clone(),
        }
    }
}

/// Returns the models of all names, and the one of every other name.
fn models(named: &Named<'_>, config: &HubConfig) -> (Vec<Model>, Option<Model>) {
    let Named {
        sessions,
        expected,
        upstreams,
        integrations,
    } = named;
    let mut models: BTreeMap<Arc<str>, Model> = BTreeMap::new();
    for session in sessions.iter().filter(|session| session.is_there()) {
        for name in session.models.iter() {
            models
                .entry(name.clone())
                .and_modify(|model| model.join(session))
                .or_insert_with(|| Model {
                    name: name.clone(),
                    root: name.clone(),
                    capabilities: session.supports.capabilities,
                    created_at: session.created_at,
                    agent: Some(session.agent_id.clone()),
                });
        }
    }
    for (bare, full) in upstreams.bare_names() {
        let is_taken = sessions.owners().know(bare) || expected.knows(bare);
        if let Some(model) = models.get(full).filter(|_| !is_taken).cloned() {
            let name: Arc<str> = bare.into();
            models
                .entry(name.clone())
                .or_insert(Model { name, ..model });
        }
    }
    for (name, since) in expected.starting() {
        if upstreams.has_name(name) {
            continue;
        }
        models.entry(name.clone()).or_insert_with(|| Model {
            name: name.clone(),
            root: name.clone(),
            capabilities: Capabilities::default(),
            created_at: since,
            agent: Some(name.clone()),
        });
    }
    for (name, since) in integrations.enabled() {
        let model = Model {
            name: name.clone(),
            root: name.clone(),
            capabilities: Capabilities {
                tools: true,
                ..Capabilities::default()
            },
            created_at: since,
            agent: Some(INTEGRATION.into()),
        };
        models.insert(name.clone(), model);
    }
    let mut every = None;
    for alias in &config.aliases {
        let target = models.get(alias.model.as_str());
        let mut capabilities =
            target.map_or_else(Capabilities::default, |model| model.capabilities);
        capabilities.context_length = alias.context_length.or(capabilities.context_length);
        let model = Model {
            name: alias.name.as_str().into(),
            root: alias.model.as_str().into(),
            capabilities,
            created_at: target.map_or(Instant::ZERO, |model| model.created_at),
            agent: target.and_then(|model| model.agent.clone()),
        };
        // `*` is a rule, and no name.
        if alias.name == EVERY {
            every = Some(Model {
                name: model.root.clone(),
                ..model
            });
        } else {
            models.insert(model.name.clone(), model);
        }
    }
    (models.into_values().collect(), every)
}

impl Model {
    fn join(&mut self, session: &Session) {
        self.capabilities.join(&session.supports.capabilities);
        self.created_at = self.created_at.min(session.created_at);
    }
}
