//! The rules of the house, held against its sources.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

const CRATES: [&str; 6] = [
    "core",
    "host",
    "runtime-smol",
    "runtime-blocking",
    "tests",
    "benches",
];

/// What a crate of the house may use of the house, build and tests apart.
const IMPORTS: [(&str, &[&str]); 6] = [
    ("core", &[]),
    ("host", &["core"]),
    ("runtime-smol", &["core", "host"]),
    ("runtime-blocking", &["core", "host"]),
    (
        "tests",
        &["core", "host", "runtime-smol", "runtime-blocking"],
    ),
    (
        "benches",
        &["core", "host", "runtime-smol", "runtime-blocking", "tests"],
    ),
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .unwrap()
        .to_path_buf()
}

fn rust_files(folder: &Path, found: &mut Vec<PathBuf>) {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return;
    };
    for entry in entries {
        let path = entry.unwrap().path();
        if path.is_dir() {
            if !path.ends_with("target") {
                rust_files(&path, found);
            }
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// Every Rust file of the house by its path from the root.
fn sources() -> BTreeMap<String, String> {
    let root = root();
    let mut files = Vec::new();
    for name in CRATES.iter().chain(&["fuzz"]) {
        rust_files(&root.join(name), &mut files);
    }
    assert!(files.len() > 50, "the sources are not where they were");
    files
        .into_iter()
        .map(|path| {
            let name = path
                .strip_prefix(&root)
                .unwrap()
                .to_str()
                .unwrap()
                .replace('\\', "/");
            (name, std::fs::read_to_string(path).unwrap())
        })
        .collect()
}

/// The part of a file that is not tests.
fn without_tests(text: &str) -> &str {
    text.split("#[cfg(test)]").next().unwrap()
}

fn is_test(name: &str) -> bool {
    name.starts_with("tests/")
        || name.starts_with("fuzz/")
        || name.contains("/tests/")
        || name.ends_with("/tests.rs")
}

fn report(broken: Vec<String>) {
    assert!(broken.is_empty(), "\n{}", broken.join("\n"));
}

#[test]
fn core_names_no_clock_no_socket_and_no_thread() {
    let forbidden = [
        "std::net",
        "std::fs",
        "std::time",
        "std::thread",
        "std::io",
        "std::env",
        "SystemTime",
        "extern crate std",
    ];
    let mut broken = Vec::new();
    for (name, text) in sources()
        .iter()
        .filter(|(name, _)| name.starts_with("core/src/") && !is_test(name))
    {
        let code: String = without_tests(text)
            .lines()
            .filter(|line| !line.trim_start().starts_with("//"))
            .collect::<Vec<_>>()
            .join("\n");
        for word in forbidden.iter().filter(|word| code.contains(**word)) {
            broken.push(format!("{name} names {word}"));
        }
    }
    report(broken);
}

#[test]
fn every_file_opens_with_what_it_is_and_has_a_bounded_length() {
    let mut broken = Vec::new();
    for (name, text) in &sources() {
        let lines = text.lines().count();
        let most = if is_test(name) { 1000 } else { 650 };
        if lines > most {
            broken.push(format!(
                "{name} has {lines} lines; split it by matter, {most} is the most"
            ));
        }
        let documented = text
            .lines()
            .find(|line| !line.trim().is_empty())
            .is_some_and(|line| line.starts_with("//!"));
        if !documented && !is_test(name) && !name.ends_with("build.rs") {
            broken.push(format!(
                "{name} does not open with a //! line that says what lives there"
            ));
        }
        let stem = Path::new(name).file_stem().unwrap().to_str().unwrap();
        if [
            "util", "utils", "helper", "helpers", "manager", "misc", "common",
        ]
        .contains(&stem)
        {
            broken.push(format!("{name}: a name must tell what lives there"));
        }
    }
    report(broken);
}

#[test]
fn imports_point_down_only() {
    let mut broken = Vec::new();
    for (name, allowed) in IMPORTS {
        let manifest = std::fs::read_to_string(root().join(name).join("Cargo.toml")).unwrap();
        let mut section = "";
        for line in manifest.lines() {
            if line.starts_with('[') {
                section = line;
            }
            let Some(dependency) = line
                .split(['=', '.', ' '])
                .next()
                .filter(|word| word.starts_with("mcp-local-provider"))
            else {
                continue;
            };
            let of = match dependency {
                "mcp-local-provider" => "runtime-smol",
                other => match other.trim_start_matches("mcp-local-provider-") {
                    "blocking" => "runtime-blocking",
                    part => part,
                },
            };
            if section == "[dependencies]" && !allowed.contains(&of) {
                broken.push(format!("{name} imports {of}"));
            }
        }
    }
    report(broken);
}

/// What is in both drivers belongs in core or host.
#[test]
fn a_driver_is_at_most_a_third_of_the_core() {
    let sources = sources();
    let lines = |part: &str| -> usize {
        let own = sources.iter().filter(|(name, _)| name.starts_with(part));
        own.map(|(_, text)| text.lines().count()).sum()
    };
    let core = lines("core/src/");
    for driver in ["runtime-smol/src/", "runtime-blocking/src/"] {
        let own = lines(driver);
        assert!(own * 3 <= core, "{driver} has {own} lines, the core {core}");
    }
}

/// For machines where every package counts.
#[test]
fn the_blocking_program_has_few_packages_and_no_async_runtime() {
    let tree = std::process::Command::new(env!("CARGO"))
        .args(["tree", "--offline", "--edges", "normal", "--prefix", "none"])
        .args(["--package", "mcp-local-provider-blocking"])
        .arg("--manifest-path")
        .arg(root().join("Cargo.toml"))
        .output()
        .unwrap();
    assert!(tree.status.success());
    let text = String::from_utf8(tree.stdout).unwrap();
    let packages: std::collections::BTreeSet<&str> = text.lines().collect();
    assert!(packages.len() <= 100, "{} packages", packages.len());
    for runtime in [
        "tokio",
        "smol",
        "async-io",
        "async-executor",
        "futures",
        "hyper",
        "mio",
    ] {
        let found = packages
            .iter()
            .find(|package| package.split(' ').next() == Some(runtime));
        assert_eq!(found, None);
    }
}

#[test]
fn nothing_is_skipped_or_left_undone() {
    // Put together so that this file does not name them.
    let marks = [
        concat!("to", "do!("),
        concat!("unimpl", "emented!("),
        concat!("FIX", "ME"),
        concat!("XX", "X:"),
        concat!("TO", "DO"),
    ];
    let mut broken = Vec::new();
    for (name, text) in &sources() {
        for (number, line) in (1..).zip(text.lines()) {
            if line.trim() == "#[ignore]" {
                broken.push(format!("{name}:{number} skips a test without a reason"));
            }
            for mark in marks.iter().filter(|mark| line.contains(**mark)) {
                broken.push(format!("{name}:{number} has {mark}"));
            }
            if is_test(name) && line.contains(concat!("thread::", "sleep")) {
                broken.push(format!(
                    "{name}:{number} sleeps; a test waits for the event"
                ));
            }
        }
    }
    report(broken);
}

#[test]
fn every_crate_obeys_the_lints_of_the_workspace() {
    let mut broken = Vec::new();
    for name in CRATES {
        let manifest = std::fs::read_to_string(root().join(name).join("Cargo.toml")).unwrap();
        if !manifest.contains("[lints]\nworkspace = true") {
            broken.push(format!("{name} does not take the workspace's lints"));
        }
    }
    let workspace = std::fs::read_to_string(root().join("Cargo.toml")).unwrap();
    assert!(workspace.contains("unsafe_code = \"forbid\""));
    report(broken);
}

#[test]
fn the_readme_names_the_two_commands() {
    let readme = std::fs::read_to_string(root().join("README.md")).unwrap();
    for command in ["cargo run --release -- --demo", "cargo test --workspace"] {
        assert!(readme.contains(command), "{command}");
    }
}
