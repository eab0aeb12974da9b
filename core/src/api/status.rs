//! Figures of the running program that only the driver knows, as plain data for metrics and health.

use crate::agents::acp::SessionFigures;
use crate::hub::upstreams::UpstreamStatus;
use crate::link::LinkCounters;
use crate::time::Instant;
use alloc::string::String;
use alloc::vec::Vec;
use core::time::Duration;

/// The driver's report for metrics and health. Parts that a program does not have are left at their defaults.
#[derive(Clone, Debug, Default)]
pub struct ProgramStatus {
    /// Time that the hub took to answer for this.
    pub hub_latency: Duration,
    /// Client connections open now.
    pub connections: usize,
    /// `limits.connections`.
    pub max_connections: usize,
    /// All links together.
    pub links: LinkTotals,
    /// The audit file; `None` when none is written.
    pub audit: Option<AuditFigures>,
    /// Resources of the process; `None` when the system does not tell.
    pub process: Option<ProcessFigures>,
    /// The agents that the program starts itself.
    pub agents: Vec<AgentFigures>,
    /// Servers of models that are asked in their own APIs.
    pub upstreams: Vec<UpstreamStatus>,
    /// The MCP servers that the program offers.
    pub servers: Vec<ServerFigures>,
    /// The gateway to these servers.
    pub gateway: GatewayFigures,
    /// The registry; `None` where there is none.
    pub registry: Option<RegistryFigures>,
    /// Parts that only the driver has, such as `bridge:NAME` and `agent:NAME`.
    pub components: Vec<Component>,
}

/// An agent that the program starts itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AgentFigures {
    /// Its name in the configuration.
    pub name: String,
    /// True when its process runs and can answer.
    pub running: bool,
    /// Processes started; all after the first are restarts.
    pub starts: u64,
    /// Its sessions and the memory of its processes, with their bounds.
    pub sessions: SessionFigures,
}

/// An MCP server that the program offers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServerFigures {
    /// Its name in the configuration.
    pub name: String,
    /// Sessions of clients.
    pub sessions: usize,
    /// Processes by their state, each state once.
    pub processes: Vec<(&'static str, usize)>,
    /// Requests of clients that have ended, by their outcome, each outcome once.
    pub requests: Vec<(&'static str, u64)>,
    /// Processes that took the place of one that had ended.
    pub restarts: u64,
    /// The processes that run now.
    pub running: Vec<ServerProcess>,
    /// The state that stands for all its processes.
    pub state: &'static str,
    /// Reason of the latest failure; `None` where none has failed.
    pub last_error: Option<String>,
}

impl ServerFigures {
    /// Returns the number of requests that have ended, and of those among them that the server has not answered.
    #[must_use]
    pub fn totals(&self) -> (u64, u64) {
        let count = |wanted: fn(&str) -> bool| {
            let requests = self.requests.iter();
            let wanted = requests.filter(|(outcome, _)| wanted(outcome));
            wanted.map(|(_, count)| count).sum()
        };
        (count(|_| true), count(|outcome| outcome != "answered"))
    }
}

/// A process of an MCP server.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServerProcess {
    /// Its id, or that of the process that supervises it; `None` for a connection to a server elsewhere.
    pub pid: Option<i32>,
    /// Name of its state.
    pub state: &'static str,
    /// Time since its start.
    pub uptime: Duration,
}

/// The gateway to MCP servers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GatewayFigures {
    /// `gateway.processes.max`.
    pub max_processes: usize,
    /// Sessions of clients that something is connected to, or in which a request is open.
    pub active: usize,
    /// All other sessions of clients.
    pub detached: usize,
    /// Sessions that were opened since the start.
    pub created: u64,
    /// Sessions by the transport that opened them, each transport once.
    pub by_transport: Vec<(&'static str, usize)>,
}

