//! The laziest legal driver: real machines, one thread, virtual time.

mod call;
mod check;
mod http;
mod wire;

pub use call::{Call, Phase};
pub use http::Answered;
pub use wire::Wire;

use crate::agent;
use mcp_local_provider_core::agents::websocket;
use mcp_local_provider_core::api::Endpoint;
use mcp_local_provider_core::config::HubConfig;
use mcp_local_provider_core::error::{AgentFault, Code, Refusal};
use mcp_local_provider_core::exchange::{Exchange, Flow, Intent};
use mcp_local_provider_core::hub::audit::{AuditRecord, RequestInfo};
use mcp_local_provider_core::hub::keys::Caller;
use mcp_local_provider_core::hub::sessions::{Action, Status};
use mcp_local_provider_core::hub::{Admission, Ask, Claim, Hello, Hub, HubOut, Requester, Ticket};
use mcp_local_provider_core::id::{ExchangeId, Ids, LinkId};
use mcp_local_provider_core::invocation::{CancelReason, Delivery, Failure};
use mcp_local_provider_core::link::{
    Command, Deliver, Envelope, Link, LinkConfig, LinkOut, Notice,
};
use mcp_local_provider_core::mailbox::{Batch, Push};
use mcp_local_provider_core::time::{Instant, Timeout};
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

/// When every run starts: 2026-01-01T00:00:00Z.
pub const EPOCH: Duration = Duration::from_secs(1_767_225_600);

/// Real machines and what lies between them.
#[derive(Debug)]
pub struct Driver {
    /// What everything was made with.
    pub config: HubConfig,
    /// Exchanges that were open and that waited when the configuration changed last; they go on whatever the new limits are.
    before: (usize, usize),
    /// The hub.
    pub hub: Hub,
    /// Virtual time.
    pub now: Instant,
    /// All links that ever were; dead ones take late calls.
    pub wires: BTreeMap<LinkId, Wire>,
    /// All requests that ever were, in order.
    pub calls: Vec<Call>,
    /// What [`Call::eager`] of the next call is to be.
    pub eager: bool,
    /// Commands that the hub has given and the links have not taken yet.
    pub commands: VecDeque<(LinkId, Command)>,
    /// True: commands wait in `commands` until [`Driver::deliver_command`].
    pub hold_commands: bool,
    /// What the audit file would have.
    pub audit: Vec<AuditRecord>,
    link_config: LinkConfig,
    ids: Ids,
    batch: Batch,
}

/// Puts deliveries of a link into the mailboxes of its calls.
struct Mailboxes<'c>(&'c mut [Call]);

impl Deliver<usize> for Mailboxes<'_> {
    fn deliver(&mut self, to: &usize, delivery: &Delivery<'_>) -> Push {
        self.0[*to].take_delivery(delivery)
    }
}

impl Driver {
    /// A program that has just started.
    #[must_use]
    pub fn new(config: HubConfig) -> Self {
        let link_config = LinkConfig::new(&config.limits);
        Self::with_link_config(config, link_config)
    }

    /// The same with its own limits and times for links.
    #[must_use]
    pub fn with_link_config(config: HubConfig, link_config: LinkConfig) -> Self {
        Self {
            hub: Hub::new(config.clone(), [7; 32], Instant::ZERO, EPOCH),
            config,
            before: (0, 0),
            now: Instant::ZERO,
            wires: BTreeMap::new(),
            calls: Vec::new(),
            eager: true,
            commands: VecDeque::new(),
            hold_commands: false,
            audit: Vec::new(),
            link_config,
            ids: Ids::new(agent::PROCESS),
            batch: Batch::new(),
        }
    }

