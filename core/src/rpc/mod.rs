//! JSON-RPC 2.0 between two programs: messages, what becomes of a request, and lines.
//!
//! [`Message::read`] finds all of a message's members in one pass; what they hold stays text, so that it can be passed on as
//! it came, its id replaced in place by [`replace`]. [`Peer`] knows the requests that this side has made, [`Outbox`] the lines that
//! the other side has not read.
//!
//! ```
//! use mcp_local_provider_core::rpc::{Line, Lines, Message, Peer, replace};
//!
//! // We ask, and note who wants the answer.
//! let mut peer = Peer::new();
//! let id = peer.expect("who asked", None);
//! let asked = format!("{{\"jsonrpc\":\"2.0\",\"id\":{id},\"method\":\"ping\"}}\n");
//!
//! // The answer comes as a line.
//! let mut lines = Lines::new(1 << 20);
//! let answer = br#"{"jsonrpc":"2.0","id":1,"result":{"ok":true}}"#;
//! lines.push(&[&answer[..], b"\n"].concat(), |line| {
//!     let Line::Whole(line) = line else { panic!("the line is too long") };
//!     let text = std::str::from_utf8(line).unwrap();
//!     let Ok(Message::Response { id, outcome }) = Message::read(text) else { panic!("no answer") };
//!     assert_eq!(peer.take(id), Some("who asked"));
//!     assert_eq!(outcome.unwrap().unwrap().get(), r#"{"ok":true}"#);
//!     // Passed on to whoever asked, under the id that it had chosen.
//!     let mut on = String::new();
//!     replace(&mut on, text, &[(id, "\"its-own-id\"")]);
//!     assert_eq!(on, r#"{"jsonrpc":"2.0","id":"its-own-id","result":{"ok":true}}"#);
//! });
//! ```

mod message;
mod outbox;
mod peer;
mod write;

pub use crate::wire::lines::{Line, Lines};
pub use message::{
    Call, INTERNAL_ERROR, INVALID_PARAMS, INVALID_REQUEST, METHOD_NOT_FOUND, Message, NotAMessage,
    PARSE_ERROR, RpcError, read_each, replace,
};
pub use outbox::{Outbox, OutboxLimits};
pub use peer::{Peer, number_of};
pub use write::{Json, one_line};
