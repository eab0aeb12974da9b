//! Views for a simulation, which checks after every step what no user of an engine needs to see. They only read, but for
//! the gate before the links: a simulation closes it to be the thread that is stopped between the hub and a link.

use super::link::{Inbox, LinkCell};
use super::{Engine, Running};
use crate::audit::Audit;
use crate::outside::Outside;
use crate::ranked::{Ranked, TABLE};
use mcp_local_provider_core::config::HubConfig;
use mcp_local_provider_core::hub::{Hub, Ticket};
use mcp_local_provider_core::id::{Ids, LinkId};
use mcp_local_provider_core::link::{Command, Link, LinkConfig, LinkOut};
use std::collections::VecDeque;
use std::sync::Arc;

/// Commands between the hub and the links.
#[derive(Debug, Default)]
pub(super) struct Gate(Ranked<Held, TABLE>);

#[derive(Debug, Default)]
struct Held {
    closed: bool,
    commands: VecDeque<(LinkId, Command)>,
}

impl Gate {
    /// Hands the command back, unless the gate is closed or others wait before it.
    pub(super) fn pass(&self, link: LinkId, command: Command) -> Option<Command> {
        let mut held = self.0.lock();
        if held.closed || !held.commands.is_empty() {
            held.commands.push_back((link, command));
            return None;
        }
        Some(command)
    }
}

impl Engine {
    /// An engine whose links have limits and times of their own, and whose requests have these ids.
    #[doc(hidden)]
    #[must_use]
    pub fn simulated(
        config: HubConfig,
        link_config: LinkConfig,
        ids: Ids,
        seed: [u8; 32],
        outside: Arc<dyn Outside>,
        audit: Audit,
    ) -> Arc<Self> {
        Self::assemble(config, link_config, ids, seed, outside, audit)
    }

    /// Shows the hub to `look`.
    #[doc(hidden)]
    pub fn look<R>(&self, look: impl FnOnce(&Hub) -> R) -> R {
        self.hub_cell(|cell| look(&cell.hub))
    }

    /// Keeps commands of the hub from the links, or lets them go on; those that wait go by [`Engine::release_command`].
    #[doc(hidden)]
    pub fn hold_commands(&self, hold: bool) {
        self.gate.0.lock().closed = hold;
    }

    /// Commands that wait at the gate.
    #[doc(hidden)]
    #[must_use]
    pub fn held_commands(&self) -> usize {
        self.gate.0.lock().commands.len()
    }

    /// Gives its link the command that waits for longest. False when none waits.
    #[doc(hidden)]
    pub fn release_command(&self) -> bool {
        let Some((link, command)) = self.gate.0.lock().commands.pop_front() else {
            return false;
        };
        self.command(link, command);
        true
    }
}

impl LinkCell {
    /// Shows the link, and what is to be written and told, to `look`.
    #[doc(hidden)]
    pub fn look<R>(&self, look: impl FnOnce(&Link<Arc<Inbox>>, &LinkOut) -> R) -> R {
        let state = self.state.lock();
        look(&state.link, &state.out)
    }
}

impl Running {
    /// The ticket of an exchange, until it is settled.
    #[doc(hidden)]
    #[must_use]
    pub fn ticket(&self) -> Option<&Ticket> {
        self.account.as_ref()?.ticket()
    }

    /// Charge of what waits in the inbox of an exchange, in bytes of `limits.mailbox_bytes`.
    #[doc(hidden)]
    #[must_use]
    pub fn unread(&self) -> usize {
        self.respond.unread()
    }
}

impl Inbox {
    /// Bytes of an answer that has no end yet, and that its client has not read.
    #[doc(hidden)]
    #[must_use]
    pub fn unread_of_open(&self) -> usize {
        let inbox = self.0.lock();
        if inbox.0.is_closed() {
            0
        } else {
            inbox.0.unread()
        }
    }

    /// Charge of what waits, in bytes of `limits.mailbox_bytes`.
    pub(super) fn charged(&self) -> usize {
        self.0.lock().0.charged()
    }
}
