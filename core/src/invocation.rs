//! The neutral request and the neutral answer: what all client dialects and all agent links meet in.

mod parameters;

pub use parameters::{ParameterSet, Parameters, ResponseFormat};

use crate::error::Code;
use crate::text::{JsonStr, RawJson};
use alloc::borrow::Cow;
use alloc::vec::Vec;
use core::fmt;
use core::time::Duration;

/// A client's request to a model, borrowed from the request body.
#[derive(Clone, Debug)]
pub struct Invocation<'a> {
    /// The model as the client named it.
    pub model: Cow<'a, str>,
    /// The task.
    pub task: Task<'a>,
    /// True when the client wants the answer as it comes. An agent may answer either way.
    pub stream: bool,
    /// Parameters of the task. Those that the client did not give are absent.
    pub parameters: Parameters<'a>,
}

/// Kinds of answers, by what an agent must be able to do for them.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum Kind {
    /// A chat or the completion of a prompt. Every agent gives it.
    #[default]
    Text,
    /// The completion of a prompt that has a suffix.
    Insertion,
    /// Vectors.
    Embedding,
}

/// Abilities that an invocation asks of the agent that is to answer it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Needs {
    /// The kind of the answer: an agent that does not give it is not asked.
    pub kind: Kind,
    /// It brings images: an agent that reads them goes first.
    pub images: bool,
    /// It brings tools: an agent that calls them goes first.
    pub tools: bool,
}

impl Invocation<'_> {
    /// Returns what it asks of an agent.
    #[must_use]
    pub fn needs(&self) -> Needs {
        let (kind, images) = match &self.task {
            Task::Chat { messages } => {
                let images = messages.iter().any(|message| match &message.content {
                    Content::Parts(parts) => parts.iter().any(Part::is_image),
                    Content::None | Content::Text(_) => false,
                });
                (Kind::Text, images)
            }
            Task::Completion { suffix, .. } => match suffix {
                Some(_) => (Kind::Insertion, false),
                None => (Kind::Text, false),
            },
            Task::Embedding { .. } => (Kind::Embedding, false),
        };
        Needs {
            kind,
            images,
            tools: !self.parameters.tools.is_empty(),
        }
    }
}

impl Part<'_> {
    fn is_image(&self) -> bool {
        match self {
            Self::Text(_) => false,
            Self::Image { .. } => true,
            // As a client writes it; no base64 holds a quote.
            Self::Other(raw) => raw.get().contains("\"image_url\""),
        }
    }
}

/// The kinds of invocation (`payload.kind` on the agent's wire).
#[derive(Clone, Debug)]
pub enum Task<'a> {
    /// A conversation to continue.
    Chat {
        /// In order; at most `limits.messages`.
        messages: Vec<Message<'a>>,
    },
    /// A text to continue.
    Completion {
        /// Text before the gap.
        prompt: JsonStr<'a>,
        /// Text after the gap (fill in the middle).
        suffix: Option<JsonStr<'a>>,
    },
    /// Texts to turn into vectors.
    Embedding {
        /// One vector is wanted for each.
        input: Vec<JsonStr<'a>>,
    },
}

/// Speakers of messages.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Role {
    /// Instructions.
    System,
    /// Instructions, as newer OpenAI models name them.
    Developer,
    /// The person.
    User,
    /// The model.
    Assistant,
    /// A tool's result.
    Tool,
    /// A tool's result in the legacy form.
    Function,
}

impl Role {
    /// The name in all dialects.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::System => "system",
            Self::Developer => "developer",
            Self::User => "user",
            Self::Assistant => "assistant",
            Self::Tool => "tool",
            Self::Function => "function",
        }
    }
}

/// One message of a conversation.
#[derive(Clone, Debug)]
pub struct Message<'a> {
    /// The speaker.
    pub role: Role,
    /// The content.
    pub content: Content<'a>,
    /// Name of the speaker, or of the tool.
    pub name: Option<JsonStr<'a>>,
    /// The tools that the assistant called.
    pub tool_calls: Vec<ToolCall<'a>>,
    /// Id of the call that a tool's result answers.
    pub tool_call_id: Option<Cow<'a, str>>,
}