/// The registry of tools, resources, prompts and integrations.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RegistryFigures {
    /// Tools by their kind, each kind once.
    pub tools: Vec<(&'static str, usize)>,
    /// Runs of tools that have ended.
    pub executions: u64,
    /// Those among them whose result was an error, or that had none.
    pub errors: u64,
    /// Runs that are open, and those that wait for one of them to end.
    pub running: (usize, usize),
    /// Resources, those with a template too.
    pub resources: usize,
    /// Resources that are kept after they were read.
    pub cached: usize,
    /// Bytes of these.
    pub cache_bytes: usize,
    /// Reads that the cache, or the definition itself, served.
    pub hits: u64,
    /// Reads that it did not.
    pub misses: u64,
    /// Subscriptions to resources.
    pub subscriptions: usize,
    /// Prompts.
    pub prompts: usize,
    /// Integrations.
    pub integrations: usize,
    /// Those that are enabled.
    pub enabled_integrations: usize,
    /// Completions by their status, each status once.
    pub completions: Vec<(&'static str, usize)>,
    /// Bytes of the file.
    pub store_bytes: u64,
    /// Changes that the file did not take.
    pub not_stored: u64,
    /// Reason for which it did not take the latest one; `None` as soon as it takes one.
    pub store_error: Option<String>,
}

impl RegistryFigures {
    /// Returns the number of tools.
    #[must_use]
    pub fn all_tools(&self) -> usize {
        self.tools.iter().map(|(_, count)| count).sum()
    }
}

/// The links of agents, all together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LinkTotals {
    /// Counts of all links, those that are gone included.
    pub counters: LinkCounters,
    /// Links that are up.
    pub up: usize,
    /// Time of the last ping to any agent.
    pub last_ping: Option<Instant>,
    /// Answers of agents that have begun and not ended.
    pub streams: usize,
    /// Frames that wait to be written to agents now.
    pub queued_frames: usize,
    /// Cost of these frames, as charged to `limits.link_queue_bytes`.
    pub queued_bytes: usize,
    /// Exchanges that wait for agents now, each with a mailbox.
    pub mailboxes: usize,
    /// Bytes that wait in the mailboxes, as charged to `limits.mailbox_bytes`.
    pub mailbox_bytes: usize,
}

impl LinkTotals {
    /// Returns the state of the connection to agents in `/health` and `/stats`.
    #[must_use]
    pub const fn status(&self) -> &'static str {
        if self.up > 0 {
            "connected"
        } else {
            "disconnected"
        }
    }
}

/// The audit file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AuditFigures {
    /// Records that reached the file.
    pub written: u64,
    /// Records that did not.
    pub lost: u64,
    /// Records that wait for the disk now.
    pub queued_records: usize,
    /// Bytes that are charged for them, about the length of their lines.
    pub queued_bytes: usize,
    /// Reason for which the latest write failed; `None` as soon as one succeeds.
    pub error: Option<String>,
}

/// Resources that the process uses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ProcessFigures {
    /// Processor time of all threads since the start.
    pub cpu: Duration,
    /// Thousandths of one processor in use, on average since these figures were read before.
    pub cpu_per_mille: u64,
    /// Memory that is resident.
    pub resident_bytes: u64,
    /// Open files and sockets.
    pub open_files: u64,
    /// Threads.
    pub threads: u64,
    /// The disk with the program's data; `None` when the system does not tell.
    pub disk: Option<DiskFigures>,
}

/// Room on a disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DiskFigures {
    /// Bytes that may be written still.
    pub free_bytes: u64,
    /// Bytes of the whole disk.
    pub total_bytes: u64,
}

/// Health of a part. The order is from best to worst.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Health {
    /// As it should.
    Healthy,
    /// With less than it should have; the program serves.
    Degraded,
    /// Not at all.
    Unhealthy,
}

impl Health {
    /// The name in `/health/deep`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Healthy => "healthy",
            Self::Degraded => "degraded",
            Self::Unhealthy => "unhealthy",
        }
    }
}

/// One part in `/health/deep`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Component {
    /// For people and programs: `http`, `bridge:home`.
    pub name: String,
    /// Its health.
    pub health: Health,
    /// Time at which this health was observed.
    pub last_check: Instant,
    /// Errors since the start.
    pub errors: u64,
    /// Time that it takes to do its work; `None` when that is not measured.
    pub latency: Option<Duration>,
    /// Reason for which it is not healthy.
    pub message: Option<String>,
    /// Sessions and memory of an agent that the program starts; `None` for every other part.
    pub sessions: Option<SessionFigures>,
    /// The latest lines that it wrote to its standard error. They may quote prompts, so they are in no log.
    pub stderr: Vec<String>,
}
