//! Messages that the provider writes to an agent over WebSocket (version 1 of the agent protocol).

use super::Id;
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

/// Longest foreign id that is sent back, in bytes.
const FOREIGN_ID_LEN: usize = 128;

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
    json.raw(",\"parameters\":{");
    if !matches!(invocation.task, Task::Embedding { .. }) {
        json.switch("stream", Some(invocation.stream));
    }
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

/// Writes `error`. A foreign `id` is sent back when it is short.
pub(crate) fn error(id: Option<Id<'_>>, code: &str, message: &str) -> String {
    let mut json = Writer::with_capacity(128 + message.len());
    json.raw("{\"type\":\"error\"");
    match id {
        Some(Id::Ours(id)) => {
            json.raw(",\"id\":\"");
            id.write(&mut json.out);
            json.raw("\"");
        }
        Some(Id::Foreign(id)) if id.len() <= FOREIGN_ID_LEN => {
            json.raw(",\"id\":");
            json.text(id);
        }
        Some(Id::Foreign(_)) | None => {}
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
    json.json(timestamp);
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
        match call.arguments {
            Arguments::Text(text) => self.text(text),
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
        self.value("metadata", parameters.metadata.map(|raw| raw.get()));
        if !parameters.tools.is_empty() {
            self.key("tools");
            self.list(&parameters.tools, |json, tool| json.json(tool.get()));
        }
        self.value(
            "tool_choice",
            parameters.tool_choice.as_ref().map(|raw| raw.get()),
        );
        self.switch("parallel_tool_calls", parameters.parallel_tool_calls);
        match &parameters.response_format {
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
        self.value("logit_bias", parameters.logit_bias.map(|raw| raw.get()));
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

    fn value(&mut self, name: &str, json: Option<&str>) {
        if let Some(json) = json {
            self.key(name);
            self.json(json);
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
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::id::Ids;
    use crate::invocation::Role;
    use alloc::borrow::Cow;
    use alloc::vec;
    use core::time::Duration;
    use serde_json::value::RawValue;

    fn raw(json: &str) -> &RawValue {
        serde_json::from_str(json).unwrap()
    }

    fn text(escaped: &str) -> JsonStr<'_> {
        JsonStr::from_escaped(escaped)
    }

    fn written(task: Task<'_>, stream: bool, parameters: Parameters<'_>) -> String {
        let invocation = Invocation {
            model: Cow::Borrowed("alias"),
            task,
            stream,
            parameters,
        };
        let now = Instant::from_micros(1_000_000);
        let frame = invoke(
            Ids::new(0x6f1a_2b3c).next(),
            &SessionId::new("s-5f0c2a").unwrap(),
            "Cursor \"agent\"",
            "cursor-agent",
            &invocation,
            now,
            WallClock::new(now, Duration::from_secs(1_767_225_601)),
        );
        serde_json::from_str::<serde_json::Value>(&frame).unwrap();
        let head = r#"{"type":"model_invoke","id":"6f1a2b3c000000000001","session_id":"s-5f0c2a","timestamp":"2026-01-01T00:00:01.000000Z","model_meta":{"provider":"mcp-local-provider","label":"Cursor \"agent\"","requested_scopes":["inference"]},"payload":"#;
        frame
            .strip_prefix(head)
            .unwrap()
            .strip_suffix("}")
            .unwrap()
            .into()
    }

    fn message<'a>(role: Role, content: Content<'a>) -> Message<'a> {
        Message {
            role,
            content,
            name: None,
            tool_calls: Vec::new(),
            tool_call_id: None,
        }
    }

    #[test]
    fn what_the_caller_did_not_give_is_absent() {
        let messages = vec![message(Role::User, Content::Text(text(r"Hello \u00e9\n")))];
        assert_eq!(
            written(Task::Chat { messages }, true, Parameters::default()),
            r#"{"kind":"chat","model":"cursor-agent","messages":[{"role":"user","content":"Hello \u00e9\n"}],"parameters":{"stream":true}}"#
        );
        let completion = Task::Completion {
            prompt: text("def add"),
            suffix: Some(text(r"\n")),
        };
        assert_eq!(
            written(completion, false, Parameters::default()),
            r#"{"kind":"completion","model":"cursor-agent","prompt":"def add","suffix":"\n","parameters":{"stream":false}}"#
        );
        let embedding = Task::Embedding {
            input: vec![text("one"), text("two")],
        };
        assert_eq!(
            written(embedding, false, Parameters::default()),
            r#"{"kind":"embedding","model":"cursor-agent","input":["one","two"],"parameters":{}}"#
        );
    }

    #[test]
    fn a_conversation_is_told_in_openai_s_form() {
        let parts = vec![
            Part::Text(text("see")),
            Part::Image {
                media_type: "image/png",
                base64: text("AAAA"),
            },
            Part::Other(Cow::Borrowed(raw(r#"{"type":"file","file":{}}"#))),
        ];
        let calls = vec![
            ToolCall {
                id: Cow::Borrowed("call_1"),
                name: text("weather"),
                arguments: Arguments::Object(raw(r#"{"city":"\"x\""}"#)),
            },
            ToolCall {
                id: Cow::Borrowed("call_2"),
                name: text("time"),
                arguments: Arguments::Text(text(r#"{\"a\":1}"#)),
            },
        ];
        let messages = vec![
            message(Role::Developer, Content::Text(text(r"cut \ud83d"))),
            Message {
                name: Some(text("me")),
                ..message(Role::User, Content::Parts(parts))
            },
            Message {
                tool_calls: calls,
                ..message(Role::Assistant, Content::None)
            },
            Message {
                tool_call_id: Some(Cow::Borrowed("call_1")),
                ..message(Role::Tool, Content::Text(text("4 °C")))
            },
        ];
        assert_eq!(
            written(Task::Chat { messages }, true, Parameters::default()),
            concat!(
                r#"{"kind":"chat","model":"cursor-agent","messages":[{"role":"developer","content":"cut \ufffd"},"#,
                r#"{"role":"user","content":[{"type":"text","text":"see"},{"type":"image_url","image_url":{"url":"data:image/png;base64,AAAA"}},{"type":"file","file":{}}],"name":"me"},"#,
                r#"{"role":"assistant","content":null,"tool_calls":[{"id":"call_1","type":"function","function":{"name":"weather","arguments":"{\"city\":\"\\\"x\\\"\"}"}},"#,
                r#"{"id":"call_2","type":"function","function":{"name":"time","arguments":"{\"a\":1}"}}]},"#,
                r#"{"role":"tool","content":"4 °C","tool_call_id":"call_1"}],"parameters":{"stream":true}}"#,
            )
        );
    }

    #[test]
    fn half_a_surrogate_pair_is_mended_wherever_a_client_puts_it() {
        let half = |json| Cow::Borrowed(raw(json));
        let parts = vec![
            Part::Image {
                media_type: "image/png",
                base64: text(r"\ude00"),
            },
            Part::Other(half(r#"{"type":"file","x":"\ud83d"}"#)),
        ];
        let arguments = Arguments::Object(raw(r#"{"a":"\ud83d"}"#));
        let call = ToolCall {
            id: Cow::Borrowed("call_1"),
            name: text(r"\ud83d"),
            arguments,
        };
        let messages = vec![Message {
            tool_calls: vec![call],
            ..message(Role::Assistant, Content::Parts(parts))
        }];
        let parameters = Parameters {
            metadata: Some(raw(r#"{"\ud83d":"\udc00\ud83d\ude00"}"#)),
            tools: vec![half(r#"{"name":"\ud83d"}"#)],
            tool_choice: Some(half(r#""\ud83d""#)),
            response_format: Some(ResponseFormat::Schema(raw(r#"["\ud83d"]"#))),
            logit_bias: Some(raw(r#"{"\ud83d":1}"#)),
            ..Parameters::default()
        };
        // `written` reads the frame with a reader that refuses such halves.
        let payload = written(Task::Chat { messages }, true, parameters);
        assert!(
            payload.contains(r#""arguments":"{\"a\":\"\\ufffd\"}""#),
            "{payload}"
        );
        assert!(
            payload.contains(r#"{"\ufffd":"\ufffd\ud83d\ude00"}"#),
            "{payload}"
        );
    }

    #[test]
    fn every_parameter_has_openai_s_name() {
        let parameters = Parameters {
            max_tokens: Some(512),
            temperature: Some(0.8),
            top_p: Some(1.0),
            top_k: Some(40),
            min_p: Some(f64::NAN),
            presence_penalty: Some(-2.0),
            frequency_penalty: Some(0.0),
            repeat_penalty: Some(1.1),
            seed: Some(-7),
            n: Some(1),
            num_ctx: Some(4096),
            stop: vec!["\n\n".into(), "\"".into()],
            user: Some(text("u")),
            metadata: Some(raw("{\"a\":1}")),
            tools: vec![
                Cow::Borrowed(raw("{\"type\":\"function\"}")),
                Cow::Borrowed(raw("{}")),
            ],
            tool_choice: Some(Cow::Borrowed(raw("\"auto\""))),
            parallel_tool_calls: Some(false),
            response_format: Some(ResponseFormat::Schema(raw("{\"type\":\"object\"}"))),
            reasoning_effort: Some(text("low")),
            logprobs: Some(true),
            top_logprobs: Some(2),
            logit_bias: Some(raw("{\"5\":1}")),
            dimensions: Some(64),
        };
        let messages = Vec::new();
        assert_eq!(
            written(Task::Chat { messages }, true, parameters),
            concat!(
                r#"{"kind":"chat","model":"cursor-agent","messages":[],"parameters":{"stream":true,"max_tokens":512,"temperature":0.8,"top_p":1.0,"top_k":40,"#,
                r#""presence_penalty":-2.0,"frequency_penalty":0.0,"repeat_penalty":1.1,"seed":-7,"n":1,"num_ctx":4096,"stop":["\n\n","\""],"user":"u","metadata":{"a":1},"#,
                r#""tools":[{"type":"function"},{}],"tool_choice":"auto","parallel_tool_calls":false,"#,
                r#""response_format":{"type":"json_schema","json_schema":{"name":"response","schema":{"type":"object"}}},"reasoning_effort":"low","#,
                r#""logprobs":true,"top_logprobs":2,"logit_bias":{"5":1},"dimensions":64}}"#,
            )
        );
    }
}
