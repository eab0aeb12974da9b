//! A running provider, and how to start and stop it.

use crate::bridge::{self, Bridge};
use crate::connection;
use crate::demo;
use crate::dial::Target;
use crate::listen::{self, ListenError};
use crate::request::Door;
use crate::shared::Shared;
use event_listener::Event;
use futures_lite::future::or;
use mcp_local_provider_core::config::HubConfig;
use mcp_local_provider_core::link::{CloseCode, Command};
use mcp_local_provider_host::audit::AuditSink;
use smol::{Async, Executor};
use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// How long agents have to close their links once all answers are done.
const FAREWELL: Duration = Duration::from_secs(2);

/// How long a start waits for the demo agent to be there.
const DEMO_PATIENCE: Duration = Duration::from_secs(2);

/// What a provider is made from.
#[derive(Debug)]
pub struct Config {
    /// Addresses to listen on; port 0 picks a free one.
    pub listen: Vec<SocketAddr>,
    /// Addresses to listen on as well if they are free.
    pub listen_if_free: Vec<SocketAddr>,
    /// An address where nothing but health and metrics is answered.
    pub listen_metrics: Option<SocketAddr>,
    /// Sockets that listen already, handed over by a service manager say.
    pub listening: Vec<TcpListener>,
    /// Limits, timeouts, keys and everything else that the core decides by.
    pub hub: HubConfig,
    /// Threads that run it; 0 chooses, which is one.
    pub threads: usize,
    /// Bridges to dial.
    pub bridges: Vec<Bridge>,
    /// Runs the demo agent with this bridge key.
    pub demo: Option<String>,
    /// Where audit records go.
    pub audit: AuditSink,
}

impl Config {
    /// Listens on a free port of this machine, writes no audit records and dials nobody.
    #[must_use]
    pub fn new(hub: HubConfig) -> Self {
        Self {
            listen: vec![SocketAddr::from((Ipv4Addr::LOCALHOST, 0))],
            listen_if_free: Vec::new(),
            listen_metrics: None,
            listening: Vec::new(),
            hub,
            threads: 0,
            bridges: Vec::new(),
            demo: None,
            audit: AuditSink::off(),
        }
    }
}

/// Why a provider did not start. Its text is one sentence.
#[derive(Debug)]
pub enum StartError {
    /// An address cannot be listened on.
    Listen(ListenError),
    /// The system gives no randomness or no thread.
    System(io::Error),
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Listen(error) => error.fmt(f),
            Self::System(error) => write!(f, "the system refuses what is needed to run: {error}"),
        }
    }
}

impl std::error::Error for StartError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Listen(error) => Some(error),
            Self::System(error) => Some(error),
        }
    }
}

impl From<ListenError> for StartError {
    fn from(error: ListenError) -> Self {
        Self::Listen(error)
    }
}

impl From<io::Error> for StartError {
    fn from(error: io::Error) -> Self {
        Self::System(error)
    }
}

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
    /// Declared last: what is still open ends with it.
    executor: Arc<Executor<'static>>,
}

/// Stops a [`Provider`] from anywhere.
#[derive(Clone)]
pub struct Handle(Arc<Control>);

struct Control {
    shared: Arc<Shared>,
    /// Set once everything has ended.
    stopped: AtomicBool,
    stop: Event,
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Handle({:?})", self.0.shared)
    }
}

impl Handle {
    /// Begins to shut down, and returns. Nothing new is admitted, answers under way get `timeouts.drain`, then the agents'
    /// links are closed with code 1001. Called again it does nothing.
    pub fn shutdown(&self) {
        let shared = &self.0.shared;
        if !shared.is_draining() {
            shared.begin_drain();
            let control = self.0.clone();
            shared.spawn(async move { control.drain().await });
        }
    }

    /// Stops without waiting for anything.
    pub fn stop(&self) {
        self.0.stop();
    }
}

impl Control {
    fn stop(&self) {
        self.stopped.store(true, Ordering::Release);
        self.stop.notify(usize::MAX);
    }

    async fn stopped(&self) {
        loop {
            let listener = self.stop.listen();
            if self.stopped.load(Ordering::Acquire) {
                return;
            }
            listener.await;
        }
    }

    /// Waits for the answers under way, then for the agents to close.
    async fn drain(&self) {
        let shared = &self.shared;
        let patience = shared.timers.after(shared.config.timeouts.drain);
        let answered = async {
            loop {
                let idle = shared.idle.listen();
                if shared.connections() == 0 {
                    return;
                }
                idle.await;
            }
        };
        or(answered, patience).await;
        for link in shared.links() {
            link.command(shared.timers.now(), Command::Close(CloseCode::GoingAway));
        }
        let farewell = shared.timers.after(FAREWELL);
        let closed = async {
            while shared.link_tasks() > 0 {
                shared.timers.after(Duration::from_millis(5)).await;
            }
        };
        or(closed, farewell).await;
        self.stop();
    }
}

