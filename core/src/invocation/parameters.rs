//! The parameters of a request, and sets of them.

use crate::text::{JsonStr, RawJson};
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

/// Sampling parameters and tools. Every absent one stays absent on the agent's wire.
#[derive(Clone, Default)]
#[allow(missing_docs)] // each is the OpenAI parameter of the same name, or Ollama's option
pub struct Parameters<'a> {
    pub max_tokens: Option<u64>,
    pub temperature: Option<f64>,
    pub top_p: Option<f64>,
    pub top_k: Option<u64>,
    pub min_p: Option<f64>,
    pub presence_penalty: Option<f64>,
    pub frequency_penalty: Option<f64>,
    pub repeat_penalty: Option<f64>,
    pub seed: Option<i64>,
    pub n: Option<u64>,
    pub num_ctx: Option<u64>,
    /// Decoded, because the provider itself applies them.
    pub stop: Vec<String>,
    pub user: Option<JsonStr<'a>>,
    pub metadata: Option<RawJson<'a>>,
    /// Tool definitions in OpenAI's form.
    pub tools: Vec<RawJson<'a>>,
    /// OpenAI's form.
    pub tool_choice: Option<RawJson<'a>>,
    pub parallel_tool_calls: Option<bool>,
    /// OpenAI's form.
    pub response_format: Option<ResponseFormat<'a>>,
    pub reasoning_effort: Option<JsonStr<'a>>,
    pub logprobs: Option<bool>,
    pub top_logprobs: Option<u64>,
    pub logit_bias: Option<RawJson<'a>>,
    /// Of embedding vectors.
    pub dimensions: Option<u64>,
}

/// A set of parameters: those that a request gives, those that an agent takes, those that an answer ignores.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct ParameterSet(u16);

/// In the order in which a client is told of those that are ignored.
const NAMES: [&str; 16] = [
    "max_tokens",
    "temperature",
    "top_p",
    "top_k",
    "min_p",
    "presence_penalty",
    "frequency_penalty",
    "repeat_penalty",
    "seed",
    "num_ctx",
    "logprobs",
    "top_logprobs",
    "logit_bias",
    "parallel_tool_calls",
    "tool_choice",
    "tools",
];

impl ParameterSet {
    /// None.
    pub const EMPTY: Self = Self(0);

    /// Every one.
    pub const ALL: Self = Self(u16::MAX);

    /// `max_tokens`, which the provider applies itself where the agent does not take it.
    pub const MAX_TOKENS: Self = Self(1);

    /// `tools`.
    pub const TOOLS: Self = Self(1 << (NAMES.len() - 1));

    /// Those of these names.
    #[must_use]
    pub fn of(names: &[&str]) -> Self {
        let named = (0..).zip(NAMES).filter(|(_, name)| names.contains(name));
        Self(named.fold(0, |set, (bit, _)| set | 1 << bit))
    }

    /// True when there is none in it.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// True when all of `others` are in it.
    #[must_use]
    pub const fn contains(self, others: Self) -> bool {
        others.without(self).is_empty()
    }

    /// Those that are not in `others`.
    #[must_use]
    pub const fn without(self, others: Self) -> Self {
        Self(self.0 & !others.0)
    }

    /// The names.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        (0..)
            .zip(NAMES)
            .filter(move |(bit, _)| self.0 & (1 << bit) != 0)
            .map(|(_, name)| name)
    }
}

impl Parameters<'_> {
    /// Those that the client gave, of the ones that not every agent takes. The default of a parameter that means nothing is not
    /// counted as given.
    #[must_use]
    pub fn given(&self) -> ParameterSet {
        let forced = self
            .tool_choice
            .as_ref()
            .is_some_and(|choice| !matches!(choice.get(), "\"auto\"" | "\"none\""));
        let given = [
            self.max_tokens.is_some(),
            self.temperature.is_some(),
            self.top_p.is_some(),
            self.top_k.is_some(),
            self.min_p.is_some(),
            self.presence_penalty.is_some(),
            self.frequency_penalty.is_some(),
            self.repeat_penalty.is_some(),
            self.seed.is_some(),
            self.num_ctx.is_some(),
            self.logprobs == Some(true),
            self.top_logprobs.is_some(),
            self.logit_bias.is_some(),
            self.parallel_tool_calls == Some(false),
            forced,
            !self.tools.is_empty(),
        ];
        ParameterSet(
            (0..)
                .zip(given)
                .map(|(bit, given)| u16::from(given) << bit)
                .fold(0, |set, bit| set | bit),
        )
    }
}

/// The form that the answer is to have.
#[derive(Clone)]
pub enum ResponseFormat<'a> {
    /// OpenAI's `response_format` object.
    OpenAi(RawJson<'a>),
    /// Any JSON (Ollama's `format: "json"`).
    Json,
    /// A JSON Schema (Ollama's `format: {…}`).
    Schema(RawJson<'a>),
}

impl fmt::Debug for Parameters<'_> {
    /// Stop sequences, schemas and tools may hold what a person wrote, so only their number is shown.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Parameters")
            .field("max_tokens", &self.max_tokens)
            .field("stop", &self.stop.len())
            .field("tools", &self.tools.len())
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for ResponseFormat<'_> {
    /// The schema is never shown.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::OpenAi(_) => "OpenAi",
            Self::Json => "Json",
            Self::Schema(_) => "Schema",
        })
    }
}
