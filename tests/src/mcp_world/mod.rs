//! A gateway under faults: clients of several keys, scripted MCP servers, connections that are cut and resumed, and time.
//!
//! As in [`world`](crate::world), one string of bytes decides everything, and nobody is polled who was not woken. Each request and
//! each session has a canary. The model of a session says what its client must have seen: each answer once, on the stream of its
//! request, all progress in order, and nothing of another session, however often its streams were cut. At the end everything heals,
//! and then nothing may be left: no request, no process, no memory.

mod client;
mod outside;
mod server;

use crate::agent;
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
use mcp_local_provider_mcp::config::{Gateway, Server};
use outside::{Alarm, Exchange, Surroundings};
use serde_json::{Value, json};
use server::Process;
use std::collections::BTreeMap;
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
const SERVERS: [&str; 2] = ["files", "search"];

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
    for (what, times) in world.sessions.iter().flat_map(|session| &session.happened) {
        *happened.entry(*what).or_default() += times;
    }
    happened
}

struct World {
    engine: Arc<Engine>,
    outside: Arc<Surroundings>,
    work: Vec<(Box<dyn Background>, Alarm)>,
    processes: Vec<Process>,
    sessions: Vec<Session>,
    /// Requests whose answers nobody looks at.
    others: Vec<Exchange>,
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
            servers: SERVERS.iter().map(|name| Server::named(name)).collect(),
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
            others: Vec::new(),
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
            15..=64 => self.call(u)?,
            65..=72 => self.cancel(u)?,
            73..=82 => self.listen(u)?,
            83..=96 => self.cut(u)?,
            97..=112 => self.resume(u)?,
            113..=115 => self.delete(u)?,
            116..=125 => self.answer(u)?,
            126..=165 => self.read(u)?,
            166..=225 => self.serve(u)?,
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
            &format!("/servers/{server}/mcp"),
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

    /// A client opens a session. Another one of its client may end for it.
    fn open(&mut self, u: &mut Unstructured<'_>) -> Result<()> {
        if self.sessions.len() >= SESSIONS {
            return Ok(());
        }
        let (key, server) = (*u.choose(&KEYS)?, *u.choose(&SERVERS)?);
        let own = self.sessions.iter_mut();
        let own = own.filter(|session| session.key == key && (!session.is_over || session.is_lost));
        let own: Vec<_> = own.collect();
        if own.len() >= self.per_client {
            own.into_iter().for_each(|session| session.may_end = true);
        }
        let hello = json!({ "jsonrpc": "2.0", "id": "open", "method": "initialize", "params": {
            "protocolVersion": "2025-11-25", "capabilities": { "sampling": {} }, "clientInfo": { "name": "world", "version": "1" } } });
        let exchange = self.send(key, server, None, "POST", &[], &hello.to_string());
        let name = format!("S{}", self.sessions.len());
        self.tell(|| format!("{name} is opened by {key} for {server}"));
        self.sessions
            .push(Session::new(name, key, server, exchange));
        Ok(())
    }

    /// A client calls a tool, under an id that it has used before, or that another client uses.
    fn call(&mut self, u: &mut Unstructured<'_>) -> Result<()> {
        let Some(at) = self.used(u)? else {
            return Ok(());
        };
        let id: Value = serde_json::from_str(u.choose(&IDS)?).unwrap();
        let token = u.ratio(3, 4)?.then(|| id.clone());
        let session = &self.sessions[at];
        if session.is_open(&id) || session.requests.len() >= REQUESTS {
            return Ok(());
        }
        let canary = format!("{}-{}", session.name, session.requests.len());
        let mut params = json!({ "name": "echo", "arguments": { "canary": canary } });
        if let Some(token) = &token {
            params["_meta"] = json!({ "progressToken": token });
        }
        let exchange = self.post(
            at,
            &json!({ "jsonrpc": "2.0", "id": id, "method": "tools/call", "params": params }),
        );
        self.tell(|| format!("{canary} is asked under {id}"));
        self.sessions[at].expect(exchange, id, token, canary);
        Ok(())
    }

