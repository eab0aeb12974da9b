//! Chooses the session that answers: of a model's sessions those that may and can answer, of these those that suit best, and
//! of these one with the fewest open exchanges, found without looking at the others.

use super::models::ANY;
use super::sessions::{Session, Status};
use super::upstreams::Upstream;
use super::{Ask, Hub};
use crate::error::{Code, Refusal};
use crate::invocation::Kind;
use crate::supports::{Class, Misses};
use alloc::collections::BTreeSet;
use alloc::string::String;
use alloc::vec::Vec;

/// Position of a session in the hub's table.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Slot(pub usize);

/// The sessions of one class that can answer for one model, each behind its load.
#[derive(Debug, Default)]
pub struct Pool(BTreeSet<(usize, Slot)>);

impl Pool {
    /// Moves a session from one load to another; `None` is outside.
    pub fn shift(&mut self, session: Slot, from: Option<usize>, to: Option<usize>) {
        if let Some(load) = from {
            self.0.remove(&(load, session));
        }
        if let Some(load) = to {
            self.0.insert((load, session));
        }
    }

    /// A session with the least load, behind that load.
    fn least_load(&self) -> Option<(usize, Slot)> {
        self.0.first().copied()
    }

    /// True when no session can answer.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// The sessions that can answer for one model, by their qualities; no pool is empty.
#[derive(Debug, Default)]
pub struct Pools(Vec<(Class, Pool)>);

impl Pools {
    /// Among those that suit best, a session with the least load, behind that.
    fn best(&self, ask: &Ask<'_>) -> Option<(Misses, usize, Slot)> {
        let suitable = self.0.iter().filter_map(|(class, pool)| {
            let (load, slot) = pool.least_load()?;
            Some((class.suits(ask.scope, ask.needs)?, load, slot))
        });
        suitable.min()
    }

    /// The classes of the sessions.
    fn classes(&self) -> impl Iterator<Item = Class> {
        self.0.iter().map(|(class, _)| *class)
    }

    /// Moves a session of a class from one load to another; `None` is outside.
    fn shift(&mut self, class: Class, slot: Slot, from: Option<usize>, to: Option<usize>) {
        let at = self.classes().position(|known| known == class);
        let at = at.unwrap_or_else(|| {
            self.0.push((class, Pool::default()));
            self.0.len() - 1
        });
        if let Some((_, pool)) = self.0.get_mut(at) {
            pool.shift(slot, from, to);
            if pool.is_empty() {
                self.0.swap_remove(at);
            }
        }
    }
}

/// Resources that can be busy.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Busy {
    /// Every session that could answer; this is one of the least busy.
    Session(Slot),
    /// An agent is being started.
    Starting,
    /// The program: as many exchanges are open as `limits.exchanges` allows.
    Exchanges,
}

/// Reasons for which a session cannot be had right now.
pub(super) enum Unrouted {
    /// It could be had later.
    Busy(Busy),
    /// It cannot be had.
    Refused(Refusal),
}

impl Hub {
    /// Puts a session into the pools of its models, or takes it out of them.
    pub(super) fn reroute(&mut self, slot: Slot) {
        let Some(session) = self.sessions.get(slot) else {
            return;
        };
        // One that takes no more at once comes last, so that none waits for it while another is free.
        let load = session.can_answer().then(|| match session.is_full() {
            true => usize::MAX,
            false => session.activity.in_flight(),
        });
        self.shift(slot, load);
    }

    /// Takes a session out of the pools of its models, before it gets others.
    pub(super) fn unroute(&mut self, slot: Slot) {
        self.shift(slot, None);
    }

    /// Moves a session to its load in the pools of its models; `None` is outside.
    fn shift(&mut self, slot: Slot, to: Option<usize>) {
        let Some(session) = self.sessions.get(slot) else {
            return;
        };
        let from = session.load();
        if from == to {
            return;
        }
        let class = Class::from(&session.supports);
        for model in session.models.iter() {
            let pools = self.pools.entry_ref(model).or_default();
            pools.shift(class, slot, from, to);
            if pools.0.is_empty() {
                self.pools.remove(model);
            }
        }
        self.sessions.set_load(slot, to);
    }

