//! Connection and pace of the demo agent, on a thread of its own.

use super::{Agent, PACE, PATIENCE};
use event_listener::Listener;
use mcp_local_provider_core::Backoff;
use mcp_local_provider_engine::BridgeTimes;
use mcp_local_provider_engine::Engine;
use mcp_local_provider_engine::dial::{DialError, Target};
use mcp_local_provider_engine::websocket::{Ended, config};
use std::io::{self, ErrorKind};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::thread::Builder;
use std::time::{Duration, Instant};
use tungstenite::client::client_with_config;
use tungstenite::handshake::HandshakeError;
use tungstenite::{Error, Message, WebSocket};

/// Time for connecting, for each read of the handshake and for each write; the provider runs in the same process.
const PATIENCE_OF_SOCKET: Duration = Duration::from_secs(10);

/// Starts the demo agent, which connects to the provider at `address` with a bridge key. Returns when the agent has
/// registered, or after [`PATIENCE`], so that a first request finds the agent.
///
/// # Errors
/// Fails when the system gives no thread.
pub fn start(engine: &Arc<Engine>, key: &str, address: SocketAddr) -> io::Result<()> {
    let (sender, registered) = channel();
    let agent = Agent::new(key.to_owned(), sender);
    let target = Target::new(engine, format!("ws://{address}/agent"), None);
    let engine = engine.clone();
    Builder::new()
        .name("demo".into())
        .spawn(move || run(&engine, agent, target, address))?;
    let _ = registered.recv_timeout(PATIENCE);
    Ok(())
}

/// Keeps the agent connected until the provider stops.
fn run(engine: &Engine, mut agent: Agent, mut target: Target, address: SocketAddr) {
    let times = BridgeTimes::default();
    let mut backoff = Backoff::new(
        engine.chance(),
        times.reconnect_delay,
        times.reconnect_max_delay,
    );
    while !engine.is_stopped() {
        target.token = Some(agent.token().to_owned());
        match dial(&target, address) {
            Ok(socket) => {
                backoff.reset();
                if let Err(ended) = converse(&mut agent, socket) {
                    tracing::debug!(%ended, "the demo agent lost its provider");
                }
            }
            Err(DialError::Refused(status)) if agent.refused(status) => continue,
            Err(error) => tracing::debug!(%error, "the demo agent cannot reach its provider"),
        }
        let stop = engine.listen_for_stop();
        if !engine.is_stopped() {
            stop.wait_timeout(backoff.pause());
        }
    }
}

fn dial(target: &Target, address: SocketAddr) -> Result<WebSocket<TcpStream>, DialError> {
    let connect = || -> io::Result<TcpStream> {
        let socket = TcpStream::connect_timeout(&address, PATIENCE_OF_SOCKET)?;
        socket.set_nodelay(true)?;
        socket.set_read_timeout(Some(PATIENCE_OF_SOCKET))?;
        socket.set_write_timeout(Some(PATIENCE_OF_SOCKET))?;
        Ok(socket)
    };
    let socket = connect().map_err(DialError::Unreachable)?;
    let request = target.request(&target.uri()?, true);
    match client_with_config(request, socket, Some(config(target.frame_bytes))) {
        Ok((socket, _)) => Ok(socket),
        Err(HandshakeError::Failure(error)) => Err(error.into()),
        Err(HandshakeError::Interrupted(_)) => Err(DialError::Timeout),
    }
}

fn converse(agent: &mut Agent, mut socket: WebSocket<TcpStream>) -> Result<(), Ended> {
    if let Some(register) = agent.register() {
        socket.send(Message::text(register))?;
    }
    let mut pace = Instant::now() + PACE;
    loop {
        // The read has a timeout only while chunks wait to be sent.
        let wait = agent.is_speaking().then(|| {
            let left = pace.saturating_duration_since(Instant::now());
            left.max(Duration::from_millis(1))
        });
        socket.get_ref().set_read_timeout(wait).map_err(Error::Io)?;
        match socket.read() {
            Ok(Message::Text(text)) => {
                if let Some(answer) = agent.receive(&text) {
                    socket.send(Message::text(answer))?;
                }
            }
            Ok(_) => {}
            Err(Error::Io(error))
                if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            Err(error) => return Err(error.into()),
        }
        if Instant::now() >= pace {
            pace = Instant::now() + PACE;
            for chunk in agent.speak() {
                socket.send(Message::text(chunk))?;
            }
        }
    }
}
