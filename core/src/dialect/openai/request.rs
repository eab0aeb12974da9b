//! OpenAI's requests as neutral invocations.

use crate::config::Limits;
use crate::dialect::Parsed;
use crate::dialect::anthropic::blocks::{self, Block};
use crate::dialect::body::{self, Field, Objects, Path, Value, raw_fields};
use crate::dialect::fields;
use crate::dialect::openai::response::ChatEncoder;
use crate::error::Refusal;
use crate::invocation::{
    Arguments, Content, Invocation, Message, Parameters, Part, ResponseFormat, Role, Task, ToolCall,
};
use crate::text::{JsonStr, JsonValue, RawJson};
use alloc::boxed::Box;
use alloc::vec::Vec;

/// OpenAI allows four stop sequences.
const STOPS: usize = 4;

raw_fields! {
    /// The body of a chat completion request.
    Chat {
        model: "model",
        messages: "messages" of ChatMessage,
        stream: "stream",
        stream_options: "stream_options",
        max_tokens: "max_tokens",
        max_completion_tokens: "max_completion_tokens",
        temperature: "temperature",
        top_p: "top_p",
        presence_penalty: "presence_penalty",
        frequency_penalty: "frequency_penalty",
        seed: "seed",
        n: "n",
        stop: "stop",
        user: "user",
        metadata: "metadata",
        tools: "tools",
        tool_choice: "tool_choice",
        parallel_tool_calls: "parallel_tool_calls",
        functions: "functions",
        response_format: "response_format",
        reasoning_effort: "reasoning_effort",
        logprobs: "logprobs",
        top_logprobs: "top_logprobs",
        logit_bias: "logit_bias",
    }
}

raw_fields! {
    /// One of `messages`.
    ChatMessage {
        role: "role",
        content: "content",
        refusal: "refusal",
        name: "name",
        tool_calls: "tool_calls",
        tool_call_id: "tool_call_id",
    }
}

raw_fields! {
    /// One of a message's `tool_calls`.
    ChatToolCall { id: "id", kind: "type", function: "function" }
}

raw_fields! {
    /// The function of a tool call.
    CalledFunction { name: "name", arguments: "arguments" }
}

raw_fields! {
    /// One part of a message's content.
    ContentPart {
        kind: "type",
        text: "text",
        image_url: "image_url",
        input_audio: "input_audio",
        file: "file",
        refusal: "refusal",
    }
}

raw_fields! {
    /// `stream_options`.
    StreamOptions { include_usage: "include_usage" }
}

raw_fields! {
    /// An object that its `type` tells apart: `tool_choice`, `response_format`.
    Typed { kind: "type", json_schema: "json_schema", function: "function" }
}

/// Reads the body of `POST /v1/chat/completions`.
///
/// # Errors
/// What is wrong with the request, with the field's path as `param`; see [`Limits`] for `messages`, `content_bytes` and
/// `json_depth`.
pub fn chat_request<'a>(body: &'a str, limits: &Limits) -> Result<Parsed<'a>, Refusal> {
    let mut chat: Chat<'a> = body::read(body, limits)?;
    let model = fields::model(chat.model)?;
    let (messages, digest_of) = messages(chat.messages.take(), limits)?;
    let stream = boolean("stream", chat.stream)?.unwrap_or(false);
    let include_usage = include_usage(chat.stream_options)?;
    let parameters = parameters(&chat, STOPS)?;
    Ok(Parsed {
        invocation: Invocation {
            model,
            task: Task::Chat { messages },
            stream,
            parameters,
        },
        encoder: Box::new(ChatEncoder::new(include_usage)),
        stream,
        more: Vec::new(),
        digest_of,
        load_only: false,
    })
}

pub(super) fn boolean(
    key: &'static str,
    raw: Option<JsonValue<'_>>,
) -> Result<Option<bool>, Refusal> {
    let value = Path::root(key).find(raw);
    value.map(|value| value.boolean()).transpose()
}

/// `stream_options.include_usage`.
pub(super) fn include_usage(raw: Option<JsonValue<'_>>) -> Result<bool, Refusal> {
    let Some(value) = Path::root("stream_options").find(raw) else {
        return Ok(false);
    };
    let options: StreamOptions<'_> = value.object()?;
    let path = value.path.key("include_usage");
    path.find(options.include_usage)
        .map_or(Ok(false), |value| value.boolean())
}

