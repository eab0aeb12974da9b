//! Checks that types cannot make: values that contradict each other or can never work.

use super::agent::Agent;
use super::environment::Environment;
use super::error::{Problem, nearest, one_of};
use super::into_core::areas;
use super::paths::Folders;
use super::sections::{Config, Limits, PRESETS, Role, Timeouts, is_of_a_name};
use super::tree::{Node, Origin};
use super::{Extra, Secret, bridge, fallback, gateway, mcp_server, registry, upstream};
use mcp_local_provider_core::config::{self as core, Network};
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// Longest name of a key, agent or server, in bytes.
const MAX_NAME_BYTES: usize = 64;
/// Length in bytes below which a key draws a warning.
const SHORT_SECRET_BYTES: usize = 16;
/// Largest `agents[].sessions.keep`: an agent has at most 256 sessions, and turns need some of them.
const MAX_KEPT: usize = 128;
/// Smallest `agents[].sessions.memory` in bytes, so that a number that was meant as mebibytes is noticed.
const MIN_AGENT_MEMORY: usize = 16 << 20;

/// Ends of the paths of numbers that may not be as large as their type allows, with the largest. serde_json stops at a
/// depth of 128, with an error that does not name this limit.
const LARGEST: [(&str, u64); 5] = [
    ("ttl_seconds", 86_400),
    ("limits.json_depth", 127),
    ("audit.keep", 1000),
    ("runtime.threads", 256),
    ("].retries", 10),
];

/// Returns the largest number at `path`, where it is smaller than its type's.
pub(crate) fn largest(path: &str) -> Option<u64> {
    let found = LARGEST.iter().find(|(end, _)| path.ends_with(end));
    found.map(|(_, largest)| *largest)
}

/// Problems and warnings that were found, each with its place.
pub(crate) struct Report<'n> {
    root: &'n Node,
    pub(crate) problems: Vec<Problem>,
    pub(crate) warnings: Vec<Problem>,
}

impl<'n> Report<'n> {
    pub(crate) fn new(root: &'n Node) -> Self {
        Report {
            root,
            problems: Vec::new(),
            warnings: Vec::new(),
        }
    }

    /// Returns the place at which the value at `path` was written; `None` for a default.
    pub(crate) fn origin(&self, path: &str) -> Option<&'n Origin> {
        let found = self.root.find(path);
        (!std::ptr::eq(found.node, self.root)).then_some(&found.node.origin)
    }

    fn make(&self, path: &str, message: impl Into<String>) -> Problem {
        Problem {
            origin: self.origin(path).cloned(),
            path: self.root.find(path).path,
            message: message.into(),
        }
    }

    /// Adds a problem of the value at `path`, unless the value or a part of it was refused before: then its default is what
    /// is wrong.
    pub(crate) fn problem(&mut self, path: &str, message: impl Into<String>) {
        let found = self.root.find(path);
        if found.is_there && found.node.lacks_refused() {
            return;
        }
        let problem = self.make(path, message);
        self.problems.push(problem);
    }

    pub(super) fn warning(&mut self, path: &str, message: impl Into<String>) {
        let problem = self.make(path, message);
        self.warnings.push(problem);
    }

    pub(super) fn at_least(&mut self, path: &str, value: usize, least: usize, why: &str) {
        if value < least {
            self.problem(
                path,
                format!("must be at least {least}, not {value}: {why}"),
            );
        }
    }

    pub(super) fn at_most_largest(&mut self, path: &str, value: u32) {
        if let Some(largest) = largest(path).filter(|largest| u64::from(value) > *largest) {
            self.problem(path, format!("must be at most {largest}, not {value}"));
        }
    }

    pub(super) fn name(&mut self, path: &str, name: &str) {
        if name.is_empty() || name.len() > MAX_NAME_BYTES || !name.chars().all(is_of_a_name) {
            let rule = "a name is 1 to 64 letters, digits, `-`, `_` and `.`";
            self.problem(
                path,
                format!("`{}` is no name here; {rule}", name.escape_debug()),
            );
        }
    }

    pub(super) fn unique<'a>(
        &mut self,
        what: &str,
        names: impl Iterator<Item = (String, &'a str)>,
    ) {
        let mut seen = BTreeSet::new();
        for (path, name) in names {
            if !seen.insert(name) {
                self.problem(
                    &path,
                    format!("`{name}` is the name of another {what}; names must differ"),
                );
            }
        }
    }
}

