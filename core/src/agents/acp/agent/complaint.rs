//! Complaints: errors that an agent writes to its standard error while it says nothing to its client, because its own model refuses
//! and it tries again and again. One that comes once may be about anything; one that comes again is why.

use super::{Agent, Context};
use crate::agents::acp::deadlines::{SessionKey, Timer};
use crate::agents::acp::failure::{cut, failure};
use crate::error::Code;
use crate::id::ExchangeId;
use crate::time::Instant;
use alloc::format;
use alloc::string::String;
use core::time::Duration;

/// Time that an agent has to answer after all, from the first time that it complained so.
const PATIENCE: Duration = Duration::from_secs(6);

/// Different complaints of a turn that are remembered.
const REMEMBERED: usize = 8;

/// A complaint of a silent turn.
#[derive(Debug)]
pub(super) struct Complaint {
    /// Without its digits: times and counts differ each time.
    kind: String,
    first: Instant,
    /// The latest of its kind, once there were two.
    again: Option<String>,
}

impl Agent {
    /// It complains while a turn is silent. With several turns nobody can tell whose prompt the complaint quotes.
    pub(super) fn complained(&mut self, context: &mut Context<'_>, line: &str) {
        let mut prompting = self.pool.prompting();
        let (Some((key, session)), None) = (prompting.next(), prompting.next()) else {
            return;
        };
        let exchange = session.turn;
        let turn = exchange.and_then(|exchange| self.turns.get_mut(&exchange));
        let Some(turn) = turn.filter(|turn| !turn.heard) else {
            return;
        };
        let line = cut(line);
        let kind: String = line.chars().filter(|c| !c.is_ascii_digit()).collect();
        let known = turn.complaints.iter_mut().find(|known| known.kind == kind);
        if let Some(known) = known {
            known.again = Some(line.into());
            let at = context.now.max(known.first + PATIENCE);
            if self.deadlines.get(Timer::Complaint(key)).is_none() {
                self.deadlines.set(Timer::Complaint(key), at);
            }
        } else if turn.complaints.len() < REMEMBERED {
            turn.complaints.push(Complaint {
                kind,
                first: context.now,
                again: None,
            });
        }
    }

    /// The agent says something in a turn, so that it is not silent.
    pub(super) fn heard(&mut self, key: SessionKey, exchange: ExchangeId) {
        if let Some(turn) = self.turns.get_mut(&exchange).filter(|turn| !turn.heard) {
            turn.heard = true;
            self.deadlines.clear(Timer::Complaint(key));
        }
    }

    /// It has complained and still says nothing: its client hears what is known.
    pub(super) fn gave_up(&mut self, context: &mut Context<'_>, key: SessionKey) {
        let Some(exchange) = self.pool.get(key).and_then(|session| session.turn) else {
            return;
        };
        let Some(turn) = self.turns.get_mut(&exchange).filter(|turn| !turn.heard) else {
            return;
        };
        let complaint = turn
            .complaints
            .iter_mut()
            .rev()
            .find_map(|it| it.again.take());
        if let Some(complaint) = complaint {
            self.turns.remove(&exchange);
            self.stop_turn(context, key);
            let message = format!(
                "the agent {} says nothing, and writes again and again to its standard error: {complaint}",
                self.profile.label
            );
            context.fail(exchange, failure(Code::AgentError, message));
        }
    }
}
