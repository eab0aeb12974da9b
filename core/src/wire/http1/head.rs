//! Reading of request heads.

use super::{
    RequestError, RequestFraming, Version, check_framing, check_target, has_no_forbidden,
    is_forbidden, is_token,
};
use crate::text::has_none;
use alloc::vec;
use alloc::vec::Vec;

/// The most headers that a request may have.
pub const MAX_HEADERS: usize = 100;

/// Longer than any method that is registered.
const MAX_METHOD: usize = 32;

/// Bytes of `HTTP/1.1`.
const VERSION: usize = 8;

const NO_VERSION: &str = "the request line does not end with a version of HTTP";

/// Limits of a request's head, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeadLimits {
    /// The whole head with its last line break; beyond it 431.
    pub head: usize,
    /// The request target; beyond it 414.
    pub target: usize,
}

impl Default for HeadLimits {
    /// 64 KiB and 8 KiB.
    fn default() -> Self {
        Self {
            head: 64 << 10,
            target: 8 << 10,
        }
    }
}

/// Place of the reader in a head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    /// Before the request line, where one blank line is allowed (RFC 9112, 2.2).
    Start,
    /// In the method, which started at this byte.
    Method(usize),
    /// In the target, which started at this byte.
    Target(usize),
    /// In the version, which started at this byte.
    Version(usize),
    /// In a header.
    Line,
    /// Behind a line break, where a blank line ends the head.
    LineStart,
    /// Behind CR; the flag tells what the line break ends.
    Cr(Break),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Break {
    Leading,
    Line,
    Head,
}

/// Finds and reads the head of a request in a buffer that grows.
///
/// Every byte is looked at once for the end of the head, however small the pieces are, and a byte that can never be right is refused when it
/// comes. After an error the reader must not be used on.
#[derive(Debug)]
pub struct HeadReader {
    limits: HeadLimits,
    scanned: usize,
    /// Offset at which the request line starts.
    start: usize,
    at: At,
}

impl HeadReader {
    /// A reader for the requests of one connection.
    #[must_use]
    pub fn new(limits: HeadLimits) -> Self {
        Self {
            limits,
            scanned: 0,
            start: 0,
            at: At::Start,
        }
    }

