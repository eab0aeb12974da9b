//! Tests of the registry as an MCP server.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

use super::*;
use crate::limits::Limits;
use crate::need::{Exit, Need, Outcome};
use crate::permits::Anything;
use crate::run::Out;
use mcp_local_provider_core::time::{Instant, WallClock};
use serde_json::json;
use std::time::Duration;

const NOW: Instant = Instant::ZERO;

fn registry() -> Registry {
    let mut registry = Registry::new(Limits::default());
    let mut make = |kind, json: Value| {
        let made = registry.create(kind, json.to_string().as_bytes(), &Anything);
        let made = made.unwrap_or_else(|it| panic!("{}", it.message));
        registry.durable(made.id);
    };
    let schema = json!({"type": "object", "required": ["a"]});
    make(
        Kind::Tool,
        json!({"name": "echo", "title": "Echo", "kind": "command", "command": ["/bin/echo", "{{ args.a }}"], "input_schema": schema, "annotations": {"readOnlyHint": true}}),
    );
    make(
        Kind::Tool,
        json!({"name": "off", "kind": "command", "command": ["/bin/echo"], "enabled": false}),
    );
    make(
        Kind::Tool,
        json!({"name": "words", "kind": "command", "command": ["/usr/bin/words", "{{ args.value }}"]}),
    );
    make(
        Kind::Resource,
        json!({"uri": "docs://a", "name": "a", "kind": "text", "text": "A"}),
    );
    make(
        Kind::Resource,
        json!({"uri_template": "docs://{id}/x", "name": "x", "kind": "text", "text": "X {{ args.id }}"}),
    );
    make(
        Kind::Prompt,
        json!({"name": "p", "arguments": [{"name": "n", "type": "integer", "required": true}, {"name": "w", "complete": {"tool": "words"}}],
        "messages": [{"role": "system", "content": "S"}, {"role": "user", "content": "{{ n + 1 }}"}]}),
    );
    registry
}

fn ask(registry: &mut Registry, method: &str, params: Value, outcome: Option<Outcome>) -> Value {
    let text = json!({"jsonrpc": "2.0", "id": "i", "method": method, "params": params}).to_string();
    let message = Message::read(&text).unwrap();
    let answer = match registry.serve(NOW, &message, SubscriberId(1)) {
        Served::Nothing => panic!("no answer"),
        Served::Answer(answer) => answer,
        Served::Cancel(id) => panic!("{id}"),
        Served::Run(mut work, asked) => {
            let mut out = Out::default();
            let mut ended = work.start(NOW, &mut out);
            if ended.is_none() {
                let (id, need) = out.start.remove(0);
                let outcome = match need {
                    Need::Read(uri) => {
                        let wall = WallClock::new(NOW, Duration::ZERO);
                        match registry.read(NOW, &wall, &uri, crate::ReaderId(0)) {
                            crate::Reading::Ready(read) => Outcome::Read(read),
                            other => panic!("{other:?}"),
                        }
                    }
                    _ => outcome.unwrap(),
                };
                ended = work.handle_outcome(NOW, id, outcome, &mut out);
            }
            asked.answer(ended.unwrap())
        }
    };
    assert!(!answer.contains('\n'));
    let answer: Value = serde_json::from_str(&answer).unwrap();
    assert_eq!(answer["id"], "i");
    answer
}

fn printed(text: &str) -> Option<Outcome> {
    Some(Outcome::Exited {
        exit: Exit::Code(0),
        stdout: text.into(),
        stderr: Vec::new(),
    })
}

#[test]
fn it_greets_and_lists() {
    let mut registry = registry();
    let hello = ask(
        &mut registry,
        "initialize",
        json!({"protocolVersion": "2025-06-18"}),
        None,
    );
    assert_eq!(hello["result"]["protocolVersion"], "2025-06-18");
    assert_eq!(
        hello["result"]["capabilities"]["resources"],
        json!({"subscribe": true, "listChanged": true})
    );
    let hello = ask(
        &mut registry,
        "initialize",
        json!({"protocolVersion": "1"}),
        None,
    );
    assert_eq!(hello["result"]["protocolVersion"], "2025-11-25");
    assert_eq!(
        ask(&mut registry, "ping", json!({}), None)["result"],
        json!({})
    );
    let tools = ask(&mut registry, "tools/list", json!({}), None);
    let tools = tools["result"]["tools"].as_array().unwrap();
    assert_eq!(tools.len(), 2);
    assert_eq!(
        tools[0],
        json!({"name": "echo", "title": "Echo", "inputSchema": {"type": "object", "required": ["a"]}, "annotations": {"readOnlyHint": true}})
    );
    assert_eq!(tools[1]["inputSchema"], json!({"type": "object"}));
    let list = ask(&mut registry, "resources/list", json!({}), None);
    assert_eq!(
        list["result"],
        json!({"resources": [{"uri": "docs://a", "name": "a", "mimeType": "text/plain", "size": 1}]})
    );
    let list = ask(&mut registry, "resources/templates/list", json!({}), None);
    assert_eq!(
        list["result"]["resourceTemplates"][0]["uriTemplate"],
        "docs://{id}/x"
    );
    let list = ask(&mut registry, "prompts/list", json!({}), None);
    assert_eq!(
        list["result"]["prompts"][0]["arguments"][0],
        json!({"name": "n", "required": true})
    );
    for (method, params, code) in [
        ("tools/list", json!({"cursor": "%"}), -32602),
        ("tools/list", json!({"cursor": 5}), -32602),
        ("logging/setLevel", json!({}), -32601),
        ("server/discover", json!({}), -32601),
    ] {
        assert_eq!(
            ask(&mut registry, method, params, None)["error"]["code"],
            code,
            "{method}"
        );
    }
}

