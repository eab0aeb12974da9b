//! The section `mcpServers`: MCP servers that the program starts or connects to, as other programs write them, so that files can be
//! pasted.

use super::check::Report;
use super::environment::Environment;
use super::error::{Problem, nearest};
use super::gateway::{Interactive, Scope};
use super::mcp_address::McpTransport;
use super::mcp_oauth::{self, McpOauth};
use super::paths::Folders;
use super::secret::Secret;
use super::shorthand;
use super::tree::{Entry, Form, Node, Origin, Value};
use super::{OneServer, agent_command, mcp_address};
use mcp_local_provider_core::config::REGISTRY_SERVER;
use mcp_local_provider_mcp::catalogue::uris::UriPrefix;
use mcp_local_provider_mcp::config::ToolFilter;
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

/// Name of the section.
const SECTION: &str = "mcpServers";
/// Longest name of a server, in bytes.
const MAX_NAME_BYTES: usize = 32;
/// Keys of a server. All others are keys of other programs.
const KEYS: [&str; 14] = [
    "command",
    "args",
    "env",
    "cwd",
    "pass_env",
    "disabled",
    "scope",
    "interactive",
    "prefix",
    "tools",
    "url",
    "headers",
    "transport",
    "oauth",
];

/// One MCP server: a program that speaks MCP over its standard input and output, or one that is reached over HTTP.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct McpServer {
    /// The program: a path, or a name that is looked for on the `PATH`. Empty with a `url`.
    pub command: String,
    /// Its arguments.
    pub args: Vec<String>,
    /// Variables for its environment.
    pub env: BTreeMap<String, Secret>,
    /// Its working directory; the person's home directory when absent.
    pub cwd: Option<PathBuf>,
    /// Variables of this program that it sees beside the usual ones. A name that ends in `*` stands for all with that prefix.
    pub pass_env: Vec<String>,
    /// The address of one that is reached over HTTP: `http://host:port/path`, or `https:` for TLS.
    pub url: Option<String>,
    /// Headers that it is sent, by their names.
    pub headers: BTreeMap<String, Secret>,
    /// The way to it; Streamable HTTP with a `url` when absent, else its standard input and output.
    pub transport: Option<McpTransport>,
    /// This program as its authorization server knows it; `mcp login` gets the tokens.
    pub oauth: Option<McpOauth>,
    /// Text before the names of its tools and prompts at `/mcp`, and before its URIs; its name when absent.
    pub prefix: Option<String>,
    /// The tools that clients know of.
    pub tools: McpTools,
    /// True for a server that is not offered.
    pub disabled: bool,
    /// Sessions that have a process of it together; as `gateway.scope` says when absent.
    pub scope: Option<Scope>,
    /// Its way with clients that can be asked; as `gateway.interactive` says when absent.
    pub interactive: Option<Interactive>,
}

impl McpServer {
    /// Returns the text that tells the server of this name from others.
    fn prefix<'s>(&'s self, name: &'s str) -> &'s str {
        self.prefix.as_deref().unwrap_or(name)
    }
}

/// The choice of a server's tools, by the names that the server has for them. One that ends in `*` stands for all that begin so.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct McpTools {
    /// The only ones that clients know of; all when it is absent.
    pub allow: Option<Vec<String>>,
    /// Those that clients do not know of.
    pub deny: Vec<String>,
}

impl McpTools {
    /// Returns the choice in the form of the gateway's machines.
    pub(super) fn filter(&self) -> ToolFilter {
        let boxed = |names: &Vec<String>| names.iter().map(|name| name.as_str().into()).collect();
        ToolFilter {
            allow: self.allow.as_ref().map(boxed),
            deny: boxed(&self.deny),
        }
    }
}

/// The servers by name, in the order of the file.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct McpServers(Vec<(String, McpServer)>);

impl McpServers {
    /// Returns all servers, those that are disabled too.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &McpServer)> {
        self.0.iter().map(|(name, server)| (name.as_str(), server))
    }

    /// Returns the servers that are offered.
    pub fn offered(&self) -> impl Iterator<Item = (&str, &McpServer)> {
        self.iter().filter(|(_, server)| !server.disabled)
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = (&str, &mut McpServer)> {
        let servers = self.0.iter_mut();
        servers.map(|(name, server)| (name.as_str(), server))
    }
}

