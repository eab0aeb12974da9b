//! The simulated registry under a few hundred random strings of bytes.

use mcp_local_provider_tests::{registry_world, world};
use proptest::collection::vec;
use proptest::prelude::*;

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, max_shrink_iters: 20_000, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_what_was_acknowledged_is_there_and_nothing_works_for_nobody(data in vec(any::<u8>(), 0..3000)) {
        registry_world::run(&data);
    }
}

#[test]
fn everything_that_can_happen_does() {
    let wanted = [
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
    ];
    world::until_happened(&wanted, registry_world::run);
}
