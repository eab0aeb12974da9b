//! Reading a request body: objects whose fields are taken one by one as raw JSON that borrows from the body, so that
//! nothing is copied and each error can name its field by construction.

use crate::config::Limits;
use crate::error::Refusal;
use crate::text::JsonStr;
use alloc::borrow::Cow;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;
use core::marker::PhantomData;
use core::ops::RangeInclusive;
use serde::de::{Deserialize, Deserializer, Error, IgnoredAny, SeqAccess, Visitor};
use serde_json::error::Category;
use serde_json::value::RawValue;

/// Declares a struct of raw fields and its reader. Null is absent, unknown fields are ignored, the last of equal keys counts.
macro_rules! raw_fields {
    ($(#[$doc:meta])* $name:ident { $($field:ident: $key:literal),* $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Default)]
        pub(crate) struct $name<'a> {
            $(pub(crate) $field: Option<&'a serde_json::value::RawValue>,)*
        }

        impl<'de: 'a, 'a> serde::Deserialize<'de> for $name<'a> {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct Fields<'a>(core::marker::PhantomData<$name<'a>>);

                impl<'de: 'a, 'a> serde::de::Visitor<'de> for Fields<'a> {
                    type Value = $name<'a>;

                    fn expecting(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
                        f.write_str("an object")
                    }

                    fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                        let mut all = $name::default();
                        while let Some($crate::dialect::body::Key(key)) = map.next_key()? {
                            match &*key {
                                $($key => all.$field = map.next_value()?,)*
                                _ => {
                                    map.next_value::<serde::de::IgnoredAny>()?;
                                }
                            }
                        }
                        Ok(all)
                    }
                }

                deserializer.deserialize_map(Fields(core::marker::PhantomData))
            }
        }
    };
}
pub(crate) use raw_fields;

/// A key of an object, borrowed unless it has an escape.
pub(crate) struct Key<'a>(pub(crate) Cow<'a, str>);

impl<'de: 'a, 'a> Deserialize<'de> for Key<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;

        impl<'de> Visitor<'de> for Text {
            type Value = Key<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a key")
            }

            fn visit_borrowed_str<E: Error>(self, key: &'de str) -> Result<Self::Value, E> {
                Ok(Key(Cow::Borrowed(key)))
            }

            fn visit_str<E: Error>(self, key: &str) -> Result<Self::Value, E> {
                Ok(Key(Cow::Owned(key.to_string())))
            }
        }

        deserializer.deserialize_str(Text)
    }
}

/// Reads the body's object.
///
/// # Errors
/// A body that is empty, is not one complete JSON object, or is nested deeper than `limits.json_depth`.
pub(crate) fn read<'a, T: Deserialize<'a>>(body: &'a str, limits: &Limits) -> Result<T, Refusal> {
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
    if nested_deeper(body.as_bytes(), limits.json_depth) {
        return Err(Refusal::invalid(format!(
            "the body is nested {} deep or more; limits.json_depth is {}",
            limits.json_depth.saturating_add(1),
            limits.json_depth
        )));
    }
    serde_json::from_str(body).map_err(|error| {
        Refusal::invalid(if error.classify() == Category::Eof {
            format!("the body is cut off: {error}")
        } else {
            format!("the body is not one JSON object: {error}")
        })
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
    pub(crate) fn find<'a>(self, raw: Option<&'a RawValue>) -> Option<Value<'a, 'p>> {
        raw.map(|raw| Value { raw, path: self })
    }

    /// `raw` as the value here.
    ///
    /// # Errors
    /// It is absent or null.
    pub(crate) fn need<'a>(
        self,
        raw: Option<&'a RawValue>,
        what: &str,
    ) -> Result<Value<'a, 'p>, Refusal> {
        self.find(raw)
            .ok_or_else(|| self.wrong(format_args!("missing; expected {what}")))
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
    pub(crate) raw: &'a RawValue,
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
        JsonStr::from_raw(self.raw).ok_or_else(|| self.expected("a string"))
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
    pub(crate) fn list(&self) -> Result<Vec<&'a RawValue>, Refusal> {
        self.list_within(ELEMENTS)
    }

    /// A list of at most `most`.
    pub(crate) fn list_within(&self, most: usize) -> Result<Vec<&'a RawValue>, Refusal> {
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

    fn elements(&self, most: usize) -> Result<Elements<&'a RawValue>, Refusal> {
        if self.first() != b'[' {
            return Err(self.expected("a list"));
        }
        Elements::read(self.raw.get(), most).map_err(|error| self.path.wrong(error))
    }

    pub(crate) fn object<T: Deserialize<'a>>(&self) -> Result<T, Refusal> {
        if self.first() != b'{' {
            return Err(self.expected("an object"));
        }
        serde_json::from_str(self.raw.get()).map_err(|error| self.path.wrong(error))
    }

    /// A list of at most [`ELEMENTS`] objects.
    pub(crate) fn objects<T: Deserialize<'a>>(&self) -> Result<Vec<T>, Refusal> {
        self.objects_within(ELEMENTS, |count| self.too_many(count))
    }

    /// A list of at most `most` objects, in one pass unless one of them is wrong.
    pub(crate) fn objects_within<T: Deserialize<'a>>(
        &self,
        most: usize,
        too_many: impl Fn(usize) -> Refusal,
    ) -> Result<Vec<T>, Refusal> {
        if let Ok(objects) = Elements::read(self.raw.get(), most) {
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

    /// A string or a list of strings, decoded; empty ones are left out.
    pub(crate) fn strings(&self, most: usize) -> Result<Vec<String>, Refusal> {
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
            if !text.is_empty() {
                strings.push(text.into_owned());
            }
        }
        Ok(strings)
    }
}

/// Most elements of a list that has no limit of its own, so that a body costs little more memory than its size.
pub(crate) const ELEMENTS: usize = 1024;

/// The first elements of a list, and how many there are in all.
struct Elements<T> {
    kept: Vec<T>,
    count: usize,
}

impl<'a, T: Deserialize<'a>> Elements<T> {
    /// Keeps at most `most` elements of the list that `json` is.
    fn read(json: &'a str, most: usize) -> serde_json::Result<Self> {
        struct Reader<T> {
            most: usize,
            kept: PhantomData<T>,
        }

        impl<'de, T: Deserialize<'de>> Visitor<'de> for Reader<T> {
            type Value = Elements<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
                let mut kept = Vec::new();
                while kept.len() < self.most {
                    match list.next_element()? {
                        Some(element) => kept.push(element),
                        None => break,
                    }
                }
                let mut count = kept.len();
                while list.next_element::<IgnoredAny>()?.is_some() {
                    count += 1;
                }
                Ok(Elements { kept, count })
            }
        }

        let mut deserializer = serde_json::Deserializer::from_str(json);
        deserializer.deserialize_seq(Reader {
            most,
            kept: PhantomData,
        })
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
