//! The feed: what happened, in the order of the hub, for as many readers as there are.
//!
//! The engine pushes the audit records of a call of the hub after it has released the hub's lock. The audit file has two
//! [`Reader`]s (one for strangers alone), the log has one; each has its own place, its own choice of events and its own
//! budget. A push never waits for a reader: one that is slow loses its oldest records and is told how many. Records that
//! no reader wants are dropped before the feed is locked.

use crate::ranked::{FEED, Guard, Ranked};
use mcp_local_provider_core::hub::audit::{AuditEvent, AuditRecord, RequestInfo, RequestKind};
use mcp_local_provider_core::time::WallClock;
use std::collections::VecDeque;
use std::fmt;
use std::ops::BitOr;
use std::sync::atomic::{AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::Waker;
use std::time::Duration;

/// Records that wait for readers, at most.
const RECORDS: usize = 16_384;
/// Largest charge of all waiting records, in bytes.
const BYTES: usize = 16 << 20;
/// Records that stay when all readers have them, for one that resumes.
const HISTORY: usize = 256;
/// Records that one [`Reader::drain`] takes at most, because pushers wait for it.
const DRAIN: usize = 256;

/// A set of kinds of events.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Events(u8);

impl Events {
    /// Requests that were answered, or refused for what they asked.
    pub const ANSWERED: Self = Self(1);
    /// Requests of strangers: with no key or none that is known, whatever became of them. There may be any number of them.
    pub const STRANGERS: Self = Self(1 << 1);
    /// Requests that a limit of requests or tokens refused.
    pub const RATE_LIMITED: Self = Self(1 << 2);
    /// Requests of foreign pages, to foreign hosts, without the right, or whose framing is wrong.
    pub const VIOLATIONS: Self = Self(1 << 3);
    /// Changes of sessions.
    pub const SESSIONS: Self = Self(1 << 4);
    /// Links that come and go.
    pub const LINKS: Self = Self(1 << 5);
    /// Everything.
    pub const ALL: Self = Self((1 << 6) - 1);

    /// The kind of one event.
    #[must_use]
    pub const fn of(event: &AuditEvent) -> Self {
        match event {
            AuditEvent::Request { info, .. } if info.key.is_none() => Self::STRANGERS,
            AuditEvent::Request { kind, .. } => match kind {
                RequestKind::Answered => Self::ANSWERED,
                RequestKind::AuthenticationFailed => Self::STRANGERS,
                RequestKind::RateLimited => Self::RATE_LIMITED,
                RequestKind::Violation => Self::VIOLATIONS,
            },
            AuditEvent::Session { .. } => Self::SESSIONS,
            AuditEvent::Link { .. } => Self::LINKS,
        }
    }

    /// Every kind but these.
    #[must_use]
    pub const fn without(self, others: Self) -> Self {
        Self(self.0 & !others.0)
    }

    /// True when the two sets have an event in common.
    #[must_use]
    pub const fn meets(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }
}

impl BitOr for Events {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// Returns the charge of a record: about the length of its line in the audit file, in bytes.
fn charge(event: &AuditEvent) -> usize {
    let of = |text: &Option<Arc<str>>| text.as_ref().map_or(0, |text| text.len() + 16);
    let of_request = |info: &RequestInfo| {
        let agent = info.user_agent.as_ref().map_or(0, |agent| agent.len() + 16);
        let prompt = info.prompt.map_or(0, |_| 82);
        let model = info.model.as_ref().map_or(0, |model| model.len() + 48);
        let limit = info.exceeded.as_ref().map_or(0, |_| 96);
        of(&info.key) + agent + prompt + model + limit + info.endpoint.len()
    };
    match event {
        AuditEvent::Request { info, agent_id, .. } => 376 + of_request(info) + of(agent_id),
        AuditEvent::Session { agent_id, key, .. } => 216 + agent_id.len() + of(key),
        AuditEvent::Link { key, bridge, .. } => 148 + of(key) + of(bridge),
    }
}

/// A record with its number. Numbers count from 1, grow by one with each record of the feed, and start anew with the
/// program.
#[derive(Clone, Debug)]
pub struct Numbered {
    /// Its number.
    pub number: u64,
    /// The record, which all readers share.
    pub record: Arc<AuditRecord>,
}

struct Entry {
    kind: Events,
    charge: usize,
    record: Arc<AuditRecord>,
}

/// Figures of the records that wait for one reader. They are read without a lock.
#[derive(Debug, Default)]
pub struct Backlog {
    records: AtomicUsize,
    bytes: AtomicUsize,
    missed: AtomicU64,
}

impl Backlog {
    /// Records that wait for the reader.
    #[must_use]
    pub fn records(&self) -> usize {
        self.records.load(Ordering::Relaxed)
    }

    /// Charge of these records, in bytes: about the length of their lines in the audit file.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Records that the reader was too slow for, since its start.
    #[must_use]
    pub fn missed(&self) -> u64 {
        self.missed.load(Ordering::Relaxed)
    }
}

/// The feed's side of a reader.
struct Place {
    id: u64,
    wants: Events,
    budget: usize,
    /// The number of the next record to look at.
    cursor: u64,
    records: usize,
    bytes: usize,
    /// Missed since the last drain.
    missed: u64,
    backlog: Arc<Backlog>,
    waker: Option<Waker>,
}

impl Place {
    /// Counts a record that it wants as waiting.
    fn add(&mut self, charge: usize) {
        self.records += 1;
        self.bytes += charge;
    }

    /// Goes past the record at its cursor. True when it wants that record.
    fn pass(&mut self, entry: &Entry) -> bool {
        self.cursor += 1;
        let wanted = self.wants.meets(entry.kind);
        if wanted {
            self.records = self.records.saturating_sub(1);
            self.bytes = self.bytes.saturating_sub(entry.charge);
        }
        wanted
    }

    fn miss(&mut self, records: u64) {
        self.missed += records;
        self.backlog.missed.fetch_add(records, Ordering::Relaxed);
    }

    fn publish(&self) {
        self.backlog.records.store(self.records, Ordering::Relaxed);
        self.backlog.bytes.store(self.bytes, Ordering::Relaxed);
    }
}

#[derive(Default)]
struct State {
    entries: VecDeque<Entry>,
    /// The number of the first entry.
    first: u64,
    /// Charge of all entries, in bytes.
    bytes: usize,
    readers: Vec<Place>,
    last_reader: u64,
}

impl State {
    /// The number that the next record gets.
    fn next(&self) -> u64 {
        self.first + number(self.entries.len())
    }

    fn push(&mut self, record: AuditRecord, wake: &mut Vec<Waker>) {
        let kind = Events::of(&record.event);
        if !self.readers.iter().any(|reader| reader.wants.meets(kind)) {
            return;
        }
        let charge = charge(&record.event);
        if kind == Events::STRANGERS && self.has_enough_of(kind, charge) {
            return;
        }
        self.bytes += charge;
        self.entries.push_back(Entry {
            kind,
            charge,
            record: Arc::new(record),
        });
        let next = self.next();
        for reader in &mut self.readers {
            if reader.wants.meets(kind) {
                reader.add(charge);
                while reader.bytes > reader.budget {
                    let Some(entry) = at(&self.entries, self.first, reader.cursor) else {
                        break;
                    };
                    if reader.pass(entry) {
                        reader.miss(1);
                    }
                }
                wake.extend(reader.waker.take());
            } else if reader.records == 0 {
                // Nothing waits for it, so it need not look through what it does not want.
                reader.cursor = next;
            }
            reader.publish();
        }
        self.trim();
    }

    /// True, and counted as missed, when no reader has room for one more of that kind. Strangers would push out the records
    /// of others, as many as they like.
    fn has_enough_of(&mut self, kind: Events, charge: usize) -> bool {
        let wants = |reader: &Place| reader.wants.meets(kind);
        let full = |reader: &Place| reader.bytes + charge > reader.budget;
        let enough = self.readers.iter().filter(|reader| wants(reader)).all(full);
        if enough {
            for reader in self.readers.iter_mut().filter(|reader| wants(reader)) {
                reader.miss(1);
            }
        }
        enough
    }

    /// Drops what no reader wants any more, but for the history, and what is too much.
    fn trim(&mut self) {
        while let Some(entry) = self.entries.front() {
            let waits =
                |reader: &Place| reader.cursor <= self.first && reader.wants.meets(entry.kind);
            let full = self.entries.len() > RECORDS || self.bytes > BYTES;
            if !full && (self.entries.len() <= HISTORY || self.readers.iter().any(waits)) {
                return;
            }
            for reader in &mut self.readers {
                if reader.cursor <= self.first {
                    if reader.pass(entry) {
                        reader.miss(1);
                    }
                    reader.publish();
                }
            }
            self.bytes = self.bytes.saturating_sub(entry.charge);
            self.first += 1;
            self.entries.pop_front();
        }
    }
}

/// The entry of that number, where it is still there.
fn at(entries: &VecDeque<Entry>, first: u64, number: u64) -> Option<&Entry> {
    entries.get(usize::try_from(number.checked_sub(first)?).ok()?)
}

fn number(length: usize) -> u64 {
    u64::try_from(length).unwrap_or(u64::MAX)
}

/// See the module's documentation.
pub struct Feed {
    /// All that any reader wants, so that the rest costs no lock.
    wanted: AtomicU8,
    wall: OnceLock<WallClock>,
    state: Ranked<State, FEED>,
}

impl fmt::Debug for Feed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Feed(wanted: {:?})", self.wanted())
    }
}

