//! What the files of a crate import of each other: no circle between folders, and in the core from the top down only.
//!
//! A module and the folder of its name are one folder: `hub/mod.rs` is in `hub`, and `state.rs` in `state`. Tests may import
//! what they like.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

const CRATES: [&str; 11] = [
    "core",
    "mcp",
    "registry",
    "engine",
    "process",
    "agent",
    "host",
    "runtime-smol",
    "runtime-blocking",
    "tests",
    "benches",
];

/// The modules of the core from the lowest to the highest. Those of one row do not import each other.
const LAYERS: &[&[&str]] = &[
    &[
        "text", "time", "id", "machine", "scope", "config", "budget", "backoff",
    ],
    &["wire"],
    &["process"],
    &["error"],
    &["invocation"],
    &["mailbox", "request", "rpc", "supports"],
    &["dialect", "link"],
    &["agents"],
    &["hub", "agent"],
    &["exchange"],
    &["api"],
];

/// `hub::limiter` of `core/src/hub/limiter.rs`; the root of a crate is empty.
type Module = String;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .unwrap()
        .to_path_buf()
}

/// The modules of a crate and their code, without comments and tests.
fn modules(name: &str) -> BTreeMap<Module, String> {
    let source = root().join(name).join("src");
    let mut found = BTreeMap::new();
    read(&source, &source, &mut found);
    assert!(found.len() > 3, "{name} is not where it was");
    found
}

fn read(source: &Path, folder: &Path, found: &mut BTreeMap<Module, String>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            if !path.ends_with("tests") && !path.ends_with("bin") {
                read(source, &path, found);
            }
            continue;
        }
        let place = path.strip_prefix(source).unwrap().with_extension("");
        let mut names: Vec<&str> = place.iter().map(|name| name.to_str().unwrap()).collect();
        if path.extension().is_none_or(|extension| extension != "rs")
            || names.last().is_some_and(|name| name.ends_with("tests"))
        {
            continue;
        }
        if names
            .last()
            .is_some_and(|name| ["mod", "lib"].contains(name))
        {
            names.pop();
        }
        let text = std::fs::read_to_string(&path).unwrap();
        found.insert(names.join("::"), without_tests(&without_comments(&text)));
    }
}

fn without_comments(text: &str) -> String {
    let lines = text
        .lines()
        .filter(|line| !line.trim_start().starts_with("//"));
    lines.collect::<Vec<_>>().join("\n")
}

/// Drops each item that is marked as a test's.
fn without_tests(text: &str) -> String {
    let mut parts = text.split("#[cfg(test)]");
    let mut kept = String::from(parts.next().unwrap());
    for part in parts {
        kept.push_str(&part[item(part)..]);
    }
    kept
}

/// The length of the item that `text` begins with.
fn item(text: &str) -> usize {
    let mut depth = 0_u32;
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            b'{' | b'(' => depth += 1,
            // A field or an arm is over where the item that holds it is.
            b'}' | b')' if depth == 0 => return at,
            b')' => depth -= 1,
            b'}' => {
                depth -= 1;
                if depth == 0 {
                    return at + 1;
                }
            }
            b';' | b',' if depth == 0 => return at + 1,
            _ => {}
        }
    }
    text.len()
}

/// Every path of the crate's own that a module names: in `use`, and in the midst of its code.
fn paths(code: &str) -> BTreeSet<String> {
    let mut paths = BTreeSet::new();
    let mut rest = code;
    while let Some(at) = rest.find("use ") {
        let starts = at == 0 || rest[..at].ends_with(['\n', ' ', ')']);
        rest = &rest[at + 4..];
        if starts && let Some(end) = rest.find(';') {
            expand("", &rest[..end], &mut paths);
        }
    }
    for start in ["crate::", "super::"] {
        for (at, _) in code.match_indices(start) {
            let path = code[at..]
                .split(|c: char| !c.is_alphanumeric() && c != '_' && c != ':')
                .next()
                .unwrap();
            // The `super::` of `super::super::` counts with the whole of its path.
            if !code[..at].ends_with(':') {
                paths.insert(path.trim_end_matches(':').to_owned());
            }
        }
    }
    paths
}

