//! Inputs and outputs of the machine of an ACP agent, as plain data.

use super::tools::{CallId, ToolReply};
use crate::link::FromAgent;
pub use crate::process::Load;
use crate::process::{self, Rules};
use crate::rpc::Outbox;
use crate::time::Instant;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use core::time::Duration;

/// Receiver of a machine's answers, usually [`Link::handle_message`](crate::link::Link::handle_message).
pub type ToLink<'l> = dyn FnMut(FromAgent<'_>) + 'l;

/// Limits and times of one agent.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Config {
    /// The working directory that each session is told: absolute, private, empty.
    pub cwd: String,
    /// True: each session is told a directory of its own instead, which is named by a number and is below `cwd`, so that no
    /// conversation finds what another one has left. The driver makes and removes it, see [`Order`].
    pub session_directories: bool,
    /// Bytes of an answer that are kept to recognise its conversation; a longer one is delivered and not resumed.
    pub answer_bytes: usize,
    /// Times and bounds of the process's life. It is ready when it has answered `initialize` and its first `session/new`.
    pub process: Rules,
    /// For later `session/new`, and the settings of a session.
    pub request_timeout: Duration,
    /// For the answer to a `session/cancel`.
    pub cancel_timeout: Duration,
    /// False: each request gets a new session.
    pub reuse: bool,
    /// Bounds on the sessions in which no turn runs, and on the memory of the agent.
    pub sessions: SessionLimits,
    /// Longest time that a conversation of one request is kept, where [`SessionLimits::idle`] is longer. Most of them never go
    /// on; a program that goes on by itself does so within this time.
    pub one_shot: Duration,
    /// Sessions that an agent without `session/close` may have opened before it is started anew.
    pub sessions_per_process: u32,
    /// URL at which agents reach the MCP servers of the caller's tools, up to and with the last slash:
    /// `http://127.0.0.1:8080/agents/mcp/`. `None`: no tools.
    pub tools_url: Option<String>,
    /// Between signs of life on a parked call.
    pub tool_progress: Duration,
    /// Longest time that a call waits for the client's result.
    pub tool_timeout: Duration,
    /// Wait for more calls after the latest one, before the client's answer ends.
    pub tool_gather: Duration,
}

/// Bounds on what an agent keeps between turns.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SessionLimits {
    /// Sessions in which no turn runs, the empty one that is ready for the next conversation among them. 0: none.
    pub keep: usize,
    /// Longest time that a conversation is kept after its last turn.
    pub idle: Duration,
    /// Memory of the agent and all that it has started, in bytes, see [`Load::memory`].
    pub memory: u64,
}

impl Default for SessionLimits {
    fn default() -> Self {
        Self {
            keep: 4,
            idle: Duration::from_secs(5 * 60),
            memory: 2 << 30,
        }
    }
}

/// Sessions of an agent, and its use of the machine.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct SessionFigures {
    /// Sessions in which no turn runs: at most [`SessionLimits::keep`].
    pub kept: usize,
    /// Sessions in which a turn runs, also one that waits for the caller's tools.
    pub running: usize,
    /// The latest measurement of the process that runs; `None` before the first one, and where the system tells nothing.
    pub load: Option<Load>,
    /// The bounds.
    pub limits: SessionLimits,
}

impl Config {
    /// The defaults, with the working directory of the sessions.
    #[must_use]
    pub fn new(cwd: &str) -> Self {
        Self {
            cwd: cwd.into(),
            session_directories: false,
            answer_bytes: 1 << 20,
            process: Rules {
                start_timeout: Duration::from_secs(60),
                unpunished: 1,
                proven: Duration::from_secs(30),
                // Its clients ask again and again, and hear what is wrong with it.
                attempts: None,
                ..Rules::default()
            },
            request_timeout: Duration::from_secs(60),
            cancel_timeout: Duration::from_secs(10),
            reuse: true,
            sessions: SessionLimits::default(),
            one_shot: Duration::from_secs(10),
            sessions_per_process: 64,
            tools_url: None,
            tool_progress: Duration::from_secs(10),
            tool_timeout: Duration::from_secs(10 * 60),
            tool_gather: Duration::from_millis(150),
        }
    }
}

/// Outputs of a call. The driver takes everything after each call.
#[derive(Default)]
pub struct Out {
    /// For the process's standard input. A process that leaves more in it than its limits allow counts as stuck.
    pub lines: Outbox,
    /// For the process's supervisor, in this order.
    pub orders: Vec<Order>,
    /// For the log and the console.
    pub events: Vec<Event>,
    /// True when [`Agent::session_figures`](super::Agent::session_figures) may have changed; the driver sets it to false.
    pub figures_changed: bool,
    /// For HTTP requests of the agent that wait (see [`tools`](super::tools)).
    pub tool_replies: Vec<(CallId, ToolReply)>,
}

impl Out {
    /// Nothing, with the usual limits of the lines.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }
}

impl fmt::Debug for Out {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Out")
            .field("lines", &self.lines)
            .field("orders", &self.orders)
            .field("events", &self.events)
            .finish_non_exhaustive()
    }
}

