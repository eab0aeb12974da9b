//! Status of the running program: gathered when metrics or health are asked for, and only then.

use super::Engine;
use crate::gateway::Gateway;
use crate::outside::Usage;
use crate::ranked::{LEAF, Ranked};
use mcp_local_provider_core::agents::acp::SessionFigures;
use mcp_local_provider_core::api::status::{
    AgentFigures, Component, Health, LinkTotals, ProcessFigures, ProgramStatus,
};
use mcp_local_provider_core::hub::metrics::Snapshot;
use mcp_local_provider_core::time::Instant;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

/// Kinds of parts of the program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// An external bridge, which is dialled.
    Bridge,
    /// An agent that the program starts.
    Agent,
}

/// Status of a bridge or an agent.
#[derive(Debug)]
pub struct PartStatus {
    part: Part,
    name: String,
    state: Ranked<PartState, LEAF>,
}

#[derive(Debug, Default)]
struct PartState {
    connected: bool,
    given_up: bool,
    /// Time at which it was dialled or started last, or was lost.
    changed: Instant,
    /// Processes started for an agent.
    starts: u64,
    failures: u64,
    why: Option<String>,
    /// Sessions and memory of an agent.
    sessions: SessionFigures,
    /// The latest lines of the agent's standard error.
    stderr: VecDeque<String>,
}

/// Lines of an agent's standard error that are kept for `/health/deep`.
const STDERR_LINES: usize = 20;

impl PartStatus {
    /// A part that is being dialled or started.
    pub fn new(part: Part, name: &str) -> Arc<Self> {
        Arc::new(Self {
            part,
            name: name.to_owned(),
            state: Ranked::default(),
        })
    }

    /// A process was started for it.
    pub fn started(&self) {
        self.state.lock().starts += 1;
    }

    /// The agent has other sessions, or was measured again.
    pub fn has_sessions(&self, figures: SessionFigures) {
        self.state.lock().sessions = figures;
    }

    /// It wrote a line to its standard error. An agent may quote a prompt there, so that operators see it on demand, and
    /// no log does.
    pub fn wrote(&self, line: String) {
        let mut state = self.state.lock();
        if state.stderr.len() == STDERR_LINES {
            state.stderr.pop_front();
        }
        state.stderr.push_back(line);
    }

    /// There is a link, or the agent can answer.
    pub fn connected(&self, now: Instant) {
        let mut state = self.state.lock();
        state.connected = true;
        state.given_up = false;
        state.changed = now;
        state.why = None;
    }

    /// The link or the agent is lost, or could not be made; `given_up` when it is not tried again.
    pub fn lost(&self, now: Instant, why: String, given_up: bool) {
        let mut state = self.state.lock();
        state.connected = false;
        state.given_up = given_up;
        state.changed = now;
        state.failures += 1;
        state.why = Some(why);
    }

    fn component(&self, now: Instant) -> Component {
        let state = self.state.lock();
        let health = if state.connected {
            Health::Healthy
        } else if state.given_up {
            Health::Unhealthy
        } else {
            Health::Degraded
        };
        let (kind, never) = match self.part {
            Part::Bridge => ("bridge", "it is being dialled"),
            Part::Agent => ("agent", "it is being started"),
        };
        Component {
            name: format!("{kind}:{}", self.name),
            health,
            last_check: if state.connected { now } else { state.changed },
            errors: state.failures,
            latency: None,
            message: (!state.connected)
                .then(|| state.why.clone().unwrap_or_else(|| never.to_owned())),
            sessions: match self.part {
                Part::Bridge => None,
                Part::Agent => Some(state.sessions),
            },
            stderr: state.stderr.iter().cloned().collect(),
        }
    }

    fn figures(&self) -> AgentFigures {
        let state = self.state.lock();
        AgentFigures {
            name: self.name.clone(),
            running: state.connected,
            starts: state.starts,
            sessions: state.sessions,
        }
    }
}

/// Sums the links up.
pub(super) fn links(engine: &Engine) -> LinkTotals {
    let (cells, counters) = engine.all_links();
    let mut links = LinkTotals {
        counters,
        ..LinkTotals::default()
    };
    for link in cells {
        link.add_to(&mut links);
    }
    links
}

/// The processor time that was used when the usage was read last.
#[derive(Debug, Default)]
pub(super) struct Processor {
    read: Instant,
    cpu: Duration,
    per_mille: u64,
}

impl Processor {
    /// Time between two readings from which a share is made; a reading that comes sooner gets the share of the one before.
    const LEAST: Duration = Duration::from_secs(1);

    /// Returns the thousandths of one processor in use since the reading before.
    pub(super) fn per_mille(&mut self, now: Instant, cpu: Duration) -> u64 {
        let passed = now.since(self.read);
        if passed >= Self::LEAST {
            let used = cpu.saturating_sub(self.cpu).as_micros() * 1000;
            self.per_mille = u64::try_from(used / passed.as_micros()).unwrap_or(u64::MAX);
            (self.read, self.cpu) = (now, cpu);
        }
        self.per_mille
    }
}

/// Gathers all that is told.
pub(super) fn gather(engine: &Engine, process: Usage) -> (Snapshot, ProgramStatus) {
    let before = engine.now();
    let (snapshot, upstreams) = engine.hub(|hub, now, _| (hub.snapshot(now), hub.upstreams()));
    let hub_latency = engine.now().since(before);
    let links = links(engine);
    let audit = engine.audit().file.as_ref().map(|file| file.figures());
    let parts = engine.parts();
    let status = ProgramStatus {
        hub_latency,
        connections: engine.connections(),
        max_connections: engine.config().limits.connections,
        links,
        audit,
        process: Some(ProcessFigures {
            cpu: process.cpu,
            resident_bytes: process.resident_bytes,
            open_files: process.open_files,
            threads: process.threads,
            cpu_per_mille: process.cpu_per_mille,
            disk: process.disk,
        }),
        agents: parts
            .iter()
            .filter(|part| part.part == Part::Agent)
            .map(|agent| agent.figures())
            .collect(),
        upstreams,
        servers: engine
            .gateway()
            .map_or(Vec::new(), |gateway| gateway.figures(snapshot.now)),
        gateway: engine
            .gateway()
            .map(Gateway::own_figures)
            .unwrap_or_default(),
        registry: engine.registry().map(|registry| registry.figures()),
        components: parts
            .iter()
            .map(|part| part.component(snapshot.now))
            .collect(),
    };
    (snapshot, status)
}
