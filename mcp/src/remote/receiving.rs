//! What a remote server answers: heads, bodies and ends of its answers.

use super::exchange::{Answer, Exchange, Purpose, answers, error_in};
use super::learning::Mismatched;
use super::posted::{Asked, Posted, Role};
use super::{Act, ExchangeId, Fault, Form, Head, Hear, Heard, LINGER, Pause, Remote};
use crate::authorization::Challenge;
use crate::refusal::Reason;
use alloc::borrow::ToOwned;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::mem;
use core::time::Duration;
use mcp_local_provider_core::rpc::{INVALID_REQUEST, Json, Line, Message, one_line, read_each};
use mcp_local_provider_core::text::JsonValue;
use mcp_local_provider_core::time::Instant;
use mcp_local_provider_core::wire::sse::{Piece, Reader};

/// Longest id of a session, in bytes.
const SESSION_BYTES: usize = 1024;
/// Faults in a row after which the stream of what belongs to no request is not asked for again.
const FAULTS: u32 = 3;
/// Characters of the scopes that a server asks for which are told.
const SCOPE_CHARACTERS: usize = 200;
/// Longest pause after such a fault.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// One thing that a stream of events has said.
enum Said {
    Event { name: String, data: String },
    Retry(Duration),
    TooLong,
}

impl Remote {
    /// The server has a whole request.
    pub fn handle_sent(&mut self, id: ExchangeId, out: &mut Vec<Act>) {
        if let Some(open) = self.exchanges.get_mut(&id) {
            open.is_sent = true;
            self.flush(out);
        }
    }

    /// The head of an answer has come.
    pub fn handle_head(
        &mut self,
        now: Instant,
        id: ExchangeId,
        head: &Head<'_>,
        out: &mut Vec<Act>,
        hear: &mut Hear<'_>,
    ) {
        let Some(open) = self.exchanges.get_mut(&id) else {
            return;
        };
        open.is_sent = true;
        let has_session = self.session.is_some() || self.endpoint.is_some();
        let kind = head.content_type.and_then(|kind| kind.split(';').next());
        let is = |name: &str| kind.is_some_and(|kind| kind.trim().eq_ignore_ascii_case(name));
        let is_taken = (200..300).contains(&head.status);
        let limit = self.bounds.message_bytes;
        match &open.purpose {
            Purpose::End => return self.lose("it was told to end", out, hear),
            Purpose::Ask { asked, line, .. } if head.status == 404 && has_session => {
                // One that is read on in was taken.
                if open.last_id.is_empty() {
                    hear(Heard::NotTaken(asked.number, line));
                }
                return self.end_session(now, id, out, hear);
            }
            Purpose::Tell { .. } if head.status == 404 && has_session => {
                return self.end_session(now, id, out, hear);
            }
            // A server without this stream may not know the method at all.
            Purpose::Listen if head.status == 404 && self.has_listened => {
                return self.end_session(now, id, out, hear);
            }
            Purpose::Listen if is_taken && is("text/event-stream") => {
                self.has_listened = true;
                open.answer = Answer::Events(Reader::new(limit));
            }
            Purpose::Listen => return self.handle_no_stream(now, id, head.status, out, hear),
            Purpose::Tell { told, .. } => {
                let greets = told.greets && is_taken;
                open.answer = Answer::Ignored;
                open.until = Some(now + LINGER);
                if greets {
                    self.listen(out);
                }
            }
            Purpose::Ask { asked, .. } if is_taken => {
                let opens = asked.role == Role::Greeting { opens: true };
                if opens && let Some(session) = head.session {
                    let is_id = session.bytes().all(|byte| matches!(byte, b'!'..=b'~'));
                    if !is_id || session.is_empty() || session.len() > SESSION_BYTES {
                        let why = "it gives its session an id that is none";
                        return self.lose(why, out, hear);
                    }
                    self.session = Some(session.to_owned());
                }
                let number = asked.number;
                open.answer = match self.form {
                    Form::Events => {
                        open.until = Some(now + LINGER);
                        open.answered();
                        Answer::Ignored
                    }
                    Form::Streamable if is("text/event-stream") => {
                        Answer::Events(Reader::new(limit))
                    }
                    Form::Streamable if is("application/json") => Answer::Json(Vec::new()),
                    Form::Streamable => {
                        self.drop_one(id, out);
                        let what = "answered with neither JSON nor a stream of events";
                        self.unanswered(number, Reason::BadAnswer, what, hear);
                        return self.flush(out);
                    }
                };
            }
            Purpose::Ask { .. } => {
                open.answer = Answer::Refused(head.status, head.challenge.cloned(), Vec::new());
            }
        }
        self.flush(out);
        self.weigh_session(out, hear);
    }

