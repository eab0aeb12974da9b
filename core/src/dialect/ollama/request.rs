//! Ollama's requests as neutral invocations.

use crate::config::Limits;
use crate::dialect::Parsed;
use crate::dialect::body::{self, Field, Path, Value, raw_fields};
use crate::dialect::fields;
use crate::dialect::ollama::response::{Form, LineEncoder};
use crate::error::Refusal;
use crate::invocation::{
    Arguments, Content, Invocation, Message, Parameters, Part, ResponseFormat, Role, Task, ToolCall,
};
use crate::text::{JsonStr, JsonValue};
use alloc::borrow::Cow;
use alloc::boxed::Box;
use alloc::format;
use alloc::vec::Vec;

/// Most stop sequences of one request.
const STOPS: usize = 32;

raw_fields! {
    /// The body of a chat request.
    Chat {
        model: "model",
        messages: "messages" of ChatMessage,
        stream: "stream",
        options: "options",
        tools: "tools",
        format: "format",
        think: "think",
        keep_alive: "keep_alive",
    }
}

raw_fields! {
    /// The body of a generate request.
    Generate {
        model: "model",
        prompt: "prompt",
        suffix: "suffix",
        system: "system",
        images: "images",
        raw: "raw",
        stream: "stream",
        options: "options",
        format: "format",
        think: "think",
        keep_alive: "keep_alive",
    }
}

raw_fields! {
    /// One of `messages`.
    ChatMessage {
        role: "role",
        content: "content",
        images: "images",
        tool_calls: "tool_calls",
        tool_name: "tool_name",
        tool_call_id: "tool_call_id",
    }
}

raw_fields! {
    /// One of a message's `tool_calls`.
    ChatToolCall { id: "id", function: "function" }
}

raw_fields! {
    /// The function of a tool call.
    CalledFunction { name: "name", arguments: "arguments" }
}

raw_fields! {
    /// The `options` that have a neutral meaning; those of Ollama's own engine are ignored.
    Options {
        num_predict: "num_predict",
        max_tokens: "max_tokens",
        temperature: "temperature",
        top_p: "top_p",
        top_k: "top_k",
        min_p: "min_p",
        stop: "stop",
        seed: "seed",
        num_ctx: "num_ctx",
        repeat_penalty: "repeat_penalty",
        presence_penalty: "presence_penalty",
        frequency_penalty: "frequency_penalty",
    }
}

/// Reads the body of `POST /api/chat`. Without messages it is a request to load or unload the model.
///
/// # Errors
/// What is wrong with the request, beginning with the field's path; see [`Limits`] for `messages`, `content_bytes` and
/// `json_depth`.
pub fn chat_request<'a>(body: &'a str, limits: &Limits) -> Result<Parsed<'a>, Refusal> {
    let chat: Chat<'a> = body::read(body, limits)?;
    let model = fields::model(chat.model)?;
    let path = Path::root("messages");
    let digest_of = chat.messages.as_ref().map_or("", |list| list.raw().get());
    let list = chat.messages;
    let raw_messages = list.map_or(Ok(Vec::new()), |list| fields::messages(list, path, limits))?;
    let load_only = raw_messages.is_empty();
    let mut calls = OpenCalls::default();
    let mut messages = Vec::with_capacity(raw_messages.len());
    for (index, raw) in raw_messages.iter().enumerate() {
        messages.push(message(raw, &path.index(index), &mut calls, limits)?);
    }
    let mut parameters = parameters(chat.options, chat.format, chat.think)?;
    parameters.tools = fields::tools(chat.tools)?;
    let form = Form::chat(load_reason(load_only, chat.keep_alive));
    parsed(
        model,
        Task::Chat { messages },
        parameters,
        digest_of,
        (chat.stream, chat.think, form),
    )
}

