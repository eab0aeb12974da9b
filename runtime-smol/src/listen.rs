//! Listening sockets: binding them and accepting for ever.

use crate::timer::Timers;
use smol::Async;
use socket2::{Domain, Protocol, Socket, Type};
use std::fmt;
use std::io::{self, ErrorKind};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

/// Connections that the kernel holds for us until they are accepted. The 128 of the standard library are too few for a
/// burst of clients: each one too many waits for a second.
const BACKLOG: i32 = 4096;

/// How long accepting pauses when the kernel has no descriptor or memory for a connection.
const PAUSE: Duration = Duration::from_millis(50);

/// An address that cannot be listened on. Its text is one sentence that says why and what to do.
#[derive(Debug)]
pub struct ListenError {
    address: SocketAddr,
    source: io::Error,
}

impl fmt::Display for ListenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let address = self.address;
        write!(f, "cannot listen on {address}: ")?;
        match self.source.kind() {
            ErrorKind::AddrInUse => write!(
                f,
                "port {} is taken by another program; stop that one or choose another address with --listen (port 0 picks a free one)",
                address.port()
            ),
            ErrorKind::PermissionDenied => f.write_str(
                "this user may not use that port; choose one from 1024 up with --listen",
            ),
            ErrorKind::AddrNotAvailable => f.write_str(
                "this machine has no such address; choose one of its own with --listen, such as 127.0.0.1:8788",
            ),
            _ => write!(f, "{}; choose another address with --listen", self.source),
        }
    }
}

impl std::error::Error for ListenError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.source)
    }
}

/// Listens on `address`; port 0 picks a free one.
///
/// # Errors
///
/// When the address is taken, not allowed or not of this machine.
pub fn bind(address: SocketAddr) -> Result<Async<TcpListener>, ListenError> {
    let listen = || -> io::Result<Async<TcpListener>> {
        let socket = Socket::new(
            Domain::for_address(address),
            Type::STREAM,
            Some(Protocol::TCP),
        )?;
        // A restart must not wait for the connections of the last run to be forgotten.
        socket.set_reuse_address(true)?;
        socket.bind(&address.into())?;
        socket.listen(BACKLOG)?;
        Async::new(TcpListener::from(socket))
    };
    listen().map_err(|source| ListenError { address, source })
}

/// Accepts connections for ever and hands each to `serve`.
///
/// An error of one connection skips it; when descriptors or memory run out, accepting pauses and goes on.
pub async fn accept(
    listener: &Async<TcpListener>,
    timers: &Timers,
    mut serve: impl FnMut(Async<TcpStream>, SocketAddr),
) {
    loop {
        match listener.accept().await {
            Ok((socket, peer)) => serve(socket, peer),
            Err(error) if of_one_connection(&error) => {}
            Err(error) => {
                tracing::warn!(%error, "cannot accept connections; trying again");
                timers.after(PAUSE).await;
            }
        }
    }
}

fn of_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::ConnectionAborted
            | ErrorKind::ConnectionReset
            | ErrorKind::ConnectionRefused
            | ErrorKind::Interrupted
    )
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_taken_port_is_told_in_one_sentence_that_names_it() {
        let first = bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = first.get_ref().local_addr().unwrap();
        assert_ne!(address.port(), 0);
        let error = bind(address).unwrap_err().to_string();
        assert!(error.contains(&address.to_string()), "{error}");
        assert!(error.contains("taken"), "{error}");
        assert!(!error.contains('\n'));
    }

    #[test]
    fn the_backlog_holds_a_burst_before_anything_is_accepted() {
        let listener = bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = listener.get_ref().local_addr().unwrap();
        let connections: Vec<TcpStream> = (0..400)
            .map(|_| TcpStream::connect_timeout(&address, Duration::from_millis(900)).unwrap())
            .collect();
        assert_eq!(connections.len(), 400);
    }
}
