//! The servers as operators and clients see them, their restart, and processes that give no sign of life.

use super::client::{Client, KEY, NEWEST, request, server, start, until};
use crate::program::{OPERATOR, Program};
use serde_json::{Value, json};

/// What the holder of a key is told of a server.
fn listed(program: &Program, key: &str, name: &str) -> Value {
    let answer = program.request("GET", "/servers", Some(key), "");
    assert_eq!(answer.status, 200, "{answer:?}");
    let all = answer.json();
    let all = all["servers"].as_array().unwrap();
    all.iter().find(|server| server["name"] == name).cloned().unwrap()
}

#[test]
fn servers_are_listed_with_their_states_and_restarted_by_operators() {
    let program = start("gateway: { restart: { delay: 10ms } }\n", &[server("suite", ""), server("other", "")]);
    let unused = json!({
        "name": "other", "transport": "stdio", "scope": "session", "state": "stopped", "era": null, "protocol_version": null,
        "processes": 0, "sessions": 0, "tools": null, "restarts": 0,
    });
    assert_eq!(listed(&program, KEY, "other"), unused);
    assert_eq!(listed(&program, OPERATOR, "other")["last_error"], Value::Null);

    let mut client = Client::new(&program, KEY);
    client.path = "/servers/suite/mcp".to_owned();
    client.initialize(NEWEST, "suite");
    let pid = client.pid();
    let mut used = unused.clone();
    let changes = json!({ "name": "suite", "state": "ready", "era": "2025", "protocol_version": NEWEST, "processes": 1, "sessions": 1 });
    used.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
    assert_eq!(listed(&program, KEY, "suite"), used);

    let restart = |key: &str, name: &str| program.request("POST", &format!("/servers/{name}/restart"), Some(key), "");
    assert_eq!(restart(KEY, "suite").status, 403);
    let unknown = restart(OPERATOR, "none");
    assert_eq!((unknown.status, &unknown.json()["error"]["code"]), (404, &json!("server_not_found")));
    let mut listening = client.listen(None);
    let restarted = restart(OPERATOR, "suite");
    assert_eq!(restarted.status, 202, "{restarted:?}");
    assert_eq!(restarted.json(), json!({ "server": "suite", "status": "restarting" }));
    // Whoever has a session hears of the next process.
    assert_eq!(listening.message().unwrap()["method"], "notifications/tools/list_changed");
    assert_ne!(client.pid(), pid);
    let told = listed(&program, OPERATOR, "suite");
    assert_eq!((&told["state"], &told["restarts"], &told["last_error"]), (&json!("ready"), &json!(1), &Value::Null));
    assert_eq!(restart(OPERATOR, "other").status, 202);
    assert_eq!(listed(&program, KEY, "other"), unused, "nobody needs it");

    client.call("exit", &json!({ "code": 3 }));
    assert_eq!(listed(&program, OPERATOR, "suite")["last_error"], "it ended with exit code 3");
    assert_eq!(listed(&program, KEY, "suite").get("last_error"), None);
    assert_ne!(client.pid(), pid);

    let stats = program.get("/stats").json();
    let processes = &stats["process_stats"];
    assert_eq!((&processes["total"], &processes["max"]), (&json!(1), &json!(10)));
    assert_eq!((&processes["by_state"]["ready"], &processes["by_state"]["failed"]), (&json!(1), &json!(0)));
    let process = &processes["servers"][0];
    assert_eq!((&process["name"], &process["state"]), (&json!("suite"), &json!("ready")));
    assert!(process["pid"].as_i64() > Some(1) && process["uptime_seconds"].is_u64(), "{process}");
    let by_transport = json!({ "http": 1, "sse": 0, "websocket": 0, "events": 0, "rest": 0 });
    let sessions = json!({ "active": 1, "detached": 0, "created": 1, "by_transport": by_transport });
    assert_eq!(stats["session_stats"], sessions);
    let requests = &stats["request_stats"];
    assert_eq!((&requests["total"], &requests["errors"]), (&json!(4), &json!(1)), "{requests}");
    assert_eq!(requests["by_server"]["other"], json!({ "total": 0, "errors": 0 }));
    let deep = program.request("GET", "/health/deep", Some(OPERATOR), "").json();
    let part = &deep["components"]["server:suite"];
    assert_eq!((&part["status"], &part["error_count"]), (&json!("healthy"), &json!(1)));
}

#[test]
fn a_process_that_gives_no_sign_of_life_is_unresponsive_and_then_replaced() {
    let health = "health: { interval: 150ms, timeout: 150ms, misses: 1 }";
    let extra = format!("gateway: {{ {health}, restart: {{ delay: 10ms, attempts: 1000 }} }}\n");
    let program = start(&extra, &[server("deaf", "deaf"), server("suite", "")]);
    let open = |name: &str| {
        let mut client = Client::new(&program, KEY);
        client.path = format!("/servers/{name}/mcp");
        client.initialize(NEWEST, "suite");
        client
    };
    let (deaf, suite) = (open("deaf"), open("suite"));
    let pid = suite.pid();
    let waiting = deaf.send(&request(1, "tools/list", &json!({})).to_string());
    let told = until(|| {
        let told = listed(&program, OPERATOR, "deaf");
        (told["state"] == "unresponsive").then_some(told)
    });
    assert_eq!(told["sessions"], 1);
    let deep = program.request("GET", "/health/deep", Some(OPERATOR), "");
    assert_eq!(deep.json()["components"]["server:suite"]["status"], "healthy");
    let failed = super::client::whole(waiting);
    assert!(failed.body.contains("server_exited"), "{failed:?}");
    until(|| (listed(&program, OPERATOR, "deaf")["restarts"].as_u64() > Some(0)).then_some(()));
    let told = listed(&program, OPERATOR, "deaf");
    assert_eq!(told["last_error"], "it gave no sign of life (gateway.health)");
    assert_eq!(suite.pid(), pid, "one that answers is left alone");
}
