//! Handle of every thread to the state that all drivers share, to the open sockets, and to more threads.

use crate::dial::TcpPipe;
use crate::parker::Parker;
use crate::peer::Peer;
use event_listener::Listener;
use mcp_local_provider_core::time;
use mcp_local_provider_engine::pipe::{Endpoint, NeverOpen, Pipe};
use mcp_local_provider_engine::{Background, Clock, Engine, Outside, Usage, run_queue};
use std::collections::HashMap;
use std::io;
use std::ops::Deref;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::thread::Builder;
use std::time::Duration;

/// Room on the stack of a thread. JSON that is as deep as it may be takes the most of it; an unoptimised build needs more.
const STACK: usize = if cfg!(debug_assertions) { 512 } else { 128 } << 10;

/// Parkers that are kept for the next exchange.
const SPARE_PARKERS: usize = 64;

/// Parkers in use beyond which an idle connection gives back its own, because each takes a descriptor.
const MANY_PARKERS: usize = 256;

/// A cheap handle.
#[derive(Clone, Debug)]
pub(crate) struct Threads(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    engine: Arc<Engine>,
    clock: Clock,
    /// By a number of their own, with the last one given.
    open: Mutex<(HashMap<u64, Arc<Peer>>, u64)>,
    parkers: Mutex<Vec<Arc<Parker>>>,
    parkers_in_use: AtomicUsize,
    running: Mutex<usize>,
    ended: Condvar,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Threads {
    pub fn new(engine: Arc<Engine>, clock: Clock) -> Self {
        Self(Arc::new(Inner {
            engine,
            clock,
            open: Mutex::default(),
            parkers: Mutex::default(),
            parkers_in_use: AtomicUsize::new(0),
            running: Mutex::default(),
            ended: Condvar::new(),
        }))
    }

    pub fn engine(&self) -> &Arc<Engine> {
        &self.0.engine
    }

    pub fn clock(&self) -> Clock {
        self.0.clock
    }

    /// Runs `work` on a thread of its own.
    ///
    /// # Errors
    /// When the system has none to give.
    pub fn spawn(&self, name: &str, work: impl FnOnce() + Send + 'static) -> io::Result<()> {
        *lock(&self.0.running) += 1;
        let counted = Counted(self.clone());
        let spawned = Builder::new()
            .name(name.into())
            .stack_size(STACK)
            .spawn(move || {
                let _counted = counted;
                work();
            });
        spawned.map(drop)
    }

    /// Waits until all threads have ended, for `patience` at most.
    pub fn join(&self, patience: Duration) {
        let running = lock(&self.0.running);
        let waited = self
            .0
            .ended
            .wait_timeout_while(running, patience, |running| *running > 0);
        drop(waited);
    }

    /// Waits until nothing is to run any more.
    pub fn wait_for_stop(&self) {
        loop {
            let stop = self.engine().listen_for_stop();
            if self.engine().is_stopped() {
                return;
            }
            stop.wait();
        }
    }

    /// Makes a socket known to those who shut down.
    pub fn open(&self, peer: Arc<Peer>) -> Open {
        let mut open = lock(&self.0.open);
        open.1 += 1;
        let number = open.1;
        open.0.insert(number, peer.clone());
        drop(open);
        if self.0.engine.is_stopped() {
            peer.end();
        }
        Open {
            threads: self.clone(),
            number,
            peer,
        }
    }

    /// Ends the connections that wait for a request.
    pub fn end_idle(&self) {
        for peer in lock(&self.0.open).0.values() {
            peer.end_if_idle();
        }
    }

    /// Ends all connections.
    pub fn end_all(&self) {
        for peer in lock(&self.0.open).0.values() {
            peer.end();
        }
    }

    /// True while idle connections may keep their parkers for the next request.
    pub fn has_spare_parkers(&self) -> bool {
        self.0.parkers_in_use.load(Ordering::Relaxed) <= MANY_PARKERS
    }

    /// True when more than one client's answer is waited for.
    pub fn are_many_served(&self) -> bool {
        self.0.parkers_in_use.load(Ordering::Relaxed) > 1
    }

    /// A place to wait in.
    pub fn parker(&self) -> RentedParker {
        self.0.parkers_in_use.fetch_add(1, Ordering::Relaxed);
        let spare = lock(&self.0.parkers).pop();
        RentedParker {
            threads: self.clone(),
            parker: spare.unwrap_or_else(Parker::new),
        }
    }
}

/// A thread that has not ended.
struct Counted(Threads);

impl Drop for Counted {
    fn drop(&mut self) {
        *lock(&self.0.0.running) -= 1;
        self.0.0.ended.notify_all();
    }
}

/// A socket that those who shut down know of.
#[derive(Debug)]
pub(crate) struct Open {
    threads: Threads,
    number: u64,
    peer: Arc<Peer>,
}

impl Open {
    pub const fn peer(&self) -> &Arc<Peer> {
        &self.peer
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        lock(&self.threads.0.open).0.remove(&self.number);
    }
}

/// A parker that is given back.
pub(crate) struct RentedParker {
    threads: Threads,
    parker: Arc<Parker>,
}

impl Deref for RentedParker {
    type Target = Arc<Parker>;

    fn deref(&self) -> &Arc<Parker> {
        &self.parker
    }
}

impl Drop for RentedParker {
    fn drop(&mut self) {
        let threads = &self.threads.0;
        threads.parkers_in_use.fetch_sub(1, Ordering::Relaxed);
        let mut parkers = lock(&threads.parkers);
        if parkers.len() < SPARE_PARKERS {
            parkers.push(self.parker.clone());
        }
    }
}

/// The system as the engine sees it.
pub(crate) struct System {
    clock: Clock,
    /// Weak, because they own the engine; set as soon as there are any.
    threads: OnceLock<Weak<Inner>>,
}

impl System {
    pub const fn new(clock: Clock) -> Self {
        Self {
            clock,
            threads: OnceLock::new(),
        }
    }

    pub fn set_threads(&self, threads: &Threads) {
        // Set once, before the engine dials.
        let _ = self.threads.set(Arc::downgrade(&threads.0));
    }

    fn threads(&self) -> Option<Threads> {
        self.threads.get().and_then(Weak::upgrade).map(Threads)
    }
}

impl Outside for System {
    fn now(&self) -> time::Instant {
        self.clock.now()
    }

    fn unix(&self) -> Duration {
        self.clock.unix()
    }

    fn usage(&self) -> Usage {
        Usage::of_process()
    }

    fn dial(&self, endpoint: &Endpoint) -> Box<dyn Pipe> {
        match self.threads() {
            Some(threads) => Box::new(TcpPipe::new(&threads, endpoint)),
            None => Box::new(NeverOpen::new(io::ErrorKind::NotConnected)),
        }
    }

    fn spawn(&self, work: Box<dyn Background>) {
        let Some(threads) = self.threads() else {
            return;
        };
        let clock = self.clock;
        if let Err(error) = threads.spawn("background", move || run(work, clock)) {
            tracing::error!(%error, "there is no thread for background work");
        }
    }
}

/// Does background work to its end.
fn run(mut work: Box<dyn Background>, clock: Clock) {
    let parker = Parker::new();
    let waker = parker.waker();
    while run_queue::enter(|| work.poll(&waker)).is_pending() {
        let until = work.poll_timeout().map(|until| clock.system(until));
        parker.wait(None, until);
    }
}
