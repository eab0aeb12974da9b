//! Health: whether the program serves, and how well each part works.

use super::answered::{Answered, Input};
use super::route::Route;
use super::status::{Component, Health, ProgramStatus};
use crate::config::Role;
use crate::error::Refusal;
use crate::hub::lists::Lists;
use crate::hub::metrics::Snapshot;
use crate::time::Instant;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::time::Duration;
use serde_json::{Map, Value, json};

pub(super) const ROUTES: &[Route] = &[
    Route::read("GET /health", &["/health"], health)
        .open()
        .monitoring()
        .while_draining(),
    Route::report(
        "GET /health/deep",
        &["/health/deep"],
        |snapshot, status, _| {
            let (code, value) = deep(snapshot, status);
            Answered::Json(code, value)
        },
    )
    .for_roles(&[Role::Operator]),
];

/// 503 while the program is shutting down, 200 otherwise. Strangers learn no more than whether it serves.
fn health(lists: &Lists, input: &Input<'_>) -> Result<Answered, Refusal> {
    let status = if lists.draining {
        "draining"
    } else {
        "healthy"
    };
    let timestamp = lists.wall.rfc3339(input.now);
    let links = &input.links;
    let value = if input.local {
        json!({
            "status": status,
            "version": env!("CARGO_PKG_VERSION"),
            "uptime_seconds": input.now.since(Instant::ZERO).as_secs(),
            "active_sessions": lists.active,
            "timestamp": timestamp,
            "mcp_connection": {
                "status": links.status(),
                "last_ping": links.last_ping.map(|at| lists.wall.rfc3339(at)),
                "messages_sent": links.counters.sent,
                "messages_received": links.counters.received,
                "pending_requests": links.mailboxes.saturating_sub(links.streams),
                "active_streams": links.streams,
            },
        })
    } else {
        json!({ "status": status, "timestamp": timestamp })
    };
    let code = if lists.draining { 503 } else { 200 };
    Ok(Answered::Json(code, value))
}

/// 503 when a part does not work at all or the program is shutting down, 200 otherwise.
fn deep(snapshot: &Snapshot, status: &ProgramStatus) -> (u16, Value) {
    let mut components = components(snapshot, status);
    components.extend(status.components.iter().cloned());
    let worst = components
        .iter()
        .map(|component| component.health)
        .max()
        .unwrap_or(Health::Healthy);
    let serves = worst < Health::Unhealthy && !snapshot.draining;
    let mut parts = Map::new();
    for component in &components {
        parts.insert(component.name.clone(), part(snapshot, component));
    }
    let metrics = &snapshot.metrics;
    let value = json!({
        "status": if snapshot.draining { "draining" } else { worst.as_str() },
        "version": env!("CARGO_PKG_VERSION"),
        "uptime_seconds": snapshot.now.since(Instant::ZERO).as_secs(),
        "timestamp": snapshot.wall.rfc3339(snapshot.now),
        "components": parts,
        "system": status.process.map(|process| json!({
            "cpu_seconds": process.cpu.as_secs_f64(),
            "cpu_percent": ratio(process.cpu_per_mille, 10),
            "resident_bytes": process.resident_bytes,
            "open_files": process.open_files,
            "threads": process.threads,
            "disk": process.disk.map(|disk| json!({
                "free_bytes": disk.free_bytes,
                "total_bytes": disk.total_bytes,
            })),
        })),
        "requests": {
            "open": metrics.open,
            "waiting": metrics.queued,
            "admitted": metrics.admitted,
            "completed": metrics.completed,
            "failed": metrics.failed,
            "cancelled": metrics.cancelled,
            "rate_limited": metrics.limited_requests + metrics.limited_tokens,
            "overloaded": metrics.overloaded,
            "mean_duration_ms": metrics.latency.mean().map(milliseconds),
            "mean_time_to_first_token_ms": metrics.time_to_first_token.mean().map(milliseconds),
            "recent": recent(snapshot),
        },
    });
    (if serves { 200 } else { 503 }, value)
}

/// Counts of the last five minutes, and the time that they cover.
fn recent(snapshot: &Snapshot) -> Value {
    let (tally, span) = (&snapshot.recent, snapshot.recent_span);
    // After a start a rate over a part of a second says nothing.
    let seconds = span.as_secs().max(1);
    json!({
        "seconds": seconds,
        "requests_per_second": ratio(tally.requests, seconds),
        "error_rate": ratio(tally.failed, tally.requests.max(1)),
        "sessions_made": tally.sessions_made,
        "sessions_expired": tally.sessions_expired,
    })
}

#[allow(clippy::cast_precision_loss)] // the figures are for people
fn ratio(part: u64, whole: u64) -> f64 {
    part as f64 / whole as f64
}

fn part(snapshot: &Snapshot, component: &Component) -> Value {
    json!({
        "status": component.health.as_str(),
        "last_check": snapshot.wall.rfc3339(component.last_check),
        "error_count": component.errors,
        "latency_ms": component.latency.map(milliseconds),
        "message": component.message,
        "details": details(component),
    })
}

