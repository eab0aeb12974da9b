//! A program whose models are those of servers in memory, under faults: refused and reset connections, silence, errors, answers
//! that break off, clients that leave, and time.
//!
//! As in [`world`](crate::world), one string of bytes decides everything, and nobody is polled who was not woken. Each request to a
//! server has text of its own. Whatever a client has seen is from one of them, and once it has seen something nobody is asked for it
//! any more. A server whose circuit is open is asked nothing. At the end everything heals: each server answers, each circuit is
//! closed, and no memory is held.

pub(crate) mod server;

use crate::driver::{Answered, Asking, Driver};
use arbitrary::{Result, Unstructured};
use mcp_local_provider_core::agents::upstream::Api;
use mcp_local_provider_core::config::{CircuitLimits, Fallback, HubConfig};
use mcp_local_provider_core::hub::Hub;
use mcp_local_provider_core::hub::upstreams::UpstreamStatus;
use mcp_local_provider_core::time::Instant;
use mcp_local_provider_engine::Upstream;
use server::{Connection, Job};
use std::collections::BTreeMap;
use std::time::Duration;

/// Steps of one run at most.
const STEPS: u64 = 2048;
/// Calls of one run at most.
const CALLS: usize = 48;
/// Timeouts that may pass until everything is over.
const PATIENCE: usize = 4096;

const SERVERS: [(&str, Api); 3] = [
    ("a", Api::OpenAi),
    ("b", Api::Ollama),
    ("c", Api::Anthropic),
];
const ROUTES: [&str; 3] = [
    "POST /v1/chat/completions",
    "POST /api/chat",
    "POST /v1/messages",
];

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
    let Ok(mut world) = World::new(&mut u) else {
        return BTreeMap::new();
    };
    world.told = told;
    let mut steps = 0;
    while steps < STEPS && !u.is_empty() && world.step(&mut u).is_ok() {
        world.settle();
        steps += 1;
    }
    world.heal();
    world.happened
}

/// A client's request.
#[derive(Debug)]
struct Asked {
    /// Its place among the driver's calls; `None` when it had its answer at once.
    call: Option<usize>,
    /// Numbers of the requests that servers got for it, each with its server.
    attempts: Vec<(usize, usize)>,
}

/// All that a server wrote for one request.
#[derive(Debug, Default)]
struct Said {
    text: String,
    /// It has begun to answer well.
    begun: bool,
}

struct World {
    driver: Driver,
    settings: Vec<Upstream>,
    connections: Vec<Connection>,
    asked: Vec<Asked>,
    said: Vec<Said>,
    /// The end of a server's pause, as health told it before the step.
    open_until: [Option<Instant>; SERVERS.len()],
    happened: BTreeMap<&'static str, u64>,
    told: bool,
}

impl World {
    fn new(u: &mut Unstructured<'_>) -> Result<Self> {
        let mut config = HubConfig::default();
        config.limits.exchanges = *u.choose(&[2, 64])?;
        config.limits.requests_per_minute = 1_000_000;
        config.limits.burst = 1_000_000;
        config.limits.tokens_per_minute = 1_000_000_000;
        for (at, (name, _)) in SERVERS.iter().enumerate() {
            if u.ratio(1, 2)? {
                let next = SERVERS[(at + 1) % SERVERS.len()].0;
                config.fallbacks.push(Fallback {
                    of: (*name).to_owned(),
                    models: vec![format!("{next}/m")],
                });
            }
        }
        let mut settings = Vec::new();
        for (at, (name, api)) in SERVERS.into_iter().enumerate() {
            let path = if api == Api::OpenAi { "/v1" } else { "" };
            settings.push(Upstream {
                models: vec!["m".to_owned()],
                retries: u.int_in_range(0..=2)?,
                concurrency: *u.choose(&[Some(1), Some(2), None])?,
                circuit: CircuitLimits {
                    failures: u.int_in_range(0..=3)?,
                    pause: Duration::from_secs(*u.choose(&[1, 30])?),
                },
                ..Upstream::new(name, api, &format!("http://{name}.test:{}{path}", at + 1))
            });
        }
        let driver = Driver::new(config);
        driver.ask_upstreams(&settings);
        let mut world = Self {
            driver,
            settings,
            connections: Vec::new(),
            asked: Vec::new(),
            said: Vec::new(),
            open_until: [None; SERVERS.len()],
            happened: BTreeMap::new(),
            told: false,
        };
        for at in 0..SERVERS.len() {
            world.listen(at, u.ratio(7, 8)?);
        }
        world.driver.flow();
        Ok(world)
    }

