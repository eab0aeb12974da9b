//! Reading a request body: objects whose fields are taken one by one as raw JSON that borrows from the body, so that
//! nothing is copied and each error can name its field by construction.

use crate::config::Limits;
use crate::error::Refusal;
use crate::text::{Cursor, JsonStr, JsonValue};
use alloc::borrow::Cow;
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;
use core::ops::RangeInclusive;
use serde_json::error::Category;
use serde_json::value::RawValue;

/// Bytes of the longest stop sequence. Those in use are a line or a token of a template.
const LONGEST_STOP: usize = 4096;

/// A value that is read where a cursor stands.
pub(crate) trait Take<'a>: Sized {
    /// `None` when it is something else there.
    fn take(cursor: &mut Cursor<'a>) -> Option<Self>;
}

/// A value of a field, whose text is known.
pub(crate) trait Field<'a>: Take<'a> {
    fn raw(&self) -> JsonValue<'a>;
}

impl<'a> Take<'a> for JsonValue<'a> {
    fn take(cursor: &mut Cursor<'a>) -> Option<Self> {
        cursor.value().map(Self::skipped)
    }
}

impl<'a> Field<'a> for JsonValue<'a> {
    fn raw(&self) -> Self {
        *self
    }
}

/// The value where a cursor stands, unless that is null; `None` when it is something else.
pub(crate) fn field<'a, T: Field<'a>>(cursor: &mut Cursor<'a>) -> Option<Option<T>> {
    let value = T::take(cursor)?;
    Some((!value.raw().is_null()).then_some(value))
}

/// Declares a struct of fields and its reader: raw ones, and lists of objects that are read in passing. Null is absent, unknown
/// fields are ignored, the last of equal keys counts.
macro_rules! raw_fields {
    (@field $lifetime:lifetime) => { $crate::text::JsonValue<$lifetime> };
    (@field $lifetime:lifetime $object:ident) => { $crate::dialect::body::Objects<$lifetime, $object<$lifetime>> };
    ($(#[$doc:meta])* $name:ident { $($field:ident: $key:literal $(of $object:ident)?),* $(,)? }) => {
        $(#[$doc])*
        #[derive(Default)]
        pub(crate) struct $name<'a> {
            $(pub(crate) $field: Option<raw_fields!(@field 'a $($object)?)>,)*
        }

        impl<'a> $crate::dialect::body::Take<'a> for $name<'a> {
            fn take(cursor: &mut $crate::text::Cursor<'a>) -> Option<Self> {
                let mut all = Self::default();
                cursor.object(|cursor, key| {
                    match &*key.decode() {
                        $($key => all.$field = $crate::dialect::body::field(cursor)?,)*
                        _ => drop(cursor.value()?),
                    }
                    Some(())
                })?;
                Some(all)
            }
        }
    };
}
pub(crate) use raw_fields;

/// Reads the body's object.
///
/// # Errors
/// A body that is empty, is not one complete JSON object, or is nested deeper than `limits.json_depth`.
pub(crate) fn read<'a, T: Take<'a>>(body: &'a str, limits: &Limits) -> Result<T, Refusal> {
    match body.trim_start_matches([' ', '\t', '\r', '\n']).as_bytes() {
        [] => {
            return Err(Refusal::invalid("the body is empty; send a JSON object"));
        }
        [b'{', ..] => {}
        [first, ..] => {
            return Err(Refusal::invalid(match kind(*first) {
                Some(found) => format!("the body is {found}; send a JSON object"),
                None => "the body is not JSON; send a JSON object".to_string(),
            }));
        }
    }
    let mut cursor = Cursor::within(body, limits.json_depth);
    let read = T::take(&mut cursor).filter(|_| cursor.end().is_some());
    read.ok_or_else(|| unreadable(body, limits))
}

/// Tells why a body cannot be read.
#[cold]
fn unreadable(body: &str, limits: &Limits) -> Refusal {
    if nested_deeper(body.as_bytes(), limits.json_depth) {
        return Refusal::invalid(format!(
            "the body is nested {} deep or more; limits.json_depth is {}",
            limits.json_depth.saturating_add(1),
            limits.json_depth
        ));
    }
    type Members<'b> = BTreeMap<Cow<'b, str>, &'b RawValue>;
    Refusal::invalid(match serde_json::from_str::<Members<'_>>(body) {
        Err(error) if error.classify() == Category::Eof => format!("the body is cut off: {error}"),
        Err(error) => format!("the body is not one JSON object: {error}"),
        Ok(_) => "the body is not one JSON object".to_string(),
    })
}

/// True when brackets outside of strings are nested deeper than `limit`. Needs no well-formed JSON.
fn nested_deeper(bytes: &[u8], limit: usize) -> bool {
    let mut depth = 0usize;
    let mut rest = bytes.iter();
    while let Some(byte) = rest.next() {
        match byte {
            b'{' | b'[' => {
                depth += 1;
                if depth > limit {
                    return true;
                }
            }
            b'}' | b']' => depth = depth.saturating_sub(1),
            b'"' => loop {
                let inside = rest.as_slice();
                let Some(at) = memchr::memchr2(b'"', b'\\', inside) else {
                    return false;
                };
                let escape = inside.get(at) == Some(&b'\\');
                rest = inside
                    .get(at + 1 + usize::from(escape)..)
                    .unwrap_or_default()
                    .iter();
                if !escape {
                    break;
                }
            },
            _ => {}
        }
    }
    false
}

/// Names the kind of a JSON value by its first byte.
fn kind(first: u8) -> Option<&'static str> {
    Some(match first {
        b'{' => "an object",
        b'[' => "a list",
        b'"' => "a string",
        b't' | b'f' => "a boolean",
        b'n' => "null",
        b'-' | b'0'..=b'9' => "a number",
        _ => return None,
    })
}

