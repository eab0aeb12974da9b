//! An engine, scripted agents and clients, under faults.
//!
//! One string of bytes decides everything: the configuration, what the clients ask, what the agents say, what is lost,
//! late, repeated or reordered on the way, and when time passes. All invariants are checked after every step. At the end
//! everything heals, and then nothing may be left: no exchange, no tombstone, no session, no timer.

mod actor;
mod connect;
mod heal;
mod owner;
mod purse;
mod setup;
mod step;
mod stop;
mod words;

use crate::driver::{Call, Driver};
use actor::Actor;
use arbitrary::Unstructured;
use mcp_local_provider_core::hub::Hub;
use mcp_local_provider_core::hub::keys::Authority;
use mcp_local_provider_core::hub::sessions::Session;
use mcp_local_provider_core::id::{ExchangeId, LinkId};
use mcp_local_provider_core::scope::Scope;
use mcp_local_provider_core::time::Instant;
use purse::{Payer, Payment, Purse};
use setup::Caller;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use words::Said;

/// Steps of one run at most, so that a long input ends.
const STEPS: u64 = 4096;

/// The agent that the program starts, if it does, and its model.
const STARTED: &str = "alpha";

/// Calls of one run at most.
const CALLS: usize = 64;

/// Result of a run.
#[derive(Clone, Debug, Default)]
pub struct Account {
    /// Steps that were taken.
    pub steps: u64,
    /// Numbers of events by name: ends of exchanges and links, and fates of chunks.
    pub happened: BTreeMap<String, u64>,
}

/// Runs the world that `data` decides.
///
/// # Panics
/// Panics when an invariant is broken.
pub fn run(data: &[u8]) -> Account {
    live(data, false)
}

/// Runs the world as [`run`] does, and prints each step to standard error.
///
/// # Panics
/// Panics when an invariant is broken.
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
        // One that is slow to start comes later, or never.
        if world.actors[which].of_program {
            continue;
        }
        world.dial(which, None, true);
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

/// Runs a world on one input after the other, until all of `wanted` has happened.
///
/// # Panics
/// A thousand inputs did not make some of it happen. The message names it.
pub fn until_happened<I, S>(wanted: &[&str], run: impl Fn(&[u8]) -> I)
where
    I: IntoIterator<Item = (S, u64)>,
    S: AsRef<str>,
{
    let mut missing: BTreeSet<&str> = wanted.iter().copied().collect();
    for seed in 0..1000 {
        for (what, times) in run(&input(seed)) {
            if times > 0 {
                missing.remove(what.as_ref());
            }
        }
        if missing.is_empty() {
            return;
        }
    }
    panic!("a thousand runs, and none of {missing:?}");
}

/// Values of a call's request that the end of the run compares.
#[derive(Debug, Default)]
struct Asked {
    caller: usize,
    /// The permission that its head showed.
    authority: Option<Authority>,
    route: &'static str,
    model: &'static str,
    session: Option<String>,
    stops: Vec<String>,
    /// Tokens that it reserves.
    tokens: u64,
    /// It brings tools.
    tools: bool,
    /// Vectors that are wanted; text when there are none.
    vectors: Option<usize>,
    /// True when nobody could take it at once.
    busy: bool,
}

/// Sessions that suit a request at the moment in which it is asked.
#[derive(Clone, Copy, Debug)]
struct Suitable {
    any: bool,
    with_tools: bool,
}

impl Asked {
    /// True for a session that may answer it and can, now or when it has room.
    fn may_be_answered_by(&self, session: &Session) -> bool {
        let model = self.model.trim_end_matches(":latest");
        session.can_answer()
            && session.supports.scopes.allow(Scope::Inference)
            && session.models.iter().any(|name| **name == *model)
            && (self.vectors.is_none() || session.supports.capabilities.embeddings)
    }
}

/// The whole world.
struct World {
    driver: Driver,
    actors: Vec<Actor>,
    callers: Vec<Caller>,
    /// Other machines reach a socket of the program.
    is_exposed: bool,
    /// The permission of each agent that connected by a key, or without one.
    came_by: BTreeMap<LinkId, Authority>,
    /// The permission on which each session rests.
    registered_by: BTreeMap<String, Authority>,
    /// All that each payer has used.
    purses: BTreeMap<Payer, Purse>,
    /// Payments of requests that have not ended.
    payments: HashMap<ExchangeId, Payment>,
    /// Ends of requests whose payments are settled.
    settled: usize,
    /// Numbers of refusals by a bucket, and of payments that came back whole.
    limited: BTreeMap<&'static str, u64>,
    /// Answers of agents, by exchange.
    said: HashMap<ExchangeId, Said>,
    /// Requests of calls, by exchange.
    asked: HashMap<ExchangeId, Asked>,
    /// Sessions that were registered over HTTP.
    over_http: BTreeSet<String>,
    /// The time until which requests wait for the agent that the program starts; `None` once it has registered or is late.
    starting: Option<Instant>,
    /// Links of that agent, of which an operator ended a session and approved none since.
    barred: BTreeSet<LinkId>,
    /// Requests that waited for that agent.
    awaited: BTreeSet<ExchangeId>,
    /// The time at which the step began.
    began: Instant,
    /// Commands of the hub are held before the links.
    holds: bool,
    /// The step that is taken again and again, so that what is rare meets itself and all else.
    often: Option<u8>,
    told: bool,
}

impl World {
    fn tell(&self, what: impl FnOnce() -> String) {
        if self.told {
            eprintln!("{:>12} {}", self.now().as_micros(), what());
        }
    }

