//! Tests of an integration's rounds.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

use super::*;
use crate::Registry;
use crate::limits::Limits;
use crate::need::Exit;
use crate::permits::Anything;
use crate::store::Kind;
use serde_json::{Value, json};
use std::time::Duration;

const NOW: Instant = Instant::ZERO;

fn registry(kind: &str) -> Registry {
    let mut registry = Registry::new(Limits::default());
    let mut make = |kind, json: Value| {
        let made = registry.create(kind, json.to_string().as_bytes(), &Anything);
        made.unwrap_or_else(|it| panic!("{}", it.message));
    };
    let schema = json!({"type": "object", "required": ["q"]});
    make(
        Kind::Tool,
        json!([
            {"name": "find.it", "description": "Finds", "kind": "command", "command": ["/find", "{{ args.q }}"], "input_schema": schema, "timeout": 5},
            {"name": "off", "kind": "command", "command": ["/a"], "enabled": false},
        ]),
    );
    make(
        Kind::Resource,
        json!({"uri": "docs://a", "name": "a", "kind": "text", "text": "A"}),
    );
    make(
        Kind::Integration,
        json!({"name": "h", "type": kind, "model": {"provider": "agent", "model_name": "m", "parameters": {"temperature": 0, "top_p": 1}},
        "system": "Be brief.", "tools": ["find.it", "off"], "resources": ["docs://a"]}),
    );
    registry
}

