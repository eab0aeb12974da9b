//! Servers that are reached over HTTP: a gateway in front of another one, with a stdio server behind.

use super::client::{
    Client, KEY, NEWEST, call, configure, hello, request, server, start, start_one,
    until, whole,
};
use crate::child_process::ends;
use crate::program::{Folder, Program, program};
use serde_json::{Value, json};
use std::io;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::thread;

/// Times of both gateways, so that nothing is waited for long.
const SOON: &str =
    "gateway: { restart: { delay: 50ms, attempts: 8 }, timeouts: { retry: 20ms } }\n";

/// Starts a gateway in front of the servers at these addresses, which are sent `key`.
fn start_before(servers: &[String], key: &str) -> Program {
    let folder = Folder::new();
    let config = configure(&folder, SOON, servers);
    std::fs::write(folder.0.join("far.key"), format!("Bearer {key}\n")).unwrap();
    let mut command = Command::new(program());
    command.arg("--config").arg(&config);
    Program::spawn(command, folder, config)
}

/// A server at `address`, with `more` keys.
fn far(address: SocketAddr, path: &str, more: &str) -> String {
    format!(
        "  far: {{ url: \"http://{address}/{path}\", headers: {{ Authorization: \"file:./far.key\" }}{more} }}\n"
    )
}

/// Both gateways: the far one, and the one before it.
fn both() -> (Program, Program) {
    let behind = start_one(SOON);
    let near = start_before(&[far(behind.address, "servers/suite/mcp", "")], KEY);
    (behind, near)
}

/// Passes bytes on between two addresses.
struct Relay {
    address: SocketAddr,
    open: Arc<Mutex<Vec<TcpStream>>>,
}

