//! Figures of the servers for metrics. A request costs one addition.

use super::Gateway;
use super::servers::Look;
use crate::ranked::{LEAF, Ranked};
use mcp_local_provider_core::api::status::{GatewayFigures, ServerFigures, ServerProcess};
use mcp_local_provider_core::time::Instant;
use mcp_local_provider_mcp::config::Transport;
use mcp_local_provider_mcp::server::Delivery;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// States of a process that has a thread, as the metrics name them.
const STATES: [&str; 7] = [
    "starting",
    "ready",
    "unresponsive",
    "stopping",
    "backoff",
    "failed",
    "stopped",
];

/// Outcomes of a request for a server. `kept`: it was answered by a list that is kept.
const OUTCOMES: [&str; 7] = [
    "answered",
    "kept",
    "server_exited",
    "timeout",
    "bad_answer",
    "server_unavailable",
    "other",
];

/// Counts of one server, whatever process of it has worked.
#[derive(Default)]
pub(super) struct Counts {
    /// In the order of [`OUTCOMES`].
    requests: [AtomicU64; OUTCOMES.len()],
    restarts: AtomicU64,
    /// Reason of the latest failure of a process.
    last_error: Ranked<Option<String>, LEAF>,
}

impl Counts {
    /// The reason of the latest failure of a process.
    pub(super) fn last_error(&self) -> Option<String> {
        self.last_error.lock().clone()
    }

    /// Processes that took the place of one that had ended.
    pub(super) fn restarts(&self) -> u64 {
        self.restarts.load(Ordering::Relaxed)
    }

    /// Counts what ends a request and what replaces a process, and notes why a process has failed.
    pub(super) fn add<T>(&self, delivery: &Delivery<'_, T>) {
        let outcome = match delivery {
            Delivery::Answer { is_kept: true, .. } => "kept",
            Delivery::Answer { is_kept: false, .. } => "answered",
            Delivery::Failed { refusal, .. } => {
                let reason = refusal.reason.as_str();
                if OUTCOMES.contains(&reason) {
                    reason
                } else {
                    "other"
                }
            }
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
            | Delivery::Gone { failure: None } => return,
            Delivery::Gone { failure: Some(why) } => {
                *self.last_error.lock() = Some((*why).to_owned());
                return;
            }
        };
        let mut counts = OUTCOMES.iter().zip(&self.requests);
        if let Some((_, count)) = counts.find(|(name, _)| **name == outcome) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Gateway {
    /// The figures of the servers that are configured now.
    pub(crate) fn figures(&self, now: Instant) -> Vec<ServerFigures> {
        let looks = self.looks();
        let run = self.table.lock().processes.clone();
        let run: Vec<(Arc<str>, Look)> = run
            .iter()
            .map(|cell| (cell.name.clone(), cell.look()))
            .collect();
        let config = self.config();
        let servers = config.servers.iter().map(|server| {
            let counts = self.counts(&server.name);
            let requests = OUTCOMES.iter().zip(&counts.requests);
            let own = || run.iter().filter(|(name, _)| *name == server.name);
            let in_state = |state: &str| own().filter(|(_, look)| look.state == state).count();
            let listed = self.listed(server, &looks, true);
            ServerFigures {
                name: server.name.to_string(),
                sessions: listed.sessions,
                processes: STATES
                    .iter()
                    .map(|state| (*state, in_state(state)))
                    .collect(),
                requests: requests
                    .map(|(outcome, count)| (*outcome, count.load(Ordering::Relaxed)))
                    .collect(),
                restarts: listed.restarts,
                running: own()
                    .filter_map(|(_, look)| {
                        let (pid, since) = look.started?;
                        let uptime = now.since(since);
                        let state = look.state;
                        Some(ServerProcess { pid, state, uptime })
                    })
                    .collect(),
                state: listed.state(),
                last_error: counts.last_error(),
            }
        });
        servers.collect()
    }

    /// The figures of the gateway itself.
    pub(crate) fn own_figures(&self) -> GatewayFigures {
        let created = self.table.lock().created;
        let sessions = self.sessions();
        let active = sessions
            .iter()
            .filter(|cell| !cell.machine.lock().is_idle());
        let active = active.count();
        let by = |transport: Transport| {
            let own = sessions.iter().filter(|cell| cell.transport == transport);
            (transport.name(), own.count())
        };
        GatewayFigures {
            max_processes: self.config().processes.max,
            active,
            detached: sessions.len() - active,
            created,
            by_transport: Transport::ALL.into_iter().map(by).collect(),
        }
    }

    /// The counts of a server, which live as long as the program.
    pub(super) fn counts(&self, server: &Arc<str>) -> Arc<Counts> {
        let mut counts = self.counts.lock();
        counts.entry(server.clone()).or_default().clone()
    }
}
