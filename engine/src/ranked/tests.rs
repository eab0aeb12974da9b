#![allow(clippy::unwrap_used)]
//! The order of locks, as debug builds hold threads to it.

use super::*;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// What a panic of `run` says.
fn panic_of(run: impl FnOnce()) -> Option<String> {
    let panic = catch_unwind(AssertUnwindSafe(run)).err()?;
    Some(panic.downcast_ref::<String>().unwrap().clone())
}

#[test]
fn locks_are_taken_upwards() {
    let (hub, link, feed) = (
        Ranked::<_, HUB>::new(1),
        Ranked::<_, LINK>::new(2),
        Ranked::<_, FEED>::new(3),
    );
    let first = hub.lock();
    let last = feed.lock();
    drop(first);
    drop(last);
    // Hand over hand: what is held now decides.
    let first = link.lock();
    let last = feed.lock();
    drop(first);
    drop(last);
    assert_eq!(*link.lock() + *feed.lock(), 5);
    assert_eq!(*hub.lock() + *feed.lock(), 4);
}

#[test]
#[cfg(debug_assertions)]
fn a_lock_below_or_beside_one_that_is_held_is_refused_by_name() {
    let (inbox, other, link) = (
        Ranked::<_, INBOX>::new(()),
        Ranked::<_, INBOX>::new(()),
        Ranked::<_, LINK>::new(()),
    );
    let held = inbox.lock();
    let below = panic_of(|| drop(link.lock())).unwrap();
    assert!(below.starts_with("a link is locked while an inbox is held"));
    let beside = panic_of(|| drop(other.lock())).unwrap();
    assert!(beside.starts_with("an inbox is locked while an inbox is held"));
    drop(held);
    let hub = Ranked::<_, HUB>::new(());
    let held = hub.lock();
    let under_hub = panic_of(|| drop(link.lock())).unwrap();
    assert!(under_hub.starts_with("a link is locked while the hub is held"));
    drop(held);
    let held = inbox.lock();
    // Another thread holds nothing.
    std::thread::scope(|scope| scope.spawn(|| drop(link.lock())).join().unwrap());
    drop(held);
    drop((link.lock(), other.lock()));
}
