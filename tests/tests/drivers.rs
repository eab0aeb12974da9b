//! Every transcript, played to each driver over real sockets: clients and agents get the bytes that the machines alone
//! give, and both drivers give the same ones.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr
)]

use mcp_local_provider_engine::{Config, Driver};
use mcp_local_provider_tests::{agent, transcript};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tungstenite::client::ClientRequestBuilder;
use tungstenite::{Message, WebSocket};

/// Longer than anything takes that works.
const PATIENCE: Duration = Duration::from_secs(20);

/// The session that the simulated agent gets first.
const SESSION: &str = "9235f2629e5f9ec57f703dfc";

/// Members whose values are of this run: times, and what was made by chance.
const OF_THIS_RUN: [&str; 16] = [
    "timestamp",
    "session_id",
    "session_token",
    "expires_at",
    "created",
    "created_at",
    "completed_at",
    "modified_at",
    "last_activity",
    "uptime_seconds",
    "total_duration",
    "load_duration",
    "prompt_eval_duration",
    "eval_duration",
    "reset_after",
    "obfuscation",
];

/// Returns true for a header whose value depends on the run: remaining limits change with time, and the length of a
/// body changes with the durations in it.
fn is_of_this_run(header: &str) -> bool {
    header.starts_with("x-ratelimit-")
        || matches!(
            header,
            "x-session-id" | "date" | "retry-after" | "content-length"
        )
}

/// Returns true for a header that depends on how pieces of a body are joined.
fn is_framing(header: &str) -> bool {
    matches!(
        header,
        "content-length" | "transfer-encoding" | "connection" | "date"
    )
}

/// Replaces the values that depend on the run.
fn masked(line: &str) -> String {
    if let Some((name, _)) = line.split_once(": ")
        && is_of_this_run(name)
    {
        return format!("{name}: …");
    }
    let mut line = line.to_owned();
    for member in OF_THIS_RUN {
        let key = format!("\"{member}\":");
        let mut from = 0;
        while let Some(at) = line[from..].find(&key).map(|at| from + at + key.len()) {
            let rest = &line[at..];
            let length = match rest.strip_prefix('"') {
                Some(text) => text.find('"').unwrap() + 2,
                None => rest.find([',', '}', ']']).unwrap_or(rest.len()),
            };
            line.replace_range(at..at + length, "…");
            from = at;
        }
    }
    line
}

/// One request's connection.
struct Client {
    stream: TcpStream,
    raw: Vec<u8>,
    /// Lines of the head, and where the body begins.
    head: Option<(Vec<String>, usize)>,
    /// Lines of the body that were compared.
    shown: usize,
    gone: bool,
    done: bool,
}

impl Client {
    /// Reads more; false at the end.
    fn read(&mut self) -> bool {
        let mut piece = [0; 4096];
        let count = self.stream.read(&mut piece).expect("the client gets more");
        self.raw.extend_from_slice(&piece[..count]);
        count > 0
    }

    fn head(&mut self) -> &[String] {
        while self.head.is_none() {
            let end = self.raw.windows(4).position(|end| end == b"\r\n\r\n");
            if let Some(end) = end {
                let text = std::str::from_utf8(&self.raw[..end]).unwrap();
                let lines = text.split("\r\n").map(str::to_owned).collect();
                self.head = Some((lines, end + 4));
            } else {
                assert!(self.read(), "the connection ended before a head");
            }
        }
        &self.head.as_ref().unwrap().0
    }

