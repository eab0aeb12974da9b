//! Anthropic's requests as neutral invocations.

use crate::config::Limits;
use crate::dialect::Parsed;
use crate::dialect::anthropic::blocks::{
    Block, content, kind, not_by, part, said, tool_result, tool_use,
};
use crate::dialect::anthropic::response::MessageEncoder;
use crate::dialect::body::{self, Field, Path, Value, raw_fields};
use crate::dialect::fields;
use crate::error::Refusal;
use crate::invocation::{
    Content, Invocation, Message, Parameters, ResponseFormat, Role, Task, ToolCall,
};
use crate::text::{JsonStr, JsonValue, RawJson};
use alloc::boxed::Box;
use alloc::vec::Vec;

/// Most stop sequences of one request.
const STOPS: usize = 32;

raw_fields! {
    /// The body of a request.
    Request {
        model: "model",
        messages: "messages" of Turn,
        system: "system",
        max_tokens: "max_tokens",
        stop_sequences: "stop_sequences",
        stream: "stream",
        temperature: "temperature",
        top_p: "top_p",
        top_k: "top_k",
        metadata: "metadata",
        tools: "tools",
        tool_choice: "tool_choice",
        thinking: "thinking",
        output_config: "output_config",
        output_format: "output_format",
    }
}

raw_fields! {
    /// One of `messages`.
    Turn { role: "role", content: "content" }
}

raw_fields! {
    /// One of `tools`.
    Tool {
        kind: "type",
        name: "name",
        description: "description",
        input_schema: "input_schema",
        strict: "strict",
    }
}

raw_fields! {
    /// `tool_choice`.
    Choice { kind: "type", name: "name", alone: "disable_parallel_tool_use" }
}

raw_fields! {
    /// `thinking`.
    Thinking { kind: "type", budget_tokens: "budget_tokens", display: "display" }
}

raw_fields! {
    /// `output_config`.
    OutputConfig { effort: "effort", format: "format" }
}

raw_fields! {
    /// The form of a structured answer.
    Format { kind: "type", schema: "schema" }
}

raw_fields! {
    /// `metadata`.
    Metadata { user_id: "user_id" }
}

/// Reads the body of `POST /v1/messages`.
///
/// # Errors
/// What is wrong with the request, beginning with the field's path; see [`Limits`] for `messages`, `content_bytes` and
/// `json_depth`. A tool's result counts as a message.
pub fn messages_request<'a>(body: &'a str, limits: &Limits) -> Result<Parsed<'a>, Refusal> {
    parsed(body, limits, false)
}

/// Reads the body of `POST /v1/messages/count_tokens`, whose answer is an estimate.
///
/// # Errors
/// As [`messages_request`].
pub fn count_tokens_request<'a>(body: &'a str, limits: &Limits) -> Result<Parsed<'a>, Refusal> {
    parsed(body, limits, true)
}

fn parsed<'a>(body: &'a str, limits: &Limits, counts: bool) -> Result<Parsed<'a>, Refusal> {
    let mut request: Request<'a> = body::read(body, limits)?;
    let model = fields::model(request.model)?;
    let mut reader = Reader {
        limits,
        messages: Vec::new(),
    };
    reader.system(Path::root("system").find(request.system))?;
    let path = Path::root("messages");
    let list = request.messages.take();
    let list = list.ok_or_else(|| path.missing("a list of messages"))?;
    let digest_of = list.raw().get();
    let turns = fields::messages(list, path, limits)?;
    if turns.is_empty() {
        return Err(path.wrong("expected at least one message, found none"));
    }
    for (index, turn) in turns.iter().enumerate() {
        reader.turn(turn, &path.index(index))?;
        let count = reader.messages.len();
        if count > limits.messages {
            return Err(fields::too_many_messages(count, path, limits));
        }
    }
    let stream = fields::boolean("stream", request.stream)?.unwrap_or(false);
    let (parameters, thinks) = parameters(&request)?;
    if parameters.max_tokens.is_none() && !counts {
        return Err(Path::root("max_tokens").wrong("missing; expected a whole number from 1"));
    }
    let stops = parameters.stop.clone();
    let invocation = Invocation {
        model,
        task: Task::Chat {
            messages: reader.messages,
        },
        stream: stream && !counts,
        parameters,
    };
    let tokens = invocation.estimated_prompt_tokens();
    Ok(Parsed {
        stream: invocation.stream,
        invocation,
        encoder: Box::new(if counts {
            MessageEncoder::counted(tokens)
        } else {
            MessageEncoder::new(tokens, thinks, stops)
        }),
        more: Vec::new(),
        digest_of,
        load_only: counts,
    })
}

/// Collects the neutral messages: one turn of Anthropic's may be several, as each tool's result is a message of its own.
struct Reader<'a, 'l> {
    limits: &'l Limits,
    messages: Vec<Message<'a>>,
}

