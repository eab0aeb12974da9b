//! A request that is kept: its text, and where in that the invocation's texts are.
//!
//! A dialect reads a body into an [`Invocation`] that borrows from it. A [`Request`] owns the body and remembers the places of
//! those texts, so that it can wait in a queue, be asked again, and go to any form of agent, and nothing is read twice.

use crate::budget::Share;
use crate::invocation::{
    Arguments, Content, Invocation, Message, Parameters, Part, ResponseFormat, Task, ToolCall,
};
use crate::text::{JsonStr, RawJson};
use alloc::borrow::Cow;
use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

/// Place of a text: bytes from the start of the body, behind whose end what was made here follows.
#[derive(Clone, Copy)]
struct Span {
    start: usize,
    end: usize,
}

/// A client's request to a model, with all that it says. Shared by whoever asks with it.
pub struct Request {
    /// As the client sent it.
    body: String,
    /// Texts that are not in the body: decoded ones, JSON in another form than the client's, and a conversation that goes on.
    made: String,
    /// The invocation without its texts.
    shape: Invocation<'static>,
    /// The texts of `shape`, in the order in which [`retold`] meets them.
    spans: Box<[Span]>,
    /// Further prompts.
    more: Box<[Span]>,
    prompt: Span,
    /// The request of an API that `body` is.
    form: Option<BodyForm>,
    share: Option<Share>,
}

/// Requests of client APIs whose body says all by itself, so that a server of the same API takes it as it came.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum BodyForm {
    /// OpenAI's `/v1/chat/completions`.
    OpenAiChat,
    /// OpenAI's `/v1/completions`.
    OpenAiCompletion,
    /// OpenAI's `/v1/embeddings`.
    OpenAiEmbedding,
    /// Anthropic's `/v1/messages`.
    AnthropicMessages,
    /// Anthropic's `/v1/messages/count_tokens`.
    AnthropicCount,
    /// Ollama's `/api/chat`.
    OllamaChat,
    /// Ollama's `/api/generate`.
    OllamaGenerate,
    /// Ollama's `/api/embed`.
    OllamaEmbed,
    /// Ollama's older `/api/embeddings`.
    OllamaEmbeddings,
}

/// Invocations of one request, each of which asks an agent for one answer.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub struct PromptIndex(pub usize);

/// All of a request but its body.
pub(crate) struct Read {
    made: String,
    shape: Invocation<'static>,
    spans: Box<[Span]>,
    more: Box<[Span]>,
    prompt: Span,
}

/// Finds the places of texts.
struct Places<'b> {
    body: &'b str,
    made: String,
}

impl Places<'_> {
    /// The place of a text in the body, told by its address; what lies elsewhere is copied behind the body.
    fn of(&mut self, text: &str) -> Span {
        let offset = text.as_ptr().addr().checked_sub(self.body.as_ptr().addr());
        let within = offset.and_then(|start| {
            let end = start.checked_add(text.len())?;
            (end <= self.body.len()).then_some(Span { start, end })
        });
        within.unwrap_or_else(|| {
            let start = self.body.len() + self.made.len();
            self.made.push_str(text);
            let end = start + text.len();
            Span { start, end }
        })
    }
}

impl Read {
    /// Finds where the texts are of what a dialect has read from `body`: the invocation, the further prompts, and the
    /// prompt's JSON.
    pub(crate) fn new(
        body: &str,
        invocation: &Invocation<'_>,
        more: &[JsonStr<'_>],
        prompt: &str,
    ) -> Self {
        let mut places = Places {
            body,
            made: String::new(),
        };
        let mut spans = Vec::new();
        let shape = retold(invocation, &mut |text| {
            spans.push(places.of(text));
            ""
        });
        let more = more.iter().map(|prompt| places.of(prompt.as_escaped()));
        let more = more.collect();
        let prompt = places.of(prompt);
        Self {
            made: places.made,
            shape,
            spans: spans.into_boxed_slice(),
            more,
            prompt,
        }
    }

    /// The request, with the body that it was read from.
    pub(crate) fn with(self, body: String) -> Request {
        let Self {
            made,
            shape,
            spans,
            more,
            prompt,
        } = self;
        Request {
            body,
            made,
            shape,
            spans,
            more,
            prompt,
            form: None,
            share: None,
        }
    }
}

impl Request {
    /// A request that no client has sent: the texts of the invocation are copied.
    #[must_use]
    pub fn of(invocation: &Invocation<'_>) -> Self {
        Read::new("", invocation, &[], "").with(String::new())
    }

