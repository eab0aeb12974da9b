//! The machines of the gateway behind their locks: a client's session, and a server's process.

use super::audience::{Asker, Attached, Audience, Delivered, Noted};
use super::child::Work;
use super::figures::Counts;
use super::servers::Look;
use super::stateless::RequestCell;
use crate::Engine;
use crate::ranked::{LINK, Ranked, SESSION};
use mcp_local_provider_core::hub::keys::{Caller, Digest};
use mcp_local_provider_core::process::{Order, State};
use mcp_local_provider_core::rpc::{Call, Message, Outbox, OutboxLimits};
use mcp_local_provider_core::text::JsonValue;
use mcp_local_provider_core::time::Instant;
use mcp_local_provider_mcp::config::Gateway as Config;
use mcp_local_provider_mcp::config::Transport;
use mcp_local_provider_mcp::events::Closed;
use mcp_local_provider_mcp::greeting::Greeting;
use mcp_local_provider_mcp::mirrored::Given;
use mcp_local_provider_mcp::refusal::Refusal;
use mcp_local_provider_mcp::revision::Era;
use mcp_local_provider_mcp::server::{CallId, Delivery, Known, Out, Server};
use mcp_local_provider_mcp::session::{Attachment, Session};
use std::net::IpAddr;
use std::sync::{Arc, OnceLock};
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
    /// Who has opened it.
    pub(super) caller: Caller,
    /// The transport that has opened it.
    pub(super) transport: Transport,
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
        (caller, transport): (Caller, Transport),
        session: Session,
        servers: Vec<Arc<ServerCell>>,
    ) -> Arc<Self> {
        let cell = Arc::new(Self {
            id,
            number,
            client,
            caller,
            transport,
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
        let calls = self.call(|session, wake| {
            let calls: Vec<_> = session.calls().collect();
            session.end(wake);
            calls
        });
        for (server, at) in self.servers.iter().zip(0..) {
            let own = calls.iter().filter(|(of, _)| of.0 == at);
            let own: Vec<CallId> = own.map(|(_, call)| *call).collect();
            server.detach(engine, self, &own);
        }
    }
}

/// One process of a server, with the sessions that it serves and the requests that wait for its answers.
pub(crate) struct ServerCell {
    pub(crate) name: Arc<str>,
    /// It serves whoever comes, and stays when they leave.
    is_shared: bool,
    state: Ranked<ServerState, LINK>,
    counts: Arc<Counts>,
}

struct ServerState {
    machine: Server<Asker>,
    out: Out,
    /// What the gateway has been told of the server.
    known: Known,
    audience: Audience,
    /// The thread that runs the process, and the next deadline that it knows.
    waker: Option<Waker>,
    until: Option<Instant>,
    /// A thread runs the process.
    is_run: bool,
    /// The process is on the way to the end of its handshake, and is counted among those.
    is_starting: bool,
    /// The id of the process that runs, where it has one, and when it was started.
    started: Option<(Option<i32>, Instant)>,
}

/// A call of a [`Server`] gives its deliveries to this.
pub(crate) type Deliver<'d> = dyn FnMut(Delivery<'_, Asker>) + 'd;

impl ServerCell {
    /// Makes the cell of a process, which is asked `first` for that form of the protocol.
    pub(super) fn new(
        engine: &Engine,
        name: &Arc<str>,
        hello: &str,
        config: &Config,
        (is_shared, first): (bool, Era),
        (counts, known): (Arc<Counts>, Known),
    ) -> Arc<Self> {
        let limits = OutboxLimits {
            bytes: engine.config().limits.link_queue_bytes,
            ..OutboxLimits::default()
        };
        Arc::new(Self {
            name: name.clone(),
            is_shared,
            state: Ranked::new(ServerState {
                machine: Server::new(name.clone(), hello, config)
                    .serving(first, known)
                    .keeping(engine.budget().share(), is_shared),
                known,
                out: Out {
                    lines: Outbox::new(limits).sharing(engine.budget().share()),
                    ..Out::default()
                },
                audience: Audience::new(is_shared),
                waker: None,
                until: None,
                is_run: false,
                is_starting: false,
                started: None,
            }),
            counts,
        })
    }

