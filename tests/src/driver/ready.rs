//! Wake-ups that are written down: whoever is not woken, and whose time has not come, is not polled.

use mcp_local_provider_core::id::LinkId;
use mcp_local_provider_core::time::Instant;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Wake, Waker};

/// Whoever waits for an engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Who {
    Housekeeper,
    /// The reader of the audit.
    Audit,
    /// The writer of a link.
    Link(LinkId),
    /// A client's request, by its index.
    Call(usize),
}

/// Those who were woken, in order.
#[derive(Debug, Default)]
pub(super) struct Ready(Mutex<VecDeque<Who>>);

impl Ready {
    pub(super) fn next(&self) -> Option<Who> {
        self.0.lock().unwrap().pop_front()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.lock().unwrap().is_empty()
    }
}

#[derive(Debug)]
struct Flag {
    who: Who,
    woken: AtomicBool,
    ready: Arc<Ready>,
}

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if !self.woken.swap(true, Ordering::Relaxed) {
            self.ready.0.lock().unwrap().push_back(self.who);
        }
    }
}

/// Tells when somebody is to be polled: when woken, or when it is late enough.
#[derive(Debug)]
pub(super) struct Alarm {
    flag: Arc<Flag>,
    waker: Waker,
    pub(super) until: Option<Instant>,
}

impl Alarm {
    /// The alarm of somebody who has just begun, and is polled for that reason.
    pub(super) fn new(who: Who, ready: &Arc<Ready>) -> Self {
        let flag = Arc::new(Flag {
            who,
            woken: AtomicBool::new(false),
            ready: ready.clone(),
        });
        let waker = Waker::from(flag.clone());
        waker.wake_by_ref();
        Self {
            flag,
            waker,
            until: None,
        }
    }

    /// Forgets that it was woken: a poll begins.
    pub(super) fn reset(&self) -> &Waker {
        self.flag.woken.store(false, Ordering::Relaxed);
        &self.waker
    }

    pub(super) const fn waker(&self) -> &Waker {
        &self.waker
    }

    pub(super) fn ring(&self) {
        self.waker.wake_by_ref();
    }

    pub(super) fn is_woken(&self) -> bool {
        self.flag.woken.load(Ordering::Relaxed)
    }

    /// True when it is to be polled.
    pub(super) fn is_due(&self, now: Instant) -> bool {
        self.is_woken() || self.until.is_some_and(|until| until <= now)
    }
}
