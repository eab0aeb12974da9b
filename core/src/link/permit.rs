//! Permits: the hub gives one with each ticket, and the link that opens the exchange looks whether it still holds.
//!
//! Between the two lies a moment in which the session may end or get another link. The hub withdraws first and tells the
//! link then, and the link looks under its lock. So an exchange is either refused when it is opened or ended by
//! [`Command::EndSession`](super::Command::EndSession).

use crate::id::{Authority, SessionId};
use alloc::sync::Arc;
use core::sync::atomic::{AtomicU32, Ordering};

/// The permits of one session.
#[derive(Clone, Debug, Default)]
pub struct Permits {
    withdrawn: Arc<AtomicU32>,
}

impl Permits {
    /// Permits one exchange of the session to a caller.
    #[must_use]
    pub fn issue(&self, session: SessionId, caller: Authority) -> Permit {
        Permit {
            session,
            caller,
            issued: self.withdrawn.load(Ordering::Acquire),
            permits: self.clone(),
        }
    }

    /// Withdraws all that were issued.
    pub fn withdraw(&self) {
        self.withdrawn.fetch_add(1, Ordering::AcqRel);
    }
}

/// The permission to ask a session's agent once, until the session ends or moves to another link.
#[derive(Clone, Debug)]
pub struct Permit {
    session: SessionId,
    caller: Authority,
    issued: u32,
    permits: Permits,
}

impl Permit {
    /// The session.
    #[must_use]
    pub const fn session(&self) -> &SessionId {
        &self.session
    }

    /// The permission of the caller.
    #[must_use]
    pub const fn caller(&self) -> Authority {
        self.caller
    }

    /// True until it is withdrawn.
    #[must_use]
    pub fn holds(&self) -> bool {
        self.permits.withdrawn.load(Ordering::Acquire) == self.issued
    }
}
