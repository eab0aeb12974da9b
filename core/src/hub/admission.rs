//! Admission: a ticket for each exchange that may go ahead, a short queue for those that must wait.

use super::audit::{AuditEvent, RequestInfo, RequestKind};
use super::limiter::{Limited, Payer, Standing};
use super::metrics::Gaps;
use super::routing::{Slot, Unrouted};
use super::{Hub, HubOut, SWEEP};
use crate::error::{Code, Refusal};
use crate::id::{ExchangeId, LinkId, SessionId, WaitId};
use crate::invocation::Usage;
use crate::time::Instant;
use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::string::String;
use alloc::sync::Arc;
use core::sync::atomic::{AtomicU64, Ordering};
use core::time::Duration;

/// The status in the account of a client that left before it was answered.
const CLIENT_GONE: u16 = 499;

/// What an exchange asks of the hub.
#[derive(Clone, Copy, Debug)]
pub struct Ask<'a> {
    /// The model as the client named it.
    pub model: &'a str,
    /// The session that the client picked with `X-MCP-Session`.
    pub session: Option<&'a str>,
    /// Tokens of the prompt (estimated) and `max_tokens` together.
    pub tokens: u64,
    /// The scope that the session must have.
    pub scope: &'static str,
    /// True when vectors are wanted, which few agents make.
    pub embeddings: bool,
}

/// The permission to run one exchange. It goes back with [`Hub::settle`]; one that is dropped instead is counted as a fault.
#[must_use]
#[derive(Debug)]
pub struct Ticket {
    /// The exchange.
    pub exchange: ExchangeId,
    /// The link that answers.
    pub link: LinkId,
    /// The session that answers.
    pub session: SessionId,
    /// The session's label.
    pub label: Arc<str>,
    /// The model as the agent names it.
    pub model: Arc<str>,
    /// What is left of the caller's limits.
    pub standing: Standing,
    /// The agent is asked in words only (see [`Capabilities`](crate::link::Capabilities)).
    pub words_only: bool,
    /// It calls the caller's tools.
    pub tools: bool,
    pub(super) slot: Slot,
    pub(super) payer: Payer,
    pub(super) reserved: u64,
    pub(super) admitted: Instant,
    pub(super) info: Option<Box<RequestInfo>>,
    unsettled: Arc<AtomicU64>,
}

impl Drop for Ticket {
    fn drop(&mut self) {
        // `settle` takes the request's description out; a ticket that still has it was dropped on the way.
        if self.info.is_some() {
            self.unsettled.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// The answer to [`Hub::admit`].
#[derive(Debug)]
pub enum Admission {
    /// Go ahead.
    Granted(Ticket),
    /// Wait until [`HubOut::woken`] or the queue's deadline, then [`Hub::claim`].
    Queued(WaitId),
}

/// The answer to [`Hub::claim`].
#[derive(Debug)]
pub enum Claim {
    /// Go ahead.
    Granted(Ticket),
    /// Wait on.
    Waiting,
    /// Capacity did not come in time, or the session went.
    Refused(Refusal),
}

/// How an admitted exchange ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// The client has the whole answer.
    Completed,
    /// It failed; the client was told.
    Failed(Code),
    /// The client went away.
    ClientGone,
}

/// The account of an exchange, for limits, metrics and audit.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Outcome {
    /// How it ended.
    pub verdict: Verdict,
    /// HTTP status that the client saw; 499 when it left before.
    pub status: u16,
    /// Tokens, the agent's own count or an estimate.
    pub usage: Usage,
    /// Bytes of the answer's body.
    pub bytes_out: u64,
    /// When the first chunk came from the agent.
    pub first_chunk: Option<Instant>,
    /// The times between the chunks of an answer that was streamed.
    pub gaps: Option<Gaps>,
}

/// Admissions that wait, first come first served among those that want the same.
#[derive(Debug, Default)]
pub(super) struct Queue {
    entries: VecDeque<Waiter>,
    last: u64,
}

#[derive(Debug)]
struct Waiter {
    id: WaitId,
    model: String,
    session: Option<String>,
    scope: &'static str,
    embeddings: bool,
    tokens: u64,
    payer: Payer,
    /// Taken when the ticket is made.
    info: Option<Box<RequestInfo>>,
    deadline: Instant,
    answer: Option<Result<Ticket, Refusal>>,
}

impl Waiter {
    fn ask(&self) -> Ask<'_> {
        Ask {
            model: &self.model,
            session: self.session.as_deref(),
            tokens: self.tokens,
            scope: self.scope,
            embeddings: self.embeddings,
        }
    }
}

