//! What is wrong with a configuration, in words that say where and what to do.

use super::tree::Origin;
use std::fmt;

/// One thing that is wrong, or that deserves a warning.
///
/// It displays as `config.yaml:7: limits.burst: must be at least 1; …`, with the parts that are known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Where it was written; `None` when the value is a default.
    pub origin: Option<Origin>,
    /// The value's path, such as `auth.keys[1].name`; empty when the document as a whole is meant.
    pub path: String,
    /// What is wrong and what to do.
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

/// A configuration that cannot be used: every problem that was found, one a line when displayed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError {
    /// The problems, in the order in which they were found; at least one.
    pub problems: Vec<Problem>,
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

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.problems.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            problem.fmt(f)?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigError {}

/// The name among `known` that a person most likely meant by `given`.
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

/// `` `a`, `b` or `c` ``.
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
