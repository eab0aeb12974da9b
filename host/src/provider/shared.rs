//! What all tasks or threads of one provider share, and the ways into the hub.

use super::caller_tools::Desk;
use super::link::LinkCell;
use super::status::PartStatus;
use super::{Clock, lock};
use crate::audit::AuditSink;
use crate::process::random_seed;
use event_listener::{Event, EventListener};
use mcp_local_provider_core::api::Endpoint;
use mcp_local_provider_core::api::status::LinkTotals;
use mcp_local_provider_core::config::HubConfig;
use mcp_local_provider_core::error::Refusal;
use mcp_local_provider_core::exchange::Exchange;
use mcp_local_provider_core::hub::keys::{Caller, Digest, Keys};
use mcp_local_provider_core::hub::responses::{Conversation, Responses};
use mcp_local_provider_core::hub::{Hub, HubOut};
use mcp_local_provider_core::id::{ExchangeId, Ids, LinkId};
use mcp_local_provider_core::link::{LinkConfig, LinkCounters};
use mcp_local_provider_core::time::{Instant, WallClock};
use std::collections::HashMap;
use std::fmt;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::Waker;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Audit records are handed over together, this long after the first of them.
const AUDIT_DELAY: Duration = Duration::from_millis(100);

/// What the owner decided, and the keys that callers may show: both of one configuration. A request keeps the one that it
/// began with.
#[derive(Clone, Debug)]
pub struct Policy {
    /// The configuration.
    pub config: Arc<HubConfig>,
    /// Its keys.
    pub keys: Arc<Keys>,
}

/// What all tasks or threads of one provider share.
pub struct Shared {
    clock: Clock,
    policy: Mutex<Policy>,
    link_config: LinkConfig,
    wall: WallClock,
    ids: Ids,
    admissions: Event,
    drain: Event,
    draining: AtomicBool,
    stop: Event,
    stopped: AtomicBool,
    connections: AtomicUsize,
    open_sockets: AtomicUsize,
    hub: Mutex<HubCell>,
    /// Held from the call of the hub to the last of its commands, so that two calls cannot swap theirs.
    commands: Mutex<()>,
    links: Mutex<HashMap<LinkId, Arc<LinkCell>>>,
    responses: Mutex<Responses>,
    ended_links: Mutex<LinkCounters>,
    audit: AuditSink,
    parts: Mutex<Vec<Arc<PartStatus>>>,
    desks: Mutex<HashMap<String, Arc<Desk>>>,
}

pub(super) struct HubCell {
    pub(super) hub: Hub,
    /// When the housekeeper wakes next.
    armed: Option<Instant>,
    pub(super) audit_at: Option<Instant>,
    /// The housekeeper, while it waits.
    housekeeper: Option<Waker>,
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Shared({} connections)", self.connections())
    }
}

impl Shared {
    /// # Errors
    /// When the system has no randomness to give.
    pub fn new(config: HubConfig, audit: AuditSink) -> io::Result<Arc<Self>> {
        let seed = random_seed()?;
        let clock = Clock::start();
        let unix = SystemTime::now().duration_since(UNIX_EPOCH);
        let hub = Hub::new(config.clone(), seed, clock.now(), unix.unwrap_or_default());
        let [a, b, c, d, ..] = seed;
        Ok(Arc::new(Self {
            link_config: LinkConfig::new(&config.limits),
            wall: hub.wall(),
            ids: Ids::new(u32::from_be_bytes([a, b, c, d])),
            policy: Mutex::new(Policy {
                keys: hub.keys(),
                config: Arc::new(config),
            }),
            clock,
            admissions: Event::new(),
            drain: Event::new(),
            draining: AtomicBool::new(false),
            stop: Event::new(),
            stopped: AtomicBool::new(false),
            connections: AtomicUsize::new(0),
            open_sockets: AtomicUsize::new(0),
            hub: Mutex::new(HubCell {
                hub,
                armed: None,
                audit_at: None,
                housekeeper: None,
            }),
            commands: Mutex::new(()),
            links: Mutex::default(),
            responses: Mutex::default(),
            ended_links: Mutex::default(),
            audit,
            parts: Mutex::default(),
            desks: Mutex::default(),
        }))
    }

