//! `GET /events/ID`: what a session of any transport tells, what becomes of it, and how a cut stream goes on.

use super::client::{Client, Event, Events, KEY, OTHER, assert_refused, call, start_one};
use crate::program::Program;
use serde_json::{Value, json};

/// Reads the events of a session, behind one of them where that is given.
fn events(client: &Client<'_>, query: &str, last_event: Option<&str>) -> Events {
    let mut reader = client.clone();
    let id = reader.session.take().unwrap();
    reader.path = format!("/events/{id}{query}");
    reader.listen(last_event)
}

fn next(events: &mut Events, name: &str) -> Event {
    let (of, event) = events.named().unwrap();
    assert_eq!(of, name, "{event:?}");
    event
}

fn closed(events: &mut Events, reason: &str) {
    assert_eq!(next(events, "closed").json()["reason"], reason);
    assert_eq!(events.named(), None);
}

fn changed(client: &Client<'_>) {
    client.text("change", &json!({ "text": "x" }));
}

fn open(program: &Program) -> (Client<'_>, Events) {
    let client = Client::open(program);
    let mut events = events(&client, "", None);
    let connected = next(&mut events, "connected").json();
    assert_eq!(connected["session_id"], *client.session.as_ref().unwrap());
    assert_eq!(connected["server"], "suite");
    assert!(connected["timestamp"].as_str().unwrap().ends_with('Z'), "{connected}");
    (client, events)
}

#[test]
fn a_session_tells_its_messages_and_its_end() {
    let program = start_one("");
    let (client, mut listening) = open(&program);
    changed(&client);
    let message = next(&mut listening, "message");
    assert_eq!(message.json()["method"], "notifications/tools/list_changed");
    assert!(!message.id.is_empty());
    client.delete();
    closed(&mut listening, "deleted");
    let gone = events(&client, "", None).refusal();
    assert_refused(&gone, 404, -31404, "session_not_found");
}

#[test]
fn a_cut_stream_goes_on_behind_the_event_that_is_named() {
    let program = start_one("");
    let (client, mut listening) = open(&program);
    changed(&client);
    changed(&client);
    let first = next(&mut listening, "message");
    let second = next(&mut listening, "message");
    drop(listening);
    changed(&client);
    // The header is newer than the address, which is that of the first time.
    let query = format!("?last_event_id={}", first.id);
    let mut listening = events(&client, &query, Some(&second.id));
    next(&mut listening, "connected");
    let third = next(&mut listening, "message");
    assert_ne!(third.id, second.id);
    let mut again = events(&client, &query, None);
    next(&mut again, "connected");
    assert_eq!(next(&mut again, "message"), second);
    assert_eq!(next(&mut again, "message"), third);
    closed(&mut listening, "replaced");
    let gone = events(&client, "?last_event_id=0-99999", None).refusal();
    assert_refused(&gone, 400, -32600, "event_gone");
}

#[test]
fn whoever_reads_a_session_last_reads_it_alone() {
    let program = start_one("");
    let (client, mut older) = open(&program);
    let mut newer = client.listen(None);
    closed(&mut older, "replaced");
    changed(&client);
    assert_eq!(newer.message().unwrap()["method"], "notifications/tools/list_changed");
    // With its key in the path, as a page's EventSource has it.
    let mut page = client.clone();
    page.key = "none";
    let id = page.session.take().unwrap();
    page.path = format!("/k/{KEY}/events/{id}");
    let mut newest = page.listen(None);
    next(&mut newest, "connected");
    assert_eq!(newer.message(), None);
    // Another key's session is nobody's.
    page.key = OTHER;
    page.path = format!("/events/{id}");
    assert_refused(&page.listen(None).refusal(), 404, -31404, "session_not_found");
}

#[test]
fn a_heartbeat_comes_while_nothing_else_does() {
    let program = start_one("gateway: { timeouts: { heartbeat: 100ms } }\n");
    let (client, mut listening) = open(&program);
    for _ in 0..2 {
        let heartbeat = next(&mut listening, "heartbeat").json();
        assert!(heartbeat["timestamp"].is_string(), "{heartbeat}");
    }
    let answer: Value = client.post(&call(1, "echo", &json!({ "text": "x" }))).json();
    assert_eq!(answer["id"], 1, "requests go on beside it");
}
