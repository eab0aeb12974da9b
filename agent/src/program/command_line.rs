//! The command line.

use clap::{Parser, ValueEnum};
use mcp_local_provider_agent::Capabilities;
use std::ffi::OsString;
use std::path::Path;

/// Turns any command into an agent: each question starts the command, and what it prints is the answer.
///
/// A conversation of several messages is given to the command as "ROLE: TEXT" paragraphs, a single message as its text alone.
/// A client that leaves ends the command and all that it has started. An exit status other than 0 is an error, which the
/// client sees with the last lines of standard error.
#[derive(Debug, Parser)]
#[command(name = super::PROGRAM, version, max_term_width = 100)]
pub(crate) struct CommandLine {
    /// Address of the provider: ws://HOST:PORT/agent, or wss: for TLS
    #[arg(long, value_name = "URL", default_value = "ws://127.0.0.1:8788/agent")]
    pub(crate) url: String,
    /// Key of the role bridge: env:NAME for a variable, which the command does not get, or file:PATH. Without it none is shown
    #[arg(long, value_name = "SOURCE")]
    pub(crate) token: Option<String>,
    /// Name of the model. Without it the name of the command
    #[arg(long, value_name = "NAME")]
    model: Option<String>,
    /// How the command gets the prompt: on standard input, or as its last argument. A prompt may begin with a dash
    #[arg(long, value_enum, default_value_t = Prompt::Stdin)]
    pub(crate) prompt: Prompt,
    /// What the command prints: text, or JSON lines, each a delta of the agent protocol such as {"content":"Hi"}, with
    /// finish_reason and usage in the last
    #[arg(long, value_enum, default_value_t = Output::Text)]
    pub(crate) output: Output,
    /// Commands that run at once; other questions wait
    #[arg(long, value_name = "NUMBER", default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub(crate) concurrency: u32,
    /// The command with its arguments
    #[arg(last = true, required = true, value_name = "COMMAND")]
    pub(crate) command: Vec<OsString>,
}

/// Ways to give the prompt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Prompt {
    Stdin,
    Argument,
}

/// Forms of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Output {
    Text,
    Json,
}

impl CommandLine {
    /// Returns the name of the model.
    pub(crate) fn model(&self) -> &str {
        let file = self.command.first().map(Path::new);
        let name = file
            .and_then(Path::file_stem)
            .and_then(|name| name.to_str());
        self.model.as_deref().or(name).unwrap_or("command")
    }

    /// A command that prints JSON may think. It is not told of the caller's tools.
    pub(crate) fn capabilities(&self) -> Capabilities {
        Capabilities {
            thinking: self.output == Output::Json,
            ..Capabilities::default()
        }
    }
}
