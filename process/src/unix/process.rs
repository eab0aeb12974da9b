//! One child process: lines to it, lines from it, and its end.
//!
//! Nothing here waits for the child alone. [`Process::turn`] waits for the first event on any of the pipes, on the
//! process itself or on the [`ProcessWaker`], so that one thread serves a child that hangs, floods or does not read.

use super::orphans::{self, KnownChild};
use super::pipes::{Errors, Input, Outcome, Output, Scratch};
use super::supervisor::{EXIT_SIGNAL, TERMINATE};
use super::system::{self, Exit};
use super::{ProcessWaker, tree};
use crate::{COMMAND, Ending, Event, LastWords, Launch};
use mcp_local_provider_core::budget::Budget;
use mcp_local_provider_core::process::Load;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Signal, kill_process, kill_process_group};
use std::fmt;
use std::io;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

/// Time from the end of a child's output until it is killed, so that its exit code is known if it ends by itself.
const LAST_WORDS: Duration = Duration::from_millis(200);
/// Reads from the output of an ended process, at most; a pipe holds less.
const LAST_READS: usize = 64;
/// Time that a supervisor has to kill its child after SIGTERM.
const KILLING: Duration = Duration::from_secs(1);

impl From<ExitStatus> for Ending {
    fn from(status: ExitStatus) -> Self {
        if let Some(signal) = status.signal() {
            return Self::Signal(signal);
        }
        let code = status.code().and_then(|code| u8::try_from(code).ok());
        match code.unwrap_or(u8::MAX) {
            code if code > EXIT_SIGNAL && code < EXIT_SIGNAL + 65 => {
                Self::Signal(i32::from(code - EXIT_SIGNAL))
            }
            code => Self::Code(code),
        }
    }
}

/// A running child process. Dropping it kills it and all that it started, and waits until that is done.
pub struct Process {
    name: String,
    child: KnownChild,
    exit: Exit,
    supervised: bool,
    input: Input,
    output: Output,
    errors: Errors,
    scratch: Scratch,
    /// The measurement that is under way.
    measurement: Option<mpsc::Receiver<Option<Load>>>,
    /// The moment at which it is given up: its output has ended, or its supervisor does not kill it.
    give_up_at: Option<Instant>,
    killed: bool,
    ended: bool,
}

impl fmt::Debug for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Process({}, {})", self.name, self.id())
    }
}

impl Process {
    /// Starts the process.
    ///
    /// # Errors
    /// Fails when the system cannot start it.
    pub fn start(launch: &Launch) -> io::Result<Self> {
        let mut command = match &launch.supervisor {
            Some(supervisor) => {
                let mut command = Command::new(supervisor);
                command.arg(COMMAND).args(launch.supervision.arguments());
                command.arg("--").arg(&launch.program);
                command
            }
            None => {
                let mut command = Command::new(&launch.program);
                command.process_group(0);
                command
            }
        };
        command
            .args(&launch.arguments)
            .env_clear()
            .envs(launch.environment.iter().map(|(name, value)| (name, value)))
            .current_dir(&launch.working_directory)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = KnownChild::start(&mut command)?;
        let pipes = child.process();
        let (input, output, errors) =
            (pipes.stdin.take(), pipes.stdout.take(), pipes.stderr.take());
        let share = || launch.budget.as_ref().map(Budget::share);
        Ok(Self {
            name: launch.name.clone(),
            exit: Exit::of(child.id())?,
            child,
            supervised: launch.supervisor.is_some(),
            input: Input::new(input, launch.input_bytes, share())?,
            output: Output::new(output, launch.output, share())?,
            errors: Errors::new(errors)?,
            scratch: Scratch::new(),
            measurement: None,
            give_up_at: None,
            killed: false,
            ended: false,
        })
    }

    /// Returns the process's id: that of its supervisor where it has one.
    #[must_use]
    pub fn id(&self) -> i32 {
        self.child.id().as_raw_nonzero().get()
    }

    /// Queues a line for the child, with its line end; [`Process::turn`] writes it. Returns false when
    /// [`Launch::input_bytes`] wait already, and does not take the line then. A child that reads no more takes every line.
    #[must_use]
    pub fn push_line(&mut self, line: &[u8]) -> bool {
        self.input.push(line)
    }

    /// Returns true when [`Process::push_line`] takes a line.
    #[must_use]
    pub fn has_room(&self) -> bool {
        self.input.has_room()
    }

