//! The smol driver of MCP Local Provider.

pub mod body;
pub mod demo;
pub mod dial;
pub mod io;
pub mod listen;
pub mod timer;
pub mod websocket;
