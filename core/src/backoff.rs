//! Pauses between attempts.

use core::time::Duration;

/// Pauses before another attempt: their bound doubles from the first to the highest, with full jitter.
#[derive(Clone, Debug)]
pub struct Backoff {
    first: Duration,
    highest: Duration,
    failures: u32,
    /// State of a SplitMix64 generator.
    chance: u64,
}

impl Backoff {
    /// Pauses that differ from those of another seed, so that many who lost one server do not come back at once.
    #[must_use]
    pub const fn new(seed: u64, first: Duration, highest: Duration) -> Self {
        Self {
            first,
            highest,
            failures: 0,
            chance: seed,
        }
    }

    /// The next pause: anything between nothing and the bound.
    pub fn pause(&mut self) -> Duration {
        let doubled = self.first.saturating_mul(1 << self.failures.min(31));
        let bound = doubled.min(self.highest).as_micros();
        let bound = u64::try_from(bound).unwrap_or(u64::MAX);
        self.failures = self.failures.saturating_add(1);
        self.chance = self.chance.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.chance;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        Duration::from_micros((z ^ (z >> 31)) % bound.saturating_add(1))
    }

    /// It worked: the next pause is short again.
    pub const fn reset(&mut self) {
        self.failures = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_a_minute() {
        let mut backoff = Backoff::new(7, Duration::from_secs(1), Duration::from_secs(60));
        for bound in [1, 2, 4, 8, 16, 32, 60, 60] {
            assert!(backoff.pause() <= Duration::from_secs(bound));
        }
        backoff.reset();
        assert!(backoff.pause() <= Duration::from_secs(1));
    }
}
