//! A running provider, and how to start and stop it.

use crate::accept::accept;
use crate::threads::{System, Threads};
use mcp_local_provider_core::api::Listener;
use mcp_local_provider_engine::listen::bind_all;
use mcp_local_provider_engine::tls::Trust;
use mcp_local_provider_engine::{
    Clock, Config, Driver, Engine, Handle, Housekeeper, StartError, random_seed,
};
use rustix::net::Shutdown;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::task::{Wake, Waker};
use std::thread::Thread;
use std::time::Duration;

/// Time in which threads have to end once their sockets are closed.
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
}

impl Provider {
    /// Starts a provider; it listens when this returns.
    ///
    /// # Errors
    /// When an address cannot be listened on or the system gives no thread.
    pub fn start(config: Config) -> Result<Self, StartError> {
        Self::start_with(config, |threads, listener, _, on| {
            accept(threads, listener, on);
        })
    }

    /// `serve` accepts and answers on one listener, whose number is the third argument, until the provider stops.
    pub(crate) fn start_with(
        mut config: Config,
        serve: impl Fn(&Threads, &TcpListener, usize, Listener) + Clone + Send + 'static,
    ) -> Result<Self, StartError> {
        let bound = bind_all(&mut config)?;
        let mut addresses = Vec::new();
        let mut listeners = Vec::new();
        for (listener, on) in bound {
            addresses.push(listener.local_addr()?);
            listeners.push((Arc::new(listener), on));
        }
        let clock = Clock::start();
        let outside = Arc::new(System::new(clock));
        let engine = Engine::new(config.hub, random_seed()?, outside.clone(), config.audit);
        engine.expect_agents(&config.agents);
        let threads = Threads::new(engine.clone(), clock);
        outside.set_threads(&threads);
        let provider = Self {
            addresses,
            handle: Handle::new(engine.clone()),
            threads: threads.clone(),
        };
        let kept = listeners.iter().map(|(listener, _)| listener.clone());
        let (kept, own) = (kept.collect::<Vec<_>>(), threads.clone());
        let housekeeper = Housekeeper::new(engine.clone());
        threads.spawn("housekeeper", move || keep_house(&own, housekeeper, &kept))?;
        for (number, (listener, on)) in listeners.into_iter().enumerate() {
            let (own, serve) = (threads.clone(), serve.clone());
            threads.spawn("accept", move || serve(&own, &listener, number, on))?;
        }
        engine.set_trust(Trust::new(config.ca_file));
        engine.set_proxies(config.proxies);
        engine.dial(config.bridges);
        engine.ask_upstreams(&config.upstreams);
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
    pub fn join(self) {
        self.threads.wait_for_stop();
    }
}

impl Drop for Provider {
    fn drop(&mut self) {
        self.handle.stop();
        self.threads.join(ENDING);
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
        self.threads.engine()
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
fn keep_house(threads: &Threads, mut housekeeper: Housekeeper, listeners: &[Arc<TcpListener>]) {
    let engine = threads.engine();
    let clock = threads.clock();
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut drains = false;
    loop {
        let next = housekeeper.poll(&waker);
        if engine.is_draining() && !drains {
            drains = true;
            threads.end_idle();
        }
        if engine.is_stopped() {
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
