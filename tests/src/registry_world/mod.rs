//! A registry under faults: admins who change tools, clients who run them, commands and servers that fail, a disk that is full or
//! loses what it was given last, and time.
//!
//! As in [`world`](crate::world), one string of bytes decides everything, and nobody is polled who was not woken. Each definition has
//! a mark and each run a canary. What was acknowledged is on the disk, what was refused never is, and no change is there by half. A
//! run has one answer, with its own canary alone; when it has ended or its client has left, nothing works for it, and everybody
//! else's work goes on. At the end everything heals, and nothing is left.

mod check;
mod definitions;
mod disk;
mod heal;
mod outside;

use crate::agent;
use crate::exchange::{Alarm, Exchange};
use crate::surroundings::Surroundings;
use crate::upstream_world::server;
use arbitrary::{Result, Unstructured};
use definitions::NAMES;
use disk::Disk;
use mcp_local_provider_core::agents::upstream::Api;
use mcp_local_provider_core::config::{Area, CircuitLimits, HubConfig, Key, Role};
use mcp_local_provider_core::hub::keys::digest;
use mcp_local_provider_core::id::Ids;
use mcp_local_provider_core::link::LinkConfig;
use mcp_local_provider_core::time::Instant;
use mcp_local_provider_engine::background::Background;
use mcp_local_provider_engine::registry_permits::HostEntry;
use mcp_local_provider_engine::{
    self as engine, Engine, Housekeeper, RegistryBuiltIn, RegistrySetup, Upstream,
};
use mcp_local_provider_registry::Limits;
use outside::{Connection, NoFiles, Shell};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::task::Poll;

/// Steps of one run at most.
const STEPS: u64 = 2048;
/// Clients' requests of one run at most.
const REQUESTS: u64 = 256;
/// Polls between two moments that are more than anybody needs.
const RESTLESS: usize = 10_000;
/// Timeouts that may pass until everything is over.
const PATIENCE: usize = 4096;

/// Port of the server of models.
const MODELS: u16 = 7;
/// Port of the server that tools ask.
const SERVER: u16 = 8;

/// Runs the world that `data` decides. Returns numbers of events by name.
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
    let Ok(mut world) = World::new(&mut u, told) else {
        return BTreeMap::new();
    };
    let mut steps = 0;
    while steps < STEPS && !u.is_empty() && world.step(&mut u).is_ok() {
        world.flow();
        steps += 1;
    }
    world.heal();
    world.happened
}

/// Names of entries, each with the mark that it has from then on.
type Marks = Vec<(String, Option<String>)>;

/// An admin's request.
struct Change {
    exchange: Exchange,
    wanted: Marks,
}

/// A client's request for a run.
struct Run {
    exchange: Exchange,
    canary: String,
}

struct World {
    outside: Arc<Surroundings>,
    limits: Limits,
    upstream: Upstream,
    engine: Arc<Engine>,
    housekeeper: Housekeeper,
    house: Alarm,
    disk: Arc<Disk>,
    shell: Arc<Shell>,
    work: Vec<(Box<dyn Background>, Alarm)>,
    connections: Vec<Connection>,
    changes: Vec<Change>,
    runs: Vec<Run>,
    /// Number of what is marked next.
    next: u64,
    /// All that was ever kept.
    kept: BTreeSet<(String, String)>,
    /// Entries that were deleted on the disk, and those of which that was said.
    deleted: (u64, u64),
    happened: BTreeMap<&'static str, u64>,
    told: bool,
}

