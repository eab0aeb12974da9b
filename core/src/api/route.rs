//! Which request goes where.

use crate::dialect::Dialect;
use crate::error::{Code, Refusal};
use crate::hub::sessions::Action;
use alloc::borrow::Cow;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

/// Every route.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Endpoint {
    /// `POST /v1/chat/completions` (OpenAI).
    ChatCompletions,
    /// `POST /v1/messages` (Anthropic).
    Messages,
    /// `POST /v1/messages/count_tokens` (Anthropic).
    CountTokens,
    /// `POST /v1/completions` (OpenAI).
    Completions,
    /// `POST /v1/fim/completions` (Mistral's form of the same).
    FimCompletions,
    /// `POST /v1/embeddings` (OpenAI).
    Embeddings,
    /// `POST /v1/responses` (OpenAI).
    Responses,
    /// `GET /v1/models` (OpenAI).
    Models,
    /// `GET /v1/models/{id}` (OpenAI).
    Model,
    /// `GET /api/v0/models` (LM Studio). Its routes for answers are OpenAI's under another name.
    LmStudioModels,
    /// `GET /api/v0/models/{id}` (LM Studio).
    LmStudioModel,
    /// `POST /api/chat` (Ollama).
    OllamaChat,
    /// `POST /api/generate` (Ollama).
    OllamaGenerate,
    /// `POST /api/embed` (Ollama).
    OllamaEmbed,
    /// `POST /api/embeddings` (Ollama), the older form.
    OllamaEmbeddings,
    /// `GET /api/tags` (Ollama).
    Tags,
    /// `POST /api/show` (Ollama).
    Show,
    /// `GET /api/ps` (Ollama).
    Ps,
    /// `GET /api/version` (Ollama).
    Version,
    /// `POST /api/pull` (Ollama): a model that is here is pulled already.
    Pull,
    /// `POST /api/push` and its kin (Ollama): models here are agents.
    ModelStore,
    /// `GET /`.
    Root,
    /// `GET /health`.
    Health,
    /// `GET /health/deep`.
    HealthDeep,
    /// `GET /metrics`: Prometheus text or OpenMetrics.
    Metrics,
    /// `GET /metrics.json` and `GET /stats`.
    MetricsJson,
    /// `GET /agent`: a WebSocket of an agent.
    Agent,
    /// `/agents/{agent}/mcp/{server}`: the tools of a caller, for the agent that answers it.
    CallerTools,
    /// `POST /control/register`.
    Register,
    /// `POST /control/revoke` and its kin.
    Control(Action),
    /// `GET /control/sessions`.
    Sessions,
    /// `GET /control/sessions/{id}`.
    Session,
    /// `OPTIONS` of any route: a browser's preflight.
    Preflight,
}

impl Endpoint {
    /// The form of its answers and errors.
    #[must_use]
    pub const fn dialect(self) -> Dialect {
        match self {
            Self::OllamaChat
            | Self::OllamaGenerate
            | Self::OllamaEmbed
            | Self::OllamaEmbeddings
            | Self::Tags
            | Self::Show
            | Self::Ps
            | Self::Version
            | Self::Pull
            | Self::ModelStore
            | Self::Root => Dialect::Ollama,
            Self::Messages | Self::CountTokens => Dialect::Anthropic,
            _ => Dialect::OpenAi,
        }
    }

