//! The registry behind its lock, and its outside: the hosts that it may ask, and the commands and files that a program gives it.
//!
//! Nothing is permitted that the configuration has not listed.

mod cell;
mod export;
mod outside;
pub mod permits;
#[cfg(test)]
mod tests;

pub use cell::Setup;
pub(crate) use cell::{Execution, RegistryCell, Told};
pub use export::{ExportError, Exported, LineError, name_of_kind, read_export, write_export};
pub use outside::{
    CommandCall, CommandDone, CommandEnd, CommandHandle, Commands, FileDone, FileRead, FileStamp,
    Files, NotRead, NotRun,
};
pub use permits::{HostEntry, HostRefused, Permits, Target};