impl Queue {
    /// Those that have no answer yet.
    pub(super) fn len(&self) -> usize {
        self.entries
            .iter()
            .filter(|waiter| waiter.answer.is_none())
            .count()
    }

    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.entries
            .iter()
            .filter(|waiter| waiter.answer.is_none())
            .map(|waiter| waiter.deadline)
            .min()
    }
}

impl Hub {
    /// Asks for permission to run an exchange.
    ///
    /// # Errors
    /// 503 when no agent can answer or everything is full, 404 for an unknown model or session, 403 where a scope is
    /// missing, 429 where a limit is reached.
    pub fn admit(
        &mut self,
        now: Instant,
        caller: &super::keys::Caller,
        info: RequestInfo,
        ask: &Ask<'_>,
    ) -> Result<Admission, Refusal> {
        let now = self.latest.clamp(now);
        let info = Box::new(info);
        match self.try_admit(now, caller, ask) {
            Ok(Some(slot)) => {
                let payer = Payer::new(caller.key, caller.address);
                self.grant(now, slot, ask.model, payer, ask.tokens, info)
                    .map(Admission::Granted)
            }
            Ok(None) => Ok(Admission::Queued(self.enqueue(now, caller, info, ask))),
            Err(refusal) => {
                self.record_refused(now, info, &refusal);
                Err(refusal)
            }
        }
    }

    /// The session to use, or `None` when the queue has room to wait in.
    fn try_admit(
        &mut self,
        now: Instant,
        caller: &super::keys::Caller,
        ask: &Ask<'_>,
    ) -> Result<Option<Slot>, Refusal> {
        if self.draining {
            return Err(Refusal::new(
                Code::Draining,
                "the provider is shutting down; try again when it is back",
            )
            .retry_after(Duration::from_secs(5)));
        }
        let routed = match self.route(ask) {
            Err(Unrouted::Refused(refusal)) => return Err(refusal),
            Err(Unrouted::Busy) => None,
            Ok(slot) => Some(slot),
        };
        if routed.is_none() && self.queue.len() >= self.config.limits.queue_length {
            self.metrics.overloaded += 1;
            return Err(Refusal::new(
                Code::Overloaded,
                alloc::format!(
                    "{} exchanges are open and {} wait; try again in a moment",
                    self.metrics.open,
                    self.queue.len()
                ),
            )
            .retry_after(self.config.limits.queue_wait));
        }
        let payer = Payer::new(caller.key, caller.address);
        self.limiter
            .take(now, payer, ask.tokens)
            .map_err(|limited| {
                let (what, limit, wait) = match limited {
                    Limited::Requests(wait) => {
                        self.metrics.limited_requests += 1;
                        ("requests", self.config.limits.requests_per_minute, wait)
                    }
                    Limited::Tokens(wait) => {
                        self.metrics.limited_tokens += 1;
                        ("tokens", self.config.limits.tokens_per_minute, wait)
                    }
                };
                let limit = caller
                    .key
                    .and_then(|key| self.keys.get(key))
                    .and_then(|key| match limited {
                        Limited::Requests(_) => key.requests_per_minute,
                        Limited::Tokens(_) => key.tokens_per_minute,
                    })
                    .unwrap_or(limit);
                Refusal::new(
                    Code::RateLimited,
                    alloc::format!(
                        "`{}` has used its {limit} {what} a minute (limits.{what}_per_minute)",
                        caller.name
                    ),
                )
                .retry_after(wait)
                .standing(self.limiter.standing(now, payer))
            })?;
        if self.sweep_at.is_none() && !self.limiter.is_idle() {
            self.sweep_at = Some(now + SWEEP);
        }
        Ok(routed)
    }

