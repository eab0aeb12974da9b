//! What a program asks of the operating system about itself.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::time::{ClockId, clock_gettime};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixDatagram;
use std::time::Duration;

/// Raises the soft limit of open files to the hard one, because every connection is a file. Returns the limit that holds
/// now; `None` is no limit.
pub fn raise_file_limit() -> Option<u64> {
    let limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum {
        let wanted = Rlimit {
            current: limit.maximum,
            maximum: limit.maximum,
        };
        if let Err(error) = setrlimit(Resource::Nofile, wanted) {
            tracing::debug!("the limit of open files stays as it is: {error}");
        }
    }
    getrlimit(Resource::Nofile).current
}

/// What the process uses. What the system does not tell is zero.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// Memory that is resident, in bytes.
    pub resident_bytes: u64,
    /// Processor time since the start, of all threads.
    pub cpu: Duration,
    /// Open files and sockets.
    pub open_files: u64,
    /// Threads.
    pub threads: u64,
}

/// Reads what the process uses right now.
pub fn usage() -> Usage {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let number = |name: &str| {
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok())
            .unwrap_or_default()
    };
    let cpu = clock_gettime(ClockId::ProcessCPUTime);
    Usage {
        resident_bytes: number("VmRSS") * 1024,
        cpu: Duration::new(
            cpu.tv_sec.unsigned_abs(),
            u32::try_from(cpu.tv_nsec).unwrap_or_default(),
        ),
        // The listing itself is open while it is counted.
        open_files: std::fs::read_dir("/proc/self/fd")
            .map_or(0, |files| files.count().saturating_sub(1) as u64),
        threads: number("Threads"),
    }
}

/// Random bytes for the core's seed.
///
/// # Errors
/// When the system has none to give.
pub fn random_seed() -> io::Result<[u8; 32]> {
    let mut seed = [0; 32];
    getrandom::fill(&mut seed)?;
    Ok(seed)
}

/// Tells a service manager that started the program (`sd_notify(3)`) about its state, such as `READY=1` or `STOPPING=1`.
/// Without one nothing happens.
///
/// # Errors
/// When there is a service manager that does not take the message.
pub fn notify_service_manager(state: &str) -> io::Result<()> {
    match std::env::var_os("NOTIFY_SOCKET") {
        Some(path) => notify(path.as_bytes(), state),
        None => Ok(()),
    }
}

fn notify(path: &[u8], state: &str) -> io::Result<()> {
    let socket = UnixDatagram::unbound()?;
    match path.strip_prefix(b"@") {
        #[cfg(target_os = "linux")]
        Some(name) => {
            use std::os::linux::net::SocketAddrExt;
            let address = std::os::unix::net::SocketAddr::from_abstract_name(name)?;
            socket.send_to_addr(state.as_bytes(), &address)?;
        }
        _ => {
            socket.send_to(state.as_bytes(), std::ffi::OsStr::from_bytes(path))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::test_directory::Directory;

    #[test]
    fn the_process_knows_what_it_uses() {
        let usage = usage();
        assert!(
            usage.resident_bytes > 0 && usage.threads > 0 && usage.open_files > 0,
            "{usage:?}"
        );
        assert_ne!(random_seed().unwrap(), random_seed().unwrap());
        raise_file_limit();
        let limit = getrlimit(Resource::Nofile);
        assert_eq!(limit.current, limit.maximum);
    }

    #[test]
    fn a_service_manager_hears_of_readiness() {
        let directory = Directory::new();
        let path = directory.0.join("notify");
        let manager = UnixDatagram::bind(&path).unwrap();
        notify(path.as_os_str().as_bytes(), "READY=1").unwrap();
        let mut message = [0; 16];
        let length = manager.recv(&mut message).unwrap();
        assert_eq!(message.get(..length).unwrap(), b"READY=1");
    }
}
