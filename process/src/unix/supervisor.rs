//! The supervisor: a small process between this program and a child, so that no child outlives the program.
//!
//! The program runs itself again as [`COMMAND`] and calls [`run_as_supervisor`]. That process starts the child in a
//! process group of its own and lets it inherit standard input, output and error, so that no byte passes through the
//! supervisor. While the program lives it decides how the child is ended, and tells the supervisor by signals. The supervisor decides
//! once the program has ended, by whatever signal: nobody holds the reading end of its standard error then. The child has its
//! [`Grace`]: its input has ended and it is to end by itself, then its process group gets SIGTERM, then SIGKILL. Processes that
//! the child started and detached (with `setsid`, say) are killed too, on Linux, where they become children of the supervisor.

use super::{directory, system};
use crate::{COMMAND, Supervision};
use mcp_local_provider_core::process::Grace;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{
    Pid, Signal, WaitId, WaitIdOptions, WaitOptions, WaitStatus, getpid, kill_process,
    kill_process_group, setsid, wait, waitid,
};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1};
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Write};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};
use std::time::Duration;

/// Signal to a supervisor: it is to send SIGTERM to its child now.
pub(super) const TERMINATE: Signal = Signal::USR1;
/// Exit code for wrong orders.
const EXIT_USAGE: u8 = 2;
/// Exit code for a command that does not exist, as in a POSIX shell.
const EXIT_NOT_FOUND: u8 = 127;
/// Exit code for a command that cannot be run, as in a POSIX shell.
const EXIT_NOT_RUNNABLE: u8 = 126;
/// Exit codes above this one are this number plus the signal that ended the child, as in a POSIX shell.
pub(super) const EXIT_SIGNAL: u8 = 128;

/// Runs a supervisor, where the process was started as one, to its end, and returns its exit code: that of the child, or 2 where
/// the orders are wrong. `None` where it was started as anything else. `arguments` are those of the process, its own name first.
///
/// Call it before all else: whoever asks for a child waits for its supervisor.
pub fn run_as_supervisor(mut arguments: impl Iterator<Item = OsString>) -> Option<ExitCode> {
    arguments.nth(1).filter(|word| word == COMMAND)?;
    let Some((supervision, command)) = Supervision::read(arguments) else {
        // When standard error is closed nobody can be told.
        let _ = writeln!(
            io::stderr(),
            "`{COMMAND}` is for the program itself, which starts its child processes by it: the options, `--` or the command is wrong"
        );
        return Some(ExitCode::from(EXIT_USAGE));
    };
    Some(supervise(&command, &supervision))
}

/// Runs `command` to its end, and returns its exit code. Then it removes the private directory of `supervision`, unless
/// somebody still holds the writing end of standard input: that program may use the directory again.
///
/// It ends early when nobody reads its standard error any more (within the grace), or when it is sent SIGTERM (at once).
fn supervise(command: &[OsString], supervision: &Supervision) -> ExitCode {
    let code = run(command, supervision.grace).unwrap_or_else(|error| {
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
    if let Some(path) = &supervision.remove
        && nobody_writes()
    {
        directory::remove(path);
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

fn run(command: &[OsString], grace: Grace) -> io::Result<u8> {
    let Some((program, arguments)) = command.split_first() else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    // Keys at the terminal are meant for the program, which then ends the child in order. `setsid` fails only for a
    // process that leads a group already.
    let _ = setsid();
    // An error leaves this process without what only some systems give.
    let _ = system::adopt();
    let _ = system::continue_without_parent();
    let _ = system::allow_huge_pages();
    let asked = Asked::new()?;
    let child = Command::new(program)
        .args(arguments)
        .process_group(0)
        .spawn()?;
    let child = Pid::from_child(&child);
    // The program sees the end of the child's output only if nobody else holds it.
    rustix::stdio::dup2_stdout(File::open("/dev/null")?)?;
    std::thread::Builder::new()
        .name("end".to_owned())
        .spawn(move || asked.end_in_time(child, grace))?;
    let code = wait_for(child)?;
    kill_the_rest();
    Ok(code)
}

/// Signals that ask for the child's end, each kind readable once one has come.
struct Asked {
    terminate: UnixStream,
    kill: UnixStream,
}

impl Asked {
    fn new() -> io::Result<Self> {
        let (terminate, tell) = UnixStream::pair()?;
        signal_hook::low_level::pipe::register(SIGUSR1, tell)?;
        let (kill, tell) = UnixStream::pair()?;
        for signal in [SIGTERM, SIGINT, SIGHUP] {
            signal_hook::low_level::pipe::register(signal, tell.try_clone()?)?;
        }
        Ok(Self { terminate, kill })
    }

    /// Waits until the program sends a signal and ends the child so, or is gone and the child has its grace. The child's end ends
    /// every wait, because then this process ends too.
    fn end_in_time(&self, child: Pid, grace: Grace) {
        let errors = io::stderr();
        // The program closes the child's input when it likes, and reads its errors for as long as it lives. No event is asked
        // for: `poll` always reports a pipe that nobody reads.
        let gone = || PollFd::new(&errors, PollFlags::empty());
        let terminate = || PollFd::new(&self.terminate, PollFlags::IN);
        let kill = || PollFd::new(&self.kill, PollFlags::IN);
        let [mut is_gone, is_asked, mut is_killed] = wait_on([gone(), terminate(), kill()], None);
        if is_gone && !is_asked && !is_killed {
            [_, is_killed] = wait_on([terminate(), kill()], Some(grace.before_terminate));
        }
        if !is_killed {
            // An error means that the group has ended by now.
            let _ = kill_process_group(child, Signal::TERM);
            if !is_gone {
                [is_gone, is_killed] = wait_on([gone(), kill()], None);
            }
            if is_gone && !is_killed {
                wait_on([kill()], Some(grace.before_kill));
            }
        }
        let _ = kill_process_group(child, Signal::KILL);
    }
}

/// Waits for the first event, or for `time`, and tells which descriptors have one.
fn wait_on<const N: usize>(mut fds: [PollFd<'_>; N], time: Option<Duration>) -> [bool; N] {
    let time = time.and_then(|time| Timespec::try_from(time).ok());
    // A signal that is handled here has written to a pipe, so that the next wait is short.
    while poll(&mut fds, time.as_ref()) == Err(Errno::INTR) {}
    fds.map(|fd| !fd.revents().is_empty())
}

/// Waits for the child, and reaps every orphan below this process too, as the first process of a system does.
fn wait_for(child: Pid) -> io::Result<u8> {
    loop {
        // The child's id names its group, and no other process gets it before the agent is reaped.
        retry(|| waitid(WaitId::All, WaitIdOptions::EXITED | WaitIdOptions::NOWAIT))?;
        let over = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT | WaitIdOptions::NOHANG;
        if retry(|| waitid(WaitId::Pid(child), over))?.is_some() {
            let _ = kill_process_group(child, Signal::KILL);
        }
        if let Some((pid, status)) = retry(|| wait(WaitOptions::NOHANG))?
            && pid == child
        {
            let _ = kill_process_group(child, Signal::KILL);
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

/// Returns the children of this process; none on a system that does not tell them.
fn children() -> Vec<Pid> {
    let own = getpid().as_raw_nonzero().get();
    let processes = system::processes().into_iter();
    processes
        .filter(|process| process.parent == own)
        .filter_map(|process| Pid::from_raw(process.id))
        .collect()
}
