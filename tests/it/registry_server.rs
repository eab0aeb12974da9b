//! The registry as the MCP server `registry`: with sessions, without, and over REST.

use crate::child_process::ends;
use crate::gateway::client::{Client, Events, NEWEST, assert_refused, call, hello, request, server, until, whole};
use crate::gateway::stateless::{self, META, messages};
use crate::program::{Folder, Program, program as executable, write_config};
use crate::registry_rest::{ADMIN, USER, ask, made, start, start_in};
use serde_json::{Value, json};
use std::process::Command;
use tungstenite::Message;
use tungstenite::client::IntoClientRequest;

/// A key that may use MCP servers, and no registry.
const MCP: &str = "mcp-key-for-tests";
/// One that may use no models, and of the servers the registry alone.
const NARROW: &str = "narrow-key-for-tests";

const PATH: &str = "/servers/registry/mcp";

fn session(program: &Program) -> Client<'_> {
    let mut client = Client::new(program, USER);
    client.path = PATH.to_owned();
    client.initialize(NEWEST, "registry");
    client
}

/// Registers one of everything.
fn fill(program: &Program) {
    let text = json!({ "type": "object", "properties": { "text": { "type": "string" } }, "required": ["text"] });
    made(program, "/tools", &json!([
        { "name": "say", "kind": "command", "command": ["/bin/echo", "{{ args.text }}"], "input_schema": text },
        { "name": "fail", "kind": "command", "command": ["/bin/false"] },
        { "name": "twice", "kind": "chain", "steps": [
            { "id": "one", "tool": "say", "arguments": { "text": "{{ args.text }}" } },
            { "id": "two", "tool": "say", "arguments": { "text": "again: {{ steps.one.text }}" } },
        ] },
        { "name": "off", "kind": "command", "command": ["/bin/false"], "enabled": false },
    ]));
    made(program, "/resources", &json!([
        { "uri": "note://1", "name": "n", "kind": "text", "text": "the note" },
        { "uri_template": "word://{word}", "name": "w", "kind": "text", "text": "the word {{ args.word }}" },
    ]));
    made(program, "/prompts", &json!({ "name": "greet", "arguments": [
        { "name": "who", "required": true }, { "name": "mood", "type": "enum", "values": ["glad", "sad"], "default": "glad" }
    ], "messages": [{ "role": "user", "content": "Hello {{ who }}, {{ mood }}" }] }));
}

/// Starts the program with keys beside those of the registry's tests.
fn start_with_keys(folder: Folder, registry: &str, more: &str) -> Program {
    let extra = format!("registry: {{ {registry} }}\n{more}");
    let config = write_config(&folder.0, "127.0.0.1:0", &extra);
    let keys = format!(
        "  keys:\n    - {{ name: owner, key: \"{ADMIN}\", role: admin }}\n    - {{ name: user, key: \"{USER}\", role: client, allow: [models, mcp, registry] }}\n    - {{ name: mcp, key: \"{MCP}\", role: client, allow: [mcp] }}\n    - {{ name: narrow, key: \"{NARROW}\", role: client, allow: [mcp, registry], servers: [registry] }}\n"
    );
    let text = std::fs::read_to_string(&config).unwrap();
    std::fs::write(&config, text.replace("  keys:\n", &keys)).unwrap();
    let mut command = Command::new(executable());
    command.arg("--config").arg(&config);
    Program::spawn(command, folder, config)
}

fn names(items: &Value) -> Vec<&str> {
    items.as_array().unwrap().iter().map(|it| it["name"].as_str().unwrap()).collect()
}

