//! The servers as clients and operators see them: what their processes are at, and a restart.

use super::Gateway;
use super::cell::ServerCell;
use crate::Engine;
use mcp_local_provider_core::time::Instant;
use mcp_local_provider_mcp::config::{Server, Wire};
use mcp_local_provider_mcp::rest::{LastError, Listed};
use std::sync::Arc;

/// One process of a server, as it is now.
pub(super) struct Look {
    /// Name of its state.
    pub(super) state: &'static str,
    /// The revision that it speaks, as JSON, while it is ready.
    pub(super) version: Option<String>,
    /// Number of its tools, where it has listed them.
    pub(super) tools: Option<usize>,
    /// Its id, where it has one, and when it was started; `None` while none runs.
    pub(super) started: Option<(Option<i32>, Instant)>,
    /// Sessions that it serves.
    pub(super) sessions: usize,
    /// A thread runs it.
    pub(super) is_run: bool,
}

impl Gateway {
    /// All processes, whether they run or not, each once.
    pub(super) fn cells(&self) -> Vec<Arc<ServerCell>> {
        let sessions = self.sessions();
        let of_sessions = sessions.iter().flat_map(|session| session.servers());
        let mut cells: Vec<Arc<ServerCell>> = of_sessions.cloned().collect();
        cells.extend(self.pools.lock().cells());
        cells.extend(self.table.lock().processes.iter().cloned());
        cells.sort_by_key(Arc::as_ptr);
        cells.dedup_by(|one, other| Arc::ptr_eq(one, other));
        cells
    }

    /// All processes as they are now, by the names of their servers.
    pub(super) fn looks(&self) -> Vec<(Arc<str>, Look)> {
        let cells = self.cells();
        let looks = cells.iter().map(|cell| (cell.name.clone(), cell.look()));
        looks.collect()
    }

    /// One server, with what became of its processes where `is_whole`.
    pub(super) fn listed(
        &self,
        server: &Server,
        looks: &[(Arc<str>, Look)],
        is_whole: bool,
    ) -> Listed {
        let own = || {
            let own = looks.iter().filter(|(name, _)| *name == server.name);
            own.map(|(_, look)| look)
        };
        let counts = self.counts(&server.name);
        Listed {
            name: server.name.clone(),
            wire: server.wire,
            scope: server.scope,
            states: own().map(|look| look.state).collect(),
            known: self.known(&server.name),
            protocol_version: own().find_map(|look| look.version.clone()),
            processes: own()
                .filter(|look| look.is_run && server.wire != Wire::Internal)
                .count(),
            sessions: own().map(|look| look.sessions).sum(),
            tools: own().find_map(|look| look.tools),
            restarts: counts.restarts(),
            last_error: is_whole.then(|| LastError(counts.last_error())),
        }
    }

    /// The servers that are chosen, in the order of the configuration, with what became of them where `is_whole`.
    pub(crate) fn list(&self, is_chosen: impl Fn(&str) -> bool, is_whole: bool) -> Vec<Listed> {
        let config = self.config();
        let looks = self.looks();
        let servers = config.servers.iter();
        let servers = servers.filter(|server| is_chosen(&server.name));
        let listed = servers.map(|server| self.listed(server, &looks, is_whole));
        listed.collect()
    }

    /// Starts all processes of a server again that run, wait to be started, or have failed too often.
    pub(crate) fn restart(&self, engine: &Arc<Engine>, server: &str) {
        for cell in self.cells() {
            if *cell.name == *server {
                cell.call(engine, |server, now, out, _| server.restart(now, out));
                // One for which there is no room now is started by the next request.
                let _ = self.run(engine, &cell);
            }
        }
    }
}
