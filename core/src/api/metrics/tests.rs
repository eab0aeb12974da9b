//! The text that scrapers read, byte for byte.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use super::*;
use crate::agents::acp::{Load, SessionFigures};
use crate::api::status::{AgentFigures, AuditFigures, LinkTotals, ProcessFigures};
use crate::hub::metrics::{Gaps, Metrics, RequestCount, Tally};
use crate::link::LinkCounters;
use crate::time::WallClock;
use alloc::vec;
use core::time::Duration;
use serde_json::json;

fn histogram(observations: &[u64]) -> Histogram {
    let mut histogram = Histogram::default();
    for millis in observations {
        histogram.observe(Duration::from_millis(*millis));
    }
    histogram
}

fn snapshot() -> Snapshot {
    let mut gaps = Gaps::default();
    for millis in [0, 20, 20, 700_000] {
        gaps.observe(Duration::from_millis(millis));
    }
    let mut chunk_gap = Histogram::default();
    chunk_gap.absorb(&gaps);
    let request = |endpoint, status, count| RequestCount {
        endpoint,
        status,
        count,
    };
    let now = Instant::from_micros(90_000_000);
    Snapshot {
        now,
        wall: WallClock::new(now, Duration::from_secs(1_767_225_900)),
        metrics: Metrics {
            admitted: 9,
            settled: 8,
            completed: 6,
            failed: 1,
            cancelled: 1,
            limited_requests: 2,
            limited_tokens: 3,
            overloaded: 4,
            unauthenticated: 5,
            violations: 6,
            prompt_tokens: 100,
            completion_tokens: 50,
            open: 1,
            queued: 2,
            links: 3,
            sessions: [0, 2, 0, 1, 0],
            latency: histogram(&[3, 40, 40, 1_000]),
            time_to_first_token: histogram(&[2]),
            stream_duration: histogram(&[]),
            chunk_gap,
            ..Metrics::default()
        },
        requests: vec![
            request("GET /health", 200, 7),
            request("POST /api/chat", 502, 1),
            request("POST /v1/chat/completions", 200, 5),
            request("POST /v1/messages", 529, 1),
        ],
        answering: 2,
        draining: false,
        recent: Tally::default(),
        recent_span: Duration::ZERO,
    }
}

fn status() -> ProgramStatus {
    ProgramStatus {
        connections: 12,
        links: LinkTotals {
            counters: LinkCounters {
                sent: 11,
                received: 1010,
                opened: 9,
                chunks: 1000,
                repeats: 2,
                ..LinkCounters::default()
            },
            up: 1,
            queued_frames: 1,
            queued_bytes: 256,
            mailboxes: 1,
            mailbox_bytes: 64,
            ..LinkTotals::default()
        },
        agents: vec![AgentFigures {
            name: "claude".into(),
            running: true,
            starts: 2,
            sessions: SessionFigures {
                kept: 4,
                running: 1,
                load: Some(Load {
                    processes: 6,
                    memory: 700 << 20,
                }),
                ..SessionFigures::default()
            },
        }],
        audit: Some(AuditFigures {
            written: 20,
            lost: 3,
            queued_records: 1,
            queued_bytes: 300,
            error: None,
        }),
        process: Some(ProcessFigures {
            cpu: Duration::from_millis(1_250),
            resident_bytes: 9_000_000,
            open_files: 20,
            threads: 4,
            ..ProcessFigures::default()
        }),
        ..ProgramStatus::default()
    }
}

fn text(form: Form) -> String {
    let mut out = Vec::new();
    write(form, &snapshot(), &status(), &mut out);
    String::from_utf8(out).unwrap()
}

#[test]
fn prometheus_reads_version_0_0_4() {
    assert_eq!(
        text(Form::Prometheus),
        include_str!("golden.prometheus.txt")
    );
}

#[test]
fn openmetrics_differs_in_the_names_of_counters_and_in_its_end() {
    assert_eq!(
        text(Form::OpenMetrics),
        include_str!("golden.openmetrics.txt")
    );
}

#[test]
fn json_says_the_same() {
    let value: serde_json::Value = serde_json::from_str(&text(Form::Json)).unwrap();
    assert_eq!(value["timestamp"], "2026-01-01T00:05:00.000000Z");
    assert_eq!(value["uptime_seconds"], 90);
    let metrics = &value["metrics"];
    assert_eq!(
        metrics["mcp_local_provider_requests_total"][1],
        json!({"labels": {"endpoint": "POST /api/chat", "dialect": "ollama", "status": "502"}, "value": 1})
    );
    let latency = &metrics["mcp_local_provider_request_duration_seconds"][0];
    assert_eq!(
        (&latency["count"], &latency["sum"]),
        (&json!(4), &json!(1.083))
    );
    assert_eq!(latency["buckets"]["0.05"], 3);
    assert_eq!(latency["buckets"]["+Inf"], 4);
    // No family of the text is left out.
    let families = text(Form::Prometheus).matches("# TYPE ").count();
    assert_eq!(metrics.as_object().unwrap().len(), families);
}

#[test]
fn the_scraper_chooses_the_form() {
    let prometheus = "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,text/plain;version=0.0.4;q=0.3,*/*;q=0.2";
    assert_eq!(Form::accepted(Some(prometheus)), Form::OpenMetrics);
    assert_eq!(Form::accepted(Some("text/plain")), Form::Prometheus);
    assert_eq!(Form::accepted(Some("*/*")), Form::Prometheus);
    assert_eq!(Form::accepted(Some("application/json")), Form::Json);
    let axios = "application/json, text/plain, */*";
    assert_eq!(Form::accepted(Some(axios)), Form::Json);
    let text_first = "text/plain, application/json;q=0.5";
    assert_eq!(Form::accepted(Some(text_first)), Form::Prometheus);
    assert_eq!(Form::accepted(None), Form::Prometheus);
}

#[test]
fn seconds_always_have_a_point() {
    for (micros, text) in [
        (0, "0.0"),
        (1, "0.000001"),
        (2_500, "0.0025"),
        (1_000_000, "1.0"),
        (600_000_000, "600.0"),
        (61_020_000, "61.02"),
    ] {
        assert_eq!(seconds(micros), text);
    }
}
