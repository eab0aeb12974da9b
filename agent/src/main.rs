//! The program `mcp-local-agent`: turns any command into an agent.

mod program;

use std::process::ExitCode;

fn main() -> ExitCode {
    program::main()
}
