//! Requests in Anthropic's API.

use super::Api;
use super::media::{Medium, cannot};
use crate::agents::writer::Writer;
use crate::dialect::answer::write_arguments;
use crate::error::Refusal;
use crate::invocation::{
    Arguments, Content, Invocation, Message, ParameterSet, Parameters, Part, ResponseFormat, Role,
    Task, ToolCall,
};
use crate::text::{JsonStr, JsonValue, RawJson};
use alloc::borrow::Cow;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

/// Longest answer in tokens where the client names none: the API wants a number.
const MAX_TOKENS: u64 = 8192;

/// The path and the body, and the parameters that the API takes but not beside others that the client gave.
pub(super) fn written(
    invocation: &Invocation<'_>,
    model: &str,
) -> Result<(&'static str, Vec<u8>, ParameterSet), Refusal> {
    let parameters = &invocation.parameters;
    let mut json = conversation(invocation, model)?;
    json.whole(
        "max_tokens",
        Some(parameters.max_tokens.unwrap_or(MAX_TOKENS)),
    );
    json.switch("stream", Some(invocation.stream));
    let thinks = thinking(&mut json, parameters)?;
    let ignored = if thinks {
        ParameterSet::of(&["temperature", "top_p", "top_k"])
    } else {
        // OpenAI's scale goes to 2.
        json.number("temperature", parameters.temperature.map(|it| it.min(1.0)));
        json.number("top_p", parameters.top_p);
        json.whole("top_k", parameters.top_k);
        ParameterSet::EMPTY
    };
    let stops = parameters
        .stop
        .iter()
        .filter(|stop| !stop.trim().is_empty());
    let stops: Vec<&String> = stops.collect();
    if !stops.is_empty() {
        json.key("stop_sequences");
        json.list(&stops, |json, stop| json.plain(stop));
    }
    if let Some(user) = parameters.user {
        json.key("metadata");
        json.raw("{\"user_id\":");
        json.text(user);
        json.raw("}");
    }
    json.raw("}");
    Ok(("/v1/messages", json.out, ignored))
}

/// The body of `count_tokens`.
pub(super) fn counted(invocation: &Invocation<'_>, model: &str) -> Result<Vec<u8>, Refusal> {
    let mut json = conversation(invocation, model)?;
    json.raw("}");
    Ok(json.out)
}

/// What is counted as the prompt.
fn conversation(invocation: &Invocation<'_>, model: &str) -> Result<Writer, Refusal> {
    let mut json = Writer::with_capacity(4096);
    json.raw("{\"model\":");
    json.plain(model);
    match &invocation.task {
        Task::Chat { messages } => {
            system(&mut json, messages)?;
            turns(&mut json, messages)?;
        }
        Task::Completion {
            suffix: None,
            prompt,
        } => {
            json.key("messages");
            json.raw("[{\"role\":\"user\",\"content\":");
            json.text(*prompt);
            json.raw("}]");
        }
        Task::Completion {
            suffix: Some(_), ..
        } => {
            return Err(cannot(Api::Anthropic, "suffix", "a gap to fill in"));
        }
        Task::Embedding { .. } => {
            return Err(cannot(Api::Anthropic, "input", "text to turn into vectors"));
        }
    }
    tools(&mut json, &invocation.parameters)?;
    Ok(json)
}

const fn is_system(role: Role) -> bool {
    match role {
        Role::System | Role::Developer => true,
        Role::User | Role::Assistant | Role::Tool | Role::Function => false,
    }
}

