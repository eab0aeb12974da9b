//! The life of servers: whatever ends a session or a server, no process stays behind, and nobody else notices.

use super::client::{
    Client, KEY, NEWEST, OTHER, assert_refused, call, configure, request, server, start,
    start_one, until, whole,
};
use crate::child_process::ends;
use crate::program::Folder;
use serde_json::{Value, json};
use std::process::Command;
use std::time::{Duration, Instant};

/// The server of the suite with SIGTERM ignored.
fn stubborn() -> String {
    let command = env!("CARGO_BIN_EXE_mcp_server");
    let script = format!("trap '' TERM; exec '{command}' stubborn");
    format!("  suite: {{ command: /bin/sh, args: [-c, {script:?}] }}\n")
}

#[test]
fn a_session_that_is_deleted_takes_its_process_and_its_listener_along() {
    let program = start_one("");
    let client = Client::open(&program);
    let other = Client::open(&program);
    let (pid, stays) = (client.pid(), other.pid());
    let mut listening = client.listen(None);
    assert_eq!(client.delete().status, 204);
    assert_eq!(listening.message(), None);
    assert!(ends(&pid), "the process lives on");
    assert_eq!(other.pid(), stays, "each session has a process of its own");
}

#[test]
fn a_server_that_will_not_end_is_killed_within_two_seconds() {
    let program = start("", &[stubborn()]);
    // A machine that is busy elsewhere may take longer now and then.
    let in_time = (0..3).any(|_| {
        let client = Client::open(&program);
        let pid = client.pid();
        let begun = Instant::now();
        assert_eq!(client.delete().status, 204);
        assert!(ends(&pid), "the process lives on");
        begun.elapsed() < Duration::from_secs(2)
    });
    assert!(in_time, "it takes longer each time");
}

#[test]
fn a_session_goes_on_with_another_process_when_its_server_is_killed() {
    let program = start_one("gateway: { restart: { delay: 10ms } }\n");
    let client = Client::open(&program);
    let level = request(1, "logging/setLevel", &json!({ "level": "error" }));
    assert_eq!(client.post(&level).json()["result"], json!({}));
    let pid = client.pid();
    let mut listening = client.listen(None);
    let killed = Command::new("kill").args(["-9", &pid]).status().unwrap();
    assert!(killed.success() && ends(&pid));
    // The client is told when another one is there.
    let changed = listening.message().unwrap();
    assert_eq!(changed["method"], "notifications/tools/list_changed");
    let next = client.pid();
    assert_ne!(next, pid);
    let heard = client.text("heard", &json!({}));
    let heard: Vec<Value> = serde_json::from_str(&heard).unwrap();
    assert_eq!(heard[0]["params"]["clientInfo"]["name"], "suite", "it is greeted as the first was");
    let level = heard.iter().find(|message| message["method"] == "logging/setLevel").unwrap();
    assert_eq!(level["params"]["level"], "error", "it is told what the first was told");
    assert_eq!(client.delete().status, 204);
    assert!(ends(&next));
}

#[test]
fn a_program_that_is_told_to_end_leaves_no_server() {
    let mut program = start("", &[server("suite", "")]);
    let pids: Vec<String> = [KEY, OTHER]
        .into_iter()
        .map(|key| {
            let mut client = Client::new(&program, key);
            client.initialize(NEWEST, "suite");
            client.pid()
        })
        .collect();
    let mut listening = {
        let mut client = Client::new(&program, KEY);
        client.initialize(NEWEST, "suite");
        client.listen(None)
    };
    program.signal("TERM");
    assert_eq!(listening.message(), None);
    assert!(program.wait().0.success());
    for pid in pids {
        assert!(ends(&pid), "the process lives on");
    }
}

#[test]
fn a_program_that_is_killed_leaves_no_server() {
    let mut program = start("", &[stubborn()]);
    let pid = Client::open(&program).pid();
    program.signal("KILL");
    program.wait();
    assert!(ends(&pid), "the process lives on");
}