    fn grant(
        &mut self,
        now: Instant,
        slot: Slot,
        asked: &str,
        payer: Payer,
        reserved: u64,
        info: Box<RequestInfo>,
    ) -> Result<Ticket, Refusal> {
        let model: Arc<str> = Arc::from(self.resolve(asked));
        let standing = self.limiter.standing(now, payer);
        let Some((session, link)) = self
            .sessions
            .get_mut(slot)
            .and_then(|session| session.link.map(|link| (session, link)))
        else {
            let refusal = Refusal::new(Code::AgentLost, "the agent's connection was lost");
            self.record_refused(now, info, &refusal);
            return Err(refusal);
        };
        session.in_flight += 1;
        session.request_count += 1;
        session.last_activity = now;
        let ticket = Ticket {
            exchange: info.exchange,
            link,
            session: session.id.clone(),
            label: session.label.clone(),
            model,
            standing,
            words_only: session.capabilities.words_only,
            tools: session.capabilities.tools,
            slot,
            payer,
            reserved,
            admitted: now,
            info: Some(info),
            unsettled: self.unsettled.clone(),
        };
        self.metrics.admitted += 1;
        self.metrics.open += 1;
        self.reroute(slot);
        Ok(ticket)
    }

    fn enqueue(
        &mut self,
        now: Instant,
        caller: &super::keys::Caller,
        info: Box<RequestInfo>,
        ask: &Ask<'_>,
    ) -> WaitId {
        self.queue.last += 1;
        let id = WaitId(self.queue.last);
        self.queue.entries.push_back(Waiter {
            id,
            model: ask.model.into(),
            session: ask.session.map(Into::into),
            scope: ask.scope,
            embeddings: ask.embeddings,
            tokens: ask.tokens,
            payer: Payer::new(caller.key, caller.address),
            info: Some(info),
            deadline: now + self.config.limits.queue_wait,
            answer: None,
        });
        id
    }

    /// Asks what became of a waiting admission.
    pub fn claim(&mut self, now: Instant, wait: WaitId) -> Claim {
        let now = self.latest.clamp(now);
        let Some(at) = self
            .queue
            .entries
            .iter()
            .position(|waiter| waiter.id == wait)
        else {
            return Claim::Refused(Refusal::new(
                Code::Internal,
                "this request does not wait any more",
            ));
        };
        if self
            .queue
            .entries
            .get(at)
            .is_some_and(|waiter| waiter.answer.is_none())
        {
            return Claim::Waiting;
        }
        match self.queue.entries.remove(at) {
            Some(Waiter {
                answer: Some(Ok(ticket)),
                ..
            }) => Claim::Granted(ticket),
            Some(Waiter {
                answer: Some(Err(refusal)),
                info,
                payer,
                tokens,
                ..
            }) => {
                // It was let pass by the limiter and has used nothing.
                self.limiter.correct(now, payer, tokens, 0);
                if let Some(info) = info {
                    self.record_refused(now, info, &refusal);
                }
                Claim::Refused(refusal)
            }
            _ => Claim::Waiting,
        }
    }

    /// The client of a waiting admission went away. Idempotent.
    pub fn leave(&mut self, now: Instant, wait: WaitId, out: &mut HubOut) {
        let now = self.latest.clamp(now);
        let Some(at) = self
            .queue
            .entries
            .iter()
            .position(|waiter| waiter.id == wait)
        else {
            return;
        };
        let Some(waiter) = self.queue.entries.remove(at) else {
            return;
        };
        if let Some(Ok(ticket)) = waiter.answer {
            let outcome = Outcome {
                verdict: Verdict::ClientGone,
                status: CLIENT_GONE,
                usage: Usage::default(),
                bytes_out: 0,
                first_chunk: None,
                gaps: None,
            };
            self.settle(now, ticket, outcome, out);
            return;
        }
        self.limiter.correct(now, waiter.payer, waiter.tokens, 0);
        if let Some(info) = waiter.info {
            let (kind, outcome) = (RequestKind::Answered, "client_disconnected");
            self.record_request(now, info, kind, CLIENT_GONE, outcome, 0);
        }
    }

