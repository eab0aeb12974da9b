//! Completions of the registry: whole, as events, in the background, and whose they are.

use crate::agent::Agent;
use crate::gateway::client::until;
use crate::integrations::{call_tools, with_helper};
use crate::program::{Answer, CLIENT, OPERATOR, Program};
use crate::registry_rest::{OTHER, USER, ask, assert_refused};
use serde_json::{Value, json};
use std::io::Read;
use std::thread;
use std::time::{Duration, Instant};

fn hello() -> Value {
    json!({ "integration_id": "helper", "messages": [{ "role": "user", "content": "hello" }] })
}

/// The agent calls the integration's tool, and says what it is told.
fn answer_with_a_tool(agent: &mut Agent) {
    let (id, _) = agent.invocation();
    call_tools(agent, &id, 0, &[("say", "{\"text\":\"word\"}")]);
    let (id, second) = agent.invocation();
    assert!(second.to_string().contains("word\\n"), "{second}");
    agent.chunk(&id, 0, "It says ");
    agent.chunk(&id, 1, "\"so\".");
    agent.finish(&id, 2);
}

fn post(program: &Program, path: &str, body: &Value, agent: &mut Agent) -> Answer {
    thread::scope(|scope| {
        let asked = scope.spawn(|| ask(program, "POST", path, body));
        answer_with_a_tool(agent);
        asked.join().unwrap()
    })
}

fn path(answer: &Value) -> String {
    format!("/completions/{}", answer["completion_id"].as_str().unwrap())
}

#[test]
fn a_completion_is_answered_whole_and_found_by_its_key() {
    let program = with_helper();
    let mut agent = Agent::connect(&program);
    let answer = post(&program, "/v1/completions", &hello(), &mut agent);
    assert_eq!(answer.status, 200, "{answer:?}");
    let whole = answer.json();
    assert_eq!((&whole["integration_id"], &whole["model"], &whole["status"]), (&json!("helper"), &json!("m"), &json!("completed")));
    assert_eq!(whole["message"], json!({ "role": "assistant", "content": "It says \"so\"." }));
    assert_eq!(whole["usage"], json!({ "prompt_tokens": 14, "completion_tokens": 5, "total_tokens": 19 }));
    assert!(whole["created_at"].is_string() && whole["completed_at"].is_string());
    assert_eq!(ask(&program, "GET", &path(&whole), &Value::Null).json(), whole);
    let by_operator = program.request("GET", &format!("/registry{}", path(&whole)), Some(OPERATOR), "");
    assert_eq!(by_operator.json(), whole);
    for method in ["GET", "DELETE"] {
        let other = program.request(method, &path(&whole), Some(OTHER), "");
        assert_refused(&other, 404, Some("completion_not_found"), None);
    }
    let deleted = ask(&program, "DELETE", &path(&whole), &Value::Null).json();
    assert_eq!((&deleted["completion_id"], &deleted["status"]), (&whole["completion_id"], &json!("deleted")));
    assert_refused(&ask(&program, "GET", &path(&whole), &Value::Null), 404, Some("completion_not_found"), None);
}

#[test]
fn a_stream_tells_text_and_tools_as_they_come() {
    let program = with_helper();
    let mut agent = Agent::connect(&program);
    let answer = post(&program, "/completions/stream", &hello(), &mut agent);
    assert_eq!((answer.status, answer.header("content-type")), (200, Some("text/event-stream")), "{answer:?}");
    let events: Vec<(&str, Value)> = answer
        .body
        .split_terminator("\n\n")
        .map(|event| {
            let (name, data) = event.strip_prefix("event: ").unwrap().split_once("\ndata: ").unwrap();
            (name, serde_json::from_str(data).unwrap())
        })
        .collect();
    let names: Vec<&str> = events.iter().map(|(name, _)| *name).collect();
    assert_eq!(names, ["started", "tool", "tool", "delta", "delta", "completed"], "{answer:?}");
    assert_eq!(events[1].1, json!({ "name": "say", "status": "running" }));
    assert_eq!(events[2].1, json!({ "name": "say", "status": "ok" }));
    assert_eq!(events[4].1, json!({ "text": "\"so\"." }));
    assert_eq!((&events[5].1["message"]["content"], &events[5].1["completion_id"]), (&json!("It says \"so\"."), &events[0].1["completion_id"]));
}

