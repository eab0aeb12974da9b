//! Compares a release build of the provider with a raw TCP splice proxy, from outside.
//!
//! `cargo run --release -p mcp-local-provider-benches --bin compare -- --help`

use std::path::PathBuf;
use std::process::ExitCode;

use mcp_local_provider_benches::comparison::{Bench, Plan};
use mcp_local_provider_benches::{Error, agent, backend, process, splice};

const HELP: &str = "\
Compares a release build of the provider with a raw TCP splice proxy: CPU time,
writes, time to the first token, memory and start-up, in one run on two cores.

usage: compare [--program PATH] [--quick] [--gate] [--json FILE]

  --program PATH  the build to measure (target/release/mcp-local-provider)
  --quick         twenty seconds instead of two minutes; holds only what does
                  not need a quiet machine, and tries again once
  --gate          ends with 1 when a bar is missed
  --json FILE     writes the figures there too

The processes of a run are this program too: compare splice TO | backend |
agent TO KEY. They end when their standard input does.
";

#[derive(Debug)]
struct Arguments {
    program: PathBuf,
    quick: bool,
    gate: bool,
    json: Option<PathBuf>,
}

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
        ["agent", to, key] => agent::run(to.parse()?, key)?,
        ["-h" | "--help"] => print(HELP)?,
        words => return compare(&parse(words)?),
    }
    Ok(ExitCode::SUCCESS)
}

fn parse(words: &[&str]) -> Result<Arguments, Error> {
    let mut parsed = Arguments {
        program: PathBuf::from("target/release/mcp-local-provider"),
        quick: false,
        gate: false,
        json: None,
    };
    let mut words = words.iter();
    while let Some(word) = words.next() {
        let mut value = || words.next().ok_or_else(|| format!("{word} needs a value"));
        match *word {
            "--program" => parsed.program = value()?.into(),
            "--json" => parsed.json = Some(value()?.into()),
            "--quick" => parsed.quick = true,
            "--gate" => parsed.gate = true,
            _ => return Err(format!("{word} is not known; see --help").into()),
        }
    }
    Ok(parsed)
}

fn compare(arguments: &Arguments) -> Result<ExitCode, Error> {
    let files = process::raise_open_files()?;
    let plan = if arguments.quick {
        Plan::quick()
    } else {
        Plan::full()
    };
    if files < plan.streams as u64 + 100 {
        return Err(format!(
            "{} open files are too few for {} streams",
            files, plan.streams
        )
        .into());
    }
    let bench = Bench::new(&arguments.program)?;
    let mut report = bench.run(&plan)?;
    if arguments.quick && arguments.gate && !report.missed().is_empty() {
        print(&format!(
            "{}\nonce more, because of: {}\n\n",
            report.table(),
            report.missed().join("; ")
        ))?;
        report = bench.run(&plan)?;
    }
    print(&report.table())?;
    if let Some(file) = &arguments.json {
        std::fs::write(file, serde_json::to_string_pretty(&report)?)?;
    }
    let missed = report.missed();
    if arguments.gate && !missed.is_empty() {
        eprintln!("missed: {}", missed.join("; "));
        return Ok(ExitCode::FAILURE);
    }
    Ok(ExitCode::SUCCESS)
}

fn print(text: &str) -> Result<(), Error> {
    use std::io::Write as _;
    Ok(std::io::stdout().lock().write_all(text.as_bytes())?)
}
