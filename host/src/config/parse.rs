//! Parsing of a configuration file into a tree with positions. The YAML reader also reads JSON, which YAML 1.2
//! contains, so that both report lines in the same way.

use super::error::{ConfigError, Problem};
use super::tree::{Entry, Form, Node, Origin, Value};
use granit_parser::{Event, Parser, ScalarStyle};
use std::path::Path;
use std::sync::Arc;
use toml::de::{DeTable, DeValue};

/// Size in bytes above which a configuration file is refused.
const MAX_BYTES: usize = 1 << 20;
/// Nesting of sections, at most.
const MAX_DEPTH: usize = 32;
/// Values of a document, at most: YAML aliases could multiply them without end.
const MAX_NODES: usize = 20_000;

/// Languages of a configuration file, chosen by its extension.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    Yaml,
    Toml,
    Json,
}

impl Format {
    pub(crate) fn of(path: &Path) -> Option<Format> {
        match path.extension()?.to_str()?.to_ascii_lowercase().as_str() {
            "yaml" | "yml" => Some(Format::Yaml),
            "toml" => Some(Format::Toml),
            "json" => Some(Format::Json),
            _ => None,
        }
    }
}

/// Parses a document. An empty one is an empty map. Keys that are given twice are added to `problems`; any other error
/// leaves nothing to read.
pub(crate) fn parse(
    name: &str,
    text: &str,
    format: Format,
    problems: &mut Vec<Problem>,
) -> Result<Node, ConfigError> {
    let name: Arc<str> = name.into();
    if text.len() > MAX_BYTES {
        return Err(at(
            &name,
            1,
            format!(
                "the file has {} bytes; at most {MAX_BYTES} are read",
                text.len()
            ),
        ));
    }
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let root = match format {
        Format::Toml => toml_tree(&name, text, problems)?,
        Format::Yaml => yaml_tree(&name, text, problems)?,
        Format::Json => {
            // The YAML reader accepts more than JSON, so a JSON parser finds errors first.
            serde_json::from_str::<serde::de::IgnoredAny>(text).map_err(|error| {
                let message = error.to_string();
                let message = message.split(" at line ").next().unwrap_or_default();
                at(
                    &name,
                    error.line().max(1),
                    format!("this is not JSON: {message}"),
                )
            })?;
            yaml_tree(&name, text, problems)?
        }
    };
    match root.value {
        Value::Map(_) => Ok(root),
        Value::Scalar { .. } | Value::List(_) | Value::Refused if root.is_null() => {
            Ok(Node::map(root.origin))
        }
        Value::Scalar { .. } | Value::List(_) | Value::Refused => Err(ConfigError::one(
            Some(root.origin),
            "",
            "a configuration is a set of sections such as `listen:`, not a single value or a list",
        )),
    }
}

/// Parses a list or section written on one line (`[a, b]`, `{name: x}`) in a variable or flag.
pub(crate) fn parse_inline(text: &str, origin: &Origin) -> Result<Node, ConfigError> {
    let mut problems = Vec::new();
    let mut node = YamlReader::read(text, |_| origin.clone(), &mut problems)?;
    loosen(&mut node);
    if problems.is_empty() {
        Ok(node)
    } else {
        Err(ConfigError { problems })
    }
}

fn yaml_tree(
    name: &Arc<str>,
    text: &str,
    problems: &mut Vec<Problem>,
) -> Result<Node, ConfigError> {
    let origin = |line| Origin::File {
        name: name.clone(),
        line,
    };
    YamlReader::read(text, origin, problems)
}

fn loosen(node: &mut Node) {
    match &mut node.value {
        Value::Scalar { form, .. } => {
            if *form == Form::Plain {
                *form = Form::Loose;
            }
        }
        Value::List(items) => items.iter_mut().for_each(loosen),
        Value::Map(entries) => entries.iter_mut().for_each(|entry| loosen(&mut entry.node)),
        Value::Refused => {}
    }
}

fn at(name: &Arc<str>, line: usize, message: impl Into<String>) -> ConfigError {
    ConfigError::one(
        Some(Origin::File {
            name: name.clone(),
            line,
        }),
        "",
        message,
    )
}

/// A collection that is not yet complete.
struct Open {
    anchor: usize,
    node: Node,
    /// Key whose value comes next, in a map.
    key: Option<(String, Origin)>,
}

