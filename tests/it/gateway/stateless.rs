//! Clients of revision 2026-07-28 before a server with sessions: each request says all that it needs.

use super::client::{
    Events, KEY, OTHER, configure, server, start, start_one, take_over, until, whole,
};
use crate::child_process::ends;
use crate::program::{Answer, Program};
use serde_json::{Value, json};
use std::net::TcpStream;

const REVISION: &str = "2026-07-28";
pub const META: &str = "io.modelcontextprotocol/";

/// A client, with what it declares.
pub struct Client<'p> {
    program: &'p Program,
    key: &'p str,
    capabilities: Value,
    pub path: &'p str,
}

impl<'p> Client<'p> {
    pub const fn new(program: &'p Program, key: &'p str, capabilities: Value) -> Self {
        Self { program, key, capabilities, path: "/mcp" }
    }

    fn meta(&self, more: &Value) -> Value {
        let mut meta = json!({ "io.modelcontextprotocol/protocolVersion": REVISION, "io.modelcontextprotocol/clientInfo": { "name": "c", "version": "1" } });
        meta["io.modelcontextprotocol/clientCapabilities"] = self.capabilities.clone();
        for (name, value) in more.as_object().unwrap() {
            meta[name] = value.clone();
        }
        meta
    }

    pub fn body(&self, method: &str, mut params: Value, more: &Value) -> Value {
        params["_meta"] = self.meta(more);
        json!({ "jsonrpc": "2.0", "id": "own", "method": method, "params": params })
    }

    pub fn send(&self, body: &Value) -> TcpStream {
        self.send_with("", body)
    }

    /// Sends a request with further headers, each with its line end.
    pub fn send_with(&self, more: &str, body: &Value) -> TcpStream {
        let method = body["method"].as_str().unwrap();
        let mut headers = format!("MCP-Protocol-Version: {REVISION}\r\nMcp-Method: {method}\r\n");
        let (name, uri) = (&body["params"]["name"], &body["params"]["uri"]);
        if let Some(name) = name.as_str().or(uri.as_str()) {
            headers += &format!("Mcp-Name: {name}\r\n");
        }
        self.raw("POST", &(headers + more), &body.to_string())
    }

    fn raw(&self, method: &str, headers: &str, body: &str) -> TcpStream {
        let (key, path, length) = (self.key, self.path, body.len());
        self.program.raw(&format!(
            "{method} {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {key}\r\nConnection: close\r\nAccept: application/json, text/event-stream\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n{headers}\r\n{body}"
        ))
    }

    pub fn ask(&self, method: &str, params: Value) -> Answer {
        whole(self.send(&self.body(method, params, &json!({}))))
    }

    pub fn call(&self, tool: &str, arguments: &Value) -> Value {
        let answer = self.ask("tools/call", json!({ "name": tool, "arguments": arguments }));
        assert_eq!(answer.status, 200, "{answer:?}");
        assert_eq!(answer.json()["id"], "own");
        answer.json()["result"].clone()
    }

    pub fn text(&self, tool: &str, arguments: &Value) -> String {
        let result = self.call(tool, arguments);
        let text = result["content"][0]["text"].as_str();
        text.unwrap_or_else(|| panic!("{result}")).to_owned()
    }
}

