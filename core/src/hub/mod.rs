//! State that all connections share: sessions, keys, limits, routing, admission, metrics, audit.
//!
//! The hub is touched twice for each exchange ([`Hub::admit`], [`Hub::conclude`]) and rarely for a link, never for a chunk.
//! It does no I/O: what a link must do is left in [`HubOut`] for the driver to carry there once the hub's lock is released.

mod admission;
pub mod audit;
mod bridges;
pub mod circuit;
pub mod control;
mod ending;
mod expected;
mod fallback;
mod integrations;
pub mod keys;
mod lifecycle;
pub mod limiter;
mod links;
pub mod lists;
pub mod metrics;
pub(crate) mod models;
mod own_rates;
mod owners;
mod queue;
mod reload;
pub mod responses;
pub mod routing;
pub mod sessions;
#[cfg(test)]
mod tests;
pub mod upstreams;

pub use admission::{Admission, Ask, Claim, Found, Ticket};
pub use control::Requester;
pub use ending::{CLIENT_GONE, Outcome, Verdict};
pub use fallback::falls_back;
pub use links::{Dialled, Hello};

use crate::config::HubConfig;
use crate::id::{LinkId, WaitId};
use crate::link::Command;
use crate::time::{Instant, Latest, Timeout, WallClock};
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::sync::Arc;
use alloc::vec::Vec;
use audit::{AuditEvent, AuditRecord};
use core::fmt;
use core::sync::atomic::{AtomicU64, Ordering};
use core::time::Duration;
use expected::Expected;
use hashbrown::HashMap;
use integrations::Integrations;
use keys::{Digest, Keys};
use limiter::Limiter;
use links::LinkState;
use lists::{Lists, Named};
use metrics::{Metrics, Recent, RequestCount, Snapshot};
use queue::Queue;
use routing::Pools;
use sessions::Sessions;
use upstreams::Upstreams;

/// Time between two searches for idle limiter buckets.
const SWEEP: Duration = Duration::from_secs(60);

/// Work that a call of the hub leaves to the driver, for after it has released the hub's lock.
#[derive(Debug, Default)]
pub struct HubOut {
    /// For each link, in order: `Link::handle_command`.
    pub commands: Vec<(LinkId, Command)>,
    /// Waiting admissions that have an answer: each calls [`Hub::claim`].
    pub woken: Vec<WaitId>,
    /// Records for the audit, in order.
    pub records: Vec<AuditRecord>,
}

impl HubOut {
    fn record(&mut self, at: Instant, event: AuditEvent) {
        self.records.push(AuditRecord { at, event });
    }
}

/// The reasons for which the hub waits, in the order in which it serves those that are due.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Timer {
    /// A session's time to live ends.
    Session,
    /// An agent that the program starts is late.
    Expected,
    /// A waiting admission gives up.
    Queue,
    /// Idle limiter buckets may go.
    Limiter,
    /// The pause of an upstream ends.
    Upstream,
}

impl Timer {
    const ALL: [Self; 5] = [
        Self::Session,
        Self::Expected,
        Self::Queue,
        Self::Limiter,
        Self::Upstream,
    ];
}

/// Secret bytes that tokens are made from.
struct Seed([u8; 32]);

impl fmt::Debug for Seed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Seed")
    }
}

/// The reason for a change of a session, and the name of the key that wants it, for its agent and for the audit.
struct Cause {
    why: &'static str,
    key: Option<Arc<str>>,
}

impl Cause {
    /// The hub wants it.
    const fn own(why: &'static str) -> Self {
        Self { why, key: None }
    }
}

/// See the module's documentation.
#[derive(Debug)]
pub struct Hub {
    config: HubConfig,
    keys: Arc<Keys>,
    wall: WallClock,
    latest: Latest,
    seed: Seed,
    minted: u64,
    sessions: Sessions,
    /// The sessions that can answer, by model.
    pools: HashMap<Arc<str>, Pools>,
    links: HashMap<LinkId, LinkState>,
    /// The links of bridges by the credential that they showed.
    bridges: HashMap<Digest, BTreeSet<LinkId>>,
    last_link: u64,
    upstreams: Upstreams,
    integrations: Integrations,
    limiter: Limiter,
    sweep_at: Option<Instant>,
    queue: Queue,
    /// Exchanges that are admitted, by the link that answers them.
    at_work: BTreeMap<LinkId, usize>,
    expected: Expected,
    draining: bool,
    metrics: Metrics,
    recent: Recent,
    /// Answers by route and status, of which there are few.
    answers: BTreeMap<(&'static str, u16), u64>,
    unsettled: Arc<AtomicU64>,
    /// The latest lists; `None` when the configuration has changed since, or draining has begun.
    lists: Option<Arc<Lists>>,
}

impl Hub {
    /// `seed` is 32 random bytes, `unix` the time since 1970 at `now`.
    #[must_use]
    pub fn new(config: HubConfig, seed: [u8; 32], now: Instant, unix: Duration) -> Self {
        let keys = Keys::new(&config);
        let mut limiter = Limiter::new(&config.limits);
        limiter.configure(now, &config.limits, keys.iter());
        Self {
            keys: Arc::new(keys),
            wall: WallClock::new(now, unix),
            latest: Latest::default(),
            seed: Seed(seed),
            minted: 0,
            sessions: Sessions::new(&config.sessions),
            pools: HashMap::new(),
            links: HashMap::new(),
            bridges: HashMap::new(),
            last_link: 0,
            upstreams: Upstreams::default(),
            integrations: Integrations::default(),
            limiter,
            sweep_at: None,
            queue: Queue::default(),
            at_work: BTreeMap::new(),
            expected: Expected::default(),
            draining: false,
            metrics: Metrics::default(),
            recent: Recent::default(),
            answers: BTreeMap::new(),
            unsettled: Arc::new(AtomicU64::new(0)),
            lists: None,
            config,
        }
    }

