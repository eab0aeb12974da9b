//! Prompts, answers, keys and tokens are written down nowhere: a canary of each kind is sent through every route, with
//! the most detailed log, and searched in everything that the program writes.

use crate::agent::{Agent, dial};
use crate::program::{Answer, BRIDGE, CLIENT, Folder, OPERATOR, PATIENCE, Program};
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::Command;
use std::time::Instant;
use tungstenite::handshake::server::{Request, Response};
use tungstenite::{Message, WebSocket};

const PROMPT: &str = "canary-prompt-3f1c";
/// Text of an agent's answer, which no log may hold either.
const ANSWER: &str = "canary-answer-77ab";
const REFUSED: &str = "canary-refused-key-90de";
const SESSION: &str = "canary-session-token-0b2d-0123456789abcdef";
const DIALLED: &str = "canary-dialled-token-51aa";
const IN_URL: &str = "canary-url-token-c0de";

/// Everything that the program wrote to anyone but the agents.
#[derive(Default)]
struct Said(Vec<(String, String)>);

impl Said {
    fn add(&mut self, who: impl Into<String>, what: impl Into<String>) {
        self.0.push((who.into(), what.into()));
    }

    fn answer(&mut self, who: &str, answer: &Answer) -> u16 {
        self.add(who, format!("{:?} {}", answer.headers, answer.body));
        answer.status
    }

    fn holds_none_of(&self, canaries: &[&str]) {
        let mut found = Vec::new();
        for canary in canaries {
            for (who, what) in &self.0 {
                if let Some(at) = what.find(canary) {
                    let from = what[..at].rfind('\n').map_or(0, |end| end + 1);
                    let line: String = what[from..].chars().take(400).collect();
                    found.push(format!("{canary} is in {who}: {line}"));
                }
            }
        }
        assert!(found.is_empty(), "{}", found.join("\n"));
    }
}

fn read(mut stream: TcpStream) -> Answer {
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).unwrap();
    Answer::parse(&bytes)
}

/// Every route that asks a model, with a prompt in each place where one can be.
fn prompts() -> Vec<(&'static str, Value)> {
    let messages = json!([
        { "role": "system", "content": PROMPT },
        { "role": "user", "content": [{ "type": "text", "text": PROMPT }, { "type": "image_url", "image_url": { "url": format!("data:image/png;base64,{PROMPT}") } }] },
        { "role": "assistant", "content": null, "tool_calls": [{ "id": "c", "type": "function", "function": { "name": "f", "arguments": format!("{{\"a\":\"{PROMPT}\"}}") } }] },
        { "role": "tool", "tool_call_id": "c", "content": PROMPT },
    ]);
    let plain = json!([{ "role": "user", "content": PROMPT }]);
    vec![
        (
            "/v1/chat/completions",
            json!({ "messages": messages, "stop": [PROMPT], "user": PROMPT, "metadata": { "a": PROMPT } }),
        ),
        (
            "/v1/completions",
            json!({ "prompt": PROMPT, "suffix": PROMPT }),
        ),
        (
            "/v1/messages",
            json!({ "system": PROMPT, "messages": plain, "max_tokens": 9 }),
        ),
        (
            "/v1/responses",
            json!({ "instructions": PROMPT, "input": PROMPT }),
        ),
        ("/api/chat", json!({ "messages": plain })),
        (
            "/api/generate",
            json!({ "system": PROMPT, "prompt": PROMPT, "suffix": PROMPT }),
        ),
    ]
}

