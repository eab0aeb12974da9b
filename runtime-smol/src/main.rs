//! The program `mcp-local-provider`.

use mcp_local_provider::Provider;
use mcp_local_provider_host::program;
use std::process::ExitCode;

#[cfg(feature = "mimalloc")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    program::main::<Provider>("mcp-local-provider", env!("CARGO_PKG_VERSION"))
}
