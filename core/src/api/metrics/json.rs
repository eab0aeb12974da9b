//! The figures as JSON.

use super::gateway;
use super::{Family, Kind, Value, cumulated, integer, plain, seconds};
use crate::api::status::ProgramStatus;
use crate::hub::metrics::Snapshot;
use crate::hub::sessions::Status;
use crate::text::escape_into;
use crate::time::Instant;
use alloc::string::String;
use alloc::vec::Vec;
use serde_json::{Value as Json, json};

/// Writes all figures; for `/stats`, which gives `status`, those behind them that people look for first.
pub(super) fn write(
    snapshot: &Snapshot,
    table: &[Family<'_>],
    status: Option<&ProgramStatus>,
    out: &mut Vec<u8>,
) {
    out.extend_from_slice(b"{\"timestamp\":\"");
    snapshot.wall.write_rfc3339(snapshot.now, out);
    out.extend_from_slice(b"\",\"version\":\"");
    out.extend_from_slice(env!("CARGO_PKG_VERSION").as_bytes());
    out.extend_from_slice(b"\",\"uptime_seconds\":");
    let uptime = snapshot.now.since(Instant::ZERO).as_secs();
    out.extend_from_slice(integer(uptime).as_bytes());
    out.extend_from_slice(b",\"metrics\":{");
    for (at, family) in table.iter().enumerate() {
        if at > 0 {
            out.push(b',');
        }
        out.push(b'"');
        out.extend_from_slice(family.name.as_bytes());
        if family.kind == Kind::Counter {
            out.extend_from_slice(b"_total");
        }
        out.extend_from_slice(b"\":[");
        for (at, (labels, value)) in family.samples.iter().enumerate() {
            if at > 0 {
                out.push(b',');
            }
            write_sample(labels, value, out);
        }
        out.push(b']');
    }
    out.push(b'}');
    if let Some(status) = status {
        let parts = summary(snapshot, status).into_iter();
        for (name, part) in parts.chain(gateway::summary(status)) {
            out.extend_from_slice(b",\"");
            out.extend_from_slice(name.as_bytes());
            out.extend_from_slice(b"\":");
            // Writing to memory cannot fail, and every key is a string.
            out.extend_from_slice(&serde_json::to_vec(&part).unwrap_or_default());
        }
    }
    out.push(b'}');
}

/// The parts that `/stats` adds.
fn summary(snapshot: &Snapshot, status: &ProgramStatus) -> [(&'static str, Json); 4] {
    let metrics = &snapshot.metrics;
    let count = |wanted: fn(u16) -> bool| -> u64 {
        let requests = snapshot.requests.iter();
        let wanted = requests.filter(|request| wanted(request.status));
        wanted.map(|request| request.count).sum()
    };
    let active = Status::ALL.iter().zip(metrics.sessions);
    let active = active.filter(|(status, _)| **status == Status::Active);
    let resident = status.process.map(|process| process.resident_bytes);
    #[allow(clippy::cast_precision_loss)] // the figure is for people
    let megabytes = resident.map(|bytes| bytes as f64 / 1e6);
    let mean = metrics.latency.mean();
    [
        (
            "sessions",
            json!({
                "active": active.map(|(_, count)| count).sum::<usize>(),
                "total_created": metrics.sessions_made,
                "total_expired": metrics.sessions_expired,
            }),
        ),
        (
            "requests",
            json!({
                "total": count(|_| true),
                "successful": count(|status| status < 400),
                "failed": count(|status| status >= 400),
                "rate_limited": count(|status| status == 429),
            }),
        ),
        (
            "performance",
            json!({
                "avg_response_time_ms": mean.map(|mean| mean.as_secs_f64() * 1000.0),
                "memory_usage_mb": megabytes,
            }),
        ),
        (
            "mcp",
            json!({
                "connection_status": status.links.status(),
                "messages_sent": status.links.counters.sent,
                "messages_received": status.links.counters.received,
            }),
        ),
    ]
}

fn write_sample(labels: &[(&str, &str)], value: &Value<'_>, out: &mut Vec<u8>) {
    out.push(b'{');
    if !labels.is_empty() {
        out.extend_from_slice(b"\"labels\":{");
        for (at, (label, text)) in labels.iter().enumerate() {
            if at > 0 {
                out.push(b',');
            }
            out.push(b'"');
            out.extend_from_slice(label.as_bytes());
            out.extend_from_slice(b"\":\"");
            escape_into(out, text);
            out.push(b'"');
        }
        out.extend_from_slice(b"},");
    }
    if let Value::Histogram(histogram) = value {
        out.extend_from_slice(b"\"count\":");
        out.extend_from_slice(integer(histogram.count).as_bytes());
        out.extend_from_slice(b",\"sum\":");
        out.extend_from_slice(seconds(histogram.sum).as_bytes());
        out.extend_from_slice(b",\"buckets\":{");
        for (at, (bound, count)) in cumulated(histogram).enumerate() {
            if at > 0 {
                out.push(b',');
            }
            out.push(b'"');
            let le = bound.map_or_else(|| String::from("+Inf"), seconds);
            out.extend_from_slice(le.as_bytes());
            out.extend_from_slice(b"\":");
            out.extend_from_slice(integer(count).as_bytes());
        }
        out.push(b'}');
    } else {
        out.extend_from_slice(b"\"value\":");
        out.extend_from_slice(plain(value).as_bytes());
    }
    out.push(b'}');
}
