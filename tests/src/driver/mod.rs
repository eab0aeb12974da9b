//! The simplest driver of an engine: one thread, virtual time, connections in memory. Clients write and read HTTP/1.1 on
//! connections of the engine, in pieces of any size.
//!
//! It polls whoever has just begun, was woken, or has come to a deadline, and nobody else: a wake-up that is lost is a
//! request that hangs, and is found. It decides nothing; all that becomes of a request does so in the engine.

mod audit;
mod check;
mod client;
mod link;
mod outside;
mod ready;

pub use audit::Audited;
pub use client::{Asking, Call};
pub use link::Wire;
pub use outside::{EPOCH, Virtual};

use crate::agent;
use crate::response::Answer;
use audit::Audit;
use mcp_local_provider_core::config::HubConfig;
use mcp_local_provider_core::error::Refusal;
use mcp_local_provider_core::hub::sessions::{Action, Status};
use mcp_local_provider_core::hub::{Hub, Requester};
use mcp_local_provider_core::id::{ExchangeId, Ids, LinkId};
use mcp_local_provider_core::link::LinkConfig;
use mcp_local_provider_core::time::Instant;
use mcp_local_provider_engine::converse::Converse;
use mcp_local_provider_engine::{self as engine, Client, Engine, Handle, Housekeeper, Outside};
use ready::{Alarm, Ready, Who};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// Polls between two moments that are more than anybody needs.
const RESTLESS: usize = 100_000;

/// An engine, and what lies between it and the world.
#[derive(Debug)]
pub struct Driver {
    /// The owner's latest configuration.
    pub config: HubConfig,
    /// All connections of agents that ever were; dead ones take late frames.
    pub wires: BTreeMap<LinkId, Wire>,
    /// All requests that ever were and did not have their answer at once, in order.
    pub calls: Vec<Call>,
    /// Value of [`Call::eager`] for the next call.
    pub eager: bool,
    /// Exchanges that were open and that waited when the configuration changed last; they go on whatever the new limits are.
    before: (usize, usize),
    link_config: LinkConfig,
    engine: Arc<Engine>,
    outside: Arc<Virtual>,
    audit: Audit,
    housekeeper: Housekeeper,
    house: Alarm,
    /// The time until which the housekeeper hears agents, before it serves what is due.
    hearing: Option<Instant>,
    ready: Arc<Ready>,
    /// Requests that the engine has begun.
    begun: u64,
    /// Requests on a connection that was kept.
    pub on_kept: u64,
    /// Calls that are not over.
    open: Vec<usize>,
}

/// Result of a request.
#[derive(Debug)]
pub enum Answered {
    /// It is a call, by index.
    Call(usize),
    /// The answer, which was ready at once.
    Answer(Box<Answer>),
}

impl Driver {
    /// A program that has just started.
    #[must_use]
    pub fn new(config: HubConfig) -> Self {
        let link_config = LinkConfig::new(&config.limits);
        Self::with_link_config(config, link_config)
    }

    /// The same with its own limits and times for links.
    #[must_use]
    pub fn with_link_config(config: HubConfig, link_config: LinkConfig) -> Self {
        let outside = Arc::new(Virtual::new());
        let ready = Arc::new(Ready::default());
        let recorded = engine::audit::Audit::off();
        let audit = Audit::new(&recorded.feed, &ready);
        let engine = Engine::simulated(
            config.clone(),
            link_config.clone(),
            Ids::new(agent::PROCESS),
            [7; 32],
            outside.clone(),
            recorded,
        );
        Self {
            config,
            wires: BTreeMap::new(),
            calls: Vec::new(),
            eager: true,
            before: (0, 0),
            link_config,
            housekeeper: Housekeeper::new(engine.clone()),
            house: Alarm::new(Who::Housekeeper, &ready),
            hearing: None,
            engine,
            outside,
            audit,
            ready,
            begun: 0,
            on_kept: 0,
            open: Vec::new(),
        }
    }

    /// The engine, for agents that are given values and no frames.
    #[must_use]
    pub fn engine(&self) -> &Arc<Engine> {
        &self.engine
    }

    /// The clocks.
    #[must_use]
    pub fn outside(&self) -> &Virtual {
        &self.outside
    }

    /// Virtual time.
    #[must_use]
    pub fn now(&self) -> Instant {
        self.outside.now()
    }

    /// Shows the hub to `look`.
    pub fn look<R>(&self, look: impl FnOnce(&Hub) -> R) -> R {
        self.engine.look(look)
    }

