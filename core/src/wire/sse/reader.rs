//! Reading of `text/event-stream`, whatever the pieces in which it comes.

#[cfg(test)]
mod tests;

use super::Event;
use alloc::borrow::Cow;
use alloc::string::String;
use alloc::vec::Vec;
use core::time::Duration;

/// The byte order mark, which may stand before the first line.
const MARK: &[u8] = b"\xef\xbb\xbf";

/// Capacity that is kept for the next event, in bytes.
const KEEP: usize = 64 << 10;

/// A piece of a stream.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Piece<'b> {
    /// An event, with the latest id of the stream.
    Event(Event<'b>),
    /// Time that the other side asks for between the end of the stream and the next connection.
    Retry(Duration),
    /// An event that is left out.
    TooLong(TooLong),
}

/// Fault of a stream: an event, or one line, has more bytes than this reader takes. The stream goes on with the next event.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("an event of the stream is longer than {limit} bytes")]
pub struct TooLong {
    /// The limit in bytes.
    pub limit: usize,
}

/// Reader of one stream. It holds `limit` bytes of an event at most; an event that lies in the bytes of one call with its data in
/// one line is borrowed from them. What stands after the last blank line when the stream ends is no event.
#[derive(Debug)]
pub struct Reader {
    limit: usize,
    /// The line that has no end yet.
    line: Vec<u8>,
    /// Data of the event that has no end yet, each line with its line end.
    data: Vec<u8>,
    /// Its type; empty when it has none.
    name: String,
    /// The id that the event gives the stream.
    id: Option<String>,
    /// Bytes of its lines.
    size: usize,
    last_id: String,
    /// Bytes of [`MARK`] that have come; `None` once something else has.
    mark: Option<usize>,
    /// The line before has ended with a carriage return, to which a line feed may belong.
    after_return: bool,
    /// The event is too long, and its rest is passed over; true when the line that is passed over has bytes.
    skipping: Option<bool>,
}

impl Reader {
    /// Makes a reader at the beginning of a stream. `limit` is that of an event's lines in bytes, and of each single line.
    #[must_use]
    pub const fn new(limit: usize) -> Self {
        Self {
            limit,
            line: Vec::new(),
            data: Vec::new(),
            name: String::new(),
            id: None,
            size: 0,
            last_id: String::new(),
            mark: Some(0),
            after_return: false,
            skipping: None,
        }
    }

    /// Returns the latest id of the stream, with which it can be resumed; empty when it has none.
    #[must_use]
    pub fn last_id(&self) -> &str {
        &self.last_id
    }

    /// Returns the memory that it takes for what has no end yet, in bytes.
    #[must_use]
    pub const fn held(&self) -> usize {
        self.line.capacity() + self.data.capacity()
    }

    /// Takes the next bytes, and hands over each piece that ends in them.
    pub fn push<'b>(&mut self, bytes: &'b [u8], mut on: impl FnMut(Piece<'_>)) {
        let mut bytes = self.without_mark(bytes);
        // The only line of data so far, while it lies in `bytes`.
        let mut borrowed: Option<&'b [u8]> = None;
        loop {
            if self.after_return && !bytes.is_empty() {
                self.after_return = false;
                bytes = bytes.strip_prefix(b"\n").unwrap_or(bytes);
            }
            let Some(end) = memchr::memchr2(b'\n', b'\r', bytes) else {
                break;
            };
            let (head, rest) = bytes.split_at(end);
            self.after_return = rest.first() == Some(&b'\r');
            bytes = rest.get(1..).unwrap_or_default();
            if self.skips(head, &mut borrowed, &mut on) {
                if self.skipping == Some(false) {
                    self.skipping = None;
                } else {
                    self.skipping = Some(false);
                }
            } else if self.line.is_empty() {
                if head.is_empty() {
                    self.dispatch(borrowed.take(), &mut on);
                } else {
                    self.take_line(head, &mut borrowed, &mut on);
                }
            } else {
                let mut line = core::mem::take(&mut self.line);
                line.extend_from_slice(head);
                // It does not live as long as the bytes of this call, so its data is copied.
                self.keep(&mut borrowed);
                let mut split = None;
                self.take_line(&line, &mut split, &mut on);
                self.keep(&mut split);
                if line.capacity() <= KEEP {
                    line.clear();
                    self.line = line;
                }
            }
        }
        if !self.skips(bytes, &mut borrowed, &mut on) {
            self.line.extend_from_slice(bytes);
        }
        self.keep(&mut borrowed);
    }

