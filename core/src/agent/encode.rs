//! Messages that an agent writes (version 1 of the agent protocol).

use super::request::InvocationId;
use crate::agents::websocket::failure_name;
use crate::agents::writer::Writer;
use crate::invocation::{Delta, End, Failure, InvokeForm, ToolCallDelta, Usage};
use crate::link::Registration;
use crate::text::{JsonStr, JsonValue, escaped};
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;
use core::fmt;

/// A piece of an answer.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Piece<'a> {
    /// Text of the answer.
    Text(&'a str),
    /// Text that the model thinks aloud.
    Reasoning(&'a str),
    /// Text of a refusal.
    Refusal(&'a str),
    /// A call of one of the caller's tools, or its beginning.
    ToolCall {
        /// Number of the call within the answer, from 0.
        index: u32,
        /// Name of the call, which the tool's result comes back under.
        id: &'a str,
        /// The tool.
        name: &'a str,
        /// JSON text of the arguments, or its first piece.
        arguments: &'a str,
    },
    /// More of a tool call's arguments.
    Arguments {
        /// Number of the call.
        index: u32,
        /// The next piece of JSON text.
        arguments: &'a str,
    },
}

impl fmt::Debug for Piece<'_> {
    /// Without the text.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Text(_) => "Text",
            Self::Reasoning(_) => "Reasoning",
            Self::Refusal(_) => "Refusal",
            Self::ToolCall { .. } => "ToolCall",
            Self::Arguments { .. } => "Arguments",
        })
    }
}

/// Gives a piece to `with` as a delta.
pub(super) fn with_delta<R>(piece: &Piece<'_>, with: impl FnOnce(&Delta<'_>) -> R) -> R {
    let call = |index| ToolCallDelta {
        index,
        ..ToolCallDelta::default()
    };
    let texts = match *piece {
        Piece::Text(text) | Piece::Reasoning(text) | Piece::Refusal(text) => [text, "", ""],
        Piece::ToolCall {
            id,
            name,
            arguments,
            ..
        } => [id, name, arguments],
        Piece::Arguments { arguments, .. } => ["", "", arguments],
    };
    let texts = texts.map(escaped);
    let [first, name, arguments] = texts.each_ref().map(|text| JsonStr::from_escaped(text));
    let none = Delta::default();
    with(&match *piece {
        Piece::Text(_) => Delta {
            content: first,
            ..none
        },
        Piece::Reasoning(_) => Delta {
            reasoning: first,
            ..none
        },
        Piece::Refusal(_) => Delta {
            refusal: first,
            ..none
        },
        Piece::ToolCall { index, .. } => Delta {
            tool_calls: vec![ToolCallDelta {
                id: first,
                name,
                arguments,
                ..call(index)
            }],
            ..none
        },
        Piece::Arguments { index, .. } => Delta {
            tool_calls: vec![ToolCallDelta {
                arguments,
                ..call(index)
            }],
            ..none
        },
    })
}

/// Writes `register`.
pub(super) fn register(it: &Registration) -> String {
    let mut json = Writer::with_capacity(512);
    json.raw("{\"type\":\"register\",\"agent_id\":");
    json.plain(&it.agent_id);
    if let Some(label) = &it.label {
        json.key("label");
        json.plain(label);
    }
    json.key("requested_scopes");
    json.list(it.supports.scopes.names(), |json, name| json.plain(name));
    json.whole("ttl_seconds", it.ttl_seconds);
    json.key("models");
    json.list(&it.models, |json, name| json.plain(name));
    json.whole("max_concurrency", it.max_concurrency);
    json.whole("max_requests", it.max_requests);
    match it.form {
        None => {}
        Some(InvokeForm::Nested) => json.raw(",\"invocations\":\"nested\""),
        Some(InvokeForm::Flat) => json.raw(",\"invocations\":\"flat\""),
    }
    let can = &it.supports.capabilities;
    json.key("capabilities");
    json.raw("{");
    for (name, can) in [
        ("tools", can.tools),
        ("vision", can.vision),
        ("embeddings", can.embeddings),
        ("insert", can.insert),
        ("thinking", can.thinking),
    ] {
        json.switch(name, Some(can));
    }
    json.whole("context_length", can.context_length);
    json.raw("}}");
    json.finish()
}

