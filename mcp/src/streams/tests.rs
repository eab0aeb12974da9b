//! Tests of a session's streams: a client that comes back loses and repeats nothing.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use super::*;
use alloc::format;
use alloc::string::ToString;
use core::time::Duration;
use mcp_local_provider_core::budget::Budget;
use mcp_local_provider_core::wire::sse::{Piece, Reader as SseReader};
use proptest::prelude::*;

const NOW: Instant = Instant::ZERO;

fn limits(events: usize, bytes: usize) -> Resume {
    Resume {
        events,
        bytes,
        keep: Duration::from_secs(300),
    }
}

/// The texts of events, and the id of the last one.
fn read(bytes: &[u8]) -> (Vec<String>, Option<String>) {
    let (mut reader, mut texts, mut last) = (SseReader::new(1 << 20), Vec::new(), None);
    reader.push(bytes, |piece| {
        if let Piece::Event(event) = piece {
            last = Some(event.id.to_string());
            if !event.data.is_empty() {
                texts.push(event.data.to_string());
            }
        }
    });
    (texts, last)
}

#[test]
fn an_answer_that_is_alone_is_given_without_events() {
    let mut streams = Streams::new(limits(10, 1000), 1000, None);
    let stream = streams.open(1);
    assert_eq!(streams.sole_answer(stream), None);
    streams
        .push(NOW, stream, Weight::Answer, "yes".into())
        .unwrap();
    assert_eq!(streams.sole_answer(stream), Some("yes"));
    let other = streams.open(1);
    streams
        .push(NOW, other, Weight::Light, "soon".into())
        .unwrap();
    streams
        .push(NOW, other, Weight::Answer, "yes".into())
        .unwrap();
    assert_eq!(streams.sole_answer(other), None);
    streams.close(stream);
    let (reader, _) = streams.read(other).unwrap();
    let mut out = Vec::new();
    let waker = Waker::noop();
    assert_eq!(streams.take(other, reader, waker, &mut out), Taken::Ended);
    assert_eq!(
        read(&out),
        (["soon".into(), "yes".into()].to_vec(), Some("2-3".into()))
    );
}

#[test]
fn a_reader_that_was_replaced_gets_nothing_more() {
    let mut streams = Streams::new(limits(10, 1000), 1000, None);
    let (first, _) = streams.read(StreamId::SESSION).unwrap();
    let (second, _) = streams.read(StreamId::SESSION).unwrap();
    streams
        .push(NOW, StreamId::SESSION, Weight::Heavy, "x".into())
        .unwrap();
    let (mut out, waker) = (Vec::new(), Waker::noop());
    let taken = streams.take(StreamId::SESSION, first, waker, &mut out);
    assert_eq!((taken, out.is_empty()), (Taken::Replaced, true));
    // It leaves late, and the other one stays.
    streams.leave(NOW, StreamId::SESSION, first);
    let taken = streams.take(StreamId::SESSION, second, waker, &mut out);
    assert_eq!((taken, out.is_empty()), (Taken::Waiting, false));
}

#[test]
fn what_waits_is_bounded_and_light_messages_go_first() {
    let mut streams = Streams::new(limits(3, 10_000), 20_000, None);
    for (weight, text) in [
        (Weight::Heavy, "a"),
        (Weight::Light, "b"),
        (Weight::Heavy, "c"),
        (Weight::Heavy, "d"),
    ] {
        streams
            .push(NOW, StreamId::SESSION, weight, text.into())
            .unwrap();
    }
    let full = streams.push(NOW, StreamId::SESSION, Weight::Heavy, "e".into());
    assert_eq!(full.err(), Some(Overflow));
    let (reader, _) = streams.read(StreamId::SESSION).unwrap();
    let mut out = Vec::new();
    let _ = streams.take(StreamId::SESSION, reader, Waker::noop(), &mut out);
    assert_eq!(read(&out).0, ["a", "c", "d", "e"]);
    assert!(
        !streams.rewind(Position::parse("0-1").unwrap()),
        "1 and 2 are not kept"
    );
    assert!(streams.rewind(Position::parse("0-3").unwrap()));
}

#[test]
fn a_reader_stays_to_be_woken_when_too_much_waits_for_it() {
    let mut streams = Streams::new(limits(10, 100), 100, None);
    let (reader, _) = streams.read(StreamId::SESSION).unwrap();
    let _ = streams.listen(StreamId::SESSION, reader, Waker::noop());
    let first = streams.push(NOW, StreamId::SESSION, Weight::Heavy, "x".repeat(80));
    assert!(first.is_ok_and(|waker| waker.is_some()));
    let _ = streams.listen(StreamId::SESSION, reader, Waker::noop());
    let full = streams.push(NOW, StreamId::SESSION, Weight::Heavy, "x".repeat(80));
    assert_eq!(full.err(), Some(Overflow));
    assert_eq!(streams.wake_all().len(), 1, "it waits for the end");
}