    /// Returns the load of the least busy session that answers for a model; `None` when there is none.
    pub(super) fn load_of(&self, model: &str, ask: &Ask<'_>) -> Option<usize> {
        self.pools.get(model)?.best(ask).map(|(_, load, _)| load)
    }

    /// Finds the session that is to answer.
    pub(super) fn route(&self, ask: &Ask<'_>) -> Result<Slot, Unrouted> {
        let asked = ask.model;
        let refuse = |code, message: String| Err(Unrouted::Refused(Refusal::new(code, message)));
        let model = self.resolve(asked);
        let slot = if let Some(id) = ask.session {
            let Some(slot) = self.sessions.find(id) else {
                return refuse(
                    Code::SessionNotFound,
                    alloc::format!("X-MCP-Session names `{id}`, which is no session here"),
                );
            };
            let usable = self.sessions.get(slot).is_some_and(|session| {
                session.can_answer()
                    && (model == ANY || session.models.iter().any(|name| **name == *model))
            });
            if !usable {
                return refuse(
                    Code::SessionNotFound,
                    alloc::format!("session `{id}` cannot answer{} now", for_model(asked)),
                );
            }
            slot
        } else if let Some(slot) = self.best(model, ask) {
            slot
        } else if !self.pools.is_empty() && (model == ANY || self.pools.contains_key(model)) {
            return Err(Unrouted::Refused(self.unsuited(model, ask)));
        } else if self.expected.awaited(model).is_some() {
            return Err(Unrouted::Busy(Busy::Starting));
        } else {
            let upstream = self.upstreams.of_model(model);
            if let Some(why) = upstream.and_then(Upstream::why_unlisted) {
                return refuse(Code::NoAgent, why);
            }
            if !self.upstreams.several(model).is_empty() && !self.awaits(model) {
                return Err(Unrouted::Refused(self.unknown_model(model)));
            }
            let known = self.pools.is_empty() || self.expects(model);
            if known && let Some(why) = self.expected.why_late(model) {
                return refuse(Code::NoAgent, why);
            }
            // A model whose sessions have all ended is one that is gone, and no unknown one.
            let was_known = known || self.sessions.owners().remembers(model);
            if was_known && let Some(why) = self.why_nobody(model) {
                let who = for_model(asked);
                return refuse(
                    Code::NoAgent,
                    alloc::format!("nobody answers{who} now: {why}"),
                );
            }
            if known {
                return refuse(
                    Code::NoAgent,
                    alloc::format!(
                        "no agent is connected that answers{}: start one that connects to ws://…/agent with a bridge key, or try `mcp-local-provider --demo`; `mcp-local-provider sessions` shows who is there",
                        for_model(asked)
                    ),
                );
            }
            return Err(Unrouted::Refused(self.unknown_model(asked)));
        };
        let Some(session) = self.sessions.get(slot) else {
            return Err(Unrouted::Busy(Busy::Session(slot)));
        };
        let class = Class::from(&session.supports);
        if class.suits(ask.scope, ask.needs).is_none() {
            let classes = core::iter::once(class);
            return Err(Unrouted::Refused(unsuited(asked, ask, classes)));
        }
        if session.is_full() {
            return Err(Unrouted::Busy(Busy::Session(slot)));
        }
        if self.metrics.open >= self.config.limits.exchanges {
            return Err(Unrouted::Busy(Busy::Exchanges));
        }
        Ok(slot)
    }
}