    /// Returns the number of bytes that wait to be written.
    #[must_use]
    pub fn waiting_bytes(&self) -> usize {
        self.input.waiting_bytes()
    }

    /// Returns the line that the child has begun to print and not ended, shortened and without control characters; empty
    /// when there is none.
    #[must_use]
    pub fn begun_line(&self) -> String {
        self.output.begun_line()
    }

    /// Tells what a child has written beside whole lines of its output, as a sequel to a sentence. It may quote what the child was
    /// sent.
    #[must_use]
    pub fn first_words(&self) -> String {
        let mut told = String::new();
        for (place, words) in [
            ("; it has begun the line", self.begun_line()),
            ("; on its standard error:", self.last_words().told()),
        ] {
            if !words.is_empty() {
                told.push_str(&format!("{place} {words}"));
            }
        }
        told
    }

    /// The last lines that the child wrote to standard error, shortened and without control characters.
    #[must_use]
    pub fn last_words(&self) -> &LastWords {
        self.errors.last_words()
    }

    /// Takes the lines of standard error of the latest turn. They may quote what the child was sent.
    pub fn take_error_lines(&mut self) -> Vec<String> {
        self.errors.take_fresh()
    }

    /// Begins to measure the child and all that it has started, on a thread of its own: for some processes that takes longer than
    /// a client may wait. `waker` is called when [`Process::take_load`] has the result.
    pub fn measure(&mut self, waker: &Arc<ProcessWaker>) {
        let (send, receive) = mpsc::sync_channel(1);
        let (pid, supervised, waker) = (self.child.id(), self.supervised, waker.clone());
        let thread = std::thread::Builder::new().name("measure".to_owned());
        let begun = thread.spawn(move || {
            // Nobody listens once the process has ended.
            let _ = send.send(tree::load(pid, supervised));
            ProcessWaker::wake(&waker);
        });
        // Without a thread the next measurement comes later.
        self.measurement = begun.ok().map(|_| receive);
    }

    /// Takes the measurement that has come; `None` until then, and where the system tells nothing.
    pub fn take_load(&mut self) -> Option<Load> {
        let load = self.measurement.as_ref()?.try_recv().ok()?;
        self.measurement = None;
        load
    }

    /// Asks the child to end: waiting bytes are written, then its standard input is closed. One that does not end is ended by
    /// [`Process::terminate`] and [`Process::kill`] alone, in the time that
    /// [`Life`](mcp_local_provider_core::process::Life) gives it.
    pub fn close_input(&mut self) {
        self.input.close();
    }

    /// Closes the child's standard input and sends SIGTERM to its process group, unless its supervisor has done so.
    pub fn terminate(&mut self) {
        self.input.cut();
        if self.ended || self.killed {
            return;
        }
        if self.supervised {
            self.tell_supervisor(TERMINATE);
        } else {
            // An error means that it has ended already.
            let _ = kill_process_group(self.child.id(), Signal::TERM);
        }
    }

    /// Kills the child and all that it started.
    pub fn kill(&mut self) {
        self.input.cut();
        if self.ended || self.killed {
            return;
        }
        self.killed = true;
        if self.supervised {
            self.give_up_at = Some(Instant::now() + KILLING);
            self.tell_supervisor(Signal::TERM);
        } else {
            self.give_up_at = None;
            // An error means that it has ended already.
            let _ = kill_process_group(self.child.id(), Signal::KILL);
        }
    }

    fn tell_supervisor(&self, signal: Signal) {
        // The child may have stopped it. An error means that it has ended already.
        for signal in [signal, Signal::CONT] {
            let _ = kill_process(self.child.id(), signal);
        }
    }

