//! Answers and close codes that clients and agents get when something fails.

use crate::agent::Agent;
use crate::program::{Answer, CLIENT, Program};
use serde_json::json;
use std::io::Read;
use std::net::{Shutdown, TcpStream};

pub fn ask(program: &Program, stream: bool) -> TcpStream {
    let body =
        json!({ "model": "m", "stream": stream, "messages": [{ "role": "user", "content": "x" }] });
    program.open(
        "POST",
        "/v1/chat/completions",
        Some(CLIENT),
        &body.to_string(),
    )
}

fn rest(mut stream: TcpStream) -> Answer {
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).unwrap();
    Answer::parse(&bytes)
}

fn read_until(stream: &mut TcpStream, text: &str) -> Vec<u8> {
    let mut seen = Vec::new();
    let mut buffer = [0; 4096];
    while !String::from_utf8_lossy(&seen).contains(text) {
        let count = stream.read(&mut buffer).unwrap();
        assert!(count > 0, "{}", String::from_utf8_lossy(&seen));
        seen.extend_from_slice(&buffer[..count]);
    }
    seen
}

#[test]
fn a_client_that_leaves_is_told_to_the_agent_once() {
    let program = Program::start("");
    let mut agent = Agent::connect(&program);
    for in_stream in [false, true] {
        let mut client = ask(&program, true);
        let (id, _) = agent.invocation();
        if in_stream {
            agent.chunk(&id, 0, "begun");
            read_until(&mut client, "begun");
        }
        client.shutdown(Shutdown::Both).unwrap();
        drop(client);
        let cancel = agent.receive();
        assert_eq!(
            cancel,
            json!({ "type": "model_cancel", "id": id, "reason": "client_disconnected" })
        );
        // What still comes is dropped without a word, and the next client is served: nothing came in between.
        agent.chunk(&id, u64::from(in_stream), "late");
        agent.finish(&id, 1 + u64::from(in_stream));
        let next = ask(&program, true);
        let (next_id, _) = agent.invocation();
        agent.chunk(&next_id, 0, "fine");
        agent.finish(&next_id, 1);
        assert_eq!(rest(next).text(), "fine");
    }
}

#[test]
fn a_dead_agent_ends_every_one_of_its_streams_with_an_error() {
    let program = Program::start("");
    let mut agent = Agent::connect(&program);
    let mut clients: Vec<TcpStream> = (0..8).map(|_| ask(&program, true)).collect();
    let mut ids = Vec::new();
    for _ in &clients {
        ids.push(agent.invocation().0);
    }
    for id in &ids[..6] {
        agent.chunk(id, 0, "begun");
    }
    let mut begun = Vec::new();
    let mut waiting = Vec::new();
    // Six have begun, two wait for their first word.
    for mut client in clients.drain(..) {
        client
            .set_read_timeout(Some(std::time::Duration::from_millis(500)))
            .unwrap();
        let mut buffer = [0; 4096];
        match client.read(&mut buffer) {
            Ok(count) => begun.push((client, buffer[..count].to_vec())),
            Err(_) => waiting.push(client),
        }
    }
    assert_eq!((begun.len(), waiting.len()), (6, 2));
    agent.socket.get_ref().shutdown(Shutdown::Both).unwrap();
    for (mut client, mut bytes) in begun {
        client
            .set_read_timeout(Some(crate::program::PATIENCE))
            .unwrap();
        client.read_to_end(&mut bytes).unwrap();
        let answer = Answer::parse(&bytes);
        let last = answer.events().pop().unwrap();
        assert_eq!(last["error"]["code"], "agent_lost", "{}", answer.body);
        assert!(last.get("choices").is_none());
        assert!(!answer.body.contains("[DONE]"));
    }
    for client in waiting {
        client
            .set_read_timeout(Some(crate::program::PATIENCE))
            .unwrap();
        let answer = rest(client);
        assert_eq!(
            (answer.status, answer.json()["error"]["code"].as_str()),
            (502, Some("agent_lost"))
        );
    }
}

