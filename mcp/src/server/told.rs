//! What operators are told of a process, and its restart on their order.

use super::{Out, Server};
use crate::revision::Era;
use crate::stateless;
use mcp_local_provider_core::process::State;
use mcp_local_provider_core::time::Instant;

impl<T: Clone> Server<T> {
    /// Returns the reason of the latest failure, as a sentence that begins with "it"; `None` since a process was ready.
    #[must_use]
    pub fn trouble(&self) -> Option<&str> {
        self.trouble.as_deref()
    }

    /// Returns the revision of a process without sessions; `None` where a session agrees on one with its process.
    #[must_use]
    pub const fn revision(&self) -> Option<&'static str> {
        match self.era() {
            Era::Sessions => None,
            Era::Stateless => Some(stateless::REVISION),
        }
    }

    /// Ends the process within its grace and starts it again, or at once where it waits for that or has failed too often. One that
    /// nobody has asked for stays stopped, and so does one that was told to end for good. Requests that it has not answered fail when it ends.
    pub fn restart(&mut self, now: Instant, out: &mut Out) {
        match self.life.state() {
            State::Stopped => {}
            State::Stopping { .. } if self.is_over => {}
            State::Starting
            | State::Running { .. }
            | State::Stopping { .. }
            | State::Waiting { .. }
            | State::Failing { .. } => self.life.restart(now, &mut out.orders),
        }
        self.weigh(now);
    }
}
