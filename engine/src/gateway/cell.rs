//! The machines of the gateway behind their locks: a client's session, and a server's process.

use super::child::Work;
use crate::Engine;
use crate::ranked::{LINK, Ranked, SESSION};
use mcp_local_provider_core::hub::keys::Digest;
use mcp_local_provider_core::id::Authority;
use mcp_local_provider_core::process::State;
use mcp_local_provider_core::rpc::{Outbox, OutboxLimits};
use mcp_local_provider_core::time::Instant;
use mcp_local_provider_mcp::config::Gateway as Config;
use mcp_local_provider_mcp::server::{Delivery, Out, Server};
use mcp_local_provider_mcp::session::{self, RequestKey, Session};
use std::net::IpAddr;
use std::sync::{Arc, OnceLock, Weak};
use std::task::Waker;

/// Somebody whose sessions are counted together: a key, or an address where none is needed, with the name of its program.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Client {
    pub(crate) key: Option<Digest>,
    pub(crate) address: Option<IpAddr>,
    pub(crate) name: Box<str>,
}

/// One client's session.
pub(crate) struct SessionCell {
    pub(crate) id: Box<str>,
    pub(crate) client: Client,
    pub(crate) authority: Authority,
    pub(crate) machine: Ranked<Session, SESSION>,
    pub(crate) server: Arc<ServerCell>,
}

impl SessionCell {
    /// Calls the machine, and wakes whom that wakes.
    pub(crate) fn call<R>(&self, call: impl FnOnce(&mut Session, &mut Vec<Waker>) -> R) -> R {
        let mut wake = Vec::new();
        let result = call(&mut self.machine.lock(), &mut wake);
        wake.into_iter().for_each(Waker::wake);
        result
    }

    /// Tells the server whether anybody listens to this session.
    pub(crate) fn attend(&self, engine: &Arc<Engine>) {
        let is_attended = self.machine.lock().streams().is_attended();
        self.server.call(engine, |server, now, _, _| {
            server.attend(now, is_attended);
        });
    }

    /// Ends session and process.
    pub(crate) fn end(&self, engine: &Arc<Engine>) {
        self.call(|session, wake| session.end(wake));
        self.server
            .call(engine, |server, now, out, _| server.stop(now, out));
    }
}

/// One process of a server, with the requests that wait for its answers.
pub(crate) struct ServerCell {
    pub(crate) name: Arc<str>,
    state: Ranked<ServerState, LINK>,
    session: OnceLock<Weak<SessionCell>>,
}

struct ServerState {
    machine: Server<RequestKey>,
    out: Out,
    /// The thread that runs the process, and the next deadline that it knows.
    waker: Option<Waker>,
    until: Option<Instant>,
    /// A thread runs the process.
    is_run: bool,
}

/// A call of a [`Server`] gives its deliveries to this.
pub(crate) type Deliver<'d> = dyn FnMut(Delivery<'_, RequestKey>) + 'd;

impl ServerCell {
    pub(crate) fn new(engine: &Engine, name: &Arc<str>, hello: &str, config: &Config) -> Arc<Self> {
        let limits = OutboxLimits {
            bytes: engine.config().limits.link_queue_bytes,
            ..OutboxLimits::default()
        };
        Arc::new(Self {
            name: name.clone(),
            state: Ranked::new(ServerState {
                machine: Server::new(name.clone(), hello, config),
                out: Out {
                    lines: Outbox::new(limits).sharing(engine.budget().share()),
                    ..Out::default()
                },
                waker: None,
                until: None,
                is_run: false,
            }),
            session: OnceLock::new(),
        })
    }

    /// Names the session that everything goes to that no request asked for.
    pub(crate) fn belongs_to(&self, session: &Arc<SessionCell>) {
        // It is called once, where both are made.
        let _ = self.session.set(Arc::downgrade(session));
    }

