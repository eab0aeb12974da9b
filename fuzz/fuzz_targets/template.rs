#![no_main]

use allocation_counter::measure;
use mcp_local_provider_tests::fuzz_targets::template;

/// Bytes that may be allocated at once.
const MOST: u64 = 64 << 20;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let most = measure(|| template(data)).bytes_max;
    assert!(most < MOST, "{most} bytes at once");
});
