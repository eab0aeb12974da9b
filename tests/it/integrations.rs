//! Integrations of the registry: entries with a secret, and models whose tools run here.

use crate::agent::Agent;
use crate::child_process::ends;
use crate::gateway::client::until;
use crate::program::{Answer, CLIENT, Folder, Program};
use crate::registry_rest::{ADMIN, NARROW, USER, ask, assert_refused, made, register, start, start_in};
use crate::upstreams::server::{Api, Reply, Server};
use serde_json::{Value, json};
use std::thread;

const KEY: &str = "sk-canary-of-an-integration";

fn say() -> Value {
    json!({ "name": "say", "kind": "command", "command": ["/bin/echo", "{{ args.text }}"],
        "input_schema": { "type": "object", "properties": { "text": { "type": "string" } }, "required": ["text"] } })
}

fn helper(model: &Value) -> Value {
    json!({ "name": "helper", "system": "Be brief.", "tools": ["say"], "model": model })
}

fn on_agent() -> Value {
    json!({ "provider": "agent", "model_name": "m" })
}

/// A program with the tool `say` and the integration `helper` on the agent's model `m`.
pub fn with_helper() -> Program {
    let program = start("commands: [/bin/echo]");
    made(&program, "/tools", &say());
    made(&program, "/integrations", &helper(&on_agent()));
    program
}

fn chat(text: &str, more: &Value) -> Value {
    let mut body = json!({ "model": "integration/helper", "messages": [{ "role": "user", "content": text }] });
    for (name, value) in more.as_object().unwrap() {
        body[name] = value.clone();
    }
    body
}

/// The agent calls tools, and ends its answer.
pub fn call_tools(agent: &mut Agent, id: &str, index: u64, calls: &[(&str, &str)]) {
    let calls: Vec<Value> = (0..)
        .zip(calls)
        .map(|(at, (name, arguments)): (u32, _)| {
            json!({ "index": at, "id": format!("call_{name}"), "type": "function", "function": { "name": name, "arguments": arguments } })
        })
        .collect();
    agent.send(&json!({ "type": "model_stream_chunk", "id": id, "chunk_index": index, "delta": { "tool_calls": calls }, "finish_reason": null }));
    agent.send(&json!({ "type": "model_stream_chunk", "id": id, "chunk_index": index + 1, "delta": {}, "finish_reason": "tool_calls",
        "usage": { "prompt_tokens": 5, "completion_tokens": 2 } }));
}

/// The text of a chat completion, streamed or whole.
fn said(answer: &Answer) -> String {
    if answer.body.starts_with('{') {
        let content = answer.json()["choices"][0]["message"]["content"].clone();
        return content.as_str().unwrap_or_default().to_owned();
    }
    answer.text()
}

fn put(program: &Program, path: &str, body: &Value) -> Answer {
    program.request("PUT", path, Some(ADMIN), &body.to_string())
}

