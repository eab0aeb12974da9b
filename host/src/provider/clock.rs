//! The one clock of a provider.

use mcp_local_provider_core::time::Instant;
use std::time::{self, Duration};

/// The time since the provider began, as the machines of core want it. A cheap handle.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    epoch: time::Instant,
}

impl Clock {
    /// A clock that starts now.
    #[must_use]
    pub fn start() -> Self {
        Self {
            epoch: time::Instant::now(),
        }
    }

    /// The time now.
    #[must_use]
    pub fn now(&self) -> Instant {
        Instant::from_micros(self.micros(time::Instant::now()))
    }

    /// Microseconds from the start to `at`.
    #[must_use]
    pub fn micros(&self, at: time::Instant) -> u64 {
        let micros = at.saturating_duration_since(self.epoch).as_micros();
        u64::try_from(micros).unwrap_or(u64::MAX)
    }

    /// The system's name for a time of a machine.
    #[must_use]
    pub fn system(&self, at: Instant) -> time::Instant {
        later(self.epoch, Duration::from_micros(at.as_micros()))
    }

    /// How long it is from now to `at`; nothing when that has passed.
    #[must_use]
    pub fn until(&self, at: Instant) -> Duration {
        self.system(at)
            .saturating_duration_since(time::Instant::now())
    }
}

/// `from + duration`, or what is as good as never.
#[must_use]
pub fn later(from: time::Instant, duration: Duration) -> time::Instant {
    const CENTURY: Duration = Duration::from_secs(3_155_760_000);
    from.checked_add(duration.min(CENTURY)).unwrap_or(from)
}
