//! Exchanges on their way: the machine of each, and the inbox that its link fills.

use super::account::Account;
use super::asking::{Asked, Failed};
use super::engine::Engine;
use super::link::{Inbox, LinkCell};
use super::running::{Polled, Respond};
use mcp_local_provider_core::budget::STEP;
use mcp_local_provider_core::error::Code;
use mcp_local_provider_core::exchange::{Exchange, Flow, Reply};
use mcp_local_provider_core::hub::keys::Digest;
use mcp_local_provider_core::hub::{Outcome, Ticket};
use mcp_local_provider_core::id::ExchangeId;
use mcp_local_provider_core::invocation::{CancelReason, Delivery, Failure};
use mcp_local_provider_core::link::{Invoke, Unopened};
use mcp_local_provider_core::mailbox::{Batch, Mailbox};
use mcp_local_provider_core::request::PromptIndex;
use mcp_local_provider_core::time::Instant;
use std::borrow::Cow;
use std::sync::Arc;
use std::task::Waker;

/// Room that is made for the bytes of a batch, so that they are not moved while they grow.
const ROOM: usize = 512;

/// An exchange that was admitted and that an agent answers.
pub(super) struct Answering {
    engine: Arc<Engine>,
    /// The request's.
    id: ExchangeId,
    /// That of the invocation that is being answered; the first has the request's, unless another agent was asked before.
    invocation: ExchangeId,
    /// The next invocation, while a prompt is left to be asked.
    next: Option<Invoke>,
    exchange: Exchange,
    /// Digest of the key that asks, for the conversation that is kept.
    owner: Option<Digest>,
    /// The request, while somebody else may have to be asked.
    asked: Option<Asked>,
    link: Option<Arc<LinkCell>>,
    mailbox: Arc<Inbox>,
    batch: Batch,
    /// The time at which a deadline was first found to have passed, until it is served.
    late_since: Option<Instant>,
}

impl Answering {
    /// Asks the agent for the first prompt of an exchange that was started.
    pub(super) fn start(
        engine: Arc<Engine>,
        id: ExchangeId,
        exchange: Exchange,
        ticket: &Ticket,
        invoke: Invoke,
        asked: Asked,
    ) -> Box<Self> {
        let mut answering = Box::new(Self {
            link: engine.link(ticket.link),
            mailbox: inbox(&engine, &exchange),
            engine,
            id,
            invocation: invoke.id,
            next: None,
            exchange,
            owner: asked.owner,
            asked: ticket.has_fallback().then_some(asked),
            batch: Batch::new(),
            late_since: None,
        });
        answering.open(invoke);
        answering
    }

    /// Asks for the next prompt, with an inbox of its own: nothing of the answer before can come there.
    fn ask_next(&mut self) {
        let Some(invoke) = self.next.take() else {
            return;
        };
        tracing::debug!(request_id = %self.id, invocation = %invoke.id, "asks for the next prompt");
        self.invocation = invoke.id;
        self.mailbox = inbox(&self.engine, &self.exchange);
        self.open(invoke);
    }

    fn open(&mut self, invoke: Invoke) {
        let next = PromptIndex(invoke.prompt.0 + 1);
        self.next = (next.0 < invoke.request.prompts()).then(|| Invoke {
            id: self.engine.further_id(),
            prompt: next,
            ..invoke.clone()
        });
        let (now, to) = (self.engine.clock(), self.mailbox.clone());
        let opened = match &self.link {
            Some(link) => link.open(now, invoke, to),
            None => Err(Unopened::Closed),
        };
        if let Err(unopened) = opened {
            // The link or the session went between the admission and now.
            self.mailbox.deliver(&Delivery::Failed(Failure {
                code: unopened.code(),
                message: Cow::Owned(unopened.to_string()),
                retry_after: None,
            }));
        }
    }

    /// Does what the machine asks for; how the exchange ended, if it has.
    fn follow(&mut self, now: Instant, flow: Flow) -> Option<Outcome> {
        let outcome = match flow {
            Flow::Continue => return None,
            Flow::Next(why) => {
                if let (Some(link), Some(why)) = (&self.link, why) {
                    link.cancel(now, self.invocation, why);
                }
                self.ask_next();
                return None;
            }
            Flow::Done(outcome) => outcome,
            Flow::Cancel(why, outcome) => {
                if let Some(link) = &self.link {
                    link.cancel(now, self.invocation, why);
                }
                outcome
            }
        };
        if let Some(conversation) = self.exchange.conversation() {
            self.engine.keep(self.owner, conversation);
        }
        Some(outcome)
    }

    /// The state of the deadlines at `now`.
    fn lateness(&mut self, now: Instant, waker: &Waker) -> Lateness {
        let timeout = self.exchange.poll_timeout();
        if timeout.is_none_or(|timeout| timeout.at > now) {
            self.late_since = None;
            return Lateness::InTime;
        }
        let since = *self.late_since.get_or_insert(now);
        let mut link = self.link.iter();
        if link.all(|link| link.was_read_until(since, waker)) {
            Lateness::Late
        } else {
            Lateness::Unread
        }
    }
}

