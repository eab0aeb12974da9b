//! The registry's outside: commands, and connections to servers in memory.

use crate::memory_pipe::FarEnd;
use crate::upstream_world::server;
use mcp_local_provider_engine::registry::{
    CommandCall, CommandDone, CommandEnd, CommandHandle, Commands, FileDone, Files, NotRead, NotRun,
};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

/// Commands that run.
#[derive(Default)]
pub(super) struct Shell {
    running: Arc<Mutex<Vec<Running>>>,
    begun: Mutex<u64>,
}

struct Running {
    number: u64,
    /// The canary that it was given, and the steps that have led to it.
    trail: String,
    done: CommandDone,
}

impl fmt::Debug for Shell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Shell({:?})", self.trails())
    }
}

impl Shell {
    /// Canaries of the commands that run, each with the steps that have led to it.
    pub(super) fn trails(&self) -> Vec<String> {
        let running = self.running.lock().unwrap();
        running.iter().map(|it| it.trail.clone()).collect()
    }

    /// One of them ends, and writes its trail.
    pub(super) fn end(&self, at: usize, code: Option<u8>, is_cut: bool) {
        let Running { trail, done, .. } = self.running.lock().unwrap().remove(at);
        done(Ok(CommandEnd {
            code,
            output: trail.into_bytes(),
            is_cut,
            errors: String::new(),
            share: None,
        }));
    }

    /// One of them is not run after all.
    pub(super) fn refuse(&self, at: usize) {
        let Running { done, .. } = self.running.lock().unwrap().remove(at);
        done(Err(NotRun::TooMany(1)));
    }

    /// The system gives no thread for one of them.
    pub(super) fn forget(&self, at: usize) {
        let lost = self.running.lock().unwrap().remove(at);
        drop(lost);
    }
}

impl Commands for Shell {
    fn permits(&self, _: &str) -> Result<(), NotRun> {
        Ok(())
    }

    fn run(&self, call: CommandCall, done: CommandDone) -> CommandHandle {
        let mut begun = self.begun.lock().unwrap();
        *begun += 1;
        let number = *begun;
        self.running.lock().unwrap().push(Running {
            number,
            trail: call.arguments.concat(),
            done,
        });
        let running = self.running.clone();
        CommandHandle::new(move || {
            let mut running = running.lock().unwrap();
            let at = running.iter().position(|it| it.number == number);
            let killed = at.map(|at| running.remove(at));
            drop(running);
            drop(killed);
        })
    }
}

/// A disk without files.
#[derive(Debug)]
pub(super) struct NoFiles;

impl Files for NoFiles {
    fn permits(&self, _: &Path) -> Result<(), NotRead> {
        Ok(())
    }

    fn read(&self, path: PathBuf, _: usize, done: FileDone) {
        done(Err(NotRead::Missing(path.display().to_string())));
    }
}

/// A connection to a server in memory.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) port: u16,
    pub(super) far: FarEnd,
    unread: Vec<u8>,
    /// The trail of the request that is to be answered.
    pub(super) job: Option<String>,
    /// The server has ended it.
    pub(super) is_over: bool,
}

impl Connection {
    pub(super) const fn new(port: u16, far: FarEnd) -> Self {
        Self {
            port,
            far,
            unread: Vec::new(),
            job: None,
            is_over: false,
        }
    }

    /// Reads what has come, and notes a request that is whole.
    pub(super) fn read(&mut self) {
        self.unread.extend(self.far.receive());
        let Some((head, body)) = server::take_request(&mut self.unread) else {
            return;
        };
        assert!(self.job.is_none(), "two requests at once");
        self.job = trails(&format!("{head}\r\n{body}")).pop();
        assert!(
            self.job.is_some(),
            "a request without a canary: {head} {body}"
        );
    }

    /// The trail of a request whose answer is still waited for.
    pub(super) fn works_for(&self) -> Option<&str> {
        let is_open = !self.is_over && !self.far.is_ended();
        self.job.as_deref().filter(|_| is_open)
    }
}

/// All trails in a text: a canary, which is `c-`, a number and `z`, and the ids of steps, each behind a dot.
pub(super) fn trails(text: &str) -> Vec<String> {
    let starts = text.match_indices("c-").map(|(at, _)| &text[at..]);
    let whole = starts.filter_map(|from| {
        let digits = from[2..].find(|next: char| !next.is_ascii_digit())?;
        let is_canary = digits > 0 && from[digits + 2..].starts_with('z');
        let is_part = |part: char| part.is_ascii_alphanumeric() || ".-".contains(part);
        let end = from.find(|part| !is_part(part)).unwrap_or(from.len());
        is_canary.then(|| from[..end].to_owned())
    });
    whole.collect()
}

/// The canary of a trail.
pub(super) fn canary(trail: &str) -> &str {
    trail.split('.').next().unwrap_or(trail)
}

/// True when these two of one run may be at work at once: branches are, steps of a chain are not.
pub(super) fn may_run_at_once(one: &str, other: &str) -> bool {
    let mut parts = one.split('.').zip(other.split('.'));
    let fork = parts.find(|(one, other)| one != other);
    fork.is_some_and(|(one, _)| one.starts_with('p'))
}
