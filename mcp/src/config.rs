//! The owner's decisions about the gateway, with their defaults.

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::time::Duration;

/// Section `gateway` of the configuration, with the servers of `mcpServers`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Gateway {
    /// The servers, in the order of the file.
    pub servers: Vec<Server>,
    /// `gateway.prefix`.
    pub prefix: Prefix,
    /// `gateway.transports`: ways on which clients reach the servers.
    pub transports: Vec<Transport>,
    /// `gateway.sessions`.
    pub sessions: Sessions,
    /// `gateway.processes`.
    pub processes: Processes,
    /// `gateway.health`.
    pub health: Health,
    /// `gateway.restart`.
    pub restart: Restart,
    /// `gateway.timeouts`.
    pub timeouts: Timeouts,
    /// `gateway.rate`.
    pub rate: Rate,
    /// `gateway.resume`.
    pub resume: Resume,
    /// `gateway.test_page`: who gets the page `/test`.
    pub test_page: TestPage,
    /// `gateway.cache_ttl`: time for which a server's lists are kept that do not say how long they hold. Zero: they are not.
    pub cache_ttl: Duration,
    /// `gateway.message_bytes`: longest line that is taken from a server, in bytes.
    pub message_bytes: usize,
}

impl Default for Gateway {
    fn default() -> Self {
        Self {
            servers: Vec::new(),
            prefix: Prefix::Auto,
            transports: Transport::ALL.to_vec(),
            sessions: Sessions::default(),
            processes: Processes::default(),
            health: Health::default(),
            restart: Restart::default(),
            timeouts: Timeouts::default(),
            rate: Rate::default(),
            resume: Resume::default(),
            test_page: TestPage::Local,
            cache_ttl: Duration::from_secs(300),
            message_bytes: 16 << 20,
        }
    }
}

impl Gateway {
    /// Finds a server by its name.
    #[must_use]
    pub fn server(&self, name: &str) -> Option<&Server> {
        self.servers.iter().find(|server| &*server.name == name)
    }
}

/// One server that the gateway stands before.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Server {
    /// Its name: a letter, then letters, digits, `-` and `_`, at most 32 bytes, without `__`.
    pub name: Arc<str>,
    /// Text of the same form that stands before the names of its tools in the place of its name.
    pub prefix: Option<Arc<str>>,
    /// The tools that clients know of.
    pub tools: ToolFilter,
    /// `scope`: sharing of its processes.
    pub scope: Scope,
    /// `interactive`: its way with clients that can be asked, where it is shared.
    pub interactive: Interactive,
    /// The wire to it.
    pub wire: Wire,
}

/// Wires between the gateway and its servers.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Wire {
    /// Standard input and output of a process that the gateway starts.
    #[default]
    Stdio,
    /// Streamable HTTP, at the server's `url`.
    Http,
    /// HTTP+SSE (revision 2024-11-05), at the server's `url`.
    Sse,
    /// A WebSocket at the server's `url`.
    WebSocket,
    /// None: the program is the server itself. It has no process, speaks to clients with sessions, and all share it.
    Internal,
}

impl Wire {
    /// The name that the configuration has for it, as `type`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Stdio => "stdio",
            Self::Http => "http",
            Self::Sse => "sse",
            Self::WebSocket => "ws",
            Self::Internal => "internal",
        }
    }
}

impl Server {
    /// Makes a server that has all of its tools under its own name.
    #[must_use]
    pub fn named(name: &str) -> Self {
        Self {
            name: name.into(),
            prefix: None,
            tools: ToolFilter::default(),
            scope: Scope::default(),
            interactive: Interactive::default(),
            wire: Wire::default(),
        }
    }

    /// Makes a server that the program is itself.
    #[must_use]
    pub fn internal(name: &str) -> Self {
        Self {
            scope: Scope::Shared,
            interactive: Interactive::Refuse,
            wire: Wire::Internal,
            ..Self::named(name)
        }
    }

    /// Returns the text that tells it from other servers.
    #[must_use]
    pub fn prefix(&self) -> &Arc<str> {
        self.prefix.as_ref().unwrap_or(&self.name)
    }
}

/// Forms of the names of tools and prompts at the address of all servers.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub enum Prefix {
    /// `SERVER__NAME` where there are several servers, and else as the server has them.
    #[default]
    Auto,
    /// `SERVER__NAME`.
    Always,
    /// As the server has them; no two servers may have the same.
    Never,
}

/// The choice of a server's tools, by the names that the server has for them. One that ends in `*` stands for all that begin so.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct ToolFilter {
    /// The only ones that clients know of; all when it is absent.
    pub allow: Option<Vec<Box<str>>>,
    /// Those that clients do not know of, allowed or not.
    pub deny: Vec<Box<str>>,
}

impl ToolFilter {
    /// Returns true when no tool is left out.
    #[must_use]
    pub const fn is_open(&self) -> bool {
        self.allow.is_none() && self.deny.is_empty()
    }

    /// Returns true when clients know of this tool.
    #[must_use]
    pub fn allows(&self, tool: &str) -> bool {
        let is_among = |names: &[Box<str>]| {
            names.iter().any(|name| match name.strip_suffix('*') {
                Some(beginning) => tool.starts_with(beginning),
                None => **name == *tool,
            })
        };
        self.allow.as_deref().is_none_or(is_among) && !is_among(&self.deny)
    }
}

/// Sharing of the processes of a server.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub enum Scope {
    /// Nobody: each session has its own.
    #[default]
    Session,
    /// All sessions.
    Shared,
}