/// Reads the body of `POST /api/generate`. A prompt becomes a conversation, unless it has a `suffix` or is `raw` (and without
/// images, which only a conversation carries): then it is a text to continue. Without a prompt it is a request to load or unload
/// the model. `template` and `context` are accepted and ignored.
///
/// # Errors
/// As [`chat_request`].
pub fn generate_request<'a>(body: &'a str, limits: &Limits) -> Result<Parsed<'a>, Refusal> {
    let generate: Generate<'a> = body::read(body, limits)?;
    let model = fields::model(generate.model)?;
    let text = |key, raw| -> Result<JsonStr<'a>, Refusal> {
        let path = Path::root(key);
        let text = path
            .find(raw)
            .map_or(Ok(JsonStr::EMPTY), |value| value.string())?;
        fields::check_bytes(core::iter::once(text), path, limits)?;
        Ok(text)
    };
    let prompt = text("prompt", generate.prompt)?;
    let suffix = text("suffix", generate.suffix)?;
    let system = text("system", generate.system)?;
    let images = images(Path::root("images").find(generate.images))?;
    let raw = boolean("raw", generate.raw)?.unwrap_or(false);
    let load_only = prompt.is_empty() && suffix.is_empty() && images.is_empty();
    if !suffix.is_empty() && !images.is_empty() {
        return Err(Path::root("images").wrong("images cannot be sent with suffix"));
    }
    let task = if !suffix.is_empty() || (raw && images.is_empty()) {
        let suffix = Some(suffix).filter(|suffix| !suffix.is_empty());
        Task::Completion { prompt, suffix }
    } else {
        let mut messages = Vec::with_capacity(2);
        if !system.is_empty() {
            messages.push(plain(Role::System, Content::Text(system)));
        }
        messages.push(plain(Role::User, with_images(prompt, images)));
        Task::Chat { messages }
    };
    let form = Form::generate(load_reason(load_only, generate.keep_alive));
    parsed(
        model,
        task,
        parameters(generate.options, generate.format, generate.think)?,
        generate.prompt.map_or("", JsonValue::get),
        (generate.stream, generate.think, form),
    )
}

fn parsed<'a>(
    model: Cow<'a, str>,
    task: Task<'a>,
    parameters: Parameters<'a>,
    digest_of: &'a str,
    (stream, think, form): (Option<JsonValue<'_>>, Option<JsonValue<'_>>, Form),
) -> Result<Parsed<'a>, Refusal> {
    let stream = boolean("stream", stream)?.unwrap_or(true);
    let thinks = think.is_none_or(|think| think.get() != "false");
    Ok(Parsed {
        invocation: Invocation {
            model,
            task,
            stream,
            parameters,
        },
        encoder: Box::new(LineEncoder::new(form, thinks)),
        stream,
        more: Vec::new(),
        digest_of,
        load_only: form.is_load(),
    })
}

const fn plain<'a>(role: Role, content: Content<'a>) -> Message<'a> {
    Message {
        role,
        content,
        name: None,
        tool_calls: Vec::new(),
        tool_call_id: None,
    }
}

fn boolean(key: &'static str, raw: Option<JsonValue<'_>>) -> Result<Option<bool>, Refusal> {
    let value = Path::root(key).find(raw);
    value.map(|value| value.boolean()).transpose()
}

/// Returns the `done_reason` of a load request: Ollama unloads a model whose `keep_alive` is zero, as a number or a
/// duration such as `"0s"`.
fn load_reason(load_only: bool, keep_alive: Option<JsonValue<'_>>) -> Option<&'static str> {
    if !load_only {
        return None;
    }
    let zero = keep_alive.is_some_and(|raw| {
        let text = raw.get().trim_matches('"');
        text.contains('0') && !text.contains(|c: char| matches!(c, '1'..='9'))
    });
    Some(if zero { "unload" } else { "load" })
}

fn message<'a>(
    raw: &ChatMessage<'a>,
    path: &Path<'_>,
    calls: &mut OpenCalls<'a>,
    limits: &Limits,
) -> Result<Message<'a>, Refusal> {
    let role = fields::role(raw.role, path.key("role"))?;
    let content = path.key("content");
    let text = content
        .find(raw.content)
        .map_or(Ok(JsonStr::EMPTY), |value| value.string())?;
    fields::check_bytes(core::iter::once(text), content, limits)?;
    let mut message = plain(
        role,
        with_images(text, images(path.key("images").find(raw.images))?),
    );
    match role {
        Role::Assistant => {
            if let Some(list) = path.key("tool_calls").find(raw.tool_calls) {
                message.tool_calls = calls.read(&list)?;
            }
        }
        Role::Tool | Role::Function => {
            let id = path.key("tool_call_id").find(raw.tool_call_id);
            let id = id.map(|id| id.string()).transpose()?;
            let name = path.key("tool_name").find(raw.tool_name);
            message.name = name.map(|name| name.string()).transpose()?;
            message.tool_call_id = calls.answer(id, message.name);
        }
        Role::System | Role::Developer | Role::User => {}
    }
    Ok(message)
}

fn with_images<'a>(text: JsonStr<'a>, images: Vec<Part<'a>>) -> Content<'a> {
    if images.is_empty() {
        return Content::Text(text);
    }
    let mut parts = images;
    if !text.is_empty() {
        parts.insert(0, Part::Text(text));
    }
    Content::Parts(parts)
}

