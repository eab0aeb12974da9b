//! The program `mcp-local-provider-blocking`.

use mcp_local_provider_blocking::Provider;
use mcp_local_provider_host::program;
use std::process::ExitCode;

fn main() -> ExitCode {
    program::main::<Provider>("mcp-local-provider-blocking", env!("CARGO_PKG_VERSION"))
}
