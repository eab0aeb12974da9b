//! The one-pass reading of the frame that nearly all frames are: a piece of text.
//!
//! It knows one form of `model_stream_chunk` and gives up at everything else, so it never decides that a frame is
//! wrong: the full reading does. What it accepts, the full reading accepts with the same result.

use crate::invocation::Delta;
use crate::link::{Chunk, Id};
use crate::text::JsonStr;

/// `None` for everything unusual: escapes in names, unknown or repeated names, an end of the answer, tool calls.
#[inline]
pub(super) fn chunk(frame: &str) -> Option<Chunk<'_>> {
    let mut cursor = Cursor {
        frame,
        rest: frame.as_bytes(),
    };
    let mut seen = 0u8;
    let mut id = None;
    let mut index = None;
    let mut delta = Delta::default();
    cursor.mark(b'{')?;
    loop {
        cursor.mark(b'"')?;
        let bit = match cursor.rest.first()? {
            b't' => {
                cursor.name(b"type\"")?;
                cursor.literal(b"\"model_stream_chunk\"")?;
                1
            }
            b'i' => {
                cursor.name(b"id\"")?;
                id = Some(cursor.id()?);
                2
            }
            b'c' => {
                cursor.name(b"chunk_index\"")?;
                index = Some(cursor.whole()?);
                4
            }
            b'd' => {
                cursor.name(b"delta\"")?;
                delta = cursor.delta()?;
                8
            }
            b'f' => {
                cursor.name(b"finish_reason\"")?;
                cursor.literal(b"null")?;
                16
            }
            b'u' => {
                cursor.name(b"usage\"")?;
                cursor.literal(b"null")?;
                32
            }
            _ => return None,
        };
        if seen & bit != 0 {
            return None;
        }
        seen |= bit;
        if !cursor.more()? {
            break;
        }
    }
    cursor.blanks();
    if seen & 1 == 0 || !cursor.rest.is_empty() {
        return None;
    }
    Some(Chunk {
        id: id?,
        index,
        delta,
        ending: None,
    })
}

/// The unread rest of a frame.
struct Cursor<'f> {
    frame: &'f str,
    /// The end of `frame`.
    rest: &'f [u8],
}

impl<'f> Cursor<'f> {
    #[inline(always)]
    fn blanks(&mut self) {
        if matches!(self.rest, [0..=b' ', ..]) {
            self.skip_blanks();
        }
    }

    #[inline(never)]
    fn skip_blanks(&mut self) {
        while let [b' ' | b'\n' | b'\r' | b'\t', rest @ ..] = self.rest {
            self.rest = rest;
        }
    }

    /// Blanks, then this byte.
    #[inline(always)]
    fn mark(&mut self, mark: u8) -> Option<()> {
        self.blanks();
        match self.rest {
            [first, rest @ ..] if *first == mark => {
                self.rest = rest;
                Some(())
            }
            _ => None,
        }
    }

    /// The rest of a name with its quote, the colon, and blanks.
    #[inline(always)]
    fn name<const N: usize>(&mut self, name: &[u8; N]) -> Option<()> {
        self.literal(name)?;
        self.mark(b':')?;
        self.blanks();
        Some(())
    }

    #[inline(always)]
    fn literal<const N: usize>(&mut self, literal: &[u8; N]) -> Option<()> {
        self.rest = self.rest.strip_prefix(literal)?;
        Some(())
    }

    /// After a value: true at a comma, false at the end of the object.
    #[inline(always)]
    fn more(&mut self) -> Option<bool> {
        self.blanks();
        let (first, rest) = self.rest.split_first()?;
        self.rest = rest;
        match first {
            b',' => Some(true),
            b'}' => Some(false),
            _ => None,
        }
    }

    /// Up to 18 digits, so that they fit; a longer number is unusual.
    #[inline(always)]
    fn whole(&mut self) -> Option<u64> {
        let digits = self
            .rest
            .iter()
            .take(19)
            .take_while(|byte| byte.is_ascii_digit())
            .count();
        let (number, rest) = self.rest.split_at_checked(digits)?;
        if digits > 18 || digits == 0 || (digits > 1 && number.first() == Some(&b'0')) {
            return None;
        }
        self.rest = rest;
        Some(
            number
                .iter()
                .fold(0, |value, digit| value * 10 + u64::from(digit - b'0')),
        )
    }

