//! Simulated servers of models under a few hundred random strings of bytes.
#![allow(clippy::unwrap_used, clippy::panic)]

use mcp_local_provider_tests::{upstream_world, world};
use proptest::collection::vec;
use proptest::prelude::*;
use std::collections::BTreeMap;

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, max_shrink_iters: 20_000, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_each_client_has_one_answer_and_nothing_is_left(data in vec(any::<u8>(), 0..2000)) {
        upstream_world::run(&data);
    }
}

#[test]
fn everything_that_can_happen_does() {
    let mut happened: BTreeMap<&str, u64> = BTreeMap::new();
    for seed in 0..50 {
        for (what, times) in upstream_world::run(&world::input(seed)) {
            *happened.entry(what).or_default() += times;
        }
    }
    for what in [
        "answers",
        "answers cut off",
        "circuits that closed",
        "circuits that opened",
        "clients that left",
        "failures",
        "fallbacks",
        "refused at once",
        "retries",
    ] {
        assert!(happened.contains_key(what), "no {what} in {happened:?}");
    }
}
