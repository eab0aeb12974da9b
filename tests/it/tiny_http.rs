//! The running program `mcp-local-provider-tiny-http`, over real sockets, as clients and agents see it.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr
)]

/// The program under test.
const PROGRAM: &str = "mcp-local-provider-tiny-http";

include!("suite.rs");
