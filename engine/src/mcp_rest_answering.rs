//! Answers to requests of REST: each waits for the sole answer on a stream of its session, and may then ask again.

use super::Engine;
use super::account::Account;
use super::gateway::SessionCell;
use super::inbound::Inbound;
use super::mcp_rest::{answer, fail, unknown_session};
use super::running::{Polled, Respond};
use mcp_local_provider_core::dialect::Dialect;
use mcp_local_provider_core::exchange::{JSON, Reply, ReplyHead};
use mcp_local_provider_core::hub::{CLIENT_GONE, Outcome, Verdict};
use mcp_local_provider_core::id::ExchangeId;
use mcp_local_provider_core::rpc::Message;
use mcp_local_provider_core::time::Instant;
use mcp_local_provider_mcp::refusal::{Reason, Refusal};
use mcp_local_provider_mcp::rest::{Failure, Target, Work, opened};
use mcp_local_provider_mcp::session::State;
use mcp_local_provider_mcp::streams::{Reader, StreamId};
use std::sync::Arc;
use std::task::Waker;

/// A stream that is to have one answer, and is read until then.
struct Awaited {
    engine: Arc<Engine>,
    cell: Arc<SessionCell>,
    stream: StreamId,
    reader: Reader,
}

impl Awaited {
    /// `None` when the stream is gone.
    fn new(engine: &Arc<Engine>, cell: &Arc<SessionCell>, stream: StreamId) -> Option<Self> {
        let reader = cell.call(|session, wake| {
            let (reader, before) = session.streams_mut().read(stream)?;
            wake.extend(before);
            Some(reader)
        })?;
        cell.attend(engine);
        Some(Self {
            engine: engine.clone(),
            cell: cell.clone(),
            stream,
            reader,
        })
    }

    /// The answer, or that none will come; `None` leaves the waker.
    fn poll(&self, waker: &Waker) -> Option<Option<String>> {
        let mut session = self.cell.machine.lock();
        if let Some(answer) = session.streams().sole_answer(self.stream) {
            return Some(Some(answer.to_owned()));
        }
        if session.state() == State::Ended || session.streams().is_complete(self.stream) {
            return Some(None);
        }
        // There is nothing on it to be taken.
        let _ = session
            .streams_mut()
            .take(self.stream, self.reader, waker, &mut Vec::new());
        None
    }
}

impl Drop for Awaited {
    fn drop(&mut self) {
        self.cell
            .call(|session, _| session.streams_mut().close(self.stream));
        self.cell.attend(&self.engine);
    }
}

/// `POST /sessions`, until the server is ready.
pub(super) struct Opening {
    awaited: Awaited,
    dialect: Dialect,
    id: ExchangeId,
    is_answered: bool,
}

impl Opening {
    /// `None` when the session has ended already.
    pub(super) fn new(
        engine: &Arc<Engine>,
        cell: &Arc<SessionCell>,
        stream: StreamId,
        dialect: Dialect,
        id: ExchangeId,
    ) -> Option<Self> {
        Some(Self {
            awaited: Awaited::new(engine, cell, stream)?,
            dialect,
            id,
            is_answered: false,
        })
    }
}

impl Respond for Opening {
    fn poll(
        &mut self,
        _now: Instant,
        waker: &Waker,
        _account: &mut Account,
        reply: &mut Reply,
    ) -> Polled {
        let Some(told) = self.awaited.poll(waker) else {
            return Polled::Until(None);
        };
        self.is_answered = true;
        let Awaited { engine, cell, .. } = &self.awaited;
        let told = told.ok_or_else(unknown_session);
        let gateway = engine.gateway().ok_or_else(unknown_session);
        let described = told
            .and_then(|told| opened(&told))
            .and(gateway)
            .map(|gateway| cell.describe(engine, gateway, false));
        match described {
            Ok(described) => {
                let mut head = ReplyHead::new(201, JSON, self.id);
                head.mcp_session = Some(cell.id.clone());
                head.location = Some(format!("/sessions/{}", cell.id).into());
                reply.head = Some(head);
                reply.body = described.into_bytes();
                ended(Verdict::Completed, reply)
            }
            Err(failure) => failed(reply, self.dialect, self.id, &failure),
        }
    }

    fn client_gone(&mut self, _now: Instant, _account: &mut Account) -> Outcome {
        Outcome::new(Verdict::ClientGone, CLIENT_GONE, 0)
    }
}

impl Drop for Opening {
    fn drop(&mut self) {
        // Nobody knows the id of a session that was not told.
        if !self.is_answered
            && let Some(gateway) = self.awaited.engine.gateway()
        {
            gateway.end(&self.awaited.engine, &self.awaited.cell);
        }
    }
}

fn ended(verdict: Verdict, reply: &Reply) -> Polled {
    let status = reply.head.as_ref().map_or(0, |head| head.status);
    let bytes = u64::try_from(reply.body.len()).unwrap_or(u64::MAX);
    Polled::Ended(Outcome::new(verdict, status, bytes))
}

