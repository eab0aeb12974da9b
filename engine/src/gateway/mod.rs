//! The MCP gateway: sessions of clients and processes of servers, with their locks.

pub mod child;

pub use child::{Child, Children, Exit, Work};

use super::engine::Engine;
use mcp_local_provider_mcp::config::Gateway as Config;
use std::sync::Arc;

impl Engine {
    /// Opens the gateway: its servers, and who runs their processes. The first call counts; without one there is no gateway.
    pub fn open_gateway(&self, config: Config, children: Arc<dyn Children>) {
        let _ = (config, children);
    }

    /// Takes another configuration of the gateway over. Sessions of servers that are gone end.
    pub fn reload_gateway(&self, config: Config) {
        let _ = config;
    }
}
