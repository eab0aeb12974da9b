//! What is known of a request while it is answered, and how each end of it is written down.

use super::answer::{Answer, Page};
use super::shared::Shared;
use mcp_local_provider_core::api::{self, Accepted, Endpoint};
use mcp_local_provider_core::config::HubConfig;
use mcp_local_provider_core::dialect::Dialect;
use mcp_local_provider_core::error::Refusal;
use mcp_local_provider_core::exchange::Reply;
use mcp_local_provider_core::hub::audit::RequestInfo;
use mcp_local_provider_core::id::ExchangeId;
use mcp_local_provider_core::time::Instant;
use mcp_local_provider_core::wire::http1::RequestError;
use std::net::IpAddr;
use std::sync::Arc;

/// A request that is being answered.
#[derive(Debug)]
pub(super) struct Inbound {
    pub(super) shared: Arc<Shared>,
    /// What held when it came.
    pub(super) config: Arc<HubConfig>,
    pub(super) id: ExchangeId,
    pub(super) started: Instant,
    pub(super) address: IpAddr,
    pub(super) user_agent: Option<Box<str>>,
    /// Name of the key, once it is known.
    pub(super) key: Option<Arc<str>>,
    pub(super) bytes_in: u64,
    pub(super) page: Option<Page>,
}

impl Inbound {
    pub(super) fn new(
        shared: &Arc<Shared>,
        config: Arc<HubConfig>,
        address: IpAddr,
        user_agent: Option<Box<str>>,
    ) -> Self {
        Self {
            config,
            id: shared.next_id(),
            started: shared.clock().now(),
            shared: shared.clone(),
            address,
            user_agent,
            key: None,
            bytes_in: 0,
            page: None,
        }
    }

    /// What the audit is to know of it.
    pub(super) fn info(&self, endpoint: &'static str) -> RequestInfo {
        RequestInfo {
            key: self.key.clone(),
            user_agent: self.user_agent.clone(),
            bytes_in: self.bytes_in,
            ..RequestInfo::new(self.id, self.started, self.address, endpoint)
        }
    }

    pub(super) fn answer(self, accepted: &Accepted<'_>, body: &[u8]) -> Answer {
        let endpoint = accepted.route.endpoint.name();
        let info = self.info(endpoint);
        let mut reply = Reply::default();
        self.shared.hub(|hub, now, out| {
            api::answer(hub, now, info, accepted, body, out, &mut reply);
        });
        let status = reply.head.as_ref().map(|head| head.status);
        tracing::debug!(request_id = %self.id, endpoint, status, "answered");
        self.complete(reply)
    }

    pub(super) fn refused(self, endpoint: Endpoint, refusal: &Refusal) -> Answer {
        self.refuse(endpoint.dialect(), endpoint.name(), refusal)
    }

    pub(super) fn refuse(
        self,
        dialect: Dialect,
        endpoint: &'static str,
        refusal: &Refusal,
    ) -> Answer {
        self.log_refusal(endpoint, refusal.status(), refusal.code().name());
        let info = self.info(endpoint);
        self.shared
            .hub(|hub, now, _| hub.note_refusal(now, info, refusal));
        self.refusal(dialect, refusal)
    }

    /// Refuses for its framing, after which nothing may follow.
    pub(super) fn misframed(
        self,
        dialect: Dialect,
        endpoint: &'static str,
        error: RequestError,
    ) -> Answer {
        tracing::warn!(
            request_id = %self.id,
            endpoint,
            status = error.status,
            address = %self.address,
            "refused for its framing: {}",
            error.message
        );
        let info = self.info(endpoint);
        self.shared
            .hub(|hub, now, _| hub.note_misframed(now, info, error.status));
        let answer = self.refusal(dialect, &Refusal::invalid(error.message));
        answer.closing(error.status)
    }

    /// The message of a refusal may quote the request, so that the log names its code alone.
    pub(super) fn log_refusal(
        &self,
        endpoint: &'static str,
        status: u16,
        code: Option<&'static str>,
    ) {
        let code = code.unwrap_or("invalid_request");
        tracing::debug!(request_id = %self.id, endpoint, status, code, "refused");
    }

    pub(super) fn refusal(self, dialect: Dialect, refusal: &Refusal) -> Answer {
        let mut reply = Reply::default();
        reply.refuse(self.id, dialect, refusal);
        self.complete(reply)
    }

    pub(super) fn complete(self, reply: Reply) -> Answer {
        Answer::new(reply, self.id, self.page)
    }
}
