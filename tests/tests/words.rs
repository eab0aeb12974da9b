//! Wording of the sources: the first words of documentation comments, and words that are not the field's.
#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};

/// Words that no doc line begins with: a question word or a condition names no thing and no action.
const QUESTIONS: [&str; 12] = [
    "What", "Who", "Whom", "Whose", "Where", "How", "Which", "When", "That", "Whether", "Why", "If",
];

/// Words for which the field has its own: inbox, request, mistake, route, listener.
const FOREIGN: [&str; 5] = ["letterbox", "errand", "slip", "desk", "door"];

/// Doc blocks of each crate, in per cent, that may begin with such a word.
const CEILINGS: [(&str, usize); 12] = [
    ("core", 3),
    ("mcp", 3),
    ("registry", 3),
    ("engine", 3),
    ("process", 3),
    ("agent", 3),
    ("host", 3),
    ("runtime-smol", 3),
    ("runtime-blocking", 3),
    ("tests", 3),
    ("benches", 3),
    ("fuzz", 3),
];

/// Returns path and text of every Rust file below `folder`.
fn sources(folder: &Path) -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                if !path.ends_with("target") {
                    folders.push(path);
                }
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = std::fs::read_to_string(&path).unwrap();
                found.push((path, text));
            }
        }
    }
    found
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

/// Returns line number and text of the first line of each doc block, with line numbers from 1.
fn first_doc_lines(text: &str) -> Vec<(usize, &str)> {
    let mut block = None;
    let mut found = Vec::new();
    for (at, line) in text.lines().enumerate() {
        let line = line.trim_start();
        let mark = ["//!", "///"].into_iter().find(|mark| {
            line.strip_prefix(mark)
                .is_some_and(|rest| !rest.starts_with('/'))
        });
        if let Some(mark) = mark
            && block != Some(mark)
        {
            found.push((at + 1, line.trim_start_matches(mark).trim()));
        }
        block = mark;
    }
    found
}

fn begins_badly(line: &str) -> bool {
    let first = line.split(|c: char| !c.is_alphanumeric()).next();
    first.is_some_and(|first| QUESTIONS.contains(&first))
}

/// Returns true when the line holds the word or its plural, in a name too, outside of string literals.
fn holds(line: &str, word: &str) -> bool {
    let line = line.replace("\\\"", "");
    let unquoted = line.split('"').step_by(2);
    let mut words = unquoted.flat_map(|part| part.split(|c: char| !c.is_alphabetic()));
    words.any(|found| {
        let found = found.to_ascii_lowercase();
        found == word || found.strip_suffix('s') == Some(word)
    })
}

#[test]
fn a_doc_line_begins_with_a_verb_or_a_noun() {
    let mut broken = Vec::new();
    for (name, ceiling) in CEILINGS {
        let mut blocks = 0;
        let mut bad = Vec::new();
        for (path, text) in sources(&root().join(name)) {
            for (at, line) in first_doc_lines(&text) {
                blocks += 1;
                if begins_badly(line) {
                    bad.push(format!("{}:{at}: {line}", path.display()));
                }
            }
        }
        assert!(blocks > 0 || name == "fuzz", "{name} has no comments");
        if bad.len() * 100 > ceiling * blocks {
            broken.push(format!(
                "{name}: {} of {blocks} doc blocks begin with a question word or `If`, more than {ceiling} %:\n{}",
                bad.len(),
                bad.join("\n")
            ));
        }
    }
    assert!(broken.is_empty(), "\n{}", broken.join("\n"));
}

#[test]
fn no_source_uses_a_word_of_its_own_for_a_thing_that_the_field_names() {
    let mut broken = Vec::new();
    for (name, _) in CEILINGS {
        for (path, text) in sources(&root().join(name)) {
            for (at, line) in text.lines().enumerate() {
                for word in FOREIGN.into_iter().filter(|word| holds(line, word)) {
                    broken.push(format!("{}:{}: {word}", path.display(), at + 1));
                }
            }
        }
    }
    assert!(broken.is_empty(), "\n{}", broken.join("\n"));
}

#[test]
fn the_counts_see_what_they_are_for() {
    let text = "//! What it is.\n//! How it works.\n\n/// Returns one.\n/// When asked.\nfn one() {}\n//// Why\n    /// If two.\n";
    let bad: Vec<usize> = first_doc_lines(text)
        .into_iter()
        .filter(|(_, line)| begins_badly(line))
        .map(|(at, _)| at)
        .collect();
    assert_eq!(bad, [1, 8]);
    assert!(!begins_badly("Whatever") && !begins_badly(""));
    assert!(holds("fn checked_on_every_door() {", "door"));
    assert!(holds("// two slips", "slip"));
    assert!(!holds("let text = \"a door\";", "door"));
    assert!(!holds("// a desktop", "desk"));
}
