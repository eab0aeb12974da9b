//! Processes of this machine with their parents, and the use of the machine by a child and all that it has started.

use super::system::{memory, processes, tells_memory};
use mcp_local_provider_core::process::Load;
use rustix::process::Pid;
use std::collections::BTreeSet;

/// Fields of `/proc/PID/stat` (proc_pid_stat(5)).
pub(super) struct Stat {
    pub(super) id: i32,
    pub(super) zombie: bool,
    pub(super) parent: i32,
    pub(super) session: i32,
}

impl Stat {
    /// Reads the text of such a file; `None` for another text.
    #[cfg_attr(not(target_os = "linux"), expect(dead_code))]
    pub(super) fn read(text: &str) -> Option<Self> {
        // The name, in parentheses, may hold any characters; after it come state, parent, group and session.
        let (before, after) = text.rsplit_once(')')?;
        let id = before.split_once(' ')?.0.parse().ok()?;
        let mut fields = after.split_whitespace();
        let zombie = matches!(fields.next()?, "Z" | "X");
        let parent = fields.next()?.parse().ok()?;
        let session = fields.nth(1)?.parse().ok()?;
        Some(Self {
            id,
            zombie,
            parent,
            session,
        })
    }
}

/// Returns the ids of the roots and of all that descends from them.
pub(super) fn trees(processes: &[Stat], is_root: impl Fn(&Stat) -> bool) -> BTreeSet<i32> {
    let roots = processes.iter().filter(|process| is_root(process));
    let mut found: BTreeSet<i32> = roots.map(|process| process.id).collect();
    loop {
        let known = found.len();
        let children = processes
            .iter()
            .filter(|process| found.contains(&process.parent));
        let children: Vec<i32> = children.map(|process| process.id).collect();
        found.extend(children);
        if found.len() == known {
            return found;
        }
    }
}

/// Measures `root` and all that it has started, or all but `root` where that is a supervisor of ours. `None` on a system
/// that does not tell the memory of processes.
pub(super) fn load(root: Pid, is_supervisor: bool) -> Option<Load> {
    if !tells_memory() {
        return None;
    }
    let root = root.as_raw_nonzero().get();
    let processes = processes();
    let tree = trees(&processes, |process| {
        process.id == root || process.session == root
    });
    let counted = processes.iter().filter(|process| {
        tree.contains(&process.id) && !process.zombie && !(is_supervisor && process.id == root)
    });
    Some(counted.fold(Load::default(), |sum, process| Load {
        processes: sum.processes + 1,
        memory: sum.memory.saturating_add(memory(process.id)),
    }))
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::io::{BufRead, BufReader};
    use std::process::{Command, Stdio};

    #[test]
    fn a_process_is_read_whatever_its_name_is() {
        let stat = Stat::read("7 (a b) c) Z 5 6 4 0 -1").unwrap();
        assert_eq!(
            (stat.id, stat.zombie, stat.parent, stat.session),
            (7, true, 5, 4)
        );
    }

    #[test]
    fn all_that_a_process_has_started_is_measured() {
        let script = "sleep 600 & (sleep 600 & echo; wait) & wait";
        let mut child = Command::new("sh")
            .args(["-c", script])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        let root = Pid::from_child(&child);
        let all = load(root, false).unwrap();
        // The shell, a subshell, and what each of them has started.
        assert_eq!(all.processes, 4);
        assert!(all.memory > 64 << 10, "{all:?}");
        assert_eq!(load(root, true).unwrap().processes, 3);
        let processes = processes();
        let tree = trees(&processes, |process| {
            Pid::from_raw(process.id) == Some(root)
        });
        for id in tree {
            let _ = rustix::process::kill_process(
                Pid::from_raw(id).unwrap(),
                rustix::process::Signal::KILL,
            );
        }
        child.wait().unwrap();
    }
}
