//! Runs at once: as many as `registry.executions`, and a queue for the rest, first come first served.

use crate::failure::Failure;
use mcp_local_provider_core::time::Instant;
use std::collections::VecDeque;
use std::time::Duration;

/// One wait for a slot, never used twice.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Ticket(u64);

/// Outcome for a run that wants to begin.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Entered {
    /// It may begin; call [`Slots::leave`] at its end.
    Now,
    /// It waits until [`Slots::leave`] or [`Slots::handle_timeout`] names its ticket.
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
    queue: VecDeque<(Ticket, Instant)>,
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
        let ticket = Ticket(self.next);
        self.next += 1;
        self.queue.push_back((ticket, now + self.wait));
        Entered::Wait(ticket)
    }

    /// A run is over. Gives the ticket of the one that begins in its place.
    pub fn leave(&mut self) -> Option<Ticket> {
        self.taken = self.taken.saturating_sub(1);
        if self.taken >= self.most {
            return None;
        }
        let (ticket, _) = self.queue.pop_front()?;
        self.taken += 1;
        Some(ticket)
    }

    /// A run does not wait any more. One that was let in meanwhile is to [`Slots::leave`].
    pub fn give_up(&mut self, ticket: Ticket) {
        self.queue.retain(|(waiting, _)| *waiting != ticket);
    }

    /// Returns when to call [`Slots::handle_timeout`].
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.queue.front().map(|(_, until)| *until)
    }

    /// Gives a ticket that has waited too long, with its refusal. Call it until it gives none.
    pub fn handle_timeout(&mut self, now: Instant) -> Option<(Ticket, Failure)> {
        let (_, until) = self.queue.front()?;
        if *until > now {
            return None;
        }
        let (ticket, _) = self.queue.pop_front()?;
        Some((ticket, self.full()))
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
        assert_eq!(slots.handle_timeout(now + Duration::from_secs(5)), None);
        let late = slots.handle_timeout(now + Duration::from_secs(6)).unwrap();
        assert_eq!((late.0, slots.poll_timeout()), (second, None));
        assert_eq!(
            (slots.leave(), slots.leave(), slots.taken()),
            (None, None, 0)
        );
    }
}