/// `a::{b, c::{d, e}}` as `a::b`, `a::c::d`, `a::c::e`.
fn expand(before: &str, tree: &str, paths: &mut BTreeSet<String>) {
    let tree = tree.trim();
    let Some((head, body)) = tree.split_once('{') else {
        let path = tree.split(" as ").next().unwrap().trim();
        paths.insert(format!("{before}{path}"));
        return;
    };
    let before = format!("{before}{}", head.trim());
    let body = body.trim_end().trim_end_matches('}');
    // A brace was taken off for each that the tree ends with; those of its last branch are missed by nobody.
    let (mut depth, mut start) = (0_i32, 0);
    for (at, byte) in body.bytes().enumerate() {
        match byte {
            b'{' => depth += 1,
            b'}' => depth -= 1,
            b',' if depth == 0 => {
                expand(&before, &body[start..at], paths);
                start = at + 1;
            }
            _ => {}
        }
    }
    if !body[start..].trim().is_empty() {
        expand(&before, &body[start..], paths);
    }
}

/// The module that a path of `module` leads into; `None` for what is not of this crate.
fn resolve(module: &str, path: &str, modules: &BTreeMap<Module, String>) -> Option<Module> {
    let own: Vec<&str> = module.split("::").filter(|name| !name.is_empty()).collect();
    let mut names: Vec<&str> = path.split("::").collect();
    let mut base = match names[0] {
        "crate" => {
            names.remove(0);
            Vec::new()
        }
        "self" => {
            names.remove(0);
            own
        }
        "super" => {
            let mut base = own;
            while names.first() == Some(&"super") {
                names.remove(0);
                base.pop();
            }
            base
        }
        child => {
            let mut place = own.clone();
            place.push(child);
            if !modules.contains_key(&place.join("::")) {
                return None;
            }
            own
        }
    };
    base.extend(names);
    while !modules.contains_key(&base.join("::")) {
        base.pop()?;
    }
    Some(base.join("::"))
}

type Imports = BTreeMap<Module, BTreeSet<Module>>;

fn imports(modules: &BTreeMap<Module, String>) -> Imports {
    let of = |module: &Module, code: &String| {
        let mut imported: BTreeSet<Module> = paths(code)
            .iter()
            .filter_map(|path| resolve(module, path, modules))
            .collect();
        imported.remove(module);
        imported
    };
    modules
        .iter()
        .map(|(module, code)| (module.clone(), of(module, code)))
        .collect()
}

/// The folder of a module: its own when it has one, else that of its parent.
fn folder<'m>(module: &'m str, modules: &BTreeMap<Module, String>) -> &'m str {
    let inside = format!("{module}::");
    if module.is_empty() || modules.keys().any(|other| other.starts_with(&inside)) {
        return module;
    }
    module.rsplit_once("::").map_or("", |(parent, _)| parent)
}

/// A way from `from` to `to`, both included.
fn way(from: &str, to: &str, imports: &Imports) -> Option<Vec<Module>> {
    let mut before: BTreeMap<&str, &str> = BTreeMap::new();
    let mut next = vec![from];
    while let Some(at) = next.pop() {
        if at == to {
            let mut way = vec![at.to_owned()];
            let mut at = at;
            while let Some(previous) = before.get(at).filter(|_| at != from) {
                at = previous;
                way.insert(0, at.to_owned());
            }
            return Some(way);
        }
        for module in &imports[at] {
            if module != from && !before.contains_key(&**module) {
                before.insert(module, at);
                next.push(module);
            }
        }
    }
    None
}

#[test]
fn no_circle_of_imports_goes_through_two_folders() {
    let mut broken = Vec::new();
    for name in CRATES {
        let modules = modules(name);
        let mut imports = imports(&modules);
        // The root only gathers what an embedder needs.
        if let Some(root) = imports.get_mut("") {
            root.clear();
        }
        for (from, imported) in &imports {
            for to in imported {
                if folder(from, &modules) != folder(to, &modules)
                    && let Some(way) = way(to, from, &imports)
                {
                    broken.push(format!("{name}: {from} > {}", way.join(" > ")));
                }
            }
        }
    }
    assert!(broken.is_empty(), "circles\n{}", broken.join("\n"));
}

#[test]
fn imports_of_the_core_point_down() {
    let modules = modules("core");
    let rank = |module: &str| {
        let top = module.split("::").next().unwrap();
        let rank = LAYERS.iter().position(|row| row.contains(&top));
        rank.unwrap_or_else(|| panic!("`{top}` is in no layer of the core"))
    };
    let mut broken = Vec::new();
    for (from, imported) in imports(&modules) {
        if from.is_empty() {
            continue;
        }
        for to in imported.iter().filter(|to| !to.is_empty()) {
            let top = |module: &str| module.split("::").next().unwrap().to_owned();
            let (own, other) = (top(&from), top(to));
            if own != other && rank(to) >= rank(&from) {
                broken.push(format!("{from} imports {to}"));
            }
        }
    }
    assert!(broken.is_empty(), "\n{}", broken.join("\n"));
}
