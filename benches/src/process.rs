//! Starting the processes of the comparison, keeping each on its core, and reading what the
//! kernel knows about them.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsFd;
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::process::{Resource, getrlimit, setrlimit};
use rustix::thread::{CpuSet, sched_setaffinity};

use crate::Error;
use crate::poll::{Interest, Poll};

/// The token under which [`Control`] registers standard input.
pub const STDIN: usize = usize::MAX;

/// Time that a process may take to report that it is ready.
const START: Duration = Duration::from_secs(10);

/// Prints the ready line that [`Process::spawn`] waits for.
///
/// # Errors
/// Fails when standard output is closed.
pub fn announce(addr: SocketAddr) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "ready {addr}")?;
    out.flush()
}

/// The orders a helper process gets through its standard input: its end is the order to leave, so
/// that no helper outlives the comparison.
#[derive(Debug)]
pub struct Control(());

/// Commands that came on standard input.
#[derive(Clone, Copy, Debug, Default)]
pub struct Heard {
    /// It ended: leave.
    pub ended: bool,
    /// Held streams may end.
    pub released: bool,
}

impl Control {
    /// Registers standard input under [`STDIN`].
    ///
    /// # Errors
    /// Fails when standard input is not a pipe, which epoll cannot watch.
    pub fn new(poll: &Poll) -> io::Result<Self> {
        poll.add(rustix::stdio::stdin(), STDIN, Interest::READ)?;
        Ok(Self(()))
    }

    /// Reads the orders that are there.
    ///
    /// # Errors
    /// The operating system's.
    pub fn read(&mut self) -> io::Result<Heard> {
        let mut bytes = [0_u8; 64];
        let n = rustix::io::read(rustix::stdio::stdin(), &mut bytes)?;
        Ok(Heard {
            ended: n == 0,
            released: n > 0,
        })
    }
}

/// Raises the limit of open files as far as it goes.
///
/// # Errors
/// Fails when that is less than `count`.
pub fn need_open_files(count: u64) -> Result<(), Error> {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit)?;
    match limit.current {
        Some(files) if files < count => {
            Err(format!("{files} open files are too few, this needs {count}").into())
        }
        _ => Ok(()),
    }
}

/// Keeps this thread, and what it starts from now on, on one core. Without a second core to put
/// the others on there is nothing to keep apart, and it does nothing.
///
/// # Errors
/// The operating system's.
pub fn pin(core: usize) -> io::Result<()> {
    static CORES: OnceLock<usize> = OnceLock::new();
    // Asked once: after the first call this thread sees only the core it is on.
    if *CORES.get_or_init(|| std::thread::available_parallelism().map_or(1, usize::from)) < 2 {
        return Ok(());
    }
    let mut set = CpuSet::new();
    set.set(core);
    sched_setaffinity(None, &set)?;
    Ok(())
}

/// CPU time of a process, as the kernel tells it in two ways.
#[derive(Clone, Copy, Debug)]
pub struct Cpu {
    /// Of the threads that run now, to the nanosecond.
    threads: Duration,
    /// Of all threads, those that have ended too, in ticks of 10 ms.
    all: Duration,
}

impl Cpu {
    /// CPU time from `before` to this. Where threads have ended meanwhile, the exact figure misses them: when the coarse one
    /// is larger by more than its rounding, it is taken.
    #[must_use]
    pub fn since(self, before: Self) -> Duration {
        let threads = self.threads.saturating_sub(before.threads);
        let all = self.all.saturating_sub(before.all);
        if all > threads + Duration::from_millis(40) {
            all
        } else {
            threads
        }
    }
}

/// A process under measurement. It is killed when this is dropped.
#[derive(Debug)]
pub struct Process {
    child: Child,
    stdin: Option<ChildStdin>,
    /// Address at which it listens, from its ready line.
    pub addr: SocketAddr,
    /// From before the start to the ready line.
    pub start: Duration,
}

impl Process {
    /// Starts `command` on `core` and waits for its ready line: `ready ADDR` or
    /// `ready http://ADDR`. Its standard error goes to the file `log`.
    ///
    /// # Errors
    /// Fails when it cannot be started, ends, or is not ready within ten seconds; with its log.
    pub fn spawn(command: &mut Command, core: usize, log: &Path) -> Result<Self, Error> {
        let name = command.get_program().to_string_lossy().into_owned();
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(std::fs::File::create(log)?);
        pin(core)?;
        let begin = Instant::now();
        let child = command.spawn();
        let mut child = child.map_err(|e| format!("cannot start {name}: {e}"))?;
        let stdin = child.stdin.take();
        let Some(mut stdout) = child.stdout.take() else {
            return Err("no standard output".into());
        };
        let found = ready_line(&mut stdout, begin);
        let start = begin.elapsed();
        pin(1)?;
        let addr = match found {
            Ok(addr) => addr,
            Err(e) => {
                let _ = child.kill();
                let _ = child.wait();
                let said = std::fs::read_to_string(log).unwrap_or_default();
                return Err(format!("{name} {e}\n{said}").into());
            }
        };
        std::thread::spawn(move || io::copy(&mut stdout, &mut io::sink()));
        Ok(Self {
            child,
            stdin,
            addr,
            start,
        })
    }

