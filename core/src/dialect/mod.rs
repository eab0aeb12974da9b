//! Client dialects: maps of a client's wire types to neutral ones and back.
//!
//! A dialect is stateless: it reads a request body into an [`Invocation`] that borrows from it, and gives the
//! [`Encoder`] that writes the answer in the form the request asked for. Which bytes come when is the exchange's matter.

pub mod answer;
pub mod anthropic;
pub(crate) mod body;
mod embedding;
mod fields;
pub mod ollama;
pub mod openai;
pub mod responses;
#[cfg(test)]
mod tests;

use crate::config::Limits;
use crate::error::{Code, Refusal};
use crate::id::ExchangeId;
use crate::invocation::{Finish, Invocation, Usage};
use crate::request::BodyForm;
use crate::rpc;
use crate::text::{self, JsonStr};
use crate::time::{Instant, WallClock};
use crate::wire::Records;
use alloc::borrow::Cow;
use alloc::boxed::Box;
use alloc::vec::Vec;
pub use answer::{Answer, AnsweredCall};
use core::fmt;
use core::time::Duration;

/// The API family that a client speaks.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Dialect {
    /// OpenAI's API (`/v1`), reference of 2026.
    OpenAi,
    /// Ollama's API (`/api`), as of version 0.13.
    Ollama,
    /// Anthropic's API (`/v1/messages`), version 2023-06-01.
    Anthropic,
    /// The Model Context Protocol over HTTP, whose errors are JSON-RPC 2.0. No model is asked in it.
    Mcp,
    /// The gateway's own REST: errors have the form of [`Dialect::OpenAi`], and the gateway's reasons as `code`.
    Rest,
    /// One tool of an MCP server as a route, as mcpo has it: `{"detail":{"message"}}`.
    Tool,
}

impl Dialect {
    /// HTTP status of a refusal. Anthropic's clients know 529, which no RFC has, as "overloaded".
    #[must_use]
    pub const fn status(self, code: Code) -> u16 {
        match (self, code) {
            (Self::Anthropic, Code::Overloaded | Code::Draining) => 529,
            _ => code.status(),
        }
    }
}

/// One kind of request: its dialect, and the function that reads its body.
#[derive(Clone, Copy, Debug)]
pub struct Form {
    /// The API family of the answer and of every error.
    pub dialect: Dialect,
    /// The body's form, where it says all by itself and other servers take it.
    pub body: Option<BodyForm>,
    /// Reads the body.
    pub read: ReadForm,
}

/// The function that reads the body of a [`Form`], within the owner's limits.
#[derive(Clone, Copy, Debug)]
pub enum ReadForm {
    /// A request that says all by itself.
    Whole(for<'b> fn(&'b str, &Limits) -> Result<Parsed<'b>, Refusal>),
    /// A request that may continue a conversation that is kept here.
    Continued {
        /// Finds the response that the request continues from.
        previous: for<'b> fn(&'b str, &Limits) -> Option<Cow<'b, str>>,
        /// Reads the request, and the conversation that it continues, if it does.
        read: ReadContinued,
    },
}

/// The reader of a body that may continue a conversation, which is a JSON list of items.
pub type ReadContinued =
    for<'b> fn(&'b str, Option<&'b [u8]>, &Limits) -> Result<Parsed<'b>, Refusal>;

impl Form {
    /// A request that says all by itself.
    const fn whole(
        dialect: Dialect,
        body: Option<BodyForm>,
        read: for<'b> fn(&'b str, &Limits) -> Result<Parsed<'b>, Refusal>,
    ) -> Self {
        Self {
            dialect,
            body,
            read: ReadForm::Whole(read),
        }
    }
}

/// A request that was understood.
pub struct Parsed<'a> {
    /// The request for the model, borrowed from the body.
    pub invocation: Invocation<'a>,
    /// Further prompts of a [`Task::Completion`](crate::invocation::Task), each to be asked alone once the one before is answered.
    pub more: Vec<JsonStr<'a>>,
    /// Writes the answer.
    pub encoder: Box<dyn Encoder + Send>,
    /// True when the answer goes out as it comes.
    pub stream: bool,
    /// The JSON of `messages` or `prompt` as the client sent it, empty when there was none; the audit keeps only its SHA-256.
    pub digest_of: &'a str,
    /// Ollama's load request, Anthropic's `count_tokens`: nothing is asked of the model, and whether `stream` or not the answer
    /// is [`Encoder::whole`] of an empty [`Answer`].
    pub load_only: bool,
}

