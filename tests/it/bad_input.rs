//! Bad input is refused by name, and nobody else notices.

use crate::agent::{Agent, dial};
use crate::program::{Answer, BRIDGE, CLIENT, Folder, OPERATOR, Program, program, write_config};
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::process::Command;
use tungstenite::Message;

fn raw(program: &Program, request: &str) -> Answer {
    let mut stream = program.raw(request);
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).unwrap();
    Answer::parse(&bytes)
}

#[test]
fn bodies_are_refused_with_the_field_that_is_wrong() {
    let program = Program::start("limits: { content_bytes: 1MiB }\n");
    let chat = "/v1/chat/completions";
    let many: Vec<Value> = (0..1001)
        .map(|_| json!({ "role": "user", "content": "x" }))
        .collect();
    let long = "x".repeat((1 << 20) + 1);
    for (body, status, param) in [
        (String::new(), 400, None),
        ("{".into(), 400, None),
        ("[]".into(), 400, None),
        ("{} {}".into(), 400, None),
        (json!({ "messages": [] }).to_string(), 400, Some("messages")),
        (json!({ "model": "m" }).to_string(), 400, Some("messages")),
        (json!({ "model": 1, "messages": [] }).to_string(), 400, Some("model")),
        (json!({ "model": "m", "messages": [{ "role": "user", "content": 7 }] }).to_string(), 400, Some("messages[0].content")),
        (json!({ "model": "m", "messages": [{ "role": "wizard", "content": "x" }] }).to_string(), 400, Some("messages[0].role")),
        (json!({ "model": "m", "messages": [{ "role": "user", "content": "x" }], "temperature": 3 }).to_string(), 400, Some("temperature")),
        (json!({ "model": "m", "messages": [{ "role": "user", "content": "x" }], "n": 2 }).to_string(), 400, Some("n")),
        (json!({ "model": "m", "messages": many }).to_string(), 400, Some("messages")),
        (json!({ "model": "m", "messages": [{ "role": "user", "content": long }] }).to_string(), 413, Some("messages[0].content")),
        (format!("{{\"model\":\"m\",\"x\":{}{}}}", "[".repeat(100), "]".repeat(100)), 400, None),
    ] {
        let answer = program.request("POST", chat, Some(CLIENT), &body);
        let shown = &body[..body.len().min(80)];
        assert_eq!(answer.status, status, "{shown}: {}", answer.body);
        assert_eq!(answer.json()["error"]["param"].as_str(), param, "{shown}: {}", answer.body);
        assert!(answer.header("x-request-id").is_some());
    }
    let ollama = program.request("POST", "/api/chat", Some(CLIENT), "{\"model\":1}");
    assert_eq!(ollama.status, 400);
    assert!(ollama.json()["error"].as_str().unwrap().contains("model"));
}

#[test]
fn a_body_over_the_limit_is_refused_whether_it_says_so_or_not() {
    let program =
        Program::start("limits: { body_bytes: 10KiB, requests_per_minute: 1000, burst: 100 }\n");
    let body = "x".repeat(20_000);
    let declared = program.request("POST", "/v1/chat/completions", Some(CLIENT), &body);
    assert_eq!(declared.status, 413);
    assert!(
        declared.json()["error"]["message"]
            .as_str()
            .unwrap()
            .contains("limits.body_bytes"),
        "{}",
        declared.body
    );
    let chunked = raw(
        &program,
        &format!(
            "POST /api/chat HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {CLIENT}\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n{:x}\r\n{body}\r\n0\r\n\r\n",
            body.len()
        ),
    );
    assert_eq!(chunked.status, 413);
}

#[test]
fn keys_and_roles_are_checked_on_every_route() {
    let program = Program::start("");
    let body =
        json!({ "model": "m", "messages": [{ "role": "user", "content": "x" }] }).to_string();
    for (key, path, status) in [
        (None, "/v1/chat/completions", 401),
        (Some("wrong"), "/v1/chat/completions", 401),
        (Some("wrong"), "/api/chat", 401),
        (Some(BRIDGE), "/v1/chat/completions", 403),
        (Some(CLIENT), "/control/revoke", 403),
        (Some(CLIENT), "/control/register", 403),
        (None, "/k/wrong/v1/chat/completions", 401),
    ] {
        let answer = program.request("POST", path, key, &body);
        assert_eq!(answer.status, status, "{path} {key:?}: {}", answer.body);
        assert_eq!(
            answer.json()["error"].is_string(),
            path.starts_with("/api/")
        );
    }
    assert_eq!(
        program
            .request("GET", "/control/sessions", Some(OPERATOR), "")
            .status,
        200
    );
    assert_eq!(
        program
            .request("GET", "/control/sessions", Some(CLIENT), "")
            .status,
        403
    );
    assert_eq!(dial(&program, None).unwrap_err().0, 401);
    assert_eq!(dial(&program, Some("wrong")).unwrap_err().0, 401);
    let (status, body) = dial(&program, Some(CLIENT)).unwrap_err();
    assert_eq!(status, 403);
    assert!(
        serde_json::from_str::<Value>(&body).unwrap()["error"]["message"]
            .as_str()
            .unwrap()
            .contains("bridge")
    );
    // What was refused is in the audit, what was shown is not.
    let audit = loop {
        let audit = crate::audit::audited(&program.folder.0.join("audit.jsonl")).concat();
        if audit.contains("violation") && audit.contains("authentication_failed") {
            break audit;
        }
        std::thread::yield_now();
    };
    assert!(!audit.contains("wrong") && !audit.contains(CLIENT));
}

