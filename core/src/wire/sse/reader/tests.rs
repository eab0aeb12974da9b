//! Streams by hand, from the standard's own examples, and by chance.
#![allow(clippy::unwrap_used)]

use super::super::{write_comment, write_event, write_retry};
use super::*;
use crate::wire::split;
use alloc::borrow::ToOwned;
use alloc::format;
use proptest::prelude::*;

/// Events that a reader makes of the pieces: `name|data|id` of each event.
fn read(limit: usize, pieces: &[&[u8]]) -> Vec<String> {
    let mut reader = Reader::new(limit);
    let mut out = Vec::new();
    for piece in pieces {
        reader.push(piece, |piece| {
            out.push(match piece {
                Piece::Event(event) => format!("{}|{}|{}", event.name, event.data, event.id),
                Piece::Retry(time) => format!("retry {}", time.as_millis()),
                Piece::TooLong(fault) => format!("{fault}"),
            });
        });
    }
    out
}

#[test]
fn streams_are_read_as_the_standard_says() {
    for (stream, events) in [
        // The examples of WHATWG HTML, 9.2.6.
        (
            "data: YHOO\ndata: +2\ndata: 10\n\n",
            &["message|YHOO\n+2\n10|"][..],
        ),
        (
            ": test stream\n\ndata: first event\nid: 1\n\ndata:second event\nid\n\ndata:  third event",
            &["message|first event|1", "message|second event|"],
        ),
        ("data\n\ndata\ndata\n\ndata:", &["message||", "message|\n|"]),
        (
            "data:test\n\ndata: test\n\n",
            &["message|test|", "message|test|"],
        ),
        (
            "event: add\ndata: 73857293\n\nevent: remove\ndata: 2153\n\nevent: add\ndata: 113411\n\n",
            &["add|73857293|", "remove|2153|", "add|113411|"],
        ),
        // Every kind of line end, also in one stream.
        (
            "data: a\r\ndata: b\rdata: c\n\r\ndata: d\r\rdata: e\r\n\r\n",
            &["message|a\nb\nc|", "message|d|", "message|e|"],
        ),
        // One byte order mark, and nothing but the first.
        ("\u{feff}data: a\n\n\u{feff}data: b\n\n", &["message|a|"]),
        ("\u{feff}\u{feff}data: a\n\n", &[]),
        // An event without data is none; its id counts, its type does not.
        ("id: 4\nevent: ping\n\ndata: a\n\n", &["message|a|4"]),
        // An id with a NUL is none, an empty one takes the id away.
        (
            "id: 1\ndata: a\n\nid: 2\0\ndata: b\n\nid:\ndata: c\n\n",
            &["message|a|1", "message|b|1", "message|c|"],
        ),
        // An id counts once its event has ended.
        ("id: 1\n\nid: 2\ndata: a\n", &[]),
        // The last of several types counts, an empty one is the usual one.
        (
            "event: a\nevent: b\ndata: x\n\nevent: a\nevent\ndata: y\n\n",
            &["b|x|", "message|y|"],
        ),
        // `retry` is digits alone.
        (
            "retry: 10\nretry: +1\nretry\nretry: 1 \nretry: 99999999999999999999\n",
            &["retry 10", "retry 18446744073709551615"],
        ),
        // Unknown fields, fields with another case or a blank, and comments are passed over.
        ("Data: a\n data: b\ndata : c\nfoo: d\n:data: e\n\n:\n", &[]),
        // What is not UTF-8 is replaced; a blank and a colon of the value stay.
        ("data:  a: b \n\n", &["message| a: b |"]),
    ] {
        assert_eq!(read(1000, &[stream.as_bytes()]), events, "{stream:?}");
        let bytes: Vec<&[u8]> = stream.as_bytes().chunks(1).collect();
        assert_eq!(read(1000, &bytes), events, "{stream:?}");
    }
    assert_eq!(
        read(1000, &[b"data: \xffa\xe2\x82\n\n"]),
        ["message|\u{fffd}a\u{fffd}|"]
    );
}

#[test]
fn an_event_over_the_limit_is_told_once_and_the_next_is_whole() {
    let told = "an event of the stream is longer than 12 bytes";
    for (stream, pieces) in [
        ("data: 123456\n\n", &["message|123456|"][..]),
        ("data: 1234567\nid: 1\n\ndata: a\n\n", &[told, "message|a|"]),
        (
            "id: 1\nevent: a\ndata: b\n\nid: 2\ndata: a\n\n",
            &[told, "message|a|2"],
        ),
        // Comments are as long as a line may be, and as many as they like.
        (
            ": 34567890\n: 34567890\n: 34567890\ndata: a\n\n",
            &["message|a|"],
        ),
        ("data: a\n: 345\n: 345\n\n", &["message|a|"]),
        (": 345678901234567890", &[told]),
        (
            ": 345678901234567890\n\n\ndata: a\n\n",
            &[told, "message|a|"],
        ),
    ] {
        assert_eq!(read(12, &[stream.as_bytes()]), pieces, "{stream:?}");
    }
}

#[test]
fn data_that_lies_in_one_line_is_borrowed() {
    let stream = b"data: \"one line\"\n\n";
    let mut reader = Reader::new(100);
    let mut places = Vec::new();
    reader.push(stream, |piece| {
        if let Piece::Event(event) = piece {
            places.push(event.data.as_ptr());
        }
    });
    assert_eq!(places, [stream.as_ptr().wrapping_add(6)]);
    assert_eq!(reader.last_id(), "");
}

fn text() -> impl Strategy<Value = String> {
    "[a: \u{e4}\u{feff}{}\\n]{0,12}"
}

proptest! {
    #[test]
    fn what_is_written_is_read_back_however_it_is_split(
        events in proptest::collection::vec(("[a-z :]{0,4}", text(), "[0-9 :]{0,3}", any::<u16>(), 0..3_u8), 0..8),
        cuts in proptest::collection::vec(0..400_usize, 0..12),
    ) {
        let mut stream = Vec::new();
        let mut expected = Vec::new();
        let mut last = String::new();
        for (name, data, id, number, beside) in events {
            match beside {
                0 => write_comment(&mut stream, &data),
                1 => {
                    write_retry(&mut stream, Duration::from_millis(number.into()));
                    expected.push(format!("retry {number}"));
                }
                _ => {}
            }
            let event = Event { name: name.as_str().into(), data: data.as_str().into(), id: id.as_str().into() };
            write_event(&mut stream, &event).unwrap();
            if !id.is_empty() {
                last = id;
            }
            let name = if name.is_empty() { "message".to_owned() } else { name };
            expected.push(format!("{name}|{data}|{last}"));
        }
        prop_assert_eq!(read(1000, &[&stream]), expected.clone());
        prop_assert_eq!(read(1000, &split(&stream, &cuts)), expected);
    }

    #[test]
    fn any_split_of_any_bytes_gives_the_same(
        stream in "[:\r\n ]|data|id|event|retry|[\u{feff}\0a1]{0,3}|([:\r\n ]|data: ?|id: ?|event: ?|retry: ?|[\u{feff}\0a1]){0,40}",
        cuts in proptest::collection::vec(0..120_usize, 0..10),
        limit in 0..40_usize,
    ) {
        let whole = read(limit, &[stream.as_bytes()]);
        prop_assert_eq!(read(limit, &split(stream.as_bytes(), &cuts)), whole);
    }
}
