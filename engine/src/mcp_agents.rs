//! Clients of the Model Context Protocol that answer as models: each with its machine behind a lock, its link to the hub, and the
//! task or thread between the two.

use crate::Engine;
use crate::background::Background;
use crate::converse::{Converse, Turn};
use crate::engine::OpenSocket;
use crate::gateway::{Client, hex_id};
use crate::link::Connected;
use crate::mcp_answering::{Told, View};
use crate::ranked::{LEAF, Ranked, SESSION, TABLE};
use event_listener::EventListener;
use mcp_local_provider_core::agents::sampling::{self, Declared};
use mcp_local_provider_core::api::too_many_agents;
use mcp_local_provider_core::error::{Code, Refusal};
use mcp_local_provider_core::hub::Hello;
use mcp_local_provider_core::hub::keys::{Digest, digest};
use mcp_local_provider_core::id::{ExchangeId, SessionId};
use mcp_local_provider_core::invocation::Failure;
use mcp_local_provider_core::link::{FromAgent, Id, Invoke, ToAgent, USED_UP};
use mcp_local_provider_core::rpc::RpcError;
use mcp_local_provider_core::text::JsonValue;
use mcp_local_provider_core::time::Instant;
use mcp_local_provider_mcp::serving::{Serving, Spoken};
use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, Waker};

/// All that are there.
pub(super) struct McpAgents {
    /// Their ids are made from it.
    seed: Digest,
    table: Ranked<Table, TABLE>,
}

#[derive(Default)]
struct Table {
    cells: HashMap<Box<str>, Arc<AgentCell>>,
    opened: u64,
}

impl McpAgents {
    pub(super) fn new(seed: &[u8]) -> Self {
        Self {
            seed: digest(&[seed, b"agents of MCP"].concat()),
            table: Ranked::default(),
        }
    }

    /// The one of that id, if the client's key has opened it.
    pub(super) fn find(&self, id: &str, client: &Client) -> Option<Arc<AgentCell>> {
        let cell = self.table.lock().cells.get(id).cloned()?;
        (cell.about.client == *client).then_some(cell)
    }

    /// Those that have said the same of themselves, with the same key.
    pub(super) fn alike(&self, about: &About) -> Vec<Arc<AgentCell>> {
        let table = self.table.lock();
        let alike = table.cells.values().filter(|cell| cell.about == *about);
        alike.cloned().collect()
    }

    /// Lets one in, which has `token` to show, and does `first` with it before anybody else can find it. It has no link to the hub
    /// before it is [registered](AgentCell::register).
    pub(super) fn open<R>(
        &self,
        engine: &Arc<Engine>,
        about: About,
        token: Option<String>,
        first: impl FnOnce(&mut Serving<ExchangeId>) -> R,
    ) -> Result<(Arc<AgentCell>, R), Refusal> {
        let limits = &engine.config().limits;
        let mut table = self.table.lock();
        if table.cells.len() >= limits.connections {
            return Err(too_many_agents());
        }
        table.opened += 1;
        let id = hex_id(&self.seed, table.opened);
        let shares = [engine.budget().share(), engine.budget().share()];
        let mut machine = Serving::new(
            engine.clock(),
            &id,
            about.spoken,
            limits.link_queue_bytes,
            Some(shares),
        );
        let done = first(&mut machine);
        let cell = Arc::new(AgentCell {
            id: id.clone(),
            about,
            token,
            machine: Ranked::new(machine),
            is_registering: AtomicBool::new(false),
            link: OnceLock::new(),
            session: Ranked::default(),
            early: Ranked::default(),
            waker: Ranked::default(),
        });
        table.cells.insert(id, cell.clone());
        drop(table);
        engine.spawn(Box::new(AgentTask {
            stop: engine.listen_for_stop(),
            drain: engine.listen_for_drain(),
            is_draining: false,
            open: engine.open_socket(),
            engine: engine.clone(),
            cell: cell.clone(),
            turn: Turn::default(),
            next: None,
        }));
        Ok((cell, done))
    }
}

/// Who a client is, and what it has said of itself.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct About {
    pub(super) client: Client,
    pub(super) name: String,
    pub(super) spoken: Spoken,
    pub(super) declared: Declared,
}

/// One client.
pub(super) struct AgentCell {
    pub(super) id: Box<str>,
    pub(super) about: About,
    token: Option<String>,
    machine: Ranked<Serving<ExchangeId>, SESSION>,
    is_registering: AtomicBool,
    link: OnceLock<Connected>,
    session: Ranked<Option<SessionId>, LEAF>,
    /// Messages of the link that came with the registration.
    early: Ranked<VecDeque<ToAgent>, LEAF>,
    /// Who serves the link and the deadlines.
    waker: Ranked<Option<Waker>, LEAF>,
}

