//! Names of the models of upstreams: with the name of the upstream, bare, from the list and from the configuration.

use super::ask::{Dialect, EVERY, Fails, ask, ask_whole, open, told};
use super::server::{Api, Reply, Server};
use super::start;
use crate::agent::Agent;
use crate::program::{PATIENCE, Program};
use std::time::Instant;

fn listed(program: &Program) -> Vec<String> {
    let answer = program.get("/v1/models");
    let models = answer.json()["data"].clone();
    let models = models.as_array().unwrap();
    models.iter().map(|model| model["id"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn a_bare_name_is_for_one_upstream_and_two_that_have_it_are_both_named() {
    let one = Server::start(Api::OpenAi, [Reply::Text("one")]);
    let two = Server::start(Api::Ollama, [Reply::Text("two")]);
    let program = start(
        &(one.entry("first", ", models: [same, only, deep/er]") + &two.entry("second", ", models: [same]")),
        "",
    );
    for as_client in EVERY {
        ask(&program, as_client, "same").fails(Fails::NO_MODEL, &["first/same", "second/same"]);
        ask(&program, as_client, "first/same").is("one");
        ask(&program, as_client, "second/same").is("two");
        ask(&program, as_client, "only").is("one");
        ask(&program, as_client, "first/deep/er").is("one");
        ask(&program, as_client, "first/none").fails(Fails::NO_MODEL, &["first/none"]);
        ask(&program, as_client, "third/same").fails(Fails::NO_MODEL, &["third/same"]);
    }
    assert!(two.asked().iter().all(|asked| asked.body["model"] == "same"));
    assert!(one.asked().iter().any(|asked| asked.body["model"] == "deep/er"));
    let listed = listed(&program);
    for name in ["first/same", "second/same", "first/only", "first/deep/er"] {
        assert!(listed.iter().any(|id| id == name), "no {name} in {listed:?}");
    }
    assert!(!listed.iter().any(|id| id == "same"), "{listed:?}");
}

#[test]
fn an_alias_and_the_default_may_have_a_bare_name() {
    let server = Server::start(Api::OpenAi, [Reply::Text("fine")]);
    let models = "models: { default: m, aliases: { same: m, other: up/m } }\n";
    let program = start(&server.entry("up", ", models: [m]"), models);
    for as_client in EVERY {
        for name in ["same", "other", "m", "up/m", "default"] {
            ask(&program, as_client, name).is("fine");
        }
    }
    assert!(server.asked().iter().all(|asked| asked.body["model"] == "m"));
}

#[test]
fn an_ollamas_model_needs_no_tag() {
    let server = Server::start_with(Api::Ollama, [Reply::Text("fine")], &["qwen3:latest", "qwen3:8b"], false);
    let program = start(&server.entry("up", ""), "");
    server.wait_lists(1);
    for as_client in EVERY {
        for (name, theirs) in [("up/qwen3", "qwen3"), ("up/qwen3:latest", "qwen3"), ("qwen3", "qwen3"), ("qwen3:latest", "qwen3"), ("qwen3:8b", "qwen3:8b")] {
            ask(&program, as_client, name).is("fine");
            let asked = server.asked();
            assert_eq!(asked.last().unwrap().body["model"], theirs, "{name}");
        }
    }
}

#[test]
fn a_bare_name_that_an_agent_has_is_the_agents() {
    let server = Server::start(Api::OpenAi, [Reply::Text("the upstream")]);
    let program = start(&server.entry("up", ", models: [m]"), "");
    let as_client = (Dialect::OpenAi, true);
    ask(&program, as_client, "m").is("the upstream");
    let mut agent = Agent::connect(&program);
    let client = open(&program, as_client, "m");
    let (id, _) = agent.invocation();
    agent.chunk(&id, 0, "the agent");
    agent.finish(&id, 1);
    told(as_client, client).is("the agent");
    ask(&program, as_client, "up/m").is("the upstream");
}

#[test]
fn a_request_that_comes_before_the_list_waits_for_it() {
    for api in Api::EVERY {
        let server = Server::start_with(api, [Reply::Text("fine")], &["a", "b"], true);
        let program = start(&server.entry("up", ""), "");
        let clients = EVERY.map(|as_client| (as_client, open(&program, as_client, "up/b")));
        let unknown = open(&program, (Dialect::OpenAi, false), "up/c");
        server.wait_lists(1);
        assert_eq!(server.asked().len(), 0);
        server.release();
        for (as_client, client) in clients {
            told(as_client, client).is("fine");
        }
        told((Dialect::OpenAi, false), unknown).fails(Fails::NO_MODEL, &["up/c"]);
        assert!(server.asked().iter().all(|asked| asked.body["model"] == "b"));
    }
}

#[test]
fn a_list_that_does_not_come_ends_the_wait() {
    let server = Server::start_with(Api::OpenAi, [Reply::Text("fine")], &["a"], true);
    let program = start(&server.entry("up", ", connect_timeout: 300ms"), "");
    for as_client in EVERY {
        let told = ask(&program, as_client, "up/a");
        assert!(told.answer.status >= 404, "{told:?}");
        assert!(told.message().contains("up"), "{told:?}");
    }
    assert_eq!(server.asked().len(), 0);
}

#[test]
fn a_list_is_read_anew_when_it_is_old() {
    let server = Server::start(Api::Ollama, [Reply::Text("fine")]);
    let program = start(&server.entry("up", ", models_ttl: 100ms"), "");
    ask_whole(&program, "up/m").is("fine");
    ask_whole(&program, "up/new").fails(Fails::NO_MODEL, &["up/new"]);
    server.list(&["new"]);
    let until = Instant::now() + PATIENCE;
    while !listed(&program).iter().any(|id| id == "up/new") {
        assert!(Instant::now() < until, "{:?}", listed(&program));
    }
    ask_whole(&program, "up/new").is("fine");
    ask_whole(&program, "up/m").fails(Fails::NO_MODEL, &["up/m"]);
}
