//! Requests in OpenAI's API.

use super::Api;
use super::media::cannot;
use crate::agents::writer::Writer;
use crate::error::Refusal;
use crate::invocation::{Invocation, Parameters, ResponseFormat, Task};
use crate::text::RawJson;
use alloc::vec::Vec;

/// Most stop sequences; this program applies all of them itself.
const STOPS: usize = 4;

/// The path and the body.
pub(super) fn written(
    api: Api,
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
            json.list(messages, Writer::message);
            json.whole(limit_name(api), parameters.max_tokens);
            streaming(&mut json, invocation.stream);
            sampling(&mut json, parameters);
            of_chat(&mut json, parameters);
            "/chat/completions"
        }
        Task::Completion { prompt, suffix } => {
            if parameters.response_format.is_some() {
                return Err(cannot(api, "format", "a form of a completion's text"));
            }
            json.key("prompt");
            json.text(*prompt);
            if let Some(suffix) = suffix {
                json.key("suffix");
                json.text(*suffix);
            }
            json.whole("max_tokens", parameters.max_tokens);
            streaming(&mut json, invocation.stream);
            sampling(&mut json, parameters);
            "/completions"
        }
        Task::Embedding { input } => {
            json.key("input");
            json.list(input, |json, text| json.text(*text));
            json.whole("dimensions", parameters.dimensions);
            "/embeddings"
        }
    };
    if let Some(user) = parameters.user {
        json.key("user");
        json.text(user);
    }
    json.raw("}");
    Ok((path, json.out))
}

/// OpenAI's newer models refuse the older name, and other servers do not all know the newer one.
const fn limit_name(api: Api) -> &'static str {
    match api {
        Api::OpenAi => "max_completion_tokens",
        Api::Custom | Api::Anthropic | Api::Ollama => "max_tokens",
    }
}

/// Tokens are counted at the end of a stream only where that is asked for.
fn streaming(json: &mut Writer, stream: bool) {
    json.switch("stream", Some(stream));
    if stream {
        json.key("stream_options");
        json.raw("{\"include_usage\":true}");
    }
}

/// What chats and completions share.
fn sampling(json: &mut Writer, parameters: &Parameters<'_>) {
    json.number("temperature", parameters.temperature);
    json.number("top_p", parameters.top_p);
    json.number("presence_penalty", parameters.presence_penalty);
    json.number("frequency_penalty", parameters.frequency_penalty);
    json.whole("seed", parameters.seed);
    if let Some(stops) = parameters.stop.get(..parameters.stop.len().min(STOPS))
        && !stops.is_empty()
    {
        json.key("stop");
        json.list(stops, |json, stop| json.plain(stop));
    }
    json.value("logit_bias", parameters.logit_bias.as_ref());
}

fn of_chat(json: &mut Writer, parameters: &Parameters<'_>) {
    json.value("metadata", parameters.metadata.as_ref());
    if !parameters.tools.is_empty() {
        json.key("tools");
        json.list(&parameters.tools, |json, tool| json.json(tool.get()));
        // The server refuses both without tools.
        json.value("tool_choice", parameters.tool_choice.as_ref());
        json.switch("parallel_tool_calls", parameters.parallel_tool_calls);
    }
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
}
