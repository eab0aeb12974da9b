//! Clients that answer as models (`/mcp/agent`): the server that they see has one tool, `serve`, and asks them by sampling.
//!
//! A [`Serving`] is one such client. In a revision with sessions a question is a request on the stream of an open call, or on the
//! session's own stream where no call is open. In revision 2026-07-28 an open call is answered with the questions that wait, and
//! the client's next request, with the state that it was given, brings the answers and is the open call from then on: one round.
//! What a question asks is text that is not looked into, and `Q` says whose it is.
//!
//! ```mermaid
//! stateDiagram-v2
//!     [*] --> Alone: initialize
//!     [*] --> There: serve (2026-07-28)
//!     Alone --> There: a stream is read, serve
//!     There --> Alone: no stream is read, the call has ended
//!     There --> Round: questions (2026-07-28)
//!     Round --> There: their answers
//!     Round --> Alone: all are withdrawn
//!     Alone --> [*]: after 60 s, 5 s if a stream was cut
//!     There --> [*]: the client closes its call (2026-07-28), DELETE
//! ```

mod replies;
#[cfg(test)]
mod tests;

pub use replies::{Asked, Hello, Last, in_session, without_session};

use crate::config::Resume;
use crate::envelope::{RESPONSES, STATE};
use crate::refusal::{Reason, Refusal};
use crate::revision::Revision;
use crate::stateless::several::OWN;
use crate::stateless::{Wanted, raise};
use crate::streams::{Overflow, StreamId, Streams, Weight};
use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use core::task::Waker;
use core::time::Duration;
use mcp_local_provider_core::budget::Share;
use mcp_local_provider_core::rpc::Json;
use mcp_local_provider_core::text::JsonValue;
use mcp_local_provider_core::time::Instant;

/// The tool that a client calls.
pub const TOOL: &str = "serve";

/// The method by which a client is asked.
const QUESTION: &str = "sampling/createMessage";

/// Time for which a client may be away between two calls.
pub const GAP: Duration = Duration::from_secs(60);

/// Time for which a client may be away whose stream was cut, or that has a question: its package connects the stream again within it,
/// if it does.
pub const LOST: Duration = Duration::from_secs(5);

/// Rounds of one call. The official packages of both languages give a call up after ten by default.
const ROUNDS: u32 = 8;

/// Calls that may be open in one session.
const CALLS: usize = 16;

/// The protocol between a client and this program.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Spoken {
    /// A revision with sessions.
    Sessions(Revision),
    /// Revision 2026-07-28.
    Stateless,
}

impl Spoken {
    /// True when a message may have several blocks, and tools.
    #[must_use]
    pub fn has_lists(self) -> bool {
        match self {
            Self::Sessions(revision) => revision >= Revision::V2025_11_25,
            Self::Stateless => true,
        }
    }
}

/// The place of a question.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Place {
    /// Nobody could be asked yet.
    Waiting,
    /// It was put on this stream.
    Told(StreamId),
    /// It is in the client's round.
    Round,
}

struct Question<Q> {
    of: Q,
    params: String,
    place: Place,
}

/// An open call of the tool.
struct OpenCall {
    /// The request's id, as JSON.
    id: Box<str>,
    stream: StreamId,
    until: Instant,
    rounds: u32,
    /// Its stream has had a reader.
    was_read: bool,
}

/// Questions that the client has, in revision 2026-07-28.
struct Round {
    number: u64,
    questions: Vec<u64>,
    until: Instant,
    rounds: u32,
}

/// One client that answers as a model.
pub struct Serving<Q> {
    /// Nobody can guess it.
    name: Box<str>,
    spoken: Spoken,
    streams: Streams,
    /// By their numbers, which are the ids of requests.
    questions: BTreeMap<u64, Question<Q>>,
    last_question: u64,
    calls: Vec<OpenCall>,
    round: Option<Round>,
    last_round: u64,
    /// Since when the client is away.
    left: Option<Instant>,
    /// It has read the session's own stream, and is there as long as it does.
    listens: bool,
    is_over: bool,
    share: Option<Share>,
}

