//! Completions over a WebSocket: the first message of the client is the body of a completion, and what happens is told in messages
//! with their `type`. `{"type":"cancel"}` cancels it. Each socket is one completion, and closes behind its end.

use super::Engine;
use super::converse::{Converse, Frame, ToWrite, Turn};
use super::registry_completions::{Completing, Post, Seen};
use super::registry_handle::RegistryHandle;
use crate::ranked::{Ranked, SOCKET};
use event_listener::EventListener;
use mcp_local_provider_core::budget::STEP;
use mcp_local_provider_core::error::Refusal;
use mcp_local_provider_core::id::ExchangeId;
use mcp_local_provider_core::link::CloseCode;
use mcp_local_provider_core::text::JsonValue;
use mcp_local_provider_core::time::Instant;
use mcp_local_provider_registry::{CompletionEvent, Failure};
use std::collections::VecDeque;
use std::fmt;
use std::mem;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Waker};

/// Pings without an answer after which the client is taken for lost.
const PINGS: u8 = 2;

/// Our side of a socket.
pub(super) struct Socket {
    engine: Arc<Engine>,
    cell: RegistryHandle,
    id: ExchangeId,
    inner: Ranked<Inner, SOCKET>,
}

struct Inner {
    state: State,
    /// Frames that were not taken.
    own: VecDeque<Frame>,
    drain: EventListener,
    close: Option<CloseCode>,
    ping: Instant,
    unanswered: u8,
    /// Who writes has something to do.
    has_changed: bool,
}

enum State {
    /// The body is to come, from this caller.
    Asked(Post),
    /// It goes on, or is looked at by who writes: then there is none here.
    Open(Arc<str>, Option<Box<Completing>>),
    /// It is over, or the client has gone.
    Over,
}

impl Inner {
    fn say(&mut self, event: &CompletionEvent<'_>) {
        self.own.push_back(Frame::Text(event.message()));
        self.has_changed = true;
    }

    /// Closes the socket behind what is said.
    fn end(&mut self, code: CloseCode) {
        self.close.get_or_insert(code);
        self.has_changed = true;
    }

    fn refuse(&mut self, failure: &Failure) {
        self.say(&CompletionEvent::Error(failure));
    }
}

impl Socket {
    /// The socket of the request `id`; a client may ask as `post` says.
    pub(super) fn new(engine: &Arc<Engine>, id: ExchangeId, post: Post) -> Result<Self, Refusal> {
        let cell = engine
            .registry()
            .ok_or_else(super::registry_request::is_off)?;
        let inner = Inner {
            state: State::Asked(post),
            own: VecDeque::new(),
            drain: engine.listen_for_drain(),
            close: None,
            ping: engine.clock() + engine.config().timeouts.keep_alive,
            unanswered: 0,
            has_changed: false,
        };
        Ok(Self {
            engine: engine.clone(),
            cell: cell.clone(),
            id,
            inner: Ranked::new(inner),
        })
    }

    /// Takes a message of the client.
    fn take(&self, text: &str) {
        let post = {
            let mut inner = self.inner.lock();
            match mem::replace(&mut inner.state, State::Over) {
                State::Asked(post) => post,
                State::Open(id, completing) => {
                    inner.state = State::Open(id.clone(), completing);
                    drop(inner);
                    return self.take_later(text, Some(&id));
                }
                State::Over => {
                    drop(inner);
                    return self.take_later(text, None);
                }
            }
        };
        // The hub is asked, which no lock of a socket may be held for.
        let begun = post.begin(&self.engine, self.id, &self.cell, text.as_bytes());
        let mut inner = self.inner.lock();
        match begun {
            Ok(completing) => {
                let id = completing.id().clone();
                inner.state = State::Open(id, Some(Box::new(completing)));
                inner.has_changed = true;
            }
            Err(failure) => {
                inner.refuse(&failure);
                inner.end(CloseCode::Normal);
            }
        }
    }

    /// Takes a message behind the body.
    fn take_later(&self, text: &str, id: Option<&str>) {
        let kind = JsonValue::read(text).and_then(|it| it.member("type")?.text());
        if kind.as_deref() != Some("cancel") {
            let why = "a completion has begun on this socket; `{\"type\":\"cancel\"}` is all that it takes now, and another \
                       completion wants another socket";
            return self.inner.lock().refuse(&Failure::wrong(why));
        }
        if let Some(id) = id {
            // One that has ended meanwhile is told as it ended.
            let _ = self.cell.completions.remove(self.engine.now(), id, None);
        }
    }