/// The calls that tool results have not answered yet. Ollama's calls need no ids, so results are matched by name and order.
#[derive(Default)]
struct OpenCalls<'a> {
    open: Vec<(Cow<'a, str>, JsonStr<'a>)>,
    made: usize,
}

impl<'a> OpenCalls<'a> {
    /// The calls of an assistant's message, which take the place of those before.
    fn read(&mut self, list: &Value<'a, '_>) -> Result<Vec<ToolCall<'a>>, Refusal> {
        let raw_calls: Vec<ChatToolCall<'a>> = list.objects()?;
        self.open.clear();
        let mut calls = Vec::with_capacity(raw_calls.len());
        for (index, raw) in raw_calls.iter().enumerate() {
            let path = list.path.index(index);
            let id = path.key("id").find(raw.id).map(|id| id.string());
            let id = match id.transpose()? {
                Some(id) if !id.is_empty() => id.decode(),
                _ => Cow::Owned(format!("call_{}", self.made)),
            };
            self.made += 1;
            let function = path
                .key("function")
                .need(raw.function, "an object with name and arguments")?;
            let fields: CalledFunction<'a> = function.object()?;
            let name = function.path.key("name");
            let name = name.need(fields.name, "the function's name")?.name()?;
            let arguments = function.path.key("arguments").find(fields.arguments);
            self.open.push((id.clone(), name));
            calls.push(ToolCall {
                id,
                name,
                arguments: match arguments {
                    None => Arguments::Text(JsonStr::from_escaped("{}")),
                    // Some clients send OpenAI's form.
                    Some(arguments) if arguments.first() == b'"' => {
                        Arguments::Text(arguments.string()?)
                    }
                    Some(arguments) if arguments.first() == b'{' => {
                        Arguments::Object(arguments.raw.into())
                    }
                    Some(arguments) => return Err(arguments.expected("an object")),
                },
            });
        }
        Ok(calls)
    }

    /// The id of the call that a result answers: the one it names, else the first open one of the tool's name, else the first open one.
    fn answer(
        &mut self,
        id: Option<JsonStr<'a>>,
        name: Option<JsonStr<'a>>,
    ) -> Option<Cow<'a, str>> {
        let id = id.filter(|id| !id.is_empty()).map(JsonStr::decode);
        let mut open = self.open.iter();
        let at = match (&id, name) {
            (Some(id), _) => open.position(|(open, _)| open == id),
            (None, Some(name)) => open.position(|(_, open)| *open == name).or(Some(0)),
            (None, None) => Some(0),
        };
        let answered = at
            .filter(|at| *at < self.open.len())
            .map(|at| self.open.remove(at).0);
        id.or(answered)
    }
}

/// Ollama's images: base64 without a URL round it. A data URL, which some clients send, is taken apart.
fn images<'a>(list: Option<Value<'a, '_>>) -> Result<Vec<Part<'a>>, Refusal> {
    let Some(list) = list else {
        return Ok(Vec::new());
    };
    let raw_images = list.list()?;
    let mut images = Vec::with_capacity(raw_images.len());
    for (index, raw) in raw_images.into_iter().enumerate() {
        let path = list.path.index(index);
        let text = Value { raw, path }.string()?.as_escaped();
        let base64 = match text.split_once(";base64,") {
            Some((head, data)) if head.starts_with("data:") => data,
            _ => text,
        };
        let is_base64 = |byte: u8| byte.is_ascii_alphanumeric() || b"+/=-_".contains(&byte);
        // PHP escapes the slash; encoders of old break lines.
        let plain = |byte: u8| is_base64(byte) || byte == b'\\';
        if base64.is_empty() || !base64.bytes().all(plain) {
            return Err(path.wrong("expected an image in base64"));
        }
        images.push(Part::Image {
            media_type: media_type(base64),
            base64: JsonStr::from_escaped(base64),
        });
    }
    Ok(images)
}

