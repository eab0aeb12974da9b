//! The HTTP server behind the splice: plays scripts as the provider's client would see them.

use std::io::Read;
use std::net::{TcpListener, TcpStream};
use std::time::Instant;

use crate::Error;
use crate::poll::{Interest, Poll, Ready, would_block, write_owed};
use crate::process::{Control, STDIN, announce};
use crate::script::{CONTENT, Player, Script, Step, WHOLE};

const LISTENER: usize = usize::MAX - 1;

#[derive(Debug)]
struct Connection {
    stream: TcpStream,
    input: Vec<u8>,
    output: Vec<u8>,
    player: Option<Player>,
    blocked: bool,
}

/// The event that a playing connection waits for.
#[derive(Debug)]
enum Next {
    /// This time.
    Wait(Instant),
    /// Room to write.
    Room,
    /// The release.
    Held,
    /// Nothing: it has played to its end.
    Done,
}

impl Connection {
    /// Takes one request out of the input when it is whole.
    fn request(&mut self) -> Result<Option<Script>, Error> {
        let Some(head) = memchr::memmem::find(&self.input, b"\r\n\r\n") else {
            return Ok(None);
        };
        let text = std::str::from_utf8(self.input.get(..head).unwrap_or_default())?;
        let length: usize = text
            .lines()
            .filter_map(|line| line.split_once(':'))
            .find(|(name, _)| name.eq_ignore_ascii_case("content-length"))
            .and_then(|(_, value)| value.trim().parse().ok())
            .unwrap_or(0);
        let Some(body) = self.input.get(head + 4..head + 4 + length) else {
            return Ok(None);
        };
        let script = Script::find(body).ok_or("a request came without a script")?;
        self.input.drain(..head + 4 + length);
        Ok(Some(script))
    }

    /// Plays on: one write, or all of them until the socket has no room.
    fn play(&mut self, now: Instant, released: bool, whole: &[u8]) -> std::io::Result<Next> {
        while self.output.is_empty() {
            let Some(player) = &mut self.player else {
                return Ok(Next::Done);
            };
            let mut last = true;
            match player.step(now, released) {
                Step::Whole => self.output.extend_from_slice(whole),
                Step::End(_) => {
                    let end = format!("{}data: [DONE]\n\n", event(None));
                    http_chunk(&mut self.output, &end);
                    self.output.extend_from_slice(b"0\r\n\r\n");
                }
                Step::Chunks(range) => {
                    last = false;
                    if range.start == 0 {
                        self.output.extend_from_slice(STREAM_HEAD);
                    }
                    for _ in range {
                        http_chunk(&mut self.output, &event(Some(CONTENT)));
                    }
                }
                Step::Wait(until) => return Ok(Next::Wait(until)),
                Step::Held => return Ok(Next::Held),
            }
            let goes_on = player.goes_on();
            self.flush()?;
            if last {
                self.player = None;
                return Ok(Next::Done);
            }
            if !goes_on {
                return Ok(Next::Wait(now));
            }
        }
        Ok(Next::Room)
    }

    /// Writes what is owed.
    fn flush(&mut self) -> std::io::Result<()> {
        write_owed(&self.stream, &mut self.output)
    }

    /// Waits for room to write exactly while something is owed.
    fn settle(&mut self, poll: &Poll, index: usize) -> std::io::Result<()> {
        let blocked = !self.output.is_empty();
        if blocked != self.blocked {
            self.blocked = blocked;
            poll.modify(
                &self.stream,
                index,
                Interest {
                    read: true,
                    write: blocked,
                },
            )?;
        }
        Ok(())
    }
}

