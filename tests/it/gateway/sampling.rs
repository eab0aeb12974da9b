//! MCP clients with `sampling` that answer as models (`/mcp/agent`), in revisions with sessions.

use super::client::{Client, Events, NEWEST, call, request, until, whole};
use crate::program::{Answer, BRIDGE, CLIENT, OPERATOR, Program};
use serde_json::{Value, json};
use std::net::{Shutdown, TcpStream};
use std::thread;

/// Opens a session as a client of this name, with these capabilities.
pub fn open<'p>(program: &'p Program, name: &str, capabilities: &Value) -> Client<'p> {
    let mut client = Client::new(program, BRIDGE);
    client.path = "/mcp/agent".to_owned();
    let hello = json!({ "protocolVersion": NEWEST, "capabilities": capabilities, "clientInfo": { "name": name, "version": "1" } });
    let opened = client.post(&request(0, "initialize", &hello));
    assert_eq!(opened.status, 200, "{opened:?}");
    client.session = opened.header("mcp-session-id").map(str::to_owned);
    let told = json!({ "jsonrpc": "2.0", "method": "notifications/initialized" });
    assert_eq!(client.post(&told).status, 202);
    client
}

/// The names of the models.
pub fn models(program: &Program) -> Vec<String> {
    let listed = program.get("/v1/models").json();
    let models = listed["data"].as_array().unwrap().iter();
    models.map(|model| model["id"].as_str().unwrap().to_owned()).collect()
}

/// Sends a request to a model, and leaves the answer to be read.
pub fn ask(program: &Program, model: &str, text: &str, more: &Value) -> TcpStream {
    let mut body = json!({ "model": model, "messages": [{ "role": "user", "content": text }] });
    for (name, value) in more.as_object().unwrap() {
        body[name] = value.clone();
    }
    program.open("POST", "/v1/chat/completions", Some(CLIENT), &body.to_string())
}

/// The result of a client's model.
pub fn said(text: &str) -> Value {
    json!({ "role": "assistant", "model": "m", "content": { "type": "text", "text": text }, "stopReason": "endTurn" })
}

/// Answers a question.
fn answer(client: &Client<'_>, question: &Value, result: &Value) {
    let answer = json!({ "jsonrpc": "2.0", "id": question["id"], "result": result });
    let accepted = client.post(&answer);
    assert_eq!((accepted.status, &*accepted.body), (202, ""));
}

fn content(answer: &Answer) -> String {
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.json()["choices"][0]["message"]["content"].as_str().unwrap().to_owned()
}

fn sessions(program: &Program) -> Vec<Value> {
    let listed = program.request("GET", "/control/sessions", Some(OPERATOR), "").json();
    listed["sessions"].as_array().or(listed.as_array()).unwrap().clone()
}

fn control(program: &Program, action: &str, id: &Value) {
    let (path, body) = (format!("/control/{action}"), json!({ "session_id": id }).to_string());
    assert_eq!(program.request("POST", &path, Some(OPERATOR), &body).status, 200);
}

