//! Texts as values of headers: `=?base64?…?=` where one could not stand there as it is (revision 2026-07-28, "Value Encoding").

use alloc::borrow::Cow;
use alloc::string::{String, ToString};
use data_encoding::BASE64;

const BEGIN: &str = "=?base64?";
const END: &str = "?=";

/// Writes a text as the value of a header.
pub(crate) fn encode(text: &str) -> String {
    let stands = text.bytes().all(|byte| matches!(byte, b' '..=b'~'))
        && text.trim() == text
        && !text.starts_with("=?");
    if stands {
        return text.to_string();
    }
    let mut out = String::from(BEGIN);
    BASE64.encode_append(text.as_bytes(), &mut out);
    out.push_str(END);
    out
}

/// Reads the value of a header; `None` where it is no base64 of UTF-8.
pub(crate) fn decode(value: &str) -> Option<Cow<'_, str>> {
    let encoded = value
        .strip_prefix(BEGIN)
        .and_then(|rest| rest.strip_suffix(END));
    match encoded {
        None => Some(Cow::Borrowed(value)),
        Some(encoded) => {
            let bytes = BASE64.decode(encoded.as_bytes()).ok()?;
            String::from_utf8(bytes).ok().map(Cow::Owned)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_that_cannot_stand_in_a_header_is_base64_and_comes_back() {
        for (text, header) in [
            ("echo", "echo"),
            ("with space", "with space"),
            ("", ""),
            ("Ä", "=?base64?w4Q=?="),
            (" a", "=?base64?IGE=?="),
            ("a\n", "=?base64?YQo=?="),
            ("=?x", "=?base64?PT94?="),
            ("\u{7ff}\u{7ff}>>>", "=?base64?37/fvz4+Pg==?="),
            ("Hello, 世界", "=?base64?SGVsbG8sIOS4lueVjA==?="),
            ("=?base64?literal?=", "=?base64?PT9iYXNlNjQ/bGl0ZXJhbD89?="),
        ] {
            assert_eq!(encode(text), header, "{text:?}");
            assert_eq!(decode(header).as_deref(), Some(text), "{header:?}");
        }
        for wrong in ["=?base64?w4Q?=", "=?base64?w4==?=", "=?base64?%%%%?="] {
            assert_eq!(decode(wrong), None, "{wrong:?}");
        }
    }
}
