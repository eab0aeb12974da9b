//! The section `upstreams`: servers of models that are asked in their own APIs.

use super::check::{Report, duration};
use super::error::{Problem, nearest, one_of};
use super::secret::Secret;
use super::sections::Config;
use super::tree::{Entry, Form, Node, Segment, Value};
use super::{Extra, OLLAMA, shorthand, units};
use mcp_local_provider_core::agents::upstream::Api;
use mcp_local_provider_core::config::CircuitLimits;
use mcp_local_provider_engine as engine;
use mcp_local_provider_engine::proxy::Origin;
use mcp_local_provider_engine::tls::{IS_BUILT_IN, TlsError};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU16;
use std::time::Duration;

/// Names of [`UpstreamKind`] in a configuration.
const KINDS: [&str; 4] = ["openai", "anthropic", "ollama", "custom"];

/// A server of models that is asked in its own API.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
pub struct Upstream {
    /// Its name, which its models have before their own: `NAME/MODEL`. The kind's name when absent.
    #[serde(default)]
    pub name: Option<String>,
    /// The API that it speaks.
    pub kind: UpstreamKind,
    /// Its address with `http://` or `https://`; the kind's when absent, which `custom` has none of.
    #[serde(default)]
    pub url: Option<String>,
    /// Its key; without one none is sent.
    #[serde(default)]
    pub key: Option<Secret>,
    /// The models that it is asked for, by its own names; those of its own list when empty.
    #[serde(default)]
    pub models: Vec<String>,
    /// Time after which its list is read anew. Default 10 min.
    #[serde(default = "models_ttl", with = "units::duration")]
    pub models_ttl: Duration,
    /// Further attempts after one that failed before the first byte of an answer, at most 10. Default 2.
    #[serde(default = "retries")]
    pub retries: u32,
    /// Models that are asked in its place, in order, when it fails.
    #[serde(default)]
    pub fallback: Vec<String>,
    /// Requests at once; 0 is no limit. Default 64.
    #[serde(default = "concurrency")]
    pub concurrency: u32,
    /// Requests in a minute; 0 is no limit. Default 0.
    #[serde(default)]
    pub requests_per_minute: u32,
    /// Tokens in a minute; 0 is no limit. Default 0.
    #[serde(default)]
    pub tokens_per_minute: u32,
    /// Longest time of a connection's start. Default 10 s.
    #[serde(default = "connect_timeout", with = "units::duration")]
    pub connect_timeout: Duration,
    /// Failures after which it is left alone for a while.
    #[serde(default)]
    pub circuit: Circuit,
}

fn models_ttl() -> Duration {
    Duration::from_secs(600)
}

fn retries() -> u32 {
    2
}

fn concurrency() -> u32 {
    64
}

fn connect_timeout() -> Duration {
    Duration::from_secs(10)
}

/// APIs of upstreams.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum UpstreamKind {
    /// OpenAI's API, as OpenAI has it.
    OpenAi,
    /// Anthropic's Messages API.
    Anthropic,
    /// Ollama's API.
    Ollama,
    /// OpenAI's API, as other servers have it.
    Custom,
}

impl UpstreamKind {
    /// Returns the API in the core's words.
    #[must_use]
    pub const fn api(self) -> Api {
        match self {
            Self::OpenAi => Api::OpenAi,
            Self::Anthropic => Api::Anthropic,
            Self::Ollama => Api::Ollama,
            Self::Custom => Api::Custom,
        }
    }

