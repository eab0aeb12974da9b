//! The template engine with its bounds: strict about names, without a loader, without escaping.

use super::Count;
use super::scan::{self, Refused, Shape};
use crate::failure::Failure;
use minijinja::value::ValueKind;
use minijinja::{AutoEscape, Environment, Error, ErrorKind, UndefinedBehavior, Value};
use std::io::{self, Write};
use std::sync::LazyLock;

/// Steps of one template.
const FUEL: u64 = 100_000;
/// Bytes that a template may become.
pub(crate) const OUTPUT: usize = 1 << 20;

/// Filters of the engine that no template for a request needs.
const LEFT_OUT: [&str; 25] = [
    "safe",
    "escape",
    "e",
    "dictsort",
    "items",
    "reverse",
    "attr",
    "list",
    "bool",
    "batch",
    "slice",
    "sum",
    "indent",
    "select",
    "reject",
    "selectattr",
    "rejectattr",
    "map",
    "groupby",
    "unique",
    "chain",
    "zip",
    "pprint",
    "format",
    "urlencode",
];

static ENGINE: LazyLock<Environment<'static>> = LazyLock::new(|| {
    let mut engine = Environment::new();
    engine.set_undefined_behavior(UndefinedBehavior::Strict);
    engine.set_auto_escape_callback(|_| AutoEscape::None);
    engine.set_fuel(Some(FUEL));
    engine.set_formatter(|out, state, value| {
        // Python's `True` and `{'a': None}` mean nothing to those who are sent them: these are written as JSON.
        let kind = value.kind();
        let as_json = [
            ValueKind::Bool,
            ValueKind::None,
            ValueKind::Seq,
            ValueKind::Map,
        ];
        if !as_json.contains(&kind) {
            return minijinja::escape_formatter(out, state, value);
        }
        let mut json = Bounded::default();
        let written = json.write_json(value);
        written.map_err(|_| Error::new(ErrorKind::WriteFailure, "the output is too long"))?;
        out.write_str(&json.into_text()).map_err(Error::from)
    });
    for name in ["range", "dict", "debug", "namespace"] {
        engine.remove_global(name);
    }
    for name in LEFT_OUT {
        engine.remove_filter(name);
    }
    engine.add_filter("urlencode", |text: &str| crate::uri::encode(text));
    engine
});

/// JSON as templates see it.
pub(crate) fn value(json: &serde_json::Value) -> Value {
    Value::from(minijinja::value::Serde(json))
}

/// A template that failed while it became a text.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Trouble {
    /// Its fuel, or the room for its output, is used up.
    Limit,
    /// Something else, such as a name that is not defined; a sentence for people.
    Wrong(String),
}

impl Trouble {
    /// As the end of a run; `what` names the template.
    pub(crate) fn of(self, what: &str) -> Stop {
        match self {
            Self::Limit => Stop::Failed(Failure::template_limit(format!(
                "the template `{what}` used up its {FUEL} steps, or became more than {OUTPUT} bytes"
            ))),
            Self::Wrong(message) => Stop::Error(format!("the template `{what}`: {message}")),
        }
    }
}

/// A run that cannot begin what it wants to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Stop {
    /// It ends without a result.
    Failed(Failure),
    /// Its result is an error; a sentence for people.
    Error(String),
}

impl From<Error> for Trouble {
    fn from(error: Error) -> Self {
        let kind = error.kind();
        if kind == ErrorKind::OutOfFuel || kind == ErrorKind::WriteFailure {
            return Self::Limit;
        }
        let detail = error.detail().map(|it| format!(": {it}"));
        let line = error.line().map(|it| format!(" (line {it})"));
        let (detail, line) = (detail.unwrap_or_default(), line.unwrap_or_default());
        Self::Wrong(format!("{kind}{detail}{line}"))
    }
}

/// An error at registration.
fn refused(path: &str, refused: &Refused) -> Failure {
    let message = format!(
        "the template is wrong in line {}: {}",
        refused.line, refused.message
    );
    Failure::wrong_at(path, message)
}