impl<Q> fmt::Debug for Serving<Q> {
    /// Without the name and without questions.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (questions, calls) = (self.questions.len(), self.calls.len());
        write!(
            f,
            "Serving({:?}, {questions} questions, {calls} calls)",
            self.spoken
        )
    }
}

impl<Q: Copy + PartialEq> Serving<Q> {
    /// A client that has just come. `most_unread` bytes may wait for it; the shares count what waits and what is kept against the
    /// memory that all queues have together.
    #[must_use]
    pub fn new(
        now: Instant,
        name: &str,
        spoken: Spoken,
        most_unread: usize,
        shares: Option<[Share; 2]>,
    ) -> Self {
        let (share, of_streams) = match shares {
            Some([share, of_streams]) => (Some(share), Some(of_streams)),
            None => (None, None),
        };
        // A conversation may be longer than what is usually kept of a session.
        let resume = Resume {
            bytes: most_unread,
            ..Resume::default()
        };
        Self {
            name: name.into(),
            spoken,
            streams: Streams::new(resume, most_unread, of_streams),
            questions: BTreeMap::new(),
            last_question: 0,
            calls: Vec::new(),
            round: None,
            last_round: 0,
            left: Some(now),
            listens: false,
            is_over: false,
            share,
        }
    }

    /// The protocol.
    #[must_use]
    pub const fn spoken(&self) -> Spoken {
        self.spoken
    }

    /// The streams, to be read.
    #[must_use]
    pub const fn streams(&self) -> &Streams {
        &self.streams
    }

    /// The same, to be read from.
    pub const fn streams_mut(&mut self) -> &mut Streams {
        &mut self.streams
    }

    /// True once the client is gone, or nothing more is asked of it.
    #[must_use]
    pub const fn is_over(&self) -> bool {
        self.is_over
    }

