//! What a server's process says: answers, questions, progress, and how it greets.

use super::raising::answered;
use super::{Delivery, Open, Out, Server, one_line};
use crate::catalogue::Kind;
use crate::refusal::{Reason, Refusal};
use crate::revision::Era;
use alloc::boxed::Box;
use alloc::format;
use alloc::string::ToString;
use mcp_local_provider_core::rpc::{
    Call, INVALID_REQUEST, Json, Line, Message, NotAMessage, number_of, read_each,
};
use mcp_local_provider_core::time::Instant;

/// URIs of resources to which a new process is subscribed anew.
pub(super) const SUBSCRIPTIONS: usize = 1024;

/// What a process has been told that the next one does not know.
pub(super) enum Lesson {
    /// `logging/setLevel`, with its parameters.
    Level(Box<str>),
    /// `resources/subscribe` to a URI, with its parameters.
    Subscribe(Box<str>, Box<str>),
    /// `resources/unsubscribe` from a URI.
    Unsubscribe(Box<str>),
}

impl Lesson {
    pub(super) fn of(call: &Call<'_>) -> Option<Self> {
        let params = call.params?;
        let uri = || Some(params.member("uri")?.get().into());
        match &*call.method {
            "logging/setLevel" => Some(Self::Level(params.get().into())),
            "resources/subscribe" => Some(Self::Subscribe(uri()?, params.get().into())),
            "resources/unsubscribe" => Some(Self::Unsubscribe(uri()?)),
            _ => None,
        }
    }
}