    /// Calls the machine, gives its deliveries to the session, and wakes whom that wakes. A session that ends by it is forgotten.
    pub(crate) fn call<R>(
        &self,
        engine: &Arc<Engine>,
        call: impl FnOnce(&mut Server<RequestKey>, Instant, &mut Out, &mut Deliver<'_>) -> R,
    ) -> R {
        let session = self.session.get().and_then(Weak::upgrade);
        let now = engine.clock();
        let (mut wake, mut replies, mut ended) = (Vec::new(), Vec::new(), false);
        let mut state = self.state.lock();
        let ServerState { machine, out, .. } = &mut *state;
        let result = call(machine, now, out, &mut |delivery| {
            if let Some(session) = &session {
                let mut session = session.machine.lock();
                deliver(&mut session, now, delivery, &mut wake, &mut replies);
                ended |= session.state() == session::State::Ended;
            }
        });
        replies.into_iter().for_each(|line| out.lines.push(line));
        let has_work = !out.orders.is_empty() || !out.lines.is_empty();
        let next = machine.poll_timeout().map(|timeout| timeout.at);
        let is_sooner = next.is_some_and(|next| state.until.is_none_or(|until| next < until));
        if has_work || is_sooner {
            wake.extend(state.waker.take());
        }
        drop(state);
        wake.into_iter().for_each(Waker::wake);
        if let (true, Some(session), Some(gateway)) = (ended, session, engine.gateway()) {
            gateway.end(engine, &session);
        }
        result
    }

    pub(crate) fn serve_timers(&self, engine: &Arc<Engine>) {
        let now = engine.clock();
        let timeout = self.state.lock().machine.poll_timeout();
        if timeout.is_some_and(|timeout| timeout.at <= now) {
            self.call(engine, |server, now, out, deliver| {
                server.handle_timeout(now, out, deliver);
            });
        }
    }

    pub(crate) fn take(&self, waker: &Waker, work: &mut Work) {
        let mut state = self.state.lock();
        work.orders.append(&mut state.out.orders);
        while let Some(line) = state.out.lines.pop() {
            work.lines.push_back(line);
        }
        work.until = state.machine.poll_timeout().map(|timeout| timeout.at);
        state.until = work.until;
        let is_over = match state.machine.state() {
            State::Stopped | State::Failing { .. } => true,
            State::Starting
            | State::Running { .. }
            | State::Stopping { .. }
            | State::Waiting { .. } => false,
        };
        work.ended = is_over && work.orders.is_empty();
        state.is_run = !work.ended;
        state.waker = Some(waker.clone());
    }

    /// True when a thread is to be found for the process, which from now on is run.
    pub(crate) fn wants_thread(&self) -> bool {
        let mut state = self.state.lock();
        let wants = !state.is_run && !state.out.orders.is_empty();
        state.is_run |= wants;
        wants
    }

    /// There is no thread for the process.
    pub(crate) fn not_run(&self) {
        self.state.lock().is_run = false;
    }

    /// Since when nobody needs the process.
    pub(crate) fn idle_since(&self) -> Option<Instant> {
        self.state.lock().machine.idle_since()
    }
}

fn deliver(
    session: &mut Session,
    now: Instant,
    delivery: Delivery<'_, RequestKey>,
    wake: &mut Vec<Waker>,
    replies: &mut Vec<String>,
) {
    match delivery {
        Delivery::Ready { result, again } => session.handle_ready(now, result, again, wake),
        Delivery::NotReady(refusal) => session.handle_not_ready(now, &refusal, wake),
        Delivery::Answer { to, text, id } => session.handle_answer(now, to, text, id, wake),
        Delivery::Failed { to, refusal } => session.handle_failed(now, to, &refusal, wake),
        Delivery::Progress { to, text, token } => {
            session.handle_progress(now, *to, text, token, wake);
        }
        Delivery::Asked { text, id, .. } => {
            replies.extend(session.handle_asked(now, text, id, wake).err());
        }
        Delivery::Withdrawn { text, id } => session.handle_withdrawn(now, text, id, wake),
        Delivery::Notified { text, method } => session.handle_notified(now, text, method, wake),
        Delivery::Gone => session.handle_gone(now, wake),
    }
}
