//! The MCP gateway over sockets: sessions, calls, questions and streams. Its errors and the life of its servers stand below.

mod authorization;
pub mod client;
mod crowd;
mod deaths;
mod eras;
mod errors;
mod events;
mod keys;
mod life;
mod lists;
mod page;
mod protected;
mod remote;
mod remote_stateless;
mod rest;
mod rest_tools;
mod sampling;
mod sampling_stateless;
mod servers;
mod several;
mod several_stateless;
mod shared;
pub mod stateless;
mod socket;
mod sse;
mod streams;

use client::{Client, KEY, NEWEST, OTHER, call, request, start_one, whole};
use serde_json::{Value, json};
use std::thread;

#[test]
fn a_session_is_opened_used_and_ended() {
    let program = start_one("");
    let mut client = Client::new(&program, KEY);
    let opened = client.initialize(NEWEST, "suite");
    assert_eq!(opened.header("content-type"), Some("application/json"));
    let opened = opened.json();
    assert_eq!(opened["id"], 0);
    assert_eq!(opened["result"]["protocolVersion"], NEWEST);
    assert_eq!(opened["result"]["serverInfo"]["name"], "suite");
    let id = client.session.clone().unwrap();
    assert!(id.len() >= 32 && id.bytes().all(|byte| byte.is_ascii_graphic()), "{id}");
    let told = json!({ "jsonrpc": "2.0", "method": "notifications/initialized" });
    let accepted = client.post(&told);
    assert_eq!((accepted.status, &*accepted.body), (202, ""));
    // An id comes back as it was written.
    for id in ["7", "\"7\"", "-3", "\"\\u00e4 \\\"b\\\"\""] {
        let body = format!(
            r#"{{"params":{{"arguments":{{"text":"für dich"}},"name":"echo"}},"method":"tools/call","id":{id},"jsonrpc":"2.0"}}"#
        );
        let answer = whole(client.send(&body));
        assert_eq!(answer.status, 200, "{answer:?}");
        assert!(answer.body.contains(&format!(r#""id":{id}"#)), "{id}: {}", answer.body);
        assert_eq!(answer.json()["result"]["content"][0]["text"], "für dich");
    }
    let pong = client.post(&request("p", "ping", &json!({})));
    assert_eq!(pong.json(), json!({ "jsonrpc": "2.0", "id": "p", "result": {} }));
    // What the server says of a request is the answer, its errors too.
    let own = client.post(&request(1, "no/such", &json!({})));
    let error = json!({ "code": -32601, "message": "no no/such here", "data": [1] });
    assert_eq!((own.status, &own.json()["error"]), (200, &error));
    let ended = client.delete();
    assert!(matches!(ended.status, 200 | 204), "{ended:?}");
    assert_eq!(client.post(&call(2, "echo", &json!({}))).status, 404);
    assert_eq!(client.delete().status, 404);
}

#[test]
fn progress_comes_under_the_clients_token_before_the_answer() {
    let program = start_one("");
    let client = Client::open(&program);
    for token in [json!("mine"), json!(0), json!(1)] {
        let params = json!({ "name": "progress", "arguments": { "steps": 3, "text": "done" }, "_meta": { "progressToken": token } });
        let mut events = client.stream(&request("again", "tools/call", &params));
        for step in 1..=3 {
            let progress = events.message().unwrap();
            assert_eq!(progress["method"], "notifications/progress");
            assert_eq!(progress["params"]["progressToken"], token);
            assert_eq!(progress["params"]["progress"], step);
        }
        let answer = events.message().unwrap();
        assert_eq!(answer["id"], "again");
        assert_eq!(answer["result"]["content"][0]["text"], "done");
        assert_eq!(events.message(), None, "it ends with its answer");
    }
    // A client that gave none is told nothing.
    assert_eq!(client.text("progress", &json!({ "steps": 2, "text": "quiet" })), "quiet");
}

#[test]
fn a_question_of_the_server_is_answered_by_a_post() {
    let program = start_one("");
    let client = Client::open(&program);
    for id in [json!(1), json!("q")] {
        let arguments = json!({ "id": id, "text": "what now?" });
        let mut events = client.stream(&call(1, "ask", &arguments));
        let question = events.message().unwrap();
        assert_eq!(question["method"], "sampling/createMessage");
        assert_eq!(question["params"]["messages"][0]["content"]["text"], "what now?");
        let said = json!({ "role": "assistant", "model": "m", "content": { "type": "text", "text": "this" } });
        let answer = json!({ "jsonrpc": "2.0", "id": question["id"], "result": said });
        let accepted = client.post(&answer);
        assert_eq!((accepted.status, &*accepted.body), (202, ""));
        let result = events.message().unwrap();
        assert_eq!(result["id"], 1);
        let heard = result["result"]["content"][0]["text"].as_str().unwrap();
        assert_eq!(serde_json::from_str::<Value>(heard).unwrap(), said);
        assert_eq!(events.message(), None);
        // A second answer to it goes nowhere.
        assert_eq!(client.post(&answer).status, 202);
    }
    let heard = client.text("heard", &json!({}));
    let heard: Vec<Value> = serde_json::from_str(&heard).unwrap();
    let answers = heard.iter().filter(|message| message.get("result").is_some());
    let ids: Vec<&Value> = answers.map(|answer| &answer["id"]).collect();
    assert_eq!(ids, [&json!(1), &json!("q")], "under the server's own ids");
}

#[test]
fn nothing_of_one_client_reaches_another() {
    const CALLS: usize = 12;
    let program = start_one("");
    let mut sessions: Vec<(Client<'_>, String)> = Vec::new();
    for (number, key) in [KEY, KEY, OTHER, OTHER].into_iter().enumerate() {
        let mut client = Client::new(&program, key);
        client.initialize(NEWEST, "suite");
        sessions.push((client, format!("canary-{number}")));
    }
    let all: Vec<String> = sessions.iter().map(|(_, canary)| canary.clone()).collect();
    thread::scope(|scope| {
        for (client, canary) in &sessions {
            let all = &all;
            scope.spawn(move || {
                let mut listening = client.listen(None);
                let mut seen = String::new();
                for id in 0..CALLS {
                    // Every client has the same ids and tokens.
                    let tool = ["echo", "progress", "log", "change"][id % 4];
                    let params = json!({ "name": tool, "arguments": { "text": canary, "steps": 2 }, "_meta": { "progressToken": 1 } });
                    let answer = client.post(&request(id, "tools/call", &params));
                    assert_eq!(answer.status, 200);
                    assert_eq!(answer.body.matches(canary.as_str()).count(), [1, 3, 2, 1][id % 4], "{}", answer.body);
                    seen.push_str(&answer.body);
                }
                for _ in 0..CALLS / 4 {
                    let changed = listening.message().unwrap();
                    assert_eq!(changed["method"], "notifications/tools/list_changed");
                }
                client.delete();
                assert_eq!(listening.message(), None);
                for other in all.iter().filter(|other| *other != canary) {
                    assert!(!seen.contains(other.as_str()), "{canary} saw {other}");
                }
            });
        }
    });
}
