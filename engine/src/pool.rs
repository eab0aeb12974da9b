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
    /// 128 of a route, 256 of all, 60 s. Fewer than a server is asked at once would open connections anew all the time.
    fn default() -> Self {
        Self {
            route: 128,
            all: 256,
            idle: Duration::from_secs(60),
        }
    }
}

/// Time between two looks at the idle pipes. A look for each request would cost more than the pool saves.
pub const LOOK: Duration = Duration::from_secs(1);

/// Idle pipes by their routes. Whoever takes one has it alone.
///
/// The housekeeper looks at them every [`LOOK`]: a pipe that has ended or brought bytes while it was idle, and one that is idle for
/// long, is closed.
pub struct Pool {
    limits: PoolLimits,
    state: Ranked<State, LEAF>,
}

#[derive(Default)]
struct State {
    /// From the one that has been idle for longest.
    idle: Vec<Idle>,
    /// Time of the next look; none while nothing is idle.
    look: Option<Instant>,
    /// Woken when a look is due earlier than it knows.
    housekeeper: Option<Waker>,
}

struct Idle {
    route: Route,
    pipe: Box<dyn Pipe>,
    until: Instant,
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let idle = self.state.lock().idle.len();
        write!(f, "Pool({idle} idle, {:?})", self.limits)
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
            state: Ranked::default(),
        }
    }

    /// Takes the pipe of an equal route that has been idle for the shortest time, if nothing has happened on it.
    pub fn take(&self, now: Instant, route: &Route) -> Option<Box<dyn Pipe>> {
        loop {
            let mut found = {
                let idle = &mut self.state.lock().idle;
                let place = idle.iter().rposition(|idle| idle.route == *route)?;
                idle.remove(place)
            };
            if found.until > now && is_silent(&mut *found.pipe) {
                return Some(found.pipe);
            }
        }
    }

    /// Keeps a pipe whose server waits for another request. Beyond a limit the one that has been idle for longest is closed.
    pub fn put(&self, now: Instant, route: Route, pipe: Box<dyn Pipe>) {
        let until = now + self.limits.idle;
        self.keep(Idle { route, pipe, until });
        // Released before the call.
        let housekeeper = {
            let state = &mut *self.state.lock();
            if state.look.is_some() {
                None
            } else {
                state.look = Some(now + LOOK);
                state.housekeeper.take()
            }
        };
        housekeeper.into_iter().for_each(Waker::wake);
    }

    fn keep(&self, kept: Idle) {
        // Dropped after the lock is released.
        let mut closed = Vec::new();
        let idle = &mut self.state.lock().idle;
        let place = idle.partition_point(|other| other.until < kept.until);
        let full = (idle.len() >= self.limits.route).then(|| kept.route.clone());
        idle.insert(place, kept);
        if let Some(route) = full
            && idle.iter().filter(|idle| idle.route == route).count() > self.limits.route
        {
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
        let closed = std::mem::take(&mut self.state.lock().idle);
        drop(closed);
    }

    /// Looks at every idle pipe when that is due, and closes those that have been idle for long or on which something has happened.
    /// To be called again when `waker` was woken, at the time that is returned at the latest.
    pub fn poll(&self, now: Instant, waker: &Waker) -> Option<Instant> {
        {
            let state = &mut *self.state.lock();
            state.housekeeper = Some(waker.clone());
            if state.look.is_none_or(|look| look > now) {
                return state.look;
            }
        }
        let mut place = 0;
        // One after the other, so that a call meanwhile finds the others.
        while let Some(mut idle) = self.take_at(place) {
            if idle.until > now && is_silent(&mut *idle.pipe) {
                self.keep(idle);
                place += 1;
            }
        }
        let state = &mut *self.state.lock();
        let first = state.idle.first().map(|idle| idle.until);
        state.look = first.map(|first| first.min(now + LOOK));
        state.look
    }

    fn take_at(&self, place: usize) -> Option<Idle> {
        let idle = &mut self.state.lock().idle;
        (place < idle.len()).then(|| idle.remove(place))
    }
}

/// True when a pipe has neither ended nor brought bytes.
fn is_silent(pipe: &mut dyn Pipe) -> bool {
    pipe.poll_read(Waker::noop(), &mut Vec::new(), 1)
        .is_pending()
}
