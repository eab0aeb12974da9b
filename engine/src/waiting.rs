//! Requests that wait for an agent: for capacity, or for one that is starting. A stream is opened meanwhile and kept alive.

use super::account::Account;
use super::answering::Answering;
use super::engine::Engine;
use super::inbound::Inbound;
use super::request::{Asked, start};
use super::running::{Polled, Respond, Running};
use mcp_local_provider_core::exchange::{Exchange, Flow, Reply};
use mcp_local_provider_core::hub::{Claim, Outcome, Ticket};
use mcp_local_provider_core::id::WaitId;
use mcp_local_provider_core::time::Instant;
use std::sync::Arc;
use std::task::Waker;

/// An exchange that is not admitted yet, then its answer.
pub(super) enum Waiting {
    /// In the hub's queue.
    Queued(Box<Queued>),
    /// Admitted.
    Answering(Box<Answering>),
    /// Refused.
    Over,
}

/// A place in the hub's queue.
pub(super) struct Queued {
    engine: Arc<Engine>,
    wait: WaitId,
    exchange: Exchange,
    asked: Asked,
}

impl Waiting {
    /// Waits until the hub grants a ticket for `wait`, or refuses it, which it does in time.
    #[inline(never)]
    pub(super) fn begin(
        inbound: Inbound,
        mut exchange: Exchange,
        wait: WaitId,
        asked: Asked,
    ) -> Box<Running> {
        let engine = inbound.account.engine().clone();
        exchange.wait(engine.now());
        let queued = Queued {
            engine,
            wait,
            exchange,
            asked,
        };
        Running::new(Box::new(Self::Queued(Box::new(queued))), inbound)
    }

    fn granted(&mut self, ticket: Ticket, account: &mut Account) {
        match std::mem::replace(self, Self::Over) {
            Self::Queued(queued) => {
                let answering = start(account, queued.exchange, queued.asked, ticket);
                *self = Self::Answering(answering);
            }
            // Only one that waits is granted anything; the account gives it back.
            other @ (Self::Answering(_) | Self::Over) => {
                *self = other;
                account.admit(ticket);
            }
        }
    }
}

impl Respond for Waiting {
    fn poll(
        &mut self,
        now: Instant,
        waker: &Waker,
        account: &mut Account,
        reply: &mut Reply,
    ) -> Polled {
        loop {
            let queued = match self {
                Self::Queued(queued) => queued,
                Self::Answering(answering) => return answering.poll(now, waker, account, reply),
                Self::Over => return Polled::Until(None),
            };
            match queued.engine.claim(queued.wait, waker) {
                Claim::Granted(ticket) => {
                    self.granted(ticket, account);
                }
                Claim::Refused(refusal) => {
                    account.describe(|info| info.refused(&refusal));
                    let outcome = queued.exchange.refuse(now, &refusal, reply);
                    *self = Self::Over;
                    return Polled::Ended(outcome);
                }
                Claim::Waiting => {
                    // Before its admission only the head and signs of life are due.
                    let flow = queued.exchange.handle_timeout(now, reply);
                    debug_assert_eq!(flow, Flow::Continue);
                    if reply.head.is_some() || !reply.body.is_empty() {
                        return Polled::Ready;
                    }
                    let timeout = queued.exchange.poll_timeout();
                    return Polled::Until(timeout.map(|timeout| timeout.at));
                }
            }
        }
    }

    fn client_gone(&mut self, now: Instant, account: &mut Account) -> Outcome {
        match self {
            Self::Queued(queued) => {
                if let Some(ticket) = queued.engine.leave(queued.wait) {
                    // It was granted and not claimed; the account gives it back.
                    account.admit(ticket);
                }
                match queued.exchange.handle_client_gone(now) {
                    Flow::Done(outcome) | Flow::Cancel(_, outcome) => outcome,
                    Flow::Continue | Flow::Next(_) => Outcome::left(),
                }
            }
            Self::Answering(answering) => answering.client_gone(now, account),
            Self::Over => Outcome::left(),
        }
    }

    fn unread(&self) -> usize {
        match self {
            Self::Answering(answering) => answering.unread(),
            Self::Queued(_) | Self::Over => 0,
        }
    }
}
