//! The calendar, which may step: an owner sets it, NTP mends it, a machine sleeps and wakes.

use super::Instant;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
use core::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering, fence};
use core::time::Duration;

/// Spans that are remembered. What is older is told by the oldest of them.
const SPANS: usize = 64;

/// Smallest step. Two clocks that are read one after the other differ by less.
const STEP: u64 = 1000;

const SECOND: u64 = 1_000_000;

/// Maps the driver's monotonic time to the calendar (UTC): what has been, to what the calendar said then; what is to come,
/// by the calendar of now. All clones are one calendar.
#[derive(Clone)]
pub struct WallClock(Arc<Spans>);

/// Times between two steps. One thread at a time adds to them, and all others read without a wait.
struct Spans {
    adding: AtomicBool,
    /// The calendar went back by a second or more, once.
    went_back: AtomicBool,
    /// Spans that have begun so far.
    begun: AtomicUsize,
    ring: [Span; SPANS],
}

/// A time without a step.
struct Span {
    /// Its beginning, in microseconds since the driver's epoch.
    from: AtomicU64,
    /// Microseconds from 1970-01-01T00:00:00Z to the driver's epoch, by the calendar of this span.
    unix_at_epoch: AtomicU64,
}

impl Spans {
    /// Reads the latest span that `fits`, else the oldest that is known.
    fn find(&self, fits: impl Fn(u64) -> bool) -> (u64, u64) {
        loop {
            let begun = self.begun.load(Ordering::Acquire);
            let mut found = (0, 0);
            // The next span is written where the oldest is.
            for back in 1..SPANS.min(begun + 1) {
                let Some(span) = self.ring.get((begun - back) % SPANS) else {
                    break;
                };
                let from = span.from.load(Ordering::Relaxed);
                found = (from, span.unix_at_epoch.load(Ordering::Relaxed));
                if fits(from) {
                    break;
                }
            }
            fence(Ordering::Acquire);
            if self.begun.load(Ordering::Relaxed) == begun {
                return found;
            }
        }
    }

    fn add(&self, from: u64, unix_at_epoch: u64) {
        let begun = self.begun.load(Ordering::Relaxed);
        // Who reads what is written from here on has to see that the last span has begun.
        fence(Ordering::Release);
        if let Some(span) = self.ring.get(begun % SPANS) {
            span.from.store(from, Ordering::Relaxed);
            span.unix_at_epoch.store(unix_at_epoch, Ordering::Relaxed);
        }
        self.begun.store(begun + 1, Ordering::Release);
    }
}

impl WallClock {
    /// `unix` is the time since 1970-01-01T00:00:00Z at the instant `now`.
    #[must_use]
    pub fn new(now: Instant, unix: Duration) -> Self {
        let spans = Spans {
            adding: AtomicBool::new(false),
            went_back: AtomicBool::new(false),
            begun: AtomicUsize::new(0),
            ring: [const {
                Span {
                    from: AtomicU64::new(0),
                    unix_at_epoch: AtomicU64::new(0),
                }
            }; SPANS],
        };
        spans.add(0, unix_at_epoch(now, unix));
        Self(Arc::new(spans))
    }

    /// Tells that the calendar says `unix` at `now` and means something else than it meant before.
    #[must_use]
    pub fn has_stepped(&self, now: Instant, unix: Duration) -> bool {
        let (from, known) = self.0.find(|_| true);
        // A thread that was held up since it read the clocks knows nothing new.
        now.as_micros() >= from && known.abs_diff(unix_at_epoch(now, unix)) >= STEP
    }

    /// True when the calendar has gone back by a second or more since the start: who remembers a time of it may remember one
    /// that is still to come.
    #[must_use]
    pub fn went_back(&self) -> bool {
        self.0.went_back.load(Ordering::Relaxed)
    }

    /// Takes over what the calendar says from `now` on, if it has stepped.
    pub fn step(&self, now: Instant, unix: Duration) {
        if !self.0.adding.swap(true, Ordering::Acquire) {
            if self.has_stepped(now, unix) {
                let (_, before) = self.0.find(|_| true);
                let after = unix_at_epoch(now, unix);
                if before.saturating_sub(after) >= SECOND {
                    self.0.went_back.store(true, Ordering::Relaxed);
                }
                self.0.add(now.as_micros(), after);
            }
            self.0.adding.store(false, Ordering::Release);
        }
    }

    /// Time since 1970-01-01T00:00:00Z.
    #[must_use]
    pub fn unix(&self, at: Instant) -> Duration {
        let at = at.as_micros();
        let (_, unix_at_epoch) = self.0.find(|from| from <= at);
        Duration::from_micros(unix_at_epoch.saturating_add(at))
    }

