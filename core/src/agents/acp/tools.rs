//! The caller's tools, served to an agent: an MCP server (Streamable HTTP, revisions of 2024 and 2025) for each session.
//!
//! `session/new` names the server to the agent: a path that nobody can guess, and a bearer token. The driver hands each
//! HTTP request below [`Config::tools_url`](super::Config::tools_url) to the [`Agent`](super::Agent) that
//! [serves](super::Agent::serves_at) it. A `tools/call` is *parked*: the client gets it as a tool call of its answer, and
//! the HTTP answer stays open, with a sign of life now and then, until the client's next request brings the result.
//!
//! ```
//! # use mcp_local_provider_core::agents::acp::{Agent, Config, Out, Profile};
//! # use mcp_local_provider_core::agents::acp::tools::{ToolAnswer, ToolRequest};
//! # use mcp_local_provider_core::time::Instant;
//! # let mut agent = Agent::new(Profile::new("echo"), Config::new("/tmp/empty"), [7; 32]);
//! # let (now, mut out) = (Instant::from_micros(1), Out::new());
//! let path = "/agents/mcp/5d41402abc4b2a76b9719d911017c592";
//! let server = path.strip_prefix("/agents/mcp/").unwrap_or_default();
//! let request = ToolRequest { server, method: "POST", authorization: Some("Bearer …"), body: b"{}" };
//! match agent.handle_tool_request(now, &request, &mut out, &mut |_envelope| {}) {
//!     ToolAnswer::Whole { status, .. } => assert_eq!(status, 200), // written at once
//!     ToolAnswer::Refused(code) => assert_eq!(code.status(), 404), // written at once
//!     // 200 `text/event-stream`; the body comes in `out.tool_replies` for this call.
//!     // When the connection is lost before its end: `agent.handle_tool_gone(now, call, …)`.
//!     ToolAnswer::Stream(_call) => {}
//! }
//! ```

use super::update::{path, text};
use crate::error::Code;
use crate::rpc::{Call, INVALID_PARAMS, Json, METHOD_NOT_FOUND, Message, NotAMessage};
use crate::text::JsonValue;
use alloc::borrow::Cow;
use alloc::string::String;
use alloc::vec::Vec;

/// The server's name, which agents put before the names of its tools.
pub(super) const SERVER: &str = "caller";

/// Revisions of MCP that are spoken; the last one is offered to who asks for another.
const REVISIONS: [&str; 4] = ["2024-11-05", "2025-03-26", "2025-11-25", "2025-06-18"];

/// A call of one of the caller's tools that waits for its result.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct CallId(pub u64);

/// Bytes for an HTTP answer that waits.
#[derive(Clone, PartialEq, Eq)]
pub struct ToolReply {
    /// More of the body: server-sent events.
    pub body: Vec<u8>,
    /// Nothing follows: end the body.
    pub last: bool,
}

impl core::fmt::Debug for ToolReply {
    /// The body is never shown: it holds what a tool gave.
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "ToolReply({} bytes, {})", self.body.len(), self.last)
    }
}

/// One HTTP request of an agent.
#[derive(Clone, Copy)]
pub struct ToolRequest<'r> {
    /// Part of the path that follows `tools_url`.
    pub server: &'r str,
    /// `POST`, …
    pub method: &'r str,
    /// The header of that name.
    pub authorization: Option<&'r str>,
    /// At most what `limits.body_bytes` allows.
    pub body: &'r [u8],
}

impl core::fmt::Debug for ToolRequest<'_> {
    /// Neither the token nor the body is shown.
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "ToolRequest({}, {} bytes)", self.method, self.body.len())
    }
}

/// Answers to an agent's HTTP request.
#[derive(Clone, PartialEq, Eq)]
pub enum ToolAnswer {
    /// At once.
    Whole {
        /// HTTP status (RFC 9110).
        status: u16,
        /// `application/json` when there is a body.
        body: Vec<u8>,
    },
    /// At once, with the status of this code and without a body.
    Refused(Code),
    /// 200 with `text/event-stream`, sent at once; its body comes in [`Out::tool_replies`](super::Out::tool_replies).
    Stream(CallId),
}

impl core::fmt::Debug for ToolAnswer {
    /// The body is never shown: it may hold what the caller wrote.
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Whole { status, body } => write!(f, "Whole({status}, {} bytes)", body.len()),
            Self::Refused(code) => write!(f, "Refused({code:?})"),
            Self::Stream(call) => write!(f, "Stream({})", call.0),
        }
    }
}

impl ToolAnswer {
    fn json(line: String) -> Self {
        Self::Whole {
            status: 200,
            body: line.into_bytes(),
        }
    }
}

