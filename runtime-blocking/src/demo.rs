//! The demo agent's socket and clock; what it says is in the host.

use crate::dial::dial;
use crate::peer::Peer;
use crate::threads::Threads;
use crate::websocket::{Reader, Writer};
use mcp_local_provider_host::demo::{Agent, PACE};
use mcp_local_provider_host::provider::dial::{Backoff, DialError, Target};
use mcp_local_provider_host::provider::websocket::Ended;
use std::io::ErrorKind;
use std::sync::Arc;
use std::time::Instant;
use tungstenite::Message;

/// Keeps the demo agent connected for ever.
pub(crate) fn run(threads: &Threads, mut agent: Agent, mut target: Target) {
    let mut backoff = Backoff::default();
    loop {
        target.token = Some(agent.token().to_owned());
        match dial(threads, &target) {
            Ok((open, reader)) => {
                backoff.reset();
                if let Err(ended) = converse(&mut agent, open.peer(), reader) {
                    tracing::debug!(%ended, "the demo agent lost its provider");
                }
            }
            Err(DialError::Refused(status)) if agent.refused(status) => continue,
            Err(error) => tracing::debug!(%error, "the demo agent cannot reach its provider"),
        }
        if threads.stops_within(backoff.pause()) {
            return;
        }
    }
}

fn converse(agent: &mut Agent, peer: &Arc<Peer>, mut reader: Reader) -> Result<(), Ended> {
    let mut writer = Writer::new(peer.clone(), reader.role());
    let mut send = |text: String| -> Result<(), Ended> {
        // What it says is little, so that its provider always has room for it.
        writer.queue(Message::Text(text.into()))?;
        writer.flush().map(drop)
    };
    if let Some(register) = agent.register() {
        send(register)?;
    }
    let mut pace = Instant::now() + PACE;
    loop {
        while let Some(message) = reader.receive()? {
            let answer = match message {
                Message::Text(text) => agent.receive(&text),
                _ => None,
            };
            if let Some(answer) = answer {
                send(answer)?;
            }
        }
        if Instant::now() >= pace {
            pace = Instant::now() + PACE;
            for chunk in agent.speak() {
                send(chunk)?;
            }
        }
        match reader.wait(agent.is_speaking().then_some(pace)) {
            Err(error) if error.kind() != ErrorKind::TimedOut => {
                return Err(Ended::Lost(error.to_string()));
            }
            _ => {}
        }
    }
}
