//! Requests in Ollama's API.

use super::Api;
use super::media::{Medium, cannot};
use crate::agents::writer::Writer;
use crate::dialect::answer::write_arguments;
use crate::error::Refusal;
use crate::invocation::{
    Arguments, Content, Invocation, Message, Parameters, ResponseFormat, Role, Task, ToolCall,
};
use crate::text::{JsonStr, JsonValue};
use alloc::borrow::Cow;
use alloc::vec::Vec;

/// The path and the body.
pub(super) fn written(
    invocation: &Invocation<'_>,
    model: &str,
) -> Result<(&'static str, Vec<u8>), Refusal> {
    let mut json = Writer::with_capacity(4096);
    json.raw("{\"model\":");
    json.plain(model);
    let parameters = &invocation.parameters;
    let path = match &invocation.task {
        Task::Chat { messages } => {
            json.key("messages");
            json.raw("[");
            for (at, one) in messages.iter().enumerate() {
                if at > 0 {
                    json.raw(",");
                }
                let before = messages.get(..at).unwrap_or_default();
                message(&mut json, one, before)?;
            }
            json.raw("]");
            if !parameters.tools.is_empty() && !forbids_tools(parameters) {
                json.key("tools");
                json.list(&parameters.tools, |json, tool| json.json(tool.get()));
            }
            of_text(&mut json, invocation.stream, parameters);
            "/api/chat"
        }
        Task::Completion { prompt, suffix } => {
            json.key("prompt");
            json.text(*prompt);
            match suffix {
                Some(suffix) => {
                    json.key("suffix");
                    json.text(*suffix);
                }
                // Without it the prompt would become a message of a conversation.
                None => json.switch("raw", Some(true)),
            }
            of_text(&mut json, invocation.stream, parameters);
            "/api/generate"
        }
        Task::Embedding { input } => {
            json.key("input");
            json.list(input, |json, text| json.text(*text));
            json.whole("dimensions", parameters.dimensions);
            if parameters.num_ctx.is_some() {
                json.key("options");
                json.raw("{");
                json.whole("num_ctx", parameters.num_ctx);
                json.raw("}");
            }
            "/api/embed"
        }
    };
    json.raw("}");
    Ok((path, json.out))
}

/// Ollama has no choice of tools: where none may be called, none is offered.
fn forbids_tools(parameters: &Parameters<'_>) -> bool {
    let choice = parameters.tool_choice.as_ref();
    choice.is_some_and(|choice| choice.get() == "\"none\"")
}

fn of_text(json: &mut Writer, stream: bool, parameters: &Parameters<'_>) {
    json.switch("stream", Some(stream));
    format(json, parameters.response_format.as_ref());
    if let Some(effort) = parameters.reasoning_effort {
        json.key("think");
        match &*effort.decode() {
            "none" => json.flag(false),
            "minimal" => json.plain("low"),
            "xhigh" => json.plain("max"),
            level => json.plain(level),
        }
    }
    json.key("options");
    json.raw("{");
    json.whole("num_predict", parameters.max_tokens);
    json.number("temperature", parameters.temperature);
    json.number("top_p", parameters.top_p);
    json.whole("top_k", parameters.top_k);
    json.number("min_p", parameters.min_p);
    json.number("presence_penalty", parameters.presence_penalty);
    json.number("frequency_penalty", parameters.frequency_penalty);
    json.number("repeat_penalty", parameters.repeat_penalty);
    json.whole("seed", parameters.seed);
    json.whole("num_ctx", parameters.num_ctx);
    if !parameters.stop.is_empty() {
        json.key("stop");
        json.list(&parameters.stop, |json, stop| json.plain(stop));
    }
    json.raw("}");
}