/// Place of a value in the body, for instance `messages[2].content`. Lives on the stack; only an error writes it out.
#[derive(Clone, Copy)]
pub(crate) struct Path<'p> {
    parent: Option<&'p Path<'p>>,
    step: Step,
}

#[derive(Clone, Copy)]
enum Step {
    Key(&'static str),
    Index(usize),
}

impl<'p> Path<'p> {
    /// A field of the body.
    pub(crate) const fn root(key: &'static str) -> Self {
        Self {
            parent: None,
            step: Step::Key(key),
        }
    }

    /// A field of the object here.
    pub(crate) const fn key(&'p self, key: &'static str) -> Self {
        Self {
            parent: Some(self),
            step: Step::Key(key),
        }
    }

    /// An element of the list here.
    pub(crate) const fn index(&'p self, index: usize) -> Self {
        Self {
            parent: Some(self),
            step: Step::Index(index),
        }
    }

    /// `raw` as the value here; nothing when it is absent.
    pub(crate) fn find<'a>(self, raw: Option<JsonValue<'a>>) -> Option<Value<'a, 'p>> {
        raw.map(|raw| Value { raw, path: self })
    }

    /// `raw` as the value here.
    ///
    /// # Errors
    /// It is absent or null.
    pub(crate) fn need<'a>(
        self,
        raw: Option<JsonValue<'a>>,
        what: &str,
    ) -> Result<Value<'a, 'p>, Refusal> {
        self.find(raw).ok_or_else(|| self.missing(what))
    }

    /// A refusal of a body that has no value here.
    pub(crate) fn missing(&self, what: &str) -> Refusal {
        self.wrong(format_args!("missing; expected {what}"))
    }

    /// A refusal of the value here: `messages[2].content: why`.
    pub(crate) fn wrong(&self, why: impl fmt::Display) -> Refusal {
        let param = self.to_string();
        Refusal::invalid(format!("{param}: {why}")).at(param)
    }
}

impl fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(parent) = self.parent {
            parent.fmt(f)?;
        }
        match self.step {
            Step::Key(key) if self.parent.is_some() => write!(f, ".{key}"),
            Step::Key(key) => f.write_str(key),
            Step::Index(index) => write!(f, "[{index}]"),
        }
    }
}

/// A value that is there and is not null.
#[derive(Clone, Copy)]
pub(crate) struct Value<'a, 'p> {
    pub(crate) raw: JsonValue<'a>,
    pub(crate) path: Path<'p>,
}