    /// Gives freed capacity to those that wait, in order, past those that want what is still busy.
    pub(super) fn pump(&mut self, now: Instant, out: &mut HubOut) {
        if self.queue.entries.is_empty() {
            return;
        }
        let mut entries = core::mem::take(&mut self.queue.entries);
        for waiter in &mut entries {
            if waiter.answer.is_some() {
                continue;
            }
            let answer = if self.draining {
                Err(Unrouted::Refused(Refusal::new(
                    Code::Draining,
                    "the provider is shutting down",
                )))
            } else {
                self.route(&waiter.ask())
            };
            match answer {
                Ok(slot) => {
                    if let Some(info) = waiter.info.take() {
                        waiter.answer = Some(self.grant(
                            now,
                            slot,
                            &waiter.model,
                            waiter.payer,
                            waiter.tokens,
                            info,
                        ));
                    }
                    out.woken = true;
                }
                Err(Unrouted::Refused(refusal)) => {
                    waiter.answer = Some(Err(refusal));
                    out.woken = true;
                }
                Err(Unrouted::Busy) => {}
            }
        }
        self.queue.entries = entries;
    }

    pub(super) fn expire_queue(&mut self, now: Instant, out: &mut HubOut) {
        let wait = self.config.limits.queue_wait;
        for waiter in &mut self.queue.entries {
            if waiter.answer.is_none() && waiter.deadline <= now {
                self.metrics.overloaded += 1;
                waiter.answer = Some(Err(Refusal::new(
                    Code::Overloaded,
                    "no capacity came free in time; try again in a moment",
                )
                .retry_after(wait)));
                out.woken = true;
            }
        }
    }

    /// An admitted exchange has ended.
    pub fn settle(&mut self, now: Instant, mut ticket: Ticket, outcome: Outcome, out: &mut HubOut) {
        let now = self.latest.clamp(now);
        let Some(info) = ticket.info.take() else {
            return;
        };
        self.metrics.open = self.metrics.open.saturating_sub(1);
        self.metrics.settled += 1;
        match outcome.verdict {
            Verdict::Completed => self.metrics.completed += 1,
            Verdict::Failed(_) => self.metrics.failed += 1,
            Verdict::ClientGone => self.metrics.cancelled += 1,
        }
        self.count_answer(info.endpoint, outcome.status);
        self.metrics.prompt_tokens += outcome.usage.prompt_tokens;
        self.metrics.completion_tokens += outcome.usage.completion_tokens;
        let duration = now.since(info.started);
        self.metrics.latency.observe(duration);
        if let Some(first) = outcome.first_chunk {
            self.metrics
                .time_to_first_token
                .observe(first.since(ticket.admitted));
            if let Some(gaps) = &outcome.gaps {
                self.metrics.stream_duration.observe(now.since(first));
                self.metrics.chunk_gap.absorb(gaps);
            }
        }
        self.limiter.correct(
            now,
            ticket.payer,
            ticket.reserved,
            outcome.usage.total_tokens(),
        );
        if let Some(session) = self.sessions.get_mut(ticket.slot)
            && session.id == ticket.session
        {
            session.in_flight = session.in_flight.saturating_sub(1);
            session.last_activity = now;
        }
        self.reroute(ticket.slot);
        self.record(
            now,
            AuditEvent::Request {
                info,
                kind: RequestKind::Answered,
                session: Some(ticket.session.clone()),
                status: outcome.status,
                outcome: match outcome.verdict {
                    Verdict::Completed => "ok",
                    Verdict::Failed(code) => code.name().unwrap_or("invalid_request"),
                    Verdict::ClientGone => "client_disconnected",
                },
                duration,
                bytes_out: outcome.bytes_out,
                usage: Some(outcome.usage),
            },
        );
        self.pump(now, out);
    }

    fn record_refused(&mut self, now: Instant, info: Box<RequestInfo>, refusal: &Refusal) {
        self.note_boxed(now, info, Err(refusal), 0);
    }
}
