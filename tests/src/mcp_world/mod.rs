//! A gateway under faults: clients of several keys, scripted MCP servers, connections that are cut and resumed, and time.
//!
//! As in [`world`](crate::world), one string of bytes decides everything, and nobody is polled who was not woken. Each request and
//! each session has a canary. The model of a session says what its client must have seen: each answer once, on the stream of its
//! request, all progress in order, and nothing of another session, however often its streams were cut. At the end everything heals,
//! and then nothing may be left: no request, no process, no memory.

mod alone;
mod client;
mod heal;
mod requests;
mod server;

use crate::agent;
use crate::exchange::{Alarm, Exchange};
use crate::response::Head;
use crate::surroundings::Surroundings;
use alone::Alone;
use arbitrary::{Result, Unstructured};
use client::Session;
use mcp_local_provider_core::config::{Area, HubConfig, Key, Role};
use mcp_local_provider_core::hub::keys::digest;
use mcp_local_provider_core::id::Ids;
use mcp_local_provider_core::link::LinkConfig;
use mcp_local_provider_core::time::Instant;
use mcp_local_provider_engine::background::Background;
use mcp_local_provider_engine::feed::{Events, Reader};
use mcp_local_provider_engine::gateway::Exit;
use mcp_local_provider_engine::{self as engine, Engine};
use mcp_local_provider_mcp::config::{Gateway, Interactive, Scope, Server};
use serde_json::Value;
use server::Process;
use std::cell::Cell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Poll;
use std::time::Duration;

/// Steps of one run at most.
const STEPS: u64 = 2048;

/// Sessions of one run at most.
const SESSIONS: usize = 12;

/// Requests of one session at most.
const REQUESTS: usize = 24;

/// Polls between two moments that are more than anybody needs.
const RESTLESS: usize = 10_000;

/// Timeouts that may pass until everything is over.
const PATIENCE: usize = 2048;

const KEYS: [&str; 2] = ["ide", "phone"];
const SERVERS: [&str; 3] = ["files", "search", SHARED];

/// The server whose process all sessions share.
const SHARED: &str = "wiki";

/// Ids that clients choose again and again: those of different sessions are the same.
const IDS: [&str; 6] = ["0", "1", "2", "\"1\"", "\"a\"", "-3"];

/// Runs the world that `data` decides. Returns the numbers of what clients have seen, by kind.
///
/// # Panics
/// Panics when an invariant is broken.
pub fn run(data: &[u8]) -> BTreeMap<&'static str, u64> {
    live(data, false)
}

/// Runs the world as [`run`] does, and prints each step to standard error.
///
/// # Panics
/// Panics when an invariant is broken.
pub fn run_told(data: &[u8]) {
    live(data, true);
}

fn live(data: &[u8], told: bool) -> BTreeMap<&'static str, u64> {
    let mut u = Unstructured::new(data);
    let Ok(mut world) = World::new(&mut u) else {
        return BTreeMap::new();
    };
    world.told = told;
    let mut steps = 0;
    while steps < STEPS && !u.is_empty() && world.step(&mut u).is_ok() {
        world.flow();
        steps += 1;
    }
    world.heal();
    let mut happened = BTreeMap::new();
    let alone = world.alone.iter();
    let alone = alone.filter(|alone| alone.answers > 0).count();
    if alone > 0 {
        happened.insert("answers without a session", alone as u64);
    }
    for (what, times) in world.sessions.iter().flat_map(|session| &session.happened) {
        *happened.entry(*what).or_default() += times;
    }
    happened
}

fn server_named(name: &str) -> Server {
    let mut server = Server::named(name);
    if name == SHARED {
        server.scope = Scope::Shared;
        server.interactive = Interactive::Refuse;
    }
    server
}

struct World {
    engine: Arc<Engine>,
    outside: Arc<Surroundings>,
    work: Vec<(Box<dyn Background>, Alarm)>,
    processes: Vec<Process>,
    sessions: Vec<Session>,
    /// Requests without sessions.
    alone: Vec<Alone>,
    /// Changes of the lists of all servers.
    changes: Rc<Cell<u64>>,
    /// Requests whose answers nobody looks at.
    others: Vec<Exchange>,
    /// Requests with ids of sessions that are none of theirs.
    intruders: Vec<Exchange>,
    records: Reader,
    recorder: Alarm,
    per_client: usize,
    idle: Duration,
    /// Processes cannot be started, or do not end when they are told.
    is_broken: bool,
    is_stubborn: bool,
    told: bool,
}

