//! One client's session: its requests, the questions that servers ask it, and its streams.

mod several;
#[cfg(test)]
mod tests;

pub use several::Dispatch;

use crate::catalogue::{Asked, Catalogue, Kind};
use crate::config::{Gateway, Server};
use crate::greeting::Greeting;
use crate::refusal::{Reason, Refusal};
use crate::revision::Revision;
use crate::server::CallId;
use crate::streams::{Overflow, Reader, StreamId, Streams, Weight};
use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use core::task::{Poll, Waker};
use core::time::Duration;
use mcp_local_provider_core::budget::Share;
use mcp_local_provider_core::rpc::{INTERNAL_ERROR, Json, Message, replace};
use mcp_local_provider_core::text::JsonValue;
use mcp_local_provider_core::time::Instant;
use several::{Several, outcome_of};

/// Number of a client's request in its session. It is never used twice.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct RequestKey(u64);

/// Place of a server among those of a session.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Attachment(pub u16);

/// States of a session.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum State {
    /// The server is not ready yet, and `initialize` not answered.
    Opening,
    /// Requests pass.
    Open,
    /// It is over, and nothing passes any more.
    Ended,
}

/// The step that follows a client's message.
#[derive(Clone, Debug)]
pub enum Forward<'m> {
    /// None: the session has done all.
    Nothing,
    /// The request goes to the server.
    Request(RequestKey),
    /// The notification goes to all servers of the session.
    Tell,
    /// The answer goes to the server that had asked, with that server's own id in the place of `id`.
    Answer {
        /// The server.
        to: Attachment,
        /// The id in the client's message.
        id: JsonValue<'m>,
        /// The id that the server knows.
        own: Box<str>,
    },
    /// A request is taken back at the server that has it; the reason is JSON.
    Cancel(Attachment, CallId, Option<JsonValue<'m>>),
}

/// A client's request that is not answered.
struct ClientRequest {
    /// As the client wrote it.
    id: Box<str>,
    /// The same.
    token: Option<Box<str>>,
    stream: StreamId,
    /// The one server that it goes to, once that is known.
    way: Option<(Attachment, Asked)>,
    /// Where it is, once it was sent.
    call: Option<(Attachment, CallId)>,
}

/// A server's request that is not answered.
struct Question {
    /// The server that asks.
    from: Attachment,
    /// As the server wrote it.
    id: Box<str>,
    stream: StreamId,
}

/// One client's session with its servers. What it has for the client is in its streams; `wake` takes whom a call has to wake,
/// once the session's lock is released.
pub struct Session {
    state: State,
    revision: Revision,
    /// Id of `initialize`, until it is answered, and its stream.
    opening: Option<(Box<str>, StreamId)>,
    /// Once the server is ready; or why it could not be started.
    greeting: Option<Result<Greeting, Refusal>>,
    requests: BTreeMap<RequestKey, ClientRequest>,
    by_id: BTreeMap<Box<str>, RequestKey>,
    last_key: u64,
    questions: BTreeMap<u64, Question>,
    last_question: u64,
    several: Several,
    streams: Streams,
    in_flight: usize,
    idle: Duration,
    opened: Instant,
    last_request: Instant,
    /// The revision that the client has asked for, where the server was greeted by somebody else.
    asked: Option<Revision>,
    /// Notes of the client on the session, as JSON.
    metadata: Option<Box<str>>,
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session")
            .field("state", &self.state)
            .field("requests", &self.requests.len())
            .field("questions", &self.questions.len())
            .field("streams", &self.streams)
            .finish_non_exhaustive()
    }
}

