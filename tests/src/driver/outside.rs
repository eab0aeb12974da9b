//! The world outside of an engine: time that passes when it is told to.

use mcp_local_provider_core::time::Instant;
use mcp_local_provider_engine::Outside;
use std::fmt;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Start of every run: 2026-01-01T00:00:00Z.
pub const EPOCH: Duration = Duration::from_secs(1_767_225_600);

/// Clocks that are set by hand.
pub struct Virtual {
    now: AtomicU64,
    /// Times at which the calendar stepped, and microseconds since 1970 when `now` is zero, from then on.
    steps: Mutex<Vec<(Instant, u64)>>,
}

impl fmt::Debug for Virtual {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Virtual({:?})", self.now())
    }
}

impl Virtual {
    pub(crate) fn new() -> Self {
        Self {
            now: AtomicU64::new(0),
            steps: Mutex::new(vec![(Instant::ZERO, micros(EPOCH))]),
        }
    }

    /// Sets the monotonic clock, also back, as threads see it whose reading is old.
    pub fn set_now(&self, now: Instant) {
        self.now.store(now.as_micros(), Ordering::Relaxed);
    }

    /// Moves the calendar, as its owner or NTP does, or a machine that has slept.
    pub fn step_calendar(&self, by_micros: i64) {
        let mut steps = self.steps.lock().unwrap();
        let (_, before) = *steps.last().expect("a calendar");
        steps.push((self.now(), before.saturating_add_signed(by_micros)));
    }

    /// Steps of the calendar so far.
    pub fn steps(&self) -> usize {
        self.steps.lock().unwrap().len()
    }

    /// What the calendar said at `at`.
    pub fn calendar(&self, at: Instant) -> Duration {
        let steps = self.steps.lock().unwrap();
        let mut steps = steps.iter().rev();
        let (_, unix) = steps.find(|(from, _)| *from <= at).expect("a calendar");
        Duration::from_micros(unix + at.as_micros())
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap()
}

impl Outside for Virtual {
    fn now(&self) -> Instant {
        Instant::from_micros(self.now.load(Ordering::Relaxed))
    }

    fn unix(&self) -> Duration {
        let (_, unix) = *self.steps.lock().unwrap().last().expect("a calendar");
        Duration::from_micros(unix + self.now.load(Ordering::Relaxed))
    }
}