    /// The address of a server that has none in the configuration.
    const fn url(self) -> Option<&'static str> {
        match self {
            Self::OpenAi => Some("https://api.openai.com/v1"),
            Self::Anthropic => Some("https://api.anthropic.com"),
            Self::Ollama => Some("http://127.0.0.1:11434"),
            Self::Custom => None,
        }
    }

    /// A right address, for errors.
    fn right_url(self) -> &'static str {
        self.url().unwrap_or("http://127.0.0.1:8080/v1")
    }

    /// Ends of paths that people write, and that are those of single routes.
    const fn routes(self) -> &'static [&'static str] {
        match self {
            Self::OpenAi | Self::Custom => &[
                "/chat/completions",
                "/completions",
                "/embeddings",
                "/responses",
                "/models",
            ],
            Self::Anthropic => &["/v1/messages", "/v1/models"],
            Self::Ollama => &[
                "/api/chat",
                "/api/generate",
                "/api/tags",
                "/api",
                "/v1/chat/completions",
                "/v1/models",
            ],
        }
    }

    /// The variable that its key is in by custom; `None` where servers need no key as a rule.
    const fn key_variable(self) -> Option<&'static str> {
        match self {
            Self::OpenAi => Some("OPENAI_API_KEY"),
            Self::Anthropic => Some("ANTHROPIC_API_KEY"),
            Self::Ollama | Self::Custom => None,
        }
    }
}

/// The circuit of an upstream: it opens after failures in a row, and nothing is asked while it is open.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(default)]
pub struct Circuit {
    /// Attempts in a row that fail by the server's fault; 0 never opens it. Default 5.
    pub failures: u32,
    /// Time for which it is open; then one request is let through as a probe. Default 30 s.
    #[serde(with = "units::duration")]
    pub pause: Duration,
}

impl Default for Circuit {
    fn default() -> Self {
        let limits = CircuitLimits::default();
        Self {
            failures: limits.failures,
            pause: limits.pause,
        }
    }
}

impl Upstream {
    /// Returns the name that it is known by: its own, or its kind's.
    #[must_use]
    pub fn known_as(&self) -> &str {
        let own = self.name.as_deref();
        own.unwrap_or_else(|| self.kind.api().as_str())
    }

    /// Returns its address as the engine takes it: for `openai` and `custom` up to `/v1`, for the others without `/v1`.
    fn base_url(&self) -> Option<&str> {
        let url = self.url.as_deref().or_else(|| self.kind.url())?;
        let url = url.trim_end_matches('/');
        Some(match self.kind {
            UpstreamKind::OpenAi | UpstreamKind::Custom => url,
            UpstreamKind::Anthropic | UpstreamKind::Ollama => {
                url.strip_suffix("/v1").unwrap_or(url).trim_end_matches('/')
            }
        })
    }

    /// Returns its server; `None` for an address that is none.
    fn origin(&self) -> Option<Origin> {
        let url = self.base_url()?;
        let authority = authority(url);
        let port = authority
            .rsplit_once(']')
            .map_or(authority, |(_, port)| port);
        if let Some((_, port)) = port.split_once(':') {
            // One that is none would count as the scheme's.
            port.parse::<NonZeroU16>().ok()?;
        }
        Origin::of(&url.parse().ok()?)
    }

    /// Returns it in the engine's form. Its address is right: the check has refused what is none.
    pub(crate) fn to_engine(&self) -> engine::Upstream {
        let limit = |value: u32| (value > 0).then_some(value);
        let url = self.base_url().unwrap_or_default();
        let key = self.key.as_ref().and_then(Secret::text);
        engine::Upstream {
            key: key.map(str::to_owned),
            models: self.models.clone(),
            models_ttl: self.models_ttl,
            retries: self.retries,
            concurrency: limit(self.concurrency)
                .map(|limit| usize::try_from(limit).unwrap_or(usize::MAX)),
            requests_per_minute: limit(self.requests_per_minute),
            tokens_per_minute: limit(self.tokens_per_minute),
            connect_timeout: self.connect_timeout,
            circuit: CircuitLimits {
                failures: self.circuit.failures,
                pause: self.circuit.pause,
            },
            ..engine::Upstream::new(self.known_as(), self.kind.api(), url)
        }
    }
}

