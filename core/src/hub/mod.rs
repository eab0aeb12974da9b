//! What all connections share: sessions, keys, limits, routing, admission, metrics, audit.
//!
//! The hub is touched twice for each exchange ([`Hub::admit`], [`Hub::settle`]) and rarely for a link, never for a chunk.
//! It does no I/O: what a link must do is left in [`HubOut`] for the driver to carry there once the hub's lock is released.

mod admission;
pub mod audit;
pub mod control;
pub mod keys;
pub mod limiter;
mod links;
pub mod metrics;
mod reload;
pub mod responses;
pub mod routing;
pub mod sessions;
#[cfg(test)]
mod tests;

pub use admission::{Admission, Ask, Claim, Outcome, Ticket, Verdict};
pub use control::Requester;
pub use links::Hello;

use crate::config::HubConfig;
use crate::error::Refusal;
use crate::id::LinkId;
use crate::invocation::CancelReason;
use crate::link::{CloseCode, Command};
use crate::time::{Instant, Latest, Timeout, Timer, WallClock};
use admission::Queue;
use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;
use audit::{AuditEvent, AuditRecord, RequestInfo, RequestKind};
use core::fmt;
use core::sync::atomic::{AtomicU64, Ordering};
use core::time::Duration;
use hashbrown::HashMap;
use keys::Keys;
use limiter::Limiter;
use links::LinkState;
use metrics::{Metrics, RequestCount, Snapshot};
use routing::{Pool, Slot};
use sessions::{Action, Sessions, Status};

/// Audit records kept when nobody drains them; more are counted as lost.
const AUDIT_BACKLOG: usize = 16_384;
/// How often idle limiter buckets are looked through.
const SWEEP: Duration = Duration::from_secs(60);

/// What a call of the hub asks the driver to do after it has released the hub's lock.
#[derive(Debug, Default)]
pub struct HubOut {
    /// For each link, in order: `Link::handle_command`.
    pub commands: Vec<(LinkId, Command)>,
    /// True when waiting admissions have an answer: each calls [`Hub::claim`].
    pub woken: bool,
}

/// What tokens are made from.
struct Seed([u8; 32]);

impl fmt::Debug for Seed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Seed")
    }
}

/// Why a session changes, and the name of the key that wants it, for its agent and for the audit.
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
    pools: HashMap<Arc<str>, Pool>,
    /// Those among them that make embeddings.
    embedders: HashMap<Arc<str>, Pool>,
    links: HashMap<LinkId, LinkState>,
    last_link: u64,
    limiter: Limiter,
    sweep_at: Option<Instant>,
    queue: Queue,
    draining: bool,
    metrics: Metrics,
    /// Answers by route and status, of which there are few.
    answers: BTreeMap<(&'static str, u16), u64>,
    unsettled: Arc<AtomicU64>,
    audit: Vec<AuditRecord>,
    audit_lost: u64,
}

