//! Settings that the owner decides: limits, timeouts, sessions, models, keys. Names and defaults are those of the
//! configuration file.

mod network;

pub use network::{Network, NoNetwork};

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use core::net::SocketAddr;
use core::time::Duration;

/// `limits` of the configuration file.
#[derive(Clone, Debug, PartialEq)]
pub struct Limits {
    /// For each key, and for each client address of requests without one.
    pub requests_per_minute: u32,
    /// For each key, and for each client address of requests without one; prompt (estimated) and `max_tokens` together.
    pub tokens_per_minute: u32,
    /// Requests that may come at once after a pause.
    pub burst: u32,
    /// Exchanges open at once in the whole program.
    pub exchanges: usize,
    /// Client connections open at once.
    pub connections: usize,
    /// Admissions that may wait for capacity.
    pub queue_length: usize,
    /// Longest wait of one admission.
    pub queue_wait: Duration,
    /// Bytes of a request body.
    pub body_bytes: usize,
    /// Bytes of one message's content.
    pub content_bytes: usize,
    /// Messages of one request.
    pub messages: usize,
    /// Nesting of a request's JSON.
    pub json_depth: usize,
    /// Bytes of one frame from an agent.
    pub agent_frame_bytes: usize,
    /// Bytes that wait for one client.
    pub mailbox_bytes: usize,
    /// Bytes of an answer that is collected for a client that does not stream.
    pub answer_bytes: usize,
    /// Bytes that wait for one agent.
    pub link_queue_bytes: usize,
    /// Bytes of all that is buffered, for whomever.
    pub memory: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            requests_per_minute: 60,
            tokens_per_minute: 100_000,
            burst: 60,
            exchanges: 1024,
            connections: 16_384,
            queue_length: 64,
            queue_wait: Duration::from_secs(5),
            body_bytes: 32 << 20,
            content_bytes: 16 << 20,
            messages: 1000,
            json_depth: 64,
            agent_frame_bytes: 32 << 20,
            mailbox_bytes: 16 << 20,
            answer_bytes: 16 << 20,
            link_queue_bytes: 64 << 20,
            memory: 256 << 20,
        }
    }
}

/// `timeouts` of the configuration file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// For a request's head.
    pub head: Duration,
    /// For a request's body, in total.
    pub body: Duration,
    /// For a write that makes no progress.
    pub write: Duration,
    /// Longest wait of a stream's response head for the agent's first event.
    pub first_event: Duration,
    /// For the agent's first chunk.
    pub first_chunk: Duration,
    /// For silence within a stream.
    pub idle: Duration,
    /// For a whole exchange.
    pub total: Duration,
    /// For streams to end when the program stops.
    pub drain: Duration,
    /// Between signs of life to a client.
    pub keep_alive: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            head: Duration::from_secs(5),
            body: Duration::from_secs(30),
            write: Duration::from_secs(30),
            first_event: Duration::from_secs(4),
            first_chunk: Duration::from_secs(60),
            idle: Duration::from_secs(60),
            total: Duration::from_secs(600),
            drain: Duration::from_secs(30),
            keep_alive: Duration::from_secs(15),
        }
    }
}

/// `sessions` of the configuration file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionPolicy {
    /// True when a person approves each session that registers on a link.
    pub manual_approval: bool,
    /// Time to live in seconds where the registration names none (1 to 86 400).
    pub ttl_seconds: u32,
    /// True: the time to live counts from the loss of the link. False: from the registration.
    pub renew_while_connected: bool,
    /// Sessions at once.
    pub max: usize,
    /// Requests that one session may answer in its life; 0 is no limit.
    pub max_requests: u64,
}

impl Default for SessionPolicy {
    fn default() -> Self {
        Self {
            manual_approval: false,
            ttl_seconds: 300,
            renew_while_connected: true,
            max: 64,
            max_requests: 0,
        }
    }
}

/// Roles of keys. Each is its own; only `Admin` includes the others.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Role {
    /// Inference.
    Client,
    /// Registering agents.
    Bridge,
    /// Approving, revoking, audit and logs.
    Operator,
    /// Everything.
    Admin,
}

impl Role {
    /// The name in the configuration file and in messages.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Bridge => "bridge",
            Self::Operator => "operator",
            Self::Admin => "admin",
        }
    }
}

/// Areas of the program that a key of the role `client` may use.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Area {
    /// Asking models.
    Models,
    /// Calling the tools of MCP servers.
    Mcp,
    /// Using what is registered.
    Registry,
}

impl Area {
    /// The name in the configuration file and in messages.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Models => "models",
            Self::Mcp => "mcp",
            Self::Registry => "registry",
        }
    }
}