    #[inline(always)]
    fn id(&mut self) -> Option<Id<'f>> {
        self.mark(b'"')?;
        let text = self.string()?;
        Some(Id::read(text))
    }

    #[inline(always)]
    fn delta(&mut self) -> Option<Delta<'f>> {
        let mut delta = Delta::default();
        // Checked to be a string and not used: clients are told the role by the provider.
        let mut role = JsonStr::EMPTY;
        let mut seen = 0u8;
        self.mark(b'{')?;
        self.blanks();
        if let [b'}', rest @ ..] = self.rest {
            self.rest = rest;
            return Some(delta);
        }
        loop {
            self.mark(b'"')?;
            let (bit, text) = match self.rest {
                [b'c', ..] => {
                    self.name(b"content\"")?;
                    (1, &mut delta.content)
                }
                [b'r', b'o', ..] => {
                    self.name(b"role\"")?;
                    (2, &mut role)
                }
                [b'r', b'e', b'a', ..] => {
                    self.name(b"reasoning_content\"")?;
                    (4, &mut delta.reasoning)
                }
                [b'r', b'e', b'f', ..] => {
                    self.name(b"refusal\"")?;
                    (8, &mut delta.refusal)
                }
                _ => return None,
            };
            if seen & bit != 0 {
                return None;
            }
            seen |= bit;
            if let [b'"', rest @ ..] = self.rest {
                self.rest = rest;
                *text = self.string()?;
            } else {
                self.literal(b"null")?;
            }
            if !self.more()? {
                return Some(delta);
            }
        }
    }

    /// The inside of a string, from after its first quote. Escapes are checked and kept.
    #[inline(always)]
    fn string(&mut self) -> Option<JsonStr<'f>> {
        let start = self.frame.len() - self.rest.len();
        loop {
            self.rest = plain(self.rest);
            let (first, rest) = self.rest.split_first()?;
            match first {
                b'"' => {
                    let end = self.frame.len() - self.rest.len();
                    self.rest = rest;
                    return self.frame.get(start..end).map(JsonStr::from_escaped);
                }
                b'\\' => self.rest = escape(rest)?,
                _ => return None,
            }
        }
    }
}

/// Returns the bytes after a valid escape; `rest` follows its backslash.
#[inline(always)]
fn escape(rest: &[u8]) -> Option<&[u8]> {
    match rest {
        [
            b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't',
            rest @ ..,
        ] => Some(rest),
        [b'u', a, b, c, d, rest @ ..] => {
            let hex = [a, b, c, d].into_iter().all(u8::is_ascii_hexdigit);
            hex.then_some(rest)
        }
        _ => None,
    }
}

