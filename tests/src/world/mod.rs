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

use crate::driver::Driver;
use actor::Actor;
use arbitrary::Unstructured;
use mcp_local_provider_core::api::Endpoint;
use mcp_local_provider_core::hub::Verdict;
use mcp_local_provider_core::hub::keys::Caller;
use mcp_local_provider_core::id::ExchangeId;
use mcp_local_provider_core::time::Instant;
use setup::Payer;
use std::collections::HashMap;
use words::Said;

/// Steps of one run at most, so that a long input ends.
const STEPS: u64 = 4096;

/// Calls of one run at most.
const CALLS: usize = 64;

/// Lives through what `data` says; the answer is the number of steps.
///
/// # Panics
/// When an invariant is broken.
pub fn run(data: &[u8]) -> u64 {
    live(data, false)
}

/// The same, each step told on standard error.
///
/// # Panics
/// When an invariant is broken.
pub fn run_told(data: &[u8]) {
    live(data, true);
}

fn live(data: &[u8], told: bool) -> u64 {
    let mut u = Unstructured::new(data);
    let Ok(mut world) = World::new(&mut u) else {
        return 0;
    };
    world.told = told;
    for which in 0..world.actors.len() {
        world.dial(which, None, None);
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
    steps
}

/// Everything there is.
struct World {
    driver: Driver,
    actors: Vec<Actor>,
    payers: Vec<Payer>,
    /// What agents have said, by exchange.
    said: HashMap<ExchangeId, Said>,
    /// Stop sequences that a call asked for.
    stops: HashMap<ExchangeId, Vec<String>>,
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
            let seen = &call.client;
            let Some(said) = self.said.get(&call.id) else {
                assert_eq!(seen.content, "", "{}: nobody said that", call.id);
                continue;
            };
            let stops = self.stops.get(&call.id).map_or(&[][..], Vec::as_slice);
            let content = words::cut(said.content(), stops);
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
            if completed && said.ended {
                assert_eq!(seen.content, content, "{}: text is missing", call.id);
                if stops.is_empty() {
                    assert_eq!(seen.reasoning, reasoning, "{}: text is missing", call.id);
                }
            }
        }
    }

    /// A client of the configuration, and the number of its payer.
    fn caller(&self, which: usize) -> Caller {
        self.payers[which].caller(&self.driver.hub.keys())
    }

    fn now(&self) -> Instant {
        self.driver.now
    }
}
