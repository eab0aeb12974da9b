//! The parts of a response as JSON, and the frame of its events.

use crate::dialect::{AnsweredCall, Opening, close_usage, write_number};
use crate::id::ExchangeId;
use crate::invocation::Usage;
use crate::text;
use crate::wire::Records;
use alloc::vec::Vec;

/// One element of a response's `output`, and how far it is.
pub(super) struct Output {
    pub(super) item: Item,
    pub(super) status: &'static str,
}

/// One item of the model's output.
pub(super) enum Item {
    /// Text that the model thought aloud.
    Reasoning(Vec<u8>),
    /// A message of the model, in parts.
    Message(Vec<Said>),
    /// The call at this place among the calls.
    Call(usize),
}

/// One part of a message.
pub(super) struct Said {
    pub(super) kind: Kind,
    pub(super) text: Vec<u8>,
}

/// The kinds of parts.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Text,
    Refusal,
}

impl Kind {
    /// The part's `type`, and the field that holds its text.
    const fn names(self) -> (&'static str, &'static str) {
        match self {
            Self::Text => ("output_text", "text"),
            Self::Refusal => ("refusal", "refusal"),
        }
    }

    /// The event that brings more of it.
    pub(super) const fn delta(self) -> &'static str {
        match self {
            Self::Text => "response.output_text.delta",
            Self::Refusal => "response.refusal.delta",
        }
    }

    /// The event that repeats all of it.
    pub(super) const fn done(self) -> &'static str {
        match self {
            Self::Text => "response.output_text.done",
            Self::Refusal => "response.refusal.done",
        }
    }

    /// Bytes behind the text of either event.
    pub(super) const fn extra(self) -> &'static [u8] {
        match self {
            Self::Text => b",\"logprobs\":[]",
            Self::Refusal => b"",
        }
    }

    /// The field that holds the text.
    pub(super) const fn field(self) -> &'static str {
        self.names().1
    }
}

impl Item {
    /// Start of the ids of its kind.
    const fn prefix(&self) -> &'static [u8] {
        match self {
            Self::Reasoning(_) => b"rs_",
            Self::Message(_) => b"msg_",
            Self::Call(_) => b"fc_",
        }
    }

    /// Appends the id of the item at `index`.
    pub(super) fn write_id(&self, exchange: Option<ExchangeId>, index: usize, out: &mut Vec<u8>) {
        out.extend_from_slice(self.prefix());
        if let Some(exchange) = exchange {
            exchange.write(out);
            out.push(b'_');
        }
        write_index(index, out);
    }

    /// Appends the item as JSON.
    pub(super) fn write(
        &self,
        exchange: Option<ExchangeId>,
        index: usize,
        status: &str,
        calls: &[AnsweredCall],
        out: &mut Vec<u8>,
    ) {
        out.extend_from_slice(b"{\"id\":\"");
        self.write_id(exchange, index, out);
        match self {
            // It has no status in the reference.
            Self::Reasoning(text) => {
                out.extend_from_slice(b"\",\"type\":\"reasoning\",\"summary\":[");
                if !text.is_empty() {
                    write_summary(text, out);
                }
                out.push(b']');
            }
            Self::Message(parts) => {
                out.extend_from_slice(b"\",\"type\":\"message\",\"status\":\"");
                out.extend_from_slice(status.as_bytes());
                out.extend_from_slice(b"\",\"role\":\"assistant\",\"content\":[");
                for (at, part) in parts.iter().enumerate() {
                    if at > 0 {
                        out.push(b',');
                    }
                    part.write(out);
                }
                out.push(b']');
            }
            Self::Call(at) => {
                out.extend_from_slice(b"\",\"type\":\"function_call\",\"status\":\"");
                out.extend_from_slice(status.as_bytes());
                out.extend_from_slice(b"\",\"call_id\":\"");
                if let Some(call) = calls.get(*at) {
                    call.write_id(exchange, *at, out);
                    out.extend_from_slice(b"\",\"name\":\"");
                    out.extend_from_slice(&call.name);
                    out.extend_from_slice(b"\",\"arguments\":\"");
                    // It begins without; what ends has some.
                    out.extend_from_slice(match status {
                        IN_PROGRESS => b"",
                        _ => call.arguments_or_empty(),
                    });
                }
                out.push(b'"');
            }
        }
        out.push(b'}');
    }
}

