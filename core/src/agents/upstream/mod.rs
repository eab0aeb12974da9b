//! Servers of models that this program asks as a client: what it says to them, and how it reads their answers.
//!
//! A [`Call`] is one HTTP request: [`call`] writes it in the API of the server. A [`Reading`] takes the response as it comes
//! and gives each step of the answer as a [`Delivery`](crate::invocation::Delivery). What failed before the first step is a
//! [`Trouble`], after which another server may be asked. Nothing here knows an address or a connection.

mod anthropic_answer;
mod anthropic_request;
mod count;
pub(super) mod media;
mod models;
mod native;
mod ollama_answer;
mod ollama_request;
mod openai_answer;
mod openai_request;
mod reading;
#[cfg(test)]
mod tests;
mod trouble;

pub use count::{count_tokens, counted, counts_tokens, is_told};
pub use models::ModelList;
pub use reading::{Reading, ResponseHead};
pub use trouble::{Fault, Trouble};

use crate::error::Refusal;
use crate::invocation::{Content, Kind, Message, ParameterSet, Role, Task};
use crate::request::{PromptIndex, Request};
use crate::scope::Scope;
use crate::supports::{Capabilities, KindSet, Supports};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

/// APIs that a server is asked in.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Api {
    /// OpenAI's, as OpenAI has it.
    OpenAi,
    /// OpenAI's, as other servers have it: the token limit has its older name `max_tokens`.
    Custom,
    /// Anthropic's Messages, version 2023-06-01.
    Anthropic,
    /// Ollama's.
    Ollama,
}

impl Api {
    /// The name in the configuration.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::OpenAi => "openai",
            Self::Custom => "custom",
            Self::Anthropic => "anthropic",
            Self::Ollama => "ollama",
        }
    }

    /// The header that names the version of the API, where it has one.
    #[must_use]
    pub fn version_header(self) -> Option<(&'static str, String)> {
        match self {
            Self::Anthropic => Some(("anthropic-version", String::from(VERSION))),
            Self::OpenAi | Self::Custom | Self::Ollama => None,
        }
    }

    /// The path that lists the models, behind the base address.
    #[must_use]
    pub const fn models_path(self) -> &'static str {
        match self {
            Self::OpenAi | Self::Custom => "/models",
            Self::Anthropic => "/v1/models?limit=1000",
            Self::Ollama => "/api/tags",
        }
    }
}

/// One HTTP `POST` to a server.
#[derive(Clone, PartialEq, Eq)]
pub struct Call {
    /// Path behind the base address. The base of OpenAI's API ends with `/v1`, that of the others has no path.
    pub path: &'static str,
    /// All headers but the address, the key, and those of the connection.
    pub headers: Vec<(&'static str, String)>,
    /// JSON.
    pub body: Vec<u8>,
    /// Parameters that the client gave and the server's API cannot say, or whose result cannot be told to the client.
    pub ignored: ParameterSet,
}

/// The version of Anthropic's API that this program speaks.
const VERSION: &str = "2023-06-01";

/// Headers of a client's request that go on to a server of the same API.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct ClientHeaders<'h> {
    /// `anthropic-version`.
    pub anthropic_version: Option<&'h str>,
    /// `anthropic-beta`.
    pub anthropic_beta: Option<&'h str>,
    /// `OpenAI-Beta`.
    pub openai_beta: Option<&'h str>,
}

/// Writes what is said to a server to have one prompt of a request answered. `model` is the server's own name of the model.
///
/// # Errors
/// 400 that names the field which the server's API has no form for.
pub fn call(
    api: Api,
    request: &Request,
    prompt: PromptIndex,
    model: &str,
    headers: ClientHeaders<'_>,
) -> Result<Call, Refusal> {
    let invocation = request.invocation_of(prompt);
    let mut taken = takes(api).parameters;
    let own = native::body(api, request, model);
    let is_own = own.is_some();
    let (path, body) = match (own, api) {
        (Some(own), _) => own,
        (None, Api::OpenAi | Api::Custom) => openai_request::written(api, &invocation, model)?,
        (None, Api::Ollama) => ollama_request::written(&invocation, model)?,
        (None, Api::Anthropic) => {
            let (path, body, ignored) = anthropic_request::written(&invocation, model)?;
            taken = taken.without(ignored);
            (path, body)
        }
    };
    Ok(Call {
        path,
        headers: self::headers(api, invocation.stream, headers, is_own),
        body,
        ignored: invocation.parameters.given().without(taken),
    })
}

