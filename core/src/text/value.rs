//! One JSON value in a text, of which members are looked at where they stand.

use super::{Cursor, JsonStr};
use alloc::borrow::Cow;
use alloc::vec::Vec;
use core::fmt;

/// The text of one JSON value, borrowed from whoever wrote it, without blanks around it.
///
/// Of members with one name the first counts.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct JsonValue<'t>(&'t str);

impl<'t> JsonValue<'t> {
    /// Takes a text that is one JSON value (RFC 8259), with blanks around it or not; `None` when it is none, or nested more
    /// than 128 deep.
    #[must_use]
    pub fn read(text: &'t str) -> Option<Self> {
        let mut cursor = Cursor::new(text);
        cursor.blanks();
        let value = cursor.value()?;
        cursor.end()?;
        Some(Self(value))
    }

    /// Takes what a cursor has skipped.
    #[inline]
    pub(crate) const fn skipped(text: &'t str) -> Self {
        Self(text)
    }

    /// The text of the value.
    #[must_use]
    pub const fn get(self) -> &'t str {
        self.0
    }

    /// A cursor before the value.
    pub(crate) const fn cursor(self) -> Cursor<'t> {
        Cursor::new(self.0)
    }

    /// True for `null`.
    #[must_use]
    pub fn is_null(self) -> bool {
        self.0 == "null"
    }

    /// The inside of a string, still escaped; `None` when it is none.
    #[must_use]
    pub fn as_str(self) -> Option<JsonStr<'t>> {
        let inside = self.0.strip_prefix('"')?.strip_suffix('"')?;
        Some(JsonStr::from_escaped(inside))
    }

    /// The text of a string; `None` when it is none.
    #[must_use]
    pub fn text(self) -> Option<Cow<'t, str>> {
        self.as_str().map(JsonStr::decode)
    }

    /// A whole number that fits; `None` for anything else.
    #[must_use]
    pub fn whole(self) -> Option<u64> {
        self.0.parse().ok()
    }

    /// A member of an object; `None` when there is none of this name, or the value is no object.
    #[must_use]
    pub fn member(self, name: &str) -> Option<Self> {
        let mut found = None;
        // It ends early, at the member.
        let _ = self.cursor().object(|cursor, member| {
            let value = cursor.value()?;
            if member.is(name) {
                found = Some(Self(value));
                return None;
            }
            Some(())
        });
        found
    }

    /// The members of an object in their order, those whose name stood before too; none when the value is no object.
    #[must_use]
    pub fn members(self) -> Vec<(JsonStr<'t>, Self)> {
        let mut members = Vec::new();
        let whole = self.cursor().object(|cursor, name| {
            members.push((name, Self(cursor.value()?)));
            Some(())
        });
        if whole.is_none() {
            members.clear();
        }
        members
    }

    /// A member of a member, and so on.
    #[must_use]
    pub fn path(self, names: &[&str]) -> Option<Self> {
        names
            .iter()
            .try_fold(self, |value, name| value.member(name))
    }

    /// The elements of an array; none when the value is no array.
    #[must_use]
    pub fn elements(self) -> Vec<Self> {
        let mut elements = Vec::new();
        let whole = self.cursor().array(|cursor| {
            elements.push(Self(cursor.value()?));
            Some(())
        });
        if whole.is_none() {
            elements.clear();
        }
        elements
    }
}