/// The messages of an answer, to its end.
pub fn messages(stream: TcpStream) -> Vec<Value> {
    let answer = whole(stream);
    assert_eq!(answer.status, 200, "{answer:?}");
    let lines = answer.body.lines().filter_map(|line| line.strip_prefix("data: "));
    lines.map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn requests_without_a_session_share_a_process_that_sees_none_of_the_revision() {
    let program = start_one("");
    let client = Client::new(&program, KEY, json!({}));
    let found = client.ask("server/discover", json!({})).json()["result"].clone();
    assert_eq!(found["supportedVersions"], json!([REVISION]));
    assert_eq!(found["capabilities"]["tools"]["listChanged"], true);
    assert_eq!(found["_meta"][format!("{META}serverInfo")]["name"], "suite");
    let listed = client.ask("tools/list", json!({})).json()["result"].clone();
    for (result, ttl) in [(&found, 0), (&listed, 300_000)] {
        assert_eq!(result["resultType"], "complete", "{result}");
        assert_eq!((&result["ttlMs"], &result["cacheScope"]), (&json!(ttl), &json!("private")));
    }
    // The list is the same, and holds no longer than it did.
    let again = client.ask("tools/list", json!({})).json()["result"].clone();
    assert_eq!(again["tools"], listed["tools"]);
    assert!(again["ttlMs"].as_u64().is_some_and(|left| left > 0 && left <= 300_000), "{again}");
    let said = client.call("echo", &json!({ "text": "hello" }));
    assert_eq!((&said["resultType"], &said["content"][0]["text"]), (&json!("complete"), &json!("hello")));
    let other = Client::new(&program, OTHER, json!({}));
    assert_eq!(client.text("pid", &json!({})), other.text("pid", &json!({})));
    let heard = client.text("heard", &json!({}));
    assert!(!heard.contains(META), "{heard}");
}

#[test]
fn a_request_that_lacks_something_is_told_what() {
    let program = start_one("");
    let client = Client::new(&program, KEY, json!({}));
    let body = client.body("tools/list", json!({}), &json!({}));
    let refused = |headers: &str, body: &Value, status: u16, code: i64| {
        let answer = whole(client.raw("POST", headers, &body.to_string()));
        let error = answer.json()["error"].clone();
        assert_eq!((answer.status, &error["code"]), (status, &json!(code)), "{headers}{body}");
        assert_eq!(answer.json()["id"], "own");
        error
    };
    let version = format!("MCP-Protocol-Version: {REVISION}\r\n");
    let whole_head = format!("{version}Mcp-Method: tools/list\r\n");
    for headers in ["", &version, "MCP-Protocol-Version: 2025-11-25\r\nMcp-Method: tools/list\r\n"] {
        refused(headers, &body, 400, -32020);
    }
    let bare = json!({ "jsonrpc": "2.0", "id": "own", "method": "tools/list", "params": {} });
    refused(&whole_head, &bare, 400, -32602);
    let text = body.to_string().replace(REVISION, "v9");
    let newer = serde_json::from_str(&text).unwrap();
    let error = refused("MCP-Protocol-Version: v9\r\nMcp-Method: tools/list\r\n", &newer, 400, -32022);
    assert_eq!((&error["data"]["supported"], &error["data"]["requested"]), (&json!([REVISION]), &json!("v9")));
    for method in ["ping", "no/such"] {
        let answer = client.ask(method, json!({}));
        assert_eq!((answer.status, &answer.json()["error"]["code"]), (404, &json!(-32601)));
    }
    for method in ["GET", "DELETE"] {
        let answer = whole(client.raw(method, &version, ""));
        assert_eq!((answer.status, answer.header("allow")), (405, Some("POST")), "{answer:?}");
    }
}

#[test]
fn headers_say_what_the_arguments_of_a_call_say() {
    // A server with sessions, one without, and both under one address.
    let servers = [server("old", "mirrors"), server("new", "mirrors, modern")];
    for (path, prefix) in [("/servers/old/mcp", ""), ("/servers/new/mcp", ""), ("/mcp", "old__"), ("/mcp", "new__")] {
        let program = start("", &servers);
        let mut client = Client::new(&program, KEY, json!({}));
        client.path = path;
        let call = |headers: &str, arguments: Value| {
            let params = json!({ "name": format!("{prefix}echo"), "arguments": arguments });
            let answer = whole(client.send_with(headers, &client.body("tools/call", params, &json!({}))));
            let all = answer.json();
            assert_eq!(all["id"], "own", "{answer:?}");
            (answer.status, all["error"]["code"].as_i64(), all["result"]["content"][0]["text"].as_str().map(str::to_owned))
        };
        let said = |text: &str| (200, None, Some(text.to_owned()));
        let mismatch = (400, Some(-32020), None);
        // Nobody has listed the tools before.
        assert_eq!(call("", json!({ "text": "hello" })), mismatch, "{path} {prefix}");
        assert_eq!(call("mcp-param-TEXT: hello\r\n", json!({ "text": "hello" })), said("hello"));
        assert_eq!(call("Mcp-Param-Text: =?base64?w6Q=?=\r\n", json!({ "text": "ä" })), said("ä"));
        assert_eq!(call("Mcp-Param-Text: hallo\r\n", json!({ "text": "hello" })), mismatch);
        assert_eq!(call("Mcp-Param-Text: hello\r\nMcp-Param-Text: hallo\r\n", json!({ "text": "hello" })), mismatch);
        assert_eq!(call("Mcp-Param-Text: hello\r\n", json!({})), mismatch);
        assert_eq!(call("Mcp-Param-Other: hello\r\n", json!({})), said(""));
    }
}

#[test]
fn a_question_of_the_server_is_a_round_of_the_clients() {
    let program = start_one("");
    let client = Client::new(&program, KEY, json!({ "sampling": {} }));
    let ask = json!({ "name": "ask", "arguments": { "id": "q", "text": "what now?" } });
    let asked = client.ask("tools/call", ask.clone()).json()["result"].clone();
    assert_eq!(asked["resultType"], "input_required", "{asked}");
    let question = &asked["inputRequests"]["input-1"];
    assert_eq!(question["method"], "sampling/createMessage");
    assert_eq!(question["params"]["messages"][0]["content"]["text"], "what now?");
    let state = asked["requestState"].as_str().unwrap().to_owned();
    let said = json!({ "role": "assistant", "model": "m", "content": { "type": "text", "text": "this" } });
    let next = |client: &Client<'_>, state: &str, responses: Value| {
        let mut params = ask.clone();
        params["requestState"] = json!(state);
        params["inputResponses"] = responses;
        client.ask("tools/call", params)
    };
    let given = json!({ "input-1": said, "more": {} });
    // Somebody else's state, and one that was changed.
    let other = Client::new(&program, OTHER, json!({ "sampling": {} }));
    for answer in [next(&other, &state, given.clone()), next(&client, &format!("{state}0"), given.clone())] {
        assert_eq!((answer.status, &answer.json()["error"]["code"]), (400, &json!(-32602)));
    }
    // Without an answer it is asked again.
    let again = next(&client, &state, json!({})).json()["result"].clone();
    assert_eq!(again["inputRequests"]["input-1"], *question);
    let state = again["requestState"].as_str().unwrap();
    let done = next(&client, state, given.clone()).json()["result"].clone();
    let heard: Value = serde_json::from_str(done["content"][0]["text"].as_str().unwrap()).unwrap();
    assert_eq!((heard, &done["resultType"]), (said, &json!("complete")));
    assert_eq!(next(&client, state, given).status, 400, "it is used up");
    // The next call has that process again, and nobody else has it.
    let own = client.text("pid", &json!({}));
    assert_eq!(own, client.text("pid", &json!({})));
    assert_ne!(own, other.text("pid", &json!({})));
    // Who declares nothing is not asked.
    let answer = Client::new(&program, KEY, json!({})).ask("tools/call", ask);
    assert_eq!((answer.status, &answer.json()["error"]["code"]), (400, &json!(-32021)));
    assert_eq!(answer.json()["error"]["data"]["requiredCapabilities"], json!({ "sampling": {} }));
}