    /// Method and path, for audit and metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::ChatCompletions => "POST /v1/chat/completions",
            Self::Messages => "POST /v1/messages",
            Self::CountTokens => "POST /v1/messages/count_tokens",
            Self::Completions => "POST /v1/completions",
            Self::FimCompletions => "POST /v1/fim/completions",
            Self::Embeddings => "POST /v1/embeddings",
            Self::Responses => "POST /v1/responses",
            Self::Models => "GET /v1/models",
            Self::Model => "GET /v1/models/{id}",
            Self::LmStudioModels => "GET /api/v0/models",
            Self::LmStudioModel => "GET /api/v0/models/{id}",
            Self::OllamaChat => "POST /api/chat",
            Self::OllamaGenerate => "POST /api/generate",
            Self::OllamaEmbed => "POST /api/embed",
            Self::OllamaEmbeddings => "POST /api/embeddings",
            Self::Tags => "GET /api/tags",
            Self::Show => "POST /api/show",
            Self::Ps => "GET /api/ps",
            Self::Version => "GET /api/version",
            Self::Pull => "POST /api/pull",
            Self::ModelStore => "/api/{push,create,copy,delete}",
            Self::Root => "GET /",
            Self::Health => "GET /health",
            Self::HealthDeep => "GET /health/deep",
            Self::Metrics => "GET /metrics",
            Self::MetricsJson => "GET /metrics.json",
            Self::Agent => "GET /agent",
            Self::CallerTools => "/agents/{agent}/mcp/{server}",
            Self::Register => "POST /control/register",
            Self::Control(Action::Approve) => "POST /control/approve",
            Self::Control(Action::Deny) => "POST /control/deny",
            Self::Control(Action::Suspend) => "POST /control/suspend",
            Self::Control(Action::Resume) => "POST /control/resume",
            Self::Control(Action::Revoke) => "POST /control/revoke",
            Self::Control(Action::Renew | Action::Expire) => "POST /control/renew",
            Self::Sessions => "GET /control/sessions",
            Self::Session => "GET /control/sessions/{id}",
            Self::Preflight => "OPTIONS",
        }
    }

    /// True when it runs an exchange.
    #[must_use]
    pub const fn is_inference(self) -> bool {
        matches!(
            self,
            Self::ChatCompletions
                | Self::Completions
                | Self::FimCompletions
                | Self::Responses
                | Self::Messages
                | Self::CountTokens
                | Self::OllamaChat
                | Self::OllamaGenerate
                | Self::Embeddings
                | Self::OllamaEmbed
                | Self::OllamaEmbeddings
        )
    }

    /// True when it tells about the program itself: [`super::report`] answers.
    #[must_use]
    pub const fn is_report(self) -> bool {
        matches!(self, Self::HealthDeep | Self::Metrics | Self::MetricsJson)
    }

    /// True when its body is to be read.
    #[must_use]
    pub const fn takes_body(self) -> bool {
        self.is_inference()
            || matches!(
                self,
                Self::Show
                    | Self::Pull
                    | Self::Register
                    | Self::Control(_)
                    | Self::ModelStore
                    | Self::CallerTools
            )
    }
}

/// Where a request goes.
#[derive(Clone, PartialEq, Eq)]
pub struct Route<'h> {
    /// The route.
    pub endpoint: Endpoint,
    /// The key of `/k/KEY/…`.
    pub path_key: Option<&'h str>,
    /// The `{id}` of the route, percent-decoded.
    pub id: Option<Cow<'h, str>>,
}

impl fmt::Debug for Route<'_> {
    /// Without the key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Route")
            .field("endpoint", &self.endpoint)
            .field("path_key", &self.path_key.is_some())
            .field("id", &self.id)
            .finish()
    }
}