fn details(component: &Component) -> Option<Value> {
    let mut details = Map::new();
    if let Some(sessions) = &component.sessions {
        let limits = &sessions.limits;
        details.insert(
            "sessions".into(),
            json!({
                "running": sessions.running,
                "kept": sessions.kept,
                "keep": limits.keep,
                "idle_seconds": limits.idle.as_secs_f64(),
            }),
        );
        // Null: not measured, or not yet.
        details.insert(
            "processes".into(),
            sessions.load.map(|load| load.processes).into(),
        );
        details.insert(
            "memory".into(),
            json!({
                "pss_bytes": sessions.load.map(|load| load.memory),
                "limit_bytes": limits.memory,
            }),
        );
    }
    if !component.stderr.is_empty() {
        details.insert("stderr".into(), json!(component.stderr));
    }
    (!details.is_empty()).then_some(Value::Object(details))
}

fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}

/// The parts that every driver has. Each is looked at now.
fn components(snapshot: &Snapshot, status: &ProgramStatus) -> Vec<Component> {
    let metrics = &snapshot.metrics;
    let component = |name: &str, errors, latency, found: Option<(Health, String)>| Component {
        name: name.into(),
        health: found.as_ref().map_or(Health::Healthy, |found| found.0),
        last_check: snapshot.now,
        errors,
        latency,
        message: found.map(|found| found.1),
        sessions: None,
        stderr: Vec::new(),
    };
    let degraded = |message: &str| Some((Health::Degraded, String::from(message)));
    let server_errors = snapshot
        .requests
        .iter()
        .filter(|request| request.status >= 500)
        .map(|request| request.count)
        .sum();
    let full = status.max_connections > 0 && status.connections >= status.max_connections;
    let http = if snapshot.draining {
        degraded("shutting down: nothing new is admitted")
    } else if full {
        degraded("limits.connections is used up")
    } else {
        None
    };
    let hub = if metrics.unsettled > 0 {
        degraded("accounts of exchanges were lost, which is a fault of this program")
    } else if metrics.queued > 0 {
        degraded("requests wait for capacity")
    } else {
        None
    };
    let links = if metrics.links == 0 && !status.upstreams.is_empty() && snapshot.answering > 0 {
        // Upstreams answer.
        None
    } else if metrics.links == 0 {
        degraded("no agent is connected")
    } else if snapshot.answering == 0 {
        degraded(
            "agents are connected, but no session of theirs may answer; `mcp-local-provider sessions` shows them",
        )
    } else {
        None
    };
    let mut parts = alloc::vec![
        component("http", server_errors, metrics.latency.mean(), http),
        component("hub", metrics.unsettled, Some(status.hub_latency), hub),
        component(
            "links",
            status.links.counters.faults,
            metrics.time_to_first_token.mean(),
            links,
        ),
    ];
    for server in &status.servers {
        // The program serves without it.
        let found = match server.state {
            "unresponsive" | "backoff" | "failed" => {
                let why = server.last_error.as_deref();
                let why = why.unwrap_or("it gives no sign of life");
                Some((Health::Degraded, format!("{}: {why}", server.state)))
            }
            _ => None,
        };
        let (_, errors) = server.totals();
        parts.push(component(
            &format!("server:{}", server.name),
            errors,
            None,
            found,
        ));
    }
    for upstream in &status.upstreams {
        let pause = upstream.open_until.map(|until| until.since(snapshot.now));
        let found = match (upstream.circuit, &upstream.unlisted) {
            ("open", _) => Some(format!(
                "left alone for {:.1} s more, after {} failures in a row",
                pause.unwrap_or_default().as_secs_f64(),
                upstream.failures
            )),
            ("probing", _) => Some("the next request is a probe, after failures".into()),
            (_, Some(why)) => Some(format!("its list of models cannot be read: {why}")),
            (_, None) => None,
        };
        parts.push(component(
            &format!("upstream/{}", upstream.name),
            upstream.failed,
            None,
            found.map(|why| (Health::Degraded, why)),
        ));
    }
    if let Some(registry) = &status.registry {
        let found = registry.store_error.as_ref();
        let found = found.map(|why| (Health::Degraded, format!("it takes no changes: {why}")));
        parts.push(component("registry", registry.not_stored, None, found));
    }
    if let Some(audit) = &status.audit {
        let lost = audit.lost;
        let found = match &audit.error {
            // Serving goes on without it.
            Some(error) => Some((Health::Degraded, format!("records are being lost: {error}"))),
            None if lost > 0 => degraded("records were lost, but none is now"),
            None => None,
        };
        parts.push(component("audit", lost, None, found));
    }
    parts
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use super::*;
    use crate::agents::acp::{Load, SessionFigures};
    use crate::api::status::{AuditFigures, DiskFigures, ProcessFigures};
    use crate::hub::metrics::{Metrics, RequestCount, Tally};
    use crate::time::WallClock;
    use alloc::vec;

    fn snapshot() -> Snapshot {
        let now = Instant::from_micros(90_000_000);
        Snapshot {
            now,
            wall: WallClock::new(now, Duration::from_secs(1_767_225_900)),
            metrics: Metrics {
                links: 1,
                ..Metrics::default()
            },
            requests: vec![RequestCount {
                endpoint: "POST /api/chat",
                status: 502,
                count: 3,
            }],
            answering: 1,
            draining: false,
            recent: Tally {
                requests: 45,
                failed: 9,
                sessions_made: 2,
                sessions_expired: 1,
            },
            recent_span: Duration::from_secs(90),
        }
    }

    fn status() -> ProgramStatus {
        ProgramStatus {
            hub_latency: Duration::from_micros(250),
            audit: Some(AuditFigures::default()),
            process: Some(ProcessFigures {
                cpu: Duration::from_millis(1_500),
                cpu_per_mille: 125,
                resident_bytes: 9_000_000,
                open_files: 20,
                threads: 4,
                disk: Some(DiskFigures {
                    free_bytes: 7,
                    total_bytes: 9,
                }),
            }),
            ..ProgramStatus::default()
        }
    }

    #[test]
    fn every_part_says_how_it_is() {
        let (code, value) = deep(&snapshot(), &status());
        assert_eq!((code, &value["status"]), (200, &json!("healthy")));
        assert_eq!(
            value["components"]["http"],
            json!({ "status": "healthy", "last_check": "2026-01-01T00:05:00.000000Z", "error_count": 3, "latency_ms": null, "message": null, "details": null })
        );
        assert_eq!(value["components"]["hub"]["latency_ms"], 0.25);
        assert_eq!(
            value["system"],
            json!({ "cpu_seconds": 1.5, "cpu_percent": 12.5, "resident_bytes": 9_000_000, "open_files": 20, "threads": 4,
                    "disk": { "free_bytes": 7, "total_bytes": 9 } })
        );
        assert_eq!(value["requests"]["open"], 0);
        assert_eq!(
            value["requests"]["recent"],
            json!({ "seconds": 90, "requests_per_second": 0.5, "error_rate": 0.2, "sessions_made": 2, "sessions_expired": 1 })
        );
    }

    #[test]
    fn an_agent_tells_its_sessions_and_its_memory() {
        let sessions = SessionFigures {
            kept: 3,
            running: 1,
            load: Some(Load {
                processes: 5,
                memory: 640 << 20,
            }),
            ..SessionFigures::default()
        };
        let details = |load, stderr: &[&str]| {
            let agent = Component {
                name: "agent:claude".into(),
                health: Health::Healthy,
                last_check: Instant::from_micros(80_000_000),
                errors: 0,
                latency: None,
                message: None,
                sessions: Some(SessionFigures { load, ..sessions }),
                stderr: stderr.iter().map(|line| (*line).into()).collect(),
            };
            let status = ProgramStatus {
                components: vec![agent],
                ..status()
            };
            deep(&snapshot(), &status).1["components"]["agent:claude"]["details"].clone()
        };
        assert_eq!(
            details(sessions.load, &["words"]),
            json!({
                "sessions": { "running": 1, "kept": 3, "keep": 4, "idle_seconds": 300.0 },
                "processes": 5,
                "memory": { "pss_bytes": 671_088_640, "limit_bytes": 2_147_483_648u64 },
                "stderr": ["words"],
            })
        );
        let unmeasured = details(None, &[]);
        assert_eq!(unmeasured["processes"], Value::Null);
        assert_eq!(unmeasured["memory"]["pss_bytes"], Value::Null);
    }

    #[test]
    fn the_worst_part_decides() {
        let alone = Snapshot {
            metrics: Metrics::default(),
            ..snapshot()
        };
        let (code, value) = deep(&alone, &status());
        assert_eq!((code, &value["status"]), (200, &json!("degraded")));
        assert_eq!(
            value["components"]["links"]["message"],
            "no agent is connected"
        );

        let full_disk = ProgramStatus {
            audit: Some(AuditFigures {
                lost: 7,
                error: Some("no space left on device".into()),
                ..AuditFigures::default()
            }),
            ..status()
        };
        let (code, value) = deep(&snapshot(), &full_disk);
        let audit = &value["components"]["audit"];
        assert_eq!((code, &audit["status"]), (200, &json!("degraded")));
        assert_eq!(audit["error_count"], 7);
        assert!(
            audit["message"]
                .as_str()
                .unwrap()
                .ends_with("no space left on device")
        );

        let bridge = Component {
            name: "bridge:home".into(),
            health: Health::Unhealthy,
            last_check: Instant::from_micros(80_000_000),
            errors: 4,
            latency: None,
            message: Some("given up".into()),
            sessions: None,
            stderr: alloc::vec!["no such host".into()],
        };
        let lost = ProgramStatus {
            components: vec![bridge],
            ..status()
        };
        let (code, value) = deep(&snapshot(), &lost);
        assert_eq!((code, &value["status"]), (503, &json!("unhealthy")));
        let bridge = &value["components"]["bridge:home"];
        assert_eq!(bridge["last_check"], "2026-01-01T00:04:50.000000Z");

        let draining = Snapshot {
            draining: true,
            ..snapshot()
        };
        let (code, value) = deep(&draining, &status());
        assert_eq!((code, &value["status"]), (503, &json!("draining")));
    }
}
