//! Answers to clients when nothing fails.

use crate::agent::Agent;
use crate::program::{Answer, CLIENT, Program};
use serde_json::{Value, json};
use std::io::Read;

fn chat(stream: bool) -> Value {
    json!({ "model": "m", "stream": stream, "messages": [{ "role": "user", "content": "hello" }], "unknown_field": null })
}

#[test]
fn a_stream_comes_as_it_is_made_and_the_body_ends() {
    let program = Program::start("");
    let mut agent = Agent::connect(&program);
    let mut client = program.open(
        "POST",
        "/v1/chat/completions",
        Some(CLIENT),
        &chat(true).to_string(),
    );
    let (id, invocation) = agent.invocation();
    assert_eq!(invocation["payload"]["messages"][0]["content"], "hello");
    assert_eq!(invocation["payload"]["parameters"]["stream"], true);
    agent.chunk(&id, 0, "Hel");
    // The first chunk is there before the second is made.
    let mut seen = Vec::new();
    let mut buffer = [0; 4096];
    while !String::from_utf8_lossy(&seen).contains("Hel") {
        let count = client.read(&mut buffer).unwrap();
        assert!(count > 0, "{}", String::from_utf8_lossy(&seen));
        seen.extend_from_slice(&buffer[..count]);
    }
    agent.chunk(&id, 1, "lo\u{2028}");
    agent.finish(&id, 2);
    client.read_to_end(&mut seen).unwrap();
    let answer = crate::program::Answer::parse(&seen);
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("content-type"), Some("text/event-stream"));
    assert_eq!(answer.header("cache-control"), Some("no-cache"));
    assert_eq!(answer.header("x-accel-buffering"), Some("no"));
    assert_eq!(answer.header("x-session-id"), Some(&*agent.session));
    assert_eq!(answer.header("x-request-id"), Some(&*id));
    assert!(!answer.body.contains('\u{2028}'));
    assert!(answer.body.ends_with("data: [DONE]\n\n"));
    assert_eq!(answer.text(), "Hello\u{2028}");
    let events = answer.events();
    assert_eq!(events[0]["choices"][0]["delta"]["role"], "assistant");
    assert!(
        events
            .iter()
            .all(|event| event["id"] == events[0]["id"]
                && event["object"] == "chat.completion.chunk")
    );
    let finished: Vec<_> = events
        .iter()
        .filter(|event| !event["choices"][0]["finish_reason"].is_null())
        .collect();
    assert_eq!(finished.len(), 1);
    assert_eq!(finished[0]["choices"][0]["finish_reason"], "stop");
}

#[test]
fn a_whole_answer_is_the_fold_of_the_stream_in_both_dialects() {
    let program = Program::start("");
    let mut agent = Agent::connect(&program);
    for path in [
        "/v1/chat/completions",
        "/chat/completions",
        "/k/client-key-for-tests/v1/chat/completions",
        "/api/chat",
    ] {
        let body = chat(false).to_string();
        let key = (!path.starts_with("/k/")).then_some(CLIENT);
        let client = program.open("POST", path, key, &body);
        let (id, _) = agent.invocation();
        agent.chunk(&id, 0, "Hel");
        agent.chunk(&id, 1, "lo");
        agent.finish(&id, 2);
        let mut bytes = Vec::new();
        { client }.read_to_end(&mut bytes).unwrap();
        let answer = crate::program::Answer::parse(&bytes).json();
        if path == "/api/chat" {
            assert_eq!(answer["message"]["content"], "Hello");
            assert_eq!(
                (&answer["done"], &answer["done_reason"]),
                (&json!(true), &json!("stop"))
            );
            assert_eq!(answer["prompt_eval_count"], 9);
        } else {
            assert_eq!(answer["choices"][0]["message"]["content"], "Hello");
            assert_eq!(answer["choices"][0]["finish_reason"], "stop");
            assert_eq!(answer["usage"]["total_tokens"], 12);
        }
    }
}

#[test]
fn a_result_may_answer_a_stream_and_come_in_the_second_dialect() {
    let program = Program::start("");
    let mut agent = Agent::connect(&program);
    let mut client = program.open(
        "POST",
        "/api/generate",
        Some(CLIENT),
        &json!({ "model": "m:latest", "prompt": "hi" }).to_string(),
    );
    let (id, _) = agent.invocation();
    agent.send(&json!({ "type": "model_result", "id": id, "choices": [{ "index": 0, "message": { "role": "assistant", "content": "Hello" }, "finish_reason": "stop" }],
        "usage": { "prompt_tokens": 1, "completion_tokens": 2 } }));
    let mut bytes = Vec::new();
    client.read_to_end(&mut bytes).unwrap();
    let answer = crate::program::Answer::parse(&bytes);
    assert_eq!(answer.header("content-type"), Some("application/x-ndjson"));
    let lines: Vec<Value> = answer
        .body
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let text: String = lines
        .iter()
        .filter_map(|line| line["response"].as_str())
        .collect();
    assert_eq!(text, "Hello");
    assert_eq!(lines.last().unwrap()["done"], true);
    assert_eq!(lines.last().unwrap()["eval_count"], 2);
}

