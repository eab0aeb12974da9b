//! Answers that end in the middle, and clients that leave: never a second answer after a first byte.

use super::ask::{Dialect, EVERY, Fails, ask, open};
use super::server::{Api, Reply, Server, Then};
use super::{QUICK, start};
use crate::program::{Answer, OPERATOR};
use std::io::Read;
use std::net::{Shutdown, TcpStream};
use std::thread;

#[test]
fn an_answer_that_is_cut_off_is_told_and_nobody_else_answers() {
    let good = Server::start(Api::OpenAi, [Reply::Text("fine")]);
    let mut entries = good.entry("good", ", models: [m]");
    let ends = [
        ("closed", Then::Close, [Fails::FAULT, Fails::LOST]),
        ("reset", Then::Reset, [Fails::LOST, Fails::FAULT]),
        ("silent", Then::Silence, [Fails::LATE; 2]),
    ];
    let mut cases = Vec::new();
    for api in Api::EVERY {
        for (end, then, fails) in ends {
            let name = format!("{}-{end}", api.kind());
            let server = Server::start(api, [Reply::Begun("so far", then)]);
            let more = ", models: [m], retries: 3, fallback: [good/m], circuit: { failures: 0 }";
            entries.push_str(&server.entry(&name, more));
            cases.push((name, server, fails));
        }
    }
    let program = start(&entries, QUICK);
    thread::scope(|scope| {
        for (name, server, fails) in &cases {
            let program = &program;
            scope.spawn(move || {
                for (round, as_client) in EVERY.into_iter().enumerate() {
                    let told = ask(program, as_client, &format!("{name}/m"));
                    let (_, stream) = as_client;
                    if !stream && name.ends_with("reset") {
                        // See the test of a reset within a whole answer.
                        continue;
                    }
                    // A connection that breaks is the server's fault or that of the way to it.
                    let code = |fails: &Fails| told.error.as_ref().is_some_and(|error| error["code"] == fails.code);
                    let fails = *fails.iter().find(|fails| code(fails)).unwrap_or(&fails[0]);
                    match stream {
                        true => told.breaks_off("so far", fails, &[]),
                        // The client has no byte of it yet.
                        false if fails != Fails::LATE => told.is("fine"),
                        false => told.fails(fails, &[]),
                    }
                    if !name.ends_with("reset") {
                        assert_eq!(server.asked().len(), round + 1, "requests to {name} by {as_client:?}");
                    }
                }
            });
        }
    });
    let whole = good.asked();
    assert!(whole.iter().all(|asked| asked.body["stream"] != true), "the fallback was asked after a first byte");
}

#[test]
fn a_reset_within_a_whole_answer_is_not_asked_again() {
    for api in Api::EVERY {
        let server = Server::start(api, [Reply::Begun("so far", Then::Reset)]);
        let program = start(&server.entry("up", ", models: [m]"), "");
        ask(&program, (Dialect::OpenAi, false), "up/m").fails(Fails::LOST, &["up"]);
        assert_eq!(server.asked().len(), 1);
    }
}

#[test]
fn a_second_record_that_is_damaged_ends_the_answer() {
    let first = "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"so far\"},\"finish_reason\":null}]}\n\n";
    for (name, second) in [
        ("damage", "data: {\"choices\":[{]}\n\n"),
        ("error", "data: {\"error\":{\"message\":\"out of memory\",\"type\":\"server_error\"}}\n\n"),
        ("early", "data: [DONE]\n\ndata: {\"choices\":[{\"delta\":{\"content\":\" and more\"}}]}\n\n"),
    ] {
        let bytes = format!("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n{first}{second}");
        let server = Server::start(Api::OpenAi, [Reply::Raw(bytes, Then::Close)]);
        let program = start(&server.entry(name, ", models: [m]"), "");
        for as_client in [(Dialect::OpenAi, true), (Dialect::Ollama, true), (Dialect::Anthropic, true)] {
            let told = ask(&program, as_client, &format!("{name}/m"));
            assert_eq!((told.answer.status, &*told.text), (200, "so far"), "{told:?}");
            match name {
                "early" => assert!(told.error.is_none(), "{told:?}"),
                "error" => assert!(told.message().contains("out of memory"), "{told:?}"),
                _ => assert!(told.error.is_some(), "{told:?}"),
            }
        }
        assert_eq!(server.asked().len(), 3);
    }
}

