//! Server-sent events (WHATWG HTML, section "Server-sent events"): `text/event-stream`, written and read.

mod reader;

pub use reader::{Piece, Reader, TooLong};

use alloc::borrow::Cow;
use alloc::vec::Vec;
use core::time::Duration;

/// An event of a stream.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Event<'b> {
    /// Its type. `message`, the usual one, is not written.
    pub name: Cow<'b, str>,
    /// Its data, whose lines are separated by line feeds.
    pub data: Cow<'b, str>,
    /// An id of the stream that it comes with: the latest one where it is read. Empty where there is none; none is written then.
    pub id: Cow<'b, str>,
}

/// Reason why an event is not written: its name or its id has a line break in it, or its id a NUL, which no reader would take for
/// a part of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the name or the id of an event holds a line break, or the id a NUL")]
pub struct NotOneLine;

/// Writes a whole event. Every line break in its data separates two lines.
///
/// # Errors
/// Refuses an event whose name or id is not one line, and writes nothing.
pub fn write_event(out: &mut Vec<u8>, event: &Event<'_>) -> Result<(), NotOneLine> {
    if event.name.contains(['\n', '\r']) || event.id.contains(['\n', '\r', '\0']) {
        return Err(NotOneLine);
    }
    let is_named = !event.name.is_empty() && event.name != "message";
    for (field, value, is_written) in [
        (&b"id: "[..], &event.id, !event.id.is_empty()),
        (b"event: ", &event.name, is_named),
    ] {
        if is_written {
            write_lines(out, field, value);
        }
    }
    write_lines(out, b"data: ", &event.data);
    out.push(b'\n');
    Ok(())
}

/// Writes the time, to the millisecond, that a reader is to wait between the end of the stream and its next connection.
pub fn write_retry(out: &mut Vec<u8>, time: Duration) {
    let milliseconds = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    out.extend_from_slice(b"retry: ");
    out.extend_from_slice(itoa::Buffer::new().format(milliseconds).as_bytes());
    out.extend_from_slice(b"\n\n");
}

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
    use alloc::string::String;

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

    fn written(name: &str, data: &str, id: &str) -> Result<String, NotOneLine> {
        let mut out = Vec::new();
        let event = Event {
            name: name.into(),
            data: data.into(),
            id: id.into(),
        };
        write_event(&mut out, &event)?;
        Ok(String::from_utf8(out).unwrap_or_default())
    }

    #[test]
    fn an_event_is_written_with_its_id_and_a_break_in_them_is_refused() {
        assert_eq!(
            written("message", "{}", "7"),
            Ok("id: 7\ndata: {}\n\n".into())
        );
        assert_eq!(
            written("endpoint", "a\r\nb", ""),
            Ok("event: endpoint\ndata: a\ndata: b\n\n".into())
        );
        assert_eq!(written("", "", "x"), Ok("id: x\ndata: \n\n".into()));
        for (name, id) in [("a\ndata: b", ""), ("", "1\r"), ("", "1\0")] {
            assert_eq!(written(name, "", id), Err(NotOneLine), "{name:?} {id:?}");
        }
        let mut out = Vec::new();
        write_retry(&mut out, Duration::from_millis(2500));
        assert_eq!(out, b"retry: 2500\n\n");
    }
}