impl Feed {
    /// A feed without readers.
    #[must_use]
    pub fn new() -> Arc<Self> {
        Arc::new(Self {
            wanted: AtomicU8::new(0),
            wall: OnceLock::new(),
            state: Ranked::new(State {
                first: 1,
                ..State::default()
            }),
        })
    }

    /// Kinds of events that at least one reader wants.
    fn wanted(&self) -> Events {
        Events(self.wanted.load(Ordering::Acquire))
    }

    /// The calendar that the records' times are of, once an engine pushes here.
    pub(super) fn set_wall(&self, wall: WallClock) {
        // A second engine would only be a test's.
        let _ = self.wall.set(wall);
    }

    /// A reader of the events that it `wants`. What waits for it is charged at most `budget` bytes; beyond that it loses
    /// its oldest records.
    ///
    /// It begins with the first record after the one with the number `after`, as far as that is still kept and counting
    /// what is not as missed; without a number, or with one that has not been given yet, with the next record.
    #[must_use]
    pub fn reader(self: &Arc<Self>, wants: Events, budget: usize, after: Option<u64>) -> Reader {
        let backlog = Arc::new(Backlog::default());
        let mut state = self.state.lock();
        state.last_reader += 1;
        let id = state.last_reader;
        let next = state.next();
        let from = after.map_or(next, |after| after.saturating_add(1).min(next));
        let mut place = Place {
            id,
            wants,
            budget,
            cursor: from.max(state.first),
            records: 0,
            bytes: 0,
            missed: 0,
            backlog: backlog.clone(),
            waker: None,
        };
        place.miss(place.cursor - from);
        for number in place.cursor..next {
            match at(&state.entries, state.first, number) {
                Some(entry) if wants.meets(entry.kind) => place.add(entry.charge),
                Some(_) | None => {}
            }
        }
        place.publish();
        state.readers.push(place);
        self.update(&state);
        drop(state);
        Reader {
            feed: self.clone(),
            id,
            backlog,
        }
    }