/// Writes the words out that stand for upstreams: `KIND`, `ADDRESS` or `NAME=ADDRESS`.
pub(super) fn expand(upstreams: &mut Node, problems: &mut Vec<Problem>) {
    shorthand::expand_list(upstreams);
    let mut wrong = Vec::new();
    let items: Vec<&mut Node> = match &mut upstreams.value {
        Value::List(items) => items.iter_mut().collect(),
        // A section whose keys are numbers counts as a list.
        Value::Map(entries) => entries.iter_mut().map(|entry| &mut entry.node).collect(),
        Value::Scalar { .. } | Value::Refused => Vec::new(),
    };
    for (at, item) in items.into_iter().enumerate() {
        let Some(word) = item.text().filter(|_| !item.is_null()) else {
            continue;
        };
        match keys_of(word) {
            Ok(keys) => {
                let entry = |(key, text): (&str, String)| Entry {
                    key: key.to_owned(),
                    origin: item.origin.clone(),
                    node: Node::scalar(text, Form::Quoted, item.origin.clone()),
                };
                item.value = Value::Map(keys.into_iter().map(entry).collect());
            }
            Err(message) => {
                problems.push(Problem {
                    origin: Some(item.origin.clone()),
                    path: format!("upstreams[{at}]"),
                    message,
                });
                wrong.push(at);
            }
        }
    }
    for at in wrong {
        upstreams.refuse(&[Segment::Index(at)]);
    }
}

/// Returns the keys of the upstream that a word stands for.
fn keys_of(word: &str) -> Result<Vec<(&'static str, String)>, String> {
    let word = word.trim();
    if KINDS.contains(&word) {
        return Ok(vec![("kind", word.to_owned())]);
    }
    let of_custom = || ("kind", "custom".to_owned());
    match word.split_once("://") {
        // The name of a query's parameter is not that of an upstream.
        Some((before, _)) => match before.split_once('=') {
            Some((kind, _)) if KINDS.contains(&kind.trim()) => Ok(vec![
                ("kind", kind.trim().to_owned()),
                ("url", url_behind(word)),
            ]),
            Some((name, _)) => Ok(vec![
                ("name", name.trim().to_owned()),
                of_custom(),
                ("url", url_behind(word)),
            ]),
            None => Ok(vec![of_custom(), ("url", word.to_owned())]),
        },
        None => Err(match nearest(word, &KINDS) {
            Some(kind) => format!("no kind of upstream is called so; did you mean `{kind}`?"),
            // It may be a key.
            None => format!(
                "expected {}, an address, or `NAME=ADDRESS` such as `llama={}`",
                one_of(&KINDS),
                UpstreamKind::Custom.right_url()
            ),
        }),
    }
}

/// Returns what stands behind the first `=`.
fn url_behind(word: &str) -> String {
    let (_, url) = word.split_once('=').unwrap_or(("", word));
    url.trim().to_owned()
}

/// Checks all upstreams.
pub(super) fn check(config: &Config, report: &mut Report<'_>) {
    for (index, upstream) in config.upstreams.iter().enumerate() {
        let path = format!("upstreams[{index}]");
        if let Some(name) = &upstream.name {
            report.name(&format!("{path}.name"), name);
        }
        url(&format!("{path}.url"), upstream, report);
        key(&path, upstream, report);
        models(&path, upstream, report);
        for (name, time) in [
            ("models_ttl", upstream.models_ttl),
            ("connect_timeout", upstream.connect_timeout),
            ("circuit.pause", upstream.circuit.pause),
        ] {
            duration(report, &format!("{path}.{name}"), time);
        }
        report.at_most_largest(&format!("{path}.retries"), upstream.retries);
        name(index, config, report);
        is_elsewhere(&format!("{path}.url"), upstream, config, report);
    }
}

