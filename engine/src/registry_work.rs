//! A run of the registry with all that it has begun.

use super::Engine;
use super::registry_cell::RegistryCell;
use super::registry_executions::Place;
use super::registry_needs::Served;
use mcp_local_provider_core::hub::keys::Caller;
use mcp_local_provider_core::time::Instant;
use mcp_local_provider_registry::{Failure, Finished, NeedId, Out, Work};
use std::collections::BTreeMap;
use std::mem;
use std::sync::Arc;
use std::task::{Poll, Waker, ready};

/// A run, from its place in the queue to its end. Dropping it ends all that it has begun.
pub(super) struct RunningWork {
    engine: Arc<Engine>,
    cell: Arc<RegistryCell>,
    /// On whose behalf models and servers are asked.
    caller: Option<Caller>,
    work: Work,
    /// Its place among the runs at once, where it counts.
    place: Option<Place>,
    is_started: bool,
    open: BTreeMap<NeedId, Served>,
    out: Out,
}

type Ended = Result<Finished, Failure>;

impl RunningWork {
    /// Takes a run on. Poll it until it has ended.
    ///
    /// # Errors
    /// As many run and wait as may.
    pub(super) fn begin(
        engine: &Arc<Engine>,
        cell: &Arc<RegistryCell>,
        caller: Option<Caller>,
        work: Work,
    ) -> Result<Self, Failure> {
        let place = work.is_execution().then(|| cell.enter(engine.now()));
        Ok(Self {
            engine: engine.clone(),
            cell: cell.clone(),
            caller,
            place: place.transpose()?,
            work,
            is_started: false,
            open: BTreeMap::new(),
            out: Out::default(),
        })
    }

    /// Goes on. Its end is given once.
    pub(super) fn poll(&mut self, now: Instant, waker: &Waker) -> Poll<Ended> {
        if !self.is_started
            && let Some(place) = &mut self.place
            && let Err(failure) = ready!(place.poll(now, waker))
        {
            return Poll::Ready(Err(failure));
        }
        let ended = ready!(self.advance(now, waker));
        self.open.clear();
        if self.work.is_execution() {
            let went_well = match &ended {
                Ok(Finished::Tool(_, result)) => !result.is_error,
                Ok(Finished::Values(_) | Finished::Read(_) | Finished::Prompt(_)) => true,
                Err(_) => false,
            };
            self.cell.ran(went_well);
        }
        Poll::Ready(ended)
    }

    fn advance(&mut self, now: Instant, waker: &Waker) -> Poll<Ended> {
        let mut ended = None;
        if !mem::replace(&mut self.is_started, true) {
            ended = self.work.start(now, &mut self.out);
        }
        loop {
            self.carry_out();
            if ended.is_none() && self.work.poll_timeout().is_some_and(|at| at <= now) {
                ended = self.work.handle_timeout(now, &mut self.out);
                self.carry_out();
            }
            if let Some(ended) = ended {
                return Poll::Ready(ended);
            }
            let moves;
            (moves, ended) = self.look(now, waker);
            if !moves {
                return Poll::Pending;
            }
        }
    }

    /// Ends and begins what the run says.
    fn carry_out(&mut self) {
        for id in self.out.end.drain(..) {
            self.open.remove(&id);
        }
        for (id, need) in mem::take(&mut self.out.start) {
            let served = Served::begin(&self.engine, &self.cell, self.caller.as_ref(), need);
            self.open.insert(id, served);
        }
    }

    /// Looks at all that is open once.
    fn look(&mut self, now: Instant, waker: &Waker) -> (bool, Option<Ended>) {
        let mut moves = false;
        let ids: Vec<NeedId> = self.open.keys().copied().collect();
        for id in ids {
            let served = self.open.get_mut(&id);
            let Some(outcome) = served.and_then(|served| served.poll(now, waker)) else {
                continue;
            };
            moves = true;
            self.open.remove(&id);
            let ended = self.work.handle_outcome(now, id, outcome, &mut self.out);
            if ended.is_some() {
                return (true, ended);
            }
            for id in &self.out.end {
                self.open.remove(id);
            }
        }
        (moves, None)
    }

    /// When to poll it though nobody woke its task.
    pub(super) fn poll_timeout(&self, now: Instant) -> Option<Instant> {
        if !self.is_started {
            return self.place.as_ref().and_then(Place::poll_timeout);
        }
        let own = self.open.values().filter_map(|it| it.poll_timeout(now));
        own.chain(self.work.poll_timeout()).min()
    }

    /// Ends it and all that it has begun: nobody waits for it any more.
    pub(super) fn cancel(&mut self) {
        self.work.cancel(&mut self.out);
        self.open.clear();
        self.place = None;
    }
}
