//! Decoding of the tree into typed values, through serde. Each error carries the path and the place of its value.

use super::check;
use super::environment::nearest_variable;
use super::error::{Problem, nearest, one_of};
use super::example;
use super::shorthand;
use super::tree::{Entry, Form, Node, Origin, Segment, Value};
use serde::de::{self, Expected, IntoDeserializer, Unexpected, Visitor, value::StrDeserializer};
use std::borrow::Cow;
use std::fmt;

/// Wrong values of one document that are reported, at most.
const MAX_PROBLEMS: usize = 100;

/// Decodes a whole document into `T`, and adds a problem for each value that is wrong. Such a value is refused in the tree
/// and left out of `T`, in which its default stands.
pub(crate) fn decode<T: de::DeserializeOwned + Default>(
    root: &mut Node,
    problems: &mut Vec<Problem>,
) -> T {
    for _ in 0..MAX_PROBLEMS {
        let error = match T::deserialize(Decoder::of(root)) {
            Ok(value) => return value,
            Err(error) => error,
        };
        let path: Vec<Segment> = error.path.iter().rev().cloned().collect();
        if !follows(&error, root.at(&path)) {
            problems.push(error.problem(&path));
        }
        root.refuse(&path);
    }
    problems.push(Problem {
        origin: None,
        path: String::new(),
        message: format!("there are more than {MAX_PROBLEMS} wrong values"),
    });
    T::default()
}

/// True for an error that another one has caused: a key is missing because its value was refused.
fn follows(error: &DecodeError, section: Option<&Node>) -> bool {
    let About::Missing(field) = error.about else {
        return false;
    };
    let value = section.and_then(|section| section.get(field));
    value.is_some_and(Node::is_refused)
}

/// The subject of an error, as far as more is to be said of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum About {
    /// A value.
    Value,
    /// A number that its type cannot hold. The message ends with the largest.
    TooLarge(u64),
    /// A section or list that is something else. Its right form is shown.
    Form,
    /// A key that is not known, which is the last segment of the path.
    UnknownKey,
    /// A key that is missing in the section.
    Missing(&'static str),
}

/// An error of serde that collects the path of its value while it passes through the tree.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
struct DecodeError {
    message: String,
    origin: Option<Origin>,
    /// Segments from the innermost to the outermost.
    path: Vec<Segment>,
    about: About,
}

impl DecodeError {
    fn new(message: impl Into<String>) -> Self {
        DecodeError {
            message: message.into(),
            origin: None,
            path: Vec::new(),
            about: About::Value,
        }
    }

    /// Makes the problem that a person reads, of a value at `path`.
    fn problem(&self, path: &[Segment]) -> Problem {
        let mut text = String::new();
        for (at, segment) in path.iter().enumerate() {
            match segment {
                Segment::Key(key) => {
                    if !text.is_empty() {
                        text.push('.');
                    }
                    let unknown = self.about == About::UnknownKey && at + 1 == path.len();
                    text.push_str(&if unknown { shown(key) } else { key.into() });
                }
                Segment::Index(index) => text.push_str(&format!("[{index}]")),
            }
        }
        let mut message = self.message.clone();
        match self.about {
            About::UnknownKey => {
                if let Some(name) = self.origin.as_ref().and_then(nearest_variable) {
                    message = format!("unknown key; did you mean `{name}`?");
                }
            }
            About::Form => {
                if let Some(form) = example::form(path, self.origin.as_ref()) {
                    message.push_str("; write ");
                    message.push_str(&form);
                }
            }
            About::TooLarge(largest) => {
                let largest = check::largest(&text).unwrap_or(largest);
                message.push_str(&format!("; the largest is {largest}"));
            }
            About::Value | About::Missing(_) => {}
        }
        Problem {
            origin: self.origin.clone(),
            path: text,
            message,
        }
    }

    fn at(mut self, origin: &Origin) -> Self {
        self.origin.get_or_insert_with(|| origin.clone());
        self
    }

    /// The error of an entry's key or value, which stands there.
    fn of(self, entry: &Entry, origin: &Origin) -> Self {
        self.at(origin).within(Segment::Key(entry.key.clone()))
    }

    fn invalid_variant(found: &str, expected: &'static [&'static str]) -> Self {
        DecodeError::new(format!("expected {}, found {found}", one_of(expected)))
    }

    fn within(mut self, segment: Segment) -> Self {
        self.path.push(segment);
        self
    }
}

impl de::Error for DecodeError {
    fn custom<T: fmt::Display>(message: T) -> Self {
        DecodeError::new(message.to_string())
    }

