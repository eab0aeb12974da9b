//! ACP agents: what they were seen to do, played to the real machine as people can read it in `acp/`.
//!
//! `UPDATE_GOLDEN=1 cargo test -p mcp-local-provider-tests --test acp` writes the outputs anew; look at the difference.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

use mcp_local_provider_tests::acp::transcript;
use std::path::Path;

#[test]
fn every_transcript_is_as_it_was() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("acp");
    let mut paths: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    paths.sort();
    assert!(paths.len() >= 5, "transcripts are missing");
    let update = std::env::var_os("UPDATE_GOLDEN").is_some();
    for path in paths {
        eprintln!("{}", path.display());
        let expected = std::fs::read_to_string(&path).unwrap();
        let played = transcript::play(&expected);
        if update {
            std::fs::write(&path, played).unwrap();
        } else {
            for (number, (was, is)) in (1..).zip(expected.lines().zip(played.lines())) {
                assert_eq!(was, is, "{}:{number}", path.display());
            }
            assert_eq!(expected.len(), played.len(), "{}", path.display());
        }
    }
}