/// Asks through `send`, whatever the form of the protocol.
fn assert_serves(send: &dyn Fn(&str, Value) -> Value, not_found: i64) {
    let result = |method: &str, params: Value| {
        let answer = send(method, params);
        assert!(answer["error"].is_null(), "{method}: {answer}");
        answer["result"].clone()
    };
    assert_eq!(names(&result("tools/list", json!({}))["tools"]), ["fail", "say", "twice"]);
    let called = |tool: &str, arguments: Value| result("tools/call", json!({ "name": tool, "arguments": arguments }));
    let said = called("say", json!({ "text": "a b; $(id)" }));
    assert_eq!((&said["content"][0]["text"], said["isError"].as_bool().unwrap_or(false)), (&json!("a b; $(id)\n"), false), "{said}");
    let twice = called("twice", json!({ "text": "x" }));
    assert!(twice["content"][0]["text"].as_str().unwrap().starts_with("again: x"), "{twice}");
    assert_eq!(called("fail", json!({}))["isError"], true);
    let wrong = called("say", json!({ "text": 7 }));
    assert!(wrong["isError"] == true && wrong["content"][0]["text"].as_str().unwrap().contains("/text"), "{wrong}");
    assert_eq!(result("resources/list", json!({}))["resources"][0]["uri"], "note://1");
    assert_eq!(result("resources/templates/list", json!({}))["resourceTemplates"][0]["uriTemplate"], "word://{word}");
    let read = |uri: &str| result("resources/read", json!({ "uri": uri }))["contents"][0]["text"].clone();
    assert_eq!((read("note://1"), read("word://yes")), (json!("the note"), json!("the word yes")));
    assert_eq!(names(&result("prompts/list", json!({}))["prompts"]), ["greet"]);
    let got = result("prompts/get", json!({ "name": "greet", "arguments": { "who": "you" } }));
    assert_eq!(got["messages"][0]["content"]["text"], "Hello you, glad", "{got}");
    let completed = result("completion/complete", json!({ "ref": { "type": "ref/prompt", "name": "greet" }, "argument": { "name": "mood", "value": "s" } }));
    assert_eq!(completed["completion"]["values"], json!(["sad"]));
    let code = |method: &str, params: Value| send(method, params)["error"]["code"].as_i64();
    assert_eq!(code("tools/call", json!({ "name": "none", "arguments": {} })), Some(-32602));
    assert_eq!(code("tools/call", json!({ "name": "off", "arguments": {} })), Some(-32602));
    assert_eq!(code("prompts/get", json!({ "name": "none" })), Some(-32602));
    assert_eq!(code("prompts/get", json!({ "name": "greet" })), Some(-32602));
    assert_eq!(code("resources/read", json!({ "uri": "none://1" })), Some(not_found));
}

fn answer_of(body: &str) -> Value {
    let last = body.rsplit("data: ").next().unwrap();
    serde_json::from_str(last.trim()).unwrap_or_else(|error| panic!("{error}: {body}"))
}

#[test]
fn a_session_lists_calls_reads_and_prompts() {
    let program = start("commands: [/bin/echo, /bin/false]");
    fill(&program);
    let client = session(&program);
    assert_serves(&|method, params| answer_of(&client.post(&request(1, method, &params)).body), -32002);
}

#[test]
fn a_request_without_a_session_does_the_same() {
    let program = start("commands: [/bin/echo, /bin/false]");
    fill(&program);
    let mut client = stateless::Client::new(&program, USER, json!({}));
    client.path = PATH;
    let found = client.ask("server/discover", json!({})).json()["result"].clone();
    assert_eq!((&found["_meta"][format!("{META}serverInfo")]["name"], &found["capabilities"]["prompts"]["listChanged"]), (&json!("registry"), &json!(true)));
    assert_serves(&|method, params| answer_of(&client.ask(method, params).body), -32602);
}

