//! A server that is reached over HTTP, as the child of a [`Server`](crate::server::Server): it takes the same lines and orders as a
//! process, and says lines as one.
//!
//! Streamable HTTP (revisions 2025-03-26 to 2026-07-28): each line is a POST, whose answer is JSON or a stream of events; what belongs
//! to no request comes by GET. HTTP+SSE (2024-11-05): all comes by GET, whose first event says where lines are posted.

mod exchange;
mod learning;
mod posted;
mod receiving;
#[cfg(test)]
mod tests;

use crate::authorization::{Challenge, Headers};
use crate::mirrored::Tools;
use crate::refusal::{Exit, Reason, Refusal};
use alloc::borrow::ToOwned;
use alloc::collections::{BTreeMap, VecDeque};
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
use core::time::Duration;
use exchange::{Exchange, Purpose};
use learning::Mismatched;
use mcp_local_provider_core::rpc::Line;
use mcp_local_provider_core::time::Instant;
use posted::{Kind, Posted, Role};

const SESSION_ENDED: &str = "it has ended the session (HTTP status 404)";

/// Time that a server has to end a stream behind its answer, before that is closed.
const LINGER: Duration = Duration::from_secs(1);

/// Forms in which servers are reached.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Form {
    /// Streamable HTTP.
    Streamable,
    /// HTTP+SSE, of revision 2024-11-05.
    Events,
}

/// Number of an HTTP request of one connection. It is never used twice.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct ExchangeId(u64);

/// An HTTP request to the server.
#[derive(Debug)]
pub struct Request {
    /// Its method.
    pub method: &'static str,
    /// The place that it goes to, as the server has named it: a path or a URL. `None` is the address of the configuration.
    pub place: Option<String>,
    /// Headers, without those of the configuration.
    pub headers: Headers,
    /// A JSON-RPC message.
    pub body: Option<String>,
    /// Its answer begins only when the server has done something, which may take long.
    pub waits: bool,
}

/// Something to be done with HTTP requests.
#[derive(Debug)]
pub enum Act {
    /// Send a request, and report what becomes of it under this number.
    Send(ExchangeId, Request),
    /// Close the connection of a request. Nothing more is reported of it.
    Drop(ExchangeId),
}

/// Something that the server has said, or that became of it.
#[derive(Debug)]
pub enum Heard<'m> {
    /// It said a line.
    Line(Line<'m>),
    /// The line with the request of this number gets no answer.
    Unanswered(u64, Refusal),
    /// The server did not take this line, with the request of this number, because its session had ended before, or it was not sent. The
    /// end of the connection follows.
    NotTaken(u64, &'m str),
    /// A tool was left out of a list, because its definition is invalid: why.
    LeftOut {
        /// Its name.
        tool: &'m str,
        /// The reason, as a sentence that begins with "it" or "its".
        why: &'m str,
    },
    /// The connection has ended: why, as a sentence that begins with "it".
    Ended(Exit, &'m str),
}

/// Takes what is heard.
pub type Hear<'h> = dyn FnMut(Heard<'_>) + 'h;

/// The head of an answer.
#[derive(Clone, Copy, Debug)]
pub struct Head<'h> {
    /// HTTP status.
    pub status: u16,
    /// `Content-Type`.
    pub content_type: Option<&'h str>,
    /// `Mcp-Session-Id`.
    pub session: Option<&'h str>,
    /// Bearer tokens, as `WWW-Authenticate` speaks of them.
    pub challenge: Option<&'h Challenge>,
}

/// Faults of an HTTP request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fault {
    /// The server did not get it: it cannot be connected to.
    Unreachable,
    /// The connection broke, or what came is not HTTP.
    Broken,
}

/// Bounds and habits of a connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Bounds {
    /// Longest message that is taken, in bytes.
    pub message_bytes: usize,
    /// Pause before a stream is asked for again, where the server names none.
    pub retry: Duration,
    /// True where nobody has said the form: a server that refuses the greeting as those of HTTP+SSE do is asked in that form.
    pub falls_back: bool,
    /// True where a login may give tokens for the server, because the configuration has none.
    pub takes_logins: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Phase {
    /// There is no connection.
    Closed,
    /// Lines are sent.
    Open,
    /// It is told to end.
    Closing,
}

