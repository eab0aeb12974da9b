//! Agents of this program as links of a provider: one thread for each agent, which stands where a WebSocket stands for
//! others.
//!
//! The thread owns the machine ([`acp::Agent`]) and the process, so neither needs a lock. What the link has for the agent
//! rings the thread's [`Bell`]; what the process writes goes to the link in turns, so that a burst of chunks becomes one
//! write to its client.

use super::directory::PrivateDirectory;
use super::loops;
use super::plan::Plan;
use super::process::{Bell, Event, Process};
use crate::process::random_seed;
use crate::provider::caller_tools::{Desk, Errand, Slip};
use crate::provider::link::{Connected, Turn};
use crate::provider::listen::reachable;
use crate::provider::status::{Part, PartStatus};
use crate::provider::{Handle, Shared};
use event_listener::EventListener;
use mcp_local_provider_core::agents::acp::tools::{CallId, ToolAnswer};
use mcp_local_provider_core::agents::acp::{self, Agent, Order, Out, ToLink};
use mcp_local_provider_core::hub::Hello;
use mcp_local_provider_core::link::Frame;
use mcp_local_provider_core::time::Instant;
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

/// Bytes that are given to a process at once; the rest waits where it counts against the agent.
const AT_ONCE: usize = 64 << 10;

/// One agent to start.
#[derive(Debug, Clone)]
pub struct Local {
    /// What to start.
    pub plan: Plan,
    /// See [`Launch::supervisor`](super::Launch::supervisor).
    pub supervisor: Option<PathBuf>,
}

/// The agents of a provider, each on a thread of its own. They end when the provider stops; dropping this waits for that.
#[derive(Debug, Default)]
pub struct Agents {
    threads: Vec<JoinHandle<()>>,
}

impl Agents {
    /// Starts agents for a provider. They register when they are ready, like any other agent.
    ///
    /// # Errors
    /// When the system gives no thread, file or directory.
    ///
    /// `addresses` are where the provider listens; agents find the tools of callers there.
    pub fn start(
        shared: &Arc<Shared>,
        agents: Vec<Local>,
        addresses: &[SocketAddr],
    ) -> io::Result<Self> {
        let mut reachable = addresses.iter().copied().map(reachable);
        // Agents name the address as it is given here, and `Host` is checked.
        let address = reachable
            .clone()
            .find(|address| address.ip().is_loopback())
            .or_else(|| reachable.next());
        let mut all = Self::default();
        let mut start = |local: Local| {
            let runner = Runner::new(shared, &local, address, addresses)?;
            let thread = std::thread::Builder::new()
                .name(format!("agent-{}", local.plan.name))
                .spawn(move || runner.run())?;
            all.threads.push(thread);
            Ok(())
        };
        let started = agents.into_iter().try_for_each(&mut start);
        if started.is_err() {
            // Those that were started would wait for the end of a provider that never was.
            Handle::new(shared.clone()).stop();
        }
        started.map(|()| all)
    }

    /// Waits until they have ended, which is when the provider has stopped.
    pub fn join(&mut self) {
        for thread in self.threads.drain(..) {
            // A thread that panicked has said so.
            let _ = thread.join();
        }
    }
}

impl Drop for Agents {
    fn drop(&mut self) {
        self.join();
    }
}

impl Drop for Runner {
    fn drop(&mut self) {
        self.end_calls();
        for errand in self.desk.take() {
            if let Errand::Asked(slip) = errand {
                slip.end();
            }
        }
    }
}

struct Runner {
    shared: Arc<Shared>,
    connected: Connected,
    turn: Turn,
    agent: Agent,
    out: Out,
    process: Option<Process>,
    frames: VecDeque<Frame>,
    bell: Arc<Bell>,
    waker: Waker,
    stop: Pin<Box<EventListener>>,
    drain: Pin<Box<EventListener>>,
    draining: bool,
    /// Where this program answers: an agent that asks there asks itself.
    listening: Vec<SocketAddr>,
    /// Where the agent's HTTP requests come in, and those that wait for more.
    desk: Arc<Desk>,
    calls: Vec<(CallId, Arc<Slip>)>,
    plan: Plan,
    status: Arc<PartStatus>,
    supervisor: Option<PathBuf>,
    variables: Vec<(OsString, OsString)>,
    directory: PrivateDirectory,
    /// Prompts that were sent before the process of now was started.
    prompts_before: u64,
    /// The link is to be closed: the agent was told to stop.
    closing: bool,
}