#[test]
fn headers_that_repeat_arguments_of_its_tools_say_the_same() {
    let program = start("commands: [/bin/echo]");
    let tool = |schema: Value| {
        let schema = json!({ "type": "object", "properties": { "text": schema } });
        json!({ "name": "say", "kind": "command", "command": ["/bin/echo", "{{ args.text }}"], "input_schema": schema })
    };
    made(&program, "/tools", &tool(json!({ "type": "string", "x-mcp-header": "Text" })));
    let mut client = stateless::Client::new(&program, USER, json!({}));
    client.path = PATH;
    let call = |headers: &str| {
        let params = json!({ "name": "say", "arguments": { "text": "hello" } });
        let answer = whole(client.send_with(headers, &client.body("tools/call", params, &json!({}))));
        (answer.status, answer_of(&answer.body)["error"]["code"].as_i64())
    };
    assert_eq!(call(""), (400, Some(-32020)));
    assert_eq!(call("Mcp-Param-Text: hallo\r\n"), (400, Some(-32020)));
    assert_eq!(call("Mcp-Param-Text: hello\r\n"), (200, None));
    // Another definition repeats nothing.
    let other = tool(json!({ "type": "string" }));
    let replaced = program.request("PUT", "/tools/say", Some(ADMIN), &other.to_string());
    assert_eq!(replaced.status, 200, "{replaced:?}");
    assert_eq!(call(""), (200, None));
}

#[test]
fn rest_asks_it_by_name_and_shows_it_without_a_process() {
    let program = start("commands: [/bin/echo, /bin/false]");
    fill(&program);
    let listed = ask(&program, "GET", "/servers", &Value::Null).json()["servers"][0].clone();
    assert_eq!(
        (&listed["name"], &listed["state"], &listed["tools"], &listed["processes"], &listed["transport"]),
        (&json!("registry"), &json!("ready"), &json!(3), &json!(0), &json!("internal"))
    );
    let post = |path: &str, body: Value| ask(&program, "POST", path, &body);
    let called = post("/tools/call", json!({ "server": "registry", "tool": "say", "params": { "text": "hi" } }));
    assert_eq!((called.status, &called.json()["result"]["content"][0]["text"]), (200, &json!("hi\n")), "{called:?}");
    let found = post("/tools/discover", json!({ "server": "registry" }));
    assert_eq!(names(&found.json()["tools"]), ["fail", "say", "twice"], "{found:?}");
    let read = post("/resources/read", json!({ "server": "registry", "uri": "note://1" }));
    assert_eq!(read.json()["result"]["contents"][0]["text"], "the note", "{read:?}");
    let got = post("/prompts/get", json!({ "server": "registry", "prompt": "greet", "params": { "who": "you" } }));
    assert!(got.body.contains("Hello you, glad"), "{got:?}");
    let gone = post("/tools/call", json!({ "server": "registry", "tool": "none", "params": {} }));
    assert_eq!((gone.status, &gone.json()["error"]["code"]), (404, &json!("tool_not_found")), "{gone:?}");
    let direct = post("/servers/registry/tools/say", json!({ "text": "direct" }));
    assert_eq!((direct.status, direct.json()), (200, json!("direct\n")), "{direct:?}");
    // It takes none of the processes that there may be.
    let stats = program.request("GET", "/stats", Some(ADMIN), "").json();
    assert_eq!(stats["process_stats"]["total"], 0, "{stats}");
}

#[test]
fn it_stands_beside_other_servers_for_keys_that_may_use_it() {
    let servers = format!("mcpServers:\n{}", server("suite", ""));
    let program = start_with_keys(Folder::new(), "commands: [/bin/echo, /bin/false]", &servers);
    fill(&program);
    let mut client = Client::new(&program, USER);
    client.initialize(NEWEST, "all");
    assert_eq!(client.text("registry__say", &json!({ "text": "one" })), "one\n");
    assert_eq!(client.text("suite__echo", &json!({ "text": "two" })), "two");
    let read = client.post(&request(1, "resources/read", &json!({ "uri": "registry+note://1" })));
    assert_eq!(answer_of(&read.body)["result"]["contents"][0]["text"], "the note", "{read:?}");
    // For a key without it, it is not there, and the other one has its own names.
    let mut other = Client::new(&program, MCP);
    other.initialize(NEWEST, "other");
    assert_eq!(other.text("echo", &json!({ "text": "three" })), "three");
    let listed = program.request("GET", "/servers", Some(MCP), "").json();
    assert_eq!(names(&listed["servers"]), ["suite"]);
    other.path = PATH.to_owned();
    other.session = None;
    let denied = other.post(&request(0, "initialize", &hello(NEWEST, "other")));
    assert_refused(&denied, 403, -31403, "scope_denied");
    assert!(denied.body.contains("`registry`"), "{denied:?}");
    let mut without = stateless::Client::new(&program, MCP, json!({}));
    without.path = PATH;
    assert_eq!(without.ask("tools/list", json!({})).status, 403);
    let asked = json!({ "server": "registry", "tool": "say", "params": { "text": "x" } });
    assert_eq!(program.request("POST", "/tools/call", Some(MCP), &asked.to_string()).status, 403);
}

