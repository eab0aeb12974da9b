//! The section `gateway`: bounds and times of the MCP gateway, which stands before the servers of `mcpServers`.

use super::check::{Report, at_most_a_week, duration};
use super::sections::Config;
use super::units;
use mcp_local_provider_core::config::REGISTRY_SERVER;
use mcp_local_provider_mcp::config as machine;
use serde::de::{self, Deserializer, Visitor};
use serde::{Deserialize, Serialize, Serializer};
use std::fmt;
use std::time::Duration;

/// The MCP gateway.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Gateway {
    /// Default auto: it is there when a server is.
    pub enabled: GatewaySwitch,
    /// Processes of servers that say nothing else: one for each session, or one for all. Default session.
    pub scope: Scope,
    /// Clients that a shared server may ask something: each has a process of its own, or none is asked. Default lease.
    pub interactive: Interactive,
    /// Ways on which clients reach the servers. Default all that there are.
    pub transports: Vec<GatewayTransport>,
    /// Form of the names of tools and prompts at `/mcp`. Default auto.
    pub prefix: GatewayPrefix,
    /// Sessions of clients.
    pub sessions: GatewaySessions,
    /// Processes of servers.
    pub processes: GatewayProcesses,
    /// Questions to processes that write nothing, for a sign of life.
    pub health: GatewayHealth,
    /// Start of a process after its unwanted end.
    pub restart: GatewayRestart,
    /// Times of requests and streams.
    pub timeouts: GatewayTimeouts,
    /// Requests that a client may make.
    pub rate: GatewayRate,
    /// Messages that are kept for a client that comes back.
    pub resume: GatewayResume,
    /// The page `/test`. Default auto: browsers on this machine get it.
    pub test_page: GatewaySwitch,
    /// Time for which a server's lists are kept that do not say how long they hold; 0 keeps none. Default 300 s.
    #[serde(with = "units::duration")]
    pub cache_ttl: Duration,
    /// Longest line that is taken from a server. Default 16 MiB.
    #[serde(with = "units::size")]
    pub message_bytes: usize,
}

impl Default for Gateway {
    fn default() -> Self {
        let machine::Gateway {
            servers: _,
            prefix: _,
            transports: _,
            sessions,
            processes,
            health,
            restart,
            timeouts,
            rate,
            resume,
            message_bytes,
            test_page: _,
            cache_ttl,
        } = machine::Gateway::default();
        Self {
            enabled: GatewaySwitch::Auto,
            scope: Scope::Session,
            interactive: Interactive::Lease,
            transports: GatewayTransport::ALL.to_vec(),
            test_page: GatewaySwitch::Auto,
            prefix: GatewayPrefix::Auto,
            sessions: GatewaySessions {
                per_client: sessions.per_client,
                max: sessions.max,
                idle: sessions.idle,
                sweep: sessions.sweep,
                in_flight: sessions.in_flight,
            },
            processes: GatewayProcesses {
                max: processes.max,
                start: processes.start,
                starts_at_once: processes.starts_at_once,
                probe: processes.probe,
                idle: processes.idle,
            },
            health: GatewayHealth {
                interval: health.interval,
                timeout: health.timeout,
                misses: health.misses,
            },
            restart: GatewayRestart {
                enabled: restart.enabled,
                attempts: restart.attempts,
                delay: restart.delay,
                reset: restart.reset,
            },
            timeouts: GatewayTimeouts {
                request: timeouts.request,
                request_max: timeouts.request_max,
                heartbeat: timeouts.heartbeat,
                retry: timeouts.retry,
            },
            rate: GatewayRate {
                requests: rate.requests,
                period: rate.period,
            },
            resume: GatewayResume {
                events: resume.events,
                bytes: resume.bytes,
                keep: resume.keep,
            },
            message_bytes,
            cache_ttl,
        }
    }
}

/// Sessions that have a process of a server together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// None: each has its own.
    Session,
    /// All.
    Shared,
}

impl From<Scope> for machine::Scope {
    fn from(scope: Scope) -> Self {
        match scope {
            Scope::Session => Self::Session,
            Scope::Shared => Self::Shared,
        }
    }
}

/// Way of a shared server with clients that can be asked for sampling, elicitation or roots.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Interactive {
    /// Each has a process of its own.
    Lease,
    /// They share the process, and nobody is asked.
    Refuse,
}

