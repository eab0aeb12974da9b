//! Tests of the cache: one fetch for all, old copies, the least recently used goes.
#![allow(clippy::unwrap_used, clippy::panic)]

use super::*;
use crate::need::HttpAnswer;
use crate::permits::Anything;
use crate::store::Kind;
use proptest::prelude::*;
use serde_json::json;

fn at(seconds: u64) -> Instant {
    Instant::ZERO + Duration::from_secs(seconds)
}

fn wall() -> WallClock {
    WallClock::new(Instant::ZERO, Duration::from_secs(1_700_000_000))
}

fn registry(limits: Limits) -> Registry {
    let mut registry = Registry::new(limits);
    let resources = json!([
        {"uri": "web://a", "name": "a", "kind": "http", "url": "https://a/", "ttl": 10},
        {"uri_template": "web://t/{id}", "name": "t", "kind": "http", "url": "https://a/{{ args.id }}"},
    ]);
    registry
        .create(Kind::Resource, resources.to_string().as_bytes(), &Anything)
        .unwrap();
    registry
}

fn answer(status: u16, etag: Option<&str>, body: &[u8]) -> Outcome {
    Outcome::Http(HttpAnswer {
        status,
        content_type: None,
        etag: etag.map(str::to_owned),
        body: body.to_vec(),
    })
}

impl Registry {
    fn begin(&mut self, now: Instant, uri: &str, reader: u64) -> (FetchId, Need) {
        match self.read(now, &wall(), uri, ReaderId(reader)) {
            Reading::Begin(id, need) => (id, need),
            other => panic!("{other:?}"),
        }
    }

