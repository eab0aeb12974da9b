//! What the programs of MCP Local Provider share with the operating system and is no runtime: configuration,
//! command line, keys, audit file, log.

pub mod audit;
pub mod config;
pub mod keys;
pub mod logging;
mod private_file;
pub mod process;
#[cfg(test)]
mod test_directory;
