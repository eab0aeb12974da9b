//! The table of responses, and what holds for every split and every cut of each of them.

use super::*;

/// Bytes of all heads of a response in these tests.
const HEAD: usize = 400;

/// Result of reading one response.
#[derive(Debug, PartialEq, Eq)]
struct Read {
    status: Option<u16>,
    body: Vec<u8>,
    end: Result<(), ResponseError>,
    keeps: bool,
    /// Bytes that were not used.
    left: usize,
}

/// Reads a response whose bytes come in `pieces`, after which the connection ends.
fn read(asked: Asked, pieces: &[&[u8]]) -> Read {
    let mut reader = ResponseReader::new(asked, HEAD);
    let mut pieces = pieces.iter();
    let mut buffer = Vec::new();
    let mut read = Read {
        status: None,
        body: Vec::new(),
        end: Ok(()),
        keeps: false,
        left: 0,
    };
    read.end = loop {
        let mut input = buffer.as_slice();
        let part = reader.read(&mut input);
        let used = buffer.len() - input.len();
        match part {
            Ok(ResponsePart::More) => {
                buffer.drain(..used);
                match pieces.next() {
                    Some(piece) => buffer.extend_from_slice(piece),
                    None => break reader.handle_end(),
                }
                continue;
            }
            Ok(ResponsePart::Head(head)) => {
                assert_eq!(read.status, None, "a second head");
                read.status = Some(head.status());
            }
            Ok(ResponsePart::Body(data)) => {
                assert!(!data.is_empty() && read.status.is_some());
                read.body.extend_from_slice(data);
            }
            Ok(ResponsePart::End) => {
                buffer.drain(..used);
                break Ok(());
            }
            Err(error) => {
                assert_eq!(reader.read(&mut input).unwrap_err(), error);
                break Err(error);
            }
        }
        buffer.drain(..used);
    };
    read.keeps = reader.keeps();
    read.left = buffer.len() + pieces.map(|piece| piece.len()).sum::<usize>();
    read
}

