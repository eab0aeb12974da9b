//! Errors and warnings of a configuration, each with its place and a remedy.

use super::tree::Origin;
use std::fmt;

/// One error or warning.
///
/// It displays as `config.yaml:7: limits.burst: must be at least 1; …`, with the parts that are known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The place at which the value was written; `None` for a default.
    pub origin: Option<Origin>,
    /// Path of the value, such as `auth.keys[1].name`; empty for the document as a whole.
    pub path: String,
    /// Description and remedy.
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(origin) = &self.origin {
            write!(f, "{origin}: ")?;
        }
        if !self.path.is_empty() {
            write!(f, "{}: ", self.path)?;
        }
        f.write_str(&self.message)
    }
}

/// A configuration that cannot be used. It displays as one line for each problem.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", lines(.problems))]
pub struct ConfigError {
    /// Problems in the order in which they were found; at least one.
    pub problems: Vec<Problem>,
}

/// Formats each problem as a line.
fn lines(problems: &[Problem]) -> String {
    let lines: Vec<String> = problems.iter().map(Problem::to_string).collect();
    lines.join("\n")
}

impl ConfigError {
    pub(crate) fn one(
        origin: Option<Origin>,
        path: impl Into<String>,
        message: impl Into<String>,
    ) -> ConfigError {
        ConfigError {
            problems: vec![Problem {
                origin,
                path: path.into(),
                message: message.into(),
            }],
        }
    }
}

/// Returns the most similar name of `known`, when it is similar enough to be a misspelling.
pub(crate) fn nearest<'k>(given: &str, known: &[&'k str]) -> Option<&'k str> {
    let given = given.to_ascii_lowercase();
    known
        .iter()
        .map(|name| {
            (
                strsim::damerau_levenshtein(&given, &name.to_ascii_lowercase()),
                *name,
            )
        })
        .filter(|(distance, name)| *distance <= (name.len().max(given.len()) / 3).max(1))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, name)| name)
}

/// Joins names as `` `a`, `b` or `c` ``.
pub(crate) fn one_of(names: &[&str]) -> String {
    let mut text = String::new();
    for (index, name) in names.iter().enumerate() {
        if index > 0 {
            text.push_str(if index + 1 == names.len() {
                " or "
            } else {
                ", "
            });
        }
        text.push('`');
        text.push_str(name);
        text.push('`');
    }
    text
}