    /// The keys, to authenticate requests without the hub's lock.
    #[must_use]
    pub fn keys(&self) -> Arc<Keys> {
        self.keys.clone()
    }

    /// The configuration.
    #[must_use]
    pub const fn config(&self) -> &HubConfig {
        &self.config
    }

    /// The calendar.
    #[must_use]
    pub fn wall(&self) -> WallClock {
        self.wall.clone()
    }

    /// The sessions.
    #[must_use]
    pub const fn sessions(&self) -> &Sessions {
        &self.sessions
    }

    /// Sessions and models as they are now, to be read once the hub's lock is released. Made anew only when one of them, the
    /// configuration or draining has changed since the last call.
    pub fn lists(&mut self) -> Arc<Lists> {
        if self.sessions.take_changed() {
            self.lists = None;
        }
        let lists = self.lists.get_or_insert_with(|| {
            let (sessions, config) = (&self.sessions, &self.config);
            let wall = self.wall.clone();
            let named = Named {
                sessions,
                expected: &self.expected,
                upstreams: &self.upstreams,
                integrations: &self.integrations,
            };
            let lists = Lists::new(&named, config, wall, self.draining);
            Arc::new(lists)
        });
        lists.clone()
    }

    /// From now on nothing new is admitted.
    pub fn drain(&mut self, now: Instant, out: &mut HubOut) {
        self.latest.clamp(now);
        self.draining = true;
        self.lists = None;
        self.refuse_waiting(out);
    }

    /// True once [`Hub::drain`] was called.
    #[must_use]
    pub const fn is_draining(&self) -> bool {
        self.draining
    }

    /// Returns the time at which the hub is to be called next, and the reason.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Timeout<Timer>> {
        let timeout = |why| self.deadline(why).map(|at| Timeout { at, why });
        Timer::ALL.into_iter().filter_map(timeout).min()
    }

    fn deadline(&self, why: Timer) -> Option<Instant> {
        match why {
            Timer::Session => self.sessions.next_expiry(),
            Timer::Expected => self.expected.next_deadline(),
            Timer::Queue => self.queue.next_deadline(),
            Timer::Limiter => self.sweep_at,
            Timer::Upstream => self.next_probe(),
        }
    }

    /// Links whose agents may have said what makes a deadline void, each with the number of exchanges that it was given and has
    /// not given back: those that answer, and those of agents that are being started.
    #[must_use]
    pub fn awaited(&self) -> Vec<(LinkId, usize)> {
        let mut awaited: Vec<_> = self.at_work.iter().map(|(id, open)| (*id, *open)).collect();
        if self.expected.next_deadline().is_some() {
            let starting = |state: &LinkState| {
                let bridge = state.bridge.as_ref();
                let mut names = self.expected.starting();
                bridge.is_some_and(|bridge| names.any(|(name, _)| name == bridge))
            };
            let links = self.links.iter().filter(|(_, state)| starting(state));
            awaited.extend(links.map(|(id, _)| (*id, 0)));
        }
        awaited
    }

    /// Exchanges that have given their place back.
    #[must_use]
    pub const fn settled(&self) -> u64 {
        self.metrics.settled
    }

    /// Time has passed. A call that comes early changes nothing.
    pub fn handle_timeout(&mut self, now: Instant, out: &mut HubOut) {
        let now = self.latest.clamp(now);
        for why in Timer::ALL {
            if self.deadline(why).is_none_or(|at| at > now) {
                continue;
            }
            match why {
                Timer::Session => self.expire_sessions(now, out),
                Timer::Expected => self.expire_expected(now, out),
                Timer::Queue => self.expire_queue(now, out),
                Timer::Limiter => {
                    self.limiter.sweep(now);
                    self.sweep_at = (!self.limiter.is_idle()).then(|| now + SWEEP);
                }
                Timer::Upstream => self.probe_upstreams(now, out),
            }
        }
    }

    /// All that it tells about itself.
    #[must_use]
    pub fn snapshot(&self, now: Instant) -> Snapshot {
        let requests = self.answers.iter();
        let (recent, recent_span) = self.recent.sum(now);
        Snapshot {
            recent,
            recent_span,
            now,
            wall: self.wall.clone(),
            metrics: self.metrics(),
            requests: requests
                .map(|((endpoint, status), count)| RequestCount {
                    endpoint,
                    status: *status,
                    count: *count,
                })
                .collect(),
            answering: self.sessions.answering(),
            draining: self.draining,
        }
    }

    /// The figures of now.
    #[must_use]
    pub fn metrics(&self) -> Metrics {
        let mut metrics = self.metrics;
        metrics.queued = self.queue.len();
        metrics.links = self.links.len();
        metrics.unsettled = self.unsettled.load(Ordering::Relaxed);
        metrics.sessions = self.sessions.counts();
        metrics
    }
}
