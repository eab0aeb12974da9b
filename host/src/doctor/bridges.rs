//! Checks of bridges: each is connected to, and one with TLS has to prove who it is.

use super::{CONNECT, Findings, Health};
use crate::config::{Bridge, Config};
use crate::printable::printable;
use mcp_local_provider_engine::pipe::Pipe;
use mcp_local_provider_engine::tls::{Tls, TlsError, Trust};
use std::io::{self, ErrorKind, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::task::{Poll, Waker};
use tungstenite::http::Uri;

pub(super) fn examine(config: &Config, findings: &mut Findings) {
    let trust = Trust::new(config.tls.ca_file.clone());
    for bridge in &config.bridges {
        let name = printable(&bridge.name);
        let (health, text) = match check(bridge, &trust) {
            Ok(text) => (Health::Ok, text.to_owned()),
            Err(text) => (Health::Warn, text),
        };
        findings.add(health, "bridge", format!("{name} {text}"));
    }
}

/// Connects to a bridge. The text of the finding, without the bridge's name.
fn check(bridge: &Bridge, trust: &Trust) -> Result<&'static str, String> {
    let uri: Uri = bridge
        .url
        .parse()
        .map_err(|error| format!("has a wrong address: {error}"))?;
    let is_secure = uri.scheme_str() == Some("wss");
    let host = uri.host().unwrap_or_default();
    let port = uri.port_u16().unwrap_or(if is_secure { 443 } else { 80 });
    let socket = connect(host.trim_matches(['[', ']']), port).map_err(|error| {
        format!(
            "does not accept connections at {host}:{port} ({error}); start it: it is dialled again and again"
        )
    })?;
    if !is_secure {
        return Ok("accepts connections");
    }
    let refused = |error: &dyn std::fmt::Display| {
        format!("cannot be used at {host}:{port}: {error}; it is dialled again and again")
    };
    let mut tls = Tls::new(Waiting(socket), host.trim_matches(['[', ']']), trust)
        .map_err(|error| refused(&error))?;
    match tls.poll_handshake(Waker::noop()) {
        Poll::Ready(Ok(())) => Ok("accepts connections, and its TLS certificate is trusted"),
        Poll::Ready(Err(error)) => Err(refused(&error)),
        // The pipe below is never pending.
        Poll::Pending => Err(refused(&TlsError::CutInHandshake)),
    }
}

fn connect(host: &str, port: u16) -> io::Result<TcpStream> {
    let mut last = io::Error::new(ErrorKind::NotFound, "no such host");
    for address in (host, port).to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, CONNECT) {
            Ok(socket) => {
                socket.set_read_timeout(Some(CONNECT))?;
                socket.set_write_timeout(Some(CONNECT))?;
                return Ok(socket);
            }
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// A pipe whose calls wait, for [`CONNECT`] each at most.
struct Waiting(TcpStream);

impl Pipe for Waiting {
    fn poll_read(
        &mut self,
        _waker: &Waker,
        into: &mut Vec<u8>,
        most: usize,
    ) -> Poll<io::Result<usize>> {
        let begin = into.len();
        into.resize(begin + most, 0);
        let read = self.0.read(into.get_mut(begin..).unwrap_or_default());
        into.truncate(begin + read.as_ref().copied().unwrap_or(0));
        Poll::Ready(read.map_err(late))
    }

    fn poll_write(&mut self, _waker: &Waker, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Poll::Ready(self.0.write(bytes).map_err(late))
    }
}

/// The system's word for a call that took too long says that it would block.
fn late(error: io::Error) -> io::Error {
    if error.kind() == ErrorKind::WouldBlock {
        io::Error::new(ErrorKind::TimedOut, "it does not answer")
    } else {
        error
    }
}