/// Method, response, and the status with the body, or the beginning of the error.
type Row = (
    &'static str,
    &'static str,
    Result<(u16, &'static str), &'static str>,
);

const TABLE: &[Row] = &[
    // Bodies.
    (
        "GET",
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi",
        Ok((200, "hi")),
    ),
    (
        "GET",
        "HTTP/1.1 200\r\nContent-Length: 0\r\n\r\n",
        Ok((200, "")),
    ),
    (
        "GET",
        "HTTP/1.0 200 OK\r\n\r\nuntil the end",
        Ok((200, "until the end")),
    ),
    (
        "POST",
        "HTTP/1.1 500 Oh\r\nServer: x\r\n\r\nhi",
        Ok((500, "hi")),
    ),
    (
        "GET",
        "HTTP/1.1 200 OK\r\ntransfer-ENCODING:  Chunked \r\n\r\n2;a=b\r\nhi\r\n1\r\n!\r\n0\r\nTrailer: x\r\n\r\n",
        Ok((200, "hi!")),
    ),
    (
        "GET",
        "HTTP/1.1 999 \r\nContent-Length: 1\r\n\r\nx",
        Ok((999, "x")),
    ),
    // No bodies.
    (
        "HEAD",
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n",
        Ok((200, "")),
    ),
    (
        "HEAD",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
        Ok((200, "")),
    ),
    ("GET", "HTTP/1.1 204 No Content\r\n\r\n", Ok((204, ""))),
    (
        "GET",
        "HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n",
        Ok((304, "")),
    ),
    (
        "CONNECT",
        "HTTP/1.1 200 Connection established\r\n\r\n",
        Ok((200, "")),
    ),
    (
        "CONNECT",
        "HTTP/1.1 407 P\r\nContent-Length: 2\r\n\r\nno",
        Ok((407, "no")),
    ),
    // Interim responses.
    (
        "POST",
        "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 201 C\r\nContent-Length: 1\r\n\r\n1",
        Ok((201, "1")),
    ),
    (
        "GET",
        "HTTP/1.1 101 Switching\r\nUpgrade: x\r\n\r\n",
        Err("the answer is malformed: it changes"),
    ),
    // Bytes that are cut.
    ("GET", "", Err("the answer ends too early")),
    (
        "GET",
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n",
        Err("the answer ends too early"),
    ),
    (
        "GET",
        "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nhi",
        Err("the answer ends too early"),
    ),
    (
        "GET",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n",
        Err("the answer ends too early"),
    ),
    (
        "GET",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n",
        Err("the answer ends too early"),
    ),
    (
        "GET",
        "HTTP/1.1 100 Continue\r\n\r\n",
        Err("the answer ends too early"),
    ),
    // Messages that two readers could take in two ways.
    (
        "GET",
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n",
        Err("the answer is malformed: both"),
    ),
    (
        "GET",
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nhi",
        Err("the answer is malformed: more"),
    ),
    (
        "GET",
        "HTTP/1.1 200 OK\r\nContent-Length: 2, 2\r\n\r\nhi",
        Err("the answer is malformed: Content-Length"),
    ),
    (
        "GET",
        "HTTP/1.1 200 OK\r\nContent-Length: +2\r\n\r\nhi",
        Err("the answer is malformed: Content-Length"),
    ),
    (
        "GET",
        "HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\n",
        Err("the answer is malformed: Content-Length"),
    ),
    (
        "GET",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
        Err("the answer is malformed: the only"),
    ),
    (
        "GET",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
        Err("the answer is malformed: more"),
    ),
    (
        "GET",
        "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
        Err("the answer is malformed: Transfer-Encoding in"),
    ),
    (
        "GET",
        "HTTP/1.1 200 OK\nContent-Length: 2\n\nhi",
        Err("the answer is malformed: a LF"),
    ),
    (
        "GET",
        "HTTP/1.1 200 OK\r\nA: b\r\n c\r\n\r\n",
        Err("the answer is malformed: the head"),
    ),
    (
        "GET",
        "HTTP/1.1 200 OK\r\nContent-Length : 2\r\n\r\nhi",
        Err("the answer is malformed: the head"),
    ),
    (
        "GET",
        "HTTP/1.1 200 OK\r\nA: b\rc\r\n\r\n",
        Err("the answer is malformed: the head"),
    ),
    (
        "GET",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n 2\r\nhi\r\n",
        Err("the answer is malformed: the size"),
    ),
    (
        "GET",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi!\r\n",
        Err("the answer is malformed: a chunk"),
    ),
    // Bytes that are no response.
    ("GET", "SSH-2.0-x\r\n", Err("the answer is not HTTP/1")),
    (
        "GET",
        "\r\nHTTP/1.1 200 OK\r\n\r\n",
        Err("the answer is not HTTP/1"),
    ),
    ("GET", "HTTP/2 200\r\n\r\n", Err("the answer is not HTTP/1")),
    (
        "GET",
        "HTTP/1.2 200 OK\r\n\r\n",
        Err("the answer is malformed: the head"),
    ),
    (
        "GET",
        "HTTP/1.1 20 OK\r\n\r\n",
        Err("the answer is malformed: the head"),
    ),
    (
        "GET",
        "HTTP/1.1 099 OK\r\n\r\n",
        Err("the answer is malformed: the status"),
    ),
];

#[test]
fn responses_are_read_or_refused() {
    for (method, bytes, expected) in TABLE {
        let seen = read(Asked::of(method), &[bytes.as_bytes()]);
        match expected {
            Ok((status, body)) => {
                assert_eq!(seen.end, Ok(()), "{bytes:?}");
                assert_eq!(seen.status, Some(*status), "{bytes:?}");
                assert_eq!(seen.body, body.as_bytes(), "{bytes:?}");
            }
            Err(begin) => {
                let told = seen.end.unwrap_err().to_string();
                assert!(told.starts_with(begin), "{bytes:?}: {told}");
                assert!(!seen.keeps, "{bytes:?}");
            }
        }
    }
}

#[test]
fn every_cut_of_every_response_reads_the_same() {
    for (method, bytes, _) in TABLE {
        let (asked, bytes) = (Asked::of(method), bytes.as_bytes());
        let whole = read(asked, &[bytes]);
        for cut in 1..bytes.len() {
            let cut_up = read(asked, &split(bytes, &[cut]));
            assert_eq!(cut_up.end, whole.end, "{bytes:?} cut at {cut}");
            assert_eq!(cut_up.body, whole.body, "{bytes:?} cut at {cut}");
            assert_eq!(cut_up.keeps, whole.keeps, "{bytes:?} cut at {cut}");
        }
        let single: Vec<&[u8]> = bytes.chunks(1).collect();
        assert_eq!(
            read(asked, &single).end,
            whole.end,
            "{bytes:?} byte by byte"
        );
    }
}

#[test]
fn a_response_that_is_cut_has_no_end() {
    for (method, bytes, expected) in TABLE {
        if expected.is_err() || bytes.contains("until the end") || bytes.contains("Server: x") {
            continue;
        }
        for length in 0..bytes.len() {
            let seen = read(Asked::of(method), &[&bytes.as_bytes()[..length]]);
            assert_eq!(seen.end, Err(ResponseError::Cut), "{bytes:?} to {length}");
            assert!(!seen.keeps);
        }
    }
}

#[test]
fn the_connection_is_kept_where_the_server_waits_for_more() {
    for (bytes, keeps) in [
        ("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx", true),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nConnection: close\r\n\r\nx",
            false,
        ),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nConnection: a, Close\r\n\r\nx",
            false,
        ),
        ("HTTP/1.0 200 OK\r\nContent-Length: 1\r\n\r\nx", false),
        (
            "HTTP/1.0 200 OK\r\nContent-Length: 1\r\nConnection: Keep-Alive\r\n\r\nx",
            true,
        ),
        ("HTTP/1.0 200 OK\r\nConnection: keep-alive\r\n\r\nx", false),
        ("HTTP/1.1 200 OK\r\n\r\nx", false),
        ("HTTP/1.1 204 No Content\r\n\r\n", true),
    ] {
        let seen = read(Asked::Other, &[bytes.as_bytes()]);
        assert_eq!(
            (seen.end, seen.keeps, seen.left),
            (Ok(()), keeps, 0),
            "{bytes:?}"
        );
    }
    let more = b"HTTP/1.1 204 No Content\r\n\r\nHTTP/1.1 200 OK\r\n";
    assert_eq!(
        read(Asked::Other, &[more]).left,
        17,
        "nothing is taken of what follows"
    );
}