impl<T: Clone> Server<T> {
    /// The process wrote a line to its standard output.
    pub fn handle_line(
        &mut self,
        now: Instant,
        line: Line<'_>,
        out: &mut Out,
        deliver: &mut dyn FnMut(Delivery<'_, T>),
    ) {
        self.note_life(now);
        let text = match line {
            Line::Whole(line) => core::str::from_utf8(line).map_err(|_| NotAMessage::of(line)),
            Line::TooLong => Err(NotAMessage::Damaged),
        };
        match text {
            // Servers of revision 2025-03-26 may write batches.
            Ok(text) => read_each(text, |text, message| {
                self.handle_message(now, text, message, out, deliver);
            }),
            Err(why) => self.handle_message(now, "", Err(why), out, deliver),
        }
        self.check_lines(now, out);
        self.weigh(now);
    }

    fn handle_message(
        &mut self,
        now: Instant,
        text: &str,
        message: Result<Message<'_>, NotAMessage>,
        out: &mut Out,
        deliver: &mut dyn FnMut(Delivery<'_, T>),
    ) {
        let message = match message {
            Ok(message) => message,
            Err(why) => {
                self.garbage = self.garbage.saturating_add(1);
                if why == NotAMessage::Damaged {
                    self.lose_answer(deliver);
                }
                return;
            }
        };
        if let Message::Notification(call) = &message
            && let Some(kind) = Kind::changed_by(&call.method)
        {
            self.lists.handle_changed(kind);
            if kind == Kind::Tools {
                self.mirroring.handle_changed();
            }
        }
        match message {
            Message::Response { id, outcome } if self.is_raising() => {
                self.take_raised_answer(now, text, id, outcome, out, deliver);
            }
            Message::Response { id, outcome } => match self.peer.take(id) {
                Some(Open::Call(waiting)) => {
                    if let (Ok(_), Some(lesson)) = (&outcome, waiting.teaches) {
                        self.learn(lesson);
                    }
                    match self.take_page(now, (waiting.page, waiting.form), id, &outcome) {
                        Some(text) => answered(waiting.to, &text, false, deliver),
                        None => deliver(Delivery::Answer {
                            to: waiting.to,
                            text,
                            id,
                            is_kept: false,
                        }),
                    }
                }
                Some(Open::Handshake) => self.handle_greeting(now, outcome, out, deliver),
                // It went on with what was taken back.
                Some(Open::Withdrawn(_)) => self.withdrawn = self.withdrawn.saturating_sub(1),
                Some(Open::Own) => {
                    let number = number_of(id).unwrap_or_default();
                    self.handle_own_answer(now, number, outcome.ok().flatten(), out);
                }
                // Told, or nobody's.
                Some(Open::Life | Open::Listen | Open::Round(_)) | None => {}
            },
            Message::Request { id, call } => match &*call.method {
                "ping" => out.lines.push(Json::result(id, "{}")),
                _ if !self.is_ready() => {
                    let why = "the handshake is not done";
                    out.lines.push(Json::error(id, INVALID_REQUEST, why));
                }
                // It may not ask.
                _ if self.era() == Era::Stateless => self.garbage = self.garbage.saturating_add(1),
                method => deliver(Delivery::Asked {
                    of: None,
                    text,
                    id,
                    method,
                }),
            },
            Message::Notification(call)
                if self.is_raising() && self.take_of_listen(now, text, &call, out, deliver) => {}
            Message::Notification(call) => self.handle_notification(now, text, &call, deliver),
        }
    }

    fn handle_notification(
        &mut self,
        now: Instant,
        text: &str,
        call: &Call<'_>,
        deliver: &mut dyn FnMut(Delivery<'_, T>),
    ) {
        let param = |name| call.params?.member(name);
        match &*call.method {
            "notifications/progress" => {
                let Some(token) = param("progressToken") else {
                    return;
                };
                let number = token.whole().unwrap_or_default();
                let Some(Open::Call(waiting)) = self.peer.get(number) else {
                    return;
                };
                deliver(Delivery::Progress {
                    to: &waiting.to,
                    text,
                    token,
                });
                let latest = waiting.since + self.times.request_max;
                self.peer
                    .defer(number, latest.min(now + self.times.request));
            }
            "notifications/cancelled" => {
                if let Some(id) = param("requestId") {
                    deliver(Delivery::Withdrawn { text, id });
                }
            }
            method => {
                let callers = self.peer.iter().filter_map(|(_, open)| match open {
                    Open::Call(waiting) if waiting.line.is_none() => Some(&waiting.to),
                    Open::Withdrawn(to) => Some(to),
                    Open::Call(_)
                    | Open::Handshake
                    | Open::Listen
                    | Open::Round(_)
                    | Open::Own
                    | Open::Life => None,
                });
                let callers = callers.collect();
                deliver(Delivery::Notified {
                    text,
                    method,
                    callers,
                });
            }
        }
    }

    /// An answer has come that cannot be read. Where it can be only one request's, that fails now; others wait until they are late.
    fn lose_answer(&mut self, deliver: &mut dyn FnMut(Delivery<'_, T>)) {
        let mut sent = self.peer.iter().filter(|(_, open)| match open {
            Open::Call(waiting) => waiting.line.is_none(),
            Open::Handshake
            | Open::Listen
            | Open::Round(_)
            | Open::Own
            | Open::Withdrawn(_)
            | Open::Life => false,
        });
        let (Some((number, _)), None) = (sent.next(), sent.next()) else {
            return;
        };
        drop(sent);
        if let Some(Open::Call(waiting)) = self.peer.cancel(number) {
            self.give_up(number, waiting.rounds.as_deref());
            let message = format!(
                "the MCP server `{}` wrote a line that is too long, or no message",
                self.name
            );
            deliver(Delivery::Failed {
                to: waiting.to,
                refusal: Refusal::new(Reason::BadAnswer, message).about(&self.name),
            });
        }
    }

    /// The process has answered `initialize`.
    pub(super) fn greeted(
        &mut self,
        now: Instant,
        result: &str,
        out: &mut Out,
        deliver: &mut dyn FnMut(Delivery<'_, T>),
    ) {
        out.lines
            .push("{\"jsonrpc\":\"2.0\",\"method\":\"notifications/initialized\"}\n".to_string());
        let levels = self
            .level
            .iter()
            .map(|level| ("logging/setLevel", &**level));
        let subscriptions = self.subscriptions.values();
        let subscriptions = subscriptions.map(|params| ("resources/subscribe", &**params));
        for (method, params) in levels.chain(subscriptions) {
            let number = self.peer.expect(Open::Own, Some(now + self.times.request));
            out.lines.push(format!(
                "{{\"jsonrpc\":\"2.0\",\"id\":{number},\"method\":\"{method}\",\"params\":{params}}}\n"
            ));
        }
        self.begin(now, result, out, deliver);
    }

    /// The process can take requests. `result` is what sessions are told of it.
    pub(super) fn begin(
        &mut self,
        now: Instant,
        result: &str,
        out: &mut Out,
        deliver: &mut dyn FnMut(Delivery<'_, T>),
    ) {
        self.life.handle_ready(now);
        self.health.begin(now);
        self.trouble = None;
        self.handshake.finish();
        let again = core::mem::replace(&mut self.was_ready, true);
        deliver(Delivery::Ready { result, again });
        self.listen(out);
        for early in core::mem::take(&mut self.early) {
            if let Some(Open::Call(waiting)) = self.peer.get_mut(early.number)
                && let Some(line) = waiting.line.take()
            {
                let until = now + self.times.request.min(self.times.request_max);
                self.peer.defer(early.number, until);
                self.pass_checked(now, early, line, out);
            }
        }
    }

    pub(super) fn learn(&mut self, lesson: Lesson) {
        match lesson {
            Lesson::Level(params) => self.level = Some(one_line(&params).into()),
            Lesson::Subscribe(uri, params) => {
                if self.subscriptions.len() < SUBSCRIPTIONS {
                    self.subscriptions.insert(uri, one_line(&params).into());
                }
            }
            Lesson::Unsubscribe(uri) => {
                self.subscriptions.remove(&uri);
            }
        }
    }
}
