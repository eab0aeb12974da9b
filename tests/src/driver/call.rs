//! One client's request and everything that became of it.

use crate::client::Client;
use mcp_local_provider_core::api::Endpoint;
use mcp_local_provider_core::error::{Code, Refusal};
use mcp_local_provider_core::exchange::{Exchange, Reply, ReplyHead};
use mcp_local_provider_core::hub::{Outcome, Ticket};
use mcp_local_provider_core::id::{ExchangeId, LinkId, SessionId, WaitId};
use mcp_local_provider_core::invocation::Delivery;
use mcp_local_provider_core::mailbox::{Mailbox, Push};
use mcp_local_provider_core::time::Instant;

/// Where a call stands.
#[derive(Debug)]
pub enum Phase {
    /// In the hub's queue.
    Waiting(WaitId),
    /// With a ticket that is to be settled.
    Admitted(Ticket),
    /// Answered, refused or left.
    Over,
}

/// One request.
#[derive(Debug)]
pub struct Call {
    /// Its id.
    pub id: ExchangeId,
    /// Where it was sent.
    pub endpoint: Endpoint,
    /// Its body.
    pub body: Vec<u8>,
    /// When it came.
    pub started: Instant,
    /// Its machine.
    pub exchange: Exchange,
    /// Its mailbox.
    pub mailbox: Mailbox,
    /// Where it stands.
    pub phase: Phase,
    /// The link on which it was opened.
    pub link: Option<LinkId>,
    /// The session that answers it.
    pub session: Option<SessionId>,
    /// The response head.
    pub head: Option<ReplyHead>,
    /// The response body so far.
    pub sent: Vec<u8>,
    /// What the client makes of it.
    pub client: Client,
    /// The account that was settled.
    pub outcome: Option<Outcome>,
    /// True when it was refused before or instead of an exchange.
    pub refused: Option<Code>,
    /// True: its mailbox is emptied as soon as something is in it. False: only [`super::Driver::serve`] does that.
    pub eager: bool,
    /// True when the client has closed its connection.
    pub gone: bool,
    /// True when the agent itself has ended the answer.
    pub agent_ended: bool,
    /// `model_cancel` messages that were written.
    pub cancels: u32,
    /// True while the link has it open.
    pub open: bool,
    /// A reply that the machine writes to.
    pub reply: Reply,
}

impl Call {
    pub(super) fn new(
        exchange: Exchange,
        id: ExchangeId,
        endpoint: Endpoint,
        body: Vec<u8>,
        started: Instant,
        budget: usize,
    ) -> Self {
        Self {
            id,
            endpoint,
            body,
            started,
            exchange,
            mailbox: Mailbox::new(budget),
            phase: Phase::Over,
            link: None,
            session: None,
            head: None,
            sent: Vec::new(),
            client: Client::default(),
            outcome: None,
            refused: None,
            eager: true,
            gone: false,
            agent_ended: false,
            cancels: 0,
            open: false,
            reply: Reply::default(),
        }
    }

    /// The deliverer of a link hands something over.
    pub(super) fn take_delivery(&mut self, delivery: &Delivery<'_>) -> Push {
        assert!(self.open, "a delivery for a call that the link has ended");
        match delivery {
            Delivery::End(_) => (self.open, self.agent_ended) = (false, true),
            Delivery::Failed(failure) => {
                self.open = false;
                self.agent_ended = !matches!(
                    failure.code,
                    Code::AgentFault | Code::AgentLost | Code::SessionEnded
                );
            }
            Delivery::Delta(_) | Delivery::Embedding(_) => {}
        }
        let push = self.mailbox.push(delivery);
        self.open &= push != Push::Overrun;
        push
    }

    pub(super) fn opened(&mut self, link: LinkId) {
        self.link = Some(link);
        self.open = true;
    }

    /// `model_cancel` was written.
    pub(super) fn cancelled(&mut self) {
        self.open = false;
        self.cancels += 1;
        assert_eq!(self.cancels, 1, "{} cancelled twice", self.id);
        assert!(!self.agent_ended, "{} cancelled after its end", self.id);
    }

    /// Moves what the machine wrote to the client.
    pub(super) fn deliver_reply(&mut self) {
        let over = matches!(self.phase, Phase::Over);
        let reply = std::mem::take(&mut self.reply);
        assert!(
            !over || (reply.head.is_none() && reply.body.is_empty()),
            "{} writes after its end",
            self.id
        );
        if let Some(head) = reply.head {
            assert!(self.head.is_none(), "{} has a second head", self.id);
            self.client.head(&head);
            self.head = Some(head);
        }
        if !reply.body.is_empty() {
            self.sent.extend_from_slice(&reply.body);
            self.client.feed(&reply.body);
        }
    }

    /// The machine's terminal outcome.
    pub(super) fn end(&mut self, outcome: Outcome) -> Ticket {
        assert!(self.outcome.is_none(), "{} ended twice", self.id);
        self.outcome = Some(outcome);
        let bytes = u64::try_from(self.sent.len()).unwrap();
        assert_eq!(outcome.bytes_out, bytes, "bytes as accounted and as sent");
        if let Some(head) = &self.head {
            assert_eq!(
                outcome.status, head.status,
                "status as accounted and as sent"
            );
            if !self.gone {
                self.client.finish();
                assert!(
                    self.client.done,
                    "{} ended without a terminal record",
                    self.id
                );
            }
        } else {
            assert!(self.gone, "{} ended without a head", self.id);
        }
        match std::mem::replace(&mut self.phase, Phase::Over) {
            Phase::Admitted(ticket) => ticket,
            other => panic!("{} ended while {other:?}", self.id),
        }
    }

    /// The hub refused it.
    pub(super) fn refuse(&mut self, refusal: &Refusal) {
        self.phase = Phase::Waiting(WaitId(0));
        self.exchange.refuse(refusal, &mut self.reply);
        self.deliver_reply();
        self.client.finish();
        self.phase = Phase::Over;
        self.refused = Some(refusal.code());
    }

    /// A request that asks nothing of the model.
    pub(super) fn load(&mut self, now: Instant) {
        self.phase = Phase::Waiting(WaitId(0));
        self.exchange.load(now, &mut self.reply);
        self.deliver_reply();
        self.client.finish();
        self.phase = Phase::Over;
    }
}
