//! Keys that may use a part of the program only.

use crate::agent::Agent;
use crate::program::{Answer, BRIDGE, CLIENT, Folder, OPERATOR, Program, program, write_config};
use serde_json::{Value, json};
use std::io::Read;
use std::process::Command;

const NARROW: &str = "narrow-key-for-tests";
const TOOLS: &str = "tools-key-for-tests";

/// A program with a key for the models `a` and `nobody`, and one that is for no model at all.
fn start() -> Program {
    start_with(&format!(
        "    - {{ name: narrow, key: \"{NARROW}\", models: [nobody, a] }}\n    - {{ name: tools, key: \"{TOOLS}\", allow: [mcp] }}\n"
    ))
}

/// A program with further keys.
fn start_with(keys: &str) -> Program {
    let folder = Folder::new();
    let aliases = "models: { aliases: { other: b, mine: a } }\n";
    let config = write_config(&folder.0, "127.0.0.1:0", aliases);
    let text = std::fs::read_to_string(&config).unwrap();
    let keys = format!("  keys:\n{keys}");
    std::fs::write(&config, text.replacen("  keys:\n", &keys, 1)).unwrap();
    let mut command = Command::new(program());
    command.arg("--config").arg(&config);
    Program::spawn(command, folder, config)
}

fn names(list: &Value) -> Vec<&str> {
    let entries = list["data"].as_array().or(list["models"].as_array());
    entries
        .unwrap()
        .iter()
        .filter_map(|entry| entry["id"].as_str().or(entry["name"].as_str()))
        .collect()
}

#[test]
fn models_that_a_key_may_not_ask_do_not_exist_for_it() {
    let program = start();
    let mut agent = Agent::connect_as(&program, json!({ "agent_id": "x", "models": ["a"] }));
    let _other = Agent::connect_as(&program, json!({ "agent_id": "y", "models": ["b"] }));
    for (path, narrow, all) in [
        ("/v1/models", ["a", "mine"].as_slice(), 4),
        ("/api/tags", &["a:latest", "mine:latest"], 4),
        ("/api/v0/models", &["a", "mine"], 4),
        ("/api/ps", &["a:latest", "mine:latest"], 4),
    ] {
        let list = program.request("GET", path, Some(NARROW), "").json();
        assert_eq!(names(&list), narrow, "{path}");
        assert_eq!(names(&program.get(path).json()).len(), all, "{path}");
    }
    let status = |method, path, body: &Value| {
        let answer = program.request(method, path, Some(NARROW), &body.to_string());
        (answer.status, answer.body)
    };
    for (method, path, body) in [
        ("GET", "/v1/models/b", json!({})),
        ("POST", "/api/show", json!({ "model": "other" })),
        ("POST", "/api/generate", json!({ "model": "b" })),
        (
            "POST",
            "/api/chat",
            json!({ "model": "b", "messages": [{ "role": "user", "content": "x" }] }),
        ),
        (
            "POST",
            "/v1/completions",
            json!({ "model": "other", "prompt": "x" }),
        ),
    ] {
        let (status, body) = status(method, path, &body);
        assert_eq!(status, 404, "{path}: {body}");
    }
    for model in ["a", "mine", ""] {
        let body = json!({ "model": model, "messages": [{ "role": "user", "content": "x" }] });
        let path = "/v1/chat/completions";
        let mut client = program.open("POST", path, Some(NARROW), &body.to_string());
        let (id, invocation) = agent.invocation();
        assert_eq!(invocation["payload"]["model"], "a", "{model}");
        agent.finish(&id, 0);
        client.read_to_end(&mut Vec::new()).unwrap();
    }
}

#[test]
fn a_key_that_is_not_for_models_is_refused_by_that_name() {
    let program = start();
    for (method, path) in [
        ("POST", "/v1/chat/completions"),
        ("POST", "/api/generate"),
        ("POST", "/v1/messages"),
        ("GET", "/v1/models"),
        ("GET", "/api/tags"),
    ] {
        let refused = program.request(method, path, Some(TOOLS), "{}");
        assert_eq!(refused.status, 403, "{path}: {}", refused.body);
        assert!(refused.body.contains("`allow`"), "{}", refused.body);
        if path.starts_with("/v1/c") {
            assert_eq!(refused.json()["error"]["code"], "scope_denied");
        }
    }
    for (key, path) in [
        (CLIENT, "/v1/models"),
        (OPERATOR, "/v1/models"),
        (BRIDGE, "/v1/models"),
        (TOOLS, "/api/version"),
    ] {
        let answer = program.request("GET", path, Some(key), "");
        assert_eq!(answer.status, 200, "{key} {path}: {}", answer.body);
    }
}

#[test]
fn an_answer_names_the_model_that_its_key_may_ask_for() {
    let program = start_with(&format!("    - {{ name: narrow, key: \"{NARROW}\", models: [mine] }}\n"));
    let mut agent = Agent::connect_as(&program, json!({ "agent_id": "x", "models": ["a"] }));
    let messages = json!([{ "role": "user", "content": "x" }]);
    for (path, mut body) in [
        ("/v1/chat/completions", json!({ "messages": messages })),
        ("/v1/responses", json!({ "input": "x" })),
        ("/v1/messages", json!({ "messages": messages, "max_tokens": 9 })),
        ("/api/chat", json!({ "messages": messages, "stream": false })),
    ] {
        for model in [json!(null), json!("default"), json!("mine")] {
            body["model"] = model;
            let mut client = program.open("POST", path, Some(NARROW), &body.to_string());
            let (id, invocation) = agent.invocation();
            assert_eq!(invocation["payload"]["model"], "a", "{path} {body}");
            agent.chunk(&id, 0, "hello");
            agent.finish(&id, 1);
            let mut bytes = Vec::new();
            client.read_to_end(&mut bytes).unwrap();
            assert_eq!(Answer::parse(&bytes).json()["model"], "mine", "{path} {body}");
        }
    }
}

#[test]
fn a_key_that_a_path_cannot_hold_as_it_is_is_percent_encoded_there() {
    let key = "Zm9v/YmFy+YmF6==";
    let program = start_with(&format!("    - {{ name: odd, key: \"{key}\" }}\n"));
    let _agent = Agent::connect(&program);
    let get = |path: &str| program.request("GET", path, None, "");
    for path in ["/k/Zm9v%2FYmFy+YmF6==/v1/models", "/k/Zm9v%2fYmFy%2BYmF6%3D%3D/v1/models"] {
        assert_eq!(get(path).status, 200, "{path}");
    }
    assert_eq!(get("/k/Zm9v%2FYmFy/v1/models").status, 401);
    let unknown = get("/k/Zm9v/YmFy+YmF6==/v1/models");
    assert_eq!(unknown.status, 404);
    assert!(!unknown.body.contains("YmF") && unknown.body.contains("%2F"), "{}", unknown.body);
    assert!(!program.log().contains("YmFy"), "{}", program.log());
}
