//! Those who hear of changes of the registry: the registry's server, and streams. Files that they are subscribed to are looked at.

use super::Engine;
use super::registry_cell::RegistryCell;
use super::registry_handle::RegistryHandle;
use super::registry_needs::Served;
use crate::background::Background;
use mcp_local_provider_core::rpc::Message;
use mcp_local_provider_core::time::Instant;
use mcp_local_provider_registry::server::Served as Answered;
use mcp_local_provider_registry::{Failure, News, SubscriberId};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::task::{Poll, Waker};

/// Somebody who hears, until it is dropped.
pub(super) struct Hearing {
    engine: Arc<Engine>,
    cell: RegistryHandle,
    id: SubscriberId,
}

impl Drop for Hearing {
    fn drop(&mut self) {
        let mut data = self.cell.data.lock();
        data.registry.unsubscribe_all(self.id);
        data.hearers.remove(&self.id);
    }
}

impl Hearing {
    /// Somebody who hears of nothing yet.
    pub(super) fn new(engine: &Arc<Engine>, cell: &RegistryHandle) -> Self {
        Self {
            engine: engine.clone(),
            cell: cell.clone(),
            id: cell.subscriber(),
        }
    }

    /// Hears of the lists from now on.
    pub(super) fn listen(&self) {
        self.cell.data.lock().registry.listen(self.id);
    }

    /// Hears of a resource from now on.
    pub(super) fn subscribe(&self, uri: &str) -> Result<(), Failure> {
        let mut data = self.cell.data.lock();
        let subscribed = data.registry.subscribe(self.engine.clock(), uri, self.id);
        drop(data);
        self.look();
        subscribed
    }

    /// Handles a message of MCP, which may subscribe to a resource.
    pub(super) fn serve(&self, message: &Message<'_>) -> Answered {
        let mut data = self.cell.data.lock();
        let served = data.registry.serve(self.engine.clock(), message, self.id);
        drop(data);
        self.look();
        served
    }

    /// What there is to be told. `waker` is woken when there is more.
    pub(super) fn news(&self, waker: &Waker) -> News {
        let mut data = self.cell.data.lock();
        data.hearers.insert(self.id, waker.clone());
        data.registry.news(self.id)
    }

    /// Has files looked at from now on, if one is to be.
    fn look(&self) {
        let mut data = self.cell.data.lock();
        if let Some(waker) = data.looker.take() {
            drop(data);
            return waker.wake();
        }
        let begins = data.registry.is_watched() && !data.is_looked_at;
        data.is_looked_at |= begins;
        drop(data);
        if begins {
            self.engine.spawn(Box::new(Looks {
                engine: self.engine.clone(),
                cell: self.cell.clone(),
                open: BTreeMap::new(),
            }));
        }
    }
}

impl RegistryCell {
    /// Wakes those who have something to hear.
    pub(super) fn wake_hearers(&self) {
        let mut data = self.data.lock();
        let fresh = data.registry.fresh().into_iter();
        let wake: Vec<Waker> = fresh.filter_map(|id| data.hearers.remove(&id)).collect();
        drop(data);
        wake.into_iter().for_each(Waker::wake);
    }

    /// Wakes all who hear: keys may be gone, as which they go on.
    pub(crate) fn wake_all(&self) {
        let all = std::mem::take(&mut self.data.lock().hearers);
        all.into_values().for_each(Waker::wake);
    }
}

/// Looks at files while somebody is subscribed to something.
struct Looks {
    engine: Arc<Engine>,
    cell: RegistryHandle,
    /// Files that are being read.
    open: BTreeMap<Arc<str>, Served>,
}

impl fmt::Debug for Looks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Looks({} open)", self.open.len())
    }
}

impl Background for Looks {
    fn poll(&mut self, waker: &Waker) -> Poll<()> {
        let now = self.engine.now();
        let mut data = self.cell.data.lock();
        if !data.registry.is_watched() {
            (data.is_looked_at, data.looker) = (false, None);
            return Poll::Ready(());
        }
        data.looker = Some(waker.clone());
        let due = data.registry.looks(now);
        drop(data);
        for uri in due {
            let read = || Served::look(&self.engine, &self.cell, &uri);
            self.open.entry(uri.clone()).or_insert_with(read);
        }
        self.open.retain(|_, read| read.poll(now, waker).is_none());
        Poll::Pending
    }

    fn poll_timeout(&self) -> Option<Instant> {
        self.cell.data.lock().registry.poll_look()
    }
}
