//! Dialling a WebSocket server: the external bridges, and the demo agent's way to its own provider.
//!
//! A driver resolves names, connects and moves bytes; what is said, what the answers mean, and when to try again is here.

use super::config::{Bridge, BridgeTimes};
use super::converse::Converse;
use super::engine::Engine;
use super::link::Connected;
use super::status::{Part, PartStatus};
use mcp_local_provider_core::agents::websocket::SUBPROTOCOL;
use mcp_local_provider_core::error::Refusal;
use mcp_local_provider_core::hub::{Dialled, Hello};
use mcp_local_provider_core::link::LinkConfig;
use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tungstenite::Error;
use tungstenite::client::ClientRequestBuilder;
use tungstenite::error::{ProtocolError, SubProtocolError};
use tungstenite::http::Uri;

/// Server to dial, with the token to show and the limits of the connection.
#[derive(Clone)]
pub struct Target {
    /// `ws://host:port/path`.
    pub url: String,
    /// Sent as `Authorization: Bearer`.
    pub token: Option<String>,
    /// `limits.agent_frame_bytes`.
    pub frame_bytes: usize,
    /// `timeouts.write`.
    pub write_timeout: Duration,
    /// For a dial, from the look-up of the name on.
    pub connect_timeout: Duration,
}

impl fmt::Debug for Target {
    /// Without the token, which the address may hold too.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let url = self.url.split(['?', '#']).next();
        write!(f, "Target({})", url.unwrap_or_default())
    }
}

impl Target {
    /// A server at `url`, with a provider's limits.
    #[must_use]
    pub fn new(engine: &Engine, url: String, token: Option<String>) -> Self {
        Self {
            url,
            token,
            frame_bytes: engine.link_config().frame_bytes,
            write_timeout: engine.config().timeouts.write,
            connect_timeout: BridgeTimes::default().connect,
        }
    }

    /// The URL, taken apart.
    ///
    /// # Errors
    /// [`DialError::Url`] if it is not of the form `ws://host:port/path`.
    pub fn uri(&self) -> Result<Uri, DialError> {
        let uri: Uri = self
            .url
            .parse()
            .map_err(|error| DialError::Url(format!("{error}")))?;
        if uri.scheme_str() != Some("ws") {
            return Err(DialError::Url("it must start with ws://".into()));
        }
        if uri.host().is_none() {
            return Err(DialError::Url("it names no host".into()));
        }
        Ok(uri)
    }

    /// The request of the handshake; the agent protocol's subprotocol is in it if it is to be offered.
    #[must_use]
    pub fn request(&self, uri: &Uri, offer: bool) -> ClientRequestBuilder {
        let mut request = ClientRequestBuilder::new(uri.clone());
        if let Some(token) = &self.token {
            request = request.with_header("Authorization", format!("Bearer {token}"));
        }
        if offer {
            request = request.with_sub_protocol(SUBPROTOCOL);
        }
        request
    }
}

/// Name and port of a server.
#[must_use]
pub fn host_and_port(uri: &Uri) -> (&str, u16) {
    let host = uri.host().unwrap_or_default().trim_matches(['[', ']']);
    (host, uri.port_u16().unwrap_or(80))
}

/// Reason why a server was not reached. Its text tells the person what to look at.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// The URL is not of the form `ws://host:port/path`.
    #[error("the URL is wrong: {0}")]
    Url(String),
    /// The name is unknown or nobody listens there.
    #[error("it cannot be reached: {0}")]
    Unreachable(io::Error),
    /// It took longer than a dial may.
    #[error("it does not answer")]
    Timeout,
    /// The server answered with this HTTP status instead of an upgrade: 401 and 403 mean that the token is wrong.
    #[error("it answered {}", refusal(*.0))]
    Refused(u16),
    /// The server did not answer as RFC 6455 demands.
    #[error("it does not speak WebSocket: {0}")]
    Handshake(String),
    /// The server ignored the subprotocol that was offered: dial it again without.
    #[error("it chose a subprotocol unasked")]
    NoSubprotocol,
}

/// Describes a refusing HTTP status and the remedy.
fn refusal(status: u16) -> String {
    match status {
        401 | 403 => format!("{status}: check the token"),
        _ => format!("{status} instead of an upgrade"),
    }
}

impl From<Error> for DialError {
    fn from(error: Error) -> Self {
        #[expect(
            clippy::wildcard_enum_match_arm,
            reason = "tungstenite's errors: the others are told by their own text"
        )]
        match error {
            Error::Protocol(ProtocolError::SecWebSocketSubProtocolError(
                SubProtocolError::NoSubProtocol,
            )) => Self::NoSubprotocol,
            Error::Http(response) => Self::Refused(response.status().as_u16()),
            Error::Io(error) => Self::Unreachable(error),
            error => Self::Handshake(error.to_string()),
        }
    }
}

/// Pauses before dialling again: their bound doubles from the first to the highest, with full jitter.
#[derive(Debug)]
pub struct Backoff {
    first: Duration,
    highest: Duration,
    failures: u32,
    /// State of a SplitMix64 generator.
    chance: u64,
}