#[test]
fn where_no_key_is_required_any_or_none_will_do() {
    let folder = Folder::new();
    let config = write_config(&folder.0, "127.0.0.1:0", "");
    let mut command = Command::new(program());
    command
        .env("MLP_AUTH__REQUIRED", "false")
        .arg("--config")
        .arg(&config);
    let program = Program::spawn(command, folder, config);
    let mut agent = Agent::connect(&program);
    // Void's providers for local servers send this, or nothing.
    for key in [Some("noop"), None] {
        for path in ["/v1/models", "/api/tags"] {
            let list = program.request("GET", path, key, "");
            assert_eq!(list.status, 200, "{path} {key:?}: {}", list.body);
        }
        let body = r#"{"model":"m","messages":[{"role":"user","content":"x"}]}"#;
        let mut client = program.open("POST", "/v1/chat/completions", key, body);
        let (id, _) = agent.invocation();
        agent.chunk(&id, 0, "for anyone");
        agent.finish(&id, 1);
        let mut bytes = Vec::new();
        client.read_to_end(&mut bytes).unwrap();
        let answer = Answer::parse(&bytes);
        let content = &answer.json()["choices"][0]["message"]["content"];
        assert_eq!(content, "for anyone");
    }
}

#[test]
fn an_agents_nonsense_costs_nobody_but_the_agent() {
    let program = Program::start("limits: { agent_frame_bytes: 64KiB }\n");
    let mut good = Agent::connect_as(&program, json!({ "agent_id": "good", "models": ["m"] }));
    for (frame, code) in [
        (Message::binary(vec![1, 2, 3]), None),
        (Message::text("not json"), None),
        (Message::text("[]"), None),
        (Message::text("{\"type\":\"model_stream_chunk\"}"), None),
        (Message::text("x".repeat((64 << 10) + 1)), Some(1009)),
        (Message::text("x".repeat(1 << 20)), Some(1009)),
    ] {
        let mut bad = Agent::connect_as(&program, json!({ "agent_id": "bad", "models": ["bad"] }));
        let count = if code.is_some() { 1 } else { 16 };
        for _ in 0..count {
            if bad.socket.send(frame.clone()).is_err() {
                break;
            }
        }
        assert_eq!(bad.closed(), code.unwrap_or(4002));
    }
    let mut client = program.open(
        "POST",
        "/v1/chat/completions",
        Some(CLIENT),
        &json!({ "model": "m", "messages": [{ "role": "user", "content": "x" }] }).to_string(),
    );
    let (id, _) = good.invocation();
    good.send(&json!({ "type": "a type from tomorrow", "id": "x" }));
    assert_eq!(good.receive()["error"]["code"], "unknown_type");
    let mut large = program.open(
        "POST",
        "/v1/chat/completions",
        Some(CLIENT),
        &json!({ "model": "m", "messages": [{ "role": "user", "content": "x" }] }).to_string(),
    );
    let (too_large, _) = good.invocation();
    good.chunk(&too_large, 0, &"x".repeat(64 << 10));
    let mut bytes = Vec::new();
    large.read_to_end(&mut bytes).unwrap();
    assert_eq!(Answer::parse(&bytes).status, 502);
    assert_eq!(good.receive()["type"], "model_cancel");
    assert_eq!(good.receive()["error"]["code"], "protocol");
    good.chunk(&id, 1, "lo");
    good.chunk(&id, 0, "Hel");
    good.chunk(&id, 0, "Hel");
    good.finish(&id, 2);
    let mut bytes = Vec::new();
    client.read_to_end(&mut bytes).unwrap();
    assert_eq!(
        Answer::parse(&bytes).json()["choices"][0]["message"]["content"],
        "Hello"
    );
}