#[test]
fn lists_and_health_answer_without_an_agent_and_chat_says_what_to_do() {
    let program = Program::start(
        "models: { aliases: { my-gpt-4o: { model: m, context_length: 128000 } } }\n",
    );
    let models = program.get("/v1/models").json();
    assert_eq!(models["data"][0]["id"], "my-gpt-4o");
    assert_eq!(models["data"][0]["context_length"], 128_000);
    assert_eq!(
        program.get("/api/tags").json()["models"][0]["name"],
        "my-gpt-4o:latest"
    );
    assert_eq!(
        program.request("GET", "/health", None, "").json()["status"],
        "healthy"
    );
    assert_eq!(
        program.request("GET", "/", None, "").body,
        "Ollama is running"
    );
    let refused = program.post("/v1/chat/completions", &chat(true));
    assert_eq!(refused.status, 503);
    assert_eq!(refused.json()["error"]["code"], "no_agent");
    assert!(
        refused.json()["error"]["message"]
            .as_str()
            .unwrap()
            .contains("connect")
    );
    let _agent = Agent::connect(&program);
    let unknown = program.post(
        "/v1/chat/completions",
        &json!({ "model": "gpt-9", "messages": [{ "role": "user", "content": "x" }] }),
    );
    assert_eq!(
        (unknown.status, unknown.json()["error"]["code"].as_str()),
        (404, Some("model_not_found"))
    );
    assert!(
        unknown.json()["error"]["message"]
            .as_str()
            .unwrap()
            .contains("gpt-9")
    );
    let show = program.post("/api/show", &json!({ "model": "m" })).json();
    assert!(
        show["capabilities"]
            .as_array()
            .unwrap()
            .contains(&json!("tools")),
        "{show}"
    );
    let _filler = Agent::connect_as(
        &program,
        json!({ "agent_id": "f", "models": ["f"], "capabilities": { "insert": true, "context_length": 32_000 } }),
    );
    // Ollama's own client sends both names, and one of them empty.
    let show = program
        .post("/api/show", &json!({ "model": "", "name": "f:latest" }))
        .json();
    assert!(
        show["capabilities"]
            .as_array()
            .unwrap()
            .contains(&json!("insert")),
        "{show}"
    );
    assert!(show["template"].as_str().unwrap().contains(".Suffix"));
    assert_eq!(show["model_info"]["agent.context_length"], 32_000);
    assert_eq!(program.get("/v1/models/m:latest").json()["id"], "m");
    assert_eq!(program.get("/v1/models/none").status, 404);
}

#[test]
fn connections_are_kept_alive_and_requests_may_come_in_a_row() {
    let program = Program::start("");
    let request = "GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let mut stream = program.raw(&request.repeat(3));
    let mut seen = String::new();
    let mut buffer = [0; 4096];
    while seen.matches("\"status\":\"healthy\"").count() < 3 {
        let count = stream.read(&mut buffer).unwrap();
        assert!(count > 0, "{seen}");
        seen.push_str(std::str::from_utf8(&buffer[..count]).unwrap());
    }
    assert_eq!(seen.matches("HTTP/1.1 200").count(), 3);
}

#[test]
fn a_request_that_names_no_model_is_answered_in_every_dialect_by_one_that_it_names() {
    let program = Program::start("");
    let mut agent = Agent::connect(&program);
    let messages = json!([{ "role": "user", "content": "hi" }]);
    let named = |model: Option<Value>, mut body: Value| {
        if let Some(model) = model {
            body["model"] = model;
        }
        body["stream"] = false.into();
        body
    };
    for (path, body) in [
        ("/v1/chat/completions", json!({ "messages": messages })),
        ("/v1/completions", json!({ "prompt": "hi" })),
        ("/v1/responses", json!({ "input": "hi" })),
        (
            "/v1/messages",
            json!({ "messages": messages, "max_tokens": 9 }),
        ),
        ("/api/chat", json!({ "messages": messages })),
        ("/api/generate", json!({ "prompt": "hi" })),
    ] {
        for model in [
            None,
            Some(Value::Null),
            Some("".into()),
            Some("default".into()),
        ] {
            let body = named(model, body.clone()).to_string();
            let mut client = program.open("POST", path, Some(CLIENT), &body);
            let (id, invocation) = agent.invocation();
            assert_eq!(invocation["payload"]["model"], "m", "{path} {body}");
            agent.chunk(&id, 0, "hello");
            agent.finish(&id, 1);
            let mut bytes = Vec::new();
            client.read_to_end(&mut bytes).unwrap();
            let answer = crate::program::Answer::parse(&bytes);
            assert_eq!(answer.json()["model"], "m", "{path} {body}");
        }
    }
}

