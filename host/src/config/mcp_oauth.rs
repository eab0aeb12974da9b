//! The key `oauth` of an MCP server: how this program is known to the server's authorization server.

use super::check::Report;
use super::mcp_server::McpServer;
use super::secret::Secret;
use super::tree::{Node, Value};
use mcp_local_provider_engine::tls::{IS_BUILT_IN, TlsError};
use mcp_local_provider_mcp::config::Wire;
use serde::{Deserialize, Serialize};

/// Keys by the names that other programs have for them.
const OTHER_NAMES: [(&str, &str); 5] = [
    ("clientId", "client_id"),
    ("clientSecret", "client_secret"),
    ("clientMetadataUrl", "client_metadata_url"),
    ("callbackPort", "callback_port"),
    ("scopes", "scope"),
];

/// This program as a client of OAuth 2.1. Nothing of it is needed where the authorization server registers programs by itself.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct McpOauth {
    /// Its name at the authorization server, where somebody has registered it by hand.
    pub client_id: Option<String>,
    /// Its secret there.
    pub client_secret: Option<Secret>,
    /// The `https` address of a document about it, which authorization servers may take as its name.
    pub client_metadata_url: Option<String>,
    /// Scopes that a login asks for, with blanks between them, in place of those that the server names.
    pub scope: Option<String>,
    /// The port of this machine that the browser comes back to; a free one when absent.
    pub callback_port: Option<u16>,
}

/// Gives the keys of the section the names that they have here.
pub(super) fn expand(server: &mut Node) {
    let Some(oauth) = server.get_mut("oauth") else {
        return;
    };
    let Value::Map(entries) = &mut oauth.value else {
        return;
    };
    for entry in entries {
        let mut names = OTHER_NAMES.iter();
        if let Some((_, name)) = names.find(|(other, _)| *other == entry.key) {
            (*name).clone_into(&mut entry.key);
        }
    }
}

impl McpServer {
    /// True for a server whose tokens come from logins: it is reached over HTTP, and the configuration sends it none. No token is
    /// sent by a program without TLS.
    pub(crate) fn takes_logins(&self) -> bool {
        if !IS_BUILT_IN {
            return false;
        }
        let is_own = |name: &String| name.eq_ignore_ascii_case("authorization");
        matches!(self.wire(), Wire::Http | Wire::Sse) && !self.headers.keys().any(is_own)
    }
}

/// Checks the section of the server at `path`.
pub(super) fn check(path: &str, server: &McpServer, report: &mut Report<'_>) {
    let Some(oauth) = &server.oauth else { return };
    let path = format!("{path}.oauth");
    if !IS_BUILT_IN {
        return report.problem(&path, TlsError::NotBuiltIn.to_string());
    }
    if !matches!(server.wire(), Wire::Http | Wire::Sse) {
        report.problem(
            &path,
            "only a server that is reached over HTTP takes logins",
        );
    } else if !server.takes_logins() {
        let message =
            "the header `Authorization` of this server is sent instead; remove one of them";
        report.problem(&path, message);
    }
    if oauth.client_id.as_deref() == Some("") {
        let message =
            "it is empty; leave it out where the authorization server registers programs by itself";
        report.problem(&format!("{path}.client_id"), message);
    }
    if oauth.client_secret.is_some() && oauth.client_id.is_none() {
        report.problem(&format!("{path}.client_secret"), "give `client_id` with it");
    }
    if let Some(url) = &oauth.client_metadata_url {
        let path = format!("{path}.client_metadata_url");
        super::check::url(report, &path, url, &["https"]);
    }
    let is_scope = |scope: &str| {
        scope
            .chars()
            .all(|c| matches!(c, ' '..='~') && !matches!(c, '"' | '\\'))
    };
    if !oauth.scope.as_deref().is_none_or(is_scope) {
        let message =
            "scopes are words of visible ASCII without `\"` and `\\`, with blanks between them";
        report.problem(&format!("{path}.scope"), message);
    }
    if oauth.callback_port == Some(0) {
        let message = "0 is no port; leave it out for a free one";
        report.problem(&format!("{path}.callback_port"), message);
    }
}
