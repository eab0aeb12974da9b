//! The section `bridges`: WebSocket servers that the program dials, with their times and sessions.

use super::check::{Report, at_most_a_week, duration, url};
use super::secret::{Secret, SecretValue};
use super::{secret, sections, units};
use mcp_local_provider_core::hub::sessions::Registration;
use mcp_local_provider_core::id::SessionId;
use mcp_local_provider_core::invocation::InvokeForm;
use mcp_local_provider_core::scope::{Scope, Scopes};
use mcp_local_provider_core::supports::{Capabilities, Supports};
use mcp_local_provider_engine::BridgeTimes;
use mcp_local_provider_engine::tls::{IS_BUILT_IN, TlsError};
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// An external bridge, which the program dials over WebSocket.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
pub struct Bridge {
    /// Its name, for people.
    pub name: String,
    /// `ws://` or `wss://` address.
    #[serde(serialize_with = "secret::hide_query")]
    pub url: String,
    /// Bearer token for its handshake.
    #[serde(default)]
    pub token: Option<Secret>,
    /// True for the bridge that carries sessions which were registered over HTTP without a key; at most one does.
    #[serde(default)]
    pub default: bool,
    /// Form of the invocations that it is sent. Default `nested`.
    #[serde(default)]
    pub invocations: Invocations,
    /// The session that it has without registering.
    #[serde(default)]
    pub session: Option<BridgeSession>,
    /// Models that are asked in its place, in order, when it fails.
    #[serde(default)]
    pub fallback: Vec<String>,
    /// Longest time of a dial. Default 30 s.
    #[serde(default = "connect", with = "units::duration")]
    pub connect_timeout: Duration,
    /// Between pings. Default 30 s.
    #[serde(default = "heartbeat", with = "units::duration")]
    pub heartbeat: Duration,
    /// For a sign of life after a ping. Default 10 s.
    #[serde(default = "sign_of_life", with = "units::duration")]
    pub heartbeat_timeout: Duration,
    /// Longest first pause before it is dialled again; it doubles. Default 1 s.
    #[serde(default = "first_pause", with = "units::duration")]
    pub reconnect_delay: Duration,
    /// Longest pause of all. Default 60 s.
    #[serde(default = "longest_pause", with = "units::duration")]
    pub reconnect_max_delay: Duration,
    /// Attempts to dial again in a row; without end when absent.
    #[serde(default)]
    pub reconnect_attempts: Option<u32>,
}

fn connect() -> Duration {
    BridgeTimes::default().connect
}

fn heartbeat() -> Duration {
    BridgeTimes::default().heartbeat
}

fn sign_of_life() -> Duration {
    BridgeTimes::default().heartbeat_timeout
}

fn first_pause() -> Duration {
    BridgeTimes::default().reconnect_delay
}

fn longest_pause() -> Duration {
    BridgeTimes::default().reconnect_max_delay
}

/// Forms of `model_invoke`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Invocations {
    /// The request in `payload`.
    #[default]
    Nested,
    /// Everything at the top level.
    Flat,
}

/// A session of a bridge, with the fields of `POST /control/register`.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
pub struct BridgeSession {
    /// Its id; made here when absent.
    #[serde(default)]
    pub session_id: Option<String>,
    /// Token with which an agent may connect as this session; made here when absent.
    #[serde(default)]
    pub session_token: Option<Secret>,
    /// Name of the agent behind the bridge.
    pub agent_id: String,
    /// Scopes that it may be used for; inference when absent.
    #[serde(default)]
    pub allowed_scopes: Option<Vec<String>>,
    /// Seconds that it stays after the connection is lost; `sessions.ttl_seconds` when absent.
    #[serde(default)]
    pub ttl_seconds: Option<u32>,
    /// Its label, for people; the agent's name when absent.
    #[serde(default)]
    pub label: Option<String>,
    /// Models that it answers for; the agent's name when empty.
    #[serde(default)]
    pub models: Vec<String>,
    /// Requests that it answers in all; `sessions.max_requests` when absent.
    #[serde(default)]
    pub max_requests: Option<u64>,
    /// Requests that it answers in a minute; without a limit when absent.
    #[serde(default)]
    pub requests_per_minute: Option<u32>,
    /// Requests that it answers at once; without a limit when absent.
    #[serde(default)]
    pub max_concurrency: Option<usize>,
    /// Abilities of its models.
    #[serde(default)]
    pub capabilities: Capabilities,
}

impl Bridge {
    /// Returns the times in the engine's form.
    pub(crate) fn times(&self) -> BridgeTimes {
        BridgeTimes {
            connect: self.connect_timeout,
            heartbeat: self.heartbeat,
            heartbeat_timeout: self.heartbeat_timeout,
            reconnect_delay: self.reconnect_delay,
            reconnect_max_delay: self.reconnect_max_delay,
            reconnect_attempts: self.reconnect_attempts,
        }
    }

