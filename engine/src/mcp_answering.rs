//! The answer to a client: one stream of its session, read until it ends.

use super::Engine;
use super::account::Account;
use super::gateway::SessionCell;
use super::running::{Polled, Respond};
use mcp_local_provider_core::exchange::{EVENT_STREAM, JSON, Reply, ReplyHead};
use mcp_local_provider_core::hub::{CLIENT_GONE, Outcome, Verdict};
use mcp_local_provider_core::id::ExchangeId;
use mcp_local_provider_core::time::Instant;
use mcp_local_provider_core::wire::sse;
use mcp_local_provider_mcp::config::Timeouts;
use mcp_local_provider_mcp::session::State;
use mcp_local_provider_mcp::streams::{Reader, StreamId, Taken};
use std::sync::Arc;
use std::task::Waker;
use std::time::Duration;

/// An answer that is the first message and comes within this time is given as JSON, others as events.
const PATIENCE: Duration = Duration::from_secs(1);

/// Form of an answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Form {
    /// Not known until then.
    Open(Instant),
    /// Events.
    Events,
}

/// Reads one stream for one HTTP request.
pub(super) struct Responding {
    engine: Arc<Engine>,
    cell: Arc<SessionCell>,
    id: ExchangeId,
    stream: StreamId,
    reader: Reader,
    form: Form,
    /// The head was given.
    has_begun: bool,
    /// The answer says which session was opened.
    opens: bool,
    times: Timeouts,
    /// Time of the next comment, so that nobody in between takes the stream for dead.
    heartbeat: Instant,
    bytes_out: u64,
}

impl Responding {
    /// Reads `stream`, which is the answer to a request. `None` when it is gone.
    pub(super) fn answer(
        engine: &Arc<Engine>,
        cell: &Arc<SessionCell>,
        stream: StreamId,
        id: ExchangeId,
        times: Timeouts,
        opens: bool,
    ) -> Option<Box<Self>> {
        let until = engine.clock() + PATIENCE;
        Self::new(engine, cell, stream, id, times, Form::Open(until), opens)
    }

    /// Reads `stream` as events.
    pub(super) fn events(
        engine: &Arc<Engine>,
        cell: &Arc<SessionCell>,
        stream: StreamId,
        id: ExchangeId,
        times: Timeouts,
    ) -> Option<Box<Self>> {
        Self::new(engine, cell, stream, id, times, Form::Events, false)
    }

    fn new(
        engine: &Arc<Engine>,
        cell: &Arc<SessionCell>,
        stream: StreamId,
        id: ExchangeId,
        times: Timeouts,
        form: Form,
        opens: bool,
    ) -> Option<Box<Self>> {
        let reader = cell.call(|session, wake| {
            let (reader, before) = session.streams_mut().read(stream)?;
            wake.extend(before);
            Some(reader)
        })?;
        let responding = Self {
            engine: engine.clone(),
            cell: cell.clone(),
            id,
            stream,
            reader,
            form,
            has_begun: false,
            opens,
            times,
            heartbeat: engine.clock() + times.heartbeat,
            bytes_out: 0,
        };
        responding.cell.attend(engine);
        Some(Box::new(responding))
    }

    fn head(&mut self, content_type: &'static str, is_open: bool) -> ReplyHead {
        self.has_begun = true;
        let mut head = ReplyHead::new(200, content_type, self.id);
        head.mcp_session = (self.opens && is_open).then(|| self.cell.id.clone());
        head
    }

    const fn ended(&self) -> Polled {
        Polled::Ended(Outcome::new(Verdict::Completed, 200, self.bytes_out))
    }
}

impl Respond for Responding {
    fn poll(
        &mut self,
        now: Instant,
        waker: &Waker,
        _account: &mut Account,
        reply: &mut Reply,
    ) -> Polled {
        let cell = self.cell.clone();
        let mut session = cell.machine.lock();
        let is_open = session.state() != State::Ended;
        let is_over = !is_open || session.streams().is_complete(self.stream);
        if let Form::Open(until) = self.form {
            if let Some(answer) = session.streams().sole_answer(self.stream) {
                reply.body.extend_from_slice(answer.as_bytes());
                session.streams_mut().close(self.stream);
                reply.head = Some(self.head(JSON, is_open));
                self.bytes_out += reply.body.len() as u64;
                return self.ended();
            }
            if now < until && !is_over && !session.streams().has_news(self.stream) {
                // It takes nothing, and leaves the waker.
                let _ =
                    session
                        .streams_mut()
                        .take(self.stream, self.reader, waker, &mut reply.body);
                return Polled::Until(Some(until));
            }
            self.form = Form::Events;
        }
        let before = reply.body.len();
        if !self.has_begun {
            let mut head = self.head(EVENT_STREAM, is_open);
            head.streamed = true;
            reply.head = Some(head);
            if session.revision().has_priming() {
                sse::write_retry(&mut reply.body, self.times.retry);
                session.streams().prime(self.stream, &mut reply.body);
            }
        }
        let taken = session
            .streams_mut()
            .take(self.stream, self.reader, waker, &mut reply.body);
        drop(session);
        let is_quiet = reply.body.len() == before;
        if is_quiet && now >= self.heartbeat {
            sse::write_comment(&mut reply.body, "keep-alive");
        }
        if reply.body.len() > before {
            self.heartbeat = now + self.times.heartbeat;
            self.bytes_out += (reply.body.len() - before) as u64;
        }
        let is_drained = self.stream == StreamId::SESSION && self.engine.is_draining();
        match taken {
            Taken::Ended | Taken::Replaced => self.ended(),
            Taken::Waiting if is_over || is_drained => self.ended(),
            Taken::Waiting if reply.head.is_some() || !reply.body.is_empty() => Polled::Ready,
            Taken::Waiting => Polled::Until(Some(self.heartbeat)),
        }
    }

    fn client_gone(&mut self, _now: Instant, _account: &mut Account) -> Outcome {
        let status = if self.has_begun { 200 } else { CLIENT_GONE };
        Outcome::new(Verdict::ClientGone, status, self.bytes_out)
    }
}

impl Drop for Responding {
    fn drop(&mut self) {
        let now = self.engine.clock();
        let (stream, reader) = (self.stream, self.reader);
        self.cell
            .call(|session, _| session.streams_mut().leave(now, stream, reader));
        self.cell.attend(&self.engine);
    }
}
