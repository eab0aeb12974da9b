//! Dialling a WebSocket server, and the external bridges.

use crate::link;
use crate::peer::Peer;
use crate::threads::{Open, Threads};
use crate::websocket::{Incoming, Reader};
use mcp_local_provider_engine::dial::{BridgeDialler, DialError, Target, host_and_port};
use mcp_local_provider_engine::websocket::config;
use std::io::{self, ErrorKind};
use std::net::{TcpStream, ToSocketAddrs};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tungstenite::HandshakeError;
use tungstenite::client::client_with_config;
use tungstenite::http::Uri;

/// Connects. The agent protocol's subprotocol is offered; a server that does not know subprotocols is accepted too.
///
/// # Errors
/// When no WebSocket was opened within the target's time, the look-up of the name apart.
pub(crate) fn dial(threads: &Threads, target: &Target) -> Result<(Open, Reader), DialError> {
    let until = Instant::now() + target.connect_timeout;
    let uri = target.uri()?;
    let dialled = match handshake(threads, &uri, target, until, true) {
        Err(DialError::NoSubprotocol) => handshake(threads, &uri, target, until, false),
        done => done,
    };
    dialled.map_err(|error| match error {
        DialError::Unreachable(error) if error.kind() == ErrorKind::TimedOut => DialError::Timeout,
        DialError::Unreachable(_)
        | DialError::Timeout
        | DialError::Url(_)
        | DialError::Refused(_)
        | DialError::Handshake(_)
        | DialError::NoSubprotocol => error,
    })
}

fn handshake(
    threads: &Threads,
    uri: &Uri,
    target: &Target,
    until: Instant,
    offer: bool,
) -> Result<(Open, Reader), DialError> {
    let socket = connect(uri, until).map_err(DialError::Unreachable)?;
    let open = threads.open(Arc::new(Peer::new(socket, target.write_timeout)));
    let incoming = Incoming::dialling(open.peer().clone(), until);
    let config = Some(config(target.frame_bytes));
    match client_with_config(target.request(uri, offer), incoming, config) {
        Ok((websocket, _)) => Ok((open, Reader::dialled(websocket))),
        Err(HandshakeError::Failure(error)) => Err(error.into()),
        Err(HandshakeError::Interrupted(_)) => Err(DialError::Timeout),
    }
}

fn connect(uri: &Uri, until: Instant) -> io::Result<TcpStream> {
    let mut last = io::Error::new(ErrorKind::NotFound, "its name has no address");
    for address in host_and_port(uri).to_socket_addrs()? {
        let left = until.saturating_duration_since(Instant::now());
        match TcpStream::connect_timeout(&address, left.max(Duration::from_millis(1))) {
            Ok(socket) => return Ok(socket),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// Keeps a bridge connected until its attempts are used up.
pub(crate) fn keep_bridge(threads: &Threads, mut dialler: BridgeDialler) {
    loop {
        let pause = match dial(threads, dialler.target()) {
            Ok((open, reader)) => {
                if let Some(connected) = dialler.connected() {
                    link::run(threads, connected, open.peer(), reader);
                }
                dialler.lost()
            }
            Err(error) => dialler.failed(&error),
        };
        match pause {
            Some(pause) if !threads.stops_within(pause) => {}
            _ => return,
        }
    }
}
