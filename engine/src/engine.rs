//! State that all tasks or threads of one provider share, and the ways into the hub.

use super::caller_tools::ToolQueue;
use super::connections::Connections;
use super::gateway::Gateway;
use super::inspect::Gate;
use super::link::LinkCell;
use super::mcp_agents::McpAgents;
use super::owner::Owner;
use super::status::{PartStatus, Processor};
use super::upstreams::Upstreams;
use crate::audit::Audit;
use crate::background::Background;
use crate::outside::{Outside, Usage};
use crate::pool::Pool;
use crate::proxy::Proxies;
use crate::ranked::{COMMANDS, Guard, HUB, LEAF, Ranked, TABLE};
use crate::registry_handle::RegistryHandle;
use crate::signal::Signal;
use crate::tls::Trust;
use bytes::Bytes;
use event_listener::{Event, EventListener};
use mcp_local_provider_core::api::status::LinkTotals;
use mcp_local_provider_core::budget::Budget;
use mcp_local_provider_core::config::HubConfig;
use mcp_local_provider_core::dialect::Form;
use mcp_local_provider_core::error::Refusal;
use mcp_local_provider_core::exchange::Exchange;
use mcp_local_provider_core::hub::keys::{Caller, Digest, Keys};
use mcp_local_provider_core::hub::responses::{Conversation, Responses};
use mcp_local_provider_core::hub::{Claim, Hub, HubOut, Ticket};
use mcp_local_provider_core::id::{ExchangeId, Ids, LinkId, WaitId};
use mcp_local_provider_core::link::{Command, LinkConfig, LinkCounters};
use mcp_local_provider_core::time::{Instant, WallClock};
use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::task::Waker;
use std::time::Duration;

/// Two clocks are read at once when no more time than this passes.
const AT_ONCE: Duration = Duration::from_micros(500);

/// The owner's configuration, and the keys of that same configuration that callers may show. A request keeps the policy
/// that it began with.
#[derive(Clone, Debug)]
pub struct Policy {
    /// The configuration.
    pub config: Arc<HubConfig>,
    /// Its keys.
    pub keys: Arc<Keys>,
}

/// State that all tasks or threads of one provider share.
pub struct Engine {
    outside: Arc<dyn Outside>,
    policy: Ranked<Policy, LEAF>,
    link_config: LinkConfig,
    wall: WallClock,
    ids: Ids,
    chance: AtomicU64,
    keys: Event,
    drain: Signal,
    /// The time of a drain is over: what is not answered yet ends.
    pub(super) farewell: Signal,
    stop: Signal,
    connections: Connections,
    open_sockets: AtomicUsize,
    hub: Ranked<HubCell, HUB>,
    /// Held from the call of the hub to the last of its commands, so that two calls cannot swap theirs.
    commands: Ranked<(), COMMANDS>,
    pub(super) gate: Gate,
    links: Ranked<HashMap<LinkId, Arc<LinkCell>>, TABLE>,
    /// Requests that wait for capacity, each with its task or thread.
    waiters: Ranked<HashMap<WaitId, Waker>, TABLE>,
    responses: Ranked<Responses, LEAF>,
    ended_links: Ranked<LinkCounters, LEAF>,
    audit: Audit,
    budget: Budget,
    /// Held by the thread that looks for answers to cut. Nobody waits for it.
    pub(super) relieving: Mutex<()>,
    parts: Ranked<Vec<Arc<PartStatus>>, TABLE>,
    processor: Ranked<Processor, LEAF>,
    tool_queues: Ranked<HashMap<String, Arc<ToolQueue>>, TABLE>,
    pool: Arc<Pool>,
    /// Secrets of the engine's own are made from it.
    pub(super) seed: [u8; 32],
    pub(super) gateway: OnceLock<Gateway>,
    pub(super) mcp_agents: McpAgents,
    owner: OnceLock<Arc<dyn Owner>>,
    trust: OnceLock<Trust>,
    pub(super) proxies: OnceLock<Proxies>,
    pub(super) upstreams: OnceLock<Upstreams>,
    pub(super) registry: OnceLock<RegistryHandle>,
}