    /// The one clock.
    pub const fn clock(&self) -> Clock {
        self.clock
    }

    /// What holds now.
    pub fn policy(&self) -> Policy {
        lock(&self.policy).clone()
    }

    /// What the owner decided, as it holds now.
    pub fn config(&self) -> Arc<HubConfig> {
        lock(&self.policy).config.clone()
    }

    /// Takes another configuration over, see [`Hub::reload`].
    fn reload(&self, config: HubConfig) {
        let keys = self.hub(|hub, now, out| {
            hub.reload(now, config.clone(), out);
            hub.keys()
        });
        let config = Arc::new(config);
        *lock(&self.policy) = Policy { config, keys };
    }

    /// Limits and times of links.
    pub const fn link_config(&self) -> &LinkConfig {
        &self.link_config
    }

    /// The calendar.
    pub const fn wall(&self) -> WallClock {
        self.wall
    }

    /// A name for the next request.
    pub fn next_id(&self) -> ExchangeId {
        self.ids.next()
    }

    /// Where audit records go.
    pub const fn audit(&self) -> &AuditSink {
        &self.audit
    }

    /// Calls the hub and then, with its lock released, does what it asks.
    pub fn hub<R>(&self, call: impl FnOnce(&mut Hub, Instant, &mut HubOut) -> R) -> R {
        let mut out = HubOut::default();
        let mut cell = lock(&self.hub);
        let now = self.clock.now();
        let result = call(&mut cell.hub, now, &mut out);
        let housekeeper = cell.rearm(now);
        let order = (!out.commands.is_empty()).then(|| lock(&self.commands));
        drop(cell);
        for (id, command) in out.commands {
            let link = lock(&self.links).get(&id).cloned();
            if let Some(link) = link {
                link.command(self.clock.now(), command);
            }
        }
        drop(order);
        if out.woken {
            self.admissions.notify(usize::MAX);
        }
        if let Some(housekeeper) = housekeeper {
            housekeeper.wake();
        }
        result
    }

    /// Calls `call` with the hub alone: for the housekeeper.
    pub(super) fn hub_cell<R>(&self, call: impl FnOnce(&mut HubCell) -> R) -> R {
        call(&mut lock(&self.hub))
    }

    /// Makes the housekeeper look round.
    fn wake_housekeeper(&self) {
        let housekeeper = lock(&self.hub).housekeeper.take();
        housekeeper.into_iter().for_each(Waker::wake);
    }

    /// Hears when those whom the hub lets wait may ask again.
    pub fn listen_for_admissions(&self) -> EventListener {
        self.admissions.listen()
    }

    /// The conversation that a request continues.
    ///
    /// # Errors
    /// 404 when there is no such response, or it belongs to another key.
    pub fn history(
        &self,
        endpoint: Endpoint,
        caller: &Caller,
        body: &[u8],
    ) -> Result<Option<Arc<str>>, Refusal> {
        Exchange::continues_from(&self.config(), endpoint, body)
            .map(|response| lock(&self.responses).find(caller.credential, &response))
            .transpose()
    }

    /// Keeps a conversation for later requests with the same key.
    pub fn keep(&self, owner: Option<Digest>, conversation: Conversation) {
        lock(&self.responses).keep(owner, conversation);
    }

    /// Makes a link known to [`Shared::hub`]. Call it inside of that, so that no command is too early.
    pub(super) fn add_link(&self, link: Arc<LinkCell>) {
        lock(&self.links).insert(link.id(), link);
    }

