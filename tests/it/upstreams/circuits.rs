//! Circuits: a server that fails again and again is left alone, shows in the health, and is asked once as a probe.

use super::ask::{Dialect, EVERY, ask, ask_whole, open, told};
use super::server::{Api, Reply, Server, Then};
use super::start;
use crate::program::{OPERATOR, PATIENCE, Program};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

fn broken() -> Reply {
    Reply::status(500, "", &json!({ "error": { "message": "it broke" } }))
}

#[test]
fn an_open_circuit_shows_in_the_health() {
    let server = Server::start(Api::OpenAi, [broken(), broken(), broken(), Reply::Text("fine")]);
    let more = ", models: [m], retries: 0, circuit: { failures: 3, pause: 300ms }";
    let program = start(&server.entry("up", more), "");
    assert_eq!(component(&program, "upstream/up")["status"], "healthy");
    for _ in 0..3 {
        assert_eq!(ask_whole(&program, "up/m").answer.status, 502);
    }
    let sick = component(&program, "upstream/up");
    assert_ne!(sick["status"], "healthy", "{sick}");
    assert!(sick["error_count"].as_u64() >= Some(3), "{sick}");
    assert!(sick["message"].is_string(), "{sick}");
    let until = Instant::now() + PATIENCE;
    while ask_whole(&program, "up/m").answer.status != 200 {
        assert!(Instant::now() < until, "no probe came");
    }
    assert_eq!(component(&program, "upstream/up")["status"], "healthy");
}

fn component(program: &Program, name: &str) -> Value {
    let health = program.request("GET", "/health/deep", Some(OPERATOR), "");
    let component = health.json()["components"][name].clone();
    assert!(component.is_object(), "no {name} in {}", health.body);
    component
}

#[test]
fn an_open_circuit_lets_nothing_through_until_its_pause_is_over() {
    let server = Server::start(Api::OpenAi, [broken()]);
    let pause = Duration::from_millis(1500);
    let program = start(
        &server.entry("up", ", models: [m], retries: 0, circuit: { failures: 3, pause: 1500ms }"),
        "",
    );
    for round in 1..=3 {
        assert_eq!(ask_whole(&program, "up/m").answer.status, 502);
        assert_eq!(server.asked().len(), round);
    }
    // Each API is told at once, with the name, and when to come back.
    let opened = server.asked()[2].at;
    for as_client in EVERY {
        let told = ask(&program, as_client, "up/m");
        if opened.elapsed() < pause {
            assert!(matches!(told.answer.status, 503 | 529), "{told:?}");
            assert!(told.message().contains("up"), "{told:?}");
            assert!(told.answer.header("retry-after").is_some(), "{told:?}");
            assert_eq!(server.asked().len(), 3, "a request arrived within the pause");
        }
    }

    // One probe after the pause. While it is open, nobody else is let through.
    server.rewrite([Reply::Held("fine")]);
    let until = Instant::now() + PATIENCE;
    let mut probe = open(&program, (Dialect::OpenAi, false), "up/m");
    while server.asked().len() == 3 {
        assert!(Instant::now() < until, "no probe came");
        let mut peeked = [0; 1];
        probe.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
        if matches!(probe.peek(&mut peeked), Ok(1..)) {
            probe = open(&program, (Dialect::OpenAi, false), "up/m");
        }
    }
    let waited = server.asked()[3].at.duration_since(opened);
    assert!(waited >= pause, "the probe came after {waited:?}");
    let others = EVERY.map(|as_client| (as_client, open(&program, as_client, "up/m")));
    assert_eq!(program.get("/v1/models").status, 200);
    assert_eq!(server.asked().len(), 4, "more than one probe");
    server.release();
    probe.set_read_timeout(Some(PATIENCE)).unwrap();
    told((Dialect::OpenAi, false), probe).is("fine");
    for (as_client, client) in others {
        told(as_client, client).is("fine");
    }
}

#[test]
fn each_attempt_counts_and_a_probe_that_fails_opens_it_again() {
    let server = Server::start(Api::Anthropic, [broken()]);
    let program = start(
        &server.entry("up", ", models: [m], retries: 2, circuit: { failures: 3, pause: 300ms }"),
        "",
    );
    assert_eq!(ask_whole(&program, "up/m").answer.status, 502);
    assert_eq!(server.asked().len(), 3, "the first request and two more");
    let until = Instant::now() + PATIENCE;
    while server.asked().len() < 5 {
        let told = ask_whole(&program, "up/m");
        assert!(told.answer.status >= 500, "{told:?}");
        assert!(Instant::now() < until, "no second probe came");
    }
    let asked = server.asked();
    for pair in asked[2..].windows(2) {
        let waited = pair[1].at.duration_since(pair[0].at);
        assert!(waited >= Duration::from_millis(300), "asked again after {waited:?}");
    }
}

#[test]
fn an_answer_in_between_and_faults_of_others_open_no_circuit() {
    let status = |status| Reply::status(status, "", &json!({ "error": { "message": "no" } }));
    let fine = Reply::Text("fine");
    let script = [broken(), fine.clone(), broken(), status(429), status(400), status(401), status(404), fine.clone(), broken(), fine];
    let server = Server::start(Api::OpenAi, script.clone());
    let program = start(
        &server.entry("up", ", models: [m], retries: 0, circuit: { failures: 2, pause: 60s }"),
        "",
    );
    for round in 1..=script.len() {
        ask_whole(&program, "up/m");
        assert_eq!(server.asked().len(), round, "request {round} did not arrive");
    }
}

#[test]
fn a_circuit_counts_connections_that_fail_and_is_another_ones_case_no_more() {
    for reply in [Reply::Raw(String::new(), Then::Reset), Reply::status(529, "", &json!({ "error": "full" }))] {
        let server = Server::start(Api::Ollama, [reply]);
        let good = Server::start(Api::OpenAi, [Reply::Text("fine")]);
        let entries = server.entry("up", ", models: [m], retries: 0, fallback: [good/m], circuit: { failures: 2, pause: 60s }")
            + &good.entry("good", ", models: [m]");
        let program = start(&entries, "");
        for as_client in EVERY {
            ask(&program, as_client, "up/m").is("fine");
        }
        assert_eq!(server.asked().len(), 2, "requests before the circuit opened");
        assert_eq!(good.asked().len(), EVERY.len());
    }
}
