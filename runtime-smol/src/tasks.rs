//! What every task has at hand: what all drivers share, the deadlines, and the executor for more tasks.

use crate::timer::Timers;
use mcp_local_provider_host::provider::Shared;
use smol::Executor;
use std::future::Future;
use std::sync::{Arc, Weak};

/// A cheap handle.
#[derive(Clone, Debug)]
pub(crate) struct Tasks {
    pub shared: Arc<Shared>,
    pub timers: Timers,
    executor: Weak<Executor<'static>>,
}

impl Tasks {
    pub fn new(shared: Arc<Shared>, executor: &Arc<Executor<'static>>) -> Self {
        Self {
            timers: Timers::new(shared.clock()),
            shared,
            executor: Arc::downgrade(executor),
        }
    }

    /// Runs a future beside all others. After the provider has stopped it does nothing.
    pub fn spawn(&self, future: impl Future<Output = ()> + Send + 'static) {
        if let Some(executor) = self.executor.upgrade() {
            executor.spawn(future).detach();
        }
    }
}