#[test]
fn a_run_may_do_what_its_caller_may() {
    let servers = format!("mcpServers:\n{}", server("suite", ""));
    let program = start_with_keys(Folder::new(), "enabled: true", &servers);
    made(&program, "/tools", &json!([
        { "name": "think", "kind": "prompt", "model": "test-model", "prompt": "Say it" },
        { "name": "call", "kind": "gateway", "server": "suite", "tool": "echo", "arguments": { "text": "through" } },
    ]));
    let mut may = Client::new(&program, USER);
    may.path = PATH.to_owned();
    may.initialize(NEWEST, "may");
    let mut narrow = Client::new(&program, NARROW);
    narrow.path = PATH.to_owned();
    narrow.initialize(NEWEST, "narrow");
    let mut stateless = stateless::Client::new(&program, NARROW, json!({}));
    stateless.path = PATH;
    assert_eq!(may.text("call", &json!({})), "through");
    for denied in [narrow.call("call", &json!({}))["result"].clone(), stateless.call("call", &json!({}))] {
        let text = denied["content"][0]["text"].as_str().unwrap();
        assert!(denied["isError"] == true && text.contains("no MCP server of this name"), "{denied}");
    }
    let denied = narrow.call("think", &json!({}))["result"].clone();
    assert!(denied["isError"] == true && denied["content"][0]["text"].as_str().unwrap().contains("may not use models"), "{denied}");
    // It was the one who called last, in the same server, who may do more.
    assert_eq!(may.text("call", &json!({})), "through");
}

#[test]
fn changes_of_the_lists_and_of_resources_are_told() {
    let program = start("commands: [/bin/echo, /bin/false]");
    fill(&program);
    let client = session(&program);
    let mut own = client.listen(None);
    let subscribed = client.post(&request(1, "resources/subscribe", &json!({ "uri": "note://1" })));
    assert_eq!(answer_of(&subscribed.body)["result"], json!({}), "{subscribed:?}");
    let mut listener = stateless::Client::new(&program, USER, json!({}));
    listener.path = PATH;
    let wanted = json!({ "toolsListChanged": true, "resourceSubscriptions": ["note://1"] });
    let body = listener.body("subscriptions/listen", json!({ "notifications": wanted }), &json!({}));
    let mut events = Events::read(listener.send(&body));
    assert_eq!(events.untagged()["method"], "notifications/subscriptions/acknowledged");
    assert_eq!(names(&answer_of(&client.post(&request(2, "tools/list", &json!({}))).body)["result"]["tools"]).len(), 3);
    made(&program, "/tools", &json!({ "name": "more", "kind": "command", "command": ["/bin/echo"] }));
    assert_eq!(own.message().unwrap()["method"], "notifications/tools/list_changed");
    assert_eq!(events.untagged()["method"], "notifications/tools/list_changed");
    let listed = answer_of(&client.post(&request(3, "tools/list", &json!({}))).body);
    assert_eq!(names(&listed["result"]["tools"]), ["fail", "more", "say", "twice"]);
    let other = json!({ "uri": "note://1", "name": "n", "kind": "text", "text": "another" });
    let replaced = program.request("PUT", "/resources/note%3A%2F%2F1", Some(ADMIN), &other.to_string());
    assert_eq!(replaced.status, 200, "{replaced:?}");
    let told = [own.message().unwrap(), own.message().unwrap()];
    assert_eq!(told.clone().map(|it| it["method"].clone()), ["notifications/resources/list_changed", "notifications/resources/updated"]);
    assert_eq!(told[1]["params"]["uri"], "note://1");
    let told = events.untagged();
    assert_eq!((&told["method"], &told["params"]["uri"]), (&json!("notifications/resources/updated"), &json!("note://1")));
    made(&program, "/prompts", &json!({ "name": "more", "template": "x" }));
    assert_eq!(own.message().unwrap()["method"], "notifications/prompts/list_changed");
}

