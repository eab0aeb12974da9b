//! One client's request: its way through the engine, and what the client gets.

use super::ready::{Alarm, Ready, Who};
use crate::client::Client;
use mcp_local_provider_core::api::Listener;
use mcp_local_provider_core::id::{ExchangeId, LinkId, SessionId};
use mcp_local_provider_core::time::Instant;
use mcp_local_provider_engine::answer::{Answer, Head};
use mcp_local_provider_engine::request::{self, Begun, Expecting, Request, Step, Upgrade};
use mcp_local_provider_engine::{self as engine, Engine, Progress, Running};
use std::net::IpAddr;
use std::sync::Arc;

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
        }
    }
}

/// The first step of a request.
pub(super) enum Begin {
    Step(Step),
    Upgrade(Upgrade),
}

pub(super) fn begin(engine: &Arc<Engine>, asking: &Asking<'_>) -> Begin {
    let value = |name: &str| {
        let mut given = asking.headers.iter();
        let found = given.find(|(given, _)| *given == name);
        let value = found.map(|(_, value)| value.as_bytes());
        value.or_else(|| (name == "host").then_some(&b"localhost"[..]))
    };
    let request = Request::new(asking.method, asking.target, asking.address, value);
    match request::begin(engine, asking.listener, &request) {
        Begun::Upgrade(upgrade) => Begin::Upgrade(upgrade),
        Begun::Step(Step::Body(expecting)) if !asking.late => {
            Begin::Step(expecting.complete(asking.body.as_bytes().to_vec()))
        }
        Begun::Step(Step::Report(report)) => {
            Begin::Step(Step::Answer(report.answer(engine.usage())))
        }
        Begun::Step(step) => Begin::Step(step),
    }
}

/// The progress of a call.
#[derive(Debug)]
pub enum Phase {
    /// Its body has not come yet.
    Sending(Box<Expecting>, Vec<u8>),
    /// In the queue, or an agent has it.
    Answering(Box<Running>),
    /// Answered, refused or left.
    Over,
}

/// One request that did not have its answer at once.
#[derive(Debug)]
pub struct Call {
    /// Its id.
    pub id: ExchangeId,
    /// Its progress.
    pub phase: Phase,
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
    pub(super) alarm: Alarm,
    /// Its connection, for as long as it needs one.
    connection: Option<engine::Client>,
}

impl Call {
    /// `step` has not answered.
    pub(super) fn new(
        id: ExchangeId,
        at: usize,
        step: Step,
        body: &str,
        eager: bool,
        connection: Option<engine::Client>,
        ready: &Arc<Ready>,
    ) -> Self {
        let mut call = Self {
            id,
            phase: Phase::Over,
            head: None,
            sent: Vec::new(),
            client: Client::default(),
            admitted: false,
            eager,
            streams: body.contains("\"stream\":true"),
            gone: false,
            changed: true,
            alarm: Alarm::new(Who::Call(at), ready),
            connection,
        };
        match step {
            Step::Body(expecting) => call.phase = Phase::Sending(expecting, body.into()),
            step => call.follow(step),
        }
        call
    }

    /// Its body comes. True when it was let in.
    pub(super) fn send_body(&mut self) -> bool {
        if !self.is_sending() {
            return false;
        }
        if let Phase::Sending(expecting, body) = std::mem::replace(&mut self.phase, Phase::Over) {
            self.follow(expecting.complete(body));
            // What it is now has heard nothing yet.
            self.alarm.ring();
        }
        !self.is_over()
    }

    /// True until its body has come.
    #[must_use]
    pub const fn is_sending(&self) -> bool {
        matches!(self.phase, Phase::Sending(..))
    }

    fn follow(&mut self, step: Step) {
        match step {
            Step::Running(running) => {
                self.admitted = running.ticket().is_some();
                self.phase = Phase::Answering(running);
            }
            Step::Answer(Answer { head, body }) => {
                self.take(Some(head), &body);
                self.end();
            }
            Step::Body(_) | Step::Report(_) => panic!("{} begins anew", self.id),
        }
    }

    /// True when it waits in the queue.
    #[must_use]
    pub fn is_waiting(&self) -> bool {
        matches!(&self.phase, Phase::Answering(running) if running.ticket().is_none())
    }

