//! Reading of a server's response, whatever the pieces in which it comes.

use super::trouble::{Fault, Trouble};
use super::{Api, anthropic_answer, ollama_answer, openai_answer};
use crate::invocation::{Delivery, Delta, End};
use crate::request::Request;
use crate::wire::lines::{Line, Lines};
use crate::wire::sse::{Piece, Reader};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use core::time::Duration;

/// Bytes of an error's body that are read for its message.
const ERROR_BYTES: usize = 64 << 10;

/// Longest wait that a server may ask for.
const LONGEST_RETRY: u64 = 24 * 60 * 60;

/// Head of a response, as far as it tells how to read the body.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ResponseHead<'h> {
    /// HTTP status.
    pub status: u16,
    /// `Content-Type`.
    pub content_type: Option<&'h str>,
    /// `Content-Encoding`.
    pub content_encoding: Option<&'h str>,
    /// `Retry-After`; whole seconds count, a date does not.
    pub retry_after: Option<&'h str>,
}

/// The machine that reads one response: [`Reading::head`] once, [`Reading::bytes`] for each piece, and [`Reading::end`] or
/// [`Reading::lost`] once.
///
/// A call fails with a [`Trouble`] at most once, and only before the first step of the answer; what fails later is delivered as
/// [`Delivery::Failed`], in the server's words. After either, and after [`Delivery::End`], everything that follows is passed over.
#[derive(Debug)]
pub struct Reading {
    limit: usize,
    streamed: bool,
    status: u16,
    retry_after: Option<Duration>,
    body: Body,
    answer: Answer,
    begun: bool,
}

/// The body, by the form in which it comes.
enum Body {
    /// The head has not come, or the answer is over.
    Closed,
    Events(Reader),
    Lines(Lines),
    Whole(Vec<u8>),
    /// That of an error status.
    Error(Vec<u8>),
}

impl fmt::Debug for Body {
    /// Text is never shown.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Closed => "Closed",
            Self::Events(_) => "Events",
            Self::Lines(_) => "Lines",
            Self::Whole(_) => "Whole",
            Self::Error(_) => "Error",
        })
    }
}

/// What has come of an answer, by its API.
#[derive(Debug)]
enum Answer {
    OpenAi(openai_answer::Progress),
    Anthropic(anthropic_answer::Progress),
    Ollama(ollama_answer::Progress),
}

impl Answer {
    fn event(&mut self, data: &str, to: &mut Delivering<'_, '_>) -> Result<Step, Trouble> {
        match self {
            Self::OpenAi(answer) => answer.event(data, to),
            Self::Anthropic(answer) => answer.event(data, to),
            Self::Ollama(answer) => answer.line(data, to),
        }
    }

    fn whole(&mut self, body: &str, to: &mut Delivering<'_, '_>) -> Result<Step, Trouble> {
        match self {
            Self::OpenAi(answer) => answer.whole(body, to),
            Self::Anthropic(answer) => answer.whole(body, to),
            Self::Ollama(answer) => answer.whole(body, to),
        }
    }

    /// The end of a stream whose last mark has not come, where everything of the answer has.
    fn ended(&self) -> Option<End> {
        match self {
            Self::OpenAi(answer) => answer.ended(),
            Self::Anthropic(_) | Self::Ollama(_) => None,
        }
    }
}

/// State of an answer after one of its records.
#[must_use]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Step {
    More,
    Ended,
}

/// Where the steps of an answer go.
pub(super) struct Delivering<'d, 'f> {
    deliver: &'d mut (dyn FnMut(&Delivery<'_>) + 'f),
    begun: &'d mut bool,
}

impl Delivering<'_, '_> {
    /// More of the answer. An empty piece is a sign of life.
    pub(super) fn delta(&mut self, delta: Delta<'_>) {
        *self.begun |= !delta.is_empty();
        (self.deliver)(&Delivery::Delta(delta));
    }

    pub(super) fn vector(&mut self, numbers: &str) {
        *self.begun = true;
        (self.deliver)(&Delivery::Embedding(numbers));
    }

    pub(super) fn end(&mut self, end: End) -> Step {
        *self.begun = true;
        (self.deliver)(&Delivery::End(end));
        Step::Ended
    }

    pub(super) const fn has_begun(&self) -> bool {
        *self.begun
    }
}

impl Reading {
    /// A reading of the answer to [`call`](super::call). It holds at most `limit` bytes: of an event, a line, or a whole answer.
    #[must_use]
    pub fn new(api: Api, request: &Request, limit: usize) -> Self {
        Self {
            limit,
            streamed: request.is_streamed(),
            status: 0,
            retry_after: None,
            body: Body::Closed,
            answer: match api {
                Api::OpenAi | Api::Custom => Answer::OpenAi(openai_answer::Progress::default()),
                Api::Anthropic => {
                    let stops = request.invocation().parameters.stop;
                    Answer::Anthropic(anthropic_answer::Progress::new(stops))
                }
                Api::Ollama => Answer::Ollama(ollama_answer::Progress::default()),
            },
            begun: false,
        }
    }

