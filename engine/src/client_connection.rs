//! One client's connection, from the bytes that come to the bytes that go, without input or output.
//!
//! A driver asks [`ClientConnection::poll`] what is next, does it, and asks again:
//!
//! ```text
//! Receive ── receive, late           Write ───── unwritten, wrote      Measure ── measured
//! Wait ───── receive, end            Upgraded ── into_conversation     Finish, Close
//! ```
//!
//! A client that closes its sending side while it waits for an answer is taken for gone, whatever it may still read: that is
//! how a client that went away in the middle of a silent answer is noticed at once. It must not half-close before it has its
//! answer.
//!
//! The stack of a thread that waits in a connection keeps the memory of the deepest call that it made. What is large and seldom
//! is therefore not inlined into the calls that lead to the deepest one, the parser of a request.

use crate::answer::{Answer, Head};
use crate::connections::Client;
use crate::converse::Converse;
use crate::outside::Usage;
use crate::request::{self, Begun, Expecting, Report, Request, Step, Upgrade, Upgraded};
use crate::running::{Progress, Running};
use crate::upgrade::SWITCHING;
use mcp_local_provider_core::api::Listener;
use mcp_local_provider_core::time::Instant;
use mcp_local_provider_core::wire::http1::{
    AnswerFraming, BodyLength, CHUNK_END, CHUNK_END_AND_LAST, Connection, ConnectionLimits, Event,
    FIRST_ROOM, HEAD, HeadLimits, HeadWriter, LAST_CHUNK, RequestError, RequestHead,
    ResponseLength, ServerConnection, State, Version, write_chunk_size, write_continue,
};
use std::fmt;
use std::io;
use std::mem;
use std::net::IpAddr;
use std::task::Waker;
use tungstenite::http;

/// Bytes of requests that come early, beyond which nothing is received.
const EARLY: usize = 8 << 10;

/// Room for the head of an answer, in bytes.
const ANSWER_HEAD: usize = 512;

/// Largest buffer that is kept for the next piece of an answer, in bytes.
const KEPT: usize = 1 << 10;

/// Largest buffer that is kept for the line before the next piece, in bytes.
const KEPT_LINE: usize = 64;

/// Next step of a driver with a connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use]
pub enum Next {
    /// [`ClientConnection::receive`], until this time.
    Receive(Option<Instant>),
    /// Write [`ClientConnection::unwritten`].
    Write,
    /// Poll again when the waker for answers is woken, or at this time. Watch for the end of the client meanwhile.
    Wait(Option<Instant>),
    /// Find out what the process uses.
    Measure,
    /// Close the sending side: nothing more is written.
    Finish,
    /// Take the WebSocket.
    Upgraded,
    /// Close the connection.
    Close,
}

/// Wakers of the task or thread that serves a connection.
pub trait Wakers {
    /// Returns the waker of a connection that waits for a request, for whoever gives it up.
    fn idle(&mut self) -> &Waker;

    /// Returns the waker of a request that waits for its answer.
    fn answer(&mut self) -> &Waker;
}

/// Work for the request at hand.
#[derive(Default)]
enum Work {
    #[default]
    Nothing,
    Receiving(Box<Expecting>, Vec<u8>),
    Measuring(Box<Report>),
    Running(Box<Running>),
    Upgraded(Box<dyn Converse>),
}

/// Bytes on their way to the client: `start`, `body` and `end`, of which the first `written` are gone.
#[derive(Default)]
struct Output {
    start: Vec<u8>,
    body: Vec<u8>,
    end: &'static [u8],
    written: usize,
}

impl Output {
    const fn length(&self) -> usize {
        self.start.len() + self.body.len() + self.end.len()
    }

    fn unwritten(&self) -> [&[u8]; 3] {
        let mut skip = self.written;
        [&self.start, &self.body, self.end].map(|part: &[u8]| {
            let from = skip.min(part.len());
            skip -= from;
            part.get(from..).unwrap_or_default()
        })
    }

