//! The parts of `GET /stats` that tell of the MCP servers.

use super::super::status::ProgramStatus;
use alloc::vec::Vec;
use serde_json::{Map, Value, json};

/// Parts of `/stats` about the processes of the servers, the sessions of clients with them, and their requests.
pub(super) fn summary(status: &ProgramStatus) -> [(&'static str, Value); 3] {
    let (gateway, servers) = (&status.gateway, &status.servers);
    let mut by_state = Map::new();
    for (state, count) in servers.iter().flat_map(|server| &server.processes) {
        let before = by_state.get(*state).and_then(Value::as_u64);
        let count = u64::try_from(*count).unwrap_or(u64::MAX);
        by_state.insert(
            (*state).into(),
            before.unwrap_or(0).saturating_add(count).into(),
        );
    }
    let counts = servers.iter().flat_map(|server| &server.processes);
    let total: usize = counts.map(|(_, count)| count).sum();
    let running = servers.iter().flat_map(|server| {
        server.running.iter().map(|process| {
            json!({
                "name": server.name,
                "state": process.state,
                "pid": process.pid,
                "uptime_seconds": process.uptime.as_secs(),
            })
        })
    });
    let running: Vec<Value> = running.collect();
    let by_transport = gateway.by_transport.iter();
    let by_transport: Map<_, _> = by_transport
        .map(|(transport, count)| ((*transport).into(), json!(count)))
        .collect();
    let (mut all, mut all_errors) = (0, 0);
    let mut by_server = Map::new();
    for server in servers {
        let (total, errors) = server.totals();
        all += total;
        all_errors += errors;
        let counts = json!({ "total": total, "errors": errors });
        by_server.insert(server.name.clone(), counts);
    }
    [
        (
            "process_stats",
            json!({
                "total": total,
                "max": gateway.max_processes,
                "by_state": by_state,
                "servers": running,
            }),
        ),
        (
            "session_stats",
            json!({
                "active": gateway.active,
                "detached": gateway.detached,
                "created": gateway.created,
                "by_transport": by_transport,
            }),
        ),
        (
            "request_stats",
            json!({ "total": all, "errors": all_errors, "by_server": by_server }),
        ),
    ]
}
