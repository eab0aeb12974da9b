//! The machines of the gateway behind their locks: a client's session, and a server's process.

use super::child::Work;
use super::stateless::RequestCell;
use crate::Engine;
use crate::ranked::{LINK, Ranked, SESSION};
use mcp_local_provider_core::hub::keys::Digest;
use mcp_local_provider_core::id::Authority;
use mcp_local_provider_core::process::State;
use mcp_local_provider_core::rpc::{Call, Json, METHOD_NOT_FOUND, Message, Outbox, OutboxLimits};
use mcp_local_provider_core::text::JsonValue;
use mcp_local_provider_core::time::Instant;
use mcp_local_provider_mcp::config::Gateway as Config;
use mcp_local_provider_mcp::events::Closed;
use mcp_local_provider_mcp::refusal::Refusal;
use mcp_local_provider_mcp::server::{CallId, Delivery, Out, Server};
use mcp_local_provider_mcp::session::{self, Attachment, RequestKey, Session};
use mcp_local_provider_mcp::stateless::{Exchange, Level};
use std::collections::BTreeMap;
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
    /// Number of the session, which tells it from all others.
    pub(super) number: u64,
    pub(crate) client: Client,
    pub(crate) authority: Authority,
    pub(crate) machine: Ranked<Session, SESSION>,
    /// Why it ends, where it is not its client who ends it.
    closed: OnceLock<Closed>,
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
            closed: OnceLock::new(),
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

    /// Notes why the session is about to end. The first reason counts.
    pub(super) fn close(&self, why: Closed) {
        // A later one changes nothing.
        let _ = self.closed.set(why);
    }

    /// Why the session has ended.
    pub(crate) fn closed(&self) -> Closed {
        self.closed.get().copied().unwrap_or(Closed::Deleted)
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

/// Who waits for the answer of a process. One that has ended wants none.
pub(crate) enum Asker {
    /// A request of a session.
    Session(Weak<SessionCell>, RequestKey),
    /// A request without a session.
    Request(Weak<RequestCell>),
    /// The gateway itself, which does not look at it.
    Nobody,
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

/// All whom a process serves.
#[derive(Default)]
struct Audience {
    sessions: Sessions,
    /// Requests without a session, by their numbers. True for those that listen and ask the process nothing.
    requests: BTreeMap<u64, (Weak<RequestCell>, bool)>,
    /// What the process said to `initialize`, while it is ready.
    greeting: Option<Box<str>>,
    /// Resources to which requests without a session subscribe, as JSON, with the number of those.
    subscriptions: BTreeMap<Box<str>, usize>,
    /// The least severe log messages that the process was told to write for requests without a session.
    level: Option<Level>,
}

impl Audience {
    /// The only request that the process works for.
    fn only_request(&self) -> Option<&Weak<RequestCell>> {
        let mut asking = self.requests.values().filter(|(_, listens)| !listens);
        match (asking.next(), asking.next()) {
            (Some((only, _)), None) if self.sessions.is_empty() => Some(only),
            _ => None,
        }
    }

    fn is_attended(&self) -> bool {
        !self.requests.is_empty() || self.sessions.values().any(|attached| attached.is_attended)
    }
}

/// One process of a server, with the sessions that it serves and the requests that wait for its answers.
pub(crate) struct ServerCell {
    pub(crate) name: Arc<str>,
    state: Ranked<ServerState, LINK>,
}

struct ServerState {
    machine: Server<Asker>,
    out: Out,
    audience: Audience,
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
                audience: Audience::default(),
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
        state.audience.sessions.insert(session.number, attached);
    }

    /// Takes a session from those that the process serves. With the last one it ends.
    fn detach(&self, engine: &Arc<Engine>, session: &SessionCell) {
        let mut state = self.state.lock();
        state.audience.sessions.remove(&session.number);
        let is_last = state.audience.sessions.is_empty();
        drop(state);
        if is_last {
            self.call(engine, |server, now, out, _| server.stop(now, out));
        }
    }

    /// Notes whether anybody listens to a session of the process.
    fn attend(&self, engine: &Arc<Engine>, session: &SessionCell, is_attended: bool) {
        let mut state = self.state.lock();
        if let Some(attached) = state.audience.sessions.get_mut(&session.number) {
            attached.is_attended = is_attended;
        }
        let is_attended = is_attended || state.audience.is_attended();
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
            audience,
            ..
        } = &mut *state;
        let result = call(machine, now, out, &mut |delivery| {
            delivered.take(audience, now, delivery);
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

    /// Adds a request without a session to those that the process serves, and starts it.
    pub(super) fn attach_request(
        &self,
        engine: &Arc<Engine>,
        cell: &Arc<RequestCell>,
    ) -> Result<(), Refusal> {
        let exchange = cell.machine.lock();
        let (listens, level) = (exchange.is_listening(), exchange.level());
        let uris: Vec<Box<str>> = exchange.subscriptions().map(Box::from).collect();
        drop(exchange);
        let mut state = self.state.lock();
        let audience = &mut state.audience;
        let request = (Arc::downgrade(cell), listens);
        audience.requests.insert(cell.number, request);
        if let Some(greeting) = &audience.greeting {
            cell.call(|exchange, wake| exchange.handle_ready(greeting, wake));
        }
        let mut tell = Vec::new();
        if let Some(level) = level.filter(|level| audience.level.is_none_or(|least| *level < least))
        {
            audience.level = Some(level);
            let params = format!(r#"{{"level":"{}"}}"#, level.as_str());
            tell.push(("logging/setLevel", params));
        }
        for uri in uris {
            let params = format!(r#"{{"uri":{uri}}}"#);
            let count = audience.subscriptions.entry(uri).or_default();
            *count += 1;
            if *count == 1 {
                tell.push(("resources/subscribe", params));
            }
        }
        drop(state);
        let unavailable = self.call(engine, |server, now, out, _| {
            server.attend(now, true);
            server.start(now, out);
            server.refusal(now)
        });
        match unavailable {
            Some(refusal) => return Err(refusal),
            None => self.tell(engine, tell),
        }
        Ok(())
    }

    /// Takes a request from those that the process serves.
    pub(super) fn detach_request(&self, engine: &Arc<Engine>, cell: &Arc<RequestCell>) {
        let exchange = cell.machine.lock();
        let uris: Vec<Box<str>> = exchange.subscriptions().map(Box::from).collect();
        drop(exchange);
        let mut state = self.state.lock();
        let audience = &mut state.audience;
        if audience.requests.remove(&cell.number).is_none() {
            return;
        }
        let mut tell = Vec::new();
        for uri in uris {
            let count = audience.subscriptions.get_mut(&uri);
            let is_last = count.is_some_and(|count| {
                *count = count.saturating_sub(1);
                *count == 0
            });
            if is_last {
                tell.push(("resources/unsubscribe", format!(r#"{{"uri":{uri}}}"#)));
                audience.subscriptions.remove(&uri);
            }
        }
        let is_attended = audience.is_attended();
        drop(state);
        self.tell(engine, tell);
        self.call(engine, |server, now, _, _| server.attend(now, is_attended));
    }

    /// Asks the process something for the gateway itself.
    fn tell(&self, engine: &Arc<Engine>, asked: Vec<(&str, String)>) {
        for (method, params) in asked {
            let text =
                format!(r#"{{"jsonrpc":"2.0","id":0,"method":"{method}","params":{params}}}"#);
            if let Ok(Message::Request { id, call }) = Message::read(&text) {
                self.call(engine, |server, now, out, _| {
                    // A process that cannot be started is not told.
                    let _ = server.request(now, &text, id, &call, Asker::Nobody, out);
                });
            }
        }
    }

    /// Sends a request without a session.
    pub(super) fn request_for(
        &self,
        engine: &Arc<Engine>,
        cell: &Arc<RequestCell>,
        text: &str,
        id: JsonValue<'_>,
        asked: &Call<'_>,
    ) -> Result<CallId, Refusal> {
        let asker = Asker::Request(Arc::downgrade(cell));
        self.call(engine, |server, now, out, _| {
            let sent = server.request(now, text, id, asked, asker, out);
            sent.map_err(|(refusal, _)| refusal)
        })
    }

    /// Ends the answers to those that listen.
    pub(super) fn end_listeners(&self) {
        let state = self.state.lock();
        let all: Vec<_> = state.audience.requests.values().cloned().collect();
        drop(state);
        for (cell, _) in all {
            if let Some(cell) = cell.upgrade() {
                cell.call(|exchange, wake| exchange.handle_over(wake));
            }
        }
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
    /// Gives a delivery to whom its request belongs to, or to those of the process.
    fn take(&mut self, audience: &mut Audience, now: Instant, delivery: Delivery<'_, Asker>) {
        match delivery {
            Delivery::Answer { to, text, id } => match to {
                Asker::Session(session, key) => self.at(&session, |session, wake| {
                    session.handle_answer(now, key, text, id, wake);
                }),
                Asker::Request(request) => self.request(&request, |exchange, wake| {
                    exchange.handle_answer(text, wake);
                }),
                Asker::Nobody => {}
            },
            Delivery::Failed { to, refusal } => match to {
                Asker::Session(session, key) => self.at(&session, |session, wake| {
                    session.handle_failed(now, key, &refusal, wake);
                }),
                Asker::Request(request) => self.request(&request, |exchange, wake| {
                    exchange.handle_failed(&refusal, wake);
                }),
                Asker::Nobody => {}
            },
            Delivery::Progress { to, text, token } => match to {
                Asker::Session(session, key) => self.at(session, |session, wake| {
                    session.handle_progress(now, *key, text, token, wake);
                }),
                Asker::Request(request) => self.request(request, |exchange, wake| {
                    exchange.handle_progress(text, token, wake);
                }),
                Asker::Nobody => {}
            },
            Delivery::Ready { result, again } => {
                audience.greeting = Some(result.into());
                self.each(audience, |session, _, wake| {
                    session.handle_ready(now, result, again, wake);
                });
                self.each_request(audience, |exchange, wake| {
                    exchange.handle_ready(result, wake)
                });
            }
            Delivery::NotReady(refusal) => {
                self.each(audience, |session, _, wake| {
                    session.handle_not_ready(now, &refusal, wake);
                });
                self.each_request(audience, |exchange, wake| {
                    exchange.handle_failed(&refusal, wake);
                });
            }
            Delivery::Asked { text, id, method } => self.ask(audience, now, text, id, method),
            Delivery::Withdrawn { text, id } => {
                self.each(audience, |session, at, wake| {
                    session.handle_withdrawn(now, at, text, id, wake);
                });
                self.each_request(audience, |exchange, _| exchange.handle_withdrawn(id));
            }
            Delivery::Notified { text, method } => self.notify(audience, now, text, method),
            Delivery::Gone => {
                audience.greeting = None;
                self.each(audience, |session, at, wake| {
                    session.handle_gone(now, at, wake)
                });
                self.each_request(audience, |exchange, _| exchange.handle_gone());
            }
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

    /// Calls one request, if it is still there.
    fn request(
        &mut self,
        request: &Weak<RequestCell>,
        call: impl FnOnce(&mut Exchange, &mut Vec<Waker>),
    ) {
        if let Some(cell) = request.upgrade() {
            call(&mut cell.machine.lock(), &mut self.wake);
        }
    }

    /// Calls each session of the process.
    fn each(
        &mut self,
        audience: &Audience,
        mut call: impl FnMut(&mut Session, Attachment, &mut Vec<Waker>),
    ) {
        for attached in audience.sessions.values() {
            self.at(&attached.session, |session, wake| {
                call(session, attached.at, wake);
            });
        }
    }

    /// Calls each request without a session.
    fn each_request(
        &mut self,
        audience: &Audience,
        mut call: impl FnMut(&mut Exchange, &mut Vec<Waker>),
    ) {
        for (request, _) in audience.requests.values() {
            self.request(request, &mut call);
        }
    }

    /// Tells what the process tells to all. A log message that several requests could have caused goes to none of them.
    fn notify(&mut self, audience: &Audience, now: Instant, text: &str, method: &str) {
        self.each(audience, |session, _, wake| {
            session.handle_notified(now, text, method, wake);
        });
        for (request, _) in audience.requests.values().filter(|(_, listens)| *listens) {
            self.request(request, |exchange, wake| {
                exchange.handle_notified(text, method, wake);
            });
        }
        if let Some(only) = audience.only_request() {
            self.request(only, |exchange, wake| {
                exchange.handle_notified(text, method, wake);
            });
        }
    }

    /// Gives a request of the process to its session, or to the only request that it works for. Where there are several, nothing says
    /// whom it is for.
    fn ask(
        &mut self,
        audience: &Audience,
        now: Instant,
        text: &str,
        id: JsonValue<'_>,
        method: &str,
    ) {
        let why = "no client of this process can be asked";
        let mut reply = Err(Json::error(id, METHOD_NOT_FOUND, why));
        let mut all = audience.sessions.values();
        if let Some(only) = audience.only_request() {
            self.request(only, |exchange, wake| {
                reply = exchange.handle_asked(now, text, id, method, wake);
            });
        } else if let (Some(only), None) = (all.next(), all.next())
            && audience.requests.is_empty()
        {
            self.at(&only.session, |session, wake| {
                reply = session.handle_asked(now, only.at, text, id, wake);
            });
        }
        self.replies.extend(reply.err());
    }
}
