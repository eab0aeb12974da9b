#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic
)]
//! The table of requests that programs are known to read differently, and what holds for every split of every byte string.

use super::*;
use crate::time::Instant;
use crate::wire::split;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;
use core::time::Duration;
use proptest::prelude::*;

/// Body limit in these tests.
const LIMIT: u64 = 1000;

/// One result of reading a connection.
#[derive(Debug, PartialEq, Eq)]
enum Seen {
    Request {
        line: String,
        headers: Vec<(String, Vec<u8>)>,
        body: Vec<u8>,
        keep_alive: bool,
    },
    /// The bytes end in a head or body.
    Unfinished,
    Refused(u16, &'static str),
}

/// Time in these tests.
const NOW: Instant = Instant::ZERO;

fn connection(sizes: HeadLimits) -> ServerConnection {
    let limits = ConnectionLimits {
        sizes,
        head: Duration::from_secs(10),
        body: Duration::from_secs(20),
    };
    ServerConnection::new(NOW, limits, false)
}

/// Answers all requests of a connection whose bytes come in `pieces`, as a driver does.
fn serve(pieces: &[&[u8]], sizes: HeadLimits) -> Vec<Seen> {
    let mut connection = connection(sizes);
    let mut pieces = pieces.iter();
    let (mut buffer, mut seen) = (Vec::new(), Vec::new());
    let (mut line, mut headers, mut keep_alive) = (String::new(), Vec::new(), false);
    let mut body = Vec::new();
    loop {
        let mut input = buffer.as_slice();
        let event = connection.handle_read(NOW, &mut input);
        let used = buffer.len() - input.len();
        let mut refused = None;
        match event {
            Event::Request(head) => {
                line = format!(
                    "{} {} {:?} {}",
                    head.method(),
                    head.path_and_query(),
                    head.version(),
                    head.framing().host.unwrap_or("-")
                );
                let all = head.headers().map(|(n, v)| (n.to_string(), v.to_vec()));
                headers = all.collect();
                keep_alive = head.framing().keep_alive;
                refused = connection.read_body(NOW, LIMIT).err();
            }
            Event::Refused(error) | Event::Misframed(error) => refused = Some(error),
            Event::Body(data) => {
                assert!(!data.is_empty());
                body.extend_from_slice(data);
                assert!(body.len() as u64 <= LIMIT);
            }
            Event::End => {
                seen.push(Seen::Request {
                    line: core::mem::take(&mut line),
                    headers: core::mem::take(&mut headers),
                    body: core::mem::take(&mut body),
                    keep_alive,
                });
                let framing = connection.answer(200, Some(0), false);
                let closes = framing.connection == Connection::Close;
                assert!(!(closes && keep_alive), "a connection that is not kept");
                connection.handle_answered(NOW, used < buffer.len());
            }
            Event::More => match pieces.next() {
                Some(piece) => {
                    buffer.drain(..used);
                    buffer.extend_from_slice(piece);
                    continue;
                }
                None => {
                    if matches!(connection.state(), State::Head | State::Body) {
                        seen.push(Seen::Unfinished);
                    }
                    return seen;
                }
            },
            Event::Late | Event::Broken => panic!("time stands still, and nobody leaves"),
        }
        if let Some(error) = refused {
            seen.push(Seen::Refused(error.status, error.message));
            let framing = connection.answer(error.status, Some(0), false);
            assert_ne!(framing.connection, Connection::KeepAlive);
            connection.handle_answered(NOW, true);
            let ends = matches!(connection.state(), State::Lingering | State::Closed);
            assert!(ends, "a request follows {error}");
            return seen;
        }
        buffer.drain(..used);
    }
}

mod connection;
mod response;
mod table;
use table::{
    Expect::{Bodies, Status},
    TABLE, bytes_of,
};

fn bodies(seen: &[Seen]) -> Option<Vec<&str>> {
    seen.iter()
        .map(|seen| match seen {
            Seen::Request { body, .. } => core::str::from_utf8(body).ok(),
            _ => None,
        })
        .collect()
}

#[test]
fn requests_that_could_be_read_in_two_ways_are_refused() {
    assert!(TABLE.len() > 150);
    for (row, expect) in TABLE {
        let seen = serve(&[&bytes_of(row)], HeadLimits::default());
        match expect {
            Bodies(expected) => assert_eq!(
                bodies(&seen).as_deref(),
                Some(*expected),
                "{row:?}: {seen:?}"
            ),
            Status(status) => {
                assert!(
                    matches!(seen.last(), Some(Seen::Refused(s, _)) if s == status),
                    "{row:?}: {seen:?}"
                );
                assert_eq!(
                    seen.len(),
                    1,
                    "{row:?}: something was served before: {seen:?}"
                );
            }
        }
    }
}

#[test]
fn every_cut_of_every_row_of_the_table_reads_the_same() {
    for (row, _) in TABLE {
        let bytes = bytes_of(row);
        let whole = serve(&[&bytes], HeadLimits::default());
        for cut in 1..bytes.len() {
            assert_eq!(
                serve(&split(&bytes, &[cut]), HeadLimits::default()),
                whole,
                "{row:?} cut at {cut}"
            );
        }
        let single: Vec<&[u8]> = bytes.chunks(1).collect();
        assert_eq!(
            serve(&single, HeadLimits::default()),
            whole,
            "{row:?} byte by byte"
        );
    }
}

fn refused(bytes: &[u8]) -> Option<u16> {
    match serve(&[bytes], HeadLimits::default()).last() {
        Some(Seen::Refused(status, _)) => Some(*status),
        _ => None,
    }
}

#[test]
fn limits_refuse_with_the_status_that_names_them_and_let_the_last_byte_pass() {
    let target =
        |n: usize| format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "x".repeat(n - 1)).into_bytes();
    assert_eq!(refused(&target(8192)), None);
    assert_eq!(refused(&target(8193)), Some(414));
    assert_eq!(
        refused("GET /".repeat(4000).as_bytes()),
        Some(400),
        "no line is endless"
    );
    assert_eq!(refused(&[b'x'; 33]), Some(501));

