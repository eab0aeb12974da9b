//! Handle of every task to the state that all drivers share, to the deadlines, and to the executor for more tasks.

use crate::dial::TcpPipe;
use crate::reactor::Reactor;
use crate::timer::Timers;
use async_executor::Executor;
use mcp_local_provider_core::time::Instant;
use mcp_local_provider_engine::pipe::{Endpoint, Pipe};
use mcp_local_provider_engine::{Background, Clock, Engine, Outside, Usage};
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::task::Poll;
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
    pub reactor: Reactor,
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

    fn dial(&self, endpoint: &Endpoint) -> Box<dyn Pipe> {
        Box::new(TcpPipe::new(endpoint, &self.reactor))
    }

    fn spawn(&self, work: Box<dyn Background>) {
        if let Some(executor) = self.executor.upgrade() {
            let timers = self.reactor.timers().clone();
            executor.spawn(run(work, timers)).detach();
        }
    }
}

/// Does background work to its end.
pub(crate) async fn run(mut work: impl Background, timers: Timers) {
    let clock = timers.clock();
    let mut sleep = timers.after(Duration::MAX);
    poll_fn(|cx| {
        loop {
            if work.poll(cx.waker()).is_ready() {
                return Poll::Ready(());
            }
            match work.poll_timeout() {
                Some(next) => sleep.reset(clock.system(next)),
                None => sleep.reset_after(Duration::MAX),
            }
            if Pin::new(&mut sleep).poll(cx).is_pending() {
                return Poll::Pending;
            }
        }
    })
    .await;
}
