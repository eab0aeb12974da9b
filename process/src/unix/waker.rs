//! Wakes the thread that owns a process.

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::task::Wake;
use std::time::Instant;

/// Wakes the thread that waits in [`Process::turn`](crate::Process::turn) or [`ProcessWaker::wait`]; usable from any thread.
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

    /// Returns the descriptor that is readable once somebody has called.
    pub(super) fn descriptor(&self) -> BorrowedFd<'_> {
        self.reader.as_fd()
    }

    /// Forgets the calls so far.
    pub(super) fn clear(&self) {
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
