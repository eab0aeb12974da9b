//! Ends agents whose supervisor cannot end them, because they have stopped or killed it.
//!
//! A supervisor leads a session of its own, so its agent and all that the agent starts are in that session unless they leave
//! it. A program that adopts orphans ([`adopt`]) becomes the parent of those that have left it once their supervisor is gone.

use super::process_tree::{Stat, processes, trees};
use rustix::process::{Pid, Signal, WaitOptions, getpid, kill_process, waitpid};
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Rounds of searching and killing. A process that is started during one round is found in the next.
const ROUNDS: usize = 16;

/// Children that this program has started and not yet reaped. Locked while one is started, so that it is never taken
/// for an orphan.
static CHILDREN: Mutex<BTreeSet<i32>> = Mutex::new(BTreeSet::new());
static ADOPTS: AtomicBool = AtomicBool::new(false);

/// Locks and returns the process ids of the children that this program started itself.
pub(crate) fn children() -> MutexGuard<'static, BTreeSet<i32>> {
    CHILDREN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Makes this program the parent of processes that lose theirs (`PR_SET_CHILD_SUBREAPER`). Only for a program whose
/// children are all agents.
pub fn adopt() {
    #[cfg(target_os = "linux")]
    match rustix::process::set_child_subreaper(Some(getpid())) {
        Ok(()) => ADOPTS.store(true, Ordering::Release),
        Err(error) => tracing::debug!("orphans of agents will not be adopted: {error}"),
    }
}

/// Kills all processes of the session that `supervisor` leads or led, all that they have started, and all orphans.
pub(super) fn kill_session(supervisor: Pid) {
    let supervisor = supervisor.as_raw_nonzero().get();
    let own = getpid().as_raw_nonzero().get();
    for _ in 0..ROUNDS {
        let processes = processes();
        let known = children();
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
