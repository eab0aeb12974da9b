//! The pieces of an answer: each is mended, counted, held back where it may be the start of a stop sequence, and written.

use super::{Exchange, Flow};
use crate::exchange::Reply;
use crate::exchange::lifecycle::Timer;
use crate::exchange::stop::Cut;
use crate::invocation::{Delta, ToolCallDelta};
use crate::text::{Joiner, decode_into, escape_into};
use crate::time::Instant;
use crate::wire::Records;
use alloc::string::String;
use alloc::vec::Vec;

/// Field of an answer that text belongs to.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Channel {
    Content,
    Reasoning,
    Refusal,
}

impl Exchange {
    #[inline]
    pub(super) fn delta(&mut self, now: Instant, delta: &Delta<'_>, reply: &mut Reply) -> Flow {
        self.first_chunk.get_or_insert(now);
        self.timers.set(Timer::FirstChunk, None);
        self.timers.set(Timer::Idle, Some(now + self.timeouts.idle));
        if delta.is_empty() {
            return Flow::Continue;
        }
        if let Some(before) = self.last_chunk.replace(now) {
            self.gaps.observe(now.since(before));
        }
        self.open(now, reply);
        let before = reply.body.len();
        if !delta.reasoning.is_empty() {
            if let Some(cut) = self.pass_held(now, reply) {
                return self.cut(now, cut, reply);
            }
            let mut scratch = core::mem::take(&mut self.scratch);
            let text = self.reasoning.mend(delta.reasoning, &mut scratch);
            self.text_bytes += text.len();
            self.emit(now, Channel::Reasoning, text, reply);
            self.scratch = scratch;
        }
        if !delta.content.is_empty() {
            let mut scratch = core::mem::take(&mut self.scratch);
            let text = self.content.mend(delta.content, &mut scratch);
            self.text_bytes += text.len();
            let met = self.emit_content(now, text, reply);
            self.scratch = scratch;
            if let Some(cut) = met {
                return self.cut(now, cut, reply);
            }
        }
        if !(delta.refusal.is_empty() && delta.tool_calls.is_empty())
            && let Some(cut) = self.pass_held(now, reply)
        {
            return self.cut(now, cut, reply);
        }
        if !delta.refusal.is_empty() {
            let mut scratch = core::mem::take(&mut self.scratch);
            let text = self.refusal.mend(delta.refusal, &mut scratch);
            self.text_bytes += text.len();
            self.emit(now, Channel::Refusal, text, reply);
            self.scratch = scratch;
        }
        for call in &delta.tool_calls {
            self.tool_call(now, call, reply);
        }
        if self.is_too_large() {
            return self.too_large(now, reply);
        }
        // What a dialect leaves out or holds back is silence to its client.
        if reply.body.len() > before {
            self.timers
                .set(Timer::KeepAlive, Some(now + self.timeouts.keep_alive));
        }
        Flow::Continue
    }

    /// Passes content on through the stop sequences; why it is cut.
    #[inline]
    pub(super) fn emit_content(
        &mut self,
        now: Instant,
        text: &[u8],
        reply: &mut Reply,
    ) -> Option<Cut> {
        let Some(stop) = &mut self.stop else {
            self.emit(now, Channel::Content, text, reply);
            return None;
        };
        let mut plain = String::new();
        decode_into(core::str::from_utf8(text).unwrap_or_default(), &mut plain);
        let mut passed = String::new();
        let met = stop.push(&plain, &mut passed);
        self.emit_plain(now, &passed, reply);
        met
    }

    /// Passes on what may have been the start of a stop sequence, before something else follows it.
    pub(super) fn pass_held(&mut self, now: Instant, reply: &mut Reply) -> Option<Cut> {
        let mut held = String::new();
        let cut = self.stop.as_mut()?.finish(&mut held);
        self.emit_plain(now, &held, reply);
        cut
    }

    fn emit_plain(&mut self, now: Instant, plain: &str, reply: &mut Reply) {
        let mut escaped = Vec::with_capacity(plain.len() + 8);
        escape_into(&mut escaped, plain);
        self.emit(now, Channel::Content, &escaped, reply);
    }

    /// Writes clean text to the client, or keeps it for a whole answer.
    #[inline]
    pub(super) fn emit(&mut self, now: Instant, channel: Channel, text: &[u8], reply: &mut Reply) {
        if text.is_empty() {
            return;
        }
        if let Some(fold) = &mut self.fold {
            match channel {
                Channel::Content => &mut fold.content,
                Channel::Reasoning => &mut fold.reasoning,
                Channel::Refusal => &mut fold.refusal,
            }
            .extend_from_slice(text);
            return;
        }
        let framing = self.framing();
        let mut records = Records::new(&mut reply.body, framing);
        match channel {
            Channel::Content => self.encoder.content(now, text, &mut records),
            Channel::Reasoning => self.encoder.reasoning(now, text, &mut records),
            Channel::Refusal => self.encoder.refusal(now, text, &mut records),
        }
    }

    pub(super) fn tool_call(&mut self, now: Instant, piece: &ToolCallDelta<'_>, reply: &mut Reply) {
        let framing = self.framing();
        let (mut id, mut name) = (Vec::new(), Vec::new());
        let id = Joiner::default().mend(piece.id, &mut id);
        let name = Joiner::default().mend(piece.name, &mut name);
        let at = self
            .calls
            .iter()
            .position(|(index, _)| *index == piece.index);
        let at = at.unwrap_or_else(|| {
            self.calls.push((piece.index, Joiner::default()));
            self.calls.len() - 1
        });
        let Some((_, joiner)) = self.calls.get_mut(at) else {
            return;
        };
        let arguments = joiner.mend(piece.arguments, &mut self.scratch);
        self.text_bytes += name.len() + arguments.len();
        match &mut self.fold {
            Some(fold) => fold.tool_call(piece.index, id, name, arguments),
            None => self.encoder.tool_call(
                now,
                piece.index,
                id,
                name,
                arguments,
                &mut Records::new(&mut reply.body, framing),
            ),
        }
    }
}
