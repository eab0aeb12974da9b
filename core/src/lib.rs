//! The protocol machines of MCP Local Provider.
#![cfg_attr(not(any(feature = "std", test)), no_std)]

extern crate alloc;

pub mod agents;
pub mod api;
pub mod config;
pub mod dialect;
pub mod error;
pub mod exchange;
pub mod hub;
pub mod id;
pub mod invocation;
pub mod link;
pub mod mailbox;
pub mod text;
pub mod time;
pub mod wire;