pub(super) struct HubCell {
    pub(super) hub: Hub,
    /// Time at which the housekeeper wakes next.
    armed: Option<Instant>,
    /// The housekeeper, while it waits.
    housekeeper: Option<Waker>,
    /// Number of settled exchanges at which the housekeeper, which hears agents, looks again.
    hears: Option<u64>,
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Engine({} connections)", self.connections())
    }
}

impl Engine {
    /// An engine with its configuration. `seed` is 32 random bytes, which nobody else may know: session tokens are made
    /// from it. What happens goes to the feed of `audit`.
    #[must_use]
    pub fn new(
        config: HubConfig,
        seed: [u8; 32],
        outside: Arc<dyn Outside>,
        audit: Audit,
    ) -> Arc<Self> {
        let link_config = LinkConfig::new(&config.limits);
        let [a, b, c, d, ..] = seed;
        let ids = Ids::new(u32::from_be_bytes([a, b, c, d]));
        Self::assemble(config, link_config, ids, seed, outside, audit)
    }

    /// Agents of these names are started: requests for their models wait until each has registered, or for so long.
    pub fn expect_agents(&self, agents: &[(String, Duration)]) {
        for (name, patience) in agents {
            self.hub(|hub, now, out| hub.expect_agent(now, name, *patience, out));
        }
    }

    pub(super) fn assemble(
        config: HubConfig,
        link_config: LinkConfig,
        ids: Ids,
        seed: [u8; 32],
        outside: Arc<dyn Outside>,
        audit: Audit,
    ) -> Arc<Self> {
        let budget = Budget::new(config.limits.memory);
        let hub = Hub::new(config.clone(), seed, outside.now(), outside.unix());
        audit.feed.set_wall(hub.wall());
        let [a, b, c, d, e, f, g, h, ..] = seed;
        Arc::new(Self {
            link_config,
            wall: hub.wall(),
            ids,
            chance: AtomicU64::new(u64::from_be_bytes([h, g, f, e, d, c, b, a])),
            policy: Ranked::new(Policy {
                keys: hub.keys(),
                config: Arc::new(config),
            }),
            outside,
            keys: Event::new(),
            drain: Signal::default(),
            farewell: Signal::default(),
            stop: Signal::default(),
            connections: Connections::default(),
            open_sockets: AtomicUsize::new(0),
            hub: Ranked::new(HubCell {
                hub,
                armed: None,
                housekeeper: None,
                hears: None,
            }),
            commands: Ranked::new(()),
            gate: Gate::default(),
            links: Ranked::default(),
            waiters: Ranked::default(),
            responses: Ranked::default(),
            ended_links: Ranked::default(),
            audit,
            budget,
            relieving: Mutex::new(()),
            parts: Ranked::default(),
            processor: Ranked::default(),
            tool_queues: Ranked::default(),
            pool: Arc::default(),
            mcp_agents: McpAgents::new(&seed),
            seed,
            gateway: OnceLock::new(),
            owner: OnceLock::new(),
            trust: OnceLock::new(),
            proxies: OnceLock::new(),
            upstreams: OnceLock::new(),
            registry: OnceLock::new(),
        })
    }

    /// Monotonic time, for deadlines and durations: it is in no record.
    #[must_use]
    pub fn clock(&self) -> Instant {
        self.outside.now()
    }

    /// Names the root certificates that servers are held against. The first ones stay; without a call it is the system's.
    pub fn set_trust(&self, trust: Trust) {
        // A second one is a fault of the host, and changes nothing.
        let _ = self.trust.set(trust);
    }

    /// Root certificates that servers are held against.
    pub(super) fn trust(&self) -> &Trust {
        self.trust.get_or_init(Trust::default)
    }

    /// The idle pipes of this engine's HTTP clients, which the housekeeper looks after.
    #[must_use]
    pub const fn pool(&self) -> &Arc<Pool> {
        &self.pool
    }

    /// Monotonic time. The calendar is read with it, so that what is recorded with this time has the calendar's of now.
    #[must_use]
    pub fn now(&self) -> Instant {
        let (now, unix) = (self.outside.now(), self.outside.unix());
        // Between the two readings the program may have been stopped.
        if self.wall.has_stepped(now, unix) && self.outside.now().since(now) < AT_ONCE {
            self.wall.step(now, unix);
        }
        now
    }

