//! One call: a request that goes out on a pipe, and its answer.

use super::{CallError, CallTimes, HttpClient, HttpRequest, Outgoing, Wait};
use crate::pipe::{Buffer, MemoryUsedUp, Pipe};
use crate::proxy::{Origin, Route};
use mcp_local_provider_core::budget::Budget;
use mcp_local_provider_core::machine::{Move, OUTSIDE, Table};
use mcp_local_provider_core::time::Instant;
use mcp_local_provider_core::wire::http1::{
    Connection, ResponseHead, ResponsePart, ResponseReader,
};
use std::fmt;
use std::io::{self, ErrorKind};
use std::task::{Poll, Waker};
use std::time::Duration;

/// Longest head of an answer with those of all interim ones, in bytes.
const HEAD: usize = 64 << 10;

/// The moves of a call.
pub static STATES: Table = Table::new(&[
    Move::new(OUTSIDE, "Opening", "a fresh pipe"),
    Move::new(OUTSIDE, "Sending", "an idle pipe"),
    Move::new("Opening", "Sending", "the pipe takes the first bytes"),
    Move::new(
        "Opening",
        "Failed",
        "it cannot be connected to, or not in time",
    ),
    Move::new("Sending", "Opening", "the idle pipe was closed"),
    Move::new("Sending", "Waiting", "the whole request is sent"),
    Move::new(
        "Sending",
        "Receiving",
        "head of the answer, before the request is sent",
    ),
    Move::new(
        "Sending",
        "Failed",
        "broken, cut off, not HTTP, or no progress",
    ),
    Move::new(
        "Waiting",
        "Opening",
        "the idle pipe was closed, and the request may be repeated",
    ),
    Move::new("Waiting", "Receiving", "head of the answer"),
    Move::new(
        "Waiting",
        "Failed",
        "broken, cut off, not HTTP, or no answer in time",
    ),
    Move::new("Receiving", "Ended", "end of the answer"),
    Move::new(
        "Receiving",
        "Failed",
        "broken, cut off, framed wrongly, or no progress",
    ),
]);

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    /// No byte of the request was taken.
    Opening,
    /// The request goes out.
    Sending,
    /// The whole request is sent; the head of the answer is awaited.
    Waiting,
    /// The head of the answer has come. The rest of the request goes out beside the body, if there is one.
    Receiving,
    /// The answer was given to its end.
    Ended,
    /// Nothing more comes.
    Failed,
}

impl State {
    const fn name(self) -> &'static str {
        match self {
            Self::Opening => "Opening",
            Self::Sending => "Sending",
            Self::Waiting => "Waiting",
            Self::Receiving => "Receiving",
            Self::Ended => "Ended",
            Self::Failed => "Failed",
        }
    }
}

/// Part of an answer, from [`Call::poll`].
#[derive(Debug)]
pub enum Part {
    /// The head, once.
    Head(ResponseHead),
    /// Bytes of the body were appended.
    Body,
    /// The answer is complete. It is given again on every later call.
    End,
}

/// A call on its way. One that is dropped is cancelled: its connection is closed.
///
/// It reads only when it is polled, and at most 16 KiB at once, so an answer that its user does not take stays with the server.
/// `Expect: 100-continue` is not sent. An answer that comes before the whole request was sent is read while the rest goes out.
pub struct Call {
    state: State,
    pipe: Option<Box<dyn Pipe>>,
    pooled: Option<(HttpClient, Route)>,
    /// True for a pipe that was idle in the pool.
    is_reused: bool,
    outgoing: Outgoing,
    /// Bytes of the request that the pipe took.
    sent: usize,
    /// The pipe takes no more of the request. An answer may have come before.
    send_error: Option<io::Error>,
    reader: ResponseReader,
    received: Buffer,
    /// True once a byte of the answer came.
    is_answered: bool,
    times: CallTimes,
    /// The time since which there is nothing to do.
    pending: Option<Instant>,
}

impl fmt::Debug for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Call({})", self.state.name())
    }
}

impl Call {
    /// Begins a call on a pipe of its own, which is closed after the answer.
    ///
    /// # Errors
    /// [`CallError::Request`] when the request cannot be sent, [`CallError::Memory`] when there is no memory for it.
    pub fn once(
        pipe: Box<dyn Pipe>,
        origin: &Origin,
        request: HttpRequest,
        times: CallTimes,
        budget: &Budget,
    ) -> Result<Self, CallError> {
        let (target, closes) = (&*request.path, Connection::Close);
        let outgoing = Outgoing::new(&request, target, origin, None, closes, budget)?;
        let received = Buffer::new(budget);
        Ok(Self::new(
            State::Opening,
            pipe,
            None,
            outgoing,
            received,
            times,
        ))
    }