/// An inbox for one answer.
fn inbox(engine: &Engine, exchange: &Exchange) -> Arc<Inbox> {
    let config = engine.config();
    let mailbox = if exchange.is_whole() {
        Mailbox::whole(config.limits.answer_bytes)
    } else {
        Mailbox::new(config.limits.mailbox_bytes)
    };
    Arc::new(Inbox::new(mailbox.sharing(engine.budget().share())))
}

/// State of an exchange's deadlines.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Lateness {
    /// None has passed.
    InTime,
    /// One has, and what the agent had sent by then may be unread.
    Unread,
    /// One has, and what the agent had sent by then is in the inbox, or was taken.
    Late,
}

impl Answering {
    /// Goes on. `Err` when the agent has failed before the first byte of its answer and another may be asked (`falls_back`).
    pub(super) fn advance(
        &mut self,
        mut now: Instant,
        waker: &Waker,
        reply: &mut Reply,
        falls_back: bool,
    ) -> Result<Polled, Failed> {
        loop {
            // Before the inbox is looked into: what is in it then had come in time.
            let lateness = self.lateness(now, waker);
            let kept = self.exchange.held();
            let drained = self.mailbox.drain(&mut self.batch, kept, waker);
            if drained {
                if !self.exchange.is_whole() {
                    reply.body.reserve(ROOM);
                }
                let mut flow = Flow::Continue;
                for delivery in &self.batch {
                    if falls_back
                        && !self.exchange.has_begun()
                        && let Delivery::Failed(failure) = &delivery
                    {
                        return Err(Failed::Agent(Failure {
                            code: failure.code,
                            message: Cow::Owned(failure.message.to_string()),
                            retry_after: failure.retry_after,
                        }));
                    }
                    flow = self.exchange.handle_delivery(now, &delivery, reply);
                    if flow != Flow::Continue {
                        break;
                    }
                }
                if let Some(outcome) = self.follow(now, flow) {
                    return Ok(Polled::Ended(outcome));
                }
                if self.exchange.has_begun() {
                    // A large prompt takes no memory while its answer runs.
                    self.asked = None;
                }
            }
            if lateness == Lateness::Late {
                if drained {
                    continue;
                }
                if falls_back && self.exchange.is_late(now) {
                    return Err(self.too_late(now));
                }
                let flow = self.exchange.handle_timeout(now, reply);
                self.late_since = None;
                if let Some(outcome) = self.follow(now, flow) {
                    return Ok(Polled::Ended(outcome));
                }
            }
            if reply.head.is_some() || !reply.body.is_empty() {
                if reply.body.len() > STEP {
                    // Until the client has taken it, which it has when there is a next call.
                    let held = self.exchange.held();
                    self.mailbox.keep(held.saturating_add(reply.body.len()));
                }
                return Ok(Polled::Ready);
            }
            if !drained {
                let timeout = self.exchange.poll_timeout();
                let timeout = timeout.filter(|_| lateness != Lateness::Unread);
                return Ok(Polled::Until(timeout.map(|timeout| timeout.at)));
            }
            // A whole answer grows unseen. Only a mailbox that was found empty wakes.
            now = self.engine.clock();
        }
    }

    /// The agent is told that nobody waits for its answer any more.
    fn too_late(&mut self, now: Instant) -> Failed {
        if let Some(link) = &self.link {
            link.cancel(now, self.invocation, CancelReason::Timeout);
        }
        Failed::Agent(Failure {
            code: Code::AgentTimeout,
            message: "the agent sent nothing in time (timeouts.first_chunk)".into(),
            retry_after: None,
        })
    }

    /// Tells the client that the agent has failed and nobody else answers.
    pub(super) fn fail(&mut self, now: Instant, failed: &Failed, reply: &mut Reply) -> Outcome {
        let failure = match failed {
            Failed::Agent(failure) => failure.clone(),
            // Those are no agent's.
            Failed::Request(_) | Failed::Trouble(_) => Failure {
                code: Code::AgentError,
                message: "the agent failed".into(),
                retry_after: None,
            },
        };
        let flow = self
            .exchange
            .handle_delivery(now, &Delivery::Failed(failure), reply);
        self.follow(now, flow).unwrap_or(Outcome::left())
    }

    /// The request, while somebody else may have to be asked.
    pub(super) const fn asked(&self) -> Option<&Asked> {
        self.asked.as_ref()
    }

    /// The exchange and the request, for another to answer.
    pub(super) fn into_parts(self) -> Option<(Exchange, Asked)> {
        Some((self.exchange, self.asked?))
    }
}

impl Respond for Answering {
    fn poll(
        &mut self,
        now: Instant,
        waker: &Waker,
        _account: &mut Account,
        reply: &mut Reply,
    ) -> Polled {
        match self.advance(now, waker, reply, false) {
            Ok(polled) => polled,
            // Nobody else may be asked, so that the client has heard of it.
            Err(failed) => Polled::Ended(self.fail(now, &failed, reply)),
        }
    }

    fn client_gone(&mut self, now: Instant, _account: &mut Account) -> Outcome {
        let flow = self.exchange.handle_client_gone(now);
        self.follow(now, flow).unwrap_or(Outcome::left())
    }

    fn unread(&self) -> usize {
        self.mailbox.charged()
    }
}
