//! What a client reads of its limits.

use crate::agent::Agent;
use crate::program::{Answer, CLIENT, Program};
use serde_json::json;
use std::io::Read;

fn remaining(answer: &Answer) -> u32 {
    let text = answer.header("x-ratelimit-remaining-requests");
    let text = text.unwrap_or_else(|| panic!("no limits on {answer:?}"));
    text.parse().unwrap()
}

#[test]
fn every_answer_to_a_prompt_tells_what_is_left_of_the_keys_limits() {
    let program = Program::start("limits: { requests_per_minute: 1, burst: 60, body_bytes: 64KiB, content_bytes: 64KiB }\n");
    let long = "x".repeat(70_000);
    let prompt = |model: &str| json!({ "model": model, "messages": [{ "role": "user", "content": "x" }] }).to_string();
    let none_is_there = prompt("m");
    let asked = |path: &str, body: &str| program.request("POST", path, Some(CLIENT), body);
    let no_agent = asked("/v1/chat/completions", &none_is_there);
    assert_eq!((no_agent.status, remaining(&no_agent)), (503, 60));
    let _agent = Agent::connect(&program);
    // None of these is admitted, and none costs anything.
    for (path, body, status) in [
        ("/v1/chat/completions", "{", 400),
        ("/v1/chat/completions", "{\"model\":\"m\"}", 400),
        ("/v1/chat/completions", &*prompt("unknown"), 404),
        ("/v1/completions", "{\"model\":\"m\",\"prompt\":[1]}", 400),
        ("/v1/embeddings", "{\"model\":\"m\",\"input\":\"x\"}", 400),
        ("/v1/responses", "{\"model\":\"unknown\",\"input\":\"x\"}", 404),
        ("/v1/messages", &*none_is_there, 400),
        ("/v1/chat/completions", &*long, 413),
        ("/api/chat", &*prompt("unknown"), 404),
        ("/api/generate", "{\"model\":\"unknown\"}", 404),
        ("/api/generate", "{\"model\":\"m\"}", 200),
    ] {
        let answer = asked(path, body);
        assert_eq!(answer.status, status, "{path}: {}", answer.body);
        assert_eq!(remaining(&answer), 60, "{path}");
        for kind in ["requests", "tokens"] {
            for what in ["limit", "remaining", "reset"] {
                let name = format!("x-ratelimit-{what}-{kind}");
                assert!(answer.header(&name).is_some(), "{path}: {name}");
            }
        }
    }
    // What is no prompt tells nothing of them.
    let models = program.get("/v1/models");
    assert_eq!(models.header("x-ratelimit-remaining-requests"), None);
}

#[test]
fn a_stream_that_waits_for_capacity_tells_what_is_left() {
    let program = Program::start(
        "limits: { requests_per_minute: 1, burst: 60, exchanges: 1 }\ntimeouts: { first_event: 100ms }\n",
    );
    let mut agent = Agent::connect(&program);
    let body = json!({ "model": "m", "stream": true, "messages": [{ "role": "user", "content": "x" }] }).to_string();
    let open = || program.open("POST", "/v1/chat/completions", Some(CLIENT), &body);
    let mut first = open();
    let (id, _) = agent.invocation();
    let mut second = open();
    let mut bytes = vec![0; 4096];
    // It is opened while the first has all that `limits.exchanges` allows.
    let count = second.read(&mut bytes).unwrap();
    bytes.truncate(count);
    agent.finish(&id, 0);
    first.read_to_end(&mut Vec::new()).unwrap();
    let (id, _) = agent.invocation();
    agent.finish(&id, 0);
    second.read_to_end(&mut bytes).unwrap();
    let answer = Answer::parse(&bytes);
    assert_eq!((answer.status, remaining(&answer)), (200, 58));
}
