//! Pool of idle pipes: those whose last answer was read to its end, and whose server waits for another request.

use crate::pipe::Pipe;
use crate::proxy::Route;
use crate::ranked::{LEAF, Ranked};
use mcp_local_provider_core::time::Instant;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Wake, Waker};
use std::time::Duration;

/// Limits of a pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PoolLimits {
    /// Idle pipes of one route.
    pub route: usize,
    /// Idle pipes of all routes.
    pub all: usize,
    /// Longest time for which a pipe is idle.
    pub idle: Duration,
}

impl Default for PoolLimits {
    /// 8 of a route, 64 of all, 60 s.
    fn default() -> Self {
        Self {
            route: 8,
            all: 64,
            idle: Duration::from_secs(60),
        }
    }
}

/// Idle pipes by their routes. Whoever takes one has it alone.
///
/// A pipe on which anything happens while it is idle, its end or bytes that nobody asked for, is closed. The housekeeper polls the
/// pool for that, and for pipes that were idle for long.
pub struct Pool {
    limits: PoolLimits,
    /// From the one that has been idle for longest.
    idle: Ranked<Vec<Idle>, LEAF>,
    housekeeper: Arc<Ranked<Option<Waker>, LEAF>>,
}

struct Idle {
    route: Route,
    pipe: Box<dyn Pipe>,
    until: Instant,
    happening: Arc<Happening>,
}

/// Waker of an idle pipe: notes that something may have happened on it, and has the housekeeper look.
struct Happening {
    happened: AtomicBool,
    housekeeper: Arc<Ranked<Option<Waker>, LEAF>>,
}

impl Wake for Happening {
    fn wake(self: Arc<Self>) {
        self.happened.store(true, Ordering::Release);
        wake(&self.housekeeper);
    }
}

fn wake(housekeeper: &Ranked<Option<Waker>, LEAF>) {
    // Released before the call.
    let waker = housekeeper.lock().clone();
    waker.into_iter().for_each(Waker::wake);
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Pool({} idle, {:?})",
            self.idle.lock().len(),
            self.limits
        )
    }
}

impl Default for Pool {
    fn default() -> Self {
        Self::new(PoolLimits::default())
    }
}

impl Pool {
    /// A pool with these limits.
    #[must_use]
    pub fn new(limits: PoolLimits) -> Self {
        Self {
            limits,
            idle: Ranked::default(),
            housekeeper: Arc::default(),
        }
    }

    /// Takes the pipe of an equal route that has been idle for the shortest time, and on which nothing has happened.
    pub fn take(&self, now: Instant, route: &Route) -> Option<Box<dyn Pipe>> {
        loop {
            let mut idle = self.idle.lock();
            let place = idle.iter().rposition(|idle| idle.route == *route)?;
            let mut found = idle.remove(place);
            drop(idle);
            if found.until > now && is_silent(&mut *found.pipe, Waker::noop()) {
                return Some(found.pipe);
            }
        }
    }

    /// Keeps a pipe whose server waits for another request. Beyond a limit the one that has been idle for longest is closed.
    pub fn put(&self, now: Instant, route: Route, pipe: Box<dyn Pipe>) {
        self.keep(route, pipe, now + self.limits.idle);
        wake(&self.housekeeper);
    }

    /// Keeps a pipe on which nothing has happened.
    fn keep(&self, route: Route, mut pipe: Box<dyn Pipe>, until: Instant) {
        let happening = Arc::new(Happening {
            happened: AtomicBool::new(false),
            housekeeper: self.housekeeper.clone(),
        });
        if !is_silent(&mut *pipe, &Waker::from(happening.clone())) {
            return;
        }
        let mut closed = Vec::new();
        let mut idle = self.idle.lock();
        let equal = idle.iter().filter(|idle| idle.route == route).count();
        if equal >= self.limits.route {
            let first = idle.iter().position(|idle| idle.route == route);
            closed.extend(first.map(|first| idle.remove(first)));
        }
        if idle.len() >= self.limits.all && !idle.is_empty() {
            closed.push(idle.remove(0));
        }
        if self.limits.route > 0 && self.limits.all > 0 {
            let place = idle.partition_point(|other| other.until <= until);
            let happening = happening.clone();
            idle.insert(
                place,
                Idle {
                    route,
                    pipe,
                    until,
                    happening,
                },
            );
        }
        drop(idle);
        // The housekeeper may have looked between the poll and the entry.
        if happening.happened.load(Ordering::Acquire) {
            wake(&self.housekeeper);
        }
    }

    /// Closes pipes that have been idle for long, and those on which something has happened. To be called again when `waker` was
    /// woken, at the time that is returned at the latest.
    pub fn poll(&self, now: Instant, waker: &Waker) -> Option<Instant> {
        *self.housekeeper.lock() = Some(waker.clone());
        let due =
            |idle: &mut Idle| idle.until <= now || idle.happening.happened.load(Ordering::Acquire);
        let due: Vec<Idle> = self.idle.lock().extract_if(.., due).collect();
        for idle in due {
            // A pipe may have been woken for bytes of its own, such as a ticket of TLS.
            if idle.until > now {
                self.keep(idle.route, idle.pipe, idle.until);
            }
        }
        self.idle.lock().first().map(|idle| idle.until)
    }
}

/// True when a pipe has neither ended nor brought bytes.
fn is_silent(pipe: &mut dyn Pipe, waker: &Waker) -> bool {
    pipe.poll_read(waker, &mut Vec::new(), 1).is_pending()
}
