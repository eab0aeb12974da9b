//! Text on its way through: the inside of a JSON string, never unescaped where it does not have to be.
//!
//! Agents write JSON and clients read JSON, so a delta is copied from one to the other in its escaped form. What a
//! client must never see is mended on the way: split or lone halves of UTF-16 surrogate pairs, and the three line
//! separators beyond ASCII, which several clients take for the end of a line.

mod cursor;
#[cfg(test)]
pub(crate) mod damage;
mod scan;
mod value;

use alloc::borrow::Cow;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
pub(crate) use cursor::Cursor;
pub(crate) use scan::{has_none, split_once};
use serde::de::{Deserialize, Deserializer, Error, Unexpected};
use serde_json::value::RawValue;
pub use value::JsonValue;

/// The inside of a JSON string (RFC 8259, section 7) without its quotes, still escaped.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct JsonStr<'a>(&'a str);

impl<'a> JsonStr<'a> {
    /// Nothing.
    pub const EMPTY: Self = Self("");

    /// Takes text that is known to be the inside of a JSON string: one that a JSON parser delimited, or that needs no escape.
    #[must_use]
    pub const fn from_escaped(inside: &'a str) -> Self {
        Self(inside)
    }

    /// `None` when the value is not a string.
    #[must_use]
    pub fn from_raw(raw: &'a RawValue) -> Option<Self> {
        let text = raw.get();
        text.strip_prefix('"')?.strip_suffix('"').map(Self)
    }

    /// The escaped form.
    #[must_use]
    pub const fn as_escaped(self) -> &'a str {
        self.0
    }

    /// Length of the escaped form in bytes.
    #[must_use]
    pub const fn len(self) -> usize {
        self.0.len()
    }

    /// True when there is no text.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0.is_empty()
    }

    /// True when it stands for this text.
    #[must_use]
    #[inline]
    pub fn is(self, text: &str) -> bool {
        self.0 == text || (self.0.contains('\\') && self.decode() == text)
    }

    /// The form in which this program escapes the text: that of [`escape_into`]. Two texts are the same when these are.
    #[must_use]
    pub fn normal(self) -> Cow<'a, str> {
        if self.is_normal() {
            return Cow::Borrowed(self.0);
        }
        let mut out = Vec::with_capacity(self.0.len());
        escape_into(&mut out, &self.decode());
        Cow::Owned(String::from_utf8(out).unwrap_or_default())
    }

    /// True when it has no escapes but the shortest ones, and no separator that is to be escaped.
    fn is_normal(self) -> bool {
        let mut bytes = self.0.as_bytes();
        if looks_normal(bytes) {
            return true;
        }
        if memchr::memchr2_iter(0xE2, 0xC2, bytes)
            .any(|at| separator(bytes.get(at..).unwrap_or_default()).is_some())
        {
            return false;
        }
        while let Some(at) = memchr::memchr(b'\\', bytes) {
            let Some([b'"' | b'\\' | b'n' | b'r' | b't', rest @ ..]) = bytes.get(at + 1..) else {
                return false;
            };
            bytes = rest;
        }
        true
    }

    /// Each character of the text, decoded on the way.
    pub fn chars(self) -> impl Iterator<Item = char> + Clone + use<'a> {
        let mut rest = self.0;
        core::iter::from_fn(move || {
            let (next, width) = match rest.as_bytes().first()? {
                b'\\' => decode_escape(rest.as_bytes()),
                _ => rest.chars().next().map(|next| (next, next.len_utf8()))?,
            };
            rest = rest.get(width..).unwrap_or_default();
            Some(next)
        })
    }

    /// The text itself. Lone surrogate halves become U+FFFD.
    #[must_use]
    pub fn decode(self) -> Cow<'a, str> {
        if self.0.contains('\\') {
            let mut text = String::with_capacity(self.0.len());
            decode_into(self.0, &mut text);
            Cow::Owned(text)
        } else {
            Cow::Borrowed(self.0)
        }
    }
}

