//! The second yardstick: the least code that does the provider's work. One thread and one plain loop; it parses each
//! request and each frame of the agent once, writes each stream once for all that a wake-up brought, and does nothing
//! else: no keys, limits, queue, timeouts, order, audit or other dialects.

use std::borrow::Cow;
use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};

use serde::Deserialize;
use serde_json::value::RawValue;
use tungstenite::handshake::derive_accept_key;
use tungstenite::protocol::{Message, Role, WebSocket};

use crate::Error;
use crate::poll::{Interest, Poll, Ready, would_block, write_owed};
use crate::process::{Control, STDIN, announce};

const LISTENER: usize = usize::MAX - 1;

/// A request, as far as the agent has to know it.
#[derive(Deserialize)]
struct Request<'a> {
    #[serde(borrow)]
    model: Cow<'a, str>,
    #[serde(default)]
    stream: bool,
    #[serde(borrow)]
    messages: &'a RawValue,
}

/// A frame of the agent.
#[derive(Deserialize)]
struct Frame<'a> {
    #[serde(rename = "type", borrow)]
    kind: &'a str,
    #[serde(borrow, default)]
    id: Option<&'a str>,
    #[serde(default)]
    chunk_index: Option<u64>,
    #[serde(borrow, default)]
    delta: Option<Text<'a>>,
    #[serde(borrow, default)]
    finish_reason: Option<&'a str>,
    #[serde(borrow, default)]
    result: Option<Answer<'a>>,
}

#[derive(Deserialize)]
struct Text<'a> {
    /// A JSON string, which goes on as it is.
    #[serde(borrow, default)]
    content: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Answer<'a> {
    #[serde(borrow)]
    choices: Vec<Choice<'a>>,
    #[serde(borrow)]
    usage: &'a RawValue,
}

#[derive(Deserialize)]
struct Choice<'a> {
    #[serde(borrow)]
    message: Text<'a>,
}

/// A client's connection, or one that has not said yet what it is.
struct Client {
    stream: TcpStream,
    input: Vec<u8>,
    output: Vec<u8>,
    /// It waits for room to write.
    blocked: bool,
    /// It is among those that are to be written.
    dirty: bool,
}

struct Ideal {
    poll: Poll,
    clients: Vec<Option<Client>>,
    free: Vec<usize>,
    agent: Option<(usize, WebSocket<TcpStream>)>,
    /// The client of each open answer.
    answers: HashMap<String, usize>,
    last_id: u64,
    dirty: Vec<usize>,
}

/// Serves clients and one agent until standard input ends.
///
/// # Errors
/// Fails when it cannot listen, or somebody sends what it does not understand.
pub fn run() -> Result<(), Error> {
    let listener = TcpListener::bind(("127.0.0.1", 0))?;
    listener.set_nonblocking(true)?;
    let poll = Poll::new()?;
    poll.add(&listener, LISTENER, Interest::READ)?;
    let mut control = Control::new(&poll)?;
    announce(listener.local_addr()?)?;
    let mut ideal = Ideal {
        poll,
        clients: Vec::new(),
        free: Vec::new(),
        agent: None,
        answers: HashMap::new(),
        last_id: 0,
        dirty: Vec::new(),
    };
    let mut ready: Vec<Ready> = Vec::new();
    let mut buffer = vec![0_u8; 64 * 1024];
    loop {
        ideal.poll.wait(None, &mut ready)?;
        for event in &ready {
            match event.token {
                STDIN if control.read()?.ended => return Ok(()),
                STDIN => {}
                LISTENER => {
                    while let Ok((stream, _)) = listener.accept() {
                        ideal.accept(stream)?;
                    }
                }
                token if ideal.agent.as_ref().is_some_and(|(own, _)| *own == token) => {
                    ideal.read_agent()?;
                }
                token => ideal.serve(token, event, &mut buffer)?,
            }
        }
        ideal.write_all()?;
    }
}

