//! The server's side of one HTTP/1.1 connection: requests in their order, deadlines, and the end of each answer.
//!
//! A driver shows the bytes that have come to [`ServerConnection::handle_read`] and does what the [`Event`] says. It answers
//! one request after the other: [`ServerConnection::answer`] frames the head, [`ServerConnection::handle_answered`] follows
//! the last byte. Bytes of a request that comes early stay with the driver until it is their turn.
//!
//! The answer says whether the connection is kept, so that is decided when its head is written. A small rest of a body that
//! nobody wanted is read before the next request (draining). Where nothing follows, but the client may still be sending, the
//! connection is read on for a moment and forgotten (lingering): to close a socket while something is unread resets the
//! connection, and the client loses the answer.

use super::ending::{Disposition, Ending, Rest};
use super::{
    BodyLength, BodyPart, BodyReader, Connection, DISCARD, FIRST_REQUEST, HeadLimits, HeadReader,
    IDLE, RequestError, RequestHead, ResponseLength, SMALL_REST, Version,
};
use crate::machine::{Move, OUTSIDE, Table};
use crate::time::{Instant, Latest};
use core::time::Duration;

/// State of a connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum State {
    /// It waits for a request, of which nothing has come.
    Idle,
    /// A part of a head has come.
    Head,
    /// A request is with the program, which has not begun to answer.
    Asked,
    /// The body of the request is read.
    Body,
    /// The head of the answer was written.
    Answering,
    /// The answer was written, and a small rest of the request's body is read.
    Draining,
    /// Nothing more is written. What the client still sends is read for a moment: say so by closing the sending side.
    Lingering,
    /// The bytes are those of another protocol.
    Upgraded,
    /// It is over: close it.
    Closed,
}

impl State {
    const fn name(self) -> &'static str {
        match self {
            Self::Idle => "Idle",
            Self::Head => "Head",
            Self::Asked => "Asked",
            Self::Body => "Body",
            Self::Answering => "Answering",
            Self::Draining => "Draining",
            Self::Lingering => "Lingering",
            Self::Upgraded => "Upgraded",
            Self::Closed => "Closed",
        }
    }
}

/// The moves of a connection.
pub static STATES: Table = Table::new(&[
    Move::new(OUTSIDE, "Idle", "accepted"),
    Move::new("Idle", "Head", "first byte of a request"),
    Move::new(
        "Idle",
        "Closed",
        "the client ends, time of idle connections over, shutdown, given up",
    ),
    Move::new("Head", "Asked", "head complete, or refused for its framing"),
    Move::new("Head", "Closed", "the client ends, timeouts.head, given up"),
    Move::new("Asked", "Body", "the body is wanted"),
    Move::new(
        "Body",
        "Asked",
        "complete, too large, framed wrongly, broken off, timeouts.body",
    ),
    Move::new("Body", "Answering", "there is no memory for the rest"),
    Move::new("Body", "Closed", "the connection broke"),
    Move::new("Asked", "Answering", "head of the answer"),
    Move::new("Asked", "Upgraded", "101"),
    Move::new("Asked", "Closed", "the client left"),
    Move::new("Answering", "Idle", "end of the answer, kept"),
    Move::new(
        "Answering",
        "Draining",
        "end of the answer, kept, a rest of the body is small",
    ),
    Move::new(
        "Answering",
        "Lingering",
        "end of the answer, not kept, something is unread",
    ),
    Move::new(
        "Answering",
        "Closed",
        "end of the answer, not kept<br/>the client left",
    ),
    Move::new("Draining", "Idle", "rest of the body"),
    Move::new(
        "Draining",
        "Lingering",
        "the rest is larger or slower than it may be, or framed wrongly",
    ),
    Move::new("Draining", "Closed", "the client ends"),
    Move::new("Lingering", "Closed", "the client ends, or 1 s is over"),
    Move::new("Upgraded", OUTSIDE, "the other protocol ends"),
    Move::new("Closed", OUTSIDE, "socket closed"),
]);

/// Limits of one connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ConnectionLimits {
    /// Sizes of a head.
    pub sizes: HeadLimits,
    /// Longest time of a head: the first counts from the beginning of the connection, every other from its first byte.
    pub head: Duration,
    /// Longest time of a body, from [`ServerConnection::read_body`] on.
    pub body: Duration,
}

