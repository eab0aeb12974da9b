//! Connections of clients: how many there may be, which of them makes room, and how one ends.

use crate::agent::Agent;
use crate::program::{Answer, CLIENT, Program};
use serde_json::json;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};

const MODELS: &str = "GET /v1/models HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer client-key-for-tests\r\n\r\n";

/// Reads one answer with a `Content-Length`, and leaves the connection open.
fn answer(stream: &mut TcpStream) -> Answer {
    let mut bytes = Vec::new();
    let mut byte = [0];
    while !bytes.ends_with(b"\r\n\r\n") {
        assert_eq!(
            stream.read(&mut byte).unwrap(),
            1,
            "the connection was closed"
        );
        bytes.push(byte[0]);
    }
    let head = Answer::parse(&bytes);
    let length: usize = head.header("content-length").unwrap().parse().unwrap();
    let mut body = vec![0; length];
    stream.read_exact(&mut body).unwrap();
    bytes.extend_from_slice(&body);
    Answer::parse(&bytes)
}

/// True when the provider has closed the connection, which this waits for.
fn is_closed(mut stream: TcpStream) -> bool {
    match stream.read(&mut [0; 64]) {
        Ok(count) => count == 0,
        Err(error) => error.kind() == ErrorKind::ConnectionReset,
    }
}

/// The connection where the provider has not closed it: there it answers, be it to what is no request.
fn still_open(mut stream: TcpStream) -> Option<TcpStream> {
    let asked = stream.write_all(MODELS.as_bytes());
    let told = asked.and_then(|()| stream.read(&mut [0; 64]));
    match told {
        Ok(0) => None,
        Ok(_) => Some(stream),
        Err(error) => {
            let closed = [ErrorKind::ConnectionReset, ErrorKind::BrokenPipe];
            assert!(closed.contains(&error.kind()), "{error}");
            None
        }
    }
}

#[test]
fn a_connection_that_waits_for_a_request_makes_room_for_a_new_one() {
    let program = Program::start("limits: { connections: 4 }\n");
    let mut agent = Agent::connect(&program);
    let body =
        json!({ "model": "m", "stream": true, "messages": [{ "role": "user", "content": "x" }] });
    let mut busy = program.open(
        "POST",
        "/v1/chat/completions",
        Some(CLIENT),
        &body.to_string(),
    );
    let (id, _) = agent.invocation();
    // One stranger says nothing, one begins a head, one was answered and keeps its connection.
    let silent = program.connect();
    let slow = program.raw("GET /v1/models HTTP/1.1\r\nHost:");
    let mut kept = program.raw(MODELS);
    assert_eq!(answer(&mut kept).status, 200);
    let mut all = vec![silent, slow, kept];
    while all.len() < 6 {
        let mut stream = program.raw(MODELS);
        let answer = answer(&mut stream);
        match answer.status {
            200 => all.push(stream),
            // For a moment none of them waits: the last has been answered, and does not wait again yet.
            503 => assert!(answer.body.contains("limits.connections"), "{}", answer.body),
            other => panic!("{other}: {}", answer.body),
        }
    }
    // Each new one has the place of one that was there, whichever waited first.
    assert_eq!(all.into_iter().filter_map(still_open).count(), 3);
    agent.chunk(&id, 0, "still here");
    agent.finish(&id, 1);
    let mut bytes = Vec::new();
    busy.read_to_end(&mut bytes).unwrap();
    assert_eq!(Answer::parse(&bytes).text(), "still here");
}

#[test]
fn a_connection_that_is_answered_makes_room_for_nobody() {
    let program = Program::start("limits: { connections: 2 }\n");
    let mut agent = Agent::connect(&program);
    let body = json!({ "model": "m", "messages": [{ "role": "user", "content": "x" }] });
    let ask = || {
        let body = body.to_string();
        program.open("POST", "/v1/chat/completions", Some(CLIENT), &body)
    };
    let clients = [ask(), ask()];
    let ids = [agent.invocation().0, agent.invocation().0];
    let refused = program.get("/v1/models");
    assert_eq!(refused.status, 503);
    assert!(
        refused.body.contains("limits.connections"),
        "{}",
        refused.body
    );
    for id in ids {
        agent.chunk(&id, 0, "fine");
        agent.finish(&id, 1);
    }
    for mut client in clients {
        let mut bytes = Vec::new();
        client.read_to_end(&mut bytes).unwrap();
        assert_eq!(Answer::parse(&bytes).status, 200);
    }
}