impl Serialize for McpServers {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.iter())
    }
}

impl<'de> Deserialize<'de> for McpServers {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ServersVisitor;
        impl<'de> Visitor<'de> for ServersVisitor {
            type Value = McpServers;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a map")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<McpServers, A::Error> {
                let mut servers = Vec::new();
                while let Some(server) = map.next_entry()? {
                    servers.push(server);
                }
                Ok(McpServers(servers))
            }
        }
        deserializer.deserialize_map(ServersVisitor)
    }
}

/// Returns the name of the section for a key that means it; `None` for any other key.
pub(super) fn section_named(key: &str) -> Option<&'static str> {
    let names = [SECTION, "mcp_servers"];
    let means = names.iter().any(|name| key.eq_ignore_ascii_case(name));
    means.then_some(SECTION)
}

/// Gives the section its name, and writes its short forms out: `files: "npx -y a-server"` and `command: [npx, -y, a-server]`.
pub(super) fn expand(root: &mut Node, problems: &mut Vec<Problem>) {
    let Value::Map(sections) = &mut root.value else {
        return;
    };
    let mut named = None;
    for entry in sections.iter_mut() {
        if section_named(&entry.key).is_none() || entry.node.is_refused() {
            continue;
        }
        if let Some(before) = named.replace(entry.origin.clone()) {
            problems.push(Problem {
                origin: Some(entry.origin.clone()),
                path: String::new(),
                message: format!(
                    "`{}` is `{SECTION}`, which is given twice; it was given before at {before}",
                    entry.key
                ),
            });
            entry.node.value = Value::Refused;
        } else {
            SECTION.clone_into(&mut entry.key);
        }
    }
    let servers = root.get_mut(SECTION).map(|servers| &mut servers.value);
    let Some(Value::Map(servers)) = servers else {
        return;
    };
    for Entry { key, node, .. } in servers {
        mcp_address::expand(&format!("{SECTION}.{key}"), node, problems);
        mcp_oauth::expand(node);
        shorthand::expand_section(node, "command", |_| true);
        if let Err(message) = expand_command(node)
            && let Some(command) = node.get_mut("command")
        {
            problems.push(Problem {
                origin: Some(command.origin.clone()),
                path: format!("{SECTION}.{key}.command"),
                message,
            });
            command.value = Value::Refused;
        }
    }
}

/// Makes program and arguments of a command that has both, where there are no `args`.
fn expand_command(server: &mut Node) -> Result<(), String> {
    let Some(command) = server
        .get("command")
        .filter(|_| server.get("args").is_none())
    else {
        return Ok(());
    };
    let origin = command.origin.clone();
    let mut words = match &command.value {
        Value::List(items) => items.clone(),
        Value::Scalar { text, .. } if text.contains(char::is_whitespace) => {
            let words = shorthand::words(text)?.into_iter();
            let node = |word| Node::scalar(word, Form::Quoted, origin.clone());
            words.map(node).collect()
        }
        Value::Scalar { .. } | Value::Map(_) | Value::Refused => return Ok(()),
    };
    if words.is_empty() {
        return Err("the command is empty".to_owned());
    }
    let arguments = Node {
        value: Value::List(words.split_off(1)),
        origin,
    };
    if let (Some(program), Some(command)) = (words.pop(), server.get_mut("command")) {
        *command = program;
    }
    server.set(&["args".to_owned()], arguments);
    Ok(())
}

