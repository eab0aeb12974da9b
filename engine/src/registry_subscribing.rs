//! Subscriptions to resources of the registry as events: one stream for each, until its client leaves.

use super::Engine;
use super::account::Account;
use super::inbound::Inbound;
use super::registry_handle::RegistryHandle;
use super::registry_hearing::Hearing;
use super::running::{Polled, Respond};
use event_listener::EventListener;
use mcp_local_provider_core::config::Area;
use mcp_local_provider_core::exchange::{EVENT_STREAM, Reply, ReplyHead};
use mcp_local_provider_core::hub::keys::Caller;
use mcp_local_provider_core::hub::{CLIENT_GONE, Outcome, Verdict};
use mcp_local_provider_core::id::ExchangeId;
use mcp_local_provider_core::time::Instant;
use mcp_local_provider_core::wire::sse;
use mcp_local_provider_registry::Failure;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Waker};
use std::time::Duration;

/// Silence after which a comment is sent, so that nobody in between takes the stream for dead.
const HEARTBEAT: Duration = Duration::from_secs(15);

/// The events of one resource.
pub(super) struct Subscribed {
    engine: Arc<Engine>,
    hearing: Hearing,
    drain: EventListener,
    caller: Caller,
    id: ExchangeId,
    has_begun: bool,
    heartbeat: Instant,
    bytes_out: u64,
}

impl Subscribed {
    pub(super) fn new(
        cell: &RegistryHandle,
        caller: &Caller,
        uri: &str,
        inbound: &Inbound,
    ) -> Result<Self, Failure> {
        let engine = inbound.account.engine().clone();
        let hearing = Hearing::new(&engine, cell);
        hearing.subscribe(uri)?;
        Ok(Self {
            hearing,
            drain: engine.listen_for_drain(),
            caller: caller.clone(),
            id: inbound.account.id(),
            has_begun: false,
            heartbeat: engine.clock() + HEARTBEAT,
            bytes_out: 0,
            engine,
        })
    }

    /// True while the key may use the registry, and the program goes on.
    fn goes_on(&mut self, waker: &Waker) -> bool {
        // Heard before it is asked, so that it is not missed.
        let _heard = Pin::new(&mut self.drain).poll(&mut Context::from_waker(waker));
        let caller = self.engine.policy().keys.renewed(&self.caller);
        let may = caller.is_some_and(|caller| caller.require_area(Area::Registry).is_ok());
        may && !self.engine.is_draining()
    }
}

impl Respond for Subscribed {
    fn poll(
        &mut self,
        now: Instant,
        waker: &Waker,
        _account: &mut Account,
        reply: &mut Reply,
    ) -> Polled {
        let before = reply.body.len();
        if !self.has_begun {
            self.has_begun = true;
            let mut head = ReplyHead::new(200, EVENT_STREAM, self.id);
            head.streamed = true;
            reply.head = Some(head);
        }
        let goes_on = self.goes_on(waker);
        let news = self.hearing.news(waker);
        for updated in news.updated.iter().filter(|_| goes_on) {
            sse::begin(&mut reply.body, Some("updated"));
            reply.body.extend_from_slice(updated.event().as_bytes());
            sse::end(&mut reply.body);
        }
        if now >= self.heartbeat && goes_on {
            sse::write_comment(&mut reply.body, "keep-alive");
        }
        if reply.body.len() > before {
            self.heartbeat = now + HEARTBEAT;
        }
        self.bytes_out += (reply.body.len() - before) as u64;
        if !goes_on {
            return Polled::Ended(Outcome::new(Verdict::Completed, 200, self.bytes_out));
        }
        if reply.head.is_some() || !reply.body.is_empty() {
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