    /// True when another call of the same client may go on with it (revision 2026-07-28): none is open, and it has no question.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        !self.is_over && self.calls.is_empty() && !self.has_round()
    }

    /// True when the client has a question that somebody waits for.
    fn has_round(&self) -> bool {
        let questions = self.round.iter().flat_map(|round| &round.questions);
        let mut questions = questions.filter_map(|number| self.questions.get(number));
        questions.any(|question| question.place == Place::Round)
    }

    /// The client calls the tool, for so long at most. Gives the stream of the answer, whose reader is to be told by
    /// [`Serving::attend`].
    ///
    /// # Errors
    /// As many calls are open as may be.
    pub fn serve(
        &mut self,
        now: Instant,
        id: &str,
        time: Duration,
        wake: &mut Vec<Waker>,
    ) -> Result<StreamId, Refusal> {
        if self.calls.len() >= CALLS {
            let message = format!("{CALLS} calls of `{TOOL}` are open already");
            return Err(Refusal::new(Reason::InFlightFull, message));
        }
        // Nobody waits for what is in an earlier round any more.
        self.round = None;
        let stream = self.call(id, now + time, 0);
        self.ask_waiting(now, wake);
        Ok(stream)
    }

    fn call(&mut self, id: &str, until: Instant, rounds: u32) -> StreamId {
        let stream = self.streams.open(1);
        self.calls.push(OpenCall {
            id: id.into(),
            stream,
            until,
            rounds,
            was_read: false,
        });
        self.left = None;
        stream
    }

    /// The client goes on with its call (revision 2026-07-28) and brings answers, each of which is given to `answered`. Questions
    /// without one are asked again. Gives the stream of the answer.
    ///
    /// # Errors
    /// The state is not that of the client's round, or an answer is none.
    pub fn go_on<'m>(
        &mut self,
        now: Instant,
        wanted: &Wanted<'m>,
        wake: &mut Vec<Waker>,
        answered: &mut dyn FnMut(Q, JsonValue<'m>),
    ) -> Result<StreamId, Refusal> {
        let wrong = |message: &str| Err(Refusal::new(Reason::BadParams, message));
        let state = wanted.param(STATE).and_then(JsonValue::text);
        let number = state.as_deref().and_then(name_of).map(|(_, number)| number);
        if self.round.as_ref().map(|round| round.number) != number {
            return wrong("`requestState` was used already, or its call is over");
        }
        let given = wanted.param(RESPONSES);
        let members = given.map(JsonValue::members).unwrap_or_default();
        let is_object = |value: &JsonValue<'_>| value.get().starts_with('{');
        if given.is_some_and(|given| !is_object(&given))
            || members.iter().any(|(_, value)| !is_object(value))
        {
            return wrong("`inputResponses` is no object, or a value in it is none");
        }
        let Some(round) = self.round.take() else {
            return wrong("`requestState` is missing");
        };
        for number in round.questions {
            let name = key(number);
            let answer = members.iter().find(|(member, _)| member.is(&name));
            match (answer, self.questions.get_mut(&number)) {
                (Some((_, answer)), Some(question)) => {
                    answered(question.of, *answer);
                    self.questions.remove(&number);
                }
                (None, Some(question)) => question.place = Place::Waiting,
                // It was withdrawn.
                (_, None) => {}
            }
        }
        self.hold();
        let stream = self.call(wanted.id.get(), round.until, round.rounds);
        if round.rounds >= ROUNDS || round.until <= now {
            self.finish(now, Last::Again, wake, |call| call.stream == stream);
        } else {
            self.ask_waiting(now, wake);
        }
        Ok(stream)
    }

    /// Asks the client, now or as soon as it can be asked. `params` are those of `sampling/createMessage`.
    pub fn ask(&mut self, now: Instant, of: Q, params: String, wake: &mut Vec<Waker>) {
        self.last_question += 1;
        self.questions.insert(
            self.last_question,
            Question {
                of,
                params,
                place: Place::Waiting,
            },
        );
        self.hold();
        self.ask_waiting(now, wake);
    }

    /// Nobody wants the answer to a question any more. The client is told where the protocol has a way.
    pub fn withdraw(&mut self, now: Instant, of: Q, reason: &str, wake: &mut Vec<Waker>) {
        let found = self
            .questions
            .iter()
            .find(|(_, question)| question.of == of);
        let Some((number, place)) = found.map(|(number, question)| (*number, question.place))
        else {
            return;
        };
        self.questions.remove(&number);
        self.hold();
        match place {
            Place::Waiting => {}
            Place::Told(stream) => {
                let mut json = Json::notification("notifications/cancelled");
                json.member("requestId").raw(&format!("{number}"));
                json.member("reason").string(reason);
                json.raw("}}");
                // The answer to a call may have ended its stream.
                let stream = match self.streams.is_complete(stream) {
                    true => StreamId::SESSION,
                    false => stream,
                };
                self.push(now, stream, Weight::Heavy, json.finish(), wake);
            }
            Place::Round if self.has_round() => {}
            Place::Round => self.left = Some(now),
        }
        self.end_calls(now, wake);
    }

    /// The client has answered the request with this id. Gives whose question that was; `None` when nobody waits for it.
    pub fn answered(
        &mut self,
        now: Instant,
        id: JsonValue<'_>,
        wake: &mut Vec<Waker>,
    ) -> Option<Q> {
        // Some programs make a string of a number.
        let number = id.get().trim_matches('"').parse().ok()?;
        let is_told = |question: &Question<Q>| matches!(question.place, Place::Told(_));
        self.questions
            .get(&number)
            .filter(|question| is_told(question))?;
        let question = self.questions.remove(&number)?;
        self.hold();
        self.end_calls(now, wake);
        Some(question.of)
    }

    /// The client takes its call back (`notifications/cancelled`), which is not answered then.
    pub fn cancelled(&mut self, now: Instant, id: JsonValue<'_>, wake: &mut Vec<Waker>) {
        let Some(at) = self.calls.iter().position(|call| *call.id == *id.get()) else {
            return;
        };
        let call = self.calls.swap_remove(at);
        match self.streams.give_up(now, call.stream) {
            Ok(reader) => wake.extend(reader),
            Err(Overflow) => self.is_over = true,
        }
    }

    /// A reader has come to a stream, or has left one. Who closes its call in revision 2026-07-28 has gone.
    pub fn attend(&mut self, now: Instant, wake: &mut Vec<Waker>) {
        self.listens |= self.streams.is_read(StreamId::SESSION);
        match self.spoken {
            Spoken::Sessions(_) if self.streams.is_attended() => self.left = None,
            Spoken::Sessions(_) => {
                self.left.get_or_insert(now);
            }
            Spoken::Stateless => {
                for call in &mut self.calls {
                    // The reader of one that has just begun is on its way.
                    let is_read = self.streams.is_read(call.stream);
                    self.is_over |= call.was_read && !is_read;
                    call.was_read |= is_read;
                }
            }
        }
        self.ask_waiting(now, wake);
    }

    /// Puts the questions that wait where the client reads.
    fn ask_waiting(&mut self, now: Instant, wake: &mut Vec<Waker>) {
        let waiting = self.questions.iter();
        let waiting = waiting.filter(|(_, question)| question.place == Place::Waiting);
        let numbers: Vec<u64> = waiting.map(|(number, _)| *number).collect();
        if numbers.is_empty() || self.is_over {
            return;
        }
        match self.spoken {
            Spoken::Sessions(_) => {
                let open = self.calls.iter().rev();
                let mut open =
                    open.filter(|call| now < call.until && self.streams.is_read(call.stream));
                let stream = match open.next() {
                    Some(call) => call.stream,
                    None if self.streams.is_read(StreamId::SESSION) => StreamId::SESSION,
                    None => return,
                };
                for number in numbers {
                    let Some(question) = self.questions.get_mut(&number) else {
                        continue;
                    };
                    question.place = Place::Told(stream);
                    // It is kept by its stream from now on.
                    let params = core::mem::take(&mut question.params);
                    let mut json = Json::new();
                    json.reserve(params.len());
                    json.raw("{\"jsonrpc\":\"2.0\"");
                    json.member("id").raw(&format!("{number}"));
                    json.member("method").string(QUESTION);
                    json.member("params").raw(&params);
                    json.raw("}");
                    self.push(now, stream, Weight::Heavy, json.finish(), wake);
                }
            }
            Spoken::Stateless => {
                let Some(call) = self.calls.pop() else {
                    return;
                };
                self.last_round += 1;
                let text = self.round_of(&numbers);
                let text = raise::result(&call.id, JsonValue::read(&text), "tools/call", Some(OWN));
                self.round = Some(Round {
                    number: self.last_round,
                    questions: numbers,
                    until: call.until,
                    rounds: call.rounds + 1,
                });
                self.push(now, call.stream, Weight::Answer, text, wake);
            }
        }
        self.hold();
    }

    /// The result that asks the client.
    fn round_of(&mut self, numbers: &[u64]) -> String {
        let mut json = Json::new();
        json.raw("{");
        json.member("resultType").string("input_required");
        json.member("inputRequests").raw("{");
        for number in numbers {
            if let Some(question) = self.questions.get_mut(number) {
                question.place = Place::Round;
                json.member(&key(*number)).raw("{");
                json.member("method").string(QUESTION);
                json.member("params").raw(&question.params);
                json.raw("}");
            }
        }
        json.raw("}");
        json.member(STATE)
            .string(&format!("{}-{}", self.name, self.last_round));
        json.raw("}");
        json.finish()
    }

    fn push(
        &mut self,
        now: Instant,
        stream: StreamId,
        weight: Weight,
        text: String,
        wake: &mut Vec<Waker>,
    ) {
        match self.streams.push(now, stream, weight, text) {
            Ok(reader) => wake.extend(reader),
            Err(Overflow) => self.is_over = true,
        }
    }

    /// Ends the calls whose time is over, once the client has answered what it was asked on them.
    fn end_calls(&mut self, now: Instant, wake: &mut Vec<Waker>) {
        let busy = self.busy();
        self.finish(now, Last::Again, wake, |call| {
            call.until <= now && !busy.contains(&call.stream)
        });
    }

    /// Streams on which the client has a question.
    fn busy(&self) -> Vec<StreamId> {
        let places = self.questions.values().map(|question| question.place);
        let streams = places.filter_map(|place| match place {
            Place::Told(stream) => Some(stream),
            Place::Waiting | Place::Round => None,
        });
        streams.collect()
    }

    /// Answers calls.
    fn finish(
        &mut self,
        now: Instant,
        why: Last,
        wake: &mut Vec<Waker>,
        which: impl Fn(&OpenCall) -> bool,
    ) {
        let (over, open) = core::mem::take(&mut self.calls)
            .into_iter()
            .partition(which);
        self.calls = open;
        let over: Vec<OpenCall> = over;
        if !over.is_empty() && self.spoken == Spoken::Stateless {
            self.left = Some(now);
        }
        for call in over {
            let text = replies::last(self.spoken, &call.id, why);
            self.push(now, call.stream, Weight::Answer, text, wake);
        }
    }

    /// The program is about to end: calls without a question are answered, the others once the client has answered.
    pub fn drain(&mut self, now: Instant, wake: &mut Vec<Waker>) {
        let busy = self.busy();
        self.finish(now, Last::Draining, wake, |call| {
            !busy.contains(&call.stream)
        });
        for call in &mut self.calls {
            call.until = call.until.min(now);
        }
        if let Some(round) = &mut self.round {
            round.until = round.until.min(now);
        }
    }

    /// Ends it: calls are answered, readers woken, and questions given up, each of which is given to `gone`.
    pub fn end(&mut self, now: Instant, wake: &mut Vec<Waker>, gone: &mut dyn FnMut(Q)) {
        self.finish(now, Last::Ended, wake, |_| true);
        self.is_over = true;
        let questions = core::mem::take(&mut self.questions);
        questions
            .into_values()
            .for_each(|question| gone(question.of));
        self.hold();
        wake.extend(self.streams.wake_all());
    }

    /// Does what is due at `now`.
    pub fn handle_timeout(&mut self, now: Instant, wake: &mut Vec<Waker>) {
        self.end_calls(now, wake);
        // Streams that ended are forgotten in time.
        let _ = self.streams.sweep(now);
        let ends = self.left.map(|left| left + self.patience());
        self.is_over |= ends.is_some_and(|ends| ends <= now);
    }

    /// Returns the time at which [`Serving::handle_timeout`] is to be called next.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        let busy = self.busy();
        let calls = self.calls.iter();
        let calls = calls.filter(|call| !busy.contains(&call.stream));
        let left = self.left.map(|left| left + self.patience());
        calls.map(|call| call.until).chain(left).min()
    }

    /// Time for which the client may be away. Whose call has ended as it should is expected to call again.
    fn patience(&self) -> Duration {
        let was_cut = self.listens || !self.calls.is_empty() || !self.busy().is_empty();
        if was_cut { LOST } else { GAP }
    }

    /// Counts what waits, and what a round may have to ask again.
    fn hold(&mut self) {
        let bytes = self
            .questions
            .values()
            .map(|question| question.params.len())
            .sum();
        if let Some(share) = &mut self.share {
            // New work is refused where it comes in.
            let _ = share.hold(bytes);
        }
    }
}

/// The name of a question in a round.
fn key(number: u64) -> String {
    format!("question-{number}")
}

/// The client's name and the number of its round, from a `requestState`.
#[must_use]
pub fn name_of(state: &str) -> Option<(&str, u64)> {
    let (name, number) = state.rsplit_once('-')?;
    Some((name, number.parse().ok()?))
}
