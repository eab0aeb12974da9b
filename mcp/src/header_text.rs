//! Texts as values of headers: `=?base64?…?=` where one could not stand there as it is (revision 2026-07-28, "Value Encoding").

use alloc::borrow::Cow;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

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
    for group in text.as_bytes().chunks(3) {
        let byte = |at: usize| u32::from(group.get(at).copied().unwrap_or_default());
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for place in 0..4_usize {
            let digit = (bits >> (18 - 6 * place)) & 63;
            out.push(if place > group.len() {
                '='
            } else {
                digit_of_base64(digit)
            });
        }
    }
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
            let bytes = base64(encoded)?;
            let text = core::str::from_utf8(&bytes).ok()?;
            Some(Cow::Owned(text.to_string()))
        }
    }
}

fn digit_of_base64(value: u32) -> char {
    let (first, base) = match value {
        0..26 => (b'A', 0),
        26..52 => (b'a', 26),
        52..62 => (b'0', 52),
        62 => (b'+', 62),
        _ => (b'/', 63),
    };
    let offset = u8::try_from(value.saturating_sub(base)).unwrap_or_default();
    char::from(first.saturating_add(offset))
}

/// Decodes base64 (RFC 4648, section 4), with its padding.
fn base64(text: &str) -> Option<Vec<u8>> {
    let digits = text.trim_end_matches('=');
    if !text.len().is_multiple_of(4) || text.len() - digits.len() > 2 {
        return None;
    }
    let (mut out, mut bits, mut held) = (Vec::with_capacity(text.len()), 0_u32, 0_u32);
    for digit in digits.bytes() {
        let value = match digit {
            b'A'..=b'Z' => digit - b'A',
            b'a'..=b'z' => digit - b'a' + 26,
            b'0'..=b'9' => digit - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        bits = (bits << 6 | u32::from(value)) & 0xFFFF;
        held += 6;
        if held >= 8 {
            held -= 8;
            out.push(u8::try_from(bits >> held & 0xFF).unwrap_or_default());
        }
    }
    Some(out)
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
