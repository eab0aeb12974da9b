//! The program `mcp-local-provider-tiny-http`.

use mcp_local_provider_blocking::TinyHttp;
use mcp_local_provider_host::program;
use std::process::ExitCode;

fn main() -> ExitCode {
    program::main::<TinyHttp>("mcp-local-provider-tiny-http", env!("CARGO_PKG_VERSION"))
}
