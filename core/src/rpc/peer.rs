//! The requests that this side has made, and that wait for their answers.

use crate::text::JsonValue;
use crate::time::Instant;
use alloc::collections::{BTreeMap, BTreeSet};

/// Correlates answers with the requests of this side, whose ids are numbers from 1 on and are never used twice. `T` says who
/// wants the answer. Whoever asks bounds how many wait, by [`Peer::len`] where nothing else does.
#[derive(Debug)]
pub struct Peer<T> {
    last: u64,
    waiting: BTreeMap<u64, (T, Option<Instant>)>,
    by_time: BTreeSet<(Instant, u64)>,
}

impl<T> Peer<T> {
    /// Nothing is asked yet.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            last: 0,
            waiting: BTreeMap::new(),
            by_time: BTreeSet::new(),
        }
    }

    /// The id for a request that is sent now, whose answer `to` wants until then.
    pub fn expect(&mut self, to: T, until: Option<Instant>) -> u64 {
        self.last += 1;
        self.waiting.insert(self.last, (to, until));
        if let Some(until) = until {
            self.by_time.insert((until, self.last));
        }
        self.last
    }

    /// An answer has come: who wants it. `None` when nobody does, as it is late or the id is none of this side's.
    pub fn take(&mut self, id: JsonValue<'_>) -> Option<T> {
        self.cancel(number_of(id)?)
    }

    /// Nobody wants the answer any more. The other side may be told so, in the way of its protocol.
    pub fn cancel(&mut self, id: u64) -> Option<T> {
        let (to, until) = self.waiting.remove(&id)?;
        if let Some(until) = until {
            self.by_time.remove(&(until, id));
        }
        Some(to)
    }

    /// Who wants the answer to a request; `None` when nobody waits for it.
    #[must_use]
    pub fn get(&self, id: u64) -> Option<&T> {
        self.waiting.get(&id).map(|(to, _)| to)
    }

    /// The same, to be changed.
    pub fn get_mut(&mut self, id: u64) -> Option<&mut T> {
        self.waiting.get_mut(&id).map(|(to, _)| to)
    }

    /// The answer to a request is wanted until then, instead of until what was said before.
    pub fn defer(&mut self, id: u64, until: Instant) {
        if let Some((_, deadline)) = self.waiting.get_mut(&id) {
            if let Some(before) = deadline.replace(until) {
                self.by_time.remove(&(before, id));
            }
            self.by_time.insert((until, id));
        }
    }

    /// The next deadline, and the request that it is for.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<(Instant, u64)> {
        self.by_time.first().copied()
    }

    /// All that wait, by their ids.
    pub fn iter(&self) -> impl Iterator<Item = (u64, &T)> {
        self.waiting.iter().map(|(id, (to, _))| (*id, to))
    }

    /// Requests that wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    /// True when none waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// The other side is gone: nothing is answered any more. Ids go on from where they are.
    pub fn clear(&mut self) {
        self.waiting.clear();
        self.by_time.clear();
    }
}

impl<T> Default for Peer<T> {
    fn default() -> Self {
        Self::new()
    }
}

/// Returns the number that an id of this side is. Some programs make a string of a number.
#[must_use]
pub fn number_of(id: JsonValue<'_>) -> Option<u64> {
    id.get().trim_matches('"').parse().ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use alloc::string::ToString;
    use alloc::vec::Vec;
    use proptest::prelude::*;

    const fn at(micros: u64) -> Instant {
        Instant::from_micros(micros)
    }

    #[test]
    fn an_answer_reaches_whoever_asked_once() {
        let mut peer = Peer::new();
        assert_eq!(peer.expect("a", None), 1);
        assert_eq!(peer.expect("b", Some(at(5))), 2);
        assert_eq!(peer.poll_timeout(), Some((at(5), 2)));
        assert_eq!(peer.take(JsonValue::read("\"2\"").unwrap()), Some("b"));
        assert_eq!(peer.take(JsonValue::read("2").unwrap()), None);
        assert_eq!(peer.poll_timeout(), None);
        for foreign in ["3", "-1", "1.0", "\"x\"", "{}"] {
            assert_eq!(peer.take(JsonValue::read(foreign).unwrap()), None);
        }
        assert_eq!(peer.expect("c", None), 3);
        assert_eq!(peer.len(), 2);
        peer.clear();
        assert!(peer.is_empty());
        assert_eq!(peer.expect("d", None), 4);
    }

    proptest! {
        /// Each request ends once, answered, cancelled or due, and a deadline never outlives its request.
        #[test]
        fn every_request_ends_once(steps in prop::collection::vec((0u8..5, 0u64..8), 0..60)) {
            let mut peer = Peer::new();
            let mut open: Vec<(u64, Option<u64>)> = Vec::new();
            for (now, (step, with)) in (0u64..).zip(steps) {
                match step {
                    0 | 1 => {
                        let until = (step == 0).then_some(now + with);
                        open.push((peer.expect((), until.map(at)), until));
                    }
                    2 => {
                        let (id, until) = (with, now + with);
                        peer.defer(id, at(until));
                        let known = open.iter_mut().find(|known| known.0 == id);
                        prop_assert_eq!(peer.get(id).is_some(), known.is_some());
                        if let Some(known) = known {
                            known.1 = Some(until);
                        }
                    }
                    3 => {
                        let id = with.to_string();
                        let known = open.iter().position(|(id, _)| *id == with);
                        let took = peer.take(JsonValue::read(&id).unwrap());
                        prop_assert_eq!(took.is_some(), known.is_some());
                        known.map(|known| open.remove(known));
                    }
                    _ => while let Some((_, id)) = peer.poll_timeout().filter(|(due, _)| *due <= at(now)) {
                        prop_assert_eq!(peer.cancel(id), Some(()));
                        let known = open.iter().position(|known| known.0 == id).unwrap();
                        let (_, until) = open.remove(known);
                        prop_assert!(until.unwrap() <= now);
                    }
                }
                let next = open.iter().filter_map(|(id, until)| Some((at((*until)?), *id))).min();
                prop_assert_eq!(peer.poll_timeout(), next);
                prop_assert!(step != 4 || next.is_none_or(|(next, _)| next > at(now)));
                prop_assert_eq!(peer.len(), open.len());
            }
        }
    }
}
