//! The MCP gateway: sessions of clients and processes of servers, with their locks.
//!
//! What a client sends locks its session, releases it, and then locks the server; what a server says locks the server and, with
//! that held, the session that it goes to. A client's answers are read from the streams of its session.

mod address;
mod audience;
mod cell;
mod child;
mod dispatch;
mod figures;
mod listing;
mod reservation;
mod servers;
mod starts;
mod stateless;

pub use child::{Child, Children, Exit, Work};

use crate::Engine;
use crate::background::Background;
use crate::ranked::{LEAF, Ranked, TABLE};
pub(crate) use address::Address;
pub(crate) use audience::Asker;
use cell::ServerCell;
pub(crate) use cell::{Client, SessionCell};
use figures::Counts;
pub(crate) use listing::Standing;
use mcp_local_provider_core::hub::keys::{Caller, Digest, digest};
use mcp_local_provider_core::hub::limiter::{Bucket, Rate};
use mcp_local_provider_core::text::JsonValue;
use mcp_local_provider_core::time::Instant;
use mcp_local_provider_mcp::config::{Gateway as Config, Interactive, Scope, Transport, Wire};
use mcp_local_provider_mcp::events::Closed;
use mcp_local_provider_mcp::refusal::{Reason, Refusal};
use mcp_local_provider_mcp::revision::{Era, Revision};
use mcp_local_provider_mcp::server::Known;
use mcp_local_provider_mcp::session::{Attachment, Session};
use mcp_local_provider_mcp::stateless::Capabilities;
use mcp_local_provider_mcp::streams::StreamId;
pub(crate) use reservation::Reservation;
use starts::Starts;
use stateless::Pools;
pub(crate) use stateless::{RequestCell, unknown_server};
use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Weak};
use std::task::{Poll, Waker};
use std::time::Duration;

/// Clients whose rate is remembered; when there are more, those whose rate is whole again are forgotten.
const CLIENTS: usize = 10_000;

/// The gateway of an engine.
pub(crate) struct Gateway {
    config: Ranked<Arc<Config>, LEAF>,
    children: Arc<dyn Children>,
    starts: Starts,
    counts: Ranked<HashMap<Arc<str>, Arc<Counts>>, LEAF>,
    /// What processes have shown of the servers of these names.
    known: Ranked<HashMap<Arc<str>, Known>, LEAF>,
    table: Ranked<Table, TABLE>,
    pools: Ranked<Pools, TABLE>,
    /// Reloads of the keys and the configuration.
    reloads: AtomicU64,
    /// Sessions that are still to be opened, by their ids.
    reservations: Ranked<HashMap<Box<str>, Arc<Reservation>>, TABLE>,
    /// Who writes to each WebSocket, by its number.
    sockets: Ranked<HashMap<u64, Waker>, TABLE>,
    /// Nobody else may know it: the ids of sessions are made from it.
    seed: Digest,
}

/// Id and number of a session, both of which no other one has.
pub(crate) type SessionName = (Box<str>, u64);

/// The request by which a session is opened.
pub(crate) struct Initialize<'h> {
    /// Its id, as JSON.
    pub(crate) id: &'h str,
    /// Its parameters, a JSON object.
    pub(crate) params: &'h str,
    /// The transport that it came by.
    pub(crate) transport: Transport,
}

#[derive(Default)]
struct Table {
    sessions: HashMap<Box<str>, Arc<SessionCell>>,
    opened: u64,
    /// Sessions that were opened since the start.
    created: u64,
    /// Servers whose process a thread runs.
    processes: Vec<Arc<ServerCell>>,
    rates: HashMap<Client, Bucket>,
}

impl fmt::Debug for Gateway {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Gateway({} sessions)", self.table.lock().sessions.len())
    }
}

impl Engine {
    /// Opens the gateway: its servers, and who runs their processes. The first call counts; without one there is no gateway.
    pub fn open_gateway(self: &Arc<Self>, config: Config, children: Arc<dyn Children>) {
        let seed = digest(&[&self.seed[..], b"sessions of MCP"].concat());
        let gateway = Gateway {
            config: Ranked::new(Arc::new(config)),
            children,
            starts: Starts::default(),
            counts: Ranked::default(),
            known: Ranked::default(),
            table: Ranked::default(),
            pools: Ranked::default(),
            reloads: AtomicU64::new(0),
            reservations: Ranked::default(),
            sockets: Ranked::default(),
            seed,
        };
        if self.gateway.set(gateway).is_ok() {
            self.outside().spawn(Box::new(Sweeper {
                engine: Arc::downgrade(self),
                next: None,
            }));
        }
    }

