//! OpenAI's requests as neutral invocations.

use crate::config::Limits;
use crate::dialect::Parsed;
use crate::dialect::body::{self, Path, Value, raw_fields};
use crate::dialect::fields;
use crate::dialect::openai::response::ChatEncoder;
use crate::error::Refusal;
use crate::invocation::{
    Arguments, Content, Invocation, Message, Parameters, Part, ResponseFormat, Role, Task, ToolCall,
};
use crate::text::JsonStr;
use alloc::borrow::Cow;
use alloc::boxed::Box;
use alloc::vec::Vec;
use serde_json::value::RawValue;

/// OpenAI allows four stop sequences.
const STOPS: usize = 4;

raw_fields! {
    /// The body of a chat completion request.
    Chat {
        model: "model",
        messages: "messages",
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
    let chat: Chat<'a> = body::read(body, limits)?;
    let model = fields::model(chat.model)?;
    let (messages, digest_of) = messages(chat.messages, limits)?;
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
        digest_of,
        load_only: false,
    })
}

pub(super) fn boolean(key: &'static str, raw: Option<&RawValue>) -> Result<Option<bool>, Refusal> {
    let value = Path::root(key).find(raw);
    value.map(|value| value.boolean()).transpose()
}

/// `stream_options.include_usage`.
pub(super) fn include_usage(raw: Option<&RawValue>) -> Result<bool, Refusal> {
    let Some(value) = Path::root("stream_options").find(raw) else {
        return Ok(false);
    };
    let options: StreamOptions<'_> = value.object()?;
    let path = value.path.key("include_usage");
    path.find(options.include_usage)
        .map_or(Ok(false), |value| value.boolean())
}

fn messages<'a>(
    raw: Option<&'a RawValue>,
    limits: &Limits,
) -> Result<(Vec<Message<'a>>, &'a str), Refusal> {
    let path = Path::root("messages");
    let list = path.need(raw, "a list of messages")?;
    let raw_messages: Vec<ChatMessage<'a>> = fields::messages(&list, limits)?;
    if raw_messages.is_empty() {
        return Err(path.wrong("expected at least one message, found none"));
    }
    let mut messages = Vec::with_capacity(raw_messages.len());
    for (index, raw) in raw_messages.iter().enumerate() {
        messages.push(message(raw, &path.index(index), limits)?);
    }
    Ok((messages, list.raw.get()))
}

fn message<'a>(
    raw: &ChatMessage<'a>,
    path: &Path<'_>,
    limits: &Limits,
) -> Result<Message<'a>, Refusal> {
    let role = fields::role(raw.role, path.key("role"))?;
    let content = content(raw.content, role, path.key("content"), limits)?;
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
    let mut tool_calls = Vec::new();
    if role == Role::Assistant
        && let Some(list) = path.key("tool_calls").find(raw.tool_calls)
    {
        let calls: Vec<ChatToolCall<'a>> = list.objects()?;
        tool_calls.reserve_exact(calls.len());
        for (index, call) in calls.iter().enumerate() {
            tool_calls.push(tool_call(call, &list.path.index(index))?);
        }
    }
    Ok(Message {
        role,
        content,
        name: name.map(|name| name.string()).transpose()?,
        tool_calls,
        tool_call_id: id.map(|id| id.string().map(JsonStr::decode)).transpose()?,
    })
}

fn content<'a>(
    raw: Option<&'a RawValue>,
    role: Role,
    path: Path<'_>,
    limits: &Limits,
) -> Result<Content<'a>, Refusal> {
    let Some(value) = path.find(raw) else {
        // Real clients leave it out beside tool calls, in empty answers and in empty results.
        return match role {
            Role::Assistant | Role::Tool | Role::Function => Ok(Content::None),
            Role::System | Role::Developer | Role::User => {
                Err(path.wrong("missing or null; expected a string or a list of parts"))
            }
        };
    };
    match value.first() {
        b'"' => {
            let text = value.string()?;
            fields::check_bytes(core::iter::once(text), path, limits)?;
            Ok(Content::Text(text))
        }
        b'[' => {
            let parts = value
                .list()?
                .into_iter()
                .enumerate()
                .map(|(index, raw)| {
                    let path = path.index(index);
                    part(Value { raw, path })
                })
                .collect::<Result<Vec<_>, _>>()?;
            let texts = parts.iter().filter_map(|part| match part {
                Part::Text(text) => Some(*text),
                Part::Image { .. } | Part::Other(_) => None,
            });
            fields::check_bytes(texts, path, limits)?;
            Ok(Content::Parts(parts))
        }
        _ => Err(value.expected("a string or a list of parts")),
    }
}

fn part<'a>(value: Value<'a, '_>) -> Result<Part<'a>, Refusal> {
    const EXPECTED: &str = "text, image_url, input_audio, file or refusal";
    let path = value.path;
    let part: ContentPart<'a> = value.object()?;
    let kind = path.key("type").need(part.kind, EXPECTED)?;
    let (key, raw) = match &*kind.string()?.decode() {
        "text" => {
            let text = path.key("text").need(part.text, "a string")?;
            return Ok(Part::Text(text.string()?));
        }
        "refusal" => {
            let refusal = path.key("refusal").need(part.refusal, "a string")?;
            refusal.string()?;
            return Ok(Part::Other(Cow::Borrowed(value.raw)));
        }
        "image_url" => ("image_url", part.image_url),
        "input_audio" => ("input_audio", part.input_audio),
        "file" => ("file", part.file),
        _ => {
            return Err(kind
                .path
                .wrong(format_args!("unknown type of part; expected {EXPECTED}")));
        }
    };
    let medium = path.key(key).need(raw, "an object")?;
    if medium.first() != b'{' {
        return Err(medium.expected("an object"));
    }
    Ok(Part::Other(Cow::Borrowed(value.raw)))
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
            Some(arguments) if arguments.first() == b'{' => Arguments::Object(arguments.raw),
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
        stop: stop.map_or(Ok(Vec::new()), |value| value.strings(stops))?,
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
fn max_tokens(key: &'static str, raw: Option<&RawValue>) -> Result<Option<u64>, Refusal> {
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
    raw: Option<&'a RawValue>,
) -> Result<Option<&'a RawValue>, Refusal> {
    match Path::root(key).find(raw) {
        Some(value) if value.first() != b'{' => Err(value.expected("an object")),
        _ => Ok(raw),
    }
}

fn tool_choice(raw: Option<&RawValue>) -> Result<Option<Cow<'_, RawValue>>, Refusal> {
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
    Ok(raw.map(Cow::Borrowed))
}

fn response_format(raw: Option<&RawValue>) -> Result<Option<ResponseFormat<'_>>, Refusal> {
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
    Ok(Some(ResponseFormat::OpenAi(Cow::Borrowed(value.raw))))
}
