//! The machines of the gateway behind their locks: a client's session, and a server's process.

use super::child::Work;
use crate::Engine;
use crate::ranked::{LINK, Ranked, SESSION};
use mcp_local_provider_core::hub::keys::Digest;
use mcp_local_provider_core::id::Authority;
use mcp_local_provider_core::process::State;
use mcp_local_provider_core::rpc::{Json, METHOD_NOT_FOUND, Outbox, OutboxLimits};
use mcp_local_provider_core::text::JsonValue;
use mcp_local_provider_core::time::Instant;
use mcp_local_provider_mcp::config::Gateway as Config;
use mcp_local_provider_mcp::server::{Delivery, Out, Server};
use mcp_local_provider_mcp::session::{self, Attachment, RequestKey, Session};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Weak};
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
    /// Number of the session, which tells it from all others.
    pub(super) number: u64,
    pub(crate) client: Client,
    pub(crate) authority: Authority,
    pub(crate) machine: Ranked<Session, SESSION>,
    /// Its servers. An [`Attachment`] is a place in this list.
    servers: Vec<Arc<ServerCell>>,
}

impl SessionCell {
    /// Makes the session, and attaches it to its servers in their order.
    pub(super) fn attached(
        (id, number): (Box<str>, u64),
        client: Client,
        authority: Authority,
        session: Session,
        servers: Vec<Arc<ServerCell>>,
    ) -> Arc<Self> {
        let cell = Arc::new(Self {
            id,
            number,
            client,
            authority,
            machine: Ranked::new(session),
            servers,
        });
        for (server, at) in cell.servers.iter().zip(0..) {
            server.attach(&cell, Attachment(at));
        }
        cell
    }

    /// Calls the machine, and wakes whom that wakes.
    pub(crate) fn call<R>(&self, call: impl FnOnce(&mut Session, &mut Vec<Waker>) -> R) -> R {
        let mut wake = Vec::new();
        let result = call(&mut self.machine.lock(), &mut wake);
        wake.into_iter().for_each(Waker::wake);
        result
    }

    /// The servers, in the order of their attachments.
    pub(crate) fn servers(&self) -> &[Arc<ServerCell>] {
        &self.servers
    }

    /// The server at a place.
    pub(crate) fn server(&self, at: Attachment) -> Option<&Arc<ServerCell>> {
        self.servers.get(usize::from(at.0))
    }

    /// Tells the servers whether anybody listens to this session.
    pub(crate) fn attend(&self, engine: &Arc<Engine>) {
        let is_attended = self.machine.lock().streams().is_attended();
        for server in &self.servers {
            server.attend(engine, self, is_attended);
        }
    }

    /// Ends the session, and each process that no other session has.
    pub(crate) fn end(&self, engine: &Arc<Engine>) {
        self.call(|session, wake| session.end(wake));
        for server in &self.servers {
            server.detach(engine, self);
        }
    }
}

/// Request of a session that waits for the answer of a process.
pub(crate) struct Asker {
    /// A session that has ended wants no answer.
    session: Weak<SessionCell>,
    /// The request in it.
    pub(crate) key: RequestKey,
}

impl Asker {
    pub(crate) fn new(session: &Arc<SessionCell>, key: RequestKey) -> Self {
        let session = Arc::downgrade(session);
        Self { session, key }
    }
}

/// A session that a process serves.
struct Attached {
    session: Weak<SessionCell>,
    /// The process's place in that session.
    at: Attachment,
    /// Somebody listens to the session.
    is_attended: bool,
}

/// Sessions that a process serves, by their numbers.
type Sessions = BTreeMap<u64, Attached>;

/// One process of a server, with the sessions that it serves and the requests that wait for its answers.
pub(crate) struct ServerCell {
    pub(crate) name: Arc<str>,
    state: Ranked<ServerState, LINK>,
}

struct ServerState {
    machine: Server<Asker>,
    out: Out,
    sessions: Sessions,
    /// The thread that runs the process, and the next deadline that it knows.
    waker: Option<Waker>,
    until: Option<Instant>,
    /// A thread runs the process.
    is_run: bool,
}

