//! Tokens that an Anthropic server counts, and the estimate in its place.

use super::ask::{Fails, ask_whole};
use super::server::{Api, Reply, Server, Then};
use super::{QUICK, start};
use crate::program::{Answer, CLIENT, Program};
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};

const PATH: &str = "/v1/messages/count_tokens";

fn body(model: &str) -> Value {
    json!({ "model": model, "made_up": [1], "messages": [{ "role": "user", "content": "one two three four" }] })
}

fn count(program: &Program, model: &str) -> Answer {
    program.post(PATH, &body(model))
}

/// The estimate of the same prompt, by a program whose upstream does not count.
fn estimate() -> Value {
    let server = Server::start(Api::OpenAi, [Reply::Text("fine")]);
    let program = start(&server.entry("up", ", models: [m]"), "");
    let answer = count(&program, "up/m");
    assert_eq!((answer.status, server.asked().len()), (200, 0), "{answer:?}");
    answer.json()
}

#[test]
fn an_anthropic_server_counts_and_gets_the_body_as_it_came() {
    let counted = Reply::status(200, "", &json!({ "input_tokens": 1414, "later": true }));
    let server = Server::start(Api::Anthropic, [counted]);
    let program = start(&server.entry("up", ", models: [m]"), "");
    let sent = body("m").to_string();
    let mut client = TcpStream::connect(program.address).unwrap();
    let head = format!(
        "POST {PATH}?beta=true HTTP/1.1\r\nHost: localhost\r\nX-Api-Key: {CLIENT}\r\nConnection: close\r\nanthropic-beta: token-counting-2024-11-01\r\nContent-Length: {}\r\n\r\n{sent}",
        sent.len()
    );
    client.write_all(head.as_bytes()).unwrap();
    let mut bytes = Vec::new();
    client.read_to_end(&mut bytes).unwrap();
    let answer = Answer::parse(&bytes);
    assert_eq!((answer.status, answer.json()), (200, json!({ "input_tokens": 1414 })), "{answer:?}");
    let asked = &server.asked()[0];
    assert!(asked.head.starts_with("POST /v1/messages/count_tokens HTTP/1.1\r\n"), "{}", asked.head);
    let head = asked.head.to_ascii_lowercase();
    assert!(head.contains("anthropic-beta: token-counting-2024-11-01\r\n"), "{head}");
    assert!(!head.contains(CLIENT), "{head}");
    assert_eq!(asked.body, body("m"));
}

#[test]
fn the_estimate_takes_the_place_of_a_count_that_fails_and_a_wrong_request_is_told() {
    let estimate = estimate();
    let error = |message: &str| json!({ "type": "error", "error": { "type": "it", "message": message } });
    for reply in [
        Reply::status(404, "", &error("no such route")),
        Reply::status(401, "", &error("who are you")),
        Reply::status(429, "Retry-After: 86400\r\n", &error("slow down")),
        Reply::status(500, "", &error("it broke")),
        Reply::status(200, "", &json!({ "tokens": 3 })),
        Reply::typed(200, "Content-Type: text/html\r\n", "<html>"),
        Reply::Raw(String::new(), Then::Reset),
        Reply::Raw("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n".into(), Then::Endless),
        Reply::Raw(String::new(), Then::Silence),
    ] {
        let server = Server::start(Api::Anthropic, [reply.clone()]);
        let program = start(&server.entry("up", ", models: [m]"), QUICK);
        let answer = count(&program, "up/m");
        assert_eq!((answer.status, &answer.json()), (200, &estimate), "{reply:?} {answer:?}");
        assert_eq!(server.asked().len(), 1, "{reply:?}");
    }
    let server = Server::start(Api::Anthropic, [Reply::status(400, "", &error("tools.0: no name"))]);
    let program = start(&server.entry("up", ", models: [m]"), "");
    let answer = count(&program, "up/m");
    let told = answer.json();
    assert_eq!((answer.status, &told["error"]["type"]), (400, &json!("invalid_request_error")), "{told}");
    assert!(told["error"]["message"].as_str().unwrap().contains("tools.0: no name"), "{told}");
}

#[test]
fn a_server_whose_circuit_is_open_is_not_asked_to_count() {
    let broken = Reply::status(500, "", &json!({ "error": { "message": "it broke" } }));
    let server = Server::start(Api::Anthropic, [broken]);
    let program = start(&server.entry("up", ", models: [m], retries: 0, circuit: { failures: 1, pause: 60s }"), "");
    ask_whole(&program, "up/m").fails(Fails::ERROR, &["it broke"]);
    assert_eq!(count(&program, "up/m").status, 503);
    assert_eq!(server.asked().len(), 1);
}

#[test]
fn a_client_that_leaves_closes_the_connection_to_the_server_that_counts() {
    let server = Server::start(Api::Anthropic, [Reply::Raw(String::new(), Then::Silence)]);
    let program = start(&server.entry("up", ", models: [m]"), "");
    let client = program.open("POST", PATH, Some(CLIENT), &body("up/m").to_string());
    server.wait_asked(1);
    client.shutdown(Shutdown::Both).unwrap();
    server.wait_closed();
}
