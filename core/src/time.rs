//! Time as the machines see it: it comes in as an argument and is never read from a clock.

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

/// Maps the driver's monotonic time to the calendar (UTC).
#[derive(Clone, Copy, Debug)]
pub struct WallClock {
    unix_at_epoch: Duration,
}

impl WallClock {
    /// `unix` is the time since 1970-01-01T00:00:00Z at the instant `now`.
    #[must_use]
    pub fn new(now: Instant, unix: Duration) -> Self {
        Self {
            unix_at_epoch: unix.saturating_sub(now.since(Instant::ZERO)),
        }
    }

    /// Time since 1970-01-01T00:00:00Z.
    #[must_use]
    pub fn unix(&self, now: Instant) -> Duration {
        self.unix_at_epoch.saturating_add(now.since(Instant::ZERO))
    }

    /// Writes RFC 3339 in UTC with microseconds, for instance `2026-01-01T00:05:00.000000Z`.
    pub fn write_rfc3339(&self, now: Instant, out: &mut alloc::vec::Vec<u8>) {
        let unix = self.unix(now);
        let seconds = i64::try_from(unix.as_secs()).unwrap_or(i64::MAX);
        let nanos = i32::try_from(unix.subsec_micros() * 1000).unwrap_or(0);
        let stamp = jiff::Timestamp::new(seconds, nanos).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
        let printer = jiff::fmt::temporal::DateTimePrinter::new().precision(Some(6));
        // Writing to a Vec cannot fail.
        let _ = printer.print_timestamp(&stamp, jiff::fmt::StdFmtWrite(Utf8(out)));
    }

    /// RFC 3339 in UTC, see [`WallClock::write_rfc3339`].
    #[must_use]
    pub fn rfc3339(&self, now: Instant) -> alloc::string::String {
        let mut out = alloc::vec::Vec::with_capacity(27);
        self.write_rfc3339(now, &mut out);
        alloc::string::String::from_utf8(out).unwrap_or_default()
    }
}

struct Utf8<'o>(&'o mut alloc::vec::Vec<u8>);

impl core::fmt::Write for Utf8<'_> {
    fn write_str(&mut self, text: &str) -> core::fmt::Result {
        self.0.extend_from_slice(text.as_bytes());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_calendar_follows_the_monotonic_clock() {
        let clock = WallClock::new(
            Instant::from_micros(2_000_000),
            Duration::from_secs(1_767_225_900),
        );
        assert_eq!(
            clock.rfc3339(Instant::from_micros(2_000_000)),
            "2026-01-01T00:05:00.000000Z"
        );
        assert_eq!(
            clock.rfc3339(Instant::from_micros(3_000_001)),
            "2026-01-01T00:05:01.000001Z"
        );
    }
}
