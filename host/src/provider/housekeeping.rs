//! What a provider does without being asked: the hub's deadlines, the way of its audit records, and the shutdown.

use super::shared::{Handle, Shared};
use mcp_local_provider_core::hub::audit::{AuditEvent, AuditRecord, RequestKind};
use mcp_local_provider_core::link::{CloseCode, Command};
use mcp_local_provider_core::time::Instant;
use std::sync::Arc;
use std::task::Waker;
use std::time::Duration;

/// How long agents have to close their links once all answers are done.
const FAREWELL: Duration = Duration::from_secs(2);

/// Usual length of an audit record in bytes.
const LINE: usize = 512;

/// Keeps house for one provider. A driver gives it one task or thread.
#[derive(Debug)]
pub struct Housekeeper {
    shared: Arc<Shared>,
    records: Vec<AuditRecord>,
    phase: Phase,
}

#[derive(Clone, Copy, Debug)]
enum Phase {
    /// Nobody has asked for a shutdown.
    Serving,
    /// The answers under way have until then.
    Answering(Instant),
    /// The agents have until then to close.
    Farewell(Instant),
    /// Nothing runs any more.
    Stopped,
}

/// What an owner wants to see without reading the audit. Requests have lines of their own.
fn log(event: &AuditEvent) {
    match event {
        AuditEvent::Request {
            info, kind, status, ..
        } if matches!(
            kind,
            RequestKind::AuthenticationFailed | RequestKind::Violation
        ) =>
        {
            let (request_id, what) = (info.exchange, kind.as_str());
            let (endpoint, address) = (info.endpoint, info.address);
            tracing::warn!(%request_id, endpoint, status, %address, "{what}");
        }
        AuditEvent::Session {
            session,
            agent_id,
            what,
            status,
            key,
        } => {
            let session = session.as_str();
            let key = key.as_deref();
            tracing::info!(session, agent_id = &**agent_id, status, key, "{what}");
        }
        AuditEvent::Link {
            link, what, key, ..
        } => tracing::info!(link, key = key.as_deref(), "{what}"),
        AuditEvent::Request { .. } => {}
    }
}

impl Housekeeper {
    /// The one of a provider.
    pub const fn new(shared: Arc<Shared>) -> Self {
        Self {
            shared,
            records: Vec::new(),
            phase: Phase::Serving,
        }
    }

    /// Does what is due. To be called again when `waker` was woken, at the time that is returned at the latest. Once
    /// [`Shared::is_stopped`] nothing is left to do.
    pub fn poll(&mut self, waker: &Waker) -> Option<Instant> {
        loop {
            let now = self.shared.clock().now();
            self.serve_hub(now);
            let next = self.shared.hub_cell(|cell| cell.wait(now, waker));
            let until = match self.phase {
                Phase::Serving | Phase::Stopped => None,
                Phase::Answering(until) | Phase::Farewell(until) => Some(until),
            };
            if self.is_over(now) {
                self.go_on(now);
            } else {
                return [next, until].into_iter().flatten().min();
            }
        }
    }

    fn serve_hub(&mut self, now: Instant) {
        let due = self.shared.hub_cell(|cell| {
            if cell.audit_at.is_some_and(|at| at <= now) {
                cell.audit_at = None;
                cell.hub.drain_audit(&mut self.records);
            }
            let timeout = cell.hub.poll_timeout();
            timeout.is_some_and(|timeout| timeout.at <= now)
        });
        if due {
            self.shared
                .hub(|hub, now, out| hub.handle_timeout(now, out));
        }
        let audit = self.shared.audit();
        for record in self.records.drain(..) {
            log(&record.event);
            if audit.is_on() {
                let mut line = Vec::with_capacity(LINE);
                record.write(&self.shared.wall(), &mut line);
                audit.record(line);
            }
        }
    }

    /// True when the phase of now has come to its end.
    fn is_over(&self, now: Instant) -> bool {
        match self.phase {
            Phase::Serving => self.shared.is_draining(),
            Phase::Answering(until) => now >= until || self.shared.connections() == 0,
            Phase::Farewell(until) => now >= until || self.shared.open_sockets() == 0,
            Phase::Stopped => false,
        }
    }

    fn go_on(&mut self, now: Instant) {
        self.phase = match self.phase {
            Phase::Serving => Phase::Answering(now + self.shared.config().timeouts.drain),
            Phase::Answering(_) => {
                for link in self.shared.all_links().0 {
                    link.command(now, Command::Close(CloseCode::GoingAway));
                }
                Phase::Farewell(now + FAREWELL)
            }
            Phase::Farewell(_) | Phase::Stopped => {
                Handle::new(self.shared.clone()).stop();
                Phase::Stopped
            }
        };
    }
}