    /// The request with a share of the memory that all queues have together, which holds its text.
    #[must_use]
    pub fn sharing(mut self, mut share: Share) -> Self {
        // Whether there is room was asked before the body was read.
        let _ = share.hold(self.body.capacity().saturating_add(self.made.capacity()));
        self.share = Some(share);
        self
    }

    /// The request with the form of its body, where that says all.
    pub(crate) fn in_form(mut self, form: Option<BodyForm>) -> Self {
        self.form = form;
        self
    }

    /// Returns the client's own body and its form; `None` where the body alone is not the request: of several prompts, of a
    /// conversation that goes on, of a form that no server takes, and where no client has sent it.
    #[must_use]
    pub fn as_sent(&self) -> Option<(BodyForm, &str)> {
        let form = self.form.filter(|_| self.more.is_empty())?;
        Some((form, &self.body))
    }

    /// The invocation, borrowed from the request's text.
    #[must_use]
    pub fn invocation(&self) -> Invocation<'_> {
        let mut spans = self.spans.iter();
        let mut next = || spans.next().map_or("", |span| self.text(*span));
        retold(&self.shape, &mut |_| next())
    }

    /// The invocation for one of its prompts, of which the first is that of [`Request::invocation`].
    #[must_use]
    pub fn invocation_of(&self, prompt: PromptIndex) -> Invocation<'_> {
        let mut invocation = self.invocation();
        let more = prompt.0.checked_sub(1).and_then(|at| self.more.get(at));
        if let Some(another) = more {
            invocation.set_prompt(JsonStr::from_escaped(self.text(*another)));
        }
        invocation
    }

    /// The number of its prompts, each of which is asked alone.
    #[must_use]
    pub fn prompts(&self) -> usize {
        self.more.len().saturating_add(1)
    }

    /// The model as the client named it.
    #[must_use]
    pub fn model(&self) -> &str {
        // The first text of an invocation.
        self.spans.first().map_or("", |span| self.text(*span))
    }

    /// True when the client wants the answer as it comes.
    #[must_use]
    pub const fn is_streamed(&self) -> bool {
        self.shape.stream
    }

    /// The prompt's JSON as the client sent it; the audit keeps its SHA-256.
    #[must_use]
    pub fn prompt(&self) -> &str {
        self.text(self.prompt)
    }

    /// Bytes of all its texts.
    #[must_use]
    pub fn len(&self) -> usize {
        self.body.len().saturating_add(self.made.len())
    }

    /// False: a request has a body.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn text(&self, span: Span) -> &str {
        let Span { start, end } = span;
        let text = match start.checked_sub(self.body.len()) {
            // An empty text at the end of the body is in neither.
            Some(start) => self.made.get(start..end.saturating_sub(self.body.len())),
            None => self.body.get(start..end),
        };
        text.unwrap_or_default()
    }
}

impl fmt::Debug for Request {
    /// Without the prompt.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Request({} bytes)", self.len())
    }
}

/// A function that gives the text which stands in the place of another.
type Retell<'f, 'b> = dyn FnMut(&str) -> &'b str + 'f;

/// The same invocation with other texts: `text` is called for each, always in the same order, the model's name first.
fn retold<'b>(invocation: &Invocation<'_>, text: &mut Retell<'_, 'b>) -> Invocation<'b> {
    let Invocation {
        model,
        task,
        stream,
        parameters,
    } = invocation;
    Invocation {
        model: Cow::Borrowed(text(model)),
        task: match task {
            Task::Chat { messages } => Task::Chat {
                messages: messages.iter().map(|it| message(it, text)).collect(),
            },
            Task::Completion { prompt, suffix } => Task::Completion {
                prompt: escaped(*prompt, text),
                suffix: suffix.map(|suffix| escaped(suffix, text)),
            },
            Task::Embedding { input } => Task::Embedding {
                input: input.iter().map(|it| escaped(*it, text)).collect(),
            },
        },
        stream: *stream,
        parameters: retold_parameters(parameters, text),
    }
}

