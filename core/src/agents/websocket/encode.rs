//! Messages that the provider writes to an agent over WebSocket (version 1 of the agent protocol).

use crate::agents::writer::Writer;
use crate::id::ExchangeId;
use crate::invocation::{CancelReason, InvokeForm, Parameters, ResponseFormat, Task};
use crate::link::{Echo, Invoke, Registered, SessionStatus, ToAgent};
use crate::text::{JsonStr, RawJson};
use crate::time::{Instant, WallClock};
use alloc::string::String;

/// Bytes of `model_invoke` without its text, as a rule.
const FRAME: usize = 640;

/// Writes a message as the text of one frame. `None` for a ping, which is a WebSocket's own (RFC 6455, section 5.5.2).
#[must_use]
pub fn encode(message: &ToAgent, wall: &WallClock) -> Option<String> {
    Some(match message {
        ToAgent::Invoke { invoke, at } => self::invoke(invoke, *at, wall),
        ToAgent::Cancel(exchange, why) => cancel(*exchange, *why),
        ToAgent::Registered(it) => registered(it),
        ToAgent::SessionStatus(it) => session_status(it),
        ToAgent::Error { id, code, message } => error(id.as_ref(), code, message),
        ToAgent::Pong { timestamp, at } => match timestamp {
            Some(timestamp) => pong(timestamp),
            None => pong(&alloc::format!("\"{}\"", wall.rfc3339(*at))),
        },
        ToAgent::Ping => return None,
    })
}

/// Writes `model_invoke`. Parameters that the caller did not give are absent.
fn invoke(to: &Invoke, now: Instant, wall: &WallClock) -> String {
    let invocation = to.request.invocation_of(to.prompt);
    let mut json = Writer::with_capacity(text_len(&invocation.task) + FRAME);
    json.raw("{\"type\":\"model_invoke\",\"id\":\"");
    to.id.write(&mut json.out);
    json.raw("\",\"session_id\":");
    json.plain(to.permit.session().as_str());
    json.raw(",\"timestamp\":\"");
    wall.write_rfc3339(now, &mut json.out);
    json.raw("\"");
    if to.form == InvokeForm::Nested {
        json.raw(",\"model_meta\":{\"provider\":\"mcp-local-provider\",\"label\":");
        json.plain(&to.label);
        json.raw(",\"requested_scopes\":[\"inference\"]},\"payload\":{\"kind\":\"");
        json.raw(match invocation.task {
            Task::Chat { .. } => "chat",
            Task::Completion { .. } => "completion",
            Task::Embedding { .. } => "embedding",
        });
        json.raw("\"");
    }
    json.raw(",\"model\":");
    json.plain(&to.model);
    match &invocation.task {
        Task::Chat { messages } => {
            json.raw(",\"messages\":");
            json.list(messages, Writer::message);
        }
        Task::Completion { prompt, suffix } => {
            json.raw(",\"prompt\":");
            json.text(*prompt);
            if let Some(suffix) = suffix {
                json.raw(",\"suffix\":");
                json.text(*suffix);
            }
        }
        Task::Embedding { input } => {
            json.raw(",\"input\":");
            json.list(input, |json, text| json.text(*text));
        }
    }
    if to.form == InvokeForm::Nested {
        json.raw(",\"parameters\":{");
    }
    if !matches!(invocation.task, Task::Embedding { .. }) {
        json.switch("stream", Some(invocation.stream));
    }
    write_parameters(&mut json, &invocation.parameters);
    json.raw(match to.form {
        InvokeForm::Nested => "}}}",
        InvokeForm::Flat => "}",
    });
    json.finish()
}

/// Writes `model_cancel`.
fn cancel(exchange: ExchangeId, why: CancelReason) -> String {
    let mut json = Writer::with_capacity(96);
    json.raw("{\"type\":\"model_cancel\",\"id\":\"");
    exchange.write(&mut json.out);
    json.raw("\",\"reason\":\"");
    json.raw(why.as_str());
    json.raw("\"}");
    json.finish()
}

