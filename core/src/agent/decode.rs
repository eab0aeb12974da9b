//! Messages of the provider, as an agent reads them (version 1 of the agent protocol).

use super::request::{InvocationId, Request};
use crate::text::JsonValue;
use alloc::string::String;

/// One message of the provider.
#[derive(Debug)]
pub(super) enum FromProvider<'f> {
    /// `registered`.
    Registered {
        session: String,
        token: Option<String>,
        status: String,
    },
    /// `session_status`.
    SessionStatus {
        session: String,
        status: String,
        reason: String,
    },
    /// `model_invoke`.
    Invoke(Request),
    /// `model_cancel`.
    Cancel(InvocationId),
    /// `error`.
    Error {
        about: Option<InvocationId>,
        message: String,
    },
    /// `ping` of the application level, with any JSON value.
    Ping(Option<JsonValue<'f>>),
    /// A `pong`, or a type that this version does not know: a sign of life, and nothing else.
    Other,
}

/// Reads one text frame.
///
/// # Errors
/// Tells what is wrong with it, without its content.
pub(super) fn decode(frame: &str) -> Result<FromProvider<'_>, &'static str> {
    let message = JsonValue::read(frame).ok_or("the provider sent a frame that is not JSON")?;
    let text = |name| message.member(name).and_then(JsonValue::text);
    let plain = |name| text(name).unwrap_or_default().into_owned();
    let id = || {
        let id = message.member("id").and_then(JsonValue::as_str);
        id.map(InvocationId::of)
    };
    let kind = text("type").ok_or("the provider sent a message without a type")?;
    Ok(match &*kind {
        "registered" => FromProvider::Registered {
            session: plain("session_id"),
            token: text("session_token").map(|token| token.into_owned()),
            status: plain("status"),
        },
        "session_status" => FromProvider::SessionStatus {
            session: plain("session_id"),
            status: plain("status"),
            reason: plain("reason"),
        },
        "model_invoke" => {
            let id = id().ok_or("the provider sent a model_invoke without an id")?;
            FromProvider::Invoke(Request::of(id, message))
        }
        "model_cancel" => {
            let id = id().ok_or("the provider sent a model_cancel without an id")?;
            FromProvider::Cancel(id)
        }
        "error" => {
            let told = message.path(&["error", "message"]);
            let told = told.and_then(JsonValue::text).unwrap_or_default();
            FromProvider::Error {
                about: id(),
                message: told.into_owned(),
            }
        }
        "ping" => FromProvider::Ping(message.member("timestamp")),
        _ => FromProvider::Other,
    })
}
