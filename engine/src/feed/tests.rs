#![allow(clippy::unwrap_used, clippy::indexing_slicing)]
//! Tests of the records that readers of the feed get and that slow ones miss.

use super::*;
use mcp_local_provider_core::time::Instant;
use std::sync::atomic::AtomicUsize;
use std::task::Wake;

const ROOMY: usize = 1 << 20;

fn link(link: u64) -> AuditRecord {
    AuditRecord {
        at: Instant::ZERO,
        event: AuditEvent::Link {
            link,
            what: "up",
            key: None,
            dialled: false,
            bridge: None,
        },
    }
}

fn session() -> AuditRecord {
    AuditRecord {
        at: Instant::ZERO,
        event: AuditEvent::Session {
            session: mcp_local_provider_core::id::SessionId::new("s-1").unwrap(),
            agent_id: "agent".into(),
            what: "registered",
            status: "active",
            key: None,
        },
    }
}

/// Numbers of links that the reader gets, and how many records it missed.
fn links(reader: &mut Reader) -> (Vec<u64>, u64) {
    let (mut records, mut missed) = (Vec::new(), 0);
    loop {
        let before = records.len();
        let gone = reader.drain(Waker::noop(), &mut records);
        missed += gone;
        if records.len() == before && gone == 0 {
            break;
        }
    }
    let links = records.iter().map(|numbered| match numbered.record.event {
        AuditEvent::Link { link, .. } => link,
        AuditEvent::Request { .. } | AuditEvent::Session { .. } => 0,
    });
    (links.collect(), missed)
}

#[derive(Default)]
struct Count(AtomicUsize);