    /// Forgets what was written. What held much is given back.
    fn clear(&mut self) {
        self.written = 0;
        self.end = &[];
        for (buffer, kept) in [(&mut self.start, KEPT_LINE), (&mut self.body, KEPT)] {
            if buffer.capacity() > kept {
                *buffer = Vec::new();
            }
            buffer.clear();
        }
    }
}

/// See the module's documentation. Dropping it means that the client has gone: whoever works for its request is told.
pub struct ClientConnection {
    http: ServerConnection,
    client: Client,
    address: IpAddr,
    on: Listener,
    now: Instant,
    /// Received and not used yet: the start of a head, or requests that came early. Without an allocation while it is empty.
    input: Vec<u8>,
    work: Work,
    /// Of the answer that is being written.
    framing: AnswerFraming,
    output: Output,
    is_finished: bool,
}

impl fmt::Debug for ClientConnection {
    /// Without what is said on it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "ClientConnection({}, {:?})",
            self.address,
            self.http.state()
        )
    }
}

impl ClientConnection {
    /// A connection that was accepted just now from `address`, on a listener of that kind.
    #[must_use]
    pub fn new(client: Client, address: IpAddr, on: Listener) -> Self {
        let engine = client.engine();
        let timeouts = &engine.config().timeouts;
        let limits = ConnectionLimits {
            sizes: HeadLimits {
                head: HEAD,
                ..HeadLimits::default()
            },
            head: timeouts.head,
            body: timeouts.body,
        };
        let now = engine.now();
        Self {
            http: ServerConnection::new(now, limits, engine.is_draining()),
            now,
            client,
            address,
            on,
            input: Vec::new(),
            work: Work::Nothing,
            framing: AnswerFraming {
                length: ResponseLength::Absent,
                connection: Connection::Implied,
                has_body: false,
            },
            output: Output::default(),
            is_finished: false,
        }
    }

    /// Begins a turn, in which nothing waits.
    fn turn(&mut self) -> Instant {
        self.now = self.client.engine().clock();
        self.now
    }