fn format(json: &mut Writer, format: Option<&ResponseFormat<'_>>) {
    match format {
        None => {}
        Some(ResponseFormat::Json) => {
            json.key("format");
            json.plain("json");
        }
        Some(ResponseFormat::Schema(schema)) => json.value("format", Some(schema)),
        Some(ResponseFormat::OpenAi(raw)) => {
            let value = JsonValue::read(raw.get());
            let kind = value.and_then(|value| value.member("type")?.text());
            let schema = value.and_then(|value| value.path(&["json_schema", "schema"]));
            match (kind.as_deref(), schema) {
                (Some("json_schema"), Some(schema)) => {
                    json.key("format");
                    json.json(schema.get());
                }
                (Some("json_schema" | "json_object"), _) => {
                    json.key("format");
                    json.plain("json");
                }
                _ => {}
            }
        }
    }
}

/// One message; `before` are those that precede it, in which the tool of a result is named.
fn message(
    json: &mut Writer,
    message: &Message<'_>,
    before: &[Message<'_>],
) -> Result<(), Refusal> {
    json.raw("{\"role\":");
    json.plain(match message.role {
        Role::System | Role::Developer => "system",
        Role::User => "user",
        Role::Assistant => "assistant",
        Role::Tool | Role::Function => "tool",
    });
    content(json, &message.content)?;
    if !message.tool_calls.is_empty() {
        json.key("tool_calls");
        json.list(&message.tool_calls, tool_call);
    }
    if matches!(message.role, Role::Tool | Role::Function) {
        if let Some(name) = message.name.or_else(|| name_of(message, before)) {
            json.key("tool_name");
            json.text(name);
        }
        if let Some(id) = &message.tool_call_id {
            json.key("tool_call_id");
            json.plain(id);
        }
    }
    json.raw("}");
    Ok(())
}

/// The name of the tool whose result a message is.
fn name_of<'m>(message: &Message<'_>, before: &[Message<'m>]) -> Option<JsonStr<'m>> {
    let id = message.tool_call_id.as_deref()?;
    let mut calls = before.iter().rev().flat_map(|message| &message.tool_calls);
    calls.find(|call| call.id == id).map(|call| call.name)
}

/// The texts of a message in one, a line each, and its images beside them.
fn content(json: &mut Writer, content: &Content<'_>) -> Result<(), Refusal> {
    json.key("content");
    let parts = match content {
        Content::None => {
            json.raw("\"\"");
            return Ok(());
        }
        Content::Text(text) => {
            json.text(*text);
            return Ok(());
        }
        Content::Parts(parts) => parts,
    };
    let mut images: Vec<Cow<'_, str>> = Vec::new();
    let mut is_first = true;
    json.raw("\"");
    for part in parts {
        match Medium::of(part) {
            Medium::Text(text) => {
                if !core::mem::take(&mut is_first) {
                    json.raw("\\n");
                }
                json.inside(text);
            }
            Medium::Image { base64, .. } => images.push(base64),
            Medium::ImageAt(_) => {
                let what = "the address of an image (send the image as a data URL)";
                return Err(cannot(Api::Ollama, "messages", what));
            }
            Medium::Pdf { .. } => return Err(cannot(Api::Ollama, "messages", "a file")),
            Medium::Other(kind) => {
                let what = alloc::format!("a part of type {kind}");
                return Err(cannot(Api::Ollama, "messages", &what));
            }
        }
    }
    json.raw("\"");
    if !images.is_empty() {
        json.key("images");
        json.list(&images, |json, image| json.plain(image));
    }
    Ok(())
}

fn tool_call(json: &mut Writer, call: &ToolCall<'_>) {
    json.raw("{\"id\":");
    json.plain(&call.id);
    json.raw(",\"function\":{\"name\":");
    json.text(call.name);
    json.raw(",\"arguments\":");
    match &call.arguments {
        Arguments::Object(raw) => json.json(raw.get()),
        Arguments::Text(text) => write_arguments(text.as_escaped().as_bytes(), &mut json.out),
    }
    json.raw("}}");
}