/// Result of [`ServerConnection::handle_read`] and of the two other calls that end a wait.
#[derive(Debug)]
pub enum Event<'b> {
    /// Nothing to do: receive more, or see [`ServerConnection::state`].
    More,
    /// A request. Answer it, or call [`ServerConnection::read_body`] first.
    Request(RequestHead<'b>),
    /// A request whose head is refused. Answer it with the error's status; nothing may follow.
    Refused(RequestError),
    /// The next bytes of the body, never empty.
    Body(&'b [u8]),
    /// The body is over.
    End,
    /// The body cannot be read on: it is too large (413) or its framing is wrong. Answer the request; nothing may follow.
    Misframed(RequestError),
    /// The body was not there in time. Answer the request; nothing may follow.
    Late,
    /// The client ended in the middle of the body. Answer the request; nothing may follow.
    Broken,
}

/// Framing of an answer, from [`ServerConnection::answer`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct AnswerFraming {
    /// Frame of the body, for the head.
    pub length: ResponseLength,
    /// Statement about the connection, for the head.
    pub connection: Connection,
    /// False when no byte of the body is sent: the request is a HEAD, or the status has none.
    pub has_body: bool,
}

/// The machine of one connection, see the module's documentation.
#[derive(Debug)]
pub struct ServerConnection {
    state: State,
    limits: ConnectionLimits,
    heads: HeadReader,
    body: BodyReader,
    latest: Latest,
    deadline: Option<Instant>,
    is_first: bool,
    shuts_down: bool,
    version: Version,
    is_head: bool,
    keep_alive: bool,
    awaits_continue: bool,
    is_announced: bool,
    /// The end of the body cannot be found.
    is_lost: bool,
    /// Disposition after the answer that is being written.
    after: Disposition,
}

impl ServerConnection {
    /// A connection that was accepted at `now`. One that comes while the program shuts down answers once, and has half a second
    /// to ask.
    #[must_use]
    pub fn new(now: Instant, limits: ConnectionLimits, shuts_down: bool) -> Self {
        STATES.step(OUTSIDE, State::Idle.name());
        let mut latest = Latest::default();
        let now = latest.clamp(now);
        let mut connection = Self {
            state: State::Idle,
            limits,
            heads: HeadReader::new(limits.sizes),
            body: BodyReader::nothing(),
            latest,
            deadline: Some(now + limits.head),
            is_first: true,
            shuts_down: false,
            version: Version::Http11,
            is_head: false,
            keep_alive: false,
            awaits_continue: false,
            is_announced: true,
            is_lost: false,
            after: Disposition::Close,
        };
        if shuts_down {
            connection.handle_shutdown(now);
        }
        connection
    }

    /// State of the connection.
    #[must_use]
    pub const fn state(&self) -> State {
        self.state
    }

    /// True when bytes of the client are to be received for the machine. Else what comes early is left, or kept by the driver.
    #[must_use]
    pub const fn reads(&self) -> bool {
        match self.state {
            State::Idle | State::Head | State::Body | State::Draining | State::Lingering => true,
            State::Asked | State::Answering | State::Upgraded | State::Closed => false,
        }
    }

    /// The next deadline, for [`ServerConnection::handle_timeout`].
    #[must_use]
    pub const fn poll_timeout(&self) -> Option<Instant> {
        self.deadline
    }

    /// Bytes of the body that are known to come, see [`BodyReader::expected`].
    #[must_use]
    pub fn expected(&self) -> u64 {
        self.body.expected()
    }

    /// True while all that comes belongs to a body whose length was announced, so that it can be received where it is to stay.
    #[must_use]
    pub const fn reads_plain_body(&self) -> bool {
        matches!(self.state, State::Body) && self.is_announced
    }

    fn to(&mut self, state: State) {
        STATES.step(self.state.name(), state.name());
        self.state = state;
    }

    fn close(&mut self) {
        self.deadline = None;
        self.to(State::Closed);
    }

    /// Waits for the next request.
    fn rest(&mut self, now: Instant) {
        self.is_first = false;
        self.deadline = Some(now + IDLE);
        self.to(State::Idle);
    }

