//! Events that happen once in the life of a provider.

use event_listener::{Event, EventListener};
use std::sync::atomic::{AtomicBool, Ordering};

/// One of them. Who listens first and asks then misses nothing.
#[derive(Default)]
pub(super) struct Signal {
    is_up: AtomicBool,
    event: Event,
}

impl Signal {
    /// True once it has happened.
    pub(super) fn is_up(&self) -> bool {
        self.is_up.load(Ordering::Acquire)
    }

    /// It happens. False when it has before.
    pub(super) fn raise(&self) -> bool {
        !self.is_up.swap(true, Ordering::AcqRel)
    }

    /// Tells those who listen.
    pub(super) fn tell(&self) {
        self.event.notify(usize::MAX);
    }

    /// Hears of it.
    pub(super) fn listen(&self) -> EventListener {
        self.event.listen()
    }
}