/// Tells an image's media type by its first bytes.
fn media_type(base64: &str) -> &'static str {
    let mut start = [0u8; 12];
    let digits = base64.bytes().filter(|byte| *byte != b'\\').take(16);
    let (mut bits, mut held) = (0u32, 0u32);
    let mut bytes = start.iter_mut();
    for digit in digits {
        let value = match digit {
            b'A'..=b'Z' => digit - b'A',
            b'a'..=b'z' => digit - b'a' + 26,
            b'0'..=b'9' => digit - b'0' + 52,
            b'+' | b'-' => 62,
            b'/' | b'_' => 63,
            _ => break,
        };
        bits = (bits << 6) | u32::from(value);
        held += 6;
        if held >= 8 {
            held -= 8;
            if let Some(byte) = bytes.next() {
                *byte = u8::try_from((bits >> held) & 0xff).unwrap_or_default();
            }
        }
    }
    match start {
        [0x89, b'P', b'N', b'G', ..] => "image/png",
        [0xFF, 0xD8, 0xFF, ..] => "image/jpeg",
        [b'G', b'I', b'F', b'8', ..] => "image/gif",
        [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'E', b'B', b'P'] => "image/webp",
        [b'B', b'M', ..] => "image/bmp",
        [b'I', b'I', 0x2A, 0, ..] | [b'M', b'M', 0, 0x2A, ..] => "image/tiff",
        [_, _, _, _, b'f', b't', b'y', b'p', b'a', b'v', b'i', b'f'] => "image/avif",
        [_, _, _, _, b'f', b't', b'y', b'p', b'h', b'e', b'i', _] => "image/heic",
        _ => "application/octet-stream",
    }
}

pub(super) fn parameters<'a>(
    options: Option<JsonValue<'a>>,
    format: Option<JsonValue<'a>>,
    think: Option<JsonValue<'a>>,
) -> Result<Parameters<'a>, Refusal> {
    let path = Path::root("options");
    let options: Options<'a> = path
        .find(options)
        .map_or(Ok(Options::default()), |value| value.object())?;
    let number = |key, raw, range| {
        let value = path.key(key).find(raw);
        value.map(|value| value.number(range)).transpose()
    };
    // Zero and less mean "no limit" or "off" for each of these.
    let positive = |key, raw| -> Result<Option<u64>, Refusal> {
        let value = path.key(key).find(raw);
        let count = value.map(|value| value.integer()).transpose()?;
        Ok(count
            .and_then(|count| u64::try_from(count).ok())
            .filter(|count| *count > 0))
    };
    let seed = path.key("seed").find(options.seed);
    let stop = path.key("stop").find(options.stop);
    // Clients write OpenAI's name too; Ollama's wins, where it is given.
    let max_tokens = match options.num_predict {
        Some(_) => positive("num_predict", options.num_predict)?,
        None => positive("max_tokens", options.max_tokens)?,
    };
    Ok(Parameters {
        max_tokens,
        temperature: number("temperature", options.temperature, 0.0..=2.0)?,
        top_p: number("top_p", options.top_p, 0.0..=1.0)?,
        top_k: positive("top_k", options.top_k)?,
        min_p: number("min_p", options.min_p, 0.0..=1.0)?,
        repeat_penalty: number("repeat_penalty", options.repeat_penalty, 0.0..=100.0)?,
        presence_penalty: number("presence_penalty", options.presence_penalty, -2.0..=2.0)?,
        frequency_penalty: number("frequency_penalty", options.frequency_penalty, -2.0..=2.0)?,
        seed: seed.map(|value| value.integer()).transpose()?,
        num_ctx: positive("num_ctx", options.num_ctx)?,
        stop: stop.map_or(Ok(Vec::new()), |value| value.stop_sequences(STOPS))?,
        response_format: response_format(format)?,
        reasoning_effort: reasoning_effort(think)?,
        ..Parameters::default()
    })
}

fn response_format(raw: Option<JsonValue<'_>>) -> Result<Option<ResponseFormat<'_>>, Refusal> {
    let Some(value) = Path::root("format").find(raw) else {
        return Ok(None);
    };
    match value.raw.get() {
        "\"\"" => Ok(None),
        "\"json\"" => Ok(Some(ResponseFormat::Json)),
        _ if value.first() == b'{' => Ok(Some(ResponseFormat::Schema(value.raw.into()))),
        _ if value.first() == b'"' => Err(value
            .path
            .wrong("unknown format; expected json or a JSON Schema object")),
        _ => Err(value.expected("\"json\" or a JSON Schema object")),
    }
}

/// `think` as OpenAI's `reasoning_effort`, whose default is medium.
fn reasoning_effort(raw: Option<JsonValue<'_>>) -> Result<Option<JsonStr<'_>>, Refusal> {
    const EXPECTED: &str = "true, false, low, medium, high or max";
    let Some(value) = Path::root("think").find(raw) else {
        return Ok(None);
    };
    Ok(Some(JsonStr::from_escaped(match value.raw.get() {
        "true" => "medium",
        "false" => "none",
        "\"low\"" => "low",
        "\"medium\"" => "medium",
        "\"high\"" => "high",
        "\"max\"" => "xhigh",
        _ if value.first() == b'"' => {
            let path = value.path;
            return Err(path.wrong(format_args!("unknown level; expected {EXPECTED}")));
        }
        _ => return Err(value.expected(EXPECTED)),
    })))
}
