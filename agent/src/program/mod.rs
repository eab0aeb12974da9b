//! The program, from its command line to the end of the agent.

mod command;
mod command_line;
mod output;

use clap::Parser;
use command::Runner;
use command_line::CommandLine;
use mcp_local_provider_agent::{Agent, Error, Stopper, Token};
use mcp_local_provider_process::run_as_supervisor;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use std::io::{self, Write};
use std::process::ExitCode;

const PROGRAM: &str = "mcp-local-agent";
/// Exit code of a wrong command line, of a token that is not there, and of a URL that cannot be used.
const EXIT_USAGE: u8 = 2;

/// Runs the program.
pub(crate) fn main() -> ExitCode {
    if let Some(code) = run_as_supervisor(std::env::args_os()) {
        return code;
    }
    match serve(&CommandLine::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tell(&error);
            match error {
                Error::Url { .. } | Error::Token(_) => ExitCode::from(EXIT_USAGE),
                Error::Stopped(_) | Error::System(_) => ExitCode::FAILURE,
            }
        }
    }
}

fn serve(line: &CommandLine) -> Result<(), Error> {
    let token = match &line.token {
        Some(source) => Token::read(source)?,
        None => Token::none(),
    };
    let runner = Runner::new(line)?;
    let model = line.model();
    let agent = Agent::new(model)
        .label(format!("{model}, by {PROGRAM}"))
        .capabilities(line.capabilities())
        .max_concurrency(line.concurrency)
        .observe(tell);
    stop_on_signals(agent.stopper())?;
    agent.serve(&line.url, &token, move |request, answer| {
        runner.answer(request, answer)
    })
}

/// Gives the session back when the person ends the program. The commands end with it.
fn stop_on_signals(stopper: Stopper) -> io::Result<()> {
    let mut signals = Signals::new([SIGINT, SIGTERM])?;
    std::thread::Builder::new()
        .name("signals".to_owned())
        .spawn(move || {
            if signals.forever().next().is_some() {
                stopper.stop();
            }
        })?;
    Ok(())
}

/// Tells the person one thing.
fn tell(what: &(impl std::fmt::Display + ?Sized)) {
    // When standard error is closed nobody can be told.
    let _ = writeln!(io::stderr(), "{PROGRAM}: {what}");
}
