//! Fallbacks between upstreams, agents and aliases.

use super::ask::{Dialect, EVERY, Fails, ask, open, told};
use super::server::{Api, Reply, Server};
use super::start;
use crate::acp_agents::AGENT;
use crate::agent::Agent;
use serde_json::json;
use std::net::TcpListener;

fn broken() -> Reply {
    Reply::status(500, "", &json!({ "error": { "message": "it broke" } }))
}

#[test]
fn fallbacks_are_asked_in_their_order_and_theirs_are_not() {
    let servers = ["one", "two", "three", "four"].map(|name| {
        let reply = if matches!(name, "three" | "four") { Reply::Text(name) } else { broken() };
        Server::start(Api::OpenAi, [reply])
    });
    let [one, two, three, four] = &servers;
    let more = ", models: [m], retries: 0, circuit: { failures: 0 }";
    let entries = one.entry("one", &format!("{more}, fallback: [two/m, three/m]"))
        + &two.entry("two", &format!("{more}, fallback: [four/m]"))
        + &three.entry("three", more)
        + &four.entry("four", more);
    let program = start(&entries, "");
    for as_client in EVERY {
        ask(&program, as_client, "one/m").is("three");
    }
    let counts = servers.each_ref().map(|server| server.asked().len());
    assert_eq!(counts, [EVERY.len(), EVERY.len(), EVERY.len(), 0]);
    // Asked itself, it has its own.
    ask(&program, (Dialect::OpenAi, true), "two/m").is("four");
}

#[test]
fn when_all_fail_the_client_is_told_once() {
    let servers = [Server::start(Api::OpenAi, [broken()]), Server::start(Api::Anthropic, [broken()])];
    let more = ", models: [m], retries: 0, circuit: { failures: 0 }";
    let entries = servers[0].entry("one", &format!("{more}, fallback: [two/m, none/m]")) + &servers[1].entry("two", more);
    let program = start(&entries, "");
    for (round, as_client) in EVERY.into_iter().enumerate() {
        let told = ask(&program, as_client, "one/m");
        assert!(told.answer.status >= 500, "{told:?}");
        assert!(!told.message().is_empty());
        assert_eq!(servers.each_ref().map(|server| server.asked().len()), [round + 1; 2]);
    }
}

#[test]
fn an_agent_answers_for_an_upstream() {
    let server = Server::start(Api::OpenAi, [broken()]);
    let program = start(&server.entry("up", ", models: [u], retries: 0, fallback: [m]"), "");
    let mut agent = Agent::connect(&program);
    for as_client in EVERY {
        let client = open(&program, as_client, "up/u");
        let (id, invocation) = agent.invocation();
        assert_eq!(invocation["payload"]["model"], "m", "{invocation}");
        agent.chunk(&id, 0, "the agent");
        agent.finish(&id, 1);
        told(as_client, client).is("the agent");
    }
}

#[test]
fn an_agent_answers_with_another_model_for_itself() {
    let program = start("  []\n", "models: { aliases: { smart: { model: opus, fallback: [haiku] } } }\n");
    let mut agent = Agent::connect_as(&program, json!({ "agent_id": "it", "models": ["opus", "haiku"] }));
    for as_client in EVERY {
        let client = open(&program, as_client, "smart");
        let (first, invocation) = agent.invocation();
        assert_eq!(invocation["payload"]["model"], "opus", "{invocation}");
        let error = json!({ "code": "rate_limited", "message": "slow down", "retry_after": 30 });
        agent.send(&json!({ "type": "model_result", "id": first, "status": "error", "error": error }));
        let (id, invocation) = agent.invocation();
        assert_ne!(id, first);
        assert_eq!(invocation["payload"]["model"], "haiku", "{invocation}");
        agent.chunk(&id, 0, "the small one");
        agent.finish(&id, 1);
        told(as_client, client).is("the small one");
    }
}

#[test]
fn the_token_limit_of_an_agent_that_takes_none_is_not_that_of_its_fallback() {
    let (dead, good) = (Server::start(Api::OpenAi, [broken()]), Server::start(Api::OpenAi, [Reply::Text("abcdefghijklmnop")]));
    let entries = dead.entry("dead", ", models: [m], retries: 0, circuit: { failures: 0 }, fallback: [stub, good/m]")
        + &good.entry("good", ", models: [m]");
    // An agent that the program starts takes no token limit, which the program applies in its place. This one ends when it is asked.
    let agents = json!([{ "name": "stub", "command": ["/bin/sh", "-c", AGENT] }]);
    let program = start(&entries, &format!("agents: {agents}\n"));
    let ask = |model: &str| {
        let messages = json!([{ "role": "user", "content": "EXIT" }]);
        let told = program.post("/v1/chat/completions", &json!({ "model": model, "max_tokens": 2, "messages": messages })).json();
        (told["choices"].clone(), told["usage"].clone())
    };
    let direct = ask("good/m");
    assert_eq!(direct.0[0]["message"]["content"], "abcdefghijklmnop");
    assert_eq!(ask("dead/m"), direct);
    assert_eq!(good.asked().len(), 2);
    let metrics = program.get("/metrics").body;
    assert!(metrics.contains("mcp_local_provider_fallbacks_total 2"), "{metrics}");
}