impl<'a> Value<'a, '_> {
    /// The first byte, which tells the kind.
    pub(crate) fn first(&self) -> u8 {
        self.raw.get().bytes().next().unwrap_or_default()
    }

    /// A refusal that names what was expected and what was found, but never text.
    pub(crate) fn expected(&self, what: impl fmt::Display) -> Refusal {
        let found = kind(self.first()).unwrap_or("something else");
        let text = self.raw.get();
        // A number is told, unless it is absurdly long.
        if found == "a number" && text.len() <= 24 {
            self.path
                .wrong(format_args!("expected {what}, found {text}"))
        } else {
            self.path
                .wrong(format_args!("expected {what}, found {found}"))
        }
    }

    pub(crate) fn string(&self) -> Result<JsonStr<'a>, Refusal> {
        self.raw.as_str().ok_or_else(|| self.expected("a string"))
    }

    /// A string that is not empty.
    pub(crate) fn name(&self) -> Result<JsonStr<'a>, Refusal> {
        let name = self.string()?;
        if name.is_empty() {
            return Err(self.path.wrong("expected a name, found an empty string"));
        }
        Ok(name)
    }

    pub(crate) fn boolean(&self) -> Result<bool, Refusal> {
        match self.raw.get() {
            "true" => Ok(true),
            "false" => Ok(false),
            _ => Err(self.expected("true or false")),
        }
    }

    pub(crate) fn number(&self, range: RangeInclusive<f64>) -> Result<f64, Refusal> {
        self.raw
            .get()
            .parse()
            .ok()
            .filter(|number| range.contains(number))
            .ok_or_else(|| {
                self.expected(format_args!(
                    "a number from {} to {}",
                    range.start(),
                    range.end()
                ))
            })
    }

    /// A whole number, `3.0` included, as some clients have only floating point.
    pub(crate) fn integer(&self) -> Result<i64, Refusal> {
        const EXACT: f64 = 9_007_199_254_740_992.0;
        let text = self.raw.get();
        if let Ok(integer) = text.parse() {
            return Ok(integer);
        }
        #[allow(clippy::cast_possible_truncation, clippy::cast_precision_loss)]
        // within ±2^53 both are exact
        text.parse::<f64>()
            .ok()
            .filter(|number| (-EXACT..=EXACT).contains(number))
            .map(|number| (number, number as i64))
            .filter(|(number, integer)| *integer as f64 == *number)
            .map(|(_, integer)| integer)
            .ok_or_else(|| self.expected("a whole number of at most 64 bits"))
    }

    /// A list of at most [`ELEMENTS`].
    pub(crate) fn list(&self) -> Result<Vec<JsonValue<'a>>, Refusal> {
        self.list_within(ELEMENTS)
    }

    /// A list of at most `most`.
    pub(crate) fn list_within(&self, most: usize) -> Result<Vec<JsonValue<'a>>, Refusal> {
        self.elements(most)?.within(|count| {
            self.path
                .wrong(format_args!("{count} elements; at most {most} are allowed"))
        })
    }

    fn too_many(&self, count: usize) -> Refusal {
        self.path.wrong(format_args!(
            "{count} elements; at most {ELEMENTS} are allowed"
        ))
    }

    fn elements(&self, most: usize) -> Result<Elements<JsonValue<'a>>, Refusal> {
        if self.first() != b'[' {
            return Err(self.expected("a list"));
        }
        Elements::take(&mut self.raw.cursor(), most).ok_or_else(|| self.expected("a list"))
    }

    pub(crate) fn object<T: Take<'a>>(&self) -> Result<T, Refusal> {
        if self.first() != b'{' {
            return Err(self.expected("an object"));
        }
        T::take(&mut self.raw.cursor()).ok_or_else(|| self.expected("an object"))
    }

    /// A list of at most [`ELEMENTS`] objects.
    pub(crate) fn objects<T: Take<'a>>(&self) -> Result<Vec<T>, Refusal> {
        self.objects_within(ELEMENTS, |count| self.too_many(count))
    }

    /// A list of at most `most` objects, in one pass unless one of them is wrong.
    pub(crate) fn objects_within<T: Take<'a>>(
        &self,
        most: usize,
        too_many: impl Fn(usize) -> Refusal,
    ) -> Result<Vec<T>, Refusal> {
        if let Some(objects) = Elements::take(&mut self.raw.cursor(), most) {
            return objects.within(too_many);
        }
        self.elements(most)?
            .within(too_many)?
            .into_iter()
            .enumerate()
            .map(|(index, raw)| {
                let path = self.path.index(index);
                Value { raw, path }.object()
            })
            .collect()
    }

    /// Stop sequences: a string or a list of strings, decoded; empty ones are left out.
    pub(crate) fn stop_sequences(&self, most: usize) -> Result<Vec<String>, Refusal> {
        let expected =
            || self.expected(format_args!("a string or a list of at most {most} strings"));
        let all = match self.first() {
            b'"' => alloc::vec![self.raw],
            b'[' => self.elements(most)?.within(|count| {
                self.path
                    .wrong(format_args!("{count} strings; at most {most} are allowed"))
            })?,
            _ => return Err(expected()),
        };
        let mut strings = Vec::with_capacity(all.len());
        for (index, raw) in all.into_iter().enumerate() {
            let path = self.path.index(index);
            let text = Value { raw, path }.string()?.decode();
            if text.len() > LONGEST_STOP {
                return Err(path.wrong(format_args!(
                    "a stop sequence of {} bytes; at most {LONGEST_STOP} are allowed",
                    text.len()
                )));
            }
            if !text.is_empty() {
                strings.push(text.into_owned());
            }
        }
        Ok(strings)
    }
}

