//! Steps of the owner and of operators: sessions that they change, another configuration, the end of the program.

use super::{Asked, World, setup};
use crate::driver::{Answered, Asking};
use arbitrary::{Result, Unstructured};
use mcp_local_provider_core::api::Listener;
use mcp_local_provider_core::config::{HubConfig, Role};
use mcp_local_provider_core::hub::Hub;
use mcp_local_provider_core::hub::keys::Authority;
use mcp_local_provider_core::hub::sessions::{Action, Session, Status};
use mcp_local_provider_core::id::LinkId;
use mcp_local_provider_core::time::WallClock;
use serde_json::Value;

/// Steps of the calendar that no program has to remember more of.
const STEPS: usize = 40;

impl World {
    /// An operator does something to a session.
    pub(super) fn operate(&mut self, u: &mut Unstructured<'_>) -> Result<()> {
        // Somebody looks at those that wait, too.
        let waiting = u.ratio(1, 4)?;
        let sessions: Vec<(String, Option<LinkId>)> = self.driver.look(|hub| {
            let sessions = hub.sessions().iter();
            let sessions = sessions.filter(|one| !waiting || one.status == Status::Pending);
            sessions
                .map(|session| (session.id.to_string(), session.link))
                .collect()
        });
        let actions = [
            Action::Approve,
            Action::Deny,
            Action::Suspend,
            Action::Resume,
            Action::Revoke,
            Action::Renew,
        ];
        let action = *u.choose(if waiting { &actions[..1] } else { &actions })?;
        if !sessions.is_empty() {
            let (session, link) = u.choose(&sessions)?;
            let body = format!(r#"{{"session_id":"{session}"}}"#);
            let route = format!("POST /control/{}", action.as_str());
            let bearer = format!("Bearer {}", setup::OPERATOR);
            let answered = self.driver.http(&Asking {
                headers: &[("authorization", &bearer)],
                ..Asking::new(&route, &body)
            });
            let Answered::Answer(answer) = answered else {
                panic!("an operator waits");
            };
            let status = answer.head.status();
            // While it drains nobody starts anything new.
            let drains = status == 503 && self.driver.is_draining();
            assert!(
                drains || matches!(status, 200 | 409),
                "an operator is told {status}"
            );
            self.tell(|| format!("{action:?} of {session}: {status}"));
            if let Some(link) = link.filter(|_| status == 200) {
                if matches!(action, Action::Revoke | Action::Deny) {
                    self.barred.insert(link);
                } else if action == Action::Approve {
                    self.barred.remove(&link);
                }
            }
        }
        Ok(())
    }

    /// The calendar is set, or the machine has slept; whoever asks then is told the new time.
    pub(super) fn step_calendar(&mut self, u: &mut Unstructured<'_>) -> Result<()> {
        const HOUR: i64 = 3_600_000_000;
        let by = *u.choose(&[8 * HOUR, -HOUR, 2_000_000, -1500])?;
        let outside = self.driver.outside();
        if outside.steps() > STEPS {
            return Ok(());
        }
        outside.step_calendar(by);
        self.tell(|| format!("the calendar steps by {by} microseconds"));
        let answered = self.driver.http(&Asking::new("GET /health", ""));
        let Answered::Answer(answer) = answered else {
            panic!("health is waited for");
        };
        let health: Value = serde_json::from_slice(&answer.body).expect("health is JSON");
        let now = WallClock::new(self.now(), self.driver.outside().calendar(self.now()));
        assert_eq!(health["timestamp"], now.rfc3339(self.now()));
        Ok(())
    }

    /// The owner ends the program, or changes the configuration: how much may be open and wait, and whose keys are worth what.
    pub(super) fn reconfigure(&mut self, u: &mut Unstructured<'_>) -> Result<()> {
        if u.ratio(1, 16)? {
            self.tell(|| "the program shuts down".to_owned());
            self.driver.shutdown();
            self.driver.flow();
            // What the answers under way have left is short beside a stop.
            return if u.arbitrary()? {
                self.suspend(u)
            } else {
                Ok(())
            };
        }
        let mut config = self.driver.config.clone();
        config.limits.exchanges = *u.choose(&[1, 2, 1024])?;
        config.limits.queue_length = *u.choose(&[0, 1, 64])?;
        config.sessions.max_requests = *u.choose(&[0, 0, 2])?;
        config.sessions.renew_while_connected = u.arbitrary()?;
        config.keys = setup::keys();
        // The sockets of the start are no part of the file.
        config.exposed = None;
        for name in ["editor", setup::PHONE, setup::BRIDGE] {
            match u.int_in_range(0..=7u8)? {
                0 => config.keys.retain(|key| key.name != name),
                1 => {
                    let own = config.keys.iter_mut().filter(|key| key.name == name);
                    own.for_each(|key| key.role = Role::Operator);
                }
                _ => {}
            }
        }
        if u.ratio(1, 8)? {
            config.auth_required = !config.auth_required;
        }
        if u.arbitrary()? {
            config.ollama_auth_required = !config.ollama_auth_required;
        }
        self.tell(|| {
            let keys: Vec<_> = config
                .keys
                .iter()
                .map(|key| (&key.name, key.role))
                .collect();
            format!(
                "the owner sets {} exchanges, a queue of {}, keys {keys:?}, required {}, of programs on this machine {}, renewed while connected {}",
                config.limits.exchanges,
                config.limits.queue_length,
                config.auth_required,
                config.ollama_auth_required,
                config.sessions.renew_while_connected
            )
        });
        self.reload(config);
        Ok(())
    }

    /// Takes the configuration over.
    fn reload(&mut self, config: HubConfig) {
        self.settle_payments();
        self.driver.reload(config);
        self.cap_purses();
    }

    /// True while whoever shows no key may do everything: no key is required, and nobody else reaches the program.
    fn is_keyless(&self) -> bool {
        !self.driver.config.auth_required && !self.is_exposed
    }

    /// The permission of whoever shows this key now.
    pub(super) fn permission(&self, shown: Option<&str>) -> Option<Authority> {
        let keys = self.driver.look(Hub::keys);
        let mut known = keys.iter().filter(|(_, key)| Some(&*key.name) == shown);
        let known = known.next().map(|(id, _)| Authority::Key(id));
        known.or_else(|| self.is_keyless().then_some(Authority::Anyone))
    }

    /// The permission with which a caller asks now.
    pub(super) fn authority(&self, caller: usize) -> Option<Authority> {
        let caller = &self.callers[caller];
        let local = caller.listener == Listener::Ollama && caller.address.is_loopback();
        let local = local.then_some(Authority::Local);
        let shown = self.permission(caller.key);
        shown.or_else(|| local.filter(|local| self.holds(*local)))
    }

    /// True while a permission holds.
    fn holds(&self, by: Authority) -> bool {
        match by {
            Authority::Key(id) => {
                let keys = self.driver.look(Hub::keys);
                keys.get(id).is_some_and(setup::has_own_role)
            }
            Authority::Anyone => self.is_keyless(),
            Authority::Local => !self.driver.config.ollama_auth_required,
            Authority::Configuration => true,
        }
    }

    /// True while the permission with which a call was asked holds.
    pub(super) fn is_upheld(&self, asked: &Asked) -> bool {
        asked.authority.is_some_and(|by| self.holds(by))
    }

    /// A bridge registers a session over HTTP, for whichever of its links no agent has registered on.
    pub(super) fn register_over_http(&mut self, u: &mut Unstructured<'_>) -> Result<()> {
        let agent = *u.choose(&["ada", "web"])?;
        let bearer = format!("Bearer {}", setup::BRIDGE);
        let body = format!(r#"{{"agent_id":"{agent}","models":["alpha"]}}"#);
        let answered = self.driver.http(&Asking {
            headers: &[
                ("authorization", &bearer),
                ("content-type", "application/json"),
            ],
            ..Asking::new("POST /control/register", &body)
        });
        self.tell(|| format!("a bridge registers {agent}: {answered:?}"));
        if let Answered::Answer(answer) = answered
            && answer.head.status() == 200
        {
            let told: Value = serde_json::from_slice(&answer.body).unwrap();
            let session = told["session_id"].as_str().unwrap();
            self.over_http.insert(session.to_owned());
            let by = self.permission(Some(setup::BRIDGE));
            let by = by.expect("a bridge that may register");
            self.registered_by.insert(session.to_owned(), by);
        }
        Ok(())
    }

    /// No agent carries a session that was registered over HTTP beside its own: it would answer for another one.
    pub(super) fn check_carried(&self) {
        if self.over_http.is_empty() {
            return;
        }
        self.driver.look(|hub| {
            let over_http = |session: &&Session| self.over_http.contains(session.id.as_str());
            let sessions = || {
                hub.sessions()
                    .iter()
                    .filter(|session| session.link.is_some())
            };
            let (others, own): (Vec<_>, Vec<_>) = sessions().partition(over_http);
            for session in others {
                let beside = own.iter().find(|own| own.link == session.link);
                assert!(beside.is_none(), "{} is with an agent", session.id);
            }
        });
    }

    /// A session that may not answer is not attached to.
    pub(super) fn check_attached(&self, link: LinkId) {
        self.driver.look(|hub| {
            let mut sessions = hub.sessions().iter();
            let session = sessions.find(|session| session.link == Some(link));
            if let Some(session) = session {
                let may = matches!(session.status, Status::Active | Status::Pending);
                assert!(may, "{} is attached to", session.id);
            }
        });
    }

    /// Nobody answers, and no agent stays connected, whose permission is gone.
    pub(super) fn check_permissions(&mut self) {
        let live: Vec<(String, Option<LinkId>)> = self.driver.look(|hub| {
            let sessions = hub.sessions().iter();
            let live = sessions.filter(|session| !session.status.is_final());
            live.map(|session| (session.id.to_string(), session.link))
                .collect()
        });
        for (session, link) in live {
            let by = self.registered_by.get(&session).copied();
            let by = by.or_else(|| self.came_by.get(&link?).copied());
            if let Some(by) = by {
                assert!(self.holds(by), "{session} outlives its permission");
                self.registered_by.insert(session, by);
            }
        }
        if self.driver.holds_commands() {
            return;
        }
        for (link, by) in &self.came_by {
            let upheld = self.holds(*by) || !self.driver.wires[link].alive;
            assert!(upheld, "{link:?} outlives its permission");
        }
    }
}