/// Bodies that are refused, most with the canary in the very place that is wrong; there is no such model either.
fn wrong() -> Vec<(&'static str, String)> {
    let user = |content: Value| json!([{ "role": "user", "content": content }]);
    let mut wrong = vec![
        ("/v1/chat/completions", format!("{{\"model\":\"none\",\"messages\":\"{PROMPT}\"}}")),
        ("/v1/chat/completions", format!("\"{PROMPT}\"")),
        ("/v1/chat/completions", format!("{{\"{PROMPT}")),
        ("/v1/chat/completions", PROMPT.to_owned()),
        ("/v1/chat/completions", json!({ "model": "none", "messages": user(json!({ "text": PROMPT })) }).to_string()),
        ("/v1/chat/completions", json!({ "model": "none", "messages": user(json!([{ "type": PROMPT }])) }).to_string()),
        ("/v1/chat/completions", json!({ "model": "none", "messages": [{ "role": PROMPT, "content": PROMPT }] }).to_string()),
        ("/v1/chat/completions", json!({ "model": "none", "messages": user(json!(PROMPT)), "temperature": PROMPT }).to_string()),
        ("/v1/chat/completions", json!({ "model": "none", "messages": user(json!(PROMPT)), "stop": { "a": PROMPT } }).to_string()),
        ("/v1/chat/completions", json!({ "model": "none", "messages": user(json!(PROMPT)), "tools": PROMPT }).to_string()),
        ("/v1/chat/completions", json!({ "model": "none", "messages": user(json!(PROMPT)), "tool_choice": PROMPT }).to_string()),
        ("/v1/chat/completions", json!({ "model": "none", "messages": user(json!(PROMPT)), "response_format": PROMPT }).to_string()),
        ("/v1/chat/completions", json!({ "model": "none", "messages": user(json!(PROMPT)), "response_format": { "type": PROMPT } }).to_string()),
        ("/v1/chat/completions", json!({ "model": "none", "messages": user(json!(PROMPT)), "reasoning_effort": PROMPT }).to_string()),
        ("/v1/completions", json!({ "model": "none", "prompt": { "a": PROMPT } }).to_string()),
        ("/v1/completions", json!({ "model": "none", "prompt": [PROMPT, PROMPT] }).to_string()),
        ("/v1/messages", json!({ "model": "none", "max_tokens": PROMPT, "messages": user(json!(PROMPT)) }).to_string()),
        ("/v1/messages", json!({ "model": "none", "max_tokens": 1, "messages": [{ "role": PROMPT, "content": PROMPT }] }).to_string()),
        ("/v1/responses", json!({ "model": "none", "input": { "a": PROMPT } }).to_string()),
        ("/v1/responses", json!({ "model": "none", "input": [{ "type": PROMPT }] }).to_string()),
        ("/v1/responses", json!({ "model": "none", "input": PROMPT, "previous_response_id": "resp_none" }).to_string()),
        ("/v1/embeddings", json!({ "model": "none", "input": PROMPT }).to_string()),
        ("/v1/embeddings", json!({ "model": "none", "input": { "a": PROMPT } }).to_string()),
        ("/api/embed", json!({ "model": "none", "input": { "a": PROMPT } }).to_string()),
        ("/api/chat", json!({ "model": "none", "messages": PROMPT }).to_string()),
        ("/api/chat", json!({ "model": "none", "messages": user(json!(PROMPT)), "options": PROMPT }).to_string()),
        ("/api/chat", json!({ "model": "none", "messages": user(json!(PROMPT)), "format": PROMPT }).to_string()),
        ("/api/chat", json!({ "model": "none", "messages": user(json!(PROMPT)), "think": PROMPT }).to_string()),
        ("/api/generate", json!({ "model": "none", "prompt": { "a": PROMPT } }).to_string()),
        ("/api/generate", json!({ "model": "none", "prompt": PROMPT, "images": PROMPT }).to_string()),
        ("/api/show", json!({ "model": { "a": PROMPT } }).to_string()),
        ("/api/pull", json!({ "model": PROMPT }).to_string()),
    ];
    // The same bytes, cut off.
    let cut: Vec<_> = wrong
        .iter()
        .map(|(path, body)| (*path, body[..body.len() - 1].to_owned()))
        .collect();
    wrong.extend(cut);
    wrong
}

/// Sends one request and lets `play` be its agent.
fn exchange(
    program: &Program,
    agent: &mut Agent,
    path: &str,
    body: &Value,
    play: impl FnOnce(&mut Agent, &str),
) -> Answer {
    let client = program.open("POST", path, Some(CLIENT), &body.to_string());
    let (id, _) = agent.invocation();
    play(agent, &id);
    read(client)
}

fn with_model(mut body: Value, stream: bool) -> Value {
    body["model"] = "m".into();
    body["stream"] = stream.into();
    body
}

