//! The outside of the registry: commands and files that a program gives it.
//!
//! Nothing is permitted that the configuration has not listed.

mod outside;

pub use outside::{
    CommandCall, CommandDone, CommandEnd, CommandHandle, Commands, FileDone, FileRead, Files,
    NotRead, NotRun,
};
