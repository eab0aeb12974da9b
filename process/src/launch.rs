//! The command of a child, and what it may do: its environment, directory, grace and limits.

use mcp_local_provider_core::budget::Budget;
use mcp_local_provider_core::process::Grace;
use std::ffi::OsString;
use std::path::PathBuf;

/// The subcommand with which a program runs itself again as a supervisor: `PROGRAM child-process OPTIONS -- COMMAND…`. The
/// options are those of [`Supervision::arguments`]; the program calls [`supervise`](crate::supervise) with them.
pub const COMMAND: &str = "child-process";

/// Command, environment and limits of a process to start.
#[derive(Debug, Clone)]
pub struct Launch {
    /// The child's name, for the log.
    pub name: String,
    /// The program, as an absolute path.
    pub program: PathBuf,
    /// Its arguments.
    pub arguments: Vec<OsString>,
    /// Its whole environment.
    pub environment: Vec<(OsString, OsString)>,
    /// Its working directory.
    pub working_directory: PathBuf,
    /// The program that has the subcommand [`COMMAND`]. Without it the child is a plain one with a process group of its own: it is
    /// ended in the same order, but it outlives this program when SIGKILL ends the program and the child ignores the end of its
    /// standard input.
    pub supervisor: Option<PathBuf>,
    /// The orders to the supervisor.
    pub supervision: Supervision,
    /// The form in which its output is taken.
    pub output: Framing,
    /// Bytes that may wait for the child to read them, beside one line: a line is taken while fewer wait.
    pub input_bytes: usize,
    /// Memory of all queues, against which the bytes count that wait in its pipes: for the child to read them, or for the end of a
    /// line of its output. `None`: they count nowhere.
    pub budget: Option<Budget>,
}

/// The form in which a child's output is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// Lines, at most this many bytes long.
    Lines(usize),
    /// Bytes as they come.
    Bytes,
}

/// The orders to a supervisor.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Supervision {
    /// Grace of the child when the program is gone. While it lives it decides itself.
    pub grace: Grace,
    /// A [`PrivateDirectory`](crate::PrivateDirectory) that the supervisor removes at the end, unless the program still holds the
    /// child's input: it may use the directory again.
    pub remove: Option<PathBuf>,
}

impl Supervision {
    /// Writes it as options of the command line: `--before-terminate MS --before-kill MS [--remove DIRECTORY]`.
    #[must_use]
    pub fn arguments(&self) -> Vec<OsString> {
        let milliseconds = |time: std::time::Duration| time.as_millis().to_string().into();
        let mut arguments = vec![
            "--before-terminate".into(),
            milliseconds(self.grace.before_terminate),
            "--before-kill".into(),
            milliseconds(self.grace.before_kill),
        ];
        if let Some(directory) = &self.remove {
            arguments.extend(["--remove".into(), directory.into()]);
        }
        arguments
    }
}
