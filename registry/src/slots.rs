//! Runs at once: as many as `registry.executions`, and a queue for the rest, first come first served.

use crate::failure::Failure;
use mcp_local_provider_core::time::Instant;
use std::collections::VecDeque;
use std::time::Duration;

/// One wait for a slot, never used twice.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Ticket {
    number: u64,
    until: Instant,
}

impl Ticket {
    /// Returns when the wait is over, with a slot or without.
    #[must_use]
    pub const fn until(self) -> Instant {
        self.until
    }
}

/// Outcome for a run that wants to begin.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Entered {
    /// It may begin; call [`Slots::leave`] at its end.
    Now,
    /// It waits until [`Slots::leave`] or [`Slots::set_bounds`] names its ticket, at most until its time.
    Wait(Ticket),
    /// There is no room to wait either.
    Refused(Failure),
}

/// The slots, and the queue before them.
#[derive(Debug)]
pub struct Slots {
    most: usize,
    length: usize,
    wait: Duration,
    taken: usize,
    queue: VecDeque<Ticket>,
    next: u64,
}

impl Slots {
    /// `most` runs at once, and `length` that wait no longer than `wait`: `limits.queue`.
    #[must_use]
    pub const fn new(most: usize, length: usize, wait: Duration) -> Self {
        Self {
            most,
            length,
            wait,
            taken: 0,
            queue: VecDeque::new(),
            next: 0,
        }
    }

    /// Runs that are open.
    #[must_use]
    pub const fn taken(&self) -> usize {
        self.taken
    }

    /// Runs that wait.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.queue.len()
    }

    /// Takes other bounds over. Gives the tickets of those that begin now. Those that wait keep their times.
    pub fn set_bounds(&mut self, most: usize, length: usize, wait: Duration) -> Vec<Ticket> {
        (self.most, self.length, self.wait) = (most, length, wait);
        std::iter::from_fn(|| self.admit()).collect()
    }

    /// Lets in the one that has waited longest, if there is a slot.
    fn admit(&mut self) -> Option<Ticket> {
        if self.taken >= self.most {
            return None;
        }
        let ticket = self.queue.pop_front()?;
        self.taken += 1;
        Some(ticket)
    }

    fn full(&self) -> Failure {
        let most = self.most;
        Failure::overloaded(format!("{most} tools run already (registry.executions)"))
    }

    /// A run wants to begin.
    pub fn enter(&mut self, now: Instant) -> Entered {
        if self.taken < self.most && self.queue.is_empty() {
            self.taken += 1;
            return Entered::Now;
        }
        if self.queue.len() >= self.length {
            return Entered::Refused(self.full());
        }
        let ticket = Ticket {
            number: self.next,
            until: now + self.wait,
        };
        self.next += 1;
        self.queue.push_back(ticket);
        Entered::Wait(ticket)
    }

    /// A run is over. Gives the ticket of the one that begins in its place.
    pub fn leave(&mut self) -> Option<Ticket> {
        self.taken = self.taken.saturating_sub(1);
        self.admit()
    }

    /// A run does not wait any more. One that was let in meanwhile is to [`Slots::leave`].
    pub fn give_up(&mut self, ticket: Ticket) {
        self.queue.retain(|waiting| *waiting != ticket);
    }

    /// Refuses a run that has waited too long. To be called at [`Ticket::until`] for one that was not let in.
    pub fn handle_timeout(&mut self, now: Instant, ticket: Ticket) -> Option<Failure> {
        let is_late = ticket.until <= now && self.queue.contains(&ticket);
        is_late.then(|| {
            self.give_up(ticket);
            self.full()
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]
    use super::*;

    #[test]
    fn runs_wait_in_their_order_and_not_for_ever() {
        let now = Instant::ZERO;
        let mut slots = Slots::new(2, 2, Duration::from_secs(5));
        assert_eq!(slots.enter(now), Entered::Now);
        assert_eq!(slots.enter(now), Entered::Now);
        let Entered::Wait(first) = slots.enter(now) else {
            panic!()
        };
        let Entered::Wait(second) = slots.enter(now + Duration::from_secs(1)) else {
            panic!()
        };
        let Entered::Refused(failure) = slots.enter(now) else {
            panic!()
        };
        assert_eq!((failure.status, failure.reason), (503, Some("overloaded")));
        assert_eq!(slots.leave(), Some(first));
        let due = now + Duration::from_secs(6);
        assert_eq!(second.until(), due);
        assert_eq!(
            slots.handle_timeout(now + Duration::from_secs(5), second),
            None
        );
        let late = slots.handle_timeout(due, second).unwrap();
        assert_eq!((late.status, late.retry_after.is_some()), (503, true));
        assert_eq!(slots.handle_timeout(due, second), None);
        assert_eq!(
            (slots.leave(), slots.leave(), slots.taken()),
            (None, None, 0)
        );
    }

    #[test]
    fn more_slots_let_in_those_that_wait() {
        let now = Instant::ZERO;
        let wait = Duration::from_secs(5);
        let mut slots = Slots::new(1, 3, wait);
        let entered: Vec<Entered> = (0..4).map(|_| slots.enter(now)).collect();
        let [
            Entered::Now,
            Entered::Wait(first),
            Entered::Wait(second),
            Entered::Wait(third),
        ] = *entered.as_slice()
        else {
            panic!("{entered:?}")
        };
        slots.give_up(second);
        assert_eq!(slots.set_bounds(2, 3, wait), [first]);
        assert_eq!(slots.set_bounds(9, 3, wait), [third]);
        assert_eq!(slots.taken(), 3);
    }
}
