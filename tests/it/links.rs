//! Sessions and links: registering, approving, resuming, dialling out.

use crate::agent::{Agent, dial};
use crate::program::{Answer, BRIDGE, CLIENT, OPERATOR, Program};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::Read;
use std::net::TcpListener;
use tungstenite::Message;

fn ask(program: &Program) -> std::net::TcpStream {
    let body = json!({ "model": "m", "messages": [{ "role": "user", "content": "x" }] });
    program.open(
        "POST",
        "/v1/chat/completions",
        Some(CLIENT),
        &body.to_string(),
    )
}

fn content(mut client: std::net::TcpStream) -> String {
    let mut bytes = Vec::new();
    client.read_to_end(&mut bytes).unwrap();
    let answer = Answer::parse(&bytes).json();
    answer["choices"][0]["message"]["content"]
        .as_str()
        .unwrap_or_else(|| panic!("{answer}"))
        .into()
}

#[test]
fn an_agent_comes_back_with_its_session_token() {
    let program = Program::start("");
    let mut first = Agent::connect(&program);
    let (session, token) = (first.session.clone(), first.token.clone());
    first.socket.close(None).unwrap();
    while first.socket.read().is_ok() {}
    let mut second = Agent {
        socket: dial(&program, Some(&token)).unwrap(),
        session: session.clone(),
        token: token.clone(),
    };
    let client = ask(&program);
    let (id, invocation) = second.invocation();
    assert_eq!(invocation["session_id"], session.as_str());
    second.chunk(&id, 0, "again");
    second.finish(&id, 1);
    assert_eq!(content(client), "again");
    // A newer link of the same session replaces this one.
    let mut third = Agent {
        socket: dial(&program, Some(&token)).unwrap(),
        session,
        token,
    };
    assert_eq!(second.closed(), 4001);
    let client = ask(&program);
    let (id, _) = third.invocation();
    third.finish(&id, 0);
    assert_eq!(content(client), "");
}

#[test]
fn a_person_approves_on_the_command_line() {
    let program = Program::start("sessions: { approval: manual }\n");
    let mut agent = Agent::connect(&program);
    let refused = program.post(
        "/v1/chat/completions",
        &json!({ "model": "m", "messages": [{ "role": "user", "content": "x" }] }),
    );
    assert_eq!(refused.status, 503);
    let environment = |arguments: &[&str]| {
        let output = std::process::Command::new(crate::program::program())
            .args(arguments)
            .arg("--config")
            .arg(&program.config)
            .arg("--listen")
            .arg(program.address.to_string())
            .env("LOCAL_PROVIDER_KEY", OPERATOR)
            .current_dir(&program.folder.0)
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned()
            + &String::from_utf8_lossy(&output.stderr);
        (output.status.success(), text)
    };
    let (ok, listed) = environment(&["sessions"]);
    assert!(
        ok && listed.contains("pending") && listed.contains(&agent.session),
        "{listed}"
    );
    let (ok, text) = environment(&["approve", &agent.session.clone()]);
    assert!(ok, "{text}");
    let status = agent.receive();
    assert_eq!(
        (status["type"].as_str(), status["status"].as_str()),
        (Some("session_status"), Some("active"))
    );
    let client = ask(&program);
    let (id, _) = agent.invocation();
    agent.chunk(&id, 0, "approved");
    agent.finish(&id, 1);
    assert_eq!(content(client), "approved");
    let (ok, text) = environment(&["revoke", &agent.session.clone()]);
    assert!(ok, "{text}");
    assert_eq!(agent.receive()["status"], "revoked");
    let (ok, text) = environment(&["revoke", "nobody"]);
    assert!(!ok && text.contains("nobody"), "{text}");
}

