//! Clients that hold connections without getting on: each kind is a crowd of sockets on one thread.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::net::{AddressFamily, SocketType, sockopt};

use crate::Error;
use crate::poll::would_block;
use crate::script::Script;
use crate::setup::CLIENT_KEY;

/// One more byte of a head or a body comes this often, so that no limit on mere silence helps.
const DRIP: Duration = Duration::from_millis(400);

/// Behaviour of a crowd of clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attack {
    /// Sends a head byte by byte and never ends it.
    SlowHead,
    /// Announces a body and sends it byte by byte.
    SlowBody,
    /// Asks for a long stream and never reads.
    SlowReader,
}

impl Attack {
    fn opening(self, addr: SocketAddr) -> String {
        match self {
            Self::SlowHead => format!("GET /health HTTP/1.1\r\nHost: {addr}\r\nX-Slow: "),
            Self::SlowBody => format!(
                "POST /v1/chat/completions HTTP/1.1\r\nHost: {addr}\r\nAuthorization: Bearer {CLIENT_KEY}\r\n\
                 Content-Type: application/json\r\nContent-Length: 100000\r\n\r\n{{"
            ),
            Self::SlowReader => {
                let body = Script::stream(2_000, 64).request_body();
                format!(
                    "POST /v1/chat/completions HTTP/1.1\r\nHost: {addr}\r\nAuthorization: Bearer {CLIENT_KEY}\r\n\
                     Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
                    body.len()
                )
            }
        }
    }

    /// Opens `count` connections, reports when they are all there, and goes on until `stop`. Connections that the
    /// server has closed stay closed.
    ///
    /// # Errors
    /// Fails when a connection cannot be opened.
    pub fn run(
        self,
        addr: SocketAddr,
        count: usize,
        stop: &AtomicBool,
        begun: impl FnOnce(),
    ) -> Result<(), Error> {
        let opening = self.opening(addr);
        let mut crowd = Vec::with_capacity(count);
        for _ in 0..count {
            let mut stream = connect(addr)?;
            // A server that is full may have closed it already.
            let _ = stream.write_all(opening.as_bytes());
            stream.set_nonblocking(true)?;
            crowd.push(stream);
        }
        begun();
        let mut next = Instant::now();
        while !stop.load(Ordering::Relaxed) {
            std::thread::sleep(Duration::from_millis(50));
            if self != Self::SlowReader && next <= Instant::now() {
                crowd.retain_mut(drip);
                next += DRIP;
            }
        }
        Ok(())
    }
}

/// Sends a byte more. False when the server has closed.
fn drip(stream: &mut TcpStream) -> bool {
    match stream.read(&mut [0; 512]) {
        Ok(0) => return false,
        Ok(_) => {}
        Err(e) if would_block(&e) => {}
        Err(_) => return false,
    }
    match stream.write_all(b"x") {
        Ok(()) => true,
        Err(e) => would_block(&e),
    }
}

/// Connects with the smallest room for unread bytes, so that the server meets a full socket soon.
fn connect(addr: SocketAddr) -> Result<TcpStream, Error> {
    let family = if addr.is_ipv4() {
        AddressFamily::INET
    } else {
        AddressFamily::INET6
    };
    let socket = rustix::net::socket(family, SocketType::STREAM, None)?;
    sockopt::set_socket_recv_buffer_size(&socket, 4096)?;
    rustix::net::connect(&socket, &addr)?;
    Ok(TcpStream::from(socket))
}
