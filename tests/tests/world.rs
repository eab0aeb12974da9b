//! The simulated world under a few hundred random strings of bytes.
#![allow(clippy::unwrap_used, clippy::panic)]

use mcp_local_provider_tests::world;
use proptest::collection::vec;
use proptest::prelude::*;
use std::collections::BTreeMap;

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, max_shrink_iters: 20_000, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_everything_ends_once_and_nothing_is_left(data in vec(any::<u8>(), 0..2000)) {
        world::run(&data);
    }
}

#[test]
fn everything_that_can_happen_does() {
    let mut happened: BTreeMap<String, u64> = BTreeMap::new();
    for seed in 0..100 {
        for (what, times) in world::run(&world::input(seed)).happened {
            *happened.entry(what).or_default() += times;
        }
    }
    for what in [
        "ended: ok",
        "ended: client_disconnected",
        "ended: agent_lost",
        "ended: agent_error",
        "ended: agent_fault",
        "ended: agent_timeout",
        "ended: session_ended",
        "ended: slow_client",
        "refused: rate_limit_exceeded",
        "refused: overloaded",
        "refused: no_agent",
        "refused: request_timeout",
        "left",
        "on a kept connection",
        "awaited a start: ok",
        "awaited a start: no_agent",
        "closed: Replaced",
        "closed: TooLarge",
        "closed: Policy",
        "closed: Protocol",
        "closed: NoSignOfLife",
        "repeats",
        "reordered",
        "late",
        "gaps",
        "overruns",
        "cancels",
    ] {
        assert!(happened.contains_key(what), "no {what} in {happened:?}");
    }
}
