//! Variables of the process and, with lower precedence, of a `.env` file.

use super::dot_env;
use super::error::{ConfigError, Problem, nearest};
use super::mcp_server;
use super::parse::parse_inline;
use super::settings;
use super::shorthand;
use super::tree::{Form, Node, Origin};
use mcp_local_provider_engine::proxy::Proxies;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::sync::Arc;

/// Prefix of the variables that set values of the configuration.
const PREFIX: &str = "MLP_";
/// Size in bytes above which a `.env` file is refused.
const MAX_DOT_ENV_BYTES: u64 = 1 << 20;
/// Parts of a variable's name, at most; no value of the configuration is nested deeper.
const MAX_PATH: usize = 16;

/// The variables that a program reads. Kept apart from those of the process, because a `.env` file adds to them.
#[derive(Clone, Default)]
pub struct Environment {
    variables: BTreeMap<String, (String, Origin)>,
    /// Warnings for a `.env` file that could not be read, or for single lines of it.
    warnings: Vec<Problem>,
}

impl std::fmt::Debug for Environment {
    /// Shows names only: values may be secrets.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.variables.keys()).finish()
    }
}

impl Environment {
    /// Copies the variables of this process.
    pub fn of_process() -> Environment {
        let variables =
            std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value)));
        // A value that is not UTF-8 is not one of ours.
        Environment::new(
            variables.filter_map(|(name, value)| Some((name, value.into_string().ok()?))),
        )
    }

    /// Makes an environment of the given names and values.
    pub fn new(variables: impl IntoIterator<Item = (String, String)>) -> Environment {
        let mut environment = Environment {
            variables: BTreeMap::new(),
            warnings: Vec::new(),
        };
        for (name, value) in variables {
            let origin = Origin::Variable(name.as_str().into());
            environment.variables.insert(name, (value, origin));
        }
        environment
    }

    /// Proxies that the usual variables name.
    pub(crate) fn proxies(&self) -> Proxies {
        Proxies::of(|name| self.get(name).map(str::to_owned))
    }

    /// Adds the variables of a `.env` file that are not set already. An unreadable line becomes a warning.
    ///
    /// # Errors
    /// Fails when the file is missing, not UTF-8, or larger than 1 MiB.
    pub(crate) fn add_file(&mut self, path: &Path) -> io::Result<()> {
        let mut text = String::new();
        let mut file = File::open(path)?.take(MAX_DOT_ENV_BYTES + 1);
        file.read_to_string(&mut text)?;
        if file.limit() == 0 {
            let message = format!("it has more than {MAX_DOT_ENV_BYTES} bytes");
            return Err(io::Error::new(io::ErrorKind::InvalidData, message));
        }
        self.add_dot_env(&path.display().to_string(), &text);
        Ok(())
    }

    fn add_dot_env(&mut self, name: &str, text: &str) {
        let name: Arc<str> = name.into();
        for entry in dot_env::entries(text) {
            match entry.content {
                Ok((variable, value)) => {
                    let origin = Origin::DotEnv {
                        file: Arc::clone(&name),
                        line: entry.line,
                        variable: variable.as_str().into(),
                    };
                    self.variables.entry(variable).or_insert((value, origin));
                }
                Err(message) => self.warnings.push(Problem {
                    origin: Some(Origin::File {
                        name: Arc::clone(&name),
                        line: entry.line,
                    }),
                    path: String::new(),
                    message,
                }),
            }
        }
    }

    /// Adds a warning about a file as a whole.
    pub(crate) fn warn(&mut self, message: String) {
        self.warnings.push(Problem {
            origin: None,
            path: String::new(),
            message,
        });
    }

    /// Returns the value of a variable.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.variables.get(name).map(|(value, _)| value.as_str())
    }

    /// Returns the value of a variable unless it is empty, which the XDG Base Directory specification treats as unset.
    pub fn get_nonempty(&self, name: &str) -> Option<&str> {
        self.get(name).filter(|value| !value.is_empty())
    }

    /// Returns the value and the place of a variable unless it is empty.
    pub(crate) fn entry(&self, name: &str) -> Option<(&str, &Origin)> {
        let entry = self.variables.get(name);
        let entry = entry.map(|(value, origin)| (value.as_str(), origin));
        entry.filter(|(value, _)| !value.trim().is_empty())
    }

    pub(crate) fn warnings(&self) -> &[Problem] {
        &self.warnings
    }

    /// Writes the value of every `MLP_…` variable into the tree, over the value of the file, and adds a problem for each one
    /// that cannot be written.
    pub(crate) fn override_tree(&self, root: &mut Node, problems: &mut Vec<Problem>) {
        for (name, (value, origin)) in &self.variables {
            let Some(path) = name.strip_prefix(PREFIX) else {
                continue;
            };
            let mut path: Vec<String> = path.split("__").map(segment).collect();
            if let Some(first) = path.first_mut()
                && let Some(section) = mcp_server::section_named(first)
            {
                section.clone_into(first);
            }
            let refused = if path.len() > MAX_PATH {
                "the name has too many parts; no value is that deep"
            } else if path.iter().any(String::is_empty) {
                "a part of the name is empty; write MLP_SECTION__KEY, as in MLP_LIMITS__BURST"
            } else {
                match loose(value, origin) {
                    Ok(node) => {
                        root.set(&path, node);
                        // Another variable may set a value of the section.
                        shorthand::expand(root, problems);
                    }
                    Err(error) => problems.extend(error.problems),
                }
                continue;
            };
            problems.push(Problem {
                origin: Some(origin.clone()),
                path: String::new(),
                message: refused.to_owned(),
            });
        }
    }
}

/// Returns the name of the variable that sets the value at `path`.
pub(crate) fn variable_of(path: &str) -> String {
    format!("{PREFIX}{}", path.replace('.', "__").to_ascii_uppercase())
}

/// Returns the name of a variable that sets something and is nearest to the one at `origin`.
pub(crate) fn nearest_variable(origin: &Origin) -> Option<String> {
    let given = match origin {
        Origin::Variable(name) => name,
        Origin::DotEnv { variable, .. } => variable,
        Origin::File { .. } | Origin::Flag(_) => return None,
    };
    let names = settings::variables();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    nearest(given, &names).map(str::to_owned)
}

/// Makes a node of a value without quotes. A value in brackets or braces is parsed as a list or section.
pub(crate) fn loose(text: &str, origin: &Origin) -> Result<Node, ConfigError> {
    let trimmed = text.trim();
    let bracketed = |open, close| trimmed.starts_with(open) && trimmed.ends_with(close);
    if bracketed('[', ']') || bracketed('{', '}') {
        return parse_inline(trimmed, origin);
    }
    Ok(Node::scalar(text, Form::Loose, origin.clone()))
}

fn segment(text: &str) -> String {
    if text.chars().any(|c| c.is_lowercase()) {
        text.to_owned()
    } else {
        text.to_lowercase()
    }
}
