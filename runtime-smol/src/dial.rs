//! Dialling a WebSocket server: the external bridges, and the demo agent's way to its own provider.

use crate::io::Io;
use crate::timer::Timers;
use crate::websocket::{self, Socket};
use futures_lite::future::or;
use mcp_local_provider_core::agents::websocket::SUBPROTOCOL;
use smol::Async;
use std::fmt;
use std::future::poll_fn;
use std::io;
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;
use tungstenite::Error;
use tungstenite::client::{ClientRequestBuilder, client_with_config};
use tungstenite::error::{ProtocolError, SubProtocolError};
use tungstenite::handshake::HandshakeError;
use tungstenite::http::Uri;

/// How long a server may take to answer the handshake, from the look-up of its name on.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// Whom to dial, and how.
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
}

impl fmt::Debug for Target {
    /// Without the token.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Target({})", self.url)
    }
}

/// Why a server was not reached. Its text tells the person what to look at.
#[derive(Debug)]
pub enum DialError {
    /// The URL is not of the form `ws://host:port/path`.
    Url(String),
    /// The name is unknown or nobody listens there.
    Unreachable(io::Error),
    /// It took longer than ten seconds.
    Timeout,
    /// The server answered with this HTTP status instead of an upgrade: 401 and 403 mean that the token is wrong.
    Refused(u16),
    /// The server did not answer as RFC 6455 demands.
    Handshake(String),
}

impl fmt::Display for DialError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Url(why) => write!(f, "the URL is wrong: {why}"),
            Self::Unreachable(error) => write!(f, "it cannot be reached: {error}"),
            Self::Timeout => f.write_str("it does not answer"),
            Self::Refused(status @ (401 | 403)) => {
                write!(f, "it answered {status}: check the token")
            }
            Self::Refused(status) => write!(f, "it answered {status} instead of an upgrade"),
            Self::Handshake(why) => write!(f, "it does not speak WebSocket: {why}"),
        }
    }
}

impl std::error::Error for DialError {}

/// How long to wait before dialling again: one second doubled up to a minute, with full jitter.
#[derive(Debug, Default)]
pub struct Backoff {
    failures: u32,
}

impl Backoff {
    /// The next pause: anything between nothing and the bound, so that many who lost one server do not come back at once.
    pub fn pause(&mut self) -> Duration {
        let bound = 1000 * (1u64 << self.failures.min(6)).min(60);
        self.failures = self.failures.saturating_add(1);
        // Without randomness the pause is the longest.
        let chance = getrandom::u64().unwrap_or(bound);
        Duration::from_millis(chance % (bound + 1))
    }

    /// It worked: the next pause is short again.
    pub const fn reset(&mut self) {
        self.failures = 0;
    }
}

/// Connects. The agent protocol's subprotocol is offered; a server that does not know subprotocols is accepted too.
///
/// # Errors
///
/// When no WebSocket was opened within ten seconds.
pub async fn dial(target: &Target, timers: &Timers) -> Result<Socket, DialError> {
    let dialled = async {
        let uri: Uri = target
            .url
            .parse()
            .map_err(|error| DialError::Url(format!("{error}")))?;
        match handshake(&uri, target, timers, true).await? {
            Some(socket) => Ok(socket),
            None => handshake(&uri, target, timers, false)
                .await?
                .ok_or_else(|| DialError::Handshake("it chose a subprotocol unasked".into())),
        }
    };
    let patience = async {
        timers.after(HANDSHAKE).await;
        Err(DialError::Timeout)
    };
    or(dialled, patience).await
}