    /// Takes another configuration of the gateway over. Sessions of servers that are gone end, and those of the servers in
    /// `changed`, whose processes are started in another way from now on. Requests without a session that listen look at theirs.
    pub fn reload_gateway(self: &Arc<Self>, config: Config, changed: &[String]) {
        let Some(gateway) = self.gateway() else {
            return;
        };
        let config = Arc::new(config);
        *gateway.config.lock() = config.clone();
        gateway.known.lock().clear();
        let is_over =
            |name: &str| config.server(name).is_none() || changed.iter().any(|other| other == name);
        gateway.end_where(self, |cell| {
            let mut servers = cell.servers().iter().map(|server| &*server.name);
            servers.any(is_over)
        });
        gateway.end_pools(self, is_over);
        gateway.look_again();
    }

    /// The gateway, where there is one.
    pub(crate) fn gateway(&self) -> Option<&Gateway> {
        self.gateway.get()
    }

    /// Ends the sessions of keys that are gone, and of those that may not use a server of the session any more. Runs of the registry
    /// and requests without a session look at theirs.
    pub(super) fn reload_keys_of_gateway(self: &Arc<Self>) {
        let keys = self.policy().keys;
        if let Some(registry) = self.registry.get() {
            registry.wake_all();
        }
        if let Some(gateway) = self.gateway() {
            gateway.end_where(self, |cell| {
                let mut servers = cell.servers().iter();
                servers.any(|server| !keys.uphold_server(cell.caller.authority, &server.name))
            });
            gateway.look_again();
        }
    }

    /// Ends the streams of what no request asked for: the program drains.
    pub(super) fn drain_gateway(&self) {
        for cell in self.gateway().into_iter().flat_map(Gateway::sessions) {
            cell.call(|session, wake| wake.extend(session.streams_mut().wake_all()));
        }
        if let Some(gateway) = self.gateway() {
            gateway.end_listeners();
            gateway.wake_reservations();
        }
    }

    /// Ends all sessions and processes: the program ends.
    pub(super) fn stop_gateway(self: &Arc<Self>) {
        if let Some(gateway) = self.gateway() {
            gateway.end_where(self, |cell| {
                cell.close(Closed::Drain);
                true
            });
            gateway.end_pools(self, |_| true);
        }
    }
}

impl Gateway {
    pub(crate) fn config(&self) -> Arc<Config> {
        self.config.lock().clone()
    }

    /// The session of that id, if this key has opened it for the servers of that address.
    pub(crate) fn find(
        &self,
        id: &str,
        client: &Client,
        address: &Address,
    ) -> Option<Arc<SessionCell>> {
        let cell = self.table.lock().sessions.get(id).cloned()?;
        (cell.client.key == client.key && cell.is_at(address)).then_some(cell)
    }

    /// Counts a request to its client's rate.
    pub(crate) fn count(&self, now: Instant, client: &Client) -> Result<(), Refusal> {
        let limits = self.config().rate;
        if limits.requests == 0 {
            return Ok(());
        }
        let rate = Rate::in_period(limits.requests, limits.period);
        let mut table = self.table.lock();
        if table.rates.len() >= CLIENTS {
            table
                .rates
                .retain(|_, bucket| !bucket.refill(now).is_zero());
        }
        let bucket = table.rates.entry(client.clone()).or_default();
        bucket.take(now, 1, rate).map_err(|wait| {
            Refusal::new(
                Reason::RateLimited,
                "this client makes more requests than it may (gateway.rate)",
            )
            .retry_after(wait)
        })
    }

    /// Makes the id of a new session.
    pub(crate) fn mint(&self) -> SessionName {
        let mut table = self.table.lock();
        table.opened += 1;
        (hex_id(&self.seed, table.opened), table.opened)
    }

