//! One command for each question.

use super::command_line::{CommandLine, Output, Prompt};
use super::output::{Read, Reader};
use mcp_local_provider_agent::{Answer, Failed, Kind, Request};
use mcp_local_provider_core::process::Grace;
use mcp_local_provider_process::{
    Ending, Event, Framing, Launch, Process, ProcessWaker, Supervision,
};
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::task::Waker;
use std::time::Duration;

/// Longest prompt that is given as an argument, in bytes: Linux allows 128 KiB with its end.
const ARGUMENT_BYTES: usize = 120 << 10;

/// Starts the command, and turns what it prints into answers.
#[derive(Debug)]
pub(super) struct Runner {
    launch: Launch,
    prompt: Prompt,
    output: Output,
}

impl Runner {
    /// # Errors
    /// When the system does not tell where this program or the current folder is.
    pub(super) fn new(line: &CommandLine) -> io::Result<Self> {
        let (program, arguments) = match line.command.split_first() {
            Some((program, arguments)) => (program.into(), arguments.to_vec()),
            None => (PathBuf::new(), Vec::new()),
        };
        let token = line.token.as_deref().and_then(|it| it.strip_prefix("env:"));
        let environment = std::env::vars_os();
        let environment =
            environment.filter(|(name, _)| Some(name) != token.map(OsString::from).as_ref());
        let name = program.display().to_string();
        let launch = Launch {
            name,
            program,
            arguments,
            environment: environment.collect(),
            working_directory: std::env::current_dir()?,
            supervisor: Some(own_program()?),
            supervision: Supervision {
                // Nobody waits for an answer when this program is gone.
                grace: Grace {
                    before_terminate: Duration::ZERO,
                    before_kill: Duration::ZERO,
                },
                remove: None,
            },
            output: Framing::Bytes,
            input_bytes: 0,
            budget: None,
        };
        Ok(Self {
            launch,
            prompt: line.prompt,
            output: line.output,
        })
    }

    /// Answers one question. The command and all that it has started are gone when this returns.
    pub(super) fn answer(&self, request: &Request, answer: &mut Answer) -> Result<(), Failed> {
        match request.kind() {
            Kind::Text => {}
            Kind::Insertion => {
                return Err(Failed::invalid_request(
                    "a command does not fill in the middle",
                ));
            }
            Kind::Embedding => {
                return Err(Failed::invalid_request("a command does not make vectors"));
            }
        }
        let prompt = prompt(request);
        let mut launch = self.launch.clone();
        if self.prompt == Prompt::Argument {
            launch.arguments.push(argument(&prompt)?);
        }
        let waker = ProcessWaker::new()?;
        answer.wake_on_cancel(Waker::from(waker.clone()));
        let mut process = Process::start(&launch)?;
        if self.prompt == Prompt::Stdin {
            // Nothing waits yet, so it is taken.
            let _ = process.push_line(prompt.as_bytes());
        }
        process.close_input();
        let mut reader = Reader::new(self.output);
        loop {
            let mut read = Ok(Read::More);
            let mut ending = None;
            process.turn(&waker, None, |event| match event {
                Event::Bytes(bytes) => {
                    if let Ok(Read::More) = read {
                        read = reader.read(bytes, answer);
                    }
                }
                // It is not cut into lines.
                Event::Line(_) => {}
                Event::Ended(how) => ending = Some(how),
            })?;
            if read? == Read::Ended || answer.is_cancelled() {
                return Ok(());
            }
            match ending {
                None => {}
                // The answer is whole, whatever the command still does.
                Some(Ending::Code(0) | Ending::OutputClosed) => return reader.finish(answer),
                Some(how @ (Ending::Code(_) | Ending::Signal(_))) => {
                    return Err(failed(&self.launch.program, how, &process));
                }
            }
        }
    }
}

/// Tells how a command failed, with the last lines of its standard error.
fn failed(program: &Path, how: Ending, process: &Process) -> Failed {
    let name = program.file_name().unwrap_or_default();
    let words = process.last_words().told();
    let separator = if words.is_empty() { "" } else { ": " };
    Failed::internal(format!(
        "`{}` failed, {how}{separator}{words}",
        name.display()
    ))
}

/// The text for the command: of a single message that alone, of a conversation each with its speaker.
fn prompt(request: &Request) -> String {
    let messages = request.messages();
    if messages.len() < 2 {
        return request.prompt().into_owned();
    }
    let paragraphs = messages
        .iter()
        .map(|message| format!("{}: {}", message.role(), message.text()));
    paragraphs.collect::<Vec<String>>().join("\n\n")
}

fn argument(prompt: &str) -> Result<OsString, Failed> {
    if prompt.len() > ARGUMENT_BYTES {
        return Err(Failed::context_length(format!(
            "the prompt has {} bytes, and an argument of a command has at most {ARGUMENT_BYTES}",
            prompt.len()
        )));
    }
    if prompt.contains('\0') {
        return Err(Failed::invalid_request(
            "the prompt has a zero byte in it, which no argument of a command may have",
        ));
    }
    Ok(prompt.into())
}

/// Returns the path of this program, to be run again as a supervisor.
fn own_program() -> io::Result<PathBuf> {
    // This link leads to the running program even after an update has replaced its file.
    let running = PathBuf::from("/proc/self/exe");
    if running.exists() {
        return Ok(running);
    }
    std::env::current_exe()
}