/// A list, whose elements are read in passing where each is an object of that kind, so that a long one is read once.
pub(crate) struct Objects<'a, T> {
    raw: JsonValue<'a>,
    read: Option<Elements<T>>,
}

impl<'a, T: Take<'a>> Take<'a> for Objects<'a, T> {
    fn take(cursor: &mut Cursor<'a>) -> Option<Self> {
        let mut ahead = cursor.clone();
        let mut read = None;
        let text = ahead.taken(|ahead| {
            read = Elements::take(ahead, ELEMENTS);
            read.is_some().then_some(())
        });
        let raw = match text {
            Some(text) => {
                *cursor = ahead;
                JsonValue::skipped(text)
            }
            None => JsonValue::take(cursor)?,
        };
        Some(Self { raw, read })
    }
}

impl<'a, T: Take<'a>> Field<'a> for Objects<'a, T> {
    fn raw(&self) -> JsonValue<'a> {
        self.raw
    }
}

impl<'a, T: Take<'a>> Objects<'a, T> {
    /// At most `most` of them; `path` is that of the list.
    ///
    /// # Errors
    /// It is no list, an element is no such object, or there are more.
    pub(crate) fn within(
        self,
        most: usize,
        path: Path<'_>,
        too_many: impl Fn(usize) -> Refusal,
    ) -> Result<Vec<T>, Refusal> {
        match self.read {
            Some(read) if read.count > most => Err(too_many(read.count)),
            Some(read) if read.count == read.kept.len() => Ok(read.kept),
            // A second reading names the element that is wrong.
            Some(_) | None => Value {
                raw: self.raw,
                path,
            }
            .objects_within(most, too_many),
        }
    }
}

/// Most elements of a list that has no limit of its own, so that a body costs little more memory than its size.
pub(crate) const ELEMENTS: usize = 1024;

/// The first elements of a list, and how many there are in all.
struct Elements<T> {
    kept: Vec<T>,
    count: usize,
}

impl<'a, T: Take<'a>> Elements<T> {
    /// Keeps at most `most` elements; `None` when it is no list of these.
    fn take(cursor: &mut Cursor<'a>, most: usize) -> Option<Self> {
        let (mut kept, mut count) = (Vec::new(), 0);
        cursor.array(|cursor| {
            count += 1;
            if count > most {
                return cursor.value().map(drop);
            }
            kept.push(T::take(cursor)?);
            Some(())
        })?;
        Some(Self { kept, count })
    }
}

impl<T> Elements<T> {
    /// All elements.
    ///
    /// # Errors
    /// `too_many` of their count when some were not kept.
    fn within(self, too_many: impl Fn(usize) -> Refusal) -> Result<Vec<T>, Refusal> {
        if self.count > self.kept.len() {
            return Err(too_many(self.count));
        }
        Ok(self.kept)
    }
}