    fn ready(&mut self, now: Instant, uri: &str) -> Contents {
        match self.read(now, &wall(), uri, ReaderId(0)) {
            Reading::Ready(Ok(contents)) => contents,
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn one_fetch_serves_all_that_wait() {
    let mut registry = registry(Limits::default());
    let (id, _) = registry.begin(at(0), "web://a", 1);
    for reader in 2..5 {
        let waits = registry.read(at(1), &wall(), "web://a", ReaderId(reader));
        assert!(matches!(waits, Reading::Wait(other) if other == id));
    }
    assert_eq!(registry.leave(ReaderId(3)), None);
    let fetched = registry.fetched(at(2), &wall(), id, answer(200, None, b"text"));
    let ready: Vec<(u64, bool)> = fetched
        .ready
        .into_iter()
        .map(|(reader, end)| (reader.0, end.unwrap().cached))
        .collect();
    assert_eq!(ready, [(1, false), (2, true), (4, true)]);
    assert!(registry.ready(at(11), "web://a").cached);
    let (id, _) = registry.begin(at(12), "web://a", 1);
    assert_eq!(registry.leave(ReaderId(1)), Some(id));
    let late = registry.fetched(at(12), &wall(), id, answer(200, None, b"late"));
    assert!(late.ready.is_empty());
}

#[test]
fn an_old_copy_is_confirmed_or_shown_for_a_minute() {
    let mut registry = registry(Limits::default());
    let (id, need) = registry.begin(at(0), "web://a", 1);
    assert!(matches!(need, Need::Http(http) if http.headers.is_empty()));
    registry.fetched(at(0), &wall(), id, answer(200, Some("\"v1\""), b"one"));
    let (id, need) = registry.begin(at(10), "web://a", 1);
    let Need::Http(http) = need else { panic!() };
    assert_eq!(
        http.headers,
        [("If-None-Match".into(), "\"v1\"".to_owned())]
    );
    let fetched = registry.fetched(at(10), &wall(), id, answer(304, None, b""));
    let (_, end) = fetched.ready.first().unwrap();
    let end = end.as_ref().unwrap();
    assert_eq!(
        (end.body.len(), &*end.etag, end.stale),
        (3, "\"v1\"", false)
    );
    // The origin fails: the copy is shown for 60 s more.
    for (now, outcome, stale) in [
        (20, answer(500, None, b""), true),
        (40, Outcome::Failed("no connection".into()), true),
        (79, Outcome::TimedOut, true),
        (80, answer(500, None, b""), false),
    ] {
        let (id, _) = registry.begin(at(now), "web://a", 1);
        let fetched = registry.fetched(at(now), &wall(), id, outcome);
        let (_, end) = fetched.ready.into_iter().next().unwrap();
        assert_eq!(
            end.as_ref().is_ok_and(|it| it.stale && it.cached),
            stale,
            "{now}"
        );
        assert!(stale || end.unwrap_err().status == 502);
    }
    let reader = crate::SubscriberId(1);
    registry.subscribe(at(85), "web://a", reader).unwrap();
    let (id, _) = registry.begin(at(90), "web://a", 1);
    registry.fetched(at(90), &wall(), id, answer(200, Some("\"v2\""), b"two"));
    let told = registry.news(reader).updated;
    assert_eq!(
        told.first().map(|it| it.event()),
        Some(r#"{"uri":"web://a","etag":"\"v2\""}"#.to_owned())
    );
}

#[test]
fn a_fetch_has_a_deadline_and_a_definition_that_changes_keeps_no_copy() {
    let mut registry = registry(Limits::default());
    registry.begin(at(0), "web://a", 1);
    assert_eq!(registry.poll_fetch_timeout(), Some(at(30)));
    let late = registry.handle_fetch_timeout(at(30), &wall());
    assert_eq!(late.end.len(), 1);
    let (_, end) = late.ready.into_iter().next().unwrap();
    assert_eq!(end.unwrap_err().status, 504);
    let (id, _) = registry.begin(at(31), "web://a", 1);
    let new = json!({"name": "a", "kind": "http", "url": "https://b/"}).to_string();
    registry
        .replace(Kind::Resource, "web://a", new.as_bytes(), &Anything)
        .unwrap();
    let fetched = registry.fetched(at(31), &wall(), id, answer(200, None, b"old"));
    assert!(fetched.ready.first().unwrap().1.is_ok());
    let (id, need) = registry.begin(at(31), "web://a", 1);
    assert!(matches!(need, Need::Http(http) if http.url == "https://b/"));
    let large = answer(200, None, &vec![b'x'; Limits::default().resource_bytes + 1]);
    let fetched = registry.fetched(at(31), &wall(), id, large);
    assert_eq!(
        fetched
            .ready
            .into_iter()
            .next()
            .unwrap()
            .1
            .unwrap_err()
            .status,
        502
    );
    registry.delete(Kind::Resource, "web://a", false).unwrap();
    let gone = registry.read(at(32), &wall(), "web://a", ReaderId(1));
    assert!(matches!(gone, Reading::Ready(Err(failure)) if failure.status == 404));
}

proptest! {
    #[test]
    fn the_cache_holds_its_bound_and_drops_the_least_recently_used(reads in prop::collection::vec((0_u8..12, 1_usize..900), 1..80)) {
        let limits = Limits { cache_bytes: 6000, ..Limits::default() };
        let mut registry = registry(limits);
        let mut used: Vec<(u8, usize)> = Vec::new();
        for (id, bytes) in reads {
            let uri = format!("web://t/{id}");
            let known = used.iter().position(|(it, _)| *it == id);
            match registry.read(at(0), &wall(), &uri, ReaderId(0)) {
                Reading::Ready(Ok(contents)) => {
                    let it = used.remove(known.unwrap());
                    prop_assert_eq!(contents.body.len(), it.1);
                    used.push(it);
                }
                Reading::Begin(fetch, _) => {
                    prop_assert!(known.is_none());
                    registry.fetched(at(0), &wall(), fetch, answer(200, None, &vec![b'x'; bytes]));
                    used.push((id, bytes));
                    while used.iter().map(|(_, bytes)| bytes + ENTRY).sum::<usize>() > 6000 {
                        used.remove(0);
                    }
                }
                other => panic!("{other:?}"),
            }
            let (count, bytes) = registry.cache.size();
            prop_assert_eq!(count, used.len());
            prop_assert_eq!(bytes, used.iter().map(|(_, bytes)| bytes + ENTRY).sum::<usize>());
        }
    }
}

#[test]
fn subscribers_are_told_of_what_is_another_than_before() {
    use crate::registry::{News, SubscriberId, Touched, Updated};
    let mut registry = Registry::new(Limits::default());
    let file = json!([
        {"uri": "file://a", "name": "a", "kind": "file", "path": "/srv/a"},
        {"uri": "web://a", "name": "a", "kind": "http", "url": "https://a/"},
    ]);
    registry
        .create(Kind::Resource, file.to_string().as_bytes(), &Anything)
        .unwrap();
    assert!(
        registry
            .subscribe(at(0), "none://a", SubscriberId(1))
            .is_err()
    );
    for subscriber in [1, 2, 1] {
        registry
            .subscribe(at(0), "file://a", SubscriberId(subscriber))
            .unwrap();
    }
    registry
        .subscribe(at(0), "web://a", SubscriberId(1))
        .unwrap();
    assert_eq!(registry.poll_look(), Some(at(0)));
    assert_eq!(registry.looks(at(0)), ["file://a".into()]);
    assert!(registry.looks(at(1)).is_empty());
    assert_eq!(registry.looks(at(2)), ["file://a".into()]);
    let (file, web): (Arc<str>, Arc<str>) = ("file://a".into(), "web://a".into());
    registry.looked(&file, &"\"1\"".into());
    registry.looked(&file, &"\"1\"".into());
    assert!(registry.fresh().is_empty());
    registry.looked(&file, &"\"2\"".into());
    assert_eq!(
        registry.fresh(),
        [SubscriberId(1), SubscriberId(2)].into_iter().collect()
    );
    let told = registry.news(SubscriberId(2)).updated;
    let told: Vec<String> = told.iter().map(Updated::event).collect();
    assert_eq!(told, [r#"{"uri":"file://a","etag":"\"2\""}"#]);
    assert_eq!(registry.news(SubscriberId(2)), News::default());
    // What was told of is not told of twice, though it changes twice.
    let (key, _) = registry.find(Kind::Resource, &web).unwrap();
    registry.announce(std::slice::from_ref(&key));
    registry.announce(&[key]);
    let told = registry.news(SubscriberId(1)).updated;
    let told: Vec<String> = told.iter().map(Updated::event).collect();
    assert_eq!(
        told,
        [
            r#"{"uri":"file://a","etag":"\"2\""}"#,
            r#"{"uri":"web://a","etag":null}"#
        ]
    );
    // Only those who listen hear of lists.
    assert_eq!(registry.news(SubscriberId(1)).lists, Touched::default());
    registry.unsubscribe("file://a", SubscriberId(2));
    registry.unsubscribe_all(SubscriberId(1));
    assert_eq!(
        (registry.subscriptions.count(), registry.poll_look()),
        (0, None)
    );
    // A look reads anew what is kept.
    let Reading::Begin(id, _) = registry.read(at(0), &wall(), "file://a", ReaderId(1)) else {
        panic!()
    };
    registry.fetched(at(0), &wall(), id, Outcome::File(b"x".to_vec()));
    assert!(registry.ready(at(1), "file://a").cached);
    let anew = registry.read_anew(at(1), &wall(), "file://a", ReaderId(1));
    assert!(matches!(anew, Reading::Begin(..)));
}
