//! Accepting connections: each gets its thread, and beyond the limit an answer that says so.

use crate::connection;
use crate::parker::wait_for;
use crate::peer::Peer;
use crate::threads::Threads;
use mcp_local_provider_core::api::{Listener, over_connection_limit};
use mcp_local_provider_core::wire::http1::LINGER;
use mcp_local_provider_engine::listen::{PAUSE, of_one_connection};
use rustix::event::{PollFd, PollFlags};
use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Instant;

/// Refused connections that are read on for a moment; those beyond are closed at once.
const LINGERING: usize = 256;

/// Accepts until the provider stops, which shuts the listener down.
pub(crate) fn accept(threads: &Threads, listener: &TcpListener, on: Listener) {
    let mut refused = Refused::default();
    while !threads.engine().is_stopped() {
        refused.wait(listener);
        match listener.accept() {
            Ok((socket, address)) => serve(threads, &mut refused, socket, address, on),
            Err(error) if of_one_connection(&error) || error.kind() == ErrorKind::WouldBlock => {}
            Err(_) if threads.engine().is_stopped() => return,
            Err(error) => {
                tracing::warn!(%error, "cannot accept connections; trying again");
                std::thread::sleep(PAUSE);
            }
        }
    }
}

fn serve(
    threads: &Threads,
    refused: &mut Refused,
    socket: TcpStream,
    address: SocketAddr,
    on: Listener,
) {
    let peer = Arc::new(Peer::new(socket, threads.engine().config().timeouts.write));
    let Some(client) = threads.engine().connect() else {
        refused.refuse(peer);
        return;
    };
    let open = threads.open(peer.clone());
    let own = threads.clone();
    let spawned = threads.spawn("client", move || {
        connection::serve(&own, client, open, address, on);
    });
    if let Err(error) = spawned {
        tracing::warn!(%error, "there is no thread for a connection");
        refused.refuse(peer);
    }
}

/// Connections that were told why they are refused, and have until then to read it.
#[derive(Default)]
struct Refused(Vec<(Arc<Peer>, Instant)>);

impl Refused {
    fn refuse(&mut self, peer: Arc<Peer>) {
        // It fits into the socket's empty buffer; a client that is gone needs none.
        if peer.write_now(&over_connection_limit()).is_ok() && self.0.len() < LINGERING {
            peer.finish();
            self.0.push((peer, Instant::now() + LINGER));
        }
    }

    /// Waits for the next connection, and reads meanwhile what the refused ones send, because to close a socket while
    /// something is unread takes the answer back.
    fn wait(&mut self, listener: &TcpListener) {
        while let Some(soonest) = self.0.iter().map(|(_, until)| *until).min() {
            let peers = self.0.iter().map(|(peer, _)| peer.socket().as_fd());
            let mut watched: Vec<PollFd<'_>> = peers
                .map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN))
                .collect();
            watched.push(PollFd::from_borrowed_fd(listener.as_fd(), PollFlags::IN));
            let found = wait_for(&mut watched, Some(soonest));
            if found == Some(self.0.len()) {
                return;
            }
            let now = Instant::now();
            self.0.retain(|(peer, until)| {
                let read = peer.read_now(&mut [0; 4096]);
                let waits = match read {
                    Ok(read) => read > 0,
                    Err(error) => error.kind() == ErrorKind::WouldBlock,
                };
                waits && now < *until
            });
        }
    }
}
