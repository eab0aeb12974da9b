//! Requests that a server does not answer, as whoever carries them knows.

use super::{Delivery, Early, Open, Out, Server};
use crate::refusal::Refusal;
use alloc::format;
use mcp_local_provider_core::rpc::Line;
use mcp_local_provider_core::time::Instant;

impl<T: Clone> Server<T> {
    /// The server did not take this line, with the request of this number, and is about to end: a client's request waits for the
    /// next one.
    pub fn handle_not_taken(&mut self, number: u64, line: &str) {
        if let Some(Open::Call(waiting)) = self.peer.get_mut(number)
            && waiting.line.is_none()
        {
            waiting.line = Some(format!("{}\n", line.trim_end()));
            self.early.push_back(Early {
                number,
                given: None,
            });
        }
    }

    /// The line with the request of this number gets no answer. A client's request fails for `refusal`; what the program itself has
    /// asked is refused by it.
    pub fn handle_unanswered(
        &mut self,
        now: Instant,
        number: u64,
        refusal: Refusal,
        out: &mut Out,
        deliver: &mut dyn FnMut(Delivery<'_, T>),
    ) {
        let call = match self.peer.get(number) {
            Some(Open::Call(_)) => number,
            Some(Open::Round(call)) => *call,
            Some(Open::Handshake | Open::Listen | Open::Own) => {
                let answer = refusal.answer(&format!("{number}"));
                let line = Line::Whole(answer.as_bytes());
                return self.handle_line(now, line, out, deliver);
            }
            Some(Open::Withdrawn(_)) => return self.forget(number),
            Some(Open::Life) => {
                self.peer.cancel(number);
                return self.handle_missed(now, out);
            }
            None => return,
        };
        if let Some(Open::Call(waiting)) = self.peer.cancel(call) {
            self.give_up(call, waiting.rounds.as_deref());
            let to = waiting.to;
            deliver(Delivery::Failed { to, refusal });
        }
        self.weigh(now);
    }
}
