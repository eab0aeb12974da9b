#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| mcp_local_provider_tests::fuzz_targets::upstream(data));