impl Provider {
    /// Starts a provider; it listens when this returns, and the demo agent is there if one was asked for.
    ///
    /// # Errors
    /// When an address cannot be listened on or the system gives no thread.
    pub fn start(config: Config) -> Result<Self, StartError> {
        let mut listeners = config
            .listening
            .into_iter()
            .map(Async::new)
            .collect::<io::Result<Vec<_>>>()?;
        for address in config.listen {
            listeners.push(listen::bind(address)?);
        }
        for address in config.listen_if_free {
            match listen::bind(address) {
                Ok(listener) => listeners.push(listener),
                Err(error) => tracing::info!("going on without it: {error}"),
            }
        }
        let doors = listeners.len();
        if let Some(address) = config.listen_metrics {
            listeners.push(listen::bind(address)?);
        }
        let addresses = listeners
            .iter()
            .map(|listener| listener.get_ref().local_addr())
            .collect::<io::Result<Vec<_>>>()?;
        let mut seed = [0; 32];
        getrandom::fill(&mut seed).map_err(io::Error::from)?;
        let executor = Arc::new(Executor::new());
        let shared = Arc::new(Shared::new(config.hub, seed, config.audit, &executor));
        let control = Arc::new(Control {
            shared: shared.clone(),
            stopped: AtomicBool::new(false),
            stop: Event::new(),
        });
        let (clock, hub) = (shared.timers.clone(), shared.clone());
        shared.spawn(async move { clock.run().await });
        shared.spawn(async move { hub.run_hub().await });
        for (at, listener) in listeners.into_iter().enumerate() {
            let door = if at < doors { Door::All } else { Door::Reports };
            shared.spawn(accept(shared.clone(), listener, door));
        }
        for bridge in config.bridges {
            shared.spawn(bridge::run(shared.clone(), bridge));
        }
        let mut demo_registered = None;
        if let (Some(key), Some(address)) = (config.demo, addresses.first()) {
            let target = Target {
                url: format!("ws://{}/agent", reachable(*address)),
                token: Some(key),
                frame_bytes: shared.link_config.frame_bytes,
                write_timeout: shared.config.timeouts.write,
            };
            let (sender, receiver) = std::sync::mpsc::channel();
            shared.spawn(demo::run(target, shared.timers.clone(), sender));
            demo_registered = Some(receiver);
        }
        let mut provider = Self {
            addresses,
            handle: Handle(control),
            threads: Vec::new(),
            executor,
        };
        for number in 0..threads(config.threads) {
            let executor = provider.executor.clone();
            let control = provider.handle.0.clone();
            let thread = std::thread::Builder::new()
                .name(format!("smol-{number}"))
                .spawn(move || smol::block_on(executor.run(control.stopped())))?;
            provider.threads.push(thread);
        }
        if let Some(registered) = demo_registered {
            // A newcomer's first paste is to be answered. Should the agent be late, it is served all the same.
            let _ = registered.recv_timeout(DEMO_PATIENCE);
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
    }
}

impl Drop for Provider {
    fn drop(&mut self) {
        self.handle.stop();
        self.join_threads();
    }
}

/// Accepts connections for ever.
async fn accept(shared: Arc<Shared>, listener: Async<TcpListener>, door: Door) {
    let timers = shared.timers.clone();
    listen::accept(&listener, &timers, |socket, peer| match shared.connect() {
        Some(connected) => shared.spawn(connection::serve(
            shared.clone(),
            connected,
            socket,
            peer,
            door,
        )),
        None => shared.spawn(connection::refuse(shared.timers.clone(), socket)),
    })
    .await;
}

/// The address that reaches a listener from this machine.
fn reachable(mut address: SocketAddr) -> SocketAddr {
    match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => address.set_ip(Ipv4Addr::LOCALHOST.into()),
        IpAddr::V6(ip) if ip.is_unspecified() => address.set_ip(Ipv6Addr::LOCALHOST.into()),
        _ => {}
    }
    address
}

/// One thread serves many thousands of streams with the least work: a second one was measured to cost a tenth more
/// processor time for each of many requests at once, and half as much again for one at a time, because tasks wake each
/// other across threads.
fn threads(configured: usize) -> usize {
    configured.clamp(1, 256)
}
