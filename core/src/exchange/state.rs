//! The machine of one exchange.

mod embedding;
mod ending;
mod pieces;
mod restart;

use super::lifecycle::{STATES, State, Timer};
use super::reply::{EVENT_STREAM, JSON, NDJSON, Reply, ReplyHead};
use super::stop::StopScanner;
use crate::config::{HubConfig, Timeouts};
use crate::dialect::{Answer, Dialect, Encoder, Form, Opening, Parsed, ReadForm};
use crate::error::{Code, Refusal, Standing};
use crate::hub::metrics::Gaps;
use crate::hub::responses::Conversation;
use crate::hub::{Outcome, Ticket};
use crate::id::{ExchangeId, SessionId};
use crate::invocation::{
    CancelReason, Delivery, Finish, Needs, ParameterSet, Task, Usage, estimate_tokens,
};
use crate::machine::OUTSIDE;
use crate::request::{self, Request};
use crate::text::{Joiner, JsonStr};
use crate::time::{Instant, Latest, Timeout, Timers, WallClock};
use crate::wire::{Framing, Records};
use alloc::borrow::Cow;
use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::string::String;
use alloc::vec::Vec;
use core::time::Duration;

/// Tool calls of one answer.
const MAX_TOOL_CALLS: usize = 128;

/// Next step of the exchange's owner after a call.
#[must_use]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Flow {
    /// Go on.
    Continue,
    /// This prompt is answered. Cancel it at the agent where there is a reason to, write what is in the reply, and ask the next.
    Next(Option<CancelReason>),
    /// Cancel the exchange at the agent, write what is in the reply, end the body and conclude.
    Cancel(CancelReason, Outcome),
    /// Write what is in the reply, end the body and conclude.
    Done(Outcome),
}

/// Content of a request, and what is to be known of it for its admission.
#[derive(Debug)]
pub struct Intent {
    /// For the agent. Each of its prompts is asked alone, the next one at [`Flow::Next`].
    pub request: Request,
    /// Tokens to reserve: the prompt's estimate and `max_tokens`.
    pub tokens: u64,
    /// True when nothing is asked of the model: [`Exchange::load`] answers.
    pub load_only: bool,
    /// Abilities that it asks of its agent.
    pub needs: Needs,
}

impl Intent {
    /// Returns the number of prompts.
    #[must_use]
    pub fn prompts(&self) -> u32 {
        u32::try_from(self.request.prompts()).unwrap_or(u32::MAX)
    }
}

/// Reads a body. Its result is large and stays off the stack, which is at its deepest here.
#[inline(never)]
fn read<'b>(
    form: &Form,
    body: &'b str,
    history: Option<&'b [u8]>,
    config: &HubConfig,
) -> Result<Box<Parsed<'b>>, Refusal> {
    let parsed = match form.read {
        ReadForm::Whole(read) => read(body, &config.limits),
        ReadForm::Continued { read, .. } => read(body, history, &config.limits),
    };
    parsed.map(Box::new)
}

/// The timeouts of an answer. Each open one has them, so that a reload changes none that has begun.
#[derive(Debug)]
struct AnswerTimeouts {
    first_event: Duration,
    first_chunk: Duration,
    idle: Duration,
    total: Duration,
    keep_alive: Duration,
}

impl AnswerTimeouts {
    const fn of(timeouts: &Timeouts) -> Self {
        Self {
            first_event: timeouts.first_event,
            first_chunk: timeouts.first_chunk,
            idle: timeouts.idle,
            total: timeouts.total,
            keep_alive: timeouts.keep_alive,
        }
    }
}