fn messages<'a>(
    list: Option<Objects<'a, ChatMessage<'a>>>,
    limits: &Limits,
) -> Result<(Vec<Message<'a>>, &'a str), Refusal> {
    let path = Path::root("messages");
    let list = list.ok_or_else(|| path.missing("a list of messages"))?;
    let text = list.raw().get();
    let raw_messages = fields::messages(list, path, limits)?;
    if raw_messages.is_empty() {
        return Err(path.wrong("expected at least one message, found none"));
    }
    let mut messages = Vec::with_capacity(raw_messages.len());
    for (index, raw) in raw_messages.iter().enumerate() {
        message(raw, &path.index(index), limits, &mut messages)?;
    }
    if messages.len() > limits.messages {
        return Err(fields::too_many_messages(messages.len(), path, limits));
    }
    Ok((messages, text))
}

/// Appends a message, and before it the results of tools that are among its parts in Anthropic's form.
fn message<'a>(
    raw: &ChatMessage<'a>,
    path: &Path<'_>,
    limits: &Limits,
    messages: &mut Vec<Message<'a>>,
) -> Result<(), Refusal> {
    let role = fields::role(raw.role, path.key("role"))?;
    let before = messages.len();
    let (mut content, mut tool_calls) =
        content(raw.content, role, path.key("content"), limits, messages)?;
    if role == Role::Assistant
        && matches!(content, Content::None)
        && let Some(refusal) = path.key("refusal").find(raw.refusal)
    {
        // So our own refusals look, and clients send them back.
        content = Content::Text(refusal.string()?);
    }
    let name = path.key("name").find(raw.name);
    if role == Role::Function && name.is_none() {
        return Err(path
            .key("name")
            .wrong("missing; expected the function's name"));
    }
    let id = path.key("tool_call_id").find(raw.tool_call_id);
    if role == Role::Tool && id.is_none() {
        return Err(path
            .key("tool_call_id")
            .wrong("missing; a tool message names the call that it answers"));
    }
    if role == Role::Assistant
        && let Some(list) = path.key("tool_calls").find(raw.tool_calls)
    {
        let calls: Vec<ChatToolCall<'a>> = list.objects()?;
        tool_calls.reserve_exact(calls.len());
        for (index, call) in calls.iter().enumerate() {
            tool_calls.push(tool_call(call, &list.path.index(index))?);
        }
    }
    if messages.len() > before && matches!(content, Content::None) {
        // It said nothing but results.
        return Ok(());
    }
    messages.push(Message {
        role,
        content,
        name: name.map(|name| name.string()).transpose()?,
        tool_calls,
        tool_call_id: id.map(|id| id.string().map(JsonStr::decode)).transpose()?,
    });
    Ok(())
}

/// The content of a message, and the calls that stand among its parts in Anthropic's form; results that do are appended to
/// `results`. Void sends that form for models whose names have `claude` in them.
fn content<'a>(
    raw: Option<JsonValue<'a>>,
    role: Role,
    path: Path<'_>,
    limits: &Limits,
    results: &mut Vec<Message<'a>>,
) -> Result<(Content<'a>, Vec<ToolCall<'a>>), Refusal> {
    let Some(value) = path.find(raw) else {
        // Real clients leave it out beside tool calls, in empty answers and in empty results.
        return match role {
            Role::Assistant | Role::Tool | Role::Function => Ok((Content::None, Vec::new())),
            Role::System | Role::Developer | Role::User => {
                Err(path.wrong("missing or null; expected a string or a list of parts"))
            }
        };
    };
    match value.first() {
        b'"' => {
            let text = value.string()?;
            fields::check_bytes(core::iter::once(text), path, limits)?;
            Ok((Content::Text(text), Vec::new()))
        }
        b'[' => {
            let raw_parts = value.list()?;
            let (mut parts, mut calls) = (Vec::with_capacity(raw_parts.len()), Vec::new());
            let mut foreign = false;
            for (index, raw) in raw_parts.into_iter().enumerate() {
                let path = path.index(index);
                let value = Value { raw, path };
                let Some(kind) = part(value, &mut parts)? else {
                    continue;
                };
                foreign = true;
                let block: Block<'a> = value.object()?;
                match (kind, role) {
                    ("tool_use", Role::Assistant) => calls.push(blocks::tool_use(&block, &path)?),
                    ("tool_result", Role::User | Role::Tool) => {
                        results.push(blocks::tool_result(&block, &path, limits)?);
                    }
                    ("tool_use" | "tool_result", _) => {
                        return Err(blocks::not_by(kind, role, &path));
                    }
                    _ => blocks::part(kind, &block, &path, &mut parts)?,
                }
            }
            fields::check_parts(&parts, path, limits)?;
            let content = if foreign && parts.is_empty() {
                Content::None
            } else {
                Content::Parts(parts)
            };
            Ok((content, calls))
        }
        _ => Err(value.expected("a string or a list of parts")),
    }
}

