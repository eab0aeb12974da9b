//! The gateway by REST: bodies, statuses and codes, and sessions that are the same as those of Streamable HTTP.

use super::client::{Client, KEY, NEWEST, OTHER, server, start, start_one, until};
use crate::child_process::ends;
use crate::program::{Answer, CLIENT, OPERATOR, Program};
use serde_json::{Value, json};

/// Asks with the key of an editor.
fn ask(program: &Program, method: &str, path: &str, body: &Value) -> Answer {
    let body = if body.is_null() { String::new() } else { body.to_string() };
    program.request(method, path, Some(KEY), &body)
}

/// Asks, and returns what comes with this status.
fn told(program: &Program, path: &str, body: &Value, status: u16) -> Value {
    let answer = ask(program, "POST", path, body);
    assert_eq!(answer.status, status, "{path} {body}: {answer:?}");
    assert_eq!(answer.header("content-type"), Some("application/json"));
    answer.json()
}

/// Checks an error.
fn refused(answer: &Answer, status: u16, code: &str, param: Option<&str>) {
    assert_eq!(answer.status, status, "{answer:?}");
    let error = &answer.json()["error"];
    assert_eq!((&error["code"], &error["param"]), (&json!(code), &json!(param)), "{answer:?}");
    assert!(!error["message"].as_str().unwrap().is_empty(), "{answer:?}");
    assert!(error["type"].is_string(), "{answer:?}");
}

/// Opens a session, and returns its id.
fn open(program: &Program) -> String {
    let opened = told(program, "/sessions", &json!({ "client_id": "suite" }), 201);
    opened["session_id"].as_str().unwrap().to_owned()
}

#[test]
fn a_session_is_one_whatever_opened_it_and_whoever_uses_it() {
    let program = start_one("");
    let body = json!({ "client_id": "editor", "server": "suite", "metadata": { "n": 1.5 }, "capabilities": { "roots": {} } });
    let opened = ask(&program, "POST", "/sessions", &body);
    assert_eq!(opened.status, 201, "{opened:?}");
    let told = opened.json();
    let id = told["session_id"].as_str().unwrap().to_owned();
    assert_eq!(opened.header("location"), Some(format!("/sessions/{id}").as_str()));
    assert_eq!(told["client_id"], "editor");
    assert_eq!((&told["server"], &told["protocol_version"]), (&json!("suite"), &json!(NEWEST)));
    assert_eq!(told["server_info"], json!({ "name": "suite", "version": "1" }));
    assert_eq!(told["capabilities"]["tools"], json!({ "listChanged": true }));
    assert_eq!(told["metadata"], json!({ "n": 1.5 }));
    assert_eq!(told["status"], "active");
    assert!(told["created_at"].as_str() < told["expires_at"].as_str(), "{told}");

    // It is a session of `/mcp`.
    let mut client = Client::new(&program, KEY);
    client.session = Some(id.clone());
    let heard = client.text("heard", &json!({}));
    let heard: Vec<Value> = serde_json::from_str(&heard).unwrap();
    let hello = &heard[0]["params"];
    assert_eq!(hello["protocolVersion"], NEWEST);
    assert_eq!(hello["capabilities"], json!({ "roots": {} }));
    assert_eq!(hello["clientInfo"]["name"], "editor");
    // And the other way round.
    let other = Client::open(&program);
    let theirs = other.session.clone().unwrap();
    let call = json!({ "session_id": theirs, "tool": "pid" });
    let result = self::told(&program, "/tools/call", &call, 200)["result"].clone();
    assert_eq!(result["content"][0]["text"], other.pid());

    let shown = until(|| {
        let shown = ask(&program, "GET", &format!("/sessions/{id}"), &Value::Null).json();
        (shown["status"] == "detached").then_some(shown)
    });
    assert_eq!((&shown["request_count"], &shown["in_flight"]), (&json!(1), &json!(0)));
    assert_eq!(shown["processes"], json!([{ "server": "suite", "state": "ready" }]));
    assert!(shown["last_activity"].as_str() >= told["created_at"].as_str());
    let listed = ask(&program, "GET", "/sessions", &Value::Null).json();
    assert_eq!(listed["total_count"], 2);
    assert_eq!(listed["sessions"][0]["session_id"], id, "the oldest first");
    // Nobody else has it, but an operator sees all.
    let path = format!("/sessions/{id}");
    for method in ["GET", "DELETE"] {
        refused(&program.request(method, &path, Some(OTHER), ""), 404, "session_not_found", None);
    }
    assert_eq!(program.request("GET", "/sessions", Some(OTHER), "").json()["total_count"], 0);
    assert_eq!(program.request("GET", "/sessions", Some(OPERATOR), "").json()["total_count"], 2);
    assert_eq!(program.request("GET", &path, Some(OPERATOR), "").status, 200);

    let pid = client.pid();
    let ended = ask(&program, "DELETE", &path, &Value::Null);
    assert_eq!(ended.status, 200);
    assert_eq!(ended.json(), json!({ "session_id": id, "status": "deleted" }));
    assert!(ends(&pid), "the process lives on");
    refused(&ask(&program, "DELETE", &path, &Value::Null), 404, "session_not_found", None);
}

