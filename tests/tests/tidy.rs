//! Rules of this project's sources.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

const CRATES: [&str; 12] = [
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
];

/// Crates of the project that each of them may use, build and tests apart.
const IMPORTS: [(&str, &[&str]); 12] = [
    ("core", &[]),
    ("mcp", &["core"]),
    ("registry", &["core", "mcp"]),
    ("heap", &[]),
    ("engine", &["core", "mcp", "registry", "heap"]),
    ("process", &["core"]),
    ("agent", &["core", "process"]),
    ("host", &["core", "mcp", "registry", "engine", "process"]),
    ("runtime-smol", &["core", "engine", "host"]),
    ("runtime-blocking", &["core", "engine", "host"]),
    (
        "tests",
        &[
            "core",
            "mcp",
            "registry",
            "engine",
            "host",
            "runtime-smol",
            "runtime-blocking",
        ],
    ),
    (
        "benches",
        &[
            "core",
            "mcp",
            "registry",
            "engine",
            "host",
            "runtime-smol",
            "runtime-blocking",
            "tests",
        ],
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

/// Returns every Rust file of the project by its path from the root.
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

/// Returns the part of a file before its tests.
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
        .filter(|(name, _)| {
            ["core/src/", "mcp/src/"]
                .iter()
                .any(|of| name.starts_with(of))
        })
        .filter(|(name, _)| !is_test(name))
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

/// Rules that both drivers need belong in the machines or in the engine, and what a client could notice in the machines. The engine has
/// the locks round those of core and round those of mcp.
#[test]
fn the_engine_and_each_driver_are_at_most_a_third_of_the_machines() {
    let sources = sources();
    let lines = |part: &str| -> usize {
        let own = sources.iter().filter(|(name, _)| name.starts_with(part));
        own.map(|(_, text)| text.lines().count()).sum()
    };
    let machines = lines("core/src/") + lines("mcp/src/") + lines("registry/src/");
    for driver in ["engine/src/", "runtime-smol/src/", "runtime-blocking/src/"] {
        let own = lines(driver);
        assert!(
            own * 3 <= machines,
            "{driver} has {own} lines, the machines {machines}"
        );
    }
}

/// Decides in the engine and the machines that it calls what becomes of a request, in the simulation too.
#[test]
fn the_simulation_admits_opens_queues_and_settles_nothing() {
    let mut broken = Vec::new();
    for (name, text) in sources() {
        if !["tests/src/driver/", "tests/src/world/"]
            .iter()
            .any(|folder| name.starts_with(folder))
        {
            continue;
        }
        for call in [
            "Hub::new",
            "Link::new",
            "Exchange::",
            "Mailbox::new",
            ".admit(",
            ".claim(",
            ".leave(",
            ".conclude(",
            ".handle_",
        ] {
            if text.contains(call) {
                broken.push(format!("{name} has {call}"));
            }
        }
    }
    report(broken);
}

/// Returns names and versions of the packages that a crate is built from.
fn packages(of: &str, features: &[&str]) -> BTreeSet<String> {
    let tree = std::process::Command::new(env!("CARGO"))
        .args(["tree", "--offline", "--edges", "normal", "--prefix", "none"])
        .args(["--format", "{p}", "--no-dedupe", "--package", of])
        .args(features)
        .arg("--manifest-path")
        .arg(root().join("Cargo.toml"))
        .output()
        .unwrap();
    assert!(
        tree.status.success(),
        "{}",
        String::from_utf8_lossy(&tree.stderr)
    );
    let text = String::from_utf8(tree.stdout).unwrap();
    text.lines()
        .map(|line| line.split(' ').take(2).collect::<Vec<_>>().join(" "))
        .collect()
}

fn assert_without(packages: &BTreeSet<String>, forbidden: &[&str]) {
    for name in forbidden {
        let found = packages
            .iter()
            .find(|package| package.split(' ').next() == Some(name));
        assert_eq!(found, None);
    }
}

/// Runtimes, which neither the engine nor the blocking driver depends on.
const RUNTIMES: [&str; 7] = [
    "tokio",
    "smol",
    "async-io",
    "async-executor",
    "futures",
    "hyper",
    "mio",
];

/// Parts of a program, which an embedder does not want.
const PROGRAM: [&str; 9] = [
    "clap",
    "clap_complete",
    "granit-parser",
    "toml",
    "tracing-subscriber",
    "signal-hook",
    "listenfd",
    "mcp-local-provider-process",
    "mcp-local-provider-host",
];

#[test]
fn the_engine_has_no_runtime_and_no_program_in_it() {
    let packages = packages("mcp-local-provider-engine", &[]);
    assert!(packages.contains(concat!(
        "mcp-local-provider-core v",
        env!("CARGO_PKG_VERSION")
    )));
    assert_without(&packages, &RUNTIMES);
    assert_without(&packages, &PROGRAM);
}

#[test]
fn a_driver_as_a_library_has_no_program_in_it() {
    for driver in ["mcp-local-provider", "mcp-local-provider-blocking"] {
        assert_without(&packages(driver, &["--no-default-features"]), &PROGRAM);
    }
}

/// For machines where every package counts.
#[test]
fn the_blocking_program_has_few_packages_and_no_async_runtime() {
    let least = ["--no-default-features", "--features", "program"];
    let without_registry = ["--no-default-features", "--features", "program,tls"];
    // The registry's file, its ciphers and its schemas (`jsonschema`) are more than 50 packages: the static build is without them.
    for (features, most) in [(&least[..], 90), (&without_registry, 98), (&[], 152)] {
        let packages = packages("mcp-local-provider-blocking", features);
        assert!(packages.len() <= most, "{} packages", packages.len());
        assert_without(&packages, &RUNTIMES);
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
        // It calls the allocator of the C library.
        if name != "heap" && !manifest.contains("[lints]\nworkspace = true") {
            broken.push(format!("{name} does not take the workspace's lints"));
        }
    }
    let workspace = std::fs::read_to_string(root().join("Cargo.toml")).unwrap();
    assert!(workspace.contains("unsafe_code = \"forbid\""));
    report(broken);
}

/// A reason that is new is then looked at wherever reasons are told apart.
#[test]
fn no_wildcard_stands_for_a_variant() {
    let mut broken = Vec::new();
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
        let library = std::fs::read_to_string(root().join(name).join("src/lib.rs")).unwrap();
        if !library.contains("\n#![cfg_attr(not(test), warn(clippy::wildcard_enum_match_arm))]\n") {
            broken.push(format!("{name} does not ask for the lint"));
        }
    }
    for (name, text) in sources().iter().filter(|(name, _)| !is_test(name)) {
        if text.contains("allow(clippy::wildcard_enum_match_arm") {
            broken.push(format!(
                "{name} allows wildcards; `#[expect]` with a reason does for one match"
            ));
        }
    }
    report(broken);
}

/// The roots of these crates gather what an embedder needs; the examples and the crates' documentation must get by with it.
#[test]
fn examples_name_nothing_that_is_hidden() {
    let mut broken = Vec::new();
    for name in ["core", "engine"] {
        let library = std::fs::read_to_string(root().join(name).join("src/lib.rs")).unwrap();
        let hidden: Vec<String> = library
            .split("#[doc(hidden)]\npub mod ")
            .skip(1)
            .filter_map(|rest| rest.split_once(';'))
            .map(|(module, _)| format!("mcp_local_provider_{name}::{module}"))
            .collect();
        assert!(!hidden.is_empty(), "{name} hides nothing");
        let pages: String = library
            .lines()
            .filter(|line| line.starts_with("//!"))
            .collect();
        let examples = ["core/examples/by_hand.rs", "engine/examples/tokio.rs"].map(|example| {
            (
                example,
                std::fs::read_to_string(root().join(example)).unwrap(),
            )
        });
        for (file, text) in [("its documentation", pages)].iter().chain(&examples) {
            for module in hidden
                .iter()
                .filter(|module| text.contains(module.as_str()))
            {
                broken.push(format!("{name}: {file} names {module}, which is hidden"));
            }
        }
    }
    report(broken);
}

#[test]
fn the_readme_names_the_two_commands() {
    let readme = std::fs::read_to_string(root().join("README.md")).unwrap();
    for command in ["cargo run --release -- --demo", "cargo test --workspace"] {
        assert!(readme.contains(command), "{command}");
    }
}

#[test]
fn each_invariant_of_the_architecture_names_tests_that_exist() {
    let page = std::fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap();
    let sources = sources();
    let invariants: Vec<&str> = page
        .lines()
        .filter(|line| line.contains("Architecture invariant"))
        .collect();
    assert!(invariants.len() > 10, "the page has lost its invariants");
    let mut broken = Vec::new();
    for line in invariants {
        let tests = line
            .strip_suffix(").")
            .and_then(|line| line.rsplit_once(" ("));
        let Some((_, tests)) = tests.filter(|_| line.starts_with("**Architecture invariant:** "))
        else {
            broken.push(format!("no test at the end of: {line}"));
            continue;
        };
        for test in tests.split(", ").map(|test| test.trim_matches('`')) {
            let function = format!("fn {test}(");
            if !sources.values().any(|text| text.contains(&function)) {
                broken.push(format!(
                    "there is no test `{test}`, which is named by: {line}"
                ));
            }
        }
    }
    report(broken);
}

/// A route costs one row: its name, which metrics and audit show, stands in the source once.
#[test]
fn every_route_is_named_in_one_place() {
    let sources = sources();
    let mut broken = Vec::new();
    let mut routes = 0;
    for route in mcp_local_provider_core::api::ROUTES.iter() {
        routes += 1;
        let name = format!("\"{}\"", route.name);
        let places: Vec<&String> = sources
            .iter()
            .filter(|(file, _)| !is_test(file) && !file.starts_with("benches/"))
            .filter(|(_, text)| {
                let code = text.split("#[cfg(test)]\nmod tests {").next();
                code.is_some_and(|code| code.contains(&name))
            })
            .map(|(file, _)| file)
            .collect();
        if places.len() != 1 || !places[0].starts_with("core/src/api/") {
            broken.push(format!("{name} is named in {places:?}"));
        }
    }
    assert!(routes > 30, "{routes} routes");
    report(broken);
}
