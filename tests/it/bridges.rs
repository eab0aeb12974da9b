//! Bridges that the program dials: their times, their sessions, and the form in which they are asked.

use crate::agent::Agent;
use crate::program::{CLIENT, Folder, OPERATOR, Program, program, write_config};
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use tungstenite::Message;

/// Takes the program's next connection as a bridge that has nothing to say.
fn taken(listener: &TcpListener) -> Agent {
    agree(listener.accept().unwrap().0)
}

/// Opens the WebSocket that a connection asks for.
fn agree(stream: TcpStream) -> Agent {
    stream
        .set_read_timeout(Some(Duration::from_secs(20)))
        .unwrap();
    #[expect(clippy::result_large_err, reason = "the type is tungstenite's")]
    let agree = |request: &tungstenite::handshake::server::Request,
                 mut response: tungstenite::handshake::server::Response| {
        assert!(!request.headers().contains_key("authorization"));
        let offered = request.headers()["sec-websocket-protocol"].clone();
        response
            .headers_mut()
            .insert("sec-websocket-protocol", offered);
        Ok(response)
    };
    Agent {
        socket: tungstenite::accept_hdr(stream, agree).unwrap(),
        session: String::new(),
        token: String::new(),
    }
}

fn start(bridge: &TcpListener, more: &str) -> Program {
    let url = format!("ws://{}/", bridge.local_addr().unwrap());
    Program::start(&format!(
        "sessions: {{ approval: manual, renew: never }}\n\
         bridges:\n  - {{ name: old, url: \"{url}\", reconnect_delay: 10ms, reconnect_max_delay: 20ms, {more} }}\n"
    ))
}

fn ask(program: &Program, body: &Value) -> TcpStream {
    let path = "/v1/chat/completions";
    program.open("POST", path, Some(CLIENT), &body.to_string())
}

fn sessions(program: &Program) -> Value {
    let listed = program.request("GET", "/control/sessions", Some(OPERATOR), "");
    listed.json()["sessions"].clone()
}

/// Asks again until what the program says of its sessions is so.
fn until(program: &Program, wanted: impl Fn(&Value) -> bool) -> Value {
    let patience = Instant::now() + Duration::from_secs(20);
    loop {
        let listed = sessions(program);
        if wanted(&listed) {
            return listed;
        }
        assert!(Instant::now() < patience, "{listed}");
        std::thread::yield_now();
    }
}

#[test]
fn a_bridge_needs_no_registration_and_is_asked_flat() {
    let bridge = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut program = start(
        &bridge,
        "invocations: flat, session: { agent_id: cursor-1, models: [cursor-agent], label: Old }",
    );
    let mut agent = taken(&bridge);
    let listed = until(&program, |listed| !listed[0].is_null());
    assert_eq!(listed[0]["agent_id"], "cursor-1");
    assert_eq!(listed[0]["status"], "active");
    let session = listed[0]["session_id"].clone();
    let messages = json!([{ "role": "user", "content": "hi" }]);
    let body = json!({ "model": "cursor-agent", "messages": messages, "max_tokens": 5, "temperature": 0.5 });
    let client = ask(&program, &body);
    let (id, mut invocation) = agent.invocation();
    assert!(invocation["timestamp"].take().is_string());
    assert_eq!(
        invocation,
        json!({
            "type": "model_invoke", "id": id, "timestamp": null, "session_id": session, "model": "cursor-agent",
            "messages": messages, "stream": false, "max_tokens": 5, "temperature": 0.5
        })
    );
    agent.chunk(&id, 0, "word");
    agent.finish(&id, 1);
    drop(client);

    // It drops, is dialled again, and has the same session.
    drop(agent);
    let mut agent = taken(&bridge);
    until(&program, |listed| !listed[0]["link"].is_null());
    let client = ask(&program, &body);
    let (id, invocation) = agent.invocation();
    assert_eq!(invocation["session_id"], session);
    agent.finish(&id, 0);
    drop(client);
    let file = program.folder.0.join("audit.jsonl");
    program.signal("TERM");
    program.wait();
    let audit = std::fs::read_to_string(file).unwrap();
    assert!(audit.contains(r#""from":"here","bridge":"old"}"#), "{audit}");
}

#[test]
fn a_bridge_has_times_of_its_own() {
    let bridge = TcpListener::bind("127.0.0.1:0").unwrap();
    let program = start(
        &bridge,
        "connect_timeout: 200ms, heartbeat: 50ms, heartbeat_timeout: 100ms, session: { agent_id: a }",
    );
    // The first dial finds nobody who answers, and is given up.
    let (silent, _) = bridge.accept().unwrap();
    let started = Instant::now();
    let agent = taken(&bridge);
    drop(silent);
    // This one shows no sign of life: it never reads the ping, so it never answers it.
    let replaced = taken(&bridge);
    assert!(started.elapsed() < Duration::from_secs(10));
    drop(agent);
    // This one answers each.
    let mut alive = replaced;
    for _ in 0..8 {
        assert!(matches!(alive.socket.read().unwrap(), Message::Ping(_)));
        alive.socket.flush().unwrap();
    }
    until(&program, |listed| !listed[0]["link"].is_null());
}

/// Answers each connection by the next of these, and gives back the heads that it read.
fn heads(listener: &TcpListener, answers: &[&str]) -> String {
    let mut heads = String::new();
    for answer in answers {
        let (mut stream, _) = listener.accept().unwrap();
        let mut head = Vec::new();
        let mut byte = [0];
        while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).unwrap() == 1 {
            head.extend_from_slice(&byte);
        }
        let head = String::from_utf8(head).unwrap();
        let key = head.split("Sec-WebSocket-Key: ").nth(1).unwrap();
        let key = key.split('\r').next().unwrap();
        let accept = tungstenite::handshake::derive_accept_key(key.as_bytes());
        let answer = answer.replace("ACCEPT", &accept);
        stream.write_all(answer.as_bytes()).unwrap();
        heads.push_str(&head);
    }
    heads
}

#[test]
fn a_bridge_that_knows_no_subprotocol_is_dialled_again_without() {
    const PLAIN: &str = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: ACCEPT\r\n\r\n";
    let bridge = TcpListener::bind("127.0.0.1:0").unwrap();
    let program = start(&bridge, "token: \"a-token-of-the-bridge\"");
    let heads = heads(&bridge, &[PLAIN, PLAIN]);
    assert_eq!(heads.matches("Sec-WebSocket-Protocol: mcp-local-provider.v1").count(), 1, "{heads}");
    assert_eq!(heads.matches("Bearer a-token-of-the-bridge").count(), 2);
    program.wait_for_log("connected");
}

#[test]
fn a_bridge_that_refuses_the_token_is_told_of() {
    let bridge = TcpListener::bind("127.0.0.1:0").unwrap();
    let program = start(&bridge, "token: \"a-token-of-the-bridge\"");
    let refusal = "HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n";
    heads(&bridge, &[refusal]);
    program.wait_for_log("it answered 401: check the token");
    assert!(!program.log().contains("a-token-of-the-bridge"));
}

/// Takes the next connection as a proxy. The request for a tunnel, and the connection.
fn asked_for_a_tunnel(proxy: &TcpListener) -> (String, TcpStream) {
    let (mut stream, _) = proxy.accept().unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(20)))
        .unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        head.extend(byte);
    }
    (String::from_utf8(head).unwrap(), stream)
}

