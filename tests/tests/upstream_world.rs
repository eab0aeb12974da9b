//! Simulated servers of models under a few hundred random strings of bytes.

use mcp_local_provider_tests::{upstream_world, world};
use proptest::collection::vec;
use proptest::prelude::*;

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, max_shrink_iters: 20_000, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_each_client_has_one_answer_and_nothing_is_left(data in vec(any::<u8>(), 0..2000)) {
        upstream_world::run(&data);
    }
}

#[test]
fn everything_that_can_happen_does() {
    let wanted = [
        "answers",
        "answers cut off",
        "circuits that closed",
        "circuits that opened",
        "clients that left",
        "failures",
        "fallbacks",
        "refused at once",
        "retries",
    ];
    world::until_happened(&wanted, upstream_world::run);
}
