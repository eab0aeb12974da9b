//! The outside of the registry: commands and files that a program gives it, and its export.
//!
//! Nothing is permitted that the configuration has not listed.

mod export;
mod outside;

pub use export::{ExportError, Exported, LineError, name_of_kind, read_export, write_export};
pub use outside::{
    CommandCall, CommandDone, CommandEnd, CommandHandle, Commands, FileDone, FileRead, FileStamp,
    Files, NotRead, NotRun,
};
