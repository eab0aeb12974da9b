//! What an agent may send while a client waits.

use crate::agent;
use crate::driver::Driver;
use mcp_local_provider_core::api::Endpoint;
use mcp_local_provider_core::config::HubConfig;

/// The ways to ask, picked by the first byte.
const ASKS: [(Endpoint, &str); 8] = [
    (
        Endpoint::ChatCompletions,
        r#"{"model":"m","stream":true,"stream_options":{"include_usage":true},"messages":[{"role":"user","content":"?"}]}"#,
    ),
    (
        Endpoint::ChatCompletions,
        r#"{"model":"m","stop":["STOP"],"messages":[{"role":"user","content":"?"}]}"#,
    ),
    (
        Endpoint::OllamaChat,
        r#"{"model":"m","messages":[{"role":"user","content":"?"}]}"#,
    ),
    (
        Endpoint::OllamaGenerate,
        r#"{"model":"m","stream":false,"prompt":"?"}"#,
    ),
    (
        Endpoint::Messages,
        r#"{"model":"m","stream":true,"max_tokens":9000,"thinking":{"type":"enabled","budget_tokens":2000},"stop_sequences":["STOP"],"messages":[{"role":"user","content":"?"}]}"#,
    ),
    (
        Endpoint::Messages,
        r#"{"model":"m","max_tokens":9,"messages":[{"role":"user","content":"?"}]}"#,
    ),
    (
        Endpoint::Completions,
        r#"{"model":"m","stream":true,"prompt":"?"}"#,
    ),
    (
        Endpoint::Completions,
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
    let caller = driver
        .hub
        .keys()
        .authenticate(None, [127, 0, 0, 1].into())
        .unwrap();
    let link = driver.connect(None).unwrap();
    driver.receive(link, &agent::register("a", &["m"], None));
    driver.flow();
    let (endpoint, body) = ASKS[usize::from(*which) % ASKS.len()];
    driver.request(&caller, endpoint, body, None).unwrap();
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
