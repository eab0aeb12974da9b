//! Everything between the protocol machines of `mcp-local-provider-core` and a driver: the locks round the machines, the
//! life of a request, links, housekeeping, dialling. No runtime is in it: a task or thread that waits leaves a
//! [`std::task::Waker`].
//!
//! A driver moves bytes, holds timers and parks:
//!
//! 1. It makes an [`Engine`] with an [`Outside`] (clocks, dialling), binds the sockets of [`listen::bind_all`], and gives the
//!    [`Housekeeper`] a task or thread.
//! 2. For each client it asks [`Engine::connect`], reads a head, calls [`request::begin`] and follows the [`request::Step`]s. An
//!    exchange is a [`Running`]: poll it, write its bytes, wait. A [`Running`] that is dropped tells the agent that the client
//!    has left.
//! 3. An upgrade that is accepted gives a head and a [`converse::Converse`]: frames go in, frames come out.
//!
//! No lock is held across input, output or a wait; the order is hub, commands, link, inbox.
#![cfg_attr(not(test), warn(clippy::wildcard_enum_match_arm))]

mod account;
pub mod answer;
mod answering;
pub mod audit;
pub mod caller_tools;
pub mod config;
pub mod converse;
pub mod dial;
mod engine;
pub mod feed;
mod housekeeping;
mod inbound;
mod inspect;
pub mod link;
pub mod listen;
mod outside;
mod ranked;
pub mod request;
mod running;
pub mod status;
pub mod websocket;

pub use config::{Bridge, Config, StartError};
pub use engine::{Client, Engine, Handle, OpenSocket, Policy};
pub use housekeeping::{Housekeeper, PHASES};
pub use outside::{Clock, Outside, Usage, later, random_seed};
pub use running::{Progress, Running};

/// A running provider, as a program wants it of a driver.
pub trait Driver: Sized {
    /// Starts a provider; it listens when this returns.
    ///
    /// # Errors
    /// When an address cannot be listened on or the system gives no thread.
    fn start(config: Config) -> Result<Self, StartError>;

    /// Addresses that it listens on, in the order of the configuration; last the one that answers with metrics alone.
    fn addresses(&self) -> &[std::net::SocketAddr];

    /// Its engine, for agents that the program starts.
    fn engine(&self) -> &std::sync::Arc<Engine>;

    /// A way to stop it.
    fn handle(&self) -> Handle;

    /// Waits until it has stopped.
    fn join(self);
}
