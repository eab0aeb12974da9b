//! Changes of sessions by bridges and operators.

use super::keys::{Authority, Caller};
use super::links::Registrar;
use super::routing::Slot;
use super::sessions::{Action, Registration, Status};
use super::{Cause, Hub, HubOut};
use crate::config::Role;
use crate::error::{Code, Refusal};
use crate::id::LinkId;
use crate::time::Instant;
use alloc::string::String;

/// The party that asks for a change of a session.
#[derive(Clone, Copy, Debug)]
pub enum Requester<'a> {
    /// A key over HTTP.
    Caller(&'a Caller),
    /// The program itself.
    Provider,
}

/// Returns the refusal of a session that nobody knows.
pub(crate) fn unknown_session(id: &str) -> Refusal {
    let id: String = id.chars().take(128).collect();
    Refusal::new(
        Code::SessionNotFound,
        alloc::format!("there is no session `{id}`; GET /control/sessions lists them"),
    )
}

impl Hub {
    /// `POST /control/register`: a session by a bridge that has asked the person already.
    ///
    /// # Errors
    /// 401 where the caller's key is gone, 409 for the name of another's session or the token of another session, 503 when
    /// there are too many. A session of the caller's own goes on under its name.
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
            authority: caller.authority,
            is_agent: false,
        };
        let (slot, token) = self.register(now, registration, registrar, Status::Active, out)?;
        self.place(now, slot, out);
        self.pump(now, out);
        Ok((slot, token))
    }

    /// `POST /control/revoke`, `approve` and so on: the new state.
    ///
    /// # Errors
    /// 401 where the caller's key is gone, 404 for an unknown session, 403 where the caller may not, 409 where the state forbids it.
    pub fn control(
        &mut self,
        now: Instant,
        requester: Requester<'_>,
        id: &str,
        action: Action,
        out: &mut HubOut,
    ) -> Result<Status, Refusal> {
        let now = self.latest.clamp(now);
        if let Requester::Caller(caller) = requester {
            self.keys.confirm(caller)?;
        }
        let slot = self
            .sessions
            .find(id)
            .ok_or_else(|| unknown_session(id).at("session_id"))?;
        let mut own = false;
        if let Requester::Caller(caller) = requester {
            own = caller.credential.is_some()
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
        let session = self.sessions.get(slot);
        let link = session.and_then(|session| session.link);
        let status = session.map(|session| session.status);
        let by = Cause {
            why: action.done(),
            key: match requester {
                Requester::Caller(caller) => Some(caller.name.clone()),
                Requester::Provider => None,
            },
        };
        let status = match status.filter(|status| status.is_repeated_by(action)) {
            // An operator's word counts all the same: a bridge may begin anew what it has ended itself.
            Some(repeated) => repeated,
            None => self.change(now, slot, action, &by, out)?,
        };
        if status == Status::Revoked
            && !own
            && let Some(session) = self.sessions.get_mut(slot)
        {
            session.barred = true;
            self.bar(link, true);
        }
        if action == Action::Approve {
            self.bar(link, false);
        }
        Ok(status)
    }

    /// Notes whether what the agent of a link registers next waits for approval. Other agents than the program's own ask for
    /// a new session by themselves only when a person has them do so.
    fn bar(&mut self, link: Option<LinkId>, barred: bool) {
        if let Some(state) = link.and_then(|link| self.links.get_mut(&link))
            && state.authority == Some(Authority::Configuration)
        {
            state.barred = barred;
        }
    }
}
