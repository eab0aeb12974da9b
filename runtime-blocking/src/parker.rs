//! Waits of a thread for others and for its socket at once.

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::io::Errno;
use std::net::TcpStream;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::{Wake, Waker};
use std::time::{Duration, Instant};

/// Interval at which a parker without a descriptor of its own looks whether it was unparked.
const SLICE: Duration = Duration::from_millis(10);

/// Its thread does something.
const BUSY: u8 = 0;
/// Its thread waits.
const WAITING: u8 = 1;
/// It was unparked since its thread looked.
const UNPARKED: u8 = 2;

/// Place where one thread waits, and from which every other may wake it. To wake one whose thread is busy costs no system call.
#[derive(Debug)]
pub(crate) struct Parker {
    state: AtomicU8,
    /// Missing where the system had no descriptor to give.
    event: Option<OwnedFd>,
}

/// Reason for the end of a wait.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Woken {
    /// Another thread woke it, perhaps late.
    Unparked,
    /// The socket has what was watched for, or is gone.
    Socket,
    /// The time has come.
    Late,
}

impl Wake for Parker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if self.state.swap(UNPARKED, Ordering::AcqRel) == WAITING
            && let Some(event) = &self.event
        {
            // It holds one at most, so that there is always room.
            let _ = rustix::io::write(event, &1u64.to_ne_bytes());
        }
    }
}

impl Parker {
    pub fn new() -> Arc<Self> {
        Arc::new(Self {
            state: AtomicU8::new(BUSY),
            event: eventfd(0, EventfdFlags::CLOEXEC).ok(),
        })
    }

    pub fn waker(self: &Arc<Self>) -> Waker {
        Waker::from(self.clone())
    }

    /// Waits until it is unparked, `socket` has what it is watched for (its end always is), or it is `until`.
    pub fn wait(&self, socket: Option<(&TcpStream, PollFlags)>, until: Option<Instant>) -> Woken {
        let begun = self
            .state
            .compare_exchange(BUSY, WAITING, Ordering::AcqRel, Ordering::Acquire);
        if begun.is_err() {
            self.state.swap(BUSY, Ordering::AcqRel);
            return Woken::Unparked;
        }
        let woken = self.wait_for_either(socket, until);
        if self.state.swap(BUSY, Ordering::AcqRel) == UNPARKED {
            if let Some(event) = &self.event {
                // Whoever woke it has written or is about to.
                let _ = rustix::io::read(event, &mut [0; 8]);
            }
            return Woken::Unparked;
        }
        woken
    }

    fn wait_for_either(
        &self,
        socket: Option<(&TcpStream, PollFlags)>,
        until: Option<Instant>,
    ) -> Woken {
        loop {
            let slice = self.event.is_none().then(|| Instant::now() + SLICE);
            let soonest = [until, slice].into_iter().flatten().min();
            let found = match (&self.event, socket) {
                (Some(event), Some((socket, flags))) => {
                    let watched = PollFd::from_borrowed_fd(socket.as_fd(), flags);
                    wait_for(&mut [watched, PollFd::new(event, PollFlags::IN)], soonest)
                }
                (Some(event), None) => wait_for(
                    &mut [PollFd::from_borrowed_fd(event.as_fd(), PollFlags::IN)],
                    soonest,
                )
                .map(|_| 1),
                (None, Some((socket, flags))) => wait_for(
                    &mut [PollFd::from_borrowed_fd(socket.as_fd(), flags)],
                    soonest,
                ),
                (None, None) => wait_for(&mut [], soonest),
            };
            match found {
                Some(0) => return Woken::Socket,
                Some(_) => return Woken::Unparked,
                None if self.state.load(Ordering::Acquire) == UNPARKED => return Woken::Unparked,
                None if until.is_some_and(|until| Instant::now() >= until) => return Woken::Late,
                None => {}
            }
        }
    }
}

/// Waits for one of `watched` to have what it is watched for and says which was the first; `None` when it is `until`.
pub(crate) fn wait_for(watched: &mut [PollFd<'_>], until: Option<Instant>) -> Option<usize> {
    loop {
        let left = until.map(|until| until.saturating_duration_since(Instant::now()));
        let timeout = left.map(|left| Timespec {
            tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: i64::from(left.subsec_nanos()),
        });
        match poll(watched, timeout.as_ref()) {
            Ok(0) => return None,
            Ok(_) => return watched.iter().position(|fd| !fd.revents().is_empty()),
            Err(Errno::INTR) => {}
            // Out of memory: no better than being late, and what follows finds out.
            Err(_) => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::net::TcpListener;
    use std::sync::mpsc::channel;

    fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let far = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        (listener.accept().unwrap().0, far)
    }

    #[test]
    fn no_ring_is_lost_whenever_it_comes() {
        for event in [true, false] {
            let parker = if event {
                Parker::new()
            } else {
                Arc::new(Parker {
                    state: AtomicU8::new(BUSY),
                    event: None,
                })
            };
            let waker = parker.waker();
            waker.wake_by_ref();
            waker.wake_by_ref();
            assert_eq!(parker.wait(None, None), Woken::Unparked);
            let (ask, asked) = channel::<()>();
            let thread = std::thread::spawn(move || {
                while asked.recv().is_ok() {
                    waker.wake_by_ref();
                }
            });
            for _ in 0..50 {
                ask.send(()).unwrap();
                assert_eq!(parker.wait(None, None), Woken::Unparked);
            }
            drop(ask);
            thread.join().unwrap();
            assert_eq!(parker.wait(None, Some(Instant::now())), Woken::Late);
        }
    }

    #[test]
    fn a_peer_that_leaves_is_seen_while_nothing_is_read() {
        let parker = Parker::new();
        let (near, far) = pair();
        let late = Some(Instant::now());
        assert_eq!(
            parker.wait(Some((&near, PollFlags::RDHUP)), late),
            Woken::Late
        );
        drop(far);
        assert_eq!(
            parker.wait(Some((&near, PollFlags::RDHUP)), None),
            Woken::Socket
        );
    }
}
