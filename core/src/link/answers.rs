//! Delivers a link's answers to its exchanges, and fails exchanges.

use super::from_agent::{Answer, Chunk, Ending, Id};
use super::ports::{CloseCode, Deliver, LinkOut};
use super::reassembly::Place;
use super::table::{Open, Table};
use super::to_agent::{Echo, ToAgent};
use super::{FAULT_WINDOW, FAULTS, Link};
use crate::error::Code;
use crate::id::ExchangeId;
use crate::invocation::{CancelReason, Delivery, Delta, Failure};
use crate::mailbox::Push;
use crate::time::Instant;
use alloc::borrow::Cow;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

/// State of an answer after a delivery.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Progress {
    More,
    Ended,
    /// The mailbox is over its budget; `ended` when this was the last chunk.
    Overrun {
        ended: bool,
    },
}

impl<T> Link<T> {
    pub(super) fn chunk(
        &mut self,
        now: Instant,
        chunk: Chunk<'_>,
        out: &mut LinkOut,
        deliver: &mut impl Deliver<T>,
    ) {
        let Some((id, open)) = known(chunk.id, &mut self.table) else {
            return self.stray(now, chunk.id, out, deliver);
        };
        self.counters.chunks += 1;
        match open.stream.place(chunk.index) {
            Place::Next => {
                let progress = hand_over(&open.to, chunk.delta, chunk.ending, deliver);
                if progress == Progress::More && open.stream.waiting() == 0 {
                    return;
                }
                self.follow(now, id, progress, out, deliver);
            }
            Place::Repeat => self.counters.repeats += 1,
            Place::Ahead(index) => {
                let limits = (self.config.gap_chunks, self.config.gap_bytes);
                let gap_ends = now + self.config.gap_timeout;
                if open.stream.hold(index, &chunk, limits, gap_ends) {
                    self.counters.reordered += 1;
                    self.table.note_gap(id);
                    self.rearm();
                } else {
                    self.gap(now, id, out, deliver);
                }
            }
        }
    }

    /// Delivers what waited for the chunk that was just delivered, and draws the line when the answer is over.
    fn follow(
        &mut self,
        now: Instant,
        id: ExchangeId,
        mut progress: Progress,
        out: &mut LinkOut,
        deliver: &mut impl Deliver<T>,
    ) {
        let Some(open) = self.table.get_mut(id) else {
            return;
        };
        let gap_ends = now + self.config.gap_timeout;
        while progress == Progress::More {
            let Some(held) = open.stream.take_next(gap_ends) else {
                break;
            };
            let (delta, ending) = held.parts();
            progress = hand_over(&open.to, delta, ending, deliver);
        }
        let left = u64::try_from(open.stream.waiting()).unwrap_or(u64::MAX);
        match progress {
            Progress::More => self.table.note_gap(id),
            Progress::Ended => {
                self.counters.late += left;
                self.table.retire(now, id);
            }
            Progress::Overrun { ended } => {
                self.counters.overruns += 1;
                if ended {
                    self.table.retire(now, id);
                } else {
                    self.cancel_open(now, id, CancelReason::BudgetOverrun, out);
                }
            }
        }
        self.rearm();
    }

    pub(super) fn result(
        &mut self,
        now: Instant,
        answer: Answer<'_>,
        out: &mut LinkOut,
        deliver: &mut impl Deliver<T>,
    ) {
        let Some((id, open)) = known(answer.id, &mut self.table) else {
            return self.stray(now, answer.id, out, deliver);
        };
        self.counters.results += 1;
        let mut deliveries = Vec::new();
        let waiting = open.stream.waiting() > 0;
        let says_nothing = answer.delta.is_empty() && answer.vectors.is_empty();
        if open.stream.next() > 0 || (waiting && says_nothing) {
            // The answer was streamed: the result only ends it, after the chunks that are still missing.
            if waiting && matches!(answer.ending, Ending::End(_)) {
                open.stream.hold_end(&answer.ending);
                return;
            }
        } else {
            if !answer.delta.is_empty() {
                deliveries.push(Delivery::Delta(answer.delta));
            }
            deliveries.extend(
                answer
                    .vectors
                    .iter()
                    .map(|vector| Delivery::Embedding(vector)),
            );
        }
        self.whole(now, Id::Ours(id), &deliveries, &answer.ending, out, deliver);
    }

