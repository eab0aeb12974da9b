//! Tests of a session with several servers: what goes to which of them, and what the client is told.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

use super::*;
use crate::config::{Gateway, Prefix, Server};
use crate::session::Forward;
use alloc::string::ToString;

const NOW: Instant = Instant::ZERO;
const ALL: &str =
    r#"{"protocolVersion":"2025-11-25","capabilities":{"tools":{},"logging":{},"prompts":{}}}"#;

fn opening() -> (Session, StreamId) {
    let (a, b) = (Server::named("a"), Server::named("b"));
    let catalogue = Catalogue::of_all(Prefix::Auto, &[&a, &b]);
    let (session, stream) = Session::open(NOW, "0", &Gateway::default(), None);
    (session.with(catalogue), stream)
}

fn open() -> Session {
    let (mut session, _) = opening();
    for at in [0, 1] {
        ready(&mut session, at, ALL);
    }
    session
}

fn ready(session: &mut Session, at: u16, result: &str) {
    session.handle_ready(NOW, Attachment(at), result, false, &mut Vec::new());
}

/// Takes a request of the client; returns what goes to servers, as place and text, with the numbers of the answers.
fn ask(session: &mut Session, text: &str) -> (StreamId, Vec<(u16, String, RequestKey)>) {
    let stream = session.open_stream(1);
    let message = Message::read(text).unwrap();
    let forward = session.from_client(NOW, &message, stream, &mut Vec::new());
    let (Ok(Forward::Request(key)), Message::Request { call, .. }) = (forward, &message) else {
        panic!("{text}");
    };
    let sent = session.route(NOW, key, text, call, &mut Vec::new());
    let mut sent: Vec<Dispatch> = sent.into_iter().collect();
    sent.append(&mut session.take_dispatches());
    (stream, of(sent, text))
}

fn of(sent: Vec<Dispatch>, text: &str) -> Vec<(u16, String, RequestKey)> {
    let text_of = |dispatch: &Dispatch| dispatch.text.as_deref().unwrap_or(text).trim().to_string();
    let sent = sent.iter();
    sent.map(|dispatch| (dispatch.to.0, text_of(dispatch), dispatch.key))
        .collect()
}

