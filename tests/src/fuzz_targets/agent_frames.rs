//! Any frames of an agent while a client waits.

use crate::agent;
use crate::driver::{Answered, Driver};
use mcp_local_provider_core::config::HubConfig;

/// The ways to ask, picked by the first byte.
const ASKS: [(&str, &str); 8] = [
    (
        "POST /v1/chat/completions",
        r#"{"model":"m","stream":true,"stream_options":{"include_usage":true},"messages":[{"role":"user","content":"?"}]}"#,
    ),
    (
        "POST /v1/chat/completions",
        r#"{"model":"m","stop":["STOP"],"messages":[{"role":"user","content":"?"}]}"#,
    ),
    (
        "POST /api/chat",
        r#"{"model":"m","messages":[{"role":"user","content":"?"}]}"#,
    ),
    (
        "POST /api/generate",
        r#"{"model":"m","stream":false,"prompt":"?"}"#,
    ),
    (
        "POST /v1/messages",
        r#"{"model":"m","stream":true,"max_tokens":9000,"thinking":{"type":"enabled","budget_tokens":2000},"stop_sequences":["STOP"],"messages":[{"role":"user","content":"?"}]}"#,
    ),
    (
        "POST /v1/messages",
        r#"{"model":"m","max_tokens":9,"messages":[{"role":"user","content":"?"}]}"#,
    ),
    (
        "POST /v1/completions",
        r#"{"model":"m","stream":true,"prompt":"?"}"#,
    ),
    (
        "POST /v1/completions",
        r#"{"model":"m","stop":"STOP","prompt":"?"}"#,
    ),
];

/// Whatever an agent sends, one line a frame, its client gets an answer that can be read, and it ends.
pub fn agent_frames(data: &[u8]) {
    let Some((which, frames)) = data.split_first() else {
        return;
    };
    let Ok(frames) = std::str::from_utf8(frames) else {
        return;
    };
    let mut driver = Driver::new(HubConfig::default());
    let link = driver.connect(None).unwrap();
    driver.receive(link, &agent::register("a", &["m"], None));
    driver.flow();
    let (endpoint, body) = ASKS[usize::from(*which) % ASKS.len()];
    let answered = driver.ask(endpoint, body);
    assert!(matches!(answered, Answered::Call(0)), "{answered:?}");
    for frame in frames.lines() {
        driver.receive(link, frame);
        driver.flow();
        driver.check();
    }
    // The agent says no more, but lives.
    while !driver.is_over() {
        driver.advance();
        driver.alive(link);
    }
    driver.check_quiescent();
}
