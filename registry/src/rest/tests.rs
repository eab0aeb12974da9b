//! Tests of REST: bodies, statuses, errors, lists.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod changes;
mod contents;

use super::*;
use crate::limits::Limits;
use crate::need::{Exit, HttpAnswer, Need, Outcome};
use crate::permits::Permits;
use crate::run::Out;
use crate::store::Record;
use mcp_local_provider_core::time::{Instant, WallClock};
use serde_json::{Value, json};
use std::time::Duration;

/// Lists of a configuration.
struct Lists;

impl Permits for Lists {
    fn http(&self, scheme: &str, host: &str, port: u16) -> Result<(), String> {
        match (scheme, host, port) {
            ("https", "api.example.com", 443) => Ok(()),
            _ => Err(format!("`{host}` is not listed; add it to registry.http")),
        }
    }

    fn command(&self, path: &str) -> Result<(), String> {
        match path {
            "/bin/date" | "/bin/echo" => Ok(()),
            _ => Err(format!(
                "`{path}` is not listed; add it to registry.commands"
            )),
        }
    }

    fn file(&self, path: &str) -> Result<(), String> {
        match path.starts_with("/srv/docs") {
            true => Ok(()),
            false => Err(format!("`{path}` is below no folder of registry.files")),
        }
    }
}

const NOW: Instant = Instant::ZERO;

pub(crate) fn wall() -> WallClock {
    WallClock::new(NOW, Duration::from_secs(1_700_000_000))
}

fn registry() -> Registry {
    Registry::new(Limits::default())
}

fn request<'r>(route: Route, name: &'r str, query: &'r str, body: &'r [u8]) -> Request<'r> {
    Request {
        route,
        name,
        query,
        body,
        if_none_match: None,
    }
}

/// Sends a request; changes are durable at once, and runs are driven by `serve`.
fn send_with(
    registry: &mut Registry,
    request: Request<'_>,
    serve: &mut dyn FnMut(&Need) -> Outcome,
) -> Answer {
    match registry.rest(&request, &Lists) {
        Err(failure) => Answer::of(&failure),
        Ok(Step::Answer(answer)) => answer,
        Ok(Step::Change(changed, answer)) => {
            registry.durable(changed.id);
            answer
        }
        Ok(Step::Rekey(_)) => panic!("the store does that"),
        Ok(Step::Run(mut work, shown)) => {
            let mut out = Out::default();
            let mut ended = work.start(NOW, &mut out);
            while ended.is_none() {
                let (id, need) = out.start.remove(0);
                let outcome = match &need {
                    Need::Read(uri) => Outcome::Read(read(registry, uri, serve)),
                    need => serve(need),
                };
                ended = work.handle_outcome(NOW, id, outcome, &mut out);
            }
            shown.answer(ended.unwrap())
        }
        Ok(Step::Subscribe(session)) => panic!("{session:?} subscribes"),
        Ok(Step::Unsubscribe(session)) => panic!("{session} subscribes no more"),
    }
}

fn read(
    registry: &mut Registry,
    uri: &str,
    serve: &mut dyn FnMut(&Need) -> Outcome,
) -> Result<crate::Contents, Failure> {
    match registry.read(NOW, &wall(), uri, crate::ReaderId(1)) {
        crate::Reading::Ready(read) => read,
        crate::Reading::Begin(id, need) => {
            let outcome = serve(&need);
            let fetched = registry.fetched(NOW, &wall(), id, outcome);
            fetched.ready.into_iter().next().unwrap().1
        }
        crate::Reading::Wait(_) => panic!("nobody else reads"),
    }
}

fn send(registry: &mut Registry, route: Route, name: &str, body: Value) -> (u16, Value) {
    let body = if body.is_null() {
        String::new()
    } else {
        body.to_string()
    };
    let answer = send_with(
        registry,
        request(route, name, "", body.as_bytes()),
        &mut |need| panic!("{need:?} is not expected"),
    );
    (
        answer.status,
        serde_json::from_str(&answer.body).unwrap_or_default(),
    )
}

fn get(registry: &mut Registry, route: Route, name: &str, query: &str) -> (u16, Value) {
    let answer = send_with(registry, request(route, name, query, b""), &mut |need| {
        panic!("{need:?} is not expected")
    });
    (
        answer.status,
        serde_json::from_str(&answer.body).unwrap_or_default(),
    )
}

