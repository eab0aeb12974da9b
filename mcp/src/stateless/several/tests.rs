//! Tests of requests for several servers under one address, and of what their parts become.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

use super::*;
use crate::config::{Prefix, Server};
use core::time::Duration;

const NOW: Instant = Instant::ZERO;

fn catalogue() -> Catalogue {
    let servers = [Server::named("a"), Server::named("b")];
    let servers: Vec<&Server> = servers.iter().collect();
    Catalogue::of_all(Prefix::Auto, &servers)
}

fn several(method: &str, params: &str) -> Several {
    let text = format!(
        r#"{{"jsonrpc":"2.0","id":"c","method":"{method}","params":{{{params}"_meta":{{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{{}},"progressToken":5}}}}}}"#
    );
    let Ok(Message::Request { id, call }) = Message::read(&text) else {
        panic!("{text}")
    };
    let wanted = Wanted::read_part(id, &call).unwrap();
    Several::new(NOW, &wanted, &text, catalogue())
}

/// The parts that are to be begun: the server, the method, and the parameters without `_meta`.
fn parts(several: &mut Several) -> Vec<(PartId, usize, String)> {
    let parts = several.take_parts().into_iter();
    let parts = parts.map(|part| {
        let Ok(Message::Request { call, .. }) = Message::read(&part.text) else {
            panic!("{}", part.text)
        };
        let params = super::super::params(
            call.params,
            &[],
            &[super::super::VERSION, super::super::CAPABILITIES],
            None,
        );
        (part.id, part.at, format!("{} {params}", call.method))
    });
    parts.collect()
}