/// A call of a [`Server`] gives its deliveries to this.
pub(crate) type Deliver<'d> = dyn FnMut(Delivery<'_, Asker>) + 'd;

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
                sessions: Sessions::new(),
                waker: None,
                until: None,
                is_run: false,
            }),
        })
    }

    /// Adds a session to those that the process serves.
    fn attach(&self, session: &Arc<SessionCell>, at: Attachment) {
        let attached = Attached {
            session: Arc::downgrade(session),
            at,
            is_attended: true,
        };
        let mut state = self.state.lock();
        state.sessions.insert(session.number, attached);
    }

    /// Takes a session from those that the process serves. With the last one it ends.
    fn detach(&self, engine: &Arc<Engine>, session: &SessionCell) {
        let mut state = self.state.lock();
        state.sessions.remove(&session.number);
        let is_last = state.sessions.is_empty();
        drop(state);
        if is_last {
            self.call(engine, |server, now, out, _| server.stop(now, out));
        }
    }

    /// Notes whether anybody listens to a session of the process.
    fn attend(&self, engine: &Arc<Engine>, session: &SessionCell, is_attended: bool) {
        let mut state = self.state.lock();
        if let Some(attached) = state.sessions.get_mut(&session.number) {
            attached.is_attended = is_attended;
        }
        let is_attended =
            is_attended || state.sessions.values().any(|attached| attached.is_attended);
        drop(state);
        self.call(engine, |server, now, _, _| server.attend(now, is_attended));
    }

    /// Calls the machine, gives its deliveries to the sessions that they are for, and wakes whom that wakes. A session that ends by
    /// it is forgotten.
    pub(crate) fn call<R>(
        &self,
        engine: &Arc<Engine>,
        call: impl FnOnce(&mut Server<Asker>, Instant, &mut Out, &mut Deliver<'_>) -> R,
    ) -> R {
        let now = engine.clock();
        let mut delivered = Delivered::default();
        let mut state = self.state.lock();
        let ServerState {
            machine,
            out,
            sessions,
            ..
        } = &mut *state;
        let result = call(machine, now, out, &mut |delivery| {
            delivered.take(sessions, now, delivery);
        });
        let Delivered {
            mut wake,
            replies,
            ended,
        } = delivered;
        replies.into_iter().for_each(|line| out.lines.push(line));
        let has_work = !out.orders.is_empty() || !out.lines.is_empty();
        let next = machine.poll_timeout().map(|timeout| timeout.at);
        let is_sooner = next.is_some_and(|next| state.until.is_none_or(|until| next < until));
        if has_work || is_sooner {
            wake.extend(state.waker.take());
        }
        drop(state);
        wake.into_iter().for_each(Waker::wake);
        if let Some(gateway) = engine.gateway() {
            for session in ended {
                gateway.end(engine, &session);
            }
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

/// What follows from the deliveries of one call.
#[derive(Default)]
struct Delivered {
    wake: Vec<Waker>,
    /// Lines for the process.
    replies: Vec<String>,
    /// Sessions that have ended by it.
    ended: Vec<Arc<SessionCell>>,
}

impl Delivered {
    /// Gives a delivery to the session of its request, or to those of the process.
    fn take(&mut self, sessions: &Sessions, now: Instant, delivery: Delivery<'_, Asker>) {
        match delivery {
            Delivery::Answer { to, text, id } => self.at(&to.session, |session, wake| {
                session.handle_answer(now, to.key, text, id, wake);
            }),
            Delivery::Failed { to, refusal } => self.at(&to.session, |session, wake| {
                session.handle_failed(now, to.key, &refusal, wake);
            }),
            Delivery::Progress { to, text, token } => self.at(&to.session, |session, wake| {
                session.handle_progress(now, to.key, text, token, wake);
            }),
            Delivery::Ready { result, again } => self.each(sessions, |session, _, wake| {
                session.handle_ready(now, result, again, wake);
            }),
            Delivery::NotReady(refusal) => self.each(sessions, |session, _, wake| {
                session.handle_not_ready(now, &refusal, wake);
            }),
            Delivery::Asked { text, id, .. } => self.ask(sessions, now, text, id),
            Delivery::Withdrawn { text, id } => self.each(sessions, |session, at, wake| {
                session.handle_withdrawn(now, at, text, id, wake);
            }),
            Delivery::Notified { text, method } => self.each(sessions, |session, _, wake| {
                session.handle_notified(now, text, method, wake);
            }),
            Delivery::Gone => self.each(sessions, |session, at, wake| {
                session.handle_gone(now, at, wake);
            }),
        }
    }

    /// Calls one session, if it is still there.
    fn at(
        &mut self,
        session: &Weak<SessionCell>,
        call: impl FnOnce(&mut Session, &mut Vec<Waker>),
    ) {
        let Some(cell) = session.upgrade() else {
            return;
        };
        let mut session = cell.machine.lock();
        call(&mut session, &mut self.wake);
        let has_ended = session.state() == session::State::Ended;
        drop(session);
        if has_ended {
            self.ended.push(cell);
        }
    }

    /// Calls each session of the process.
    fn each(
        &mut self,
        sessions: &Sessions,
        mut call: impl FnMut(&mut Session, Attachment, &mut Vec<Waker>),
    ) {
        for attached in sessions.values() {
            self.at(&attached.session, |session, wake| {
                call(session, attached.at, wake);
            });
        }
    }

    /// Gives a request of the process to its session. Where there are several, nothing says whom it is for.
    fn ask(&mut self, sessions: &Sessions, now: Instant, text: &str, id: JsonValue<'_>) {
        let why = "no client of this process can be asked";
        let mut reply = Err(Json::error(id, METHOD_NOT_FOUND, why));
        let mut all = sessions.values();
        if let (Some(only), None) = (all.next(), all.next()) {
            self.at(&only.session, |session, wake| {
                reply = session.handle_asked(now, only.at, text, id, wake);
            });
        }
        self.replies.extend(reply.err());
    }
}