/// Orders of the machine about its process. The driver carries them out before it writes any further line.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Order {
    /// Start it, and report `handle_started` or `handle_exited`.
    Start,
    /// Close its standard input once all lines are written: it is to exit by itself.
    CloseInput,
    /// Send SIGTERM to it and its group.
    Terminate,
    /// Kill it and all that it started.
    Kill,
    /// Measure what it uses, and report `handle_load`.
    Measure,
    /// Make the directory of a session, by its name below `cwd`.
    MakeDirectory(u64),
    /// Remove the directory of a session. Those that are left when the process ends go with it.
    RemoveDirectory(u64),
}

impl From<process::Order> for Order {
    fn from(order: process::Order) -> Self {
        match order {
            process::Order::Spawn => Self::Start,
            process::Order::CloseInput => Self::CloseInput,
            process::Order::Terminate => Self::Terminate,
            process::Order::Kill => Self::Kill,
        }
    }
}

/// Events that a person may want to know. None holds a prompt.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Event {
    /// It answered `initialize`.
    Initialized {
        /// Its own name and version, `OpenCode 1.18.33`.
        agent: String,
    },
    /// It has not answered `initialize` for 5 s. It is waited for all the same.
    Silent {
        /// The first line that it printed, shortened; `None` when it printed none.
        printed: Option<String>,
    },
    /// It makes no session, for another reason than a login.
    Unable {
        /// Reason, as the agent told it.
        why: String,
    },
    /// It can answer, for so many models.
    Ready {
        /// The default one counts too.
        models: usize,
    },
    /// It wants a login.
    LoginNeeded {
        /// Step that the person takes.
        advice: String,
        /// The methods for [`Agent::authenticate`](super::Agent::authenticate): id and name.
        methods: Vec<(String, String)>,
    },
    /// It has a session that may answer, after it had none.
    Registered,
    /// It has no session that may answer. It registers by itself where that helps.
    NoSession {
        /// Reason, for its operator.
        why: String,
    },
    /// It ended.
    Exited {
        /// As the driver told it.
        status: String,
        /// Latest time at which it is started again; `None` when it is not.
        restart: Option<Instant>,
    },
    /// It is started anew although nothing is wrong with it.
    Recycled {
        /// Reason, as a clause that follows `because`.
        why: &'static str,
    },
    /// It has just been started and uses more than its bound already, so that ending sessions or starting it anew cannot help.
    OverMemory {
        /// Measured use in bytes.
        used: u64,
        /// The bound in bytes.
        limit: u64,
    },
    /// It is started anew because it misbehaved.
    Misbehaved {
        /// Reason, as a clause that follows `because`.
        what: &'static str,
    },
    /// It asked for a permission, and was refused.
    PermissionRefused {
        /// The kind of tool, `execute` say.
        kind: String,
    },
    /// It asked for something that this client does not do.
    RequestRefused {
        /// Name of the method.
        method: String,
    },
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Initialized { agent } => write!(f, "the agent says that it is {agent}"),
            Self::Silent { printed: None } => {
                f.write_str("the agent has printed no line and not answered `initialize` for 5 s")
            }
            Self::Silent {
                printed: Some(line),
            } => write!(
                f,
                "the agent printed `{line}`, which is not ACP, and has not answered `initialize` for 5 s"
            ),
            // The reason may quote instructions, which belong in no log.
            Self::Unable { .. } => {
                f.write_str("the agent makes no session; `doctor --try` shows why")
            }
            Self::Ready { models } => write!(f, "the agent is ready, with {models} models"),
            Self::LoginNeeded { advice, .. } => write!(f, "the agent wants a login: {advice}"),
            Self::Registered => f.write_str("the agent has a session again"),
            Self::NoSession { why } => write!(f, "the agent is asked nothing: {why}"),
            Self::Exited { status, restart } => {
                write!(f, "the agent ended ({status})")?;
                f.write_str(match restart {
                    Some(_) => "; it will be started again",
                    None => "",
                })
            }
            Self::Recycled { why: reason } | Self::Misbehaved { what: reason } => {
                write!(f, "the agent is started anew, because {reason}")
            }
            Self::OverMemory { used, limit } => write!(
                f,
                "the agent uses {} MiB from its start on, and agents[].sessions.memory allows {} MiB: it keeps no sessions until it uses less",
                used >> 20,
                limit >> 20
            ),
            Self::PermissionRefused { kind } => {
                write!(f, "the agent asked to use a tool ({kind}) and was refused")
            }
            Self::RequestRefused { method } => {
                write!(f, "the agent asked for {method} and was refused")
            }
        }
    }
}

/// Counts of events since the machine was made.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct AgentCounters {
    /// `session/new` answered.
    pub sessions: u64,
    /// Prompts sent.
    pub prompts: u64,
    /// Prompts that went on in the session of their conversation.
    pub reused: u64,
    /// Prompts that found an empty session ready.
    pub ready: u64,
    /// Lines that are no JSON-RPC message.
    pub noise: u64,
    /// Messages that were cut, mixed or too long.
    pub damaged: u64,
    /// Updates that belonged to no turn that was running; dropped.
    pub late: u64,
    /// Updates of a kind that is not known.
    pub unknown_updates: u64,
    /// `notice` updates.
    pub notices: u64,
    /// Permissions refused.
    pub permissions_refused: u64,
    /// Calls of the caller's tools.
    pub tool_calls: u64,
}