    /// True while nothing of a request is there.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.http.state() == State::Idle
    }

    /// True when requests, or the beginning of one, have come behind the one at hand.
    #[must_use]
    pub const fn has_early(&self) -> bool {
        !self.input.is_empty()
    }

    /// The answer that is awaited or on its way.
    #[doc(hidden)]
    #[must_use]
    pub const fn running(&self) -> Option<&Running> {
        match &self.work {
            Work::Running(running) => Some(running),
            Work::Nothing | Work::Receiving(..) | Work::Measuring(_) | Work::Upgraded(_) => None,
        }
    }

    /// True when a shutdown has begun that the connection does not know of yet: poll it.
    #[must_use]
    pub fn misses_shutdown(&self) -> bool {
        self.client.engine().is_draining() && !self.http.shuts_down()
    }

    /// Goes on, and says what is next.
    pub fn poll(&mut self, wakers: &mut dyn Wakers) -> Next {
        let mut now = self.turn();
        loop {
            if self.output.length() > 0 {
                return Next::Write;
            }
            match &mut self.work {
                Work::Running(running) => {
                    if let Progress::Until(until) = running.poll(now, wakers.answer()) {
                        self.give_room_back();
                        return Next::Wait(until);
                    }
                    self.produce();
                    continue;
                }
                Work::Measuring(_) => return Next::Measure,
                Work::Upgraded(_) => return Next::Upgraded,
                Work::Nothing | Work::Receiving(..) => {}
            }
            match self.http.state() {
                State::Answering => {
                    self.http.handle_answered(now, !self.input.is_empty());
                }
                State::Lingering if !mem::replace(&mut self.is_finished, true) => {
                    return Next::Finish;
                }
                // A request that nobody works for would be a fault of ours.
                State::Closed | State::Upgraded | State::Asked => return Next::Close,
                State::Idle | State::Head | State::Body | State::Draining | State::Lingering => {
                    if let Some(next) = self.read(now, wakers) {
                        return next;
                    }
                    // To read a request takes its time.
                    if let Work::Running(_) = self.work {
                        now = self.turn();
                    }
                }
            }
        }
    }

    /// Shows the machine what has come. What to wait for, if that changes nothing.
    #[inline(never)]
    fn read(&mut self, now: Instant, wakers: &mut dyn Wakers) -> Option<Next> {
        let mut input = self.input.as_slice();
        let event = self.http.handle_read(now, &mut input);
        let used = self.input.len() - input.len();
        match event {
            Event::Request(head) => {
                // It was given up for a new connection just before.
                if !self.client.begins() {
                    self.http.handle_lost();
                    return None;
                }
                let begun = begin(&self.client, self.address, self.on, &head);
                self.input.drain(..used);
                match begun {
                    Ok(step) => self.follow(now, step),
                    Err(upgraded) => self.upgrade(*upgraded),
                }
            }
            Event::Body(data) => {
                if let Work::Receiving(_, body) = &mut self.work {
                    body.extend_from_slice(data);
                }
                self.input.drain(..used);
                self.hold();
            }
            Event::More => {
                self.input.drain(..used);
                return self.wait(now, wakers);
            }
            Event::End => {
                self.input.drain(..used);
                if let Work::Receiving(expecting, body) = mem::take(&mut self.work) {
                    let step = expecting.complete(body);
                    self.follow(now, step);
                }
            }
            Event::Refused(error) => self.refuse_head(error),
            Event::Misframed(error) => self.refuse_body(|expecting| {
                if error.status == 413 {
                    expecting.too_large()
                } else {
                    expecting.misframed(error)
                }
            }),
            Event::Late => self.refuse_body(Expecting::too_slow),
            Event::Broken => self.refuse_body(Expecting::broken),
        }
        None
    }

    #[inline(never)]
    fn refuse_head(&mut self, error: RequestError) {
        let answer = request::misframed(self.client.engine(), self.address, error);
        self.answer(answer);
    }

    /// Nothing has come that changes anything.
    fn wait(&mut self, now: Instant, wakers: &mut dyn Wakers) -> Option<Next> {
        match self.http.state() {
            State::Idle | State::Head => {
                if self.client.engine().is_draining() {
                    self.http.handle_shutdown(now);
                }
                if !self.client.stays() {
                    self.http.handle_lost();
                }
                if self.http.state() == State::Closed {
                    return None;
                }
                self.client.waits(wakers.idle());
            }
            State::Body | State::Draining | State::Lingering => {}
            State::Asked | State::Answering | State::Upgraded | State::Closed => return None,
        }
        self.give_room_back();
        Some(Next::Receive(self.http.poll_timeout()))
    }

    /// A connection that waits holds no room for what may come.
    fn give_room_back(&mut self) {
        if self.input.is_empty() {
            self.input = Vec::new();
        }
    }

    /// True while all that comes belongs to a body, which it can be received into.
    fn receives_body(&self) -> bool {
        self.input.is_empty() && self.http.reads_plain_body()
    }

    /// Receives once, by `receive`, which adds to what it is given at most as much as [`room`](crate::listen::room) says and returns the
    /// number of bytes, 0 at the end of the client. An end while an answer is awaited means that the client has left.
    ///
    /// # Errors
    /// Those of `receive`; nothing was received then.
    pub fn receive(
        &mut self,
        receive: impl FnOnce(&mut Vec<u8>) -> io::Result<usize>,
    ) -> io::Result<()> {
        match receive(self.room()) {
            Ok(0) => self.end(),
            Ok(count) => self.received(count),
            Err(error) => {
                self.give_room_back();
                return Err(error);
            }
        }
        Ok(())
    }

    fn room(&mut self) -> &mut Vec<u8> {
        if self.receives_body()
            && let Work::Receiving(_, body) = &mut self.work
        {
            if body.len() == body.capacity() {
                // Room for more than what has come is made once that has come.
                let more = usize::try_from(self.http.expected()).unwrap_or(usize::MAX);
                body.reserve_exact(more.clamp(1, body.len().max(FIRST_ROOM)));
            }
            return body;
        }
        &mut self.input
    }

    fn received(&mut self, count: usize) {
        if !self.receives_body() {
            return;
        }
        let now = self.turn();
        if let Work::Receiving(_, body) = &mut self.work {
            let from = body.len().saturating_sub(count);
            let mut input = body.get(from..).unwrap_or_default();
            // It is where it is to stay.
            let _ = self.http.handle_read(now, &mut input);
            let rest = input.len();
            self.input = body.split_off(body.len() - rest);
            self.hold();
        }
    }

    /// True while an answer is awaited and there is room for requests that come early.
    #[must_use]
    pub const fn has_early_room(&self) -> bool {
        self.input.len() < EARLY
    }

    /// The client sends nothing more, or is gone. Whoever works for its answer is told.
    pub fn end(&mut self) {
        let now = self.turn();
        if let Work::Running(_) = &self.work {
            self.work = Work::Nothing;
        }
        if let Event::Broken = self.http.handle_end(now) {
            self.refuse_body(Expecting::broken);
        }
    }

    /// The time of [`Next::Receive`] has come, and the kernel has nothing from the client.
    pub fn late(&mut self) {
        let now = self.turn();
        if let Event::Late = self.http.handle_timeout(now) {
            self.refuse_body(Expecting::too_slow);
        }
    }

    /// Returns the bytes to write, in order.
    #[must_use]
    pub fn unwritten(&self) -> [&[u8]; 3] {
        self.output.unwritten()
    }

    /// The first `count` of [`ClientConnection::unwritten`] were written.
    pub fn wrote(&mut self, count: usize) {
        self.output.written += count;
        if self.output.written >= self.output.length() {
            self.output.clear();
        }
    }

    /// Takes the figures that [`Next::Measure`] asks for.
    #[inline(never)]
    pub fn measured(&mut self, usage: Usage) {
        // It was measured meanwhile.
        self.turn();
        if let Work::Measuring(report) = mem::take(&mut self.work) {
            self.answer(report.answer(usage));
        }
    }

    /// Takes our side of the WebSocket that the connection has become, and the first bytes of the agent.
    #[must_use]
    pub fn into_conversation(self) -> Option<(Box<dyn Converse>, Vec<u8>)> {
        match self.work {
            Work::Upgraded(link) => Some((link, self.input)),
            Work::Nothing | Work::Receiving(..) | Work::Measuring(_) | Work::Running(_) => None,
        }
    }

    #[inline(never)]
    fn follow(&mut self, now: Instant, step: Step) {
        match step {
            Step::Answer(answer) => self.answer(answer),
            Step::Report(report) => self.work = Work::Measuring(Box::new(report)),
            Step::Running(running) => self.work = Work::Running(running),
            Step::Body(expecting) => {
                let limit = self.client.engine().config().limits.body_bytes;
                match self
                    .http
                    .read_body(now, u64::try_from(limit).unwrap_or(u64::MAX))
                {
                    Ok(is_awaited) => {
                        if is_awaited {
                            write_continue(&mut self.output.start);
                        }
                        let room = usize::try_from(self.http.expected()).unwrap_or(usize::MAX);
                        let body = Vec::with_capacity(room.min(FIRST_ROOM));
                        self.work = Work::Receiving(expecting, body);
                    }
                    Err(_) => self.answer(expecting.too_large()),
                }
            }
        }
    }

    /// Counts the body against the memory of the program.
    fn hold(&mut self) {
        if let Work::Receiving(expecting, body) = &mut self.work
            && !expecting.hold(body.capacity())
        {
            self.refuse_body(Expecting::overloaded);
        }
    }

    /// Answers in the place of the body, of which nothing more is read.
    #[inline(never)]
    fn refuse_body(&mut self, answer: impl FnOnce(Box<Expecting>) -> Answer) {
        if let Work::Receiving(expecting, _) = mem::take(&mut self.work) {
            self.answer(answer(expecting));
        }
    }

    #[inline(never)]
    fn upgrade(&mut self, (response, link): Upgraded) {
        self.http.upgrade();
        let date = self.client.engine().date(self.now);
        let (length, upgrade) = (ResponseLength::Absent, Connection::Upgrade);
        let out = &mut self.output.start;
        let mut writer = HeadWriter::new(out, SWITCHING, length, upgrade, date);
        for (name, value) in response.headers() {
            if name != http::header::CONNECTION {
                writer.header(name.as_str(), value.as_bytes());
            }
        }
        match writer.finish() {
            Ok(()) => self.work = Work::Upgraded(link),
            Err(invalid) => tracing::error!(%invalid, "an agent is not answered"),
        }
    }

    /// Begins an answer whose body has `length` bytes, if that is known.
    fn begin_answer(&mut self, head: &Head, length: Option<usize>) {
        let engine = self.client.engine();
        if engine.is_draining() {
            self.http.handle_shutdown(self.now);
        }
        let length = length.map(|length| u64::try_from(length).unwrap_or(u64::MAX));
        self.framing = self.http.answer(head.status(), length, head.closes());
        let AnswerFraming {
            length, connection, ..
        } = self.framing;
        let start = &mut self.output.start;
        start.reserve(ANSWER_HEAD);
        head.write(start, length, connection, engine.date(self.now));
    }

    fn answer(&mut self, answer: Answer) {
        self.begin_answer(&answer.head, Some(answer.body.len()));
        if self.framing.has_body {
            self.output.body = answer.body;
        }
    }

    /// Moves what a running answer has to the output.
    #[inline(never)]
    fn produce(&mut self) {
        let Work::Running(running) = &mut self.work else {
            return;
        };
        let (head, ended) = (running.take_head(), running.has_ended());
        let body = mem::replace(running.body(), mem::take(&mut self.output.body));
        if ended {
            self.work = Work::Nothing;
        }
        match head {
            Some(head) if !head.is_streamed() => return self.answer(Answer { head, body }),
            Some(head) => self.begin_answer(&head, None),
            None => {}
        }
        if !self.framing.has_body {
            return;
        }
        if self.framing.length == ResponseLength::Chunked {
            if !body.is_empty() {
                write_chunk_size(&mut self.output.start, body.len());
            }
            self.output.end = match (body.is_empty(), ended) {
                (true, true) => LAST_CHUNK,
                (true, false) => &[],
                (false, true) => CHUNK_END_AND_LAST,
                (false, false) => CHUNK_END,
            };
        }
        self.output.body = body;
    }
}

/// Begins a request; or gives the response that makes it a WebSocket, and our side of it.
#[inline(never)]
fn begin(
    client: &Client,
    address: IpAddr,
    on: Listener,
    head: &RequestHead<'_>,
) -> Result<Step, Box<Upgraded>> {
    let request = Request::new(head.method(), head.path_and_query(), address, head);
    match request::begin(client.engine(), on, &request) {
        Begun::Step(step) => Ok(step),
        Begun::Upgrade(upgrade) if head.framing().body != BodyLength::Exact(0) => Ok(Step::Answer(
            upgrade.refuse("a request that changes the protocol has no body"),
        )),
        Begun::Upgrade(upgrade) => accept(upgrade, head),
    }
}

/// Accepts a WebSocket, or says why not.
#[inline(never)]
fn accept(upgrade: Upgrade, head: &RequestHead<'_>) -> Result<Step, Box<Upgraded>> {
    match upgrade.accept(&handshake(head)) {
        Ok(upgraded) => Err(Box::new(upgraded)),
        Err(answer) => Ok(Step::Answer(*answer)),
    }
}

/// Returns the head as tungstenite wants it; one that it cannot take is no handshake either.
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
