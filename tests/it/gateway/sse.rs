//! The transport of revision 2024-11-05, HTTP+SSE: its stream, its messages, and how its sessions end.

use super::client::{
    Client, Events, KEY, OTHER, assert_refused, call, hello, request, server, start, start_one,
};
use crate::child_process::ends;
use crate::program::Program;
use serde_json::{Value, json};

/// A session of the old transport.
struct Old<'p> {
    events: Events,
    /// Where its messages go.
    messages: Client<'p>,
}

impl<'p> Old<'p> {
    /// Opens the stream at `path`, and reads where messages go.
    fn connect(program: &'p Program, path: &str) -> Self {
        let mut client = Client::new(program, KEY);
        client.path = path.to_owned();
        let mut events = Events::read(program.raw(&format!("{}\r\n", client.head("GET"))));
        let (name, endpoint) = events.named().unwrap();
        assert_eq!(name, "endpoint", "it comes first");
        client.path = endpoint.data;
        Self {
            events,
            messages: client,
        }
    }

    /// The same, with the greeting.
    fn open(program: &'p Program, path: &str, revision: &str) -> Self {
        let mut old = Self::connect(program, path);
        let greeted = old.ask(&request(0, "initialize", &hello(revision, "suite")));
        assert_eq!(greeted["result"]["protocolVersion"], revision);
        old.send(&json!({ "jsonrpc": "2.0", "method": "notifications/initialized" }));
        old
    }

    fn send(&self, message: &Value) {
        let accepted = self.messages.post(message);
        assert_eq!((accepted.status, &*accepted.body), (202, ""), "{message}");
    }

    fn next(&mut self) -> Value {
        let (name, event) = self.events.named().unwrap();
        assert_eq!(name, "message");
        event.json()
    }

    fn ask(&mut self, message: &Value) -> Value {
        self.send(message);
        self.next()
    }

    fn text(&mut self, tool: &str, arguments: &Value) -> String {
        let answer = self.ask(&call(tool, tool, arguments));
        assert_eq!(answer["id"], tool, "{answer}");
        answer["result"]["content"][0]["text"].as_str().unwrap().to_owned()
    }
}

#[test]
fn everything_comes_on_the_one_stream_and_messages_are_accepted() {
    let program = start_one("");
    let mut old = Old::open(&program, "/sse", "2024-11-05");
    let endpoint = old.messages.path.clone();
    let (path, id) = endpoint.split_once('=').unwrap();
    assert_eq!(path, "/sse/messages?session_id");
    assert!(id.len() >= 32, "{id}");
    assert_eq!(old.text("echo", &json!({ "text": "für dich" })), "für dich");
    let params = json!({ "name": "progress", "arguments": { "steps": 2, "text": "done" }, "_meta": { "progressToken": "t" } });
    old.send(&request("7", "tools/call", &params));
    for step in 1..=2 {
        let progress = old.next();
        assert_eq!((&progress["params"]["progressToken"], &progress["params"]["progress"]), (&json!("t"), &json!(step)));
    }
    assert_eq!(old.next()["id"], "7");
    old.send(&call(1, "ask", &json!({ "id": "q", "text": "what now?" })));
    let question = old.next();
    assert_eq!(question["method"], "sampling/createMessage");
    old.send(&json!({ "jsonrpc": "2.0", "id": question["id"], "result": { "said": "this" } }));
    assert_eq!(old.next()["result"]["content"][0]["text"], r#"{"said":"this"}"#);
    let pong = old.ask(&request("p", "ping", &json!({})));
    assert_eq!(pong, json!({ "jsonrpc": "2.0", "id": "p", "result": {} }));
    // The other names of the place and of its parameter.
    for path in [format!("/messages?session_id={id}"), format!("/v1/messages?sessionId={id}")] {
        old.messages.path = path;
        assert_eq!(old.text("echo", &json!({ "text": "here too" })), "here too");
    }
}

#[test]
fn a_stream_that_is_lost_ends_its_session_and_its_process() {
    let program = start_one("");
    let mut old = Old::open(&program, "/sse", "2025-06-18");
    let pid = old.text("pid", &json!({}));
    let Old { events, messages } = old;
    drop(events);
    assert!(ends(&pid), "the process lives on");
    let refused = messages.post(&call(1, "echo", &json!({})));
    assert_refused(&refused, 404, -31404, "session_not_found");
}

#[test]
fn the_stream_of_a_named_server_says_where_its_own_messages_go() {
    let program = start("", &[server("one", ""), server("two", "")]);
    let mut old = Old::open(&program, "/servers/two/sse", "2025-03-26");
    assert!(old.messages.path.starts_with("/servers/two/sse/messages?session_id="));
    assert_eq!(old.text("echo", &json!({ "text": "two" })), "two");
    // Clients without a field for a key have it in the path.
    let mut old = Old::open(&program, &format!("/k/{KEY}/servers/one/sse"), "2024-11-05");
    assert!(old.messages.path.starts_with(&format!("/k/{KEY}/servers/one/sse/messages?")));
    assert_eq!(old.text("echo", &json!({ "text": "one" })), "one");
}

#[test]
fn messages_without_a_session_of_their_own_are_refused() {
    let program = start_one("");
    let old = Old::connect(&program, "/sse");
    let echo = call("e", "echo", &json!({}));
    assert_refused(&old.messages.post(&echo), 400, -32600, "bad_request");
    let mut other = old.messages.clone();
    other.key = OTHER;
    let greeting = request(0, "initialize", &hello("2024-11-05", "suite"));
    assert_refused(&other.post(&greeting), 404, -31404, "session_not_found");
    other.path = "/sse/messages".to_owned();
    assert_refused(&other.post(&echo), 400, -32600, "bad_request");
    other.path = "/sse/messages?session_id=x".to_owned();
    let refused = other.post(&echo);
    assert_refused(&refused, 404, -31404, "session_not_found");
    assert_eq!(refused.json()["id"], "e");
}
