//! Dialling a WebSocket server: the external bridges, remote MCP servers, and the demo agent's way to its own provider.
//!
//! A driver opens the connection; what is said and what the answers mean is here.

use super::config::BridgeTimes;
use super::engine::Engine;
use crate::pipe::Pipe;
use crate::proxy::{Origin, PipeTimes, ProxyError, Route};
use crate::tls::TlsError;
use crate::websocket::{Incoming, Piped, Socket, Stream, config};
use mcp_local_provider_core::agents::websocket::SUBPROTOCOL;
use mcp_local_provider_core::time::Instant;
use std::fmt;
use std::io;
use std::task::{Context, Poll, Waker};
use std::time::Duration;
use tungstenite::Error;
use tungstenite::WebSocket;
use tungstenite::client::{ClientRequestBuilder, client_with_config};
use tungstenite::error::{ProtocolError, SubProtocolError};
use tungstenite::handshake::client::{ClientHandshake, Response};
use tungstenite::handshake::{HandshakeError, MidHandshake};
use tungstenite::http::Uri;
use tungstenite::protocol::Role;

/// Server to dial, with the token to show and the limits of the connection.
#[derive(Clone)]
pub struct Target {
    /// `ws://host:port/path`, or `wss:` for TLS.
    pub url: String,
    /// Sent as `Authorization: Bearer`.
    pub token: Option<String>,
    /// `limits.agent_frame_bytes`.
    pub frame_bytes: usize,
    /// `timeouts.write`.
    pub write_timeout: Duration,
    /// For a dial, from the look-up of the name on.
    pub connect_timeout: Duration,
    /// Further headers of the handshake, which may be secrets.
    pub headers: Vec<(String, String)>,
    /// Subprotocol that is offered.
    pub subprotocol: &'static str,
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
            headers: Vec::new(),
            subprotocol: SUBPROTOCOL,
        }
    }

    /// The same, with another subprotocol than the agent protocol's.
    pub(crate) fn speaking(self, subprotocol: &'static str) -> Self {
        Self {
            subprotocol,
            ..self
        }
    }

    /// The URL, taken apart.
    ///
    /// # Errors
    /// [`DialError::Url`] if it is not of the form `ws://host:port/path` or `wss://host:port/path`.
    pub fn uri(&self) -> Result<Uri, DialError> {
        let uri: Uri = self
            .url
            .parse()
            .map_err(|error| DialError::Url(format!("{error}")))?;
        if !matches!(uri.scheme_str(), Some("ws" | "wss")) {
            return Err(DialError::Url("it must start with ws:// or wss://".into()));
        }
        if uri.host().is_none() {
            return Err(DialError::Url("it names no host".into()));
        }
        Ok(uri)
    }

    /// Opens the connection that the handshake is made on.
    fn open(&self, uri: &Uri, engine: &Engine) -> Result<Box<dyn Pipe>, DialError> {
        let origin =
            Origin::of(uri).ok_or_else(|| DialError::Url("it names no server".to_owned()))?;
        let times = PipeTimes {
            connect: self.connect_timeout,
            write: self.write_timeout,
        };
        Ok(Route::to(origin, engine.proxies())?.open_through(engine, times)?)
    }

    /// The request of the handshake; the subprotocol is in it if it is to be offered.
    #[must_use]
    pub fn request(&self, uri: &Uri, offer: bool) -> ClientRequestBuilder {
        let mut request = ClientRequestBuilder::new(uri.clone());
        if let Some(token) = &self.token {
            request = request.with_header("Authorization", format!("Bearer {token}"));
        }
        for (name, value) in &self.headers {
            request = request.with_header(name, value);
        }
        if offer {
            request = request.with_sub_protocol(self.subprotocol);
        }
        request
    }
}

/// One dial: from the look-up of the name to the open WebSocket. The target's subprotocol is offered; a server that
/// does not know subprotocols is dialled again without, and accepted too.
pub(crate) struct Dial {
    target: Target,
    until: Instant,
    offer: bool,
    handshake: Option<Handshake>,
}

type Handshake = MidHandshake<ClientHandshake<Incoming<Piped>>>;
type Shaken = Result<
    (WebSocket<Incoming<Piped>>, Response),
    HandshakeError<ClientHandshake<Incoming<Piped>>>,
>;

impl Dial {
    /// A dial that begins with its first poll and fails at `until`.
    pub(crate) const fn new(target: Target, until: Instant) -> Self {
        Self {
            target,
            until,
            offer: true,
            handshake: None,
        }
    }

    /// The time at which it fails.
    pub(crate) const fn until(&self) -> Instant {
        self.until
    }

    /// Goes on as far as it can.
    ///
    /// # Errors
    /// When no WebSocket is opened within its time.
    pub(crate) fn poll(
        &mut self,
        engine: &Engine,
        waker: &Waker,
    ) -> Poll<Result<Socket<Piped>, DialError>> {
        let mut step = self.advance(engine, waker);
        if self.offer && matches!(step, Poll::Ready(Err(DialError::NoSubprotocol))) {
            self.offer = false;
            step = self.advance(engine, waker);
        }
        if step.is_pending() && engine.now() >= self.until {
            return Poll::Ready(Err(DialError::Timeout));
        }
        step
    }

    fn advance(
        &mut self,
        engine: &Engine,
        waker: &Waker,
    ) -> Poll<Result<Socket<Piped>, DialError>> {
        loop {
            let step = match self.handshake.take() {
                None => self.begin(engine)?,
                Some(mut handshake) => {
                    let stream = handshake.get_mut().get_mut().stream();
                    let progress = stream.poll_readable(&mut Context::from_waker(waker));
                    match progress {
                        Poll::Pending => {
                            self.handshake = Some(handshake);
                            return Poll::Pending;
                        }
                        Poll::Ready(done) => done.map_err(DialError::from_io)?,
                    }
                    handshake.handshake()
                }
            };
            match step {
                Ok((websocket, _)) => {
                    return Poll::Ready(Ok(Socket::new(websocket, Role::Client)));
                }
                Err(HandshakeError::Interrupted(handshake)) => self.handshake = Some(handshake),
                Err(HandshakeError::Failure(error)) => return Poll::Ready(Err(error.into())),
            }
        }
    }

    fn begin(&self, engine: &Engine) -> Result<Shaken, DialError> {
        let uri = self.target.uri()?;
        let incoming =
            Incoming::dialling(Piped::new(self.target.open(&uri, engine)?, engine.budget()));
        let config = Some(config(self.target.frame_bytes));
        Ok(client_with_config(
            self.target.request(&uri, self.offer),
            incoming,
            config,
        ))
    }
}

/// Reason why a server was not reached. Its text tells the person what to look at.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// The URL is not of the form `ws://host:port/path` or `wss://host:port/path`.
    #[error("the URL is wrong: {0}")]
    Url(String),
    /// The name is unknown or nobody listens there.
    #[error("it cannot be reached: {0}")]
    Unreachable(io::Error),
    /// There is no TLS with it: its certificate is wrong, say.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The environment names no proxy that can be used.
    #[error(transparent)]
    Proxy(#[from] ProxyError),
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

impl DialError {
    fn from_io(error: io::Error) -> Self {
        let cause = error.get_ref().and_then(|cause| cause.downcast_ref());
        match cause {
            Some(cause) => Self::Tls(TlsError::clone(cause)),
            None if error.kind() == io::ErrorKind::TimedOut => Self::Timeout,
            None => Self::Unreachable(error),
        }
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
            Error::Io(error) => Self::from_io(error),
            error => Self::Handshake(error.to_string()),
        }
    }
}
