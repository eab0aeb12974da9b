//! Unix systems other than Linux, and the things that they go without: the end of a process is asked for every 50 ms, a process
//! that has left its group or killed its supervisor is not found, and memory is not measured.

use super::tree::Stat;
use rustix::fd::BorrowedFd;
use rustix::process::Pid;
use std::io;
use std::process::Child;
use std::time::{Duration, Instant};

/// Interval of asking for the end of a process.
pub(super) const ASK: Option<Duration> = Some(INTERVAL);

const INTERVAL: Duration = Duration::from_millis(50);

/// The end of one process, which has no descriptor here.
#[derive(Debug)]
pub(super) struct Exit;

impl Exit {
    /// Watches a process.
    ///
    /// # Errors
    /// None here.
    pub(super) fn of(_pid: Pid) -> io::Result<Self> {
        Ok(Self)
    }

    /// Returns no descriptor.
    pub(super) fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        None
    }

    /// Waits for the end of the process, and returns false after `patience`.
    pub(super) fn comes_within(&self, patience: Duration, child: &mut Child) -> bool {
        let until = Instant::now() + patience;
        while matches!(child.try_wait(), Ok(None)) {
            if Instant::now() >= until {
                return false;
            }
            std::thread::sleep(INTERVAL);
        }
        true
    }
}

/// Fails, because orphans go to the first process of the system.
///
/// # Errors
/// Always.
pub(super) fn adopt() -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

/// Does nothing: a supervisor that its child has stopped stays stopped when the program is killed, and so does not end the child.
///
/// # Errors
/// None here.
pub(super) fn continue_without_parent() -> io::Result<()> {
    Ok(())
}

/// Does nothing: no program of ours does without huge pages here.
///
/// # Errors
/// None here.
pub(super) fn allow_huge_pages() -> io::Result<()> {
    Ok(())
}

/// Returns no processes.
pub(super) fn processes() -> Vec<Stat> {
    Vec::new()
}

/// Returns false.
pub(super) fn tells_memory() -> bool {
    false
}

/// Returns 0.
pub(super) fn memory(_process: i32) -> u64 {
    0
}
