//! Sessions that the configuration gives to bridges which we dial.

use super::keys::{Authority, Digest};
use super::links::Registrar;
use super::routing::Slot;
use super::sessions::{Registration, Status};
use super::{Hub, HubOut};
use crate::error::Refusal;
use crate::id::LinkId;
use crate::time::Instant;
use sha2::{Digest as _, Sha256};

impl Hub {
    /// Gives a bridge that we dialled the session that the configuration names: the one that it had before, if that lives, else a
    /// new one. The owner has approved it by naming it.
    pub(super) fn register_configured(
        &mut self,
        now: Instant,
        link: LinkId,
        registration: &Registration,
        out: &mut HubOut,
    ) -> Result<(), Refusal> {
        let Some(state) = self.links.get(&link) else {
            return Ok(());
        };
        let is_it = |slot: &Slot| {
            let session = self.sessions.get(*slot);
            session.is_some_and(|one| one.is_configured() && *one.agent_id == registration.agent_id)
        };
        if state.sessions.iter().any(is_it) {
            return Ok(());
        }
        let registrar = Registrar {
            credential: state.credential,
            key: None,
            authority: Authority::Configuration,
            is_agent: false,
        };
        let registration = registration.clone();
        let (slot, _) = self.register(now, registration, registrar, Status::Active, out)?;
        self.carry(now, link, slot, out);
        Ok(())
    }

    /// The credential of a bridge that has no token, or of an upstream, which nobody can show: its sessions are known again by it.
    pub(super) fn stands_for(&self, kind: &str, name: &str) -> Digest {
        let mut hash = Sha256::new();
        hash.update(self.seed.0);
        hash.update(kind.as_bytes());
        hash.update(name.as_bytes());
        hash.finalize().into()
    }
}