fn failed(reply: &mut Reply, dialect: Dialect, id: ExchangeId, failure: &Failure) -> Polled {
    fail(reply, dialect, id, failure);
    ended(Verdict::Failed(failure.code), reply)
}

/// What an [`Asking`] waits for.
enum Stage {
    /// The session to be opened.
    Opening(Awaited),
    /// The answer to a request with this id, which is JSON.
    Asked(Awaited, String),
    /// Nothing.
    Idle,
}

/// A request that asks a server, once or several times.
pub(super) struct Asking {
    engine: Arc<Engine>,
    cell: Arc<SessionCell>,
    work: Work,
    dialect: Dialect,
    id: ExchangeId,
    /// Requests that were made.
    asked: u32,
    stage: Stage,
}

impl Asking {
    pub(super) fn new(
        engine: &Arc<Engine>,
        cell: Arc<SessionCell>,
        work: Work,
        inbound: &Inbound,
    ) -> Self {
        Self {
            engine: engine.clone(),
            cell,
            work,
            dialect: inbound.dialect,
            id: inbound.account.id(),
            asked: 0,
            stage: Stage::Idle,
        }
    }

    /// Asks for the first time, once the session is open whose stream of `initialize` is given.
    pub(super) fn begin(mut self, opening: Option<StreamId>) -> Result<Self, Failure> {
        match opening {
            Some(stream) => {
                let awaited = Awaited::new(&self.engine, &self.cell, stream);
                self.stage = Stage::Opening(awaited.ok_or_else(|| self.gone())?);
            }
            None => self.ask()?,
        }
        Ok(self)
    }

    /// The error of a session that has ended without an answer.
    fn gone(&self) -> Failure {
        match self.work.target() {
            Target::Session(_) => unknown_session(),
            Target::Server(name) => {
                let message = format!("the MCP server `{name}` is not running any more; ask again");
                Failure::from(Refusal::new(Reason::ServerUnavailable, message))
            }
        }
    }

    /// Passes one message to the session.
    fn pass(&self, text: &str, stream: StreamId) -> Result<(), Failure> {
        let (Some(gateway), Ok(message)) = (self.engine.gateway(), Message::read(text)) else {
            return Err(self.gone());
        };
        gateway
            .forward(&self.engine, &self.cell, (text, &message), stream)
            .map_err(|refusal| {
                if refusal.reason == Reason::SessionNotFound {
                    self.gone()
                } else {
                    refusal.into()
                }
            })
    }

    /// Makes the next request.
    fn ask(&mut self) -> Result<(), Failure> {
        self.stage = Stage::Idle;
        self.asked += 1;
        // No other request of the session has it.
        let id = String::from_utf8_lossy(&self.id.text()).into_owned();
        let id = format!("\"rest-{id}-{}\"", self.asked);
        let stream = self.cell.call(|session, _| session.open_whole_stream());
        let awaited = Awaited::new(&self.engine, &self.cell, stream);
        let awaited = awaited.ok_or_else(|| self.gone())?;
        self.pass(&self.work.request(&id), stream)?;
        self.stage = Stage::Asked(awaited, id);
        Ok(())
    }

    /// Takes what was waited for. `None`: there is more to wait for.
    fn take(&mut self, told: &str, reply: &mut Reply) -> Result<Option<Polled>, Failure> {
        match core::mem::replace(&mut self.stage, Stage::Idle) {
            Stage::Opening(_) => opened(told)?,
            Stage::Asked(..) | Stage::Idle => {
                if let Some(done) = self.work.take(told)? {
                    answer(reply, self.id, done);
                    return Ok(Some(ended(Verdict::Completed, reply)));
                }
            }
        }
        self.ask().map(|()| None)
    }
}

impl Respond for Asking {
    fn poll(
        &mut self,
        _now: Instant,
        waker: &Waker,
        _account: &mut Account,
        reply: &mut Reply,
    ) -> Polled {
        loop {
            let told = match &self.stage {
                Stage::Opening(awaited) | Stage::Asked(awaited, _) => awaited.poll(waker),
                Stage::Idle => Some(None),
            };
            let taken = match told {
                None => return Polled::Until(None),
                Some(Some(told)) => self.take(&told, reply),
                Some(None) => {
                    self.stage = Stage::Idle;
                    Err(self.gone())
                }
            };
            match taken {
                Ok(Some(polled)) => return polled,
                Ok(None) => {}
                Err(failure) => return failed(reply, self.dialect, self.id, &failure),
            }
        }
    }

    fn client_gone(&mut self, _now: Instant, _account: &mut Account) -> Outcome {
        if let Stage::Asked(awaited, id) = &self.stage {
            let told = format!(
                "{{\"jsonrpc\":\"2.0\",\"method\":\"notifications/cancelled\",\"params\":{{\"requestId\":{id},\"reason\":\"the client has left\"}}}}"
            );
            // A session that has ended has no open request.
            let _ = self.pass(&told, awaited.stream);
        }
        Outcome::new(Verdict::ClientGone, CLIENT_GONE, 0)
    }
}
