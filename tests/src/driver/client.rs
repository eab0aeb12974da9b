//! One client's request: its bytes, their way through a connection of the engine, and what the client reads.

use super::RESTLESS;
use super::ready::{Alarm, Ready, Who};
use crate::client::Client;
use crate::response::{Answer, Head, Reader};
use mcp_local_provider_core::api::Listener;
use mcp_local_provider_core::id::{ExchangeId, LinkId, SessionId};
use mcp_local_provider_core::time::Instant;
use mcp_local_provider_engine::client_connection::{ClientConnection, Next, Wakers};
use mcp_local_provider_engine::listen::room;
use mcp_local_provider_engine::{Engine, Usage};
use std::fmt::Write;
use std::net::IpAddr;
use std::sync::Arc;
use std::task::Waker;

/// A request as a client writes it.
#[derive(Clone, Copy, Debug)]
pub struct Asking<'a> {
    /// Upper case.
    pub method: &'a str,
    /// Path and query.
    pub target: &'a str,
    /// Names in lower case; `host` is added where it is missing.
    pub headers: &'a [(&'a str, &'a str)],
    /// The socket that it came to.
    pub listener: Listener,
    /// Address of the client.
    pub address: IpAddr,
    /// The body.
    pub body: &'a str,
    /// The head comes alone; the body does with [`super::Driver::send_body`].
    pub late: bool,
    /// The body comes in chunks, and its length is not told.
    pub chunked: bool,
    /// Most bytes that go either way at once; 0 for all that there are.
    pub piece: usize,
    /// The client keeps the connection, and uses one that it has kept.
    pub keeps: bool,
}

impl<'a> Asking<'a> {
    /// A request to a route, by its name, of a program on this machine that shows no key.
    #[must_use]
    pub fn new(route: &'a str, body: &'a str) -> Self {
        let (method, target) = route.split_once(' ').expect("method and path");
        Self {
            method,
            target,
            headers: &[],
            listener: Listener::All,
            address: [127, 0, 0, 1].into(),
            body,
            late: false,
            chunked: false,
            piece: 0,
            keeps: false,
        }
    }

    /// The head of the request as its client writes it.
    fn head(&self) -> String {
        let mut head = format!("{} {} HTTP/1.1\r\n", self.method, self.target);
        if self.headers.iter().all(|(name, _)| *name != "host") {
            head.push_str("host: localhost\r\n");
        }
        for (name, value) in self.headers {
            let _ = write!(head, "{name}: {value}\r\n");
        }
        match self.chunked {
            true => head.push_str("transfer-encoding: chunked\r\n"),
            false if self.method == "GET" && self.body.is_empty() => {}
            false => {
                let _ = write!(head, "content-length: {}\r\n", self.body.len());
            }
        }
        head + "\r\n"
    }

    /// The body as its client writes it.
    fn framed_body(&self) -> Vec<u8> {
        let body = self.body.as_bytes();
        if !self.chunked {
            return body.to_vec();
        }
        let mut framed = Vec::new();
        let (first, second) = body.split_at(body.len() / 2);
        for chunk in [first, second].iter().filter(|chunk| !chunk.is_empty()) {
            framed.extend(format!("{:x}\r\n", chunk.len()).bytes());
            framed.extend_from_slice(chunk);
            framed.extend(b"\r\n");
        }
        framed.extend(b"0\r\n\r\n");
        framed
    }
}

/// The one waker of a task.
pub(super) struct Same<'w>(pub(super) &'w Waker);

impl Wakers for Same<'_> {
    fn idle(&mut self) -> &Waker {
        self.0
    }

    fn answer(&mut self) -> &Waker {
        self.0
    }
}

/// Gives a connection up to `most` bytes of what its client has to send, all when that is 0.
pub(super) fn send(connection: &mut ClientConnection, unsent: &mut Vec<u8>, most: usize) {
    let most = if most == 0 { unsent.len() } else { most };
    let receive = |into: &mut Vec<u8>| {
        let count = most.min(unsent.len()).min(room(into));
        into.extend(unsent.drain(..count));
        Ok(count)
    };
    connection.receive(receive).expect("memory does not fail");
}

