//! Pages of this machine and desktop programs may call; pages from elsewhere, and names that are pointed at this machine, may not.

use crate::agent::Agent;
use crate::program::{Answer, BRIDGE, CLIENT, Program};
use std::io::{BufRead, BufReader, Read};
use std::thread;

const FRIENDS: [&str; 4] = [
    "vscode-file://vscode-app",
    "app://obsidian.md",
    "tauri://localhost",
    "http://localhost:3000",
];
const CHAT: &str =
    r#"{"model":"m","max_tokens":9,"messages":[{"role":"user","content":"hi"}],"stream":true}"#;
const ROUTES: [&str; 4] = [
    "/v1/chat/completions",
    "/v1/messages",
    "/api/chat",
    "/k/client-key-for-tests/v1/chat/completions",
];

/// One request, with these header lines and no others but the length.
fn send(program: &Program, method: &str, path: &str, headers: &[&str], body: &str) -> Answer {
    let length = body.len();
    let headers = headers.join("\r\n");
    let mut stream = program.raw(&format!(
        "{method} {path} HTTP/1.1\r\n{headers}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
    ));
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).unwrap();
    Answer::parse(&bytes)
}

/// The status that answers an upgrade to a WebSocket.
fn upgrade(program: &Program, headers: &[&str]) -> u16 {
    let headers = headers.join("\r\n");
    let stream = program.raw(&format!(
        "GET /agent HTTP/1.1\r\n{headers}\r\nAuthorization: Bearer {BRIDGE}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    ));
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line).unwrap();
    line.split(' ').nth(1).unwrap().parse().unwrap()
}

fn preflight(program: &Program, path: &str, host: &str, origin: &str) -> Answer {
    let headers = [
        &format!("Host: {host}"),
        &format!("Origin: {origin}"),
        "Access-Control-Request-Method: POST",
        "Access-Control-Request-Headers: authorization,content-type,x-new",
        "Access-Control-Request-Private-Network: true",
    ];
    send(program, "OPTIONS", path, &headers, "")
}

#[test]
fn desktop_programs_and_pages_of_this_machine_may_call() {
    let program = Program::start("");
    let mut agent = Agent::connect(&program);
    let answering = thread::spawn(move || {
        for _ in FRIENDS {
            let (id, _) = agent.invocation();
            agent.chunk(&id, 0, "hello");
            agent.finish(&id, 1);
        }
    });
    for origin in FRIENDS {
        let from = format!("Origin: {origin}");
        for route in ROUTES {
            // A browser sends no key along.
            let asked = preflight(&program, route, "localhost", origin);
            assert_eq!(asked.status, 204, "{origin} {route}");
            for (name, value) in [
                ("access-control-allow-origin", origin),
                (
                    "access-control-allow-headers",
                    "authorization,content-type,x-new",
                ),
                ("access-control-allow-private-network", "true"),
                ("vary", "Origin"),
            ] {
                assert_eq!(asked.header(name), Some(value), "{origin} {route}");
            }
            let methods = asked.header("access-control-allow-methods").unwrap();
            assert!(methods.contains("POST"), "{methods}");
        }
        let key = format!("Authorization: Bearer {CLIENT}");
        let headers = ["Host: 127.0.0.1:8788", &from, &key];
        let answer = send(&program, "POST", ROUTES[0], &headers, CHAT);
        assert_eq!((answer.status, answer.text().as_str()), (200, "hello"));
        let no_key = send(&program, "POST", ROUTES[0], &headers[..2], CHAT);
        assert_eq!(no_key.status, 401);
        // A page can read an answer, a refusal, and the headers that its retries go by.
        for answer in [answer, no_key] {
            assert_eq!(answer.header("access-control-allow-origin"), Some(origin));
            let exposed = answer.header("access-control-expose-headers").unwrap();
            assert!(exposed.contains("retry-after"), "{exposed}");
        }
        assert_eq!(upgrade(&program, &["Host: localhost", &from]), 101);
    }
    answering.join().unwrap();
}

#[test]
fn pages_from_elsewhere_and_rebound_names_are_refused() {
    let program = Program::start("");
    let mut agent = Agent::connect(&program);
    let key = format!("Authorization: Bearer {CLIENT}");
    for (host, origin) in [
        ("localhost", "https://evil.example"),
        ("localhost", "http://localhost.evil.example"),
        ("localhost", "null"),
        ("evil.example", "http://localhost:3000"),
        ("evil.example:8788", "http://evil.example:8788"),
    ] {
        let case = format!("{host} {origin}");
        let (name, from) = (format!("Host: {host}"), format!("Origin: {origin}"));
        for route in ROUTES {
            let asked = preflight(&program, route, host, origin);
            let answer = send(&program, "POST", route, &[&name, &from, &key], CHAT);
            for refused in [asked, answer] {
                assert_eq!(refused.status, 403, "{case} {route}");
                if host == "localhost" {
                    assert_eq!(refused.header("access-control-allow-origin"), None);
                }
            }
        }
        assert_eq!(upgrade(&program, &[&name, &from]), 403, "{case}");
    }
    // Without an origin it is no browser, but the name still tells.
    let alone = send(&program, "GET", "/health", &["Host: evil.example"], "");
    assert_eq!(alone.status, 403);
    assert_eq!(upgrade(&program, &["Host: evil.example"]), 403);
    // None of it has reached the agent: the first that it hears of is this.
    let allowed = CHAT.replace("hi", "allowed");
    let _stream = program.open("POST", ROUTES[0], Some(CLIENT), &allowed);
    let (_, invocation) = agent.invocation();
    assert_eq!(invocation["payload"]["messages"][0]["content"], "allowed");
}
