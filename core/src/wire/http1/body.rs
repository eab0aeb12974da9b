//! Reading of bodies.

use super::{BodyLength, RequestError, is_forbidden, is_token};

/// Digits of a chunk's size, leading zeros included.
const MAX_SIZE_DIGITS: u8 = 16;
/// Bytes of all chunk extensions of a body together.
const MAX_EXTENSIONS: usize = 4 << 10;
/// Bytes of a body's trailers.
const MAX_TRAILERS: usize = 8 << 10;

/// Result of [`BodyReader::read`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyPart<'b> {
    /// The next bytes of the body, never empty.
    Data(&'b [u8]),
    /// All input is consumed and more is needed.
    Partial,
    /// The body is over; input that is left belongs to the next request.
    Complete,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Bytes left of a body of known length.
    Exact(u64),
    Size {
        size: u64,
        digits: u8,
    },
    /// In an extension; the flag tells that it has a name.
    Extension {
        size: u64,
        named: bool,
    },
    SizeLf {
        size: u64,
    },
    /// Bytes left of a chunk.
    Data(u64),
    DataCr,
    DataLf,
    TrailerStart,
    TrailerName,
    TrailerValue,
    TrailerLf,
    LastLf,
    Complete,
    Failed(RequestError),
}

/// Takes the framing off a body that comes in pieces.
///
/// Chunk extensions are checked and ignored, trailers are checked and dropped; both are bounded. White space between a chunk's size and its
/// extension is refused.
#[derive(Debug)]
pub struct BodyReader {
    state: State,
    /// Bytes that the chunks to come may still have.
    left: u64,
    extensions: usize,
    trailers: usize,
}

const TOO_LARGE: RequestError = RequestError::new(413, "the request body is larger than the limit");

impl BodyReader {
    /// A reader for a body of at most `limit` bytes.
    ///
    /// # Errors
    /// 413 if the body is known to be larger.
    pub fn new(length: BodyLength, limit: u64) -> Result<Self, RequestError> {
        let mut reader = Self::unlimited(length);
        reader.limit(limit)?;
        Ok(reader)
    }

    /// A reader for a body of any length, until [`BodyReader::limit`] says otherwise.
    #[must_use]
    pub(super) const fn unlimited(length: BodyLength) -> Self {
        let state = match length {
            BodyLength::Exact(0) => State::Complete,
            BodyLength::Exact(length) => State::Exact(length),
            BodyLength::Chunked => State::Size { size: 0, digits: 0 },
        };
        Self {
            state,
            left: u64::MAX,
            extensions: 0,
            trailers: 0,
        }
    }

    /// A reader of no body.
    #[must_use]
    pub(super) const fn nothing() -> Self {
        Self::unlimited(BodyLength::Exact(0))
    }

    /// Bounds what is still unread to `limit` bytes.
    ///
    /// # Errors
    /// 413 if it is known to be more; the reader is then as it was.
    pub(super) const fn limit(&mut self, limit: u64) -> Result<(), RequestError> {
        match self.state {
            State::Exact(left) | State::Data(left) if left > limit => return Err(TOO_LARGE),
            State::Data(left) => self.left = limit - left,
            State::Exact(_)
            | State::Size { .. }
            | State::Extension { .. }
            | State::SizeLf { .. }
            | State::DataCr
            | State::DataLf
            | State::TrailerStart
            | State::TrailerName
            | State::TrailerValue
            | State::TrailerLf
            | State::LastLf
            | State::Complete
            | State::Failed(_) => self.left = limit,
        }
        Ok(())
    }

