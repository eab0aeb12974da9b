//! Agents that connect and register, come back, or register anew.

use super::{STARTED, World};
use crate::agent;
use arbitrary::{Result, Unstructured};
use mcp_local_provider_core::hub::sessions::Status;
use mcp_local_provider_core::id::LinkId;

impl World {
    /// An agent connects and registers, comes back with its session's token, or replaces its own connection.
    pub(super) fn connect(&mut self, u: &mut Unstructured<'_>) -> Result<()> {
        let gone = self.actors.iter().position(|actor| actor.link.is_none());
        let which = match gone {
            Some(gone) => gone,
            None => u.choose_index(self.actors.len())?,
        };
        let attach: bool = u.arbitrary()?;
        let token = self.actors[which].token.clone().filter(|_| attach);
        // The process of one that the program starts may take its time.
        let registers = !self.actors[which].of_program || u.ratio(1, 2)?;
        self.dial(which, token, registers);
        Ok(())
    }

    /// Connects an agent, with the token of its session or to register, now or later.
    pub(super) fn dial(&mut self, which: usize, token: Option<String>, registers: bool) {
        if self.driver.is_draining() {
            return;
        }
        let of_program = self.actors[which].of_program;
        let token = token.filter(|_| !of_program);
        let attached = token.is_some();
        let connected = if of_program {
            let started = self.driver.start_agent(STARTED);
            started.map_err(|refusal| refusal.status())
        } else {
            self.driver
                .upgrade(token.as_deref().or(self.actors[which].key))
        };
        self.tell(|| format!("agent {which} connects, attached {attached}: {connected:?}"));
        let Ok(link) = connected else {
            return;
        };
        if !of_program && !attached {
            let shown = self.actors[which].key;
            let by = self.permission(shown);
            assert!(by.is_some(), "{link:?} comes without a key");
            self.came_by.extend(by.map(|by| (link, by)));
        }
        // What was its connection before stays up without it, unless it was replaced.
        self.actors[which].connected(link);
        if attached {
            self.check_attached(link);
        } else if registers {
            self.register(which, link);
        }
    }

    /// An agent without a connection connects; one whose session has ended registers anew.
    pub(super) fn come_back(&mut self, u: &mut Unstructured<'_>) -> Result<()> {
        if self.actors.iter().any(|actor| actor.link.is_none()) {
            return self.connect(u);
        }
        // The program's own one gives its session back first, as where its models have changed.
        let mut own = self.actors.iter();
        let own = own.position(|actor| actor.of_program);
        let again = u.ratio(1, 4)?;
        if let Some(which) = own.filter(|_| again)
            && let Some(link) = self.actors[which].link
            && let Some((session, Status::Active)) = self.carried_by(link)
        {
            let frame = format!("{{\"type\":\"unregister\",\"session_id\":\"{session}\"}}");
            self.tell(|| format!("agent {which} gives {session} back"));
            self.driver.receive(link, &frame);
            self.register(which, link);
            return Ok(());
        }
        // One whose session waits for approval waits too.
        let idle = |link| match self.carried_by(link) {
            None => true,
            Some((_, status)) => !matches!(status, Status::Active | Status::Pending),
        };
        let actors = self.actors.iter().enumerate();
        let idle: Vec<_> = actors
            .filter_map(|(which, actor)| Some((which, actor.link.filter(|link| idle(*link))?)))
            .collect();
        if !idle.is_empty() {
            let (which, link) = *u.choose(&idle)?;
            self.tell(|| format!("agent {which} registers anew"));
            self.register(which, link);
        }
        Ok(())
    }

    fn register(&mut self, which: usize, link: LinkId) {
        let frame = self.registration(which);
        let before = self.carried_by(link).map(|(session, _)| session);
        self.driver.receive(link, &frame);
        self.has_registered(which, link);
        if self.actors[which].of_program
            && let Some((session, status)) = self.carried_by(link)
            && before.as_ref() != Some(&session)
        {
            let waits = self.driver.config.sessions.manual_approval || self.barred.contains(&link);
            let right = if waits {
                Status::Pending
            } else {
                Status::Active
            };
            assert_eq!(status, right, "{session} is new");
        }
    }

    /// The session on a link, and its state.
    fn carried_by(&self, link: LinkId) -> Option<(String, Status)> {
        self.driver.look(|hub| {
            let mut sessions = hub.sessions().iter();
            let session = sessions.find(|session| session.link == Some(link))?;
            Some((session.id.to_string(), session.status))
        })
    }

    pub(super) fn registration(&self, which: usize) -> String {
        let models = if which == 0 {
            &["alpha"][..]
        } else {
            &["alpha", "beta"][..]
        };
        let actor = &self.actors[which];
        let mut frame = agent::register(actor.name, models, actor.most);
        if which == 1 {
            frame.truncate(frame.len() - 1);
            frame.push_str(",\"capabilities\":{\"embeddings\":true,\"tools\":true}}");
        }
        if which == 2 && self.driver.last_id().serial() % 2 == 1 {
            frame.truncate(frame.len() - 1);
            frame.push_str(",\"requested_scopes\":[\"other\"]}");
        }
        frame
    }

    /// An agent has sent its registration, which was heard: nobody waits for its start any more if it got a session.
    pub(super) fn has_registered(&mut self, which: usize, link: LinkId) {
        if self.actors[which].of_program {
            let registered = self.carried_by(link).is_some();
            self.starting = self.starting.filter(|_| !registered);
        }
    }
}
