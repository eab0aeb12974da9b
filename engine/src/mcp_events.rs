//! `GET /events/ID`: the own stream of a session of any transport, with events that say what becomes of it.

use super::Engine;
use super::account::Account;
use super::gateway::{Gateway, SessionCell};
use super::inbound::Inbound;
use super::mcp_listening::Listening;
use super::mcp_request::{Asked, check, client, enter, refuse, unknown_session};
use super::request::Step;
use super::running::{Polled, Respond, Running};
use mcp_local_provider_core::api::{Accepted, query_value};
use mcp_local_provider_core::exchange::{EVENT_STREAM, Reply, ReplyHead};
use mcp_local_provider_core::hub::keys::Caller;
use mcp_local_provider_core::hub::{CLIENT_GONE, Outcome, Verdict};
use mcp_local_provider_core::id::ExchangeId;
use mcp_local_provider_core::time::Instant;
use mcp_local_provider_mcp::config::Transport;
use mcp_local_provider_mcp::events::{Closed, write_closed, write_connected, write_heartbeat};
use mcp_local_provider_mcp::refusal::{Reason, Refusal};
use mcp_local_provider_mcp::streams::{Position, StreamId, Taken, write_message};
use std::sync::Arc;
use std::task::Waker;
use std::time::Duration;

/// Begins a stream of events.
pub(crate) fn begin(inbound: Inbound, accepted: &Accepted<'_>, asked: &Asked<'_>) -> Step {
    let engine = inbound.account.engine().clone();
    let (gateway, caller) = match enter(&engine, accepted, Transport::Events) {
        Ok(entered) => entered,
        Err(refusal) => return inbound.refuse(&refusal).into(),
    };
    let id = accepted.parameters.get("session").unwrap_or_default();
    match listen(&engine, gateway, &caller, &id, asked) {
        Ok(listening) => {
            let every = gateway.config().timeouts.heartbeat;
            let reporting = Reporting {
                id: inbound.account.id(),
                heartbeat: engine.clock() + every,
                every,
                engine: engine.clone(),
                listening,
                has_begun: false,
                bytes_out: 0,
            };
            Step::Running(Running::new(Box::new(reporting), inbound))
        }
        Err(refusal) => refuse(inbound, &refusal, "null").into(),
    }
}

fn listen(
    engine: &Arc<Engine>,
    gateway: &Gateway,
    caller: &Caller,
    id: &str,
    asked: &Asked<'_>,
) -> Result<Listening, Refusal> {
    check(asked)?;
    let cell = gateway
        .session(id, &client(caller))
        .ok_or_else(unknown_session)?;
    // An EventSource that connects again says in the header what it has got; its address is that of the first time.
    let asked_for = query_value(asked.target, "last_event_id");
    if let Some(event) = asked.last_event.or(asked_for.as_deref()) {
        go_back(&cell, event)?;
    }
    Listening::new(engine, &cell, StreamId::SESSION).ok_or_else(unknown_session)
}

/// Has the next reader of a session's own stream begin behind an event.
pub(super) fn go_back(cell: &SessionCell, event: &str) -> Result<(), Refusal> {
    let to = Position::parse(event).filter(|to| to.stream == StreamId::SESSION);
    let is_kept = to.is_some_and(|to| cell.machine.lock().streams_mut().rewind(to));
    if is_kept {
        Ok(())
    } else {
        Err(Refusal::new(
            Reason::EventGone,
            "the event to go on from is not kept any more; go on without its id",
        ))
    }
}

/// The events of one session.
struct Reporting {
    engine: Arc<Engine>,
    listening: Listening,
    id: ExchangeId,
    has_begun: bool,
    heartbeat: Instant,
    every: Duration,
    bytes_out: u64,
}

impl Respond for Reporting {
    fn poll(
        &mut self,
        now: Instant,
        waker: &Waker,
        _account: &mut Account,
        reply: &mut Reply,
    ) -> Polled {
        let before = reply.body.len();
        let cell = self.listening.cell.clone();
        if !self.has_begun {
            self.has_begun = true;
            let mut head = ReplyHead::new(200, EVENT_STREAM, self.id);
            head.streamed = true;
            reply.head = Some(head);
            let server = cell.only_server();
            write_connected(&cell.id, server, &self.time(now), &mut reply.body);
        }
        let taken = self.listening.take(waker, &mut |at, text| {
            reply.body.extend_from_slice(b"id: ");
            at.write(&mut reply.body);
            reply.body.push(b'\n');
            write_message(text, &mut reply.body);
        });
        let closed = match taken {
            Taken::Replaced => Some(Closed::Replaced),
            Taken::Ended => Some(cell.closed()),
            Taken::Waiting => self.engine.is_draining().then_some(Closed::Drain),
        };
        if now >= self.heartbeat {
            write_heartbeat(&self.time(now), &mut reply.body);
            self.heartbeat = now + self.every;
        }
        if let Some(reason) = closed {
            write_closed(&cell.id, reason, &mut reply.body);
        }
        self.bytes_out += (reply.body.len() - before) as u64;
        if closed.is_some() {
            Polled::Ended(Outcome::new(Verdict::Completed, 200, self.bytes_out))
        } else if reply.body.is_empty() {
            Polled::Until(Some(self.heartbeat))
        } else {
            Polled::Ready
        }
    }

    fn client_gone(&mut self, _now: Instant, _account: &mut Account) -> Outcome {
        let status = if self.has_begun { 200 } else { CLIENT_GONE };
        Outcome::new(Verdict::ClientGone, status, self.bytes_out)
    }
}

impl Reporting {
    fn time(&self, now: Instant) -> String {
        self.engine.wall().rfc3339(now)
    }
}