/// The types of Anthropic's blocks that are read in a list of parts.
const BLOCKS: [&str; 6] = [
    "tool_use",
    "tool_result",
    "image",
    "document",
    "thinking",
    "redacted_thinking",
];

/// Appends a part in OpenAI's form; gives the type of one in Anthropic's.
fn part<'a>(
    value: Value<'a, '_>,
    parts: &mut Vec<Part<'a>>,
) -> Result<Option<&'static str>, Refusal> {
    const EXPECTED: &str = "text, image_url, input_audio, file or refusal";
    let path = value.path;
    let part: ContentPart<'a> = value.object()?;
    let kind = path.key("type").need(part.kind, EXPECTED)?;
    let (key, raw) = match &*kind.string()?.decode() {
        "text" => {
            let text = path.key("text").need(part.text, "a string")?;
            parts.push(Part::Text(text.string()?));
            return Ok(None);
        }
        "refusal" => {
            let refusal = path.key("refusal").need(part.refusal, "a string")?;
            refusal.string()?;
            parts.push(Part::Other(value.raw.into()));
            return Ok(None);
        }
        "image_url" => ("image_url", part.image_url),
        "input_audio" => ("input_audio", part.input_audio),
        "file" => ("file", part.file),
        other => {
            if let Some(block) = BLOCKS.into_iter().find(|block| *block == other) {
                return Ok(Some(block));
            }
            return Err(kind
                .path
                .wrong(format_args!("unknown type of part; expected {EXPECTED}")));
        }
    };
    let medium = path.key(key).need(raw, "an object")?;
    if medium.first() != b'{' {
        return Err(medium.expected("an object"));
    }
    parts.push(Part::Other(value.raw.into()));
    Ok(None)
}

fn tool_call<'a>(call: &ChatToolCall<'a>, path: &Path<'_>) -> Result<ToolCall<'a>, Refusal> {
    let id = path.key("id").need(call.id, "the call's id")?;
    if let Some(kind) = path.key("type").find(call.kind)
        && kind.string()?.decode() != "function"
    {
        return Err(kind.path.wrong("only calls of type function are supported"));
    }
    let function = path
        .key("function")
        .need(call.function, "an object with name and arguments")?;
    let fields: CalledFunction<'a> = function.object()?;
    let name = function.path.key("name");
    let arguments = function.path.key("arguments").find(fields.arguments);
    Ok(ToolCall {
        id: id.name()?.decode(),
        name: name.need(fields.name, "the function's name")?.name()?,
        arguments: match arguments {
            None => Arguments::Text(JsonStr::from_escaped("{}")),
            // Some clients send the object itself.
            Some(arguments) if arguments.first() == b'{' => Arguments::Object(arguments.raw.into()),
            Some(arguments) => Arguments::Text(arguments.string()?),
        },
    })
}

