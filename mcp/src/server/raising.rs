//! Clients with sessions before a process that has none: their requests get what it asks for, and its results lose what they do
//! not know.

use super::incoming::SUBSCRIPTIONS;
use super::listening::Listening;
use super::rounds::{Questions, Rounds};
use super::{Delivery, Open, Out, Server};
use crate::envelope::{self, More, ResultKind};
use crate::refusal::{Reason, Refusal};
use crate::revision::Era;
use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use mcp_local_provider_core::rpc::{
    INTERNAL_ERROR, INVALID_PARAMS, Json, METHOD_NOT_FOUND, Message, RpcError, number_of,
};
use mcp_local_provider_core::text::JsonValue;
use mcp_local_provider_core::time::Instant;

/// Levels of log messages, as JSON.
const LEVELS: [&str; 8] = [
    "\"debug\"",
    "\"info\"",
    "\"notice\"",
    "\"warning\"",
    "\"error\"",
    "\"critical\"",
    "\"alert\"",
    "\"emergency\"",
];

/// The level of a session that has chosen none, as JSON.
const USUAL_LEVEL: &str = "\"info\"";

/// Words of a session, and those of a process without sessions about itself.
pub(super) struct Raising {
    /// Parameters of `initialize`.
    hello: Box<str>,
    /// Members of `_meta` of each request.
    client: Box<str>,
    /// `capabilities` of the process.
    offered: Box<str>,
    pub(super) questions: Questions,
    pub(super) listening: Listening,
}

/// A delivery that waits for [`Server::settle`].
pub(super) enum Settled<T> {
    /// An answer.
    Answer { to: T, text: String, is_kept: bool },
    /// The failure of a request that the process has not had.
    Failed(Box<(T, Refusal)>),
    /// A question of this number is taken back.
    Withdrawn(u64),
}

impl Raising {
    pub(super) fn new(hello: &str) -> Self {
        Self {
            hello: hello.into(),
            client: envelope::of_client(hello).into(),
            offered: Box::default(),
            questions: Questions::default(),
            listening: Listening::default(),
        }
    }

    pub(super) fn hello(&self) -> &str {
        &self.hello
    }

    pub(super) fn client(&self) -> &str {
        &self.client
    }

    /// True when the client can be asked for this.
    pub(super) fn has_declared(&self, capability: &str) -> bool {
        let declared = JsonValue::read(&self.hello);
        declared.is_some_and(|hello| hello.path(&["capabilities", capability]).is_some())
    }

    /// True when the process offers this.
    pub(super) fn offers(&self, path: &[&str]) -> bool {
        let offered = JsonValue::read(&self.offered).and_then(|all| all.path(path));
        offered.is_some_and(|offered| offered.get() != "false")
    }

    /// The number of `subscriptions/listen` that are open.
    pub(super) fn listens(&self) -> usize {
        self.listening.len()
    }

    /// The process is gone.
    pub(super) fn forget(&mut self) {
        self.questions.clear();
        self.listening = Listening::default();
    }
}

