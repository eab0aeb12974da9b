//! Exchanges on their way: the machine of each, its mailbox, its one timer, and the response body that it feeds.

use crate::body::Bytes;
use crate::link::{Letterbox, LinkCell};
use crate::shared::Shared;
use crate::timer::Sleep;
use hyper::body::{Body, Frame, SizeHint};
use mcp_local_provider_core::error::Code;
use mcp_local_provider_core::exchange::{Exchange, Flow, Reply};
use mcp_local_provider_core::hub::Ticket;
use mcp_local_provider_core::hub::keys::Digest;
use mcp_local_provider_core::id::{ExchangeId, SessionId};
use mcp_local_provider_core::invocation::{Delivery, Failure};
use mcp_local_provider_core::mailbox::Batch;
use std::borrow::Cow;
use std::convert::Infallible;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

/// Room that is made for the bytes of a batch, so that they are not moved while they grow.
const ROOM: usize = 512;

/// An exchange that was admitted. Dropping it before its end means that the client has gone: the agent is told and the
/// hub gets its ticket back, at once.
pub(crate) struct Running {
    shared: Arc<Shared>,
    exchange: Exchange,
    /// Until it is settled.
    ticket: Option<Ticket>,
    /// Digest of the key that asks, for the conversation that is kept.
    owner: Option<Digest>,
    link: Option<Arc<LinkCell>>,
    mailbox: Arc<Letterbox>,
    batch: Batch,
    /// What is to go to the client next.
    pub reply: Reply,
    sleep: Sleep,
}

impl fmt::Debug for Running {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Running({:?})", self.ticket)
    }
}

impl Running {
    /// Starts an exchange by sending `frame`, its invocation, to the agent.
    pub fn start(
        shared: &Arc<Shared>,
        mut exchange: Exchange,
        ticket: Ticket,
        frame: String,
        owner: Option<Digest>,
    ) -> Box<Self> {
        let now = shared.timers.now();
        exchange.start(now, &ticket);
        let mailbox = Arc::new(Letterbox::new(shared.config.limits.mailbox_bytes));
        let link = shared.link(ticket.link);
        let (id, session) = (ticket.exchange, ticket.session.clone());
        let running = Box::new(Self {
            shared: shared.clone(),
            exchange,
            ticket: Some(ticket),
            owner,
            link,
            mailbox,
            batch: Batch::new(),
            reply: Reply::default(),
            sleep: shared.timers.after(Duration::MAX),
        });
        running.open(id, session, frame);
        running
    }

    fn open(&self, id: ExchangeId, session: SessionId, frame: String) {
        let now = self.shared.timers.now();
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

    /// True when nothing will follow what is in the reply.
    pub const fn has_ended(&self) -> bool {
        self.ticket.is_none()
    }

    /// Ready when there is something in the reply or the exchange has ended.
    pub fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            if self.has_ended() {
                return Poll::Ready(());
            }
            let now = self.shared.timers.now();
            let timeout = self.exchange.poll_timeout();
            if timeout.is_some_and(|timeout| timeout.at <= now) {
                let flow = self.exchange.handle_timeout(now, &mut self.reply);
                self.follow(flow);
            }
            let drained = self.mailbox.drain(&mut self.batch, cx);
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
                return Poll::Ready(());
            }
            if drained {
                // A whole answer grows unseen. Only a mailbox that was found empty wakes this task.
                continue;
            }
            if let Some(timeout) = self.exchange.poll_timeout() {
                self.sleep.reset_at(timeout.at);
            }
            ready!(Pin::new(&mut self.sleep).poll(cx));
        }
    }

    fn follow(&mut self, flow: Flow) {
        let outcome = match flow {
            Flow::Continue => return,
            Flow::Done(outcome) => outcome,
            Flow::Cancel(why, outcome) => {
                if let (Some(link), Some(ticket)) = (&self.link, &self.ticket) {
                    link.cancel(self.shared.timers.now(), ticket.exchange, why);
                }
                outcome
            }
        };
        if let Some(conversation) = self.exchange.conversation() {
            self.shared.keep(self.owner, conversation);
        }
        if let Some(ticket) = self.ticket.take() {
            self.shared
                .hub(|hub, now, out| hub.settle(now, ticket, outcome, out));
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if !self.has_ended() {
            let flow = self.exchange.handle_client_gone(self.shared.timers.now());
            self.follow(flow);
        }
    }
}

/// A response body.
#[derive(Debug)]
pub(crate) enum ResponseBody {
    /// All of it.
    Whole(Option<Bytes>),
    /// As it comes.
    Stream(Box<Running>),
}

impl From<Vec<u8>> for ResponseBody {
    fn from(bytes: Vec<u8>) -> Self {
        Self::Whole((!bytes.is_empty()).then(|| bytes.into()))
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let bytes = match &mut *self {
            Self::Whole(bytes) => bytes.take(),
            Self::Stream(running) => {
                if running.reply.body.is_empty() {
                    ready!(running.poll(cx));
                }
                let bytes = std::mem::take(&mut running.reply.body);
                (!bytes.is_empty()).then(|| bytes.into())
            }
        };
        Poll::Ready(bytes.map(|bytes| Ok(Frame::data(bytes))))
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Whole(bytes) => bytes.is_none(),
            Self::Stream(running) => running.has_ended() && running.reply.body.is_empty(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, Bytes::len)),
            Self::Stream(_) => SizeHint::default(),
        }
    }
}