impl fmt::Debug for JsonStr<'_> {
    /// Text is never shown: it may be a prompt.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "JsonStr({} bytes)", self.0.len())
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for JsonStr<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = <&'de RawValue>::deserialize(deserializer)?;
        Self::from_raw(raw).ok_or_else(|| D::Error::invalid_type(unexpected(raw), &"a string"))
    }
}

/// The text of one JSON value, as its writer wrote it or as it was put together here.
#[derive(Clone, PartialEq, Eq)]
pub struct RawJson<'a>(Cow<'a, str>);

impl<'a> RawJson<'a> {
    /// Takes text that is known to be one JSON value.
    #[must_use]
    pub const fn from_text(text: &'a str) -> Self {
        Self(Cow::Borrowed(text))
    }

    /// The text.
    #[must_use]
    pub fn get(&self) -> &str {
        &self.0
    }
}

impl<'a> From<JsonValue<'a>> for RawJson<'a> {
    fn from(value: JsonValue<'a>) -> Self {
        Self::from_text(value.get())
    }
}

impl RawJson<'static> {
    /// Takes text that is one JSON value because its parts are.
    #[must_use]
    pub const fn from_parts(text: String) -> Self {
        Self(Cow::Owned(text))
    }
}

impl fmt::Debug for RawJson<'_> {
    /// Text is never shown: it may be a prompt.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RawJson({} bytes)", self.0.len())
    }
}

/// Names the kind of a raw value for an error message, never its content.
#[must_use]
pub fn unexpected(raw: &RawValue) -> Unexpected<'static> {
    match raw.get().as_bytes().first() {
        Some(b'{') => Unexpected::Map,
        Some(b'[') => Unexpected::Seq,
        Some(b'n') => Unexpected::Unit,
        Some(b'"') => Unexpected::Other("string"),
        Some(b't' | b'f') => Unexpected::Other("boolean"),
        _ => Unexpected::Other("number"),
    }
}

/// `plain` as the inside of a JSON string, see [`escape_into`].
#[must_use]
pub fn escaped(plain: &str) -> Cow<'_, str> {
    if looks_plain(plain.as_bytes()) {
        return Cow::Borrowed(plain);
    }
    let mut out = Vec::with_capacity(plain.len() + 16);
    escape_into(&mut out, plain);
    Cow::Owned(String::from_utf8(out).unwrap_or_default())
}

/// Appends `plain` as the inside of a JSON string, the line separators U+2028, U+2029 and U+0085 escaped too.
pub fn escape_into(out: &mut Vec<u8>, plain: &str) {
    let bytes = plain.as_bytes();
    if looks_plain(bytes) {
        out.extend_from_slice(bytes);
        return;
    }
    let mut done = 0;
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        let (escape, width): (&[u8], usize) = match byte {
            b'"' => (b"\\\"", 1),
            b'\\' => (b"\\\\", 1),
            b'\n' => (b"\\n", 1),
            b'\r' => (b"\\r", 1),
            b'\t' => (b"\\t", 1),
            0..0x20 => (&control_escape(*byte), 1),
            0xE2 | 0xC2 => match separator(bytes.get(at..).unwrap_or_default()) {
                Some(found) => found,
                None => {
                    at += 1;
                    continue;
                }
            },
            _ => {
                at += 1;
                continue;
            }
        };
        out.extend_from_slice(bytes.get(done..at).unwrap_or_default());
        out.extend_from_slice(escape);
        at += width;
        done = at;
    }
    out.extend_from_slice(bytes.get(done..).unwrap_or_default());
}

/// True when no byte needs an escape or can begin a separator.
fn looks_plain(bytes: &[u8]) -> bool {
    has_none::<32>(bytes, |byte| {
        (byte == b'"') | (byte == b'\\') | (byte < 0x20) | (byte == 0xE2) | (byte == 0xC2)
    })
}