    fn tell(&self, what: impl FnOnce() -> String) {
        if self.told {
            eprintln!("{:>12} {}", self.driver.now().as_micros(), what());
        }
    }

    fn count(&mut self, what: &'static str) {
        *self.happened.entry(what).or_default() += 1;
    }

    fn listen(&self, server: usize, listens: bool) {
        let port = u16::try_from(server + 1).unwrap();
        self.driver.outside().listen(port, listens);
    }

    fn step(&mut self, u: &mut Unstructured<'_>) -> Result<()> {
        match u.int_in_range(0..=31u8)? {
            0 => {}
            1..=8 => self.ask(u)?,
            9..=21 => self.answer(u)?,
            22..=24 => self.fail(u)?,
            25..=26 => {
                let open: Vec<usize> = self.open_calls();
                if !open.is_empty() {
                    let at = *u.choose(&open)?;
                    let half = u.arbitrary()?;
                    self.tell(|| format!("call {at} leaves"));
                    self.driver.client_gone(at, half);
                    self.count("clients that left");
                }
            }
            27..=29 => {
                let before = self.driver.now();
                self.driver.advance();
                self.tell(|| format!("time passes from {before:?}"));
            }
            30 => {
                let (server, listens) = (u.choose_index(SERVERS.len())?, u.ratio(2, 3)?);
                self.tell(|| format!("server {server} listens: {listens}"));
                self.listen(server, listens);
            }
            _ => self.end_idle(u)?,
        }
        Ok(())
    }

    fn open_calls(&self) -> Vec<usize> {
        let calls = self.driver.calls.iter().enumerate();
        let open = calls.filter(|(_, call)| !call.is_over());
        open.map(|(at, _)| at).collect()
    }

    fn ask(&mut self, u: &mut Unstructured<'_>) -> Result<()> {
        if self.asked.len() < CALLS {
            let (route, server, stream) = (
                *u.choose(&ROUTES)?,
                u.choose_index(SERVERS.len())?,
                u.arbitrary()?,
            );
            self.ask_server(route, server, stream);
        }
        Ok(())
    }

    fn ask_server(&mut self, route: &str, server: usize, stream: bool) {
        let (number, name) = (self.asked.len(), SERVERS[server].0);
        let body = format!(
            r#"{{"model":"{name}/m","stream":{stream},"max_tokens":9,"messages":[{{"role":"user","content":"question {number}."}}]}}"#
        );
        self.asked.push(Asked {
            call: None,
            attempts: Vec::new(),
        });
        let answered = self.driver.http(&Asking::new(route, &body));
        self.tell(|| format!("{number} asks {route} of {name}, stream {stream}: {answered:?}"));
        if let Answered::Call(at) = answered {
            self.asked[number].call = Some(at);
        } else {
            self.count("refused at once");
        }
    }

    /// Takes connections and requests, and checks that each may be made.
    fn settle(&mut self) {
        loop {
            self.driver.flow();
            for (port, far) in self.driver.outside().accept() {
                let server = usize::from(port) - 1;
                self.connections.push(Connection::new(server, far));
            }
            let mut came = false;
            for at in 0..self.connections.len() {
                let connection = &mut self.connections[at];
                if connection.is_over {
                    continue;
                }
                let Some(body) = connection.read() else {
                    continue;
                };
                came = true;
                assert!(connection.job.is_none(), "two requests at once");
                let server = connection.server;
                let (call, number) = (server::call_of(&body), self.said.len());
                let is_ollama = SERVERS[server].1 == Api::Ollama;
                let stream = body["stream"].as_bool().unwrap_or(is_ollama);
                connection.job = Some(Job {
                    call,
                    number,
                    stream,
                    begun: false,
                    pieces: 0,
                });
                self.tell(|| format!("server {server} is asked {number} for {call}"));
                self.check_attempt(call, server);
                self.said.push(Said::default());
                self.asked[call].attempts.push((server, number));
            }
            if !came {
                break;
            }
        }
        self.check();
    }

