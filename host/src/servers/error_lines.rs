//! Passage of a server's standard error to the log: so many lines a second, the rest counted.

use std::time::{Duration, Instant};

/// Lines of one process in one second that go to the log.
const LINES: u32 = 20;
const SECOND: Duration = Duration::from_secs(1);

/// Lines of one process's standard error on their way to the log.
#[derive(Debug)]
pub(super) struct ErrorLines {
    /// Begin of the second in which lines are counted.
    since: Instant,
    told: u32,
    /// Lines that were held back and not told about.
    missed: u64,
}

impl ErrorLines {
    pub(super) const fn new(now: Instant) -> Self {
        Self {
            since: now,
            told: 0,
            missed: 0,
        }
    }

    /// Counts a line that was written `now`. `None`: it is held back. Otherwise it goes to the log behind the number of lines
    /// that were held back before it.
    pub(super) fn pass(&mut self, now: Instant) -> Option<u64> {
        if now.saturating_duration_since(self.since) >= SECOND {
            self.since = now;
            self.told = 0;
        }
        if self.told == LINES {
            self.missed += 1;
            return None;
        }
        self.told += 1;
        Some(self.take_missed())
    }

    /// Returns the number of lines that were held back since it was told last.
    pub(super) fn take_missed(&mut self) -> u64 {
        std::mem::take(&mut self.missed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn twenty_lines_a_second_pass_and_the_rest_is_counted() {
        let begin = Instant::now();
        let mut lines = ErrorLines::new(begin);
        for _ in 0..20 {
            assert_eq!(lines.pass(begin), Some(0));
        }
        let end = begin + Duration::from_millis(999);
        assert_eq!([lines.pass(begin), lines.pass(end)], [None, None]);
        let next = begin + SECOND;
        assert_eq!(lines.pass(next), Some(2));
        assert_eq!(lines.pass(next), Some(0), "what was missed is told once");
        assert_eq!(lines.take_missed(), 0);
    }
}
