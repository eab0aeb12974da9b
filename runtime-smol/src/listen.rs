//! Accepting connections for ever.

use crate::timer::Timers;
use mcp_local_provider_engine::listen::{PAUSE, of_one_connection};
use smol::Async;
use std::net::{SocketAddr, TcpListener, TcpStream};

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