    /// True when the whole body has been read.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.state == State::Complete
    }

    /// The body's bytes that are known to come: all that are left of a body of known length, those of the chunk at hand otherwise.
    #[must_use]
    pub fn expected(&self) -> u64 {
        match self.state {
            State::Exact(left) | State::Data(left) => left,
            State::Size { .. }
            | State::Extension { .. }
            | State::SizeLf { .. }
            | State::DataCr
            | State::DataLf
            | State::TrailerStart
            | State::TrailerName
            | State::TrailerValue
            | State::TrailerLf
            | State::LastLf
            | State::Complete
            | State::Failed(_) => 0,
        }
    }

    /// Reads on; what is consumed is taken off the front of `input`.
    ///
    /// # Errors
    /// 400 for malformed chunks, 413 for a body over the limit, 431 for trailers over theirs; now and at every later call.
    pub fn read<'b>(&mut self, input: &mut &'b [u8]) -> Result<BodyPart<'b>, RequestError> {
        loop {
            match self.state {
                State::Complete => return Ok(BodyPart::Complete),
                State::Failed(error) => return Err(error),
                State::Exact(left) | State::Data(left) => {
                    if input.is_empty() {
                        return Ok(BodyPart::Partial);
                    }
                    let most = usize::try_from(left).unwrap_or(usize::MAX);
                    let (data, rest) = input.split_at_checked(most).unwrap_or((input, &[]));
                    *input = rest;
                    let left = left.saturating_sub(data.len() as u64);
                    self.state = match (self.state, left) {
                        (State::Exact(_), 0) => State::Complete,
                        (State::Exact(_), left) => State::Exact(left),
                        (_, 0) => State::DataCr,
                        (_, left) => State::Data(left),
                    };
                    return Ok(BodyPart::Data(data));
                }
                State::Size { .. }
                | State::Extension { .. }
                | State::SizeLf { .. }
                | State::DataCr
                | State::DataLf
                | State::TrailerStart
                | State::TrailerName
                | State::TrailerValue
                | State::TrailerLf
                | State::LastLf => {}
            }
            let Some((byte, rest)) = input.split_first() else {
                return Ok(BodyPart::Partial);
            };
            *input = rest;
            self.state = match self.step(*byte) {
                Ok(state) => state,
                Err(error) => State::Failed(error),
            };
        }
    }

    /// The state after one byte of framing.
    fn step(&mut self, byte: u8) -> Result<State, RequestError> {
        const BAD_SIZE: RequestError = RequestError::bad("the size of a chunk is malformed");
        const BAD_TRAILER: RequestError = RequestError::bad("a trailer is malformed");
        const BAD_BREAK: RequestError =
            RequestError::bad("a line break in a chunked body is not CR LF");
        match self.state {
            State::TrailerStart | State::TrailerName | State::TrailerValue => {
                self.trailers = self.trailers.saturating_add(1);
                if self.trailers > MAX_TRAILERS {
                    return Err(RequestError::new(431, "the trailers are too long"));
                }
            }
            State::Extension { .. } => {
                self.extensions = self.extensions.saturating_add(1);
                if self.extensions > MAX_EXTENSIONS {
                    return Err(RequestError::bad("the chunk extensions are too long"));
                }
            }
            State::Exact(_)
            | State::Size { .. }
            | State::SizeLf { .. }
            | State::Data(_)
            | State::DataCr
            | State::DataLf
            | State::TrailerLf
            | State::LastLf
            | State::Complete
            | State::Failed(_) => {}
        }
        Ok(match (self.state, byte) {
            (State::Size { size, digits }, byte) if byte.is_ascii_hexdigit() => {
                if digits >= MAX_SIZE_DIGITS {
                    return Err(RequestError::bad(
                        "the size of a chunk is beyond all bounds",
                    ));
                }
                let digit = char::from(byte).to_digit(16).unwrap_or(0);
                State::Size {
                    size: size << 4 | u64::from(digit),
                    digits: digits + 1,
                }
            }
            (State::Size { digits: 0, .. }, _) => return Err(BAD_SIZE),
            (State::Size { size, .. }, b';') => State::Extension { size, named: false },
            (State::Size { size, .. } | State::Extension { size, named: true }, b'\r') => {
                State::SizeLf { size }
            }
            (State::Size { .. }, _) => return Err(BAD_SIZE),
            (State::Extension { size, named: false }, b' ' | b'\t') => {
                State::Extension { size, named: false }
            }
            (State::Extension { size, named: false }, byte) if is_token(byte) => {
                State::Extension { size, named: true }
            }
            (State::Extension { size, named: true }, byte) if !is_forbidden(byte) => {
                State::Extension { size, named: true }
            }
            (State::Extension { .. }, _) => {
                return Err(RequestError::bad("a chunk extension is malformed"));
            }
            (State::SizeLf { size: 0 }, b'\n') => State::TrailerStart,
            (State::SizeLf { size }, b'\n') => {
                self.left = self.left.checked_sub(size).ok_or(TOO_LARGE)?;
                State::Data(size)
            }
            (State::DataCr, b'\r') => State::DataLf,
            (State::DataCr, _) => return Err(RequestError::bad("a chunk is longer than its size")),
            (State::DataLf, b'\n') => State::Size { size: 0, digits: 0 },
            (State::TrailerStart, b'\r') => State::LastLf,
            (State::TrailerStart | State::TrailerName, byte) if is_token(byte) => {
                State::TrailerName
            }
            (State::TrailerName, b':') => State::TrailerValue,
            (State::TrailerStart | State::TrailerName, _) => return Err(BAD_TRAILER),
            (State::TrailerValue, b'\r') => State::TrailerLf,
            (State::TrailerValue, byte) if !is_forbidden(byte) => State::TrailerValue,
            (State::TrailerValue, _) => return Err(BAD_TRAILER),
            (State::TrailerLf, b'\n') => State::TrailerStart,
            (State::LastLf, b'\n') => State::Complete,
            (State::SizeLf { .. } | State::DataLf | State::TrailerLf | State::LastLf, _) => {
                return Err(BAD_BREAK);
            }
            // Read elsewhere.
            (
                state @ (State::Exact(_) | State::Data(_) | State::Complete | State::Failed(_)),
                _,
            ) => state,
        })
    }
}
