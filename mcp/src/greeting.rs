//! The greeting between gateway and server: what the gateway says where no client does, and what a server has said of itself.

use crate::refusal::{Reason, Refusal};
use crate::revision::Revision;
use alloc::boxed::Box;
use alloc::string::String;
use core::fmt;
use mcp_local_provider_core::rpc::Json;
use mcp_local_provider_core::text::JsonValue;

/// Statements of a server about itself, as JSON, from its answer to `initialize`.
#[derive(Clone, PartialEq, Eq)]
pub struct Greeting {
    /// `protocolVersion`: a string, or `null` where the server has said none.
    pub protocol_version: Box<str>,
    /// `capabilities`: an object, `{}` where the server has said none.
    pub capabilities: Box<str>,
    /// `serverInfo`: an object, `{}` where the server has said none.
    pub server_info: Box<str>,
}

impl fmt::Debug for Greeting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Greeting({})", self.protocol_version)
    }
}

impl Greeting {
    /// Reads `result` of an answer to `initialize`.
    #[must_use]
    pub fn read(result: &str) -> Self {
        let value = JsonValue::read(result);
        let member = |name, first, default: &str| {
            let member = value.and_then(|value| value.member(name));
            let member = member.filter(|member| member.get().starts_with(first));
            member.map_or(default, JsonValue::get).into()
        };
        Self {
            protocol_version: member("protocolVersion", '"', "null"),
            capabilities: member("capabilities", '{', "{}"),
            server_info: member("serverInfo", '{', "{}"),
        }
    }
}

/// Returns the parameters of `initialize` with which the gateway itself opens a session, as revision 2025-11-25. `capabilities` is
/// what the client can do (none: nothing), `client_info` its name and version; without one it is called `name`.
///
/// # Errors
/// One of the two is no object.
pub fn hello(
    capabilities: Option<JsonValue<'_>>,
    client_info: Option<JsonValue<'_>>,
    name: &str,
) -> Result<String, Refusal> {
    for (name, value) in [("capabilities", capabilities), ("client_info", client_info)] {
        if value.is_some_and(|value| !value.get().starts_with('{')) {
            let message = alloc::format!("`{name}` must be an object");
            return Err(Refusal::new(Reason::BadParams, message));
        }
    }
    let mut json = Json::new();
    json.raw("{");
    let version = Revision::V2025_11_25.as_str();
    json.member("protocolVersion").string(version);
    let capabilities = capabilities.map_or("{}", JsonValue::get);
    json.member("capabilities").raw(capabilities);
    json.member("clientInfo");
    match client_info {
        Some(client_info) => json.raw(client_info.get()),
        None => {
            json.raw("{");
            json.member("name").string(name);
            json.member("version").string("");
            json.raw("}");
        }
    }
    json.raw("}");
    Ok(json.finish())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_gateway_greets_for_a_client_that_does_not() {
        assert_eq!(
            hello(None, None, "an \"ide\"").unwrap(),
            r#"{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"an \"ide\"","version":""}}"#
        );
        let (roots, info) = (r#"{"roots":{}}"#, r#"{"name":"x","version":"2"}"#);
        assert_eq!(
            hello(JsonValue::read(roots), JsonValue::read(info), "ide").unwrap(),
            r#"{"protocolVersion":"2025-11-25","capabilities":{"roots":{}},"clientInfo":{"name":"x","version":"2"}}"#
        );
        let refusal = hello(JsonValue::read("[]"), None, "ide").unwrap_err();
        assert_eq!(refusal.reason, Reason::BadParams);
        assert_eq!(refusal.message, "`capabilities` must be an object");
        assert!(hello(None, JsonValue::read("1"), "ide").is_err());
    }

    #[test]
    fn what_a_server_does_not_say_has_a_value_all_the_same() {
        let read = Greeting::read(
            r#"{"protocolVersion":"2025-06-18","capabilities":{"tools":{}},"serverInfo":[]}"#,
        );
        assert_eq!(&*read.protocol_version, "\"2025-06-18\"");
        assert_eq!(&*read.capabilities, r#"{"tools":{}}"#);
        assert_eq!(&*read.server_info, "{}");
        assert_eq!(&*Greeting::read("1").protocol_version, "null");
    }
}
