//! The answer to a client: one stream of its session, or of one that answers as a model, read until it ends.

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
use mcp_local_provider_mcp::streams::{Reader, StreamId, Streams, Taken, write_message};
use std::sync::Arc;
use std::task::Waker;
use std::time::Duration;

/// An answer that is the first message and comes within this time is given as JSON, others as events.
const PATIENCE: Duration = Duration::from_secs(1);

/// Somebody whose streams are read.
pub(super) trait Told: Send + Sync + 'static {
    /// Calls with the streams, under their lock, and wakes whom that wakes.
    fn streams<R>(&self, call: impl FnOnce(View<'_>, &mut Vec<Waker>) -> R) -> R;

    /// A reader has come to a stream, or has left one.
    fn attend(&self, engine: &Arc<Engine>);

    /// The id of the session.
    fn id(&self) -> &str;
}

/// The streams of somebody, and what their protocol has.
pub(super) struct View<'s> {
    pub(super) streams: &'s mut Streams,
    /// More may come.
    pub(super) is_open: bool,
    /// A stream begins with an event without data.
    pub(super) has_priming: bool,
    /// A stream can be gone on with.
    pub(super) has_ids: bool,
}

impl Told for SessionCell {
    fn streams<R>(&self, call: impl FnOnce(View<'_>, &mut Vec<Waker>) -> R) -> R {
        self.call(|session, wake| {
            let view = View {
                is_open: session.state() != State::Ended,
                has_priming: session.revision().has_priming(),
                has_ids: true,
                streams: session.streams_mut(),
            };
            call(view, wake)
        })
    }

    fn attend(&self, engine: &Arc<Engine>) {
        Self::attend(self, engine);
    }

    fn id(&self) -> &str {
        &self.id
    }
}

/// Form of an answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Form {
    /// Not known until then.
    Open(Instant),
    /// Events.
    Events,
}

/// What was read.
enum Read {
    /// The whole answer.
    Whole,
    /// Nothing, until then.
    Wait(Instant),
    /// Events behind so many bytes.
    Events {
        before: usize,
        is_over: bool,
        taken: Taken,
    },
}

/// Reads one stream for one HTTP request.
pub(super) struct Responding<C: Told = SessionCell> {
    engine: Arc<Engine>,
    cell: Arc<C>,
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

impl<C: Told> Responding<C> {
    /// Reads `stream`, which is the answer to a request. `None` when it is gone.
    pub(super) fn answer(
        engine: &Arc<Engine>,
        cell: &Arc<C>,
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
        cell: &Arc<C>,
        stream: StreamId,
        id: ExchangeId,
        times: Timeouts,
    ) -> Option<Box<Self>> {
        Self::new(engine, cell, stream, id, times, Form::Events, false)
    }

    fn new(
        engine: &Arc<Engine>,
        cell: &Arc<C>,
        stream: StreamId,
        id: ExchangeId,
        times: Timeouts,
        form: Form,
        opens: bool,
    ) -> Option<Box<Self>> {
        let reader = cell.streams(|view, wake| {
            let (reader, before) = view.streams.read(stream)?;
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
        head.mcp_session = (self.opens && is_open).then(|| self.cell.id().into());
        head
    }

    const fn ended(&self) -> Polled {
        Polled::Ended(Outcome::new(Verdict::Completed, 200, self.bytes_out))
    }

    /// Takes what there is.
    fn read(&mut self, now: Instant, view: View<'_>, waker: &Waker, reply: &mut Reply) -> Read {
        let View {
            streams,
            is_open,
            has_priming,
            has_ids,
        } = view;
        let is_over = !is_open || streams.is_complete(self.stream);
        if let Form::Open(until) = self.form {
            if let Some(answer) = streams.sole_answer(self.stream) {
                reply.body.extend_from_slice(answer.as_bytes());
                streams.close(self.stream);
                reply.head = Some(self.head(JSON, is_open));
                self.bytes_out += reply.body.len() as u64;
                return Read::Whole;
            }
            if now < until && !is_over && !streams.has_news(self.stream) {
                // It takes nothing, and leaves the waker.
                let _ = streams.take(self.stream, self.reader, waker, &mut reply.body);
                return Read::Wait(until);
            }
            self.form = Form::Events;
        }
        let before = reply.body.len();
        if !self.has_begun {
            let mut head = self.head(EVENT_STREAM, is_open);
            head.streamed = true;
            reply.head = Some(head);
            if has_priming {
                sse::write_retry(&mut reply.body, self.times.retry);
                streams.prime(self.stream, &mut reply.body);
            }
        }
        let taken = if has_ids {
            streams.take(self.stream, self.reader, waker, &mut reply.body)
        } else {
            let mut write = |_, text: &str| write_message(text, &mut reply.body);
            streams.take_each(self.stream, self.reader, waker, &mut write)
        };
        Read::Events {
            before,
            is_over,
            taken,
        }
    }
}

impl<C: Told> Respond for Responding<C> {
    fn poll(
        &mut self,
        now: Instant,
        waker: &Waker,
        _account: &mut Account,
        reply: &mut Reply,
    ) -> Polled {
        let cell = self.cell.clone();
        let read = cell.streams(|view, _| self.read(now, view, waker, reply));
        let (before, is_over, taken) = match read {
            Read::Whole => return self.ended(),
            Read::Wait(until) => return Polled::Until(Some(until)),
            Read::Events {
                before,
                is_over,
                taken,
            } => (before, is_over, taken),
        };
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

impl<C: Told> Drop for Responding<C> {
    fn drop(&mut self) {
        let now = self.engine.clock();
        let (stream, reader) = (self.stream, self.reader);
        self.cell
            .streams(|view, _| view.streams.leave(now, stream, reader));
        self.cell.attend(&self.engine);
    }
}