impl AgentCell {
    /// Calls the machine, and wakes whom that wakes.
    pub(super) fn call<R>(
        &self,
        call: impl FnOnce(&mut Serving<ExchangeId>, &mut Vec<Waker>) -> R,
    ) -> R {
        let mut wake = Vec::new();
        let result = call(&mut self.machine.lock(), &mut wake);
        wake.into_iter().for_each(Waker::wake);
        result
    }

    /// Has its task look at the deadlines and the link.
    fn nudge(&self) {
        let waker = self.waker.lock().clone();
        waker.into_iter().for_each(Waker::wake);
    }

    /// Gives messages to the link.
    fn say(&self, messages: impl FnOnce(&mut dyn FnMut(FromAgent<'_>))) {
        let Some(link) = self.link.get() else {
            return;
        };
        let mut turn = Turn::default();
        link.begin(&mut turn);
        messages(&mut |message| link.receive_message(&mut turn, message));
        link.finish(&mut turn);
    }

    /// Makes it an agent of the hub, if nobody does yet.
    pub(super) fn register(&self, engine: &Arc<Engine>) -> Result<(), Refusal> {
        if self.is_registering.swap(true, Ordering::AcqRel) {
            return Ok(());
        }
        let registered = self.connect(engine);
        match registered {
            Ok(()) => self.nudge(),
            Err(_) => self.end(engine),
        }
        registered
    }

    fn connect(&self, engine: &Arc<Engine>) -> Result<(), Refusal> {
        let hello = Hello {
            token: self.token.as_deref(),
            dialled: None,
        };
        // It is set once.
        let _ = self.link.set(Connected::new(engine, hello)?);
        self.say(|say| say(FromAgent::Register(self.registration())));
        // The hub has answered by now.
        let mut messages = VecDeque::new();
        if let Some(link) = self.link.get() {
            link.take_messages(&mut messages);
        }
        for message in messages {
            if let ToAgent::Error { code, message, .. } = message {
                let kinds = [Code::Overloaded, Code::InvalidKey, Code::Draining];
                let kind = kinds.into_iter().find(|kind| kind.name() == Some(code));
                let kind = kind.unwrap_or(Code::InvalidRequest);
                return Err(Refusal::new(kind, message.into_string()));
            }
            self.early.lock().push_back(message);
        }
        Ok(())
    }

    fn registration(&self) -> mcp_local_provider_core::link::Registration {
        // A call of revision 2026-07-28 has one round at a time.
        let most = match self.about.spoken {
            Spoken::Sessions(_) => None,
            Spoken::Stateless => Some(1),
        };
        self.about.declared.registration(&self.about.name, most)
    }

    /// The client has answered a request.
    pub(super) fn answered(
        &self,
        now: Instant,
        id: JsonValue<'_>,
        outcome: &Result<Option<JsonValue<'_>>, RpcError<'_>>,
    ) {
        let Some(exchange) = self.call(|machine, wake| machine.answered(now, id, wake)) else {
            return;
        };
        self.say(|say| match outcome {
            Ok(result) => {
                let nothing = JsonValue::read("{}");
                if let Some(result) = result.or(nothing) {
                    sampling::answer(exchange, result, say);
                }
            }
            Err(error) => sampling::failure(exchange, error.code, &error.message.decode(), say),
        });
        self.nudge();
    }

    /// The client has answered in a round.
    pub(super) fn answered_all(&self, answers: &[(ExchangeId, JsonValue<'_>)]) {
        self.say(|say| {
            for (exchange, result) in answers {
                sampling::answer(*exchange, *result, say);
            }
        });
        self.nudge();
    }

    /// Ends it: what waits for it fails, and the hub forgets it.
    pub(super) fn end(&self, engine: &Arc<Engine>) {
        engine.mcp_agents.table.lock().cells.remove(&self.id);
        let now = engine.clock();
        let mut gone = Vec::new();
        self.call(|machine, wake| machine.end(now, wake, &mut |exchange| gone.push(exchange)));
        let session = self.session.lock().take();
        self.say(|say| {
            for exchange in gone {
                say(FromAgent::Error {
                    id: Some(Id::Ours(exchange)),
                    failure: Failure {
                        code: Code::AgentLost,
                        message: "the MCP client that was to answer has left".into(),
                        retry_after: None,
                    },
                });
            }
            if let Some(session) = session {
                let session = session.as_str().into();
                say(FromAgent::Unregister { session });
            }
        });
        if let Some(link) = self.link.get() {
            link.disconnect();
        }
        self.nudge();
    }

    /// Asks the client.
    fn ask(&self, now: Instant, invoke: &Invoke) {
        let is_own = self.session.lock().as_ref() == Some(invoke.permit.session());
        let invocation = invoke.request.invocation_of(invoke.prompt);
        match sampling::params(&invocation, self.about.declared) {
            Ok(params) if is_own => {
                self.call(|machine, wake| machine.ask(now, invoke.id, params, wake));
            }
            Ok(_) => self.fail(
                invoke.id,
                Failure {
                    code: Code::AgentLost,
                    message: "the session belongs to another agent".into(),
                    retry_after: None,
                },
            ),
            Err(failure) => self.fail(invoke.id, failure),
        }
    }

    fn fail(&self, exchange: ExchangeId, failure: Failure<'static>) {
        let id = Some(Id::Ours(exchange));
        self.say(|say| say(FromAgent::Error { id, failure }));
    }
}

impl Told for AgentCell {
    fn streams<R>(&self, call: impl FnOnce(View<'_>, &mut Vec<Waker>) -> R) -> R {
        self.call(|machine, wake| {
            let (has_priming, has_ids) = match machine.spoken() {
                Spoken::Sessions(revision) => (revision.has_priming(), true),
                Spoken::Stateless => (false, false),
            };
            let view = View {
                is_open: !machine.is_over(),
                has_priming,
                has_ids,
                streams: machine.streams_mut(),
            };
            call(view, wake)
        })
    }

    fn attend(&self, engine: &Arc<Engine>) {
        let now = engine.clock();
        self.call(|machine, wake| machine.attend(now, wake));
        self.nudge();
    }

    fn id(&self) -> &str {
        &self.id
    }
}

/// Serves the link and the deadlines of one client.
struct AgentTask {
    engine: Arc<Engine>,
    cell: Arc<AgentCell>,
    turn: Turn,
    stop: EventListener,
    drain: EventListener,
    is_draining: bool,
    next: Option<Instant>,
    /// A shutdown waits a moment for it.
    #[expect(dead_code, reason = "it is counted until it is dropped")]
    open: OpenSocket,
}

impl fmt::Debug for AgentTask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AgentTask({:?})", self.cell.about.spoken)
    }
}

impl Background for AgentTask {
    fn poll(&mut self, waker: &Waker) -> Poll<()> {
        *self.cell.waker.lock() = Some(waker.clone());
        let mut context = Context::from_waker(waker);
        let mut is_over =
            self.engine.is_stopped() || Pin::new(&mut self.stop).poll(&mut context).is_ready();
        if !self.is_draining {
            let heard = Pin::new(&mut self.drain).poll(&mut context).is_ready();
            self.is_draining = heard || self.engine.is_draining();
        }
        loop {
            let now = self.engine.clock();
            let served = self.serve_link(waker);
            self.cell.call(|machine, wake| {
                if self.is_draining {
                    machine.drain(now, wake);
                }
                machine.handle_timeout(now, wake);
                is_over |= machine.is_over();
                self.next = machine.poll_timeout();
            });
            if is_over || served.is_closed {
                self.cell.end(&self.engine);
                *self.cell.waker.lock() = None;
                return Poll::Ready(());
            }
            self.next = self.next.into_iter().chain(served.next).min();
            if !served.has_more {
                return Poll::Pending;
            }
        }
    }

    fn poll_timeout(&self) -> Option<Instant> {
        self.next
    }
}

/// Work that is left at a link.
#[derive(Default)]
struct Served {
    has_more: bool,
    is_closed: bool,
    next: Option<Instant>,
}

impl AgentTask {
    /// Takes the messages of the link, and serves its deadlines.
    fn serve_link(&mut self, waker: &Waker) -> Served {
        let cell = self.cell.clone();
        let Some(link) = cell.link.get() else {
            return Served::default();
        };
        link.begin(&mut self.turn);
        let mut messages = std::mem::take(&mut *cell.early.lock());
        link.take_messages(&mut messages);
        let mut is_closed = false;
        for message in messages {
            is_closed |= self.obey(message);
        }
        let next = link.serve_timers(&mut self.turn, false);
        link.finish(&mut self.turn);
        let waiting = link.wait_to_write(waker, true);
        Served {
            has_more: waiting.frames,
            is_closed: is_closed || waiting.close.is_some(),
            next,
        }
    }

    /// Does what the link wants. True when it is the last.
    fn obey(&self, message: ToAgent) -> bool {
        let (cell, now) = (&self.cell, self.engine.clock());
        match message {
            ToAgent::Invoke { invoke, .. } => cell.ask(now, &invoke),
            ToAgent::Cancel(exchange, why) => {
                cell.call(|machine, wake| machine.withdraw(now, exchange, why.as_str(), wake));
            }
            ToAgent::Registered(registered) => {
                *cell.session.lock() = Some(registered.session);
            }
            ToAgent::SessionStatus(status) => {
                let is_own = cell.session.lock().as_ref() == Some(&status.session);
                if is_own && status.reason == USED_UP {
                    cell.say(|say| say(FromAgent::Register(cell.registration())));
                }
                return is_own && matches!(status.status, "revoked" | "expired");
            }
            ToAgent::Error { code, .. } => {
                tracing::debug!(code, "the hub refuses what an MCP client has said");
            }
            // The client is known to be there by its streams.
            ToAgent::Ping => cell.say(|say| say(FromAgent::Pong)),
            ToAgent::Pong { .. } => {}
        }
        false
    }
}
