//! Tests of REST: bodies, statuses, errors, lists.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

use super::*;
use crate::limits::Limits;
use crate::need::{Exit, HttpAnswer, Need, Outcome};
use crate::permits::Permits;
use crate::run::Out;
use crate::store::Record;
use mcp_local_provider_core::time::{Instant, WallClock};
use proptest::prelude::*;
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
        Ok(Step::Run(mut run)) => {
            let mut out = Out::default();
            let mut answer = run.start(NOW, &mut out);
            while answer.is_none() {
                let (id, need) = out.start.remove(0);
                let outcome = match &need {
                    Need::Read(uri) => Outcome::Read(read(registry, uri, serve)),
                    need => serve(need),
                };
                answer = run.handle_outcome(NOW, id, outcome, &mut out);
            }
            answer.unwrap()
        }
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

#[test]
fn resources_are_read_from_where_they_are() {
    let mut registry = registry();
    let resources = json!([
        {"uri": "docs://text", "name": "text", "kind": "text", "text": "héllo {{ x }}", "mime_type": "text/markdown"},
        {"uri": "docs://blob", "name": "blob", "kind": "blob", "blob": "AAH/"},
        {"uri": "docs://file", "name": "file", "kind": "file", "path": "/srv/docs/a.txt"},
        {"uri_template": "user://{id}", "name": "user", "kind": "http", "url": "https://api.example.com/users/{{ args.id | urlencode }}"},
        {"uri_template": "hello://{name}", "name": "hello", "kind": "text", "text": "Hello {{ args.name }}"},
    ]);
    let (status, body) = send(&mut registry, Route::Create(Kind::Resource), "", resources);
    assert_eq!(status, 201, "{body}");
    let (_, list) = get(&mut registry, Route::List(Kind::Resource), "", "");
    assert_eq!(list["total_count"], 3);
    assert_eq!(
        list["resources"][0],
        json!({"uri": "docs://blob", "name": "blob", "kind": "blob", "size": 3})
    );
    let (_, list) = get(&mut registry, Route::List(Kind::ResourceTemplate), "", "");
    assert_eq!(list["resource_templates"].as_array().unwrap().len(), 2);
    let show = Route::Show(Kind::Resource);
    let (_, text) = get(&mut registry, show, "docs://text", "");
    assert_eq!(
        (&text["text"], &text["size"], &text["mime_type"]),
        (&json!("héllo {{ x }}"), &json!(14), &json!("text/markdown"))
    );
    assert_eq!(
        (&text["cached"], &text["stale"], &text["fetched_at"]),
        (
            &json!(false),
            &json!(false),
            &json!("2023-11-14T22:13:20.000000Z")
        )
    );
    let (_, blob) = get(&mut registry, show, "docs://blob", "");
    assert_eq!((&blob["blob"], &blob["size"]), (&json!("AAH/"), &json!(3)));
    let (_, hello) = get(&mut registry, show, "hello://a%20b", "");
    assert_eq!(
        (&hello["text"], &hello["uri"]),
        (&json!("Hello a b"), &json!("hello://a%20b"))
    );
    let mut asked = Vec::new();
    for at in 0..2 {
        let answer = send_with(
            &mut registry,
            request(show, "user://a%2Fb", "", b""),
            &mut |need| {
                let Need::Http(http) = need else { panic!() };
                asked.push(http.url.clone());
                Outcome::Http(HttpAnswer {
                    status: 200,
                    content_type: Some("application/json".into()),
                    etag: Some("\"v1\"".into()),
                    body: b"{}".to_vec(),
                })
            },
        );
        let body: Value = serde_json::from_str(&answer.body).unwrap();
        assert_eq!(
            (&body["mime_type"], &body["cached"]),
            (&json!("application/json"), &json!(at == 1))
        );
        assert_eq!(answer.etag.as_deref(), Some("\"v1\""));
    }
    assert_eq!(asked, ["https://api.example.com/users/a%2Fb"]);
    let known = Request {
        if_none_match: Some("W/\"v1\", \"x\""),
        ..request(show, "user://a%2Fb", "", b"")
    };
    let answer = send_with(&mut registry, known, &mut |_| panic!());
    assert_eq!((answer.status, answer.body.as_str()), (304, ""));
    let answer = send_with(
        &mut registry,
        request(show, "docs://file", "", b""),
        &mut |need| {
            assert_eq!(need, &Need::File("/srv/docs/a.txt".into()));
            Outcome::Failed("no such file".into())
        },
    );
    assert_eq!(answer.status, 502);
    assert_eq!(get(&mut registry, show, "docs://none", "").0, 404);
    let (status, body) = send(
        &mut registry,
        Route::Delete(Kind::Resource),
        "hello://{name}",
        Value::Null,
    );
    assert_eq!(
        (status, body),
        (
            200,
            json!({"uri_template": "hello://{name}", "status": "deleted"})
        )
    );
    for (bad, param) in [
        (
            json!({"uri": "docs", "name": "a", "kind": "text", "text": ""}),
            "uri",
        ),
        (
            json!({"uri": "a:b", "uri_template": "a:{b}", "name": "a", "kind": "text", "text": ""}),
            "uri_template",
        ),
        (
            json!({"uri_template": "a:b", "name": "a", "kind": "text", "text": ""}),
            "uri_template",
        ),
        (
            json!({"uri": "a:b", "name": "a", "kind": "blob", "blob": "A"}),
            "blob",
        ),
        (
            json!({"uri": "a:b", "name": "a", "kind": "file", "path": "/etc/passwd"}),
            "path",
        ),
        (
            json!({"uri": "a:b", "name": "a", "kind": "file", "path": "/srv/docs/{{ args.a }}"}),
            "path",
        ),
        (
            json!({"uri": "a:b", "name": "a", "kind": "http", "url": "https://evil/"}),
            "url",
        ),
        (
            json!({"uri": "a:b", "name": "a", "kind": "text", "text": "", "ttl": 301}),
            "ttl",
        ),
        (
            json!({"uri": "a:b", "name": "a", "kind": "text", "text": "", "path": "x"}),
            "path",
        ),
    ] {
        let (status, body) = send(
            &mut registry,
            Route::Create(Kind::Resource),
            "",
            bad.clone(),
        );
        assert_eq!(
            (status, &body["error"]["param"]),
            (400, &json!(param)),
            "{bad}: {body}"
        );
    }
}

