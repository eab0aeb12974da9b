//! Lines out of a stream of bytes, each of bounded length.

use std::io::{self, Read};

/// What a buffer holds at first, and shrinks to when a long line has passed, in bytes.
const USUAL: usize = 64 << 10;

/// One line, without its end (`\n` or `\r\n`).
#[derive(Debug, PartialEq, Eq)]
pub enum Line<'b> {
    /// The line.
    Whole(&'b [u8]),
    /// A line longer than the limit; its bytes were skipped.
    TooLong,
}

/// Bytes that were read and are not yet lines.
#[derive(Debug)]
pub struct LineBuffer {
    buffer: Vec<u8>,
    /// Where the next line begins.
    start: usize,
    /// Where the bytes that were read end.
    end: usize,
    /// No line ends before here.
    scanned: usize,
    limit: usize,
    /// Inside of a line that is too long.
    skipping: bool,
}

impl LineBuffer {
    /// `limit` is the length of the longest line that is passed on, in bytes.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        Self {
            buffer: Vec::new(),
            start: 0,
            end: 0,
            scanned: 0,
            limit,
            skipping: false,
        }
    }

    /// Reads once. 0 is the end of the stream; an unfinished line is dropped then, because half a message is none.
    ///
    /// # Errors
    /// Those of `from`, [`WouldBlock`](io::ErrorKind::WouldBlock) among them.
    pub fn read_from(&mut self, from: &mut impl Read) -> io::Result<usize> {
        self.make_room();
        let read = from.read(self.buffer.get_mut(self.end..).unwrap_or_default())?;
        self.end += read;
        Ok(read)
    }

    /// The next line; `None` when more has to be read first.
    pub fn next_line(&mut self) -> Option<Line<'_>> {
        loop {
            let unseen = self.buffer.get(self.scanned..self.end)?;
            let Some(at) = memchr::memchr(b'\n', unseen) else {
                self.scanned = self.end;
                if self.skipping {
                    self.start = self.end;
                } else if self.end - self.start > self.limit + 1 {
                    // One more than the limit may still be a line with `\r` at its end.
                    self.skipping = true;
                    self.start = self.end;
                    return Some(Line::TooLong);
                }
                return None;
            };
            let (start, end) = (self.start, self.scanned + at);
            self.start = end + 1;
            self.scanned = self.start;
            if std::mem::take(&mut self.skipping) {
                continue;
            }
            let line = self.buffer.get(start..end)?;
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            return Some(if line.len() > self.limit {
                Line::TooLong
            } else {
                Line::Whole(line)
            });
        }
    }

    /// Space behind `end`: what is consumed is given up first, and only a line that fills the buffer makes it grow.
    fn make_room(&mut self) {
        if self.start == self.end {
            (self.start, self.end, self.scanned) = (0, 0, 0);
            if self.buffer.len() != USUAL {
                self.buffer = vec![0; USUAL];
            }
        } else if self.start > 0 && self.end == self.buffer.len() {
            self.buffer.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.scanned -= self.start;
            self.start = 0;
        }
        if self.end == self.buffer.len() {
            self.buffer.resize(self.buffer.len() * 2, 0);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use super::*;
    use proptest::prelude::*;

    /// Gives what it has in pieces of the lengths given, the rest at once.
    struct Pieces<'p>(&'p [u8], std::slice::Iter<'p, usize>);

    impl Read for Pieces<'_> {
        fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
            let most = self.1.next().copied().unwrap_or(usize::MAX);
            let length = most.min(into.len()).min(self.0.len());
            into[..length].copy_from_slice(&self.0[..length]);
            self.0 = &self.0[length..];
            Ok(length)
        }
    }

    fn lines(bytes: &[u8], pieces: &[usize], limit: usize) -> Vec<Option<Vec<u8>>> {
        let mut from = Pieces(bytes, pieces.iter());
        let mut buffer = LineBuffer::new(limit);
        let mut all = Vec::new();
        while buffer.read_from(&mut from).unwrap() > 0 {
            while let Some(line) = buffer.next_line() {
                all.push(match line {
                    Line::Whole(line) => Some(line.to_vec()),
                    Line::TooLong => None,
                });
            }
        }
        all
    }

    #[test]
    fn a_line_that_is_too_long_costs_only_itself() {
        let text = b"one\r\n\ntoo long\nfour\nhalf";
        let expected = [
            Some(b"one".to_vec()),
            Some(Vec::new()),
            None,
            Some(b"four".to_vec()),
        ];
        assert_eq!(lines(text, &[], 5), expected);
        let mut long = vec![b'x'; 3 << 20];
        long.extend_from_slice(b"\nnext\n");
        assert_eq!(lines(&long, &[], 1 << 20), [None, Some(b"next".to_vec())]);
        let whole = lines(&long, &[], 4 << 20);
        assert_eq!(whole[0].as_ref().unwrap().len(), 3 << 20);
    }

    proptest! {
        #[test]
        fn any_split_gives_the_same_lines(
            text in prop::collection::vec(prop::sample::select(b"ab\r\n".to_vec()), 0..200),
            pieces in prop::collection::vec(1_usize..9, 0..100),
            limit in 1_usize..8,
        ) {
            prop_assert_eq!(lines(&text, &pieces, limit), lines(&text, &[], limit));
        }
    }
}
