//! The MCP gateway's machines: sessions of clients, servers, and what passes between them, without input or output.

#![no_std]

extern crate alloc;

pub mod config;
pub mod refusal;
pub mod revision;
pub mod server;
pub mod session;
pub mod streams;
