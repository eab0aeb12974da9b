//! The scripted agent behind the provider: one link over a real WebSocket, in the words of the
//! agent protocol, playing what each prompt asks for.

use std::borrow::Cow;
use std::collections::HashMap;
use std::io;
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use serde::Deserialize;
use tungstenite::client::IntoClientRequest as _;
use tungstenite::protocol::{Message, WebSocket};

use crate::Error;
use crate::poll::{Interest, Poll, Ready, would_block};
use crate::process::{Control, STDIN, announce};
use crate::script::{Player, Script, Step, WHOLE, clock, content};

const LINK: usize = 0;

/// The part of a frame from the provider that the agent needs.
#[derive(Debug, Deserialize)]
struct Frame<'a> {
    #[serde(rename = "type", borrow)]
    kind: Cow<'a, str>,
    #[serde(borrow, default)]
    id: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    status: Option<Cow<'a, str>>,
}

#[derive(Debug)]
struct Invocation {
    id: String,
    player: Player,
}

/// The link, with what is being played on it.
#[derive(Debug)]
struct Agent {
    socket: WebSocket<TcpStream>,
    /// The socket has no room; nothing is played until it has.
    blocked: bool,
    playing: Vec<Invocation>,
    held: HashMap<String, Invocation>,
}

/// Connects to the provider at `addr` with the bridge key `key`, registers, says that it is ready,
/// and answers until standard input ends.
///
/// # Errors
/// Fails when it is refused, or the link is lost.
pub fn run(addr: SocketAddr, key: &str) -> Result<(), Error> {
    let mut request = format!("ws://{addr}/agent").into_client_request()?;
    request
        .headers_mut()
        .insert("authorization", format!("Bearer {key}").parse()?);
    let stream = TcpStream::connect(addr)?;
    stream.set_nodelay(true)?;
    let (mut socket, _) =
        tungstenite::client(request, stream).map_err(|e| format!("no link to {addr}: {e}"))?;
    socket.send(Message::text(
        r#"{"type":"register","agent_id":"bench","label":"Scripted agent","requested_scopes":["inference"],"ttl_seconds":3600,"models":["bench"],"max_concurrency":20000,"capabilities":{"tools":false,"vision":false,"embeddings":false}}"#,
    ))?;
    wait_active(&mut socket)?;
    socket.get_ref().set_nonblocking(true)?;

    let mut poll = Poll::new()?;
    poll.add(socket.get_ref(), LINK, Interest::READ)?;
    let mut control = Control::new(&poll)?;
    announce(addr)?;
    let mut agent = Agent {
        socket,
        blocked: false,
        playing: Vec::new(),
        held: HashMap::new(),
    };
    let mut released = false;
    let mut waiting_to_write = false;
    let mut timeout = None;
    let mut ready: Vec<Ready> = Vec::new();
    loop {
        poll.wait(timeout, &mut ready)?;
        for event in &ready {
            if event.token == STDIN {
                let heard = control.read()?;
                if heard.ended {
                    return Ok(());
                }
                released |= heard.released;
                agent
                    .playing
                    .extend(agent.held.drain().map(|(_, invocation)| invocation));
            } else {
                if event.writable {
                    agent.flush()?;
                }
                if event.readable {
                    agent.read()?;
                }
            }
        }
        timeout = agent.play(released)?;
        if agent.blocked != waiting_to_write {
            waiting_to_write = agent.blocked;
            let interest = Interest {
                read: true,
                write: waiting_to_write,
            };
            poll.modify(agent.socket.get_ref(), LINK, interest)?;
        }
    }
}

/// Waits until the session is active.
fn wait_active(socket: &mut WebSocket<TcpStream>) -> Result<(), Error> {
    loop {
        if let Message::Text(text) = socket.read()? {
            let frame: Frame<'_> = serde_json::from_str(&text)?;
            match (&*frame.kind, frame.status.as_deref()) {
                ("registered" | "session_status", Some("active")) => return Ok(()),
                ("error", _) => return Err(format!("the provider refused: {text}").into()),
                _ => {}
            }
        }
    }
}

