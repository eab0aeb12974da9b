//! A whole answer: the fold of a stream.

use crate::dialect::write_number;
use crate::id::ExchangeId;
use crate::invocation::Finish;
use crate::text::{Joiner, JsonStr};
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use serde::de::IgnoredAny;
use serde_json::value::RawValue;

/// An answer that was collected. All texts are the insides of JSON strings, escaped and mended.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Answer {
    /// The text.
    pub content: Vec<u8>,
    /// Text that the model thought aloud.
    pub reasoning: Vec<u8>,
    /// Text of the model's refusal.
    pub refusal: Vec<u8>,
    /// In the order of their first pieces.
    pub tool_calls: Vec<AnsweredCall>,
    /// The vectors of an embedding answer, each a JSON array of numbers.
    pub embeddings: Vec<Vec<u8>>,
}

impl Answer {
    /// Adds a piece of a tool call in OpenAI's streaming form.
    pub fn tool_call(&mut self, index: u32, id: &[u8], name: &[u8], arguments: &[u8]) {
        let at = AnsweredCall::find(&mut self.tool_calls, index, id, name);
        if let Some(call) = self.tool_calls.get_mut(at) {
            call.take(id, name, arguments);
        }
    }

    /// Bytes that the answer takes, overhead included.
    #[must_use]
    pub fn held(&self) -> usize {
        let vectors: usize = self.embeddings.iter().map(Vec::len).sum();
        self.content.len()
            + self.reasoning.len()
            + self.refusal.len()
            + vectors
            + AnsweredCall::held(&self.tool_calls)
    }
}

impl fmt::Debug for Answer {
    /// Text is never shown.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Answer({} bytes)", self.held())
    }
}

/// A tool that the model called.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct AnsweredCall {
    /// As the agent named the call; empty when it did not.
    pub id: Vec<u8>,
    /// The tool.
    pub name: Vec<u8>,
    /// JSON text inside a JSON string.
    pub arguments: Vec<u8>,
    /// The agent's index.
    index: u32,
    /// True when any piece had arguments.
    argued: bool,
}

impl AnsweredCall {
    /// Least charge of one call, in bytes, which bounds how many an answer can have.
    const OVERHEAD: usize = 4096;

    /// Returns the place in `calls` of the call that a piece belongs to, after adding the call if it is new.
    ///
    /// Some agents give every call the index 0: a piece with an id of its own, or one that names a tool again after
    /// arguments, is a new call.
    pub(crate) fn find(calls: &mut Vec<Self>, index: u32, id: &[u8], name: &[u8]) -> usize {
        let known = calls.iter().rposition(|call| call.index == index);
        if let Some(at) = known
            && let Some(call) = calls.get(at)
        {
            let other_id = !id.is_empty() && !call.id.is_empty() && id != call.id;
            let named_again =
                id.is_empty() && call.id.is_empty() && !call.name.is_empty() && call.argued;
            if name.is_empty() || !(other_id || named_again) {
                return at;
            }
        }
        calls.push(Self {
            index,
            ..Self::default()
        });
        calls.len() - 1
    }

    /// Adds a piece. The first id and the first name count.
    pub(crate) fn take(&mut self, id: &[u8], name: &[u8], arguments: &[u8]) {
        // An id that comes after the name is too late for a stream, so it is for a whole answer.
        if self.id.is_empty() && self.name.is_empty() {
            self.id.extend_from_slice(id);
        }
        if self.name.is_empty() {
            self.name.extend_from_slice(name);
        }
        self.argued |= !arguments.is_empty();
        self.arguments.extend_from_slice(arguments);
    }

    /// True when any piece had arguments.
    pub(crate) const fn argued(&self) -> bool {
        self.argued
    }

    /// Notes that a piece had arguments, which were passed on and are not kept.
    pub(crate) const fn mark_argued(&mut self) {
        self.argued = true;
    }

    /// The arguments; `{}` instead of none, which clients cannot parse.
    pub(crate) fn arguments_or_empty(&self) -> &[u8] {
        if self.arguments.is_empty() {
            b"{}"
        } else {
            &self.arguments
        }
    }

    /// True when the arguments are a whole JSON object, so that no further piece can belong to them.
    pub(crate) fn is_complete(&self) -> bool {
        let text = core::str::from_utf8(&self.arguments).unwrap_or_default();
        let decoded = JsonStr::from_escaped(text).decode();
        decoded.trim_start().starts_with('{')
            && serde_json::from_str::<IgnoredAny>(&decoded).is_ok()
    }

    /// Bytes that `calls` take, overhead included.
    pub(crate) fn held(calls: &[Self]) -> usize {
        calls
            .iter()
            .map(|call| {
                Self::OVERHEAD
                    .saturating_add(call.id.len())
                    .saturating_add(call.name.len())
                    .saturating_add(call.arguments.len())
            })
            .sum()
    }

    /// Appends the call's id; one made of the exchange's when the agent gave none.
    pub(crate) fn write_id(&self, exchange: Option<ExchangeId>, at: usize, out: &mut Vec<u8>) {
        if self.id.is_empty() {
            out.extend_from_slice(b"call_");
            if let Some(exchange) = exchange {
                exchange.write(out);
                out.push(b'_');
            }
            write_number(out, u64::try_from(at).unwrap_or(u64::MAX));
        } else {
            out.extend_from_slice(&self.id);
        }
    }
}

impl fmt::Debug for AnsweredCall {
    /// Text is never shown.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AnsweredCall({} bytes)", self.arguments.len())
    }
}

/// Returns the finish as clients must hear it: `tool_calls` exactly when the answer has calls.
pub(crate) const fn finish_of(finish: Finish, called: bool) -> Finish {
    match finish {
        Finish::Stop | Finish::StopSequence(_) if called => Finish::ToolCalls,
        Finish::ToolCalls if !called => Finish::Stop,
        Finish::Stop
        | Finish::StopSequence(_)
        | Finish::ToolCalls
        | Finish::Length
        | Finish::ContentFilter => finish,
    }
}

/// Writes arguments, which come as JSON text inside a JSON string, as the object that they are; text that is no object becomes
/// the object's `input`.
pub(crate) fn write_arguments(escaped: &[u8], out: &mut Vec<u8>) {
    let text = core::str::from_utf8(escaped).unwrap_or_default();
    let decoded = JsonStr::from_escaped(text).decode();
    if decoded.trim().is_empty() {
        out.extend_from_slice(b"{}");
    } else if let Ok(raw) = serde_json::from_str::<&RawValue>(&decoded)
        && raw.get().starts_with('{')
    {
        write_compact(raw.get(), out);
    } else {
        out.extend_from_slice(b"{\"input\":\"");
        out.extend_from_slice(text.as_bytes());
        out.extend_from_slice(b"\"}");
    }
}

/// Writes JSON without the blanks between its tokens, since a line must not break, and its strings mended.
pub(crate) fn write_compact(json: &str, out: &mut Vec<u8>) {
    let mut compact = String::with_capacity(json.len());
    let (mut inside, mut escape) = (false, false);
    compact.extend(json.chars().filter(|c| {
        if inside {
            inside = escape || *c != '"';
            escape = !escape && *c == '\\';
            true
        } else {
            inside = *c == '"';
            !matches!(c, ' ' | '\t' | '\r' | '\n')
        }
    }));
    let mut scratch = Vec::new();
    out.extend_from_slice(Joiner::default().mend(JsonStr::from_escaped(&compact), &mut scratch));
}