#[test]
fn an_agents_errors_have_their_status() {
    let program = Program::start("");
    let mut agent = Agent::connect(&program);
    for (code, status, kind, name) in [
        (
            "rate_limited",
            429,
            "rate_limit_error",
            "rate_limit_exceeded",
        ),
        ("overloaded", 503, "server_error", "overloaded"),
        (
            "context_length",
            400,
            "invalid_request_error",
            "context_length_exceeded",
        ),
        ("timeout", 504, "server_error", "agent_timeout"),
        ("internal", 502, "server_error", "agent_error"),
        ("never heard of", 502, "server_error", "agent_error"),
    ] {
        let client = ask(&program, true);
        let (id, _) = agent.invocation();
        agent.send(&json!({ "type": "model_result", "id": id, "status": "error", "error": { "code": code, "message": "because", "retry_after": 3 } }));
        let answer = rest(client);
        assert_eq!(answer.status, status, "{code}");
        let error = &answer.json()["error"];
        assert_eq!(
            (error["type"].as_str(), error["code"].as_str()),
            (Some(kind), Some(name)),
            "{code}"
        );
        assert!(error["message"].as_str().unwrap().contains("because"));
        if code == "rate_limited" {
            assert_eq!(answer.header("retry-after"), Some("3"));
        }
    }
}

#[test]
fn silence_has_its_limits() {
    let program = Program::start("timeouts: { first_chunk: 300ms, idle: 300ms }\n");
    let mut agent = Agent::connect(&program);
    let client = ask(&program, false);
    let (id, _) = agent.invocation();
    let answer = rest(client);
    assert_eq!(
        (answer.status, answer.json()["error"]["code"].as_str()),
        (504, Some("agent_timeout"))
    );
    assert_eq!(
        agent.receive(),
        json!({ "type": "model_cancel", "id": id, "reason": "timeout" })
    );
    let client = ask(&program, true);
    let (id, _) = agent.invocation();
    agent.chunk(&id, 0, "begun");
    let answer = rest(client);
    assert_eq!(
        answer.events().pop().unwrap()["error"]["code"],
        "agent_timeout"
    );
    assert_eq!(
        agent.receive(),
        json!({ "type": "model_cancel", "id": id, "reason": "timeout" })
    );
}