    /// Writes RFC 3339 in UTC with microseconds, for instance `2026-01-01T00:05:00.000000Z`.
    pub fn write_rfc3339(&self, at: Instant, out: &mut Vec<u8>) {
        write_rfc3339(self.unix(at), out);
    }

    /// RFC 3339 in UTC, see [`WallClock::write_rfc3339`].
    #[must_use]
    pub fn rfc3339(&self, at: Instant) -> alloc::string::String {
        let mut out = Vec::with_capacity(27);
        self.write_rfc3339(at, &mut out);
        alloc::string::String::from_utf8(out).unwrap_or_default()
    }
}

impl fmt::Debug for WallClock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let spans = self.0.begun.load(Ordering::Relaxed);
        write!(f, "WallClock({spans} spans)")
    }
}

/// Appends a time since 1970-01-01T00:00:00Z as RFC 3339 in UTC with microseconds.
pub fn write_rfc3339(unix: Duration, out: &mut Vec<u8>) {
    let seconds = i64::try_from(unix.as_secs()).unwrap_or(i64::MAX);
    let nanos = i32::try_from(unix.subsec_micros() * 1000).unwrap_or(0);
    let stamp = jiff::Timestamp::new(seconds, nanos).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
    let printer = jiff::fmt::temporal::DateTimePrinter::new().precision(Some(6));
    // Writing to a Vec cannot fail.
    let _ = printer.print_timestamp(&stamp, jiff::fmt::StdFmtWrite(Utf8(out)));
}

fn unix_at_epoch(now: Instant, unix: Duration) -> u64 {
    let unix = u64::try_from(unix.as_micros()).unwrap_or(u64::MAX);
    unix.saturating_sub(now.as_micros())
}

struct Utf8<'o>(&'o mut Vec<u8>);

impl fmt::Write for Utf8<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0.extend_from_slice(text.as_bytes());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2026-01-01T00:05:00Z.
    const NEW_YEAR: Duration = Duration::from_secs(1_767_225_900);

    fn second(seconds: u64) -> Instant {
        Instant::from_micros(seconds * 1_000_000)
    }

    #[test]
    fn the_calendar_follows_the_monotonic_clock() {
        let clock = WallClock::new(second(2), NEW_YEAR);
        assert_eq!(clock.rfc3339(second(2)), "2026-01-01T00:05:00.000000Z");
        let later = Instant::from_micros(3_000_001);
        assert_eq!(clock.rfc3339(later), "2026-01-01T00:05:01.000001Z");
    }

    #[test]
    fn what_has_been_keeps_its_time_when_the_calendar_steps() {
        let clock = WallClock::new(second(0), NEW_YEAR);
        let at = |at: u64| clock.rfc3339(second(at));
        assert!(!clock.has_stepped(second(10), NEW_YEAR + Duration::from_secs(10)));
        // A night's sleep, in which the monotonic clock stands still.
        let slept = NEW_YEAR + Duration::from_secs(10 + 8 * 3600);
        assert!(clock.has_stepped(second(10), slept));
        clock.clone().step(second(10), slept);
        assert_eq!(at(9), "2026-01-01T00:05:09.000000Z");
        assert_eq!(at(10), "2026-01-01T08:05:10.000000Z");
        assert_eq!(at(15), "2026-01-01T08:05:15.000000Z");
        // A thread that read the clocks before.
        clock.step(second(9), NEW_YEAR + Duration::from_secs(9));
        assert_eq!(at(15), "2026-01-01T08:05:15.000000Z");
        // And back.
        clock.step(second(20), NEW_YEAR);
        assert_eq!(at(15), "2026-01-01T08:05:15.000000Z");
        assert_eq!(at(21), "2026-01-01T00:05:01.000000Z");
    }

    #[test]
    fn a_calendar_that_goes_back_by_a_second_is_known_for_that() {
        let at = Duration::from_secs;
        let wall = WallClock::new(Instant::from_micros(0), at(100));
        wall.step(Instant::from_micros(1_000_000), at(200));
        wall.step(
            Instant::from_micros(2_000_000),
            at(201) - Duration::from_millis(900),
        );
        assert!(!wall.went_back());
        wall.step(Instant::from_micros(3_000_000), at(150));
        assert!(wall.went_back());
    }

    #[test]
    fn the_latest_steps_are_remembered() {
        let clock = WallClock::new(second(0), NEW_YEAR);
        let steps = 1000;
        for step in 1..=steps {
            clock.step(second(step), NEW_YEAR + Duration::from_secs(10 * step));
        }
        for step in steps - 60..=steps {
            let unix = NEW_YEAR + Duration::from_secs(10 * step);
            assert_eq!(clock.unix(second(step)), unix, "{step}");
        }
        assert!(clock.unix(second(1)) > NEW_YEAR);
    }
}
