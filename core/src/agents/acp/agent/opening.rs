//! The opening of the protocol with the process that runs: how far it has come, and what was learned by it. It asks the process
//! nothing; see `handshake.rs` for that.

use crate::agents::acp::update::Abilities;
use crate::machine::{Move, OUTSIDE, Table};
use alloc::string::String;
use alloc::vec::Vec;

/// Characters that are kept of a line that is no message.
const STRAY: usize = 200;

/// The states of the opening, while a process runs and is not being ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Phase {
    /// `initialize` was sent.
    Initializing,
    /// The session is being made that shows whether the agent can be used.
    Trying,
    /// It refused to make a session; for want of a login, perhaps.
    Unable { login: bool },
    /// It answers.
    Ready,
}

impl Phase {
    const fn name(self) -> &'static str {
        match self {
            Self::Initializing => "Initializing",
            Self::Trying => "Trying",
            Self::Unable { .. } => "Unable",
            Self::Ready => "Ready",
        }
    }
}

/// The moves of the opening. It ends with its process, at any time.
pub static OPENING: Table = Table::new(&[
    Move::new(OUTSIDE, "Initializing", "started, initialize"),
    Move::new("Initializing", "Trying", "answered, session/new"),
    Move::new("Trying", "Ready", "a session, register"),
    Move::new("Trying", "Unable", "refused, login needed, register"),
    Move::new("Unable", "Trying", "invocation, authenticated, session/new"),
    Move::new("Initializing", OUTSIDE, "exited or being ended"),
    Move::new("Trying", OUTSIDE, "exited or being ended"),
    Move::new(
        "Unable",
        OUTSIDE,
        "exited or being ended, for the next process to find a login, say",
    ),
    Move::new("Ready", OUTSIDE, "exited or being ended"),
]);

/// See the module's documentation.
#[derive(Debug, Default)]
pub(super) struct Opening {
    /// `None` while no process is to be heard.
    phase: Option<Phase>,
    /// Those of the latest process that has answered `initialize`.
    pub(super) abilities: Abilities,
    /// Models that the latest session offered.
    pub(super) models: Vec<String>,
    /// The first line of the process that is no message, shortened, until it answers `initialize`.
    stray: Option<String>,
    /// Processes in a row that wanted a login.
    logins: u32,
}

impl Opening {
    /// Returns the state; `None` while no process is to be heard.
    pub(super) const fn phase(&self) -> Option<Phase> {
        self.phase
    }

    /// True when the agent can be asked.
    pub(super) fn is_ready(&self) -> bool {
        self.phase == Some(Phase::Ready)
    }

    /// True while the session is being made that shows whether the agent can be used.
    pub(super) fn is_trying(&self) -> bool {
        self.phase == Some(Phase::Trying)
    }

    /// A process has started, and is sent `initialize`.
    pub(super) fn begin(&mut self) {
        self.stray = None;
        self.enter(Some(Phase::Initializing));
    }

    /// The process has answered `initialize`.
    pub(super) fn answered(&mut self) {
        self.stray = None;
    }

    /// A session is being made.
    pub(super) fn attempt(&mut self) {
        self.enter(Some(Phase::Trying));
    }

    /// The session was made.
    pub(super) fn succeed(&mut self) {
        self.logins = 0;
        self.enter(Some(Phase::Ready));
    }

    /// The session was refused; `login` when for want of one.
    pub(super) fn fail(&mut self, login: bool) {
        self.enter(Some(Phase::Unable { login }));
    }

    /// The process has ended, or is being ended: what it writes means nothing any more.
    pub(super) fn end(&mut self) {
        if self.phase.is_some() {
            self.enter(None);
        }
    }

    /// Counts a process that wants a login, and returns how many in a row did before it.
    pub(super) const fn count_login(&mut self) -> u32 {
        let before = self.logins;
        self.logins = before.saturating_add(1);
        before
    }

    /// Keeps the first line that is no message, for as long as the process has shown nothing else.
    pub(super) fn note_stray(&mut self, line: &[u8]) {
        if self.phase == Some(Phase::Initializing) && self.stray.is_none() {
            let line = String::from_utf8_lossy(line);
            let line = line.trim().chars().take(STRAY);
            let line: String = line.map(|c| if c.is_control() { ' ' } else { c }).collect();
            self.stray = (!line.is_empty()).then_some(line);
        }
    }

    /// Returns the line that [`Opening::note_stray`] has kept.
    pub(super) fn stray(&self) -> Option<&str> {
        self.stray.as_deref()
    }

    fn enter(&mut self, phase: Option<Phase>) {
        let name = |phase: Option<Phase>| phase.map_or(OUTSIDE, Phase::name);
        OPENING.step(name(self.phase), name(phase));
        self.phase = phase;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_that_was_refused_is_tried_again_and_may_end_at_any_time() {
        let mut opening = Opening::default();
        for phases in 0..4 {
            opening.begin();
            if phases > 0 {
                opening.attempt();
            }
            if phases > 1 {
                opening.fail(true);
                assert_eq!(opening.phase(), Some(Phase::Unable { login: true }));
            }
            if phases > 2 {
                opening.attempt();
                assert!(opening.is_trying());
                opening.succeed();
                assert!(opening.is_ready());
            }
            opening.end();
            opening.end();
            assert_eq!(opening.phase(), None);
        }
    }

    #[test]
    fn the_first_line_that_is_no_message_is_kept_until_the_agent_answers() {
        let mut opening = Opening::default();
        opening.note_stray(b"of the process before");
        assert_eq!(opening.stray(), None);
        opening.begin();
        for line in [&b" \t"[..], b"Usage:\tshell \xff", b"second"] {
            opening.note_stray(line);
        }
        assert_eq!(opening.stray(), Some("Usage: shell \u{fffd}"));
        // The reason for an end is told after it.
        opening.end();
        assert_eq!(opening.stray(), Some("Usage: shell \u{fffd}"));
        opening.begin();
        assert_eq!(opening.stray(), None);
        opening.note_stray(&[b'x'; 900]);
        assert_eq!(opening.stray().map(str::len), Some(STRAY));
        opening.answered();
        assert_eq!(opening.stray(), None);
    }

    #[test]
    fn processes_that_want_a_login_are_counted_until_one_is_ready() {
        let mut opening = Opening::default();
        assert_eq!((opening.count_login(), opening.count_login()), (0, 1));
        opening.begin();
        opening.attempt();
        opening.succeed();
        assert_eq!(opening.count_login(), 0);
    }
}