#[test]
fn noise_of_a_server_goes_to_the_log_at_most() {
    let program = start("", &[server("suite", "loud")]);
    let client = Client::open(&program);
    assert_eq!(client.text("echo", &json!({ "text": "fine" })), "fine");
    assert_eq!(client.text("flood", &json!({ "lines": 500, "text": "still" })), "still");
    // What was left out is told at its end.
    assert_eq!(client.delete().status, 204);
    program.wait_for_log("more lines to standard error, which are left out");
    let log = program.log();
    assert!(log.len() < 1 << 20, "{} bytes", log.len());
    assert!(!log.contains("this server starts now"), "its standard output is no log");
}

#[test]
fn a_key_that_is_removed_ends_its_sessions_and_their_processes() {
    let servers = [server("suite", "")];
    let program = start("", &servers);
    let client = Client::open(&program);
    let mut other = Client::new(&program, OTHER);
    other.initialize(NEWEST, "suite");
    let (pid, stays) = (client.pid(), other.pid());
    let text = std::fs::read_to_string(&program.config).unwrap();
    let text = text.replace(&format!("key: {KEY}"), "key: another-mcp-key-for-tests");
    std::fs::write(&program.config, text).unwrap();
    program.signal("HUP");
    assert!(ends(&pid), "the process lives on");
    let refused = client.post(&call(1, "echo", &json!({})));
    assert_refused(&refused, 401, -31401, "unauthorized");
    let mut thief = client.clone();
    thief.key = "another-mcp-key-for-tests";
    let refused = thief.post(&call(1, "echo", &json!({})));
    assert_refused(&refused, 404, -31404, "session_not_found");
    assert_eq!(other.pid(), stays);
}

#[test]
fn a_server_that_is_removed_ends_its_sessions() {
    let program = start("", &[server("one", ""), server("two", "")]);
    let open = |name: &str| {
        let mut client = Client::new(&program, KEY);
        client.path = format!("/servers/{name}/mcp");
        client.initialize(NEWEST, "suite");
        client
    };
    let mut both = Client::new(&program, KEY);
    both.initialize(NEWEST, "suite");
    let (one, two) = (open("one"), open("two"));
    let (pid, stays) = (one.pid(), two.pid());
    let mut crossed = one.clone();
    crossed.path.clone_from(&two.path);
    let refused = crossed.post(&call(1, "echo", &json!({})));
    assert_refused(&refused, 404, -31404, "session_not_found");

    configure(&program.folder, "", &[server("two", "")]);
    program.signal("HUP");
    assert!(ends(&pid), "the process lives on");
    let refused = one.post(&call(1, "echo", &json!({})));
    assert_refused(&refused, 404, -32602, "server_not_found");
    assert_eq!(two.pid(), stays);
    let refused = both.post(&call(1, "echo", &json!({})));
    assert_refused(&refused, 404, -31404, "session_not_found");
}

#[test]
fn a_server_that_is_started_in_another_way_ends_its_sessions() {
    let program = start("", &[server("one", ""), server("two", "")]);
    let open = |name: &str| {
        let mut client = Client::new(&program, KEY);
        client.path = format!("/servers/{name}/mcp");
        client.initialize(NEWEST, "suite");
        client
    };
    let (mut one, two) = (open("one"), open("two"));
    let (pid, stays) = (one.pid(), two.pid());
    configure(&program.folder, "", &[server("one", "other"), server("two", "")]);
    program.signal("HUP");
    assert!(ends(&pid), "the process lives on");
    let refused = one.post(&call(1, "echo", &json!({})));
    assert_refused(&refused, 404, -31404, "session_not_found");
    one.initialize(NEWEST, "suite");
    assert_ne!(one.pid(), pid);
    assert_eq!(two.pid(), stays);
}