fn ended(several: &mut Several, part: PartId, outcome: &str) {
    let step = Step {
        ending: Some(Ending::Answer {
            status: 200,
            text: format!(r#"{{"jsonrpc":"2.0","id":"c",{outcome}}}"#),
            retry_after: None,
        }),
        ..Step::default()
    };
    several.handle_step(NOW, part, step);
}

fn told(several: &mut Several, part: PartId, message: &str) {
    let step = Step {
        messages: [message.into()].into(),
        ..Step::default()
    };
    several.handle_step(NOW, part, step);
}

const HAS: &str = r#""result":{"capabilities":{"tools":{},"resources":{"subscribe":true}},"resultType":"complete"}"#;

const FAILED: &str = r#""error":{"code":-31503,"message":"down"}"#;

/// Greets each server by these outcomes.
fn greeted(several: &mut Several, outcomes: &[&str]) {
    let parts = parts(several);
    assert_eq!(parts.len(), outcomes.len());
    for ((part, _, what), outcome) in parts.iter().zip(outcomes) {
        assert_eq!(what, "server/discover {}");
        ended(several, *part, outcome);
    }
}

fn answer(several: &mut Several) -> (u16, String) {
    match several.take(NOW).ending {
        Some(Ending::Answer { status, text, .. }) => (status, text),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_name_is_looked_up_at_the_server_that_may_have_it_and_asked_there() {
    let mut several = several("tools/call", r#""name":"b__x","#);
    greeted(&mut several, &[HAS]);
    let list = parts(&mut several);
    assert_eq!((list[0].1, &*list[0].2), (1, "tools/list {}"));
    ended(
        &mut several,
        list[0].0,
        r#""result":{"tools":[{"name":"y"}],"nextCursor":"2"}"#,
    );
    let next = parts(&mut several);
    assert_eq!(&*next[0].2, r#"tools/list {"cursor":"2"}"#);
    ended(
        &mut several,
        next[0].0,
        r#""result":{"tools":[{"name":"x"}]}"#,
    );
    let call = parts(&mut several);
    assert_eq!(
        (call[0].1, &*call[0].2),
        (1, r#"tools/call {"name":"x","_meta":{"progressToken":5}}"#)
    );
    let progress =
        r#"{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":5}}"#;
    told(&mut several, call[0].0, progress);
    let step = several.take(NOW);
    assert_eq!(
        (step.messages, step.ending),
        ([progress.into()].into(), None)
    );
    ended(
        &mut several,
        call[0].0,
        r#""result":{"content":[{"type":"resource_link","uri":"x:y"}],"resultType":"complete"}"#,
    );
    let (status, text) = answer(&mut several);
    assert_eq!(status, 200);
    assert!(text.contains(r#""uri":"b+x:y""#), "{text}");
}

#[test]
fn a_name_that_no_server_has_is_refused_and_asked_of_nobody() {
    let mut stray = several("tools/call", r#""name":"x","#);
    assert!(parts(&mut stray).is_empty());
    let (status, text) = answer(&mut stray);
    assert!(status == 200 && text.contains("tool_not_found"), "{text}");
    let mut unknown = several("tools/call", r#""name":"a__x","#);
    greeted(&mut unknown, &[HAS]);
    let list = parts(&mut unknown);
    // It cannot be read, which is no reason to read it for ever.
    ended(&mut unknown, list[0].0, FAILED);
    assert!(parts(&mut unknown).is_empty());
    assert!(answer(&mut unknown).1.contains("tool_not_found"));
}

#[test]
fn lists_are_joined_and_the_least_time_counts() {
    let mut list = several("tools/list", "");
    greeted(&mut list, &[HAS, HAS]);
    let pages = parts(&mut list);
    ended(
        &mut list,
        pages[1].0,
        r#""result":{"resultType":"complete","tools":[{"name":"y"}],"ttlMs":70,"cacheScope":"public"}"#,
    );
    assert_eq!(list.take(NOW).ending, None);
    ended(
        &mut list,
        pages[0].0,
        r#""result":{"resultType":"complete","tools":[{"name":"x"}],"ttlMs":500,"cacheScope":"private"}"#,
    );
    let (_, text) = answer(&mut list);
    assert!(
        text.contains(
            r#""tools":[{"name":"a__x"},{"name":"b__y"}],"ttlMs":70,"cacheScope":"private""#
        ),
        "{text}"
    );
    let mut list = several("tools/list", "");
    greeted(&mut list, &[FAILED, FAILED]);
    assert!(answer(&mut list).1.contains("down"));
}

#[test]
fn a_listener_hears_one_acknowledgement_first_and_then_all_servers() {
    let wanted =
        r#""notifications":{"toolsListChanged":true,"resourceSubscriptions":["b+x:y","z"]},"#;
    let mut listen = several("subscriptions/listen", wanted);
    greeted(&mut listen, &[HAS, HAS]);
    let listening = parts(&mut listen);
    assert_eq!(
        listening[1].2,
        r#"subscriptions/listen {"notifications":{"toolsListChanged":true,"resourceSubscriptions":["x:y"]}}"#
    );
    let acknowledged = r#"{"jsonrpc":"2.0","method":"notifications/subscriptions/acknowledged","params":{"notifications":{"resourceSubscriptions":["x:y"]}}}"#;
    told(&mut listen, listening[1].0, acknowledged);
    let updated =
        r#"{"jsonrpc":"2.0","method":"notifications/resources/updated","params":{"uri":"x:y"}}"#;
    told(&mut listen, listening[1].0, updated);
    assert!(
        listen.take(NOW).messages.is_empty(),
        "the other one has said nothing yet"
    );
    // That one is gone, and comes back.
    ended(&mut listen, listening[0].0, FAILED);
    let heard = listen.take(NOW);
    assert_eq!(heard.messages.len(), 2, "{heard:?}");
    assert!(heard.messages[0].contains(
        r#""notifications":{"toolsListChanged":true,"resourceSubscriptions":["b+x:y"]}"#
    ));
    assert!(heard.messages[1].contains(r#""uri":"b+x:y""#));
    let later = heard.until.unwrap();
    assert!(later > NOW && parts(&mut listen).is_empty());
    listen.take(later);
    greeted(&mut listen, &[HAS]);
    let again = parts(&mut listen);
    assert_eq!(again[0].1, 0);
    told(&mut listen, again[0].0, acknowledged);
    let heard = listen.take(later).messages;
    assert_eq!(heard.len(), 1, "{heard:?}");
    assert!(
        heard[0].contains("notifications/tools/list_changed"),
        "{heard:?}"
    );
    assert_eq!(listen.take(later + Duration::from_secs(60)).until, None);
    ended(&mut listen, again[0].0, r#""result":{}"#);
    assert!(answer(&mut listen).1.contains("subscriptionId"));
}
