//! Several servers under one address: names, URIs, lists and errors, and servers that are not there.

use super::client::{Client, KEY, NEWEST, assert_refused, call, hello, request, start, whole};
use crate::child_process::ends;
use crate::program::{Answer, Folder, Program};
use serde_json::{Value, json};

/// A server that has something of everything, with this title and these habits.
pub fn shelf(name: &str, habits: &str, more: &str) -> String {
    let command = env!("CARGO_BIN_EXE_mcp_shelf");
    format!("  {name}: {{ command: {command:?}, args: [{name}{habits}]{more} }}\n")
}

fn two() -> Program {
    start("", &[shelf("my_files", ", paged", ""), shelf("web", "", "")])
}

/// The answer to a request, as JSON or as the last event.
fn message(answer: &Answer) -> Value {
    let last = answer.body.rsplit("data: ").next().unwrap();
    serde_json::from_str(last.trim()).unwrap_or_else(|error| panic!("{error}: {answer:?}"))
}

fn result(client: &Client<'_>, method: &str, params: &Value) -> Value {
    let answer = client.post(&request(method, method, params));
    assert_eq!(answer.status, 200, "{answer:?}");
    let answer = message(&answer);
    assert_eq!(answer["id"], method, "{answer}");
    assert!(answer.get("result").is_some(), "{answer}");
    answer["result"].clone()
}

fn error(client: &Client<'_>, method: &str, params: &Value) -> (i64, String) {
    let answer = client.post(&request(1, method, params));
    assert_eq!(answer.status, 200, "{answer:?}");
    let error = message(&answer)["error"].clone();
    let reason = error["data"]["reason"].as_str().unwrap_or_default();
    (error["code"].as_i64().unwrap_or_default(), reason.to_owned())
}

