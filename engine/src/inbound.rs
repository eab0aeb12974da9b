//! A request between its head and its answer, and the way of every answer that is given whole.

use super::account::Account;
use super::answer::Answer;
use super::engine::{Engine, Handle};
use super::status;
use mcp_local_provider_core::api::status::LinkTotals;
use mcp_local_provider_core::api::{Accepted, Answered, Input, Order, Page, Prepare, Read};
use mcp_local_provider_core::config::HubConfig;
use mcp_local_provider_core::dialect::Dialect;
use mcp_local_provider_core::error::{Code, Refusal};
use mcp_local_provider_core::exchange::Reply;
use mcp_local_provider_core::hub::{Outcome, Verdict};
use mcp_local_provider_core::wire::http1::RequestError;
use std::net::IpAddr;
use std::sync::Arc;

/// A request that is not answered yet.
#[derive(Debug)]
pub(super) struct Inbound {
    pub(super) account: Account,
    /// The configuration that held when it came.
    pub(super) config: Arc<HubConfig>,
    /// The form of its refusals.
    pub(super) dialect: Dialect,
    /// The page in a browser that asks.
    pub(super) page: Option<Page>,
    /// Its method is HEAD: the body of its answer is not sent.
    pub(super) is_head: bool,
}

impl Inbound {
    pub(super) fn new(engine: &Arc<Engine>, config: Arc<HubConfig>, address: IpAddr) -> Self {
        Self {
            account: Account::open(engine, address),
            config,
            dialect: Dialect::OpenAi,
            page: None,
            is_head: false,
        }
    }

    /// Answers from what the hub told last.
    pub(super) fn read(self, read: Read, accepted: &Accepted<'_>, body: &[u8]) -> Answer {
        let lists = self.account.engine().hub(|hub, _, _| {
            // The key may have gone since the head came.
            accepted
                .caller
                .iter()
                .try_for_each(|caller| hub.keys().confirm(caller))
                .map(|()| hub.lists())
        });
        let answered = lists.and_then(|lists| read(&lists, &self.input(accepted, body)));
        self.answered(answered)
    }

    /// Changes the hub. Its lock is not held while the request is read and the answer is written.
    pub(super) fn change(self, prepare: Prepare, accepted: &Accepted<'_>, body: &[u8]) -> Answer {
        let changed = prepare(&self.input(accepted, body))
            .and_then(|change| self.account.engine().hub(change))
            .map(|changed| changed());
        self.answered(changed)
    }

    /// Carries out an order of an operator.
    pub(super) fn order(self, order: Order) -> Answer {
        let engine = self.account.engine().clone();
        // A second order to stop waits for nothing.
        let waits = !engine.is_draining();
        let open = waits.then(|| Handle::new(engine.clone()).open_requests());
        let drain = waits.then_some(self.config.timeouts.drain);
        let (open, drain) = (open.unwrap_or_default(), drain.unwrap_or_default());
        let done = engine.obey(order);
        self.answered(done.map(|()| order.done(open, drain)))
    }

    fn input<'r>(&'r self, accepted: &'r Accepted<'r>, body: &'r [u8]) -> Input<'r> {
        Input {
            now: self.account.engine().now(),
            caller: accepted.caller.as_ref(),
            local: accepted.local,
            page_at: accepted.page_at(),
            links: if accepted.route.monitors {
                status::links(self.account.engine())
            } else {
                LinkTotals::default()
            },
            parameters: &accepted.parameters,
            limits: &self.config.limits,
            body,
        }
    }

    /// Answers without an agent.
    pub(super) fn answered(self, answered: Result<Answered, Refusal>) -> Answer {
        match answered {
            Ok(answered) => {
                let mut reply = Reply::default();
                answered.write(self.account.id(), &mut reply);
                self.complete(reply, Verdict::Completed)
            }
            Err(refusal) => self.refuse(&refusal),
        }
    }

    /// Refuses in the client's dialect. One whose key is wrong counts to the limit of its address.
    pub(super) fn refuse(mut self, refusal: &Refusal) -> Answer {
        let limited = if refusal.code() == Code::InvalidKey {
            let address = self.account.address();
            let engine = self.account.engine();
            engine.hub(|hub, now, _| hub.refused_for_its_key(now, address))
        } else {
            Ok(())
        };
        let refusal = limited.as_ref().err().unwrap_or(refusal);
        self.account.describe(|info| info.refused(refusal));
        let mut reply = Reply::default();
        reply.refuse(self.account.id(), self.dialect, refusal);
        self.complete(reply, Verdict::Failed(refusal.code()))
    }

    /// Refuses, after which nothing may follow on the connection: where the request ends is not clear.
    pub(super) fn refuse_and_close(mut self, refusal: &Refusal) -> Answer {
        self.account.describe(|info| info.refused(refusal));
        let mut reply = Reply::default();
        reply.refuse(self.account.id(), self.dialect, refusal);
        let status = reply.head.as_ref().map_or(0, |head| head.status);
        self.finish(reply, Verdict::Failed(refusal.code()), Some(status))
    }

    /// Refuses for its framing, after which nothing may follow.
    pub(super) fn misframed(self, error: RequestError) -> Answer {
        let mut reply = Reply::default();
        let refusal = Refusal::invalid(error.message);
        reply.refuse(self.account.id(), self.dialect, &refusal);
        self.finish(reply, Verdict::Misframed(error.message), Some(error.status))
    }

    /// Answers with what a machine wrote.
    pub(super) fn complete(self, reply: Reply, verdict: Verdict) -> Answer {
        self.finish(reply, verdict, None)
    }

    /// `closing` is the status of an answer that ends its connection.
    fn finish(self, mut reply: Reply, verdict: Verdict, closing: Option<u16>) -> Answer {
        self.account.tell_limits(&mut reply);
        let mut answer = Answer::new(reply, self.account.id(), self.page);
        if let Some(status) = closing {
            answer = answer.closing(status);
        }
        let sent = if self.is_head { 0 } else { answer.body.len() };
        let bytes_out = u64::try_from(sent).unwrap_or(u64::MAX);
        let outcome = Outcome::new(verdict, answer.head.status(), bytes_out);
        let now = self.account.engine().clock();
        self.account.close(now, &outcome);
        answer
    }
}
