//! Stop sequences and `max_tokens`, applied by the provider itself, across the borders of chunks.

use crate::invocation::{CancelReason, Finish};
use alloc::string::String;
use alloc::vec::Vec;

/// Reason for cutting an answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Cut {
    /// The stop sequence at this place was met.
    Sequence(u8),
    /// The limit was passed.
    Length,
}

impl Cut {
    /// Returns the finish that the client is told.
    #[must_use]
    pub const fn finish(self) -> Finish {
        match self {
            Self::Sequence(which) => Finish::StopSequence(which),
            Self::Length => Finish::Length,
        }
    }

    /// Returns the reason that the agent is told.
    #[must_use]
    pub const fn reason(self) -> CancelReason {
        match self {
            Self::Sequence(_) => CancelReason::StopSequence,
            Self::Length => CancelReason::MaxTokens,
        }
    }
}

/// A stop sequence, and how much of it the text ends with. It reads each byte of the text once (Knuth, Morris and Pratt).
#[derive(Clone, Debug)]
struct Stop {
    text: String,
    /// For each of its beginnings the length of the longest shorter one that the beginning ends with.
    shorter: Vec<u32>,
    matched: usize,
}

impl Stop {
    fn new(text: String) -> Self {
        let mut stop = Self {
            shorter: Vec::with_capacity(text.len()),
            text,
            matched: 0,
        };
        for at in 0..stop.text.len() {
            let byte = stop.text.as_bytes().get(at).copied().unwrap_or_default();
            if at > 0 {
                stop.read(byte);
            }
            stop.shorter
                .push(u32::try_from(stop.matched).unwrap_or(u32::MAX));
        }
        stop.matched = 0;
        stop
    }

    /// Reads the next byte of the text.
    fn read(&mut self, byte: u8) {
        let stop = self.text.as_bytes();
        while stop.get(self.matched) != Some(&byte) {
            let Some(before) = self.matched.checked_sub(1) else {
                return;
            };
            let shorter = self.shorter.get(before).copied().unwrap_or_default();
            self.matched = usize::try_from(shorter).unwrap_or_default();
        }
        self.matched += 1;
    }

    /// Reads on in the text, and returns the place in it behind the stop sequence when that is complete.
    fn find(&mut self, text: &[u8]) -> Option<usize> {
        let first = self.text.as_bytes().first().copied()?;
        let mut at = 0;
        loop {
            if self.matched == 0 {
                at += memchr::memchr(first, text.get(at..)?)?;
            }
            self.read(*text.get(at)?);
            at += 1;
            if self.matched == self.text.len() {
                return Some(at);
            }
        }
    }
}

/// Looks for stop sequences in text that comes in pieces, and holds back what may be the start of one. The one that is
/// complete first counts, so that the cut does not depend on how the text was split.
#[derive(Clone, Debug, Default)]
pub struct StopScanner {
    stops: Vec<Stop>,
    /// Text that has passed still, up to `passed`, and text that is held back.
    held: String,
    passed: usize,
    /// Bytes that may still pass.
    left: Option<usize>,
    /// The bytes that may pass in all.
    limit: Option<usize>,
}

impl StopScanner {
    /// `None` when there is nothing to look for.
    #[must_use]
    pub fn new(stops: Vec<String>) -> Option<Self> {
        let stops = stops.into_iter().filter(|stop| !stop.is_empty());
        let stops: Vec<Stop> = stops.map(Stop::new).collect();
        (!stops.is_empty()).then_some(Self {
            stops,
            ..Self::default()
        })
    }

    /// Lets only so many bytes pass; all of them with `None`.
    pub fn limit(&mut self, bytes: Option<usize>) {
        self.left = bytes;
        self.limit = bytes;
    }

    /// Begins with another answer.
    pub fn begin_again(&mut self) {
        self.let_go();
        self.left = self.limit;
    }

    /// Adds `text`, appends to `out` what is certainly no part of a stop sequence, and returns why the answer is cut, if it
    /// is: everything before the cut is in `out`, and nothing may follow.
    pub fn push(&mut self, text: &str, out: &mut String) -> Option<Cut> {
        let before = self.held.len();
        self.held.push_str(text);
        let stops = self.stops.iter_mut().enumerate();
        let met = stops.filter_map(|(which, stop)| {
            let end = before + stop.find(text.as_bytes())?;
            Some((end, end - stop.text.len(), which))
        });
        if let Some((_, at, which)) = met.min() {
            let cut = self.pass(at, out);
            self.let_go();
            return cut.or(Some(Cut::Sequence(u8::try_from(which).unwrap_or(u8::MAX))));
        }
        let keep = self.stops.iter().map(|stop| stop.matched).max();
        let safe = self.held.len() - keep.unwrap_or(0);
        let cut = self.pass(safe, out);
        // A long text that is held back is not moved for each piece.
        if self.passed > self.held.len() / 2 {
            self.held.drain(..self.passed);
            self.passed = 0;
        }
        cut
    }

