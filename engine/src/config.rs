//! Configuration of a provider, and the errors of its start.

use super::listen::ListenError;
use crate::audit::Audit;
use crate::proxy::Proxies;
use mcp_local_provider_core::agents::upstream::Api;
use mcp_local_provider_core::config::{CircuitLimits, HubConfig};
use mcp_local_provider_core::hub::sessions::Registration;
use mcp_local_provider_core::invocation::InvokeForm;
use std::fmt;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::PathBuf;
use std::time::Duration;

/// An external bridge: a WebSocket server that is dialled, and whose connection is a link like any other.
#[derive(Clone)]
pub struct Bridge {
    /// For logs.
    pub name: String,
    /// `ws://host:port/path`, or `wss:` for TLS.
    pub url: String,
    /// Shown to the bridge as `Authorization: Bearer`.
    pub token: Option<String>,
    /// Times of dialling and of signs of life.
    pub times: BridgeTimes,
    /// The form in which its agents are asked, but for those that register with another.
    pub form: InvokeForm,
    /// The session that it has without a registration.
    pub session: Option<Registration>,
}

/// Times of a bridge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BridgeTimes {
    /// Longest time of one dial, from the look-up of the name to the open WebSocket.
    pub connect: Duration,
    /// Between pings.
    pub heartbeat: Duration,
    /// For a sign of life after a ping.
    pub heartbeat_timeout: Duration,
    /// Bound of the first pause before another dial; it doubles with each that fails.
    pub reconnect_delay: Duration,
    /// Highest bound of a pause.
    pub reconnect_max_delay: Duration,
    /// Number of dials in a row that may fail before the bridge is given up; `None` is for ever.
    pub reconnect_attempts: Option<u32>,
}

impl Default for BridgeTimes {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(30),
            heartbeat: Duration::from_secs(30),
            heartbeat_timeout: Duration::from_secs(10),
            reconnect_delay: Duration::from_secs(1),
            reconnect_max_delay: Duration::from_secs(60),
            reconnect_attempts: None,
        }
    }
}

impl Bridge {
    /// A bridge whose agents register themselves, with the usual times.
    #[must_use]
    pub fn new(name: &str, url: String, token: Option<String>) -> Self {
        Self {
            name: name.into(),
            url,
            token,
            times: BridgeTimes::default(),
            form: InvokeForm::default(),
            session: None,
        }
    }
}

impl fmt::Debug for Bridge {
    /// Without the token, which the address may hold too.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Bridge({})", self.name)
    }
}

/// A server of models that is asked in its own API.
#[derive(Clone)]
pub struct Upstream {
    /// Its name, which its models have before their own: `NAME/MODEL`.
    pub name: String,
    /// The API that it speaks.
    pub api: Api,
    /// Base address with the scheme `http` or `https`: up to `/v1` for OpenAI's API, without a path for the others.
    pub url: String,
    /// Its key; `None` sends none.
    pub key: Option<String>,
    /// The models that it is asked for, by its own names; its own list when empty.
    pub models: Vec<String>,
    /// Time after which its list is read anew.
    pub models_ttl: Duration,
    /// Further attempts after one that failed before the first byte of an answer.
    pub retries: u32,
    /// Requests at once; `None` is no limit.
    pub concurrency: Option<usize>,
    /// Requests in a minute; `None` is no limit.
    pub requests_per_minute: Option<u32>,
    /// Tokens in a minute, of prompts (estimated) and `max_tokens` together; `None` is no limit.
    pub tokens_per_minute: Option<u32>,
    /// Longest time of a connection's start: look-up of the name, TCP, proxy and TLS. A request waits as long for the first list
    /// of models.
    pub connect_timeout: Duration,
    /// The failures after which it is left alone.
    pub circuit: CircuitLimits,
}

impl Upstream {
    /// An upstream without a key, with the usual limits and times and the models of its own list.
    #[must_use]
    pub fn new(name: &str, api: Api, url: &str) -> Self {
        Self {
            name: name.into(),
            api,
            url: url.into(),
            key: None,
            models: Vec::new(),
            models_ttl: Duration::from_secs(600),
            retries: 2,
            concurrency: Some(64),
            requests_per_minute: None,
            tokens_per_minute: None,
            connect_timeout: Duration::from_secs(10),
            circuit: CircuitLimits::default(),
        }
    }
}

impl fmt::Debug for Upstream {
    /// Without the key, which the address may hold too.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Upstream({}, {})", self.name, self.api.as_str())
    }
}

/// Listening for programs that look for an Ollama: those on this machine need no key there, unless
/// [`HubConfig::ollama_auth_required`] says so.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ListenOllama {
    /// At no address of their own.
    #[default]
    Off,
    /// At this address if it is free; else the provider starts without it.
    IfFree(SocketAddr),
    /// At this address.
    At(SocketAddr),
}

/// Configuration of a provider.
pub struct Config {
    /// Addresses to listen on; port 0 picks a free one.
    pub listen: Vec<SocketAddr>,
    /// Address for programs that look for an Ollama.
    pub listen_ollama: ListenOllama,
    /// An address where nothing but health and metrics is answered.
    pub listen_metrics: Option<SocketAddr>,
    /// Sockets that listen already, handed over by a service manager say.
    pub listening: Vec<TcpListener>,
    /// Limits, timeouts, keys and everything else that the core decides by.
    pub hub: HubConfig,
    /// Threads that run it, where the runtime has a choice; 0 lets it choose.
    pub threads: usize,
    /// Bridges to dial.
    pub bridges: Vec<Bridge>,
    /// Servers of models that are asked in their own APIs.
    pub upstreams: Vec<Upstream>,
    /// PEM file of root certificates that are trusted beside the system's.
    pub ca_file: Option<PathBuf>,
    /// Proxies by which servers are dialled.
    pub proxies: Proxies,
    /// Agents that will be started on links of their own, each with the time that requests wait for it to register.
    pub agents: Vec<(String, Duration)>,
    /// Destination of audit records.
    pub audit: Audit,
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config")
            .field("listen", &self.listen)
            .field("hub", &self.hub)
            .field("bridges", &self.bridges)
            .field("upstreams", &self.upstreams)
            .finish_non_exhaustive()
    }
}

impl Config {
    /// Listens on a free port of this machine, writes no audit records and dials nobody.
    #[must_use]
    pub fn new(hub: HubConfig) -> Self {
        Self {
            listen: vec![SocketAddr::from((Ipv4Addr::LOCALHOST, 0))],
            listen_ollama: ListenOllama::Off,
            listen_metrics: None,
            listening: Vec::new(),
            hub,
            threads: 0,
            bridges: Vec::new(),
            upstreams: Vec::new(),
            ca_file: None,
            proxies: Proxies::default(),
            agents: Vec::new(),
            audit: Audit::off(),
        }
    }
}

/// Reason why a provider did not start. Its text is one sentence.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// An address cannot be listened on.
    #[error("{0}")]
    Listen(#[from] ListenError),
    /// A socket that other machines may reach, where no key is required.
    #[error(
        "{0} can be reached from other machines, and `auth.required` is false; listen on 127.0.0.1 alone or require keys"
    )]
    Exposed(SocketAddr),
    /// The system gives no randomness or no thread.
    #[error("the system refuses what is needed to run: {0}")]
    System(#[from] io::Error),
}
