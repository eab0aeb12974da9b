//! The rules that decide where a request ends and whom it is for.

use super::{RequestError, elements, is_token, trim};
use crate::text::{has_none, split_once};

/// The version of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Version {
    /// HTTP/1.0.
    Http10,
    /// HTTP/1.1.
    Http11,
}

/// Length of a request's body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyLength {
    /// Exactly so many bytes; 0 if the request has no body.
    Exact(u64),
    /// As many as the chunks have (`Transfer-Encoding: chunked`).
    Chunked,
}

/// Facts that the headers tell about the message itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestFraming<'a> {
    /// The body's length.
    pub body: BodyLength,
    /// The value of `Host`. Only an HTTP/1.0 request may lack it.
    pub host: Option<&'a str>,
    /// The client is willing to send another request on this connection.
    pub keep_alive: bool,
    /// The client waits for `100 Continue` before it sends the body.
    pub expect_continue: bool,
    /// The client asks to change the protocol (`Connection: upgrade`).
    pub upgrade: bool,
}

/// Checks the headers that frame a message and says what they mean.
///
/// Names may be of any case. This is for drivers whose HTTP library has parsed the head already, too: such libraries let pass a missing,
/// repeated or malformed `Host` and transfer codings beside `chunked`.
///
/// # Errors
/// 400 for a message whose end or host is not clear beyond doubt, 417 for an unknown expectation, 501 for a transfer coding other than
/// `chunked`.
pub fn check_framing<'a>(
    headers: impl Iterator<Item = (&'a str, &'a [u8])>,
    version: Version,
) -> Result<RequestFraming<'a>, RequestError> {
    let mut length = None;
    let mut coding: Option<&[u8]> = None;
    let mut host = None;
    let (mut close, mut keep_alive, mut expect_continue, mut upgrade) =
        (false, false, false, false);
    for (name, value) in headers {
        let value = trim(value);
        // Lengths tell most other headers apart without a comparison.
        match name.len() {
            4 if name.eq_ignore_ascii_case("host") => {
                once(&mut host, parse_host(value)?, "more than one Host header")?
            }
            6 if name.eq_ignore_ascii_case("expect") => {
                if !value.eq_ignore_ascii_case(b"100-continue") {
                    return Err(RequestError::new(
                        417,
                        "the only expectation supported is 100-continue",
                    ));
                }
                expect_continue = true;
            }
            10 if name.eq_ignore_ascii_case("connection") => {
                for option in elements(value) {
                    close |= option.eq_ignore_ascii_case(b"close");
                    keep_alive |= option.eq_ignore_ascii_case(b"keep-alive");
                    upgrade |= option.eq_ignore_ascii_case(b"upgrade");
                }
            }
            14 if name.eq_ignore_ascii_case("content-length") => {
                once(
                    &mut length,
                    parse_length(value)?,
                    "more than one Content-Length header",
                )?;
            }
            17 if name.eq_ignore_ascii_case("transfer-encoding") => {
                once(&mut coding, value, "more than one Transfer-Encoding header")?;
            }
            _ => {}
        }
    }
    let body = match (coding, length) {
        (Some(_), Some(_)) => {
            return Err(RequestError::bad(
                "both Content-Length and Transfer-Encoding",
            ));
        }
        (Some(_), None) if version == Version::Http10 => {
            return Err(RequestError::bad(
                "Transfer-Encoding in an HTTP/1.0 request",
            ));
        }
        (Some(value), None) => {
            check_coding(value)?;
            BodyLength::Chunked
        }
        (None, length) => BodyLength::Exact(length.unwrap_or(0)),
    };
    if host.is_none() && version == Version::Http11 {
        return Err(RequestError::bad("no Host header"));
    }
    Ok(RequestFraming {
        body,
        host,
        keep_alive: !close && (keep_alive || version == Version::Http11),
        // HTTP/1.0 has no interim responses, and without a body there is nothing to wait for.
        expect_continue: expect_continue
            && version == Version::Http11
            && body != BodyLength::Exact(0),
        upgrade: upgrade && version == Version::Http11,
    })
}

fn once<T>(slot: &mut Option<T>, value: T, repeated: &'static str) -> Result<(), RequestError> {
    match slot.replace(value) {
        Some(_) => Err(RequestError::bad(repeated)),
        None => Ok(()),
    }
}

pub(super) fn parse_length(value: &[u8]) -> Result<u64, RequestError> {
    const MALFORMED: RequestError = RequestError::bad("Content-Length is not one decimal number");
    if value.is_empty() {
        return Err(MALFORMED);
    }
    value.iter().try_fold(0u64, |sum, byte| {
        let digit = byte
            .is_ascii_digit()
            .then(|| u64::from(byte & 0x0F))
            .ok_or(MALFORMED)?;
        sum.checked_mul(10)
            .and_then(|sum| sum.checked_add(digit))
            .ok_or(RequestError::bad("Content-Length is beyond all bounds"))
    })
}

