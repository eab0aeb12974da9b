//! Requests that programs are known to read differently: one strict answer, and the connection is closed.

use crate::program::{Answer, CLIENT, Program};
use std::io::{Read, Write};
use std::net::TcpStream;

/// The same rows that the codec is held against.
#[path = "../../core/src/wire/http1/tests/table.rs"]
mod table;

/// A connection whose answers come one after the other.
struct Connection {
    row: &'static str,
    stream: TcpStream,
    bytes: Vec<u8>,
}

impl Connection {
    /// The next answer, interim ones left out; `None` when the connection was closed.
    fn answer(&mut self) -> Option<Answer> {
        loop {
            if let Some(length) = self.length() {
                let answer = Answer::parse(&self.bytes[..length]);
                self.bytes.drain(..length);
                if answer.status >= 200 {
                    return Some(answer);
                }
                continue;
            }
            let mut piece = [0; 4096];
            match self.stream.read(&mut piece) {
                Ok(0) => {
                    assert!(self.bytes.is_empty(), "{:?}: half an answer", self.row);
                    return None;
                }
                Ok(count) => self.bytes.extend_from_slice(&piece[..count]),
                Err(error) => panic!(
                    "{:?}: {error} after {:?}",
                    self.row,
                    String::from_utf8_lossy(&self.bytes)
                ),
            }
        }
    }

    /// Bytes of the first answer, once they are all there.
    fn length(&self) -> Option<usize> {
        let head = self.bytes.windows(4).position(|end| end == b"\r\n\r\n")? + 4;
        let announced = Answer::parse(&self.bytes[..head]);
        let body = announced.header("content-length").unwrap_or("0");
        let length = head + body.parse::<usize>().unwrap();
        (self.bytes.len() >= length).then_some(length)
    }
}

/// A row's bytes, sent to a host that is served and a route that reads bodies.
fn request(row: &str) -> Vec<u8> {
    let route = format!("POST /k/{CLIENT}/api/chat HTTP");
    let swaps: [(&[u8], &[u8]); 2] = [
        (b"POST / HTTP", route.as_bytes()),
        (b"Host: a\r\n", b"Host: localhost\r\n"),
    ];
    let bytes = table::bytes_of(row);
    let mut out = Vec::new();
    let mut rest = &bytes[..];
    while let Some(first) = rest.first() {
        let swap = swaps.iter().find(|(from, _)| rest.starts_with(from));
        let (from, to) = swap
            .copied()
            .unwrap_or((&rest[..1], std::slice::from_ref(first)));
        out.extend_from_slice(to);
        rest = &rest[from.len()..];
    }
    out
}

#[test]
fn a_request_that_could_be_read_in_two_ways_is_refused() {
    let mut program = Program::start(
        "limits: { body_bytes: 1000, requests_per_minute: 100000, burst: 100000 }\n",
    );
    let mut wrong = Vec::new();
    for (row, expect) in table::TABLE {
        let mut connection = Connection {
            row,
            stream: program.connect(),
            bytes: Vec::new(),
        };
        connection.stream.write_all(&request(row)).unwrap();
        match expect {
            table::Expect::Bodies(bodies) => {
                for _ in *bodies {
                    let answer = connection.answer().unwrap_or_else(|| panic!("{row:?}"));
                    // What is wrong with some of them comes after their framing.
                    let closes = answer.header("connection") == Some("close");
                    assert!(!closes, "{row:?}: {}", answer.body);
                }
                if !row.contains("HTTP/1.0") {
                    let next = b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n";
                    connection.stream.write_all(next).unwrap();
                    assert_eq!(connection.answer().map(|next| next.status), Some(200));
                }
            }
            table::Expect::Status(status) => {
                let answer = connection.answer();
                let seen = answer.as_ref().map(|answer| answer.status);
                let closed = connection.answer().is_none();
                if seen != Some(*status) || !closed {
                    wrong.push(format!(
                        "{row:?}: {seen:?} for {status}, closed: {closed} {}",
                        answer.map(|answer| answer.body).unwrap_or_default()
                    ));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(program.child.try_wait().unwrap().is_none());
    assert_eq!(program.get("/health").status, 200);
}

#[test]
fn the_rest_of_a_body_that_nobody_wants_is_skipped_when_it_is_little_and_ends_the_connection_else() {
    let program = Program::start("");
    let small = "content-length: 10\r\n\r\n0123456789".to_owned();
    let large = format!("content-length: 100000\r\n\r\n{}", "x".repeat(100_000));
    for (row, rest, keeps) in [
        ("none", "\r\n".to_owned(), true),
        ("little", small.clone(), true),
        ("much", large, false),
        (
            "chunks",
            "transfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n".into(),
            true,
        ),
        (
            "not sent before it is asked for",
            "expect: 100-continue\r\ncontent-length: 10\r\n\r\n".into(),
            false,
        ),
        ("the client closes", format!("connection: close\r\n{small}"), false),
    ] {
        let request = format!("POST /nothing HTTP/1.1\r\nhost: localhost\r\n{rest}");
        let mut connection = Connection {
            row,
            stream: program.raw(&request),
            bytes: Vec::new(),
        };
        let answer = connection.answer().unwrap();
        assert_eq!(answer.status, 404, "{row}");
        let closes = answer.header("connection") == Some("close");
        assert_eq!(closes, !keeps, "{row}");
        if keeps {
            let next = "GET /health HTTP/1.1\r\nhost: localhost\r\n\r\n";
            connection.stream.write_all(next.as_bytes()).unwrap();
            assert_eq!(connection.answer().unwrap().status, 200, "{row}");
        } else {
            assert!(connection.answer().is_none(), "{row}");
        }
    }
}

#[test]
fn what_is_pipelined_behind_a_refused_request_with_a_small_body_is_answered() {
    let program = Program::start("");
    let health = "GET /health HTTP/1.1\r\nhost: localhost\r\n\r\n";
    for body in [
        "content-length: 2\r\n\r\n{}",
        "transfer-encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
    ] {
        let refused = format!("PUT /api/chat HTTP/1.1\r\nhost: localhost\r\n{body}");
        let requests = format!("{refused}{health}{health}").repeat(10);
        let mut connection = Connection {
            row: body,
            stream: program.raw(&requests),
            bytes: Vec::new(),
        };
        let answers = (0..30).map(|_| connection.answer().map(|answer| answer.status));
        let expected = [405, 200, 200].map(Some).repeat(10);
        assert_eq!(answers.collect::<Vec<_>>(), expected, "{body:?}");
    }
}