struct YamlReader<'p, F> {
    origin: F,
    /// Keys that are given twice, and merge keys. What they hold is left out.
    problems: &'p mut Vec<Problem>,
    stack: Vec<Open>,
    anchors: Vec<(usize, Node)>,
    nodes: usize,
    root: Option<Node>,
}

/// Key with which YAML 1.1 merged sections.
const MERGE: &str = "<<";

impl<'p, F: Fn(usize) -> Origin> YamlReader<'p, F> {
    fn read(text: &str, origin: F, problems: &'p mut Vec<Problem>) -> Result<Node, ConfigError> {
        let mut reader = YamlReader {
            origin,
            problems,
            stack: Vec::new(),
            anchors: Vec::new(),
            nodes: 0,
            root: None,
        };
        for step in Parser::new_from_str(text) {
            let (event, span) = match step {
                Ok(step) => step,
                Err(error) => {
                    let line = error.marker().line().max(1);
                    return Err(reader.refuse(line, format!("this is not YAML: {}", error.info())));
                }
            };
            reader.event(event, span.start.line().max(1))?;
        }
        let empty = Node::scalar("", Form::Plain, (reader.origin)(1));
        Ok(reader.root.unwrap_or(empty))
    }

    fn refuse(&self, line: usize, message: impl Into<String>) -> ConfigError {
        ConfigError::one(Some((self.origin)(line)), "", message)
    }

    fn event(&mut self, event: Event<'_>, line: usize) -> Result<(), ConfigError> {
        #[expect(
            clippy::wildcard_enum_match_arm,
            reason = "the parser's events: the others hold no value"
        )]
        match event {
            Event::DocumentStart(..) if self.root.is_some() => Err(self.refuse(
                line,
                "a second document begins here; a configuration is one document",
            )),
            Event::Scalar(text, style, anchor, tag) => {
                let quoted = style != ScalarStyle::Plain
                    || tag.is_some_and(|tag| tag.is_yaml_core_schema_tag("str"));
                let form = if quoted { Form::Quoted } else { Form::Plain };
                let node = Node::scalar(text, form, (self.origin)(line));
                self.finish(anchor, node)
            }
            Event::Alias(anchor) => {
                let node = self
                    .anchors
                    .iter()
                    .rev()
                    .find(|(id, _)| *id == anchor)
                    .map(|(_, node)| node.clone());
                let Some(node) = node else {
                    return Err(self.refuse(
                        line,
                        "this alias refers to a value that it is itself part of",
                    ));
                };
                self.nodes += count(&node);
                self.finish(0, node)
            }
            Event::SequenceStart(_, anchor, _) => self.open(line, anchor, Value::List(Vec::new())),
            Event::MappingStart(_, anchor, _) => self.open(line, anchor, Value::Map(Vec::new())),
            Event::SequenceEnd | Event::MappingEnd => match self.stack.pop() {
                Some(open) => self.finish(open.anchor, open.node),
                None => Ok(()),
            },
            _ => Ok(()),
        }
    }

    fn open(&mut self, line: usize, anchor: usize, value: Value) -> Result<(), ConfigError> {
        if self.stack.len() >= MAX_DEPTH {
            return Err(self.refuse(line, format!("sections are nested deeper than {MAX_DEPTH}")));
        }
        let origin = (self.origin)(line);
        if let Some(Open {
            node: Node {
                value: Value::Map(_),
                ..
            },
            key: None,
            ..
        }) = self.stack.last()
        {
            return Err(self.refuse(line, "a key must be a single word, not a list or a section"));
        }
        self.stack.push(Open {
            anchor,
            node: Node { value, origin },
            key: None,
        });
        Ok(())
    }

    /// Stores a complete value in its parent: the document, a list, or a map, as a key or as a value.
    fn finish(&mut self, anchor: usize, node: Node) -> Result<(), ConfigError> {
        self.nodes += 1;
        if self.nodes > MAX_NODES {
            return Err(ConfigError::one(
                Some(node.origin),
                "",
                format!("there are more than {MAX_NODES} values"),
            ));
        }
        if anchor != 0 {
            self.anchors.push((anchor, node.clone()));
        }
        let Some(open) = self.stack.last_mut() else {
            self.root = Some(node);
            return Ok(());
        };
        match &mut open.node.value {
            Value::List(items) => items.push(node),
            Value::Map(entries) => match open.key.take() {
                Some((key, origin)) => {
                    let message = if key == MERGE {
                        "merge keys (`<<`) are not part of YAML 1.2; write the values out or use an alias".to_owned()
                    } else if let Some(before) = entries.iter().find(|entry| entry.key == key) {
                        format!(
                            "`{key}` is given twice; it was given before at {}",
                            before.origin
                        )
                    } else {
                        entries.push(Entry { key, origin, node });
                        return Ok(());
                    };
                    self.problems.push(Problem {
                        origin: Some(origin),
                        path: String::new(),
                        message,
                    });
                }
                None => match node.value {
                    Value::Scalar { text, .. } => open.key = Some((text, node.origin)),
                    Value::List(_) | Value::Map(_) | Value::Refused => {
                        return Err(ConfigError::one(
                            Some(node.origin),
                            "",
                            "a key must be a single word",
                        ));
                    }
                },
            },
            Value::Scalar { .. } | Value::Refused => {}
        }
        Ok(())
    }
}

