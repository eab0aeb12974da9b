//! What only the driver knows of the running program, as plain data for metrics and health.

use crate::link::LinkCounters;
use crate::time::Instant;
use alloc::string::String;
use alloc::vec::Vec;
use core::time::Duration;

/// What the driver tells when metrics or health are asked for. What does not exist in a program is left at its default.
#[derive(Clone, Debug, Default)]
pub struct ProgramStatus {
    /// How long the hub took to answer for this.
    pub hub_latency: Duration,
    /// Client connections open now.
    pub connections: usize,
    /// `limits.connections`.
    pub max_connections: usize,
    /// All links together.
    pub links: LinkTotals,
    /// The audit file; `None` when none is written.
    pub audit: Option<AuditFigures>,
    /// What the process uses; `None` where the system does not tell.
    pub process: Option<ProcessFigures>,
    /// The agents that the program starts itself.
    pub agents: Vec<AgentFigures>,
    /// Parts that only the driver has, such as `bridge:NAME` and `agent:NAME`.
    pub components: Vec<Component>,
}

/// An agent that the program starts itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AgentFigures {
    /// Its name in the configuration.
    pub name: String,
    /// Whether its process runs and can answer.
    pub running: bool,
    /// Processes started; all after the first are restarts.
    pub starts: u64,
}

/// The links of agents, all together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LinkTotals {
    /// What happened on them, those that are gone included.
    pub counters: LinkCounters,
    /// Frames that wait to be written to agents now.
    pub queued_frames: usize,
    /// What these cost of `limits.link_queue_bytes`.
    pub queued_bytes: usize,
    /// Exchanges that wait for agents now, each with a mailbox.
    pub mailboxes: usize,
    /// What waits in the mailboxes, as charged to `limits.mailbox_bytes`.
    pub mailbox_bytes: usize,
}

/// The audit file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AuditFigures {
    /// Records that reached the file.
    pub written: u64,
    /// Records that did not.
    pub lost: u64,
    /// Bytes that wait for the disk now.
    pub queued_bytes: usize,
    /// Why the latest write failed; `None` as soon as one succeeds.
    pub error: Option<String>,
}

/// What the process uses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ProcessFigures {
    /// Processor time of all threads since the start.
    pub cpu: Duration,
    /// Memory that is resident.
    pub resident_bytes: u64,
    /// Open files and sockets.
    pub open_files: u64,
    /// Threads.
    pub threads: u64,
}

/// How well a part works. The order is from best to worst.
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
    /// How well it works.
    pub health: Health,
    /// When that was found out.
    pub last_check: Instant,
    /// What went wrong since the start, counted.
    pub errors: u64,
    /// How long it takes to do its work, where that is measured.
    pub latency: Option<Duration>,
    /// Why it is not healthy.
    pub message: Option<String>,
}