impl Runner {
    fn new(
        shared: &Arc<Shared>,
        local: &Local,
        address: Option<SocketAddr>,
        listening: &[SocketAddr],
    ) -> io::Result<Self> {
        let directory = PrivateDirectory::new()?;
        let hello = Hello {
            token: None,
            dialled: true,
        };
        let connected = Connected::new(shared, hello)
            .map_err(|refusal| io::Error::other(refusal.to_string()))?;
        let bell = Bell::new()?;
        let cwd = match &local.plan.agent.cwd {
            Some(cwd) => std::path::absolute(cwd)?,
            None => directory.working_directory(),
        };
        let name = &local.plan.name;
        let config = acp::Config {
            tools_url: address.map(|address| format!("http://{address}/agents/{name}/mcp/")),
            answer_bytes: shared.config().limits.content_bytes,
            queue_bytes: shared.config().limits.link_queue_bytes,
            reuse: local.plan.agent.reuse,
            ..acp::Config::new(&cwd.to_string_lossy())
        };
        let waker = Waker::from(bell.clone());
        let desk = Desk::new(waker.clone());
        shared.add_desk(name, desk.clone());
        let status = PartStatus::new(Part::Agent, name);
        shared.add_part(status.clone());
        Ok(Self {
            desk,
            status,
            calls: Vec::new(),
            drain: Box::pin(shared.listen_for_drain()),
            draining: false,
            listening: listening.to_vec(),
            connected,
            turn: Turn::default(),
            agent: Agent::new(local.plan.profile(), config, random_seed()?),
            out: Out::new(),
            process: None,
            frames: VecDeque::new(),
            waker,
            bell,
            stop: Box::pin(shared.listen_for_stop()),
            plan: local.plan.clone(),
            supervisor: local.supervisor.clone(),
            variables: std::env::vars_os().collect(),
            directory,
            prompts_before: 0,
            closing: false,
            shared: shared.clone(),
        })
    }

    fn run(mut self) {
        let _open = self.shared.open_socket();
        self.connected.begin(&mut self.turn);
        let now = self.now();
        self.agent.start(now, &mut self.out);
        while !self.is_over() {
            self.connected.begin(&mut self.turn);
            self.obey_link();
            self.serve_tools();
            let until = self.serve_timers();
            self.obey_agent();
            self.connected.finish(&mut self.turn);
            let waiting = self.connected.wait_to_write(&self.waker);
            if waiting.close.is_some() && !self.closing {
                self.closing = true;
                self.call(Agent::stop);
            } else if !waiting.frames && self.out.orders.is_empty() {
                self.wait(until);
            }
        }
    }

    fn now(&self) -> Instant {
        self.shared.clock().now()
    }

    /// True when the provider has stopped, or the agent has ended for good.
    fn is_over(&mut self) -> bool {
        // Heard once, it is not to be asked again; but then this is over.
        let mut context = Context::from_waker(&self.waker);
        let heard = self.stop.as_mut().poll(&mut context).is_ready();
        heard || self.shared.is_stopped() || (self.closing && self.agent.is_stopped())
    }