/// A tool of the caller, in OpenAI's form.
pub(super) struct Tool {
    pub(super) name: String,
    raw: String,
}

impl Tool {
    /// `None` when it has no name.
    pub(super) fn read(raw: &str) -> Option<Self> {
        let tool = JsonValue::read(raw);
        Some(Self {
            name: text(path(tool, &["function", "name"]))?.into_owned(),
            raw: raw.into(),
        })
    }

    /// As the caller wrote it.
    pub(super) fn raw(&self) -> &str {
        &self.raw
    }

    /// In MCP's form.
    fn write(&self, json: &mut Json) {
        let raw = JsonValue::read(&self.raw);
        json.raw("{");
        json.member("name").string(&self.name);
        if let Some(description) = text(path(raw, &["function", "description"])) {
            json.member("description").string(&description);
        }
        let schema =
            path(raw, &["function", "parameters"]).filter(|schema| schema.member("type").is_some());
        json.member("inputSchema")
            .raw(schema.map_or("{\"type\":\"object\",\"properties\":{}}", JsonValue::get));
        json.raw("}");
    }
}

/// A request of an agent to its tool server.
pub(super) enum Asked<'b> {
    /// It can be answered without the caller.
    Answer(ToolAnswer),
    /// `tools/call`.
    Call(Called<'b>),
}

pub(super) struct Called<'b> {
    pub(super) id: JsonValue<'b>,
    pub(super) name: Cow<'b, str>,
    /// A JSON object.
    pub(super) arguments: &'b str,
    /// MCP's `progressToken`, under which signs of life are told.
    pub(super) progress_token: Option<JsonValue<'b>>,
}

/// Reads one request to the server of `tools`.
pub(super) fn read<'b>(body: &'b [u8], tools: &[Tool]) -> Asked<'b> {
    let (id, call) = match Message::read_line(body) {
        Ok(Message::Request { id, call }) => (id, call),
        // A notification, or the answer to a request that was never made.
        Ok(Message::Notification(_) | Message::Response { .. }) => {
            return Asked::Answer(ToolAnswer::Whole {
                status: 202,
                body: Vec::new(),
            });
        }
        Err(NotAMessage::Noise | NotAMessage::Damaged) => {
            return Asked::Answer(ToolAnswer::Refused(Code::InvalidRequest));
        }
    };
    let Call {
        method,
        params,
        progress_token,
        meta: _,
    } = call;
    Asked::Answer(ToolAnswer::json(match &*method {
        "initialize" => {
            let wanted = text(path(params, &["protocolVersion"])).unwrap_or_default();
            let revision = REVISIONS
                .into_iter()
                .find(|known| *known == wanted)
                .unwrap_or("2025-06-18");
            let mut json = Json::new();
            json.raw("{\"protocolVersion\":\"");
            json.raw(revision);
            json.raw(concat!(
                "\",\"capabilities\":{\"tools\":{}},\"serverInfo\":{\"name\":\"mcp-local-provider\",\"version\":\"",
                env!("CARGO_PKG_VERSION"),
                "\"}}"
            ));
            Json::result(id, &json.finish())
        }
        "ping" => Json::result(id, "{}"),
        "tools/list" => {
            let mut json = Json::new();
            json.raw("{\"tools\":[");
            for (position, tool) in tools.iter().enumerate() {
                if position > 0 {
                    json.raw(",");
                }
                tool.write(&mut json);
            }
            json.raw("]}");
            Json::result(id, &json.finish())
        }
        "tools/call" => {
            let name = text(path(params, &["name"])).unwrap_or_default();
            if tools.iter().any(|tool| *tool.name == *name) {
                return Asked::Call(Called {
                    id,
                    name,
                    arguments: path(params, &["arguments"])
                        .map(JsonValue::get)
                        .filter(|arguments| arguments.starts_with('{'))
                        .unwrap_or("{}"),
                    progress_token,
                });
            }
            Json::error(id, INVALID_PARAMS, "no tool of this name is offered here")
        }
        _ => Json::error(id, METHOD_NOT_FOUND, "this server has tools only"),
    }))
}

/// One server-sent event around a line of JSON.
fn event(line: &str) -> Vec<u8> {
    let mut body = Vec::with_capacity(line.len() + 24);
    body.extend_from_slice(b"event: message\ndata: ");
    body.extend_from_slice(line.trim_end().as_bytes());
    body.extend_from_slice(b"\n\n");
    body
}

