//! The simulated gateway under a few hundred random strings of bytes.
#![allow(clippy::unwrap_used, clippy::panic)]

use mcp_local_provider_tests::{mcp_world, world};
use proptest::collection::vec;
use proptest::prelude::*;
use std::collections::BTreeMap;

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, max_shrink_iters: 20_000, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_every_client_has_its_own_and_nothing_is_left(data in vec(any::<u8>(), 0..3000)) {
        mcp_world::run(&data);
    }
}

#[test]
fn everything_that_can_happen_does() {
    let mut happened: BTreeMap<&str, u64> = BTreeMap::new();
    for seed in 0..50 {
        for (what, times) in mcp_world::run(&world::input(seed)) {
            *happened.entry(what).or_default() += times;
        }
    }
    for what in [
        "answers",
        "progress",
        "questions",
        "questions withdrawn",
        "log messages",
        "log messages of a shared process",
        "updates",
        "updates of a shared process",
        "list changes",
        "lists",
        "answers without a session",
        "refusals",
    ] {
        assert!(happened.contains_key(what), "no {what} in {happened:?}");
    }
}