impl From<Interactive> for machine::Interactive {
    fn from(interactive: Interactive) -> Self {
        match interactive {
            Interactive::Lease => Self::Lease,
            Interactive::Refuse => Self::Refuse,
        }
    }
}

/// Ways on which clients reach the servers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum GatewayTransport {
    /// Streamable HTTP.
    Http,
    /// HTTP+SSE, of revision 2024-11-05.
    Sse,
    /// WebSockets.
    WebSocket,
    /// `/events/ID`.
    Events,
    /// REST: sessions, tools, resources and prompts.
    Rest,
}

impl GatewayTransport {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::Http,
        Self::Sse,
        Self::WebSocket,
        Self::Events,
        Self::Rest,
    ];

    const fn machine(self) -> machine::Transport {
        match self {
            Self::Http => machine::Transport::Http,
            Self::Sse => machine::Transport::Sse,
            Self::WebSocket => machine::Transport::WebSocket,
            Self::Events => machine::Transport::Events,
            Self::Rest => machine::Transport::Rest,
        }
    }
}

/// Forms of the names of tools and prompts at the address of all servers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum GatewayPrefix {
    /// `SERVER__NAME` where there are several servers, and else as the server has them.
    Auto,
    /// `SERVER__NAME`.
    Always,
    /// As the server has them; no two servers may have the same.
    Never,
}

/// Presence of a part of the program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GatewaySwitch {
    /// It is there where it is of use.
    Auto,
    /// It is there.
    Yes,
    /// It is not there.
    No,
}

impl Serialize for GatewaySwitch {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Auto => serializer.serialize_str("auto"),
            Self::Yes => serializer.serialize_bool(true),
            Self::No => serializer.serialize_bool(false),
        }
    }
}

impl<'de> Deserialize<'de> for GatewaySwitch {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct EnabledVisitor;
        impl Visitor<'_> for EnabledVisitor {
            type Value = GatewaySwitch;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("`auto`, `true` or `false`")
            }

            fn visit_bool<E: de::Error>(self, value: bool) -> Result<GatewaySwitch, E> {
                Ok(if value {
                    GatewaySwitch::Yes
                } else {
                    GatewaySwitch::No
                })
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<GatewaySwitch, E> {
                match text {
                    "auto" => Ok(GatewaySwitch::Auto),
                    other => Err(E::invalid_value(de::Unexpected::Str(other), &self)),
                }
            }
        }
        deserializer.deserialize_bool(EnabledVisitor)
    }
}

/// Bounds of the sessions of clients. A client is a key, or an address where none is needed, with the name that its program
/// gives.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct GatewaySessions {
    /// Sessions of one client; one too many ends its longest idle one. Default 3.
    pub per_client: usize,
    /// Sessions of all clients. Default 1024.
    pub max: usize,
    /// A session ends when its last request is so long ago. Default 1 h.
    #[serde(with = "units::duration")]
    pub idle: Duration,
    /// Time between two looks for sessions that end so. Default 60 s.
    #[serde(with = "units::duration")]
    pub sweep: Duration,
    /// Requests that may be open in one session. Default 256.
    pub in_flight: usize,
}

/// Bounds of the processes of servers.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct GatewayProcesses {
    /// Processes at once, of all servers. Default 10.
    pub max: usize,
    /// From the demand for a process to the end of its handshake. Default 30 s.
    #[serde(with = "units::duration")]
    pub start: Duration,
    /// Processes that are started at once. Default 4.
    pub starts_at_once: usize,
    /// Time that a process has to answer `server/discover` where nobody knows whether its server speaks revision 2026-07-28.
    /// Default 5 s.
    #[serde(with = "units::duration")]
    pub probe: Duration,
    /// A process without an open request, whose session nobody listens to, is stopped after so long. Default 10 min.
    #[serde(with = "units::duration")]
    pub idle: Duration,
}

/// Questions to processes that write nothing, for a sign of life: `ping`, or `server/discover` where there is none.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct GatewayHealth {
    /// Silence after which a process is asked, and time from one question to the next; 0 asks none. Default 30 s.
    #[serde(with = "units::duration")]
    pub interval: Duration,
    /// Time that it has to write something. Default 10 s.
    #[serde(with = "units::duration")]
    pub timeout: Duration,
    /// Questions in a row without a sign of life after which it is unresponsive; one more, and it is killed. Default 2.
    pub misses: u32,
}

