//! Ends of requests: each is counted and written down once, and capacity goes back.

use super::admission::Ticket;
use super::audit::{AuditEvent, RequestInfo, RequestKind};
use super::metrics::Gaps;
use super::sessions::Status;
use super::{Hub, HubOut};
use crate::error::Code;
use crate::id::SessionId;
use crate::invocation::Usage;
use crate::link::{Command, SessionStatus, USED_UP};
use crate::time::Instant;
use alloc::boxed::Box;
use core::time::Duration;

/// The status in the account of a client that left before it was answered.
pub const CLIENT_GONE: u16 = 499;

/// The ends of a request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// The client has the whole answer.
    Completed,
    /// It was refused or failed; the client was told.
    Failed(Code),
    /// It could be read in two ways or not at all, for this reason; the client was told.
    Misframed(&'static str),
    /// The client went away.
    ClientGone,
}

/// The account of a request that has ended, for limits, metrics and audit.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Outcome {
    /// Its end.
    pub verdict: Verdict,
    /// HTTP status that the client saw; [`CLIENT_GONE`] when it left before.
    pub status: u16,
    /// Bytes of the answer's body.
    pub bytes_out: u64,
    /// Tokens of an exchange, the agent's own count or an estimate.
    pub usage: Usage,
    /// Time at which the first chunk came from the agent.
    pub first_chunk: Option<Instant>,
    /// The times between the chunks of an answer that was streamed.
    pub gaps: Option<Gaps>,
}

impl Outcome {
    /// The account of a request that used no tokens.
    #[must_use]
    pub const fn new(verdict: Verdict, status: u16, bytes_out: u64) -> Self {
        Self {
            verdict,
            status,
            bytes_out,
            usage: Usage {
                prompt_tokens: 0,
                completion_tokens: 0,
                estimated: false,
            },
            first_chunk: None,
            gaps: None,
        }
    }

    /// The account of a request whose client left before any of its answer.
    #[must_use]
    pub const fn left() -> Self {
        Self::new(Verdict::ClientGone, CLIENT_GONE, 0)
    }
}

impl Verdict {
    /// `outcome` of the audit record: `ok`, or why there was no answer or not all of it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Completed => "ok",
            Self::Failed(code) => code.name().unwrap_or("invalid_request"),
            Self::Misframed(_) => "malformed_request",
            Self::ClientGone => "client_disconnected",
        }
    }

    /// Returns the audit's class of the end of a request that was not admitted.
    #[must_use]
    pub const fn kind(self) -> RequestKind {
        match self {
            Self::Completed | Self::ClientGone => RequestKind::Answered,
            Self::Failed(code) => RequestKind::of(code),
            Self::Misframed(_) => RequestKind::Violation,
        }
    }
}

impl Hub {
    /// A request has ended, in whatever way. It is counted and written down; the capacity of one that was admitted, whose
    /// `ticket` this takes, goes to those that wait.
    pub fn conclude(
        &mut self,
        now: Instant,
        mut info: Box<RequestInfo>,
        ticket: Option<Ticket>,
        outcome: &Outcome,
        out: &mut HubOut,
    ) {
        let now = self.latest.clamp(now);
        let duration = now.since(info.started);
        *self
            .answers
            .entry((info.endpoint, outcome.status))
            .or_default() += 1;
        self.recent.count(now, |tally| {
            tally.requests += 1;
            tally.failed += u64::from(outcome.status >= 500);
        });
        let mut kind = RequestKind::Answered;
        let (session, agent_id) = match ticket {
            Some(ticket) => {
                if matches!(info.model.as_deref(), Some("" | "default")) {
                    info.model = Some((&*ticket.model).into());
                }
                let agent_id = self.sessions.get(ticket.slot);
                let agent_id = agent_id.map(|session| session.agent_id.clone());
                (
                    Some(self.settle(now, ticket, outcome, duration, out)),
                    agent_id,
                )
            }
            None => {
                kind = outcome.verdict.kind();
                match kind {
                    RequestKind::AuthenticationFailed => self.metrics.unauthenticated += 1,
                    RequestKind::Violation => self.metrics.violations += 1,
                    // The limiter has counted it.
                    RequestKind::Answered | RequestKind::RateLimited => {}
                }
                (None, None)
            }
        };
        if matches!(outcome.verdict, Verdict::Misframed(_)) {
            info.check = Some("framing");
        }
        let admitted = session.is_some();
        out.record(
            now,
            AuditEvent::Request {
                info,
                kind,
                session,
                agent_id,
                status: outcome.status,
                outcome: outcome.verdict.as_str(),
                duration,
                bytes_out: outcome.bytes_out,
                usage: admitted.then_some(outcome.usage),
            },
        );
        if admitted {
            self.pump(now, out);
        }
    }

    /// Takes the ticket of an exchange back; the session that answered it.
    fn settle(
        &mut self,
        now: Instant,
        ticket: Ticket,
        outcome: &Outcome,
        duration: Duration,
        out: &mut HubOut,
    ) -> SessionId {
        match outcome.verdict {
            Verdict::Completed => self.metrics.completed += 1,
            Verdict::Failed(_) | Verdict::Misframed(_) => self.metrics.failed += 1,
            Verdict::ClientGone => self.metrics.cancelled += 1,
        }
        let usage = &outcome.usage;
        let metrics = &mut self.metrics;
        metrics.prompt_tokens = metrics.prompt_tokens.saturating_add(usage.prompt_tokens);
        metrics.completion_tokens = metrics
            .completion_tokens
            .saturating_add(usage.completion_tokens);
        self.metrics.latency.observe(duration);
        if let Some(first) = outcome.first_chunk {
            self.metrics
                .time_to_first_token
                .observe(first.since(ticket.admitted));
            if let Some(gaps) = &outcome.gaps {
                self.metrics.stream_duration.observe(now.since(first));
                self.metrics.chunk_gap.absorb(gaps);
            }
            self.upstream_succeeded(ticket.slot);
        }
        self.limiter.correct(
            now,
            ticket.payer,
            ticket.reserved,
            outcome.usage.total_tokens(),
        );
        let session = ticket.session().clone();
        self.give_back(now, ticket, outcome.usage.total_tokens(), out);
        session
    }

    /// The session of a ticket has failed, and another one is to answer: the ticket goes back, the payer stays charged.
    pub(super) fn take_failed(&mut self, now: Instant, ticket: Ticket, out: &mut HubOut) {
        self.metrics.failed += 1;
        self.give_back(now, ticket, 0, out);
    }

    /// The capacity of an exchange goes back to its session, which used so many tokens.
    fn give_back(&mut self, now: Instant, mut ticket: Ticket, tokens: u64, out: &mut HubOut) {
        ticket.settled = true;
        self.metrics.open = self.metrics.open.saturating_sub(1);
        self.metrics.settled += 1;
        if let Some(open) = self.at_work.get_mut(&ticket.link) {
            *open -= 1;
            if *open == 0 {
                self.at_work.remove(&ticket.link);
            }
        }
        if let Some(session) = self.sessions.get(ticket.slot)
            && session.id == *ticket.session()
        {
            session.activity.end(now, tokens);
            self.correct_session(now, session, ticket.reserved, tokens);
            if session.status == Status::Active
                && session.is_spent()
                && session.activity.in_flight() == 0
                && let Some(link) = session.link
            {
                let status = Command::SessionStatus(SessionStatus {
                    session: session.id.clone(),
                    status: session.status.as_str(),
                    reason: USED_UP,
                });
                out.commands.push((link, status));
            }
        }
        self.reroute(ticket.slot);
        self.session_changed(ticket.slot);
    }
}