    /// Opens a session of this name.
    pub(crate) fn open(
        &self,
        engine: &Arc<Engine>,
        client: Client,
        caller: &Caller,
        address: &Address,
        name: SessionName,
        initialize: &Initialize<'_>,
    ) -> Result<(Arc<SessionCell>, StreamId), Refusal> {
        let config = self.config();
        let mut leaving = Vec::new();
        let servers = address.servers().iter();
        let servers = servers
            .map(|server| self.process_for(engine, &config, &server.name, initialize.params))
            .collect::<Vec<_>>();
        let mut table = self.table.lock();
        make_room(&table, &config, &client, &mut leaving)?;
        let share = engine.budget().share();
        let (session, stream) = Session::open(engine.clock(), initialize.id, &config, Some(share));
        let asked = servers.iter().any(|server| server.is_shared());
        let asked = asked.then(|| revision_of(initialize.params)).flatten();
        let session = session.asking(asked).with(address.catalogue());
        let cell = SessionCell::attached(
            name,
            client,
            (caller.clone(), initialize.transport),
            session,
            servers,
        );
        table.created += 1;
        table.sessions.insert(cell.id.clone(), cell.clone());
        drop(table);
        for other in leaving {
            self.end(engine, &other);
        }
        let mut refused = Vec::new();
        for (server, at) in cell.servers().iter().zip(0..) {
            let at = Attachment(at);
            server.greet(engine.clock(), &cell, at);
            let refusal = dispatch::start(engine, server);
            let run = refusal.map_or_else(|| self.run(engine, server), Err);
            if let Err(refusal) = run {
                cell.call(|session, wake| {
                    session.handle_not_ready(engine.clock(), at, &refusal, wake);
                });
                refused.push(refusal);
            }
        }
        if refused.len() < cell.servers().len() {
            return Ok((cell, stream));
        }
        self.end(engine, &cell);
        Err(refused.swap_remove(0))
    }

    /// The process for a session that begins with these parameters: the one that all share, where the owner wants that and the server
    /// cannot ask the client, else one of its own.
    fn process_for(
        &self,
        engine: &Engine,
        config: &Config,
        server: &Arc<str>,
        hello: &str,
    ) -> Arc<ServerCell> {
        let declared = JsonValue::read(hello).and_then(|all| all.member("capabilities"));
        let asks = declared.is_some_and(|declared| Capabilities::read(declared).any());
        let is_shared = config.server(server).is_some_and(|server| {
            let refuses = server.interactive == Interactive::Refuse;
            server.scope == Scope::Shared && (refuses || !asks)
        });
        if is_shared {
            self.shared(engine, server, Era::Sessions)
        } else {
            let at = (self.counts(server), self.known(server));
            ServerCell::new(engine, server, hello, config, (false, Era::Sessions), at)
        }
    }

    /// What processes have shown of a server.
    fn known(&self, server: &str) -> Known {
        if self.is_internal(server) {
            return Known::SESSIONS;
        }
        self.known.lock().get(server).copied().unwrap_or_default()
    }

    /// True for a server that the program is itself: it has no process.
    fn is_internal(&self, server: &str) -> bool {
        let config = self.config();
        let server = config.server(server);
        server.is_some_and(|server| server.wire == Wire::Internal)
    }

    /// Notes what a process has shown of its server. It holds until the configuration is loaded again.
    fn learn(&self, server: &Arc<str>, known: Known) {
        self.known.lock().insert(server.clone(), known);
    }

    /// Finds a thread for a server's process, if it has none and needs one.
    pub(crate) fn run(&self, engine: &Arc<Engine>, cell: &Arc<ServerCell>) -> Result<(), Refusal> {
        if !cell.wants_thread() {
            return Ok(());
        }
        if self.is_internal(&cell.name) {
            return self.run_child(engine, cell);
        }
        let most = self.config().processes.max;
        let mut table = self.table.lock();
        let mut leaving = None;
        if table.processes.len() >= most {
            let idle = table.processes.iter().enumerate();
            let idle = idle.filter_map(|(at, other)| Some((other.idle_since()?, at)));
            let Some((_, at)) = idle.min() else {
                drop(table);
                cell.not_run();
                return Err(Refusal::new(
                    Reason::ProcessesFull,
                    "as many processes of MCP servers run as may, and all are in use (gateway.processes.max)",
                )
                .about(&cell.name)
                .retry_after(Duration::from_secs(5)));
            };
            leaving = Some(table.processes.swap_remove(at));
        }
        table.processes.push(cell.clone());
        drop(table);
        if let Some(other) = leaving {
            other.call(engine, |server, now, out, _| server.rest(now, out));
        }
        self.run_child(engine, cell)
    }

