//! Processes that are on the way to the end of their handshake: so many at once, and the others after them.

use crate::ranked::{LEAF, Ranked};
use std::task::Waker;

/// The starts under way, and who waits for one of them to be over.
#[derive(Debug, Default)]
pub(super) struct Starts(Ranked<State, LEAF>);

#[derive(Debug, Default)]
struct State {
    under_way: usize,
    waiting: Vec<Waker>,
}

impl Starts {
    /// Counts a start, and returns true. False when `most` are under way: `waker` is woken when one is over.
    pub(super) fn begin(&self, most: usize, waker: &Waker) -> bool {
        let mut state = self.0.lock();
        if state.under_way < most {
            state.under_way += 1;
            return true;
        }
        if !state.waiting.iter().any(|other| other.will_wake(waker)) {
            state.waiting.push(waker.clone());
        }
        false
    }

    /// Ends a start. All who wait are to be woken: one of them may not want it any more.
    pub(super) fn end(&self) -> Vec<Waker> {
        let mut state = self.0.lock();
        state.under_way = state.under_way.saturating_sub(1);
        std::mem::take(&mut state.waiting)
    }
}
