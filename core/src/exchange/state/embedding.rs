//! Answers that are vectors.

use super::{Exchange, Flow, MAX_TOOL_CALLS};
use crate::error::Code;
use crate::exchange::Reply;
use crate::exchange::Timer;
use crate::invocation::CancelReason;
use crate::mailbox::TOO_LARGE;
use crate::time::Instant;
use alloc::format;

impl Exchange {
    /// One vector of the answer.
    pub(super) fn vector(&mut self, now: Instant, vector: &str, reply: &mut Reply) -> Flow {
        let (Some(_), Some(fold)) = (self.vectors, &mut self.fold) else {
            return self.fail(
                now,
                Code::AgentFault,
                "the agent answered with embeddings where text was asked for",
                Some(CancelReason::Protocol),
                reply,
            );
        };
        fold.embeddings.push(vector.as_bytes().to_vec());
        self.first_chunk.get_or_insert(now);
        self.timers.set(Timer::FirstChunk, None);
        self.timers.set(Timer::Idle, Some(now + self.timeouts.idle));
        if self.is_too_large() {
            return self.too_large(now, reply);
        }
        Flow::Continue
    }

    /// The failure of an answer that is not the vectors that were asked for.
    pub(super) fn miscounted(&mut self, now: Instant, reply: &mut Reply) -> Option<Flow> {
        let wanted = self.vectors?;
        let came = self.fold.as_ref().map_or(0, |fold| fold.embeddings.len());
        (came != wanted).then(|| {
            let message =
                format!("the agent was asked for {wanted} embeddings and answered with {came}");
            self.fail(now, Code::AgentFault, message, None, reply)
        })
    }

    /// Bytes of the answer that are held back: all of a whole one, of a streamed one what its last records repeat.
    #[must_use]
    pub fn held(&self) -> usize {
        match &self.fold {
            Some(fold) => fold.held().saturating_add(self.encoder.held()),
            None => self.encoder.held(),
        }
    }

    /// True when the answer is given whole, so that no part of it can be read before its end.
    #[must_use]
    pub const fn is_whole(&self) -> bool {
        self.fold.is_some()
    }

    pub(super) fn is_too_large(&self) -> bool {
        self.held() > self.answer_bytes || self.calls.len() > MAX_TOOL_CALLS
    }

    pub(super) fn too_large(&mut self, now: Instant, reply: &mut Reply) -> Flow {
        self.fail(
            now,
            Code::AnswerTooLarge,
            TOO_LARGE,
            Some(CancelReason::BudgetOverrun),
            reply,
        )
    }
}
