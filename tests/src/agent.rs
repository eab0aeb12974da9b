//! The agent's side of the agent protocol: what it writes, and how it reads what the provider wrote.

use mcp_local_provider_core::id::ExchangeId;
use mcp_local_provider_engine::converse::Frame;
use serde_json::Value;
use std::fmt::Write as _;

/// Upper part of the ids of a simulated run, which tells them from those of another.
pub const PROCESS: u32 = 0x00c0_ffee;

/// The id that the `serial`th request of a simulated run has or will have.
#[must_use]
pub fn guess(serial: u64) -> ExchangeId {
    ExchangeId::parse(format!("{PROCESS:08x}{serial:012x}").as_bytes()).unwrap()
}

/// A chunk of text; `text` is plain.
#[must_use]
pub fn chunk(id: ExchangeId, index: u64, text: &str) -> String {
    let text = serde_json::to_string(text).unwrap();
    delta(id, index, &format!("\"content\":{text}"), "null")
}

/// The end of a stream without more text.
#[must_use]
pub fn end(id: ExchangeId, index: u64) -> String {
    delta(id, index, "", "\"stop\"")
}

/// A chunk whose delta has these members of JSON, with this `finish_reason` of JSON.
#[must_use]
pub fn delta(id: ExchangeId, index: u64, members: &str, finish: &str) -> String {
    format!(
        "{{\"type\":\"model_stream_chunk\",\"id\":\"{id}\",\"chunk_index\":{index},\"delta\":{{{members}}},\"finish_reason\":{finish}}}"
    )
}

/// A whole answer.
#[must_use]
pub fn result(id: ExchangeId, text: &str) -> String {
    let text = serde_json::to_string(text).unwrap();
    format!(
        "{{\"type\":\"model_result\",\"id\":\"{id}\",\"status\":\"ok\",\"result\":{{\"choices\":[{{\"message\":{{\"role\":\"assistant\",\"content\":{text}}},\"finish_reason\":\"stop\"}}]}}}}"
    )
}

/// A failed answer.
#[must_use]
pub fn failed(id: ExchangeId, code: &str) -> String {
    format!(
        "{{\"type\":\"model_result\",\"id\":\"{id}\",\"status\":\"error\",\"error\":{{\"code\":\"{code}\",\"message\":\"not now\"}}}}"
    )
}

/// A registration of one model.
#[must_use]
pub fn register(agent: &str, models: &[&str], max_concurrency: Option<u64>) -> String {
    let mut frame = format!(
        "{{\"type\":\"register\",\"agent_id\":\"{agent}\",\"models\":{}",
        serde_json::to_string(models).unwrap()
    );
    if let Some(most) = max_concurrency {
        let _ = write!(frame, ",\"max_concurrency\":{most}");
    }
    frame.push('}');
    frame
}

/// A message of the provider.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Heard {
    /// `model_invoke`.
    Invoke {
        /// The exchange.
        id: ExchangeId,
        /// Name of the session that is asked.
        session: String,
        /// `parameters.stream`.
        stream: bool,
        /// Number of texts to embed.
        inputs: usize,
    },
    /// `model_cancel`.
    Cancel {
        /// The exchange.
        id: ExchangeId,
        /// The reason.
        reason: String,
    },
    /// `registered`.
    Registered {
        /// The session's name.
        session: String,
        /// The session's token.
        token: Option<String>,
    },
    /// `error`.
    Error(String),
    /// A ping of WebSocket.
    Ping,
    /// Anything else, by its type.
    Other(String),
}

impl Heard {
    /// Reads a frame; it must be one that the protocol allows.
    #[must_use]
    pub fn read(frame: &Frame) -> Self {
        let Frame::Text(text) = frame else {
            return Self::Ping;
        };
        let value: Value = serde_json::from_str(text).expect("the provider writes JSON");
        let string = |name: &str| value[name].as_str().map(str::to_owned);
        let id = || ExchangeId::parse(value["id"].as_str().unwrap().as_bytes()).unwrap();
        match value["type"].as_str().unwrap() {
            "model_invoke" => Self::Invoke {
                id: id(),
                session: string("session_id").unwrap(),
                stream: value["payload"]["parameters"]["stream"] == true,
                inputs: value["payload"]["input"].as_array().map_or(0, Vec::len),
            },
            "model_cancel" => Self::Cancel {
                id: id(),
                reason: string("reason").unwrap(),
            },
            "registered" => Self::Registered {
                session: string("session_id").unwrap(),
                token: string("session_token"),
            },
            "error" => Self::Error(value["error"]["code"].as_str().unwrap().to_owned()),
            other => Self::Other(other.to_owned()),
        }
    }
}

/// The exchange that a `model_invoke` is about, found without reading the whole frame.
#[must_use]
pub fn invoked(frame: &Frame) -> Option<ExchangeId> {
    id_after(frame, "{\"type\":\"model_invoke\",\"id\":\"")
}

/// The exchange that a `model_cancel` names, found without reading the whole frame.
#[must_use]
pub fn cancelled(frame: &Frame) -> Option<ExchangeId> {
    id_after(frame, "{\"type\":\"model_cancel\",\"id\":\"")
}

fn id_after(frame: &Frame, begin: &str) -> Option<ExchangeId> {
    let Frame::Text(text) = frame else {
        return None;
    };
    let rest = text.strip_prefix(begin)?;
    ExchangeId::parse(rest.as_bytes().get(..ExchangeId::TEXT_LEN)?)
}
