//! The end of a run: no more faults, and then nothing may be left.

use super::World;
use mcp_local_provider_core::hub::audit::AuditEvent;
use std::collections::HashMap;

/// Timeouts that may pass until everything is over.
const PATIENCE: usize = 4096;

impl World {
    /// Lets everything end, and checks that it does.
    pub(super) fn heal(&mut self) {
        self.tell(|| "everything heals".to_owned());
        self.driver.hold_commands = false;
        while self.driver.deliver_command() {}
        for wire in self.driver.wires.values_mut() {
            wire.reads = true;
        }
        for call in &mut self.driver.calls {
            call.eager = true;
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
        self.check_audit();
        self.leave_alone();
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
                while let Some(job) = actor.jobs.last() {
                    let said = self.said.entry(job.id).or_default();
                    actor.end(actor.jobs.len() - 1, said, "");
                }
            }
            self.deliver(which, usize::MAX);
        }
        self.serve_and_notice();
    }

    /// Every request is in the audit, once.
    fn check_audit(&self) {
        let mut records = HashMap::new();
        for record in &self.driver.audit {
            if let AuditEvent::Request { info, .. } = &record.event {
                *records.entry(info.exchange).or_insert(0) += 1;
            }
        }
        for call in &self.driver.calls {
            assert_eq!(
                records.get(&call.id),
                Some(&1),
                "audit records of {}",
                call.id
            );
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
        let sessions = self.driver.hub.sessions();
        assert_eq!(sessions.live(), 0, "a session outlives its time");
        assert!(
            self.driver.hub.models().is_empty(),
            "a model that nobody answers for"
        );
    }
}