#[test]
fn a_bridge_is_dialled_by_the_proxy_of_the_environment() {
    const OPENED: &[u8] = b"HTTP/1.1 200 Connection established\r\n\r\n";
    let proxy = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = proxy.local_addr().unwrap();
    let url = format!("http://me:pass%21word@{address}");
    let folder = Folder::new();
    let config = write_config(
        &folder.0,
        "127.0.0.1:0",
        "bridges:\n  - { name: far, url: \"ws://bridge.example:81/\", reconnect_delay: 10ms, reconnect_max_delay: 20ms, session: { agent_id: a } }\n",
    );
    let command = |words: &[&str]| {
        let mut command = Command::new(program());
        command.args(words).arg("--config").arg(&config);
        for variable in ["http_proxy", "all_proxy", "ALL_PROXY", "no_proxy", "NO_PROXY"] {
            command.env_remove(variable);
        }
        command.env("HTTP_PROXY", &url);
        command
    };
    let (serve, mut doctor) = (command(&[]), command(&["doctor"]));
    doctor.env("HOME", &folder.0);
    let program = Program::spawn(serve, folder, config.clone());

    let (asked, mut stream) = asked_for_a_tunnel(&proxy);
    assert_eq!(
        asked,
        "CONNECT bridge.example:81 HTTP/1.1\r\nhost: bridge.example:81\r\n\
         proxy-authorization: Basic bWU6cGFzcyF3b3Jk\r\n\r\n"
    );
    stream
        .write_all(b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n")
        .unwrap();
    drop(stream);
    program.wait_for_log("the proxy answered 407: check the name and the password in its URL");

    let (_, mut stream) = asked_for_a_tunnel(&proxy);
    stream.write_all(OPENED).unwrap();
    let _agent = agree(stream);
    until(&program, |listed| listed[0]["status"] == "active");

    let doctor = doctor.stdin(Stdio::null()).stdout(Stdio::piped());
    let doctor = doctor.spawn().unwrap();
    let (_, mut stream) = asked_for_a_tunnel(&proxy);
    stream.write_all(OPENED).unwrap();
    let told = doctor.wait_with_output().unwrap().stdout;
    let told = String::from_utf8_lossy(&told);
    let finding = format!("far accepts connections by the proxy at {address}");
    assert!(told.contains(&finding), "{told}");
    for text in [&*program.log(), &*told] {
        for secret in ["pass%21word", "pass!word", "bWU6cGFzcyF3b3Jk"] {
            assert!(!text.contains(secret), "{text}");
        }
    }
}
