//! Several servers under one address, for clients of revision 2026-07-28: the names, lists and URIs that sessions have there.

use super::client::{Events, KEY, OTHER, configure, server, start, take_over, until, whole};
use super::several::shelf;
use super::stateless::{Client, META, messages};
use crate::program::{Answer, Program};
use serde_json::{Value, json};

/// Two servers with sessions, and one without.
fn three() -> Program {
    start("", &[shelf("my_files", ", paged", ""), server("modern", "modern"), shelf("web", "", "")])
}

fn two() -> Program {
    start("", &[shelf("my_files", ", paged", ""), shelf("web", "", "")])
}

/// The answer, as JSON or as the last event where a server took its time.
fn said(answer: &Answer) -> Value {
    let last = answer.body.rsplit("data: ").next().unwrap();
    serde_json::from_str(last.trim()).unwrap_or_else(|error| panic!("{error}: {answer:?}"))
}

fn result(client: &Client<'_>, method: &str, params: Value) -> Value {
    let answer = client.ask(method, params);
    assert_eq!((answer.status, &said(&answer)["id"]), (200, &json!("own")), "{answer:?}");
    let result = said(&answer)["result"].clone();
    assert_eq!(result["resultType"], "complete", "{answer:?}");
    result
}

fn names(client: &Client<'_>, method: &str, of: &str, name: &str) -> Vec<String> {
    let (mut names, mut params) = (Vec::new(), json!({}));
    loop {
        let page = result(client, method, params);
        assert!(page["ttlMs"].is_u64() && page["cacheScope"] == "private", "{page}");
        let elements = page[of].as_array().unwrap().iter();
        names.extend(elements.map(|element| element[name].as_str().unwrap().to_owned()));
        match page.get("nextCursor") {
            Some(next) => params = json!({ "cursor": next }),
            None => return names,
        }
    }
}

#[test]
fn one_address_has_what_all_servers_have() {
    let program = two();
    let client = Client::new(&program, KEY, json!({}));
    // A tool is called before any list was read.
    assert_eq!(client.text("my_files__write", &json!({ "text": "x" })), "my_files: x");
    let found = result(&client, "server/discover", json!({}));
    assert_eq!(found["supportedVersions"], json!(["2026-07-28"]));
    assert_eq!(found["_meta"][format!("{META}serverInfo")]["name"], "mcp-local-provider");
    assert_eq!(found["capabilities"]["resources"], json!({ "listChanged": true, "subscribe": true }));
    assert_eq!(found["instructions"], "# my_files\n\nThis is my_files.\n\n# web\n\nThis is web.");
    let own = ["read", "write", "heard", "touch", "grow", "ask", "pid", "crash"];
    let expected = ["my_files", "web"].map(|server| own.map(|tool| format!("{server}__{tool}")));
    assert_eq!(names(&client, "tools/list", "tools", "name"), expected.concat());
    assert_eq!(names(&client, "prompts/list", "prompts", "name"), ["my_files__advise", "web__advise"]);
    let uris = ["my-files+file:///my_files", "web+file:///web"];
    assert_eq!(names(&client, "resources/list", "resources", "uri"), uris);
    let templates = names(&client, "resources/templates/list", "resourceTemplates", "uriTemplate");
    assert_eq!(templates, ["my-files+file:///{path}", "web+file:///{path}"]);
    let tool = &result(&client, "tools/list", json!({}))["tools"][0];
    assert_eq!(tool["_meta"]["ui"]["resourceUri"], "ui://my-files+show");
    // Who opens a session finds the same.
    let mut session = super::client::Client::new(&program, OTHER);
    session.initialize("2025-11-25", "suite");
    assert_eq!(session.text("web__write", &json!({ "text": "x" })), "web: x");
}

