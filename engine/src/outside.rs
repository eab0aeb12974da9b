//! The world outside of an engine: clocks, what the process uses, connections to other servers, and who polls background work.

use crate::background::Background;
use crate::pipe::{Endpoint, NeverOpen, Pipe};
use mcp_local_provider_core::api::status::DiskFigures;
use mcp_local_provider_core::time::Instant;
use rustix::time::{ClockId, clock_gettime};
use std::io;
use std::time::{self, Duration, SystemTime, UNIX_EPOCH};

/// Everything that an engine takes from outside. A driver gives the system's; a simulation gives its own, with virtual time.
pub trait Outside: Send + Sync {
    /// Monotonic time.
    fn now(&self) -> Instant;

    /// Time since 1970-01-01T00:00:00Z, as the calendar of the system has it now. It may step.
    fn unix(&self) -> Duration;

    /// Usage of the process. Reading it may take as long as there are open files.
    fn usage(&self) -> Usage {
        Usage::default()
    }

    /// Gives memory that is free back to the system. The housekeeper calls it after many connections have left, at most
    /// once a second; a host with an allocator that does this by itself does nothing here.
    fn give_back(&self) {
        mcp_local_provider_heap::give_back();
    }

    /// Opens a connection to a server. It returns at once: the pipe's calls are pending until the connection is open, and fail
    /// when it cannot be opened in the endpoint's time. The look-up of a name may take longer: who waits for the pipe keeps a
    /// deadline of its own. In a host that opens no connections every call fails.
    fn dial(&self, endpoint: &Endpoint) -> Box<dyn Pipe> {
        tracing::debug!(?endpoint, "this host opens no connections");
        Box::new(NeverOpen::new(io::ErrorKind::Unsupported))
    }

    /// Polls `work` from now on, on a task or thread of its own, until it has ended or the engine has stopped. A host that has
    /// none drops it.
    fn spawn(&self, work: Box<dyn Background>) {
        tracing::error!(?work, "this host does no background work");
    }
}

/// Resources that a process uses. A value that the system does not tell is zero.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// Memory that is resident, in bytes.
    pub resident_bytes: u64,
    /// Processor time since the start, of all threads.
    pub cpu: Duration,
    /// Thousandths of one processor in use, which the engine fills in: on average since it read the usage before.
    pub cpu_per_mille: u64,
    /// Open files and sockets.
    pub open_files: u64,
    /// Threads.
    pub threads: u64,
    /// The disk with the program's data, which the program's [`Owner`](crate::Owner) tells.
    pub disk: Option<DiskFigures>,
}

impl Usage {
    /// Reads what this process uses right now, as Linux tells it.
    #[must_use]
    pub fn of_process() -> Self {
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        let number = |name: &str| {
            let line = status
                .lines()
                .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
            line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok())
                .unwrap_or_default()
        };
        let cpu = clock_gettime(ClockId::ProcessCPUTime);
        Self {
            resident_bytes: number("VmRSS") * 1024,
            cpu: Duration::new(
                cpu.tv_sec.unsigned_abs(),
                u32::try_from(cpu.tv_nsec).unwrap_or_default(),
            ),
            // The listing itself is open while it is counted.
            open_files: std::fs::read_dir("/proc/self/fd")
                .map_or(0, |files| files.count().saturating_sub(1) as u64),
            threads: number("Threads"),
            ..Self::default()
        }
    }
}

/// The system's monotonic clock, as the machines of core want it: time since the clock was started. A cheap handle.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    epoch: time::Instant,
}

impl Clock {
    /// A clock that starts now.
    #[must_use]
    pub fn start() -> Self {
        Self {
            epoch: time::Instant::now(),
        }
    }

    /// The time now.
    #[must_use]
    pub fn now(&self) -> Instant {
        Instant::from_micros(self.micros(time::Instant::now()))
    }

    /// Time since 1970-01-01T00:00:00Z, read anew: a clock that was set, or a machine that slept, shows.
    #[must_use]
    pub fn unix(&self) -> Duration {
        SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default()
    }

    /// Microseconds from the start to `at`.
    #[must_use]
    pub fn micros(&self, at: time::Instant) -> u64 {
        let micros = at.saturating_duration_since(self.epoch).as_micros();
        u64::try_from(micros).unwrap_or(u64::MAX)
    }

    /// The system's name for a time of a machine.
    #[must_use]
    pub fn system(&self, at: Instant) -> time::Instant {
        later(self.epoch, Duration::from_micros(at.as_micros()))
    }

    /// Duration from now to `at`; nothing when that has passed.
    #[must_use]
    pub fn until(&self, at: Instant) -> Duration {
        self.system(at)
            .saturating_duration_since(time::Instant::now())
    }
}

/// The outside of a host that opens no connections.
impl Outside for Clock {
    fn now(&self) -> Instant {
        Self::now(self)
    }

    fn unix(&self) -> Duration {
        Self::unix(self)
    }

    fn usage(&self) -> Usage {
        Usage::of_process()
    }
}

/// 32 random bytes of the system, for [`Engine::new`](crate::Engine::new).
///
/// # Errors
/// When the system has none to give.
pub fn random_seed() -> io::Result<[u8; 32]> {
    let mut seed = [0; 32];
    getrandom::fill(&mut seed)?;
    Ok(seed)
}

/// `from + duration`, or what is as good as never.
#[must_use]
pub fn later(from: time::Instant, duration: Duration) -> time::Instant {
    const CENTURY: Duration = Duration::from_secs(3_155_760_000);
    from.checked_add(duration.min(CENTURY)).unwrap_or(from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seeds_differ() {
        assert_ne!(random_seed().ok(), random_seed().ok());
    }

    #[test]
    fn the_process_knows_what_it_uses() {
        let usage = Usage::of_process();
        assert!(
            usage.resident_bytes > 0 && usage.threads > 0 && usage.open_files > 0,
            "{usage:?}"
        );
    }
}