impl Hub {
    /// Tells why none of a model's sessions can answer, by the one that is nearest to it; `None` when there is none.
    fn why_nobody(&self, model: &str) -> Option<String> {
        let of_model =
            |session: &&Session| model == ANY || session.models.iter().any(|name| **name == *model);
        // Live ones first, then what ended last.
        let rank = |session: &&Session| {
            let live = match session.status {
                Status::Active => 3,
                Status::Pending => 2,
                Status::Suspended => 1,
                Status::Revoked | Status::Expired => 0,
            };
            (live, session.ended_at, session.created_at)
        };
        let session = self.sessions.iter().filter(of_model).max_by_key(rank)?;
        let id = &session.id;
        Some(match session.status {
            Status::Active if session.circuit.is_some() => alloc::format!(
                "the upstream `{}` has failed several times in a row and is left alone for a moment",
                session.agent_id
            ),
            Status::Active if session.is_spent() => alloc::format!(
                "session `{id}` has its requests used up ({}); its agent has to register again",
                session.max_requests
            ),
            Status::Active => alloc::format!("the agent of session `{id}` is not connected"),
            Status::Pending => alloc::format!(
                "session `{id}` waits for approval; `mcp-local-provider approve {id}` gives it"
            ),
            Status::Suspended => alloc::format!("session `{id}` is suspended"),
            Status::Revoked => alloc::format!("session `{id}` was revoked"),
            Status::Expired => {
                alloc::format!("session `{id}` has expired; its agent has to register again")
            }
        })
    }
}

impl Hub {
    /// The pools of a model, or of all.
    fn of_model(&self, model: &str) -> impl Iterator<Item = &Pools> {
        let all = (model == ANY).then(|| self.pools.values());
        let one = self.pools.get(model).filter(|_| model != ANY);
        all.into_iter().flatten().chain(one)
    }

    /// Finds the session that suits best, and of several one with the least load.
    fn best(&self, model: &str, ask: &Ask<'_>) -> Option<Slot> {
        let best = self.of_model(model).filter_map(|pools| pools.best(ask));
        best.min().map(|(_, _, slot)| slot)
    }

    fn unsuited(&self, model: &str, ask: &Ask<'_>) -> Refusal {
        let classes = self.of_model(model).flat_map(Pools::classes);
        unsuited(ask.model, ask, classes)
    }
}

/// The refusal where sessions of these classes could answer, and none suits.
fn unsuited(asked: &str, ask: &Ask<'_>, mut classes: impl Iterator<Item = Class>) -> Refusal {
    if !classes.any(|class| class.allows(ask.scope)) {
        let message = alloc::format!(
            "no session that answers{} has the scope `{}`",
            for_model(asked),
            ask.scope.as_str()
        );
        return Refusal::new(Code::ScopeDenied, message);
    }
    match ask.needs.kind {
        Kind::Insertion => {
            let message = alloc::format!(
                "suffix: no agent that answers{} fills in the middle",
                for_model(asked)
            );
            Refusal::invalid(message).at("suffix")
        }
        Kind::Text | Kind::Embedding => no_embeddings(asked),
    }
}

/// Names the model in a message, where the client has named one.
fn for_model(asked: &str) -> String {
    if asked == ANY {
        return String::new();
    }
    alloc::format!(" for the model `{asked}`")
}

fn no_embeddings(asked: &str) -> Refusal {
    let who = match asked {
        ANY => "no agent makes embeddings, as none registered".into(),
        asked => alloc::format!("`{asked}` makes no embeddings, as its agent did not register"),
    };
    Refusal::invalid(alloc::format!(
        "model: {who} with the capability `embeddings`"
    ))
    .at("model")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use super::*;
    use alloc::collections::BTreeMap;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn the_least_loaded_is_found_whatever_came_before(
            steps in proptest::collection::vec((0usize..8, proptest::option::of(0usize..6)), 1..100)
        ) {
            let (mut pool, mut model) = (Pool::default(), BTreeMap::new());
            for (session, load) in steps {
                let before = match load {
                    Some(load) => model.insert(session, load),
                    None => model.remove(&session),
                };
                pool.shift(Slot(session), before, load);
                prop_assert_eq!(pool.is_empty(), model.is_empty());
                let least = model.values().min();
                prop_assert_eq!(pool.least_load().map(|(_, slot)| &model[&slot.0]), least);
            }
        }
    }
}
