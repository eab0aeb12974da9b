//! The program is stopped for a while, as by SIGSTOP or a machine that sleeps, and goes on.

use super::{Actor, World};
use crate::driver::Call;
use arbitrary::{Result, Unstructured};
use mcp_local_provider_core::id::LinkId;
use mcp_local_provider_core::link::CloseCode;
use std::time::Duration;

impl World {
    /// The program is stopped for a while, and finds in its sockets what came meanwhile: whoever spoke in time is neither late
    /// nor silent.
    pub(super) fn suspend(&mut self, u: &mut Unstructured<'_>) -> Result<()> {
        let mut actors = self.actors.iter();
        let starts = |actor: &Actor| actor.of_program && actor.link.is_some();
        let starting = actors.position(starts).filter(|_| self.starting.is_some());
        let mut actors = self.actors.iter();
        let busy = actors.position(|actor| !actor.jobs.is_empty());
        let which = match starting.or(busy) {
            Some(which) => which,
            None => u.choose_index(self.actors.len())?,
        };
        let by = Duration::from_secs(*u.choose(&[20, 100, 1000])?);
        let links_first = u.arbitrary()?;
        let speaks = u.ratio(7, 8)?;
        let actor = &mut self.actors[which];
        let Some(link) = actor.link.filter(|_| speaks) else {
            self.tell(|| format!("the program is stopped for {by:?}"));
            self.driver.resume(self.now() + by, Vec::new(), links_first);
            return Ok(());
        };
        let wire = self.driver.wires.get_mut(&link).expect("links stay known");
        actor.read(wire);
        let (mut ended, mut lasting) = (Vec::new(), Vec::new());
        while let Some(job) = actor.jobs.last() {
            let told = self.driver.call(job.id).is_none_or(Call::is_over);
            if !told && !job.gap {
                ended.push(job.id);
                lasting.extend(self.driver.is_answered(job.id).then_some(job.id));
            }
            let said = self.said.entry(job.id).or_default();
            actor.end(actor.jobs.len() - 1, said, "");
        }
        let mut came: Vec<_> = actor
            .flight
            .drain(..)
            .map(|sent| (link, sent.text))
            .collect();
        came.push((link, "{\"type\":\"ping\"}".to_owned()));
        if starting.is_some() {
            came.push((link, self.registration(which)));
        }
        self.tell(|| format!("the program is stopped for {by:?}; meanwhile {came:?}"));
        let before = self.now();
        let (recorded, hears) = (self.driver.audited().count(), self.driver.hears());
        self.driver.resume(before + by, came, links_first);
        self.has_registered(which, link);
        let closed = self.driver.wires[&link].closed;
        assert_ne!(closed, Some(CloseCode::NoSignOfLife), "{link:?} spoke");
        for line in self.driver.audited() {
            let late = ended.contains(&line.id) && line.outcome == "agent_timeout";
            // A drain that is over closes the links.
            let drained = closed == Some(CloseCode::GoingAway) && line.outcome == "agent_lost";
            let lost = lasting.contains(&line.id) && (drained || line.outcome == "session_ended");
            assert!(!late && !lost, "{} was answered in time", line.id);
        }
        if starting.is_some() {
            self.check_started(recorded, link);
        }
        if !hears {
            self.check_given_up(recorded);
        }
        Ok(())
    }

    /// An agent registered while the program was stopped. Nobody was told since the record before that its start takes too long.
    fn check_started(&self, recorded: usize, link: LinkId) {
        let answers = self.driver.look(|hub| {
            let mut sessions = hub.sessions().iter();
            sessions.any(|session| session.link == Some(link) && session.can_answer())
        });
        let mut since = self.driver.audited().skip(recorded);
        let late = since.find(|line| self.awaited.contains(&line.id) && line.outcome == "no_agent");
        if let Some(line) = late.filter(|_| answers) {
            panic!("{} was refused, and its agent had registered", line.id);
        }
    }

    /// Places that agents gave up while the program was stopped went to those who waited. Whoever was refused since the record
    /// before, while nothing else came free, finds none.
    fn check_given_up(&self, recorded: usize) {
        let since = || self.driver.audited().skip(recorded);
        if since().any(|line| line.admitted && line.outcome != "ok") {
            return;
        }
        for line in since().filter(|line| line.outcome == "overloaded") {
            if let Some(asked) = self.asked.get(&line.id) {
                let room = !self.lacks_room(asked);
                assert!(!room, "{} was refused a place that was given up", line.id);
            }
        }
    }
}
