//! Figures of the servers for metrics. A request costs one addition.

use super::Gateway;
use super::cell::ServerCell;
use mcp_local_provider_core::api::status::ServerFigures;
use mcp_local_provider_core::process::State;
use mcp_local_provider_mcp::refusal::Reason;
use mcp_local_provider_mcp::server::Delivery;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// States of a process that has a thread, as the metrics name them.
const STATES: [&str; 6] = [
    "starting", "ready", "stopping", "backoff", "failed", "stopped",
];

/// Outcomes of a request that was given to a server.
const OUTCOMES: [&str; 6] = [
    "answered",
    "server_exited",
    "timeout",
    "bad_answer",
    "server_unavailable",
    "other",
];

/// Counts of one server, whatever process of it has worked.
#[derive(Debug, Default)]
pub(super) struct Counts {
    /// In the order of [`OUTCOMES`].
    requests: [AtomicU64; OUTCOMES.len()],
    restarts: AtomicU64,
}

impl Counts {
    /// Counts what ends a request, and what replaces a process.
    pub(super) fn add<T>(&self, delivery: &Delivery<'_, T>) {
        let outcome = match delivery {
            Delivery::Answer { .. } => "answered",
            Delivery::Failed { refusal, .. } => match refusal.reason {
                Reason::ServerExited => "server_exited",
                Reason::Timeout => "timeout",
                Reason::BadAnswer => "bad_answer",
                Reason::ServerUnavailable => "server_unavailable",
                Reason::NotJson
                | Reason::BadRequest
                | Reason::BadParams
                | Reason::HeaderMismatch
                | Reason::MissingCapability
                | Reason::UnsupportedVersion
                | Reason::MethodNotAllowed
                | Reason::MethodNotFound
                | Reason::ToolNotFound
                | Reason::PromptNotFound
                | Reason::ResourceNotFound
                | Reason::NameClash
                | Reason::NoSession
                | Reason::SessionNotFound
                | Reason::ServerNotFound
                | Reason::EventGone
                | Reason::NotAcceptable
                | Reason::UnsupportedMediaType
                | Reason::RateLimited
                | Reason::SessionsFull
                | Reason::InFlightFull
                | Reason::GatewayFull
                | Reason::ProcessesFull => "other",
            },
            Delivery::Ready { again, .. } => {
                self.restarts
                    .fetch_add(u64::from(*again), Ordering::Relaxed);
                return;
            }
            Delivery::NotReady(_)
            | Delivery::Progress { .. }
            | Delivery::Asked { .. }
            | Delivery::Withdrawn { .. }
            | Delivery::Notified { .. }
            | Delivery::Gone => return,
        };
        let mut counts = OUTCOMES.iter().zip(&self.requests);
        if let Some((_, count)) = counts.find(|(name, _)| **name == outcome) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }
}

const fn name(state: State) -> &'static str {
    match state {
        State::Starting => "starting",
        State::Running { .. } => "ready",
        State::Stopping { .. } => "stopping",
        State::Waiting { .. } => "backoff",
        State::Failing { .. } => "failed",
        State::Stopped => "stopped",
    }
}

impl Gateway {
    /// The figures of the servers that are configured now.
    pub(crate) fn figures(&self) -> Vec<ServerFigures> {
        let config = self.config();
        let (sessions, processes): (Vec<Arc<str>>, Vec<Arc<ServerCell>>) = {
            let table = self.table.lock();
            let sessions = table.sessions.values();
            let servers = sessions.flat_map(|cell| cell.servers());
            let sessions = servers.map(|server| server.name.clone());
            (sessions.collect(), table.processes.clone())
        };
        let processes: Vec<(Arc<str>, &str)> = processes
            .iter()
            .map(|cell| (cell.name.clone(), name(cell.process_state())))
            .collect();
        let servers = config.servers.iter().map(|server| {
            let counts = self.counts(&server.name);
            let requests = OUTCOMES.iter().zip(&counts.requests);
            let in_state = |state: &str| {
                let own = processes.iter();
                own.filter(|(name, other)| *name == server.name && *other == state)
                    .count()
            };
            ServerFigures {
                name: server.name.to_string(),
                sessions: sessions.iter().filter(|name| **name == server.name).count(),
                processes: STATES
                    .iter()
                    .map(|state| (*state, in_state(state)))
                    .collect(),
                requests: requests
                    .map(|(outcome, count)| (*outcome, count.load(Ordering::Relaxed)))
                    .collect(),
                restarts: counts.restarts.load(Ordering::Relaxed),
            }
        });
        servers.collect()
    }

    /// The counts of a server, which live as long as the program.
    pub(super) fn counts(&self, server: &Arc<str>) -> Arc<Counts> {
        let mut counts = self.counts.lock();
        counts.entry(server.clone()).or_default().clone()
    }
}
