//! A running provider, and how to start and stop it.

use crate::accept::accept;
use crate::demo;
use crate::dial::keep_bridge;
use crate::threads::Threads;
use mcp_local_provider_host::agents::Agents;
use mcp_local_provider_host::demo::{Agent, PATIENCE};
use mcp_local_provider_host::provider::dial::Target;
use mcp_local_provider_host::provider::listen::{Door, bind_all, reachable};
use mcp_local_provider_host::provider::{Config, Driver, Handle, Housekeeper, Shared, StartError};
use rustix::net::Shutdown;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::task::{Wake, Waker};
use std::thread::Thread;
use std::time::Duration;

/// How long threads have to end once their sockets are closed.
const ENDING: Duration = Duration::from_secs(2);

/// A running provider. It runs on threads of its own, so it fits beside any runtime or none.
///
/// Dropping it stops it at once; [`Provider::join`] lets it run until a [`Handle`] has shut it down.
///
/// ```
/// use mcp_local_provider_blocking::{Config, Provider};
/// use mcp_local_provider_core::config::HubConfig;
///
/// let provider = Provider::start(Config::new(HubConfig::default()))?;
/// println!("answering on http://{}", provider.addresses()[0]);
/// provider.handle().shutdown();
/// provider.join();
/// # Ok::<(), mcp_local_provider_blocking::StartError>(())
/// ```
#[derive(Debug)]
pub struct Provider {
    addresses: Vec<SocketAddr>,
    handle: Handle,
    threads: Threads,
    agents: Agents,
}

impl Provider {
    /// Starts a provider; it listens when this returns, and the demo agent is there if one was asked for.
    ///
    /// # Errors
    /// When an address cannot be listened on or the system gives no thread.
    pub fn start(config: Config) -> Result<Self, StartError> {
        Self::start_with(config, |threads, listener, _, door| {
            accept(threads, listener, door);
        })
    }

    /// `serve` accepts and answers on one listener, whose number is the third argument, until the provider stops.
    pub(crate) fn start_with(
        mut config: Config,
        serve: impl Fn(&Threads, &TcpListener, usize, Door) + Clone + Send + 'static,
    ) -> Result<Self, StartError> {
        let bound = bind_all(&mut config)?;
        let mut addresses = Vec::new();
        let mut listeners = Vec::new();
        // The last one that takes agents, because another engine may have the first.
        let mut agents_dial = None;
        for (listener, door) in bound {
            addresses.push(listener.local_addr()?);
            if door == Door::All {
                agents_dial = addresses.last().copied();
            }
            listeners.push((Arc::new(listener), door));
        }
        let shared = Shared::new(config.hub, config.audit)?;
        let threads = Threads::new(shared.clone());
        let provider = Self {
            agents: Agents::start(&shared, config.agents, &addresses)?,
            addresses,
            handle: Handle::new(shared.clone()),
            threads: threads.clone(),
        };
        let kept = listeners.iter().map(|(listener, _)| listener.clone());
        let (kept, own) = (kept.collect::<Vec<_>>(), threads.clone());
        threads.spawn("housekeeper", move || keep_house(&own, &kept))?;
        for (number, (listener, door)) in listeners.into_iter().enumerate() {
            let (own, serve) = (threads.clone(), serve.clone());
            threads.spawn("accept", move || serve(&own, &listener, number, door))?;
        }
        for bridge in config.bridges {
            let own = threads.clone();
            threads.spawn("bridge", move || keep_bridge(&own, bridge))?;
        }
        if let (Some(key), Some(address)) = (config.demo, agents_dial) {
            let url = format!("ws://{}/agent", reachable(address));
            let target = Target::new(&shared, url, None);
            let (sender, registered) = std::sync::mpsc::channel();
            let (own, agent) = (threads.clone(), Agent::new(key, sender));
            threads.spawn("demo", move || demo::run(&own, agent, target))?;
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
    pub fn join(self) {
        self.threads.wait_for_stop();
    }
}

impl Drop for Provider {
    fn drop(&mut self) {
        self.handle.stop();
        self.threads.join(ENDING);
        self.agents.join();
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

/// Ends the sleep of a thread.
struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Serves the hub and the shutdown, to its end, which closes every socket.
fn keep_house(threads: &Threads, listeners: &[Arc<TcpListener>]) {
    let shared = threads.shared();
    let clock = shared.clock();
    let mut housekeeper = Housekeeper::new(shared.clone());
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut drains = false;
    loop {
        let next = housekeeper.poll(&waker);
        if shared.is_draining() && !drains {
            drains = true;
            threads.end_idle();
        }
        if shared.is_stopped() {
            break;
        }
        match next {
            Some(next) => std::thread::park_timeout(clock.until(next)),
            None => std::thread::park(),
        }
    }
    for listener in listeners {
        // Who waits in `accept` comes back with an error.
        let _ = rustix::net::shutdown(listener, Shutdown::Both);
    }
    threads.end_all();
}
