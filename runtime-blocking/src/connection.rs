//! One client connection: HTTP/1.1 by the codec of the core, within the owner's limits of time and memory.
//!
//! A client that closes its sending side while it waits for an answer is taken for gone, whatever it may still read: that is
//! how a client that went away in the middle of a silent answer is noticed at once. It must not half-close before it has
//! its answer.

use crate::answering::{Client as _, Manner, write_answer, write_running};
use crate::link;
use crate::threads::{Open, Threads};
use crate::websocket::Reader;
use mcp_local_provider_core::api::Listener;
use mcp_local_provider_core::wire::http1::{
    BodyLength, BodyPart, BodyReader, Connection as After, DISCARD, Ending, FIRST_ROOM, HEAD,
    HeadLimits, HeadReader, HeadWriter, IDLE, RequestError, RequestHead, ResponseLength, Rest,
    Version, write_continue,
};
use mcp_local_provider_engine::converse::Converse;
use mcp_local_provider_engine::request::{self, Begun, Expecting, Request, Step};
use mcp_local_provider_engine::{Client, Engine};
use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::task::Waker;
use std::time::Instant;
use tungstenite::http;

/// Bytes that are read at once.
const READ: usize = 8 << 10;

/// Serves a connection to its end.
pub(crate) fn serve(threads: &Threads, client: Client, open: Open, from: SocketAddr, on: Listener) {
    let mut connection = Connection {
        client,
        threads,
        engine: threads.engine(),
        open: &open,
        address: from.ip(),
        on,
        buffer: Vec::new(),
    };
    match connection.run() {
        Ok(None) => {}
        Ok(Some(link)) => {
            let rest = std::mem::take(&mut connection.buffer);
            // From here on it counts as a link.
            drop(connection);
            let reader = Reader::accepted(open.peer().clone(), rest, link.frame_bytes());
            link::run(threads, link, open.peer(), reader);
        }
        Err(error) => tracing::debug!(peer = %from, %error, "a connection ended early"),
    }
}

struct Connection<'c> {
    client: Client,
    threads: &'c Threads,
    engine: &'c Arc<Engine>,
    open: &'c Open,
    address: IpAddr,
    on: Listener,
    /// Read and not yet used: at most one head, or a piece of a body. Without an allocation while the connection is idle.
    buffer: Vec<u8>,
}

/// Result of reading a head.
#[expect(
    clippy::large_enum_variant,
    reason = "nearly all are requests, and a box would cost each an allocation"
)]
enum Received {
    Request(Step, Framed),
    Link(http::Response<()>, Box<dyn Converse>),
}

/// Framing of a request, and the manner of its answer.
struct Framed {
    /// Missing where its end cannot be found.
    body: Option<BodyReader>,
    /// Its length was told beforehand.
    is_announced: bool,
    /// The client waits for `100 Continue`.
    expects: bool,
    manner: Manner,
}