    /// True for a process that serves whoever comes.
    pub(crate) const fn is_shared(&self) -> bool {
        self.is_shared
    }

    /// Adds a session to those that the process serves.
    fn attach(&self, session: &Arc<SessionCell>, at: Attachment) {
        let mut state = self.state.lock();
        state
            .audience
            .attach(session.number, Attached::new(session, at));
    }

    /// Tells a session that has come to a process that is ready already what that said.
    pub(super) fn greet(&self, now: Instant, session: &SessionCell, at: Attachment) {
        let state = self.state.lock();
        if let Some(greeting) = state.audience.greeting() {
            session.call(|session, wake| session.handle_ready(now, at, greeting, false, wake));
        }
    }

    /// Takes a session from those that the process serves. A process of its own ends with it.
    fn detach(&self, engine: &Arc<Engine>, session: &SessionCell, calls: &[CallId]) {
        let mut state = self.state.lock();
        let unwanted = state.audience.detach(session.number);
        let is_attended = state.audience.is_attended();
        drop(state);
        if !self.is_shared {
            return self.call(engine, |server, now, out, _| server.stop(now, out));
        }
        let tell = unwanted
            .into_iter()
            .map(|params| ("resources/unsubscribe", params));
        self.tell(engine, tell.collect());
        self.call(engine, |server, now, out, _| {
            for call in calls {
                server.cancel(now, *call, None, out);
            }
            server.attend(now, is_attended);
        });
    }

    /// Notes what a session asks of a shared process for itself. True when the process need not be asked.
    pub(crate) fn note(
        &self,
        engine: &Arc<Engine>,
        session: &SessionCell,
        call: &Call<'_>,
    ) -> bool {
        let mut state = self.state.lock();
        let noted = state.audience.note(session.number, call);
        drop(state);
        match noted {
            Noted::Passes => false,
            Noted::Done(tell) => {
                self.tell(engine, tell.into_iter().collect());
                true
            }
        }
    }

