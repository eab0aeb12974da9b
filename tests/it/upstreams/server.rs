//! A server of models on a socket, which answers as its script says, or misbehaves.

use crate::program::PATIENCE;
use rustix::net::sockopt::set_socket_linger;
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread;
use std::time::{Duration, Instant};

/// Most bytes of an answer that never ends. A program that reads so many has no limit.
const ENDLESS: usize = 1 << 30;

/// The API that a server speaks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Api {
    OpenAi,
    Anthropic,
    Ollama,
}

impl Api {
    pub const EVERY: [Self; 3] = [Self::OpenAi, Self::Anthropic, Self::Ollama];

    /// Its name in the configuration.
    pub const fn kind(self) -> &'static str {
        match self {
            Self::OpenAi => "openai",
            Self::Anthropic => "anthropic",
            Self::Ollama => "ollama",
        }
    }
}

/// Answer to one request, but those for the list of models.
#[derive(Clone, Debug)]
pub enum Reply {
    /// A whole answer with this text, in the form that the request asks for.
    Text(&'static str),
    /// The same, once [`Server::release`] was called.
    Held(&'static str),
    /// The first piece of one, and what follows it.
    Begun(&'static str, Then),
    /// These bytes, and what follows them.
    Raw(String, Then),
}

impl Reply {
    /// A status with a JSON body.
    pub fn status(status: u16, headers: &str, body: &Value) -> Self {
        let body = body.to_string();
        Self::typed(status, &format!("Content-Type: application/json\r\n{headers}"), &body)
    }

    /// A status with header lines and a body.
    pub fn typed(status: u16, headers: &str, body: &str) -> Self {
        let length = body.len();
        Self::Raw(
            format!("HTTP/1.1 {status} S\r\n{headers}Content-Length: {length}\r\n\r\n{body}"),
            Then::Keep,
        )
    }
}

/// What a server does with its connection after it has written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Then {
    /// Reads the next request.
    Keep,
    Close,
    /// Ends it with RST.
    Reset,
    /// Says nothing more until the program closes it.
    Silence,
    /// Writes one line that does not end.
    Endless,
}

/// A request that has come.
#[derive(Clone, Debug)]
pub struct Asked {
    /// Number of its connection, from 1.
    pub connection: usize,
    pub at: Instant,
    pub head: String,
    pub body: Value,
}

#[derive(Default)]
struct Seen {
    script: VecDeque<Reply>,
    models: Vec<String>,
    holds_list: bool,
    is_released: bool,
    connections: usize,
    lists: usize,
    asked: Vec<Asked>,
    /// Numbers of the connections that the program has closed in a silence or in an endless line.
    closed: Vec<usize>,
    /// Bytes of endless lines.
    endless: usize,
}

/// A server, which answers until the test ends.
pub struct Server {
    pub address: SocketAddr,
    api: Api,
    seen: Arc<(Mutex<Seen>, Condvar)>,
}

impl Server {
    /// Answers by these in turn, and by the last again and again. Its list has the model `m`.
    pub fn start(api: Api, script: impl IntoIterator<Item = Reply>) -> Self {
        Self::start_with(api, script, &["m"], false)
    }

    /// The same with a list of other models, which may wait for [`Server::release`].
    pub fn start_with(
        api: Api,
        script: impl IntoIterator<Item = Reply>,
        models: &[&str],
        holds_list: bool,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Seen {
            script: script.into_iter().collect(),
            models: models.iter().map(ToString::to_string).collect(),
            holds_list,
            ..Seen::default()
        };
        let seen = Arc::new((Mutex::new(seen), Condvar::new()));
        let shared = seen.clone();
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let seen = shared.clone();
                thread::spawn(move || {
                    let number = {
                        let mut seen = lock(&seen);
                        seen.connections += 1;
                        seen.connections
                    };
                    Connection { api, number, seen }.serve(stream);
                });
            }
        });
        Self { address, api, seen }
    }

    /// An entry of `upstreams` for this server, with the key of the tests.
    pub fn entry(&self, name: &str, more: &str) -> String {
        entry(self.api, name, &format!("http://{}", self.address), more)
    }

    /// The requests that have come, but those for the list of models.
    pub fn asked(&self) -> Vec<Asked> {
        lock(&self.seen).asked.clone()
    }

    /// Connections that were made.
    pub fn connections(&self) -> usize {
        lock(&self.seen).connections
    }

    /// Bytes of endless lines that were taken.
    pub fn endless(&self) -> usize {
        lock(&self.seen).endless
    }

    /// Waits until so many requests have come.
    pub fn wait_asked(&self, count: usize) {
        self.wait("requests", |seen| seen.asked.len() >= count);
    }

    /// Waits until the list has been asked for so many times.
    pub fn wait_lists(&self, count: usize) {
        self.wait("requests for the list", |seen| seen.lists >= count);
    }

    /// Waits until the program has closed the connection of the last request.
    pub fn wait_closed(&self) {
        self.wait("a closed connection", |seen| {
            let last = seen.asked.last().map(|asked| asked.connection);
            last.is_some_and(|last| seen.closed.contains(&last))
        });
    }

    fn wait(&self, what: &str, holds: impl Fn(&Seen) -> bool) {
        let until = Instant::now() + PATIENCE;
        let mut seen = lock(&self.seen);
        while !holds(&seen) {
            let left = until.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "waited for {what}; {} requests came", seen.asked.len());
            seen = self.seen.1.wait_timeout(seen, left).unwrap().0;
        }
    }

    /// Lets what is held go.
    pub fn release(&self) {
        lock(&self.seen).is_released = true;
        self.seen.1.notify_all();
    }

    /// Holds again what is to be held.
    pub fn hold(&self) {
        lock(&self.seen).is_released = false;
    }

    /// Answers by these from now on.
    pub fn rewrite(&self, script: impl IntoIterator<Item = Reply>) {
        lock(&self.seen).script = script.into_iter().collect();
    }

    /// Lists these models from now on.
    pub fn list(&self, models: &[&str]) {
        lock(&self.seen).models = models.iter().map(ToString::to_string).collect();
    }
}