impl Parsed<'_> {
    /// Takes what writes the answer, and drops the rest.
    pub(crate) fn into_encoder(self: Box<Self>) -> Box<dyn Encoder + Send> {
        self.encoder
    }
}

impl fmt::Debug for Parsed<'_> {
    /// Leaves the prompt out.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Parsed")
            .field("model", &self.invocation.model)
            .field("stream", &self.stream)
            .field("load_only", &self.load_only)
            .finish_non_exhaustive()
    }
}

/// Facts of an exchange that its answer repeats.
#[derive(Clone, Copy, Debug)]
pub struct Opening<'a> {
    /// Becomes part of the answer's id.
    pub id: ExchangeId,
    /// The model's name as the client asked for it.
    pub model: &'a str,
    /// The time when the request came.
    pub created: Instant,
    /// Tells the calendar's time.
    pub wall: &'a WallClock,
}

/// Times of an exchange's steps.
#[derive(Clone, Copy, Debug)]
pub struct Timing {
    /// The request came.
    pub started: Instant,
    /// The agent's first chunk came.
    pub first_chunk: Option<Instant>,
    /// The answer ended.
    pub now: Instant,
}

impl Timing {
    /// From the request to the first chunk; to the end when there was none.
    #[must_use]
    pub fn waiting(&self) -> Duration {
        self.first_chunk.unwrap_or(self.now).since(self.started)
    }

    /// From the first chunk to the end; zero when there was no chunk.
    #[must_use]
    pub fn answering(&self) -> Duration {
        self.first_chunk
            .map_or(Duration::ZERO, |first| self.now.since(first))
    }
}

/// Writes one answer in one form of one dialect.
///
/// A streamed answer is `open`, then any of `content`, `reasoning`, `refusal`, `tool_call` and `keep_alive`, then `end` or
/// `failed` once. A whole answer is one call of `whole`. All texts given as bytes are the insides of JSON strings, escaped
/// and mended (see [`text::Joiner`]).
pub trait Encoder {
    /// Begins the answer, before its first text. Called once, when the response head of a stream is sent.
    fn open(&mut self, opening: &Opening<'_>, out: &mut Records<'_>);

