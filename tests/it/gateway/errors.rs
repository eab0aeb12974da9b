//! Errors of the gateway: what is refused has a status, what was accepted and fails is an error in an answer.

use super::client::{
    Client, KEY, NEWEST, OTHER, assert_failed, assert_refused, call, hello, request, server, start,
    start_one, until, whole,
};
use crate::program::{Answer, CLIENT, Program};
use serde_json::{Value, json};

/// Headers of a request that nothing is wrong with, but for those that a test puts in the place of theirs.
const RIGHT: [(&str, &str); 4] = [
    ("Host", "localhost"),
    ("Authorization", "Bearer mcp-key-for-tests"),
    ("Content-Type", "application/json"),
    ("Accept", "application/json, text/event-stream"),
];

/// Sends a request with other headers than the right ones. Empty ones are left out.
fn send(program: &Program, method: &str, path: &str, other: &[(&str, &str)], body: &str) -> Answer {
    let is_other = |name: &str| other.iter().any(|(own, _)| *own == name);
    let right = RIGHT.iter().filter(|(name, _)| !is_other(name));
    let headers = right.chain(other).filter(|(_, value)| !value.is_empty());
    let headers: String = headers.map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    let length = body.len();
    whole(program.raw(&format!(
        "{method} {path} HTTP/1.1\r\n{headers}Content-Length: {length}\r\nConnection: close\r\n\r\n{body}"
    )))
}

