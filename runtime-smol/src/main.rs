//! The program `mcp-local-provider`.

use mcp_local_provider::Provider;
use mcp_local_provider_host::program;
use std::process::ExitCode;

#[cfg(feature = "mimalloc")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    // The allocator's memory is one piece, of which huge pages would make the most resident. An error: the kernel has none.
    #[cfg(all(feature = "mimalloc", target_os = "linux"))]
    let _ = rustix::thread::disable_transparent_huge_pages(true);
    program::main::<Provider>("mcp-local-provider", env!("CARGO_PKG_VERSION"))
}
