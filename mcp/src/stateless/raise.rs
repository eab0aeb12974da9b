//! Answers of servers with sessions, in the form of revision 2026-07-28.

use super::{REVISION, SERVER, SUBSCRIPTION, begin, params, put};
use alloc::string::String;
use mcp_local_provider_core::rpc::{
    INVALID_PARAMS, Json, METHOD_NOT_FOUND, Message, RpcError, replace,
};
use mcp_local_provider_core::text::JsonValue;

/// `Resource not found` of the revisions with sessions.
const RESOURCE_NOT_FOUND: i64 = -32002;

/// `resultType` of a result that no round follows.
const COMPLETE: &str = "complete";

/// True for results that say how long they hold.
fn is_kept(method: &str) -> bool {
    matches!(
        method,
        "server/discover"
            | "tools/list"
            | "prompts/list"
            | "resources/list"
            | "resources/templates/list"
            | "resources/read"
    )
}

/// The answer to the request with this `id`, with its HTTP status. `server` is the server's `serverInfo`, `uri` the resource that the
/// request was for.
pub(super) fn answer(
    text: &str,
    id: &str,
    method: &str,
    server: Option<&str>,
    uri: Option<&str>,
) -> (u16, String) {
    match Message::read(text) {
        Ok(Message::Response {
            outcome: Ok(value),
            id: own,
        }) => {
            if value.is_some_and(|value| is_raised(value, method)) {
                return (200, with_id(text, own, id));
            }
            (200, result(id, value, method, server))
        }
        Ok(Message::Response {
            outcome: Err(error),
            ..
        }) => error_of(id, &error, text, uri),
        Ok(Message::Request { .. } | Message::Notification(_)) | Err(_) => {
            (200, result(id, None, method, server))
        }
    }
}

/// True for a result that has all that the revision asks for.
fn is_raised(value: JsonValue<'_>, method: &str) -> bool {
    let Some(kind) = value.member("resultType") else {
        return false;
    };
    let is_complete = kind.text().as_deref() == Some(COMPLETE);
    let lasts = ["ttlMs", "cacheScope"]
        .iter()
        .all(|name| value.member(name).is_some());
    value.path(&["_meta", SERVER]).is_some() && (lasts || !is_complete || !is_kept(method))
}

/// A message with another id.
fn with_id(text: &str, old: JsonValue<'_>, new: &str) -> String {
    let mut out = String::with_capacity(text.len() + new.len());
    replace(&mut out, text.trim_end(), &[(old, new)]);
    out
}

/// An answer with a result.
pub(crate) fn result(
    id: &str,
    value: Option<JsonValue<'_>>,
    method: &str,
    server: Option<&str>,
) -> String {
    let has = |name| value.is_some_and(|value| value.member(name).is_some());
    let kind = value.and_then(|value| value.member("resultType")?.text());
    let is_complete = kind.is_none_or(|kind| kind == COMPLETE);
    let mut json = opened(id);
    if !has("resultType") {
        put(&mut json, "resultType", "\"complete\"");
    }
    let identified = value.is_some_and(|value| value.path(&["_meta", SERVER]).is_some());
    let own = server
        .filter(|_| !identified)
        .map(|server| (SERVER, server));
    // Behind the first member, without its braces.
    let members = params(value, &[], &[], own);
    let inside = members
        .strip_prefix('{')
        .and_then(|rest| rest.strip_suffix('}'))
        .unwrap_or_default();
    if !inside.is_empty() {
        if !json.is_at_brace() {
            json.raw(",");
        }
        json.raw(inside);
    }
    if is_complete && is_kept(method) {
        // The lists of one process may change at any time, and may differ for others.
        for (name, usual) in [("ttlMs", "0"), ("cacheScope", "\"private\"")] {
            if !has(name) {
                put(&mut json, name, usual);
            }
        }
    }
    json.raw("}}");
    json.finish()
}

fn opened(id: &str) -> Json {
    let mut json = Json::new();
    json.raw("{\"jsonrpc\":\"2.0\",\"id\":");
    json.raw(id);
    json.raw(",\"result\":{");
    json
}

fn error_of(id: &str, error: &RpcError<'_>, text: &str, uri: Option<&str>) -> (u16, String) {
    let status = match error.code {
        METHOD_NOT_FOUND => 404,
        // The server's own about headers, capabilities and revisions.
        -32022..=-32020 => 400,
        _ => 200,
    };
    let whole = JsonValue::read(text).and_then(|all| all.member("error"));
    let mut json = Json::new();
    json.raw("{\"jsonrpc\":\"2.0\",\"id\":");
    json.raw(id);
    json.raw(",\"error\":");
    match (error.code == RESOURCE_NOT_FOUND, whole) {
        (false, Some(whole)) => json.raw(whole.get()),
        (true, _) | (_, None) => {
            let code = if error.code == RESOURCE_NOT_FOUND {
                INVALID_PARAMS
            } else {
                error.code
            };
            json.raw("{\"code\":");
            json.raw(itoa::Buffer::new().format(code));
            json.raw(",\"message\":");
            json.string(&error.message.decode());
            json.raw(",\"data\":{");
            if let Some(uri) = uri {
                put(&mut json, "uri", uri);
            }
            json.raw("}}");
        }
    }
    json.raw("}");
    (status, json.finish())
}

/// The answer to `server/discover`, from what the server says to `initialize`.
pub(crate) fn discovered(id: &str, greeting: &str) -> String {
    let greeting = JsonValue::read(greeting);
    let said = |name| greeting.and_then(|greeting| greeting.member(name));
    let mut json = Json::new();
    json.raw("{");
    begin(&mut json, "supportedVersions");
    json.raw("[");
    json.string(REVISION);
    json.raw("]");
    begin(&mut json, "capabilities");
    json.raw("{");
    // What there is of tasks belongs to a session.
    let capabilities = said("capabilities")
        .map(JsonValue::members)
        .unwrap_or_default();
    for (name, value) in capabilities {
        if !name.is("tasks") {
            put(&mut json, &name.decode(), value.get());
        }
    }
    json.raw("}");
    if let Some(instructions) = said("instructions") {
        put(&mut json, "instructions", instructions.get());
    }
    json.raw("}");
    let text = json.finish();
    result(
        id,
        JsonValue::read(&text),
        "server/discover",
        said("serverInfo").map(JsonValue::get),
    )
}

/// A notification for the listener whose request has this `id`.
pub(super) fn tagged(method: &str, given: Option<JsonValue<'_>>, id: &str) -> String {
    let mut json = Json::new();
    json.raw("{\"jsonrpc\":\"2.0\",\"method\":");
    json.string(method);
    json.raw(",\"params\":");
    json.raw(&params(given, &[], &[], Some((SUBSCRIPTION, id))));
    json.raw("}");
    json.finish()
}

/// The end of a listener's answer that the gateway itself brings about.
pub(super) fn listened(id: &str, server: Option<&str>) -> String {
    let mut json = Json::new();
    json.raw("{\"_meta\":{");
    put(&mut json, SUBSCRIPTION, id);
    json.raw("}}");
    result(
        id,
        JsonValue::read(&json.finish()),
        "subscriptions/listen",
        server,
    )
}
