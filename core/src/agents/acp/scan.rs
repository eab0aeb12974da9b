//! The one-pass reading of the line that nearly all lines are: a piece of an answer's text, or of a thought.
//!
//! It knows one form of `session/update` and gives up at everything else, so it never decides that a line is wrong: the full
//! reading does. What it accepts, the full reading accepts with the same result.

use super::update::{SessionUpdate, Update};
use crate::text::{Cursor, JsonStr};
use alloc::borrow::Cow;

/// `None` for everything unusual: escapes in names, members that are not needed here, other updates, content that is no text.
#[inline]
pub(super) fn chunk(line: &str) -> Option<SessionUpdate<'_>> {
    let mut cursor = Cursor::new(line);
    let mut seen = 0u8;
    let mut update = None;
    cursor.mark(b'{')?;
    loop {
        cursor.mark(b'"')?;
        let bit = match cursor.next()? {
            b'j' => {
                cursor.name(b"jsonrpc\"")?;
                cursor.literal(b"\"2.0\"")?;
                1
            }
            b'm' => {
                cursor.name(b"method\"")?;
                cursor.literal(b"\"session/update\"")?;
                2
            }
            b'p' => {
                cursor.name(b"params\"")?;
                update = Some(params(&mut cursor)?);
                4
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
    if seen & 2 == 0 {
        return None;
    }
    update
}

#[inline(always)]
fn params<'l>(cursor: &mut Cursor<'l>) -> Option<SessionUpdate<'l>> {
    let (mut session, mut update) = (None, None);
    cursor.mark(b'{')?;
    loop {
        cursor.mark(b'"')?;
        match cursor.next()? {
            b's' if session.is_none() => {
                cursor.name(b"sessionId\"")?;
                session = Some(plain(cursor)?);
            }
            b'u' if update.is_none() => {
                cursor.name(b"update\"")?;
                update = Some(self::update(cursor)?);
            }
            _ => return None,
        }
        if !cursor.more()? {
            break;
        }
    }
    Some(SessionUpdate {
        session: session?,
        update: update?,
    })
}

#[inline(always)]
fn update<'l>(cursor: &mut Cursor<'l>) -> Option<Update<'l>> {
    let (mut kind, mut text, mut message) = (None, None, None);
    cursor.mark(b'{')?;
    loop {
        cursor.mark(b'"')?;
        match cursor.next()? {
            b's' if kind.is_none() => {
                cursor.name(b"sessionUpdate\"")?;
                kind = Some(plain(cursor)?);
            }
            b'c' if text.is_none() => {
                cursor.name(b"content\"")?;
                text = Some(content(cursor)?);
            }
            b'm' if message.is_none() => {
                cursor.name(b"messageId\"")?;
                message = Some(plain(cursor)?);
            }
            _ => return None,
        }
        if !cursor.more()? {
            break;
        }
    }
    let text = text?;
    match &*kind? {
        "agent_message_chunk" => Some(Update::Message {
            text,
            message,
            meta: None,
        }),
        "agent_thought_chunk" => Some(Update::Thought(text)),
        _ => None,
    }
}

#[inline(always)]
fn content<'l>(cursor: &mut Cursor<'l>) -> Option<JsonStr<'l>> {
    let (mut is_text, mut text) = (false, None);
    cursor.mark(b'{')?;
    loop {
        cursor.mark(b'"')?;
        match cursor.rest() {
            [b't', b'y', ..] if !is_text => {
                cursor.name(b"type\"")?;
                cursor.literal(b"\"text\"")?;
                is_text = true;
            }
            [b't', b'e', ..] if text.is_none() => {
                cursor.name(b"text\"")?;
                cursor.mark(b'"')?;
                text = Some(cursor.long_string()?);
            }
            _ => return None,
        }
        if !cursor.more()? {
            break;
        }
    }
    text.filter(|_| is_text)
}