/// See the module's documentation.
#[derive(Debug)]
pub struct Exchange {
    id: ExchangeId,
    dialect: Dialect,
    encoder: Box<dyn Encoder + Send>,
    model: Box<str>,
    wall: WallClock,
    timeouts: AnswerTimeouts,
    answer_bytes: usize,
    /// The fold of a whole answer; `None` when the answer is streamed.
    fold: Option<Box<Answer>>,
    stop: Option<Box<StopScanner>>,
    /// For an agent that does not take it.
    max_tokens: Option<u64>,
    /// Parameters that the request gives and not every agent takes.
    given: ParameterSet,
    /// Those that the answering agent ignores, once it is known.
    ignored: ParameterSet,
    /// Number of vectors that are wanted; `None` when text is.
    vectors: Option<usize>,
    state: State,
    timers: Timers<Timer, 5>,
    latest: Latest,
    started: Instant,
    first_chunk: Option<Instant>,
    last_chunk: Option<Instant>,
    gaps: Gaps,
    content: Joiner,
    reasoning: Joiner,
    refusal: Joiner,
    /// Arguments of tool calls, by the agent's index.
    calls: Vec<(u32, Joiner)>,
    prompt_tokens: u64,
    /// Estimated tokens of the prompts that are to be asked still.
    later: VecDeque<u64>,
    /// Tokens of the prompts that are answered.
    before: Option<Usage>,
    /// Bytes of text that came, for the estimate of a count that the agent does not give.
    text_bytes: usize,
    bytes_out: u64,
    session: Option<SessionId>,
    standing: Option<Standing>,
    /// The model that is waited for, while nobody answers.
    awaited: Box<str>,
    scratch: Vec<u8>,
}

impl Exchange {
    /// Reads a request in its dialect.
    ///
    /// # Errors
    /// 400 or 413 that names the field.
    pub fn parse(
        config: &HubConfig,
        wall: WallClock,
        id: ExchangeId,
        form: &Form,
        now: Instant,
        body: Vec<u8>,
    ) -> Result<(Self, Intent), Refusal> {
        Self::parse_continued(config, wall, id, form, now, body, None)
    }

