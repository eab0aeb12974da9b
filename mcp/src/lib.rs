//! The MCP gateway's machines: sessions of clients, processes of servers, and what passes between them, without input or output.
//!
//! A [`Session`](session::Session) is one client's, with one server or several. A [`Server`](server::Server) is one process of a
//! server, for one session or several. Messages pass between them
//! as the texts that they are; ids and progress tokens are replaced in place, and where several servers stand under one address also
//! the names and URIs of a [`Catalogue`](catalogue::Catalogue). What a client is to be told waits in the
//! [`Streams`](streams::Streams) of its session, for as long as it may come back for it.
//!
//! ```
//! use mcp_local_provider_core::rpc::{Line, Message};
//! use mcp_local_provider_core::time::Instant;
//! use mcp_local_provider_mcp::config::Gateway;
//! use mcp_local_provider_mcp::server::{Delivery, Out, Server};
//! use mcp_local_provider_mcp::session::{Attachment, Forward, Session};
//!
//! let (now, config, mut wake, mut out) = (Instant::ZERO, Gateway::default(), Vec::new(), Out::default());
//!
//! // A client opens a session, for which a process is started and greeted.
//! let (mut session, opening) = Session::open(now, "0", &config, None);
//! let mut server = Server::new("files".into(), r#"{"protocolVersion":"2025-11-25"}"#, &config);
//! server.start(now, &mut out);
//! server.handle_started(now, &mut out);
//! let greeted = br#"{"jsonrpc":"2.0","id":1,"result":{"protocolVersion":"2025-11-25"}}"#;
//! server.handle_line(now, Line::Whole(greeted), &mut out, &mut |delivery| {
//!     if let Delivery::Ready { result, again } = delivery {
//!         session.handle_ready(now, Attachment(0), result, again, &mut wake);
//!     }
//! });
//! assert!(session.streams().sole_answer(opening).is_some());
//!
//! // It asks, under an id of its own.
//! let text = r#"{"jsonrpc":"2.0","id":"mine","method":"tools/list"}"#;
//! let message = Message::read(text).unwrap();
//! let stream = session.open_stream(1);
//! let forward = session.from_client(now, &message, stream, &mut wake).unwrap();
//! let (Forward::Request(key), Message::Request { id, call }) = (forward, &message) else { panic!() };
//! let call = server.request(now, text, *id, call, key, &mut out).unwrap();
//! session.sent(key, Attachment(0), call);
//!
//! // The process has it under another one, and answers that.
//! let lines: Vec<String> = std::iter::from_fn(|| out.lines.pop()).collect();
//! assert_eq!(lines.last().unwrap(), "{\"jsonrpc\":\"2.0\",\"id\":2,\"method\":\"tools/list\"}\n");
//! let answered = br#"{"jsonrpc":"2.0","id":2,"result":{"tools":[]}}"#;
//! server.handle_line(now, Line::Whole(answered), &mut out, &mut |delivery| {
//!     if let Delivery::Answer { to, text, id, .. } = delivery {
//!         session.handle_answer(now, to, text, id, &mut wake);
//!     }
//! });
//! assert_eq!(
//!     session.streams().sole_answer(stream),
//!     Some(r#"{"jsonrpc":"2.0","id":"mine","result":{"tools":[]}}"#)
//! );
//! ```
#![cfg_attr(not(test), warn(clippy::wildcard_enum_match_arm))]
#![no_std]

extern crate alloc;

pub mod authorization;
pub mod catalogue;
pub mod config;
mod envelope;
pub mod events;
pub mod greeting;
mod header_text;
pub mod mirrored;
pub mod refusal;
pub mod remote;
pub mod rest;
pub mod revision;
pub mod server;
pub mod serving;
pub mod session;
pub mod socket;
pub mod stateless;
pub mod streams;