impl Scope {
    /// Returns the name in `scope`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Session => "session",
            Self::Shared => "shared",
        }
    }
}

/// The way of a shared server with clients that can be asked for sampling, elicitation or roots.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub enum Interactive {
    /// Each has a process of its own, since nothing says on a shared one whom a question is for.
    #[default]
    Lease,
    /// They share the process, which is told that nobody can be asked.
    Refuse,
}

/// Those who get the test page.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TestPage {
    /// Programs on this machine.
    Local,
    /// All.
    Always,
    /// Nobody.
    Never,
}

/// Ways on which clients reach the servers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Transport {
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

impl Transport {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::Http,
        Self::Sse,
        Self::WebSocket,
        Self::Events,
        Self::Rest,
    ];

    /// Returns the name in `gateway.transports`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Sse => "sse",
            Self::WebSocket => "websocket",
            Self::Events => "events",
            Self::Rest => "rest",
        }
    }
}

/// Bounds of the sessions of clients.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Sessions {
    /// Sessions of one client. One too many ends that client's session that has been idle for longest.
    pub per_client: usize,
    /// Sessions of all clients.
    pub max: usize,
    /// A session ends when its last request is so long ago.
    pub idle: Duration,
    /// Time between two looks for such sessions.
    pub sweep: Duration,
    /// Requests that may be open in one session.
    pub in_flight: usize,
}

impl Default for Sessions {
    fn default() -> Self {
        Self {
            per_client: 3,
            max: 1024,
            idle: Duration::from_secs(3600),
            sweep: Duration::from_secs(60),
            in_flight: 256,
        }
    }
}

/// Bounds of the processes of servers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Processes {
    /// Processes at once, of all servers.
    pub max: usize,
    /// From the demand for a process to the end of its handshake.
    pub start: Duration,
    /// Processes that may be on the way to the end of their handshake at once. Others are started when one of those is there.
    pub starts_at_once: usize,
    /// Time that a process has to answer `server/discover` where nobody knows whether its server speaks revision 2026-07-28.
    pub probe: Duration,
    /// A process without an open request, whose session nobody listens to, is stopped after so long.
    pub idle: Duration,
}

impl Default for Processes {
    fn default() -> Self {
        Self {
            max: 10,
            start: Duration::from_secs(30),
            starts_at_once: 4,
            probe: Duration::from_secs(5),
            idle: Duration::from_secs(600),
        }
    }
}

/// Questions to processes that write nothing, for a sign of life.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Health {
    /// Silence of a process after which it is asked, and time from one question to the next. Zero: it is never asked.
    pub interval: Duration,
    /// Time that it has to write something.
    pub timeout: Duration,
    /// Questions in a row without a sign of life after which it is *unresponsive*. One more, and it is killed.
    pub misses: u32,
}

impl Default for Health {
    fn default() -> Self {
        Self {
            interval: Duration::from_secs(30),
            timeout: Duration::from_secs(10),
            misses: 2,
        }
    }
}

/// What follows the unwanted end of a process.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Restart {
    /// It is started again.
    pub enabled: bool,
    /// Failures in a row after which it is started on demand only.
    pub attempts: u32,
    /// Wait after the first failure; it doubles with each further one.
    pub delay: Duration,
    /// Time of service after which its failures are forgotten.
    pub reset: Duration,
}

impl Default for Restart {
    fn default() -> Self {
        Self {
            enabled: true,
            attempts: 3,
            delay: Duration::from_secs(1),
            reset: Duration::from_secs(60),
        }
    }
}

/// Times of requests and streams.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Timeouts {
    /// Longest wait of a request for its answer, since it was sent or since its latest progress.
    pub request: Duration,
    /// The same in all, whatever progress there is.
    pub request_max: Duration,
    /// Silence of a stream after which a comment is sent.
    pub heartbeat: Duration,
    /// Time that a client is asked to wait before it connects a stream again.
    pub retry: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            request: Duration::from_secs(300),
            request_max: Duration::from_secs(3600),
            heartbeat: Duration::from_secs(15),
            retry: Duration::from_secs(1),
        }
    }
}

/// Requests that a client may make.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Rate {
    /// Requests in one period, and at once. 0: no limit.
    pub requests: u32,
    /// The period.
    pub period: Duration,
}

impl Default for Rate {
    fn default() -> Self {
        Self {
            requests: 100,
            period: Duration::from_secs(60),
        }
    }
}

/// What is kept of a session's messages for a client that comes back.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Resume {
    /// Number of messages.
    pub events: usize,
    /// Their bytes.
    pub bytes: usize,
    /// Time for which the stream of an answer is kept behind its end.
    pub keep: Duration,
}

impl Default for Resume {
    fn default() -> Self {
        Self {
            events: 1024,
            bytes: 1 << 20,
            keep: Duration::from_secs(300),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;

    #[test]
    fn a_tool_is_known_when_it_is_allowed_and_not_denied() {
        let mut filter = ToolFilter::default();
        assert!(filter.is_open() && filter.allows("x"));
        filter.deny = vec!["write*".into(), "x".into()];
        for (tool, known) in [
            ("read", true),
            ("write_file", false),
            ("x", false),
            ("xy", true),
        ] {
            assert_eq!(filter.allows(tool), known, "{tool}");
        }
        filter.allow = Some(vec!["read".into(), "write_file".into()]);
        for (tool, known) in [("read", true), ("reader", false), ("write_file", false)] {
            assert_eq!(filter.allows(tool), known, "{tool}");
        }
        filter.allow = Some(Vec::new());
        assert!(!filter.is_open() && !filter.allows("read"));
    }
}