/// An entry of `upstreams` for any address.
pub fn entry(api: Api, name: &str, base: &str, more: &str) -> String {
    let (kind, path) = (api.kind(), if api == Api::OpenAi { "/v1" } else { "" });
    let key = super::SECRET;
    format!("  - {{ name: {name}, kind: {kind}, url: \"{base}{path}\", key: \"{key}\"{more} }}\n")
}

fn lock(seen: &(Mutex<Seen>, Condvar)) -> MutexGuard<'_, Seen> {
    seen.0.lock().unwrap()
}

struct Connection {
    api: Api,
    number: usize,
    seen: Arc<(Mutex<Seen>, Condvar)>,
}

impl Connection {
    fn serve(&self, mut stream: TcpStream) {
        stream.set_nodelay(true).unwrap();
        let mut reader = BufReader::new(stream.try_clone().unwrap());
        while let Some((head, body)) = request(&mut reader) {
            let then = if head.starts_with("GET ") {
                let answer = self.list();
                let _ = stream.write_all(answer.as_bytes());
                Then::Keep
            } else {
                let (reply, body) = self.next(head, &body);
                let (bytes, then) = self.written(reply, body["stream"] != false, &body);
                if stream.write_all(bytes.as_bytes()).is_err() {
                    return;
                }
                then
            };
            match then {
                Then::Keep => {}
                Then::Close => {
                    let _ = stream.shutdown(std::net::Shutdown::Both);
                    return;
                }
                Then::Reset => {
                    // Without time to linger, closing sends RST. The reader holds the other handle.
                    set_socket_linger(&stream, Some(Duration::ZERO)).unwrap();
                    return;
                }
                Then::Silence => {
                    while matches!(reader.read(&mut [0; 256]), Ok(1..)) {}
                    self.note(|seen, number| seen.closed.push(number));
                    return;
                }
                Then::Endless => {
                    let piece = [b'x'; 65536];
                    let mut count = 0;
                    while count < ENDLESS && stream.write_all(&piece).is_ok() {
                        count += piece.len();
                    }
                    self.note(|seen, number| {
                        seen.endless += count;
                        seen.closed.push(number);
                    });
                    return;
                }
            }
        }
    }

