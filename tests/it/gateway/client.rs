//! A client of the MCP gateway: Streamable HTTP as it is on the wire.

use crate::program::{Answer, Folder, PATIENCE, Program, program, write_config};
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Read};
use std::net::TcpStream;
use std::process::Command;
use std::time::Instant;

/// A key that may use MCP servers.
pub const KEY: &str = "mcp-key-for-tests";
/// Another one.
pub const OTHER: &str = "other-mcp-key-for-tests";

/// Keys of the configuration, beside those that every test has.
const KEYS: &str = "  keys:\n    - { name: ide, key: mcp-key-for-tests, role: client, allow: [models, mcp] }\n    \
                    - { name: other, key: other-mcp-key-for-tests, role: client, allow: [mcp] }\n";

/// The newest revision with sessions.
pub const NEWEST: &str = "2025-11-25";

/// The server of the suite under `name`, with these habits.
pub fn server(name: &str, habits: &str) -> String {
    let command = env!("CARGO_BIN_EXE_mcp_server");
    format!("  {name}: {{ command: {command:?}, args: [{habits}] }}\n")
}

/// Writes the configuration with these servers, and with `extra`.
pub fn configure(folder: &Folder, extra: &str, servers: &[String]) -> std::path::PathBuf {
    let servers = servers.concat();
    let extra = format!("{}mcpServers:\n{servers}", unlimited(extra));
    let config = write_config(&folder.0, "127.0.0.1:0", &extra);
    let text = std::fs::read_to_string(&config).unwrap();
    std::fs::write(&config, text.replace("  keys:\n", KEYS)).unwrap();
    config
}

/// Has the program take its configuration over, and waits until it has.
pub fn take_over(program: &Program) {
    let taken = || program.log().matches("took the configuration over").count();
    let before = taken();
    program.signal("HUP");
    until(|| (taken() > before).then_some(()));
}

/// Lets clients ask as often as they like, where the configuration says nothing of it: a test may ask again until something is so.
fn unlimited(extra: &str) -> String {
    let all = "rate: { requests: 0 }";
    if extra.contains("rate:") {
        return extra.to_owned();
    }
    match extra.split_once("gateway: {") {
        Some((before, rest)) => format!("{before}gateway: {{ {all},{rest}"),
        None => format!("{extra}gateway: {{ {all} }}\n"),
    }
}

/// Starts the program with these servers, and with `extra` in its configuration.
pub fn start(extra: &str, servers: &[String]) -> Program {
    let folder = Folder::new();
    let config = configure(&folder, extra, servers);
    let mut command = Command::new(program());
    command.arg("--config").arg(&config);
    Program::spawn(command, folder, config)
}

/// Starts the program with one well-behaved server, and with `extra` in its configuration.
pub fn start_one(extra: &str) -> Program {
    start(extra, &[server("suite", "")])
}

/// Parameters of `initialize`, from a client of this name.
pub fn hello(revision: &str, name: &str) -> Value {
    json!({ "protocolVersion": revision, "capabilities": { "sampling": {} }, "clientInfo": { "name": name, "version": "1" } })
}

/// A request as JSON-RPC has it.
pub fn request(id: impl Into<Value>, method: &str, params: &Value) -> Value {
    json!({ "jsonrpc": "2.0", "id": id.into(), "method": method, "params": params })
}

/// A call of a tool.
pub fn call(id: impl Into<Value>, tool: &str, arguments: &Value) -> Value {
    request(id, "tools/call", &json!({ "name": tool, "arguments": arguments }))
}

/// A client with its key, and its session once it has one.
#[derive(Clone)]
pub struct Client<'p> {
    pub program: &'p Program,
    pub key: &'p str,
    pub path: String,
    pub session: Option<String>,
}

impl<'p> Client<'p> {
    /// A client without session.
    pub fn new(program: &'p Program, key: &'p str) -> Self {
        Self {
            program,
            key,
            path: "/mcp".to_owned(),
            session: None,
        }
    }

