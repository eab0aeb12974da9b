//! Tasks that a thread has woken and runs itself, so that nothing has to switch to the thread that waits for them.
//!
//! A driver with threads of its own wakes a thread for each thing that waits. Where the waker is made of a [`Task`], whoever
//! wakes it inside [`enter`] runs it as well, once it holds no lock any more; elsewhere the thread is woken. Drivers with one
//! executor need none of this: to wake a task costs them no switch.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::sync::Arc;
use std::task::Waker;

/// Work that a thread waits to do, and that another thread may do in its place.
pub trait Task: Send + Sync {
    /// Goes on as far as that needs no wait, or wakes the thread. No lock of the engine is held.
    fn run(self: Arc<Self>);

    /// Wakes the thread, which goes on itself.
    fn unpark(&self);
}

/// Treatment of the tasks that this thread wakes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// It wakes their threads.
    Closed,
    /// It collects them while it does work of its own.
    Collecting,
    /// It runs what it has collected, and collects more.
    Running,
}

thread_local! {
    static PHASE: Cell<Phase> = const { Cell::new(Phase::Closed) };
    static TASKS: RefCell<VecDeque<Arc<dyn Task>>> = const { RefCell::new(VecDeque::new()) };
}

/// Does `work`, and then runs the tasks that it has woken, and those that they wake. Within another call it only does the work.
pub fn enter<R>(work: impl FnOnce() -> R) -> R {
    if PHASE.get() != Phase::Closed {
        return work();
    }
    let _open = Open;
    PHASE.set(Phase::Collecting);
    let result = work();
    PHASE.set(Phase::Running);
    while let Some(task) = next() {
        task.run();
    }
    result
}

/// Has `task` run by this thread soon, or wakes its thread.
pub fn wake(task: Arc<dyn Task>) {
    match PHASE.get() {
        Phase::Closed => task.unpark(),
        Phase::Collecting | Phase::Running => {
            TASKS.with_borrow_mut(|tasks| tasks.push_back(task));
        }
    }
}

/// True while this thread runs the task of another one: what is bound to a thread, as the watch on a socket, is that other one's.
#[must_use]
pub fn runs_for_another() -> bool {
    PHASE.get() == Phase::Running
}

/// Wakes `waker` in such a way that the thread of its task goes on, and not this one.
pub fn unpark(waker: &Waker) {
    let before = PHASE.replace(Phase::Closed);
    waker.wake_by_ref();
    PHASE.set(before);
}

fn next() -> Option<Arc<dyn Task>> {
    TASKS.with_borrow_mut(VecDeque::pop_front)
}

/// The queue is open. When a task has panicked, the threads of those behind it go on.
struct Open;

impl Drop for Open {
    fn drop(&mut self) {
        PHASE.set(Phase::Closed);
        while let Some(task) = next() {
            task.unpark();
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use std::sync::Mutex;
    use std::task::Wake;

    /// Notes what happens to it, and wakes another one when it runs.
    struct Noting {
        name: &'static str,
        then: Option<Arc<Noting>>,
        panics: bool,
        log: Arc<Mutex<Vec<String>>>,
    }

    impl Noting {
        fn note(&self, what: &str) {
            self.log
                .lock()
                .unwrap()
                .push(format!("{} {what}", self.name));
        }
    }

    impl Wake for Noting {
        fn wake(self: Arc<Self>) {
            wake(self);
        }
    }

    impl Task for Noting {
        fn run(self: Arc<Self>) {
            assert!(runs_for_another());
            assert!(!self.panics, "it was to panic");
            self.note("begins");
            if let Some(then) = &self.then {
                Waker::from(then.clone()).wake();
            }
            self.note("ends");
        }

        fn unpark(&self) {
            self.note("is unparked");
        }
    }

    fn noting(log: &Arc<Mutex<Vec<String>>>, name: &'static str, panics: bool) -> Arc<Noting> {
        Arc::new(Noting {
            name,
            then: None,
            panics,
            log: log.clone(),
        })
    }

    #[test]
    fn what_is_woken_runs_behind_the_work_and_one_after_the_other() {
        let log = Arc::default();
        let last = noting(&log, "last", false);
        let first = Arc::new(Noting {
            name: "first",
            then: Some(last.clone()),
            panics: false,
            log: log.clone(),
        });
        let result = enter(|| {
            Waker::from(first.clone()).wake();
            unpark(&Waker::from(first.clone()));
            assert!(!runs_for_another());
            // A call within has no queue of its own.
            enter(|| Waker::from(last.clone()).wake());
            log.lock().unwrap().push("work".into());
            7
        });
        assert_eq!(result, 7);
        Waker::from(last).wake();
        let expected = [
            "first is unparked",
            "work",
            "first begins",
            "first ends",
            "last begins",
            "last ends",
            "last begins",
            "last ends",
            "last is unparked",
        ];
        assert_eq!(*log.lock().unwrap(), expected);
    }

    #[test]
    fn threads_go_on_themselves_when_one_before_them_panics() {
        let log = Arc::default();
        let (bad, good) = (noting(&log, "bad", true), noting(&log, "good", false));
        let entered = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            enter(|| {
                Waker::from(bad).wake();
                Waker::from(good.clone()).wake();
            });
        }));
        assert!(entered.is_err());
        Waker::from(good).wake();
        let log = log.lock().unwrap();
        assert_eq!(*log, ["good is unparked", "good is unparked"]);
    }
}
