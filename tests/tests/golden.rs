//! Whole conversations through the real machines, as people can read them in `golden/`.
//!
//! `UPDATE_GOLDEN=1 cargo test -p mcp-local-provider-tests --test golden` writes the outputs anew; look at the difference.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

use mcp_local_provider_tests::transcript;
use std::path::{Path, PathBuf};

fn transcripts(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            transcripts(&path, found);
        } else {
            found.push(path);
        }
    }
}

#[test]
fn every_transcript_is_as_it_was() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("golden");
    let mut paths = Vec::new();
    transcripts(&folder, &mut paths);
    paths.sort();
    assert!(paths.len() > 30, "transcripts are missing");
    let update = std::env::var_os("UPDATE_GOLDEN").is_some();
    let mut changed = Vec::new();
    for path in paths {
        let name = path.strip_prefix(&folder).unwrap().display().to_string();
        eprintln!("{name}");
        let expected = std::fs::read_to_string(&path).unwrap();
        let played = transcript::play(&expected);
        if played == expected {
            continue;
        }
        if update {
            std::fs::write(&path, played).unwrap();
            continue;
        }
        let (line, pair) = first_difference(&expected, &played);
        changed.push(format!(
            "{name}:{line}\n  expected: {}\n  played:   {}",
            pair.0, pair.1
        ));
    }
    assert!(changed.is_empty(), "{}", changed.join("\n"));
}

fn first_difference<'t>(expected: &'t str, played: &'t str) -> (usize, (&'t str, &'t str)) {
    let end = "(nothing)";
    let lines = expected.lines().count().max(played.lines().count());
    (0..lines)
        .map(|at| {
            let line = |text: &'t str| text.lines().nth(at).unwrap_or(end);
            (at + 1, (line(expected), line(played)))
        })
        .find(|(_, (expected, played))| expected != played)
        .unwrap_or((lines, (end, end)))
}