    /// True when nothing of a request has been seen, so that the connection is idle and may be closed without an answer.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.scanned == 0
    }

    /// Reads the head of the request that starts at the start of `buffer`. `None` means that more bytes are needed; call again with a buffer
    /// that starts with the same bytes. After a head the reader is ready for the next request.
    ///
    /// # Errors
    /// 400 for what is no HTTP/1 request or not clearly framed, 414, 417, 431, 501, 505.
    pub fn read<'b>(&mut self, buffer: &'b [u8]) -> Result<Option<RequestHead<'b>>, RequestError> {
        let Some(length) = self.find_end(buffer)? else {
            return Ok(None);
        };
        let bytes = buffer.get(self.start..length).unwrap_or_default();
        *self = Self::new(self.limits);
        RequestHead::parse(bytes, length, self.limits.target).map(Some)
    }

    fn find_end(&mut self, buffer: &[u8]) -> Result<Option<usize>, RequestError> {
        let mut index = self.scanned;
        while let Some(&byte) = buffer.get(index) {
            if index >= self.limits.head {
                return Err(RequestError::new(431, "the request head is too long"));
            }
            let plain = match self.at {
                At::Line => {
                    let end = buffer.len().min(self.limits.head);
                    let line = plain(buffer.get(index..end).unwrap_or_default());
                    line + next_line(buffer.get(index + line..).unwrap_or_default())
                }
                At::Target(from) => {
                    let most = from.saturating_add(self.limits.target);
                    let end = buffer.len().min(self.limits.head).min(most);
                    visible(buffer.get(index..end).unwrap_or_default())
                }
                At::Start if index == 0 => match buffer {
                    // The methods of nearly all requests.
                    [b'P', b'O', b'S', b'T', b' ', ..] => {
                        self.at = At::Target(5);
                        5
                    }
                    [b'G', b'E', b'T', b' ', ..] => {
                        self.at = At::Target(4);
                        4
                    }
                    _ => 0,
                },
                At::Version(from) if from == index => {
                    let version = buffer.get(index..).unwrap_or_default();
                    match version.strip_prefix(b"HTTP/1.1").map_or(0, next_line) {
                        0 => 0,
                        line => {
                            self.at = At::Line;
                            VERSION + line
                        }
                    }
                }
                At::Start | At::Method(_) | At::Version(_) | At::LineStart | At::Cr(_) => 0,
            };
            if plain > 0 {
                index += plain;
                continue;
            }
            self.at = match (self.at, byte) {
                (At::Cr(Break::Leading), b'\n') => {
                    self.start = 2;
                    At::Start
                }
                (At::Cr(Break::Line), b'\n') => At::LineStart,
                (At::Cr(Break::Head), b'\n') => {
                    self.scanned = index + 1;
                    return Ok(Some(self.scanned));
                }
                (At::Cr(_), _) => {
                    return Err(RequestError::bad("a CR without LF in the request head"));
                }
                (_, b'\n') => return Err(RequestError::bad("a LF without CR in the request head")),
                (At::Start, b'\r') if self.start == 0 => At::Cr(Break::Leading),
                (At::LineStart, b'\r') => At::Cr(Break::Head),
                (At::Start | At::Method(_), b'\r') => {
                    return Err(RequestError::bad("the request line is malformed"));
                }
                (_, b'\r') => At::Cr(Break::Line),
                (_, byte) if is_forbidden(byte) => {
                    return Err(RequestError::bad("a control character in the request head"));
                }
                (At::Start, byte) if is_token(byte) => At::Method(index),
                (At::Method(from), byte) if is_token(byte) => {
                    if index - from >= MAX_METHOD {
                        return Err(RequestError::new(
                            501,
                            "the request method is not supported",
                        ));
                    }
                    At::Method(from)
                }
                (At::Method(_), b' ') => At::Target(index + 1),
                (At::Start | At::Method(_), _) => {
                    return Err(RequestError::bad(
                        "the request line does not start with a method",
                    ));
                }
                (At::Target(_), b' ') => At::Version(index + 1),
                (At::Target(from), _) => {
                    if index - from >= self.limits.target {
                        return Err(RequestError::new(414, "the request target is too long"));
                    }
                    At::Target(from)
                }
                (At::Version(from), byte) if byte != b' ' && index - from < VERSION => {
                    At::Version(from)
                }
                (At::Version(_), _) => return Err(RequestError::bad(NO_VERSION)),
                (At::LineStart, b' ' | b'\t') => {
                    return Err(RequestError::bad(
                        "a header line that starts with white space",
                    ));
                }
                (At::Line | At::LineStart, _) => At::Line,
            };
            index += 1;
        }
        self.scanned = buffer.len();
        Ok(None)
    }
}

/// Number of bytes at the start of a piece of a header line that stand for themselves there.
fn plain(line: &[u8]) -> usize {
    let end = memchr::memchr2(b'\r', b'\n', line).unwrap_or(line.len());
    let line = line.get(..end).unwrap_or_default();
    if has_no_forbidden(line) {
        return end;
    }
    let forbidden = line.iter().position(|byte| is_forbidden(*byte));
    forbidden.unwrap_or(end)
}

/// Two, where a line ends and a header line begins as it should. All else is looked at byte by byte.
fn next_line(rest: &[u8]) -> usize {
    match rest {
        [b'\r', b'\n', first, ..] if is_token(*first) => 2,
        _ => 0,
    }
}

/// Number of bytes at the start of a piece of a target that are neither blanks nor control characters.
fn visible(target: &[u8]) -> usize {
    let end = memchr::memchr2(b' ', b'\r', target).unwrap_or(target.len());
    let target = target.get(..end).unwrap_or_default();
    if has_none::<64>(target, |byte| (byte <= b' ') | (byte == 0x7F)) {
        return end;
    }
    let first = target
        .iter()
        .position(|byte| *byte <= b' ' || *byte == 0x7F);
    first.unwrap_or(end)
}

/// The head of a request, borrowed from the buffer it was read from.
#[derive(Clone, Debug)]
pub struct RequestHead<'b> {
    method: &'b str,
    target: &'b str,
    path: &'b str,
    version: Version,
    framing: RequestFraming<'b>,
    headers: Vec<httparse::Header<'b>>,
    length: usize,
}

