//! Child processes on Unix: pipes that are polled, process groups, signals.

mod directory;
mod orphans;
mod pipes;
mod process;
mod supervisor;
mod tree;
mod waker;

#[cfg(target_os = "linux")]
mod linux;
#[cfg(target_os = "linux")]
use linux as system;
#[cfg(not(target_os = "linux"))]
mod portable;
#[cfg(not(target_os = "linux"))]
use portable as system;

pub use directory::PrivateDirectory;
pub use orphans::{KnownChild, adopt_orphans};
pub use process::Process;
pub use supervisor::run_as_supervisor;
pub use waker::ProcessWaker;