/// A request that is made again after a pause.
#[derive(Debug)]
struct Pause {
    until: Instant,
    purpose: Purpose,
    last_id: String,
    retry: Duration,
}

/// Connection to one remote server. Every call is legal at any time.
pub struct Remote {
    name: Arc<str>,
    form: Form,
    bounds: Bounds,
    phase: Phase,
    /// Number of the request that greets, until that is answered.
    greeting: Option<u64>,
    /// The server has answered its greeting.
    is_greeted: bool,
    session: Option<String>,
    /// The server has ended the session. Requests that it has may be answered all the same, and say each for itself whether it took them.
    /// Until then that is waited for.
    session_is_over: Option<Instant>,
    /// Revision that was agreed on.
    revision: Option<String>,
    /// Place that lines are posted to, with [`Form::Events`].
    endpoint: Option<String>,
    /// The stream of what belongs to no request was there.
    has_listened: bool,
    /// Faults of that stream in a row.
    faults: u32,
    /// The arguments that stand in headers too.
    tools: Tools,
    /// Calls that were refused for their headers, and wait for the list of tools.
    mismatched: BTreeMap<u64, Mismatched>,
    queue: VecDeque<Posted>,
    exchanges: BTreeMap<ExchangeId, Exchange>,
    pauses: Vec<Pause>,
    latest: u64,
}

impl fmt::Debug for Remote {
    /// Without the session and what is said, which are secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Remote")
            .field("name", &self.name)
            .field("phase", &self.phase)
            .field("open", &self.exchanges.len())
            .finish_non_exhaustive()
    }
}

impl Remote {
    /// Makes a connection to the server of this name. Nothing is sent yet.
    #[must_use]
    pub fn new(name: Arc<str>, form: Form, bounds: Bounds) -> Self {
        Self {
            name,
            form,
            bounds,
            phase: Phase::Closed,
            greeting: None,
            is_greeted: false,
            session: None,
            session_is_over: None,
            revision: None,
            endpoint: None,
            has_listened: false,
            faults: 0,
            tools: Tools::default(),
            mismatched: BTreeMap::new(),
            queue: VecDeque::new(),
            exchanges: BTreeMap::new(),
            pauses: Vec::new(),
            latest: 0,
        }
    }

    /// Begins a connection. Lines may follow at once.
    pub fn open(&mut self, out: &mut Vec<Act>) {
        self.forget(out);
        self.phase = Phase::Open;
        match self.form {
            Form::Streamable => {}
            Form::Events => {
                let listen = Exchange::new(Purpose::Listen, String::new(), self.bounds.retry);
                self.send(listen, None, Vec::new(), out);
            }
        }
    }

    /// Takes a line for the server, with its end.
    pub fn push_line(&mut self, line: &str, out: &mut Vec<Act>) {
        if self.phase == Phase::Open
            && let Some(posted) = Posted::read(line, &self.tools)
        {
            self.queue.push_back(posted);
            self.flush(out);
        }
    }

    /// Ends the connection. Where the server keeps a session, it is told so first.
    pub fn close(&mut self, out: &mut Vec<Act>, hear: &mut Hear<'_>) {
        if self.phase != Phase::Open {
            return;
        }
        self.drop_all(out);
        if self.session.is_none() || self.form == Form::Events {
            return self.kill(out, hear);
        }
        self.phase = Phase::Closing;
        let end = Exchange::new(Purpose::End, String::new(), self.bounds.retry);
        self.send(end, None, Vec::new(), out);
    }

    /// Ends the connection at once.
    pub fn kill(&mut self, out: &mut Vec<Act>, hear: &mut Hear<'_>) {
        self.lose("it was told to end", out, hear);
    }

