//! Answers that begin anew with another session, because the one before has failed before the first byte.

use super::Exchange;
use crate::dialect::Answer;
use crate::exchange::lifecycle::{State, Timer};
use crate::hub::Ticket;
use crate::invocation::ParameterSet;
use crate::time::Instant;

impl Exchange {
    /// Another session is to answer, as the one before has failed and nothing of its answer was told. The clocks of the answer run
    /// anew, but for that of its whole duration.
    pub fn restart(&mut self, now: Instant, ticket: &Ticket) {
        if self.state == State::Ended || self.has_begun() {
            return;
        }
        let now = self.latest.clamp(now);
        self.session = Some(ticket.session().clone());
        self.standing = Some(ticket.standing);
        self.first_chunk = None;
        self.suit(ticket);
        self.timers.set(Timer::Idle, None);
        self.timers
            .set(Timer::FirstChunk, Some(now + self.timeouts.first_chunk));
    }

    /// The exchange is answered in rounds, each of which is an exchange of its own: only the time of the whole answer runs from here.
    pub fn start_rounds(&mut self, now: Instant, model: &str) {
        let now = self.latest.clamp(now);
        self.name(model);
        self.max_tokens = None;
        self.open_in_time(now);
        self.timers
            .set(Timer::Total, Some(now + self.timeouts.total));
    }

    /// Nobody owes a chunk: a fallback is waited for, a round keeps the time of silence itself, or a tool runs between two rounds.
    /// The clock of the whole duration runs on.
    pub fn awaits_others(&mut self) {
        self.timers.set(Timer::FirstChunk, None);
        self.timers.set(Timer::Idle, None);
    }

    /// True once a session has been named that is to answer.
    #[must_use]
    pub const fn is_started(&self) -> bool {
        self.session.is_some()
    }

    /// True once something of the answer is there, so that no one else may be asked.
    #[must_use]
    pub fn has_begun(&self) -> bool {
        let has_vectors = |fold: &Answer| !fold.embeddings.is_empty();
        self.last_chunk.is_some()
            || self.before.is_some()
            || self.state == State::Ended
            || self.fold.as_deref().is_some_and(has_vectors)
    }

    /// True when the first chunk is late.
    #[must_use]
    pub fn is_late(&self, now: Instant) -> bool {
        !self.has_begun()
            && self
                .timers
                .get(Timer::FirstChunk)
                .is_some_and(|at| at <= now)
    }

    /// An upstream is asked for the whole answer at once: nothing of it comes before its end, for which `timeouts.total` is the time.
    pub fn comes_whole(&mut self) {
        self.timers.set(Timer::FirstChunk, None);
    }

    /// The parameters of the request that an upstream is not told of.
    pub const fn ignores(&mut self, ignored: ParameterSet) {
        self.ignored = ignored;
    }
}