/// Requests that are answered, fail in the agent, and are given up by their client.
fn ask(program: &Program, agent: &mut Agent, said: &mut Said) {
    for (path, body) in prompts() {
        for stream in [false, true] {
            let body = with_model(body.clone(), stream);
            let answer = exchange(program, agent, path, &body, |agent, id| {
                agent.chunk(id, 0, ANSWER);
                agent.finish(id, 1);
            });
            assert_eq!(answer.status, 200, "{path}: {}", answer.body);
            assert!(answer.body.contains(ANSWER), "{path}: {}", answer.body);
            // What an agent says of its failure is for the client that asked.
            exchange(program, agent, path, &body, |agent, id| {
                let message = format!("{ANSWER} cannot answer {PROMPT}");
                agent.send(&json!({ "type": "error", "id": id, "error": { "code": "model_error", "message": message } }));
            });
            let answer = exchange(program, agent, path, &body, |agent, id| {
                let chunk = json!({ "type": "model_stream_chunk", "id": id, "chunk_index": 0, "delta": { "content": { "wrong": PROMPT } }, "finish_reason": null });
                agent.send(&chunk);
                // It is told what is wrong, and to stop.
                agent.receive();
                agent.receive();
            });
            said.answer("the answer to a fault of the agent", &answer);
            let client = program.open("POST", path, Some(CLIENT), &body.to_string());
            let (id, _) = agent.invocation();
            agent.chunk(&id, 0, ANSWER);
            drop(client);
            assert_eq!(agent.receive()["type"], "model_cancel");
        }
    }
    let counted = json!({ "model": "m", "messages": [{ "role": "user", "content": PROMPT }] });
    let count = program.post("/v1/messages/count_tokens", &counted);
    said.answer("a count of tokens", &count);
}

/// Requests that are refused.
fn ask_wrongly(program: &Program, said: &mut Said) {
    for (path, body) in wrong() {
        let answer = program.request("POST", path, Some(CLIENT), &body);
        let status = said.answer(path, &answer);
        assert!(status >= 400, "{path}: {body}");
    }
    let chat =
        json!({ "model": "m", "messages": [{ "role": "user", "content": PROMPT }] }).to_string();
    for key in [REFUSED, BRIDGE] {
        for path in [
            "/v1/chat/completions",
            "/api/chat",
            "/v1/messages",
            "/control/approve",
            "/health/deep",
        ] {
            let refused = program.request("POST", path, Some(key), &chat);
            assert!((400..=405).contains(&said.answer(path, &refused)));
            let in_path = program.request("POST", &format!("/k/{key}{path}"), None, &chat);
            assert!((400..=405).contains(&said.answer(path, &in_path)));
        }
    }
    for request in [
        format!(
            "GET /none?prompt={PROMPT} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
        ),
        format!("GET /k/{CLIENT}/none HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"),
        format!(
            "GET /v1/models?q={PROMPT} HTTP/1.1\r\nHost: localhost\r\nX-Api-Key: {REFUSED}\r\nConnection: close\r\n\r\n"
        ),
        format!(
            "GET /v1/models HTTP/1.1\r\nHost: localhost\r\nAuthorization: {REFUSED}\r\nConnection: close\r\n\r\n"
        ),
        format!("GET /v1/models HTTP/1.1\r\nHost: {REFUSED}.example\r\nConnection: close\r\n\r\n"),
        format!(
            "GET /v1/models HTTP/1.1\r\nHost: localhost\r\nOrigin: https://{REFUSED}.example\r\nConnection: close\r\n\r\n"
        ),
        format!(
            "POST /api/chat HTTP/1.1\r\nHost: localhost\r\nX-Api-Key: {CLIENT}\r\nContent-Length: {PROMPT}\r\n\r\n{PROMPT}"
        ),
        format!(
            "{PROMPT} / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nAuthorization: Bearer {CLIENT}\r\n\r\n"
        ),
        format!("GET /{PROMPT} {PROMPT}\r\nAuthorization: Bearer {CLIENT}\r\n\r\n"),
        format!("GET / HTTP/1.1\r\nHost: localhost\r\nAuthorization Bearer {CLIENT}\r\n\r\n"),
        format!(
            "POST /api/chat HTTP/1.1\r\nHost: localhost\r\nX-Api-Key: {CLIENT}\r\nTransfer-Encoding: chunked\r\n\r\n{PROMPT}\r\n"
        ),
        format!(
            "GET /agent?token={REFUSED} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {BRIDGE}\r\nConnection: close\r\n\r\n"
        ),
    ] {
        let answer = read(program.raw(&request));
        assert!(said.answer("a refusal", &answer) >= 400, "{request}");
    }
    // A path is the caller's own word for where it goes, and told to nobody else.
    assert_eq!(program.get(&format!("/{PROMPT}?{PROMPT}")).status, 404);
    assert_eq!(program.get(&format!("/v1/models/{PROMPT}")).status, 404);
    // A client that leaves in the middle of its request.
    let mut half = program.raw(&format!("POST /api/chat HTTP/1.1\r\nHost: localhost\r\nX-Api-Key: {CLIENT}\r\nContent-Length: 999\r\n\r\n{PROMPT}"));
    half.flush().unwrap();
}