    /// Starts a `command` of somebody else's on `core`, and waits until it listens at `addr`. What it writes goes to the file `log`.
    ///
    /// # Errors
    /// Fails when it cannot be started, ends, or does not listen within ten seconds; with its log.
    pub fn listening(
        command: &mut Command,
        addr: SocketAddr,
        core: usize,
        log: &Path,
    ) -> Result<Self, Error> {
        let file = std::fs::File::create(log)?;
        command
            .stdin(Stdio::piped())
            .stdout(file.try_clone()?)
            .stderr(file);
        pin(core)?;
        let begin = Instant::now();
        let child = command.spawn();
        pin(1)?;
        let mut child = child?;
        let mut process = Self {
            stdin: child.stdin.take(),
            child,
            addr,
            start: Duration::ZERO,
        };
        while TcpStream::connect(addr).is_err() {
            let has_ended = process.child.try_wait()?.is_some();
            if has_ended || begin.elapsed() > START {
                let said = std::fs::read_to_string(log).unwrap_or_default();
                return Err(format!("nothing listens at {addr}\n{said}").into());
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        process.start = begin.elapsed();
        Ok(process)
    }

    /// Lets held streams end.
    ///
    /// # Errors
    /// Fails when the process is gone.
    pub fn release(&mut self) -> io::Result<()> {
        match &mut self.stdin {
            Some(stdin) => stdin.write_all(b"r"),
            None => Ok(()),
        }
    }

    /// CPU time of all its threads since its start.
    ///
    /// # Errors
    /// Fails when the process is gone.
    pub fn cpu(&self) -> Result<Cpu, Error> {
        let proc = format!("/proc/{}", self.child.id());
        let mut threads = Duration::ZERO;
        for task in std::fs::read_dir(format!("{proc}/task"))? {
            // A thread may end while the list is read.
            let Ok(text) = std::fs::read_to_string(task?.path().join("schedstat")) else {
                continue;
            };
            let nanos = text
                .split(' ')
                .next()
                .and_then(|n| n.parse().ok())
                .unwrap_or(0);
            threads += Duration::from_nanos(nanos);
        }
        let stat = std::fs::read_to_string(format!("{proc}/stat"))?;
        let fields = stat
            .rsplit(')')
            .next()
            .unwrap_or_default()
            .split_whitespace();
        let ticks: u64 = fields
            .skip(11)
            .take(2)
            .filter_map(|n| n.parse::<u64>().ok())
            .sum();
        Ok(Cpu {
            threads,
            all: Duration::from_millis(ticks * 10),
        })
    }

    /// Resident memory in KiB.
    ///
    /// # Errors
    /// Fails when the process is gone.
    pub fn resident_kib(&self) -> Result<u64, Error> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let value = status
            .lines()
            .find_map(|line| line.strip_prefix("VmRSS:"))
            .and_then(|rest| rest.split_whitespace().next())
            .ok_or("no VmRSS in /proc")?;
        Ok(value.parse()?)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Reads until the ready line.
fn ready_line(stdout: &mut ChildStdout, begin: Instant) -> Result<SocketAddr, Error> {
    let mut text = String::new();
    let mut buffer = [0_u8; 4096];
    loop {
        let left = START
            .checked_sub(begin.elapsed())
            .ok_or("was not ready within 10 s")?;
        let left = Timespec {
            tv_sec: left.as_secs().cast_signed(),
            tv_nsec: left.subsec_nanos().into(),
        };
        let fd = stdout.as_fd();
        if rustix::event::poll(&mut [PollFd::new(&fd, PollFlags::IN)], Some(&left))? == 0 {
            continue;
        }
        let n = stdout.read(&mut buffer)?;
        if n == 0 {
            return Err("ended before it was ready".into());
        }
        text.push_str(&String::from_utf8_lossy(
            buffer.get(..n).unwrap_or_default(),
        ));
        let whole = text
            .rfind('\n')
            .and_then(|end| text.get(..end))
            .unwrap_or_default();
        if let Some(line) = whole.lines().find_map(|line| line.strip_prefix("ready ")) {
            let first = line.split_whitespace().next().unwrap_or_default();
            let addr = first.trim_start_matches("http://").trim_end_matches('/');
            return Ok(addr.parse()?);
        }
    }
}
