//! Server-sent events (WHATWG HTML, section "Server-sent events"): writing and reading of `text/event-stream`.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

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

/// Writes a whole event. Data may hold line breaks: each line becomes a `data` field. Line breaks and NUL in `event` and `id` cannot be
/// expressed and are dropped.
pub fn write_event(out: &mut Vec<u8>, event: Option<&str>, id: Option<&str>, data: &str) {
    for (name, value) in [(b"id: ".as_slice(), id), (b"event: ".as_slice(), event)] {
        if let Some(value) = value {
            out.extend_from_slice(name);
            out.extend(value.bytes().filter(|b| !matches!(b, b'\r' | b'\n' | 0)));
            out.push(b'\n');
        }
    }
    write_lines(out, b"data: ", data);
    out.push(b'\n');
}

/// Writes the time that a client is to wait before it connects again, in milliseconds.
pub fn write_retry(out: &mut Vec<u8>, milliseconds: u64) {
    out.extend_from_slice(b"retry: ");
    out.extend_from_slice(itoa::Buffer::new().format(milliseconds).as_bytes());
    end(out);
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

/// One event as read from a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event<'a> {
    /// The event's type; `message` if the stream named none.
    pub event: &'a str,
    /// The data lines, joined by LF.
    pub data: &'a str,
    /// The last id that the stream has set, in this event or an earlier one; empty if none.
    pub id: &'a str,
}

/// An event was longer than the reader allows. The stream cannot be read on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EventTooLong {
    /// The limit, in bytes of one event's lines together.
    pub limit: usize,
}

impl fmt::Display for EventTooLong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "an event of the stream is longer than the limit of {} bytes",
            self.limit
        )
    }
}

impl core::error::Error for EventTooLong {}

/// Reads a `text/event-stream` that comes in pieces, as the standard's parser does: CR, LF or CRLF end a line, a leading byte order mark is
/// dropped, comments and unknown fields are skipped, bytes that are no UTF-8 are replaced, and an event that is cut off by the end of the
/// stream is not handed out.
#[derive(Debug)]
pub struct EventReader {
    line: Vec<u8>,
    data: Vec<u8>,
    event: Vec<u8>,
    id: Vec<u8>,
    /// Lossy texts of an event that held bytes which are no UTF-8.
    text: [String; 3],
    retry: Option<u64>,
    /// Bytes of lines taken into the event at hand.
    size: usize,
    limit: usize,
    has_data: bool,
    /// The last byte was a CR that ended a line, so an LF that follows belongs to it.
    after_cr: bool,
    /// No line was taken yet, so a byte order mark may come.
    at_start: bool,
    /// An event was handed out and is to be cleared before the next.
    taken: bool,
    failed: bool,
}

