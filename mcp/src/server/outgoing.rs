//! What clients say to a process: requests, answers, notifications, and requests that are taken back.

use super::incoming::Lesson;
use super::raising::Settled;
use super::{CallId, Early, Open, Out, Server, Waiting, one_line};
use crate::mirrored::Given;
use crate::refusal::Refusal;
use crate::revision::Era;
use alloc::boxed::Box;
use alloc::string::String;
use mcp_local_provider_core::rpc::{Call, Json, replace};
use mcp_local_provider_core::text::JsonValue;
use mcp_local_provider_core::time::Instant;

impl<T: Clone> Server<T> {
    /// Sends a client's request, or keeps it until the process can take it. `text` is the whole message, `id` and `call` what was
    /// read from it.
    ///
    /// # Errors
    /// The process cannot be started.
    pub fn request(
        &mut self,
        now: Instant,
        text: &str,
        id: JsonValue<'_>,
        call: &Call<'_>,
        to: T,
        out: &mut Out,
    ) -> Result<CallId, (Refusal, T)> {
        self.take_request(now, (Era::Sessions, None), (text, id, call), to, out)
    }

    /// Sends a request of a client of revision 2026-07-28, in its form. A process with sessions gets it without what it does not know; the
    /// answer has the form of the process. A call with headers is refused where those say something else than its arguments.
    ///
    /// # Errors
    /// The process cannot be started.
    pub fn request_stateless(
        &mut self,
        now: Instant,
        request: (&str, JsonValue<'_>, &Call<'_>),
        given: Option<Given>,
        to: T,
        out: &mut Out,
    ) -> Result<CallId, (Refusal, T)> {
        let given = given.filter(|_| request.2.method == "tools/call");
        self.take_request(now, (Era::Stateless, given), request, to, out)
    }

    fn take_request(
        &mut self,
        now: Instant,
        (form, given): (Era, Option<Given>),
        (text, id, call): (&str, JsonValue<'_>, &Call<'_>),
        to: T,
        out: &mut Out,
    ) -> Result<CallId, (Refusal, T)> {
        self.demand(now, out);
        if let Some(refusal) = self.refusal(now) {
            return Err((refusal, to));
        }
        let teaches = Lesson::of(call);
        let page = self.wish(form, call);
        if let Some(kept) = page.as_ref().and_then(|page| self.kept(now, form, page)) {
            return Ok(self.answer_kept(now, id, &kept, to));
        }
        let number = self.peer.expect(
            Open::Call(Waiting {
                to,
                since: now,
                line: None,
                form,
                teaches,
                page: page.map(Box::new),
                rounds: None,
            }),
            Some(now + self.times.request.min(self.times.request_max)),
        );
        let line = rewritten(text, id, call.progress_token, number);
        if self.is_ready() {
            self.pass_checked(now, Early { number, given }, line, out);
        } else if let Some(Open::Call(waiting)) = self.peer.get_mut(number) {
            waiting.line = Some(line);
            self.early.push_back(Early { number, given });
        }
        self.check_lines(now, out);
        self.weigh(now);
        Ok(CallId(number))
    }

    /// Answers a request for a list by what is kept of that. The process is not asked.
    fn answer_kept(&mut self, now: Instant, id: JsonValue<'_>, result: &str, to: T) -> CallId {
        let number = self.peer.expect(Open::Own, None);
        // It is used now.
        self.weigh(now);
        self.peer.cancel(number);
        let text = Json::result(id, result);
        self.settled.push_back(Settled::Answer {
            to,
            text: text.trim_end().into(),
            is_kept: true,
        });
        self.weigh(now);
        CallId(number)
    }

    /// Sends a client's notification, or its answer to a request of the process with the `id` that the process gave in the
    /// place of the one in it. A process that is not ready has asked nothing, and hears all that counts when it is.
    pub fn send(
        &mut self,
        now: Instant,
        text: &str,
        id: Option<(JsonValue<'_>, &str)>,
        out: &mut Out,
    ) {
        if self.is_raising() {
            self.take_from_client(now, text, id, out);
            self.check_lines(now, out);
        } else if self.is_ready() {
            let mut line = String::with_capacity(text.len() + 24);
            replace(&mut line, text, id.as_slice());
            out.lines.push(finished(line));
            self.check_lines(now, out);
        }
    }
}

/// A line with a client's request under another id, and with that for its progress token too.
fn rewritten(text: &str, id: JsonValue<'_>, token: Option<JsonValue<'_>>, number: u64) -> String {
    let mut buffer = itoa::Buffer::new();
    let number = buffer.format(number);
    let mut line = String::with_capacity(text.len() + 24);
    match token {
        None => replace(&mut line, text, &[(id, number)]),
        // In their order in the text.
        Some(token) if token.get().as_ptr() < id.get().as_ptr() => {
            replace(&mut line, text, &[(token, number), (id, number)]);
        }
        Some(token) => replace(&mut line, text, &[(id, number), (token, number)]),
    }
    finished(line)
}

/// A message as one line, with its end.
fn finished(mut line: String) -> String {
    // Within a string they would be escaped.
    if memchr::memchr2(b'\n', b'\r', line.as_bytes()).is_some() {
        line = one_line(&line);
    }
    line.push('\n');
    line
}