    fn invalid_type(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        #[expect(
            clippy::wildcard_enum_match_arm,
            reason = "what serde can find and a configuration cannot hold"
        )]
        let number = match found {
            Unexpected::Unsigned(value) => Some(Number::Whole(value)),
            Unexpected::Float(value) => Some(Number::Float(value)),
            _ => None,
        };
        #[expect(
            clippy::wildcard_enum_match_arm,
            reason = "what serde can find and a configuration cannot hold"
        )]
        let found = match found {
            Unexpected::Bool(value) => format!("`{value}`"),
            Unexpected::Unsigned(value) => format!("the number {value}"),
            Unexpected::Signed(value) => format!("the number {value}"),
            Unexpected::Float(value) => format!("the number {value}"),
            Unexpected::Str(text) => format!("the text `{}`", shown(text)),
            Unexpected::Unit => "nothing".to_owned(),
            Unexpected::Seq => "a list".to_owned(),
            Unexpected::Map => "a section".to_owned(),
            other => other.to_string(),
        };
        let expected = expected.to_string();
        if let Some(error) = too_large(&number, &expected) {
            return error;
        }
        let expected = plain_words(&expected);
        let mut error = DecodeError::new(format!("expected {expected}, found {found}"));
        if matches!(expected, "a list" | "a section") {
            error.about = About::Form;
        }
        error
    }

    fn invalid_value(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::invalid_type(found, expected)
    }

    fn unknown_variant(variant: &str, expected: &'static [&'static str]) -> Self {
        let hint = nearest(variant, expected)
            .map(|name| format!("; did you mean `{name}`?"))
            .unwrap_or_default();
        DecodeError::new(format!(
            "expected {}, found `{}`{hint}",
            one_of(expected),
            shown(variant)
        ))
    }

    fn unknown_field(field: &str, expected: &'static [&'static str]) -> Self {
        let mut error = DecodeError::new(match nearest(field, expected) {
            Some(name) => format!("unknown key; did you mean `{name}`?"),
            None => format!(
                "unknown key; the keys here are {}",
                one_of(expected).replace(" or ", " and ")
            ),
        });
        error.about = About::UnknownKey;
        error
    }

    fn missing_field(field: &'static str) -> Self {
        let mut error = DecodeError::new(format!("`{field}` is missing"));
        error.about = About::Missing(field);
        error
    }

    fn duplicate_field(field: &'static str) -> Self {
        DecodeError::new(format!("`{field}` is given twice"))
    }
}

/// Quotes text of the file in an error. A key may stand in a wrong place, and logs must not show it: text of 16 bytes
/// or more that is not plain words is cut to three characters.
fn shown(text: &str) -> Cow<'_, str> {
    let is_word = |byte: u8| byte.is_ascii_alphabetic() || matches!(byte, b'_' | b' ');
    if text.len() < 16 || text.bytes().all(is_word) {
        return Cow::Borrowed(text);
    }
    Cow::Owned(text.chars().take(3).chain(['…']).collect())
}

/// A number that serde has found.
enum Number {
    Whole(u64),
    /// With a fraction, or beyond the largest whole number.
    Float(f64),
}

/// Returns the error of a number that is too large for the type of whole numbers which serde expects.
fn too_large(number: &Option<Number>, expected: &str) -> Option<DecodeError> {
    let largest = match expected {
        "u8" => u64::from(u8::MAX),
        "u16" => u64::from(u16::MAX),
        "u32" => u64::from(u32::MAX),
        "u64" | "usize" => u64::MAX,
        _ => return None,
    };
    let found = match number.as_ref()? {
        Number::Whole(value) if *value > largest => value.to_string(),
        Number::Float(value) if value.fract() == 0.0 && *value >= largest as f64 => {
            value.to_string()
        }
        Number::Whole(_) | Number::Float(_) => return None,
    };
    let mut error = DecodeError::new(format!("the number {found} is too large"));
    error.about = About::TooLarge(largest);
    Some(error)
}

/// Translates serde's names of types into words for the person who wrote the file.
fn plain_words(expected: &str) -> &str {
    match expected {
        "u8" | "u16" | "u32" | "u64" | "usize" => "a whole number that is not negative",
        "a boolean" => "`true` or `false`",
        "a string" | "a borrowed string" | "path string" => "text",
        "a sequence" => "a list",
        "a map" => "a section",
        other if other.starts_with("struct ") => "a section",
        other => other,
    }
}

type Decoded<T> = Result<T, DecodeError>;

#[derive(Clone, Copy)]
struct Decoder<'n> {
    node: &'n Node,
    /// The keys that a section may have, where a type names them.
    fields: Option<&'static [&'static str]>,
}

/// Type of a plain scalar, by YAML's core schema (YAML 1.2, chapter 10.3); digits may be grouped by `_`.
enum Resolved {
    Null,
    Bool(bool),
    Unsigned(u64),
    Signed(i64),
    Float(f64),
    Text,
}

