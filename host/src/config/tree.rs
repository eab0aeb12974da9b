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
    Scalar {
        text: String,
        form: Form,
    },
    List(Vec<Node>),
    Map(Vec<Entry>),
    /// A value whose problem has been reported. Readers pass over it, so that the rest is read too.
    Refused,
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
            Value::Scalar { .. } | Value::List(_) | Value::Refused => None,
        }
        .map(|entry| &entry.node)
    }

    /// Returns the value of a key of a section, to be changed.
    pub(crate) fn get_mut(&mut self, key: &str) -> Option<&mut Node> {
        match &mut self.value {
            Value::Map(entries) => entries.iter_mut().find(|entry| entry.key == key),
            Value::Scalar { .. } | Value::List(_) | Value::Refused => None,
        }
        .map(|entry| &mut entry.node)
    }

    /// Returns the items of a list, and none for any other value.
    pub(crate) fn items(&self) -> &[Node] {
        match &self.value {
            Value::List(items) => items,
            Value::Scalar { .. } | Value::Map(_) | Value::Refused => &[],
        }
    }

    /// Returns the text of a scalar.
    pub(crate) fn text(&self) -> Option<&str> {
        match &self.value {
            Value::Scalar { text, .. } => Some(text),
            Value::List(_) | Value::Map(_) | Value::Refused => None,
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
            Value::Scalar { .. } | Value::List(_) | Value::Map(_) | Value::Refused => false,
        }
    }

    /// Returns true for a value whose problem has been reported.
    pub(crate) fn is_refused(&self) -> bool {
        matches!(self.value, Value::Refused)
    }

    /// Returns true for a section or list of which a value was refused.
    pub(crate) fn lacks_refused(&self) -> bool {
        match &self.value {
            Value::List(items) => items.iter().any(Node::is_refused),
            Value::Map(entries) => entries.iter().any(|entry| entry.node.is_refused()),
            Value::Scalar { .. } => false,
            Value::Refused => true,
        }
    }

    /// Returns the value at `path`; `None` where a step leads to nothing.
    pub(crate) fn at(&self, path: &[Segment]) -> Option<&Node> {
        let Some((first, rest)) = path.split_first() else {
            return Some(self);
        };
        match (first, &self.value) {
            (Segment::Key(key), Value::Map(_)) => self.get(key)?.at(rest),
            (Segment::Index(index), Value::List(items)) => items.get(*index)?.at(rest),
            // A section whose keys are numbers counts as a list.
            (Segment::Index(index), Value::Map(entries)) => {
                let entry = numbered(entries.iter()).into_iter().nth(*index)?;
                entry.node.at(rest)
            }
            (
                Segment::Key(_) | Segment::Index(_),
                Value::Scalar { .. } | Value::List(_) | Value::Refused,
            ) => None,
        }
    }

    /// Refuses the value at `path`, or the nearest value above it where the path goes through a scalar.
    pub(crate) fn refuse(&mut self, path: &[Segment]) {
        let child = match (path.split_first(), &mut self.value) {
            (Some((Segment::Key(key), rest)), Value::Map(entries)) => entries
                .iter_mut()
                .find(|entry| entry.key == *key)
                .map(|entry| (&mut entry.node, rest)),
            (Some((Segment::Index(index), rest)), Value::List(items)) => {
                items.get_mut(*index).map(|item| (item, rest))
            }
            (Some((Segment::Index(index), rest)), Value::Map(entries)) => {
                let entry = numbered(entries.iter_mut()).into_iter().nth(*index);
                entry.map(|entry| (&mut entry.node, rest))
            }
            (Some(_), Value::Scalar { .. } | Value::List(_) | Value::Refused) | (None, _) => None,
        };
        match child {
            Some((child, rest)) => child.refuse(rest),
            None => self.value = Value::Refused,
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

    /// Finds the value at a path such as `auth.keys[1].name`, in which the numbers of items do not count those that were
    /// refused.
    pub(crate) fn find(&self, path: &str) -> Found<'_> {
        let mut found = Found {
            node: self,
            path: String::new(),
            is_there: true,
        };
        let mut rest = path;
        while !rest.is_empty() {
            let name = rest.strip_prefix('.').unwrap_or(rest);
            let child = match &found.node.value {
                // Names of models contain dots, so the path alone does not show where a name ends.
                Value::Map(entries) => entries.iter().find_map(|entry| {
                    let rest = name.strip_prefix(entry.key.as_str())?;
                    let ends = rest.is_empty() || rest.starts_with(['.', '[']);
                    let dot = if found.path.is_empty() { "" } else { "." };
                    ends.then(|| (&entry.node, format!("{dot}{}", entry.key), rest))
                }),
                Value::List(items) => rest.strip_prefix('[').and_then(|rest| {
                    let (index, rest) = rest.split_once(']')?;
                    let mut items = items.iter().enumerate();
                    let mut items = items.by_ref().filter(|(_, item)| !item.is_refused());
                    let (at, item) = items.nth(index.parse().ok()?)?;
                    Some((item, format!("[{at}]"), rest))
                }),
                // A text may stand for a list or a section.
                Value::Scalar { .. } | Value::Refused => break,
            };
            let Some((node, step, after)) = child else {
                found.is_there = false;
                break;
            };
            found.node = node;
            found.path.push_str(&step);
            rest = after;
        }
        found.path.push_str(if found.path.is_empty() {
            rest.strip_prefix('.').unwrap_or(rest)
        } else {
            rest
        });
        found
    }
}

/// Sorts entries whose keys are numbers by them.
fn numbered<E: std::borrow::Borrow<Entry>>(entries: impl Iterator<Item = E>) -> Vec<E> {
    let mut entries: Vec<E> = entries.collect();
    entries.sort_by_key(|entry| entry.borrow().key.parse::<usize>().unwrap_or_default());
    entries
}

/// One step from a section to a value, or from a list to an item.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Segment {
    Key(String),
    Index(usize),
}

/// The result of [`Node::find`].
pub(crate) struct Found<'n> {
    /// The value, or the nearest section or list above it when nothing is there.
    pub(crate) node: &'n Node,
    /// The path with the numbers of items as they stand in the file.
    pub(crate) path: String,
    /// False when the nearest section or list does not have the value.
    pub(crate) is_there: bool,
}
