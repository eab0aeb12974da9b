//! Time as the machines see it: it comes in as an argument and is never read from a clock.

mod calendar;

pub use calendar::{WallClock, write_rfc3339};

use core::marker::PhantomData;
use core::time::Duration;

/// A point in time: microseconds since the driver's own epoch, which is the start of the program.
///
/// The driver reads its monotonic clock and hands the value in; core never reads one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Instant(u64);

impl Instant {
    /// The driver's epoch.
    pub const ZERO: Self = Self(0);

    /// The instant `micros` microseconds after the epoch.
    #[must_use]
    pub const fn from_micros(micros: u64) -> Self {
        Self(micros)
    }

    /// Microseconds since the epoch.
    #[must_use]
    pub const fn as_micros(self) -> u64 {
        self.0
    }

    /// The time from `earlier` to `self`, zero when `earlier` is later.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_micros(self.0.saturating_sub(earlier.0))
    }
}

impl core::ops::Add<Duration> for Instant {
    type Output = Self;

    fn add(self, duration: Duration) -> Self {
        Self(
            self.0
                .saturating_add(u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)),
        )
    }
}

/// The time at which a machine is to be called next, and the reason. `R` is the machine's own enum of reasons.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Timeout<R> {
    /// The driver calls `handle_timeout` at this instant or later.
    pub at: Instant,
    /// For logs and tests; a driver does not look at it.
    pub why: R,
}

/// The reasons of a machine: an enum of `N` variants without fields.
pub(crate) trait Reason<const N: usize>: Copy {
    /// All of them, in the order of the enum.
    const ALL: [Self; N];

    /// The place in [`Reason::ALL`].
    fn place(self) -> usize;
}

/// The fixed timer table of one machine: at most one deadline for each of its `N` reasons.
#[derive(Clone, Debug)]
pub(crate) struct Timers<R, const N: usize> {
    at: [Option<Instant>; N],
    reasons: PhantomData<R>,
}

impl<R: Reason<N> + Ord, const N: usize> Timers<R, N> {
    /// A table in which nothing is set.
    pub(crate) const fn new() -> Self {
        Self {
            at: [None; N],
            reasons: PhantomData,
        }
    }

    #[inline]
    pub(crate) fn set(&mut self, why: R, at: Option<Instant>) {
        if let Some(slot) = self.at.get_mut(why.place()) {
            *slot = at;
        }
    }

    pub(crate) fn get(&self, why: R) -> Option<Instant> {
        self.at.get(why.place()).copied().flatten()
    }

    /// Takes the earliest timer that is due at `now`; of several at one instant, the one that the enum names first.
    pub(crate) fn take_due(&mut self, now: Instant) -> Option<R> {
        let due = self.next().filter(|timeout| timeout.at <= now)?;
        self.set(due.why, None);
        Some(due.why)
    }

    pub(crate) fn next(&self) -> Option<Timeout<R>> {
        R::ALL
            .into_iter()
            .zip(self.at)
            .filter_map(|(why, at)| at.map(|at| Timeout { at, why }))
            .min()
    }

    pub(crate) fn clear(&mut self) {
        self.at = [None; N];
    }
}

/// The last seen time of a machine. Threads deliver `now` out of order; time here only moves forward.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Latest(Instant);

impl Latest {
    pub(crate) fn clamp(&mut self, now: Instant) -> Instant {
        self.0 = self.0.max(now);
        self.0
    }
}
