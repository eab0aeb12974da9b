//! Messages that the provider writes to an agent over WebSocket (version 1 of the agent protocol).

use crate::id::ExchangeId;
use crate::invocation::{
    Arguments, CancelReason, Content, InvokeForm, Message, Parameters, Part, ResponseFormat, Task,
    ToolCall,
};
use crate::link::{Echo, Invoke, Registered, SessionStatus, ToAgent};
use crate::text::{Joiner, JsonStr, RawJson, escape_into};
use crate::time::{Instant, WallClock};
use alloc::string::String;
use alloc::vec::Vec;

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
    let mut json = Writer::with_capacity(text_len(&invocation.task) + 1024);
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
    json.parameters(&invocation.parameters);
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

/// Writes JSON whose shape the caller keeps.
struct Writer {
    out: Vec<u8>,
    scratch: Vec<u8>,
}

impl Writer {
    fn with_capacity(bytes: usize) -> Self {
        Self {
            out: Vec::with_capacity(bytes),
            scratch: Vec::new(),
        }
    }

    fn finish(self) -> String {
        // Everything that was written is UTF-8.
        String::from_utf8(self.out).unwrap_or_default()
    }

    fn raw(&mut self, json: &str) {
        self.out.extend_from_slice(json.as_bytes());
    }

    /// A string that is not yet escaped.
    fn plain(&mut self, text: &str) {
        self.raw("\"");
        escape_into(&mut self.out, text);
        self.raw("\"");
    }

    /// A string that is escaped. Lone surrogate halves, which many JSON readers refuse, become U+FFFD.
    fn text(&mut self, text: JsonStr<'_>) {
        let mut joiner = Joiner::default();
        self.out.push(b'"');
        self.out
            .extend_from_slice(joiner.mend(text, &mut self.scratch));
        self.out.extend_from_slice(joiner.finish());
        self.out.push(b'"');
    }

    /// A value that a client or an agent wrote, mended as text is.
    fn json(&mut self, json: &str) {
        // Escapes and line separators are in its strings only, so that all of it can be taken for the inside of one.
        let inside = JsonStr::from_escaped(json);
        self.out
            .extend_from_slice(Joiner::default().mend(inside, &mut self.scratch));
    }

    fn flag(&mut self, flag: bool) {
        self.raw(if flag { "true" } else { "false" });
    }

    fn list<E>(&mut self, elements: &[E], mut write: impl FnMut(&mut Self, &E)) {
        self.raw("[");
        for (position, element) in elements.iter().enumerate() {
            if position > 0 {
                self.raw(",");
            }
            write(self, element);
        }
        self.raw("]");
    }

    fn message(&mut self, message: &Message<'_>) {
        self.raw("{\"role\":");
        self.plain(message.role.as_str());
        self.raw(",\"content\":");
        match &message.content {
            Content::None => self.raw("null"),
            Content::Text(text) => self.text(*text),
            Content::Parts(parts) => self.list(parts, Self::part),
        }
        if let Some(name) = message.name {
            self.raw(",\"name\":");
            self.text(name);
        }
        if !message.tool_calls.is_empty() {
            self.raw(",\"tool_calls\":");
            self.list(&message.tool_calls, Self::tool_call);
        }
        if let Some(id) = &message.tool_call_id {
            self.raw(",\"tool_call_id\":");
            self.plain(id);
        }
        self.raw("}");
    }

    fn part(&mut self, part: &Part<'_>) {
        match part {
            Part::Text(text) => {
                self.raw("{\"type\":\"text\",\"text\":");
                self.text(*text);
                self.raw("}");
            }
            Part::Image { media_type, base64 } => {
                self.raw("{\"type\":\"image_url\",\"image_url\":{\"url\":\"data:");
                self.raw(media_type);
                self.raw(";base64,");
                self.json(base64.as_escaped());
                self.raw("\"}}");
            }
            Part::Other(raw) => self.json(raw.get()),
        }
    }

