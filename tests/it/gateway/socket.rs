//! WebSockets of MCP clients: the envelope of `/ws` with every frame, code and close code, and plain messages with the subprotocol `mcp`.

use super::client::{Client, KEY, NEWEST, OTHER, call, hello, request, server, start, start_one};
use crate::child_process::ends;
use crate::program::Program;
use serde_json::{Value, json};
use std::net::TcpStream;
use tungstenite::client::IntoClientRequest;
use tungstenite::{Error, HandshakeError, Message, WebSocket};

/// One WebSocket.
struct Socket {
    stream: WebSocket<TcpStream>,
    /// `Mcp-Session-Id` and `Sec-WebSocket-Protocol` of the answer.
    session: Option<String>,
    subprotocol: Option<String>,
}

impl Socket {
    fn dial(program: &Program, key: &str, path: &str, subprotocol: Option<&str>) -> Result<Self, u16> {
        let mut request = format!("ws://localhost{path}").into_client_request().unwrap();
        let headers = request.headers_mut();
        headers.insert("authorization", format!("Bearer {key}").parse().unwrap());
        if let Some(name) = subprotocol {
            headers.insert("sec-websocket-protocol", name.parse().unwrap());
        }
        match tungstenite::client(request, program.connect()) {
            Ok((stream, answer)) => {
                let header = |name: &str| answer.headers().get(name).map(|value| value.to_str().unwrap().to_owned());
                Ok(Self {
                    session: header("mcp-session-id"),
                    subprotocol: header("sec-websocket-protocol"),
                    stream,
                })
            }
            Err(HandshakeError::Failure(Error::Http(answer))) => Err(answer.status().as_u16()),
            Err(error) => panic!("{error}"),
        }
    }

    fn open(program: &Program, path: &str) -> Self {
        Self::dial(program, KEY, path, None).unwrap()
    }

    /// A socket with a session of its own, and the id of that.
    fn create(program: &Program) -> (Self, String) {
        let mut socket = Self::open(program, "/ws");
        let create = json!({ "type": "create_session", "client_id": "ide", "metadata": {}, "capabilities": { "sampling": {} } });
        let created = socket.ask(&create);
        assert_eq!(created["type"], "session_created", "{created}");
        assert_eq!(created["protocol_version"], NEWEST);
        assert_eq!(created["server_info"]["name"], "suite");
        assert_eq!(created["capabilities"]["tools"]["listChanged"], true);
        assert!(created["expires_at"].as_str().unwrap().ends_with('Z'), "{created}");
        assert!(created.get("attached").is_none(), "{created}");
        let id = created["session_id"].as_str().unwrap().to_owned();
        (socket, id)
    }

    fn attach(program: &Program, id: &str, last_event: Option<&str>) -> (Self, Value) {
        let mut socket = Self::open(program, "/ws");
        let attach = json!({ "type": "attach_session", "session_id": id, "last_event_id": last_event });
        let attached = socket.ask(&attach);
        (socket, attached)
    }

    fn send(&mut self, message: &Value) {
        self.stream.send(Message::text(message.to_string())).unwrap();
    }

    fn next(&mut self) -> Value {
        loop {
            match self.stream.read().unwrap() {
                Message::Text(text) => return serde_json::from_str(&text).unwrap(),
                Message::Ping(_) | Message::Pong(_) => {}
                other => panic!("{other:?}"),
            }
        }
    }

    fn ask(&mut self, message: &Value) -> Value {
        self.send(message);
        self.next()
    }

    /// The next frame, which has this type.
    fn data(&mut self, kind: &str) -> Value {
        let frame = self.next();
        assert_eq!(frame["type"], kind, "{frame}");
        assert!(frame["event_id"].is_string(), "{frame}");
        frame["data"].clone()
    }

    fn refused(&mut self, code: &str) -> Value {
        let frame = self.next();
        assert_eq!((&frame["type"], &frame["code"]), (&json!("error"), &json!(code)), "{frame}");
        assert!(!frame["error"].as_str().unwrap().is_empty(), "{frame}");
        frame
    }

    /// The code with which the other side closes.
    fn closed(&mut self) -> u16 {
        loop {
            match self.stream.read() {
                Ok(Message::Close(frame)) => return frame.unwrap().code.into(),
                Ok(Message::Ping(_)) => {}
                other => panic!("{other:?}"),
            }
        }
    }
}

fn text_of(answer: &Value) -> &str {
    answer["result"]["content"][0]["text"].as_str().unwrap_or_else(|| panic!("{answer}"))
}

