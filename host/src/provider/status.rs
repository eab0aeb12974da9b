//! What the running program tells about itself: gathered when metrics or health are asked for, and only then.

use super::{Shared, lock};
use crate::process::Usage;
use mcp_local_provider_core::api::status::{
    AuditFigures, Component, Health, LinkTotals, ProcessFigures, ProgramStatus,
};
use mcp_local_provider_core::hub::metrics::Snapshot;
use mcp_local_provider_core::time::Instant;
use std::sync::{Arc, Mutex};

/// How an external bridge does.
#[derive(Debug)]
pub struct BridgeStatus {
    name: String,
    state: Mutex<BridgeState>,
}

#[derive(Debug, Default)]
struct BridgeState {
    connected: bool,
    given_up: bool,
    /// When it was dialled last, or the link was lost.
    changed: Instant,
    failures: u64,
    why: Option<String>,
}

impl BridgeStatus {
    /// A bridge that is being dialled.
    pub fn new(name: &str) -> Arc<Self> {
        Arc::new(Self {
            name: name.to_owned(),
            state: Mutex::default(),
        })
    }

    /// There is a link.
    pub fn connected(&self, now: Instant) {
        let mut state = lock(&self.state);
        state.connected = true;
        state.changed = now;
        state.why = None;
    }

    /// The link is lost, or could not be made; `given_up` when it is not dialled again.
    pub fn lost(&self, now: Instant, why: String, given_up: bool) {
        let mut state = lock(&self.state);
        state.connected = false;
        state.given_up = given_up;
        state.changed = now;
        state.failures += 1;
        state.why = Some(why);
    }

    fn component(&self, now: Instant) -> Component {
        let state = lock(&self.state);
        let health = if state.connected {
            Health::Healthy
        } else if state.given_up {
            Health::Unhealthy
        } else {
            Health::Degraded
        };
        let never = || "it is being dialled".to_owned();
        Component {
            name: format!("bridge:{}", self.name),
            health,
            last_check: if state.connected { now } else { state.changed },
            errors: state.failures,
            latency: None,
            message: (!state.connected).then(|| state.why.clone().unwrap_or_else(never)),
        }
    }
}

/// Gathers all that is told.
pub(super) fn gather(shared: &Shared, process: Usage) -> (Snapshot, ProgramStatus) {
    let before = shared.clock().now();
    let snapshot = shared.hub(|hub, now, _| hub.snapshot(now));
    let hub_latency = shared.clock().now().since(before);
    let (cells, counters) = shared.all_links();
    let mut links = LinkTotals {
        counters,
        ..LinkTotals::default()
    };
    for link in cells {
        link.add_to(&mut links);
    }
    let audit = shared.audit().is_on().then(|| {
        let status = shared.audit().status();
        AuditFigures {
            written: status.written,
            lost: status.lost,
            queued_bytes: status.queued_bytes,
            error: status.error,
        }
    });
    let status = ProgramStatus {
        hub_latency,
        connections: shared.connections(),
        max_connections: shared.config().limits.connections,
        links,
        audit,
        process: Some(ProcessFigures {
            cpu: process.cpu,
            resident_bytes: process.resident_bytes,
            open_files: process.open_files,
            threads: process.threads,
        }),
        components: shared
            .bridges()
            .iter()
            .map(|bridge| bridge.component(snapshot.now))
            .collect(),
    };
    (snapshot, status)
}