    /// The body as far as it is there, without its framing, and whether that is all of it.
    fn body(&self) -> (String, bool) {
        let (lines, start) = self.head.as_ref().unwrap();
        let rest = &self.raw[*start..];
        let header = |name: &str| lines.iter().find_map(|line| line.strip_prefix(name));
        let (mut body, mut whole) = (Vec::new(), false);
        if let Some(length) = header("content-length: ") {
            body.extend_from_slice(rest);
            whole = body.len() == length.parse::<usize>().unwrap();
        } else {
            assert!(header("transfer-encoding: ").is_some(), "{lines:?}");
            let mut rest = rest;
            while let Some(line) = rest.windows(2).position(|end| end == b"\r\n") {
                let size = std::str::from_utf8(&rest[..line]).unwrap();
                let size = usize::from_str_radix(size, 16).unwrap();
                whole = size == 0 && rest[line + 2..].len() == 2;
                let Some(data) = rest.get(line + 2..line + 2 + size) else {
                    break;
                };
                body.extend_from_slice(data);
                rest = rest.get(line + 4 + size..).unwrap_or_default();
            }
        }
        (String::from_utf8(body).unwrap(), whole)
    }

    /// The next line of the body.
    fn line(&mut self) -> String {
        loop {
            let (body, whole) = self.body();
            let mut lines = body.split_inclusive('\n').skip(self.shown);
            if let Some(line) = lines.next()
                && (line.ends_with('\n') || whole)
            {
                self.shown += 1;
                return line.trim_end_matches('\n').to_owned();
            }
            assert!(!whole && self.read(), "no more lines after {body:?}");
        }
    }

    fn end(&mut self) {
        self.head();
        while !self.body().1 {
            assert!(self.read(), "the connection ended before the answer");
        }
        let body = self.body().0;
        assert_eq!(body.lines().count(), self.shown, "more came: {body:?}");
        self.done = true;
    }
}

/// Plays a transcript to one driver.
struct Player<D: Driver> {
    provider: D,
    address: SocketAddr,
    token: Option<&'static str>,
    agent: Option<WebSocket<TcpStream>>,
    clients: Vec<Client>,
    /// Names of the transcript, and what they are in this run.
    names: Vec<(String, String)>,
    heads: Vec<String>,
}

impl<D: Driver> Player<D> {
    fn new(script: &str) -> Self {
        let (hub, connects) = transcript::config(script);
        let token = hub.auth_required.then_some("bridge");
        let provider = D::start(Config::new(hub)).unwrap();
        let mut player = Self {
            address: provider.addresses()[0],
            provider,
            token,
            agent: None,
            clients: Vec::new(),
            names: Vec::new(),
            heads: Vec::new(),
        };
        if connects {
            player.connect();
            let registered = player.frame();
            player.learn_session(
                &format!("\"session_token\",\"session_id\":\"{SESSION}"),
                &registered,
            );
        }
        player
    }

    fn open(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        stream
    }

    fn connect(&mut self) {
        let url = format!("ws://{}/agent", self.address).parse().unwrap();
        let mut request = ClientRequestBuilder::new(url);
        if let Some(token) = self.token {
            request = request.with_header("Authorization", format!("Bearer {token}"));
        }
        let (mut socket, _) = tungstenite::client(request, self.open()).unwrap();
        let register = agent::register("agent", &["model"], None);
        socket.send(Message::text(register)).unwrap();
        self.agent = Some(socket);
    }

    /// Returns the next frame for the agent.
    fn frame(&mut self) -> String {
        let agent = self.agent.as_mut().expect("an agent is connected");
        match agent.read().unwrap() {
            Message::Text(text) => text.to_string(),
            Message::Close(Some(frame)) => {
                format!("(closed: {} {})", u16::from(frame.code), frame.reason)
            }
            other => panic!("the agent got {other:?}"),
        }
    }

    /// Remembers the names of a session that was just registered.
    fn learn_session(&mut self, expected: &str, seen: &str) {
        let id = |text: &str| {
            let (_, id) = text.split_once("\"session_id\":\"")?;
            text.contains("session_token").then(|| id[..24].to_owned())
        };
        self.names.extend(id(expected).zip(id(seen)));
    }

    /// The line with this run's names.
    fn to_run(&self, line: &str) -> String {
        let mut line = line.to_owned();
        for (name, run) in &self.names {
            line = line.replace(name, run);
        }
        line
    }