/// `None` when the server ignored the subprotocol that was offered.
async fn handshake(
    uri: &Uri,
    target: &Target,
    timers: &Timers,
    offer: bool,
) -> Result<Option<Socket>, DialError> {
    let io = Io::new(connect(uri).await?, timers.clone(), target.write_timeout);
    let mut request = ClientRequestBuilder::new(uri.clone());
    if let Some(token) = &target.token {
        request = request.with_header("Authorization", format!("Bearer {token}"));
    }
    if offer {
        request = request.with_sub_protocol(SUBPROTOCOL);
    }
    let config = websocket::config(target.frame_bytes);
    let mut step = client_with_config(request, io, Some(config));
    loop {
        let error = match step {
            Ok((websocket, _)) => return Ok(Some(Socket::new(websocket, timers.clone()))),
            Err(HandshakeError::Interrupted(mut pending)) => {
                poll_fn(|cx| pending.get_mut().get_mut().poll_progress(cx))
                    .await
                    .map_err(DialError::Unreachable)?;
                step = pending.handshake();
                continue;
            }
            Err(HandshakeError::Failure(error)) => error,
        };
        return Err(match error {
            Error::Protocol(ProtocolError::SecWebSocketSubProtocolError(
                SubProtocolError::NoSubProtocol,
            )) => return Ok(None),
            Error::Http(response) => DialError::Refused(response.status().as_u16()),
            Error::Io(error) => DialError::Unreachable(error),
            error => DialError::Handshake(error.to_string()),
        });
    }
}

async fn connect(uri: &Uri) -> Result<Async<TcpStream>, DialError> {
    if uri.scheme_str() != Some("ws") {
        return Err(DialError::Url("it must start with ws://".into()));
    }
    let host = uri
        .host()
        .ok_or_else(|| DialError::Url("it names no host".into()))?
        .trim_matches(['[', ']']);
    let addresses: Vec<SocketAddr> = smol::net::resolve((host, uri.port_u16().unwrap_or(80)))
        .await
        .map_err(DialError::Unreachable)?;
    let mut last = io::Error::new(io::ErrorKind::NotFound, "its name has no address");
    for address in addresses {
        match Async::<TcpStream>::connect(address).await {
            Ok(socket) => return Ok(socket),
            Err(error) => last = error,
        }
    }
    Err(DialError::Unreachable(last))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::listen;
    use std::io::{Read, Write};

    fn target(address: SocketAddr) -> Target {
        Target {
            url: format!("ws://{address}/agent"),
            token: Some("secret".into()),
            frame_bytes: 1 << 20,
            write_timeout: Duration::from_secs(5),
        }
    }

    /// Answers one connection after the other, each by its own `answers`, and gives back what it read.
    fn server(answers: &'static [&'static str]) -> (SocketAddr, std::thread::JoinHandle<String>) {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let thread = std::thread::spawn(move || {
            let mut seen = String::new();
            for answer in answers {
                let mut stream = listener.accept().unwrap().0;
                let mut head = Vec::new();
                let mut byte = [0];
                while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).unwrap() == 1 {
                    head.extend_from_slice(&byte);
                }
                let head = String::from_utf8(head).unwrap();
                let key = head.split("Sec-WebSocket-Key: ").nth(1).unwrap_or_default();
                let key = key.split('\r').next().unwrap_or_default();
                let accept = tungstenite::handshake::derive_accept_key(key.as_bytes());
                let answer = answer.replace("ACCEPT", &accept);
                stream.write_all(answer.as_bytes()).unwrap();
                seen.push_str(&head);
            }
            seen
        });
        (address, thread)
    }

    fn dialled(address: SocketAddr) -> Result<Socket, DialError> {
        let timers = Timers::new();
        smol::block_on(dial(&target(address), &timers))
    }

    #[test]
    fn a_server_that_knows_no_subprotocol_is_dialled_again_without() {
        const PLAIN: &str = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: ACCEPT\r\n\r\n";
        let (address, seen) = server(&[PLAIN, PLAIN]);
        dialled(address).unwrap();
        let seen = seen.join().unwrap();
        assert_eq!(seen.matches(SUBPROTOCOL).count(), 1);
        assert_eq!(seen.matches("Bearer secret").count(), 2);
    }

    #[test]
    fn pauses_grow_to_a_minute() {
        let mut backoff = Backoff::default();
        for bound in [1, 2, 4, 8, 16, 32, 60, 60] {
            assert!(backoff.pause() <= Duration::from_secs(bound));
        }
        backoff.reset();
        assert!(backoff.pause() <= Duration::from_secs(1));
    }

    #[test]
    fn what_went_wrong_is_told() {
        let (address, _thread) =
            server(&["HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n"]);
        let error = dialled(address).unwrap_err();
        assert!(matches!(error, DialError::Refused(401)));
        assert!(error.to_string().contains("token"));
        let free = listen::bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = free.get_ref().local_addr().unwrap();
        drop(free);
        assert!(matches!(dialled(address), Err(DialError::Unreachable(_))));
    }
}
