//! One agent process: its lines in, its lines out, and its end.
//!
//! Nothing here waits for the agent: [`Process::turn`] waits for whatever happens first to any of its pipes, to the
//! process itself or to the [`Bell`], so that one thread serves an agent that hangs, floods or does not read.

use super::supervisor::{EXIT_SIGNAL, GRACE};
use mcp_local_provider_core::agents::acp::{Line, Lines};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::io::Errno;
use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use std::ffi::OsString;
use std::fmt;
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::task::Wake;
use std::time::{Duration, Instant};

/// Bytes that are read at once.
const SCRATCH: usize = 64 << 10;
/// What is kept of a line of standard error, in characters.
const COMPLAINT: usize = 300;
/// The longest line of standard error that is looked at, in bytes.
const COMPLAINT_BYTES: usize = 16 << 10;
/// How long an agent that has closed its output has to end on its own, so that its exit code is known.
const LAST_WORDS: Duration = Duration::from_millis(200);
/// How often an ended process is read from at most; a pipe holds less.
const LAST_READS: usize = 64;
/// How long a supervisor has for its part of the work, beyond the agent's grace.
const MARGIN: Duration = Duration::from_secs(3);
/// Where the system does not tell when a process has ended, it is asked this often.
#[cfg(not(target_os = "linux"))]
const ASK: Duration = Duration::from_millis(50);

/// What to start, and how.
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
    /// Where it works.
    pub working_directory: PathBuf,
    /// A [`PrivateDirectory`](super::PrivateDirectory) that the supervisor removes when it was this program, or its end,
    /// that ended the agent. [`PrivateDirectory::make`](super::PrivateDirectory::make) makes it again.
    pub private_directory: Option<PathBuf>,
    /// The program that has the command `agent-process` (see [`supervisor`](super::supervisor)). Without it the agent is
    /// a plain child with a process group of its own: it is ended in the same order, but it outlives this program if
    /// that is killed by SIGKILL and the agent does not mind that its standard input ends.
    pub supervisor: Option<PathBuf>,
    /// The length of the longest line that is taken from it, in bytes.
    pub line_bytes: usize,
}

/// Wakes the thread that waits in [`Process::turn`], from anywhere.
#[derive(Debug)]
pub struct Bell {
    ring: UnixStream,
    heard: UnixStream,
}

impl Bell {
    /// A bell that nobody has rung.
    ///
    /// # Errors
    /// When the system has no more files to give.
    pub fn new() -> io::Result<Arc<Self>> {
        let (ring, heard) = UnixStream::pair()?;
        ring.set_nonblocking(true)?;
        heard.set_nonblocking(true)?;
        Ok(Arc::new(Self { ring, heard }))
    }

    /// Ends the wait that is under way, or the next one.
    pub fn ring(&self) {
        // When it is full it has been rung often enough.
        let _ = (&self.ring).write(&[1]);
    }

    /// Waits until it is rung or `until` has come.
    pub fn wait(&self, until: Option<Instant>) {
        let mut heard = [PollFd::new(&self.heard, PollFlags::IN)];
        let timeout = until.map(|until| until.saturating_duration_since(Instant::now()));
        let timeout = timeout.and_then(|timeout| Timespec::try_from(timeout).ok());
        // A wait that ends early is allowed.
        let _ = poll(&mut heard, timeout.as_ref());
        self.silence();
    }

    fn silence(&self) {
        let mut bytes = [0; 64];
        while matches!((&self.heard).read(&mut bytes), Ok(64)) {}
    }
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.ring();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.ring();
    }
}

