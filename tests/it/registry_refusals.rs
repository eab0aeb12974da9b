//! Pages, and what the registry refuses, by its code.

use crate::gateway::client::until;
use crate::program::{Answer, Folder, Program};
use crate::registry_rest::{ADMIN, USER, ask, assert_refused, execute, made, register, start, start_in};
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::net::TcpListener;
use std::thread;
use std::time::Duration;

fn echo(name: &str, text: &str) -> Value {
    json!({ "name": name, "kind": "command", "command": ["/bin/echo", text] })
}

fn chain(name: &str, tool: &str) -> Value {
    json!({ "name": name, "kind": "chain", "steps": [{ "id": "one", "tool": tool }] })
}

fn get(program: &Program, path: &str) -> Answer {
    ask(program, "GET", path, &Value::Null)
}

fn as_admin(program: &Program, method: &str, path: &str, body: &Value) -> Answer {
    program.request(method, path, Some(ADMIN), &body.to_string())
}

#[test]
fn lists_come_by_pages_and_wrong_pages_are_refused() {
    let program = start("commands: [/bin/echo]");
    made(&program, "/tools", &json!([echo("a", "1"), echo("b", "2"), echo("c", "3")]));
    let names = |page: &Value| -> Vec<String> {
        let tools = page["tools"].as_array().unwrap().iter();
        tools.map(|it| it["name"].as_str().unwrap().to_owned()).collect()
    };
    let first = get(&program, "/tools?limit=2").json();
    assert_eq!((names(&first), &first["total_count"]), (vec!["a".to_owned(), "b".to_owned()], &json!(3)));
    let cursor = first["next_cursor"].as_str().unwrap();
    let second = get(&program, &format!("/tools?limit=2&cursor={cursor}")).json();
    assert_eq!((names(&second), &second["next_cursor"]), (vec!["c".to_owned()], &Value::Null));
    for (query, param) in [("limit=0", "limit"), ("limit=1001", "limit"), ("limit=x", "limit"), ("cursor=%21", "cursor")] {
        assert_refused(&get(&program, &format!("/tools?{query}")), 400, None, Some(param));
    }
}

#[test]
fn what_is_not_there_is_404_of_its_kind() {
    let program = start("commands: [/bin/echo]");
    let unknown = [
        ("/tools/gone", "tool_not_found", echo("gone", "x")),
        ("/prompts/gone", "prompt_not_found", json!({ "name": "gone", "template": "x" })),
        ("/resources/note%3A%2F%2Fgone", "resource_not_found", json!({ "uri": "note://gone", "name": "n", "kind": "text", "text": "x" })),
        ("/integrations/gone", "integration_not_found", json!({ "name": "gone", "model": { "provider": "agent", "model_name": "m" } })),
    ];
    for (path, code, body) in &unknown {
        assert_refused(&get(&program, path), 404, Some(code), None);
        assert_refused(&as_admin(&program, "PUT", path, body), 404, Some(code), None);
        assert_refused(&program.request("DELETE", path, Some(ADMIN), ""), 404, Some(code), None);
    }
    assert_refused(&execute(&program, "gone", &json!({})), 404, Some("tool_not_found"), None);
    for path in ["/prompts/gone/generate", "/prompts/gone/complete"] {
        let answer = ask(&program, "POST", path, &json!({ "argument": { "name": "a", "value": "" } }));
        assert_refused(&answer, 404, Some("prompt_not_found"), None);
    }
    assert_refused(&get(&program, "/completions/gone"), 404, Some("completion_not_found"), None);
    assert_eq!(program.request("PATCH", "/tools", Some(ADMIN), "{}").status, 405);
}

#[test]
fn what_is_used_stays_unless_it_is_forced_and_what_is_off_does_not_run() {
    let program = start("commands: [/bin/echo]");
    made(&program, "/tools", &json!([echo("used", "x"), chain("user", "used")]));
    assert_refused(&program.request("DELETE", "/tools/used", Some(ADMIN), ""), 409, Some("conflict"), None);
    let forced = program.request("DELETE", "/tools/used?force=true", Some(ADMIN), "");
    assert_eq!((forced.status, forced.json()), (200, json!({ "name": "used", "status": "deleted" })));
    assert_eq!(get(&program, "/tools").json()["total_count"], 1);
    let mut off = echo("off", "x");
    off["enabled"] = json!(false);
    made(&program, "/tools", &off);
    assert_refused(&execute(&program, "off", &json!({})), 409, Some("disabled"), None);
}