#[test]
fn a_request_reaches_the_server_that_it_names_and_its_answer_names_that_too() {
    let program = three();
    let client = Client::new(&program, KEY, json!({}));
    let read = client.call("web__read", &json!({}));
    assert_eq!(read["content"][0]["uri"], "web+file:///web");
    assert_eq!(read["content"][1]["resource"]["uri"], "web+file:///web");
    let read = result(&client, "resources/read", json!({ "uri": "web+file:///web" }));
    assert_eq!(read["contents"], json!([{ "uri": "web+file:///web", "text": "web" }]));
    let prompt = result(&client, "prompts/get", json!({ "name": "my_files__advise" }));
    assert_eq!(prompt["messages"][1]["content"]["uri"], "my-files+file:///my_files");
    for (of, expected) in [
        (json!({ "type": "ref/prompt", "name": "web__advise" }), "web advise"),
        (json!({ "type": "ref/resource", "uri": "my-files+file:///{path}" }), "my_files file:///{path}"),
    ] {
        let params = json!({ "ref": of, "argument": { "name": "path", "value": "" } });
        let completion = result(&client, "completion/complete", params);
        assert_eq!(completion["completion"]["values"], json!([expected]));
    }
    for (method, params, expected) in [
        ("tools/call", json!({ "name": "web__none" }), (200, -32602)),
        ("tools/call", json!({ "name": "read" }), (200, -32602)),
        ("prompts/get", json!({ "name": "advise" }), (200, -32602)),
        ("resources/read", json!({ "uri": "file:///web" }), (200, -32602)),
        ("tools/list", json!({ "cursor": "other:1" }), (200, -32602)),
        ("no/such", json!({}), (404, -32601)),
    ] {
        let answer = client.ask(method, params.clone());
        let error = said(&answer)["error"].clone();
        assert_eq!((answer.status, error["code"].as_i64().unwrap()), expected, "{method} {params} {answer:?}");
        if method == "resources/read" {
            assert_eq!(error["data"]["uri"], "file:///web", "{error}");
        }
    }
}

#[test]
fn a_round_goes_back_to_the_server_that_has_asked() {
    let program = start(
        "",
        &[shelf("a", "", ""), shelf("b", "", ""), server("modern", "modern")],
    );
    let client = Client::new(&program, KEY, json!({ "sampling": {} }));
    for own in ["a", "b"] {
        let ask = json!({ "name": format!("{own}__ask"), "arguments": {} });
        let asked = said(&client.ask("tools/call", ask.clone()))["result"].clone();
        assert_eq!(asked["resultType"], "input_required", "{asked}");
        let mut next = ask.clone();
        next["requestState"] = asked["requestState"].clone();
        next["inputResponses"] = json!({ "input-1": { "said": own } });
        // The state of one is nothing to the other.
        let mut stray = next.clone();
        stray["name"] = json!(format!("{}__ask", if own == "a" { "b" } else { "a" }));
        let refused = client.ask("tools/call", stray);
        assert_eq!((refused.status, &said(&refused)["error"]["code"]), (400, &json!(-32602)), "{refused:?}");
        let done = result(&client, "tools/call", next);
        assert_eq!(done["content"][0]["text"], format!("{own}: \"{own}\""));
    }
}

#[test]
fn a_listener_is_told_of_all_servers_on_one_stream() {
    let program = two();
    let client = Client::new(&program, KEY, json!({}));
    let wanted = json!({ "toolsListChanged": true, "resourceSubscriptions": ["web+file:///web", "other:x"] });
    let body = client.body("subscriptions/listen", json!({ "notifications": wanted }), &json!({}));
    let mut events = Events::read(client.send(&body));
    let first = events.untagged();
    assert_eq!(first["method"], "notifications/subscriptions/acknowledged");
    let honored = json!({ "toolsListChanged": true, "resourceSubscriptions": ["web+file:///web"] });
    assert_eq!(first["params"]["notifications"], honored);
    client.text("my_files__touch", &json!({}));
    client.text("web__touch", &json!({}));
    let updated = events.untagged();
    assert_eq!((&updated["method"], &updated["params"]["uri"]), (&json!("notifications/resources/updated"), &json!("web+file:///web")));
    assert_eq!(updated["params"]["_meta"][format!("{META}subscriptionId")], "own");
    client.text("my_files__grow", &json!({}));
    assert_eq!(events.untagged()["method"], "notifications/tools/list_changed");
    // What has grown is called at once.
    assert_eq!(client.text("my_files__new", &json!({})), "my_files: new");
    program.signal("TERM");
    let end = events.untagged();
    assert_eq!((&end["id"], &end["result"]["resultType"]), (&json!("own"), &json!("complete")), "{end}");
}

#[test]
fn a_server_that_is_down_is_left_out() {
    let gone = "  gone: { command: /no/such/program }\n".to_owned();
    let program = start("", &[gone.clone(), shelf("web", "", "")]);
    let client = Client::new(&program, KEY, json!({}));
    let tools = names(&client, "tools/list", "tools", "name");
    assert!(tools.iter().all(|name| name.starts_with("web__")) && !tools.is_empty(), "{tools:?}");
    let failed = client.ask("tools/call", json!({ "name": "gone__x", "arguments": {} }));
    assert_eq!(said(&failed)["error"]["data"]["reason"], "server_unavailable", "{failed:?}");
    drop(program);
    let program = start("", &[gone.clone(), gone.replace("gone", "lost")]);
    let client = Client::new(&program, KEY, json!({}));
    for method in ["tools/list", "server/discover", "subscriptions/listen"] {
        let failed = client.ask(method, json!({}));
        assert_eq!(said(&failed)["error"]["data"]["reason"], "server_unavailable", "{method} {failed:?}");
    }
}

