//! The simulated registry under a few hundred random strings of bytes.
#![allow(clippy::unwrap_used, clippy::panic)]

use mcp_local_provider_tests::{registry_world, world};
use proptest::collection::vec;
use proptest::prelude::*;
use std::collections::BTreeMap;

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, max_shrink_iters: 20_000, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_what_was_acknowledged_is_there_and_nothing_works_for_nobody(data in vec(any::<u8>(), 0..3000)) {
        registry_world::run(&data);
    }
}

#[test]
fn everything_that_can_happen_does() {
    let mut happened: BTreeMap<&str, u64> = BTreeMap::new();
    for seed in 0..50 {
        for (what, times) in registry_world::run(&world::input(seed)) {
            *happened.entry(what).or_default() += times;
        }
    }
    for what in [
        "answers",
        "answers that failed",
        "changes acknowledged",
        "changes kept",
        "changes refused by the disk",
        "changes that are wrong",
        "changes that were left",
        "changes that were not stored",
        "commands",
        "commands that failed",
        "lists",
        "losses of power",
        "runs",
        "runs of disabled tools",
        "runs refused",
        "runs that failed",
        "runs that took too long",
        "runs that were left",
        "runs with steps that were skipped",
        "runs without a tool",
    ] {
        assert!(happened.contains_key(what), "no {what} in {happened:?}");
    }
}
