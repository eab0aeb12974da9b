//! Tests of the envelope: what a frame means, and that a socket that is lost and attached again loses and repeats nothing.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

use super::*;
use crate::config::Gateway;
use crate::session::{Attachment, Forward, RequestKey, Session};
use crate::streams::StreamId;
use alloc::format;
use alloc::string::ToString;
use core::task::Waker;
use mcp_local_provider_core::time::Instant;
use proptest::prelude::*;

const NOW: Instant = Instant::ZERO;

#[test]
fn a_frame_is_one_of_the_envelope_or_a_message() {
    let create = r#"{"type":"create_session","client_id":"ide","server":"files","metadata":{},"capabilities":{"roots":{}}}"#;
    assert_eq!(
        FromClient::read(create).unwrap(),
        FromClient::Create {
            client: "ide".into(),
            server: Some("files".into()),
            capabilities: JsonValue::read(r#"{"roots":{}}"#),
        }
    );
    assert_eq!(
        FromClient::read(r#"{"type":"attach_session","session_id":"s","last_event_id":null}"#)
            .unwrap(),
        FromClient::Attach {
            session: "s".into(),
            last_event: None
        }
    );
    assert_eq!(
        FromClient::read(r#"{"type":"close_session"}"#).unwrap(),
        FromClient::Close
    );
    for bare in [
        r#"{"jsonrpc":"2.0","method":"a","type":"x"}"#,
        "[]",
        "5",
        r#"{"method":"a"}"#,
    ] {
        assert_eq!(FromClient::read(bare).unwrap(), FromClient::Bare, "{bare}");
    }
    for (wrong, code, said) in [
        ("{", "bad_json", "the frame is not JSON"),
        (
            r#"{"type":"create_session"}"#,
            "bad_request",
            "`client_id` is missing",
        ),
        (
            r#"{"type":"create_session","client_id":1}"#,
            "bad_request",
            "`client_id` must be a string",
        ),
        (
            r#"{"type":"create_session","client_id":"a","metadata":[]}"#,
            "bad_request",
            "`metadata` must be an object",
        ),
        (
            r#"{"type":"attach_session"}"#,
            "bad_request",
            "`session_id` is missing",
        ),
        (
            r#"{"type":"what"}"#,
            "bad_request",
            "`type` must be create_session, attach_session or close_session; a JSON-RPC message has none",
        ),
    ] {
        let refusal = FromClient::read(wrong).unwrap_err();
        assert_eq!(
            (super::code(refusal.reason), &*refusal.message),
            (code, said),
            "{wrong}"
        );
    }
}

#[test]
fn a_tools_own_method_is_a_call_of_it() {
    let call = |text: &str| tool_call(&Message::read(text).unwrap());
    assert_eq!(
        call(r#"{"id":"7","method":"tools/do.it","params":{"a":[1],"_meta":{"progressToken":2},"\u0062":1e400}}"#).unwrap(),
        Some(r#"{"jsonrpc":"2.0","id":"7","method":"tools/call","params":{"name":"do.it","arguments":{"a":[1],"\u0062":1e400},"_meta":{"progressToken":2}}}"#.to_string())
    );
    assert_eq!(
        call(r#"{"id":1,"method":"tools/x"}"#).unwrap(),
        Some(r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"x","arguments":{}}}"#.to_string())
    );
    for other in [
        "tools/list",
        "tools/call",
        "tools/",
        "tool/x",
        "prompts/get",
    ] {
        assert_eq!(
            call(&format!(r#"{{"id":1,"method":"{other}"}}"#)),
            Ok(None),
            "{other}"
        );
    }
    assert_eq!(
        call(r#"{"method":"tools/x"}"#),
        Ok(None),
        "a notification calls nothing"
    );
    assert_eq!(
        call(r#"{"id":1,"method":"tools/x","params":[]}"#)
            .unwrap_err()
            .reason,
        Reason::BadParams
    );
}

#[test]
fn frames_to_the_client_say_what_they_hold() {
    let at = Position::parse("0-7").unwrap();
    for (text, kind) in [
        (r#"{"id":1,"result":{}}"#, "response"),
        (r#"[{"id":1,"result":{}}]"#, "response"),
        (r#"{"jsonrpc":"2.0","id":null,"error":{}}"#, "response"),
        (r#"{"id":1,"method":"a"}"#, "request"),
        (r#"{"method":"a"}"#, "notification"),
    ] {
        assert_eq!(
            frame(at, text),
            format!(r#"{{"type":"{kind}","data":{text},"event_id":"0-7"}}"#)
        );
    }
    assert_eq!(
        error("bad_json", "it \"is\" none", Some("\"7\"")),
        r#"{"type":"error","error":"it \"is\" none","code":"bad_json","id":"7"}"#
    );
    let greeting = Greeting::read(
        r#"{"protocolVersion":"2025-11-25","capabilities":{"tools":{}},"serverInfo":{"name":"s"}}"#,
    );
    let frame = r#"{"type":"session_created","session_id":"i","capabilities":{"tools":{}},"server_info":{"name":"s"},"protocol_version":"2025-11-25","expires_at":"t""#;
    assert_eq!(created("i", &greeting, "t", None), format!("{frame}}}"));
    assert_eq!(
        created("i", &greeting, "t", Some(2)),
        format!("{frame},\"attached\":true,\"replayed\":2}}")
    );
}

fn open() -> Session {
    let (mut session, stream) = Session::open(NOW, "0", &Gateway::default(), None);
    session.handle_ready(
        NOW,
        Attachment(0),
        r#"{"protocolVersion":"2025-11-25"}"#,
        false,
        &mut Vec::new(),
    );
    session.streams_mut().close(stream);
    session
}

fn ask(session: &mut Session, id: usize, stream: StreamId) -> RequestKey {
    let text = format!(r#"{{"id":{id},"method":"tools/call"}}"#);
    let message = Message::read(&text).unwrap();
    match session.from_client(NOW, &message, stream, &mut Vec::new()) {
        Ok(Forward::Request(key)) => key,
        other => panic!("{other:?}"),
    }
}

fn answer(session: &mut Session, key: RequestKey, number: usize) {
    let text = format!(r#"{{"id":1,"result":{number}}}"#);
    let id = JsonValue::read(&text).unwrap().member("id").unwrap();
    session.handle_answer(NOW, key, &text, id, &mut Vec::new());
}

/// Everything that waits, as frames.
fn frames(session: &mut Session) -> Vec<String> {
    let mut frames = Vec::new();
    let streams = session.streams_mut();
    let (reader, _) = streams.read(StreamId::SESSION).unwrap();
    streams.take_each(StreamId::SESSION, reader, Waker::noop(), &mut |at, text| {
        frames.push(frame(at, text));
    });
    streams.leave(NOW, StreamId::SESSION, reader);
    frames
}

fn member(frame: &str, name: &str) -> String {
    let value = JsonValue::read(frame).unwrap().member(name).unwrap();
    value
        .text()
        .map_or_else(|| value.get().to_string(), Cow::into_owned)
}

#[test]
fn the_answers_to_a_batch_come_together_and_nothing_else_waits_for_them() {
    let mut session = open();
    let batch = session.open_batch(3);
    let first = ask(&mut session, 1, batch);
    let second = ask(&mut session, 2, batch);
    ask(&mut session, 3, batch);
    answer(&mut session, second, 2);
    assert!(frames(&mut session).is_empty(), "two are to come");
    let told = r#"{"method":"notifications/message","params":{}}"#;
    session.handle_notified(
        NOW,
        Attachment(0),
        told,
        "notifications/message",
        &mut Vec::new(),
    );
    assert_eq!(member(&frames(&mut session)[0], "type"), "notification");
    answer(&mut session, first, 1);
    // The last one is taken back, and has no answer.
    let cancelled = r#"{"method":"notifications/cancelled","params":{"requestId":3}}"#;
    let message = Message::read(cancelled).unwrap();
    let stream = StreamId::SESSION;
    session
        .from_client(NOW, &message, stream, &mut Vec::new())
        .unwrap();
    let together = frames(&mut session);
    assert_eq!(together.len(), 1);
    assert_eq!(
        member(&together[0], "data"),
        r#"[{"id":2,"result":2},{"id":1,"result":1}]"#
    );
    assert_eq!(session.streams().len(), 1, "nothing is left of the batch");
}

proptest! {
    /// A client that gets some frames of those that were taken, loses its socket, and comes back with the last event that it has.
    #[test]
    fn a_socket_that_is_lost_at_any_frame_and_attached_again_loses_and_repeats_nothing(
        steps in prop::collection::vec((0..3_usize, 0..6_usize, any::<bool>()), 1..12),
    ) {
        let mut session = open();
        let (mut sent, mut got) = (0, Vec::new());
        let mut last: Option<String> = None;
        for (kind, most, is_batch) in steps {
            for _ in 0..=kind {
                let stream = if is_batch { session.open_batch(1) } else { StreamId::SESSION };
                let key = ask(&mut session, sent, stream);
                answer(&mut session, key, sent);
                sent += 1;
            }
            if let Some(last) = &last {
                prop_assert!(session.streams_mut().rewind(Position::parse(last).unwrap()));
            } else {
                prop_assert!(session.streams_mut().rewind(Position::parse("0-0").unwrap()));
            }
            let waiting = session.streams().news(StreamId::SESSION);
            let taken = frames(&mut session);
            prop_assert_eq!(taken.len(), waiting, "that is how many are announced");
            for frame in taken.into_iter().take(most) {
                last = Some(member(&frame, "event_id"));
                got.push(member(&frame, "data"));
            }
        }
        let at = last.as_deref().unwrap_or("0-0");
        prop_assert!(session.streams_mut().rewind(Position::parse(at).unwrap()));
        got.extend(frames(&mut session).iter().map(|frame| member(frame, "data")));
        let got: Vec<String> = got.iter().map(|data| data.trim_matches(['[', ']']).to_string()).collect();
        let all: Vec<String> = (0..sent).map(|id| format!(r#"{{"id":{id},"result":{id}}}"#)).collect();
        prop_assert_eq!(got, all);
    }
}