fn tool(name: &str) -> Value {
    json!({"name": name, "kind": "command", "command": ["/bin/date"]})
}

fn chain(name: &str, tools: &[&str]) -> Value {
    let steps = tools.iter().enumerate();
    let steps: Vec<Value> = steps
        .map(|(at, it)| json!({"id": format!("s{at}"), "tool": it}))
        .collect();
    json!({"name": name, "kind": "chain", "steps": steps})
}

const TOOL: Kind = Kind::Tool;

#[test]
fn a_definition_is_made_shown_replaced_and_deleted() {
    let mut registry = registry();
    let text = br#" { "name": "now", "kind": "command", "timeout": 5, "command": ["/bin/date"], "enabled": true } "#;
    let answer = send_with(
        &mut registry,
        request(Route::Create(TOOL), "", "", text),
        &mut |_| panic!(),
    );
    assert_eq!(answer.status, 201);
    assert_eq!(answer.location.as_deref(), Some("/tools/now"));
    let given =
        r#"{"name":"now","kind":"command","timeout":5,"command":["/bin/date"],"enabled":true}"#;
    assert_eq!(answer.body, given);
    let shown = send_with(
        &mut registry,
        request(Route::Show(TOOL), "now", "", b""),
        &mut |_| panic!(),
    );
    assert_eq!((shown.status, shown.body.as_str()), (200, given));
    let (status, body) = send(&mut registry, Route::Create(TOOL), "", tool("now"));
    assert_eq!(
        (status, &body["error"]["code"], &body["error"]["param"]),
        (409, &json!("conflict"), &json!("name"))
    );
    // PUT takes the name of the path.
    let without = json!({"kind": "command", "command": ["/bin/echo"]});
    let (status, body) = send(&mut registry, Route::Replace(TOOL), "now", without);
    assert_eq!(
        (status, &body["name"], &body["command"][0]),
        (200, &json!("now"), &json!("/bin/echo"))
    );
    let (status, body) = send(&mut registry, Route::Replace(TOOL), "now", tool("then"));
    assert_eq!((status, &body["error"]["param"]), (400, &json!("name")));
    let (status, body) = send(&mut registry, Route::Replace(TOOL), "other", tool("other"));
    assert_eq!(
        (status, &body["error"]["code"]),
        (404, &json!("tool_not_found"))
    );
    let (status, body) = send(&mut registry, Route::Delete(TOOL), "now", Value::Null);
    assert_eq!(
        (status, body),
        (200, json!({"name": "now", "status": "deleted"}))
    );
    let (status, _) = send(&mut registry, Route::Delete(TOOL), "now", Value::Null);
    assert_eq!(status, 404);
}

#[test]
fn an_array_is_made_as_a_whole_or_not_at_all() {
    let mut registry = registry();
    let (status, body) = send(
        &mut registry,
        Route::Create(TOOL),
        "",
        json!([chain("c", &["a"]), tool("a")]),
    );
    assert_eq!((status, body.as_array().unwrap().len()), (201, 2));
    for (array, status, param) in [
        (json!([tool("x"), tool("a")]), 409, "[1].name"),
        (json!([tool("x"), tool("x")]), 409, "[1].name"),
        (
            json!([tool("x"), {"name": "y y", "kind": "command", "command": ["/bin/date"]}]),
            400,
            "[1].name",
        ),
        (
            json!([tool("x"), chain("y", &["a", "none"])]),
            400,
            "[1].steps[1].tool",
        ),
        (json!([tool("x"), 5]), 400, "[1]"),
        (json!([]), 400, ""),
    ] {
        let (got, body) = send(&mut registry, Route::Create(TOOL), "", array.clone());
        assert_eq!(got, status, "{array}: {body}");
        assert_eq!(
            body["error"]["param"].as_str().unwrap_or_default(),
            param,
            "{array}"
        );
        let (_, list) = get(&mut registry, Route::List(TOOL), "", "");
        assert_eq!(list["total_count"], 2);
    }
}

