//! The one-pass reading of the frame that nearly all frames are: a piece of text.
//!
//! It knows one form of `model_stream_chunk` and gives up at everything else, so it never decides that a frame is
//! wrong: the full reading does. What it accepts, the full reading accepts with the same result.

use crate::invocation::Delta;
use crate::link::{Chunk, Id};
use crate::text::{Cursor, JsonStr};

/// `None` for everything unusual: escapes in names, unknown or repeated names, an end of the answer, tool calls.
#[inline]
pub(super) fn chunk(frame: &str) -> Option<Chunk<'_>> {
    let mut cursor = Cursor::new(frame);
    let mut seen = 0u8;
    let mut id = None;
    let mut index = None;
    let mut delta = Delta::default();
    cursor.mark(b'{')?;
    loop {
        cursor.mark(b'"')?;
        let bit = match cursor.next()? {
            b't' => {
                cursor.name(b"type\"")?;
                cursor.literal(b"\"model_stream_chunk\"")?;
                1
            }
            b'i' => {
                cursor.name(b"id\"")?;
                id = Some(self::id(&mut cursor)?);
                2
            }
            b'c' => {
                cursor.name(b"chunk_index\"")?;
                index = Some(cursor.whole()?);
                4
            }
            b'd' => {
                cursor.name(b"delta\"")?;
                delta = self::delta(&mut cursor)?;
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
    cursor.end()?;
    if seen & 1 == 0 {
        return None;
    }
    Some(Chunk {
        id: id?,
        index,
        delta,
        ending: None,
    })
}

#[inline(always)]
fn id<'f>(cursor: &mut Cursor<'f>) -> Option<Id<'f>> {
    cursor.mark(b'"')?;
    Some(Id::read(cursor.string()?))
}

#[inline(always)]
fn delta<'f>(cursor: &mut Cursor<'f>) -> Option<Delta<'f>> {
    let mut delta = Delta::default();
    // Checked to be a string and not used: clients are told the role by the provider.
    let mut role = JsonStr::EMPTY;
    let mut seen = 0u8;
    cursor.mark(b'{')?;
    cursor.blanks();
    if cursor.has(b'}') {
        return Some(delta);
    }
    loop {
        cursor.mark(b'"')?;
        let (bit, text) = match cursor.rest() {
            [b'c', ..] => {
                cursor.name(b"content\"")?;
                (1, &mut delta.content)
            }
            [b'r', b'o', ..] => {
                cursor.name(b"role\"")?;
                (2, &mut role)
            }
            [b'r', b'e', b'a', ..] => {
                cursor.name(b"reasoning_content\"")?;
                (4, &mut delta.reasoning)
            }
            [b'r', b'e', b'f', ..] => {
                cursor.name(b"refusal\"")?;
                (8, &mut delta.refusal)
            }
            _ => return None,
        };
        if seen & bit != 0 {
            return None;
        }
        seen |= bit;
        if cursor.has(b'"') {
            *text = cursor.string()?;
        } else {
            cursor.literal(b"null")?;
        }
        if !cursor.more()? {
            return Some(delta);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]
    use super::*;
    use crate::agents::websocket::{decode, messages};
    use crate::link::FromAgent;
    use crate::text::damage::damage;
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
        fn a_damaged_frame_too(frame in frame(), damage in damage()) {
            agrees(&damage.of(&frame));
        }

        #[test]
        fn any_text_and_any_json_is_read_without_a_panic(text in ".{0,64}", kind in "model_result|model_stream_chunk|error|register|ping") {
            let _ = decode(&text, 1024);
            let _ = decode(&format!("{{\"type\":\"{kind}\",{text}"), 1024);
        }
    }
}
