//! The smol driver of MCP Local Provider: tasks on smol.
//!
//! [`Provider::start`] runs a provider inside any program; the program `mcp-local-provider` is a thin shell round it. The
//! rules and the bytes of all protocols are in `mcp-local-provider-core`, what every driver does in
//! `mcp-local-provider-engine`; here are only sockets, tasks and timers. One task serves each client connection, one each
//! agent connection, and one keeps house; the thread that runs them waits for sockets and deadlines.
#![cfg_attr(not(test), warn(clippy::wildcard_enum_match_arm))]

mod connection;
mod dial;
pub mod io;
pub mod listen;
mod provider;
pub mod reactor;
mod tasks;
pub mod timer;

pub use mcp_local_provider_engine::{Bridge, Config, Handle, StartError};
pub use provider::Provider;
