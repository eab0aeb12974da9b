//! Exchanges whose answerer may change: while they wait for capacity or for an agent that is starting, when an upstream
//! answers, and when a fallback takes the place of whoever has failed. A stream is opened meanwhile and kept alive.

use super::account::Account;
use super::answering::Answering;
use super::engine::Engine;
use super::inbound::Inbound;
use super::running::{Polled, Respond, Running};
use super::upstream_answer::UpstreamAnswer;
use super::upstreams::Carried;
use mcp_local_provider_core::agents::upstream::Trouble;
use mcp_local_provider_core::error::Refusal;
use mcp_local_provider_core::exchange::{Exchange, Flow, Reply};
use mcp_local_provider_core::hub::keys::Digest;
use mcp_local_provider_core::hub::{Admission, Ask, Claim, Outcome, Ticket, falls_back};
use mcp_local_provider_core::id::WaitId;
use mcp_local_provider_core::invocation::{Failure, Needs};
use mcp_local_provider_core::request::{PromptIndex, Request};
use mcp_local_provider_core::scope::Scope;
use mcp_local_provider_core::time::Instant;
use std::sync::Arc;
use std::task::Waker;

/// An exchange, and who answers it now.
pub(super) enum Asking {
    /// In the hub's queue.
    Queued(Box<Queued>),
    /// An agent, on its link.
    Answering(Box<Answering>),
    /// An upstream.
    Upstream(Box<UpstreamAnswer>),
    /// It was refused, or has ended.
    Over,
}

/// A request to be asked.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) request: Arc<Request>,
    /// Digest of the key that asks, for the conversation that is kept.
    pub(super) owner: Option<Digest>,
    /// What its admission was asked for.
    pub(super) prompts: u32,
    pub(super) tokens: u64,
    pub(super) scope: Scope,
    pub(super) needs: Needs,
    /// Headers for an upstream.
    pub(super) carried: Option<Box<Carried>>,
    /// Runs of the registry's tools that it is within.
    pub(super) depth: u8,
}

impl Asked {
    /// The same for the admission of another session.
    fn ask(&self) -> Ask<'_> {
        Ask {
            model: self.request.model(),
            session: None,
            prompts: self.prompts,
            tokens: self.tokens,
            scope: self.scope,
            needs: self.needs,
        }
    }
}

/// Failure before the first byte of an answer.
#[derive(Debug)]
pub(super) enum Failed {
    /// The upstream's API has no form for the request.
    Request(Box<Refusal>),
    /// An upstream.
    Trouble(Trouble),
    /// An agent.
    Agent(Failure<'static>),
}

impl Failed {
    /// True when another may be asked.
    fn falls_back(&self) -> bool {
        match self {
            Self::Request(refusal) => falls_back(refusal.code()),
            Self::Trouble(trouble) => falls_back(trouble.code()),
            Self::Agent(failure) => falls_back(failure.code),
        }
    }
}

/// A place in the hub's queue.
pub(super) struct Queued {
    engine: Arc<Engine>,
    wait: WaitId,
    exchange: Exchange,
    asked: Asked,
}

/// Begins the answer that `ticket` admits.
#[inline(never)]
pub(super) fn start(
    mut inbound: Inbound,
    exchange: Exchange,
    asked: Asked,
    ticket: Ticket,
) -> Box<Running> {
    let has_fallback = ticket.has_fallback();
    let asking = Asking::started(&mut inbound.account, exchange, asked, ticket);
    match asking {
        // Most are of this kind, and nothing comes in their place.
        Asking::Answering(answering) if !has_fallback => Running::new(answering, inbound),
        asking
        @ (Asking::Queued(_) | Asking::Answering(_) | Asking::Upstream(_) | Asking::Over) => {
            Running::new(Box::new(asking), inbound)
        }
    }
}

/// Waits until the hub grants a ticket for `wait`, or refuses it, which it does in time.
#[inline(never)]
pub(super) fn wait(
    inbound: Inbound,
    mut exchange: Exchange,
    wait: WaitId,
    asked: Asked,
) -> Box<Running> {
    let engine = inbound.account.engine().clone();
    let model = engine.hub(|hub, _, _| hub.model_awaited(wait).map(str::to_owned));
    exchange.wait(engine.now(), &model.unwrap_or_default());
    let queued = Queued {
        engine,
        wait,
        exchange,
        asked,
    };
    Running::new(Box::new(Asking::Queued(Box::new(queued))), inbound)
}

impl Queued {
    /// It needs no admission any more. One that was granted and not claimed goes to the account, which gives it back.
    fn leave(&self, account: &mut Account) {
        if let Some(ticket) = self.engine.leave(self.wait) {
            account.admit(ticket);
        }
    }
}

impl Asking {
    fn started(
        account: &mut Account,
        mut exchange: Exchange,
        asked: Asked,
        ticket: Ticket,
    ) -> Self {
        let id = account.id();
        tracing::debug!(
            request_id = %id,
            session = ticket.session().as_str(),
            link = ticket.link.0,
            "admitted"
        );
        let engine = account.engine().clone();
        let now = engine.clock();
        // An agent that has answered an invocation takes no other one of the same id.
        let invocation = match exchange.is_started() {
            false => {
                exchange.start(now, &ticket);
                id
            }
            true => {
                exchange.restart(now, &ticket);
                engine.further_id()
            }
        };
        let started = match engine.upstreams().get(ticket.link).cloned() {
            Some(upstream) => {
                let answer = UpstreamAnswer::start(engine, upstream, exchange, &ticket, asked);
                Self::Upstream(answer)
            }
            None => {
                let invoke =
                    ticket.invoke(invocation, asked.request.clone(), PromptIndex::default());
                Self::Answering(Answering::start(
                    engine, id, exchange, &ticket, invoke, asked,
                ))
            }
        };
        account.admit(ticket);
        started
    }

