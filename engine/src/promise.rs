//! A value that another thread gives once, and the task that waits for it.

use crate::ranked::{LEAF, Ranked};
use std::mem;
use std::sync::Arc;
use std::task::{Poll, Waker};

/// The side that gives the value. Dropping it without tells the other side that there will be none.
pub(crate) struct Promise<T>(Arc<Ranked<State<T>, LEAF>>);

/// The side that waits for the value.
pub(crate) struct Promised<T>(Arc<Ranked<State<T>, LEAF>>);

enum State<T> {
    /// It is to come; the waker is of the task that waits.
    Open(Option<Waker>),
    /// It is there, and was not taken.
    Kept(T),
    /// It was taken, or will never come.
    Over,
}

/// Both sides of a promise.
pub(crate) fn promise<T>() -> (Promise<T>, Promised<T>) {
    let state = Arc::new(Ranked::new(State::Open(None)));
    (Promise(state.clone()), Promised(state))
}

impl<T> Promise<T> {
    /// Gives the value.
    pub(crate) fn keep(self, value: T) {
        self.end(State::Kept(value));
    }

    fn end(&self, end: State<T>) {
        let waker = {
            let mut state = self.0.lock();
            let State::Open(waker) = &mut *state else {
                return;
            };
            let waker = waker.take();
            *state = end;
            waker
        };
        waker.into_iter().for_each(Waker::wake);
    }
}

impl<T> Drop for Promise<T> {
    fn drop(&mut self) {
        self.end(State::Over);
    }
}

impl<T> Promised<T> {
    /// The value, once; `None` when there will be none. While it is to come, the waker is woken then.
    pub(crate) fn poll(&self, waker: &Waker) -> Poll<Option<T>> {
        let mut state = self.0.lock();
        match &mut *state {
            State::Open(place) => {
                *place = Some(waker.clone());
                Poll::Pending
            }
            kept_or_over @ (State::Kept(_) | State::Over) => {
                match mem::replace(kept_or_over, State::Over) {
                    State::Kept(value) => Poll::Ready(Some(value)),
                    State::Open(_) | State::Over => Poll::Ready(None),
                }
            }
        }
    }
}