impl Hub {
    /// `seed` is 32 random bytes, `unix` the time since 1970 at `now`.
    #[must_use]
    pub fn new(config: HubConfig, seed: [u8; 32], now: Instant, unix: Duration) -> Self {
        let keys = Keys::new(config.keys.clone(), config.auth_required);
        let mut limiter = Limiter::new(&config.limits);
        limiter.configure(now, &config.limits, keys.iter());
        Self {
            keys: Arc::new(keys),
            wall: WallClock::new(now, unix),
            latest: Latest::default(),
            seed: Seed(seed),
            minted: 0,
            sessions: Sessions::default(),
            pools: HashMap::new(),
            embedders: HashMap::new(),
            links: HashMap::new(),
            last_link: 0,
            limiter,
            sweep_at: None,
            queue: Queue::default(),
            draining: false,
            metrics: Metrics::default(),
            answers: BTreeMap::new(),
            unsettled: Arc::new(AtomicU64::new(0)),
            audit: Vec::new(),
            audit_lost: 0,
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
    pub const fn wall(&self) -> WallClock {
        self.wall
    }

    /// The sessions.
    #[must_use]
    pub const fn sessions(&self) -> &Sessions {
        &self.sessions
    }

    /// Moves a session and does what follows from it.
    fn change(
        &mut self,
        now: Instant,
        slot: Slot,
        action: Action,
        by: &Cause,
        out: &mut HubOut,
    ) -> Result<Status, Refusal> {
        let link = self.sessions.get(slot).and_then(|session| session.link);
        let status = self.sessions.apply(now, slot, action)?;
        let Some(session) = self.sessions.get(slot) else {
            return Ok(status);
        };
        let (id, agent_id, ttl) = (session.id.clone(), session.agent_id.clone(), session.ttl);
        let kept_alive = link.is_some() && self.config.sessions.renew_while_connected;
        if action == Action::Renew && !kept_alive {
            self.sessions.set_expiry(slot, Some(now + ttl));
        }
        self.reroute(slot);
        self.record(
            now,
            AuditEvent::Session {
                session: id.clone(),
                agent_id,
                what: by.why,
                status: status.as_str(),
                key: by.key.clone(),
            },
        );
        if let Some(link) = link {
            out.commands.push((
                link,
                Command::SessionStatus {
                    session: id.clone(),
                    status: status.as_str(),
                    reason: by.why,
                },
            ));
            if status != Status::Active {
                out.commands.push((
                    link,
                    Command::EndSession {
                        session: id,
                        reason: CancelReason::SessionEnded,
                    },
                ));
            }
            if status.is_final()
                && let Some(state) = self.links.get_mut(&link)
            {
                state.sessions.retain(|carried| *carried != slot);
                if state.attached == Some(slot) {
                    out.commands.push((link, Command::Close(CloseCode::Policy)));
                }
            }
        }
        self.pump(now, out);
        Ok(status)
    }

    /// From now on nothing new is admitted.
    pub fn drain(&mut self, now: Instant, out: &mut HubOut) {
        self.draining = true;
        self.pump(now, out);
    }

    /// True once [`Hub::drain`] was called.
    #[must_use]
    pub const fn is_draining(&self) -> bool {
        self.draining
    }

    /// When the hub wants to be called next.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Timeout> {
        let timeout = |at: Option<Instant>, why| at.map(|at| Timeout { at, why });
        [
            timeout(self.sessions.next_expiry(), Timer::Session),
            timeout(self.queue.next_deadline(), Timer::Queue),
            timeout(self.sweep_at, Timer::Limiter),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    /// Time has passed. A call that comes early changes nothing.
    pub fn handle_timeout(&mut self, now: Instant, out: &mut HubOut) {
        let now = self.latest.clamp(now);
        while let Some(slot) = self.sessions.due(now) {
            if self
                .change(now, slot, Action::Expire, &Cause::own("expired"), out)
                .is_err()
            {
                self.sessions.set_expiry(slot, None);
            }
        }
        self.expire_queue(now, out);
        if self.sweep_at.is_some_and(|at| at <= now) {
            self.limiter.sweep(now);
            self.sweep_at = (!self.limiter.is_idle()).then(|| now + SWEEP);
        }
    }

    /// A request was refused before it came to admission.
    pub fn note_refusal(&mut self, now: Instant, info: RequestInfo, refusal: &Refusal) {
        self.note(now, info, Err(refusal), 0);
    }

    /// A request could be read in two ways and was refused with this status.
    pub fn note_misframed(&mut self, now: Instant, info: RequestInfo, status: u16) {
        let outcome = "malformed_request";
        let info = Box::new(info);
        self.record_request(now, info, RequestKind::Violation, status, outcome, 0);
    }

    /// A request that needs no agent was answered with a status, or refused, in so many bytes.
    pub fn note(
        &mut self,
        now: Instant,
        info: RequestInfo,
        answer: Result<u16, &Refusal>,
        bytes_out: u64,
    ) {
        self.note_boxed(now, Box::new(info), answer, bytes_out);
    }

    fn note_boxed(
        &mut self,
        now: Instant,
        info: Box<RequestInfo>,
        answer: Result<u16, &Refusal>,
        bytes_out: u64,
    ) {
        let (kind, status, outcome) = match answer {
            Ok(status) => (RequestKind::Answered, status, "ok"),
            Err(refusal) => (
                RequestKind::of(refusal.code()),
                refusal.status(),
                refusal.code().name().unwrap_or("invalid_request"),
            ),
        };
        self.record_request(now, info, kind, status, outcome, bytes_out);
    }

    /// Writes down a request that no agent was asked.
    fn record_request(
        &mut self,
        now: Instant,
        info: Box<RequestInfo>,
        kind: RequestKind,
        status: u16,
        outcome: &'static str,
        bytes_out: u64,
    ) {
        let now = self.latest.clamp(now);
        self.count_answer(info.endpoint, status);
        match kind {
            RequestKind::AuthenticationFailed => self.metrics.unauthenticated += 1,
            RequestKind::Violation => self.metrics.violations += 1,
            // The limiter has counted it.
            RequestKind::Answered | RequestKind::RateLimited => {}
        }
        let duration = now.since(info.started);
        self.record(
            now,
            AuditEvent::Request {
                info,
                kind,
                session: None,
                status,
                outcome,
                duration,
                bytes_out,
                usage: None,
            },
        );
    }

    /// A route, one of [`crate::api::Endpoint::name`], has given an answer of that status.
    pub fn count_answer(&mut self, endpoint: &'static str, status: u16) {
        *self.answers.entry((endpoint, status)).or_default() += 1;
    }

    fn record(&mut self, at: Instant, event: AuditEvent) {
        if self.audit.len() < AUDIT_BACKLOG {
            self.audit.push(AuditRecord { at, event });
        } else {
            self.audit_lost += 1;
        }
    }

    /// Moves the audit records since the last call to the end of `out`.
    pub fn drain_audit(&mut self, out: &mut Vec<AuditRecord>) {
        out.append(&mut self.audit);
    }

    /// True when there are audit records to drain.
    #[must_use]
    pub fn has_audit(&self) -> bool {
        !self.audit.is_empty()
    }

    /// Audit records that were dropped because nobody drained them.
    #[must_use]
    pub const fn audit_lost(&self) -> u64 {
        self.audit_lost
    }

    /// All that it tells about itself.
    #[must_use]
    pub fn snapshot(&self, now: Instant) -> Snapshot {
        let requests = self.answers.iter();
        Snapshot {
            now,
            wall: self.wall,
            metrics: self.metrics(),
            requests: requests
                .map(|((endpoint, status), count)| RequestCount {
                    endpoint,
                    status: *status,
                    count: *count,
                })
                .collect(),
            answering: self
                .sessions
                .iter()
                .filter(|session| session.can_answer())
                .count(),
            audit_waiting: self.audit.len(),
            audit_lost: self.audit_lost,
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
        for session in self.sessions.iter() {
            let at = Status::ALL
                .iter()
                .position(|status| *status == session.status);
            if let Some(count) = at.and_then(|at| metrics.sessions.get_mut(at)) {
                *count += 1;
            }
        }
        metrics
    }
}