#[test]
fn prompts_become_messages() {
    let mut registry = registry();
    let resource = json!({"uri": "docs://a", "name": "a", "kind": "text", "text": "the text"});
    send(&mut registry, Route::Create(Kind::Resource), "", resource);
    let prompt = json!({"name": "review", "description": "Reviews", "arguments": [
        {"name": "lang", "type": "enum", "values": ["rust", "ruby", "go"], "required": true},
        {"name": "n", "type": "integer", "default": 3}, {"name": "note"},
        {"name": "word", "complete": ["alpha", "beta"]}],
        "messages": [{"role": "system", "content": "You know {{ lang }}."}, {"role": "user", "content": "{{ n }}{% if note is defined %} {{ note }}{% endif %}"}]});
    let (status, body) = send(&mut registry, Route::Create(Kind::Prompt), "", prompt);
    assert_eq!(status, 201, "{body}");
    let given = json!({"arguments": {"lang": "rust", "note": "<b>"}, "resources": ["docs://a"]});
    let (status, body) = send(&mut registry, Route::Generate, "review", given);
    let text =
        |role: &str, text: &str| json!({"role": role, "content": {"type": "text", "text": text}});
    let messages = json!([
        text("user", "the text"),
        text("system", "You know rust."),
        text("user", "3 <b>")
    ]);
    assert_eq!(
        (status, body),
        (
            200,
            json!({"prompt": "review", "description": "Reviews", "messages": messages, "estimated_tokens": 7})
        )
    );
    for (arguments, param) in [
        (json!({}), "arguments.lang"),
        (json!({"lang": "c"}), "arguments.lang"),
        (json!({"lang": "go", "n": 1.5}), "arguments.n"),
        (json!({"lang": "go", "n": "1"}), "arguments.n"),
        (json!({"lang": "go", "x": 1}), "arguments.x"),
    ] {
        let (status, body) = send(
            &mut registry,
            Route::Generate,
            "review",
            json!({"arguments": arguments}),
        );
        assert_eq!(
            (status, &body["error"]["param"]),
            (400, &json!(param)),
            "{body}"
        );
    }
    let complete = |name: &str, value: &str| json!({"argument": {"name": name, "value": value}});
    let (_, body) = send(
        &mut registry,
        Route::Complete,
        "review",
        complete("lang", "RU"),
    );
    assert_eq!(
        body,
        json!({"values": ["rust", "ruby"], "total": 2, "has_more": false})
    );
    let (_, body) = send(
        &mut registry,
        Route::Complete,
        "review",
        complete("word", "b"),
    );
    assert_eq!(body["values"], json!(["beta"]));
    assert_eq!(
        send(
            &mut registry,
            Route::Complete,
            "review",
            complete("none", "")
        )
        .0,
        400
    );
    let bad = json!({"name": "bad", "template": "a\n{{ x"});
    let (status, body) = send(&mut registry, Route::Create(Kind::Prompt), "", bad);
    assert_eq!(status, 400);
    assert!(
        body["error"]["message"]
            .as_str()
            .unwrap()
            .contains("line 2"),
        "{body}"
    );
    let long = json!({"name": "long", "template": "{% for a in x | split('') %}{{ x }}{% endfor %}", "arguments": [{"name": "x"}]});
    send(&mut registry, Route::Create(Kind::Prompt), "", long);
    let (status, body) = send(
        &mut registry,
        Route::Generate,
        "long",
        json!({"arguments": {"x": "y".repeat(9000)}}),
    );
    assert_eq!(
        (status, &body["error"]["code"]),
        (400, &json!("template_limit"))
    );
}

