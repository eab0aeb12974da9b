//! A run of the registry with all that it has begun.

use super::Engine;
use super::registry_executions::Place;
use super::registry_handle::RegistryHandle;
use super::registry_needs::Needs;
use mcp_local_provider_core::hub::keys::Caller;
use mcp_local_provider_core::time::Instant;
use mcp_local_provider_registry::{Failure, Finished, Work};
use std::mem;
use std::sync::Arc;
use std::task::{Poll, Waker, ready};

/// A run, from its place in the queue to its end. Dropping it ends all that it has begun.
pub(super) struct RunningWork {
    engine: Arc<Engine>,
    cell: RegistryHandle,
    work: Work,
    /// Its place among the runs at once, where it counts.
    place: Option<Place>,
    is_started: bool,
    needs: Needs,
}

type Ended = Result<Finished, Failure>;

impl RunningWork {
    /// Takes a run on. Poll it until it has ended.
    ///
    /// # Errors
    /// As many run and wait as may.
    pub(super) fn begin(
        engine: &Arc<Engine>,
        cell: &RegistryHandle,
        work: Work,
    ) -> Result<Self, Failure> {
        let place = work.is_execution().then(|| cell.enter(engine.now()));
        Ok(Self {
            engine: engine.clone(),
            cell: cell.clone(),
            place: place.transpose()?,
            work,
            is_started: false,
            needs: Needs::default(),
        })
    }

    /// Goes on, on behalf of `caller`, as whom models and servers are asked. The end is given once.
    pub(super) fn poll(&mut self, caller: &Caller, now: Instant, waker: &Waker) -> Poll<Ended> {
        if !self.is_started
            && let Some(place) = &mut self.place
            && let Err(failure) = ready!(place.poll(now, waker))
        {
            return Poll::Ready(Err(failure));
        }
        let ended = ready!(self.advance(caller, now, waker));
        if self.work.is_execution() {
            let went_well = match &ended {
                Ok(Finished::Tool(_, result)) => !result.is_error,
                Ok(Finished::Values(_) | Finished::Read(_) | Finished::Prompt(_)) => true,
                Err(_) => false,
            };
            self.cell.ran(went_well);
        }
        self.end();
        Poll::Ready(ended)
    }

    fn advance(&mut self, caller: &Caller, now: Instant, waker: &Waker) -> Poll<Ended> {
        let mut ended = None;
        if !mem::replace(&mut self.is_started, true) {
            ended = self.work.start(now, &mut self.needs.out);
        }
        loop {
            if let Some(ended) = ended {
                return Poll::Ready(ended);
            }
            self.needs.carry_out(&self.engine, &self.cell, caller);
            let out = &mut self.needs.out;
            if self.work.poll_timeout().is_some_and(|at| at <= now) {
                ended = self.work.handle_timeout(now, out);
                continue;
            }
            let Some((id, outcome)) = self.needs.poll(now, waker) else {
                return Poll::Pending;
            };
            let out = &mut self.needs.out;
            ended = self.work.handle_outcome(now, id, outcome, out);
        }
    }

    /// When to poll it though nobody woke its task.
    pub(super) fn poll_timeout(&self, now: Instant) -> Option<Instant> {
        if !self.is_started {
            return self.place.as_ref().and_then(Place::poll_timeout);
        }
        let own = self.needs.poll_timeout(now);
        own.into_iter().chain(self.work.poll_timeout()).min()
    }

    /// Ends all that it has begun, and gives its place back.
    pub(super) fn end(&mut self) {
        self.needs = Needs::default();
        self.place = None;
    }
}
