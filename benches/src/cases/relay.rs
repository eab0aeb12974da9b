//! Messages that the gateway relays, each direction by itself: from the bytes of a client's connection to the line for a process, and
//! from the line of a process to the bytes for the connection. One process serves several sessions, with keys, limits and
//! accounts, as the default configuration has them.

use std::fmt;
use std::hint::black_box;
use std::io;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Waker;
use std::time::Duration;

use mcp_local_provider_core::api::Listener;
use mcp_local_provider_core::config::{Area, HubConfig, Key, Role};
use mcp_local_provider_core::hub::keys::digest;
use mcp_local_provider_core::rpc::Line;
use mcp_local_provider_core::time::Instant;
use mcp_local_provider_engine::background::Background;
use mcp_local_provider_engine::client_connection::{ClientConnection, Next, Wakers};
use mcp_local_provider_engine::gateway::{Child, Children, Work};
use mcp_local_provider_engine::listen::room;
use mcp_local_provider_engine::{Audit, Engine, Outside, Usage};
use mcp_local_provider_mcp::config::{Gateway, Scope, Server};

use super::CHUNKS;
use crate::Error;
use crate::relay::floor::{Floor, Taken};

/// Sessions that one process serves.
const SESSIONS: usize = 16;
/// Key of the clients.
const KEY: &str = "bench-client-key-0123456789";
/// Answer of the process to `initialize`.
const HELLO: &str = r#"{"jsonrpc":"2.0","id":1,"result":{"protocolVersion":"2025-11-25","capabilities":{"tools":{},"logging":{}},"serverInfo":{"name":"bench","version":"1"}}}"#;

/// A message of a client as HTTP has it.
fn post(session: Option<&str>, body: &str) -> Vec<u8> {
    let session = session.map_or_else(String::new, |id| {
        format!("mcp-session-id: {id}\r\nmcp-protocol-version: 2025-11-25\r\n")
    });
    format!(
        "POST /servers/bench/mcp HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {KEY}\r\n\
         accept: application/json, text/event-stream\r\ncontent-type: application/json\r\n{session}\
         content-length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

/// A call of a tool, with 64 bytes of text.
fn call(id: usize) -> String {
    format!(
        r#"{{"jsonrpc":"2.0","id":{id},"method":"tools/call","params":{{"name":"echo","arguments":{{"text":"{}"}},"_meta":{{"progressToken":"t{id}"}}}}}}"#,
        "x".repeat(64)
    )
}

/// What the process answers to a call.
fn result(number: u64) -> String {
    format!(
        r#"{{"jsonrpc":"2.0","id":{number},"result":{{"content":[{{"type":"text","text":"{}"}}]}}}}"#,
        "x".repeat(64)
    )
}

/// What the process tells of the progress of a call.
fn progress(number: u64) -> String {
    format!(
        r#"{{"jsonrpc":"2.0","method":"notifications/progress","params":{{"progressToken":{number},"progress":1,"total":4,"message":"reading"}}}}"#
    )
}

/// A world in which no time passes and nothing runs beside the case.
#[derive(Default)]
struct Still(Mutex<Vec<Child>>);

impl fmt::Debug for Still {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Still")
    }
}

impl Outside for Still {
    fn now(&self) -> Instant {
        Instant::from_micros(1)
    }

    fn unix(&self) -> Duration {
        Duration::from_secs(1_790_000_000)
    }

    fn spawn(&self, _work: Box<dyn Background>) {}
}

impl Children for Still {
    fn run(&self, child: Child) -> io::Result<()> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(child);
        Ok(())
    }
}

/// Wakes nobody: the case polls whom it has given something.
struct Nobody;

impl Wakers for Nobody {
    fn idle(&mut self) -> &Waker {
        Waker::noop()
    }

    fn answer(&mut self) -> &Waker {
        Waker::noop()
    }
}

/// One connection of a client, and the bytes that it has got.
struct Connection {
    http: ClientConnection,
    got: Vec<u8>,
}

impl Connection {
    fn new(engine: &Arc<Engine>) -> Result<Self, Error> {
        let client = engine
            .connect()
            .ok_or("there is no room for a connection")?;
        let address: IpAddr = [127, 0, 0, 1].into();
        Ok(Self {
            http: ClientConnection::new(client, address, Listener::All),
            got: Vec::new(),
        })
    }