/// One request that did not have its answer at once.
#[derive(Debug)]
pub struct Call {
    /// Its id.
    pub id: ExchangeId,
    /// Head of the response.
    pub head: Option<Head>,
    /// The response body so far.
    pub sent: Vec<u8>,
    /// The answer as its client has read it.
    pub client: Client,
    /// True once an agent had it.
    pub admitted: bool,
    /// False: its client does not read, or its task does not get its turn, so that [`super::Driver::serve`] alone polls it.
    pub eager: bool,
    /// True when the answer was asked for as a stream.
    pub(super) streams: bool,
    /// True when the client has closed its connection.
    pub gone: bool,
    /// True when something has come of it since somebody set this to false.
    pub changed: bool,
    /// True once it was in the queue, or an agent had it.
    pub(super) ran: bool,
    pub(super) alarm: Alarm,
    /// Its connection, for as long as it is up: the client may keep it for another request.
    connection: Option<ClientConnection>,
    /// The client, and the socket that it came to.
    from: (IpAddr, Listener),
    /// Bytes that the client sends as soon as they are asked for.
    unsent: Vec<u8>,
    /// The body, which the client sends later.
    held: Option<Vec<u8>>,
    piece: usize,
    keeps: bool,
    reader: Reader,
    is_over: bool,
}

impl Call {
    /// A request on a connection that was kept, or on a new one. It is at place `at` in the list of calls.
    pub(super) fn new(
        engine: &Arc<Engine>,
        asking: &Asking<'_>,
        id: ExchangeId,
        at: usize,
        kept: Option<ClientConnection>,
        eager: bool,
        ready: &Arc<Ready>,
    ) -> Self {
        let from = (asking.address, asking.listener);
        let connection = kept.unwrap_or_else(|| {
            let client = engine.connect().expect("limits.connections are many");
            ClientConnection::new(client, from.0, from.1)
        });
        let (mut unsent, body) = (asking.head().into_bytes(), asking.framed_body());
        if !asking.late {
            unsent.extend_from_slice(&body);
        }
        Self {
            id,
            head: None,
            sent: Vec::new(),
            client: Client::default(),
            admitted: false,
            eager,
            streams: asking.body.contains("\"stream\":true"),
            gone: false,
            changed: true,
            ran: false,
            alarm: Alarm::new(Who::Call(at), ready),
            connection: Some(connection),
            from,
            unsent,
            held: asking.late.then_some(body),
            piece: asking.piece,
            keeps: asking.keeps,
            reader: Reader::new(asking.method),
            is_over: false,
        }
    }

    /// Its body comes.
    pub(super) fn send_body(&mut self) {
        if let Some(body) = self.held.take() {
            self.unsent.extend(body);
        }
    }

    /// True until its body has come.
    #[must_use]
    pub const fn is_sending(&self) -> bool {
        self.held.is_some() && !self.is_over
    }

    /// Link and session that answer, if the request has those already; `None` where it is with nobody.
    fn running(&self) -> Option<Option<(LinkId, &SessionId)>> {
        let running = self.connection.as_ref()?.running()?;
        let ticket = running.ticket();
        Some(ticket.map(|ticket| (ticket.link, ticket.session())))
    }

    /// True when it waits in the queue.
    #[must_use]
    pub fn is_waiting(&self) -> bool {
        self.running().is_some_and(|ticket| ticket.is_none())
    }

    /// True when an agent has it.
    #[must_use]
    pub fn is_answering(&self) -> bool {
        self.answers().is_some()
    }

    /// Bytes of the answer that its task has not taken, as `limits.memory` counts them.
    pub(super) fn unread(&self) -> Option<usize> {
        Some(self.connection.as_ref()?.running()?.unread())
    }

    /// True when it waits in the queue and has not heard yet that it may ask again.
    #[must_use]
    pub fn is_told(&self) -> bool {
        self.is_waiting() && self.alarm.is_woken()
    }

    /// True when it has ended.
    #[must_use]
    pub const fn is_over(&self) -> bool {
        self.is_over
    }

    /// True when it has ended, and its connection too.
    pub(super) const fn is_closed(&self) -> bool {
        self.is_over && self.connection.is_none()
    }

    /// True when the client has all of an answer that is no error.
    #[must_use]
    pub fn completed(&self) -> bool {
        self.admitted && self.is_over() && !self.gone && self.client.error.is_none()
    }

    /// Link and session that answer, while they do.
    #[must_use]
    pub fn answers(&self) -> Option<(LinkId, &SessionId)> {
        self.running().flatten()
    }

    /// True when its task is to be polled: it is woken, or it is late enough, and the client reads.
    pub(super) fn is_due(&self, now: Instant) -> bool {
        (self.eager || self.is_over) && self.alarm.is_due(now)
    }

