//! Sections that may also be written as one word: `audit: off`, `log: debug`, `alias: model`.

use super::sections::{Alias, Audit, Log, LogLevel};
use serde::Deserialize;
use serde::de::{self, Deserializer, MapAccess, Visitor, value::MapAccessDeserializer};
use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;
use std::path::PathBuf;

/// Reads a section, or the one word that is short for it.
struct ShortOrSection<T, F> {
    expected: &'static str,
    short: F,
    section: PhantomData<T>,
}

impl<'de, T, F> Visitor<'de> for ShortOrSection<T, F>
where
    T: Deserialize<'de>,
    F: FnOnce(&str) -> Option<T>,
{
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.expected)
    }

    fn visit_bool<E: de::Error>(self, value: bool) -> Result<T, E> {
        let expected = self.expected;
        let refuse = || E::invalid_type(de::Unexpected::Bool(value), &expected);
        if value {
            Err(refuse())
        } else {
            (self.short)("off").ok_or_else(refuse)
        }
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<T, E> {
        let expected = self.expected;
        (self.short)(text).ok_or_else(|| E::invalid_type(de::Unexpected::Str(text), &expected))
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<T, A::Error> {
        T::deserialize(MapAccessDeserializer::new(map))
    }
}

pub(crate) fn audit<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Audit, D::Error> {
    deserializer.deserialize_map(ShortOrSection {
        expected: "`off` or a section such as `{ file: audit.jsonl }`",
        short: |text: &str| {
            (text == "off").then(|| Audit {
                file: None,
                ..Audit::default()
            })
        },
        section: PhantomData,
    })
}

pub(crate) fn log<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Log, D::Error> {
    deserializer.deserialize_map(ShortOrSection {
        expected: "a level (`error`, `warn`, `info`, `debug`, `trace`, `off`) or a section such as `{ level: info }`",
        short: |text: &str| LogLevel::from_name(text).map(|level| Log { level, ..Log::default() }),
        section: PhantomData,
    })
}

pub(crate) fn audit_file<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<PathBuf>, D::Error> {
    struct PathVisitor;
    impl Visitor<'_> for PathVisitor {
        type Value = Option<PathBuf>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a path, or `off` to write none")
        }

        fn visit_bool<E: de::Error>(self, value: bool) -> Result<Option<PathBuf>, E> {
            if value {
                Err(E::invalid_type(de::Unexpected::Bool(value), &self))
            } else {
                Ok(None)
            }
        }

        fn visit_str<E: de::Error>(self, text: &str) -> Result<Option<PathBuf>, E> {
            Ok(if text == "off" {
                None
            } else {
                Some(PathBuf::from(text))
            })
        }
    }
    deserializer.deserialize_str(PathVisitor)
}

pub(crate) fn aliases<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<BTreeMap<String, Alias>, D::Error> {
    struct Short(Alias);
    impl<'de> Deserialize<'de> for Short {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            let alias = deserializer.deserialize_map(ShortOrSection {
                expected: "the name of a model or a section such as `{ model: NAME, context_length: 128000 }`",
                short: |text: &str| Some(Alias { model: text.to_owned(), context_length: None }),
                section: PhantomData,
            })?;
            Ok(Short(alias))
        }
    }
    let short = BTreeMap::<String, Short>::deserialize(deserializer)?;
    let mut aliases = BTreeMap::new();
    aliases.extend(short.into_iter().map(|(name, Short(alias))| (name, alias)));
    Ok(aliases)
}