    /// Returns the number of lines that wait to be sent.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.queue.len()
    }

    /// Returns the bytes of memory that lines and answers take.
    #[must_use]
    pub fn memory(&self) -> usize {
        let lines = self.queue.iter().map(|posted| posted.line.capacity());
        let answers = self.exchanges.values().map(Exchange::memory);
        lines.chain(answers).sum()
    }

    /// Returns the next moment at which [`Remote::handle_timeout`] is to be called.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        let pauses = self.pauses.iter().map(|pause| pause.until);
        let ends = self.exchanges.values().filter_map(|open| open.until);
        pauses.chain(ends).chain(self.session_is_over).min()
    }

    /// Makes the requests whose pause is over, closes streams that have said all, and waits for a session that is over no longer.
    pub fn handle_timeout(&mut self, now: Instant, out: &mut Vec<Act>, hear: &mut Hear<'_>) {
        if self.session_is_over.is_some_and(|until| until <= now) {
            return self.lose(SESSION_ENDED, out, hear);
        }
        let over = |open: &Exchange| open.until.is_some_and(|until| until <= now);
        let late = self.exchanges.iter().filter(|(_, open)| over(open));
        let late: Vec<ExchangeId> = late.map(|(id, _)| *id).collect();
        for id in late {
            self.drop_one(id, out);
        }
        let is_due = |pause: &mut Pause| pause.until <= now;
        let due: Vec<Pause> = self.pauses.extract_if(.., is_due).collect();
        for pause in due {
            let exchange = Exchange::new(pause.purpose, pause.last_id, pause.retry);
            let body = match &exchange.purpose {
                // What it tells of is told anew.
                Purpose::Ask { asked, line, .. } if asked.role == Role::Listen => {
                    Some(line.clone())
                }
                Purpose::Ask { .. } | Purpose::Tell { .. } | Purpose::Listen | Purpose::End => None,
            };
            let posted = body.as_deref();
            let posted = posted.and_then(|line| Posted::read(line, &self.tools));
            let headers = posted.map_or_else(Vec::new, |posted| posted.headers);
            self.send(exchange, body, headers, out);
        }
    }

    /// Sends what may be sent: what tells something goes behind all requests before it, and what follows waits until the server has it.
    fn flush(&mut self, out: &mut Vec<Act>) {
        if self.session_is_over.is_some() {
            return;
        }
        while let Some(first) = self.queue.front() {
            let is_telling = |open: &Exchange| open.is_telling();
            let is_asking = |open: &Exchange| open.asked().is_some() && !open.is_sent;
            let mut open = self.exchanges.values();
            let waits = match first.kind {
                Kind::Request(_) => open.any(is_telling),
                Kind::Told(_) => open.any(|open| is_telling(open) || is_asking(open)),
            };
            if waits || (self.form == Form::Events && self.endpoint.is_none()) {
                return;
            }
            if let Some(posted) = self.queue.pop_front() {
                self.post(posted, out);
            }
        }
    }

    fn post(&mut self, posted: Posted, out: &mut Vec<Act>) {
        let Posted {
            line,
            kind,
            headers,
        } = posted;
        let purpose = match kind {
            Kind::Request(asked) => {
                if matches!(asked.role, Role::Greeting { .. }) {
                    self.greeting = Some(asked.number);
                }
                Purpose::Ask {
                    line: line.clone(),
                    asked,
                    is_answered: false,
                }
            }
            Kind::Told(told) => {
                let open = told.cancels.map(|number| self.withdraw(number, out));
                let is_told = match (open, self.form) {
                    // The end of its answer says so, or there is nothing to take back.
                    (Some(Some(true)), _) | (Some(None), Form::Streamable) => true,
                    (Some(Some(false)) | None, _) | (Some(None), Form::Events) => false,
                };
                if is_told {
                    return;
                }
                Purpose::Tell {
                    told,
                    line: line.clone(),
                    again: false,
                }
            }
        };
        let exchange = Exchange::new(purpose, String::new(), self.bounds.retry);
        self.send(exchange, Some(line), headers, out);
    }

    /// Reads no answer of a request any more. Returns true where that tells the server to stop, `None` where there is none.
    fn withdraw(&mut self, number: u64, out: &mut Vec<Act>) -> Option<bool> {
        self.mismatched.remove(&number);
        let is_it = |purpose: &Purpose| match purpose {
            Purpose::Ask {
                asked,
                is_answered: false,
                ..
            } if asked.number == number => Some(asked.is_stateless),
            Purpose::Ask { .. } | Purpose::Tell { .. } | Purpose::Listen | Purpose::End => None,
        };
        let mut paused = self.pauses.iter().enumerate();
        let paused = paused.find_map(|(at, pause)| Some((at, is_it(&pause.purpose)?)));
        if let Some((at, is_stateless)) = paused {
            self.pauses.swap_remove(at);
            return Some(is_stateless);
        }
        let mut open = self.exchanges.iter();
        let open = open.find_map(|(id, open)| Some((*id, is_it(&open.purpose)?)));
        let (id, is_stateless) = open?;
        self.drop_one(id, out);
        Some(is_stateless)
    }

    /// Sends a request: `body` by POST, else by the method of its purpose.
    fn send(
        &mut self,
        exchange: Exchange,
        body: Option<String>,
        mut headers: Headers,
        out: &mut Vec<Act>,
    ) {
        let method = match (&exchange.purpose, &body) {
            (_, Some(_)) => "POST",
            (Purpose::End, None) => "DELETE",
            (Purpose::Ask { .. } | Purpose::Tell { .. } | Purpose::Listen, None) => "GET",
        };
        let accept = match (self.form, &body) {
            (Form::Streamable, Some(_)) => "application/json, text/event-stream",
            (Form::Streamable | Form::Events, None) => "text/event-stream",
            (Form::Events, Some(_)) => "*/*",
        };
        headers.push(("accept".into(), accept.to_owned()));
        if body.is_some() {
            headers.push(("content-type".into(), "application/json".to_owned()));
        }
        if let Some(session) = &self.session {
            headers.push(("mcp-session-id".into(), session.clone()));
        }
        if let Some(revision) = &self.revision {
            headers.push(("mcp-protocol-version".into(), revision.clone()));
        }
        if body.is_none() && !exchange.last_id.is_empty() {
            headers.push(("last-event-id".into(), exchange.last_id.clone()));
        }
        self.latest += 1;
        let id = ExchangeId(self.latest);
        let request = Request {
            method,
            place: self.endpoint.clone().filter(|_| body.is_some()),
            headers,
            body,
            waits: exchange.asked().is_some(),
        };
        self.exchanges.insert(id, exchange);
        out.push(Act::Send(id, request));
    }

    fn drop_one(&mut self, id: ExchangeId, out: &mut Vec<Act>) -> Option<Exchange> {
        let exchange = self.exchanges.remove(&id)?;
        out.push(Act::Drop(id));
        Some(exchange)
    }

    fn drop_all(&mut self, out: &mut Vec<Act>) {
        self.queue.clear();
        self.mismatched.clear();
        self.pauses.clear();
        let open = core::mem::take(&mut self.exchanges);
        out.extend(open.into_keys().map(Act::Drop));
    }

    fn forget(&mut self, out: &mut Vec<Act>) {
        self.drop_all(out);
        self.phase = Phase::Closed;
        self.greeting = None;
        self.is_greeted = false;
        self.session = None;
        self.session_is_over = None;
        self.revision = None;
        self.endpoint = None;
        self.has_listened = false;
        self.faults = 0;
    }

    /// The connection is over if its session is and no answer can come any more.
    fn weigh_session(&mut self, out: &mut Vec<Act>, hear: &mut Hear<'_>) {
        let mut open = self.exchanges.values();
        if self.session_is_over.is_some() && !open.any(Exchange::may_be_answered) {
            self.lose(SESSION_ENDED, out, hear);
        }
    }

    /// The connection is over.
    fn lose(&mut self, why: &str, out: &mut Vec<Act>, hear: &mut Hear<'_>) {
        if self.phase == Phase::Closed {
            return;
        }
        let exit = match (self.phase, self.is_greeted) {
            (Phase::Open, false) => Exit::NotStarted,
            (Phase::Open, true) | (Phase::Closing | Phase::Closed, _) => Exit::Disconnected,
        };
        for posted in self.queue.drain(..) {
            // It was not sent.
            if let Kind::Request(asked) = &posted.kind {
                hear(Heard::NotTaken(asked.number, &posted.line));
            }
        }
        self.forget(out);
        hear(Heard::Ended(exit, why));
    }

    /// A request gets no answer.
    fn unanswered(&mut self, number: u64, reason: Reason, what: &str, hear: &mut Hear<'_>) {
        self.mismatched.remove(&number);
        let message = format!("the MCP server `{}` {what}", self.name);
        let refusal = Refusal::new(reason, message).about(&self.name);
        hear(Heard::Unanswered(number, refusal));
    }
}
