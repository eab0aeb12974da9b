//! Metrics of the MCP servers that the program offers: sessions, processes and requests.

use super::super::status::ProgramStatus;
use super::{Family, Kind, Value, counter, number};
use alloc::vec::Vec;

/// Adds the metrics of the MCP servers. A server has one sample for each state and each outcome, whatever its clients ask.
pub(super) fn add<'s>(status: &'s ProgramStatus, table: &mut Vec<Family<'s>>) {
    if status.servers.is_empty() {
        return;
    }
    let mut sessions = Family::new(
        "mcp_local_provider_mcp_sessions",
        Kind::Gauge,
        "Sessions of clients with an MCP server.",
    );
    let mut processes = Family::new(
        "mcp_local_provider_mcp_processes",
        Kind::Gauge,
        "Processes of an MCP server, by state.",
    );
    let mut requests = counter(
        "mcp_local_provider_mcp_requests",
        "Requests to an MCP server that have ended, by outcome: an answer of the server, or the reason for which there was none.",
    );
    let mut restarts = counter(
        "mcp_local_provider_mcp_restarts",
        "Processes of an MCP server that took the place of one that had ended.",
    );
    for server in &status.servers {
        let name = ("server", server.name.as_str());
        sessions = sessions.with(&[name], number(server.sessions));
        for (state, count) in &server.processes {
            processes = processes.with(&[name, ("state", state)], number(*count));
        }
        for (outcome, count) in &server.requests {
            requests = requests.with(&[name, ("outcome", outcome)], Value::Count(*count));
        }
        restarts = restarts.with(&[name], Value::Count(server.restarts));
    }
    table.extend([sessions, processes, requests, restarts]);
}