#[test]
fn a_bridge_registers_over_http_and_its_agent_dials_with_the_session_token() {
    let program = Program::start("");
    let body = json!({ "session_id": "s-1", "agent_id": "a", "label": "An agent", "models": ["m"], "ttl_seconds": 60 });
    let registered = program.request("POST", "/control/register", Some(BRIDGE), &body.to_string());
    assert_eq!(registered.status, 200, "{}", registered.body);
    let registered = registered.json();
    assert_eq!(
        (
            registered["session_id"].as_str(),
            registered["status"].as_str()
        ),
        (Some("s-1"), Some("active"))
    );
    // A bridge that was started again goes on with its session, under another token.
    let again = program.request("POST", "/control/register", Some(BRIDGE), &body.to_string());
    assert_eq!(again.status, 200, "{}", again.body);
    let again = again.json();
    assert_eq!(again["session_id"], "s-1");
    let token = again["session_token"].as_str().unwrap();
    assert_ne!(registered["session_token"], token);
    for (wrong, field) in [
        (json!({}), "agent_id"),
        (json!({ "agent_id": 7 }), "agent_id"),
        (json!({ "agent_id": "a", "ttl_seconds": 0 }), "ttl_seconds"),
        (
            json!({ "agent_id": "a", "session_id": "a b" }),
            "session_id",
        ),
    ] {
        let refused = program.request(
            "POST",
            "/control/register",
            Some(BRIDGE),
            &wrong.to_string(),
        );
        assert_eq!(refused.status, 400);
        assert!(
            refused.json()["error"]["message"]
                .as_str()
                .unwrap()
                .contains(field),
            "{}",
            refused.body
        );
    }
    let mut agent = Agent {
        socket: dial(&program, Some(token)).unwrap(),
        session: "s-1".into(),
        token: token.into(),
    };
    let client = ask(&program);
    let (id, invocation) = agent.invocation();
    assert_eq!(invocation["model_meta"]["label"], "An agent");
    agent.chunk(&id, 0, "hi");
    agent.finish(&id, 1);
    assert_eq!(content(client), "hi");
    let listed = program.request("GET", "/control/sessions", Some(BRIDGE), "");
    assert!(!listed.body.contains(token));
    let listed = listed.json();
    assert_eq!(
        (
            &listed["total_count"],
            &listed["sessions"][0]["request_count"]
        ),
        (&json!(1), &json!(1))
    );
    let revoked = program.request(
        "POST",
        "/control/revoke",
        Some(BRIDGE),
        "{\"session_id\":\"s-1\"}",
    );
    assert_eq!(
        (revoked.status, revoked.json()["status"].as_str()),
        (200, Some("revoked"))
    );
    assert_eq!(agent.closed(), 1008);
    assert_eq!(dial(&program, Some(token)).unwrap_err().0, 403);
    let again = program.request(
        "POST",
        "/control/resume",
        Some(OPERATOR),
        "{\"session_id\":\"s-1\"}",
    );
    assert_eq!(again.status, 409);
    assert_eq!(
        program
            .request(
                "POST",
                "/control/revoke",
                Some(OPERATOR),
                "{\"session_id\":\"none\"}"
            )
            .status,
        404
    );
}

#[test]
fn the_provider_dials_a_bridge_and_dials_again_when_it_drops() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("ws://{}", listener.local_addr().unwrap());
    let program = Program::start(&format!(
        "bridges:\n  - {{ name: out, url: \"{url}\", token: \"out-token-for-tests\" }}\n"
    ));
    for round in ["first", "second"] {
        let (stream, _) = listener.accept().unwrap();
        let mut authorization = None;
        #[allow(clippy::result_large_err)] // the library's own type
        let socket = tungstenite::accept_hdr(
            stream,
            |request: &tungstenite::handshake::server::Request,
             mut response: tungstenite::handshake::server::Response| {
                authorization = request
                    .headers()
                    .get("authorization")
                    .map(|value| value.to_str().unwrap().to_string());
                let offered = request.headers()["sec-websocket-protocol"].clone();
                assert_eq!(offered, "mcp-local-provider.v1");
                response
                    .headers_mut()
                    .insert("sec-websocket-protocol", offered);
                Ok(response)
            },
        )
        .unwrap();
        assert_eq!(authorization.as_deref(), Some("Bearer out-token-for-tests"));
        let mut agent = Agent {
            socket,
            session: String::new(),
            token: String::new(),
        };
        agent.send(&json!({ "type": "register", "agent_id": "out", "models": ["m"] }));
        assert_eq!(agent.receive()["type"], "registered");
        let client = ask(&program);
        let (id, _) = agent.invocation();
        agent.chunk(&id, 0, round);
        agent.finish(&id, 1);
        assert_eq!(content(client), round);
    }
}

