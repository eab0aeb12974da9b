//! What the provider writes to an agent over WebSocket (version 1 of the agent protocol).

use crate::id::{ExchangeId, SessionId};
use crate::invocation::{
    Arguments, CancelReason, Content, Invocation, Message, Parameters, Part, ResponseFormat, Task,
    ToolCall,
};
use crate::text::{Joiner, JsonStr, escape_into};
use crate::time::{Instant, WallClock};
use alloc::string::String;
use alloc::vec::Vec;

/// The subprotocol that is offered, and echoed when the peer asks for it.
pub const SUBPROTOCOL: &str = "mcp-local-provider.v1";

/// Writes `model_invoke` for one exchange.
///
/// `label` is the session's, `model` the agent's own name for the model, which may differ from what the client asked.
/// Parameters that the caller did not give are absent.
#[must_use]
pub fn invoke(
    exchange: ExchangeId,
    session: &SessionId,
    label: &str,
    model: &str,
    invocation: &Invocation<'_>,
    now: Instant,
    wall: WallClock,
) -> String {
    let mut json = Writer::with_capacity(text_len(&invocation.task) + 1024);
    json.raw("{\"type\":\"model_invoke\",\"id\":\"");
    exchange.write(&mut json.out);
    json.raw("\",\"session_id\":");
    json.plain(session.as_str());
    json.raw(",\"timestamp\":\"");
    wall.write_rfc3339(now, &mut json.out);
    json.raw("\",\"model_meta\":{\"provider\":\"mcp-local-provider\",\"label\":");
    json.plain(label);
    json.raw(",\"requested_scopes\":[\"inference\"]},\"payload\":{\"kind\":");
    match &invocation.task {
        Task::Chat { messages } => {
            json.raw("\"chat\",\"model\":");
            json.plain(model);
            json.raw(",\"messages\":");
            json.list(messages, Writer::message);
        }
        Task::Completion { prompt, suffix } => {
            json.raw("\"completion\",\"model\":");
            json.plain(model);
            json.raw(",\"prompt\":");
            json.text(*prompt);
            if let Some(suffix) = suffix {
                json.raw(",\"suffix\":");
                json.text(*suffix);
            }
        }
        Task::Embedding { input } => {
            json.raw("\"embedding\",\"model\":");
            json.plain(model);
            json.raw(",\"input\":");
            json.list(input, |json, text| json.text(*text));
        }
    }
    json.raw(",\"parameters\":{\"stream\":");
    json.flag(invocation.stream);
    json.parameters(&invocation.parameters);
    json.raw("}}}");
    json.finish()
}

/// Writes `model_cancel`.
pub(crate) fn cancel(exchange: ExchangeId, why: CancelReason) -> String {
    let mut json = Writer::with_capacity(96);
    json.raw("{\"type\":\"model_cancel\",\"id\":\"");
    exchange.write(&mut json.out);
    json.raw("\",\"reason\":\"");
    json.raw(why.as_str());
    json.raw("\"}");
    json.finish()
}

/// Writes `error`; `id` is still escaped.
pub(crate) fn error(id: Option<JsonStr<'_>>, code: &str, message: &str) -> String {
    let mut json = Writer::with_capacity(128 + message.len());
    json.raw("{\"type\":\"error\"");
    if let Some(id) = id {
        json.raw(",\"id\":");
        json.text(id);
    }
    json.raw(",\"error\":{\"code\":");
    json.plain(code);
    json.raw(",\"message\":");
    json.plain(message);
    json.raw("}}");
    json.finish()
}

/// Writes `pong`; `timestamp` is a JSON value.
pub(crate) fn pong(timestamp: &str) -> String {
    let mut json = Writer::with_capacity(96);
    json.raw("{\"type\":\"pong\",\"timestamp\":");
    json.raw(timestamp);
    json.raw("}");
    json.finish()
}

/// Writes `registered`.
pub(crate) fn registered(
    session: &SessionId,
    token: Option<&str>,
    status: &str,
    expires_at: &str,
) -> String {
    let mut json = Writer::with_capacity(256);
    json.raw("{\"type\":\"registered\",\"session_id\":");
    json.plain(session.as_str());
    if let Some(token) = token {
        json.raw(",\"session_token\":");
        json.plain(token);
    }
    json.raw(",\"status\":");
    json.plain(status);
    json.raw(",\"expires_at\":");
    json.plain(expires_at);
    json.raw("}");
    json.finish()
}

/// Writes `session_status`.
pub(crate) fn session_status(session: &SessionId, status: &str, reason: &str) -> String {
    let mut json = Writer::with_capacity(160);
    json.raw("{\"type\":\"session_status\",\"session_id\":");
    json.plain(session.as_str());
    json.raw(",\"status\":");
    json.plain(status);
    json.raw(",\"reason\":");
    json.plain(reason);
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
                self.raw(base64.as_escaped());
                self.raw("\"}}");
            }
            Part::Other(raw) => self.raw(raw.get()),
        }
    }

    fn tool_call(&mut self, call: &ToolCall<'_>) {
        self.raw("{\"id\":");
        self.plain(&call.id);
        self.raw(",\"type\":\"function\",\"function\":{\"name\":");
        self.text(call.name);
        self.raw(",\"arguments\":");
        match call.arguments {
            Arguments::Text(text) => self.text(text),
            Arguments::Object(raw) => self.plain(raw.get()),
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
        self.value("metadata", parameters.metadata.map(|raw| raw.get()));
        if !parameters.tools.is_empty() {
            self.key("tools");
            self.list(&parameters.tools, |json, tool| json.raw(tool.get()));
        }
        self.value("tool_choice", parameters.tool_choice.map(|raw| raw.get()));
        self.switch("parallel_tool_calls", parameters.parallel_tool_calls);
        match parameters.response_format {
            None => {}
            Some(ResponseFormat::OpenAi(raw)) => self.value("response_format", Some(raw.get())),
            Some(ResponseFormat::Json) => {
                self.value("response_format", Some("{\"type\":\"json_object\"}"));
            }
            Some(ResponseFormat::Schema(raw)) => {
                self.key("response_format");
                self.raw(
                    "{\"type\":\"json_schema\",\"json_schema\":{\"name\":\"response\",\"schema\":",
                );
                self.raw(raw.get());
                self.raw("}}");
            }
        }
        if let Some(effort) = parameters.reasoning_effort {
            self.key("reasoning_effort");
            self.text(effort);
        }
        self.switch("logprobs", parameters.logprobs);
        self.whole("top_logprobs", parameters.top_logprobs);
        self.value("logit_bias", parameters.logit_bias.map(|raw| raw.get()));
    }

    fn key(&mut self, name: &str) {
        self.raw(",\"");
        self.raw(name);
        self.raw("\":");
    }

    fn value(&mut self, name: &str, json: Option<&str>) {
        if let Some(json) = json {
            self.key(name);
            self.raw(json);
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
