//! Connections of clients: how many there are, and which of them makes room for a new one.
//!
//! A connection that waits for a request serves nobody. When all `limits.connections` are in use, the one that has waited
//! for longest is given up for the new one, so that strangers who are idle keep nobody out.

use super::engine::Engine;
use crate::ranked::{Ranked, TABLE};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::task::Waker;

/// Fewer connections than this leave no memory behind that is worth looking for.
const CROWD: usize = 256;

/// All connections of clients.
#[derive(Default)]
pub(super) struct Connections {
    count: AtomicUsize,
    /// The most there were since memory was given back.
    most: AtomicUsize,
    /// Number of the last wait for a request that has begun.
    last_wait: AtomicU64,
    /// The connections that wait for a request, the one that has waited for longest first.
    waiting: Ranked<BTreeMap<u64, Waker>, TABLE>,
}

impl Connections {
    pub(super) fn count(&self) -> usize {
        self.count.load(Ordering::Acquire)
    }

    /// True when most of a crowd has left since memory was given back.
    pub(super) fn has_thinned(&self) -> bool {
        is_thin(self.most.load(Ordering::Relaxed), self.count())
    }

    /// Memory is given back now.
    pub(super) fn begin_anew(&self) {
        self.most.store(self.count(), Ordering::Relaxed);
    }

    fn next_wait(&self) -> u64 {
        self.last_wait.fetch_add(1, Ordering::Relaxed)
    }
}

/// True when less than half of a crowd is there.
const fn is_thin(most: usize, count: usize) -> bool {
    most >= CROWD && count < most / 2
}

impl Engine {
    /// Counts a client connection in. When there are `limits.connections` already, the one that has waited for a request
    /// for longest is given up for it; when none waits, there is no room.
    pub fn connect(self: &Arc<Self>) -> Option<Client> {
        let limit = self.config().limits.connections;
        let connections = self.client_connections();
        let before = connections.count.fetch_add(1, Ordering::AcqRel);
        if before < limit {
            connections.most.fetch_max(before + 1, Ordering::Relaxed);
        } else {
            connections.count.fetch_sub(1, Ordering::AcqRel);
            // Its place goes over to the new one.
            let (_, waker) = connections.waiting.lock().pop_first()?;
            waker.wake();
        }
        Some(Client {
            engine: self.clone(),
            wait: connections.next_wait(),
            waits: false,
            given_up: false,
        })
    }
}

/// One client connection that counts against `limits.connections`.
pub struct Client {
    engine: Arc<Engine>,
    /// Number of the wait for a request, whether that goes on or something has come.
    wait: u64,
    /// It is among those that wait.
    waits: bool,
    /// Another connection has its place.
    given_up: bool,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Client({})", self.wait)
    }
}

impl Client {
    /// The engine that counts it.
    #[must_use]
    pub const fn engine(&self) -> &Arc<Engine> {
        &self.engine
    }

    /// The connection waits for a request, or for the rest of its head. From here on it may be given up for a new one, of
    /// which `waker` tells: then [`Client::stays`] is false. A wait that goes on keeps its age.
    pub fn waits(&mut self, waker: &Waker) {
        if self.stays() {
            let connections = self.engine.client_connections();
            let before = connections.waiting.lock().insert(self.wait, waker.clone());
            drop(before);
            self.waits = true;
        }
    }

    /// Something has come. False when the connection was given up meanwhile: close it. Else it is not given up before it
    /// waits again.
    pub fn stays(&mut self) -> bool {
        if std::mem::take(&mut self.waits) {
            let waker = self
                .engine
                .client_connections()
                .waiting
                .lock()
                .remove(&self.wait);
            self.given_up = waker.is_none();
        }
        !self.given_up
    }

    /// A request has come: the next wait is a new one. False as with [`Client::stays`].
    pub fn begins(&mut self) -> bool {
        let stays = self.stays();
        self.wait = self.engine.client_connections().next_wait();
        stays
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        if !self.stays() {
            return;
        }
        let connections = self.engine.client_connections();
        let before = connections.count.fetch_sub(1, Ordering::AcqRel);
        let most = connections.most.load(Ordering::Relaxed);
        let thins = is_thin(most, before - 1) && !is_thin(most, before);
        if thins || (before == 1 && self.engine.is_draining()) {
            self.engine.wake_housekeeper();
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::audit::Audit;
    use crate::outside::Outside;
    use mcp_local_provider_core::config::HubConfig;
    use mcp_local_provider_core::time::Instant;
    use std::time::Duration;

    struct Still;

    impl Outside for Still {
        fn now(&self) -> Instant {
            Instant::ZERO
        }

        fn unix(&self) -> Duration {
            Duration::ZERO
        }
    }

    #[test]
    fn the_connection_that_has_waited_for_longest_makes_room_and_one_that_is_served_does_not() {
        let mut config = HubConfig::default();
        config.limits.connections = 3;
        let engine = Engine::new(config, [7; 32], Arc::new(Still), Audit::off());
        let [mut first, mut second, mut served] = [(); 3].map(|()| engine.connect().unwrap());
        for client in [&mut second, &mut first, &mut served] {
            client.waits(Waker::noop());
        }
        assert!(served.begins());
        // Whoever came first waits for longest, whenever its driver said so.
        let mut third = engine.connect().unwrap();
        assert!(!first.stays() && second.stays());
        second.waits(Waker::noop());
        // A request begins a new wait, which is the youngest.
        third.waits(Waker::noop());
        assert!(second.begins());
        second.waits(Waker::noop());
        let fourth = engine.connect().unwrap();
        assert!(!third.stays() && second.stays());
        assert_eq!(engine.connections(), 3);
        // Nobody waits.
        assert!(engine.connect().is_none());
        drop((first, third));
        assert_eq!(engine.connections(), 3);
        drop((second, served, fourth));
        assert_eq!(engine.connections(), 0);
    }
}
