//! HTTP/1.1 (RFC 9110, RFC 9112), without I/O: bytes go in, heads and pieces of bodies come out, and the reverse.
//!
//! The client's side is [`HeadWriter::request`] and [`ResponseReader`].
//!
//! On the server's side a driver keeps one buffer per connection. It reads into it until [`HeadReader::read`] gives a [`RequestHead`],
//! removes [`RequestHead::length`] bytes, feeds the rest to a [`BodyReader`], and answers with [`HeadWriter`] and the chunk functions.
//!
//! ```
//! use mcp_local_provider_core::wire::http1::*;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let received = b"POST /x HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n\r\nhello";
//! let head = HeadReader::new(HeadLimits::default()).read(received)?.ok_or("read more")?;
//! let mut body = BodyReader::new(head.framing().body, 8 << 20)?;
//! let mut input = &received[head.length()..];
//! assert_eq!(body.read(&mut input)?, BodyPart::Data(b"hello"));
//! assert_eq!(body.read(&mut input)?, BodyPart::Complete);
//!
//! let mut out = Vec::new();
//! let (length, keep) = ResponseLength::answer(None, head.version(), head.framing().keep_alive);
//! let connection = Connection::after(head.version(), keep);
//! let mut response = HeadWriter::new(&mut out, 200, length, connection, None);
//! response.header("content-type", b"text/plain");
//! response.finish()?;
//! write_chunk(&mut out, b"hi");
//! write_last_chunk(&mut out);
//! assert!(out.ends_with(b"\r\n\r\n2\r\nhi\r\n0\r\n\r\n"));
//! # Ok(())
//! # }
//! ```
//!
//! Where the standard lets a program choose between mending a message and refusing it, this one refuses: two programs that mend differently
//! are what request smuggling lives on. After an error the connection must be closed, as the end of the message is not known.

mod body;
mod connection;
mod encode;
mod ending;
mod framing;
mod head;
mod response;

use crate::text::has_none;
pub use body::{BodyPart, BodyReader};
pub use connection::{AnswerFraming, ConnectionLimits, Event, STATES, ServerConnection, State};
pub use encode::{
    CHUNK_END, CHUNK_END_AND_LAST, Connection, HeadWriter, InvalidHeader, LAST_CHUNK,
    ResponseLength, reason, write_chunk, write_chunk_size, write_continue, write_last_chunk,
};
pub use ending::{
    DISCARD, Disposition, Ending, FIRST_REQUEST, FIRST_ROOM, HEAD, IDLE, LINGER, Rest, SMALL_REST,
};
pub use framing::{BodyLength, RequestFraming, Version, check_framing, check_target};
pub use head::{HeadLimits, HeadReader, MAX_HEADERS, RequestHead};
pub use response::{Asked, ResponseError, ResponseHead, ResponsePart, ResponseReader};

/// A request that breaks the standard or a limit. Answer with `status` and close the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{status} {}: {message}", reason(*.status))]
pub struct RequestError {
    /// 400, 413, 414, 417, 431, 501 or 505.
    pub status: u16,
    /// Description of the fault, for the sender. ASCII without quotes or control characters, and holds nothing of the
    /// request.
    pub message: &'static str,
}

impl RequestError {
    const fn new(status: u16, message: &'static str) -> Self {
        Self { status, message }
    }

    const fn bad(message: &'static str) -> Self {
        Self::new(400, message)
    }
}

/// The bytes of tokens (RFC 9110, 5.6.2).
static TOKEN: [bool; 256] = {
    let mut table = [false; 256];
    let mut rest: &[u8] =
        b"!#$%&'*+-.^_`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    while let [byte, after @ ..] = rest {
        // A byte is never beyond the end.
        if let Some((_, [place, ..])) = table.split_at_mut_checked(*byte as usize) {
            *place = true;
        }
        rest = after;
    }
    table
};

/// A byte of a token, such as a method or a header's name.
#[inline]
fn is_token(byte: u8) -> bool {
    TOKEN.get(usize::from(byte)).is_some_and(|token| *token)
}

/// A byte that neither a line of a head nor a header's value may hold: a control character other than TAB.
const fn is_forbidden(byte: u8) -> bool {
    (byte < b' ') & (byte != b'\t') | (byte == 0x7F)
}

/// True when none of the bytes is forbidden.
fn has_no_forbidden(bytes: &[u8]) -> bool {
    has_none::<64>(bytes, is_forbidden)
}

/// Removes optional white space (RFC 9110, 5.6.3) from both ends.
fn trim(value: &[u8]) -> &[u8] {
    let mut value = value;
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = value {
        value = rest;
    }
    value
}

/// The elements of a comma separated header value, without white space round them.
fn elements(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|byte| *byte == b',').map(trim)
}

#[cfg(test)]
mod tests;
