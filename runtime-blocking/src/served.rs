//! A client connection between its thread and whoever has its answer.
//!
//! While the thread waits for an answer, the thread that reads from the agent writes it, and leaves the other one asleep until the
//! next request: an answer costs no switch between threads. Whatever would have to wait, a full socket say, is left to the
//! connection's own thread.

use crate::parker::Parker;
use crate::peer::Peer;
use crate::threads::{RentedParker, Threads};
use mcp_local_provider_core::time::Instant;
use mcp_local_provider_core::wire::http1::IDLE;
use mcp_local_provider_engine::client_connection::{ClientConnection, Next, Wakers};
use mcp_local_provider_engine::run_queue::{self, Task};
use std::io::IoSlice;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Wake, Waker};
use std::thread;

/// The connection, for one thread at a time.
pub(crate) struct Served {
    threads: Threads,
    peer: Arc<Peer>,
    state: Mutex<State>,
}

struct State {
    /// Until its thread ends.
    connection: Option<ClientConnection>,
    /// While its thread waits for an answer.
    wait: Option<Wait>,
}

/// A thread's wait for an answer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wait {
    until: Instant,
    watches_input: bool,
}

impl Wait {
    /// It ends at `until`, and in time for a connection that becomes idle meanwhile.
    pub fn new(now: Instant, until: Option<Instant>, watches_input: bool) -> Self {
        let latest = now + IDLE;
        Self {
            until: until.map_or(latest, |until| until.min(latest)),
            watches_input,
        }
    }

    pub const fn until(self) -> Instant {
        self.until
    }

    /// It ends when a request comes too.
    pub const fn watches_input(self) -> bool {
        self.watches_input
    }

    fn lasts(self, until: Option<Instant>) -> bool {
        until.is_none_or(|until| self.until <= until)
    }
}

/// The connection, held by its thread.
pub(crate) struct Hold<'s>(MutexGuard<'s, State>);

impl Hold<'_> {
    pub fn connection(&mut self) -> Option<&mut ClientConnection> {
        self.0.connection.as_mut()
    }

    /// Notes how the thread will wait, or that it waits no longer.
    pub fn set_wait(&mut self, wait: Option<Wait>) {
        self.0.wait = wait;
    }
}

impl Served {
    pub fn new(threads: &Threads, peer: &Arc<Peer>, connection: ClientConnection) -> Arc<Self> {
        Arc::new(Self {
            threads: threads.clone(),
            peer: peer.clone(),
            state: Mutex::new(State {
                connection: Some(connection),
                wait: None,
            }),
        })
    }

    pub fn hold(&self) -> Hold<'_> {
        if let Ok(state) = self.state.try_lock() {
            return Hold(state);
        }
        // Whoever has written the answer is about to let go, and may share this thread's core.
        thread::yield_now();
        Hold(self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Takes the connection out, at the end of its thread.
    pub fn take(&self) -> Option<ClientConnection> {
        self.hold().0.connection.take()
    }

    /// Goes on in the place of the thread, while that waits. False when it has to go on itself.
    fn serve(&self, wakers: &mut Foreign) -> bool {
        let Ok(mut state) = self.state.try_lock() else {
            return false;
        };
        let State {
            connection: Some(connection),
            wait: Some(wait),
        } = &mut *state
        else {
            return false;
        };
        loop {
            // The next request is begun by its own thread.
            if connection.running().is_none() && connection.has_early() {
                return false;
            }
            match connection.poll(wakers) {
                Next::Write => {
                    let parts = connection.unwritten().map(IoSlice::new);
                    let count = parts.iter().map(|part| part.len()).sum();
                    let written = self.peer.write_parts_now(&parts).unwrap_or(0);
                    connection.wrote(written);
                    if written < count {
                        return false;
                    }
                }
                Next::Wait(until) => return wait.lasts(until),
                Next::Receive(until) if connection.is_idle() => {
                    let stays =
                        wait.watches_input && wait.lasts(until) && self.threads.has_spare_parkers();
                    // In this order: who begins a shutdown sets its mark before it looks for idle connections.
                    self.peer.set_idle(stays);
                    return stays && !connection.misses_shutdown();
                }
                Next::Receive(_) | Next::Measure | Next::Finish | Next::Upgraded | Next::Close => {
                    return false;
                }
            }
        }
    }
}

/// Wakers of a connection that another thread works for.
struct Foreign {
    idle: Waker,
    answer: Waker,
}

impl Wakers for Foreign {
    fn idle(&mut self) -> &Waker {
        &self.idle
    }

    fn answer(&mut self) -> &Waker {
        &self.answer
    }
}

/// Wakes a connection that waits for an answer, or has another thread serve it.
pub(crate) struct Answered {
    served: Weak<Served>,
    parker: RentedParker,
}

impl Answered {
    pub fn new(served: &Arc<Served>, parker: RentedParker) -> Arc<Self> {
        Arc::new(Self {
            served: Arc::downgrade(served),
            parker,
        })
    }

    /// Place where the thread waits.
    pub fn parker(&self) -> &Arc<Parker> {
        &self.parker
    }
}

impl Wake for Answered {
    fn wake(self: Arc<Self>) {
        run_queue::wake(self);
    }
}

impl Task for Answered {
    fn run(self: Arc<Self>) {
        let Some(served) = self.served.upgrade() else {
            return;
        };
        let mut wakers = Foreign {
            idle: Waker::from(served.peer.clone()),
            answer: Waker::from(self.clone()),
        };
        if !served.serve(&mut wakers) {
            self.unpark();
        }
    }

    fn unpark(&self) {
        self.parker.unpark();
    }
}
