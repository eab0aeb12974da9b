//! Another configuration while the program serves.

use super::keys::{Digest, Keys};
use super::sessions::Action;
use super::{Cause, Hub, HubOut};
use crate::config::{HubConfig, Role};
use crate::link::{CloseCode, Command};
use crate::time::Instant;
use alloc::sync::Arc;
use alloc::vec::Vec;

impl Hub {
    /// Takes `config` over: keys, limits, timeouts, models, hosts and origins hold from the next request on, what
    /// `sessions` says from the next registration on, but for `sessions.renew`, which holds at once. What is open goes on, with two exceptions: a session that was registered
    /// with a key that is gone, or may not register any more, is revoked, and so the link of an agent that showed one is
    /// closed (1008).
    ///
    /// Limits that are part of a link from its start (`agent_frame_bytes`, `link_queue_bytes`) hold for new links, where
    /// the driver makes them so.
    pub fn reload(&mut self, now: Instant, config: HubConfig, out: &mut HubOut) {
        let now = self.latest.clamp(now);
        let keys = self
            .keys
            .replaced(config.keys.clone(), config.auth_required);
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
        let may = |keys: &Keys, credential: &Digest, roles: &[Role]| {
            keys.role_of(credential)
                .is_some_and(|role| role == Role::Admin || roles.contains(&role))
        };
        let lost = before.iter().map(|(_, key)| key.sha256).filter(|digest| {
            may(before, digest, &[Role::Bridge]) && !may(&self.keys, digest, &[Role::Bridge])
        });
        let (mut sessions, mut links) = (Vec::new(), Vec::new());
        for digest in lost {
            sessions.extend(self.sessions.owners().of(digest));
            links.extend(self.bridges_of(digest).filter(|link| {
                let state = self.links.get(link);
                state.is_some_and(|state| !state.dialled)
            }));
        }
        // Two keys may have one digest.
        sessions.sort_unstable();
        sessions.dedup();
        links.sort_unstable();
        links.dedup();
        for slot in sessions {
            // The only error is a state that is final already.
            let _ = self.change(now, slot, Action::Withdraw, &Cause::own("key_removed"), out);
        }
        for link in links {
            out.commands.push((link, Command::Close(CloseCode::Policy)));
        }
    }
}
