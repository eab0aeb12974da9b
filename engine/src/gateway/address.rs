//! What a path leads to: one server, or all that a caller may use.

use mcp_local_provider_mcp::catalogue::Catalogue;
use mcp_local_provider_mcp::config::{Gateway as Config, Prefix, Server};
use std::fmt;

/// Servers under one path, in the order of the configuration. There is at least one.
#[derive(Clone)]
pub(crate) struct Address {
    servers: Vec<Server>,
    prefix: Prefix,
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
        }
    }

    /// The address of these servers; `None` when there is none.
    pub(crate) fn of_all(config: &Config, servers: &[&Server]) -> Option<Self> {
        let address = Self {
            servers: servers.iter().copied().cloned().collect(),
            prefix: config.prefix,
        };
        (!servers.is_empty()).then_some(address)
    }

    /// The servers.
    pub(crate) fn servers(&self) -> &[Server] {
        &self.servers
    }

    /// What clients are to know of the servers.
    pub(crate) fn catalogue(&self) -> Catalogue {
        let servers: Vec<&Server> = self.servers.iter().collect();
        Catalogue::of_all(self.prefix, &servers)
    }
}