    /// The server has no session any more, as its answer to a request says.
    fn end_session(
        &mut self,
        now: Instant,
        id: ExchangeId,
        out: &mut Vec<Act>,
        hear: &mut Hear<'_>,
    ) {
        self.drop_one(id, out);
        self.session_is_over.get_or_insert(now + LINGER);
        self.weigh_session(out, hear);
    }

    /// Asks for what belongs to no request.
    fn listen(&mut self, out: &mut Vec<Act>) {
        if self.form == Form::Streamable {
            let listen = Exchange::new(Purpose::Listen, String::new(), self.bounds.retry);
            self.send(listen, None, Vec::new(), out);
        }
    }

    /// The server refuses its stream of what belongs to no request.
    fn handle_no_stream(
        &mut self,
        now: Instant,
        id: ExchangeId,
        status: u16,
        out: &mut Vec<Act>,
        hear: &mut Hear<'_>,
    ) {
        let Some(open) = self.drop_one(id, out) else {
            return;
        };
        match self.form {
            Form::Events => {
                let why = format!("it does not give the stream of HTTP+SSE (HTTP status {status})");
                self.lose(&why, out, hear);
            }
            Form::Streamable if status >= 500 || status == 429 => {
                self.listen_later(now, open, out, hear);
            }
            // It has none.
            Form::Streamable => {}
        }
    }

    /// Asks again for what belongs to no request, later after each fault.
    fn listen_later(
        &mut self,
        now: Instant,
        open: Exchange,
        out: &mut Vec<Act>,
        hear: &mut Hear<'_>,
    ) {
        self.faults = self.faults.saturating_add(1);
        if self.faults > FAULTS {
            let why = "it does not give its stream of messages any more";
            return self.lose(why, out, hear);
        }
        let doubled = open.retry.saturating_mul(1 << self.faults);
        self.pause(now, open, doubled.min(LONGEST_PAUSE));
    }

    /// Makes a request again after a pause, behind the latest event.
    fn pause(&mut self, now: Instant, open: Exchange, time: Duration) {
        self.pauses.push(Pause {
            until: now + time,
            purpose: open.purpose,
            last_id: open.last_id,
            retry: open.retry,
        });
    }

    /// A part of an answer's body has come.
    pub fn handle_body(
        &mut self,
        now: Instant,
        id: ExchangeId,
        bytes: &[u8],
        out: &mut Vec<Act>,
        hear: &mut Hear<'_>,
    ) {
        let limit = self.bounds.message_bytes;
        let Some(open) = self.exchanges.get_mut(&id) else {
            return;
        };
        if !open.keep(bytes, limit) {
            return self.handle_too_long(id, out, hear);
        }
        let Answer::Events(reader) = &mut open.answer else {
            return;
        };
        let mut all = Vec::new();
        reader.push(bytes, |piece| {
            all.push(match piece {
                Piece::Event(event) => Said::Event {
                    name: event.name.into_owned(),
                    data: event.data.into_owned(),
                },
                Piece::Retry(time) => Said::Retry(time),
                Piece::TooLong(_) => Said::TooLong,
            });
        });
        if !reader.last_id().is_empty() {
            reader.last_id().clone_into(&mut open.last_id);
        }
        for said in all {
            self.handle_said(now, id, said, out, hear);
        }
    }

