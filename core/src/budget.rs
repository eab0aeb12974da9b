//! Memory for all that is buffered, shared by every queue: `limits.memory`.
//!
//! A queue that takes what comes has a [`Share`] as large as what it holds ([`Share::hold`]), and whoever lets new work in asks
//! [`Budget::is_used_up`] first. Who holds most gives way then, see [`Budget::excess`]. A queue that can wait takes no more than
//! is left ([`Share::reserve`]).

use alloc::sync::Arc;
use core::fmt;
use core::sync::atomic::{AtomicUsize, Ordering};

/// A share is counted in steps of so many bytes, and the first step is free, so that a queue that holds little costs nothing.
pub const STEP: usize = 4096;

/// Every entry of a queue costs at least this much of its budget, because bytes alone do not bound tiny entries.
pub const ENTRY_CHARGE: usize = 64;

/// Bytes that everything buffered may take together. Clones count together.
#[derive(Clone)]
pub struct Budget(Arc<Count>);

struct Count {
    limit: AtomicUsize,
    taken: AtomicUsize,
}

impl Budget {
    /// `limit` is `limits.memory`, in bytes.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        Self(Arc::new(Count {
            limit: AtomicUsize::new(limit),
            taken: AtomicUsize::new(0),
        }))
    }

    /// Changes the limit. What is taken stays taken.
    pub fn set_limit(&self, limit: usize) {
        self.0.limit.store(limit, Ordering::Relaxed);
    }

    /// The limit in bytes.
    #[must_use]
    pub fn limit(&self) -> usize {
        self.0.limit.load(Ordering::Relaxed)
    }

    /// Bytes that all shares hold.
    #[must_use]
    pub fn taken(&self) -> usize {
        self.0.taken.load(Ordering::Relaxed)
    }

    /// True when no new work may be taken on.
    #[must_use]
    pub fn is_used_up(&self) -> bool {
        self.excess() > 0
    }

    /// Bytes that are held beyond the limit, and are to be given back by those who hold most.
    #[must_use]
    pub fn excess(&self) -> usize {
        self.taken().saturating_sub(self.limit())
    }

    /// Bytes that may be taken before the limit is reached.
    #[must_use]
    pub fn left(&self) -> usize {
        self.limit().saturating_sub(self.taken())
    }

    /// A share that holds nothing yet.
    #[must_use]
    pub fn share(&self) -> Share {
        Share {
            budget: self.clone(),
            taken: 0,
        }
    }
}

impl fmt::Debug for Budget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Budget({} of {} bytes)", self.taken(), self.limit())
    }
}

/// The part of a [`Budget`] that one queue holds. It is given back when the share is dropped.
#[derive(Debug)]
pub struct Share {
    budget: Budget,
    taken: usize,
}

impl Share {
    /// Makes the share as large as what its queue holds, in bytes. False when the budget is used up; the bytes are counted
    /// all the same.
    #[inline]
    pub fn hold(&mut self, bytes: usize) -> bool {
        let taken = counted(bytes);
        if taken != self.taken {
            self.take(taken);
        }
        taken == 0 || !self.budget.is_used_up()
    }

    /// Makes the share large enough for `more` bytes beside the `bytes` that its queue holds, or for as many as the budget has
    /// left, and returns their number. Up to [`STEP`] bytes in all there is always room. Unlike [`Share::hold`] it never exceeds
    /// the limit, and never makes the share smaller.
    #[must_use]
    pub fn reserve(&mut self, bytes: usize, more: usize) -> usize {
        let wanted = counted(bytes.saturating_add(more));
        if wanted > self.taken {
            let (count, limit) = (&self.budget.0.taken, self.budget.limit());
            let had = self.taken;
            let order = Ordering::Relaxed;
            let _ = count.fetch_update(order, order, |taken| {
                let left = limit.saturating_sub(taken);
                let most = had.saturating_add(left - left % STEP);
                // One step alone is free.
                self.taken = wanted.min(if most <= STEP { had } else { most });
                Some(taken.saturating_add(self.taken - had))
            });
        }
        self.taken.max(STEP).saturating_sub(bytes).min(more)
    }

    fn take(&mut self, taken: usize) {
        let count = &self.budget.0.taken;
        if taken > self.taken {
            count.fetch_add(taken - self.taken, Ordering::Relaxed);
        } else {
            count.fetch_sub(self.taken - taken, Ordering::Relaxed);
        }
        self.taken = taken;
    }
}

/// The size of a share for so many bytes.
#[inline]
fn counted(bytes: usize) -> usize {
    if bytes <= STEP {
        0
    } else {
        bytes.checked_next_multiple_of(STEP).unwrap_or(bytes)
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.take(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_budget_counts_what_its_shares_hold(
            steps in prop::collection::vec((0usize..4, 0usize..100_000, any::<bool>()), 0..100),
        ) {
            let budget = Budget::new(150_000);
            let mut shares: Vec<(Share, usize)> = (0..4).map(|_| (budget.share(), 0)).collect();
            for (at, bytes, gone) in steps {
                let fits = if gone {
                    shares.splice(at..=at, [(budget.share(), 0)]);
                    None
                } else if let Some((share, held)) = shares.get_mut(at) {
                    *held = bytes;
                    Some(share.hold(bytes))
                } else {
                    None
                };
                let least: usize = shares.iter().map(|(_, held)| held.saturating_sub(STEP)).sum();
                let most: usize = shares.iter().map(|(_, held)| held + STEP).sum();
                prop_assert!((least..=most).contains(&budget.taken()));
                if fits == Some(true) && bytes > STEP {
                    prop_assert!(budget.taken() <= 150_000);
                }
                prop_assert_eq!(budget.is_used_up(), budget.taken() > 150_000);
            }
            drop(shares);
            prop_assert_eq!(budget.taken(), 0);
        }

        #[test]
        fn what_is_reserved_never_exceeds_the_limit_and_a_step_is_always_free(
            limit in 0usize..100_000,
            steps in prop::collection::vec((0usize..4, 0usize..50_000, any::<bool>()), 0..100),
        ) {
            let budget = Budget::new(limit);
            let mut shares: Vec<(Share, usize)> = (0..4).map(|_| (budget.share(), 0)).collect();
            for (at, bytes, grows) in steps {
                let Some((share, held)) = shares.get_mut(at) else {
                    continue;
                };
                if grows {
                    let left = budget.left();
                    let room = share.reserve(*held, bytes);
                    prop_assert!(room == bytes || *held + room >= STEP);
                    // The first step is counted with the second one.
                    prop_assert!(room == bytes || room + 2 * STEP > left, "{room} of {left}");
                    *held += room;
                } else {
                    *held = (*held).min(bytes);
                    prop_assert!(share.hold(*held));
                }
                prop_assert!(budget.taken() <= limit);
                let free: usize = shares.iter().map(|(_, held)| held.saturating_sub(STEP)).sum();
                prop_assert!(budget.taken() >= free);
            }
            drop(shares);
            prop_assert_eq!(budget.taken(), 0);
        }
    }
}
