//! The place on this machine that a browser comes back to after a login.

use mcp_local_provider_core::wire::http1::{HeadLimits, HeadReader};
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::Sender;
use std::time::Duration;

/// The path of it.
const PATH: &str = "/callback";
/// Bytes of a request, in whose target a code may be long.
const LIMITS: HeadLimits = HeadLimits {
    head: 64 << 10,
    target: 32 << 10,
};
/// Time that a browser may take for its request.
const READ: Duration = Duration::from_secs(10);

/// An open port.
#[derive(Debug)]
pub(crate) struct Callback {
    listener: TcpListener,
    address: SocketAddr,
}

impl Callback {
    /// Opens a port of the loopback: `port`, or one that is free.
    ///
    /// # Errors
    /// When another program has it.
    pub(crate) fn open(port: Option<u16>) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port.unwrap_or_default()))?;
        let address = listener.local_addr()?;
        Ok(Self { listener, address })
    }

    /// The address that a browser is sent back to.
    pub(crate) fn uri(&self) -> String {
        format!("http://{}{PATH}", self.address)
    }

    /// Tells of each visit its path and query, from threads of its own, until nobody hears them.
    ///
    /// # Errors
    /// When the system starts no thread.
    pub(crate) fn serve(self, visits: Sender<String>) -> io::Result<()> {
        let thread = std::thread::Builder::new().name("callback".to_owned());
        let listen = move || {
            for socket in self.listener.incoming().flatten() {
                let visits = visits.clone();
                // A browser opens connections on which it asks nothing.
                let serve = move || {
                    if let Some(target) = answer(socket) {
                        // Nobody waits any more.
                        let _ = visits.send(target);
                    }
                };
                let thread = std::thread::Builder::new().name("visit".to_owned());
                if thread.spawn(serve).is_err() {
                    return;
                }
            }
        };
        thread.spawn(listen).map(drop)
    }
}

/// Reads one request and answers it. Returns its target where it came to the right place.
fn answer(mut socket: TcpStream) -> Option<String> {
    socket.set_read_timeout(Some(READ)).ok()?;
    socket.set_write_timeout(Some(READ)).ok()?;
    let mut reader = HeadReader::new(LIMITS);
    let mut received = Vec::new();
    let mut piece = [0; 4096];
    let target = loop {
        let count = socket.read(&mut piece).ok().filter(|count| *count > 0)?;
        received.extend_from_slice(piece.get(..count)?);
        if let Some(head) = reader.read(&received).ok()? {
            let path = head.path_and_query();
            let is_it = head.method() == "GET" && path.split('?').next() == Some(PATH);
            break is_it.then(|| path.to_owned());
        }
    };
    let (status, text) = match target {
        Some(_) => (
            "200 OK",
            "You can close this page. The program goes on where it was started.",
        ),
        None => ("404 Not Found", "There is nothing here."),
    };
    let body = format!(
        "<!doctype html><meta charset=utf-8><title>MCP Local Provider</title><p>{text}</p>\n"
    );
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: text/html; charset=utf-8\r\nContent-Length: {}\r\nCache-Control: no-store\r\n\
         Content-Security-Policy: default-src 'none'\r\nReferrer-Policy: no-referrer\r\nConnection: close\r\n\r\n",
        body.len()
    );
    // The person sees no page then, and the login goes on.
    let _ = socket
        .write_all(head.as_bytes())
        .and_then(|()| socket.write_all(body.as_bytes()));
    target
}