    fn compare(&mut self, seen: &str, expected: &str) {
        let expected = masked(expected);
        loop {
            let mut seen = masked(seen);
            for (name, run) in &self.names {
                seen = seen.replace(run, name);
            }
            if seen == expected {
                return;
            }
            // The first that differs is a name that is met for the first time, or wrong.
            let known = |name: &str| self.names.iter().any(|(known, _)| known == name);
            let new = expected.match_indices("00c0ffee").find_map(|(at, _)| {
                let name = expected.get(at..at + 20).filter(|name| !known(name))?;
                Some((name.to_owned(), seen.get(at..at + 20)?.to_owned()))
            });
            let Some((name, run)) =
                new.filter(|(_, run)| run.bytes().all(|b| b.is_ascii_hexdigit()))
            else {
                assert_eq!(seen, expected);
                return;
            };
            self.names.push((name, run));
        }
    }

    fn request(&mut self, lines: &[&str]) {
        let mut text = format!("{} HTTP/1.1\r\n", lines[0]);
        let headers = lines[1..].iter().take_while(|line| !line.starts_with('{'));
        let headers: Vec<_> = headers.filter(|line| line.contains(": ")).collect();
        if !headers.iter().any(|line| line.starts_with("host: ")) {
            text.push_str("host: localhost\r\n");
        }
        for line in headers {
            text.push_str(&format!("{line}\r\n"));
        }
        let body = lines.iter().find(|line| line.starts_with('{'));
        let body = body.copied().unwrap_or_default();
        text.push_str(&format!("content-length: {}\r\n\r\n{body}", body.len()));
        let mut stream = self.open();
        stream.write_all(text.as_bytes()).unwrap();
        self.clients.push(Client {
            stream,
            raw: Vec::new(),
            head: None,
            shown: 0,
            gone: false,
            done: false,
        });
    }

