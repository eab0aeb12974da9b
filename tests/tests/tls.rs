//! TLS over a pipe in memory: any split, any pause, and one fault at any byte.
#![allow(clippy::unwrap_used)]

use mcp_local_provider_tests::fuzz_targets;
use proptest::prelude::*;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn whatever_happens_to_the_bytes_what_comes_out_is_what_was_said_up_to_there(
        kind in 0u8..5,
        at in prop_oneof![0u16..3000, any::<u16>()],
        lengths in any::<[u8; 2]>(),
        script in prop::collection::vec(any::<u8>(), 0..300),
    ) {
        let mut data = vec![kind];
        data.extend(at.to_be_bytes());
        data.extend(lengths);
        data.extend(script);
        fuzz_targets::pipe(&data);
    }
}