impl Connection<'_> {
    /// Answers one request after the other. The link that the connection becomes, if it does.
    ///
    /// An idle connection keeps what its thread's stack has ever touched. The steps of a request are therefore not inlined here:
    /// each uses the same stack after the other.
    fn run(&mut self) -> io::Result<Option<Box<dyn Converse>>> {
        let mut until = Instant::now() + self.engine.config().timeouts.head;
        let mut is_first = true;
        while self.wait_for_request(is_first, &mut until)? {
            is_first = false;
            match self.read_head(until)? {
                Some(Received::Request(step, mut framed)) => {
                    if !self.follow(step, &mut framed)? {
                        self.leave(&framed);
                        return Ok(None);
                    }
                }
                Some(Received::Link(response, link)) => {
                    self.write_upgrade(&response)?;
                    return Ok(Some(link));
                }
                None => return Ok(None),
            }
        }
        Ok(None)
    }

    /// Closes. To do that while something is unread would reset the connection, and the client would lose the answer.
    fn leave(&self, framed: &Framed) {
        if !framed.is_read() || !self.buffer.is_empty() {
            self.open.peer().finish();
            self.open.peer().discard(DISCARD);
        }
    }

    /// False when there will be none. `until` is when its head has to be complete: for the first one the time counts from
    /// the beginning of the connection, for all others from their first byte.
    fn wait_for_request(&mut self, is_first: bool, until: &mut Instant) -> io::Result<bool> {
        let head = self.engine.config().timeouts.head;
        self.client.waits(&Waker::from(self.open.peer().clone()));
        if !self.buffer.is_empty() {
            *until = Instant::now() + head;
            return Ok(true);
        }
        self.buffer = Vec::new();
        let peer = self.open.peer();
        peer.set_idle(true);
        // In this order: who begins a shutdown sets its mark before it looks for idle connections.
        let ends = self.engine.is_draining() && !is_first;
        let idle = if is_first {
            *until
        } else {
            Instant::now() + IDLE
        };
        let came = if ends {
            Err(ErrorKind::TimedOut.into())
        } else {
            peer.wait_readable(Some(idle))
        };
        peer.set_idle(false);
        if !is_first {
            *until = Instant::now() + head;
        }
        Ok(came.is_ok())
    }

    /// Reads a head and begins its request; `None` when the connection ends before.
    #[inline(never)]
    fn read_head(&mut self, until: Instant) -> io::Result<Option<Received>> {
        let mut reader = HeadReader::new(HeadLimits {
            head: HEAD,
            ..HeadLimits::default()
        });
        loop {
            match reader.read(&self.buffer) {
                // It was given up for a new connection just before.
                Ok(Some(_)) if !self.client.begins() => return Ok(None),
                Ok(Some(head)) => {
                    let length = head.length();
                    let received = self.begin(&head);
                    self.buffer.drain(..length);
                    return Ok(Some(received));
                }
                Err(error) => return Ok(Some(self.misframed(error))),
                Ok(None) => {}
            }
            let most = READ.min(HEAD + 1 - self.buffer.len().min(HEAD));
            match self.open.peer().read_more(&mut self.buffer, most, until) {
                Ok(0) => return Ok(None),
                // A client that is slow with its head is cut without a word.
                Err(error) if error.kind() == ErrorKind::TimedOut => return Ok(None),
                read => read?,
            };
        }
    }

    fn begin(&self, head: &RequestHead<'_>) -> Received {
        let request = Request::new(head.method(), head.path_and_query(), self.address, |name| {
            head.last_header(name)
        });
        let step = match request::begin(self.engine, self.on, &request) {
            Begun::Step(step) => step,
            Begun::Upgrade(upgrade) => match upgrade.accept(&handshake(head)) {
                Ok((response, link)) => return Received::Link(response, link),
                Err(answer) => Step::Answer(*answer),
            },
        };
        let limit = self.engine.config().limits.body_bytes;
        let limit = u64::try_from(limit).unwrap_or(u64::MAX);
        match BodyReader::new(head.framing().body, limit) {
            Ok(body) => Received::Request(step, Framed::new(head, Some(body))),
            Err(_) => {
                // Known to be too large before any of it came.
                let step = match step {
                    Step::Body(expecting) => Step::Answer(expecting.too_large()),
                    Step::Answer(_) | Step::Report(_) | Step::Running(_) => step,
                };
                Received::Request(step, Framed::new(head, None))
            }
        }
    }

    fn misframed(&self, error: RequestError) -> Received {
        let answer = request::misframed(self.engine, self.address, error);
        Received::Request(Step::Answer(answer), Framed::broken())
    }

    /// Goes with a request to the end of its answer. True when another request may follow.
    #[inline(never)]
    fn follow(&mut self, mut step: Step, framed: &mut Framed) -> io::Result<bool> {
        loop {
            step = match step {
                Step::Body(expecting) => self.read_body(*expecting, framed)?,
                Step::Report(report) => Step::Answer(report.answer(self.engine.usage())),
                Step::Answer(answer) => {
                    self.settle(framed, answer.head.closes());
                    let client = &mut self.open.peer();
                    write_answer(self.engine, client, &answer, &mut framed.manner)?;
                    return self.skip_body(framed);
                }
                Step::Running(running) => {
                    self.settle(framed, false);
                    // What it was read into is free while the answer takes its time.
                    self.buffer.shrink_to_fit();
                    let client = &mut self.open.peer();
                    write_running(self.threads, client, *running, &mut framed.manner)?;
                    return self.skip_body(framed);
                }
            };
        }
    }

    #[inline(never)]
    fn read_body(&mut self, mut expecting: Expecting, framed: &mut Framed) -> io::Result<Step> {
        if std::mem::take(&mut framed.expects) {
            let mut interim = Vec::new();
            write_continue(&mut interim);
            self.open.peer().write([&interim, &[], &[], &[]])?;
        }
        let until = Instant::now() + self.engine.config().timeouts.body;
        let announced = framed.body.as_ref().map_or(0, BodyReader::expected);
        let announced = usize::try_from(announced).unwrap_or(usize::MAX);
        let mut body = Vec::with_capacity(announced.min(FIRST_ROOM));
        loop {
            match self.read_body_part(framed, until, |data| body.extend_from_slice(data)) {
                Ok(true) if expecting.hold(body.capacity()) => {}
                Ok(true) => return Ok(Step::Answer(expecting.overloaded())),
                Ok(false) => return Ok(expecting.complete(body)),
                Err(Unread::Framing(error)) => {
                    return Ok(Step::Answer(if error.status == 413 {
                        expecting.too_large()
                    } else {
                        expecting.misframed(error)
                    }));
                }
                Err(Unread::Late) => return Ok(Step::Answer(expecting.too_slow())),
                Err(Unread::Ended) => return Ok(Step::Answer(expecting.broken())),
            }
        }
    }

    /// Takes from the body what there is, waiting for more if there is nothing; false when it is complete.
    fn read_body_part(
        &mut self,
        framed: &mut Framed,
        until: Instant,
        mut take: impl FnMut(&[u8]),
    ) -> Result<bool, Unread> {
        let Some(body) = &mut framed.body else {
            return Err(Unread::Ended);
        };
        let mut input = self.buffer.as_slice();
        let complete = loop {
            match body.read(&mut input) {
                Ok(BodyPart::Data(data)) => take(data),
                Ok(BodyPart::Partial) => break false,
                Ok(BodyPart::Complete) => break true,
                Err(error) => {
                    framed.body = None;
                    return Err(Unread::Framing(error));
                }
            }
        };
        let used = self.buffer.len() - input.len();
        self.buffer.drain(..used);
        if complete {
            return Ok(false);
        }
        match self.open.peer().read_more(&mut self.buffer, READ, until) {
            // What is there came in time, however late it is read: who is late is waited for in vain.
            Ok(1..) => Ok(true),
            ended => {
                framed.body = None;
                Err(match ended {
                    Err(error) if error.kind() == ErrorKind::TimedOut => Unread::Late,
                    _ => Unread::Ended,
                })
            }
        }
    }

    /// Decides whether the connection is kept, before the answer says so.
    fn settle(&self, framed: &mut Framed, closes: bool) {
        let ending = Ending {
            keep_alive: framed.manner.keep,
            rest: framed.rest(),
            awaits_continue: framed.expects,
            draining: self.engine.is_draining(),
            closes,
        };
        framed.manner.keep = ending.disposition().keeps();
    }

    /// Reads what the client sent and nobody wanted, when that is little. True when another request may follow.
    fn skip_body(&mut self, framed: &mut Framed) -> io::Result<bool> {
        let until = Instant::now() + DISCARD;
        while framed.manner.keep {
            match self.read_body_part(framed, until, |_| {}) {
                Ok(true) => {}
                Ok(false) => return Ok(true),
                Err(_) => return Ok(false),
            }
        }
        Ok(false)
    }

    #[inline(never)]
    fn write_upgrade(&self, response: &http::Response<()>) -> io::Result<()> {
        let mut out = Vec::with_capacity(256);
        let date = self.engine.date();
        let (length, after) = (ResponseLength::Absent, After::Upgrade);
        let mut writer = HeadWriter::new(&mut out, 101, length, after, date.as_deref());
        for (name, value) in response.headers() {
            if name != http::header::CONNECTION {
                writer.header(name.as_str(), value.as_bytes());
            }
        }
        writer
            .finish()
            .map_err(|invalid| io::Error::other(invalid.to_string()))?;
        self.open.peer().write([&out, &[], &[], &[]])
    }
}

