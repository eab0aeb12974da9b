//! Compares a release build of the provider with a raw TCP splice proxy, from outside.
//!
//! `cargo run --release -p mcp-local-provider-benches --bin compare -- --help`

use std::process::ExitCode;

use mcp_local_provider_benches::arguments::{Arguments, print};
use mcp_local_provider_benches::comparison::{Bench, Plan};
use mcp_local_provider_benches::{Error, agent, backend, ideal, process, splice};

const HELP: &str = "\
Compares a release build of the provider with a raw TCP splice proxy and with the
least code that parses every frame: CPU time, writes, time to the first token,
memory, start-up, and what monitoring and a full disk cost, in one run on two
cores. A program whose file name ends in -blocking has bars of its own.

usage: compare [--program PATH] [--quick] [--gate] [--json FILE]

  --program PATH  the build to measure (target/release/mcp-local-provider)
  --quick         one minute instead of six; holds only what does
                  not need a quiet machine, and tries again once
  --gate          ends with 1 when a bar is missed
  --json FILE     writes the figures there too

The processes of a run are this program too: compare splice TO | backend |
ideal | agent TO KEY. They end when their standard input does.
";

fn main() -> ExitCode {
    match run(&std::env::args().skip(1).collect::<Vec<_>>()) {
        Ok(code) => code,
        Err(e) => {
            eprintln!("compare: {e}");
            ExitCode::from(2)
        }
    }
}

fn run(arguments: &[String]) -> Result<ExitCode, Error> {
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["splice", to] => splice::run(to.parse()?)?,
        ["backend"] => backend::run()?,
        ["ideal"] => ideal::run()?,
        ["agent", to, key] => agent::run(to.parse()?, key)?,
        ["-h" | "--help"] => print(HELP)?,
        words => return compare(&Arguments::parse(words)?),
    }
    Ok(ExitCode::SUCCESS)
}

fn compare(arguments: &Arguments) -> Result<ExitCode, Error> {
    let plan = if arguments.quick {
        Plan::quick()
    } else {
        Plan::full()
    };
    process::need_open_files(plan.streams as u64 + 100)?;
    let bench = Bench::new(&arguments.program)?;
    arguments.conclude(|| bench.run(&plan))
}