impl Ideal {
    fn accept(&mut self, stream: TcpStream) -> Result<(), Error> {
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        let token = self.free.pop().unwrap_or_else(|| {
            self.clients.push(None);
            self.clients.len() - 1
        });
        self.poll.add(&stream, token, Interest::READ)?;
        if let Some(slot) = self.clients.get_mut(token) {
            *slot = Some(Client {
                stream,
                input: Vec::new(),
                output: Vec::new(),
                blocked: false,
                dirty: false,
            });
        }
        Ok(())
    }

    /// Reads from a client, and writes to it again when it has room.
    fn serve(&mut self, token: usize, event: &Ready, buffer: &mut [u8]) -> Result<(), Error> {
        if event.writable {
            self.note(token);
        }
        if !event.readable {
            return Ok(());
        }
        let Some(Some(client)) = self.clients.get_mut(token) else {
            return Ok(());
        };
        match client.stream.read(buffer) {
            Ok(0) => {
                self.forget(token);
                return Ok(());
            }
            Ok(n) => client
                .input
                .extend_from_slice(buffer.get(..n).unwrap_or_default()),
            Err(e) if would_block(&e) => return Ok(()),
            Err(_) => {
                self.forget(token);
                return Ok(());
            }
        }
        self.take_request(token)
    }

    fn forget(&mut self, token: usize) {
        if let Some(slot) = self.clients.get_mut(token) {
            *slot = None;
            self.free.push(token);
        }
        self.answers.retain(|_, client| *client != token);
    }

    /// Sends a request to the agent once it is whole; makes a connection the agent's if it asks for that.
    fn take_request(&mut self, token: usize) -> Result<(), Error> {
        let Some(Some(client)) = self.clients.get_mut(token) else {
            return Ok(());
        };
        let Some(end) = memchr::memmem::find(&client.input, b"\r\n\r\n") else {
            return Ok(());
        };
        let head = std::str::from_utf8(client.input.get(..end).unwrap_or_default())?;
        let value = |wanted: &str| {
            head.lines()
                .filter_map(|line| line.split_once(':'))
                .find(|(name, _)| name.eq_ignore_ascii_case(wanted))
                .map(|(_, value)| value.trim())
        };
        if let Some(key) = value("sec-websocket-key") {
            let answer = format!(
                "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                 Sec-WebSocket-Accept: {}\r\n\r\n",
                derive_accept_key(key.as_bytes())
            );
            let Some(client) = self.clients.get_mut(token).and_then(Option::take) else {
                return Ok(());
            };
            (&client.stream).write_all(answer.as_bytes())?;
            let rest = client.input.get(end + 4..).unwrap_or_default().to_vec();
            let socket = WebSocket::from_partially_read(client.stream, rest, Role::Server, None);
            self.agent = Some((token, socket));
            return self.read_agent();
        }
        let length: usize = value("content-length").unwrap_or("0").parse()?;
        let Some(body) = client.input.get(end + 4..end + 4 + length) else {
            return Ok(());
        };
        let request: Request<'_> = serde_json::from_slice(body)?;
        self.last_id += 1;
        let id = format!("{:020x}", self.last_id);
        let frame = format!(
            r#"{{"type":"model_invoke","id":"{id}","session_id":"s","timestamp":"2026-01-01T00:00:00Z","payload":{{"model":{},"stream":{},"messages":{}}}}}"#,
            serde_json::to_string(&request.model)?,
            request.stream,
            request.messages.get()
        );
        client.input.drain(..end + 4 + length);
        self.answers.insert(id, token);
        let (_, agent) = self
            .agent
            .as_mut()
            .ok_or("a request came before the agent")?;
        // The frames of one wake-up share a write: `write_all` flushes.
        match agent.write(Message::text(frame)) {
            Err(tungstenite::Error::Io(e)) if would_block(&e) => Ok(()),
            written => Ok(written?),
        }
    }