#[test]
fn a_process_of_a_clients_own_is_not_kept_when_a_reload_changes_or_removes_its_server() {
    let with = |habits: &str| [server("suite", habits), server("stays", "")];
    let program = start("", &with(""));
    let mut client = Client::new(&program, KEY, json!({ "sampling": {} }));
    client.path = "/servers/suite/mcp";
    let reload = |servers: &[String]| {
        configure(&program.folder, "", servers);
        take_over(&program);
    };
    // A call during which these servers are taken over. It has its answer from the process that it began with.
    let during = |servers: &[String], mark: &str| {
        let path = program.folder.0.join(mark);
        let params = json!({ "name": "await", "arguments": { "path": path } });
        let stream = client.send(&client.body("tools/call", params, &json!({})));
        program.wait_for_log(&format!("awaits {}", path.display()));
        reload(servers);
        std::fs::write(path, "").unwrap();
        let answer = whole(stream);
        let last = answer.body.rsplit("data: ").next().unwrap();
        let last: Value = serde_json::from_str(last.trim()).unwrap();
        let pid = last["result"]["content"][0]["text"].as_str();
        pid.unwrap_or_else(|| panic!("{answer:?}")).to_owned()
    };
    let first = client.text("pid", &json!({}));
    assert_eq!(during(&with("other"), "changed"), first);
    assert!(ends(&first), "the process lives on");
    let second = client.text("pid", &json!({}));
    assert_ne!(second, first);
    assert_eq!(during(&[server("stays", "")], "removed"), second);
    assert!(ends(&second), "the process lives on");
    reload(&with(""));
    assert_ne!(client.text("pid", &json!({})), second);
}