    let head = |n: usize| {
        let start = "GET / HTTP/1.1\r\nHost: a\r\nX: ";
        format!("{start}{}\r\n\r\n", "y".repeat(n - start.len() - 4)).into_bytes()
    };
    assert_eq!(refused(&head(65536)), None);
    assert_eq!(refused(&head(65537)), Some(431));
    assert_eq!(
        refused(&head(65537)[..65537]),
        Some(431),
        "an endless line is refused at the limit"
    );

    let headers = |n: usize| {
        format!(
            "GET / HTTP/1.1\r\nHost: a\r\n{}\r\n",
            "X: y\r\n".repeat(n - 1)
        )
        .into_bytes()
    };
    assert_eq!(refused(&headers(100)), None);
    assert_eq!(refused(&headers(101)), Some(431));

    let chunked = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
    let body = |n: usize| format!("{chunked}{}0\r\n\r\n", "1\r\nx\r\n".repeat(n)).into_bytes();
    assert_eq!(refused(&body(1000)), None);
    assert_eq!(refused(&body(1001)), Some(413));
    assert_eq!(
        refused(format!("{chunked}1;{}", "x".repeat(5000)).as_bytes()),
        Some(400)
    );
    assert_eq!(
        refused(format!("{chunked}{}", "1;xxxx\r\nx\r\n".repeat(900)).as_bytes()),
        Some(400)
    );
    assert_eq!(
        refused(format!("{chunked}0\r\nx: {}", "x".repeat(9000)).as_bytes()),
        Some(431)
    );
    assert_eq!(
        refused(format!("{chunked}0\r\n{}", "x:\r\n".repeat(9000)).as_bytes()),
        Some(431)
    );
}

fn head_of(head: &str) -> (HeadReader, Vec<u8>) {
    (
        HeadReader::new(HeadLimits::default()),
        head.replace('\n', "\r\n").into_bytes(),
    )
}

#[test]
fn a_head_tells_what_the_driver_needs() {
    let (mut reader, bytes) = head_of(
        "POST http://A:1/v1/x?y=z HTTP/1.1\nhost: a:1\nX-Key: one\nx-key: two\nExpect: 100-continue\nContent-Length: 5\n\nhello",
    );
    let head = reader.read(&bytes).unwrap().unwrap();
    assert_eq!(
        (head.method(), head.target(), head.path_and_query()),
        ("POST", "http://A:1/v1/x?y=z", "/v1/x?y=z")
    );
    assert_eq!(&bytes[head.length()..], b"hello");
    assert_eq!(
        (head.header("X-KEY"), head.header_str("none")),
        (Some(b"one".as_slice()), None)
    );
    assert_eq!(head.headers().count(), 5);
    assert_eq!(
        *head.framing(),
        RequestFraming {
            body: BodyLength::Exact(5),
            host: Some("a:1"),
            keep_alive: true,
            expect_continue: true,
            upgrade: false
        }
    );
    assert!(reader.is_idle());
}