    fn handle_said(
        &mut self,
        now: Instant,
        id: ExchangeId,
        said: Said,
        out: &mut Vec<Act>,
        hear: &mut Hear<'_>,
    ) {
        let Some(open) = self.exchanges.get_mut(&id) else {
            return;
        };
        let listens = matches!(open.purpose, Purpose::Listen);
        match said {
            Said::Retry(time) => open.set_retry(time),
            Said::TooLong => self.handle_too_long(id, out, hear),
            Said::Event { name, data } => match &*name {
                "endpoint" if listens && self.form == Form::Events && self.endpoint.is_none() => {
                    self.endpoint = Some(data.trim().to_owned());
                    self.flush(out);
                }
                // One without data has an id alone.
                "message" if !data.is_empty() => {
                    if listens {
                        self.faults = 0;
                    }
                    let asked = open.asked().filter(|asked| answers(&data, asked.number));
                    match asked.cloned() {
                        None => self.pass(&data, hear),
                        Some(asked) => {
                            open.answered();
                            open.until = Some(now + LINGER);
                            self.pass_answer(&asked, &data, out, hear);
                        }
                    }
                }
                _ => {}
            },
        }
    }

    /// Passes the answer to a request on.
    fn pass_answer(&mut self, asked: &Asked, text: &str, out: &mut Vec<Act>, hear: &mut Hear<'_>) {
        let reads = match asked.role {
            Role::Tools | Role::Learn => asked.is_stateless,
            Role::Greeting { .. } | Role::Listen | Role::Call { .. } | Role::Usual => false,
        };
        if !reads {
            self.pass(text, hear);
        } else if let Some(text) = self.take_tools(asked, text, out, hear) {
            self.pass(&text, hear);
        }
    }

    /// Passes a message on.
    fn pass(&mut self, text: &str, hear: &mut Hear<'_>) {
        if let Some(greeting) = self.greeting {
            read_each(text, |_, message| {
                if let Ok(Message::Response { id, outcome }) = message
                    && id.whole() == Some(greeting)
                    && let Ok(result) = outcome
                {
                    self.is_greeted = true;
                    let revision = result.and_then(|result| result.member("protocolVersion"));
                    let revision = revision.and_then(JsonValue::text);
                    self.revision = revision.map(|revision| one_line(&revision));
                }
            });
        }
        if self.is_greeted {
            self.greeting = None;
        }
        let line = one_line(text.trim_end());
        hear(Heard::Line(Line::Whole(line.as_bytes())));
    }

    /// A message of an answer is longer than may be.
    fn handle_too_long(&mut self, id: ExchangeId, out: &mut Vec<Act>, hear: &mut Hear<'_>) {
        let Some(open) = self.exchanges.get(&id) else {
            return;
        };
        match open.asked().filter(|_| !open.is_answered()) {
            Some(asked) => {
                let number = asked.number;
                self.drop_one(id, out);
                let what = "wrote a message that is too long (gateway.message_bytes)";
                self.unanswered(number, Reason::BadAnswer, what, hear);
                self.flush(out);
            }
            None => hear(Heard::Line(Line::TooLong)),
        }
    }