/// `chunked`, once and alone, is the only coding that is read.
pub(super) fn check_coding(value: &[u8]) -> Result<(), RequestError> {
    if value.eq_ignore_ascii_case(b"chunked") {
        return Ok(());
    }
    let (mut known, mut last_is_chunked) = (0u32, false);
    for coding in elements(value) {
        let name = trim(
            coding
                .split(|byte| *byte == b';')
                .next()
                .unwrap_or_default(),
        );
        if name.is_empty() || !name.iter().all(|byte| is_token(*byte)) {
            return Err(RequestError::bad("Transfer-Encoding is malformed"));
        }
        last_is_chunked = name.eq_ignore_ascii_case(b"chunked");
        if last_is_chunked {
            known = known.saturating_add(1);
            if name.len() != coding.len() {
                return Err(RequestError::bad(
                    "the transfer coding chunked has no parameters",
                ));
            }
        }
    }
    Err(match known {
        0 => RequestError::new(501, "the only transfer coding supported is chunked"),
        1 if last_is_chunked => {
            RequestError::new(501, "the only transfer coding supported is chunked, alone")
        }
        1 => RequestError::bad("chunked is not the last transfer coding"),
        _ => RequestError::bad("the transfer coding chunked is repeated"),
    })
}

/// `host [":" port]`, where the host is a name, an IPv4 address or an IPv6 address in brackets (RFC 9110, 7.2). Of the characters that the
/// standard lets a name have, those that no name in use has are refused.
fn parse_host(value: &[u8]) -> Result<&str, RequestError> {
    const MALFORMED: RequestError = RequestError::bad("the Host header is malformed");
    let text = core::str::from_utf8(value).map_err(|_| MALFORMED)?;
    let (name_is_right, port) = if let Some(literal) = text.strip_prefix('[') {
        let (address, rest) = literal.split_once(']').ok_or(MALFORMED)?;
        let port = if rest.is_empty() {
            None
        } else {
            Some(rest.strip_prefix(':').ok_or(MALFORMED)?)
        };
        (address.parse::<core::net::Ipv6Addr>().is_ok(), port)
    } else {
        let (name, port) =
            split_once(text, b':').map_or((text, None), |(name, port)| (name, Some(port)));
        let right = !name.is_empty()
            && has_none::<32>(name.as_bytes(), |b| {
                !b.is_ascii_alphanumeric() & !matches!(b, b'-' | b'.' | b'_' | b'~')
            });
        (right, port)
    };
    let port_is_right = port.is_none_or(|port| {
        !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit()) && port.parse::<u16>().is_ok()
    });
    if name_is_right && port_is_right {
        Ok(text)
    } else {
        Err(MALFORMED)
    }
}

/// Checks a request's target against its method and host (RFC 9112, 3.2), and gives its path and query.
///
/// The forms are `/path?query`; `http://host/path?query`, where the host must be the one of the `Host` header; and `*` for `OPTIONS`.
///
/// # Errors
/// 400 for any other target, 501 for `CONNECT`.
pub fn check_target<'t>(
    method: &str,
    target: &'t str,
    host: Option<&str>,
) -> Result<&'t str, RequestError> {
    if method == "CONNECT" {
        return Err(RequestError::new(501, "CONNECT is not supported"));
    }
    // Below '!' are white space and control characters; a fragment is the client's own affair and never sent. Of what else
    // RFC 3986 wants percent-encoded, parsers agree in refusing these.
    let is_wrong = |byte: u8| {
        (byte <= b' ')
            | (byte >= 0x7F)
            | (byte == b'#')
            | (byte == b'"')
            | (byte == b'<')
            | (byte == b'>')
            | (byte == b'`')
    };
    if !has_none::<32>(target.as_bytes(), is_wrong) {
        return Err(RequestError::bad(
            "the request target holds a character that must be percent-encoded",
        ));
    }
    if target.starts_with('/') || (target == "*" && method == "OPTIONS") {
        return Ok(target);
    }
    let rest = ["http://", "https://"].into_iter().find_map(|scheme| {
        let (start, rest) = target.split_at_checked(scheme.len())?;
        start.eq_ignore_ascii_case(scheme).then_some(rest)
    });
    let Some(rest) = rest else {
        return Err(RequestError::bad(
            "the request target is neither a path nor an http URI",
        ));
    };
    let (authority, path) = rest
        .split_at_checked(rest.find(['/', '?']).unwrap_or(rest.len()))
        .unwrap_or((rest, ""));
    if !host.is_some_and(|host| host.eq_ignore_ascii_case(authority)) {
        return Err(RequestError::bad(
            "the host of the request target is not the one of the Host header",
        ));
    }
    match path.bytes().next() {
        None => Ok("/"),
        Some(b'/') => Ok(path),
        // The path would have to be made up before the query.
        Some(_) => Err(RequestError::bad(
            "the request target has a query but no path",
        )),
    }
}
