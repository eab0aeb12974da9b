//! The client: keep-alive connections that repeat one request, on one thread, counting what comes.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use crate::Error;
use crate::poll::{Interest, Poll, Ready, would_block};
use crate::script::{MARK, clock, sent};

/// Connections that may wait for their first chunk while more are opened.
const OPENING: usize = 128;

/// Counts and times of a load.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// Answers that ended as they should.
    pub answers: u64,
    /// Content chunks, however they were joined on the way.
    pub chunks: u64,
    /// Chunks of HTTP's chunked transfer coding. A server that writes a body piece by piece makes
    /// one for each, so that it made at most this many writes.
    pub transfer_chunks: u64,
    /// Streams that have shown their first content.
    pub begun: u64,
    /// From the request to its first content, per request.
    pub first_chunk: Vec<Duration>,
    /// From the request to the end of its answer, per request.
    pub latency: Vec<Duration>,
    /// From the agent to here, per chunk that tells when it was sent, in microseconds.
    pub transit: Vec<u64>,
    /// The longest time between two reads of one stream that brought content.
    pub longest_gap: Duration,
}

/// Position in the HTTP/1.1 framing of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Framing {
    Head,
    Length(usize),
    ChunkSize,
    Chunk(usize),
    ChunkEnd,
    Trailer,
}

#[derive(Debug)]
struct Connection {
    stream: TcpStream,
    framing: Framing,
    /// The head or the line that is not whole yet.
    partial: Vec<u8>,
    /// Time at which the request was sent; none while no answer is due.
    sent: Option<Instant>,
    begun: bool,
    /// Time at which content came last in this answer.
    last: Option<Instant>,
}

/// A set of connections to one server.
#[derive(Debug)]
pub struct Load {
    addr: SocketAddr,
    request: Vec<u8>,
    repeat: bool,
    poll: Poll,
    connections: Vec<Connection>,
    ready: Vec<Ready>,
    buffer: Vec<u8>,
    open: usize,
    tally: Tally,
}

impl Load {
    /// A load of no connections yet, with `body` posted to `/v1/chat/completions` under `key`.
    ///
    /// # Errors
    /// The operating system's.
    pub fn new(addr: SocketAddr, key: &str, body: &str) -> Result<Self, Error> {
        let request = format!(
            "POST /v1/chat/completions HTTP/1.1\r\nHost: {addr}\r\nAuthorization: Bearer {key}\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        Ok(Self {
            addr,
            request: request.into_bytes(),
            repeat: true,
            poll: Poll::new()?,
            connections: Vec::new(),
            ready: Vec::new(),
            buffer: vec![0; 64 * 1024],
            open: 0,
            tally: Tally::default(),
        })
    }

    /// Opens `count` more connections and sends their first requests. With many it waits now and
    /// then, so that at most a hundred or so are without their first chunk.
    ///
    /// # Errors
    /// Fails when a connection is refused or an answer is not what it should be.
    pub fn open(&mut self, count: usize) -> Result<(), Error> {
        for _ in 0..count {
            let stream = TcpStream::connect(self.addr)?;
            stream.set_nodelay(true)?;
            stream.set_nonblocking(true)?;
            let index = self.connections.len();
            self.poll.add(&stream, index, Interest::READ)?;
            let mut connection = Connection {
                stream,
                framing: Framing::Head,
                partial: Vec::new(),
                sent: None,
                begun: false,
                last: None,
            };
            connection.send(&self.request)?;
            self.connections.push(connection);
            self.open += 1;
            let started = Instant::now();
            while self.connections.len() as u64 > self.tally.begun + OPENING as u64 {
                self.turn(Some(Duration::from_millis(100)))?;
                if started.elapsed() > Duration::from_secs(10) {
                    return Err("no first chunk came for 10 s".into());
                }
            }
        }
        Ok(())
    }

    /// Goes on for `time` and answers what was counted in it. The answers that are open at its end
    /// stay open.
    ///
    /// # Errors
    /// Fails when an answer is not what it should be.
    pub fn run_for(&mut self, time: Duration) -> Result<Tally, Error> {
        let _ = self.take();
        let end = Instant::now() + time;
        while let Some(left) = end.checked_duration_since(Instant::now()) {
            self.turn(Some(left))?;
        }
        Ok(self.take())
    }

    /// Waits until every connection has shown its first content.
    ///
    /// # Errors
    /// Fails when that takes longer than `limit`, or an answer is not what it should be.
    pub fn wait_begun(&mut self, limit: Duration) -> Result<(), Error> {
        let end = Instant::now() + limit;
        while self
            .connections
            .iter()
            .any(|c| c.sent.is_some() && !c.begun)
        {
            let left = end.checked_duration_since(Instant::now());
            let left = left.ok_or_else(|| format!("{} streams did not begin", self.open))?;
            self.turn(Some(left))?;
        }
        Ok(())
    }

    /// Sends no more requests and waits for the open answers to end. The answer is what was
    /// counted since the last count.
    ///
    /// # Errors
    /// Fails when that takes longer than `limit`, or an answer is not what it should be.
    pub fn finish(&mut self, limit: Duration) -> Result<Tally, Error> {
        self.repeat = false;
        let end = Instant::now() + limit;
        while self.open > 0 {
            let left = end.checked_duration_since(Instant::now());
            let left = left.ok_or_else(|| format!("{} answers did not end", self.open))?;
            self.turn(Some(left))?;
        }
        Ok(self.take())
    }

    fn take(&mut self) -> Tally {
        let begun = self.tally.begun;
        let tally = std::mem::take(&mut self.tally);
        self.tally.begun = begun;
        tally
    }

    fn turn(&mut self, timeout: Option<Duration>) -> Result<(), Error> {
        self.poll.wait(timeout, &mut self.ready)?;
        for event in &self.ready {
            let Some(connection) = self.connections.get_mut(event.token) else {
                continue;
            };
            let n = match connection.stream.read(&mut self.buffer) {
                Ok(0) => return Err("the server closed a connection".into()),
                Ok(n) => n,
                Err(e) if would_block(&e) => continue,
                Err(e) => return Err(e.into()),
            };
            let bytes = self.buffer.get(..n).unwrap_or_default();
            if connection.receive(bytes, &mut self.tally)? {
                self.open -= 1;
                if self.repeat {
                    connection.send(&self.request)?;
                    self.open += 1;
                }
            }
        }
        Ok(())
    }
}

