//! MCP servers: programs that speak MCP over standard input and output, which the gateway of the engine has run here, and those that
//! are reached over HTTP or by a WebSocket.
//!
//! [`Servers`] gives each process that the gateway needs a thread, as [`Agents`](crate::agents::Agents) does for agents. A process
//! is started as the configuration has its server at that moment; a reload that changes that ends the sessions of the server.

mod error_lines;
mod plan;
mod process;
mod remote;
mod target;
#[cfg(test)]
mod tests;

pub(crate) use plan::ServerPlan;
pub(crate) use process::exit;

use crate::authorization::{Asking, Authorization, KeptLogin};
use crate::config::{Config, Gateway};
use crate::process::own_program;
use mcp_local_provider_core::config::REGISTRY_SERVER;
use mcp_local_provider_engine::gateway::{Child, Children};
use mcp_local_provider_engine::proxy::Proxies;
use mcp_local_provider_engine::tls::IS_BUILT_IN;
use mcp_local_provider_engine::{Engine, RegistryServer};
use process::{Runner, Surroundings};
use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::thread::JoinHandle;

/// The servers as they are configured now, by name.
#[derive(Debug, Default)]
struct Plans(Mutex<BTreeMap<String, Arc<ServerPlan>>>);

impl Plans {
    fn get(&self, name: &str) -> Option<Arc<ServerPlan>> {
        lock(&self.0).get(name).cloned()
    }

    /// Takes other servers over, and returns the names of those that were there and are started in another way now.
    fn replace(&self, config: &Config) -> Vec<String> {
        let line_bytes = config.gateway.message_bytes;
        let servers = config.mcp_servers.offered().map(|(name, server)| {
            let plan = ServerPlan::new(name, server, line_bytes);
            (name.to_owned(), Arc::new(plan))
        });
        let servers: BTreeMap<String, Arc<ServerPlan>> = servers.collect();
        let mut plans = lock(&self.0);
        let changed = servers.iter().filter(|(name, plan)| {
            let before = plans.get(*name);
            before.is_some_and(|before| !before.starts_as(plan))
        });
        let changed = changed.map(|(name, _)| name.clone()).collect();
        *plans = servers;
        changed
    }
}

/// Locks a mutex. What is behind it is whole even where a thread panicked: it is replaced as one, or entered as one.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The processes of the servers of a provider, each on a thread of its own. They end when the gateway ends them, which it does
/// when the provider stops.
pub(crate) struct Servers {
    /// The engine holds this.
    engine: Weak<Engine>,
    /// True once the engine has a gateway.
    is_open: AtomicBool,
    surroundings: Arc<Surroundings>,
    /// The section `gateway`, for the times of connections.
    config: Mutex<Gateway>,
    /// Logins at servers by their names.
    authorizations: Mutex<BTreeMap<String, Arc<Authorization>>>,
    /// Proxies of the environment, for those who give tokens.
    proxies: Proxies,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

impl fmt::Debug for Servers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Servers({} threads)", lock(&self.threads).len())
    }
}

impl Servers {
    /// Opens the gateway of `engine` as `config` has it. No process is started: the gateway asks for each when it is needed.
    ///
    /// # Errors
    /// Fails when this program cannot be found, which supervises the processes.
    pub(crate) fn open(engine: &Arc<Engine>, config: &Config) -> io::Result<Arc<Self>> {
        let servers = Arc::new(Self {
            engine: Arc::downgrade(engine),
            is_open: AtomicBool::new(false),
            surroundings: Arc::new(Surroundings {
                plans: Plans::default(),
                variables: std::env::vars_os().collect(),
                supervisor: Some(own_program()?),
            }),
            config: Mutex::default(),
            authorizations: Mutex::default(),
            proxies: engine.proxies().clone(),
            threads: Mutex::default(),
        });
        servers.take_over(config);
        Ok(servers)
    }

    /// Takes another configuration over.
    pub(crate) fn take_over(self: &Arc<Self>, config: &Config) {
        // The gateway may ask for a process at once.
        lock(&self.config).clone_from(&config.gateway);
        self.replace_authorizations(config);
        let changed = self.surroundings.plans.replace(config);
        let Some(engine) = self.engine.upgrade() else {
            return;
        };
        let gateway = config.gateway_beside(engine.has_registry());
        if self.is_open.load(Ordering::Acquire) {
            // One that is not to be there any more stays without servers.
            engine.reload_gateway(gateway.unwrap_or_default(), &changed);
        } else if let Some(gateway) = gateway {
            self.is_open.store(true, Ordering::Release);
            engine.open_gateway(gateway, self.clone());
        }
    }

    /// Knows the logins of these servers from now on. One at the same address stays as it is, with what others wait for.
    fn replace_authorizations(&self, config: &Config) {
        if !IS_BUILT_IN {
            return;
        }
        let mut authorizations = lock(&self.authorizations);
        let mut before = std::mem::take(&mut *authorizations);
        for (name, server) in config.mcp_servers.offered() {
            let Some(url) = server.url.as_deref().filter(|_| server.takes_logins()) else {
                continue;
            };
            let known = before.remove(name).filter(|known| known.url() == url);
            let authorization = known.unwrap_or_else(|| {
                let kept = KeptLogin::new(&config.data_dir, name);
                let asking = Asking::new(self.proxies.clone(), config.tls.ca_file.clone());
                Arc::new(Authorization::new(name, url, kept, asking))
            });
            authorizations.insert(name.to_owned(), authorization);
        }
    }

    /// Waits until all processes and renewals have ended, which they do when the provider has stopped.
    pub(crate) fn join(&self) {
        let authorizations = lock(&self.authorizations).clone();
        for authorization in authorizations.values() {
            authorization.join();
        }
        loop {
            let Some(thread) = lock(&self.threads).pop() else {
                return;
            };
            // A thread that panicked has reported so on standard error.
            let _ = thread.join();
        }
    }

    /// Gives a process a thread.
    fn spawn(&self, name: &str, run: impl FnOnce() + Send + 'static) -> io::Result<()> {
        let thread = std::thread::Builder::new().name(format!("server-{name}"));
        let thread = thread.spawn(run)?;
        let mut threads = lock(&self.threads);
        threads.retain(|thread| !thread.is_finished());
        threads.push(thread);
        Ok(())
    }
}

impl Children for Servers {
    fn run(&self, child: Child) -> io::Result<()> {
        let engine = self.engine.upgrade();
        // A session that is opened while the provider stops is none that the gateway ends.
        let engine = engine.filter(|engine| !engine.is_stopped());
        let engine = engine.ok_or_else(|| io::Error::other("the provider has stopped"))?;
        let name = child.server().clone();
        let plan = self.surroundings.plans.get(&name);
        let authorization = lock(&self.authorizations).get(&*name).cloned();
        if let Some(server) = plan.and_then(|plan| plan.remote(authorization)) {
            let config = lock(&self.config).clone();
            engine.spawn(server.task(child, &engine, &config));
            return Ok(());
        }
        if *name == *REGISTRY_SERVER {
            let registry = RegistryServer::new(child, engine.clone());
            let registry = registry.ok_or_else(|| io::Error::other("there is no registry"))?;
            engine.spawn(Box::new(registry));
            return Ok(());
        }
        let runner = Runner::new(child, engine, self.surroundings.clone())?;
        self.spawn(&name, move || runner.run())
    }
}