/// Skips to the first quote, backslash or control character, eight bytes at a time.
#[inline(always)]
fn plain(mut bytes: &[u8]) -> &[u8] {
    const ONES: u64 = u64::MAX / 255;
    const HIGH: u64 = ONES << 7;
    while let Some((word, rest)) = bytes.split_first_chunk::<8>() {
        let word = u64::from_le_bytes(*word);
        let quote = word ^ (ONES * b'"' as u64);
        let backslash = word ^ (ONES * b'\\' as u64);
        // The lowest marked byte is right; a borrow can mark only bytes above it.
        let marks = (word.wrapping_sub(ONES * 0x20) & !word
            | quote.wrapping_sub(ONES) & !quote
            | backslash.wrapping_sub(ONES) & !backslash)
            & HIGH;
        if marks != 0 {
            let at = (marks.trailing_zeros() >> 3) as usize;
            return bytes.get(at..).unwrap_or_default();
        }
        bytes = rest;
    }
    let at = bytes
        .iter()
        .position(|byte| matches!(byte, b'"' | b'\\' | 0..0x20))
        .unwrap_or(bytes.len());
    bytes.get(at..).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]
    use super::*;
    use crate::agents::websocket::{decode, messages};
    use crate::link::FromAgent;
    use alloc::format;
    use alloc::string::String;
    use alloc::vec::Vec;
    use proptest::prelude::*;

    /// Checks that the full reading takes each frame that the scanner takes, with the same result.
    fn agrees(frame: &str) -> bool {
        let Some(scanned) = chunk(frame) else {
            return false;
        };
        match messages::decode(frame) {
            Ok(FromAgent::Chunk(full)) => assert_eq!(scanned, full, "{frame}"),
            other => panic!("scanned, but the full reading says {other:?}: {frame}"),
        }
        true
    }

    #[test]
    fn the_usual_frames_are_scanned() {
        for frame in [
            r#"{"type":"model_stream_chunk","id":"6f1a2b3c000000000001","chunk_index":0,"delta":{"role":"assistant","content":"Hel"},"finish_reason":null}"#,
            r#"{"type": "model_stream_chunk", "id": "x", "chunk_index": 12, "delta": {"content": "a \" \\ \n \ud83d \u00e9"}, "finish_reason": null}"#,
            r#" { "delta" : { "reasoning_content" : "hm" , "refusal" : null , "content":null} , "id":"" , "usage":null,"type":"model_stream_chunk" } "#,
            r#"{"type":"model_stream_chunk","id":"x","delta":{}}"#,
            r#"{"type":"model_stream_chunk","id":"x","chunk_index":999999999999999999}"#,
        ] {
            assert!(agrees(frame), "{frame}");
        }
    }

    #[test]
    fn the_unusual_is_left_to_the_full_reading() {
        let long = "x".repeat(40);
        for frame in [
            "",
            "{",
            "{}",
            r#"{"type":"model_result","id":"x"}"#,
            r#"{"type":"model_stream_chunk","id":"x"}x"#,
            r#"{"type":"model_stream_chunk","id":"x",}"#,
            r#"{"type":"model_stream_chunk","id":"x","finish_reason":"stop"}"#,
            r#"{"type":"model_stream_chunk","id":"x","id":"x"}"#,
            r#"{"type":"model_stream_chunk","id":"x","chunk_index":01}"#,
            r#"{"type":"model_stream_chunk","id":"x","chunk_index":-1}"#,
            r#"{"type":"model_stream_chunk","id":"x","chunk_index":1.0}"#,
            r#"{"type":"model_stream_chunk","id":"x","chunk_index":9999999999999999999}"#,
            r#"{"type":"model_stream_chunk","id":"x","delta":{"content":5}}"#,
            r#"{"type":"model_stream_chunk","id":"x","delta":{"content":"\x"}}"#,
            r#"{"type":"model_stream_chunk","id":"x","delta":{"content":"\u12g4"}}"#,
            r#"{"type":"model_stream_chunk","id":"x","delta":{"tool_calls":[]}}"#,
            &format!(r#"{{"type":"model_stream_chunk","id":"x","delta":{{"content":"{long}\"#),
            &format!(
                "{{\"type\":\"model_stream_chunk\",\"id\":\"x\",\"delta\":{{\"content\":\"{long}\n\"}}}}"
            ),
        ] {
            assert!(!agrees(frame), "{frame}");
        }
    }

    fn member() -> impl Strategy<Value = String> {
        let text = "([a-z \u{e9}\u{1f600}]|\\\\[nt/\"\\\\]|\\\\u[0-9a-fA-F]{4}){0,24}";
        prop_oneof![
            Just("\"type\":\"model_stream_chunk\"".into()),
            Just("\"finish_reason\":null".into()),
            Just("\"usage\":null".into()),
            Just("\"id\":\"6f1a2b3c000000000001\"".into()),
            text.prop_map(|text| format!("\"id\":\"{text}\"")),
            any::<u64>().prop_map(|index| format!("\"chunk_index\":{index}")),
            (text, text).prop_map(|(content, reasoning)| format!(
                "\"delta\":{{\"content\":\"{content}\",\"reasoning_content\":\"{reasoning}\"}}"
            )),
            text.prop_map(|text| format!(
                "\"delta\":{{\"role\":\"assistant\",\"content\":\"{text}\"}}"
            )),
        ]
    }

    fn frame() -> impl Strategy<Value = String> {
        let rest = prop::collection::vec(member(), 0..5);
        (rest, any::<bool>(), any::<u64>()).prop_map(|(mut members, plain, order)| {
            if plain {
                members.push("\"type\":\"model_stream_chunk\"".into());
                members.push("\"id\":\"6f1a2b3c000000000002\"".into());
                // One of each name, so that most of these are usual frames.
                members.sort();
                members.dedup_by_key(|member| member.split(':').next().map(String::from));
                let turn = usize::try_from(order).unwrap_or(0) % members.len();
                members.rotate_left(turn);
            }
            let blank = if order % 3 == 0 { " " } else { "" };
            let members: Vec<_> = members
                .iter()
                .map(|member| member.replace("\":", &format!("\"{blank}:{blank}")))
                .collect();
            format!("{{{blank}{}{blank}}}", members.join(&format!(",{blank}")))
        })
    }

    proptest! {
        #[test]
        fn a_scanned_frame_reads_as_the_full_reading_reads_it(frame in frame()) {
            agrees(&frame);
        }

        #[test]
        fn a_damaged_frame_too(frame in frame(), at in any::<prop::sample::Index>(), byte in "[ -~\n\u{e9}]", how in 0..3) {
            let mut characters: Vec<char> = frame.chars().collect();
            let at = at.index(characters.len());
            match how {
                0 => { characters.remove(at); }
                1 => characters.splice(at..at, byte.chars()).for_each(drop),
                _ => characters.truncate(at),
            }
            agrees(&characters.into_iter().collect::<String>());
        }

        #[test]
        fn any_text_and_any_json_is_read_without_a_panic(text in ".{0,64}", kind in "model_result|model_stream_chunk|error|register|ping") {
            let _ = decode(&text, 1024);
            let _ = decode(&format!("{{\"type\":\"{kind}\",{text}"), 1024);
        }
    }
}