/// Finds the route of a method and a target.
///
/// # Errors
/// 404 for an unknown path, 405 for a known one with another method, in the dialect that the path belongs to.
pub fn route<'h>(method: &str, target: &'h str) -> Result<Route<'h>, (Dialect, Refusal)> {
    let path = target.split_once('?').map_or(target, |(path, _)| path);
    let (path_key, path) = match path.strip_prefix("/k/") {
        Some(rest) => {
            let (key, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
            (Some(key), if path.is_empty() { "/" } else { path })
        }
        None => (None, path),
    };
    let trimmed = path
        .strip_suffix('/')
        .filter(|rest| !rest.is_empty())
        .unwrap_or(path);
    let bare = match trimmed.strip_prefix("/v1") {
        Some(rest) if rest.is_empty() || rest.starts_with('/') => rest,
        _ => trimmed,
    };
    let mut id = None;
    let get = &["GET", "HEAD"][..];
    let post = &["POST"][..];
    let (endpoint, methods) = match bare {
        "/" | "" => (Endpoint::Root, get),
        "/chat/completions" | "/api/v0/chat/completions" => (Endpoint::ChatCompletions, post),
        "/messages" => (Endpoint::Messages, post),
        "/messages/count_tokens" => (Endpoint::CountTokens, post),
        "/completions" | "/api/v0/completions" => (Endpoint::Completions, post),
        "/fim/completions" => (Endpoint::FimCompletions, post),
        "/embeddings" | "/api/v0/embeddings" => (Endpoint::Embeddings, post),
        "/responses" => (Endpoint::Responses, post),
        "/models" => (Endpoint::Models, get),
        "/api/v0/models" => (Endpoint::LmStudioModels, get),
        "/api/chat" => (Endpoint::OllamaChat, post),
        "/api/generate" => (Endpoint::OllamaGenerate, post),
        "/api/embed" => (Endpoint::OllamaEmbed, post),
        "/api/embeddings" => (Endpoint::OllamaEmbeddings, post),
        "/api/tags" => (Endpoint::Tags, get),
        "/api/show" => (Endpoint::Show, post),
        "/api/ps" => (Endpoint::Ps, get),
        "/api/version" => (Endpoint::Version, get),
        "/api/pull" => (Endpoint::Pull, post),
        "/api/push" | "/api/create" | "/api/copy" => (Endpoint::ModelStore, post),
        "/api/delete" => (Endpoint::ModelStore, &["DELETE", "POST"][..]),
        "/health" => (Endpoint::Health, get),
        "/health/deep" => (Endpoint::HealthDeep, get),
        "/metrics" => (Endpoint::Metrics, get),
        "/metrics.json" | "/stats" => (Endpoint::MetricsJson, get),
        "/agent" => (Endpoint::Agent, &["GET"][..]),
        "/control/register" => (Endpoint::Register, post),
        "/control/approve" => (Endpoint::Control(Action::Approve), post),
        "/control/deny" => (Endpoint::Control(Action::Deny), post),
        "/control/suspend" => (Endpoint::Control(Action::Suspend), post),
        "/control/resume" => (Endpoint::Control(Action::Resume), post),
        "/control/revoke" => (Endpoint::Control(Action::Revoke), post),
        "/control/renew" => (Endpoint::Control(Action::Renew), post),
        "/control/sessions" => (Endpoint::Sessions, get),
        other => {
            let (endpoint, rest, methods) = if let Some(rest) = other.strip_prefix("/models/") {
                (Endpoint::Model, rest, get)
            } else if let Some(rest) = other.strip_prefix("/api/v0/models/") {
                (Endpoint::LmStudioModel, rest, get)
            } else if let Some(rest) = other.strip_prefix("/control/sessions/") {
                (Endpoint::Session, rest, get)
            } else if let Some(rest) = other.strip_prefix("/agents/") {
                (Endpoint::CallerTools, rest, &["POST", "GET", "DELETE"][..])
            } else {
                return Err((
                    dialect_of(bare),
                    Refusal::new(
                        Code::NotFound,
                        alloc::format!("there is no route `{}`", printable(path)),
                    ),
                ));
            };
            id = Some(percent_decode(rest));
            (endpoint, methods)
        }
    };
    if method == "OPTIONS" {
        return Ok(Route {
            endpoint: Endpoint::Preflight,
            path_key,
            id: None,
        });
    }
    if !methods.contains(&method) {
        return Err((
            dialect_of(bare),
            Refusal::new(
                Code::MethodNotAllowed,
                alloc::format!("`{}` takes {}", printable(path), methods.join(" or ")),
            ),
        ));
    }
    Ok(Route {
        endpoint,
        path_key,
        id,
    })
}

fn dialect_of(path: &str) -> Dialect {
    if path == "/" || path.starts_with("/api/") && !path.starts_with("/api/v0/") {
        Dialect::Ollama
    } else if path == "/messages" || path.starts_with("/messages/") {
        Dialect::Anthropic
    } else {
        Dialect::OpenAi
    }
}

/// A path for a message: cut, and without control characters.
fn printable(path: &str) -> String {
    path.chars()
        .take(100)
        .map(|c| if c.is_control() { '\u{fffd}' } else { c })
        .collect()
}

