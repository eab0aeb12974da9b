//! One external bridge: dialled, served while it is connected, and dialled again, as one piece of background work.

use crate::background::Background;
use crate::config::Bridge;
use crate::dial::{Dial, DialError, Target};
use crate::engine::Engine;
use crate::link::Connected;
use crate::status::{Part, PartStatus};
use crate::websocket::{Conversation, Piped, Socket};
use event_listener::EventListener;
use mcp_local_provider_core::Backoff;
use mcp_local_provider_core::error::Refusal;
use mcp_local_provider_core::hub::{Dialled, Hello};
use mcp_local_provider_core::link::LinkConfig;
use mcp_local_provider_core::time::Instant;
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};

impl Engine {
    /// Keeps these bridges connected for as long as the engine runs, as background work that
    /// [`Outside::spawn`](crate::Outside::spawn) polls.
    pub fn dial(self: &Arc<Self>, bridges: impl IntoIterator<Item = Bridge>) {
        for bridge in bridges {
            let task = BridgeTask::new(self.clone(), bridge);
            self.outside().spawn(Box::new(task));
        }
    }
}

/// A bridge, which health tells about.
struct BridgeTask {
    engine: Arc<Engine>,
    bridge: Bridge,
    target: Target,
    status: Arc<PartStatus>,
    backoff: Backoff,
    /// Dials that failed in a row.
    attempts: u32,
    state: State,
    stop: EventListener,
}

enum State {
    Dialling(Box<Dial>),
    Connected(Box<Conversation<Piped>>),
    /// It is dialled again then.
    Pausing(Instant),
    Ended,
}

impl fmt::Debug for BridgeTask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BridgeTask({:?})", self.target)
    }
}

impl Background for BridgeTask {
    fn poll(&mut self, waker: &Waker) -> Poll<()> {
        loop {
            if self.engine.is_stopped()
                || Pin::new(&mut self.stop)
                    .poll(&mut Context::from_waker(waker))
                    .is_ready()
            {
                self.state = State::Ended;
            }
            self.state = match &mut self.state {
                State::Dialling(dial) => match ready!(dial.poll(&self.engine, waker)) {
                    Ok(socket) => self.connected(socket),
                    Err(error) => self.failed(&error),
                },
                State::Connected(conversation) => {
                    ready!(conversation.poll(waker));
                    let now = self.engine.now();
                    self.status
                        .lost(now, "the connection was lost".into(), false);
                    self.pause()
                }
                State::Pausing(until) => {
                    if self.engine.now() < *until {
                        return Poll::Pending;
                    }
                    self.dial()
                }
                State::Ended => return Poll::Ready(()),
            };
        }
    }

    fn poll_timeout(&self) -> Option<Instant> {
        match &self.state {
            State::Dialling(dial) => Some(dial.until()),
            State::Connected(conversation) => conversation.poll_timeout(),
            State::Pausing(until) => Some(*until),
            State::Ended => None,
        }
    }
}

impl BridgeTask {
    fn new(engine: Arc<Engine>, bridge: Bridge) -> Self {
        let status = PartStatus::new(Part::Bridge, &bridge.name);
        engine.add_part(status.clone());
        let times = &bridge.times;
        let mut task = Self {
            target: Target {
                connect_timeout: times.connect,
                ..Target::new(&engine, bridge.url.clone(), bridge.token.clone())
            },
            backoff: Backoff::new(
                engine.chance(),
                times.reconnect_delay,
                times.reconnect_max_delay,
            ),
            stop: engine.listen_for_stop(),
            engine,
            bridge,
            status,
            attempts: 0,
            state: State::Ended,
        };
        task.state = task.dial();
        task
    }

    fn dial(&self) -> State {
        let until = self.engine.now() + self.target.connect_timeout;
        State::Dialling(Box::new(Dial::new(self.target.clone(), until)))
    }

    /// The WebSocket is open: its link is served, if the hub takes it.
    fn connected(&mut self, socket: Socket<Piped>) -> State {
        self.attempts = 0;
        self.backoff.reset();
        let hello = Hello {
            token: self.bridge.token.as_deref(),
            dialled: Some(Dialled {
                name: &self.bridge.name,
                form: self.bridge.form,
                session: self.bridge.session.as_ref(),
            }),
        };
        let config = LinkConfig {
            ping_interval: self.bridge.times.heartbeat,
            pong_timeout: self.bridge.times.heartbeat_timeout,
            ..self.engine.link_config().clone()
        };
        match Connected::with(&self.engine, hello, &config) {
            Ok(link) => {
                tracing::info!(bridge = self.bridge.name, "connected");
                self.status.connected(self.engine.now());
                let engine = self.engine.clone();
                let conversation = Conversation::new(engine, Box::new(link), socket);
                State::Connected(Box::new(conversation))
            }
            Err(refusal) => {
                self.unusable(&refusal);
                self.pause()
            }
        }
    }

    fn unusable(&self, refusal: &Refusal) {
        tracing::warn!(bridge = self.bridge.name, %refusal, "cannot be used");
        let now = self.engine.now();
        self.status.lost(now, refusal.to_string(), false);
    }

    fn failed(&mut self, error: &DialError) -> State {
        let name = &self.bridge.name;
        let now = self.engine.now();
        self.attempts = self.attempts.saturating_add(1);
        let attempts = self.attempts;
        let most = self.bridge.times.reconnect_attempts;
        let given_up =
            matches!(error, DialError::Url(_)) || most.is_some_and(|most| attempts > most);
        self.status.lost(now, error.to_string(), given_up);
        if given_up {
            tracing::error!(bridge = name, %error, attempts, "given up");
            return State::Ended;
        }
        tracing::warn!(bridge = name, %error, attempts, "cannot be dialled");
        self.pause()
    }

    fn pause(&mut self) -> State {
        if self.engine.is_draining() {
            State::Ended
        } else {
            State::Pausing(self.engine.now() + self.backoff.pause())
        }
    }
}