    /// A client takes one of its requests back.
    fn cancel(&mut self, u: &mut Unstructured<'_>) -> Result<()> {
        let Some(at) = self.used(u)? else {
            return Ok(());
        };
        let session = &mut self.sessions[at];
        let open = session.requests.iter().enumerate().skip(1);
        let open: Vec<usize> = open
            .filter(|(_, request)| request.answers == 0 && !request.is_given_up)
            .map(|(which, _)| which)
            .collect();
        if open.is_empty() {
            return Ok(());
        }
        let which = *u.choose(&open)?;
        let id = session.requests[which].id.clone();
        session.requests[which].is_given_up = true;
        session.requests[which].is_cancelled = true;
        for stream in session
            .streams
            .iter_mut()
            .filter(|stream| stream.request == Some(which))
        {
            stream.exchange.cut();
            stream.is_over = true;
        }
        let cancelled = json!({ "jsonrpc": "2.0", "method": "notifications/cancelled", "params": { "requestId": id } });
        self.tell(|| format!("session {at} takes {cancelled} back"));
        let exchange = self.post(at, &cancelled);
        self.others.push(exchange);
        Ok(())
    }

    /// A client listens to what belongs to no request of its.
    fn listen(&mut self, u: &mut Unstructured<'_>) -> Result<()> {
        let Some(at) = self.used(u)? else {
            return Ok(());
        };
        if self.sessions[at].streams.len() < 2 * REQUESTS {
            // The one before it ends, with what is on its way; a client that wants that resumes.
            let own = self.sessions[at].streams.iter_mut();
            for stream in own.filter(|stream| stream.request.is_none()) {
                stream.exchange.cut();
                stream.is_over = true;
            }
            self.tell(|| format!("session {at} listens"));
            let exchange = self.get(at, None);
            self.sessions[at].listen(exchange, None);
        }
        Ok(())
    }

    /// A client's connection is lost.
    fn cut(&mut self, u: &mut Unstructured<'_>) -> Result<()> {
        if !self.sessions.is_empty() {
            let which = u.choose_index(self.sessions.len())?;
            let at = u.choose_index(self.sessions[which].streams.len())?;
            self.tell(|| format!("stream {at} of session {which} is cut"));
            self.sessions[which].cut(at);
        }
        Ok(())
    }

    fn resume(&mut self, u: &mut Unstructured<'_>) -> Result<()> {
        if let Some(at) = self.used(u)? {
            self.resume_all(at);
        }
        Ok(())
    }

    /// A client comes back for the streams that were cut.
    fn resume_all(&mut self, at: usize) {
        for which in 0..self.sessions[at].streams.len() {
            let stream = &self.sessions[at].streams[which];
            if stream.is_cut && !stream.is_over {
                self.tell(|| {
                    format!(
                        "session {at} resumes stream {which} behind {:?}",
                        stream.last
                    )
                });
                let exchange = self.get(at, stream.last.clone());
                self.sessions[at].listen(exchange, Some(which));
            }
        }
    }

    /// A client ends a session.
    fn delete(&mut self, u: &mut Unstructured<'_>) -> Result<()> {
        if let Some(at) = self.used(u)? {
            self.end(at);
        }
        Ok(())
    }

    fn end(&mut self, at: usize) {
        self.tell(|| format!("session {at} is ended"));
        let session = &mut self.sessions[at];
        session.is_over = true;
        let session = &self.sessions[at];
        let exchange = self.send(
            session.key,
            session.server,
            session.id.as_deref(),
            "DELETE",
            &[],
            "",
        );
        self.others.push(exchange);
    }

