//! Ollama's answers: one JSON object a line, or one in all.

use crate::dialect::answer::write_arguments;
use crate::dialect::{
    Answer, AnsweredCall, Dialect, Encoder, Opening, Timing, close_usage, write_error, write_number,
};
use crate::error::Code;
use crate::id::ExchangeId;
use crate::invocation::{Finish, Usage};
use crate::text;
use crate::time::{Instant, WallClock};
use crate::wire::Records;
use alloc::vec::Vec;
use core::time::Duration;

/// The form of a line, which the endpoint decides.
#[derive(Clone, Copy, Debug)]
pub(super) struct Form {
    /// Bytes between a line's time and its text.
    before: &'static [u8],
    /// Bytes that close the object that holds the text.
    close: &'static [u8],
    /// The `done_reason` of a load request.
    load: Option<&'static str>,
}

impl Form {
    /// `/api/chat`
    pub(super) const fn chat(load: Option<&'static str>) -> Self {
        Self {
            before: b"\",\"message\":{\"role\":\"assistant\",\"content\":\"",
            close: b"}",
            load,
        }
    }

    /// `/api/generate`
    pub(super) const fn generate(load: Option<&'static str>) -> Self {
        Self {
            before: b"\",\"response\":\"",
            close: b"",
            load,
        }
    }

    pub(super) const fn is_load(self) -> bool {
        self.load.is_some()
    }
}

const NOT_DONE: &[u8] = b",\"done\":false}";

/// Writes the answer of `/api/chat` or `/api/generate`, streamed or whole.
#[derive(Debug)]
pub(super) struct LineEncoder {
    form: Form,
    /// False when the client asked for an answer without thinking.
    thinks: bool,
    /// Bytes that every line starts with, up to its time.
    head: Vec<u8>,
    clock: Option<WallClock>,
    /// The time of the last line, in RFC 3339.
    stamp: Vec<u8>,
    second: u64,
    exchange: Option<ExchangeId>,
    /// Clients want a call whole.
    calls: Vec<AnsweredCall>,
}

impl LineEncoder {
    pub(super) const fn new(form: Form, thinks: bool) -> Self {
        Self {
            form,
            thinks,
            head: Vec::new(),
            clock: None,
            stamp: Vec::new(),
            second: u64::MAX,
            exchange: None,
            calls: Vec::new(),
        }
    }

    fn prepare(&mut self, opening: &Opening<'_>) {
        self.clock = Some(opening.wall.clone());
        self.exchange = Some(opening.id);
        self.head.clear();
        self.head.extend_from_slice(b"{\"model\":\"");
        text::escape_into(&mut self.head, opening.model);
        self.head.extend_from_slice(b"\",\"created_at\":\"");
    }

    /// Brings the stamp to `now`. Within a second only its fraction is written anew.
    fn stamp(&mut self, now: Instant) {
        /// Place of the fraction's digits in `2026-01-01T00:05:00.000000Z`.
        const FRACTION: core::ops::Range<usize> = 20..26;
        let Some(clock) = &self.clock else {
            return;
        };
        let unix = clock.unix(now);
        if unix.as_secs() == self.second
            && let Some(digits) = self.stamp.get_mut(FRACTION)
        {
            let mut micros = unix.subsec_micros();
            for digit in digits.iter_mut().rev() {
                *digit = b'0' + u8::try_from(micros % 10).unwrap_or_default();
                micros /= 10;
            }
            return;
        }
        self.second = unix.as_secs();
        self.stamp.clear();
        clock.write_rfc3339(now, &mut self.stamp);
    }

    /// Writes what comes before the text.
    fn begin(&mut self, now: Instant, out: &mut Vec<u8>) {
        self.stamp(now);
        out.extend_from_slice(&self.head);
        out.extend_from_slice(&self.stamp);
        out.extend_from_slice(self.form.before);
    }

    /// Writes a line with text and what `fields` appends beside it.
    fn line(
        &mut self,
        now: Instant,
        text: &[u8],
        out: &mut Records<'_>,
        fields: impl FnOnce(&mut Vec<u8>),
    ) {
        let record = out.begin(None);
        record.reserve(self.head.len() + text.len() + 128);
        self.begin(now, record);
        record.extend_from_slice(text);
        record.push(b'"');
        fields(record);
        record.extend_from_slice(self.form.close);
        record.extend_from_slice(NOT_DONE);
        out.end();
    }