    fn control(&mut self, action: &str) {
        let session = self.to_run(SESSION);
        let body = format!("{{\"session_id\":\"{session}\"}}");
        let mut stream = self.open();
        let request = format!(
            "POST /control/{action} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    }

    fn happen(&mut self, who: &str, what: &str) {
        match (who, what) {
            ("config", _) => {}
            ("client", "gone") => {
                let client = self.clients.last_mut().unwrap();
                client.stream.shutdown(std::net::Shutdown::Both).unwrap();
                client.gone = true;
            }
            ("agent", "connects") => self.connect(),
            ("agent", "lost") => self.agent = None,
            ("agent", "binary") => self.say(Message::binary(vec![0])),
            ("agent", frame) => self.say(Message::text(self.to_run(frame))),
            ("operator", "drain") => self.provider.handle().shutdown(),
            ("operator", action) => self.control(action),
            _ => panic!("{who}> {what} is not understood"),
        }
    }

    fn say(&mut self, message: Message) {
        self.agent.as_mut().unwrap().send(message).unwrap();
    }

    /// Holds what a client gets against a line.
    fn client_line(&mut self, expected: &[&str], at: usize, current: &mut Option<usize>) {
        let line = expected[at];
        let is_status = line.len() == 3 && line.bytes().all(|byte| byte.is_ascii_digit());
        if is_status {
            // The request's number is in the id that its head gives back.
            let head = expected[at..].iter();
            let id = head
                .into_iter()
                .find_map(|line| line.strip_prefix("x-request-id: "));
            let number = u64::from_str_radix(&id.unwrap()[8..], 16).unwrap();
            let index = usize::try_from(number).unwrap() - 1;
            *current = Some(index);
            let head = self.clients[index].head().to_vec();
            let mut wanted = expected[at + 1..]
                .iter()
                .take_while(|line| !line.is_empty());
            let mut whole = Vec::new();
            assert_eq!(head[0].split(' ').nth(1).unwrap(), line, "{head:?}");
            for line in &head[1..] {
                whole.push(masked(line));
                if !is_framing(line.split(": ").next().unwrap()) {
                    let wanted = wanted
                        .next()
                        .unwrap_or_else(|| panic!("{line} was not expected"));
                    self.compare(line, wanted);
                }
            }
            assert_eq!(wanted.next(), None, "{head:?}");
            self.heads
                .push(format!("{}\n{}", head[0], whole.join("\n")));
            return;
        }
        let streaming = || {
            let open = |client: &Client| client.head.is_some() && !client.done && !client.gone;
            let mut open = self
                .clients
                .iter()
                .enumerate()
                .filter(|(_, client)| open(client));
            let first = open.next().map(|(index, _)| index);
            assert!(open.next().is_none(), "whose is {line}?");
            first.unwrap_or_else(|| panic!("nobody is to get {line}"))
        };
        let index = current.unwrap_or_else(streaming);
        *current = Some(index);
        if line == "(end)" {
            self.clients[index].end();
            *current = None;
        } else {
            let seen = self.clients[index].line();
            self.compare(&seen, line);
        }
    }

    /// Plays all of it; the heads that clients got, without what is of this run.
    fn play(mut self, script: &str) -> Vec<String> {
        let mut lines = script.lines().peekable();
        while let Some(line) = lines.next() {
            if let Some(first) = line
                .strip_prefix("client> ")
                .filter(|text| transcript::is_request(text))
            {
                let mut request = vec![first];
                while let Some(more) = lines.peek().and_then(|line| line.strip_prefix("client> ")) {
                    request.push(more);
                    lines.next();
                }
                self.request(&request);
            } else if let Some((who, what)) = line.split_once("> ") {
                self.happen(who, what);
            }
            let mut to_client = Vec::new();
            while let Some(line) = lines
                .peek()
                .filter(|line| !line.contains("> ") || line.contains("< "))
            {
                if let Some(text) = line.strip_prefix("client<") {
                    to_client.push(text.strip_prefix(' ').unwrap_or(text));
                } else if let Some(text) = line.strip_prefix("agent< ") {
                    let seen = self.frame();
                    self.learn_session(text, &seen);
                    self.compare(&seen, text);
                } else if !line.is_empty() {
                    break;
                }
                lines.next();
            }
            self.clients(&to_client);
        }
        self.heads
    }

    /// Holds what clients get against lines.
    fn clients(&mut self, expected: &[&str]) {
        let mut current = None;
        let mut at = 0;
        while at < expected.len() {
            self.client_line(expected, at, &mut current);
            let was_head =
                expected[at].len() == 3 && expected[at].bytes().all(|b| b.is_ascii_digit());
            at += 1;
            if was_head {
                // To behind the blank line.
                at += expected[at..]
                    .iter()
                    .position(|line| line.is_empty())
                    .unwrap()
                    + 1;
            }
        }
    }
}

fn transcripts(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            transcripts(&path, found);
        } else {
            found.push(path);
        }
    }
}

#[test]
fn both_drivers_give_the_bytes_of_every_transcript() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("golden");
    let mut paths = Vec::new();
    transcripts(&folder, &mut paths);
    paths.sort();
    let mut played = 0;
    for path in paths {
        let script = std::fs::read_to_string(&path).unwrap();
        // Only a simulated clock makes time pass, and only a simulated client can be made to stop reading at a byte.
        if script.contains("\ntime> ") || script.contains("\nclient> stops reading") {
            continue;
        }
        let name = path.strip_prefix(&folder).unwrap().display();
        eprintln!("{name}, smol");
        let smol = Player::<mcp_local_provider::Provider>::new(&script).play(&script);
        eprintln!("{name}, blocking");
        let blocking = Player::<mcp_local_provider_blocking::Provider>::new(&script).play(&script);
        assert_eq!(smol.len(), blocking.len(), "{name}");
        for (smol, blocking) in smol.iter().zip(&blocking) {
            let without_ids = |head: &String| {
                let lines = head.lines().filter(|line| !line.contains("request-id: "));
                lines.map(str::to_owned).collect::<Vec<_>>()
            };
            assert_eq!(without_ids(smol), without_ids(blocking), "{name}");
        }
        played += 1;
    }
    assert!(played > 50, "only {played} transcripts were played");
}
