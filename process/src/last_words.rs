//! The last lines of a child's standard error, in an order in which a person finds the reason.

use std::collections::VecDeque;

/// Lines that are kept.
const LINES: usize = 20;

/// Characters that are told of all of them.
const TOLD: usize = 2000;

/// The last lines of a child's standard error. They may quote what the child was sent: show them only if that was no secret.
#[derive(Debug, Default)]
pub struct LastWords(VecDeque<String>);

impl LastWords {
    /// Keeps a line, and forgets the oldest beyond 20.
    pub(crate) fn push(&mut self, line: String) {
        if self.0.len() == LINES {
            self.0.pop_front();
        }
        self.0.push_back(line);
    }

    /// Returns the line that holds the error, then the other lines in their order, with ` | ` between them and 2000 characters at
    /// most. Empty when nothing was written.
    #[must_use]
    pub fn told(&self) -> String {
        let Some(error) = self.error() else {
            return String::new();
        };
        let first = self.0.get(error).into_iter();
        let others = self.0.iter().enumerate();
        let others = others.filter(|(at, _)| *at != error).map(|(_, line)| line);
        let lines: Vec<&str> = first.chain(others).map(String::as_str).collect();
        lines.join(" | ").chars().take(TOLD).collect()
    }

    /// Finds the line that holds the error: the last one that names one, else the last one that speaks of one, else the last one
    /// with words. Runtimes write more behind it: where it came from, a brace, their version.
    fn error(&self) -> Option<usize> {
        let last = |fits: fn(&str) -> bool| self.0.iter().rposition(|line| fits(line));
        last(names_error)
            .or_else(|| last(speaks_of_error))
            .or_else(|| last(has_words))
            .or(self.0.len().checked_sub(1))
    }
}

/// Returns true for a line that names an error: `Error: …`, `TypeError: …`, `error[E1]: …`, `fatal: …`, `… panicked at …`.
#[must_use]
pub fn names_error(line: &str) -> bool {
    let line = line.to_ascii_lowercase();
    let mut words = line.split_inclusive(':').filter(|part| part.ends_with(':'));
    let names = words.any(|part| {
        let word = part
            .trim_end_matches(':')
            .rsplit(' ')
            .next()
            .unwrap_or_default();
        let word = word.split_once('[').map_or(word, |(word, _)| word);
        word.ends_with("error") || word.ends_with("exception") || word == "fatal"
    });
    names || line.contains("panicked at") || line.contains("level=error")
}

fn speaks_of_error(line: &str) -> bool {
    const WORDS: [&str; 10] = [
        "error",
        "fail",
        "fatal",
        "cannot",
        "can't",
        "could not",
        "denied",
        "not found",
        "no such",
        "unable",
    ];
    let line = line.to_ascii_lowercase();
    // A line of a stack tells where, not what.
    !line.starts_with("at ") && WORDS.iter().any(|word| line.contains(word))
}

fn has_words(line: &str) -> bool {
    let is_version = line.starts_with("Node.js v");
    !is_version && line.chars().filter(|c| c.is_alphabetic()).count() > 2
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(text: &str) -> String {
        let mut words = LastWords::default();
        for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
            words.push(line.to_owned());
        }
        words.told()
    }

    #[test]
    fn the_line_that_holds_the_error_comes_first() {
        for (text, first) in [
            (
                "node:internal/modules/cjs/loader:1520\n  throw err;\n  ^\n\nError: Cannot find module '/opt/x'\n    at Module._load (node:internal:1)\n  code: 'MODULE_NOT_FOUND',\n}\n\nNode.js v24.19.0",
                "Error: Cannot find module '/opt/x'",
            ),
            (
                "Traceback (most recent call last):\n  File \"x.py\", line 1, in <module>\n    raise ValueError('no key')\nValueError: no key",
                "ValueError: no key",
            ),
            (
                "thread 'main' panicked at src/main.rs:1:1:\nno home\nnote: run with `RUST_BACKTRACE=1`",
                "thread 'main' panicked at src/main.rs:1:1:",
            ),
            (
                "starting\nauthentication failed for ada\nbye\n}",
                "authentication failed for ada",
            ),
            (
                "starting up\nnot logged in\n}\nNode.js v24.21.0",
                "not logged in",
            ),
            ("}", "}"),
        ] {
            let told = told(text);
            assert_eq!(told.split(" | ").next(), Some(first), "{told}");
            let lines = text.lines().filter(|line| !line.trim().is_empty()).count();
            assert_eq!(told.split(" | ").count(), lines, "nothing is lost: {told}");
        }
        assert_eq!(told(""), "");
    }

    #[test]
    fn twenty_lines_are_kept_and_no_more_than_2000_characters_told() {
        let text: String = (0..30)
            .map(|number| format!("line {number} {}\n", "é".repeat(60)))
            .collect();
        let words = told(&text);
        assert!(words.starts_with("line 29"), "{words}");
        assert!(
            words.contains("line 10 ") && !words.contains("line 9 "),
            "{words}"
        );
        let long: String = (0..20).map(|_| "é".repeat(300) + "\n").collect();
        assert_eq!(told(&long).chars().count(), 2000);
    }
}
