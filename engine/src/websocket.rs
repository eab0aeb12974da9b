//! WebSockets (RFC 6455) as both drivers speak them: limits, the handshake's answer, and what its errors mean.
//!
//! `permessage-deflate` is never offered nor accepted.

mod conversation;
mod piped;
mod socket;

use crate::converse::{Converse, Frame, Turn};
use mcp_local_provider_core::error::Refusal;
use std::io::ErrorKind;
use std::time::Duration;
use tungstenite::error::ProtocolError;
use tungstenite::http::header::{HeaderValue, SEC_WEBSOCKET_PROTOCOL};
use tungstenite::http::{Request, Response};
use tungstenite::protocol::WebSocketConfig;
use tungstenite::{Error, Message};

pub use conversation::Conversation;
pub(crate) use piped::Piped;
pub(crate) use socket::{Incoming, Received};
pub use socket::{Socket, Stream};

/// Time in which a peer has to read our close frame and to close its side.
pub const CLOSING: Duration = Duration::from_secs(2);

/// Reason why nothing more will be received.
#[derive(Debug, thiserror::Error)]
pub enum Ended {
    /// The peer closed, with a code if it sent one.
    #[error("the peer closed{}", with_code(*.0))]
    Closed(Option<u16>),
    /// The peer broke RFC 6455; it is to be told by this close code.
    #[error("the peer broke the WebSocket protocol: {1}")]
    Fault(u16, String),
    /// The connection broke, or the peer did not read.
    #[error("the connection was lost: {0}")]
    Lost(String),
}

/// The code of a close frame, for a sentence.
fn with_code(code: Option<u16>) -> String {
    code.map_or_else(String::new, |code| format!(" with code {code}"))
}

impl From<Error> for Ended {
    fn from(error: Error) -> Self {
        #[expect(
            clippy::wildcard_enum_match_arm,
            reason = "tungstenite's errors: the others are told by their own text"
        )]
        match error {
            Error::ConnectionClosed | Error::AlreadyClosed => Self::Closed(None),
            Error::Protocol(ProtocolError::ResetWithoutClosingHandshake) => {
                Self::Lost("it ended without a close frame".into())
            }
            Error::Protocol(error) => Self::Fault(1002, error.to_string()),
            Error::Utf8(error) => Self::Fault(1007, error),
            Error::Capacity(error) => Self::Fault(1009, error.to_string()),
            Error::Io(error) if error.kind() == ErrorKind::TimedOut => {
                Self::Lost("the peer does not read".into())
            }
            error => Self::Lost(error.to_string()),
        }
    }
}

/// Limits of a WebSocket whose messages have at most `frame_bytes`. One up to twice as long is read, because its exchange can be
/// told from it and fails alone; a longer one ends the connection.
#[must_use]
pub fn config(frame_bytes: usize) -> WebSocketConfig {
    WebSocketConfig::default()
        .read_buffer_size(8 << 10)
        .write_buffer_size(64 << 10)
        .max_message_size(Some(frame_bytes.saturating_mul(2)))
        .max_frame_size(Some(frame_bytes.saturating_mul(2)))
}

/// The message that carries a frame of ours.
#[must_use]
pub fn message(frame: Frame) -> Message {
    match frame {
        Frame::Text(text) => Message::Text(text.into()),
        Frame::Ping => Message::Ping(Vec::new().into()),
    }
}

/// Gives one message of the peer to our side of the conversation, as a turn of its own. Pings are answered by tungstenite.
pub fn receive(conversation: &dyn Converse, turn: &mut Turn, message: Message) {
    conversation.begin(turn);
    match message {
        Message::Text(text) => conversation.receive(turn, &text),
        Message::Binary(_) => conversation.receive_binary(turn),
        Message::Ping(_) | Message::Pong(_) => conversation.alive(turn),
        Message::Close(_) | Message::Frame(_) => {}
    }
    conversation.finish(turn);
}

/// Answers an upgrade request (RFC 6455, section 4.2). `subprotocol` is chosen where the peer offers it.
///
/// # Errors
/// When the request is no WebSocket handshake of version 13.
pub fn accept<B>(request: &Request<B>, subprotocol: &'static str) -> Result<Response<()>, Refusal> {
    let mut response = tungstenite::handshake::server::create_response_with_body(request, || ())
        .map_err(|error| {
            Refusal::invalid(format!(
                "this is a WebSocket endpoint of version 13; connect with a WebSocket client ({error})"
            ))
        })?;
    if !subprotocol.is_empty() && offers(request, subprotocol) {
        let name = HeaderValue::from_static(subprotocol);
        response.headers_mut().insert(SEC_WEBSOCKET_PROTOCOL, name);
    }
    Ok(response)
}

/// True when the peer offers this subprotocol.
pub(super) fn offers<B>(request: &Request<B>, subprotocol: &str) -> bool {
    let offered = request.headers().get_all(SEC_WEBSOCKET_PROTOCOL);
    offered
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|name| name.trim() == subprotocol)
}