impl Agent {
    /// Takes every frame that has arrived.
    fn read(&mut self) -> Result<(), Error> {
        loop {
            let text = match self.socket.read() {
                Ok(Message::Text(text)) => text,
                Ok(Message::Close(frame)) => {
                    return Err(format!("the link was closed: {frame:?}").into());
                }
                Ok(_) => continue,
                Err(tungstenite::Error::Io(e)) if would_block(&e) => return Ok(()),
                Err(e) => return Err(format!("the link was lost: {e}").into()),
            };
            let frame: Frame<'_> = serde_json::from_str(&text)?;
            match (&*frame.kind, frame.id) {
                ("model_invoke", Some(id)) => {
                    let script = Script::find(text.as_bytes())
                        .ok_or("an invocation came without a script")?;
                    let player = Player::new(script, Instant::now());
                    self.playing.push(Invocation {
                        id: id.into_owned(),
                        player,
                    });
                }
                ("model_cancel", Some(id)) => {
                    self.playing.retain(|invocation| invocation.id != id);
                    self.held.remove(&*id);
                }
                ("ping", _) => {
                    self.send(r#"{"type":"pong","timestamp":"2026-01-01T00:00:00Z"}"#.to_owned())?
                }
                ("error", _) => eprintln!("the provider complains: {text}"),
                _ => {}
            }
        }
    }

    /// Plays on with everything. The answer is how long to wait until there is more to play.
    fn play(&mut self, released: bool) -> Result<Option<Duration>, Error> {
        let now = Instant::now();
        let mut wake: Option<Instant> = None;
        let mut left = Vec::with_capacity(self.playing.len());
        for mut invocation in std::mem::take(&mut self.playing) {
            loop {
                if self.blocked {
                    // The flush below may find room again.
                    wake = Some(now);
                    left.push(invocation);
                    break;
                }
                match invocation.player.step(now, released) {
                    Step::Whole => {
                        self.send(whole(&invocation.id))?;
                        break;
                    }
                    Step::End(index) => {
                        self.send(end(&invocation.id, index))?;
                        break;
                    }
                    Step::Chunks(range) => {
                        for index in range {
                            self.write(chunk(&invocation.id, index))?;
                        }
                        if !invocation.player.is_ahead() {
                            self.flush()?;
                        }
                        if !invocation.player.goes_on() {
                            wake = Some(now);
                            left.push(invocation);
                            break;
                        }
                    }
                    Step::Wait(until) => {
                        wake = Some(wake.map_or(until, |w| w.min(until)));
                        left.push(invocation);
                        break;
                    }
                    Step::Held => {
                        self.held.insert(invocation.id.clone(), invocation);
                        break;
                    }
                }
            }
        }
        self.playing = left;
        // What the rounds of agents that are ahead have left.
        self.flush()?;
        // Without room the socket wakes the agent.
        let wake = wake.filter(|_| !self.blocked);
        Ok(wake.map(|w| w.saturating_duration_since(now)))
    }

    fn send(&mut self, text: String) -> Result<(), Error> {
        self.write(text)?;
        self.flush()
    }

    /// Adds a frame to the write that the next flush makes.
    fn write(&mut self, text: String) -> Result<(), Error> {
        let written = self.socket.write(Message::text(text));
        self.note(written)
    }

    fn flush(&mut self) -> Result<(), Error> {
        self.blocked = false;
        let flushed = self.socket.flush();
        self.note(flushed)
    }

    /// A socket without room keeps the frame; everything else is the end of the link.
    fn note(&mut self, done: tungstenite::Result<()>) -> Result<(), Error> {
        match done {
            Ok(()) => Ok(()),
            Err(tungstenite::Error::Io(e)) if e.kind() == io::ErrorKind::WouldBlock => {
                self.blocked = true;
                Ok(())
            }
            Err(e) => Err(format!("the link was lost: {e}").into()),
        }
    }
}

fn whole(id: &str) -> String {
    format!(
        r#"{{"type":"model_result","id":"{id}","status":"ok","result":{{"choices":[{{"index":0,"message":{{"role":"assistant","content":"{WHOLE}"}},"finish_reason":"stop"}}],"usage":{{"prompt_tokens":100,"completion_tokens":64,"total_tokens":164}}}}}}"#
    )
}

fn chunk(id: &str, index: u32) -> String {
    let content = content(clock());
    format!(
        r#"{{"type":"model_stream_chunk","id":"{id}","chunk_index":{index},"delta":{{"content":"{content}"}},"finish_reason":null}}"#
    )
}

fn end(id: &str, index: u32) -> String {
    format!(
        r#"{{"type":"model_stream_chunk","id":"{id}","chunk_index":{index},"delta":{{}},"finish_reason":"stop","usage":{{"prompt_tokens":100,"completion_tokens":{index}}}}}"#
    )
}