    /// An agent's connection comes up.
    ///
    /// # Errors
    /// As [`mcp_local_provider_engine::link::Connected::new`].
    pub fn connect(&mut self, token: Option<&str>) -> Result<LinkId, Refusal> {
        Ok(self.connected(link::connect(&self.engine, token)?))
    }

    /// An agent's connection comes up by a request that is upgraded.
    ///
    /// # Errors
    /// The status of the answer instead.
    pub fn upgrade(&mut self, token: Option<&str>) -> Result<LinkId, u16> {
        self.begun += 1;
        Ok(self.connected(link::upgrade(&self.engine, token)?))
    }

    /// The link of an agent that the program starts.
    ///
    /// # Errors
    /// When the program is stopping.
    pub fn start_agent(&mut self, name: &str) -> Result<LinkId, Refusal> {
        Ok(self.connected(link::start(&self.engine, name)?))
    }

    /// Agents of these names are to be started.
    pub fn expect_agents(&self, agents: &[(String, Duration)]) {
        self.engine.expect_agents(agents);
    }

    fn connected(&mut self, link: Box<dyn Converse>) -> LinkId {
        let wire = Wire::new(&self.engine, link, &self.ready);
        let id = wire.id();
        self.wires.insert(id, wire);
        id
    }

    /// The owner has another configuration.
    pub fn reload(&mut self, config: HubConfig) {
        self.config = config.clone();
        Handle::new(self.engine.clone()).reload(config);
        let metrics = self.look(Hub::metrics);
        self.before = (metrics.open, metrics.queued);
    }

    /// The program begins to shut down.
    pub fn shutdown(&self) {
        Handle::new(self.engine.clone()).shutdown();
        // Connections without a request end now.
        let open = self.open.iter().map(|at| &self.calls[*at]);
        for call in open.filter(|call| call.is_over()) {
            call.alarm.ring();
        }
    }

