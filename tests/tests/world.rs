//! The simulated world under a few hundred random strings of bytes.

use mcp_local_provider_tests::world;
use proptest::collection::vec;
use proptest::prelude::*;

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, max_shrink_iters: 20_000, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_everything_ends_once_and_nothing_is_left(data in vec(any::<u8>(), 0..2000)) {
        world::run(&data);
    }
}

#[test]
fn everything_that_can_happen_does() {
    let wanted = [
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
    ];
    world::until_happened(&wanted, |input| world::run(input).happened);
}