impl<'b> RequestHead<'b> {
    fn parse(bytes: &'b [u8], length: usize, target_limit: usize) -> Result<Self, RequestError> {
        use httparse::Error;
        debug_assert!(length >= bytes.len());
        // Room for as many as there are: room for 100 would be 3 KB, which the thread's stack would keep and each move would copy.
        let lines = memchr::memchr_iter(b'\n', bytes).count();
        let mut headers = vec![httparse::EMPTY_HEADER; lines.saturating_sub(2).min(MAX_HEADERS)];
        let mut request = httparse::Request::new(&mut headers);
        match request.parse(bytes) {
            Ok(httparse::Status::Complete(end)) if end == bytes.len() => {}
            // The end was found before, so that neither may be.
            Ok(_) => return Err(RequestError::bad("the request head is malformed")),
            Err(Error::TooManyHeaders) => {
                return Err(RequestError::new(431, "more than 100 headers"));
            }
            Err(Error::Version) => return Err(version_error(bytes)),
            Err(Error::HeaderName) => {
                return Err(RequestError::bad("the name of a header is malformed"));
            }
            Err(Error::HeaderValue) => {
                return Err(RequestError::bad("the value of a header is malformed"));
            }
            Err(_) => return Err(RequestError::bad("the request line is malformed")),
        }
        let (Some(method), Some(target), Some(minor)) =
            (request.method, request.path, request.version)
        else {
            return Err(RequestError::bad("the request line is malformed"));
        };
        let count = request.headers.len();
        if target.len() > target_limit {
            return Err(RequestError::new(414, "the request target is too long"));
        }
        let version = if minor == 0 {
            Version::Http10
        } else {
            Version::Http11
        };
        headers.truncate(count);
        let framing = check_framing(fields(&headers), version)?;
        let path = check_target(method, target, framing.host)?;
        Ok(Self {
            method,
            target,
            path,
            version,
            framing,
            headers,
            length,
        })
    }

    /// The bytes of the buffer that the head took; what follows is the body.
    #[must_use]
    pub fn length(&self) -> usize {
        self.length
    }

    /// The method as sent; methods are case-sensitive.
    #[must_use]
    pub fn method(&self) -> &'b str {
        self.method
    }

    /// The request target as sent.
    #[must_use]
    pub fn target(&self) -> &'b str {
        self.target
    }

    /// Path and query of the target, whatever its form; `*` for `OPTIONS *`.
    #[must_use]
    pub fn path_and_query(&self) -> &'b str {
        self.path
    }

    /// The version.
    #[must_use]
    pub fn version(&self) -> Version {
        self.version
    }

    /// Length of the body, host and the wishes about the connection.
    #[must_use]
    pub fn framing(&self) -> &RequestFraming<'b> {
        &self.framing
    }

    /// All headers in the order they came, names as sent.
    pub fn headers(&self) -> impl DoubleEndedIterator<Item = (&'b str, &'b [u8])> {
        fields(&self.headers)
    }

    /// The value of the first header of that name, in any case.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&'b [u8]> {
        self.headers()
            .find_map(|(n, value)| n.eq_ignore_ascii_case(name).then_some(value))
    }

    /// The value of the first header of that name as text; `None` if it is not ASCII or UTF-8.
    #[must_use]
    pub fn header_str(&self, name: &str) -> Option<&'b str> {
        self.header(name)
            .and_then(|value| core::str::from_utf8(value).ok())
    }
}

fn fields<'h, 'b>(
    headers: &'h [httparse::Header<'b>],
) -> impl DoubleEndedIterator<Item = (&'b str, &'b [u8])> + use<'h, 'b> {
    headers.iter().map(|header| (header.name, header.value))
}

/// 505 for a version of HTTP that is not spoken, 400 for what is no version.
fn version_error(head: &[u8]) -> RequestError {
    let line = head.split(|byte| *byte == b'\r').next().unwrap_or_default();
    let version = line.rsplit(|byte| *byte == b' ').next().unwrap_or_default();
    match version {
        [b'H', b'T', b'T', b'P', b'/', b'0'..=b'9', b'.', b'0'..=b'9'] => {
            RequestError::new(505, "the versions supported are HTTP/1.1 and HTTP/1.0")
        }
        _ => RequestError::bad(NO_VERSION),
    }
}