fn answer(session: &mut Session, key: RequestKey, outcome: &str) {
    let text = format!(r#"{{"jsonrpc":"2.0","id":9,{outcome}}}"#);
    let id = JsonValue::read(&text).unwrap().member("id").unwrap();
    session.handle_answer(NOW, key, &text, id, &mut Vec::new());
}

fn answered(session: &Session, stream: StreamId) -> Option<&str> {
    let answer = session.streams().sole_answer(stream)?;
    Some(
        answer
            .strip_prefix(r#"{"jsonrpc":"2.0","id":7,"#)
            .unwrap_or(answer),
    )
}

fn tools(names: &[&str]) -> String {
    let tools: Vec<String> = names
        .iter()
        .map(|name| format!(r#"{{"name":"{name}"}}"#))
        .collect();
    format!(r#""result":{{"tools":[{}]}}"#, tools.join(","))
}

#[test]
fn a_session_is_open_when_all_its_servers_have_come_or_failed() {
    let refusal = Refusal::new(Reason::ServerUnavailable, "no");
    let (mut session, stream) = opening();
    ready(&mut session, 1, ALL);
    assert_eq!(session.state(), State::Opening);
    session.handle_not_ready(NOW, Attachment(0), &refusal, &mut Vec::new());
    assert_eq!(session.state(), State::Open);
    let text = answered(&session, stream).unwrap();
    assert!(
        text.contains(r#""resources":{"listChanged":true}"#),
        "{text}"
    );
    // The other comes late.
    ready(&mut session, 0, ALL);
    assert!(session.streams().has_news(StreamId::SESSION));

    let (mut session, stream) = opening();
    for at in [1, 0] {
        session.handle_not_ready(NOW, Attachment(at), &refusal, &mut Vec::new());
    }
    assert_eq!(session.state(), State::Ended);
    assert!(answered(&session, stream).unwrap().contains("-31503"));
}

#[test]
fn a_list_is_answered_when_all_servers_have_or_have_failed() {
    let mut session = open();
    let (stream, sent) = ask(&mut session, r#"{"id":7,"method":"tools/list"}"#);
    let places: Vec<u16> = sent.iter().map(|(at, _, _)| *at).collect();
    assert_eq!(places, [0, 1]);
    assert!(session.has_part(sent[0].2));
    answer(&mut session, sent[1].2, &tools(&["y"]));
    assert_eq!(answered(&session, stream), None);
    answer(
        &mut session,
        sent[0].2,
        r#""error":{"code":1,"message":"no"}"#,
    );
    assert_eq!(
        answered(&session, stream),
        Some(r#""result":{"tools":[{"name":"b__y"}]}}"#)
    );

    let (stream, sent) = ask(
        &mut session,
        r#"{"id":7,"method":"logging/setLevel","params":{"level":"info"}}"#,
    );
    assert_eq!(sent.len(), 2);
    for (_, text, key) in sent {
        assert!(text.contains(r#""level":"info""#), "{text}");
        answer(&mut session, key, r#""result":{}"#);
    }
    assert_eq!(answered(&session, stream), Some(r#""result":{}}"#));
}

#[test]
fn a_name_that_is_not_known_is_looked_for_before_it_is_refused() {
    let mut session = open();
    let call = r#"{"id":7,"method":"tools/call","params":{"name":"b__y"}}"#;
    let (stream, sent) = ask(&mut session, call);
    assert_eq!(sent.len(), 2, "{sent:?}");
    // Another call waits for the same lists.
    let other = r#"{"id":8,"method":"tools/call","params":{"name":"b__z"}}"#;
    let (nobody, more) = ask(&mut session, other);
    assert_eq!(more.len(), 0);
    answer(&mut session, sent[0].2, &tools(&["x"]));
    let paged = r#""result":{"tools":[{"name":"x"}],"nextCursor":"c"}"#;
    answer(&mut session, sent[1].2, paged);
    let next = of(session.take_dispatches(), "");
    assert!(next[0].1.contains(r#""cursor":"c""#), "{next:?}");
    answer(&mut session, next[0].2, &tools(&["y"]));
    let routed = of(session.take_dispatches(), "");
    assert_eq!(routed[0].0, 1);
    assert_eq!(
        routed[0].1,
        r#"{"id":7,"method":"tools/call","params":{"name":"y"}}"#
    );
    assert!(
        answered(&session, nobody)
            .unwrap()
            .contains("tool_not_found")
    );
    let link = r#""result":{"content":[{"type":"resource_link","uri":"a:b"}]}"#;
    answer(&mut session, routed[0].2, link);
    assert_eq!(
        answered(&session, stream).unwrap(),
        format!("{}}}", link.replace("a:b", "b+a:b"))
    );
}

#[test]
fn names_that_cannot_be_read_are_refused_once_and_looked_for_again() {
    let mut session = open();
    let call = r#"{"id":7,"method":"prompts/get","params":{"name":"a__p"}}"#;
    for _ in 0..2 {
        let (stream, sent) = ask(&mut session, call);
        assert_eq!(sent.len(), 2);
        let refusal = Refusal::new(Reason::Timeout, "late");
        for (_, _, key) in sent {
            session.handle_failed(NOW, key, &refusal, &mut Vec::new());
        }
        assert!(
            answered(&session, stream)
                .unwrap()
                .contains("prompt_not_found")
        );
        assert!(!session.has_dispatches());
    }
}

#[test]
fn a_list_that_the_client_takes_back_is_not_answered() {
    let mut session = open();
    let (stream, sent) = ask(&mut session, r#"{"id":7,"method":"tools/list"}"#);
    let cancel = r#"{"method":"notifications/cancelled","params":{"requestId":7}}"#;
    let message = Message::read(cancel).unwrap();
    session
        .from_client(NOW, &message, StreamId::SESSION, &mut Vec::new())
        .unwrap();
    for (_, _, key) in sent {
        answer(&mut session, key, &tools(&[]));
    }
    assert_eq!(answered(&session, stream), None);
    assert_eq!(session.open_requests(), 0);
}
