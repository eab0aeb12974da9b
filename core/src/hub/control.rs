//! What bridges and operators do to sessions, and the lists that clients see.

use super::keys::Caller;
use super::links::Registrar;
use super::routing::Slot;
use super::sessions::{Action, Registration, Session, Status};
use super::{Cause, Hub, HubOut};
use crate::config::Role;
use crate::error::{Code, Refusal};
use crate::link::Capabilities;
use crate::time::Instant;
use alloc::collections::BTreeMap;
use alloc::string::String;

/// Who asks for a change of a session.
#[derive(Clone, Copy, Debug)]
pub enum Requester<'a> {
    /// A key over HTTP.
    Caller(&'a Caller),
    /// The program itself.
    Provider,
}

/// A model that clients may ask for.
#[derive(Clone, Debug, PartialEq)]
pub struct Model<'h> {
    /// Its name.
    pub name: &'h str,
    /// What it can do: the most that any of its sessions can.
    pub capabilities: Capabilities,
    /// When the first of its sessions was registered.
    pub created_at: Instant,
    /// Exchanges that its sessions have open.
    pub in_flight: usize,
    /// The agent that answers.
    pub agent: Option<&'h str>,
}

impl Hub {
    /// `POST /control/register`: a session by a bridge that has asked the person already.
    ///
    /// # Errors
    /// 409 for a known name, 503 when there are too many.
    pub fn register_by_control(
        &mut self,
        now: Instant,
        caller: &Caller,
        registration: Registration,
        out: &mut HubOut,
    ) -> Result<(Slot, Option<String>), Refusal> {
        let now = self.latest.clamp(now);
        let registrar = Registrar {
            credential: caller.credential,
            key: Some(caller.name.clone()),
            is_agent: false,
        };
        let (slot, token) = self.register(now, registration, registrar, Status::Active)?;
        let link = self
            .links
            .iter()
            .filter(|(_, state)| state.attached.is_none() && state.credential.is_some())
            .filter(|(_, state)| {
                state.credential == caller.credential
                    || state.credential == self.config.default_bridge
            })
            .max_by_key(|(id, state)| (state.credential == caller.credential, **id))
            .map(|(id, _)| *id);
        if let Some(link) = link {
            self.carry(now, link, slot, out);
            self.pump(now, out);
        }
        Ok((slot, token))
    }

    /// `POST /control/revoke`, `approve` and so on: the new state.
    ///
    /// # Errors
    /// 404 for an unknown session, 403 where the caller may not, 409 where the state forbids it.
    pub fn control(
        &mut self,
        now: Instant,
        requester: Requester<'_>,
        id: &str,
        action: Action,
        out: &mut HubOut,
    ) -> Result<Status, Refusal> {
        let now = self.latest.clamp(now);
        let slot = self.sessions.find(id).ok_or_else(|| {
            Refusal::new(
                Code::SessionNotFound,
                alloc::format!(
                    "session_id: there is no session `{id}`; GET /control/sessions lists them"
                ),
            )
            .at("session_id")
        })?;
        if let Requester::Caller(caller) = requester {
            let own = caller.credential.is_some()
                && self
                    .sessions
                    .get(slot)
                    .is_some_and(|session| session.owner == caller.credential);
            let by_bridge = own && matches!(action, Action::Revoke | Action::Renew);
            if by_bridge {
                caller.require(&[Role::Bridge, Role::Operator])?;
            } else {
                caller.require(&[Role::Operator])?;
            }
        }
        let by = Cause {
            why: action.done(),
            key: match requester {
                Requester::Caller(caller) => Some(caller.name.clone()),
                Requester::Provider => None,
            },
        };
        self.change(now, slot, action, &by, out)
    }

    /// The models that clients may ask for, by name: those of every session that can answer, and the aliases.
    #[must_use]
    pub fn models(&self) -> BTreeMap<&str, Model<'_>> {
        let mut models: BTreeMap<&str, Model<'_>> = BTreeMap::new();
        for session in self.sessions.iter().filter(|session| session.can_answer()) {
            for name in &session.models {
                models
                    .entry(name)
                    .and_modify(|model| model.join(session))
                    .or_insert_with(|| Model {
                        name,
                        capabilities: session.capabilities,
                        created_at: session.created_at,
                        in_flight: session.in_flight,
                        agent: Some(&session.agent_id),
                    });
            }
        }
        for alias in &self.config.aliases {
            let target = models.get(alias.model.as_str());
            let mut capabilities =
                target.map_or_else(Capabilities::default, |model| model.capabilities);
            capabilities.context_length = alias.context_length.or(capabilities.context_length);
            let model = Model {
                name: &alias.name,
                capabilities,
                created_at: target.map_or(Instant::ZERO, |model| model.created_at),
                in_flight: target.map_or(0, |model| model.in_flight),
                agent: target.and_then(|model| model.agent),
            };
            models.insert(&alias.name, model);
        }
        models
    }
}

impl Model<'_> {
    fn join(&mut self, session: &Session) {
        let more = &session.capabilities;
        let own = &mut self.capabilities;
        own.tools |= more.tools;
        own.vision |= more.vision;
        own.embeddings |= more.embeddings;
        own.insert |= more.insert;
        own.thinking |= more.thinking;
        own.context_length = own.context_length.max(more.context_length);
        self.created_at = self.created_at.min(session.created_at);
        self.in_flight += session.in_flight;
    }
}