    fn check(&mut self) {
        self.driver.check();
        let now = self.now();
        let due = self
            .driver
            .look(Hub::poll_timeout)
            .map(|timeout| timeout.at);
        let all_served = due.is_none_or(|due| due > now);
        // Once its time is over, whoever waited for it was told.
        self.starting = self.starting.filter(|until| !all_served || *until > now);
        self.settle_payments();
        self.check_permissions();
        self.check_carried();
        for at in 0..self.driver.calls.len() {
            let call = &self.driver.calls[at];
            if call.is_waiting() && !call.is_told() {
                let asked = &self.asked[&call.id];
                if self.may_be_starting(asked.model) {
                    self.awaited.insert(call.id);
                }
                assert!(self.is_busy(asked), "{} waits for nothing", call.id);
                assert!(self.may_come(asked), "{} waits for nobody", call.id);
                assert!(self.is_upheld(asked), "{} waits without its key", call.id);
            }
            if std::mem::take(&mut self.driver.calls[at].changed) {
                self.check_answer(&self.driver.calls[at]);
            }
        }
    }

    /// The client has seen a beginning of what the agent has said, and all of it at the end.
    fn check_answer(&self, call: &Call) {
        let seen = &call.client;
        let Some(said) = self.said.get(&call.id) else {
            assert_eq!(seen.content, "", "{}: nobody said that", call.id);
            return;
        };
        let asked = &self.asked[&call.id];
        let content = said.content(&asked.stops);
        // The legacy API has no field for it.
        let reasoning = if asked.route == "POST /v1/completions" {
            String::new()
        } else {
            said.reasoning()
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
        let completed = call.completed();
        if let Some(wanted) = asked.vectors {
            assert_eq!(seen.vectors, if completed { wanted } else { 0 });
        } else if completed && said.ended {
            assert_eq!(seen.content, content, "{}: text is missing", call.id);
            if asked.stops.is_empty() {
                assert_eq!(seen.reasoning, reasoning, "{}: text is missing", call.id);
            }
        }
    }

    /// True unless there is memory and a session could take what is asked for.
    fn lacks_room(&self, asked: &Asked) -> bool {
        self.driver.lacks_memory() || self.is_busy(asked)
    }

    /// True unless a session could take what is asked for.
    fn is_busy(&self, asked: &Asked) -> bool {
        let wanted = asked.session.as_deref();
        let limit = self.driver.config.limits.exchanges;
        // One that calls tools is waited for, where there is one.
        let waits = asked.tools && wanted.is_none() && self.suitable(asked).with_tools;
        let starts = self.may_be_starting(asked.model);
        self.driver.look(|hub| {
            hub.metrics().open >= limit
                || starts
                || !hub.sessions().iter().any(|session| {
                    asked.may_be_answered_by(session)
                        && !session.is_full()
                        && (!waits || session.supports.capabilities.tools)
                        && wanted.is_none_or(|wanted| wanted == session.id.as_str())
                })
        })
    }

    /// True while somebody is there who could answer, or is being started.
    fn may_come(&self, asked: &Asked) -> bool {
        let wanted = asked.session.as_deref();
        let is_there = self.driver.look(|hub| {
            hub.sessions().iter().any(|session| {
                asked.may_be_answered_by(session)
                    && wanted.is_none_or(|wanted| wanted == session.id.as_str())
            })
        });
        is_there || self.may_be_starting(asked.model)
    }

    /// True for a model of the agent that the program starts, while it is to be waited for.
    fn is_starting(&self, model: &str) -> bool {
        model.trim_end_matches(":latest") == STARTED
            // Some threads read an old clock.
            && self.starting.is_some_and(|until| self.now().max(self.began) < until)
    }

    /// True for the same while it may be waited for still: its time may be over, and agents are heard first.
    fn may_be_starting(&self, model: &str) -> bool {
        model.trim_end_matches(":latest") == STARTED && self.starting.is_some()
    }

    /// What is asked for goes to a session that suits it, if there is one, however busy that is.
    fn suitable(&self, asked: &Asked) -> Suitable {
        self.driver.look(|hub| {
            let sessions = hub.sessions().iter();
            let suitable = sessions.filter(|session| asked.may_be_answered_by(session));
            let tools: Vec<bool> = suitable
                .map(|session| session.supports.capabilities.tools)
                .collect();
            Suitable {
                any: !tools.is_empty(),
                with_tools: tools.contains(&true),
            }
        })
    }

    fn happened(&self) -> BTreeMap<String, u64> {
        let mut happened = BTreeMap::new();
        let mut count = |what: String, times| {
            if times > 0 {
                *happened.entry(what).or_default() += times;
            }
        };
        for line in self.driver.audited() {
            let outcome = line.outcome;
            if self.awaited.contains(&line.id) {
                count(format!("awaited a start: {outcome}"), 1);
            }
            if line.admitted {
                count(format!("ended: {outcome}"), 1);
            } else if outcome == "client_disconnected" {
                count("left".to_owned(), 1);
            } else {
                count(format!("refused: {outcome}"), 1);
            }
        }
        count("on a kept connection".to_owned(), self.driver.on_kept);
        for (what, times) in &self.limited {
            count(format!("limits: {what}"), *times);
        }
        for wire in self.driver.wires.values() {
            if let Some(code) = wire.closed {
                count(format!("closed: {code:?}"), 1);
            }
            let counters = wire.counters();
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

    fn now(&self) -> Instant {
        self.driver.now()
    }
}
