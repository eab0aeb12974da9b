//! Vectors, in both dialects, from the agents that make them.

use crate::agent::Agent;
use crate::program::{Answer, CLIENT, Program};
use serde_json::{Value, json};
use std::io::Read;
use std::net::TcpStream;

fn embedder(program: &Program) -> Agent {
    Agent::connect_as(
        program,
        json!({ "agent_id": "it", "models": ["m"], "capabilities": { "embeddings": true } }),
    )
}

fn ask(program: &Program, path: &str, body: &Value) -> TcpStream {
    program.open("POST", path, Some(CLIENT), &body.to_string())
}

fn read(mut client: TcpStream) -> Answer {
    let mut bytes = Vec::new();
    client.read_to_end(&mut bytes).unwrap();
    Answer::parse(&bytes)
}

#[test]
fn each_text_becomes_a_vector_in_both_dialects() {
    let program = Program::start("");
    let mut agent = embedder(&program);
    for (path, field, input, place) in [
        (
            "/v1/embeddings",
            "input",
            json!(["a", "b"]),
            "/data/1/embedding",
        ),
        (
            "/embeddings",
            "input",
            json!(["a", "b"]),
            "/data/1/embedding",
        ),
        ("/api/embed", "input", json!(["a", "b"]), "/embeddings/1"),
        ("/api/embeddings", "prompt", json!("a"), "/embedding"),
    ] {
        let mut body = json!({ "model": "m" });
        body[field] = input.clone();
        let client = ask(&program, path, &body);
        let (id, invocation) = agent.invocation();
        let payload = &invocation["payload"];
        assert_eq!(payload["kind"], "embedding", "{payload}");
        let vectors = if input.is_array() {
            assert_eq!(payload["input"], input);
            json!([[0.5, -1], [0.25, 2.5]])
        } else {
            assert_eq!(payload["input"], json!([input]));
            json!([[0.25, 2.5]])
        };
        agent.send(&json!({ "type": "model_result", "id": id, "status": "ok",
            "result": { "embeddings": vectors, "usage": { "prompt_tokens": 4 } } }));
        let answer = read(client);
        assert_eq!(answer.status, 200, "{}", answer.body);
        let answer = answer.json();
        assert_eq!(answer.pointer(place), Some(&json!([0.25, 2.5])), "{answer}");
        match path {
            "/api/embed" => assert_eq!(answer["prompt_eval_count"], 4),
            "/api/embeddings" => {}
            _ => assert_eq!(
                answer["usage"],
                json!({ "prompt_tokens": 4, "total_tokens": 4 })
            ),
        }
    }
}

#[test]
fn a_large_answer_passes_whole() {
    let program = Program::start("");
    let mut agent = embedder(&program);
    let texts: Vec<String> = (0..100).map(|at| at.to_string()).collect();
    let body = json!({ "model": "m", "input": texts, "encoding_format": "base64" });
    let client = ask(&program, "/v1/embeddings", &body);
    let (id, _) = agent.invocation();
    // A megabyte in one frame, where limits.mailbox_bytes is a quarter of that.
    let vectors = vec![vec![0.123_456_7; 1024]; 100];
    agent.send(&json!({ "type": "model_result", "id": id, "result": { "embeddings": vectors } }));
    let answer = read(client).json();
    let data = answer["data"].as_array().unwrap();
    assert_eq!(data.len(), 100);
    // Of 0.1234567 as floats of 32 bits.
    let first = data[0]["embedding"].as_str().unwrap();
    assert!(first.starts_with("3tb8Pd7W/D3e1vw9"), "{}", &first[..20]);
}

#[test]
fn who_makes_no_vectors_is_not_asked_for_them() {
    let program = Program::start("");
    let _agent = Agent::connect(&program);
    let refused = program.post("/v1/embeddings", &json!({ "model": "m", "input": "a" }));
    assert_eq!(refused.status, 400);
    let message = refused.json()["error"]["message"].to_string();
    assert!(message.contains("makes no embeddings"), "{message}");
    assert_eq!(refused.json()["error"]["param"], "model");
    let refused = program.post("/api/embed", &json!({ "model": "m", "input": "a" }));
    assert_eq!(refused.status, 400);
    assert!(refused.json()["error"].is_string());
}

#[test]
fn an_answer_of_another_kind_is_a_fault_of_the_agent() {
    let program = Program::start("");
    let mut agent = embedder(&program);
    let message = json!({ "role": "assistant", "content": "no" });
    for (path, result) in [
        ("/v1/embeddings", json!({ "embeddings": [] })),
        ("/v1/embeddings", json!({ "embeddings": [[1], [2]] })),
        (
            "/v1/embeddings",
            json!({ "choices": [{ "message": message }] }),
        ),
        ("/v1/completions", json!({ "embeddings": [[1]] })),
    ] {
        let body = json!({ "model": "m", "input": "a", "prompt": "a" });
        let client = ask(&program, path, &body);
        let (id, _) = agent.invocation();
        agent.send(&json!({ "type": "model_result", "id": id, "status": "ok", "result": result }));
        let answer = read(client);
        assert_eq!(answer.status, 502, "{result} {}", answer.body);
        assert_eq!(answer.json()["error"]["code"], "agent_fault");
    }
}
