//! The envelope of `/ws`: frames of a client that say which session it means, and frames to it that say what a message is.
//!
//! A frame of the client is an object with `type`, or a JSON-RPC message or batch as it is. What the session tells comes as
//! `response`, `request` and `notification`, each with the id of its event, behind which an `attach_session` goes on.

#[cfg(test)]
mod tests;

use crate::greeting::Greeting;
use crate::refusal::{Reason, Refusal};
use crate::streams::Position;
use alloc::borrow::Cow;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use mcp_local_provider_core::rpc::{Json, Message};
use mcp_local_provider_core::text::JsonValue;

/// One frame of the client.
#[derive(PartialEq, Eq)]
pub enum FromClient<'t> {
    /// `create_session`: opens a session.
    Create {
        /// `client_id`: the sessions of one client are counted together.
        client: Cow<'t, str>,
        /// `server`, where there are several.
        server: Option<Cow<'t, str>>,
        /// `capabilities` of the client.
        capabilities: Option<JsonValue<'t>>,
    },
    /// `attach_session`: goes on with a session.
    Attach {
        /// `session_id`.
        session: Cow<'t, str>,
        /// `last_event_id`: the last event that the client has got.
        last_event: Option<Cow<'t, str>>,
    },
    /// `close_session`: ends the session.
    Close,
    /// A message or a batch.
    Bare,
}

impl fmt::Debug for FromClient<'_> {
    /// Without names and ids.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Create { .. } => "Create",
            Self::Attach { .. } => "Attach",
            Self::Close => "Close",
            Self::Bare => "Bare",
        })
    }
}

impl<'t> FromClient<'t> {
    /// Reads a frame. A message that stands by itself is not looked into.
    ///
    /// # Errors
    /// It is not JSON, its type is unknown, or a member is missing or wrong.
    pub fn read(text: &'t str) -> Result<Self, Refusal> {
        let Some(frame) = JsonValue::read(text) else {
            return Err(Refusal::new(Reason::NotJson, "the frame is not JSON"));
        };
        let (Some(of), None) = (frame.member("type"), frame.member("jsonrpc")) else {
            return Ok(Self::Bare);
        };
        let wrong = |what: &str| Refusal::new(Reason::BadRequest, what);
        let string = |name: &str| match frame.member(name).filter(|value| !value.is_null()) {
            None => Ok(None),
            Some(value) => value.text().map(Some).ok_or_else(|| {
                Refusal::new(
                    Reason::BadRequest,
                    alloc::format!("`{name}` must be a string"),
                )
            }),
        };
        let needed = |name: &str| {
            string(name)?.ok_or_else(|| {
                Refusal::new(Reason::BadRequest, alloc::format!("`{name}` is missing"))
            })
        };
        match of.text().as_deref() {
            Some("create_session") => {
                let metadata = frame.member("metadata").filter(|value| !value.is_null());
                if metadata.is_some_and(|value| !value.get().starts_with('{')) {
                    return Err(wrong("`metadata` must be an object"));
                }
                Ok(Self::Create {
                    client: needed("client_id")?,
                    server: string("server")?,
                    capabilities: frame
                        .member("capabilities")
                        .filter(|value| !value.is_null()),
                })
            }
            Some("attach_session") => Ok(Self::Attach {
                session: needed("session_id")?,
                last_event: string("last_event_id")?,
            }),
            Some("close_session") => Ok(Self::Close),
            Some(_) | None => Err(wrong(
                "`type` must be create_session, attach_session or close_session; a JSON-RPC message has none",
            )),
        }
    }
}

/// Returns the `tools/call` that a request `tools/NAME` stands for, whose parameters are the arguments; `None` for other messages.
///
/// # Errors
/// The parameters are no object.
pub fn tool_call(message: &Message<'_>) -> Result<Option<String>, Refusal> {
    let Message::Request { id, call } = message else {
        return Ok(None);
    };
    let name = match call.method.strip_prefix("tools/") {
        Some("list" | "call" | "") | None => return Ok(None),
        Some(name) => name,
    };
    let params = call.params;
    if params.is_some_and(|params| !params.get().starts_with('{')) {
        let message = "the parameters of a tool must be an object";
        return Err(Refusal::new(Reason::BadParams, message));
    }
    let mut json = Json::new();
    json.raw("{\"jsonrpc\":\"2.0\",\"id\":");
    json.raw(id.get());
    json.raw(",\"method\":\"tools/call\",\"params\":{");
    json.member("name").string(name);
    json.member("arguments").raw("{");
    let members = params.map(JsonValue::members).unwrap_or_default();
    let mut meta = None;
    for (name, value) in members {
        if name.is("_meta") {
            meta = Some(value);
        } else {
            json.member(name.as_escaped()).raw(value.get());
        }
    }
    json.raw("}");
    if let Some(meta) = meta {
        json.member("_meta").raw(meta.get());
    }
    json.raw("}}");
    Ok(Some(json.finish()))
}

/// Returns the frame with a message of the session. `text` is that message, or the array with the answers to a batch.
#[must_use]
pub fn frame(at: Position, text: &str) -> String {
    let kind = match Message::read(text) {
        Ok(Message::Request { .. }) => "request",
        Ok(Message::Notification(_)) => "notification",
        // A batch's answers are no message, nor is an error about something that could not be read.
        Ok(Message::Response { .. }) | Err(_) => "response",
    };
    let mut id = Vec::new();
    at.write(&mut id);
    let mut json = Json::new();
    json.reserve(text.len());
    json.raw("{");
    json.member("type").string(kind);
    json.member("data").raw(text);
    // Digits and a hyphen.
    let id = String::from_utf8(id).unwrap_or_default();
    json.member("event_id").string(&id);
    json.raw("}");
    json.finish()
}

/// Returns the frame that says which session the socket has. `expires` is a time of RFC 3339; `replayed` is the number of messages
/// that follow because the client has missed them, where it has come back to the session.
#[must_use]
pub fn created(
    session: &str,
    greeting: &Greeting,
    expires: &str,
    replayed: Option<usize>,
) -> String {
    let mut json = Json::new();
    json.raw("{");
    json.member("type").string("session_created");
    json.member("session_id").string(session);
    json.member("capabilities").raw(&greeting.capabilities);
    json.member("server_info").raw(&greeting.server_info);
    json.member("protocol_version")
        .raw(&greeting.protocol_version);
    json.member("expires_at").string(expires);
    if let Some(replayed) = replayed {
        json.member("attached").raw("true");
        json.member("replayed")
            .raw(itoa::Buffer::new().format(replayed));
    }
    json.raw("}");
    json.finish()
}

/// Returns the frame that says what was wrong. `id` is that of the request that it is about, as JSON.
#[must_use]
pub fn error(code: &str, message: &str, id: Option<&str>) -> String {
    let mut json = Json::new();
    json.raw("{");
    json.member("type").string("error");
    json.member("error").string(message);
    json.member("code").string(code);
    if let Some(id) = id {
        json.member("id").raw(id);
    }
    json.raw("}");
    json.finish()
}

/// Returns the `code` of an `error` frame for a refusal.
#[must_use]
pub const fn code(reason: Reason) -> &'static str {
    if matches!(reason, Reason::NotJson) {
        "bad_json"
    } else {
        reason.as_str()
    }
}
