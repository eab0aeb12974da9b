//! Listening sockets: binding them, and what to do when accepting fails.

use super::config::{Config, ListenOllama, StartError};
use super::port_holder::PortHolder;
use mcp_local_provider_core::api::Listener;
use rustix::buffer::spare_capacity;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{RecvFlags, recv};
use socket2::{Domain, Protocol, SockRef, Socket, Type};
use std::io::{self, ErrorKind};
use std::mem::MaybeUninit;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

/// Connections that the kernel holds for us until they are accepted. The 128 of the standard library are too few for a
/// burst of clients: each one too many waits for a second.
const BACKLOG: i32 = 4096;

/// Bytes that the kernel holds for one client that does not read. Left to itself it takes up to 4 MiB for each, so that
/// a crowd of slow readers fills the machine's memory; a stream of text needs far less.
const SEND_BUFFER: usize = 128 << 10;

/// How long accepting pauses when the kernel has no descriptor or memory for a connection.
pub const PAUSE: Duration = Duration::from_millis(50);

/// An address that cannot be listened on. Its text is one sentence that says why and what to do.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}: {}", advice(*.address, .source, .holder.as_ref()))]
pub struct ListenError {
    address: SocketAddr,
    source: io::Error,
    /// The program that has taken it.
    holder: Option<PortHolder>,
}

impl ListenError {
    /// Returns the address when another socket has it.
    #[must_use]
    pub fn taken(&self) -> Option<SocketAddr> {
        (self.source.kind() == ErrorKind::AddrInUse).then_some(self.address)
    }
}

/// Returns the reason and what to do about it.
fn advice(address: SocketAddr, error: &io::Error, holder: Option<&PortHolder>) -> String {
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "the standard library adds kinds of errors"
    )]
    match error.kind() {
        ErrorKind::AddrInUse => format!(
            "port {} is taken by {}; stop that one or choose another address with --listen (port 0 picks a free one)",
            address.port(),
            name(holder)
        ),
        ErrorKind::PermissionDenied => {
            "this user may not use that port; choose one from 1024 up with --listen".to_owned()
        }
        ErrorKind::AddrNotAvailable => {
            "this machine has no such address; choose one of its own with --listen, such as 127.0.0.1:8788"
                .to_owned()
        }
        _ => format!("{error}; choose another address with --listen"),
    }
}

fn name(holder: Option<&PortHolder>) -> String {
    holder.map_or_else(|| "another program".to_owned(), PortHolder::to_string)
}

/// Listens on `address`; port 0 picks a free one.
///
/// # Errors
/// When the address is taken, not allowed or not of this machine.
pub fn bind(address: SocketAddr) -> Result<TcpListener, ListenError> {
    let listen = || -> io::Result<TcpListener> {
        let socket = Socket::new(
            Domain::for_address(address),
            Type::STREAM,
            Some(Protocol::TCP),
        )?;
        // A restart must not wait for the connections of the last run to be forgotten.
        socket.set_reuse_address(true)?;
        // Accepted sockets take it over.
        socket.set_send_buffer_size(SEND_BUFFER)?;
        socket.bind(&address.into())?;
        socket.listen(BACKLOG)?;
        Ok(TcpListener::from(socket))
    };
    listen().map_err(|source| {
        let taken = source.kind() == ErrorKind::AddrInUse;
        ListenError {
            address,
            source,
            holder: taken.then(|| PortHolder::find(address)).flatten(),
        }
    })
}

/// Listens for programs that look for an Ollama, if `address` is free; else the log says who has it.
fn bind_if_free(address: SocketAddr) -> Option<TcpListener> {
    match bind(address) {
        Ok(listener) => Some(listener),
        Err(error) if error.taken().is_some() => {
            tracing::warn!(
                "{address} is not served: port {} is taken by {}, which programs that look for an Ollama find instead; stop that one \
                 and start again, or give them the address of this program",
                address.port(),
                name(error.holder.as_ref())
            );
            None
        }
        Err(error) => {
            tracing::warn!("going on without it: {error}");
            None
        }
    }
}

