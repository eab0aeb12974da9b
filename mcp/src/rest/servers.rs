//! Description of the servers, as `GET /servers` gives it.

use super::failure::quoted;
use crate::config::{Scope, Wire};
use crate::server::Known;
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

/// States of processes, from the one that says most of the server to the one that says least.
const STATES: [&str; 7] = [
    "ready",
    "unresponsive",
    "starting",
    "stopping",
    "backoff",
    "failed",
    "stopped",
];

/// A server, to be described.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Listed {
    /// Its name.
    pub name: Arc<str>,
    /// The wire to it.
    pub wire: Wire,
    /// Sharing of its processes.
    pub scope: Scope,
    /// The states of its processes, by their names.
    pub states: Vec<&'static str>,
    /// Knowledge of the forms of the protocol that it speaks.
    pub known: Known,
    /// The revision that its processes speak, as JSON; `None` while none is ready.
    pub protocol_version: Option<String>,
    /// Processes that run or are to run.
    pub processes: usize,
    /// Sessions of clients.
    pub sessions: usize,
    /// Number of its tools; `None` while no process has listed them.
    pub tools: Option<usize>,
    /// Processes that took the place of one that had ended.
    pub restarts: u64,
    /// The reason of the latest failure, for those who may know it.
    pub last_error: Option<LastError>,
}

/// Reason of the latest failure of a server; `None` where none has failed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LastError(pub Option<String>);

impl Listed {
    /// Returns the state that stands for all its processes: `ready` where one is, and where none is needed.
    #[must_use]
    pub fn state(&self) -> &'static str {
        if self.wire == Wire::Internal {
            return "ready";
        }
        let mut states = STATES.into_iter();
        let found = states.find(|state| self.states.contains(state));
        found.unwrap_or("stopped")
    }

    /// The era that its processes are spoken to in, as JSON: of sessions where it has both.
    const fn era(&self) -> &'static str {
        match (self.known.sessions, self.known.stateless) {
            (Some(true), _) => "\"2025\"",
            (Some(false) | None, Some(true)) => "\"2026\"",
            (Some(false) | None, Some(false) | None) => "null",
        }
    }

    fn json(&self) -> String {
        let tools = self
            .tools
            .map_or_else(|| "null".into(), |tools| format!("{tools}"));
        let last_error = self.last_error.as_ref().map_or_else(String::new, |last| {
            let why = last.0.as_deref().map_or_else(|| "null".into(), quoted);
            format!(",\"last_error\":{why}")
        });
        format!(
            "{{\"name\":{},\"transport\":\"{}\",\"scope\":\"{}\",\"state\":\"{}\",\"era\":{},\"protocol_version\":{},\
             \"processes\":{},\"sessions\":{},\"tools\":{tools},\"restarts\":{}{last_error}}}",
            quoted(&self.name),
            self.wire.name(),
            self.scope.name(),
            self.state(),
            self.era(),
            self.protocol_version.as_deref().unwrap_or("null"),
            self.processes,
            self.sessions,
            self.restarts,
        )
    }
}

/// Returns the body of `GET /servers`.
#[must_use]
pub fn servers(all: &[Listed]) -> String {
    let all: Vec<String> = all.iter().map(Listed::json).collect();
    format!("{{\"servers\":[{}]}}", all.join(","))
}

/// Returns the body that says that the processes of a server are started again.
#[must_use]
pub fn restarting(server: &str) -> String {
    format!(
        "{{\"server\":{},\"status\":\"restarting\"}}",
        quoted(server)
    )
}