#[test]
fn one_answer_is_kept_whatever_its_length() {
    let budget = Budget::new(1 << 30);
    let mut streams = Streams::new(limits(10, 1000), 1000, Some(budget.share()));
    let stream = streams.open(1);
    let text = "x".repeat(1 << 20);
    streams.push(NOW, stream, Weight::Answer, text).unwrap();
    assert!(budget.taken() >= 1 << 20);
    let (reader, _) = streams.read(stream).unwrap();
    let mut out = Vec::new();
    let _ = streams.take(stream, reader, Waker::noop(), &mut out);
    assert!(out.len() > 1 << 20);
    assert_eq!(budget.taken(), 0, "it is too long to be kept behind that");
}

#[test]
fn a_stream_that_nobody_comes_back_for_is_forgotten() {
    let mut streams = Streams::new(limits(10, 1000), 1000, None);
    let stream = streams.open(1);
    let (reader, _) = streams.read(stream).unwrap();
    streams.leave(NOW, stream, reader);
    assert_eq!(
        streams.sweep(NOW + Duration::from_secs(1000)),
        None,
        "its answer is to come"
    );
    streams
        .push(NOW, stream, Weight::Answer, "x".into())
        .unwrap();
    let until = NOW + Duration::from_secs(300);
    assert_eq!(streams.sweep(NOW), Some(until));
    assert_eq!(streams.sweep(until), None);
    assert_eq!(streams.len(), 1);
    assert!(!streams.rewind(Position { stream, number: 0 }));
}

#[test]
fn an_event_id_is_read_strictly() {
    for wrong in [
        "",
        "1",
        "1-",
        "-1",
        "1-+1",
        "1-2-3",
        "a-1",
        "1-99999999999999999999999",
    ] {
        assert_eq!(Position::parse(wrong), None, "{wrong}");
    }
}

proptest! {
    /// Streams that are cut at any event, and resumed behind the last one that their client has got.
    #[test]
    fn a_stream_that_is_cut_and_resumed_loses_and_repeats_nothing(
        steps in prop::collection::vec((0_usize..3, 0_u8..6, any::<prop::sample::Index>()), 0..80),
    ) {
        let mut streams = Streams::new(limits(10_000, 1 << 20), 1 << 24, None);
        let ids = [StreamId::SESSION, streams.open(1000), streams.open(1000)];
        let mut sent = [const { Vec::<String>::new() }; 3];
        let mut got = sent.clone();
        let mut place: [Option<String>; 3] = Default::default();
        let mut readers: [Option<Reader>; 3] = [None; 3];
        for (number, (at, step, cut)) in steps.into_iter().enumerate() {
            let (id, waker) = (ids[at], Waker::noop());
            match step {
                0..3 => {
                    let weight = [Weight::Light, Weight::Heavy, Weight::Answer][usize::from(step)];
                    let text = format!("m{number}");
                    sent[at].push(text.clone());
                    prop_assert!(streams.push(NOW, id, weight, text).is_ok());
                }
                3 => {
                    if let Some(reader) = readers[at].take() {
                        streams.leave(NOW, id, reader);
                    }
                }
                _ => {
                    let reader = readers[at].unwrap_or_else(|| {
                        let (reader, _) = streams.read(id).unwrap();
                        reader
                    });
                    if readers[at].replace(reader).is_none() && let Some(place) = &place[at] {
                        prop_assert!(streams.rewind(Position::parse(place).unwrap()));
                    }
                    let mut out = Vec::new();
                    let _ = streams.take(id, reader, waker, &mut out);
                    // The connection is cut: some of it never arrives.
                    let arrived = if step == 5 { cut.index(out.len() + 1) } else { out.len() };
                    let (texts, last) = read(&out[..arrived]);
                    got[at].extend(texts);
                    place[at] = last.or(place[at].take()).or(Some(format!("{}-0", id.0)));
                    if arrived < out.len() {
                        streams.leave(NOW, id, reader);
                        readers[at] = None;
                    }
                }
            }
        }
        for at in 0..3 {
            let (reader, _) = streams.read(ids[at]).unwrap();
            if let Some(place) = &place[at] {
                prop_assert!(streams.rewind(Position::parse(place).unwrap()));
            }
            let mut out = Vec::new();
            let _ = streams.take(ids[at], reader, Waker::noop(), &mut out);
            got[at].extend(read(&out).0);
            prop_assert_eq!(&got[at], &sent[at]);
        }
    }
}
