//! Vectors of an embedding answer.

use alloc::borrow::Cow;
use alloc::string::String;

/// An array of numbers as it was written, without white space; `None` for any other JSON value.
pub(super) fn numbers(json: &str) -> Option<Cow<'_, str>> {
    // Of all JSON values only an array of numbers is made of these bytes and has its one bracket in front.
    let is_numbers = json.rfind('[') == Some(0)
        && json.bytes().all(|byte| {
            matches!(
                byte,
                b'0'..=b'9' | b'+' | b'-' | b'.' | b'e' | b'E' | b',' | b'[' | b']'
            ) || blank(byte)
        });
    is_numbers.then(|| {
        if json.bytes().any(blank) {
            Cow::Owned(json.split_ascii_whitespace().collect::<String>())
        } else {
            Cow::Borrowed(json)
        }
    })
}

const fn blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r')
}
