//! Fields that the requests of all dialects have.

use crate::config::Limits;
use crate::dialect::body::{Objects, Path, Take, Value, raw_fields};
use crate::error::{Code, Refusal};
use crate::invocation::{Part, Role};
use crate::text::{JsonStr, JsonValue, RawJson};
use alloc::borrow::Cow;
use alloc::format;
use alloc::string::ToString;
use alloc::vec::Vec;

/// Longest model name in bytes.
const MODEL_BYTES: usize = 256;

/// Texts that one request may have turned into vectors, as at OpenAI.
const INPUTS: usize = 2048;

raw_fields! {
    /// A tool definition in OpenAI's form, which Ollama shares.
    Tool { kind: "type", function: "function" }
}

raw_fields! {
    /// The function of a tool definition.
    Function { name: "name", parameters: "parameters" }
}

/// The model's name: at most 256 bytes without blanks and control characters. Empty where the client names none and leaves the
/// choice to the provider.
pub(crate) fn model(raw: Option<JsonValue<'_>>) -> Result<Cow<'_, str>, Refusal> {
    let Some(value) = Path::root("model").find(raw) else {
        return Ok(Cow::Borrowed(""));
    };
    let name = value.string()?.decode();
    let bytes = name.len();
    if bytes > MODEL_BYTES {
        return Err(value.path.wrong(format_args!(
            "{bytes} bytes; a model's name has at most {MODEL_BYTES}"
        )));
    }
    if name.contains(|c: char| c.is_whitespace() || c.is_control()) {
        return Err(value
            .path
            .wrong("a model's name has no blanks or control characters"));
    }
    Ok(name)
}

pub(crate) fn role(raw: Option<JsonValue<'_>>, path: Path<'_>) -> Result<Role, Refusal> {
    const EXPECTED: &str = "system, developer, user, assistant, tool or function";
    let value = path.need(raw, EXPECTED)?;
    Ok(match &*value.string()?.decode() {
        "system" => Role::System,
        "developer" => Role::Developer,
        "user" => Role::User,
        "assistant" => Role::Assistant,
        "tool" => Role::Tool,
        "function" => Role::Function,
        _ => {
            return Err(path.wrong(format_args!("unknown role; expected {EXPECTED}")));
        }
    })
}

/// Refuses a list of tokens, or of lists of them.
pub(crate) fn no_tokens(value: &Value<'_, '_>) -> Result<(), Refusal> {
    let inside = value
        .raw
        .get()
        .trim_start_matches(['[', ' ', '\t', '\r', '\n']);
    if value.first() == b'[' && inside.starts_with(|c: char| c == '-' || c.is_ascii_digit()) {
        return Err(value.path.wrong(
            "lists of tokens are not supported, as agents have no tokenizer in common; send text",
        ));
    }
    Ok(())
}

/// The texts to turn into vectors: a string or a list of strings, each not longer than `limits.content_bytes`.
pub(crate) fn inputs<'a>(
    value: &Value<'a, '_>,
    limits: &Limits,
) -> Result<Vec<JsonStr<'a>>, Refusal> {
    no_tokens(value)?;
    let texts = match value.first() {
        b'"' => alloc::vec![value.string()?],
        b'[' => {
            let list = value.list_within(INPUTS)?;
            let mut texts = Vec::with_capacity(list.len());
            for (index, raw) in list.into_iter().enumerate() {
                let path = value.path.index(index);
                texts.push(Value { raw, path }.string()?);
            }
            texts
        }
        _ => return Err(value.expected("a string or a list of strings")),
    };
    for text in &texts {
        check_bytes(core::iter::once(*text), value.path, limits)?;
    }
    Ok(texts)
}

/// The length that vectors are to have.
pub(crate) fn dimensions(raw: Option<JsonValue<'_>>) -> Result<Option<u64>, Refusal> {
    let Some(value) = Path::root("dimensions").find(raw) else {
        return Ok(None);
    };
    match u64::try_from(value.integer()?) {
        Ok(count) if count > 0 => Ok(Some(count)),
        _ => Err(value.expected("a positive whole number")),
    }
}

/// The list of messages, not longer than `limits.messages`.
pub(crate) fn messages<'a, T: Take<'a>>(
    list: Objects<'a, T>,
    path: Path<'_>,
    limits: &Limits,
) -> Result<Vec<T>, Refusal> {
    list.within(limits.messages, path, |count| {
        too_many_messages(count, path, limits)
    })
}

