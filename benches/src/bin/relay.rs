//! Measures what the MCP gateway of a release build costs, against the least code that relays, and against other gateways.
//!
//! `cargo run --release -p mcp-local-provider-benches --bin relay -- --help`

use std::process::{Command, ExitCode};

use mcp_local_provider_benches::arguments::{Arguments, print};
use mcp_local_provider_benches::relay::clients::Way;
use mcp_local_provider_benches::relay::figures::{Bench, Peer, Plan};
use mcp_local_provider_benches::relay::{echo, ideal};
use mcp_local_provider_benches::{Error, process};

const HELP: &str = "\
Measures what a relayed tools/call costs in front of one shared server: CPU time
at 16 and 64 sessions against the least code that relays it, the time to the
answer, to open a session, many WebSockets, many calls at once, and memory.

usage: relay [--program PATH] [--quick] [--gate] [--json FILE]
             [--supergateway FILE] [--agentgateway PATH]

  --program PATH       the build to measure (target/release/mcp-local-provider)
  --quick              fewer and shorter rounds; holds only what does not need a
                       quiet machine, and tries again once
  --gate               ends with 1 when a bar is missed
  --json FILE          writes the figures there too
  --supergateway FILE  its dist/index.js, run by node, with WebSockets
  --agentgateway PATH  its program

The processes of a run are this program too: relay echo | ideal. They end when
their standard input does.
";

fn main() -> ExitCode {
    match run(&std::env::args().skip(1).collect::<Vec<_>>()) {
        Ok(code) => code,
        Err(e) => {
            eprintln!("relay: {e}");
            ExitCode::from(2)
        }
    }
}

fn run(arguments: &[String]) -> Result<ExitCode, Error> {
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["echo"] => echo::run()?,
        ["ideal"] => ideal::run(Command::new(std::env::current_exe()?).arg("echo"))?,
        ["-h" | "--help"] => print(HELP)?,
        words => return measure(words),
    }
    Ok(ExitCode::SUCCESS)
}

fn measure(words: &[&str]) -> Result<ExitCode, Error> {
    let (mut peers, mut own) = (Vec::new(), Vec::new());
    let mut rest = words.iter();
    while let Some(word) = rest.next() {
        let mut value = || rest.next().ok_or_else(|| format!("{word} needs a value"));
        match *word {
            "--supergateway" => peers.push(supergateway(value()?)),
            "--agentgateway" => peers.push(agentgateway(value()?)),
            word => own.push(word),
        }
    }
    let arguments = Arguments::parse(&own)?;
    let plan = if arguments.quick {
        Plan::quick()
    } else {
        Plan::full()
    };
    process::need_open_files(4000)?;
    let bench = Bench::new(&arguments.program, peers)?;
    arguments.conclude(|| bench.run(&plan))
}

/// The gateway of npm, in its cheapest form.
fn supergateway(file: &str) -> Peer {
    let words = [
        "node",
        file,
        "--stdio",
        "{server}",
        "--outputTransport",
        "ws",
        "--port",
        "{port}",
        "--logLevel",
        "none",
    ];
    Peer {
        name: "supergateway",
        way: Way::Socket,
        path: "/message",
        bar: 1.0,
        command: words.map(str::to_owned).to_vec(),
    }
}

/// The gateway of agentgateway.dev.
fn agentgateway(program: &str) -> Peer {
    Peer {
        name: "agentgateway",
        way: Way::Http,
        path: "/mcp",
        bar: 1.0 / 3.0,
        command: [program, "-f", "{config}"].map(str::to_owned).to_vec(),
    }
}