/// True when no byte can begin a separator and no backslash precedes the letter of another escape than the shortest ones. It
/// errs on one side only, as an escaped backslash may precede such a letter; a loop that the compiler makes vectors of.
fn looks_normal(bytes: &[u8]) -> bool {
    let pairs = bytes.iter().zip(bytes.get(1..).unwrap_or_default());
    !pairs.fold(false, |odd, (first, second)| {
        let is_long = (*first == b'\\')
            & ((*second == b'u') | (*second == b'/') | (*second == b'b') | (*second == b'f'));
        odd | is_long | (*first == 0xE2) | (*first == 0xC2)
    })
}

fn control_escape(byte: u8) -> [u8; 6] {
    let digit = |nibble: u8| {
        if nibble < 10 {
            b'0' + nibble
        } else {
            b'a' + nibble - 10
        }
    };
    [b'\\', b'u', b'0', b'0', digit(byte >> 4), digit(byte & 0xf)]
}

/// The escape and the width of a line separator at the start of `bytes`.
fn separator(bytes: &[u8]) -> Option<(&'static [u8], usize)> {
    match bytes {
        [0xE2, 0x80, 0xA8, ..] => Some((b"\\u2028", 3)),
        [0xE2, 0x80, 0xA9, ..] => Some((b"\\u2029", 3)),
        [0xC2, 0x85, ..] => Some((b"\\u0085", 2)),
        _ => None,
    }
}

/// Reads `\uXXXX` at the start of `bytes`.
fn unicode_escape(bytes: &[u8]) -> Option<u16> {
    let [b'\\', b'u', digits @ ..] = bytes else {
        return None;
    };
    digits.get(..4)?.iter().try_fold(0u16, |value, digit| {
        let nibble = char::from(*digit).to_digit(16)?;
        Some((value << 4) | u16::try_from(nibble).ok()?)
    })
}

const fn is_high(unit: u16) -> bool {
    matches!(unit, 0xD800..=0xDBFF)
}

const fn is_low(unit: u16) -> bool {
    matches!(unit, 0xDC00..=0xDFFF)
}

/// Appends the text that the escaped form stands for.
pub fn decode_into(escaped: &str, out: &mut String) {
    let mut rest = escaped;
    while let Some(at) = memchr::memchr(b'\\', rest.as_bytes()) {
        let (before, escape) = rest.split_at(at);
        out.push_str(before);
        let (decoded, width) = decode_escape(escape.as_bytes());
        out.push(decoded);
        rest = escape.get(width..).unwrap_or_default();
    }
    out.push_str(rest);
}

/// The character that the escape at the start of `bytes` stands for, and how many bytes it takes.
fn decode_escape(bytes: &[u8]) -> (char, usize) {
    match bytes.get(1) {
        Some(b'n') => ('\n', 2),
        Some(b't') => ('\t', 2),
        Some(b'r') => ('\r', 2),
        Some(b'b') => ('\u{8}', 2),
        Some(b'f') => ('\u{c}', 2),
        Some(b'u') => match unicode_escape(bytes) {
            Some(high) if is_high(high) => {
                match unicode_escape(bytes.get(6..).unwrap_or_default()) {
                    Some(low) if is_low(low) => (
                        char::decode_utf16([high, low])
                            .next()
                            .and_then(Result::ok)
                            .unwrap_or(char::REPLACEMENT_CHARACTER),
                        12,
                    ),
                    _ => (char::REPLACEMENT_CHARACTER, 6),
                }
            }
            Some(unit) => (
                char::from_u32(u32::from(unit)).unwrap_or(char::REPLACEMENT_CHARACTER),
                6,
            ),
            None => (char::REPLACEMENT_CHARACTER, 2),
        },
        Some(plain @ (b'"' | b'\\' | b'/')) => (char::from(*plain), 2),
        _ => (char::REPLACEMENT_CHARACTER, 1),
    }
}

/// Mends one channel of streamed text: joins a surrogate pair that was cut between two deltas, replaces lone halves
/// by U+FFFD, escapes line separators. One for each of content, reasoning, and so on.
#[derive(Clone, Copy, Debug, Default)]
pub struct Joiner {
    /// The first half of a pair, waiting for the second.
    half: Option<u16>,
}