#[test]
fn what_is_wrong_with_a_request_is_named_before_anything_is_started() {
    let extra = "limits: { body_bytes: 10KiB, requests_per_minute: 100000, burst: 100000 }\n";
    let program = start(extra, &[server("suite", "")]);
    let client = Client::open(&program);
    let session = client.session.as_deref().unwrap();
    let echo = call(5, "echo", &json!({ "text": "x" })).to_string();
    let inside = |header| [("Mcp-Session-Id", session), header];
    let post = |other: &[(&str, &str)], body: &str| send(&program, "POST", "/mcp", other, body);

    let keyless = post(&[("Authorization", "")], &echo);
    assert_refused(&keyless, 401, -31401, "unauthorized");
    assert_eq!(keyless.header("www-authenticate"), Some("Bearer"));
    let unknown = post(&[("Authorization", "Bearer nobody")], &echo);
    assert_refused(&unknown, 401, -31401, "unauthorized");
    let scope = format!("Bearer {CLIENT}");
    let scope = post(&[("Authorization", &scope)], &echo);
    assert_refused(&scope, 403, -31403, "scope_denied");
    for foreign in [("Host", "evil.example"), ("Origin", "https://evil.example")] {
        for method in ["POST", "GET", "DELETE"] {
            let refused = send(&program, method, "/mcp", &inside(foreign), &echo);
            assert_refused(&refused, 403, -31403, "forbidden");
        }
    }
    let other = format!("Bearer {OTHER}");
    let other = ("Authorization", other.as_str());
    for (method, wrong) in [
        ("POST", [("Mcp-Session-Id", "0123456789abcdef0123456789abcdef"), ("Accept", "*/*")]),
        ("POST", inside(other)),
        ("GET", inside(other)),
        ("DELETE", inside(other)),
    ] {
        let refused = send(&program, method, "/mcp", &wrong, &echo);
        assert_refused(&refused, 404, -31404, "session_not_found");
        let refused = refused.json();
        let message = refused["error"]["message"].as_str().unwrap();
        assert!(message.starts_with("Session not found"), "{message}");
        // A GET and a DELETE are no messages.
        let id = if method == "POST" { json!(5) } else { Value::Null };
        assert_eq!(refused["id"], id);
    }
    for method in ["POST", "GET", "DELETE"] {
        let refused = send(&program, method, "/mcp", &[], &echo);
        assert_refused(&refused, 400, -32600, "bad_request");
        assert!(refused.body.contains("Mcp-Session-Id"), "{}", refused.body);
    }
    let own = [("Mcp-Session-Id", session)];
    for (body, code) in [
        ("", -32700),
        ("{", -32700),
        ("{} {}", -32700),
        ("{\"x\":1}", -32600),
        ("7", -32600),
        (r#"{"jsonrpc":"2.0","id":null,"method":"ping"}"#, -32600),
        (r#"{"jsonrpc":"2.0","id":{},"method":"ping"}"#, -32600),
        ("[]", -32600),
    ] {
        let refused = post(&own, body);
        assert_refused(&refused, 400, code, "bad_request");
        assert_eq!(refused.json()["id"], Value::Null, "{body}");
    }
    let again = request(6, "initialize", &hello(NEWEST, "suite")).to_string();
    let again = post(&own, &again);
    assert_refused(&again, 400, -32600, "bad_request");
    assert_eq!(again.json()["id"], 6);
    let bare = json!({ "jsonrpc": "2.0", "id": 1, "method": "initialize" }).to_string();
    assert_refused(&post(&[], &bare), 400, -32602, "bad_request");

    for kind in ["text/plain", ""] {
        let refused = post(&inside(("Content-Type", kind)), &echo);
        assert_refused(&refused, 415, -31415, "unsupported_media_type");
    }
    for accept in ["application/json", "text/event-stream", "text/html"] {
        let refused = post(&inside(("Accept", accept)), &echo);
        assert_refused(&refused, 406, -31406, "not_acceptable");
    }
    let refused = send(&program, "GET", "/mcp", &inside(("Accept", "application/json")), "");
    assert_refused(&refused, 406, -31406, "not_acceptable");
    let revision = post(&inside(("MCP-Protocol-Version", "1999-01-01")), &echo);
    assert_refused(&revision, 400, -32600, "bad_request");
    assert!(revision.body.contains("2025-11-25"), "{}", revision.body);
    for method in ["POST", "GET", "DELETE"] {
        let refused = send(&program, method, "/servers/nobody/mcp", &own, &echo);
        assert_refused(&refused, 404, -32602, "server_not_found");
    }
    let large = call(5, "echo", &json!({ "text": "x".repeat(20_000) })).to_string();
    assert_refused(&post(&own, &large), 413, -31413, "too_large");
    // After all that, the session is as it was, and its server has heard of nothing.
    let heard = client.text("heard", &json!({}));
    let heard: Vec<Value> = serde_json::from_str(&heard).unwrap();
    let methods: Vec<_> = heard.iter().map(|message| message["method"].as_str().unwrap()).collect();
    assert_eq!(methods, ["initialize", "notifications/initialized", "tools/call"]);
}

#[test]
fn a_batch_is_answered_in_the_revision_that_has_batches() {
    let program = start_one("");
    let mut client = Client::new(&program, KEY);
    let told = json!({ "jsonrpc": "2.0", "method": "notifications/initialized" });
    let one = call("one", "echo", &json!({ "text": "first" }));
    let two = call("two", "echo", &json!({ "text": "second" }));
    let batch = json!([told, one, request(3, "ping", &json!({})), two]);
    for revision in ["2025-06-18", NEWEST] {
        client.initialize(revision, "suite");
        let refused = client.post(&batch);
        assert_refused(&refused, 400, -32600, "bad_request");
        assert_refused(&client.post(&json!([])), 400, -32600, "bad_request");
        client.delete();
    }
    client.initialize("2025-03-26", "suite");
    let mut events = client.stream(&batch);
    assert_eq!(events.head.status, 200);
    let mut answers: Vec<Value> = std::iter::from_fn(|| events.message()).collect();
    answers.sort_by_key(|answer| answer["id"].to_string());
    let ids: Vec<&Value> = answers.iter().map(|answer| &answer["id"]).collect();
    assert_eq!(ids, [&json!("one"), &json!("two"), &json!(3)]);
    assert_eq!(answers[1]["result"]["content"][0]["text"], "second");
    assert_eq!(client.post(&json!([told])).status, 202);
    assert_refused(&client.post(&json!([])), 400, -32600, "bad_request");
    assert_refused(&client.post(&json!([told, 1])), 400, -32600, "bad_request");
}

#[test]
fn a_client_that_asks_too_often_is_told_when_to_come_back() {
    let program = start_one("gateway: { rate: { requests: 3, period: 600s } }\n");
    let client = Client::open(&program);
    assert_eq!(client.text("echo", &json!({ "text": "x" })), "x");
    let mut events = client.stream(&call(1, "ask", &json!({ "id": 1 })));
    let question = events.message().unwrap();
    let refused = client.post(&call("late", "echo", &json!({})));
    assert_refused(&refused, 429, -31429, "rate_limited");
    assert_eq!(refused.json()["id"], "late");
    let seconds: u64 = refused.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=200).contains(&seconds), "{seconds}");
    assert_eq!(refused.json()["error"]["data"]["retry_after"], seconds);
    let opened = Client::new(&program, KEY).post(&request(0, "initialize", &hello(NEWEST, "other")));
    assert_refused(&opened, 429, -31429, "rate_limited");
    // What belongs to open work passes: answers, notifications, pings and streams.
    assert_eq!(client.post(&request(2, "ping", &json!({}))).status, 200);
    let answer = json!({ "jsonrpc": "2.0", "id": question["id"], "result": {} });
    assert_eq!(client.post(&answer).status, 202);
    assert_eq!(events.message().unwrap()["id"], 1);
    // Another client has a rate of its own.
    let mut other = Client::new(&program, OTHER);
    other.initialize(NEWEST, "suite");
    assert_eq!(client.delete().status, 204);
}

