//! What all connections share: sessions, keys, limits, routing, admission, metrics, audit.
//!
//! The hub is touched twice for each exchange ([`Hub::admit`], [`Hub::settle`]) and rarely for a link, never for a chunk.
//! It does no I/O: what a link must do is left in [`HubOut`] for the driver to carry there once the hub's lock is released.

mod admission;
pub mod audit;
pub mod control;
pub mod keys;
pub mod limiter;
pub mod metrics;
pub mod routing;
pub mod sessions;
#[cfg(test)]
mod tests;

pub use admission::{Admission, Ask, Claim, Outcome, Ticket, Verdict};
pub use control::Requester;

use crate::config::{HubConfig, Role};
use crate::error::{Code, Refusal};
use crate::id::{KeyId, LinkId, SessionId};
use crate::invocation::CancelReason;
use crate::link::{CloseCode, Command, Notice};
use crate::time::{Instant, Latest, Timeout, Timer, WallClock};
use admission::Queue;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use audit::{AuditEvent, AuditRecord};
use core::sync::atomic::{AtomicU64, Ordering};
use core::time::Duration;
use hashbrown::HashMap;
use keys::{Digest, Keys};
use limiter::Limiter;
use metrics::Metrics;
use routing::{Pool, Slot};
use sessions::{Action, Registration, Sessions, Status};
use sha2::{Digest as _, Sha256};

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

/// How an agent's connection introduces itself.
#[derive(Clone, Copy, Debug)]
pub struct Hello<'a> {
    /// The bearer token: a bridge key or a session token; for a bridge that we dialled, the token that we showed.
    pub token: Option<&'a str>,
    /// True when we dialled.
    pub dialled: bool,
}

#[derive(Debug)]
struct LinkState {
    /// Digest of the token that it showed.
    credential: Option<Digest>,
    /// Set when the token was a session's: it carries that one and no other.
    attached: Option<Slot>,
    /// Sessions that it carries.
    sessions: Vec<Slot>,
}

/// See the module's documentation.
#[derive(Debug)]
pub struct Hub {
    config: HubConfig,
    keys: Arc<Keys>,
    wall: WallClock,
    latest: Latest,
    secret: [u8; 32],
    minted: u64,
    sessions: Sessions,
    pools: HashMap<Arc<str>, Pool>,
    links: HashMap<LinkId, LinkState>,
    last_link: u64,
    limiter: Limiter,
    sweep_at: Option<Instant>,
    queue: Queue,
    draining: bool,
    metrics: Metrics,
    unsettled: Arc<AtomicU64>,
    audit: Vec<AuditRecord>,
    audit_lost: u64,
}