/// Start of a process after its unwanted end.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct GatewayRestart {
    /// It is started again. Default true.
    pub enabled: bool,
    /// Failures in a row after which it is started on demand only. Default 3.
    pub attempts: u32,
    /// Wait after the first failure; it doubles with each further one. Default 1 s.
    #[serde(with = "units::duration")]
    pub delay: Duration,
    /// Time of service after which its failures are forgotten. Default 60 s.
    #[serde(with = "units::duration")]
    pub reset: Duration,
}

/// Times of requests and streams.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct GatewayTimeouts {
    /// Longest wait of a request for its answer, since it was sent or since its latest progress. Default 300 s.
    #[serde(with = "units::duration")]
    pub request: Duration,
    /// The same in all, whatever progress there is. Default 1 h.
    #[serde(with = "units::duration")]
    pub request_max: Duration,
    /// Silence of a stream after which a comment is sent. Default 15 s.
    #[serde(with = "units::duration")]
    pub heartbeat: Duration,
    /// Time that a client is asked to wait before it connects a stream again. Default 1 s.
    #[serde(with = "units::duration")]
    pub retry: Duration,
}

/// Requests that a client may make.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct GatewayRate {
    /// Requests in one period, and at once; 0 is no limit. Default 100.
    pub requests: u32,
    /// The period. Default 60 s.
    #[serde(with = "units::duration")]
    pub period: Duration,
}

/// Messages of a session that are kept for a client that comes back.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct GatewayResume {
    /// Number of messages. Default 1024.
    pub events: usize,
    /// Their bytes. Default 1 MiB.
    #[serde(with = "units::size")]
    pub bytes: usize,
    /// Time for which the stream of an answer is kept behind its end. Default 300 s.
    #[serde(with = "units::duration")]
    pub keep: Duration,
}

macro_rules! defaults_of_the_gateway {
    ($($section:ident => $field:ident),* $(,)?) => {
        $(impl Default for $section {
            fn default() -> Self {
                Gateway::default().$field
            }
        })*
    };
}

defaults_of_the_gateway! {
    GatewaySessions => sessions, GatewayProcesses => processes, GatewayHealth => health, GatewayRestart => restart, GatewayTimeouts => timeouts,
    GatewayRate => rate, GatewayResume => resume,
}

impl Config {
    /// Returns the configuration of the gateway in the form of its machines, with the servers that are offered. `None` where it
    /// is not to be there.
    #[must_use]
    pub fn gateway(&self) -> Option<machine::Gateway> {
        self.gateway_beside(false)
    }

    /// Returns the same, with the registry as the last server where the program has one.
    #[must_use]
    pub fn gateway_beside(&self, has_registry: bool) -> Option<machine::Gateway> {
        let registry = has_registry.then(|| machine::Server::internal(REGISTRY_SERVER));
        let servers: Vec<machine::Server> = self
            .mcp_servers
            .offered()
            .map(|(name, server)| machine::Server {
                prefix: server.prefix.as_deref().map(Into::into),
                tools: server.tools.filter(),
                scope: server.scope.unwrap_or(self.gateway.scope).into(),
                interactive: server
                    .interactive
                    .unwrap_or(self.gateway.interactive)
                    .into(),
                wire: server.wire(),
                ..machine::Server::named(name)
            })
            .chain(registry)
            .collect();
        let is_there = match self.gateway.enabled {
            GatewaySwitch::Auto => !servers.is_empty(),
            GatewaySwitch::Yes => true,
            GatewaySwitch::No => false,
        };
        let Gateway {
            enabled: _,
            prefix,
            scope: _,
            interactive: _,
            transports,
            test_page,
            sessions,
            processes,
            health,
            restart,
            timeouts,
            rate,
            resume,
            message_bytes,
            cache_ttl,
        } = &self.gateway;
        is_there.then_some(machine::Gateway {
            servers,
            prefix: match prefix {
                GatewayPrefix::Auto => machine::Prefix::Auto,
                GatewayPrefix::Always => machine::Prefix::Always,
                GatewayPrefix::Never => machine::Prefix::Never,
            },
            transports: transports.iter().map(|it| it.machine()).collect(),
            test_page: match test_page {
                GatewaySwitch::Auto => machine::TestPage::Local,
                GatewaySwitch::Yes => machine::TestPage::Always,
                GatewaySwitch::No => machine::TestPage::Never,
            },
            sessions: machine::Sessions {
                per_client: sessions.per_client,
                max: sessions.max,
                idle: sessions.idle,
                sweep: sessions.sweep,
                in_flight: sessions.in_flight,
            },
            processes: machine::Processes {
                max: processes.max,
                start: processes.start,
                starts_at_once: processes.starts_at_once,
                probe: processes.probe,
                idle: processes.idle,
            },
            health: machine::Health {
                interval: health.interval,
                timeout: health.timeout,
                misses: health.misses,
            },
            restart: machine::Restart {
                enabled: restart.enabled,
                attempts: restart.attempts,
                delay: restart.delay,
                reset: restart.reset,
            },
            timeouts: machine::Timeouts {
                request: timeouts.request,
                request_max: timeouts.request_max,
                heartbeat: timeouts.heartbeat,
                retry: timeouts.retry,
            },
            rate: machine::Rate {
                requests: rate.requests,
                period: rate.period,
            },
            resume: machine::Resume {
                events: resume.events,
                bytes: resume.bytes,
                keep: resume.keep,
            },
            message_bytes: *message_bytes,
            cache_ttl: *cache_ttl,
        })
    }
}

