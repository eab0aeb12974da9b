//! Variables by which MCP bridges are configured, `MCP_SERVER_…` and `BRIDGE_…`, as values of this configuration. They beat the
//! file, and `MLP_…` beats them. One that is empty counts as unset.

use super::environment::Environment;
use super::error::Problem;
use super::parse::parse_inline;
use super::paths::depends_on_the_folder;
use super::shorthand;
use super::tree::{Entry, Form, Node, Origin, Value};
use crate::installed::find_program;
use std::ffi::OsStr;
use std::path::Path;

/// Variables that hold a value as it stands, each with the path of the value.
const VALUES: [(&str, &[&str]); 11] = [
    ("BRIDGE_MAX_PROCESSES", &["gateway", "processes", "max"]),
    (
        "BRIDGE_PROCESS_IDLE_TIMEOUT",
        &["gateway", "processes", "idle"],
    ),
    (
        "BRIDGE_PROCESS_TIMEOUT",
        &["gateway", "timeouts", "request"],
    ),
    (
        "BRIDGE_RESTART_ON_FAILURE",
        &["gateway", "restart", "enabled"],
    ),
    (
        "BRIDGE_MAX_RESTART_ATTEMPTS",
        &["gateway", "restart", "attempts"],
    ),
    (
        "BRIDGE_MAX_SESSIONS_PER_CLIENT",
        &["gateway", "sessions", "per_client"],
    ),
    ("BRIDGE_SESSION_TIMEOUT", &["gateway", "sessions", "idle"]),
    (
        "BRIDGE_RATE_LIMIT_REQUESTS",
        &["gateway", "rate", "requests"],
    ),
    ("BRIDGE_RATE_LIMIT_PERIOD", &["gateway", "rate", "period"]),
    ("BRIDGE_REQUIRE_AUTH", &["auth", "required"]),
    ("BRIDGE_LOG_FILE", &["log", "file"]),
];

/// Variables that would set what this build does not offer.
const NOT_OFFERED: [&str; 10] = [
    "BRIDGE_HEALTH_CHECK_INTERVAL",
    "BRIDGE_SESSION_CLEANUP_INTERVAL",
    "BRIDGE_ENABLE_WEBSOCKET",
    "BRIDGE_ENABLE_SSE",
    "BRIDGE_ENABLE_HTTP",
    "BRIDGE_API_KEYS",
    "BRIDGE_CORS_ORIGINS",
    "BRIDGE_ENABLE_METRICS",
    "BRIDGE_METRICS_PORT",
    "BRIDGE_LOG_LEVEL",
];

/// Variables that change nothing here. Those of `MCP_…` may be for other programs.
const WITHOUT_EFFECT: [&str; 6] = [
    "BRIDGE_WORKERS",
    "MCP_LOG_LEVEL",
    "MCP_DATA_DIR",
    "MCP_MAX_CONNECTIONS",
    "MCP_CACHE_TTL",
    "MCP_RATE_LIMIT",
];

/// Writes the values of the variables into the tree, over the values of the file. Adds a problem for each one that is wrong or not
/// offered, and a warning for each one that has no effect.
pub(super) fn override_tree(
    environment: &Environment,
    root: &mut Node,
    problems: &mut Vec<Problem>,
    warnings: &mut Vec<Problem>,
) {
    let mut tree = Tree {
        environment,
        root,
        problems,
    };
    tree.set_server();
    tree.set_address();
    for (name, path) in VALUES {
        if let Some((text, origin)) = environment.entry(name) {
            tree.set(path, Node::scalar(text, Form::Loose, origin.clone()));
        }
    }
    tree.set_rate_limiting();
    let problem = |(_, origin): (&str, &Origin), message: &str| Problem {
        origin: Some(origin.clone()),
        path: String::new(),
        message: message.to_owned(),
    };
    let given = |name: &&str| environment.entry(name);
    let not_offered = NOT_OFFERED.iter().filter_map(given);
    problems.extend(not_offered.map(|entry| problem(entry, "not offered by this build; unset it")));
    let without = WITHOUT_EFFECT.iter().filter_map(given);
    warnings.extend(without.map(|entry| problem(entry, "this variable changes nothing here")));
}

struct Tree<'t> {
    environment: &'t Environment,
    root: &'t mut Node,
    problems: &'t mut Vec<Problem>,
}

