//! The HTTP/1.1 codec against another one: `ureq-proto`, which has its own framing and its own reader of chunks.

use mcp_local_provider_core::wire::http1::{
    BodyLength, BodyPart, BodyReader, HeadLimits, HeadReader, Version,
};
use std::collections::BTreeMap;
use ureq_proto::http::{self, Request};
use ureq_proto::server::state::{RecvBody, RecvRequest};
use ureq_proto::server::{RecvRequestResult, Reply};

/// Bytes of a body.
const BODY: u64 = 4096;

/// Every request that this codec accepts is read by the other one too, with the same end: a difference in the end would
/// allow request smuggling (RFC 9112, section 11.2).
pub fn http1_differential(data: &[u8]) {
    let mut rest = data;
    let mut heads = HeadReader::new(HeadLimits::default());
    while !rest.is_empty() {
        let head = match heads.read(rest) {
            Ok(Some(head)) => head,
            Ok(None) => {
                let other = Reply::<RecvRequest>::new().unwrap().try_request(rest);
                let waits = other.is_err() || matches!(other, Ok((_, None)));
                assert!(waits, "the other codec reads a head that is not there");
                return;
            }
            Err(_) => return,
        };
        let mut other = Reply::<RecvRequest>::new().unwrap();
        // Any method may have a body, as the framing says.
        other.force_recv_body();
        let (length, request) = match other.try_request(rest) {
            Ok((length, Some(request))) => (length, request),
            refused => panic!("the other codec refuses the head: {refused:?}"),
        };
        assert_eq!(length, head.length(), "the length of the head");
        assert_eq!(request.method().as_str(), head.method());
        assert_eq!(path(&request), head.path_and_query());
        let version = match head.version() {
            Version::Http10 => http::Version::HTTP_10,
            Version::Http11 => http::Version::HTTP_11,
        };
        assert_eq!(request.version(), version);
        assert_eq!(headers(&request), own_headers(head.headers()));

        rest = &rest[length..];
        let length = head.framing().body;
        if !is_framed(&request) {
            // The other codec takes a POST without either to be in chunks; RFC 9112, 6.3 says that it has no body.
            assert_eq!(length, BodyLength::Exact(0));
            continue;
        }
        let Some((body, used)) = body(length, rest) else {
            return;
        };
        match other_body(other, rest) {
            Ok((other_body, other_used)) => {
                assert_eq!(other_body, body, "the body");
                assert_eq!(other_used, used, "where the body ends");
            }
            Err(error) => {
                // It takes no line of more than 20 bytes before a chunk.
                let extended = length == BodyLength::Chunked && rest[..used].contains(&b';');
                assert!(extended, "the other codec refuses the body: {error}");
            }
        }
        rest = &rest[used..];
    }
}

/// True when headers say how long the body is.
pub(super) fn is_framed(request: &Request<()>) -> bool {
    let framed = ["content-length", "transfer-encoding"];
    framed
        .iter()
        .any(|name| request.headers().contains_key(*name))
}

pub(super) fn path(request: &Request<()>) -> &str {
    request
        .uri()
        .path_and_query()
        .map_or("/", |path| path.as_str())
}

type Headers = BTreeMap<String, Vec<Vec<u8>>>;

fn headers(request: &Request<()>) -> Headers {
    let headers = request.headers().iter();
    own_headers(headers.map(|(name, value)| (name.as_str(), value.as_bytes())))
}

/// The values of each name, in the order in which they came.
fn own_headers<'h>(headers: impl Iterator<Item = (&'h str, &'h [u8])>) -> Headers {
    let mut named = Headers::new();
    for (name, value) in headers {
        let values = named.entry(name.to_ascii_lowercase()).or_default();
        values.push(value.to_vec());
    }
    named
}

/// The body and how many bytes it took; `None` when it is refused or not all there.
fn body(length: BodyLength, input: &[u8]) -> Option<(Vec<u8>, usize)> {
    let mut reader = BodyReader::new(length, BODY).ok()?;
    let (mut rest, mut body) = (input, Vec::new());
    loop {
        match reader.read(&mut rest).ok()? {
            BodyPart::Data(data) => body.extend_from_slice(data),
            BodyPart::Partial => return None,
            BodyPart::Complete => return Some((body, input.len() - rest.len())),
        }
    }
}

pub(super) fn other_body(
    head: Reply<RecvRequest>,
    input: &[u8],
) -> Result<(Vec<u8>, usize), String> {
    let mut reader: Reply<RecvBody> = match head.proceed() {
        Some(RecvRequestResult::RecvBody(reader)) => reader,
        Some(RecvRequestResult::Send100(asks)) => {
            let accepted = asks
                .accept(&mut [0; 64])
                .map_err(|error| error.to_string())?;
            accepted.1
        }
        Some(RecvRequestResult::ProvideResponse(_)) => return Ok((Vec::new(), 0)),
        None => return Err("there is no head".to_owned()),
    };
    let (mut used, mut body) = (0, Vec::new());
    let mut piece = vec![0; usize::try_from(BODY).unwrap()];
    while !reader.is_ended() {
        let read = reader.read(&input[used..], &mut piece);
        let (taken, given) = read.map_err(|error| error.to_string())?;
        if (taken, given) == (0, 0) {
            return Err("it waits for more".to_owned());
        }
        used += taken;
        body.extend_from_slice(&piece[..given]);
    }
    Ok((body, used))
}