impl<'a> Reader<'a, '_> {
    fn push(&mut self, role: Role, content: Content<'a>, tool_calls: Vec<ToolCall<'a>>) {
        self.messages.push(Message {
            role,
            content,
            name: None,
            tool_calls,
            tool_call_id: None,
        });
    }

    fn system(&mut self, value: Option<Value<'a, '_>>) -> Result<(), Refusal> {
        let Some(value) = value else {
            return Ok(());
        };
        let content = said(&value, self.limits)?;
        match &content {
            Content::Text(text) if text.is_empty() => {}
            Content::Parts(parts) if parts.is_empty() => {}
            Content::Text(_) | Content::Parts(_) | Content::None => {
                self.push(Role::System, content, Vec::new());
            }
        }
        Ok(())
    }

    fn turn(&mut self, turn: &Turn<'a>, path: &Path<'_>) -> Result<(), Refusal> {
        const EXPECTED: &str = "user, assistant or system";
        let role = path.key("role").need(turn.role, EXPECTED)?;
        let role = match &*role.string()?.decode() {
            "user" => Role::User,
            "assistant" => Role::Assistant,
            // Not in the reference, but sent by Claude Code.
            "system" => Role::System,
            _ => {
                return Err(role
                    .path
                    .wrong(format_args!("unknown role; expected {EXPECTED}")));
            }
        };
        let value = path.key("content");
        let value = value.need(turn.content, "a string or a list of blocks")?;
        if value.first() != b'[' {
            let content = said(&value, self.limits)?;
            self.push(role, content, Vec::new());
            return Ok(());
        }
        let blocks: Vec<Block<'a>> = value.objects()?;
        let (mut parts, mut calls) = (Vec::new(), Vec::new());
        let before = self.messages.len();
        for (index, block) in blocks.iter().enumerate() {
            let path = value.path.index(index);
            let kind = kind(block, &path)?;
            match (&*kind, role) {
                ("tool_use", Role::Assistant) => calls.push(tool_use(block, &path)?),
                ("tool_result", Role::User) => {
                    self.messages.push(tool_result(block, &path, self.limits)?);
                }
                ("tool_use" | "tool_result", _) => return Err(not_by(&kind, role, &path)),
                _ => part(&kind, block, &path, &mut parts)?,
            }
        }
        fields::check_parts(&parts, value.path, self.limits)?;
        // The results come first, because they answer the calls of the message before.
        if !parts.is_empty() || !calls.is_empty() || self.messages.len() == before {
            let content = if parts.is_empty() && !calls.is_empty() {
                Content::None
            } else {
                content(parts)
            };
            self.push(role, content, calls);
        }
        Ok(())
    }
}

/// The parameters, and whether the client wants to see the thinking.
fn parameters<'a>(request: &Request<'a>) -> Result<(Parameters<'a>, bool), Refusal> {
    let fraction = |key, raw| {
        let value = Path::root(key).find(raw);
        value.map(|value| value.number(0.0..=1.0)).transpose()
    };
    let count = |key, raw, least: i64| -> Result<Option<u64>, Refusal> {
        let Some(value) = Path::root(key).find(raw) else {
            return Ok(None);
        };
        match value.integer()? {
            number if number >= least => Ok(u64::try_from(number).ok()),
            _ => Err(value.expected(format_args!("a whole number from {least}"))),
        }
    };
    let stops = Path::root("stop_sequences").find(request.stop_sequences);
    let (tool_choice, parallel_tool_calls) = tool_choice(request.tool_choice)?;
    let (thinks, mut effort) = thinking(request.thinking)?;
    let path = Path::root("output_config");
    let config = path.find(request.output_config);
    let config: OutputConfig<'a> =
        config.map_or(Ok(OutputConfig::default()), |config| config.object())?;
    if let Some(asked) = path.key("effort").find(config.effort) {
        effort = Some(match asked.name()?.as_escaped() {
            "max" => JsonStr::from_escaped("xhigh"),
            other => JsonStr::from_escaped(other),
        });
    }
    let response_format = match path.key("format").find(config.format) {
        Some(value) => format_of(&value)?,
        None => match Path::root("output_format").find(request.output_format) {
            Some(value) => format_of(&value)?,
            None => None,
        },
    };
    let path = Path::root("metadata");
    let metadata = path.find(request.metadata);
    let metadata: Metadata<'a> =
        metadata.map_or(Ok(Metadata::default()), |metadata| metadata.object())?;
    let user = path.key("user_id").find(metadata.user_id);
    let parameters = Parameters {
        max_tokens: count("max_tokens", request.max_tokens, 1)?,
        temperature: fraction("temperature", request.temperature)?,
        top_p: fraction("top_p", request.top_p)?,
        top_k: count("top_k", request.top_k, 0)?,
        stop: stops.map_or(Ok(Vec::new()), |value| value.stop_sequences(STOPS))?,
        user: user.map(|value| value.string()).transpose()?,
        tools: tools(request.tools)?,
        tool_choice,
        parallel_tool_calls,
        response_format,
        reasoning_effort: effort,
        ..Parameters::default()
    };
    Ok((parameters, thinks))
}

