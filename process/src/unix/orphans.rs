//! Ends children whose supervisor cannot end them, because they have stopped or killed it.
//!
//! A supervisor leads a session of its own, so its child and all that the child starts are in that session unless they leave
//! it. A program that adopts orphans ([`adopt_orphans`]) becomes the parent of those that have left it once their supervisor is
//! gone.

use super::system::{adopt, processes};
use super::tree::{Stat, trees};
use rustix::process::{Pid, Signal, WaitOptions, getpid, kill_process, waitpid};
use std::collections::BTreeSet;
use std::io;
use std::process::{Child, Command};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Rounds of searching and killing. A process that is started during one round is found in the next.
const ROUNDS: usize = 16;

/// Children that this program has started and not yet reaped. Locked while one is started, so that it is never taken
/// for an orphan.
static KNOWN: Mutex<BTreeSet<i32>> = Mutex::new(BTreeSet::new());
static ADOPTS: AtomicBool = AtomicBool::new(false);

fn known() -> MutexGuard<'static, BTreeSet<i32>> {
    KNOWN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A child that is never taken for an orphan. A program that calls [`adopt_orphans`] starts every child as one. Whoever drops it
/// has waited for its end.
#[derive(Debug)]
pub struct KnownChild {
    child: Child,
    id: Pid,
}

impl KnownChild {
    /// Starts a child.
    ///
    /// # Errors
    /// Fails when the system cannot start it.
    pub fn start(command: &mut Command) -> io::Result<Self> {
        let mut known = known();
        let child = command.spawn()?;
        let id = Pid::from_child(&child);
        known.insert(id.as_raw_nonzero().get());
        Ok(Self { child, id })
    }

    /// The child.
    pub fn process(&mut self) -> &mut Child {
        &mut self.child
    }

    /// Returns its process id.
    #[must_use]
    pub fn id(&self) -> Pid {
        self.id
    }
}

impl Drop for KnownChild {
    fn drop(&mut self) {
        known().remove(&self.id.as_raw_nonzero().get());
    }
}

/// Makes this program the parent of processes that lose theirs, so that they can be found and ended. Only for a program whose
/// children are all [`KnownChild`]ren or [`Process`](super::Process)es.
///
/// # Errors
/// Fails where the system has no such call; on Linux that is `PR_SET_CHILD_SUBREAPER`.
pub fn adopt_orphans() -> io::Result<()> {
    adopt()?;
    ADOPTS.store(true, Ordering::Release);
    Ok(())
}

/// Kills all processes of the session that `supervisor` leads or led, all that they have started, and all orphans.
pub(super) fn kill_session(supervisor: Pid) {
    let supervisor = supervisor.as_raw_nonzero().get();
    let own = getpid().as_raw_nonzero().get();
    for _ in 0..ROUNDS {
        let processes = processes();
        let known = known();
        let is_root = |process: &Stat| {
            process.id == supervisor
                || process.session == supervisor
                || (ADOPTS.load(Ordering::Acquire)
                    && process.parent == own
                    && !known.contains(&process.id))
        };
        let doomed = trees(&processes, is_root);
        drop(known);
        let mut alive = 0;
        for process in processes {
            if !doomed.contains(&process.id) {
                continue;
            }
            let Some(id) = Pid::from_raw(process.id) else {
                continue;
            };
            if !process.zombie {
                alive += 1;
                // It may have ended by now.
                let _ = kill_process(id, Signal::KILL);
            }
            if process.parent == own && process.id != supervisor {
                // The supervisor is reaped by its owner. Any other child ends at once, and nobody else waits for it.
                let _ = waitpid(Some(id), WaitOptions::empty());
            }
        }
        if alive == 0 {
            return;
        }
    }
}
