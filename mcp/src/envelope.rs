//! Members that revision 2026-07-28 has in messages: taken out for those who speak revisions with sessions, and put in for servers
//! that speak it alone.

use crate::revision::{Revision, STATELESS};
use alloc::string::String;
use core::time::Duration;
use mcp_local_provider_core::rpc::{Call, INVALID_PARAMS, Json, Message, replace};
use mcp_local_provider_core::text::{JsonStr, JsonValue};

/// The member that is everywhere, for what is about a message.
const META: &str = "_meta";
/// The revision, in `_meta` of a request.
pub(crate) const VERSION: &str = "io.modelcontextprotocol/protocolVersion";
/// Capabilities of the client, in `_meta` of a request.
const CAPABILITIES: &str = "io.modelcontextprotocol/clientCapabilities";
/// Name and version of the client's program, in `_meta` of a request.
pub(crate) const CLIENT: &str = "io.modelcontextprotocol/clientInfo";
/// Least level of the log messages that a request is to cause, in its `_meta`.
const LEVEL: &str = "io.modelcontextprotocol/logLevel";
/// Name and version of the server's program, in `_meta` of a result.
const SERVER: &str = "io.modelcontextprotocol/serverInfo";
/// Id of the `subscriptions/listen` that a notification belongs to, in its `_meta`.
const SUBSCRIPTION: &str = "io.modelcontextprotocol/subscriptionId";
/// Answers of the client, in the parameters of a request that is sent again.
pub(crate) const RESPONSES: &str = "inputResponses";
/// A state that the server wants back, in a result that asks and in the request that is sent again.
pub(crate) const STATE: &str = "requestState";

/// Members of `_meta` of a request by which no list differs: those of the revision, and those by which requests are traced
/// (W3C Trace Context and Baggage).
const PLAIN: [&str; 8] = [
    VERSION,
    CAPABILITIES,
    CLIENT,
    LEVEL,
    "progressToken",
    "traceparent",
    "tracestate",
    "baggage",
];

/// Error code of a resource that is not there, in revisions with sessions.
const RESOURCE_NOT_FOUND: &str = "-32002";

/// Kinds of a result, by its `resultType`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum ResultKind {
    /// It is the answer.
    Complete,
    /// The client is asked first.
    InputRequired,
    /// One that clients of sessions cannot be told.
    Unknown,
}

impl ResultKind {
    pub(crate) fn of(result: JsonValue<'_>) -> Self {
        let kind = result.member("resultType").map(JsonValue::text);
        match kind.as_ref().map(Option::as_deref) {
            None | Some(Some("complete")) => Self::Complete,
            Some(Some("input_required")) => Self::InputRequired,
            Some(_) => Self::Unknown,
        }
    }
}

/// Appends the members of an object but for those of some names.
fn keep(json: &mut Json, object: JsonValue<'_>, but: &[&str]) {
    for (name, value) in object.members() {
        if !but.iter().any(|other| name.is(other)) {
            json.member(name.as_escaped()).raw(value.get());
        }
    }
}

/// Appends `_meta` of an object without some members, or nothing when nothing is left of it.
fn keep_meta(json: &mut Json, object: JsonValue<'_>, but: &[&str]) {
    let Some(meta) = object.member(META) else {
        return;
    };
    let mut left = Json::new();
    left.raw("{");
    keep(&mut left, meta, but);
    left.raw("}");
    let left = left.finish();
    if left != "{}" {
        json.member(META).raw(&left);
    }
}

/// The request of a client of the revision as a server with sessions takes it: without what belongs to the revision, and without the
/// answers of a round that such a server has not asked for.
pub(crate) fn lowered(id: JsonValue<'_>, call: &Call<'_>) -> String {
    let leave: &[&str] = match &*call.method {
        "tools/call" | "prompts/get" | "resources/read" => &[META, RESPONSES, STATE],
        _ => &[META],
    };
    let mut json = Json::new();
    json.raw("{\"jsonrpc\":\"2.0\",\"id\":");
    json.raw(id.get());
    json.member("method").string(&call.method);
    json.member("params").raw("{");
    if let Some(params) = call.params {
        keep(&mut json, params, leave);
        keep_meta(&mut json, params, &[VERSION, CLIENT, CAPABILITIES, LEVEL]);
    }
    json.raw("}}");
    json.finish()
}

