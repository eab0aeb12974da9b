//! What all tasks of one provider share, and the ways into the hub.

use crate::link::LinkCell;
use crate::status::BridgeStatus;
use crate::timer::Timers;
use event_listener::Event;
use mcp_local_provider_core::api::Endpoint;
use mcp_local_provider_core::api::status::LinkTotals;
use mcp_local_provider_core::config::HubConfig;
use mcp_local_provider_core::error::Refusal;
use mcp_local_provider_core::exchange::Exchange;
use mcp_local_provider_core::hub::keys::{Caller, Digest, Keys};
use mcp_local_provider_core::hub::responses::{Conversation, Responses};
use mcp_local_provider_core::hub::{Hub, HubOut};
use mcp_local_provider_core::id::{Ids, LinkId};
use mcp_local_provider_core::link::{LinkConfig, LinkCounters};
use mcp_local_provider_core::time::{Instant, WallClock};
use mcp_local_provider_host::audit::AuditSink;
use smol::Executor;
use std::collections::HashMap;
use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Poll, Waker};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Audit records are handed over together, this long after the first of them.
const AUDIT_DELAY: Duration = Duration::from_millis(100);

/// Usual length of an audit record in bytes.
const LINE: usize = 512;

/// What all tasks of one provider share.
pub(crate) struct Shared {
    pub timers: Timers,
    pub config: Arc<HubConfig>,
    pub link_config: LinkConfig,
    pub keys: Arc<Keys>,
    pub wall: WallClock,
    pub ids: Ids,
    /// Notified when waiting admissions may claim again.
    pub admissions: Event,
    /// Notified when the last connection has gone.
    pub idle: Event,
    /// Notified when draining begins.
    pub drain: Event,
    draining: AtomicBool,
    connections: AtomicUsize,
    /// See [`Shared::link_tasks`].
    pub link_tasks: AtomicUsize,
    executor: Weak<Executor<'static>>,
    hub: Mutex<HubCell>,
    /// Held from the call of the hub to the last of its commands, so that two calls cannot swap theirs.
    commands: Mutex<()>,
    links: Mutex<HashMap<LinkId, Arc<LinkCell>>>,
    responses: Mutex<Responses>,
    ended_links: Mutex<LinkCounters>,
    /// Where audit records go.
    pub audit: AuditSink,
    /// The external bridges.
    pub bridges: Mutex<Vec<Arc<BridgeStatus>>>,
}