    /// Goes on until something has to come: from the client, or from the process.
    fn poll(&mut self) -> Result<(), Error> {
        loop {
            match self.http.poll(&mut Nobody) {
                Next::Write => {
                    for part in self.http.unwritten() {
                        self.got.extend_from_slice(part);
                    }
                    let count = self.http.unwritten().map(<[u8]>::len).iter().sum();
                    self.http.wrote(count);
                }
                Next::Receive(_) | Next::Wait(_) => return Ok(()),
                Next::Measure => self.http.measured(Usage::default()),
                Next::Finish | Next::Upgraded | Next::Close => {
                    return Err("the connection was closed".into());
                }
            }
        }
    }

    /// Sends a whole request, and goes on.
    fn send(&mut self, request: &[u8]) -> Result<(), Error> {
        let mut rest = request;
        self.poll()?;
        while !rest.is_empty() {
            self.http.receive(|into| {
                let count = rest.len().min(room(into));
                let (now, later) = rest.split_at(count);
                into.extend_from_slice(now);
                rest = later;
                Ok(count)
            })?;
            self.poll()?;
        }
        Ok(())
    }
}

/// The gateway, one process of a server and the connections of its clients.
pub struct Relay {
    engine: Arc<Engine>,
    child: Child,
    work: Work,
    connections: Vec<Connection>,
    requests: Vec<Vec<u8>>,
    lines: Vec<String>,
    /// Number of the next call at the process.
    next: u64,
}

impl fmt::Debug for Relay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Relay({:?}, {} lines)", self.engine, self.lines.len())
    }
}

impl Relay {
    /// Opens the sessions. Each has the same number of connections, of which each has had one answer.
    fn open() -> Result<Self, Error> {
        let outside = Arc::new(Still::default());
        let mut config = HubConfig {
            keys: vec![Key {
                allow: vec![Area::Mcp],
                ..Key::new("bench", digest(KEY.as_bytes()), Role::Client)
            }],
            auth_required: true,
            ..HubConfig::default()
        };
        config.limits.connections = usize::MAX;
        let engine = Engine::new(config, [7; 32], outside.clone(), Audit::off());
        let mut gateway = Gateway {
            servers: vec![Server {
                scope: Scope::Shared,
                ..Server::named("bench")
            }],
            ..Gateway::default()
        };
        gateway.rate.requests = u32::MAX;
        gateway.sessions.per_client = SESSIONS;
        engine.open_gateway(gateway, outside.clone());
        let mut relay: Option<Self> = None;
        let mut ids = Vec::new();
        for number in 0..SESSIONS {
            let mut connection = Connection::new(&engine)?;
            connection.send(&post(
                None,
                &format!(
                    r#"{{"jsonrpc":"2.0","id":0,"method":"initialize","params":{{"protocolVersion":"2025-11-25","capabilities":{{}},"clientInfo":{{"name":"bench-{number}","version":"1"}}}}}}"#
                ),
            ))?;
            let relay = match &mut relay {
                Some(relay) => relay,
                None => {
                    let mut children = outside.0.lock().unwrap_or_else(PoisonError::into_inner);
                    let child = children.pop().ok_or("no process was started")?;
                    drop(children);
                    let mut work = Work::default();
                    child.take(Waker::noop(), &mut work);
                    child.handle_started(None);
                    child.take(Waker::noop(), &mut work);
                    child.handle_line(Line::Whole(HELLO.as_bytes()));
                    relay.insert(Self {
                        engine: engine.clone(),
                        child,
                        work,
                        connections: Vec::new(),
                        requests: Vec::new(),
                        lines: Vec::new(),
                        next: 2,
                    })
                }
            };
            connection.poll()?;
            let head = String::from_utf8(std::mem::take(&mut connection.got))?;
            let id = head
                .lines()
                .filter_map(|line| line.split_once(": "))
                .find(|(name, _)| name.eq_ignore_ascii_case("mcp-session-id"));
            ids.push(id.ok_or("no session was opened")?.1.to_owned());
            relay.connections.push(connection);
        }
        let mut relay = relay.ok_or("there is no session")?;
        while relay.connections.len() < CHUNKS {
            relay.connections.push(Connection::new(&engine)?);
        }
        relay.requests = (0..CHUNKS)
            .zip(ids.iter().cycle())
            .map(|(number, id)| post(Some(id), &call(number)))
            .collect();
        relay.requests()?;
        relay.answer_all(result);
        relay.lines()?;
        Ok(relay)
    }