    fn note(&self, change: impl FnOnce(&mut Seen, usize)) {
        change(&mut lock(&self.seen), self.number);
        self.seen.1.notify_all();
    }

    fn wait_for_release<'s>(&'s self, mut seen: MutexGuard<'s, Seen>) -> MutexGuard<'s, Seen> {
        while !seen.is_released {
            seen = self.seen.1.wait(seen).unwrap();
        }
        seen
    }

    /// Remembers a request, and takes its answer off the script.
    fn next(&self, head: String, body: &str) -> (Reply, Value) {
        let body: Value = serde_json::from_str(body).unwrap_or(Value::Null);
        let mut seen = lock(&self.seen);
        seen.asked.push(Asked {
            connection: self.number,
            at: Instant::now(),
            head,
            body: body.clone(),
        });
        self.seen.1.notify_all();
        let reply = match seen.script.len() {
            1 => seen.script.front().cloned(),
            _ => seen.script.pop_front(),
        };
        let reply = reply.expect("a script");
        if matches!(reply, Reply::Held(_)) {
            drop(self.wait_for_release(seen));
        }
        (reply, body)
    }

    fn list(&self) -> String {
        let mut seen = lock(&self.seen);
        seen.lists += 1;
        self.seen.1.notify_all();
        if seen.holds_list {
            seen = self.wait_for_release(seen);
        }
        let entry = |name: &String| match self.api {
            Api::OpenAi => json!({ "id": name, "object": "model", "created": 1, "owned_by": "it" }),
            Api::Anthropic => json!({ "id": name, "type": "model", "display_name": name,
                "created_at": "2026-01-01T00:00:00Z" }),
            Api::Ollama => json!({ "name": name, "model": name, "size": 1, "digest": "d",
                "modified_at": "2026-01-01T00:00:00Z", "details": {} }),
        };
        let entries: Vec<Value> = seen.models.iter().map(entry).collect();
        let body = match self.api {
            Api::OpenAi => json!({ "object": "list", "data": entries }),
            Api::Anthropic => json!({ "data": entries, "has_more": false }),
            Api::Ollama => json!({ "models": entries }),
        };
        let body = body.to_string();
        let length = body.len();
        format!("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}")
    }

    fn written(&self, reply: Reply, stream: bool, body: &Value) -> (String, Then) {
        // OpenAI's and Anthropic's answers are whole unless asked for; Ollama's is a stream.
        let stream = stream && (body["stream"] == true || self.api == Api::Ollama);
        match reply {
            Reply::Raw(bytes, then) => (bytes, then),
            Reply::Text(text) | Reply::Held(text) => (self.whole(text, stream), Then::Keep),
            Reply::Begun(text, then) if stream => {
                let mut bytes = self.stream_head();
                chunk(&mut bytes, &self.first(text));
                (bytes, then)
            }
            Reply::Begun(_, then) => (
                "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 999\r\n\r\n{\"id\":\"c1\",".into(),
                then,
            ),
        }
    }

    fn stream_head(&self) -> String {
        let kind = match self.api {
            Api::OpenAi | Api::Anthropic => "text/event-stream",
            Api::Ollama => "application/x-ndjson",
        };
        format!("HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nTransfer-Encoding: chunked\r\n\r\n")
    }