impl<T: Clone> Server<T> {
    /// Delivers what calls have decided without the process. It is to be called after each other call.
    pub fn settle(&mut self, deliver: &mut dyn FnMut(Delivery<'_, T>)) {
        while let Some(settled) = self.settled.pop_front() {
            match settled {
                Settled::Answer { to, text, is_kept } => answered(to, &text, is_kept, deliver),
                Settled::Failed(failed) => {
                    let (to, refusal) = *failed;
                    deliver(Delivery::Failed { to, refusal });
                }
                Settled::Withdrawn(question) => {
                    let mut json = Json::notification("notifications/cancelled");
                    json.member("requestId")
                        .raw(itoa::Buffer::new().format(question));
                    let text = json.end_params();
                    let text = text.trim_end();
                    if let Ok(Message::Notification(call)) = Message::read(text)
                        && let Some(id) = call.params.and_then(|params| params.member("requestId"))
                    {
                        deliver(Delivery::Withdrawn { text, id });
                    }
                }
            }
        }
    }

    /// The process has answered `server/discover`.
    pub(super) fn discovered(
        &mut self,
        now: Instant,
        result: JsonValue<'_>,
        out: &mut Out,
        deliver: &mut dyn FnMut(Delivery<'_, T>),
    ) {
        let offered = result.member("capabilities").map_or("{}", JsonValue::get);
        self.raising.offered = offered.into();
        let greeting = envelope::greeting(result, &self.raising.hello, &self.name);
        self.begin(now, &greeting, out, deliver);
    }

    /// Gives the process a client's request, which is the line with its number.
    pub(super) fn pass(&mut self, now: Instant, number: u64, line: String, out: &mut Out) {
        let form = match self.peer.get(number) {
            Some(Open::Call(waiting)) => waiting.form,
            Some(
                Open::Handshake
                | Open::Listen
                | Open::Round(_)
                | Open::Own
                | Open::Withdrawn(_)
                | Open::Life,
            )
            | None => Era::Sessions,
        };
        if form == self.era() {
            return out.lines.push(line);
        }
        let Ok(Message::Request { id, call }) = Message::read(&line) else {
            // It was one.
            return;
        };
        if form == Era::Stateless {
            return out.lines.push(envelope::lowered(id, &call) + "\n");
        }
        let param = |name| call.params?.member(name);
        let refuse = |code, why| Err(Json::error(id, code, why));
        let outcome = match &*call.method {
            "logging/setLevel" if !self.raising.offers(&["logging"]) => {
                refuse(METHOD_NOT_FOUND, "this server has no log messages")
            }
            "logging/setLevel" => match param("level") {
                Some(level) if LEVELS.contains(&level.get()) => {
                    self.teach(number);
                    Ok(Some(Json::result(id, "{}")))
                }
                Some(_) | None => refuse(INVALID_PARAMS, "there is no such level"),
            },
            "resources/subscribe" | "resources/unsubscribe"
                if !self.raising.offers(&["resources", "subscribe"]) =>
            {
                refuse(METHOD_NOT_FOUND, "this server has no subscriptions")
            }
            "resources/subscribe" if self.subscriptions.len() >= SUBSCRIPTIONS => {
                refuse(INTERNAL_ERROR, "this session has too many subscriptions")
            }
            "resources/subscribe" | "resources/unsubscribe" => {
                match param("uri").and_then(JsonValue::as_str) {
                    Some(_) => {
                        self.teach(number);
                        let waits = self.listen_for(number, out);
                        Ok((!waits).then(|| Json::result(id, "{}")))
                    }
                    None => refuse(INVALID_PARAMS, "`uri` is missing"),
                }
            }
            _ => {
                self.send_raised(number, &line, None, None, out);
                if let Some(rounds) = Rounds::of(&call.method, number, &line)
                    && let Some(Open::Call(waiting)) = self.peer.get_mut(number)
                {
                    waiting.rounds = Some(Box::new(rounds));
                }
                Ok(None)
            }
        };
        if let Some(answer) = outcome.unwrap_or_else(Some) {
            self.answer_itself(now, number, answer);
        }
    }

    /// Sends a request under a number, with what the client has answered.
    pub(super) fn send_raised(
        &self,
        number: u64,
        line: &str,
        responses: Option<&str>,
        state: Option<&str>,
        out: &mut Out,
    ) {
        let level = self.level.as_deref().and_then(JsonValue::read);
        let level = level.and_then(|params| params.member("level"));
        // A session is told of a server's log before it has chosen a level.
        let usual = self.raising.offers(&["logging"]).then_some(USUAL_LEVEL);
        let more = More {
            level: level.map(JsonValue::get).or(usual),
            responses,
            state,
        };
        let line = envelope::request(line, number, &self.raising.client, &more);
        out.lines.push(line);
    }

    /// Notes at once what a new process is to be told: this one is told with its next request.
    fn teach(&mut self, number: u64) {
        if let Some(Open::Call(waiting)) = self.peer.get_mut(number)
            && let Some(lesson) = waiting.teaches.take()
        {
            self.learn(lesson);
        }
    }

    /// Answers a client's request in the place of the process.
    pub(super) fn answer_itself(&mut self, now: Instant, number: u64, mut text: String) {
        if let Some(Open::Call(waiting)) = self.peer.cancel(number) {
            text.truncate(text.trim_end().len());
            self.give_up(number, waiting.rounds.as_deref());
            self.settled.push_back(Settled::Answer {
                to: waiting.to,
                text,
                is_kept: false,
            });
            self.weigh(now);
        }
    }

    /// Forgets what a request has under way that nobody waits for any more. Returns the number under which the process has it.
    pub(super) fn give_up(&mut self, number: u64, rounds: Option<&Rounds>) -> Option<u64> {
        if self.raising.listening.leave(number) {
            return None;
        }
        let Some(rounds) = rounds else {
            return Some(number);
        };
        for question in self.raising.questions.end(number) {
            self.settled.push_back(Settled::Withdrawn(question));
        }
        let sent = rounds.sent()?;
        if sent != number {
            self.peer.cancel(sent);
        }
        Some(sent)
    }

    /// Takes an answer of the process.
    pub(super) fn take_raised_answer(
        &mut self,
        now: Instant,
        text: &str,
        id: JsonValue<'_>,
        outcome: Result<Option<JsonValue<'_>>, RpcError<'_>>,
        out: &mut Out,
        deliver: &mut dyn FnMut(Delivery<'_, T>),
    ) {
        let Some(number) = number_of(id) else {
            return;
        };
        let page = self.page_of(number);
        let lasting = page.and_then(|page| self.take_page(now, page, id, &outcome));
        let call = match self.peer.get(number) {
            Some(Open::Call(waiting)) if waiting.form == Era::Stateless => {
                return self.answer(number, lasting.as_deref().unwrap_or(text), deliver);
            }
            Some(Open::Call(waiting)) => {
                let rounds = waiting.rounds.as_deref();
                if rounds.is_some_and(|rounds| rounds.sent() != Some(number)) {
                    // It was answered before.
                    return;
                }
                number
            }
            Some(Open::Round(call)) => {
                let call = *call;
                self.peer.cancel(number);
                call
            }
            Some(Open::Listen) => {
                self.peer.cancel(number);
                return self.handle_listen_ended(now, number, outcome);
            }
            Some(Open::Withdrawn(_)) => return self.forget(number),
            Some(Open::Own) => {
                self.peer.cancel(number);
                return self.handle_own_answer(now, number, outcome.ok().flatten(), out);
            }
            Some(Open::Handshake | Open::Life) | None => {
                self.peer.cancel(number);
                return;
            }
        };
        match outcome {
            Ok(Some(result)) => match ResultKind::of(result) {
                ResultKind::Complete => {
                    let text = Json::result(id, &envelope::result(result));
                    self.answer(call, text.trim_end(), deliver);
                }
                ResultKind::InputRequired => self.ask_client(now, call, result, out, deliver),
                ResultKind::Unknown => self.fail_one(
                    call,
                    "a kind of result that clients with sessions do not know",
                    deliver,
                ),
            },
            Ok(None) => self.answer(call, text, deliver),
            Err(_) => {
                let is_read = match self.peer.get(call) {
                    Some(Open::Call(waiting)) => {
                        waiting.rounds.as_deref().is_some_and(Rounds::is_read)
                    }
                    Some(
                        Open::Handshake
                        | Open::Listen
                        | Open::Round(_)
                        | Open::Own
                        | Open::Withdrawn(_)
                        | Open::Life,
                    )
                    | None => false,
                };
                let changed = envelope::error(text, is_read);
                self.answer(call, changed.as_deref().unwrap_or(text), deliver);
            }
        }
    }

    /// Delivers the answer to a request.
    fn answer(&mut self, call: u64, text: &str, deliver: &mut dyn FnMut(Delivery<'_, T>)) {
        if let Some(Open::Call(waiting)) = self.peer.cancel(call) {
            answered(waiting.to, text, false, deliver);
        }
    }

    /// Fails a request for what the process has answered.
    pub(super) fn fail_one(
        &mut self,
        call: u64,
        what: &str,
        deliver: &mut dyn FnMut(Delivery<'_, T>),
    ) {
        if let Some(Open::Call(waiting)) = self.peer.cancel(call) {
            let message = format!("the MCP server `{}` answered with {what}", self.name);
            deliver(Delivery::Failed {
                to: waiting.to,
                refusal: Refusal::new(Reason::BadAnswer, message).about(&self.name),
            });
        }
    }
}

/// Delivers an answer, with the id in it.
pub(super) fn answered<T>(
    to: T,
    text: &str,
    is_kept: bool,
    deliver: &mut dyn FnMut(Delivery<'_, T>),
) {
    if let Ok(Message::Response { id, .. }) = Message::read(text) {
        deliver(Delivery::Answer {
            to,
            text,
            id,
            is_kept,
        });
    }
}
