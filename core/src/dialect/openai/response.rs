//! OpenAI's answers: `chat.completion` and its chunks.

use crate::dialect::answer::finish_of;
use crate::dialect::{
    Answer, AnsweredCall, Dialect, Encoder, Opening, Timing, close_usage, write_error, write_number,
};
use crate::error::Code;
use crate::id::ExchangeId;
use crate::invocation::{Finish, Usage};
use crate::text;
use crate::time::Instant;
use crate::wire::Records;
use alloc::vec::Vec;

/// Writes a chat completion, streamed or whole.
#[derive(Debug)]
pub(super) struct ChatEncoder {
    include_usage: bool,
    /// Bytes that every chunk starts with, up to the content of a content delta.
    head: Vec<u8>,
    /// Offset in `head` at which the delta starts.
    delta: usize,
    /// Bytes that every chunk but the last ones ends with.
    tail: &'static [u8],
    exchange: Option<ExchangeId>,
    calls: Vec<AnsweredCall>,
}

const CONTENT: &[u8] = b"\"content\":\"";
const TAIL: &[u8] = b"},\"logprobs\":null,\"finish_reason\":null}]}";
const TAIL_USAGE: &[u8] = b"},\"logprobs\":null,\"finish_reason\":null}],\"usage\":null}";

impl ChatEncoder {
    pub(super) const fn new(include_usage: bool) -> Self {
        Self {
            include_usage,
            head: Vec::new(),
            delta: 0,
            tail: if include_usage { TAIL_USAGE } else { TAIL },
            exchange: None,
            calls: Vec::new(),
        }
    }

    /// Writes a chunk whose delta is what `fields` appends.
    fn chunk(&self, out: &mut Records<'_>, fields: impl FnOnce(&mut Vec<u8>)) {
        let record = out.begin(None);
        record.extend_from_slice(self.head.get(..self.delta).unwrap_or_default());
        fields(record);
        record.extend_from_slice(self.tail);
        out.end();
    }

    /// The first piece of a call, or a later one when `first` is none.
    fn call_piece(
        &self,
        at: usize,
        first: Option<&AnsweredCall>,
        arguments: &[u8],
        out: &mut Records<'_>,
    ) {
        self.chunk(out, |record| {
            record.extend_from_slice(b"\"tool_calls\":[{\"index\":");
            write_number(record, u64::try_from(at).unwrap_or(u64::MAX));
            record.push(b',');
            if let Some(call) = first {
                write_call_head(self.exchange, at, call, record);
            } else {
                record.extend_from_slice(b"\"function\":{");
            }
            record.extend_from_slice(b"\"arguments\":\"");
            record.extend_from_slice(arguments);
            record.extend_from_slice(b"\"}}]");
        });
    }

    /// Completes calls that the agent left without a name or without arguments, which clients cannot read.
    fn complete_calls(&mut self, out: &mut Records<'_>) {
        for (at, call) in self.calls.iter().enumerate() {
            if call.name.is_empty() {
                self.call_piece(at, Some(call), call.arguments_or_empty(), out);
            } else if !call.argued() {
                self.call_piece(at, None, b"{}", out);
            }
        }
    }
}

/// `"id":…,"type":"function","function":{"name":…,`
fn write_call_head(
    exchange: Option<ExchangeId>,
    at: usize,
    call: &AnsweredCall,
    out: &mut Vec<u8>,
) {
    out.extend_from_slice(b"\"id\":\"");
    call.write_id(exchange, at, out);
    out.extend_from_slice(b"\",\"type\":\"function\",\"function\":{\"name\":\"");
    out.extend_from_slice(&call.name);
    out.extend_from_slice(b"\",");
}

/// `{"id":…,"object":…,"created":…,"model":…,`
pub(super) fn write_head(opening: &Opening<'_>, prefix: &str, object: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"id\":\"");
    out.extend_from_slice(prefix.as_bytes());
    opening.id.write(out);
    out.extend_from_slice(b"\",\"object\":\"");
    out.extend_from_slice(object.as_bytes());
    out.extend_from_slice(b"\",\"created\":");
    write_number(out, opening.wall.unix(opening.created).as_secs());
    out.extend_from_slice(b",\"model\":\"");
    text::escape_into(out, opening.model);
    out.extend_from_slice(b"\",");
}

pub(super) fn write_usage(usage: Usage, out: &mut Vec<u8>) {
    out.extend_from_slice(b"\"usage\":{\"prompt_tokens\":");
    write_number(out, usage.prompt_tokens);
    out.extend_from_slice(b",\"completion_tokens\":");
    write_number(out, usage.completion_tokens);
    out.extend_from_slice(b",\"total_tokens\":");
    write_number(out, usage.total_tokens());
    close_usage(usage, out);
}

/// Two names are in use: vLLM's older one, which Void reads, and OpenRouter's.
fn write_reasoning(text: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(b"\"reasoning_content\":\"");
    out.extend_from_slice(text);
    out.extend_from_slice(b"\",\"reasoning\":\"");
    out.extend_from_slice(text);
    out.push(b'"');
}

impl Encoder for ChatEncoder {
    fn open(&mut self, opening: &Opening<'_>, out: &mut Records<'_>) {
        self.exchange = Some(opening.id);
        self.head.clear();
        write_head(
            opening,
            "chatcmpl-",
            "chat.completion.chunk",
            &mut self.head,
        );
        self.head
            .extend_from_slice(b"\"choices\":[{\"index\":0,\"delta\":{");
        self.delta = self.head.len();
        self.head.extend_from_slice(CONTENT);
        self.chunk(out, |record| {
            record.extend_from_slice(b"\"role\":\"assistant\",\"content\":\"\",\"refusal\":null");
        });
    }

