//! Requests to MCP servers without a session (Model Context Protocol, revision 2026-07-28): each is answered on its own, and a client
//! that closes its answer takes its request back.

use super::Engine;
use super::account::Account;
use super::gateway::{Address, Client, Gateway, RequestCell};
use super::mcp_request::is_current;
use super::mcp_several::Joined;
use super::running::{Polled, Respond};
use mcp_local_provider_core::exchange::{EVENT_STREAM, JSON, Reply, ReplyHead};
use mcp_local_provider_core::hub::keys::Caller;
use mcp_local_provider_core::hub::{CLIENT_GONE, Outcome, Verdict};
use mcp_local_provider_core::id::ExchangeId;
use mcp_local_provider_core::rpc::Message;
use mcp_local_provider_core::text::JsonValue;
use mcp_local_provider_core::time::Instant;
use mcp_local_provider_core::wire::sse;
use mcp_local_provider_mcp::refusal::{Reason, Refusal};
use mcp_local_provider_mcp::stateless::{Ending, Headers, Several, Step, Wanted};
use std::sync::Arc;
use std::task::Waker;
use std::time::Duration;

/// An answer that is the first message and comes within this time is given as JSON, others as events.
const PATIENCE: Duration = Duration::from_secs(1);

/// Somebody who asks, and what.
pub(super) struct Asking<'a> {
    pub(super) engine: &'a Arc<Engine>,
    pub(super) gateway: &'a Gateway,
    pub(super) client: Client,
    pub(super) caller: &'a Caller,
    pub(super) address: &'a Address,
    pub(super) id: ExchangeId,
}

impl Asking<'_> {
    /// Takes a message. There is an answer if it is a request.
    pub(super) fn take(
        self,
        headers: &Headers<'_>,
        (text, message): (&str, &Message<'_>),
    ) -> Result<Option<Box<Responding>>, Refusal> {
        let Message::Request { id, call } = message else {
            return match message {
                Message::Request { .. } | Message::Notification(_) => Ok(None),
                Message::Response { .. } => Err(Refusal::new(
                    Reason::BadRequest,
                    "nothing is asked of a client but by the answer to its own request",
                )),
            };
        };
        let wanted = Wanted::read(headers, *id, call)?;
        let now = self.engine.clock();
        let catalogue = self.address.catalogue();
        let source = match self.address.servers() {
            [server] if catalogue.is_plain(0) => {
                let asked = begin(
                    self.engine,
                    (&self.client, self.caller),
                    &server.name,
                    (&wanted, text),
                );
                Source::One(asked?)
            }
            servers => {
                let names = servers.iter().map(|server| server.name.clone());
                let machine = Several::new(now, &wanted, text, catalogue);
                let engine = self.engine.clone();
                let joined = Joined::new(
                    engine,
                    (self.client, self.caller.clone()),
                    names.collect(),
                    (machine, wanted.given),
                );
                Source::Several(Box::new(joined))
            }
        };
        let heartbeat = self.gateway.config().timeouts.heartbeat;
        let listens = wanted.call.method == "subscriptions/listen";
        Ok(Some(Box::new(Responding {
            engine: self.engine.clone(),
            source,
            id: self.id,
            caller: self.caller.clone(),
            listens: listens.then(|| self.address.clone()),
            reloads: None,
            until: now + PATIENCE,
            has_begun: false,
            every: heartbeat,
            heartbeat: now + heartbeat,
            bytes_out: 0,
        })))
    }
}

/// Passes a request on to one server, or goes on with the one whose questions it answers.
pub(super) fn begin(
    engine: &Arc<Engine>,
    (client, caller): (&Client, &Caller),
    server: &Arc<str>,
    (wanted, text): (&Wanted<'_>, &str),
) -> Result<Arc<RequestCell>, Refusal> {
    let gateway = engine.gateway().ok_or_else(|| {
        let message = "this program has no MCP servers";
        Refusal::new(Reason::ServerNotFound, message)
    })?;
    let state = wanted
        .may_ask()
        .then(|| wanted.param("requestState")?.text())
        .flatten();
    // A server without sessions knows its own states.
    let is_own = |state: &str| gateway.is_suspended(state) || !gateway.is_stateless(server);
    match state.filter(|state| is_own(state)) {
        None => gateway.ask(engine, (client.clone(), caller), server, (wanted, text)),
        Some(state) => gateway.go_on(engine, client, server, &state, wanted),
    }
}

/// Makers of the answer.
enum Source {
    One(Arc<RequestCell>),
    Several(Box<Joined>),
    /// The request goes on with another one of the client, or has ended.
    Nobody,
}

/// The id of a message, as JSON; `null` where it has none.
pub(super) const fn id_of<'m>(message: &Message<'m>) -> &'m str {
    match message {
        Message::Request { id, .. } => JsonValue::get(*id),
        Message::Notification(_) | Message::Response { .. } => "null",
    }
}

