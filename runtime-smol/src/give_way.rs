//! Tasks that let others go first.

use std::task::{Poll, Waker};

/// A task's wait for those that may run beside it, before it writes something whole: what several tasks have for one process goes
/// out in a row then, and the process is woken once.
#[derive(Debug, Default)]
pub(crate) struct GiveWay {
    has_given: bool,
}

impl GiveWay {
    /// Pending once, and ready until [`GiveWay::again`].
    pub fn poll(&mut self, waker: &Waker) -> Poll<()> {
        if self.has_given {
            return Poll::Ready(());
        }
        self.has_given = true;
        waker.wake_by_ref();
        Poll::Pending
    }

    /// Something is read, or was written: what is written next may wait again.
    pub const fn again(&mut self) {
        self.has_given = false;
    }
}
