//! This process, as the operating system sees it: its program, privacy and file limit.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::io;
use std::path::PathBuf;

/// Closes this process's memory, environment and files in `/proc` to other processes of the same user
/// (`PR_SET_DUMPABLE` 0), such as the agents that it starts: its environment may hold secrets. Core dumps and debuggers
/// are off too. Does nothing but on Linux.
pub fn hide_from_others() {
    #[cfg(target_os = "linux")]
    if let Err(error) =
        rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable)
    {
        tracing::warn!("agents of this user may read the secrets of this program: {error}");
    }
}

/// Returns the path of this program, to be run again as a supervisor.
pub fn own_program() -> io::Result<PathBuf> {
    // This link leads to the running program even after an update has replaced its file.
    let running = PathBuf::from("/proc/self/exe");
    if running.exists() {
        Ok(running)
    } else {
        std::env::current_exe()
    }
}

/// Raises the soft limit of open files to the hard one, because every connection is a file. Returns the limit that
/// holds now; `None` means no limit.
pub fn raise_file_limit() -> Option<u64> {
    let limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum {
        let wanted = Rlimit {
            current: limit.maximum,
            maximum: limit.maximum,
        };
        if let Err(error) = setrlimit(Resource::Nofile, wanted) {
            tracing::debug!("the limit of open files stays as it is: {error}");
        }
    }
    getrlimit(Resource::Nofile).current
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_of_open_files_is_raised_to_the_hard_one() {
        raise_file_limit();
        let limit = getrlimit(Resource::Nofile);
        assert_eq!(limit.current, limit.maximum);
    }
}