    /// A number that looks random, for pauses; nothing secret is made from it.
    #[must_use]
    pub fn chance(&self) -> u64 {
        self.chance
            .fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed)
    }

    /// Usage of the process, see [`Outside::usage`].
    #[must_use]
    pub fn usage(&self) -> Usage {
        let usage = self.outside.usage();
        let now = self.now();
        Usage {
            cpu_per_mille: self.processor.lock().per_mille(now, usage.cpu),
            disk: self.owner().and_then(|owner| owner.disk()),
            ..usage
        }
    }

    /// Policy that holds now.
    pub fn policy(&self) -> Policy {
        self.policy.lock().clone()
    }

    /// Configuration that holds now.
    pub fn config(&self) -> Arc<HubConfig> {
        self.policy.lock().config.clone()
    }

    /// Takes another configuration over, see [`Hub::reload`].
    fn reload(self: &Arc<Self>, config: HubConfig) {
        self.budget.set_limit(config.limits.memory);
        self.hub(|hub, now, out| {
            hub.reload(now, config.clone(), out);
            let keys = hub.keys();
            let config = Arc::new(config);
            // Before any link hears of it: an agent that is told that its key is gone finds the new keys.
            *self.policy.lock() = Policy { config, keys };
        });
        self.keys.notify(usize::MAX);
        self.reload_keys_of_gateway();
    }

    /// Limits and times of links.
    pub const fn link_config(&self) -> &LinkConfig {
        &self.link_config
    }

    /// The calendar.
    pub fn wall(&self) -> WallClock {
        self.wall.clone()
    }

    /// The calendar's time at `now` in seconds since 1970, for a `Date` header.
    #[must_use]
    pub fn date(&self, now: Instant) -> Option<i64> {
        i64::try_from(self.wall.unix(now).as_secs()).ok()
    }

    /// A name for the next request.
    pub fn next_id(&self) -> ExchangeId {
        self.ids.next()
    }

    /// Hands out an id of an invocation that is not the first of its request.
    pub(super) fn further_id(&self) -> ExchangeId {
        self.ids.further()
    }

    /// The memory that all queues share.
    pub const fn budget(&self) -> &Budget {
        &self.budget
    }

    /// All links.
    pub(super) fn links(&self) -> Vec<Arc<LinkCell>> {
        self.links.lock().values().cloned().collect()
    }

    /// The feed of what happens, and the file that is written from it.
    pub const fn audit(&self) -> &Audit {
        &self.audit
    }

    /// Has `work` polled from now on, on a task or thread of its own, until it has ended or the engine has stopped.
    pub fn spawn(&self, work: Box<dyn Background>) {
        self.outside().spawn(work);
    }

    pub(super) fn outside(&self) -> &dyn Outside {
        &*self.outside
    }

    /// Calls the hub and then, with its lock released, does what it asks.
    pub fn hub<R>(&self, call: impl FnOnce(&mut Hub, Instant, &mut HubOut) -> R) -> R {
        let mut out = HubOut::default();
        let mut cell = self.hub.lock();
        let now = self.now();
        let result = call(&mut cell.hub, now, &mut out);
        self.carry(cell, out);
        result
    }

    /// Does what the hub asks, with its lock released. Not inlined, so that the program holds it once.
    #[inline(never)]
    fn carry(&self, mut cell: Guard<'_, HubCell, HUB>, out: HubOut) {
        let housekeeper = cell.rearm();
        let order = (!out.commands.is_empty()).then(|| self.commands.lock());
        let push = self.audit.feed.begin(&out.records);
        drop(cell);
        if let Some(push) = push {
            push.end(out.records);
        }
        for (id, command) in out.commands {
            if let Some(command) = self.gate.pass(id, command) {
                self.command(id, command);
            }
        }
        drop(order);
        for wait in out.woken {
            let waiter = self.waiters.lock().remove(&wait);
            waiter.into_iter().for_each(Waker::wake);
        }
        if let Some(housekeeper) = housekeeper {
            housekeeper.wake();
        }
    }

    /// Does on a link what the hub asks.
    pub(super) fn command(&self, id: LinkId, command: Command) {
        if let Some(link) = self.link(id) {
            link.command(self.now(), command);
        } else if let Some(upstream) = self.upstreams().get(id) {
            // Its answers see by their permits that the session has ended.
            upstream.news.notify(usize::MAX);
        }
    }

    /// Calls `call` with the hub alone: for the housekeeper.
    pub(super) fn hub_cell<R>(&self, call: impl FnOnce(&mut HubCell) -> R) -> R {
        call(&mut self.hub.lock())
    }

    /// Makes the housekeeper look round.
    pub(super) fn wake_housekeeper(&self) {
        let housekeeper = self.hub.lock().housekeeper.take();
        housekeeper.into_iter().for_each(Waker::wake);
    }

    /// Asks what became of a request that waits for capacity. While nothing has, `waker` is woken when something does.
    pub(super) fn claim(&self, wait: WaitId, waker: &Waker) -> Claim {
        // A waker is dropped outside of the locks: what that does is not known here.
        let mut before = None;
        self.hub(|hub, now, _| {
            let claim = hub.claim(now, wait);
            // Under the hub's lock, so that no answer comes between.
            let mut waiters = self.waiters.lock();
            before = match claim {
                Claim::Waiting => waiters.insert(wait, waker.clone()),
                Claim::Granted(_) | Claim::Refused(_) => waiters.remove(&wait),
            };
            claim
        })
    }

    /// The client of a request that waits for capacity went away, see [`Hub::leave`].
    pub(super) fn leave(&self, wait: WaitId) -> Option<Ticket> {
        let ticket = self.hub(|hub, now, _| hub.leave(now, wait));
        let waker = self.waiters.lock().remove(&wait);
        drop(waker);
        ticket
    }

    /// The conversation that a request continues.
    ///
    /// # Errors
    /// 404 when there is no such response, or it belongs to another key.
    pub fn history(
        &self,
        form: &Form,
        caller: &Caller,
        body: &[u8],
    ) -> Result<Option<Bytes>, Refusal> {
        Exchange::continues_from(&self.config(), form, body)
            .map(|response| self.responses.lock().find(caller.credential, &response))
            .transpose()
    }

    /// Keeps a conversation for later requests with the same key.
    pub fn keep(&self, owner: Option<Digest>, conversation: Conversation) {
        self.responses.lock().keep(owner, conversation);
    }

    /// Makes a link known to [`Engine::hub`]. Call it inside of that, so that no command is too early.
    pub(super) fn add_link(&self, link: Arc<LinkCell>) {
        self.links.lock().insert(link.id(), link);
    }

    /// Forgets a link but for what happened on it.
    pub(super) fn remove_link(&self, link: &LinkCell) {
        let mut totals = LinkTotals::default();
        link.add_to(&mut totals);
        let mut links = self.links.lock();
        if links.remove(&link.id()).is_some() {
            *self.ended_links.lock() += totals.counters;
        }
    }

    /// All links, and what happened on those that are gone, so that each is counted once.
    pub fn all_links(&self) -> (Vec<Arc<LinkCell>>, LinkCounters) {
        let links = self.links.lock();
        let ended = *self.ended_links.lock();
        (links.values().cloned().collect(), ended)
    }

    /// The link of that name.
    pub fn link(&self, id: LinkId) -> Option<Arc<LinkCell>> {
        self.links.lock().get(&id).cloned()
    }

    /// Number of links.
    pub fn link_count(&self) -> usize {
        self.links.lock().len()
    }

    /// Names the owner, who reloads on an operator's order. The first one stays.
    pub fn set_owner(&self, owner: Arc<dyn Owner>) {
        // A second one is a fault of the host, and changes nothing.
        let _ = self.owner.set(owner);
    }

    pub(super) fn owner(&self) -> Option<&Arc<dyn Owner>> {
        self.owner.get()
    }

    /// Adds a bridge or an agent to the components of health.
    pub fn add_part(&self, part: Arc<PartStatus>) {
        self.parts.lock().push(part);
    }

    /// The external bridges, and the agents that the program starts.
    pub(super) fn parts(&self) -> Vec<Arc<PartStatus>> {
        self.parts.lock().clone()
    }

    /// Lets HTTP requests below `/agents/NAME/` find the thread of that agent.
    pub fn add_tool_queue(&self, agent: &str, tool_queue: Arc<ToolQueue>) {
        self.tool_queues.lock().insert(agent.to_owned(), tool_queue);
    }

    /// The queue of HTTP requests for that agent.
    pub(super) fn tool_queue(&self, agent: &str) -> Option<Arc<ToolQueue>> {
        self.tool_queues.lock().get(agent).cloned()
    }

    /// Client connections open now.
    pub fn connections(&self) -> usize {
        self.connections.count()
    }

    pub(super) const fn client_connections(&self) -> &Connections {
        &self.connections
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
        self.drain.is_up()
    }

    /// Hears when draining begins. Ask [`Engine::is_draining`] after this, or it may be missed.
    pub fn listen_for_drain(&self) -> EventListener {
        self.drain.listen()
    }

    /// Hears when the keys may have changed. Look at [`Engine::policy`] after this, or a change may be missed.
    pub fn listen_for_keys(&self) -> EventListener {
        self.keys.listen()
    }

    /// True once nothing is to run any more.
    pub fn is_stopped(&self) -> bool {
        self.stop.is_up()
    }

    /// Hears when nothing is to run any more. Ask [`Engine::is_stopped`] after this, or it may be missed.
    pub fn listen_for_stop(&self) -> EventListener {
        self.stop.listen()
    }
}