/// Looks up the keys of `auth` and of upstreams, the tokens of bridges, the passphrase of the registry and the variables of MCP
/// servers.
pub(crate) fn secrets(
    config: &mut Config,
    environment: &Environment,
    folders: &Folders,
    report: &mut Report<'_>,
) {
    let mut resolve = |path: String, secret: &mut Secret, sent: bool| {
        let origin = report.origin(&path);
        if let Err(message) = secret.resolve(environment, folders, origin) {
            return report.problem(&path, message);
        }
        if sent && secret.text().is_none() {
            report.problem(
                &path,
                "a digest cannot be sent; give the secret as `env:NAME` or `file:PATH`",
            );
        }
        let in_a_file = matches!(origin, Some(Origin::File { .. }));
        if secret.is_literal() && in_a_file {
            report.warning(
                &path,
                "the secret stands in the file itself; `env:NAME` or `file:PATH` keeps it out",
            );
        }
        if !sent
            && secret
                .text()
                .is_some_and(|text| text.len() < SHORT_SECRET_BYTES)
        {
            report.warning(
                &path,
                format!(
                    "the key is shorter than {SHORT_SECRET_BYTES} characters and can be guessed"
                ),
            );
        }
    };
    for (index, key) in config.auth.keys.iter_mut().enumerate() {
        resolve(format!("auth.keys[{index}].key"), &mut key.key, false);
    }
    for (path, secret, sent) in config.secrets_of_bridges() {
        resolve(path, secret, sent);
    }
    for (path, key) in config.keys_of_upstreams() {
        resolve(path, key, true);
    }
    if let Some((path, passphrase)) = config.passphrase_of_the_registry() {
        resolve(path, passphrase, false);
    }
    mcp_server::secrets(&mut config.mcp_servers, environment, folders, report);
}

/// Checks every other section.
pub(crate) fn check(config: &Config, report: &mut Report<'_>) {
    listen(config, report);
    auth(config, report);
    limits(&config.limits, report);
    timeouts(&config.timeouts, report);
    let sessions = &config.sessions;
    if !(1..=86_400).contains(&sessions.ttl_seconds) {
        report.problem(
            "sessions.ttl_seconds",
            format!("must be from 1 to 86400, not {}", sessions.ttl_seconds),
        );
    }
    report.at_least(
        "sessions.max",
        sessions.max as usize,
        1,
        "no agent could register",
    );
    models(config, report);
    bridge::check(&config.bridges, report);
    agents(&config.agents, report);
    upstream::check(config, report);
    fallback::check(config, report);
    mcp_server::check(&config.mcp_servers, report);
    let has_gateway = config.gateway().is_some();
    gateway::check(&config.gateway, has_gateway, config.limits.memory, report);
    registry::check(&config.registry, config.limits.memory, report);
    let empty = |file: &Option<PathBuf>| {
        let file = file.as_ref();
        file.is_some_and(|file| file.as_os_str().is_empty())
    };
    if empty(&config.audit.file) {
        report.problem(
            "audit.file",
            "the path is empty; write `off` to have no audit file",
        );
    }
    if empty(&config.log.file) {
        report.problem(
            "log.file",
            "the path is empty; leave it out to log to standard error",
        );
    }
    report.at_least(
        "audit.max_bytes",
        config.audit.max_bytes,
        4096,
        "a single record may be that long",
    );
    report.at_most_largest("audit.keep", config.audit.keep);
    report.at_most_largest("runtime.threads", config.runtime.threads);
    if config.data_dir.as_os_str().is_empty() {
        report.problem("data_dir", "the path is empty");
    }
}

fn listen(config: &Config, report: &mut Report<'_>) {
    let listen = &config.listen;
    for (index, proxy) in listen.trusted_proxies.iter().enumerate() {
        if let Err(error) = proxy.parse::<Network>() {
            let message = format!("`{proxy}` is no address and no network; {error}");
            report.problem(&format!("listen.trusted_proxies[{index}]"), message);
        }
    }
    if listen.http.is_empty() {
        report.problem(
            "listen.http",
            "at least one address is needed, such as `127.0.0.1:8788`",
        );
    }
    let mut all: Vec<(String, SocketAddr)> = Vec::new();
    for (index, listener) in listen.http.iter().enumerate() {
        all.push((format!("listen.http[{index}]"), listener.0));
    }
    for (path, extra) in [
        ("listen.ollama", listen.ollama),
        ("listen.metrics", listen.metrics),
    ] {
        match extra {
            Extra::Address(address) => all.push((path.to_owned(), address)),
            Extra::Auto if path == "listen.metrics" => {
                report.problem(path, "`auto` is for `listen.ollama`; write `off` or an address such as `127.0.0.1:9090`");
            }
            Extra::Auto | Extra::Off => {}
        }
    }
    let mut seen = BTreeSet::new();
    for (path, address) in &all {
        if address.port() != 0 && !seen.insert(*address) {
            report.problem(path, format!("`{address}` is listened on already"));
        }
        if !config.auth.required && !address.ip().is_loopback() {
            let message = format!(
                "`{address}` can be reached from other machines, and `auth.required` is false; listen on 127.0.0.1 or require keys"
            );
            report.problem(path, message);
        }
    }
}

