//! Anthropic's answers: a message, and the events that tell it block by block.

use crate::dialect::answer::{finish_of, write_arguments};
use crate::dialect::{
    Answer, AnsweredCall, Dialect, Encoder, Opening, Timing, close_usage, write_error, write_number,
};
use crate::error::Code;
use crate::id::ExchangeId;
use crate::invocation::{Finish, Usage};
use crate::text;
use crate::time::Instant;
use crate::wire::Records;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

/// Writes a message, streamed or whole.
///
/// Blocks follow one another: text and thinking end where something else begins, a tool's call ends where its arguments are
/// complete and something else begins. Pieces of calls that take turns, which no agent is known to send, are told by their
/// block's index as they come.
pub(super) struct MessageEncoder {
    /// An estimate, until the agent says better.
    prompt_tokens: u64,
    /// True when only the estimate is asked for.
    counts: bool,
    /// True when the client wants to see the thinking.
    thinks: bool,
    stops: Vec<String>,
    exchange: Option<ExchangeId>,
    /// Number of blocks that have begun.
    begun: u64,
    /// The block of text or thinking that is open.
    open: Option<Open>,
    /// Bytes that a delta of that block starts with.
    head: Vec<u8>,
    calls: Vec<AnsweredCall>,
    /// The block of each call.
    blocks: Vec<Block>,
}

/// A kind of block that holds text.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Open {
    Text,
    Thinking,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Block {
    /// The call's name is not known yet.
    Waiting,
    Open(u64),
    Closed,
}

impl fmt::Debug for MessageEncoder {
    /// Text is never shown.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MessageEncoder({} blocks)", self.begun)
    }
}

impl MessageEncoder {
    pub(super) const fn new(prompt_tokens: u64, thinks: bool, stops: Vec<String>) -> Self {
        Self {
            prompt_tokens,
            counts: false,
            thinks,
            stops,
            exchange: None,
            begun: 0,
            open: None,
            head: Vec::new(),
            calls: Vec::new(),
            blocks: Vec::new(),
        }
    }

    /// For `count_tokens`.
    pub(super) const fn counted(tokens: u64) -> Self {
        let mut encoder = Self::new(tokens, false, Vec::new());
        encoder.counts = true;
        encoder
    }

    /// Text of a block of its kind, which begins if need be.
    #[inline]
    fn text(&mut self, kind: Open, text: &[u8], out: &mut Records<'_>) {
        if self.open != Some(kind) {
            self.begin_text(kind, out);
        }
        let record = out.begin(Some("content_block_delta"));
        record.reserve(self.head.len() + text.len() + 8);
        record.extend_from_slice(&self.head);
        record.extend_from_slice(text);
        record.extend_from_slice(b"\"}}");
        out.end();
    }

    fn begin_text(&mut self, kind: Open, out: &mut Records<'_>) {
        let index = self.next_block(out);
        let record = begin_block(index, out);
        record.extend_from_slice(match kind {
            Open::Text => &b"{\"type\":\"text\",\"text\":\"\"}}"[..],
            Open::Thinking => b"{\"type\":\"thinking\",\"thinking\":\"\",\"signature\":\"\"}}",
        });
        out.end();
        self.open = Some(kind);
        self.head.clear();
        write_delta_head(index, &mut self.head);
        self.head.extend_from_slice(match kind {
            Open::Text => b"{\"type\":\"text_delta\",\"text\":\"",
            Open::Thinking => b"{\"type\":\"thinking_delta\",\"thinking\":\"",
        });
    }

    /// Ends the blocks to which nothing can be added any more, and gives the index of a new one.
    fn next_block(&mut self, out: &mut Records<'_>) -> u64 {
        self.end_blocks(out, AnsweredCall::is_complete);
        let index = self.begun;
        self.begun += 1;
        index
    }

    fn end_blocks(&mut self, out: &mut Records<'_>, is_over: impl Fn(&AnsweredCall) -> bool) {
        if self.open.take().is_some() {
            end_block(self.begun.saturating_sub(1), out);
        }
        for (call, block) in self.calls.iter().zip(&mut self.blocks) {
            if let Block::Open(index) = *block
                && is_over(call)
            {
                end_block(index, out);
                *block = Block::Closed;
            }
        }
    }

