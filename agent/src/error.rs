//! Reasons why an agent is not served any more.

use crate::TokenError;
use mcp_local_provider_core::agent::Stopped;
use std::io;

/// Reason why [`Agent::serve`](crate::Agent::serve) ended. Connections that are lost are none: they are opened again.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The URL is not of the form `ws://HOST:PORT/agent` or `wss://HOST:PORT/agent`.
    #[error("the URL `{url}` cannot be used: {why}")]
    Url {
        /// The URL.
        url: String,
        /// The part that is wrong.
        why: String,
    },
    /// There is no token.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// The provider wants nothing of this agent any more.
    #[error("{0}")]
    Stopped(Stopped),
    /// The system gives no means to wait for a socket, or no thread.
    #[error("the system does not let the agent run: {0}")]
    System(#[from] io::Error),
}
