//! Deaths and damage: whoever is killed, floods or leaves for good, callers are told what happened, and no process and no memory is kept.

use super::client::{
    Client, KEY, NEWEST, OTHER, assert_failed, call, request, server, start, until, whole,
};
use crate::child_process::ends;
use crate::program::{Program, program};
use serde_json::{Value, json};
use std::process::{Command, Stdio};
use std::thread;

/// Waits until the program has no child any more, not even one that has ended and was not waited for.
fn assert_childless(of: &Program) {
    let parent = of.child.id().to_string();
    let is_child = |stat: String| {
        // PID (NAME) STATE PARENT …, where the name may hold anything.
        let rest = stat.rsplit_once(')').map(|(_, rest)| rest.to_owned());
        let rest = rest.unwrap_or_default();
        rest.split_whitespace().nth(1) == Some(&*parent)
    };
    until(|| {
        let mut all = std::fs::read_dir("/proc").unwrap().flatten();
        let some = all.any(|entry| std::fs::read_to_string(entry.path().join("stat")).is_ok_and(is_child));
        (!some).then_some(())
    });
}

/// Waits until a metric has this value.
fn wait_for_metric(program: &Program, name: &str, value: &str) {
    let line = format!("{name} {value}");
    until(|| program.get("/metrics").body.lines().any(|own| own == line).then_some(()));
}

/// Opens a session of a client that can be asked nothing.
fn open<'p>(program: &'p Program, key: &'p str, path: &str) -> Client<'p> {
    let mut client = Client::new(program, key);
    path.clone_into(&mut client.path);
    let hello = json!({ "protocolVersion": NEWEST, "capabilities": {}, "clientInfo": { "name": "c", "version": "1" } });
    let opened = client.post(&request(0, "initialize", &hello));
    client.session = opened.header("mcp-session-id").map(str::to_owned);
    assert!(client.session.is_some(), "{opened:?}");
    client
}

