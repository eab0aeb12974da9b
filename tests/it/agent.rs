//! A scripted agent on a real WebSocket.

use crate::program::{BRIDGE, Program};
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::net::TcpStream;
use tungstenite::client::IntoClientRequest;
use tungstenite::handshake::server::{Request, Response};
use tungstenite::protocol::CloseFrame;
use tungstenite::{Error, Message, WebSocket};

/// An agent, whose connection is TCP unless it is told.
pub struct Agent<S = TcpStream> {
    pub socket: WebSocket<S>,
    pub session: String,
    pub token: String,
}

/// Dials `/agent`; the error is the HTTP answer that refused.
pub fn dial(program: &Program, token: Option<&str>) -> Result<WebSocket<TcpStream>, (u16, String)> {
    let mut request = format!("ws://{}/agent", program.agents)
        .into_client_request()
        .unwrap();
    if let Some(token) = token {
        request
            .headers_mut()
            .insert("Authorization", format!("Bearer {token}").parse().unwrap());
    }
    match tungstenite::client(request, Program::connect_to(program.agents)) {
        Ok((socket, _)) => Ok(socket),
        Err(tungstenite::HandshakeError::Failure(Error::Http(answer))) => {
            let body = answer.body().clone().unwrap_or_default();
            Err((answer.status().as_u16(), String::from_utf8(body).unwrap()))
        }
        Err(other) => panic!("{other}"),
    }
}

impl Agent {
    /// Connects with the bridge key and registers for the model `m`.
    pub fn connect(program: &Program) -> Self {
        Self::connect_as(
            program,
            json!({ "agent_id": "it", "models": ["m"], "capabilities": { "tools": true } }),
        )
    }

    pub fn connect_as(program: &Program, mut registration: Value) -> Self {
        let socket = dial(program, Some(BRIDGE)).unwrap();
        let mut agent = Self {
            socket,
            session: String::new(),
            token: String::new(),
        };
        registration["type"] = "register".into();
        agent.send(&registration);
        let registered = agent.receive();
        assert_eq!(registered["type"], "registered", "{registered}");
        agent.session = registered["session_id"].as_str().unwrap().into();
        agent.token = registered["session_token"]
            .as_str()
            .unwrap_or_default()
            .into();
        agent
    }
}

impl<S: Read + Write> Agent<S> {
    /// Takes the program's handshake on a connection that it has opened.
    pub fn taken(stream: S) -> Self {
        #[expect(clippy::result_large_err, reason = "the type is tungstenite's")]
        let agree = |request: &Request, mut response: Response| {
            let offered = request.headers()["sec-websocket-protocol"].clone();
            let headers = response.headers_mut();
            headers.insert("sec-websocket-protocol", offered);
            Ok(response)
        };
        Self {
            socket: tungstenite::accept_hdr(stream, agree).unwrap(),
            session: String::new(),
            token: String::new(),
        }
    }

    pub fn send(&mut self, message: &Value) {
        self.socket
            .send(Message::text(message.to_string()))
            .unwrap();
    }

    /// The next message, pings left out.
    pub fn receive(&mut self) -> Value {
        loop {
            match self.socket.read() {
                Ok(Message::Text(text)) => return serde_json::from_str(&text).unwrap(),
                Ok(Message::Ping(_) | Message::Pong(_)) => {}
                other => panic!("{other:?}"),
            }
        }
    }

    /// The next invocation's id, and the invocation.
    pub fn invocation(&mut self) -> (String, Value) {
        let message = self.receive();
        assert_eq!(message["type"], "model_invoke", "{message}");
        (message["id"].as_str().unwrap().into(), message)
    }

    pub fn chunk(&mut self, id: &str, index: u64, content: &str) {
        self.send(&json!({ "type": "model_stream_chunk", "id": id, "chunk_index": index, "delta": { "content": content }, "finish_reason": null }));
    }

    pub fn finish(&mut self, id: &str, index: u64) {
        self.send(&json!({ "type": "model_stream_chunk", "id": id, "chunk_index": index, "delta": {}, "finish_reason": "stop",
            "usage": { "prompt_tokens": 9, "completion_tokens": 3 } }));
    }

    /// Reads until the provider closes; returns its code.
    pub fn closed(&mut self) -> u16 {
        loop {
            match self.socket.read() {
                Ok(Message::Close(Some(CloseFrame { code, .. }))) => return code.into(),
                Ok(_) => {}
                Err(error) => panic!("no close frame: {error}"),
            }
        }
    }
}
