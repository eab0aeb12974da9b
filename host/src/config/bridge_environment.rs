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

/// Variables that hold a value as it stands, each with the path of the value. Of two for one path the later one counts.
const VALUES: [(&str, &[&str]); 17] = [
    ("MCP_DATA_DIR", &["data_dir"]),
    ("MCP_MAX_CONNECTIONS", &["limits", "connections"]),
    ("MCP_RATE_LIMIT", &["gateway", "rate", "requests"]),
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
        "BRIDGE_HEALTH_CHECK_INTERVAL",
        &["gateway", "health", "interval"],
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
        "BRIDGE_SESSION_CLEANUP_INTERVAL",
        &["gateway", "sessions", "sweep"],
    ),
    (
        "BRIDGE_RATE_LIMIT_REQUESTS",
        &["gateway", "rate", "requests"],
    ),
    ("BRIDGE_RATE_LIMIT_PERIOD", &["gateway", "rate", "period"]),
    ("MCP_CACHE_TTL", &["gateway", "cache_ttl"]),
    ("BRIDGE_REQUIRE_AUTH", &["auth", "required"]),
    ("BRIDGE_LOG_FILE", &["log", "file"]),
];

/// Variables that change nothing here.
const WITHOUT_EFFECT: [&str; 1] = ["BRIDGE_WORKERS"];

/// Transports of the gateway that a variable of its own takes out.
const TRANSPORTS: [(&str, &[&str]); 3] = [
    ("BRIDGE_ENABLE_WEBSOCKET", &["websocket"]),
    ("BRIDGE_ENABLE_SSE", &["sse", "events"]),
    ("BRIDGE_ENABLE_HTTP", &["http", "rest"]),
];

/// All transports, which are there where the file names none.
const ALL_TRANSPORTS: [&str; 5] = ["http", "sse", "websocket", "events", "rest"];