    /// The failure that a response tells whose status is an error, or none that is expected.
    #[must_use]
    pub fn refused(head: &ResponseHead<'_>, body: &[u8]) -> Trouble {
        let body = body.get(..ERROR_BYTES).unwrap_or(body);
        let retry_after = head.retry_after.and_then(seconds);
        Trouble::of_response(head.status, retry_after, body)
    }

    /// Takes the head of the response. Of interim responses (1xx) it is told nothing.
    ///
    /// # Errors
    /// The response is none that can be read: a redirect, a content encoding, another type than the API has. An error status
    /// is told by [`Reading::end`], with the server's message.
    pub fn head(&mut self, head: &ResponseHead<'_>) -> Result<(), Trouble> {
        self.status = head.status;
        self.retry_after = head.retry_after.and_then(seconds);
        let encoding = head.content_encoding.map(str::trim).unwrap_or_default();
        let is_plain = encoding.is_empty() || encoding.eq_ignore_ascii_case("identity");
        match head.status {
            400..600 => {
                // The message of an encoded one cannot be read; the status can.
                self.body = Body::Error(Vec::new());
                if !is_plain {
                    let trouble = Trouble::of_response(head.status, self.retry_after, b"");
                    return self.fail(trouble, &mut |_| {});
                }
                return Ok(());
            }
            200..300 => {}
            status => {
                let why =
                    format!("status {status}, where 200 is expected; no redirect is followed");
                return self.unreadable(why);
            }
        }
        if !is_plain {
            let why = format!("the answer is encoded ({encoding}), which was not asked for");
            return self.unreadable(why);
        }
        let content_type = head.content_type.unwrap_or_default();
        let essence = content_type.split(';').next().unwrap_or_default().trim();
        let is = |name: &str| essence.eq_ignore_ascii_case(name);
        self.body = if is("text/event-stream") {
            Body::Events(Reader::new(self.limit))
        } else if is("application/x-ndjson") || is("application/jsonl") {
            Body::Lines(Lines::new(self.limit))
        } else if is("application/json") {
            Body::Whole(Vec::new())
        } else if essence.is_empty() {
            self.as_asked()
        } else {
            let why = format!("the answer is of type {essence}, not JSON; is the address right?");
            return self.unreadable(why);
        };
        Ok(())
    }

    /// The form of a body whose server does not say what it is.
    const fn as_asked(&self) -> Body {
        match (&self.answer, self.streamed) {
            (_, false) => Body::Whole(Vec::new()),
            (Answer::OpenAi(_) | Answer::Anthropic(_), true) => {
                Body::Events(Reader::new(self.limit))
            }
            (Answer::Ollama(_), true) => Body::Lines(Lines::new(self.limit)),
        }
    }

    fn unreadable(&mut self, why: String) -> Result<(), Trouble> {
        self.fail(Trouble::new(Fault::Protocol, why), &mut |_| {})
    }

