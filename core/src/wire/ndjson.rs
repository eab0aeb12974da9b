//! Newline-delimited JSON: one record per line.

use alloc::vec::Vec;
use core::fmt;

/// Closes a record that was appended to `out`.
#[inline]
pub fn end(out: &mut Vec<u8>) {
    out.push(b'\n');
}

/// A line was longer than the reader allows. The stream cannot be read on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LineTooLong {
    /// The limit, in bytes without the line break.
    pub limit: usize,
}

impl fmt::Display for LineTooLong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "a line of the stream is longer than the limit of {} bytes",
            self.limit
        )
    }
}

impl core::error::Error for LineTooLong {}

/// Splits a byte stream that comes in pieces into lines. Blank lines are skipped and a CR before the LF is dropped.
///
/// A line that lies whole in the input is handed out without a copy; at most `limit` bytes are kept between inputs.
#[derive(Debug)]
pub struct LineSplitter {
    partial: Vec<u8>,
    /// `partial` was handed out as a line and is to be emptied before the next.
    taken: bool,
    failed: bool,
    limit: usize,
}

impl LineSplitter {
    /// A splitter that refuses lines longer than `limit` bytes.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        Self {
            partial: Vec::new(),
            taken: false,
            failed: false,
            limit,
        }
    }

    /// The next whole line, taken off the front of `input`; `None` when all of `input` is consumed and more is needed.
    ///
    /// # Errors
    /// [`LineTooLong`], now and at every later call.
    pub fn next_line<'a, 'i: 'a>(
        &'a mut self,
        input: &mut &'i [u8],
    ) -> Result<Option<&'a [u8]>, LineTooLong> {
        self.reset()?;
        loop {
            let Some(at) = memchr::memchr(b'\n', input) else {
                // One byte over, as the CR of a line end is not part of the line.
                if self.partial.len().saturating_add(input.len()) > self.limit.saturating_add(1) {
                    return Err(self.fail());
                }
                self.partial.extend_from_slice(input);
                *input = &[];
                return Ok(None);
            };
            let (head, rest) = input.split_at(at);
            *input = rest.get(1..).unwrap_or_default();
            let whole = if self.partial.is_empty() {
                head.len()
            } else {
                self.partial.len().saturating_add(head.len())
            };
            if whole > self.limit.saturating_add(1) {
                return Err(self.fail());
            }
            if self.partial.is_empty() {
                let line = trim(head);
                if line.len() > self.limit {
                    return Err(self.fail());
                }
                if !line.is_empty() {
                    return Ok(Some(line));
                }
                continue;
            }
            self.partial.extend_from_slice(head);
            let length = trim(&self.partial).len();
            if length > self.limit {
                return Err(self.fail());
            }
            if length == 0 {
                self.partial.clear();
                continue;
            }
            self.taken = true;
            return Ok(self.partial.get(..length));
        }
    }

    /// The last line, if the stream ended without a line break after it.
    ///
    /// # Errors
    /// [`LineTooLong`], as from [`LineSplitter::next_line`].
    pub fn finish(&mut self) -> Result<Option<&[u8]>, LineTooLong> {
        self.reset()?;
        self.taken = true;
        let length = trim(&self.partial).len();
        if length > self.limit {
            return Err(self.fail());
        }
        Ok(self.partial.get(..length).filter(|line| !line.is_empty()))
    }

    fn reset(&mut self) -> Result<(), LineTooLong> {
        if self.taken {
            self.partial.clear();
            self.taken = false;
        }
        if self.failed {
            Err(LineTooLong { limit: self.limit })
        } else {
            Ok(())
        }
    }

    fn fail(&mut self) -> LineTooLong {
        self.failed = true;
        self.partial = Vec::new();
        LineTooLong { limit: self.limit }
    }
}

fn trim(line: &[u8]) -> &[u8] {
    line.strip_suffix(b"\r").unwrap_or(line)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use super::*;
    use proptest::prelude::*;

    fn lines(pieces: &[&[u8]], limit: usize) -> (Vec<Vec<u8>>, bool) {
        let mut splitter = LineSplitter::new(limit);
        let mut all = Vec::new();
        for piece in pieces {
            let mut input = *piece;
            loop {
                match splitter.next_line(&mut input) {
                    Ok(Some(line)) => all.push(line.to_vec()),
                    Ok(None) => break,
                    Err(_) => return (all, true),
                }
            }
        }
        match splitter.finish() {
            Ok(last) => all.extend(last.map(<[u8]>::to_vec)),
            Err(_) => return (all, true),
        }
        (all, false)
    }

    #[test]
    fn lines_lose_their_breaks_and_blank_ones_vanish() {
        let (all, failed) = lines(&[b"{}\r\n\n[1]\n\r\n\"x\""], 10);
        assert_eq!(all, [b"{}".to_vec(), b"[1]".to_vec(), b"\"x\"".to_vec()]);
        assert!(!failed);
    }

    #[test]
    fn the_limit_counts_the_line_without_its_break() {
        assert_eq!(
            lines(&[b"1234\r\n"], 4),
            (alloc::vec![b"1234".to_vec()], false)
        );
        assert_eq!(lines(&[b"12345\n"], 4), (Vec::new(), true));
        assert_eq!(lines(&[b"12345"], 4), (Vec::new(), true));
        assert_eq!(lines(&[b"123456789"], 4), (Vec::new(), true));
    }

    #[test]
    fn a_failed_stream_stays_failed() {
        let mut splitter = LineSplitter::new(2);
        let mut input: &[u8] = b"12345\n{}\n";
        assert!(splitter.next_line(&mut input).is_err());
        assert!(splitter.next_line(&mut input).is_err());
        assert!(splitter.finish().is_err());
    }

    proptest! {
        #[test]
        fn any_split_gives_the_same_lines(
            text in "([ab]{0,6}(\r\n|\n|\r)?){0,12}",
            cuts in proptest::collection::vec(0usize..80, 0..8),
            limit in 2usize..9,
        ) {
            let bytes = text.as_bytes();
            prop_assert_eq!(lines(&crate::wire::split(bytes, &cuts), limit), lines(&[bytes], limit));
        }
    }
}
