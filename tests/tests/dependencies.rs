//! The section "Dependencies" of ARCHITECTURE.md, held against the manifests, and the libraries that replace code of ours.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

const CRATES: [&str; 13] = [
    "core",
    "mcp",
    "registry",
    "heap",
    "engine",
    "process",
    "agent",
    "host",
    "runtime-smol",
    "runtime-blocking",
    "tests",
    "benches",
    "fuzz",
];

/// Begins the names of the crates of this repository.
const OWN: &str = "mcp-local-provider";

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .unwrap()
        .to_path_buf()
}

fn read(path: &str) -> String {
    let path = root().join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Returns the dependencies that a manifest names in any of its sections, the crates of this repository left out.
fn direct(manifest: &str) -> BTreeSet<String> {
    let mut inside = false;
    let mut found = BTreeSet::new();
    for line in manifest.lines() {
        if let Some(section) = line.strip_prefix('[') {
            inside = section.trim_end_matches(']').ends_with("dependencies");
        } else if inside
            && !line.starts_with('#')
            && let Some((name, _)) = line.split_once('=')
            && !name.starts_with(OWN)
        {
            let name = name.trim().split('.').next().unwrap_or_default();
            found.insert(name.to_owned());
        }
    }
    found
}

/// Returns each crate that a manifest names, with the crates of this repository that use it.
fn used() -> BTreeMap<String, BTreeSet<String>> {
    let mut used: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for user in CRATES {
        for name in direct(&read(&format!("{user}/Cargo.toml"))) {
            used.entry(name).or_default().insert(user.to_owned());
        }
    }
    used
}

/// Returns the section of ARCHITECTURE.md.
fn section() -> String {
    let text = read("ARCHITECTURE.md");
    let (_, section) = text
        .split_once("\n## Dependencies\n")
        .expect("the section is there");
    section.split("\n## ").next().unwrap().to_owned()
}

/// Returns the rows of the table: name, users, what it saves, who keeps it.
fn rows(section: &str) -> Vec<[String; 4]> {
    let rows = section.lines().filter(|line| line.starts_with("| `"));
    rows.map(|row| {
        let cells: Vec<String> = row
            .trim_matches('|')
            .split(" | ")
            .map(|cell| cell.trim().to_owned())
            .collect();
        cells
            .try_into()
            .unwrap_or_else(|_| panic!("not four cells: {row}"))
    })
    .collect()
}

#[test]
fn each_dependency_has_a_line_and_each_line_a_dependency() {
    let mut described = BTreeMap::new();
    for [name, users, saves, keeper] in rows(&section()) {
        let name = name.trim_matches('`').to_owned();
        assert!(
            saves.len() > 10 && keeper.len() > 3,
            "the line of {name} says too little"
        );
        let users = users.split(", ").map(str::to_owned).collect();
        assert!(
            described.insert(name.clone(), users).is_none(),
            "{name} has two lines"
        );
    }
    let used = used();
    let mut wrong = Vec::new();
    for name in used.keys().chain(described.keys()).collect::<BTreeSet<_>>() {
        let (users, line) = (used.get(name), described.get(name));
        if users != line {
            wrong.push(format!("{name}: used in {users:?}, its line says {line:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_dependency_that_is_not_used_says_why() {
    let section = section();
    let (_, unused) = section
        .split_once("### Not used")
        .expect("the part about what is not used");
    assert!(unused.contains("**`async-tungstenite`**"), "{unused}");
    for name in unused.split("**`").skip(1) {
        let name = name.split('`').next().unwrap();
        assert!(!used().contains_key(name), "{name} is used");
    }
}

fn rust_files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            rust_files(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

#[test]
fn thiserror_writes_the_error_types() {
    let mut files = Vec::new();
    for name in [
        "core",
        "mcp",
        "registry",
        "engine",
        "process",
        "agent",
        "host",
        "runtime-smol",
        "runtime-blocking",
    ] {
        rust_files(&root().join(name).join("src"), &mut files);
    }
    let mut derived = 0;
    for file in files {
        let text = std::fs::read_to_string(&file).unwrap();
        derived += text.matches("thiserror::Error)]").count();
        for path in ["", "std::error::", "core::error::"] {
            let by_hand = format!("impl {path}Error for");
            assert!(!text.contains(&by_hand), "{}: {by_hand}", file.display());
        }
    }
    assert!(derived > 10, "{derived} error types are not all");
}