#[test]
fn a_client_that_is_killed_leaves_no_session_and_no_process() {
    let settings = "gateway: { timeouts: { request: 5s }, sessions: { idle: 1s, sweep: 100ms } }\n";
    let running = start(settings, &[server("suite", "")]);
    // A command that finds the address of the running program asks that one.
    let text = std::fs::read_to_string(&running.config).unwrap();
    let config = running.folder.0.join("client.yaml");
    let text = text.replacen("127.0.0.1:0", &running.address.to_string(), 1);
    std::fs::write(&config, text).unwrap();
    let mut client = Command::new(program())
        .args(["mcp", "call", "--config"])
        .arg(&config)
        .args(["suite", "hold", r#"{"text":"this"}"#])
        .env("HOME", &running.folder.0)
        .env("LOCAL_PROVIDER_KEY", KEY)
        .current_dir(&running.folder.0)
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    running.wait_for_log("holds this");
    // By SIGKILL.
    client.kill().unwrap();
    client.wait().unwrap();
    wait_for_metric(&running, "mcp_local_provider_mcp_sessions{server=\"suite\"}", "0");
    assert_childless(&running);
}

#[test]
fn a_gateway_that_is_killed_leaves_no_process() {
    let command = env!("CARGO_BIN_EXE_mcp_server");
    let shared = format!("  all: {{ command: {command:?}, scope: shared }}\n");
    let mut running = start("", &[server("own", ""), shared]);
    let pids: Vec<String> = ["/servers/own/mcp", "/servers/all/mcp"]
        .into_iter()
        .map(|path| {
            let client = open(&running, KEY, path);
            let pid = client.pid();
            // In the middle of a call.
            client.send(&call(1, "hold", &json!({ "text": pid })).to_string());
            running.wait_for_log(&format!("holds {pid}"));
            pid
        })
        .collect();
    // By SIGKILL.
    running.child.kill().unwrap();
    running.child.wait().unwrap();
    for pid in pids {
        assert!(ends(&pid), "the server {pid} is left");
    }
}

#[test]
fn all_callers_of_a_process_that_is_killed_are_told_how_it_ended() {
    let settings = "gateway: { scope: shared, restart: { delay: 10ms } }\n";
    let program = start(settings, &[server("suite", "")]);
    let sessions = [KEY, OTHER, KEY].map(|key| open(&program, key, "/mcp"));
    let pid = sessions[0].pid();
    let held: Vec<_> = sessions
        .iter()
        .zip(["a", "b", "c"])
        .map(|(client, text)| {
            let stream = client.send(&call("own", "hold", &json!({ "text": text })).to_string());
            program.wait_for_log(&format!("holds {text}"));
            stream
        })
        .collect();
    let killed = Command::new("kill").args(["-9", &pid]).status().unwrap();
    assert!(killed.success());
    for stream in held {
        let answer = whole(stream);
        let last = answer.body.rsplit("data: ").next().unwrap();
        let answer: Value = serde_json::from_str(last.trim()).unwrap();
        assert_eq!(answer["id"], "own");
        assert_failed(&answer, -31502, "server_exited");
        assert_eq!(answer["error"]["data"]["exit"], json!({ "signal": 9 }));
    }
    for client in &sessions {
        assert_eq!(client.text("echo", &json!({ "text": "back" })), "back");
    }
}

#[test]
fn a_thousand_sessions_that_nobody_ends_leave_no_process() {
    const SHARED: usize = 1000;
    const OWN: usize = 100;
    let settings = "gateway: { rate: { requests: 0 }, sessions: { per_client: 2000, max: 2000, idle: 1s, sweep: 100ms }, \
                    processes: { max: 150, idle: 1s, starts_at_once: 16 } }\n";
    let shared = server("wiki", "").replace(" }", ", scope: shared }");
    let program = start(settings, &[server("suite", ""), shared]);
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                (0..SHARED / 8).for_each(|_| drop(open(&program, KEY, "/servers/wiki/mcp")));
            });
        }
        for _ in 0..4 {
            scope.spawn(|| {
                (0..OWN / 4).for_each(|_| drop(open(&program, KEY, "/servers/suite/mcp")));
            });
        }
    });
    for name in ["suite", "wiki"] {
        wait_for_metric(&program, &format!("mcp_local_provider_mcp_sessions{{server=\"{name}\"}}"), "0");
    }
    assert_childless(&program);
}

#[test]
fn a_server_that_floods_ends_its_own_session_and_takes_no_memory_along() {
    // Sixteen floods are more than there is.
    let settings = "limits: { memory: 16MiB, mailbox_bytes: 1MiB, body_bytes: 1MiB, answer_bytes: 1MiB, agent_frame_bytes: 1MiB, link_queue_bytes: 1MiB }\n\
                    gateway: { message_bytes: 1MiB, rate: { requests: 0 } }\n";
    let program = start(settings, &[server("suite", "")]);
    let mut other = Client::new(&program, OTHER);
    other.initialize(NEWEST, "suite");
    for round in 0..20 {
        let client = Client::open(&program);
        let pid = client.pid();
        let flood = json!({ "method": "notifications/tools/list_changed" });
        let answer = whole(client.send(&call(round, "spew", &flood).to_string()));
        let told = answer.body.rsplit("data: ").next().unwrap();
        let told: Value = serde_json::from_str(told.trim()).unwrap();
        assert_eq!(told["id"], round);
        assert_eq!(told["error"]["data"]["reason"], "session_not_found");
        assert!(ends(&pid), "the process lives on");
        let gone = client.post(&call(1, "echo", &json!({})));
        assert_eq!(gone.status, 404);
    }
    assert_eq!(other.text("echo", &json!({ "text": "still here" })), "still here");
    // Messages that a client can do without are dropped, and its session goes on.
    let client = Client::open(&program);
    let flood = json!({ "method": "notifications/message" });
    let flooded = client.send(&call(1, "spew", &flood).to_string());
    drop(flooded);
    assert_eq!(client.post(&request(2, "ping", &json!({}))).status, 200);
    assert_eq!(client.delete().status, 204);
    assert_eq!(other.delete().status, 204);
    assert_childless(&program);
}
