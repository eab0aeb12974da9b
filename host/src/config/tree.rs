//! A configuration as it was written, before it has types: every value remembers where it came from,
//! so that any later complaint can point at a line, a variable or a flag.

use std::fmt;
use std::sync::Arc;

/// Where a value of the configuration was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// A configuration file, with its line counted from 1.
    File {
        /// The file's name as it was given.
        name: Arc<str>,
        /// The line, from 1.
        line: usize,
    },
    /// An environment variable.
    Variable(Arc<str>),
    /// A variable that a `.env` file sets.
    DotEnv {
        /// The variable's name.
        variable: Arc<str>,
        /// The line of the `.env` file, from 1.
        line: usize,
    },
    /// A flag of the command line.
    Flag(&'static str),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::File { name, line } => write!(f, "{name}:{line}"),
            Origin::Variable(name) => write!(f, "{name}"),
            Origin::DotEnv { variable, line } => write!(f, ".env:{line}: {variable}"),
            Origin::Flag(flag) => write!(f, "{flag}"),
        }
    }
}

/// How a scalar was written, which decides what it may be read as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// Without quotes in a file: a number, a boolean, null or text.
    Plain,
    /// In quotes: always text.
    Quoted,
    /// From the environment or the command line, where quotes do not exist: whatever is asked for.
    Loose,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Value {
    Scalar { text: String, form: Form },
    List(Vec<Node>),
    Map(Vec<Entry>),
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Entry {
    pub(crate) key: String,
    pub(crate) origin: Origin,
    pub(crate) node: Node,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Node {
    pub(crate) value: Value,
    pub(crate) origin: Origin,
}

impl Node {
    pub(crate) fn map(origin: Origin) -> Node {
        Node {
            value: Value::Map(Vec::new()),
            origin,
        }
    }

    pub(crate) fn scalar(text: impl Into<String>, form: Form, origin: Origin) -> Node {
        Node {
            value: Value::Scalar {
                text: text.into(),
                form,
            },
            origin,
        }
    }

    /// The value of a key of a section.
    pub(crate) fn get(&self, key: &str) -> Option<&Node> {
        match &self.value {
            Value::Map(entries) => entries.iter().find(|entry| entry.key == key),
            _ => None,
        }
        .map(|entry| &entry.node)
    }

    /// The items of a list; of anything else none.
    pub(crate) fn items(&self) -> &[Node] {
        match &self.value {
            Value::List(items) => items,
            _ => &[],
        }
    }

    /// The text of a scalar.
    pub(crate) fn text(&self) -> Option<&str> {
        match &self.value {
            Value::Scalar { text, .. } => Some(text),
            _ => None,
        }
    }

    /// Whether this stands for "nothing given": an empty document, `~` or `null`.
    pub(crate) fn is_null(&self) -> bool {
        match &self.value {
            Value::Scalar {
                text,
                form: Form::Plain,
            } => {
                matches!(text.as_str(), "" | "~" | "null" | "Null" | "NULL")
            }
            _ => false,
        }
    }

    /// Sets the value at `path`, making the sections on the way. A number selects an entry of a list, and the
    /// number after the last one appends to it. A scalar on the way is replaced by a section.
    pub(crate) fn set(&mut self, path: &[String], leaf: Node) {
        let Some((first, rest)) = path.split_first() else {
            *self = leaf;
            return;
        };
        if let (Value::List(items), Ok(index)) = (&mut self.value, first.parse::<usize>()) {
            if index == items.len() {
                items.push(Node::map(leaf.origin.clone()));
            }
            if let Some(item) = items.get_mut(index) {
                item.set(rest, leaf);
                return;
            }
        }
        if !matches!(self.value, Value::Map(_)) {
            *self = Node::map(leaf.origin.clone());
        }
        let Value::Map(entries) = &mut self.value else {
            return;
        };
        // Environment names are upper case by custom, so that a name is found whatever its case.
        let position = entries
            .iter()
            .position(|entry| entry.key == *first)
            .or_else(|| {
                entries
                    .iter()
                    .position(|entry| entry.key.eq_ignore_ascii_case(first))
            });
        match position.and_then(|position| entries.get_mut(position)) {
            Some(entry) => entry.node.set(rest, leaf),
            None => {
                let origin = leaf.origin.clone();
                let mut node = Node::map(origin.clone());
                node.set(rest, leaf);
                entries.push(Entry {
                    key: first.clone(),
                    origin,
                    node,
                });
            }
        }
    }

    /// Where the value at a path like `auth.keys[1].name` was written; the nearest section above it when it was not.
    pub(crate) fn origin_of(&self, path: &str) -> Option<&Origin> {
        let path = path.strip_prefix('.').unwrap_or(path);
        let (child, rest) = match &self.value {
            // Names of models have dots in them, so that the path alone does not tell where a name ends.
            Value::Map(entries) => entries.iter().find_map(|entry| {
                let rest = path.strip_prefix(entry.key.as_str())?;
                let ends = rest.is_empty() || rest.starts_with(['.', '[']);
                ends.then_some((&entry.node, rest))
            })?,
            Value::List(items) => {
                let (index, rest) = path.strip_prefix('[')?.split_once(']')?;
                (items.get(index.parse::<usize>().ok()?)?, rest)
            }
            Value::Scalar { .. } => return None,
        };
        child.origin_of(rest).or(Some(&child.origin))
    }
}
