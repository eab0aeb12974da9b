//! Clients with sessions before a server that speaks revision 2026-07-28 alone.

use super::client::{Client, KEY, call, request, server, start};
use crate::program::Program;
use serde_json::{Value, json};

fn start_modern() -> Program {
    start("", &[server("suite", "modern")])
}

#[test]
fn a_server_without_sessions_is_used_by_a_client_with_one() {
    let program = start_modern();
    let mut client = Client::new(&program, KEY);
    let opened = client.initialize("2025-06-18", "ide").json();
    let capabilities =
        json!({ "tools": { "listChanged": true }, "resources": { "subscribe": true }, "logging": {} });
    let info = json!({ "name": "suite", "version": "1" });
    let expected =
        json!({ "protocolVersion": "2025-06-18", "capabilities": capabilities, "serverInfo": info });
    assert_eq!(opened["result"], expected);
    // What a client says of itself goes with each request.
    let heard: Vec<Value> = serde_json::from_str(&client.text("heard", &json!({}))).unwrap();
    let methods: Vec<&str> = heard
        .iter()
        .map(|message| message["method"].as_str().unwrap())
        .collect();
    assert_eq!(
        methods,
        ["initialize", "server/discover", "subscriptions/listen", "tools/call"]
    );
    for message in &heard[1..] {
        let meta = &message["params"]["_meta"];
        assert_eq!(meta["io.modelcontextprotocol/protocolVersion"], "2026-07-28");
        assert_eq!(meta["io.modelcontextprotocol/clientInfo"]["name"], "ide");
        assert_eq!(meta["io.modelcontextprotocol/clientCapabilities"], json!({ "sampling": {} }));
    }
    // The next process of this server is not asked for sessions.
    let next = Client::open(&program);
    let heard = next.text("heard", &json!({}));
    assert!(!heard.contains("\"initialize\""), "{heard}");
    // A resource that is not there, as sessions know it.
    let read = client.post(&request(1, "resources/read", &json!({ "uri": "x://y" })));
    let error = json!({ "code": -32002, "message": "refused", "data": { "uri": "x://y" } });
    assert_eq!(read.json()["error"], error);
}

#[test]
fn a_server_without_sessions_asks_the_model_of_the_call_that_it_answers() {
    let program = start_modern();
    let client = Client::open(&program);
    let ask = |id, text: &str| client.stream(&call(id, "ask", &json!({ "text": text })));
    // Two calls are asked on their own streams.
    let mut streams = [ask(1, "one"), ask(2, "two")];
    for (events, text) in streams.iter_mut().zip(["one", "two"]) {
        let question = events.message().unwrap();
        assert_eq!(question["method"], "sampling/createMessage");
        assert_eq!(question["params"]["messages"][0]["content"]["text"], text);
        let said = json!({ "role": "assistant", "model": text, "content": { "type": "text", "text": "this" } });
        let answer = json!({ "jsonrpc": "2.0", "id": question["id"], "result": said });
        assert_eq!(client.post(&answer).status, 202);
        let result = events.message().unwrap();
        let heard = result["result"]["content"][0]["text"].as_str().unwrap();
        assert_eq!(serde_json::from_str::<Value>(heard).unwrap(), json!([said, text]));
        assert_eq!(result["result"].get("resultType"), None);
        assert_eq!(events.message(), None);
    }
    // A client that will not answer ends its call with that.
    let mut events = ask(3, "three");
    let question = events.message().unwrap();
    let error = json!({ "code": -1, "message": "not now" });
    client.post(&json!({ "jsonrpc": "2.0", "id": question["id"], "error": error }));
    let result = events.message().unwrap();
    assert_eq!((&result["id"], &result["error"]), (&json!(3), &error));
}

#[test]
fn levels_and_subscriptions_reach_a_server_without_sessions() {
    let program = start_modern();
    let client = Client::open(&program);
    let ask = |method: &str, params: Value| {
        let answer = client.post(&request(method, method, &params));
        let last = answer.body.rsplit("data: ").next().unwrap();
        let answer: Value = serde_json::from_str(last.trim()).unwrap();
        assert_eq!(answer["result"], json!({}), "{answer}");
    };
    ask("logging/setLevel", json!({ "level": "warning" }));
    let mut events = client.stream(&call(1, "log", &json!({ "text": "heard" })));
    let logged = events.message().unwrap();
    assert_eq!(logged["params"], json!({ "level": "warning", "data": "heard" }));
    assert_eq!(events.message().unwrap()["id"], 1);
    let mut listening = client.listen(None);
    ask("resources/subscribe", json!({ "uri": "a:b" }));
    client.call("touch", &json!({ "uri": "a:b" }));
    let updated = listening.message().unwrap();
    assert_eq!(updated["method"], "notifications/resources/updated");
    assert_eq!(updated["params"], json!({ "uri": "a:b" }));
    ask("resources/unsubscribe", json!({ "uri": "a:b" }));
    client.call("touch", &json!({ "uri": "a:b" }));
    client.call("change", &json!({}));
    assert_eq!(listening.message().unwrap()["method"], "notifications/tools/list_changed");
}
