//! Promises of the calls and the readings: what is said is read back by the readers of the same API here, and what is written
//! here is read as it was meant.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic
)]

mod answers;
mod faults;
mod lists;
mod requests;
mod round_trip;

use super::*;
use crate::config::{HubConfig, Limits};
use crate::dialect::{Answer, Form, Parsed};
use crate::error::Code;
use crate::exchange::Exchange;
use crate::id::Ids;
use crate::invocation::{Delivery, End, Failure};
use crate::text::{Joiner, JsonStr};
use crate::time::{Instant, WallClock};
use core::time::Duration;

/// Reads the body of a client's request.
type Reader = for<'b> fn(&'b str, &Limits) -> Result<Parsed<'b>, Refusal>;

const APIS: [Api; 4] = [Api::OpenAi, Api::Custom, Api::Anthropic, Api::Ollama];

/// A client's request as the exchange keeps it.
fn request(form: &Form, body: &str) -> Request {
    let wall = WallClock::new(Instant::from_micros(1), Duration::from_secs(1_767_225_600));
    let id = Ids::new(1).next();
    let now = Instant::from_micros(1);
    let config = HubConfig::default();
    let parsed = Exchange::parse(&config, wall, id, form, now, body.into());
    parsed
        .unwrap_or_else(|refusal| panic!("{refusal:?}: {body}"))
        .1
        .request
}

/// What a server is told of a request.
fn said(api: Api, form: &Form, body: &str) -> Result<Call, Refusal> {
    let request = request(form, body);
    call(
        api,
        &request,
        PromptIndex(0),
        "theirs",
        ClientHeaders::default(),
    )
}

/// What became of an answer.
#[derive(Debug, Default)]
struct Outcome {
    answer: Answer,
    ends: Vec<Result<End, Failure<'static>>>,
    trouble: Vec<Trouble>,
    /// Most bytes that were held at once.
    held: usize,
}

impl PartialEq for Outcome {
    /// Whatever was held.
    fn eq(&self, other: &Self) -> bool {
        (&self.answer, &self.ends, &self.trouble) == (&other.answer, &other.ends, &other.trouble)
    }
}

impl Outcome {
    fn content(&self) -> &str {
        core::str::from_utf8(&self.answer.content).unwrap()
    }

    /// The only end, well or not.
    fn end(&self) -> End {
        assert!(self.trouble.is_empty(), "{:?}", self.trouble);
        assert_eq!(self.ends.len(), 1, "{:?}", self.ends);
        self.ends[0].clone().unwrap()
    }

    /// What failed: before the first step, or after it.
    fn failed(&self) -> (bool, Code, &str) {
        match (&*self.trouble, &*self.ends) {
            ([trouble], []) => (false, trouble.code(), &trouble.message),
            ([], [Err(failure)]) => (true, failure.code, &failure.message),
            other => panic!("{other:?}"),
        }
    }
}

/// Takes the steps of an answer.
struct Taking {
    outcome: Outcome,
    content: Joiner,
    reasoning: Joiner,
}

impl Taking {
    fn new() -> Self {
        Self {
            outcome: Outcome::default(),
            content: Joiner::default(),
            reasoning: Joiner::default(),
        }
    }

    fn take(&mut self, delivery: &Delivery<'_>) {
        assert!(self.outcome.ends.is_empty(), "{delivery:?} after the end");
        let answer = &mut self.outcome.answer;
        let mut scratch = Vec::new();
        match delivery {
            Delivery::Delta(delta) => {
                let text = self.content.mend(delta.content, &mut scratch);
                answer.content.extend_from_slice(text);
                let mut scratch = Vec::new();
                let text = self.reasoning.mend(delta.reasoning, &mut scratch);
                answer.reasoning.extend_from_slice(text);
                let refusal = delta.refusal.as_escaped();
                answer.refusal.extend_from_slice(refusal.as_bytes());
                for call in &delta.tool_calls {
                    let bytes = |text: JsonStr<'_>| Vec::from(text.as_escaped());
                    let (id, name) = (bytes(call.id), bytes(call.name));
                    answer.tool_call(call.index, &id, &name, &bytes(call.arguments));
                }
            }
            Delivery::Embedding(vector) => answer.embeddings.push((*vector).into()),
            Delivery::End(end) => self.outcome.ends.push(Ok(*end)),
            Delivery::Failed(failure) => self.outcome.ends.push(Err(Failure {
                code: failure.code,
                message: String::from(&*failure.message).into(),
                retry_after: failure.retry_after,
            })),
        }
    }
}

const EVENTS: &str = "text/event-stream; charset=utf-8";
const LINES: &str = "application/x-ndjson";
const JSON: &str = "application/json";

const fn head(status: u16, content_type: Option<&str>) -> ResponseHead<'_> {
    ResponseHead {
        status,
        content_type,
        content_encoding: None,
        retry_after: None,
    }
}

/// Reads a response that comes in pieces, and ends well or is lost.
fn read(
    reading: &mut Reading,
    head: &ResponseHead<'_>,
    pieces: &[&[u8]],
    lost: Option<Trouble>,
) -> Outcome {
    let mut taking = Taking::new();
    let mut trouble = Vec::new();
    let mut held = 0;
    trouble.extend(reading.head(head).err());
    for piece in pieces {
        trouble.extend(reading.bytes(piece, &mut |it| taking.take(it)).err());
        held = held.max(reading.held());
    }
    let end = match lost {
        None => reading.end(&mut |it| taking.take(it)),
        Some(lost) => reading.lost(lost, &mut |it| taking.take(it)),
    };
    trouble.extend(end.err());
    assert!(reading.is_over());
    assert_eq!(reading.held(), 0);
    Outcome {
        trouble,
        held,
        ..taking.outcome
    }
}

fn limit() -> usize {
    Limits::default().agent_frame_bytes
}

/// Reads the whole of a response to a chat.
fn answer(api: Api, content_type: &str, body: &str) -> Outcome {
    let mut reading = Reading::new(api, &chat(true), limit());
    read(
        &mut reading,
        &head(200, Some(content_type)),
        &[body.as_bytes()],
        None,
    )
}

/// A request for a chat with two stop sequences.
fn chat(stream: bool) -> Request {
    let body = alloc::format!(
        r#"{{"model":"m","stream":{stream},"stop":["END","HALT"],"messages":[{{"role":"user","content":"hi"}}]}}"#
    );
    request(&crate::dialect::openai::CHAT, &body)
}
