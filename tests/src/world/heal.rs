//! The end of a run: no more faults, and then nothing may be left.

use super::{World, setup};
use crate::driver::{Answered, Asking};
use serde_json::Value;

/// Timeouts that may pass until everything is over.
const PATIENCE: usize = 4096;

impl World {
    /// Lets everything end, and checks that it does.
    pub(super) fn heal(&mut self) {
        self.tell(|| "everything heals".to_owned());
        self.driver.hold_commands(false);
        let links: Vec<_> = self.driver.wires.keys().copied().collect();
        for link in links {
            self.driver.set_room(link, None);
        }
        for at in 0..self.driver.calls.len() {
            if self.driver.calls[at].is_sending() {
                self.complete(at);
            }
            self.driver.calls[at].eager = true;
            self.driver.serve(at);
        }
        for _ in 0..PATIENCE {
            self.work_off();
            self.check();
            if self.driver.is_over() {
                break;
            }
            self.driver.advance();
        }
        self.driver.check_quiescent();
        self.driver.check_audit();
        self.check_refusals();
        self.leave_alone();
        self.stop();
    }

    /// Agents answer all that they were asked, and show that they live.
    fn work_off(&mut self) {
        self.serve_and_notice();
        for which in 0..self.actors.len() {
            if let Some(link) = self.actors[which].link {
                self.driver.alive(link);
                let wire = self.driver.wires.get_mut(&link).expect("links stay known");
                let actor = &mut self.actors[which];
                actor.read(wire);
                self.check_jobs(which);
                let actor = &mut self.actors[which];
                while let Some(job) = actor.jobs.last() {
                    let said = self.said.entry(job.id).or_default();
                    actor.end(actor.jobs.len() - 1, said, "");
                }
            }
            self.deliver(which, usize::MAX);
        }
        self.serve_and_notice();
    }

    /// An agent that has read everything works for nobody who has gone.
    fn check_jobs(&self, which: usize) {
        for job in &self.actors[which].jobs {
            let call = self.driver.call(job.id).expect("a call");
            assert!(!call.is_over(), "{} was not cancelled", job.id);
        }
    }

    /// Nobody was refused for want of capacity that there was.
    fn check_refusals(&self) {
        for line in self.driver.audited() {
            if line.outcome == "overloaded" && self.driver.call(line.id).is_none() {
                // A bridge whose session found no room is told the same.
                let busy = self.asked.get(&line.id).is_none_or(|asked| asked.busy);
                assert!(busy, "{} was refused for nothing", line.id);
            }
        }
    }

    /// All agents go, and time passes until nothing waits for it any more.
    fn leave_alone(&mut self) {
        let links: Vec<_> = self.driver.wires.keys().copied().collect();
        for link in links {
            self.driver.lose(link);
        }
        self.serve_and_notice();
        for _ in 0..PATIENCE {
            self.driver.check_quiescent();
            if !self.driver.advance() {
                break;
            }
        }
        assert_eq!(self.driver.next_timeout(), None, "something waits for ever");
        let live = self.driver.look(|hub| hub.sessions().live());
        assert_eq!(live, 0, "a session outlives its time");
        let bearer = format!("Bearer {}", setup::OPERATOR);
        let answered = self.driver.http(&Asking {
            headers: &[("authorization", &bearer)],
            ..Asking::new("GET /v1/models", "")
        });
        if self.driver.is_draining() {
            return;
        }
        let Answered::Answer(answer) = answered else {
            panic!("a list is waited for");
        };
        let list: Value = serde_json::from_slice(&answer.body).expect("a list is JSON");
        let models = list["data"].as_array().expect("a list");
        assert!(models.is_empty(), "a model that nobody answers for: {list}");
    }

    /// The program stops, with all that it has to write.
    fn stop(&mut self) {
        self.driver.shutdown();
        self.driver.flow();
        assert!(self.driver.is_stopped(), "it does not stop");
    }
}