#[test]
fn a_session_is_created_used_and_closed_on_one_socket() {
    let program = start_one("");
    let (mut socket, id) = Socket::create(&program);
    socket.send(&call("7", "echo", &json!({ "text": "für dich" })));
    let answer = socket.data("response");
    assert_eq!((&answer["id"], text_of(&answer)), (&json!("7"), "für dich"));
    // A tool's own method, with its token.
    let params = json!({ "steps": 1, "text": "done", "_meta": { "progressToken": "t" } });
    socket.send(&request(1, "tools/progress", &params));
    assert_eq!(socket.data("notification")["params"]["progressToken"], "t");
    assert_eq!(text_of(&socket.data("response")), "done");
    socket.send(&request(2, "no/such", &json!({})));
    assert_eq!(socket.data("response")["error"]["code"], -32601, "a server's error is an answer");
    // A question of the server.
    socket.send(&call(3, "ask", &json!({ "id": 9, "text": "what now?" })));
    let question = socket.data("request");
    assert_eq!(question["method"], "sampling/createMessage");
    socket.send(&json!({ "jsonrpc": "2.0", "id": question["id"], "result": { "said": 1 } }));
    assert_eq!(text_of(&socket.data("response")), r#"{"said":1}"#);
    // Any surface may use the session.
    let mut other = Client::new(&program, KEY);
    other.session = Some(id);
    let pid = other.pid();
    socket.send(&json!({ "type": "close_session" }));
    socket.refused("session_not_found");
    assert_eq!(socket.closed(), 4404);
    assert!(ends(&pid), "the process lives on");
}

#[test]
fn a_batch_is_answered_in_one_frame() {
    let program = start_one("");
    let (mut socket, _) = Socket::create(&program);
    let told = json!({ "jsonrpc": "2.0", "method": "notifications/roots/list_changed" });
    socket.send(&json!([told]));
    socket.send(&json!([call(1, "echo", &json!({ "text": "a" })), told, request(2, "ping", &json!({}))]));
    let answers = socket.data("response");
    let mut ids: Vec<i64> = answers.as_array().unwrap().iter().map(|answer| answer["id"].as_i64().unwrap()).collect();
    ids.sort_unstable();
    assert_eq!(ids, [1, 2], "{answers}");
}

#[test]
fn what_is_wrong_with_a_frame_is_named_and_the_socket_stays_open() {
    let program = start_one("");
    let mut socket = Socket::open(&program, "/ws");
    assert_eq!((&socket.session, &socket.subprotocol), (&None, &None));
    socket.send(&request(1, "ping", &json!({})));
    assert_eq!(socket.refused("no_session")["id"], 1);
    socket.send(&json!({ "type": "close_session" }));
    socket.refused("no_session");
    socket.stream.send(Message::text("{")).unwrap();
    socket.refused("bad_json");
    socket.stream.send(Message::binary(vec![1])).unwrap();
    socket.refused("bad_request");
    for wrong in [json!({ "type": "what" }), json!({ "type": "create_session" }), json!([]), json!(5)] {
        socket.send(&wrong);
        socket.refused("bad_request");
    }
    socket.send(&json!({ "type": "create_session", "client_id": "a", "server": "no" }));
    socket.refused("server_not_found");
    socket.send(&json!({ "type": "attach_session", "session_id": "no" }));
    socket.refused("session_not_found");
    let create = json!({ "type": "create_session", "client_id": "a" });
    let created = socket.ask(&create);
    assert_eq!(created["type"], "session_created", "{created}");
    socket.send(&create);
    socket.refused("bad_request");
    let held = call("h", "hold", &json!({ "text": "x" }));
    socket.send(&held);
    socket.send(&held);
    assert_eq!(socket.refused("bad_request")["id"], "h", "the id is in use");
    // Another key's session is nobody's.
    let mut other = Socket::dial(&program, OTHER, "/ws", None).unwrap();
    other.send(&json!({ "type": "attach_session", "session_id": created["session_id"] }));
    other.refused("session_not_found");
}

#[test]
fn a_socket_that_is_lost_and_attached_again_is_told_what_it_missed() {
    let program = start_one("");
    let (mut socket, id) = Socket::create(&program);
    socket.send(&call(1, "echo", &json!({ "text": "got" })));
    let got = socket.next();
    socket.send(&call(2, "hold", &json!({ "text": "held" })));
    socket.send(&call(3, "echo", &json!({ "text": "last" })));
    assert_eq!(socket.data("response")["id"], 3, "both have arrived");
    drop(socket);
    // The request that was open goes on.
    let mut other = Client::new(&program, KEY);
    other.session = Some(id.clone());
    assert_eq!(other.text("release", &json!({})), "released");
    let last = got["event_id"].as_str().unwrap();
    let (mut socket, attached) = Socket::attach(&program, &id, Some(last));
    assert_eq!((&attached["attached"], &attached["replayed"]), (&json!(true), &json!(2)), "{attached}");
    assert_eq!(socket.data("response")["id"], 3);
    let answer = socket.data("response");
    assert_eq!((&answer["id"], text_of(&answer)), (&json!(2), "held"));
    // The newer one has the session, and nothing comes twice without an event to go on from.
    let (mut newer, attached) = Socket::attach(&program, &id, None);
    assert_eq!(attached["replayed"], 0, "{attached}");
    socket.refused("replaced");
    assert_eq!(socket.closed(), 4001);
    newer.send(&call(4, "echo", &json!({ "text": "new" })));
    assert_eq!(newer.data("response")["id"], 4);
    let (_, refused) = Socket::attach(&program, &id, Some("0-99999"));
    assert_eq!(refused["code"], "event_gone", "{refused}");
}

#[test]
fn a_plain_socket_speaks_mcp_and_nothing_else() {
    let program = start("", &[server("one", ""), server("two", "")]);
    let path = "/servers/two/ws";
    let mut socket = Socket::dial(&program, KEY, path, Some("mcp")).unwrap();
    assert_eq!(socket.subprotocol.as_deref(), Some("mcp"));
    let id = socket.session.clone().unwrap();
    let refused = socket.ask(&call("e", "echo", &json!({})));
    assert_eq!((&refused["id"], &refused["error"]["data"]["reason"]), (&json!("e"), &json!("bad_request")));
    let greeted = socket.ask(&request(0, "initialize", &hello("2025-06-18", "suite")));
    assert_eq!(greeted["result"]["protocolVersion"], "2025-06-18");
    socket.send(&json!({ "jsonrpc": "2.0", "method": "notifications/initialized" }));
    let answer = socket.ask(&call("7", "echo", &json!({ "text": "plain" })));
    assert_eq!((&answer["id"], text_of(&answer)), (&json!("7"), "plain"));
    assert_eq!(socket.ask(&request(1, "tools/echo", &json!({})))["error"]["code"], -32601);
    drop(socket);
    // It is attached again by its id, with its key in the path.
    let path = format!("/k/{KEY}{path}?session_id={id}");
    let mut socket = Socket::dial(&program, "none", &path, Some("mcp")).unwrap();
    assert_eq!(socket.session.as_deref(), Some(&*id));
    let answer = socket.ask(&call(8, "echo", &json!({ "text": "again" })));
    assert_eq!(text_of(&answer), "again");
    for (key, path, status) in [
        (KEY, "/ws?session_id=no", 404),
        (KEY, "/servers/no/ws", 404),
        ("wrong", "/ws", 401),
    ] {
        let refused = Socket::dial(&program, key, path, Some("mcp")).err();
        assert_eq!(refused, Some(status), "{path}");
    }
}

#[test]
fn a_transport_that_is_not_to_be_served_is_not_there() {
    let program = start_one("gateway: { transports: [http] }\n");
    let mut client = Client::open(&program);
    assert_eq!(Socket::dial(&program, KEY, "/ws", None).err(), Some(404));
    let id = client.session.clone().unwrap();
    for path in ["/sse".to_owned(), format!("/events/{id}")] {
        client.path = path;
        assert_eq!(client.listen(None).refusal().status, 404, "{}", client.path);
    }
}

#[test]
fn a_client_that_answers_no_ping_is_taken_for_lost_and_its_session_stays() {
    let program = start_one("gateway: { timeouts: { heartbeat: 100ms } }\n");
    let (mut socket, id) = Socket::create(&program);
    // Pings are answered by a later read or write, and there is none before the end.
    let raw = socket.stream.get_mut();
    let mut peeked = Vec::new();
    std::io::Read::read_to_end(raw, &mut peeked).unwrap();
    assert!(peeked.windows(2).any(|bytes| bytes == 4003_u16.to_be_bytes()), "{peeked:?}");
    let (_, attached) = Socket::attach(&program, &id, None);
    assert_eq!(attached["attached"], true, "{attached}");
}