#[test]
fn a_file_that_changes_is_told_to_its_subscribers() {
    let folder = Folder::new();
    let files = folder.0.join("files");
    std::fs::create_dir(&files).unwrap();
    let file = files.join("a.txt");
    std::fs::write(&file, "one").unwrap();
    let program = start_in(folder, &format!("files: [{files:?}]"), "");
    made(&program, "/resources", &json!({ "uri": "file:///a.txt", "name": "a", "kind": "file", "path": file }));
    let client = session(&program);
    let mut own = client.listen(None);
    let read = || {
        let read = client.post(&request(1, "resources/read", &json!({ "uri": "file:///a.txt" })));
        answer_of(&read.body)["result"]["contents"][0]["text"].clone()
    };
    assert_eq!(read(), "one");
    client.post(&request(2, "resources/subscribe", &json!({ "uri": "file:///a.txt" })));
    std::fs::write(&file, "two").unwrap();
    // A file that is written in its place is empty for a moment: who reads that is told once more.
    let mut said = json!("one");
    while said != "two" {
        assert!(["one", ""].contains(&said.as_str().unwrap()), "{said}");
        let told = own.message().unwrap();
        assert_eq!((&told["method"], &told["params"]["uri"]), (&json!("notifications/resources/updated"), &json!("file:///a.txt")));
        said = read();
    }
}

/// A tool that writes the id of its process to a file, and works on.
fn long(folder: &Folder) -> (Value, std::path::PathBuf) {
    let mark = folder.0.join("pid");
    let script = format!("echo $$ > {}; exec sleep 600", mark.display());
    (json!({ "name": "long", "kind": "command", "command": ["/bin/sh", "-c", script] }), mark)
}

#[test]
fn a_call_that_is_taken_back_ends_its_command() {
    let folder = Folder::new();
    let (tool, mark) = long(&folder);
    let program = start_in(folder, "commands: [/bin/sh]", "");
    made(&program, "/tools", &tool);
    let started = || {
        let pid = until(|| std::fs::read_to_string(&mark).ok().filter(|pid| pid.ends_with('\n')));
        std::fs::remove_file(&mark).unwrap();
        pid.trim().to_owned()
    };
    let asked = |id: i64| request(id, "tools/call", &json!({ "name": "long", "arguments": {} })).to_string();
    // By a notification.
    let client = session(&program);
    let stream = client.send(&asked(7));
    let pid = started();
    client.post(&json!({ "jsonrpc": "2.0", "method": "notifications/cancelled", "params": { "requestId": 7 } }));
    assert!(ends(&pid), "the command runs on");
    drop(stream);
    // With its session.
    let stream = client.send(&asked(8));
    let pid = started();
    client.delete();
    assert!(ends(&pid), "the command runs on");
    drop(stream);
    // With its answer, where there is no session.
    let mut alone = stateless::Client::new(&program, USER, json!({}));
    alone.path = PATH;
    let stream = alone.send(&alone.body("tools/call", json!({ "name": "long", "arguments": {} }), &json!({})));
    let pid = started();
    drop(stream);
    assert!(ends(&pid), "the command runs on");
    // With the request of REST.
    let body = json!({ "server": "registry", "tool": "long", "params": {} }).to_string();
    let stream = program.open("POST", "/tools/call", Some(USER), &body);
    let pid = started();
    drop(stream);
    assert!(ends(&pid), "the command runs on");
}