#[test]
fn heads_are_bounded() {
    let head = |length: usize| {
        let filler = "x".repeat(length - "HTTP/1.1 200 OK\r\nA: \r\n\r\n".len());
        format!("HTTP/1.1 200 OK\r\nA: {filler}\r\n\r\n")
    };
    let too_long = Err(ResponseError::Malformed("the head is too long"));
    assert_eq!(read(Asked::Head, &[head(HEAD).as_bytes()]).end, Ok(()));
    assert_eq!(
        read(Asked::Head, &[head(HEAD + 1).as_bytes()]).end,
        too_long
    );
    let endless = "x".repeat(HEAD);
    let endless = format!("HTTP/1.1 200 {endless}");
    assert_eq!(read(Asked::Other, &[endless.as_bytes()]).end, too_long);
    let interim = "HTTP/1.1 100 Continue\r\n\r\n".repeat(HEAD / 25 + 1);
    assert_eq!(read(Asked::Other, &[interim.as_bytes()]).end, too_long);
    let many = format!("HTTP/1.1 200 OK\r\n{}\r\n", "A:\r\n".repeat(101));
    let mut reader = ResponseReader::new(Asked::Other, 1 << 16);
    assert_eq!(
        reader.read(&mut many.as_bytes()).unwrap_err(),
        ResponseError::Malformed("more than 100 headers")
    );
}

#[test]
fn requests_cannot_be_smuggled_into_a_head() {
    let write = |method: &str, target: &str, host: &str, name: &str, value: &[u8]| {
        let mut out = b"before".to_vec();
        let mut head =
            HeadWriter::request(&mut out, method, target, host, Some(1), Connection::Implied);
        head.header(name, value);
        let done = head.finish();
        assert_eq!(out == b"before", done.is_err());
        (
            done.map_err(|error| error.name),
            String::from_utf8(out).unwrap(),
        )
    };
    let (done, out) = write("POST", "/a?b", "h:1", "x", b"y z");
    assert_eq!(done, Ok(()));
    assert_eq!(
        out,
        "beforePOST /a?b HTTP/1.1\r\nhost: h:1\r\nx: y z\r\ncontent-length: 1\r\n\r\n"
    );
    for (method, target, host, name, value, wrong) in [
        ("GET /x", "/", "h", "x", "y", "request line"),
        ("", "/", "h", "x", "y", "request line"),
        ("GET", "/a b", "h", "x", "y", "request line"),
        ("GET", "/\r\nx: y", "h", "x", "y", "request line"),
        ("GET", "/é", "h", "x", "y", "request line"),
        ("GET", "", "h", "x", "y", "request line"),
        ("GET", "/", "h\r\nx: y", "x", "y", "host"),
        ("GET", "/", "", "x", "y", "host"),
        ("GET", "/", "h", "x", "y\r\nz: 1", "x"),
        ("GET", "/", "h", "x", "y\nz", "x"),
        ("GET", "/", "h", "x y", "z", "x y"),
        ("GET", "/", "h", "Content-Length", "9", "Content-Length"),
        (
            "GET",
            "/",
            "h",
            "transfer-encoding",
            "chunked",
            "transfer-encoding",
        ),
        ("GET", "/", "h", "Host", "other", "Host"),
    ] {
        let done = write(method, target, host, name, value.as_bytes()).0;
        assert_eq!(
            done,
            Err(wrong.to_owned()),
            "{method:?} {target:?} {host:?} {name:?} {value:?}"
        );
    }
}

