//! What the programs of MCP Local Provider share with the operating system and is no runtime: configuration,
//! command line, keys, audit file, log.
//!
//! [`program::start`] is the beginning of both programs. Everything here is blocking and small; nothing here listens.

pub mod audit;
pub mod banner;
pub mod command_line;
pub mod commands;
pub mod config;
pub mod control_client;
pub mod keys;
pub mod logging;
mod private_file;
pub mod process;
pub mod program;
#[cfg(test)]
mod test_directory;