    /// Returns the form of invocations in the core's words.
    pub(crate) fn form(&self) -> InvokeForm {
        match self.invocations {
            Invocations::Nested => InvokeForm::Nested,
            Invocations::Flat => InvokeForm::Flat,
        }
    }
}

impl From<&BridgeSession> for Registration {
    fn from(session: &BridgeSession) -> Self {
        let scopes = match &session.allowed_scopes {
            Some(names) => Scopes::from(names.clone()),
            None => Scope::Inference.into(),
        };
        Registration {
            session_id: session.session_id.as_deref().and_then(SessionId::new),
            session_token: session
                .session_token
                .as_ref()
                .and_then(Secret::value)
                .map(SecretValue::digest),
            agent_id: session.agent_id.clone(),
            label: session.label.clone(),
            ttl_seconds: session.ttl_seconds,
            models: session.models.clone(),
            max_requests: session.max_requests,
            requests_per_minute: session.requests_per_minute,
            max_concurrency: session.max_concurrency,
            form: None,
            supports: Supports::declared(scopes, session.capabilities),
        }
    }
}

/// Checks all bridges.
pub(super) fn check(bridges: &[Bridge], report: &mut Report<'_>) {
    for (index, bridge) in bridges.iter().enumerate() {
        let path = format!("bridges[{index}]");
        report.name(&format!("{path}.name"), &bridge.name);
        url(report, &format!("{path}.url"), &bridge.url, &["ws", "wss"]);
        if !IS_BUILT_IN && bridge.url.starts_with("wss:") {
            report.problem(&format!("{path}.url"), TlsError::NotBuiltIn.to_string());
        }
        times(&path, bridge, report);
        if let Some(session) = &bridge.session {
            self::session(&format!("{path}.session"), session, report);
        }
    }
    let names = bridges.iter().enumerate();
    report.unique(
        "bridge",
        names.map(|(index, bridge)| (format!("bridges[{index}].name"), bridge.name.as_str())),
    );
    let ids = bridges.iter().enumerate().filter_map(|(index, bridge)| {
        let id = bridge.session.as_ref()?.session_id.as_deref()?;
        Some((format!("bridges[{index}].session.session_id"), id))
    });
    report.unique("session", ids);
    let mut defaults = bridges
        .iter()
        .enumerate()
        .filter(|(_, bridge)| bridge.default);
    if let (Some((_, first)), Some((index, _))) = (defaults.next(), defaults.next()) {
        let message = format!(
            "`{}` is the default already; only one bridge can be",
            first.name
        );
        report.problem(&format!("bridges[{index}].default"), message);
    }
}

fn times(path: &str, bridge: &Bridge, report: &mut Report<'_>) {
    for (name, time) in [
        ("connect_timeout", bridge.connect_timeout),
        ("heartbeat", bridge.heartbeat),
        ("heartbeat_timeout", bridge.heartbeat_timeout),
        ("reconnect_delay", bridge.reconnect_delay),
    ] {
        duration(report, &format!("{path}.{name}"), time);
    }
    at_most_a_week(
        report,
        &format!("{path}.reconnect_max_delay"),
        bridge.reconnect_max_delay,
    );
    if bridge.reconnect_max_delay < bridge.reconnect_delay {
        let message = format!(
            "must be at least `reconnect_delay`, which is {:?}",
            bridge.reconnect_delay
        );
        report.problem(&format!("{path}.reconnect_max_delay"), message);
    }
}

fn session(path: &str, session: &BridgeSession, report: &mut Report<'_>) {
    if let Some(id) = &session.session_id
        && SessionId::new(id).is_none()
    {
        let message = "expected 1 to 128 characters of A-Z a-z 0-9 . _ : -";
        report.problem(&format!("{path}.session_id"), message);
    }
    if let Err(refusal) = Registration::from(session).check() {
        let message = refusal.message();
        let field = refusal.param().unwrap_or_default();
        let message = message.strip_prefix(field).unwrap_or(message);
        let message = message.trim_start_matches(": ").to_owned();
        report.problem(&format!("{path}.{field}"), message);
    }
}

impl sections::Config {
    /// Returns the secrets that the sections of bridges name, with their paths, and true for those that are sent.
    pub(super) fn secrets_of_bridges(&mut self) -> Vec<(String, &mut Secret, bool)> {
        let mut secrets = Vec::new();
        for (index, bridge) in self.bridges.iter_mut().enumerate() {
            if let Some(token) = &mut bridge.token {
                secrets.push((format!("bridges[{index}].token"), token, true));
            }
            let session = bridge.session.as_mut();
            if let Some(token) = session.and_then(|session| session.session_token.as_mut()) {
                let path = format!("bridges[{index}].session.session_token");
                secrets.push((path, token, false));
            }
        }
        secrets
    }
}
