//! Holds a release build of the provider against hostile, many and too many clients.
//!
//! `cargo run --release -p mcp-local-provider-benches --bin stress -- --help`

use std::process::ExitCode;

use mcp_local_provider_benches::arguments::{Arguments, print};
use mcp_local_provider_benches::stress::{self, Plan};
use mcp_local_provider_benches::{Error, agent, process};

const HELP: &str = "\
Holds a release build of the provider against clients that are slow on purpose,
against thousands that are idle, against one too many, and against the end of
its open files.

usage: stress [--program PATH] [--quick] [--gate] [--json FILE]

  --program PATH  the build to measure (target/release/mcp-local-provider)
  --quick         fewer clients; holds only what does not need a quiet machine
  --gate          ends with 1 when a bar is missed
  --json FILE     writes the figures there too

The agent of a run is this program too: stress agent TO KEY. It ends when its
standard input does.
";

fn main() -> ExitCode {
    match run(&std::env::args().skip(1).collect::<Vec<_>>()) {
        Ok(code) => code,
        Err(e) => {
            eprintln!("stress: {e}");
            ExitCode::from(2)
        }
    }
}

fn run(arguments: &[String]) -> Result<ExitCode, Error> {
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["agent", to, key] => agent::run(to.parse()?, key)?,
        ["-h" | "--help"] => print(HELP)?,
        words => return hold(&Arguments::parse(words)?),
    }
    Ok(ExitCode::SUCCESS)
}

fn hold(arguments: &Arguments) -> Result<ExitCode, Error> {
    let plan = if arguments.quick {
        Plan::quick()
    } else {
        Plan::full()
    };
    process::need_open_files(plan.files())?;
    arguments.conclude(|| stress::run(&arguments.program, &plan))
}
