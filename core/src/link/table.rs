//! Tables of the exchanges that a link carries and of those that it has carried.

use super::reassembly::Reassembly;
use crate::id::{ExchangeId, SessionId};
use crate::machine::{Move, OUTSIDE, Table as States};
use crate::time::Instant;
use alloc::collections::{BTreeSet, VecDeque};
use alloc::vec::Vec;
use core::hash::{BuildHasherDefault, Hasher};
use core::time::Duration;
use hashbrown::HashMap;

/// States of one id in a link.
#[derive(Clone, Copy)]
enum Slot {
    /// Its chunks come in order.
    Open,
    /// Chunks wait for one that is missing.
    Gap,
    /// A tombstone.
    Done,
}

impl Slot {
    const fn name(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Gap => "gap",
            Self::Done => "done",
        }
    }
}

/// The moves of one id in a link.
pub static SLOT: States = States::new(&[
    Move::new(OUTSIDE, "open", "open, model_invoke is queued"),
    Move::new("open", "gap", "chunk ahead of its turn, held"),
    Move::new("gap", "gap", "another one ahead, held"),
    Move::new(
        "gap",
        "open",
        "the missing chunk, and those that waited for it",
    ),
    Move::new(
        "open",
        "done",
        "finish_reason, result or error, delivered<br/>\
         cancel, mailbox overrun, session ended, wrong field, one model_cancel",
    ),
    Move::new(
        "gap",
        "done",
        "error, or the missing chunk and the end, delivered<br/>\
         5 s, 64 chunks or 256 KiB, fails as agent_fault, one model_cancel<br/>\
         cancel, mailbox overrun, session ended, wrong field, one model_cancel",
    ),
    Move::new("open", OUTSIDE, "link lost, fails as agent_lost"),
    Move::new("gap", OUTSIDE, "link lost, fails as agent_lost"),
    Move::new("done", "done", "late message, dropped and counted"),
    Move::new(
        "done",
        OUTSIDE,
        "30 s of silence, too many of them, link lost",
    ),
]);

/// One open exchange.
#[derive(Debug)]
pub(super) struct Open<T> {
    pub(super) session: SessionId,
    pub(super) to: T,
    pub(super) stream: Reassembly,
    /// Its entry in the index of gaps.
    gap: Option<Instant>,
}

impl<T> Open<T> {
    const fn slot(&self) -> Slot {
        match self.gap {
            None => Slot::Open,
            Some(_) => Slot::Gap,
        }
    }
}

/// Open exchanges by id, their gaps by time, and the tombstones of those that are done.
#[derive(Debug)]
pub(super) struct Table<T> {
    open: HashMap<ExchangeId, Open<T>, BuildHasherDefault<IdHasher>>,
    gaps: BTreeSet<(Instant, ExchangeId)>,
    by_session: BTreeSet<(SessionId, ExchangeId)>,
    /// Time at which the agent last used each id that is done.
    done: HashMap<ExchangeId, Instant, BuildHasherDefault<IdHasher>>,
    /// Each tombstone once, with the time when it is looked at: one that was used since then goes to the back.
    order: VecDeque<(Instant, ExchangeId)>,
    tombstones: usize,
    ttl: Duration,
}

