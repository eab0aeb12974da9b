//! One process for all sessions of a server: each client has what is its own, and nothing else.

use super::client::{Client, KEY, NEWEST, OTHER, request, server, start, until};
use crate::program::Program;
use serde_json::{Value, json};
use std::thread;

fn shared(extra: &str) -> Program {
    let settings = format!("gateway: {{ scope: shared, {extra} sessions: {{ per_client: 64 }} }}\n");
    start(&settings, &[server("suite", "")])
}

/// A session of a client that cannot be asked anything.
fn open<'p>(program: &'p Program, key: &'p str, revision: &str) -> Client<'p> {
    let mut client = Client::new(program, key);
    let hello = json!({ "protocolVersion": revision, "capabilities": {}, "clientInfo": { "name": "c", "version": "1" } });
    let opened = client.post(&request(0, "initialize", &hello));
    assert_eq!(opened.json()["result"]["protocolVersion"], revision, "{opened:?}");
    client.session = opened.header("mcp-session-id").map(str::to_owned);
    client
}

#[test]
fn sessions_share_a_process_but_one_that_can_be_asked() {
    let program = shared("");
    let first = open(&program, KEY, NEWEST);
    let second = open(&program, OTHER, "2025-06-18");
    assert_eq!(first.pid(), second.pid());
    // It declares sampling.
    let interactive = Client::open(&program);
    let own = interactive.pid();
    assert_ne!(own, first.pid());
    // The end of one session is nothing to the other ones.
    let pid = first.pid();
    first.delete();
    assert_eq!((second.pid(), interactive.pid()), (pid, own));
    // A server that is to be there once is not asked to ask.
    let program = shared("interactive: refuse,");
    let (plain, able) = (open(&program, KEY, NEWEST), Client::open(&program));
    assert_eq!(plain.pid(), able.pid());
    let heard: Value = serde_json::from_str(&plain.text("heard", &json!({}))).unwrap();
    assert_eq!(heard[0]["params"]["capabilities"], json!({}));
    // A question on it is answered by the gateway, for nobody.
    let answer = plain.text("ask", &json!({ "id": "q", "text": "x" }));
    assert_eq!(answer, "null", "the server has an error");
}

#[test]
fn nothing_of_one_session_reaches_another_on_a_shared_process() {
    const CALLS: usize = 8;
    let program = shared("");
    let sessions: Vec<(Client<'_>, String)> = [KEY, KEY, OTHER, OTHER]
        .into_iter()
        .enumerate()
        .map(|(number, key)| (open(&program, key, NEWEST), format!("canary-{number}")))
        .collect();
    thread::scope(|scope| {
        for (client, canary) in &sessions {
            scope.spawn(move || {
                for id in 0..CALLS {
                    // Every client has the same ids and tokens.
                    let tool = ["echo", "progress", "log"][id % 3];
                    let params = json!({ "name": tool, "arguments": { "text": canary, "steps": 2 }, "_meta": { "progressToken": 1 } });
                    let answer = client.post(&request(id, "tools/call", &params));
                    assert_eq!(answer.status, 200);
                    // Its own, whole; a log message may be missing.
                    let own = answer.body.matches(canary.as_str()).count();
                    assert!(if tool == "progress" { own == 3 } else { own >= 1 }, "{}", answer.body);
                    assert_eq!(answer.body.matches("canary").count(), own, "{canary}: {}", answer.body);
                }
            });
        }
    });
}

#[test]
fn each_session_of_a_shared_process_has_its_own_level_and_all_hear_of_changed_lists() {
    let program = shared("");
    let (quiet, loud) = (open(&program, KEY, NEWEST), open(&program, OTHER, NEWEST));
    for (client, level) in [(&quiet, "error"), (&loud, "debug"), (&quiet, "error")] {
        let answer = client.post(&request(1, "logging/setLevel", &json!({ "level": level })));
        assert_eq!(answer.json()["result"], json!({}));
    }
    let log = request(2, "tools/call", &json!({ "name": "log", "arguments": { "text": "x" } }));
    assert!(!quiet.post(&log).body.contains("notifications/message"));
    assert!(loud.post(&log).body.contains("notifications/message"));
    // The process was told the most talkative wish alone.
    let heard: Value = serde_json::from_str(&loud.text("heard", &json!({}))).unwrap();
    let told = heard.as_array().unwrap().iter().filter(|message| message["method"] == "logging/setLevel");
    let told: Vec<&Value> = told.map(|message| &message["params"]["level"]).collect();
    assert_eq!(told, [&json!("error"), &json!("debug")]);
    let (mut one, mut other) = (quiet.listen(None), loud.listen(None));
    quiet.text("change", &json!({ "text": "x" }));
    for events in [&mut one, &mut other] {
        assert_eq!(events.message().unwrap()["method"], "notifications/tools/list_changed");
    }
}

#[test]
fn a_session_that_ends_takes_its_calls_on_a_shared_process_back() {
    let program = shared("");
    let (leaving, staying) = (open(&program, KEY, NEWEST), open(&program, KEY, NEWEST));
    let held = request(7, "tools/call", &json!({ "name": "hold", "arguments": { "text": "x" } }));
    let stream = leaving.send(&held.to_string());
    until(|| staying.text("heard", &json!({})).contains("\"hold\"").then_some(()));
    assert_eq!(leaving.delete().status, 204);
    until(|| staying.text("heard", &json!({})).contains("notifications/cancelled").then_some(()));
    drop(stream);
}

#[test]
fn the_log_of_a_request_that_was_taken_back_reaches_nobody_else() {
    let program = shared("");
    let (leaving, staying) = (open(&program, KEY, NEWEST), open(&program, OTHER, NEWEST));
    let held = request("h", "tools/call", &json!({ "name": "hold", "arguments": { "text": "a secret" } }));
    let stream = leaving.send(&held.to_string());
    program.wait_for_log("holds a secret");
    let cancelled = json!({ "jsonrpc": "2.0", "method": "notifications/cancelled", "params": { "requestId": "h" } });
    assert_eq!(leaving.post(&cancelled).status, 202);
    drop(stream);
    // The server goes on with it, which is nothing to the only one who asks it now.
    let release = request(1, "tools/call", &json!({ "name": "release", "arguments": { "log": true } }));
    let answer = staying.post(&release);
    assert!(answer.body.contains("released"), "{answer:?}");
    assert!(!answer.body.contains("a secret"), "{answer:?}");
    // It has answered, so that nobody else can be meant.
    let log = request(2, "tools/call", &json!({ "name": "log", "arguments": { "text": "own" } }));
    assert!(staying.post(&log).body.contains("notifications/message"));
}
