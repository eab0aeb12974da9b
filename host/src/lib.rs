//! What the programs of MCP Local Provider share with the operating system and is no runtime: configuration,
//! command line, keys, audit file, log.

pub mod config;