impl Connection {
    fn send(&mut self, request: &[u8]) -> Result<(), Error> {
        self.sent = Some(Instant::now());
        self.begun = false;
        self.last = None;
        self.framing = Framing::Head;
        // A small request fits into an empty socket; for a large one the kernel may want to see its beginning leave.
        let sent = self.stream.write(request)?;
        if let Some(rest) = request.get(sent..).filter(|rest| !rest.is_empty()) {
            self.stream.set_nonblocking(false)?;
            self.stream.write_all(rest)?;
            self.stream.set_nonblocking(true)?;
        }
        Ok(())
    }

    /// Reads on in the answer. True when it has ended.
    fn receive(&mut self, mut bytes: &[u8], tally: &mut Tally) -> Result<bool, Error> {
        while !bytes.is_empty() {
            match self.framing {
                Framing::Head => {
                    let Some((head, rest)) = self.until(bytes, b"\r\n\r\n") else {
                        return Ok(false);
                    };
                    self.framing = read_head(&head, rest)?;
                    bytes = rest;
                }
                Framing::ChunkSize => {
                    let Some((line, rest)) = self.until(bytes, b"\r\n") else {
                        return Ok(false);
                    };
                    let digits = std::str::from_utf8(&line)?
                        .split(';')
                        .next()
                        .unwrap_or_default();
                    let size = usize::from_str_radix(digits.trim(), 16)?;
                    self.framing = if size == 0 {
                        Framing::Trailer
                    } else {
                        Framing::Chunk(size)
                    };
                    tally.transfer_chunks += u64::from(size > 0);
                    bytes = rest;
                }
                Framing::Chunk(left) => {
                    let (body, rest) = bytes.split_at(left.min(bytes.len()));
                    self.count(body, tally);
                    bytes = rest;
                    self.framing = match left - body.len() {
                        0 => Framing::ChunkEnd,
                        left => Framing::Chunk(left),
                    };
                }
                Framing::ChunkEnd => {
                    let Some((_, rest)) = self.until(bytes, b"\r\n") else {
                        return Ok(false);
                    };
                    self.framing = Framing::ChunkSize;
                    bytes = rest;
                }
                Framing::Length(left) => {
                    let (body, rest) = bytes.split_at(left.min(bytes.len()));
                    self.count(body, tally);
                    bytes = rest;
                    self.framing = Framing::Length(left - body.len());
                    if left == body.len() {
                        return self.end(bytes, tally);
                    }
                }
                Framing::Trailer => {
                    let Some((line, rest)) = self.until(bytes, b"\r\n") else {
                        return Ok(false);
                    };
                    bytes = rest;
                    if line.is_empty() {
                        return self.end(bytes, tally);
                    }
                }
            }
        }
        Ok(false)
    }

