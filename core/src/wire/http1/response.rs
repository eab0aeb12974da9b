//! Reading of responses, for the client's side of HTTP/1.1.

use super::framing::{check_coding, parse_length};
use super::{BodyLength, BodyPart, BodyReader, MAX_HEADERS, RequestError, elements, trim};
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;
use core::fmt;

/// Bytes that every response of HTTP/1 begins with.
const START: &[u8] = b"HTTP/1.";

/// Response that cannot be read. Nothing more may be read from its connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ResponseError {
    /// Bytes that no response of HTTP/1 begins with.
    #[error("the answer is not HTTP/1")]
    NotHttp,
    /// Break of the standard, or of a limit of this reader. ASCII that holds nothing of the response.
    #[error("the answer is malformed: {0}")]
    Malformed(&'static str),
    /// End of the connection before the end of the response.
    #[error("the answer ends too early")]
    Cut,
}

impl From<RequestError> for ResponseError {
    /// Takes the message; the status is for a server.
    fn from(error: RequestError) -> Self {
        Self::Malformed(error.message)
    }
}

/// Method of a request, as far as it decides where the response ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Asked {
    /// `HEAD`: the response has no body, whatever its headers say.
    Head,
    /// `CONNECT`: after a 2xx the connection belongs to the tunnel.
    Connect,
    /// Any other method.
    Other,
}

impl Asked {
    /// Class of a method.
    #[must_use]
    pub fn of(method: &str) -> Self {
        match method {
            "HEAD" => Self::Head,
            "CONNECT" => Self::Connect,
            _ => Self::Other,
        }
    }
}

/// Head of a final response.
#[derive(Clone, PartialEq, Eq)]
pub struct ResponseHead {
    status: u16,
    headers: Vec<(String, Vec<u8>)>,
}

impl fmt::Debug for ResponseHead {
    /// Without the headers, which may hold secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} with {} headers", self.status, self.headers.len())
    }
}

impl ResponseHead {
    /// Status, 200 to 999.
    #[must_use]
    pub const fn status(&self) -> u16 {
        self.status
    }

    /// Headers in the order in which they came, names as sent.
    pub fn headers(&self) -> impl Iterator<Item = (&str, &[u8])> {
        let headers = self.headers.iter();
        headers.map(|(name, value)| (name.as_str(), value.as_slice()))
    }

    /// Value of the first header of that name, in any case.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&[u8]> {
        self.headers()
            .find_map(|(own, value)| own.eq_ignore_ascii_case(name).then_some(value))
    }
}

/// Part of a response, from [`ResponseReader::read`].
#[derive(Debug)]
pub enum ResponsePart<'b> {
    /// Nothing whole: receive more.
    More,
    /// The head, once.
    Head(ResponseHead),
    /// The next bytes of the body, never empty.
    Body(&'b [u8]),
    /// End of the response. It is given again on every later call.
    End,
}

enum State {
    /// In a head whose first bytes were looked at.
    Head {
        /// Bytes of the buffer that hold no end of the head.
        scanned: usize,
        /// Offset of the line that is being scanned.
        line: usize,
    },
    Body(BodyReader),
    /// In a body that the end of the connection ends.
    UntilClose,
    Complete,
    Failed(ResponseError),
}

/// Reader of the response to one request: interim responses (1xx) are skipped, one head is given, then the body without its
/// framing. Trailers are checked and dropped.
///
/// Where the standard lets a client mend a message, this one refuses it: `Content-Length` beside `Transfer-Encoding`, a length given
/// twice, a coding other than `chunked`, a line break without CR, a folded header.
pub struct ResponseReader {
    state: State,
    asked: Asked,
    /// Bytes that the heads to come may still have, interim ones included.
    room: usize,
    keep_alive: bool,
}

impl fmt::Debug for ResponseReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match self.state {
            State::Head { .. } => "Head",
            State::Body(_) => "Body",
            State::UntilClose => "UntilClose",
            State::Complete => "Complete",
            State::Failed(_) => "Failed",
        };
        write!(f, "ResponseReader({state})")
    }
}