/// One link whose socket is open.
#[derive(Debug)]
pub struct OpenSocket(Arc<Engine>);

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
pub struct Handle(Arc<Engine>);

impl Handle {
    /// The handle of a provider.
    pub const fn new(engine: Arc<Engine>) -> Self {
        Self(engine)
    }

    /// Begins to shut down, and returns. Nothing new is admitted, answers under way get `timeouts.drain`, then the agents'
    /// links are closed with code 1001. Called again it does nothing.
    pub fn shutdown(&self) {
        let engine = &self.0;
        if !engine.drain.raise() {
            return;
        }
        engine.hub(|hub, now, out| hub.drain(now, out));
        engine.drain.tell();
        engine.drain_gateway();
        engine.wake_housekeeper();
    }

    /// Takes another configuration over while it serves: everything but `default_bridge` and `exposed`, which belong to the
    /// bridges and the sockets of the start. See [`Hub::reload`].
    pub fn reload(&self, config: HubConfig) {
        let before = self.0.config();
        let (default_bridge, exposed) = (before.default_bridge, before.exposed);
        if let Some(address) = exposed.filter(|_| !config.auth_required) {
            tracing::warn!(
                "`auth.required: false` is not taken over: {address} can be reached from other machines, so requests go on \
                 needing a key; stop the program and let it listen on 127.0.0.1 alone first"
            );
        }
        self.0.reload(HubConfig {
            default_bridge,
            exposed,
            ..config
        });
    }