#[test]
fn tools_that_are_left_out_do_not_exist_for_a_client_without_a_session() {
    let program = start("", &[shelf("web", "", ", tools: { allow: [write] }")]);
    let client = Client::new(&program, KEY, json!({}));
    assert_eq!(names(&client, "tools/list", "tools", "name"), ["write"]);
    assert_eq!(client.text("write", &json!({ "text": "x" })), "web: x");
    let hidden = client.ask("tools/call", json!({ "name": "pid", "arguments": {} }));
    assert_eq!(said(&hidden)["error"]["data"]["reason"], "tool_not_found", "{hidden:?}");
    let found = result(&client, "server/discover", json!({}));
    assert_eq!(found["_meta"][format!("{META}serverInfo")]["name"], "web");
}

#[test]
fn a_client_that_closes_its_answer_takes_the_request_back_from_its_server() {
    let command = env!("CARGO_BIN_EXE_mcp_server");
    let program = start("", &[format!("  suite: {{ command: {command:?}, tools: {{ deny: [spew] }} }}\n")]);
    let client = Client::new(&program, KEY, json!({}));
    let token = json!({ "progressToken": "t" });
    let params = json!({ "name": "progress", "arguments": { "steps": 2, "text": "x" } });
    let told = messages(client.send(&client.body("tools/call", params, &token)));
    assert_eq!(told.len(), 3, "{told:?}");
    assert_eq!((&told[0]["params"]["progressToken"], &told[2]["id"]), (&json!("t"), &json!("own")));
    let held = json!({ "name": "progress", "arguments": { "steps": 1, "hold": true, "text": "held" } });
    let stream = client.send(&client.body("tools/call", held, &token));
    until(|| client.text("heard", &json!({})).contains("held").then_some(()));
    drop(stream);
    until(|| client.text("heard", &json!({})).contains("notifications/cancelled").then_some(()));
}

#[test]
fn a_request_at_a_process_that_a_reload_ends_is_told_so() {
    let two = shelf("two", "", "");
    let before = [server("one", ""), two.clone()];
    let changed = vec![server("one", "other"), two.clone()];
    let removed = vec![two, server("three", "")];
    for after in [changed, removed] {
        let program = start("", &before);
        let at = |path| {
            let mut client = Client::new(&program, KEY, json!({}));
            client.path = path;
            client
        };
        let stays = at("/mcp").text("two__pid", &json!({}));
        let open: Vec<_> = ["this", "that"]
            .into_iter()
            .map(|text| {
                let client = at("/servers/one/mcp");
                let params = json!({ "name": "hold", "arguments": { "text": text } });
                let stream = client.send(&client.body("tools/call", params, &json!({})));
                program.wait_for_log(&format!("holds {text}"));
                stream
            })
            .collect();
        configure(&program.folder, "", &after);
        program.signal("HUP");
        for stream in open {
            let answer = whole(stream);
            let error = said(&answer)["error"].clone();
            assert_eq!((&error["code"], &error["data"]["reason"]), (&json!(-31502), &json!("server_exited")), "{answer:?}");
            assert_eq!(error["data"]["server"], "one");
        }
        assert_eq!(at("/mcp").text("two__pid", &json!({})), stays);
    }
}

#[test]
fn a_listener_ends_when_a_reload_changes_which_servers_it_hears() {
    let all = ["one", "two", "three"].map(|name| shelf(name, "", ""));
    let program = start("", &all[..1]);
    let listen = |path| {
        let mut client = Client::new(&program, KEY, json!({}));
        client.path = path;
        let wanted = json!({ "notifications": { "toolsListChanged": true } });
        let mut events = Events::read(client.send(&client.body("subscriptions/listen", wanted, &json!({}))));
        assert_eq!(events.untagged()["method"], "notifications/subscriptions/acknowledged");
        events
    };
    let mut stays = listen("/servers/one/mcp");
    // From one server, whose names are its own, to two, to three, and back to two.
    for others in [&all[1..2], &all[1..], &all[2..]] {
        let mut events = listen("/mcp");
        configure(&program.folder, "", &[&all[..1], others].concat());
        take_over(&program);
        let end = events.untagged();
        assert_eq!((&end["id"], &end["result"]["resultType"]), (&json!("own"), &json!("complete")), "{end}");
    }
    // What changes nothing for a listener does not end it.
    let mut events = listen("/mcp");
    take_over(&program);
    let client = Client::new(&program, KEY, json!({}));
    client.text("one__grow", &json!({}));
    for events in [&mut stays, &mut events] {
        assert_eq!(events.untagged()["method"], "notifications/tools/list_changed");
    }
}