/// Name of the registry among the MCP servers. No other one may have it.
pub const REGISTRY_SERVER: &str = "registry";

/// One API key. Only its SHA-256 is known.
#[derive(Clone, PartialEq, Eq)]
pub struct Key {
    /// Shown in lists and audit records.
    pub name: String,
    /// SHA-256 of the key's text.
    pub sha256: [u8; 32],
    /// Role of the key.
    pub role: Role,
    /// Instead of `limits.requests_per_minute`.
    pub requests_per_minute: Option<u32>,
    /// Instead of `limits.tokens_per_minute`.
    pub tokens_per_minute: Option<u32>,
    /// Areas that a key of the role `client` may use; for the other roles without meaning.
    pub allow: Vec<Area>,
    /// Models that it may ask; all when empty.
    pub models: Vec<String>,
    /// MCP servers that it may use; all when empty.
    pub servers: Vec<String>,
}

impl Key {
    /// A key with the general limits, for every model, and nothing but models.
    #[must_use]
    pub fn new(name: &str, sha256: [u8; 32], role: Role) -> Self {
        Self {
            name: name.into(),
            sha256,
            role,
            requests_per_minute: None,
            tokens_per_minute: None,
            allow: alloc::vec![Area::Models],
            models: Vec::new(),
            servers: Vec::new(),
        }
    }

    /// True when the key may use this area.
    #[must_use]
    pub fn may_use(&self, area: Area) -> bool {
        self.role != Role::Client || self.allow.contains(&area)
    }

    /// True when the key may use the MCP server of this name, where it may use any.
    #[must_use]
    pub fn may_use_server(&self, server: &str) -> bool {
        let has_area = server != REGISTRY_SERVER || self.may_use(Area::Registry);
        has_area && (self.servers.is_empty() || self.servers.iter().any(|own| own == server))
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({}, {})", self.name, self.role.as_str())
    }
}

/// Another name for a model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Alias {
    /// The name that clients use.
    pub name: String,
    /// The model that answers.
    pub model: String,
    /// Told to clients instead of the model's own.
    pub context_length: Option<u64>,
    /// Models that are asked in its place, in order, where the one that answers fails before its first byte. Instead of those of
    /// whoever answers for it.
    pub fallback: Vec<String>,
}

/// Failures of an upstream after which it is left alone for a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CircuitLimits {
    /// Attempts in a row that fail by the server's fault; 0 never leaves it alone.
    pub failures: u32,
    /// Time for which nothing is asked of it. Then one request is, as a probe.
    pub pause: Duration,
}

impl Default for CircuitLimits {
    /// 5 failures, 30 s.
    fn default() -> Self {
        Self {
            failures: 5,
            pause: Duration::from_secs(30),
        }
    }
}

/// Models that are asked in the place of whoever fails before the first byte of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fallback {
    /// Name of an agent that the program starts, of a bridge, or of an upstream.
    pub of: String,
    /// The models, in the order in which they are asked. Their own fallbacks are not followed.
    pub models: Vec<String>,
}

/// Everything that the core needs to know.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct HubConfig {
    /// Limits.
    pub limits: Limits,
    /// Timeouts.
    pub timeouts: Timeouts,
    /// Sessions.
    pub sessions: SessionPolicy,
    /// API keys.
    pub keys: Vec<Key>,
    /// False: requests need no key. It holds only while nothing is [`exposed`](Self::exposed).
    pub auth_required: bool,
    /// False: programs on this machine need no key where programs look for an Ollama, for what the role `client` may do with
    /// models.
    pub ollama_auth_required: bool,
    /// Proxies that are believed for whom they ask.
    pub trusted_proxies: Vec<Network>,
    /// A socket of the program that other machines may reach, if there is one. It belongs to the sockets that are bound, so
    /// it stays as it was at the start.
    pub exposed: Option<SocketAddr>,
    /// Host names beyond the loopback ones, without port.
    pub allowed_hosts: Vec<String>,
    /// Origins beyond loopback and the schemes of desktop programs.
    pub allowed_origins: Vec<String>,
    /// The model that answers a client that names none, or `default`.
    pub default_model: Option<String>,
    /// Other names of models.
    pub aliases: Vec<Alias>,
    /// Models that are asked in the place of agents, bridges and upstreams that fail.
    pub fallbacks: Vec<Fallback>,
    /// Digest of the token of the default external bridge, which carries sessions that were registered over HTTP without a
    /// key.
    pub default_bridge: Option<[u8; 32]>,
}

impl HubConfig {
    /// True when a request needs a key.
    #[must_use]
    pub const fn needs_key(&self) -> bool {
        self.auth_required || self.exposed.is_some()
    }
}