    /// Passes over the byte order mark. Bytes of it that turn out to be none begin the first line.
    fn without_mark<'b>(&mut self, bytes: &'b [u8]) -> &'b [u8] {
        let Some(before) = self.mark else {
            return bytes;
        };
        let wanted = MARK.get(before..).unwrap_or_default();
        let same = wanted.iter().zip(bytes).take_while(|(a, b)| a == b).count();
        let now = before + same;
        if now == MARK.len() {
            self.mark = None;
        } else if same == bytes.len() {
            self.mark = Some(now);
        } else {
            self.mark = None;
            self.line
                .extend_from_slice(MARK.get(..before).unwrap_or_default());
            return bytes;
        }
        bytes.get(same..).unwrap_or_default()
    }

    /// True when the line that goes on with `more` belongs to an event that is too long.
    fn skips(
        &mut self,
        more: &[u8],
        borrowed: &mut Option<&[u8]>,
        on: &mut impl FnMut(Piece<'_>),
    ) -> bool {
        if let Some(has_bytes) = &mut self.skipping {
            *has_bytes |= !more.is_empty();
            return true;
        }
        let line = self.line.len().saturating_add(more.len());
        if self.size.saturating_add(line) <= self.limit {
            return false;
        }
        *borrowed = None;
        self.line = Vec::new();
        self.end_event();
        self.skipping = Some(true);
        on(Piece::TooLong(TooLong { limit: self.limit }));
        true
    }

    /// Takes a line that is not blank.
    fn take_line<'b>(
        &mut self,
        line: &'b [u8],
        borrowed: &mut Option<&'b [u8]>,
        on: &mut impl FnMut(Piece<'_>),
    ) {
        let (field, value) = match memchr::memchr(b':', line) {
            Some(at) => {
                let (field, value) = line.split_at(at);
                let value = value.get(1..).unwrap_or_default();
                (field, value.strip_prefix(b" ").unwrap_or(value))
            }
            None => (line, &b""[..]),
        };
        match field {
            b"data" => {
                if self.data.is_empty() && borrowed.is_none() {
                    *borrowed = Some(value);
                } else {
                    self.keep(borrowed);
                    self.keep(&mut Some(value));
                }
            }
            b"event" => self.name = String::from_utf8_lossy(value).into_owned(),
            b"id" if !value.contains(&0) => {
                self.id = Some(String::from_utf8_lossy(value).into_owned());
            }
            b"retry" if !value.is_empty() && value.iter().all(u8::is_ascii_digit) => {
                let digits = core::str::from_utf8(value).unwrap_or_default();
                let milliseconds = digits.parse().unwrap_or(u64::MAX);
                return on(Piece::Retry(Duration::from_millis(milliseconds)));
            }
            // A comment, or what this reader does not know. Any number of them costs nothing.
            _ => return,
        }
        self.size = self.size.saturating_add(line.len());
    }

    /// Copies data that lies in the bytes of this call.
    fn keep(&mut self, borrowed: &mut Option<&[u8]>) {
        if let Some(line) = borrowed.take() {
            self.data.extend_from_slice(line);
            self.data.push(b'\n');
        }
    }

    /// Takes a blank line.
    fn dispatch(&mut self, borrowed: Option<&[u8]>, on: &mut impl FnMut(Piece<'_>)) {
        if let Some(id) = self.id.take() {
            self.last_id = id;
        }
        if let Some(data) = borrowed.or_else(|| self.data.strip_suffix(b"\n")) {
            on(Piece::Event(Event {
                name: Cow::Borrowed(if self.name.is_empty() {
                    "message"
                } else {
                    &self.name
                }),
                data: String::from_utf8_lossy(data),
                id: Cow::Borrowed(&self.last_id),
            }));
        }
        self.end_event();
    }

    fn end_event(&mut self) {
        if self.data.capacity() > KEEP {
            self.data = Vec::new();
        }
        self.data.clear();
        self.name.clear();
        self.id = None;
        self.size = 0;
    }
}
