//! Time for the whole provider: one clock, and one table of deadlines that all tasks share.
//!
//! A deadline for every request and connection would cost the reactor a system call each. Here all of them are entries
//! of one table, rounded up to [`TICK`]; the reactor knows only the earliest one, and learns of a new one only when it
//! is earlier than all others. Nearly every deadline is set far away and never reached, so nearly none costs anything.

use mcp_local_provider_engine::{Clock, later};
use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

/// Deadlines are met at most this much late.
pub const TICK: Duration = Duration::from_micros(TICK_MICROS);

const TICK_MICROS: u64 = 5_000;

/// The clock and the deadlines of one provider. A cheap handle.
#[derive(Clone)]
pub struct Timers(Arc<Engine>);

struct Engine {
    clock: Clock,
    table: Mutex<Table>,
}

#[derive(Default)]
struct Table {
    entries: BTreeMap<Entry, Waker>,
    serial: u64,
    /// The tick that a thread waits for.
    armed: Option<u64>,
    /// That thread, until it was woken.
    runner: Option<Waker>,
}

/// The tick of a deadline, and a number that tells entries of one tick apart.
type Entry = (u64, u64);

impl fmt::Debug for Timers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Timers({} entries)", self.table().entries.len())
    }
}

impl Timers {
    /// Deadlines of a clock.
    #[must_use]
    pub fn new(clock: Clock) -> Self {
        Self(Arc::new(Engine {
            clock,
            table: Mutex::default(),
        }))
    }

    /// The clock.
    #[must_use]
    pub fn clock(&self) -> Clock {
        self.0.clock
    }

    /// A future that is ready `duration` from now.
    #[must_use]
    pub fn after(&self, duration: Duration) -> Sleep {
        self.until(later(Instant::now(), duration))
    }

    /// A future that is ready at `deadline`.
    #[must_use]
    pub fn until(&self, deadline: Instant) -> Sleep {
        Sleep {
            timers: self.clone(),
            deadline,
            entry: None,
        }
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.0.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn insert(&self, deadline: Instant, waker: Waker) -> Entry {
        let tick = self.0.clock.micros(deadline).div_ceil(TICK_MICROS);
        let mut table = self.table();
        table.serial += 1;
        let entry = (tick, table.serial);
        table.entries.insert(entry, waker);
        if table.armed.is_none_or(|armed| tick < armed) {
            table.armed = Some(tick);
            let runner = table.runner.take();
            drop(table);
            if let Some(runner) = runner {
                runner.wake();
            }
        }
        entry
    }

    /// Wakes who is due. Unless a thread does this again and again, no [`Sleep`] ends by itself.
    pub(crate) fn fire(&self) {
        let now = self.0.clock.micros(Instant::now()) / TICK_MICROS;
        loop {
            let due = {
                let mut table = self.table();
                match table.entries.first_entry() {
                    Some(first) if first.key().0 <= now => first.remove(),
                    Some(_) | None => return,
                }
            };
            due.wake();
        }
    }

    /// Returns the earliest deadline, for a thread that is about to wait for it. `runner` is woken when there is an earlier one.
    pub(crate) fn arm(&self, runner: &Waker) -> Option<Instant> {
        let mut table = self.table();
        table.armed = table.entries.keys().next().map(|entry| entry.0);
        match &mut table.runner {
            Some(before) => before.clone_from(runner),
            None => table.runner = Some(runner.clone()),
        }
        let armed = table.armed?;
        let micros = armed.saturating_mul(TICK_MICROS);
        Some(
            self.0
                .clock
                .system(mcp_local_provider_core::time::Instant::from_micros(micros)),
        )
    }
}

/// A future that is ready at its deadline. It may be reset at any time, before or after it was ready.
#[derive(Debug)]
pub struct Sleep {
    timers: Timers,
    deadline: Instant,
    /// With the waker that is in the table.
    entry: Option<(Entry, Waker)>,
}

impl Sleep {
    /// Moves the deadline to `duration` from now.
    pub fn reset_after(&mut self, duration: Duration) {
        self.reset(later(Instant::now(), duration));
    }

    fn forget(&mut self) {
        if let Some((entry, _)) = self.entry.take() {
            self.timers.table().entries.remove(&entry);
        }
    }

    /// Moves the deadline. While an entry is there that is not later, that costs nothing: it wakes once more, in vain.
    pub fn reset(&mut self, deadline: Instant) {
        if self.entry.as_ref().is_some_and(|(entry, _)| {
            let tick = self.timers.0.clock.micros(deadline).div_ceil(TICK_MICROS);
            tick < entry.0
        }) && let Some((entry, waker)) = self.entry.take()
            && self.timers.table().entries.remove(&entry).is_some()
        {
            let entry = self.timers.insert(deadline, waker.clone());
            self.entry = Some((entry, waker));
        }
        self.deadline = deadline;
    }
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let now = Instant::now();
        if now >= self.deadline {
            return Poll::Ready(());
        }
        if let Some((entry, waker)) = &self.entry
            && waker.will_wake(cx.waker())
            && self.timers.0.clock.micros(now) / TICK_MICROS < entry.0
        {
            // The entry was there a moment ago. If it has gone since then, this task is woken again.
            return Poll::Pending;
        }
        self.forget();
        let entry = self.timers.insert(self.deadline, cx.waker().clone());
        self.entry = Some((entry, cx.waker().clone()));
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        self.forget();
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::reactor::Reactor;
    use futures_lite::future::{or, poll_once, zip};

    /// Runs `test` on a thread that serves the deadlines.
    fn with<T>(test: impl AsyncFnOnce(&Timers) -> T) -> T {
        let timers = Timers::new(Clock::start());
        let reactor = Reactor::new(timers.clone()).unwrap();
        reactor.block_on(test(&timers))
    }

    #[test]
    fn deadlines_are_met_in_their_order_and_never_early() {
        with(async |timers| {
            let start = Instant::now();
            let order = Mutex::new(Vec::new());
            let note = async |millis| {
                timers.after(Duration::from_millis(millis)).await;
                assert!(start.elapsed() >= Duration::from_millis(millis));
                order
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .push(millis);
            };
            // Where a busy machine has all of them due at once, the first is looked at first.
            zip(zip(note(1), note(20)), note(40)).await;
            assert_eq!(order.into_inner().unwrap_or_default(), [1, 20, 40]);
        });
    }

    #[test]
    fn a_deadline_that_comes_while_the_thread_works_is_met() {
        with(async |timers| {
            let begun = Instant::now();
            let busy = async {
                // Polled behind the first, which is in the table by now.
                while begun.elapsed() < 3 * TICK {}
            };
            let far = async {
                timers.after(Duration::from_secs(600)).await;
                false
            };
            let near = async {
                zip(timers.after(TICK), busy).await;
                true
            };
            assert!(or(near, far).await);
        });
    }

    #[test]
    fn a_deadline_can_be_moved_both_ways_and_leaves_nothing_behind() {
        with(async |timers| {
            let mut sleep = timers.after(Duration::from_secs(600));
            assert!(poll_once(&mut sleep).await.is_none());
            sleep.reset_after(Duration::from_millis(1));
            (&mut sleep).await;
            sleep.reset_after(Duration::from_millis(10));
            assert!(poll_once(&mut sleep).await.is_none());
            sleep.reset_after(Duration::from_millis(30));
            let moved = Instant::now();
            (&mut sleep).await;
            assert!(moved.elapsed() >= Duration::from_millis(30));
            let other = timers.after(Duration::MAX);
            drop((sleep, other));
            assert!(timers.table().entries.is_empty());
        });
    }
}