impl World {
    fn new(u: &mut Unstructured<'_>) -> Result<Self> {
        let outside = Arc::new(Surroundings::new());
        let key = |name: &&str| Key {
            allow: vec![Area::Mcp],
            ..Key::new(name, digest(name.as_bytes()), Role::Client)
        };
        let config = HubConfig {
            keys: KEYS.iter().map(key).collect(),
            auth_required: true,
            ..HubConfig::default()
        };
        let link_config = LinkConfig::new(&config.limits);
        let recorded = engine::audit::Audit::off();
        let records = recorded.feed.reader(Events::ALL, usize::MAX, None);
        let engine = Engine::simulated(
            config,
            link_config,
            Ids::new(agent::PROCESS),
            [7; 32],
            outside.clone(),
            recorded,
        );
        let mut gateway = Gateway {
            servers: SERVERS.iter().map(|name| server_named(name)).collect(),
            ..Gateway::default()
        };
        gateway.rate.requests = 0;
        gateway.sessions.per_client = *u.choose(&[12, 2])?;
        gateway.sessions.idle = Duration::from_secs(*u.choose(&[3600, 20])?);
        gateway.processes.max = *u.choose(&[12, 12, 2])?;
        gateway.processes.idle = Duration::from_secs(*u.choose(&[600, 5])?);
        gateway.restart.attempts = *u.choose(&[3, 1])?;
        let (per_client, idle) = (gateway.sessions.per_client, gateway.sessions.idle);
        engine.open_gateway(gateway, outside.clone());
        Ok(Self {
            engine,
            outside,
            work: Vec::new(),
            processes: Vec::new(),
            sessions: Vec::new(),
            alone: Vec::new(),
            changes: Rc::default(),
            others: Vec::new(),
            intruders: Vec::new(),
            records,
            recorder: Alarm::new(),
            per_client,
            idle,
            is_broken: false,
            is_stubborn: false,
            told: false,
        })
    }

    fn now(&self) -> Instant {
        self.engine.clock()
    }

    fn tell(&self, what: impl FnOnce() -> String) {
        if self.told {
            eprintln!("{:>12} {}", self.now().as_micros(), what());
        }
    }

    fn step(&mut self, u: &mut Unstructured<'_>) -> Result<()> {
        match u.arbitrary::<u8>()? {
            // Nothing, so that an input of zeros is the smallest.
            0 => {}
            1..=14 => self.open(u)?,
            15..=56 => self.call(u)?,
            57..=60 => self.list(u)?,
            61..=66 => self.ask_alone(u)?,
            67..=72 => self.cancel(u)?,
            73..=82 => self.listen(u)?,
            83..=96 => self.cut(u)?,
            97..=112 => self.resume(u)?,
            113..=115 => self.delete(u)?,
            116..=125 => self.answer(u)?,
            126..=129 => self.subscribe(u)?,
            130..=133 => self.intrude(u)?,
            134..=168 => self.read(u)?,
            169..=225 => self.serve(u)?,
            226..=229 => self.die(u)?,
            230..=249 => self.pass_time(u)?,
            250..=252 => self.is_broken = u.arbitrary()?,
            253 | 254 => self.is_stubborn = u.arbitrary()?,
            255 => self
                .outside
                .is_exhausted
                .store(u.arbitrary()?, Ordering::Relaxed),
        }
        Ok(())
    }

    fn send(
        &self,
        key: &str,
        server: &str,
        session: Option<&str>,
        method: &str,
        more: &[(&str, String)],
        body: &str,
    ) -> Exchange {
        let mut headers = vec![
            ("authorization", format!("Bearer {key}")),
            ("accept", "application/json, text/event-stream".to_owned()),
            ("content-type", "application/json".to_owned()),
        ];
        headers.extend(session.map(|id| ("mcp-session-id", id.to_owned())));
        headers.extend(more.iter().cloned());
        Exchange::new(
            &self.engine,
            method,
            &match server {
                "" => "/mcp".to_owned(),
                server => format!("/servers/{server}/mcp"),
            },
            &headers,
            body,
        )
    }

    /// A message of a session that is open.
    fn post(&self, at: usize, message: &Value) -> Exchange {
        let session = &self.sessions[at];
        self.send(
            session.key,
            session.server,
            session.id.as_deref(),
            "POST",
            &[],
            &message.to_string(),
        )
    }

    fn get(&self, at: usize, last: Option<String>) -> Exchange {
        let session = &self.sessions[at];
        let more: Vec<_> = last
            .map(|last| ("last-event-id", last))
            .into_iter()
            .collect();
        self.send(
            session.key,
            session.server,
            session.id.as_deref(),
            "GET",
            &more,
            "",
        )
    }

    /// A session that a client uses.
    fn used(&self, u: &mut Unstructured<'_>) -> Result<Option<usize>> {
        let sessions = self.sessions.iter().enumerate();
        let used = sessions.filter(|(_, session)| session.id.is_some() && !session.is_over);
        let used: Vec<usize> = used.map(|(at, _)| at).collect();
        if used.is_empty() {
            return Ok(None);
        }
        Ok(Some(*u.choose(&used)?))
    }

