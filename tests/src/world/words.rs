//! Texts of agents, with everything that can go wrong with text.

use arbitrary::{Result, Unstructured};
use std::fmt::Write as _;

/// Stop sequences that clients ask for; the words contain them whole and in pieces.
pub(super) const STOPS: [&str; 3] = ["STOP", "\u{e9}!", "ab"];

/// Pieces of text in UTF-16, halves of a surrogate pair among them.
const WORDS: [&[u16]; 20] = [
    &[],
    &[0x61],
    &[0x62],
    &[0x48, 0x65, 0x6c, 0x6c, 0x6f, 0x20],
    &[0xe9],
    &[0x21],
    &[0xd83d, 0xde00],
    &[0xd83d],
    &[0xde00],
    &[0x2028],
    &[0x85, 0x2029],
    &[0x22, 0x5c, 0x2f],
    &[0x0a, 0x0d, 0x09, 0x08, 0x00],
    &[0x53, 0x54],
    &[0x4f, 0x50],
    &[0x61, 0x62, 0x53, 0x54, 0x4f, 0x50],
    &[0x53, 0x54, 0x4f, 0x50, 0xe9, 0x21],
    &[0x78; 70],
    &[0x79; 600],
    &[0x7a; 600],
];

/// Text and end of an agent's answer in one exchange.
#[derive(Clone, Debug, Default)]
pub(super) struct Said {
    content: Vec<u16>,
    /// Places in the content at which reasoning came between.
    breaks: Vec<usize>,
    reasoning: Vec<u16>,
    /// True when the agent has said that this is all.
    pub(super) ended: bool,
}

impl Said {
    /// The content up to the stop sequence that is complete first. None goes on behind reasoning that comes between.
    pub(super) fn content(&self, stops: &[String]) -> String {
        let (mut text, mut from) = (String::new(), 0);
        for to in self.breaks.iter().copied().chain([self.content.len()]) {
            let part = String::from_utf16_lossy(&self.content[from..to]);
            let found = stops
                .iter()
                .filter_map(|stop| Some((part.find(stop.as_str())?, stop.len())));
            if let Some((_, at)) = found.map(|(at, length)| (at + length, at)).min() {
                text.push_str(&part[..at]);
                return text;
            }
            text.push_str(&part);
            from = to;
        }
        text
    }

    pub(super) fn reasoning(&self) -> String {
        String::from_utf16_lossy(&self.reasoning)
    }

    fn reason(&mut self, word: &[u16]) {
        self.reasoning.extend_from_slice(word);
        if !word.is_empty() {
            // The first half of a pair waits for the second one, which may come behind the reasoning.
            let half = self
                .content
                .last()
                .is_some_and(|unit| (0xd800..0xdc00).contains(unit));
            self.breaks.push(self.content.len() - usize::from(half));
        }
    }

    /// Says something more; the members of the delta that says it, as JSON.
    pub(super) fn more(&mut self, is_wordy: bool, u: &mut Unstructured<'_>) -> Result<String> {
        let words = if is_wordy && u.arbitrary()? {
            &WORDS[WORDS.len() - 2..]
        } else {
            &WORDS[..]
        };
        let word = *u.choose(words)?;
        let escaped = u.arbitrary()?;
        let text = json(word, escaped);
        Ok(match u.int_in_range(0..=7u8)? {
            0 => {
                self.reason(word);
                format!("\"reasoning_content\":{text}")
            }
            1 => {
                self.reason(&[0x3f]);
                self.content.extend_from_slice(word);
                format!("\"role\":\"assistant\",\"reasoning_content\":\"?\",\"content\":{text}")
            }
            2 => String::new(),
            _ => {
                self.content.extend_from_slice(word);
                format!("\"content\":{text}")
            }
        })
    }
}

/// A JSON string of UTF-16 that may be broken.
fn json(units: &[u16], escaped: bool) -> String {
    let mut text = String::from("\"");
    for unit in char::decode_utf16(units.iter().copied()) {
        match unit {
            Ok(c) if !escaped && c >= ' ' && !matches!(c, '"' | '\\') => text.push(c),
            Ok(c) => {
                for unit in c.encode_utf16(&mut [0; 2]) {
                    let _ = write!(text, "\\u{unit:04X}");
                }
            }
            Err(half) => {
                let _ = write!(text, "\\u{:04x}", half.unpaired_surrogate());
            }
        }
    }
    text.push('"');
    text
}
