//! Faults that were found in servers of this kind, held against this driver.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic
)]

use mcp_local_provider_blocking::{Bridge, Config, Provider};

const PROGRAM: &str = env!("CARGO_BIN_EXE_mcp-local-provider-blocking");

include!("../../tests/traps.rs");