/// All sockets of a configuration, with what is answered on each. Those of the configuration come first, the one for
/// reports last.
///
/// # Errors
/// When an address that has to be listened on cannot be, and when other machines can reach one although no key is
/// required.
pub fn bind_all(config: &mut Config) -> Result<Vec<(TcpListener, Listener)>, StartError> {
    let mut listeners = Vec::new();
    for listener in config.listening.drain(..) {
        listeners.push((listener, Listener::All));
    }
    for address in &config.listen {
        listeners.push((bind(*address)?, Listener::All));
    }
    let ollama = match config.listen_ollama {
        ListenOllama::Off => None,
        ListenOllama::IfFree(address) => bind_if_free(address),
        ListenOllama::At(address) => Some(bind(address)?),
    };
    listeners.extend(ollama.map(|listener| (listener, Listener::Ollama)));
    if let Some(address) = config.listen_metrics {
        listeners.push((bind(address)?, Listener::Reports));
    }
    // What is really bound counts: a socket may have been handed over.
    for (listener, _) in &listeners {
        let address = listener.local_addr()?;
        if !address.ip().is_loopback() {
            config.hub.exposed.get_or_insert(address);
        }
    }
    match config.hub.exposed {
        Some(address) if !config.hub.auth_required => Err(StartError::Exposed(address)),
        Some(_) | None => Ok(listeners),
    }
}

/// True for an error of `accept` that is about one connection: go on. After any other one, pause for [`PAUSE`] and go on.
#[must_use]
pub fn of_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::ConnectionAborted
            | ErrorKind::ConnectionReset
            | ErrorKind::ConnectionRefused
            | ErrorKind::Interrupted
    )
}

/// Prepares a connected socket: small pieces go out at once (`TCP_NODELAY`), and a peer that takes nothing for
/// `write_timeout` is lost, even when the socket was closed before (`TCP_USER_TIMEOUT`): the kernel would keep what is
/// unread for minutes.
pub fn prepare(socket: &TcpStream, write_timeout: Duration) {
    let socket = SockRef::from(socket);
    // Without these the connection still works: later, or cut later.
    let _ = socket.set_tcp_nodelay(true);
    let longest = Duration::from_millis(u64::from(u32::MAX));
    let time = write_timeout.clamp(Duration::from_millis(1), longest);
    let _ = socket.set_tcp_user_timeout(Some(time));
}

/// Most bytes that are received at once into what has no room.
const ROOM: usize = 8 << 10;

/// Returns the number of bytes that [`receive`] adds at most: those that there is room for, or 8 KiB where there is none.
#[must_use]
pub const fn room(into: &Vec<u8>) -> usize {
    match into.capacity() - into.len() {
        0 => ROOM,
        room => room,
    }
}