    fn linger(&mut self, now: Instant) {
        self.deadline = Some(now + DISCARD);
        self.to(State::Lingering);
    }

    /// Nobody knows where the request ends: it is to be answered, and nothing follows.
    fn lose(&mut self) {
        self.is_lost = true;
        self.deadline = None;
        self.to(State::Asked);
    }

    /// Takes what has come at the start of `input` and removes what was used. A head is used as a whole, so `input` begins
    /// with the same bytes and more of them until it is complete. Call again after every event but [`Event::More`].
    pub fn handle_read<'b>(&mut self, now: Instant, input: &mut &'b [u8]) -> Event<'b> {
        let now = self.latest.clamp(now);
        loop {
            match self.state {
                State::Idle if input.is_empty() => {
                    if self.shuts_down && !self.is_first {
                        self.close();
                    }
                    return Event::More;
                }
                State::Idle => {
                    if !self.is_first {
                        self.deadline = Some(now + self.limits.head);
                    }
                    self.to(State::Head);
                }
                State::Head => {
                    return match self.heads.read(input) {
                        Ok(None) => Event::More,
                        Ok(Some(head)) => {
                            *input = input.get(head.length()..).unwrap_or_default();
                            self.begin(&head);
                            Event::Request(head)
                        }
                        Err(error) => {
                            self.version = Version::Http11;
                            self.is_head = false;
                            self.keep_alive = false;
                            self.lose();
                            Event::Refused(error)
                        }
                    };
                }
                State::Body => {
                    return match self.body.read(input) {
                        Ok(BodyPart::Data(data)) => Event::Body(data),
                        Ok(BodyPart::Partial) => Event::More,
                        Ok(BodyPart::Complete) => {
                            self.deadline = None;
                            self.to(State::Asked);
                            Event::End
                        }
                        Err(error) => {
                            self.lose();
                            Event::Misframed(error)
                        }
                    };
                }
                State::Draining => match self.body.read(input) {
                    Ok(BodyPart::Data(_)) => {}
                    Ok(BodyPart::Partial) => return Event::More,
                    Ok(BodyPart::Complete) => self.rest(now),
                    Err(_) => self.linger(now),
                },
                State::Lingering => {
                    *input = &[];
                    // A client that sends without end is not waited for.
                    if self.deadline.is_none_or(|deadline| deadline <= now) {
                        self.close();
                    }
                    return Event::More;
                }
                State::Asked | State::Answering | State::Upgraded | State::Closed => {
                    return Event::More;
                }
            }
        }
    }

    fn begin(&mut self, head: &RequestHead<'_>) {
        let framing = head.framing();
        self.version = head.version();
        self.is_head = head.method() == "HEAD";
        self.keep_alive = framing.keep_alive;
        self.awaits_continue = framing.expect_continue;
        self.is_announced = framing.body != BodyLength::Chunked;
        self.is_lost = false;
        self.body = BodyReader::unlimited(framing.body);
        self.deadline = None;
        self.to(State::Asked);
    }

    /// Reads the body of the request, of at most `limit` bytes. True when the client waits for `100 Continue`, which is to be
    /// written now. The body may have ended already.
    ///
    /// # Errors
    /// 413 when its announced length is over the limit. Answer the request; nothing may follow.
    pub fn read_body(&mut self, now: Instant, limit: u64) -> Result<bool, RequestError> {
        let now = self.latest.clamp(now);
        if self.state != State::Asked || self.is_lost {
            return Ok(false);
        }
        if let Err(error) = self.body.limit(limit) {
            self.is_lost = true;
            return Err(error);
        }
        self.deadline = Some(now + self.limits.body);
        self.to(State::Body);
        Ok(core::mem::take(&mut self.awaits_continue))
    }

    /// The answer begins: frames a body of `length` bytes, or of a length that is not known yet. `closes` forbids that another
    /// request follows. Nothing more is read of the request.
    #[must_use]
    pub fn answer(&mut self, status: u16, length: Option<u64>, closes: bool) -> AnswerFraming {
        match self.state {
            State::Asked | State::Body => {
                self.deadline = None;
                self.to(State::Answering);
            }
            State::Idle
            | State::Head
            | State::Answering
            | State::Draining
            | State::Lingering
            | State::Upgraded
            | State::Closed => {}
        }
        let (mut length, keeps) = ResponseLength::answer(length, self.version, !closes);
        if status == 204 {
            length = ResponseLength::Absent;
        }
        self.after = Ending {
            keep_alive: self.keep_alive,
            rest: self.unread(),
            awaits_continue: self.awaits_continue,
            shuts_down: self.shuts_down,
            closes: !keeps,
        }
        .disposition();
        AnswerFraming {
            length,
            connection: Connection::after(self.version, self.after.keeps()),
            has_body: !self.is_head && length != ResponseLength::Absent,
        }
    }

    fn unread(&self) -> Rest {
        if self.is_lost {
            Rest::Lost
        } else if self.body.is_complete() {
            Rest::Nothing
        } else if self.is_announced {
            Rest::Announced(self.body.expected())
        } else {
            Rest::Chunks
        }
    }

    /// The last byte of the answer was written. `has_more` when bytes have come that are not used.
    pub fn handle_answered(&mut self, now: Instant, has_more: bool) {
        let now = self.latest.clamp(now);
        if self.state != State::Answering {
            return;
        }
        match self.after {
            Disposition::Keep => self.rest(now),
            Disposition::Skip => {
                // A longer rest ends in lingering.
                match self.body.limit(SMALL_REST) {
                    Ok(()) => {
                        self.deadline = Some(now + DISCARD);
                        self.to(State::Draining);
                    }
                    Err(_) => self.linger(now),
                }
            }
            Disposition::Close if !has_more => self.close(),
            Disposition::Close | Disposition::Discard => self.linger(now),
        }
    }

    /// The connection changes to another protocol; the bytes that were not used are the first of it.
    pub fn upgrade(&mut self) {
        if self.state == State::Asked {
            self.to(State::Upgraded);
        }
    }

    /// The client sends nothing more. One that ends before it has its answer has left.
    pub fn handle_end(&mut self, now: Instant) -> Event<'static> {
        let _ = self.latest.clamp(now);
        match self.state {
            State::Body => {
                self.lose();
                return Event::Broken;
            }
            State::Idle
            | State::Head
            | State::Asked
            | State::Answering
            | State::Draining
            | State::Lingering => self.close(),
            State::Upgraded | State::Closed => {}
        }
        Event::More
    }

    /// The connection is of no more use: it broke, or its place is needed.
    pub fn handle_lost(&mut self) {
        match self.state {
            State::Idle
            | State::Head
            | State::Asked
            | State::Body
            | State::Answering
            | State::Draining
            | State::Lingering => self.close(),
            State::Upgraded | State::Closed => {}
        }
    }

    /// The program begins to shut down: a connection that waits for a request ends, every other one after its answer. A
    /// client that has just connected is about to ask, and has half a second. Show it first what has come. Idempotent.
    pub fn handle_shutdown(&mut self, now: Instant) {
        let now = self.latest.clamp(now);
        if core::mem::replace(&mut self.shuts_down, true) || self.state != State::Idle {
            return;
        }
        if self.is_first {
            self.deadline = self.deadline.min(Some(now + FIRST_REQUEST));
        } else {
            self.close();
        }
    }

    /// True from the shutdown on.
    #[must_use]
    pub const fn shuts_down(&self) -> bool {
        self.shuts_down
    }

    /// Serves the deadline, if it has passed. What the client has sent before is to be received first.
    pub fn handle_timeout(&mut self, now: Instant) -> Event<'static> {
        let now = self.latest.clamp(now);
        if self.deadline.is_none_or(|deadline| deadline > now) {
            return Event::More;
        }
        match self.state {
            State::Body => {
                self.lose();
                return Event::Late;
            }
            State::Draining => self.linger(now),
            State::Idle | State::Head | State::Lingering => self.close(),
            State::Asked | State::Answering | State::Upgraded | State::Closed => {
                self.deadline = None;
            }
        }
        Event::More
    }
}

impl Drop for ServerConnection {
    fn drop(&mut self) {
        match self.state {
            State::Upgraded | State::Closed => STATES.step(self.state.name(), OUTSIDE),
            // Whoever stops at once drops it as it is.
            State::Idle
            | State::Head
            | State::Asked
            | State::Body
            | State::Answering
            | State::Draining
            | State::Lingering => {}
        }
    }
}