impl Backoff {
    /// Pauses that differ from those of another seed, so that many who lost one server do not come back at once.
    #[must_use]
    pub const fn new(seed: u64, times: &BridgeTimes) -> Self {
        Self {
            first: times.reconnect_delay,
            highest: times.reconnect_max_delay,
            failures: 0,
            chance: seed,
        }
    }

    /// The next pause: anything between nothing and the bound.
    pub fn pause(&mut self) -> Duration {
        let doubled = self.first.saturating_mul(1 << self.failures.min(31));
        let bound = doubled.min(self.highest).as_micros();
        let bound = u64::try_from(bound).unwrap_or(u64::MAX);
        self.failures = self.failures.saturating_add(1);
        self.chance = self.chance.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.chance;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        Duration::from_micros((z ^ (z >> 31)) % bound.saturating_add(1))
    }

    /// It worked: the next pause is short again.
    pub const fn reset(&mut self) {
        self.failures = 0;
    }
}

/// Keeps one external bridge connected: a driver dials [`BridgeDialler::target`], tells what came of it, and waits as long as
/// it is told.
#[derive(Debug)]
pub struct BridgeDialler {
    engine: Arc<Engine>,
    bridge: Bridge,
    target: Target,
    status: Arc<PartStatus>,
    backoff: Backoff,
    attempts: u32,
    /// There is a link now.
    linked: bool,
}

impl BridgeDialler {
    /// The dialler of a bridge, which health tells about from now on.
    #[must_use]
    pub(crate) fn new(engine: Arc<Engine>, bridge: Bridge) -> Self {
        let status = PartStatus::new(Part::Bridge, &bridge.name);
        engine.add_part(status.clone());
        let times = &bridge.times;
        Self {
            target: Target {
                connect_timeout: times.connect,
                ..Target::new(&engine, bridge.url.clone(), bridge.token.clone())
            },
            backoff: Backoff::new(engine.chance(), times),
            engine,
            bridge,
            status,
            attempts: 0,
            linked: false,
        }
    }

    /// The engine that gets the link.
    #[must_use]
    pub const fn engine(&self) -> &Arc<Engine> {
        &self.engine
    }

    /// The server to dial.
    #[must_use]
    pub const fn target(&self) -> &Target {
        &self.target
    }

    /// The WebSocket is open. Serve the link, if the hub takes it, and then say that it is [`BridgeDialler::lost`].
    pub fn connected(&mut self) -> Option<Box<dyn Converse>> {
        self.attempts = 0;
        self.backoff.reset();
        let hello = Hello {
            token: self.bridge.token.as_deref(),
            dialled: Some(Dialled {
                name: &self.bridge.name,
                form: self.bridge.form,
                session: self.bridge.session.as_ref(),
            }),
        };
        let config = LinkConfig {
            ping_interval: self.bridge.times.heartbeat,
            pong_timeout: self.bridge.times.heartbeat_timeout,
            ..self.engine.link_config().clone()
        };
        match Connected::with(&self.engine, hello, &config) {
            Ok(link) => {
                tracing::info!(bridge = self.bridge.name, "connected");
                self.status.connected(self.engine.now());
                self.linked = true;
                Some(Box::new(link))
            }
            Err(refusal) => {
                self.unusable(&refusal);
                None
            }
        }
    }

    fn unusable(&self, refusal: &Refusal) {
        tracing::warn!(bridge = self.bridge.name, %refusal, "cannot be used");
        let now = self.engine.now();
        self.status.lost(now, refusal.to_string(), false);
    }

    /// The connection has ended. How long to wait before the next dial; `None` when there is to be none.
    pub fn lost(&mut self) -> Option<Duration> {
        if std::mem::take(&mut self.linked) {
            let now = self.engine.now();
            self.status
                .lost(now, "the connection was lost".into(), false);
        }
        self.pause()
    }

    /// The dial failed. How long to wait before the next one; `None` when there is to be none.
    pub fn failed(&mut self, error: &DialError) -> Option<Duration> {
        let name = &self.bridge.name;
        let now = self.engine.now();
        self.attempts = self.attempts.saturating_add(1);
        let attempts = self.attempts;
        let most = self.bridge.times.reconnect_attempts;
        let given_up =
            matches!(error, DialError::Url(_)) || most.is_some_and(|most| attempts > most);
        self.status.lost(now, error.to_string(), given_up);
        if given_up {
            tracing::error!(bridge = name, %error, attempts, "given up");
            return None;
        }
        tracing::warn!(bridge = name, %error, attempts, "cannot be dialled");
        self.pause()
    }

    fn pause(&mut self) -> Option<Duration> {
        (!self.engine.is_draining()).then(|| self.backoff.pause())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_a_minute() {
        let mut backoff = Backoff::new(7, &BridgeTimes::default());
        for bound in [1, 2, 4, 8, 16, 32, 60, 60] {
            assert!(backoff.pause() <= Duration::from_secs(bound));
        }
        backoff.reset();
        assert!(backoff.pause() <= Duration::from_secs(1));
    }
}
