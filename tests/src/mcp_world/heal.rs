//! The end of a run: everything heals and ends, and then nothing may be left.

use super::alone::Alone;
use super::client::Session;
use super::{PATIENCE, World};
use std::sync::atomic::Ordering;

impl World {
    /// Lets everything end, and checks that it does.
    pub(super) fn heal(&mut self) {
        self.is_broken = false;
        self.is_stubborn = false;
        self.outside.is_exhausted.store(false, Ordering::Relaxed);
        for _ in 0..PATIENCE {
            self.flow();
            for process in &mut self.processes {
                process.read(usize::MAX);
            }
            self.check_cancelled();
            for process in &mut self.processes {
                process.answer_all();
            }
            self.flow();
            self.alone.iter_mut().for_each(Alone::read);
            for at in 0..self.sessions.len() {
                self.read_all(at);
                if self.sessions[at].id.is_some() && !self.sessions[at].is_over {
                    self.resume_all(at);
                }
            }
            self.flow();
            for at in 0..self.sessions.len() {
                self.read_all(at);
            }
            let mut alone = self.alone.iter();
            let are_told = alone.all(|alone| alone.is_cut || alone.answers > 0);
            if are_told && self.sessions.iter().all(Self::is_answered) {
                break;
            }
            let Some(at) = self.next_timeout() else {
                break;
            };
            self.pass(at);
        }
        for session in &self.sessions {
            session.check_answered();
        }
        self.alone.iter().for_each(Alone::check);
        self.alone.iter_mut().for_each(Alone::cut);
        for at in 0..self.sessions.len() {
            for which in 0..self.sessions[at].streams.len() {
                self.sessions[at].cut(which);
            }
            self.end(at);
        }
        for _ in 0..PATIENCE {
            self.flow();
            for process in &mut self.processes {
                process.read(usize::MAX);
            }
            self.flow();
            // Sessions whose ids were lost go on until they have been idle for long enough.
            if self.processes.is_empty() && self.others.is_empty() && self.held() == 0 {
                break;
            }
            let Some(at) = self.next_timeout() else {
                break;
            };
            self.pass(at);
        }
        let left: Vec<_> = self
            .processes
            .iter()
            .map(|process| &process.running)
            .collect();
        assert!(
            left.is_empty(),
            "processes outlive their sessions: {left:?}"
        );
        let asked = self.others.len() + self.intruders.len();
        assert_eq!(asked, 0, "a request has no end");
        assert_eq!(self.held(), 0, "shares of limits.memory");
    }

    /// A process that has read everything works for nobody who has taken it back.
    fn check_cancelled(&self) {
        let running = self
            .processes
            .iter()
            .filter_map(|process| process.running.as_ref());
        for asked in running.flat_map(|running| &running.asked) {
            let requests = self.sessions.iter().flat_map(|session| &session.requests);
            let mut cancelled = requests.filter(|request| request.is_cancelled);
            let is_cancelled = cancelled.any(|request| request.canary == asked.canary);
            let mut ended = self.sessions.iter().filter(|session| session.is_ended);
            let has_ended = ended.any(|session| session.name == asked.session());
            let mut closed = self.alone.iter().filter(|alone| alone.is_cut);
            let is_closed = closed.any(|alone| alone.canary == asked.canary);
            let is_wanted = !is_cancelled && !has_ended && !is_closed;
            assert!(is_wanted, "{} was not taken back", asked.canary);
        }
    }

    /// Bytes of `limits.memory` that are taken.
    fn held(&self) -> usize {
        self.engine.budget().taken()
    }

    fn is_answered(session: &Session) -> bool {
        let mut requests = session.requests.iter();
        session.is_over || requests.all(|request| request.answers > 0 || request.is_given_up)
    }
}
