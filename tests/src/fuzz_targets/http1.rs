//! Requests on one HTTP/1.1 connection.

use mcp_local_provider_core::wire::http1::{BodyPart, BodyReader, HeadLimits, HeadReader};

/// Small, so that inputs of a few hundred bytes reach them.
const LIMITS: HeadLimits = HeadLimits {
    head: 512,
    target: 64,
};

/// Bytes of a body.
const BODY: u64 = 128;

/// However the bytes are cut on their way, the same requests come out of them, up to the same refusal.
pub fn http1(data: &[u8]) {
    let whole = serve(&[data]);
    for size in [1, 2 + data.len() % 61] {
        let pieces: Vec<&[u8]> = data.chunks(size).collect();
        assert_eq!(serve(&pieces), whole, "in pieces of {size} bytes");
    }
}

/// An event on a connection.
#[derive(Debug, PartialEq, Eq)]
enum Seen {
    Request {
        /// Method, path and query, version, framing.
        line: String,
        headers: Vec<(String, Vec<u8>)>,
        body: Vec<u8>,
    },
    /// The bytes end in a head or a body.
    Unfinished,
    Refused(u16, &'static str),
}

/// Reads requests as a driver does.
fn serve(pieces: &[&[u8]]) -> Vec<Seen> {
    let mut connection = Connection {
        pieces: pieces.iter(),
        buffer: Vec::new(),
    };
    let mut heads = HeadReader::new(LIMITS);
    let mut seen = Vec::new();
    loop {
        let next = connection.request(&mut heads);
        let over = match &next {
            Some(Seen::Request { .. }) => false,
            Some(Seen::Refused(status, message)) => {
                assert!((400..600).contains(status), "refused with {status}");
                assert!(!message.is_empty() && message.is_ascii(), "{message:?}");
                true
            }
            Some(Seen::Unfinished) | None => true,
        };
        seen.extend(next);
        if over {
            return seen;
        }
    }
}

struct Connection<'p> {
    pieces: std::slice::Iter<'p, &'p [u8]>,
    buffer: Vec<u8>,
}

impl Connection<'_> {
    /// Takes the next piece. False when there is none.
    fn more(&mut self) -> bool {
        let piece = self.pieces.next();
        self.buffer
            .extend_from_slice(piece.copied().unwrap_or_default());
        piece.is_some()
    }

    /// `None` when the bytes end between two requests.
    fn request(&mut self, heads: &mut HeadReader) -> Option<Seen> {
        let (line, headers, framing, length) = loop {
            match heads.read(&self.buffer) {
                Ok(Some(head)) => {
                    let framing = head.framing();
                    let line = format!(
                        "{} {} {:?} {framing:?}",
                        head.method(),
                        head.path_and_query(),
                        head.version(),
                    );
                    let headers = head.headers();
                    let headers = headers.map(|(name, value)| (name.to_owned(), value.to_vec()));
                    break (line, headers.collect(), framing.body, head.length());
                }
                Ok(None) => {
                    if !self.more() {
                        return (!heads.is_idle()).then_some(Seen::Unfinished);
                    }
                }
                Err(error) => return Some(Seen::Refused(error.status, error.message)),
            }
        };
        assert!(length <= LIMITS.head, "a head over its limit");
        self.buffer.drain(..length);
        let mut body = Vec::new();
        let mut reader = match BodyReader::new(framing, BODY) {
            Ok(reader) => reader,
            Err(error) => return Some(Seen::Refused(error.status, error.message)),
        };
        loop {
            let mut input = self.buffer.as_slice();
            let part = reader.read(&mut input);
            let complete = match part {
                Ok(BodyPart::Data(data)) => {
                    assert!(!data.is_empty(), "no bytes of a body");
                    body.extend_from_slice(data);
                    false
                }
                Ok(BodyPart::Partial) => {
                    assert!(input.is_empty(), "not all was read");
                    self.buffer.clear();
                    if !self.more() {
                        return Some(Seen::Unfinished);
                    }
                    continue;
                }
                Ok(BodyPart::Complete) => true,
                Err(error) => return Some(Seen::Refused(error.status, error.message)),
            };
            let used = self.buffer.len() - input.len();
            self.buffer.drain(..used);
            let read = u64::try_from(body.len()).unwrap();
            assert!(read <= BODY, "a body over its limit");
            if complete {
                assert!(reader.is_complete(), "a body that ends twice");
                return Some(Seen::Request {
                    line,
                    headers,
                    body,
                });
            }
        }
    }
}
