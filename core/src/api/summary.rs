//! `GET /summary`: what the program has, and what was done with it.

use super::answered::Answered;
use super::route::Route;
use super::status::ProgramStatus;
use crate::config::Role;
use crate::hub::metrics::Snapshot;
use crate::hub::sessions::Status;
use crate::time::Instant;
use serde_json::{Map, Value, json};

pub(super) const ROUTES: &[Route] = &[Route {
    monitors: false,
    ..Route::report(
        "GET /summary",
        &["/summary", "/registry/summary"],
        |snapshot, status, _| Answered::Json(200, summary(snapshot, status)),
    )
    .for_roles(&[Role::Operator])
}];

/// All of it; zeros for a registry that is off.
fn summary(snapshot: &Snapshot, status: &ProgramStatus) -> Value {
    let registry = status.registry.clone().unwrap_or_default();
    let counts = |all: &[(&'static str, usize)]| {
        let all = all.iter();
        let all = all.map(|(name, count)| ((*name).into(), json!(count)));
        Value::Object(all.collect::<Map<_, _>>())
    };
    let sessions = Status::ALL.iter().zip(snapshot.metrics.sessions);
    let sessions: Map<_, _> = sessions
        .map(|(status, count)| (status.as_str().into(), json!(count)))
        .collect();
    let servers = status.servers.iter();
    let servers: Map<_, _> = servers
        .map(|server| (server.name.clone(), json!(server.state)))
        .collect();
    json!({
        "version": env!("CARGO_PKG_VERSION"),
        "uptime_seconds": snapshot.now.since(Instant::ZERO).as_secs(),
        "tools": {
            "total": registry.all_tools(),
            "by_kind": counts(&registry.tools),
            "executions": registry.executions,
            "errors": registry.errors,
        },
        "resources": {
            "total": registry.resources,
            "cached": registry.cached,
            "cache_bytes": registry.cache_bytes,
            "hits": registry.hits,
            "misses": registry.misses,
            "subscriptions": registry.subscriptions,
        },
        "prompts": { "total": registry.prompts },
        "integrations": {
            "total": registry.integrations,
            "enabled": registry.enabled_integrations,
        },
        "completions": counts(&registry.completions),
        "sessions": {
            "agents": sessions,
            "mcp": status.gateway.active + status.gateway.detached,
        },
        "servers": servers,
        "store": { "bytes": registry.store_bytes },
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::status::{RegistryFigures, ServerFigures};
    use crate::hub::metrics::{Metrics, Tally};
    use crate::time::WallClock;
    use core::time::Duration;

    #[test]
    fn the_parts_are_those_of_the_registry_the_hub_and_the_gateway() {
        let now = Instant::from_micros(7_000_000);
        let snapshot = Snapshot {
            now,
            wall: WallClock::new(now, Duration::ZERO),
            metrics: Metrics::default(),
            requests: alloc::vec![],
            answering: 0,
            draining: false,
            recent: Tally::default(),
            recent_span: Duration::ZERO,
        };
        let status = ProgramStatus {
            registry: Some(RegistryFigures {
                tools: alloc::vec![("chain", 1), ("http", 2)],
                executions: 9,
                errors: 1,
                completions: alloc::vec![("queued", 3)],
                store_bytes: 4096,
                ..RegistryFigures::default()
            }),
            servers: alloc::vec![ServerFigures {
                name: "files".into(),
                state: "ready",
                ..ServerFigures::default()
            }],
            ..ProgramStatus::default()
        };
        let value = summary(&snapshot, &status);
        let tools =
            json!({"total": 3, "by_kind": {"chain": 1, "http": 2}, "executions": 9, "errors": 1});
        assert_eq!(value.get("tools"), Some(&tools));
        assert_eq!(value.get("servers"), Some(&json!({"files": "ready"})));
        assert_eq!(value.get("completions"), Some(&json!({"queued": 3})));
        assert_eq!(value.get("uptime_seconds"), Some(&json!(7)));
        let off = summary(&snapshot, &ProgramStatus::default());
        assert_eq!(off.pointer("/tools/total"), Some(&json!(0)));
    }
}