    /// A server has got a request for a call.
    fn check_attempt(&mut self, call: usize, server: usize) {
        let asked = &self.asked[call];
        if let Some(at) = asked.call {
            let client = &self.driver.calls[at].client;
            assert_eq!(
                client.content, "",
                "{call} is asked for after its first byte"
            );
        }
        let own = |(of, _): &&(usize, usize)| *of == server;
        let before: Vec<_> = asked.attempts.iter().filter(own).collect();
        let begun = before.iter().any(|(_, number)| self.said[*number].begun);
        assert!(!begun, "{call} is asked again of a server that had begun");
        let retries = usize::try_from(self.settings[server].retries).unwrap();
        assert!(before.len() <= retries, "{call} is asked too often");
        if !before.is_empty() {
            self.count("retries");
        }
        if asked_elsewhere(&self.asked[call], server) {
            self.count("fallbacks");
        }
        let until = self.open_until[server];
        assert!(
            until.is_none_or(|until| until <= self.driver.now()),
            "server {server} is asked, whose circuit is open"
        );
    }

    fn check(&mut self) {
        self.driver.check_accounts();
        let now = self.driver.now();
        for (at, status) in self.statuses().into_iter().enumerate() {
            if status.circuit == "open" && self.open_until[at].is_none() {
                self.count("circuits that opened");
            }
            if status.circuit == "closed" && self.open_until[at].is_some() {
                self.count("circuits that closed");
            }
            if status.circuit != "probing" {
                self.open_until[at] = status.open_until;
            }
            let failures = self.settings[at].circuit.failures;
            let opens = failures > 0 && status.failures >= failures;
            assert!(
                !opens || status.circuit != "closed",
                "the circuit of {} stays closed: {status:?} at {now:?}",
                status.name
            );
        }
        for asked in &self.asked {
            let Some(at) = asked.call else { continue };
            let call = &self.driver.calls[at];
            let content = &call.client.content;
            let of_one = asked.attempts.iter().any(|(_, number)| {
                let text = &self.said[*number].text;
                match call.completed() {
                    true => text == content,
                    false => text.starts_with(content.as_str()),
                }
            });
            let nothing = content.is_empty() && !call.completed();
            assert!(of_one || nothing, "nobody said {content:?} alone");
        }
        for connection in &self.connections {
            let Some(job) = &connection.job else { continue };
            let Some(at) = self.asked[job.call].call else {
                continue;
            };
            let works = connection.is_over || connection.far.is_ended();
            let call = &self.driver.calls[at];
            assert!(!call.gone || works, "a server works for {at}, who left");
        }
    }

    fn statuses(&self) -> Vec<UpstreamStatus> {
        self.driver.look(Hub::upstreams)
    }

    /// Connections on which a request waits.
    fn jobs(&self) -> Vec<usize> {
        let connections = self.connections.iter().enumerate();
        let busy =
            connections.filter(|(_, it)| it.job.is_some() && !it.is_over && !it.far.is_ended());
        busy.map(|(at, _)| at).collect()
    }

    /// A server goes on with an answer.
    fn answer(&mut self, u: &mut Unstructured<'_>) -> Result<()> {
        let jobs = self.jobs();
        if !jobs.is_empty() {
            let at = *u.choose(&jobs)?;
            let ends = u.ratio(1, 3)?;
            self.go_on(at, ends);
        }
        Ok(())
    }

    fn go_on(&mut self, at: usize, ends: bool) {
        let connection = &mut self.connections[at];
        let api = SERVERS[connection.server].1;
        let Some(job) = &mut connection.job else {
            return;
        };
        let said = &mut self.said[job.number];
        said.begun = true;
        let mut bytes = String::new();
        if !job.stream {
            let text = server::piece(job, 0);
            said.text.push_str(&text);
            bytes.push_str(&server::whole(api, &text));
            connection.job = None;
        } else {
            if !job.begun {
                bytes.push_str(&server::opening(api));
                job.begun = true;
            }
            let text = server::piece(job, job.pieces);
            job.pieces += 1;
            said.text.push_str(&text);
            bytes.push_str(&server::more(api, &text));
            if ends {
                bytes.push_str(&server::ending(api));
                connection.job = None;
            }
        }
        connection.far.send(bytes.as_bytes());
        let server = connection.server;
        self.tell(|| format!("server {server} sends {bytes:?}"));
        self.count("answers");
    }