    /// The beginning of a streamed answer, up to the first piece of text.
    fn first(&self, text: &str) -> String {
        match self.api {
            Api::OpenAi => event(&json!({ "id": "c1", "object": "chat.completion.chunk", "created": 1, "model": "m",
                "choices": [{ "index": 0, "delta": { "role": "assistant", "content": text }, "finish_reason": null }] })),
            Api::Anthropic => [
                json!({ "type": "message_start", "message": { "id": "msg_1", "type": "message", "role": "assistant", "model": "m",
                    "content": [], "stop_reason": null, "stop_sequence": null, "usage": { "input_tokens": 11, "output_tokens": 1 } } }),
                json!({ "type": "content_block_start", "index": 0, "content_block": { "type": "text", "text": "" } }),
                json!({ "type": "content_block_delta", "index": 0, "delta": { "type": "text_delta", "text": text } }),
            ]
            .iter()
            .map(event)
            .collect(),
            Api::Ollama => line(&json!({ "model": "m", "created_at": "2026-01-01T00:00:00Z",
                "message": { "role": "assistant", "content": text }, "done": false })),
        }
    }

    fn last(&self) -> String {
        match self.api {
            Api::OpenAi => {
                let finish = json!({ "id": "c1", "object": "chat.completion.chunk", "created": 1, "model": "m",
                    "choices": [{ "index": 0, "delta": {}, "finish_reason": "stop" }] });
                event(&finish) + "data: [DONE]\n\n"
            }
            Api::Anthropic => [
                json!({ "type": "content_block_stop", "index": 0 }),
                json!({ "type": "message_delta", "delta": { "stop_reason": "end_turn", "stop_sequence": null }, "usage": { "output_tokens": 7 } }),
                json!({ "type": "message_stop" }),
            ]
            .iter()
            .map(event)
            .collect(),
            Api::Ollama => line(&self.done("")),
        }
    }

    fn done(&self, text: &str) -> Value {
        json!({ "model": "m", "created_at": "2026-01-01T00:00:00Z", "message": { "role": "assistant", "content": text },
            "done": true, "done_reason": "stop", "total_duration": 9, "prompt_eval_count": 11, "eval_count": 7 })
    }

    fn whole(&self, text: &str, stream: bool) -> String {
        if stream {
            let mut bytes = self.stream_head();
            chunk(&mut bytes, &self.first(text));
            chunk(&mut bytes, &self.last());
            chunk(&mut bytes, "");
            return bytes;
        }
        let body = match self.api {
            Api::OpenAi => json!({ "id": "c1", "object": "chat.completion", "created": 1, "model": "m",
                "choices": [{ "index": 0, "message": { "role": "assistant", "content": text }, "finish_reason": "stop" }],
                "usage": { "prompt_tokens": 11, "completion_tokens": 7, "total_tokens": 18 } }),
            Api::Anthropic => json!({ "id": "msg_1", "type": "message", "role": "assistant", "model": "m",
                "content": [{ "type": "text", "text": text }], "stop_reason": "end_turn", "stop_sequence": null,
                "usage": { "input_tokens": 11, "output_tokens": 7 } }),
            Api::Ollama => self.done(text),
        };
        let body = body.to_string();
        let length = body.len();
        format!("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}")
    }
}

fn event(data: &Value) -> String {
    match data["type"].as_str() {
        Some(name) => format!("event: {name}\ndata: {data}\n\n"),
        None => format!("data: {data}\n\n"),
    }
}

fn line(data: &Value) -> String {
    format!("{data}\n")
}

fn chunk(bytes: &mut String, text: &str) {
    write!(bytes, "{:x}\r\n{text}\r\n", text.len()).unwrap();
}

/// The next request: its head, and a body that has a length.
fn request(reader: &mut BufReader<TcpStream>) -> Option<(String, String)> {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if !matches!(reader.read_line(&mut head), Ok(1..)) {
            return None;
        }
    }
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        let is_length = name.eq_ignore_ascii_case("content-length");
        is_length.then(|| value.trim().parse().unwrap())
    });
    let mut body = vec![0; length.unwrap_or(0)];
    reader.read_exact(&mut body).ok()?;
    Some((head, String::from_utf8(body).unwrap()))
}