impl EventReader {
    /// A reader that refuses events whose lines together are longer than `limit` bytes.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        Self {
            line: Vec::new(),
            data: Vec::new(),
            event: Vec::new(),
            id: Vec::new(),
            text: Default::default(),
            retry: None,
            size: 0,
            limit,
            has_data: false,
            after_cr: false,
            at_start: true,
            taken: false,
            failed: false,
        }
    }

    /// The time to wait before connecting again, in milliseconds, if the stream has set one.
    #[must_use]
    pub fn retry(&self) -> Option<u64> {
        self.retry
    }

    /// The next whole event, taken off the front of `input`; `None` when all of `input` is consumed and more is needed.
    ///
    /// # Errors
    /// [`EventTooLong`], now and at every later call.
    pub fn next_event(&mut self, input: &mut &[u8]) -> Result<Option<Event<'_>>, EventTooLong> {
        if core::mem::take(&mut self.taken) {
            self.clear();
        }
        if self.failed {
            return Err(EventTooLong { limit: self.limit });
        }
        while !input.is_empty() {
            if core::mem::take(&mut self.after_cr)
                && let Some(rest) = input.strip_prefix(b"\n")
            {
                *input = rest;
                continue;
            }
            let end = memchr::memchr2(b'\n', b'\r', input);
            let (piece, rest) = input.split_at(end.unwrap_or(input.len()));
            if self
                .size
                .saturating_add(self.line.len())
                .saturating_add(piece.len())
                > self.limit
            {
                self.failed = true;
                self.clear();
                self.line = Vec::new();
                self.data = Vec::new();
                return Err(EventTooLong { limit: self.limit });
            }
            if end.is_none() {
                self.line.extend_from_slice(piece);
                *input = &[];
                break;
            }
            self.after_cr = rest.first() == Some(&b'\r');
            *input = rest.get(1..).unwrap_or_default();
            let complete = if self.line.is_empty() {
                self.take_line(piece)
            } else {
                let mut line = core::mem::take(&mut self.line);
                line.extend_from_slice(piece);
                let complete = self.take_line(&line);
                line.clear();
                self.line = line;
                complete
            };
            if complete {
                self.taken = true;
                let [event_text, data_text, id_text] = &mut self.text;
                return Ok(Some(Event {
                    event: if self.event.is_empty() {
                        "message"
                    } else {
                        text(&self.event, event_text)
                    },
                    data: text(&self.data, data_text),
                    id: text(&self.id, id_text),
                }));
            }
        }
        Ok(None)
    }

    fn clear(&mut self) {
        self.data.clear();
        self.event.clear();
        self.has_data = false;
        self.size = 0;
    }

    /// True if the line completes an event.
    fn take_line(&mut self, line: &[u8]) -> bool {
        let mut line = line;
        if core::mem::take(&mut self.at_start) {
            line = line.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(line);
        }
        if line.is_empty() {
            let complete = self.has_data;
            if !complete {
                self.clear();
            }
            return complete;
        }
        let (name, value) = match memchr::memchr(b':', line) {
            // A comment is not held, so it is not counted either.
            Some(0) => return false,
            Some(colon) => {
                let (name, value) = line.split_at(colon);
                let value = value.get(1..).unwrap_or_default();
                (name, value.strip_prefix(b" ").unwrap_or(value))
            }
            None => (line, b"".as_slice()),
        };
        match name {
            b"data" => {
                if self.has_data {
                    self.data.push(b'\n');
                }
                self.has_data = true;
                self.data.extend_from_slice(value);
                // The line break counts, so that empty lines are not free.
                self.size = self.size.saturating_add(line.len()).saturating_add(1);
            }
            b"event" => {
                self.event.clear();
                self.event.extend_from_slice(value);
            }
            b"id" if !value.contains(&0) => {
                self.id.clear();
                self.id.extend_from_slice(value);
            }
            b"retry" if !value.is_empty() && value.iter().all(u8::is_ascii_digit) => {
                if let Some(retry) = core::str::from_utf8(value)
                    .ok()
                    .and_then(|v| v.parse().ok())
                {
                    self.retry = Some(retry);
                }
            }
            _ => {}
        }
        false
    }
}