#[test]
fn wrong_definitions_are_refused_with_their_place() {
    let cases = [
        (json!({"kind": "command", "command": ["/bin/date"]}), "name"),
        (
            json!({"name": "a__b", "kind": "command", "command": ["/bin/date"]}),
            "name",
        ),
        (json!({"name": "a", "command": ["/bin/date"]}), "kind"),
        (
            json!({"name": "a", "kind": "shell", "command": ["/bin/date"]}),
            "kind",
        ),
        (
            json!({"name": "a", "kind": "command", "comand": ["/bin/date"]}),
            "comand",
        ),
        (
            json!({"name": "a", "kind": "command", "command": ["/bin/sh"]}),
            "command[0]",
        ),
        (
            json!({"name": "a", "kind": "command", "command": ["/bin/date"], "timeout": 301}),
            "timeout",
        ),
        (
            json!({"name": "a", "kind": "command", "command": ["/bin/date"], "timeout": "6m"}),
            "timeout",
        ),
        (
            json!({"name": "a", "kind": "command", "command": ["/bin/date"], "enabled": "yes"}),
            "enabled",
        ),
        (
            json!({"name": "a", "kind": "command", "command": ["/bin/date"], "input_schema": {"type": "array"}}),
            "input_schema.type",
        ),
        (
            json!({"name": "a", "kind": "command", "command": ["/bin/date"], "input_schema": {"type": "object", "properties": {"a": {"type": "text"}}}}),
            "input_schema",
        ),
        (
            json!({"name": "a", "kind": "command", "command": ["/bin/date"], "input_schema": {"type": "object", "$ref": "https://example.com/s"}}),
            "input_schema",
        ),
        (
            json!({"name": "a", "kind": "http", "url": "https://evil.example.com/"}),
            "url",
        ),
        (
            json!({"name": "a", "kind": "http", "url": "http://api.example.com/"}),
            "url",
        ),
        (
            json!({"name": "a", "kind": "http", "url": "https://api.example.com/{{ args.a * 2 }}"}),
            "url",
        ),
        (
            json!({"name": "a", "kind": "prompt", "model": "m"}),
            "prompt",
        ),
        (
            json!({"name": "a", "kind": "prompt", "model": "m", "messages": [{"role": "tool", "content": ""}]}),
            "messages[0].role",
        ),
        (
            json!({"name": "a", "kind": "prompt", "model": "m", "prompt": "x", "parameters": {"stream": true}}),
            "parameters.stream",
        ),
        (
            json!({"name": "a", "kind": "gateway", "server": "registry", "tool": "x"}),
            "server",
        ),
        (
            json!({"name": "a", "kind": "gateway", "server": "s"}),
            "tool",
        ),
        (json!({"name": "a", "kind": "chain", "steps": []}), "steps"),
        (
            json!({"name": "a", "kind": "chain", "steps": [{"id": "x", "tool": "a"}]}),
            "steps[0].tool",
        ),
        (
            json!({"name": "a", "kind": "chain", "steps": [{"id": "x", "tool": "none"}]}),
            "steps[0].tool",
        ),
        (
            json!({"name": "a", "kind": "chain", "steps": [{"id": "x y", "tool": "t"}]}),
            "steps[0].id",
        ),
        (
            json!({"name": "a", "kind": "chain", "steps": [{"id": "x", "tool": "t", "if": "a ~ b"}]}),
            "steps[0].if",
        ),
        (
            json!({"name": "a", "kind": "chain", "steps": [{"id": "x", "tool": "t", "on_error": "retry"}]}),
            "steps[0].on_error",
        ),
        (
            json!({"name": "a", "kind": "chain", "steps": vec![json!({"id": "x", "tool": "t"}); 33]}),
            "steps",
        ),
        (
            json!({"name": "a", "kind": "chain", "steps": vec![json!({"id": "x", "tool": "t"}); 2]}),
            "steps[1].id",
        ),
        (
            json!({"name": "a", "kind": "parallel", "branches": [{"id": "x", "tool": "t", "if": "true"}]}),
            "branches[0].if",
        ),
        (
            json!({"name": "a", "kind": "parallel", "need": "one", "branches": [{"id": "x", "tool": "t"}]}),
            "need",
        ),
    ];
    let mut registry = registry();
    send(&mut registry, Route::Create(TOOL), "", tool("t"));
    for (definition, param) in cases {
        let (status, body) = send(&mut registry, Route::Create(TOOL), "", definition.clone());
        assert_eq!(status, 400, "{definition}: {body}");
        assert_eq!(body["error"]["param"], json!(param), "{definition}: {body}");
        assert_eq!(body["error"]["type"], "invalid_request_error");
    }
    for body in [&b"{"[..], b"\xff", b"", b"5"] {
        let answer = send_with(
            &mut registry,
            request(Route::Create(TOOL), "", "", body),
            &mut |_| panic!(),
        );
        assert_eq!(answer.status, 400);
    }
}

