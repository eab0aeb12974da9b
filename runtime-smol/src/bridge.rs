//! External bridges: links that we dial.

use crate::dial::{Backoff, DialError, Target, dial};
use crate::link;
use crate::shared::{Shared, lock};
use crate::status::BridgeStatus;
use mcp_local_provider_core::hub::Hello;
use std::sync::Arc;

/// An external bridge.
#[derive(Clone, Debug)]
pub struct Bridge {
    /// For logs.
    pub name: String,
    /// `ws://host:port/path`.
    pub url: String,
    /// Shown to the bridge as `Authorization: Bearer`.
    pub token: Option<String>,
    /// How many dials in a row may fail before it is given up; `None` is for ever.
    pub reconnect_attempts: Option<u32>,
}

/// Keeps a bridge connected until its attempts are used up.
pub(crate) async fn run(shared: Arc<Shared>, bridge: Bridge) {
    let target = Target {
        url: bridge.url,
        token: bridge.token.clone(),
        frame_bytes: shared.link_config.frame_bytes,
        write_timeout: shared.config.timeouts.write,
    };
    let name = bridge.name;
    let status = BridgeStatus::new(&name);
    lock(&shared.bridges).push(status.clone());
    let mut backoff = Backoff::default();
    let mut attempts = 0;
    while !shared.is_draining() {
        match dial(&target, &shared.timers).await {
            Ok(socket) => {
                attempts = 0;
                backoff.reset();
                let hello = Hello {
                    token: bridge.token.as_deref(),
                    dialled: true,
                };
                match link::Connected::new(&shared, hello) {
                    Ok(link) => {
                        tracing::info!(bridge = name, "connected");
                        status.connected(shared.timers.now());
                        link.run(socket).await;
                        status.lost(shared.timers.now(), "the connection was lost".into(), false);
                    }
                    Err(refusal) => {
                        tracing::warn!(bridge = name, %refusal, "cannot be used");
                        status.lost(shared.timers.now(), refusal.to_string(), false);
                    }
                }
            }
            Err(error @ DialError::Url(_)) => {
                tracing::error!(bridge = name, %error, "given up");
                status.lost(shared.timers.now(), error.to_string(), true);
                return;
            }
            Err(error) => {
                attempts += 1;
                tracing::warn!(bridge = name, %error, attempts, "cannot be dialled");
                let given_up = bridge
                    .reconnect_attempts
                    .is_some_and(|most| attempts > most);
                status.lost(shared.timers.now(), error.to_string(), given_up);
                if given_up {
                    tracing::error!(bridge = name, "given up after {attempts} attempts");
                    return;
                }
            }
        }
        shared.timers.after(backoff.pause()).await;
    }
}