#[test]
fn a_server_that_does_not_read_is_ended_when_too_much_waits_for_it() {
    let limits = "limits: { link_queue_bytes: 1MiB, agent_frame_bytes: 1MiB }\n";
    let program = start(limits, &[server("suite", "deaf")]);
    let client = Client::open(&program);
    let text = "x".repeat(256 << 10);
    let waiting: Vec<_> = (0..24)
        .map(|id| client.send(&call(id, "echo", &json!({ "text": text })).to_string()))
        .collect();
    let mut exited = 0;
    for stream in waiting {
        let answer = whole(stream);
        // What came after the end is answered by the next process, or waits for it.
        exited += usize::from(answer.body.contains("server_exited"));
        if exited == 3 {
            return;
        }
    }
    panic!("{exited} callers were told");
}

#[test]
fn servers_are_started_so_many_at_once() {
    let folder = Folder::new();
    let mark = folder.0.join("starting");
    let late = folder.0.join("overlap");
    let (mark, late) = (mark.display(), late.display());
    let suite = env!("CARGO_BIN_EXE_mcp_server");
    // It is alone until it has read `initialize` and a while more.
    let script = format!("mkdir '{mark}' || touch '{late}'; sleep 0.05; rmdir '{mark}'; exec '{suite}'");
    let one = format!("  suite: {{ command: /bin/sh, args: [-c, {script:?}] }}\n");
    let config = configure(&folder, "gateway: { processes: { starts_at_once: 1 } }\n", &[one]);
    let mut command = Command::new(crate::program::program());
    command.arg("--config").arg(&config);
    let program = crate::program::Program::spawn(command, folder, config);
    std::thread::scope(|scope| {
        for name in ["a", "b", "c", "d", "e"] {
            let program = &program;
            scope.spawn(move || {
                let mut client = Client::new(program, KEY);
                client.initialize(NEWEST, name);
                assert_eq!(client.text("echo", &json!({ "text": name })), name);
            });
        }
    });
    assert!(!program.folder.0.join("overlap").exists(), "two were started at once");
}

#[test]
fn metrics_tell_of_sessions_processes_requests_and_restarts() {
    let program = start_one("gateway: { restart: { delay: 100ms } }\n");
    let client = Client::open(&program);
    assert_eq!(client.text("echo", &json!({ "text": "x" })), "x");
    client.call("exit", &json!({ "code": 3 }));
    // It is answered by the process that took the other's place.
    assert_eq!(client.text("echo", &json!({ "text": "y" })), "y");
    let metrics = program.get("/metrics").body;
    for line in [
        "mcp_local_provider_mcp_sessions{server=\"suite\"} 1",
        "mcp_local_provider_mcp_processes{server=\"suite\",state=\"ready\"} 1",
        "mcp_local_provider_mcp_processes{server=\"suite\",state=\"starting\"} 0",
        "mcp_local_provider_mcp_requests_total{server=\"suite\",outcome=\"answered\"} 2",
        "mcp_local_provider_mcp_requests_total{server=\"suite\",outcome=\"server_exited\"} 1",
        "mcp_local_provider_mcp_restarts_total{server=\"suite\"} 1",
    ] {
        assert!(metrics.lines().any(|other| other == line), "{line} is not in {metrics}");
    }
}

#[test]
fn whoever_waits_for_an_answer_hears_at_once_that_the_session_has_ended() {
    // No heartbeat looks after them.
    let program = start_one("gateway: { timeouts: { heartbeat: 10m } }\n");
    let client = Client::open(&program);
    let id = client.session.clone().unwrap();
    let hold = json!({ "name": "hold", "arguments": { "text": "this" } });
    let stream = client.send(&request("mine", "tools/call", &hold).to_string());
    let by_rest = json!({ "session_id": id, "tool": "hold", "params": { "text": "that" } }).to_string();
    let rest = program.open("POST", "/tools/call", Some(KEY), &by_rest);
    until(|| {
        let shown = program.request("GET", &format!("/sessions/{id}"), Some(KEY), "").json();
        (shown["in_flight"] == 2).then_some(())
    });
    assert_eq!(client.delete().status, 204);
    let told = whole(stream).json();
    assert_eq!((&told["id"], &told["error"]["code"]), (&json!("mine"), &json!(-31404)), "{told}");
    let told = whole(rest);
    assert_eq!(told.status, 404, "{told:?}");
    assert_eq!(told.json()["error"]["code"], "session_not_found");
}