#[test]
fn the_key_of_an_integration_is_never_shown_and_stays() {
    let mut registry = registry();
    let model = json!({"provider": "openai", "model_name": "gpt", "api_key": "sk-secret", "parameters": {"temperature": 0}});
    let definition = json!({"name": "My Helper", "model": model});
    let post = definition.to_string();
    let Ok(Step::Change(changed, answer)) = registry.rest(
        &request(Route::Create(Kind::Integration), "", "", post.as_bytes()),
        &Lists,
    ) else {
        panic!()
    };
    assert_eq!(answer.location.as_deref(), Some("/integrations/my-helper"));
    assert!(!answer.body.contains("sk-secret"), "{}", answer.body);
    let [
        Record {
            value: Some(value), ..
        },
    ] = changed.records.as_slice()
    else {
        panic!()
    };
    assert!(!value.json.contains("sk-secret") && !value.json.contains("api_key"));
    assert_eq!(value.secrets[0].0.as_ref(), "/model/api_key");
    assert_eq!(value.secrets[0].1.reveal(), "sk-secret");
    let (_, shown) = get(
        &mut registry,
        Route::Show(Kind::Integration),
        "my-helper",
        "",
    );
    assert_eq!(
        (&shown["model"]["api_key"], &shown["integration_id"]),
        (&json!("set"), &json!("my-helper"))
    );
    let secret = |registry: &Registry| {
        let (key, _) = registry.find(Kind::Integration, "my-helper").unwrap();
        registry
            .value(&key)
            .unwrap()
            .secrets
            .first()
            .map(|(_, it)| it.reveal().to_owned())
    };
    let replace = Route::Replace(Kind::Integration);
    // Without the field, and with what was shown.
    for key in [Value::Null, json!("set")] {
        let body = json!({"name": "Other", "model": {"provider": "openai", "model_name": "gpt", "api_key": key}});
        let (status, body) = send(&mut registry, replace, "my-helper", body);
        assert_eq!(
            (status, &body["model"]["api_key"]),
            (200, &json!("set")),
            "{body}"
        );
        assert_eq!(secret(&registry).as_deref(), Some("sk-secret"));
    }
    let body = json!({"name": "Other", "model": {"provider": "openai", "model_name": "gpt", "api_key": "new"}});
    send(&mut registry, replace, "my-helper", body);
    assert_eq!(secret(&registry).as_deref(), Some("new"));
    for (bad, param) in [
        (
            json!({"name": "x", "model": {"provider": "agent", "model_name": "m"}, "tools": ["none"]}),
            "tools[0]",
        ),
        (
            json!({"name": "x", "model": {"provider": "agent", "model_name": "m"}, "prompts": ["none"]}),
            "prompts[0]",
        ),
        (
            json!({"name": "x", "model": {"provider": "agent", "model_name": "m"}, "resources": ["a:b"]}),
            "resources[0]",
        ),
        (
            json!({"name": "x", "model": {"provider": "agent", "model_name": "m", "api_key": "k"}}),
            "model.api_key",
        ),
        (
            json!({"name": "x", "model": {"provider": "custom", "model_name": "m"}}),
            "model.base_url",
        ),
        (
            json!({"name": "x", "model": {"provider": "custom", "model_name": "m", "base_url": "ftp://a"}}),
            "model.base_url",
        ),
        (
            json!({"name": "x", "model": {"provider": "agent", "model_name": "integration/y"}}),
            "model.model_name",
        ),
        (
            json!({"name": "x", "model": {"provider": "other", "model_name": "m"}}),
            "model.provider",
        ),
        (json!({"name": "x"}), "model"),
        (
            json!({"name": "é", "model": {"provider": "agent", "model_name": "m"}}),
            "name",
        ),
        (
            json!({"name": "x", "type": "half", "model": {"provider": "agent", "model_name": "m"}}),
            "type",
        ),
    ] {
        let (status, body) = send(
            &mut registry,
            Route::Create(Kind::Integration),
            "",
            bad.clone(),
        );
        assert_eq!(
            (status, &body["error"]["param"]),
            (400, &json!(param)),
            "{bad}: {body}"
        );
    }
    // A model that is an integration runs its tools.
    send(&mut registry, Route::Create(TOOL), "", tool("t"));
    let body = json!({"name": "Other", "tools": ["t"], "model": {"provider": "openai", "model_name": "gpt"}});
    assert_eq!(send(&mut registry, replace, "my-helper", body).0, 200);
    let asks =
        json!({"name": "t", "kind": "prompt", "model": "integration/my-helper", "prompt": "x"});
    let (status, body) = send(&mut registry, Route::Replace(TOOL), "t", asks);
    assert_eq!(
        (status, &body["error"]["param"]),
        (400, &json!("model")),
        "{body}"
    );
}