    /// A client with a session.
    pub fn open(program: &'p Program) -> Self {
        let mut client = Self::new(program, KEY);
        client.initialize(NEWEST, "suite");
        client
    }

    /// Opens the session, as a program of this name.
    pub fn initialize(&mut self, revision: &str, name: &str) -> Answer {
        self.session = None;
        let answer = self.post(&request(0, "initialize", &hello(revision, name)));
        self.session = answer.header("mcp-session-id").map(str::to_owned);
        assert!(self.session.is_some(), "{answer:?}");
        answer
    }

    /// The head of a request, up to its last line.
    pub fn head(&self, method: &str) -> String {
        let (path, key) = (&self.path, self.key);
        let session = self.session.as_ref();
        let session = session.map_or(String::new(), |id| format!("Mcp-Session-Id: {id}\r\n"));
        format!(
            "{method} {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {key}\r\n{session}Connection: close\r\n"
        )
    }

    /// Sends a body, and leaves the answer to be read.
    pub fn send(&self, body: &str) -> TcpStream {
        let length = body.len();
        self.program.raw(&format!(
            "{}Accept: application/json, text/event-stream\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}",
            self.head("POST")
        ))
    }

    /// Sends a message, and reads the whole answer.
    pub fn post(&self, message: &Value) -> Answer {
        whole(self.send(&message.to_string()))
    }

    /// Sends a message, and reads the answer as events.
    pub fn stream(&self, message: &Value) -> Events {
        Events::read(self.send(&message.to_string()))
    }

    /// Calls a tool, and returns the answer to that.
    pub fn call(&self, tool: &str, arguments: &Value) -> Value {
        let answer = self.post(&call(tool, tool, arguments));
        assert_eq!(answer.status, 200, "{answer:?}");
        let answer = match answer.header("content-type") {
            Some("application/json") => answer.json(),
            _ => {
                let last = answer.body.rsplit("data: ").next().unwrap();
                serde_json::from_str(last.trim()).unwrap()
            }
        };
        assert_eq!(answer["id"], tool, "{answer}");
        answer
    }

    /// Calls a tool, and returns the text of its answer.
    pub fn text(&self, tool: &str, arguments: &Value) -> String {
        let answer = self.call(tool, arguments);
        let text = &answer["result"]["content"][0]["text"];
        text.as_str().unwrap_or_else(|| panic!("{answer}")).to_owned()
    }

    /// Returns the id of the server's process.
    pub fn pid(&self) -> String {
        self.text("pid", &json!({}))
    }

    /// Reads the stream of the session, or one from behind an event.
    pub fn listen(&self, last_event: Option<&str>) -> Events {
        let last_event = last_event.map_or(String::new(), |id| format!("Last-Event-ID: {id}\r\n"));
        let head = self.head("GET");
        let stream = self.program.raw(&format!("{head}Accept: text/event-stream\r\n{last_event}\r\n"));
        Events::read(stream)
    }

    /// Ends the session.
    pub fn delete(&self) -> Answer {
        whole(self.program.raw(&format!("{}\r\n", self.head("DELETE"))))
    }
}

/// Reads a whole answer.
pub fn whole(mut stream: TcpStream) -> Answer {
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).unwrap();
    Answer::parse(&bytes)
}

/// Checks an answer that refuses a request.
pub fn assert_refused(answer: &Answer, status: u16, code: i64, reason: &str) {
    assert_eq!(answer.status, status, "{answer:?}");
    let error = &answer.json()["error"];
    assert_eq!(error["code"], code, "{answer:?}");
    assert_eq!(error["data"]["reason"], reason, "{answer:?}");
    assert!(!error["message"].as_str().unwrap().is_empty(), "{answer:?}");
}

/// Checks an error that stands in an answer.
pub fn assert_failed(answer: &Value, code: i64, reason: &str) {
    assert_eq!(answer["error"]["code"], code, "{answer}");
    assert_eq!(answer["error"]["data"]["reason"], reason, "{answer}");
    assert_eq!(answer["error"]["data"]["server"], "suite", "{answer}");
}