impl World {
    fn new(u: &mut Unstructured<'_>, told: bool) -> Result<Self> {
        let limits = Limits {
            tools: *u.choose(&[1000, 4])?,
            executions: *u.choose(&[8, 2])?,
            queue_length: *u.choose(&[8, 1])?,
            ..Limits::default()
        };
        let upstream = Upstream {
            models: vec!["m".to_owned()],
            retries: u.int_in_range(0..=1)?,
            circuit: CircuitLimits {
                failures: 0,
                ..CircuitLimits::default()
            },
            ..Upstream::new("u", Api::OpenAi, &format!("http://u.test:{MODELS}/v1"))
        };
        let outside = Arc::new(Surroundings::new());
        outside.clock.listen(MODELS, true);
        outside.clock.listen(SERVER, true);
        let (disk, shell) = (Arc::new(Disk::default()), Arc::new(Shell::default()));
        let engine = start(&outside, &limits, &upstream, &disk, &shell);
        Ok(Self {
            housekeeper: Housekeeper::new(engine.clone()),
            outside,
            limits,
            upstream,
            engine,
            house: Alarm::new(),
            disk,
            shell,
            work: Vec::new(),
            connections: Vec::new(),
            changes: Vec::new(),
            runs: Vec::new(),
            next: 0,
            kept: BTreeSet::new(),
            deleted: (0, 0),
            happened: BTreeMap::new(),
            told,
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

    fn count(&mut self, what: &'static str) {
        *self.happened.entry(what).or_default() += 1;
    }

    fn step(&mut self, u: &mut Unstructured<'_>) -> Result<()> {
        match u.int_in_range(0..=63u8)? {
            // Nothing, so that an input of zeros is the smallest.
            0 => {}
            1..=8 => self.create(u)?,
            9..=11 => self.replace(u)?,
            12..=13 => self.delete(u)?,
            14..=27 => self.execute(u)?,
            28..=35 => {
                let keeps = u.ratio(3, 4)?;
                self.settle_disk(keeps);
            }
            36..=43 => self.end_command(u)?,
            44..=52 => self.answer(u)?,
            53..=55 => self.leave(u)?,
            56..=60 => self.pass_time(u)?,
            61 => {
                let (port, listens) = (*u.choose(&[MODELS, SERVER])?, u.ratio(2, 3)?);
                self.tell(|| format!("port {port} listens: {listens}"));
                self.outside.clock.listen(port, listens);
            }
            62 => self.compare_list(),
            _ => {
                let written = u.int_in_range(0..=self.disk.waiting())?;
                if u.ratio(1, 4)? {
                    self.lose_power(written);
                }
            }
        }
        Ok(())
    }

    fn mark(&mut self) -> String {
        self.next += 1;
        format!("m-{}", self.next)
    }

    fn send(&mut self, key: &str, method: &str, path: &str, body: &Value) -> Exchange {
        let headers = [
            ("authorization", format!("Bearer {key}")),
            ("content-type", "application/json".to_owned()),
        ];
        let body = if body.is_null() {
            String::new()
        } else {
            body.to_string()
        };
        self.tell(|| format!("{key}: {method} {path} {body}"));
        Exchange::new(&self.engine, method, path, &headers, &body)
    }

    fn change(&mut self, method: &str, path: &str, body: &Value, wanted: Marks) {
        let exchange = self.send("admin", method, path, body);
        self.changes.push(Change { exchange, wanted });
    }

    /// An admin makes a tool, or several at once.
    fn create(&mut self, u: &mut Unstructured<'_>) -> Result<()> {
        if self.next > REQUESTS {
            return Ok(());
        }
        let (mut tools, mut wanted) = (Vec::new(), Marks::new());
        for _ in 0..*u.choose(&[1, 1, 2, 3])? {
            let (at, mark) = (u.choose_index(NAMES.len())?, self.mark());
            tools.push(definitions::tool(u, at, &mark)?);
            wanted.push((NAMES[at].to_owned(), Some(mark)));
        }
        let body = match tools.len() {
            1 => tools.remove(0),
            _ => tools.into(),
        };
        self.change("POST", "/tools", &body, wanted);
        Ok(())
    }

    fn replace(&mut self, u: &mut Unstructured<'_>) -> Result<()> {
        if self.next > REQUESTS {
            return Ok(());
        }
        let (at, mark) = (self.known(u)?, self.mark());
        let tool = definitions::tool(u, at, &mark)?;
        let wanted = vec![(NAMES[at].to_owned(), Some(mark))];
        self.change("PUT", &format!("/tools/{}", NAMES[at]), &tool, wanted);
        Ok(())
    }

    fn delete(&mut self, u: &mut Unstructured<'_>) -> Result<()> {
        let (name, force) = (NAMES[self.known(u)?], *u.choose(&["", "?force=true"])?);
        let path = format!("/tools/{name}{force}");
        let wanted = vec![(name.to_owned(), None)];
        self.change("DELETE", &path, &Value::Null, wanted);
        Ok(())
    }

    /// The place of a name, mostly of a tool that is on the disk.
    fn known(&self, u: &mut Unstructured<'_>) -> Result<usize> {
        let marks = self.disk.marks();
        let known = NAMES.iter().enumerate();
        let known = known.filter(|(_, name)| marks.contains_key(**name));
        let known: Vec<usize> = known.map(|(at, _)| at).collect();
        if known.is_empty() || u.ratio(1, 16)? {
            return u.choose_index(NAMES.len());
        }
        Ok(*u.choose(&known)?)
    }

    /// A client runs a tool.
    fn execute(&mut self, u: &mut Unstructured<'_>) -> Result<()> {
        if self.next > REQUESTS {
            return Ok(());
        }
        let timeout = *u.choose(&[None, None, Some(2), Some(300)])?;
        self.run_tool(NAMES[self.known(u)?], timeout);
        Ok(())
    }

    fn run_tool(&mut self, name: &str, timeout: Option<u64>) {
        self.next += 1;
        let canary = format!("c-{}z", self.next);
        let mut body = json!({ "arguments": { "v": canary } });
        if let Some(seconds) = timeout {
            body["timeout"] = seconds.into();
        }
        let path = format!("/tools/{name}/execute");
        let exchange = self.send("script", "POST", &path, &body);
        self.runs.push(Run { exchange, canary });
    }

    fn settle_disk(&mut self, keeps: bool) {
        if self.disk.waiting() == 0 {
            return;
        }
        self.tell(|| format!("the disk keeps a change: {keeps}"));
        let kept = self.disk.settle(keeps);
        self.count(match keeps {
            true => "changes kept",
            false => "changes refused by the disk",
        });
        self.note_kept(kept);
    }

    fn note_kept(&mut self, kept: Marks) {
        for (name, mark) in kept {
            match mark {
                Some(mark) => {
                    self.kept.insert((name, mark));
                }
                None => self.deleted.0 += 1,
            }
        }
    }

    fn end_command(&mut self, u: &mut Unstructured<'_>) -> Result<()> {
        let running = self.shell.trails();
        if running.is_empty() {
            return Ok(());
        }
        let (at, how) = (u.choose_index(running.len())?, u.int_in_range(0..=15u8)?);
        self.tell(|| format!("the command of {} ends: {how}", running[at]));
        match how {
            0..=8 => self.shell.end(at, Some(0), false),
            9..=11 => self.shell.end(at, Some(1), false),
            12 => self.shell.end(at, None, false),
            13 => self.shell.end(at, None, true),
            14 => self.shell.refuse(at),
            _ => self.shell.forget(at),
        }
        self.count(if how <= 8 {
            "commands"
        } else {
            "commands that failed"
        });
        Ok(())
    }

    /// Connections on which somebody waits for an answer.
    fn jobs(&self) -> Vec<usize> {
        let connections = self.connections.iter().enumerate();
        let busy = connections.filter(|(_, it)| it.works_for().is_some());
        busy.map(|(at, _)| at).collect()
    }

    /// A server answers, well or not.
    fn answer(&mut self, u: &mut Unstructured<'_>) -> Result<()> {
        let jobs = self.jobs();
        if !jobs.is_empty() {
            let at = *u.choose(&jobs)?;
            let how = u.int_in_range(0..=15u8)?;
            self.answer_so(at, how);
        }
        Ok(())
    }

    fn answer_so(&mut self, at: usize, how: u8) {
        let connection = &mut self.connections[at];
        let Some(canary) = connection.job.take() else {
            return;
        };
        let good = match connection.port {
            MODELS => server::whole(Api::OpenAi, &canary),
            _ => server::response(200, "text/plain", "", &canary),
        };
        let (bytes, is_over) = match how {
            0..=9 => (good, false),
            10 => (server::error(500, ""), false),
            11 => (server::error(404, ""), false),
            12 => (
                server::response(302, "text/plain", "Location: http://10.0.0.1/\r\n", ""),
                false,
            ),
            13 => (good[..good.len() - 1].to_owned(), true),
            14 => ("HTTP/1.1 200 OK\r\nConte".to_owned(), true),
            _ => (String::new(), true),
        };
        connection.far.send(bytes.as_bytes());
        if is_over {
            connection.is_over = true;
            connection.far.end();
        }
        self.tell(|| format!("a server answers {canary}: {how}"));
        self.count(if how <= 9 {
            "answers"
        } else {
            "answers that failed"
        });
    }

    /// A client closes its connection.
    fn leave(&mut self, u: &mut Unstructured<'_>) -> Result<()> {
        if !self.runs.is_empty() && u.ratio(7, 8)? {
            let before = self.working();
            let mut left = BTreeSet::new();
            for _ in 0..*u.choose(&[1, 1, 2])? {
                if !self.runs.is_empty() {
                    let run = self.runs.remove(u.choose_index(self.runs.len())?);
                    self.tell(|| format!("{} leaves", run.canary));
                    left.insert(run.canary);
                    self.count("runs that were left");
                }
            }
            self.flow();
            let after = self.working();
            for trail in &before {
                let is_left = left.contains(outside::canary(trail));
                assert_ne!(after.contains(trail), is_left, "{trail}, after {left:?}");
            }
        } else if !self.changes.is_empty() {
            let at = u.choose_index(self.changes.len())?;
            self.changes.remove(at);
            self.count("changes that were left");
        }
        Ok(())
    }

    /// Trails of all that works.
    fn working(&self) -> Vec<String> {
        let jobs = self.connections.iter().filter_map(Connection::works_for);
        let jobs = jobs.map(str::to_owned);
        jobs.chain(self.shell.trails()).collect()
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
        self.tell(|| format!("time passes to {}", to.as_micros()));
        self.outside.clock.set_now(to.max(self.now()));
    }

    fn next_timeout(&self) -> Option<Instant> {
        let work = self.work.iter().filter_map(|(_, alarm)| alarm.until);
        let exchanges = self.changes.iter().map(|it| &it.exchange);
        let exchanges = exchanges.chain(self.runs.iter().map(|it| &it.exchange));
        let exchanges = exchanges.filter_map(|exchange| exchange.alarm.until);
        work.chain(exchanges).chain(self.house.until).min()
    }

    /// The machine loses its power and starts again.
    fn lose_power(&mut self, written: usize) {
        self.tell(|| format!("the power is lost, {written} changes were written"));
        self.count("losses of power");
        let before = self.disk.marks();
        let kept = self.disk.lose_power(written);
        self.changes.clear();
        self.runs.clear();
        self.work.clear();
        self.connections.clear();
        self.disk = Arc::new(Disk::with(kept));
        for (name, mark) in self.disk.marks() {
            self.kept.insert((name, mark));
        }
        let after = self.disk.marks();
        let gone = before.keys().filter(|name| !after.contains_key(*name));
        self.deleted.0 += u64::try_from(gone.count()).unwrap();
        self.shell = Arc::new(Shell::default());
        self.engine = start(
            &self.outside,
            &self.limits,
            &self.upstream,
            &self.disk,
            &self.shell,
        );
        self.housekeeper = Housekeeper::new(self.engine.clone());
        self.house = Alarm::new();
        self.flow();
        self.compare_list();
    }

    /// Compares the list that a client is given with the disk, unless something waits for that.
    fn compare_list(&mut self) {
        if self.disk.waiting() > 0 {
            return;
        }
        let mut exchange = self.send("script", "GET", "/tools?limit=1000", &Value::Null);
        exchange.poll(self.now());
        assert!(exchange.is_whole, "a list waits for something");
        let list: Value = serde_json::from_slice(&exchange.arrived).expect("JSON");
        let text = |tool: &Value, field: &str| tool[field].as_str().unwrap().to_owned();
        let listed: BTreeMap<String, String> = list["tools"]
            .as_array()
            .unwrap()
            .iter()
            .map(|tool| (text(tool, "name"), text(tool, "description")))
            .collect();
        assert_eq!(listed, self.disk.marks(), "memory and disk");
        self.count("lists");
    }

    /// Polls all that were woken or are late, until nobody is.
    fn flow(&mut self) {
        for _ in 0..RESTLESS {
            let now = self.now();
            let new = self.outside.new_work().into_iter();
            self.work.extend(new.map(|work| (work, Alarm::new())));
            let mut polled = false;
            if self.house.take(now) {
                self.house.until = self.housekeeper.poll(&self.house.waker);
                polled = true;
            }
            self.work.retain_mut(|(work, alarm)| {
                if !alarm.take(now) {
                    return true;
                }
                polled = true;
                let poll = work.poll(&alarm.waker);
                alarm.until = work.poll_timeout();
                poll == Poll::Pending
            });
            let changes = self.changes.iter_mut().map(|it| &mut it.exchange);
            let runs = self.runs.iter_mut().map(|it| &mut it.exchange);
            for exchange in changes.chain(runs) {
                if !exchange.is_closed() && exchange.alarm.take(now) {
                    exchange.poll(now);
                    polled = true;
                }
            }
            for (port, far) in self.outside.clock.accept() {
                self.connections.push(Connection::new(port, far));
            }
            self.connections.iter_mut().for_each(Connection::read);
            self.connections
                .retain(|it| !it.is_over && !it.far.is_ended());
            if !polled {
                self.check();
                return;
            }
        }
        panic!("somebody never rests");
    }
}

/// Starts the program.
fn start(
    outside: &Arc<Surroundings>,
    limits: &Limits,
    upstream: &Upstream,
    disk: &Arc<Disk>,
    shell: &Arc<Shell>,
) -> Arc<Engine> {
    let key = |name: &str, role| Key {
        allow: vec![Area::Models, Area::Registry],
        ..Key::new(name, digest(name.as_bytes()), role)
    };
    let mut config = HubConfig {
        keys: vec![key("admin", Role::Admin), key("script", Role::Client)],
        auth_required: true,
        ..HubConfig::default()
    };
    config.limits.requests_per_minute = 1_000_000;
    config.limits.burst = 1_000_000;
    config.limits.tokens_per_minute = 1_000_000_000;
    let link_config = LinkConfig::new(&config.limits);
    let engine = Engine::simulated(
        config,
        link_config,
        Ids::new(agent::PROCESS),
        [7; 32],
        outside.clone(),
        engine::audit::Audit::off(),
    );
    engine.ask_upstreams(std::slice::from_ref(upstream));
    let hosts = ["h.test"].map(|host| host.parse::<HostEntry>().expect("a host"));
    engine.open_registry(RegistrySetup {
        built_in: RegistryBuiltIn,
        limits: limits.clone(),
        hosts: hosts.into_iter().collect(),
        records: disk.records(),
        store: disk.clone(),
        commands: shell.clone(),
        files: Arc::new(NoFiles),
    });
    engine
}
