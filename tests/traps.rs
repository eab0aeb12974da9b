// What was found to go wrong in servers of this kind, held against the real thing over real sockets. Each driver's tests
// include it, with the driver's `Provider` and its PROGRAM.

use mcp_local_provider_core::config::{HubConfig, Key, Role};
use mcp_local_provider_core::hub::keys::digest;
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use tungstenite::handshake::server::{Request, Response};
use tungstenite::http::HeaderValue;
use tungstenite::protocol::frame::Frame;
use tungstenite::protocol::frame::coding::{Data, OpCode};
use tungstenite::{ClientRequestBuilder, Message, WebSocket};

const PATIENCE: Duration = Duration::from_secs(20);

fn key(name: &str, role: Role) -> Key {
    Key::new(name, digest(name.as_bytes()), role)
}

fn config() -> HubConfig {
    HubConfig {
        keys: vec![key("client", Role::Client), key("bridge", Role::Bridge)],
        auth_required: true,
        ..HubConfig::default()
    }
}

fn start(hub: HubConfig) -> Provider {
    Provider::start(Config::new(hub)).unwrap()
}

fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_nodelay(true).unwrap();
    stream
}

fn head(length: usize) -> String {
    format!(
        "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer client\r\nContent-Length: {length}\r\n\r\n"
    )
}

fn chat(stream: bool) -> String {
    let body =
        json!({"model": "m", "stream": stream, "messages": [{"role": "user", "content": "hi"}]});
    let body = body.to_string();
    head(body.len()) + &body
}

/// Everything up to the end of the connection.
fn rest(stream: &mut TcpStream) -> String {
    let mut text = Vec::new();
    // A reset counts as an end.
    let _ = stream.read_to_end(&mut text);
    String::from_utf8_lossy(&text).into_owned()
}

fn until(stream: &mut TcpStream, end: &str) -> String {
    let mut text = Vec::new();
    let mut byte = [0];
    while !text.ends_with(end.as_bytes()) {
        assert_eq!(
            stream.read(&mut byte).unwrap(),
            1,
            "{}",
            String::from_utf8_lossy(&text)
        );
        text.push(byte[0]);
    }
    String::from_utf8(text).unwrap()
}

/// An agent that does what the test says.
struct Agent(WebSocket<TcpStream>);

impl Agent {
    fn connect(address: SocketAddr) -> Self {
        let mut agent = Self::connect_only(address);
        agent.send(
            &json!({"type": "register", "agent_id": "a", "models": ["m"], "max_concurrency": 8}),
        );
        assert_eq!(agent.receive()["type"], "registered");
        agent
    }

    fn connect_only(address: SocketAddr) -> Self {
        let request = ClientRequestBuilder::new(format!("ws://{address}/agent").parse().unwrap())
            .with_header("Authorization", "Bearer bridge")
            .with_header("Sec-WebSocket-Extensions", "permessage-deflate")
            .with_sub_protocol("other")
            .with_sub_protocol("mcp-local-provider.v1");
        let (socket, response) = tungstenite::client(request, connect(address)).unwrap();
        assert_eq!(
            response.headers()["Sec-WebSocket-Protocol"],
            "mcp-local-provider.v1"
        );
        assert!(!response.headers().contains_key("Sec-WebSocket-Extensions"));
        Self(socket)
    }

    fn send(&mut self, message: &Value) {
        self.0.send(Message::text(message.to_string())).unwrap();
    }

    fn receive(&mut self) -> Value {
        loop {
            if let Message::Text(text) = self.0.read().unwrap() {
                return serde_json::from_str(&text).unwrap();
            }
        }
    }

    fn invoked(&mut self) -> String {
        let message = self.receive();
        assert_eq!(message["type"], "model_invoke", "{message}");
        message["id"].as_str().unwrap().to_owned()
    }

    fn chunk(&mut self, id: &str, index: u64, text: &str) {
        self.send(&json!({"type": "model_stream_chunk", "id": id, "chunk_index": index, "delta": {"content": text}}));
    }

    fn end(&mut self, id: &str, index: u64) {
        self.send(&json!({"type": "model_stream_chunk", "id": id, "chunk_index": index, "delta": {}, "finish_reason": "stop"}));
    }

    /// The code that the provider closes with.
    fn closed(&mut self) -> u16 {
        loop {
            match self.0.read() {
                Ok(Message::Close(Some(frame))) => return frame.code.into(),
                Ok(_) => {}
                Err(error) => panic!("no close frame: {error}"),
            }
        }
    }
}