    /// Begins a call on a pipe of the pool, or on a fresh one.
    pub(super) fn pooled(
        now: Instant,
        client: HttpClient,
        route: Route,
        outgoing: Outgoing,
        times: CallTimes,
    ) -> Result<Self, CallError> {
        let (state, pipe) = match client.pool.take(now, &route) {
            Some(pipe) => (State::Sending, pipe),
            None => (State::Opening, open(&client, &route, times)?),
        };
        let received = Buffer::new(client.open.budget());
        let pooled = Some((client, route));
        Ok(Self::new(state, pipe, pooled, outgoing, received, times))
    }

    fn new(
        state: State,
        pipe: Box<dyn Pipe>,
        pooled: Option<(HttpClient, Route)>,
        outgoing: Outgoing,
        received: Buffer,
        times: CallTimes,
    ) -> Self {
        STATES.step(OUTSIDE, state.name());
        Self {
            state,
            pipe: Some(pipe),
            pooled,
            is_reused: state == State::Sending,
            reader: ResponseReader::new(outgoing.asked, HEAD),
            outgoing,
            sent: 0,
            send_error: None,
            received,
            is_answered: false,
            times,
            pending: None,
        }
    }

    fn to(&mut self, state: State) {
        if state != self.state {
            STATES.step(self.state.name(), state.name());
            self.state = state;
            self.pending = None;
        }
    }

    fn fail(&mut self, error: CallError) -> CallError {
        self.to(State::Failed);
        self.pipe = None;
        error
    }

    /// True when the connection has taken the whole request.
    #[must_use]
    pub fn is_sent(&self) -> bool {
        self.outgoing.from(self.sent).is_empty()
    }

    /// The memory that it holds: its request and what came of the answer and was not given yet, in bytes.
    #[must_use]
    pub const fn memory(&self) -> usize {
        self.outgoing.start.capacity() + self.outgoing.rest.len() + self.received.capacity()
    }

