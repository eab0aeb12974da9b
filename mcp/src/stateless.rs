//! Clients of revision 2026-07-28, whose requests each say all that they need, before servers with sessions.
//!
//! [`Wanted::read`] checks a request. An [`Exchange`] is one such request: what the server is told for it, and what the client is told
//! until its answer. A server's question ends the answer to the request, and the client's next request, with the state that it was given,
//! goes on with the same exchange. [`Several`] is a request for servers that stand under one address, each of which has an
//! exchange for its part.

mod check;
mod exchange;
mod listening;
pub(crate) mod raise;
pub(crate) mod several;
#[cfg(test)]
mod tests;

pub use check::{Capabilities, Headers, Level, Wanted, is_meant};
pub use exchange::{End, Ending, Exchange, Step};
pub use several::{Part, PartId, Several};

use alloc::string::String;
use mcp_local_provider_core::rpc::Json;
use mcp_local_provider_core::text::JsonValue;

/// The revision's name on the wire.
pub const REVISION: &str = "2026-07-28";

/// Members of `_meta` by which a request, an answer or a notification says what belongs to the revision.
const VERSION: &str = "io.modelcontextprotocol/protocolVersion";
const CAPABILITIES: &str = "io.modelcontextprotocol/clientCapabilities";
const LEVEL: &str = "io.modelcontextprotocol/logLevel";
const SERVER: &str = "io.modelcontextprotocol/serverInfo";
const SUBSCRIPTION: &str = "io.modelcontextprotocol/subscriptionId";

/// Appends a member of an object, whose name is not yet escaped and whose value is JSON.
fn put(json: &mut Json, name: &str, value: &str) {
    begin(json, name);
    json.raw(value);
}

/// Appends the name of a member.
fn begin(json: &mut Json, name: &str) {
    // The first one follows the brace.
    if !json.is_at_brace() {
        json.raw(",");
    }
    json.string(name);
    json.raw(":");
}

/// The parameters `_meta` and others without what a server with sessions does not know. `extra` is a member of `_meta` that is added.
fn params(
    params: Option<JsonValue<'_>>,
    leave: &[&str],
    leave_meta: &[&str],
    extra: Option<(&str, &str)>,
) -> String {
    let mut json = Json::new();
    json.raw("{");
    let members = params.map(JsonValue::members).unwrap_or_default();
    let mut meta = Json::new();
    meta.raw("{");
    for (name, value) in members {
        if name.is("_meta") {
            for (name, value) in value.members() {
                if !leave_meta.iter().any(|left| name.is(left)) {
                    put(&mut meta, &name.decode(), value.get());
                }
            }
        } else if !leave.iter().any(|left| name.is(left)) {
            put(&mut json, &name.decode(), value.get());
        }
    }
    if let Some((name, value)) = extra {
        put(&mut meta, name, value);
    }
    if !meta.is_at_brace() {
        meta.raw("}");
        put(&mut json, "_meta", &meta.finish());
    }
    json.raw("}");
    json.finish()
}
