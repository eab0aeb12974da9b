//! One agent process: lines to it, lines from it, and its end.
//!
//! Nothing here waits for the agent alone. [`Process::turn`] waits for the first event on any of the pipes, on the
//! process itself or on the [`ProcessWaker`], so that one thread serves an agent that hangs, floods or does not read.

use super::last_words::LastWords;
use super::orphans;
use super::process_tree;
use super::supervisor::{EXIT_SIGNAL, GRACE};
use bytes::{Buf, BytesMut};
use mcp_local_provider_core::agents::acp::Load;
use mcp_local_provider_core::rpc::{Line, Lines};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::io::Errno;
use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use std::ffi::OsString;
use std::fmt;
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::PathBuf;
use std::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::{Arc, mpsc};
use std::task::Wake;
use std::time::{Duration, Instant};

/// Bytes that one read takes at most.
const SCRATCH: usize = 64 << 10;
/// Characters that are kept of a line of standard error.
const COMPLAINT: usize = 300;
/// Longest line of standard error that is read, in bytes; longer lines are skipped.
const COMPLAINT_BYTES: usize = 16 << 10;
/// Time from the end of an agent's output until it is killed, so that its exit code is known if it ends by itself.
const LAST_WORDS: Duration = Duration::from_millis(200);
/// Reads from the output of an ended process, at most; a pipe holds less.
const LAST_READS: usize = 64;
/// Time that a supervisor has for its own work, beyond the agent's grace.
const MARGIN: Duration = Duration::from_secs(3);
/// Time that a supervisor has to kill its agent after SIGTERM.
const KILLING: Duration = Duration::from_secs(1);
/// Interval of asking for the end of the process, on systems without pidfds.
#[cfg(not(target_os = "linux"))]
const ASK: Duration = Duration::from_millis(50);

/// Command, environment and limits of a process to start.
#[derive(Debug, Clone)]
pub struct Launch {
    /// The agent's name, for the log.
    pub name: String,
    /// The program, as an absolute path.
    pub program: PathBuf,
    /// Its arguments.
    pub arguments: Vec<OsString>,
    /// Its whole environment.
    pub environment: Vec<(OsString, OsString)>,
    /// Its working directory.
    pub working_directory: PathBuf,
    /// A [`PrivateDirectory`](super::PrivateDirectory) that the supervisor removes when this program ended the agent,
    /// or ended itself. [`PrivateDirectory::make`](super::PrivateDirectory::make) makes it again.
    pub private_directory: Option<PathBuf>,
    /// The program that has the command `agent-process` (see [`supervisor`](super::supervisor)). Without it the agent
    /// is a plain child with a process group of its own: it is ended in the same order, but it outlives this program
    /// when SIGKILL ends the program and the agent ignores the end of its standard input.
    pub supervisor: Option<PathBuf>,
    /// Length of the longest line that is taken from it, in bytes.
    pub line_bytes: usize,
}

/// Wakes the thread that waits in [`Process::turn`] or [`ProcessWaker::wait`]; usable from any thread.
#[derive(Debug)]
pub struct ProcessWaker {
    writer: UnixStream,
    reader: UnixStream,
}

impl ProcessWaker {
    /// Makes a waker that nobody has called yet.
    ///
    /// # Errors
    /// Fails when the process may open no more files.
    pub fn new() -> io::Result<Arc<Self>> {
        let (writer, reader) = UnixStream::pair()?;
        writer.set_nonblocking(true)?;
        reader.set_nonblocking(true)?;
        Ok(Arc::new(Self { writer, reader }))
    }

    /// Ends the wait that is under way, or the next one.
    pub fn wake(&self) {
        // A full buffer wakes the thread already.
        let _ = (&self.writer).write(&[1]);
    }