#[test]
fn what_a_server_has_is_listed_called_read_and_got() {
    let program = start_one("");
    let id = open(&program);
    let of = |more: Value| {
        let mut body = json!({ "session_id": id });
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        body
    };
    let tools = told(&program, "/tools/discover", &of(json!({})), 200);
    let names = tools["tools"].as_array().unwrap().iter().map(|tool| tool["name"].as_str().unwrap());
    assert_eq!(names.collect::<Vec<_>>(), ["echo", "tree", "shape"], "of both pages");
    assert_eq!((&tools["count"], &tools["session_id"]), (&json!(3), &json!(id)));
    let echo = json!({ "tool": "echo", "params": { "text": "für" } });
    assert_eq!(
        told(&program, "/tools/call", &of(echo), 200),
        json!({ "session_id": id, "tool": "echo", "result": { "content": [{ "type": "text", "text": "für" }] } })
    );
    // A tool that fails has been called all the same, and a result comes as it was written.
    let text = r#"{"tool":"shape","params":{"result":{"isError":true,"content":[],"n":1.50}},"session_id":"ID"}"#;
    let answer = program.request("POST", "/tools/call", Some(KEY), &text.replace("ID", &id));
    assert_eq!(answer.status, 200);
    assert_eq!(answer.json()["result"], json!({ "isError": true, "content": [], "n": 1.5 }));
    assert_eq!(
        told(&program, "/resources/discover", &of(json!({})), 200),
        json!({ "session_id": id, "resources": [{ "uri": "a:b", "name": "b" }], "resource_templates": [], "count": 1 })
    );
    let uri = || of(json!({ "uri": "a:b" }));
    let read = told(&program, "/resources/read", &uri(), 200);
    assert_eq!(read, json!({ "session_id": id, "uri": "a:b", "result": { "contents": [{ "uri": "a:b", "text": "read" }] } }));
    for (path, subscribed) in [("/resources/subscribe", true), ("/resources/unsubscribe", false)] {
        let answer = told(&program, path, &uri(), 200);
        assert_eq!(answer, json!({ "session_id": id, "uri": "a:b", "subscribed": subscribed }));
    }
    let prompts = told(&program, "/prompts/discover", &of(json!({})), 200);
    assert_eq!(prompts, json!({ "session_id": id, "prompts": [{ "name": "greet" }], "count": 1 }));
    let greet = of(json!({ "prompt": "greet", "params": { "who": "you" } }));
    let got = told(&program, "/prompts/get", &greet, 200);
    let asked = json!({ "name": "greet", "arguments": { "who": "you" } });
    assert_eq!(got, json!({ "session_id": id, "prompt": "greet", "result": { "messages": [asked] } }));
}