impl Wake for Count {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

#[test]
fn each_reader_gets_what_it_wants_in_order_at_its_own_pace() {
    let feed = Feed::new();
    let mut all = feed.reader(Events::ALL, ROOMY, None);
    let mut some = feed.reader(Events::LINKS, ROOMY, None);
    feed.push(vec![link(1), session()]);
    assert_eq!(links(&mut some), (vec![1], 0));
    feed.push(vec![link(2)]);
    assert_eq!(links(&mut all), (vec![1, 0, 2], 0));
    assert_eq!(links(&mut some), (vec![2], 0));
    assert_eq!(links(&mut some), (vec![], 0));
    let mut late = feed.reader(Events::ALL, ROOMY, None);
    assert_eq!(links(&mut late), (vec![], 0));
}

#[test]
fn what_no_reader_wants_is_not_kept() {
    let feed = Feed::new();
    feed.push(vec![link(1)]);
    let reader = feed.reader(Events::SESSIONS, ROOMY, None);
    assert!(feed.begin(&[link(1)]).is_none());
    assert!(feed.begin(&[link(1), session()]).is_some());
    feed.push(vec![link(2), session()]);
    assert_eq!(reader.backlog().records(), 1);
    assert_eq!(feed.state.lock().entries.len(), 1);
    drop(reader);
    assert!(feed.begin(&[session()]).is_none());
}

#[test]
fn a_slow_reader_misses_its_oldest_records_and_is_told_how_many() {
    let feed = Feed::new();
    let each = charge(&link(1).event);
    let mut slow = feed.reader(Events::LINKS, 3 * each, None);
    let mut fast = feed.reader(Events::ALL, ROOMY, None);
    for number in 1..=10 {
        // What it does not want costs it nothing.
        feed.push(vec![link(number), session(), session()]);
    }
    let backlog = slow.backlog();
    assert_eq!(
        (backlog.records(), backlog.bytes(), backlog.missed()),
        (3, 3 * each, 7)
    );
    assert_eq!(links(&mut slow), (vec![8, 9, 10], 7));
    assert_eq!((backlog.records(), backlog.bytes()), (0, 0));
    assert_eq!(links(&mut slow), (vec![], 0));
    let (all, missed) = links(&mut fast);
    assert_eq!((all.len(), missed), (30, 0));
    // One record that is over the budget alone is missed, and no more than that.
    let mut tiny = feed.reader(Events::LINKS, each - 1, None);
    feed.push(vec![link(11)]);
    assert_eq!(links(&mut tiny), (vec![], 1));
}

#[test]
fn the_feed_is_bounded_whatever_its_readers_do() {
    let feed = Feed::new();
    let mut asleep = feed.reader(Events::LINKS, usize::MAX, None);
    let mut awake = feed.reader(Events::ALL, usize::MAX, None);
    let count = u64::try_from(RECORDS).unwrap() + 1000;
    for number in 1..=count {
        feed.push(vec![link(number)]);
        assert_eq!(links(&mut awake), (vec![number], 0));
    }
    assert_eq!(feed.state.lock().entries.len(), RECORDS);
    let (got, missed) = links(&mut asleep);
    assert_eq!((got.len(), missed), (RECORDS, 1000));
    assert_eq!(got.last(), Some(&count));
    let state = feed.state.lock();
    assert_eq!(state.entries.len(), HISTORY);
    let bytes: usize = state.entries.iter().map(|entry| entry.charge).sum();
    assert_eq!(state.bytes, bytes);
}

#[test]
fn a_reader_resumes_after_the_number_that_it_had_last() {
    let feed = Feed::new();
    let mut first = feed.reader(Events::LINKS, ROOMY, None);
    let mut records = Vec::new();
    feed.push((1..=3).map(link).collect());
    first.drain(Waker::noop(), &mut records);
    assert_eq!(
        records.iter().map(|each| each.number).collect::<Vec<_>>(),
        [1, 2, 3]
    );
    feed.push((4..=6).map(link).collect());
    let mut resumed = feed.reader(Events::LINKS, ROOMY, Some(3));
    assert_eq!(links(&mut resumed), (vec![4, 5, 6], 0));
    links(&mut first);
    let kept = u64::try_from(HISTORY).unwrap();
    feed.push((7..=kept + 10).map(link).collect());
    links(&mut first);
    links(&mut resumed);
    let mut too_late = feed.reader(Events::LINKS, ROOMY, Some(3));
    let (got, missed) = links(&mut too_late);
    assert_eq!((got.len(), got[0], missed), (HISTORY, 11, 7));
    // A number of the program before.
    let mut foreign = feed.reader(Events::LINKS, ROOMY, Some(u64::MAX));
    assert_eq!(links(&mut foreign), (vec![], 0));
    feed.push(vec![link(9)]);
    assert_eq!(links(&mut foreign), (vec![9], 0));
}

#[test]
fn a_reader_that_found_nothing_is_woken_once_by_what_it_wants() {
    let feed = Feed::new();
    let mut reader = feed.reader(Events::LINKS, ROOMY, None);
    let count = Arc::new(Count::default());
    let waker = Waker::from(count.clone());
    let mut records = Vec::new();
    assert_eq!(reader.drain(&waker, &mut records), 0);
    let _other = feed.reader(Events::ALL, ROOMY, None);
    feed.push(vec![session()]);
    assert_eq!(count.0.load(Ordering::Relaxed), 0);
    feed.push(vec![link(1)]);
    feed.push(vec![link(2)]);
    assert_eq!(count.0.load(Ordering::Relaxed), 1);
    reader.drain(&waker, &mut records);
    assert_eq!(records.len(), 2);
    feed.push(vec![link(3)]);
    assert_eq!(
        count.0.load(Ordering::Relaxed),
        1,
        "it has not looked again"
    );
}

struct Still;

impl crate::Outside for Still {
    fn now(&self) -> Instant {
        Instant::ZERO
    }

    fn unix(&self) -> Duration {
        Duration::ZERO
    }
}

#[test]
fn records_come_in_the_order_of_the_calls_of_the_hub() {
    const EACH: u64 = 2000;
    let audit = crate::audit::Audit::off();
    let mut reader = audit.feed.reader(Events::LINKS, usize::MAX, None);
    let config = mcp_local_provider_core::config::HubConfig::default();
    let engine = crate::Engine::new(config, [7; 32], Arc::new(Still), audit);
    let calls = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..EACH {
                    engine.hub(|_, _, out| {
                        let call = calls.fetch_add(1, Ordering::Relaxed);
                        out.records.push(link(call));
                    });
                }
            });
        }
    });
    let expected: Vec<u64> = (0..4 * EACH).collect();
    assert_eq!(links(&mut reader), (expected, 0));
}