fn models(path: &str, upstream: &Upstream, report: &mut Report<'_>) {
    let mut seen = BTreeSet::new();
    for (at, model) in upstream.models.iter().enumerate() {
        let path = format!("{path}.models[{at}]");
        if model.is_empty() || model.contains(char::is_whitespace) {
            let message = "the name of a model is not empty and has no blanks in it";
            report.problem(&path, message);
        } else if !seen.insert(model) {
            report.problem(&path, format!("`{model}` is in the list already"));
        }
    }
}

/// Checks that nobody else has the name of an upstream, because models have it before their own.
fn name(index: usize, config: &Config, report: &mut Report<'_>) {
    let Some((upstream, before)) = config
        .upstreams
        .get(..=index)
        .and_then(<[Upstream]>::split_last)
    else {
        return;
    };
    let name = upstream.known_as();
    let other = if before.iter().any(|other| other.known_as() == name) {
        "another upstream"
    } else if config.agents.iter().any(|agent| agent.known_as() == name) {
        "an agent"
    } else if config.bridges.iter().any(|bridge| bridge.name == name) {
        "a bridge"
    } else {
        return;
    };
    // Without a name of its own it is the entry that lacks one.
    let key = if upstream.name.is_some() { ".name" } else { "" };
    report.problem(
        &format!("upstreams[{index}]{key}"),
        format!("`{name}` is the name of {other}; give this one another `name`"),
    );
}

/// Checks an address. No error shows a name, a password or a query, which may be a key.
fn url(path: &str, upstream: &Upstream, report: &mut Report<'_>) {
    let kind = upstream.kind;
    let right = kind.right_url();
    let Some(url) = &upstream.url else {
        if kind.url().is_none() {
            let message = format!(
                "`{}` needs an address; write `url: \"{right}\"`",
                kind.api().as_str()
            );
            report.problem(path.trim_end_matches(".url"), message);
        } else {
            transport(path, upstream, report);
        }
        return;
    };
    let end = |part: &str, what: &str| format!("the address has {part} in it, {what}");
    let has_scheme = url.starts_with("http://") || url.starts_with("https://");
    let authority = authority(url);
    let base = upstream.base_url().unwrap_or_default();
    let message = if authority.contains('@') {
        end(
            "a name or a password",
            "which are not sent; a key belongs into `key`",
        )
    } else if url.contains('?') {
        end("a query", "which is not sent; a key belongs into `key`")
    } else if url.contains('#') {
        end("a fragment", "which is not sent; remove it")
    } else if !has_scheme {
        format!("expected an address that begins with `http://` or `https://`, such as `{right}`")
    } else if upstream.origin().is_none() || url.contains(char::is_whitespace) {
        format!("this is no address; write it as `{right}`")
    } else if let Some((route, above)) = route(kind, base) {
        format!("`{route}` is a single route; write the address above it, `{above}`")
    } else {
        if matches!(kind, UpstreamKind::OpenAi | UpstreamKind::Custom) && base.ends_with(authority)
        {
            let message = format!(
                "the address has no path; servers with this API have it at `{base}/v1` as a rule"
            );
            report.warning(path, message);
        }
        return transport(path, upstream, report);
    };
    report.problem(path, message);
}

/// Returns the part of an address between its scheme and its path.
fn authority(url: &str) -> &str {
    let place = url.split_once("://").map_or(url, |(_, place)| place);
    place.split(['/', '?', '#']).next().unwrap_or_default()
}

/// Returns the route with which an address ends, and the address above it.
fn route(kind: UpstreamKind, url: &str) -> Option<(&'static str, &str)> {
    let mut routes = kind.routes().iter();
    routes.find_map(|route| Some((*route, url.strip_suffix(*route)?)))
}

/// Checks that the server can be reached with TLS, and that a key is not sent over a network without.
fn transport(path: &str, upstream: &Upstream, report: &mut Report<'_>) {
    let Some(origin) = upstream.origin() else {
        return;
    };
    if origin.secure && !IS_BUILT_IN {
        report.problem(path, TlsError::NotBuiltIn.to_string());
    } else if !origin.secure && upstream.key.is_some() && !is_local(&origin.host) {
        let message =
            "the key goes over the network without encryption; use `https://` if the server has it";
        report.warning(path, message);
    }
}

