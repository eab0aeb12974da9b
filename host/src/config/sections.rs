//! The sections of a configuration, as types with their defaults.

use super::address::{Extra, Listener};
use super::agent::Agent;
use super::bridge::Bridge;
use super::gateway::Gateway;
use super::mcp_server::McpServers;
use super::registry::Registry;
use super::secret::Secret;
use super::tls::Tls;
use super::upstream::Upstream;
use super::{paths, units};
use serde::de;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

/// The whole configuration. `Config::default()` is used when nothing is given.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(default)]
pub struct Config {
    /// Addresses of the program.
    pub listen: Listen,
    /// Keys, and the hosts and origins that may call.
    pub auth: Auth,
    /// Sizes and rates.
    pub limits: Limits,
    /// Times and intervals.
    pub timeouts: Timeouts,
    /// Registration of agents.
    pub sessions: Sessions,
    /// Names of models for clients.
    pub models: Models,
    /// External bridges, which the program dials.
    pub bridges: Vec<Bridge>,
    /// TLS with servers that the program dials.
    pub tls: Tls,
    /// Agents that the program starts itself.
    pub agents: Vec<Agent>,
    /// Servers of models that are asked in their own APIs.
    pub upstreams: Vec<Upstream>,
    /// MCP servers that the program starts for its clients.
    #[serde(rename = "mcpServers")]
    pub mcp_servers: McpServers,
    /// The MCP gateway, which stands before them.
    pub gateway: Gateway,
    /// The registry of tools, resources, prompts and integrations.
    pub registry: Registry,
    /// The audit file.
    pub audit: Audit,
    /// The log.
    pub log: Log,
    /// Directory of the keys and the audit file. `~` is the home directory.
    pub data_dir: PathBuf,
    /// Execution of the program itself.
    pub runtime: Runtime,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            listen: Listen::default(),
            auth: Auth::default(),
            limits: Limits::default(),
            timeouts: Timeouts::default(),
            sessions: Sessions::default(),
            models: Models::default(),
            bridges: Vec::new(),
            tls: Tls::default(),
            agents: Vec::new(),
            upstreams: Vec::new(),
            mcp_servers: McpServers::default(),
            gateway: Gateway::default(),
            registry: Registry::default(),
            audit: Audit::default(),
            log: Log::default(),
            data_dir: PathBuf::from("~/.local/share/mcp-local-provider"),
            runtime: Runtime::default(),
        }
    }
}

/// Addresses of the program.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(default)]
pub struct Listen {
    /// Addresses of the API; at least one. Port 0 picks a free one. Default `127.0.0.1:8788`.
    pub http: Vec<Listener>,
    /// Address of a second Ollama API. Default off; `auto` is `127.0.0.1:11434` when that is free.
    pub ollama: Extra,
    /// Callers at the address of `ollama` that need a key. Default `local`: programs on this machine need none.
    pub ollama_auth: OllamaAuth,
    /// Address of a listener for metrics alone. Default off.
    pub metrics: Extra,
    /// Addresses and networks of reverse proxies, such as `127.0.0.1` or `10.0.0.0/8`, which are believed for whom they ask
    /// (`X-Forwarded-For`, `Forwarded`). Default none.
    pub trusted_proxies: Vec<String>,
}

impl Listen {
    /// Returns the addresses of [`http`](Listen::http).
    pub fn http_addresses(&self) -> Vec<SocketAddr> {
        self.http.iter().map(|listener| listener.0).collect()
    }
}

impl Default for Listen {
    fn default() -> Self {
        let default = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8788);
        Listen {
            http: vec![Listener(default)],
            ollama: Extra::Off,
            ollama_auth: OllamaAuth::Local,
            metrics: Extra::Off,
            trusted_proxies: Vec::new(),
        }
    }
}

/// Callers that need a key at the address of `listen.ollama`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum OllamaAuth {
    /// All but programs on this machine.
    Local,
    /// All.
    Required,
}

/// Keys, and the hosts and origins that may call.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(default)]
pub struct Auth {
    /// True when requests need a key. `false` is allowed only when every listener is on a loopback address.
    pub required: bool,
    /// Keys in addition to those of the key file.
    pub keys: Vec<Key>,
    /// True when the client key of a first start is kept in `data_dir/client.key`. Default true.
    pub keep_client_key: bool,
    /// Values of `Host` that are accepted beyond loopback names.
    pub allowed_hosts: Vec<String>,
    /// Values of `Origin` that are accepted beyond loopback and the schemes of desktop programs.
    pub allowed_origins: Vec<String>,
}

impl Default for Auth {
    fn default() -> Self {
        Auth {
            required: true,
            keys: Vec::new(),
            keep_client_key: true,
            allowed_hosts: Vec::new(),
            allowed_origins: Vec::new(),
        }
    }
}

