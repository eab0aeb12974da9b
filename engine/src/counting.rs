//! A prompt's tokens, counted by the upstream that would answer it. Nothing is admitted for it.

use super::account::Account;
use super::inbound::Inbound;
use super::model_lists::refused;
use super::running::{Polled, Respond, Running};
use super::upstream_calls::trouble;
use super::upstreams::{Carried, Upstream};
use crate::http_client::{Call, Part};
use mcp_local_provider_core::agents::upstream::{Fault, Trouble, count_tokens, counted, is_told};
use mcp_local_provider_core::error::Refusal;
use mcp_local_provider_core::exchange::{Exchange, Reply};
use mcp_local_provider_core::hub::upstreams::own_name;
use mcp_local_provider_core::hub::{Outcome, Verdict};
use mcp_local_provider_core::request::Request;
use mcp_local_provider_core::time::Instant;
use std::sync::Arc;
use std::task::{Poll, Waker};

/// Longest answer, in bytes.
const BYTES: usize = 64 << 10;

/// See the module's documentation.
struct Counting {
    upstream: Arc<Upstream>,
    exchange: Exchange,
    model: Arc<str>,
    call: Call,
    status: Option<u16>,
    body: Vec<u8>,
    /// The estimate takes the place of a count that is not there by then.
    until: Instant,
}

/// Request whose tokens are to be counted, by whom, and as which model.
pub(super) struct Count<'r> {
    pub(super) upstream: Arc<Upstream>,
    pub(super) model: Arc<str>,
    pub(super) request: &'r Request,
    pub(super) carried: Option<&'r Carried>,
}

/// A request that no upstream counts.
pub(super) struct Uncounted {
    pub(super) inbound: Inbound,
    pub(super) exchange: Exchange,
    /// Where the request is at fault.
    pub(super) refusal: Option<Refusal>,
}

/// Asks the upstream. `Err` gives all back when it cannot be asked.
pub(super) fn start(
    count: Count<'_>,
    inbound: Inbound,
    exchange: Exchange,
) -> Result<Box<Running>, Box<Uncounted>> {
    let uncounted = |inbound, exchange, refusal| {
        Err(Box::new(Uncounted {
            inbound,
            exchange,
            refusal,
        }))
    };
    let engine = inbound.account.engine().clone();
    let Count {
        upstream,
        model,
        request,
        carried,
    } = count;
    let headers = carried.map_or_else(Default::default, Carried::headers);
    let own = own_name(&upstream.name, &model).unwrap_or(&model);
    let written = match count_tokens(request, own, headers) {
        Ok(written) => written,
        Err(refusal) => return uncounted(inbound, exchange, Some(refusal)),
    };
    let via = carried.and_then(Carried::via);
    let (path, headers) = (written.path, written.headers);
    match upstream.call(&engine, path, headers, Some(written.body), via) {
        Ok(call) => {
            let counting = Counting {
                upstream,
                exchange,
                model,
                call,
                status: None,
                body: Vec::new(),
                until: engine.clock() + engine.config().timeouts.first_chunk,
            };
            Ok(Running::new(Box::new(counting), inbound))
        }
        Err(_) => uncounted(inbound, exchange, None),
    }
}

impl Counting {
    fn end(
        &mut self,
        now: Instant,
        account: &mut Account,
        count: Result<u64, Trouble>,
        reply: &mut Reply,
    ) -> Outcome {
        let tokens = match count.map_err(|trouble| self.upstream.clean(trouble)) {
            Ok(tokens) => tokens,
            Err(trouble) if is_told(&trouble) => {
                let refusal = trouble.refusal(&self.upstream.name);
                account.describe(|info| info.refused(&refusal));
                return self.exchange.refuse(now, &refusal, reply);
            }
            Err(trouble) => {
                let upstream = &self.upstream.name;
                let fault = trouble.fault;
                tracing::debug!(request_id = %account.id(), %upstream, ?fault, "counts no tokens");
                0
            }
        };
        self.exchange.counted(now, &self.model, tokens, reply);
        let status = reply.head.as_ref().map_or(0, |head| head.status);
        let bytes_out = u64::try_from(reply.body.len()).unwrap_or(u64::MAX);
        Outcome::new(Verdict::Completed, status, bytes_out)
    }
}

impl Respond for Counting {
    fn poll(
        &mut self,
        now: Instant,
        waker: &Waker,
        account: &mut Account,
        reply: &mut Reply,
    ) -> Polled {
        let count = loop {
            match self.call.poll(now, waker, &mut self.body) {
                Poll::Pending if self.until > now => {
                    let call = self.call.poll_timeout();
                    return Polled::Until(call.into_iter().chain([self.until]).min());
                }
                Poll::Pending => break Err(Trouble::new(Fault::Timeout, "it does not answer")),
                Poll::Ready(Ok(Part::Head(head))) => self.status = Some(head.status()),
                Poll::Ready(Ok(Part::Body)) if self.body.len() <= BYTES => {}
                Poll::Ready(Ok(Part::Body)) => {
                    break Err(Trouble::new(Fault::Protocol, "its count is too long"));
                }
                Poll::Ready(Ok(Part::End)) => {
                    break match self.status {
                        Some(200) => counted(&self.body),
                        status => Err(refused(status.unwrap_or_default(), &self.body)),
                    };
                }
                Poll::Ready(Err(error)) => break Err(trouble(&error, self.status.is_some())),
            }
        };
        Polled::Ended(self.end(now, account, count, reply))
    }

    /// The call is dropped with it, which closes the connection.
    fn client_gone(&mut self, _now: Instant, _account: &mut Account) -> Outcome {
        Outcome::left()
    }
}
