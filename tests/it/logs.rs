//! The log: one object a line for machines, one id through all lines of a request, and levels that change while it runs.

use crate::agent::Agent;
use crate::program::{Answer, CLIENT, OPERATOR, PATIENCE, Program};
use serde_json::{Value, json};
use std::io::Read;
use std::time::Instant;

/// The lines of the log, once one of them fits.
fn lines(program: &Program, fits: impl Fn(&Value) -> bool) -> Vec<Value> {
    let begun = Instant::now();
    loop {
        let log = program.log();
        let whole = log.rfind('\n').map_or("", |end| &log[..=end]);
        let lines: Vec<Value> = whole
            .lines()
            .map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}")))
            .collect();
        if lines.iter().any(&fits) {
            return lines;
        }
        assert!(begun.elapsed() < PATIENCE, "no such line in\n{log}");
        std::thread::yield_now();
    }
}

fn chat(program: &Program, play: impl FnOnce()) -> String {
    let body = json!({ "model": "m", "messages": [{ "role": "user", "content": "hi" }] });
    let body = body.to_string();
    let mut client = program.open("POST", "/v1/chat/completions", Some(CLIENT), &body);
    play();
    let mut bytes = Vec::new();
    client.read_to_end(&mut bytes).unwrap();
    let answer = Answer::parse(&bytes);
    answer.header("x-request-id").unwrap().to_owned()
}

#[test]
fn the_id_that_a_client_reads_is_in_every_line_about_its_request() {
    let program = Program::start("log: { level: trace }\n");
    let mut agent = Agent::connect(&program);
    let answered = chat(&program, || {
        let (id, _) = agent.invocation();
        agent.finish(&id, 0);
    });
    let failed = chat(&program, || {
        let (id, _) = agent.invocation();
        agent.send(&json!({ "type": "error", "id": id, "error": { "code": "model_error", "message": "no" } }));
    });
    let refused = program.request("POST", "/api/chat", Some(CLIENT), "{\"model\":7}");
    let refused = refused.header("x-request-id").unwrap();
    let unknown = program.request("POST", "/api/chat", Some("wrong"), "{}");
    let unknown = unknown.header("x-request-id").unwrap();
    let lines = lines(&program, |line| {
        line["message"] == "refused for its key" && line["request_id"] == *unknown
    });
    let about = |id: &str| -> Vec<(&str, &str)> {
        let own = lines.iter().filter(|line| line["request_id"] == *id);
        own.map(|line| {
            (
                line["level"].as_str().unwrap(),
                line["message"].as_str().unwrap(),
            )
        })
        .collect()
    };
    assert_eq!(
        about(&answered),
        [
            ("TRACE", "begun"),
            ("DEBUG", "admitted"),
            ("INFO", "answered")
        ]
    );
    assert_eq!(
        about(&failed),
        [
            ("TRACE", "begun"),
            ("DEBUG", "admitted"),
            ("WARN", "failed")
        ]
    );
    assert_eq!(about(refused), [("TRACE", "begun"), ("INFO", "refused")]);
    assert_eq!(about(unknown), [("WARN", "refused for its key")]);
    let told = lines.iter().find(|line| {
        line["request_id"] == *answered && line["level"] == "INFO"
    });
    let told = told.unwrap();
    let known = json!({
        "status": 200, "endpoint": "POST /v1/chat/completions", "model": "m", "agent": "it",
        "key": "editor", "prompt_tokens": 9, "completion_tokens": 3,
    });
    for (name, value) in known.as_object().unwrap() {
        assert_eq!(&told[name], value, "{name} of {told}");
    }
    assert!(told["duration_ms"].is_u64() && told["first_token_ms"].is_u64(), "{told}");
    for line in &lines {
        for name in ["timestamp", "level", "target"] {
            assert!(line[name].is_string(), "{line}");
        }
    }
}