#[test]
fn one_in_the_background_is_asked_for_later_and_cancelled() {
    let program = with_helper();
    let mut agent = Agent::connect(&program);
    let mut body = hello();
    body["background"] = json!(true);
    let begun = ask(&program, "POST", "/completions", &body);
    assert_eq!((begun.status, &begun.json()["status"], &begun.json()["message"]), (202, &json!("queued"), &Value::Null), "{begun:?}");
    answer_with_a_tool(&mut agent);
    let shown = until(|| {
        let shown = ask(&program, "GET", &path(&begun.json()), &Value::Null).json();
        (shown["status"] == "completed").then_some(shown)
    });
    assert_eq!(shown["message"]["content"], "It says \"so\".");
    let begun = ask(&program, "POST", "/completions", &body).json();
    let (id, _) = agent.invocation();
    assert_eq!(ask(&program, "GET", &path(&begun), &Value::Null).json()["status"], "in_progress");
    let since = Instant::now();
    let cancelled = ask(&program, "DELETE", &path(&begun), &Value::Null).json();
    assert_eq!(cancelled["status"], "cancelled");
    let told = agent.receive();
    assert_eq!((&told["type"], &told["id"]), (&json!("model_cancel"), &json!(id)), "{told}");
    assert!(since.elapsed() < Duration::from_secs(1), "the agent was told after {:?}", since.elapsed());
    assert_eq!(ask(&program, "GET", &path(&begun), &Value::Null).json()["status"], "cancelled");
}

#[test]
fn a_caller_that_leaves_a_stream_tells_the_agent() {
    let program = with_helper();
    let mut agent = Agent::connect(&program);
    let mut stream = program.open("POST", "/completions/stream", Some(USER), &hello().to_string());
    let (id, _) = agent.invocation();
    let mut bytes = [0; 4096];
    let read = stream.read(&mut bytes).unwrap();
    assert!(String::from_utf8_lossy(&bytes[..read]).starts_with("HTTP/1.1 200"));
    drop(stream);
    let told = agent.receive();
    assert_eq!((&told["type"], &told["id"]), (&json!("model_cancel"), &json!(id)), "{told}");
}

#[test]
fn the_body_says_whose_completion_it_is() {
    let program = with_helper();
    let mut agent = Agent::connect(&program);
    let legacy = thread::scope(|scope| {
        let asked = scope.spawn(|| ask(&program, "POST", "/completions", &json!({ "model": "m", "prompt": "a" })));
        let (id, _) = agent.invocation();
        agent.finish(&id, 0);
        asked.join().unwrap()
    });
    assert_eq!(legacy.json()["object"], "text_completion", "{legacy:?}");
    let alone = thread::scope(|scope| {
        let body = json!({ "model": "m", "messages": [{ "role": "user", "content": "hello" }] });
        let asked = scope.spawn(move || ask(&program, "POST", "/completions", &body));
        let (id, first) = agent.invocation();
        assert!(!first.to_string().contains("Be brief."), "{first}");
        agent.chunk(&id, 0, "hi");
        agent.finish(&id, 1);
        asked.join().unwrap()
    });
    assert_eq!((&alone.json()["integration_id"], &alone.json()["message"]["content"]), (&Value::Null, &json!("hi")), "{alone:?}");
}

#[test]
fn what_cannot_be_asked_is_refused_by_name() {
    let program = with_helper();
    let messages = json!([{ "role": "user", "content": "hello" }]);
    for (body, status, code, param) in [
        (json!({ "integration_id": "none", "messages": messages }), 404, Some("integration_not_found"), None),
        (json!({ "integration_id": "helper" }), 400, None, Some("messages")),
        (json!({ "integration_id": "helper", "messages": messages, "stream": true }), 400, None, Some("stream")),
        (json!({ "messages": messages }), 400, None, Some("integration_id")),
        (hello(), 503, Some("no_agent"), None),
    ] {
        assert_refused(&ask(&program, "POST", "/registry/completions", &body), status, code, param);
    }
    // A key for models alone, and one that may not ask the integration.
    let denied = program.request("POST", "/completions", Some(CLIENT), &hello().to_string());
    assert_refused(&denied, 403, Some("scope_denied"), None);
    let hidden = program.request("POST", "/completions", Some(OTHER), &hello().to_string());
    assert_refused(&hidden, 404, Some("model_not_found"), Some("model"));
    let failed = ask(&program, "POST", "/completions/stream", &hello());
    assert!(failed.body.contains("event: error\n") && failed.body.contains("\"no_agent\""), "{failed:?}");
}