    /// True when an agent has it.
    #[must_use]
    pub fn is_answering(&self) -> bool {
        matches!(&self.phase, Phase::Answering(running) if running.ticket().is_some())
    }

    /// True when it waits in the queue and has not heard yet that it may ask again.
    #[must_use]
    pub fn is_told(&self) -> bool {
        self.is_waiting() && self.alarm.is_woken()
    }

    /// True when it has ended.
    #[must_use]
    pub const fn is_over(&self) -> bool {
        matches!(self.phase, Phase::Over)
    }

    /// True when the client has all of an answer that is no error.
    #[must_use]
    pub fn completed(&self) -> bool {
        self.admitted && self.is_over() && !self.gone && self.client.error.is_none()
    }

    /// Link and session that answer, while they do.
    #[must_use]
    pub fn answers(&self) -> Option<(LinkId, &SessionId)> {
        let Phase::Answering(running) = &self.phase else {
            return None;
        };
        running
            .ticket()
            .map(|ticket| (ticket.link, ticket.session()))
    }

    /// True when its task is to be polled: it is woken, or it is late enough, and the client reads.
    pub(super) fn is_due(&self, now: Instant) -> bool {
        self.eager && self.alarm.is_due(now)
    }

    /// Its task runs.
    pub(super) fn poll(&mut self, now: Instant) {
        let waker = self.alarm.reset().clone();
        self.alarm.until = None;
        loop {
            match &mut self.phase {
                Phase::Over | Phase::Sending(..) => return,
                Phase::Answering(running) => {
                    let progress = running.poll(&waker);
                    self.admitted |= running.ticket().is_some();
                    let (head, has_body) = (running.take_head(), running.has_body());
                    let ended = running.has_ended();
                    let body = std::mem::take(running.body());
                    match progress {
                        Progress::Until(until) => {
                            assert!(!ended && head.is_none() && !has_body, "nothing is to do");
                            assert!(until.is_none_or(|until| until > now), "it is late already");
                            self.alarm.until = until;
                            return;
                        }
                        Progress::Ready => {
                            assert!(ended || head.is_some() || has_body, "nothing has come");
                        }
                    }
                    self.take(head, &body);
                    if ended {
                        self.end();
                    } else if let Phase::Answering(running) = &mut self.phase {
                        let mut body = body;
                        body.clear();
                        *running.body() = body;
                    }
                }
            }
        }
    }

    /// Polls it although nobody has woken it: nothing may come of it.
    pub(super) fn prod(&mut self) {
        if self.alarm.is_woken() {
            return;
        }
        let waker = self.alarm.waker();
        match &mut self.phase {
            Phase::Over | Phase::Sending(..) => {}
            Phase::Answering(running) => {
                let until = Progress::Until(self.alarm.until);
                assert_eq!(running.poll(waker), until, "{} was not woken", self.id);
            }
        }
    }

    /// The client closes its connection.
    pub(super) fn hang_up(&mut self) {
        if !self.is_over() {
            self.gone = true;
            self.over();
        }
    }

    fn take(&mut self, head: Option<Head>, body: &[u8]) {
        self.changed = true;
        if let Some(head) = head {
            assert!(self.head.is_none(), "{} has a second head", self.id);
            check_id(&head, self.id);
            self.client.head(&head);
            self.head = Some(head);
        }
        self.sent.extend_from_slice(body);
        self.client.feed(body);
    }

    fn end(&mut self) {
        assert!(self.head.is_some(), "{} ended without a head", self.id);
        self.client.finish();
        assert!(
            self.client.done,
            "{} ended without a terminal record",
            self.id
        );
        self.over();
    }

    fn over(&mut self) {
        self.changed = true;
        self.phase = Phase::Over;
        self.alarm.until = None;
        self.connection = None;
    }
}

/// The answer names the request that it belongs to.
pub(super) fn check_id(head: &Head, id: ExchangeId) {
    let mut named = false;
    head.headers(|name, value| {
        if name == "x-request-id" {
            assert_eq!(value, id.text(), "x-request-id");
            named = true;
        }
    });
    assert!(named, "an answer without x-request-id");
}