    /// The time at which the call is to be polled again though nobody woke it.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        let (limit, _) = self.wait()?;
        self.pending.map(|since| since + limit)
    }

    /// The wait of now, and its longest time.
    const fn wait(&self) -> Option<(Duration, Wait)> {
        match self.state {
            State::Opening => Some((self.times.connect, Wait::Connect)),
            State::Sending => Some((self.times.progress, Wait::Send)),
            State::Waiting => Some((self.times.answer, Wait::Answer)),
            State::Receiving => Some((self.times.progress, Wait::Body)),
            State::Ended | State::Failed => None,
        }
    }

    /// Goes on, and appends what comes of the body to `into`, at most 80 KiB at once. While it is pending, `waker` is woken when
    /// there is more to do; poll it at [`Call::poll_timeout`] at the latest.
    ///
    /// # Errors
    /// See [`CallError`]. Every later call fails with [`CallError::Failed`].
    pub fn poll(
        &mut self,
        now: Instant,
        waker: &Waker,
        into: &mut Vec<u8>,
    ) -> Poll<Result<Part, CallError>> {
        match self.state {
            State::Ended => return Poll::Ready(Ok(Part::End)),
            State::Failed => return Poll::Ready(Err(CallError::Failed)),
            State::Opening | State::Sending | State::Waiting | State::Receiving => {}
        }
        loop {
            match self.parse(now, into) {
                Ok(Some(part)) => return Poll::Ready(Ok(part)),
                Ok(None) => {}
                Err(error) => return Poll::Ready(Err(self.fail(error))),
            }
            if let Err(error) = self.send(waker) {
                return Poll::Ready(Err(self.fail(error)));
            }
            match self.receive(waker) {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(error)) => return Poll::Ready(Err(self.fail(error))),
                Poll::Pending => break,
            }
        }
        let since = *self.pending.get_or_insert(now);
        match self.wait() {
            Some((limit, wait)) if since + limit <= now => {
                Poll::Ready(Err(self.fail(CallError::Timeout(wait))))
            }
            Some(_) | None => Poll::Pending,
        }
    }

    /// Takes the next part from what was received. `None` where more has to come.
    fn parse(&mut self, now: Instant, into: &mut Vec<u8>) -> Result<Option<Part>, CallError> {
        let mut input = self.received.unread();
        let mut has_body = false;
        let part = loop {
            match self.reader.read(&mut input)? {
                ResponsePart::Body(data) => {
                    into.extend_from_slice(data);
                    has_body = true;
                }
                // They come again on the next call.
                ResponsePart::More | ResponsePart::End if has_body => break Some(Part::Body),
                ResponsePart::More => break None,
                ResponsePart::Head(head) => break Some(Part::Head(head)),
                ResponsePart::End => break Some(Part::End),
            }
        };
        let used = self.received.unread().len() - input.len();
        self.received.take(used);
        match part {
            Some(Part::Head(_)) => self.to(State::Receiving),
            Some(Part::Body) => self.pending = None,
            Some(Part::End) => self.end(now),
            None => {}
        }
        Ok(part)
    }

    /// The answer is over: a pipe that can serve another call goes back to the pool.
    fn end(&mut self, now: Instant) {
        self.to(State::Ended);
        let is_clean = self.reader.keeps()
            && self.received.unread().is_empty()
            && self.send_error.is_none()
            && self.outgoing.from(self.sent).is_empty();
        if let (true, Some(pipe), Some((client, route))) =
            (is_clean, self.pipe.take(), self.pooled.take())
        {
            client.pool.put(now, route, pipe);
        }
    }

    /// Sends what the pipe takes.
    fn send(&mut self, waker: &Waker) -> Result<(), CallError> {
        while self.send_error.is_none() {
            let rest = self.outgoing.from(self.sent);
            let Some(pipe) = self.pipe.as_mut().filter(|_| !rest.is_empty()) else {
                if self.state == State::Sending {
                    self.to(State::Waiting);
                }
                if self.is_answered {
                    // A large request takes no memory while its answer runs.
                    self.outgoing.release();
                }
                return Ok(());
            };
            match pipe.poll_write(waker, rest) {
                Poll::Pending => return Ok(()),
                Poll::Ready(Ok(0)) => self.send_error = Some(ErrorKind::WriteZero.into()),
                Poll::Ready(Ok(count)) => {
                    if count >= rest.len() {
                        pipe.expect_answer();
                    }
                    self.sent = self.sent.saturating_add(count);
                    self.pending = None;
                    if self.state == State::Opening {
                        self.to(State::Sending);
                    }
                }
                Poll::Ready(Err(error)) if self.state == State::Opening => {
                    return Err(CallError::Unreachable(error));
                }
                Poll::Ready(Err(error)) => self.send_error = Some(error),
            }
        }
        Ok(())
    }

    /// Receives what has come, or the end.
    fn receive(&mut self, waker: &Waker) -> Poll<Result<(), CallError>> {
        // Before it is open, the pipe tells its errors to who writes.
        let Some(pipe) = self.pipe.as_mut().filter(|_| self.state != State::Opening) else {
            return Poll::Pending;
        };
        let read = match self.received.poll_fill(&mut **pipe, waker) {
            Poll::Pending => return Poll::Pending,
            Poll::Ready(read) => read,
        };
        match read {
            Ok(count) if count > 0 => {
                self.is_answered = true;
                return Poll::Ready(Ok(()));
            }
            Err(error) if error.kind() == ErrorKind::OutOfMemory => {
                return Poll::Ready(Err(MemoryUsedUp.into()));
            }
            Ok(_) | Err(_) => {}
        }
        if let Some(repeated) = self.repeat() {
            return Poll::Ready(repeated);
        }
        // A request that could not be sent is the reason for all that follows.
        let error = self.send_error.take().filter(|_| !self.is_answered);
        Poll::Ready(match (error, read) {
            (Some(error), _) | (None, Err(error)) => Err(CallError::Broken(error)),
            (None, Ok(_)) => self.reader.handle_end().map_err(CallError::Answer),
        })
    }

    /// Begins anew on a fresh pipe, where the server had closed an idle one before the request came: once, and only if the
    /// request may be sent twice or was not sent at all. `None` where it may not.
    fn repeat(&mut self) -> Option<Result<(), CallError>> {
        let may_repeat = self.outgoing.repeatable || self.sent == 0;
        if !self.is_reused || self.is_answered || !may_repeat {
            return None;
        }
        let (client, route) = self.pooled.as_ref()?;
        self.pipe = match open(client, route, self.times) {
            Ok(pipe) => Some(pipe),
            Err(error) => return Some(Err(error)),
        };
        self.is_reused = false;
        self.sent = 0;
        self.send_error = None;
        self.to(State::Opening);
        Some(Ok(()))
    }
}

fn open(client: &HttpClient, route: &Route, times: CallTimes) -> Result<Box<dyn Pipe>, CallError> {
    let pipe = route.open(&*client.open, times.pipe());
    pipe.map_err(|error| CallError::Unreachable(error.into()))
}
