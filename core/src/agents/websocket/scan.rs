//! The one-pass reading of the two frames that nearly all frames are: a piece of text, and a whole text.
//!
//! It knows one form of `model_stream_chunk` and of `model_result` and gives up at everything else, so it never decides that a
//! frame is wrong: the full reading does. What it accepts, the full reading accepts with the same result.

use crate::invocation::{Delta, End, Finish, Usage};
use crate::link::{Answer, Chunk, Ending, Id};
use crate::text::{Cursor, JsonStr};
use alloc::vec::Vec;

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

/// A whole text that is complete: one choice, and tokens as OpenAI counts them. `None` for everything unusual.
pub(super) fn result(frame: &str) -> Option<Answer<'_>> {
    let (mut id, mut choice, mut usage) = (None, None, None);
    let mut names = Names::default();
    let mut is_result = false;
    let mut cursor = Cursor::new(frame);
    cursor.object(|cursor, name| {
        names.once(name)?;
        match name.as_escaped() {
            "type" => {
                cursor.literal(b"\"model_result\"")?;
                is_result = true;
            }
            "id" => id = Some(self::id(cursor)?),
            "status" => cursor.literal(b"\"ok\"")?,
            "result" => {
                let mut names = Names::default();
                cursor.object(|cursor, name| {
                    names.once(name)?;
                    match name.as_escaped() {
                        "choices" => cursor.array(|cursor| match choice {
                            None => self::choice(cursor).map(|one| choice = Some(one)),
                            Some(_) => None,
                        }),
                        "usage" => self::usage(cursor).map(|counted| usage = Some(counted)),
                        _ => None,
                    }
                })?;
            }
            _ => return None,
        }
        // What follows the type is read for nothing otherwise.
        is_result.then_some(())
    })?;
    cursor.end()?;
    Some(Answer {
        id: id?,
        delta: choice?,
        vectors: Vec::new(),
        ending: Ending::End(End {
            finish: Finish::Stop,
            usage,
        }),
    })
}

/// One choice that stops by itself.
fn choice<'f>(cursor: &mut Cursor<'f>) -> Option<Delta<'f>> {
    let mut message = None;
    let mut names = Names::default();
    cursor.object(|cursor, name| {
        names.once(name)?;
        match name.as_escaped() {
            "index" => cursor.whole().map(drop),
            "message" => delta(cursor).map(|delta| message = Some(delta)),
            "finish_reason" => cursor.literal(b"\"stop\""),
            _ => None,
        }
    })?;
    message
}

fn usage(cursor: &mut Cursor<'_>) -> Option<Usage> {
    let (mut prompt, mut completion) = (None, None);
    let mut names = Names::default();
    cursor.object(|cursor, name| {
        names.once(name)?;
        let count = cursor.whole()?;
        match name.as_escaped() {
            "prompt_tokens" => prompt = Some(count),
            "completion_tokens" => completion = Some(count),
            "total_tokens" => {}
            _ => return None,
        }
        Some(())
    })?;
    Some(Usage {
        prompt_tokens: prompt?,
        completion_tokens: completion?,
        estimated: false,
    })
}

/// The names of an object's members so far, by their first letter: those of one object differ in it.
#[derive(Default)]
struct Names(u32);

impl Names {
    /// `None` for a name that is repeated.
    fn once(&mut self, name: JsonStr<'_>) -> Option<()> {
        let letter = name.as_escaped().bytes().next()?.checked_sub(b'a')?;
        let bit = 1u32.checked_shl(u32::from(letter))?;
        let is_new = self.0 & bit == 0;
        self.0 |= bit;
        is_new.then_some(())
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
        if let Some(scanned) = result(frame) {
            match messages::decode(frame) {
                Ok(FromAgent::Result(full)) => assert_eq!(scanned, full, "{frame}"),
                other => panic!("scanned, but the full reading says {other:?}: {frame}"),
            }
            return true;
        }
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
            r#"{"type":"model_result","id":"6f1a2b3c000000000002","status":"ok","result":{"choices":[{"index":0,"message":{"role":"assistant","content":"Hello"},"finish_reason":"stop"}],"usage":{"prompt_tokens":9,"completion_tokens":1,"total_tokens":10}}}"#,
            r#" {"type" : "model_result" , "id":"x", "result" : { "choices" : [ { "message" : { "content" : "\u00e9" } } ] } } "#,
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
            r#"{"type":"model_result","id":"x","status":"error","result":{"choices":[{"message":{"content":"y"}}]}}"#,
            r#"{"type":"model_result","id":"x","result":{"choices":[]}}"#,
            r#"{"type":"model_result","id":"x","result":{"choices":[{"message":{}},{"message":{}}]}}"#,
            r#"{"type":"model_result","id":"x","result":{"choices":[{"message":{}}],"choices":[]}}"#,
            r#"{"type":"model_result","id":"x","result":{"choices":[{"text":"y"}]}}"#,
            r#"{"type":"model_result","id":"x","result":{"choices":[{"message":{},"finish_reason":"length"}]}}"#,
            r#"{"type":"model_result","id":"x","result":{"choices":[{"message":{}}],"usage":{"prompt_tokens":1}}}"#,
            r#"{"type":"model_result","id":"x","result":{"choices":[{"message":{}}]},"type":"ping"}"#,
            r#"{"type":"model_result","id":"x","result":{"choices":[{"message":{}}]}}x"#,
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

    /// A whole text, now and then with a member that is twice there, missing or in another place.
    fn whole() -> impl Strategy<Value = String> {
        let text = "([a-z \u{e9}\u{1f600}]|\\\\[nt/\"\\\\]|\\\\u[0-9a-fA-F]{4}){0,24}";
        let choice = text.prop_map(|text| {
            format!(
                "\"choices\":[{{\"index\":0,\"message\":{{\"role\":\"assistant\",\"content\":\"{text}\"}},\"finish_reason\":\"stop\"}}]"
            )
        });
        let usage = "\"usage\":{\"completion_tokens\":1,\"prompt_tokens\":20}";
        let inner = (choice, 0usize..4).prop_map(move |(choice, form)| match form {
            0 => choice,
            1 => format!("{choice},{usage}"),
            2 => format!("{usage},{choice}"),
            _ => format!("{choice},{choice}"),
        });
        (inner, 0usize..4).prop_map(|(inner, form)| {
            let (kind, id) = ("\"type\":\"model_result\"", "\"id\":\"x\"");
            match form {
                0 => format!("{{{kind},{id},\"status\":\"ok\",\"result\":{{{inner}}}}}"),
                1 => format!("{{{kind},\"result\":{{{inner}}},{id}}}"),
                2 => format!("{{{id},{kind},\"result\":{{{inner}}}}}"),
                _ => format!("{{{kind},{id},\"result\":{{{inner}}},{id}}}"),
            }
        })
    }

    proptest! {
        #[test]
        fn a_scanned_result_reads_as_the_full_reading_reads_it(frame in whole(), damage in damage()) {
            agrees(&frame);
            agrees(&damage.of(&frame));
        }

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
