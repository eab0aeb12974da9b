//! The values that hold, each with its source: what `check-config` prints.

use super::environment;
use super::sections::Config;
use super::tree::{Node, Origin};
use serde_json::Value;
use std::fmt;

/// One value of a configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting {
    /// Its path, such as `auth.keys[0].name`.
    pub path: String,
    /// Its value as a person writes it. A secret is shown as its source, and never itself.
    pub value: String,
    /// The place at which it was written; `None` for a default.
    pub origin: Option<Origin>,
}

/// The places at which the values of a configuration were written.
#[derive(Clone)]
pub struct Sources(pub(super) Node);

impl fmt::Debug for Sources {
    /// Shows nothing: the values may be secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sources")
    }
}

impl Sources {
    /// Returns every value of `config`, which was read from these sources, in the order of their paths.
    #[must_use]
    pub fn settings(&self, config: &Config) -> Vec<Setting> {
        let setting = |(path, value): (String, String)| {
            let found = self.0.find(&path);
            Setting {
                origin: found.is_there.then(|| found.node.origin.clone()),
                path,
                value,
            }
        };
        values(config).into_iter().map(setting).collect()
    }
}

/// Returns the path and the text of every value of `config`.
pub(super) fn values(config: &Config) -> Vec<(String, String)> {
    let mut values = Vec::new();
    // Every type of a configuration has a form in JSON.
    if let Ok(value) = serde_json::to_value(config) {
        flatten(String::new(), &value, &mut values);
    }
    values
}

fn flatten(path: String, value: &Value, into: &mut Vec<(String, String)>) {
    match value {
        Value::Object(entries) if !entries.is_empty() => {
            for (key, value) in entries {
                let dot = if path.is_empty() { "" } else { "." };
                flatten(format!("{path}{dot}{key}"), value, into);
            }
        }
        Value::Array(items) if !items.is_empty() => {
            for (index, value) in items.iter().enumerate() {
                flatten(format!("{path}[{index}]"), value, into);
            }
        }
        Value::Null => into.push((path, "not set".to_owned())),
        Value::String(text) => into.push((path, text.clone())),
        Value::Array(_) | Value::Object(_) => into.push((path, "none".to_owned())),
        Value::Bool(_) | Value::Number(_) => into.push((path, value.to_string())),
    }
}

/// Returns the names of the variables that set a value which is in no list.
pub(super) fn variables() -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for (path, _) in values(&Config::default()) {
        let path = path.split('[').next().unwrap_or_default();
        // A section that has a short form is a variable too.
        for path in path
            .split_once('.')
            .map(|(section, _)| section)
            .into_iter()
            .chain([path])
        {
            let name = environment::variable_of(path);
            if !names.contains(&name) {
                names.push(name);
            }
        }
    }
    names
}
