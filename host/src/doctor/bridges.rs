//! Checks of bridges: each is connected to, by the proxy that the environment names for it, and one with TLS has to prove who it
//! is.

use super::{CONNECT, Findings, Health};
use crate::config::Loaded;
use crate::printable::printable;
use crate::waiting_pipe::WaitingPipe;
use mcp_local_provider_core::budget::Budget;
use mcp_local_provider_engine::pipe::Pipe;
use mcp_local_provider_engine::proxy::{Origin, Proxies, Route};
use mcp_local_provider_engine::tls::{Tls, Trust};
use mcp_local_provider_engine::tunnel::Tunnel;
use std::fmt::Display;
use std::io::{self, ErrorKind};
use std::net::{TcpStream, ToSocketAddrs};
use std::task::{Poll, Waker};
use std::time::Duration;

pub(super) fn examine(loaded: &Loaded, findings: &mut Findings) {
    let config = &loaded.config;
    let trust = Trust::new(config.tls.ca_file.clone());
    let proxies = loaded.environment.proxies();
    for bridge in &config.bridges {
        let name = printable(&bridge.name);
        let after = "it is dialled again and again";
        let (health, text) = match connect_to(&bridge.url, &proxies, &trust, after) {
            Ok(text) => (Health::Ok, text),
            Err(text) => (Health::Warn, text),
        };
        findings.add(health, "bridge", format!("{name} {text}"));
    }
}

/// Connection to a server, by a proxy and with TLS where its address and the environment want them.
pub(super) struct Connected {
    pub(super) pipe: Box<dyn Pipe>,
    pub(super) origin: Origin,
    /// Text of the finding, without the server's name.
    pub(super) text: String,
}

/// Connects to a server. The text of the finding, without the server's name; `after` says what the program does where it cannot.
pub(super) fn connect_to(
    url: &str,
    proxies: &Proxies,
    trust: &Trust,
    after: &str,
) -> Result<String, String> {
    open(url, proxies, trust, after, CONNECT).map(|connected| connected.text)
}

/// Connects to a server as [`connect_to`] does, and keeps the connection, whose reads wait for `patience`.
pub(super) fn open(
    url: &str,
    proxies: &Proxies,
    trust: &Trust,
    after: &str,
    patience: Duration,
) -> Result<Connected, String> {
    let wrong = |error: &dyn Display| format!("has a wrong address: {error}");
    let uri = url.parse().map_err(|error| wrong(&error))?;
    let origin = Origin::of(&uri).ok_or_else(|| wrong(&"it names no server"))?;
    let (place, host) = (origin.authority(), origin.host.clone());
    let refused = |error: &dyn Display| format!("cannot be used at {place}: {error}; {after}");
    let is_secure = origin.secure;
    let route = Route::to(origin, proxies).map_err(|error| refused(&error))?;
    let (first, port) = route.first_hop();
    let socket = connect(first, port).and_then(|socket| {
        let pipe = WaitingPipe::new(socket, CONNECT, Some(patience))?;
        Ok(Box::new(pipe) as Box<dyn Pipe>)
    });
    let mut text = "accepts connections".to_owned();
    let mut pipe = match (socket, &route.proxy) {
        (Ok(pipe), _) => pipe,
        (Err(error), None) => {
            return Err(format!(
                "does not accept connections at {place} ({error}); start it: {after}"
            ));
        }
        (Err(error), Some(_)) => {
            let error =
                format!("the proxy at {first}:{port} does not accept connections ({error})");
            return Err(refused(&error));
        }
    };
    // It serves nobody meanwhile.
    let budget = Budget::new(usize::MAX);
    if let Some(proxy) = &route.proxy {
        let mut tunnel = Tunnel::new(pipe, &route.origin, proxy, &budget);
        waited(tunnel.poll_open(Waker::noop())).map_err(|error| refused(&error))?;
        text.push_str(&format!(" by the proxy at {first}:{port}"));
        pipe = Box::new(tunnel);
    }
    if is_secure {
        let mut tls = Tls::new(pipe, &host, trust, &budget).map_err(|error| refused(&error))?;
        waited(tls.poll_handshake(Waker::noop())).map_err(|error| refused(&error))?;
        pipe = Box::new(tls);
        text.push_str(", and its TLS certificate is trusted");
    }
    Ok(Connected {
        pipe,
        origin: route.origin,
        text,
    })
}

/// Result of a call on a pipe that is never pending.
fn waited<T, E: From<io::Error>>(result: Poll<Result<T, E>>) -> Result<T, E> {
    match result {
        Poll::Ready(result) => result,
        Poll::Pending => Err(io::Error::from(ErrorKind::WouldBlock).into()),
    }
}

fn connect(host: &str, port: u16) -> io::Result<TcpStream> {
    let mut last = io::Error::new(ErrorKind::NotFound, "no such host");
    for address in (host, port).to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, CONNECT) {
            Ok(socket) => return Ok(socket),
            Err(error) => last = error,
        }
    }
    Err(last)
}