    fn tool_call(&mut self, call: &ToolCall<'_>) {
        self.raw("{\"id\":");
        self.plain(&call.id);
        self.raw(",\"type\":\"function\",\"function\":{\"name\":");
        self.text(call.name);
        self.raw(",\"arguments\":");
        match &call.arguments {
            Arguments::Text(text) => self.text(*text),
            Arguments::Object(raw) => {
                let (mut joiner, mut scratch) = (Joiner::default(), Vec::new());
                let json = joiner.mend(JsonStr::from_escaped(raw.get()), &mut scratch);
                self.plain(core::str::from_utf8(json).unwrap_or_default());
            }
        }
        self.raw("}}");
    }

    fn parameters(&mut self, parameters: &Parameters<'_>) {
        self.whole("max_tokens", parameters.max_tokens);
        self.number("temperature", parameters.temperature);
        self.number("top_p", parameters.top_p);
        self.whole("top_k", parameters.top_k);
        self.number("min_p", parameters.min_p);
        self.number("presence_penalty", parameters.presence_penalty);
        self.number("frequency_penalty", parameters.frequency_penalty);
        self.number("repeat_penalty", parameters.repeat_penalty);
        self.whole("seed", parameters.seed);
        self.whole("n", parameters.n);
        self.whole("num_ctx", parameters.num_ctx);
        if !parameters.stop.is_empty() {
            self.key("stop");
            self.list(&parameters.stop, |json, stop| json.plain(stop));
        }
        if let Some(user) = parameters.user {
            self.key("user");
            self.text(user);
        }
        self.value("metadata", parameters.metadata.as_ref());
        if !parameters.tools.is_empty() {
            self.key("tools");
            self.list(&parameters.tools, |json, tool| json.json(tool.get()));
        }
        self.value("tool_choice", parameters.tool_choice.as_ref());
        self.switch("parallel_tool_calls", parameters.parallel_tool_calls);
        match &parameters.response_format {
            None => {}
            Some(ResponseFormat::OpenAi(raw)) => self.value("response_format", Some(raw)),
            Some(ResponseFormat::Json) => {
                let json = RawJson::from_text("{\"type\":\"json_object\"}");
                self.value("response_format", Some(&json));
            }
            Some(ResponseFormat::Schema(raw)) => {
                self.key("response_format");
                self.raw(
                    "{\"type\":\"json_schema\",\"json_schema\":{\"name\":\"response\",\"schema\":",
                );
                self.json(raw.get());
                self.raw("}}");
            }
        }
        if let Some(effort) = parameters.reasoning_effort {
            self.key("reasoning_effort");
            self.text(effort);
        }
        self.switch("logprobs", parameters.logprobs);
        self.whole("top_logprobs", parameters.top_logprobs);
        self.value("logit_bias", parameters.logit_bias.as_ref());
        self.whole("dimensions", parameters.dimensions);
    }

    /// The name of a parameter; the first follows its brace.
    fn key(&mut self, name: &str) {
        self.raw(if self.out.ends_with(b"{") {
            "\""
        } else {
            ",\""
        });
        self.raw(name);
        self.raw("\":");
    }

    fn value(&mut self, name: &str, json: Option<&RawJson<'_>>) {
        if let Some(json) = json {
            self.key(name);
            self.json(json.get());
        }
    }

    fn whole(&mut self, name: &str, number: Option<impl itoa::Integer>) {
        if let Some(number) = number {
            self.key(name);
            self.raw(itoa::Buffer::new().format(number));
        }
    }

    /// JSON has no form for what is not finite: such a number is left out.
    fn number(&mut self, name: &str, number: Option<f64>) {
        if let Some(number) = number.and_then(serde_json::Number::from_f64) {
            self.key(name);
            self.raw(&alloc::string::ToString::to_string(&number));
        }
    }

    fn switch(&mut self, name: &str, flag: Option<bool>) {
        if let Some(flag) = flag {
            self.key(name);
            self.flag(flag);
        }
    }
}

#[cfg(test)]
mod tests;