#[test]
fn a_stream_that_begins_while_its_request_waits_names_the_model_and_nothing_ignored() {
    let program = Program::start("timeouts: { first_event: 50ms }\nlimits: { queue: { wait: 60s } }\n");
    let registration = json!({ "agent_id": "it", "models": ["m"], "max_concurrency": 1, "capabilities": { "tools": true } });
    let mut agent = Agent::connect_as(&program, registration);
    let messages = json!([{ "role": "user", "content": "hi" }]);
    for (path, body) in [
        ("/v1/chat/completions", json!({ "messages": messages })),
        ("/v1/responses", json!({ "input": "hi" })),
        ("/v1/messages", json!({ "messages": messages, "max_tokens": 9 })),
        ("/api/chat", json!({ "messages": messages })),
    ] {
        for model in [None, Some("default")] {
            let mut body = body.clone();
            body["stream"] = true.into();
            body["temperature"] = 1.into();
            if let Some(model) = model {
                body["model"] = model.into();
            }
            let before = program.open("POST", "/v1/chat/completions", Some(CLIENT), &chat(true).to_string());
            let (first, _) = agent.invocation();
            let mut client = program.open("POST", path, Some(CLIENT), &body.to_string());
            let mut seen = vec![0; 16];
            // The head is there before the agent is asked.
            client.read_exact(&mut seen).unwrap();
            agent.finish(&first, 0);
            let (id, invocation) = agent.invocation();
            assert_eq!(invocation["payload"]["model"], "m", "{path} {body}");
            agent.chunk(&id, 0, "hello");
            agent.finish(&id, 1);
            client.read_to_end(&mut seen).unwrap();
            let answer = Answer::parse(&seen);
            assert_eq!(answer.header("x-ignored-parameters"), None, "{path} {body}");
            let named = answer.body.matches("\"model\":").count();
            assert!(named > 0, "{}", answer.body);
            assert_eq!(named, answer.body.matches("\"model\":\"m\"").count(), "{}", answer.body);
            drop(before);
        }
    }
    let counted = json!({ "model": "m", "max_tokens": 9, "temperature": 1, "messages": messages });
    let loaded = json!({ "model": "m", "options": { "temperature": 0.4 } });
    for (path, body) in [("/v1/messages/count_tokens", counted), ("/api/chat", loaded)] {
        let answer = program.post(path, &body);
        assert_eq!((answer.status, answer.header("x-ignored-parameters")), (200, None), "{path}");
    }
}

#[test]
fn what_may_have_been_a_stop_sequence_comes_before_what_follows_it() {
    let program = Program::start("");
    let mut agent = Agent::connect(&program);
    let messages = json!([{ "role": "user", "content": "hi" }]);
    let told = |agent: &mut Agent, stream: bool| {
        let thinking = json!({ "type": "enabled", "budget_tokens": 1024 });
        let body = json!({ "model": "m", "max_tokens": 2048, "thinking": thinking, "stream": stream, "messages": messages, "stop_sequences": ["\n\n"] });
        let mut client = program.open("POST", "/v1/messages", Some(CLIENT), &body.to_string());
        let (id, _) = agent.invocation();
        let call = json!({ "index": 0, "id": "c", "type": "function", "function": { "name": "look", "arguments": "{}" } });
        for (index, delta) in [
            json!({ "content": "Hm.\n" }),
            json!({ "reasoning_content": "why" }),
            json!({ "content": "\nLook.\n" }),
            json!({ "tool_calls": [call] }),
        ]
        .into_iter()
        .enumerate()
        {
            agent.send(&json!({ "type": "model_stream_chunk", "id": id, "chunk_index": index, "delta": delta, "finish_reason": null }));
        }
        let index = 4;
        agent.send(&json!({ "type": "model_stream_chunk", "id": id, "chunk_index": index, "delta": {}, "finish_reason": "tool_calls" }));
        let mut seen = Vec::new();
        client.read_to_end(&mut seen).unwrap();
        Answer::parse(&seen)
    };
    let whole = told(&mut agent, false).json();
    let text = |block: &&Value| block["type"] == "text";
    let blocks = whole["content"].as_array().unwrap();
    assert_eq!(blocks.iter().find(text).unwrap()["text"], "Hm.\n\nLook.\n");
    let streamed = told(&mut agent, true).body;
    let place = |part: &str| streamed.find(part).unwrap_or_else(|| panic!("no {part} in {streamed}"));
    assert!(place("Hm.") < place("why") && place("why") < place("Look."), "{streamed}");
    let last_text = streamed.rfind("text_delta").unwrap();
    assert!(last_text < place("tool_use"), "{streamed}");
}