#[test]
fn a_key_that_is_gone_ends_what_it_has_started() {
    let folder = Folder::new();
    let (tool, mark) = long(&folder);
    let quiet = "gateway: { timeouts: { heartbeat: 600s } }\n";
    let program = start_in(folder, "commands: [/bin/sh]", quiet);
    made(&program, "/tools", &tool);
    made(&program, "/resources", &json!({ "uri": "note://1", "name": "n", "kind": "text", "text": "x" }));
    let started = || {
        let pid = until(|| std::fs::read_to_string(&mark).ok().filter(|pid| pid.ends_with('\n')));
        std::fs::remove_file(&mark).unwrap();
        pid.trim().to_owned()
    };
    let client = session(&program);
    let arguments = json!({ "name": "long", "arguments": {} });
    let stream = client.send(&request(1, "tools/call", &arguments).to_string());
    let of_session = started();
    let mut alone = stateless::Client::new(&program, USER, json!({}));
    alone.path = PATH;
    let other = alone.send(&alone.body("tools/call", arguments, &json!({})));
    let of_request = started();
    let mut events = Events::read(program.open("POST", "/resources/note%3A%2F%2F1/subscribe", Some(USER), ""));
    let text = std::fs::read_to_string(&program.config).unwrap();
    std::fs::write(&program.config, text.replace("allow: [models, mcp, registry]", "allow: [models, mcp]")).unwrap();
    program.signal("HUP");
    assert!(ends(&of_session) && ends(&of_request), "a command runs on");
    assert_eq!(events.named(), None);
    drop((stream, other));
    assert_refused(&client.post(&request(2, "tools/list", &json!({}))), 403, -31403, "scope_denied");
}

#[test]
fn a_registry_that_is_off_is_no_server_and_its_name_is_nobody_elses() {
    let servers = format!("mcpServers:\n{}", server("suite", ""));
    let program = start_in(Folder::new(), "enabled: false", &servers);
    let mut client = Client::new(&program, USER);
    client.path = PATH.to_owned();
    let refused = client.post(&request(0, "initialize", &hello(NEWEST, "x")));
    assert_eq!(refused.status, 404, "{refused:?}");
    client.path = "/mcp".to_owned();
    client.initialize(NEWEST, "x");
    assert_eq!(client.text("echo", &json!({ "text": "plain" })), "plain");
    let folder = Folder::new();
    let servers = format!("mcpServers:\n{}", server("registry", ""));
    let config = write_config(&folder.0, "127.0.0.1:0", &servers);
    let checked = Command::new(executable()).arg("--config").arg(&config).arg("check-config").output().unwrap();
    assert_eq!(checked.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&checked.stderr).contains("the program's own registry"), "{checked:?}");
}

#[test]
fn a_whole_answer_is_a_stream_where_it_takes_long() {
    let program = start("commands: [/bin/sleep]");
    made(&program, "/tools", &json!({ "name": "rest", "kind": "command", "command": ["/bin/sleep", "1.2"] }));
    let mut alone = stateless::Client::new(&program, USER, json!({}));
    alone.path = PATH;
    let body = alone.body("tools/call", json!({ "name": "rest", "arguments": {} }), &json!({}));
    let told = messages(alone.send(&body));
    assert_eq!(told.last().unwrap()["id"], "own", "{told:?}");
    let client = session(&program);
    let answer = whole(client.send(&request(1, "tools/call", &json!({ "name": "rest", "arguments": {} })).to_string()));
    assert_eq!(answer_of(&answer.body)["id"], 1, "{answer:?}");
}

