//! Exchanges on their way: the machine of each, its mailbox and its ticket.

use super::answer::{Head, Page};
use super::caller_tools::{Desk, Slip, Waiting};
use super::link::{Letterbox, LinkCell};
use super::shared::Shared;
use mcp_local_provider_core::error::Code;
use mcp_local_provider_core::exchange::{Exchange, Flow, Reply};
use mcp_local_provider_core::hub::keys::Digest;
use mcp_local_provider_core::hub::{Outcome, Ticket, Verdict};
use mcp_local_provider_core::id::{ExchangeId, SessionId};
use mcp_local_provider_core::invocation::{Delivery, Failure};
use mcp_local_provider_core::mailbox::Batch;
use mcp_local_provider_core::time::Instant;
use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;
use std::task::Waker;

/// Room that is made for the bytes of a batch, so that they are not moved while they grow.
const ROOM: usize = 512;

/// What a poll of a [`Running`] has come to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use]
pub enum Progress {
    /// There is something to write, or the exchange has ended.
    Ready,
    /// Nothing: poll again when woken, or when it is this late.
    Until(Option<Instant>),
}

/// An answer on its way: of an exchange that was admitted, or of the tools of a caller. Dropping it before its end means
/// that the client has gone: the agent is told, and the hub gets the exchange's ticket back, at once.
#[derive(Debug)]
pub struct Running(Source);

#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "the small one is rare")]
enum Source {
    Exchange(Answering),
    Tools(Waiting),
}

impl Running {
    /// Starts an exchange by sending `frame`, its invocation, to the agent.
    pub(super) fn start(
        shared: Arc<Shared>,
        exchange: Exchange,
        ticket: Ticket,
        frame: String,
        owner: Option<Digest>,
        page: Option<Page>,
    ) -> Box<Self> {
        let answering = Answering::start(shared, exchange, ticket, frame, owner, page);
        Box::new(Self(Source::Exchange(answering)))
    }

    /// Hands a request for the tools of a caller to the thread of an agent.
    pub(super) fn ask(desk: Arc<Desk>, slip: Arc<Slip>, id: ExchangeId) -> Box<Self> {
        Box::new(Self(Source::Tools(Waiting::new(desk, slip, id))))
    }

    /// True when nothing will follow what was produced.
    #[must_use]
    pub const fn has_ended(&self) -> bool {
        match &self.0 {
            Source::Exchange(exchange) => exchange.has_ended(),
            Source::Tools(tools) => tools.has_ended(),
        }
    }

    /// The head of the answer, once it is there.
    pub fn take_head(&mut self) -> Option<Head> {
        match &mut self.0 {
            Source::Exchange(exchange) => exchange.take_head(),
            Source::Tools(tools) => tools.take_head(),
        }
    }

    /// Bytes of the body for the client. The driver takes them as it likes: it may leave the allocation.
    pub const fn body(&mut self) -> &mut Vec<u8> {
        match &mut self.0 {
            Source::Exchange(exchange) => &mut exchange.reply.body,
            Source::Tools(tools) => &mut tools.body,
        }
    }

    /// True when there are bytes for the client.
    #[must_use]
    pub const fn has_body(&self) -> bool {
        match &self.0 {
            Source::Exchange(exchange) => !exchange.reply.body.is_empty(),
            Source::Tools(tools) => !tools.body.is_empty(),
        }
    }

    /// Goes on with what came from the agent, and with its deadlines. `waker` is woken when more comes.
    pub fn poll(&mut self, waker: &Waker) -> Progress {
        match &mut self.0 {
            Source::Exchange(exchange) => exchange.poll(waker),
            Source::Tools(tools) => tools.poll(waker),
        }
    }
}

/// An exchange that was admitted.
struct Answering {
    shared: Arc<Shared>,
    exchange: Exchange,
    /// Until it is settled.
    ticket: Option<Ticket>,
    /// Digest of the key that asks, for the conversation that is kept.
    owner: Option<Digest>,
    link: Option<Arc<LinkCell>>,
    mailbox: Arc<Letterbox>,
    batch: Batch,
    /// The page that asks, until the head is taken.
    page: Option<Page>,
    reply: Reply,
}

impl fmt::Debug for Answering {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Answering({:?})", self.ticket)
    }
}