/// All instructions, wherever they stand in the conversation: the API has one place for them.
fn system(json: &mut Writer, messages: &[Message<'_>]) -> Result<(), Refusal> {
    let said = messages.iter().filter(|message| is_system(message.role));
    let blocks = said.map(|message| blocks(&message.content));
    let blocks = blocks.collect::<Result<Vec<_>, _>>()?.concat();
    if !blocks.is_empty() {
        json.key("system");
        content(json, &blocks);
    }
    Ok(())
}

/// One block of a turn.
#[derive(Clone)]
enum Block<'m> {
    Text(JsonStr<'m>),
    Image(Cow<'m, str>, Cow<'m, str>),
    ImageAt(Cow<'m, str>),
    Pdf(Option<JsonStr<'m>>, Cow<'m, str>),
    Call(&'m ToolCall<'m>),
    Result(&'m str, Vec<Block<'m>>),
}

/// The content of a message. Empty texts are left out, which the API refuses.
fn blocks<'m>(content: &'m Content<'_>) -> Result<Vec<Block<'m>>, Refusal> {
    let mut blocks = Vec::new();
    match content {
        Content::None => {}
        Content::Text(text) => blocks.push(Block::Text(*text)),
        Content::Parts(parts) => {
            for part in parts {
                blocks.push(block(part)?);
            }
        }
    }
    blocks.retain(|block| !matches!(block, Block::Text(text) if text.is_empty()));
    Ok(blocks)
}

fn block<'m>(part: &'m Part<'_>) -> Result<Block<'m>, Refusal> {
    const IMAGES: [&str; 4] = ["image/png", "image/jpeg", "image/gif", "image/webp"];
    Ok(match Medium::of(part) {
        Medium::Text(text) => Block::Text(text),
        Medium::Image { media_type, base64 } => {
            if !IMAGES.contains(&&*media_type) {
                let what = format!("an image of type {media_type}");
                return Err(cannot(Api::Anthropic, "messages", &what));
            }
            Block::Image(media_type, base64)
        }
        Medium::ImageAt(url) => Block::ImageAt(url),
        Medium::Pdf { name, base64 } => Block::Pdf(name, base64),
        Medium::Other(kind) => {
            let what = format!("a part of type {kind}");
            return Err(cannot(Api::Anthropic, "messages", &what));
        }
    })
}

/// The turns of the conversation. Results of tools are said by the user, those that follow one another in one turn.
fn turns(json: &mut Writer, messages: &[Message<'_>]) -> Result<(), Refusal> {
    let mut turns: Vec<(&'static str, Vec<Block<'_>>)> = Vec::with_capacity(messages.len());
    let mut after_result = false;
    for message in messages.iter().filter(|message| !is_system(message.role)) {
        let mut said = blocks(&message.content)?;
        let is_result = matches!(message.role, Role::Tool | Role::Function);
        let speaker = match message.role {
            Role::Assistant => "assistant",
            Role::System | Role::Developer | Role::User | Role::Tool | Role::Function => "user",
        };
        if is_result {
            let Some(id) = message.tool_call_id.as_deref() else {
                let what = "a result that names no call (tool_call_id)";
                return Err(cannot(Api::Anthropic, "messages", what));
            };
            said = Vec::from([Block::Result(id, said)]);
        }
        said.extend(message.tool_calls.iter().map(Block::Call));
        match turns.last_mut().filter(|_| after_result && is_result) {
            Some((_, turn)) => turn.append(&mut said),
            None if said.is_empty() => {}
            None => turns.push((speaker, said)),
        }
        after_result = is_result;
    }
    json.key("messages");
    json.list(&turns, |json, (speaker, said)| {
        json.raw("{\"role\":");
        json.plain(speaker);
        json.key("content");
        content(json, said);
        json.raw("}");
    });
    Ok(())
}

/// One text as a string, anything else as a list.
fn content(json: &mut Writer, blocks: &[Block<'_>]) {
    match blocks {
        [Block::Text(text)] => json.text(*text),
        _ => json.list(blocks, write_block),
    }
}

fn write_block(json: &mut Writer, block: &Block<'_>) {
    match block {
        Block::Text(text) => {
            json.raw("{\"type\":\"text\",\"text\":");
            json.text(*text);
            json.raw("}");
        }
        Block::Image(media_type, base64) => {
            json.raw("{\"type\":\"image\",\"source\":{\"type\":\"base64\",\"media_type\":");
            json.plain(media_type);
            json.raw(",\"data\":");
            json.plain(base64);
            json.raw("}}");
        }
        Block::ImageAt(url) => {
            json.raw("{\"type\":\"image\",\"source\":{\"type\":\"url\",\"url\":");
            json.plain(url);
            json.raw("}}");
        }
        Block::Pdf(name, base64) => {
            json.raw("{\"type\":\"document\",\"source\":{\"type\":\"base64\",\"media_type\":\"application/pdf\",\"data\":");
            json.plain(base64);
            json.raw("}");
            if let Some(name) = name {
                json.key("title");
                json.text(*name);
            }
            json.raw("}");
        }
        Block::Call(call) => {
            json.raw("{\"type\":\"tool_use\",\"id\":");
            json.plain(&call_id(&call.id));
            json.raw(",\"name\":");
            json.text(call.name);
            json.raw(",\"input\":");
            match &call.arguments {
                Arguments::Object(raw) => json.json(raw.get()),
                Arguments::Text(text) => {
                    write_arguments(text.as_escaped().as_bytes(), &mut json.out);
                }
            }
            json.raw("}");
        }
        Block::Result(id, said) => {
            json.raw("{\"type\":\"tool_result\",\"tool_use_id\":");
            json.plain(&call_id(id));
            if !said.is_empty() {
                json.key("content");
                content(json, said);
            }
            json.raw("}");
        }
    }
}

/// The id of a call in the characters that the API takes; other servers make ids of others.
fn call_id(id: &str) -> Cow<'_, str> {
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
    if id.chars().all(fits) {
        return Cow::Borrowed(id);
    }
    Cow::Owned(id.chars().map(|c| if fits(c) { c } else { '_' }).collect())
}

fn tools(json: &mut Writer, parameters: &Parameters<'_>) -> Result<(), Refusal> {
    if parameters.tools.is_empty() {
        return Ok(());
    }
    json.key("tools");
    json.list(&parameters.tools, tool);
    let choice = match &parameters.tool_choice {
        Some(choice) => Some(mode(choice)?),
        None => None,
    };
    let is_alone = parameters.parallel_tool_calls == Some(false);
    if choice.is_none() && !is_alone {
        return Ok(());
    }
    json.key("tool_choice");
    let (kind, name) = choice.unwrap_or(("auto", None));
    json.raw("{\"type\":");
    json.plain(kind);
    if let Some(name) = name {
        json.key("name");
        json.text(name);
    }
    if is_alone && kind != "none" {
        json.switch("disable_parallel_tool_use", Some(true));
    }
    json.raw("}");
    Ok(())
}

/// A tool, from OpenAI's form.
fn tool(json: &mut Writer, tool: &RawJson<'_>) {
    let function = JsonValue::read(tool.get()).and_then(|tool| tool.member("function"));
    let find = |name| {
        let found = function.and_then(|function| function.member(name));
        found.filter(|value| !value.is_null())
    };
    json.raw("{\"name\":");
    json.json(find("name").map_or("\"\"", JsonValue::get));
    if let Some(description) = find("description") {
        json.key("description");
        json.json(description.get());
    }
    json.key("input_schema");
    let none = "{\"type\":\"object\",\"properties\":{}}";
    json.json(find("parameters").map_or(none, JsonValue::get));
    if let Some(strict) = find("strict") {
        json.key("strict");
        json.json(strict.get());
    }
    json.raw("}");
}

/// OpenAI's `tool_choice` as a type, and the tool that it names.
fn mode<'c>(choice: &'c RawJson<'_>) -> Result<(&'static str, Option<JsonStr<'c>>), Refusal> {
    Ok(match choice.get() {
        "\"auto\"" => ("auto", None),
        "\"required\"" => ("any", None),
        "\"none\"" => ("none", None),
        json => {
            let value = JsonValue::read(json);
            let name = value.and_then(|value| value.path(&["function", "name"])?.as_str());
            let Some(name) = name else {
                let what = "a choice that is none of auto, required, none and one function";
                return Err(cannot(Api::Anthropic, "tool_choice", what));
            };
            ("tool", Some(name))
        }
    })
}

/// Writes how much the model is to think and the form of its answer; true when it thinks.
fn thinking(json: &mut Writer, parameters: &Parameters<'_>) -> Result<bool, Refusal> {
    let effort = parameters.reasoning_effort.map(JsonStr::decode);
    let choice = parameters.tool_choice.as_ref();
    let is_forced = !parameters.tools.is_empty()
        && choice.is_some_and(|choice| !matches!(choice.get(), "\"auto\"" | "\"none\""));
    // A model that has to call a tool cannot think before it does.
    let thinks = match effort.as_deref() {
        None => false,
        Some("none") => {
            json.key("thinking");
            json.raw("{\"type\":\"disabled\"}");
            false
        }
        Some(_) if is_forced => false,
        Some(_) => {
            json.key("thinking");
            json.raw("{\"type\":\"adaptive\",\"display\":\"summarized\"}");
            true
        }
    };
    let schema = schema(parameters.response_format.as_ref())?;
    let effort = effort.filter(|effort| effort != "none");
    if schema.is_none() && effort.is_none() {
        return Ok(thinks);
    }
    json.key("output_config");
    json.raw("{");
    if let Some(effort) = effort {
        json.key("effort");
        json.plain(match &*effort {
            "minimal" => "low",
            "xhigh" => "max",
            other => other,
        });
    }
    if let Some(schema) = schema {
        json.key("format");
        json.raw("{\"type\":\"json_schema\",\"schema\":");
        json.json(schema);
        json.raw("}");
    }
    json.raw("}");
    Ok(thinks)
}

/// The schema of the answer.
fn schema<'f>(format: Option<&'f ResponseFormat<'_>>) -> Result<Option<&'f str>, Refusal> {
    let any = |field| cannot(Api::Anthropic, field, "JSON without a schema");
    match format {
        None => Ok(None),
        Some(ResponseFormat::Schema(schema)) => Ok(Some(schema.get())),
        Some(ResponseFormat::Json) => Err(any("format")),
        Some(ResponseFormat::OpenAi(raw)) => {
            let value = JsonValue::read(raw.get());
            let schema = value.and_then(|value| value.path(&["json_schema", "schema"]));
            let kind = value.and_then(|value| value.member("type")?.text());
            match (kind.as_deref(), schema) {
                (Some("text"), _) => Ok(None),
                (_, Some(schema)) => Ok(Some(schema.get())),
                (_, None) => Err(any("response_format")),
            }
        }
    }
}