/// Checks the section. `memory` is `limits.memory`, in bytes. Without a gateway its defaults may be anything.
pub(super) fn check(gateway: &Gateway, is_there: bool, memory: usize, report: &mut Report<'_>) {
    let usual = Gateway::default();
    let why = "everything would be refused; leave it out for the default";
    let attempts = usize::try_from(gateway.restart.attempts).unwrap_or(usize::MAX);
    let misses = usize::try_from(gateway.health.misses).unwrap_or(usize::MAX);
    for (name, value, why) in [
        ("sessions.per_client", gateway.sessions.per_client, why),
        ("sessions.max", gateway.sessions.max, why),
        ("sessions.in_flight", gateway.sessions.in_flight, why),
        ("processes.max", gateway.processes.max, why),
        (
            "processes.starts_at_once",
            gateway.processes.starts_at_once,
            "no process would ever be started",
        ),
        (
            "health.misses",
            misses,
            "`health: { interval: 0 }` asks no process",
        ),
        (
            "restart.attempts",
            attempts,
            "`restart: { enabled: false }` starts none again",
        ),
        (
            "resume.events",
            gateway.resume.events,
            "no answer would be kept",
        ),
    ] {
        report.at_least(&format!("gateway.{name}"), value, 1, why);
    }
    for (name, value) in [
        ("sessions.idle", gateway.sessions.idle),
        ("sessions.sweep", gateway.sessions.sweep),
        ("processes.start", gateway.processes.start),
        ("processes.probe", gateway.processes.probe),
        ("processes.idle", gateway.processes.idle),
        ("health.timeout", gateway.health.timeout),
        ("restart.delay", gateway.restart.delay),
        ("restart.reset", gateway.restart.reset),
        ("timeouts.request", gateway.timeouts.request),
        ("timeouts.request_max", gateway.timeouts.request_max),
        ("timeouts.heartbeat", gateway.timeouts.heartbeat),
        ("timeouts.retry", gateway.timeouts.retry),
        ("rate.period", gateway.rate.period),
    ] {
        duration(report, &format!("gateway.{name}"), value);
    }
    at_most_a_week(report, "gateway.resume.keep", gateway.resume.keep);
    at_most_a_week(report, "gateway.cache_ttl", gateway.cache_ttl);
    let interval = gateway.health.interval;
    at_most_a_week(report, "gateway.health.interval", interval);
    if gateway.timeouts.request_max < gateway.timeouts.request {
        let message = format!(
            "must be at most `gateway.timeouts.request_max`, which is {}",
            units::show_duration(gateway.timeouts.request_max)
        );
        report.problem("gateway.timeouts.request", message);
    }
    for (name, value, usual) in [
        ("resume.bytes", gateway.resume.bytes, usual.resume.bytes),
        ("message_bytes", gateway.message_bytes, usual.message_bytes),
    ] {
        let path = format!("gateway.{name}");
        report.at_least(&path, value, 4096, "no answer would fit");
        if value > memory && (is_there || value != usual) {
            let message = format!(
                "must be at most `limits.memory`, which is {}",
                units::show_size(memory)
            );
            report.problem(&path, message);
        }
    }
}
