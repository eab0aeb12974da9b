//! Waiting for many sockets: the little of epoll that the processes of the comparison need.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use rustix::buffer::spare_capacity;
use rustix::event::{Timespec, epoll};

/// Events taken from the kernel in one call.
const BATCH: usize = 256;

/// A level-triggered epoll set. See `epoll(7)`.
pub struct Poll {
    epoll: OwnedFd,
    events: Vec<epoll::Event>,
}

impl std::fmt::Debug for Poll {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Poll")
            .field("epoll", &self.epoll)
            .finish_non_exhaustive()
    }
}

/// Events that a registration waits for. Errors and hang-ups are always reported, as readable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Interest {
    /// Bytes, a connection or an end of file to read.
    pub read: bool,
    /// Room to write.
    pub write: bool,
}

impl Interest {
    /// Waits for something to read.
    pub const READ: Self = Self {
        read: true,
        write: false,
    };

    fn flags(self) -> epoll::EventFlags {
        let mut flags = epoll::EventFlags::empty();
        flags.set(epoll::EventFlags::IN, self.read);
        flags.set(epoll::EventFlags::OUT, self.write);
        flags
    }
}

/// One descriptor that is ready.
#[derive(Clone, Copy, Debug)]
pub struct Ready {
    /// The number it was registered under.
    pub token: usize,
    /// A read will not block.
    pub readable: bool,
    /// A write will not block.
    pub writable: bool,
}

impl Poll {
    /// Makes an empty set.
    ///
    /// # Errors
    /// The operating system's, when descriptors are used up.
    pub fn new() -> io::Result<Self> {
        Ok(Self {
            epoll: epoll::create(epoll::CreateFlags::CLOEXEC)?,
            events: Vec::with_capacity(BATCH),
        })
    }

    /// Registers `source` under `token`. It leaves the set when it is closed.
    ///
    /// # Errors
    /// The operating system's, as for a descriptor that cannot be polled.
    pub fn add(&self, source: impl AsFd, token: usize, interest: Interest) -> io::Result<()> {
        let data = epoll::EventData::new_u64(token as u64);
        Ok(epoll::add(&self.epoll, source, data, interest.flags())?)
    }

    /// Changes what a registered `source` waits for.
    ///
    /// # Errors
    /// The operating system's, as for a descriptor that is not registered.
    pub fn modify(&self, source: impl AsFd, token: usize, interest: Interest) -> io::Result<()> {
        let data = epoll::EventData::new_u64(token as u64);
        Ok(epoll::modify(&self.epoll, source, data, interest.flags())?)
    }

    /// Replaces `ready` by what is ready now, or within `timeout` (for ever without one).
    ///
    /// # Errors
    /// The operating system's. An interrupted wait is an empty answer.
    pub fn wait(&mut self, timeout: Option<Duration>, ready: &mut Vec<Ready>) -> io::Result<()> {
        ready.clear();
        self.events.clear();
        let timeout = timeout.map(|t| Timespec {
            tv_sec: i64::try_from(t.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: i64::from(t.subsec_nanos()),
        });
        match epoll::wait(
            &self.epoll,
            spare_capacity(&mut self.events),
            timeout.as_ref(),
        ) {
            Ok(_) => {}
            Err(rustix::io::Errno::INTR) => return Ok(()),
            Err(e) => return Err(e.into()),
        }
        let broken = epoll::EventFlags::ERR | epoll::EventFlags::HUP;
        ready.extend(self.events.iter().map(|event| {
            let flags = event.flags;
            let data = event.data;
            Ready {
                token: usize::try_from(data.u64()).unwrap_or(usize::MAX),
                readable: flags.intersects(epoll::EventFlags::IN | broken),
                writable: flags.contains(epoll::EventFlags::OUT),
            }
        }));
        Ok(())
    }
}

/// Writes what `owed` holds, as far as the socket has room for it.
///
/// # Errors
/// Those of the socket.
pub fn write_owed(mut socket: impl io::Write, owed: &mut Vec<u8>) -> io::Result<()> {
    while !owed.is_empty() {
        match socket.write(owed) {
            Ok(written) => drop(owed.drain(..written)),
            Err(e) if would_block(&e) => return Ok(()),
            Err(e) => return Err(e),
        }
    }
    Ok(())
}

/// Returns true when an I/O error only means that the socket is not ready.
#[must_use]
pub fn would_block(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
    )
}
