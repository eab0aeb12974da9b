//! Command line, configuration and operating system of the programs of MCP Local Provider: keys, audit file, log, and
//! the agents that a program starts itself.
//!
//! [`program::main`] is a whole program but for its driver. Serving itself is in the crate `engine`; everything here is
//! blocking and needs no runtime.
#![cfg_attr(not(test), warn(clippy::wildcard_enum_match_arm))]

pub mod agents;
pub mod audit;
mod authorization;
pub mod banner;
mod browser;
pub mod command_line;
pub mod commands;
mod completion;
pub mod config;
mod connected;
pub mod control;
pub mod credentials;
pub mod demo;
pub mod doctor;
pub mod installed;
pub mod keys;
pub mod logging;
mod mcp_client;
pub mod mode;
mod owner;
mod printable;
mod private_file;
pub mod process;
pub mod program;
pub mod registry;
mod serve;
mod servers;
mod shell;
#[cfg(test)]
mod test_directory;
mod waiting_pipe;
mod writer_thread;
