//! Dialling a WebSocket server: names are resolved and the handshake made by tasks; the rest is the engine's.

use crate::io::Io;
use crate::timer::Timers;
use crate::websocket::{Incoming, Socket};
use futures_lite::future::or;
use mcp_local_provider_engine::dial::{DialError, Target, host_and_port};
use mcp_local_provider_engine::websocket;
use smol::Async;
use std::future::poll_fn;
use std::io;
use std::net::{SocketAddr, TcpStream};
use tungstenite::client::client_with_config;
use tungstenite::handshake::HandshakeError;
use tungstenite::http::Uri;
use tungstenite::protocol::Role;

/// Connects. The agent protocol's subprotocol is offered; a server that does not know subprotocols is accepted too.
///
/// # Errors
///
/// When no WebSocket was opened within the target's time.
pub async fn dial(target: &Target, timers: &Timers) -> Result<Socket, DialError> {
    let dialled = async {
        let uri = target.uri()?;
        match handshake(&uri, target, timers, true).await {
            Err(DialError::NoSubprotocol) => handshake(&uri, target, timers, false).await,
            done => done,
        }
    };
    let patience = async {
        timers.after(target.connect_timeout).await;
        Err(DialError::Timeout)
    };
    or(dialled, patience).await
}

async fn handshake(
    uri: &Uri,
    target: &Target,
    timers: &Timers,
    offer: bool,
) -> Result<Socket, DialError> {
    let io = Io::new(connect(uri).await?, timers.clone(), target.write_timeout);
    let incoming = Incoming::dialling(io);
    let config = websocket::config(target.frame_bytes);
    let mut step = client_with_config(target.request(uri, offer), incoming, Some(config));
    loop {
        match step {
            Ok((websocket, _)) => return Ok(Socket::new(websocket, Role::Client, timers.clone())),
            Err(HandshakeError::Interrupted(mut pending)) => {
                poll_fn(|cx| pending.get_mut().get_mut().io().poll_progress(cx))
                    .await
                    .map_err(DialError::Unreachable)?;
                step = pending.handshake();
            }
            Err(HandshakeError::Failure(error)) => return Err(error.into()),
        }
    }
}

async fn connect(uri: &Uri) -> Result<Async<TcpStream>, DialError> {
    let addresses: Vec<SocketAddr> = smol::net::resolve(host_and_port(uri))
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
    use mcp_local_provider_core::agents::websocket::SUBPROTOCOL;
    use mcp_local_provider_engine::Clock;
    use mcp_local_provider_engine::listen::bind;
    use std::io::{Read, Write};
    use std::time::Duration;

    fn target(address: SocketAddr) -> Target {
        Target {
            url: format!("ws://{address}/agent"),
            token: Some("secret".into()),
            frame_bytes: 1 << 20,
            write_timeout: Duration::from_secs(5),
            connect_timeout: Duration::from_secs(5),
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
        let timers = Timers::new(Clock::start());
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
    fn what_went_wrong_is_told() {
        let (address, _thread) =
            server(&["HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n"]);
        let error = dialled(address).unwrap_err();
        assert!(matches!(error, DialError::Refused(401)));
        assert!(error.to_string().contains("token"));
        let free = bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = free.local_addr().unwrap();
        drop(free);
        assert!(matches!(dialled(address), Err(DialError::Unreachable(_))));
    }
}