    /// Waits until something happens, `until` has come or `waker` was called, writes waiting bytes as far as the pipe
    /// takes them, and passes each event to `on`. After [`Event::Ended`] no event follows.
    ///
    /// # Errors
    /// Returns the errors of `poll(2)` and `waitpid(2)` themselves, which no child can cause.
    pub fn turn(
        &mut self,
        waker: &ProcessWaker,
        until: Option<Instant>,
        mut on: impl FnMut(Event<'_>),
    ) -> io::Result<()> {
        // Nobody wanted those of the turn before.
        drop(self.errors.take_fresh());
        self.input.write();
        let until = [until, self.give_up_at].into_iter().flatten().min();
        let ready = self.wait(waker, until)?;
        if ready.woken {
            waker.clear();
        }
        if ready.errors {
            self.errors.read(&mut self.scratch);
        }
        if ready.output {
            self.read_output(&mut on);
        }
        self.input.write();
        if self.give_up_at.is_some_and(|at| at <= Instant::now()) {
            self.give_up_at = None;
            if self.killed {
                // The supervisor had its time after SIGTERM, so it is stopped.
                self.kill_session();
            } else {
                self.kill();
                self.end(Ending::OutputClosed, &mut on);
            }
            return Ok(());
        }
        if ready.exit
            && let Some(status) = self.child.process().try_wait()?
        {
            if !self.supervised {
                // Ends the processes that the child left behind in its group.
                let _ = kill_process_group(self.child.id(), Signal::KILL);
            }
            // Output from before its end is still in the pipes.
            for _ in 0..LAST_READS {
                if self.read_output(&mut on) != Outcome::More {
                    break;
                }
            }
            self.errors.read(&mut self.scratch);
            self.end(status.into(), &mut on);
        }
        Ok(())
    }

    fn end(&mut self, ending: Ending, on: &mut impl FnMut(Event<'_>)) {
        if !std::mem::replace(&mut self.ended, true) {
            self.give_up_at = None;
            self.input.cut();
            on(Event::Ended(ending));
        }
    }

    fn wait(&self, waker: &ProcessWaker, until: Option<Instant>) -> io::Result<Ready> {
        // Places without a file descriptor of their own hold the waker's, and their readiness is ignored.
        let mut fds: [PollFd<'_>; 5] =
            std::array::from_fn(|_| PollFd::from_borrowed_fd(waker.descriptor(), PollFlags::IN));
        let exit = self.exit.descriptor().filter(|_| !self.ended);
        let there = [
            (self.output.descriptor(), PollFlags::IN),
            (self.errors.descriptor(), PollFlags::IN),
            (self.input.descriptor(), PollFlags::OUT),
            (exit, PollFlags::IN),
        ];
        let [_, others @ ..] = &mut fds;
        for (poll_fd, (fd, flags)) in others.iter_mut().zip(there) {
            if let Some(fd) = fd {
                *poll_fd = PollFd::from_borrowed_fd(fd, flags);
            }
        }
        let timeout = until.map(|until| until.saturating_duration_since(Instant::now()));
        let timeout = [timeout, system::ASK].into_iter().flatten().min();
        let timeout = timeout.and_then(|timeout| Timespec::try_from(timeout).ok());
        match poll(&mut fds, timeout.as_ref()) {
            Ok(_) => {}
            Err(Errno::INTR) => return Ok(Ready::default()),
            Err(error) => return Err(error.into()),
        }
        let [woken, output, errors, _, exit] = fds.map(|fd| !fd.revents().is_empty());
        Ok(Ready {
            woken,
            output: output && self.output.descriptor().is_some(),
            errors: errors && self.errors.descriptor().is_some(),
            exit: !self.ended && (exit || system::ASK.is_some()),
        })
    }

    /// Reads once.
    fn read_output(&mut self, on: &mut impl FnMut(Event<'_>)) -> Outcome {
        let read = self.output.read(&mut self.scratch, &mut *on);
        if read == Outcome::Closed && !self.killed {
            // The child ends now, or it lives on without output and is of no use.
            self.give_up_at = Some(Instant::now() + LAST_WORDS);
        }
        read
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
        if self.supervised {
            self.end_supervised();
        }
        if !matches!(self.child.process().try_wait(), Ok(Some(_))) {
            // SIGKILL cannot be ignored, so this wait ends.
            let _ = self.child.process().wait();
        }
    }
}

impl Process {
    /// Makes sure that child and supervisor are gone, even when the child has stopped or killed its supervisor.
    fn end_supervised(&mut self) {
        let by_signal = |status: ExitStatus| status.signal().is_some();
        let process = self.child.process();
        let ended = match process.try_wait() {
            Ok(None) if self.exit.comes_within(KILLING, process) => process.try_wait(),
            ended => ended,
        };
        // A supervisor that exits by itself has reaped its child; one that a signal ended has not.
        if !matches!(ended, Ok(Some(status)) if !by_signal(status)) {
            self.kill_session();
        }
    }

    fn kill_session(&mut self) {
        orphans::kill_session(self.child.id());
        // Where the system does not tell its processes, the supervisor ends at least. An error means that it has ended already.
        let _ = self.child.process().kill();
    }
}

#[derive(Default)]
struct Ready {
    woken: bool,
    output: bool,
    errors: bool,
    exit: bool,
}