#[test]
fn tools_run_and_wrong_arguments_are_results() {
    let mut registry = registry();
    let call =
        |registry: &mut Registry, params, outcome| ask(registry, "tools/call", params, outcome);
    let good = call(
        &mut registry,
        json!({"name": "echo", "arguments": {"a": "x"}}),
        printed("x"),
    );
    assert_eq!(
        good["result"],
        json!({"content": [{"type": "text", "text": "x"}], "isError": false})
    );
    let bad = call(
        &mut registry,
        json!({"name": "echo", "arguments": {}}),
        None,
    );
    assert_eq!(bad["result"]["isError"], true);
    let late = call(
        &mut registry,
        json!({"name": "echo", "arguments": {"a": 1}}),
        Some(Outcome::TimedOut),
    );
    assert_eq!(late["result"]["isError"], true);
    for params in [
        json!({"name": "none"}),
        json!({"name": "off"}),
        json!({}),
        json!({"name": "echo", "arguments": []}),
    ] {
        assert_eq!(call(&mut registry, params, None)["error"]["code"], -32602);
    }
}

#[test]
fn resources_prompts_and_completions() {
    let mut registry = registry();
    let read = ask(
        &mut registry,
        "resources/read",
        json!({"uri": "docs://5/x"}),
        None,
    );
    assert_eq!(
        read["result"]["contents"][0],
        json!({"uri": "docs://5/x", "mimeType": "text/plain", "text": "X 5"})
    );
    let none = ask(
        &mut registry,
        "resources/read",
        json!({"uri": "docs://none"}),
        None,
    );
    assert_eq!(
        (&none["error"]["code"], &none["error"]["data"]["uri"]),
        (&json!(-32002), &json!("docs://none"))
    );
    assert_eq!(
        ask(
            &mut registry,
            "resources/subscribe",
            json!({"uri": "docs://a"}),
            None
        )["result"],
        json!({})
    );
    assert_eq!(
        ask(
            &mut registry,
            "resources/subscribe",
            json!({"uri": "x"}),
            None
        )["error"]["code"],
        -32002
    );
    let text =
        |role: &str, text: &str| json!({"role": role, "content": {"type": "text", "text": text}});
    let got = ask(
        &mut registry,
        "prompts/get",
        json!({"name": "p", "arguments": {"n": "4"}}),
        None,
    );
    assert_eq!(
        got["result"]["messages"],
        json!([text("user", "S"), text("user", "5")])
    );
    for params in [
        json!({"name": "none"}),
        json!({"name": "p"}),
        json!({"name": "p", "arguments": {"n": "x"}}),
    ] {
        assert_eq!(
            ask(&mut registry, "prompts/get", params, None)["error"]["code"],
            -32602
        );
    }
    let complete = |name: &str| json!({"ref": {"type": "ref/prompt", "name": "p"}, "argument": {"name": name, "value": "a"}});
    let values = ask(
        &mut registry,
        "completion/complete",
        complete("w"),
        printed("alpha\nbeta\n"),
    );
    assert_eq!(
        values["result"]["completion"],
        json!({"values": ["alpha", "beta"], "total": 2, "hasMore": false})
    );
    assert_eq!(
        ask(&mut registry, "completion/complete", complete("none"), None)["error"]["code"],
        -32602
    );
    let resource = json!({"ref": {"type": "ref/resource", "uri": "docs://{id}/x"}, "argument": {"name": "id", "value": ""}});
    assert_eq!(
        ask(&mut registry, "completion/complete", resource, None)["result"]["completion"]["total"],
        0
    );
}

#[test]
fn a_change_announces_its_list_and_its_resource_once_it_is_durable() {
    let mut registry = registry();
    let listener = SubscriberId(1);
    registry.listen(listener);
    ask(
        &mut registry,
        "resources/subscribe",
        json!({"uri": "docs://a"}),
        None,
    );
    let tool = registry.delete(Kind::Tool, "off", false).unwrap();
    assert!(registry.fresh().is_empty() && registry.news(listener) == News::default());
    registry.durable(tool.id);
    assert_eq!(registry.fresh().into_iter().collect::<Vec<_>>(), [listener]);
    assert_eq!(
        registry.news(listener).notifications(),
        [r#"{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}"#]
    );
    let resource = registry.delete(Kind::Resource, "docs://a", false).unwrap();
    registry.undo(resource.id);
    assert_eq!(
        registry.news(listener).notifications(),
        [
            r#"{"jsonrpc":"2.0","method":"notifications/resources/list_changed"}"#,
            r#"{"jsonrpc":"2.0","method":"notifications/resources/updated","params":{"uri":"docs://a"}}"#
        ]
    );
    assert_eq!(registry.news(listener), News::default());
    let text = r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#;
    assert!(matches!(
        registry.serve(NOW, &Message::read(text).unwrap(), listener),
        Served::Nothing
    ));
    let text = r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":7}}"#;
    let cancelled = registry.serve(NOW, &Message::read(text).unwrap(), listener);
    assert!(matches!(cancelled, Served::Cancel(id) if id == "7"));
}
