//! Clients of a gateway: sessions that call a tool, each with one call open, on one thread.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use tungstenite::client::IntoClientRequest;
use tungstenite::http::HeaderValue;
use tungstenite::protocol::{Message, WebSocket};

use crate::Error;
use crate::poll::{Interest, Poll, Ready, would_block};

/// Longest wait for one answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// Transports of a session.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Way {
    /// Streamable HTTP.
    Http,
    /// A WebSocket with one message a frame.
    Socket,
}

/// A gateway, and how it is reached.
#[derive(Clone, Debug)]
pub struct Target {
    /// Where it listens.
    pub addr: SocketAddr,
    /// Path of its endpoint.
    pub path: String,
    /// The key that it wants.
    pub key: Option<&'static str>,
    /// The transport.
    pub way: Way,
}

/// Counts and times of calls.
#[derive(Clone, Debug, Default)]
pub struct Calls {
    /// Calls that were answered.
    pub answered: u64,
    /// From a call to its answer.
    pub latency: Vec<Duration>,
}

enum Wire {
    Http {
        stream: TcpStream,
        /// What stands before the length of the body.
        head: String,
        got: Vec<u8>,
    },
    Socket(Box<WebSocket<TcpStream>>),
}

struct Session {
    wire: Wire,
    next: u64,
    sent: Instant,
}

/// Sessions with one gateway.
pub struct Clients {
    target: Target,
    poll: Poll,
    sessions: Vec<Session>,
    /// Time that each session took to open.
    pub opening: Vec<Duration>,
}

impl std::fmt::Debug for Clients {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Clients({}, {:?})", self.sessions.len(), self.target)
    }
}

/// `initialize` of a client.
#[must_use]
pub fn hello() -> String {
    r#"{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"bench","version":"1"}}}"#.to_owned()
}

/// A call with 64 bytes of text.
#[must_use]
pub fn call(id: u64) -> String {
    format!(
        r#"{{"jsonrpc":"2.0","id":{id},"method":"tools/call","params":{{"name":"echo","arguments":{{"text":"xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"}}}}}}"#
    )
}

const INITIALIZED: &str = r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#;

impl Clients {
    /// No sessions yet.
    ///
    /// # Errors
    /// The operating system's.
    pub fn new(target: Target) -> Result<Self, Error> {
        Ok(Self {
            target,
            poll: Poll::new()?,
            sessions: Vec::new(),
            opening: Vec::new(),
        })
    }

    /// Opens more sessions, one after the other.
    ///
    /// # Errors
    /// Fails when one is refused.
    pub fn open(&mut self, count: usize) -> Result<(), Error> {
        for _ in 0..count {
            let begin = Instant::now();
            let mut session = Session::open(&self.target)?;
            self.opening.push(begin.elapsed());
            session.greet()?;
            let token = self.sessions.len();
            self.poll.add(session.stream(), token, Interest::READ)?;
            session.stream().set_nonblocking(true)?;
            self.sessions.push(session);
        }
        Ok(())
    }

    /// Opens sessions over HTTP, of which each loses its connection at once.
    ///
    /// # Errors
    /// Fails when one is refused.
    pub fn open_and_leave(&mut self, count: usize) -> Result<(), Error> {
        for _ in 0..count {
            Session::open(&self.target)?.greet()?;
        }
        Ok(())
    }

    /// Has every session call once, all together.
    ///
    /// # Errors
    /// Fails when a call fails or is not answered.
    pub fn call_all(&mut self) -> Result<Calls, Error> {
        self.run_for(self.sessions.len(), Duration::ZERO)
    }

    /// Ends the sessions over HTTP.
    ///
    /// # Errors
    /// Fails when that is refused.
    pub fn end(&mut self) -> Result<(), Error> {
        for mut session in self.sessions.drain(..) {
            session.stream().set_nonblocking(false)?;
            if let Wire::Http { stream, head, .. } = &mut session.wire {
                let request = head.replacen("POST", "DELETE", 1);
                stream.write_all(format!("{request}\r\n").as_bytes())?;
                session.wait()?;
            }
        }
        Ok(())
    }

