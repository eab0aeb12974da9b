//! Which session answers for a model: the one with the fewest open exchanges, found without looking at the others.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use hashbrown::HashMap;

/// Position of a session in the hub's table.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Slot(pub usize);

/// The sessions that can answer for one model, kept by their load.
#[derive(Debug, Default)]
pub struct Pool {
    /// The sessions with each number of open exchanges; no level is empty.
    levels: BTreeMap<usize, Vec<Slot>>,
    /// Where each session is: its level and its place there.
    places: HashMap<Slot, (usize, usize)>,
}

impl Pool {
    /// Puts a session in, or moves it to its new load.
    pub fn set(&mut self, session: Slot, load: usize) {
        self.remove(session);
        let level = self.levels.entry(load).or_default();
        self.places.insert(session, (load, level.len()));
        level.push(session);
    }

    /// Takes a session out.
    pub fn remove(&mut self, session: Slot) {
        let Some((load, place)) = self.places.remove(&session) else {
            return;
        };
        let Some(level) = self.levels.get_mut(&load) else {
            return;
        };
        level.swap_remove(place);
        if let Some(moved) = level.get(place) {
            self.places.insert(*moved, (load, place));
        } else if level.is_empty() {
            self.levels.remove(&load);
        }
    }

    /// A session with the least load.
    #[must_use]
    pub fn least(&self) -> Option<Slot> {
        self.levels.first_key_value()?.1.last().copied()
    }

    /// True when no session can answer.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn the_least_loaded_is_found_whatever_came_before(
            steps in proptest::collection::vec((0usize..8, proptest::option::of(0usize..6)), 1..100)
        ) {
            let mut pool = Pool::default();
            let mut model = BTreeMap::new();
            for (session, load) in steps {
                match load {
                    Some(load) => { pool.set(Slot(session), load); model.insert(session, load); }
                    None => { pool.remove(Slot(session)); model.remove(&session); }
                }
                prop_assert_eq!(pool.is_empty(), model.is_empty());
                let least = model.values().min();
                prop_assert_eq!(pool.least().map(|slot| &model[&slot.0]), least);
            }
        }
    }
}
