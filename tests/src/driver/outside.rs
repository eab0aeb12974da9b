//! The world outside of an engine: time that passes when it is told to, and bridges that somebody may dial.

use mcp_local_provider_core::time::Instant;
use mcp_local_provider_engine::Outside;
use mcp_local_provider_engine::dial::BridgeDialler;
use std::fmt;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Start of every run: 2026-01-01T00:00:00Z.
pub const EPOCH: Duration = Duration::from_secs(1_767_225_600);

/// Clocks that are set by hand.
pub struct Virtual {
    now: AtomicU64,
    /// Microseconds since 1970 when `now` is zero.
    unix: AtomicU64,
    dialled: Mutex<Vec<BridgeDialler>>,
}

impl fmt::Debug for Virtual {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Virtual({:?})", self.now())
    }
}

impl Virtual {
    pub(super) fn new() -> Self {
        Self {
            now: AtomicU64::new(0),
            unix: AtomicU64::new(u64::try_from(EPOCH.as_micros()).unwrap()),
            dialled: Mutex::default(),
        }
    }

    /// Sets the monotonic clock, also back, as threads see it whose reading is old.
    pub fn set_now(&self, now: Instant) {
        self.now.store(now.as_micros(), Ordering::Relaxed);
    }

    /// Moves the calendar, as its owner or NTP does.
    pub fn step_calendar(&self, by_micros: i64) {
        self.unix
            .fetch_add(by_micros.cast_unsigned(), Ordering::Relaxed);
    }

    /// The bridges that the engine wants dialled since the last call.
    pub fn take_dialled(&self) -> Vec<BridgeDialler> {
        std::mem::take(&mut *self.dialled.lock().unwrap())
    }
}

impl Outside for Virtual {
    fn now(&self) -> Instant {
        Instant::from_micros(self.now.load(Ordering::Relaxed))
    }

    fn unix(&self) -> Duration {
        let (unix, now) = (&self.unix, &self.now);
        Duration::from_micros(unix.load(Ordering::Relaxed) + now.load(Ordering::Relaxed))
    }

    fn dial(&self, bridge: BridgeDialler) {
        self.dialled.lock().unwrap().push(bridge);
    }
}