#[test]
fn a_request_without_session_asks_the_server_that_it_names() {
    let program = start("", &[server("one", ""), server("two", "")]);
    let pid = |name: &str, key: &str| {
        let body = json!({ "server": name, "tool": "pid" }).to_string();
        let answer = program.request("POST", "/tools/call", Some(key), &body);
        assert_eq!(answer.status, 200, "{answer:?}");
        let answer = answer.json();
        assert_eq!((&answer["server"], &answer["tool"]), (&json!(name), &json!("pid")));
        answer["result"]["content"][0]["text"].as_str().unwrap().to_owned()
    };
    let first = pid("one", KEY);
    assert_eq!(pid("one", KEY), first, "the process is kept for the next request");
    assert_ne!(pid("two", KEY), first);
    assert_ne!(pid("one", OTHER), first, "another key has another process");
    let unknown = json!({ "server": "three", "tool": "pid" });
    refused(&ask(&program, "POST", "/tools/call", &unknown), 404, "server_not_found", None);
    // A session that names none has all.
    let all = told(&program, "/sessions", &json!({ "client_id": "suite" }), 201);
    assert_eq!(all["server"], Value::Null);
    let call = json!({ "session_id": all["session_id"], "tool": "two__echo", "params": { "text": "x" } });
    let echoed = told(&program, "/tools/call", &call, 200);
    assert_eq!(echoed["result"]["content"][0]["text"], "x");
}

#[test]
fn what_is_wrong_with_a_request_of_rest_is_named() {
    let extra = "limits: { body_bytes: 10KiB, requests_per_minute: 100000, burst: 100000 }\n";
    let program = start(extra, &[server("suite", "")]);
    let id = open(&program);
    for (path, body, param) in [
        ("/sessions", json!({}), "client_id"),
        ("/sessions", json!({ "client_id": 7 }), "client_id"),
        ("/sessions", json!({ "client_id": "c", "metadata": [] }), "metadata"),
        ("/tools/discover", json!({}), "session_id"),
        ("/tools/call", json!({ "session_id": id }), "tool"),
        ("/tools/call", json!({ "session_id": id, "tool": "t", "params": 1 }), "params"),
        ("/resources/read", json!({ "session_id": id }), "uri"),
        ("/resources/subscribe", json!({ "server": "suite", "uri": "a:b" }), "session_id"),
        ("/prompts/get", json!({ "session_id": id }), "prompt"),
    ] {
        let answer = ask(&program, "POST", path, &body);
        refused(&answer, 400, "bad_request", Some(param));
    }
    for body in ["", "{", "[]"] {
        let answer = program.request("POST", "/tools/call", Some(KEY), body);
        refused(&answer, 400, "bad_request", None);
    }
    let nobody = json!({ "session_id": "0123456789abcdef0123456789abcdef" });
    let answer = ask(&program, "POST", "/tools/discover", &nobody);
    refused(&answer, 404, "session_not_found", None);
    assert!(answer.body.contains("Session not found"), "{answer:?}");
    let own = json!({ "session_id": id }).to_string();
    let thief = program.request("POST", "/tools/discover", Some(OTHER), &own);
    refused(&thief, 404, "session_not_found", None);
    let unknown = program.request("POST", "/tools/discover", Some("nobody"), &own);
    refused(&unknown, 401, "unauthorized", None);
    assert_eq!(unknown.header("www-authenticate"), Some("Bearer"));
    let models = program.request("POST", "/tools/discover", Some(CLIENT), &own);
    refused(&models, 403, "scope_denied", None);
    let large = json!({ "session_id": id, "tool": "x".repeat(20_000) });
    refused(&ask(&program, "POST", "/tools/call", &large), 413, "too_large", None);
    refused(&program.request("PUT", "/sessions", Some(KEY), ""), 405, "method_not_allowed", None);
    for (headers, status, code) in [
        ("Content-Type: text/plain", 415, "unsupported_media_type"),
        ("Content-Type: application/json\r\nAccept: text/html", 406, "not_acceptable"),
        ("Content-Type: application/json\r\nOrigin: https://evil.example", 403, "forbidden"),
    ] {
        let length = own.len();
        let answer = super::client::whole(program.raw(&format!(
            "POST /tools/discover HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {KEY}\r\n{headers}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{own}"
        )));
        refused(&answer, status, code, None);
    }
    // The server's own error has its number's status, its message and its data.
    let call = |tool: &str| json!({ "session_id": id, "tool": tool });
    let own = ask(&program, "POST", "/tools/call", &call("tree"));
    refused(&own, 422, "server_error", None);
    assert_eq!(own.json()["error"]["message"], "no tool tree");
    // Of a name that its list does not have either, the gateway says so.
    let missing = ask(&program, "POST", "/tools/call", &call("none"));
    refused(&missing, 404, "tool_not_found", None);
}