#[test]
fn as_many_requests_are_open_in_a_session_as_may_be() {
    let program = start_one("gateway: { sessions: { in_flight: 1 } }\n");
    let client = Client::open(&program);
    let params = json!({ "name": "progress", "arguments": { "steps": 1, "hold": true }, "_meta": { "progressToken": 1 } });
    let mut events = client.stream(&request("open", "tools/call", &params));
    events.message().unwrap();
    let refused = client.post(&call("more", "echo", &json!({})));
    assert_refused(&refused, 429, -31429, "in_flight_full");
    assert_eq!(refused.json()["id"], "more");
    assert!(refused.header("retry-after").is_some());
    let cancelled = json!({ "jsonrpc": "2.0", "method": "notifications/cancelled", "params": { "requestId": "open", "reason": "enough" } });
    assert_eq!(client.post(&cancelled).status, 202);
    assert_eq!(events.message(), None, "a request that was taken back has no answer");
    let heard = client.text("heard", &json!({}));
    let heard: Vec<Value> = serde_json::from_str(&heard).unwrap();
    let held = heard.iter().find(|message| message["params"]["name"] == "progress").unwrap();
    let told = heard.iter().find(|message| message["method"] == "notifications/cancelled").unwrap();
    assert_eq!(told["params"], json!({ "requestId": held["id"], "reason": "enough" }));
}

#[test]
fn one_session_too_many_ends_its_clients_longest_idle_one() {
    let program = start_one("gateway: { sessions: { per_client: 2 } }\n");
    let open = |key, name| {
        let mut client = Client::new(&program, key);
        client.initialize(NEWEST, name);
        client
    };
    let stranger = open(OTHER, "suite");
    let neighbour = open(KEY, "another editor");
    let first = open(KEY, "suite");
    let second = open(KEY, "suite");
    // The first one is used after the second was opened.
    first.pid();
    let third = open(KEY, "suite");
    assert_eq!(second.post(&call(1, "echo", &json!({}))).status, 404);
    for client in [&first, &third, &stranger, &neighbour] {
        assert_eq!(client.text("echo", &json!({ "text": "here" })), "here");
    }
    // One that listens is not idle.
    let _streams = [first.listen(None), third.listen(None)];
    let mut fourth = Client::new(&program, KEY);
    let refused = fourth.post(&request("x", "initialize", &hello(NEWEST, "suite")));
    assert_refused(&refused, 429, -31429, "sessions_full");
    assert!(refused.header("retry-after").is_some());
    assert_eq!(refused.header("mcp-session-id"), None);
    assert_eq!(first.delete().status, 204);
    fourth.initialize(NEWEST, "suite");
}

#[test]
fn one_process_too_many_stops_the_longest_idle_one_or_is_refused() {
    let program = start_one("gateway: { processes: { max: 1 } }\n");
    let client = Client::open(&program);
    let pid = client.pid();
    let params = json!({ "name": "progress", "arguments": { "steps": 1, "hold": true }, "_meta": { "progressToken": 1 } });
    let mut events = client.stream(&request("open", "tools/call", &params));
    events.message().unwrap();
    let mut other = Client::new(&program, OTHER);
    let opening = request("x", "initialize", &hello(NEWEST, "suite"));
    let refused = other.post(&opening);
    assert_refused(&refused, 503, -31503, "processes_full");
    assert_eq!(refused.json()["id"], "x");
    assert!(refused.header("retry-after").is_some());
    assert_eq!(client.text("release", &json!({})), "released");
    assert_eq!(events.message().unwrap()["id"], "open");
    drop(events);
    // The process is idle once its client's connections have ended.
    let opened = until(|| Some(other.post(&opening)).filter(|answer| answer.status != 503));
    assert_eq!(opened.status, 200, "{opened:?}");
    other.session = opened.header("mcp-session-id").map(str::to_owned);
    assert!(crate::child_process::ends(&pid), "it had to make room");
    assert_ne!(other.pid(), pid);
    // The session whose process was stopped goes on with another one.
    let again = until(|| {
        let answer = client.post(&call(1, "pid", &json!({})));
        (answer.status != 503).then_some(answer)
    });
    assert_eq!(again.status, 200, "{again:?}");
    assert!(again.json()["result"].is_object(), "{again:?}");
}

