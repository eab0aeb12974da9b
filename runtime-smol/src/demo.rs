//! The demo agent's socket and clock; what it says is in the host.

use crate::dial::dial;
use crate::timer::Timers;
use crate::websocket::{Ended, Received, Socket};
use futures_lite::future::or;
use mcp_local_provider_host::demo::{Agent, PACE};
use mcp_local_provider_host::provider::dial::{Backoff, DialError, Target};

/// Keeps the demo agent connected for ever.
pub(crate) async fn run(mut agent: Agent, mut target: Target, timers: Timers) {
    let mut backoff = Backoff::default();
    loop {
        target.token = Some(agent.token().to_owned());
        match dial(&target, &timers).await {
            Ok(socket) => {
                backoff.reset();
                if let Err(ended) = converse(&mut agent, socket, &timers).await {
                    tracing::debug!(%ended, "the demo agent lost its provider");
                }
            }
            Err(DialError::Refused(status)) if agent.refused(status) => continue,
            Err(error) => tracing::debug!(%error, "the demo agent cannot reach its provider"),
        }
        timers.after(backoff.pause()).await;
    }
}

async fn converse(agent: &mut Agent, mut socket: Socket, timers: &Timers) -> Result<(), Ended> {
    if let Some(register) = agent.register() {
        socket.send(register).await?;
    }
    let mut pace = timers.after(PACE);
    loop {
        let received = async { Some(socket.receive().await) };
        let turn = async {
            if !agent.is_speaking() {
                std::future::pending::<()>().await;
            }
            (&mut pace).await;
            None
        };
        match or(received, turn).await {
            Some(received) => {
                if let Received::Text(text) = received?
                    && let Some(answer) = agent.receive(&text)
                {
                    socket.send(answer).await?;
                }
            }
            None => {
                pace.reset_after(PACE);
                for chunk in agent.speak() {
                    socket.send(chunk).await?;
                }
            }
        }
    }
}