    /// The whole answer to a request has come.
    pub fn handle_end(
        &mut self,
        now: Instant,
        id: ExchangeId,
        out: &mut Vec<Act>,
        hear: &mut Hear<'_>,
    ) {
        let Some(mut open) = self.exchanges.remove(&id) else {
            return;
        };
        let is_answered = open.is_answered();
        match &open.purpose {
            Purpose::End => self.lose("it was told to end", out, hear),
            Purpose::Tell { .. } => {}
            Purpose::Listen if self.form == Form::Events => {
                self.lose("it has ended its stream of messages", out, hear);
            }
            Purpose::Listen => {
                let time = open.retry;
                self.pause(now, open, time);
            }
            Purpose::Ask { .. } if is_answered => {}
            Purpose::Ask { asked, line, .. } => {
                let asked = asked.clone();
                match mem::replace(&mut open.answer, Answer::Ignored) {
                    Answer::Json(body) => self.handle_json(&asked, &body, out, hear),
                    Answer::Refused(status, _, body)
                        if self.falls_back(&asked, status, error_in(&body)) =>
                    {
                        self.fall_back(&open, out);
                    }
                    Answer::Refused(_, _, body) if Self::is_mismatch(&asked, error_in(&body)) => {
                        let error = error_in(&body).unwrap_or_default();
                        self.learn_for(asked, line, error, out);
                    }
                    Answer::Refused(status, challenge, body) => {
                        let why = self.refusal(status, challenge.as_ref());
                        self.handle_refused(&asked, (status, &why), &body, out, hear);
                    }
                    Answer::Events(_) | Answer::Awaited | Answer::Ignored => {
                        self.handle_cut(now, open, &asked, hear);
                    }
                }
            }
        }
        self.flush(out);
        self.weigh_session(out, hear);
    }

    /// True when a server refuses the greeting as one that speaks HTTP+SSE alone does (revision 2025-03-26, "Backwards
    /// compatibility"), and may be asked so.
    fn falls_back(&self, asked: &Asked, status: u16, error: Option<&str>) -> bool {
        self.bounds.falls_back
            && self.form == Form::Streamable
            && asked.role == Role::Greeting { opens: true }
            && (status == 405 || (matches!(status, 400 | 404) && error.is_none()))
    }

    /// Sends a greeting that was refused once more, by HTTP+SSE.
    fn fall_back(&mut self, open: &Exchange, out: &mut Vec<Act>) {
        self.form = Form::Events;
        let listen = Exchange::new(Purpose::Listen, String::new(), self.bounds.retry);
        self.send(listen, None, Vec::new(), out);
        if let Purpose::Ask { line, .. } = &open.purpose
            && let Some(posted) = Posted::read(line, &self.tools)
        {
            self.queue.push_front(posted);
        }
    }

    /// The answer to a request is one JSON text.
    fn handle_json(&mut self, asked: &Asked, body: &[u8], out: &mut Vec<Act>, hear: &mut Hear<'_>) {
        match core::str::from_utf8(body) {
            Ok(text) if answers(text, asked.number) => self.pass_answer(asked, text, out, hear),
            Ok(_) | Err(_) => match error_in(body) {
                Some(error) => self.pass_error(asked, error, hear),
                None => {
                    let what = "answered with something that is no answer to the request";
                    self.unanswered(asked.number, Reason::BadAnswer, what, hear);
                }
            },
        }
    }

