//! Metrics of the agents that the program starts: processes, sessions and memory.

use super::super::status::ProgramStatus;
use super::{Family, Kind, Value, counter, number, seconds_of};
use alloc::vec::Vec;

/// Adds the metrics of the agents that the program starts.
pub(super) fn add<'s>(status: &'s ProgramStatus, table: &mut Vec<Family<'s>>) {
    if status.agents.is_empty() {
        return;
    }
    let mut running = Family::new(
        "mcp_local_provider_agent_running",
        Kind::Gauge,
        "Whether the process of an agent that this program starts can answer.",
    );
    let mut starts = counter(
        "mcp_local_provider_agent_starts",
        "Processes started for an agent; all after the first are restarts.",
    );
    let gauge = |name, help| Family::new(name, Kind::Gauge, help);
    let mut sessions = gauge(
        "mcp_local_provider_agent_sessions",
        "Sessions that an agent has: a turn runs in them, or they are kept between turns.",
    );
    let mut keep = gauge(
        "mcp_local_provider_agent_sessions_keep",
        "Sessions that an agent may keep between turns (agents[].sessions.keep).",
    );
    let mut idle = gauge(
        "mcp_local_provider_agent_sessions_idle_seconds",
        "Longest time that an agent keeps a conversation between turns (agents[].sessions.idle).",
    );
    let mut processes = gauge(
        "mcp_local_provider_agent_processes",
        "Processes of an agent and all that it has started, as last measured.",
    );
    let mut memory = gauge(
        "mcp_local_provider_agent_memory_bytes",
        "Memory (PSS) of an agent and all that it has started, as last measured.",
    );
    let mut limit = gauge(
        "mcp_local_provider_agent_memory_limit_bytes",
        "Bound on the memory of an agent and all that it has started (agents[].sessions.memory).",
    );
    for agent in &status.agents {
        let name = ("agent", agent.name.as_str());
        running = running.with(&[name], number(usize::from(agent.running)));
        starts = starts.with(&[name], Value::Count(agent.starts));
        let figures = &agent.sessions;
        for (state, count) in [("running", figures.running), ("kept", figures.kept)] {
            sessions = sessions.with(&[name, ("state", state)], number(count));
        }
        keep = keep.with(&[name], number(figures.limits.keep));
        idle = idle.with(&[name], seconds_of(figures.limits.idle));
        limit = limit.with(&[name], Value::Count(figures.limits.memory));
        if let Some(load) = figures.load {
            processes = processes.with(&[name], number(load.processes));
            memory = memory.with(&[name], Value::Count(load.memory));
        }
    }
    table.extend([
        running, starts, sessions, keep, idle, processes, memory, limit,
    ]);
}
