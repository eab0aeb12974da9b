//! Another configuration while the program serves.

use super::keys::{Digest, Keys};
use super::routing::Slot;
use super::sessions::Action;
use super::{Cause, Hub, HubOut};
use crate::config::{HubConfig, Role};
use crate::id::LinkId;
use crate::link::{CloseCode, Command};
use crate::time::Instant;
use alloc::sync::Arc;
use alloc::vec::Vec;

impl Hub {
    /// Takes `config` over: keys, limits, timeouts, models, hosts and origins hold from the next request on, the policy of
    /// sessions from the next registration on. What is open goes on, with two exceptions: a session that was registered
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
        self.end_what_lost_its_key(now, &before, out);
        self.pump(now, out);
    }

    fn end_what_lost_its_key(&mut self, now: Instant, before: &Keys, out: &mut HubOut) {
        let may = |keys: &Keys, credential: &Digest, roles: &[Role]| {
            keys.role_of(credential)
                .is_some_and(|role| role == Role::Admin || roles.contains(&role))
        };
        let lost = |credential: &Option<Digest>, roles: &[Role]| {
            credential.as_ref().is_some_and(|credential| {
                may(before, credential, roles) && !may(&self.keys, credential, roles)
            })
        };
        let sessions: Vec<Slot> = self
            .sessions
            .iter()
            .filter(|session| !session.status.is_final() && lost(&session.owner, &[Role::Bridge]))
            .filter_map(|session| self.sessions.find(session.id.as_str()))
            .collect();
        let links: Vec<LinkId> = self
            .links
            .iter()
            .filter(|(_, state)| {
                !state.dialled
                    && state.attached.is_none()
                    && lost(&state.credential, &[Role::Bridge])
            })
            .map(|(id, _)| *id)
            .collect();
        for slot in sessions {
            // It is not final, so it can be revoked.
            let _ = self.change(now, slot, Action::Revoke, &Cause::own("key_removed"), out);
        }
        for link in links {
            out.commands.push((link, Command::Close(CloseCode::Policy)));
        }
    }
}
