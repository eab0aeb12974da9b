//! Locks, each with a rank: a thread takes a lock only above all ranks that it holds, so that no two threads can wait for
//! each other. Debug builds hold every thread to that and panic with the names of both locks.
//!
//! | rank | locks | held while |
//! |---|---|---|
//! | [`HUB`] | the hub and the housekeeper's alarm | the hub is called |
//! | [`COMMANDS`] | the order of the hub's commands | from the end of a call of the hub to the last of its commands |
//! | [`SOCKET`] | one WebSocket of an MCP client each | a frame is taken or given |
//! | [`TABLE`] | links by id, MCP clients that answer as models, connections that wait for a request, requests that wait for capacity, queues of caller tools, parts of health | something is looked up or entered |
//! | [`LINK`] | one link each, one process of an MCP server each | its machine is called |
//! | [`SESSION`] | one session of an MCP client each, one request without a session each | its machine is called |
//! | [`INBOX`] | the inbox of one exchange, the events for one agent's thread, the response of one request to caller tools | something is put in or taken out |
//! | [`FEED`] | the feed of what happens | records are pushed or taken |
//! | [`LEAF`] | configuration and keys, kept conversations, the state of a part, idle pipes, the audit file's error | a value is copied or replaced |
//!
//! The hub is released before a link is locked. No lock is held across input, output or a wait.

use std::cell::Cell;
use std::fmt;
use std::ops::{Deref, DerefMut};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The rank of the hub.
pub const HUB: u8 = 1;
/// The rank of the order of commands.
pub const COMMANDS: u8 = 2;
/// The rank of a WebSocket of an MCP client.
pub const SOCKET: u8 = 3;
/// The rank of the tables of what is shared.
pub const TABLE: u8 = 4;
/// The rank of a link.
pub const LINK: u8 = 5;
/// The rank of a session of an MCP client.
pub const SESSION: u8 = 6;
/// The rank of an inbox.
pub const INBOX: u8 = 7;
/// The rank of the feed.
pub const FEED: u8 = 8;
/// The rank of locks under which no other is taken.
pub const LEAF: u8 = 9;

/// The name of a rank, for the panic of a debug build.
const fn name(rank: u8) -> &'static str {
    match rank {
        HUB => "the hub",
        COMMANDS => "the order of commands",
        SOCKET => "a WebSocket of an MCP client",
        TABLE => "a table",
        LINK => "a link",
        SESSION => "a session of an MCP client",
        INBOX => "an inbox",
        FEED => "the feed",
        LEAF => "a leaf",
        _ => "a lock without a name",
    }
}

thread_local! {
    /// One bit for each rank that the thread holds.
    static HELD: Cell<u16> = const { Cell::new(0) };
}

/// A mutex with a rank. In a release build it is a mutex and nothing else.
pub struct Ranked<T, const RANK: u8>(Mutex<T>);

impl<T, const RANK: u8> Ranked<T, RANK> {
    /// A lock round a value.
    pub const fn new(value: T) -> Self {
        Self(Mutex::new(value))
    }

    /// Waits for the lock. What is behind it is whole even where a thread panicked: the machines never do.
    pub fn lock(&self) -> Guard<'_, T, RANK> {
        let held = Held::take();
        Guard {
            value: self.0.lock().unwrap_or_else(PoisonError::into_inner),
            _held: held,
        }
    }
}

impl<T: Default, const RANK: u8> Default for Ranked<T, RANK> {
    fn default() -> Self {
        Self::new(T::default())
    }
}

impl<T: fmt::Debug, const RANK: u8> fmt::Debug for Ranked<T, RANK> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A lock that is held until this is dropped.
pub struct Guard<'l, T, const RANK: u8> {
    // Dropped first: the lock is released before its rank.
    value: MutexGuard<'l, T>,
    _held: Held<RANK>,
}

impl<T: fmt::Debug, const RANK: u8> fmt::Debug for Guard<'_, T, RANK> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.value.fmt(f)
    }
}

impl<T, const RANK: u8> Deref for Guard<'_, T, RANK> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T, const RANK: u8> DerefMut for Guard<'_, T, RANK> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.value
    }
}

/// A rank that the thread holds.
struct Held<const RANK: u8>;

impl<const RANK: u8> Held<RANK> {
    /// # Panics
    /// In a debug build, when the thread holds this rank or a higher one, or the hub and this is a link.
    fn take() -> Self {
        if cfg!(debug_assertions) {
            HELD.with(|held| {
                let mut barred = !0 << RANK;
                if RANK == LINK {
                    barred |= 1 << HUB;
                }
                let barring = (held.get() & barred).checked_ilog2();
                let barring = barring.and_then(|rank| u8::try_from(rank).ok());
                debug_assert!(
                    barring.is_none(),
                    "{} is locked while {} is held, see the ranks in engine/src/ranked.rs",
                    name(RANK),
                    barring.map_or("", name),
                );
                held.set(held.get() | 1 << RANK);
            });
        }
        Self
    }
}

impl<const RANK: u8> Drop for Held<RANK> {
    fn drop(&mut self) {
        if cfg!(debug_assertions) {
            HELD.with(|held| held.set(held.get() & !(1 << RANK)));
        }
    }
}

#[cfg(test)]
mod tests;