    /// Has the first `sessions` call again and again for `time`.
    ///
    /// # Errors
    /// Fails when a call fails or is not answered.
    pub fn run_for(&mut self, sessions: usize, time: Duration) -> Result<Calls, Error> {
        let mut calls = Calls::default();
        let end = Instant::now() + time;
        for session in self.sessions.iter_mut().take(sessions) {
            session.send()?;
        }
        let mut open = sessions.min(self.sessions.len());
        let mut ready: Vec<Ready> = Vec::new();
        while open > 0 {
            self.poll.wait(Some(PATIENCE), &mut ready)?;
            if ready.is_empty() {
                return Err(format!("{open} calls are not answered").into());
            }
            for event in &ready {
                let Some(session) = self.sessions.get_mut(event.token) else {
                    continue;
                };
                if !session.answered(true)? {
                    continue;
                }
                let now = Instant::now();
                calls.answered += 1;
                calls.latency.push(now - session.sent);
                if now < end {
                    session.send()?;
                } else {
                    open -= 1;
                }
            }
        }
        Ok(calls)
    }

    /// Sends so many calls at once over the first session, which has a WebSocket, and returns the time until all are answered.
    ///
    /// # Errors
    /// Fails when one is not.
    pub fn at_once(&mut self, count: u64) -> Result<Duration, Error> {
        let Some(Session {
            wire: Wire::Socket(socket),
            next,
            ..
        }) = self.sessions.first_mut()
        else {
            return Err("there is no WebSocket".into());
        };
        let begin = Instant::now();
        socket.get_ref().set_nonblocking(false)?;
        socket.get_ref().set_read_timeout(Some(PATIENCE))?;
        for _ in 0..count {
            *next += 1;
            socket.write(Message::text(call(*next)))?;
        }
        socket.flush()?;
        for _ in 0..count {
            while !is_answer(socket.read()?)? {}
        }
        let time = begin.elapsed();
        socket.get_ref().set_nonblocking(true)?;
        Ok(time)
    }
}

/// True for an answer, false for what else a WebSocket brings.
fn is_answer(message: Message) -> Result<bool, Error> {
    match message {
        Message::Text(text) if text.contains("\"result\"") => Ok(true),
        Message::Text(text) => Err(format!("a call failed: {text}").into()),
        Message::Binary(_) | Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => Ok(false),
        Message::Close(_) => Err("a WebSocket was closed".into()),
    }
}

/// Value of a field in a head.
fn field<'h>(head: &'h str, wanted: &str) -> Option<&'h str> {
    head.lines()
        .filter_map(|line| line.split_once(':'))
        .find(|(name, _)| name.eq_ignore_ascii_case(wanted))
        .map(|(_, value)| value.trim())
}

/// Length of the head of a whole answer; `None` while more is to come.
fn whole(got: &[u8]) -> Result<Option<usize>, Error> {
    let Some(end) = memchr::memmem::find(got, b"\r\n\r\n") else {
        return Ok(None);
    };
    let head = std::str::from_utf8(got.get(..end).unwrap_or_default())?;
    let is_there = match field(head, "content-length") {
        None if head.starts_with("HTTP/1.1 204 ") => true,
        Some(length) => got.len() >= end + 4 + length.parse::<usize>()?,
        None => got.ends_with(b"\r\n0\r\n\r\n"),
    };
    Ok(is_there.then_some(end))
}

