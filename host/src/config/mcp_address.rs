//! The keys of an MCP server that is reached over HTTP or by a WebSocket: its address, the form in which it is asked, and headers.

use super::check::{Report, url};
use super::error::Problem;
use super::mcp_server::McpServer;
use super::tree::{Node, Value};
use mcp_local_provider_engine::tls::{IS_BUILT_IN, TlsError};
use mcp_local_provider_mcp::config::Wire;
use serde::{Deserialize, Serialize};

/// Keys by the names that other programs have for them.
const OTHER_NAMES: [(&str, &str); 3] = [
    ("serverUrl", "url"),
    ("httpUrl", "url"),
    ("type", "transport"),
];

/// Headers that are set by the protocol.
const OWN_HEADERS: [&str; 14] = [
    "accept",
    "connection",
    "content-length",
    "content-type",
    "expect",
    "host",
    "last-event-id",
    "mcp-method",
    "mcp-name",
    "mcp-protocol-version",
    "mcp-session-id",
    "te",
    "transfer-encoding",
    "upgrade",
];

/// Ways to a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum McpTransport {
    /// Standard input and output of its process.
    Stdio,
    /// Streamable HTTP.
    #[serde(
        alias = "streamable-http",
        alias = "streamable_http",
        alias = "streamableHttp",
        alias = "streamablehttp"
    )]
    Http,
    /// HTTP+SSE, of revision 2024-11-05.
    Sse,
    /// A WebSocket.
    #[serde(alias = "websocket")]
    Ws,
}

/// Gives the keys of the server at `path` the names that they have here, and writes the short form out, which is the address.
pub(super) fn expand(path: &str, server: &mut Node, problems: &mut Vec<Problem>) {
    super::shorthand::expand_section(server, "url", |text| {
        ["http://", "https://", "ws://", "wss://"]
            .iter()
            .any(|scheme| text.starts_with(scheme))
    });
    let Value::Map(entries) = &mut server.value else {
        return;
    };
    for at in 0..entries.len() {
        let (before, rest) = entries.split_at_mut(at);
        let Some(entry) = rest.first_mut() else {
            return;
        };
        let mut names = OTHER_NAMES.iter();
        let name = names.find_map(|(other, name)| (*other == entry.key).then_some(*name));
        let name = name.unwrap_or(&entry.key).to_owned();
        let is_twice = before.iter().any(|other| other.key == name);
        if is_twice && OTHER_NAMES.iter().any(|(_, own)| *own == name) {
            problems.push(Problem {
                origin: Some(entry.origin.clone()),
                path: path.to_owned(),
                message: format!("`{}` is `{name}`, which is given twice", entry.key),
            });
            entry.node.value = Value::Refused;
        } else {
            entry.key = name;
        }
    }
}

impl McpServer {
    /// The headers that it is sent, which may be secrets: names and values.
    pub(crate) fn sent_headers(&self) -> Vec<(String, String)> {
        let headers = self.headers.iter();
        let headers =
            headers.filter_map(|(name, value)| Some((name.clone(), value.text()?.to_owned())));
        headers.collect()
    }

    /// The wire to it.
    pub(crate) fn wire(&self) -> Wire {
        match (&self.url, self.transport) {
            (None, _) => Wire::Stdio,
            (Some(url), None) if is_socket(url) => Wire::WebSocket,
            (Some(_), Some(McpTransport::Ws)) => Wire::WebSocket,
            (Some(_), Some(McpTransport::Sse)) => Wire::Sse,
            (Some(_), None | Some(McpTransport::Http | McpTransport::Stdio)) => Wire::Http,
        }
    }
}

/// Checks how the server at `path` is reached: by a command or an address, with what belongs to that alone.
pub(super) fn check(path: &str, server: &McpServer, report: &mut Report<'_>) {
    let has_command = !server.command.trim().is_empty();
    match (&server.url, server.transport) {
        (None, Some(McpTransport::Http | McpTransport::Sse | McpTransport::Ws)) => {
            report.problem(&format!("{path}.transport"), "give `url`, its address");
        }
        (None, None | Some(McpTransport::Stdio)) if !has_command => report.problem(
            path,
            "give `command`, the program that is the server, or `url`, its address",
        ),
        (None, None | Some(McpTransport::Stdio)) => {}
        (Some(_), Some(McpTransport::Stdio)) => report.problem(
            &format!("{path}.transport"),
            "a server with a `url` is not reached so; write `http`, `sse` or `ws`, or leave it out",
        ),
        (Some(address), None | Some(McpTransport::Http | McpTransport::Sse | McpTransport::Ws)) => {
            check_url(&format!("{path}.url"), address, server.transport, report);
            let of_a_process = [
                ("command", has_command),
                ("args", !server.args.is_empty()),
                ("env", !server.env.is_empty()),
                ("cwd", server.cwd.is_some()),
                ("pass_env", !server.pass_env.is_empty()),
            ];
            for (key, is_given) in of_a_process {
                if is_given {
                    let message = "a server with a `url` is not started here; remove one of them";
                    report.problem(&format!("{path}.{key}"), message);
                }
            }
        }
    }
    if server.url.is_none() && !server.headers.is_empty() {
        let message = "only a server with a `url` is sent headers";
        report.problem(&format!("{path}.headers"), message);
    }
    for (name, value) in &server.headers {
        let path = format!("{path}.headers.{name}");
        let is_token =
            |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
        if name.is_empty() || !name.bytes().all(is_token) {
            let name = name.escape_debug();
            report.problem(&path, format!("`{name}` is no name of a header"));
        } else if OWN_HEADERS.contains(&&*name.to_ascii_lowercase()) {
            report.problem(&path, "this header is set by the protocol; remove it");
        }
        // The value may be a secret.
        let stands = |c: char| !c.is_control() || c == '\t';
        if !value.text().unwrap_or_default().chars().all(stands) {
            report.problem(&path, "the value has control characters in it");
        }
    }
}

/// True for the address of a WebSocket.
fn is_socket(url: &str) -> bool {
    url.starts_with("ws://") || url.starts_with("wss://")
}

fn check_url(path: &str, address: &str, transport: Option<McpTransport>, report: &mut Report<'_>) {
    let schemes: &[&str] = match transport {
        Some(McpTransport::Ws) => &["ws", "wss"],
        Some(McpTransport::Http | McpTransport::Sse | McpTransport::Stdio) => &["http", "https"],
        None => &["http", "https", "ws", "wss"],
    };
    url(report, path, address, schemes);
    let place = address.split_once("://").map_or("", |(_, rest)| rest);
    let authority = place.split(['/', '?', '#']).next().unwrap_or_default();
    if authority.contains('@') {
        let message = "a name and a password in an address are not sent; write `headers: { Authorization: \"env:NAME\" }`";
        report.problem(path, message);
    }
    if !IS_BUILT_IN && (address.starts_with("https:") || address.starts_with("wss:")) {
        report.problem(path, TlsError::NotBuiltIn.to_string());
    }
}