/// The refusal of more than `limits.messages`.
pub(crate) fn too_many_messages(count: usize, path: Path<'_>, limits: &Limits) -> Refusal {
    path.wrong(format_args!(
        "{count} messages; limits.messages is {}",
        limits.messages
    ))
}

/// The texts of one message, together not longer than `limits.content_bytes`. Media are not counted; `limits.body_bytes`
/// holds them.
pub(crate) fn check_bytes<'a>(
    texts: impl Iterator<Item = JsonStr<'a>> + Clone,
    path: Path<'_>,
    limits: &Limits,
) -> Result<(), Refusal> {
    // The escaped form is never shorter than the text, and nearly always within the limit too.
    if texts.clone().map(JsonStr::len).sum::<usize>() <= limits.content_bytes {
        return Ok(());
    }
    let bytes: usize = texts.map(|text| text.decode().len()).sum();
    if bytes <= limits.content_bytes {
        return Ok(());
    }
    let param = path.to_string();
    Err(Refusal::new(
        Code::TooLarge,
        format!(
            "{param}: {bytes} bytes; limits.content_bytes is {}",
            limits.content_bytes
        ),
    )
    .at(param))
}

/// The texts of the parts of one message, as [`check_bytes`].
pub(crate) fn check_parts(
    parts: &[Part<'_>],
    path: Path<'_>,
    limits: &Limits,
) -> Result<(), Refusal> {
    let texts = parts.iter().filter_map(|part| match part {
        Part::Text(text) => Some(*text),
        Part::Image { .. } | Part::Other(_) => None,
    });
    check_bytes(texts, path, limits)
}

/// Tool definitions, passed on as they came.
pub(crate) fn tools(raw: Option<JsonValue<'_>>) -> Result<Vec<RawJson<'_>>, Refusal> {
    let path = Path::root("tools");
    let Some(list) = path.find(raw) else {
        return Ok(Vec::new());
    };
    let raw_tools = list.list()?;
    let mut tools = Vec::with_capacity(raw_tools.len());
    for (index, raw) in raw_tools.into_iter().enumerate() {
        let path = path.index(index);
        let tool: Tool<'_> = Value { raw, path }.object()?;
        if let Some(kind) = path.key("type").find(tool.kind)
            && kind.string()?.decode() != "function"
        {
            return Err(kind.path.wrong("only tools of type function are supported"));
        }
        let function = path
            .key("function")
            .need(tool.function, "an object with the function's name")?;
        let fields: Function<'_> = function.object()?;
        function
            .path
            .key("name")
            .need(fields.name, "the function's name")?
            .name()?;
        if let Some(parameters) = function.path.key("parameters").find(fields.parameters)
            && parameters.first() != b'{'
        {
            return Err(parameters.expected("a JSON Schema object"));
        }
        tools.push(raw.into());
    }
    Ok(tools)
}

/// The value of a flag.
pub(crate) fn boolean(
    key: &'static str,
    raw: Option<JsonValue<'_>>,
) -> Result<Option<bool>, Refusal> {
    let value = Path::root(key).find(raw);
    value.map(|value| value.boolean()).transpose()
}

/// A tool in OpenAI's form, made of the parts that the client gave.
pub(crate) fn function_tool(
    name: JsonValue<'_>,
    description: Option<JsonValue<'_>>,
    parameters: Option<JsonValue<'_>>,
    strict: Option<JsonValue<'_>>,
) -> RawJson<'static> {
    let mut json = format!("{{\"type\":\"function\",\"function\":{{\"name\":{name}");
    for (key, value) in [
        ("description", description),
        ("parameters", parameters),
        ("strict", strict),
    ] {
        if let Some(value) = value {
            json.push_str(",\"");
            json.push_str(key);
            json.push_str("\":");
            json.push_str(value.get());
        }
    }
    json.push_str("}}");
    RawJson::from_parts(json)
}

/// The choice of one tool in OpenAI's form.
pub(crate) fn function_choice(name: JsonValue<'_>) -> RawJson<'static> {
    RawJson::from_parts(format!(
        "{{\"type\":\"function\",\"function\":{{\"name\":{name}}}}}"
    ))
}