#[test]
fn connections_are_kept_as_version_and_header_say() {
    for (version, header, keep_alive, upgrade) in [
        ("1.1", "", true, false),
        ("1.1", "Connection: close\n", false, false),
        ("1.1", "Connection: x , CLOSE\n", false, false),
        (
            "1.1",
            "Connection: keep-alive\nConnection: close\n",
            false,
            false,
        ),
        ("1.1", "Connection: closed\n", true, false),
        (
            "1.1",
            "Connection: keep-alive, Upgrade\nUpgrade: websocket\n",
            true,
            true,
        ),
        ("1.0", "", false, false),
        ("1.0", "Connection: Keep-Alive\n", true, false),
        ("1.0", "Connection: keep-alive, close\n", false, false),
        ("1.0", "Connection: upgrade\n", false, false),
        (
            "1.0",
            "Expect: 100-continue\nContent-Length: 1\n",
            false,
            false,
        ),
        ("1.1", "Expect: 100-continue\n", true, false),
    ] {
        let (mut reader, bytes) = head_of(&format!("GET / HTTP/{version}\nHost: a\n{header}\n"));
        let head = reader.read(&bytes).unwrap().unwrap();
        assert_eq!(
            (head.framing().keep_alive, head.framing().upgrade),
            (keep_alive, upgrade),
            "{version} {header:?}"
        );
        assert!(!head.framing().expect_continue, "{version} {header:?}");
    }
}

#[test]
fn headers_that_a_library_has_parsed_are_held_to_the_same_rules() {
    let check = |headers: &[(&str, &str)]| {
        check_framing(
            headers.iter().map(|(n, v)| (*n, v.as_bytes())),
            Version::Http11,
        )
        .map(|_| ())
        .map_err(|error| error.status)
    };
    assert!(check(&[("host", "a"), ("transfer-encoding", "chunked")]).is_ok());
    assert_eq!(check(&[("transfer-encoding", "chunked")]), Err(400));
    assert_eq!(
        check(&[
            ("host", "a"),
            ("transfer-encoding", "identity"),
            ("transfer-encoding", "chunked")
        ]),
        Err(400)
    );
    assert_eq!(
        check(&[("host", "a"), ("transfer-encoding", "identity, chunked")]),
        Err(501)
    );
    assert_eq!(
        check(&[("host", "a"), ("transfer-encoding", "chunked, chunked")]),
        Err(400)
    );
    assert_eq!(check(&[("host", "a"), ("host", "a")]), Err(400));
    assert_eq!(check(&[("host", "a b")]), Err(400));
}

