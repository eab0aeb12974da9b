//! Screening of requests on their way to another parser.

use super::{BodyLength, BodyPart, BodyReader, HeadLimits, HeadReader, RequestError};

/// Bytes that every program can count.
const LENGTH: u64 = u64::MAX >> 1;

/// Follows the requests on a connection whose bytes go on to another HTTP/1.1 parser, and stops them before the first that
/// this module refuses. What passes is framed so clearly that no parser reads it differently.
///
/// Heads pass as a whole: a parser behind the screen never sees the start of one that is refused later.
#[derive(Debug)]
pub struct Screen {
    heads: HeadReader,
    /// Bytes that a body in chunks may have.
    chunks: u64,
    at: At,
    requests: u64,
}

#[derive(Debug)]
enum At {
    Head,
    Body(BodyReader),
    /// Behind a head that asks for another protocol, whose answer decides what the next bytes are.
    Upgrade,
    /// The bytes are no HTTP any more.
    Switched,
    Refused(Refused),
}

/// Place at which a screen has stopped, and the reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// At a head, of which nothing has passed.
    Head(RequestError),
    /// In the body of the request that passed last.
    Body(RequestError),
}

impl Screen {
    /// A screen for one connection. A body in chunks may have `chunks` bytes, so that none announces a chunk beyond all
    /// bounds; one that tells its length is left to whoever reads it, if any program can count to that.
    #[must_use]
    pub fn new(limits: HeadLimits, chunks: u64) -> Self {
        Self {
            heads: HeadReader::new(limits),
            chunks,
            at: At::Head,
            requests: 0,
        }
    }

    /// Returns the number of bytes at the start of `buffer` that may pass. Call again with a buffer that starts with
    /// the others, once there are more of them.
    #[must_use]
    pub fn pass(&mut self, buffer: &[u8]) -> usize {
        let mut rest = buffer;
        loop {
            self.at = match &mut self.at {
                At::Head => match self.heads.read(rest) {
                    Ok(None) => break,
                    Ok(Some(head)) => {
                        self.requests += 1;
                        let framing = head.framing();
                        let limit = match framing.body {
                            BodyLength::Exact(_) => LENGTH,
                            BodyLength::Chunked => self.chunks,
                        };
                        match BodyReader::new(framing.body, limit) {
                            Ok(body) => {
                                rest = rest.get(head.length()..).unwrap_or_default();
                                if body.is_complete() && framing.upgrade {
                                    At::Upgrade
                                } else {
                                    At::Body(body)
                                }
                            }
                            Err(error) => At::Refused(Refused::Head(error)),
                        }
                    }
                    Err(error) => {
                        self.requests += 1;
                        At::Refused(Refused::Head(error))
                    }
                },
                At::Body(body) => {
                    let mut input = rest;
                    match body.read(&mut input) {
                        Ok(part) => {
                            rest = input;
                            match part {
                                BodyPart::Data(_) => continue,
                                BodyPart::Partial => break,
                                BodyPart::Complete => At::Head,
                            }
                        }
                        Err(error) => At::Refused(Refused::Body(error)),
                    }
                }
                At::Switched => return buffer.len(),
                At::Upgrade | At::Refused(_) => break,
            };
        }
        buffer.len() - rest.len()
    }

    /// Returns the reason why nothing passes any more.
    #[must_use]
    pub const fn refused(&self) -> Option<Refused> {
        match self.at {
            At::Refused(refused) => Some(refused),
            At::Head | At::Body(_) | At::Upgrade | At::Switched => None,
        }
    }

    /// Requests so far, a refused one included.
    #[must_use]
    pub const fn requests(&self) -> u64 {
        self.requests
    }

    /// True when nothing passes until [`Screen::answered`] is told how a wish for another protocol was answered.
    #[must_use]
    pub const fn awaits_answer(&self) -> bool {
        matches!(self.at, At::Upgrade)
    }

    /// The wish for another protocol was answered with this status: after 101 all bytes pass, after any other final one
    /// the next request follows.
    pub const fn answered(&mut self, status: u16) {
        if let At::Upgrade = self.at {
            match status {
                101 => self.at = At::Switched,
                200.. => self.at = At::Head,
                _ => {}
            }
        }
    }
}