impl ResponseReader {
    /// A reader of the response to a request of that method. `head` bounds the bytes of its head together with those of all interim
    /// responses; a head has at most [`MAX_HEADERS`] headers.
    #[must_use]
    pub const fn new(asked: Asked, head: usize) -> Self {
        Self {
            state: State::Head {
                scanned: 0,
                line: 0,
            },
            asked,
            room: head,
            keep_alive: false,
        }
    }

    /// True once the response is complete.
    #[must_use]
    pub const fn is_complete(&self) -> bool {
        matches!(self.state, State::Complete)
    }

    /// True when the response is complete and the server waits for another request on the connection. Whoever reads also asks that
    /// no byte is left over.
    #[must_use]
    pub const fn keeps(&self) -> bool {
        self.is_complete() && self.keep_alive
    }

    /// Takes what has come at the start of `input` and removes what was used. A head is used as a whole, so `input` begins with the
    /// same bytes and more of them until it is complete. Call again after every part but [`ResponsePart::More`].
    ///
    /// # Errors
    /// [`ResponseError::NotHttp`] and [`ResponseError::Malformed`]; the same on every later call.
    pub fn read<'b>(&mut self, input: &mut &'b [u8]) -> Result<ResponsePart<'b>, ResponseError> {
        loop {
            let head = match &mut self.state {
                State::Failed(error) => return Err(*error),
                State::Complete => return Ok(ResponsePart::End),
                State::UntilClose if input.is_empty() => return Ok(ResponsePart::More),
                State::UntilClose => return Ok(ResponsePart::Body(core::mem::take(input))),
                State::Body(body) => match body.read(input) {
                    Ok(BodyPart::Data(data)) => return Ok(ResponsePart::Body(data)),
                    Ok(BodyPart::Partial) => return Ok(ResponsePart::More),
                    Ok(BodyPart::Complete) => {
                        self.state = State::Complete;
                        continue;
                    }
                    Err(error) => Err(error.into()),
                },
                State::Head { scanned, line } => match find_end(input, scanned, line, self.room) {
                    Ok(None) => return Ok(ResponsePart::More),
                    Ok(Some(length)) => self.read_head(input, length),
                    Err(error) => Err(error),
                },
            };
            match head {
                Ok(Some(head)) => return Ok(ResponsePart::Head(head)),
                Ok(None) => {}
                Err(error) => {
                    self.state = State::Failed(error);
                    return Err(error);
                }
            }
        }
    }

    /// Takes the end of the connection, after all that came before it was read.
    ///
    /// # Errors
    /// [`ResponseError::Cut`] when the response is not over; an earlier error again.
    pub fn handle_end(&mut self) -> Result<(), ResponseError> {
        match self.state {
            State::Complete => Ok(()),
            State::UntilClose => {
                self.state = State::Complete;
                Ok(())
            }
            State::Failed(error) => Err(error),
            State::Head { .. } | State::Body(_) => {
                self.state = State::Failed(ResponseError::Cut);
                Err(ResponseError::Cut)
            }
        }
    }

    /// Reads the head that takes so many bytes. `None` for an interim response.
    fn read_head(
        &mut self,
        input: &mut &[u8],
        length: usize,
    ) -> Result<Option<ResponseHead>, ResponseError> {
        let (bytes, rest) = input.split_at_checked(length).unwrap_or((input, &[]));
        *input = rest;
        self.room = self.room.saturating_sub(length);
        let lines = memchr::memchr_iter(b'\n', bytes).count();
        let mut headers = vec![httparse::EMPTY_HEADER; lines.saturating_sub(2).min(MAX_HEADERS)];
        let mut response = httparse::Response::new(&mut headers);
        match response.parse(bytes) {
            Ok(httparse::Status::Complete(end)) if end == bytes.len() => {}
            Err(httparse::Error::TooManyHeaders) => {
                return Err(ResponseError::Malformed("more than 100 headers"));
            }
            Ok(_) | Err(_) => return Err(ResponseError::Malformed("the head")),
        }
        let (Some(status), Some(minor)) = (response.code, response.version) else {
            return Err(ResponseError::Malformed("the head"));
        };
        match status {
            101 => {
                return Err(ResponseError::Malformed(
                    "it changes the protocol, which nobody asked for",
                ));
            }
            100..=199 => {
                self.state = State::Head {
                    scanned: 0,
                    line: 0,
                };
                return Ok(None);
            }
            0..=99 => return Err(ResponseError::Malformed("the status")),
            _ => {}
        }
        let fields = || response.headers.iter().map(|h| (h.name, h.value));
        let framing = Framing::of(fields());
        self.keep_alive = !framing.close && (minor == 1 || framing.keep_alive);
        self.state = match (self.asked, status) {
            (Asked::Head, _) | (_, 204 | 304) | (Asked::Connect, 200..=299) => State::Complete,
            (Asked::Connect | Asked::Other, _) => match framing.length(minor)? {
                Some(length) => State::Body(BodyReader::unlimited(length)),
                None => {
                    self.keep_alive = false;
                    State::UntilClose
                }
            },
        };
        let headers = fields().map(|(name, value)| (name.into(), value.to_vec()));
        Ok(Some(ResponseHead {
            status,
            headers: headers.collect(),
        }))
    }
}