fn text<'a>(bytes: &'a [u8], lossy: &'a mut String) -> &'a str {
    match core::str::from_utf8(bytes) {
        Ok(text) => text,
        Err(_) => {
            *lossy = String::from_utf8_lossy(bytes).into_owned();
            lossy
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use super::*;
    use alloc::string::ToString;
    use proptest::prelude::*;

    type Read = (Vec<(String, String, String)>, Option<u64>, bool);

    fn read(pieces: &[&[u8]], limit: usize) -> Read {
        let mut reader = EventReader::new(limit);
        let mut all = Vec::new();
        for piece in pieces {
            let mut input = *piece;
            loop {
                match reader.next_event(&mut input) {
                    Ok(Some(e)) => {
                        all.push((e.event.to_string(), e.data.to_string(), e.id.to_string()))
                    }
                    Ok(None) => break,
                    Err(_) => return (all, reader.retry(), true),
                }
            }
        }
        (all, reader.retry(), false)
    }

    fn events(stream: &[u8]) -> Vec<(String, String, String)> {
        read(&[stream], 1 << 16).0
    }

    fn event(event: &str, data: &str, id: &str) -> (String, String, String) {
        (event.to_string(), data.to_string(), id.to_string())
    }

    #[test]
    fn streams_of_the_standard_are_read_as_it_says() {
        assert_eq!(
            events(b"data: YHOO\ndata: +2\ndata: 10\n\n"),
            [event("message", "YHOO\n+2\n10", "")]
        );
        assert_eq!(
            events(b": test stream\n\ndata: first event\nid: 1\n\ndata:second event\nid\n\ndata:  third event\n\n"),
            [event("message", "first event", "1"), event("message", "second event", ""), event("message", " third event", "")]
        );
        assert_eq!(
            events(b"data\n\ndata\ndata\n\ndata:"),
            [event("message", "", ""), event("message", "\n", "")]
        );
        assert_eq!(
            events(b"data:test\n\ndata: test\n\n"),
            [event("message", "test", ""), event("message", "test", "")]
        );
    }

    #[test]
    fn line_ends_marks_and_odd_fields_are_read_as_the_standard_says() {
        assert_eq!(
            events(b"\xEF\xBB\xBFdata: a\r\rdata: b\r\n\r\ndata: c\n\n"),
            [
                event("message", "a", ""),
                event("message", "b", ""),
                event("message", "c", "")
            ]
        );
        assert_eq!(
            events(b"event: x\n\ndata: a\n\n"),
            [event("message", "a", "")],
            "an event without data is dropped"
        );
        assert_eq!(
            events(b"id: a\0b\ndata: x\n\n"),
            [event("message", "x", "")],
            "an id with NUL is ignored"
        );
        assert_eq!(
            events(b"data: \xFF\xFE\n\n"),
            [event("message", "\u{FFFD}\u{FFFD}", "")]
        );
        assert_eq!(
            events("data: a\u{2028}b\n\n".as_bytes()),
            [event("message", "a\u{2028}b", "")]
        );
        assert_eq!(read(&[b"retry: 15\nretry: x\nretry:\n\n"], 99).1, Some(15));
    }

    #[test]
    fn the_limit_holds_for_one_event_not_for_the_stream() {
        let long =
            b"data: 12345678\n\n: a comment that goes by\n: another\n: and one more\n\ndata: 1\n\n";
        assert_eq!(read(&[long], 32).0.len(), 2);
        assert_eq!(
            read(&[b"data: 1\ndata: 2\ndata: 3\n\n"], 16),
            (Vec::new(), None, true)
        );
        assert_eq!(
            read(&[b"data: endless endless endless"], 16),
            (Vec::new(), None, true)
        );
    }

    proptest! {
        #[test]
        fn any_split_gives_the_same_events(
            text in "\u{FEFF}?((data|event|id|retry|other|):? ?([0-9aé\u{2028}]{0,5})(\r\n|\n|\r|\n\n|\r\n\r\n)?){0,12}",
            cuts in proptest::collection::vec(0usize..160, 0..8),
            limit in 4usize..60,
        ) {
            let bytes = text.as_bytes();
            prop_assert_eq!(read(&crate::wire::split(bytes, &cuts), limit), read(&[bytes], limit));
        }

        #[test]
        fn what_is_written_is_read(name in "[a-z]{1,5}", id in "[a-z0-9]{0,5}", data in "[ -~é\n\u{2028}]{0,40}", note in "[ -~\r\n]{0,9}") {
            let mut out = Vec::new();
            write_comment(&mut out, &note);
            write_retry(&mut out, 7);
            write_event(&mut out, Some(&name), Some(&id), &data);
            prop_assert_eq!(read(&[&out], 999), (alloc::vec![event(&name, &data, &id)], Some(7), false));
        }

        #[test]
        fn bytes_of_any_kind_are_survived(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            read(&[&bytes], 64);
        }
    }
}
