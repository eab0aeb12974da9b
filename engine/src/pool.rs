//! Pool of idle pipes: those whose last answer was read to its end, and whose server waits for another request.

use crate::pipe::Pipe;
use crate::proxy::Route;
use crate::ranked::{LEAF, Ranked};
use mcp_local_provider_core::time::Instant;
use std::fmt;
use std::task::Waker;
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
/// The housekeeper owns and polls them: a pipe that ends or brings bytes while it is idle, and one that is idle for long, is closed.
pub struct Pool {
    limits: PoolLimits,
    /// From the one that has been idle for longest.
    idle: Ranked<Vec<Idle>, LEAF>,
    housekeeper: Ranked<Option<Waker>, LEAF>,
}

struct Idle {
    route: Route,
    pipe: Box<dyn Pipe>,
    until: Instant,
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
            housekeeper: Ranked::default(),
        }
    }

    /// Takes the pipe of an equal route that has been idle for the shortest time, if nothing has happened on it.
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
        let until = now + self.limits.idle;
        self.keep(Idle { route, pipe, until });
        // Released before the call.
        let housekeeper = self.housekeeper.lock().take();
        housekeeper.into_iter().for_each(Waker::wake);
    }

    fn keep(&self, kept: Idle) {
        // Dropped after the lock is released.
        let mut closed = Vec::new();
        let mut idle = self.idle.lock();
        let place = idle.partition_point(|other| other.until <= kept.until);
        let route = kept.route.clone();
        idle.insert(place, kept);
        if idle.iter().filter(|idle| idle.route == route).count() > self.limits.route {
            let first = idle.iter().position(|idle| idle.route == route);
            closed.extend(first.map(|first| idle.remove(first)));
        }
        if idle.len() > self.limits.all {
            closed.push(idle.remove(0));
        }
    }

    /// Closes all idle pipes, for their memory.
    pub fn clear(&self) {
        // Dropped after the lock is released.
        let closed = std::mem::take(&mut *self.idle.lock());
        drop(closed);
    }

    /// Polls every idle pipe, and closes those that have been idle for long or on which something has happened. To be called again
    /// when `waker` was woken, at the time that is returned at the latest.
    pub fn poll(&self, now: Instant, waker: &Waker) -> Option<Instant> {
        *self.housekeeper.lock() = Some(waker.clone());
        // Meanwhile a call finds none, and opens a fresh one.
        let idle = std::mem::take(&mut *self.idle.lock());
        for mut idle in idle {
            if idle.until > now && is_silent(&mut *idle.pipe, waker) {
                self.keep(idle);
            }
        }
        self.idle.lock().first().map(|idle| idle.until)
    }
}

/// True when a pipe has neither ended nor brought bytes.
fn is_silent(pipe: &mut dyn Pipe, waker: &Waker) -> bool {
    pipe.poll_read(waker, &mut Vec::new(), 1).is_pending()
}