    /// The response that a request continues from, for [`Responses::find`] to look its conversation up.
    ///
    /// [`Responses::find`]: crate::hub::responses::Responses::find
    #[must_use]
    pub fn continues_from<'b>(
        config: &HubConfig,
        form: &Form,
        body: &'b [u8],
    ) -> Option<Cow<'b, str>> {
        match form.read {
            ReadForm::Whole(_) => None,
            ReadForm::Continued { previous, .. } => {
                previous(core::str::from_utf8(body).ok()?, &config.limits)
            }
        }
    }

    /// As [`Exchange::parse`], with the conversation that the request continues.
    ///
    /// # Errors
    /// As [`Exchange::parse`]; 404 when the request continues from a response and `history` is none.
    pub fn parse_continued(
        config: &HubConfig,
        wall: WallClock,
        id: ExchangeId,
        form: &Form,
        now: Instant,
        body: Vec<u8>,
        history: Option<&[u8]>,
    ) -> Result<(Self, Intent), Refusal> {
        let body = String::from_utf8(body).map_err(|error| {
            Refusal::invalid(alloc::format!(
                "the body is not UTF-8: byte {} starts no character",
                error.utf8_error().valid_up_to()
            ))
        })?;
        let mut parsed = read(form, &body, history, config)?;
        let invocation = &mut parsed.invocation;
        let prompt_tokens = invocation.estimated_prompt_tokens();
        let max_tokens = invocation.parameters.max_tokens;
        let first = match &invocation.task {
            Task::Completion { prompt, .. } => estimate_tokens(prompt.len()),
            Task::Chat { .. } | Task::Embedding { .. } => 0,
        };
        let of_more = |prompt: &JsonStr<'_>| {
            let besides = prompt_tokens.saturating_sub(first);
            besides.saturating_add(estimate_tokens(prompt.len()))
        };
        let later: VecDeque<u64> = parsed.more.iter().map(of_more).collect();
        let of_each = later.iter().chain([&prompt_tokens]);
        let of_each = of_each.map(|tokens| tokens.saturating_add(max_tokens.unwrap_or(0)));
        let tokens = of_each.fold(0, u64::saturating_add);
        // The provider applies stop sequences itself; the agent is told too, so that it may save work.
        let stop = StopScanner::new(invocation.parameters.stop.clone()).map(Box::new);
        invocation.stream = parsed.stream;
        STATES.step(OUTSIDE, State::Waiting.name());
        let vectors = match &invocation.task {
            Task::Embedding { input } => Some(input.len()),
            Task::Chat { .. } | Task::Completion { .. } => None,
        };
        let (load_only, needs) = (parsed.load_only, invocation.needs());
        let read = request::Read::new(&body, invocation, &parsed.more, parsed.digest_of);
        let (model, stream) = (Box::from(&*invocation.model), parsed.stream);
        // The provider applies a token limit itself.
        let given = invocation
            .parameters
            .given()
            .without(ParameterSet::MAX_TOKENS);
        let encoder = parsed.into_encoder();
        let exchange = Self {
            id,
            dialect: form.dialect,
            encoder,
            model,
            wall,
            timeouts: AnswerTimeouts::of(&config.timeouts),
            answer_bytes: config.limits.answer_bytes,
            fold: (!stream).then(Box::default),
            stop,
            max_tokens,
            given,
            ignored: ParameterSet::EMPTY,
            vectors,
            state: State::Waiting,
            timers: Timers::new(),
            latest: Latest::default(),
            started: now,
            first_chunk: None,
            last_chunk: None,
            gaps: Gaps::default(),
            content: Joiner::default(),
            reasoning: Joiner::default(),
            refusal: Joiner::default(),
            calls: Vec::new(),
            prompt_tokens,
            later,
            before: None,
            text_bytes: 0,
            bytes_out: 0,
            session: None,
            standing: None,
            awaited: Box::default(),
            scratch: Vec::new(),
        };
        let intent = Intent {
            request: read.with(body).in_form(form.body),
            tokens,
            load_only,
            needs,
        };
        Ok((exchange, intent))
    }

    /// The exchange waits for its admission to `model`: a stream is opened in time, and kept alive, so that its client waits too.
    pub fn wait(&mut self, now: Instant, model: &str) {
        self.awaited = model.into();
        let now = self.latest.clamp(now);
        self.open_in_time(now);
    }

    fn open_in_time(&mut self, now: Instant) {
        if self.state == State::Waiting && self.fold.is_none() {
            self.timers
                .set(Timer::Head, Some(now + self.timeouts.first_event));
        }
    }

    /// The exchange is admitted: its clocks run from here. Once it has started or ended, this changes nothing.
    pub fn start(&mut self, now: Instant, ticket: &Ticket) {
        let now = self.latest.clamp(now);
        if self.session.is_some() || self.state == State::Ended {
            return;
        }
        self.session = Some(ticket.session().clone());
        self.standing = Some(ticket.standing);
        self.name(ticket.model_named());
        self.suit(ticket);
        if self.timers.get(Timer::Head).is_none() {
            self.open_in_time(now);
        }
        self.timers
            .set(Timer::FirstChunk, Some(now + self.timeouts.first_chunk));
        self.timers
            .set(Timer::Total, Some(now + self.timeouts.total));
    }

    /// Names the model that the provider has chosen, where the client left that to it. Otherwise the answer repeats the name
    /// that the client knows.
    fn name(&mut self, model: &str) {
        if matches!(&*self.model, "" | "default") {
            self.model = model.into();
        }
    }

    /// Answers a request that asks nothing of the model (Ollama's way to load one, Anthropic's `count_tokens`).
    pub fn load(&mut self, now: Instant, model: &str, reply: &mut Reply) {
        self.counted(now, model, 0, reply);
    }

    /// Answers `count_tokens` with the count of a server; 0 stands for the estimate.
    pub fn counted(&mut self, now: Instant, model: &str, tokens: u64, reply: &mut Reply) {
        let now = self.latest.clamp(now);
        self.name(model);
        self.fold = Some(Box::default());
        let usage = Usage {
            prompt_tokens: tokens,
            ..Usage::default()
        };
        // The account is of no interest: nothing was admitted.
        let _ = self.finish(now, Finish::Stop, Some(usage), reply);
    }

    /// Moves by the table. To where it is already is no move.
    fn go(&mut self, state: State) {
        if self.state != state {
            STATES.step(self.state.name(), state.name());
            self.state = state;
        }
    }

    fn framing(&self) -> Framing {
        match (self.fold.is_some(), self.dialect) {
            (true, _) => Framing::Whole,
            (
                false,
                Dialect::OpenAi | Dialect::Anthropic | Dialect::Mcp | Dialect::Rest | Dialect::Tool,
            ) => Framing::Sse,
            (false, Dialect::Ollama) => Framing::Ndjson,
        }
    }

    fn head(&self, status: u16) -> ReplyHead {
        let mut head = ReplyHead::new(status, JSON, self.id);
        head.session.clone_from(&self.session);
        head.standing = self.standing;
        head.ignored = self.ignored;
        head
    }

    /// Sends the head of a stream unless it was sent.
    #[inline]
    fn open(&mut self, now: Instant, reply: &mut Reply) {
        if self.state == State::Waiting && self.fold.is_none() {
            self.open_stream(now, reply);
        }
    }

    fn open_stream(&mut self, now: Instant, reply: &mut Reply) {
        self.go(State::Streaming);
        self.timers.set(Timer::Head, None);
        if !self.awaited.is_empty() {
            let awaited = core::mem::take(&mut self.awaited);
            self.name(&awaited);
        }
        let framing = self.framing();
        let mut head = self.head(200);
        head.streamed = true;
        head.content_type = if framing == Framing::Sse {
            EVENT_STREAM
        } else {
            NDJSON
        };
        reply.head = Some(head);
        let opening = Opening {
            id: self.id,
            model: &self.model,
            created: self.started,
            wall: &self.wall,
        };
        self.encoder
            .open(&opening, &mut Records::new(&mut reply.body, framing));
        self.timers
            .set(Timer::KeepAlive, Some(now + self.timeouts.keep_alive));
    }

    /// One step of the agent's answer.
    #[inline]
    pub fn handle_delivery(
        &mut self,
        now: Instant,
        delivery: &Delivery<'_>,
        reply: &mut Reply,
    ) -> Flow {
        if self.state == State::Ended {
            return Flow::Continue;
        }
        let now = self.latest.clamp(now);
        let before = reply.body.len();
        let flow = match delivery {
            Delivery::Delta(delta) => self.delta(now, delta, reply),
            Delivery::Embedding(vector) => self.vector(now, vector, reply),
            Delivery::End(end) => self.end(now, *end, reply),
            Delivery::Failed(failure) => self.failed(now, failure, reply),
        };
        self.bytes_out += u64::try_from(reply.body.len().saturating_sub(before)).unwrap_or(0);
        flow.with_bytes(self.bytes_out)
    }

    /// Once the answer has ended well: the conversation up to and with it, for later requests to continue from. Given once,
    /// and only where the client wants it kept.
    pub fn conversation(&mut self) -> Option<Conversation> {
        let mut items = self.encoder.conversation()?;
        // It is kept for long, and only its length is charged.
        items.shrink_to_fit();
        Some(Conversation {
            response: self.id,
            items: items.into(),
        })
    }

    /// Time at which the exchange wants to be called next. It moves later with every delivery, so a driver may keep an
    /// earlier timer and look again when that one fires.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Timeout<Timer>> {
        self.timers.next()
    }

    /// Time has passed. A call that comes early changes nothing.
    pub fn handle_timeout(&mut self, now: Instant, reply: &mut Reply) -> Flow {
        let now = self.latest.clamp(now);
        let before = reply.body.len();
        let mut flow = Flow::Continue;
        while let Some(why) = self.timers.take_due(now) {
            flow = match why {
                Timer::Head => {
                    self.open(now, reply);
                    Flow::Continue
                }
                Timer::KeepAlive => {
                    let framing = self.framing();
                    self.encoder
                        .keep_alive(now, &mut Records::new(&mut reply.body, framing));
                    self.timers
                        .set(Timer::KeepAlive, Some(now + self.timeouts.keep_alive));
                    Flow::Continue
                }
                Timer::FirstChunk => self.timed_out(
                    now,
                    "the agent sent nothing in time (timeouts.first_chunk)",
                    reply,
                ),
                Timer::Idle => self.timed_out(now, "the agent fell silent (timeouts.idle)", reply),
                Timer::Total => {
                    self.timed_out(now, "the answer took too long (timeouts.total)", reply)
                }
            };
            if flow != Flow::Continue {
                break;
            }
        }
        self.bytes_out += u64::try_from(reply.body.len().saturating_sub(before)).unwrap_or(0);
        flow.with_bytes(self.bytes_out)
    }

    fn timed_out(&mut self, now: Instant, message: &'static str, reply: &mut Reply) -> Flow {
        self.fail(
            now,
            Code::AgentTimeout,
            message,
            Some(CancelReason::Timeout),
            reply,
        )
    }
}

impl Flow {
    /// The same end, of which the agent is told.
    const fn with_cancel(self, why: CancelReason) -> Self {
        match self {
            Self::Done(outcome) => Self::Cancel(why, outcome),
            Self::Next(_) => Self::Next(Some(why)),
            Self::Continue | Self::Cancel(..) => self,
        }
    }

    fn with_bytes(self, bytes_out: u64) -> Self {
        match self {
            Self::Continue | Self::Next(_) => self,
            Self::Cancel(why, outcome) => Self::Cancel(
                why,
                Outcome {
                    bytes_out,
                    ..outcome
                },
            ),
            Self::Done(outcome) => Self::Done(Outcome {
                bytes_out,
                ..outcome
            }),
        }
    }
}