    /// Begins the block of a call, and writes the arguments that are there already.
    fn begin_call(&mut self, at: usize, out: &mut Records<'_>) {
        let index = self.next_block(out);
        let (Some(call), Some(block)) = (self.calls.get(at), self.blocks.get_mut(at)) else {
            return;
        };
        *block = Block::Open(index);
        let record = begin_block(index, out);
        record.extend_from_slice(b"{\"type\":\"tool_use\",\"id\":\"");
        call.write_id(self.exchange, at, record);
        record.extend_from_slice(b"\",\"name\":\"");
        record.extend_from_slice(&call.name);
        record.extend_from_slice(b"\",\"input\":{}}}");
        out.end();
        write_input(index, &call.arguments, out);
    }
}

fn begin_block<'r>(index: u64, out: &'r mut Records<'_>) -> &'r mut Vec<u8> {
    let record = out.begin(Some("content_block_start"));
    record.extend_from_slice(b"{\"type\":\"content_block_start\",\"index\":");
    write_number(record, index);
    record.extend_from_slice(b",\"content_block\":");
    record
}

fn end_block(index: u64, out: &mut Records<'_>) {
    let record = out.begin(Some("content_block_stop"));
    record.extend_from_slice(b"{\"type\":\"content_block_stop\",\"index\":");
    write_number(record, index);
    record.push(b'}');
    out.end();
}

fn write_delta_head(index: u64, out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"type\":\"content_block_delta\",\"index\":");
    write_number(out, index);
    out.extend_from_slice(b",\"delta\":");
}

/// A piece of a call's arguments.
fn write_input(index: u64, json: &[u8], out: &mut Records<'_>) {
    if json.is_empty() {
        return;
    }
    let record = out.begin(Some("content_block_delta"));
    write_delta_head(index, record);
    record.extend_from_slice(b"{\"type\":\"input_json_delta\",\"partial_json\":\"");
    record.extend_from_slice(json);
    record.extend_from_slice(b"\"}}");
    out.end();
}

/// `{"id":…,"type":"message","role":"assistant","model":…,"content":[`
fn write_head(opening: &Opening<'_>, out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"id\":\"msg_");
    opening.id.write(out);
    out.extend_from_slice(b"\",\"type\":\"message\",\"role\":\"assistant\",\"model\":\"");
    text::escape_into(out, opening.model);
    out.extend_from_slice(b"\",\"content\":[");
}

fn write_usage(usage: Usage, out: &mut Vec<u8>) {
    out.extend_from_slice(b"\"usage\":{\"input_tokens\":");
    write_number(out, usage.prompt_tokens);
    out.extend_from_slice(
        b",\"cache_creation_input_tokens\":0,\"cache_read_input_tokens\":0,\"output_tokens\":",
    );
    write_number(out, usage.completion_tokens);
    close_usage(usage, out);
}

/// `"stop_reason":…,"stop_sequence":…`
fn write_stop(finish: Finish, stops: &[String], out: &mut Vec<u8>) {
    out.extend_from_slice(b"\"stop_reason\":\"");
    out.extend_from_slice(match finish {
        Finish::Stop => b"end_turn",
        Finish::StopSequence(_) => b"stop_sequence",
        Finish::Length => b"max_tokens",
        Finish::ToolCalls => b"tool_use",
        Finish::ContentFilter => b"refusal",
    });
    out.extend_from_slice(b"\",\"stop_sequence\":");
    match finish {
        Finish::StopSequence(which) if let Some(stop) = stops.get(usize::from(which)) => {
            out.push(b'"');
            text::escape_into(out, stop);
            out.push(b'"');
        }
        Finish::StopSequence(_)
        | Finish::Stop
        | Finish::Length
        | Finish::ToolCalls
        | Finish::ContentFilter => out.extend_from_slice(b"null"),
    }
}

impl Encoder for MessageEncoder {
    fn open(&mut self, opening: &Opening<'_>, out: &mut Records<'_>) {
        self.exchange = Some(opening.id);
        let record = out.begin(Some("message_start"));
        record.extend_from_slice(b"{\"type\":\"message_start\",\"message\":");
        write_head(opening, record);
        record.extend_from_slice(b"],\"stop_reason\":null,\"stop_sequence\":null,");
        let usage = Usage {
            prompt_tokens: self.prompt_tokens,
            ..Usage::default()
        };
        write_usage(usage, record);
        record.extend_from_slice(b"}}");
        out.end();
    }

