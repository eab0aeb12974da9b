//! Runs the agents of this program as links of a provider: one thread for each agent, in the place of a WebSocket
//! connection.
//!
//! The thread owns the ACP machine ([`acp::Agent`]) and the process, so neither needs a lock. A frame from the link for
//! the agent wakes the thread by its [`ProcessWaker`]. All lines that one turn reads from the process go to the link
//! together, so that a burst of chunks becomes one write to the client.

use super::directory::AgentDirectory;
use super::environment::exempt_from_proxies;
use super::loops;
use super::plan::Plan;
use event_listener::EventListener;
use mcp_local_provider_core::agents::acp::tools::{CallId, ToolAnswer};
use mcp_local_provider_core::agents::acp::{self, Agent, Order, Out, ToLink};
use mcp_local_provider_core::hub::{Dialled, Hello};
use mcp_local_provider_core::link::ToAgent;
use mcp_local_provider_core::process::Rules;
use mcp_local_provider_core::rpc::{Outbox, OutboxLimits};
use mcp_local_provider_core::time::Instant;
use mcp_local_provider_engine::caller_tools::{ToolEvent, ToolQueue, ToolTransaction};
use mcp_local_provider_engine::converse::{Converse, Turn};
use mcp_local_provider_engine::link::Connected;
use mcp_local_provider_engine::listen::reachable;
use mcp_local_provider_engine::status::{Part, PartStatus};
use mcp_local_provider_engine::{Engine, Handle, random_seed, run_queue};
use mcp_local_provider_process::{Event, Process, ProcessWaker, names_error};
use std::collections::VecDeque;
use std::ffi::OsString;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Waker};
use std::thread::JoinHandle;

/// One agent to start.
#[derive(Debug, Clone)]
pub struct Local {
    /// Its name, preset and entry in the configuration.
    pub plan: Plan,
    /// Program that supervises it; see [`Launch::supervisor`](mcp_local_provider_process::Launch::supervisor).
    pub supervisor: Option<PathBuf>,
}

/// The agents of a provider, each on a thread of its own. They end when the provider stops; dropping this waits for
/// that.
#[derive(Debug, Default)]
pub struct Agents {
    threads: Vec<JoinHandle<()>>,
}

impl Agents {
    /// Starts agents for a provider. They register when they are ready, like any other agent.
    ///
    /// `addresses` are those at which the provider listens, `serving` those of them that serve every route: agents call
    /// the tools of clients there.
    ///
    /// # Errors
    /// Fails when the system gives no thread, file or directory.
    pub fn start(
        engine: &Arc<Engine>,
        agents: Vec<Local>,
        addresses: &[SocketAddr],
        serving: &[SocketAddr],
    ) -> io::Result<Self> {
        let address = tools_address(serving);
        let mut all = Self::default();
        let mut start = |local: Local| {
            let runner = Runner::new(engine, &local, address, addresses)?;
            let thread = std::thread::Builder::new()
                .name(format!("agent-{}", local.plan.name))
                .spawn(move || runner.run())?;
            all.threads.push(thread);
            Ok(())
        };
        let started = agents.into_iter().try_for_each(&mut start);
        if started.is_err() {
            // The agents that were started would wait for the stop of a provider that never serves.
            Handle::new(engine.clone()).stop();
        }
        started.map(|()| all)
    }

    /// Waits until all agents have ended, which they do when the provider has stopped.
    pub fn join(&mut self) {
        for thread in self.threads.drain(..) {
            // A thread that panicked has reported so on standard error.
            let _ = thread.join();
        }
    }
}

/// Returns the address at which agents of this machine call the tools of clients. They send it as `Host`, which the
/// listener checks, so loopback comes first.
fn tools_address(serving: &[SocketAddr]) -> Option<SocketAddr> {
    let mut reachable = serving.iter().copied().map(reachable);
    reachable
        .clone()
        .find(|address| address.ip().is_loopback())
        .or_else(|| reachable.next())
}

impl Drop for Agents {
    fn drop(&mut self) {
        self.join();
    }
}

impl Drop for Runner {
    fn drop(&mut self) {
        self.end_calls();
        for event in self.tool_queue.take() {
            if let ToolEvent::Request(transaction) = event {
                transaction.abort();
            }
        }
    }
}

