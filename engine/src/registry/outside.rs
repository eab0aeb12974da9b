//! Commands and files of a machine, as a program gives them to the registry. Each holds what it is asked for against the lists of
//! the configuration anew, so that a reload holds at once.

use mcp_local_provider_core::budget::Share;
use std::fmt;
use std::path::{Path, PathBuf};

/// Runs commands of `registry.commands`.
pub trait Commands: Send + Sync + fmt::Debug {
    /// Tells whether a program may be run. It need not be there yet.
    ///
    /// # Errors
    /// A sentence that says why not, and what to do.
    fn permits(&self, program: &str) -> Result<(), NotRun>;

    /// Runs a command. `done` is called once, on any thread, when the command and all that it has started are gone; never before
    /// this returns. A handle that is dropped before that kills them all, and `done` is dropped without a call then; so it is when
    /// the system gives no thread.
    fn run(&self, call: CommandCall, done: CommandDone) -> CommandHandle;
}

/// Told how a command has ended.
pub type CommandDone = Box<dyn FnOnce(Result<CommandEnd, NotRun>) + Send>;

/// A command to be run, without a shell: each value is one argument.
#[derive(Clone, PartialEq, Eq)]
pub struct CommandCall {
    /// The tool, for logs.
    pub name: String,
    /// Absolute path of the program, as the list has it.
    pub program: String,
    /// Its arguments.
    pub arguments: Vec<String>,
    /// Variables beside those that every program needs.
    pub environment: Vec<(String, String)>,
    /// Bytes for its standard input, which ends behind them.
    pub input: Vec<u8>,
    /// Bytes of standard output that are taken at most. One that writes more is ended.
    pub output_bytes: usize,
}

impl fmt::Debug for CommandCall {
    /// Without arguments, environment and input, which may hold secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = self.arguments.len();
        write!(f, "CommandCall({}, {count} arguments)", self.program)
    }
}

/// How a command has ended, and what it wrote.
pub struct CommandEnd {
    /// Its exit code; 128 and the number of the signal that ended it, as in a shell; `None` when it was ended here, for too much
    /// output or because it closed its output and went on.
    pub code: Option<u8>,
    /// Standard output, at most [`CommandCall::output_bytes`].
    pub output: Vec<u8>,
    /// True when there was more output.
    pub is_cut: bool,
    /// Last lines of standard error, shortened and without control characters. They may quote what the command was sent.
    pub errors: String,
    /// Memory of the output.
    pub share: Option<Share>,
}

impl fmt::Debug for CommandEnd {
    /// Without what it wrote.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "CommandEnd({:?}, {} bytes)",
            self.code,
            self.output.len()
        )
    }
}

/// Command that was not run, or whose end is not known. Its text is a sentence for people.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum NotRun {
    /// The list does not have it, or an argument cannot be one.
    #[error("{0}")]
    Refused(String),
    /// Too many run at once.
    #[error("{0} commands run already, which is the most; ask again later")]
    TooMany(usize),
    /// The system cannot run it.
    #[error("{0}")]
    Failed(String),
}

/// Holds a command that runs. Dropping it kills the command and all that it has started.
pub struct CommandHandle(Option<Box<dyn FnOnce() + Send>>);

impl CommandHandle {
    /// Makes a handle; `end` is called when it is dropped.
    #[must_use]
    pub fn new(end: impl FnOnce() + Send + 'static) -> Self {
        Self(Some(Box::new(end)))
    }

    /// Makes a handle of what has ended already.
    #[must_use]
    pub const fn ended() -> Self {
        Self(None)
    }
}

impl fmt::Debug for CommandHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CommandHandle")
    }
}

impl Drop for CommandHandle {
    fn drop(&mut self) {
        if let Some(end) = self.0.take() {
            end();
        }
    }
}

/// Reads files below `registry.files`.
pub trait Files: Send + Sync + fmt::Debug {
    /// Tells whether a path is below a folder that may be read, as it is written; where links lead shows a read. The file need
    /// not be there yet.
    ///
    /// # Errors
    /// A sentence that says why not, and what to do.
    fn permits(&self, path: &Path) -> Result<(), NotRead>;

    /// Reads a file on a thread. `most` is the most bytes that it may have. `done` is called once, on any thread, or
    /// dropped without a call when the system gives none.
    fn read(&self, path: PathBuf, most: usize, done: FileDone);
}

/// Told what a file holds.
pub type FileDone = Box<dyn FnOnce(Result<FileRead, NotRead>) + Send>;

/// A file that was read.
pub struct FileRead {
    /// All that it holds.
    pub bytes: Vec<u8>,
    /// Memory of `bytes`.
    pub share: Option<Share>,
}

impl fmt::Debug for FileRead {
    /// Without the content.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FileRead({} bytes)", self.bytes.len())
    }
}

/// File that was not read. Its text is a sentence for people.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum NotRead {
    /// It is outside of the folders that may be read, or no regular file.
    #[error("{0}")]
    Refused(String),
    /// There is no such file.
    #[error("`{0}` is not there")]
    Missing(String),
    /// It has more bytes than may be read.
    #[error("`{path}` has more than {most} bytes, which is the most that a resource may have")]
    TooLarge {
        /// Its path.
        path: String,
        /// The most bytes.
        most: usize,
    },
    /// Too many reads wait.
    #[error("too many files are being read; ask again later")]
    TooMany,
    /// There is no memory for it.
    #[error("there is no memory left for `{0}` (`limits.memory`); ask again later")]
    Memory(String),
    /// The system cannot read it.
    #[error("{0}")]
    Failed(String),
}
