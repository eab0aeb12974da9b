//! Accounts of requests: the one place where a request is counted, written into the audit, and told to the log.

#[cfg(test)]
mod tests;

use super::engine::Engine;
use mcp_local_provider_core::hub::audit::{RequestInfo, RequestKind};
use mcp_local_provider_core::hub::{Outcome, Ticket, Verdict};
use mcp_local_provider_core::id::ExchangeId;
use mcp_local_provider_core::time::Instant;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

/// `endpoint` of a request whose route is not known.
const UNKNOWN_ROUTE: &str = "unknown route";

/// The account of one request, from its head to its end. [`Account::close`] consumes it, so that a request ends once. One
/// that is dropped before records that the client left, and gives back the ticket that it holds.
#[must_use]
pub(crate) struct Account {
    engine: Arc<Engine>,
    id: ExchangeId,
    started: Instant,
    /// Until the end is recorded.
    info: Option<Box<RequestInfo>>,
    /// From admission on.
    ticket: Option<Ticket>,
}

impl fmt::Debug for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Account({})", self.id)
    }
}

impl Account {
    /// The account of a request whose head has been read.
    pub fn open(engine: &Arc<Engine>, address: IpAddr) -> Self {
        let (id, started) = (engine.next_id(), engine.now());
        let info = RequestInfo::new(id, started, address, UNKNOWN_ROUTE);
        Self {
            engine: engine.clone(),
            id,
            started,
            info: Some(Box::new(info)),
            ticket: None,
        }
    }

    /// The engine that serves the request.
    pub const fn engine(&self) -> &Arc<Engine> {
        &self.engine
    }

    /// The request's id.
    pub const fn id(&self) -> ExchangeId {
        self.id
    }

    /// Time at which the request's head had been read.
    pub const fn started(&self) -> Instant {
        self.started
    }

    /// Adds what has become known of the request.
    pub fn describe(&mut self, describe: impl FnOnce(&mut RequestInfo)) {
        if let Some(info) = &mut self.info {
            describe(info);
        }
    }

    /// Takes the permission to run the exchange, to give it back at the end.
    pub fn admit(&mut self, ticket: Ticket) {
        self.ticket = Some(ticket);
    }

    /// The permission to run the exchange.
    pub const fn ticket(&self) -> Option<&Ticket> {
        self.ticket.as_ref()
    }

    /// Records the end of the request.
    pub fn close(mut self, outcome: &Outcome) {
        self.record(outcome);
    }

    fn record(&mut self, outcome: &Outcome) {
        let info = self.info.take();
        debug_assert!(info.is_some(), "request {} has ended twice", self.id);
        let Some(info) = info else {
            return;
        };
        let ticket = self.ticket.take();
        log(&info, ticket.as_ref(), outcome);
        self.engine
            .hub(|hub, now, out| hub.conclude(now, info, ticket, outcome, out));
    }
}

impl Drop for Account {
    fn drop(&mut self) {
        if self.info.is_some() {
            self.record(&Outcome::left());
        }
    }
}

/// The last line of a request. The message of a refusal may quote the request, so that the log names its code alone.
fn log(info: &RequestInfo, ticket: Option<&Ticket>, outcome: &Outcome) {
    let session = ticket.map(|ticket| ticket.session().as_str());
    let (request_id, endpoint) = (info.exchange, info.endpoint);
    let (status, bytes) = (outcome.status, outcome.bytes_out);
    let code = outcome.verdict.as_str();
    match (outcome.verdict, outcome.verdict.kind()) {
        (Verdict::Completed, _) => {
            tracing::debug!(%request_id, session, endpoint, status, bytes, "answered");
        }
        (Verdict::ClientGone, _) => {
            tracing::debug!(%request_id, session, endpoint, status, bytes, "the client went away");
        }
        (Verdict::Misframed(why), _) => {
            let address = info.address;
            tracing::warn!(%request_id, endpoint, status, %address, "refused for its framing: {why}");
        }
        (Verdict::Failed(_), _) if ticket.is_some() => {
            tracing::warn!(%request_id, session, endpoint, status, bytes, code, "failed");
        }
        (
            Verdict::Failed(_),
            kind @ (RequestKind::AuthenticationFailed | RequestKind::Violation),
        ) => {
            let (address, what) = (info.address, kind.as_str());
            tracing::warn!(%request_id, endpoint, status, %address, code, "{what}");
        }
        (Verdict::Failed(_), RequestKind::Answered | RequestKind::RateLimited) => {
            tracing::debug!(%request_id, endpoint, status, code, "refused");
        }
    }
}
