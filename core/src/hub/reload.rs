//! Another configuration while the program serves.

use super::keys::Keys;
use super::links::LinkState;
use super::sessions::Action;
use super::{Cause, Hub, HubOut};
use crate::config::HubConfig;
use crate::id::LinkId;
use crate::link::{CloseCode, Command};
use crate::time::Instant;
use alloc::sync::Arc;
use alloc::vec::Vec;

impl Hub {
    /// Takes `config` over: keys, limits, timeouts, models, hosts and origins hold from the next request on, what
    /// `sessions` says from the next registration on, but for `sessions.renew`, which holds at once.
    ///
    /// A key that is gone, or that has another role, is worth nothing from now on, and neither is the want of one where
    /// keys are required now: sessions that were registered with it are revoked, links of agents that showed it are closed
    /// (1008), requests that wait are refused, and so are those whose head alone has come. Answers that have begun go on.
    ///
    /// Limits that are part of a link from its start (`agent_frame_bytes`, `link_queue_bytes`) hold for new links, where
    /// the driver makes them so.
    pub fn reload(&mut self, now: Instant, config: HubConfig, out: &mut HubOut) {
        let now = self.latest.clamp(now);
        let keys = self.keys.replaced(&config);
        self.limiter.configure(now, &config.limits, keys.iter());
        let before = core::mem::replace(&mut self.keys, Arc::new(keys));
        self.config = config;
        self.sessions
            .set_links_hold(now, self.config.sessions.renew_while_connected);
        self.lists = None;
        self.requeue();
        self.end_what_lost_its_key(now, &before, out);
        self.pump(now, out);
    }

    fn end_what_lost_its_key(&mut self, now: Instant, before: &Keys, out: &mut HubOut) {
        self.refuse_withdrawn(before, out);
        for slot in self.sessions.all() {
            let session = self.sessions.get(slot);
            if session.is_some_and(|session| !self.keys.uphold(session.authority)) {
                // The only error is a state that is final already.
                let _ = self.change(now, slot, Action::Withdraw, &Cause::own("key_removed"), out);
            }
        }
        let lost = |state: &LinkState| state.authority.is_some_and(|on| !self.keys.uphold(on));
        let links = self.links.iter().filter(|(_, state)| lost(state));
        let mut links: Vec<LinkId> = links.map(|(id, _)| *id).collect();
        links.sort_unstable();
        for link in links {
            out.commands.push((link, Command::Close(CloseCode::Policy)));
        }
    }
}