impl Session {
    /// Opens a session by a client's `initialize`, with this `id`. The stream will have its answer.
    #[must_use]
    pub fn open(
        now: Instant,
        id: &str,
        config: &Gateway,
        share: Option<Share>,
    ) -> (Self, StreamId) {
        let mut streams = Streams::new(config.resume, config.message_bytes, share);
        let stream = streams.open(1);
        let session = Self {
            state: State::Opening,
            revision: Revision::UNSAID,
            opening: Some((id.into(), stream)),
            greeting: None,
            requests: BTreeMap::new(),
            by_id: BTreeMap::new(),
            last_key: 0,
            questions: BTreeMap::new(),
            last_question: 0,
            several: Several::new(Catalogue::of_one(&Server::named(""))),
            streams,
            in_flight: config.sessions.in_flight,
            idle: config.sessions.idle,
            opened: now,
            last_request: now,
            asked: None,
            metadata: None,
        };
        (session, stream)
    }

    /// Lets the client have the revision that it asks for: the server may have been greeted with another one, for other clients. `None`
    /// where it asks for one that is not spoken here.
    #[must_use]
    pub const fn asking(mut self, asked: Option<Revision>) -> Self {
        self.asked = asked;
        self
    }

    /// Returns the calls of its open requests, each with its server.
    pub fn calls(&self) -> impl Iterator<Item = (Attachment, CallId)> {
        self.requests.values().filter_map(|request| request.call)
    }

    /// Returns the state.
    #[must_use]
    pub const fn state(&self) -> State {
        self.state
    }

    /// Returns the revision that server and client have agreed on.
    #[must_use]
    pub const fn revision(&self) -> Revision {
        self.revision
    }

    /// Returns what the server has said of itself, once it is ready.
    #[must_use]
    pub fn greeting(&self) -> Option<&Greeting> {
        self.greeting.as_ref()?.as_ref().ok()
    }

    /// Waits for the server for somebody who has opened the session without `initialize`, with [`hello`](crate::greeting::hello).
    /// `stream` is the one that [`Session::open`] gave, `reader` its reader; it is forgotten with the first answer of this call.
    pub fn poll_open(
        &mut self,
        stream: StreamId,
        reader: Reader,
        waker: &Waker,
    ) -> Poll<Result<Greeting, Refusal>> {
        let opened = match (&self.greeting, self.state) {
            (None, State::Opening | State::Open) => {
                // There is nothing yet: it takes the waker.
                let _ = self.streams.take(stream, reader, waker, &mut Vec::new());
                return Poll::Pending;
            }
            (Some(opened), State::Opening | State::Open) => opened.clone(),
            (Some(Err(refusal)), State::Ended) => Err(refusal.clone()),
            (Some(Ok(_)) | None, State::Ended) => {
                let message = "Session not found: it has ended before its server was ready";
                Err(Refusal::new(Reason::SessionNotFound, message))
            }
        };
        self.streams.close(stream);
        Poll::Ready(opened)
    }

    /// Returns the streams.
    #[must_use]
    pub const fn streams(&self) -> &Streams {
        &self.streams
    }

    /// Returns the streams, to be read.
    pub const fn streams_mut(&mut self) -> &mut Streams {
        &mut self.streams
    }

    /// Returns the number of requests that are not answered.
    #[must_use]
    pub fn open_requests(&self) -> usize {
        self.requests.len() + usize::from(self.opening.is_some())
    }

    /// Returns the time of the latest request.
    #[must_use]
    pub const fn last_request(&self) -> Instant {
        self.last_request
    }

    /// Returns the time at which it was opened.
    #[must_use]
    pub const fn opened(&self) -> Instant {
        self.opened
    }

    /// Returns the number of requests that were taken, without `initialize`.
    #[must_use]
    pub const fn requests(&self) -> u64 {
        self.last_key
    }

    /// Returns what the client has noted of the session, as JSON.
    #[must_use]
    pub fn metadata(&self) -> Option<&str> {
        self.metadata.as_deref()
    }

    /// Notes something of the session, which is JSON.
    pub fn note(&mut self, metadata: &str) {
        self.metadata = Some(metadata.into());
    }

