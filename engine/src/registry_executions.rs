//! Places of the registry's runs: as many as `registry.executions` at once, and a queue before them.

use crate::ranked::{LEAF, Ranked};
use mcp_local_provider_core::time::Instant;
use mcp_local_provider_registry::{Entered, Failure, Limits, Slots, Ticket};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::task::{Poll, Waker};

/// All places, and who waits for one.
pub(crate) struct Executions(Ranked<Data, LEAF>);

struct Data {
    slots: Slots,
    waiting: BTreeMap<Ticket, Waiting>,
}

enum Waiting {
    /// It waits, and is woken when it is let in.
    Outside(Option<Waker>),
    /// It has a place.
    Inside,
}

impl Data {
    /// Lets in whom the slots name. Returns who is to be woken, once the lock is released.
    fn let_in(&mut self, ticket: Ticket) -> Option<Waker> {
        match self.waiting.insert(ticket, Waiting::Inside)? {
            Waiting::Outside(waker) => waker,
            Waiting::Inside => None,
        }
    }
}

/// One run's place, or its wait for one. It is given back when it is dropped.
pub(crate) struct Place {
    all: Arc<Executions>,
    /// Its ticket, while it waits.
    ticket: Option<Ticket>,
    /// It was refused after its wait, and has nothing to give back.
    is_refused: bool,
}

impl Executions {
    pub(crate) fn new(limits: &Limits) -> Arc<Self> {
        let slots = Slots::new(limits.executions, limits.queue_length, limits.queue_wait);
        let waiting = BTreeMap::new();
        Arc::new(Self(Ranked::new(Data { slots, waiting })))
    }

    /// Takes other limits over.
    pub(crate) fn set_bounds(&self, limits: &Limits) {
        let mut data = self.0.lock();
        let slots = &mut data.slots;
        let in_now = slots.set_bounds(limits.executions, limits.queue_length, limits.queue_wait);
        let wake: Vec<Waker> = in_now
            .into_iter()
            .filter_map(|it| data.let_in(it))
            .collect();
        drop(data);
        wake.into_iter().for_each(Waker::wake);
    }

    /// Runs that are open, and those that wait.
    pub(crate) fn count(&self) -> (usize, usize) {
        let data = self.0.lock();
        (data.slots.taken(), data.slots.waiting())
    }

    /// A run wants to begin.
    pub(crate) fn enter(self: &Arc<Self>, now: Instant) -> Result<Place, Failure> {
        let mut data = self.0.lock();
        let ticket = match data.slots.enter(now) {
            Entered::Now => None,
            Entered::Wait(ticket) => {
                data.waiting.insert(ticket, Waiting::Outside(None));
                Some(ticket)
            }
            Entered::Refused(failure) => return Err(failure),
        };
        drop(data);
        Ok(Place {
            all: self.clone(),
            ticket,
            is_refused: false,
        })
    }
}

impl Place {
    /// Ready once the run may begin, or is refused.
    pub(crate) fn poll(&mut self, now: Instant, waker: &Waker) -> Poll<Result<(), Failure>> {
        let Some(ticket) = self.ticket else {
            return Poll::Ready(Ok(()));
        };
        let mut data = self.all.0.lock();
        if let Some(Waiting::Inside) = data.waiting.get(&ticket) {
            data.waiting.remove(&ticket);
            self.ticket = None;
            return Poll::Ready(Ok(()));
        }
        if let Some(failure) = data.slots.handle_timeout(now, ticket) {
            data.waiting.remove(&ticket);
            self.ticket = None;
            self.is_refused = true;
            return Poll::Ready(Err(failure));
        }
        data.waiting
            .insert(ticket, Waiting::Outside(Some(waker.clone())));
        Poll::Pending
    }

    /// When to poll it though nobody woke its task.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        self.ticket.map(Ticket::until)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if self.is_refused {
            return;
        }
        let mut data = self.all.0.lock();
        let was = self.ticket.and_then(|ticket| data.waiting.remove(&ticket));
        let next = match (self.ticket, was) {
            (Some(ticket), Some(Waiting::Outside(_)) | None) => {
                data.slots.give_up(ticket);
                None
            }
            (None, _) | (Some(_), Some(Waiting::Inside)) => data.slots.leave(),
        };
        let waker = next.and_then(|ticket| data.let_in(ticket));
        drop(data);
        waker.into_iter().for_each(Waker::wake);
    }
}
