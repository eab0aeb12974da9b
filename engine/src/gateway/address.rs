//! What a path leads to: one server, or all that a caller may use.

use mcp_local_provider_mcp::catalogue::Catalogue;
use mcp_local_provider_mcp::config::{Gateway as Config, Prefix, Server};
use std::fmt;

/// Servers under one path, in the order of the configuration. There is at least one.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Address {
    servers: Vec<Server>,
    prefix: Prefix,
    /// The path names its server.
    is_named: bool,
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Address({self})")
    }
}

impl fmt::Display for Address {
    /// The names of the servers.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, server) in self.servers.iter().enumerate() {
            let comma = if at == 0 { "" } else { ", " };
            write!(f, "{comma}{}", server.name)?;
        }
        Ok(())
    }
}

impl Address {
    /// The address of one server.
    pub(crate) fn of_one(server: &Server) -> Self {
        Self {
            servers: vec![server.clone()],
            prefix: Prefix::Never,
            is_named: true,
        }
    }

    /// The address of these servers; `None` when there is none.
    pub(crate) fn of_all(config: &Config, servers: &[&Server]) -> Option<Self> {
        let address = Self {
            servers: servers.iter().copied().cloned().collect(),
            prefix: config.prefix,
            is_named: false,
        };
        (!servers.is_empty()).then_some(address)
    }

    /// The servers.
    pub(crate) fn servers(&self) -> &[Server] {
        &self.servers
    }

    /// The name in the path.
    pub(crate) fn named(&self) -> Option<&str> {
        let servers = self.servers.first();
        let named = servers.filter(|_| self.is_named);
        named.map(|server| &*server.name)
    }

    /// What clients are to know of the servers.
    pub(crate) fn catalogue(&self) -> Catalogue {
        let servers: Vec<&Server> = self.servers.iter().collect();
        Catalogue::of_all(self.prefix, &servers)
    }
}