/// Tools that the caller runs. Those that Anthropic would run have another `type`, and an agent cannot call them.
fn tools(raw: Option<JsonValue<'_>>) -> Result<Vec<RawJson<'_>>, Refusal> {
    let path = Path::root("tools");
    let Some(list) = path.find(raw) else {
        return Ok(Vec::new());
    };
    let mut tools = Vec::new();
    for (index, tool) in list.objects::<Tool<'_>>()?.iter().enumerate() {
        let path = path.index(index);
        if let Some(kind) = path.key("type").find(tool.kind)
            && kind.string()?.decode() != "custom"
        {
            continue;
        }
        let name = path.key("name").need(tool.name, "the tool's name")?;
        name.name()?;
        let schema = path.key("input_schema");
        let schema = schema.need(tool.input_schema, "a JSON Schema object")?;
        if schema.first() != b'{' {
            return Err(schema.expected("a JSON Schema object"));
        }
        let description = path.key("description").find(tool.description);
        description.map(|text| text.string()).transpose()?;
        let strict = path.key("strict").find(tool.strict);
        strict.map(|flag| flag.boolean()).transpose()?;
        tools.push(fields::function_tool(
            name.raw,
            tool.description,
            Some(schema.raw),
            tool.strict,
        ));
    }
    Ok(tools)
}

type ToolChoice<'a> = (Option<RawJson<'a>>, Option<bool>);

/// OpenAI's `tool_choice` and `parallel_tool_calls`.
fn tool_choice(raw: Option<JsonValue<'_>>) -> Result<ToolChoice<'_>, Refusal> {
    const EXPECTED: &str = "auto, any, tool or none";
    let path = Path::root("tool_choice");
    let Some(value) = path.find(raw) else {
        return Ok((None, None));
    };
    let choice: Choice<'_> = value.object()?;
    let kind = path.key("type").need(choice.kind, EXPECTED)?;
    let mode = match &*kind.string()?.decode() {
        "auto" => RawJson::from_text("\"auto\""),
        "any" => RawJson::from_text("\"required\""),
        "none" => RawJson::from_text("\"none\""),
        "tool" => {
            let name = path.key("name").need(choice.name, "the tool's name")?;
            name.name()?;
            fields::function_choice(name.raw)
        }
        _ => {
            return Err(kind
                .path
                .wrong(format_args!("unknown choice; expected {EXPECTED}")));
        }
    };
    let alone = path.key("disable_parallel_tool_use").find(choice.alone);
    let alone = alone.map(|flag| flag.boolean()).transpose()?;
    Ok((Some(mode), alone.filter(|alone| *alone).map(|_| false)))
}

/// Reads `thinking`: true when thinking is shown, and OpenAI's `reasoning_effort` for it.
fn thinking(raw: Option<JsonValue<'_>>) -> Result<(bool, Option<JsonStr<'_>>), Refusal> {
    const EXPECTED: &str = "enabled, adaptive or disabled";
    let path = Path::root("thinking");
    let Some(value) = path.find(raw) else {
        return Ok((false, None));
    };
    let thinking: Thinking<'_> = value.object()?;
    let kind = path.key("type").need(thinking.kind, EXPECTED)?;
    let effort = match &*kind.string()?.decode() {
        "disabled" => return Ok((false, Some(JsonStr::from_escaped("none")))),
        "adaptive" => None,
        "enabled" => {
            let budget = path.key("budget_tokens").find(thinking.budget_tokens);
            budget
                .map(|budget| budget.integer())
                .transpose()?
                .map(|budget| match budget {
                    ..=4096 => "low",
                    4097..=16_384 => "medium",
                    _ => "high",
                })
        }
        _ => {
            return Err(kind
                .path
                .wrong(format_args!("unknown type; expected {EXPECTED}")));
        }
    };
    let shown = thinking
        .display
        .is_none_or(|display| display.get() != "\"omitted\"");
    Ok((shown, effort.map(JsonStr::from_escaped)))
}

fn format_of<'a>(value: &Value<'a, '_>) -> Result<Option<ResponseFormat<'a>>, Refusal> {
    let format: Format<'a> = value.object()?;
    let kind = value.path.key("type").need(format.kind, "json_schema")?;
    if kind.string()?.decode() != "json_schema" {
        return Err(kind.path.wrong("unknown type; expected json_schema"));
    }
    let schema = value.path.key("schema");
    let schema = schema.need(format.schema, "a JSON Schema object")?;
    if schema.first() != b'{' {
        return Err(schema.expected("a JSON Schema object"));
    }
    Ok(Some(ResponseFormat::Schema(schema.raw.into())))
}