#[test]
fn a_silent_agent_is_bridged_by_signs_of_life_in_each_dialect() {
    let program = Program::start("timeouts: { first_event: 50ms, keep_alive: 50ms }\n");
    let mut agent = Agent::connect(&program);
    let said = r#""messages":[{"role":"user","content":"x"}],"stream":true"#;
    for (path, sign, rest) in [
        ("/v1/chat/completions", ": keep-alive\n\n", ""),
        ("/v1/completions", ": keep-alive\n\n", r#","prompt":"x""#),
        ("/v1/responses", ": keep-alive\n\n", r#","input":"x""#),
        ("/api/chat", r#""content":"""#, ""),
        (
            "/v1/messages",
            "event: ping\ndata: {\"type\":\"ping\"}\n\n",
            r#","max_tokens":9"#,
        ),
    ] {
        let body = format!(r#"{{"model":"m",{said}{rest}}}"#);
        let mut client = program.open("POST", path, Some(CLIENT), &body);
        let (id, _) = agent.invocation();
        let mut bytes = read_until(&mut client, sign);
        bytes.extend(read_until(&mut client, sign));
        agent.chunk(&id, 0, "at last");
        agent.finish(&id, 1);
        client.read_to_end(&mut bytes).unwrap();
        let answer = Answer::parse(&bytes);
        assert_eq!(answer.status, 200, "{path}");
        assert!(answer.body.contains("at last"), "{path}: {}", answer.body);
        // A blank line would be a crash in a client that reads a line at a time.
        let blank = path == "/api/chat" && answer.body.contains("\n\n");
        assert!(!blank, "{}", answer.body);
    }
}

#[test]
fn a_burst_comes_whole_to_a_client_that_reads_when_it_is_over() {
    let program = Program::start("");
    let mut agent = Agent::connect(&program);
    for (stream, text, count) in [(true, "x".repeat(1024), 4096), (false, "x".repeat(16), 65_536)] {
        let client = ask(&program, stream);
        let (id, _) = agent.invocation();
        for index in 0..count {
            agent.chunk(&id, index, &text);
        }
        agent.finish(&id, count);
        let answer = rest(client);
        assert_eq!(answer.status, 200, "{}", answer.body);
        let said = if stream {
            answer.text().len()
        } else {
            let message = &answer.json()["choices"][0]["message"]["content"];
            message.as_str().unwrap().len()
        };
        assert_eq!(said, text.len() * usize::try_from(count).unwrap());
    }
}

#[test]
fn a_prompt_of_a_million_tokens_passes() {
    let program = Program::start("limits: { tokens_per_minute: 10000000 }\n");
    let mut agent = Agent::connect(&program);
    let prompt = "word ".repeat(1_000_000);
    let body = json!({ "model": "m", "messages": [{ "role": "user", "content": prompt }] });
    let body = body.to_string();
    let client = program.open("POST", "/v1/chat/completions", Some(CLIENT), &body);
    let (id, invocation) = agent.invocation();
    assert_eq!(invocation["payload"]["messages"][0]["content"], prompt);
    agent.chunk(&id, 0, "read");
    agent.finish(&id, 1);
    assert_eq!(rest(client).status, 200);
}

#[test]
fn a_whole_answer_is_bounded_by_its_own_limit() {
    let program = Program::start("limits: { answer_bytes: 64KiB, mailbox_bytes: 4KiB }\n");
    let mut agent = Agent::connect(&program);
    let client = ask(&program, false);
    let (id, _) = agent.invocation();
    for index in 0..16 {
        agent.chunk(&id, index, &"x".repeat(2048));
    }
    agent.finish(&id, 16);
    assert_eq!(rest(client).status, 200);
    let client = ask(&program, false);
    let (id, _) = agent.invocation();
    for index in 0..64 {
        agent.chunk(&id, index, &"x".repeat(2048));
    }
    let refused = rest(client);
    assert_eq!(refused.status, 502);
    assert_eq!(refused.json()["error"]["code"], "answer_too_large");
    assert_eq!(agent.receive()["reason"], "budget_overrun");
}

#[test]
fn a_client_that_does_not_read_fails_alone() {
    fails_alone("mailbox_bytes: 64KiB");
}

#[test]
fn who_holds_most_of_the_memory_is_cut() {
    fails_alone("memory: 256KiB, body_bytes: 64KiB, content_bytes: 64KiB, answer_bytes: 64KiB");
}

/// A client that never reads is cut at these limits, and others are served.
fn fails_alone(limits: &str) {
    let program =
        Program::start(&format!("limits: {{ {limits}, requests_per_minute: 1000, burst: 100 }}\n"));
    let mut agent = Agent::connect(&program);
    let slow = ask(&program, true);
    let (slow_id, _) = agent.invocation();
    let text = "x".repeat(32 << 10);
    // More than the sockets between us hold; the provider must stop it by itself.
    let mut cancelled = None;
    agent.socket.get_ref().set_nonblocking(true).unwrap();
    for index in 0..4000 {
        let chunk = json!({ "type": "model_stream_chunk", "id": slow_id, "chunk_index": index, "delta": { "content": text }, "finish_reason": null });
        let mut message = Some(tungstenite::Message::text(chunk.to_string()));
        while let Some(frame) = message.take() {
            match agent.socket.write(frame) {
                Ok(()) => {}
                Err(tungstenite::Error::WriteBufferFull(frame)) => message = Some(*frame),
                Err(tungstenite::Error::Io(error))
                    if error.kind() == std::io::ErrorKind::WouldBlock => {}
                Err(error) => panic!("{error}"),
            }
        }
        match agent.socket.read() {
            Ok(tungstenite::Message::Text(text)) => {
                cancelled = Some(serde_json::from_str::<serde_json::Value>(&text).unwrap());
                break;
            }
            Ok(_) => {}
            Err(tungstenite::Error::Io(error))
                if error.kind() == std::io::ErrorKind::WouldBlock => {}
            Err(error) => panic!("{error}"),
        }
    }
    agent.socket.get_ref().set_nonblocking(false).unwrap();
    agent.socket.flush().unwrap();
    let cancelled = cancelled.unwrap_or_else(|| agent.receive());
    assert_eq!(
        cancelled,
        json!({ "type": "model_cancel", "id": slow_id, "reason": "budget_overrun" })
    );
    let honest = ask(&program, true);
    let (id, _) = agent.invocation();
    agent.chunk(&id, 0, "fine");
    agent.finish(&id, 1);
    assert_eq!(rest(honest).text(), "fine");
    drop(slow);
}

#[test]
fn an_ending_program_lets_streams_end_and_takes_nothing_new() {
    let mut program = Program::start("");
    let mut agent = Agent::connect(&program);
    let mut client = ask(&program, true);
    let (id, _) = agent.invocation();
    agent.chunk(&id, 0, "begun");
    let mut seen = read_until(&mut client, "begun");
    let mut idle = program.connect();
    program.signal("TERM");
    // An idle connection is closed, which tells us that the drain has begun.
    let mut nothing = Vec::new();
    let _ = idle.read_to_end(&mut nothing);
    agent.finish(&id, 1);
    client.read_to_end(&mut seen).unwrap();
    assert!(Answer::parse(&seen).body.ends_with("data: [DONE]\n\n"));
    assert_eq!(agent.closed(), 1001);
    let (status, _) = program.wait();
    assert!(status.success(), "{status}");
}
