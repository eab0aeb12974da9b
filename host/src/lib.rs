//! What the programs of MCP Local Provider share with the operating system and is no runtime: configuration,
//! command line, keys, audit file, log.
//!
//! [`program::main`] is both programs but for their driver. [`provider`] is what every driver of a provider shares; it waits by
//! [`std::task::Waker`] and so needs no runtime. All else here is blocking and small.

pub mod agents;
pub mod audit;
pub mod banner;
pub mod command_line;
pub mod commands;
pub mod config;
pub mod control_client;
pub mod demo;
pub mod doctor;
pub mod keys;
pub mod logging;
mod private_file;
pub mod process;
pub mod program;
pub mod provider;
mod serve;
#[cfg(test)]
mod test_directory;