    fn run_child(&self, engine: &Arc<Engine>, cell: &Arc<ServerCell>) -> Result<(), Refusal> {
        let child = Child::new(engine.clone(), cell.clone());
        self.children.run(child).map_err(|error| {
            cell.not_run();
            self.process_ended(cell);
            let message = format!("the MCP server `{}` cannot be run: {error}", cell.name);
            Refusal::new(Reason::ServerUnavailable, message).about(&cell.name)
        })
    }

    /// No thread runs this process any more.
    fn process_ended(&self, cell: &Arc<ServerCell>) {
        self.forget_lease(cell);
        let mut table = self.table.lock();
        table.processes.retain(|other| !Arc::ptr_eq(other, cell));
    }

    /// Ends a session and its process.
    pub(crate) fn end(&self, engine: &Arc<Engine>, cell: &Arc<SessionCell>) {
        let known = self.table.lock().sessions.remove(&cell.id);
        if known.is_some() {
            cell.end(engine);
        }
    }

    fn sessions(&self) -> Vec<Arc<SessionCell>> {
        self.table.lock().sessions.values().cloned().collect()
    }

    fn end_where(&self, engine: &Arc<Engine>, over: impl Fn(&SessionCell) -> bool) {
        for cell in self.sessions() {
            if over(&cell) {
                self.end(engine, &cell);
            }
        }
    }

    /// Ends sessions that have been idle for too long, and forgets streams that nobody comes back for.
    fn sweep(&self, engine: &Arc<Engine>, now: Instant) {
        self.sweep_requests(engine, now);
        for cell in self.sessions() {
            let mut session = cell.machine.lock();
            session.streams_mut().sweep(now);
            let is_over = session.expires().is_some_and(|at| at <= now);
            drop(session);
            if is_over {
                cell.close(Closed::Expired);
                self.end(engine, &cell);
            }
        }
    }
}

/// Chooses the sessions that end for a new one of this client: its own that has been idle for longest.
fn make_room(
    table: &Table,
    config: &Config,
    client: &Client,
    leaving: &mut Vec<Arc<SessionCell>>,
) -> Result<(), Refusal> {
    let own = table
        .sessions
        .values()
        .filter(|cell| cell.client == *client);
    let own: Vec<_> = own.collect();
    let is_full = table.sessions.len() >= config.sessions.max;
    if own.len() < config.sessions.per_client && !is_full {
        return Ok(());
    }
    let idle = own.into_iter().filter_map(|cell| {
        let session = cell.machine.lock();
        session.is_idle().then(|| (session.last_request(), cell))
    });
    let longest = idle.min_by_key(|(since, _)| *since);
    if let Some((_, cell)) = longest {
        leaving.push(cell.clone());
        return Ok(());
    }
    Err(if is_full {
        Refusal::new(
            Reason::GatewayFull,
            "there are as many sessions as there may be (gateway.sessions.max)",
        )
        .retry_after(Duration::from_secs(5))
    } else {
        Refusal::new(
            Reason::SessionsFull,
            "this client has as many sessions as it may have, and all are in use (gateway.sessions.per_client)",
        )
        .retry_after(Duration::from_secs(5))
    })
}

/// The revision that `initialize` asks for, if it is spoken here.
fn revision_of(hello: &str) -> Option<Revision> {
    let asked = JsonValue::read(hello)?.member("protocolVersion")?;
    Revision::named(&asked.text()?)
}

/// An id of 128 bits that nobody can guess who does not know the seed, as hexadecimal digits.
pub(crate) fn hex_id(seed: &Digest, number: u64) -> Box<str> {
    let hash = digest(&[&seed[..], &number.to_be_bytes()].concat());
    let digits = hash.iter().take(16).map(|byte| format!("{byte:02x}"));
    digits.collect::<String>().into()
}

/// Looks after the sessions of an engine.
#[derive(Debug)]
struct Sweeper {
    engine: Weak<Engine>,
    next: Option<Instant>,
}

impl Background for Sweeper {
    fn poll(&mut self, _waker: &Waker) -> Poll<()> {
        let Some(engine) = self.engine.upgrade() else {
            return Poll::Ready(());
        };
        let now = engine.clock();
        let Some(gateway) = engine.gateway() else {
            return Poll::Ready(());
        };
        if self.next.is_some_and(|next| next <= now) {
            gateway.sweep(&engine, now);
            self.next = None;
        }
        self.next
            .get_or_insert(now + gateway.config().sessions.sweep);
        Poll::Pending
    }

    fn poll_timeout(&self) -> Option<Instant> {
        self.next
    }
}