fn escaped<'b>(it: JsonStr<'_>, text: &mut Retell<'_, 'b>) -> JsonStr<'b> {
    JsonStr::from_escaped(text(it.as_escaped()))
}

fn json<'b>(it: &RawJson<'_>, text: &mut Retell<'_, 'b>) -> RawJson<'b> {
    RawJson::from_text(text(it.get()))
}

fn message<'b>(it: &Message<'_>, text: &mut Retell<'_, 'b>) -> Message<'b> {
    let Message {
        role,
        content,
        name,
        tool_calls,
        tool_call_id,
    } = it;
    Message {
        role: *role,
        content: match content {
            Content::None => Content::None,
            Content::Text(it) => Content::Text(escaped(*it, text)),
            Content::Parts(parts) => {
                Content::Parts(parts.iter().map(|it| part(it, text)).collect())
            }
        },
        name: name.map(|name| escaped(name, text)),
        tool_calls: tool_calls.iter().map(|it| tool_call(it, text)).collect(),
        tool_call_id: tool_call_id.as_ref().map(|id| Cow::Borrowed(text(id))),
    }
}

fn part<'b>(it: &Part<'_>, text: &mut Retell<'_, 'b>) -> Part<'b> {
    match it {
        Part::Text(it) => Part::Text(escaped(*it, text)),
        Part::Image { media_type, base64 } => Part::Image {
            media_type,
            base64: escaped(*base64, text),
        },
        Part::Other(it) => Part::Other(json(it, text)),
    }
}

fn tool_call<'b>(it: &ToolCall<'_>, text: &mut Retell<'_, 'b>) -> ToolCall<'b> {
    let ToolCall {
        id,
        name,
        arguments,
    } = it;
    ToolCall {
        id: Cow::Borrowed(text(id)),
        name: escaped(*name, text),
        arguments: match arguments {
            Arguments::Text(it) => Arguments::Text(escaped(*it, text)),
            Arguments::Object(it) => Arguments::Object(json(it, text)),
        },
    }
}

fn retold_parameters<'b>(it: &Parameters<'_>, text: &mut Retell<'_, 'b>) -> Parameters<'b> {
    let Parameters {
        max_tokens,
        temperature,
        top_p,
        top_k,
        min_p,
        presence_penalty,
        frequency_penalty,
        repeat_penalty,
        seed,
        n,
        num_ctx,
        stop,
        user,
        metadata,
        tools,
        tool_choice,
        parallel_tool_calls,
        response_format,
        reasoning_effort,
        logprobs,
        top_logprobs,
        logit_bias,
        dimensions,
    } = it;
    Parameters {
        max_tokens: *max_tokens,
        temperature: *temperature,
        top_p: *top_p,
        top_k: *top_k,
        min_p: *min_p,
        presence_penalty: *presence_penalty,
        frequency_penalty: *frequency_penalty,
        repeat_penalty: *repeat_penalty,
        seed: *seed,
        n: *n,
        num_ctx: *num_ctx,
        stop: stop.clone(),
        user: user.map(|it| escaped(it, text)),
        metadata: metadata.as_ref().map(|it| json(it, text)),
        tools: tools.iter().map(|it| json(it, text)).collect(),
        tool_choice: tool_choice.as_ref().map(|it| json(it, text)),
        parallel_tool_calls: *parallel_tool_calls,
        response_format: response_format.as_ref().map(|format| match format {
            ResponseFormat::OpenAi(it) => ResponseFormat::OpenAi(json(it, text)),
            ResponseFormat::Json => ResponseFormat::Json,
            ResponseFormat::Schema(it) => ResponseFormat::Schema(json(it, text)),
        }),
        reasoning_effort: reasoning_effort.map(|it| escaped(it, text)),
        logprobs: *logprobs,
        top_logprobs: *top_logprobs,
        logit_bias: logit_bias.as_ref().map(|it| json(it, text)),
        dimensions: *dimensions,
    }
}