/// Checks a key that was looked up; the text of no error shows it.
fn key(path: &str, upstream: &Upstream, report: &mut Report<'_>) {
    let key = upstream.key.as_ref().and_then(Secret::text);
    if key.is_some_and(|key| !key.bytes().all(|byte| byte.is_ascii_graphic())) {
        let message = "the key has blanks, control characters or letters beyond ASCII in it, which cannot be sent";
        report.problem(&format!("{path}.key"), message);
    }
    let own_server = upstream.base_url() == upstream.kind.url();
    if let (None, Some(variable), true) = (&upstream.key, upstream.kind.key_variable(), own_server)
    {
        report.warning(
            path,
            format!("there is no key, and this server wants one; write `key: \"env:{variable}\"`"),
        );
    }
}

/// Refuses an address that is one of the program's own, where each request would come back until a limit is reached.
fn is_elsewhere(path: &str, upstream: &Upstream, config: &Config, report: &mut Report<'_>) {
    let Some(origin) = upstream.origin() else {
        return;
    };
    let listen = &config.listen;
    let mut own: Vec<(String, SocketAddr)> = Vec::new();
    for (index, address) in listen.http_addresses().into_iter().enumerate() {
        own.push((format!("listen.http[{index}]"), address));
    }
    for (name, extra) in [
        ("listen.ollama", listen.ollama),
        ("listen.metrics", listen.metrics),
    ] {
        match extra {
            Extra::Address(address) => own.push((name.to_owned(), address)),
            Extra::Auto => own.push((name.to_owned(), OLLAMA)),
            Extra::Off => {}
        }
    }
    let found = own.iter().find(|(_, address)| leads_to(&origin, *address));
    if let Some((name, address)) = found {
        let message = format!(
            "{} leads back to this program, which listens at {address} (`{name}`); change one of them",
            origin.authority()
        );
        // The address may be the kind's.
        let path = match &upstream.url {
            Some(_) => path,
            None => path.trim_end_matches(".url"),
        };
        report.problem(path, message);
    }
}

/// True when a connection to a server ends at a listener of this machine. Names but those of loopback are not looked up.
fn leads_to(origin: &Origin, listener: SocketAddr) -> bool {
    if listener.port() == 0 || origin.port != listener.port() {
        return false;
    }
    let own = listener.ip().to_canonical();
    match origin.host.parse::<IpAddr>().map(|ip| ip.to_canonical()) {
        Ok(ip) if ip.is_unspecified() => true,
        Ok(ip) => ip == own || own.is_unspecified() && ip.is_loopback(),
        Err(_) => is_local(&origin.host),
    }
}

/// True for addresses and names of loopback (RFC 6761, 6.3), and for the address that stands for any of this machine.
fn is_local(host: &str) -> bool {
    match host.parse::<IpAddr>().map(|ip| ip.to_canonical()) {
        Ok(ip) => ip.is_loopback() || ip.is_unspecified(),
        Err(_) => {
            let host = host.trim_end_matches('.');
            host == "localhost" || host.ends_with(".localhost")
        }
    }
}

/// Writes the name and the address out that hold for each upstream, so that they are shown.
pub(super) fn set_defaults(upstreams: &mut [Upstream]) {
    for upstream in upstreams {
        upstream.url = upstream.base_url().map(str::to_owned);
        upstream.name = Some(upstream.known_as().to_owned());
    }
}

impl Config {
    /// Returns the keys of upstreams with their paths.
    pub(super) fn keys_of_upstreams(&mut self) -> impl Iterator<Item = (String, &mut Secret)> {
        let upstreams = self.upstreams.iter_mut().enumerate();
        upstreams.filter_map(|(index, upstream)| {
            Some((format!("upstreams[{index}].key"), upstream.key.as_mut()?))
        })
    }
}