    /// Splits off what is before `end`, together with what was left of the last read.
    fn until<'a>(&mut self, bytes: &'a [u8], end: &[u8]) -> Option<(Vec<u8>, &'a [u8])> {
        let before = self.partial.len();
        self.partial.extend_from_slice(bytes);
        let at = memchr::memmem::find(&self.partial, end)?;
        let used = at + end.len() - before;
        let mut head = std::mem::take(&mut self.partial);
        head.truncate(at);
        Some((head, bytes.get(used..).unwrap_or_default()))
    }

    fn count(&mut self, body: &[u8], tally: &mut Tally) {
        let before = tally.chunks;
        for mark in memchr::memchr_iter(MARK, body) {
            tally.chunks += 1;
            let sent = body.get(mark + 1..).and_then(sent);
            tally
                .transit
                .extend(sent.map(|sent| clock().saturating_sub(sent)));
        }
        let chunks = tally.chunks - before;
        if chunks > 0 {
            let now = Instant::now();
            if let Some(last) = self.last.replace(now) {
                tally.longest_gap = tally.longest_gap.max(now - last);
            }
        }
        if chunks > 0 && !self.begun {
            self.begun = true;
            tally.begun += 1;
            tally
                .first_chunk
                .extend(self.sent.map(|sent| sent.elapsed()));
        }
    }

    fn end(&mut self, rest: &[u8], tally: &mut Tally) -> Result<bool, Error> {
        if !rest.is_empty() {
            return Err("bytes came after the end of an answer".into());
        }
        if !self.begun {
            return Err("an answer ended without content".into());
        }
        tally.answers += 1;
        tally
            .latency
            .extend(self.sent.take().map(|sent| sent.elapsed()));
        Ok(true)
    }
}

fn read_head(head: &[u8], rest: &[u8]) -> Result<Framing, Error> {
    let text = std::str::from_utf8(head)?;
    if !text.starts_with("HTTP/1.1 200 ") {
        return Err(format!(
            "an answer was refused: {text}\n{}",
            String::from_utf8_lossy(rest)
        )
        .into());
    }
    for line in text.lines() {
        let Some((name, value)) = line.split_once(':') else {
            continue;
        };
        if name.eq_ignore_ascii_case("content-length") {
            return Ok(Framing::Length(value.trim().parse()?));
        }
        if name.eq_ignore_ascii_case("transfer-encoding") {
            return Ok(Framing::ChunkSize);
        }
    }
    Err(format!("an answer has no length: {text}").into())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use std::net::TcpListener;

    use super::*;

    fn connection() -> Connection {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        Connection {
            stream,
            framing: Framing::Head,
            partial: Vec::new(),
            sent: Some(Instant::now()),
            begun: false,
            last: None,
        }
    }

    #[test]
    fn any_split_of_an_answer_counts_the_same() {
        let chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n\
            5\r\n~abcd\r\nA;x=y\r\n~fghij~lmn\r\n0\r\n\r\n";
        let whole = b"HTTP/1.1 200 OK\r\ncontent-length: 12\r\n\r\n~abc~def~hij";
        for (answer, transfer) in [(&chunked[..], 2), (&whole[..], 0)] {
            for first in 1..answer.len() {
                let mut connection = connection();
                let mut tally = Tally::default();
                assert!(!connection.receive(&answer[..first], &mut tally).unwrap());
                assert!(connection.receive(&answer[first..], &mut tally).unwrap());
                assert_eq!(
                    (tally.chunks, tally.transfer_chunks, tally.answers),
                    (3, transfer, 1)
                );
            }
        }
    }

    #[test]
    fn a_refusal_is_shown() {
        let answer = b"HTTP/1.1 429 Too Many Requests\r\nContent-Length: 4\r\n\r\nslow";
        let error = connection()
            .receive(answer, &mut Tally::default())
            .unwrap_err()
            .to_string();
        assert!(error.contains("429") && error.contains("slow"), "{error}");
    }
}
