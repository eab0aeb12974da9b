//! A running provider, and how to start and stop it.

use crate::connection;
use crate::listen;
use crate::reactor::{Reactor, Registered};
use crate::tasks::{System, Tasks};
use crate::timer::Timers;
use async_executor::Executor;
use mcp_local_provider_core::api::Listener;
use mcp_local_provider_engine::listen::bind_all;
use mcp_local_provider_engine::tls::Trust;
use mcp_local_provider_engine::{
    Clock, Config, Driver, Engine, Handle, Housekeeper, StartError, later, random_seed,
};
use std::future::{Future, poll_fn};
use std::net::{SocketAddr, TcpListener};
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// A running provider. It runs on threads of its own, so it fits beside any runtime or none.
///
/// Dropping it stops it at once; [`Provider::join`] lets it run until a [`Handle`] has shut it down.
///
/// ```
/// use mcp_local_provider::{Config, Provider};
/// use mcp_local_provider_core::config::HubConfig;
///
/// let provider = Provider::start(Config::new(HubConfig::default()))?;
/// println!("answering on http://{}", provider.addresses()[0]);
/// provider.handle().shutdown();
/// provider.join();
/// # Ok::<(), mcp_local_provider::StartError>(())
/// ```
#[derive(Debug)]
pub struct Provider {
    addresses: Vec<SocketAddr>,
    handle: Handle,
    engine: Arc<Engine>,
    threads: Vec<JoinHandle<()>>,
    /// Declared last: what is still open ends with it.
    executor: Arc<Executor<'static>>,
}

impl Provider {
    /// Starts a provider; it listens when this returns.
    ///
    /// # Errors
    /// When an address cannot be listened on or the system gives no thread.
    pub fn start(mut config: Config) -> Result<Self, StartError> {
        let clock = Clock::start();
        let timers = Timers::new(clock);
        let reactor = Reactor::new(timers.clone())?;
        let mut listeners = Vec::new();
        let mut addresses = Vec::new();
        for (listener, on) in bind_all(&mut config)? {
            addresses.push(listener.local_addr()?);
            listener.set_nonblocking(true)?;
            listeners.push((reactor.register(listener)?, on));
        }
        let executor = Arc::new(Executor::new());
        let outside = System {
            clock,
            reactor: reactor.clone(),
            executor: Arc::downgrade(&executor),
        };
        let engine = Engine::new(config.hub, random_seed()?, Arc::new(outside), config.audit);
        engine.expect_agents(&config.agents);
        let tasks = Tasks::new(engine.clone(), timers, Arc::downgrade(&executor));
        let housekeeper = Housekeeper::new(engine.clone());
        tasks.spawn(keep_house(tasks.clone(), housekeeper));
        for (listener, on) in listeners {
            tasks.spawn(accept(tasks.clone(), listener, on));
        }
        engine.set_trust(Trust::new(config.ca_file));
        engine.set_proxies(config.proxies);
        engine.dial(config.bridges);
        engine.ask_upstreams(&config.upstreams);
        let mut provider = Self {
            addresses,
            handle: Handle::new(engine.clone()),
            engine,
            threads: Vec::new(),
            executor,
        };
        for number in 0..threads(config.threads) {
            let executor = provider.executor.clone();
            let engine = provider.engine.clone();
            let reactor = reactor.clone();
            let thread = std::thread::Builder::new()
                .name(format!("smol-{number}"))
                .spawn(move || reactor.block_on(executor.run(stopped(&engine))))?;
            provider.threads.push(thread);
        }
        Ok(provider)
    }

    /// Addresses that it listens on, in the order of the configuration; last the one that answers with metrics alone.
    #[must_use]
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// A way to stop it.
    #[must_use]
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// Waits until it has stopped.
    pub fn join(mut self) {
        self.join_threads();
    }

    fn join_threads(&mut self) {
        for thread in self.threads.drain(..) {
            // A thread that panicked has said so.
            let _ = thread.join();
        }
    }
}

impl Drop for Provider {
    fn drop(&mut self) {
        self.handle.stop();
        self.join_threads();
    }
}

impl Driver for Provider {
    fn start(config: Config) -> Result<Self, StartError> {
        Self::start(config)
    }

    fn addresses(&self) -> &[SocketAddr] {
        self.addresses()
    }

    fn engine(&self) -> &Arc<Engine> {
        &self.engine
    }

    fn handle(&self) -> Handle {
        self.handle()
    }

    fn join(self) {
        self.join();
    }
}

/// Accepts connections for ever.
async fn accept(tasks: Tasks, listener: Registered<TcpListener>, on: Listener) {
    listen::accept(&listener, &tasks.timers, |socket, peer| {
        match tasks.engine.connect() {
            Some(client) => {
                let serving = connection::serve(tasks.clone(), client, socket, peer, on);
                tasks.spawn(serving);
            }
            None => tasks.spawn(connection::refuse(tasks.timers.clone(), socket)),
        }
    })
    .await;
}

/// Serves the hub and the shutdown, to its end.
async fn keep_house(tasks: Tasks, mut housekeeper: Housekeeper) {
    let clock = tasks.timers.clock();
    let mut sleep = tasks.timers.after(Duration::MAX);
    poll_fn(|cx| {
        loop {
            let next = housekeeper.poll(cx.waker());
            sleep.reset(next.map_or_else(
                || later(Instant::now(), Duration::MAX),
                |next| clock.system(next),
            ));
            if Pin::new(&mut sleep).poll(cx).is_pending() {
                return Poll::<()>::Pending;
            }
        }
    })
    .await;
}

/// Ready once nothing is to run any more.
async fn stopped(engine: &Engine) {
    loop {
        let stop = engine.listen_for_stop();
        if engine.is_stopped() {
            return;
        }
        stop.await;
    }
}

/// One thread serves many thousands of streams with the least work: a second one was measured to cost a tenth more
/// processor time for each of many requests at once, and half as much again for one at a time, because tasks wake each
/// other across threads.
fn threads(configured: usize) -> usize {
    configured.clamp(1, 256)
}