struct Runner {
    engine: Arc<Engine>,
    connected: Connected,
    turn: Turn,
    agent: Agent,
    out: Out,
    process: Option<Process>,
    messages: VecDeque<ToAgent>,
    process_waker: Arc<ProcessWaker>,
    waker: Waker,
    stop: Pin<Box<EventListener>>,
    drain: Pin<Box<EventListener>>,
    keys: Pin<Box<EventListener>>,
    draining: bool,
    /// Address of the tools of clients.
    tools: Option<SocketAddr>,
    /// Addresses of this program, at which an agent would ask itself.
    listening: Vec<SocketAddr>,
    /// Queue of the agent's HTTP requests for tools, then those that wait for results.
    tool_queue: Arc<ToolQueue>,
    calls: Vec<(CallId, Arc<ToolTransaction>)>,
    plan: Plan,
    status: Arc<PartStatus>,
    supervisor: Option<PathBuf>,
    variables: Vec<(OsString, OsString)>,
    directory: AgentDirectory,
    /// Prompts that were sent before the current process was started.
    prompts_before: u64,
    /// True once the agent was told to stop, after which the link closes.
    closing: bool,
}

impl Runner {
    fn new(
        engine: &Arc<Engine>,
        local: &Local,
        address: Option<SocketAddr>,
        listening: &[SocketAddr],
    ) -> io::Result<Self> {
        let directory = AgentDirectory::new()?;
        let hello = Hello {
            token: None,
            dialled: Some(Dialled {
                name: &local.plan.name,
                ..Dialled::default()
            }),
        };
        let connected = Connected::new(engine, hello)
            .map_err(|refusal| io::Error::other(refusal.to_string()))?;
        let process_waker = ProcessWaker::new()?;
        let cwd = match &local.plan.agent.cwd {
            Some(cwd) => std::path::absolute(cwd)?,
            None => directory.sessions(),
        };
        let name = &local.plan.name;
        let usual = acp::Config::new(&cwd.to_string_lossy());
        let config = acp::Config {
            tools_url: address.map(|address| format!("http://{address}/agents/{name}/mcp/")),
            answer_bytes: engine.config().limits.content_bytes,
            reuse: local.plan.agent.reuse,
            // Requests wait for less where they are to; the agent is given its time all the same.
            process: Rules {
                start_timeout: (usual.process.start_timeout).max(local.plan.agent.start_timeout),
                ..usual.process
            },
            // The owner's own choice of a directory is for all.
            session_directories: local.plan.agent.cwd.is_none(),
            sessions: local.plan.agent.sessions.limits(),
            ..usual
        };
        let waker = Waker::from(process_waker.clone());
        let tool_queue = ToolQueue::new(waker.clone());
        engine.add_tool_queue(name, tool_queue.clone());
        let status = PartStatus::new(Part::Agent, name);
        engine.add_part(status.clone());
        Ok(Self {
            tool_queue,
            status,
            calls: Vec::new(),
            drain: Box::pin(engine.listen_for_drain()),
            keys: Box::pin(engine.listen_for_keys()),
            draining: false,
            tools: address,
            listening: listening.to_vec(),
            connected,
            turn: Turn::default(),
            agent: Agent::new(local.plan.profile(), config, random_seed()?),
            out: Out {
                lines: Outbox::new(OutboxLimits {
                    bytes: engine.config().limits.link_queue_bytes,
                    ..OutboxLimits::default()
                })
                .sharing(engine.budget().share()),
                // The bounds are to be told from the start on.
                figures_changed: true,
                ..Out::new()
            },
            process: None,
            messages: VecDeque::new(),
            waker,
            process_waker,
            stop: Box::pin(engine.listen_for_stop()),
            plan: local.plan.clone(),
            supervisor: local.supervisor.clone(),
            variables: std::env::vars_os().collect(),
            directory,
            prompts_before: 0,
            closing: false,
            engine: engine.clone(),
        })
    }

    fn run(mut self) {
        let _open = self.engine.open_socket();
        self.connected.begin(&mut self.turn);
        let now = self.now();
        self.agent.start(now, &mut self.out);
        while !self.is_over() {
            self.connected.begin(&mut self.turn);
            self.obey_link();
            self.obey_keys();
            self.serve_tools();
            self.serve_timers();
            self.weigh_agent();
            self.obey_agent();
            // Only now, because what was done sets deadlines: a start that fails at once is tried again after a pause.
            let until = self.next_deadline();
            run_queue::enter(|| self.connected.finish(&mut self.turn));
            let waiting = self.connected.wait_to_write(&self.waker, true);
            if waiting.close.is_some() && !self.closing {
                self.closing = true;
                self.call(Agent::stop);
            } else if !waiting.frames && self.out.orders.is_empty() {
                self.wait(until);
            }
        }
    }

    fn now(&self) -> Instant {
        self.engine.now()
    }

    /// Returns true when the provider has stopped, or the agent has ended for good.
    fn is_over(&mut self) -> bool {
        // The listener must not be polled again after it was ready; the caller's loop ends then.
        let mut context = Context::from_waker(&self.waker);
        let heard = self.stop.as_mut().poll(&mut context).is_ready();
        heard || self.engine.is_stopped() || (self.closing && self.agent.is_stopped())
    }

