//! The ends of an exchange: complete, stopped, failed, refused.

use super::pieces::Channel;
use super::{Exchange, Flow};
use crate::dialect::{Opening, Timing};
use crate::error::{Code, Refusal};
use crate::exchange::Reply;
use crate::exchange::lifecycle::{State, Timer};
use crate::exchange::stop::Cut;
use crate::hub::{Outcome, Ticket, Verdict};
use crate::invocation::{
    CancelReason, End, Failure, Finish, ParameterSet, ToolCallDelta, Usage, estimate_tokens,
};
use crate::text::{Joiner, JsonStr, escape_into};
use crate::time::Instant;
use crate::wire::Records;
use alloc::borrow::Cow;
use alloc::string::String;
use alloc::vec::Vec;

/// Room round a whole answer, in bytes.
const FRAME: usize = 512;

impl Exchange {
    /// Adapts the answer to its agent: applies a token limit that the agent does not take, and keeps for the client the
    /// list of parameters that the agent ignores.
    pub(super) fn suit(&mut self, ticket: &Ticket) {
        self.ignored = self.given.without(ticket.parameters);
        let takes = ticket.parameters.contains(ParameterSet::MAX_TOKENS);
        let bytes = self.max_tokens.filter(|_| !takes).map(|tokens| {
            let bytes = tokens.saturating_mul(4);
            usize::try_from(bytes).unwrap_or(usize::MAX)
        });
        if let Some(stop) = &mut self.stop {
            // The agent before may have had a limit.
            stop.limit(bytes);
        } else if bytes.is_some() {
            self.stop.get_or_insert_default().limit(bytes);
        }
    }

    pub(super) fn cut(&mut self, now: Instant, cut: Cut, reply: &mut Reply) -> Flow {
        let flow = self.finish(now, cut.finish(), None, reply);
        flow.with_cancel(cut.reason())
    }

    pub(super) fn end(&mut self, now: Instant, end: End, reply: &mut Reply) -> Flow {
        if let Some(failed) = self.miscounted(now, reply) {
            return failed;
        }
        self.first_chunk.get_or_insert(now);
        self.open(now, reply);
        // A half of a pair that stayed alone, then what the stop scanner held back.
        let reasoning = self.reasoning.finish();
        self.emit(now, Channel::Reasoning, reasoning, reply);
        let content = self.content.finish();
        if let Some(cut) = self.emit_content(now, content, reply) {
            return self.finish(now, cut.finish(), end.usage, reply);
        }
        if let Some(cut) = self.pass_held(now, reply) {
            return self.finish(now, cut.finish(), end.usage, reply);
        }
        let refusal = self.refusal.finish();
        self.emit(now, Channel::Refusal, refusal, reply);
        for at in 0..self.calls.len() {
            let Some((index, joiner)) = self.calls.get_mut(at) else {
                break;
            };
            let rest = joiner.finish();
            let piece = ToolCallDelta {
                index: *index,
                arguments: JsonStr::from_escaped(core::str::from_utf8(rest).unwrap_or_default()),
                ..ToolCallDelta::default()
            };
            if !rest.is_empty() {
                self.tool_call(now, &piece, reply);
            }
        }
        self.finish(now, end.finish, end.usage, reply)
    }

    /// The end of an answer that went well.
    pub(super) fn finish(
        &mut self,
        now: Instant,
        finish: Finish,
        usage: Option<Usage>,
        reply: &mut Reply,
    ) -> Flow {
        let usage = self.in_all(usage.unwrap_or_else(|| self.estimate()));
        if let Some(prompt_tokens) = self.later.pop_front() {
            return self.next(now, finish, usage, prompt_tokens, reply);
        }
        let timing = Timing {
            started: self.started,
            first_chunk: self.first_chunk,
            now,
        };
        let framing = self.framing();
        match self.fold.take() {
            Some(answer) => {
                let opening = Opening {
                    id: self.id,
                    model: &self.model,
                    created: self.started,
                    wall: &self.wall,
                };
                reply.body.reserve(answer.held() + FRAME);
                self.encoder
                    .whole(&opening, &answer, finish, usage, &timing, &mut reply.body);
                reply.head = Some(self.head(200));
            }
            None => self.encoder.end(
                now,
                finish,
                usage,
                &timing,
                &mut Records::new(&mut reply.body, framing),
            ),
        }
        Flow::Done(self.ended(Verdict::Completed, 200, usage))
    }

    /// One of several prompts is answered, and the next one begins.
    fn next(
        &mut self,
        now: Instant,
        finish: Finish,
        usage: Usage,
        prompt_tokens: u64,
        reply: &mut Reply,
    ) -> Flow {
        let framing = self.framing();
        let answer = self.fold.as_mut().map(core::mem::take);
        let mut records = Records::new(&mut reply.body, framing);
        self.encoder.next(finish, answer.as_deref(), &mut records);
        self.before = Some(usage);
        self.prompt_tokens = prompt_tokens;
        self.text_bytes = 0;
        self.calls.clear();
        [&mut self.content, &mut self.reasoning, &mut self.refusal]
            .into_iter()
            .for_each(|joiner| *joiner = Joiner::default());
        if let Some(stop) = &mut self.stop {
            stop.begin_again();
        }
        self.timers.set(Timer::Idle, None);
        self.timers
            .set(Timer::FirstChunk, Some(now + self.timeouts.first_chunk));
        if self.is_too_large() {
            return self.too_large(now, reply);
        }
        Flow::Next(None)
    }