fn auth(config: &Config, report: &mut Report<'_>) {
    let auth = &config.auth;
    for (index, key) in auth.keys.iter().enumerate() {
        report.name(&format!("auth.keys[{index}].name"), &key.name);
        for (limit, value) in [
            ("requests_per_minute", key.requests_per_minute),
            ("tokens_per_minute", key.tokens_per_minute),
        ] {
            let why = "everything would be refused; leave it out to use the general limit";
            report.at_least(
                &format!("auth.keys[{index}].{limit}"),
                value.unwrap_or(1) as usize,
                1,
                why,
            );
        }
        if key.allow.is_some() && key.role != Role::Client {
            let message = format!(
                "keys of the role `{}` have no areas; leave it out, or make the role `client`",
                key.role.name()
            );
            report.problem(&format!("auth.keys[{index}].allow"), message);
        }
        let areas = areas(key.allow.as_deref());
        if !key.servers.is_empty() && key.role == Role::Client && !areas.contains(&core::Area::Mcp)
        {
            report.problem(
                &format!("auth.keys[{index}].servers"),
                "this key may use no MCP server; write `mcp` in its `allow`",
            );
        }
        for (at, server) in key.servers.iter().enumerate() {
            if config.mcp_servers.iter().all(|(name, _)| name != server) {
                let message = format!("`mcpServers` has no server `{}`", server.escape_debug());
                report.warning(&format!("auth.keys[{index}].servers[{at}]"), message);
            }
        }
    }
    let names = auth
        .keys
        .iter()
        .enumerate()
        .map(|(index, key)| (format!("auth.keys[{index}].name"), key.name.as_str()));
    report.unique("key", names);
    let mut digests = BTreeSet::new();
    for (index, key) in auth.keys.iter().enumerate() {
        if key
            .key
            .value()
            .is_some_and(|value| !digests.insert(value.digest()))
        {
            report.problem(
                &format!("auth.keys[{index}].key"),
                "another entry has the same key; keys must differ",
            );
        }
    }
    for (index, host) in auth.allowed_hosts.iter().enumerate() {
        if host.is_empty() || host.contains(['/', ' ', '*']) {
            let message = format!(
                "`{host}` is no host; write it as a browser sends it, such as `provider.example` or `10.0.0.5:8788`"
            );
            report.problem(&format!("auth.allowed_hosts[{index}]"), message);
        }
    }
    for (index, origin) in auth.allowed_origins.iter().enumerate() {
        if origin == "*" {
            if !auth.required {
                report.problem(
                    &format!("auth.allowed_origins[{index}]"),
                    "`*` lets every page call, so it needs keys; name the origins, or leave `auth.required` true",
                );
            }
            continue;
        }
        let host = origin.split_once("://").map(|(_, host)| host);
        if host.is_none_or(|host| host.is_empty() || host.contains(['/', ' ', '*'])) {
            let message = format!(
                "`{origin}` is no origin; write scheme, host and port, such as `https://chat.example`"
            );
            report.problem(&format!("auth.allowed_origins[{index}]"), message);
        }
    }
}

fn limits(limits: &Limits, report: &mut Report<'_>) {
    let why = "everything would be refused; leave it out for the default";
    for (name, value) in [
        ("requests_per_minute", limits.requests_per_minute),
        ("tokens_per_minute", limits.tokens_per_minute),
        ("burst", limits.burst),
        ("exchanges", limits.exchanges),
        ("connections", limits.connections),
        ("messages", limits.messages),
        ("json_depth", limits.json_depth),
    ] {
        report.at_least(&format!("limits.{name}"), value as usize, 1, why);
    }
    report.at_most_largest("limits.json_depth", limits.json_depth);
    for (name, value) in [
        ("body_bytes", limits.body_bytes),
        ("content_bytes", limits.content_bytes),
    ] {
        report.at_least(&format!("limits.{name}"), value, 1, why);
    }
    for (name, value) in [
        ("agent_frame_bytes", limits.agent_frame_bytes),
        ("mailbox_bytes", limits.mailbox_bytes),
        ("answer_bytes", limits.answer_bytes),
        ("link_queue_bytes", limits.link_queue_bytes),
    ] {
        report.at_least(
            &format!("limits.{name}"),
            value,
            4096,
            "no answer would fit",
        );
    }
    at_most_a_week(report, "limits.queue.wait", limits.queue.wait);
    let largest = limits.body_bytes.max(limits.answer_bytes);
    report.at_least(
        "limits.memory",
        limits.memory,
        largest,
        "a body of limits.body_bytes or an answer of limits.answer_bytes would not fit",
    );
}