    #[inline]
    fn content(&mut self, _now: Instant, text: &[u8], out: &mut Records<'_>) {
        self.text(Open::Text, text, out);
    }

    /// A client that did not ask for thinking may take the first block for the answer.
    fn reasoning(&mut self, _now: Instant, text: &[u8], out: &mut Records<'_>) {
        if self.thinks {
            self.text(Open::Thinking, text, out);
        }
    }

    /// The reason of a refusal is text; that it is one is said at the end.
    fn refusal(&mut self, _now: Instant, text: &[u8], out: &mut Records<'_>) {
        self.text(Open::Text, text, out);
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
        self.blocks.resize(self.calls.len(), Block::Waiting);
        let Some(call) = self.calls.get_mut(at) else {
            return;
        };
        call.take(id, name, arguments);
        match self.blocks.get(at) {
            Some(Block::Open(index)) => write_input(*index, arguments, out),
            Some(Block::Waiting) if !call.name.is_empty() => self.begin_call(at, out),
            _ => {}
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
        for at in 0..self.calls.len() {
            if self.blocks.get(at) == Some(&Block::Waiting) {
                self.begin_call(at, out);
            }
            if let (Some(call), Some(Block::Open(index))) =
                (self.calls.get(at), self.blocks.get(at))
                && !call.argued()
            {
                write_input(*index, b"{}", out);
            }
        }
        self.end_blocks(out, |_| true);
        let record = out.begin(Some("message_delta"));
        record.extend_from_slice(b"{\"type\":\"message_delta\",\"delta\":{");
        write_stop(
            finish_of(finish, !self.calls.is_empty()),
            &self.stops,
            record,
        );
        record.extend_from_slice(b"},");
        write_usage(usage, record);
        record.push(b'}');
        out.end();
        out.begin(Some("message_stop"))
            .extend_from_slice(b"{\"type\":\"message_stop\"}");
        out.end();
    }

    fn keep_alive(&mut self, _now: Instant, out: &mut Records<'_>) {
        out.begin(Some("ping"))
            .extend_from_slice(b"{\"type\":\"ping\"}");
        out.end();
    }

    fn failed(&mut self, _now: Instant, code: Code, message: &str, out: &mut Records<'_>) {
        let record = out.begin(Some("error"));
        write_error(
            Dialect::Anthropic,
            self.exchange,
            code,
            message,
            None,
            record,
        );
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
        if self.counts {
            out.extend_from_slice(b"{\"input_tokens\":");
            // A server's own count is better than the estimate.
            let tokens = match usage.prompt_tokens {
                0 => self.prompt_tokens,
                counted => counted,
            };
            write_number(out, tokens);
            out.push(b'}');
            return;
        }
        write_head(opening, out);
        let mut first = true;
        let mut next = |out: &mut Vec<u8>| {
            if !core::mem::take(&mut first) {
                out.push(b',');
            }
        };
        if self.thinks && !answer.reasoning.is_empty() {
            next(out);
            out.extend_from_slice(b"{\"type\":\"thinking\",\"thinking\":\"");
            out.extend_from_slice(&answer.reasoning);
            out.extend_from_slice(b"\",\"signature\":\"\"}");
        }
        if !answer.content.is_empty() || !answer.refusal.is_empty() {
            next(out);
            out.extend_from_slice(b"{\"type\":\"text\",\"text\":\"");
            out.extend_from_slice(&answer.content);
            out.extend_from_slice(&answer.refusal);
            out.extend_from_slice(b"\"}");
        }
        for (at, call) in answer.tool_calls.iter().enumerate() {
            next(out);
            out.extend_from_slice(b"{\"type\":\"tool_use\",\"id\":\"");
            call.write_id(Some(opening.id), at, out);
            out.extend_from_slice(b"\",\"name\":\"");
            out.extend_from_slice(&call.name);
            out.extend_from_slice(b"\",\"input\":");
            write_arguments(&call.arguments, out);
            out.push(b'}');
        }
        out.extend_from_slice(b"],");
        let finish = finish_of(finish, !answer.tool_calls.is_empty());
        write_stop(finish, &self.stops, out);
        out.push(b',');
        write_usage(usage, out);
        out.push(b'}');
    }

    fn held(&self) -> usize {
        AnsweredCall::held(&self.calls)
    }
}