/// Sessions that come over HTTP, and their tokens.
fn control(program: &Program, said: &mut Said) {
    let register =
        |body: Value| program.request("POST", "/control/register", Some(BRIDGE), &body.to_string());
    let own = register(
        json!({ "session_id": "own", "agent_id": "a", "session_token": SESSION, "models": ["own"] }),
    );
    assert_eq!(said.answer("a registration", &own), 200, "{}", own.body);
    let second = register(json!({ "session_id": "two", "agent_id": "a", "session_token": SESSION }));
    assert_eq!(said.answer("a second session with the token", &second), 409);
    let wrong = register(
        json!({ "session_id": "other", "agent_id": { "a": SESSION }, "session_token": [SESSION] }),
    );
    assert_eq!(said.answer("a wrong registration", &wrong), 400);
    let mut agent = Agent {
        socket: dial(program, Some(SESSION)).unwrap(),
        session: "own".into(),
        token: SESSION.into(),
    };
    let body = json!({ "model": "own", "messages": [{ "role": "user", "content": PROMPT }] });
    exchange(
        program,
        &mut agent,
        "/v1/chat/completions",
        &body,
        |agent, id| agent.finish(id, 0),
    );
    for path in ["/control/sessions", "/control/sessions/own"] {
        said.answer(path, &program.request("GET", path, Some(OPERATOR), ""));
    }
    for action in ["approve", "suspend", "resume", "renew", "revoke"] {
        let path = format!("/control/{action}");
        said.answer(
            &path,
            &program.request("POST", &path, Some(OPERATOR), "{\"session_id\":\"own\"}"),
        );
    }
    let (status, refusal) = dial(program, Some(SESSION)).unwrap_err();
    said.add(
        "the refusal of a revoked session",
        format!("{status} {refusal}"),
    );
    let (status, refusal) = dial(program, Some(REFUSED)).unwrap_err();
    said.add("the refusal of an agent", format!("{status} {refusal}"));
}

/// Agents that send malformed frames until the provider closes their connection.
fn faults(program: &Program) {
    for frame in [
        format!("not JSON {PROMPT} {ANSWER}"),
        json!({ "type": PROMPT }).to_string(),
        json!({ "type": "model_stream_chunk", "id": PROMPT, "chunk_index": 0, "delta": { "content": ANSWER } }).to_string(),
        json!({ "type": "register", "agent_id": [PROMPT], "session_token": { "a": SESSION } }).to_string(),
        json!({ "type": "register", "agent_id": "x", "session_token": 7, "models": [ { "a": SESSION } ] }).to_string(),
    ] {
        let mut agent = Agent::connect_as(program, json!({ "agent_id": "bad", "models": ["bad"] }));
        for _ in 0..16 {
            if agent.socket.send(Message::text(frame.clone())).is_err() {
                break;
            }
        }
        // Faults cut it; some are only answered.
        let _ = agent.socket.close(None);
        while agent.socket.read().is_ok() {}
    }
}

/// Opens the WebSocket of a connection that was dialled.
fn accept(stream: TcpStream) -> WebSocket<TcpStream> {
    #[allow(clippy::result_large_err)] // the library's own type
    let agree = |request: &Request, mut response: Response| {
        let offered = request.headers()["sec-websocket-protocol"].clone();
        response
            .headers_mut()
            .insert("sec-websocket-protocol", offered);
        Ok(response)
    };
    tungstenite::accept_hdr(stream, agree).unwrap()
}