#[test]
fn slow_heads_and_slow_bodies_are_cut() {
    let program = Program::start("timeouts: { head: 300ms, body: 300ms }\n");
    let mut silent = program.connect();
    let mut half_head = program.raw("GET /health HTTP/1.1\r\nHost: loc");
    let mut half_body = program.raw(&format!(
        "POST /api/chat HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {CLIENT}\r\nContent-Length: 100\r\n\r\n{{"
    ));
    for stream in [&mut silent, &mut half_head] {
        let mut bytes = Vec::new();
        let _ = stream.read_to_end(&mut bytes);
        assert!(bytes.is_empty() || Answer::parse(&bytes).status == 408);
    }
    let mut bytes = Vec::new();
    let _ = half_body.read_to_end(&mut bytes);
    assert_eq!(Answer::parse(&bytes).status, 408);
    assert_eq!(program.get("/v1/models").status, 200);
}

#[test]
fn the_sixty_first_request_of_a_minute_is_told_when_to_come_back() {
    let program = Program::start("limits: { requests_per_minute: 60, burst: 60 }\n");
    let _agent = Agent::connect(&program);
    let body = json!({ "model": "none", "messages": [{ "role": "user", "content": "x" }] });
    // Requests that no agent answers do not count; these are counted because the model is there.
    assert_eq!(program.post("/v1/chat/completions", &body).status, 404);
    let mut clients = Vec::new();
    let body =
        json!({ "model": "m", "messages": [{ "role": "user", "content": "x" }] }).to_string();
    for _ in 0..60 {
        clients.push(program.open("POST", "/v1/chat/completions", Some(CLIENT), &body));
    }
    // All sixty are open before the next one comes.
    let mut agent = _agent;
    for _ in 0..60 {
        agent.invocation();
    }
    let refused = program.request("POST", "/v1/chat/completions", Some(CLIENT), &body);
    assert_eq!(refused.status, 429);
    assert_eq!(refused.header("retry-after"), Some("1"));
    assert_eq!(refused.json()["error"]["code"], "rate_limit_exceeded");
    for client in &mut clients {
        client.flush().unwrap();
    }
}

#[test]
fn requests_with_a_wrong_key_draw_on_the_limit_of_their_address() {
    let program = Program::start("limits: { requests_per_minute: 3, burst: 3 }\n");
    let list = |key| program.request("GET", "/v1/models", key, "");
    assert_eq!(list(Some("wrong")).status, 401);
    assert_eq!(list(None).status, 401);
    assert_eq!(dial(&program, Some("wrong")).unwrap_err().0, 401);
    let refused = list(Some("wrong"));
    assert_eq!(refused.status, 429, "{}", refused.body);
    assert_eq!(refused.header("retry-after"), Some("20"));
    assert_eq!(refused.json()["error"]["code"], "rate_limit_exceeded");
    assert_eq!(dial(&program, Some("wrong")).unwrap_err().0, 429);
    // A key that is known has limits of its own.
    assert_eq!(list(Some(CLIENT)).status, 200);
    Agent::connect(&program);
}

/// A thread has a small stack.
#[test]
fn json_that_is_very_deep_ends_nothing() {
    let mut program = Program::start("");
    let mut agent = Agent::connect(&program);
    for depth in [100, 127, 128, 100_000] {
        let lists = "[".repeat(depth) + &"]".repeat(depth);
        let objects = "{\"a\":".repeat(depth) + "1" + &"}".repeat(depth);
        for deep in [lists, objects] {
            for path in [
                "/v1/chat/completions",
                "/v1/completions",
                "/v1/responses",
                "/v1/messages",
                "/api/chat",
                "/api/generate",
            ] {
                let body = format!(
                    "{{\"model\":\"none\",\"tools\":[{{\"type\":\"function\",\"function\":{{\"name\":\"t\",\"parameters\":{deep}}}}}],\
                      \"messages\":[{{\"role\":\"user\",\"content\":{deep}}}],\"prompt\":{deep},\"input\":{deep},\"format\":{deep}}}"
                );
                let answer = program.request("POST", path, Some(CLIENT), &body);
                assert!(matches!(answer.status, 400 | 404 | 413), "{}", answer.body);
            }
            agent.socket.send(Message::text(deep)).unwrap();
        }
    }
    assert!(program.child.try_wait().unwrap().is_none());
    assert_eq!(program.get("/health").status, 200);
}

#[test]
fn an_agent_that_asks_the_program_that_it_answers_for_is_told_so() {
    let program = Program::start("");
    let mut stream = program.raw(&format!(
        "GET /v1/models HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {CLIENT}\r\nX-MCP-Local-Provider-Agent: claude\r\nConnection: close\r\n\r\n"
    ));
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).unwrap();
    let answer = Answer::parse(&bytes);
    assert_eq!(answer.status, 400, "{}", answer.body);
    assert!(answer.body.contains("a model of its own"), "{}", answer.body);
}
