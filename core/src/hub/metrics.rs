//! Figures of the whole program: counters, gauges and histograms, without names or labels of people.

use crate::time::{Instant, WallClock};
use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::time::Duration;

/// Upper bounds in microseconds of the histograms' buckets, one more is without bound.
pub const BOUNDS: [u64; 15] = [
    1_000,
    2_500,
    5_000,
    10_000,
    25_000,
    50_000,
    100_000,
    250_000,
    500_000,
    1_000_000,
    2_500_000,
    5_000_000,
    10_000_000,
    60_000_000,
    600_000_000,
];

/// Durations, counted by size.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Histogram {
    /// Observations in each bucket, not cumulated.
    pub buckets: [u64; BOUNDS.len() + 1],
    /// All observations.
    pub count: u64,
    /// Their sum in microseconds.
    pub sum: u64,
}

impl Histogram {
    /// Counts one duration.
    pub fn observe(&mut self, duration: Duration) {
        let micros = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        if let Some(count) = self.buckets.get_mut(bucket(micros)) {
            *count += 1;
        }
        self.count += 1;
        self.sum = self.sum.saturating_add(micros);
    }

    /// Adds what one exchange has counted by itself.
    pub fn absorb(&mut self, gaps: &Gaps) {
        for (own, more) in self.buckets.iter_mut().zip(&gaps.buckets) {
            *own += u64::from(*more);
            self.count += u64::from(*more);
        }
        self.sum = self.sum.saturating_add(gaps.sum);
    }

    /// The mean; `None` before the first observation.
    #[must_use]
    pub fn mean(&self) -> Option<Duration> {
        self.sum.checked_div(self.count).map(Duration::from_micros)
    }
}

fn bucket(micros: u64) -> usize {
    BOUNDS.partition_point(|bound| *bound < micros)
}

/// The times between the chunks of one stream, counted where the chunks pass so that the hub is not touched for each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Gaps {
    /// As in [`Histogram`].
    buckets: [u32; BOUNDS.len() + 1],
    /// In microseconds.
    sum: u64,
}

impl Gaps {
    /// Counts one gap.
    #[inline]
    pub fn observe(&mut self, gap: Duration) {
        let micros = u64::try_from(gap.as_micros()).unwrap_or(u64::MAX);
        // Chunks mostly come together.
        let bucket = if micros == 0 { 0 } else { bucket(micros) };
        if let Some(count) = self.buckets.get_mut(bucket) {
            *count = count.saturating_add(1);
        }
        self.sum = self.sum.saturating_add(micros);
    }
}

/// A snapshot. Counters only grow; gauges say what is now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Metrics {
    /// Counter: exchanges that were admitted.
    pub admitted: u64,
    /// Counter: admitted exchanges that ended, whatever way.
    pub settled: u64,
    /// Counter: those that ended well.
    pub completed: u64,
    /// Counter: those that failed.
    pub failed: u64,
    /// Counter: those that were cancelled, by the client mostly.
    pub cancelled: u64,
    /// Counter: exchanges that went on to a fallback.
    pub fallbacks: u64,
    /// Counter: requests refused by a limit of requests.
    pub limited_requests: u64,
    /// Counter: requests refused by a limit of tokens.
    pub limited_tokens: u64,
    /// Counter: requests refused for lack of capacity.
    pub overloaded: u64,
    /// Counter: requests with a wrong key or none.
    pub unauthenticated: u64,
    /// Counter: requests with a foreign host or origin, or a role that does not allow them.
    pub violations: u64,
    /// Counter: sessions that were registered.
    pub sessions_made: u64,
    /// Counter: sessions whose time to live has passed.
    pub sessions_expired: u64,
    /// Counter: sessions that were ended by a person or by their agent.
    pub sessions_revoked: u64,
    /// Counter: tokens read.
    pub prompt_tokens: u64,
    /// Counter: tokens written.
    pub completion_tokens: u64,
    /// Counter: tickets that a driver dropped instead of settling; anything but zero is a fault of ours.
    pub unsettled: u64,
    /// Gauge: exchanges open now.
    pub open: usize,
    /// Gauge: admissions waiting now.
    pub queued: usize,
    /// Gauge: links up now.
    pub links: usize,
    /// Gauge: sessions pending, active, suspended, revoked, expired.
    pub sessions: [usize; 5],
    /// From the head of a request to the end of its answer.
    pub latency: Histogram,
    /// From admission to the agent's first chunk.
    pub time_to_first_token: Histogram,
    /// From the agent's first chunk to the end of a streamed answer.
    pub stream_duration: Histogram,
    /// Between the chunks of a streamed answer.
    pub chunk_gap: Histogram,
}

/// Events of the last minutes, which say what is wrong now where counters since the start do not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Requests that ended.
    pub requests: u64,
    /// Those of them that ended with a status of 500 or more.
    pub failed: u64,
    /// Sessions that were registered.
    pub sessions_made: u64,
    /// Sessions whose time to live has passed.
    pub sessions_expired: u64,
}

/// Events of the last five minutes, in steps of ten seconds.
#[derive(Clone, Debug, Default)]
pub(super) struct Recent(VecDeque<(u64, Tally)>);

impl Recent {
    /// Time of which it tells.
    const SPAN: Duration = Duration::from_secs(300);
    /// Microseconds of one step.
    const STEP: u64 = 10_000_000;
    /// Steps of the whole span.
    const STEPS: u64 = 30;

    /// Counts an event of now.
    pub(super) fn count(&mut self, now: Instant, count: impl FnOnce(&mut Tally)) {
        let step = now.as_micros() / Self::STEP;
        if self.0.back().is_none_or(|(at, _)| *at != step) {
            self.0.retain(|(at, _)| at + Self::STEPS > step);
            self.0.push_back((step, Tally::default()));
        }
        if let Some((_, tally)) = self.0.back_mut() {
            count(tally);
        }
    }

    /// Sums them up, with the time that they took.
    pub(super) fn sum(&self, now: Instant) -> (Tally, Duration) {
        let step = now.as_micros() / Self::STEP;
        let mut sum = Tally::default();
        for (_, tally) in self.0.iter().filter(|(at, _)| at + Self::STEPS > step) {
            sum.requests += tally.requests;
            sum.failed += tally.failed;
            sum.sessions_made += tally.sessions_made;
            sum.sessions_expired += tally.sessions_expired;
        }
        (sum, now.since(Instant::ZERO).min(Self::SPAN))
    }
}

/// Answers of one status that one route has given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestCount {
    /// Method and route.
    pub endpoint: &'static str,
    /// HTTP status.
    pub status: u16,
    /// Number of answers.
    pub count: u64,
}

/// All that the hub tells about itself, taken under its lock to be written down outside of it.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// Time at which it was taken.
    pub now: Instant,
    /// Tells the calendar's time.
    pub wall: WallClock,
    /// Figures.
    pub metrics: Metrics,
    /// Answers by route and status.
    pub requests: Vec<RequestCount>,
    /// Events of the last five minutes.
    pub recent: Tally,
    /// Time in which these were: five minutes, or less after the start.
    pub recent_span: Duration,
    /// Sessions that could answer now.
    pub answering: usize,
    /// True once nothing new is admitted.
    pub draining: bool,
}