    /// Takes the next bytes of the body, and delivers each step of the answer that ends in them.
    ///
    /// # Errors
    /// The response failed before the first step.
    pub fn bytes(
        &mut self,
        bytes: &[u8],
        deliver: &mut dyn FnMut(&Delivery<'_>),
    ) -> Result<(), Trouble> {
        let mut to = Delivering {
            deliver: &mut *deliver,
            begun: &mut self.begun,
        };
        let (answer, limit) = (&mut self.answer, self.limit);
        let mut step = Ok(Step::More);
        match &mut self.body {
            Body::Closed => return Ok(()),
            Body::Events(reader) => reader.push(bytes, |piece| {
                if step == Ok(Step::More) {
                    step = match piece {
                        Piece::Event(event) => answer.event(&event.data, &mut to),
                        Piece::Retry(_) => Ok(Step::More),
                        Piece::TooLong(_) => Err(too_long(limit)),
                    };
                }
            }),
            Body::Lines(lines) => lines.push(bytes, |line| {
                if step == Ok(Step::More) {
                    step = match line {
                        Line::Whole(line) => match core::str::from_utf8(line) {
                            Ok(line) => answer.event(line, &mut to),
                            Err(_) => Err(Trouble::not_json()),
                        },
                        Line::TooLong => Err(too_long(limit)),
                    };
                }
            }),
            Body::Whole(held) => {
                if held.len().saturating_add(bytes.len()) > limit {
                    step = Err(too_long(limit));
                } else {
                    held.extend_from_slice(bytes);
                }
            }
            Body::Error(held) => {
                let room = ERROR_BYTES.saturating_sub(held.len());
                let (head, rest) = bytes.split_at_checked(room).unwrap_or((bytes, b""));
                held.extend_from_slice(head);
                if !rest.is_empty() {
                    return self.end(deliver);
                }
            }
        }
        self.settle(step, deliver)
    }

    /// Takes the end of the body.
    ///
    /// # Errors
    /// As [`Reading::bytes`]; the server's error, where the status is one.
    pub fn end(&mut self, deliver: &mut dyn FnMut(&Delivery<'_>)) -> Result<(), Trouble> {
        let mut to = Delivering {
            deliver: &mut *deliver,
            begun: &mut self.begun,
        };
        let answer = &mut self.answer;
        let step = match &self.body {
            Body::Closed => return Ok(()),
            Body::Events(_) => Ok(Step::More),
            // The last line may have no end.
            Body::Lines(lines) => match core::str::from_utf8(lines.begun()) {
                Ok(line) if !line.trim().is_empty() => answer.event(line, &mut to),
                _ => Ok(Step::More),
            },
            Body::Whole(held) => match core::str::from_utf8(held) {
                Ok(body) => answer.whole(body, &mut to),
                Err(_) => Err(Trouble::not_json()),
            },
            Body::Error(held) => Err(Trouble::of_response(self.status, self.retry_after, held)),
        };
        let step = match (step, self.answer.ended()) {
            (Ok(Step::More), Some(end)) => Ok(to.end(end)),
            (Ok(Step::More), None) => Err(Trouble::too_early()),
            (step, _) => step,
        };
        self.settle(step, deliver)
    }

    /// Takes the loss of the connection, or a deadline, before the body's end.
    ///
    /// # Errors
    /// `trouble`, when the answer has not begun.
    pub fn lost(
        &mut self,
        trouble: Trouble,
        deliver: &mut dyn FnMut(&Delivery<'_>),
    ) -> Result<(), Trouble> {
        match &self.body {
            Body::Closed if self.begun || self.status != 0 => Ok(()),
            Body::Closed | Body::Events(_) | Body::Lines(_) | Body::Whole(_) => {
                self.fail(trouble, deliver)
            }
            // The status says more.
            Body::Error(_) => self.end(deliver),
        }
    }

    fn settle(
        &mut self,
        step: Result<Step, Trouble>,
        deliver: &mut dyn FnMut(&Delivery<'_>),
    ) -> Result<(), Trouble> {
        match step {
            Ok(Step::More) => Ok(()),
            Ok(Step::Ended) => {
                self.body = Body::Closed;
                Ok(())
            }
            Err(trouble) => self.fail(trouble, deliver),
        }
    }

    fn fail(
        &mut self,
        mut trouble: Trouble,
        deliver: &mut dyn FnMut(&Delivery<'_>),
    ) -> Result<(), Trouble> {
        self.body = Body::Closed;
        trouble.status = (self.status != 0).then_some(self.status);
        if !self.begun {
            return Err(trouble);
        }
        deliver(&Delivery::Failed(trouble.into_failure()));
        Ok(())
    }

    /// True once the head of a response has come whose status is no error.
    #[must_use]
    pub const fn has_succeeded(&self) -> bool {
        matches!(self.status, 200..300)
    }

    /// True once the head of the response has come.
    #[must_use]
    pub const fn is_answered(&self) -> bool {
        self.status != 0
    }

    /// True once a step of the answer has been delivered that a client may have seen: nobody else is asked from there on.
    #[must_use]
    pub const fn has_begun(&self) -> bool {
        self.begun
    }

    /// True once the answer has ended, well or not.
    #[must_use]
    pub const fn is_over(&self) -> bool {
        matches!(self.body, Body::Closed) && self.status != 0
    }

    /// Memory that it takes for what has no end yet, in bytes.
    #[must_use]
    pub fn held(&self) -> usize {
        match &self.body {
            Body::Closed => 0,
            Body::Events(reader) => reader.held(),
            Body::Lines(lines) => lines.begun().len(),
            Body::Whole(held) | Body::Error(held) => held.capacity(),
        }
    }
}

fn too_long(limit: usize) -> Trouble {
    let why = format!("a part of the answer is longer than {limit} bytes");
    Trouble::new(Fault::Protocol, why)
}

/// `Retry-After` in whole seconds (RFC 9110, 10.2.3).
fn seconds(text: &str) -> Option<Duration> {
    let seconds: u64 = text.trim().parse().ok()?;
    Some(Duration::from_secs(seconds.min(LONGEST_RETRY)))
}