    /// Calls the machine, and passes its messages to the link at once.
    fn call(
        &mut self,
        call: impl for<'c> FnOnce(&mut Agent, Instant, &'c mut Out, &'c mut ToLink<'c>),
    ) {
        let now = self.now();
        let (connected, turn) = (&self.connected, &mut self.turn);
        call(&mut self.agent, now, &mut self.out, &mut |message| {
            connected.receive_message(turn, message);
        });
    }

    /// Takes the messages that the link has for the agent.
    fn obey_link(&mut self) {
        self.connected.take_messages(&mut self.messages);
        while let Some(message) = self.messages.pop_front() {
            self.call(|agent, now, out, link| agent.handle_message(now, message, out, link));
        }
    }

    /// Ends what is parked for callers whose key has gone.
    fn obey_keys(&mut self) {
        let mut changed = false;
        // The new listener is polled too, so that it wakes this thread.
        while self
            .keys
            .as_mut()
            .poll(&mut Context::from_waker(&self.waker))
            .is_ready()
        {
            self.keys = Box::pin(self.engine.listen_for_keys());
            changed = true;
        }
        if changed {
            let keys = self.engine.policy().keys;
            self.call(|agent, now, out, link| {
                agent.handle_keys(now, &|authority| keys.uphold(authority), out, link);
            });
        }
    }

    /// Takes the agent's requests for tools of callers.
    fn serve_tools(&mut self) {
        for event in self.tool_queue.take() {
            match event {
                ToolEvent::Request(transaction) => {
                    let mut answer = None;
                    self.call(|agent, now, out, link| {
                        answer =
                            Some(agent.handle_tool_request(now, &transaction.request(), out, link));
                    });
                    if let Some(answer) = answer {
                        transaction.respond(&answer);
                        if let ToolAnswer::Stream(call) = answer {
                            self.calls.push((call, transaction));
                        }
                    }
                }
                ToolEvent::Disconnected(transaction) => {
                    let gone = |(_, other): &(CallId, Arc<ToolTransaction>)| {
                        Arc::ptr_eq(other, &transaction)
                    };
                    if let Some(at) = self.calls.iter().position(gone) {
                        let (call, _) = self.calls.swap_remove(at);
                        self.call(|agent, now, out, link| {
                            agent.handle_tool_gone(now, call, out, link);
                        });
                    }
                }
            }
        }
        let mut context = Context::from_waker(&self.waker);
        if !self.draining {
            self.draining =
                self.drain.as_mut().poll(&mut context).is_ready() || self.engine.is_draining();
        }
        if self.draining {
            // No client brings results any more, and an open connection would delay the shutdown.
            self.end_calls();
        }
    }

    fn end_calls(&mut self) {
        for (_, transaction) in self.calls.drain(..) {
            transaction.abort();
        }
    }

    /// Serves the deadlines of the agent's machine.
    fn serve_timers(&mut self) {
        let now = self.now();
        let timeout = self.agent.poll_timeout();
        if timeout.is_some_and(|timeout| timeout.at <= now) {
            self.call(Agent::handle_timeout);
        }
    }

    /// Passes on what was measured.
    fn weigh_agent(&mut self) {
        if let Some(load) = self.process.as_mut().and_then(Process::take_load) {
            self.call(|agent, now, out, link| agent.handle_load(now, load, out, link));
        }
    }

    /// Serves the deadlines of the link, and returns the next one of link and agent.
    fn next_deadline(&mut self) -> Option<Instant> {
        let link = self.connected.serve_timers(&mut self.turn, false);
        let agent = self.agent.poll_timeout().map(|timeout| timeout.at);
        [link, agent].into_iter().flatten().min()
    }

    /// Carries out the orders of the agent's machine on its process, and writes its events to the log.
    fn obey_agent(&mut self) {
        for order in std::mem::take(&mut self.out.orders) {
            match (order, &mut self.process) {
                (Order::Start, _) => self.start(),
                (Order::CloseInput, Some(process)) => process.close_input(),
                (Order::Terminate, Some(process)) => process.terminate(),
                (Order::Kill, Some(process)) => process.kill(),
                (Order::CloseInput | Order::Terminate | Order::Kill | Order::Measure, None) => {}
                (Order::Measure, Some(process)) => process.measure(&self.process_waker),
                (Order::MakeDirectory(number), _) => self.make_directory(number),
                (Order::RemoveDirectory(number), _) => self.directory.remove_session(number),
            }
        }
        if let Some(process) = &mut self.process {
            while process.has_room()
                && let Some(line) = self.out.lines.pop()
            {
                let _taken = process.push_line(line.as_bytes());
            }
        }
        for (call, reply) in self.out.tool_replies.drain(..) {
            if let Some(at) = self.calls.iter().position(|(other, _)| *other == call) {
                if let Some((_, transaction)) = self.calls.get(at) {
                    transaction.push(&reply);
                }
                if reply.last {
                    self.calls.swap_remove(at);
                }
            }
        }
        if std::mem::take(&mut self.out.figures_changed) {
            self.status.has_sessions(self.agent.session_figures());
        }
        for event in self.out.events.drain(..) {
            let agent = &self.plan.name;
            let now = self.engine.now();
            let is_trouble = match &event {
                acp::Event::Ready { .. } | acp::Event::Registered => {
                    if self.agent.is_ready() && self.agent.lacks_session().is_none() {
                        self.status.connected(now);
                    }
                    false
                }
                acp::Event::NoSession { why } => {
                    self.status.lost(now, why.clone(), false);
                    true
                }
                acp::Event::Exited { status, restart } => {
                    self.status.lost(now, status.clone(), restart.is_none());
                    true
                }
                acp::Event::LoginNeeded { advice, .. } => {
                    self.status
                        .lost(now, format!("it wants a login: {advice}"), false);
                    true
                }
                acp::Event::Misbehaved { .. }
                | acp::Event::Unable { .. }
                | acp::Event::OverMemory { .. } => true,
                acp::Event::Silent { .. } => {
                    let more = self.process.as_ref().map(Process::first_words);
                    let more = more.unwrap_or_default();
                    tracing::warn!(
                        agent,
                        "{event}{more}; requests wait for it for start_timeout"
                    );
                    continue;
                }
                acp::Event::Initialized { .. }
                | acp::Event::Recycled { .. }
                | acp::Event::PermissionRefused { .. }
                | acp::Event::RequestRefused { .. } => false,
            };
            if is_trouble {
                tracing::warn!(agent, "{event}");
            } else {
                tracing::info!(agent, "{event}");
            }
        }
    }

    fn make_directory(&self, number: u64) {
        if let Err(error) = self.directory.make_session(number) {
            let agent = &self.plan.name;
            tracing::warn!(
                agent,
                "the directory of a session cannot be made: {error}; the agent is likely to refuse the session"
            );
        }
    }

    fn start(&mut self) {
        // Lines for the previous process are not for this one.
        self.out.lines.clear();
        self.prompts_before = self.agent.counters().prompts;
        let launched = self
            .plan
            .launch(
                &self.variables,
                &self.directory,
                self.supervisor.as_deref(),
                self.engine.config().limits.agent_frame_bytes,
            )
            .and_then(
                |mut launch| {
                    launch.budget = Some(self.engine.budget().clone());
                    exempt_from_proxies(&mut launch.environment, self.tools.map(|tools| tools.ip()));
                    match loops::points_here(&launch.environment, &self.listening) {
                    Some(variable) => Err(io::Error::other(format!(
                        "{} names this program as the agent's model, so that it would ask itself; unset it, or give the agent \
                         another value in its `env`",
                        variable.display()
                    ))),
                    None => Process::start(&launch),
                }},
            );
        match launched {
            Ok(process) => {
                self.status.started();
                self.process = Some(process);
                self.call(Agent::handle_started);
            }
            Err(error) => {
                self.directory.private().clear();
                let status = error.to_string();
                self.call(|agent, now, out, link| agent.handle_exited(now, &status, out, link));
            }
        }
    }

    /// Waits until something happens, and takes the lines that the process wrote.
    fn wait(&mut self, until: Option<Instant>) {
        let until = until.map(|until| std::time::Instant::now() + until.since(self.engine.now()));
        let Some(mut process) = self.process.take() else {
            self.process_waker.wait(until);
            return;
        };
        let waker = self.process_waker.clone();
        let mut ending = None;
        let mut begun = false;
        let turn = process.turn(&waker, until, |event| {
            if !std::mem::replace(&mut begun, true) {
                self.connected.begin(&mut self.turn);
            }
            match event {
                Event::Line(line) => {
                    self.call(|agent, now, out, link| agent.handle_line(now, line, out, link));
                }
                // It is cut into lines.
                Event::Bytes(_) => {}
                Event::Ended(how) => ending = Some(how),
            }
        });
        for line in process.take_error_lines() {
            if names_error(&line) {
                self.call(|agent, now, out, link| agent.handle_complaint(now, &line, out, link));
            }
            self.status.wrote(line);
        }
        let status = match (ending, turn) {
            (Some(ending), _) => ending.to_string(),
            (None, Err(error)) => format!("it cannot be waited for: {error}"),
            (None, Ok(())) => {
                self.process = Some(process);
                return;
            }
        };
        // Before its first prompt the agent's standard error can quote none.
        let unprompted = self.agent.counters().prompts == self.prompts_before;
        let status = match process.last_words().told() {
            words if unprompted && !words.is_empty() => {
                format!("{status}; its last words: {words}")
            }
            _ => status,
        };
        drop(process);
        self.directory.private().clear();
        self.call(|agent, now, out, link| agent.handle_exited(now, &status, out, link));
    }
}
