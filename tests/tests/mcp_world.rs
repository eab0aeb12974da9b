//! The simulated gateway under a few hundred random strings of bytes.

use mcp_local_provider_tests::{mcp_world, world};
use proptest::collection::vec;
use proptest::prelude::*;

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, max_shrink_iters: 20_000, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_every_client_has_its_own_and_nothing_is_left(data in vec(any::<u8>(), 0..3000)) {
        mcp_world::run(&data);
    }
}

#[test]
fn everything_that_can_happen_does() {
    let wanted = [
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
    ];
    world::until_happened(&wanted, mcp_world::run);
}