    /// An agent's connection comes up.
    ///
    /// # Errors
    /// As [`Hub::connect`].
    pub fn connect(&mut self, token: Option<&str>) -> Result<LinkId, Refusal> {
        let mut out = HubOut::default();
        let hello = Hello {
            token,
            dialled: false,
        };
        let connected = self.hub.connect(self.now, hello, &mut out);
        if let Ok(id) = connected {
            let link = Link::new(id, &self.link_config, self.hub.wall(), self.now);
            self.wires.insert(id, Wire::new(link));
        }
        self.absorb(out);
        connected
    }

    /// The owner has another configuration.
    pub fn reload(&mut self, config: HubConfig) {
        let mut out = HubOut::default();
        self.hub.reload(self.now, config.clone(), &mut out);
        self.config = config;
        let metrics = self.hub.metrics();
        self.before = (metrics.open, metrics.queued);
        self.absorb(out);
    }

    /// A connection is gone, for whatever reason.
    pub fn lose(&mut self, id: LinkId) {
        self.on_wire(id, |link, now, out, deliver| {
            link.handle_disconnect(now, out, deliver);
            assert_eq!(link.open_exchanges(), 0, "open on a link that is gone");
        });
        if let Some(wire) = self.wires.get_mut(&id) {
            wire.alive = false;
        }
        let mut out = HubOut::default();
        self.hub.disconnected(self.now, id, &mut out);
        self.absorb(out);
    }

    /// A text frame of an agent has arrived.
    pub fn receive(&mut self, id: LinkId, frame: &str) {
        let limit = self.link_config.frame_bytes;
        // Before any lock, as a driver must.
        let decoded = Envelope::decode(frame, limit);
        self.on_wire(id, |link, now, out, deliver| match decoded {
            Ok(envelope) => link.handle_envelope(now, envelope, out, deliver),
            Err(fault) => link.handle_fault(now, fault, out, deliver),
        });
    }

    /// Something has arrived that is no text frame, or none that can be.
    pub fn fault(&mut self, id: LinkId, fault: AgentFault) {
        self.on_wire(id, |link, now, out, deliver| {
            link.handle_fault(now, fault, out, deliver);
        });
    }

    /// A client's request has arrived. The answer is the index of its call.
    ///
    /// # Errors
    /// When it could not be read; then there is no call.
    pub fn request(
        &mut self,
        caller: &Caller,
        endpoint: Endpoint,
        body: &str,
        session: Option<&str>,
    ) -> Result<usize, Refusal> {
        let id = self.ids.next();
        self.ask(id, caller, endpoint, body, session)
    }

    fn ask(
        &mut self,
        id: ExchangeId,
        caller: &Caller,
        endpoint: Endpoint,
        body: &str,
        session: Option<&str>,
    ) -> Result<usize, Refusal> {
        let at = self.calls.len();
        let wall = self.hub.wall();
        let body = body.as_bytes();
        let (exchange, intent) = Exchange::parse(&self.config, wall, id, endpoint, self.now, body)?;
        let mut call = Call::new(
            exchange,
            id,
            endpoint,
            body.to_vec(),
            self.now,
            self.config.limits.mailbox_bytes,
        );
        call.eager = self.eager;
        if intent.load_only {
            call.load(self.now);
            self.calls.push(call);
            return Ok(at);
        }
        let info = RequestInfo {
            exchange: id,
            started: self.now,
            key: Some(caller.name.clone()),
            address: caller.address,
            user_agent: None,
            endpoint: endpoint.name(),
            bytes_in: u64::try_from(body.len()).unwrap(),
            prompt: Some(intent.prompt),
        };
        let ask = Ask {
            model: &intent.invocation.model,
            session,
            tokens: intent.tokens,
            scope: "inference",
            embeddings: intent.embeddings,
        };
        match self.hub.admit(self.now, caller, info, &ask) {
            Ok(Admission::Granted(ticket)) => {
                let frame = invoke(&self.hub, self.now, &ticket, &intent);
                self.calls.push(call);
                self.start(at, ticket, frame);
            }
            Ok(Admission::Queued(wait)) => {
                call.phase = Phase::Waiting(wait);
                self.calls.push(call);
            }
            Err(refusal) => {
                call.refuse(&refusal);
                self.calls.push(call);
            }
        }
        self.flow();
        Ok(at)
    }

