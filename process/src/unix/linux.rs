//! Calls and files that Linux has and other Unix systems do not: descriptors of processes, the adoption of orphans, `/proc`.

use super::tree::Stat;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::io::Errno;
use rustix::process::{
    Pid, PidfdFlags, Signal, getpid, pidfd_open, set_child_subreaper,
    set_parent_process_death_signal,
};
use rustix::thread::disable_transparent_huge_pages;
use std::io;
use std::process::Child;
use std::time::{Duration, Instant};

/// Interval of asking for the end of a process; `None`, because [`Exit`] tells it.
pub(super) const ASK: Option<Duration> = None;

/// The end of one process, as a descriptor.
#[derive(Debug)]
pub(super) struct Exit(OwnedFd);

impl Exit {
    /// Watches a process.
    ///
    /// # Errors
    /// Fails when the process may open no more files.
    pub(super) fn of(pid: Pid) -> io::Result<Self> {
        Ok(Self(pidfd_open(pid, PidfdFlags::empty())?))
    }

    /// Returns the descriptor, which is readable once the process has ended.
    pub(super) fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        Some(self.0.as_fd())
    }

    /// Waits for the end of the process, and returns false after `patience`.
    pub(super) fn comes_within(&self, patience: Duration, _child: &mut Child) -> bool {
        let until = Instant::now() + patience;
        let mut ended = [PollFd::new(&self.0, PollFlags::IN)];
        loop {
            let left = until.saturating_duration_since(Instant::now());
            match poll(&mut ended, Timespec::try_from(left).ok().as_ref()) {
                Err(Errno::INTR) => {}
                ready => return matches!(ready, Ok(1..)),
            }
        }
    }
}

/// Makes this process the parent of processes that lose theirs.
///
/// # Errors
/// Fails when the kernel refuses it.
pub(super) fn adopt() -> io::Result<()> {
    Ok(set_child_subreaper(Some(getpid()))?)
}

/// Continues this process when its parent ends: a child of ours may have stopped it.
///
/// # Errors
/// Fails when the kernel refuses it.
pub(super) fn continue_without_parent() -> io::Result<()> {
    Ok(set_parent_process_death_signal(Some(Signal::CONT))?)
}

/// Has this process and its children get huge pages where the system gives them: a program may do without them for itself.
///
/// # Errors
/// Fails when the kernel has none.
pub(super) fn allow_huge_pages() -> io::Result<()> {
    Ok(disable_transparent_huge_pages(false)?)
}

/// Reads all processes in `/proc`.
pub(super) fn processes() -> Vec<Stat> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten();
    entries
        .filter_map(|entry| {
            let id: i32 = entry.ok()?.file_name().to_str()?.parse().ok()?;
            Stat::read(&std::fs::read_to_string(format!("/proc/{id}/stat")).ok()?)
        })
        .collect()
}

/// Returns true where the kernel tells the memory of processes.
pub(super) fn tells_memory() -> bool {
    // It does so for every process or for none, so for this one too.
    proportional("self").is_some()
}

/// Memory of a process in bytes: its proportional share, or all that is resident where the system keeps the share to itself, as
/// for a program with rights of its own. 0 for one that has ended meanwhile.
pub(super) fn memory(process: i32) -> u64 {
    let id = process.to_string();
    let resident = || kibibytes(&format!("/proc/{id}/status"), "VmRSS:");
    proportional(&id).or_else(resident).unwrap_or_default()
}

/// Proportional set size of a process in bytes. `None` where the system does not tell it.
fn proportional(process: &str) -> Option<u64> {
    kibibytes(&format!("/proc/{process}/smaps_rollup"), "Pss:")
}

/// Reads the line `NAME NUMBER kB` of a file, as a number of bytes.
fn kibibytes(file: &str, name: &str) -> Option<u64> {
    let text = std::fs::read_to_string(file).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    let number: u64 = line.split_whitespace().next()?.parse().ok()?;
    number.checked_mul(1024)
}