/// The content of a message.
#[derive(Clone, Debug)]
pub enum Content<'a> {
    /// Null or absent, as beside tool calls.
    None,
    /// A string.
    Text(JsonStr<'a>),
    /// A list of parts.
    Parts(Vec<Part<'a>>),
}

/// One part of a message's content.
#[derive(Clone)]
pub enum Part<'a> {
    /// Text.
    Text(JsonStr<'a>),
    /// An image as base64 without a URL round it (Ollama's form).
    Image {
        /// `image/png`, say, read from the first bytes.
        media_type: &'static str,
        /// The data.
        base64: JsonStr<'a>,
    },
    /// `image_url`, `input_audio`, `file`, … in OpenAI's form, passed on as it came where the client sent it so.
    Other(RawJson<'a>),
}

/// A call of a tool that the assistant made earlier in the conversation.
#[derive(Clone, Debug)]
pub struct ToolCall<'a> {
    /// Given by the client, or made here (`call_0`) where the dialect has none. Never needs escaping when made here.
    pub id: Cow<'a, str>,
    /// The tool.
    pub name: JsonStr<'a>,
    /// Its arguments.
    pub arguments: Arguments<'a>,
}

/// Arguments of a tool call in one of the two forms that dialects use.
#[derive(Clone)]
pub enum Arguments<'a> {
    /// JSON inside a JSON string (OpenAI).
    Text(JsonStr<'a>),
    /// A JSON object (Ollama, Anthropic).
    Object(RawJson<'a>),
}

impl fmt::Debug for Part<'_> {
    /// Content is never shown: it is the prompt.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => write!(f, "Text({text:?})"),
            Self::Image { media_type, base64 } => write!(f, "Image({media_type}, {base64:?})"),
            Self::Other(raw) => write!(f, "Other({} bytes)", raw.get().len()),
        }
    }
}

impl fmt::Debug for Arguments<'_> {
    /// Content is never shown: it is part of the prompt.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => write!(f, "Text({text:?})"),
            Self::Object(raw) => write!(f, "Object({} bytes)", raw.get().len()),
        }
    }
}

impl<'a> Invocation<'a> {
    /// The same for another prompt, where a text is to be continued.
    pub fn set_prompt(&mut self, another: JsonStr<'a>) {
        match &mut self.task {
            Task::Completion { prompt, .. } => *prompt = another,
            Task::Chat { .. } | Task::Embedding { .. } => {}
        }
    }

    /// An estimate of the prompt in tokens: four bytes of text each, as the limiter counts.
    #[must_use]
    pub fn estimated_prompt_tokens(&self) -> u64 {
        let bytes: usize = match &self.task {
            Task::Chat { messages } => messages.iter().map(Message::text_len).sum(),
            Task::Completion { prompt, suffix } => prompt.len() + suffix.map_or(0, JsonStr::len),
            Task::Embedding { input } => input.iter().map(|text| text.len()).sum(),
        };
        let tools: usize = self
            .parameters
            .tools
            .iter()
            .map(|tool| tool.get().len())
            .sum();
        estimate_tokens(bytes + tools)
    }
}

/// Four bytes of text to a token, rounded up.
#[must_use]
pub fn estimate_tokens(bytes: usize) -> u64 {
    u64::try_from(bytes.div_ceil(4)).unwrap_or(u64::MAX)
}

impl Message<'_> {
    /// Bytes of text, images left out.
    #[must_use]
    pub fn text_len(&self) -> usize {
        let content = match &self.content {
            Content::None => 0,
            Content::Text(text) => text.len(),
            Content::Parts(parts) => parts
                .iter()
                .map(|part| {
                    if let Part::Text(text) = part {
                        text.len()
                    } else {
                        0
                    }
                })
                .sum(),
        };
        let calls: usize = self
            .tool_calls
            .iter()
            .map(|call| {
                call.name.len()
                    + match &call.arguments {
                        Arguments::Text(text) => text.len(),
                        Arguments::Object(raw) => raw.get().len(),
                    }
            })
            .sum();
        content + calls
    }
}

/// Forms of `model_invoke`: what an agent is asked in.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum InvokeForm {
    /// The task and its parameters in `payload`.
    #[default]
    Nested,
    /// The task and each parameter at the top level.
    Flat,
}