    /// Waits until [`ProcessWaker::wake`] is called or `until` has come; may return early.
    pub fn wait(&self, until: Option<Instant>) {
        let mut readable = [PollFd::new(&self.reader, PollFlags::IN)];
        let timeout = until.map(|until| until.saturating_duration_since(Instant::now()));
        let timeout = timeout.and_then(|timeout| Timespec::try_from(timeout).ok());
        // A signal may end the wait early, which the contract allows.
        let _ = poll(&mut readable, timeout.as_ref());
        self.clear();
    }

    fn clear(&self) {
        let mut bytes = [0; 64];
        while matches!((&self.reader).read(&mut bytes), Ok(64)) {}
    }
}

impl Wake for ProcessWaker {
    fn wake(self: Arc<Self>) {
        ProcessWaker::wake(&self);
    }

    fn wake_by_ref(self: &Arc<Self>) {
        ProcessWaker::wake(self);
    }
}

/// An event of a process.
#[derive(Debug, PartialEq, Eq)]
pub enum Event<'p> {
    /// It wrote a line.
    Line(Line<'p>),
    /// The process has ended or is being killed, and answers no more. The last event; it comes once.
    Ended(Ending),
}

/// The way in which a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// It exited with this code, by itself or because its input was closed.
    Code(u8),
    /// This signal ended it.
    Signal(i32),
    /// It closed its standard output without ending, and was killed.
    OutputClosed,
}

impl fmt::Display for Ending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Code(code) => write!(f, "it ended with exit code {code}"),
            Self::Signal(signal) => write!(f, "it was ended by signal {signal}"),
            Self::OutputClosed => f.write_str("it closed its standard output"),
        }
    }
}

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

/// A running agent process. Dropping it kills it and all that it started, and waits until that is done.
pub struct Process {
    name: String,
    child: Child,
    /// Readable once the child has ended.
    #[cfg(target_os = "linux")]
    pidfd: rustix::fd::OwnedFd,
    pid: Pid,
    supervised: bool,
    input: Option<ChildStdin>,
    /// Bytes to write.
    waiting: BytesMut,
    closing: bool,
    output: Option<ChildStdout>,
    lines: Lines,
    errors: Option<ChildStderr>,
    error_lines: Lines,
    last_words: LastWords,
    /// The lines of standard error that nobody has taken, of one turn at most.
    complaints: Vec<String>,
    scratch: Box<[u8]>,
    /// The measurement that is under way.
    measurement: Option<mpsc::Receiver<Option<Load>>>,
    /// The moment at which the process is killed.
    kill_at: Option<Instant>,
    killed: bool,
    ended: bool,
}