/// The members that `_meta` of each request of a client has, which has said `hello`: the parameters of `initialize`.
pub(crate) fn of_client(hello: &str) -> String {
    let hello = JsonValue::read(hello);
    let given = |name| hello.and_then(|hello| hello.member(name));
    let mut json = Json::new();
    json.raw("{");
    json.member(VERSION).string(STATELESS);
    let capabilities = given("capabilities").map_or("{}", JsonValue::get);
    json.member(CAPABILITIES).raw(capabilities);
    if let Some(info) = given("clientInfo") {
        json.member(CLIENT).raw(info.get());
    }
    json.finish().split_off(1)
}

/// Members of a request beside the client's.
#[derive(Clone, Copy, Default)]
pub(crate) struct More<'m> {
    /// Level of log messages, as JSON.
    pub(crate) level: Option<&'m str>,
    /// Answers of the client, as a JSON object.
    pub(crate) responses: Option<&'m str>,
    /// `requestState` of the result that has asked, as JSON.
    pub(crate) state: Option<&'m str>,
}

/// The line with a request under this number, with `client` as [`of_client`] gives it. Everything else in it is as it was.
pub(crate) fn request(text: &str, number: u64, client: &str, more: &More<'_>) -> String {
    let mut json = Json::new();
    json.reserve(text.len() + client.len());
    json.raw("{");
    let message = JsonValue::read(text);
    let params = message.and_then(|message| message.member("params"));
    for (name, value) in message.into_iter().flat_map(JsonValue::members) {
        if name.is("id") {
            let mut buffer = itoa::Buffer::new();
            json.member("id").raw(buffer.format(number));
        } else if !name.is("params") {
            json.member(name.as_escaped()).raw(value.get());
        }
    }
    json.member("params").raw("{");
    if let Some(params) = params {
        let again: &[&str] = match (more.responses, more.state) {
            (None, None) => &[META],
            (Some(_), _) | (_, Some(_)) => &[META, RESPONSES, STATE],
        };
        keep(&mut json, params, again);
    }
    for (name, value) in [(RESPONSES, more.responses), (STATE, more.state)] {
        if let Some(value) = value {
            json.member(name).raw(value);
        }
    }
    json.member(META).raw("{");
    if let Some(meta) = params.and_then(|params| params.member(META)) {
        keep(&mut json, meta, &[VERSION, CAPABILITIES, CLIENT, LEVEL]);
    }
    if let Some(level) = more.level {
        json.member(LEVEL).raw(level);
    }
    json.more(client);
    json.raw("}}}\n");
    json.finish()
}

/// `_meta` of a request without its progress token, which names that request alone.
pub(crate) fn untracked(meta: Option<JsonValue<'_>>) -> String {
    let mut json = Json::new();
    json.raw("{");
    if let Some(meta) = meta {
        keep(&mut json, meta, &["progressToken"]);
    }
    json.raw("}");
    json.finish()
}

/// A result that clients of sessions understand: without what it has for caches and for its kind.
pub(crate) fn result(result: JsonValue<'_>) -> String {
    let mut json = Json::new();
    json.reserve(result.get().len());
    json.raw("{");
    keep(
        &mut json,
        result,
        &["resultType", "ttlMs", "cacheScope", META],
    );
    keep_meta(&mut json, result, &[SERVER]);
    json.raw("}");
    json.finish()
}

/// A result with the time for which it holds.
pub(crate) fn lasting(result: JsonValue<'_>, left: Duration) -> String {
    let mut json = Json::new();
    json.reserve(result.get().len() + 32);
    json.raw("{");
    keep(&mut json, result, &["ttlMs"]);
    let left = u64::try_from(left.as_millis()).unwrap_or(u64::MAX);
    json.member("ttlMs").raw(itoa::Buffer::new().format(left));
    json.raw("}");
    json.finish()
}