#[test]
fn a_stream_arrives_piece_by_piece_and_ends() {
    let provider = start(config());
    let mut agent = Agent::connect(provider.addresses()[0]);
    let mut client = connect(provider.addresses()[0]);
    client.write_all(chat(true).as_bytes()).unwrap();
    let id = agent.invoked();
    for (index, word) in ["one", "two", "three"].into_iter().enumerate() {
        agent.chunk(&id, index as u64, word);
        until(&mut client, word);
    }
    agent.end(&id, 3);
    until(&mut client, "[DONE]\n\n\r\n0\r\n\r\n");
    client.write_all(chat(false).as_bytes()).unwrap();
    let id = agent.invoked();
    agent.chunk(&id, 0, "whole");
    agent.end(&id, 1);
    assert!(until(&mut client, "}}").contains("whole"));
}

#[test]
fn a_client_that_goes_away_in_silence_is_told_to_the_agent() {
    let provider = start(config());
    let mut agent = Agent::connect(provider.addresses()[0]);
    for stream in [true, false] {
        let mut client = connect(provider.addresses()[0]);
        client.write_all(chat(stream).as_bytes()).unwrap();
        let id = agent.invoked();
        if stream {
            agent.chunk(&id, 0, "word");
            until(&mut client, "word");
        }
        drop(client);
        let cancel = agent.receive();
        assert_eq!(
            (cancel["type"].as_str(), cancel["id"].as_str()),
            (Some("model_cancel"), Some(&*id))
        );
        assert_eq!(cancel["reason"], "client_disconnected");
    }
}

#[test]
fn a_client_that_half_closes_is_taken_for_gone() {
    let provider = start(config());
    let mut agent = Agent::connect(provider.addresses()[0]);
    let mut client = connect(provider.addresses()[0]);
    client.write_all(chat(true).as_bytes()).unwrap();
    let id = agent.invoked();
    client.shutdown(Shutdown::Write).unwrap();
    let cancel = agent.receive();
    assert_eq!(
        (cancel["type"].as_str(), cancel["id"].as_str()),
        (Some("model_cancel"), Some(&*id))
    );
    assert_eq!(rest(&mut client), "");
}

#[test]
fn a_lost_agent_ends_a_stream_with_an_error_and_a_whole_answer_with_a_status() {
    let provider = start(config());
    let mut agent = Agent::connect(provider.addresses()[0]);
    let mut streaming = connect(provider.addresses()[0]);
    streaming.write_all(chat(true).as_bytes()).unwrap();
    let id = agent.invoked();
    agent.chunk(&id, 0, "word");
    until(&mut streaming, "word");
    let mut whole = connect(provider.addresses()[0]);
    whole.write_all(chat(false).as_bytes()).unwrap();
    agent.invoked();
    drop(agent);
    let end = until(&mut streaming, "0\r\n\r\n");
    assert!(end.contains("agent_lost"), "{end}");
    assert!(until(&mut whole, "}}").starts_with("HTTP/1.1 502"));
}

#[test]
fn each_breach_of_the_websocket_protocol_gets_its_close_code() {
    let mut hub = config();
    hub.limits.agent_frame_bytes = 64 << 10;
    let provider = start(hub);
    let frame = |fin, code, payload: &[u8]| {
        Message::Frame(Frame::message(payload.to_vec(), OpCode::Data(code), fin))
    };
    for (message, code) in [
        (frame(true, Data::Continue, b"x"), 1002),
        (frame(true, Data::Reserved(3), b"x"), 1002),
        (frame(true, Data::Text, b"\xff\xfe"), 1007),
        (frame(true, Data::Text, &vec![b' '; (64 << 10) + 1]), 1009),
    ] {
        let mut agent = Agent::connect_only(provider.addresses()[0]);
        // The provider may close before it has read all of it.
        let _ = agent.0.send(message);
        assert_eq!(agent.closed(), code);
    }
}

#[test]
fn a_slow_body_is_cut_with_408_and_a_slow_head_without_a_word() {
    let mut hub = config();
    hub.timeouts.body = Duration::from_millis(100);
    hub.timeouts.head = Duration::from_millis(100);
    let provider = start(hub);
    let mut body = connect(provider.addresses()[0]);
    body.write_all(head(100).as_bytes()).unwrap();
    body.write_all(b"{").unwrap();
    let answer = rest(&mut body);
    assert!(answer.starts_with("HTTP/1.1 408"), "{answer}");
    assert!(answer.contains("timeouts.body"), "{answer}");
    let mut silent = connect(provider.addresses()[0]);
    assert_eq!(rest(&mut silent), "");
    let mut partial = connect(provider.addresses()[0]);
    partial.write_all(b"POST /v1/chat").unwrap();
    rest(&mut partial);
}