#[test]
fn a_client_that_closes_its_answer_takes_the_request_back() {
    let program = start_one("");
    let client = Client::new(&program, KEY, json!({}));
    let held = json!({ "name": "progress", "arguments": { "steps": 1, "hold": true, "text": "x" } });
    let stream = client.send(&client.body("tools/call", held, &json!({ "progressToken": "t" })));
    // It has reached the server when it tells of its progress.
    until(|| client.text("heard", &json!({})).contains("progress").then_some(()));
    drop(stream);
    until(|| client.text("heard", &json!({})).contains("notifications/cancelled").then_some(()));
}

#[test]
fn progress_and_the_log_come_on_the_requests_own_stream() {
    let program = start_one("");
    let client = Client::new(&program, KEY, json!({}));
    let params = json!({ "name": "progress", "arguments": { "steps": 2, "text": "x" } });
    let told = messages(client.send(&client.body("tools/call", params, &json!({ "progressToken": "t" }))));
    assert_eq!(told.len(), 3, "{told:?}");
    assert_eq!((&told[0]["params"]["progressToken"], &told[2]["id"]), (&json!("t"), &json!("own")));
    let log = json!({ "name": "log", "arguments": { "text": "x" } });
    assert_eq!(client.text("log", &json!({ "text": "x" })), "x", "nobody asked for the log");
    let level = json!({ "io.modelcontextprotocol/logLevel": "info" });
    let told = messages(client.send(&client.body("tools/call", log, &level)));
    assert_eq!(told.len(), 2, "{told:?}");
    assert_eq!(told[0]["method"], "notifications/message");
}

#[test]
fn a_listener_is_told_of_what_it_named() {
    let program = start_one("");
    let client = Client::new(&program, KEY, json!({}));
    let listen = |wanted: Value| {
        let body = client.body("subscriptions/listen", json!({ "notifications": wanted }), &json!({}));
        let mut events = Events::read(client.send(&body));
        let first = events.untagged();
        assert_eq!(first["method"], "notifications/subscriptions/acknowledged");
        (events, first["params"]["notifications"].clone())
    };
    let (mut tools, honored) = listen(json!({ "toolsListChanged": true, "promptsListChanged": true }));
    assert_eq!(honored, json!({ "toolsListChanged": true }), "the server tells of no prompts");
    let (mut prompts, _) = listen(json!({ "promptsListChanged": true }));
    assert_eq!(client.text("change", &json!({ "text": "x" })), "x");
    let changed = tools.untagged();
    assert_eq!(changed["method"], "notifications/tools/list_changed");
    assert_eq!(changed["params"]["_meta"][format!("{META}subscriptionId")], "own");
    // The end of the program ends it, and nothing came before that.
    program.signal("TERM");
    let end = prompts.untagged();
    assert_eq!((&end["id"], &end["result"]["resultType"]), (&json!("own"), &json!("complete")), "{end}");
}