#[test]
fn definitions_that_cannot_be_are_refused_where_they_are_wrong() {
    let program = start("commands: [/bin/echo], tools: 12, resource_bytes: 1KiB");
    let refused = |path: &str, body: &Value, param: &str| {
        assert_refused(&register(&program, path, body), 400, None, Some(param));
    };
    refused("/tools", &json!({ "name": "x", "kind": "shell" }), "kind");
    refused("/tools", &json!({ "name": "a__b", "kind": "command", "command": ["/bin/echo"] }), "name");
    refused("/tools", &echo("x", "{{ args."), "command[1]");
    refused("/tools", &chain("x", "nobody"), "steps[0].tool");
    let mut long = echo("x", "y");
    long["timeout"] = json!("301s");
    refused("/tools", &long, "timeout");
    let prompt = register(&program, "/prompts", &json!({ "name": "p", "template": "one\n{{ two" }));
    assert!(prompt.status == 400 && prompt.body.contains("line 2"), "{prompt:?}");
    assert_eq!(register(&program, "/tools", &json!("text")).status, 400);
    let broken = program.request("POST", "/tools", Some(ADMIN), "{");
    assert_eq!(broken.status, 400, "{broken:?}");
    let large = json!({ "uri": "note://1", "name": "n", "kind": "text", "text": "x".repeat(1025) });
    let answer = register(&program, "/resources", &large);
    assert_eq!(answer.status, 413, "{answer:?}");
    // A circle, and more than eight in each other.
    made(&program, "/tools", &echo("t0", "x"));
    for number in 1..8 {
        made(&program, "/tools", &chain(&format!("t{number}"), &format!("t{}", number - 1)));
    }
    let deep = register(&program, "/tools", &chain("t8", "t7"));
    assert!(deep.status == 400 && deep.body.contains("8 deep"), "{deep:?}");
    let circle = as_admin(&program, "PUT", "/tools/t1", &chain("t1", "t3"));
    assert_eq!(circle.status, 400, "{circle:?}");
    let more: Vec<Value> = (0..5).map(|number| echo(&format!("more{number}"), "x")).collect();
    assert_refused(&register(&program, "/tools", &json!(more)), 503, Some("registry_full"), None);
    assert_eq!(get(&program, "/tools").json()["total_count"], 8, "all or none");
}

#[test]
fn a_template_without_end_and_an_answer_that_is_too_large_end_the_run() {
    let folder = Folder::new();
    let large = folder.0.join("large");
    std::fs::write(&large, vec![b'x'; (1 << 20) + 1]).unwrap();
    let text = "x".repeat(1000);
    let program = start_in(folder, "commands: [/bin/echo, /bin/cat]", "");
    made(&program, "/tools", &json!([
        echo("endless", "{% for a in args.text %}{% for b in args.text %}{{ b }}{% endfor %}{% endfor %}"),
        { "name": "large", "kind": "command", "command": ["/bin/cat", large] },
    ]));
    assert_refused(&execute(&program, "endless", &json!({ "text": text })), 400, Some("template_limit"), None);
    assert_refused(&execute(&program, "large", &json!({})), 502, Some("bad_answer"), None);
    made(&program, "/prompts", &json!({ "name": "endless", "arguments": [{ "name": "text" }], "template": "{% for a in text %}{% for b in text %}{{ b }}{% endfor %}{% endfor %}" }));
    let body = json!({ "arguments": { "text": text } });
    assert_refused(&ask(&program, "POST", "/prompts/endless/generate", &body), 400, Some("template_limit"), None);
}

#[test]
fn templates_of_resources_are_listed_and_read() {
    let program = start("enabled: true");
    made(&program, "/resources", &json!({ "uri_template": "note://{id}/{+path}", "name": "n", "kind": "text", "text": "{{ args.id }} at {{ args.path }}" }));
    let listed = get(&program, "/resources/templates").json();
    assert_eq!(listed["resource_templates"][0]["uri_template"], "note://{id}/{+path}", "{listed}");
    let read = get(&program, "/resources/note%3A%2F%2F7%2Fa%2Fb");
    assert_eq!((read.status, &read.json()["text"]), (200, &json!("7 at a/b")), "{read:?}");
}

#[test]
fn an_origin_that_is_gone_leaves_its_old_copy_and_then_nothing() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let program = start(&format!("http: [\"{address}\"]"));
    let far = |name: &str| json!({ "uri": format!("far://{name}"), "name": name, "kind": "http", "ttl": "1ms", "url": format!("http://{address}/{name}") });
    made(&program, "/resources", &json!([far("kept"), far("never")]));
    let answering = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut head = [0; 4096];
        let _ = stream.read(&mut head).unwrap();
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nConnection: close\r\n\r\nold").unwrap();
    });
    let first = get(&program, "/resources/far%3A%2F%2Fkept");
    assert_eq!((first.status, &first.json()["text"], &first.json()["stale"]), (200, &json!("old"), &json!(false)), "{first:?}");
    answering.join().unwrap();
    // Its time is over in a moment.
    let again = until(|| Some(get(&program, "/resources/far%3A%2F%2Fkept")).filter(|it| it.json()["stale"] != false));
    assert_eq!((again.status, &again.json()["text"], &again.json()["stale"]), (200, &json!("old"), &json!(true)), "{again:?}");
    assert_refused(&get(&program, "/resources/far%3A%2F%2Fnever"), 502, Some("bad_answer"), None);
}

#[test]
fn an_origin_that_does_not_answer_is_given_up() {
    // It accepts connections, and nobody reads them.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let program = start(&format!("http: [\"{address}\"]"));
    made(&program, "/resources", &json!({ "uri": "far://silent", "name": "silent", "kind": "http", "url": format!("http://{address}/") }));
    let mut stream = program.open("GET", "/resources/far%3A%2F%2Fsilent", Some(USER), "");
    // A resource has 30 s.
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).unwrap();
    assert_refused(&Answer::parse(&bytes), 504, Some("timeout"), None);
}