#[test]
fn who_waits_for_a_fallback_waits_for_no_first_chunk() {
    let server = Server::start(Api::OpenAi, [broken()]);
    let times = "timeouts: { first_chunk: 400ms }\nlimits: { queue: { wait: 60s } }\n";
    let program = start(&server.entry("up", ", models: [u], retries: 0, circuit: { failures: 0 }, fallback: [m]"), times);
    let mut agent = Agent::connect_as(&program, json!({ "agent_id": "busy", "models": ["m"], "max_concurrency": 1 }));
    let mut silent = Agent::connect_as(&program, json!({ "agent_id": "silent", "models": ["n"] }));
    for as_client in EVERY {
        let before = open(&program, as_client, "m");
        let (id, _) = agent.invocation();
        agent.chunk(&id, 0, "the one before");
        let client = open(&program, as_client, "up/u");
        program.wait_for_queue(1);
        // So much time passes that one who had begun later would have waited too long for its first chunk.
        let late = open(&program, as_client, "n");
        silent.invocation();
        told(as_client, late).fails(Fails::LATE, &["timeouts.first_chunk"]);
        assert_eq!(silent.receive()["type"], "model_cancel");
        agent.finish(&id, 1);
        told(as_client, before).is("the one before");
        let (id, _) = agent.invocation();
        agent.chunk(&id, 0, "the agent");
        agent.finish(&id, 1);
        told(as_client, client).is("the agent");
    }
}

#[test]
fn the_whole_duration_of_an_answer_ends_a_wait_for_a_fallback_too() {
    let server = Server::start(Api::OpenAi, [broken()]);
    let more = "timeouts: { total: 400ms }\nagents: [{ name: m, command: [sleep, '600'] }]\n";
    let program = start(&server.entry("up", ", models: [u], retries: 0, circuit: { failures: 0 }, fallback: [m]"), more);
    for as_client in EVERY {
        ask(&program, as_client, "up/u").fails(Fails::LATE, &["timeouts.total"]);
        program.wait_for_queue(0);
    }
    assert_eq!(server.asked().len(), EVERY.len());
}

#[test]
fn an_upstream_answers_for_an_agent_of_a_bridge_before_the_first_byte_only() {
    let server = Server::start(Api::Anthropic, [Reply::Text("the upstream")]);
    let bridge = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("ws://{}", bridge.local_addr().unwrap());
    let bridges = format!("bridges:\n  - {{ name: b, url: \"{url}\", reconnect_delay: 10ms, fallback: [up/u] }}\n");
    let program = start(&server.entry("up", ", models: [u]"), &bridges);
    let mut agent = Agent::taken(bridge.accept().unwrap().0);
    agent.send(&json!({ "type": "register", "agent_id": "it", "models": ["m"] }));
    assert_eq!(agent.receive()["type"], "registered");
    for as_client in EVERY {
        let client = open(&program, as_client, "m");
        let (id, _) = agent.invocation();
        let error = json!({ "code": "overloaded", "message": "no room" });
        agent.send(&json!({ "type": "model_result", "id": id, "status": "error", "error": error }));
        told(as_client, client).is("the upstream");
    }
    assert_eq!(server.asked().len(), EVERY.len());
    // After a first byte the agent's own error is the end.
    let client = open(&program, (Dialect::OpenAi, true), "m");
    let (id, _) = agent.invocation();
    agent.chunk(&id, 0, "so far");
    agent.send(&json!({ "type": "error", "id": id, "error": { "code": "internal", "message": "it broke" } }));
    let cut = told((Dialect::OpenAi, true), client);
    assert_eq!(cut.text, "so far");
    assert!(cut.message().contains("it broke"), "{cut:?}");
    assert_eq!(server.asked().len(), EVERY.len());
}

#[test]
fn an_alias_has_a_fallback_of_its_own() {
    let server = Server::start(Api::OpenAi, [Reply::Text("the upstream")]);
    let other = Server::start(Api::OpenAi, [broken()]);
    let aliases = "models: { aliases: { mine: { model: m, fallback: [up/u] }, theirs: { model: bad/b, fallback: [up/u] } } }\n";
    let more = ", models: [b], retries: 0, circuit: { failures: 0 }, fallback: [other/none]";
    let program = start(&(server.entry("up", ", models: [u]") + &other.entry("bad", more)), aliases);
    let mut agent = Agent::connect(&program);
    for as_client in EVERY {
        // Instead of the upstream's own.
        ask(&program, as_client, "theirs").is("the upstream");
        let client = open(&program, as_client, "mine");
        let (id, _) = agent.invocation();
        let error = json!({ "code": "internal", "message": "it broke" });
        agent.send(&json!({ "type": "model_result", "id": id, "status": "error", "error": error }));
        told(as_client, client).is("the upstream");
    }
    // Asked by its own name the agent has none.
    let as_client = (Dialect::OpenAi, false);
    let client = open(&program, as_client, "m");
    let (id, _) = agent.invocation();
    agent.send(&json!({ "type": "model_result", "id": id, "status": "error", "error": { "code": "internal", "message": "it broke" } }));
    assert_eq!(told(as_client, client).answer.status, 502);
    assert!(server.asked().iter().all(|asked| asked.body["model"] == "u"));
}
