//! Accounts of requests: the one place where a request is counted, written into the audit, and told to the log.

#[cfg(test)]
mod tests;

use super::engine::Engine;
use mcp_local_provider_core::exchange::Reply;
use mcp_local_provider_core::hub::audit::{RequestInfo, RequestKind};
use mcp_local_provider_core::hub::limiter::Payer;
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
    address: IpAddr,
    started: Instant,
    /// Until the end is recorded.
    info: Option<Box<RequestInfo>>,
    /// Of a request to an agent, once its caller is known.
    payer: Option<Payer>,
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
            address,
            started,
            info: Some(Box::new(info)),
            payer: None,
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

    /// The client's address.
    pub const fn address(&self) -> IpAddr {
        self.address
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

    /// The request is one to an agent, and draws on the limits of `payer`.
    pub const fn draws_on(&mut self, payer: Payer) {
        self.payer = Some(payer);
    }

    /// Adds what is left of the payer's limits to the head of an answer that does not tell it: one without a ticket.
    pub fn tell_limits(&self, reply: &mut Reply) {
        if let Some(payer) = self.payer
            && let Some(head) = &mut reply.head
            && head.standing.is_none()
        {
            let standing = self.engine.hub(|hub, now, _| hub.standing(now, payer));
            head.standing = Some(standing);
        }
    }

    /// Takes the permission to run the exchange, to give it back at the end.
    pub fn admit(&mut self, ticket: Ticket) {
        self.ticket = Some(ticket);
    }

    /// Gives the permission back, so that another session may be asked.
    pub const fn take_ticket(&mut self) -> Option<Ticket> {
        self.ticket.take()
    }

    /// The permission to run the exchange.
    pub const fn ticket(&self) -> Option<&Ticket> {
        self.ticket.as_ref()
    }

    /// Records the end of the request, at `now`.
    pub fn close(mut self, now: Instant, outcome: &Outcome) {
        self.record(now, outcome);
    }

    fn record(&mut self, now: Instant, outcome: &Outcome) {
        let info = self.info.take();
        debug_assert!(info.is_some(), "request {} has ended twice", self.id);
        let Some(info) = info else {
            return;
        };
        let ticket = self.ticket.take();
        let prompts = self.payer.is_some();
        log(&info, prompts, now, ticket.as_ref(), outcome);
        self.engine
            .hub(|hub, now, out| hub.conclude(now, info, ticket, outcome, out));
    }
}

impl Drop for Account {
    fn drop(&mut self) {
        if self.info.is_some() {
            self.record(self.engine.clock(), &Outcome::left());
        }
    }
}

/// The line of a request: at `info` for one to an agent (`prompts`), admitted or not, so that an owner sees each. The message
/// of a refusal may quote the request, and that of an agent the prompt, so that the log names the code alone.
fn log(
    info: &RequestInfo,
    prompts: bool,
    now: Instant,
    ticket: Option<&Ticket>,
    outcome: &Outcome,
) {
    let id = info.exchange.text();
    let request_id = std::str::from_utf8(&id).unwrap_or_default();
    let (endpoint, status) = (info.endpoint, outcome.status);
    let code = outcome.verdict.as_str();
    let kind = outcome.verdict.kind();
    match (outcome.verdict, kind) {
        (Verdict::Misframed(why), _) => {
            let address = info.address;
            tracing::warn!(%request_id, endpoint, status, %address, "refused for its framing: {why}");
            return;
        }
        (Verdict::Failed(_), RequestKind::AuthenticationFailed | RequestKind::Violation) => {
            let (address, what) = (info.address, kind.title());
            tracing::warn!(%request_id, endpoint, status, %address, code, "{what}");
            return;
        }
        (Verdict::Completed | Verdict::ClientGone | Verdict::Failed(_), _) => {}
    }
    if !prompts {
        let bytes = outcome.bytes_out;
        let what = match outcome.verdict {
            Verdict::Completed => "answered",
            Verdict::ClientGone => "the client went away",
            Verdict::Failed(_) | Verdict::Misframed(_) => "refused",
        };
        tracing::debug!(%request_id, endpoint, status, bytes, code, "{what}");
        return;
    }
    let model = info.model.as_deref();
    let code = (outcome.verdict != Verdict::Completed).then_some(code);
    let millis = |from: Instant, to: Instant| u64::try_from(to.since(from).as_millis()).ok();
    let duration_ms = millis(info.started, now);
    let first_token_ms = outcome
        .first_chunk
        .and_then(|first| millis(info.started, first));
    let agent = ticket.map(|ticket| &*ticket.label);
    let session = ticket.map(|ticket| ticket.session().as_str());
    let prompt_tokens = ticket.map(|_| outcome.usage.prompt_tokens);
    let completion_tokens = ticket.map(|_| outcome.usage.completion_tokens);
    let client = info.user_agent.as_deref();
    let key = info.key.as_deref();
    // One set of fields for all, in the order in which a person reads them.
    macro_rules! line {
        ($level:ident, $message:literal) => {
            tracing::$level!(
                status,
                endpoint,
                model,
                agent,
                duration_ms,
                first_token_ms,
                prompt_tokens,
                completion_tokens,
                client,
                key,
                code,
                session,
                %request_id,
                $message
            )
        };
    }
    match outcome.verdict {
        Verdict::Completed => line!(info, "answered"),
        Verdict::ClientGone => line!(info, "the client went away"),
        Verdict::Failed(_) if ticket.is_some() => line!(warn, "failed"),
        Verdict::Failed(_) | Verdict::Misframed(_) => line!(info, "refused"),
    }
}
