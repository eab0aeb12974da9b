//! HTTP requests of agents that this program started, for the tools of a caller: from the driver's thread or task to the
//! thread of the agent, and back.
//!
//! The machine that answers belongs to the agent's thread alone, so a request is laid on that thread's [`Desk`]. Its answer
//! comes in pieces: a call is parked until the client brings the result.

use super::answer::Head;
use super::running::{Progress, Running};
use super::{Shared, lock};
use mcp_local_provider_core::agents::acp::tools::{ToolAnswer, ToolReply, ToolRequest};
use mcp_local_provider_core::exchange::{EVENT_STREAM, JSON, ReplyHead};
use mcp_local_provider_core::id::ExchangeId;
use std::fmt;
use std::mem;
use std::sync::{Arc, Mutex};
use std::task::Waker;

/// Where requests for one agent wait for its thread.
pub struct Desk {
    waiting: Mutex<Vec<Errand>>,
    waker: Waker,
}

impl fmt::Debug for Desk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Desk({} waiting)", lock(&self.waiting).len())
    }
}

/// What lies on a desk.
#[derive(Debug)]
pub enum Errand {
    /// A request to answer.
    Asked(Arc<Slip>),
    /// The connection of a request is gone.
    Gone(Arc<Slip>),
}

impl Desk {
    /// `waker` wakes the agent's thread.
    #[must_use]
    pub fn new(waker: Waker) -> Arc<Self> {
        Arc::new(Self {
            waiting: Mutex::default(),
            waker,
        })
    }

    /// Takes what lies here.
    pub fn take(&self) -> Vec<Errand> {
        mem::take(&mut *lock(&self.waiting))
    }

    fn lay(&self, errand: Errand) {
        lock(&self.waiting).push(errand);
        self.waker.wake_by_ref();
    }
}

/// The head of a request, whose body is still to come.
pub(super) struct Asking {
    desk: Arc<Desk>,
    server: String,
    method: String,
    authorization: Option<String>,
}

impl fmt::Debug for Asking {
    /// Without path and token.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Asking({})", self.method)
    }
}

impl Asking {
    /// `place` is what follows `/agents/` in the path. `None` when there is no such agent.
    pub(super) fn find(
        shared: &Shared,
        place: &str,
        method: &str,
        authorization: Option<&str>,
    ) -> Option<Self> {
        let (agent, server) = place.split_once("/mcp/")?;
        Some(Self {
            desk: shared.desk(agent)?,
            server: server.to_owned(),
            method: method.to_owned(),
            authorization: authorization.map(str::to_owned),
        })
    }

    /// Hands the whole request to the agent's thread.
    pub(super) fn complete(self, body: Vec<u8>, id: ExchangeId) -> Box<Running> {
        let slip = Arc::new(Slip {
            server: self.server,
            method: self.method,
            authorization: self.authorization,
            body,
            answer: Mutex::default(),
        });
        Running::ask(self.desk, slip, id)
    }
}

/// One request, and what of its answer the driver has not taken yet.
pub struct Slip {
    server: String,
    method: String,
    authorization: Option<String>,
    body: Vec<u8>,
    answer: Mutex<Pieces>,
}

impl fmt::Debug for Slip {
    /// Without path, token and body.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Slip({}, {} bytes)", self.method, self.body.len())
    }
}

#[derive(Default)]
struct Pieces {
    /// Status, and whether the body is a stream.
    head: Option<(u16, bool)>,
    body: Vec<u8>,
    ended: bool,
    waker: Option<Waker>,
}

impl Slip {
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
    pub fn answer(&self, answer: &ToolAnswer) {
        self.add(|pieces| match answer {
            ToolAnswer::Whole { status, body } => {
                pieces.head = Some((*status, false));
                pieces.body.extend_from_slice(body);
                pieces.ended = true;
            }
            ToolAnswer::Stream(_) => pieces.head = Some((200, true)),
        });
    }

    /// Passes on more of a stream.
    pub fn go_on(&self, reply: &ToolReply) {
        self.add(|pieces| {
            pieces.body.extend_from_slice(&reply.body);
            pieces.ended |= reply.last;
        });
    }

    /// Ends the answer, whatever of it was given: the agent is going.
    pub fn end(&self) {
        self.add(|pieces| {
            pieces.head.get_or_insert((503, false));
            pieces.ended = true;
        });
    }

    fn add(&self, add: impl FnOnce(&mut Pieces)) {
        let waker = {
            let mut pieces = lock(&self.answer);
            add(&mut pieces);
            pieces.waker.take()
        };
        waker.into_iter().for_each(Waker::wake);
    }
}

/// The driver's side of a request. Dropping it before its end tells the agent's thread that the connection is gone.
#[derive(Debug)]
pub(super) struct Waiting {
    desk: Arc<Desk>,
    slip: Arc<Slip>,
    id: ExchangeId,
    head: Option<(u16, bool)>,
    head_taken: bool,
    pub(super) body: Vec<u8>,
    ended: bool,
}

impl Waiting {
    /// Lays a request on the desk.
    pub(super) fn new(desk: Arc<Desk>, slip: Arc<Slip>, id: ExchangeId) -> Self {
        desk.lay(Errand::Asked(slip.clone()));
        Self {
            desk,
            slip,
            id,
            head: None,
            head_taken: false,
            body: Vec::new(),
            ended: false,
        }
    }

    pub(super) const fn has_ended(&self) -> bool {
        self.ended
    }

    pub(super) fn take_head(&mut self) -> Option<Head> {
        let (status, streamed) = self.head.filter(|_| !self.head_taken)?;
        self.head_taken = true;
        let kind = if streamed { EVENT_STREAM } else { JSON };
        let mut head = ReplyHead::new(status, kind, self.id);
        head.streamed = streamed;
        Some(Head::new(head, None))
    }

    pub(super) fn poll(&mut self, waker: &Waker) -> Progress {
        let mut pieces = lock(&self.slip.answer);
        self.head = pieces.head;
        self.body.append(&mut pieces.body);
        self.ended = pieces.ended;
        let new_head = self.head.is_some() && !self.head_taken;
        if new_head || !self.body.is_empty() || self.ended {
            return Progress::Ready;
        }
        pieces.waker = Some(waker.clone());
        Progress::Until(None)
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        if !self.ended {
            self.desk.lay(Errand::Gone(self.slip.clone()));
        }
    }
}