/// Writes `error`.
fn error(id: Option<&Echo>, code: &str, message: &str) -> String {
    let mut json = Writer::with_capacity(128 + message.len());
    json.raw("{\"type\":\"error\"");
    if let Some(id) = id {
        json.raw(",\"id\":");
        json.text(JsonStr::from_escaped(id.as_escaped()));
    }
    json.raw(",\"error\":{\"code\":");
    json.plain(code);
    json.raw(",\"message\":");
    json.plain(message);
    json.raw("}}");
    json.finish()
}

/// Writes `pong`; `timestamp` is a JSON value.
fn pong(timestamp: &str) -> String {
    let mut json = Writer::with_capacity(96);
    json.raw("{\"type\":\"pong\",\"timestamp\":");
    json.json(timestamp);
    json.raw("}");
    json.finish()
}

/// Writes `registered`.
fn registered(it: &Registered) -> String {
    let mut json = Writer::with_capacity(256);
    json.raw("{\"type\":\"registered\",\"session_id\":");
    json.plain(it.session.as_str());
    if let Some(token) = &it.token {
        json.raw(",\"session_token\":");
        json.plain(token);
    }
    json.raw(",\"status\":");
    json.plain(it.status);
    json.raw(",\"expires_at\":");
    json.plain(&it.expires_at);
    json.raw("}");
    json.finish()
}

/// Writes `session_status`.
fn session_status(it: &SessionStatus) -> String {
    let mut json = Writer::with_capacity(160);
    json.raw("{\"type\":\"session_status\",\"session_id\":");
    json.plain(it.session.as_str());
    json.raw(",\"status\":");
    json.plain(it.status);
    json.raw(",\"reason\":");
    json.plain(it.reason);
    json.raw("}");
    json.finish()
}

/// Bytes of text of a task, to write the frame in one allocation most of the time.
fn text_len(task: &Task<'_>) -> usize {
    match task {
        Task::Chat { messages } => messages.iter().map(|message| message.text_len() + 64).sum(),
        Task::Completion { prompt, suffix } => prompt.len() + suffix.map_or(0, JsonStr::len),
        Task::Embedding { input } => input.iter().map(|text| text.len() + 3).sum(),
    }
}

/// Writes the parameters that the caller gave, under their names in OpenAI's API.
fn write_parameters(json: &mut Writer, parameters: &Parameters<'_>) {
    json.whole("max_tokens", parameters.max_tokens);
    json.number("temperature", parameters.temperature);
    json.number("top_p", parameters.top_p);
    json.whole("top_k", parameters.top_k);
    json.number("min_p", parameters.min_p);
    json.number("presence_penalty", parameters.presence_penalty);
    json.number("frequency_penalty", parameters.frequency_penalty);
    json.number("repeat_penalty", parameters.repeat_penalty);
    json.whole("seed", parameters.seed);
    json.whole("n", parameters.n);
    json.whole("num_ctx", parameters.num_ctx);
    if !parameters.stop.is_empty() {
        json.key("stop");
        json.list(&parameters.stop, |json, stop| json.plain(stop));
    }
    if let Some(user) = parameters.user {
        json.key("user");
        json.text(user);
    }
    json.value("metadata", parameters.metadata.as_ref());
    if !parameters.tools.is_empty() {
        json.key("tools");
        json.list(&parameters.tools, |json, tool| json.json(tool.get()));
    }
    json.value("tool_choice", parameters.tool_choice.as_ref());
    json.switch("parallel_tool_calls", parameters.parallel_tool_calls);
    match &parameters.response_format {
        None => {}
        Some(ResponseFormat::OpenAi(raw)) => json.value("response_format", Some(raw)),
        Some(ResponseFormat::Json) => {
            let object = RawJson::from_text("{\"type\":\"json_object\"}");
            json.value("response_format", Some(&object));
        }
        Some(ResponseFormat::Schema(raw)) => {
            json.key("response_format");
            json.raw(
                "{\"type\":\"json_schema\",\"json_schema\":{\"name\":\"response\",\"schema\":",
            );
            json.json(raw.get());
            json.raw("}}");
        }
    }
    if let Some(effort) = parameters.reasoning_effort {
        json.key("reasoning_effort");
        json.text(effort);
    }
    json.switch("logprobs", parameters.logprobs);
    json.whole("top_logprobs", parameters.top_logprobs);
    json.value("logit_bias", parameters.logit_bias.as_ref());
    json.whole("dimensions", parameters.dimensions);
}

#[cfg(test)]
mod tests;
