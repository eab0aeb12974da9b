//! The lines that wait for the other side to read them.

use crate::budget::{ENTRY_CHARGE, Share};
use alloc::collections::VecDeque;
use alloc::string::String;
use core::fmt;

/// Bounds of an [`Outbox`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct OutboxLimits {
    /// Bytes of all lines, each charged at least 64.
    pub bytes: usize,
    /// Number of lines.
    pub lines: usize,
}

impl Default for OutboxLimits {
    /// As much as an agent's link: 64 MiB, and 65,536 lines.
    fn default() -> Self {
        Self {
            bytes: 64 << 20,
            lines: 1 << 16,
        }
    }
}

/// A bounded queue of messages, each a line with its end. Every line is taken, because a message that is left out would be a
/// promise that is broken; the other side of a queue that is over its limits does not read, and its owner ends it.
#[derive(Default)]
pub struct Outbox {
    lines: VecDeque<String>,
    charged: usize,
    limits: OutboxLimits,
    share: Option<Share>,
}

impl Outbox {
    /// Makes an empty queue.
    #[must_use]
    pub const fn new(limits: OutboxLimits) -> Self {
        Self {
            lines: VecDeque::new(),
            charged: 0,
            limits,
            share: None,
        }
    }

    /// Counts what waits against the memory that all queues have together.
    #[must_use]
    pub fn sharing(mut self, share: Share) -> Self {
        self.share = Some(share);
        self.hold();
        self
    }

    /// Queues a line.
    pub fn push(&mut self, line: String) {
        self.charged = self.charged.saturating_add(charge(&line));
        self.lines.push_back(line);
        self.hold();
    }

    /// Takes the first line.
    pub fn pop(&mut self) -> Option<String> {
        let line = self.lines.pop_front()?;
        self.charged = self.charged.saturating_sub(charge(&line));
        self.hold();
        Some(line)
    }

    /// Drops all lines: nobody reads them any more.
    pub fn clear(&mut self) {
        self.lines = VecDeque::new();
        self.charged = 0;
        self.hold();
    }

    /// True when more waits than the limits allow.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.charged > self.limits.bytes || self.lines.len() > self.limits.lines
    }

    /// Returns the bytes that the lines are charged.
    #[must_use]
    pub const fn charged(&self) -> usize {
        self.charged
    }

    /// Returns the number of lines.
    #[must_use]
    pub fn len(&self) -> usize {
        self.lines.len()
    }

    /// True when nothing waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    /// Returns the lines in their order.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &str> {
        self.lines.iter().map(String::as_str)
    }

    fn hold(&mut self) {
        if let Some(share) = &mut self.share {
            // New work is refused where it comes in.
            let _ = share.hold(self.charged);
        }
    }
}

impl fmt::Debug for Outbox {
    /// Lines are never shown: they hold prompts.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Outbox({} lines, {} bytes)", self.len(), self.charged)
    }
}

fn charge(line: &str) -> usize {
    line.len().max(ENTRY_CHARGE)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::budget::{Budget, STEP};
    use alloc::vec::Vec;
    use proptest::prelude::*;

    #[test]
    fn a_queue_is_over_by_bytes_or_by_number() {
        let mut outbox = Outbox::new(OutboxLimits {
            bytes: 300,
            lines: 4,
        });
        outbox.push("x".repeat(300));
        assert!(!outbox.is_over());
        outbox.push(String::from("\n"));
        assert!(outbox.is_over(), "a line is charged 64 bytes");
        outbox.clear();
        for at in 0..5 {
            assert!(!outbox.is_over(), "{at}");
            outbox.push(String::new());
        }
        assert!(outbox.is_over());
        outbox.pop();
        assert!(!outbox.is_over());
    }

    proptest! {
        #[test]
        fn lines_leave_in_order_and_take_their_charge_with_them(
            steps in proptest::collection::vec((0..8_u8, 0..20_000_usize), 0..60),
        ) {
            let budget = Budget::new(100_000);
            let mut outbox = Outbox::default().sharing(budget.share());
            let mut lines: Vec<String> = Vec::new();
            for (step, length) in steps {
                match step {
                    0..5 => {
                        let line = "x".repeat(length);
                        lines.push(line.clone());
                        outbox.push(line);
                    }
                    5 | 6 => {
                        let first = (!lines.is_empty()).then(|| lines.remove(0));
                        prop_assert_eq!(outbox.pop(), first);
                    }
                    _ => {
                        lines.clear();
                        outbox.clear();
                    }
                }
                prop_assert!(outbox.iter().eq(lines.iter().map(String::as_str)));
                prop_assert_eq!(outbox.charged(), lines.iter().map(|line| charge(line)).sum::<usize>());
                prop_assert!(budget.taken() + STEP >= outbox.charged());
                prop_assert!(budget.taken() <= outbox.charged() + STEP);
            }
            drop(outbox);
            prop_assert_eq!(budget.taken(), 0);
        }
    }
}
