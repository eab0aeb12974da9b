//! Every input that a fuzzer was started with, or has found, is replayed.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

use mcp_local_provider_tests::fuzz_targets::TARGETS;
use std::fs;
use std::path::{Path, PathBuf};

fn fuzz() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz")
}

/// The names of the fuzzers' binaries.
fn binaries() -> Vec<String> {
    let manifest = fs::read_to_string(fuzz().join("Cargo.toml")).unwrap();
    let sections = manifest.split("[[bin]]").skip(1);
    let name = |section: &str| {
        let line = section
            .lines()
            .find_map(|line| line.strip_prefix("name = "));
        line.expect("a binary has a name")
            .trim_matches('"')
            .to_owned()
    };
    sections.map(name).collect()
}

/// Names the input that was replayed when a panic came.
struct Replayed(PathBuf);

impl Drop for Replayed {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("replaying {}", self.0.display());
        }
    }
}

#[test]
fn every_input_of_every_fuzz_target_passes() {
    let binaries = binaries();
    assert!(!binaries.is_empty());
    for name in &binaries {
        let target = TARGETS.iter().find(|(target, _)| target == name);
        let (_, target) = target.unwrap_or_else(|| panic!("{name} is missing in TARGETS"));
        let corpus = fuzz().join("corpus").join(name);
        let inputs = fs::read_dir(&corpus);
        let inputs = inputs.unwrap_or_else(|error| panic!("{}: {error}", corpus.display()));
        let mut inputs: Vec<PathBuf> = inputs.map(|entry| entry.unwrap().path()).collect();
        inputs.sort();
        assert!(inputs.len() >= 10, "{} is too small", corpus.display());
        for input in inputs {
            let replayed = Replayed(input);
            target(&fs::read(&replayed.0).unwrap());
        }
        let words = fuzz().join("dict").join(format!("{name}.dict"));
        assert!(words.exists(), "{} is missing", words.display());
    }
    for (name, _) in TARGETS {
        assert!(
            binaries.iter().any(|binary| binary == name),
            "{name} is missing in fuzz/Cargo.toml"
        );
    }
}