/// The answer to one request. Dropping it takes the request back.
pub(super) struct Responding {
    engine: Arc<Engine>,
    source: Source,
    id: ExchangeId,
    caller: Caller,
    /// The servers that it listens to, where it does.
    listens: Option<Address>,
    /// The number of reloads when its servers and the caller's rights were looked at.
    reloads: Option<u64>,
    /// Until then it may still be one JSON message.
    until: Instant,
    has_begun: bool,
    /// Time between two comments, so that nobody in between takes the stream for dead.
    every: Duration,
    heartbeat: Instant,
    bytes_out: u64,
}

impl Responding {
    fn begin(&mut self, reply: &mut Reply) {
        if !self.has_begun {
            self.has_begun = true;
            let mut head = ReplyHead::new(200, EVENT_STREAM, self.id);
            head.streamed = true;
            reply.head = Some(head);
        }
    }

    /// Ends a listener whose path leads to other servers since a reload, and what asks a server that its caller may not use any more.
    fn look_again(&mut self) {
        let reloads = self.engine.gateway().map(Gateway::reloads);
        if std::mem::replace(&mut self.reloads, reloads) == reloads {
            return;
        }
        let listens = self.listens.as_ref();
        let is_over = listens.is_some_and(|to| !is_current(&self.engine, &self.caller, to));
        let keys = self.engine.policy().keys;
        match &mut self.source {
            Source::One(cell) if is_over => cell.end_listening(),
            Source::One(cell) => cell.uphold(&keys),
            Source::Several(joined) if is_over => joined.end_listening(),
            Source::Several(joined) => joined.uphold(&keys),
            Source::Nobody => {}
        }
    }

    /// Adds the last message.
    fn end(
        &mut self,
        (status, retry_after): (u16, Option<u64>),
        text: &str,
        reply: &mut Reply,
    ) -> Polled {
        let before = reply.body.len();
        if self.has_begun {
            write_event(&mut reply.body, text);
        } else {
            self.has_begun = true;
            let mut head = ReplyHead::new(status, JSON, self.id);
            head.retry_after = retry_after.filter(|_| status != 200);
            reply.head = Some(head);
            reply.body.extend_from_slice(text.as_bytes());
        }
        self.bytes_out += (reply.body.len() - before) as u64;
        Polled::Ended(Outcome::new(Verdict::Completed, status, self.bytes_out))
    }
}

impl Respond for Responding {
    fn poll(
        &mut self,
        now: Instant,
        waker: &Waker,
        _account: &mut Account,
        reply: &mut Reply,
    ) -> Polled {
        self.look_again();
        let step = match &mut self.source {
            Source::One(cell) => cell.machine.lock().take(now, waker),
            Source::Several(joined) => joined.take(now, waker),
            Source::Nobody => Step::default(),
        };
        if !step.messages.is_empty() {
            self.begin(reply);
        }
        let before = reply.body.len();
        for message in &step.messages {
            write_event(&mut reply.body, message);
        }
        self.bytes_out += (reply.body.len() - before) as u64;
        match step.ending {
            Some(Ending::Answer {
                status,
                text,
                retry_after,
            }) => return self.end((status, retry_after), &text, reply),
            Some(Ending::Questions) => {
                let source = std::mem::replace(&mut self.source, Source::Nobody);
                if let (Source::One(cell), Some(gateway)) = (source, self.engine.gateway()) {
                    let text = gateway.suspend(now, &cell);
                    return self.end((200, None), &text, reply);
                }
            }
            Some(Ending::Cut) => {
                return Polled::Ended(Outcome::new(Verdict::ClientGone, 200, self.bytes_out));
            }
            None => {}
        }
        if !self.has_begun {
            if now < self.until {
                let until = step.until.map_or(self.until, |at| at.min(self.until));
                return Polled::Until(Some(until));
            }
            self.begin(reply);
        }
        if reply.body.len() > before {
            self.heartbeat = now + self.every;
        } else if now >= self.heartbeat {
            sse::write_comment(&mut reply.body, "keep-alive");
            self.heartbeat = now + self.every;
        }
        if reply.head.is_some() || !reply.body.is_empty() {
            Polled::Ready
        } else {
            let until = step
                .until
                .map_or(self.heartbeat, |at| at.min(self.heartbeat));
            Polled::Until(Some(until))
        }
    }

    fn client_gone(&mut self, _now: Instant, _account: &mut Account) -> Outcome {
        let status = if self.has_begun { 200 } else { CLIENT_GONE };
        Outcome::new(Verdict::ClientGone, status, self.bytes_out)
    }
}

impl Drop for Responding {
    fn drop(&mut self) {
        if let (Source::One(cell), Some(gateway)) = (&self.source, self.engine.gateway()) {
            gateway.finish(&self.engine, cell);
        }
    }
}

/// Appends a message as an event. There is no coming back to one in this revision, so it has no id.
fn write_event(out: &mut Vec<u8>, text: &str) {
    out.extend_from_slice(b"event: message\n");
    sse::begin(out, None);
    // JSON may stand on several lines, of which each would end the event's line.
    out.extend(text.bytes().map(|byte| match byte {
        b'\n' | b'\r' => b' ',
        byte => byte,
    }));
    sse::end(out);
}
