//! Child processes that end with the program that has started them, for whatever protocol they speak in lines.
//!
//! A [`Process`] is one child: lines to it, lines or bytes from it, its memory, and its end. It runs with an environment of allowed
//! variables ([`clean_environment`]), in a [`PrivateDirectory`] where its owner wants one. One thread owns it, and waits in
//! [`Process::turn`] for whatever happens first. When it is started, and how long its grace is, decides the machine
//! [`Life`](mcp_local_provider_core::process::Life), whose orders are calls of the process: start, close the input, terminate, kill.
//!
//! The program runs itself again as the supervisor of each child ([`run_as_supervisor`]), so that no child outlives the program,
//! whatever ends it.
//!
//! Each family of systems has a folder, and Unix is the one that exists. In it `linux.rs` has what only Linux gives, and
//! `portable.rs` says what other Unix systems go without. Another family needs the same names as `unix/mod.rs`; until it has them
//! this crate refuses to be compiled for it.
#![cfg_attr(not(test), warn(clippy::wildcard_enum_match_arm))]

#[cfg(not(unix))]
compile_error!(
    "mcp-local-provider-process starts child processes on Unix only; another family of systems needs a folder beside `unix`"
);

mod environment;
mod event;
mod last_words;
mod launch;
#[cfg(unix)]
mod unix;

pub use environment::clean_environment;
pub use event::{Ending, Event};
pub use last_words::{LastWords, names_error};
pub use launch::{COMMAND, Framing, Launch, Supervision};
#[cfg(unix)]
pub use unix::{
    KnownChild, PrivateDirectory, Process, ProcessWaker, adopt_orphans, run_as_supervisor,
};