fn resolve(text: &str) -> Resolved {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Resolved::Null,
        "true" | "True" | "TRUE" => return Resolved::Bool(true),
        "false" | "False" | "FALSE" => return Resolved::Bool(false),
        _ => {}
    }
    let digits = text.replace('_', "");
    if !digits.starts_with(|c: char| c.is_ascii_digit() || matches!(c, '+' | '-' | '.')) {
        return Resolved::Text;
    }
    let parsed = if let Some(hex) = digits.strip_prefix("0x") {
        u64::from_str_radix(hex, 16).ok()
    } else if let Some(octal) = digits.strip_prefix("0o") {
        u64::from_str_radix(octal, 8).ok()
    } else {
        digits.parse::<u64>().ok()
    };
    match parsed {
        Some(number) => Resolved::Unsigned(number),
        None => match (digits.parse::<i64>(), digits.parse::<f64>()) {
            (Ok(number), _) => Resolved::Signed(number),
            (_, Ok(number)) => Resolved::Float(number),
            _ => Resolved::Text,
        },
    }
}

impl<'n> Decoder<'n> {
    const fn of(node: &'n Node) -> Self {
        Decoder { node, fields: None }
    }

    fn visit<'de, V: Visitor<'de>>(self, visitor: V) -> Decoded<V::Value> {
        match &self.node.value {
            Value::List(items) => visitor.visit_seq(Items {
                items: items.iter().enumerate(),
            }),
            Value::Map(entries) => visitor.visit_map(Entries::new(entries, self.fields)),
            Value::Refused => visitor.visit_unit(),
            Value::Scalar {
                text,
                form: Form::Quoted,
            } => visitor.visit_str(text),
            Value::Scalar { text, .. } => match resolve(text) {
                Resolved::Null => visitor.visit_unit(),
                Resolved::Bool(value) => visitor.visit_bool(value),
                Resolved::Unsigned(value) => visitor.visit_u64(value),
                Resolved::Signed(value) => visitor.visit_i64(value),
                Resolved::Float(value) => visitor.visit_f64(value),
                Resolved::Text => visitor.visit_str(text),
            },
        }
    }

    /// Visits a list, or what counts as one.
    fn visit_list<'de, V: Visitor<'de>>(self, visitor: V) -> Decoded<V::Value> {
        match self.items() {
            Some(items) => visitor.visit_seq(Items {
                items: items.iter().enumerate(),
            }),
            None => self.visit(visitor),
        }
    }

    /// Returns the items of what counts as a list without being one: a value of the environment may be `a,b`, a single text
    /// of a file is a list of one, and a section may have the keys 0, 1, 2 …
    fn items(self) -> Option<Vec<Node>> {
        match &self.node.value {
            Value::Scalar {
                text,
                form: Form::Loose,
            } => Some(shorthand::split(self.node, text)),
            Value::Scalar { .. } if self.node.is_null() => Some(Vec::new()),
            Value::Scalar { .. } => Some(vec![self.node.clone()]),
            Value::Map(entries) if !entries.is_empty() => {
                let mut items = Vec::new();
                for entry in entries {
                    items.push((entry.key.parse::<usize>().ok()?, &entry.node));
                }
                items.sort_by_key(|(number, _)| *number);
                Some(items.into_iter().map(|(_, node)| node.clone()).collect())
            }
            Value::List(_) | Value::Map(_) | Value::Refused => None,
        }
    }

    /// Visits a section. An empty one has all its defaults.
    fn visit_section<'de, V: Visitor<'de>>(self, visitor: V) -> Decoded<V::Value> {
        if self.node.is_null() {
            return visitor.visit_map(Entries::new(&[], self.fields));
        }
        self.visit(visitor)
    }

    fn visit_text<'de, V: Visitor<'de>>(self, visitor: V) -> Decoded<V::Value> {
        match &self.node.value {
            Value::Scalar { text, form } => match (form, resolve(text)) {
                // A token of digits alone is text too; `true` or nothing is more likely a mistake.
                (Form::Plain, Resolved::Null | Resolved::Bool(_)) => self.visit(visitor),
                _ => visitor.visit_str(text),
            },
            Value::List(_) | Value::Map(_) | Value::Refused => self.visit(visitor),
        }
    }

    fn visit_bool<'de, V: Visitor<'de>>(self, visitor: V) -> Decoded<V::Value> {
        match &self.node.value {
            Value::Scalar { text, form } if *form != Form::Quoted => {
                match (text.to_ascii_lowercase().as_str(), form) {
                    ("true" | "yes" | "on", _) | ("1", Form::Loose) => visitor.visit_bool(true),
                    ("false" | "no" | "off", _) | ("0", Form::Loose) => visitor.visit_bool(false),
                    _ => self.visit(visitor),
                }
            }
            Value::Scalar { .. } | Value::List(_) | Value::Map(_) | Value::Refused => {
                self.visit(visitor)
            }
        }
    }
}

