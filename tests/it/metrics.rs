//! Metrics, health and status, as scrapers and operators read them.

use crate::agent::Agent;
use crate::program::{Answer, CLIENT, Program};
use serde_json::{Value, json};
use std::io::Read;

fn scrape(program: &Program, accept: &str) -> Answer {
    let mut stream = program.raw(&format!(
        "GET /metrics HTTP/1.1\r\nHost: localhost\r\nAccept: {accept}\r\nConnection: close\r\n\r\n"
    ));
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).unwrap();
    Answer::parse(&bytes)
}

/// The sample with this name and these labels.
fn sample<'t>(text: &'t str, name: &str) -> &'t str {
    text.lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))
        .unwrap_or_else(|| panic!("no {name} in\n{text}"))
}

#[test]
fn a_scrape_tells_what_has_happened_and_needs_no_key_here() {
    let program = Program::start("");
    let mut agent = Agent::connect(&program);
    let body =
        json!({ "model": "m", "stream": true, "messages": [{ "role": "user", "content": "hi" }] });
    let mut client = program.open(
        "POST",
        "/v1/chat/completions",
        Some(CLIENT),
        &body.to_string(),
    );
    let (id, _) = agent.invocation();
    for index in 0..3 {
        agent.chunk(&id, index, "word ");
    }
    agent.chunk(&id, 2, "a repeat");
    agent.finish(&id, 3);
    client.read_to_end(&mut Vec::new()).unwrap();

    let answer = scrape(&program, "text/plain");
    assert_eq!(answer.status, 200);
    assert_eq!(
        answer.header("content-type"),
        Some("text/plain; version=0.0.4; charset=utf-8")
    );
    let text = &answer.body;
    for (name, value) in [
        (
            r#"mcp_local_provider_requests_total{endpoint="POST /v1/chat/completions",dialect="openai",status="200"}"#,
            "1",
        ),
        (
            r#"mcp_local_provider_exchanges_ended_total{outcome="completed"}"#,
            "1",
        ),
        ("mcp_local_provider_exchanges_open", "0"),
        (r#"mcp_local_provider_tokens_total{kind="prompt"}"#, "9"),
        (r#"mcp_local_provider_sessions{status="active"}"#, "1"),
        (
            r#"mcp_local_provider_link_events_total{event="repeat"}"#,
            "1",
        ),
        ("mcp_local_provider_time_to_first_token_seconds_count", "1"),
        ("mcp_local_provider_stream_duration_seconds_count", "1"),
        ("mcp_local_provider_chunk_gap_seconds_count", "2"),
        (
            r#"mcp_local_provider_chunk_gap_seconds_bucket{le="+Inf"}"#,
            "2",
        ),
        ("mcp_local_provider_mailboxes", "0"),
    ] {
        assert_eq!(sample(text, name), value, "{name}");
    }
    let resident: f64 = sample(text, "process_resident_memory_bytes")
        .parse()
        .unwrap();
    assert!(resident > 1e6, "{resident}");

    let answer = scrape(
        &program,
        "application/openmetrics-text;version=1.0.0,text/plain;q=0.3",
    );
    assert!(
        answer
            .header("content-type")
            .unwrap()
            .starts_with("application/openmetrics-text"),
        "{answer:?}"
    );
    assert!(answer.body.ends_with("# EOF\n"));
    assert!(
        answer
            .body
            .contains("# TYPE mcp_local_provider_tokens counter\n")
    );
    for path in ["/metrics.json", "/stats"] {
        let figures = program.request("GET", path, None, "").json();
        let tokens = &figures["metrics"]["mcp_local_provider_tokens_total"][0];
        assert_eq!(
            tokens,
            &json!({ "labels": { "kind": "prompt" }, "value": 9 })
        );
    }
    let answer = scrape(&program, "application/json");
    assert_eq!(answer.header("content-type"), Some("application/json"));
    assert!(answer.json()["metrics"].is_object());
}

#[test]
fn stats_and_health_tell_of_sessions_requests_and_agents_at_a_glance() {
    let program = Program::start("");
    let connection = |path: &str, part: &str| {
        let told = program.request("GET", path, None, "").json();
        told[part].clone()
    };
    let nobody = connection("/health", "mcp_connection");
    assert_eq!(
        (&nobody["status"], &nobody["messages_sent"]),
        (&json!("disconnected"), &json!(0))
    );
    let mut agent = Agent::connect(&program);
    let body = json!({ "model": "m", "stream": true, "messages": [{ "role": "user", "content": "hi" }] }).to_string();
    let mut client = program.open("POST", "/v1/chat/completions", Some(CLIENT), &body);
    let (id, _) = agent.invocation();
    let waiting = connection("/health", "mcp_connection");
    assert_eq!(
        (&waiting["pending_requests"], &waiting["active_streams"]),
        (&json!(1), &json!(0)),
        "{waiting}"
    );
    agent.chunk(&id, 0, "word");
    let mut seen = Vec::new();
    while !String::from_utf8_lossy(&seen).contains("word") {
        let mut buffer = [0; 1024];
        let count = client.read(&mut buffer).unwrap();
        seen.extend_from_slice(&buffer[..count]);
    }
    let open = connection("/health", "mcp_connection");
    assert_eq!(
        open,
        json!({ "status": "connected", "last_ping": null, "messages_sent": 2, "messages_received": 2,
                "pending_requests": 0, "active_streams": 1 })
    );
    agent.finish(&id, 1);
    client.read_to_end(&mut seen).unwrap();
    let refused = program.post("/v1/chat/completions", &json!({ "model": "none" }));
    assert_eq!(refused.status, 400);
    let revoke = json!({ "session_id": agent.session }).to_string();
    let key = Some(crate::program::OPERATOR);
    program.request("POST", "/control/revoke", key, &revoke);

    let stats = program.request("GET", "/stats", None, "").json();
    assert_eq!(
        stats["sessions"],
        json!({ "active": 0, "total_created": 1, "total_expired": 0 })
    );
    let requests = &stats["requests"];
    assert_eq!(
        (&requests["failed"], &requests["rate_limited"]),
        (&json!(1), &json!(0)),
        "{requests}"
    );
    assert!(requests["successful"].as_u64() >= Some(2), "{requests}");
    assert_eq!(stats["mcp"]["messages_received"], 3);
    assert!(stats["performance"]["avg_response_time_ms"].is_number());
    assert!(stats["performance"]["memory_usage_mb"].as_f64() > Some(1.0));
    let ended = r#"mcp_local_provider_session_events_total{event="revoked"}"#;
    assert_eq!(sample(&scrape(&program, "*/*").body, ended), "1");
}

#[test]
fn counts_of_a_link_stay_when_it_goes() {
    let program = Program::start("");
    let mut agent = Agent::connect(&program);
    agent.send(&json!({ "type": "nonsense" }));
    agent.receive();
    let name = r#"mcp_local_provider_link_events_total{event="unknown_type"}"#;
    assert_eq!(sample(&scrape(&program, "*/*").body, name), "1");
    drop(agent);
    while sample(&scrape(&program, "*/*").body, "mcp_local_provider_links") != "0" {}
    assert_eq!(sample(&scrape(&program, "*/*").body, name), "1");
}

#[test]
fn deep_health_is_for_operators() {
    let program = Program::start("");
    let refused = program.request("GET", "/health/deep", None, "");
    assert_eq!(refused.status, 401);
    let refused = program.get("/health/deep");
    assert_eq!(refused.status, 403);
    assert!(
        refused.json()["error"]["message"]
            .to_string()
            .contains("`operator`")
    );

    let health = |program: &Program| -> Value {
        let answer = program.request("GET", "/health/deep", Some(crate::program::OPERATOR), "");
        assert_eq!(answer.status, 200, "{}", answer.body);
        answer.json()
    };
    assert_eq!(
        health(&program)["components"]["links"]["status"],
        "degraded"
    );
    let _agent = Agent::connect(&program);
    let value = health(&program);
    assert_eq!(value["status"], "healthy", "{value}");
    let system = &value["system"];
    assert!(system["resident_bytes"].as_u64().unwrap() > 1_000_000);
    assert!(system["cpu_percent"].is_number(), "{system}");
    let disk = |name: &str| system["disk"][name].as_u64().unwrap();
    assert!((1..=disk("total_bytes")).contains(&disk("free_bytes")), "{system}");
    let recent = &value["requests"]["recent"];
    assert_eq!(
        (&recent["sessions_made"], &recent["sessions_expired"], &recent["error_rate"]),
        (&json!(1), &json!(0), &json!(0.0)),
        "{recent}"
    );
    assert!(recent["requests_per_second"].as_f64() > Some(0.0), "{recent}");
    assert!(value["components"]["hub"]["latency_ms"].is_number());
}
