//! Cuts what a process writes into lines.

use alloc::vec::Vec;

/// One line, without its end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Line<'b> {
    /// A whole line.
    Whole(&'b [u8]),
    /// A line over the limit; what came of it is dropped.
    TooLong,
}

/// Cuts a stream of bytes into lines of at most a given length, whatever the pieces in which it comes.
///
/// A line that comes in one piece is borrowed from it; only a line that is split is copied. What stands after the last
/// line end when the stream ends is no line: the process was cut while it wrote.
#[derive(Debug)]
pub struct Lines {
    limit: usize,
    partial: Vec<u8>,
    /// The line that is being read is too long and was told.
    skipping: bool,
}

/// Capacity that is kept for the next split line, in bytes.
const KEEP: usize = 64 << 10;

impl Lines {
    /// Lines of at most `limit` bytes.
    #[must_use]
    pub const fn new(limit: usize) -> Self {
        Self {
            limit,
            partial: Vec::new(),
            skipping: false,
        }
    }

    /// Returns the line that has begun and has no end yet.
    #[must_use]
    pub fn begun(&self) -> &[u8] {
        &self.partial
    }

    /// Takes the next bytes and hands over each line that ends in them. Empty lines are left out.
    pub fn push(&mut self, mut bytes: &[u8], mut line: impl FnMut(Line<'_>)) {
        while let Some(end) = memchr::memchr(b'\n', bytes) {
            let (head, rest) = bytes.split_at(end);
            bytes = rest.get(1..).unwrap_or_default();
            if self.skipping {
                self.skipping = false;
                continue;
            }
            if self.partial.len() + head.len() > self.limit {
                self.partial = Vec::new();
                line(Line::TooLong);
                continue;
            }
            if self.partial.is_empty() {
                whole(head, &mut line);
            } else {
                self.partial.extend_from_slice(head);
                whole(&self.partial, &mut line);
                if self.partial.capacity() > KEEP {
                    self.partial = Vec::new();
                }
                self.partial.clear();
            }
        }
        if self.skipping {
            return;
        }
        if self.partial.len() + bytes.len() > self.limit {
            self.partial = Vec::new();
            self.skipping = true;
            line(Line::TooLong);
        } else {
            self.partial.extend_from_slice(bytes);
        }
    }

    /// Forgets what came of the last line: another process writes from here.
    pub fn clear(&mut self) {
        self.partial = Vec::new();
        self.skipping = false;
    }
}

fn whole(bytes: &[u8], line: &mut impl FnMut(Line<'_>)) {
    let bytes = bytes.strip_suffix(b"\r").unwrap_or(bytes);
    if !bytes.is_empty() {
        line(Line::Whole(bytes));
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::indexing_slicing)]
    use super::*;
    use proptest::prelude::*;

    fn cut(limit: usize, pieces: &[&[u8]]) -> Vec<Option<Vec<u8>>> {
        let mut lines = Lines::new(limit);
        let mut out = Vec::new();
        for piece in pieces {
            lines.push(piece, |line| {
                out.push(match line {
                    Line::Whole(bytes) => Some(bytes.to_vec()),
                    Line::TooLong => None,
                });
            });
        }
        out
    }

    #[test]
    fn a_line_over_the_limit_is_told_once_and_the_next_is_whole() {
        let pieces: [&[u8]; 4] = [b"one\r\n\ntoo l", b"ong", b" by far\ntwo\n", b"half"];
        assert_eq!(
            cut(6, &pieces),
            [Some(b"one".to_vec()), None, Some(b"two".to_vec())]
        );
    }

    proptest! {
        #[test]
        fn any_split_gives_the_same_lines(bytes in "[ab\r\n]{0,60}", cuts in proptest::collection::vec(any::<proptest::sample::Index>(), 0..8)) {
            let bytes = bytes.as_bytes();
            let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
            cuts.extend([0, bytes.len()]);
            cuts.sort_unstable();
            let pieces: Vec<&[u8]> = cuts.windows(2).map(|pair| &bytes[pair[0]..pair[1]]).collect();
            prop_assert_eq!(cut(5, &pieces), cut(5, &[bytes]));
        }
    }
}
