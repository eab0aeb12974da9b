//! HTTP requests of agents that this program started, for the tools of a caller: from the driver's thread or task to the
//! thread of the agent, and back.
//!
//! The machine that answers belongs to the agent's thread alone, so a request goes into that thread's [`ToolQueue`]. Its
//! response comes in pieces: a call is parked until the client brings the result.

use super::Engine;
use super::account::Account;
use super::inbound::Inbound;
use super::running::{Polled, Respond, Running};
use crate::ranked::{INBOX, Ranked};
use mcp_local_provider_core::agents::acp::tools::{ToolAnswer, ToolReply, ToolRequest};
use mcp_local_provider_core::error::Code;
use mcp_local_provider_core::exchange::{EVENT_STREAM, JSON, Reply, ReplyHead};
use mcp_local_provider_core::hub::{CLIENT_GONE, Outcome, Verdict};
use mcp_local_provider_core::id::ExchangeId;
use mcp_local_provider_core::time::Instant;
use std::fmt;
use std::mem;
use std::sync::Arc;
use std::task::Waker;

/// The HTTP requests for one agent, until its thread takes them.
pub struct ToolQueue {
    events: Ranked<Vec<ToolEvent>, INBOX>,
    waker: Waker,
}

impl fmt::Debug for ToolQueue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ToolQueue({} events)", self.events.lock().len())
    }
}

/// An entry of a [`ToolQueue`].
#[derive(Debug)]
pub enum ToolEvent {
    /// A request to answer.
    Request(Arc<ToolTransaction>),
    /// The connection of a request is gone.
    Disconnected(Arc<ToolTransaction>),
}

impl ToolQueue {
    /// `waker` wakes the agent's thread.
    #[must_use]
    pub fn new(waker: Waker) -> Arc<Self> {
        Arc::new(Self {
            events: Ranked::default(),
            waker,
        })
    }

    /// Takes all entries, in order.
    pub fn take(&self) -> Vec<ToolEvent> {
        mem::take(&mut *self.events.lock())
    }

    fn push(&self, event: ToolEvent) {
        self.events.lock().push(event);
        self.waker.wake_by_ref();
    }
}

/// The head of a request, whose body is still to come.
pub(super) struct ToolHead {
    queue: Arc<ToolQueue>,
    server: String,
    method: String,
    authorization: Option<String>,
}

impl fmt::Debug for ToolHead {
    /// Without path and token.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ToolHead({})", self.method)
    }
}

impl ToolHead {
    /// `None` when there is no such agent.
    pub(super) fn find(
        engine: &Engine,
        agent: &str,
        server: &str,
        method: &str,
        authorization: Option<&str>,
    ) -> Option<Self> {
        Some(Self {
            queue: engine.tool_queue(agent)?,
            server: server.to_owned(),
            method: method.to_owned(),
            authorization: authorization.map(str::to_owned),
        })
    }

    /// Hands the whole request to the agent's thread.
    pub(super) fn complete(self, body: Vec<u8>, inbound: Inbound) -> Box<Running> {
        let transaction = Arc::new(ToolTransaction {
            server: self.server,
            method: self.method,
            authorization: self.authorization,
            body,
            response: Ranked::default(),
        });
        self.queue.push(ToolEvent::Request(transaction.clone()));
        let responding = ToolResponding {
            queue: self.queue,
            transaction,
            id: inbound.account.id(),
            status: None,
            bytes_out: 0,
        };
        Running::new(Box::new(responding), inbound)
    }
}

/// One request, and the part of its response that the driver has not taken yet.
pub struct ToolTransaction {
    server: String,
    method: String,
    authorization: Option<String>,
    body: Vec<u8>,
    response: Ranked<Response, INBOX>,
}

impl fmt::Debug for ToolTransaction {
    /// Without path, token and body.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "ToolTransaction({}, {} bytes)",
            self.method,
            self.body.len()
        )
    }
}

#[derive(Default)]
struct Response {
    head: Option<ResponseHead>,
    body: Vec<u8>,
    ended: Option<Verdict>,
    waker: Option<Waker>,
}

#[derive(Clone, Copy)]
struct ResponseHead {
    status: u16,
    streamed: bool,
}

impl ToolTransaction {
    /// The request, for the machine.
    #[must_use]
    pub fn request(&self) -> ToolRequest<'_> {
        ToolRequest {
            server: &self.server,
            method: &self.method,
            authorization: self.authorization.as_deref(),
            body: &self.body,
        }
    }

    /// Passes on what the machine answered.
    pub fn respond(&self, answer: &ToolAnswer) {
        let whole = |status| ResponseHead {
            status,
            streamed: false,
        };
        self.add(|response| match answer {
            ToolAnswer::Whole { status, body } => {
                response.head = Some(whole(*status));
                response.body.extend_from_slice(body);
                response.ended = Some(Verdict::Completed);
            }
            ToolAnswer::Refused(code) => {
                response.head = Some(whole(code.status()));
                response.ended = Some(Verdict::Failed(*code));
            }
            ToolAnswer::Stream(_) => {
                response.head = Some(ResponseHead {
                    status: 200,
                    streamed: true,
                });
            }
        });
    }

    /// Passes on more of a stream.
    pub fn push(&self, reply: &ToolReply) {
        self.add(|response| {
            response.body.extend_from_slice(&reply.body);
            if reply.last {
                response.ended = Some(Verdict::Completed);
            }
        });
    }

    /// Ends the response, whatever of it was given: the agent is going.
    pub fn abort(&self) {
        let code = Code::NoAgent;
        self.add(|response| {
            response.head.get_or_insert(ResponseHead {
                status: code.status(),
                streamed: false,
            });
            response.ended.get_or_insert(Verdict::Failed(code));
        });
    }

    fn add(&self, add: impl FnOnce(&mut Response)) {
        let waker = {
            let mut response = self.response.lock();
            add(&mut response);
            response.waker.take()
        };
        waker.into_iter().for_each(Waker::wake);
    }
}

/// The driver's side of a request.
struct ToolResponding {
    queue: Arc<ToolQueue>,
    transaction: Arc<ToolTransaction>,
    id: ExchangeId,
    /// Once the head was given.
    status: Option<u16>,
    bytes_out: u64,
}

impl Respond for ToolResponding {
    fn poll(
        &mut self,
        _now: Instant,
        waker: &Waker,
        _account: &mut Account,
        reply: &mut Reply,
    ) -> Polled {
        let mut response = self.transaction.response.lock();
        if let (None, Some(head)) = (self.status, response.head) {
            self.status = Some(head.status);
            let kind = if head.streamed { EVENT_STREAM } else { JSON };
            let mut head_out = ReplyHead::new(head.status, kind, self.id);
            head_out.streamed = head.streamed;
            reply.head = Some(head_out);
        }
        self.bytes_out += u64::try_from(response.body.len()).unwrap_or(0);
        reply.body.append(&mut response.body);
        if let (Some(verdict), Some(status)) = (response.ended, self.status) {
            return Polled::Ended(Outcome::new(verdict, status, self.bytes_out));
        }
        if reply.head.is_some() || !reply.body.is_empty() {
            return Polled::Ready;
        }
        response.waker = Some(waker.clone());
        Polled::Until(None)
    }

    fn client_gone(&mut self, _now: Instant, _account: &mut Account) -> Outcome {
        self.queue
            .push(ToolEvent::Disconnected(self.transaction.clone()));
        let status = self.status.unwrap_or(CLIENT_GONE);
        Outcome::new(Verdict::ClientGone, status, self.bytes_out)
    }
}