#[test]
fn a_client_answers_on_the_stream_of_its_session() {
    let program = Program::start("");
    let client = open(&program, "My Editor", &json!({ "sampling": {} }));
    assert!(models(&program).is_empty(), "it does not listen yet");
    let mut listening = client.listen(None);
    assert_eq!(models(&program), ["My-Editor"]);
    let asked = json!({ "messages": [{ "role": "system", "content": "be brief" }, { "role": "user", "content": "hi" }], "temperature": 0.5, "stop": ["END"] });
    let waiting = ask(&program, "My-Editor", "", &asked);
    let question = listening.message().unwrap();
    assert_eq!(question["method"], "sampling/createMessage");
    assert_eq!(
        question["params"],
        json!({
            "messages": [{ "role": "user", "content": { "type": "text", "text": "hi" } }],
            "systemPrompt": "be brief", "maxTokens": 8192, "temperature": 0.5, "stopSequences": ["END"],
        })
    );
    answer(&client, &question, &said("hello"));
    assert_eq!(content(&whole(waiting)), "hello");
    // A streamed answer comes at once.
    let waiting = ask(&program, "My-Editor", "again", &json!({ "stream": true, "max_tokens": 5 }));
    let question = listening.message().unwrap();
    assert_eq!(question["params"]["maxTokens"], 5);
    answer(&client, &question, &json!({ "role": "assistant", "model": "m", "content": [{ "type": "text", "text": "cut" }], "stopReason": "maxTokens" }));
    let streamed = whole(waiting);
    assert_eq!(streamed.text(), "cut");
    assert!(streamed.body.contains(r#""finish_reason":"length""#), "{}", streamed.body);
    assert_eq!(client.delete().status, 204);
    assert_eq!(listening.message(), None);
    assert!(models(&program).is_empty());
    assert_eq!(client.post(&request(1, "ping", &json!({}))).status, 404);
}

#[test]
fn questions_come_on_an_open_call_and_it_ends_by_itself() {
    let program = Program::start("");
    let client = open(&program, "loop", &json!({ "sampling": {} }));
    let tools = client.post(&request(1, "tools/list", &json!({}))).json();
    assert_eq!(tools["result"]["tools"][0]["name"], "serve");
    let wrong = client.call("serve", &json!({ "seconds": 0 }));
    assert_eq!(wrong["result"]["isError"], true);
    assert_eq!(client.post(&call(3, "no", &json!({}))).json()["error"]["code"], -32602);
    assert_eq!(client.post(&request(4, "prompts/list", &json!({}))).json()["error"]["code"], -32601);
    let mut listening = client.listen(None);
    let mut open = client.stream(&call("c", "serve", &json!({ "seconds": 2 })));
    let waiting = ask(&program, "loop", "one", &json!({}));
    // A question belongs to the call that is open.
    let question = open.message().unwrap();
    assert_eq!(question["params"]["messages"][0]["content"]["text"], "one");
    answer(&client, &question, &said("1"));
    assert_eq!(content(&whole(waiting)), "1");
    let ended = open.message().unwrap();
    assert_eq!(ended["id"], "c");
    let text = ended["result"]["content"][0]["text"].as_str().unwrap();
    assert!(text.contains("Call `serve` again"), "{text}");
    assert_eq!(open.message(), None);
    // It is the same agent in between, and another call goes on.
    let before = sessions(&program);
    let mut waiting = Some(ask(&program, "loop", "two", &json!({})));
    let question = listening.message().unwrap();
    answer(&client, &question, &said("2"));
    assert_eq!(content(&whole(waiting.take().unwrap())), "2");
    assert_eq!(before.len(), 1);
    assert_eq!(before[0]["session_id"], sessions(&program)[0]["session_id"]);
}

#[test]
fn a_question_waits_for_the_next_call() {
    let program = Program::start("");
    let client = open(&program, "gap", &json!({ "sampling": {} }));
    let ended = client.call("serve", &json!({ "seconds": 1 }));
    assert!(ended["result"].get("isError").is_none(), "{ended}");
    assert_eq!(models(&program), ["gap"]);
    let waiting = ask(&program, "gap", "kept", &json!({}));
    let mut open = client.stream(&call(2, "serve", &json!({})));
    let question = open.message().unwrap();
    assert_eq!(question["params"]["messages"][0]["content"]["text"], "kept");
    answer(&client, &question, &said("it was"));
    assert_eq!(content(&whole(waiting)), "it was");
}

#[test]
fn tools_are_those_of_the_caller_where_the_client_calls_any() {
    let program = Program::start("");
    let client = open(&program, "able", &json!({ "sampling": { "tools": {} } }));
    let mut listening = client.listen(None);
    let tools = json!([{ "type": "function", "function": { "name": "clock", "description": "time", "parameters": { "type": "object", "properties": { "zone": {} } } } }]);
    let waiting = ask(&program, "able", "time?", &json!({ "tools": tools, "tool_choice": "required" }));
    let question = listening.message().unwrap();
    let params = &question["params"];
    assert_eq!(params["tools"], json!([{ "name": "clock", "description": "time", "inputSchema": { "type": "object", "properties": { "zone": {} } } }]));
    assert_eq!(params["toolChoice"], json!({ "mode": "required" }));
    let used = json!({ "role": "assistant", "model": "m", "stopReason": "toolUse", "content": [
        { "type": "text", "text": "looking" }, { "type": "tool_use", "id": "t1", "name": "clock", "input": { "zone": "UTC" } } ] });
    answer(&client, &question, &used);
    let called = whole(waiting).json();
    let choice = &called["choices"][0];
    assert_eq!(choice["finish_reason"], "tool_calls", "{called}");
    assert_eq!(choice["message"]["content"], "looking");
    let calls = &choice["message"]["tool_calls"];
    assert_eq!((&calls[0]["id"], &calls[0]["function"]["name"]), (&json!("t1"), &json!("clock")));
    assert_eq!(calls[0]["function"]["arguments"], r#"{"zone":"UTC"}"#);
    // The result goes back.
    let mut messages = json!([{ "role": "user", "content": "time?" }, choice["message"], { "role": "tool", "tool_call_id": "t1", "content": "noon" }]);
    let waiting = ask(&program, "able", "", &json!({ "tools": tools, "messages": messages }));
    let question = listening.message().unwrap();
    let told = question["params"]["messages"].as_array().unwrap();
    assert_eq!(told[1], json!({ "role": "assistant", "content": used["content"] }));
    assert_eq!(
        told[2],
        json!({ "role": "user", "content": { "type": "tool_result", "toolUseId": "t1", "content": [{ "type": "text", "text": "noon" }] } })
    );
    answer(&client, &question, &said("it is noon"));
    assert_eq!(content(&whole(waiting)), "it is noon");
    // A call without its result is refused, and the client hears nothing of it.
    messages.as_array_mut().unwrap().pop();
    let refused = whole(ask(&program, "able", "", &json!({ "tools": tools, "messages": messages })));
    assert_eq!(refused.status, 400, "{refused:?}");
    assert!(refused.body.contains("a call of a tool whose result does not follow it"), "{refused:?}");
}

#[test]
fn a_client_without_tools_is_told_of_none() {
    let program = Program::start("");
    let client = open(&program, "plain", &json!({ "sampling": {} }));
    let mut listening = client.listen(None);
    let tools = json!([{ "type": "function", "function": { "name": "clock" } }]);
    let waiting = ask(&program, "plain", "time?", &json!({ "tools": tools, "top_p": 0.5 }));
    let question = listening.message().unwrap();
    assert_eq!(question["params"].get("tools"), None);
    answer(&client, &question, &said("late"));
    let answered = whole(waiting);
    assert_eq!(content(&answered), "late");
    assert_eq!(answered.header("x-ignored-parameters"), Some("top_p, tools"));
}

#[test]
fn a_request_that_nobody_waits_for_is_taken_back() {
    let program = Program::start("");
    let client = open(&program, "slow", &json!({ "sampling": {} }));
    let mut listening = client.listen(None);
    let waiting = ask(&program, "slow", "long", &json!({}));
    let question = listening.message().unwrap();
    waiting.shutdown(Shutdown::Both).unwrap();
    let cancelled = listening.message().unwrap();
    assert_eq!(cancelled["method"], "notifications/cancelled");
    assert_eq!(cancelled["params"]["requestId"], question["id"]);
    // An answer that was on its way goes nowhere.
    answer(&client, &question, &said("late"));
}

#[test]
fn a_client_that_leaves_fails_what_it_was_asked() {
    let program = Program::start("");
    let client = open(&program, "leaver", &json!({ "sampling": {} }));
    let mut open = client.stream(&call(1, "serve", &json!({})));
    let waiting = ask(&program, "leaver", "stay", &json!({}));
    assert!(open.message().is_some());
    drop(open);
    let lost = whole(waiting);
    assert_eq!((lost.status, &lost.json()["error"]["code"]), (502, &json!("agent_lost")), "{lost:?}");
    assert!(models(&program).is_empty());
    assert_eq!(client.post(&request(2, "ping", &json!({}))).status, 404);
}

#[test]
fn a_refused_request_and_a_failed_one_are_told() {
    let program = Program::start("");
    let client = open(&program, "guard", &json!({ "sampling": {} }));
    let mut listening = client.listen(None);
    let waiting = ask(&program, "guard", "x", &json!({}));
    let question = listening.message().unwrap();
    let error = json!({ "code": -1, "message": "User rejected sampling request" });
    client.post(&json!({ "jsonrpc": "2.0", "id": question["id"], "error": error }));
    let refused = whole(waiting).json();
    assert_eq!(refused["choices"][0]["finish_reason"], "content_filter", "{refused}");
    for (answer, code) in [
        (json!({ "error": { "code": -32603, "message": "no model" } }), "agent_error"),
        (json!({ "result": { "role": "assistant", "model": "m" } }), "agent_fault"),
        (json!({ "result": { "role": "assistant", "model": "m", "content": { "type": "image", "data": "", "mimeType": "image/png" } } }), "agent_fault"),
    ] {
        let waiting = ask(&program, "guard", "x", &json!({}));
        let question = listening.message().unwrap();
        let mut answer = answer;
        answer["jsonrpc"] = json!("2.0");
        answer["id"] = question["id"].clone();
        client.post(&answer);
        let failed = whole(waiting);
        assert_eq!((failed.status, &failed.json()["error"]["code"]), (502, &json!(code)), "{failed:?}");
    }
}

#[test]
fn two_clients_answer_each_for_itself() {
    let program = Program::start("");
    let names = ["first", "second"];
    let clients: Vec<Client<'_>> = names.iter().map(|name| open(&program, name, &json!({ "sampling": {} }))).collect();
    let mut streams: Vec<Events> = clients.iter().map(|client| client.listen(None)).collect();
    thread::scope(|scope| {
        for ((name, client), stream) in names.iter().zip(&clients).zip(&mut streams) {
            let program = &program;
            scope.spawn(move || {
                for round in 0..10 {
                    let text = format!("{name}-{round}");
                    let waiting = ask(program, name, &text, &json!({}));
                    let question = stream.message().unwrap();
                    assert_eq!(question["params"]["messages"][0]["content"]["text"], text);
                    answer(client, &question, &said(&text));
                    assert_eq!(content(&whole(waiting)), text);
                }
            });
        }
    });
    // The session of one is none for another key, and its questions are not the other's to answer.
    let mut stranger = clients[0].clone();
    stranger.key = CLIENT;
    assert_eq!(stranger.post(&request(1, "ping", &json!({}))).status, 403);
    let waiting = ask(&program, "first", "whose?", &json!({}));
    let question = streams[0].message().unwrap();
    answer(&clients[1], &question, &said("mine"));
    answer(&clients[0], &question, &said("his"));
    assert_eq!(content(&whole(waiting)), "his");
}

#[test]
fn who_cannot_be_asked_is_told_so() {
    let program = Program::start("");
    let mut client = Client::new(&program, BRIDGE);
    client.path = "/mcp/agent".to_owned();
    let hello = json!({ "protocolVersion": NEWEST, "capabilities": {}, "clientInfo": { "name": "x", "version": "1" } });
    let refused = client.post(&request(0, "initialize", &hello));
    assert_eq!((refused.status, &refused.json()["error"]["code"]), (400, &json!(-32602)));
    assert!(refused.body.contains("`sampling`"), "{refused:?}");
    assert_eq!(client.post(&request(1, "ping", &json!({}))).status, 400);
    client.key = CLIENT;
    assert_eq!(client.post(&request(0, "initialize", &hello)).status, 403);
    client.key = "none";
    assert_eq!(client.post(&request(0, "initialize", &hello)).status, 401);
}

#[test]
fn an_operator_approves_and_revokes_a_client() {
    let program = Program::start("sessions: { approval: manual }\n");
    let client = open(&program, "asker", &json!({ "sampling": {} }));
    let mut open = client.stream(&call(1, "serve", &json!({})));
    let listed = sessions(&program);
    assert_eq!((listed.len(), &listed[0]["status"]), (1, &json!("pending")), "{listed:?}");
    control(&program, "approve", &listed[0]["session_id"]);
    let waiting = ask(&program, "asker", "now?", &json!({}));
    let question = open.message().unwrap();
    answer(&client, &question, &said("now"));
    assert_eq!(content(&whole(waiting)), "now");
    control(&program, "revoke", &listed[0]["session_id"]);
    let ended = open.message().unwrap();
    assert_eq!(ended["result"]["isError"], true, "{ended}");
    assert_eq!(open.message(), None);
    until(|| (client.post(&request(2, "ping", &json!({}))).status == 404).then_some(()));
}

#[test]
fn a_program_that_ends_ends_its_calls() {
    let mut program = Program::start("");
    let session = open(&program, "last", &json!({ "sampling": {} })).session;
    let client = Client { session, path: "/mcp/agent".to_owned(), ..Client::new(&program, BRIDGE) };
    let mut open = client.stream(&call(1, "serve", &json!({})));
    let waiting = ask(&program, "last", "still?", &json!({}));
    let question = open.message().unwrap();
    program.signal("TERM");
    program.wait_for_log("drain");
    answer(&client, &question, &said("still"));
    assert_eq!(content(&whole(waiting)), "still");
    let ended = open.message().unwrap();
    assert_eq!(ended["id"], 1, "{ended}");
    drop(client);
    assert!(program.wait().0.success());
}
