//! Agents that the program starts. Until one has registered, requests for its models wait for it, and its name is among the
//! models.

use super::models::ANY;
use super::{Ask, Hub, HubOut};
use crate::id::WaitId;
use crate::time::Instant;
use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::time::Duration;

/// The progress of an agent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Progress {
    /// It is being started, since then, and may take so long.
    Starting { since: Instant, patience: Duration },
    /// It took longer, and has not registered.
    Late { patience: Duration },
    /// It has registered.
    Registered,
}

impl Progress {
    /// Returns the time until which requests wait for it; `None` when they do not.
    fn until(self) -> Option<Instant> {
        match self {
            Self::Starting { since, patience } => Some(since + patience),
            Self::Late { .. } | Self::Registered => None,
        }
    }
}

/// The agents that the program starts, by name.
#[derive(Debug, Default)]
pub(super) struct Expected {
    agents: BTreeMap<Arc<str>, Progress>,
    /// The first time at which one is late.
    next: Option<Instant>,
}

/// True for a model of an agent: its name, or `NAME/MODEL`.
fn is_of(agent: &str, model: &str) -> bool {
    let rest = model.strip_prefix(agent);
    model == ANY || rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

impl Expected {
    fn set(&mut self, name: &str, progress: Progress) {
        self.agents.insert(name.into(), progress);
        self.find_next();
    }

    fn find_next(&mut self) {
        let starting = self.agents.values().copied();
        self.next = starting.filter_map(Progress::until).min();
    }

    /// Returns the time at which one is late that has not registered.
    pub(super) const fn next_deadline(&self) -> Option<Instant> {
        self.next
    }

    /// True for an agent that the program starts.
    pub(super) fn contains(&self, name: &str) -> bool {
        self.agents.contains_key(name)
    }

    /// Agents that are being started, each with the time since when.
    pub(super) fn starting(&self) -> impl Iterator<Item = (&Arc<str>, Instant)> {
        self.agents
            .iter()
            .filter_map(|(name, progress)| match progress {
                Progress::Starting { since, .. } => Some((name, *since)),
                Progress::Late { .. } | Progress::Registered => None,
            })
    }

    /// Returns the time until which a request for `model` waits for an agent that is being started; `None` when there is none.
    pub(super) fn awaited(&self, model: &str) -> Option<Instant> {
        self.next?;
        let of_model = self.agents.iter().filter(|(name, _)| is_of(name, model));
        of_model.filter_map(|(_, progress)| progress.until()).max()
    }

    /// Tells of an agent for `model` that was not ready in time; `None` when there is none.
    pub(super) fn why_late(&self, model: &str) -> Option<String> {
        let mut of_model = self.agents.iter().filter(|(name, _)| is_of(name, model));
        of_model.find_map(|(name, progress)| match progress {
            Progress::Late { patience } => Some(alloc::format!(
                "the agent `{name}` was started and is not ready after {patience:?} (agents[].start_timeout); `mcp-local-provider doctor` tells what is wrong with it"
            )),
            Progress::Starting { .. } | Progress::Registered => None,
        })
    }

    /// True when `model` is one of an agent that has not registered.
    pub(super) fn knows(&self, model: &str) -> bool {
        self.agents
            .iter()
            .any(|(name, progress)| *progress != Progress::Registered && is_of(name, model))
    }
}

impl Hub {
    /// The program starts an agent of that name: requests for its models wait until it registers, or for `patience`.
    pub fn expect_agent(&mut self, now: Instant, name: &str, patience: Duration, out: &mut HubOut) {
        let since = self.latest.clamp(now);
        self.expected
            .set(name, Progress::Starting { since, patience });
        self.expected_changed(since, out);
    }

    /// An agent has registered, or a session was registered for it.
    pub(super) fn agent_registered(&mut self, now: Instant, name: &str, out: &mut HubOut) {
        let before = self.expected.agents.get(name);
        if before.is_some_and(|before| *before != Progress::Registered) {
            self.expected.set(name, Progress::Registered);
            self.shorten_waits(now, name);
            self.expected_changed(now, out);
        }
    }

    /// Requests that have waited for the start of an agent wait for it from now on as those do that find it busy.
    fn shorten_waits(&mut self, now: Instant, name: &str) {
        let timeouts = &self.config.timeouts;
        let latest = now + timeouts.first_chunk.max(self.config.limits.queue_wait);
        let is_of_agent = |ask: &Ask<'_>| {
            let model = self.resolve(ask.model);
            is_of(name, model) && self.expected.awaited(model).is_none()
        };
        let longer = self.queue.beyond(latest);
        let longer = longer.filter(|(_, ask)| is_of_agent(ask));
        let longer: Vec<WaitId> = longer.map(|(wait, _)| wait).collect();
        for wait in longer {
            self.queue.set_deadline(wait, latest);
        }
    }

    /// Those that wait for an agent that is late hear so.
    pub(super) fn expire_expected(&mut self, now: Instant, out: &mut HubOut) {
        for progress in self.expected.agents.values_mut() {
            if let Progress::Starting { since, patience } = *progress
                && since + patience <= now
            {
                *progress = Progress::Late { patience };
            }
        }
        self.expected.find_next();
        self.expected_changed(now, out);
    }

    fn expected_changed(&mut self, now: Instant, out: &mut HubOut) {
        self.lists = None;
        self.queue.all_changed();
        self.pump(now, out);
    }
}