/// Finds the end of the head at the start of `buffer`. Every byte is looked at once, however small the pieces are.
fn find_end(
    buffer: &[u8],
    scanned: &mut usize,
    line: &mut usize,
    room: usize,
) -> Result<Option<usize>, ResponseError> {
    if !START.iter().zip(buffer).all(|(own, byte)| own == byte) {
        return Err(ResponseError::NotHttp);
    }
    const TOO_LONG: ResponseError = ResponseError::Malformed("the head is too long");
    let fresh = buffer.get(*scanned..).unwrap_or_default();
    for place in memchr::memchr_iter(b'\n', fresh) {
        let end = scanned.saturating_add(place);
        match buffer.get(*line..end) {
            Some([b'\r']) if end < room => return Ok(Some(end + 1)),
            Some([.., b'\r']) if end < room => *line = end + 1,
            Some([.., b'\r']) => return Err(TOO_LONG),
            Some(_) | None => {
                return Err(ResponseError::Malformed("a LF without CR in the head"));
            }
        }
    }
    *scanned = buffer.len();
    if buffer.len() >= room {
        return Err(TOO_LONG);
    }
    Ok(None)
}

/// Facts that the headers tell about the message itself.
#[derive(Default)]
struct Framing<'h> {
    lengths: Vec<&'h [u8]>,
    codings: Vec<&'h [u8]>,
    close: bool,
    keep_alive: bool,
}

impl<'h> Framing<'h> {
    fn of(headers: impl Iterator<Item = (&'h str, &'h [u8])>) -> Self {
        let mut framing = Self::default();
        for (name, value) in headers {
            if name.eq_ignore_ascii_case("content-length") {
                framing.lengths.push(trim(value));
            } else if name.eq_ignore_ascii_case("transfer-encoding") {
                framing.codings.push(trim(value));
            } else if name.eq_ignore_ascii_case("connection") {
                for option in elements(value) {
                    framing.close |= option.eq_ignore_ascii_case(b"close");
                    framing.keep_alive |= option.eq_ignore_ascii_case(b"keep-alive");
                }
            }
        }
        framing
    }

    /// Length of a body (RFC 9112, 6.3); `None` for one that the end of the connection ends.
    fn length(&self, minor: u8) -> Result<Option<BodyLength>, ResponseError> {
        match (self.codings.as_slice(), self.lengths.as_slice()) {
            ([], []) => Ok(None),
            ([], [length]) => Ok(Some(BodyLength::Exact(parse_length(length)?))),
            ([coding], []) if minor == 1 => {
                check_coding(coding)?;
                Ok(Some(BodyLength::Chunked))
            }
            ([], _) => Err(ResponseError::Malformed(
                "more than one Content-Length header",
            )),
            ([_], []) => Err(ResponseError::Malformed("Transfer-Encoding in HTTP/1.0")),
            (_, []) => Err(ResponseError::Malformed(
                "more than one Transfer-Encoding header",
            )),
            (_, _) => Err(ResponseError::Malformed(
                "both Content-Length and Transfer-Encoding",
            )),
        }
    }
}