/// The same, of the engine's parser.
fn unread(path: &str, error: &Error) -> Failure {
    let line = error.line().unwrap_or(1);
    let detail = error.detail().map(str::to_owned);
    let message = detail.unwrap_or_else(|| error.kind().to_string());
    refused(path, &Refused { line, message })
}

/// A text that may have tags in it.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Template {
    source: Box<str>,
    shape: Shape,
}

impl std::fmt::Debug for Template {
    /// Without its text.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Template({} bytes)", self.source.len())
    }
}

impl Template {
    /// Reads a template, whose place in the definition is `path`.
    pub(crate) fn read(source: &str, path: &str, count: &mut Count) -> Result<Self, Failure> {
        let has_tag = ["{{", "{%", "{#"].iter().any(|it| source.contains(it));
        let shape = if has_tag {
            count.another(path)?;
            let shape = scan::template(source).map_err(|it| refused(path, &it))?;
            let parsed = ENGINE.template_from_str(source);
            parsed.map_err(|error| unread(path, &error))?;
            shape
        } else {
            Shape::Literal
        };
        let source = source.into();
        Ok(Self { source, shape })
    }

    /// The text, when it has no tags.
    pub(crate) fn literal(&self) -> Option<&str> {
        (self.shape == Shape::Literal).then_some(&*self.source)
    }

    /// The source.
    pub(crate) fn source(&self) -> &str {
        &self.source
    }

    /// Gives the text that it becomes.
    pub(crate) fn text(&self, scope: &Value) -> Result<String, Trouble> {
        if let Some(literal) = self.literal() {
            return Ok(literal.to_owned());
        }
        let mut out = Bounded::default();
        let template = ENGINE.template_from_str(&self.source)?;
        template.render_captured_to(scope.clone(), &mut out)?;
        // The engine writes UTF-8.
        String::from_utf8(out.0).map_err(|_| Trouble::Limit)
    }

    /// Appends the value that it becomes, as JSON. One expression alone keeps its type.
    pub(crate) fn json(&self, scope: &Value, out: &mut Bounded) -> Result<(), Trouble> {
        let Shape::Value { from, to } = self.shape else {
            let text = self.text(scope)?;
            return out.write_json(&text);
        };
        let source = self.source.get(from..to).unwrap_or_default();
        let value = ENGINE.compile_expression(source)?.eval(scope.clone())?;
        if value.is_undefined() {
            return Err(Trouble::Wrong("undefined value".to_owned()));
        }
        out.write_json(&value)
    }
}

/// An expression without braces that is true or false.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Condition(Box<str>);

impl Condition {
    /// Reads an expression, whose place in the definition is `path`.
    pub(crate) fn read(source: &str, path: &str, count: &mut Count) -> Result<Self, Failure> {
        count.another(path)?;
        scan::expression(source).map_err(|it| refused(path, &it))?;
        let parsed = ENGINE.compile_expression(source);
        parsed.map_err(|error| unread(path, &error))?;
        Ok(Self(source.into()))
    }

    /// True when it is.
    pub(crate) fn holds(&self, scope: &Value) -> Result<bool, Trouble> {
        let value = ENGINE.compile_expression(&self.0)?.eval(scope.clone())?;
        Ok(value.is_true())
    }
}

/// Bytes that take no more than may be.
#[derive(Debug, Default)]
pub(crate) struct Bounded(Vec<u8>);

impl Bounded {
    /// Appends a value as JSON.
    pub(crate) fn write_json<T: serde::Serialize + ?Sized>(
        &mut self,
        value: &T,
    ) -> Result<(), Trouble> {
        let written = serde_json::to_writer(&mut *self, value);
        written.map_err(|error| match error.is_io() {
            true => Trouble::Limit,
            false => Trouble::Wrong("the value cannot be written as JSON".to_owned()),
        })
    }

    /// Appends JSON.
    pub(crate) fn push(&mut self, json: &str) -> Result<(), Trouble> {
        self.write_all(json.as_bytes()).map_err(|_| Trouble::Limit)
    }

    pub(crate) fn into_text(self) -> String {
        // Only text was written.
        String::from_utf8(self.0).unwrap_or_default()
    }
}

impl Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.0.len() + bytes.len() > OUTPUT {
            return Err(io::Error::other("the output is too long"));
        }
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
