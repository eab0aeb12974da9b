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
fn several_prompts_are_answered_in_order_by_one_answer() {
    let program = Program::start("limits: { requests_per_minute: 60, burst: 60 }\n");
    let mut agent = Agent::connect(&program);
    for stream in [false, true] {
        let body = json!({
            "model": "m", "prompt": ["one, ", "two, ", "three, "], "echo": true, "stop": ["END"], "max_tokens": 9,
            "stream": stream, "stream_options": { "include_usage": true }
        });
        let client = ask(&program, "/v1/completions", &body);
        let mut ids = Vec::new();
        for (at, prompt) in ["one, ", "two, ", "three, "].into_iter().enumerate() {
            let (id, invocation) = agent.invocation();
            assert_eq!(invocation["payload"]["prompt"], prompt);
            assert_eq!(invocation["payload"]["parameters"]["max_tokens"], 9);
            assert!(!ids.contains(&id), "each is an invocation of its own");
            agent.chunk(&id, 0, &format!("answer {at}"));
            if at == 1 {
                agent.chunk(&id, 1, "END and more");
                assert_eq!(agent.receive()["reason"], "stop_sequence");
            } else {
                agent.finish(&id, 1);
            }
            ids.push(id);
        }
        let answer = read(client);
        assert_eq!(answer.header("x-request-id"), Some(&*ids[0]));
        let remaining = answer.header("x-ratelimit-remaining-requests").unwrap();
        assert!(remaining.parse::<u32>().unwrap() <= 57, "{remaining}");
        let expected = ["one, answer 0", "two, answer 1", "three, answer 2"];
        if stream {
            let events = answer.events();
            for (index, expected) in expected.iter().enumerate() {
                let own: Vec<_> = events
                    .iter()
                    .flat_map(|event| event["choices"].as_array().unwrap())
                    .filter(|choice| choice["index"] == index)
                    .collect();
                let text: String = own.iter().map(|choice| choice["text"].as_str().unwrap()).collect();
                assert_eq!(text, *expected);
                let ends = own.iter().filter(|choice| choice["finish_reason"] == "stop");
                assert_eq!(ends.count(), 1);
            }
            assert!(answer.body.ends_with("data: [DONE]\n\n"));
            let last = events.last().unwrap();
            assert!(last["usage"]["completion_tokens"].as_u64().unwrap() > 6, "{last}");
        } else {
            let answer = answer.json();
            let choices = answer["choices"].as_array().unwrap();
            for (index, (choice, expected)) in choices.iter().zip(expected).enumerate() {
                assert_eq!((&choice["text"], &choice["index"]), (&json!(expected), &json!(index)));
            }
            // Two that the agent counted, and one that was cut.
            assert!(answer["usage"]["prompt_tokens"].as_u64().unwrap() > 18, "{answer}");
        }
    }

    // The first failure ends all.
    let body = json!({ "model": "m", "prompt": ["a", "b", "c"] });
    let client = ask(&program, "/v1/completions", &body);
    let (id, _) = agent.invocation();
    agent.finish(&id, 0);
    let (id, _) = agent.invocation();
    agent.send(&json!({ "type": "error", "id": id, "error": { "code": "overloaded", "message": "no" } }));
    assert_eq!(read(client).status, 503);

    // A client that leaves takes the rest with it.
    let client = ask(&program, "/v1/completions", &body);
    let (id, _) = agent.invocation();
    agent.finish(&id, 0);
    let (id, _) = agent.invocation();
    drop(client);
    let cancel = agent.receive();
    assert_eq!((&cancel["type"], &cancel["id"]), (&json!("model_cancel"), &json!(id)));
    let client = ask(&program, "/v1/completions", &json!({ "model": "m", "prompt": "next" }));
    let (id, invocation) = agent.invocation();
    assert_eq!(invocation["payload"]["prompt"], "next");
    agent.finish(&id, 0);
    assert_eq!(read(client).status, 200);

    let many = vec!["x"; 33];
    let refused = ask(&program, "/v1/completions", &json!({ "model": "m", "prompt": many }));
    let refused = read(refused);
    assert_eq!((refused.status, &refused.json()["error"]["param"]), (400, &json!("prompt")));
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