/// Writes one prompt of a request as the body of a chat in OpenAI's API. A text that is to be continued is what the user says.
///
/// # Errors
/// As [`call`].
pub fn as_chat(request: &Request, prompt: PromptIndex, model: &str) -> Result<Vec<u8>, Refusal> {
    if let Some(("/chat/completions", body)) = native::body(Api::Custom, request, model) {
        return Ok(body);
    }
    let mut invocation = request.invocation_of(prompt);
    if let Task::Completion { prompt, .. } = invocation.task {
        let content = Content::Text(prompt);
        invocation.task = Task::Chat {
            messages: alloc::vec![Message {
                role: Role::User,
                content,
                name: None,
                tool_calls: Vec::new(),
                tool_call_id: None,
            }],
        };
    }
    let (_, body) = openai_request::written(Api::Custom, &invocation, model)?;
    Ok(body)
}

/// The headers of a call: the client's own ones go on with its own body.
fn headers(
    api: Api,
    stream: bool,
    of_client: ClientHeaders<'_>,
    is_own: bool,
) -> Vec<(&'static str, String)> {
    let of_client = match is_own {
        true => of_client,
        false => ClientHeaders::default(),
    };
    let accept = match (stream, api) {
        (false, _) => "application/json",
        (true, Api::OpenAi | Api::Custom | Api::Anthropic) => "text/event-stream",
        (true, Api::Ollama) => "application/x-ndjson",
    };
    let of_api = match api {
        Api::OpenAi | Api::Custom => [("openai-beta", of_client.openai_beta), ("", None)],
        Api::Anthropic => [
            (
                "anthropic-version",
                Some(of_client.anthropic_version.unwrap_or(VERSION)),
            ),
            ("anthropic-beta", of_client.anthropic_beta),
        ],
        Api::Ollama => [("", None); 2],
    };
    let always = [
        ("content-type", Some("application/json")),
        ("accept", Some(accept)),
    ];
    let all = always.into_iter().chain(of_api);
    all.filter_map(|(name, value)| Some((name, String::from(value?))))
        .collect()
}

/// Returns what a server of the API may be asked for.
#[must_use]
pub fn takes(api: Api) -> Supports {
    let text = KindSet::EMPTY.with(Kind::Text);
    let (kinds, parameters): (KindSet, &[&str]) = match api {
        Api::OpenAi | Api::Custom => (
            text.with(Kind::Insertion).with(Kind::Embedding),
            &[
                "max_tokens",
                "temperature",
                "top_p",
                "presence_penalty",
                "frequency_penalty",
                "seed",
                "logit_bias",
                "parallel_tool_calls",
                "tool_choice",
                "tools",
            ],
        ),
        Api::Anthropic => (
            text,
            &[
                "max_tokens",
                "temperature",
                "top_p",
                "top_k",
                "parallel_tool_calls",
                "tool_choice",
                "tools",
            ],
        ),
        Api::Ollama => (
            text.with(Kind::Insertion).with(Kind::Embedding),
            &[
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
                "tools",
            ],
        ),
    };
    Supports {
        kinds,
        scopes: Scope::Inference.into(),
        parameters: ParameterSet::of(parameters),
        capabilities: Capabilities {
            tools: true,
            vision: true,
            embeddings: kinds.contains(Kind::Embedding),
            insert: kinds.contains(Kind::Insertion),
            thinking: false,
            context_length: None,
        },
    }
}

/// Returns the header that carries the key.
#[must_use]
pub fn authorization(api: Api, key: &str) -> (&'static str, String) {
    match api {
        Api::OpenAi | Api::Custom | Api::Ollama => ("authorization", format!("Bearer {key}")),
        Api::Anthropic => ("x-api-key", String::from(key)),
    }
}

impl core::fmt::Debug for Call {
    /// The body is never shown: it is the prompt.
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "Call({}, {} bytes)", self.path, self.body.len())
    }
}
