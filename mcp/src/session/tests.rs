//! Tests of a client's session: whose id goes where, and on which stream.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

use super::*;
use crate::streams::Taken;
use alloc::string::ToString;
use alloc::sync::Arc;
use alloc::vec;

const NOW: Instant = Instant::ZERO;
const FIRST: Attachment = Attachment(0);
const SECOND: Attachment = Attachment(1);

fn open() -> Session {
    let (mut session, stream) = Session::open(NOW, "\"i\"", &Gateway::default(), None);
    session.handle_ready(
        NOW,
        Attachment(0),
        r#"{"protocolVersion":"2025-06-18"}"#,
        false,
        &mut Vec::new(),
    );
    assert_eq!(
        session.streams().sole_answer(stream),
        Some(r#"{"jsonrpc":"2.0","id":"i","result":{"protocolVersion":"2025-06-18"}}"#)
    );
    session.streams_mut().close(stream);
    session
}

fn ask(session: &mut Session, text: &str) -> (RequestKey, StreamId) {
    let stream = session.open_stream(1);
    let message = Message::read(text).unwrap();
    match session.from_client(NOW, &message, stream, &mut Vec::new()) {
        Ok(Forward::Request(key)) => (key, stream),
        other => panic!("{other:?}"),
    }
}

fn take(session: &mut Session, stream: StreamId) -> (Vec<String>, Taken) {
    let (reader, _) = session.streams_mut().read(stream).unwrap();
    let mut out = Vec::new();
    let taken = session
        .streams_mut()
        .take(stream, reader, Waker::noop(), &mut out);
    session.streams_mut().leave(NOW, stream, reader);
    let text = String::from_utf8(out).unwrap();
    let data = text.lines().filter_map(|line| line.strip_prefix("data: "));
    (data.map(ToString::to_string).collect(), taken)
}

fn value(text: &str, path: &[&str]) -> JsonValue<'static> {
    let leaked: &'static str = alloc::boxed::Box::leak(text.to_string().into_boxed_str());
    JsonValue::read(leaked).unwrap().path(path).unwrap()
}

