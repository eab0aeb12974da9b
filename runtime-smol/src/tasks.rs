//! Handle of every task to the state that all drivers share, to the deadlines, and to the executor for more tasks.

use crate::bridge;
use crate::timer::Timers;
use mcp_local_provider_core::time::Instant;
use mcp_local_provider_engine::dial::BridgeDialler;
use mcp_local_provider_engine::{Clock, Engine, Outside, Usage};
use smol::Executor;
use std::future::Future;
use std::sync::{Arc, Weak};
use std::time::Duration;

/// A cheap handle.
#[derive(Clone, Debug)]
pub(crate) struct Tasks {
    pub engine: Arc<Engine>,
    pub timers: Timers,
    executor: Weak<Executor<'static>>,
}

impl Tasks {
    pub fn new(engine: Arc<Engine>, timers: Timers, executor: Weak<Executor<'static>>) -> Self {
        Self {
            engine,
            timers,
            executor,
        }
    }

    /// Runs a future beside all others. After the provider has stopped it does nothing.
    pub fn spawn(&self, future: impl Future<Output = ()> + Send + 'static) {
        if let Some(executor) = self.executor.upgrade() {
            executor.spawn(future).detach();
        }
    }
}

/// The system as the engine sees it.
pub(crate) struct System {
    pub clock: Clock,
    pub timers: Timers,
    /// Weak, because the tasks in it own the engine.
    pub executor: Weak<Executor<'static>>,
}

impl Outside for System {
    fn now(&self) -> Instant {
        self.clock.now()
    }

    fn unix(&self) -> Duration {
        self.clock.unix()
    }

    fn usage(&self) -> Usage {
        Usage::of_process()
    }

    fn dial(&self, bridge: BridgeDialler) {
        let tasks = Tasks::new(
            bridge.engine().clone(),
            self.timers.clone(),
            self.executor.clone(),
        );
        tasks.spawn(bridge::run(tasks.clone(), bridge));
    }
}
