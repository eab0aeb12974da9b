//! A connection to a server, for a thread that has nothing else to do than to wait for it: by the proxy that the environment names,
//! and with TLS where the address wants it.

use crate::control::Answer;
use crate::waiting_pipe::WaitingPipe;
use mcp_local_provider_core::budget::Budget;
use mcp_local_provider_engine::http_client::{Call, CallTimes, HttpRequest};
use mcp_local_provider_engine::pipe::Pipe;
use mcp_local_provider_engine::proxy::{Origin, Proxies, Route};
use mcp_local_provider_engine::tls::{Tls, Trust};
use mcp_local_provider_engine::tunnel::Tunnel;
use std::fmt::Display;
use std::io::{self, ErrorKind};
use std::net::{TcpStream, ToSocketAddrs};
use std::task::{Poll, Waker};
use std::time::Duration;

/// Time that a server may take to accept a connection.
pub(crate) const CONNECT: Duration = Duration::from_secs(2);

/// Connection to a server, by a proxy and with TLS where its address and the environment want them.
pub(crate) struct Connected {
    pipe: Box<dyn Pipe>,
    origin: Origin,
    /// Findings on the way, as a sentence without the server's name.
    pub(crate) text: String,
}

impl Connected {
    /// Makes one request, and reads the head of its answer.
    ///
    /// # Errors
    /// When the request cannot be sent, and as [`Answer::read`].
    pub(crate) fn ask(self, request: HttpRequest) -> io::Result<Answer> {
        // The pipe waits itself.
        let times = CallTimes {
            connect: Duration::MAX,
            answer: Duration::MAX,
            progress: Duration::MAX,
        };
        let budget = Budget::new(usize::MAX);
        let call = Call::once(self.pipe, &self.origin, request, times, &budget);
        call.map_err(io::Error::other).and_then(Answer::read)
    }
}

/// Connects to a server. Reads of the connection wait for `patience`. An error is a sentence without the server's name; `after` says
/// what becomes of that.
pub(crate) fn open(
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