/// Writes the values of the variables into the tree, over the values of the file. Adds a problem for each one that is wrong, and a
/// warning for each one that has no effect.
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
    tree.set_transports();
    tree.set_metrics();
    tree.add_keys();
    tree.set_origins();
    tree.set_log_level();
    let problem = |(_, origin): (&str, &Origin), message: &str| Problem {
        origin: Some(origin.clone()),
        path: String::new(),
        message: message.to_owned(),
    };
    let given = |name: &&str| environment.entry(name);
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

    /// Returns what a variable switches on or off; `None` where it is not set. What it says else is refused as a value of `path`.
    fn switch(&mut self, name: &str, path: &[&str]) -> Option<(bool, Origin)> {
        let (text, origin) = self.environment.entry(name)?;
        let is_on = match text.trim().to_ascii_lowercase().as_str() {
            "true" | "yes" | "on" | "1" => true,
            "false" | "no" | "off" | "0" => false,
            _ => {
                self.refuse(origin, path, "expected `true` or `false`");
                return None;
            }
        };
        Some((is_on, origin.clone()))
    }

    /// Lifts the limit of the rate where `BRIDGE_ENABLE_RATE_LIMITING` says so.
    fn set_rate_limiting(&mut self) {
        const PATH: [&str; 3] = ["gateway", "rate", "requests"];
        if let Some((false, origin)) = self.switch("BRIDGE_ENABLE_RATE_LIMITING", &PATH) {
            self.set(&PATH, Node::scalar("0", Form::Loose, origin));
        }
    }

    /// Takes out the transports that a variable switches off.
    fn set_transports(&mut self) {
        const PATH: [&str; 2] = ["gateway", "transports"];
        for (name, transports) in TRANSPORTS {
            let Some((false, origin)) = self.switch(name, &PATH) else {
                continue;
            };
            let node = |text: &str| Node::scalar(text, Form::Quoted, origin.clone());
            let named = self.root.get("gateway");
            let named = named.and_then(|gateway| gateway.get("transports"));
            let mut left = match named {
                Some(named) => named.items().to_vec(),
                None => ALL_TRANSPORTS.map(node).to_vec(),
            };
            left.retain(|item| !item.text().is_some_and(|text| transports.contains(&text)));
            self.set(&PATH, list(left, &origin));
        }
    }

    /// Sets the address for metrics by `BRIDGE_ENABLE_METRICS` and `BRIDGE_METRICS_PORT`.
    fn set_metrics(&mut self) {
        const PATH: [&str; 2] = ["listen", "metrics"];
        let wanted = self.switch("BRIDGE_ENABLE_METRICS", &PATH);
        let port = self.environment.entry("BRIDGE_METRICS_PORT");
        if let Some((text, origin)) = port
            && text.trim().parse::<u16>().is_err()
        {
            return self.refuse(origin, &PATH, "a port is a number from 0 to 65535");
        }
        let (address, origin) = match (wanted, port) {
            (Some((false, origin)), _) => ("off".to_owned(), origin),
            (_, Some((port, origin))) => (format!("127.0.0.1:{}", port.trim()), origin.clone()),
            (Some((true, origin)), None) => ("127.0.0.1:9090".to_owned(), origin),
            (None, None) => return,
        };
        self.set(&PATH, Node::scalar(address, Form::Quoted, origin));
    }

    /// Adds the keys of `BRIDGE_API_KEYS`, for models and MCP servers.
    fn add_keys(&mut self) {
        const PATH: [&str; 2] = ["auth", "keys"];
        let Some((text, origin)) = self.environment.entry("BRIDGE_API_KEYS") else {
            return;
        };
        let Some(texts) = texts(text, origin) else {
            // The text holds secrets.
            let message = "expected keys with commas between several, or a JSON array of texts";
            return self.refuse(origin, &PATH, message);
        };
        let quoted = |text: &str| Node::scalar(text, Form::Quoted, origin.clone());
        let named = self.root.get("auth").and_then(|auth| auth.get("keys"));
        let mut keys = named.map_or(Vec::new(), |keys| keys.items().to_vec());
        for (number, text) in (1..).zip(texts) {
            let mut key = Node::map(origin.clone());
            let mut set = |name: &str, node| key.set(&[name.to_owned()], node);
            set("name", quoted(&format!("bridge-{number}")));
            set("key", quoted(&text));
            set("role", quoted("client"));
            let areas = ["models", "mcp"].map(quoted).to_vec();
            set("allow", list(areas, origin));
            keys.push(key);
        }
        self.set(&PATH, list(keys, origin));
    }

    /// Sets the origins that may call by `BRIDGE_CORS_ORIGINS`.
    fn set_origins(&mut self) {
        const PATH: [&str; 2] = ["auth", "allowed_origins"];
        let Some((text, origin)) = self.environment.entry("BRIDGE_CORS_ORIGINS") else {
            return;
        };
        let Some(texts) = texts(text, origin) else {
            let message = "expected origins with commas between several, or a JSON array of texts";
            return self.refuse(origin, &PATH, message);
        };
        let texts = texts.iter();
        let nodes = texts.map(|text| Node::scalar(text, Form::Quoted, origin.clone()));
        self.set(&PATH, list(nodes.collect(), origin));
    }

    /// Sets the level of the log by `BRIDGE_LOG_LEVEL` or `MCP_LOG_LEVEL`, which may have the names that Python gives to levels.
    fn set_log_level(&mut self) {
        let names = ["BRIDGE_LOG_LEVEL", "MCP_LOG_LEVEL"];
        let mut entries = names.iter().filter_map(|name| self.environment.entry(name));
        let Some((text, origin)) = entries.next() else {
            return;
        };
        let level = match text.trim().to_ascii_lowercase().as_str() {
            "warning" => "warn".to_owned(),
            "critical" | "fatal" => "error".to_owned(),
            other => other.to_owned(),
        };
        self.set(
            &["log", "level"],
            Node::scalar(level, Form::Quoted, origin.clone()),
        );
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

/// Reads texts with commas between them, or a JSON array.
fn texts(text: &str, origin: &Origin) -> Option<Vec<String>> {
    if text.trim_start().starts_with('[') {
        let items = words(text, origin)?;
        return items
            .iter()
            .map(|item| item.text().map(str::to_owned))
            .collect();
    }
    let parts = text.split(',').map(str::trim);
    let parts = parts.filter(|part| !part.is_empty());
    Some(parts.map(str::to_owned).collect())
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