/// One step of a model's answer, borrowed from the agent's frame or from a mailbox.
#[derive(Clone, PartialEq, Debug)]
pub enum Delivery<'a> {
    /// More of the answer.
    Delta(Delta<'a>),
    /// One vector of an embedding answer: a JSON array of numbers as the agent wrote it.
    Embedding(&'a str),
    /// The answer is complete. Nothing follows.
    End(End),
    /// The answer failed. Nothing follows.
    Failed(Failure<'a>),
}

/// More of an answer; the fields that a chunk carries.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Delta<'a> {
    /// Text of the answer.
    pub content: JsonStr<'a>,
    /// Text that the model thinks aloud.
    pub reasoning: JsonStr<'a>,
    /// Text of a refusal.
    pub refusal: JsonStr<'a>,
    /// Pieces of tool calls.
    pub tool_calls: Vec<ToolCallDelta<'a>>,
}

impl Delta<'_> {
    /// True when there is nothing in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.content.is_empty()
            && self.reasoning.is_empty()
            && self.refusal.is_empty()
            && self.tool_calls.is_empty()
    }
}

/// A piece of a tool call (OpenAI's streaming form).
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct ToolCallDelta<'a> {
    /// Number of the call within this answer, from 0.
    pub index: u32,
    /// In the first piece.
    pub id: JsonStr<'a>,
    /// In the first piece.
    pub name: JsonStr<'a>,
    /// JSON text in pieces.
    pub arguments: JsonStr<'a>,
}

/// The end of a complete answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct End {
    /// Reason for the end.
    pub finish: Finish,
    /// Tokens that it used, when the agent said so.
    pub usage: Option<Usage>,
}

/// OpenAI's `finish_reason`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Finish {
    /// The model was done.
    Stop,
    /// The provider met the stop sequence at this place of `parameters.stop`. No agent says this.
    StopSequence(u8),
    /// `max_tokens` was reached.
    Length,
    /// Tools are to be called.
    ToolCalls,
    /// The model refused or was cut by a filter.
    ContentFilter,
}

impl Finish {
    /// OpenAI's name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Stop | Self::StopSequence(_) => "stop",
            Self::Length => "length",
            Self::ToolCalls => "tool_calls",
            Self::ContentFilter => "content_filter",
        }
    }
}

/// Tokens of an exchange.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Usage {
    /// Read by the model.
    pub prompt_tokens: u64,
    /// Written by the model.
    pub completion_tokens: u64,
    /// The counts are an estimate of this program, because the agent did not tell its own.
    pub estimated: bool,
}

impl Usage {
    /// Both together.
    #[must_use]
    pub const fn total_tokens(self) -> u64 {
        self.prompt_tokens.saturating_add(self.completion_tokens)
    }
}

/// An answer that failed on the agent's side or between it and us.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Failure<'a> {
    /// Kind of the error.
    pub code: Code,
    /// For the person.
    pub message: Cow<'a, str>,
    /// Wait after which a repetition may succeed, when the agent gives one.
    pub retry_after: Option<Duration>,
}

/// Reasons for which an exchange was cancelled (`model_cancel.reason`).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum CancelReason {
    /// The client closed its connection.
    ClientDisconnected,
    /// A deadline passed.
    Timeout,
    /// The client did not read and its budget is used up.
    BudgetOverrun,
    /// The session was revoked, suspended, expired or unregistered.
    SessionEnded,
    /// A stop sequence was met.
    StopSequence,
    /// `max_tokens` is used up. Only an agent that does not take that parameter is cancelled for it; none on a WebSocket is.
    MaxTokens,
    /// A chunk was missing for too long.
    StreamGap,
    /// The answer broke the protocol.
    Protocol,
    /// The program is shutting down.
    Shutdown,
}

impl CancelReason {
    /// The name on the agent's wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ClientDisconnected => "client_disconnected",
            Self::Timeout => "timeout",
            Self::BudgetOverrun => "budget_overrun",
            Self::SessionEnded => "session_ended",
            Self::StopSequence => "stop_sequence",
            Self::MaxTokens => "max_tokens",
            Self::StreamGap => "stream_gap",
            Self::Protocol => "protocol",
            Self::Shutdown => "shutdown",
        }
    }
}
