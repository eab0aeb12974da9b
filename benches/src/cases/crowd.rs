//! What happens to one agent and one request while many others are idle or wait.

use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use mcp_local_provider_core::config::{HubConfig, Key, Role};
use mcp_local_provider_core::hub::audit::RequestInfo;
use mcp_local_provider_core::hub::keys::{Caller, digest};
use mcp_local_provider_core::hub::{
    Admission, Ask, Claim, Hello, Hub, HubOut, Outcome, Ticket, Verdict,
};
use mcp_local_provider_core::id::{Ids, LinkId, SessionId, WaitId};
use mcp_local_provider_core::invocation::Needs;
use mcp_local_provider_core::link::{Command, Notice, Registered, Registration};
use mcp_local_provider_core::scope::Scope;
use mcp_local_provider_core::time::Instant;

use super::CHUNKS;
use crate::Error;

const ADDRESS: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const NOW: Instant = Instant::from_micros(1);

/// A hub with many links, sessions whose agents are away, sessions that are busy, and a request that waits for each of
/// these.
#[derive(Debug)]
pub struct Crowd {
    hub: Hub,
    out: HubOut,
    ids: Ids,
    caller: Caller,
    /// One link of the crowd.
    link: LinkId,
    /// The request that waits longest.
    waits: WaitId,
    held: Vec<Ticket>,
}

impl Crowd {
    /// A crowd of `size` links, of as many sessions without an agent, and of as many that are busy.
    ///
    /// # Errors
    /// When the hub refuses one of them.
    pub fn new(size: usize) -> Result<Self, Error> {
        let key = |name: &str, role| Key::new(name, digest(name.as_bytes()), role);
        let mut config = HubConfig {
            keys: vec![key("client", Role::Client), key("bridge", Role::Bridge)],
            auth_required: true,
            ..HubConfig::default()
        };
        config.sessions.max = usize::MAX;
        config.limits.exchanges = usize::MAX;
        config.limits.queue_length = usize::MAX;
        config.limits.requests_per_minute = u32::MAX;
        config.limits.tokens_per_minute = u32::MAX;
        config.limits.burst = u32::MAX;
        let hub = Hub::new(config, [7; 32], NOW, Duration::from_secs(1_790_000_000));
        let caller = hub.keys().authenticate(Some("client"), ADDRESS)?;
        let mut crowd = Self {
            hub,
            out: HubOut::default(),
            ids: Ids::new(7),
            caller,
            link: LinkId(0),
            waits: WaitId(0),
            held: Vec::new(),
        };
        crowd.link = crowd.connect()?;
        let lost = crowd.connect()?;
        // More than the name of an unknown one is compared with.
        let models = (0..100).map(|number| format!("more-{number}")).collect();
        crowd.register_all(crowd.link, "more", models);
        for number in 0..size {
            crowd.connect()?;
            crowd.register(lost, &format!("away-{number}"));
        }
        crowd.hub.disconnected(NOW, lost, &mut crowd.out);
        for number in 0..size {
            let model = format!("busy-{number}");
            crowd.register(crowd.link, &model);
            match crowd.admit(&model)? {
                Admission::Granted(ticket) => crowd.held.push(ticket),
                Admission::Queued(_) => return Err("a session is busy from the start".into()),
            }
            if let Admission::Queued(wait) = crowd.admit(&model)? {
                crowd.waits = wait;
            }
        }
        crowd.register(crowd.link, "free");
        crowd.once()?;
        Ok(crowd)
    }

    fn connect(&mut self) -> Result<LinkId, Error> {
        let hello = Hello {
            token: Some("bridge"),
            dialled: None,
        };
        Ok(self.hub.connect(NOW, hello, &mut self.out)?)
    }

    /// Registers a session for one exchange at once, and gives its name.
    fn register(&mut self, link: LinkId, model: &str) -> Option<SessionId> {
        self.register_all(link, model, vec![model.to_owned()])
    }

    fn register_all(
        &mut self,
        link: LinkId,
        agent: &str,
        models: Vec<String>,
    ) -> Option<SessionId> {
        let registration = Registration {
            agent_id: agent.to_owned(),
            models,
            max_concurrency: Some(1),
            ..Registration::default()
        };
        self.hub
            .handle_notice(NOW, link, Notice::Register(registration), &mut self.out);
        let registered = self.out.commands.drain(..).next_back();
        self.out.records.clear();
        match registered {
            Some((_, Command::Registered(Registered { session, .. }))) => Some(session),
            Some(_) | None => None,
        }
    }

    fn admit(&mut self, model: &str) -> Result<Admission, Error> {
        let ask = Ask {
            model,
            session: None,
            prompts: 1,
            tokens: 100,
            scope: Scope::Inference,
            needs: Needs::default(),
        };
        Ok(self.hub.admit(NOW, &self.caller, black_box(&ask))?)
    }

    fn conclude(&mut self, ticket: Ticket) {
        let endpoint = "POST /v1/chat/completions";
        let info = Box::new(RequestInfo::new(self.ids.next(), NOW, ADDRESS, endpoint));
        let outcome = Outcome::new(Verdict::Completed, 200, 550);
        self.hub
            .conclude(NOW, info, Some(ticket), &outcome, &mut self.out);
    }

    /// Everything that happens to a hub, one after the other, [`CHUNKS`] times.
    ///
    /// # Errors
    /// When something comes out that should not.
    pub fn run(&mut self) -> Result<(), Error> {
        (0..CHUNKS).try_for_each(|_| self.once())
    }

    fn once(&mut self) -> Result<(), Error> {
        // A request that is answered at once, one that waits for it and gets its place, and one that leaves.
        let Admission::Granted(first) = self.admit("free")? else {
            return Err("the free session is busy".into());
        };
        let (Admission::Queued(second), Admission::Queued(third)) =
            (self.admit("free")?, self.admit("free")?)
        else {
            return Err("the busy session is free".into());
        };
        if self.hub.leave(NOW, third).is_some() {
            return Err("granted what is busy".into());
        }
        self.conclude(first);
        if self.out.woken != [second] {
            return Err("not exactly the first in line was woken".into());
        }
        let Claim::Granted(ticket) = self.hub.claim(NOW, second) else {
            return Err("woken for nothing".into());
        };
        self.conclude(ticket);
        // One that waits on, one for a model that nobody knows, and the timer.
        if !matches!(self.hub.claim(NOW, self.waits), Claim::Waiting) {
            return Err("granted what is busy".into());
        }
        if self.admit("unknown").is_ok() {
            return Err("admitted to nobody".into());
        }
        if self.hub.poll_timeout().is_none_or(|next| next.at <= NOW) {
            return Err("the hub is late".into());
        }
        self.hub.handle_timeout(NOW, &mut self.out);
        // An agent that comes, registers, unregisters and goes.
        let link = self.connect()?;
        let session = self.register(link, "visitor").ok_or("not registered")?;
        self.hub
            .handle_notice(NOW, link, Notice::Unregister(session), &mut self.out);
        self.hub.disconnected(NOW, link, &mut self.out);
        self.out.commands.clear();
        self.out.records.clear();
        self.out.woken.clear();
        Ok(())
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        for ticket in core::mem::take(&mut self.held) {
            self.conclude(ticket);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_happens_in_a_crowd_happens_as_alone() {
        for size in [10, 10_000] {
            let mut crowd = Crowd::new(size).unwrap();
            crowd.run().unwrap();
            let metrics = crowd.hub.metrics();
            assert_eq!((metrics.open, metrics.queued), (size, size));
        }
    }
}