/// The end of a call, as its agent gets it. Both texts are escaped.
pub(super) fn ended(id: JsonValue<'_>, outcome: Result<&str, &str>) -> ToolReply {
    let (text, is_error) = match outcome {
        Ok(text) => (text, "false"),
        Err(text) => (text, "true"),
    };
    let mut json = Json::new();
    json.raw("{\"content\":[{\"type\":\"text\",\"text\":");
    json.escaped(text);
    json.raw("}],\"isError\":");
    json.raw(is_error);
    json.raw("}");
    ToolReply {
        body: event(&Json::result(id, &json.finish())),
        last: true,
    }
}

/// A sign of life on a call that waits.
pub(super) fn alive(token: Option<JsonValue<'_>>, count: u64) -> ToolReply {
    let body = match token {
        Some(token) => {
            let mut json = Json::notification("notifications/progress");
            json.member("progressToken").raw(token.get());
            json.member("progress")
                .raw(itoa::Buffer::new().format(count));
            event(&json.end_params())
        }
        None => b": waiting for the caller\n\n".to_vec(),
    };
    ToolReply { body, last: false }
}

/// True when a permission is asked for one of these tools and nothing else. Agents word it in different ways; what is not
/// recognised is refused like any other.
pub(super) fn is_own(tool_call: Option<JsonValue<'_>>, tools: &[Tool]) -> bool {
    let named = path(tool_call, &["rawInput"]).and_then(server_call);
    if named.is_some_and(|named| tools.iter().any(|tool| *tool.name == *named)) {
        return true;
    }
    let kind = text(path(tool_call, &["kind"]));
    if !matches!(kind.as_deref(), None | Some("other")) {
        return false;
    }
    let title = text(path(tool_call, &["title"])).unwrap_or_default();
    let title = title.trim();
    tools.iter().any(|tool| {
        let before = title.strip_suffix(&*tool.name);
        let after = title.strip_prefix(&*tool.name);
        // What stands beside a tool's name where agents speak of a tool of an MCP server.
        before.is_some_and(|before| {
            matches!(
                &*before.replace(SERVER, "$"),
                "mcp__$__" | "mcp_$_" | "mcp.$." | "$_" | "$__" | "$." | "$/" | "$: "
            )
        }) || after.is_some_and(|after| after.replace(SERVER, "$") == " ($ MCP Server)")
    })
}

/// The tool in the raw input of a call of an MCP server's tool, as Codex tells it: server, tool, arguments and nothing else.
/// The input of a tool of another kind is what a model wrote, which may well name a server too.
fn server_call(input: JsonValue<'_>) -> Option<Cow<'_, str>> {
    let (mut server, mut tool) = (None, None);
    input.cursor().object(|cursor, name| {
        let value = JsonValue::skipped(cursor.value()?);
        match name.as_escaped() {
            "server" => server = Some(value),
            "tool" => tool = Some(value),
            "arguments" => {}
            _ => return None,
        }
        Some(())
    })?;
    (text(server)? == SERVER).then(|| text(tool)).flatten()
}

/// For an error that is told to nobody but the agent.
pub(super) const NOBODY: &str = "the caller is gone; do not call this tool again";

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_permission_for_a_tool_of_the_caller_is_told_from_all_others() {
        let tools: Vec<Tool> = ["look", "caller"]
            .iter()
            .filter_map(|name| Tool::read(&alloc::format!(r#"{{"function":{{"name":"{name}"}}}}"#)))
            .collect();
        for (own, call) in [
            (
                true,
                r#"{"title":"mcp__caller__look","kind":"other","rawInput":{}}"#,
            ),
            (true, r#"{"title":"mcp__caller__caller"}"#),
            (
                true,
                r#"{"title":"look (caller MCP Server)","kind":"other"}"#,
            ),
            (true, r#"{"title":"caller_look","rawInput":{"server":"x"}}"#),
            (
                true,
                r#"{"kind":"execute","rawInput":{"server":"caller","tool":"look","arguments":{"a":1}}}"#,
            ),
            (
                false,
                r#"{"kind":"execute","rawInput":{"server":"caller","tool":"look","cmd":"rm"}}"#,
            ),
            (
                false,
                r#"{"kind":"execute","rawInput":{"server":"other","tool":"look","arguments":{}}}"#,
            ),
            (false, r#"{"title":"mcp__caller__look","kind":"execute"}"#),
            (false, r#"{"title":"mcp__caller__looks"}"#),
            (false, r#"{"title":"mcp__other__look"}"#),
            (false, r#"{"title":"look"}"#),
            (false, r#"{"title":"rm mcp__caller__look"}"#),
            (false, "{}"),
        ] {
            assert_eq!(is_own(JsonValue::read(call), &tools), own, "{call}");
        }
        assert!(!is_own(None, &tools));
    }
}
