//! The address where programs look for an Ollama: those on this machine need no key there, and nobody else is let in.

use crate::agent::Agent;
use crate::audit::records;
use crate::program::{Answer, BRIDGE, CLIENT, Folder, OPERATOR, Program, program, write_config};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::path::Path;
use std::process::Command;

const CHAT: &str = r#"{"model":"m","stream":false,"messages":[{"role":"user","content":"hi"}]}"#;

/// Starts the program with more of `listen`; the address for Ollama is the last one.
fn start(listen: &str, extra: &str) -> Program {
    let folder = Folder::new();
    let config = write(&folder.0, listen, extra);
    let mut command = Command::new(program());
    command.arg("--config").arg(&config);
    Program::spawn(command, folder, config)
}

fn write(folder: &Path, listen: &str, extra: &str) -> std::path::PathBuf {
    let config = write_config(folder, "127.0.0.1:0", extra);
    let text = std::fs::read_to_string(&config).unwrap();
    let listen = format!("listen: {{ {listen}, ");
    std::fs::write(&config, text.replacen("listen: { ", &listen, 1)).unwrap();
    config
}

/// One request to `address`, with these header lines and no others but the length.
fn send(address: SocketAddr, request: &str, headers: &[&str], body: &str) -> Answer {
    let mut stream = Program::connect_to(address);
    let headers: String = headers.iter().map(|line| format!("{line}\r\n")).collect();
    let length = body.len();
    let request = format!(
        "{request} HTTP/1.1\r\n{headers}Content-Length: {length}\r\nConnection: close\r\n\r\n{body}"
    );
    stream.write_all(request.as_bytes()).unwrap();
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).unwrap();
    Answer::parse(&bytes)
}

const LOCAL: &str = "Host: 127.0.0.1:11434";