#[test]
fn what_a_bridge_that_is_dialled_registers_over_http_is_answered_by_it_and_no_other_agent() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("ws://{}", listener.local_addr().unwrap());
    let token = "out-token-for-tests";
    let program = Program::start(&format!(
        "bridges:\n  - {{ name: out, url: \"{url}\", token: \"{token}\" }}\n"
    ));
    let register = |key, body: Value| {
        let registered = program.request("POST", "/control/register", Some(key), &body.to_string());
        (registered.status, registered.json())
    };
    let (stream, _) = listener.accept().unwrap();
    #[allow(clippy::result_large_err)] // the library's own type
    let socket = tungstenite::accept_hdr(
        stream,
        |request: &tungstenite::handshake::server::Request,
         mut response: tungstenite::handshake::server::Response| {
            let offered = request.headers()["sec-websocket-protocol"].clone();
            let headers = response.headers_mut();
            headers.insert("sec-websocket-protocol", offered);
            Ok(response)
        },
    )
    .unwrap();
    let mut bridge = Agent {
        socket,
        session: String::new(),
        token: String::new(),
    };
    // It is connected once it has an answer.
    bridge.send(&json!({ "type": "ping", "timestamp": "now" }));
    assert_eq!(bridge.receive()["type"], "pong");
    let own = json!({ "agent_id": "a", "models": ["m"], "session_token": "a-token-of-our-own" });
    let (status, first) = register(token, own.clone());
    assert_eq!(status, 200, "{first}");
    let (status, same_token) = register(token, own);
    assert_eq!(status, 409, "{same_token}");
    let (status, second) = register(token, json!({ "agent_id": "a", "models": ["n"] }));
    assert_eq!(status, 200, "{second}");
    assert_ne!(first["session_id"], second["session_id"]);
    let client = ask(&program);
    let (id, invocation) = bridge.invocation();
    assert_eq!(invocation["session_id"], first["session_id"]);
    bridge.finish(&id, 0);
    content(client);

    // Another key's session, and an agent of that key which has one of its own.
    let (status, foreign) = register(BRIDGE, json!({ "agent_id": "b", "models": ["o"] }));
    assert_eq!(status, 200, "{foreign}");
    let _agent = Agent::connect(&program);
    let body = json!({ "model": "o", "messages": [{ "role": "user", "content": "x" }] });
    let asked = program.request("POST", "/v1/chat/completions", Some(CLIENT), &body.to_string());
    assert_eq!(asked.status, 503, "{}", asked.body);
}

