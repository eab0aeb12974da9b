//! Deadlines of the hub that have passed: what agents had said by then is heard before they are served.

use super::engine::Engine;
use mcp_local_provider_core::time::Instant;
use std::task::Waker;
use std::time::Duration;

/// Longest time for which a deadline waits for agents to be read, and for places to be given back.
const LONGEST: Duration = Duration::from_secs(1);

/// The hearing of agents before deadlines are served.
#[derive(Debug, Default)]
pub(super) struct Hearing {
    /// The time by which agents are to be read, while a deadline has passed and is not served.
    since: Option<Instant>,
    /// They were heard for the longest time already. What they had said by the end of it is read, as the program may have been
    /// stopped meanwhile, and places are not waited for any more.
    again: bool,
}

/// The end of a wait for agents.
#[derive(Clone, Copy, Debug)]
pub(super) struct Heard {
    /// The time at which it ends at the latest.
    pub(super) until: Instant,
    /// Number of settled exchanges at which it may end.
    pub(super) settled: u64,
}

impl Hearing {
    /// The deadlines are served, or void.
    pub(super) fn end(&mut self) {
        *self = Self::default();
    }

    /// A deadline has passed. `None` when what agents had said by the first call was received and every exchange that they have
    /// ended has given its place back, or the longest time is over. Else when to call again; `waker` is woken when an agent was
    /// heard.
    pub(super) fn wait(&mut self, engine: &Engine, now: Instant, waker: &Waker) -> Option<Heard> {
        let mut since = *self.since.get_or_insert(now);
        if now >= since + LONGEST {
            if self.again {
                return None;
            }
            since = now;
            *self = Self {
                since: Some(now),
                again: true,
            };
        }
        let (mut all_read, mut ended) = (true, 0);
        let (awaited, settled) = engine.hub_cell(|cell| cell.hear(waker));
        for (id, given) in awaited {
            let open = engine.link(id).map_or(0, |link| {
                all_read &= link.was_read_until(since, waker);
                link.open_exchanges()
            });
            if !self.again {
                ended += given.saturating_sub(open);
            }
        }
        let settled = settled.saturating_add(u64::try_from(ended).unwrap_or(u64::MAX));
        (!all_read || ended > 0).then_some(Heard {
            until: since + LONGEST,
            settled,
        })
    }
}