fn rounds(kind: &str) -> Rounds {
    rounds_with(kind, r#"{"temperature":1,"stream":false}"#, false)
}

fn rounds_with(kind: &str, parameters: &str, cuts: bool) -> Rounds {
    let asked = AskedWith {
        messages: r#"[{"role":"user","content":"hi"}]"#,
        tools: Some(r#"[{"type":"function","function":{"name":"mine"}}]"#),
        parameters: Some(parameters),
        model: None,
        cuts,
    };
    Rounds::new(registry(kind).integration_set("h").unwrap(), asked, 0).unwrap()
}

fn asked(turn: Turn) -> Value {
    let Turn::Ask(body) = turn else {
        panic!("{turn:?}")
    };
    serde_json::from_str(&body).unwrap()
}

fn calls(names: &[&str]) -> Said {
    let calls = names.iter().enumerate().map(|(at, name)| ToolCall {
        id: format!("c{at}"),
        name: (*name).to_owned(),
        arguments: r#"{"q":"x"}"#.to_owned(),
    });
    Said {
        text: "let me see".into(),
        calls: calls.collect(),
        ..Said::default()
    }
}

fn printed(text: &str) -> Outcome {
    Outcome::Exited {
        exit: Exit::Code(0),
        stdout: text.into(),
        stderr: Vec::new(),
    }
}

#[test]
fn the_model_is_asked_with_what_the_integration_has() {
    let mut out = RoundsOut::default();
    let mut full = rounds("full");
    assert_eq!(full.start(&mut out), Turn::Working);
    let (id, need) = out.needs.start.remove(0);
    assert_eq!(need, Need::Read("docs://a".into()));
    let wall = mcp_local_provider_core::time::WallClock::new(NOW, Duration::ZERO);
    let crate::Reading::Ready(read) =
        registry("full").read(NOW, &wall, "docs://a", crate::ReaderId(0))
    else {
        panic!()
    };
    let body = asked(full.handle_outcome(NOW, id, Outcome::Read(read), &mut out));
    let find = json!({"type": "function", "function": {"name": "find_it", "description": "Finds", "parameters": {"type": "object", "required": ["q"]}}});
    let mine = json!({"type": "function", "function": {"name": "mine"}});
    assert_eq!(
        body,
        json!({"model": "m", "stream": true, "stream_options": {"include_usage": true}, "temperature": 1, "top_p": 1, "tools": [mine, find],
        "messages": [{"role": "system", "content": "Be brief.\n\ndocs://a\nA"}, {"role": "user", "content": "hi"}]})
    );
    let body = asked(rounds("model").start(&mut out));
    assert_eq!(body["tools"].as_array().unwrap().len(), 1);
    assert_eq!(body["messages"][0]["content"], "Be brief.");
}

#[test]
fn its_tools_run_here_and_the_callers_go_to_the_caller() {
    let mut out = RoundsOut::default();
    let mut rounds = rounds("tool");
    rounds.start(&mut out);
    assert_eq!(
        rounds.handle_said(NOW, calls(&["find_it", "find_it"]), &mut out),
        Turn::Working
    );
    let ids: Vec<NeedId> = out.needs.start.drain(..).map(|(id, _)| id).collect();
    assert_ne!(ids[0], ids[1]);
    assert_eq!(
        rounds.handle_outcome(NOW, ids[1], printed("two"), &mut out),
        Turn::Working
    );
    let body = asked(rounds.handle_outcome(NOW, ids[0], Outcome::TooLarge, &mut out));
    let messages = body["messages"].as_array().unwrap();
    assert_eq!(
        messages[2]["tool_calls"][0]["function"],
        json!({"name": "find_it", "arguments": "{\"q\":\"x\"}"})
    );
    assert_eq!(messages[3]["tool_call_id"], "c0");
    assert_eq!(
        messages[4],
        json!({"role": "tool", "tool_call_id": "c1", "content": "two"})
    );
    let events: Vec<(&str, ToolStatus)> =
        out.tools.iter().map(|it| (&*it.name, it.status)).collect();
    let (running, error) = (
        ("find.it", ToolStatus::Running),
        ("find.it", ToolStatus::Error),
    );
    assert_eq!(
        events,
        [running, running, ("find.it", ToolStatus::Ok), error]
    );
    let turn = rounds.handle_said(NOW, calls(&["mine", "find_it"]), &mut out);
    let Turn::Deliver {
        said,
        finish: Finish::ToolCalls,
    } = turn
    else {
        panic!()
    };
    assert_eq!(said.calls.len(), 1);
    assert_eq!(said.calls[0].name, "mine");
}

#[test]
fn a_call_that_must_be_made_is_made_once() {
    let of = |name: &str| json!({"type": "function", "function": {"name": name}});
    for (choice, stays) in [
        (json!("required"), false),
        (of("find_it"), false),
        (of("mine"), true),
        (json!("auto"), true),
        (json!("none"), true),
    ] {
        let parameters = json!({"tool_choice": choice}).to_string();
        let mut rounds = rounds_with("tool", &parameters, false);
        let mut out = RoundsOut::default();
        let first = asked(rounds.start(&mut out));
        assert_eq!(first["tool_choice"], choice);
        let turn = rounds.handle_said(NOW, calls(&["find_it"]), &mut out);
        assert_eq!(turn, Turn::Working);
        let (id, _) = out.needs.start.pop().unwrap();
        let next = asked(rounds.handle_outcome(NOW, id, printed("B"), &mut out));
        assert_eq!(next.get("tool_choice").is_some(), stays, "{choice}");
    }
}

#[test]
fn stop_sequences_are_left_to_whom_looks_for_them() {
    for (cuts, stop) in [(true, json!(null)), (false, json!(["END"]))] {
        let mut rounds = rounds_with("tool", r#"{"stop":["END"],"top_p":0.5}"#, cuts);
        let mut out = RoundsOut::default();
        let first = asked(rounds.start(&mut out));
        assert_eq!((&first["stop"], &first["top_p"]), (&stop, &json!(0.5)));
    }
}

#[test]
fn wrong_calls_are_told_to_the_model_and_ten_rounds_are_enough() {
    let mut out = RoundsOut::default();
    let mut rounds = rounds("tool");
    rounds.start(&mut out);
    for round in 1..10 {
        let mut said = calls(&["find_it"]);
        said.calls[0].arguments = ["{}", "no json", ""][round % 3].to_owned();
        let body = asked(rounds.handle_said(NOW, said, &mut out));
        let last = body["messages"].as_array().unwrap().last().unwrap();
        assert_eq!(last["role"], "tool");
        assert!(
            last["content"].as_str().unwrap().contains("arguments are"),
            "{last}"
        );
    }
    let turn = rounds.handle_said(NOW, calls(&["find_it"]), &mut out);
    let Turn::Deliver { said, finish } = turn else {
        panic!()
    };
    assert_eq!(
        (said.text.as_str(), said.calls.len(), finish),
        ("let me see", 0, Finish::Length)
    );
}

#[test]
fn a_cancel_and_a_time_out_end_what_is_open() {
    let mut out = RoundsOut::default();
    let mut late = rounds("tool");
    late.start(&mut out);
    late.handle_said(NOW, calls(&["find_it"]), &mut out);
    let (id, _) = out.needs.start.remove(0);
    let due = late.poll_timeout().unwrap();
    assert_eq!(due, NOW + Duration::from_secs(5));
    asked(late.handle_timeout(due, &mut out));
    assert_eq!(out.needs.end, [id]);
    let mut out = RoundsOut::default();
    let mut gone = rounds("full");
    gone.start(&mut out);
    let started: Vec<NeedId> = out.needs.start.iter().map(|(id, _)| *id).collect();
    gone.cancel(&mut out);
    assert_eq!(out.needs.end, started);
    gone.cancel(&mut out);
    assert_eq!(out.needs.end.len(), 1);
}