#[test]
fn a_client_that_does_not_read_is_reset() {
    let program = Program::start("timeouts: { write: 300ms }\n");
    let mut agent = Agent::connect(&program);
    let body =
        json!({ "model": "m", "stream": true, "messages": [{ "role": "user", "content": "x" }] });
    let body = body.to_string();
    let mut client = program.open("POST", "/v1/chat/completions", Some(CLIENT), &body);
    let (id, _) = agent.invocation();
    // More than the sockets between us hold, and less than the program keeps for a client.
    agent.chunk(&id, 0, &"x".repeat(700 << 10));
    let cancelled = agent.receive();
    assert_eq!(cancelled["type"], "model_cancel", "{cancelled}");
    let mut bytes = Vec::new();
    let end = client.read_to_end(&mut bytes);
    // A close would have the kernel hold for minutes what nobody reads.
    assert_eq!(
        end.map_err(|error| error.kind()),
        Err(ErrorKind::ConnectionReset)
    );
}

#[test]
fn a_draining_program_serves_open_work_and_its_health_alone() {
    let mut program = Program::start("");
    let mut agent = Agent::connect(&program);
    let body =
        json!({ "model": "m", "stream": true, "messages": [{ "role": "user", "content": "x" }] });
    let body = body.to_string();
    let mut open = program.open("POST", "/v1/chat/completions", Some(CLIENT), &body);
    let (id, _) = agent.invocation();
    let idle = program.connect();
    program.signal("TERM");
    // That tells us that the drain has begun.
    assert!(is_closed(idle));
    for (method, path) in [
        ("GET", "/v1/models"),
        ("GET", "/metrics"),
        ("GET", "/health/deep"),
        ("GET", "/control/sessions"),
        ("POST", "/control/revoke"),
        ("POST", "/v1/chat/completions"),
    ] {
        let key = if path.starts_with("/v1") {
            CLIENT
        } else {
            crate::program::OPERATOR
        };
        let refused = program.request(method, path, Some(key), &body);
        assert_eq!(refused.status, 503, "{path}: {}", refused.body);
        assert_eq!(refused.json()["error"]["code"], "draining", "{path}");
        assert!(refused.header("retry-after").is_some(), "{path}");
    }
    let health = program.get("/health");
    assert_eq!(
        (health.status, health.json()["status"].as_str()),
        (503, Some("draining"))
    );
    agent.chunk(&id, 0, "to its end");
    agent.finish(&id, 1);
    let mut bytes = Vec::new();
    open.read_to_end(&mut bytes).unwrap();
    assert_eq!(Answer::parse(&bytes).text(), "to its end");
    assert!(program.wait().0.success());
}

#[test]
fn a_client_that_reads_slowly_gets_all_of_its_answer() {
    let program = Program::start("timeouts: { write: 500ms }\n");
    let mut agent = Agent::connect(&program);
    let body = json!({ "model": "m", "messages": [{ "role": "user", "content": "x" }] });
    let body = body.to_string();
    let mut client = program.open("POST", "/v1/chat/completions", Some(CLIENT), &body);
    let (id, _) = agent.invocation();
    let text = "x".repeat(1 << 20);
    agent.chunk(&id, 0, &text);
    agent.finish(&id, 1);
    let mut bytes = Vec::new();
    loop {
        // The pace of the client: all of it takes several times as long as nothing of it may take.
        std::thread::park_timeout(std::time::Duration::from_millis(60));
        let before = bytes.len();
        let read = { &mut client }.take(32 << 10).read_to_end(&mut bytes);
        read.unwrap();
        if bytes.len() == before {
            break;
        }
    }
    let answer = Answer::parse(&bytes).json();
    assert_eq!(answer["choices"][0]["message"]["content"], text);
}

