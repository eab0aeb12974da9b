//! A server of the running program, asked by Streamable HTTP (Model Context Protocol, revision 2025-11-25).

use super::{NoResult, Server, hello, request, result_of};
use crate::control::{Answer, ControlClient, ControlError, Sent};
use mcp_local_provider_core::rpc::Message;
use mcp_local_provider_core::text::JsonValue;
use mcp_local_provider_core::wire::sse::{Piece, Reader};
use std::io::{BufRead, ErrorKind};

/// Longest event that is taken, in bytes.
const MAX_EVENT_BYTES: usize = 64 << 20;

/// A session with one server of the running program. It is ended when this is dropped.
pub(crate) struct RunningServer<'c> {
    client: &'c ControlClient,
    path: String,
    session: Option<String>,
    /// Id of the latest request.
    latest: u64,
}

impl<'c> RunningServer<'c> {
    /// Opens a session with the server `name`.
    ///
    /// # Errors
    /// See [`NoResult`].
    pub(crate) fn open(client: &'c ControlClient, name: &str) -> Result<Self, NoResult> {
        let mut server = Self {
            client,
            path: format!("/servers/{name}/mcp"),
            session: None,
            latest: 0,
        };
        let answer = server.send("POST", Some(request(0, "initialize", &hello().to_string())))?;
        server.session = answer.header("mcp-session-id").map(str::to_owned);
        let answer = server.read(answer)?;
        result_of(&answer)?;
        let told = r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#;
        server.send("POST", Some(told.to_owned()))?;
        Ok(server)
    }

    fn send(&self, method: &'static str, body: Option<String>) -> Result<Answer, ControlError> {
        let session = self.session.as_deref();
        let session = session.map(|session| ("mcp-session-id", session));
        self.client.exchange(&Sent {
            method,
            path: &self.path,
            accept: "application/json, text/event-stream",
            headers: session.as_slice(),
            body,
        })
    }

    /// Reads the answer to the latest request, which comes as JSON or in a stream of events.
    fn read(&self, mut answer: Answer) -> Result<String, NoResult> {
        let kind = answer.header("content-type").unwrap_or_default();
        if !kind.starts_with("text/event-stream") {
            let body = self.client.whole(&mut answer)?;
            return String::from_utf8(body).map_err(|_| no_answer("the answer is not UTF-8"));
        }
        let mut events = Reader::new(MAX_EVENT_BYTES);
        loop {
            let bytes = answer
                .fill_buf()
                .map_err(|error| self.client.broken(error))?;
            if bytes.is_empty() {
                let cut = ErrorKind::UnexpectedEof.into();
                return Err(self.client.broken(cut).into());
            }
            let mut found = None;
            events.push(bytes, |piece| match piece {
                Piece::Event(event) if self.is_answer(&event.data) => {
                    found = Some(Ok(event.data.into_owned()));
                }
                Piece::TooLong(error) => found = Some(Err(no_answer(&error.to_string()))),
                Piece::Event(_) | Piece::Retry(_) => {}
            });
            let taken = bytes.len();
            answer.consume(taken);
            if let Some(found) = found {
                return found;
            }
        }
    }

    /// True for the answer to the latest request.
    fn is_answer(&self, text: &str) -> bool {
        match Message::read(text) {
            Ok(Message::Response { id, .. }) => JsonValue::get(id) == self.latest.to_string(),
            Ok(Message::Request { .. } | Message::Notification(_)) | Err(_) => false,
        }
    }
}

fn no_answer(message: &str) -> NoResult {
    NoResult::NoAnswer(message.to_owned())
}

impl Server for RunningServer<'_> {
    fn ask(&mut self, method: &str, params: &str) -> Result<String, NoResult> {
        self.latest += 1;
        let answer = self.send("POST", Some(request(self.latest, method, params)))?;
        let answer = self.read(answer)?;
        result_of(&answer)
    }
}

impl Drop for RunningServer<'_> {
    fn drop(&mut self) {
        if self.session.is_some() {
            // One that has ended already needs no end.
            let _ = self.send("DELETE", None);
        }
    }
}