/// The parameters of a request with at most `stops` stop sequences.
pub(super) fn parameters<'a>(chat: &Chat<'a>, stops: usize) -> Result<Parameters<'a>, Refusal> {
    let number = |key, raw, range| {
        let value = Path::root(key).find(raw);
        value.map(|value| value.number(range)).transpose()
    };
    if let Some(n) = Path::root("n").find(chat.n)
        && n.integer()? != 1
    {
        return Err(n.expected("1, as an agent gives one answer"));
    }
    if let Some(functions) = Path::root("functions").find(chat.functions)
        && !functions.list()?.is_empty()
    {
        return Err(functions
            .path
            .wrong("this legacy field is not supported; send tools instead"));
    }
    let max_tokens = match max_tokens("max_completion_tokens", chat.max_completion_tokens)? {
        Some(tokens) => Some(tokens),
        None => max_tokens("max_tokens", chat.max_tokens)?,
    };
    let integer = Path::root("seed").find(chat.seed);
    let stop = Path::root("stop").find(chat.stop);
    let user = Path::root("user").find(chat.user);
    let effort = Path::root("reasoning_effort").find(chat.reasoning_effort);
    let top_logprobs = Path::root("top_logprobs").find(chat.top_logprobs);
    Ok(Parameters {
        max_tokens,
        temperature: number("temperature", chat.temperature, 0.0..=2.0)?,
        top_p: number("top_p", chat.top_p, 0.0..=1.0)?,
        presence_penalty: number("presence_penalty", chat.presence_penalty, -2.0..=2.0)?,
        frequency_penalty: number("frequency_penalty", chat.frequency_penalty, -2.0..=2.0)?,
        seed: integer.map(|value| value.integer()).transpose()?,
        stop: stop.map_or(Ok(Vec::new()), |value| value.stop_sequences(stops))?,
        user: user.map(|value| value.string()).transpose()?,
        metadata: object("metadata", chat.metadata)?,
        tools: fields::tools(chat.tools)?,
        tool_choice: tool_choice(chat.tool_choice)?,
        parallel_tool_calls: boolean("parallel_tool_calls", chat.parallel_tool_calls)?,
        response_format: response_format(chat.response_format)?,
        reasoning_effort: effort.map(|value| value.name()).transpose()?,
        logprobs: boolean("logprobs", chat.logprobs)?,
        top_logprobs: match top_logprobs {
            None => None,
            Some(value) => match value.integer()? {
                count @ 0..=20 => u64::try_from(count).ok(),
                _ => return Err(value.expected("a whole number from 0 to 20")),
            },
        },
        logit_bias: object("logit_bias", chat.logit_bias)?,
        ..Parameters::default()
    })
}

/// A positive number; -1, which clients send for "no limit", is absent.
fn max_tokens(key: &'static str, raw: Option<JsonValue<'_>>) -> Result<Option<u64>, Refusal> {
    let Some(value) = Path::root(key).find(raw) else {
        return Ok(None);
    };
    match value.integer()? {
        -1 => Ok(None),
        tokens if tokens > 0 => Ok(u64::try_from(tokens).ok()),
        _ => Err(value.expected("a positive whole number, or -1 for no limit")),
    }
}

fn object<'a>(
    key: &'static str,
    raw: Option<JsonValue<'a>>,
) -> Result<Option<RawJson<'a>>, Refusal> {
    match Path::root(key).find(raw) {
        Some(value) if value.first() != b'{' => Err(value.expected("an object")),
        _ => Ok(raw.map(RawJson::from)),
    }
}

fn tool_choice(raw: Option<JsonValue<'_>>) -> Result<Option<RawJson<'_>>, Refusal> {
    const EXPECTED: &str = "none, auto, required or an object that names a function";
    let Some(value) = Path::root("tool_choice").find(raw) else {
        return Ok(None);
    };
    match value.first() {
        b'"' if matches!(&*value.string()?.decode(), "none" | "auto" | "required") => {}
        b'"' => {
            return Err(value
                .path
                .wrong(format_args!("unknown choice; expected {EXPECTED}")));
        }
        b'{' => {
            let choice: Typed<'_> = value.object()?;
            let kind = value.path.key("type").need(choice.kind, "a string")?;
            if kind.string()?.decode() == "function" {
                let path = value.path.key("function");
                let function = path.need(choice.function, "an object with the function's name")?;
                let fields: fields::Function<'_> = function.object()?;
                let name = path.key("name");
                name.need(fields.name, "the function's name")?.name()?;
            }
        }
        _ => return Err(value.expected(EXPECTED)),
    }
    Ok(raw.map(RawJson::from))
}

fn response_format(raw: Option<JsonValue<'_>>) -> Result<Option<ResponseFormat<'_>>, Refusal> {
    const EXPECTED: &str = "text, json_object or json_schema";
    let Some(value) = Path::root("response_format").find(raw) else {
        return Ok(None);
    };
    let format: Typed<'_> = value.object()?;
    let kind = value.path.key("type").need(format.kind, EXPECTED)?;
    match &*kind.string()?.decode() {
        "text" | "json_object" => {}
        "json_schema" => {
            let schema = value.path.key("json_schema");
            let schema = schema.need(format.json_schema, "an object with name and schema")?;
            if schema.first() != b'{' {
                return Err(schema.expected("an object with name and schema"));
            }
        }
        _ => {
            return Err(kind
                .path
                .wrong(format_args!("unknown type; expected {EXPECTED}")));
        }
    }
    Ok(Some(ResponseFormat::OpenAi(value.raw.into())))
}