impl fmt::Debug for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Process({}, {})", self.name, self.pid.as_raw_nonzero())
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
                command.arg("agent-process");
                if let Some(directory) = &launch.private_directory {
                    command.arg("--remove").arg(directory);
                }
                command.arg("--").arg(&launch.program);
                command
            }
            None => {
                let mut command = Command::new(&launch.program);
                command.process_group(0);
                command
            }
        };
        let mut children = orphans::children();
        let mut child = command
            .args(&launch.arguments)
            .env_clear()
            .envs(launch.environment.iter().map(|(name, value)| (name, value)))
            .current_dir(&launch.working_directory)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
        let pid = pid.ok_or(ErrorKind::InvalidData)?;
        children.insert(pid.as_raw_nonzero().get());
        drop(children);
        let (input, output, errors) =
            (child.stdin.take(), child.stdout.take(), child.stderr.take());
        for pipe in [
            input.as_ref().map(AsFd::as_fd),
            output.as_ref().map(AsFd::as_fd),
            errors.as_ref().map(AsFd::as_fd),
        ] {
            let pipe = pipe.ok_or(ErrorKind::BrokenPipe)?;
            // The mode belongs to this end of the pipe; the agent's end stays blocking.
            fcntl_setfl(pipe, fcntl_getfl(pipe)? | OFlags::NONBLOCK)?;
        }
        Ok(Self {
            name: launch.name.clone(),
            #[cfg(target_os = "linux")]
            pidfd: rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty())?,
            child,
            pid,
            supervised: launch.supervisor.is_some(),
            input,
            waiting: BytesMut::new(),
            closing: false,
            output,
            lines: Lines::new(launch.line_bytes),
            errors,
            error_lines: Lines::new(COMPLAINT_BYTES),
            last_words: LastWords::default(),
            complaints: Vec::new(),
            scratch: vec![0; SCRATCH].into_boxed_slice(),
            measurement: None,
            kill_at: None,
            killed: false,
            ended: false,
        })
    }

    /// Returns the buffer for lines to the agent; append each with its line end. [`Process::turn`] writes them.
    pub fn waiting(&mut self) -> &mut BytesMut {
        if self.input.is_none() || self.closing {
            // The agent reads no more.
            self.waiting.clear();
        }
        &mut self.waiting
    }

    /// Returns the number of bytes that wait to be written.
    #[must_use]
    pub fn waiting_bytes(&self) -> usize {
        self.waiting.len()
    }

    /// Returns the line that the agent has begun to print and not ended, shortened and without control characters; empty
    /// when there is none.
    #[must_use]
    pub fn begun_line(&self) -> String {
        printable(self.lines.begun())
    }

    /// Tells what an agent has written beside whole lines of its output, as a sequel to a sentence. Nothing of it may be in
    /// a log once the agent has seen a prompt.
    #[must_use]
    pub fn first_words(&self) -> String {
        let mut told = String::new();
        for (place, words) in [
            ("; it has begun the line", self.begun_line()),
            ("; on its standard error:", self.last_words.told()),
        ] {
            if !words.is_empty() {
                told.push_str(&format!("{place} {words}"));
            }
        }
        told
    }

    /// The last lines that the agent wrote to standard error, shortened and without control characters.
    #[must_use]
    pub fn last_words(&self) -> &LastWords {
        &self.last_words
    }

    /// The lines of standard error of the turns since the last call. They may quote prompts, so they belong in no log.
    pub fn take_complaints(&mut self) -> Vec<String> {
        std::mem::take(&mut self.complaints)
    }

    /// Begins to measure the agent and all that it has started, on a thread of its own: for some processes that takes longer than
    /// a client's text may wait. `waker` is called when [`Process::take_load`] has the result.
    pub fn measure(&mut self, waker: &Arc<ProcessWaker>) {
        let (send, receive) = mpsc::sync_channel(1);
        let (pid, supervised, waker) = (self.pid, self.supervised, waker.clone());
        let thread = std::thread::Builder::new().name("measure".to_owned());
        let begun = thread.spawn(move || {
            // Nobody listens once the process has ended.
            let _ = send.send(process_tree::load(pid, supervised));
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

    /// Asks the agent to end: waiting bytes are written, then its standard input is closed. After
    /// [`GRACE`] it is killed, by its supervisor where there is one.
    pub fn close_input(&mut self, now: Instant) {
        if !self.closing {
            self.closing = true;
            self.kill_at(
                now + GRACE
                    + if self.supervised {
                        MARGIN
                    } else {
                        Duration::ZERO
                    },
            );
        }
    }

    /// Kills the agent and all that it started.
    pub fn kill(&mut self) {
        self.input = None;
        if self.ended || self.killed {
            return;
        }
        self.killed = true;
        // An error means that it has ended already.
        let _ = if self.supervised {
            self.kill_at = Some(Instant::now() + KILLING);
            kill_process(self.pid, Signal::TERM)
        } else {
            kill_process_group(self.pid, Signal::KILL)
        };
    }

    fn kill_at(&mut self, at: Instant) {
        self.kill_at = Some(self.kill_at.map_or(at, |before| before.min(at)));
    }

    /// Waits until something happens, `until` has come or `waker` was called, writes waiting bytes as far as the pipe
    /// takes them, and passes each event to `on`. After [`Event::Ended`] no event follows.
    ///
    /// # Errors
    /// Returns the errors of `poll(2)` and `waitpid(2)` themselves, which no agent can cause.
    pub fn turn(
        &mut self,
        waker: &ProcessWaker,
        until: Option<Instant>,
        mut on: impl FnMut(Event<'_>),
    ) -> io::Result<()> {
        self.write();
        let until = [until, self.kill_at].into_iter().flatten().min();
        let ready = self.wait(waker, until)?;
        if ready.woken {
            waker.clear();
        }
        if ready.errors {
            self.read_errors();
        }
        if ready.output {
            self.read_output(&mut on);
        }
        self.write();
        if self.kill_at.is_some_and(|at| at <= Instant::now()) {
            self.kill_at = None;
            if self.killed && self.supervised && !self.ended {
                // The supervisor had its time after SIGTERM, so it is stopped.
                orphans::kill_session(self.pid);
                return Ok(());
            }
            if self.output.is_none() && !self.ended {
                self.kill();
                self.end(Ending::OutputClosed, &mut on);
                return Ok(());
            }
            self.kill();
        }
        if ready.exit
            && let Some(status) = self.child.try_wait()?
        {
            if !self.supervised {
                // Ends the processes that the agent left behind in its group.
                let _ = kill_process_group(self.pid, Signal::KILL);
            }
            // Output from before its end is still in the pipes.
            for _ in 0..LAST_READS {
                if !self.read_output(&mut on) {
                    break;
                }
            }
            self.read_errors();
            self.end(status.into(), &mut on);
        }
        Ok(())
    }

    fn end(&mut self, ending: Ending, on: &mut impl FnMut(Event<'_>)) {
        if !std::mem::replace(&mut self.ended, true) {
            self.input = None;
            on(Event::Ended(ending));
        }
    }

    fn wait(&self, waker: &ProcessWaker, until: Option<Instant>) -> io::Result<Ready> {
        // Places without a file descriptor of their own hold the waker's, and their readiness is ignored.
        let mut fds: [PollFd<'_>; 5] =
            std::array::from_fn(|_| PollFd::new(&waker.reader, PollFlags::IN));
        let input = self.input.as_ref().filter(|_| self.waiting_bytes() > 0);
        #[cfg(target_os = "linux")]
        let pidfd = (!self.ended).then(|| self.pidfd.as_fd());
        #[cfg(not(target_os = "linux"))]
        let pidfd: Option<std::os::fd::BorrowedFd<'_>> = None;
        let there = [
            (self.output.as_ref().map(AsFd::as_fd), PollFlags::IN),
            (self.errors.as_ref().map(AsFd::as_fd), PollFlags::IN),
            (input.map(AsFd::as_fd), PollFlags::OUT),
            (pidfd, PollFlags::IN),
        ];
        let [_, others @ ..] = &mut fds;
        for (poll_fd, (fd, flags)) in others.iter_mut().zip(there) {
            if let Some(fd) = fd {
                *poll_fd = PollFd::from_borrowed_fd(fd, flags);
            }
        }
        let timeout = until.map(|until| until.saturating_duration_since(Instant::now()));
        #[cfg(not(target_os = "linux"))]
        let timeout = Some(timeout.map_or(ASK, |timeout| timeout.min(ASK)));
        let timeout = timeout.and_then(|timeout| Timespec::try_from(timeout).ok());
        match poll(&mut fds, timeout.as_ref()) {
            Ok(_) => {}
            Err(Errno::INTR) => return Ok(Ready::default()),
            Err(error) => return Err(error.into()),
        }
        let [woken, output, errors, _, exit] = fds.map(|fd| !fd.revents().is_empty());
        Ok(Ready {
            woken,
            output: output && self.output.is_some(),
            errors: errors && self.errors.is_some(),
            exit: !self.ended && (exit || cfg!(not(target_os = "linux"))),
        })
    }

    /// Reads once. Returns false when nothing more can be read now.
    fn read_output(&mut self, on: &mut impl FnMut(Event<'_>)) -> bool {
        let Some(output) = &mut self.output else {
            return false;
        };
        match output.read(&mut self.scratch) {
            Ok(0) => {
                self.output = None;
                // The agent ends now, or it lives on without output and is of no use.
                self.kill_at(Instant::now() + LAST_WORDS);
                false
            }
            Ok(read) => {
                let bytes = self.scratch.get(..read).unwrap_or_default();
                self.lines.push(bytes, |line| on(Event::Line(line)));
                true
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => true,
            Err(_) => false,
        }
    }

    fn read_errors(&mut self) {
        let Some(errors) = &mut self.errors else {
            return;
        };
        let read = match errors.read(&mut self.scratch) {
            Ok(0) => {
                self.errors = None;
                return;
            }
            Ok(read) => read,
            Err(_) => return,
        };
        let bytes = self.scratch.get(..read).unwrap_or_default();
        let (last_words, complaints) = (&mut self.last_words, &mut self.complaints);
        self.error_lines.push(bytes, |line| {
            let Line::Whole(line) = line else { return };
            let text = printable(line);
            if !text.is_empty() {
                last_words.push(text.clone());
                complaints.push(text);
            }
        });
    }

    /// Writes as much as the pipe takes, and closes it when that was asked for and nothing waits.
    fn write(&mut self) {
        while let Some(input) = &mut self.input {
            if self.waiting.is_empty() {
                if self.closing {
                    self.input = None;
                }
                return;
            }
            match input.write(&self.waiting) {
                Ok(count) => self.waiting.advance(count),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                // The agent reads no more. Its end is reported by another event.
                Err(_) => self.input = None,
            }
        }
        self.waiting.clear();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
        if self.supervised {
            self.end_supervised();
        }
        if !matches!(self.child.try_wait(), Ok(Some(_))) {
            // SIGKILL cannot be ignored, so this wait ends.
            let _ = self.child.wait();
        }
        orphans::children().remove(&self.pid.as_raw_nonzero().get());
    }
}

impl Process {
    /// Makes sure that agent and supervisor are gone, even when the agent has stopped or killed its supervisor.
    fn end_supervised(&mut self) {
        let by_signal = |status: ExitStatus| status.signal().is_some();
        let ended = match self.child.try_wait() {
            Ok(None) if self.ends_within(KILLING) => self.child.try_wait(),
            ended => ended,
        };
        // A supervisor that exits by itself has reaped its agent; one that a signal ended has not.
        if !matches!(ended, Ok(Some(status)) if !by_signal(status)) {
            orphans::kill_session(self.pid);
        }
    }

    /// Waits for the end of the child, and returns false after `patience`.
    #[cfg(target_os = "linux")]
    fn ends_within(&self, patience: Duration) -> bool {
        let until = Instant::now() + patience;
        let mut ended = [PollFd::new(&self.pidfd, PollFlags::IN)];
        loop {
            let left = until.saturating_duration_since(Instant::now());
            match poll(&mut ended, Timespec::try_from(left).ok().as_ref()) {
                Err(Errno::INTR) => {}
                ready => return matches!(ready, Ok(1..)),
            }
        }
    }

    /// Waits for the end of the child, and returns false after `patience`.
    #[cfg(not(target_os = "linux"))]
    fn ends_within(&mut self, patience: Duration) -> bool {
        let until = Instant::now() + patience;
        while matches!(self.child.try_wait(), Ok(None)) {
            if Instant::now() >= until {
                return false;
            }
            std::thread::sleep(ASK);
        }
        true
    }
}

#[derive(Default)]
struct Ready {
    woken: bool,
    output: bool,
    errors: bool,
    exit: bool,
}

/// Returns text of an agent as one line of limited length without control characters.
fn printable(line: &[u8]) -> String {
    let text = String::from_utf8_lossy(line);
    let text = text.trim().chars().take(COMPLAINT);
    text.map(|c| if c.is_control() { ' ' } else { c }).collect()
}
