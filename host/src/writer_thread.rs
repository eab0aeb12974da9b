//! A thread that writes what others hand over at its own pace, and at the end of the program the rest of it.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

/// The thread's side: whether it is to end.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ending(Arc<AtomicBool>);

impl Ending {
    /// True once everything that was handed over is to be written. Look before the last hand-over is taken.
    pub(crate) fn is_near(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }

    /// Waits for more to be handed over, for at most `delay`, or until the end is near.
    pub(crate) fn gather(&self, delay: Duration) {
        let until = Instant::now() + delay;
        while !self.is_near() {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            thread::park_timeout(left);
        }
    }
}

/// The owner's side.
#[derive(Debug)]
pub(crate) struct WriterThread {
    thread: Thread,
    ending: Ending,
    finished: Mutex<Receiver<()>>,
}

impl WriterThread {
    /// Starts the thread, which writes until it has found the end near and nothing left. It waits parked.
    ///
    /// # Errors
    /// Fails when the system starts no thread.
    pub(crate) fn start(
        name: &str,
        write: impl FnOnce(&Ending) + Send + 'static,
    ) -> io::Result<Self> {
        let ending = Ending::default();
        let own = ending.clone();
        let (done, finished) = sync_channel(1);
        let thread = thread::Builder::new().name(name.to_owned());
        let thread = thread.spawn(move || {
            write(&own);
            drop(done);
        })?;
        Ok(Self {
            thread: thread.thread().clone(),
            ending,
            finished: Mutex::new(finished),
        })
    }

    /// The thread, to be unparked after something was handed over.
    pub(crate) const fn thread(&self) -> &Thread {
        &self.thread
    }

    /// Has the rest written, but waits no longer than `patience`. True when all of it was.
    pub(crate) fn finish(&self, patience: Duration) -> bool {
        self.ending.0.store(true, Ordering::Release);
        self.thread.unpark();
        let finished = self.finished.lock();
        let finished = finished.unwrap_or_else(PoisonError::into_inner);
        finished.recv_timeout(patience) != Err(RecvTimeoutError::Timeout)
    }
}