    /// Goes on with the completion, while the client takes what is said.
    fn advance(&self, waker: &Waker) {
        let completing = {
            let mut inner = self.inner.lock();
            if !inner.own.is_empty() {
                return;
            }
            match &mut inner.state {
                State::Open(_, completing) => completing.take(),
                State::Asked(_) | State::Over => None,
            }
        };
        let Some(mut completing) = completing else {
            return;
        };
        let (mut said, mut bytes) = (Vec::new(), 0);
        let ended = loop {
            let seen = completing.look(waker, &mut |event| {
                let message = event.message();
                bytes += message.len();
                said.push(message);
            });
            match seen {
                Seen::Again if bytes > STEP => break None,
                Seen::Again => {}
                Seen::Pending => break None,
                Seen::Over(end) => break Some(end),
            }
        };
        let mut inner = self.inner.lock();
        inner.own.extend(said.into_iter().map(Frame::Text));
        match ended {
            Some(end) => {
                inner.say(&match &end {
                    Ok(shown) => CompletionEvent::Completed(shown),
                    Err(failure) => CompletionEvent::Error(failure),
                });
                inner.state = State::Over;
                inner.end(CloseCode::Normal);
            }
            None => {
                if let State::Open(_, place) = &mut inner.state {
                    *place = Some(completing);
                    return;
                }
            }
        }
        // The client has gone, or has all: what was begun ends without the lock.
        drop(inner);
        drop(completing);
    }
}

impl Converse for Socket {
    fn number(&self) -> u64 {
        self.id.serial()
    }

    fn frame_bytes(&self) -> usize {
        self.engine.config().limits.body_bytes
    }

    fn begin(&self, turn: &mut Turn) {
        turn.start(self.engine.now());
    }

    fn receive(&self, turn: &mut Turn, text: &str) {
        turn.count(text.len());
        self.inner.lock().unanswered = 0;
        if text.len() > self.frame_bytes() {
            self.inner.lock().end(CloseCode::TooLarge);
        } else {
            self.take(text);
        }
    }

    fn receive_binary(&self, turn: &mut Turn) {
        turn.count(0);
        let mut inner = self.inner.lock();
        inner.unanswered = 0;
        inner.refuse(&Failure::wrong("a message is a text frame"));
    }

    fn alive(&self, turn: &mut Turn) {
        turn.count(0);
        self.inner.lock().unanswered = 0;
    }

    fn finish(&self, turn: &mut Turn) -> bool {
        turn.wake.drain(..).for_each(Waker::wake);
        mem::take(&mut self.inner.lock().has_changed)
    }

    fn serve_timers(&self, turn: &mut Turn, alive: bool) -> Option<Instant> {
        let every = self.engine.config().timeouts.keep_alive;
        let mut inner = self.inner.lock();
        if alive {
            inner.unanswered = 0;
        }
        if turn.now >= inner.ping {
            if inner.unanswered >= PINGS {
                inner.end(CloseCode::NoSignOfLife);
            } else {
                inner.unanswered += 1;
                inner.own.push_back(Frame::Ping);
                inner.ping = turn.now + every;
            }
        }
        let own = match &inner.state {
            State::Open(_, Some(completing)) => Some(completing.poll_timeout()),
            State::Open(_, None) | State::Asked(_) | State::Over => None,
        };
        if own.is_some_and(|at| at <= turn.now) {
            inner.has_changed = true;
        }
        let next = own.filter(|at| *at > turn.now).into_iter();
        inner
            .close
            .is_none()
            .then(|| next.fold(inner.ping, Instant::min))
    }

    fn take_frames(&self, into: &mut VecDeque<Frame>) {
        into.append(&mut self.inner.lock().own);
    }

    fn wait_to_write(&self, waker: &Waker, _written: bool) -> ToWrite {
        {
            let mut inner = self.inner.lock();
            // Heard before it is asked, so that it is not missed.
            let _heard = Pin::new(&mut inner.drain).poll(&mut Context::from_waker(waker));
            if self.engine.is_draining() && matches!(inner.state, State::Asked(_)) {
                inner.end(CloseCode::GoingAway);
            }
        }
        self.advance(waker);
        let inner = self.inner.lock();
        ToWrite {
            frames: !inner.own.is_empty(),
            close: inner.close,
            // A completion may have begun, which has one of its own.
            sooner: true,
        }
    }

    fn disconnect(&self) {
        // Dropped without the lock: a completion that is open ends what it has begun.
        let before = mem::replace(&mut self.inner.lock().state, State::Over);
        drop(before);
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        self.disconnect();
    }
}

impl fmt::Debug for Socket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Socket({})", self.id)
    }
}
