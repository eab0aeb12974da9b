//! Circuits: an upstream that fails again and again is left alone for a while, then asked once as a probe.

use crate::config::CircuitLimits;
use crate::machine::{Move, OUTSIDE, Table};
use crate::time::Instant;

/// The moves of a circuit.
pub static STATES: Table = Table::new(&[
    Move::new(OUTSIDE, "Closed", "configured"),
    Move::new("Closed", "Open", "as many failures in a row as it allows"),
    Move::new("Open", "Probing", "its pause is over"),
    Move::new("Probing", "Open", "a failure"),
    Move::new("Probing", "Closed", "first byte of an answer"),
]);

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    /// Everything may be asked.
    Closed {
        /// Failures since the last success.
        failures: u32,
    },
    /// Nothing is asked.
    Open {
        /// The end of the pause.
        until: Instant,
    },
    /// One request may be open.
    Probing,
}

impl State {
    const fn name(self) -> &'static str {
        match self {
            Self::Closed { .. } => "Closed",
            Self::Open { .. } => "Open",
            Self::Probing => "Probing",
        }
    }
}

/// The circuit of one upstream.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Circuit {
    limits: CircuitLimits,
    state: State,
}

impl Circuit {
    /// A circuit that is closed.
    #[must_use]
    pub fn new(limits: CircuitLimits) -> Self {
        let state = State::Closed { failures: 0 };
        STATES.step(OUTSIDE, state.name());
        Self { limits, state }
    }

    fn go(&mut self, state: State) {
        if self.state.name() != state.name() {
            STATES.step(self.state.name(), state.name());
        }
        self.state = state;
    }

    /// An attempt failed by the server's fault: connection, time, 5xx or 529.
    pub fn failed(&mut self, now: Instant) {
        let open = State::Open {
            until: now + self.limits.pause,
        };
        match self.state {
            State::Closed { failures } => {
                let failures = failures.saturating_add(1);
                let is_full = self.limits.failures > 0 && failures >= self.limits.failures;
                self.go(match is_full {
                    true => open,
                    false => State::Closed { failures },
                });
            }
            State::Probing => self.go(open),
            // One that was asked before it opened.
            State::Open { .. } => {}
        }
    }

    /// The first byte of an answer came.
    pub fn succeeded(&mut self) {
        match self.state {
            State::Closed { .. } | State::Probing => self.go(State::Closed { failures: 0 }),
            // One that was asked before it opened. The pause stays, so that the circuit does not flap.
            State::Open { .. } => {}
        }
    }

    /// Time has passed. True when a probe may be sent from now on.
    pub fn handle_timeout(&mut self, now: Instant) -> bool {
        let is_over = self.open_until().is_some_and(|until| until <= now);
        if is_over {
            self.go(State::Probing);
        }
        is_over
    }

    /// The end of the pause, while nothing is asked.
    #[must_use]
    pub const fn open_until(&self) -> Option<Instant> {
        match self.state {
            State::Open { until } => Some(until),
            State::Closed { .. } | State::Probing => None,
        }
    }

    /// Requests that may be open, of `most`: one while it probes.
    #[must_use]
    pub fn at_once(&self, most: usize) -> usize {
        match self.state {
            State::Closed { .. } => most,
            State::Open { .. } => 0,
            State::Probing => most.min(1),
        }
    }

    /// Name of its state: `closed`, `open` or `probing`.
    #[must_use]
    pub const fn as_str(&self) -> &'static str {
        match self.state {
            State::Closed { .. } => "closed",
            State::Open { .. } => "open",
            State::Probing => "probing",
        }
    }

    /// Failures since the last success, of a closed one.
    #[must_use]
    pub const fn failures(&self) -> u32 {
        match self.state {
            State::Closed { failures } => failures,
            State::Open { .. } | State::Probing => self.limits.failures,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::time::Duration;

    fn at(seconds: u64) -> Instant {
        Instant::ZERO + Duration::from_secs(seconds)
    }

    fn circuit(failures: u32) -> Circuit {
        Circuit::new(CircuitLimits {
            failures,
            pause: Duration::from_secs(30),
        })
    }

    #[test]
    fn it_opens_after_failures_in_a_row_and_lets_one_probe_through_after_the_pause() {
        let mut circuit = circuit(2);
        circuit.failed(at(0));
        circuit.succeeded();
        circuit.failed(at(1));
        assert_eq!(
            circuit.at_once(8),
            8,
            "a success counts from the start again"
        );
        circuit.failed(at(2));
        assert_eq!(
            (circuit.at_once(8), circuit.open_until()),
            (0, Some(at(32)))
        );
        assert!(!circuit.handle_timeout(at(31)));
        assert!(circuit.handle_timeout(at(32)));
        assert_eq!(circuit.at_once(8), 1);
        circuit.failed(at(33));
        assert_eq!(circuit.open_until(), Some(at(63)), "a probe that fails");
        assert!(circuit.handle_timeout(at(63)));
        circuit.succeeded();
        assert_eq!((circuit.at_once(8), circuit.failures()), (8, 0));
    }

    #[test]
    fn answers_to_what_was_asked_before_do_not_shorten_or_lengthen_the_pause() {
        let mut circuit = circuit(1);
        circuit.failed(at(0));
        circuit.failed(at(9));
        circuit.succeeded();
        assert_eq!(circuit.open_until(), Some(at(30)));
    }

    #[test]
    fn without_a_number_it_never_opens() {
        let mut circuit = circuit(0);
        (0..100).for_each(|second| circuit.failed(at(second)));
        assert_eq!(circuit.at_once(8), 8);
    }
}