#[test]
fn circles_and_depth_are_refused() {
    let mut registry = registry();
    send(
        &mut registry,
        Route::Create(TOOL),
        "",
        json!([tool("t"), chain("a", &["t"]), chain("b", &["a"])]),
    );
    let (status, body) = send(&mut registry, Route::Replace(TOOL), "a", chain("a", &["b"]));
    assert_eq!(
        (status, &body["error"]["param"]),
        (400, &json!("steps[0].tool")),
        "{body}"
    );
    let (_, shown) = get(&mut registry, Route::Show(TOOL), "a", "");
    assert_eq!(shown, chain("a", &["t"]));
    for depth in 3..8 {
        let below = if depth == 3 {
            "b".to_owned()
        } else {
            format!("d{}", depth - 1)
        };
        let (status, body) = send(
            &mut registry,
            Route::Create(TOOL),
            "",
            chain(&format!("d{depth}"), &[&below]),
        );
        assert_eq!(status, 201, "{depth}: {body}");
    }
    let (status, body) = send(&mut registry, Route::Create(TOOL), "", chain("e", &["d7"]));
    assert_eq!(
        (status, &body["error"]["param"]),
        (400, &json!("steps[0].tool")),
        "{body}"
    );
    // What is below gets deeper.
    let (status, _) = send(
        &mut registry,
        Route::Replace(TOOL),
        "t",
        chain("t", &["none"]),
    );
    assert_eq!(status, 400);
    send(&mut registry, Route::Create(TOOL), "", tool("u"));
    let (status, _) = send(&mut registry, Route::Replace(TOOL), "t", chain("t", &["u"]));
    assert_eq!(status, 400);
    // 32 * 32 steps are as many as may be.
    let wide = |name: &str, below: &str| chain(name, &[below; 32]);
    let (status, body) = send(
        &mut registry,
        Route::Create(TOOL),
        "",
        json!([wide("w1", "u"), wide("w2", "w1")]),
    );
    assert_eq!(status, 201, "{body}");
    let (status, body) = send(
        &mut registry,
        Route::Create(TOOL),
        "",
        chain("w3", &["w2", "u"]),
    );
    assert_eq!(
        (status, &body["error"]["param"]),
        (400, &json!("steps[1].tool")),
        "{body}"
    );
}

#[test]
fn what_is_in_use_is_deleted_by_force_alone() {
    let mut registry = registry();
    send(
        &mut registry,
        Route::Create(TOOL),
        "",
        json!([tool("t"), chain("c", &["t"])]),
    );
    let (status, body) = send(&mut registry, Route::Delete(TOOL), "t", Value::Null);
    assert_eq!((status, &body["error"]["code"]), (409, &json!("conflict")));
    let (status, _) = get(&mut registry, Route::Delete(TOOL), "t", "force=true");
    assert_eq!(status, 200);
    let (status, body) = send(&mut registry, Route::Execute, "c", Value::Null);
    assert_eq!((status, &body["is_error"]), (200, &json!(true)));
    assert_eq!(body["steps"][0]["status"], "error");
}