    /// Prepares requests.
    ///
    /// # Errors
    /// Fails when the gateway refuses something.
    pub fn to_ask() -> Result<Self, Error> {
        Self::open()
    }

    /// Prepares answers to requests, which are answered as JSON.
    ///
    /// # Errors
    /// Fails when the gateway refuses something.
    pub fn to_answer() -> Result<Self, Error> {
        let mut relay = Self::open()?;
        relay.requests()?;
        relay.answer_all(result);
        Ok(relay)
    }

    /// Prepares news of the progress of requests, of which each has had some.
    ///
    /// # Errors
    /// Fails when the gateway refuses something.
    pub fn to_tell() -> Result<Self, Error> {
        let mut relay = Self::open()?;
        relay.requests()?;
        relay.answer_all(progress);
        relay.lines()?;
        Ok(relay)
    }

    /// Prepares answers to requests that have had progress, which are events.
    ///
    /// # Errors
    /// Fails when the gateway refuses something.
    pub fn to_end() -> Result<Self, Error> {
        let mut relay = Self::to_tell()?;
        relay.next -= CHUNKS as u64;
        relay.answer_all(result);
        Ok(relay)
    }

    /// Makes a line of the process for each open call.
    fn answer_all(&mut self, line: impl Fn(u64) -> String) {
        self.lines = (self.next..).take(CHUNKS).map(line).collect();
        self.next += CHUNKS as u64;
        for connection in &mut self.connections {
            connection.got.clear();
            connection.got.reserve(4096);
        }
    }

    /// Takes each request from a client's bytes to the line for the process.
    ///
    /// # Errors
    /// Fails when the gateway refuses one.
    pub fn requests(&mut self) -> Result<(), Error> {
        let mut lines = 0;
        for (connection, request) in self.connections.iter_mut().zip(&self.requests) {
            connection.send(black_box(request))?;
            self.child.take(Waker::noop(), &mut self.work);
            while let Some(line) = self.work.lines.pop_front() {
                lines += usize::from(black_box(&line).contains("\"tools/call\""));
            }
        }
        if lines == CHUNKS {
            Ok(())
        } else {
            Err(format!("{lines} of {CHUNKS} requests went to the process").into())
        }
    }

    /// Takes each line of the process to the bytes for a client.
    ///
    /// # Errors
    /// Fails when one reaches nobody.
    pub fn lines(&mut self) -> Result<(), Error> {
        for (connection, line) in self.connections.iter_mut().zip(&self.lines) {
            let before = connection.got.len();
            self.child
                .handle_line(Line::Whole(black_box(line).as_bytes()));
            connection.poll()?;
            if connection.got.len() == before {
                return Err(format!("{line} reached nobody").into());
            }
        }
        Ok(())
    }
}

/// The same work by the least code.
#[derive(Debug)]
pub struct RelayFloor {
    floor: Floor,
    requests: Vec<Vec<u8>>,
    lines: Vec<String>,
    input: Vec<u8>,
    line: Vec<u8>,
    out: Vec<u8>,
    next: u64,
}

impl RelayFloor {
    fn open() -> Result<Self, Error> {
        let ids: Vec<String> = (0..SESSIONS).map(|at| format!("{at:032x}")).collect();
        let mut floor = Self {
            floor: Floor::default(),
            requests: (0..CHUNKS)
                .zip(ids.iter().cycle())
                .map(|(number, id)| post(Some(id), &call(number)))
                .collect(),
            lines: Vec::new(),
            input: Vec::new(),
            line: Vec::new(),
            out: Vec::new(),
            next: 1,
        };
        floor.requests()?;
        floor.answer_all(result);
        floor.lines()?;
        Ok(floor)
    }