/// Reason why a body was not read to its end.
enum Unread {
    Framing(RequestError),
    Late,
    Ended,
}

impl Framed {
    fn new(head: &RequestHead<'_>, body: Option<BodyReader>) -> Self {
        let framing = head.framing();
        Self {
            manner: Manner {
                version: head.version(),
                is_head: head.method() == "HEAD",
                keep: framing.keep_alive,
            },
            body,
            is_announced: framing.body != BodyLength::Chunked,
            expects: framing.expect_continue,
        }
    }

    /// Of a request whose head is wrong.
    const fn broken() -> Self {
        Self {
            body: None,
            is_announced: false,
            expects: false,
            manner: Manner {
                version: Version::Http11,
                is_head: false,
                keep: false,
            },
        }
    }

    fn is_read(&self) -> bool {
        self.body.as_ref().is_some_and(BodyReader::is_complete)
    }

    /// Returns the rest of the body that is unread.
    fn rest(&self) -> Rest {
        match &self.body {
            None => Rest::Lost,
            Some(body) if body.is_complete() => Rest::Nothing,
            Some(body) if self.is_announced => Rest::Announced(body.expected()),
            Some(_) => Rest::Chunks,
        }
    }
}

/// The head as tungstenite wants it; one that it cannot take is no handshake either.
fn handshake(head: &RequestHead<'_>) -> http::Request<()> {
    let mut request = http::Request::builder()
        .method(head.method())
        .uri(head.path_and_query())
        .version(match head.version() {
            Version::Http10 => http::Version::HTTP_10,
            Version::Http11 => http::Version::HTTP_11,
        });
    for (name, value) in head.headers() {
        request = request.header(name, value);
    }
    request.body(()).unwrap_or_default()
}
