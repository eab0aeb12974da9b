//! Hub, links, exchanges, scripted agents and clients, under faults.
//!
//! One string of bytes decides everything: the configuration, what the clients ask, what the agents say, what is lost,
//! late, repeated or reordered on the way, and when time passes. All invariants are checked after every step. At the end
//! everything heals, and then nothing may be left: no exchange, no tombstone, no session, no timer.

mod actor;
mod heal;
mod setup;
mod step;
mod words;

use crate::driver::{Driver, Phase};
use actor::Actor;
use arbitrary::Unstructured;
use mcp_local_provider_core::api::Endpoint;
use mcp_local_provider_core::hub::Verdict;
use mcp_local_provider_core::hub::keys::Caller;
use mcp_local_provider_core::id::ExchangeId;
use mcp_local_provider_core::time::Instant;
use setup::Payer;
use std::collections::{BTreeMap, HashMap};
use words::Said;

/// Steps of one run at most, so that a long input ends.
const STEPS: u64 = 4096;

/// Calls of one run at most.
const CALLS: usize = 64;

/// What has come of a run.
#[derive(Clone, Debug, Default)]
pub struct Account {
    /// Steps that were taken.
    pub steps: u64,
    /// How exchanges and links ended and what happened to chunks, by name and number.
    pub happened: BTreeMap<String, u64>,
}

/// Lives through what `data` says.
///
/// # Panics
/// When an invariant is broken.
pub fn run(data: &[u8]) -> Account {
    live(data, false)
}

/// The same, each step told on standard error.
///
/// # Panics
/// When an invariant is broken.
pub fn run_told(data: &[u8]) {
    live(data, true);
}

fn live(data: &[u8], told: bool) -> Account {
    let mut u = Unstructured::new(data);
    let Ok(mut world) = World::new(&mut u) else {
        return Account::default();
    };
    world.told = told;
    for which in 0..world.actors.len() {
        world.dial(which, None);
    }
    world.driver.flow();
    let mut steps = 0;
    // What is left of an input that ends within a step does not count.
    while steps < STEPS && !u.is_empty() && world.step(&mut u).is_ok() {
        world.driver.flow();
        world.check();
        steps += 1;
    }
    world.heal();
    Account {
        steps,
        happened: world.happened(),
    }
}

/// An input of 512 to 4600 bytes that looks random (SplitMix64, public domain).
#[must_use]
pub fn input(seed: u64) -> Vec<u8> {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    };
    let words = 64 + next() % 512;
    (0..words).flat_map(|_| next().to_le_bytes()).collect()
}

/// What a call asked for.
#[derive(Debug, Default)]
struct Asked {
    model: &'static str,
    session: Option<String>,
    stops: Vec<String>,
    /// Vectors that are wanted; text when there are none.
    vectors: Option<usize>,
}

/// Everything there is.
struct World {
    driver: Driver,
    actors: Vec<Actor>,
    payers: Vec<Payer>,
    /// What agents have said, by exchange.
    said: HashMap<ExchangeId, Said>,
    /// What each call asked for.
    asked: HashMap<ExchangeId, Asked>,
    told: bool,
}

impl World {
    fn tell(&self, what: impl FnOnce() -> String) {
        if self.told {
            eprintln!("{:>12} {}", self.driver.now.as_micros(), what());
        }
    }

    fn check(&mut self) {
        self.driver.check();
        for payer in &self.payers {
            payer.check(self.driver.now);
        }
        for call in &self.driver.calls {
            if matches!(call.phase, Phase::Waiting(_)) {
                let asked = &self.asked[&call.id];
                assert!(self.is_busy(asked), "{} waits for nothing", call.id);
            }
        }
        for call in &self.driver.calls {
            let seen = &call.client;
            let Some(said) = self.said.get(&call.id) else {
                assert_eq!(seen.content, "", "{}: nobody said that", call.id);
                continue;
            };
            let asked = &self.asked[&call.id];
            let content = words::cut(said.content(), &asked.stops);
            // The legacy API has no field for it.
            let reasoning = match call.endpoint {
                Endpoint::Completions => String::new(),
                _ => said.reasoning(),
            };
            assert!(
                content.starts_with(&seen.content),
                "{}: {:?} is no beginning of {content:?}",
                call.id,
                seen.content
            );
            assert!(
                reasoning.starts_with(&seen.reasoning),
                "{}: {:?} is no beginning of {reasoning:?}",
                call.id,
                seen.reasoning
            );
            let completed = call
                .outcome
                .is_some_and(|outcome| outcome.verdict == Verdict::Completed);
            if let Some(wanted) = asked.vectors {
                assert_eq!(seen.vectors, if completed { wanted } else { 0 });
            } else if completed && said.ended {
                assert_eq!(seen.content, content, "{}: text is missing", call.id);
                if asked.stops.is_empty() {
                    assert_eq!(seen.reasoning, reasoning, "{}: text is missing", call.id);
                }
            }
        }
    }

    /// True unless a session could take what is asked for.
    fn is_busy(&self, asked: &Asked) -> bool {
        if self.driver.hub.metrics().open >= self.driver.config.limits.exchanges {
            return true;
        }
        let model = asked.model.trim_end_matches(":latest");
        let wanted = asked.session.as_deref();
        let mut sessions = self.driver.hub.sessions().iter();
        !sessions.any(|session| {
            session.can_answer()
                && !session.is_full()
                && session.models.iter().any(|name| **name == *model)
                && wanted.is_none_or(|wanted| wanted == session.id.as_str())
                && (asked.vectors.is_none() || session.capabilities.embeddings)
        })
    }

    fn happened(&self) -> BTreeMap<String, u64> {
        let mut happened = BTreeMap::new();
        let mut count = |what: String, times| {
            if times > 0 {
                *happened.entry(what).or_default() += times;
            }
        };
        for call in &self.driver.calls {
            if let Some(code) = call.refused {
                count(format!("refused: {code:?}"), 1);
            } else if let Some(outcome) = call.outcome {
                count(format!("ended: {:?}", outcome.verdict), 1);
            } else {
                count("left".to_owned(), 1);
            }
        }
        for wire in self.driver.wires.values() {
            if let Some(code) = wire.closed {
                count(format!("closed: {code:?}"), 1);
            }
            let counters = wire.link.counters();
            count("repeats".to_owned(), counters.repeats);
            count("reordered".to_owned(), counters.reordered);
            count("late".to_owned(), counters.late);
            count("gaps".to_owned(), counters.gaps);
            count("overruns".to_owned(), counters.overruns);
            count("cancels".to_owned(), counters.cancels);
            count("faults".to_owned(), counters.faults);
        }
        happened
    }

    /// A client of the configuration, and the number of its payer.
    fn caller(&self, which: usize) -> Caller {
        self.payers[which].caller(&self.driver.hub.keys())
    }

    fn now(&self) -> Instant {
        self.driver.now
    }
}
