//! Writing of messages: heads of responses and requests, and chunks.

use super::{Version, has_no_forbidden, is_token};
use crate::text::has_none;
use alloc::string::String;
use alloc::vec::Vec;

/// Bytes that end a chunk's data.
pub const CHUNK_END: &[u8] = b"\r\n";

/// Bytes that end a chunked body.
pub const LAST_CHUNK: &[u8] = b"0\r\n\r\n";

/// [`CHUNK_END`] of a body's last data, and [`LAST_CHUNK`].
pub const CHUNK_END_AND_LAST: &[u8] = b"\r\n0\r\n\r\n";

/// Ways in which a client learns where the body of a response ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResponseLength {
    /// `Content-Length`. Also for the answer to `HEAD`, which gives the length of the body that is not sent.
    Exact(u64),
    /// `Transfer-Encoding: chunked`.
    Chunked,
    /// The end of the connection, for streams to HTTP/1.0 clients.
    UntilClose,
    /// No body by definition: 1xx, 204 and 304.
    Absent,
}

/// Statement of a response about its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Connection {
    /// Nothing, because the request's version implies it: HTTP/1.1 is kept, HTTP/1.0 is closed.
    Implied,
    /// It waits for the next request.
    KeepAlive,
    /// It is closed.
    Close,
    /// It changes to the protocol of the `Upgrade` header, with status 101.
    Upgrade,
}

impl ResponseLength {
    /// Returns the framing of an answer whose body has `length` bytes, or a length that is not known yet, on a
    /// connection that both sides want to `keep` or not; and true when the connection is kept: a body that ends with
    /// the connection rules that out.
    #[must_use]
    pub const fn answer(length: Option<u64>, version: Version, keep: bool) -> (Self, bool) {
        match (length, version) {
            (Some(length), _) => (Self::Exact(length), keep),
            (None, Version::Http11) => (Self::Chunked, keep),
            (None, Version::Http10) => (Self::UntilClose, false),
        }
    }
}

impl Connection {
    /// Returns the statement for a client of that version.
    #[must_use]
    pub const fn after(version: Version, keep: bool) -> Self {
        match (version, keep) {
            (Version::Http11, true) | (Version::Http10, false) => Self::Implied,
            (Version::Http10, true) => Self::KeepAlive,
            (Version::Http11, false) => Self::Close,
        }
    }
}

/// A header that cannot be sent: a name that is no token, a value with a line break or another control character, or a header that
/// [`HeadWriter`] writes itself. For a request also its first line. What was written of the head is removed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the header {name:?} cannot be sent: its name or value is not allowed")]
pub struct InvalidHeader {
    /// The name of the header, or `request line`.
    pub name: String,
}

/// Writes the head of a response or a request: the first line, the headers in the order they are given, and those that frame the message.
#[derive(Debug)]
#[must_use = "the head is complete only after `finish`"]
pub struct HeadWriter<'o> {
    out: &'o mut Vec<u8>,
    start: usize,
    length: ResponseLength,
    connection: Connection,
    date: Option<i64>,
    invalid: Option<InvalidHeader>,
}

impl<'o> HeadWriter<'o> {
    /// Starts a head at the end of `out`. `status` is 100 to 999; `date` is the time in seconds since 1970, if it is known.
    #[inline]
    pub fn new(
        out: &'o mut Vec<u8>,
        status: u16,
        length: ResponseLength,
        connection: Connection,
        date: Option<i64>,
    ) -> Self {
        debug_assert!((100..=999).contains(&status));
        let start = out.len();
        out.extend_from_slice(b"HTTP/1.1 ");
        out.extend_from_slice(itoa::Buffer::new().format(status).as_bytes());
        out.push(b' ');
        out.extend_from_slice(reason(status).as_bytes());
        out.extend_from_slice(b"\r\n");
        Self {
            out,
            start,
            length,
            connection,
            date,
            invalid: None,
        }
    }