const REPLACEMENT: &[u8] = b"\\ufffd";

impl Joiner {
    /// The mended form of `text`: `text` itself when nothing was wrong, else built in `scratch`.
    #[inline]
    pub fn mend<'t>(&mut self, text: JsonStr<'t>, scratch: &'t mut Vec<u8>) -> &'t [u8] {
        let bytes = text.0.as_bytes();
        if self.half.is_none() && memchr::memchr3(b'\\', 0xE2, 0xC2, bytes).is_none() {
            return bytes;
        }
        scratch.clear();
        self.mend_into(bytes, scratch);
        scratch
    }

    #[inline(never)]
    fn mend_into(&mut self, bytes: &[u8], out: &mut Vec<u8>) {
        let mut rest = bytes;
        if let Some(high) = self.half {
            if rest.is_empty() {
                return;
            }
            self.half = None;
            match unicode_escape(rest) {
                Some(low) if is_low(low) => {
                    write_unit(out, high);
                    write_unit(out, low);
                    rest = rest.get(6..).unwrap_or_default();
                }
                _ => out.extend_from_slice(REPLACEMENT),
            }
        }
        while let Some(at) = memchr::memchr3(b'\\', 0xE2, 0xC2, rest) {
            let (before, from) = rest.split_at(at);
            out.extend_from_slice(before);
            let width = if from.first() == Some(&b'\\') {
                self.mend_escape(from, out)
            } else if let Some((escape, width)) = separator(from) {
                out.extend_from_slice(escape);
                width
            } else {
                out.extend_from_slice(from.get(..1).unwrap_or_default());
                1
            };
            rest = from.get(width..).unwrap_or_default();
        }
        out.extend_from_slice(rest);
    }

    /// Copies or mends one escape and returns its width.
    fn mend_escape(&mut self, from: &[u8], out: &mut Vec<u8>) -> usize {
        let Some(unit) = unicode_escape(from) else {
            out.extend_from_slice(from.get(..2).unwrap_or(b"\\\\"));
            return 2;
        };
        if is_high(unit) {
            let next = from.get(6..).unwrap_or_default();
            if next.is_empty() {
                self.half = Some(unit);
                return 6;
            }
            if unicode_escape(next).is_some_and(is_low) {
                out.extend_from_slice(from.get(..12).unwrap_or_default());
                return 12;
            }
            out.extend_from_slice(REPLACEMENT);
        } else if is_low(unit) {
            out.extend_from_slice(REPLACEMENT);
        } else {
            out.extend_from_slice(from.get(..6).unwrap_or_default());
        }
        6
    }

    /// Returns the text that is owed when the channel ends: U+FFFD for a half that stayed alone.
    #[must_use]
    pub fn finish(&mut self) -> &'static [u8] {
        if self.half.take().is_some() {
            REPLACEMENT
        } else {
            b""
        }
    }
}

fn write_unit(out: &mut Vec<u8>, unit: u16) {
    out.extend_from_slice(b"\\u");
    for shift in [12, 8, 4, 0] {
        let nibble = u8::try_from((unit >> shift) & 0xf).unwrap_or(0);
        out.push(if nibble < 10 {
            b'0' + nibble
        } else {
            b'a' + nibble - 10
        });
    }
}

/// Appends lower-case hexadecimal digits.
pub(crate) fn hex(out: &mut Vec<u8>, bytes: &[u8]) {
    for byte in bytes {
        for nibble in [byte >> 4, byte & 0xf] {
            out.push(if nibble < 10 {
                b'0' + nibble
            } else {
                b'a' + nibble - 10
            });
        }
    }
}