/// A string without escapes.
#[inline(always)]
fn plain<'l>(cursor: &mut Cursor<'l>) -> Option<Cow<'l, str>> {
    cursor.mark(b'"')?;
    let text = cursor.string()?.as_escaped();
    (!text.contains('\\')).then_some(Cow::Borrowed(text))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]
    use super::*;
    use crate::rpc::Message;
    use crate::text::damage::damage;
    use alloc::format;
    use alloc::string::String;
    use alloc::vec::Vec;
    use proptest::prelude::*;

    /// Session, kind, text and message of an update of text.
    fn parts(update: SessionUpdate<'_>) -> Option<(String, bool, String, Option<String>)> {
        let session = update.session.into_owned();
        match update.update {
            Update::Message {
                text,
                message,
                meta: None,
            } => Some((
                session,
                false,
                text.as_escaped().into(),
                message.map(Cow::into_owned),
            )),
            Update::Thought(text) => Some((session, true, text.as_escaped().into(), None)),
            Update::Message { .. }
            | Update::Call(_)
            | Update::Work
            | Update::Notice
            | Update::Options(_)
            | Update::Mode(_)
            | Update::Info(_)
            | Update::Other
            | Update::Unknown => None,
        }
    }

    /// Checks that the full reading takes each line that the scanner takes, with the same result.
    fn agrees(line: &str) -> bool {
        let Some(scanned) = chunk(line) else {
            return false;
        };
        let Ok(Message::Notification(call)) = Message::read(line) else {
            panic!("scanned, and the full reading finds no notification: {line}");
        };
        assert_eq!(call.method, "session/update", "{line}");
        let full = SessionUpdate::read(call.params.unwrap()).unwrap();
        assert_eq!(parts(scanned), parts(full), "{line}");
        true
    }

    const USUAL: &str = r#"{"jsonrpc":"2.0","method":"session/update","params":{"sessionId":"s1","update":{"sessionUpdate":"agent_message_chunk","content":{"type":"text","text":"a \" \n \u00e9"}}}}"#;

    #[test]
    fn the_usual_lines_are_scanned() {
        for line in [
            USUAL.into(),
            USUAL.replace("message_chunk", "thought_chunk"),
            USUAL.replace(
                "\"content\"",
                "\"messageId\" : \"m1\" , \"content\"",
            ),
            USUAL.replace(":{", " : { ").replace("}}", " } } "),
            r#"{"params":{"update":{"content":{"text":"","type":"text"},"sessionUpdate":"agent_message_chunk"},"sessionId":""},"method":"session/update"}"#.into(),
        ] {
            assert!(agrees(&line), "{line}");
        }
    }

    #[test]
    fn the_unusual_is_left_to_the_full_reading() {
        for (what, instead) in [
            ("session/update", "session/other"),
            ("\"2.0\"", "\"1.0\""),
            ("agent_message_chunk", "user_message_chunk"),
            ("agent_message_chunk", "agent\\u005fmessage_chunk"),
            ("\"sessionId\":\"s1\",", ""),
            ("\"s1\"", "\"s\\u0031\""),
            ("\"s1\"", "1"),
            ("\"type\":\"text\"", "\"type\":\"image\""),
            ("\"type\":\"text\",", ""),
            ("e9\"}", "e9\",\"_meta\":{}}"),
            ("\"content\"", "\"messageId\":null,\"content\""),
            ("\"jsonrpc\"", "\"id\":1,\"jsonrpc\""),
            ("\"jsonrpc\"", "\"method\":\"session/update\",\"jsonrpc\""),
            ("}}}}", "}}}"),
            ("}}}}", "}}}}}"),
            ("\\n", "\n"),
        ] {
            let line = USUAL.replacen(what, instead, 1);
            assert_ne!(line, USUAL, "{what}");
            assert!(!agrees(&line), "{line}");
        }
    }

    fn line() -> impl Strategy<Value = String> {
        let text = "([a-z \u{e9}\u{1f600}]|\\\\[nt/\"\\\\]|\\\\u[0-9a-fA-F]{4}){0,40}";
        let shuffled = |members: Vec<String>| {
            Just(members)
                .prop_shuffle()
                .prop_map(|members| format!("{{{}}}", members.join(",")))
        };
        (text, "[a-z0-9]{0,6}", any::<(bool, bool)>()).prop_flat_map(
            move |(text, id, (thought, message))| {
                let kind = if thought { "thought" } else { "message" };
                let content =
                    Vec::from(["\"type\":\"text\"".into(), format!("\"text\":\"{text}\"")]);
                shuffled(content).prop_flat_map(move |content| {
                    let mut update = Vec::from([
                        format!("\"sessionUpdate\":\"agent_{kind}_chunk\""),
                        format!("\"content\":{content}"),
                    ]);
                    if message {
                        update.push(format!("\"messageId\":\"{id}\""));
                    }
                    let id = id.clone();
                    shuffled(update).prop_flat_map(move |update| {
                        let params = Vec::from([
                            format!("\"sessionId\":\"{id}\""),
                            format!("\"update\":{update}"),
                        ]);
                        shuffled(params).prop_flat_map(move |params| {
                            shuffled(Vec::from([
                                "\"jsonrpc\":\"2.0\"".into(),
                                "\"method\":\"session/update\"".into(),
                                format!("\"params\":{params}"),
                            ]))
                        })
                    })
                })
            },
        )
    }

    proptest! {
        #[test]
        fn a_scanned_line_reads_as_the_full_reading_reads_it(line in line()) {
            prop_assert!(agrees(&line), "{}", line);
        }

        #[test]
        fn a_damaged_line_too(line in line(), damage in damage()) {
            agrees(&damage.of(&line));
        }
    }
}