fn count(node: &Node) -> usize {
    match &node.value {
        Value::Scalar { .. } | Value::Refused => 1,
        Value::List(items) => 1 + items.iter().map(count).sum::<usize>(),
        Value::Map(entries) => {
            1 + entries
                .iter()
                .map(|entry| count(&entry.node))
                .sum::<usize>()
        }
    }
}

fn toml_tree(
    name: &Arc<str>,
    text: &str,
    problems: &mut Vec<Problem>,
) -> Result<Node, ConfigError> {
    let line_ends: Vec<usize> = text.match_indices('\n').map(|(offset, _)| offset).collect();
    let line_of = |offset: usize| line_ends.partition_point(|end| *end < offset) + 1;
    let (table, errors) = DeTable::parse_recoverable(text);
    let mut is_toml = true;
    for error in errors {
        let span = error.span().unwrap_or_default();
        let twice = error.message().starts_with("duplicate key");
        is_toml &= twice;
        let message = match text.get(span.clone()) {
            Some(key) if twice => format!("`{}` is given twice", key.trim_matches(['"', '\''])),
            _ => format!("this is not TOML: {}", error.message()),
        };
        problems.push(Problem {
            origin: Some(Origin::File {
                name: name.clone(),
                line: line_of(span.start),
            }),
            path: String::new(),
            message,
        });
    }
    if !is_toml {
        return Err(ConfigError {
            problems: std::mem::take(problems),
        });
    }
    let origin = |offset: usize| Origin::File {
        name: name.clone(),
        line: line_of(offset),
    };
    Ok(Node {
        value: toml_table(table.get_ref(), &origin),
        origin: origin(0),
    })
}

fn toml_table(table: &DeTable<'_>, origin: &dyn Fn(usize) -> Origin) -> Value {
    let mut sorted: Vec<_> = table.iter().collect();
    // The table is sorted by its keys.
    sorted.sort_by_key(|(key, _)| key.span().start);
    let entries = sorted.into_iter().map(|(key, value)| Entry {
        key: key.get_ref().to_string(),
        origin: origin(key.span().start),
        node: Node {
            value: toml_value(value.get_ref(), origin),
            origin: origin(value.span().start),
        },
    });
    Value::Map(entries.collect())
}

fn toml_value(value: &DeValue<'_>, origin: &dyn Fn(usize) -> Origin) -> Value {
    let scalar = |text: String, form| Value::Scalar { text, form };
    match value {
        DeValue::String(text) => scalar(text.to_string(), Form::Quoted),
        DeValue::Datetime(datetime) => scalar(datetime.to_string(), Form::Quoted),
        DeValue::Boolean(value) => scalar(value.to_string(), Form::Plain),
        DeValue::Float(value) => scalar(value.as_str().to_owned(), Form::Plain),
        DeValue::Integer(value) => {
            let number = i128::from_str_radix(value.as_str(), value.radix());
            scalar(
                number.map_or_else(|_| value.as_str().to_owned(), |number| number.to_string()),
                Form::Plain,
            )
        }
        DeValue::Array(items) => Value::List(
            items
                .iter()
                .map(|item| Node {
                    value: toml_value(item.get_ref(), origin),
                    origin: origin(item.span().start),
                })
                .collect(),
        ),
        DeValue::Table(table) => toml_table(table, origin),
    }
}
