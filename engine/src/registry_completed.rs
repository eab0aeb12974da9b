//! The completions of an engine, behind their lock, and who works on those that are open.

use crate::ranked::{LEAF, Ranked};
use mcp_local_provider_core::time::{Instant, WallClock};
use mcp_local_provider_registry::{Completions, Failure, NewCompletion, OwnerId};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::task::Waker;

#[derive(Default)]
struct Data {
    all: Completions,
    /// Those that are open, each with its task or thread.
    open: BTreeMap<Arc<str>, Option<Waker>>,
}

/// See the module's documentation.
#[derive(Default)]
pub(crate) struct CompletionCell(Ranked<Data, LEAF>);

impl CompletionCell {
    /// Begins one.
    pub(crate) fn begin(&self, now: Instant, new: NewCompletion) -> Result<(), Failure> {
        let mut data = self.0.lock();
        let id = new.id.clone();
        data.all.begin(now, new)?;
        data.open.insert(id, None);
        Ok(())
    }

    /// Completions by their status.
    pub(crate) fn count(&self) -> Vec<(&'static str, usize)> {
        self.0.lock().all.count().to_vec()
    }

    /// The model answers now.
    pub(crate) fn started(&self, id: &str) {
        self.0.lock().all.started(id);
    }

    /// True while one is wanted; its task is woken when that ends.
    pub(crate) fn is_wanted(&self, id: &str, waker: &Waker) -> bool {
        let mut data = self.0.lock();
        let waiting = data.open.get_mut(id);
        waiting.is_some_and(|waiting| {
            *waiting = Some(waker.clone());
            true
        })
    }

    /// One has ended: its message and usage, each as JSON, or why there is none.
    pub(crate) fn ended(&self, now: Instant, id: &str, end: Result<(&str, &str), Failure>) {
        let waker = {
            let mut data = self.0.lock();
            match end {
                Ok((message, usage)) => data.all.completed(now, id, message, usage),
                Err(failure) => data.all.failed(now, id, failure),
            }
            data.open.remove(id)
        };
        drop(waker);
    }

    /// Nobody waits for one any more: it is cancelled if it is open.
    pub(crate) fn abandon(&self, now: Instant, id: &str) {
        let mut data = self.0.lock();
        if data.open.remove(id).is_some() {
            // It is open, and so it is there.
            let _ = data.all.remove(now, id, None);
        }
    }

    /// `GET /completions/{id}`.
    pub(crate) fn show(
        &self,
        now: Instant,
        id: &str,
        owner: Option<OwnerId>,
        wall: &WallClock,
    ) -> Result<String, Failure> {
        let mut data = self.0.lock();
        data.all.handle_timeout(now);
        data.all.show(id, owner, wall)
    }

    /// `DELETE /completions/{id}`: whoever works on it stops.
    pub(crate) fn remove(
        &self,
        now: Instant,
        id: &str,
        owner: Option<OwnerId>,
    ) -> Result<String, Failure> {
        let (body, waker) = {
            let mut data = self.0.lock();
            data.all.handle_timeout(now);
            let removed = data.all.remove(now, id, owner)?;
            (removed.body, data.open.remove(id).flatten())
        };
        waker.into_iter().for_each(Waker::wake);
        Ok(body)
    }
}
