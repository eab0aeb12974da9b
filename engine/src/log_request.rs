//! `GET /logs`: the lines of the log that are kept, whole or as they come.

use super::Engine;
use super::account::Account;
use super::inbound::Inbound;
use super::mcp_request::Asked;
use super::request::Step;
use super::running::{Polled, Respond, Running};
use event_listener::EventListener;
use mcp_local_provider_core::api::{Accepted, LogQuery};
use mcp_local_provider_core::config::Role;
use mcp_local_provider_core::error::{Code, Refusal};
use mcp_local_provider_core::exchange::{EVENT_STREAM, JSON, Reply, ReplyHead};
use mcp_local_provider_core::hub::keys::Caller;
use mcp_local_provider_core::hub::{CLIENT_GONE, Outcome, Verdict};
use mcp_local_provider_core::id::ExchangeId;
use mcp_local_provider_core::time::Instant;
use mcp_local_provider_core::wire::sse;
use std::mem;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Waker};
use std::time::Duration;

/// Begins an answer.
pub(super) fn begin(inbound: Inbound, accepted: &Accepted<'_>, asked: &Asked<'_>) -> Step {
    let query = match LogQuery::read(asked.target, asked.last_event) {
        Ok(query) => query,
        Err(refusal) => return inbound.refuse(&refusal).into(),
    };
    let engine = inbound.account.engine().clone();
    let id = inbound.account.id();
    if query.follow {
        let every = inbound.config.timeouts.keep_alive;
        let Some(caller) = accepted.caller.clone() else {
            let why = "the route of the log must ask for a key";
            return inbound.refuse(&Refusal::new(Code::Internal, why)).into();
        };
        let following = Following {
            drain: engine.listen_for_drain(),
            caller,
            heartbeat: engine.clock() + every,
            every,
            engine,
            query,
            id,
            has_begun: false,
            bytes_out: 0,
        };
        return Step::Running(Running::new(Box::new(following), inbound));
    }
    let body = engine.audit().log.answer(&query);
    let reply = Reply {
        head: Some(ReplyHead::new(200, JSON, id)),
        body: body.into_bytes(),
    };
    inbound.complete(reply, Verdict::Completed).into()
}

/// Lines as they come.
struct Following {
    engine: Arc<Engine>,
    drain: EventListener,
    caller: Caller,
    query: LogQuery,
    id: ExchangeId,
    has_begun: bool,
    heartbeat: Instant,
    every: Duration,
    bytes_out: u64,
}

impl Following {
    /// True while the key is an operator's, and the program goes on.
    fn goes_on(&mut self, waker: &Waker) -> bool {
        // Heard before it is asked, so that it is not missed.
        let _heard = Pin::new(&mut self.drain).poll(&mut Context::from_waker(waker));
        let caller = self.engine.policy().keys.renewed(&self.caller);
        let may = caller.is_some_and(|caller| caller.require(&[Role::Operator]).is_ok());
        may && !self.engine.is_draining()
    }
}

impl Respond for Following {
    fn poll(
        &mut self,
        now: Instant,
        waker: &Waker,
        _account: &mut Account,
        reply: &mut Reply,
    ) -> Polled {
        let before = reply.body.len();
        if !mem::replace(&mut self.has_begun, true) {
            let mut head = ReplyHead::new(200, EVENT_STREAM, self.id);
            head.streamed = true;
            reply.head = Some(head);
        }
        let goes_on = self.goes_on(waker);
        if goes_on {
            let log = &self.engine.audit().log;
            log.follow(&mut self.query, waker, &mut reply.body);
        }
        if now >= self.heartbeat {
            sse::write_comment(&mut reply.body, "");
            self.heartbeat = now + self.every;
        }
        self.bytes_out += (reply.body.len() - before) as u64;
        if !goes_on {
            Polled::Ended(Outcome::new(Verdict::Completed, 200, self.bytes_out))
        } else if reply.head.is_some() || reply.body.len() > before {
            Polled::Ready
        } else {
            Polled::Until(Some(self.heartbeat))
        }
    }

    fn client_gone(&mut self, _now: Instant, _account: &mut Account) -> Outcome {
        let status = if self.has_begun { 200 } else { CLIENT_GONE };
        Outcome::new(Verdict::ClientGone, status, self.bytes_out)
    }
}
