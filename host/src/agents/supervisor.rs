//! The supervisor: a small process between this program and an agent, so that no agent outlives the program.
//!
//! The program runs itself again as `agent-process -- COMMAND…` ([`supervise`]). That process starts the agent in a
//! process group of its own and lets it inherit standard input, output and error, so that no byte passes through the
//! supervisor. The supervisor waits until nobody holds the writing end of its standard input: then the program has
//! closed it, or has ended, by whatever signal. The agent then has [`GRACE`] to end; after that its process group is
//! killed. Processes that the agent started and detached (with `setsid`, say) are killed too, on Linux,
//! where they become children of the supervisor.

use super::directory;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{
    Pid, Signal, WaitId, WaitIdOptions, WaitOptions, WaitStatus, kill_process, kill_process_group,
    setsid, wait, waitid,
};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Write};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Duration;

/// Time that an agent has to end after its standard input is closed.
pub const GRACE: Duration = Duration::from_secs(2);
/// Exit code for a command that does not exist, as in a POSIX shell.
pub const EXIT_NOT_FOUND: u8 = 127;
/// Exit code for a command that cannot be run, as in a POSIX shell.
pub const EXIT_NOT_RUNNABLE: u8 = 126;
/// Exit codes above this one are this number plus the signal that ended the agent, as in a POSIX shell.
pub const EXIT_SIGNAL: u8 = 128;

/// Runs `command` to its end, and returns its exit code. Then it removes the private directory `remove`, unless
/// somebody still holds the writing end of standard input: that program may use the directory again.
///
/// It ends early when nobody holds the writing end any more (after [`GRACE`]), or when it is sent SIGTERM (at once).
pub fn supervise(command: &[OsString], remove: Option<PathBuf>) -> ExitCode {
    let code = run(command).unwrap_or_else(|error| {
        let name = command.first().cloned().unwrap_or_default();
        // When standard error is closed nobody can be told.
        let _ = writeln!(
            io::stderr(),
            "`{}` cannot be started: {error}",
            name.display()
        );
        if error.kind() == io::ErrorKind::NotFound {
            EXIT_NOT_FOUND
        } else {
            EXIT_NOT_RUNNABLE
        }
    });
    if let Some(path) = remove
        && nobody_writes()
    {
        directory::remove(&path);
    }
    ExitCode::from(code)
}

/// Returns true when nobody holds the writing end of standard input.
fn nobody_writes() -> bool {
    let input = io::stdin();
    let mut input = [PollFd::new(&input, PollFlags::empty())];
    while poll(&mut input, Some(&Timespec::default())) == Err(Errno::INTR) {}
    let [input] = input;
    input.revents().contains(PollFlags::HUP)
}

fn run(command: &[OsString]) -> io::Result<u8> {
    let Some((program, arguments)) = command.split_first() else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    // Keys at the terminal are meant for the program, which then ends the agent in order. `setsid` fails only for a
    // process that leads a group already.
    let _ = setsid();
    #[cfg(target_os = "linux")]
    {
        rustix::process::set_child_subreaper(Some(rustix::process::getpid()))?;
        // The agent may have stopped this process when the program is killed.
        rustix::process::set_parent_process_death_signal(Some(Signal::CONT))?;
    }
    let (told, tell) = UnixStream::pair()?;
    for signal in [SIGTERM, SIGINT, SIGHUP] {
        signal_hook::low_level::pipe::register(signal, tell.try_clone()?)?;
    }
    let child = Command::new(program)
        .args(arguments)
        .process_group(0)
        .spawn()?;
    let agent = i32::try_from(child.id())
        .ok()
        .and_then(Pid::from_raw)
        .ok_or(io::ErrorKind::InvalidData)?;
    // The program sees the end of the agent's output only if nobody else holds it.
    rustix::stdio::dup2_stdout(File::open("/dev/null")?)?;
    std::thread::Builder::new()
        .name("end".to_owned())
        .spawn(move || end_in_time(agent, &told))?;
    let code = wait_for(agent)?;
    kill_the_rest();
    Ok(code)
}

/// Waits until the program is gone, closes its end or sends a signal, then kills the agent after its grace.
fn end_in_time(agent: Pid, told: &UnixStream) {
    let input = io::stdin();
    // No event is asked for: `poll` always reports a hang-up, and the data is the agent's to read.
    let mut both = [
        PollFd::new(&input, PollFlags::empty()),
        PollFd::new(told, PollFlags::IN),
    ];
    while matches!(poll(&mut both, None), Ok(0) | Err(Errno::INTR)) {}
    let [_, told] = &mut both;
    if told.revents().is_empty() {
        let grace = Timespec::try_from(GRACE).ok();
        // A signal ends the grace. So does the agent's end, because then this process ends too.
        while poll(std::slice::from_mut(told), grace.as_ref()) == Err(Errno::INTR) {}
    }
    // An error means that the group has ended by now.
    let _ = kill_process_group(agent, Signal::KILL);
}

/// Waits for the agent, and reaps every orphan below this process too, as the first process of a system does.
fn wait_for(agent: Pid) -> io::Result<u8> {
    loop {
        // The agent's id names its group, and no other process gets it before the agent is reaped.
        retry(|| waitid(WaitId::All, WaitIdOptions::EXITED | WaitIdOptions::NOWAIT))?;
        let over = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT | WaitIdOptions::NOHANG;
        if retry(|| waitid(WaitId::Pid(agent), over))?.is_some() {
            let _ = kill_process_group(agent, Signal::KILL);
        }
        if let Some((pid, status)) = retry(|| wait(WaitOptions::NOHANG))?
            && pid == agent
        {
            let _ = kill_process_group(agent, Signal::KILL);
            return Ok(exit_code(status));
        }
    }
}

fn retry<T>(mut call: impl FnMut() -> rustix::io::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(Errno::INTR) => {}
            result => return Ok(result?),
        }
    }
}

fn exit_code(status: WaitStatus) -> u8 {
    let signal = status.terminating_signal().map(|signal| {
        u8::try_from(signal)
            .unwrap_or_default()
            .saturating_add(EXIT_SIGNAL)
    });
    let code = || {
        status
            .exit_status()
            .and_then(|code| u8::try_from(code).ok())
    };
    signal.or_else(code).unwrap_or(EXIT_SIGNAL)
}

/// Kills and reaps the remaining children, including those that become children when their parents are killed, until
/// there are none.
fn kill_the_rest() {
    // An error means that there are no children.
    while let Ok(ended) = retry(|| wait(WaitOptions::NOHANG)) {
        if ended.is_none() {
            let children = children();
            if children.is_empty() {
                return;
            }
            for child in children {
                let _ = kill_process(child, Signal::KILL);
                let _ = retry(|| waitid(WaitId::Pid(child), WaitIdOptions::EXITED));
            }
        }
    }
}

/// Returns the children of this process, read from `/proc`; none on a system without it.
fn children() -> Vec<Pid> {
    let own = std::process::id();
    let processes = std::fs::read_dir(Path::new("/proc")).into_iter().flatten();
    processes
        .filter_map(|entry| {
            let pid: i32 = entry.ok()?.file_name().to_str()?.parse().ok()?;
            let status = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
            // The name, in parentheses, may hold any characters; after it come the state and the parent.
            let parent = status.rsplit_once(')')?.1.split_whitespace().nth(1)?;
            (parent.parse() == Ok(own)).then(|| Pid::from_raw(pid))?
        })
        .collect()
}