    /// Sums up what the readers want.
    fn update(&self, state: &State) {
        let wanted = state.readers.iter().map(|reader| reader.wants);
        let wanted = wanted.fold(Events::default(), BitOr::bitor);
        self.wanted.store(wanted.0, Ordering::Release);
    }

    /// Locks the feed for a push of `records`, unless no reader wants any of them. Who holds the hub's lock takes this one
    /// before it releases that, so that two calls cannot swap their records.
    pub(super) fn begin(&self, records: &[AuditRecord]) -> Option<Push<'_>> {
        if records.is_empty() {
            return None;
        }
        let wanted = self.wanted();
        let mut records = records.iter();
        records
            .any(|record| wanted.meets(Events::of(&record.event)))
            .then(|| Push(self.state.lock()))
    }

    /// Appends records and wakes the readers that want them. Never waits for a reader.
    pub fn push(&self, records: Vec<AuditRecord>) {
        if let Some(push) = self.begin(&records) {
            push.end(records);
        }
    }
}

/// The feed, locked for a push.
pub(super) struct Push<'f>(Guard<'f, State, FEED>);

impl Push<'_> {
    /// Appends the records, releases the feed, and wakes the readers that want them.
    pub(super) fn end(mut self, records: Vec<AuditRecord>) {
        let mut wake = Vec::new();
        for record in records {
            self.0.push(record, &mut wake);
        }
        drop(self);
        wake.into_iter().for_each(Waker::wake);
    }
}

/// One reader of a [`Feed`]. Dropped, it wants nothing any more.
pub struct Reader {
    feed: Arc<Feed>,
    id: u64,
    backlog: Arc<Backlog>,
}

impl fmt::Debug for Reader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Reader({}, {:?})", self.id, self.backlog)
    }
}

impl Reader {
    /// Appends the next records that it wants to `into`, at most 256 at once, and gives the number of those before them
    /// that it missed. When it appends none and missed none, `waker` is woken by the next record.
    pub fn drain(&mut self, waker: &Waker, into: &mut Vec<Numbered>) -> u64 {
        let mut state = self.feed.state.lock();
        let next = state.next();
        let State {
            entries,
            first,
            readers,
            ..
        } = &mut *state;
        let Some(reader) = readers.iter_mut().find(|reader| reader.id == self.id) else {
            return 0;
        };
        let missed = std::mem::take(&mut reader.missed);
        let mut taken = 0;
        while taken < DRAIN && reader.records > 0 {
            let Some(entry) = at(entries, *first, reader.cursor) else {
                break;
            };
            let number = reader.cursor;
            if reader.pass(entry) {
                taken += 1;
                into.push(Numbered {
                    number,
                    record: entry.record.clone(),
                });
            }
        }
        if reader.records == 0 {
            reader.cursor = next;
        }
        if taken == 0 && missed == 0 {
            reader.waker = Some(waker.clone());
        }
        reader.publish();
        state.trim();
        missed
    }

    /// Figures of the records that wait for it, to be read from anywhere.
    #[must_use]
    pub fn backlog(&self) -> Arc<Backlog> {
        self.backlog.clone()
    }

    /// The calendar that the records' times are of.
    #[must_use]
    pub fn wall(&self) -> WallClock {
        let epoch = || WallClock::new(Default::default(), Duration::ZERO);
        self.feed.wall.get().cloned().unwrap_or_else(epoch)
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        let mut state = self.feed.state.lock();
        state.readers.retain(|reader| reader.id != self.id);
        state.trim();
        self.feed.update(&state);
    }
}

#[cfg(test)]
mod tests;