#[test]
fn what_a_client_asked_before_it_closed_its_sending_side_is_answered() {
    let program = Program::start("");
    let health = "GET /health HTTP/1.1\r\nhost: localhost\r\n\r\n";
    let refused = "PUT /api/chat HTTP/1.1\r\nhost: localhost\r\ncontent-length: 2\r\n\r\n{}";
    let broken = "POST /api/chat HTTP/1.1\r\nhost: localhost\r\nx-api-key: client-key-for-tests\r\n\
                  content-length: 9\r\n\r\n{}";
    for (requests, statuses) in [
        (health.repeat(2), &[200, 200][..]),
        (format!("{refused}{health}"), &[405, 200]),
        (format!("{health}{broken}"), &[200, 400]),
    ] {
        let mut client = program.raw(&requests);
        client.shutdown(Shutdown::Write).unwrap();
        for status in statuses {
            assert_eq!(answer(&mut client).status, *status, "{requests}");
        }
        assert!(is_closed(client), "{requests}");
    }
}

#[test]
fn a_client_that_closes_its_sending_side_while_it_waits_for_an_agent_has_left() {
    let program = Program::start("");
    let mut agent = Agent::connect(&program);
    let body = json!({ "model": "m", "messages": [{ "role": "user", "content": "x" }] });
    let body = body.to_string();
    let client = program.open("POST", "/v1/chat/completions", Some(CLIENT), &body);
    let (id, _) = agent.invocation();
    client.shutdown(Shutdown::Write).unwrap();
    let cancelled = agent.receive();
    assert_eq!(
        (&cancelled["type"], &cancelled["id"]),
        (&json!("model_cancel"), &json!(id))
    );
    assert!(is_closed(client));
}

/// A request to the agent whose connection is kept.
fn kept(prompt: &str) -> String {
    let body = json!({ "model": "m", "messages": [{ "role": "user", "content": prompt }] });
    let body = body.to_string();
    format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {CLIENT}\r\n\
         content-length: {}\r\n\r\n{body}",
        body.len()
    )
}

#[test]
fn requests_that_come_before_their_time_are_answered_in_their_order() {
    let program = Program::start("");
    let mut agent = Agent::connect(&program);
    let mut client = program.raw(&kept("first"));
    for (prompt, early) in [
        // Some come while the one before them is answered, some with the one before them.
        ("first", kept("second") + &kept("third")),
        ("second", String::new()),
        ("third", kept("fourth")),
        ("fourth", MODELS.to_owned() + &kept("fifth")),
        ("fifth", String::new()),
    ] {
        let (id, invocation) = agent.invocation();
        assert!(invocation.to_string().contains(prompt), "{invocation}");
        client.write_all(early.as_bytes()).unwrap();
        agent.chunk(&id, 0, &format!("{prompt} answer"));
        agent.finish(&id, 1);
        let answer = &answer(&mut client).json()["choices"][0]["message"]["content"];
        assert_eq!(answer, &format!("{prompt} answer"));
        if prompt == "fourth" {
            assert!(self::answer(&mut client).body.contains("\"list\""));
        }
    }
}

#[test]
fn a_connection_that_an_agent_has_answered_waits_for_its_next_request_as_any_other() {
    let mut program = Program::start("limits: { connections: 3 }\n");
    let mut agent = Agent::connect(&program);
    let mut clients = ["first", "second"].map(|prompt| {
        let mut client = program.raw(&kept(prompt));
        let (id, _) = agent.invocation();
        agent.chunk(&id, 0, prompt);
        agent.finish(&id, 1);
        assert_eq!(answer(&mut client).status, 200);
        client
    });
    // It makes room for others.
    let [_third, _fourth] = [(); 2].map(|()| {
        let mut client = program.raw(MODELS);
        assert_eq!(answer(&mut client).status, 200);
        client
    });
    assert!(is_closed(clients[0].try_clone().unwrap()));
    // It is served again.
    clients[1].write_all(kept("third").as_bytes()).unwrap();
    let (id, _) = agent.invocation();
    agent.chunk(&id, 0, "again");
    agent.finish(&id, 1);
    assert_eq!(answer(&mut clients[1]).status, 200);
    // A stop ends it at once, whatever is still to be answered on others.
    let mut open = program.raw(&kept("fourth"));
    let (id, _) = agent.invocation();
    program.signal("TERM");
    assert!(is_closed(clients[1].try_clone().unwrap()));
    agent.chunk(&id, 0, "the last one");
    agent.finish(&id, 1);
    assert_eq!(answer(&mut open).status, 200);
    assert!(program.wait().0.success());
}