    /// The whole answer, once it is there.
    pub(super) fn answer(&self) -> Option<Answer> {
        let head = self.head.clone().filter(|_| self.is_over)?;
        let body = self.sent.clone();
        Some(Answer { head, body })
    }

    /// Its connection, when that waits for another request of this client.
    pub(super) fn take_kept(
        &mut self,
        now: Instant,
        asking: &Asking<'_>,
    ) -> Option<ClientConnection> {
        if !self.is_over || self.from != (asking.address, asking.listener) {
            return None;
        }
        self.poll(now);
        let kept = self.connection.take_if(|connection| connection.is_idle());
        if kept.is_some() {
            self.alarm.until = None;
        }
        kept
    }

    /// Its task runs.
    pub(super) fn poll(&mut self, now: Instant) {
        let waker = self.alarm.reset().clone();
        self.alarm.until = None;
        for _ in 0..RESTLESS {
            self.note_progress();
            let Some(connection) = &mut self.connection else {
                return;
            };
            let until = match connection.poll(&mut Same(&waker)) {
                Next::Write => {
                    let mut bytes = connection.unwritten().concat();
                    if self.piece > 0 {
                        bytes.truncate(self.piece);
                    }
                    assert!(!bytes.is_empty(), "nothing is to be written");
                    connection.wrote(bytes.len());
                    self.take(&bytes);
                    continue;
                }
                Next::Receive(_) if !self.unsent.is_empty() => {
                    send(connection, &mut self.unsent, self.piece);
                    continue;
                }
                Next::Receive(until) if until.is_some_and(|until| until <= now) => {
                    connection.late();
                    continue;
                }
                Next::Receive(until) => until,
                Next::Wait(until) => {
                    assert!(until.is_none_or(|until| until > now), "it is late already");
                    until
                }
                Next::Measure => {
                    connection.measured(Usage::default());
                    continue;
                }
                Next::Finish => continue,
                Next::Upgraded => panic!("{} is no agent's", self.id),
                Next::Close => {
                    self.connection = None;
                    assert!(self.is_over, "{} has no answer", self.id);
                    return;
                }
            };
            self.note_progress();
            self.alarm.until = until;
            return;
        }
        panic!("{} never rests", self.id);
    }

    fn note_progress(&mut self) {
        let ticket = self.running();
        let (runs, admitted) = (ticket.is_some(), ticket.flatten().is_some());
        self.ran |= runs;
        self.admitted |= admitted;
    }

    /// Polls it although nobody has woken it: nothing may come of it.
    pub(super) fn prod(&mut self) {
        if self.alarm.is_woken() {
            return;
        }
        let waker = self.alarm.waker();
        if let Some(connection) = &mut self.connection {
            match connection.poll(&mut Same(waker)) {
                Next::Wait(until) | Next::Receive(until) => {
                    assert_eq!(until, self.alarm.until, "{} was not woken", self.id);
                }
                next => panic!("{} was not woken for {next:?}", self.id),
            }
        }
    }

    /// The client closes its connection, or its sending side alone, which says that it has left too.
    pub(super) fn hang_up(&mut self, now: Instant, half: bool) {
        if self.is_over {
            return;
        }
        self.gone = true;
        self.over();
        if let Some(connection) = &mut self.connection
            && half
            && self.held.is_none()
        {
            connection.end();
            self.poll(now);
            assert!(self.running().is_none(), "{} is worked for", self.id);
        }
        self.connection = None;
    }

    fn take(&mut self, bytes: &[u8]) {
        if self.gone {
            return;
        }
        self.changed = true;
        let (head, body) = self.reader.read(bytes);
        if let Some(head) = head {
            check_id(&head, self.id);
            self.client.head(&head);
            self.head = Some(head);
        }
        self.sent.extend_from_slice(&body);
        self.client.feed(&body);
        if self.reader.is_whole() {
            self.client.finish();
            // What no agent answers ends as its own specification says.
            let done = self.client.done || !self.ran;
            assert!(done, "{} ended without a terminal record", self.id);
            self.over();
            if !self.keeps {
                self.connection = None;
            }
        }
    }

    fn over(&mut self) {
        self.changed = true;
        self.is_over = true;
        self.alarm.until = None;
    }
}

/// The answer names the request that it belongs to.
fn check_id(head: &Head, id: ExchangeId) {
    let mut named = false;
    head.headers(|name, value| {
        if name == "x-request-id" {
            assert_eq!(value, id.text(), "x-request-id");
            named = true;
        }
    });
    assert!(named, "an answer without x-request-id");
}