/// Answers one request of our own with our own server's machine, and reads the answer with our own client.
fn round_trip(method: &str, status: u16, streamed: bool, body: &[u8], cuts: &[usize]) -> Read {
    let mut request = Vec::new();
    let length = (method == "POST").then_some(5);
    HeadWriter::request(
        &mut request,
        method,
        "/x?y",
        "h",
        length,
        Connection::Implied,
    )
    .finish()
    .unwrap();
    let mut server = connection(HeadLimits::default());
    let mut input = request.as_slice();
    match server.handle_read(NOW, &mut input) {
        Event::Request(head) => {
            assert_eq!((head.method(), head.path_and_query()), (method, "/x?y"))
        }
        other => panic!("{other:?}"),
    }
    if length.is_some() {
        assert_eq!(server.read_body(NOW, LIMIT), Ok(false));
        let mut input = b"hello".as_slice();
        assert!(matches!(
            server.handle_read(NOW, &mut input),
            Event::Body(b"hello")
        ));
        assert!(matches!(server.handle_read(NOW, &mut input), Event::End));
    }
    let known = (!streamed).then_some(body.len() as u64);
    let framing = server.answer(status, known, false);
    let mut out = Vec::new();
    HeadWriter::new(&mut out, status, framing.length, framing.connection, None)
        .finish()
        .unwrap();
    if framing.has_body && streamed {
        body.chunks(7)
            .for_each(|piece| write_chunk(&mut out, piece));
        write_last_chunk(&mut out);
    } else if framing.has_body {
        out.extend_from_slice(body);
    }
    server.handle_answered(NOW, false);
    assert_eq!(server.state(), super::super::State::Idle);
    read(Asked::of(method), &split(&out, cuts))
}

proptest! {
    /// The client reads from any answer of our own server the body that the server was given.
    #[test]
    fn the_client_reads_what_the_server_writes(
        method in prop::sample::select(&["GET", "POST", "HEAD"][..]),
        status in prop::sample::select(&[200, 204, 404, 503][..]),
        streamed: bool,
        body in prop::collection::vec(any::<u8>(), 0..200),
        cuts in prop::collection::vec(0..600_usize, 0..8),
    ) {
        let seen = round_trip(method, status, streamed, &body, &cuts);
        let expected = if method == "HEAD" || status == 204 { &[][..] } else { &body };
        prop_assert_eq!(seen.end, Ok(()));
        prop_assert_eq!((seen.status, seen.keeps, seen.left), (Some(status), true, 0));
        prop_assert_eq!(seen.body, expected);
    }

    /// No bytes make the reader panic, and no split changes what it reads.
    #[test]
    fn any_bytes_read_the_same_in_any_split(
        row in 0..TABLE.len(),
        damage in prop::collection::vec((0..200_usize, any::<u8>()), 0..3),
        cuts in prop::collection::vec(0..300_usize, 0..8),
    ) {
        let (method, bytes, _) = TABLE[row];
        let mut bytes = bytes.as_bytes().to_vec();
        for (place, byte) in damage {
            if let Some(at) = bytes.get_mut(place) {
                *at = byte;
            }
        }
        let whole = read(Asked::of(method), &[&bytes]);
        let cut_up = read(Asked::of(method), &split(&bytes, &cuts));
        prop_assert_eq!(&cut_up.end, &whole.end);
        prop_assert_eq!(cut_up.keeps, whole.keeps);
        if whole.end.is_ok() {
            prop_assert_eq!(cut_up.left, whole.left);
            prop_assert_eq!(cut_up.body, whole.body);
        } else {
            prop_assert!(cut_up.body.starts_with(&whole.body) || whole.body.starts_with(&cut_up.body));
        }
    }
}