/// True when at most so many letters have to be added, left out or replaced to make one text the other.
pub fn within(mistakes: u8, mut left: &[u8], mut right: &[u8]) -> bool {
    while let ([a, after_a @ ..], [b, after_b @ ..]) = (left, right) {
        if !a.eq_ignore_ascii_case(b) {
            break;
        }
        (left, right) = (after_a, after_b);
    }
    let Some(fewer) = mistakes.checked_sub(1) else {
        return left.is_empty() && right.is_empty();
    };
    match (left, right) {
        ([], []) => true,
        ([_, after @ ..], []) | ([], [_, after @ ..]) => within(fewer, after, &[]),
        ([_, after_a @ ..], [_, after_b @ ..]) => {
            within(fewer, after_a, after_b)
                || within(fewer, after_a, right)
                || within(fewer, left, after_b)
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use super::*;
    use alloc::format;
    use proptest::prelude::*;

    fn mended(parts: &[&str]) -> String {
        let mut joiner = Joiner::default();
        let mut out = Vec::new();
        for part in parts {
            let mut scratch = Vec::new();
            out.extend_from_slice(joiner.mend(JsonStr::from_escaped(part), &mut scratch));
        }
        out.extend_from_slice(joiner.finish());
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn halves_are_joined_and_lone_ones_replaced() {
        assert_eq!(mended(&["a\\ud83d", "\\ude00b"]), "a\\ud83d\\ude00b");
        assert_eq!(mended(&["a\\uD83D", "", "\\uDE00b"]), "a\\ud83d\\ude00b");
        assert_eq!(mended(&["a\\ud83d", "b"]), "a\\ufffdb");
        assert_eq!(mended(&["a\\ud83d"]), "a\\ufffd");
        assert_eq!(mended(&["\\ud83dx\\ude00"]), "\\ufffdx\\ufffd");
        assert_eq!(mended(&["\\\\ud83d"]), "\\\\ud83d");
        assert_eq!(mended(&["\\ud83d\\ude00"]), "\\ud83d\\ude00");
        assert_eq!(
            mended(&["\\ud83d", "\\ud83d", "\\ude00"]),
            "\\ufffd\\ud83d\\ude00"
        );
    }

    #[test]
    fn line_separators_are_escaped_and_their_neighbours_are_not() {
        assert_eq!(
            mended(&["a\u{2028}b\u{2029}c\u{85}d\u{2030}e\u{e9}\u{a9}"]),
            "a\\u2028b\\u2029c\\u0085d\u{2030}e\u{e9}\u{a9}"
        );
    }

    proptest! {
        #[test]
        fn any_text_survives_any_cut_by_code_unit(text in any::<String>(), cut in any::<proptest::sample::Index>()) {
            let units: Vec<u16> = text.encode_utf16().collect();
            let cut = cut.index(units.len() + 1);
            let escape = |units: &[u16]| units.iter().map(|unit| format!("\\u{unit:04x}")).collect::<String>();
            let joined = mended(&[&escape(&units[..cut]), &escape(&units[cut..])]);
            prop_assert_eq!(JsonStr::from_escaped(&joined).decode(), text);
        }

        #[test]
        fn what_is_escaped_decodes_to_itself_as_any_parser_sees_it(text in any::<String>()) {
            let mut out = Vec::new();
            escape_into(&mut out, &text);
            let escaped = String::from_utf8(out).unwrap();
            prop_assert!(!escaped.contains(['\u{2028}', '\u{2029}', '\u{85}', '\n']), "separator");
            prop_assert_eq!(&serde_json::from_str::<String>(&format!("\"{escaped}\"")).unwrap(), &text);
            prop_assert_eq!(JsonStr::from_escaped(&escaped).decode(), text.as_str());
            prop_assert_eq!(mended(&[&escaped]), escaped.as_str());
        }

        #[test]
        fn mending_arbitrary_escapes_yields_valid_json(text in "([a-z\\x22]|\\\\u[dD][89a-fA-F][0-9a-f]{2}|\\\\[n/u])*") {
            let escaped = text.replace('"', "\\\"").replace("\\u\\", "\\");
            if serde_json::from_str::<&RawValue>(&format!("\"{escaped}\"")).is_ok() {
                let fixed = mended(&[&escaped]);
                let parsed: String = serde_json::from_str(&format!("\"{fixed}\"")).unwrap();
                prop_assert_eq!(JsonStr::from_escaped(&escaped).decode(), parsed);
            }
        }
    }
}