    /// Exchanges that are open or wait.
    #[must_use]
    pub fn open_requests(&self) -> usize {
        let metrics = self.0.hub(|hub, _, _| hub.metrics());
        metrics.open + metrics.queued
    }

    /// Longest time that [`Handle::shutdown`] gives them.
    #[must_use]
    pub fn drain_time(&self) -> Duration {
        self.0.config().timeouts.drain
    }

    /// Stops without waiting for anything.
    pub fn stop(&self) {
        self.0.stop.raise();
        self.0.stop.tell();
        self.0.stop_gateway();
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
    fn rearm(&mut self) -> Option<Waker> {
        let next = self.hub.poll_timeout().map(|timeout| timeout.at);
        let sooner = next.is_some() && (self.armed.is_none() || next < self.armed);
        if sooner {
            self.armed = next;
        }
        let settled = self.hears.is_some_and(|hears| self.hub.settled() >= hears);
        (sooner || settled)
            .then(|| self.housekeeper.take())
            .flatten()
    }

    /// The links to be heard, see [`Hub::awaited`], and the number of exchanges that are settled. `waker` is woken when another
    /// one is.
    pub(super) fn hear(&mut self, waker: &Waker) -> (Vec<(LinkId, usize)>, u64) {
        let settled = self.hub.settled();
        self.hears = Some(settled + 1);
        self.housekeeper = Some(waker.clone());
        (self.hub.awaited(), settled)
    }

    /// Sets the alarm anew, for the housekeeper that is about to wait: for the time that is returned, or until so many exchanges
    /// are settled.
    pub(super) fn wait(&mut self, waker: &Waker, settled: Option<u64>) -> Option<Instant> {
        self.hears = settled;
        self.armed = None;
        self.rearm();
        self.housekeeper = Some(waker.clone());
        self.armed
    }
}