#[test]
fn a_body_over_the_limit_is_refused_in_words_that_reach_the_client() {
    let mut hub = config();
    hub.limits.body_bytes = 1000;
    let provider = start(hub);
    let mut client = connect(provider.addresses()[0]);
    client.write_all(head(2_000_000).as_bytes()).unwrap();
    client.write_all(&vec![b' '; 2_000_000]).unwrap();
    let answer = until(&mut client, "}}");
    assert!(answer.starts_with("HTTP/1.1 413"), "{answer}");
    assert!(answer.contains("1000"), "{answer}");
    let mut chunked = connect(provider.addresses()[0]);
    let head = head(0).replace("Content-Length: 0", "Transfer-Encoding: chunked");
    chunked.write_all(head.as_bytes()).unwrap();
    chunked
        .write_all(format!("7d0\r\n{}\r\n0\r\n\r\n", " ".repeat(2000)).as_bytes())
        .unwrap();
    assert!(until(&mut chunked, "}}").starts_with("HTTP/1.1 413"));
}

#[test]
fn a_body_of_single_bytes_takes_no_more_memory_than_its_bytes() {
    let provider = start(config());
    let mut clients: Vec<TcpStream> = (0..20).map(|_| connect(provider.addresses()[0])).collect();
    for client in &mut clients {
        client.write_all(head(1000).as_bytes()).unwrap();
    }
    let before = resident();
    for _ in 0..400 {
        for client in &mut clients {
            client.write_all(b" ").unwrap();
        }
    }
    // An answer on another connection shows that the bytes were read meanwhile.
    let mut other = connect(provider.addresses()[0]);
    other
        .write_all(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
        .unwrap();
    until(&mut other, "}");
    let grown = resident().saturating_sub(before);
    assert!(grown < 16 << 20, "{grown} bytes more");
}

/// Resident memory of this process in bytes.
fn resident() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    statm.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
}

#[test]
fn connections_beyond_the_limit_are_told_so() {
    let mut hub = config();
    hub.limits.connections = 1;
    let provider = start(hub);
    let mut first = connect(provider.addresses()[0]);
    let begun = head(100).replace("\r\n\r\n", "\r\nExpect: 100-continue\r\n\r\n");
    first.write_all(begun.as_bytes()).unwrap();
    // It is at work, so it does not make room.
    until(&mut first, "100 Continue\r\n\r\n");
    let mut second = connect(provider.addresses()[0]);
    let answer = rest(&mut second);
    assert!(answer.starts_with("HTTP/1.1 503"), "{answer}");
    assert!(answer.contains("limits.connections"), "{answer}");
}

#[test]
fn requests_that_programs_read_differently_are_refused_and_nothing_follows_them() {
    let provider = start(config());
    for (request, status) in [
        ("GET /health HTTP/1.1\r\n\r\n", 400),
        ("GET /health HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", 400),
        ("GET /health HTTP/1.1\r\nHost: a/b\r\n\r\n", 400),
        (
            "POST /health HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: identity\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            400,
        ),
        (
            "POST /health HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n",
            400,
        ),
        (
            "GET http://elsewhere/health HTTP/1.1\r\nHost: localhost\r\n\r\n",
            400,
        ),
        (
            "GET /health HTTP/1.1\r\nHost: elsewhere\r\nConnection: close\r\n\r\n",
            403,
        ),
    ] {
        let mut client = connect(provider.addresses()[0]);
        client.write_all(request.as_bytes()).unwrap();
        let answer = rest(&mut client);
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status}")),
            "{request}: {answer}"
        );
        assert_eq!(answer.matches("HTTP/1.1").count(), 1, "{request}");
    }
}