#[test]
fn what_an_agent_is_told_follows_the_published_schema_of_an_invocation() {
    let program = Program::start("");
    let mut agent = Agent::connect(&program);
    let tools = json!([{ "type": "function", "function": { "name": "weather", "parameters": { "type": "object" } } }]);
    let body = json!({ "model": "m", "messages": [
        { "role": "developer", "content": "be brief" },
        { "role": "user", "content": [{ "type": "text", "text": "a" }, { "type": "image_url", "image_url": { "url": "data:image/png;base64,AA==" } }] },
        { "role": "assistant", "content": null, "tool_calls": [{ "id": "c1", "type": "function", "function": { "name": "weather", "arguments": "{\"city\":\"Bern\"}" } }] },
        { "role": "tool", "tool_call_id": "c1", "content": "rain" }
    ], "max_completion_tokens": 7, "temperature": 0.5, "stop": "END", "tools": tools, "tool_choice": "auto" });
    let client = program.open(
        "POST",
        "/v1/chat/completions",
        Some(CLIENT),
        &body.to_string(),
    );
    let (id, invocation) = agent.invocation();
    let payload = &invocation["payload"];
    assert_eq!(payload["kind"], "chat");
    assert_eq!(payload["messages"], body["messages"]);
    let parameters = &payload["parameters"];
    assert_eq!(
        (
            &parameters["max_tokens"],
            &parameters["temperature"],
            &parameters["stop"]
        ),
        (&json!(7), &json!(0.5), &json!(["END"]))
    );
    assert_eq!(parameters["tools"], tools);
    assert_eq!(
        parameters.get("top_p"),
        None,
        "what the caller did not give is not invented"
    );
    agent.send(&json!({ "type": "model_stream_chunk", "id": id, "chunk_index": 0, "delta": { "tool_calls": [{ "index": 0, "id": "c2", "type": "function", "function": { "name": "weather", "arguments": "{\"ci" } }] }, "finish_reason": null }));
    agent.send(&json!({ "type": "model_stream_chunk", "id": id, "chunk_index": 1, "delta": { "tool_calls": [{ "index": 0, "function": { "arguments": "ty\":1}" } }] }, "finish_reason": null }));
    agent.finish(&id, 2);
    let mut bytes = Vec::new();
    { client }.read_to_end(&mut bytes).unwrap();
    let answer: Value = Answer::parse(&bytes).json();
    assert_eq!(answer["choices"][0]["finish_reason"], "tool_calls");
    let call = &answer["choices"][0]["message"]["tool_calls"][0];
    assert_eq!(
        (call["id"].as_str(), call["function"]["arguments"].as_str()),
        (Some("c2"), Some("{\"city\":1}"))
    );
}

#[test]
fn of_pings_that_an_agent_does_not_wait_for_only_the_latest_is_answered() {
    const PINGS: u32 = 40_000;
    let program = Program::start("");
    let mut agent = Agent::connect(&program);
    for number in 0..PINGS {
        let mut payload = vec![0; 125];
        payload[..4].copy_from_slice(&number.to_be_bytes());
        agent.socket.write(Message::Ping(payload.into())).unwrap();
    }
    agent.socket.flush().unwrap();
    let mut answers = 0;
    loop {
        if let Message::Pong(payload) = agent.socket.read().unwrap() {
            answers += 1;
            if payload[..4] == (PINGS - 1).to_be_bytes() {
                break;
            }
        }
    }
    // The sockets between us hold some; the program held all.
    assert!(answers < PINGS / 2, "{answers} of {PINGS} were kept");
}

#[test]
fn what_an_agent_has_read_takes_no_memory_though_there_is_always_more_for_it() {
    const PROMPT: usize = 6 << 20;
    // Enough for three prompts and what is made of them, and not for all.
    let program = Program::start("limits: { memory: 64MiB, tokens_per_minute: 4000000000 }\n");
    let mut agent = Agent::connect(&program);
    let prompt = "x".repeat(PROMPT);
    let ask = |number: usize| {
        let messages = json!([{ "role": "user", "content": format!("{number}, {prompt}") }]);
        let body = json!({ "model": "m", "messages": messages }).to_string();
        program.open("POST", "/v1/chat/completions", Some(CLIENT), &body)
    };
    let mut clients = BTreeMap::from([0, 1].map(|number| (number, ask(number))));
    for number in 2..12 {
        // While the agent reads one prompt, the next one waits, and fills the sockets between us once that is read.
        let (id, invocation) = agent.invocation();
        clients.insert(number, ask(number));
        let prompt = invocation["payload"]["messages"][0]["content"].as_str().unwrap();
        let asked = prompt.split_once(',').unwrap().0;
        agent.chunk(&id, 0, asked);
        agent.finish(&id, 1);
        let client = clients.remove(&asked.parse().unwrap()).unwrap();
        assert_eq!(content(client), asked);
    }
}
