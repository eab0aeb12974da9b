//! Exchanges on their way: the machine of each, and the inbox that its link fills.

use super::account::Account;
use super::engine::Engine;
use super::link::{Inbox, LinkCell};
use super::request::Asked;
use super::running::{Polled, Respond};
use mcp_local_provider_core::budget::STEP;
use mcp_local_provider_core::exchange::{Exchange, Flow, Reply};
use mcp_local_provider_core::hub::keys::Digest;
use mcp_local_provider_core::hub::{Outcome, Ticket};
use mcp_local_provider_core::id::ExchangeId;
use mcp_local_provider_core::invocation::{Delivery, Failure};
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
    /// That of the invocation that is being answered; the first has the request's.
    asked: ExchangeId,
    /// The next invocation, while a prompt is left to be asked.
    next: Option<Invoke>,
    exchange: Exchange,
    /// Digest of the key that asks, for the conversation that is kept.
    owner: Option<Digest>,
    link: Option<Arc<LinkCell>>,
    mailbox: Arc<Inbox>,
    batch: Batch,
    /// The time at which a deadline was first found to have passed, until it is served.
    late_since: Option<Instant>,
}

impl Answering {
    /// Starts the exchange by asking the agent for its first prompt.
    pub(super) fn start(
        engine: Arc<Engine>,
        id: ExchangeId,
        mut exchange: Exchange,
        ticket: &Ticket,
        asked: Asked,
    ) -> Box<Self> {
        exchange.start(engine.clock(), ticket);
        let invoke = ticket.invoke(id, asked.request, PromptIndex::default());
        let mut answering = Box::new(Self {
            link: engine.link(ticket.link),
            mailbox: inbox(&engine, &exchange),
            engine,
            id,
            asked: id,
            next: None,
            exchange,
            owner: asked.owner,
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
        self.asked = invoke.id;
        self.mailbox = inbox(&self.engine, &self.exchange);
        self.open(invoke);
    }

    fn open(&mut self, invoke: Invoke) {
        let next = PromptIndex(invoke.prompt.0 + 1);
        self.next = (next.0 < invoke.request.prompts()).then(|| Invoke {
            id: self.engine.next_id(),
            prompt: next,
            ..invoke.clone()
        });
        let (now, to) = (self.engine.now(), self.mailbox.clone());
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
                    link.cancel(now, self.asked, why);
                }
                self.ask_next();
                return None;
            }
            Flow::Done(outcome) => outcome,
            Flow::Cancel(why, outcome) => {
                if let Some(link) = &self.link {
                    link.cancel(now, self.asked, why);
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

impl Respond for Answering {
    fn poll(
        &mut self,
        mut now: Instant,
        waker: &Waker,
        _account: &mut Account,
        reply: &mut Reply,
    ) -> Polled {
        loop {
            // Before the inbox is looked into: what is in it then had come in time.
            let lateness = self.lateness(now, waker);
            let kept = self.exchange.held();
            let drained = self.mailbox.drain(&mut self.batch, kept, waker);
            if drained {
                reply.body.reserve(ROOM);
                let mut flow = Flow::Continue;
                for delivery in &self.batch {
                    flow = self.exchange.handle_delivery(now, &delivery, reply);
                    if flow != Flow::Continue {
                        break;
                    }
                }
                if let Some(outcome) = self.follow(now, flow) {
                    return Polled::Ended(outcome);
                }
            }
            if lateness == Lateness::Late {
                if drained {
                    continue;
                }
                let flow = self.exchange.handle_timeout(now, reply);
                self.late_since = None;
                if let Some(outcome) = self.follow(now, flow) {
                    return Polled::Ended(outcome);
                }
            }
            if reply.head.is_some() || !reply.body.is_empty() {
                if reply.body.len() > STEP {
                    // Until the client has taken it, which it has when there is a next call.
                    let held = self.exchange.held();
                    self.mailbox.keep(held.saturating_add(reply.body.len()));
                }
                return Polled::Ready;
            }
            if !drained {
                let timeout = self.exchange.poll_timeout();
                let timeout = timeout.filter(|_| lateness != Lateness::Unread);
                return Polled::Until(timeout.map(|timeout| timeout.at));
            }
            // A whole answer grows unseen. Only a mailbox that was found empty wakes.
            now = self.engine.clock();
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
