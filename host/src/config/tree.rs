//! A configuration before it has types. Every value remembers its origin, so that an error can name a line, a variable
//! or a flag.

use std::fmt;
use std::sync::Arc;

/// The place at which a value of the configuration was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// A line of a configuration file.
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
        /// The file's path.
        file: Arc<str>,
        /// The line on which the variable's value ends, from 1.
        line: usize,
        /// The variable's name.
        variable: Arc<str>,
    },
    /// A flag of the command line.
    Flag(&'static str),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::File { name, line } => write!(f, "{name}:{line}"),
            Origin::Variable(name) => write!(f, "{name}"),
            Origin::DotEnv {
                file,
                line,
                variable,
            } => write!(f, "{file}:{line}: {variable}"),
            Origin::Flag(flag) => write!(f, "{flag}"),
        }
    }
}

/// The spelling of a scalar, which decides the types that it can be read as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// Without quotes in a file: a number, a boolean, null or text.
    Plain,
    /// In quotes: always text.
    Quoted,
    /// From the environment or the command line, which have no quotes: any type that is asked for.
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

    /// Returns the value of a key of a section.
    pub(crate) fn get(&self, key: &str) -> Option<&Node> {
        match &self.value {
            Value::Map(entries) => entries.iter().find(|entry| entry.key == key),
            Value::Scalar { .. } | Value::List(_) => None,
        }
        .map(|entry| &entry.node)
    }

    /// Returns the items of a list, and none for any other value.
    pub(crate) fn items(&self) -> &[Node] {
        match &self.value {
            Value::List(items) => items,
            Value::Scalar { .. } | Value::Map(_) => &[],
        }
    }

    /// Returns the text of a scalar.
    pub(crate) fn text(&self) -> Option<&str> {
        match &self.value {
            Value::Scalar { text, .. } => Some(text),
            Value::List(_) | Value::Map(_) => None,
        }
    }

    /// Returns true for an empty value, `~` or `null`.
    pub(crate) fn is_null(&self) -> bool {
        match &self.value {
            Value::Scalar {
                text,
                form: Form::Plain,
            } => {
                matches!(text.as_str(), "" | "~" | "null" | "Null" | "NULL")
            }
            Value::Scalar { .. } | Value::List(_) | Value::Map(_) => false,
        }
    }

    /// Sets the value at `path` and makes missing sections. A number selects an item of a list; the number after the
    /// last one appends an item. A scalar on the path is replaced by a section.
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
        // Names of variables are upper case by custom, so a second search ignores case.
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

    /// Returns the origin of the value at a path like `auth.keys[1].name`, or of the nearest section above it when
    /// nothing is there.
    pub(crate) fn origin_of(&self, path: &str) -> Option<&Origin> {
        let path = path.strip_prefix('.').unwrap_or(path);
        let (child, rest) = match &self.value {
            // Names of models contain dots, so the path alone does not show where a name ends.
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
