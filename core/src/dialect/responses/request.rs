//! Requests for a response as neutral invocations.

use crate::config::Limits;
use crate::dialect::Parsed;
use crate::dialect::answer::write_compact;
use crate::dialect::body::{self, Path, Value, raw_fields};
use crate::dialect::fields;
use crate::dialect::responses::items::Items;
use crate::dialect::responses::response::ResponseEncoder;
use crate::error::{Code, Refusal};
use crate::invocation::{Invocation, Parameters, ResponseFormat, Role, Task};
use crate::text::{JsonValue, RawJson};
use alloc::borrow::Cow;
use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

raw_fields! {
    /// The body of a request.
    Request {
        model: "model",
        input: "input",
        instructions: "instructions",
        previous_response_id: "previous_response_id",
        store: "store",
        stream: "stream",
        max_output_tokens: "max_output_tokens",
        temperature: "temperature",
        top_p: "top_p",
        tools: "tools",
        tool_choice: "tool_choice",
        parallel_tool_calls: "parallel_tool_calls",
        text: "text",
        reasoning: "reasoning",
        metadata: "metadata",
        user: "user",
        background: "background",
        conversation: "conversation",
        prompt: "prompt",
    }
}

raw_fields! {
    /// The field that decides which conversation the request continues.
    Continued { previous: "previous_response_id" }
}

raw_fields! {
    /// One of `tools`.
    Tool {
        kind: "type",
        name: "name",
        description: "description",
        parameters: "parameters",
        strict: "strict",
    }
}

raw_fields! {
    /// `tool_choice` as an object.
    Choice { kind: "type", name: "name", mode: "mode" }
}

raw_fields! {
    /// `text`.
    Text { format: "format" }
}

raw_fields! {
    /// The form of a structured answer.
    Format {
        kind: "type",
        name: "name",
        description: "description",
        schema: "schema",
        strict: "strict",
    }
}

raw_fields! {
    /// `reasoning`.
    Reasoning { effort: "effort" }
}

/// The response that a request continues from, so that a driver can look its conversation up before it reads the request. Of
/// a body that is wrong it finds nothing; [`create_request`] says why.
#[must_use]
pub fn previous_response_id<'a>(body: &'a str, limits: &Limits) -> Option<Cow<'a, str>> {
    // Nearly no request has it, and this costs less than to read the body twice.
    memchr::memmem::find(body.as_bytes(), b"previous_response_id")?;
    let fields: Continued<'a> = body::read(body, limits).ok()?;
    fields.previous?.text()
}

/// Reads the body of `POST /v1/responses`. `history` is the conversation of the response that it continues from: a JSON list
/// of items, as [`crate::hub::responses::Responses`] keeps them.
///
/// # Errors
/// What is wrong with the request, with the field's path as `param`; see [`Limits`] for `messages`, `content_bytes` and
/// `json_depth`. 404 when it continues from a response and there is no `history`.
pub fn create_request<'a>(
    body: &'a str,
    history: Option<&'a [u8]>,
    limits: &Limits,
) -> Result<Parsed<'a>, Refusal> {
    let request: Request<'a> = body::read(body, limits)?;
    let model = fields::model(request.model)?;
    refuse_what_is_kept_elsewhere(&request)?;
    let previous = Path::root("previous_response_id").find(request.previous_response_id);
    if let Some(previous) = &previous {
        let id = previous.string()?;
        if history.is_none() {
            return Err(unknown_response(&id.decode()));
        }
    }
    let stores = fields::boolean("store", request.store)?.unwrap_or(true);
    let mut items = Items::new(limits, stores);
    if let Some(instructions) = Path::root("instructions").find(request.instructions) {
        let text = instructions.string()?;
        fields::check_bytes(core::iter::once(text), instructions.path, limits)?;
        if !text.is_empty() {
            items.say(Role::System, text);
        }
    }
    if let (Some(history), true) = (history, previous.is_some()) {
        items.read_history(history)?;
    }
    let path = Path::root("input");
    let input = path.need(request.input, "a string or a list of items")?;
    items.read(&input)?;
    if items.is_empty() {
        return Err(path.wrong("expected at least one message, found none"));
    }
    let stream = fields::boolean("stream", request.stream)?.unwrap_or(false);
    let (messages, conversation) = items.finish();
    let parameters = parameters(&request)?;
    let encoder = ResponseEncoder::new(settings(&request, stores), conversation);
    Ok(Parsed {
        invocation: Invocation {
            model,
            task: Task::Chat { messages },
            stream,
            parameters,
        },
        encoder: Box::new(encoder),
        stream,
        more: Vec::new(),
        digest_of: input.raw.get(),
        load_only: false,
    })
}