impl Relay {
    fn to(target: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let open: Arc<Mutex<Vec<TcpStream>>> = Arc::default();
        let all = open.clone();
        thread::spawn(move || {
            while let Ok((near, _)) = listener.accept() {
                let far = TcpStream::connect(target).unwrap();
                for (from, to) in [(&near, &far), (&far, &near)] {
                    let (mut from, mut to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
                    thread::spawn(move || {
                        let _ = io::copy(&mut from, &mut to);
                        let _ = to.shutdown(Shutdown::Write);
                    });
                }
                all.lock().unwrap().extend([near, far]);
            }
        });
        Self { address, open }
    }

    /// Cuts all connections.
    fn cut(&self) {
        for stream in self.open.lock().unwrap().drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

#[test]
fn everything_passes_to_a_server_behind_another_gateway_and_back() {
    let (behind, near) = both();
    let client = Client::open(&near);
    let echoed = client.post(&call("mine", "echo", &json!({ "text": "für dich" })));
    assert_eq!(echoed.json()["result"]["content"][0]["text"], "für dich");
    let params = json!({ "name": "progress", "arguments": { "steps": 3, "text": "done" }, "_meta": { "progressToken": "t" } });
    let mut events = client.stream(&request("p", "tools/call", &params));
    for step in 1..=3 {
        let progress = events.message().unwrap();
        assert_eq!(progress["params"]["progressToken"], "t");
        assert_eq!(progress["params"]["progress"], step);
    }
    assert_eq!(events.message().unwrap()["id"], "p");
    assert_eq!(events.message(), None);
    // The server asks, and is answered.
    let mut events = client.stream(&call(1, "ask", &json!({ "id": "q", "text": "what now?" })));
    let question = events.message().unwrap();
    assert_eq!(question["method"], "sampling/createMessage");
    let said = json!({ "role": "assistant", "model": "m", "content": { "type": "text", "text": "this" } });
    let answer = json!({ "jsonrpc": "2.0", "id": question["id"], "result": said });
    assert_eq!(client.post(&answer).status, 202);
    let heard = events.message().unwrap()["result"]["content"][0]["text"].clone();
    assert_eq!(serde_json::from_str::<Value>(heard.as_str().unwrap()).unwrap(), said);
    // What belongs to no request comes too: the far gateway has a stream for it.
    let mut listening = client.listen(None);
    client.text("change", &json!({}));
    let changed = listening.message().unwrap();
    assert_eq!(changed["method"], "notifications/tools/list_changed");
    // What the server says of a request is the answer.
    let own = client.post(&request(2, "no/such", &json!({})));
    let error = json!({ "code": -32601, "message": "no no/such here", "data": [1] });
    assert_eq!((own.status, &own.json()["error"]), (200, &error));
    // A request that is taken back is taken back there too.
    let held = client.send(&call("held", "hold", &json!({})).to_string());
    let heard = |is_meant: fn(&Value) -> bool| {
        let heard: Vec<Value> = serde_json::from_str(&client.text("heard", &json!({}))).unwrap();
        heard.into_iter().find(is_meant)
    };
    until(|| heard(|message| message["params"]["name"] == "hold"));
    let params = json!({ "requestId": "held", "reason": "enough" });
    let cancel = json!({ "jsonrpc": "2.0", "method": "notifications/cancelled", "params": params });
    assert_eq!(client.post(&cancel).status, 202);
    let cancelled = until(|| heard(|message| message["method"] == "notifications/cancelled"));
    assert_eq!(cancelled["params"]["reason"], "enough");
    drop(held);
    let pid = client.pid();
    assert_eq!(client.delete().status, 204);
    assert!(ends(&pid), "the far gateway is not told that the session is over");
    drop(behind);
}

#[test]
fn a_server_that_refuses_the_key_is_not_available_and_no_key_is_told() {
    let behind = start_one("");
    let wrong = "another-key-0123456789";
    let near = start_before(&[far(behind.address, "servers/suite/mcp", "")], wrong);
    let refused = Client::new(&near, KEY).post(&request(0, "initialize", &hello(NEWEST, "suite")));
    let error = refused.json()["error"].clone();
    assert_eq!(error["data"]["reason"], "server_unavailable", "{refused:?}");
    assert_eq!(error["data"]["server"], "far");
    assert!(error["message"].as_str().unwrap().contains("HTTP status 401"), "{error}");
    near.wait_for_log("HTTP status 401");
    assert!(!near.log().contains(wrong) && !refused.body.contains(wrong));
    let shown = near.command(&["mcp", "list"]);
    let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
    assert!(shown.contains("remote") && shown.contains("/servers/suite/mcp"), "{shown}");
    let found = near.command(&["doctor"]);
    let found = String::from_utf8_lossy(&found.stdout).into_owned();
    assert!(found.contains("far accepts connections"), "{found}");
    assert!(!found.contains(wrong) && !shown.contains(wrong));
}

#[test]
fn a_connection_that_is_cut_loses_and_repeats_nothing() {
    let behind = start_one(SOON);
    let relay = Relay::to(behind.address);
    let near = start_before(&[far(relay.address, "servers/suite/mcp", "")], KEY);
    let client = Client::open(&near);
    let mut listening = client.listen(None);
    for round in 0..3 {
        let params = json!({ "name": "progress", "arguments": { "steps": 3, "text": "done", "hold": true }, "_meta": { "progressToken": 7 } });
        let mut events = client.stream(&request(round, "tools/call", &params));
        for step in 1..=3 {
            assert_eq!(events.message().unwrap()["params"]["progress"], step);
        }
        relay.cut();
        assert_eq!(client.text("release", &json!({})), "released");
        let answer = events.message().unwrap();
        assert_eq!(answer["id"], round);
        assert_eq!(answer["result"]["content"][0]["text"], "done");
        assert_eq!(events.message(), None);
        // What belongs to no request is told once, though its stream was cut as well.
        client.text("change", &json!({}));
        let changed = listening.message().unwrap();
        assert_eq!(changed["method"], "notifications/tools/list_changed");
    }
    client.delete();
    assert_eq!(listening.message(), None);
}

#[test]
fn a_session_goes_on_when_its_server_is_gone_and_back() {
    let mut behind = start_one(SOON);
    let address = behind.address;
    let near = start_before(&[far(address, "servers/suite/mcp", "")], KEY);
    let client = Client::open(&near);
    let pid = client.pid();
    let held = client.send(&call(1, "hold", &json!({})).to_string());
    // The far server has it.
    until(|| client.text("heard", &json!({})).contains("\"hold\"").then_some(()));
    behind.signal("KILL");
    behind.wait();
    // It is a stream of events where it has come late.
    let failed = whole(held).body;
    let failed: Value = serde_json::from_str(failed.rsplit("data: ").next().unwrap().trim()).unwrap();
    assert_eq!(failed["error"]["data"]["reason"], "server_exited", "{failed}");
    assert_eq!(failed["error"]["data"]["server"], "far");
    let folder = Folder::new();
    let config = configure(&folder, SOON, &[server("suite", "")]);
    let text = std::fs::read_to_string(&config).unwrap();
    std::fs::write(&config, text.replacen("127.0.0.1:0", &address.to_string(), 1)).unwrap();
    let mut command = Command::new(program());
    command.arg("--config").arg(&config);
    let again = Program::spawn(command, folder, config);
    assert_eq!(again.address, address);
    assert_ne!(client.pid(), pid);
    assert_eq!(client.text("echo", &json!({ "text": "here again" })), "here again");
}

#[test]
fn a_server_of_the_first_revision_is_reached_by_its_two_addresses() {
    let behind = start_one(SOON);
    let near = start_before(&[far(behind.address, "servers/suite/sse", ", type: sse")], KEY);
    let client = Client::open(&near);
    assert_eq!(client.text("echo", &json!({ "text": "fine" })), "fine");
    let params = json!({ "name": "progress", "arguments": { "steps": 2, "text": "done" }, "_meta": { "progressToken": 1 } });
    let mut events = client.stream(&request(1, "tools/call", &params));
    for step in 1..=2 {
        assert_eq!(events.message().unwrap()["params"]["progress"], step);
    }
    assert_eq!(events.message().unwrap()["id"], 1);
    let pid = client.pid();
    assert_eq!(client.delete().status, 204);
    assert!(ends(&pid), "the far session lives on");
}

#[test]
fn a_server_without_a_type_is_found_to_speak_http_and_sse() {
    let behind = start_one(SOON);
    let near = start_before(&[far(behind.address, "servers/suite/sse", "")], KEY);
    let client = Client::open(&near);
    assert_eq!(client.text("echo", &json!({ "text": "fine" })), "fine");
}

/// A server at a WebSocket.
fn far_socket(address: SocketAddr) -> String {
    far(address, "servers/suite/ws", "").replace("http://", "ws://")
}

#[test]
fn everything_passes_by_a_websocket_and_back() {
    let behind = start_one(SOON);
    let near = start_before(&[far_socket(behind.address)], KEY);
    let client = Client::open(&near);
    assert_eq!(client.text("echo", &json!({ "text": "für\ndich" })), "für\ndich");
    let params = json!({ "name": "progress", "arguments": { "steps": 3, "text": "done" }, "_meta": { "progressToken": "t" } });
    let mut events = client.stream(&request("p", "tools/call", &params));
    for step in 1..=3 {
        let progress = events.message().unwrap();
        assert_eq!(progress["params"]["progressToken"], "t");
        assert_eq!(progress["params"]["progress"], step);
    }
    assert_eq!(events.message().unwrap()["id"], "p");
    // The server asks, and is answered.
    let mut events = client.stream(&call(1, "ask", &json!({ "id": "q", "text": "what now?" })));
    let question = events.message().unwrap();
    assert_eq!(question["method"], "sampling/createMessage");
    let said = json!({ "role": "assistant", "model": "m", "content": { "type": "text", "text": "this" } });
    let answer = json!({ "jsonrpc": "2.0", "id": question["id"], "result": said });
    assert_eq!(client.post(&answer).status, 202);
    let heard = events.message().unwrap()["result"]["content"][0]["text"].clone();
    assert_eq!(serde_json::from_str::<Value>(heard.as_str().unwrap()).unwrap(), said);
    let listed = near.command(&["mcp", "list"]);
    let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
    assert!(listed.contains("far"), "{listed}");
    // What belongs to no request comes too.
    let mut listening = client.listen(None);
    client.text("change", &json!({}));
    assert_eq!(listening.message().unwrap()["method"], "notifications/tools/list_changed");
}

#[test]
fn a_websocket_that_is_cut_fails_its_requests_and_is_dialled_again() {
    let behind = start_one(SOON);
    let relay = Relay::to(behind.address);
    let near = start_before(&[far_socket(relay.address)], KEY);
    let client = Client::open(&near);
    let held = client.send(&call(1, "hold", &json!({})).to_string());
    until(|| client.text("heard", &json!({})).contains("\"hold\"").then_some(()));
    relay.cut();
    // It is a stream of events where it has come late.
    let failed = whole(held).body;
    let failed: Value = serde_json::from_str(failed.rsplit("data: ").next().unwrap().trim()).unwrap();
    assert_eq!(failed["error"]["data"]["reason"], "server_exited", "{failed}");
    assert_eq!(client.text("echo", &json!({ "text": "here again" })), "here again");
}

#[test]
fn a_websocket_that_refuses_the_key_is_not_available() {
    let behind = start_one("");
    let wrong = "another-key-0123456789";
    let near = start_before(&[far_socket(behind.address)], wrong);
    let refused = Client::new(&near, KEY).post(&request(0, "initialize", &hello(NEWEST, "suite")));
    let error = refused.json()["error"].clone();
    assert_eq!(error["data"]["reason"], "server_unavailable", "{refused:?}");
    assert!(error["message"].as_str().unwrap().contains("401"), "{error}");
    assert!(!near.log().contains(wrong) && !refused.body.contains(wrong));
}

#[test]
fn a_server_that_nobody_listens_for_is_not_available() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let near = start("", &[format!("  far: {{ url: \"http://{address}/mcp\" }}\n")]);
    let refused = Client::new(&near, KEY).post(&request(0, "initialize", &hello(NEWEST, "suite")));
    let error = refused.json()["error"].clone();
    assert_eq!(error["data"]["reason"], "server_unavailable", "{refused:?}");
    assert!(error["message"].as_str().unwrap().contains("cannot be reached"), "{error}");
}