#[test]
fn lists_have_pages_by_name() {
    let mut registry = registry();
    let tools: Vec<Value> = (0..25).rev().map(|at| tool(&format!("t{at:02}"))).collect();
    send(&mut registry, Route::Create(TOOL), "", json!(tools));
    let (status, first) = get(&mut registry, Route::List(TOOL), "", "limit=10");
    assert_eq!((status, &first["total_count"]), (200, &json!(25)));
    assert_eq!(first["tools"][9]["name"], "t09");
    let query = format!("limit=20&cursor={}", first["next_cursor"].as_str().unwrap());
    let (_, second) = get(&mut registry, Route::List(TOOL), "", &query);
    assert_eq!(second["tools"].as_array().unwrap().len(), 15);
    assert_eq!(
        (&second["tools"][0]["name"], &second["next_cursor"]),
        (&json!("t10"), &Value::Null)
    );
    for bad in ["limit=0", "limit=1001", "limit=x", "cursor=%21", "limit=%"] {
        let (status, _) = get(&mut registry, Route::List(TOOL), "", bad);
        assert_eq!(status, 400, "{bad}");
    }
}

#[test]
fn a_full_registry_refuses_and_goes_on() {
    let limits = Limits {
        tools: 2,
        bytes: 600,
        ..Limits::default()
    };
    let mut registry = Registry::new(limits);
    let (status, body) = send(
        &mut registry,
        Route::Create(TOOL),
        "",
        json!([tool("a"), tool("b"), tool("c")]),
    );
    assert_eq!(
        (status, &body["error"]["code"]),
        (503, &json!("registry_full"))
    );
    send(
        &mut registry,
        Route::Create(TOOL),
        "",
        json!([tool("a"), tool("b")]),
    );
    let (status, body) = send(&mut registry, Route::Create(TOOL), "", tool("c"));
    assert_eq!(
        (status, &body["error"]["code"]),
        (503, &json!("registry_full"))
    );
    assert_eq!(
        send(&mut registry, Route::Replace(TOOL), "a", tool("a")).0,
        200
    );
    let text = json!({"uri": "docs://a", "name": "a", "kind": "text", "text": "x".repeat(600)});
    let (status, _) = send(&mut registry, Route::Create(Kind::Resource), "", text);
    assert_eq!(status, 503);
}

#[test]
fn a_tool_runs_and_its_arguments_are_checked() {
    let mut registry = registry();
    let definition = json!({"name": "greet", "kind": "command", "command": ["/bin/echo", "{{ args.name }}"],
        "input_schema": {"type": "object", "properties": {"name": {"type": "string"}, "n": {"type": "integer"}}, "required": ["name"]}});
    send(&mut registry, Route::Create(TOOL), "", definition);
    for (arguments, path) in [
        (json!({}), ""),
        (json!({"name": 5}), "/name"),
        (json!({"name": "x", "n": "y"}), "/n"),
    ] {
        let (status, body) = send(
            &mut registry,
            Route::Execute,
            "greet",
            json!({"arguments": arguments}),
        );
        assert_eq!(
            (status, &body["error"]["code"]),
            (400, &json!("invalid_arguments"))
        );
        assert_eq!(body["error"]["errors"][0]["path"], json!(path), "{body}");
    }
    let body = json!({"arguments": {"name": "a b"}, "timeout": "5s"}).to_string();
    let answer = send_with(
        &mut registry,
        request(Route::Execute, "greet", "", body.as_bytes()),
        &mut |need| {
            let Need::Command(command) = need else {
                panic!()
            };
            assert_eq!(command.argv, ["/bin/echo", "a b"]);
            Outcome::Exited {
                exit: Exit::Code(0),
                stdout: b"a b\n".to_vec(),
                stderr: Vec::new(),
            }
        },
    );
    let body: Value = serde_json::from_str(&answer.body).unwrap();
    assert_eq!(
        body,
        json!({"tool": "greet", "content": [{"type": "text", "text": "a b\n"}], "is_error": false, "duration_ms": 0})
    );
    for bad in [
        json!({"timeout": 301}),
        json!({"arguments": []}),
        json!({"argument": {}}),
    ] {
        assert_eq!(send(&mut registry, Route::Execute, "greet", bad).0, 400);
    }
    let disabled =
        json!({"name": "off", "kind": "command", "command": ["/bin/date"], "enabled": false});
    send(&mut registry, Route::Create(TOOL), "", disabled);
    let (status, body) = send(&mut registry, Route::Execute, "off", Value::Null);
    assert_eq!((status, &body["error"]["code"]), (409, &json!("disabled")));
    assert_eq!(
        send(&mut registry, Route::Execute, "none", Value::Null).0,
        404
    );
}
