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

/// Looks for stop sequences in text that comes in pieces, and holds back what may be the start of one. The one that is
/// complete first counts, so that the cut does not depend on how the text was split.
#[derive(Clone, Debug, Default)]
pub struct StopScanner {
    stops: Vec<String>,
    held: String,
    /// Bytes that may still pass.
    left: Option<usize>,
    /// The bytes that may pass in all.
    limit: Option<usize>,
}

impl StopScanner {
    /// `None` when there is nothing to look for.
    #[must_use]
    pub fn new(stops: Vec<String>) -> Option<Self> {
        let stops: Vec<String> = stops.into_iter().filter(|stop| !stop.is_empty()).collect();
        (!stops.is_empty()).then_some(Self {
            stops,
            held: String::new(),
            left: None,
            limit: None,
        })
    }

    /// Lets only so many bytes pass.
    pub fn limit(&mut self, bytes: usize) {
        self.left = Some(bytes);
        self.limit = Some(bytes);
    }

    /// The same for another answer.
    #[must_use]
    pub fn again(&self) -> Self {
        Self {
            stops: self.stops.clone(),
            held: String::new(),
            left: self.limit,
            limit: self.limit,
        }
    }

    /// Adds `text`, appends to `out` what is certainly no part of a stop sequence, and returns why the answer is cut, if it
    /// is: everything before the cut is in `out`, and nothing may follow.
    pub fn push(&mut self, text: &str, out: &mut String) -> Option<Cut> {
        self.held.push_str(text);
        let met = self
            .stops
            .iter()
            .enumerate()
            .filter_map(|(which, stop)| {
                self.held
                    .find(stop.as_str())
                    .map(|at| (at + stop.len(), at, which))
            })
            .min();
        if let Some((_, at, which)) = met {
            let cut = self.pass(at, out);
            self.held.clear();
            return cut.or(Some(Cut::Sequence(u8::try_from(which).unwrap_or(u8::MAX))));
        }
        let keep = self
            .stops
            .iter()
            .map(|stop| overlap(&self.held, stop))
            .max()
            .unwrap_or(0);
        let safe = self.held.len() - keep;
        let cut = self.pass(safe, out);
        self.held.drain(..safe);
        cut
    }

    /// The text ends: what was held back was no stop sequence.
    pub fn finish(&mut self, out: &mut String) -> Option<Cut> {
        let cut = self.pass(self.held.len(), out);
        self.held.clear();
        cut
    }

    /// Lets the first `bytes` of what is held pass, as far as the limit goes.
    fn pass(&mut self, bytes: usize, out: &mut String) -> Option<Cut> {
        let safe = self.held.get(..bytes).unwrap_or_default();
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

/// Length of the longest end of `text` that is a beginning of `stop`.
fn overlap(text: &str, stop: &str) -> usize {
    let longest = text.len().min(stop.len().saturating_sub(1));
    (1..=longest)
        .rev()
        .find(|len| {
            text.as_bytes()
                .ends_with(stop.as_bytes().get(..*len).unwrap_or_default())
                && stop.is_char_boundary(*len)
        })
        .unwrap_or(0)
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

    proptest! {
        #[test]
        fn any_split_gives_the_text_before_the_first_stop(
            text in "[abc\u{e9}]{0,40}", stops in proptest::collection::vec("[abc\u{e9}]{1,4}", 1..4),
            cuts in proptest::collection::vec(any::<proptest::sample::Index>(), 0..8), limit in proptest::option::of(0usize..40)
        ) {
            let expected = stops.iter().filter_map(|stop| text.find(stop.as_str()).map(|at| (at + stop.len(), at))).min().map_or(&text[..], |(_, at)| &text[..at]);
            let mut expected = expected;
            if let Some(limit) = limit.filter(|limit| *limit < expected.len()) {
                let end = (0..=limit).rev().find(|end| expected.is_char_boundary(*end)).unwrap();
                expected = &expected[..end];
            }
            let mut scanner = StopScanner::new(stops).unwrap();
            if let Some(limit) = limit { scanner.limit(limit); }
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