struct HubCell {
    hub: Hub,
    /// When [`Shared::run_hub`] wakes next.
    armed: Option<Instant>,
    audit_at: Option<Instant>,
    runner: Option<Waker>,
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Shared({} connections)", self.connections())
    }
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    /// `seed` is 32 random bytes.
    pub fn new(
        config: HubConfig,
        seed: [u8; 32],
        audit: AuditSink,
        executor: &Arc<Executor<'static>>,
    ) -> Self {
        let timers = Timers::new();
        let unix = SystemTime::now().duration_since(UNIX_EPOCH);
        let hub = Hub::new(config.clone(), seed, timers.now(), unix.unwrap_or_default());
        let [a, b, c, d, ..] = seed;
        Self {
            link_config: LinkConfig::new(&config.limits),
            keys: hub.keys(),
            wall: hub.wall(),
            ids: Ids::new(u32::from_be_bytes([a, b, c, d])),
            config: Arc::new(config),
            timers,
            admissions: Event::new(),
            idle: Event::new(),
            drain: Event::new(),
            draining: AtomicBool::new(false),
            connections: AtomicUsize::new(0),
            link_tasks: AtomicUsize::new(0),
            executor: Arc::downgrade(executor),
            hub: Mutex::new(HubCell {
                hub,
                armed: None,
                audit_at: None,
                runner: None,
            }),
            commands: Mutex::new(()),
            links: Mutex::default(),
            responses: Mutex::default(),
            ended_links: Mutex::default(),
            audit,
            bridges: Mutex::default(),
        }
    }

    /// Runs a future beside all others. After the provider has stopped it does nothing.
    pub fn spawn(&self, future: impl Future<Output = ()> + Send + 'static) {
        if let Some(executor) = self.executor.upgrade() {
            executor.spawn(future).detach();
        }
    }

    /// Calls the hub and then, with its lock released, does what it asks.
    pub fn hub<R>(&self, call: impl FnOnce(&mut Hub, Instant, &mut HubOut) -> R) -> R {
        let mut out = HubOut::default();
        let mut cell = lock(&self.hub);
        let now = self.timers.now();
        let result = call(&mut cell.hub, now, &mut out);
        let runner = cell.rearm(now);
        let order = (!out.commands.is_empty()).then(|| lock(&self.commands));
        drop(cell);
        for (id, command) in out.commands {
            let link = lock(&self.links).get(&id).cloned();
            if let Some(link) = link {
                link.command(self.timers.now(), command);
            }
        }
        drop(order);
        if out.woken {
            self.admissions.notify(usize::MAX);
        }
        if let Some(runner) = runner {
            runner.wake();
        }
        result
    }

    /// Serves the hub's deadlines and takes its audit records where they go, for ever.
    pub async fn run_hub(&self) {
        let mut sleep = self.timers.after(Duration::MAX);
        let mut records = Vec::new();
        poll_fn(|cx| {
            loop {
                let now = self.timers.now();
                let due = {
                    let mut cell = lock(&self.hub);
                    if cell.audit_at.is_some_and(|at| at <= now) {
                        cell.audit_at = None;
                        cell.hub.drain_audit(&mut records);
                    }
                    cell.hub
                        .poll_timeout()
                        .is_some_and(|timeout| timeout.at <= now)
                };
                if due {
                    self.hub(|hub, now, out| hub.handle_timeout(now, out));
                }
                for record in records.drain(..) {
                    if self.audit.is_on() {
                        let mut line = Vec::with_capacity(LINE);
                        record.write(&self.wall, &mut line);
                        self.audit.record(line);
                    }
                }
                {
                    let mut cell = lock(&self.hub);
                    cell.armed = None;
                    cell.rearm(now);
                    cell.runner = Some(cx.waker().clone());
                    match cell.armed {
                        Some(at) => sleep.reset_at(at),
                        None => sleep.reset_after(Duration::MAX),
                    }
                }
                if Pin::new(&mut sleep).poll(cx).is_pending() {
                    return Poll::<()>::Pending;
                }
            }
        })
        .await;
    }

    /// The conversation that a request continues.
    pub fn history(
        &self,
        endpoint: Endpoint,
        caller: &Caller,
        body: &[u8],
    ) -> Result<Option<Arc<str>>, Refusal> {
        Exchange::continues_from(&self.config, endpoint, body)
            .map(|response| lock(&self.responses).find(caller.credential, &response))
            .transpose()
    }

    /// Keeps a conversation for later requests with the same key.
    pub fn keep(&self, owner: Option<Digest>, conversation: Conversation) {
        lock(&self.responses).keep(owner, conversation);
    }

    /// Makes a link known to [`Shared::hub`]. Call it inside of that, so that no command is too early.
    pub fn add_link(&self, link: Arc<LinkCell>) {
        lock(&self.links).insert(link.id(), link);
    }

    /// Forgets a link but for what happened on it.
    pub fn remove_link(&self, link: &LinkCell) {
        let mut totals = LinkTotals::default();
        link.add_to(&mut totals);
        let mut links = lock(&self.links);
        if links.remove(&link.id()).is_some() {
            *lock(&self.ended_links) += totals.counters;
        }
    }

    /// All links, and what happened on those that are gone, so that each is counted once.
    pub fn all_links(&self) -> (Vec<Arc<LinkCell>>, LinkCounters) {
        let links = lock(&self.links);
        let ended = *lock(&self.ended_links);
        (links.values().cloned().collect(), ended)
    }

    pub fn link(&self, id: LinkId) -> Option<Arc<LinkCell>> {
        lock(&self.links).get(&id).cloned()
    }

    pub fn link_count(&self) -> usize {
        lock(&self.links).len()
    }

    /// Links whose sockets are still open, those that are being closed included.
    pub fn link_tasks(&self) -> usize {
        self.link_tasks.load(Ordering::Acquire)
    }

    pub fn links(&self) -> Vec<Arc<LinkCell>> {
        lock(&self.links).values().cloned().collect()
    }

    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }

    /// Counts a connection in, unless there are `limits.connections` already.
    pub fn connect(self: &Arc<Self>) -> Option<Connected> {
        let limit = self.config.limits.connections;
        if self.connections.fetch_add(1, Ordering::AcqRel) < limit {
            Some(Connected(self.clone()))
        } else {
            self.connections.fetch_sub(1, Ordering::AcqRel);
            None
        }
    }

    pub fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Acquire)
    }

    /// From now on nothing new is admitted, and connections end with their last answer.
    pub fn begin_drain(&self) {
        self.draining.store(true, Ordering::Release);
        self.hub(|hub, now, out| hub.drain(now, out));
        self.drain.notify(usize::MAX);
    }
}

/// One connection that counts against `limits.connections`.
#[derive(Debug)]
pub(crate) struct Connected(Arc<Shared>);

impl Drop for Connected {
    fn drop(&mut self) {
        if self.0.connections.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.0.idle.notify(usize::MAX);
        }
    }
}

impl HubCell {
    /// Sets the alarm; what it returns is to be woken when that is earlier than before.
    fn rearm(&mut self, now: Instant) -> Option<Waker> {
        if self.audit_at.is_none() && self.hub.has_audit() {
            self.audit_at = Some(now + AUDIT_DELAY);
        }
        let timeout = self.hub.poll_timeout().map(|timeout| timeout.at);
        let next = [timeout, self.audit_at].into_iter().flatten().min();
        if next.is_some() && (self.armed.is_none() || next < self.armed) {
            self.armed = next;
            self.runner.take()
        } else {
            None
        }
    }
}