    /// A client answers a question of its server.
    fn answer(&mut self, u: &mut Unstructured<'_>) -> Result<()> {
        let Some(at) = self.used(u)? else {
            return Ok(());
        };
        let session = &mut self.sessions[at];
        if !session.questions.is_empty() {
            let which = u.choose_index(session.questions.len())?;
            let id = session.questions.remove(which);
            let answer =
                json!({ "jsonrpc": "2.0", "id": id, "result": { "canary": session.name } });
            let exchange = self.post(at, &answer);
            self.others.push(exchange);
        }
        Ok(())
    }

    /// A client reads, one of its streams or all.
    fn read(&mut self, u: &mut Unstructured<'_>) -> Result<()> {
        if !self.sessions.is_empty() {
            let session = u.choose_index(self.sessions.len())?;
            self.read_all(session);
        }
        Ok(())
    }

    fn read_all(&mut self, at: usize) {
        for which in 0..self.sessions[at].streams.len() {
            self.sessions[at].read(which);
        }
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
        streams.map(|stream| &stream.exchange).chain(&self.others)
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
                let process = Process::new(child, self.is_broken, self.is_stubborn);
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
            for exchange in streams.chain(&mut self.others) {
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
                self.others.retain(|exchange| !exchange.is_closed());
                self.processes.retain(|process| !process.is_over);
                return;
            }
        }
        panic!("somebody never rests");
    }

    /// Lets everything end, and checks that it does.
    fn heal(&mut self) {
        self.is_broken = false;
        self.is_stubborn = false;
        self.outside.is_exhausted.store(false, Ordering::Relaxed);
        for _ in 0..PATIENCE {
            self.flow();
            for process in &mut self.processes {
                process.read(usize::MAX);
            }
            self.check_cancelled();
            for process in &mut self.processes {
                process.answer_all();
            }
            self.flow();
            for at in 0..self.sessions.len() {
                self.read_all(at);
                if self.sessions[at].id.is_some() && !self.sessions[at].is_over {
                    self.resume_all(at);
                }
            }
            self.flow();
            for at in 0..self.sessions.len() {
                self.read_all(at);
            }
            if self.sessions.iter().all(Self::is_answered) {
                break;
            }
            let Some(at) = self.next_timeout() else {
                break;
            };
            self.pass(at);
        }
        for session in &self.sessions {
            session.check_answered();
        }
        for at in 0..self.sessions.len() {
            for which in 0..self.sessions[at].streams.len() {
                self.sessions[at].cut(which);
            }
            self.end(at);
        }
        for _ in 0..PATIENCE {
            self.flow();
            for process in &mut self.processes {
                process.read(usize::MAX);
            }
            self.flow();
            // Sessions whose ids were lost go on until they have been idle for long enough.
            if self.processes.is_empty() && self.others.is_empty() && self.held() == 0 {
                break;
            }
            let Some(at) = self.next_timeout() else {
                break;
            };
            self.pass(at);
        }
        let left: Vec<_> = self
            .processes
            .iter()
            .map(|process| &process.running)
            .collect();
        assert!(
            left.is_empty(),
            "processes outlive their sessions: {left:?}"
        );
        assert!(self.others.is_empty(), "a request has no end");
        assert_eq!(self.held(), 0, "shares of limits.memory");
    }

    /// A process that has read everything works for nobody who has taken it back.
    fn check_cancelled(&self) {
        let running = self
            .processes
            .iter()
            .filter_map(|process| process.running.as_ref());
        for asked in running.flat_map(|running| &running.asked) {
            let requests = self.sessions.iter().flat_map(|session| &session.requests);
            let mut cancelled = requests.filter(|request| request.is_cancelled);
            let is_cancelled = cancelled.any(|request| request.canary == asked.canary);
            assert!(!is_cancelled, "{} was not taken back", asked.canary);
        }
    }

    /// Bytes of `limits.memory` that are taken.
    fn held(&self) -> usize {
        self.engine.budget().taken()
    }

    fn is_answered(session: &Session) -> bool {
        let mut requests = session.requests.iter();
        session.is_over || requests.all(|request| request.answers > 0 || request.is_given_up)
    }
}