#[test]
fn prompts_keys_and_tokens_are_written_down_nowhere() {
    for format in ["json", "text"] {
        let bridge = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!(
            "ws://{}/?access_token={IN_URL}",
            bridge.local_addr().unwrap()
        );
        let mut program = Program::start(&format!(
            "log: {{ level: trace, format: {format} }}\n\
             bridges:\n  - {{ name: out, url: \"{url}\", token: \"{DIALLED}\" }}\n"
        ));
        // The first dial is broken off, the second one is answered with no WebSocket, the third is taken.
        drop(bridge.accept().unwrap());
        let (mut plain, _) = bridge.accept().unwrap();
        plain
            .write_all(format!("HTTP/1.1 403 {DIALLED}\r\nContent-Length: 0\r\n\r\n").as_bytes())
            .unwrap();
        drop(plain);
        let (stream, _) = bridge.accept().unwrap();
        let mut dialled = Agent {
            socket: accept(stream),
            session: String::new(),
            token: String::new(),
        };
        dialled.send(&json!({ "type": "register", "agent_id": "out", "models": ["out"] }));
        let dialled_token = dialled.receive()["session_token"]
            .as_str()
            .unwrap()
            .to_owned();

        let mut said = Said::default();
        let mut agent = Agent::connect(&program);
        let token = agent.token.clone();
        ask(&program, &mut agent, &mut said);
        ask_wrongly(&program, &mut said);
        control(&program, &mut said);
        faults(&program);
        drop(dialled);
        agent.socket.close(None).unwrap();
        while agent.socket.read().is_ok() {}
        let mut again = Agent {
            socket: dial(&program, Some(&token)).unwrap(),
            session: String::new(),
            token: token.clone(),
        };
        exchange(
            &program,
            &mut again,
            "/api/generate",
            &json!({ "model": "m", "prompt": PROMPT }),
            |agent, id| {
                agent.chunk(id, 0, ANSWER);
                // The connection is lost in the middle of the answer.
                agent
                    .socket
                    .get_mut()
                    .shutdown(std::net::Shutdown::Both)
                    .unwrap();
            },
        );
        for path in [
            "/metrics",
            "/metrics.json",
            "/stats",
            "/health",
            "/health/deep",
            "/v1/models",
            "/api/tags",
            "/api/ps",
        ] {
            said.answer(path, &program.request("GET", path, Some(OPERATOR), ""));
        }
        // A person mistypes while they change a key.
        let config = std::fs::read_to_string(&program.config).unwrap();
        for broken in [
            config.replace("role: client", CLIENT),
            config.replace("role: client", &format!("role: {CLIENT}")),
            config.replace("key: \"client", "key: [\"client"),
            config.replace(CLIENT, &format!("sha256:{CLIENT}")),
            config.replace("{ name: editor, key:", "{ name: editor,"),
            config.replace("ws://", "http://"),
        ] {
            assert_ne!(broken, config);
            std::fs::write(&program.config, &broken).unwrap();
            let before = program
                .log()
                .matches("the configuration stays as it was")
                .count();
            program.signal("HUP");
            let begun = Instant::now();
            while program
                .log()
                .matches("the configuration stays as it was")
                .count()
                == before
            {
                assert!(begun.elapsed() < PATIENCE, "{broken} is taken");
                std::thread::yield_now();
            }
            let checked = program.command(&["check-config"]);
            said.add("check-config", String::from_utf8_lossy(&checked.stdout));
            said.add("check-config", String::from_utf8_lossy(&checked.stderr));
        }
        std::fs::write(&program.config, &config).unwrap();
        program.signal("TERM");
        let (status, rest) = program.wait();
        assert!(status.success());
        said.add("standard output", format!("{}{rest}", program.banner));
        said.add("the log", program.log());
        let audit = crate::audit::audited(&program.folder.0.join("audit.jsonl"));
        said.add("the audit", audit.concat());
        let log = program.log();
        assert!(
            log.contains("begun") && log.contains("closing a link"),
            "the log is not talkative: {log}"
        );
        said.holds_none_of(&[
            PROMPT,
            ANSWER,
            REFUSED,
            SESSION,
            DIALLED,
            IN_URL,
            CLIENT,
            BRIDGE,
            OPERATOR,
            &token,
            &dialled_token,
        ]);
    }
}

#[test]
fn keys_that_were_made_are_in_the_file_for_their_owner_alone() {
    let folder = Folder::new();
    let config = folder.0.join("config.yaml");
    let text = "listen: { http: [\"127.0.0.1:0\"] }\naudit: { file: ../audit.jsonl }\ndata_dir: ./data\nlog: { level: trace }\n";
    std::fs::write(&config, text).unwrap();
    let mut command = Command::new(crate::program::program());
    command.arg("--config").arg(&config);
    let mut program = Program::spawn(command, folder, config);
    let keys = std::fs::read_to_string(program.folder.0.join("data/keys.json")).unwrap();
    let shown = std::fs::read_to_string(program.folder.0.join("data/first-keys.txt")).unwrap();
    let shown: Vec<String> = shown
        .split(|c: char| !c.is_ascii_alphanumeric() && c != '-' && c != '_')
        .filter(|word| word.starts_with("mlp-") && word.len() >= 32)
        .map(str::to_owned)
        .collect();
    assert_eq!(shown.len(), 3, "{shown:?}");
    let client = &shown[0];
    let answer = program.request("GET", "/v1/models", Some(client), "");
    assert_eq!(answer.status, 200, "{shown:?}");
    program.signal("TERM");
    let (_, rest) = program.wait();
    let audit = std::fs::read_to_string(program.folder.0.join("audit.jsonl")).unwrap();
    let all = format!("{}{}{rest}", program.banner, program.log());
    for key in &shown {
        assert!(!all.contains(key.as_str()), "{key} is in the log");
        assert!(!keys.contains(key.as_str()) && !audit.contains(key.as_str()));
    }
}