/// The refusal of a `previous_response_id` that is not known, or not to this caller.
pub(crate) fn unknown_response(id: &str) -> Refusal {
    let id: String = id.chars().take(64).collect();
    Refusal::new(
        Code::ResponseNotFound,
        format!(
            "the response `{id}` is not kept here (any more); send the whole conversation as input"
        ),
    )
    .at("previous_response_id")
}

fn refuse_what_is_kept_elsewhere(request: &Request<'_>) -> Result<(), Refusal> {
    if fields::boolean("background", request.background)?.unwrap_or(false) {
        return Err(Path::root("background").wrong("answers are not made in the background here"));
    }
    for (key, raw) in [
        ("conversation", request.conversation),
        ("prompt", request.prompt),
    ] {
        if raw.is_some() {
            return Err(Path::root(key).wrong("none is kept here; send its content as input"));
        }
    }
    Ok(())
}

fn parameters<'a>(request: &Request<'a>) -> Result<Parameters<'a>, Refusal> {
    let number = |key, raw, range| {
        let value = Path::root(key).find(raw);
        value.map(|value| value.number(range)).transpose()
    };
    let max_tokens = match Path::root("max_output_tokens").find(request.max_output_tokens) {
        None => None,
        Some(value) => match value.integer()? {
            tokens if tokens > 0 => u64::try_from(tokens).ok(),
            _ => return Err(value.expected("a positive whole number")),
        },
    };
    let path = Path::root("reasoning");
    let reasoning = path.find(request.reasoning);
    let reasoning: Reasoning<'a> =
        reasoning.map_or(Ok(Reasoning::default()), |value| value.object())?;
    let effort = path.key("effort").find(reasoning.effort);
    let metadata = Path::root("metadata").find(request.metadata);
    if let Some(value) = &metadata
        && value.first() != b'{'
    {
        return Err(value.expected("an object"));
    }
    let user = Path::root("user").find(request.user);
    Ok(Parameters {
        max_tokens,
        temperature: number("temperature", request.temperature, 0.0..=2.0)?,
        top_p: number("top_p", request.top_p, 0.0..=1.0)?,
        user: user.map(|value| value.string()).transpose()?,
        metadata: metadata.map(|value| value.raw.into()),
        tools: tools(request.tools)?,
        tool_choice: tool_choice(request.tool_choice)?,
        parallel_tool_calls: fields::boolean("parallel_tool_calls", request.parallel_tool_calls)?,
        response_format: response_format(request.text)?,
        reasoning_effort: effort.map(|value| value.name()).transpose()?,
        ..Parameters::default()
    })
}

/// Functions, which the caller runs. An agent cannot call what OpenAI would run.
fn tools(raw: Option<JsonValue<'_>>) -> Result<Vec<RawJson<'_>>, Refusal> {
    let path = Path::root("tools");
    let Some(list) = path.find(raw) else {
        return Ok(Vec::new());
    };
    let mut tools = Vec::new();
    for (index, tool) in list.objects::<Tool<'_>>()?.iter().enumerate() {
        let path = path.index(index);
        let kind = path.key("type").need(tool.kind, "the tool's type")?;
        if kind.string()?.decode() != "function" {
            continue;
        }
        let name = path.key("name").need(tool.name, "the function's name")?;
        name.name()?;
        let description = path.key("description").find(tool.description);
        description.map(|text| text.string()).transpose()?;
        if let Some(parameters) = path.key("parameters").find(tool.parameters)
            && parameters.first() != b'{'
        {
            return Err(parameters.expected("a JSON Schema object"));
        }
        let strict = path.key("strict").find(tool.strict);
        strict.map(|flag| flag.boolean()).transpose()?;
        let (description, parameters) = (tool.description, tool.parameters);
        tools.push(fields::function_tool(
            name.raw,
            description,
            parameters,
            tool.strict,
        ));
    }
    Ok(tools)
}