/// Makes `server` the only one, in the current directory, and the gateway all that is served. `origin` is that of the values.
pub(super) fn set_only(root: &mut Node, server: &OneServer, origin: &Origin) {
    let text = |text: &str| Node::scalar(text, Form::Quoted, origin.clone());
    let value = |value: &str| Node::scalar(value, Form::Plain, origin.clone());
    let list = |items: Vec<Node>| Node {
        value: Value::List(items),
        origin: origin.clone(),
    };
    let mut words = server.command.iter().map(|word| text(word));
    let command = words.next().unwrap_or_else(|| text(""));
    let mut entry = Node::map(origin.clone());
    entry.set(&["command".to_owned()], command);
    entry.set(&["args".to_owned()], list(words.collect()));
    entry.set(&["cwd".to_owned()], text("."));
    let mut servers = Node::map(origin.clone());
    servers.set(&[name_of(&server.command)], entry);
    root.set(&[SECTION.to_owned()], servers);
    for section in ["agents", "bridges"] {
        root.set(&[section.to_owned()], list(Vec::new()));
    }
    let mut set = |path: [&str; 2], node| root.set(&path.map(str::to_owned), node);
    set(["gateway", "enabled"], value("true"));
    if !server.needs_key {
        set(["auth", "required"], value("false"));
    }
}

/// Makes a name for the server that `command` starts: `npx -y @scope/server-files` is `server-files`.
fn name_of(command: &[String]) -> String {
    let started = agent_command::name_of(command).unwrap_or_default();
    let mut name = String::new();
    for c in started.chars() {
        let c = if c.is_ascii_alphanumeric() { c } else { '-' };
        let is_first = name.is_empty();
        if (is_first && !c.is_ascii_alphabetic()) || (c == '-' && name.ends_with('-')) {
            continue;
        }
        name.push(c);
    }
    name.truncate(MAX_NAME_BYTES);
    let name = name.trim_end_matches('-');
    if name.is_empty() { "default" } else { name }.to_owned()
}

/// Takes the keys of other programs out of the section, and adds a warning for each. One that resembles a key of ours stays, to
/// be refused as a misspelling.
pub(super) fn pass_over(root: &mut Node, warnings: &mut Vec<Problem>) {
    let servers = root.get_mut(SECTION).map(|servers| &mut servers.value);
    let Some(Value::Map(servers)) = servers else {
        return;
    };
    for server in servers {
        let Value::Map(entries) = &mut server.node.value else {
            continue;
        };
        entries.retain(|entry| {
            if entry.node.is_refused() || nearest(&entry.key, &KEYS).is_some() {
                return true;
            }
            warnings.push(Problem {
                origin: Some(entry.origin.clone()),
                path: format!("{SECTION}.{}.{}", server.key, entry.key),
                message: "this key of other programs does nothing here".to_owned(),
            });
            false
        });
    }
}

/// Looks up the variables and headers of the servers that are offered.
pub(super) fn secrets(
    servers: &mut McpServers,
    environment: &Environment,
    folders: &Folders,
    report: &mut Report<'_>,
) {
    for (name, server) in servers.iter_mut().filter(|(_, server)| !server.disabled) {
        let named = |key, (of, secret)| (format!("{SECTION}.{name}.{key}.{of}"), secret);
        let variables = server.env.iter_mut().map(|value| named("env", value));
        let headers = server
            .headers
            .iter_mut()
            .map(|value| named("headers", value));
        let oauth = server.oauth.as_mut();
        let secret = oauth.and_then(|oauth| oauth.client_secret.as_mut());
        let path = format!("{SECTION}.{name}.oauth.client_secret");
        let secret = secret.map(|secret| (path, secret));
        for (path, secret) in variables.chain(headers).chain(secret) {
            // It may be empty, and most are no secrets.
            if secret.is_literal() {
                continue;
            }
            if let Err(message) = secret.resolve(environment, folders, report.origin(&path)) {
                report.problem(&path, message);
            } else if secret.text().is_none() {
                report.problem(
                    &path,
                    "a digest is no value; give the value, `env:NAME` or `file:PATH`",
                );
            }
        }
    }
}

/// Returns true for a name that a server may have.
#[must_use]
pub fn is_server_name(name: &str) -> bool {
    let of_a_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    name.len() <= MAX_NAME_BYTES
        && name.starts_with(|c: char| c.is_ascii_alphabetic())
        && name.chars().all(of_a_name)
        && !name.contains("__")
}