impl Answering {
    fn start(
        shared: Arc<Shared>,
        mut exchange: Exchange,
        ticket: Ticket,
        frame: String,
        owner: Option<Digest>,
        page: Option<Page>,
    ) -> Self {
        exchange.start(shared.clock().now(), &ticket);
        let mailbox = Arc::new(Letterbox::new(shared.config().limits.mailbox_bytes));
        let link = shared.link(ticket.link);
        let (id, session) = (ticket.exchange, ticket.session.clone());
        let answering = Self {
            shared,
            exchange,
            ticket: Some(ticket),
            owner,
            link,
            mailbox,
            batch: Batch::new(),
            page,
            reply: Reply::default(),
        };
        answering.open(id, session, frame);
        answering
    }

    fn open(&self, id: ExchangeId, session: SessionId, frame: String) {
        let now = self.shared.clock().now();
        let opened = self
            .link
            .as_ref()
            .map(|link| link.open(now, id, session, frame, self.mailbox.clone()));
        if !matches!(opened, Some(Ok(()))) {
            // The link went between the admission and now.
            self.mailbox.deliver(&Delivery::Failed(Failure {
                code: Code::AgentLost,
                message: Cow::Borrowed("the agent's connection was lost; try again"),
                retry_after: None,
            }));
        }
    }

    const fn has_ended(&self) -> bool {
        self.ticket.is_none()
    }

    fn take_head(&mut self) -> Option<Head> {
        let head = self.reply.head.take()?;
        Some(Head::new(head, self.page.take()))
    }

    fn poll(&mut self, waker: &Waker) -> Progress {
        loop {
            if self.has_ended() {
                return Progress::Ready;
            }
            let now = self.shared.clock().now();
            let timeout = self.exchange.poll_timeout();
            if timeout.is_some_and(|timeout| timeout.at <= now) {
                let flow = self.exchange.handle_timeout(now, &mut self.reply);
                self.follow(flow);
            }
            let drained = self.mailbox.drain(&mut self.batch, waker);
            if drained {
                self.reply.body.reserve(ROOM);
                for delivery in &self.batch {
                    let flow = self
                        .exchange
                        .handle_delivery(now, &delivery, &mut self.reply);
                    if flow != Flow::Continue {
                        self.follow(flow);
                        break;
                    }
                }
            }
            if self.reply.head.is_some() || !self.reply.body.is_empty() {
                return Progress::Ready;
            }
            if !drained && !self.has_ended() {
                let timeout = self.exchange.poll_timeout();
                return Progress::Until(timeout.map(|timeout| timeout.at));
            }
            // A whole answer grows unseen. Only a mailbox that was found empty wakes.
        }
    }

    fn follow(&mut self, flow: Flow) {
        let outcome = match flow {
            Flow::Continue => return,
            Flow::Done(outcome) => outcome,
            Flow::Cancel(why, outcome) => {
                if let (Some(link), Some(ticket)) = (&self.link, &self.ticket) {
                    link.cancel(self.shared.clock().now(), ticket.exchange, why);
                }
                outcome
            }
        };
        if let Some(conversation) = self.exchange.conversation() {
            self.shared.keep(self.owner, conversation);
        }
        if let Some(ticket) = self.ticket.take() {
            log(&ticket, &outcome);
            self.shared
                .hub(|hub, now, out| hub.settle(now, ticket, outcome, out));
        }
    }
}

/// The last line of an exchange.
fn log(ticket: &Ticket, outcome: &Outcome) {
    let (request_id, session) = (ticket.exchange, ticket.session.as_str());
    let (status, bytes) = (outcome.status, outcome.bytes_out);
    match outcome.verdict {
        Verdict::Completed => {
            tracing::debug!(%request_id, session, status, bytes, "answered");
        }
        Verdict::ClientGone => {
            tracing::debug!(%request_id, session, status, bytes, "the client went away");
        }
        Verdict::Failed(code) => {
            let code = code.name().unwrap_or("invalid_request");
            tracing::warn!(%request_id, session, status, bytes, code, "failed");
        }
    }
}

impl Drop for Answering {
    fn drop(&mut self) {
        if !self.has_ended() {
            let flow = self.exchange.handle_client_gone(self.shared.clock().now());
            self.follow(flow);
        }
    }
}
