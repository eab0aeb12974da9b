//! The blocking driver of MCP Local Provider, for minimal machines: threads, the HTTP/1.1 codec of the core, WebSockets by
//! tungstenite, and no runtime.
//!
//! [`Provider::start`] runs a provider inside any program; the program `mcp-local-provider-blocking` is a thin shell round
//! it. The rules and the bytes of all protocols are in `mcp-local-provider-core`, what every driver does in
//! `mcp-local-provider-engine`; here are only sockets and threads. One thread serves each client connection, two each agent
//! connection, one each listening socket, and one keeps house. It runs on Linux.
#![cfg_attr(not(test), warn(clippy::wildcard_enum_match_arm))]

mod accept;
mod connection;
mod dial;
mod link;
mod parker;
mod peer;
mod provider;
mod served;
mod threads;
#[cfg(feature = "tiny-http")]
mod tiny;
mod websocket;

pub use mcp_local_provider_engine::{Bridge, Config, Handle, StartError};
pub use provider::Provider;
#[cfg(feature = "tiny-http")]
pub use tiny::TinyHttp;