#[test]
fn a_program_on_this_machine_asks_without_a_key_in_every_dialect() {
    let program = start("ollama: \"127.0.0.1:0\"", "");
    let mut agent = Agent::connect(&program);
    let keys: [&[&str]; 4] = [
        &[LOCAL],
        &[LOCAL, "Authorization: Bearer noop"],
        &[LOCAL, "x-api-key: ollama"],
        &[LOCAL, "Origin: app://obsidian.md"],
    ];
    for headers in keys {
        for list in ["GET /api/tags", "GET /v1/models", "POST /api/show"] {
            let answer = send(program.last, list, headers, r#"{"model":"m"}"#);
            assert_eq!(answer.status, 200, "{list} {headers:?}: {}", answer.body);
            let elsewhere = send(program.address, list, headers, r#"{"model":"m"}"#);
            assert_eq!(elsewhere.status, 401, "{list} {headers:?}");
        }
    }
    for (path, headers) in ["/api/chat", "/v1/chat/completions", "/v1/messages", "/k/noop/api/chat"]
        .into_iter()
        .zip(keys)
    {
        let body = CHAT.replacen('{', r#"{"max_tokens":9,"#, 1);
        let address = program.last;
        let request = format!("POST {path}");
        let client = std::thread::spawn(move || send(address, &request, headers, &body));
        let (id, _) = agent.invocation();
        agent.finish(&id, 0);
        let answer = client.join().unwrap();
        assert_eq!(answer.status, 200, "{path}: {}", answer.body);
        let limit = answer.header("x-ratelimit-limit-requests");
        assert_eq!(limit, Some("100000"), "{path}: that of addresses");
    }
    let file = program.folder.0.join("audit.jsonl");
    let chat = |record: &serde_json::Value| record["endpoint"] == "/api/chat";
    let records = records(&file, chat);
    let record = records.iter().find(|record| chat(record)).unwrap();
    assert_eq!(record["key"], "anonymous", "{record}");
    assert_eq!(record["address"], "127.0.0.1");
}

#[test]
fn pages_other_names_and_other_machines_are_refused_there_as_everywhere() {
    let program = start("ollama: \"0.0.0.0:0\"", "");
    let _agent = Agent::connect(&program);
    let local = SocketAddr::new([127, 0, 0, 1].into(), program.last.port());
    for (headers, status) in [
        (&[LOCAL][..], 200),
        (&["Host: evil.example"], 403),
        (&["Host: evil.example:11434", "Authorization: Bearer noop"], 403),
        (&[LOCAL, "Origin: https://evil.example"], 403),
        (&[LOCAL, "Origin: null"], 403),
        (&[LOCAL, "Origin: http://localhost:3000"], 401),
        (&[LOCAL, "Origin: http://localhost:3000", "Authorization: Bearer noop"], 401),
        (&[LOCAL, "X-Forwarded-For: 203.0.113.7"], 401),
        (&[LOCAL, "Forwarded: for=127.0.0.1"], 401),
        (&["Host: 192.168.1.4:11434"], 401),
    ] {
        for (request, body) in [
            ("GET /api/tags", ""),
            ("GET /v1/models", ""),
            ("POST /api/show", r#"{"model":"m"}"#),
        ] {
            let answer = send(local, request, headers, body);
            assert_eq!(answer.status, status, "{request} {headers:?}: {}", answer.body);
        }
    }
    let page = [LOCAL, "Origin: http://localhost:3000"];
    let key = format!("Authorization: Bearer {CLIENT}");
    let keyed = send(local, "GET /api/tags", &[page[0], page[1], &key], "");
    assert_eq!(keyed.status, 200, "{}", keyed.body);
    // A machine without a network has no other address.
    if let Some(mut own) = address_of_this_machine() {
        own.set_port(program.last.port());
        let host = format!("Host: {own}");
        for host in [LOCAL, "Host: localhost", &host] {
            let answer = send(own, "GET /api/tags", &[host], "");
            assert_eq!(answer.status, 401, "{host}: {}", answer.body);
            let answer = send(own, "GET /api/tags", &[host, &key], "");
            assert_eq!(answer.status, 200, "{host}: {}", answer.body);
        }
    }
}

/// An address of this machine that is not loopback. Nothing is sent.
fn address_of_this_machine() -> Option<SocketAddr> {
    let socket = UdpSocket::bind("0.0.0.0:0").ok()?;
    socket.connect("192.0.2.1:9").ok()?;
    let address = socket.local_addr().ok()?;
    (!address.ip().is_loopback() && !address.ip().is_unspecified()).then_some(address)
}

#[test]
fn without_a_key_nobody_governs_the_program_or_becomes_an_agent() {
    let program = start("ollama: \"127.0.0.1:0\"", "");
    for request in [
        "GET /control/sessions",
        "POST /control/register",
        "POST /control/approve",
        "GET /health/deep",
    ] {
        let answer = send(program.last, request, &[LOCAL], r#"{"agent_id":"x"}"#);
        assert_eq!(answer.status, 403, "{request}: {}", answer.body);
        assert!(answer.body.contains("without a key"), "{}", answer.body);
    }
    let operator = format!("Authorization: Bearer {OPERATOR}");
    let answer = send(program.last, "GET /control/sessions", &[LOCAL, &operator], "");
    assert_eq!(answer.status, 200);
    for (key, status) in [(None, 401), (Some("noop"), 401), (Some(BRIDGE), 101)] {
        let key = key.map(|key| format!("Authorization: Bearer {key}\r\n"));
        let mut stream = Program::connect_to(program.last);
        let request = format!(
            "GET /agent HTTP/1.1\r\n{LOCAL}\r\n{}Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
            key.unwrap_or_default()
        );
        stream.write_all(request.as_bytes()).unwrap();
        let mut status_line = [0; 12];
        stream.read_exact(&mut status_line).unwrap();
        assert_eq!(status_line, format!("HTTP/1.1 {status}").as_bytes());
    }
}

#[test]
fn requests_without_a_key_have_the_limits_of_their_address() {
    let limits = "limits: { requests_per_minute: 2, burst: 2 }\n";
    let program = start("ollama: \"127.0.0.1:0\"", limits);
    let mut agent = Agent::connect(&program);
    let address = program.last;
    for _ in 0..2 {
        let client = std::thread::spawn(move || send(address, "POST /api/chat", &[LOCAL], CHAT));
        let (id, _) = agent.invocation();
        agent.finish(&id, 0);
        assert_eq!(client.join().unwrap().status, 200);
    }
    let refused = send(address, "POST /api/chat", &[LOCAL], CHAT);
    assert_eq!(refused.status, 429, "{}", refused.body);
    assert!(refused.header("retry-after").is_some());
    assert!(refused.body.contains("the address 127.0.0.1, without a key"), "{}", refused.body);
}

#[test]
fn a_key_can_be_required_there_too_and_a_reload_changes_it() {
    let program = start("ollama: \"127.0.0.1:0\", ollama_auth: required", "");
    let list = |headers: &[&str]| send(program.last, "GET /api/tags", headers, "").status;
    assert_eq!(list(&[LOCAL]), 401);
    assert_eq!(list(&[LOCAL, "Authorization: Bearer noop"]), 401);
    assert_eq!(list(&[LOCAL, &format!("Authorization: Bearer {CLIENT}")]), 200);
    write(&program.folder.0, "ollama: \"127.0.0.1:0\", ollama_auth: local", "");
    program.signal("HUP");
    program.wait_for_log("took the configuration over");
    assert_eq!(list(&[LOCAL]), 200);
    // An image of a page, which names no origin.
    assert_eq!(list(&[LOCAL, "Sec-Fetch-Site: cross-site"]), 401);
    let log = program.log();
    assert!(!log.contains("from the next start on"), "{log}");
}

#[test]
fn a_taken_port_is_a_warning_that_names_its_holder() {
    // Another program may have it already: the one that is named is then another one.
    let own = TcpListener::bind("127.0.0.1:11434");
    let program = Program::start_with("", &["--ollama"]);
    assert_ne!(program.last.port(), 11434);
    let log = program.log();
    let warning = log.lines().find(|line| line.contains("127.0.0.1:11434 is not served"));
    let warning = warning.unwrap_or_else(|| panic!("{log}"));
    assert!(warning.contains("WARN") && warning.contains("taken by"), "{warning}");
    if own.is_ok() {
        let id = format!("(process {})", std::process::id());
        assert!(warning.contains(&id) && warning.contains("`it"), "{warning}");
    }
    assert_eq!(program.get("/v1/models").status, 200);
}