    /// A server fails a request in one of the ways that there are.
    fn fail(&mut self, u: &mut Unstructured<'_>) -> Result<()> {
        let jobs = self.jobs();
        if jobs.is_empty() {
            return Ok(());
        }
        let at = *u.choose(&jobs)?;
        let how = u.int_in_range(0..=15u8)?;
        let connection = &mut self.connections[at];
        let api = SERVERS[connection.server].1;
        let begun = connection.job.as_ref().is_some_and(|job| job.begun);
        let page = "<html>no</html>";
        let (bytes, keeps) = match how {
            _ if begun => (String::new(), false),
            0..=1 => (String::new(), false),
            2 => (server::error(500, ""), true),
            3 => (server::error(503, ""), true),
            4 => (server::error(529, ""), true),
            5 => (server::error(429, "Retry-After: 1\r\n"), true),
            6 => (server::error(400, ""), true),
            7 => (server::error(401, ""), true),
            8 => (server::response(200, "text/html", "", page), true),
            9 => (server::response(502, "text/html", "", page), true),
            10 => ("HTTP/1.1 200 OK\r\nConte".to_owned(), false),
            // A good answer breaks off before there is a piece of it.
            11..=14 => {
                let job = connection.job.as_ref();
                job.iter()
                    .for_each(|job| self.said[job.number].begun = true);
                if job.is_some_and(|job| job.stream) {
                    (server::opening(api), false)
                } else {
                    let mut bytes = server::whole(api, "lost");
                    bytes.truncate(bytes.len() - 2);
                    (bytes, false)
                }
            }
            _ => ("SSH-2.0-x\r\n".to_owned(), false),
        };
        connection.far.send(bytes.as_bytes());
        if keeps {
            connection.job = None;
        } else {
            connection.is_over = true;
            let resets = how % 2 == 0;
            match resets {
                true => connection.far.reset(),
                false => connection.far.end(),
            }
        }
        let server = connection.server;
        self.tell(|| format!("server {server} fails, {how}, begun {begun}"));
        self.count(if begun { "answers cut off" } else { "failures" });
        Ok(())
    }

    /// A server closes a connection that asks for nothing.
    fn end_idle(&mut self, u: &mut Unstructured<'_>) -> Result<()> {
        let connections = self.connections.iter().enumerate();
        let idle = connections.filter(|(_, it)| it.job.is_none() && !it.is_over);
        let idle: Vec<usize> = idle.map(|(at, _)| at).collect();
        if !idle.is_empty() {
            let at = *u.choose(&idle)?;
            self.connections[at].is_over = true;
            self.connections[at].far.end();
            self.tell(|| format!("connection {at} is ended while it is idle"));
        }
        Ok(())
    }

    /// Servers answer everything until nothing is open.
    fn work_off(&mut self) {
        for _ in 0..PATIENCE {
            self.settle();
            for at in self.jobs() {
                self.go_on(at, true);
            }
            self.settle();
            if self.open_calls().is_empty() {
                return;
            }
            self.driver.advance();
        }
        panic!("calls {:?} never end", self.open_calls());
    }

    /// Lets everything end, and checks that each server answers again and nothing is held.
    fn heal(&mut self) {
        self.tell(|| "everything heals".to_owned());
        for server in 0..SERVERS.len() {
            self.listen(server, true);
        }
        self.work_off();
        for (server, route) in ROUTES.into_iter().enumerate() {
            // The pause of an open circuit passes.
            for _ in 0..PATIENCE {
                self.settle();
                if self.statuses()[server].circuit != "open" {
                    break;
                }
                assert!(self.driver.advance(), "nobody waits for the pause's end");
            }
            let number = self.asked.len();
            self.ask_server(route, server, true);
            self.work_off();
            let at = self.asked[number].call.expect("it is let in");
            let call = &self.driver.calls[at];
            assert!(
                call.completed(),
                "server {server} answers nothing: {call:?}"
            );
            let status = &self.statuses()[server];
            assert_eq!(
                (status.circuit, status.failures),
                ("closed", 0),
                "{status:?}"
            );
            assert_eq!(status.in_flight, 0, "{status:?}");
        }
        // Idle connections to servers are closed in time.
        for _ in 0..PATIENCE {
            if !self.driver.advance() {
                break;
            }
            self.settle();
        }
        self.driver.check_nothing_left();
        self.driver.check_audit();
    }
}

/// True when another server was asked for it before.
fn asked_elsewhere(asked: &Asked, server: usize) -> bool {
    asked.attempts.iter().any(|(of, _)| *of != server)
}