#[test]
fn levels_change_while_it_runs() {
    let program = Program::start("log: { level: warn }\n");
    let level = |before: &str, after: &str| {
        let config = std::fs::read_to_string(&program.config).unwrap();
        let changed = config.replace(&format!("level: {before}"), &format!("level: {after}"));
        assert_ne!(changed, config);
        std::fs::write(&program.config, changed).unwrap();
        program.signal("HUP");
    };
    program.get("/v1/models");
    assert!(!program.log().contains("DEBUG"));
    level("warn", "debug");
    lines(&program, |line| {
        let message = line["message"].as_str().unwrap();
        message.starts_with("took the configuration over") && message.contains("the log's level")
    });
    let listed = program.get("/v1/models");
    let id = listed.header("x-request-id").unwrap();
    lines(&program, |line| {
        line["request_id"] == *id && line["level"] == "DEBUG"
    });
}

#[test]
fn people_may_have_text() {
    let program = Program::start("log: { level: debug, format: text }\n");
    let listed = program.get("/v1/models");
    let id = listed.header("x-request-id").unwrap();
    program.wait_for_log(id);
    let log = program.log();
    let line = log.lines().find(|line| line.contains(id)).unwrap();
    assert!(line.contains("DEBUG answered request_id="), "{line}");
    // Colour is for terminals.
    assert!(!line.contains('\u{1b}'), "{line:?}");
}

#[test]
fn the_log_may_go_to_a_file_that_others_put_aside() {
    let program = Program::start("log: { file: own.jsonl }\n");
    let path = program.folder.0.join("data/own.jsonl");
    let log = |path: &std::path::Path| std::fs::read_to_string(path).unwrap_or_default();
    // It is complete when the program says that it is ready.
    assert!(log(&path).contains("the configuration is "), "{}", log(&path));
    assert!(program.log().is_empty(), "{}", program.log());
    let aside = path.with_extension("1");
    std::fs::rename(&path, &aside).unwrap();
    let wrong = program.request("GET", "/v1/models", Some("wrong"), "");
    let id = wrong.header("x-request-id").unwrap();
    let begun = Instant::now();
    while !log(&path).contains(id) {
        assert!(begun.elapsed() < PATIENCE, "{} and {}", log(&path), log(&aside));
        std::thread::yield_now();
    }
    for line in log(&path).lines().chain(log(&aside).lines()) {
        serde_json::from_str::<Value>(line).unwrap();
    }
}

/// Reads a stream until it holds a text.
fn read_until(stream: &mut impl Read, text: &str) -> String {
    let mut bytes = Vec::new();
    let mut part = [0; 4096];
    while !String::from_utf8_lossy(&bytes).contains(text) {
        let count = stream.read(&mut part).unwrap();
        assert!(count > 0, "no `{text}` in {}", String::from_utf8_lossy(&bytes));
        bytes.extend_from_slice(&part[..count]);
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[test]
fn operators_read_the_latest_lines_and_follow_them_over_http() {
    // The second keeps what the first, whose output a person reads, keeps too.
    for form in ["json", "text"] {
        let program = Program::start(&format!("log: {{ format: {form} }}\n"));
        assert_eq!(program.get("/logs").status, 403);
        let mut following = program.open("GET", "/logs?follow=true&level=info", Some(OPERATOR), "");
        read_until(&mut following, "event: line");
        let refused = program.request("POST", "/api/chat", Some(CLIENT), "{\"model\":7}");
        let id = refused.header("x-request-id").unwrap().to_owned();
        let seen = read_until(&mut following, &format!("\"request_id\":\"{id}\""));
        assert!(seen.contains("id: ") && seen.contains("event: line\ndata: {\"timestamp\":"), "{seen}");
        let about = program.request("GET", &format!("/logs?request_id={id}"), Some(OPERATOR), "").json();
        let line = &about["lines"][0];
        assert_eq!((&line["request_id"], &line["fields"]["status"]), (&json!(id), &json!(400)), "{about}");
        let next = about["next"].as_u64().unwrap();
        let later = program.request("GET", &format!("/logs?since={next}&limit=1000"), Some(OPERATOR), "").json();
        assert!(later["lines"].as_array().unwrap().iter().all(|line| line["request_id"] != json!(id)), "{later}");
        let wrong = program.request("GET", "/logs?level=loud", Some(OPERATOR), "");
        assert_eq!((wrong.status, &wrong.json()["error"]["param"]), (400, &json!("level")));
        // A drain ends the stream, which keeps nothing alive.
        program.signal("TERM");
        let mut rest = Vec::new();
        following.read_to_end(&mut rest).unwrap();
    }
}