impl Tree<'_> {
    fn set(&mut self, path: &[&str], node: Node) {
        let path: Vec<String> = path.iter().map(|step| (*step).to_owned()).collect();
        self.root.set(&path, node);
    }

    fn refuse(&mut self, origin: &Origin, path: &[&str], message: impl Into<String>) {
        self.problems.push(Problem {
            origin: Some(origin.clone()),
            path: path.join("."),
            message: message.into(),
        });
    }

    /// Sets the server `default` by `MCP_SERVER_PATH`, `MCP_SERVER_ARGS` and `MCP_SERVER_ENV`.
    fn set_server(&mut self) {
        const COMMAND: [&str; 3] = ["mcpServers", "default", "command"];
        const ARGUMENTS: [&str; 3] = ["mcpServers", "default", "args"];
        let environment = self.environment;
        let mut own = Vec::new();
        if let Some((text, origin)) = environment.entry("MCP_SERVER_PATH") {
            let quoted = |text: &str| Node::scalar(text, Form::Quoted, origin.clone());
            let search = environment.get("PATH").unwrap_or_default();
            let (runner, script) = started(text, OsStr::new(search));
            if script && !Path::new(text).is_absolute() && !text.starts_with("~/") {
                self.refuse(origin, &COMMAND, depends_on_the_folder(Path::new(text)));
            }
            let mut words = runner.iter().copied().chain([text]);
            self.set(&COMMAND, quoted(words.next().unwrap_or(text)));
            own = words.map(quoted).collect();
            self.set(&ARGUMENTS, list(own.clone(), origin));
        }
        if let Some((text, origin)) = environment.entry("MCP_SERVER_ARGS") {
            match words(text, origin) {
                Some(words) => {
                    own.extend(words);
                    self.set(&ARGUMENTS, list(own, origin));
                }
                None => self.refuse(
                    origin,
                    &ARGUMENTS,
                    "expected words as in a shell, or a JSON array of texts",
                ),
            }
        }
        if let Some((text, origin)) = environment.entry("MCP_SERVER_ENV") {
            match variables(text, origin) {
                Some(variables) => {
                    for (name, node) in variables {
                        self.set(&["mcpServers", "default", "env", &name], node);
                    }
                }
                // The text holds secrets.
                None => self.refuse(
                    origin,
                    &["mcpServers", "default", "env"],
                    "expected `NAME=VALUE` with commas between several, or a JSON object of texts",
                ),
            }
        }
    }

    /// Sets the one address to listen on by `BRIDGE_HOST` and `BRIDGE_PORT`.
    fn set_address(&mut self) {
        const PATH: [&str; 2] = ["listen", "http"];
        let host = self.environment.entry("BRIDGE_HOST");
        let port = self.environment.entry("BRIDGE_PORT");
        let Some((_, origin)) = host.or(port) else {
            return;
        };
        if let Some((text, origin)) = port
            && text.trim().parse::<u16>().is_err()
        {
            return self.refuse(origin, &PATH, "a port is a number from 0 to 65535");
        }
        let host = host.map_or("127.0.0.1", |(host, _)| host.trim());
        let port = port.map_or("8788", |(port, _)| port.trim());
        let address = if host.parse::<std::net::Ipv6Addr>().is_ok() {
            format!("[{host}]:{port}")
        } else {
            format!("{host}:{port}")
        };
        let node = Node::scalar(address, Form::Quoted, origin.clone());
        self.set(&PATH, list(vec![node], origin));
    }

    /// Lifts the limit of the rate where `BRIDGE_ENABLE_RATE_LIMITING` says so.
    fn set_rate_limiting(&mut self) {
        const PATH: [&str; 3] = ["gateway", "rate", "requests"];
        let Some((text, origin)) = self.environment.entry("BRIDGE_ENABLE_RATE_LIMITING") else {
            return;
        };
        match text.trim().to_ascii_lowercase().as_str() {
            "true" | "yes" | "on" | "1" => {}
            "false" | "no" | "off" | "0" => {
                self.set(&PATH, Node::scalar("0", Form::Loose, origin.clone()));
            }
            _ => self.refuse(origin, &PATH, "expected `true` or `false`"),
        }
    }
}

fn list(items: Vec<Node>, origin: &Origin) -> Node {
    Node {
        value: Value::List(items),
        origin: origin.clone(),
    }
}

/// Returns the words that run what `path` names, and true where that is a script: `x.py` by python3, `x.js` by node, a module of
/// Python by `python3 -m`. No words for a program, which is looked for in the directories of `search`.
fn started(path: &str, search: &OsStr) -> (&'static [&'static str], bool) {
    let of_a_module = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.');
    if path.ends_with(".py") {
        (&["python3"], true)
    } else if path.ends_with(".js") {
        (&["node"], true)
    } else if path.contains('.')
        && path.chars().all(of_a_module)
        && !path.split('.').any(str::is_empty)
        && !Path::new(path).is_file()
        && find_program(path, search).is_none()
    {
        (&["python3", "-m"], false)
    } else {
        (&[], false)
    }
}

/// Reads words of a shell or a JSON array.
fn words(text: &str, origin: &Origin) -> Option<Vec<Node>> {
    if text.trim_start().starts_with('[') {
        return match parse_inline(text.trim(), origin).ok()?.value {
            Value::List(items) => items
                .iter()
                .all(|item| item.text().is_some())
                .then_some(items),
            Value::Scalar { .. } | Value::Map(_) | Value::Refused => None,
        };
    }
    let words = shorthand::words(text).ok()?.into_iter();
    let node = |word| Node::scalar(word, Form::Quoted, origin.clone());
    Some(words.map(node).collect())
}

/// Reads `NAME=VALUE` pairs or a JSON object.
fn variables(text: &str, origin: &Origin) -> Option<Vec<(String, Node)>> {
    if text.trim_start().starts_with('{') {
        let Value::Map(entries) = parse_inline(text.trim(), origin).ok()?.value else {
            return None;
        };
        let variable = |entry: Entry| {
            let is_text = entry.node.text().is_some();
            is_text.then_some((entry.key, entry.node))
        };
        return entries.into_iter().map(variable).collect();
    }
    let pairs = text.split(',').map(str::trim);
    let variable = |pair: &str| {
        let (name, value) = pair.split_once('=')?;
        let node = Node::scalar(value, Form::Quoted, origin.clone());
        Some((name.trim().to_owned(), node))
    };
    pairs
        .filter(|pair| !pair.is_empty())
        .map(variable)
        .collect()
}