    /// Calls the machine; what it has for the link goes there at once.
    fn call(
        &mut self,
        call: impl for<'c> FnOnce(&mut Agent, Instant, &'c mut Out, &'c mut ToLink<'c>),
    ) {
        let now = self.now();
        let (connected, turn) = (&self.connected, &mut self.turn);
        call(&mut self.agent, now, &mut self.out, &mut |envelope| {
            connected.receive_envelope(turn, envelope);
        });
    }

    /// Takes what the link has for the agent.
    fn obey_link(&mut self) {
        self.connected.take_frames(&mut self.frames);
        while let Some(frame) = self.frames.pop_front() {
            self.call(|agent, now, out, link| agent.handle_frame(now, frame, out, link));
        }
    }

    /// Takes the agent's requests for tools of callers.
    fn serve_tools(&mut self) {
        for errand in self.desk.take() {
            match errand {
                Errand::Asked(slip) => {
                    let mut answer = None;
                    self.call(|agent, now, out, link| {
                        answer = Some(agent.handle_tool_request(now, &slip.request(), out, link));
                    });
                    if let Some(answer) = answer {
                        slip.answer(&answer);
                        if let ToolAnswer::Stream(call) = answer {
                            self.calls.push((call, slip));
                        }
                    }
                }
                Errand::Gone(slip) => {
                    let gone = |(_, other): &(CallId, Arc<Slip>)| Arc::ptr_eq(other, &slip);
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
                self.drain.as_mut().poll(&mut context).is_ready() || self.shared.is_draining();
        }
        if self.draining {
            // Nobody will bring results any more, and a connection that waits would hold the shutdown up.
            self.end_calls();
        }
    }

    fn end_calls(&mut self) {
        for (_, slip) in self.calls.drain(..) {
            slip.end();
        }
    }

    /// Serves the deadlines of both machines; the next one.
    fn serve_timers(&mut self) -> Option<Instant> {
        let now = self.now();
        let due = |agent: &Agent| agent.poll_timeout().map(|timeout| timeout.at);
        if due(&self.agent).is_some_and(|at| at <= now) {
            self.call(Agent::handle_timeout);
        }
        let link = self.connected.serve_timers(&mut self.turn, false);
        [link, due(&self.agent)].into_iter().flatten().min()
    }

    /// Does what the agent's machine wants of its process, and writes the log.
    fn obey_agent(&mut self) {
        for order in std::mem::take(&mut self.out.orders) {
            match (order, &mut self.process) {
                (Order::Start, _) => self.start(),
                (Order::CloseInput, Some(process)) => {
                    process.close_input(std::time::Instant::now())
                }
                (Order::Kill, Some(process)) => process.kill(),
                (Order::CloseInput | Order::Kill, None) => {}
            }
        }
        if let Some(process) = &mut self.process
            && process.waiting_bytes() < AT_ONCE
        {
            let mut taken = 0;
            while taken < AT_ONCE
                && let Some(line) = self.out.lines.pop_front()
            {
                taken += line.len();
                self.out.queued_bytes = self.out.queued_bytes.saturating_sub(line.len());
                process.waiting().extend_from_slice(line.as_bytes());
            }
        }
        for (call, reply) in self.out.tool_replies.drain(..) {
            if let Some(at) = self.calls.iter().position(|(other, _)| *other == call) {
                if let Some((_, slip)) = self.calls.get(at) {
                    slip.go_on(&reply);
                }
                if reply.last {
                    self.calls.swap_remove(at);
                }
            }
        }
        for event in self.out.events.drain(..) {
            let agent = &self.plan.name;
            let now = self.shared.clock().now();
            match &event {
                acp::Event::Ready { .. } => self.status.connected(now),
                acp::Event::Exited { status, restart } => {
                    self.status.lost(now, status.clone(), restart.is_none());
                }
                acp::Event::LoginNeeded { advice, .. } => {
                    self.status
                        .lost(now, format!("it wants a login: {advice}"), false);
                }
                _ => {}
            }
            match event {
                acp::Event::Exited { .. }
                | acp::Event::LoginNeeded { .. }
                | acp::Event::Misbehaved { .. } => tracing::warn!(agent, "{event}"),
                event => tracing::info!(agent, "{event}"),
            }
        }
    }

    fn start(&mut self) {
        // What the process before this one was to be told is not for this one.
        self.out.lines.clear();
        self.out.queued_bytes = 0;
        self.prompts_before = self.agent.counters().prompts;
        let launched = self
            .plan
            .launch(
                &self.variables,
                &self.directory,
                self.supervisor.as_deref(),
                self.shared.config().limits.agent_frame_bytes,
            )
            .and_then(
                |launch| match loops::points_here(&launch.environment, &self.listening) {
                    Some(variable) => Err(io::Error::other(format!(
                        "{} names this program as the agent's model, so that it would ask itself; unset it, or give the agent \
                         another value in its `env`",
                        variable.display()
                    ))),
                    None => Process::start(&launch),
                },
            );
        match launched {
            Ok(process) => {
                self.status.started();
                self.process = Some(process);
                self.call(Agent::handle_started);
            }
            Err(error) => {
                self.directory.clear();
                let status = error.to_string();
                self.call(|agent, now, out, link| agent.handle_exited(now, &status, out, link));
            }
        }
    }

    /// Waits until something happens, and takes what the process wrote.
    fn wait(&mut self, until: Option<Instant>) {
        let until = until.map(|until| self.shared.clock().system(until));
        let Some(mut process) = self.process.take() else {
            self.bell.wait(until);
            return;
        };
        let bell = self.bell.clone();
        let mut ending = None;
        let mut begun = false;
        let turn = process.turn(&bell, until, |event| {
            if !std::mem::replace(&mut begun, true) {
                self.connected.begin(&mut self.turn);
            }
            match event {
                Event::Line(line) => {
                    self.call(|agent, now, out, link| agent.handle_line(now, line, out, link));
                }
                Event::Ended(how) => ending = Some(how),
            }
        });
        let status = match (ending, turn) {
            (Some(ending), _) => ending.to_string(),
            (None, Err(error)) => format!("it cannot be waited for: {error}"),
            (None, Ok(())) => {
                self.process = Some(process);
                return;
            }
        };
        // Before it has seen a prompt, what it complains of can quote none.
        let unprompted = self.agent.counters().prompts == self.prompts_before;
        let status = match process.complaint() {
            complaint if unprompted && !complaint.is_empty() => {
                format!("{status}; its last words: {complaint}")
            }
            _ => status,
        };
        drop(process);
        self.directory.clear();
        self.call(|agent, now, out, link| agent.handle_exited(now, &status, out, link));
    }
}