/// RFC 3986, section 2.1. A malformed escape stays as it is.
fn percent_decode(text: &str) -> Cow<'_, str> {
    if !text.contains('%') {
        return Cow::Borrowed(text);
    }
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let digit = |at: usize| {
            after
                .get(at)
                .and_then(|digit| char::from(*digit).to_digit(16))
        };
        match (first, digit(0), digit(1)) {
            (b'%', Some(high), Some(low)) => {
                bytes.push(u8::try_from(high * 16 + low).unwrap_or(b'?'));
                rest = after.get(2..).unwrap_or_default();
            }
            _ => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    Cow::Owned(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]
    use super::*;

    #[test]
    fn every_route_answers_under_its_names() {
        for (method, target, endpoint, key, id) in [
            (
                "POST",
                "/v1/chat/completions",
                Endpoint::ChatCompletions,
                None,
                None,
            ),
            (
                "POST",
                "/chat/completions?beta=true",
                Endpoint::ChatCompletions,
                None,
                None,
            ),
            (
                "POST",
                "/k/mlp-1/v1/chat/completions",
                Endpoint::ChatCompletions,
                Some("mlp-1"),
                None,
            ),
            (
                "POST",
                "/k/mlp-1/api/chat",
                Endpoint::OllamaChat,
                Some("mlp-1"),
                None,
            ),
            (
                "POST",
                "/v1/messages?beta=true",
                Endpoint::Messages,
                None,
                None,
            ),
            (
                "POST",
                "/v1/messages/count_tokens?beta=true",
                Endpoint::CountTokens,
                None,
                None,
            ),
            ("POST", "/v1/completions", Endpoint::Completions, None, None),
            ("POST", "/completions", Endpoint::Completions, None, None),
            (
                "POST",
                "/v1/fim/completions",
                Endpoint::FimCompletions,
                None,
                None,
            ),
            (
                "POST",
                "/api/v0/chat/completions",
                Endpoint::ChatCompletions,
                None,
                None,
            ),
            (
                "GET",
                "/api/v0/models/a/b",
                Endpoint::LmStudioModel,
                None,
                Some("a/b"),
            ),
            ("POST", "/v1/embeddings", Endpoint::Embeddings, None, None),
            ("POST", "/api/embed", Endpoint::OllamaEmbed, None, None),
            (
                "POST",
                "/api/embeddings",
                Endpoint::OllamaEmbeddings,
                None,
                None,
            ),
            ("POST", "/v1/responses", Endpoint::Responses, None, None),
            ("GET", "/v1/models/", Endpoint::Models, None, None),
            (
                "GET",
                "/v1/models/a%2Fb/c:latest",
                Endpoint::Model,
                None,
                Some("a/b/c:latest"),
            ),
            ("GET", "/health/deep", Endpoint::HealthDeep, None, None),
            ("GET", "/metrics", Endpoint::Metrics, None, None),
            ("GET", "/metrics.json", Endpoint::MetricsJson, None, None),
            ("GET", "/stats", Endpoint::MetricsJson, None, None),
            ("HEAD", "/", Endpoint::Root, None, None),
            ("GET", "/k/mlp-1/", Endpoint::Root, Some("mlp-1"), None),
            ("GET", "/k/mlp-1", Endpoint::Root, Some("mlp-1"), None),
            ("GET", "/v1/", Endpoint::Root, None, None),
            ("HEAD", "/api/version", Endpoint::Version, None, None),
            (
                "GET",
                "/control/sessions/s-1",
                Endpoint::Session,
                None,
                Some("s-1"),
            ),
            (
                "POST",
                "/control/deny",
                Endpoint::Control(Action::Deny),
                None,
                None,
            ),
            (
                "DELETE",
                "/agents/mine/mcp/5d41402a",
                Endpoint::CallerTools,
                None,
                Some("mine/mcp/5d41402a"),
            ),
            ("OPTIONS", "/v1/models", Endpoint::Preflight, None, None),
        ] {
            let found =
                route(method, target).unwrap_or_else(|(_, refusal)| panic!("{target}: {refusal}"));
            assert_eq!(
                (found.endpoint, found.path_key, found.id.as_deref()),
                (endpoint, key, id),
                "{target}"
            );
        }
    }

    #[test]
    fn what_is_not_there_is_refused_in_the_dialect_of_its_neighbours() {
        for (method, target, dialect, status) in [
            ("GET", "/v1/chat/completions", Dialect::OpenAi, 405),
            ("DELETE", "/api/tags", Dialect::Ollama, 405),
            ("GET", "/v1/messages", Dialect::Anthropic, 405),
            ("POST", "/v1/messages/batches", Dialect::Anthropic, 404),
            ("GET", "/api/nothing", Dialect::Ollama, 404),
            ("GET", "/api/v0/nothing", Dialect::OpenAi, 404),
            ("GET", "/v2/models", Dialect::OpenAi, 404),
            ("GET", "/v1models", Dialect::OpenAi, 404),
        ] {
            let (of, refusal) = route(method, target).unwrap_err();
            assert_eq!((of, refusal.status()), (dialect, status), "{target}");
        }
    }
}