#[test]
fn every_other_transport_reaches_it() {
    let program = start("commands: [/bin/echo, /bin/false]");
    fill(&program);
    let greeting = request(0, "initialize", &hello(NEWEST, "transports"));
    let say = |text: &str| call("say", "say", &json!({ "text": text }));
    // WebSocket.
    let mut dial = "ws://localhost/servers/registry/ws".into_client_request().unwrap();
    dial.headers_mut().insert("authorization", format!("Bearer {USER}").parse().unwrap());
    dial.headers_mut().insert("sec-websocket-protocol", "mcp".parse().unwrap());
    let (mut socket, _) = tungstenite::client(dial, program.connect()).unwrap();
    let mut ask_socket = |message: &Value| -> Value {
        socket.send(Message::text(message.to_string())).unwrap();
        loop {
            if let Message::Text(text) = socket.read().unwrap() {
                return serde_json::from_str(&text).unwrap();
            }
        }
    };
    assert_eq!(ask_socket(&greeting)["result"]["serverInfo"]["name"], "registry");
    assert_eq!(ask_socket(&say("by socket"))["result"]["content"][0]["text"], "by socket\n");
    // HTTP+SSE.
    let mut client = Client::new(&program, USER);
    client.path = "/servers/registry/sse".to_owned();
    let mut stream = Events::read(program.raw(&format!("{}\r\n", client.head("GET"))));
    let (name, endpoint) = stream.named().unwrap();
    assert_eq!(name, "endpoint");
    client.path = endpoint.data;
    let mut ask_stream = |message: &Value| {
        let accepted = client.post(message);
        assert_eq!(accepted.status, 202, "{accepted:?}");
        stream.named().unwrap().1.json()
    };
    assert_eq!(ask_stream(&greeting)["result"]["serverInfo"]["name"], "registry");
    assert_eq!(ask_stream(&say("by stream"))["result"]["content"][0]["text"], "by stream\n");
    // REST with a session, and its events.
    let opened = ask(&program, "POST", "/sessions", &json!({ "client_id": "rest", "server": "registry" }));
    assert_eq!(opened.status, 201, "{opened:?}");
    let id = opened.json()["session_id"].as_str().unwrap().to_owned();
    let mut reader = Client::new(&program, USER);
    reader.path = format!("/events/{id}");
    let mut events = reader.listen(None);
    assert_eq!(events.named().unwrap().0, "connected");
    let called = ask(&program, "POST", "/tools/call", &json!({ "session_id": id, "tool": "say", "params": { "text": "by rest" } }));
    assert_eq!(called.json()["result"]["content"][0]["text"], "by rest\n", "{called:?}");
    made(&program, "/prompts", &json!({ "name": "more", "template": "x" }));
    let (name, event) = events.named().unwrap();
    assert_eq!((name.as_str(), &event.json()["method"]), ("message", &json!("notifications/prompts/list_changed")));
}

#[test]
fn the_command_line_lists_it_with_its_tools() {
    let program = start("commands: [/bin/echo, /bin/false]");
    fill(&program);
    let list = |more: &[&str]| {
        let address = program.address.to_string();
        let mut command = Command::new(executable());
        command.args(["mcp", "list", "--json", "--listen", &address]).args(more);
        command.arg("--config").arg(&program.config);
        let listed = command.env("HOME", &program.folder.0).env("LOCAL_PROVIDER_KEY", USER).output().unwrap();
        let listed: Value = serde_json::from_slice(&listed.stdout).unwrap_or_else(|_| panic!("{listed:?}"));
        listed["servers"][0].clone()
    };
    let shown = list(&[]);
    assert_eq!((&shown["name"], &shown["state"], &shown["running"]["tools"]), (&json!("registry"), &json!("ready"), &json!(3)));
    let shown = list(&["--tools"]);
    assert_eq!((&shown["state"], names(&shown["tools"])), (&json!("answers"), vec!["fail", "say", "twice"]), "{shown}");
}
