//! The command of a child, and what it may do: its environment, directory, grace and limits.

use mcp_local_provider_core::budget::Budget;
use mcp_local_provider_core::process::Grace;
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

/// The subcommand with which a program runs itself again as a supervisor: `PROGRAM child-process OPTIONS -- COMMAND…`. The
/// options are those of [`Supervision::arguments`]; [`run_as_supervisor`](crate::run_as_supervisor) reads them.
pub const COMMAND: &str = "child-process";

const BEFORE_TERMINATE: &str = "--before-terminate";
const BEFORE_KILL: &str = "--before-kill";
const REMOVE: &str = "--remove";

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
        let milliseconds = |time: Duration| time.as_millis().to_string().into();
        let mut arguments = vec![
            BEFORE_TERMINATE.into(),
            milliseconds(self.grace.before_terminate),
            BEFORE_KILL.into(),
            milliseconds(self.grace.before_kill),
        ];
        if let Some(directory) = &self.remove {
            arguments.extend([REMOVE.into(), directory.into()]);
        }
        arguments
    }

    /// Reads what [`Supervision::arguments`] has written, and the child's command behind `--`. `None` where it is anything else.
    pub(crate) fn read(
        mut arguments: impl Iterator<Item = OsString>,
    ) -> Option<(Self, Vec<OsString>)> {
        let (mut terminate, mut kill, mut remove) = (None, None, None);
        loop {
            let option = arguments.next()?;
            if option == "--" {
                break;
            }
            let value = arguments.next()?;
            let milliseconds = || value.to_str()?.parse().ok().map(Duration::from_millis);
            match option.to_str()? {
                BEFORE_TERMINATE => terminate = Some(milliseconds()?),
                BEFORE_KILL => kill = Some(milliseconds()?),
                REMOVE => remove = Some(value.into()),
                _ => return None,
            }
        }
        let grace = Grace {
            before_terminate: terminate?,
            before_kill: kill?,
        };
        let command: Vec<OsString> = arguments.collect();
        (!command.is_empty()).then_some((Self { grace, remove }, command))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_are_read_as_they_were_written_and_nothing_else_is() {
        let command = ["--remove", "--", "", "-x"].map(OsString::from).to_vec();
        let written = |orders: &Supervision| {
            let mut arguments = orders.arguments();
            arguments.push("--".into());
            arguments.extend(command.clone());
            arguments
        };
        for remove in [None, Some("/a directory".into()), Some("--".into())] {
            let grace = Grace {
                before_terminate: Duration::from_millis(1500),
                before_kill: Duration::ZERO,
            };
            let orders = Supervision { grace, remove };
            let read = Supervision::read(written(&orders).into_iter());
            assert_eq!(read, Some((orders, command.clone())));
        }
        let whole = written(&Supervision::default());
        for end in 0..=whole.len() - command.len() {
            let part = whole.iter().take(end).cloned();
            assert_eq!(Supervision::read(part), None, "{end} words");
        }
        for (at, word) in [(0, "--before"), (1, "-1"), (1, "1s"), (3, "")] {
            let other = |(place, had): (usize, &OsString)| match place == at {
                true => word.into(),
                false => had.clone(),
            };
            let words = whole.iter().enumerate().map(other);
            assert_eq!(Supervision::read(words), None, "{word}");
        }
    }
}