/// All that a registry has, as text.
fn all(registry: &Registry) -> String {
    format!(
        "{:?}",
        registry
            .records()
            .map(|it| (it.key, it.value.map(|it| it.json)))
            .collect::<Vec<_>>()
    )
}

proptest! {
    #[test]
    fn a_change_that_is_undone_has_not_been(steps in prop::collection::vec((0_u8..4, 0_usize..5, prop::collection::vec(0_usize..6, 0..3), any::<bool>()), 1..30)) {
        let mut real = registry();
        let mut durable = registry();
        let names = ["a", "b", "c", "d", "e", "none"];
        for (operation, name, below, fails) in steps {
            let below: Vec<&str> = below.into_iter().map(|it| names[it]).collect();
            let name = names[name];
            let one = |name| if below.is_empty() { tool(name) } else { chain(name, &below) };
            let before = all(&real);
            let act = |registry: &mut Registry| {
                let body = match operation {
                    3 => json!([one(name), tool("e")]),
                    _ => one(name),
                };
                let body = body.to_string();
                let changed = match operation {
                    0 | 3 => registry.create(TOOL, body.as_bytes(), &Lists),
                    1 => registry.replace(TOOL, name, body.as_bytes(), &Lists),
                    _ => registry.delete(TOOL, name, fails),
                };
                changed.map(|it| it.id)
            };
            match act(&mut real) {
                Err(_) => prop_assert_eq!(all(&real), before),
                Ok(id) if fails => {
                    real.undo(id);
                    prop_assert_eq!(all(&real), before);
                }
                Ok(id) => {
                    real.durable(id);
                    act(&mut durable).unwrap();
                }
            }
            prop_assert_eq!(all(&real), all(&durable));
            let mut restored = registry();
            prop_assert!(restored.restore(real.records()).is_empty());
            prop_assert_eq!(all(&restored), all(&real));
            prop_assert_eq!((restored.bytes, restored.count(TOOL)), (real.bytes, real.count(TOOL)));
        }
    }

    #[test]
    fn pages_are_the_whole_list(names in prop::collection::btree_set("[a-z]{1,4}", 0..40), limit in 1_usize..12) {
        let mut registry = registry();
        let tools: Vec<Value> = names.iter().map(|it| tool(it)).collect();
        send(&mut registry, Route::Create(TOOL), "", json!(tools));
        let mut seen = Vec::new();
        let mut query = format!("limit={limit}");
        loop {
            let (_, page) = get(&mut registry, Route::List(TOOL), "", &query);
            let tools = page["tools"].as_array().unwrap();
            prop_assert!(tools.len() <= limit);
            seen.extend(tools.iter().map(|it| it["name"].as_str().unwrap().to_owned()));
            match page["next_cursor"].as_str() {
                Some(cursor) => query = format!("limit={limit}&cursor={cursor}"),
                None => break,
            }
        }
        prop_assert_eq!(seen, names.into_iter().collect::<Vec<_>>());
    }
}

#[test]
fn changes_that_wait_are_undone_in_any_order() {
    let mut registry = registry();
    let body = |argument: &str| {
        json!({"name": "a", "kind": "command", "command": ["/bin/echo", argument]}).to_string()
    };
    let first = registry
        .create(TOOL, body("1").as_bytes(), &Lists)
        .unwrap()
        .id;
    let second = registry
        .replace(TOOL, "a", body("2").as_bytes(), &Lists)
        .unwrap()
        .id;
    let third = registry.delete(TOOL, "a", false).unwrap().id;
    registry.undo(second);
    assert!(registry.is_empty());
    registry.undo(third);
    let (_, shown) = get(&mut registry, Route::Show(TOOL), "a", "");
    assert_eq!(shown["command"][1], "1");
    registry.undo(first);
    assert!(registry.is_empty());
}
