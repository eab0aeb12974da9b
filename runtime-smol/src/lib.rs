//! The smol driver of MCP Local Provider.

pub mod io;
pub mod listen;
pub mod timer;