    /// The tokens of all prompts that are answered, and of this one.
    pub(super) fn in_all(&self, usage: Usage) -> Usage {
        let before = self.before.unwrap_or_default();
        Usage {
            prompt_tokens: before.prompt_tokens.saturating_add(usage.prompt_tokens),
            completion_tokens: before
                .completion_tokens
                .saturating_add(usage.completion_tokens),
            estimated: before.estimated || usage.estimated,
        }
    }

    pub(super) fn failed(
        &mut self,
        now: Instant,
        failure: &Failure<'_>,
        reply: &mut Reply,
    ) -> Flow {
        if failure.code == Code::AgentRefused && self.vectors.is_none() {
            self.first_chunk.get_or_insert(now);
            self.open(now, reply);
            let mut escaped = Vec::new();
            escape_into(&mut escaped, &failure.message);
            self.emit(now, Channel::Refusal, &escaped, reply);
            return self.finish(now, Finish::ContentFilter, None, reply);
        }
        // Where no text is wanted, a refusal is an error like any other.
        let code = if failure.code == Code::AgentRefused {
            Code::AgentError
        } else {
            failure.code
        };
        let mut refusal = Refusal::new(code, String::from(&*failure.message));
        if let Some(after) = failure.retry_after {
            refusal = refusal.retry_after(after);
        }
        self.refuse_or_fail(now, &refusal, None, reply)
    }

    pub(super) fn fail(
        &mut self,
        now: Instant,
        code: Code,
        message: impl Into<Cow<'static, str>>,
        cancel: Option<CancelReason>,
        reply: &mut Reply,
    ) -> Flow {
        self.refuse_or_fail(now, &Refusal::new(code, message), cancel, reply)
    }

    fn refuse_or_fail(
        &mut self,
        now: Instant,
        refusal: &Refusal,
        cancel: Option<CancelReason>,
        reply: &mut Reply,
    ) -> Flow {
        let usage = self.in_all(self.estimate());
        let outcome = self.tell(now, refusal, usage, reply);
        match cancel {
            Some(why) => Flow::Cancel(why, outcome),
            None => Flow::Done(outcome),
        }
    }

    /// Ends with an error: a status while nothing has been sent, an event in the stream after that.
    pub(super) fn tell(
        &mut self,
        now: Instant,
        refusal: &Refusal,
        usage: Usage,
        reply: &mut Reply,
    ) -> Outcome {
        let status = if self.state == State::Streaming {
            let framing = self.framing();
            self.encoder.failed(
                now,
                refusal.code(),
                refusal.message(),
                &mut Records::new(&mut reply.body, framing),
            );
            200
        } else {
            reply.refuse(self.id, self.dialect, refusal);
            if let Some(head) = &mut reply.head {
                head.session.clone_from(&self.session);
                // The refusal of an admission tells it itself.
                head.standing = self.standing.or(head.standing);
            }
            self.dialect.status(refusal.code())
        };
        self.ended(Verdict::Failed(refusal.code()), status, usage)
    }

    /// Refuses the request in its dialect, instead of [`Exchange::start`]: with a status, or as an event in a stream that is
    /// open already.
    pub fn refuse(&mut self, now: Instant, refusal: &Refusal, reply: &mut Reply) -> Outcome {
        let now = self.latest.clamp(now);
        let before = reply.body.len();
        let outcome = self.tell(now, refusal, Usage::default(), reply);
        let sent = reply.body.len().saturating_sub(before);
        self.bytes_out += u64::try_from(sent).unwrap_or(0);
        Outcome {
            bytes_out: self.bytes_out,
            ..outcome
        }
    }

    /// The client has closed its connection. Idempotent: after the end it changes nothing.
    pub fn handle_client_gone(&mut self, now: Instant) -> Flow {
        self.latest.clamp(now);
        if self.state == State::Ended {
            return Flow::Continue;
        }
        let status = if self.state == State::Streaming {
            200
        } else {
            499
        };
        // Nothing was asked for one that was not admitted.
        let usage = match self.session {
            Some(_) => self.in_all(self.estimate()),
            None => Usage::default(),
        };
        let outcome = self.ended(Verdict::ClientGone, status, usage);
        Flow::Cancel(CancelReason::ClientDisconnected, outcome)
    }

    pub(super) fn estimate(&self) -> Usage {
        Usage {
            prompt_tokens: self.prompt_tokens,
            completion_tokens: estimate_tokens(self.text_bytes),
            estimated: true,
        }
    }

    pub(super) fn ended(&mut self, verdict: Verdict, status: u16, usage: Usage) -> Outcome {
        let gaps = (self.state == State::Streaming).then_some(self.gaps);
        self.go(State::Ended);
        self.timers.clear();
        Outcome {
            verdict,
            status,
            usage,
            bytes_out: self.bytes_out,
            first_chunk: self.first_chunk,
            gaps,
        }
    }
}