    /// Passes an error on, which is JSON, as the answer to a request.
    pub(super) fn pass_error(&mut self, asked: &Asked, error: &str, hear: &mut Hear<'_>) {
        let number = asked.number;
        // The asker has not asked for tools.
        let call = self.mismatched.remove(&number);
        let error = call.as_ref().map_or(error, Mismatched::error);
        let text = format!(r#"{{"jsonrpc":"2.0","id":{number},"error":{error}}}"#);
        self.pass(&text, hear);
    }

    /// A status that refuses a request, and what a person can do about it.
    fn refusal(&self, status: u16, challenge: Option<&Challenge>) -> String {
        let name = &self.name;
        let challenge = challenge.filter(|_| self.bounds.takes_logins);
        match (status, challenge) {
            (300..=399, _) => {
                format!("HTTP status {status}, a redirection, which is not followed")
            }
            (401, Some(_)) => format!("HTTP status 401; `mcp login {name}` gets a token for it"),
            (403, Some(challenge)) if challenge.wants_scope() => {
                let scope = challenge.scope.as_deref().unwrap_or_default();
                // It is to stand in a command.
                let is_plain = |c: &char| c.is_ascii_alphanumeric() || " -._~:/*+".contains(*c);
                let scope = scope.chars().filter(is_plain);
                let scope: String = scope.take(SCOPE_CHARACTERS).collect();
                format!(
                    "HTTP status 403, as the token permits too little; `mcp login {name} --scope '{scope}'` asks for more"
                )
            }
            _ => format!("HTTP status {status}"),
        }
    }

    /// The server refuses a request with a status: the number, and what is told of it.
    fn handle_refused(
        &mut self,
        asked: &Asked,
        (status, why): (u16, &str),
        body: &[u8],
        out: &mut Vec<Act>,
        hear: &mut Hear<'_>,
    ) {
        let is_closed = matches!(status, 300..=399 | 401 | 403 | 407 | 429 | 500..);
        let greets = matches!(asked.role, Role::Greeting { .. });
        if greets && is_closed {
            return self.lose(&format!("it refused the connection: {why}"), out, hear);
        }
        if let Some(error) = error_in(body) {
            return self.pass_error(asked, error, hear);
        }
        if greets {
            // It may know another greeting.
            let mut number = itoa::Buffer::new();
            if let Some(id) = JsonValue::read(number.format(asked.number)) {
                self.pass(&Json::error(id, INVALID_REQUEST, why), hear);
            }
            return;
        }
        let reason = if is_closed {
            Reason::ServerUnavailable
        } else {
            Reason::BadAnswer
        };
        let what = format!("refused the request: {why}");
        self.unanswered(asked.number, reason, &what, hear);
    }

    /// The connection has ended before the answer was there. Where the server numbers its events, the rest can be asked for.
    fn handle_cut(&mut self, now: Instant, open: Exchange, asked: &Asked, hear: &mut Hear<'_>) {
        let is_resumed = !asked.is_stateless && !open.last_id.is_empty();
        if is_resumed || asked.role == Role::Listen {
            let time = open.retry;
            return self.pause(now, open, time);
        }
        let what = "closed the connection before it had answered";
        self.unanswered(asked.number, Reason::ServerExited, what, hear);
    }

    /// A request has failed: why, as a sentence that begins with "it".
    pub fn handle_fault(
        &mut self,
        now: Instant,
        id: ExchangeId,
        fault: Fault,
        why: &str,
        out: &mut Vec<Act>,
        hear: &mut Hear<'_>,
    ) {
        let Some(open) = self.exchanges.remove(&id) else {
            return;
        };
        let is_accepted = !matches!(open.answer, Answer::Awaited);
        let is_answered = open.is_answered();
        match (open.purpose, fault) {
            (Purpose::End, _) => self.lose("it was told to end", out, hear),
            (Purpose::Tell { .. }, _) if is_accepted => {}
            (Purpose::Ask { .. }, _) if is_answered => {}
            (
                Purpose::Tell {
                    told,
                    line,
                    again: false,
                },
                Fault::Broken,
            ) => {
                // It means the same twice.
                let purpose = Purpose::Tell {
                    told,
                    line: line.clone(),
                    again: true,
                };
                let exchange = Exchange::new(purpose, String::new(), self.bounds.retry);
                self.send(exchange, Some(line), Vec::new(), out);
            }
            (Purpose::Listen, Fault::Broken) if self.form == Form::Streamable => {
                let open = Exchange {
                    purpose: Purpose::Listen,
                    ..open
                };
                self.listen_later(now, open, out, hear);
            }
            (Purpose::Ask { asked, line, .. }, Fault::Broken)
                if !matches!(asked.role, Role::Greeting { .. }) =>
            {
                let purpose = Purpose::Ask {
                    asked: asked.clone(),
                    line,
                    is_answered,
                };
                self.handle_cut(now, Exchange { purpose, ..open }, &asked, hear);
            }
            (Purpose::Tell { .. } | Purpose::Listen | Purpose::Ask { .. }, _) => {
                self.lose(why, out, hear);
            }
        }
        self.flush(out);
        self.weigh_session(out, hear);
    }
}