    /// A process reads, or does something.
    fn serve(&mut self, u: &mut Unstructured<'_>) -> Result<()> {
        let Some(at) = self.running(u)? else {
            return Ok(());
        };
        let process = &mut self.processes[at];
        process.read(*u.choose(&[1, usize::MAX])?);
        process.act(u)
    }

    fn running(&self, u: &mut Unstructured<'_>) -> Result<Option<usize>> {
        let processes = self.processes.iter().enumerate();
        let running = processes.filter(|(_, process)| process.running.is_some());
        let running: Vec<usize> = running.map(|(at, _)| at).collect();
        if running.is_empty() {
            return Ok(None);
        }
        Ok(Some(*u.choose(&running)?))
    }

    /// A process ends by itself.
    fn die(&mut self, u: &mut Unstructured<'_>) -> Result<()> {
        if let Some(at) = self.running(u)? {
            let how = *u.choose(&[Exit::Code(1), Exit::Signal(11), Exit::OutputClosed])?;
            self.tell(|| format!("process {at} ends: {how:?}"));
            self.processes[at].exit(how);
        }
        Ok(())
    }

    /// Time passes, to the least deadline or for a while before it.
    fn pass_time(&mut self, u: &mut Unstructured<'_>) -> Result<()> {
        let part = u.int_in_range(0..=3u32)?;
        if let Some(at) = self.next_timeout() {
            let left = at.since(self.now());
            let passed = if part == 0 { left } else { left * part / 4 };
            self.pass(self.now() + passed);
        }
        Ok(())
    }

    fn pass(&mut self, to: Instant) {
        let start = self.now();
        self.tell(|| format!("time passes to {}", to.as_micros()));
        self.outside.clock.set_now(to.max(start));
        if self.now().since(Instant::ZERO) >= self.idle {
            // Whoever has asked nothing for so long.
            self.sessions
                .iter_mut()
                .for_each(|session| session.may_end = true);
        }
    }

    fn next_timeout(&self) -> Option<Instant> {
        let work = self.work.iter().filter_map(|(_, alarm)| alarm.until);
        let processes = self.processes.iter().filter(|process| !process.is_over);
        let processes = processes.filter_map(|process| process.alarm.until);
        let exchanges = self.exchanges().filter_map(|exchange| exchange.alarm.until);
        work.chain(processes).chain(exchanges).min()
    }

    fn exchanges(&self) -> impl Iterator<Item = &Exchange> {
        let streams = self.sessions.iter().flat_map(|session| &session.streams);
        let others = self.others.iter().chain(&self.intruders);
        let alone = self.alone.iter().map(|alone| &alone.exchange);
        streams
            .map(|stream| &stream.exchange)
            .chain(others)
            .chain(alone)
    }

    /// Polls all that were woken or are late, until nobody is.
    fn flow(&mut self) {
        for _ in 0..RESTLESS {
            let now = self.now();
            self.work.extend(
                self.outside
                    .new_work()
                    .into_iter()
                    .map(|work| (work, Alarm::new())),
            );
            for child in self.outside.new_children() {
                let process = Process::new(
                    child,
                    self.changes.clone(),
                    self.is_broken,
                    self.is_stubborn,
                );
                self.processes.push(process);
            }
            let mut polled = false;
            self.work.retain_mut(|(work, alarm)| {
                if !alarm.take(now) {
                    return true;
                }
                polled = true;
                let poll = work.poll(&alarm.waker);
                alarm.until = work.poll_timeout();
                poll == Poll::Pending
            });
            for process in &mut self.processes {
                process.is_broken = self.is_broken;
                process.is_stubborn = self.is_stubborn;
                if process.is_due(now) {
                    process.turn();
                    polled = true;
                }
            }
            let streams = self
                .sessions
                .iter_mut()
                .flat_map(|session| &mut session.streams);
            let streams = streams.map(|stream| &mut stream.exchange);
            let others = self.others.iter_mut().chain(&mut self.intruders);
            let alone = self.alone.iter_mut().map(|alone| &mut alone.exchange);
            for exchange in streams.chain(others).chain(alone) {
                if !exchange.is_closed() && exchange.alarm.take(now) {
                    exchange.poll(now);
                    polled = true;
                }
            }
            if self.recorder.take(now) {
                let mut records = Vec::new();
                self.records.drain(&self.recorder.waker, &mut records);
                polled |= !records.is_empty();
                if !records.is_empty() {
                    self.recorder.waker.wake_by_ref();
                }
            }
            if !polled {
                for intruder in &self.intruders {
                    let status = intruder.head.as_ref().map(Head::status);
                    assert!(
                        matches!(status, None | Some(404)),
                        "a session is another one's"
                    );
                }
                self.intruders.retain(|exchange| !exchange.is_closed());
                self.others.retain(|exchange| !exchange.is_closed());
                self.processes.retain(|process| !process.is_over);
                return;
            }
        }
        panic!("somebody never rests");
    }
}