impl<T> Table<T> {
    /// Keeps at most `tombstones` for `ttl` each.
    pub(super) fn new(tombstones: usize, ttl: Duration) -> Self {
        Self {
            open: HashMap::default(),
            gaps: BTreeSet::new(),
            by_session: BTreeSet::new(),
            done: HashMap::default(),
            order: VecDeque::new(),
            tombstones: tombstones.max(1),
            ttl,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.open.len()
    }

    /// Those of which a chunk has come.
    pub(super) fn begun(&self) -> usize {
        let begun = |open: &&Open<T>| open.stream.next() > 0 || open.stream.waiting() > 0;
        self.open.values().filter(begun).count()
    }

    pub(super) fn recipients(&self) -> impl Iterator<Item = (ExchangeId, &T)> {
        self.open.iter().map(|(id, open)| (*id, &open.to))
    }

    pub(super) fn contains(&self, id: ExchangeId) -> bool {
        self.open.contains_key(&id)
    }

    pub(super) fn tombstones(&self) -> usize {
        self.done.len()
    }

    /// Adds an exchange; hands `to` back when the id is not new.
    pub(super) fn insert(&mut self, id: ExchangeId, session: SessionId, to: T) -> Result<(), T> {
        if self.open.contains_key(&id) || self.done.contains_key(&id) {
            return Err(to);
        }
        SLOT.step(OUTSIDE, Slot::Open.name());
        self.by_session.insert((session.clone(), id));
        self.open.insert(
            id,
            Open {
                session,
                to,
                stream: Reassembly::default(),
                gap: None,
            },
        );
        Ok(())
    }

    #[inline]
    pub(super) fn get_mut(&mut self, id: ExchangeId) -> Option<&mut Open<T>> {
        self.open.get_mut(&id)
    }

    /// Brings the index of gaps in line with the exchange's stream.
    pub(super) fn note_gap(&mut self, id: ExchangeId) {
        if let Some(open) = self.open.get_mut(&id) {
            let gap = open.stream.gap_ends();
            let before = open.slot();
            if gap != open.gap {
                if let Some(old) = open.gap {
                    self.gaps.remove(&(old, id));
                }
                if let Some(new) = gap {
                    self.gaps.insert((new, id));
                }
                open.gap = gap;
            }
            if matches!((before, open.slot()), (Slot::Gap, _) | (_, Slot::Gap)) {
                SLOT.step(before.name(), open.slot().name());
            }
        }
    }

    /// Returns the time at which the first gap has stood too long.
    pub(super) fn next_gap(&self) -> Option<Instant> {
        self.gaps.first().map(|(at, _)| *at)
    }

    /// Takes an exchange whose gap has stood too long at `now`.
    pub(super) fn take_expired_gap(&mut self, now: Instant) -> Option<ExchangeId> {
        let first = *self.gaps.first().filter(|(at, _)| *at <= now)?;
        self.gaps.remove(&first);
        Some(first.1)
    }

    /// Ends an exchange and leaves a tombstone.
    pub(super) fn retire(&mut self, now: Instant, id: ExchangeId) -> Option<Open<T>> {
        let open = self.open.remove(&id)?;
        self.by_session.remove(&(open.session.clone(), id));
        SLOT.step(open.slot().name(), Slot::Done.name());
        if let Some(gap) = open.gap {
            self.gaps.remove(&(gap, id));
        }
        while self.order.len() >= self.tombstones {
            if let Some((_, oldest)) = self.order.pop_front() {
                self.forget(oldest);
            }
        }
        self.done.insert(id, now);
        self.order.push_back((now + self.ttl, id));
        Some(open)
    }

    fn forget(&mut self, id: ExchangeId) {
        if self.done.remove(&id).is_some() {
            SLOT.step(Slot::Done.name(), OUTSIDE);
        }
    }

    /// Takes all exchanges out without tombstones, for a link that is over.
    pub(super) fn drain_open(&mut self) -> impl Iterator<Item = Open<T>> {
        self.gaps.clear();
        self.by_session.clear();
        self.done.clear();
        self.order.clear();
        self.open.drain().map(|(_, open)| {
            SLOT.step(open.slot().name(), OUTSIDE);
            open
        })
    }

    /// True when the id is done; it is then remembered for longer.
    pub(super) fn is_done(&mut self, now: Instant, id: ExchangeId) -> bool {
        match self.done.get_mut(&id) {
            Some(used) => {
                *used = now;
                SLOT.step(Slot::Done.name(), Slot::Done.name());
                true
            }
            None => false,
        }
    }

    /// Returns the time at which the oldest tombstone may go.
    pub(super) fn next_tombstone(&self) -> Option<Instant> {
        self.order.front().map(|(at, _)| *at)
    }

    /// Drops the tombstones whose time has come.
    pub(super) fn drop_tombstones(&mut self, now: Instant) {
        for _ in 0..self.order.len() {
            let Some((at, id)) = self.order.front().copied().filter(|(at, _)| *at <= now) else {
                return;
            };
            self.order.pop_front();
            let keep_until = self.done.get(&id).map_or(at, |used| *used + self.ttl);
            if keep_until > now {
                self.order.push_back((keep_until, id));
            } else {
                self.forget(id);
            }
        }
    }

    /// The open exchanges of a session.
    pub(super) fn of_session(&self, session: &SessionId) -> Vec<ExchangeId> {
        self.by_session
            .range((session.clone(), ExchangeId::LEAST)..)
            .take_while(|(of, _)| of == session)
            .map(|(_, id)| *id)
            .collect()
    }
}

/// Hashes ids that this program issued itself; nobody else chooses what is in the table.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct IdHasher(u64);

impl Hasher for IdHasher {
    #[inline]
    fn write_u32(&mut self, value: u32) {
        self.write_u64(u64::from(value));
    }

    #[inline]
    fn write_u64(&mut self, value: u64) {
        self.0 = (self.0.rotate_left(32) ^ value).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u64(u64::from(*byte));
        }
    }

    #[inline]
    fn finish(&self) -> u64 {
        self.0.rotate_left(26)
    }
}