    #[inline]
    fn content(&mut self, _now: Instant, text: &[u8], out: &mut Records<'_>) {
        let record = out.begin(None);
        record.reserve(self.head.len() + text.len() + TAIL_USAGE.len() + 4);
        record.extend_from_slice(&self.head);
        record.extend_from_slice(text);
        record.push(b'"');
        record.extend_from_slice(self.tail);
        out.end();
    }

    fn reasoning(&mut self, _now: Instant, text: &[u8], out: &mut Records<'_>) {
        self.chunk(out, |record| write_reasoning(text, record));
    }

    fn refusal(&mut self, _now: Instant, text: &[u8], out: &mut Records<'_>) {
        self.chunk(out, |record| {
            record.extend_from_slice(b"\"refusal\":\"");
            record.extend_from_slice(text);
            record.push(b'"');
        });
    }

    fn tool_call(
        &mut self,
        _now: Instant,
        index: u32,
        id: &[u8],
        name: &[u8],
        arguments: &[u8],
        out: &mut Records<'_>,
    ) {
        let at = AnsweredCall::find(&mut self.calls, index, id, name);
        let Some(call) = self.calls.get_mut(at) else {
            return;
        };
        if call.name.is_empty() {
            call.take(id, name, arguments);
            if call.name.is_empty() {
                // Held back until the name is known: clients take it from the first piece only.
                return;
            }
            let held = core::mem::take(&mut call.arguments);
            if let Some(call) = self.calls.get(at) {
                self.call_piece(at, Some(call), &held, out);
            }
        } else if !arguments.is_empty() {
            call.mark_argued();
            self.call_piece(at, None, arguments, out);
        }
    }

    fn end(
        &mut self,
        _now: Instant,
        finish: Finish,
        usage: Usage,
        _timing: &Timing,
        out: &mut Records<'_>,
    ) {
        self.complete_calls(out);
        let finish = finish_of(finish, !self.calls.is_empty());
        let record = out.begin(None);
        record.extend_from_slice(self.head.get(..self.delta).unwrap_or_default());
        record.extend_from_slice(b"},\"logprobs\":null,\"finish_reason\":\"");
        record.extend_from_slice(finish.as_str().as_bytes());
        record.extend_from_slice(if self.include_usage {
            b"\"}],\"usage\":null}"
        } else {
            b"\"}]}"
        });
        out.end();
        if self.include_usage {
            let record = out.begin(None);
            let choices = self.delta.saturating_sub(b"{\"index\":0,\"delta\":{".len());
            record.extend_from_slice(self.head.get(..choices).unwrap_or_default());
            record.extend_from_slice(b"],");
            write_usage(usage, record);
            record.push(b'}');
            out.end();
        }
        out.begin(None).extend_from_slice(b"[DONE]");
        out.end();
    }

    fn keep_alive(&mut self, _now: Instant, out: &mut Records<'_>) {
        out.comment("keep-alive");
    }

    fn failed(&mut self, _now: Instant, code: Code, message: &str, out: &mut Records<'_>) {
        write_error(Dialect::OpenAi, None, code, message, None, out.begin(None));
        out.end();
    }

    fn whole(
        &mut self,
        opening: &Opening<'_>,
        answer: &Answer,
        finish: Finish,
        usage: Usage,
        _timing: &Timing,
        out: &mut Vec<u8>,
    ) {
        write_head(opening, "chatcmpl-", "chat.completion", out);
        out.extend_from_slice(
            b"\"choices\":[{\"index\":0,\"message\":{\"role\":\"assistant\",\"content\":",
        );
        let instead = !answer.tool_calls.is_empty() || !answer.refusal.is_empty();
        write_text(&answer.content, instead, out);
        out.extend_from_slice(b",\"refusal\":");
        write_text(&answer.refusal, true, out);
        if !answer.reasoning.is_empty() {
            out.push(b',');
            write_reasoning(&answer.reasoning, out);
        }
        for (at, call) in answer.tool_calls.iter().enumerate() {
            out.extend_from_slice(if at == 0 {
                b",\"tool_calls\":[{"
            } else {
                b",{"
            });
            write_call_head(Some(opening.id), at, call, out);
            out.extend_from_slice(b"\"arguments\":\"");
            out.extend_from_slice(call.arguments_or_empty());
            out.extend_from_slice(b"\"}}");
        }
        if !answer.tool_calls.is_empty() {
            out.push(b']');
        }
        out.extend_from_slice(b"},\"logprobs\":null,\"finish_reason\":\"");
        let finish = finish_of(finish, !answer.tool_calls.is_empty());
        out.extend_from_slice(finish.as_str().as_bytes());
        out.extend_from_slice(b"\"}],");
        write_usage(usage, out);
        out.push(b'}');
    }

    fn held(&self) -> usize {
        AnsweredCall::held(&self.calls)
    }
}

/// A string, or null when there is none and there may be none.
fn write_text(text: &[u8], nullable: bool, out: &mut Vec<u8>) {
    if text.is_empty() && nullable {
        out.extend_from_slice(b"null");
    } else {
        out.push(b'"');
        out.extend_from_slice(text);
        out.push(b'"');
    }
}
