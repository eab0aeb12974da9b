//! Texts to continue and gaps to fill: what editors complete code with.

use crate::agent::Agent;
use crate::program::{Answer, CLIENT, Program};
use serde_json::{Value, json};
use std::io::Read;
use std::net::TcpStream;

fn ask(program: &Program, path: &str, body: &Value) -> TcpStream {
    program.open("POST", path, Some(CLIENT), &body.to_string())
}

fn read(mut client: TcpStream) -> Answer {
    let mut bytes = Vec::new();
    client.read_to_end(&mut bytes).unwrap();
    Answer::parse(&bytes)
}

#[test]
fn a_gap_is_filled_in_both_dialects_and_stop_is_applied_here() {
    let program = Program::start("");
    let mut agent = Agent::connect(&program);
    for path in ["/v1/completions", "/completions", "/api/generate"] {
        let mut body =
            json!({ "model": "m", "prompt": "fn f() {", "suffix": "}", "stream": false });
        if path == "/api/generate" {
            body["raw"] = json!(true);
            body["options"] = json!({ "stop": ["\n\n"], "num_predict": 300 });
        } else {
            body["stop"] = json!(["\n\n"]);
            body["max_tokens"] = json!(300);
        }
        let client = ask(&program, path, &body);
        let (id, invocation) = agent.invocation();
        let payload = &invocation["payload"];
        assert_eq!(payload["kind"], "completion", "{payload}");
        assert_eq!(
            (&payload["prompt"], &payload["suffix"]),
            (&json!("fn f() {"), &json!("}"))
        );
        assert_eq!(payload["parameters"]["max_tokens"], 300);
        agent.chunk(&id, 0, " return\n");
        agent.chunk(&id, 1, "\nnever seen");
        let answer = read(client).json();
        let cancel = agent.receive();
        assert_eq!(cancel["reason"], "stop_sequence", "{cancel}");
        let (text, reason) = if path == "/api/generate" {
            (&answer["response"], &answer["done_reason"])
        } else {
            assert_eq!(answer["object"], "text_completion");
            assert!(answer["usage"]["total_tokens"].as_u64().unwrap() > 0);
            (
                &answer["choices"][0]["text"],
                &answer["choices"][0]["finish_reason"],
            )
        };
        assert_eq!((text, reason), (&json!(" return"), &json!("stop")));
    }
}

#[test]
fn a_streamed_completion_ends_with_its_usage() {
    let program = Program::start("");
    let mut agent = Agent::connect(&program);
    let body = json!({
        "model": "m", "prompt": ["one, "], "echo": true, "stream": true, "stream_options": { "include_usage": true }
    });
    let client = ask(&program, "/v1/completions", &body);
    let (id, _) = agent.invocation();
    agent.chunk(&id, 0, "two");
    agent.finish(&id, 1);
    let answer = read(client);
    assert_eq!(answer.header("content-type"), Some("text/event-stream"));
    assert!(answer.body.ends_with("data: [DONE]\n\n"));
    let events = answer.events();
    let text: String = events
        .iter()
        .filter_map(|event| event["choices"][0]["text"].as_str())
        .collect();
    assert_eq!(text, "one, two");
    let last = events.last().unwrap();
    assert_eq!(
        (&last["choices"], &last["usage"]["total_tokens"]),
        (&json!([]), &json!(12))
    );
}
