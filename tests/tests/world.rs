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
