//! The running program, over real sockets, as clients and agents see it.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr
)]

extern crate alloc;

mod agent;
mod agent_process;
mod answers;
mod audit;
mod bad_input;
mod browser_safety;
mod command_line;
mod completions;
mod embeddings;
mod failures;
mod framing;
mod links;
mod metrics;
mod program;