    /// True from [`Driver::shutdown`] on.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.engine.is_draining()
    }

    /// True once the program may end.
    #[must_use]
    pub fn is_stopped(&self) -> bool {
        self.engine.is_stopped()
    }

    /// A connection of a client that asks for nothing now, while it is kept.
    #[must_use]
    pub fn idle_client(&self) -> Option<Client> {
        self.engine.connect()
    }

    /// A connection is gone, for whatever reason.
    pub fn lose(&mut self, id: LinkId) {
        if let Some(wire) = self.wires.get_mut(&id) {
            wire.lose();
        }
    }

    /// A text frame of an agent has arrived.
    pub fn receive(&mut self, id: LinkId, frame: &str) {
        self.receive_all(id, [frame]);
    }

    /// Text frames of an agent have arrived together.
    pub fn receive_all<'f>(&mut self, id: LinkId, frames: impl IntoIterator<Item = &'f str>) {
        self.receive_in_turns(id, frames);
        self.check_memory();
    }

    fn receive_in_turns<'f>(&mut self, id: LinkId, frames: impl IntoIterator<Item = &'f str>) {
        let mut frames = frames.into_iter().peekable();
        while frames.peek().is_some()
            && let Some(wire) = self.wires.get_mut(&id)
        {
            wire.read(|link, turn| {
                while !turn.is_full()
                    && let Some(frame) = frames.next()
                {
                    link.receive(turn, frame);
                }
            });
        }
    }

    /// A binary frame of an agent has arrived.
    pub fn receive_binary(&mut self, id: LinkId) {
        if let Some(wire) = self.wires.get_mut(&id) {
            wire.read(|link, turn| link.receive_binary(turn));
        }
    }

    /// The agent of a link shows a sign of life.
    pub fn alive(&mut self, id: LinkId) {
        if let Some(wire) = self.wires.get_mut(&id) {
            wire.read(|link, turn| link.alive(turn));
        }
    }

    /// There is room for so many frames until the agent of a link reads more; with `None` it reads all that comes.
    pub fn set_room(&mut self, id: LinkId, room: Option<usize>) {
        if let Some(wire) = self.wires.get_mut(&id) {
            wire.room = room;
            // The socket can be written to.
            wire.alarm.ring();
        }
    }

    /// An agent that does not read all that comes reads one frame more.
    pub fn read_piece(&mut self, id: LinkId) {
        if let Some(room) = self.wires.get(&id).and_then(|wire| wire.room) {
            self.set_room(id, Some(room + 1));
        }
    }

    /// A client's request has arrived.
    pub fn http(&mut self, asking: &Asking<'_>) -> Answered {
        self.begun += 1;
        let (now, id, at) = (self.now(), self.last_id(), self.calls.len());
        let mut open = self.open.iter().filter(|_| asking.keeps);
        let kept = open.find_map(|at| self.calls[*at].take_kept(now, asking));
        self.on_kept += u64::from(kept.is_some());
        let (engine, ready) = (&self.engine, &self.ready);
        let mut call = Call::new(engine, asking, id, at, kept, self.eager, ready);
        // However slow its client is, its task has one turn.
        call.poll(now);
        self.calls.push(call);
        self.open.push(at);
        self.flow();
        match self.calls[at].answer() {
            Some(answer) if !self.has_run(at) => {
                self.open.retain(|open| *open != at);
                self.calls.pop();
                Answered::Answer(Box::new(answer))
            }
            _ => Answered::Call(at),
        }
    }

    /// True when a call was let in, however short it was.
    fn has_run(&self, at: usize) -> bool {
        let call = &self.calls[at];
        call.ran
            || self
                .audited()
                .any(|line| line.id == call.id && line.admitted)
    }

    /// The body of a call comes, whose head came alone. True when it was let in.
    pub fn send_body(&mut self, at: usize) -> bool {
        if !self.calls[at].is_sending() {
            return false;
        }
        let now = self.now();
        self.calls[at].send_body();
        self.calls[at].poll(now);
        self.flow();
        !self.calls[at].is_over() || self.has_run(at)
    }

    /// A request of a program on this machine that shows no key.
    pub fn ask(&mut self, route: &str, body: &str) -> Answered {
        self.http(&Asking::new(route, body))
    }

    /// The id of the request that came last.
    #[must_use]
    pub fn last_id(&self) -> ExchangeId {
        agent::guess(self.begun)
    }

    /// The call of that id.
    #[must_use]
    pub fn call(&self, id: ExchangeId) -> Option<&Call> {
        let at = self.calls.binary_search_by_key(&id, |call| call.id);
        Some(&self.calls[at.ok()?])
    }

    /// The client of a call reads: what it was woken for, or is late for, is done.
    pub fn serve(&mut self, at: usize) {
        let now = self.now();
        let call = &mut self.calls[at];
        if call.alarm.is_due(now) {
            call.poll(now);
        }
        self.flow();
    }

    /// The client of a call closes its connection, or half of it.
    pub fn client_gone(&mut self, at: usize, half: bool) {
        let now = self.now();
        self.calls[at].hang_up(now, half);
        self.flow();
    }

    /// These servers of models are asked from now on.
    pub fn ask_upstreams(&self, upstreams: &[engine::Upstream]) {
        self.engine.ask_upstreams(upstreams);
    }

    /// The program itself changes a session.
    ///
    /// # Errors
    /// As [`Hub::control`].
    pub fn control(&mut self, session: &str, action: Action) -> Result<Status, Refusal> {
        self.engine
            .hub(|hub, now, out| hub.control(now, Requester::Provider, session, action, out))
    }

    /// Keeps commands on their way from the hub to the links, as when a thread is stopped there, or lets them go on.
    pub fn hold_commands(&mut self, hold: bool) {
        self.engine.hold_commands(hold);
        while !hold && self.engine.release_command() {}
    }

    /// True while commands are on their way from the hub to the links.
    #[must_use]
    pub fn holds_commands(&self) -> bool {
        self.engine.held_commands() > 0
    }

    /// Lets one command go on. False when there is none.
    pub fn release_command(&mut self) -> bool {
        self.engine.release_command()
    }

    /// Polls all that were woken, until nobody is.
    pub fn flow(&mut self) {
        let now = self.now();
        let mut polls = 0;
        while let Some(who) = self.ready.next() {
            self.poll(who, now);
            polls += 1;
            assert!(polls < RESTLESS, "{who:?} and others never rest");
        }
        let calls = &self.calls;
        self.open.retain(|at| !calls[*at].is_closed());
    }

    fn poll(&mut self, who: Who, now: Instant) {
        match who {
            Who::Housekeeper => {
                let waker = self.house.reset();
                self.house.until = self.housekeeper.poll(waker);
                let until = self.house.until;
                assert!(until.is_none_or(|until| until > now), "it is late already");
                let due = self.look(Hub::poll_timeout).map(|timeout| timeout.at);
                self.hearing = until.filter(|_| due.is_some_and(|due| due <= now));
            }
            Who::Audit => self.audit.poll(),
            Who::Link(id) => {
                let wire = self.wires.get_mut(&id).expect("links stay known");
                if wire.write(now) {
                    wire.lose();
                }
            }
            Who::Call(at) => {
                let call = &mut self.calls[at];
                if call.is_due(now) {
                    call.poll(now);
                }
            }
        }
    }

    /// The least deadline of all that are polled then.
    #[must_use]
    pub fn next_timeout(&self) -> Option<Instant> {
        let links = self.wires.values().filter_map(|wire| wire.alarm.until);
        let open = self.open.iter().map(|at| &self.calls[*at]);
        let calls = open.filter(|call| call.eager || call.is_over());
        let calls = calls.filter_map(|call| call.alarm.until);
        // The housekeeper may wake for one that is not any more, and serves what is due once agents were heard.
        let hub = self.look(Hub::poll_timeout).map(|timeout| timeout.at);
        let hears = self.hears();
        let hub = hub.filter(|_| !hears);
        let stop = self.house.until.filter(|_| hears || self.is_draining());
        hub.into_iter().chain(stop).chain(links).chain(calls).min()
    }

    /// True while a deadline of the hub has passed and agents are heard first.
    #[must_use]
    pub const fn hears(&self) -> bool {
        self.hearing.is_some()
    }

    /// Advances to the least deadline and serves it. False when nothing waits for time.
    pub fn advance(&mut self) -> bool {
        let Some(at) = self.next_timeout() else {
            return false;
        };
        self.pass(at);
        true
    }

    /// Lets time pass up to `at`, with no deadline before it.
    pub fn pass(&mut self, at: Instant) {
        while let Some(until) = self.house.until.filter(|until| *until < at) {
            self.outside.set_now(until.max(self.now()));
            self.elapse();
        }
        // It may be late already where a thread brought an old time along.
        self.outside.set_now(at.max(self.now()));
        self.elapse();
    }

    /// The program was stopped until `at`, and goes on: those frames came meanwhile. Links are woken by what came before the
    /// deadlines are noticed, or after.
    pub fn resume(&mut self, at: Instant, came: Vec<(LinkId, String)>, links_first: bool) {
        self.outside.set_now(at.max(self.now()));
        let links: Vec<LinkId> = came.iter().map(|(link, _)| *link).collect();
        for (link, frame) in came {
            if let Some(wire) = self.wires.get_mut(&link) {
                wire.arrive(frame);
            }
        }
        if !links_first {
            self.elapse();
        }
        for link in links {
            if let Some(wire) = self.wires.get_mut(&link) {
                wire.read_arrived();
            }
        }
        self.elapse();
    }

    /// Polls all whose time has come.
    pub fn elapse(&mut self) {
        let now = self.now();
        let due = |until: Option<Instant>| until.is_some_and(|until| until <= now);
        if due(self.house.until) {
            self.house.ring();
        }
        for wire in self.wires.values().filter(|wire| due(wire.alarm.until)) {
            wire.alarm.ring();
        }
        for at in &self.open {
            let call = &self.calls[*at];
            if due(call.alarm.until) && (call.eager || call.is_over()) {
                call.alarm.ring();
            }
        }
        self.flow();
    }

    /// Polls all whom nobody has woken, before their time: nothing may come of it.
    pub fn prod(&mut self) {
        assert!(self.ready.is_empty(), "somebody was woken");
        // It may have waited for a deadline that is not any more. When it hears agents before a drain is over it alone knows.
        if !self.hears() && !self.is_draining() {
            let until = self.housekeeper.poll(self.house.waker());
            assert!(until >= self.house.until || until.is_none(), "housekeeping");
            self.house.until = until;
        }
        let before = self.next_timeout();
        self.audit.prod();
        for wire in self.wires.values_mut() {
            wire.prod();
        }
        let now = self.now();
        for at in &self.open {
            let call = &mut self.calls[*at];
            if !call.alarm.is_due(now) {
                call.prod();
            }
        }
        assert!(self.ready.is_empty(), "an early call woke somebody");
        assert_eq!(self.next_timeout(), before, "an early call moved a timer");
    }

    /// True when every call has ended and no link remembers one.
    #[must_use]
    pub fn is_over(&self) -> bool {
        let wires = self.wires.values().filter(|wire| wire.alive);
        let mut tombstones = wires.map(|wire| wire.look(|link, _| link.tombstones()));
        self.calls.iter().all(Call::is_over) && tombstones.all(|count| count == 0)
    }

    /// Returns the audit's records of requests, in order.
    pub fn audited(&self) -> impl Iterator<Item = Audited> {
        self.audit.requests()
    }
}