fn listed(program: &Program) -> Vec<String> {
    let models = program.request("GET", "/v1/models", Some(CLIENT), "").json();
    let models = models["data"].as_array().unwrap().iter();
    models.map(|it| it["id"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn an_integration_is_kept_with_its_key_which_is_never_shown() {
    let program = start("commands: [/bin/echo], http: [\"127.0.0.1:9\"]");
    let model = json!({ "provider": "openai", "model_name": "m", "api_key": KEY, "base_url": "http://127.0.0.1:9/v1" });
    assert_refused(&register(&program, "/integrations", &helper(&model)), 400, None, Some("tools[0]"));
    made(&program, "/tools", &say());
    let answer = register(&program, "/integrations", &helper(&model));
    assert_eq!((answer.status, answer.header("location")), (201, Some("/integrations/helper")), "{answer:?}");
    assert_eq!(answer.json()["model"]["api_key"], "set");
    assert_refused(&register(&program, "/registry/integrations", &helper(&model)), 409, Some("conflict"), Some("integration_id"));
    let mut other = helper(&json!({ "provider": "openai", "model_name": "other", "base_url": "http://127.0.0.1:9/v1" }));
    other["description"] = json!("Another.");
    assert_eq!(put(&program, "/integrations/helper", &other).status, 200);
    let shown = ask(&program, "GET", "/integrations/helper", &Value::Null);
    assert_eq!((&shown.json()["model"]["api_key"], &shown.json()["description"]), (&json!("set"), &json!("Another.")));
    let list = ask(&program, "GET", "/registry/integrations", &Value::Null);
    assert_eq!((&list.json()["integrations"][0]["integration_id"], &list.json()["total_count"]), (&json!("helper"), &json!(1)));
    let file = std::fs::read(program.folder.0.join("data/registry.redb")).unwrap();
    let is_told = |bytes: &[u8]| bytes.windows(KEY.len()).any(|it| it == KEY.as_bytes());
    assert!(!is_told(&file), "the key is in the file");
    assert!(!is_told(answer.body.as_bytes()) && !is_told(list.body.as_bytes()) && !is_told(program.log().as_bytes()));
    // Hosts that are not listed are not reached, and tools that are used stay.
    let far = json!({ "provider": "custom", "model_name": "m", "base_url": "https://example.com/v1" });
    let refused = put(&program, "/integrations/helper", &helper(&far));
    assert_refused(&refused, 400, None, Some("model.base_url"));
    let used = program.request("DELETE", "/tools/say", Some(ADMIN), "");
    assert_eq!((used.status, &used.json()["error"]["code"]), (409, &json!("conflict")), "{used:?}");
    assert_eq!(program.request("DELETE", "/integrations/helper", Some(USER), "").status, 403);
    let deleted = program.request("DELETE", "/integrations/helper", Some(ADMIN), "");
    assert_eq!(deleted.json(), json!({ "integration_id": "helper", "status": "deleted" }));
    assert_refused(&ask(&program, "GET", "/integrations/helper", &Value::Null), 404, Some("integration_not_found"), None);
}

#[test]
fn the_list_of_models_has_integrations_that_are_enabled() {
    let program = with_helper();
    assert!(listed(&program).contains(&"integration/helper".to_owned()));
    let one = program.request("GET", "/v1/models/integration%2Fhelper", Some(CLIENT), "");
    assert_eq!((one.status, &one.json()["owned_by"]), (200, &json!("integration")), "{one:?}");
    let tags = program.request("GET", "/api/tags", Some(CLIENT), "");
    assert!(tags.body.contains("integration/helper"), "{tags:?}");
    let mut off = helper(&on_agent());
    off["enabled"] = json!(false);
    assert_eq!(put(&program, "/integrations/helper", &off).status, 200);
    assert!(listed(&program).is_empty());
    let answer = program.post("/v1/chat/completions", &chat("hi", &json!({})));
    assert_refused(&answer, 409, Some("disabled"), Some("model"));
    let unknown = program.post("/v1/chat/completions", &json!({ "model": "integration/none", "messages": [{ "role": "user", "content": "hi" }] }));
    assert_eq!(unknown.status, 503, "no agent is connected: {unknown:?}");
    assert_eq!(program.request("DELETE", "/integrations/helper", Some(ADMIN), "").status, 200);
    let _agent = Agent::connect(&program);
    let gone = program.post("/v1/chat/completions", &chat("hi", &json!({})));
    assert_refused(&gone, 404, Some("model_not_found"), Some("model"));
}

#[test]
fn its_tools_run_here_and_those_of_the_caller_go_to_the_caller() {
    let program = with_helper();
    let mut agent = Agent::connect(&program);
    let mine = json!([{ "type": "function", "function": { "name": "mine", "parameters": { "type": "object" } } }]);
    for stream in [false, true] {
        let body = chat("hello", &json!({ "stream": stream, "tools": mine, "stream_options": { "include_usage": true } }));
        let answer = thread::scope(|scope| {
            let asked = scope.spawn(|| program.post("/v1/chat/completions", &body));
            let (id, first) = agent.invocation();
            let text = first.to_string();
            assert!(text.contains("Be brief.") && text.contains("\"say\"") && text.contains("\"mine\""), "{first}");
            agent.chunk(&id, 0, "I look. ");
            call_tools(&mut agent, &id, 1, &[("say", "{\"text\":\"für dich\"}")]);
            let (id, second) = agent.invocation();
            assert!(second.to_string().contains("für dich\\n"), "{second}");
            agent.chunk(&id, 0, "It says so.");
            agent.finish(&id, 1);
            asked.join().unwrap()
        });
        assert_eq!((answer.status, said(&answer).as_str()), (200, "I look. It says so."), "{answer:?}");
        assert!(!answer.body.contains("call_say"), "{answer:?}");
        let usage = if stream { answer.events().last().unwrap()["usage"].clone() } else { answer.json()["usage"].clone() };
        assert_eq!((&usage["prompt_tokens"], &usage["completion_tokens"]), (&json!(14), &json!(5)), "{usage}");
        let answer = thread::scope(|scope| {
            let asked = scope.spawn(|| program.post("/v1/chat/completions", &body));
            let (id, _) = agent.invocation();
            call_tools(&mut agent, &id, 0, &[("mine", "{\"a\":1}"), ("say", "{}")]);
            asked.join().unwrap()
        });
        assert!(answer.body.contains("call_mine") && answer.body.contains("\"finish_reason\":\"tool_calls\""), "{answer:?}");
        assert!(!answer.body.contains("call_say"), "{answer:?}");
    }
}

#[test]
fn every_api_asks_it() {
    let program = with_helper();
    let mut agent = Agent::connect(&program);
    let messages = json!([{ "role": "user", "content": "hello" }]);
    for (path, body) in [
        ("/v1/responses", json!({ "input": "hello" })),
        ("/v1/completions", json!({ "prompt": "hello" })),
        ("/api/chat", json!({ "messages": messages, "stream": false })),
        ("/api/chat", json!({ "messages": messages })),
        ("/api/generate", json!({ "prompt": "hello", "stream": false })),
        ("/v1/messages", json!({ "messages": messages, "max_tokens": 99 })),
        ("/v1/messages", json!({ "messages": messages, "max_tokens": 99, "stream": true })),
    ] {
        let mut body = body;
        body["model"] = json!("integration/helper");
        let answer = thread::scope(|scope| {
            let asked = scope.spawn(|| program.post(path, &body));
            let (id, first) = agent.invocation();
            assert!(first.to_string().contains("hello"), "{first}");
            call_tools(&mut agent, &id, 0, &[("say", "{\"text\":\"word\"}")]);
            let (id, second) = agent.invocation();
            assert!(second.to_string().contains("word\\n"), "{second}");
            agent.chunk(&id, 0, "It-says-so.");
            agent.finish(&id, 1);
            asked.join().unwrap()
        });
        assert!(answer.status == 200 && answer.body.contains("It-says-so."), "{path}: {answer:?}");
    }
    let answer = program.post("/v1/embeddings", &json!({ "model": "integration/helper", "input": "x" }));
    assert_refused(&answer, 400, None, Some("model"));
}

#[test]
fn a_stop_sequence_and_an_estimate_are_told_as_of_a_model_that_is_asked_itself() {
    let program = with_helper();
    let mut agent = Agent::connect(&program);
    let messages = json!([{ "role": "user", "content": "hello" }]);
    let stop = json!({ "max_tokens": 99, "stop_sequences": ["STOP"], "messages": messages });
    for (model, stream) in [("m", false), ("integration/helper", false), ("integration/helper", true)] {
        let mut body = stop.clone();
        (body["model"], body["stream"]) = (model.into(), stream.into());
        let answer = thread::scope(|scope| {
            let asked = scope.spawn(|| program.post("/v1/messages", &body));
            let (id, _) = agent.invocation();
            agent.chunk(&id, 0, "aST");
            agent.chunk(&id, 1, "OPc");
            let cancelled = agent.receive();
            assert_eq!((&cancelled["type"], &cancelled["id"]), (&json!("model_cancel"), &json!(id)), "{cancelled}");
            asked.join().unwrap()
        });
        for part in ["\"stop_reason\":\"stop_sequence\"", "\"stop_sequence\":\"STOP\""] {
            assert!(answer.body.contains(part), "{model}: {answer:?}");
        }
        assert!(!answer.body.contains("STOPc") && !answer.body.contains("aST"), "{model}: {answer:?}");
    }
    let answer = thread::scope(|scope| {
        let asked = scope.spawn(|| program.post("/v1/chat/completions", &chat("hello", &json!({}))));
        let (id, _) = agent.invocation();
        agent.chunk(&id, 0, "hi");
        agent.send(&json!({ "type": "model_stream_chunk", "id": id, "chunk_index": 1, "delta": {}, "finish_reason": "stop" }));
        asked.join().unwrap()
    });
    assert_eq!(answer.json()["usage"]["estimated"], true, "{answer:?}");
}

#[test]
fn ten_rounds_are_enough() {
    let program = with_helper();
    let mut agent = Agent::connect(&program);
    let body = chat("hello", &json!({}));
    let answer = thread::scope(|scope| {
        let asked = scope.spawn(|| program.post("/v1/chat/completions", &body));
        for round in 0..10 {
            let (id, _) = agent.invocation();
            agent.chunk(&id, 0, &format!("{round},"));
            call_tools(&mut agent, &id, 1, &[("say", "{\"text\":\"again\"}")]);
        }
        asked.join().unwrap()
    });
    assert_eq!((answer.status, said(&answer).as_str()), (200, "0,1,2,3,4,5,6,7,8,9,"), "{answer:?}");
    assert_eq!(answer.json()["choices"][0]["finish_reason"], "length");
}

#[test]
fn a_client_that_leaves_ends_its_tools_and_tells_the_agent() {
    let folder = Folder::new();
    let mark = folder.0.join("pid");
    let program = start_in(folder, "commands: [/bin/sh]", "");
    let script = format!("echo $$ > {}; exec sleep 600", mark.display());
    made(&program, "/tools", &json!({ "name": "say", "kind": "command", "command": ["/bin/sh", "-c", script] }));
    made(&program, "/integrations", &helper(&on_agent()));
    let mut agent = Agent::connect(&program);
    let body = chat("hello", &json!({ "stream": true })).to_string();
    let stream = program.open("POST", "/v1/chat/completions", Some(CLIENT), &body);
    let (id, _) = agent.invocation();
    call_tools(&mut agent, &id, 0, &[("say", "{}")]);
    let pid = until(|| std::fs::read_to_string(&mark).ok().filter(|pid| pid.ends_with('\n')));
    drop(stream);
    assert!(ends(pid.trim()), "the command runs on");
    let stream = program.open("POST", "/v1/chat/completions", Some(CLIENT), &body);
    let (id, _) = agent.invocation();
    drop(stream);
    let told = agent.receive();
    assert_eq!((&told["type"], &told["id"]), (&json!("model_cancel"), &json!(id)), "{told}");
}

#[test]
fn a_failure_of_its_model_is_the_clients() {
    let program = with_helper();
    let nobody = program.post("/v1/chat/completions", &chat("hi", &json!({})));
    assert_refused(&nobody, 503, Some("no_agent"), None);
    let mut agent = Agent::connect(&program);
    let body = chat("hi", &json!({}));
    let failed = thread::scope(|scope| {
        let asked = scope.spawn(|| program.post("/v1/chat/completions", &body));
        let (id, _) = agent.invocation();
        agent.send(&json!({ "type": "error", "id": id, "error": { "code": "overloaded", "message": "too much" } }));
        asked.join().unwrap()
    });
    assert_refused(&failed, 503, Some("overloaded"), None);
    let other = helper(&json!({ "provider": "anthropic", "model_name": "m" }));
    assert_eq!(put(&program, "/integrations/helper", &other).status, 200);
    let answer = program.post("/v1/chat/completions", &body);
    assert!(answer.status == 503 && answer.body.contains("upstreams"), "{answer:?}");
}

/// An answer that calls `say`, as a server of the API gives it.
fn calls_say(api: Api) -> Reply {
    let body = match api {
        Api::OpenAi => json!({ "id": "c1", "object": "chat.completion", "created": 1, "model": "m", "choices": [{ "index": 0, "finish_reason": "tool_calls",
            "message": { "role": "assistant", "content": null, "tool_calls": [{ "id": "c9", "type": "function", "function": { "name": "say", "arguments": "{\"text\":\"word\"}" } }] } }],
            "usage": { "prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7 } }),
        Api::Anthropic => json!({ "id": "msg_1", "type": "message", "role": "assistant", "model": "m", "stop_reason": "tool_use", "stop_sequence": null,
            "content": [{ "type": "tool_use", "id": "c9", "name": "say", "input": { "text": "word" } }], "usage": { "input_tokens": 3, "output_tokens": 4 } }),
        Api::Ollama => json!({ "model": "m", "created_at": "2026-01-01T00:00:00Z", "done": true, "done_reason": "stop", "prompt_eval_count": 3, "eval_count": 4,
            "message": { "role": "assistant", "content": "", "tool_calls": [{ "function": { "name": "say", "arguments": { "text": "word" } } }] } }),
    };
    Reply::status(200, "", &body)
}

#[test]
fn a_server_of_its_own_is_asked_with_its_key() {
    for api in Api::EVERY {
        let server = Server::start(api, [calls_say(api), Reply::Text("It says so.")]);
        let program = start(&format!("commands: [/bin/echo], http: [\"{}\"]", server.address));
        made(&program, "/tools", &say());
        let base = format!("http://{}{}", server.address, if api == Api::OpenAi { "/v1" } else { "" });
        made(&program, "/integrations", &helper(&json!({ "provider": api.kind(), "model_name": "m", "api_key": KEY, "base_url": base })));
        let answer = program.post("/v1/chat/completions", &chat("hello", &json!({})));
        assert_eq!((answer.status, said(&answer).as_str()), (200, "It says so."), "{api:?}: {answer:?}");
        let asked = server.asked();
        assert!(asked[0].head.contains(KEY) && asked[0].body.to_string().contains("Be brief."), "{asked:?}");
        assert!(asked[1].body.to_string().contains("word\\n"), "{asked:?}");
        server.rewrite([Reply::status(401, "", &json!({ "error": { "message": format!("no such key {KEY}"), "type": "x" } }))]);
        let refused = program.post("/v1/chat/completions", &chat("hello", &json!({})));
        assert_eq!(refused.status, 502, "{refused:?}");
        assert!(!refused.body.contains(KEY) && !program.log().contains(KEY), "{refused:?}");
    }
}

#[test]
fn a_configured_upstream_of_its_provider_is_asked() {
    for api in [Api::OpenAi, Api::Anthropic] {
        let server = Server::start(api, [calls_say(api), Reply::Text("It says so.")]);
        let upstreams = format!("upstreams:\n{}", server.entry("far", ", models: [m]"));
        let program = start_in(Folder::new(), "commands: [/bin/echo]", &upstreams);
        made(&program, "/tools", &say());
        made(&program, "/integrations", &helper(&json!({ "provider": api.kind(), "model_name": "m" })));
        let answer = program.post("/v1/chat/completions", &chat("hello", &json!({ "stream": true })));
        assert_eq!((answer.status, said(&answer).as_str()), (200, "It says so."), "{answer:?}");
        assert_eq!(server.asked().len(), 2);
    }
}

#[test]
fn a_key_that_may_ask_it_needs_not_name_its_model() {
    let program = with_helper();
    let mut agent = Agent::connect(&program);
    let ask = |model: &str| {
        let body = json!({ "model": model, "messages": [{ "role": "user", "content": "hello" }] });
        program.request("POST", "/v1/chat/completions", Some(NARROW), &body.to_string())
    };
    assert_refused(&ask("m"), 404, Some("model_not_found"), Some("model"));
    let answer = thread::scope(|scope| {
        let asked = scope.spawn(|| ask("integration/helper"));
        let (id, _) = agent.invocation();
        agent.chunk(&id, 0, "hi");
        agent.finish(&id, 1);
        asked.join().unwrap()
    });
    assert_eq!((answer.status, said(&answer).as_str()), (200, "hi"), "{answer:?}");
}

#[test]
fn each_round_counts_to_the_limits_and_the_request_to_none() {
    let limits = "limits: { requests_per_minute: 1, burst: 2, exchanges: 1 }\n";
    let program = start_in(Folder::new(), "commands: [/bin/echo]", limits);
    made(&program, "/tools", &say());
    made(&program, "/integrations", &helper(&on_agent()));
    let mut agent = Agent::connect(&program);
    let answer = thread::scope(|scope| {
        let asked = scope.spawn(|| program.post("/v1/chat/completions", &chat("hello", &json!({}))));
        let (id, _) = agent.invocation();
        call_tools(&mut agent, &id, 0, &[("say", "{\"text\":\"word\"}")]);
        let (id, _) = agent.invocation();
        agent.chunk(&id, 0, "hi");
        agent.finish(&id, 1);
        asked.join().unwrap()
    });
    assert_eq!((answer.status, said(&answer).as_str()), (200, "hi"), "{answer:?}");
    let limited = program.post("/v1/chat/completions", &chat("hello", &json!({})));
    assert_refused(&limited, 429, Some("rate_limit_exceeded"), None);
    assert!(limited.header("retry-after").is_some(), "{limited:?}");
}

#[test]
fn one_whose_server_leads_back_here_is_found_out() {
    let aliases = "models: { aliases: { me: { model: integration/helper } } }\n";
    let program = start_in(Folder::new(), "commands: [/bin/echo], http: [\"127.0.0.1\"]", aliases);
    made(&program, "/tools", &say());
    let base = format!("http://{}/v1", program.address);
    made(&program, "/integrations", &helper(&json!({ "provider": "custom", "model_name": "me", "api_key": CLIENT, "base_url": base })));
    let answer = program.post("/v1/chat/completions", &chat("hello", &json!({})));
    assert_refused(&answer, 508, Some("loop_detected"), None);
}