#[test]
fn a_failure_of_the_gateway_has_its_reason_and_its_status() {
    let extra = "gateway: { restart: { delay: 10ms }, timeouts: { request: 300ms }, message_bytes: 64KiB, sessions: { per_client: 1, in_flight: 1 } }\n";
    let broken = "  broken: { command: /no/such/server }\n".to_owned();
    let program = start(extra, &[server("suite", ""), broken]);
    let id = told(&program, "/sessions", &json!({ "client_id": "a", "server": "suite" }), 201);
    let id = id["session_id"].as_str().unwrap();
    let call = |tool: &str, params: Value| {
        let body = json!({ "session_id": id, "tool": tool, "params": params });
        ask(&program, "POST", "/tools/call", &body)
    };
    let late = call("hold", json!({ "text": "late" }));
    refused(&late, 504, "timeout", None);
    refused(&call("long", json!({ "bytes": 100_000 })), 502, "bad_answer", None);
    let exited = call("exit", json!({ "code": 3 }));
    refused(&exited, 502, "server_exited", None);
    assert_eq!(exited.json()["error"]["data"]["exit"], json!({ "code": 3 }));
    let missing = json!({ "client_id": "b", "server": "broken" });
    refused(&ask(&program, "POST", "/sessions", &missing), 503, "server_unavailable", None);
    let missing = json!({ "server": "broken", "tool": "echo" });
    refused(&ask(&program, "POST", "/tools/call", &missing), 503, "server_unavailable", None);
    // Its client listens, so that the session does not give way to another one.
    let mut client = Client::new(&program, KEY);
    client.path = "/servers/suite/mcp".to_owned();
    client.session = Some(id.to_owned());
    let _listening = client.listen(None);
    let full = ask(&program, "POST", "/sessions", &json!({ "client_id": "a", "server": "suite" }));
    refused(&full, 429, "sessions_full", None);
    assert!(full.header("retry-after").is_some(), "{full:?}");
}

#[test]
fn a_client_that_leaves_cancels_its_call_and_the_session_hears_what_else_is_said() {
    let program = start_one("");
    let id = open(&program);
    let mut client = Client::new(&program, KEY);
    client.session = Some(id.clone());
    let mut listening = client.listen(None);
    let hold = json!({ "session_id": id, "tool": "progress", "params": { "hold": true } });
    let open = program.open("POST", "/tools/call", Some(KEY), &hold.to_string());
    until(|| client.text("heard", &json!({})).contains("\"progress\"").then_some(()));
    drop(open);
    let told = until(|| {
        let heard = client.text("heard", &json!({}));
        let heard: Vec<Value> = serde_json::from_str(&heard).unwrap();
        let held = heard.iter().find(|message| message["params"]["name"] == "progress").cloned();
        let told = heard.into_iter().find(|message| message["method"] == "notifications/cancelled");
        told.map(|told| (told, held.unwrap()))
    });
    assert_eq!(told.0["params"]["requestId"], told.1["id"]);
    // A log message and a question belong to no answer of REST: whoever listens to the session has them.
    let log = json!({ "session_id": id, "tool": "log", "params": { "text": "noted" } });
    let logged = self::told(&program, "/tools/call", &log, 200);
    assert_eq!(logged["result"]["content"][0]["text"], "noted");
    assert_eq!(listening.message().unwrap()["params"]["data"], "noted");
    let asks = json!({ "session_id": id, "tool": "ask", "params": { "id": 1, "text": "what?" } });
    let asking = program.open("POST", "/tools/call", Some(KEY), &asks.to_string());
    let question = listening.message().unwrap();
    assert_eq!(question["method"], "sampling/createMessage");
    let said = json!({ "jsonrpc": "2.0", "id": question["id"], "result": { "model": "m" } });
    assert_eq!(client.post(&said).status, 202);
    let answer = super::client::whole(asking).json();
    assert_eq!(answer["result"]["content"][0]["text"], r#"{"model":"m"}"#);
}
