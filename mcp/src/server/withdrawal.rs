//! Requests that are taken back: by those who asked, and where the process does not answer in time.
//!
//! A process need not heed that. Until it answers after all, ends, or has had as long as for any request, it may say something
//! that is about such a request.

use super::{CallId, Delivery, Open, Out, Server, one_line};
use crate::refusal::{Reason, Refusal};
use alloc::format;
use mcp_local_provider_core::rpc::Json;
use mcp_local_provider_core::text::JsonValue;
use mcp_local_provider_core::time::Instant;

/// Requests of one process that were taken back and are remembered. One more lets the oldest be forgotten.
const WITHDRAWN: usize = 4096;

impl<T: Clone> Server<T> {
    /// Takes a client's request back; `reason` is JSON. Returns who asked, unless nobody waits for it any more.
    pub fn cancel(
        &mut self,
        now: Instant,
        call: CallId,
        reason: Option<JsonValue<'_>>,
        out: &mut Out,
    ) -> Option<T> {
        let to = self.withdraw(now, call.0, reason.map(JsonValue::get), out)?;
        self.weigh(now);
        Some(to)
    }

    /// A request has waited for too long.
    pub(super) fn handle_late(
        &mut self,
        now: Instant,
        out: &mut Out,
        deliver: &mut dyn FnMut(Delivery<'_, T>),
    ) {
        let Some((_, number)) = self.peer.poll_timeout().filter(|(at, _)| *at <= now) else {
            return;
        };
        if let Some(Open::Life) = self.peer.get(number) {
            self.peer.cancel(number);
            return self.handle_missed(now, out);
        }
        if let Some(Open::Own) = self.peer.get(number) {
            self.peer.cancel(number);
            return self.handle_own_answer(now, number, None, out);
        }
        let reason = "\"the request has waited for too long\"";
        if let Some(to) = self.withdraw(now, number, Some(reason), out) {
            let message = format!(
                "the MCP server `{}` did not answer in time (gateway.timeouts.request)",
                self.name
            );
            let refusal = Refusal::new(Reason::Timeout, message).about(&self.name);
            deliver(Delivery::Failed { to, refusal });
        } else {
            // It is not waited for, and not remembered any more.
            self.forget(number);
        }
    }

    /// Takes a call back, and tells the process so if it has had it.
    fn withdraw(
        &mut self,
        now: Instant,
        number: u64,
        reason: Option<&str>,
        out: &mut Out,
    ) -> Option<T> {
        let Open::Call(waiting) = self.peer.get_mut(number)? else {
            return None;
        };
        let (to, rounds) = (waiting.to.clone(), waiting.rounds.take());
        if waiting.line.is_some() {
            self.peer.cancel(number);
            self.early.retain(|early| early.number != number);
            return Some(to);
        }
        let Some(sent) = self.give_up(number, rounds.as_deref()) else {
            // The process is not at work for it.
            self.peer.cancel(number);
            return Some(to);
        };
        if sent == number {
            self.remember(now, number, to.clone());
        } else {
            self.peer.cancel(number);
        }
        let mut json = Json::notification("notifications/cancelled");
        json.member("requestId")
            .raw(itoa::Buffer::new().format(sent));
        if let Some(reason) = reason {
            json.member("reason").raw(&one_line(reason));
        }
        out.lines.push(json.end_params());
        Some(to)
    }

    /// Remembers a request that was taken back, of which the process may say something still.
    fn remember(&mut self, now: Instant, number: u64, to: T) {
        if let Some(open) = self.peer.get_mut(number) {
            *open = Open::Withdrawn(to);
        }
        self.peer.defer(number, now + self.times.request);
        self.withdrawn += 1;
        if self.withdrawn > WITHDRAWN {
            let is_withdrawn = |open: &Open<T>| matches!(open, Open::Withdrawn(_));
            let mut all = self.peer.iter().filter(|(_, open)| is_withdrawn(open));
            let oldest = all.next().map(|(number, _)| number);
            drop(all);
            oldest.into_iter().for_each(|oldest| self.forget(oldest));
        }
    }

    /// Forgets a request of which nobody is told any more.
    pub(super) fn forget(&mut self, number: u64) {
        if let Some(Open::Withdrawn(_)) = self.peer.cancel(number) {
            self.withdrawn = self.withdrawn.saturating_sub(1);
        }
    }
}