fn tool_choice(raw: Option<JsonValue<'_>>) -> Result<Option<RawJson<'_>>, Refusal> {
    const EXPECTED: &str = "none, auto, required or an object that names a function";
    let path = Path::root("tool_choice");
    let Some(value) = path.find(raw) else {
        return Ok(None);
    };
    let mode = |value: &Value<'_, '_>| match &*value.string()?.decode() {
        "none" | "auto" | "required" => Ok(()),
        _ => Err(value
            .path
            .wrong(format_args!("unknown choice; expected {EXPECTED}"))),
    };
    match value.first() {
        b'"' => {
            mode(&value)?;
            Ok(Some(value.raw.into()))
        }
        b'{' => {
            let choice: Choice<'_> = value.object()?;
            let kind = path.key("type").need(choice.kind, "a string")?;
            match &*kind.string()?.decode() {
                "function" => {
                    let name = path.key("name").need(choice.name, "the function's name")?;
                    name.name()?;
                    Ok(Some(fields::function_choice(name.raw)))
                }
                "allowed_tools" => {
                    let allowed = path.key("mode").need(choice.mode, "auto or required")?;
                    mode(&allowed)?;
                    Ok(Some(allowed.raw.into()))
                }
                _ => Ok(None),
            }
        }
        _ => Err(value.expected(EXPECTED)),
    }
}

fn response_format(raw: Option<JsonValue<'_>>) -> Result<Option<ResponseFormat<'_>>, Refusal> {
    const EXPECTED: &str = "text, json_object or json_schema";
    let path = Path::root("text");
    let text = path.find(raw);
    let text: Text<'_> = text.map_or(Ok(Text::default()), |value| value.object())?;
    let path = path.key("format");
    let Some(value) = path.find(text.format) else {
        return Ok(None);
    };
    let format: Format<'_> = value.object()?;
    let kind = path.key("type").need(format.kind, EXPECTED)?;
    match &*kind.string()?.decode() {
        "text" => Ok(None),
        "json_object" => Ok(Some(ResponseFormat::Json)),
        "json_schema" => {
            let name = path.key("name").need(format.name, "the schema's name")?;
            name.name()?;
            let schema = path.key("schema");
            let schema = schema.need(format.schema, "a JSON Schema object")?;
            if schema.first() != b'{' {
                return Err(schema.expected("a JSON Schema object"));
            }
            let mut json = format!(
                "{{\"type\":\"json_schema\",\"json_schema\":{{\"name\":{},\"schema\":{}",
                name.raw, schema.raw
            );
            for (key, value) in [
                ("description", format.description),
                ("strict", format.strict),
            ] {
                if let Some(value) = value {
                    json.push_str(&format!(",\"{key}\":{value}"));
                }
            }
            json.push_str("}}");
            Ok(Some(ResponseFormat::OpenAi(RawJson::from_parts(json))))
        }
        _ => Err(kind
            .path
            .wrong(format_args!("unknown type; expected {EXPECTED}"))),
    }
}

/// Writes the settings of the request that its response repeats, as fields of an object, each with a comma behind it.
fn settings(request: &Request<'_>, stores: bool) -> Vec<u8> {
    let mut out = Vec::new();
    for (key, value, default) in [
        ("instructions", request.instructions, "null"),
        ("max_output_tokens", request.max_output_tokens, "null"),
        ("metadata", request.metadata, "{}"),
        ("parallel_tool_calls", request.parallel_tool_calls, "true"),
        ("previous_response_id", request.previous_response_id, "null"),
        (
            "reasoning",
            request.reasoning,
            "{\"effort\":null,\"summary\":null}",
        ),
        ("temperature", request.temperature, "1.0"),
        ("text", request.text, "{\"format\":{\"type\":\"text\"}}"),
        ("tool_choice", request.tool_choice, "\"auto\""),
        ("tools", request.tools, "[]"),
        ("top_p", request.top_p, "1.0"),
    ] {
        out.push(b'"');
        out.extend_from_slice(key.as_bytes());
        out.extend_from_slice(b"\":");
        write_compact(value.map_or(default, JsonValue::get), &mut out);
        out.push(b',');
    }
    // The reference has a string or nothing here, where others may be null.
    if let Some(user) = request.user {
        out.extend_from_slice(b"\"user\":");
        write_compact(user.get(), &mut out);
        out.push(b',');
    }
    out.extend_from_slice(b"\"store\":");
    out.extend_from_slice(if stores { b"true," } else { b"false," });
    out.extend_from_slice(b"\"background\":false,\"max_tool_calls\":null,\"service_tier\":\"default\",\"top_logprobs\":0,\"truncation\":\"disabled\",");
    out
}