impl fmt::Display for JsonValue<'_> {
    /// Its text.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl fmt::Debug for JsonValue<'_> {
    /// Text is never shown: it may be a prompt.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "JsonValue({} bytes)", self.0.len())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use super::*;
    use crate::text::damage::damage;
    use alloc::collections::BTreeMap;
    use alloc::format;
    use alloc::string::String;
    use proptest::prelude::*;
    use serde_json::value::RawValue;

    #[test]
    fn members_are_found_where_they_stand() {
        let value = JsonValue::read(
            r#" {"a":[1, {"b":"x\n"} , [] , {}],"c":{"d":-1.5e+3},"\u0065":true,"a":0} "#,
        );
        let value = value.unwrap();
        let elements = value.member("a").unwrap().elements();
        assert_eq!(
            elements.iter().map(|it| it.get()).collect::<Vec<_>>(),
            ["1", r#"{"b":"x\n"}"#, "[]", "{}"]
        );
        assert_eq!(elements[1].member("b").unwrap().text().unwrap(), "x\n");
        assert_eq!(value.path(&["c", "d"]).unwrap().get(), "-1.5e+3");
        assert_eq!(value.member("e").unwrap().get(), "true");
        assert_eq!(value.member("f"), None);
        let names: Vec<_> = value
            .members()
            .iter()
            .map(|(name, _)| name.decode())
            .collect();
        assert_eq!(names, ["a", "c", "e", "a"]);
        assert_eq!(value.members()[1].1.get(), r#"{"d":-1.5e+3}"#);
        assert!(value.members()[0].1.members().is_empty());
        assert_eq!(value.path(&["a", "d"]), None);
        assert!(value.elements().is_empty());
        let members = value.members().into_iter();
        let members: Vec<_> = members
            .map(|(name, it)| (name.decode(), it.get()))
            .collect();
        assert_eq!(members[2..], [("e".into(), "true"), ("a".into(), "0")]);
        assert!(value.member("a").unwrap().members().is_empty());
    }

    #[test]
    fn nesting_has_a_bound() {
        let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        assert!(JsonValue::read(&nested(128)).is_some());
        assert!(JsonValue::read(&nested(129)).is_none());
        for depth in [0, 1, 5, 128] {
            assert!(Cursor::within(&nested(depth), depth).value().is_some() || depth == 0);
            assert!(Cursor::within(&nested(depth + 1), depth).value().is_none());
        }
    }

    fn json() -> impl Strategy<Value = String> {
        let text = "([ -~]|\u{e9}|\\\\[nt/\"\\\\]|\\\\u[0-9a-fA-F]{4}){0,40}";
        let leaf = prop_oneof![
            Just("null".into()),
            Just("true".into()),
            "-?(0|[1-9][0-9]{0,3})(\\.[0-9]{1,3})?([eE][-+]?[0-9]{1,2})?",
            text.prop_map(|text| {
                let plain: String = text.split('"').collect();
                format!("\"{plain}\"")
            }),
        ];
        leaf.prop_recursive(4, 24, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4)
                    .prop_map(|all| format!("[{}]", all.join(" ,"))),
                prop::collection::btree_map("[a-c_]{1,2}", inner, 0..4).prop_map(|all| {
                    let all = all.iter().map(|(name, it)| format!("\"{name}\": {it}"));
                    format!("{{ {} }}", all.collect::<Vec<_>>().join(","))
                }),
            ]
        })
    }

    /// Holds the reading to that of `serde_json`.
    fn agrees(text: &str) {
        let known: Option<&RawValue> = serde_json::from_str(text).ok();
        let read = JsonValue::read(text);
        assert_eq!(read.map(JsonValue::get), known.map(RawValue::get), "{text}");
        let Some(read) = read else { return };
        let elements: Vec<&RawValue> = serde_json::from_str(text).unwrap_or_default();
        let own = read.elements().into_iter().map(JsonValue::get);
        assert!(own.eq(elements.iter().map(|it| it.get())), "{text}");
        let members: BTreeMap<String, &RawValue> = serde_json::from_str(text).unwrap_or_default();
        for (name, value) in members {
            assert_eq!(read.member(&name).unwrap().get(), value.get(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_value_reads_as_another_reader_reads_it(text in json()) {
            agrees(&text);
        }

        #[test]
        fn damaged_text_too(text in json(), damage in damage()) {
            let damaged = damage.of(&text);
            let known: Option<&RawValue> = serde_json::from_str(&damaged).ok();
            let read = JsonValue::read(&damaged);
            prop_assert_eq!(read.map(JsonValue::get), known.map(RawValue::get));
        }
    }
}