    /// Delivers an answer that came in one message, and its end.
    pub(super) fn whole(
        &mut self,
        now: Instant,
        id: Id<'_>,
        deliveries: &[Delivery<'_>],
        ending: &Ending<'_>,
        out: &mut LinkOut,
        deliver: &mut impl Deliver<T>,
    ) {
        let Some((id, open)) = known(id, &mut self.table) else {
            return self.stray(now, id, out, deliver);
        };
        let overrun = deliveries
            .iter()
            .any(|delivery| deliver.deliver(&open.to, delivery) == Push::Overrun);
        if overrun {
            self.counters.overruns += 1;
        } else {
            let _ = match ending {
                Ending::End(end) => deliver.deliver(&open.to, &Delivery::End(*end)),
                Ending::Failed(failure) => {
                    deliver.deliver(&open.to, &Delivery::Failed(failure.clone()))
                }
            };
        }
        self.counters.late += u64::try_from(open.stream.waiting()).unwrap_or(u64::MAX);
        self.table.retire(now, id);
        self.rearm();
    }

    /// A message about an exchange that is not open here.
    fn stray(
        &mut self,
        now: Instant,
        id: Id<'_>,
        out: &mut LinkOut,
        deliver: &mut impl Deliver<T>,
    ) {
        if let Id::Ours(id) = id
            && self.table.is_done(now, id)
        {
            self.counters.late += 1;
            return;
        }
        self.counters.unknown_ids += 1;
        let answer = ToAgent::Error {
            id: Echo::of(id),
            code: "protocol",
            message: "no invocation with this id was issued on this connection".into(),
        };
        self.fault(now, answer, out, deliver);
    }

    /// Counts a protocol fault, answers it, and closes the link when there are too many.
    pub(super) fn fault(
        &mut self,
        now: Instant,
        answer: ToAgent,
        out: &mut LinkOut,
        deliver: &mut impl Deliver<T>,
    ) {
        self.counters.faults += 1;
        if self.faults.len() >= FAULTS {
            self.faults.pop_front();
        }
        self.faults.push_back(now);
        self.reply(answer, out, deliver);
        let first = self.faults.front().copied().unwrap_or(now);
        if self.faults.len() >= FAULTS && now.since(first) <= FAULT_WINDOW {
            self.shut(CloseCode::Protocol, out, deliver);
        }
    }

    pub(super) fn gap(
        &mut self,
        now: Instant,
        id: ExchangeId,
        out: &mut LinkOut,
        deliver: &mut impl Deliver<T>,
    ) {
        self.counters.gaps += 1;
        let missing = self.table.get_mut(id).map_or(0, |open| open.stream.next());
        let failure = agent_fault(format!(
            "the agent's answer has a gap: chunk {missing} is missing"
        ));
        self.fail(now, id, &failure, CancelReason::StreamGap, out, deliver);
    }

    /// Fails an open exchange and cancels it at the agent.
    pub(super) fn fail(
        &mut self,
        now: Instant,
        id: ExchangeId,
        failure: &Failure<'_>,
        why: CancelReason,
        out: &mut LinkOut,
        deliver: &mut impl Deliver<T>,
    ) {
        if let Some(open) = self.table.get_mut(id) {
            let _ = deliver.deliver(&open.to, &Delivery::Failed(failure.clone()));
            self.cancel_open(now, id, why, out);
        }
    }

    /// Ends an open exchange and says so to the agent, unless it has ended its answer itself. A gap is told even then.
    pub(super) fn cancel_open(
        &mut self,
        now: Instant,
        id: ExchangeId,
        why: CancelReason,
        out: &mut LinkOut,
    ) {
        let Some(open) = self.table.retire(now, id) else {
            return;
        };
        if why == CancelReason::StreamGap || !open.stream.end_arrived() {
            self.counters.cancels += 1;
            self.send(ToAgent::Cancel(id, why), out);
        }
        self.rearm();
    }
}

/// The open exchange that a message is about.
#[inline]
fn known<'t, T>(id: Id<'_>, table: &'t mut Table<T>) -> Option<(ExchangeId, &'t mut Open<T>)> {
    match id {
        Id::Ours(id) => table.get_mut(id).map(|open| (id, open)),
        Id::Foreign(_) => None,
    }
}

/// Delivers one chunk.
#[inline]
fn hand_over<T>(
    to: &T,
    delta: Delta<'_>,
    ending: Option<Ending<'_>>,
    deliver: &mut impl Deliver<T>,
) -> Progress {
    // An empty delta still says that the agent is at work; beside an ending it says nothing.
    if ending.is_none() || !delta.is_empty() {
        let pushed = deliver.deliver(to, &Delivery::Delta(delta));
        if pushed == Push::Overrun {
            return Progress::Overrun {
                ended: ending.is_some(),
            };
        }
    }
    let last = match ending {
        None => return Progress::More,
        Some(Ending::End(end)) => Delivery::End(end),
        Some(Ending::Failed(failure)) => Delivery::Failed(failure),
    };
    let _ = deliver.deliver(to, &last);
    Progress::Ended
}

pub(super) const fn agent_fault(message: String) -> Failure<'static> {
    Failure {
        code: Code::AgentFault,
        message: Cow::Owned(message),
        retry_after: None,
    }
}