#[test]
fn an_answer_and_its_progress_have_the_clients_own_id_and_token() {
    let mut session = open();
    assert_eq!(session.revision(), Revision::V2025_06_18);
    let (key, stream) = ask(
        &mut session,
        r#"{"id":"7","method":"tools/call","params":{"_meta":{"progressToken":"t"}}}"#,
    );
    let progress = value(
        r#"{"method":"notifications/progress","params":{"progressToken":31,"progress":1}}"#,
        &[],
    )
    .get();
    let token = JsonValue::read(progress)
        .unwrap()
        .path(&["params", "progressToken"])
        .unwrap();
    session.handle_progress(NOW, key, progress, token, &mut Vec::new());
    let text = value(r#"{"jsonrpc":"2.0","result":{"n":1.50},"id":31}"#, &[]).get();
    let id = JsonValue::read(text).unwrap().member("id").unwrap();
    session.handle_answer(NOW, key, text, id, &mut Vec::new());
    assert_eq!(
        take(&mut session, stream),
        (
            vec![
                r#"{"method":"notifications/progress","params":{"progressToken":"t","progress":1}}"#.into(),
                r#"{"jsonrpc":"2.0","result":{"n":1.50},"id":"7"}"#.into(),
            ],
            Taken::Ended
        )
    );
    assert_eq!(session.open_requests(), 0);
}

#[test]
fn a_question_of_the_server_goes_to_the_open_request_and_its_answer_back_under_the_servers_id() {
    let mut session = open();
    let (_, stream) = ask(&mut session, r#"{"id":1,"method":"tools/call"}"#);
    let text = value(
        r#"{"jsonrpc":"2.0","id":"s-9","method":"sampling/createMessage","params":{}}"#,
        &[],
    )
    .get();
    let id = JsonValue::read(text).unwrap().member("id").unwrap();
    session
        .handle_asked(NOW, SECOND, None, text, id, &mut Vec::new())
        .unwrap();
    let (texts, taken) = take(&mut session, stream);
    assert_eq!(taken, Taken::Waiting);
    assert_eq!(
        texts,
        [r#"{"jsonrpc":"2.0","id":1,"method":"sampling/createMessage","params":{}}"#]
    );
    for expected in [Some("\"s-9\""), None] {
        let message = Message::read(r#"{"jsonrpc":"2.0","id":1,"result":{}}"#).unwrap();
        let forward = session
            .from_client(NOW, &message, StreamId::SESSION, &mut Vec::new())
            .unwrap();
        match (forward, expected) {
            (Forward::Answer { to, own, .. }, Some(id)) => assert_eq!((to, &*own), (SECOND, id)),
            (Forward::Nothing, None) => {}
            (other, _) => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_client_of_a_shared_process_has_the_revision_that_it_asks_for() {
    for (asked, revision) in [
        (Some(Revision::V2025_06_18), "2025-06-18"),
        (None, "2025-11-25"),
    ] {
        let (session, stream) = Session::open(NOW, "0", &Gateway::default(), None);
        let mut session = session.asking(asked);
        let greeting = r#"{"protocolVersion":"2025-11-25"}"#;
        session.handle_ready(NOW, Attachment(0), greeting, false, &mut Vec::new());
        let answer = session.streams().sole_answer(stream).unwrap();
        assert!(answer.contains(revision), "{answer}");
        assert_eq!(session.revision().as_str(), revision);
    }
}

#[test]
fn two_servers_of_a_session_may_ask_under_the_same_id() {
    let mut session = open();
    let text = r#"{"id":1,"method":"roots/list"}"#;
    let id = JsonValue::read(text).unwrap().member("id").unwrap();
    let wake = &mut Vec::new();
    for from in [FIRST, SECOND] {
        session
            .handle_asked(NOW, from, None, text, id, wake)
            .unwrap();
    }
    take(&mut session, StreamId::SESSION);
    // One takes its question back, and the other one's stays.
    let back = r#"{"method":"notifications/cancelled","params":{"requestId":1}}"#;
    let of = JsonValue::read(back).unwrap();
    let of = of.path(&["params", "requestId"]).unwrap();
    session.handle_withdrawn(NOW, SECOND, back, of, wake);
    session.handle_gone(NOW, SECOND, wake);
    assert_eq!(
        take(&mut session, StreamId::SESSION).0,
        [r#"{"method":"notifications/cancelled","params":{"requestId":2}}"#]
    );
    let answer = Message::read(r#"{"id":1,"result":{}}"#).unwrap();
    let forward = session.from_client(NOW, &answer, StreamId::SESSION, wake);
    assert!(matches!(forward, Ok(Forward::Answer { to: FIRST, .. })));
    // A request is taken back where it is.
    let (key, _) = ask(&mut session, r#"{"id":5,"method":"a"}"#);
    let mut server = crate::server::Server::new("s".into(), "{}", &Gateway::default());
    let text = r#"{"id":5,"method":"a"}"#;
    let Ok(Message::Request { id, call }) = Message::read(text) else {
        panic!("it is a request");
    };
    let call = server
        .request(NOW, text, id, &call, (), &mut Default::default())
        .unwrap();
    assert!(session.sent(key, SECOND, call));
    let back =
        Message::read(r#"{"method":"notifications/cancelled","params":{"requestId":5}}"#).unwrap();
    let forward = session.from_client(NOW, &back, StreamId::SESSION, wake);
    assert!(matches!(forward, Ok(Forward::Cancel(SECOND, of, None)) if of == call));
}

#[test]
fn what_belongs_to_no_request_goes_to_the_sessions_own_stream() {
    let mut session = open();
    let notify = |session: &mut Session, method: &str| {
        let text = alloc::format!("{{\"method\":\"{method}\"}}");
        session.handle_notified(NOW, Attachment(0), &text, method, &mut Vec::new());
    };
    let (_, stream) = ask(&mut session, r#"{"id":1,"method":"a"}"#);
    notify(&mut session, "notifications/tools/list_changed");
    notify(&mut session, "notifications/message");
    let (_, second) = ask(&mut session, r#"{"id":2,"method":"b"}"#);
    notify(&mut session, "notifications/message");
    let (reader, _) = session.streams_mut().read(StreamId::SESSION).unwrap();
    notify(&mut session, "notifications/message");
    session.streams_mut().leave(NOW, StreamId::SESSION, reader);
    assert_eq!(take(&mut session, stream).0.len(), 1);
    assert_eq!(take(&mut session, second).0.len(), 1);
    assert_eq!(
        take(&mut session, StreamId::SESSION).0,
        [
            r#"{"method":"notifications/tools/list_changed"}"#,
            r#"{"method":"notifications/message"}"#
        ]
    );
}

#[test]
fn a_request_that_the_client_cancels_ends_its_stream_without_an_answer() {
    let mut session = open();
    let (key, stream) = ask(&mut session, r#"{"id":1,"method":"a"}"#);
    let message = Message::read(
        r#"{"method":"notifications/cancelled","params":{"requestId":1,"reason":"x"}}"#,
    )
    .unwrap();
    let forward = session
        .from_client(NOW, &message, StreamId::SESSION, &mut Vec::new())
        .unwrap();
    assert!(matches!(forward, Forward::Nothing), "it was not sent yet");
    session.handle_failed(
        NOW,
        key,
        &Refusal::new(Reason::Timeout, ""),
        &mut Vec::new(),
    );
    assert_eq!(take(&mut session, stream), (vec![], Taken::Ended));
}

#[test]
fn an_id_that_is_in_use_and_one_request_too_many_are_refused() {
    let config = Gateway {
        sessions: crate::config::Sessions {
            in_flight: 2,
            ..Default::default()
        },
        ..Gateway::default()
    };
    let (mut session, _) = Session::open(NOW, "0", &config, None);
    session.handle_ready(NOW, Attachment(0), "{}", false, &mut Vec::new());
    ask(&mut session, r#"{"id":1,"method":"a"}"#);
    let refused = |session: &mut Session, text: &str| {
        let stream = session.open_stream(1);
        let message = Message::read(text).unwrap();
        session
            .from_client(NOW, &message, stream, &mut Vec::new())
            .unwrap_err()
            .reason
    };
    assert_eq!(
        refused(&mut session, r#"{"id":1,"method":"a"}"#),
        Reason::BadRequest
    );
    // Another type is another id.
    ask(&mut session, r#"{"id":"1","method":"a"}"#);
    assert_eq!(
        refused(&mut session, r#"{"id":3,"method":"a"}"#),
        Reason::InFlightFull
    );
    assert_eq!(
        refused(&mut session, r#"{"id":4,"method":"initialize"}"#),
        Reason::BadRequest
    );
}

#[test]
fn a_session_whose_server_cannot_start_ends_with_that() {
    let (mut session, stream) = Session::open(NOW, "0", &Gateway::default(), None);
    let refusal = Refusal::new(Reason::ServerUnavailable, "no");
    session.handle_not_ready(NOW, Attachment(0), &refusal, &mut Vec::new());
    assert_eq!(session.state(), State::Ended);
    let answer = session.streams().sole_answer(stream).unwrap();
    assert!(answer.contains("-31503"), "{answer}");
}

#[test]
fn a_server_that_comes_again_has_changed_its_lists() {
    let mut session = open();
    let result = r#"{"capabilities":{"tools":{"listChanged":true},"prompts":{}}}"#;
    session.handle_ready(NOW, Attachment(0), result, true, &mut Vec::new());
    assert_eq!(
        take(&mut session, StreamId::SESSION).0,
        [r#"{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}"#]
    );
}

#[test]
fn who_opens_a_session_without_initialize_waits_for_its_server() {
    let opened = || {
        let hello = crate::greeting::hello(None, None, "ide").unwrap();
        assert!(hello.contains("2025-11-25"));
        let (mut session, stream) = Session::open(NOW, "0", &Gateway::default(), None);
        let (reader, _) = session.streams_mut().read(stream).unwrap();
        let waits = session.poll_open(stream, reader, Waker::noop());
        assert!(waits.is_pending());
        (session, stream, reader)
    };
    let (mut session, stream, reader) = opened();
    let mut wake = Vec::new();
    let result = r#"{"protocolVersion":"2025-11-25","serverInfo":{"name":"s"}}"#;
    session.handle_ready(NOW, Attachment(0), result, false, &mut wake);
    assert_eq!(wake.len(), 1, "who waits is woken");
    let Poll::Ready(Ok(greeting)) = session.poll_open(stream, reader, Waker::noop()) else {
        panic!("it is ready")
    };
    assert_eq!(&*greeting.server_info, r#"{"name":"s"}"#);
    assert_eq!(session.greeting(), Some(&greeting));
    assert_eq!(session.streams().len(), 1, "nothing is left of the wait");

    let (mut session, stream, reader) = opened();
    let refusal = Refusal::new(Reason::ServerUnavailable, "it cannot be started");
    session.handle_not_ready(NOW, Attachment(0), &refusal, &mut Vec::new());
    let failed = session.poll_open(stream, reader, Waker::noop());
    assert_eq!(failed, Poll::Ready(Err(refusal)));

    let (mut session, stream, reader) = opened();
    session.end(&mut Vec::new());
    let Poll::Ready(Err(ended)) = session.poll_open(stream, reader, Waker::noop()) else {
        panic!("it has ended")
    };
    assert_eq!(ended.reason, Reason::SessionNotFound);
}

#[test]
fn a_question_that_names_its_request_goes_to_the_stream_of_that() {
    let mut session = open();
    let (key, stream) = ask(&mut session, r#"{"id":1,"method":"tools/call"}"#);
    let (_, other) = ask(&mut session, r#"{"id":2,"method":"tools/call"}"#);
    let text = r#"{"id":1,"method":"roots/list"}"#;
    let id = JsonValue::read(text).unwrap().member("id").unwrap();
    session
        .handle_asked(NOW, FIRST, Some(key), text, id, &mut Vec::new())
        .unwrap();
    assert_eq!(take(&mut session, stream).0.len(), 1);
    assert!(take(&mut session, other).0.is_empty());
}

#[test]
fn whoever_reads_a_stream_is_woken_when_the_session_ends() {
    struct Count(core::sync::atomic::AtomicUsize);
    impl alloc::task::Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, core::sync::atomic::Ordering::Relaxed);
        }
    }
    let mut session = open();
    let (_, asked) = ask(&mut session, r#"{"id":"7","method":"tools/call"}"#);
    let woken = Arc::new(Count(0.into()));
    for stream in [asked, StreamId::SESSION] {
        let (reader, _) = session.streams_mut().read(stream).unwrap();
        let waker = Waker::from(woken.clone());
        let listening = session.streams_mut().listen(stream, reader, &waker);
        assert_eq!(listening, Taken::Waiting);
    }
    let mut wake = Vec::new();
    session.end(&mut wake);
    wake.into_iter().for_each(Waker::wake);
    assert_eq!(woken.0.load(core::sync::atomic::Ordering::Relaxed), 2);
}

#[test]
fn a_session_that_ends_fails_its_open_requests() {
    let mut config = Gateway::default();
    config.resume.bytes = 1000;
    let (mut session, opening) = Session::open(NOW, "0", &config, None);
    let (_, stream) = ask(&mut session, r#"{"id":"7","method":"tools/call"}"#);
    let (reader, _) = session.streams_mut().read(stream).unwrap();
    let listening = session.streams_mut().listen(stream, reader, Waker::noop());
    assert_eq!(listening, Taken::Waiting);
    // More than may wait for a client ends it.
    let mut wake = Vec::new();
    for _ in 0..3 {
        let text = "x".repeat(500);
        session.handle_notified(
            NOW,
            Attachment(0),
            &text,
            "notifications/tools/list_changed",
            &mut wake,
        );
    }
    assert_eq!(session.state(), State::Ended);
    for (stream, id) in [(stream, "\"7\""), (opening, "0")] {
        let (told, taken) = take(&mut session, stream);
        assert_eq!(taken, Taken::Ended);
        assert_eq!(value(&told[0], &["id"]).get(), id);
        let reason = value(&told[0], &["error", "data", "reason"]);
        assert_eq!(reason.get(), "\"session_not_found\"");
    }
}
