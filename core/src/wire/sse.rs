//! Server-sent events (WHATWG HTML, section "Server-sent events"): writing of `text/event-stream`.

use alloc::vec::Vec;

/// Opens an event whose data is one line that the caller appends to `out`; close it with [`end`].
#[inline]
pub fn begin(out: &mut Vec<u8>, event: Option<&'static str>) {
    if let Some(event) = event {
        out.extend_from_slice(b"event: ");
        out.extend_from_slice(event.as_bytes());
        out.push(b'\n');
    }
    out.extend_from_slice(b"data: ");
}

/// Closes the event that [`begin`] opened.
#[inline]
pub fn end(out: &mut Vec<u8>) {
    out.extend_from_slice(b"\n\n");
}

/// Writes a comment, which every reader skips. A line break in `text` starts a further comment line.
#[inline]
pub fn write_comment(out: &mut Vec<u8>, text: &str) {
    write_lines(out, b": ", text);
    out.push(b'\n');
}

fn write_lines(out: &mut Vec<u8>, field: &[u8], text: &str) {
    let mut rest = text.as_bytes();
    loop {
        out.extend_from_slice(field);
        let Some(at) = memchr::memchr2(b'\n', b'\r', rest) else {
            out.extend_from_slice(rest);
            out.push(b'\n');
            return;
        };
        let (line, after) = rest.split_at(at);
        out.extend_from_slice(line);
        out.push(b'\n');
        rest = after
            .strip_prefix(b"\r\n")
            .or_else(|| after.get(1..))
            .unwrap_or_default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_comment_of_several_lines_stays_a_comment() {
        for (text, written) in [
            ("keep-alive", ": keep-alive\n\n"),
            ("a\nb\r\nc\rd", ": a\n: b\n: c\n: d\n\n"),
            ("", ": \n\n"),
        ] {
            let mut out = Vec::new();
            write_comment(&mut out, text);
            assert_eq!(out, written.as_bytes(), "{text:?}");
        }
    }
}