/// Opens a WebSocket for a completion.
fn socket(program: &Program) -> tungstenite::WebSocket<std::net::TcpStream> {
    let address = format!("ws://{}/completions/stream", program.address);
    let mut dial = tungstenite::client::IntoClientRequest::into_client_request(address).unwrap();
    let key = format!("Bearer {USER}");
    dial.headers_mut().insert("authorization", key.parse().unwrap());
    tungstenite::client(dial, program.connect()).unwrap().0
}

/// The next message; `None` when the socket is closed as it should be.
fn heard(socket: &mut tungstenite::WebSocket<std::net::TcpStream>) -> Option<Value> {
    loop {
        match socket.read().unwrap() {
            tungstenite::Message::Text(text) => return Some(serde_json::from_str(&text).unwrap()),
            tungstenite::Message::Close(frame) => {
                assert_eq!(u16::from(frame.unwrap().code), 1000);
                return None;
            }
            tungstenite::Message::Ping(_) | tungstenite::Message::Pong(_) => {}
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_socket_tells_the_same_events_and_takes_a_cancel() {
    let program = with_helper();
    let mut agent = Agent::connect(&program);
    let say = |socket: &mut tungstenite::WebSocket<_>, body: &Value| {
        socket.send(tungstenite::Message::text(body.to_string())).unwrap();
    };
    let mut first = socket(&program);
    say(&mut first, &hello());
    answer_with_a_tool(&mut agent);
    let events: Vec<Value> = std::iter::from_fn(|| heard(&mut first)).collect();
    let kinds: Vec<&str> = events.iter().map(|event| event["type"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["started", "tool", "tool", "delta", "delta", "completed"], "{events:?}");
    assert_eq!(events[5]["message"]["content"], "It says \"so\".");
    assert_eq!(ask(&program, "GET", &path(&events[5]), &Value::Null).json()["status"], "completed");

    let mut second = socket(&program);
    say(&mut second, &hello());
    let started = heard(&mut second).unwrap();
    let (id, _) = agent.invocation();
    // One completion for each socket.
    say(&mut second, &hello());
    assert_eq!(heard(&mut second).unwrap()["error"]["type"], "invalid_request_error");
    say(&mut second, &json!({ "type": "cancel" }));
    let told = agent.receive();
    assert_eq!((&told["type"], &told["id"]), (&json!("model_cancel"), &json!(id)), "{told}");
    let ended = heard(&mut second).unwrap();
    assert_eq!((&ended["type"], &ended["error"]["code"]), (&json!("error"), &json!("cancelled")), "{ended}");
    assert_eq!(heard(&mut second), None);
    assert_eq!(ask(&program, "GET", &path(&started), &Value::Null).json()["status"], "cancelled");

    // A body that is wrong is told, and a client that leaves ends what it has begun.
    let mut third = socket(&program);
    say(&mut third, &json!({ "integration_id": "nobody", "messages": [{ "role": "user", "content": "hello" }] }));
    assert_eq!(heard(&mut third).unwrap()["error"]["code"], "integration_not_found");
    assert_eq!(heard(&mut third), None);
    let mut fourth = socket(&program);
    say(&mut fourth, &hello());
    let (id, _) = agent.invocation();
    drop(fourth);
    assert_eq!(agent.receive()["id"], json!(id));
    // No upgrade, and no key: neither is one.
    assert_eq!(ask(&program, "GET", "/completions/stream", &Value::Null).status, 400);
    assert_eq!(program.request("GET", "/completions/stream", None, "").status, 401);
}