/// Capabilities of the client in `_meta` of a request, if that says nothing else on which the answer may depend.
pub(crate) fn plain_meta(meta: Option<JsonValue<'_>>) -> Option<Option<JsonValue<'_>>> {
    let members = meta.map(JsonValue::members).unwrap_or_default();
    let is_plain = |name: &JsonStr<'_>| PLAIN.iter().any(|plain| name.is(plain));
    let is_plain = members.iter().all(|(name, _)| is_plain(name));
    is_plain.then(|| meta.and_then(|meta| meta.member(CAPABILITIES)))
}

/// True when a result of `server/discover` names this revision.
pub(crate) fn is_discovery(result: JsonValue<'_>) -> bool {
    let versions = result.member("supportedVersions").map(JsonValue::elements);
    let mut versions = versions.into_iter().flatten();
    versions.any(|version| version.text().as_deref() == Some(STATELESS))
}

/// The result of `initialize` for a client that has said `hello`, from that of `server/discover`. A server that does not say what
/// it is called has the name that it has here.
pub(crate) fn greeting(discovery: JsonValue<'_>, hello: &str, name: &str) -> String {
    let asked = JsonValue::read(hello).and_then(|hello| hello.member("protocolVersion")?.text());
    let revision = asked.and_then(|asked| Revision::named(&asked));
    let mut json = Json::new();
    json.raw("{");
    let revision = revision.unwrap_or(Revision::NEWEST);
    json.member("protocolVersion").string(revision.as_str());
    let own = [
        "protocolVersion",
        "capabilities",
        "serverInfo",
        "supportedVersions",
        "resultType",
        "ttlMs",
        "cacheScope",
        META,
    ];
    let capabilities = discovery.member("capabilities");
    json.member("capabilities")
        .raw(capabilities.map_or("{}", JsonValue::get));
    let info = discovery
        .path(&[META, SERVER])
        .or_else(|| discovery.member("serverInfo"));
    json.member("serverInfo");
    match info {
        Some(info) => json.raw(info.get()),
        None => {
            json.raw("{");
            json.member("name").string(name);
            json.member("version").raw("\"\"");
            json.raw("}");
        }
    }
    keep(&mut json, discovery, &own);
    keep_meta(&mut json, discovery, &[SERVER]);
    json.raw("}");
    json.finish()
}

/// The text of an error as clients of sessions know it; `None` when that is the text as it is. `is_read` says that a resource
/// was to be read.
pub(crate) fn error(text: &str, is_read: bool) -> Option<String> {
    let error = JsonValue::read(text)?.member("error")?;
    let code = error.member("code")?;
    error.path(&["data", "uri"])?;
    let is_not_found = is_read && code.get().parse() == Ok(INVALID_PARAMS);
    is_not_found.then(|| {
        let mut out = String::with_capacity(text.len());
        replace(&mut out, text, &[(code, RESOURCE_NOT_FOUND)]);
        out
    })
}

/// The id of the `subscriptions/listen` that a notification belongs to.
pub(crate) fn subscription(call: &Call<'_>) -> Option<u64> {
    let id = call.params?.path(&[META, SUBSCRIPTION])?;
    // Some programs make a string of a number.
    id.get().trim_matches('"').parse().ok()
}

/// A notification that does not say to which `subscriptions/listen` it belongs.
pub(crate) fn untagged(text: &str) -> String {
    let Ok(Message::Notification(Call {
        params: Some(params),
        ..
    })) = Message::read(text)
    else {
        return text.into();
    };
    let mut json = Json::new();
    json.raw("{");
    keep(&mut json, params, &[META]);
    keep_meta(&mut json, params, &[SUBSCRIPTION]);
    json.raw("}");
    let mut out = String::with_capacity(text.len());
    replace(&mut out, text, &[(params, &json.finish())]);
    out
}