/// Writes `unregister`.
pub(super) fn unregister(session: &str) -> String {
    let mut json = Writer::with_capacity(96);
    json.raw("{\"type\":\"unregister\",\"session_id\":");
    json.plain(session);
    json.raw("}");
    json.finish()
}

/// Writes `model_stream_chunk`.
pub(super) fn chunk(id: &InvocationId, index: u64, delta: &Delta<'_>, end: Option<End>) -> String {
    let mut json = Writer::with_capacity(160 + delta.content.len() + delta.reasoning.len());
    json.raw("{\"type\":\"model_stream_chunk\",\"id\":");
    json.verbatim(id.as_json());
    json.whole("chunk_index", Some(index));
    json.key("delta");
    json.raw("{");
    for (name, text) in [
        ("content", delta.content),
        ("reasoning_content", delta.reasoning),
        ("refusal", delta.refusal),
    ] {
        if !text.is_empty() {
            json.key(name);
            json.verbatim(text);
        }
    }
    if !delta.tool_calls.is_empty() {
        json.key("tool_calls");
        json.list(&delta.tool_calls, tool_call);
    }
    json.raw("},\"finish_reason\":");
    match end {
        None => json.raw("null"),
        Some(End { finish, usage }) => {
            json.plain(finish.as_str());
            write_usage(&mut json, usage);
        }
    }
    json.raw("}");
    json.finish()
}

fn tool_call(json: &mut Writer, call: &ToolCallDelta<'_>) {
    json.raw("{");
    json.whole("index", Some(call.index));
    if !call.id.is_empty() {
        json.key("id");
        json.verbatim(call.id);
        json.raw(",\"type\":\"function\"");
    }
    json.key("function");
    json.raw("{");
    if !call.name.is_empty() {
        json.key("name");
        json.verbatim(call.name);
    }
    json.key("arguments");
    json.verbatim(call.arguments);
    json.raw("}}");
}

fn write_usage(json: &mut Writer, usage: Option<Usage>) {
    if let Some(usage) = usage {
        json.key("usage");
        json.raw("{");
        json.whole("prompt_tokens", Some(usage.prompt_tokens));
        json.whole("completion_tokens", Some(usage.completion_tokens));
        json.whole("total_tokens", Some(usage.total_tokens()));
        json.raw("}");
    }
}

/// Writes a `model_result` with vectors. `None` when a number is not finite, which JSON cannot say.
pub(super) fn vectors(
    id: &InvocationId,
    vectors: &[Vec<f32>],
    usage: Option<Usage>,
) -> Option<String> {
    let numbers = || vectors.iter().flatten();
    if !numbers().all(|number| number.is_finite()) {
        return None;
    }
    let mut json = Writer::with_capacity(160 + 12 * numbers().count());
    json.raw("{\"type\":\"model_result\",\"id\":");
    json.verbatim(id.as_json());
    json.raw(",\"status\":\"ok\",\"result\":{\"embeddings\":");
    json.list(vectors, |json, vector| {
        json.list(vector, |json, number| json.raw(&alloc::format!("{number}")));
    });
    write_usage(&mut json, usage);
    json.raw("}}");
    Some(json.finish())
}

/// Writes `error` about an invocation.
pub(super) fn failure(id: &InvocationId, failure: &Failure<'_>) -> String {
    let mut json = Writer::with_capacity(160 + failure.message.len());
    json.raw("{\"type\":\"error\",\"id\":");
    json.verbatim(id.as_json());
    json.raw(",\"error\":{\"code\":");
    json.plain(failure_name(failure.code));
    json.key("message");
    json.plain(&failure.message);
    json.number(
        "retry_after",
        failure.retry_after.map(|wait| wait.as_secs_f64()),
    );
    json.raw("}}");
    json.finish()
}

/// Writes `pong`, with the timestamp that came.
pub(super) fn pong(timestamp: Option<JsonValue<'_>>) -> String {
    let mut json = Writer::with_capacity(96);
    json.raw("{\"type\":\"pong\",\"timestamp\":");
    json.json(timestamp.map_or("null", JsonValue::get));
    json.raw("}");
    json.finish()
}
