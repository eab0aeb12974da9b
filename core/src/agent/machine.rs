//! The machine: connections one after the other, one session, and the answers that are under way.

use super::action::{Action, Event, Lost, Stopped};
use super::decode::{FromProvider, decode};
use super::encode::{self, Piece, with_delta};
use super::request::InvocationId;
use super::states::{STATES, State, Timer, Times};
use crate::backoff::Backoff;
use crate::error::Code;
use crate::invocation::{Delta, End, Failure, Usage};
use crate::link::{CloseCode, Registration};
use crate::machine::OUTSIDE;
use crate::time::{Instant, Latest, Timeout, Timers};
use alloc::borrow::Cow;
use alloc::collections::{BTreeMap, VecDeque};
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;
use core::time::Duration;

/// Nobody waits for the answer any more: it was cancelled, its connection is lost, or it has ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("nobody waits for this answer any more")]
pub struct Cancelled;

/// An agent, over all its connections to one provider. Calls are legal in any order.
pub struct Agent {
    registration: Registration,
    times: Times,
    state: State,
    session: Option<Session>,
    /// The link may carry no other session, because it was opened with the token of one.
    is_attached: bool,
    /// Answers under way, with the number of the next chunk.
    open: BTreeMap<InvocationId, u64>,
    timers: Timers<Timer, 4>,
    backoff: Backoff,
    latest: Latest,
}

struct Session {
    name: String,
    /// Resumes it on the next connection.
    token: Option<String>,
}

impl fmt::Debug for Agent {
    /// Without the token.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Agent({}, {} open)", self.state.name(), self.open.len())
    }
}

impl Agent {
    /// An agent that dials at once. `seed` keeps its pauses apart from those of others: take it from the system's randomness.
    #[must_use]
    pub fn new(registration: Registration, times: Times, seed: u64, now: Instant) -> Self {
        STATES.step(OUTSIDE, State::Pausing.name());
        let mut timers = Timers::new();
        timers.set(Timer::Dial, Some(now));
        Self {
            registration,
            times,
            state: State::Pausing,
            session: None,
            is_attached: false,
            open: BTreeMap::new(),
            timers,
            backoff: Backoff::new(seed, times.reconnect_delay, times.reconnect_max_delay),
            latest: Latest::default(),
        }
    }

    /// Returns the token of the session, which the next dial shows instead of the agent's own.
    #[must_use]
    pub fn session_token(&self) -> Option<&str> {
        self.session.as_ref()?.token.as_deref()
    }

    /// Returns true while somebody waits for this answer.
    #[must_use]
    pub fn is_open(&self, id: &InvocationId) -> bool {
        self.open.contains_key(id)
    }

