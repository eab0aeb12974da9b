//! Variables: those of the process and, below them, those of a `.env` file in the working directory.

use super::error::{ConfigError, Problem};
use super::parse::parse_inline;
use super::tree::{Form, Node, Origin};
use std::collections::BTreeMap;
use std::path::Path;

/// The prefix of variables that are values of the configuration.
const PREFIX: &str = "MLP_";
/// A `.env` file larger than this is not read, in bytes.
const MAX_DOT_ENV_BYTES: u64 = 1 << 20;

/// A name with more parts than this names nothing.
const MAX_PATH: usize = 16;

/// The variables that a program sees. Looked up here instead of in the process, because a `.env` file adds to them.
#[derive(Clone, Default)]
pub struct Environment {
    variables: BTreeMap<String, (String, Origin)>,
    /// Lines of the `.env` file that could not be read.
    warnings: Vec<Problem>,
}

impl std::fmt::Debug for Environment {
    /// Names only: values may be secrets.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.variables.keys()).finish()
    }
}

impl Environment {
    /// The variables of this process, and of `.env` in the working directory where the process has none of that name.
    pub fn of_process() -> Environment {
        let variables =
            std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value)));
        // A value that is not UTF-8 cannot be meant for us.
        let variables =
            variables.filter_map(|(name, value)| Some((name, value.into_string().ok()?)));
        Environment::new(variables).with_dot_env(Path::new(".env"))
    }

    /// The variables given.
    pub fn new(variables: impl IntoIterator<Item = (String, String)>) -> Environment {
        let variables = variables.into_iter().map(|(name, value)| {
            let origin = Origin::Variable(name.as_str().into());
            (name, (value, origin))
        });
        Environment {
            variables: variables.collect(),
            warnings: Vec::new(),
        }
    }

    /// Adds the variables of a `.env` file that are not set already. A file that is not there adds nothing.
    pub fn with_dot_env(mut self, path: &Path) -> Environment {
        use std::io::Read;
        let mut text = String::new();
        let read = std::fs::File::open(path)
            .and_then(|file| file.take(MAX_DOT_ENV_BYTES).read_to_string(&mut text));
        match read {
            Ok(_) => self.add_dot_env(&text),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => self.warnings.push(Problem {
                origin: None,
                path: String::new(),
                message: format!("{} was not read: {error}", path.display()),
            }),
        }
        self
    }

    fn add_dot_env(&mut self, text: &str) {
        for (index, line) in text.lines().enumerate() {
            let line_number = index + 1;
            match dot_env_line(line) {
                Ok(None) => {}
                Ok(Some((name, value))) => {
                    let origin = Origin::DotEnv {
                        variable: name.as_str().into(),
                        line: line_number,
                    };
                    self.variables.entry(name).or_insert((value, origin));
                }
                Err(message) => self.warnings.push(Problem {
                    origin: Some(Origin::File {
                        name: ".env".into(),
                        line: line_number,
                    }),
                    path: String::new(),
                    message: format!("this line is skipped: {message}"),
                }),
            }
        }
    }

    /// The value of a variable.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.variables.get(name).map(|(value, _)| value.as_str())
    }

    /// The value of a variable, unless it is empty, which the XDG specification says to treat as unset.
    pub fn get_nonempty(&self, name: &str) -> Option<&str> {
        self.get(name).filter(|value| !value.is_empty())
    }

    pub(crate) fn warnings(&self) -> &[Problem] {
        &self.warnings
    }

    /// Puts every `MLP_…` variable into the tree, over what is there.
    pub(crate) fn override_tree(&self, root: &mut Node) -> Result<(), ConfigError> {
        for (name, (value, origin)) in &self.variables {
            let Some(path) = name.strip_prefix(PREFIX) else {
                continue;
            };
            let path: Vec<String> = path.split("__").map(segment).collect();
            if path.len() > MAX_PATH {
                let message = "the name has too many parts; no value is that deep";
                return Err(ConfigError::one(Some(origin.clone()), "", message));
            }
            if path.iter().any(String::is_empty) {
                let message =
                    "a part of the name is empty; write MLP_SECTION__KEY, as in MLP_LIMITS__BURST";
                return Err(ConfigError::one(Some(origin.clone()), "", message));
            }
            root.set(&path, loose(value, origin)?);
        }
        Ok(())
    }
}

/// A value without quotes. One that begins like a list or a section is read as one.
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

/// One line of a `.env` file: nothing, or a name and a value.
fn dot_env_line(line: &str) -> Result<Option<(String, String)>, &'static str> {
    let line = line.trim();
    if line.is_empty() || line.starts_with('#') {
        return Ok(None);
    }
    let line = line.strip_prefix("export ").unwrap_or(line);
    let (name, rest) = line.split_once('=').ok_or("there is no `=`")?;
    let name = name.trim();
    let proper = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    if name.is_empty() || !name.chars().all(proper) {
        return Err("what stands before `=` is no name");
    }
    Ok(Some((name.to_owned(), dot_env_value(rest.trim())?)))
}

fn dot_env_value(text: &str) -> Result<String, &'static str> {
    let mut chars = text.chars();
    let quote = match chars.next() {
        Some(quote @ ('"' | '\'')) => quote,
        _ => {
            // A comment begins at a `#` that follows a space.
            let end = text
                .find(" #")
                .or_else(|| text.find("\t#"))
                .unwrap_or(text.len());
            let value = text.get(..end).unwrap_or(text).trim_end();
            return Ok(if value.starts_with('#') {
                String::new()
            } else {
                value.to_owned()
            });
        }
    };
    let mut value = String::new();
    while let Some(c) = chars.next() {
        match c {
            c if c == quote => {
                let rest = chars.as_str().trim_start();
                return if rest.is_empty() || rest.starts_with('#') {
                    Ok(value)
                } else {
                    Err("something follows the closing quote")
                };
            }
            '\\' if quote == '"' => match chars.next() {
                Some('n') => value.push('\n'),
                Some('t') => value.push('\t'),
                Some('r') => value.push('\r'),
                Some(other) => value.push(other),
                None => break,
            },
            c => value.push(c),
        }
    }
    Err("the closing quote is missing")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_dot_env_file_gives_what_the_process_has_not() {
        let mut environment = Environment::new([("TAKEN".to_owned(), "process".to_owned())]);
        environment.add_dot_env(
            "# comment\n\nA=1\nexport B = two words # comment\nC='single #kept\\n'\nD=\"a\\nb\\\"\" # comment\nE=\nTAKEN=file\nF=a#b\nnonsense\nG='open\n",
        );
        let all: Vec<_> = environment
            .variables
            .iter()
            .map(|(name, (value, _))| (name.as_str(), value.as_str()))
            .collect();
        assert_eq!(
            all,
            [
                ("A", "1"),
                ("B", "two words"),
                ("C", "single #kept\\n"),
                ("D", "a\nb\""),
                ("E", ""),
                ("F", "a#b"),
                ("TAKEN", "process"),
            ]
        );
        let warnings: Vec<String> = environment
            .warnings
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(
            warnings,
            [
                ".env:10: this line is skipped: there is no `=`",
                ".env:11: this line is skipped: the closing quote is missing"
            ]
        );
    }
}