/// What happened to a process.
#[derive(Debug, PartialEq, Eq)]
pub enum Event<'p> {
    /// It wrote a line.
    Line(Line<'p>),
    /// It can answer no more: it has ended, or will in a moment. The last event, and it comes once.
    Ended(Ending),
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// On its own or on ours, with this exit code.
    Code(u8),
    /// By this signal.
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
        use std::os::unix::process::ExitStatusExt;
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
    /// What waits to be written, from `written` on.
    waiting: Vec<u8>,
    written: usize,
    closing: bool,
    output: Option<ChildStdout>,
    lines: Lines,
    errors: Option<ChildStderr>,
    error_lines: Lines,
    complaint: String,
    scratch: Box<[u8]>,
    /// When it is killed.
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
    /// Starts it.
    ///
    /// # Errors
    /// When the system cannot start it.
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
        let (input, output, errors) =
            (child.stdin.take(), child.stdout.take(), child.stderr.take());
        for pipe in [
            input.as_ref().map(AsFd::as_fd),
            output.as_ref().map(AsFd::as_fd),
            errors.as_ref().map(AsFd::as_fd),
        ] {
            let pipe = pipe.ok_or(ErrorKind::BrokenPipe)?;
            // The other end of a pipe keeps its own mode.
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
            waiting: Vec::new(),
            written: 0,
            closing: false,
            output,
            lines: Lines::new(launch.line_bytes),
            errors,
            error_lines: Lines::new(COMPLAINT_BYTES),
            complaint: String::new(),
            scratch: vec![0; SCRATCH].into_boxed_slice(),
            kill_at: None,
            killed: false,
            ended: false,
        })
    }

    /// Where lines for it are appended, each with its end. [`Process::turn`] writes them.
    pub fn waiting(&mut self) -> &mut Vec<u8> {
        if self.input.is_none() || self.closing {
            // Nobody reads it any more.
            self.waiting.clear();
            self.written = 0;
        }
        &mut self.waiting
    }

    /// Bytes that wait to be written.
    #[must_use]
    pub fn waiting_bytes(&self) -> usize {
        self.waiting.len() - self.written
    }

    /// The last line that it wrote to standard error, cut and without control characters; empty when there was none.
    ///
    /// It may quote a prompt if it has seen any, so it is for what happened before that.
    #[must_use]
    pub fn complaint(&self) -> &str {
        &self.complaint
    }

    /// Asks it to end: what waits is written, then its standard input is closed. After [`GRACE`] it is killed.
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

    /// Kills it and all that it started.
    pub fn kill(&mut self) {
        self.input = None;
        if self.ended || self.killed {
            return;
        }
        self.killed = true;
        // That it has ended already is what was wanted.
        let _ = if self.supervised {
            kill_process(self.pid, Signal::TERM)
        } else {
            kill_process_group(self.pid, Signal::KILL)
        };
    }

    fn kill_at(&mut self, at: Instant) {
        self.kill_at = Some(self.kill_at.map_or(at, |before| before.min(at)));
    }

    /// Waits until something happens, `until` has come or `bell` was rung, and tells `on` what happened. What waits is
    /// written as far as it can be. After [`Event::Ended`] nothing happens any more.
    ///
    /// # Errors
    /// Those of the wait itself, which no agent can cause.
    pub fn turn(
        &mut self,
        bell: &Bell,
        until: Option<Instant>,
        mut on: impl FnMut(Event<'_>),
    ) -> io::Result<()> {
        self.write();
        let until = [until, self.kill_at].into_iter().flatten().min();
        let ready = self.wait(bell, until)?;
        if ready.bell {
            bell.silence();
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
                // Those that it leaves behind.
                let _ = kill_process_group(self.pid, Signal::KILL);
            }
            // What it wrote before its end is still in the pipes.
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

    fn wait(&self, bell: &Bell, until: Option<Instant>) -> io::Result<Ready> {
        // Those that are not there stand for the bell, and their readiness is not looked at.
        let mut fds: [PollFd<'_>; 5] =
            std::array::from_fn(|_| PollFd::new(&bell.heard, PollFlags::IN));
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
        let [rung, output, errors, _, exit] = fds.map(|fd| !fd.revents().is_empty());
        Ok(Ready {
            bell: rung,
            output: output && self.output.is_some(),
            errors: errors && self.errors.is_some(),
            exit: !self.ended && (exit || cfg!(not(target_os = "linux"))),
        })
    }

    /// Reads once. False when there is no more for now.
    fn read_output(&mut self, on: &mut impl FnMut(Event<'_>)) -> bool {
        let Some(output) = &mut self.output else {
            return false;
        };
        match output.read(&mut self.scratch) {
            Ok(0) => {
                self.output = None;
                // Either it ends now, or it lives on and is of no use.
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
        let (name, complaint) = (&self.name, &mut self.complaint);
        self.error_lines.push(bytes, |line| {
            let Line::Whole(line) = line else { return };
            let text = printable(line);
            if !text.is_empty() {
                // At this level alone, because an agent may quote what it was asked.
                tracing::debug!(agent = name, "{text}");
                *complaint = text;
            }
        });
    }

    /// Writes what can be written, and closes the input when that was asked for and nothing waits.
    fn write(&mut self) {
        while let Some(input) = &mut self.input {
            let rest = self.waiting.get(self.written..).unwrap_or_default();
            if rest.is_empty() {
                self.waiting.clear();
                self.written = 0;
                if self.closing {
                    self.input = None;
                }
                return;
            }
            match input.write(rest) {
                Ok(count) => self.written += count,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    // What was written is given up once it is most of it.
                    if self.written > self.waiting.len() / 2 {
                        self.waiting.drain(..self.written);
                        self.written = 0;
                    }
                    return;
                }
                // Nobody reads any more: it is ending, which another event tells.
                Err(_) => self.input = None,
            }
        }
        self.waiting.clear();
        self.written = 0;
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
        if !self.ended || !matches!(self.child.try_wait(), Ok(Some(_))) {
            // Killed, it ends whatever it does, and a supervisor ends right after.
            let _ = self.child.wait();
        }
    }
}

#[derive(Default)]
struct Ready {
    bell: bool,
    output: bool,
    errors: bool,
    exit: bool,
}

/// Text of an agent as one line that can neither be long nor paint over others.
fn printable(line: &[u8]) -> String {
    let text = String::from_utf8_lossy(line);
    let text = text.trim().chars().take(COMPLAINT);
    text.map(|c| if c.is_control() { ' ' } else { c }).collect()
}