/// Runs the server until standard input ends.
///
/// # Errors
/// Fails when it cannot listen, or a request has no script.
pub fn run() -> Result<(), Error> {
    let listener = TcpListener::bind(("127.0.0.1", 0))?;
    listener.set_nonblocking(true)?;
    let mut poll = Poll::new()?;
    poll.add(&listener, LISTENER, Interest::READ)?;
    let mut control = Control::new(&poll)?;
    announce(listener.local_addr()?)?;

    let whole = whole_answer();
    let mut connections: Vec<Option<Connection>> = Vec::new();
    let mut free: Vec<usize> = Vec::new();
    let mut playing: Vec<usize> = Vec::new();
    let mut held: Vec<usize> = Vec::new();
    let mut released = false;
    let mut ready: Vec<Ready> = Vec::new();
    let mut buffer = vec![0_u8; 64 * 1024];
    let mut timeout = None;
    loop {
        poll.wait(timeout, &mut ready)?;
        for event in &ready {
            match event.token {
                STDIN => {
                    let heard = control.read()?;
                    if heard.ended {
                        return Ok(());
                    }
                    released |= heard.released;
                    playing.append(&mut held);
                }
                LISTENER => {
                    while let Ok((stream, _)) = listener.accept() {
                        stream.set_nodelay(true)?;
                        stream.set_nonblocking(true)?;
                        let index = free.pop().unwrap_or_else(|| {
                            connections.push(None);
                            connections.len() - 1
                        });
                        poll.add(&stream, index, Interest::READ)?;
                        if let Some(slot) = connections.get_mut(index) {
                            *slot = Some(Connection {
                                stream,
                                input: Vec::new(),
                                output: Vec::new(),
                                player: None,
                                blocked: false,
                            });
                        }
                    }
                }
                index => {
                    let Some(slot) = connections.get_mut(index) else {
                        continue;
                    };
                    let Some(connection) = slot else { continue };
                    let mut open = true;
                    if event.writable {
                        open = connection
                            .flush()
                            .and_then(|()| connection.settle(&poll, index))
                            .is_ok();
                    }
                    if open && event.readable {
                        match connection.stream.read(&mut buffer) {
                            Ok(0) => open = false,
                            Ok(n) => {
                                connection
                                    .input
                                    .extend_from_slice(buffer.get(..n).unwrap_or_default());
                                if let Some(script) = connection.request()? {
                                    connection.player = Some(Player::new(script, Instant::now()));
                                    playing.push(index);
                                }
                            }
                            Err(e) => open = would_block(&e),
                        }
                    }
                    if !open {
                        playing.retain(|i| *i != index);
                        held.retain(|i| *i != index);
                        *slot = None;
                        free.push(index);
                    }
                }
            }
        }

        let now = Instant::now();
        let mut wake: Option<Instant> = None;
        playing.retain(|&index| {
            let Some(Some(connection)) = connections.get_mut(index) else {
                return false;
            };
            let next = connection.play(now, released, &whole);
            // A connection that broke is found by the next read.
            let _ = connection.settle(&poll, index);
            match next {
                Ok(Next::Wait(until)) => wake = Some(wake.map_or(until, |w| w.min(until))),
                Ok(Next::Room) => {}
                Ok(Next::Held) => held.push(index),
                Ok(Next::Done) | Err(_) => {}
            }
            matches!(next, Ok(Next::Wait(_) | Next::Room))
        });
        timeout = wake.map(|w| w.saturating_duration_since(now));
    }
}

const STREAM_HEAD: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\
Cache-Control: no-cache\r\nTransfer-Encoding: chunked\r\n\r\n";

fn whole_answer() -> Vec<u8> {
    let body = format!(
        r#"{{"id":"chatcmpl-0123456789abcdef0123456789abcdef","object":"chat.completion","created":1790000000,"model":"bench","choices":[{{"index":0,"message":{{"role":"assistant","content":"{WHOLE}"}},"finish_reason":"stop"}}],"usage":{{"prompt_tokens":100,"completion_tokens":64,"total_tokens":164}}}}"#
    );
    format!(
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

fn event(content: Option<&str>) -> String {
    let (delta, finish) = match content {
        Some(text) => (format!(r#"{{"content":"{text}"}}"#), "null"),
        None => ("{}".to_owned(), r#""stop""#),
    };
    format!(
        "data: {{\"id\":\"chatcmpl-0123456789abcdef0123456789abcdef\",\"object\":\"chat.completion.chunk\",\
         \"created\":1790000000,\"model\":\"bench\",\"choices\":[{{\"index\":0,\"delta\":{delta},\"finish_reason\":{finish}}}]}}\n\n"
    )
}

/// Appends one chunk of the chunked transfer coding, RFC 9112 section 7.1.
fn http_chunk(out: &mut Vec<u8>, text: &str) {
    out.extend_from_slice(format!("{:x}\r\n", text.len()).as_bytes());
    out.extend_from_slice(text.as_bytes());
    out.extend_from_slice(b"\r\n");
}