    /// Returns the time at which [`Agent::handle_timeout`] is to be called.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Timeout<Timer>> {
        self.timers.next()
    }

    /// Handles what is due.
    pub fn handle_timeout(&mut self, now: Instant, out: &mut VecDeque<Action>) {
        let now = self.latest.clamp(now);
        while let Some(timer) = self.timers.take_due(now) {
            match timer {
                Timer::Dial => self.dial(now, out),
                Timer::Ping => {
                    out.push_back(Action::Ping);
                    let until = now + self.times.heartbeat_timeout;
                    self.timers.set(Timer::Silence, Some(until));
                }
                Timer::Connect | Timer::Silence => {
                    out.push_back(Action::Close(CloseCode::NoSignOfLife));
                    self.pause(now, Lost::Silent, out);
                }
            }
        }
    }

    /// The WebSocket is open.
    pub fn handle_connected(&mut self, now: Instant, out: &mut VecDeque<Action>) {
        let now = self.latest.clamp(now);
        if self.state != State::Dialling {
            return;
        }
        self.timers.set(Timer::Connect, None);
        self.is_attached = self.session_token().is_some();
        if self.is_attached {
            self.enter(State::Serving);
            self.backoff.reset();
            out.push_back(Action::Tell(Event::Resumed));
        } else {
            self.register(out);
        }
        self.handle_alive(now);
    }

    /// The dial failed, or the connection is gone.
    pub fn handle_lost(&mut self, now: Instant, lost: Lost, out: &mut VecDeque<Action>) {
        let now = self.latest.clamp(now);
        match self.state {
            State::Pausing | State::Stopped => return,
            State::Dialling | State::Registering | State::Serving => {}
        }
        match lost {
            // Only a dial is refused.
            Lost::Refused(_) if self.state != State::Dialling => self.pause(now, lost, out),
            // The session has ended; the agent's own token may still be good.
            Lost::Refused(401 | 403) if self.session.take().is_some() => self.dial(now, out),
            Lost::Refused(status @ (400 | 401 | 403 | 404 | 405)) => {
                self.end(Stopped::Refused { status }, out);
            }
            Lost::Closed(Some(4001)) => self.end(Stopped::Replaced, out),
            Lost::Closed(Some(code @ (1009 | 4002))) => self.end(Stopped::Faulty(code), out),
            Lost::Closed(code) => {
                if code == Some(1008) {
                    self.session = None;
                }
                self.pause(now, lost, out);
            }
            Lost::Refused(_) | Lost::Broken(_) | Lost::Silent => self.pause(now, lost, out),
        }
    }

    /// Anything came from the provider: a part of a frame, a ping, a pong.
    pub fn handle_alive(&mut self, now: Instant) {
        let now = self.latest.clamp(now);
        match self.state {
            State::Registering | State::Serving => {
                self.timers.set(Timer::Silence, None);
                let ping = now + self.times.heartbeat;
                self.timers.set(Timer::Ping, Some(ping));
            }
            State::Pausing | State::Dialling | State::Stopped => {}
        }
    }

    /// A text frame came.
    pub fn handle_frame(&mut self, now: Instant, frame: &str, out: &mut VecDeque<Action>) {
        match self.state {
            State::Registering | State::Serving => self.handle_alive(now),
            State::Pausing | State::Dialling | State::Stopped => return,
        }
        match decode(frame) {
            Ok(FromProvider::Registered {
                session,
                token,
                status,
            }) => {
                if self.state == State::Registering {
                    self.enter(State::Serving);
                    self.backoff.reset();
                }
                self.session = Some(Session {
                    name: session.clone(),
                    token,
                });
                out.push_back(Action::Tell(Event::Registered { session, status }));
            }
            Ok(FromProvider::SessionStatus {
                session,
                status,
                reason,
            }) => self.session_status(session, status, reason, out),
            Ok(FromProvider::Invoke(request)) => {
                // A repeat of the id begins nothing anew.
                if !self.is_open(request.id()) {
                    self.open.insert(request.id().clone(), 0);
                    out.push_back(Action::Invoke(request));
                }
            }
            Ok(FromProvider::Cancel(id)) => {
                if self.open.remove(&id).is_some() {
                    out.push_back(Action::Cancel(id));
                }
            }
            Ok(FromProvider::Error { about, message }) => {
                if self.state == State::Registering && about.is_none() {
                    out.push_back(Action::Close(CloseCode::Normal));
                    self.end(Stopped::NotRegistered(message), out);
                } else {
                    let told = alloc::format!("the provider reports an error: {message}");
                    out.push_back(Action::Tell(Event::Complaint(told)));
                }
            }
            Ok(FromProvider::Ping(timestamp)) => {
                out.push_back(Action::Send(encode::pong(timestamp)));
            }
            Ok(FromProvider::Other) => {}
            Err(what) => out.push_back(Action::Tell(Event::Complaint(what.to_string()))),
        }
    }

    /// Ends for good: gives the session back and closes the connection.
    pub fn stop(&mut self, out: &mut VecDeque<Action>) {
        match self.state {
            State::Stopped => return,
            State::Pausing => {}
            State::Dialling | State::Registering => {
                out.push_back(Action::Close(CloseCode::Normal));
            }
            State::Serving => {
                if let Some(session) = &self.session {
                    out.push_back(Action::Send(encode::unregister(&session.name)));
                }
                out.push_back(Action::Close(CloseCode::Normal));
            }
        }
        self.end(Stopped::Asked, out);
    }

    /// Adds a piece to an answer.
    ///
    /// # Errors
    /// When nobody waits for the answer any more.
    pub fn write(
        &mut self,
        id: &InvocationId,
        piece: &Piece<'_>,
        out: &mut VecDeque<Action>,
    ) -> Result<(), Cancelled> {
        with_delta(piece, |delta| self.write_delta(id, delta, out))
    }

    /// Adds what a chunk carries to an answer. See [`websocket::piece`](crate::agents::websocket::piece) for one from JSON.
    ///
    /// # Errors
    /// When nobody waits for the answer any more.
    pub fn write_delta(
        &mut self,
        id: &InvocationId,
        delta: &Delta<'_>,
        out: &mut VecDeque<Action>,
    ) -> Result<(), Cancelled> {
        let next = self.open.get_mut(id).ok_or(Cancelled)?;
        if !delta.is_empty() {
            let frame = encode::chunk(id, *next, delta, None);
            *next = next.saturating_add(1);
            out.push_back(Action::Send(frame));
        }
        Ok(())
    }

    /// Ends an answer that is complete.
    ///
    /// # Errors
    /// When nobody waits for the answer any more.
    pub fn finish(
        &mut self,
        id: &InvocationId,
        end: End,
        out: &mut VecDeque<Action>,
    ) -> Result<(), Cancelled> {
        let next = self.open.remove(id).ok_or(Cancelled)?;
        let frame = encode::chunk(id, next, &Delta::default(), Some(end));
        out.push_back(Action::Send(frame));
        Ok(())
    }

    /// Ends an answer with vectors, one for each of [`Request::input`](super::Request::input). Numbers that are not finite make it fail.
    ///
    /// # Errors
    /// When nobody waits for the answer any more.
    pub fn embed(
        &mut self,
        id: &InvocationId,
        vectors: &[Vec<f32>],
        usage: Option<Usage>,
        out: &mut VecDeque<Action>,
    ) -> Result<(), Cancelled> {
        let Some(frame) = encode::vectors(id, vectors, usage) else {
            let failure = Failure {
                code: Code::AgentError,
                message: Cow::Borrowed("the agent made a vector with a number that is not finite"),
                retry_after: None,
            };
            return self.fail(id, &failure, out);
        };
        self.open.remove(id).ok_or(Cancelled)?;
        out.push_back(Action::Send(frame));
        Ok(())
    }

    /// Ends an answer that failed. The client sees the message.
    ///
    /// # Errors
    /// When nobody waits for the answer any more.
    pub fn fail(
        &mut self,
        id: &InvocationId,
        failure: &Failure<'_>,
        out: &mut VecDeque<Action>,
    ) -> Result<(), Cancelled> {
        self.open.remove(id).ok_or(Cancelled)?;
        out.push_back(Action::Send(encode::failure(id, failure)));
        Ok(())
    }

    fn session_status(
        &mut self,
        session: String,
        status: String,
        reason: String,
        out: &mut VecDeque<Action>,
    ) {
        let is_own = self.session.as_ref().is_some_and(|own| own.name == session);
        let revoked = status == "revoked";
        let expired = status == "expired";
        out.push_back(Action::Tell(Event::SessionStatus {
            session,
            status,
            reason,
        }));
        // Attached with its token, the agent knows the session by that alone.
        if !is_own && !self.is_attached {
            return;
        }
        if revoked {
            out.push_back(Action::Close(CloseCode::Normal));
            self.end(Stopped::Revoked, out);
        } else if expired {
            self.session = None;
            self.cancel_all(out);
            // A connection that was opened with the session's token is closed by the provider (1008).
            if !self.is_attached {
                self.register(out);
            }
        }
    }

    fn register(&mut self, out: &mut VecDeque<Action>) {
        self.enter(State::Registering);
        out.push_back(Action::Send(encode::register(&self.registration)));
    }

    fn dial(&mut self, now: Instant, out: &mut VecDeque<Action>) {
        self.enter(State::Dialling);
        self.timers
            .set(Timer::Connect, Some(now + self.times.connect));
        out.push_back(Action::Dial);
    }

    /// The connection is gone, and another one is opened after a pause.
    fn pause(&mut self, now: Instant, why: Lost, out: &mut VecDeque<Action>) {
        self.enter(State::Pausing);
        self.cancel_all(out);
        self.timers.clear();
        let pause: Duration = self.backoff.pause();
        self.timers.set(Timer::Dial, Some(now + pause));
        out.push_back(Action::Tell(Event::Lost { why, pause }));
    }

    fn end(&mut self, stopped: Stopped, out: &mut VecDeque<Action>) {
        self.enter(State::Stopped);
        self.cancel_all(out);
        self.timers.clear();
        self.session = None;
        out.push_back(Action::Stop(stopped));
    }

    fn cancel_all(&mut self, out: &mut VecDeque<Action>) {
        let open = core::mem::take(&mut self.open);
        out.extend(open.into_keys().map(Action::Cancel));
    }

    fn enter(&mut self, state: State) {
        STATES.step(self.state.name(), state.name());
        self.state = state;
    }
}
