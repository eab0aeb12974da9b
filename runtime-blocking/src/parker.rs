//! Waits of a thread for others, for its socket and for the pipes that it has polled, all at once.

use crate::peer::Peer;
use mcp_local_provider_engine::run_queue;
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::io::Errno;
use std::cell::RefCell;
use std::net::TcpStream;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Weak};
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
        self.unpark();
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

    /// Ends the wait of its thread, or the next one.
    pub fn unpark(&self) {
        if self.state.swap(UNPARKED, Ordering::AcqRel) == WAITING
            && let Some(event) = &self.event
        {
            // It holds one at most, so that there is always room.
            let _ = rustix::io::write(event, &1u64.to_ne_bytes());
        }
    }

    /// Waits until it is unparked, `socket` has what it is watched for (its end always is), a pipe that this thread has polled
    /// is worth polling again, or it is `until`. A pipe's waker is woken; that of this parker counts as unparked.
    pub fn wait(&self, socket: Option<(&TcpStream, PollFlags)>, until: Option<Instant>) -> Woken {
        let begun = self
            .state
            .compare_exchange(BUSY, WAITING, Ordering::AcqRel, Ordering::Acquire);
        if begun.is_err() {
            self.state.swap(BUSY, Ordering::AcqRel);
            return Woken::Unparked;
        }
        let watches = WATCHES.take();
        let (woken, worth) = if watches.is_empty() {
            (self.wait_for_either(socket, until), Vec::new())
        } else {
            self.wait_with_pipes(socket, until, watches)
        };
        let mut unparked = self.state.swap(BUSY, Ordering::AcqRel) == UNPARKED;
        if unparked && let Some(event) = &self.event {
            // Whoever woke it has written or is about to.
            let _ = rustix::io::read(event, &mut [0; 8]);
        }
        // Its thread is busy again, so that a waker of this parker costs no system call.
        for watch in worth {
            watch.waker.wake();
            unparked |= self.state.swap(BUSY, Ordering::AcqRel) == UNPARKED;
        }
        if unparked { Woken::Unparked } else { woken }
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

/// A side of a pipe that is watched.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Interest {
    /// Something can be read, the end included.
    Read,
    /// There is room to write.
    Write,
}

/// A pipe whose call was pending on this thread.
struct Watch {
    peer: Weak<Peer>,
    interest: Interest,
    until: Option<Instant>,
    waker: Waker,
}

thread_local! {
    /// Pipes that the next wait of this thread watches.
    static WATCHES: RefCell<Vec<Watch>> = const { RefCell::new(Vec::new()) };
}

/// Has this thread's waits watch a pipe, until they have woken `waker` or the pipe is gone. The waker is woken at `until`
/// too. A later call for the same side takes the place of this one.
pub(crate) fn watch(peer: &Arc<Peer>, interest: Interest, until: Option<Instant>, waker: &Waker) {
    if run_queue::runs_for_another() {
        // The watch is for the waits of the thread that it runs for.
        run_queue::unpark(waker);
        return;
    }
    WATCHES.with_borrow_mut(|watches| {
        watches.retain(|watch| {
            watch.peer.strong_count() > 0
                && (watch.interest != interest || watch.peer.as_ptr() != Arc::as_ptr(peer))
        });
        watches.push(Watch {
            peer: Arc::downgrade(peer),
            interest,
            until,
            waker: waker.clone(),
        });
    });
}

impl Parker {
    /// Waits as [`Parker::wait`] does, and gives the pipes whose wakers are to be woken.
    fn wait_with_pipes(
        &self,
        socket: Option<(&TcpStream, PollFlags)>,
        until: Option<Instant>,
        mut watches: Vec<Watch>,
    ) -> (Woken, Vec<Watch>) {
        let slice = self.event.is_none().then(|| Instant::now() + SLICE);
        let soonest = watches.iter().filter_map(|watch| watch.until);
        let soonest = soonest.chain(until).chain(slice).min();
        let held: Vec<(Arc<Peer>, Watch)> = watches
            .drain(..)
            .filter_map(|watch| Some((watch.peer.upgrade()?, watch)))
            .collect();
        let mut fds: Vec<PollFd<'_>> = Vec::with_capacity(held.len() + 2);
        fds.extend(held.iter().map(|(peer, watch)| {
            let flags = match watch.interest {
                Interest::Read => PollFlags::IN,
                Interest::Write => PollFlags::OUT,
            };
            PollFd::from_borrowed_fd(peer.socket().as_fd(), flags)
        }));
        fds.extend(socket.map(|(socket, flags)| PollFd::from_borrowed_fd(socket.as_fd(), flags)));
        let event = self.event.as_ref();
        fds.extend(event.map(|event| PollFd::new(event, PollFlags::IN)));
        wait_for(&mut fds, soonest);
        let ready: Vec<bool> = fds.iter().map(|fd| !fd.revents().is_empty()).collect();
        drop(fds);
        let now = Instant::now();
        let mut woken = Woken::Unparked;
        if socket.is_some() && ready.get(held.len()).is_some_and(|ready| *ready) {
            woken = Woken::Socket;
        } else if until.is_some_and(|until| now >= until) {
            woken = Woken::Late;
        }
        let mut worth = Vec::new();
        for ((peer, watch), ready) in held.into_iter().zip(ready) {
            drop(peer);
            if ready || watch.until.is_some_and(|until| now >= until) {
                worth.push(watch);
            } else {
                watches.push(watch);
            }
        }
        WATCHES.with_borrow_mut(|waiting| waiting.append(&mut watches));
        (woken, worth)
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
    use std::io::Write;
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

    #[test]
    fn a_pipe_that_was_pending_wakes_its_waker_when_it_is_worth_it() {
        let parker = Parker::new();
        let (near, mut far) = pair();
        let peer = Arc::new(Peer::new(near, Duration::from_secs(5)));
        let late = Some(Instant::now());
        watch(&peer, Interest::Read, None, &parker.waker());
        assert_eq!(parker.wait(None, late), Woken::Late);
        // The wait that found nothing has not forgotten it.
        far.write_all(b"a").unwrap();
        assert_eq!(parker.wait(None, None), Woken::Unparked);
        assert_eq!(parker.wait(None, late), Woken::Late);
        // A deadline of the pipe.
        watch(&peer, Interest::Read, late, &parker.waker());
        assert_eq!(parker.wait(None, None), Woken::Unparked);
        // One that is gone is not watched.
        peer.read_now(&mut [0; 8]).unwrap();
        watch(&peer, Interest::Read, None, &parker.waker());
        drop((peer, far));
        assert_eq!(parker.wait(None, late), Woken::Late);
    }
}
