//! Indexes of the sessions: by model, those that have ended apart, and those that no link carries by whoever may take them over. So a request, a connection or a registration looks at its own and at no others.

use super::keys::Digest;
use super::routing::Slot;
use super::sessions::{Session, Status};
use alloc::collections::BTreeSet;
use alloc::sync::Arc;
use alloc::vec::Vec;
use hashbrown::HashMap;

/// Sessions that no link carries, by the credential that registered them and by agent. The active ones of an agent come
/// first.
type Orphans = HashMap<Option<Digest>, HashMap<Arc<str>, BTreeSet<(Inactive, Slot)>>>;

/// True for a session that is not active.
type Inactive = bool;

/// See the module's documentation.
#[derive(Debug, Default)]
pub(super) struct Owners {
    /// Those that bridges registered.
    of_bridges: Orphans,
    /// Those that agents registered on their links.
    of_agents: Orphans,
    /// The sessions in these two.
    places: HashMap<Slot, Inactive>,
    /// Those that have not ended.
    models: Models,
    /// Those that have, as long as they are remembered.
    ended: Models,
}

/// The number of sessions for each model; none is 0.
#[derive(Debug, Default)]
struct Models(HashMap<Arc<str>, usize>);

impl Models {
    fn add(&mut self, session: &Session) {
        for model in session.models.iter() {
            *self.0.entry(model.clone()).or_default() += 1;
        }
    }

    fn remove(&mut self, session: &Session) {
        for model in session.models.iter() {
            if let Some(count) = self.0.get_mut(model) {
                *count = count.saturating_sub(1);
                if *count == 0 {
                    self.0.remove(model);
                }
            }
        }
    }
}

impl Owners {
    /// A session has been registered.
    pub(super) fn add(&mut self, slot: Slot, session: &Session) {
        self.models.add(session);
        self.refile(slot, session);
    }

    /// A session has another state or another link.
    pub(super) fn refile(&mut self, slot: Slot, session: &Session) {
        let orphan = session.link.is_none() && !session.status.is_final();
        let place = orphan.then_some(session.status != Status::Active);
        let before = match place {
            Some(inactive) => self.places.insert(slot, inactive),
            None => self.places.remove(&slot),
        };
        if before == place {
            return;
        }
        let orphans = match session.by_agent {
            true => &mut self.of_agents,
            false => &mut self.of_bridges,
        };
        let own = orphans.entry(session.owner).or_default();
        let same = own.entry_ref(&session.agent_id).or_default();
        if let Some(inactive) = before {
            same.remove(&(inactive, slot));
        }
        if let Some(inactive) = place {
            same.insert((inactive, slot));
        }
        if same.is_empty() {
            own.remove(&session.agent_id);
        }
        if own.is_empty() {
            orphans.remove(&session.owner);
        }
    }

    /// A session has ended, or gets other terms.
    pub(super) fn remove(&mut self, slot: Slot, session: &Session) {
        self.models.remove(session);
        self.refile(slot, session);
    }

    /// A session has ended, and is remembered.
    pub(super) fn remember(&mut self, session: &Session) {
        self.ended.add(session);
    }

    /// A session that had ended is forgotten.
    pub(super) fn forget(&mut self, session: &Session) {
        self.ended.remove(session);
    }

    /// True when there is a session for the model that has not ended, whatever its state.
    pub(super) fn know(&self, model: &str) -> bool {
        self.models.0.contains_key(model)
    }

    /// True when a session for the model has ended and is remembered.
    pub(super) fn remembers(&self, model: &str) -> bool {
        self.ended.0.contains_key(model)
    }

    /// The orphans that were registered over HTTP, in no particular order.
    pub(super) fn of_bridges(&self) -> Vec<Slot> {
        self.of_bridges.values().flat_map(slots).collect()
    }

    /// The orphans that were registered over HTTP with a credential, in no particular order.
    pub(super) fn of_bridge(&self, owner: Digest) -> Vec<Slot> {
        let own = self.of_bridges.get(&Some(owner));
        own.into_iter().flat_map(slots).collect()
    }

    /// The orphans that agents registered with a credential, in no particular order.
    pub(super) fn of_agents(&self, owner: Digest) -> Vec<Slot> {
        let own = self.of_agents.get(&Some(owner));
        own.into_iter().flat_map(slots).collect()
    }

    /// An active orphan that an agent of that name registered on its link.
    pub(super) fn active_of(&self, owner: Digest, agent_id: &str) -> Option<Slot> {
        let own = self.of_agents.get(&Some(owner))?;
        let (inactive, slot) = own.get(agent_id)?.first()?;
        (!inactive).then_some(*slot)
    }
}

fn slots(own: &HashMap<Arc<str>, BTreeSet<(Inactive, Slot)>>) -> impl Iterator<Item = Slot> {
    own.values().flatten().map(|(_, slot)| *slot)
}