#[test]
fn a_model_that_is_loaded_or_counted_for_must_exist() {
    let program = Program::start("models: { aliases: { other: m } }\n");
    let _agent = Agent::connect(&program);
    for (path, mut body) in [
        ("/api/generate", json!({})),
        ("/api/chat", json!({ "messages": [] })),
        (
            "/v1/messages/count_tokens",
            json!({ "messages": [{ "role": "user", "content": "x" }] }),
        ),
    ] {
        for (model, status) in [("m", 200), ("other", 200), ("", 200), ("mm", 404)] {
            body["model"] = model.into();
            let answer = program.post(path, &body);
            assert_eq!(answer.status, status, "{path} {model}: {}", answer.body);
            if status == 404 {
                assert!(
                    answer.body.contains("the nearest is `m`"),
                    "{}",
                    answer.body
                );
            }
        }
    }
}

#[test]
fn models_tell_what_is_behind_them() {
    let program = Program::start("models: { aliases: { other: m } }\n");
    let _agent = Agent::connect(&program);
    for (id, root) in [("m", "m"), ("other", "m")] {
        let model = program.get(&format!("/v1/models/{id}")).json();
        // The time of the registration, in seconds.
        assert!(model["created"].as_u64().unwrap() > 1_700_000_000, "{model}");
        assert_eq!(
            (
                &model["root"],
                &model["parent"],
                &model["permission"],
                &model["owned_by"]
            ),
            (&json!(root), &Value::Null, &json!([]), &json!("it"))
        );
    }
}

#[test]
fn the_routes_are_told_to_programs_and_to_people() {
    let program = Program::start("");
    let told = program.request("GET", "/openapi.json", None, "");
    assert_eq!(told.status, 200);
    assert!(told.json()["paths"]["/v1/chat/completions"]["post"].is_object());
    let page = program.request("GET", "/docs", None, "");
    assert_eq!(
        page.header("content-type"),
        Some("text/html; charset=utf-8")
    );
    assert!(page.body.contains("/api/chat"));
}

#[test]
fn a_name_that_nobody_knows_is_told_where_the_list_is_and_how_to_take_every_name() {
    let program = Program::start("");
    let _agent = Agent::connect(&program);
    let body = json!({ "model": "mm", "max_tokens": 9, "messages": [{ "role": "user", "content": "x" }] });
    for (method, path, list) in [
        ("POST", "/v1/chat/completions", "/v1/models"),
        ("POST", "/v1/messages", "/v1/models"),
        ("GET", "/v1/models/mm", "/v1/models"),
        ("POST", "/api/chat", "/api/tags"),
        ("POST", "/api/show", "/api/tags"),
    ] {
        let answer = program.request(method, path, Some(CLIENT), &body.to_string());
        assert_eq!(answer.status, 404, "{path}: {}", answer.body);
        let error = &answer.json()["error"];
        let message = error.as_str().or(error["message"].as_str()).unwrap();
        for part in [
            "`mm`",
            "the nearest is `m`",
            r#"`models.aliases: { "*": MODEL }`"#,
            &format!("GET {list} lists"),
        ] {
            assert!(message.contains(part), "{path}: {message}");
        }
        assert_eq!(message.matches(" lists ").count(), 1, "{message}");
    }
}

#[test]
fn the_alias_of_every_other_name_answers_to_any_in_every_dialect() {
    let program =
        Program::start("models: { aliases: { \"*\": { model: m, context_length: 7000 } } }\n");
    let mut agent = Agent::connect(&program);
    let body = json!({ "model": "llama3.2", "stream": false, "max_tokens": 9, "messages": [{ "role": "user", "content": "x" }] });
    for path in ["/v1/chat/completions", "/v1/messages", "/api/chat"] {
        let mut client = program.open("POST", path, Some(CLIENT), &body.to_string());
        let (id, invocation) = agent.invocation();
        assert_eq!(invocation["payload"]["model"], "m", "{path}");
        agent.finish(&id, 0);
        let mut bytes = Vec::new();
        client.read_to_end(&mut bytes).unwrap();
        assert_eq!(Answer::parse(&bytes).status, 200, "{path}");
    }
    // Clients look a model up before they ask it.
    let shown = program.post("/api/show", &body);
    assert_eq!(shown.status, 200, "{}", shown.body);
    assert_eq!(shown.json()["model_info"]["agent.context_length"], 7000);
    assert_eq!(program.get("/v1/models/llama3.2").json()["id"], "m");
    let listed = program.get("/v1/models").json();
    assert_eq!(listed["data"].as_array().unwrap().len(), 1, "{listed}");
}