    /// Prepares requests.
    ///
    /// # Errors
    /// Fails when the floor does not understand them.
    pub fn to_ask() -> Result<Self, Error> {
        Self::open()
    }

    /// Prepares answers as JSON.
    ///
    /// # Errors
    /// Fails when the floor does not understand them.
    pub fn to_answer() -> Result<Self, Error> {
        let mut floor = Self::open()?;
        floor.requests()?;
        floor.answer_all(result);
        Ok(floor)
    }

    /// Prepares news of the progress of requests, of which each has had some.
    ///
    /// # Errors
    /// Fails when the floor does not understand them.
    pub fn to_tell() -> Result<Self, Error> {
        let mut floor = Self::open()?;
        floor.requests()?;
        floor.answer_all(progress);
        floor.lines()?;
        Ok(floor)
    }

    /// Prepares answers to requests that have had progress.
    ///
    /// # Errors
    /// Fails when the floor does not understand them.
    pub fn to_end() -> Result<Self, Error> {
        let mut floor = Self::to_tell()?;
        floor.next -= CHUNKS as u64;
        floor.answer_all(result);
        Ok(floor)
    }

    fn answer_all(&mut self, line: impl Fn(u64) -> String) {
        self.lines = (self.next..).take(CHUNKS).map(line).collect();
        self.next += CHUNKS as u64;
    }

    /// Takes each request from a client's bytes to the line for the process.
    ///
    /// # Errors
    /// Fails when the floor does not understand one.
    pub fn requests(&mut self) -> Result<(), Error> {
        for (client, request) in self.requests.iter().enumerate() {
            self.input.clear();
            self.input.extend_from_slice(black_box(request));
            self.line.clear();
            match self.floor.request(client, &self.input, &mut self.line)? {
                Taken::Request(_) => black_box(&self.line),
                Taken::Part | Taken::Notice(_) => return Err("a request is cut".into()),
            };
        }
        Ok(())
    }

    /// Takes each line of the process to the bytes for a client.
    ///
    /// # Errors
    /// Fails when one is nobody's.
    pub fn lines(&mut self) -> Result<(), Error> {
        for line in &self.lines {
            self.out.clear();
            self.floor.line(black_box(line), &mut self.out)?;
            black_box(&self.out);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn got(relay: &Relay) -> Vec<String> {
        let all = relay.connections.iter();
        all.map(|one| String::from_utf8(one.got.clone()).unwrap())
            .collect()
    }

    #[test]
    fn every_request_is_answered_with_its_own_id() {
        let mut relay = Relay::to_answer().unwrap();
        relay.lines().unwrap();
        for (number, answer) in got(&relay).iter().enumerate() {
            let start = format!("{{\"jsonrpc\":\"2.0\",\"id\":{number},\"result\"");
            assert!(
                answer.contains("content-length") && answer.contains(&start),
                "{answer}"
            );
        }
    }

    #[test]
    fn progress_and_what_follows_it_are_events_with_the_token_and_the_id() {
        let mut relay = Relay::to_tell().unwrap();
        relay.lines().unwrap();
        for (number, news) in got(&relay).iter().enumerate() {
            assert!(news.contains("event: message\ndata: {"), "{news}");
            assert!(
                news.contains(&format!("\"progressToken\":\"t{number}\"")),
                "{news}"
            );
        }
        let mut relay = Relay::to_end().unwrap();
        relay.lines().unwrap();
        for (number, answer) in got(&relay).iter().enumerate() {
            assert!(
                answer.contains(&format!("\"id\":{number},\"result\"")),
                "{answer}"
            );
            assert!(answer.ends_with("\r\n0\r\n\r\n"), "{answer}");
        }
    }

    #[test]
    fn the_floor_does_the_same_work() {
        RelayFloor::to_ask().unwrap().requests().unwrap();
        for floor in [
            RelayFloor::to_answer(),
            RelayFloor::to_tell(),
            RelayFloor::to_end(),
        ] {
            let mut floor = floor.unwrap();
            floor.lines().unwrap();
            assert!(floor.out.ends_with(b"}") || floor.out.ends_with(b"\r\n"));
        }
    }
}