impl Said {
    pub(super) const fn new(kind: Kind) -> Self {
        Self {
            kind,
            text: Vec::new(),
        }
    }

    pub(super) fn write(&self, out: &mut Vec<u8>) {
        let (kind, field) = self.kind.names();
        out.extend_from_slice(b"{\"type\":\"");
        out.extend_from_slice(kind.as_bytes());
        out.extend_from_slice(b"\",\"");
        out.extend_from_slice(field.as_bytes());
        out.extend_from_slice(b"\":\"");
        out.extend_from_slice(&self.text);
        out.push(b'"');
        if self.kind == Kind::Text {
            out.extend_from_slice(b",\"annotations\":[],\"logprobs\":[]");
        }
        out.push(b'}');
    }
}

/// The status of what has begun.
pub(super) const IN_PROGRESS: &str = "in_progress";
/// The status of what is all there.
pub(super) const COMPLETED: &str = "completed";
/// The status of what was cut.
pub(super) const INCOMPLETE: &str = "incomplete";

/// A part of a reasoning item's summary.
pub(super) fn write_summary(text: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"type\":\"summary_text\",\"text\":\"");
    out.extend_from_slice(text);
    out.extend_from_slice(b"\"}");
}

pub(super) fn write_index(index: usize, out: &mut Vec<u8>) {
    write_number(out, u64::try_from(index).unwrap_or(u64::MAX));
}

/// `"id":…,"object":"response","created_at":…,"model":…,`
pub(super) fn write_head(opening: &Opening<'_>, out: &mut Vec<u8>) {
    out.extend_from_slice(b"\"id\":\"resp_");
    opening.id.write(out);
    out.extend_from_slice(b"\",\"object\":\"response\",\"created_at\":");
    write_number(out, opening.wall.unix(opening.created).as_secs());
    out.extend_from_slice(b",\"model\":\"");
    text::escape_into(out, opening.model);
    out.extend_from_slice(b"\",");
}

pub(super) fn write_usage(usage: Option<Usage>, out: &mut Vec<u8>) {
    let Some(usage) = usage else {
        out.extend_from_slice(b"\"usage\":null");
        return;
    };
    out.extend_from_slice(b"\"usage\":{\"input_tokens\":");
    write_number(out, usage.prompt_tokens);
    out.extend_from_slice(
        b",\"input_tokens_details\":{\"cached_tokens\":0,\"cache_write_tokens\":0},\"output_tokens\":",
    );
    write_number(out, usage.completion_tokens);
    out.extend_from_slice(b",\"output_tokens_details\":{\"reasoning_tokens\":0},\"total_tokens\":");
    write_number(out, usage.total_tokens());
    close_usage(usage, out);
}

/// Counts the events of a stream and writes what each begins with.
#[derive(Default)]
pub(super) struct Sequence(u64);

impl Sequence {
    /// `{"type":…,"sequence_number":…,`, to be closed by the caller with `}` and [`Records::end`].
    #[inline]
    pub(super) fn begin<'r>(
        &mut self,
        name: &'static str,
        out: &'r mut Records<'_>,
    ) -> &'r mut Vec<u8> {
        let record = out.begin(Some(name));
        record.extend_from_slice(b"{\"type\":\"");
        record.extend_from_slice(name.as_bytes());
        record.extend_from_slice(b"\",\"sequence_number\":");
        write_number(record, self.0);
        record.push(b',');
        self.0 += 1;
        record
    }
}