/// An API key of the configuration.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
pub struct Key {
    /// Its name, for people and for the audit file.
    pub name: String,
    /// The key itself or its digest.
    pub key: Secret,
    /// Rights of its holder. Default `client`.
    #[serde(default)]
    pub role: Role,
    /// Limit of requests a minute for this key; the general one when absent.
    #[serde(default)]
    pub requests_per_minute: Option<u32>,
    /// Limit of tokens a minute for this key; the general one when absent.
    #[serde(default)]
    pub tokens_per_minute: Option<u32>,
    /// Areas that a key of the role `client` may use; models alone when absent.
    #[serde(default)]
    pub allow: Option<Vec<Area>>,
    /// Models that it may ask; all when empty.
    #[serde(default)]
    pub models: Vec<String>,
    /// MCP servers that it may use; all when empty.
    #[serde(default)]
    pub servers: Vec<String>,
}

/// Areas of the program that a key of the role `client` may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Area {
    /// Asking models.
    Models,
    /// Calling the tools of MCP servers.
    Mcp,
    /// Using what is registered.
    Registry,
}

/// The rights of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// May ask models.
    #[default]
    Client,
    /// May register agents.
    Bridge,
    /// May approve and revoke sessions, and read audit and logs.
    Operator,
    /// May change registry and configuration.
    Admin,
}

impl Role {
    /// Returns the role's name in configuration, key file and messages.
    pub fn name(self) -> &'static str {
        match self {
            Role::Client => "client",
            Role::Bridge => "bridge",
            Role::Operator => "operator",
            Role::Admin => "admin",
        }
    }
}

/// Limits of sizes and rates. Sizes are in bytes.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(default)]
pub struct Limits {
    /// Requests a minute of one key or address. Default 60.
    pub requests_per_minute: u32,
    /// Tokens a minute of one key or address. Default 100 000.
    pub tokens_per_minute: u32,
    /// Requests that may come at once before the rate applies. Default 60.
    pub burst: u32,
    /// Exchanges that are open at once. Default 1024.
    pub exchanges: u32,
    /// Connections that are open at once. Default 16384.
    pub connections: u32,
    /// Queue of exchanges in front of a busy session.
    pub queue: Queue,
    /// Largest request body. Default 32 MiB.
    #[serde(with = "units::size")]
    pub body_bytes: usize,
    /// Largest content of one message. Default 16 MiB.
    #[serde(with = "units::size")]
    pub content_bytes: usize,
    /// Messages in one request. Default 1000.
    pub messages: u32,
    /// Nesting of a JSON body. Default 64, at most 127.
    pub json_depth: u32,
    /// Largest frame of an agent. Default 32 MiB.
    #[serde(with = "units::size")]
    pub agent_frame_bytes: usize,
    /// Bytes of all that is buffered, for clients and agents together. Default 256 MiB.
    #[serde(with = "units::size")]
    pub memory: usize,
    /// Bytes of a streamed answer that may wait for its client. Default 16 MiB.
    #[serde(with = "units::size")]
    pub mailbox_bytes: usize,
    /// Largest answer that is collected for a client that does not stream. Default 16 MiB.
    #[serde(with = "units::size")]
    pub answer_bytes: usize,
    /// Bytes that may wait for one slow agent. Default 64 MiB.
    #[serde(with = "units::size")]
    pub link_queue_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            requests_per_minute: 60,
            tokens_per_minute: 100_000,
            burst: 60,
            exchanges: 1024,
            connections: 16_384,
            queue: Queue::default(),
            memory: 256 << 20,
            body_bytes: 32 << 20,
            content_bytes: 16 << 20,
            messages: 1000,
            json_depth: 64,
            agent_frame_bytes: 32 << 20,
            mailbox_bytes: 16 << 20,
            answer_bytes: 16 << 20,
            link_queue_bytes: 64 << 20,
        }
    }
}

/// The queue in front of a busy session.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(default)]
pub struct Queue {
    /// Exchanges that may wait; 0 refuses at once. Default 64.
    pub length: u32,
    /// Time that an exchange waits before it is refused. Default 5 s.
    #[serde(with = "units::duration")]
    pub wait: Duration,
}

impl Default for Queue {
    fn default() -> Self {
        Queue {
            length: 64,
            wait: Duration::from_secs(5),
        }
    }
}