    fn start(&mut self, at: usize, ticket: Ticket, frame: String) {
        let call = &mut self.calls[at];
        call.exchange.start(self.now, &ticket);
        let (id, link, session) = (call.id, ticket.link, ticket.session.clone());
        call.session = Some(session.clone());
        call.phase = Phase::Admitted(ticket);
        let opened = self.on_wire(link, |link, now, out, _| {
            link.open(now, id, session, frame, at, out)
        });
        match opened {
            Some(Ok(())) => self.calls[at].opened(link),
            Some(Err((_, to))) => {
                assert_eq!(to, at, "the handle comes back untouched");
                self.fail_locally(at);
            }
            None => self.fail_locally(at),
        }
    }

    /// What a driver does when the link of a ticket is gone or closed.
    fn fail_locally(&mut self, at: usize) {
        let failure = Delivery::Failed(Failure {
            code: Code::AgentLost,
            message: "the connection to the agent was lost".into(),
            retry_after: None,
        });
        let call = &mut self.calls[at];
        let flow = call
            .exchange
            .handle_delivery(self.now, &failure, &mut call.reply);
        self.heed(at, flow);
    }

    /// The task of a call runs: it takes everything that is in its mailbox.
    pub fn serve(&mut self, at: usize) {
        let mut batch = std::mem::take(&mut self.batch);
        let call = &mut self.calls[at];
        if call.mailbox.drain(&mut batch) {
            for delivery in &batch {
                // A real driver stops at the end; here what comes after it must do nothing.
                let call = &mut self.calls[at];
                let flow = call
                    .exchange
                    .handle_delivery(self.now, &delivery, &mut call.reply);
                self.heed(at, flow);
            }
        }
        self.batch = batch;
    }

    /// The client of a call has closed its connection.
    pub fn client_gone(&mut self, at: usize) {
        let call = &mut self.calls[at];
        call.gone = true;
        let flow = call.exchange.handle_client_gone(self.now);
        if let Phase::Waiting(wait) = call.phase {
            call.phase = Phase::Over;
            let mut out = HubOut::default();
            self.hub.leave(self.now, wait, &mut out);
            self.absorb(out);
        } else {
            self.heed(at, flow);
        }
        self.flow();
    }

    /// Calls that came before come once more: opening, starting, and, once it is over, cancelling.
    pub fn open_again(&mut self, at: usize) {
        let only = self.calls.len() == 1;
        let call = &mut self.calls[at];
        if let Phase::Admitted(ticket) = &call.phase {
            call.exchange.start(self.now, ticket);
        }
        let (id, over, open) = (call.id, matches!(call.phase, Phase::Over), call.open);
        let (Some(link), Some(session)) = (call.link, call.session.clone()) else {
            return;
        };
        self.on_wire(link, |link, now, out, _| {
            let frames = out.frames.len();
            // Ids are never reused, so a link need not know one for ever.
            if open || (only && link.tombstones() > 0) {
                let opened = link.open(now, id, session, String::new(), at, out);
                assert!(opened.is_err(), "{id} was opened twice");
            }
            if over {
                link.cancel(now, id, CancelReason::ClientDisconnected, out);
            }
            assert_eq!(out.frames.len(), frames, "a frame for what was not opened");
        });
    }

    /// The agent of a link shows a sign of life.
    pub fn alive(&mut self, link: LinkId) {
        self.on_wire(link, |link, now, _, _| link.handle_alive(now));
    }

    /// An operator, or the program itself, changes a session.
    ///
    /// # Errors
    /// As [`Hub::control`].
    pub fn control(&mut self, session: &str, action: Action) -> Result<Status, Refusal> {
        let mut out = HubOut::default();
        let changed = self
            .hub
            .control(self.now, Requester::Provider, session, action, &mut out);
        self.absorb(out);
        changed
    }