    /// The text ends, or something else follows: what was held back was no stop sequence.
    pub fn finish(&mut self, out: &mut String) -> Option<Cut> {
        let cut = self.pass(self.held.len(), out);
        self.let_go();
        cut
    }

    fn let_go(&mut self) {
        self.held.clear();
        self.passed = 0;
        self.stops.iter_mut().for_each(|stop| stop.matched = 0);
    }

    /// Lets what is held up to `end` pass, as far as the limit goes.
    fn pass(&mut self, end: usize, out: &mut String) -> Option<Cut> {
        let safe = self.held.get(self.passed..end).unwrap_or_default();
        self.passed = end;
        let Some(left) = &mut self.left else {
            out.push_str(safe);
            return None;
        };
        if safe.len() <= *left {
            *left -= safe.len();
            out.push_str(safe);
            return None;
        }
        let end = (0..=*left).rev().find(|end| safe.is_char_boundary(*end));
        out.push_str(safe.get(..end.unwrap_or(0)).unwrap_or_default());
        *left = 0;
        Some(Cut::Length)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_stop_sequence_is_found_across_borders() {
        let mut scanner = StopScanner::new(alloc::vec!["\n\n".into(), "END".into()]).unwrap();
        let mut out = String::new();
        assert_eq!(scanner.push("one\n", &mut out), None);
        assert_eq!(out, "one");
        assert_eq!(scanner.push("two E", &mut out), None);
        assert_eq!(out, "one\ntwo ");
        assert_eq!(scanner.push("N", &mut out), None);
        assert_eq!(scanner.push("D more", &mut out), Some(Cut::Sequence(1)));
        assert_eq!(out, "one\ntwo ");
    }

    #[test]
    fn text_that_repeats_the_start_of_a_long_stop_sequence_is_held_back_as_long_as_it_may_be_one() {
        let stop = alloc::format!("{}b", "a".repeat(4000));
        let mut scanner = StopScanner::new(alloc::vec![stop]).unwrap();
        let mut out = String::new();
        for _ in 0..4000 {
            assert_eq!(scanner.push(&"a".repeat(999), &mut out), None);
        }
        assert_eq!(out.len(), 4000 * 999 - 4000);
        assert!(scanner.held.len() <= 2 * 4000 + 999);
        assert_eq!(scanner.push("b", &mut out), Some(Cut::Sequence(0)));
        assert_eq!(out.len(), 4000 * 999 - 4000);
    }

    proptest! {
        #[test]
        fn any_split_gives_the_text_before_the_first_stop(
            text in "[abc\u{e9}]{0,40}|[ab]{0,60}", stops in proptest::collection::vec("[abc\u{e9}]{1,4}|[ab]{1,9}|a{1,12}b", 1..4),
            cuts in proptest::collection::vec(any::<proptest::sample::Index>(), 0..8), limit in proptest::option::of(0usize..40)
        ) {
            let expected = stops.iter().filter_map(|stop| text.find(stop.as_str()).map(|at| (at + stop.len(), at))).min().map_or(&text[..], |(_, at)| &text[..at]);
            let mut expected = expected;
            if let Some(limit) = limit.filter(|limit| *limit < expected.len()) {
                let end = (0..=limit).rev().find(|end| expected.is_char_boundary(*end)).unwrap();
                expected = &expected[..end];
            }
            let mut scanner = StopScanner::new(stops).unwrap();
            scanner.limit(limit);
            let chars: Vec<char> = text.chars().collect();
            let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(chars.len() + 1)).collect();
            cuts.push(chars.len());
            cuts.sort_unstable();
            let mut out = String::new();
            let (mut from, mut met) = (0, false);
            for cut in cuts {
                let piece: String = chars[from..cut].iter().collect();
                from = cut;
                met = met || scanner.push(&piece, &mut out).is_some();
            }
            if !met { let _ = scanner.finish(&mut out); }
            prop_assert_eq!(out, expected);
        }
    }
}