    /// Text of the answer.
    fn content(&mut self, now: Instant, text: &[u8], out: &mut Records<'_>);

    /// Text that the model thinks aloud.
    fn reasoning(&mut self, now: Instant, text: &[u8], out: &mut Records<'_>);

    /// Text of a refusal.
    fn refusal(&mut self, now: Instant, text: &[u8], out: &mut Records<'_>);

    /// A piece of a tool call. `index` is the agent's; the client sees 0, 1, 2 in the order of first pieces.
    fn tool_call(
        &mut self,
        now: Instant,
        index: u32,
        id: &[u8],
        name: &[u8],
        arguments: &[u8],
        out: &mut Records<'_>,
    );

    /// The end of an answer that succeeded. Nothing follows.
    fn end(
        &mut self,
        now: Instant,
        finish: Finish,
        usage: Usage,
        timing: &Timing,
        out: &mut Records<'_>,
    );

    /// A sign of life in a silent stream, which clients skip.
    fn keep_alive(&mut self, now: Instant, out: &mut Records<'_>);

    /// The end of an answer that failed. Nothing follows.
    fn failed(&mut self, now: Instant, code: Code, message: &str, out: &mut Records<'_>);

    /// A whole answer: the body of a response that is not streamed.
    fn whole(
        &mut self,
        opening: &Opening<'_>,
        answer: &Answer,
        finish: Finish,
        usage: Usage,
        timing: &Timing,
        out: &mut Vec<u8>,
    );

    /// The end of the answer to one of several prompts, of which the next is answered now: of a stream, or a whole `answer`.
    /// Only forms that take several have it.
    fn next(&mut self, finish: Finish, answer: Option<&Answer>, out: &mut Records<'_>) {
        let _ = (finish, answer, out);
    }

    /// Bytes held back for a later record, overhead included. The exchange holds them against `limits.answer_bytes`.
    fn held(&self) -> usize {
        0
    }

    /// Once the answer has ended well: the conversation up to and with it, as a JSON list of items of the Responses API, for
    /// requests that continue from it. Given once; `None` in the other dialects, and where the client wants none kept.
    fn conversation(&mut self) -> Option<Vec<u8>> {
        None
    }
}

impl fmt::Debug for dyn Encoder + Send {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Encoder")
    }
}

/// Appends the body of a response that refuses a request: OpenAI's `{"error":{"message","type","param","code"}}`, Ollama's
/// `{"error":"…"}`, Anthropic's `{"type":"error","error":{"type","message"},"request_id"}`, JSON-RPC's of the gateway, and the two of
/// its REST.
pub fn error_body(dialect: Dialect, request: ExchangeId, refusal: &Refusal, out: &mut Vec<u8>) {
    let listed = refusal.lists_models().then(|| {
        let list = match dialect {
            Dialect::OpenAi | Dialect::Anthropic | Dialect::Mcp | Dialect::Rest | Dialect::Tool => {
                "/v1/models"
            }
            Dialect::Ollama => "/api/tags",
        };
        alloc::format!("{}; GET {list} lists those that exist", refusal.message())
    });
    write_error(
        dialect,
        Some(request),
        refusal.code(),
        listed.as_deref().unwrap_or(refusal.message()),
        refusal.param(),
        out,
    );
}

/// Anthropic has no code for this: its clients look for these words, and then offer to compact the conversation.
const TOO_LONG: &str = "prompt is too long";

/// The error object of a dialect, in a body of its own or within a stream.
pub(crate) fn write_error(
    dialect: Dialect,
    request: Option<ExchangeId>,
    code: Code,
    message: &str,
    param: Option<&str>,
    out: &mut Vec<u8>,
) {
    match dialect {
        Dialect::Ollama => {
            out.extend_from_slice(b"{\"error\":\"");
            text::escape_into(out, message);
            out.extend_from_slice(b"\"}");
        }
        Dialect::OpenAi | Dialect::Rest => {
            let name = match dialect {
                Dialect::Rest => Some(code.gateway_reason()),
                Dialect::OpenAi
                | Dialect::Ollama
                | Dialect::Anthropic
                | Dialect::Mcp
                | Dialect::Tool => code.name(),
            };
            out.extend_from_slice(b"{\"error\":{\"message\":\"");
            text::escape_into(out, message);
            out.extend_from_slice(b"\",\"type\":\"");
            out.extend_from_slice(code.kind().as_bytes());
            out.extend_from_slice(b"\",\"param\":");
            write_nullable(param, out);
            out.extend_from_slice(b",\"code\":");
            write_nullable(name, out);
            out.extend_from_slice(b"}}");
        }
        Dialect::Tool => {
            out.extend_from_slice(b"{\"detail\":{\"message\":\"");
            text::escape_into(out, message);
            out.extend_from_slice(b"\"}}");
        }
        Dialect::Anthropic => {
            out.extend_from_slice(b"{\"type\":\"error\",\"error\":{\"type\":\"");
            out.extend_from_slice(code.anthropic_kind().as_bytes());
            out.extend_from_slice(b"\",\"message\":\"");
            if code == Code::ContextLength && !message.contains(TOO_LONG) {
                out.extend_from_slice(TOO_LONG.as_bytes());
                out.extend_from_slice(b": ");
            }
            text::escape_into(out, message);
            out.extend_from_slice(b"\"}");
            if let Some(request) = request {
                out.extend_from_slice(b",\"request_id\":\"");
                request.write(out);
                out.push(b'"');
            }
            out.push(b'}');
        }
        Dialect::Mcp => {
            out.extend_from_slice(b"{\"jsonrpc\":\"2.0\",\"id\":null,\"error\":{\"code\":");
            // Outside of the range that JSON-RPC reserves.
            let number = match code.status() {
                400 => rpc::INVALID_REQUEST,
                status => -31_000 - i64::from(status),
            };
            out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
            out.extend_from_slice(b",\"message\":\"");
            text::escape_into(out, message);
            out.extend_from_slice(b"\",\"data\":{\"reason\":\"");
            out.extend_from_slice(code.gateway_reason().as_bytes());
            out.extend_from_slice(b"\"}}}");
        }
    }
}

fn write_nullable(text: Option<&str>, out: &mut Vec<u8>) {
    match text {
        None => out.extend_from_slice(b"null"),
        Some(text) => {
            out.push(b'"');
            text::escape_into(out, text);
            out.push(b'"');
        }
    }
}

/// Ends an object with counts of tokens; an estimate is marked as one.
pub(crate) fn close_usage(usage: Usage, out: &mut Vec<u8>) {
    out.extend_from_slice(if usage.estimated {
        b",\"estimated\":true}"
    } else {
        b"}"
    });
}

/// Appends a decimal number.
pub(crate) fn write_number(out: &mut Vec<u8>, number: u64) {
    out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
}