impl Hub {
    /// `seed` is 32 random bytes, `unix` the time since 1970 at `now`.
    #[must_use]
    pub fn new(config: HubConfig, seed: [u8; 32], now: Instant, unix: Duration) -> Self {
        let mut limiter = Limiter::new(&config.limits);
        for (id, key) in (0u32..).zip(&config.keys) {
            if key.requests_per_minute.is_some() || key.tokens_per_minute.is_some() {
                limiter.configure(KeyId(id), key.requests_per_minute, key.tokens_per_minute);
            }
        }
        Self {
            keys: Arc::new(Keys::new(config.keys.clone(), config.auth_required)),
            wall: WallClock::new(now, unix),
            latest: Latest::default(),
            secret: seed,
            minted: 0,
            sessions: Sessions::default(),
            pools: HashMap::new(),
            links: HashMap::new(),
            last_link: 0,
            limiter,
            sweep_at: None,
            queue: Queue::default(),
            draining: false,
            metrics: Metrics::default(),
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

    /// A connection of an agent is to be a link.
    ///
    /// # Errors
    /// 401 for a token that is not known, 403 for a key without the role `bridge` or a session that may not answer.
    pub fn connect(
        &mut self,
        now: Instant,
        hello: Hello<'_>,
        out: &mut HubOut,
    ) -> Result<LinkId, Refusal> {
        let now = self.latest.clamp(now);
        let credential = hello.token.map(|token| keys::digest(token.as_bytes()));
        let attached = if hello.dialled {
            None
        } else {
            match credential.and_then(|token| self.sessions.by_token(&token)) {
                Some(slot) => Some(self.attachable(slot)?),
                None => {
                    let caller = self
                        .keys
                        .authenticate(hello.token, core::net::Ipv4Addr::LOCALHOST.into())
                        .map_err(|_| {
                            Refusal::new(
                                Code::InvalidKey,
                                "this token is neither a bridge key nor the token of a live session; `mcp-local-provider keys add NAME --role bridge` makes a bridge key",
                            )
                        })?;
                    caller.require(&[Role::Bridge])?;
                    None
                }
            }
        };
        if self.draining {
            return Err(Refusal::new(
                Code::Draining,
                "the provider is shutting down",
            ));
        }
        self.last_link += 1;
        let id = LinkId(self.last_link);
        self.links.insert(
            id,
            LinkState {
                credential,
                attached,
                sessions: Vec::new(),
            },
        );
        self.record(
            now,
            AuditEvent::Link {
                link: id.0,
                what: "up",
            },
        );
        if let Some(slot) = attached {
            self.carry(now, id, slot, out);
        } else {
            self.adopt(now, id, out);
        }
        self.pump(now, out);
        Ok(id)
    }

    /// 403 unless the session may be attached to.
    fn attachable(&self, slot: Slot) -> Result<Slot, Refusal> {
        match self.sessions.get(slot).map(|session| session.status) {
            Some(Status::Active | Status::Pending) => Ok(slot),
            status => Err(Refusal::new(
                Code::SessionDenied,
                alloc::format!(
                    "this session is {}; register a new one",
                    status.map_or("gone", Status::as_str)
                ),
            )),
        }
    }

    /// Gives a new link the sessions that its credential registered and that no link carries.
    fn adopt(&mut self, now: Instant, link: LinkId, out: &mut HubOut) {
        let Some(state) = self.links.get(&link) else {
            return;
        };
        let credential = state.credential;
        let is_default = credential.is_some() && credential == self.config.default_bridge;
        let orphans: Vec<Slot> = self
            .sessions
            .iter()
            .filter(|session| {
                session.link.is_none()
                    && !session.status.is_final()
                    && ((session.owner.is_some() && session.owner == credential) || is_default)
            })
            .filter_map(|session| self.sessions.find(session.id.as_str()))
            .collect();
        for slot in orphans {
            self.carry(now, link, slot, out);
        }
    }

    /// Puts a session on a link, and off the one that had it.
    fn carry(&mut self, now: Instant, link: LinkId, slot: Slot, out: &mut HubOut) {
        let Some(session) = self.sessions.get_mut(slot) else {
            return;
        };
        let before = session.link.replace(link);
        session.last_activity = now;
        let id = session.id.clone();
        if self.config.sessions.renew_while_connected {
            self.sessions.set_expiry(slot, None);
        }
        if let Some(state) = self.links.get_mut(&link) {
            state.sessions.push(slot);
        }
        if let Some(before) = before.filter(|before| *before != link)
            && let Some(state) = self.links.get_mut(&before)
        {
            state.sessions.retain(|carried| *carried != slot);
            let command = if state.attached == Some(slot) {
                Command::Close(CloseCode::Replaced)
            } else {
                Command::EndSession {
                    session: id,
                    reason: CancelReason::SessionEnded,
                }
            };
            out.commands.push((before, command));
        }
        self.reroute(slot);
    }

    /// The driver lost a link or closed it. Idempotent.
    pub fn disconnected(&mut self, now: Instant, link: LinkId, out: &mut HubOut) {
        let now = self.latest.clamp(now);
        let Some(state) = self.links.remove(&link) else {
            return;
        };
        for slot in state.sessions {
            let Some(session) = self.sessions.get_mut(slot) else {
                continue;
            };
            if session.link != Some(link) {
                continue;
            }
            session.link = None;
            let end = now + session.ttl;
            if self.config.sessions.renew_while_connected {
                self.sessions.set_expiry(slot, Some(end));
            }
            self.reroute(slot);
        }
        self.record(
            now,
            AuditEvent::Link {
                link: link.0,
                what: "down",
            },
        );
        self.pump(now, out);
    }

    /// A link has something to tell.
    pub fn handle_notice(&mut self, now: Instant, from: LinkId, notice: Notice, out: &mut HubOut) {
        let now = self.latest.clamp(now);
        match notice {
            Notice::Register(registration) => {
                self.register_on_link(now, from, registration.into(), out)
            }
            Notice::Unregister(id) => {
                let carried = self.sessions.find(id.as_str()).filter(|slot| {
                    self.links
                        .get(&from)
                        .is_some_and(|state| state.sessions.contains(slot))
                });
                match carried {
                    Some(slot) => {
                        // A pending session has no `revoke`; its agent taking it back is the denial.
                        let action = match self.sessions.get(slot).map(|session| session.status) {
                            Some(Status::Pending) => Action::Deny,
                            _ => Action::Revoke,
                        };
                        // The only error is a state that is final already.
                        let _ = self.change(now, slot, action, "unregistered", out);
                    }
                    None => out.commands.push((
                        from,
                        Command::Error {
                            code: "unknown_session",
                            message: alloc::format!("this link carries no session `{id}`"),
                        },
                    )),
                }
            }
        }
    }

    fn register_on_link(
        &mut self,
        now: Instant,
        from: LinkId,
        registration: Registration,
        out: &mut HubOut,
    ) {
        let Some(state) = self.links.get(&from) else {
            return;
        };
        let owner = state.credential;
        let refused = if state.attached.is_some() {
            Err(Refusal::invalid(
                "this link was opened with a session token and carries that session; register over a link with a bridge key",
            ))
        } else {
            let status = if self.config.sessions.manual_approval {
                Status::Pending
            } else {
                Status::Active
            };
            self.register(now, registration, owner, status)
        };
        match refused {
            Ok((slot, token)) => {
                self.carry(now, from, slot, out);
                if let Some(session) = self.sessions.get(slot) {
                    out.commands.push((
                        from,
                        Command::Registered {
                            session: session.id.clone(),
                            token,
                            status: session.status.as_str(),
                            expires_at: self.wall.rfc3339(now + session.ttl),
                        },
                    ));
                }
                self.pump(now, out);
            }
            Err(refusal) => out.commands.push((
                from,
                Command::Error {
                    code: refusal.code().name().unwrap_or("invalid_request"),
                    message: refusal.message().into(),
                },
            )),
        }
    }

    /// Makes a session. The token is there when it was made here, and is not to be had again.
    fn register(
        &mut self,
        now: Instant,
        registration: Registration,
        owner: Option<Digest>,
        status: Status,
    ) -> Result<(Slot, Option<String>), Refusal> {
        registration.check()?;
        // An agent that comes back without its session token takes its own orphan over instead of leaving it behind.
        let orphan = owner.and_then(|_| {
            let session = self.sessions.iter().find(|session| {
                session.link.is_none()
                    && session.owner == owner
                    && session.status == Status::Active
                    && registration.session_id.is_none()
                    && *session.agent_id == *registration.agent_id
            })?;
            self.sessions.find(session.id.as_str())
        });
        if let Some(slot) = orphan {
            let mut quiet = HubOut::default();
            self.change(now, slot, Action::Revoke, "replaced", &mut quiet)?;
        }
        if self.sessions.live() >= self.config.sessions.max {
            return Err(Refusal::new(
                Code::Overloaded,
                alloc::format!(
                    "{} sessions are live already; sessions.max allows no more",
                    self.sessions.live()
                ),
            ));
        }
        let id = match &registration.session_id {
            Some(id) => id.clone(),
            None => self.mint_session_id(),
        };
        let (token, shown) = match registration.session_token {
            Some(token) => (token, None),
            None => {
                let token = self.mint("token");
                (keys::digest(token.as_bytes()), Some(token))
            }
        };
        let terms = sessions::Terms {
            id,
            token,
            owner,
            status,
        };
        let session = sessions::admit(registration, terms, &self.config.sessions, now);
        let event = AuditEvent::Session {
            session: session.id.clone(),
            agent_id: session.agent_id.clone(),
            what: "registered",
            status: status.as_str(),
        };
        let slot = self.sessions.insert(session)?;
        self.record(now, event);
        Ok((slot, shown))
    }

    fn mint_session_id(&mut self) -> SessionId {
        loop {
            let minted = self.mint("session");
            if let Some(id) = SessionId::new(minted.get(..24).unwrap_or(&minted)) {
                return id;
            }
        }
    }

    /// 64 hexadecimal digits that nobody can guess: a pseudo-random function of the seed and a counter.
    fn mint(&mut self, purpose: &str) -> String {
        self.minted += 1;
        let mut hash = Sha256::new();
        hash.update(self.secret);
        hash.update(purpose.as_bytes());
        hash.update(self.minted.to_be_bytes());
        let mut digits = Vec::with_capacity(64);
        audit::hex(&mut digits, &hash.finalize());
        String::from_utf8(digits).unwrap_or_default()
    }

    /// Moves a session and does what follows from it.
    fn change(
        &mut self,
        now: Instant,
        slot: Slot,
        action: Action,
        why: &'static str,
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
                what: action.as_str(),
                status: status.as_str(),
            },
        );
        if let Some(link) = link {
            out.commands.push((
                link,
                Command::SessionStatus {
                    session: id.clone(),
                    status: status.as_str(),
                    reason: why,
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

    /// Puts a session into the pools of its models, or takes it out of them.
    fn reroute(&mut self, slot: Slot) {
        let Some(session) = self.sessions.get(slot) else {
            return;
        };
        let load = session.can_answer().then_some(session.in_flight);
        for model in &session.models {
            match load {
                Some(load) => self.pools.entry_ref(model).or_default().set(slot, load),
                None => {
                    if let Some(pool) = self.pools.get_mut(model) {
                        pool.remove(slot);
                        if pool.is_empty() {
                            self.pools.remove(model);
                        }
                    }
                }
            }
        }
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
                .change(now, slot, Action::Expire, "expired", out)
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
    pub fn note_refusal(
        &mut self,
        now: Instant,
        address: core::net::IpAddr,
        endpoint: &'static str,
        refusal: &Refusal,
    ) {
        let now = self.latest.clamp(now);
        self.count_status(refusal.status());
        let event = match refusal.code() {
            Code::InvalidKey => {
                self.metrics.unauthenticated += 1;
                AuditEvent::AuthenticationFailed { address, endpoint }
            }
            Code::OriginDenied | Code::RoleDenied => {
                self.metrics.violations += 1;
                AuditEvent::Violation {
                    address,
                    endpoint,
                    code: refusal.code().name().unwrap_or("denied"),
                }
            }
            _ => return,
        };
        self.record(now, event);
    }

    /// An answer of that status was given.
    pub fn count_status(&mut self, status: u16) {
        let class = usize::from(status / 100).saturating_sub(1);
        if let Some(count) = self.metrics.statuses.get_mut(class) {
            *count += 1;
        }
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