/// Receives what is there, [`room`] bytes at most, behind what `into` holds. Where that has no room, it is made for what has come
/// and no more. 0 is the end.
///
/// # Errors
/// [`ErrorKind::WouldBlock`] when there is nothing, and those of the kernel.
pub fn receive(socket: &TcpStream, into: &mut Vec<u8>) -> io::Result<usize> {
    if into.len() == into.capacity() {
        return receive_first(socket, into);
    }
    loop {
        match recv(socket, spare_capacity(into), RecvFlags::DONTWAIT) {
            Ok((count, _)) => return Ok(count),
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

// Apart, so that its room is on the stack no longer than it lasts.
#[inline(never)]
fn receive_first(socket: &TcpStream, into: &mut Vec<u8>) -> io::Result<usize> {
    let mut room = [const { MaybeUninit::uninit() }; ROOM];
    loop {
        match recv(socket, &mut room[..], RecvFlags::DONTWAIT) {
            Ok(((bytes, _), count)) => {
                into.extend_from_slice(bytes);
                return Ok(count);
            }
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Has a socket reset its connection when it is closed, so that the kernel forgets at once what the peer does not read.
pub fn reset_on_close(socket: &TcpStream) {
    // Else the kernel forgets it later.
    let _ = SockRef::from(socket).set_linger(Some(Duration::ZERO));
}

/// True when the kernel asks for more to be written to a socket, as its peer has read a good part of what waited. A write tells
/// less: it also takes room that was left when the last one stopped.
#[must_use]
pub fn wants_more(socket: &TcpStream) -> bool {
    let mut watched = [PollFd::new(socket, PollFlags::OUT)];
    let now = Timespec::default();
    // An error of the connection counts too: the write that follows finds it.
    poll(&mut watched, Some(&now)).is_ok_and(|ready| ready > 0)
}

/// The address that reaches a listener from this machine.
#[must_use]
pub fn reachable(mut address: SocketAddr) -> SocketAddr {
    match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => address.set_ip(Ipv4Addr::LOCALHOST.into()),
        IpAddr::V6(ip) if ip.is_unspecified() => address.set_ip(Ipv6Addr::LOCALHOST.into()),
        IpAddr::V4(_) | IpAddr::V6(_) => {}
    }
    address
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    #[test]
    fn a_peer_that_takes_nothing_is_lost_in_the_time_for_writes() {
        let listener = bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let socket = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        prepare(&socket, Duration::from_millis(700));
        let (nodelay, kept) = (socket.nodelay(), SockRef::from(&socket).tcp_user_timeout());
        assert!(nodelay.unwrap());
        assert_eq!(kept.unwrap(), Some(Duration::from_millis(700)));
    }

    #[test]
    fn a_taken_port_is_told_in_one_sentence_that_names_it() {
        let first = bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = first.local_addr().unwrap();
        assert_ne!(address.port(), 0);
        let error = bind(address).unwrap_err().to_string();
        assert!(error.contains(&address.to_string()), "{error}");
        assert!(error.contains("taken by this program"), "{error}");
        assert!(!error.contains('\n'));
    }

    #[test]
    fn an_address_for_ollama_that_is_taken_ends_the_start_only_if_it_was_asked_for_by_itself() {
        let taken = bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = taken.local_addr().unwrap();
        let with = |listen_ollama| {
            let mut config = Config::new(mcp_local_provider_core::config::HubConfig::default());
            config.listen_ollama = listen_ollama;
            bind_all(&mut config).map(|listeners| {
                let kinds = listeners.iter().map(|(_, kind)| *kind);
                kinds.collect::<Vec<_>>()
            })
        };
        let free = "127.0.0.1:0".parse().unwrap();
        let both = [Listener::All, Listener::Ollama];
        assert_eq!(with(ListenOllama::IfFree(free)).unwrap(), both);
        assert_eq!(with(ListenOllama::At(free)).unwrap(), both);
        assert_eq!(with(ListenOllama::Off).unwrap(), both[..1]);
        assert_eq!(with(ListenOllama::IfFree(address)).unwrap(), both[..1]);
        let error = with(ListenOllama::At(address)).unwrap_err().to_string();
        assert!(error.contains("taken by this program"), "{error}");
    }

    #[test]
    fn without_keys_every_socket_that_is_really_bound_is_on_loopback() {
        let handed_over = |address: &str| {
            let mut config = Config::new(mcp_local_provider_core::config::HubConfig::default());
            config.listening.push(TcpListener::bind(address).unwrap());
            config
        };
        assert_eq!(bind_all(&mut handed_over("127.0.0.1:0")).unwrap().len(), 2);
        let error = bind_all(&mut handed_over("0.0.0.0:0")).unwrap_err();
        assert!(error.to_string().contains("0.0.0.0:"), "{error}");
        let mut config = handed_over("0.0.0.0:0");
        config.hub.auth_required = true;
        assert_eq!(bind_all(&mut config).unwrap().len(), 2);
        config.hub.auth_required = false;
        assert!(config.hub.needs_key(), "a reload cannot open it");
        let mut config = handed_over("127.0.0.1:0");
        config.listen_metrics = Some("0.0.0.0:0".parse().unwrap());
        assert!(bind_all(&mut config).is_err());
    }

    #[test]
    fn the_backlog_holds_a_burst_before_anything_is_accepted() {
        let listener = bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = listener.local_addr().unwrap();
        let connections: Vec<TcpStream> = (0..400)
            .map(|_| TcpStream::connect_timeout(&address, Duration::from_millis(900)).unwrap())
            .collect();
        assert_eq!(connections.len(), 400);
    }
}