/// Checks all servers.
pub(super) fn check(servers: &McpServers, report: &mut Report<'_>) {
    check_apart(servers, report);
    for (name, server) in servers.iter() {
        let path = format!("{SECTION}.{name}");
        if !is_server_name(name) {
            let rule = "a server's name is a letter, then letters, digits, `-` and `_`, at most 32 in all and without `__`";
            report.problem(
                &path,
                format!("`{}` is no name here; {rule}", name.escape_debug()),
            );
        }
        if name == REGISTRY_SERVER {
            report.problem(
                &path,
                "`registry` is the name of the program's own registry; give the server another name",
            );
        }
        mcp_address::check(&path, server, report);
        mcp_oauth::check(&path, server, report);
        let arguments = server.args.iter().enumerate();
        let arguments = arguments.map(|(index, text)| (format!("{path}.args[{index}]"), text));
        let command = (format!("{path}.command"), &server.command);
        for (path, text) in [command].into_iter().chain(arguments) {
            text_for_a_program(&path, text, report);
        }
        for (variable, value) in &server.env {
            let path = format!("{path}.env.{variable}");
            if variable.is_empty() || variable.contains(['=', '\0']) {
                let variable = variable.escape_debug();
                report.problem(&path, format!("`{variable}` is no name of a variable"));
            }
            text_for_a_program(&path, value.text().unwrap_or_default(), report);
        }
        for (index, variable) in server.pass_env.iter().enumerate() {
            if variable.is_empty() || variable.contains(['=', '\0']) {
                let message = format!(
                    "`{}` is no name of a variable; write `NAME`, or `PREFIX*` for all that begin so",
                    variable.escape_debug()
                );
                report.problem(&format!("{path}.pass_env[{index}]"), message);
            }
        }
        check_names(&path, server, report);
        let cwd = server.cwd.as_ref();
        if cwd.is_some_and(|cwd| cwd.as_os_str().is_empty()) {
            report.problem(
                &format!("{path}.cwd"),
                "the path is empty; leave it out for your home directory",
            );
        }
    }
}

/// Checks the prefix of a server, and the names of its tools.
fn check_names(path: &str, server: &McpServer, report: &mut Report<'_>) {
    if let Some(prefix) = &server.prefix
        && !is_server_name(prefix)
    {
        let message = format!(
            "`{}` is no prefix; it has the form of a server's name: a letter, then letters, digits, `-` and `_`, at most 32 in all and without `__`",
            prefix.escape_debug()
        );
        report.problem(&format!("{path}.prefix"), message);
    }
    let allow = server.tools.allow.iter().flatten();
    let names = allow.map(|name| ("allow", name));
    let names = names.chain(server.tools.deny.iter().map(|name| ("deny", name)));
    for (list, name) in names {
        if name.is_empty() {
            let message = "a tool's name is empty; `*` stands for all tools";
            report.problem(&format!("{path}.tools.{list}"), message);
        }
    }
}

/// Checks that the servers that are offered can be told apart.
fn check_apart(servers: &McpServers, report: &mut Report<'_>) {
    let mut known = vec![(REGISTRY_SERVER, UriPrefix::new(REGISTRY_SERVER))];
    for (name, server) in servers.offered() {
        if name == REGISTRY_SERVER {
            continue;
        }
        let prefix = UriPrefix::new(server.prefix(name));
        if let Some((other, _)) = known.iter().find(|(_, other)| other.is(&prefix)) {
            let message = format!(
                "it cannot be told from `{other}` in URIs, where `_` is `-` and case does not count; give one of them another `prefix`"
            );
            report.problem(&format!("{SECTION}.{name}"), message);
        }
        known.push((name, prefix));
    }
}

/// Checks a text that a program is given, and warns of what another program would have replaced in it.
fn text_for_a_program(path: &str, text: &str, report: &mut Report<'_>) {
    if text.contains('\0') {
        report.problem(path, "no program can be given a NUL character");
    }
    if text.contains("${") {
        report.warning(
            path,
            "`${…}` stays as it is, other than in the programs that replace it; in `env` write `env:NAME`",
        );
    }
}