macro_rules! forward {
    ($($method:ident => $to:ident),* $(,)?) => {
        $(fn $method<V: Visitor<'de>>(self, visitor: V) -> Decoded<V::Value> {
            let origin = &self.node.origin;
            self.$to(visitor).map_err(|error| error.at(origin))
        })*
    };
}

impl<'de> de::Deserializer<'de> for Decoder<'_> {
    type Error = DecodeError;

    forward! {
        deserialize_any => visit, deserialize_ignored_any => visit,
        deserialize_i8 => visit, deserialize_i16 => visit, deserialize_i32 => visit, deserialize_i64 => visit,
        deserialize_i128 => visit, deserialize_u8 => visit, deserialize_u16 => visit, deserialize_u32 => visit,
        deserialize_u64 => visit, deserialize_u128 => visit, deserialize_f32 => visit, deserialize_f64 => visit,
        deserialize_bytes => visit, deserialize_byte_buf => visit, deserialize_unit => visit,
        deserialize_bool => visit_bool,
        deserialize_char => visit_text, deserialize_str => visit_text, deserialize_string => visit_text,
        deserialize_identifier => visit_text,
        deserialize_seq => visit_list, deserialize_map => visit_section,
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Decoded<V::Value> {
        if self.node.is_null() {
            visitor.visit_none()
        } else {
            visitor.visit_some(self)
        }
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Decoded<V::Value> {
        self.deserialize_unit(visitor)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Decoded<V::Value> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, _: usize, visitor: V) -> Decoded<V::Value> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: usize,
        visitor: V,
    ) -> Decoded<V::Value> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Decoded<V::Value> {
        if matches!(self.node.value, Value::List(_)) {
            // Types that serde derives take a list as their fields in order.
            let error = de::Error::invalid_type(Unexpected::Seq, &"a section");
            return Err(DecodeError::at(error, &self.node.origin));
        }
        let fields = Some(fields);
        Decoder { fields, ..self }.deserialize_map(visitor)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Decoded<V::Value> {
        let origin = &self.node.origin;
        match &self.node.value {
            Value::Scalar { text, .. } => {
                let text: StrDeserializer<'_, DecodeError> = text.as_str().into_deserializer();
                visitor.visit_enum(text).map_err(|error| error.at(origin))
            }
            Value::List(_) => Err(DecodeError::invalid_variant("a list", variants).at(origin)),
            Value::Map(_) => Err(DecodeError::invalid_variant("a section", variants).at(origin)),
            Value::Refused => Err(DecodeError::invalid_variant("nothing", variants).at(origin)),
        }
    }
}

struct Items<'n> {
    items: std::iter::Enumerate<std::slice::Iter<'n, Node>>,
}

impl<'de> de::SeqAccess<'de> for Items<'_> {
    type Error = DecodeError;

    fn next_element_seed<T: de::DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Decoded<Option<T::Value>> {
        let mut items = self.items.by_ref().filter(|(_, node)| !node.is_refused());
        let Some((index, node)) = items.next() else {
            return Ok(None);
        };
        seed.deserialize(Decoder::of(node))
            .map(Some)
            .map_err(|error| error.at(&node.origin).within(Segment::Index(index)))
    }
}

struct Entries<'n> {
    entries: std::slice::Iter<'n, Entry>,
    fields: Option<&'static [&'static str]>,
    value: Option<&'n Entry>,
}

impl<'n> Entries<'n> {
    fn new(entries: &'n [Entry], fields: Option<&'static [&'static str]>) -> Self {
        Entries {
            entries: entries.iter(),
            fields,
            value: None,
        }
    }
}

impl<'de> de::MapAccess<'de> for Entries<'_> {
    type Error = DecodeError;

    fn next_key_seed<K: de::DeserializeSeed<'de>>(&mut self, seed: K) -> Decoded<Option<K::Value>> {
        let Some(entry) = self.entries.find(|entry| !entry.node.is_refused()) else {
            return Ok(None);
        };
        let key = entry.key.as_str();
        if let Some(fields) = self.fields.filter(|fields| !fields.contains(&key)) {
            let error: DecodeError = de::Error::unknown_field(key, fields);
            return Err(error.of(entry, &entry.origin));
        }
        self.value = Some(entry);
        let key: StrDeserializer<'_, DecodeError> = key.into_deserializer();
        seed.deserialize(key)
            .map(Some)
            .map_err(|error| error.of(entry, &entry.origin))
    }

    fn next_value_seed<V: de::DeserializeSeed<'de>>(&mut self, seed: V) -> Decoded<V::Value> {
        let Some(entry) = self.value.take() else {
            return Err(DecodeError::new("a value was asked for before its key"));
        };
        seed.deserialize(Decoder::of(&entry.node))
            .map_err(|error| error.of(entry, &entry.node.origin))
    }
}