/// Asks until the answer is the one that is waited for.
pub fn until<T>(mut ask: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(found) = ask() {
            return found;
        }
        assert!(begun.elapsed() < PATIENCE, "it does not come to that");
    }
}

/// One event.
#[derive(Debug, PartialEq, Eq, Clone)]
pub struct Event {
    pub id: String,
    pub data: String,
}

impl Event {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.data).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

/// An answer that is read event by event.
pub struct Events {
    pub head: Answer,
    stream: BufReader<TcpStream>,
    /// Bytes that are left of the chunk.
    left: usize,
}

impl Events {
    pub fn read(stream: TcpStream) -> Self {
        let mut stream = BufReader::new(stream);
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let read = stream.read_until(b'\n', &mut head).unwrap();
            assert_ne!(read, 0, "{}", String::from_utf8_lossy(&head));
        }
        // Without its body.
        let text = String::from_utf8(head).unwrap().to_ascii_lowercase();
        let text = text.replace("transfer-encoding: chunked\r\n", "");
        let head = Answer::parse(text.as_bytes());
        Self {
            head,
            stream,
            left: 0,
        }
    }

    /// The rest of an answer that is no stream.
    pub fn refusal(mut self) -> Answer {
        self.stream.read_to_string(&mut self.head.body).unwrap();
        self.head
    }

    fn byte(&mut self) -> Option<u8> {
        if self.left == 0 {
            let mut line = String::new();
            self.stream.read_line(&mut line).unwrap();
            let size = usize::from_str_radix(line.trim_end(), 16);
            self.left = size.unwrap_or_else(|_| panic!("the stream is cut: {line:?}"));
            if self.left == 0 {
                return None;
            }
        }
        let mut byte = [0];
        self.stream.read_exact(&mut byte).unwrap();
        self.left -= 1;
        if self.left == 0 {
            self.stream.read_exact(&mut [0; 2]).unwrap();
        }
        Some(byte[0])
    }

    fn line(&mut self) -> Option<String> {
        let mut line = Vec::new();
        loop {
            match self.byte()? {
                b'\n' => return Some(String::from_utf8(line).unwrap()),
                byte => line.push(byte),
            }
        }
    }

    /// The next event; `None` at the end. Comments and events without id are passed over.
    pub fn next(&mut self) -> Option<Event> {
        assert_eq!(self.head.header("content-type"), Some("text/event-stream"), "{:?}", self.head);
        loop {
            let (_, event) = self.named()?;
            if !event.id.is_empty() {
                return Some(event);
            }
        }
    }

    /// The next event with its type, though it has no id; `None` at the end. Comments are passed over.
    pub fn named(&mut self) -> Option<(String, Event)> {
        let (mut name, mut id, mut data) = (String::new(), String::new(), None);
        loop {
            let line = self.line()?;
            if let Some(value) = line.strip_prefix("id: ") {
                id = value.to_owned();
            } else if let Some(value) = line.strip_prefix("event: ") {
                name = value.to_owned();
            } else if let Some(value) = line.strip_prefix("data: ") {
                data = Some(value.to_owned());
            } else if line.is_empty()
                && let Some(data) = data.take()
            {
                return Some((name, Event { id, data }));
            }
        }
    }

    /// The next event that has a message.
    pub fn message(&mut self) -> Option<Value> {
        loop {
            let event = self.next()?;
            if !event.data.is_empty() {
                return Some(event.json());
            }
        }
    }

    /// The next message of an answer whose events have no ids.
    pub fn untagged(&mut self) -> Value {
        loop {
            let line = self.line().expect("the stream has ended");
            if let Some(data) = line.strip_prefix("data: ") {
                return serde_json::from_str(data).unwrap();
            }
        }
    }

    /// All that is to come.
    pub fn rest(&mut self) -> Vec<Event> {
        std::iter::from_fn(|| self.next()).collect()
    }
}
