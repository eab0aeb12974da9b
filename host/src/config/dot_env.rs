//! The entries of a `.env` file, as dotenvy reads them, each with its line.
//!
//! `$` stands for itself. dotenvy would replace it and the name after it by the value of that variable, or by nothing,
//! which would silently damage a key that contains a `$`.

use std::cell::Cell;
use std::io::{self, Read};

/// Replaces a `$` before dotenvy reads the text. A Unicode noncharacter, which no text should contain.
const DOLLAR: char = '\u{FDD0}';

/// One entry, or an error.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Entry {
    /// Line on which the variable's value ends, or the unreadable entry begins. From 1.
    pub(super) line: usize,
    /// A name and a value, or an error that quotes nothing of the file, which may hold secrets.
    pub(super) content: Result<(String, String), String>,
}

/// Reads the entries of a whole file.
pub(super) fn entries(text: &str) -> Vec<Entry> {
    let text = text.strip_prefix('\u{FEFF}').unwrap_or(text);
    let mut hidden = hide_dollars(text);
    if !hidden.ends_with('\n') {
        hidden.push('\n');
    }
    let line = Cell::new(0);
    let lines = Lines {
        rest: hidden.as_bytes(),
        line: &line,
    };
    let entry = |read: dotenvy::Result<(String, String)>| match read {
        Ok((name, value)) => Entry {
            line: line.get(),
            content: Ok((name, value.replace(DOLLAR, "$"))),
        },
        Err(error) => unreadable(&error, line.get()),
    };
    dotenvy::from_read_iter(lines).map(entry).collect()
}

/// Makes the error for an unreadable entry that ends on `line`.
fn unreadable(error: &dotenvy::Error, line: usize) -> Entry {
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "dotenvy's errors: the others are told by their own text"
    )]
    let (text, message) = match error {
        dotenvy::Error::LineParse(text, _) => match text.strip_suffix('\n') {
            // Only an entry that runs to the end of the file still has its line break.
            Some(text) => (
                text,
                "this line and all below it are skipped: the closing quote is missing".to_owned(),
            ),
            None => (
                text.as_str(),
                "this line is skipped: expected NAME=VALUE, with quotes round a value that has spaces, quotes, `#` or `\\` in it"
                    .to_owned(),
            ),
        },
        other => ("", format!("this line is skipped: {other}")),
    };
    Entry {
        line: line - text.matches('\n').count().min(line),
        content: Err(message),
    }
}

/// Replaces each `$` by [`DOLLAR`], except after a backslash, where dotenvy keeps it.
fn hide_dollars(text: &str) -> String {
    let mut escaped = false;
    let hide = |c| {
        let hidden = if c == '$' && !escaped { DOLLAR } else { c };
        escaped = c == '\\' && !escaped;
        hidden
    };
    text.chars().map(hide).collect()
}

/// A reader that returns at most one line at a time, so that the line of the entry being read is known.
struct Lines<'t> {
    rest: &'t [u8],
    /// Lines that were read to their end.
    line: &'t Cell<usize>,
}

impl Read for Lines<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let line = self.rest.split_inclusive(|byte| *byte == b'\n').next();
        let length = line.unwrap_or_default().len().min(into.len());
        let (mut part, rest) = self.rest.split_at_checked(length).unwrap_or_default();
        self.rest = rest;
        if part.ends_with(b"\n") {
            self.line.set(self.line.get() + 1);
        }
        part.read(into)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn values_are_read_as_a_shell_would_but_for_the_dollar() {
        let text = r#"# comment

A=1
export B='two words' # comment
C='single #kept\n'
D="a\nb\"" # comment
E=
F=a#b
PEM="-----BEGIN
-----END"
G=pa$$word${A}$
H="pa$A\$A"
I='pa$A\$A\\$A'
J=pa\$A
K.l = spaced"#;
        let found: Vec<_> = entries(text)
            .into_iter()
            .map(|Entry { line, content }| {
                let (name, value) = content.unwrap();
                (line, name, value)
            })
            .collect();
        let expected = [
            (3, "A", "1"),
            (4, "B", "two words"),
            (5, "C", "single #kept\\n"),
            (6, "D", "a\nb\""),
            (7, "E", ""),
            (8, "F", "a#b"),
            (10, "PEM", "-----BEGIN\n-----END"),
            (11, "G", "pa$$word${A}$"),
            (12, "H", "pa$A$A"),
            (13, "I", "pa$A\\$A\\\\$A"),
            (14, "J", "pa$A"),
            (15, "K.l", "spaced"),
        ];
        let expected =
            expected.map(|(line, name, value)| (line, name.to_owned(), value.to_owned()));
        assert_eq!(found, expected);
    }

    #[test]
    fn what_cannot_be_read_is_skipped_with_its_line_and_without_its_text() {
        let skipped = "this line is skipped: expected NAME=VALUE, with quotes round a value that has spaces, quotes, `#` or `\\` in it";
        let unclosed = "this line and all below it are skipped: the closing quote is missing";
        let text =
            "A=1\r\nsecret\n-B=2\nC=two words\nD=\"\\q\"\nE='x\ny' z\n\nF=3\nG='open\n\nH=4\n\n";
        let lines: Vec<_> = entries(text)
            .into_iter()
            .map(|Entry { line, content }| {
                (
                    line,
                    content.map_or_else(|message| message, |(name, _)| name),
                )
            })
            .collect();
        let expected = [
            (1, "A"),
            (2, skipped),
            (3, skipped),
            (4, skipped),
            (5, skipped),
            (6, skipped),
            (9, "F"),
            (10, unclosed),
        ];
        assert_eq!(lines, expected.map(|(line, said)| (line, said.to_owned())));
        assert_eq!(entries("\u{FEFF}A=1").len(), 1);
        assert_eq!(entries(""), []);
        let long = format!("{}A=1\nB='{}'\nC", "# x\n".repeat(9), "long ".repeat(9_000));
        assert_eq!(
            entries(&long)
                .iter()
                .map(|entry| entry.line)
                .collect::<Vec<_>>(),
            [10, 11, 12]
        );
    }

    proptest::proptest! {
        /// Any text gives entries, each on a line that exists.
        #[test]
        fn any_text_gives_entries(text in "(?s)([A-Za-z ='\"\\\\#$\n\r{}]|.){0,80}") {
            let lines = text.matches('\n').count() + 1;
            for entry in entries(&text) {
                proptest::prop_assert!((1..=lines).contains(&entry.line), "{entry:?}");
            }
        }
    }
}