    /// Writes what comes after the text and the fields beside it in a last line.
    fn finish(&self, finish: Finish, usage: Usage, timing: &Timing, out: &mut Vec<u8>) {
        out.extend_from_slice(self.form.close);
        out.extend_from_slice(b",\"done\":true,\"done_reason\":\"");
        if let Some(reason) = self.form.load {
            out.extend_from_slice(reason.as_bytes());
            out.extend_from_slice(b"\"}");
            return;
        }
        let reason = match finish {
            Finish::Stop | Finish::StopSequence(_) | Finish::ToolCalls => Finish::Stop.as_str(),
            Finish::Length | Finish::ContentFilter => finish.as_str(),
        };
        out.extend_from_slice(reason.as_bytes());
        out.push(b'"');
        // Clients divide by the two parts, so neither is zero; the whole is their sum.
        let waiting = nanoseconds(timing.waiting());
        let answering = nanoseconds(timing.answering());
        for (key, value) in [
            ("total_duration", waiting.saturating_add(answering)),
            ("load_duration", 0),
            ("prompt_eval_count", usage.prompt_tokens),
            ("prompt_eval_duration", waiting),
            ("eval_count", usage.completion_tokens),
            ("eval_duration", answering),
        ] {
            out.extend_from_slice(b",\"");
            out.extend_from_slice(key.as_bytes());
            out.extend_from_slice(b"\":");
            write_number(out, value);
        }
        close_usage(usage, out);
    }
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos())
        .unwrap_or(u64::MAX)
        .max(1)
}

fn write_thinking(text: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(b",\"thinking\":\"");
    out.extend_from_slice(text);
    out.push(b'"');
}

fn write_calls(exchange: Option<ExchangeId>, calls: &[AnsweredCall], out: &mut Vec<u8>) {
    for (at, call) in calls.iter().enumerate() {
        out.extend_from_slice(if at == 0 { b",\"tool_calls\":[" } else { b"," });
        out.extend_from_slice(b"{\"id\":\"");
        call.write_id(exchange, at, out);
        out.extend_from_slice(b"\",\"function\":{\"index\":");
        write_number(out, u64::try_from(at).unwrap_or(u64::MAX));
        out.extend_from_slice(b",\"name\":\"");
        out.extend_from_slice(&call.name);
        out.extend_from_slice(b"\",\"arguments\":");
        write_arguments(&call.arguments, out);
        out.extend_from_slice(b"}}");
    }
    if !calls.is_empty() {
        out.push(b']');
    }
}

impl Encoder for LineEncoder {
    fn open(&mut self, opening: &Opening<'_>, _out: &mut Records<'_>) {
        self.prepare(opening);
    }

    #[inline]
    fn content(&mut self, now: Instant, text: &[u8], out: &mut Records<'_>) {
        self.line(now, text, out, |_| {});
    }

    fn reasoning(&mut self, now: Instant, text: &[u8], out: &mut Records<'_>) {
        if self.thinks {
            self.line(now, b"", out, |record| write_thinking(text, record));
        }
    }

    /// Ollama has no field for it: it is the answer's text.
    fn refusal(&mut self, now: Instant, text: &[u8], out: &mut Records<'_>) {
        self.content(now, text, out);
    }

    fn tool_call(
        &mut self,
        _now: Instant,
        index: u32,
        id: &[u8],
        name: &[u8],
        arguments: &[u8],
        _out: &mut Records<'_>,
    ) {
        let at = AnsweredCall::find(&mut self.calls, index, id, name);
        if let Some(call) = self.calls.get_mut(at) {
            call.take(id, name, arguments);
        }
    }

    fn end(
        &mut self,
        now: Instant,
        finish: Finish,
        usage: Usage,
        timing: &Timing,
        out: &mut Records<'_>,
    ) {
        let calls = core::mem::take(&mut self.calls);
        if !calls.is_empty() {
            let exchange = self.exchange;
            self.line(now, b"", out, |record| {
                write_calls(exchange, &calls, record)
            });
        }
        let record = out.begin(None);
        self.begin(now, record);
        record.push(b'"');
        self.finish(finish, usage, timing, record);
        out.end();
    }

    fn keep_alive(&mut self, now: Instant, out: &mut Records<'_>) {
        self.line(now, b"", out, |_| {});
    }

    fn failed(&mut self, _now: Instant, code: Code, message: &str, out: &mut Records<'_>) {
        write_error(Dialect::Ollama, None, code, message, None, out.begin(None));
        out.end();
    }

    fn whole(
        &mut self,
        opening: &Opening<'_>,
        answer: &Answer,
        finish: Finish,
        usage: Usage,
        timing: &Timing,
        out: &mut Vec<u8>,
    ) {
        self.prepare(opening);
        self.begin(timing.now, out);
        out.extend_from_slice(&answer.content);
        out.extend_from_slice(&answer.refusal);
        out.push(b'"');
        if self.thinks && !answer.reasoning.is_empty() {
            write_thinking(&answer.reasoning, out);
        }
        write_calls(Some(opening.id), &answer.tool_calls, out);
        self.finish(finish, usage, timing, out);
    }

    fn held(&self) -> usize {
        AnsweredCall::held(&self.calls)
    }
}