#[test]
fn shutting_down_lets_a_stream_end_and_then_says_good_bye_to_the_agent() {
    let provider = start(config());
    let mut agent = Agent::connect(provider.addresses()[0]);
    let mut client = connect(provider.addresses()[0]);
    client.write_all(chat(true).as_bytes()).unwrap();
    let mut idle = connect(provider.addresses()[0]);
    idle.write_all(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
        .unwrap();
    until(&mut idle, concat!("\"", env!("CARGO_PKG_VERSION"), "\"}"));
    let id = agent.invoked();
    agent.chunk(&id, 0, "before");
    until(&mut client, "before");
    provider.handle().shutdown();
    assert_eq!(rest(&mut idle), "");
    let mut late = connect(provider.addresses()[0]);
    late.write_all(chat(true).as_bytes()).unwrap();
    let refused = rest(&mut late);
    assert!(
        refused.starts_with("HTTP/1.1 503") && refused.contains("draining"),
        "{refused}"
    );
    agent.chunk(&id, 1, "after");
    agent.end(&id, 2);
    let end = rest(&mut client);
    assert!(end.contains("after") && end.ends_with("0\r\n\r\n"), "{end}");
    assert_eq!(agent.closed(), 1001);
    drop(agent);
    provider.join();
}

#[test]
fn shutting_down_ends_a_stream_that_takes_too_long() {
    let mut hub = config();
    hub.timeouts.drain = Duration::from_millis(50);
    let provider = start(hub);
    let mut agent = Agent::connect(provider.addresses()[0]);
    let mut client = connect(provider.addresses()[0]);
    client.write_all(chat(true).as_bytes()).unwrap();
    let id = agent.invoked();
    agent.chunk(&id, 0, "before");
    until(&mut client, "before");
    provider.handle().shutdown();
    let end = rest(&mut client);
    assert!(
        end.contains("\"error\"") && end.ends_with("0\r\n\r\n"),
        "{end}"
    );
    provider.join();
}

/// Takes one connection of a provider that dials, as a bridge does.
fn taken(listener: &TcpListener) -> Agent {
    let stream = listener.accept().unwrap().0;
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    #[allow(clippy::result_large_err)] // the library's type
    let check = |request: &Request, mut response: Response| {
        let header = |name| {
            request
                .headers()
                .get(name)
                .and_then(|value| value.to_str().ok())
        };
        assert_eq!(header("authorization"), Some("Bearer token of the bridge"));
        assert_eq!(
            header("sec-websocket-protocol"),
            Some("mcp-local-provider.v1")
        );
        let chosen = HeaderValue::from_static("mcp-local-provider.v1");
        response
            .headers_mut()
            .insert("sec-websocket-protocol", chosen);
        Ok(response)
    };
    Agent(tungstenite::accept_hdr(stream, check).unwrap())
}

#[test]
fn a_bridge_is_dialled_answers_and_is_dialled_again_when_it_drops() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut config = Config::new(config());
    config.bridges.push(Bridge::new(
        "bridge",
        format!("ws://{}/agents", listener.local_addr().unwrap()),
        Some("token of the bridge".into()),
    ));
    let provider = Provider::start(config).unwrap();
    for _ in 0..2 {
        let mut agent = taken(&listener);
        agent.send(&json!({"type": "register", "agent_id": "a", "models": ["m"]}));
        assert_eq!(agent.receive()["type"], "registered");
        let mut client = connect(provider.addresses()[0]);
        client.write_all(chat(true).as_bytes()).unwrap();
        let id = agent.invoked();
        agent.chunk(&id, 0, "word");
        agent.end(&id, 1);
        until(&mut client, "0\r\n\r\n");
    }
}

/// The program itself, with as many descriptors as `files`.
struct Program(Child, SocketAddr);

impl Program {
    fn start(files: u32) -> Self {
        let mut child = Command::new("sh")
            .args([
                "-c",
                "ulimit -n $0; exec \"$1\" --demo --listen 127.0.0.1:0",
            ])
            .arg(files.to_string())
            .arg(PROGRAM)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        let address = line.trim().strip_prefix("ready http://").unwrap();
        let address = address.parse().unwrap();
        Self(child, address)
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn running_out_of_descriptors_is_survived() {
    let program = Program::start(40);
    let clients: Vec<TcpStream> = (0..100).map(|_| connect(program.1)).collect();
    drop(clients);
    let mut client = connect(program.1);
    client
        .write_all(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
        .unwrap();
    assert!(until(&mut client, "}").starts_with("HTTP/1.1 200"));
}

#[test]
fn where_metrics_are_told_nothing_else_is() {
    let mut config = Config::new(config());
    config.listen_metrics = Some(SocketAddr::from(([127, 0, 0, 1], 0)));
    let provider = Provider::start(config).unwrap();
    let address = provider.addresses()[1];
    let get = |path: &str| {
        let mut stream = connect(address);
        let request =
            format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).unwrap();
        rest(&mut stream)
    };
    assert!(get("/metrics").contains("\nmcp_local_provider_links 0\n"));
    assert!(get("/health").starts_with("HTTP/1.1 200"));
    for path in ["/", "/agent"] {
        let answer = get(path);
        assert!(answer.starts_with("HTTP/1.1 404"), "{answer}");
        assert!(answer.contains("listen.metrics"), "{answer}");
    }
}