fn timeouts(timeouts: &Timeouts, report: &mut Report<'_>) {
    for (name, value) in [
        ("head", timeouts.head),
        ("body", timeouts.body),
        ("write", timeouts.write),
        ("first_event", timeouts.first_event),
        ("first_chunk", timeouts.first_chunk),
        ("idle", timeouts.idle),
        ("total", timeouts.total),
        ("keep_alive", timeouts.keep_alive),
    ] {
        duration(report, &format!("timeouts.{name}"), value);
    }
    if timeouts.drain > Duration::from_secs(86_400) {
        report.problem("timeouts.drain", "must be at most 1d");
    }
}

pub(super) fn duration(report: &mut Report<'_>, path: &str, value: Duration) {
    if value < Duration::from_millis(1) {
        report.problem(path, "must be at least 1ms; leave it out for the default");
    }
    at_most_a_week(report, path, value);
}

/// Refuses durations that no clock may be able to add.
pub(super) fn at_most_a_week(report: &mut Report<'_>, path: &str, value: Duration) {
    if value > Duration::from_secs(7 * 86_400) {
        report.problem(path, "must be at most 7d");
    }
}

fn models(config: &Config, report: &mut Report<'_>) {
    if config
        .models
        .default
        .as_ref()
        .is_some_and(|name| name.trim().is_empty())
    {
        report.problem("models.default", "the name is empty");
    }
    for (name, alias) in &config.models.aliases {
        let path = format!("models.aliases.{name}");
        if alias.model.trim().is_empty() || name.trim().is_empty() {
            report.problem(&path, "the name is empty");
        }
        if alias.model == *name {
            report.problem(&path, "an alias cannot stand for itself");
        } else if config.models.aliases.contains_key(&alias.model) {
            report.problem(
                &path,
                format!(
                    "`{}` is an alias itself; name the model that it stands for",
                    alias.model
                ),
            );
        }
        if alias.context_length == Some(0) {
            report.problem(&format!("{path}.context_length"), "must be at least 1");
        }
    }
}

pub(super) fn url(report: &mut Report<'_>, path: &str, url: &str, schemes: &[&str]) {
    let host = schemes
        .iter()
        .find_map(|scheme| url.strip_prefix(scheme)?.strip_prefix("://"));
    if host.is_none_or(|host| {
        host.is_empty()
            || host.starts_with(['/', ':', '?', '#'])
            || host.contains(char::is_whitespace)
    }) {
        let schemes: Vec<String> = schemes
            .iter()
            .map(|scheme| format!("`{scheme}://`"))
            .collect();
        let schemes = schemes.join(" or ");
        // The query may hold a token.
        let shown = url.split(['?', '#']).next().unwrap_or_default();
        report.problem(
            path,
            format!("expected an address that begins with {schemes}, found `{shown}`"),
        );
    }
}

fn agents(agents: &[Agent], report: &mut Report<'_>) {
    for (index, agent) in agents.iter().enumerate() {
        let path = format!("agents[{index}]");
        match (&agent.preset, agent.command.first()) {
            (None, None) => report.problem(
                &path,
                format!("give `preset` ({}) or `command`", one_of(&PRESETS)),
            ),
            (_, Some(program)) if program.trim().is_empty() => {
                report.problem(&format!("{path}.command"), "the command is empty");
            }
            (Some(preset), _) if !PRESETS.contains(&preset.as_str()) => {
                let hint = nearest(preset, &PRESETS)
                    .map(|name| format!("; did you mean `{name}`?"))
                    .unwrap_or_default();
                report.problem(
                    &format!("{path}.preset"),
                    format!("expected {}, found `{preset}`{hint}", one_of(&PRESETS)),
                );
            }
            _ => {}
        }
        if let Some(name) = &agent.name {
            report.name(&format!("{path}.name"), name);
        }
        if agent.concurrency == 0 {
            report.problem(
                &format!("{path}.concurrency"),
                "must be at least 1; leave it out for the default",
            );
        }
        duration(
            report,
            &format!("{path}.start_timeout"),
            agent.start_timeout,
        );
        let sessions = &agent.sessions;
        if sessions.keep > MAX_KEPT {
            report.problem(
                &format!("{path}.sessions.keep"),
                format!("must be at most {MAX_KEPT}"),
            );
        }
        duration(report, &format!("{path}.sessions.idle"), sessions.idle);
        if sessions.memory < MIN_AGENT_MEMORY {
            report.problem(
                &format!("{path}.sessions.memory"),
                "must be at least 16MiB; leave it out for the default",
            );
        }
    }
    let names: Vec<_> = agents.iter().map(Agent::known_as).collect();
    let names = names.iter().enumerate();
    let names = names.map(|(index, name)| (format!("agents[{index}]"), &**name));
    report.unique("agent", names);
}