/// Limits of time.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(default)]
pub struct Timeouts {
    /// Time for the head of a request to arrive. Default 5 s.
    #[serde(with = "units::duration")]
    pub head: Duration,
    /// Time for the body of a request to arrive. Default 30 s.
    #[serde(with = "units::duration")]
    pub body: Duration,
    /// Time for a client to take written bytes. Default 30 s.
    #[serde(with = "units::duration")]
    pub write: Duration,
    /// Time for an agent's first event, after which the head of a stream is sent without it. Default 4 s.
    #[serde(with = "units::duration")]
    pub first_event: Duration,
    /// Time for an agent's first chunk. Default 60 s.
    #[serde(with = "units::duration")]
    pub first_chunk: Duration,
    /// Longest silence within a stream. Default 60 s.
    #[serde(with = "units::duration")]
    pub idle: Duration,
    /// Time for a whole exchange. Default 600 s.
    #[serde(with = "units::duration")]
    pub total: Duration,
    /// Time for open streams to end when the program stops. Default 30 s; 0 ends them at once.
    #[serde(with = "units::duration")]
    pub drain: Duration,
    /// Interval between the comment lines of a silent stream. Default 15 s.
    #[serde(with = "units::duration")]
    pub keep_alive: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Timeouts {
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

/// Registration of agents.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(default)]
pub struct Sessions {
    /// Approval of registrations on a link. Default automatic.
    pub approval: Approval,
    /// Lifetime of a session whose registration names none, in seconds: 1 to 86 400. Default 300.
    pub ttl_seconds: u32,
    /// Start of the lifetime. Default connected.
    pub renew: Renew,
    /// Sessions at once. Default 64.
    pub max: u32,
    /// Requests that one session answers; 0 is no limit. Default 0.
    pub max_requests: u64,
}

impl Default for Sessions {
    fn default() -> Self {
        Sessions {
            approval: Approval::Automatic,
            ttl_seconds: 300,
            renew: Renew::Connected,
            max: 64,
            max_requests: 0,
        }
    }
}

/// The approval of sessions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Approval {
    /// A session is active at once.
    Automatic,
    /// A session is pending until a person approves it.
    Manual,
}

/// The start of a session's lifetime.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Renew {
    /// Loss of its link: an agent that stays connected stays registered.
    Connected,
    /// Its registration.
    Never,
}

/// Names of models for clients.
#[derive(Debug, Clone, PartialEq, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct Models {
    /// Model that answers to the name `default`, which clients send when they know none. Default none.
    pub default: Option<String>,
    /// Further names of models.
    pub aliases: BTreeMap<String, Alias>,
}

/// A further name of a model; `name: model` alone is short for `name: { model: model }`.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
pub struct Alias {
    /// The model that answers.
    pub model: String,
    /// The context length that clients are told, in tokens.
    #[serde(default)]
    pub context_length: Option<u32>,
    /// Models that are asked in its place, in order, when the one that answers fails; those of whoever answers when empty.
    #[serde(default)]
    pub fallback: Vec<String>,
}

/// True for a character that the name of an agent, a bridge or a key may have.
pub(crate) fn is_of_a_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.')
}

/// Makes a name of an agent's program: `/opt/my agent.sh` becomes `my-agent.sh`.
pub(crate) fn name_of_program(program: &str) -> String {
    let name = program.rsplit('/').next().unwrap_or_default();
    let name: String = name
        .chars()
        .map(|c| if is_of_a_name(c) { c } else { '-' })
        .take(64)
        .collect();
    if name.is_empty() {
        "agent".to_owned()
    } else {
        name
    }
}

/// Names of the presets.
pub const PRESETS: [&str; 7] = [
    "cursor", "claude", "codex", "gemini", "opencode", "copilot", "goose",
];

/// The audit file. `audit: off` writes none.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(default)]
pub struct Audit {
    /// Path of the file, or `None` to write none. A relative path is in `data_dir`. Default `audit.jsonl`.
    #[serde(with = "paths::off_or_path")]
    pub file: Option<PathBuf>,
    /// Size in bytes at which a new file is begun. Default 64 MiB.
    #[serde(with = "units::size")]
    pub max_bytes: usize,
    /// Older files that are kept. Default 5.
    pub keep: u32,
    /// The authentications that are recorded. Default those that failed.
    pub authentication: Authentication,
}

/// Authentications that the audit file records.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Authentication {
    /// Those that failed.
    #[default]
    Failed,
    /// Each, in a line of its own.
    All,
}

impl Default for Audit {
    fn default() -> Self {
        Audit {
            file: Some(PathBuf::from("audit.jsonl")),
            max_bytes: 64 << 20,
            keep: 5,
            authentication: Authentication::Failed,
        }
    }
}

/// The log. `log: debug` is short for `log: { level: debug }`.
#[derive(Debug, Clone, PartialEq, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct Log {
    /// Lowest level that is logged. Default info.
    pub level: LogLevel,
    /// Form of a line. Default auto.
    pub format: LogFormat,
    /// Path of the file that it is appended to; standard error where none is given. A relative path begins at `data_dir`.
    pub file: Option<PathBuf>,
}

/// The lowest level that is logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum LogLevel {
    /// No lines.
    Off,
    /// Failures.
    Error,
    /// Failures and suspicious events.
    Warn,
    /// Ordinary events too.
    #[default]
    Info,
    /// Details of events too.
    Debug,
    /// Every step too.
    Trace,
}

/// The form of a line of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// Text on a terminal, JSON in a file and otherwise.
    #[default]
    Auto,
    /// Text.
    Text,
    /// One JSON object a line.
    Json,
}

/// Execution of the program itself.
#[derive(Debug, Clone, PartialEq, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct Runtime {
    /// Threads that answer requests, where the driver has a choice; 0 is one. Default 0.
    pub threads: u32,
}

impl LogLevel {
    /// Returns the level with a name such as `debug`.
    pub fn from_name(name: &str) -> Option<LogLevel> {
        let name: de::value::StrDeserializer<'_, de::value::Error> =
            de::IntoDeserializer::into_deserializer(name);
        LogLevel::deserialize(name).ok()
    }
}
