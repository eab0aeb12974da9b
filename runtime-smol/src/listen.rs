//! Accepting connections for ever.

use crate::reactor::Registered;
use crate::timer::Timers;
use mcp_local_provider_engine::listen::{PAUSE, of_one_connection};
use std::future::poll_fn;
use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener, TcpStream};

/// Accepts connections for ever and hands each to `serve`.
///
/// An error of one connection skips it; when descriptors or memory run out, accepting pauses and goes on.
pub async fn accept(
    listener: &Registered<TcpListener>,
    timers: &Timers,
    mut serve: impl FnMut(Registered<TcpStream>, SocketAddr),
) {
    loop {
        let accepted = listener.get_ref().accept().and_then(|(socket, peer)| {
            socket.set_nonblocking(true)?;
            Ok((listener.reactor().register(socket)?, peer))
        });
        match accepted {
            Ok((socket, peer)) => serve(socket, peer),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                poll_fn(|cx| listener.poll_readable(cx)).await;
            }
            Err(error) if of_one_connection(&error) => {}
            Err(error) => {
                tracing::warn!(%error, "cannot accept connections; trying again");
                timers.after(PAUSE).await;
            }
        }
    }
}