fn read_until(client: &mut TcpStream, text: &str) {
    let mut seen = Vec::new();
    while !String::from_utf8_lossy(&seen).contains(text) {
        let mut buffer = [0; 1024];
        let count = client.read(&mut buffer).unwrap();
        assert!(count > 0, "{}", String::from_utf8_lossy(&seen));
        seen.extend_from_slice(&buffer[..count]);
    }
}

#[test]
fn a_client_that_leaves_closes_the_connection_to_the_server() {
    for api in Api::EVERY {
        let server = Server::start(api, [Reply::Raw(String::new(), Then::Silence)]);
        // No time-out ends the wait: the default is a minute, and the test has less patience.
        let program = start(&server.entry("up", ", models: [m]"), "");
        for (round, as_client) in EVERY.into_iter().enumerate() {
            let client = open(&program, as_client, "up/m");
            server.wait_asked(round + 1);
            client.shutdown(Shutdown::Both).unwrap();
            server.wait_closed();
        }
        server.rewrite([Reply::Begun("so far", Then::Silence)]);
        for (round, as_client) in EVERY.into_iter().filter(|(_, stream)| *stream).enumerate() {
            let mut client = open(&program, as_client, "up/m");
            read_until(&mut client, "so far");
            client.shutdown(Shutdown::Both).unwrap();
            server.wait_closed();
            assert_eq!(server.asked().len(), EVERY.len() + round + 1, "who left is not asked for again");
        }
    }
}

#[test]
fn a_client_that_leaves_between_two_attempts_is_asked_for_no_more() {
    let body = serde_json::json!({ "error": { "message": "slow down" } });
    let late = Reply::status(429, "Retry-After: 1\r\n", &body);
    let server = Server::start(Api::OpenAi, [late.clone(), late, Reply::Text("fine")]);
    let program = start(&server.entry("up", ", models: [m], retries: 1"), "");
    let as_client = (Dialect::OpenAi, true);
    let client = open(&program, as_client, "up/m");
    server.wait_asked(1);
    client.shutdown(Shutdown::Both).unwrap();
    // The second request is that of the next client, who waits as long as the first one would have.
    ask(&program, as_client, "up/m").is("fine");
    assert_eq!(server.asked().len(), 3);
}

#[test]
fn an_answer_ends_with_the_session_of_its_upstream() {
    let server = Server::start(Api::OpenAi, [Reply::Begun("so far", Then::Silence)]);
    for word in ["suspend", "revoke"] {
        let program = start(&server.entry("up", ", models: [m]"), "");
        let sessions = program.request("GET", "/control/sessions", Some(OPERATOR), "").json();
        let session = sessions["sessions"][0]["session_id"].clone();
        let mut client = open(&program, (Dialect::OpenAi, true), "up/m");
        read_until(&mut client, "so far");
        let body = serde_json::json!({ "session_id": session }).to_string();
        let done = program.request("POST", &format!("/control/{word}"), Some(OPERATOR), &body);
        assert_eq!(done.status, 200, "{done:?}");
        let mut rest = String::new();
        client.read_to_string(&mut rest).unwrap();
        assert!(rest.contains("session_ended"), "{rest}");
        server.wait_closed();
    }
}

#[test]
fn an_answer_that_outlasts_a_drain_has_a_last_word() {
    for api in Api::EVERY {
        let server = Server::start(api, [Reply::Begun("so far", Then::Silence)]);
        let entry = server.entry("far", ", models: [m]");
        let mut program = start(&entry, "timeouts: { drain: 100ms }\n");
        let (mut streamed, mut whole) = (
            open(&program, (Dialect::OpenAi, true), "far/m"),
            open(&program, (Dialect::OpenAi, false), "far/m"),
        );
        let mut seen = Vec::new();
        while !String::from_utf8_lossy(&seen).contains("so far") {
            let mut piece = [0; 1024];
            let count = streamed.read(&mut piece).unwrap();
            assert!(count > 0, "{}", String::from_utf8_lossy(&seen));
            seen.extend_from_slice(&piece[..count]);
        }
        server.wait_asked(2);
        program.signal("TERM");
        streamed.read_to_end(&mut seen).unwrap();
        let last = Answer::parse(&seen).body;
        assert!(last.contains("\"code\":\"draining\"") && last.contains("timeouts.drain"), "{api:?}: {last}");
        let mut seen = Vec::new();
        whole.read_to_end(&mut seen).unwrap();
        let answer = Answer::parse(&seen);
        assert_eq!((answer.status, &*answer.json()["error"]["code"].to_string()), (503, "\"draining\""), "{api:?}");
        let (status, _) = program.wait();
        assert!(status.success(), "{api:?}: {status}");
    }
}