    /// Takes all frames of the agent that are there.
    fn read_agent(&mut self) -> Result<(), Error> {
        loop {
            let Some((_, agent)) = &mut self.agent else {
                return Ok(());
            };
            let text = match agent.read() {
                Ok(Message::Text(text)) => text,
                Ok(_) => continue,
                Err(tungstenite::Error::Io(e)) if would_block(&e) => return Ok(()),
                Err(e) => return Err(format!("the link was lost: {e}").into()),
            };
            let frame: Frame<'_> = serde_json::from_str(&text)?;
            if frame.kind == "register" {
                agent.send(Message::text(
                    r#"{"type":"registered","session_id":"s","session_token":"t","status":"active"}"#,
                ))?;
                continue;
            }
            self.answer(&frame)?;
        }
    }

    /// Appends what a frame brings to the output of its client.
    fn answer(&mut self, frame: &Frame<'_>) -> Result<(), Error> {
        let id = frame.id.ok_or("a frame has no id")?;
        // Its client may have left.
        let Some(&token) = self.answers.get(id) else {
            return Ok(());
        };
        let Some(Some(client)) = self.clients.get_mut(token) else {
            return Ok(());
        };
        let out = &mut client.output;
        let mut ended = true;
        if let Some(answer) = &frame.result {
            let choice = answer.choices.first().ok_or("a result has no choice")?;
            let content = choice.message.content.map_or("null", RawValue::get);
            let usage = answer.usage.get();
            let body = format!(
                r#"{{"id":"chatcmpl-{id}","object":"chat.completion","created":1790000000,"model":"bench","choices":[{{"index":0,"message":{{"role":"assistant","content":{content}}},"finish_reason":"stop"}}],"usage":{usage}}}"#
            );
            write!(
                out,
                "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
                body.len()
            )?;
        } else if let Some(delta) = &frame.delta {
            if frame.is_first() {
                out.extend_from_slice(
                    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n",
                );
            }
            ended = frame.finish_reason.is_some();
            let (delta, finish) = match &delta.content {
                Some(text) => (format!(r#"{{"content":{text}}}"#), "null"),
                None => ("{}".to_owned(), r#""stop""#),
            };
            let done = if ended { "data: [DONE]\n\n" } else { "" };
            let event = format!(
                "data: {{\"id\":\"chatcmpl-{id}\",\"object\":\"chat.completion.chunk\",\"created\":1790000000,\
                 \"model\":\"bench\",\"choices\":[{{\"index\":0,\"delta\":{delta},\"finish_reason\":{finish}}}]}}\n\n{done}"
            );
            write!(out, "{:x}\r\n{event}\r\n", event.len())?;
            if ended {
                out.extend_from_slice(b"0\r\n\r\n");
            }
        }
        if ended {
            self.answers.remove(id);
        }
        self.note(token);
        Ok(())
    }

    /// Has a client written at the end of this wake-up.
    fn note(&mut self, token: usize) {
        if let Some(Some(client)) = self.clients.get_mut(token)
            && !client.dirty
        {
            client.dirty = true;
            self.dirty.push(token);
        }
    }

    /// Writes everything that is owed, once for each.
    fn write_all(&mut self) -> Result<(), Error> {
        if let Some((_, agent)) = &mut self.agent {
            match agent.flush() {
                Err(tungstenite::Error::Io(e)) if would_block(&e) => {}
                flushed => flushed?,
            }
        }
        for token in std::mem::take(&mut self.dirty) {
            let Some(Some(client)) = self.clients.get_mut(token) else {
                continue;
            };
            client.dirty = false;
            if client.write().is_err() {
                self.forget(token);
                continue;
            }
            let blocked = !client.output.is_empty();
            if blocked != client.blocked {
                client.blocked = blocked;
                let interest = Interest {
                    read: true,
                    write: blocked,
                };
                self.poll.modify(&client.stream, token, interest)?;
            }
        }
        Ok(())
    }
}

impl Frame<'_> {
    const fn is_first(&self) -> bool {
        matches!(self.chunk_index, Some(0))
    }
}

impl Client {
    fn write(&mut self) -> io::Result<()> {
        write_owed(&self.stream, &mut self.output)
    }
}