    /// Whoever was to answer has failed before the first byte: a fallback does, or the client hears of the failure.
    fn failed(
        &mut self,
        now: Instant,
        account: &mut Account,
        failed: &Failed,
        reply: &mut Reply,
    ) -> Option<Outcome> {
        let has_fallback = account.ticket().is_some_and(Ticket::has_fallback);
        if has_fallback
            && failed.falls_back()
            && let Some(asked) = self.asked()
            && let Some(ticket) = account.take_ticket()
        {
            let (engine, ask) = (account.engine(), asked.ask());
            match engine.hub(|hub, now, out| hub.fall_back(now, ticket, &ask, out)) {
                Ok(admission) => {
                    self.fall_back(account, admission);
                    return None;
                }
                Err(ticket) => account.admit(*ticket),
            }
        }
        Some(match self {
            Self::Upstream(answer) => answer.fail(now, failed, reply),
            Self::Answering(answering) => answering.fail(now, failed, reply),
            Self::Queued(_) | Self::Over => Outcome::left(),
        })
    }

    fn asked(&self) -> Option<&Asked> {
        match self {
            Self::Upstream(answer) => answer.asked(),
            Self::Answering(answering) => answering.asked(),
            Self::Queued(queued) => Some(&queued.asked),
            Self::Over => None,
        }
    }

    fn fall_back(&mut self, account: &mut Account, admission: Admission) {
        let parts = match std::mem::replace(self, Self::Over) {
            Self::Upstream(answer) => answer.into_parts(),
            Self::Answering(answering) => answering.into_parts(),
            Self::Queued(queued) => Some((queued.exchange, queued.asked)),
            Self::Over => None,
        };
        let Some((mut exchange, asked)) = parts else {
            if let Admission::Granted(ticket) = admission {
                account.admit(ticket);
            }
            return;
        };
        tracing::info!(request_id = %account.id(), "asks a fallback");
        *self = match admission {
            Admission::Granted(ticket) => Self::started(account, exchange, asked, ticket),
            Admission::Queued(wait) => {
                exchange.awaits_others();
                Self::Queued(Box::new(Queued {
                    engine: account.engine().clone(),
                    wait,
                    exchange,
                    asked,
                }))
            }
        };
    }

    /// A request that waited is admitted.
    fn granted(&mut self, account: &mut Account, ticket: Ticket) {
        match std::mem::replace(self, Self::Over) {
            Self::Queued(queued) => {
                *self = Self::started(account, queued.exchange, queued.asked, ticket);
            }
            // Only one that waits is granted anything; the account gives it back.
            other @ (Self::Answering(_) | Self::Upstream(_) | Self::Over) => {
                *self = other;
                account.admit(ticket);
            }
        }
    }
}

impl Respond for Asking {
    fn poll(
        &mut self,
        mut now: Instant,
        waker: &Waker,
        account: &mut Account,
        reply: &mut Reply,
    ) -> Polled {
        loop {
            let polled = match self {
                Self::Queued(queued) => match queued.engine.claim(queued.wait, waker) {
                    Claim::Granted(ticket) => {
                        self.granted(account, ticket);
                        continue;
                    }
                    Claim::Refused(refusal) => {
                        account.describe(|info| info.refused(&refusal));
                        let outcome = queued.exchange.refuse(now, &refusal, reply);
                        *self = Self::Over;
                        return Polled::Ended(outcome);
                    }
                    Claim::Waiting => {
                        // The head and signs of life are due, and the end of the whole duration where a fallback is waited for.
                        let flow = queued.exchange.handle_timeout(now, reply);
                        if let Flow::Done(outcome) | Flow::Cancel(_, outcome) = flow {
                            queued.leave(account);
                            *self = Self::Over;
                            return Polled::Ended(outcome);
                        }
                        if reply.head.is_some() || !reply.body.is_empty() {
                            return Polled::Ready;
                        }
                        let timeout = queued.exchange.poll_timeout();
                        return Polled::Until(timeout.map(|timeout| timeout.at));
                    }
                },
                Self::Answering(answering) => {
                    let falls_back = account.ticket().is_some_and(Ticket::has_fallback);
                    answering.advance(now, waker, reply, falls_back)
                }
                Self::Upstream(answer) => answer.poll(waker, account, reply),
                Self::Over => return Polled::Until(None),
            };
            let failed = match polled {
                Ok(polled) => return polled,
                Err(failed) => failed,
            };
            if let Some(outcome) = self.failed(now, account, &failed, reply) {
                return Polled::Ended(outcome);
            }
            now = account.engine().clock();
        }
    }

    fn client_gone(&mut self, now: Instant, account: &mut Account) -> Outcome {
        match self {
            Self::Queued(queued) => {
                queued.leave(account);
                match queued.exchange.handle_client_gone(now) {
                    Flow::Done(outcome) | Flow::Cancel(_, outcome) => outcome,
                    Flow::Continue | Flow::Next(_) => Outcome::left(),
                }
            }
            Self::Answering(answering) => answering.client_gone(now, account),
            Self::Upstream(answer) => answer.client_gone(now),
            Self::Over => Outcome::left(),
        }
    }

    fn unread(&self) -> usize {
        match self {
            Self::Answering(answering) => answering.unread(),
            Self::Upstream(answer) => answer.unread(),
            Self::Queued(_) | Self::Over => 0,
        }
    }
}
