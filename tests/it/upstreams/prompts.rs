//! Large prompts: they take no memory while their answers run.

use super::ask::{Dialect, EVERY, Fails, ask, open_with, told};
use super::server::{Api, Reply, Server, Then};
use super::start;
use crate::agent::Agent;
use crate::program::Program;
use serde_json::json;
use std::io::Read;
use std::net::{TcpListener, TcpStream};

/// Bytes of each prompt. The memory is enough for three of them and what is made of them.
const PROMPT: usize = 6 << 20;
const MEMORY: &str = "limits: { memory: 64MiB, tokens_per_minute: 4000000000 }\n";
const STREAMS: usize = 12;

/// Opens a stream with a large prompt.
fn open_large(program: &Program, model: &str) -> TcpStream {
    open_with(program, (Dialect::OpenAi, true), model, &"x".repeat(PROMPT))
}

/// Reads until the answer has begun.
fn begun(mut client: TcpStream) -> TcpStream {
    let mut seen = String::new();
    while !seen.contains("so far") {
        let mut buffer = [0; 1024];
        let count = client.read(&mut buffer).unwrap();
        assert!(count > 0, "{seen}");
        seen.push_str(&String::from_utf8_lossy(&buffer[..count]));
    }
    client
}

/// Opens all streams, each of which the agent begins to answer.
fn all_begin(program: &Program, agent: &mut Agent<TcpStream>) -> Vec<TcpStream> {
    let one = |_| {
        let client = open_large(program, "m");
        let (id, _) = agent.invocation();
        agent.chunk(&id, 0, "so far");
        begun(client)
    };
    (0..STREAMS).map(one).collect()
}

#[test]
fn the_prompts_of_streams_that_an_agent_answers_take_no_memory() {
    let program = start("", MEMORY);
    let mut agent = Agent::connect(&program);
    let open = all_begin(&program, &mut agent);
    assert_eq!(open.len(), STREAMS);
}

#[test]
fn nor_do_they_where_another_model_would_have_answered_before_the_first_byte() {
    let server = Server::start(Api::OpenAi, [Reply::Text("the upstream")]);
    let bridge = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("ws://{}", bridge.local_addr().unwrap());
    let bridges = format!("{MEMORY}bridges:\n  - {{ name: b, url: \"{url}\", reconnect_delay: 10ms, fallback: [up/u] }}\n");
    let program = start(&server.entry("up", ", models: [u]"), &bridges);
    let mut agent = Agent::taken(bridge.accept().unwrap().0);
    agent.send(&json!({ "type": "register", "agent_id": "it", "models": ["m"] }));
    assert_eq!(agent.receive()["type"], "registered");
    let open = all_begin(&program, &mut agent);
    assert_eq!(open.len(), STREAMS);
    assert_eq!(server.asked().len(), 0, "the fallback was asked");
}

#[test]
fn nor_do_those_of_streams_that_an_upstream_answers() {
    for api in Api::EVERY {
        let server = Server::start(api, [Reply::Begun("so far", Then::Silence)]);
        let program = start(&server.entry("up", ", models: [m]"), MEMORY);
        let open: Vec<TcpStream> = (0..STREAMS).map(|_| begun(open_large(&program, "up/m"))).collect();
        assert_eq!(open.len(), server.asked().len());
    }
}

#[test]
fn a_prompt_for_which_there_is_no_memory_is_refused_as_everywhere() {
    let server = Server::start(Api::OpenAi, [Reply::Text("fine")]);
    // The body fits, and what is made of it for the server does not.
    let limits = "limits: { memory: 10MiB, body_bytes: 8MiB, content_bytes: 8MiB, answer_bytes: 1MiB, tokens_per_minute: 4000000000 }\n";
    let program = start(&server.entry("up", ", models: [m], retries: 0"), limits);
    for as_client in EVERY {
        let client = open_with(&program, as_client, "up/m", &"x".repeat(PROMPT));
        told(as_client, client).fails(Fails::OVERLOADED, &["up was not asked", "limits.memory"]);
        ask(&program, as_client, "up/m").is("fine");
    }
    assert_eq!(server.asked().len(), EVERY.len());
}
