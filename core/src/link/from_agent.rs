//! Messages of an agent to its link, whatever it speaks.

use crate::id::ExchangeId;
use crate::invocation::InvokeForm;
use crate::invocation::{Delta, End, Failure};
use crate::supports::Supports;
use crate::text::JsonStr;
use alloc::borrow::Cow;
use alloc::string::String;
use alloc::vec::Vec;
use serde_json::value::RawValue;

/// One message of an agent, borrowed from what it wrote. The names are those of the agent protocol.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum FromAgent<'f> {
    /// `model_stream_chunk`.
    Chunk(Chunk<'f>),
    /// `model_result`.
    Result(Answer<'f>),
    /// `error`.
    Error {
        /// Absent when the agent speaks of no exchange.
        id: Option<Id<'f>>,
        /// The agent's error.
        failure: Failure<'f>,
    },
    /// `register`.
    Register(Registration),
    /// `unregister`.
    Unregister {
        /// The session as the agent wrote it.
        session: Cow<'f, str>,
    },
    /// `ping` of the application level.
    Ping {
        /// Any JSON value; sent back when it is short.
        timestamp: Option<&'f RawValue>,
    },
    /// `pong` of the application level.
    Pong,
    /// A type that this version does not know.
    Unknown {
        /// Value of `type`.
        kind: Cow<'f, str>,
        /// Value of `id`.
        id: Option<Id<'f>>,
    },
}

/// The `id` of a message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Id<'f> {
    /// In the form of an [`ExchangeId`].
    Ours(ExchangeId),
    /// In any other form, so never issued here.
    Foreign(JsonStr<'f>),
}

impl<'f> Id<'f> {
    /// Reads the form that this program writes; anything else is foreign.
    #[must_use]
    #[inline]
    pub fn read(text: JsonStr<'f>) -> Self {
        ExchangeId::parse(text.as_escaped().as_bytes())
            // Escapes in an id are legal and not usual.
            .or_else(|| ExchangeId::parse(text.decode().as_bytes()))
            .map_or(Self::Foreign(text), Self::Ours)
    }
}

/// A piece of a streamed answer.
#[derive(Clone, PartialEq, Debug)]
pub struct Chunk<'f> {
    /// Id of the exchange that it answers.
    pub id: Id<'f>,
    /// Its place in the stream. Absent in the second dialect, where the order of arrival counts.
    pub index: Option<u64>,
    /// The text and calls that it adds.
    pub delta: Delta<'f>,
    /// Set in the last one.
    pub ending: Option<Ending<'f>>,
}

/// A whole answer.
#[derive(Clone, PartialEq, Debug)]
pub struct Answer<'f> {
    /// Id of the exchange that it answers.
    pub id: Id<'f>,
    /// The message of the first choice.
    pub delta: Delta<'f>,
    /// Embedding vectors: JSON arrays of numbers without white space.
    pub vectors: Vec<Cow<'f, str>>,
    /// Its end.
    pub ending: Ending<'f>,
}

/// The end of an answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Ending<'f> {
    /// It is complete.
    End(End),
    /// It failed on the agent's side.
    Failed(Failure<'f>),
}

/// Models that one session may answer for.
pub const MAX_MODELS: usize = 256;

/// An agent's statements about itself in its request for a session. Types are checked, values are not.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Registration {
    /// The agent's own name for itself.
    pub agent_id: String,
    /// For people.
    pub label: Option<String>,
    /// Wanted time to live in seconds.
    pub ttl_seconds: Option<u64>,
    /// Names under which it answers.
    pub models: Vec<String>,
    /// Exchanges that it takes at once.
    pub max_concurrency: Option<u64>,
    /// Requests that it answers in the session's life.
    pub max_requests: Option<u64>,
    /// The form in which it wants to be asked; the link's own where absent.
    pub form: Option<InvokeForm>,
    /// The requests that it may be given.
    pub supports: Supports,
}