    /// Notes whether anybody listens to a session of the process.
    fn attend(&self, engine: &Arc<Engine>, session: &SessionCell, is_attended: bool) {
        let mut state = self.state.lock();
        let is_attended = state.audience.attend(session.number, is_attended);
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
        let mut has_ended = false;
        let mut take = |delivered: &mut Delivered, delivery: Delivery<'_, Asker>| {
            self.counts.add(&delivery);
            has_ended |= matches!(delivery, Delivery::Gone { .. });
            delivered.take(audience, now, delivery);
        };
        let result = call(machine, now, out, &mut |delivery| {
            take(&mut delivered, delivery);
        });
        for line in std::mem::take(&mut delivered.replies) {
            machine.send(now, line.trim_end(), None, out);
        }
        machine.settle(&mut |delivery| take(&mut delivered, delivery));
        let Delivered {
            mut wake,
            ended,
            dispatching,
            ..
        } = delivered;
        let known = machine.known();
        let has_learned = known != std::mem::replace(&mut state.known, known);
        if has_ended {
            state.started = None;
        }
        let ServerState { machine, out, .. } = &mut *state;
        let has_work = !out.orders.is_empty() || !out.lines.is_empty();
        let next = machine.poll_timeout().map(|timeout| timeout.at);
        let is_sooner = next.is_some_and(|next| state.until.is_none_or(|until| next < until));
        if has_work || is_sooner {
            wake.extend(state.waker.take());
        }
        if let (true, Some(gateway)) = (state.is_starting, engine.gateway())
            && state.machine.state() != State::Starting
        {
            state.is_starting = false;
            wake.extend(gateway.starts.end());
        }
        drop(state);
        wake.into_iter().for_each(Waker::wake);
        if let Some(gateway) = engine.gateway() {
            if has_learned {
                gateway.learn(&self.name, known);
            }
            for session in ended {
                gateway.end(engine, &session);
            }
            for session in dispatching {
                gateway.dispatch(engine, &session);
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
        let tell = state.audience.admit(cell, listens, level, uris);
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
        let Some(unwanted) = state.audience.dismiss(cell.number(), &uris) else {
            return;
        };
        let is_attended = state.audience.is_attended();
        drop(state);
        let tell = unwanted
            .into_iter()
            .map(|params| ("resources/unsubscribe", params));
        let tell = tell.collect();
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
        request: (&str, JsonValue<'_>, &Call<'_>),
        given: Option<Given>,
    ) -> Result<CallId, Refusal> {
        let asker = Asker::Request(Arc::downgrade(cell));
        self.call(engine, |server, now, out, _| {
            let sent = server.request_stateless(now, request, given, asker, out);
            sent.map_err(|(refusal, _)| refusal)
        })
    }

    /// Ends the answers to those that listen.
    pub(super) fn end_listeners(&self) {
        for cell in self.requests() {
            cell.end_listening();
        }
    }

    /// The requests without a session that the process serves.
    pub(super) fn requests(&self) -> Vec<Arc<RequestCell>> {
        self.state.lock().audience.requests()
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

    /// Moves what is to be done to the thread of the process. `may_start` counts a start, unless there are too many.
    pub(crate) fn take(&self, waker: &Waker, work: &mut Work, may_start: impl FnOnce() -> bool) {
        let mut state = self.state.lock();
        let starts = state.out.orders.contains(&Order::Spawn);
        if !starts || state.is_starting || may_start() {
            state.is_starting |= starts;
            work.orders.append(&mut state.out.orders);
        }
        if work.lines.is_empty() {
            while let Some(line) = state.out.lines.pop() {
                work.lines.push_back(line);
            }
        }
        work.has_more = !state.out.lines.is_empty();
        work.until = state.machine.poll_timeout().map(|timeout| timeout.at);
        state.until = work.until;
        let is_over = match state.machine.state() {
            State::Stopped | State::Failing { .. } => true,
            State::Starting
            | State::Running { .. }
            | State::Stopping { .. }
            | State::Waiting { .. } => false,
        };
        work.ended = is_over && work.orders.is_empty() && state.out.orders.is_empty();
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

    /// Who made the request of this number, while it waits for its answer.
    pub(super) fn caller(&self, number: u64) -> Option<Caller> {
        let asker = self.state.lock().machine.asker(number).cloned();
        match asker? {
            Asker::Session(session, _) => session.upgrade().map(|cell| cell.caller.clone()),
            Asker::Request(request) => request.upgrade().map(|cell| cell.caller.clone()),
            Asker::Nobody => None,
        }
    }

    /// The form of the protocol that the process speaks, or is asked for first.
    pub(super) fn era(&self) -> Era {
        self.state.lock().machine.era()
    }

    /// The name of the state of the process.
    pub(super) fn state_name(&self) -> &'static str {
        self.state.lock().machine.state_name()
    }

    /// The process as it is now.
    pub(super) fn look(&self) -> Look {
        let state = self.state.lock();
        let machine = &state.machine;
        let greeting = state.audience.greeting();
        let version = greeting.map(|greeting| match machine.revision() {
            Some(revision) => format!("\"{revision}\""),
            None => Greeting::read(greeting).protocol_version.into(),
        });
        Look {
            state: machine.state_name(),
            version,
            tools: None,
            started: state.started,
            sessions: state.audience.sessions(),
            is_run: state.is_run,
        }
    }

    /// A process of this id was started.
    pub(super) fn handle_started(&self, engine: &Arc<Engine>, pid: Option<i32>) {
        self.state.lock().started = Some((pid, engine.clock()));
        self.call(engine, |server, now, out, _| {
            server.handle_started(now, out);
        });
    }

    /// Since when nobody needs the process.
    pub(crate) fn idle_since(&self) -> Option<Instant> {
        self.state.lock().machine.idle_since()
    }
}