#[test]
fn a_server_that_cannot_be_started_is_told_in_the_answer() {
    let missing = "  suite: { command: /no/such/server }\n".to_owned();
    for (servers, why) in [
        (missing, "/no/such/server"),
        (server("suite", "brief"), "exit code 7"),
    ] {
        let program = start("", &[servers]);
        let client = Client::new(&program, KEY);
        let answer = client.post(&request("x", "initialize", &hello(NEWEST, "suite")));
        assert_eq!(answer.status, 200, "{answer:?}");
        assert_eq!(answer.header("mcp-session-id"), None, "there is no session");
        let answer = answer.json();
        assert_eq!(answer["id"], "x");
        assert_failed(&answer, -31503, "server_unavailable");
        assert!(answer["error"]["message"].as_str().unwrap().contains(why), "{answer}");
    }
}

#[test]
fn a_server_that_never_answers_the_handshake_is_given_up() {
    let program = start("gateway: { processes: { start: 100ms } }\n", &[server("suite", "mute")]);
    let client = Client::new(&program, KEY);
    let answer = client.post(&request("x", "initialize", &hello(NEWEST, "suite")));
    assert_eq!(answer.status, 200, "{answer:?}");
    let last = answer.body.rsplit("data: ").next().unwrap();
    let last: Value = serde_json::from_str(last.trim()).unwrap();
    assert_failed(&last, -31503, "server_unavailable");
    assert!(answer.body.contains("did not answer `initialize` in time"), "{answer:?}");
}

#[test]
fn the_end_of_a_server_in_a_call_is_told_with_its_exit() {
    let program = start_one("gateway: { restart: { delay: 10ms } }\n");
    let client = Client::open(&program);
    let answer = client.call("exit", &json!({ "code": 3 }));
    assert_failed(&answer, -31502, "server_exited");
    assert_eq!(answer["error"]["data"]["exit"], json!({ "code": 3 }));
    assert_eq!(client.text("echo", &json!({ "text": "back" })), "back");
    let answer = client.call("die", &json!({}));
    assert_failed(&answer, -31502, "server_exited");
    assert_eq!(answer["error"]["data"]["exit"], json!({ "signal": 9 }));
}

#[test]
fn a_request_that_waits_too_long_is_taken_back_at_the_server() {
    let program = start_one("gateway: { timeouts: { request: 1s } }\n");
    let client = Client::open(&program);
    let answer = client.call("hold", &json!({ "text": "late" }));
    assert_failed(&answer, -31504, "timeout");
    let heard = client.text("heard", &json!({}));
    let heard: Vec<Value> = serde_json::from_str(&heard).unwrap();
    let held = heard.iter().find(|message| message["params"]["name"] == "hold").unwrap();
    let told = heard.iter().find(|message| message["method"] == "notifications/cancelled").unwrap();
    assert_eq!(told["params"]["requestId"], held["id"]);
    // Its answer comes too late for anybody.
    assert_eq!(client.text("release", &json!({})), "released");
    assert_eq!(client.text("echo", &json!({ "text": "x" })), "x");
}

#[test]
fn an_answer_that_cannot_be_read_fails_its_request_alone() {
    let program = start_one("gateway: { message_bytes: 64KiB }\n");
    let client = Client::open(&program);
    let pid = client.pid();
    let long = client.call("long", &json!({ "bytes": 100_000 }));
    assert_failed(&long, -31502, "bad_answer");
    let broken = client.call("broken", &json!({}));
    assert_failed(&broken, -31502, "bad_answer");
    assert_eq!(client.text("long", &json!({ "bytes": 60_000 })).len(), 60_000);
    assert_eq!(client.pid(), pid, "it goes on");
}