impl Session {
    fn open(target: &Target) -> Result<Self, Error> {
        let stream = TcpStream::connect(target.addr)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let addr = target.addr;
        let wire = match target.way {
            Way::Http => {
                let key = target.key.map_or_else(String::new, |key| {
                    format!("Authorization: Bearer {key}\r\n")
                });
                let head = format!(
                    "POST {} HTTP/1.1\r\nHost: {addr}\r\n{key}Content-Type: application/json\r\n\
                     Accept: application/json, text/event-stream\r\n",
                    target.path
                );
                Wire::Http {
                    stream,
                    head,
                    got: Vec::new(),
                }
            }
            Way::Socket => {
                let key = target
                    .key
                    .map_or_else(String::new, |key| format!("/k/{key}"));
                let mut request =
                    format!("ws://{addr}{key}{}", target.path).into_client_request()?;
                request
                    .headers_mut()
                    .insert("sec-websocket-protocol", HeaderValue::from_static("mcp"));
                let opened = tungstenite::client::client(request, stream);
                let (socket, _) = opened.map_err(|e| format!("no WebSocket: {e}"))?;
                Wire::Socket(Box::new(socket))
            }
        };
        let mut session = Self {
            wire,
            next: 1,
            sent: Instant::now(),
        };
        session.write(&hello())?;
        session.wait()?;
        Ok(session)
    }

    fn stream(&self) -> &TcpStream {
        match &self.wire {
            Wire::Http { stream, .. } => stream,
            Wire::Socket(socket) => socket.get_ref(),
        }
    }

    /// Tells that the session is open.
    fn greet(&mut self) -> Result<(), Error> {
        self.write(INITIALIZED)?;
        match &mut self.wire {
            // Its answer has no message.
            Wire::Http { .. } => self.wait(),
            Wire::Socket(_) => Ok(()),
        }
    }

    fn wait(&mut self) -> Result<(), Error> {
        while !self.answered(false)? {}
        Ok(())
    }

    fn send(&mut self) -> Result<(), Error> {
        self.next += 1;
        self.sent = Instant::now();
        self.write(&call(self.next))
    }

    fn write(&mut self, body: &str) -> Result<(), Error> {
        match &mut self.wire {
            Wire::Http { stream, head, .. } => {
                let length = body.len();
                // A small request fits into an empty socket.
                let request = format!("{head}Content-Length: {length}\r\n\r\n{body}");
                stream.write_all(request.as_bytes())?;
            }
            Wire::Socket(socket) => socket.send(Message::text(body))?,
        }
        Ok(())
    }

    /// Reads on. True when there is an answer, which is to have a result where one is due.
    fn answered(&mut self, has_result: bool) -> Result<bool, Error> {
        let (stream, head, got) = match &mut self.wire {
            Wire::Http { stream, head, got } => (stream, head, got),
            Wire::Socket(socket) => {
                return match socket.read() {
                    Ok(message) => is_answer(message),
                    Err(tungstenite::Error::Io(e)) if would_block(&e) => Ok(false),
                    Err(e) => Err(e.into()),
                };
            }
        };
        let mut buffer = [0_u8; 16 << 10];
        match stream.read(&mut buffer) {
            Ok(0) => return Err("the server closed a connection".into()),
            Ok(n) => got.extend_from_slice(buffer.get(..n).unwrap_or_default()),
            Err(e) if would_block(&e) => return Ok(false),
            Err(e) => return Err(e.into()),
        }
        let Some(end) = whole(got)? else {
            return Ok(false);
        };
        let text = std::str::from_utf8(got)?;
        let first = text.get(..end).unwrap_or_default();
        let has_failed = has_result && memchr::memmem::find(got, b"\"result\"").is_none();
        if !first.starts_with("HTTP/1.1 20") || has_failed {
            return Err(format!("a call failed: {text}").into());
        }
        if let Some(id) =
            field(first, "mcp-session-id").filter(|_| !head.contains("Mcp-Session-Id"))
        {
            head.push_str("Mcp-Session-Id: ");
            head.push_str(id);
            head.push_str("\r\nMCP-Protocol-Version: 2025-11-25\r\n");
        }
        got.clear();
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn an_answer_is_whole_at_its_last_byte() {
        let sized = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}";
        let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n";
        let empty = "HTTP/1.1 204 No Content\r\n\r\n";
        for answer in [sized, chunked, empty] {
            for cut in 0..answer.len() {
                let part = answer.get(..cut).unwrap();
                assert_eq!(whole(part.as_bytes()).unwrap(), None, "{part}");
            }
            assert!(whole(answer.as_bytes()).unwrap().is_some());
        }
    }
}