    /// Returns true when nothing is open and nobody listens, so that the session may give way to another one.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.open_requests() == 0 && !self.streams.is_attended()
    }

    /// Opens a stream for so many requests that a client sends together.
    pub fn open_stream(&mut self, requests: usize) -> StreamId {
        self.streams.open(requests)
    }

    /// Opens a stream for a batch with so many requests, whose answers go to the session's own stream together.
    pub fn open_batch(&mut self, requests: usize) -> StreamId {
        self.streams.gather(requests)
    }

    /// Opens a stream for one request whose sender takes the answer and nothing else: what the server says meanwhile goes to the
    /// session's own stream.
    pub fn open_whole_stream(&mut self) -> StreamId {
        self.streams.open_whole()
    }

    /// Takes one message of the client. A request is answered on `stream`.
    ///
    /// # Errors
    /// The request is refused. It is not on its stream then.
    pub fn from_client<'m>(
        &mut self,
        now: Instant,
        message: &Message<'m>,
        stream: StreamId,
        wake: &mut Vec<Waker>,
    ) -> Result<Forward<'m>, Refusal> {
        match message {
            Message::Request { id, call } => match &*call.method {
                "ping" => {
                    let answer = Json::result(*id, "{}");
                    self.put(now, stream, Weight::Answer, answer, wake);
                    Ok(Forward::Nothing)
                }
                "initialize" => Err(Refusal::new(
                    Reason::BadRequest,
                    "this session is initialized already; leave the header Mcp-Session-Id out to open another one",
                )),
                _ => self.take_request(now, *id, call.progress_token, stream),
            },
            Message::Notification(call) => {
                let param = |name| call.params?.member(name);
                match &*call.method {
                    // The program has greeted the server, and said so.
                    "notifications/initialized" => Ok(Forward::Nothing),
                    "notifications/cancelled" => {
                        let request = param("requestId").and_then(|id| self.by_id.remove(id.get()));
                        let request = request.and_then(|key| self.requests.remove(&key));
                        let Some(request) = request else {
                            return Ok(Forward::Nothing);
                        };
                        match self.streams.give_up(now, request.stream) {
                            Ok(waker) => wake.extend(waker),
                            Err(Overflow) => self.end(wake),
                        }
                        Ok(match request.call {
                            Some((at, call)) => Forward::Cancel(at, call, param("reason")),
                            None => Forward::Nothing,
                        })
                    }
                    _ => Ok(Forward::Tell),
                }
            }
            Message::Response { id, .. } => {
                let question = id.whole().and_then(|number| self.questions.remove(&number));
                Ok(match question {
                    Some(question) => Forward::Answer {
                        to: question.from,
                        id: *id,
                        own: question.id,
                    },
                    None => Forward::Nothing,
                })
            }
        }
    }

    fn take_request<'m>(
        &mut self,
        now: Instant,
        id: JsonValue<'m>,
        token: Option<JsonValue<'m>>,
        stream: StreamId,
    ) -> Result<Forward<'m>, Refusal> {
        if self.by_id.contains_key(id.get()) {
            return Err(Refusal::new(
                Reason::BadRequest,
                "a request with this id is open in this session",
            ));
        }
        if self.requests.len() >= self.in_flight {
            return Err(Refusal::new(
                Reason::InFlightFull,
                "as many requests are open in this session as may be (gateway.sessions.in_flight)",
            )
            .retry_after(Duration::from_secs(1)));
        }
        self.last_request = self.last_request.max(now);
        self.last_key += 1;
        let key = RequestKey(self.last_key);
        self.by_id.insert(id.get().into(), key);
        self.requests.insert(
            key,
            ClientRequest {
                id: id.get().into(),
                token: token.map(|token| token.get().into()),
                stream,
                way: None,
                call: None,
            },
        );
        Ok(Forward::Request(key))
    }

    /// A request was sent to a server. False when it is not open any more.
    pub fn sent(&mut self, key: RequestKey, at: Attachment, call: CallId) -> bool {
        match self.requests.get_mut(&key) {
            Some(request) => request.call = Some((at, call)),
            None => return self.has_part(key),
        }
        true
    }

    /// Takes a request back that was not sent.
    pub fn unsend(&mut self, key: RequestKey) {
        if let Some(request) = self.requests.remove(&key) {
            self.by_id.remove(&request.id);
        }
    }

    /// Puts the answer of the gateway itself on a stream.
    pub fn refuse(
        &mut self,
        now: Instant,
        stream: StreamId,
        id: JsonValue<'_>,
        refusal: &Refusal,
        wake: &mut Vec<Waker>,
    ) {
        self.put(now, stream, Weight::Answer, refusal.answer(id.get()), wake);
    }

    /// The answer to a request has come, with the server's `id` in it.
    pub fn handle_answer(
        &mut self,
        now: Instant,
        key: RequestKey,
        text: &str,
        id: JsonValue<'_>,
        wake: &mut Vec<Waker>,
    ) {
        if self.take_part(now, key, || outcome_of(text), wake) {
            return;
        }
        if let Some(request) = self.requests.remove(&key) {
            self.by_id.remove(&request.id);
            let answer = self.answer_of(request.way, text, id, &request.id);
            self.put(now, request.stream, Weight::Answer, answer, wake);
        }
    }

    /// A request has failed without an answer.
    pub fn handle_failed(
        &mut self,
        now: Instant,
        key: RequestKey,
        refusal: &Refusal,
        wake: &mut Vec<Waker>,
    ) {
        let error = || outcome_of(&refusal.answer("0"));
        if self.take_part(now, key, error, wake) {
            return;
        }
        if let Some(request) = self.requests.remove(&key) {
            self.by_id.remove(&request.id);
            let answer = refusal.answer(&request.id);
            self.put(now, request.stream, Weight::Answer, answer, wake);
        }
    }

    /// The server tells of the progress of a request.
    pub fn handle_progress(
        &mut self,
        now: Instant,
        key: RequestKey,
        text: &str,
        token: JsonValue<'_>,
        wake: &mut Vec<Waker>,
    ) {
        let Some(request) = self.requests.get(&key) else {
            return;
        };
        if let Some(own) = &request.token {
            let (stream, text) = (request.stream, with(text, token, own));
            self.put(now, stream, Weight::Light, text, wake);
        }
    }

    /// A server asks the client, for one of the client's requests where it says so. The client will know its request by a number
    /// of this session.
    ///
    /// # Errors
    /// Too many are open: the line that answers the server.
    pub fn handle_asked(
        &mut self,
        now: Instant,
        from: Attachment,
        of: Option<RequestKey>,
        text: &str,
        id: JsonValue<'_>,
        wake: &mut Vec<Waker>,
    ) -> Result<(), String> {
        if self.questions.len() >= self.in_flight {
            let why = "too many requests of this server wait for the client";
            return Err(Json::error(id, INTERNAL_ERROR, why));
        }
        let of = of.and_then(|key| self.requests.get(&key));
        let stream = of.map_or_else(|| self.stream_of_server(from), |request| request.stream);
        self.last_question += 1;
        let mut buffer = itoa::Buffer::new();
        let number = buffer.format(self.last_question);
        let text = self.for_client(from, text, Some((id, number)));
        let id = id.get().into();
        self.questions
            .insert(self.last_question, Question { from, id, stream });
        self.put(now, stream, Weight::Heavy, text, wake);
        Ok(())
    }

    /// A server takes a request of its own back.
    pub fn handle_withdrawn(
        &mut self,
        now: Instant,
        from: Attachment,
        text: &str,
        id: JsonValue<'_>,
        wake: &mut Vec<Waker>,
    ) {
        let number = self
            .questions
            .iter()
            .find(|(_, asked)| asked.from == from && &*asked.id == id.get());
        let Some(number) = number.map(|(number, _)| *number) else {
            return;
        };
        if let Some(question) = self.questions.remove(&number) {
            let text = with(text, id, itoa::Buffer::new().format(number));
            self.tell(now, question.stream, text, wake);
        }
    }

    /// A server tells something that belongs to no request that it names.
    pub fn handle_notified(
        &mut self,
        now: Instant,
        from: Attachment,
        text: &str,
        method: &str,
        wake: &mut Vec<Waker>,
    ) {
        let (stream, weight) = match method {
            "notifications/message" => (self.stream_of_server(from), Weight::Light),
            _ => (StreamId::SESSION, Weight::Heavy),
        };
        if let Some(kind) = Kind::changed_by(method) {
            let at = usize::from(from.0);
            self.several.catalogue.handle_changed(at, kind);
        }
        let text = self.for_client(from, text, None);
        self.put(now, stream, weight, text, wake);
    }

    /// A server's process is gone: nobody waits for the client's answers to it any more.
    pub fn handle_gone(&mut self, now: Instant, from: Attachment, wake: &mut Vec<Waker>) {
        let (gone, left) = core::mem::take(&mut self.questions)
            .into_iter()
            .partition(|(_, question)| question.from == from);
        self.questions = left;
        let gone: BTreeMap<u64, Question> = gone;
        for (number, question) in gone {
            let mut json = Json::notification("notifications/cancelled");
            json.member("requestId")
                .raw(itoa::Buffer::new().format(number));
            json.member("reason").string("the server has ended");
            self.tell(now, question.stream, json.end_params(), wake);
        }
    }

    /// Ends the session. Requests that are open fail; readers of its streams find its end behind that.
    pub fn end(&mut self, wake: &mut Vec<Waker>) {
        self.state = State::Ended;
        let message = "Session not found: it has ended before this request was answered";
        let refusal = Refusal::new(Reason::SessionNotFound, message);
        let requests = core::mem::take(&mut self.requests).into_values();
        let requests = requests.map(|request| (request.id, request.stream));
        for (id, stream) in self.opening.take().into_iter().chain(requests) {
            let answer = refusal.answer(&id);
            let told = self
                .streams
                .push(self.last_request, stream, Weight::Answer, answer);
            // Nothing is kept any more, so an overflow is none.
            wake.extend(told.ok().flatten());
        }
        self.by_id.clear();
        self.questions.clear();
        self.several.clear();
        // Those who read a stream without a request.
        wake.extend(self.streams.wake_all());
    }

    /// Returns the moment at which the session ends if no request comes; `None` while one is open.
    #[must_use]
    pub fn expires(&self) -> Option<Instant> {
        (self.open_requests() == 0).then(|| self.last_request + self.idle)
    }

    /// The stream of a message of a server that does not say to which request it belongs: that of the only one that is open there,
    /// else the session's own where somebody reads it, else that of the latest request.
    fn stream_of_server(&self, from: Attachment) -> StreamId {
        let is_there = |request: &&ClientRequest| request.way.is_none_or(|(at, _)| at == from);
        let mut there = self.requests.values().rev().filter(is_there);
        match (there.next(), 1 + there.count()) {
            (Some(request), 1) => request.stream,
            (Some(request), _) if !self.streams.is_read(StreamId::SESSION) => request.stream,
            (Some(_) | None, _) => StreamId::SESSION,
        }
    }

    /// Tells something about a message that went to a stream, there if it is open, and else on the session's own.
    fn tell(&mut self, now: Instant, stream: StreamId, text: String, wake: &mut Vec<Waker>) {
        let stream = if self.streams.is_complete(stream) {
            StreamId::SESSION
        } else {
            stream
        };
        self.put(now, stream, Weight::Heavy, text, wake);
    }

    fn put(
        &mut self,
        now: Instant,
        stream: StreamId,
        weight: Weight,
        mut text: String,
        wake: &mut Vec<Waker>,
    ) {
        if text.ends_with('\n') {
            text.pop();
        }
        match self.streams.push(now, stream, weight, text) {
            Ok(waker) => wake.extend(waker),
            Err(Overflow) => self.end(wake),
        }
    }
}

/// A message with another value in the place of one that was read from it.
fn with(text: &str, old: JsonValue<'_>, new: &str) -> String {
    let mut out = String::with_capacity(text.len() + new.len());
    replace(&mut out, text, &[(old, new)]);
    out
}

/// The answer to a request.
fn answer(id: &str, result: &str) -> String {
    alloc::format!("{{\"jsonrpc\":\"2.0\",\"id\":{id},\"result\":{result}}}")
}
