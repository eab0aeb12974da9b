//! The smol driver of MCP Local Provider: hyper on smol, WebSockets by tungstenite.
//!
//! [`Provider::start`] runs a provider inside any program; the program `mcp-local-provider` is a thin shell round it. The
//! rules and the bytes of all protocols are in `mcp-local-provider-core`; here are only sockets, tasks, locks and the
//! clock. One task serves each client connection, one each agent connection, one all deadlines, and one the hub.

mod body;
mod bridge;
mod connection;
pub mod demo;
pub mod dial;
mod exchange;
pub mod io;
mod link;
pub mod listen;
mod provider;
mod request;
mod shared;
mod status;
pub mod timer;
pub mod websocket;

pub use bridge::Bridge;
pub use provider::{Config, Handle, Provider, StartError};