    /// Nothing new is admitted from now on.
    pub fn drain(&mut self) {
        let mut out = HubOut::default();
        self.hub.drain(self.now, &mut out);
        self.absorb(out);
    }

    /// Does what a call of an exchange asks for.
    fn heed(&mut self, at: usize, flow: Flow) {
        let now = self.now;
        let call = &mut self.calls[at];
        call.deliver_reply();
        let (outcome, cancel) = match flow {
            Flow::Continue => return,
            Flow::Done(outcome) => (outcome, None),
            Flow::Cancel(why, outcome) => (outcome, Some(why)),
        };
        let (id, link) = (call.id, call.link);
        let ticket = call.end(outcome);
        if let (Some(why), Some(link)) = (cancel, link) {
            self.on_wire(link, |link, now, out, _| link.cancel(now, id, why, out));
            self.calls[at].open = false;
        }
        let mut out = HubOut::default();
        self.hub.settle(now, ticket, outcome, &mut out);
        self.absorb(out);
    }

    /// Runs something on a link, as if under its lock, and looks at what came out.
    fn on_wire<R>(
        &mut self,
        id: LinkId,
        run: impl FnOnce(&mut Link<usize>, Instant, &mut LinkOut, &mut Mailboxes<'_>) -> R,
    ) -> Option<R> {
        let wire = self.wires.get_mut(&id)?;
        let result = run(
            &mut wire.link,
            self.now,
            &mut wire.out,
            &mut Mailboxes(&mut self.calls),
        );
        for frame in wire.new_frames() {
            if let Some(id) = agent::cancelled(&frame) {
                let call = self.calls.iter_mut().find(|call| call.id == id);
                call.expect("a cancel of a call that is known").cancelled();
            }
        }
        Some(result)
    }

    /// Takes what the hub asks for.
    fn absorb(&mut self, out: HubOut) {
        self.commands.extend(out.commands);
        if out.woken {
            self.claim();
        }
        if !self.hold_commands {
            while self.deliver_command() {}
        }
    }

    /// Carries the next command of the hub to its link. False when there is none.
    pub fn deliver_command(&mut self) -> bool {
        let Some((link, command)) = self.commands.pop_front() else {
            return false;
        };
        self.on_wire(link, |link, now, out, deliver| {
            link.handle_command(now, command, out, deliver);
        });
        true
    }

    /// Every waiting call asks what became of it.
    fn claim(&mut self) {
        for at in 0..self.calls.len() {
            let Phase::Waiting(wait) = self.calls[at].phase else {
                continue;
            };
            match self.hub.claim(self.now, wait) {
                Claim::Waiting => {}
                Claim::Granted(ticket) => {
                    let call = &self.calls[at];
                    let (_, intent) = Exchange::parse(
                        &self.config,
                        self.hub.wall(),
                        call.id,
                        call.endpoint,
                        call.started,
                        &call.body,
                    )
                    .expect("it was read before");
                    let frame = invoke(&self.hub, self.now, &ticket, &intent);
                    self.start(at, ticket, frame);
                }
                Claim::Refused(refusal) => self.calls[at].refuse(&refusal),
            }
        }
    }

    /// Lets everything happen that takes no time: notices to the hub, frames to agents that read, closes, and, when
    /// eager, deliveries to clients.
    pub fn flow(&mut self) {
        loop {
            let mut still = true;
            let ids: Vec<LinkId> = self.wires.keys().copied().collect();
            for id in ids {
                let Some(wire) = self.wires.get_mut(&id) else {
                    continue;
                };
                let notices: Vec<Notice> = wire.out.notices.drain(..).collect();
                let close = wire.write();
                for notice in notices {
                    still = false;
                    let mut out = HubOut::default();
                    self.hub.handle_notice(self.now, id, notice, &mut out);
                    self.absorb(out);
                }
                if close {
                    still = false;
                    self.lose(id);
                }
            }
            for at in 0..self.calls.len() {
                if self.calls[at].eager {
                    self.serve(at);
                }
            }
            // What a call or the hub has just asked of a link is not yet on its way.
            if still && !self.wires.values().any(Wire::has_output) {
                break;
            }
        }
        self.hub.drain_audit(&mut self.audit);
    }

    /// The least of all timeouts.
    #[must_use]
    pub fn next_timeout(&self) -> Option<Timeout> {
        let links = self
            .wires
            .values()
            .filter_map(|wire| wire.link.poll_timeout());
        let calls = self
            .calls
            .iter()
            .filter_map(|call| call.exchange.poll_timeout());
        self.hub
            .poll_timeout()
            .into_iter()
            .chain(links)
            .chain(calls)
            .min()
    }

    /// True when every call has ended and no link remembers one.
    #[must_use]
    pub fn is_over(&self) -> bool {
        let over = |call: &Call| matches!(call.phase, Phase::Over);
        self.calls.iter().all(over) && self.wires.values().all(|wire| wire.link.tombstones() == 0)
    }

    /// Advances to the least timeout and serves it. False when nothing waits for time.
    pub fn advance(&mut self) -> bool {
        let Some(timeout) = self.next_timeout() else {
            return false;
        };
        // It may be late already where a thread brought an old time along.
        self.now = self.now.max(timeout.at);
        self.elapse();
        true
    }

    /// Calls every machine whose time has come.
    pub fn elapse(&mut self) {
        let now = self.now;
        let due = |timeout: Option<Timeout>| timeout.is_some_and(|timeout| timeout.at <= now);
        if due(self.hub.poll_timeout()) {
            let mut out = HubOut::default();
            self.hub.handle_timeout(now, &mut out);
            later(self.hub.poll_timeout(), now);
            self.absorb(out);
        }
        let ids: Vec<LinkId> = self.wires.keys().copied().collect();
        for id in ids {
            if due(self.wires[&id].link.poll_timeout()) {
                self.on_wire(id, |link, now, out, deliver| {
                    link.handle_timeout(now, out, deliver);
                    later(link.poll_timeout(), now);
                });
            }
        }
        for at in 0..self.calls.len() {
            let call = &mut self.calls[at];
            if due(call.exchange.poll_timeout()) {
                let flow = call.exchange.handle_timeout(now, &mut call.reply);
                later(call.exchange.poll_timeout(), now);
                self.heed(at, flow);
            }
        }
        self.flow();
    }

    /// Calls every machine before its time: nothing may come of it.
    pub fn prod(&mut self, at: Instant) {
        let mut out = HubOut::default();
        let before = self.next_timeout();
        self.hub.handle_timeout(at, &mut out);
        assert!(out.commands.is_empty() && !out.woken, "the hub came early");
        for wire in self.wires.values_mut() {
            let frames = wire.out.frames.len();
            wire.link
                .handle_timeout(at, &mut wire.out, &mut Mailboxes(&mut self.calls));
            assert_eq!(wire.out.frames.len(), frames, "a link came early");
        }
        for call in &mut self.calls {
            let flow = call.exchange.handle_timeout(at, &mut call.reply);
            assert_eq!(flow, Flow::Continue, "an exchange came early");
            assert!(call.reply.body.is_empty() && call.reply.head.is_none());
        }
        assert_eq!(self.next_timeout(), before, "an early call moved a timer");
    }
}

fn later(timeout: Option<Timeout>, now: Instant) {
    assert!(
        timeout.is_none_or(|timeout| timeout.at > now),
        "{timeout:?} after handle_timeout at {now:?}"
    );
}

fn invoke(hub: &Hub, now: Instant, ticket: &Ticket, intent: &Intent<'_>) -> String {
    websocket::invoke(
        ticket.exchange,
        &ticket.session,
        &ticket.label,
        &ticket.model,
        &intent.invocation,
        now,
        hub.wall(),
    )
}