#[test]
fn heads_of_responses_are_written_as_they_go_on_the_wire() {
    let head = |status, length, connection, headers: &[(&str, &str)]| {
        let mut out = b"before ".to_vec();
        let mut writer = HeadWriter::new(&mut out, status, length, connection, Some(784_111_777));
        for (name, value) in headers {
            writer.header(name, value.as_bytes());
        }
        let result = writer.finish();
        (
            String::from_utf8(out).unwrap(),
            result.map_err(|error| error.name),
        )
    };
    let (text, result) = head(
        200,
        ResponseLength::Chunked,
        Connection::KeepAlive,
        &[("content-type", "text/event-stream")],
    );
    assert_eq!(result, Ok(()));
    assert_eq!(
        text,
        "before HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: keep-alive\r\ntransfer-encoding: chunked\r\n\
         date: Sun, 06 Nov 1994 08:49:37 GMT\r\n\r\n"
    );
    let (text, _) = head(431, ResponseLength::Exact(7), Connection::Close, &[]);
    assert!(
        text.contains("\r\nconnection: close\r\ncontent-length: 7\r\ndate: "),
        "{text}"
    );
    let (text, _) = head(
        101,
        ResponseLength::Absent,
        Connection::Upgrade,
        &[("upgrade", "websocket")],
    );
    assert!(
        text.contains("\r\nupgrade: websocket\r\nconnection: upgrade\r\ndate: "),
        "{text}"
    );
    let (text, _) = head(200, ResponseLength::UntilClose, Connection::Implied, &[]);
    assert!(
        text.starts_with("before HTTP/1.1 200 OK\r\ndate: "),
        "{text}"
    );
    for (name, value) in [
        ("x", "a\r\nset-cookie: b"),
        ("x", "a\0"),
        ("a b", "c"),
        ("", "c"),
        ("a:", "c"),
        ("Content-Length", "1"),
        ("connection", "close"),
    ] {
        let (text, result) = head(
            200,
            ResponseLength::Exact(0),
            Connection::Close,
            &[("ok", "1"), (name, value), ("also", "1")],
        );
        assert_eq!((text.as_str(), result), ("before ", Err(name.to_string())));
    }
    for unknown in [i64::MAX, i64::MIN, 1 << 40] {
        let (length, connection) = (ResponseLength::Exact(0), Connection::Implied);
        let mut out = Vec::new();
        HeadWriter::new(&mut out, 200, length, connection, Some(unknown))
            .finish()
            .unwrap();
        assert_eq!(out, b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
    }
}

#[test]
fn the_length_and_the_connection_of_an_answer_follow_the_version() {
    for (length, version, keep, framed, said) in [
        (
            None,
            Version::Http11,
            true,
            (ResponseLength::Chunked, true),
            Connection::Implied,
        ),
        (
            None,
            Version::Http10,
            true,
            (ResponseLength::UntilClose, false),
            Connection::Implied,
        ),
        (
            Some(3),
            Version::Http10,
            true,
            (ResponseLength::Exact(3), true),
            Connection::KeepAlive,
        ),
        (
            Some(3),
            Version::Http11,
            false,
            (ResponseLength::Exact(3), false),
            Connection::Close,
        ),
    ] {
        assert_eq!(ResponseLength::answer(length, version, keep), framed);
        assert_eq!(Connection::after(version, framed.1), said);
    }
}

/// Reads a whole chunked body.
fn decode(bytes: &[u8]) -> (Vec<u8>, usize) {
    let mut reader = BodyReader::new(BodyLength::Chunked, u64::MAX).unwrap();
    let (mut input, mut body) = (bytes, Vec::new());
    loop {
        match reader.read(&mut input).unwrap() {
            BodyPart::Data(data) => body.extend_from_slice(data),
            BodyPart::Partial => panic!("unfinished"),
            BodyPart::Complete => return (body, input.len()),
        }
    }
}

/// A piece of a connection's bytes that is often right and often nearly so.
fn fragment() -> impl Strategy<Value = Vec<u8>> {
    let text = prop_oneof![
        4 => Just("GET / HTTP/1.1\r\nHost: a\r\n\r\n"),
        4 => Just("POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello"),
        4 => Just("POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"),
        4 => Just("5\r\nhello\r\n"),
        4 => Just("5;a=b\r\nhello\r\n"),
        4 => Just("0\r\n\r\n"),
        2 => Just("0\r\nX: y\r\n\r\n"),
        1 => Just("GET / HTTP/1.0\r\n"),
        1 => Just("Host: a\r\n"),
        1 => Just("\r\n"),
        1 => Just("\n"),
        1 => Just("\r"),
        1 => Just(" "),
        1 => Just("X: y\r\n"),
        1 => Just("Content-Length: 5\r\n"),
    ];
    prop_oneof![
        8 => text.prop_map(|text| text.as_bytes().to_vec()),
        1 => proptest::collection::vec(any::<u8>(), 0..6),
    ]
}

proptest! {
    #[test]
    fn any_split_of_a_connection_reads_the_same(
        fragments in proptest::collection::vec(fragment(), 0..10),
        cuts in proptest::collection::vec(0usize..400, 0..12),
        limits in (20usize..300, 4usize..30).prop_map(|(head, target)| HeadLimits { head, target }),
    ) {
        let bytes = fragments.concat();
        for limits in [limits, HeadLimits::default()] {
            prop_assert_eq!(serve(&split(&bytes, &cuts), limits), serve(&[&bytes], limits));
        }
    }

    #[test]
    fn bytes_of_any_kind_are_survived(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        serve(&[&bytes], HeadLimits::default());
        let mut chunks = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
        chunks.extend_from_slice(&bytes);
        serve(&[&chunks], HeadLimits::default());
    }

    #[test]
    fn a_right_request_with_one_byte_changed_is_survived_and_read_the_same_in_pieces(
        at in any::<prop::sample::Index>(),
        byte in any::<u8>(),
        cut in any::<prop::sample::Index>(),
    ) {
        let mut bytes = b"POST /a?b HTTP/1.1\r\nHost: a:1\r\nTransfer-Encoding: chunked\r\nExpect: 100-continue\r\n\r\n3;x\r\nabc\r\n0\r\nX: y\r\n\r\n".to_vec();
        let at = at.index(bytes.len());
        bytes[at] = byte;
        let cut = cut.index(bytes.len());
        prop_assert_eq!(serve(&split(&bytes, &[cut]), HeadLimits::default()), serve(&[&bytes], HeadLimits::default()));
    }

    #[test]
    fn chunks_that_are_written_are_read(data in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..300), 0..8), rest in 0usize..9) {
        let mut out = Vec::new();
        for data in &data {
            write_chunk(&mut out, data);
        }
        write_last_chunk(&mut out);
        out.resize(out.len() + rest, b'x');
        prop_assert_eq!(decode(&out), (data.concat(), rest));
    }

    #[test]
    fn sizes_of_chunks_are_hexadecimal(size in 1usize..) {
        let mut out = Vec::new();
        write_chunk_size(&mut out, size);
        prop_assert_eq!(String::from_utf8(out).unwrap(), format!("{size:x}\r\n"));
    }

    #[test]
    fn requests_that_are_written_are_read(
        requests in proptest::collection::vec(
            ("[A-Z]{1,9}", "/[!$-;=?-_a-~]{0,20}", proptest::collection::vec(("x-[a-z]{1,9}", "([!-~\u{80}-\u{ff}]([ -~]{0,9}[!-~])?)?"), 0..5), "[ -~\r\n]{0,40}", any::<bool>()),
            1..4,
        ),
    ) {
        let mut bytes = Vec::new();
        let mut expected = Vec::new();
        for (method, target, headers, body, chunked) in requests {
            prop_assume!(method != "CONNECT");
            let mut sent = vec![("Host".to_string(), b"a".to_vec())];
            sent.extend(headers.into_iter().map(|(n, v)| (n, v.into_bytes())));
            sent.push(if chunked {
                ("Transfer-Encoding".to_string(), b"chunked".to_vec())
            } else {
                ("Content-Length".to_string(), body.len().to_string().into_bytes())
            });
            bytes.extend_from_slice(format!("{method} {target} HTTP/1.1\r\n").as_bytes());
            for (name, value) in &sent {
                bytes.extend_from_slice(name.as_bytes());
                bytes.extend_from_slice(b": ");
                bytes.extend_from_slice(value);
                bytes.extend_from_slice(b"\r\n");
            }
            bytes.extend_from_slice(b"\r\n");
            if chunked {
                write_chunk(&mut bytes, body.as_bytes());
                write_last_chunk(&mut bytes);
            } else {
                bytes.extend_from_slice(body.as_bytes());
            }
            expected.push(Seen::Request { line: format!("{method} {target} Http11 a"), headers: sent, body: body.into_bytes(), keep_alive: true });
        }
        prop_assert_eq!(serve(&[&bytes], HeadLimits::default()), expected);
    }

    #[test]
    fn heads_that_are_written_are_read_by_another_parser(
        status in 200u16..600,
        headers in proptest::collection::vec(("[a-z-]{1,9}", "([!-~]([ -~]{0,9}[!-~])?)?"), 0..5),
    ) {
        prop_assume!(headers.iter().all(|(name, _)| name != "connection"));
        let mut out = Vec::new();
        let mut writer = HeadWriter::new(&mut out, status, ResponseLength::Chunked, Connection::Close, None);
        for (name, value) in &headers {
            writer.header(name, value.as_bytes());
        }
        writer.finish().unwrap();
        let mut storage = [httparse::EMPTY_HEADER; 16];
        let mut response = httparse::Response::new(&mut storage);
        prop_assert_eq!(response.parse(&out), Ok(httparse::Status::Complete(out.len())));
        prop_assert_eq!(response.code, Some(status));
        let mut read: Vec<(String, String)> =
            response.headers.iter().map(|h| (h.name.to_string(), String::from_utf8(h.value.to_vec()).unwrap())).collect();
        prop_assert_eq!(read.pop().unwrap(), ("transfer-encoding".to_string(), "chunked".to_string()));
        prop_assert_eq!(read.pop().unwrap(), ("connection".to_string(), "close".to_string()));
        prop_assert_eq!(read, headers);
    }
}
