//! A running provider, and how to start and stop it.

use crate::bridge;
use crate::connection;
use crate::demo;
use crate::listen;
use crate::tasks::Tasks;
use mcp_local_provider_host::agents::Agents;
use mcp_local_provider_host::demo::{Agent, PATIENCE};
use mcp_local_provider_host::provider::dial::Target;
use mcp_local_provider_host::provider::listen::{Door, bind_all, reachable};
use mcp_local_provider_host::provider::{
    Config, Driver, Handle, Housekeeper, Shared, StartError, later,
};
use smol::{Async, Executor};
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
    threads: Vec<JoinHandle<()>>,
    agents: Agents,
    /// Declared last: what is still open ends with it.
    executor: Arc<Executor<'static>>,
}

impl Provider {
    /// Starts a provider; it listens when this returns, and the demo agent is there if one was asked for.
    ///
    /// # Errors
    /// When an address cannot be listened on or the system gives no thread.
    pub fn start(mut config: Config) -> Result<Self, StartError> {
        let mut listeners = Vec::new();
        let mut addresses = Vec::new();
        for (listener, door) in bind_all(&mut config)? {
            addresses.push(listener.local_addr()?);
            listeners.push((Async::new(listener)?, door));
        }
        let shared = Shared::new(config.hub, config.audit)?;
        let executor = Arc::new(Executor::new());
        let tasks = Tasks::new(shared.clone(), &executor);
        let clock = tasks.timers.clone();
        tasks.spawn(async move { clock.run().await });
        tasks.spawn(keep_house(tasks.clone()));
        for (listener, door) in listeners {
            tasks.spawn(accept(tasks.clone(), listener, door));
        }
        for bridge in config.bridges {
            tasks.spawn(bridge::run(tasks.clone(), bridge));
        }
        let mut demo_registered = None;
        if let (Some(key), Some(address)) = (config.demo, addresses.first()) {
            let url = format!("ws://{}/agent", reachable(*address));
            let target = Target::new(&shared, url, None);
            let (sender, receiver) = std::sync::mpsc::channel();
            let agent = Agent::new(key, sender);
            tasks.spawn(demo::run(agent, target, tasks.timers.clone()));
            demo_registered = Some(receiver);
        }
        let mut provider = Self {
            agents: Agents::start(&shared, config.agents, &addresses)?,
            addresses,
            handle: Handle::new(shared.clone()),
            threads: Vec::new(),
            executor,
        };
        for number in 0..threads(config.threads) {
            let executor = provider.executor.clone();
            let shared = shared.clone();
            let thread = std::thread::Builder::new()
                .name(format!("smol-{number}"))
                .spawn(move || smol::block_on(executor.run(stopped(&shared))))?;
            provider.threads.push(thread);
        }
        if let Some(registered) = demo_registered {
            // A newcomer's first paste is to be answered. Should the agent be late, it is served all the same.
            let _ = registered.recv_timeout(PATIENCE);
        }
        Ok(provider)
    }

    /// Where it listens, in the order of the configuration; last where it answers with metrics alone.
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
        self.agents.join();
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

    fn handle(&self) -> Handle {
        self.handle()
    }

    fn join(self) {
        self.join();
    }
}

/// Accepts connections for ever.
async fn accept(tasks: Tasks, listener: Async<TcpListener>, door: Door) {
    listen::accept(&listener, &tasks.timers, |socket, peer| {
        match tasks.shared.connect() {
            Some(client) => {
                let serving = connection::serve(tasks.clone(), client, socket, peer, door);
                tasks.spawn(serving);
            }
            None => tasks.spawn(connection::refuse(tasks.timers.clone(), socket)),
        }
    })
    .await;
}

/// Serves the hub and the shutdown, to its end.
async fn keep_house(tasks: Tasks) {
    let mut housekeeper = Housekeeper::new(tasks.shared.clone());
    let clock = tasks.shared.clock();
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
async fn stopped(shared: &Shared) {
    loop {
        let stop = shared.listen_for_stop();
        if shared.is_stopped() {
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
