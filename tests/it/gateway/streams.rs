//! Streams that are cut, gone on with, taken over and gone.

use super::client::{Client, Events, assert_refused, call, request, start_one};
use serde_json::{Value, json};

/// Begins a call that tells so many steps and then waits for `release`.
fn held(client: &Client<'_>, steps: usize) -> Events {
    let params = json!({ "name": "progress", "arguments": { "steps": steps, "hold": true, "text": "done" }, "_meta": { "progressToken": "t" } });
    client.stream(&request("held", "tools/call", &params))
}

#[test]
fn a_stream_that_is_cut_anywhere_loses_and_repeats_nothing() {
    const STEPS: usize = 3;
    let program = start_one("gateway: { rate: { requests: 0 } }\n");
    let client = Client::open(&program);
    // Behind the event that primes the stream, and behind each step.
    for cut in 0..=STEPS {
        let mut events = held(&client, STEPS);
        let primed = events.next().unwrap();
        assert_eq!(primed.data, "", "it can be resumed before its first message");
        let mut got = vec![primed];
        while got.len() <= cut {
            got.push(events.next().unwrap());
        }
        drop(events);
        // The client is away while the answer comes.
        assert_eq!(client.text("release", &json!({})), "released");
        let mut events = client.listen(Some(&got.last().unwrap().id));
        let rest = events.rest();
        got.extend(rest.into_iter().filter(|event| !event.data.is_empty()));
        let messages: Vec<Value> = got[1..].iter().map(|event| event.json()).collect();
        assert_eq!(messages.len(), STEPS + 1, "{messages:?}");
        for (step, progress) in messages[..STEPS].iter().enumerate() {
            assert_eq!(progress["params"]["progress"], step + 1, "cut {cut}");
        }
        assert_eq!(messages[STEPS]["id"], "held");
        assert_eq!(messages[STEPS]["result"]["content"][0]["text"], "done");
        // Once more, from any place.
        let again: Vec<_> = client.listen(Some(&got[1].id)).rest();
        let again: Vec<_> = again.into_iter().filter(|event| !event.data.is_empty()).collect();
        assert_eq!(again, got[2..]);
    }
}

#[test]
fn the_stream_of_a_session_goes_on_where_it_was_cut() {
    let program = start_one("");
    let client = Client::open(&program);
    let mut listening = client.listen(None);
    client.text("change", &json!({ "text": "x" }));
    let mut last = listening.next().unwrap();
    while last.data.is_empty() {
        last = listening.next().unwrap();
    }
    assert_eq!(last.json()["method"], "notifications/tools/list_changed");
    drop(listening);
    // Nobody listens now.
    client.text("change", &json!({ "text": "x" }));
    let mut listening = client.listen(Some(&last.id));
    let missed = listening.message().unwrap();
    assert_eq!(missed["method"], "notifications/tools/list_changed");
    client.text("log", &json!({ "text": "not here" }));
    client.delete();
    assert_eq!(listening.message(), None);
}

#[test]
fn an_event_that_is_gone_is_refused() {
    let program = start_one("gateway: { resume: { events: 4 } }\n");
    let client = Client::open(&program);
    let mut events = held(&client, 2);
    let first = events.next().unwrap();
    // All of these are read, so they make room for each other.
    let mut listening = client.listen(None);
    for _ in 0..6 {
        client.text("change", &json!({ "text": "x" }));
        listening.message().unwrap();
    }
    drop(events);
    for gone in [&*first.id, "99-1", "0-99999", "x", "", "-", "1-18446744073709551616"] {
        let refused = client.listen(Some(gone)).refusal();
        assert_refused(&refused, 400, -32600, "event_gone");
    }
    // The session goes on.
    assert_eq!(client.text("release", &json!({})), "released");
}

#[test]
fn the_older_of_two_listeners_ends() {
    let program = start_one("");
    let client = Client::open(&program);
    let mut older = client.listen(None);
    let mut newer = client.listen(None);
    assert_eq!(older.message(), None, "it is replaced");
    client.text("change", &json!({ "text": "x" }));
    let told = newer.message().unwrap();
    assert_eq!(told["method"], "notifications/tools/list_changed");
    assert_eq!(client.post(&call(1, "echo", &json!({}))).status, 200);
}