/// All names that a list has, page by page.
fn names(client: &Client<'_>, method: &str, of: &str, name: &str) -> Vec<String> {
    let (mut names, mut params) = (Vec::new(), json!({}));
    loop {
        let page = result(client, method, &params);
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
    let mut client = Client::new(&program, KEY);
    let opened = message(&client.initialize(NEWEST, "suite"));
    let opened = &opened["result"];
    assert_eq!(opened["serverInfo"]["name"], "mcp-local-provider");
    assert_eq!(opened["capabilities"]["resources"], json!({ "listChanged": true, "subscribe": true }));
    assert_eq!(opened["instructions"], "# my_files\n\nThis is my_files.\n\n# web\n\nThis is web.");
    // A tool is called before any list was read.
    assert_eq!(client.text("my_files__write", &json!({ "text": "x" })), "my_files: x");
    let tools = names(&client, "tools/list", "tools", "name");
    let own = ["read", "write", "heard", "touch", "grow", "ask", "pid", "crash"];
    let expected = ["my_files", "web"].map(|server| own.map(|tool| format!("{server}__{tool}")));
    assert_eq!(tools, expected.concat());
    assert_eq!(names(&client, "prompts/list", "prompts", "name"), ["my_files__advise", "web__advise"]);
    let uris = ["my-files+file:///my_files", "web+file:///web"];
    assert_eq!(names(&client, "resources/list", "resources", "uri"), uris);
    let templates = names(&client, "resources/templates/list", "resourceTemplates", "uriTemplate");
    assert_eq!(templates, ["my-files+file:///{path}", "web+file:///{path}"]);
    let tool = &result(&client, "tools/list", &json!({}))["tools"][0];
    assert_eq!(tool["_meta"]["ui"]["resourceUri"], "ui://my-files+show");
}

#[test]
fn a_request_reaches_the_server_that_it_names_and_its_answer_names_that_too() {
    let program = two();
    let client = Client::open(&program);
    let read = client.call("web__read", &json!({}));
    let content = &read["result"]["content"];
    assert_eq!(content[0]["uri"], "web+file:///web");
    assert_eq!(content[1]["resource"]["uri"], "web+file:///web");
    let read = result(&client, "resources/read", &json!({ "uri": content[0]["uri"] }));
    assert_eq!(read["contents"], json!([{ "uri": "web+file:///web", "text": "web" }]));
    let prompt = result(&client, "prompts/get", &json!({ "name": "my_files__advise" }));
    assert_eq!(prompt["messages"][0]["content"]["text"], "advise");
    assert_eq!(prompt["messages"][1]["content"]["uri"], "my-files+file:///my_files");
    for (of, expected) in [
        (json!({ "type": "ref/prompt", "name": "web__advise" }), "web advise"),
        (json!({ "type": "ref/resource", "uri": "my-files+file:///{path}" }), "my_files file:///{path}"),
    ] {
        let params = json!({ "ref": of, "argument": { "name": "path", "value": "" } });
        let completion = result(&client, "completion/complete", &params);
        assert_eq!(completion["completion"]["values"], json!([expected]));
    }
    assert_eq!(result(&client, "resources/subscribe", &json!({ "uri": "web+file:///web" })), json!({}));
    let mut listening = client.listen(None);
    assert_eq!(client.text("web__touch", &json!({})), "web: touched");
    let updated = listening.message().unwrap();
    assert_eq!(updated["params"]["uri"], "web+file:///web");
    // What all are told.
    assert_eq!(result(&client, "logging/setLevel", &json!({ "level": "info" })), json!({}));
    for server in ["my_files", "web"] {
        let heard = client.text(&format!("{server}__heard"), &json!({}));
        assert!(heard.contains("logging/setLevel"), "{heard}");
        assert_eq!(heard.contains("resources/subscribe"), server == "web", "{heard}");
    }
    for (method, params, expected) in [
        ("tools/call", json!({ "name": "web__none" }), (-32602, "tool_not_found")),
        ("tools/call", json!({ "name": "read" }), (-32602, "tool_not_found")),
        ("prompts/get", json!({ "name": "advise" }), (-32602, "prompt_not_found")),
        ("resources/read", json!({ "uri": "file:///web" }), (-32002, "resource_not_found")),
        ("tools/list", json!({ "cursor": "other:1" }), (-32602, "bad_request")),
        ("no/such", json!({}), (-32601, "method_not_found")),
    ] {
        let (code, reason) = error(&client, method, &params);
        assert_eq!((code, &*reason), expected, "{method}");
    }
}

#[test]
fn questions_of_two_servers_under_one_id_are_each_answered() {
    let program = two();
    let client = Client::open(&program);
    let mut asking = ["my_files", "web"].map(|server| {
        let name = format!("{server}__ask");
        let mut events = client.stream(&call(server, &name, &json!({})));
        let question = events.message().unwrap();
        assert_eq!(question["method"], "sampling/createMessage");
        (server, question["id"].clone(), events)
    });
    assert_ne!(asking[0].1, asking[1].1);
    for (server, id, _) in &asking {
        let said = json!({ "said": server });
        let answer = json!({ "jsonrpc": "2.0", "id": id, "result": said });
        assert_eq!(client.post(&answer).status, 202);
    }
    for (server, _, events) in &mut asking {
        let answer = events.message().unwrap();
        assert_eq!(answer["id"], *server);
        assert_eq!(answer["result"]["content"][0]["text"], format!("{server}: \"{server}\""));
    }
}

#[test]
fn a_server_that_is_down_is_left_out_and_announced_when_it_comes() {
    let folder = Folder::new();
    let sign = folder.0.join("sign");
    let missing = format!(", \"missing={}\"", sign.display());
    let servers = [shelf("a", &missing, ""), shelf("b", ", plain", "")];
    let program = start("gateway: { restart: { delay: 50ms, attempts: 50 } }\n", &servers);
    let mut client = Client::new(&program, KEY);
    let opened = message(&client.initialize(NEWEST, "suite"));
    assert_eq!(opened["result"]["capabilities"]["prompts"], json!({ "listChanged": true }));
    assert_eq!(result(&client, "tools/list", &json!({}))["tools"].as_array().unwrap().len(), 8);
    assert_eq!(result(&client, "prompts/list", &json!({})), json!({ "prompts": [] }));
    assert_eq!(error(&client, "tools/call", &json!({ "name": "a__read" })).1, "tool_not_found");
    let mut listening = client.listen(None);
    std::fs::write(&sign, "").unwrap();
    let changed = listening.message().unwrap();
    assert_eq!(changed["method"], "notifications/tools/list_changed");
    assert_eq!(names(&client, "prompts/list", "prompts", "name"), ["a__advise"]);
    assert_eq!(client.text("a__write", &json!({ "text": "here" })), "a: here");
    // A tool that a server has grown can be called.
    assert_eq!(client.text("b__grow", &json!({})), "b: grown");
    assert_eq!(client.text("b__new", &json!({})), "b: new");
    // The end of one server is not the end of the other.
    let (code, reason) = error(&client, "tools/call", &json!({ "name": "a__crash" }));
    assert_eq!((code, &*reason), (-31502, "server_exited"));
    assert_eq!(client.text("b__write", &json!({ "text": "fine" })), "b: fine");
    assert_eq!(client.delete().status, 204);
}

#[test]
fn a_session_cannot_be_opened_when_all_servers_are_down() {
    let servers = ["a", "b"].map(|name| shelf(name, ", missing=/no/such/file", ""));
    let program = start("", &servers);
    let client = Client::new(&program, KEY);
    let answer = client.post(&request("x", "initialize", &hello(NEWEST, "suite")));
    assert_eq!((answer.status, answer.header("mcp-session-id")), (200, None), "{answer:?}");
    let error = &message(&answer)["error"];
    assert_eq!((&error["code"], &error["data"]["server"]), (&json!(-31503), &json!("a")), "{error}");
}

#[test]
fn names_can_be_chosen_and_tools_be_left_out() {
    let chosen = ", prefix: f, tools: { allow: [read, write], deny: ['wri*'] }";
    let program = start("gateway: { prefix: always }\n", &[shelf("files", "", chosen)]);
    let client = Client::open(&program);
    assert_eq!(names(&client, "tools/list", "tools", "name"), ["f__read"]);
    let read = client.call("f__read", &json!({}));
    assert_eq!(read["result"]["content"][0]["uri"], "f+file:///files");
    assert_eq!(error(&client, "tools/call", &json!({ "name": "f__write" })).1, "tool_not_found");
    // Its own address has its own names.
    let mut own = Client::new(&program, KEY);
    own.path = "/servers/files/mcp".to_owned();
    own.initialize(NEWEST, "suite");
    assert_eq!(names(&own, "tools/list", "tools", "name"), ["read"]);
    assert_eq!(error(&own, "tools/call", &json!({ "name": "write" })).1, "tool_not_found");
    let read = own.call("read", &json!({}));
    assert_eq!(read["result"]["content"][0]["uri"], "file:///files");
}

#[test]
fn parameters_that_name_something_twice_reach_no_server() {
    let servers = [shelf("files", "", ", tools: { deny: [write] }"), shelf("web", "", "")];
    let program = start("gateway: { prefix: always }\n", &servers);
    let client = Client::open(&program);
    let mut own = Client::new(&program, KEY);
    own.path = "/servers/files/mcp".to_owned();
    own.initialize(NEWEST, "suite");
    for (client, params) in [
        (&own, r#"{"name":"read","name":"write","arguments":{"text":"x"}}"#),
        (&own, r#"{"name":"read","na\u006de":"write","arguments":{"text":"x"}}"#),
        (&client, r#"{"name":"files__read","name":"files__write"}"#),
        (&client, r#"{"name":"web__read","_meta":{"progressToken":"x","progressToken":2}}"#),
        (&client, r#"{"name":"web__read","_meta":{},"_meta":{"progressToken":2}}"#),
    ] {
        let body = format!(r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{params}}}"#);
        let answer = whole(client.send(&body));
        assert_eq!(answer.status, 400, "{params}: {answer:?}");
        assert_eq!(answer.json()["error"]["code"], -32600, "{params}: {answer:?}");
    }
    // The same name may stand in different places.
    let answer = own.post(&request(1, "tools/call", &json!({ "name": "read", "arguments": { "name": "x", "_meta": {} } })));
    assert_eq!(message(&answer)["result"]["content"][0]["uri"], "file:///files", "{answer:?}");
}

#[test]
fn equal_names_that_stand_are_an_error_that_names_both_servers() {
    let only_read = ", tools: { allow: [read] }";
    let servers = [shelf("a", "", ""), shelf("b", "", only_read)];
    let program = start("gateway: { prefix: never }\n", &servers);
    let client = Client::open(&program);
    let answer = message(&client.post(&request(1, "tools/list", &json!({}))));
    assert_eq!(answer["error"]["data"]["reason"], "name_clash", "{answer}");
    let message = answer["error"]["message"].as_str().unwrap();
    assert!(message.contains("`a` and `b` both have `read`"), "{message}");
    assert_eq!(client.text("write", &json!({ "text": "x" })), "a: x");
}

#[test]
fn a_session_of_all_servers_is_none_of_one_and_takes_all_processes_along() {
    let program = two();
    let client = Client::open(&program);
    let pids = ["my_files", "web"].map(|server| {
        let told = client.text(&format!("{server}__pid"), &json!({}));
        told.rsplit(' ').next().unwrap().to_owned()
    });
    assert_ne!(pids[0], pids[1]);
    let mut other = client.clone();
    other.path = "/servers/web/mcp".to_owned();
    let refused = other.post(&call(1, "pid", &json!({})));
    assert_refused(&refused, 404, -31404, "session_not_found");
    assert_eq!(client.delete().status, 204);
    for pid in pids {
        assert!(ends(&pid), "the process lives on");
    }
}