    /// Forgets a link but for what happened on it.
    pub(super) fn remove_link(&self, link: &LinkCell) {
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

    /// The link of that name.
    pub fn link(&self, id: LinkId) -> Option<Arc<LinkCell>> {
        lock(&self.links).get(&id).cloned()
    }

    /// How many links there are.
    pub fn link_count(&self) -> usize {
        lock(&self.links).len()
    }

    /// Adds an external bridge to those that health tells about.
    pub(crate) fn add_part(&self, part: Arc<PartStatus>) {
        lock(&self.parts).push(part);
    }

    /// The external bridges, and the agents that the program starts.
    pub(super) fn parts(&self) -> Vec<Arc<PartStatus>> {
        lock(&self.parts).clone()
    }

    /// Lets HTTP requests below `/agents/NAME/` find the thread of that agent.
    pub fn add_desk(&self, agent: &str, desk: Arc<Desk>) {
        lock(&self.desks).insert(agent.to_owned(), desk);
    }

    /// Where requests for that agent are laid.
    pub(super) fn desk(&self, agent: &str) -> Option<Arc<Desk>> {
        lock(&self.desks).get(agent).cloned()
    }

    /// Client connections open now.
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::Acquire)
    }

    /// Counts a client connection in, unless there are `limits.connections` already.
    pub fn connect(self: &Arc<Self>) -> Option<Client> {
        let limit = self.config().limits.connections;
        if self.connections.fetch_add(1, Ordering::AcqRel) < limit {
            Some(Client(self.clone()))
        } else {
            self.connections.fetch_sub(1, Ordering::AcqRel);
            None
        }
    }

    /// Links whose sockets are still open, those that are being closed included.
    pub fn open_sockets(&self) -> usize {
        self.open_sockets.load(Ordering::Acquire)
    }

    /// Counts the socket of a link in: a shutdown gives it a moment to be closed in order.
    pub fn open_socket(self: &Arc<Self>) -> OpenSocket {
        self.open_sockets.fetch_add(1, Ordering::AcqRel);
        OpenSocket(self.clone())
    }

    /// True from the beginning of a shutdown on.
    pub fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Acquire)
    }

    /// Hears when draining begins. Ask [`Shared::is_draining`] after this, or it may be missed.
    pub fn listen_for_drain(&self) -> EventListener {
        self.drain.listen()
    }

    /// True once nothing is to run any more.
    pub fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Acquire)
    }

    /// Hears when nothing is to run any more. Ask [`Shared::is_stopped`] after this, or it may be missed.
    pub fn listen_for_stop(&self) -> EventListener {
        self.stop.listen()
    }
}

/// One client connection that counts against `limits.connections`.
#[derive(Debug)]
pub struct Client(Arc<Shared>);

impl Drop for Client {
    fn drop(&mut self) {
        let last = self.0.connections.fetch_sub(1, Ordering::AcqRel) == 1;
        if last && self.0.is_draining() {
            self.0.wake_housekeeper();
        }
    }
}

/// One link whose socket is open.
#[derive(Debug)]
pub struct OpenSocket(Arc<Shared>);

impl Drop for OpenSocket {
    fn drop(&mut self) {
        let last = self.0.open_sockets.fetch_sub(1, Ordering::AcqRel) == 1;
        if last && self.0.is_draining() {
            self.0.wake_housekeeper();
        }
    }
}

/// Stops a provider from anywhere.
#[derive(Clone)]
pub struct Handle(Arc<Shared>);

impl Handle {
    /// The handle of a provider.
    pub const fn new(shared: Arc<Shared>) -> Self {
        Self(shared)
    }

    /// Begins to shut down, and returns. Nothing new is admitted, answers under way get `timeouts.drain`, then the agents'
    /// links are closed with code 1001. Called again it does nothing.
    pub fn shutdown(&self) {
        let shared = &self.0;
        if shared.draining.swap(true, Ordering::AcqRel) {
            return;
        }
        shared.hub(|hub, now, out| hub.drain(now, out));
        shared.drain.notify(usize::MAX);
        shared.wake_housekeeper();
    }

    /// Takes another configuration over while it serves: everything but `default_bridge`, which belongs to the bridges of
    /// the start. See [`Hub::reload`].
    pub fn reload(&self, config: HubConfig) {
        let default_bridge = self.0.config().default_bridge;
        self.0.reload(HubConfig {
            default_bridge,
            ..config
        });
    }

    /// Stops without waiting for anything.
    pub fn stop(&self) {
        self.0.stopped.store(true, Ordering::Release);
        self.0.stop.notify(usize::MAX);
        self.0.wake_housekeeper();
    }
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Handle({:?})", self.0)
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
            self.housekeeper.take()
        } else {
            None
        }
    }

    /// Sets the alarm anew, for the housekeeper that is about to wait.
    pub(super) fn wait(&mut self, now: Instant, waker: &Waker) -> Option<Instant> {
        self.armed = None;
        self.rearm(now);
        self.housekeeper = Some(waker.clone());
        self.armed
    }
}
