//! What every driver of a provider shares: the locks round the machines of core, the steps of a request, links, the
//! housekeeping, dialling. No runtime is in it: who waits leaves a [`std::task::Waker`], which a thread has as well as a task.
//!
//! A driver moves bytes, holds timers and parks:
//!
//! 1. It makes a [`Shared`], binds what [`listen::bind_all`] gives it, and gives the [`Housekeeper`] a task or thread.
//! 2. For each client it asks [`Shared::connect`], reads a head, calls [`request::begin`] and follows the [`request::Step`]s. An
//!    exchange is a [`Running`]: poll it, write what it has, wait. Dropping it is how a client that left is told.
//! 3. For each agent it has a [`link::Connected`]: frames go in, frames come out.
//!
//! No lock is held across input, output or a wait; the order is hub, commands, link, mailbox.

pub mod answer;
pub mod caller_tools;
mod clock;
pub mod config;
pub mod dial;
mod housekeeping;
mod inbound;
pub mod limits;
pub mod link;
pub mod listen;
pub mod request;
mod running;
mod shared;
pub mod status;
pub mod websocket;

pub use clock::{Clock, later};
pub use config::{Bridge, Config, StartError};
pub use housekeeping::Housekeeper;
pub use running::{Progress, Running};
pub use shared::{Client, Handle, OpenSocket, Policy, Shared};

use std::sync::{Mutex, MutexGuard, PoisonError};

/// A running provider: what the programs want of a driver.
pub trait Driver: Sized {
    /// Starts a provider; it listens when this returns, and the demo agent is there if one was asked for.
    ///
    /// # Errors
    /// When an address cannot be listened on or the system gives no thread.
    fn start(config: Config) -> Result<Self, StartError>;

    /// Where it listens, in the order of the configuration; last where it answers with metrics alone.
    fn addresses(&self) -> &[std::net::SocketAddr];

    /// A way to stop it.
    fn handle(&self) -> Handle;

    /// Waits until it has stopped.
    fn join(self);
}

/// What is behind a lock is whole even where a thread panicked: the machines never do.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
