//! Measures the registry of a release build against its goals.
//!
//! `cargo run --release -p mcp-local-provider-benches --bin registry -- --help`

use std::process::ExitCode;

use mcp_local_provider_benches::arguments::{Arguments, print};
use mcp_local_provider_benches::{Error, registry};

const HELP: &str = "\
Measures the registry: changes that are durable, reads, messages of MCP, 10,000
resources, a start with them, 100 runs at once, and memory with all that.

usage: registry [--program PATH] [--quick] [--gate] [--json FILE]

  --program PATH  the build to measure (target/release/mcp-local-provider)
  --quick         tries again once when a bar is missed
  --gate          ends with 1 when a bar is missed
  --json FILE     writes the figures there too
";

fn main() -> ExitCode {
    match run(&std::env::args().skip(1).collect::<Vec<_>>()) {
        Ok(code) => code,
        Err(e) => {
            eprintln!("registry: {e}");
            ExitCode::from(2)
        }
    }
}

fn run(arguments: &[String]) -> Result<ExitCode, Error> {
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    if let ["-h" | "--help"] = words.as_slice() {
        print(HELP)?;
        return Ok(ExitCode::SUCCESS);
    }
    let arguments = Arguments::parse(&words)?;
    arguments.conclude(|| registry::run(&arguments.program, arguments.quick))
}