    /// Starts the head of a request at the end of `out`, with its `Host`. `target` is a path with its query, a URL for a proxy, or
    /// `host:port` for `CONNECT`, percent-encoded as the standard wants it; `body` is the length of the body, where there is one.
    pub fn request(
        out: &'o mut Vec<u8>,
        method: &str,
        target: &str,
        host: &str,
        body: Option<u64>,
        connection: Connection,
    ) -> Self {
        let start = out.len();
        let is_right = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_graphic());
        let invalid = if method.is_empty() || !method.bytes().all(is_token) || !is_right(target) {
            Some("request line")
        } else {
            (!is_right(host)).then_some("host")
        };
        for part in [method, " ", target, " HTTP/1.1\r\nhost: ", host, "\r\n"] {
            out.extend_from_slice(part.as_bytes());
        }
        Self {
            out,
            start,
            length: body.map_or(ResponseLength::Absent, ResponseLength::Exact),
            connection,
            date: None,
            invalid: invalid.map(|name| InvalidHeader { name: name.into() }),
        }
    }

    /// Writes one header. An error is kept until [`HeadWriter::finish`].
    #[inline]
    pub fn header(&mut self, name: &str, value: &[u8]) {
        // Lengths tell most names apart without a comparison.
        let own = match name.len() {
            4 => Some("host"),
            10 => Some("connection"),
            14 => Some("content-length"),
            17 => Some("transfer-encoding"),
            _ => None,
        };
        let is_own = own.is_some_and(|own| own.eq_ignore_ascii_case(name));
        if is_own || !is_name(name) || !has_no_forbidden(value) {
            if self.invalid.is_none() {
                self.invalid = Some(InvalidHeader { name: name.into() });
            }
            return;
        }
        self.out.extend_from_slice(name.as_bytes());
        self.out.extend_from_slice(b": ");
        self.out.extend_from_slice(value);
        self.out.extend_from_slice(b"\r\n");
    }

    /// Ends the head.
    ///
    /// # Errors
    /// [`InvalidHeader`] for the first header that could not be sent; `out` is then as it was before the head.
    #[inline]
    pub fn finish(self) -> Result<(), InvalidHeader> {
        if let Some(invalid) = self.invalid {
            self.out.truncate(self.start);
            return Err(invalid);
        }
        let mut line = |name: &str, value: &[u8]| {
            self.out.extend_from_slice(name.as_bytes());
            self.out.extend_from_slice(value);
            self.out.extend_from_slice(b"\r\n");
        };
        match self.connection {
            Connection::Implied => {}
            Connection::KeepAlive => line("connection: ", b"keep-alive"),
            Connection::Close => line("connection: ", b"close"),
            Connection::Upgrade => line("connection: ", b"upgrade"),
        }
        match self.length {
            ResponseLength::Exact(length) => {
                line(
                    "content-length: ",
                    itoa::Buffer::new().format(length).as_bytes(),
                );
            }
            ResponseLength::Chunked => line("transfer-encoding: ", b"chunked"),
            ResponseLength::UntilClose | ResponseLength::Absent => {}
        }
        if let Some(date) = self.date {
            write_date(self.out, date);
        }
        self.out.extend_from_slice(b"\r\n");
        Ok(())
    }
}

/// True for a token, as a header's name has to be. Those in use hold letters of one case, digits and hyphens.
fn is_name(name: &str) -> bool {
    let is_usual = |byte: u8| byte.is_ascii_lowercase() | byte.is_ascii_digit() | (byte == b'-');
    let all_usual = has_none::<32>(name.as_bytes(), |byte| !is_usual(byte));
    !name.is_empty() && (all_usual || name.bytes().all(is_token))
}

/// Writes the interim response that a client with `Expect: 100-continue` waits for.
pub fn write_continue(out: &mut Vec<u8>) {
    out.extend_from_slice(b"HTTP/1.1 100 Continue\r\n\r\n");
}

/// Writes `data` as one chunk. No data is no chunk, as an empty one would end the body.
#[inline]
pub fn write_chunk(out: &mut Vec<u8>, data: &[u8]) {
    if data.is_empty() {
        return;
    }
    write_chunk_size(out, data.len());
    out.extend_from_slice(data);
    out.extend_from_slice(CHUNK_END);
}

/// Writes the line that goes before a chunk of `size` bytes, for drivers that send the data and [`CHUNK_END`] without a copy. A size of 0
/// would end the body: use [`write_last_chunk`].
#[inline]
pub fn write_chunk_size(out: &mut Vec<u8>, size: usize) {
    debug_assert!(size > 0);
    let digits = (usize::BITS - size.leading_zeros()).div_ceil(4).max(1);
    for place in (0..digits).rev() {
        let digit = u32::try_from(size >> (place * 4) & 0xF).ok();
        out.extend(
            digit
                .and_then(|digit| char::from_digit(digit, 16))
                .map(|c| c as u8),
        );
    }
    out.extend_from_slice(b"\r\n");
}

/// Writes what ends a chunked body.
#[inline]
pub fn write_last_chunk(out: &mut Vec<u8>) {
    out.extend_from_slice(LAST_CHUNK);
}

/// Writes a `Date` header (RFC 9110, 5.6.7), or none outside the years that it can tell, 0 to 9999.
fn write_date(out: &mut Vec<u8>, unix_seconds: i64) {
    let start = out.len();
    out.extend_from_slice(b"date: ");
    let printer = jiff::fmt::rfc2822::DateTimePrinter::new();
    let written = jiff::Timestamp::from_second(unix_seconds)
        .and_then(|at| printer.print_timestamp_rfc9110(&at, &mut *out));
    match written {
        Ok(()) => out.extend_from_slice(b"\r\n"),
        Err(_) => out.truncate(start),
    }
}

/// The reason phrase of a status (RFC 9110, 15); empty if it has none.
#[must_use]
pub const fn reason(status: u16) -> &'static str {
    match status {
        100 => "Continue",
        101 => "Switching Protocols",
        200 => "OK",
        201 => "Created",
        202 => "Accepted",
        204 => "No Content",
        206 => "Partial Content",
        301 => "Moved Permanently",
        302 => "Found",
        303 => "See Other",
        304 => "Not Modified",
        307 => "Temporary Redirect",
        308 => "Permanent Redirect",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        406 => "Not Acceptable",
        408 => "Request Timeout",
        409 => "Conflict",
        410 => "Gone",
        411 => "Length Required",
        412 => "Precondition Failed",
        413 => "Content Too Large",
        414 => "URI Too Long",
        415 => "Unsupported Media Type",
        417 => "Expectation Failed",
        421 => "Misdirected Request",
        422 => "Unprocessable Content",
        426 => "Upgrade Required",
        428 => "Precondition Required",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        499 => "Client Closed Request",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        505 => "HTTP Version Not Supported",
        // Anthropic's own.
        529 => "Overloaded",
        _ => "",
    }
}
